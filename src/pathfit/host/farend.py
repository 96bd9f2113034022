"""Sockets of ours in a namespace, for packets between two of them: nothing there is touched, nothing stays behind.

Whatever is opened here is a descriptor of this process: it ends with it, however that ends. No thread stays in the
other namespace, and no process of it is asked for anything. What is sent goes through :func:`rawsock.sender`, so that
no path MTU is learned (probing.md 1); the UDP sockets do not learn any either (ip_sk_accept_pmtu()).
"""

import errno
import fcntl
import socket
import struct
from collections.abc import Callable

from pathfit.host import netns, rawsock, tcpsock
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.wire import packets, rtnl

SO_RCVBUFFORCE = 33
SIOCGIFMTU = 0x8921
LARGEST = 65_535  # bytes: what the length field of an IP header holds (a loopback device says more)
MOST = 256  # datagrams taken in one go
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def udp(family: int, address: str, port: int = 0) -> socket.socket:
    """A bound UDP socket that neither learns a path MTU nor waits. Raises OSError (EADDRNOTAVAIL: not ours)."""
    s = socket.socket(AF[family], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
        name = rawsock.IP_MTU_DISCOVER if family == 4 else rawsock.IPV6_MTU_DISCOVER
        s.setsockopt(level, name, rawsock.IP_PMTUDISC_INTERFACE)
        _roomy(s)
        s.bind((address, port))
    except OSError:
        s.close()
        raise
    return s


def _roomy(s: socket.socket) -> None:
    try:
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, rawsock.RECEIVE_BUFFER)
    except OSError:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rawsock.RECEIVE_BUFFER)


def listening(family: int, address: str, port: int = 0) -> socket.socket:
    """A TCP listener of ours. Raises OSError (EADDRINUSE: somebody listens there)."""
    s = tcpsock.tcp(family)
    try:
        s.bind((address, port))
        s.listen(4)
    except OSError:
        s.close()
        raise
    return s


def local_address(family: int, towards: str) -> str:
    """The address this namespace would send from. Raises OSError (ENETUNREACH)."""
    with socket.socket(AF[family], socket.SOCK_DGRAM) as s:
        s.connect((towards, 9))
        name: str = s.getsockname()[0]
        return name.split("%")[0]


def device_mtu(family: int, towards: str) -> int | None:
    """MTU of the device packets to ``towards`` leave by (bytes), whatever a route or the cache says."""
    packed = socket.inet_pton(AF[family], towards)
    try:
        with NetlinkSocket(NETLINK_ROUTE) as s:
            index = s.ask(rtnl.way_to(packed), rtnl.leaves_by)
        if not index:
            return None
        with socket.socket(AF[family], socket.SOCK_DGRAM) as s4:
            name = socket.if_indextoname(index).encode()
            raw = fcntl.ioctl(s4, SIOCGIFMTU, struct.pack("16sI12x", name, 0))
    except OSError:
        return None
    mtu: int = struct.unpack_from("=16xI", raw)[0]
    return min(mtu, LARGEST)


class End:
    """Sockets in namespace ``fd`` (None: where we are): ``udp`` bound to ``address``, a ``raw`` sender and a ``door``,
    the packet socket that sees what arrives for them. Raises OSError; PermissionError without CAP_NET_RAW."""

    def __init__(self, fd: int | None, family: int, address: str) -> None:
        self.fd, self.family, self.address = fd, family, address
        self.packed = socket.inet_pton(AF[family], address)
        self.udp: list[socket.socket] = []
        self.tcp: list[socket.socket] = []
        self.door: socket.socket | None = None
        with netns.inside(fd):
            self.raw = rawsock.sender(family)
            # Errors as this end's own kernel hears them: behind its filters (raw_local_deliver(), rawv6_rcv()).
            proto = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
            self.heard = socket.socket(AF[family], socket.SOCK_RAW | socket.SOCK_NONBLOCK, proto)

    def add_udp(self, count: int, port: int = 0) -> None:
        """``port``: the one to take when it is free (0: any)."""
        with netns.inside(self.fd):
            for _ in range(count):
                try:
                    self.udp.append(udp(self.family, self.address, port))
                except OSError as e:
                    if not port or e.errno != errno.EADDRINUSE:
                        raise
                    self.udp.append(udp(self.family, self.address))

    def add_tcp(self, count: int) -> None:
        """Sockets to connect with later, bound so that their ports are known."""
        with netns.inside(self.fd):
            for _ in range(count):
                s = tcpsock.tcp(self.family)
                self.tcp.append(s)
                s.bind((self.address, 0))

    def listen(self, port: int) -> socket.socket | None:
        """A listener on ``port`` (0: any); None when somebody else listens there."""
        with netns.inside(self.fd):
            try:
                self.tcp.append(listening(self.family, self.address, port))
            except OSError:
                return None
        return self.tcp[-1]

    def watch(self, *others: int) -> None:
        """Open the door for all ports there are now, and ``others``."""
        with netns.inside(self.fd):
            ports = [*(port_of(s) for s in (*self.udp, *self.tcp)), *others]
            self.door = rawsock.listener(self.family, rawsock.to_ports(self.family, ports))

    def sockets(self) -> list[socket.socket]:
        return [s for s in (*self.udp, self.door, self.heard) if s is not None]

    def close(self) -> None:
        for s in (*self.udp, *self.tcp, self.raw, self.heard):
            s.close()
        if self.door is not None:
            rawsock.close(self.door)


def port_of(s: socket.socket) -> int:
    port: int = s.getsockname()[1]
    return port


def receive(s: socket.socket, take: Callable[[bytes, tuple[str, int]], None]) -> None:
    """Hand on what has arrived at a UDP socket. An ICMP error pending on it is nothing (the door sees it)."""
    for _ in range(MOST):
        try:
            data, where = s.recvfrom(LARGEST)
        except OSError as e:
            if e.errno in AGAIN:
                return
            continue
        take(data, (where[0].split("%")[0], where[1]))


def accept(s: socket.socket) -> socket.socket | None:
    """A connection that stands, if there is one. Closing it sends RST, as the listener's own option says."""
    try:
        return s.accept()[0]
    except OSError:
        return None


def stands(s: socket.socket) -> bool:
    """Is this connection established?"""
    try:
        s.getpeername()
    except OSError:
        return False
    return True


def send(end: End, packet: bytes, address: str) -> str:
    """One packet from this end; as :func:`rawsock.send`."""
    return rawsock.send(end.raw, packet, address)


def arrivals(door: socket.socket) -> list[tuple[bytes, str]]:
    """What has come to a door, one batch of it: (packet, name of the link)."""
    return rawsock.read(door)


def errors_heard(end: End) -> list[bytes]:
    """ICMP messages that have come as far as this end's kernel, from the ICMP header on. Those with a wrong checksum
    are not among them, as for the kernel (icmp_rcv(); over IPv6 the socket looks at it)."""
    out: list[bytes] = []
    for _ in range(MOST):
        try:
            data = end.heard.recv(rawsock.SNAP)
        except OSError:
            return out
        if end.family == 4:
            data = data[(data[0] & 15) * 4 :] if data else data
            if packets.checksum(data):
                continue
        out.append(data)
    return out
