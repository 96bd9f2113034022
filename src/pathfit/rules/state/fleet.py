"""Many hosts side by side: what one of them says of itself, of its overlays and of the others, in a few hundred bytes.

A fleet of thousands does not fit into memory as snapshots. Each host is read, judged alone
(:data:`~pathfit.rules.state.STATE_RULES`) and kept as a :class:`Digest`; the rules here compare digests. One host is a
small fleet: what can be told of it alone is told in the same way.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pathfit.core.base import Value
from pathfit.core.finding import Finding
from pathfit.core.net import Point
from pathfit.core.snapshot import Address, Link
from pathfit.model.addr import is_multicast
from pathfit.model.network import ETHER, Net, behind, lazy
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import Group, Machine, Seat

ZERO = "00:00:00:00:00:00"
CARDS = frozenset({"", "vlan", "bond", "team", "veth"})
MOST = 256  # members, entries kept of one segment: a rule needs an example, not all of them


class FleetRule(NamedTuple):
    """One line of the registry: the code, and the function that looks for it among digests."""

    code: str
    check: "Callable[[Fleet], Iterable[Finding]]"


class Member(Value, frozen=True, kw_only=True):
    """Somebody in a segment on this host. ``key``: the workload's WHERE, "" when it is no workload."""

    key: str
    name: str
    mac: str
    addresses: tuple[str, ...] = ()  # its alone; what several share (a service's, with a prefix of /32) is not here
    networks: tuple[str, ...] = ()
    mtu: int = 0
    given: tuple[str, ...] = ()  # those of its addresses that an engine gave it


class Entry(Value, frozen=True, kw_only=True):
    """A forwarding entry: frames for ``mac`` go to the tunnel end ``remote``."""

    mac: str
    remote: str
    learned: bool = False


class Segment(Value, frozen=True, kw_only=True):
    """One overlay network as one host has it: its tunnel device, who is in it here, where it believes the others."""

    at: Point
    kind: str
    vni: int
    port: int
    mtu: int
    name: str = ""  # as its engine calls it
    local: tuple[str, ...] = ()  # underlay addresses of this end
    members: tuple[Member, ...] = ()
    remotes: tuple[str, ...] = ()  # every far end it may send to
    networks: tuple[str, ...] = ()  # its members' subnets
    entries: tuple[Entry, ...] = ()
    resolved: tuple[tuple[str, str], ...] = ()  # (address, mac): neighbours an engine wrote down
    told: tuple[int, ...] = ()  # its engine's word for the number

    @property
    def title(self) -> str:
        """Its device; one that an engine hides goes by the network that it belongs to: "app/vxlan0"."""
        return f"{self.name}/{self.at.link}" if self.name else place_text(self.at)


class Uplink(Value, frozen=True, kw_only=True):
    """A device that leads out of the host, or a bridge with such a port. ``kind`` as the kernel has it."""

    at: Point
    mtu: int
    kind: str = ""
    addresses: tuple[str, ...] = ()  # with prefix: "192.0.2.7/24"
    mac: str = ""


class Tap(Value, frozen=True, kw_only=True):
    """The host's end of a virtual machine's cable. ``macs``: what the machine is known by; ``mac``: the tap's own."""

    at: Point
    mtu: int
    mac: str = ""
    macs: tuple[str, ...] = ()


class Digest(Value, frozen=True, kw_only=True):
    """What of one host is kept for comparison."""

    host: str
    boot_id: str
    kernel: str = ""
    uplinks: tuple[Uplink, ...] = ()
    segments: tuple[Segment, ...] = ()
    sizes: tuple[tuple[str, int, int], ...] = ()  # (engine's network, MTU of its members, how many)
    taps: tuple[Tap, ...] = ()
    taken: float | None = None  # seconds, on one clock for all digests of a fleet; None = not known

    @property
    def key(self) -> tuple[str, str]:
        """What tells hosts apart."""
        return self.boot_id, self.host


