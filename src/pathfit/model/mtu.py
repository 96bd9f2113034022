"""How large a packet a host sends towards somewhere, and how large ones it invites (bytes of IP packet, or of MSS).

Kernel: ip_dst_mtu_maybe_forward, ip6_dst_mtu_maybe_forward, ip6_finish_output, ipv4_default_advmss,
ip6_default_advmss.

* The host's own packets: a cached path MTU, else the route's ``mtu``, else the device's.
* Packets it forwards: a route's ``mtu`` counts. A cached path MTU counts in IPv4 only when it is locked or with
  ``ip_forward_use_pmtu``; in IPv6 always: ip6_forward() looks at the device and at locked routes alone, but
  ip6_finish_output() behind it at dst_mtu(), and answers "too big" as well.
"""

from typing import Literal, NamedTuple

from pathfit.core.net import IP_HEADER, TCP_HEADER, Family
from pathfit.core.snapshot import Link, NextHop, PmtuException
from pathfit.model.addr import family_of
from pathfit.model.lookup import Found, Query, lookup, source_address
from pathfit.model.network import Net

MAX_PACKET = 65535  # IP_MAX_MTU
LOCKED_BEHIND_GATEWAY = 576  # ip_dst_mtu_maybe_forward: `mtu lock` without a value
SMALLEST_V6 = 1280  # IPV6_MIN_MTU
MIN_ADVMSS_V4, MIN_ADVMSS_V6 = 256, 1220  # ip_rt_min_advmss, ip6_rt_min_advmss


class Mtu(NamedTuple):
    """``value`` bytes; ``kind`` says what set it: the device ("l3"), the "route", or a "cached" path MTU."""

    value: int
    kind: Literal["l3", "route", "cached"]
    locked: bool = False


def _cached(net: Net, family: Family, dst: str, hop: NextHop) -> PmtuException | None:
    for x in net.snap.exceptions:
        if x.dst == dst and x.family == family and (not x.link or x.link == hop.link):
            return x
    return None


def device_mtu(net: Net, link: Link, family: Family) -> int:
    """The device's MTU for a family (IPv6 has its own: idev->cnf.mtu6, lowered by router advertisements)."""
    if family == 4:
        return link.mtu
    own = net.snap.sysctls.get(f"ipv6.conf.{link.name}.mtu")
    return min(link.mtu, int(own)) if own and own.isdigit() else link.mtu


def route_mtu(net: Net, found: Found, hop: NextHop, dst: str, *, forwarding: bool) -> Mtu | None:
    """The MTU for packets to ``dst`` by this route; None when its device is not in the snapshot.

    MPLS labels that the route puts on take room of all of them (lwtunnel_headroom in ipv4_mtu, ip6_mtu).
    """
    mtu = _without_labels(net, found, hop, dst, forwarding)
    return Mtu(mtu.value - 4 * hop.labels, "route", mtu.locked) if mtu and hop.labels else mtu


def _without_labels(net: Net, found: Found, hop: NextHop, dst: str, forwarding: bool) -> Mtu | None:
    link = net.links.get(hop.link)
    if link is None:
        return None
    family = family_of(dst)
    route = found.route
    locked = bool(route and route.mtu_lock)
    raw = route.mtu if route else None
    device = device_mtu(net, link, family)
    exception = _cached(net, family, dst, hop) if net.snap.exceptions else None
    if exception and (exception.locked or _uses_cached(net, family, locked, forwarding)):
        return Mtu(min(exception.mtu, MAX_PACKET), "cached", exception.locked)
    if raw and family == 6 and forwarding and not locked and device < raw:
        return Mtu(device, "l3")
    if raw:
        return Mtu(min(raw, MAX_PACKET), "route", locked)
    if locked and family == 4 and hop.via:
        return Mtu(min(device, LOCKED_BEHIND_GATEWAY), "route", True)
    return Mtu(min(device, MAX_PACKET), "l3")


def _uses_cached(net: Net, family: Family, locked: bool, forwarding: bool) -> bool:
    return not forwarding or locked or family == 6 or net.sysctl("ipv4.ip_forward_use_pmtu") != 0


