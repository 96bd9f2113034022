"""`pathfit fix`: examine, choose, show or ask, apply, prove, keep - or take back."""

import os
import sys
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pathfit.apply import sequence, verify, watchdog
from pathfit.apply.choose import Choice, NoSuchFix, choose
from pathfit.apply.store import Busy, Store
from pathfit.cli import examining, explaining, repairs, saved
from pathfit.cli.stop import CANNOT, INTERRUPTED, OR, Ended, Stop, line
from pathfit.cli.talk import Style, Talk, readers_may_leave, style
from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.change import RestartContainers, RestartEngine
from pathfit.core.finding import Finding, Fix
from pathfit.core.journal import Journal
from pathfit.core.report import Report
from pathfit.host.clock import now, since_boot
from pathfit.host.deferred import deferred
from pathfit.render import command, fixing
from pathfit.render.fixing import Outcome, Said, say
from pathfit.render.layout import Page
from pathfit.rules.engines import member
from pathfit.rules.view import View

UNSEEN = ("why.no-source", "why.source-refused")  # reasons why not even state is known
PODMAN_S = ("netns-", "cni-")  # what Podman and libcni call namespaces below /run/netns, with a UUID
LONGEST = 86400.0  # seconds: a day without an answer is one
FAILED = 4  # a repair failed and was undone (CONTRACT)
EXIT = {
    "repaired": 0, "nothing": 0, "undone": FAILED, "failed": FAILED, "interrupted": INTERRUPTED, "unknown": CANNOT,
    "planned": 1, "manual": 1, "disruptive": 1, "unproven": 1, "no-fix": 1,
}  # fmt: skip


def fix(code: str | None, source: str | None, to: str | None, o: dict[str, Any]) -> int:
    """One repair, from question to proof; returns the exit status. Raises Stop."""
    look = style(o["lang"])
    code = explaining.known(code) if code is not None else None
    store = Store()
    repairs.refuse_on_top(store)
    ask = repairs.ask(code, source, to, look.lang, o)
    if o["confirm_within"] is not None and not 0 < o["confirm_within"] <= LONGEST:
        raise Stop(f"--confirm-within {o['confirm_within']:g}: above 0, up to {LONGEST:g} s", "--confirm-within 60")
    examine = _examiner(ask, quiet=o["as_json"] and not o["verbose"], verbose=o["verbose"])
    with saved.prepared(o["save"]):
        while True:
            try:
                case, outcome = _once(store, look, examine, code, bool(code and source), o)
            except Overtaken:
                continue  # somebody has repaired while we examined: what we saw is not so any more
            break
        status = _conclude(outcome, look, code, o)
        if o["save"] and outcome.before is not None:
            saved.save(o["save"], case, *examining.documents(outcome.before))
            Talk().remark(f"saved in {o['save']}: what was found before the repair")
    return status


class Overtaken(Exception):
    """Another repair was made between our examination and our lock."""


def _once(
    store: Store,
    look: Style,
    examine: Callable[[], tuple[Case, Report]],
    code: str | None,
    named: bool,
    o: dict[str, Any],
) -> tuple[Case, Outcome]:
    """Examine, choose, and apply when that is wanted. Raises Stop, Overtaken."""
    begun, known = now(), store.ids()
    case, report = examine()
    try:
        choice = choose(report, code, o["use"], interrupt=o["interrupt"], named=named)
    except NoSuchFix as e:
        raise Stop(f"there is no repair '{o['use']}' for this", OR.join(f"--use {x}" for x in e.known)) from None
    kind, asked = _kind(report, choice), report.ask
    if kind == "nothing" and code is not None and not asked.target.text and not code.startswith(repairs.TOLD):
        typed = line("pathfit", "fix", code, "--from", asked.source, "--to", "https://example.org/")
        raise Stop(f"{code} is a fault of one path: without a target it cannot be looked for", typed, CANNOT)
    outcome = Outcome(kind=kind, before=report, finding=choice.finding, fix=choice.fix)
    if kind == "planned" and choice.finding is not None and choice.fix is not None and _wanted(outcome, look, o):
        _refuse_moving(View.of(case), choice.fix, ask_again=command.fix(asked, choice.finding.code))
        outcome = _Repair(store, look, examine, case, outcome, o).run(known)
        outcome = replace(outcome, seconds=now() - begun)
    return case, outcome


def _refuse_moving(view: View, fix: Fix, ask_again: list[str]) -> None:
    """Raises Stop where the source would be gone after the repair, which could then not be proven: a container that
    starts again lives in another namespace, to which no number and no path leads that was typed before."""
    kind, _, name = view.ask.source.rpartition("!")[2].partition(":")
    gone = kind == "pid" or (kind == "netns" and "/" in name) or (kind == "netns" and name.startswith(PODMAN_S))
    at = member(view)
    if not gone or at is None or not any(isinstance(c, RestartEngine | RestartContainers) for c in fix.changes):
        return
    words = [f"container:{at.container.name}" if w == view.ask.source else w for w in ask_again]
    why = f"{at.container.name} starts again in another namespace than {view.ask.source}; nothing was changed"
    raise Stop(why, line(*words, "--use", fix.id, "--yes", "--interrupt"), CANNOT)