class Fleet:
    """Digests, each host once, and how to find things among them. One boot may be several hosts: nodes in containers of
    one machine (kind)."""

    def __init__(self, digests: Iterable[Digest]) -> None:
        self.digests = tuple({d.key: d for d in digests}.values())

    @lazy
    def ends(self) -> dict[str, Digest]:
        """Hosts by the addresses of their uplinks. One that several claim (172.17.0.1 …) belongs to nobody."""
        found: dict[str, Digest | None] = {}
        for d in self.digests:
            for u in d.uplinks:
                for address in u.addresses:
                    bare = address.partition("/")[0]
                    found[bare] = d if bare not in found or found[bare] is d else None
        return {k: v for k, v in found.items() if v is not None}

    @lazy
    def overlays(self) -> tuple[list[tuple[Digest, Segment]], ...]:
        """Segments that are one network: of the same kind, port and number, and one sends to the other. The same number
        alone says nothing (every cluster of flannel has the 1, every swarm begins with the 4097), nor do addresses
        below that two sites have."""
        alike: dict[tuple[str, int, int], list[tuple[Digest, Segment]]] = {}
        for d in self.digests:
            for s in d.segments:
                alike.setdefault((s.kind, s.port, s.vni), []).append((d, s))
        return tuple(part for ends in alike.values() for part in self._connected(ends))

    def _connected(self, ends: list[tuple[Digest, Segment]]) -> Iterator[list[tuple[Digest, Segment]]]:
        """``ends`` in parts that send to each other."""
        at: dict[str, list[int]] = {}
        for n, (_, s) in enumerate(ends):
            for address in s.local:
                at.setdefault(address, []).append(n)
        first = list(range(len(ends)))  # of each end, another of its part: by and by the first one

        def root(n: int) -> int:
            while first[n] != n:
                first[n] = first[first[n]]
                n = first[n]
            return n

        groups: dict[str, int] = {}
        for n, (_, s) in enumerate(ends):
            for remote in s.remotes:
                if is_multicast(remote):
                    other: int | None = groups.setdefault(remote, n)
                else:
                    there = at.get(remote, ())
                    named = self.ends.get(remote)
                    sure = there if len(there) == 1 else [k for k in there if ends[k][0] is named]
                    other = sure[0] if len(sure) == 1 else None
                if other is not None:
                    first[root(n)] = root(other)
        parts: dict[int, list[tuple[Digest, Segment]]] = {}
        for n, end in enumerate(ends):
            parts.setdefault(root(n), []).append(end)
        yield from parts.values()


def digest(machine: Machine) -> Digest:
    """What of ``machine`` is kept."""
    host = machine.host
    seats = {s.net.key: s for s in machine.seats if s.net is not None}
    sizes: dict[tuple[str, int], int] = {}
    for group in machine.groups:
        size = _mtu(group)
        for seat in group.seats:
            for name in seat.workload.networks:
                sizes[name, size] = sizes.get((name, size), 0) + 1
    nets = tuple(machine.network.nets.values())
    return Digest(
        host=host.host,
        boot_id=host.boot_id,
        kernel=host.kernel.release,
        uplinks=tuple(u for n in nets for u in _uplinks(machine, n)),
        segments=tuple(s for n in nets for s in _segments(machine, n, seats)),
        sizes=tuple((name, size, count) for (name, size), count in sizes.items()),
        taps=tuple(t for n in nets for t in _taps(n)),
        taken=host.taken,
    )


def _mtu(group: Group) -> int:
    return group.device.mtu if group.device else 0


def _uplinks(machine: Machine, net: Net) -> Iterator[Uplink]:
    out = {x.index for x in net.snap.links if _leads_out(machine, net, x)}
    bridges = {x.master for x in net.snap.links if x.index in out and x.master}
    for link in net.snap.links:
        if link.index in out or (link.index in bridges and link.kind == "bridge" and link.up):
            addresses = tuple(f"{a.address}/{a.prefix}" for a in net.on_link.get(link.index, ()) if a.scope == 0)
            yield Uplink(at=net.point(link.name), mtu=link.mtu, kind=link.kind, addresses=addresses, mac=link.mac)


