"""Which rules of a chain a packet need not be shown to: those whose addresses, ports or interfaces are not its own.

Most rules of most chains are about somebody else. A chain that is asked once or twice is looked through as it stands
(:func:`sift`: nothing is compiled); one that is asked again gets :class:`Keys`, and then costs what its rules about
*this* packet cost, however long it is.

Only tests at the head of a rule count, only of fields that no rule changes, and only those that answer "certainly
not": the rule would have ended there for every packet of this conversation.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pathfit.core.filters import Concat, FilterRule, Match, Opaque, Passive
from pathfit.model.filters.conditions import ABSENT, SLOT, Facts, numbers_of, span_of

Span = tuple[Any, Any]  # first and last value
Read = tuple[int, Callable[[str], Span | None]]  # slot of the fact; what a value means, None: not understood


@lru_cache(maxsize=8192)
def _addresses(text: str) -> Span | None:
    try:
        return span_of(text)
    except ValueError:
        return None


@lru_cache(maxsize=8192)
def _numbers(text: str) -> Span | None:
    try:
        return numbers_of(text)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _name(text: str) -> Span | None:
    return None if text.endswith("*") else (text, text)


READ: dict[str, Read] = {
    "saddr": (SLOT["saddr"], _addresses),
    "daddr": (SLOT["daddr"], _addresses),
    "dport": (SLOT["dport"], _numbers),
    "sport": (SLOT["sport"], _numbers),
    "iifname": (SLOT["iifname"], _name),
    "oifname": (SLOT["oifname"], _name),
}
FEW = 4  # a set with more values is not worth reading for one packet


def is_passed(e: object) -> bool:
    """May a rule go on to its next expression without anything having been done?"""
    kind = e.__class__
    return kind is Match or kind is Passive or kind is Concat or (kind is Opaque and not e.statement)  # type: ignore[attr-defined]


class Others(dict[tuple[str, ...], bool]):
    """The values of tests -> is the packet's own certainly none of them?"""

    __slots__ = ("own", "read")

    def __init__(self, own: Any, read: Callable[[str], Span | None]) -> None:
        self.own, self.read = own, read

    def __missing__(self, values: tuple[str, ...]) -> bool:
        said, own = 0 < len(values) <= FEW, self.own
        if said:
            for value in values:
                span = self.read(value)
                if span is None or (own is not ABSENT and span[0] <= own <= span[1]):
                    said = False
                    break
        self[values] = said
        return said


Memo = dict[tuple[int, Any], Others]  # by slot and the packet's own value: holds for all chains it comes by


class _Fields(dict[str, Others | None]):
    """The same by name of the field; None: nothing can be told by it."""

    __slots__ = ("facts", "memo")

    def __init__(self, facts: Facts, memo: Memo) -> None:
        self.facts, self.memo = facts, memo

    def __missing__(self, field: str) -> Others | None:
        found: Others | None = None
        if field in READ:
            slot, read = READ[field]
            own = self.facts[slot]
            if own is not None:
                found = self.memo.get((slot, own))
                if found is None:
                    found = self.memo[slot, own] = Others(own, read)
        self[field] = found
        return found


def sift(rules: tuple[FilterRule, ...], facts: Facts, memo: Memo) -> list[int]:
    """Places of the rules that are not ruled out, for a chain that is asked once."""
    left: list[int] = []
    fields = _Fields(facts, memo)
    i = -1
    for rule in rules:
        i += 1
        for e in rule.exprs:
            if e.__class__ is Match:
                others = fields[e.field]
                if others is not None and others[e.values] and not e.negate and not e.partial:
                    break
            elif not is_passed(e):
                left.append(i)
                break
        else:
            left.append(i)
    return left


class Keys:
    """The rules of a chain by what they ask for. A packet is shown those under its own addresses, ports and
    interfaces, and those that ask for none of them.

    ``by``: (slot, low bits that are left away) -> value -> places of the rules, in order.
    """

    __slots__ = ("always", "by")

    def __init__(self, rules: tuple[FilterRule, ...]) -> None:
        self.always: list[int] = []
        self.by: dict[tuple[int, int], dict[Any, list[int]]] = {}
        for i, rule in enumerate(rules):
            best = _best(rule)
            if best is None:
                self.always.append(i)
                continue
            slot, values = best
            for away, value in dict.fromkeys(values):
                self.by.setdefault((slot, away), {}).setdefault(value, []).append(i)

    def find(self, facts: Facts) -> list[int]:
        """Places of the rules that are not ruled out, in order."""
        found = self.always
        for (slot, away), by in self.by.items():
            x = facts[slot]
            if x is ABSENT:
                continue
            if x is None:
                found = found + [i for places in by.values() for i in places]
            else:
                found = found + by.get(x >> away if away else x, [])
        return sorted(set(found)) if len(found) > len(self.always) else found


Key = tuple[int, list[tuple[int, Any]]]  # slot, (low bits left away, value) for each value


def _best(rule: FilterRule) -> Key | None:
    """The test at the head of a rule that lets the least through; None: no test there can be looked up."""
    best: Key | None = None
    for e in rule.exprs:
        if e.__class__ is Match:
            key = _key(e)
            if key is not None and (best is None or _width(key) < _width(best)):
                best = key
        elif not is_passed(e):
            break
    return best


def _key(m: Match) -> Key | None:
    how = READ.get(m.field)
    if how is None or m.negate or m.partial or not m.values:
        return None
    keys: list[tuple[int, Any]] = []
    for text in m.values:
        span = how[1](text)
        if span is None:
            return None
        if span[0] == span[1]:
            keys.append((0, span[0]))
            continue
        lo, size = span[0], span[1] - span[0] + 1
        away = size.bit_length() - 1
        if size < 1 or size != 1 << away or lo & (size - 1):
            return None
        keys.append((away, lo >> away))
    return how[0], keys


def _width(key: Key) -> tuple[int, int]:
    return max(away for away, _ in key[1]), len(key[1])