def _examiner(ask: Ask, *, quiet: bool, verbose: bool) -> Callable[[], tuple[Case, Report]]:
    def examine() -> tuple[Case, Report]:
        from pathfit import diagnose

        case = examining.live(ask, quiet=quiet, verbose=verbose)
        return case, diagnose.report(case)

    return examine


def _kind(report: Report, choice: Choice) -> str:
    """What can be done: "planned" when it may be applied."""
    if choice.finding is None:
        seen = report.why_unknown not in UNSEEN if not report.ask.target.text else report.verdict != "unknown"
        return "nothing" if seen else "unknown"
    if choice.fix is None:
        return "no-fix"
    return choice.barred or "planned"


def _wanted(outcome: Outcome, look: Style, o: dict[str, Any]) -> bool:
    """Is it to be applied: by --yes, or by the answer on the terminal?"""
    if o["dry_run"]:
        return False
    if o["yes"]:
        return True
    if o["as_json"] or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    page = _page(look)
    _plan(page, outcome, look)
    sys.stderr.write(str(page) + say("repair.ask", look.lang))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "j", "ja", "是", "好")


class _Repair:
    """One repair under way: everything that is done while the lock is held."""

    def __init__(
        self,
        store: Store,
        look: Style,
        examine: Callable[[], tuple[Case, Report]],
        case: Case,
        outcome: Outcome,
        o: dict[str, Any],
    ) -> None:
        self.store, self.look, self.examine, self.case, self.outcome, self.o = store, look, examine, case, outcome, o
        self.talk = Talk(quiet=o["as_json"])

    def run(self, known: list[str]) -> Outcome:
        """``known``: repairs there were when it was examined. Raises Stop (nothing was changed), Overtaken."""
        outcome = self.outcome
        assert outcome.finding is not None and outcome.fix is not None and outcome.before is not None
        ask = outcome.before.ask
        journal = sequence.planned(
            outcome.finding,
            outcome.fix,
            source=ask.source,
            target=ask.target.text,
            confirm_within=self.o["confirm_within"],
        )
        try:
            with self.store.locked(f"pathfit fix, {outcome.finding.code}, {outcome.fix.id}"):
                repairs.refuse_on_top(self.store)
                if self.store.ids() != known:
                    raise Overtaken
                outcome = self._locked(journal, outcome.finding, outcome.fix)
        except Busy as e:
            raise Stop(f"another repair is under way ({e})", "pathfit fix --list", CANNOT) from None
        except OSError as e:
            where = e.filename or self.store.folder
            why = f"cannot keep a journal in {where}: {e.strerror}; nothing is changed"
            raise Stop(why, repairs.elsewhere(), CANNOT) from None
        if outcome.journal is not None and outcome.journal.state == "waiting":
            return self._confirmed(outcome, outcome.journal)
        return outcome

    def _locked(self, journal: Journal, finding: Finding, fix: Fix) -> Outcome:
        journal = self._prepared(journal)
        try:
            if self.o["confirm_within"]:
                watchdog.start(self.store, journal)
            journal = sequence.apply(self.store, journal)
            after, reasons = self._verified(journal, finding, fix)
        except sequence.NotDone as e:
            done = sequence.undo(self.store, e.journal, str(e))
            return self._undone(done, why=str(e))
        except (KeyboardInterrupt, Ended):
            self.talk.clear()
            done = sequence.undo(self.store, self.store.load(journal.id), "interrupted")
            kind = "interrupted" if done.state == "undone" else "failed"
            return replace(self.outcome, kind=kind, journal=done)
        except BaseException as e:
            self.talk.clear()
            done = sequence.undo(self.store, self.store.load(journal.id), f"stopped by {type(e).__name__}: {e}")
            if done.state == "failed":
                return self._undone(done, why=str(e))
            raise
        if reasons:
            why = fixing.because(replace(self.outcome, kind="undone", reasons=reasons), "en")
            return self._undone(sequence.undo(self.store, journal, why), reasons=reasons, after=after)
        with deferred(drop=True):  # proven and written down: an interrupt has come too late
            journal = replace(journal, **_figures(self.outcome.before, after))
            if self.o["confirm_within"]:
                until = since_boot() + self.o["confirm_within"]
                journal = self.store.write(replace(journal, state="waiting", confirm_by=until))
            else:
                journal = sequence.keep(self.store, journal)
        return replace(self.outcome, kind="repaired", journal=journal, after=after)

    def _prepared(self, journal: Journal) -> Journal:
        try:
            return sequence.prepare(self.store, journal)
        except sequence.NotDone as e:
            how = e.how or "--dry-run"
            if e.permission and os.geteuid():
                how = line("sudo", "pathfit", *sys.argv[1:])
            raise Stop(f"it cannot be applied, and nothing was changed: {e}", how, CANNOT) from None

    def _verified(self, journal: Journal, finding: Finding, fix: Fix) -> tuple[Report, tuple[Said, ...]]:
        after, reasons = verify.verify(self.examine, finding, fix, self.case)
        if not sequence.holds(journal):
            reasons = (*reasons, ("repair.not-holding", {}))
        return after, reasons

    def _undone(self, journal: Journal, **more: Any) -> Outcome:
        kind = "failed" if journal.state == "failed" else "undone"
        return replace(self.outcome, kind=kind, journal=journal, **more)

    def _confirmed(self, outcome: Outcome, journal: Journal) -> Outcome:
        """Wait for Enter, a confirmation from elsewhere, or the watchdog."""
        seconds = f"{self.o['confirm_within']:g}"
        self.talk.remark(say("repair.wait", self.look.lang, seconds=seconds, id=journal.id))
        try:
            ended = repairs.wait_for_answer(self.store, journal)
        except (KeyboardInterrupt, Ended):
            watchdog.undo_if(self.store, journal.id, "interrupted")
            ended = self.store.load(journal.id)
            return replace(outcome, kind="interrupted" if ended.state == "undone" else "repaired", journal=ended)
        if ended.state == "kept":
            return replace(outcome, journal=ended)
        kind = "failed" if ended.state == "failed" else "undone"
        if ended.why != watchdog.UNCONFIRMED:
            return replace(outcome, kind=kind, journal=ended, why=ended.why)
        reason: Said = ("repair.wait-over", {"seconds": seconds})
        return replace(outcome, kind=kind, journal=ended, reasons=(reason,))


