"""Options of a DHCP message (RFC 2131, RFC 2132), as far as a lease kept as a message needs them (dhcpcd).

0      op htype hlen hops | 28 chaddr(16) | 44 sname(64) | 108 file(128) | 236 99.130.83.99 | 240 options
option: code(1) length(1) value(length); 0 pad, 255 end
"""

COOKIE = b"\x63\x82\x53\x63"
OPTIONS = 240  # where they begin
INTERFACE_MTU = 26  # RFC 2132 section 5.1: two bytes, at least 68
LEASE_TIME = 51
HARDWARE = slice(28, 34)  # chaddr of Ethernet


def options(message: bytes) -> dict[int, bytes]:
    """Options by code; the parts of one that occurs several times are joined (RFC 3396). Nothing for what is no DHCP
    message; what is cut off at the end is left out."""
    found: dict[int, bytes] = {}
    if message[OPTIONS - 4 : OPTIONS] != COOKIE:
        return found
    at = OPTIONS
    while at < len(message) and message[at] != 255:
        code = message[at]
        if code == 0:
            at += 1
            continue
        if at + 1 >= len(message) or at + 2 + message[at + 1] > len(message):
            break
        end = at + 2 + message[at + 1]
        found[code] = found.get(code, b"") + message[at + 2 : end]
        at = end
    return found


def lease_time(message: bytes) -> int | None:
    """Option 51 (RFC 2132 section 9.2) in seconds; None without it, or when the lease does not end (all ones)."""
    value = options(message).get(LEASE_TIME, b"")
    return int.from_bytes(value, "big") if len(value) == 4 and value != b"\xff" * 4 else None


def interface_mtu(message: bytes) -> int | None:
    """Option 26, None when the message has none (or one that RFC 2132 does not allow)."""
    value = options(message).get(INTERFACE_MTU, b"")
    number = int.from_bytes(value, "big") if len(value) == 2 else 0
    return number if number >= 68 else None
