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

REF = "state"  # evidence id of everything that was read
PORT = 443  # what is asked for "elsewhere": filters often let this out if they let anything out
FAR = 8  # ends tried where the default route leads nowhere
MATES = 8  # groups of one network that are predicted towards each other
ROUTES = 4  # gateways beside the default one that are looked at
LOOPBACK = "127."
ENDS_INSIDE = frozenset({Fate.NO_ROUTE, Fate.UNREACHABLE, Fate.LOOP})
UNSPOKEN = {4: ("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.7"), 6: ("2001:db8::1", "3fff::1", "2620::7")}
"""Addresses nobody has (RFC 5737, RFC 3849, RFC 9637), to stand for the rest of the world."""

What = Literal["elsewhere", "route", "mate"]
Shape = tuple[object, ...]


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
        for family in self.machine.families(self.net):
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
            for to in _neighbouring(self.net, net) if net is not None and net is not self.net else ():
                yield self._way("mate", to, 0, other)
        for to in self.machine.beyond(self):
            yield self._way("mate", to, 0)

    def _way(self, what: What, to: str, port: int, of: "Group | None" = None) -> Way:
        peer = None
        if of is not None:
            mine = _address(self.net, 6 if ":" in to else 4)
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
                found.setdefault(self._shape(seat.net), []).append(seat)
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

    def families(self, net: Net) -> tuple[Family, ...]:
        """Families it has an address of that is good for more than its own link."""
        found = {6 if ":" in a.address else 4 for a in net.snap.addresses if a.scope == 0 and not _own_link(a.address)}
        return tuple(f for f in (4, 6) if f in found)

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
        closer = [ipaddress.ip_network(f"{dst}/{prefix}", strict=False) for dst, prefix in nets if _valid(dst)]
        chosen: dict[Family, str] = {}
        for family, candidates in UNSPOKEN.items():
            free = (a for a in candidates if not any(_within(a, n) for n in closer))
            chosen[4 if family == 4 else 6] = next(free, "")
        return chosen

    def outsiders(self, net: Net, family: Family) -> Iterator[str]:
        """Addresses of other namespaces that ``net`` reaches by its default route, as far as its own routes say."""
        near = [
            ipaddress.ip_network(f"{r.dst}/{r.prefix}", strict=False)
            for r in net.snap.routes
            if r.family == family and r.prefix and _valid(r.dst)
        ]
        for other in self.network.nets.values():
            address = _address(other, family) if other is not net else None
            alone = address is not None and len(self.network.owners(address)) == 1
            if address is not None and alone and not any(_within(address, n) for n in near):
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
                address = _inside(net, route) if key not in seen and len(seen) < ROUTES else None
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
                far = next((a for a in known if not self.network.owners(a) and not _own_link(a)), None)
                far = far or self._nobody(group.net)
                if far is not None:
                    yield far

    def _nobody(self, net: Net) -> str | None:
        """An address of its own subnet that nobody here has: whoever has it is at the far end of a tunnel."""
        for a in net.snap.addresses:
            if a.scope or _own_link(a.address):
                continue
            network = ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False)
            for n in range(2, min(network.num_addresses - 1, 200)):
                if not self.network.owners(str(network[-n])):
                    return str(network[-n])
        return None

    # -- shapes --------------------------------------------------------------------------------------------------

    def _shape(self, net: Net) -> Shape:
        """Everything that decides what happens to its packets, and nothing that differs between twins."""
        at = {x.index: n for n, x in enumerate(net.snap.links)}
        snap = net.snap
        links = tuple(self._device(net, x) for x in snap.links if not x.loopback)
        routes = frozenset(
            (r.family, r.table, r.dst, r.prefix, r.type, r.metric, r.mtu, r.mtu_lock, r.advmss,
             tuple((at.get(h.link), h.via) for h in r.hops))
            for r in snap.routes
            if r.type not in ("local", "broadcast", "multicast", "anycast") and r.prefix not in (32, 128)
        )  # fmt: skip
        tables = tuple(t for t in snap.tables if not _only_loopback(t))
        rest = () if snap.plain else (tables, tuple(snap.rules), tuple(snap.exceptions), _switches(net))
        return (links, routes, rest, self.families(net))

    def _device(self, net: Net, x: Link) -> Shape:
        other = self.network.peer(net, x)
        there: Shape = ()
        if other is not None:
            o = other[1]
            there = (other[0].key, o.mtu, o.master, o.up, o.bridge_port, _on(o))
        return (x.name, x.kind, x.mtu, x.up, x.carrier, _on(x), there, x.vxlan)


def _on(link: Link) -> tuple[str, ...] | None:
    """Offload features that are switched on; None: not known."""
    return None if link.features is None else tuple(k for k, v in link.features.items() if v)


def _switches(net: Net) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(net.snap.sysctls.items()))


def _only_loopback(table: object) -> bool:
    """A table that only turns an address of 127/8 round (Docker's resolver, on a port of its own in each container)."""
    chains = getattr(table, "chains", ())
    for chain in chains:
        for rule in chain.rules:
            tests = [e for e in rule.exprs if getattr(e, "field", "") in ("daddr", "saddr")]
            if not any(v.startswith(LOOPBACK) for e in tests for v in e.values):
                return False
    return all(c.policy == "accept" for c in chains)


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


def _address(net: Net | None, family: Family) -> str | None:
    """Its first address of a family that others can send to."""
    for a in net.snap.addresses if net is not None else ():
        if a.scope == 0 and (":" in a.address) == (family == 6) and not _own_link(a.address):
            return a.address
    return None


def _neighbouring(net: Net, other: Net) -> Iterator[str]:
    """For each family, an address of ``other`` that lies in a subnet of ``net``'s own."""
    found: dict[bool, str] = {}
    ours = [a for a in net.snap.addresses if a.scope == 0 and not _own_link(a.address)]
    subnets = [ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False) for a in ours]
    for a in other.snap.addresses:
        if a.scope == 0 and not _own_link(a.address) and any(_within(a.address, n) for n in subnets):
            found.setdefault(":" in a.address, a.address)
    yield from found.values()


def _own_link(address: str) -> bool:
    return address.startswith(("127.", "169.254.", "fe80:")) or address == "::1"


def _valid(dst: str) -> bool:
    try:
        ipaddress.ip_address(dst)
    except ValueError:
        return False
    return True


def _within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in network


def _inside(net: Net, route: Route) -> str | None:
    """An address that the route leads to: the last usable one, which a gateway seldom has; one that a peer of the
    device has, where it has peers (WireGuard); None: none of them has any."""
    network = ipaddress.ip_network(f"{route.dst}/{route.prefix}", strict=False)
    device = net.links.get(route.hops[0].link)
    if device is not None and device.wireguard is not None and device.wireguard.peers:
        theirs = [ipaddress.ip_network(a, strict=False) for p in device.wireguard.peers for a in p.allowed]
        shared = [t for t in theirs if t.version == network.version and t.overlaps(network)]
        if not shared:
            return None
        network = max(network, shared[0], key=lambda n: n.prefixlen)
    return str(network[-2] if network.num_addresses > 2 else network[0])


def _is_tunnel(net: Net, route: Route) -> bool:
    link = net.links.get(route.hops[0].link)
    return link is not None and (link.pointopoint or link.vxlan is not None or "remote" in link.info)
