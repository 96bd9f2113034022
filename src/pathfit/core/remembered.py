"""What a kernel keeps about the way to one address: learned path MTUs, TCP's notes on earlier connections, and what it
takes the path to carry. Read before and after a measurement, so that what was left behind is seen and not guessed."""

from pathfit.core.base import Value
from pathfit.core.snapshot import PmtuException


class TcpMetrics(Value, frozen=True, kw_only=True):
    """One entry of tcp_metrics (`ip tcp_metrics`): what earlier connections found out about an address.

    Times in seconds, ``ssthresh`` and ``cwnd`` in segments, ``mss`` bytes (kept with a Fast Open cookie); None: not
    kept. ``age``: seconds since the entry was written.
    """

    address: str
    src: str = ""
    age: float = 0.0
    rtt: float | None = None
    rttvar: float | None = None
    ssthresh: int | None = None
    cwnd: int | None = None
    reordering: int | None = None
    mss: int | None = None
    cookie: bool = False


class Remembered(Value, frozen=True, kw_only=True):
    """Of one address. ``believed``: what the kernel takes the path to carry now (bytes of IP packet: device, route or
    learned), None when there is no way there."""

    address: str
    believed: int | None = None
    exceptions: tuple[PmtuException, ...] = ()
    metrics: tuple[TcpMetrics, ...] = ()


def mine(when: str) -> str:
    """The ref of what the source remembers. ``when``: before, after."""
    return f"remembered:{when}"


def theirs(when: str) -> str:
    """The ref of what the target's namespace remembers, when it is ours."""
    return f"remembered:{when}/target"
