"""Messages that change links, addresses, routes and neighbours, made from the kernel's own dumps.

What the kernel dumped (RTM_NEWROUTE, RTM_NEWADDR, RTM_NEWNEIGH) is what it takes: put back byte for byte, nothing that
iproute2 or we do not know is lost. Only a few attributes are told and not heard; they are left out here:

* a route's RTA_CACHEINFO (counters; what is left of its life becomes RTA_EXPIRES), its flags but ONLINK
  (fib_create_info() refuses DEAD and LINKDOWN), and, where it stands for a next hop object, the copy of its way;
* a metric's internal bits (RTAX_FEATURES above RTAX_FEATURE_MASK).

A *body* is what stands behind the netlink header. Numbers: include/uapi/linux/rtnetlink.h, if_addr.h, if_link.h.
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from pathfit.core.net import mss_of
from pathfit.wire.addresses import FAMILY
from pathfit.wire.netlink import Malformed, attribute, attributes, every, fixed, inner, request, u32
from pathfit.wire.rtnl import GETNEIGH

SETLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWNEIGH = 19, 20, 21, 24, 25, 28
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800  # NLM_F_*

_IFINFO = Struct("=BxHiII")
_RTMSG = Struct("=8BI")
_IFADDR = Struct("=4BI")
_NDMSG = Struct("=BxxxiHBB")
_U32 = Struct("=I")
_NEXTHOP = Struct("=HxxI")  # struct rtnexthop: length, flags, hops, ifindex
_CACHEINFO = Struct("=IIiIIIII")  # struct rta_cacheinfo: clntref, lastuse, expires, error, used, id, ts, tsage
_LIVES = Struct("=IIII")  # struct ifa_cacheinfo: preferred, valid (seconds), created, updated (hundredths)

_IFLA_MTU = 4
_DST, _SRC, _OIF, _GATEWAY, _PRIORITY, _METRICS, _MULTIPATH = 1, 2, 4, 5, 6, 8, 9
_RTA_CACHEINFO, _TABLE, _VIA, _PAD, _EXPIRES, _NH_ID = 12, 15, 18, 19, 23, 30
_RTAX_LOCK, _RTAX_MTU, _RTAX_ADVMSS, _RTAX_FEATURES = 1, 2, 8, 12
_FEATURES = 0x7FFFFFFF  # without DST_FEATURE_ECN_CA (bit 31), which the kernel sets itself
_ONLINK, _CLONED = 4, 0x200
USER_HZ = 100

_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
TEMPORARY, NODAD, DADFAILED, PERMANENT_ADDRESS, TENTATIVE, OPTIMISTIC = 0x01, 0x02, 0x08, 0x80, 0x40, 0x04
_STATUS = TENTATIVE | DADFAILED | PERMANENT_ADDRESS | OPTIMISTIC | 0x20  # 0x20: DEPRECATED. What the kernel finds out
FOREVER = 0xFFFFFFFF  # seconds: INFINITY_LIFE_TIME

_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_SELF, _NTF_PROXY, _PERMANENT = 0x02, 0x08, 0x80
_BRIDGE = 7  # AF_BRIDGE

Parts = list[tuple[int, bytes]]


def link_mtu(index: int, mtu: int) -> bytes:
    """Body of RTM_SETLINK: the MTU of a device."""
    return _IFINFO.pack(0, 0, index, 0, 0) + attribute(_IFLA_MTU, _U32.pack(mtu))


class RouteKey(NamedTuple):
    """What tells routes apart: the kernel holds at most one of each but for IPv4 routes that were appended."""

    family: int
    table: int
    dst: bytes
    dst_len: int
    src: bytes
    src_len: int
    tos: int
    metric: int
    link: int
    gateway: bytes
    kind: int


def route_key(body: bytes) -> RouteKey:
    """Raises Malformed."""
    family, dst_len, src_len, tos, table, _, _, kind, _ = fixed(_RTMSG, body, 0, len(body))
    found = attributes(body, _RTMSG.size, len(body))
    return RouteKey(
        family=family,
        table=u32(found, _TABLE, table),
        dst=found.get(_DST, b"") if dst_len else b"",
        dst_len=dst_len,
        src=found.get(_SRC, b"") if src_len else b"",
        src_len=src_len,
        tos=tos,
        metric=u32(found, _PRIORITY),
        link=u32(found, _OIF),
        gateway=found.get(_GATEWAY, b"") or found.get(_VIA, b""),
        kind=kind,
    )


def multipath(body: bytes) -> bool:
    """Has the route several ways?"""
    return _MULTIPATH in attributes(body, _RTMSG.size, len(body))


def of_object(body: bytes) -> bool:
    """Do the route's ways stand in a next hop object (`ip nexthop`)?"""
    return _NH_ID in attributes(body, _RTMSG.size, len(body))


