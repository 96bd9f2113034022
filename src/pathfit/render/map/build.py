"""A joined Network to a :class:`~pathfit.render.map.graph.Map`."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from pathfit.core.engine import Engine
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Facts, Finding
from pathfit.core.net import Direction, Family
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot, Link
from pathfit.model.network import STACKED, Net, Network, machines
from pathfit.model.tunnels.outers import ROWS, layer_of
from pathfit.model.tunnels.overhead import header, outer
from pathfit.render.map.graph import OUTSIDE, Device, Edge, EdgeKind, Host, Map, Remark, Space, State
from pathfit.render.map.ways import way
from pathfit.words.render import summary_id

DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")
MOST_FAR = 64  # remote ends that are named for one tunnel device


def build(
    network: Network,
    hosts: Iterable[HostSnapshot],
    *,
    asked: tuple[str, str] = ("", ""),
    ways: tuple[Predicted, Predicted] | None = None,
    findings: Iterable[Finding] = (),
    missing: Iterable[Missing] = (),
) -> Map:
    """The map of ``network``, which was joined from ``hosts``.

    ``ways``: the predicted path of ``asked`` (WHERE, TARGET), both directions. ``findings`` are shown at their places.
    ``missing``: what should be on the map and could not be read.
    """
    drawing = _Drawing(network, tuple(hosts), _by_place(network, findings))
    made = tuple(drawing.hosts())
    edges = drawing.edges
    said = [way(network, drawing.ids, edges, p, d) for p, d in zip(ways or (), DIRECTIONS, strict=False)]
    routed = dict.fromkeys(tuple(sorted(x)) for w in said for x in w.legs)
    known = {tuple(sorted((e.a, e.b))) for e in edges}
    more = [Edge(kind="routed", a=a, b=b) for a, b in routed if (a, b) not in known and OUTSIDE not in (a, b)]
    return Map(
        hosts=made, edges=(*edges, *more), ways=tuple(said), source=asked[0], target=asked[1], missing=tuple(missing)
    )


Places = Mapping[tuple[str, str | None], list[Remark]]


def _by_place(network: Network, findings: Iterable[Finding]) -> Places:
    found: dict[tuple[str, str | None], list[Remark]] = {}
    for f in findings:
        for point in f.where:
            net = network.at(point)
            if net is not None:
                remark = Remark(message=summary_id(f), facts=f.facts, code=f.code, severity=f.severity)
                found.setdefault((net.key, point.link), []).append(remark)
    return found


class _Drawing:
    """One map under construction. ``ids``: (namespace key, ifindex) -> device id."""

    def __init__(self, network: Network, hosts: tuple[HostSnapshot, ...], places: Places) -> None:
        self.network, self.snapshots, self.places = network, hosts, places
        self.ids: dict[tuple[str, int], str] = {}
        self.edges: list[Edge] = []
        self._pairs: set[Edge] = set()
        self._keys: dict[str, str] = {}  # WireGuard devices by public key
        self._numbers = {key: f"n{i}" for i, key in enumerate(network.nets, 1)}
        for key, net in network.nets.items():
            for link in net.snap.links:
                self.ids[key, link.index] = f"{self._numbers[key]}.{link.index}"
                if link.wireguard and link.wireguard.public_key:
                    self._keys[link.wireguard.public_key] = self.ids[key, link.index]

    def hosts(self) -> Iterator[Host]:
        """Each machine once, in the order of its first snapshot, which is that of Network.hosts."""
        homes: dict[str, list[Net]] = {}
        for net in self.network.nets.values():
            homes.setdefault(net.host, []).append(net)
        names = iter(self.network.hosts)
        for of in machines(self.snapshots):
            seen = any(not n.outline for s in of for n in s.namespaces)
            name = next(names) if seen else of[0].host
            engines = [e for s in of for e in s.engines]
            called = _Called(engines)
            own = {s.own for s in of}
            yield Host(
                name=name,
                kernel=of[-1].kernel.release,
                complete=all(s.complete for s in of),
                spaces=tuple(self._space(n, called, n.snap.id in own) for n in homes.get(name, ()) if seen),
                missing=tuple(dict.fromkeys(m for s in of for m in s.missing)),
            )

    def _space(self, net: Net, called: "_Called", own: bool) -> Space:
        snap = net.snap
        containers = called.containers.get(snap.id, ())
        devices = [self._device(net, link, called) for link in snap.links]
        loose = self.places.get((net.key, None), ())
        if loose and devices:
            devices[0] = replace(devices[0], remarks=(*devices[0].remarks, *loose))
        return Space(
            id=self._numbers[net.key],
            where=snap.where,
            label=called.hidden.get(snap.id) or _label(net),
            names=snap.names,
            containers=containers,
            own=own,
            devices=tuple(devices),
            missing=snap.missing,
        )

    def _device(self, net: Net, link: Link, called: "_Called") -> Device:
        ident = self.ids[net.key, link.index]
        addresses = tuple(f"{a.address}/{a.prefix}" for a in net.on_link.get(link.index, ()))
        remarks = [*self.places.get((net.key, link.name), ())]
        far: list[str] = []
        self._master(net, link, remarks)
        unseen = self._cable(net, link, remarks)
        takes = self._tunnel(net, link, remarks, far) if link.vxlan or link.kind in ROWS else None
        if self._leads_out(net, link, unseen):
            self._edge("uplink", ident, OUTSIDE)
        return Device(
            id=ident,
            name=link.name,
            mtu=link.mtu,
            kind=link.kind or ("loopback" if link.loopback else "physical"),
            state=_state(link),
            index=link.index,
            mac=link.mac,
            addresses=addresses,
            master=self.ids.get((net.key, link.master), "") if link.master else "",
            vni=_vni(link),
            overhead=takes,
            far=tuple(far[:MOST_FAR]),
            holder=link.holder or "",
            type=str(link.info.get("type", "")) if link.kind == "tun" else "",
            network=called.network(link, addresses),
            unseen=unseen,
            remarks=tuple(remarks),
        )

    def _edge(self, kind: EdgeKind, a: str, b: str) -> None:
        self.edges.append(Edge(kind=kind, a=a, b=b))

    def _master(self, net: Net, link: Link, remarks: list[Remark]) -> None:
        master = net.links.get(link.master) if link.master else None
        if master is None:
            return
        self._edge("port", self.ids[net.key, link.index], self.ids[net.key, master.index])
        if master.kind == "bridge" and link.mtu < master.mtu:
            remarks.append(Remark(message="map.port-below", facts={"bridge": master.name, "mtu": master.mtu}))

    def _cable(self, net: Net, link: Link, remarks: list[Remark]) -> bool:
        """A veth's other half, or what a stacked device lies on. True: it has another half, which is not visible."""
        if link.kind not in STACKED and link.kind != "veth":
            return False
        found = self.network.peer(net, link)
        if found is None:
            return link.kind == "veth"
        there, other = found
        a, b = self.ids[net.key, link.index], self.ids[there.key, other.index]
        if link.kind != "veth":
            self._edge("lower", a, b)
        elif (net.key, link.index) < (there.key, other.index) or self.network.peer(there, other) is None:
            self._edge("veth", a, b)
        if link.kind == "veth" and other.mtu != link.mtu:
            remarks.append(Remark(message="map.half-differs", facts={"mtu": other.mtu}))
        return False

    def _leads_out(self, net: Net, link: Link, unseen: bool) -> bool:
        """A physical device that works; or a veth to where we do not see, when the default route goes there."""
        if link.loopback or not (link.up and link.carrier):
            return False
        if not link.kind:
            return True
        return unseen and any(
            not r.prefix and any(h.link == link.index for h in r.hops) for r in net.snap.routes if r.type == "unicast"
        )

    def _tunnel(self, net: Net, link: Link, remarks: list[Remark], far: list[str]) -> int | None:
        """Edges to the device below and to the other ends; returns the overhead where it is known."""
        me = self.ids[net.key, link.index]
        base = self.network.home(net, link)
        remotes = _remotes(net, link)
        families: set[Family] = {6 if ":" in r else 4 for r in remotes}
        layers = [layer for f in sorted(families) if (layer := layer_of(link, f)) is not None]
        takes = max((header(x) for x in layers), default=None)
        below = _below(base, link)
        if base is not None and below is not None:
            self._edge("lower", me, self.ids[base.key, below.index])
            full = max((outer(x, link.mtu, link.mtu) for x in layers), default=0)
            if full > below.mtu:
                facts: Facts = {"outer": full, "below": below.name, "mtu": below.mtu}
                remarks.append(Remark(message="map.tunnel-above", facts=facts))
        for peer in link.wireguard.peers if link.wireguard else ():
            if twin := self._keys.get(peer.public_key):
                self._pair(me, twin)
                remotes = [r for r in remotes if r != peer.endpoint]
        for remote in remotes:
            ends = list(self._ends(link, remote, base))
            for there, other in ends:
                self._pair(me, self.ids[there.key, other.index])
            if not ends:
                far.append(remote)
        return takes

    def _pair(self, a: str, b: str) -> None:
        pair = Edge(kind="tunnel", a=min(a, b), b=max(a, b))
        if a != b and pair not in self._pairs:
            self._pairs.add(pair)
            self.edges.append(pair)

    def _ends(self, link: Link, remote: str, base: Net | None) -> Iterator[tuple[Net, Link]]:
        """Tunnel devices that take what is sent to ``remote``; an address of a private range may live in many."""
        for net in dict.fromkeys(n for n, _ in self.network.owners(remote)):
            if net is base:
                continue
            if link.vxlan:
                found = self.network.vtep(net, link.vxlan.port, link.vxlan.vni)
                if found is not None:
                    yield found
                continue
            for there, other in self.network.tunnels(net, link.kind):
                if str(other.info.get("local") or remote) == remote and _vni(other) == _vni(link):
                    yield there, other


