"""From the state of machines to a report (pure): what `scan` says.

Every workload gets a verdict of its own: *broken* when an error names it, *degraded* when a warning does, *healthy*
when nothing does, *unknown* when it could not be looked at. Nothing was measured: "healthy" means that nothing on this
machine stands in the way of what it promises, and says nothing of the network beyond.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.evidence import SocketFact, StateFact
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Facts, Finding
from pathfit.core.net import Point, endpoint
from pathfit.core.report import Hung, Report, VerdictWord, WorkloadVerdict
from pathfit.core.snapshot import HostSnapshot
from pathfit.diagnose import SEVERITIES, arrange
from pathfit.model import hung
from pathfit.rules.base import found, line
from pathfit.rules.state import FLEET_RULES, STATE_RULES
from pathfit.rules.state.fleet import Digest, Fleet, digest
from pathfit.rules.state.machine import REF, Machine

SEVERE = {"error": "broken", "warning": "degraded"}
QUIET = frozenset({"RST205", "CFG603", "KRN701", "KRN702", "KRN703", "KRN704"})
"""Warnings about the machine, or about what comes next: whom they name works."""
REPAIRED = (
    "OVL306",
    "KRN",
    "CFG604",
    "CFG606",
    "MTU104",
)  # families of which pathfit.remedies knows repairs that need no path
MOST_HUNG = 32  # sockets named; all of them are counted


class Judged(msgspec.Struct, frozen=True):
    """One host alone: what was found, who lives there, what is kept for comparison with others."""

    findings: tuple[Finding, ...]
    workloads: tuple[WorkloadVerdict, ...]
    digest: Digest
    missing: tuple[Missing, ...]
    namespaces: int


def report(case: Case) -> Report:
    """The answer to a scan of this machine. Never raises on what a case may hold."""
    state = case.one(REF, StateFact)
    missing = tuple(dict.fromkeys(case.all(Missing)))
    judged = [judge(state.host)] if state is not None else []
    told = case.all(SocketFact)
    return _report(case.ask, case.version, case.took, judged, missing, _hung(told, judged), state is not None)


def report_of(ask: Ask, version: str, took: float, judged: Sequence[Judged], missing: tuple[Missing, ...]) -> Report:
    """The answer to a scan of saved snapshots."""
    return _report(ask, version, took, judged, missing, (), bool(judged))


def judge(host: HostSnapshot) -> Judged:
    """One host by itself."""
    machine = Machine(host)
    findings = _with_fixes(arrange(_run(STATE_RULES, machine, host)), host)
    missing = (*host.missing, *(m for n in host.namespaces for m in n.missing))
    return Judged(findings, _verdicts(machine, findings), digest(machine), missing, len(host.namespaces))


def _with_fixes(findings: tuple[Finding, ...], host: HostSnapshot) -> tuple[Finding, ...]:
    """With the repairs that state alone is enough for. A remedy that raises costs its own, and is said."""
    if not any(f.code.startswith(REPAIRED) for f in findings):
        return findings
    from pathfit import remedies  # most machines need none of it

    done: list[Finding] = []
    for f in _tied(list(findings)):  # a cause leaves its repair to what it explains
        try:
            fixes = (*f.fixes, *remedies.of_state(f, host))
            done.append(msgspec.structs.replace(f, fixes=fixes) if fixes else f)
        except Exception as e:
            done += [f, _crashed(f"fix {f.code}", e, host)]
    return tuple(done)


def _run(rules: Iterable[Any], view: Any, host: HostSnapshot | None) -> list[Finding]:
    """All rules on one view; one that raises costs itself and is said (as in diagnose.run)."""
    findings: list[Finding] = []
    for rule in rules:
        try:
            findings += tuple(rule.check(view))
        except Exception as e:
            findings.append(_crashed(rule.code, e, host))
    return list(_once(findings))


def _once(findings: Iterable[Finding]) -> Iterable[Finding]:
    """One finding for each id (code, place, direction), about everybody that any of them is about."""
    kept: dict[tuple[str, str], Finding] = {}
    for f in sorted(findings, key=lambda f: SEVERITIES.index(f.severity)):
        first = kept.setdefault((f.code, f.id), f)
        if first is not f:
            keys = tuple(dict.fromkeys((*first.workloads, *f.workloads)))
            kept[f.code, f.id] = msgspec.structs.replace(first, workloads=keys)
    return kept.values()


def _crashed(code: str, e: Exception, host: HostSnapshot | None) -> Finding:
    error = f"{type(e).__name__}: {e}"[:200]
    facts: Facts = {"rule": code, "error": error}
    at = Point(host=host.host if host else "", netns="host")
    return found("SYS902", "warning", "confirmed", at, facts, line(REF, "crashed", rule=code, error=error))


def _verdicts(machine: Machine, findings: Sequence[Finding]) -> tuple[WorkloadVerdict, ...]:
    by: dict[str, list[Finding]] = {}
    for f in findings:
        for key in f.workloads:
            by.setdefault(key, []).append(f)
    sizes = {key: group.device.mtu for group in machine.groups if group.device for key in group.keys}
    done = []
    for seat in machine.seats:
        w = seat.workload
        about = by.get(seat.key, [])
        done.append(
            WorkloadVerdict(
                name=w.name,
                where=w.where,
                host=machine.host.host,
                engine=w.engine,
                networks=w.networks,
                mtu=sizes.get(seat.key),
                verdict=_verdict(about) if seat.net is not None and not w.note else _unseen(w.note),
                findings=tuple(f.id for f in about),
                why=w.note,
            )
        )
    return tuple(done)


def _verdict(about: Iterable[Finding]) -> VerdictWord:
    worst = {SEVERE.get(f.severity) for f in about if f.code not in QUIET or f.severity == "error"}
    return "broken" if "broken" in worst else "degraded" if "degraded" in worst else "healthy"


ASIDE = ("host-network", "no-network", "exited")
"""Notes of workloads that have no way of their own: neither well, nor ill, nor unknown."""


def _unseen(note: str) -> VerdictWord:
    return "healthy" if note in ASIDE else "unknown"


def _report(
    ask: Ask,
    version: str,
    took: float,
    judged: Sequence[Judged],
    missing: tuple[Missing, ...],
    hanging: tuple[Hung, ...],
    seen: bool,
) -> Report:
    fleet = Fleet(j.digest for j in judged)
    together = _run(FLEET_RULES, fleet, None)
    findings = arrange(_tied([*(f for j in judged for f in j.findings), *together]))
    workloads = _with(tuple(w for j in judged for w in j.workloads), together)
    hosts = [j.digest.host for j in judged]
    return Report(
        version=version,
        ask=ask,
        verdict=_machine(findings, workloads, seen),
        findings=findings,
        missing=tuple(dict.fromkeys((*missing, *(m for j in judged for m in j.missing)))),
        took=took,
        host=hosts[0] if len(hosts) == 1 else "",
        hosts=len(hosts),
        namespaces=sum(j.namespaces for j in judged),
        workloads=workloads,
        hung=hanging,
        why_unknown=None if seen else "why.no-state",
    )


def _machine(findings: Sequence[Finding], workloads: Sequence[WorkloadVerdict], seen: bool) -> VerdictWord:
    """Of the machine: broken with an error; unknown when nothing could be looked at."""
    if any(f.severity == "error" for f in findings):
        return "broken"
    if not seen or (workloads and all(w.verdict == "unknown" for w in workloads)):
        return "unknown"
    return "degraded" if any(w.verdict == "degraded" for w in workloads) else "healthy"


def _with(workloads: tuple[WorkloadVerdict, ...], together: Sequence[Finding]) -> tuple[WorkloadVerdict, ...]:
    """The verdicts, with what only the comparison of hosts showed."""
    if not together:
        return workloads
    by: dict[tuple[str, str], list[Finding]] = {}
    for f in together:
        hosts = {p.host for p in f.where}
        for key in f.workloads:
            for host in hosts:
                by.setdefault((host, key), []).append(f)
    done = []
    for w in workloads:
        more = by.get((w.host, w.where), [])
        if more:
            worse = _verdict(more)
            rank: dict[str, int] = {"broken": 0, "degraded": 1, "unknown": 2, "healthy": 3}
            verdict = min((w.verdict, worse), key=lambda v: rank[v])
            w = msgspec.structs.replace(w, verdict=verdict, findings=(*w.findings, *(f.id for f in more)))
        done.append(w)
    return tuple(done)


CAUSES: dict[str, tuple[str, ...]] = {
    "MTU107": ("MTU111", "MTU112", "CFG601", "CFG602", "CFG603"),
    "MTU103": ("CFG601", "CFG602", "CFG603", "CFG604", "CFG605"),
    "MTU104": ("CFG604", "CFG606", "KRN702"),
    "MTU105": ("CFG603",),
    "MTU108": ("MTU104",),
    "OVL306": ("KRN702",),
}
"""Which findings of a scan explain which, when they are about the same workloads or the same place."""


def _tied(findings: list[Finding]) -> list[Finding]:
    """The same findings with ``because`` and ``explains`` filled in. One fault gives one error: its causes become
    warnings."""
    because: dict[int, list[str]] = {}
    explains: dict[int, list[str]] = {}
    for i, symptom in enumerate(findings):
        for j, cause in enumerate(findings):
            if cause.code in CAUSES.get(symptom.code, ()) and _about_the_same(symptom, cause):
                because.setdefault(i, []).append(cause.code)
                explains.setdefault(j, []).append(symptom.code)
    done = []
    for i, f in enumerate(findings):
        why, of = tuple(dict.fromkeys(because.get(i, ()))), tuple(dict.fromkeys(explains.get(i, ())))
        done.append(msgspec.structs.replace(f, because=why, explains=of) if why or of else f)
    return done


def _about_the_same(a: Finding, b: Finding) -> bool:
    return not set(a.workloads).isdisjoint(b.workloads) or not set(a.where).isdisjoint(b.where)


def _hung(facts: Iterable[SocketFact], judged: Sequence[Judged]) -> tuple[Hung, ...]:
    """Sockets that hang, the surest kind first."""
    names = {w.where: w.name for j in judged for w in j.workloads}
    all_ = [(s, f) for f in facts for s in f.sockets]
    done = []
    for s, f in all_:
        hang = hung.look(s)
        if hang is None or hang.kind == "waiting":
            continue  # a slow server looks the same: nothing to alarm anybody with
        info = s.info
        done.append(
            Hung(
                where=f.where,
                workload=names.get(f.where, ""),
                kind=hang.kind,
                since=round(hang.since, 3),
                to=endpoint(s.dst, s.dport),
                process=s.process or "",
                mss=info.advmss if info is not None else 0,
            )
        )
    done.sort(key=lambda h: (hung.ORDER.index(h.kind), -h.since))
    return tuple(done)
