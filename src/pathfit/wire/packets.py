"""IP, TCP, UDP and ICMP headers: build the ones we inject, read the ones that come back.

::

    IPv4 (RFC 791)   0 ver/ihl 1 tos 2 total length 4 id 6 flags/fragment 8 ttl 9 protocol 10 checksum 12 src 16 dst
    IPv6 (RFC 8200)  0 ver/class/flow 4 payload length 6 next header 7 hop limit 8 src 24 dst
    TCP  (RFC 9293)  0 sport 2 dport 4 seq 8 ack 12 offset/flags 14 window 16 checksum 18 urgent 20 options
    ICMP (RFC 792)   0 type 1 code 2 checksum 4 rest (3/4: 6 = next-hop MTU, RFC 1191)
    ICMPv6 (RFC 4443)0 type 1 code 2 checksum 4 rest (2: 4 = MTU)

Addresses are the packed bytes of the wire (4 or 16); sizes are bytes. Parsing never raises on short or hostile
input: a function returns None when the header is not wholly there.
"""

import struct
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
DF = 0x4000
IP4 = struct.Struct("!BBHHHBBH4s4s")
IP6 = struct.Struct("!IHBB16s16s")
TCPH = struct.Struct("!HHIIBBHHH")
UDPH = struct.Struct("!HHHH")
ICMPH = struct.Struct("!BBHHH")
EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options: (next, length in 8 bytes - 1)
FRAGMENT = 44
MAX_EXTENSIONS = 8  # RFC 8200 4.1 allows each once (destination options twice); more is hostile
OUR_TTL = 64


class Ip(NamedTuple):
    """One IP header. ``at`` is the offset of the transport header, ``size`` what the header claims, ``fragment``
    the offset in bytes of a later fragment (0: first or whole), ``more`` whether others follow it."""

    family: int
    src: bytes
    dst: bytes
    protocol: int
    ttl: int
    size: int
    at: int
    df: bool
    fragment: int
    ident: int
    more: bool = False


class Tcp(NamedTuple):
    """One TCP header with the options we use. ``sacks``: (left, right) sequence numbers, most recent first."""

    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    length: int
    mss: int | None
    wscale: int | None
    sack_ok: bool
    ts: tuple[int, int] | None
    sacks: tuple[tuple[int, int], ...]


class Icmp(NamedTuple):
    """One ICMP or ICMPv6 message. ``mtu`` of a "too big"; ``ident``/``seq`` of an echo; ``quoted`` the embedded
    packet, as much of it as came."""

    type: int
    code: int
    mtu: int | None
    ident: int
    seq: int
    quoted: bytes


