"""What the packet filters of one namespace do with one packet at one hook: the thin side of model/filter.py.

Everything the walk needs comes back in one :class:`Outcome`: the verdict, the steps to show, what NAT and clamps
there were. A namespace without tables answers at once.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pathfit.core.filters import Nat
from pathfit.core.path import Clamped, Filtered
from pathfit.core.snapshot import Link
from pathfit.model.network import Net
from pathfit.model.packet import Packet

Ct = Literal["new", "established", "related", "invalid", "untracked"]
PathMtu = Callable[[], "int | None"]


class Outcome(NamedTuple):
    """``verdict``: accept, drop, reject, unknown. ``steps``: the rules that mattered. ``mss`` after clamps."""

    verdict: str = "accept"
    steps: tuple[Filtered, ...] = ()
    nat: Nat | None = None
    mark: int = 0
    mss: int | None = None
    clamps: tuple[Clamped, ...] = ()
    why: str = ""


class Where(NamedTuple):
    """Beside the packet: the devices, the connection's state and direction, the ports of a bridge."""

    iif: Link | None = None
    oif: Link | None = None
    state: Ct = "new"
    reply: bool = False
    bridge_in: Link | None = None
    bridge_out: Link | None = None


def pass_on(p: Packet) -> Outcome:
    """No filter there: nothing changes."""
    return Outcome(mark=p.mark, mss=p.mss)


def hook(net: Net, family: str, name: str, p: Packet, where: Where) -> Outcome:
    """Everything that hangs on a hook, by priority. ``family``: "ip" (also inet, ip6), "bridge" or "netdev"."""
    wanted = {"ip": ("inet", "ip6" if p.family == 6 else "ip"), "bridge": ("bridge",), "netdev": ("netdev",)}[family]
    hanging = [c for t in net.snap.tables if t.family in wanted for c in t.chains if c.hook == name]
    if family == "netdev":
        device = where.iif or where.oif
        hanging = [c for c in hanging if device and device.name in c.devices]
    if not hanging:
        return pass_on(p)
    return Outcome("unknown", mark=p.mark, mss=p.mss, why=f"filters in {net.snap.where} are not evaluated yet")