def _leads_out(machine: Machine, net: Net, link: Link) -> bool:
    """A card, or what stands for one; a cable whose other end is not here (a lab host, a node in a container)."""
    if link.kind not in CARDS or link.loopback or not link.up:
        return False
    return link.kind != "veth" or machine.network.peer(net, link) is None


def _taps(net: Net) -> Iterator[Tap]:
    """Devices of kind "tun" that carry frames: the kernel calls a tap so as well (tun_setup)."""
    for link in net.snap.links:
        if link.kind == "tun" and link.arphrd == ETHER and link.up:
            yield Tap(at=net.point(link.name), mtu=link.mtu, mac=link.mac, macs=behind(net, link))


def _segments(machine: Machine, net: Net, seats: dict[str, Seat]) -> Iterator[Segment]:
    for link in net.snap.links:
        vx = link.vxlan
        if vx is None or vx.collect_metadata:
            continue
        home = machine.network.home(net, link)
        local = (vx.local,) if vx.local else tuple(_reachable(home)) if home else ()
        told = [x for x in net.snap.fdb if x.link == link.index and x.own and x.remote]
        entries = [x for x in told if x.mac != ZERO]
        members = tuple(_members(machine, net, link, seats))
        yield Segment(
            at=net.point(link.name),
            kind="vxlan",
            vni=vx.vni,
            port=vx.port,
            mtu=link.mtu,
            name=machine.overlays.get(net.snap.id, ""),
            local=tuple(local),
            members=members,
            remotes=tuple(dict.fromkeys([*([vx.remote] if vx.remote else []), *(x.remote or "" for x in told)]))[:MOST],
            networks=tuple(dict.fromkeys(n for m in members for n in m.networks)),
            entries=tuple(
                Entry(mac=x.mac, remote=x.remote or "", learned=x.state != "permanent") for x in entries[:MOST]
            ),
            told=tuple(v for e in machine.host.engines for x in e.networks if x.netns == net.snap.id for v in x.vnis),
            resolved=tuple((n.address, n.mac) for n in net.snap.neighbours if n.link == link.index and n.mac)[:MOST],
        )


def _reachable(net: Net) -> Iterator[str]:
    """Addresses that another host may send to."""
    return (a.address for a in net.snap.addresses if a.scope == 0 and not a.address.startswith(("127.", "fe80:")))


def _members(machine: Machine, net: Net, link: Link, seats: dict[str, Seat]) -> Iterator[Member]:
    """Who is plugged into the bridge that the tunnel is a port of; the namespace itself where it is none."""
    if not link.master:
        addresses, networks = _numbers(net, link)
        if link.mac and addresses:
            yield Member(
                key="", name=net.snap.where, mac=link.mac, addresses=addresses, networks=networks, mtu=link.mtu
            )
        return
    given = _given(machine)
    for n, port in enumerate(net.ports.get(link.master, ())):
        other = machine.network.peer(net, port) if port.kind == "veth" and n < MOST else None
        if other is None:
            continue
        there, device = other
        addresses, networks = _numbers(there, device)
        seat = seats.get(there.key)
        yield Member(
            key=seat.key if seat else "",
            name=seat.workload.name if seat else there.snap.where,
            mac=device.mac,
            addresses=addresses,
            networks=networks,
            mtu=device.mtu,
            given=tuple(a for a in addresses if (there.snap.id, a) in given),
        )


def _given(machine: Machine) -> set[tuple[str, str]]:
    """(namespace id, address): what engines say they gave."""
    containers = (c for e in machine.host.engines for c in e.containers)
    return {(c.netns, a.partition("/")[0]) for c in containers if c.netns for p in c.endpoints for a in p.addresses}


def owned(net: Net, link: Link) -> list[Address]:
    """Addresses of a device that are good for more than its link. One without a subnet is not its own where it has
    another with one: all members of a service have the service's as well."""
    here = [a for a in net.on_link.get(link.index, ()) if a.scope == 0]
    return [a for a in here if a.prefix not in (32, 128)] or here


def _numbers(net: Net, link: Link) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those, and the subnets they lie in."""
    here = owned(net, link)
    networks = (str(ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False)) for a in here)
    return tuple(a.address for a in here), tuple(dict.fromkeys(networks))
