"""What rules ask of packet filters: did a rule count packets, does one take every "too big" away?"""

from collections.abc import Iterator

from pathfit.core.base import Value
from pathfit.core.filters import Chain, FilterRule, Match, Opaque, Table, Verdict
from pathfit.core.snapshot import NetnsSnapshot


class Moved(Value, frozen=True, kw_only=True):
    """A filter rule whose counter grew by ``packets`` while we measured."""

    netns: str
    where: str
    table: Table
    chain: Chain
    rule: FilterRule
    packets: int


def drops_too_big(ns: NetnsSnapshot | None, family: int) -> tuple[Table, Chain] | None:
    """The chain of this namespace that drops "too big" from anybody; None when no rule is sure to."""
    wanted = {"icmptype": ("2",)} if family == 6 else {"icmptype": ("3",), "icmpcode": ("4",)}
    for table in ns.tables if ns else ():
        for chain in table.chains:
            if chain.hook not in ("input", "prerouting", "ingress"):
                continue
            for rule in chain.rules:
                tests = {e.field: e.values for e in rule.exprs if isinstance(e, Match) and not e.negate}
                drops = any(isinstance(e, Verdict) and e.kind in ("drop", "reject") for e in rule.exprs)
                vague = any(isinstance(e, Opaque) or (isinstance(e, Match) and e.negate) for e in rule.exprs)
                for_family = tests.get("nfproto", (f"ipv{family}",)) == (f"ipv{family}",)
                others = set(tests) - set(wanted) - {"nfproto", "l4proto"}
                if (
                    drops
                    and for_family
                    and not vague
                    and not others
                    and all(tests.get(k) == v for k, v in wanted.items())
                ):
                    return table, chain
    return None


def only_resets(rule: FilterRule) -> bool:
    """Does the rule ask for the flag RST, so that it is about nothing but resets?"""
    tests = [e for e in rule.exprs if isinstance(e, Match) and e.field == "tcpflags" and not e.negate]
    return any(all("rst" in v.partition("/")[0].split(",") for v in e.values) for e in tests)


def moved(before: NetnsSnapshot | None, after: NetnsSnapshot) -> Iterator[Moved]:
    """Rules that counted more than before; a rule that was not there before is not compared."""
    old = {
        (t.family, t.name, t.tool, c.name, r.handle, i): r.packets
        for t in (before.tables if before else ())
        for c in t.chains
        for i, r in enumerate(c.rules)
    }
    for t in after.tables:
        for c in t.chains:
            for i, r in enumerate(c.rules):
                was = old.get((t.family, t.name, t.tool, c.name, r.handle, i))
                if was is not None and r.packets is not None and r.packets > was:
                    where = before.where if before else after.where
                    yield Moved(netns=after.id, where=where, table=t, chain=c, rule=r, packets=r.packets - was)
