"""Where among snapshots: a WHERE to one namespace, a namespace to its addresses (`predict` and `map`)."""

import difflib
from collections.abc import Callable, Sequence

from pathfit.cli.stop import CANNOT, OR, Stop
from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Net, Network
from pathfit.model.addr import is_link_local, is_loopback
from pathfit.model.place import places, word

MOST_SHOWN = 3


def place(network: Network, hosts: Sequence[HostSnapshot], text: str, absent: str, typed: Callable[[str], str]) -> Net:
    """The one namespace that ``text`` names. ``typed``: a WHERE as what can be typed; ``absent``: what is said of one
    that is not there. Raises Stop (2: several; 3: none)."""
    found = places(network, hosts, text)
    if len(found) == 1:
        return found[0]
    if found:
        raise Stop(f"{text} is in {len(found)} places", OR.join(typed(word(network, x)) for x in found[:MOST_SHOWN]))
    if not network.nets:
        raise Stop("no namespace was read in these snapshots", "sudo pathfit snapshot -o FILE", CANNOT)
    known = [word(network, x) for x in network.nets.values()]
    near = difflib.get_close_matches(text, known, 2, 0.5) or known[:2]
    raise Stop(f"{text} {absent}", OR.join(map(typed, near)), CANNOT)


def addresses(net: Net) -> list[str]:
    """Those that others can send to, in the order of the kernel."""
    found = (a.address for a in net.snap.addresses if a.scope == 0)
    return [a for a in dict.fromkeys(found) if not is_loopback(a) and not is_link_local(a)]
