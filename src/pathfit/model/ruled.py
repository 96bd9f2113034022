"""Which rule dropped a packet, as its own tool writes it: from nf_tables' trace and the rules of a snapshot.

A trace names a rule by a number (its handle), which a table that is made anew gives to another rule: where the
snapshot's rule of that number cannot have dropped a packet, nothing is said but the number. iptables-legacy tells
nobody; :func:`counted` says which of its counters moved, whoever's packets that were. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.filters import Action, Chain, Choice, Expr, FilterRule, Opaque, Table, Verdict
from pathfit.core.tracing import Jump, Rule
from pathfit.wire.nft.trace import Trace

TEXT = 500  # characters of a rule that are kept: one may hold a list of thousands


class Moved(NamedTuple):
    """A rule that drops, and by how many packets its counter grew."""

    rule: Rule
    packets: int


def named(event: Trace, tables: Iterable[Table], stale: bool = False, way: Sequence[tuple[str, int]] = ()) -> Rule:
    """The rule of a trace that :attr:`~pathfit.wire.nft.trace.Trace.drops`. ``stale``: the table was changed since
    ``tables`` were read; ``way``: (chain, handle) of the rules that jumped there."""
    policy = event.kind == "policy"
    table = _table(event, tables)
    unknown = Rule(
        tool=table.tool if table is not None else "",
        family=event.family,
        table=event.table,
        chain=event.chain,
        handle=event.handle,
        policy=policy,
        way=tuple(Jump(chain, 0 if stale else _number(table, chain, handle), handle) for chain, handle in way),
    )
    if table is None:
        return unknown
    chain = next((c for c in table.chains if c.name == event.chain), None)
    if chain is None or stale:
        return unknown
    if policy:
        return replace(unknown, text=_policy(table, chain)) if chain.policy == "drop" else unknown
    found = next(((n, r) for n, r in enumerate(chain.rules, 1) if r.handle == event.handle), None)
    if found is None or not any(_may_drop(e) for e in found[1].exprs):
        return unknown
    return replace(_rule(table, chain, *found), way=unknown.way)


def _number(table: Table | None, chain: str, handle: int) -> int:
    """Which rule of its chain that is, from 1; 0: not known."""
    rules = next((c.rules for c in table.chains if c.name == chain), ()) if table is not None else ()
    return next((n for n, r in enumerate(rules, 1) if r.handle == handle), 0)


def droppers(tables: Iterable[Table]) -> bool:
    """Is there anything of nf_tables that may drop a packet?"""
    return any(
        (chain.hook is not None and chain.policy == "drop") or any(_may_drop(e) for r in chain.rules for e in r.exprs)
        for table in tables
        if table.tool != "iptables-legacy"
        for chain in table.chains
    )


def unlike(rule: Rule, tables: Iterable[Table]) -> bool:
    """Is another rule of that number in ``tables``, or none?"""
    table = next((t for t in tables if (t.tool, t.family, t.name) == (rule.tool, rule.family, rule.table)), None)
    chain = next((c for c in table.chains if c.name == rule.chain), None) if table is not None else None
    if table is None or chain is None:
        return True
    if rule.policy:
        return chain.policy != "drop"
    found = next(((n, r) for n, r in enumerate(chain.rules, 1) if r.handle == rule.handle), None)
    return found is None or replace(_rule(table, chain, *found), way=rule.way) != rule


def _table(event: Trace, tables: Iterable[Table]) -> Table | None:
    mine = (t for t in tables if t.tool != "iptables-legacy")
    return next((t for t in mine if (t.family, t.name) == (event.family, event.table)), None)


def _rule(table: Table, chain: Chain, number: int, rule: FilterRule) -> Rule:
    reject = [e.reject_with or "" for e in rule.exprs if isinstance(e, Verdict) and e.kind == "reject"]
    said = rule.text if len(rule.text) <= TEXT else rule.text[:TEXT] + " ..."
    text = said if table.tool == "nft" else f"-A {chain.name} {said}"
    return Rule(
        tool=table.tool,
        family=table.family,
        table=table.name,
        chain=chain.name,
        handle=rule.handle,
        number=number,
        text=text,
        reject=reject[0] if reject else None,
    )


def read(tables: Iterable[Table], tool: str, family: str, name: str, chain: str, handle: int, text: str) -> Rule:
    """The rule that was read under those names, or the chain's policy (``text`` ""); ``text`` where it is not found."""
    table = next((t for t in tables if (t.tool, t.family, t.name) == (tool, family, name)), None)
    there = next((c for c in table.chains if c.name == chain), None) if table is not None else None
    bare = Rule(tool=tool, family=family, table=name, chain=chain, handle=handle, text=text, policy=not text)
    if table is None or there is None:
        return bare
    if not text:
        return replace(bare, text=_policy(table, there))
    found = [(n, r) for n, r in enumerate(there.rules, 1) if r.handle == handle and r.text == text]
    return _rule(table, there, *found[0]) if len(found) == 1 else bare


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
                yield (
                    Rule(
                        tool=table.tool,
                        family=table.family,
                        table=table.name,
                        chain=chain.name,
                        text=_policy(table, chain),
                        policy=True,
                    ),
                    chain.policy_packets,
                )
