"""The order of events: prepare everything, journal, step, journal, step, ... and the same back.

Nothing here decides whether a repair is right (choose.py) or has helped (verify.py). Between any two lines we may be
killed; whoever opens the journal then calls :func:`undo`, which is right in every case.
"""

import os

from msgspec.structs import replace

from pathfit import __version__
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.apply.steps import step_of
from pathfit.apply.store import Store, boot_id, new_id
from pathfit.core.finding import Finding, Fix
from pathfit.core.journal import SCHEMA, Chosen, Journal, Runner, State, StepRecord, StepState
from pathfit.host.clock import wall
from pathfit.host.deferred import deferred
from pathfit.words import render as words

REBOOTED = "the machine was started again since"


class NotDone(Exception):
    """A step did not succeed. ``journal`` is as it stands now; undo it. ``permission``: root is needed."""

    def __init__(self, journal: Journal, why: str, how: str = "", *, permission: bool = False) -> None:
        super().__init__(why)
        self.journal, self.how, self.permission = journal, how, permission


def planned(finding: Finding, fix: Fix, *, source: str, target: str, confirm_within: float | None = None) -> Journal:
    """A new journal, not on disk yet."""
    return Journal(
        schema=SCHEMA,
        version=__version__,
        id=new_id(),
        state="planned",
        made=wall(),
        code=finding.code,
        finding=finding.id,
        fix=_chosen(fix),
        source=source,
        target=target,
        runner=runner(),
        confirm_within=confirm_within,
        steps=tuple(StepRecord(change=c) for c in fix.changes),
    )


def _chosen(fix: Fix) -> Chosen:
    return Chosen(
        id=fix.id,
        title=words.title(fix),
        value=fix.value,
        effective=fix.effective,
        lasts=fix.lasts,
        interrupts=fix.interrupts,
        commands=fix.commands,
        undo=fix.undo,
    )


def runner() -> Runner:
    """This process."""
    with open("/proc/self/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return Runner(pid=os.getpid(), started=int(fields[19]), boot=boot_id())


def prepare(store: Store, journal: Journal) -> Journal:
    """Read how everything is now and write that down. Changes nothing. Raises NotDone."""
    steps: list[StepRecord] = []
    for record in journal.steps:
        try:
            prepared = step_of(record.change).prepare(record.change, journal.id)
        except Impossible as e:
            raise NotDone(journal, str(e), e.how) from None
        except (Gone, OSError) as e:
            raise _not_done(journal, e) from None
        steps.append(replace(record, prepared=prepared))
    return store.write(replace(journal, steps=tuple(steps)))


def apply(store: Store, journal: Journal) -> Journal:
    """Perform every step. Raises NotDone with the journal as it then stands; and whatever a signal's handler raises,
    between two steps."""
    journal = store.write(replace(journal, state="applying"))
    for n, record in enumerate(journal.steps):
        journal = store.write(_marked(journal, n, "doing"))
        store.hook("perform")
        try:
            with deferred():
                step_of(record.change).perform(record.change, record.prepared, journal.id)
        except (Impossible, Gone, Foreign, OSError) as e:
            raise _not_done(journal, e) from None
        store.hook("performed")
        journal = store.write(_marked(journal, n, "done"))
    return store.write(replace(journal, state="applied"))


def undo(store: Store, journal: Journal, why: str = "") -> Journal:
    """Make everything as it was, as far as it is still there and ours. The journal ends as "undone" or "failed".

    Signals wait meanwhile. A journal that cannot be written (the disk is full) does not keep anything from being
    undone. Then OSError is raised at the end, unless a step failed, which is worse; whoever finds the old journal
    undoes once more, and that changes nothing.
    """
    with deferred(drop=True):
        pen = _Pen(store)
        journal = pen.write(replace(journal, state="undoing", why=why or journal.why))
        rebooted = bool(journal.runner.boot) and journal.runner.boot != boot_id()
        for n in _backwards(journal):
            store.hook("undo")
            state, note = _undone(journal, journal.steps[n], rebooted)
            store.hook("undid")
            journal = pen.write(_marked(journal, n, state, note))
        end: State = "failed" if any(s.state == "failed" for s in journal.steps) else "undone"
        journal = pen.write(replace(journal, state=end))
        if pen.trouble is not None and end == "undone":
            raise pen.trouble
        return journal


class _Pen:
    """Writes a journal, or remembers why it could not the last time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trouble: OSError | None = None

    def write(self, journal: Journal) -> Journal:
        self.trouble = None
        try:
            self.store.write(journal)
        except OSError as e:
            self.trouble = e
        return journal


def keep(store: Store, journal: Journal) -> Journal:
    """Proven, and here to stay."""
    return store.write(replace(journal, state="kept", confirm_by=None))


def left(journal: Journal) -> list[StepRecord]:
    """Steps that could not be undone."""
    return [s for s in journal.steps if s.state == "failed"]


def holds(journal: Journal) -> bool:
    """Is everything as the repair made it? Gone counts as no."""
    try:
        return all(step_of(s.change).holds(s.change, s.prepared) for s in journal.steps)
    except (Gone, Impossible, OSError):
        return False


def _backwards(journal: Journal) -> list[int]:
    """Numbers of the steps to undo, in order: backwards, and those last that must come after all others."""
    touched = [n for n, s in enumerate(journal.steps) if s.state in ("doing", "done", "failed") and s.prepared]
    return sorted(reversed(touched), key=lambda n: _late(journal.steps[n]))


def _late(record: StepRecord) -> bool:
    try:
        return step_of(record.change).late(record.prepared)
    except Impossible:
        return False


def _undone(journal: Journal, record: StepRecord, rebooted: bool) -> tuple[StepState, str]:
    try:
        step = step_of(record.change)
        if rebooted and not step.lasting:
            return "gone", REBOOTED
        step.undo(record.change, record.prepared, journal.id)
    except Gone as e:
        return "gone", str(e)
    except (Foreign, Impossible) as e:
        return "failed", str(e)
    except (OSError, ValueError) as e:
        return "failed", _text(e)
    return "undone", ""


def _marked(journal: Journal, n: int, state: StepState, note: str = "") -> Journal:
    steps = list(journal.steps)
    steps[n] = replace(steps[n], state=state, note=note)
    return replace(journal, steps=tuple(steps))


def _not_done(journal: Journal, e: Exception) -> NotDone:
    how = e.how if isinstance(e, Impossible) else "; ".join(e.how) if isinstance(e, Foreign) else ""
    return NotDone(journal, _text(e), how, permission=isinstance(e, PermissionError))


def _text(e: Exception) -> str:
    if isinstance(e, OSError) and e.strerror:
        return f"{e.strerror}: {e.filename}" if e.filename else e.strerror
    return str(e) or type(e).__name__
