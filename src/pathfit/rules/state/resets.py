"""Filters that take every reset, seen from state alone: refusals then look like silence."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from pathfit.core.filters import FilterRule, Hook, Match, Table, Verdict
from pathfit.core.finding import Facts, Finding
from pathfit.core.net import TCP, Family, Flow, Point
from pathfit.core.path import Filtered
from pathfit.core.snapshot import Link
from pathfit.model.filters.evaluate import FilterIndex, Packet, evaluate, tables_index
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.resets import rule_facts
from pathfit.rules.state.machine import PORT, REF, UNSPOKEN, Machine
from pathfit.rules.state.mtu import about
from pathfit.rules.tables import only_resets

HOOKS: tuple[Hook, ...] = ("prerouting", "input", "forward", "output", "postrouting")
IN, OUT = ("prerouting", "input", "forward"), ("forward", "output", "postrouting")
REFUSED, ACCEPTED = ("rst", "ack"), ("syn", "ack")
WHOLE = frozenset({"l4proto", "nfproto", "tcpflags"})  # tests that leave no TCP packet out
NARROWER = frozenset({"saddr", "daddr", "sport", "dport", "iifname", "oifname", "iif", "oif"})
SPORT = 49152
DOORS = 16  # devices a rule is tried with


def dropped(machine: Machine) -> Iterable[Finding]:
    """A packet filter drops resets, so that what would be a quick refusal hangs.

    Why it hurts: whoever connects to a closed port waits for minutes instead of being refused.
    Example: `iptables -I INPUT -p tcp --tcp-flags SYN,FIN,RST,URG,PSH RST -j DROP`.
    Repair: delete the rule.
    Severity: warning where every RST is taken, info where the rule is about some of them.
    Possible: the rule is about some addresses, ports or devices only.
    Likely: it takes every RST that refuses a connection, and lets what answers others pass.
    Confirmed: never, from state alone.
    References: RFC 9293 section 3.10.7.1; iptables-extensions(8).
    """
    for net in machine.network.nets.values():
        if not any(only_resets(r) for t in net.snap.tables for c in t.chains for r in c.rules):
            continue
        said: set[tuple[str, str, int]] = set()
        for finding, key in (*_whole(net), *_some(net)):
            if key not in said:
                said.add(key)
                yield about(finding, _keys(machine, net))


def _keys(machine: Machine, net: Net) -> tuple[str, ...]:
    """Workloads that live there."""
    return tuple(k for g in machine.groups if g.net is net for k in g.keys)


Key = tuple[str, str, int]


def _whole(net: Net) -> Iterator[tuple[Finding, Key]]:
    """Rules that take a RST from anybody to anybody."""
    index = tables_index(net.snap.tables)
    doors = [x for x in net.snap.links if not x.loopback and x.up][:DOORS]
    for hook in HOOKS:
        for family in (4, 6):
            step = _taken(index, net, hook, 6 if family == 6 else 4, doors)
            if step is not None:
                facts: Facts = {"case": "all", "hook": hook, **rule_facts(step)}
                key = (step.table, step.chain, step.handle)
                proof = line(REF, "rule", table=step.table, chain=step.chain, rule=step.rule or "policy",
                             place=place_text(step.at))  # fmt: skip
                yield found("RST205", "warning", "likely", net.point(), facts, proof), key


def _taken(index: FilterIndex, net: Net, hook: Hook, family: Family, doors: Sequence[Link]) -> Filtered | None:
    """The rule that drops a RST there and lets a SYN-ACK pass, whichever device it comes or goes by."""
    there, here = UNSPOKEN[family][:2]
    flow = Flow(src=there, dst=here, proto=TCP, sport=PORT, dport=SPORT, size=60 if family == 6 else 40)
    steps = []
    for door in doors:
        packet = Packet(
            flow=flow, iifname=door.name if hook in IN else "", oifname=door.name if hook in OUT else "",
            iif=door.index if hook in IN else 0, oif=door.index if hook in OUT else 0, ctstate="established",
            ctdir="reply", ctstatus=("confirmed", "seen-reply"), tcp_flags=REFUSED, mss=0,
        )  # fmt: skip
        refused = evaluate(index, hook, packet)
        accepted = evaluate(index, hook, msgspec.structs.replace(packet, tcp_flags=ACCEPTED))
        if refused.verdict != "drop" or accepted.verdict == "drop":
            return None
        steps.append(refused.step(net.point()))
    return steps[0] if steps else None


def _some(net: Net) -> Iterator[tuple[Finding, Key]]:
    """Rules that take a RST of some addresses, ports or devices."""
    for table in net.snap.tables:
        for chain in table.chains:
            for rule in chain.rules:
                if _narrow(rule):
                    key = (f"{table.family} {table.name}", chain.name, rule.handle)
                    yield _narrowly(net.point(), table, chain.name, rule), key


def _narrow(rule: FilterRule) -> bool:
    drops = any(isinstance(e, Verdict) and e.kind == "drop" for e in rule.exprs)
    tests = [e for e in rule.exprs if isinstance(e, Match)]
    others = {e.field for e in tests} - WHOLE
    return drops and only_resets(rule) and bool(others) and others <= NARROWER and any(map(_refusals, tests))


def _refusals(test: Match) -> bool:
    """Is a RST with ACK, which refuses a connection, among what it asks for?"""
    return test.field == "tcpflags" and any(_fits(v) for v in test.values)


def _fits(value: str) -> bool:
    wanted, _, mask = value.partition("/")
    asked = set(mask.split(","))
    return asked & set(REFUSED) == set(wanted.split(",")) - {"0"}


def _narrowly(at: Point, table: Table, chain: str, rule: FilterRule) -> Finding:
    facts: Facts = {
        "case": "some",
        "place": place_text(at),
        "tool": table.tool,
        "table": f"{table.family} {table.name}",
        "chain": chain,
        "rule": rule.text or "-",
        "handle": rule.handle,
        "comment": rule.comment,
    }
    proof = line(REF, "rule", table=str(facts["table"]), chain=chain, rule=rule.text or "-", place=place_text(at))
    return found("RST205", "info", "possible", at, facts, proof)
