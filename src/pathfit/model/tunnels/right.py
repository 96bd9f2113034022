"""The MTU a tunnel device should have: what is underneath carries less what the tunnel takes, tunnels in tunnels too.

:func:`right_mtu` looks at what the device's own host knows: its routes to the remote ends, cached path MTUs, the
devices they use. A router further away that carries less is the walk's to find (a :class:`~pathfit.core.path.Limit`);
this is the number to write into the device.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pathfit.core.net import Family, Point
from pathfit.core.snapshot import Link, Wireguard
from pathfit.model.addr import family_of, is_multicast
from pathfit.model.frame import TAG
from pathfit.model.l2 import macsec
from pathfit.model.lookup import Query, lookup
from pathfit.model.mtu import route_mtu
from pathfit.model.network import STACKED, TUNNELS, Net, Network
from pathfit.model.tunnels.outers import layer_of
from pathfit.model.tunnels.overhead import Layer, header, inner

MAX_DEPTH = 6  # devices on devices
FRAMES = frozenset({"vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "l2tp"})  # a tag takes room there


class Misfit(NamedTuple):
    """A device that accepts what does not fit. ``right``: the MTU it should have; ``overhead``: bytes it takes."""

    at: Point
    kind: str
    mtu: int
    right: int
    overhead: int


class _End(NamedTuple):
    """A remote end: how packets for it are wrapped, and where they leave."""

    layer: Layer
    remote: str
    local: str = ""
    oif: int = 0
    mark: int = 0


def misfits(network: Network) -> Iterator[Misfit]:
    """Every device, in whatever namespace, whose MTU is above what its underlay carries."""
    for net in network.nets.values():
        for link in net.snap.links:
            if link.up and (link.vxlan or link.kind in TUNNELS or link.kind in STACKED):
                right = right_mtu(network, net, link)
                if right is not None and link.mtu > right:
                    yield Misfit(net.point(link.name), link.kind, link.mtu, right, _overhead(net, link))


def right_mtu(network: Network, net: Net, link: Link) -> int | None:
    """The largest MTU with which everything the device accepts is carried whole, as far as its own host knows.

    None: it is no device on top of another, or where its packets go cannot be seen.
    """
    return _right(network, net, link, 0)


def _right(network: Network, net: Net, link: Link, depth: int) -> int | None:
    if depth > MAX_DEPTH:
        return None
    if link.kind in STACKED:
        return _on_top(network, net, link, depth)
    base = network.home(net, link)
    if base is None:
        return None
    found = _ends(net, link)
    if not found and link.vxlan and link.vxlan.lower in base.links:
        family: Family = 6 if link.vxlan.remote and ":" in link.vxlan.remote else 4
        room = _carries(network, base, base.links[link.vxlan.lower], depth)
        return None if room is None else inner(Layer("vxlan", family), room)
    rooms = [(x, _room(network, base, x, depth)) for x in found]
    sizes = [inner(x.layer, room) for x, room in rooms if room is not None]
    return min(sizes) if sizes and len(sizes) == len(rooms) else None


def _on_top(network: Network, net: Net, link: Link, depth: int) -> int | None:
    lower = network.peer(net, link)
    room = _carries(network, *lower, depth) if lower else None
    if lower is None or room is None:
        return None
    if link.kind == "macsec":
        return room - macsec(link)
    return room - TAG if link.kind == "vlan" and _in_frames(network, *lower) else room


def _in_frames(network: Network, net: Net, link: Link) -> bool:
    """Does what is tagged on this device go into a tunnel that carries frames?"""
    for _ in range(MAX_DEPTH):
        if link.kind in FRAMES:
            return True
        lower = network.peer(net, link) if link.kind in STACKED else None
        if lower is None:
            return False
        net, link = lower
    return False


def _carries(network: Network, net: Net, link: Link, depth: int) -> int | None:
    """What a device carries: its MTU, or less when that is not right."""
    if not (link.vxlan or link.kind in TUNNELS or link.kind in STACKED):
        return link.mtu
    right = _right(network, net, link, depth + 1)
    return link.mtu if right is None else min(link.mtu, right)


def _room(network: Network, base: Net, end: _End, depth: int) -> int | None:
    """The largest outer packet this host sends to a remote end whole, on the worst of its ways there."""
    found = lookup(base, Query(dst=end.remote, src=end.local, oif=end.oif, mark=end.mark))
    sizes = []
    for hop in found.hops:
        mtu, device = route_mtu(base, found, hop, end.remote, forwarding=False), base.links.get(hop.link)
        if mtu is None or device is None:
            return None
        under = _carries(network, base, device, depth)
        sizes.append(mtu.value if under is None else min(mtu.value, under))
    return min(sizes, default=None)


def _ends(net: Net, link: Link) -> list[_End]:
    if link.vxlan:
        return _vteps(net, link)
    if link.kind == "wireguard":
        wg = link.wireguard or Wireguard()
        ends = [x.endpoint for x in wg.peers if x.endpoint]
        return [_End(Layer("wireguard", family_of(x)), x, mark=wg.mark) for x in ends]
    remote, local = str(link.info.get("remote", "") or ""), str(link.info.get("local", "") or "")
    layer = layer_of(link, family_of(remote)) if remote and not is_multicast(remote) else None
    if layer is None or link.info.get("collect_metadata"):
        return []
    return [_End(layer, remote, local, link.peer if link.peer_nsid is None else 0)]


def _vteps(net: Net, link: Link) -> list[_End]:
    vx = link.vxlan
    assert vx is not None
    if vx.collect_metadata:
        return []
    remotes = {str(e.remote) for (index, _), them in net.destinations.items() if index == link.index for e in them}
    remotes |= {vx.remote} if vx.remote else set()
    options = {"gpe": 1} if vx.gpe else {}
    return [
        _End(Layer("vxlan", family_of(x), options), x, vx.local or "" if _alike(vx.local, x) else "", vx.lower)
        for x in sorted(remotes)
        if not is_multicast(x)
    ]


def _alike(local: str | None, remote: str) -> bool:
    return bool(local) and family_of(local or "") == family_of(remote)


def _overhead(net: Net, link: Link) -> int:
    """Bytes this device takes of each packet, at least; the most of its remote ends."""
    if link.kind == "macsec":
        return macsec(link)
    return max((header(x.layer) for x in _ends(net, link)), default=0)


__all__ = ["Misfit", "misfits", "right_mtu"]
