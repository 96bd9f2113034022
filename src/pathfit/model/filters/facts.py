"""The facts of one packet at one hook, each found out when a rule first asks for it: few rules ask for many.

What the kernel learns on the way (conntrack, defragmentation) is written over them here too.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

from pathfit.core.net import ICMP, ICMPV6, TCP, Family
from pathfit.model.filters.conditions import ABSENT, SLOT, Facts, address, flag_bits

PORTS = frozenset({6, 17, 33, 132, 136})  # TCP, UDP, DCCP, SCTP, UDP-Lite
CtState = Literal["new", "established", "related", "invalid", "untracked"]


class Tuple(Protocol):
    """Who talks to whom."""

    @property
    def src(self) -> str: ...
    @property
    def dst(self) -> str: ...
    @property
    def sport(self) -> int: ...
    @property
    def dport(self) -> int: ...


class Header(Tuple, Protocol):
    """What stands in a packet's header."""

    @property
    def proto(self) -> int: ...
    @property
    def df(self) -> bool: ...
    @property
    def mark(self) -> int: ...
    @property
    def family(self) -> Family: ...


class Asked(Protocol):
    """What can be asked about a packet; :class:`pathfit.model.filters.evaluate.Packet` says what each means. ``length``
    is its size in bytes, ``together`` that of the packet it is a fragment of; None when it is not known."""

    @property
    def flow(self) -> Header: ...
    @property
    def length(self) -> int | None: ...
    @property
    def together(self) -> int | None: ...
    @property
    def iifname(self) -> str | None: ...
    @property
    def oifname(self) -> str | None: ...
    @property
    def iif(self) -> int | None: ...
    @property
    def oif(self) -> int | None: ...
    @property
    def iiftype(self) -> int | None: ...
    @property
    def oiftype(self) -> int | None: ...
    @property
    def bridge_in(self) -> str | None: ...
    @property
    def bridge_out(self) -> str | None: ...
    @property
    def ctstate(self) -> CtState | None: ...
    @property
    def ctdir(self) -> Literal["original", "reply"] | None: ...
    @property
    def ctstatus(self) -> tuple[str, ...] | None: ...
    @property
    def ctmark(self) -> int | None: ...
    @property
    def tcp_flags(self) -> tuple[str, ...] | None: ...
    @property
    def mss(self) -> int | None: ...
    @property
    def frag(self) -> Literal["no", "first", "later"]: ...
    @property
    def icmp_type(self) -> int | None: ...
    @property
    def icmp_code(self) -> int | None: ...
    @property
    def ttl(self) -> int | None: ...
    @property
    def dscp(self) -> int | None: ...
    @property
    def pkttype(self) -> str | None: ...
    @property
    def src_type(self) -> str | None: ...
    @property
    def dst_type(self) -> str | None: ...
    @property
    def rpfilter(self) -> bool | None: ...
    @property
    def local(self) -> bool: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def gid(self) -> int | None: ...
    @property
    def original(self) -> Tuple | None: ...
    @property
    def reply(self) -> Tuple | None: ...
    @property
    def translated(self) -> Tuple | None: ...
    @property
    def rt_mtu(self) -> int | None: ...
    @property
    def mark(self) -> int | None: ...


class PacketFacts(Facts):
    """The packet's facts by slot, as this hook sees them."""

    __slots__ = ("hook", "packet")

    def __init__(self, packet: Asked, hook: str) -> None:
        self.packet, self.hook = packet, hook

    def __missing__(self, slot: int) -> Any:
        value = self[slot] = _LOOK[slot](self.packet, self.hook)
        return value


Look = Callable[[Asked, str], object]


def _has_in(p: Asked, hook: str) -> bool:
    return hook not in ("output", "egress") and not (hook == "postrouting" and p.local)


def _has_out(hook: str) -> bool:
    return hook not in ("prerouting", "input", "ingress")


def _port(which: Callable[[Header], int]) -> Look:
    def look(p: Asked, _: str) -> object:
        return ABSENT if p.frag == "later" else which(p.flow) if p.flow.proto in PORTS else None

    return look


def _flags(p: Asked, _: str) -> object:
    if p.flow.proto != TCP or p.frag == "later":
        return ABSENT
    return None if p.tcp_flags is None else flag_bits(",".join(p.tcp_flags))


def _mss(p: Asked, _: str) -> object:
    syn = p.flow.proto == TCP and p.frag != "later" and (p.tcp_flags is None or "syn" in p.tcp_flags)
    return p.mss if syn and p.mss != 0 else ABSENT


def _icmp(which: Callable[[Asked], int | None]) -> Look:
    def look(p: Asked, _: str) -> object:
        return which(p) if p.flow.proto in (ICMP, ICMPV6) and p.frag != "later" else ABSENT

    return look


def _tracked(which: Callable[[Asked], object]) -> Look:
    def look(p: Asked, _: str) -> object:
        return ABSENT if p.ctstate in ("invalid", "untracked") else which(p)

    return look


def _owner(which: Callable[[Asked], int | None]) -> Look:
    def look(p: Asked, hook: str) -> object:
        return which(p) if p.local and hook in ("output", "postrouting") else ABSENT

    return look


