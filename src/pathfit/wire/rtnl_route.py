"""RTM_NEWROUTE, RTM_NEWNEXTHOP, RTM_NEWRULE to values (net/ipv4/fib_semantics.c fib_dump_info, net/ipv6/route.c
rt6_fill_node, net/core/fib_rules.c fib_nl_fill_rule).

A cached route (RTM_F_CLONED) is a path MTU exception: what a "too big" message taught this namespace about one
destination. Its time left comes in clock ticks of user space (USER_HZ, always 100).
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.net import Family
from pathfit.core.snapshot import NextHop, PmtuException, PolicyRule, Route
from pathfit.wire.addresses import FAMILY
from pathfit.wire.netlink import (
    Malformed,
    attributes,
    fixed,
    inner,
    ip_text,
    text,
    u8,
    u16,
    u32,
)
from pathfit.wire.pattern import Field, Pattern

_HEAD = Struct("=8BI")
_NEXTHOP = Struct("=HBBi")
_MEMBER = Struct("=IBBH")
_U32_PAIR = Struct("=II")
_U16_PAIR = Struct("=HH")
_EXPIRES = Struct("=8xi")  # struct rta_cacheinfo: clntref, lastuse, expires
USER_HZ = 100

_DST, _SRC, _IIF, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _MULTIPATH = 1, 2, 3, 4, 5, 6, 7, 8, 9
_CACHEINFO, _TABLE, _VIA, _ENCAP_TYPE, _ENCAP, _NH_ID = 12, 15, 18, 21, 22, 30
_RTAX_LOCK, _RTAX_MTU, _RTAX_ADVMSS, _RTAX_INITCWND = 1, 2, 8, 11
_MPLS, _MPLS_DST = 1, 1  # LWTUNNEL_ENCAP_MPLS, MPLS_IPTUNNEL_DST: the labels, four bytes each
_F_DEAD, _F_ONLINK = 1, 4
RTM_F_CLONED = 0x200

TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast",
    "blackhole", "unreachable", "prohibit", "throw", "nat", "xresolve",
)  # fmt: skip
_ENCAPS = {
    1: "mpls",
    2: "ip",
    3: "ila",
    4: "ip6",
    5: "seg6",
    6: "bpf",
    7: "seg6local",
    8: "rpl",
    9: "ioam6",
    10: "xfrm",
}


class Indirect(NamedTuple):
    """A route whose ways stand in next hop object ``id`` only (net.ipv4.nexthop_compat_mode=0)."""

    route: Route
    id: int


def _route(
    number: int,
    dst_len: int,
    src_len: int,
    tos: int,
    table: int,
    protocol: int,
    scope: int,
    kind: int,
    flags: int,
    dst: bytes | None,
    src: bytes | None,
    oif: int | None,
    gateway: bytes | None,
    via: bytes | None,
    metric: int | None,
    prefsrc: bytes | None,
    lock: int | None,
    mtu: int | None,
    advmss: int | None,
    initcwnd: int | None,
    several: bytes | None,
    cache: bytes | None,
    long_table: int | None,
    encap: bytes | None,
    put_on: bytes | None,
    number_of_hops: int | None,
) -> Route | Indirect | PmtuException | None:
    family = FAMILY.get(number)
    if family is None:
        return None
    locked = bool((lock or 0) & (1 << _RTAX_MTU))
    near = ip_text(gateway) if gateway else ip_text(via[2:]) if via else None
    if flags & RTM_F_CLONED:
        return _exception(family, dst, src, oif or 0, near, mtu or 0, locked, cache or b"")
    hops = _multipath(several) if several else (_hop(oif, near, 1, flags, encap, put_on),) if oif is not None else ()
    made = Route(
        family=family,
        table=table if long_table is None else long_table,
        dst=ip_text(dst) if dst_len and dst is not None else "",
        prefix=dst_len,
        hops=hops,
        type=TYPES[kind] if kind < len(TYPES) else str(kind),
        scope=scope,
        prefsrc=ip_text(prefsrc) if prefsrc is not None else None,
        metric=metric or 0,
        tos=tos,
        mtu=mtu or None,
        advmss=advmss or None,
        protocol=protocol,
        object=number_of_hops or 0,
    )  # at most fifteen keywords in one call: see rtnl_link
    if locked or initcwnd or src_len:
        source = ip_text(src) if src_len and src is not None else ""
        made = replace(made, mtu_lock=locked, initcwnd=initcwnd or None, src=source, src_prefix=src_len)
    return Indirect(made, made.object) if made.object and not hops else made


route: Pattern[Route | Indirect | PmtuException] = Pattern(
    _HEAD,
    (
        Field((_DST,)),
        Field((_SRC,)),
        Field((_OIF,), "I"),
        Field((_GATEWAY,)),
        Field((_VIA,)),
        Field((_PRIORITY,), "I"),
        Field((_PREFSRC,)),
        *(Field((_METRICS, n), "I") for n in (_RTAX_LOCK, _RTAX_MTU, _RTAX_ADVMSS, _RTAX_INITCWND)),
        Field((_MULTIPATH,)),
        Field((_CACHEINFO,)),
        Field((_TABLE,), "I"),
        Field((_ENCAP_TYPE,)),
        Field((_ENCAP,)),
        Field((_NH_ID,), "I"),
    ),
    _route,
)
"""One RTM_NEWROUTE; None for other families (MPLS, multicast) and for cached routes that hold no path MTU.

