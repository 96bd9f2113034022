"""What an ICMP error says to the asked client, in one word (RFC 792, RFC 1122, RFC 1812 section 5.2.7.1, RFC 4443)."""

from typing import Literal

Word = Literal["port", "too-big", "filtered", "unreachable", "other"]
FILTERED_V4 = (9, 10, 13)  # communication with net, host, or at all "administratively prohibited"
FILTERED_V6 = (1, 5, 6)  # prohibited; source address failed policy; reject route


def word(family: int, kind: int, code: int) -> Word:
    """Class of an ICMP (ICMPv6) error: "port" nobody listens there, "too-big", "filtered" a filter says no,
    "unreachable" no way there, "other" (time exceeded, parameter problem)."""
    if family == 4:
        if kind != 3:
            return "other"
        if code == 3:
            return "port"
        if code == 4:
            return "too-big"
        return "filtered" if code in FILTERED_V4 else "unreachable"
    if kind == 2:
        return "too-big"
    if kind != 1:
        return "other"
    if code == 4:
        return "port"
    return "filtered" if code in FILTERED_V6 else "unreachable"


def martian(source: bytes, to: bytes) -> bool:
    """Comes it from an address that no router has? The kernel throws such a packet away before anybody hears of it
    (RFC 1812 section 5.3.7, ip_route_input_slow(), ipv6_rcv()). Addresses as on the wire, ``to`` whom it was sent."""
    if len(source) == 4:
        return source[0] == 0 or source[0] >= 224 or (source[0] == 127 and to[0] != 127)
    loopback = bytes(15) + b"\x01"
    return source[0] == 0xFF or source == bytes(16) or (source == loopback and to != loopback)
