"""Expressions that put something into a register: meta, payload, ct, exthdr, rt, fib, numgen, hash, socket ...

Each function takes the attributes and what is known of the packet so far and gives (register, symbol, size in bytes).
"""

from collections.abc import Callable

from pathfit.wire.nft import fields as f
from pathfit.wire.nft import symbols as s
from pathfit.wire.nft.messages import Attributes, number

Loaded = tuple[int, s.Symbol, int]


class Context:
    """What the rule has made sure of so far: ``family`` 4 or 6, ``l4proto``."""

    __slots__ = ("family", "l4proto")

    def __init__(self, family: int | None) -> None:
        self.family = family
        self.l4proto: int | None = None

    def learn(self, field: str, value: str) -> None:
        """A test that holds from here on."""
        if field == "nfproto":
            self.family = {"ipv4": 4, "ipv6": 6}.get(value)
        elif field == "ethertype":
            self.family = {"0x0800": 4, "0x86dd": 6}.get(value)
        elif field in ("l4proto", "nexthdr"):
            self.l4proto = int(value)


Loader = Callable[[Attributes, Context], Loaded]

# NFT_META_* -> symbol and size; what is missing here has no word in the model
_META: dict[int, tuple[s.Symbol, int]] = {
    0: (s.value("length", 32, host=True), 4),
    1: (s.value("ethertype", 16), 2),
    3: (s.value("mark", 32, host=True), 4),
    4: (s.value("iif", 32, host=True), 4),
    5: (s.value("oif", 32, host=True), 4),
    6: (s.Name("iifname"), 16),
    7: (s.Name("oifname"), 16),
    8: (s.value("iiftype", 16, host=True), 2),
    9: (s.value("oiftype", 16, host=True), 2),
    10: (s.value("skuid", 32, host=True), 4),
    11: (s.value("skgid", 32, host=True), 4),
    15: (s.value("nfproto", 8), 1),
    16: (s.value("l4proto", 8), 1),
    17: (s.Name("bridgein"), 16),
    18: (s.Name("bridgeout"), 16),
    19: (s.value("pkttype", 8), 1),
}
_META_WORDS = {
    2: "meta priority", 12: "meta nftrace", 13: "meta rtclassid", 14: "meta secmark", 20: "meta cpu",
    21: "meta iifgroup", 22: "meta oifgroup", 23: "meta cgroup", 24: "meta random", 25: "meta secpath",
    26: "meta iifkind", 27: "meta oifkind", 28: "meta ibrpvid", 29: "meta ibrvproto", 30: "meta time",
    31: "meta day", 32: "meta hour", 33: "meta sdif", 34: "meta sdifname",
}  # fmt: skip
_META_SIZE = {30: 8, 26: 16, 27: 16, 34: 16}

_CT: dict[int, tuple[s.Symbol, int]] = {
    0: (s.value("ctstate", 32, host=True), 4),
    1: (s.value("ctdir", 8), 1),
    2: (s.value("ctstatus", 32, host=True), 4),
    3: (s.value("ctmark", 32, host=True), 4),
}
_CT_TUPLE = {8: "saddr", 9: "daddr", 11: "sport", 12: "dport", 19: "saddr", 20: "daddr", 21: "saddr", 22: "daddr"}
_CT_WORDS = {
    4: "ct secmark", 5: "ct expiration", 6: "ct helper", 7: "ct l3proto", 10: "ct protocol", 13: "ct label",
    14: "ct packets", 15: "ct bytes", 16: "ct avgpkt", 17: "ct zone", 18: "ct event", 23: "ct id",
}  # fmt: skip


def meta(a: Attributes, _: Context) -> Loaded:
    """nft_meta_get_eval."""
    key = number(a.get(2))
    symbol, size = _META.get(key, (s.Unknown(_META_WORDS.get(key, f"meta {key}")), _META_SIZE.get(key, 4)))
    return number(a.get(1)), symbol, size


def ct(a: Attributes, context: Context) -> Loaded:
    """nft_ct_get_eval. Tuple keys need a direction; addresses are as long as the family's."""
    key, register = number(a.get(2)), number(a.get(1))
    if key in _CT:
        return register, *_CT[key]
    if key in _CT_TUPLE and 3 in a:
        prefix = "repl" if number(a[3]) else "orig"
        part = _CT_TUPLE[key]
        six = key in (21, 22) or (key in (8, 9) and context.family == 6)
        width = 16 if part.endswith("port") else 128 if six else 32
        if key in (8, 9) and context.family is None:
            return register, s.Unknown(f"ct {prefix} {part}"), 16
        return register, s.value(prefix + part, width), width // 8
    return register, s.Unknown(_CT_WORDS.get(key, f"ct {key}")), {13: 16, 6: 16, 14: 8, 15: 8, 16: 8}.get(key, 4)


