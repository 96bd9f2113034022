"""Kernel TCP sockets for the prober: opened without waiting, closed without a trace."""

import errno
import socket
import struct

from pathfit.wire import tcpinfo

TCP_MAXSEG, TCP_INFO, TCP_NODELAY, TCP_QUICKACK = 2, 11, 1, 12
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_INTERFACE = 23, 4
IP_RECVERR, IPV6_RECVERR = 11, 25
U32 = struct.Struct("=I").unpack_from
LINGER_RST = struct.pack("ii", 1, 0)
INFO_SIZE = 232
PIECE = 400  # bytes per write: TCP_MAXSEG caps our segments too, and a forward hole must not look like one of the
# answer's (probing.md 2)
IN_FLIGHT = 8  # pieces: less than the ten segments a connection may begin with (RFC 6928)


def tcp(family: int, mss: int | None = None, *, learns: bool = False, room: int | None = None) -> socket.socket:
    """A non-blocking TCP socket; ``mss`` set before connect bounds what the peer may send us, in payload bytes.
    ``room``: bytes of receive window, which then never grows (None: as the kernel likes).

    Unless it ``learns``, a forged "too big" for its small segments leaves nothing in the routing cache; over IPv6
    (ip6_sk_accept_pmtu() in tcp_v6_err(); tcp_v4_err() does not ask).
    """
    s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        s.setsockopt(socket.IPPROTO_TCP, TCP_NODELAY, 1)
        # Closing sends RST and leaves neither FIN_WAIT nor retransmissions, also when we are killed.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RST)
        if family == 6 and not learns:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_INTERFACE)
        if mss is not None:
            s.setsockopt(socket.IPPROTO_TCP, TCP_MAXSEG, mss)
        if room is not None:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    except OSError:
        s.close()
        raise
    return s


def connect(s: socket.socket, address: str, port: int) -> int:
    """Begin to connect; 0 when under way, else the errno."""
    code = s.connect_ex((address, port))
    return 0 if code in (0, errno.EINPROGRESS) else code


def send_pieces(s: socket.socket, data: bytes, piece: int = PIECE) -> bytes:
    """Send in pieces, each a segment of its own; returns what has to wait until some are acknowledged.

    What the congestion window holds back lies in one buffer, and the kernel would make full segments of it
    (tcp_sendmsg_locked() appends to the tail that was not sent yet): a large packet of ours, which a router may answer
    "too big", and the measurement would have healed the patient (probing.md 1, 2). So nothing is ever held back.
    """
    at = 0
    while at < len(data) and _all_sent(s):
        try:
            at += s.send(data[at : at + piece])
        except (BlockingIOError, InterruptedError):
            break
    return data[at:]


def _all_sent(s: socket.socket) -> bool:
    """Nothing waits in the kernel to be sent, and few pieces to be acknowledged."""
    data = info(s)
    waits = U32(data, tcpinfo.NOTSENT)[0] if len(data) >= tcpinfo.NOTSENT + 4 else 0
    return waits == 0 and U32(data, tcpinfo.UNACKED)[0] < IN_FLIGHT


def ack_late(s: socket.socket) -> None:
    """Delay acknowledgements (TCP_QUICKACK off, tcp(7)): the peer's small writes pile up to full segments."""
    s.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 0)


def info(s: socket.socket) -> bytes:
    """struct tcp_info as this kernel has it."""
    return s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, INFO_SIZE)


def error(s: socket.socket) -> int:
    """The pending error (errno), cleared by reading it."""
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def behind_gateway(family: int, address: str) -> bool:
    """Is ``address`` reached through a router? Sends no packet."""
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        return s.connect_ex((address, 9)) != 0


def path_mtu(family: int, address: str, port: int) -> int | None:
    """What the kernel believes the path to ``address`` carries: device, route or cached. Sends no packet."""
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as s:
        try:
            s.connect((address, port or 9))
        except OSError:
            return None
        return route_mtu(s, family)


def route_mtu(s: socket.socket, family: int) -> int | None:
    """What the kernel believes the path carries now (IP_MTU of a connected socket): device, route or cached."""
    level, name = (socket.IPPROTO_IP, 14) if family == 4 else (socket.IPPROTO_IPV6, 24)
    try:
        return s.getsockopt(level, name)
    except OSError:
        return None