def _remotes(net: Net, link: Link) -> list[str]:
    """Addresses a tunnel device sends to, without multicast groups."""
    found = [x.remote for x in net.snap.fdb if x.link == link.index and x.own and x.remote]
    if link.vxlan and link.vxlan.remote:
        found.append(link.vxlan.remote)
    if remote := link.info.get("remote"):
        found.append(str(remote))
    if link.wireguard:
        found += [p.endpoint for p in link.wireguard.peers if p.endpoint]
    return [r for r in dict.fromkeys(found) if r not in ("0.0.0.0", "::") and not _multicast(r)]


def _multicast(address: str) -> bool:
    if ":" in address:
        return address.lower().startswith("ff")
    head = address.partition(".")[0]
    return head.isdigit() and 224 <= int(head) < 240


def _below(base: Net | None, link: Link) -> Link | None:
    """The device a tunnel's packets leave by, as far as the tunnel itself says: bound to it, or by its own address."""
    if base is None:
        return None
    index = link.vxlan.lower if link.vxlan else link.info.get("lower", 0)
    if isinstance(index, int) and index in base.links:
        return base.links[index]
    local = link.vxlan.local if link.vxlan else link.info.get("local")
    at = base.addresses.get(str(local), ()) if local else ()
    return base.links.get(at[0].link) if at else None