def payload(a: Attributes, context: Context) -> Loaded:
    """nft_payload_eval: bytes of the link, network or transport header."""
    base, offset, length = number(a.get(2)), number(a.get(3)), number(a.get(4))
    layout: dict[str, tuple[int, int]] | None = None
    if base == 0 and offset + length <= 14:
        layout = f.ETHERNET
    elif base == 1:
        layout = {4: f.IPV4, 6: f.IPV6}.get(context.family or 0)
    elif base == 2:
        layout = f.TRANSPORT.get(context.l4proto or 0, f.PORTS)
    label = f"@{('ll', 'nh', 'th', 'ih')[base & 3]},{offset * 8},{length * 8}"
    if layout is None:
        return number(a.get(1)), s.Unknown(label), length
    return number(a.get(1)), s.Bits(layout, offset * 8, length * 8), length


def exthdr(a: Attributes, _: Context) -> Loaded:
    """nft_exthdr_eval: IPv6 extension headers (op 0), TCP options (op 1), IPv4 options, SCTP and DCCP."""
    kind, offset, length = number(a.get(2)), number(a.get(3)), number(a.get(4))
    op, present = number(a.get(6)), bool(number(a.get(5)) & 1)
    register = number(a.get(1))
    if op == 1 and kind == 2 and present:
        return register, s.Flag(("tcpopt", "mss", False)), 1
    if op == 1 and kind == 2 and (offset, length) == (2, 2):
        return register, s.value("tcpmss", 16), 2
    if op == 0 and kind == 44 and present:
        return register, s.Flag(("frag", "any", False)), 1
    name = {0: "exthdr", 1: "tcp option", 2: "ip option", 3: "sctp chunk", 4: "dccp option"}.get(op, f"exthdr op {op}")
    return register, s.Unknown(f"{name} {kind}"), length or 1


def rt(a: Attributes, _: Context) -> Loaded:
    """nft_rt_get_eval. Key 3 is the MSS that fits the route and the way back ("rt mtu")."""
    key = number(a.get(2))
    words = {0: "rt classid", 1: "rt nexthop", 2: "rt nexthop", 3: "rt mtu", 4: "rt ipsec"}
    return number(a.get(1)), s.Unknown(words.get(key, f"rt {key}")), {2: 16, 3: 2, 4: 1}.get(key, 4)


def fib(a: Attributes, _: Context) -> Loaded:
    """nft_fib: the type of an address (RTN_*), or whether an answer would leave where the packet came in."""
    result, flags, register = number(a.get(2)), number(a.get(3)), number(a.get(1))
    if result == 3 and flags in (1, 2):
        side = "src" if flags == 1 else "dst"
        return register, s.value(f"addrtype-{side}", 32, host=True), 4
    if flags & ~0x24 == 9 and result in (1, 2):
        return register, s.Flag(("rpfilter", "ok", False), bool(flags & 0x20)), 16 if result == 2 else 4
    names = [n for bit, n in ((1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif")) if flags & bit]
    word = {1: "oif", 2: "oifname", 3: "type"}.get(result, f"result {result}")
    return register, s.Unknown(f"fib {' . '.join(names)} {word}"), 16 if result == 2 else 4


def numgen(a: Attributes, _: Context) -> Loaded:
    """nft_ng: counts (0) or throws dice (1)."""
    kind = "random" if number(a.get(3)) == 1 else "nth"
    return number(a.get(1)), s.Share(kind, number(a.get(2)), number(a.get(4))), 4


def hashed(a: Attributes, _: Context) -> Loaded:
    """nft_hash: the same number for the same flow; which one depends on a random seed."""
    return number(a.get(2)), s.Share("hash", number(a.get(4)), number(a.get(6))), 4


def other(name: str) -> Loader:
    """Expressions whose result we cannot name: socket, osf, xfrm, tunnel."""

    def load(a: Attributes, _: Context) -> Loaded:
        register = number(a.get(1)) if name != "socket" else number(a.get(2))
        return register, s.Unknown(name), 16

    return load


LOADS: dict[str, Loader] = {
    "meta": meta,
    "ct": ct,
    "payload": payload,
    "exthdr": exthdr,
    "rt": rt,
    "fib": fib,
    "numgen": numgen,
    "hash": hashed,
    "socket": other("socket"),
    "osf": other("osf"),
    "xfrm": other("ipsec"),
    "tunnel": other("tunnel"),
}
