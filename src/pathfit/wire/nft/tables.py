"""Raw tables, chains, rules and sets to ``Table`` values."""

from collections.abc import Iterable
from struct import error

import msgspec

from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Chain, FilterRule, Passive, Table
from pathfit.wire.filtertext import rule_text
from pathfit.wire.netlink import Malformed
from pathfit.wire.nft.machine import Machine
from pathfit.wire.nft.messages import RawChain, RawRule, RawTable
from pathfit.wire.nft.sets import SetContent
from pathfit.wire.nft.statements import STATEMENTS

_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")  # NF_INET_*
_NETDEV_HOOKS = ("ingress", "egress")
_ARP_HOOKS = ("input", "output", "forward")
_BUILTIN_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security", "broute"})
_BUILTIN_CHAINS = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"})


class RawRuleset(msgspec.Struct):
    """Everything that was read, in the kernel's order."""

    tables: list[RawTable] = []
    chains: list[RawChain] = []
    rules: list[RawRule] = []
    sets: dict[tuple[str, str, str], SetContent] = {}
    flowtables: dict[tuple[str, str], tuple[str, ...]] = {}


def tables(raw: RawRuleset) -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """The ruleset in the model's words. A rule that contradicts itself becomes Opaque and a Missing."""
    missing: list[Missing] = []
    rules: dict[tuple[str, str, str], list[FilterRule]] = {}
    chains: dict[tuple[str, str], list[RawChain]] = {}
    for c in raw.chains:
        chains.setdefault((c.family, c.table), []).append(c)
    compat = {(r.family, r.table) for r in raw.rules for e in r.exprs if e.name in ("match", "target")}
    old_ones = {key for t in raw.tables if _is_iptables(t, chains.get(key := (t.family, t.name), []), key in compat)}
    for r in raw.rules:
        done = _rule(r, raw.sets, missing, (r.family, r.table) in old_ones)
        rules.setdefault((r.family, r.table, r.chain), []).append(done)
    found = []
    for t in raw.tables:
        key = (t.family, t.name)
        if t.family not in ("ip", "ip6", "inet", "arp", "bridge", "netdev"):
            missing.append(Missing(what=f"nftables {t.family} {t.name}", why="unknown family", code="unsupported"))
            continue
        mine = chains.get(key, [])
        old = key in old_ones
        found.append(
            Table(
                family=t.family,  # type: ignore[arg-type]
                name=t.name,
                chains=tuple(_chain(c, tuple(rules.get((*key, c.name), ())), old) for c in mine),
                tool="iptables-nft" if old else "nft",
                flowtable_devices=raw.flowtables.get(key, ()),
                dormant=t.dormant,
            )
        )
    return tuple(found), tuple(missing)


def _is_iptables(table: RawTable, chains: Iterable[RawChain], compat: bool) -> bool:
    """Made by iptables-nft: its extensions are in it, or its table and base chains have iptables' names."""
    if table.family not in ("ip", "ip6", "arp", "bridge") or table.name not in _BUILTIN_TABLES:
        return False
    base = [c.name for c in chains if c.hook is not None]
    return compat or (bool(base) and all(name in _BUILTIN_CHAINS for name in base))


def _chain(raw: RawChain, rules: tuple[FilterRule, ...], old: bool) -> Chain:
    hook, kind = _hook(raw), raw.type
    if old and raw.table in ("mangle", "raw", "security"):
        kind = raw.table
    if kind not in ("filter", "nat", "route", "mangle", "raw", "security"):
        kind = "filter"
    return Chain(
        name=raw.name,
        rules=rules,
        hook=hook,  # type: ignore[arg-type]
        type=kind,  # type: ignore[arg-type]
        priority=raw.priority,
        policy="drop" if raw.policy == 0 else "accept",
        devices=raw.devices,
        policy_packets=raw.packets,
    )


def _hook(raw: RawChain) -> str | None:
    if raw.hook is None:
        return None
    names = {"netdev": _NETDEV_HOOKS, "arp": _ARP_HOOKS}.get(raw.family, _HOOKS)
    return names[raw.hook] if raw.hook < len(names) else None


def _rule(
    raw: RawRule, sets: dict[tuple[str, str, str], SetContent], missing: list[Missing], iptables: bool
) -> FilterRule:
    def content(name: str) -> SetContent | None:
        return sets.get((raw.family, raw.table, name))

    machine = Machine({"ip": 4, "ip6": 6}.get(raw.family), content)
    for e in raw.exprs:
        statement = STATEMENTS.get(e.name)
        if statement is None:
            machine.opaque(e.name, statement=True)
            machine.registers.clear()
            continue
        try:
            statement(machine, e.data)
        except (Malformed, error, ValueError, IndexError, KeyError, TypeError) as problem:
            machine.opaque(f"{e.name} that contradicts itself", statement=True)
            machine.registers.clear()
            where = f"{raw.family} {raw.table} {raw.chain} handle {raw.handle}"
            missing.append(Missing(what=f"nftables rule {where}", why=str(problem), code="malformed"))
    comment = raw.comment
    for expr in machine.out:
        if comment is None and isinstance(expr, Passive) and expr.what.startswith("comment "):
            comment = expr.what[8:]
    kept = tuple(x for x in machine.out if not (isinstance(x, Passive) and x.what.startswith("comment ")))
    return FilterRule(
        exprs=kept,
        handle=raw.handle,
        comment=comment,
        packets=machine.packets,
        bytes_=machine.bytes_,
        text=rule_text(kept, raw.family, iptables),
    )
