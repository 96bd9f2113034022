"""`pathfit fix --list`, `--undo`, `--confirm`, and the refusal to repair on top of what was interrupted."""

import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from pathfit.apply import sequence, watchdog
from pathfit.apply.store import Busy, Store, Unreadable, boot_id
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.cli.talk import Style, readers_may_leave, style
from pathfit.core import codec
from pathfit.core.ask import Ask, Target
from pathfit.core.journal import FINAL, Journal
from pathfit.host.clock import since_boot
from pathfit.render import fixing
from pathfit.render.fixing import say
from pathfit.render.layout import Page

FAILED = 4
TOLD = "CFG"  # the family of faults that stand in what an engine was told: found without a path to look at
STATES = {
    "planned": "repair.state-planned",
    "applying": "repair.state-applying",
    "applied": "repair.state-applied",
    "waiting": "repair.state-waiting",
    "kept": "repair.state-kept",
    "undoing": "repair.state-undoing",
    "undone": "repair.state-undone",
    "failed": "repair.state-failed",
}
GRACE = 10.0  # seconds beyond the deadline that the watchdog is given to undo


def ask(code: str | None, source: str | None, to: str | None, lang: str, o: dict[str, Any]) -> Ask:
    """The question of a repair. Raises Stop (2). Without ``to`` only state is looked at, for ``code`` alone."""
    from pathfit.cli import options
    from pathfit.cli import target as grammar

    if to is not None:
        return options.ask("diagnose", source or "host", to, lang, o)
    if code is None:
        where = source or "netns:ci"
        how = line("pathfit", "fix", "--from", where, "--to", "https://example.org/")
        raise Stop("say what fails: --from WHERE --to TARGET", how)
    if source is None:
        typed = ["pathfit", "fix", code, "--from", "host"]
        typed += [] if code.startswith(TOLD) else ["--to", "https://example.org/"]
        raise Stop(f"say where {code[:40]} is to be repaired, or what fails", line(*typed))
    nowhere = Target(text="", protocol="any")
    return Ask(command="diagnose", source=grammar.where(source), target=nowhere, timeout=o["timeout"], lang=lang)


def elsewhere() -> str:
    return "PATHFIT_STATE=$HOME/pathfit-state " + line("pathfit", *sys.argv[1:])


def _remembered() -> Store:
    """The journals there are. Raises Stop (3) where they cannot be listed: that is not the same as none."""
    store = Store()
    try:
        os.listdir(store.folder / "journal")
    except FileNotFoundError:
        pass  # no repair was made yet
    except OSError as e:
        as_root = line("sudo", f"PATHFIT_STATE={store.folder}", "pathfit", *sys.argv[1:])
        how = as_root if isinstance(e, PermissionError) else elsewhere()
        raise Stop(f"cannot read the repairs in {store.folder}: {e.strerror}", how, CANNOT) from None
    return store


# --- one that was interrupted ----------------------------------------------------------------------------------------


def overdue(journal: Journal) -> bool:
    return journal.confirm_by is None or journal.runner.boot != boot_id() or since_boot() > journal.confirm_by


def refuse_on_top(store: Store) -> None:
    """No repair on top of one that was interrupted or still waits. Raises Stop (3)."""
    for one in store.interrupted():
        if isinstance(one, Unreadable):
            raise Stop(f"an interrupted repair cannot be opened: {one.why}", "pathfit fix --list", CANNOT)
        if one.state == "waiting" and not overdue(one):
            raise Stop(f"repair {one.id} still waits for its confirmation", f"pathfit fix --confirm {one.id}", CANNOT)
        raise Stop(f"repair {one.id} ({one.code}) was interrupted", f"pathfit fix --undo {one.id}", CANNOT)


def watch(name: str) -> int:
    """The watchdog of a repair (started by us, never typed)."""
    store = Store()
    try:
        watchdog.watch(store, name)
    except codec.OpenError as e:
        raise Stop(str(e), "pathfit fix --list", CANNOT) from None
    return 0


# --- list ------------------------------------------------------------------------------------------------------------


def listing(o: dict[str, Any]) -> int:
    """Every repair this machine remembers."""
    look, store = style(o["lang"]), _remembered()
    found = store.all()
    running = store.held()
    rows = [(j, _when(j.made), _state(j, running)) for j in found if isinstance(j, Journal)]
    broken = [(u.id, u.why) for u in found if isinstance(u, Unreadable)]
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(fixing.listing_json(rows, broken))
            return 0
        page = _page(look)
        if rows or not broken:
            fixing.listing(page, rows, look.lang)
        for name, why in broken:
            page.line(say("repair.state-unreadable", look.lang, why=why), f"{name}  ")
        sys.stdout.write(str(page))
    return 0


def _when(made: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made))
    except (ValueError, OverflowError, OSError):
        return "?"


def _state(journal: Journal, running: bool) -> str:
    if running and journal.state not in (*FINAL, "waiting"):
        return "repair.state-running"
    return STATES[journal.state]


# --- undo ------------------------------------------------------------------------------------------------------------


