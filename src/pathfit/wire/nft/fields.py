"""Which bits of which header are which field, and how a value of a field is written.

Names known to the model stand in core/filters.py. Other header fields have names too, so that a rule can be shown to
a person ("udp length 100"), but a test of one is Opaque.
"""

from pathfit.core.net import ICMP, ICMPV6, TCP, UDP
from pathfit.wire.addresses import ip

# name -> (first bit, width), as drawn in RFC 791, 8200, 9293, 768, 792, 4443
IPV4 = {
    "ip version": (0, 4),
    "ip hdrlength": (4, 4),
    "dscp": (8, 6),
    "ip ecn": (14, 2),
    "length": (16, 16),
    "ip id": (32, 16),
    "ip reserved": (48, 1),
    "df": (49, 1),
    "fragmore": (50, 1),
    "fragoff": (51, 13),
    "ttl": (64, 8),
    "l4proto": (72, 8),
    "ip checksum": (80, 16),
    "saddr": (96, 32),
    "daddr": (128, 32),
}
IPV6 = {
    "ip6 version": (0, 4),
    "dscp": (4, 6),
    "ip6 ecn": (10, 2),
    "ip6 flowlabel": (12, 20),
    "ip6 length": (32, 16),
    "nexthdr": (48, 8),
    "ttl": (56, 8),
    "saddr": (64, 128),
    "daddr": (192, 128),
}
PORTS = {"sport": (0, 16), "dport": (16, 16)}
TCP_FIELDS = PORTS | {
    "tcp sequence": (32, 32),
    "tcp ackseq": (64, 32),
    "tcp doff": (96, 4),
    "tcp reserved": (100, 4),
    "tcpflags": (104, 8),
    "tcp window": (112, 16),
    "tcp checksum": (128, 16),
    "tcp urgptr": (144, 16),
}
UDP_FIELDS = PORTS | {"udp length": (32, 16), "udp checksum": (48, 16)}
ICMP_FIELDS = {
    "icmptype": (0, 8),
    "icmpcode": (8, 8),
    "icmp checksum": (16, 16),
    "icmp id": (32, 16),
    "icmp sequence": (48, 16),
}
ETHERNET = {"ether daddr": (0, 48), "ether saddr": (48, 48), "ethertype": (96, 16)}

TRANSPORT = {TCP: TCP_FIELDS, UDP: UDP_FIELDS, ICMP: ICMP_FIELDS, ICMPV6: ICMP_FIELDS}
MODEL_ONLY_WHOLE = frozenset({"sport", "dport", "length", "ttl", "l4proto", "nexthdr", "icmptype", "icmpcode", "dscp"})

TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
CT_STATES = ((1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked"))
CT_STATUS = (
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
)
NFPROTO = {2: "ipv4", 10: "ipv6", 7: "bridge", 3: "arp"}
PKTTYPE = {0: "host", 1: "broadcast", 2: "multicast", 3: "other"}
ADDRESS_TYPES = (
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "xresolve",
)  # RTN_* in order (rtnetlink.h)

ADDRESSES = frozenset({"saddr", "daddr", "origsaddr", "origdaddr", "replsaddr", "repldaddr"})
NAMES = frozenset({"iifname", "oifname", "bridgein", "bridgeout"})
NUMBERS = frozenset(
    {
        *("sport", "dport", "iif", "oif", "iiftype", "oiftype", "icmptype", "icmpcode", "l4proto", "nexthdr"),
        *("length", "ttl", "dscp", "tcpmss", "skuid", "skgid"),
        *("origsport", "origdport", "replsport", "repldport"),
    }
)


def flags_text(bits: int) -> str:
    """TCP flags by name, "0" for none."""
    return ",".join(name for i, name in enumerate(TCP_FLAGS) if bits >> i & 1) or "0"


def bits_of(value: int, names: tuple[tuple[int, str], ...]) -> tuple[str, ...] | None:
    """The names of all bits set; None when one has no name."""
    found = tuple(name for bit, name in names if value & bit)
    rest = value
    for bit, _ in names:
        rest &= ~bit
    return None if rest else found


def prefix_of(mask: int, width: int) -> int | None:
    """Prefix length of a netmask, None when its ones are not together at the top."""
    inverted = ~mask & ((1 << width) - 1)
    return width - inverted.bit_length() if inverted & (inverted + 1) == 0 else None


def address_range(lo: int, hi: int, width: int) -> str:
    """ "198.51.100.0/24" when the range is a prefix, otherwise "first-last"."""
    span = lo ^ hi
    size = width // 8
    if span & (span + 1) == 0 and lo & span == 0:
        return f"{ip(lo.to_bytes(size, 'big'))}/{width - span.bit_length()}"
    return f"{ip(lo.to_bytes(size, 'big'))}-{ip(hi.to_bytes(size, 'big'))}"


def whole_value(field: str, value: int) -> str | None:
    """How one exact value of a field is written in a Match; None when the model has no word for it."""
    if field in NUMBERS:
        return str(value)
    if field in ("mark", "ctmark"):
        return f"{value:#x}/0xffffffff"
    if field == "ethertype":
        return f"0x{value:04x}"
    if field == "nfproto":
        return NFPROTO.get(value)
    if field == "pkttype":
        return PKTTYPE.get(value)
    if field == "ctdir":
        return {0: "original", 1: "reply"}.get(value)
    if field == "tcpflags":
        return f"{flags_text(value)}/{','.join(TCP_FLAGS)}"
    if field == "ctstate":
        names = bits_of(value, CT_STATES)
        return names[0] if names and len(names) == 1 else None
    if field in ("addrtype-src", "addrtype-dst"):
        known = value < len(ADDRESS_TYPES)
        return f"{field[9:]}:{ADDRESS_TYPES[value]}" if known else None
    return None


def name_value(raw: bytes) -> str:
    """An interface name from its bytes: shorter than 16 and without NUL at the end it is a prefix ("veth*")."""
    name = raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return name if len(raw) == 16 or b"\0" in raw else name + "*"
