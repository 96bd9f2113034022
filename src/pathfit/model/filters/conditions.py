"""Tests of filter rules as small functions over a packet's facts.

A packet is a mapping of facts by slot (:data:`SLOT`); a fact is a value, None = not known, or ABSENT = the packet has
no such thing (a later fragment has no ports). A test answers

* True or False: certain;
* None: not known, because the fact is not;
* a float: holds for that share of packets (dice, counters); NaN = some, nobody knows how many (`limit`).

ABSENT answers False whether negated or not: the kernel ends the rule (NFT_BREAK; xt matches return false).
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from math import isnan, nan
from typing import Any

from pathfit.core.filters import Concat, Match, Opaque
from pathfit.model.addr import number

Facts = dict[int, Any]
Answer = bool | float | None
Test = Callable[[Facts], Answer]

ABSENT = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()

_NAMES = (
    "saddr daddr sport dport l4proto ctstate iifname oifname mark ctmark tcpflags tcpmss icmptype icmpcode frag "
    "fragmore df length ttl dscp ctdir ctstatus iif oif iiftype oiftype pkttype srctype dsttype rpfilter skuid skgid "
    "ethertype nfproto nexthdr bridgein bridgeout origsaddr origdaddr origsport origdport replsaddr repldaddr "
    "replsport repldport"
)
SLOT = {name: i for i, name in enumerate(_NAMES.split())}

SIX = 1 << 128  # marks IPv6 addresses, so that ::1 is not 0.0.0.1
ADDRESSES = frozenset({"saddr", "daddr", "origsaddr", "origdaddr", "replsaddr", "repldaddr"})
WORDS = frozenset({"ctstate", "ctdir", "pkttype", "nfproto", "ethertype"})
INTERFACES = frozenset({"iifname", "oifname", "bridgein", "bridgeout"})
NUMBERS = frozenset(
    {
        *("sport", "dport", "iif", "oif", "iiftype", "oiftype", "icmptype", "icmpcode", "l4proto", "nexthdr"),
        *("length", "ttl", "dscp", "tcpmss", "skuid", "skgid"),
        *("origsport", "origdport", "replsport", "repldport"),
    }
)
FLAGS = {name: 1 << i for i, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"))}


def address(text: str) -> int:
    """An address as one number for both families."""
    return number(text) | SIX if ":" in text else number(text)


def span_of(text: str) -> tuple[int, int]:
    """ "198.51.100.0/24", "a-b" or one address: first and last as numbers. Raises ValueError."""
    if "-" in text:
        lo, _, hi = text.partition("-")
        return address(lo), address(hi)
    host, _, length = text.partition("/")
    first = address(host)
    bits = (128 if ":" in host else 32) - (int(length) if length else 128 if ":" in host else 32)
    first = first >> bits << bits
    return first, first | ((1 << bits) - 1)


def numbers_of(text: str) -> tuple[int, int]:
    """ "443" or "1000-2000". Raises ValueError."""
    lo, _, hi = text.partition("-")
    return int(lo), int(hi or lo)


def flag_bits(text: str) -> int:
    """TCP flags by name to bits. Raises KeyError for an unknown name."""
    return 0 if text in ("0", "") else sum(FLAGS[name] for name in text.split(","))


def compiled(expr: Match | Concat | Opaque) -> Test:
    """The function for a test. What is not understood answers None."""
    if type(expr) is Match and len(expr.values) <= FEW:
        return _remembered(expr)
    return _compiled(expr)


FEW = 4  # values; larger sets are rarely the same twice, and would be kept


@lru_cache(maxsize=4096)
def _remembered(expr: Match) -> Test:
    """The same tests stand in many rules, and the same rules in many namespaces (an engine's, in every container)."""
    return _compiled(expr)


def _compiled(expr: Match | Concat | Opaque) -> Test:
    try:
        if isinstance(expr, Match):
            return _match(expr)
        if isinstance(expr, Concat):
            return _concat(expr)
    except (ValueError, KeyError, TypeError):
        return _unknown
    return _unknown


def _unknown(_: Facts) -> Answer:
    return None


def _match(m: Match) -> Test:
    if not m.values:
        return _constant(m.negate)
    return _lenient(m) if m.lenient else _strict(m)


def _lenient(m: Match) -> Test:
    slot, negate, strict = SLOT[m.field], m.negate, _strict(m)
    return lambda v: negate if v[slot] is ABSENT else strict(v)


def _strict(m: Match) -> Test:
    field = m.field
    if field in ADDRESSES:
        return _spans(SLOT[field], [span_of(v) for v in m.values], m.negate, m.partial)
    if field in WORDS or field in INTERFACES:
        return _words(m)
    if field in NUMBERS:
        return _spans(SLOT[field], [numbers_of(v) for v in m.values], m.negate, m.partial)
    build = OTHER.get(field)
    return build(m) if build else _unknown


def _constant(answer: bool) -> Test:
    return lambda _: answer


def _spans(slot: int, spans: list[tuple[int, int]], negate: bool, partial: bool) -> Test:
    """Is the number in one of the spans? One span and up to some tens of thousands are both fast."""
    outside: Answer = None if partial else negate
    if len(spans) == 1:
        return _one_span(slot, *spans[0], not negate, outside)
    if all(lo == hi for lo, hi in spans):
        exact = frozenset(lo for lo, _ in spans)

        def among(v: Facts) -> Answer:
            x = v[slot]
            if x in exact:
                return not negate
            return None if x is None else False if x is ABSENT else outside

        return among
    lows, highs = _merged(spans)

    def within(v: Facts) -> Answer:
        x = v[slot]
        if x is None:
            return None
        if x is ABSENT:
            return False
        i = bisect_right(lows, x) - 1
        return not negate if i >= 0 and x <= highs[i] else outside

    return within


def _one_span(slot: int, lo: int, hi: int, inside: bool, outside: Answer) -> Test:
    if lo == hi:

        def equal(v: Facts) -> Answer:
            x = v[slot]
            if x == lo:
                return inside
            return None if x is None else False if x is ABSENT else outside

        return equal

    def between(v: Facts) -> Answer:
        x = v[slot]
        if x is None:
            return None
        if x is ABSENT:
            return False
        return inside if lo <= x <= hi else outside

    return between


def _merged(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Spans in order, overlapping ones joined: their first and last numbers."""
    lows: list[int] = []
    highs: list[int] = []
    for lo, hi in sorted(spans):
        if highs and lo <= highs[-1]:
            highs[-1] = max(highs[-1], hi)
        else:
            lows.append(lo)
            highs.append(hi)
    return lows, highs


def _words(m: Match) -> Test:
    slot, negate = SLOT[m.field], m.negate
    outside: Answer = None if m.partial else negate
    exact = frozenset(v for v in m.values if not (m.field in INTERFACES and v.endswith("*")))
    stems = tuple(v[:-1] for v in m.values if v not in exact)

    def among(v: Facts) -> Answer:
        x = v[slot]
        if x in exact or (stems and x.__class__ is str and x.startswith(stems)):
            return not negate
        return None if x is None else False if x is ABSENT else outside

    return among


def _marks(m: Match) -> Test:
    pairs = []
    for text in m.values:
        value, _, mask = text.partition("/")
        pairs.append((int(value, 0), int(mask, 0) if mask else 0xFFFFFFFF))
    return _masked(SLOT[m.field], pairs, m.negate)


def _tcpflags(m: Match) -> Test:
    pairs = [(flag_bits(t.partition("/")[0]), flag_bits(t.partition("/")[2]) or 0xFF) for t in m.values]
    return _masked(SLOT["tcpflags"], pairs, m.negate)


def _masked(slot: int, pairs: list[tuple[int, int]], negate: bool) -> Test:
    """Whether the number in ``slot``, under any of the masks, is the value beside it."""

    def test(v: Facts) -> Answer:
        x = v[slot]
        if x is None or x is ABSENT:
            return None if x is None else False
        return any(x & mask == value for value, mask in pairs) is not negate

    return test


def _ctstatus(m: Match) -> Test:
    slot, wanted, negate = SLOT["ctstatus"], frozenset(m.values), m.negate

    def test(v: Facts) -> Answer:
        x = v[slot]
        if x is None or x is ABSENT:
            return None if x is None else False
        return (not wanted.isdisjoint(x)) is not negate

    return test


def _frag(m: Match) -> Test:
    """0 whole, 1 first fragment, 2 a later one."""
    slot, negate = SLOT["frag"], m.negate
    least = 1 if "any" in m.values else 2

    def test(v: Facts) -> Answer:
        x = v[slot]
        return None if x is None else (x >= least) is not negate

    return test


def _boolean(slot: int, yes: str) -> Callable[[Match], Test]:
    def build(m: Match) -> Test:
        wanted = (yes in m.values) is not m.negate

        def test(v: Facts) -> Answer:
            x = v[slot]
            return None if x is None else False if x is ABSENT else x is wanted

        return test

    return build


def _tcpopt(m: Match) -> Test:
    """Presence: a packet without the option answers False, not "no such header" (NFT_EXTHDR_F_PRESENT)."""
    slot, negate = SLOT["tcpmss"], m.negate

    def test(v: Facts) -> Answer:
        x = v[slot]
        return None if x is None else (x is not ABSENT) is not negate

    return test if m.values == ("mss",) else _unknown


def _addrtype(m: Match) -> Test:
    sides = {v.partition(":")[0] for v in m.values}
    slot = SLOT["srctype" if sides == {"src"} else "dsttype"]
    wanted, negate = frozenset(v.partition(":")[2] for v in m.values), m.negate

    def test(v: Facts) -> Answer:
        x = v[slot]
        return None if x is None else (x in wanted) is not negate

    return test if len(sides) == 1 else _unknown


def _bridgeport(m: Match) -> Test:
    """Ports of a bridge, "" when the packet is not bridged."""
    side, _, name = m.values[0].partition(":")
    negate = m.negate
    slots = [SLOT["bridgein"], SLOT["bridgeout"]] if side == "bridged" else [SLOT[f"bridge{side}"]]
    stem = name[:-1] if name.endswith("*") else None

    def test(v: Facts) -> Answer:
        x: Any
        for slot in slots:
            x = v[slot]
            if x is None:
                return None
            held = bool(x) if not name else x.startswith(stem) and bool(x) if stem is not None else x == name
            if not held:
                return negate
        return not negate

    return test if len(m.values) == 1 else _unknown


def share_of(field: str, text: str) -> float:
    """The share of packets a `random`, `nth` or `hash` value stands for. Raises ValueError."""
    if field == "random":
        return min(max(float(text), 0.0), 1.0)
    which, _, of = text.partition("/")
    lo, hi = numbers_of(which)
    return max(hi - lo + 1, 0) / max(int(of), 1)


def _share(m: Match) -> Test:
    part = min(sum(share_of(m.field, v) for v in m.values), 1.0)
    part = 1.0 - part if m.negate else part
    return _constant(part >= 1.0) if part in (0.0, 1.0) else (lambda _: part)


def _limit(_: Match) -> Test:
    return lambda _: nan


OTHER: dict[str, Callable[[Match], Test]] = {
    "mark": _marks,
    "ctmark": _marks,
    "tcpflags": _tcpflags,
    "ctstatus": _ctstatus,
    "frag": _frag,
    "fragmore": _boolean(SLOT["fragmore"], "set"),
    "df": _boolean(SLOT["df"], "set"),
    "tcpopt": _tcpopt,
    "maxseg": lambda m: _match(Match(field="tcpmss", values=m.values, negate=m.negate)),
    "addrtype": _addrtype,
    "rpfilter": _boolean(SLOT["rpfilter"], "ok"),
    "bridgeport": _bridgeport,
    "random": _share,
    "nth": _share,
    "limit": _limit,
}


# --- several fields at once --------------------------------------------------------------------------------------


class Rows:
    """Rows of a concatenation, found fast: exact ones through a dictionary, the others one by one."""

    __slots__ = ("exact", "others", "slots")

    def __init__(self, fields: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
        self.exact: dict[tuple[Any, ...], int] = {}
        self.others: list[tuple[int, tuple[Test, ...]]] = []
        self.slots = tuple(SLOT.get(name, -1) for name in fields)
        readers = [_plain(name) for name in fields]
        for i, row in enumerate(rows):
            key = [read(text) if read else None for read, text in zip(readers, row, strict=True)]
            if None in key:
                tests = tuple(compiled(Match(field=n, values=(t,))) for n, t in zip(fields, row, strict=True))
                self.others.append((i, tests))
            else:
                self.exact.setdefault(tuple(key), i)

    def find(self, v: Facts) -> tuple[int | None, list[tuple[int, Answer]]]:
        """The row that certainly matches (None: none does), and those that may (with their share)."""
        maybe: list[tuple[int, Answer]] = []
        hit: int | None = None
        if self.exact:
            facts = tuple([v[s] for s in self.slots])
            if ABSENT in facts:
                pass
            elif None in facts:
                maybe = [
                    (i, None)
                    for key, i in self.exact.items()
                    if all(f is None or f == k for f, k in zip(facts, key, strict=True))
                ]
            else:
                hit = self.exact.get(facts)
        for i, tests in self.others:
            if hit is not None and i > hit:
                break
            answer = _all(tests, v)
            if answer is True:
                hit = i
                break
            if answer is not False:
                maybe.append((i, answer))
        return hit, [m for m in maybe if hit is None or m[0] < hit]


def _plain(field: str) -> Callable[[str], Any] | None:
    """Reads a value that is one exact fact, None for ranges; no reader for fields that need a test of their own."""
    if field in ADDRESSES:
        return lambda t: _single(span_of(t))
    if field in NUMBERS:
        return lambda t: _single(numbers_of(t))
    if field in WORDS:
        return lambda t: t
    if field in INTERFACES:
        return lambda t: None if t.endswith("*") else t
    return None


def _single(span: tuple[int, int]) -> int | None:
    return span[0] if span[0] == span[1] else None


def _all(tests: tuple[Test, ...], v: Facts) -> Answer:
    unknown, share = False, 1.0
    for test in tests:
        answer = test(v)
        if answer is False:
            return False
        if answer is None:
            unknown = True
        elif answer is not True:
            share *= answer
    return None if unknown else True if share == 1.0 else share


def _concat(c: Concat) -> Test:
    if not c.fields:
        held = bool(c.rows)
        return _constant(held is not c.negate)
    rows, negate, partial = Rows(c.fields, c.rows), c.negate, c.partial
    slots = rows.slots

    def test(v: Facts) -> Answer:
        for s in slots:
            if s >= 0 and v[s] is ABSENT:
                return False
        hit, maybe = rows.find(v)
        if hit is not None:
            return not negate
        if maybe or partial:
            shares = [a for _, a in maybe if a is not None]
            if len(shares) != len(maybe) or partial:
                return None
            total = sum(float(a) for a in shares)
            return total if isnan(total) or not negate else 1.0 - total
        return negate

    return test
