"""Filters evaluated the slow and plain way, to compare the fast one with.

:func:`evaluate` shows every rule to the packet, one after another, each test worked out from its text. :func:`certain`
shares nothing with the model: it can only do packets of which everything is known and rules without dice.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from pathfit.core.filters import Chain, Clamp, Concat, FilterRule, Match, Opaque, SetMark, Table, Verdict
from pathfit.model.filters.conditions import ABSENT, FLAGS, SIX, SLOT, Facts, compiled
from pathfit.model.filters.evaluate import Outcome, Packet, judge, outcome, tables_index
from pathfit.model.filters.facts import PORTS
from pathfit.model.filters.index import Compiled, Entry, FilterIndex, _entry
from pathfit.model.filters.sieve import Memo

ADDRESSES = ("saddr", "daddr", "origsaddr", "origdaddr", "replsaddr", "repldaddr")
PREFIXED = ("iifname", "oifname")
EQUAL = ("ctstate", "ctdir", "pkttype", "nfproto", "ethertype")
NUMBERS = (
    *("sport", "dport", "iif", "oif", "iiftype", "oiftype", "icmptype", "icmpcode", "l4proto", "nexthdr", "length"),
    *("ttl", "dscp", "tcpmss", "maxseg", "skuid", "skgid", "origsport", "origdport", "replsport", "repldport"),
)


def _address(fact: int) -> Any:
    return ip_address((fact & ~SIX).to_bytes(16, "big")) if fact & SIX else ip_address(fact.to_bytes(4, "big"))


def _holds_address(fact: int, text: str) -> bool:
    it: Any = _address(fact)
    if "-" in text:
        lo, hi = map(ip_address, text.split("-"))
        return it.version == lo.version and lo <= it <= hi
    return it in ip_network(text, strict=False)


def _holds_number(fact: int, text: str) -> bool:
    lo, _, hi = text.partition("-")
    return int(lo) <= fact <= int(hi or lo)


def _holds_name(fact: str, text: str) -> bool:
    return fact.startswith(text[:-1]) if text.endswith("*") else fact == text


def _holds_mark(fact: int, text: str) -> bool:
    value, _, mask = text.partition("/")
    return fact & (int(mask, 0) if mask else 0xFFFFFFFF) == int(value, 0)


def _bits(names: str) -> int:
    return 0 if names == "0" else sum(FLAGS[x] for x in names.split(","))


def _holds_flags(fact: int, text: str) -> bool:
    value, _, mask = text.partition("/")
    return fact & (_bits(mask) or 0xFF) == _bits(value)


HOW: dict[str, tuple[str, Any]] = {
    **{f: (f, _holds_address) for f in ADDRESSES},
    **{f: ("tcpmss" if f == "maxseg" else f, _holds_number) for f in NUMBERS},
    **{f: (f, _holds_name) for f in PREFIXED},
    **{f: (f, lambda fact, text: fact == text) for f in EQUAL},
    "mark": ("mark", _holds_mark),
    "ctmark": ("ctmark", _holds_mark),
    "tcpflags": ("tcpflags", _holds_flags),
    "ctstatus": ("ctstatus", lambda fact, text: text in fact),
}


def matches(m: Match, facts: Any) -> bool | float | None:
    """Does the test hold? A share for dice, None where it is not known."""
    if not m.values:
        return m.negate
    if m.field not in HOW or (m.field == "maxseg" and m.lenient):
        return compiled(m)(facts)
    name, holds = HOW[m.field]
    fact = facts[SLOT[name]]
    if fact is ABSENT:
        return m.lenient and m.negate
    if fact is None:
        return None
    if any(holds(fact, v) for v in m.values):
        return not m.negate
    in_a_set = m.field in (*ADDRESSES, *NUMBERS, *PREFIXED, *EQUAL) and m.field != "maxseg"
    return None if m.partial and in_a_set else m.negate


class Plain(Compiled):
    """A chain that shows every rule to every packet."""

    def about(self, facts: Facts, memo: Memo) -> list[Entry]:
        found = []
        for rule in self.chain.rules:
            entry = _entry(rule)
            if entry is not None:
                found.append(entry._replace(tests=tuple(_slow(e) for e in _head(rule))))
        return found


def _head(rule: FilterRule) -> list[Match | Concat | Opaque]:
    head: list[Match | Concat | Opaque] = []
    for e in rule.exprs:
        if isinstance(e, Match | Concat) or (isinstance(e, Opaque) and not e.statement):
            head.append(e)
        elif type(e).__name__ != "Passive":
            break
    return head


def _slow(e: Match | Concat | Opaque) -> Any:
    return (lambda facts: matches(e, facts)) if isinstance(e, Match) else compiled(e)


def evaluate(tables: tuple[Table, ...], hook: Any, packet: Packet) -> Outcome:
    """As :func:`pathfit.model.filters.evaluate.evaluate`, rule by rule."""
    index = plain(tables)
    bases = index.bases(hook, packet.flow.family, "ip", None)
    if not bases:
        mark = packet.flow.mark if packet.mark is None else packet.mark
        return Outcome(verdict="accept", mss=packet.mss, mark=mark, ctmark=packet.ctmark, df=packet.flow.df)
    return outcome(judge(index, bases, hook, packet, "ip"), packet, hook)


def plain(tables: tuple[Table, ...]) -> FilterIndex:
    """The index of these tables, with chains that are not clever."""
    index = tables_index(tables)
    for place in index.hooks:
        for base in index._prepared(place):
            base.compiled = Plain(base.chain)
            base.owner._chains = {c.name: Plain(c) for c in base.owner.table.chains}
    return index


# --- sharing nothing ---------------------------------------------------------------------------------------------


def facts_of(packet: Packet, hook: str) -> dict[str, Any]:
    """What is certain of a whole packet that a test asks for, all of it."""
    flow = packet.flow

    def address(text: str) -> int:
        it = ip_address(text)
        return int(it) | (SIX if it.version == 6 else 0)

    ported = flow.proto in PORTS
    syn = flow.proto == 6 and (packet.tcp_flags is None or "syn" in packet.tcp_flags)
    icmp = flow.proto in (1, 58)
    six = flow.family == 6
    return {
        "saddr": address(flow.src),
        "daddr": address(flow.dst),
        "sport": flow.sport if ported else None,
        "dport": flow.dport if ported else None,
        "l4proto": flow.proto,
        "ctstate": packet.ctstate,
        "iifname": "" if hook == "output" or (hook == "postrouting" and packet.local) else packet.iifname,
        "oifname": packet.oifname if hook not in ("prerouting", "input") else "",
        "mark": flow.mark if packet.mark is None else packet.mark,
        "tcpflags": ABSENT if flow.proto != 6 else packet.tcp_flags and _bits(",".join(packet.tcp_flags)),
        "tcpmss": packet.mss if syn and packet.mss != 0 else ABSENT,
        "icmptype": packet.icmp_type if icmp else ABSENT,
        "icmpcode": packet.icmp_code if icmp else ABSENT,
        "length": flow.size or None,
        "ttl": packet.ttl,
        "ethertype": "0x86dd" if six else "0x0800",
        "nfproto": "ipv6" if six else "ipv4",
        "nexthdr": flow.proto,
    }


class Unsure(Exception):
    """Something that :func:`certain` cannot do."""


def certain(table: Table, hook: str, packet: Packet) -> tuple[str, int, int | None]:
    """Verdict, mark and MSS after the base chains of one table at a hook, in order of priority."""
    facts: dict[str, Any] = facts_of(packet, hook)
    chains = {c.name: c for c in table.chains}
    bases = [c for c in reversed(table.chains) if c.hook == hook]
    verdict = "accept"
    for base in sorted(bases, key=lambda c: c.priority):
        verdict = _chain(base, chains, facts) or base.policy
        if verdict in ("drop", "reject"):
            break
    mss = facts["tcpmss"]
    return ("accept" if verdict in ("return", "accept") else verdict), facts["mark"], 0 if mss is ABSENT else mss


def _chain(chain: Chain, chains: dict[str, Chain], facts: dict[str, Any]) -> str | None:
    for rule in chain.rules:
        said = _rule(rule, chains, facts)
        if said == "return":
            return None
        if said is not None:
            return said
    return None


def _rule(rule: FilterRule, chains: dict[str, Chain], facts: dict[str, Any]) -> str | None:
    by_slot = {SLOT[k]: v for k, v in facts.items()}
    for e in rule.exprs:
        if isinstance(e, Match):
            by_slot.update({SLOT[k]: v for k, v in facts.items()})
            answer = matches(e, by_slot)
            if answer is None or isinstance(answer, float):
                raise Unsure
            if not answer:
                return None
        elif isinstance(e, SetMark):
            facts["mark"] = (facts["mark"] & ~e.mask) ^ e.value
        elif isinstance(e, Clamp):
            if facts["tcpmss"] is not ABSENT and e.size is not None:
                facts["tcpmss"] = min(facts["tcpmss"], e.size)
        elif isinstance(e, Verdict) and e.kind in ("jump", "goto"):
            said = _chain(chains[e.target or ""], chains, facts)
            return said if said is not None else "return" if e.kind == "goto" else None
        elif isinstance(e, Verdict):
            return None if e.kind == "continue" else e.kind
    return None
