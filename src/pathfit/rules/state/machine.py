"""One machine as the state rules see it: its workloads, in groups that are alike, and the ways they use.

A *workload* is a container, a pod, or a namespace that is evidently somebody's (model/workloads.py). A thousand of
them have a handful of shapes: the same devices, MTUs, routes, filters, on the same bridge. Everything is predicted
once for a shape (:class:`Group`), so that a scan of a thousand containers costs what a scan of ten does.

The ways of a group are what its traffic uses: *elsewhere* (the default route, each family), every other *route* with a
gateway that its host has (another node's pods, a tunnel, a VPN), and a *mate* (another member of the same network,
here or beyond a tunnel). Each is predicted both ways with the segments TCP would exchange there.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from pathfit.core.engine import Workload
from pathfit.core.finding import Finding
from pathfit.core.net import TCP, Family, Flow, Point, packet_of
from pathfit.core.path import Encap, Exit, Fate, Predicted
from pathfit.core.snapshot import HostSnapshot, Link, Route
from pathfit.model.mtu import advertised
from pathfit.model.network import Net, Network, lazy
from pathfit.model.walk import predict, predict_both
from pathfit.model.workloads import workloads
from pathfit.rules.state.shapes import Shape, shape
from pathfit.rules.state.standins import families, first, inside, neighbouring, nobody, own_link, valid, within

REF = "state"  # evidence id of everything that was read
PORT = 443  # what is asked for "elsewhere": filters often let this out if they let anything out
FAR = 8  # ends tried where the default route leads nowhere
MATES = 8  # groups of one network that are predicted towards each other
ROUTES = 4  # gateways beside the default one that are looked at
ENDS_INSIDE = frozenset({Fate.NO_ROUTE, Fate.UNREACHABLE, Fate.LOOP})
UNSPOKEN = {4: ("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.7"), 6: ("2001:db8::1", "3fff::1", "2620::7")}
"""Addresses nobody has (RFC 5737, RFC 3849, RFC 9637), to stand for the rest of the world."""

What = Literal["elsewhere", "route", "mate"]


class StateRule(NamedTuple):
    """One line of the registry: the code, and the function that looks for it on one machine. Its docstring is the
    manual page where no rule of a path has the code."""

    code: str
    check: "Callable[[Machine], Iterable[Finding]]"


class Seat(NamedTuple):
    """A workload and its namespace (None: not visible)."""

    workload: Workload
    net: Net | None

    @property
    def key(self) -> str:
        """How findings name it: the WHERE that can be pasted into --from."""
        return self.workload.where


class Way(NamedTuple):
    """One thing a group's traffic uses. ``to``: the address asked about; ``of``: the mate's group."""

    what: What
    to: str
    forward: Predicted
    reverse: Predicted
    of: "Group | None" = None

    @property
    def family(self) -> Family:
        return 6 if ":" in self.to else 4

    @property
    def promised(self) -> int:
        """Bytes of IP packet that the workload's SYN invites when it arrives (clamps on the way included)."""
        mss = self.forward.mss
        return packet_of(self.family, mss) if mss else self.forward.flow.size

    @property
    def allowed(self) -> int:
        """Bytes of IP packet that the other end's SYN-ACK lets the workload send, after clamps on the way back; as
        large as its own device sends where that end is out of sight."""
        mss = self.reverse.mss
        own = self.forward.flow.size
        return min(own, packet_of(self.family, mss)) if mss else own

    @property
    def tunnelled(self) -> bool:
        return any(isinstance(s, Encap) for h in self.forward.hops for s in h.steps)


