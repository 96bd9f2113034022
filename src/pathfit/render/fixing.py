"""`pathfit fix` as text: the plan, what came of it, the list of repairs. Sentences: section "repair" of words/.

JSON stands beside it: "pathfit.fix/1" (one repair) and "pathfit.repairs/1" (the list).
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pathfit import __version__
from pathfit.core.change import (
    AddNftTable,
    FlushRouteCache,
    RecreateNetwork,
    RestartContainers,
    RestartEngine,
    SetForwarding,
    SetLinkMtu,
    SetOvsMtu,
    SetRouteMtu,
    WriteFile,
)
from pathfit.core.finding import Finding, Fix
from pathfit.core.journal import Journal, StepRecord
from pathfit.core.measured import Bracket
from pathfit.core.report import MeasuredAddress, Report
from pathfit.render import command, repair
from pathfit.render.json import document as report_document
from pathfit.render.json import finding_document, fix_document, visible
from pathfit.render.layout import Page, columns, pad
from pathfit.words import render as words

FIX_SCHEMA, LIST_SCHEMA = "pathfit.fix/1", "pathfit.repairs/1"
WAYS = (("forward", "ui.label-out"), ("reverse", "ui.label-in"))

Said = tuple[str, dict[str, Any]]
"""A message id (section "repair") and its facts."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one `pathfit fix`. ``kind``: "repaired", "undone", "failed" (not wholly undone), "planned",
    "manual", "disruptive", "unproven", "nothing", "no-fix", "unknown", "interrupted"."""

    kind: str
    before: Report | None = None
    after: Report | None = None
    finding: Finding | None = None
    fix: Fix | None = None
    journal: Journal | None = None
    reasons: tuple[Said, ...] = ()
    why: str = ""  # in English, of a step that did not succeed
    seconds: float = 0.0


def say(message: str, lang: str, **facts: object) -> str:
    return words.say(message, facts, lang)


# --- one repair ------------------------------------------------------------------------------------------------------


def plan(page: Page, report: Report, finding: Finding, fix: Fix, lang: str) -> None:
    """What would be done, what it interrupts, how long it lasts, how it is undone."""
    page.line(words.summary(finding, lang), f"{finding.code} {finding.name}   ", "code")
    page.blank()
    head = say("repair.plan", lang) + "  "
    deep = " " * columns(head)
    page.line(repair.title(report, fix, lang), head, "label")
    why = words.by_hand(fix, lang)
    if why:
        page.line(say("ui.fix-by-hand", lang, why=why), deep)
    if fix.untried:
        page.line(say("ui.fix-untried", lang, source=fix.source), deep)
    for edit in fix.files:
        page.line(say("repair.plan-file", lang, path=edit.path), deep)
        for line in edit.diff.splitlines():
            page.command(line, deep + "  ")
    repair.commands(page, fix, deep)
    stops = ", ".join(fix.interrupts)
    page.line(say("repair.plan-stops", lang, what=stops) if stops else say("repair.plan-stops-nothing", lang), deep)
    page.line(say("repair.plan-lasts", lang, lasts=repair.lasts(fix, lang)), deep)
    tried = words.proof(fix, lang)
    if tried:
        page.line(tried, deep + say("ui.fix-tried", lang) + " ")
    if fix.changes:
        page.line(say("repair.plan-undo-auto", lang), deep)
    page.blank()


def result(page: Page, outcome: Outcome, lang: str, width: int = 0) -> None:
    """What was done and how it was proven, or why it was taken back and what is left."""
    fix, journal = outcome.fix, outcome.journal
    word = {"repaired": "repair.done-repaired", "failed": "repair.done-failed"}.get(outcome.kind, "repair.done-undone")
    style = "healthy" if outcome.kind == "repaired" else "broken"
    head = say(word, lang) + "  "
    what = repair.title(outcome.before, fix, lang) if fix is not None and outcome.before is not None else ""
    page.line(say("repair.done-what", lang, what=what, seconds=f"{outcome.seconds:.1f}"), head, style)
    if outcome.kind != "repaired":
        page.line(because(outcome, lang))
    ways(page, outcome, lang)
    if journal is None:
        return
    if outcome.kind == "repaired":
        labels = [say(x, lang) for x in ("repair.done-undo", "repair.done-lasts", "repair.done-good")]
        deep = max(columns(x) for x in labels)
        heads = [f"  {pad(x, deep)}  " for x in labels]
        page.command(f"pathfit fix --undo {journal.id}", heads[0])
        page.line(repair.lasts(fix, lang) if fix else "", heads[1], "label")
        good = _for_good(outcome)
        if good is not None:
            page.command(good, heads[2])
    leftovers(page, journal, lang)


def because(outcome: Outcome, lang: str) -> str:
    """Why it was undone."""
    if outcome.kind == "interrupted":
        return say("repair.why-interrupted", lang)
    if outcome.reasons and outcome.reasons[0][0] == "repair.wait-over":
        return _reason(*outcome.reasons[0], lang)
    if outcome.why and outcome.after is not None:
        return say("repair.why-other", lang, why=outcome.why)
    if outcome.reasons:
        said = [_reason(message, facts, lang) for message, facts in outcome.reasons]
        return say("repair.why-undone", lang, why="; ".join(dict.fromkeys(said)))
    return say("repair.why-step", lang, why=outcome.why)


def _reason(message: str, facts: dict[str, Any], lang: str) -> str:
    why = facts.get("why")
    if isinstance(why, str) and why.startswith("why."):
        facts = {**facts, "why": words.say(why, {}, lang).rstrip(".。")}
    return words.say(message, facts, lang)


def ways(page: Page, outcome: Outcome, lang: str) -> None:
    """Both directions, before and after."""
    if outcome.before is None or outcome.after is None or not (outcome.before.measured and outcome.after.measured):
        return
    old, new = outcome.before.measured[0], outcome.after.measured[0]
    labels = [say(label, lang) for _, label in WAYS]
    deep = max(columns(x) for x in labels)
    for (direction, _), label in zip(WAYS, labels, strict=True):
        texts = [_carries(m, direction, lang) for m in (old, new)]
        text = say("repair.way-before", lang, before=texts[0], after=texts[1])
        head = f"  {pad(label, deep)}  "
        page.line(text, head, "label", indent=" " * columns(head))
    if outcome.kind == "repaired" and new.contact.promised is not None:
        clamped = outcome.fix is not None and any(isinstance(c, AddNftTable) for c in outcome.fix.changes)
        if clamped and new.contact.offered is not None:
            page.line(say("repair.clamped", lang, offered=new.contact.offered), " " * (deep + 4))
        elif new.contact.udp != "n/a":
            page.line(say("repair.sends", lang, promised=new.contact.promised), " " * (deep + 4))
        else:
            page.line(say("repair.promise", lang, promised=new.contact.promised), " " * (deep + 4))


def _carries(m: MeasuredAddress, direction: str, lang: str) -> str:
    b: Bracket = m.forward if direction == "forward" else m.reverse
    if b.passes is None and b.fails is None:
        return say("repair.unmeasured", lang)
    if b.fails is None:
        return say("repair.passes-all", lang, passes=b.passes)
    if m.contact.promised is not None and b.fails > m.contact.promised:
        return say("repair.passes-all", lang, passes=b.passes)
    if b.grade == "told" or b.told_by:
        return say("repair.passes", lang, passes=b.passes)
    return say("repair.passes-hole", lang, passes=b.passes or 0, fails=b.fails)


def _for_good(outcome: Outcome) -> str | None:
    """The line that makes it last, when this one does not and there is one. The fault it repaired is not found any
    more; what is found is that this will not last."""
    if outcome.fix is None or outcome.after is None or outcome.fix.lasts == "permanent":
        return None
    for finding in outcome.after.findings:
        good = next((x for x in finding.fixes if x.lasts == "permanent" and x.changes), None)
        if good is not None:
            sure = finding.confidence == "confirmed"
            return shlex.join([*command.fix(outcome.after.ask, finding.code, sure=sure), "--use", good.id])
    return None


def leftovers(page: Page, journal: Journal, lang: str) -> None:
    """Steps that are gone by themselves, and those that could not be undone, with the lines that would."""
    for step in journal.steps:
        if step.state in ("gone", "failed"):
            message = "repair.gone" if step.state == "gone" else "repair.left"
            page.line(say(message, lang, what=step_name(step, lang), why=step.note), "  ")
    if journal.state == "failed" and journal.fix.undo:
        page.line(say("repair.left-type", lang), "  ")
        for argv in journal.fix.undo:
            page.command(shlex.join(argv), "  $ ")


STEP_WORDS = {
    SetRouteMtu: "repair.step-route",
    SetLinkMtu: "repair.step-link",
    AddNftTable: "repair.step-table",
    FlushRouteCache: "repair.step-cache",
    WriteFile: "repair.step-file",
    RestartEngine: "repair.step-engine",
    RecreateNetwork: "repair.step-network",
    RestartContainers: "repair.step-containers",
    SetOvsMtu: "repair.step-ovs",
    SetForwarding: "repair.step-forwarding",
}


def step_name(step: StepRecord, lang: str) -> str:
    """What a step changed, and where."""
    facts = msgspec.to_builtins(step.change)
    dst = f"{facts['dst']}/{facts['prefix']}" if facts.get("prefix") else "default"
    return say(STEP_WORDS[type(step.change)], lang, **{**facts, "dst": dst})


def outcome_json(outcome: Outcome) -> bytes:
    """ "pathfit.fix/1": every key always there."""
    journal = outcome.journal
    finding, fix = outcome.finding, outcome.fix
    return _dump(
        {
            "schema": FIX_SCHEMA,
            "version": __version__,
            "outcome": outcome.kind,
            "repair": journal.id if journal is not None and journal.steps else None,
            "finding": finding_document(finding) if finding is not None else None,
            "fix": fix_document(fix) if fix is not None else None,
            "reasons": [_reason(m, f, "en") for m, f in outcome.reasons] + ([outcome.why] if outcome.why else []),
            "before": report_document(outcome.before) if outcome.before is not None else None,
            "after": report_document(outcome.after) if outcome.after is not None else None,
            "steps": [_step(s) for s in journal.steps] if journal is not None else [],
            "took_ms": round(outcome.seconds * 1000),
        }
    )


# --- the list --------------------------------------------------------------------------------------------------------


def listing(page: Page, rows: Sequence[tuple[Journal, str, str]], lang: str) -> None:
    """One line each: (journal, when, message id of its state)."""
    if not rows:
        page.line(say("repair.none", lang))
    for journal, when, state in rows:
        places = f"{journal.source} > {journal.target}" if journal.target else journal.source
        text = f"{when}  {journal.code} {journal.fix.id}  {places}  {say(state, lang)}"
        page.line(text, f"{journal.id}  ", "code")
        if journal.state in ("undone", "failed") and journal.why:
            page.line(journal.why, " " * (len(journal.id) + 2))


def listing_json(rows: Iterable[tuple[Journal, str, str]], broken: Iterable[tuple[str, str]]) -> bytes:
    """ "pathfit.repairs/1", oldest first."""
    repairs = [
        {
            "id": j.id,
            "state": state.removeprefix("repair.state-"),
            "made": when,
            "code": j.code,
            "fix": j.fix.id,
            "from": j.source,
            "to": j.target,
            "why": j.why,
            "steps": [_step(s) for s in j.steps],
            "undo": ["pathfit", "fix", "--undo", j.id],
        }
        for j, when, state in rows
    ]
    unreadable = [{"id": name, "why": why} for name, why in broken]
    return _dump({"schema": LIST_SCHEMA, "version": __version__, "repairs": repairs, "unreadable": unreadable})


def _step(step: StepRecord) -> dict[str, Any]:
    return {"change": msgspec.to_builtins(step.change), "state": step.state, "note": step.note}


def _dump(document: dict[str, Any]) -> bytes:
    return visible(msgspec.json.format(msgspec.json.encode(document), indent=2)) + b"\n"