Raises Malformed.
"""


def resolve(indirect: Indirect, objects: Mapping[int, "Ways"]) -> Route | None:
    """The route with the ways of its next hop object; None when there is no such object (it went meanwhile)."""
    ways = objects.get(indirect.id)
    if ways is None:
        return None
    if ways.blackhole:
        return replace(indirect.route, hops=(), type="blackhole")
    if not ways.members:
        return replace(indirect.route, hops=ways.hops, type=indirect.route.type)
    hops: list[NextHop] = []
    for member, weight in ways.members:
        for hop in objects[member].hops if member in objects else ():
            hops.append(replace(hop, weight=weight))  # noqa: PERF401
    return replace(indirect.route, hops=tuple(hops), type=indirect.route.type)


class Ways(NamedTuple):
    """A next hop object: one way, or a group of (id, weight)."""

    id: int
    hops: tuple[NextHop, ...]
    members: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False


def nexthop(data: bytes, at: int, end: int) -> Ways:
    """One RTM_NEWNEXTHOP (net/ipv4/nexthop.c nh_fill_node). Raises Malformed."""
    flags = fixed(_NHMSG, data, at, end)[4]
    found = attributes(data, at + 8, end)
    number = u32(found, 1)
    if group := found.get(2):
        if len(group) % _MEMBER.size:
            raise Malformed("next hop group of an odd size")
        members = tuple((m, weight + 1 + (high << 8)) for m, weight, high, _ in _MEMBER.iter_unpack(group))
        return Ways(number, (), members)
    if 4 in found:
        return Ways(number, (), (), True)
    via = ip_text(found[6]) if 6 in found else None
    return Ways(number, (_hop(u32(found, 5), via, 1, flags, found.get(7), found.get(8)),))


_NHMSG = Struct("=4BI")


def _hop(
    link: int, via: str | None, weight: int, flags: int, encap: bytes | None = None, put_on: bytes | None = None
) -> NextHop:
    """``encap``, ``put_on``: RTA_ENCAP_TYPE and RTA_ENCAP."""
    kind = u16({0: encap}, 0) if encap else 0
    labels = inner(put_on).get(_MPLS_DST, b"") if kind == _MPLS and put_on else b""
    return NextHop(
        link=link,
        via=via,
        weight=weight,
        onlink=bool(flags & _F_ONLINK),
        dead=bool(flags & _F_DEAD),
        encap=_ENCAPS.get(kind, str(kind)) if kind else None,
        labels=len(labels) // 4,
    )


def _multipath(value: bytes) -> tuple[NextHop, ...]:
    """RTA_MULTIPATH: struct rtnexthop, each followed by its own attributes."""
    hops: list[NextHop] = []
    at = 0
    while len(value) - at >= _NEXTHOP.size:
        length, flags, weight, link = _NEXTHOP.unpack_from(value, at)
        if length < _NEXTHOP.size or at + length > len(value):
            raise Malformed(f"next hop of {length} bytes at {at} of {len(value)}")
        found = attributes(value, at + _NEXTHOP.size, at + length)
        hops.append(_hop(link, _via(found), weight + 1, flags, found.get(_ENCAP_TYPE), found.get(_ENCAP)))
        at += (length + 3) & ~3
    return tuple(hops)


def _via(found: dict[int, bytes]) -> str | None:
    if raw := found.get(_GATEWAY):
        return ip_text(raw)
    if raw := found.get(_VIA):  # struct rtvia: family, then the address; an IPv4 route through an IPv6 neighbour
        return ip_text(raw[2:])
    return None


def _exception(
    family: Family,
    dst: bytes | None,
    src: bytes | None,
    link: int,
    via: str | None,
    mtu: int,
    locked: bool,
    cache: bytes,
) -> PmtuException | None:
    ticks = _EXPIRES.unpack_from(cache)[0] if len(cache) >= _EXPIRES.size else 0
    if not mtu or dst is None or ticks <= 0:
        return None  # a redirect, or one that ran out: a learned path MTU always has an end (ip_rt_mtu_expires)
    return PmtuException(
        family=family,
        dst=ip_text(dst),
        mtu=mtu,
        link=link,
        via=via,
        expires=ticks / USER_HZ,
        locked=locked,
        src=ip_text(src) if src is not None else "",
    )


# --- rules (struct fib_rule_hdr, FRA_*) ------------------------------------------------------------------------------

_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_INVERT = 0x2
_FRA_DST, _FRA_SRC, _FRA_IIF, _FRA_GOTO, _FRA_PRIORITY, _FRA_MARK, _FRA_FLOW, _FRA_TUN_ID = 1, 2, 3, 4, 6, 10, 11, 12
_FRA_SUP_GROUP, _FRA_SUP_PREFIX, _FRA_TABLE, _FRA_MASK, _FRA_OIF, _FRA_PAD, _FRA_L3MDEV = 13, 14, 15, 16, 17, 18, 19
_FRA_UID, _FRA_PROTOCOL, _FRA_PROTO, _FRA_SPORT, _FRA_DPORT = 20, 21, 22, 23, 24
_FRA_SPORT_MASK, _FRA_DPORT_MASK = 28, 29  # since 6.15, 0xffff with a single port: nothing new
_UNDERSTOOD = frozenset((
    _FRA_DST, _FRA_SRC, _FRA_IIF, _FRA_GOTO, _FRA_PRIORITY, _FRA_MARK, _FRA_FLOW, _FRA_SUP_GROUP, _FRA_SUP_PREFIX,
    _FRA_TABLE, _FRA_MASK, _FRA_OIF, _FRA_PAD, _FRA_L3MDEV, _FRA_UID, _FRA_PROTOCOL, _FRA_PROTO, _FRA_SPORT,
    _FRA_DPORT,
))  # fmt: skip
_NONE = 0xFFFFFFFF


def rule(data: bytes, at: int, end: int) -> PolicyRule | None:
    """One RTM_NEWRULE; None for other families. Raises Malformed."""
    return _rule(data[at:end], end - at)


@lru_cache(maxsize=1024)
def _rule(data: bytes, end: int) -> PolicyRule | None:
    """Every namespace has the same five, most have no others."""
    number, dst_len, src_len, tos, table, _, _, action, flags = fixed(_HEAD, data, 0, end)
    family = FAMILY.get(number)
    if family is None:
        return None
    found = attributes(data, 12, end)
    prefix = u32(found, _FRA_SUP_PREFIX, _NONE)
    other = [k for k in found if k not in _UNDERSTOOD and any(found[k])]
    other = [k for k in other if k not in (_FRA_SPORT_MASK, _FRA_DPORT_MASK) or u16(found, k) != 0xFFFF]
    if u32(found, _FRA_SUP_GROUP, _NONE) != _NONE:
        other.append(_FRA_SUP_GROUP)
    return PolicyRule(
        family=family,
        priority=u32(found, _FRA_PRIORITY),
        table=u32(found, _FRA_TABLE, table),
        action=_ACTIONS.get(action, str(action)),
        src=ip_text(found[_FRA_SRC]) if _FRA_SRC in found else "",
        src_prefix=src_len,
        dst=ip_text(found[_FRA_DST]) if _FRA_DST in found else "",
        dst_prefix=dst_len,
        iif=text(found[_FRA_IIF]) if _FRA_IIF in found else None,
        oif=text(found[_FRA_OIF]) if _FRA_OIF in found else None,
        mark=u32(found, _FRA_MARK),
        mark_mask=u32(found, _FRA_MASK),
        tos=tos,
        proto=u8(found, _FRA_PROTO),
        sport=_range(found.get(_FRA_SPORT), _U16_PAIR),
        dport=_range(found.get(_FRA_DPORT), _U16_PAIR),
        uid=_range(found.get(_FRA_UID), _U32_PAIR),
        invert=bool(flags & _INVERT),
        suppress_prefix=None if prefix == _NONE else prefix,
        goto=u32(found, _FRA_GOTO),
        l3mdev=bool(u8(found, _FRA_L3MDEV)),
        opaque=tuple(f"FRA_{k}" for k in sorted(other)),
    )


def _range(raw: bytes | None, layout: Struct) -> tuple[int, int] | None:
    if raw is None:
        return None
    if len(raw) < layout.size:
        raise Malformed(f"a range of {len(raw)} bytes")
    first, last = layout.unpack_from(raw)
    return first, last
