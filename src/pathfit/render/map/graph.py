"""The map as a value: what stands on it, what connects it, which way a packet takes.

Ids ("n3" a namespace, "n3.2" its device of ifindex 2) are numbered in the order of the snapshots and mean something
inside one map only. Sizes are bytes of IP packet, header included.
"""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Facts
from pathfit.core.net import Direction

State = Literal["up", "no-carrier", "down"]
EdgeKind = Literal["veth", "port", "lower", "tunnel", "uplink", "routed"]
OUTSIDE = "outside"  # the other end of an uplink: what no snapshot shows


class Remark(Value, frozen=True, kw_only=True):
    """Something to be said of a device, by message id of words/.

    Most are facts of state ("its other half has 1400") and no verdict. One with a ``code`` is a finding of `scan`,
    with its ``severity``.
    """

    message: str
    facts: Facts = {}
    code: str = ""
    severity: str = "note"

    @property
    def marked(self) -> bool:
        """It gets a mark on the picture."""
        return self.severity in ("error", "warning")


class Device(Value, frozen=True, kw_only=True):
    """One network device. ``overhead``: bytes a tunnel device takes of each packet; ``far``: remote ends of a tunnel
    that no snapshot shows; ``type``: "tun" or "tap" of kind tun; ``network``: the engine's name for what
    it belongs to."""

    id: str
    name: str
    mtu: int
    kind: str  # IFLA_INFO_KIND; "physical", "loopback" for those without
    state: State = "up"
    index: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()  # "198.18.1.2/24"
    master: str = ""  # id
    vni: int | None = None
    overhead: int | None = None
    far: tuple[str, ...] = ()
    holder: str = ""
    type: str = ""
    network: str = ""
    unseen: bool = False  # a veth whose other half is not visible
    remarks: tuple[Remark, ...] = ()


class Space(Value, frozen=True, kw_only=True):
    """One network namespace. ``where`` can be pasted into --from; ``label`` is what people call it."""

    id: str
    where: str
    label: str
    names: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    own: bool = False  # pathfit ran here
    devices: tuple[Device, ...] = ()
    missing: tuple[Missing, ...] = ()


class Host(Value, frozen=True, kw_only=True):
    """One machine."""

    name: str
    kernel: str = ""
    complete: bool = True
    spaces: tuple[Space, ...] = ()
    missing: tuple[Missing, ...] = ()


class Edge(Value, frozen=True, kw_only=True):
    """What connects two devices (ids), or one with :data:`OUTSIDE`.

    veth: two halves of a cable; port: ``a`` is a port of ``b`` (bridge, bond, vrf); lower: ``a`` lies on ``b``;
    tunnel: two ends of one; uplink: ``a`` leads out of what can be seen; routed: only a path goes here, by routing.
    """

    kind: EdgeKind
    a: str
    b: str


class Mark(Value, frozen=True, kw_only=True):
    """A limit on a way. ``device`` is "" where it is not on the map; ``then`` as in core.path.Limit."""

    mtu: int
    kind: str
    then: str
    device: str = ""
    place: str = ""
    told_home: bool | None = None


class Way(Value, frozen=True, kw_only=True):
    """The predicted way of one direction: devices in order, and the limits in order, nearest first.

    ``legs``: pairs of devices between which an edge (or the routing of one namespace) carries it, in order.
    ``mark``: the limit that decides, the smallest one that stops the flow's packets; None when all of them pass.
    """

    direction: Direction
    fate: str
    large: str
    size: int  # of the flow's largest packet
    mtu: int | None = None
    complete: bool = False
    why: str = ""
    stations: tuple[str, ...] = ()
    legs: tuple[tuple[str, str], ...] = ()
    limits: tuple[Mark, ...] = ()
    mark: Mark | None = None


class Map(Value, frozen=True, kw_only=True):
    """Everything. ``source`` and ``target`` are the words that were asked, "" when no path was."""

    hosts: tuple[Host, ...] = ()
    edges: tuple[Edge, ...] = ()
    ways: tuple[Way, ...] = ()
    source: str = ""
    target: str = ""
    missing: tuple[Missing, ...] = ()  # snapshots that could not be opened

    def spaces(self) -> tuple[Space, ...]:
        return tuple(s for h in self.hosts for s in h.spaces)

    def devices(self) -> dict[str, Device]:
        """By id."""
        return {d.id: d for s in self.spaces() for d in s.devices}


def space_of(device: str) -> str:
    """The namespace's id of a device's id."""
    return device.partition(".")[0]
