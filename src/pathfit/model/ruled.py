"""Which rule dropped a packet, as its own tool writes it: from nf_tables' trace and the rules of a snapshot.

A trace names a rule by a number (its handle), which a table that is made anew gives to another rule: where the
snapshot's rule of that number cannot have dropped a packet, nothing is said but the number. iptables-legacy tells
nobody; :func:`counted` says which of its counters moved, whoever's packets that were. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pathfit.core.filters import Action, Chain, Choice, Expr, FilterRule, Opaque, Table, Verdict
from pathfit.wire.nft.trace import Trace


class Rule(NamedTuple):
    """A rule, or a policy. ``tool`` shows it: "nft", "iptables-nft", "iptables-legacy", "" when that is not known;
    ``number``: which one of its chain, from 1, 0 for a policy or when that is not known; ``text``: as its tool writes
    it, "" when that is not known. ``reject``: what the sender hears ("tcp-reset", ...), None for nothing, or when the
    text is not known."""

    tool: str
    family: str
    table: str
    chain: str
    handle: int
    number: int
    text: str
    policy: bool = False
    reject: str | None = None


class Moved(NamedTuple):
    """A rule that drops, and by how many packets its counter grew."""

    rule: Rule
    packets: int


def named(event: Trace, tables: Iterable[Table], stale: bool = False) -> Rule:
    """The rule of a trace that :attr:`~pathfit.wire.nft.trace.Trace.drops`. ``stale``: the table was changed since
    ``tables`` were read."""
    policy = event.kind == "policy"
    unknown = Rule("", event.family, event.table, event.chain, event.handle, 0, "", policy)
    table = _table(event, tables)
    if table is None:
        return unknown
    unknown = unknown._replace(tool=table.tool)
    chain = next((c for c in table.chains if c.name == event.chain), None)
    if chain is None or stale:
        return unknown
    if policy:
        return unknown._replace(text=_policy(table, chain)) if chain.policy == "drop" else unknown
    found = next(((n, r) for n, r in enumerate(chain.rules, 1) if r.handle == event.handle), None)
    if found is None or not any(_may_drop(e) for e in found[1].exprs):
        return unknown
    return _rule(table, chain, *found)


def _table(event: Trace, tables: Iterable[Table]) -> Table | None:
    mine = (t for t in tables if t.tool != "iptables-legacy")
    return next((t for t in mine if (t.family, t.name) == (event.family, event.table)), None)


def _rule(table: Table, chain: Chain, number: int, rule: FilterRule) -> Rule:
    reject = [e.reject_with or "" for e in rule.exprs if isinstance(e, Verdict) and e.kind == "reject"]
    text = rule.text if table.tool == "nft" else f"-A {chain.name} {rule.text}"
    return Rule(
        table.tool, table.family, table.name, chain.name, rule.handle, number, text, False, *(reject[:1] or (None,))
    )


def _policy(table: Table, chain: Chain) -> str:
    return "policy drop" if table.tool == "nft" else f"-P {chain.name} DROP"


def _may_drop(e: Expr | Action) -> bool:
    """A verdict that ends the packet, or something that is not understood."""
    if isinstance(e, Choice):
        return any(_may_drop(a) for a in (*e.then, *((e.otherwise,) if e.otherwise else ()))) or e.partial
    if isinstance(e, Verdict):
        return e.kind in ("drop", "reject")
    return isinstance(e, Opaque) and e.statement


def counted(before: Sequence[Table], after: Sequence[Table]) -> list[Moved]:
    """What iptables-legacy dropped between two readings: rules that drop, and policies, whose counters grew. Rules are
    told apart by what they say; where that changed, or was said twice, nothing is said of them."""
    old = dict(_counters(before))
    said = [key for key, _ in _counters(after)]
    moved = []
    for key, packets in _counters(after):
        was = old.get(key)
        if was is not None and packets > was and said.count(key) == 1:
            moved.append(Moved(key, packets - was))
    return moved


def _counters(tables: Sequence[Table]) -> Iterator[tuple[Rule, int]]:
    for table in tables:
        if table.tool != "iptables-legacy":
            continue
        for chain in table.chains:
            for number, rule in enumerate(chain.rules, 1):
                if rule.packets is not None and any(_may_drop(e) for e in rule.exprs):
                    yield _rule(table, chain, number, rule), rule.packets
            if chain.policy == "drop" and chain.policy_packets is not None:
                text = _policy(table, chain)
                yield Rule(table.tool, table.family, table.name, chain.name, 0, 0, text, True), chain.policy_packets
