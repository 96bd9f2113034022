"""The same hosts with an MTU changed: what a review asks before anybody types `ip link set`.

Only what the kernel does at once is done here: the device itself, its MTU for IPv6 (addrconf_notify), and devices that
lie on it and may not be larger (vlan_device_event, macvlan_device_event, ipvlan_adjust_mtu). The other half of a veth,
a bridge and what an engine would do later stay as they are.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from pathfit.core.base import Value
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot, Route
from pathfit.model.network import STACKED, Net, Network

SMALLEST, LARGEST = 68, 65536  # bytes: ETH_MIN_MTU; loopback's own


class Setting(Value, frozen=True, kw_only=True):
    """``WHERE/LINK.mtu=N`` or ``WHERE/route:DST.mtu=N``. ``route`` "default" or a prefix as `ip route` prints it."""

    text: str
    where: str
    mtu: int
    link: str = ""
    route: str = ""


class Unchanged(ValueError):
    """There is nothing of that name to be changed; the message says what there is."""


def changed(hosts: Sequence[HostSnapshot], network: Network, at: Net, setting: Setting) -> tuple[HostSnapshot, ...]:
    """``hosts`` (those ``network`` was made of) with the setting in force in ``at``. Raises Unchanged."""
    if setting.route:
        new = {at.snap.id: _with_route(at.snap, setting)}
    else:
        if setting.link not in at.names:
            have = ", ".join(x.name for x in at.snap.links[:8])
            raise Unchanged(f"{at.snap.where} has no device {setting.link} (it has {have})")
        new = _with_link(network, at, at.names[setting.link], setting.mtu)
    return tuple(
        replace(h, namespaces=tuple(new.get(n.id, n) for n in h.namespaces)) if network.label(h) == at.host else h
        for h in hosts
    )


def _with_link(network: Network, at: Net, link: Link, mtu: int) -> dict[str, NetnsSnapshot]:
    """The namespaces that change, by id: that of the device, and those of devices that lie on it."""
    sizes: dict[tuple[str, int], int] = {}
    todo = [(at, link, mtu)]
    while todo:
        net, one, size = todo.pop()
        if (net.key, one.index) in sizes:
            continue  # a loop that no kernel allows
        sizes[net.key, one.index] = size
        todo += [(n, x, size) for n, x in network.stacked_on(net, one) if x.kind in STACKED and x.mtu > size]
    nets = {key for key, _ in sizes}
    return {network.nets[k].snap.id: _resized(network.nets[k].snap, k, sizes) for k in nets}


def _resized(snap: NetnsSnapshot, key: str, sizes: dict[tuple[str, int], int]) -> NetnsSnapshot:
    links, sysctls = [], dict(snap.sysctls)
    for x in snap.links:
        size = sizes.get((key, x.index))
        links.append(x if size is None else replace(x, mtu=size))
        if size is not None and f"ipv6.conf.{x.name}.mtu" in sysctls:
            sysctls[f"ipv6.conf.{x.name}.mtu"] = str(size)
    return replace(snap, links=tuple(links), sysctls=sysctls)


def _with_route(snap: NetnsSnapshot, setting: Setting) -> NetnsSnapshot:
    routes = tuple(replace(r, mtu=setting.mtu) if _called(r, setting.route) else r for r in snap.routes)
    if routes == snap.routes and not any(_called(r, setting.route) for r in snap.routes):
        have = ", ".join(dict.fromkeys(_name(r) for r in snap.routes if r.type == "unicast" and r.table == MAIN))
        raise Unchanged(f"{snap.where} has no route {setting.route} (it has {have or 'none'})")
    return replace(snap, routes=routes)


MAIN = 254  # RT_TABLE_MAIN


def _called(route: Route, text: str) -> bool:
    return route.type == "unicast" and route.table == MAIN and text in (_name(route), f"{route.dst}/{route.prefix}")


def _name(route: Route) -> str:
    if route.prefix == 0:
        return "default"
    whole = 32 if route.family == 4 else 128
    return route.dst if route.prefix == whole else f"{route.dst}/{route.prefix}"