def undo(which: str, o: dict[str, Any]) -> int:
    """Take back one repair, the last, or all; newest first. Raises Stop."""
    look, store = style(o["lang"]), _remembered()
    if which not in ("last", "all") and _load(store, which).state == "undone":
        return _say_all(store, [_load(store, which)], look, o, already=True)
    done: list[Journal] = []
    if not store.ids():
        return _say_all(store, done, look, o)
    try:
        with store.locked(f"pathfit fix --undo {which}"):
            done += (sequence.undo(store, journal, "asked for") for journal in _chosen(store, which))
    except Busy as e:
        raise Stop(f"a repair is under way ({e})", "pathfit fix --list", CANNOT) from None
    except OSError as e:
        raise Stop(f"cannot undo: {e.strerror}: {e.filename or store.folder}", _again(which), CANNOT) from None
    broken = [one for one in store.all() if isinstance(one, Unreadable)] if which == "all" else []
    status = _say_all(store, done, look, o, broken=broken)
    if broken:  # it may still stand: that is not called undone
        said = "; ".join(f"{one.id} is not undone: {one.why}" for one in broken)
        raise Stop(said, "pathfit fix --list", CANNOT)
    return status


def _again(which: str) -> str:
    return line("sudo", "pathfit", "fix", "--undo", which)


def _chosen(store: Store, which: str) -> list[Journal]:
    """Journals to undo, newest first. Raises Stop."""
    if which not in ("last", "all"):
        return [_load(store, which)]
    found = store.all()[::-1]
    if which == "last" and found and (broken := next((x for x in found if isinstance(x, Unreadable)), None)):
        raise Stop(f"{broken.id}: {broken.why}", "pathfit fix --list", CANNOT)
    todo = [j for j in found if isinstance(j, Journal) and j.state != "undone"]
    return todo[:1] if which == "last" else todo


def _load(store: Store, name: str) -> Journal:
    if name not in store.ids():
        raise Stop(f"there is no repair {name[:40]!r}", "pathfit fix --list")
    try:
        return store.load(name)
    except codec.OpenError as e:
        raise Stop(f"{name}: {e}", "pathfit fix --list", CANNOT) from None


def _say_all(
    store: Store,
    done: list[Journal],
    look: Style,
    o: dict[str, Any],
    *,
    already: bool = False,
    broken: Sequence[Unreadable] = (),
) -> int:
    with readers_may_leave():
        if o["as_json"]:
            rows = [(j, _when(j.made), STATES[j.state]) for j in done]
            sys.stdout.flush()
            sys.stdout.buffer.write(fixing.listing_json(rows, [(one.id, one.why) for one in broken]))
        else:
            page = _page(look)
            if not done and not broken:
                page.line(say("repair.nothing-to-undo", look.lang))
            for journal in done:
                _say_undone(page, journal, look, already=already)
            sys.stdout.write(str(page))
    return FAILED if any(j.state == "failed" for j in done) else 0


def _say_undone(page: Page, journal: Journal, look: Style, *, already: bool) -> None:
    if already:
        page.line(say("repair.undid-before", look.lang, id=journal.id))
        return
    if journal.state == "failed":
        page.line(journal.id, say("repair.done-failed", look.lang) + "  ", "broken")
    else:
        what = f"{journal.code}, {journal.fix.id}, {journal.source}"
        page.line(say("repair.undid", look.lang, id=journal.id, what=what))
    fixing.leftovers(page, journal, look.lang)


# --- confirm ---------------------------------------------------------------------------------------------------------


def confirm(name: str, o: dict[str, Any]) -> int:
    """Keep a repair that waits. Raises Stop."""
    look, store = style(o["lang"]), Store()
    try:
        with store.locked(f"pathfit fix --confirm {name}"):
            journal = _load(store, name)
            if journal.state == "waiting":
                journal = sequence.keep(store, journal)
    except Busy as e:
        raise Stop(f"a repair is under way ({e})", line("pathfit", "fix", "--confirm", name), CANNOT) from None
    except OSError as e:
        raise Stop(f"cannot confirm: {e.strerror}", line("sudo", "pathfit", "fix", "--confirm", name), CANNOT) from None
    if journal.state != "kept":
        raise Stop(f"repair {name} does not wait for a confirmation ({journal.state})", "pathfit fix --list", CANNOT)
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(fixing.listing_json([(journal, _when(journal.made), STATES["kept"])], ()))
        else:
            print(say("repair.confirmed", look.lang, id=journal.id))
    return 0


def wait_for_answer(store: Store, journal: Journal) -> Journal:
    """Until Enter, or until the journal has ended by another hand. Returns it as it then is.

    When the deadline has passed and nobody has undone it (the watchdog was killed), it is undone here.
    """
    listening = sys.stdin is not None and not sys.stdin.closed
    until = (journal.confirm_by or 0.0) + GRACE
    while (journal := store.load(journal.id)).state not in FINAL:
        if since_boot() > until:
            watchdog.undo_if(store, journal.id, watchdog.UNCONFIRMED)
            continue
        ready: list[Any] = []
        if listening:
            ready, _, _ = select.select([sys.stdin], [], [], watchdog.EVERY)
        else:
            time.sleep(watchdog.EVERY)
        if ready:
            if sys.stdin.readline() == "":
                listening = False  # the terminal is gone, which confirms nothing
                continue
            _keep(store, journal.id)
    return journal


def _keep(store: Store, name: str) -> None:
    with store.locked(f"pathfit fix, confirming {name}", watchdog.EVERY * 50):
        journal = store.load(name)
        if journal.state == "waiting":
            sequence.keep(store, journal)


def _page(look: Style) -> Page:
    return Page(look.width, colour=look.colour, ascii_only=look.ascii)