def _vni(link: Link) -> int | None:
    if link.vxlan:
        return None if link.vxlan.collect_metadata else link.vxlan.vni
    found = link.info.get("vni", link.info.get("id"))
    return found if isinstance(found, int) and link.kind in ROWS else None


def _state(link: Link) -> State:
    return "down" if not link.up else "up" if link.carrier else "no-carrier"


def _label(net: Net) -> str:
    """What people call a namespace: its own name, that of its container, or of its first process."""
    where = net.snap.where
    kind, colon, name = where.partition(":")
    if not colon:
        return where
    if kind == "pid":
        first = next(iter(net.snap.processes), None)
        return f"{first.name}[{first.pid}]" if first else where
    return (name.rpartition("/")[2] or where) if kind == "netns" else name  # of a pod "NAMESPACE/NAME" stays whole


class _Called:
    """What engines call things."""

    def __init__(self, engines: Iterable[Engine]) -> None:
        self.containers: dict[str, tuple[str, ...]] = {}
        self.hidden: dict[str, str] = {}  # namespaces of overlays: the network's name
        self._bridges: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        for engine in engines:
            for one in engine.containers:
                if one.netns:
                    self.containers[one.netns] = (*self.containers.get(one.netns, ()), one.name)
                for end in one.endpoints:
                    for address in end.addresses:
                        self._addresses[address.partition("/")[0]] = end.name
            for network in engine.networks:
                if network.bridge:
                    self._bridges[network.bridge] = network.name
                if network.netns:
                    self.hidden[network.netns] = network.name

    def network(self, link: Link, addresses: tuple[str, ...]) -> str:
        if link.kind == "bridge":
            return self._bridges.get(link.name, "")
        return next((n for a in addresses if (n := self._addresses.get(a.partition("/")[0]))), "")
