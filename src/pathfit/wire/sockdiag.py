"""sock_diag (include/uapi/linux/inet_diag.h, sock_diag.h): TCP sockets with their struct tcp_info.

::

    struct inet_diag_msg, 72 bytes:
    family state timer retrans | sport dport (big endian) src[16] dst[16] ifindex cookie[2] |
    expires (ms) rqueue wqueue uid inode
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from pathfit.core.sockets import Socket
from pathfit.wire import tcpinfo
from pathfit.wire.addresses import AF_INET, AF_INET6, ip, unmapped
from pathfit.wire.netlink import Malformed, chosen, request, u32

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
IPPROTO_TCP = 6

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE = 1, 2, 3, 4, 5, 6, 7
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 8, 9, 10, 11
LIVE = (ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING)

TIMER_TIME_WAIT = 3  # idiag_timer; also says FIN_WAIT2 (inet_twsk_diag_fill)

_REQUEST = Struct("=BBBxI48x")
_MESSAGE = Struct("=BBBB2s2s16s16sI8xIIIII")
_PORT = Struct(">H")

_MEMINFO, _INFO, _MARK = 1, 2, 15
_WANTED = frozenset((_MEMINFO, _INFO, _MARK))
_EXTENSIONS = (1 << (_MEMINFO - 1)) | (1 << (_INFO - 1))


class Listening(NamedTuple):
    """A port somebody accepts connections on; ``address`` "0.0.0.0" or "::" for any."""

    address: str
    port: int


def tcp(family: int, states: Iterable[int] = LIVE, *, details: bool = True) -> bytes:
    """All TCP sockets of AF_INET or AF_INET6 in ``states``; ``details`` asks for tcp_info and memory."""
    mask = sum(1 << s for s in states)
    body = _REQUEST.pack(family, IPPROTO_TCP, _EXTENSIONS if details else 0, mask)
    return request(SOCK_DIAG_BY_FAMILY, body)


def socket(data: bytes, at: int, end: int) -> Socket | None:
    """One answer; None for other families and for what is left of a closed socket. Raises Malformed.

    A socket of AF_INET6 that talks to an IPv4-mapped address is IPv4: that is what travels.
    """
    family, state, timer, retrans, sport, dport, src, dst, _, expires, rqueue, wqueue, uid, inode = _head(data, at, end)
    if family not in (AF_INET, AF_INET6) or timer == TIMER_TIME_WAIT:
        return None
    size = 4 if family == AF_INET else 16
    here, there = unmapped(src[:size]), unmapped(dst[:size])
    found = chosen(data, at + _MESSAGE.size, end, _WANTED)
    info = found.get(_INFO)
    return Socket(
        family=4 if len(there) == 4 else 6,
        src=ip(here),
        sport=_PORT.unpack(sport)[0],
        dst=ip(there),
        dport=_PORT.unpack(dport)[0],
        state=state,
        rqueue=rqueue,
        wqueue=wqueue,
        inode=inode,
        uid=uid,
        mark=u32(found, _MARK),
        timer=timer,
        retrans=retrans,
        expires=expires / 1000,
        info=tcpinfo.decode(info) if info and len(info) >= tcpinfo.BASE else None,
        rmem=u32(found, _MEMINFO) if _MEMINFO in found else None,
    )


def listening(data: bytes, at: int, end: int) -> Listening | None:
    """One answer to ``tcp(…, (LISTEN,), details=False)``. Raises Malformed."""
    family, _, _, _, sport, _, src, *_ = _head(data, at, end)
    if family not in (AF_INET, AF_INET6):
        return None
    return Listening(ip(src[: 4 if family == AF_INET else 16]), _PORT.unpack(sport)[0])


def _head(
    data: bytes, at: int, end: int
) -> tuple[int, int, int, int, bytes, bytes, bytes, bytes, int, int, int, int, int, int]:
    if at + _MESSAGE.size > end or end > len(data):
        raise Malformed(f"a socket of {end - at} bytes, {_MESSAGE.size} expected")
    return _MESSAGE.unpack_from(data, at)