class Group:
    """Workloads of one shape. ``net`` is the namespace of the first, which stands for all."""

    def __init__(self, machine: "Machine", seats: list[Seat], net: Net) -> None:
        self.machine = machine
        self.seats = seats
        self.net = net

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(s.key for s in self.seats)

    @property
    def name(self) -> str:
        return self.seats[0].workload.name

    @lazy
    def ways(self) -> tuple[Way, ...]:
        """Everything that was predicted for it."""
        if self.machine.asked is not None:
            return (self._way("elsewhere", *self.machine.asked),)
        return (*self._outside(), *self._mates())

    @lazy
    def device(self) -> Link | None:
        """The device of its default route, or its only one."""
        for way in self.ways:
            leaves = next((p for p in _exits(way.forward) if p.netns == self.net.snap.where), None)
            if leaves is not None and leaves.link:
                return self.net.names.get(leaves.link)
        links = [x for x in self.net.snap.links if not x.loopback]
        return links[0] if len(links) == 1 else None

    @property
    def point(self) -> Point:
        return self.net.point(self.device.name if self.device else None)

    def _outside(self) -> Iterator[Way]:
        for family in families(self.net):
            to = self.machine.elsewhere(family)
            way = self._way("elsewhere", to, PORT) if to else None
            if way is None or not _leads_somewhere(way.forward):
                continue
            if _ends_inside(way.forward):
                way = self._far_end(family) or way  # a world of its own: its farthest end stands for elsewhere
            yield way
            for address in self.machine.behind_gateways(way.forward, family):
                yield self._way("route", address, PORT)

    def _far_end(self, family: Family) -> Way | None:
        """The way to the farthest namespace that its default route really leads to."""
        found: list[Way] = []
        for address in self.machine.outsiders(self.net, family):
            way = self._way("elsewhere", address, PORT)
            if way.forward.fate is Fate.DELIVERED:
                found.append(way)
            if len(found) == FAR:
                break
        return max(found, key=lambda w: len(w.forward.hops), default=None)

    def _mates(self) -> Iterator[Way]:
        for other in self.machine.neighbours(self):
            net = other.seats[-1].net if other is self else other.net
            for to in neighbouring(self.net, net) if net is not None and net is not self.net else ():
                yield self._way("mate", to, 0, other)
        for to in self.machine.beyond(self):
            yield self._way("mate", to, 0)

    def _way(self, what: What, to: str, port: int, of: "Group | None" = None) -> Way:
        peer = None
        if of is not None:
            mine = first(self.net, 6 if ":" in to else 4)
            peer = advertised(of.net, mine) if mine else None
        ways = predict_both(self.machine.network, self.net.key, to, proto=TCP, dport=port, peer_mss=peer)
        return Way(what, to, ways[0], ways[1], of)


