"""`--confirm-within`: a process of its own that takes the repair back when nobody confirms it.

It is started before the first step, in a session of its own, and survives the terminal, the parent and SIGHUP. It
looks at the journal a few times a second and ends when the repair has ended, is confirmed, or is undone; it undoes
when the time is up, and at once when whoever repaired has died on the way (nobody holds the lock any more).
"""

import os
import signal
import sys
from pathlib import Path

import pathfit
from pathfit.apply import sequence
from pathfit.apply.store import Busy, Store
from pathfit.core import codec
from pathfit.core.journal import FINAL, Journal
from pathfit.host.clock import since_boot, wait
from pathfit.host.run import detached

EVERY = 0.2  # seconds between two looks
UNCONFIRMED = "nobody confirmed it in time"
DIED = "whoever repaired ended before it was proven"


def start(store: Store, journal: Journal) -> int:
    """Start watching; returns the watcher's pid. Raises OSError."""
    words = [sys.executable, "-m", "pathfit", "fix", "--watch-over", journal.id]
    here = str(Path(pathfit.__file__).parents[1])  # it starts in "/", where what was found by a relative path is not
    paths = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
    return detached(words, {"PATHFIT_STATE": str(store.folder.absolute()), "PYTHONPATH": paths})


def watch(store: Store, name: str) -> None:
    """Watch over repair ``name`` until it has ended. Raises OSError, codec.OpenError."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while (journal := store.load(name)).state not in FINAL:
        why = _due(store, journal)
        if why and undo_if(store, name, why):
            return
        wait(EVERY)


def _due(store: Store, journal: Journal) -> str:
    if journal.state == "waiting":
        return UNCONFIRMED if journal.confirm_by is not None and since_boot() >= journal.confirm_by else ""
    return "" if store.held() else DIED


def undo_if(store: Store, name: str, why: str) -> bool:
    """Undo it, unless it ended, was confirmed or moved on while we waited for the lock."""
    try:
        with store.locked(f"undoing {name}: {why}"):
            journal = store.load(name)
            moved = why == DIED and journal.state == "waiting"
            if journal.state not in FINAL and not moved:
                sequence.undo(store, journal, why)
                return True
    except (Busy, codec.OpenError):
        pass
    return False
