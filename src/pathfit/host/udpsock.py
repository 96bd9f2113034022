"""UDP sockets for the prober: datagrams with DF that leave no path MTU behind, and what comes back for them.

A *pair* shares one local port. One socket sends and is not connected: with IP_PMTUDISC_PROBE, so DF is set and cached
path MTUs are not obeyed. The other is connected and so the better match for everything that comes back, errors
included (compute_score() in net/ipv4/udp.c and net/ipv6/udp.c); it has IP_PMTUDISC_INTERFACE, and a "too big" for it is
not remembered (ip_sk_accept_pmtu(), ip6_sk_accept_pmtu()). No privileges are needed.

Over IPv6 such a socket does not hear of the "too big" either (udpv6_err()); one that ``learns`` does, and the kernel
then remembers it.
"""

import contextlib
import errno
import socket
import struct
import sys
from typing import NamedTuple

IP_RECVERR, IPV6_RECVERR = 11, 25
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_PROBE, PMTUDISC_INTERFACE = 3, 4
IPV6_DONTFRAG = 62
IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE = 25, 77
IP_RECVTTL, IPV6_RECVHOPLIMIT = 12, 51
IP_TTL, IPV6_HOPLIMIT = 2, 52  # what they come as
ORIGIN_LOCAL = 1
EXTENDED = struct.Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, info, data
DATAGRAM = 65535


class Said(NamedTuple):
    """An ICMP error for a datagram of ours: ``mtu`` of a "too big", ``by`` whom; its TTL as it came (0: unknown)."""

    type: int
    code: int
    mtu: int
    by: str
    ttl: int = 0


class Came(NamedTuple):
    """A datagram. ``piece``: bytes of the largest fragment (IP) it came in, 0 when it came whole."""

    data: bytes
    piece: int
    ttl: int = 0


class Pair:
    """``send`` and ``read``; ``fd`` is the one to wait for. Made in the namespace of who asks; raises OSError."""

    def __init__(self, family: int, address: str, port: int, *, learns: bool = False) -> None:
        self.family = family
        self.to = (address, port)
        af = socket.AF_INET if family == 4 else socket.AF_INET6
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self.out = socket.socket(af, kind)
        try:
            self.back = socket.socket(af, kind)
        except OSError:
            self.out.close()
            raise
        try:
            self._open(learns)
        except OSError:
            self.close()
            raise

    def _open(self, learns: bool) -> None:
        level, discover = _names(self.family)
        for s, how in ((self.out, PMTUDISC_PROBE), (self.back, PMTUDISC_PROBE if learns else PMTUDISC_INTERFACE)):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(level, discover, how)
            if self.family == 6:
                s.setsockopt(level, socket.IPV6_V6ONLY, 1)
        if self.family == 6:
            self.out.setsockopt(level, IPV6_DONTFRAG, 1)
        self.back.setsockopt(level, IP_RECVERR if self.family == 4 else IPV6_RECVERR, 1)
        self.back.setsockopt(level, IP_RECVTTL if self.family == 4 else IPV6_RECVHOPLIMIT, 1)
        with contextlib.suppress(OSError):  # before Linux 4.13 nobody says how a datagram came
            self.back.setsockopt(level, IP_RECVFRAGSIZE if self.family == 4 else IPV6_RECVFRAGSIZE, 1)
        self.out.bind(("", 0))
        self.port: int = self.out.getsockname()[1]
        self.back.bind(("", self.port))
        self.back.connect(self.to)
        self.local: str = self.back.getsockname()[0].split("%")[0]
        self.fd = self.back.fileno()

    def hops(self, ttl: int) -> None:
        """So many hops what is sent may go. Raises OSError."""
        if self.family == 4:
            self.out.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        else:
            self.out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)

    def send(self, payload: bytes) -> str:
        """ "sent", "local" (larger than our own link), "full" (try again later), or the name of another errno."""
        try:
            self.out.sendto(payload, self.to)
        except OSError as e:
            if e.errno == errno.EMSGSIZE:
                return "local"
            if e.errno in (errno.EAGAIN, errno.ENOBUFS):
                return "full"
            return errno.errorcode.get(e.errno or 0, "EIO")
        return "sent"

    def read(self) -> list[Said | Came]:
        """What came back since the last time."""
        out: list[Said | Came] = [*self._errors()]
        for _ in range(64):
            try:
                data, notes, _, _ = self.back.recvmsg(DATAGRAM, 256)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # the pending error, which the error queue has told already; it is cleared by that
                out += self._errors()
                continue
            out.append(Came(data, _piece(notes), _ttl(notes)))
        return out

    def _errors(self) -> list[Said]:
        out: list[Said] = []
        for _ in range(64):
            try:
                _, notes, _, _ = self.back.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            for level, kind, data in notes:
                said = _said(level, kind, data)
                if said is not None:
                    out.append(said._replace(ttl=_ttl(notes)))
        return out

    def close(self) -> None:
        self.out.close()
        self.back.close()


def _names(family: int) -> tuple[int, int]:
    if family == 4:
        return socket.IPPROTO_IP, IP_MTU_DISCOVER
    return socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER


def _said(level: int, kind: int, data: bytes) -> Said | None:
    if (level, kind) not in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
        return None
    if len(data) < EXTENDED.size:
        return None
    _, origin, icmp, code, info, _ = EXTENDED.unpack_from(data)
    if origin == ORIGIN_LOCAL:
        return None
    at = EXTENDED.size
    where = data[at + 4 : at + 8] if level == socket.IPPROTO_IP else data[at + 8 : at + 24]
    try:
        by = socket.inet_ntop(socket.AF_INET if level == socket.IPPROTO_IP else socket.AF_INET6, where)
    except (ValueError, OSError):
        return None
    return Said(icmp, code, info, by)


def _ttl(notes: list[tuple[int, int, bytes]]) -> int:
    known = ((socket.IPPROTO_IP, IP_TTL), (socket.IPPROTO_IPV6, IPV6_HOPLIMIT))
    return next((int.from_bytes(d[:4], sys.byteorder) for level, kind, d in notes if (level, kind) in known), 0)


def _piece(notes: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in notes:
        known = ((socket.IPPROTO_IP, IP_RECVFRAGSIZE), (socket.IPPROTO_IPV6, IPV6_RECVFRAGSIZE))
        if (level, kind) in known and len(data) >= 4:
            return int(struct.unpack("=I", data[:4])[0])
    return 0
