"""Join snapshots: namespaces, and what connects them.

A :class:`Net` is one namespace with lookup structures that are made when they are first used (a routing table with
100 000 routes costs nothing until a packet is looked up in it). A :class:`Network` is all of them, from one host or
many, with the cables between them: veth halves, devices stacked across namespaces, VTEPs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from pathfit.core.filters import Choice, Concat, Match, Verdict
from pathfit.core.net import Family, Point
from pathfit.core.snapshot import Address, FdbEntry, HostSnapshot, Link, Neighbour, NetnsSnapshot, PolicyRule, Route

T = TypeVar("T")


class lazy(Generic[T]):
    """functools.cached_property without its lock, which costs more than most of what is computed here (< 3.12)."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, it: None, owner: type) -> "lazy[T]": ...
    @overload
    def __get__(self, it: object, owner: type) -> T: ...
    def __get__(self, it: object | None, owner: type) -> "T | lazy[T]":
        if it is None:
            return self
        value = it.__dict__[self.name] = self.make(it)  # found there from now on: this is no data descriptor
        return value


STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"})  # Link.peer is the lower device
MOST = 65_535  # bytes of an IP packet
FEW_PORTS = 8  # of a bridge: more are sorted before they are tried
ETHER = 1  # ARPHRD_ETHER: the kernel's kind "tun" is a tap as well (tun_setup)
MOST_BEHIND = 256  # addresses looked at behind one tap
AGGREGATES = frozenset({"bond", "team"})
TUNNELS = frozenset(  # besides vxlan: devices that put a packet into another one
    ("geneve", "wireguard", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan", "ipip", "sit", "ip6tnl")
) | {"l2tp", "xfrm"}


def _sizes(e: object) -> Iterator[int]:
    """Bounds of the sizes that an expression names."""
    texts: Iterable[str] = ()
    if type(e) is Match and e.field == "length":
        texts = e.values
    elif type(e) in (Concat, Choice) and "length" in e.fields:  # type: ignore[attr-defined]
        n = e.fields.index("length")  # type: ignore[attr-defined]
        texts = [row[n] for row in e.rows if n < len(row)]  # type: ignore[attr-defined]
    for text in texts:
        for word in text.split("-"):
            if word.isdigit() and len(word) <= 5:
                yield from (min(int(word), MOST), min(int(word) + 1, MOST))


def _takes(e: object) -> bool:
    if type(e) is Choice:
        return any(_takes(x) for x in (*e.then, e.otherwise))
    return type(e) is Verdict and e.kind in ("drop", "reject")


class Net:
    """One namespace of one host. Everything is read-only; structures are made at first use."""

    def __init__(self, host: str, key: str, snap: NetnsSnapshot) -> None:
        self.host = host
        self.key = key  # unique in the Network
        self.snap = snap
        self.fibs: dict[tuple[int, int], object] = {}  # filled by lookup.py: (family, table) -> compiled table
        self.found: dict[tuple[str, str, int, int], object] = {}  # filled by lookup.py: what it answered
        self.filters: object = None  # filled by _policy.py: the tables, prepared
        self.filtered = bool(snap.tables)  # is there any filter table at all?
        self._points: dict[str | None, Point] = {}
        self._rules: dict[Family, tuple[PolicyRule, ...]] = {}

    def __repr__(self) -> str:
        return f"Net({self.snap.where})"

    @lazy
    def links(self) -> dict[int, Link]:
        """By ifindex."""
        return {x.index: x for x in self.snap.links}

    @lazy
    def names(self) -> dict[str, Link]:
        """By name."""
        return {x.name: x for x in self.snap.links}

    @lazy
    def loopback(self) -> Link | None:
        for x in self.snap.links:
            if x.loopback:
                return x
        return None

    @lazy
    def ports(self) -> dict[int, tuple[Link, ...]]:
        """Links by the ifindex of their master (bridge, bond, vrf)."""
        found: dict[int, tuple[Link, ...]] = {}
        for x in self.snap.links:
            if x.master:
                found[x.master] = (*found.get(x.master, ()), x)
        return found

    @lazy
    def addresses(self) -> dict[str, tuple[Address, ...]]:
        """By address."""
        found: dict[str, tuple[Address, ...]] = {}
        for x in self.snap.addresses:
            found[x.address] = (*found.get(x.address, ()), x)
        return found

    @lazy
    def on_link(self) -> dict[int, tuple[Address, ...]]:
        """Addresses by ifindex, in the kernel's order (primary ones first)."""
        found: dict[int, tuple[Address, ...]] = {}
        for x in self.snap.addresses:
            found[x.link] = (*found.get(x.link, ()), x)
        return found

    @lazy
    def neighbours(self) -> dict[tuple[int, str], Neighbour]:
        """By (ifindex, address); proxy entries are in :attr:`proxies`."""
        return {(x.link, x.address): x for x in self.snap.neighbours if not x.proxy}

    @lazy
    def proxies(self) -> frozenset[tuple[int, str]]:
        """Addresses this namespace answers for (`ip neigh add proxy`)."""
        return frozenset((x.link, x.address) for x in self.snap.neighbours if x.proxy)

    @lazy
    def switched(self) -> dict[tuple[int, str], FdbEntry]:
        """A bridge's forwarding table: (bridge ifindex, MAC) -> entry whose ``link`` is the port or the bridge."""
        found: dict[tuple[int, str], FdbEntry] = {}
        for x in self.snap.fdb:
            link = self.links.get(x.link)
            if x.own or link is None:
                continue
            bridge = link.index if link.kind == "bridge" else link.master
            if bridge:
                found.setdefault((bridge, x.mac), x)
        return found

    @lazy
    def destinations(self) -> dict[tuple[int, str], tuple[FdbEntry, ...]]:
        """A VXLAN device's own table: (ifindex, MAC) -> entries with ``remote``; MAC of zeros = everybody else."""
        found: dict[tuple[int, str], tuple[FdbEntry, ...]] = {}
        for x in self.snap.fdb:
            if x.own and x.remote is not None:
                found[x.link, x.mac] = (*found.get((x.link, x.mac), ()), x)
        return found

    def routes(self, family: Family, table: int) -> list[Route]:
        """The routes of one table (a new list every time)."""
        return [x for x in self.snap.routes if x.table == table and x.family == family]

    def rules(self, family: Family) -> tuple[PolicyRule, ...]:
        """The policy rules of one family, in the order they are tried; empty: none were read."""
        if not self.snap.rules:
            return ()
        found = self._rules.get(family)
        if found is None:
            found = self._rules[family] = tuple([x for x in self.snap.rules if x.family == family])
        return found

    @lazy
    def takes(self) -> bool:
        """Could any filter here take a packet away?"""
        chains = [c for t in self.snap.tables for c in t.chains]
        rules = [r for c in chains for r in c.rules]
        return any(c.policy == "drop" for c in chains) or any(_takes(e) for r in rules for e in r.exprs)

    @lazy
    def lengths(self) -> tuple[int, ...]:
        """Packet sizes at which a filter here may change its mind (bounds of tests on ``length``, and one more)."""
        found: set[int] = set()
        for e in (e for t in self.snap.tables for c in t.chains for r in c.rules for e in r.exprs):
            found.update(_sizes(e))
        return tuple(sorted(found))

    @lazy
    def has_vrf(self) -> bool:
        return bool([x for x in self.snap.links if x.kind == "vrf"])

    def sysctl(self, name: str, default: int = 0) -> int:
        """An integer sysctl; ``default`` is the kernel's own when it was not read or is no number."""
        text = self.snap.sysctls.get(name)
        if text is None:
            return default
        try:
            return int(text)
        except ValueError:
            return default

    def per_link(self, family: str, link: Link, name: str, default: int = 0) -> int:
        """``ipv4.conf.LINK.name``, or what new links get when it was not read."""
        at = self.snap.sysctls
        text = at.get(f"{family}.conf.{link.name}.{name}")
        if text is None:
            text = at.get(f"{family}.conf.default.{name}")
            if text is None:
                return default
        return int(text) if text.lstrip("-").isdigit() else default

    def point(self, link: str | None = None) -> Point:
        """This place as a Point; one value for each link."""
        found = self._points.get(link)
        if found is None:
            found = self._points[link] = Point(host=self.host, netns=self.snap.where, link=link)
        return found


def _name(host: HostSnapshot) -> tuple[str, str]:
    """What a snapshot says of whose it is."""
    return host.boot_id, host.host


def machines(hosts: Sequence[HostSnapshot]) -> list[list[HostSnapshot]]:
    """Snapshots of one machine together, in the order they were given.

    One boot is one machine, by whatever name it was called. Nodes that are containers of one machine (kind, lab hosts)
    have its boot id as well; they have other names and not one namespace in common.
    """
    found: list[tuple[set[tuple[str, str]], set[str], list[int]]] = []
    for n, host in enumerate(hosts):
        names, ids, them, others = {_name(host)}, {x.id for x in host.namespaces}, [n], []
        for one in found:
            of_this_boot = host.boot_id and any(boot == host.boot_id for boot, _ in one[0])
            if not names.isdisjoint(one[0]) or (of_this_boot and not ids.isdisjoint(one[1])):
                names, ids, them = names | one[0], ids | one[1], [*one[2], *them]
            else:
                others.append(one)
        found = [*others, (names, ids, them)]
    return [[hosts[n] for n in sorted(them)] for them in sorted(sorted(x[2]) for x in found)]


def _unused(name: str, taken: Collection[str]) -> str:
    """``name``, or with a number behind it where another machine of that name is there already."""
    if name not in taken:
        return name
    return next(x for n in range(2, len(taken) + 3) if (x := f"{name}-{n}") not in taken)


class Network:
    """All visible namespaces. Build it with :meth:`of`."""

    def __init__(self, nets: dict[str, Net], labels: dict[tuple[str, str], str] | None = None) -> None:
        self.nets = nets
        self._labels = labels or {}  # what a machine is called here, by its boot id and its own name

    @classmethod
    def of(cls, *hosts: HostSnapshot) -> "Network":
        """Join snapshots of different hosts.

        A namespace's key is its ``NetnsSnapshot.id``; ids that two hosts share are written ``HOST!id``.
        Two snapshots of one machine (:func:`machines`) are one host: what the later one read replaces the earlier.
        """
        latest: dict[tuple[str, str], NetnsSnapshot] = {}
        labels: dict[tuple[str, str], str] = {}
        for them in machines(hosts):
            name = _unused(them[0].host, labels.values())
            for host in them:
                labels[_name(host)] = name
                for snap in host.namespaces:
                    if not snap.outline:  # its filters and routes were not read: as good as out of sight
                        latest[name, snap.id] = snap
        count: dict[str, int] = {}
        for _, ident in latest:
            count[ident] = count.get(ident, 0) + 1
        nets = {}
        for (name, _), snap in latest.items():
            key = snap.id if count[snap.id] == 1 else f"{name}!{snap.id}"
            nets[key] = Net(name, key, snap)
        return cls(nets, labels)

    def label(self, host: HostSnapshot) -> str:
        """What the machine of a snapshot is called here: its name, or one with a number where two share it."""
        return self._labels.get(_name(host), host.host)

    @lazy
    def _by_host(self) -> dict[tuple[str, str], Net]:
        return {(x.host, x.snap.id): x for x in self.nets.values()}

    @lazy
    def _by_where(self) -> dict[str, Net]:
        found: dict[str, Net] = {}
        for x in self.nets.values():
            for name in (x.snap.where, *x.snap.names, f"{x.host}!{x.snap.where}"):
                found.setdefault(name, x)
        return found

    def find(self, ns: str) -> Net | None:
        """A namespace by key, by WHERE ("netns:c", "host") or by "HOST!WHERE"; None when it is not visible."""
        return self.nets.get(ns) or self._by_where.get(ns)

    def of_id(self, ident: str) -> Net | None:
        """The first namespace with this ``NetnsSnapshot.id``, on whichever host; None when it is not visible."""
        return next((x for x in self.nets.values() if x.snap.id == ident), None)

    def at(self, point: Point) -> Net | None:
        """The namespace a Point names."""
        return self._by_where.get(f"{point.host}!{point.netns}")

    @lazy
    def _claims(self) -> dict[tuple[str, str, int], tuple[Net, Link]]:
        """Who says "my other half is (host, namespace id, ifindex)": for halves that do not know it themselves."""
        found = {}
        for net in self.nets.values():
            for link in net.snap.links:
                if link.kind == "veth" and link.peer:
                    ns = link.peer_ns or (net.snap.id if link.peer_nsid is None else None)
                    if ns:
                        found[net.host, ns, link.peer] = (net, link)
        return found

    def peer(self, net: Net, link: Link) -> tuple[Net, Link] | None:
        """The other half of a veth (or the device a stacked one lies on); None when it is not visible."""
        if link.peer:
            ident = link.peer_ns or (net.snap.id if link.peer_nsid is None else None)
            other = net if ident == net.snap.id else self._by_host.get((net.host, ident)) if ident else None
            there = other.links.get(link.peer) if other else None
            if other and there:
                return other, there
        return self._claims.get((net.host, net.snap.id, link.index)) if link.kind == "veth" else None

    def home(self, net: Net, link: Link) -> Net | None:
        """The namespace a device was made in and still uses (vxlan->net, tunnel->net): where its outer packets are."""
        if link.peer_nsid is None and link.peer_ns is None:
            return net
        return self._by_host.get((net.host, link.peer_ns)) if link.peer_ns else None

    @lazy
    def _vteps(self) -> dict[tuple[str, int, int], tuple[Net, Link]]:
        found = {}
        for net in self.nets.values():
            for link in net.snap.links:
                if link.vxlan and not link.vxlan.collect_metadata:
                    base = self.home(net, link)
                    if base:
                        found[base.key, link.vxlan.port, link.vxlan.vni] = (net, link)
        return found

    def vtep(self, net: Net, port: int, vni: int) -> tuple[Net, Link] | None:
        """The VXLAN device that takes packets for this port and VNI arriving in ``net`` (vxlan_vs_find_vni)."""
        return self._vteps.get((net.key, port, vni))

    @lazy
    def _tunnels(self) -> dict[tuple[str, str], list[tuple[Net, Link]]]:
        found: dict[tuple[str, str], list[tuple[Net, Link]]] = {}
        for net in self.nets.values():
            for link in net.snap.links:
                if link.kind in TUNNELS and not link.info.get("collect_metadata"):
                    base = self.home(net, link)
                    if base:
                        found.setdefault((base.key, link.kind), []).append((net, link))
        return found

    def tunnels(self, net: Net, kind: str) -> list[tuple[Net, Link]]:
        """Tunnel devices of a kind whose outer packets arrive in ``net``."""
        return self._tunnels.get((net.key, kind), [])

    @lazy
    def _steered(self) -> dict[str, list[tuple[Net, Link]]]:
        found: dict[str, list[tuple[Net, Link]]] = {}
        for net in self.nets.values():
            for link in net.snap.links:
                by_flow = link.info.get("collect_metadata") or (link.vxlan and link.vxlan.collect_metadata)
                if by_flow or link.kind == "openvswitch":
                    base = self.home(net, link)
                    if base:
                        found.setdefault(base.key, []).append((net, link))
        return found

    def steered(self, net: Net) -> list[tuple[Net, Link]]:
        """Devices in external mode and those of Open vSwitch, whose outer packets arrive in ``net``."""
        return self._steered.get(net.key, [])

    @lazy
    def _stacked(self) -> dict[tuple[str, int], tuple[tuple[Net, Link], ...]]:
        found: dict[tuple[str, int], tuple[tuple[Net, Link], ...]] = {}
        for net in self.nets.values():
            for link in net.snap.links:
                if link.kind in STACKED:
                    lower = self.peer(net, link)
                    if lower:
                        key = (lower[0].key, lower[1].index)
                        found[key] = (*found.get(key, ()), (net, link))
        return found

    def stacked_on(self, net: Net, link: Link) -> tuple[tuple[Net, Link], ...]:
        """VLAN, macvlan, ipvlan … devices that lie on this one, in whatever namespace."""
        return self._stacked.get((net.key, link.index), ())

    @lazy
    def _owners(self) -> dict[str, list[tuple[Net, Address]]]:
        found: dict[str, list[tuple[Net, Address]]] = {}
        for net in self.nets.values():
            for x in net.snap.addresses:
                found.setdefault(x.address, []).append((net, x))
        return found

    def ports_towards(self, net: Net, bridge: Link, address: str) -> tuple[Link, ...]:
        """The ports of a bridge, in the order to try them: behind a thousand of them, whoever has it is known."""
        ports = net.ports.get(bridge.index, ())
        if len(ports) <= FEW_PORTS:
            return ports
        ends = [(owner, owner.links.get(a.link)) for owner, a in self.owners(address)]
        plugs = [self.peer(owner, link) for owner, link in ends if link is not None]
        near = {plug[1].index for plug in plugs if plug is not None and plug[0] is net}
        return (*(p for p in ports if p.index in near), *(p for p in ports if p.index not in near))

    def owners(self, address: str) -> Sequence[tuple[Net, Address]]:
        """Every namespace that has this address (an address of a private range may live in many)."""
        return self._owners.get(address, ())

    @lazy
    def hosts(self) -> tuple[str, ...]:
        """Names of the machines, in the order they were given."""
        return tuple(dict.fromkeys(x.host for x in self.nets.values()))

    @lazy
    def _addresses(self) -> dict[str, tuple[Address, ...]]:
        found: dict[str, list[Address]] = {}
        for net in self.nets.values():
            found.setdefault(net.host, []).extend(net.snap.addresses)
        return {host: tuple(them) for host, them in found.items()}

    def addresses_of(self, host: str) -> tuple[Address, ...]:
        """All addresses of a machine, whatever namespace they are in."""
        return self._addresses.get(host, ())

    @lazy
    def _stations(self) -> dict[str, list[tuple[Net, Link]]]:
        found: dict[str, list[tuple[Net, Link]]] = {}
        for net in self.nets.values():
            for link in net.snap.links:
                if link.mac:
                    found.setdefault(link.mac, []).append((net, link))
        return found

    def stations(self, mac: str) -> list[tuple[Net, Link]]:
        """Every device with this MAC address (engines give the same ones on every host)."""
        return self._stations.get(mac, [])

    @lazy
    def _plugs(self) -> dict[tuple[str, int], tuple[Net, Link]]:
        known: dict[str, list[tuple[Net, Link]]] = {}
        for mac, them in self._stations.items():
            nics = [x for x in them if not x[1].kind]  # a bond, a VLAN have the address of what they are made of
            known[mac] = [*known.get(mac, ()), *nics]
            known[f"fe{mac[2:]}"] = [*known.get(f"fe{mac[2:]}", ()), *nics]
        ends: dict[tuple[str, int], list[tuple[Net, Link]]] = {}
        for net in self.nets.values():
            for tap in net.snap.links:
                if tap.kind == "tun" and tap.arphrd == ETHER:
                    macs = behind(net, tap)
                    there = {x[0].key: x for mac in macs for x in known.get(mac, ()) if x[0].host != net.host}
                    if len(there) == 1:
                        far, nic = next(iter(there.values()))
                        ends.setdefault((far.key, nic.index), []).append((net, tap))
        found: dict[tuple[str, int], tuple[Net, Link]] = {}
        for (key, index), taps in ends.items():
            if len(taps) == 1:
                (net, tap), far = taps[0], self.nets[key]
                found[key, index], found[net.key, tap.index] = (net, tap), (far, far.links[index])
        return found

    def plug(self, net: Net, link: Link) -> tuple[Net, Link] | None:
        """The other end of a virtual machine's cable: its device for a tap of its host, the tap for its device. None
        where several fit (a machine that has just moved, two devices with one address), or none is seen."""
        return self._plugs.get((net.key, link.index))


def behind(net: Net, tap: Link) -> tuple[str, ...]:
    """MAC addresses by which the machine at the other end of a tap is known: those learned there, else the tap's own,
    which libvirt makes of the machine's with fe in front (virNetDevTapCreateInBridgePort)."""
    learned = (x.mac for x in net.snap.fdb if x.link == tap.index and not x.own and x.state != "permanent")
    return tuple(dict.fromkeys(islice(learned, MOST_BEHIND))) or ((tap.mac,) if tap.mac.startswith("fe:") else ())
