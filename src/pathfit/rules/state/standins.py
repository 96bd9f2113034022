"""Which address stands for whom: a state rule asks about ways, and a way needs an address to lead to."""

import ipaddress
from collections.abc import Iterator

from pathfit.core.net import Family
from pathfit.core.snapshot import Route
from pathfit.model.network import Net, Network


def families(net: Net) -> tuple[Family, ...]:
    """Families it has an address of that is good for more than its own link."""
    found = {6 if ":" in a.address else 4 for a in net.snap.addresses if a.scope == 0 and not own_link(a.address)}
    return tuple(f for f in (4, 6) if f in found)


def nobody(network: Network, net: Net) -> str | None:
    """An address of its own subnet that nobody here has: whoever has it is at the far end of a tunnel."""
    for a in net.snap.addresses:
        if a.scope or own_link(a.address):
            continue
        subnet = ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False)
        for n in range(2, min(subnet.num_addresses - 1, 200)):
            if not network.owners(str(subnet[-n])):
                return str(subnet[-n])
    return None


def first(net: Net | None, family: Family) -> str | None:
    """Its first address of a family that others can send to."""
    for a in net.snap.addresses if net is not None else ():
        if a.scope == 0 and (":" in a.address) == (family == 6) and not own_link(a.address):
            return a.address
    return None


def neighbouring(net: Net, other: Net) -> Iterator[str]:
    """For each family, an address of ``other`` that lies in a subnet of ``net``'s own."""
    found: dict[bool, str] = {}
    ours = [a for a in net.snap.addresses if a.scope == 0 and not own_link(a.address)]
    subnets = [ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False) for a in ours]
    for a in other.snap.addresses:
        if a.scope == 0 and not own_link(a.address) and any(within(a.address, n) for n in subnets):
            found.setdefault(":" in a.address, a.address)
    yield from found.values()


def own_link(address: str) -> bool:
    """Is it good for its own link or host alone?"""
    return address.startswith(("127.", "169.254.", "fe80:")) or address == "::1"


def valid(dst: str) -> bool:
    """Is it an address? The default route has none."""
    try:
        ipaddress.ip_address(dst)
    except ValueError:
        return False
    return True


def within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """False for another family."""
    return ipaddress.ip_address(address) in network


def inside(net: Net, route: Route) -> str | None:
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
