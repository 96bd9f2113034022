"""UDP datagrams as whole IP packets: with DF, without, or in fragments of our own making.

::

    UDP      (RFC 768)       0 sport 2 dport 4 length 6 checksum
    fragment (RFC 8200 4.5)  0 next header 1 reserved 2 offset/more 4 identification

Sizes are bytes of IP packet.
"""

import struct

from pathfit.wire.packets import DF, FRAGMENT, IP4, IP6, OUR_TTL, UDP, UDPH, checksum, pseudo

MORE = 0x2000  # IPv4: more fragments follow
FRAGH = struct.Struct("!BBHI")


def datagram(src: bytes, dst: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """UDP header and payload, checksum filled in. ``src``, ``dst`` packed (4 or 16 bytes)."""
    length = 8 + len(payload)
    head = UDPH.pack(sport, dport, length, 0)
    check = checksum(head + payload, pseudo(src, dst, UDP, length)) or 0xFFFF  # 0 means "none" (RFC 768)
    return UDPH.pack(sport, dport, length, check) + payload


def ip4(src: bytes, dst: bytes, protocol: int, body: bytes, ident: int, field: int = DF) -> bytes:
    """An IPv4 packet. ``field``: DF, 0, or MORE and the offset in units of eight bytes."""
    head = IP4.pack(0x45, 0, 20 + len(body), ident, field, OUR_TTL, protocol, 0, src, dst)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def packet(src: bytes, dst: bytes, udp: bytes, ident: int, *, df: bool = True) -> bytes:
    """One IP packet with the datagram ``udp``; ``df`` is without meaning over IPv6."""
    if len(dst) == 4:
        return ip4(src, dst, UDP, udp, ident, DF if df else 0)
    return IP6.pack(6 << 28, len(udp), UDP, OUR_TTL, src, dst) + udp


def fragments(src: bytes, dst: bytes, udp: bytes, ident: int, piece: int, protocol: int = UDP) -> list[bytes]:
    """The datagram (or what else IP carries) in fragments of at most ``piece`` bytes of IP packet, first to last."""
    v6 = len(dst) == 16
    room = (piece - (48 if v6 else 20)) // 8 * 8
    out: list[bytes] = []
    for at in range(0, len(udp), room):
        body = udp[at : at + room]
        more = at + room < len(udp)
        if v6:
            head = IP6.pack(6 << 28, 8 + len(body), FRAGMENT, OUR_TTL, src, dst)
            out.append(head + FRAGH.pack(protocol, 0, at | more, ident) + body)
        else:
            out.append(ip4(src, dst, protocol, body, ident, at // 8 | (MORE if more else 0)))
    return out


def in_pieces(data: bytes) -> bool:
    """Is this IP packet a fragment, first, middle or last?"""
    if len(data) < 20:
        return False
    if data[0] >> 4 == 4:
        return bool(int.from_bytes(data[6:8], "big") & (MORE | 0x1FFF))
    return len(data) >= 40 and data[6] == FRAGMENT
