"""The packet socket beside the kernel's own: SYN-ACKs and RSTs with their TTL, ICMP errors, acknowledgements.

It sees what arrives before our own input filter drops it, and tells who really answered. Everything is checked:
an ICMP error counts as ours only when the packet it quotes is one we sent, and a "too big" counts as sane only
when its MTU could be true (RFC 1191: at least 68, smaller than the packet; RFC 8201: at least 1280).
"""

import socket
from collections.abc import Callable
from typing import NamedTuple

from pathfit.core.measured import TooBig
from pathfit.host import rawsock
from pathfit.measure.refusal import martian
from pathfit.wire import packets

KEPT = 64  # ICMP errors remembered: forged floods must not fill memory
MOST_UDP = 512
UDP_SEQ = -1  # stands for the sequence number a UDP header has not


class Heard(NamedTuple):
    """A TCP packet of the target: TTL as it reached us, header, size and arrival."""

    ttl: int
    tcp: packets.Tcp
    at: float
    ident: int


class IcmpHeard(NamedTuple):
    """An ICMP error that quotes one of our packets."""

    by: str
    type: int
    code: int
    port: int
    seq: int
    protocol: int
    at: float


class Lookout:
    """``address`` packed, ``port`` of the target. ``on_ack`` gets every small TCP packet as it comes."""

    def __init__(self, family: int, address: bytes, port: int) -> None:
        self.family, self.address, self.port = family, address, port
        self.sock = rawsock.listener(family, rawsock.answers_of(address, port))
        self.fd = self.sock.fileno()
        self.synacks: dict[int, Heard] = {}  # by our port
        self.resets: dict[int, Heard] = {}
        self.reset_list: list[Heard] = []
        self.too_big: list[TooBig] = []
        self.errors: list[IcmpHeard] = []
        self.echoes: dict[tuple[int, int], int] = {}  # (ident, seq) -> TTL
        self.echo_too_big: list[tuple[int, int, str]] = []  # (seq, mtu, by)
        self.udp_too_big: list[tuple[int, int, str]] = []  # (our port, mtu, by)
        self.on_ack: Callable[[Heard], None] | None = None
        self.on_too_big: Callable[[int, int, int, str], None] | None = None
        self.sizes: dict[tuple[int, int], int] = {}  # (our port or ident, seq) -> size of what we injected

    def read(self, now: float) -> None:
        """Take what has arrived."""
        while True:
            batch = rawsock.read(self.sock)
            for data, link in batch:
                self._take(now, data, link)
            if len(batch) < 512:
                return

    def _take(self, now: float, data: bytes, link: str) -> None:
        ip = packets.parse_ip(data)
        if ip is None or ip.fragment:
            return
        if ip.protocol == packets.TCP:
            self._tcp(now, data, ip)
        elif ip.protocol in (packets.ICMP, packets.ICMPV6):
            self._icmp(now, data, ip, link)

    def _tcp(self, now: float, data: bytes, ip: packets.Ip) -> None:
        tcp = packets.parse_tcp(data, ip.at)
        if tcp is None or ip.src != self.address or tcp.sport != self.port:
            return
        heard = Heard(ip.ttl, tcp, now, ip.ident)
        if tcp.flags & packets.RST:
            self.resets.setdefault(tcp.dport, heard)
            if len(self.reset_list) < KEPT:
                self.reset_list.append(heard)
        elif tcp.flags & packets.SYN:
            self.synacks[tcp.dport] = heard
        elif self.on_ack is not None:
            self.on_ack(heard)

    def _icmp(self, now: float, data: bytes, ip: packets.Ip, link: str) -> None:
        icmp = packets.parse_icmp(data, ip.at, self.family)
        if icmp is None:
            return
        if icmp.type == (0 if self.family == 4 else 129):
            if ip.src == self.address and len(self.echoes) < 4096:
                self.echoes.setdefault((icmp.ident, icmp.seq), ip.ttl)
            return
        if not packets.is_error(self.family, icmp.type):
            return
        quoted = packets.parse_ip(icmp.quoted)
        if quoted is None:
            return
        ports = packets.parse_ports(icmp.quoted, quoted.at)
        by = socket.inet_ntop(socket.AF_INET if self.family == 4 else socket.AF_INET6, ip.src)
        ours, key = self._ours(quoted, ports, icmp)
        if icmp.mtu is not None:
            self._too_big(icmp.mtu, ip, quoted, key, ours, link)
            ours = ours and not martian(ip.src, ip.dst)
            if ours and quoted.protocol == packets.ICMP and len(self.echo_too_big) < KEPT:
                self.echo_too_big.append((key[1], icmp.mtu, by))
            if ours and quoted.protocol == packets.UDP and len(self.udp_too_big) < MOST_UDP:
                self.udp_too_big.append((key[0], icmp.mtu, by))
        elif ours and len(self.errors) < KEPT:
            self.errors.append(IcmpHeard(by, icmp.type, icmp.code, key[0], key[1], quoted.protocol, now))

    def _ours(
        self, quoted: packets.Ip, ports: tuple[int, int, int] | None, icmp: packets.Icmp
    ) -> tuple[bool, tuple[int, int]]:
        """Does the error quote a packet of ours? Its key: (our port, sequence number) or (echo ident, seq)."""
        if quoted.dst != self.address or ports is None:
            return False, (0, 0)
        if quoted.protocol == packets.TCP:
            return ports[1] == self.port, (ports[0], ports[2])
        if quoted.protocol == packets.UDP:  # each datagram of ours has a port of its own
            key = (ports[0], UDP_SEQ)
            return key in self.sizes, key
        echo = packets.parse_icmp(icmp.quoted, quoted.at, self.family)
        if echo is not None and quoted.protocol in (packets.ICMP, packets.ICMPV6):
            key = (echo.ident, echo.seq)
            return key in self.sizes, key
        return False, (ports[0], ports[2])

    def _too_big(
        self, mtu: int, ip: packets.Ip, quoted: packets.Ip, key: tuple[int, int], ours: bool, link: str
    ) -> None:
        by = socket.inet_ntop(socket.AF_INET if self.family == 4 else socket.AF_INET6, ip.src)
        size = self.sizes.get(key, 0) or quoted.size
        ours = ours and key in self.sizes
        least = 68 if self.family == 4 else 1280
        sane = least <= mtu < size and not martian(ip.src, ip.dst)
        # What fits another flow of this namespace may be true of that one: only its kernel can tell, and does.
        foreign = not ours and sane and not any(port == key[0] for port, _ in self.sizes)
        if len(self.too_big) < KEPT and not foreign:
            fact = TooBig(by=by, mtu=mtu, size=size, ours=ours, sane=sane, link=link)
            key_of = (by, mtu, ours, sane)  # one of each kind is news, sixteen are not
            if all((f.by, f.mtu, f.ours, f.sane) != key_of for f in self.too_big):
                self.too_big.append(fact)
        if ours and sane and self.on_too_big is not None:
            self.on_too_big(size, mtu, key[0], by)

    def take_resets(self, port: int) -> list[Heard]:
        """RSTs to ``port`` that came since the last call."""
        out = [h for h in self.reset_list if h.tcp.dport == port]
        self.reset_list = [h for h in self.reset_list if h.tcp.dport != port]
        return out

    def close(self) -> None:
        rawsock.close(self.sock)