class Machine:
    """See the module. ``host`` is what was read; everything else is made when it is first asked for."""

    def __init__(
        self,
        host: HostSnapshot,
        network: Network | None = None,
        seats: tuple[Seat, ...] | None = None,
        asked: tuple[str, int] | None = None,
    ) -> None:
        """``seats``: only these workloads are of interest, and of them only the way to ``asked`` (address, port)."""
        self.host = host
        self.network = network or Network.of(host)
        self._only = seats
        self.asked = asked

    @lazy
    def seats(self) -> tuple[Seat, ...]:
        """Every workload, in the order people would list them."""
        if self._only is not None:
            return self._only
        nets = {x.snap.id: x for x in self.network.nets.values()}
        return tuple(Seat(w, nets.get(w.netns)) for w in workloads(self.host))

    @lazy
    def groups(self) -> tuple[Group, ...]:
        """Visible workloads by shape."""
        found: dict[Shape, list[Seat]] = {}
        for seat in self.seats:
            if seat.net is not None and not seat.workload.note:
                found.setdefault(shape(self.network, seat.net), []).append(seat)
        return tuple(Group(self, seats, seats[0].net) for seats in found.values() if seats[0].net is not None)

    @lazy
    def overlays(self) -> dict[str, str]:
        """Overlay networks as their engines call them, by the id of the namespace that their devices are hidden in."""
        return {n.netns: n.name for e in self.host.engines for n in e.networks if n.netns}

    def way_to(self, group: Group, dst: str, size: int) -> Predicted | None:
        """The way of a packet of ``size`` bytes from a group to an address; None when the model cannot say."""
        flow = Flow(src="", dst=dst, proto=TCP, sport=40000, dport=PORT, size=size)
        try:
            return predict(self.network, group.net.key, flow)
        except (KeyError, ValueError):
            return None

    def elsewhere(self, family: Family) -> str:
        """An address that stands for the rest of the world: none that is seen here has a closer route to it."""
        return self._elsewhere[family]

    @lazy
    def _elsewhere(self) -> dict[Family, str]:
        nets = {
            (r.dst, r.prefix)
            for net in self.network.nets.values()
            for r in net.snap.routes
            if r.prefix and r.type != "local"
        }
        closer = [ipaddress.ip_network(f"{dst}/{prefix}", strict=False) for dst, prefix in nets if valid(dst)]
        chosen: dict[Family, str] = {}
        for family, candidates in UNSPOKEN.items():
            free = (a for a in candidates if not any(within(a, n) for n in closer))
            chosen[4 if family == 4 else 6] = next(free, "")
        return chosen

    def outsiders(self, net: Net, family: Family) -> Iterator[str]:
        """Addresses of other namespaces that ``net`` reaches by its default route, as far as its own routes say."""
        near = [
            ipaddress.ip_network(f"{r.dst}/{r.prefix}", strict=False)
            for r in net.snap.routes
            if r.family == family and r.prefix and valid(r.dst)
        ]
        for other in self.network.nets.values():
            address = first(other, family) if other is not net else None
            alone = address is not None and len(self.network.owners(address)) == 1
            if address is not None and alone and not any(within(address, n) for n in near):
                yield address

    def behind_gateways(self, way: Predicted, family: Family) -> Iterator[str]:
        """Addresses behind the gateways that hosts on the way have beside their default one."""
        seen: set[tuple[str, int, str]] = set()
        for hop in way.hops:
            net = self.network.at(hop.where)
            if net is None or len(seen) >= ROUTES:
                continue
            for route in self._gateways(net, family):
                h = route.hops[0]
                key = (net.key, h.link, net.links[h.link].kind if h.link in net.links else "")
                address = inside(net, route) if key not in seen and len(seen) < ROUTES else None
                if address is not None and all(n is not net for n, _ in self.network.owners(address)):
                    seen.add(key)
                    yield address

    def _gateways(self, net: Net, family: Family) -> list[Route]:
        """Those that name a gateway first: what is connected to a tunnel's device is mostly its own address."""
        default = {h.link for r in net.snap.routes if r.prefix == 0 and r.family == family for h in r.hops}
        found = [
            r
            for r in net.snap.routes
            if r.family == family and r.type == "unicast" and r.prefix and len(r.hops) == 1 and r.table in (254, 0)
            and (r.hops[0].via or _is_tunnel(net, r)) and r.hops[0].link not in default
        ]  # fmt: skip
        return sorted(found, key=lambda r: not r.hops[0].via)

    # -- who shares a network ------------------------------------------------------------------------------------

    @lazy
    def _segments(self) -> dict[tuple[str, int], list[Group]]:
        """Groups by segment; bridges that tunnels of one kind and number connect are one segment."""
        found: dict[tuple[str, int], list[Group]] = {}
        for group in self.groups:
            for key in self.segments(group.net):
                found.setdefault(self._joined.get(key, key), []).append(group)
        return found

    @lazy
    def _joined(self) -> dict[tuple[str, int], tuple[str, int]]:
        """A bridge with a tunnel port -> the first bridge of the same overlay."""
        first: dict[tuple[str, int, int], tuple[str, int]] = {}
        found: dict[tuple[str, int], tuple[str, int]] = {}
        for net in self.network.nets.values():
            for link in net.snap.links:
                if link.master and (number := overlay_number(link)) is not None:
                    here = (net.key, link.master)
                    there = first.setdefault(number, here)
                    found[here] = found.get(there, there)
        return found

    def segments(self, net: Net) -> tuple[tuple[str, int], ...]:
        """(namespace key, ifindex) of the bridges its veths are plugged into."""
        found = []
        for link in net.snap.links:
            other = self.network.peer(net, link) if link.kind == "veth" else None
            if other and other[1].master:
                found.append((other[0].key, other[1].master))
        return tuple(dict.fromkeys(found))

    def neighbours(self, group: Group) -> tuple[Group, ...]:
        """Groups with a member on the same bridge, itself among them: at most MATES of each."""
        found: dict[int, Group] = {}
        for key in self.segments(group.net):
            for other in self._segments.get(self._joined.get(key, key), ())[:MATES]:
                found[id(other)] = other
        return tuple(found.values())

    def beyond(self, group: Group) -> Iterator[str]:
        """For each tunnel that is a port of one of its bridges: an address that lies at the far end, as far as the
        overlay's own neighbour table tells one that is not here."""
        for key, bridge in self.segments(group.net):
            net = self.network.nets[key]
            for port in net.ports.get(bridge, ()):
                if overlay_number(port) is None:
                    continue
                known = (n.address for n in net.snap.neighbours if n.link == port.index and n.mac)
                far = next((a for a in known if not self.network.owners(a) and not own_link(a)), None)
                far = far or nobody(self.network, group.net)
                if far is not None:
                    yield far


def overlay_number(link: Link) -> tuple[str, int, int] | None:
    """(kind, port, number) of a tunnel device that carries frames; None: it is none."""
    if link.vxlan is not None:
        return "vxlan", link.vxlan.port, link.vxlan.vni
    if link.kind in ("geneve", "gretap", "ip6gretap"):
        return link.kind, int(link.info.get("port", 0)), int(link.info.get("vni", 0))
    return None


def _leads_somewhere(way: Predicted) -> bool:
    """Has it a default route, and a host that takes what comes by it?"""
    return len(way.hops) > 1 or way.fate not in (Fate.NO_ROUTE, Fate.UNREACHABLE)


def _ends_inside(way: Predicted) -> bool:
    """Does it end before it leaves what we see, for want of a route? One that comes back to its sender does too."""
    return way.fate in ENDS_INSIDE or (way.fate is Fate.RP_FILTER and way.why.startswith("martian"))


def _exits(way: Predicted) -> Iterator[Point]:
    for hop in way.hops:
        for step in hop.steps:
            if isinstance(step, Exit) and step.at.link:
                yield step.at


def _is_tunnel(net: Net, route: Route) -> bool:
    link = net.links.get(route.hops[0].link)
    return link is not None and (link.pointopoint or link.vxlan is not None or "remote" in link.info)
