"""L2TP version 3 sessions by generic netlink (include/uapi/linux/l2tp.h): which Ethernet device is which pseudowire.

The devices themselves say nothing of it (l2tp_eth has no rtnl_link_ops). Which layer-2 sublayer a session uses is not
in the answer: the usual one, of four bytes, is assumed.
"""

from typing import NamedTuple

from pathfit.wire import genl
from pathfit.wire.netlink import attributes, ip_text, text, u16, u32

FAMILY = "l2tp"
_TUNNEL_GET, _SESSION_GET = 4, 8
_ENCAP, _IFNAME, _TUNNEL, _SESSION, _PEER_SESSION, _COOKIE = 2, 8, 9, 11, 12, 15
_SADDR, _DADDR, _SPORT, _DPORT, _SADDR6, _DADDR6 = 24, 25, 26, 27, 31, 32
_ENCAPS = {0: "udp", 1: "ip"}

Facts = dict[str, str | int | bool]


class Tunnel(NamedTuple):
    """A tunnel: its number here, and what a device in it says of itself (``Link.info``)."""

    number: int
    info: Facts


class Session(NamedTuple):
    """A pseudowire of a tunnel. ``okey``, ``ikey``: session numbers that are sent and expected."""

    name: str
    tunnel: int
    info: Facts


def tunnels(family: int) -> bytes:
    """All tunnels of the namespace."""
    return genl.command(family, _TUNNEL_GET)


def sessions(family: int) -> bytes:
    """All sessions of the namespace."""
    return genl.command(family, _SESSION_GET)


def tunnel(data: bytes, at: int, end: int) -> Tunnel:
    """One answer to :func:`tunnels`. Raises Malformed."""
    found = attributes(data, at + genl.HEADER, end)
    encap = u16(found, _ENCAP)
    info: Facts = {"encap": _ENCAPS.get(encap, str(encap))}
    for name, v4, v6 in (("local", _SADDR, _SADDR6), ("remote", _DADDR, _DADDR6)):
        if (raw := found.get(v6) or found.get(v4)) and any(raw):
            info[name] = ip_text(raw)
    if info["encap"] == "udp":
        info |= {"sport": u16(found, _SPORT), "dport": u16(found, _DPORT)}
    return Tunnel(u32(found, _TUNNEL), info)


def session(data: bytes, at: int, end: int) -> Session:
    """One answer to :func:`sessions`. Raises Malformed."""
    found = attributes(data, at + genl.HEADER, end)
    info: Facts = {"okey": u32(found, _PEER_SESSION), "ikey": u32(found, _SESSION)}
    if cookie := len(found.get(_COOKIE, b"")):
        info["cookie"] = cookie
    return Session(text(found.get(_IFNAME, b"")), u32(found, _TUNNEL), info)