def links_of(body: bytes) -> frozenset[int]:
    """Every ifindex a route leaves through. Raises Malformed."""
    found = attributes(body, _RTMSG.size, len(body))
    several, links, at = found.get(_MULTIPATH, b""), set(), 0
    if _OIF in found:
        links.add(u32(found, _OIF))
    while len(several) - at >= _NEXTHOP.size:
        length, link = _NEXTHOP.unpack_from(several, at)
        if length < _NEXTHOP.size:
            raise Malformed(f"next hop of {length} bytes")
        links.add(link)
        at += (length + 3) & ~3
    return frozenset(links)


def cached(body: bytes) -> bool:
    """Is it a path MTU exception (RTM_F_CLONED), not a route? Raises Malformed."""
    return bool(fixed(_RTMSG, body, 0, len(body))[8] & _CLONED)


def expires(body: bytes) -> float | None:
    """Seconds until the route ends by itself (IPv6, router advertisements); None: never."""
    raw = attributes(body, _RTMSG.size, len(body)).get(_RTA_CACHEINFO, b"")
    ticks = _CACHEINFO.unpack_from(raw)[2] if len(raw) >= _CACHEINFO.size else 0
    return ticks / USER_HZ if ticks else None


def route(body: bytes) -> bytes:
    """A dumped route as the kernel takes it. Raises Malformed."""
    head = list(fixed(_RTMSG, body, 0, len(body)))
    head[8] &= _ONLINK
    parts = every(body, _RTMSG.size, len(body))
    unheard = {_RTA_CACHEINFO, _PAD}
    if any(kind == _NH_ID for kind, _ in parts):
        unheard |= {_OIF, _GATEWAY, _VIA, _MULTIPATH}
    kept = [(k, _metrics(every(v, 0, len(v))) if k == _METRICS else v) for k, v in parts if k not in unheard]
    left = expires(body)
    if left is not None and left > 0:
        kept.append((_EXPIRES, _U32.pack(max(1, int(left)))))
    return _RTMSG.pack(*head) + _joined(kept)


def with_mtu(body: bytes, mtu: int) -> bytes:
    """The same route with RTAX_MTU ``mtu``, as the kernel takes it; a lock stays a lock. Raises Malformed."""
    clean = route(body)
    parts = every(clean, _RTMSG.size, len(clean))
    metrics = next((every(v, 0, len(v)) for k, v in parts if k == _METRICS), [])
    metrics = [(k, v) for k, v in metrics if k != _RTAX_MTU] + [(_RTAX_MTU, _U32.pack(mtu))]
    kept = [(k, v) for k, v in parts if k != _METRICS]
    return clean[: _RTMSG.size] + _joined([*kept, (_METRICS, _metrics(sorted(metrics)))])


def bounded(body: bytes, mtu: int) -> bytes:
    """:func:`with_mtu`, and an RTAX_ADVMSS that would still invite larger packets comes down to fit.

    dst_metric_advmss() takes the route's own figure before it looks at any MTU. Raises Malformed.
    """
    clean = with_mtu(body, mtu)
    parts = every(clean, _RTMSG.size, len(clean))
    most = mss_of(FAMILY.get(clean[0], 4), mtu)
    return clean[: _RTMSG.size] + _joined((k, _metrics(_invites(v, most)) if k == _METRICS else v) for k, v in parts)


def _invites(metrics: bytes, most: int) -> Parts:
    parts = every(metrics, 0, len(metrics))
    return [(k, _U32.pack(min(u32({k: v}, k), most)) if k == _RTAX_ADVMSS else v) for k, v in parts]


def route_mtu(body: bytes) -> int:
    """RTAX_MTU, 0 when it has none."""
    found = attributes(body, _RTMSG.size, len(body))
    return u32(inner(found[_METRICS]), _RTAX_MTU) if _METRICS in found else 0


def same_route(a: bytes, b: bytes) -> bool:
    """Are they equal but for the order of attributes and what the kernel does not take?"""
    return _comparable(a) == _comparable(b)


def same_but_mtu(a: bytes, b: bytes) -> bool:
    return same_route(with_mtu(a, 1), with_mtu(b, 1))


def _comparable(body: bytes) -> tuple[bytes, dict[int, bytes], dict[int, bytes]]:
    clean = route(body)
    found = attributes(clean, _RTMSG.size, len(clean))
    found.pop(_EXPIRES, None)
    metrics = inner(found.pop(_METRICS, b""))
    head = bytearray(clean[: _RTMSG.size])
    table = u32(found, _TABLE, head[4])
    head[4] = 0  # rtm_table: the low byte, or RT_TABLE_COMPAT; RTA_TABLE counts
    return bytes(head), {**found, _TABLE: _U32.pack(table)}, metrics


def _metrics(parts: Parts) -> bytes:
    clean = [(k, _U32.pack(u32({0: v}, 0) & _FEATURES) if k == _RTAX_FEATURES else v) for k, v in parts]
    return _joined(clean)


