"""Where a walk is, and how it ended. Private values of the model."""

from typing import Literal, NamedTuple

from pathfit.core.net import Point
from pathfit.core.path import Clamped, Fate, Step
from pathfit.core.snapshot import Link, NextHop
from pathfit.model.frame import Note
from pathfit.model.lookup import Found
from pathfit.model.nat import Memory
from pathfit.model.network import Net
from pathfit.model.packet import Gap, Packet


class Journey(NamedTuple):
    """How a walk ended. ``net`` and ``link`` where it was; ``packet`` as it was then; ``talks`` what namespaces on the
    way remember; ``forks`` how many ways there were at each choice, ``draws`` how many translations; ``gaps`` stretches
    passed without seeing them."""

    fate: Fate
    notes: tuple[Note, ...]
    packet: Packet
    net: Net | None
    link: Link | None
    ends: Point | None = None
    why: str = ""
    culprit: Step | None = None
    talks: Memory = ()
    forks: tuple[int, ...] = ()
    gaps: tuple[Gap, ...] = ()
    clamps: tuple[Clamped, ...] = ()
    mac: str = ""  # of the device that last sent it: answers come to this station
    later: bool = False  # a filter on the way may treat later packets otherwise than the first
    draws: tuple[int, ...] = ()


class State(NamedTuple):
    """Where the packet is. ``link``: the device it came in by (None: made here); ``found`` and ``hop`` once routed."""

    phase: Literal["output", "receive", "forward", "send", "input"]
    net: Net
    packet: Packet
    link: Link | None = None
    found: Found | None = None
    hop: NextHop | None = None
    gso: bool | None = False
    oif: int = 0


class End(NamedTuple):
    fate: Fate
    why: str = ""
    ends: Point | None = None
    culprit: Step | None = None
    packet: Packet | None = None  # as it was then, when it is not the state's any more
