"""From one host to another: where does a frame that leaves by a physical device come in?

The wire between two hosts is in no snapshot, so that the answer rests on what both of them say of themselves, and is
given only where exactly one host fits:

* *the same segment*: the frame's MAC address is a device of the other host, or the next hop is an address on a device
  of it that faces outside, in a subnet both share, and nothing the two know of their neighbours speaks against it;
* *routed*: the next hop is a router we do not see, and the destination (a VTEP, a host) is an address of one host
  alone, on a device that faces outside.

An address on a device that faces inward (docker0 and the containers behind it, the same 172.17.0.0/16 everywhere)
never joins two hosts, nor does one that several hosts have. What the wire carries stays unknown: whoever walks across
it notes a :class:`~pathfit.model.packet.Gap`.
"""

from typing import NamedTuple

from pathfit.core.snapshot import Address, Link
from pathfit.model.addr import is_global, is_link_local, within
from pathfit.model.network import AGGREGATES, STACKED, Net, Network
from pathfit.model.packet import Packet

MOST_LAYERS = 4  # bridge over bond over vlan …: deeper is no network that anybody built
BROADCAST = "ff:ff:ff:ff:ff:ff"
USELESS = frozenset({"failed", "incomplete", "none"})  # states of a neighbour entry that say nothing of its MAC


class Landing(NamedTuple):
    """Where it comes in: ``link`` of ``net``, for the station ``mac`` (None: whoever answers)."""

    net: Net
    link: Link
    mac: str | None


def across(network: Network, net: Net, link: Link, packet: Packet, dmac: str | None, want: str) -> Landing | str:
    """Where a frame for ``dmac`` (None: not known) comes in that leaves ``net`` by its physical ``link``, on its way to
    the next hop ``want``. Otherwise why no host of ours can be named, "" when nothing hints at one."""
    near = _near(network, net, link, dmac, want)
    if near or want == packet.dst:
        return near
    return _routed(network, net, packet)


class _Claim(NamedTuple):
    """A host that has the address: on ``link``, reached from outside by ``door``."""

    net: Net
    link: Link
    address: Address
    door: tuple[Net, Link]


def _claims(network: Network, net: Net, address: str) -> list[_Claim]:
    """Other hosts that have the address on a device that faces outside."""
    found = []
    for owner, a in network.owners(address):
        link = owner.links.get(a.link)
        if owner.host == net.host or link is None or link.loopback:
            continue
        door = entrance(network, owner, link)
        if door is not None:
            found.append(_Claim(owner, link, a, door))
    return found


def _near(network: Network, net: Net, link: Link, dmac: str | None, want: str) -> Landing | str:
    """On the same segment."""
    claims = [c for c in _claims(network, net, want) if not is_link_local(want)]
    if dmac is not None and dmac != BROADCAST:
        stations = [x for x in network.stations(dmac) if x[0].host != net.host]
        hosts = {far.host for far, _ in stations}
        named = [c for c in claims if c.net.host in hosts]
        if claims and not named:
            return ""  # the neighbour with that address is another machine
        if named:
            return _only(named, want, dmac)
        doors = {far.host: door for far, x in stations if (door := entrance(network, far, x)) is not None}
        return Landing(*next(iter(doors.values())), dmac) if len(doors) == len(hosts) == 1 else ""
    sharing = [c for c in claims if _shares_subnet(network, net, c) and _agree(net, c)]
    return _only(sharing, want, None) if sharing else ""


def _routed(network: Network, net: Net, packet: Packet) -> Landing | str:
    """Behind routers that nobody read."""
    claims = _claims(network, net, packet.dst)
    if not claims or is_link_local(packet.dst):
        return ""
    if is_global(packet.dst) and packet.src and not is_global(packet.src):
        return f"somebody between translates {packet.src}, or it would not come back from {packet.dst}"
    return _only(claims, packet.dst, None)


def _only(claims: list[_Claim], address: str, mac: str | None) -> Landing | str:
    hosts = list(dict.fromkeys(c.net.host for c in claims))
    if len(hosts) > 1:
        return f"{len(hosts)} hosts have the address {address}: {', '.join(hosts[:3])}"
    one = claims[0]
    return Landing(*one.door, mac or one.link.mac or None)


def _shares_subnet(network: Network, net: Net, claim: _Claim) -> bool:
    """Has the sender's host an address in the subnet of the claimed one?"""
    a = claim.address
    return any(within(x.address, a.address, a.prefix) for x in network.addresses_of(net.host) if x.address != a.address)


def _agree(net: Net, claim: _Claim) -> bool:
    """Do both know the same stations? The same subnet at two places has gateways with different MAC addresses."""
    mine = {x.address: x.mac for x in net.snap.neighbours if x.mac and x.state not in USELESS}
    theirs = {x.address: x.mac for x in claim.net.snap.neighbours if x.mac and x.state not in USELESS}
    a = claim.address
    both = [x for x in mine.keys() & theirs.keys() if within(x, a.address, a.prefix)]
    return not both or any(mine[x] == theirs[x] for x in both)


def entrance(network: Network, net: Net, link: Link, depth: int = 0) -> tuple[Net, Link] | None:
    """The device by which frames from outside the host come to ``link``; None when none is seen to lead there.

    A VLAN or macvlan device is its own entrance: which tag or station the wire wants is not known, nor needed.
    """
    if depth >= MOST_LAYERS or link.loopback:
        return None
    if not link.kind:
        return net, link
    if link.kind in STACKED:
        lower = network.peer(net, link)
        inside = lower is None or lower[1] is link or entrance(network, *lower, depth + 1) is None
        return None if inside else (net, link)
    if link.kind == "bridge" or link.kind in AGGREGATES:
        return _by_ports(network, net, link, depth)
    if link.kind == "veth":
        other = network.peer(net, link)
        if other is None:
            return net, link  # a lab host, a node in a container: its cable leads to where nothing was read
        bridge = other[0].links.get(other[1].master) if other[1].master else None
        return _by_ports(network, other[0], bridge, depth) if bridge and bridge.kind == "bridge" else None
    return None


def _by_ports(network: Network, net: Net, master: Link, depth: int) -> tuple[Net, Link] | None:
    doors = [
        door
        for port in net.ports.get(master.index, ())
        if port.kind != "veth" and (door := entrance(network, net, port, depth + 1)) is not None
    ]
    return next((d for d in doors if d[1].up and d[1].carrier), doors[0] if doors else None)
