"""rtnetlink: what to ask (request bodies) for links, addresses, routes, rules, neighbours, next hops, namespace ids.

The answers are decoded by :mod:`~pathfit.wire.rtnl_link`, :mod:`~pathfit.wire.rtnl_route` and
:mod:`~pathfit.wire.rtnl_near`. All requests are valid under NETLINK_GET_STRICT_CHK, and all are reads. One thing a
read may do: the kernel numbers a peer namespace (peernet2id_alloc) when a link dump mentions it for the first time,
as it does for `ip link`.

Numbers: include/uapi/linux/rtnetlink.h, if_link.h, net_namespace.h, nexthop.h.
"""

from functools import cache
from struct import Struct

from pathfit.wire.netlink import F_REQUEST, attribute, attributes, i32, request

NETLINK_ROUTE = 0

NEWLINK, GETLINK = 16, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26
NEWNEIGH, GETNEIGH = 28, 30
NEWRULE, GETRULE = 32, 34
NEWNSID, GETNSID = 88, 90
NEWNEXTHOP, GETNEXTHOP = 104, 106

IFLA_EXT_MASK = 29
FILTER_BRVLAN_COMPRESSED, FILTER_SKIP_STATS = 1 << 2, 1 << 3
RTM_F_CLONED = 0x200  # cached: exceptions instead of routes
NSID_UNASSIGNED = -1

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10
TABLE_MAIN = 254

_IFINFO = Struct("=BxHiII")
_IFADDR = Struct("=4BI")
_RTMSG = Struct("=8BI")
_NDMSG = Struct("=BxxxiHBB")
_NHMSG = Struct("=4BI")
_NSID_OF = Struct("=IHHIIBxxxHHI")  # struct nlmsghdr, struct rtgenmsg, NETNSA_FD
_NSID = Struct("=4xHHi")
_U32 = Struct("=I")
_I32 = Struct("=i")

_NETNSA_NSID, _NETNSA_FD = 1, 3
_RTA_DST, _RTA_OIF = 1, 4


@cache
def links(family: int = 0, mask: int = FILTER_SKIP_STATS) -> bytes:
    """All links. ``family`` AF_BRIDGE: bridge ports with their VLANs (mask FILTER_BRVLAN_COMPRESSED)."""
    return request(GETLINK, _IFINFO.pack(family, 0, 0, 0, 0) + attribute(IFLA_EXT_MASK, _U32.pack(mask)))


@cache
def addresses() -> bytes:
    """All addresses of both families."""
    return request(GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))


@cache
def routes(family: int, *, table: int = 0, cached: bool = False) -> bytes:
    """Routes of one family (0: all). ``table`` 0: every table. ``cached``: path MTU exceptions instead."""
    return request(GETROUTE, _RTMSG.pack(family, 0, 0, 0, table, 0, 0, 0, RTM_F_CLONED if cached else 0))


def way_to(address: bytes) -> bytes:
    """By which route a packet to ``address`` (packed) would leave (`ip route get`). One answer."""
    family = AF_INET if len(address) == 4 else AF_INET6
    body = _RTMSG.pack(family, 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
    return request(GETROUTE, body + attribute(_RTA_DST, address))


def leaves_by(data: bytes, at: int, end: int) -> int:
    """Index of the device in an answer to :func:`way_to`; 0 when it names none."""
    return i32(attributes(data, at + _RTMSG.size, end), _RTA_OIF)


@cache
def rules(family: int) -> bytes:
    """Policy rules of one family (0: all, those of multicast routing too)."""
    return request(GETRULE, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


@cache
def neighbours() -> bytes:
    """ARP and NDP entries of all links."""
    return request(GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0))


@cache
def fdb() -> bytes:
    """Forwarding entries of all bridges and of devices with a table of their own (vxlan)."""
    return request(GETNEIGH, _NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0))


@cache
def nexthops() -> bytes:
    """Next hop objects (`ip nexthop`)."""
    return request(GETNEXTHOP, _NHMSG.pack(0, 0, 0, 0, 0))


def nsid_of(fd: int) -> bytes:
    """How the namespace of the socket numbers the namespace that file ``fd`` of this process is open on."""
    return _NSID_OF.pack(_NSID_OF.size, GETNSID, F_REQUEST, 1, 0, 0, 8, _NETNSA_FD, fd)


def nsid(data: bytes, at: int, end: int) -> int:
    """The number in an answer to :func:`nsid_of`; NSID_UNASSIGNED when it has none."""
    if at + _NSID.size <= end:
        length, kind, number = _NSID.unpack_from(data, at)
        if (length, kind) == (8, _NETNSA_NSID):
            return int(number)
    return i32(attributes(data, at + 4, end), _NETNSA_NSID, NSID_UNASSIGNED)