def _of(whose: Callable[[Asked], Tuple | None], which: Callable[[Tuple], object]) -> Look:
    def read(p: Asked) -> object:
        known = whose(p)
        return None if known is None else which(known)

    return _tracked(read)


_LOOKS: dict[str, Look] = {
    "saddr": lambda p, _: address(p.flow.src),
    "daddr": lambda p, _: address(p.flow.dst),
    "sport": _port(lambda f: f.sport),
    "dport": _port(lambda f: f.dport),
    "l4proto": lambda p, _: p.flow.proto,
    "ctstate": lambda p, _: p.ctstate,
    "iifname": lambda p, hook: p.iifname if _has_in(p, hook) else "",
    "oifname": lambda p, hook: p.oifname if _has_out(hook) else "",
    "mark": lambda p, _: p.flow.mark if p.mark is None else p.mark,
    "ctmark": _tracked(lambda p: p.ctmark),
    "tcpflags": _flags,
    "tcpmss": _mss,
    "icmptype": _icmp(lambda p: p.icmp_type),
    "icmpcode": _icmp(lambda p: p.icmp_code),
    "frag": lambda p, _: 2 if p.frag == "later" else 1 if p.frag == "first" else 0,
    "fragmore": lambda p, _: p.frag == "first" or (None if p.frag == "later" else False),
    "df": lambda p, _: p.flow.df,
    "length": lambda p, _: p.length,
    "ttl": lambda p, _: p.ttl,
    "dscp": lambda p, _: p.dscp,
    "ctdir": _tracked(lambda p: p.ctdir),
    "ctstatus": _tracked(lambda p: p.ctstatus),
    "iif": lambda p, hook: p.iif if _has_in(p, hook) else 0,
    "oif": lambda p, hook: p.oif if _has_out(hook) else 0,
    "iiftype": lambda p, hook: p.iiftype if _has_in(p, hook) else ABSENT,
    "oiftype": lambda p, hook: p.oiftype if _has_out(hook) else ABSENT,
    "pkttype": lambda p, _: p.pkttype,
    "srctype": lambda p, _: p.src_type,
    "dsttype": lambda p, _: p.dst_type,
    "rpfilter": lambda p, _: p.rpfilter,
    "skuid": _owner(lambda p: p.uid),
    "skgid": _owner(lambda p: p.gid),
    "ethertype": lambda p, _: "0x86dd" if p.flow.family == 6 else "0x0800",
    "nfproto": lambda p, _: "ipv6" if p.flow.family == 6 else "ipv4",
    "nexthdr": lambda p, _: 44 if p.flow.family == 6 and p.frag != "no" else p.flow.proto,
    "bridgein": lambda p, _: p.bridge_in,
    "bridgeout": lambda p, _: p.bridge_out,
    "origsaddr": _of(lambda p: p.original, lambda t: address(t.src)),
    "origdaddr": _of(lambda p: p.original, lambda t: address(t.dst)),
    "origsport": _of(lambda p: p.original, lambda t: t.sport),
    "origdport": _of(lambda p: p.original, lambda t: t.dport),
    "replsaddr": _of(lambda p: p.reply, lambda t: address(t.src)),
    "repldaddr": _of(lambda p: p.reply, lambda t: address(t.dst)),
    "replsport": _of(lambda p: p.reply, lambda t: t.sport),
    "repldport": _of(lambda p: p.reply, lambda t: t.dport),
}
_LOOK = [_LOOKS[name] for name in SLOT]

_CT = tuple(SLOT[n] for n in SLOT if n.startswith(("ct", "orig", "repl")))  # ctstate comes first
CTSTATE = SLOT["ctstate"]
_REASSEMBLED = tuple(SLOT[n] for n in ("sport", "dport", "tcpflags", "tcpmss", "nexthdr"))


class _Whole:
    """A fragment's packet once it is put together: the first four of its facts are those of the whole."""

    frag: Literal["no"] = "no"

    def __init__(self, p: Asked) -> None:
        self.flow, self.tcp_flags, self.mss = p.flow, p.tcp_flags, p.mss


def put_together(facts: Facts, packet: Asked) -> None:
    """Defragmented (nf_defrag_ipv4, nf_ct_frag6_gather): the whole packet."""
    whole: Any = _Whole(packet)
    for slot in _REASSEMBLED:
        facts[slot] = _LOOK[slot](whole, "forward")
    if packet.flow.proto in (ICMP, ICMPV6):
        facts[SLOT["icmptype"]], facts[SLOT["icmpcode"]] = packet.icmp_type, packet.icmp_code
    facts[SLOT["frag"]], facts[SLOT["fragmore"]], facts[SLOT["length"]] = 0, False, packet.together


def without_conntrack(facts: Facts) -> list[object]:
    """Conntrack has not seen the packet yet; gives back what it will say."""
    kept = [facts[i] for i in _CT]
    for i in _CT:
        facts[i] = ABSENT
    facts[CTSTATE] = "invalid" if kept[0] != "untracked" else "untracked"
    return kept


def with_conntrack(facts: Facts, kept: list[object]) -> None:
    """Conntrack has seen the packet now - unless a rule before it said notrack."""
    if facts[CTSTATE] == "untracked":
        return
    if facts[CTSTATE] is None:  # perhaps notrack
        kept = [None] * len(_CT)
    for i, fact in zip(_CT, kept, strict=True):
        facts[i] = fact