def _joined(parts: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(attribute(k, v) for k, v in parts)


# --- addresses -------------------------------------------------------------------------------------------------------


class AddressKey(NamedTuple):
    """An address on a device."""

    family: int
    link: int
    prefix: int
    local: bytes
    other: bytes  # IFA_ADDRESS: the same, the peer's, or b""


def address_key(body: bytes) -> AddressKey:
    """Raises Malformed."""
    family, prefix, _, _, link = fixed(_IFADDR, body, 0, len(body))
    found = attributes(body, _IFADDR.size, len(body))
    other = found.get(_IFA_ADDRESS, b"")
    return AddressKey(family, link, prefix, found.get(_IFA_LOCAL, other), other)


def address_flags(body: bytes) -> int:
    """IFA_F_*. Raises Malformed."""
    return u32(attributes(body, _IFADDR.size, len(body)), _IFA_FLAGS, fixed(_IFADDR, body, 0, len(body))[2])


def address(body: bytes, *, extra: int = 0, elapsed: float = 0.0) -> bytes:
    """A dumped address as the kernel takes it, with ``extra`` flags; ``elapsed`` seconds are off its lifetimes."""
    head = list(fixed(_IFADDR, body, 0, len(body)))
    flags = (address_flags(body) & ~_STATUS) | extra
    head[2] = flags & 0xFF
    kept: Parts = []
    for kind, value in every(body, _IFADDR.size, len(body)):
        if kind == _IFA_CACHEINFO and len(value) >= _LIVES.size:
            preferred, valid, *_ = _LIVES.unpack_from(value)
            value = _LIVES.pack(_left(preferred, elapsed, 0), _left(valid, elapsed, 1), 0, 0)
        if kind != _IFA_FLAGS:
            kept.append((kind, value))
    return _IFADDR.pack(*head) + _joined([*kept, (_IFA_FLAGS, _U32.pack(flags))])


def address_settings(body: bytes) -> tuple[int, dict[int, bytes]]:
    """What was configured of an address: flags and attributes without what the kernel finds out and lifetimes."""
    found = attributes(body, _IFADDR.size, len(body))
    kept = {k: v for k, v in found.items() if k not in (_IFA_CACHEINFO, _IFA_FLAGS)}
    return address_flags(body) & ~_STATUS, kept


def _left(seconds: int, elapsed: float, least: int) -> int:
    return seconds if seconds == FOREVER else max(least, int(seconds - elapsed))


# --- neighbours ------------------------------------------------------------------------------------------------------


def neighbours(*, proxies: bool = False) -> bytes:
    """Request: all neighbours, or those we answer for (proxies), which are dumped apart."""
    return request(GETNEIGH, _NDMSG.pack(0, 0, 0, _NTF_PROXY if proxies else 0, 0))


def by_hand(body: bytes) -> bool:
    """Was this neighbour entered by somebody (permanent, or a proxy), so that it must be put back?"""
    _, _, state, flags, _ = fixed(_NDMSG, body, 0, len(body))
    return bool(state & _PERMANENT or flags & _NTF_PROXY)


def neighbour_key(body: bytes) -> tuple[int, int, bool, bytes]:
    """(family, ifindex, proxy, address). Raises Malformed."""
    family, link, _, flags, _ = fixed(_NDMSG, body, 0, len(body))
    return family, link, bool(flags & _NTF_PROXY), attributes(body, _NDMSG.size, len(body)).get(_NDA_DST, b"")


def neighbour(body: bytes) -> bytes:
    """A dumped neighbour as the kernel takes it: without cache info (3), probes (4) and padding. Raises Malformed."""
    head = fixed(_NDMSG, body, 0, len(body))
    kept = [(k, v) for k, v in every(body, _NDMSG.size, len(body)) if k in (_NDA_DST, 2, 5, 6, 7, 8, 12, 15)]
    return _NDMSG.pack(*head) + _joined(kept)


class Forwarding(NamedTuple):
    """What tells entries of a device's own forwarding table apart, and where this one leads (network byte order)."""

    link: int
    mac: bytes
    remote: bytes


def forwarding(body: bytes) -> Forwarding | None:
    """Of an entry in a device's own table (NTF_SELF) with a far end; None for others. Raises Malformed."""
    family, link, _, flags, _ = fixed(_NDMSG, body, 0, len(body))
    found = attributes(body, _NDMSG.size, len(body))
    if family != _BRIDGE or not flags & _NTF_SELF or _NDA_DST not in found or _NDA_LLADDR not in found:
        return None
    return Forwarding(link, found[_NDA_LLADDR], found[_NDA_DST])


def leading_to(body: bytes, remote: bytes) -> bytes:
    """The same entry with another far end, as the kernel takes it. Raises Malformed."""
    clean = neighbour(body)
    parts = every(clean, _NDMSG.size, len(clean))
    return clean[: _NDMSG.size] + _joined([(k, remote if k == _NDA_DST else v) for k, v in parts])


def body(data: bytes, at: int, end: int) -> bytes:
    """A decoder for dumps that keeps the bytes."""
    return data[at:end]
