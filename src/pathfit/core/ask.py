"""What the user asks."""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.net import Family

Protocol = Literal["https", "http", "tcp", "udp", "icmp", "any"]


class Target(Value, frozen=True, kw_only=True):
    """Where the traffic goes. ``text`` is what the user typed. ``protocol`` "any": H:P, find out what it speaks.

    ``where`` is set instead of ``host`` when the target is a WHERE of ours (netns:, container:, …); ``at`` then is the
    one of its addresses that is asked for, "" any.
    """

    text: str
    protocol: Protocol
    host: str = ""
    port: int = 0
    path: str = "/"
    where: str | None = None
    at: str = ""


class Ask(Value, frozen=True, kw_only=True):
    """One question. Defaults are those of the command line (docs/ and CONTRACT)."""

    command: Literal["diagnose", "probe", "scan", "trial", "predict", "trace"]
    source: str = "host"  # a WHERE
    target: Target
    family: Family | None = None
    resolve: tuple[tuple[str, str], ...] = ()  # --resolve H:ADDR
    sni: str | None = None
    proxy: str | None = None  # URL, "none", or None = as the source's environment says
    fast: bool = False
    timeout: float = 15.0  # seconds
    patient: bool = False  # wait for a rescue by the sender's MTU probing (MTU119)
    seed: int = 0
    lang: str = "en"
    snapshots: tuple[str, ...] = ()  # --in: files of other hosts, or folders of them
    trace: bool = False  # where nothing else tells, look at every device while the loss is shown once more
    follow: float | None = None  # of a trace: seconds to look at what others send; nothing is sent
