"""What may be applied (pure): which finding, which of its repairs, and whether without a further word.

The contract: `--yes` applies only safe repairs of findings that were confirmed by measurement in this run; what
interrupts something needs `--interrupt` as well; what is known from state alone, or only likely, needs CODE and WHERE.
Without a CODE only errors are repaired: a warning is a remark about something that works.
"""

from collections.abc import Sequence
from typing import Literal

from pathfit.core.base import Value
from pathfit.core.finding import Finding, Fix
from pathfit.core.report import Report

Barred = Literal["", "manual", "disruptive", "unproven"]


class Choice(Value, frozen=True, kw_only=True):
    """``finding`` None: nothing to repair. ``fix`` None: no repair is known. ``barred``: why it is not applied as
    asked: it has to be done by hand, it interrupts and --interrupt was not said, or the finding is not confirmed by
    measurement and was not named."""

    finding: Finding | None = None
    fix: Fix | None = None
    barred: Barred = ""
    others: tuple[Fix, ...] = ()  # of the same finding


class NoSuchFix(ValueError):
    """``--use`` names none of the repairs. ``known``: their ids."""

    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__(", ".join(known))
        self.known = known


def choose(
    report: Report, code: str | None, use: str | None = None, *, interrupt: bool = False, named: bool = False
) -> Choice:
    """``named``: CODE and WHERE were both given. Raises NoSuchFix."""
    candidates = _candidates(report, code)
    if not candidates:
        return Choice()
    if use is not None:
        return _used(report, candidates, use, interrupt=interrupt, named=named)
    choices = [_of(report, f, interrupt=interrupt, named=named) for f in candidates]
    free = next((c for c in choices if c.fix is not None and not c.barred), None)
    return free or next((c for c in choices if c.fix is not None), choices[0])


def measured(report: Report, finding: Finding) -> bool:
    """Was the finding confirmed by measurement in this run?"""
    return finding.confidence == "confirmed" and bool(report.measured)


def _candidates(report: Report, code: str | None) -> list[Finding]:
    if code is None:
        return [f for f in report.findings if f.severity == "error"]
    mine = [f for f in report.findings if f.code == code]
    if any(f.fixes for f in mine):
        return mine
    symptoms = {s for f in mine for s in f.explains}  # a cause's repair stands with what it explains
    return [f for f in report.findings if f.code in symptoms and f.fixes] or mine


def _of(report: Report, finding: Finding, *, interrupt: bool, named: bool) -> Choice:
    """The first repair that may be applied, else the first one with the reason why not."""
    fixes = finding.fixes
    found = [(x, _barred(report, finding, x, interrupt=interrupt, named=named)) for x in fixes]
    if not found:
        return Choice(finding=finding)
    fix, barred = min(found, key=_nearness)  # the first of those that are nearest to being applied
    return Choice(finding=finding, fix=fix, barred=barred, others=tuple(x for x in fixes if x is not fix))


def _nearness(pair: tuple[Fix, Barred]) -> int:
    return ("", "unproven", "disruptive", "manual").index(pair[1])


def _used(report: Report, findings: Sequence[Finding], use: str, *, interrupt: bool, named: bool) -> Choice:
    known: list[str] = []
    for finding in findings:
        for fix in finding.fixes:
            known.append(fix.id)
            if fix.id == use:
                barred = _barred(report, finding, fix, interrupt=interrupt, named=named)
                others = tuple(x for x in finding.fixes if x is not fix)
                return Choice(finding=finding, fix=fix, barred=barred, others=others)
    if not known:
        return Choice(finding=findings[0])
    raise NoSuchFix(tuple(dict.fromkeys(known)))


def _barred(report: Report, finding: Finding, fix: Fix, *, interrupt: bool, named: bool) -> Barred:
    if fix.applicability == "manual" or not fix.changes:
        return "manual"
    if not measured(report, finding) and not named:
        return "unproven"
    if (fix.applicability == "disruptive" or fix.interrupts) and not interrupt:
        return "disruptive"
    return ""
