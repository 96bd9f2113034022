"""A path MTU that no longer holds, learnt the way hosts learn it: from a real ICMP.

The host sends a small datagram; its next neighbour (or the destination itself) answers with "fragmentation needed"
(RFC 792, RFC 1191) or "packet too big" (RFC 4443) that quotes it. The host believes, because the quoted datagram
belongs to a socket of its own (__udp4_lib_err, __udp6_lib_err), and keeps it for net.ipv4.route.mtu_expires.
"""

import socket
import struct
from contextlib import suppress

from pathfit.lab.kernel import in_netns

IP_MTU, IPV6_MTU = 14, 24  # linux/in.h, linux/in6.h
IP_MTU_DISCOVER, IP_PMTUDISC_WANT = 10, 1
PORT = 9  # discard
WAIT = 1.0  # seconds for an ICMP between two namespaces of this machine


def learn(host: str, teacher: str, address: str, mtu: int) -> None:
    """Namespace ``host`` learns ``mtu`` towards ``address`` from namespace ``teacher``. Raises OSError."""
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    with in_netns(host):
        asking = socket.socket(family, socket.SOCK_DGRAM)
    with asking:
        if not six:
            asking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT)
        asking.connect((address, PORT))
        asking.send(b"learn")
        source, port = asking.getsockname()[:2]
        with in_netns(teacher):
            proto = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
            telling = socket.socket(family, socket.SOCK_RAW, proto)
        with telling:
            telling.sendto(_too_big(source, address, port, mtu), (source, 0))
        asking.settimeout(WAIT)
        with suppress(OSError):
            asking.recv(1)  # the ICMP ends the wait with an error, or nothing comes
        level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if six else (socket.IPPROTO_IP, IP_MTU)
        if asking.getsockopt(level, option) > mtu:
            raise OSError(f"{host} did not learn a path MTU of {mtu} towards {address}")


def _too_big(source: str, destination: str, port: int, mtu: int) -> bytes:
    """The ICMP message that quotes a 5-byte datagram from source:port to destination:9."""
    udp = struct.pack("!HHHH", port, PORT, 13, 0) + b"learn"
    if ":" in destination:
        src, dst = (socket.inet_pton(socket.AF_INET6, a) for a in (source, destination))
        quoted = struct.pack("!IHBB", 6 << 28, len(udp), socket.IPPROTO_UDP, 63) + src + dst + udp
        return struct.pack("!BBHI", 2, 0, 0, mtu) + quoted  # the kernel fills the checksum (RFC 3542 3.1)
    src, dst = (socket.inet_aton(a) for a in (source, destination))
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 63, socket.IPPROTO_UDP, 0) + src + dst + udp
    head = struct.pack("!BBHHH", 3, 4, 0, 0, mtu)
    return struct.pack("!BBHHH", 3, 4, _checksum(head + quoted), 0, mtu) + quoted


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