class Which(NamedTuple):
    """Which packet it is, by what an error quotes of each (RFC 792) and translation leaves. ``number``: of TCP the
    sequence number, of UDP the length, of an echo the sequence number alone (its identifier is translated like a
    port), as of anything else the two bytes in that place."""

    family: int
    protocol: int
    number: int


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum (RFC 1071) of ``data`` added to the partial sum ``start``."""
    if len(data) & 1:
        data += b"\0"
    # One big integer modulo 0xffff is the ones' complement sum of its 16-bit words, and far faster than a loop.
    total = (int.from_bytes(data, "big") + start) % 0xFFFF
    if total == 0 and (start or data.strip(b"\0")):
        total = 0xFFFF
    return ~total & 0xFFFF


def pseudo(src: bytes, dst: bytes, protocol: int, length: int) -> int:
    """Partial sum of the pseudo header (RFC 9293 3.1, RFC 8200 8.1)."""
    return int.from_bytes(src, "big") % 0xFFFF + int.from_bytes(dst, "big") % 0xFFFF + protocol + length


def ip_header(src: bytes, dst: bytes, protocol: int, payload: int, *, ttl: int = OUR_TTL, ident: int = 0) -> bytes:
    """An IPv4 (DF set) or IPv6 header for ``payload`` bytes behind it."""
    if len(dst) == 4:
        head = IP4.pack(0x45, 0, 20 + payload, ident, DF, ttl, protocol, 0, src, dst)
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return IP6.pack(6 << 28, payload, protocol, ttl, src, dst)


def tcp_segment(
    src: bytes,
    dst: bytes,
    sport: int,
    dport: int,
    *,
    seq: int,
    ack: int,
    size: int,
    ts: tuple[int, int] | None = None,
    flags: int = ACK,
    window: int = 502,
    ttl: int = OUR_TTL,
    ident: int = 0,
) -> bytes:
    """A whole IP packet of exactly ``size`` bytes with a TCP segment whose payload is zero bytes.

    ``ts``: value and echo of the timestamp option (RFC 7323), None leaves it out. ValueError when ``size`` cannot
    hold the headers.
    """
    options = b"" if ts is None else struct.pack("!BBBBII", 1, 1, 8, 10, *ts)
    head_size = (20 if len(dst) == 4 else 40) + 20 + len(options)
    if size < head_size:
        raise ValueError(f"a TCP segment needs {head_size} bytes, {size} asked")
    payload = bytes(size - head_size)
    length = 20 + len(options) + len(payload)
    args = (sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (20 + len(options)) << 2, flags, window)
    head = TCPH.pack(*args, 0, 0) + options
    check = checksum(head, pseudo(src, dst, TCP, length))  # zero payload adds nothing to the sum
    head = TCPH.pack(*args, check, 0) + options
    return ip_header(src, dst, TCP, length, ttl=ttl, ident=ident) + head + payload


def tcp_data(src: bytes, dst: bytes, sport: int, dport: int, seq: int, ack: int, payload: bytes, ident: int) -> bytes:
    """A whole IP packet with a TCP segment that carries ``payload``, without options."""
    length = 20 + len(payload)
    args = (sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 20 << 2, ACK, 502)
    check = checksum(TCPH.pack(*args, 0, 0) + payload, pseudo(src, dst, TCP, length))
    return ip_header(src, dst, TCP, length, ident=ident) + TCPH.pack(*args, check, 0) + payload


def echo_request(src: bytes, dst: bytes, ident: int, seq: int, size: int, *, ttl: int = OUR_TTL) -> bytes:
    """A whole IP packet of ``size`` bytes with an echo request (RFC 792; RFC 4443) and zero payload."""
    v6 = len(dst) == 16
    length = size - (40 if v6 else 20)
    if length < 8:
        raise ValueError(f"an echo request needs {48 if v6 else 28} bytes, {size} asked")
    kind = 128 if v6 else 8
    start = pseudo(src, dst, ICMPV6, length) if v6 else 0
    check = checksum(ICMPH.pack(kind, 0, 0, ident, seq), start)
    head = ICMPH.pack(kind, 0, check, ident, seq)
    return ip_header(src, dst, ICMPV6 if v6 else ICMP, length, ttl=ttl, ident=seq) + head + bytes(length - 8)


def parse_ip(data: bytes) -> Ip | None:
    """The IP header at the start of ``data``; None when it is not wholly there or no IP."""
    if len(data) < 20:
        return None
    version = data[0] >> 4
    if version == 4:
        first, _, size, ident, fragment, ttl, protocol, _, src, dst = IP4.unpack_from(data)
        at = (first & 15) * 4
        if at < 20:
            return None
        more = bool(fragment & 0x2000)
        return Ip(4, src, dst, protocol, ttl, size, at, bool(fragment & DF), (fragment & 0x1FFF) * 8, ident, more)
    if version == 6 and len(data) >= 40:
        return _parse_ip6(data)
    return None


def _parse_ip6(data: bytes) -> Ip | None:
    _, payload, protocol, ttl, src, dst = IP6.unpack_from(data)
    at, fragment, ident, more = 40, 0, 0, False
    for _ in range(MAX_EXTENSIONS):
        if protocol in EXTENSIONS:
            if len(data) < at + 2:
                return None
            protocol, at = data[at], at + (data[at + 1] + 1) * 8
        elif protocol == FRAGMENT:
            if len(data) < at + 8:
                return None
            fragment = int.from_bytes(data[at + 2 : at + 4], "big")
            fragment, more = fragment & 0xFFF8, bool(fragment & 1)
            ident = int.from_bytes(data[at + 4 : at + 8], "big") & 0xFFFF
            protocol, at = data[at], at + 8
        else:
            break
    else:
        return None
    return Ip(6, src, dst, protocol, ttl, payload + 40, at, True, fragment, ident, more)


def parse_tcp(data: bytes, at: int) -> Tcp | None:
    """The TCP header at ``at``; options that do not parse are left out."""
    if len(data) < at + 20:
        return None
    sport, dport, seq, ack, offset, flags, window, _, _ = TCPH.unpack_from(data, at)
    length = (offset >> 4) * 4
    if length < 20:
        return None
    mss = wscale = None
    sack_ok, ts = False, None
    sacks: list[tuple[int, int]] = []
    for kind, body in _options(data[at + 20 : at + length]):
        if kind == 2 and len(body) == 2:
            mss = int.from_bytes(body, "big")
        elif kind == 3 and len(body) == 1:
            wscale = body[0]
        elif kind == 4:
            sack_ok = True
        elif kind == 5 and len(body) % 8 == 0:
            sacks = list(struct.iter_unpack("!II", body))
        elif kind == 8 and len(body) == 8:
            ts = (int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big"))
    return Tcp(sport, dport, seq, ack, flags, window, length, mss, wscale, sack_ok, ts, tuple(sacks))


def _options(data: bytes) -> list[tuple[int, bytes]]:
    out: list[tuple[int, bytes]] = []
    i = 0
    while i < len(data) and data[i] != 0:  # 0: end of list
        if data[i] == 1:  # no operation
            i += 1
            continue
        if i + 1 >= len(data) or data[i + 1] < 2 or i + data[i + 1] > len(data):
            break
        out.append((data[i], data[i + 2 : i + data[i + 1]]))
        i += data[i + 1]
    return out


def parse_ports(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Source port, destination port and (TCP) sequence number from the 8 transport bytes every ICMP error quotes
    (RFC 792), or None."""
    if len(data) < at + 8:
        return None
    sport, dport, seq = struct.unpack_from("!HHI", data, at)
    return sport, dport, seq


def which(packet: bytes) -> Which | None:
    """Which one ``packet`` (an IP packet, as much of it as an error quotes) is; None where too little is there."""
    ip = parse_ip(packet)
    ports = parse_ports(packet, ip.at) if ip is not None else None
    if ip is None or ports is None:
        return None
    upper, lower = divmod(ports[2], 1 << 16)  # behind two ports, or behind type, code and checksum
    number = {TCP: ports[2], UDP: upper}.get(ip.protocol, lower)
    return Which(ip.family, ip.protocol, number)


def parse_icmp(data: bytes, at: int, family: int) -> Icmp | None:
    """The ICMP message at ``at``."""
    if len(data) < at + 8:
        return None
    kind, code, _, ident, seq = ICMPH.unpack_from(data, at)
    mtu = None
    if family == 4 and (kind, code) == (3, 4):
        mtu = seq
    elif family == 6 and kind == 2:
        mtu = (ident << 16) | seq
    return Icmp(kind, code, mtu, ident, seq, data[at + 8 :])


def is_error(family: int, kind: int) -> bool:
    """Is this ICMP type an error that quotes a packet?"""
    return kind in (3, 11, 12) if family == 4 else kind in (1, 2, 3, 4)