def _figures(before: Report | None, after: Report) -> dict[str, Any]:
    """What was measured, for the journal."""

    def of(report: Report | None) -> dict[str, tuple[int | None, int | None]]:
        if report is None or not report.measured:
            return {}
        m = report.measured[0]
        return {d: (b.passes, b.fails) for d, b in (("forward", m.forward), ("reverse", m.reverse))}

    return {"before": of(before), "after": of(after)}


# --- what is said ----------------------------------------------------------------------------------------------------


def _conclude(outcome: Outcome, look: Style, code: str | None, o: dict[str, Any]) -> int:
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(fixing.outcome_json(outcome))
        else:
            page = _page(look)
            _text(page, outcome, look, code, o)
            sys.stdout.write(str(page))
    return EXIT[outcome.kind]


def _text(page: Page, outcome: Outcome, look: Style, code: str | None, o: dict[str, Any]) -> None:
    report, lang = outcome.before, look.lang
    assert report is not None
    if outcome.kind == "unknown":
        examining.show(report, look, as_json=False)
    elif outcome.kind == "nothing":
        page.line(say("repair.nothing-code", lang, code=code) if code else say("repair.nothing", lang))
        named = [f.code for f in report.findings if any(x.changes for x in f.fixes)]
        if named and not code:
            page.line(say("repair.warnings", lang, codes=", ".join(named)))
    elif outcome.kind == "no-fix":
        assert outcome.finding is not None
        examining.show(report, look, as_json=False)
        page.line(say("repair.no-fix", lang, code=outcome.finding.code))
    elif outcome.kind in ("planned", "manual", "disruptive", "unproven"):
        _plan(page, outcome, look)
        _barred(page, outcome, look, o)
    else:
        fixing.result(page, outcome, lang)


def _plan(page: Page, outcome: Outcome, look: Style) -> None:
    assert outcome.before is not None and outcome.finding is not None and outcome.fix is not None
    fixing.plan(page, outcome.before, outcome.finding, outcome.fix, look.lang)


def _barred(page: Page, outcome: Outcome, look: Style, o: dict[str, Any]) -> None:
    """Why it was not applied, and the line that would."""
    assert outcome.before is not None and outcome.finding is not None and outcome.fix is not None
    finding, lang = outcome.finding, look.lang
    typed = [*command.fix(outcome.before.ask, finding.code), *(["--use", o["use"]] if o["use"] else []), "--yes"]
    if outcome.kind == "manual":
        page.line(say("repair.barred-manual", lang))
        return
    if outcome.kind == "disruptive":
        page.line(say("repair.barred-disruptive", lang, what=", ".join(outcome.fix.interrupts) or "IPv6"))
        typed.append("--interrupt")
    elif outcome.kind == "unproven":
        page.line(say("repair.barred-unproven", lang, code=finding.code, confidence=finding.confidence))
    else:
        page.line(say("repair.not-applied", lang))
    page.command(line(*typed), say("repair.plan-apply", lang) + "  ")


def _page(look: Style) -> Page:
    return Page(look.width, colour=look.colour, ascii_only=look.ascii)
