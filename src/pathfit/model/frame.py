"""A frame on its way through layer 2, what the search for its addressee needs, and where it ended. Private values of
the model; the search is :mod:`~pathfit.model.l2`."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pathfit.core.filters import Hook
from pathfit.core.net import Point
from pathfit.core.path import Fate, Step
from pathfit.core.snapshot import Link
from pathfit.model._policy import Family as PolicyFamily
from pathfit.model._policy import Outcome, Where
from pathfit.model.network import Net, Network
from pathfit.model.packet import Bound, Gap, Packet

TAG = 4  # bytes of a VLAN tag
MOST_FOLLOWED = 20_000  # ports in one search: bridges in a mesh have more simple ways than anybody can follow
Note = Step | Bound


class Frame(NamedTuple):
    """What travels. ``dmac`` None: not known yet, whoever answers for ``want`` (the next hop) will get it."""

    packet: Packet
    dmac: str | None
    want: str
    gso: bool | None = False  # may it still be a GSO super-packet? None: the sender's features were not read
    smac: str = ""  # who sent it on this segment, and the address it has there
    local: bool = False  # made by the namespace that sends it here
    vlan: int | None = None  # the outermost tag
    under: tuple[int, ...] = ()  # tags beneath it
    secured: int = 0  # bytes MACsec has put around it; 0 = none
    seen: tuple[tuple[str, int], ...] = ()  # devices it came in by, to end loops

    @property
    def tags(self) -> int:
        """How many VLAN tags it has."""
        return (self.vlan is not None) + len(self.under)

    @property
    def beyond(self) -> int:
        """Bytes of the frame between its Ethernet header and the IP packet, but for the first tag, which devices keep
        beside the frame (skb->vlan_tci)."""
        return self.secured + TAG * len(self.under)


class Carried(NamedTuple):
    """Where it ended. ``kind``: "ip" (the IP stack of ``net`` takes it, as from ``link``), "unseen" (it leaves our
    view at ``at``), "unknown" (something not understood), "lost" (``fate``)."""

    kind: Literal["ip", "unseen", "unknown", "lost"]
    notes: tuple[Note, ...] = ()
    net: Net | None = None
    link: Link | None = None
    at: Point | None = None
    fate: Fate = Fate.UNKNOWN
    why: str = ""
    packet: Packet | None = None
    gso: bool | None = False
    culprit: Step | None = None
    gaps: tuple[Gap, ...] = ()


Hooked = Callable[[Net, PolicyFamily, Hook, Packet, Where], Outcome]
Tunnel = Callable[[Net, Link, Frame, bool], Carried]
RANK = {"ip": 0, "unseen": 1, "unknown": 2, "lost": 3}


class Wire(NamedTuple):
    """What the search needs: the network, the filters, and the way into a tunnel (all passed in, none imported)."""

    network: Network
    hook: Hooked
    tunnel: Tunnel
    spent: list[int]  # one number: ports that were followed, of MOST_FOLLOWED
    pieces: bool = False  # what is too large is to be cut where a bridge does


def lost(fate: Fate, why: str, at: Point, culprit: Step | None = None) -> Carried:
    """It is dropped at ``at``; ``culprit``: the step that did it."""
    return Carried("lost", at=at, fate=fate, why=why, culprit=culprit)


def after(notes: tuple[Note, ...], rest: Carried) -> Carried:
    """The rest of a way, with what was noted before it."""
    return Carried(rest[0], notes + rest[1], *rest[2:]) if notes else rest