def path_mtu(net: Net, found: Found | None, src: str, dst: str) -> int | None:
    """What a clamp "to path MTU" takes: the smaller of the route on and the route back (nft_rt_get_eval, tcpmss).

    The way back is looked up by its destination alone (get_tcpmss, tcpmss_reverse_mtu); where there is none, only the
    way on counts. None: not known.
    """
    back = lookup(net, Query(src))
    ways = [(found, dst), (back, src)] if back.hops else [(found, dst)]
    if found is None or not found.hops or back.kind == "unknown":
        return None
    sizes = [route_mtu(net, way, way.hops[0], to, forwarding=False) for way, to in ways if way is not None]
    known = [x.value for x in sizes if x is not None]
    return min(known) if len(known) == len(ways) else None


def advertised(net: Net, dst: str, *, src: str = "", mark: int = 0) -> int | None:
    """The MSS the SYN of this namespace to ``dst`` promises (dst_metric_advmss); None: no route, or unknown.

    A route's ``advmss`` counts as it is; else MTU − 40 (IPv6: − 60), not below min_adv_mss, not above 65495.
    TCP_MAXSEG of a socket can lower it further.
    """
    found = lookup(net, Query(dst=dst, src=src, mark=mark))
    if not found.hops:
        return None
    return promised(net, found, found.hops[0], dst)


def promised(net: Net, found: Found, hop: NextHop, dst: str) -> int | None:
    """:func:`advertised` for a route that is already known."""
    if found.route and found.route.advmss:
        return found.route.advmss
    mtu = route_mtu(net, found, hop, dst, forwarding=False)
    if mtu is None:
        return None
    family = family_of(dst)
    if family == 6:
        value = max(mtu.value - IP_HEADER[6] - TCP_HEADER, net.sysctl("ipv6.route.min_adv_mss", MIN_ADVMSS_V6))
        return min(value, MAX_PACKET - TCP_HEADER)
    value = max(mtu.value - IP_HEADER[4] - TCP_HEADER, net.sysctl("ipv4.route.min_adv_mss", MIN_ADVMSS_V4))
    return min(value, MAX_PACKET - IP_HEADER[4] - TCP_HEADER)


def own_mtu(net: Net, dst: str, *, src: str = "") -> Mtu | None:
    """How large a packet this namespace itself sends to ``dst``; None: no route, or unknown."""
    found = lookup(net, Query(dst=dst, src=src))
    return route_mtu(net, found, found.hops[0], dst, forwarding=False) if found.hops else None


def accepts_source(net: Net, link: Link, src: str, dst: str, mark: int = 0) -> str | None:
    """Would this namespace take a packet from ``src`` that comes in by ``link`` (fib_validate_source)?

    None: yes. Otherwise what refuses it: "rp_filter strict", "rp_filter loose", "martian source". IPv4 only: IPv6
    has no such check in routing.
    """
    if ":" in src or link.loopback:
        return None
    if src in net.addresses:
        allowed = net.sysctl("ipv4.conf.all.accept_local") or net.per_link("ipv4", link, "accept_local")
        return None if allowed else "martian source"
    mode = max(net.sysctl("ipv4.conf.all.rp_filter"), net.per_link("ipv4", link, "rp_filter"))
    if mode == 0:
        return None
    all_mark, own_mark = net.sysctl("ipv4.conf.all.src_valid_mark"), net.per_link("ipv4", link, "src_valid_mark")
    back = _way_back(net, src, dst, mark if all_mark or own_mark else 0)
    if back.kind == "unknown":
        return None
    name = "rp_filter strict" if mode == 1 else "rp_filter loose"
    if back.kind != "unicast":
        return name
    return name if mode == 1 and not _uses(back, link) else None


def comes_back_by(net: Net, link: Link, src: str, dst: str, mark: int = 0) -> bool | None:
    """Would a packet to ``src`` leave by ``link`` (`fib saddr . iif oif`, `-m rpfilter`)? None: not known."""
    back = _way_back(net, src, dst, mark)
    return None if back.kind == "unknown" else back.kind == "unicast" and _uses(back, link)


def _way_back(net: Net, src: str, dst: str, mark: int) -> Found:
    return lookup(net, Query(dst=src, src=dst, iif=net.loopback, mark=mark))


def _uses(found: Found, link: Link) -> bool:
    return any(hop.link == link.index for hop in (found.route.hops if found.route else ()))


__all__ = [
    "Mtu",
    "accepts_source",
    "advertised",
    "device_mtu",
    "own_mtu",
    "path_mtu",
    "promised",
    "route_mtu",
    "source_address",
]
