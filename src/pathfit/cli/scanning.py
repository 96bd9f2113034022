"""`scan`: every container network of this machine, or of saved snapshots, judged from state alone.

This machine is asked through the same loop as `diagnose` (so that `--save` and `replay` work); snapshots of a fleet are
read one after the other in as many processes as there are cores, judged there, and only what is said of them is kept.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pathfit import __version__
from pathfit.cli import options, saved
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.cli.talk import readers_may_leave, style
from pathfit.core.ask import Ask, Target
from pathfit.core.evidence_base import Missing
from pathfit.core.report import Report

FEW = 8  # files: more are shared out among processes
SHARE = 16  # files a process is given at once


def scan(files: tuple[str, ...], o: dict[str, Any]) -> int:
    """Scan, print, save; returns the exit status. Raises Stop."""
    from pathfit.cli import examining

    look = style(o["lang"])
    if not files:
        with saved.prepared(o["save"]):
            ask = question(look.lang, options.seconds(o["timeout"]))
            case = examining.live(ask, quiet=o["as_json"] and not o["verbose"], verbose=o["verbose"])
            return examining.conclude(case, look, as_json=o["as_json"], save=o["save"], every=o["verbose"])
    if o["save"]:
        again = line("pathfit", "scan", *(w for name in files for w in ("--in", name)))
        raise Stop("--save keeps a scan of this machine; the snapshots are saved already", again)
    report = recorded(files, look.lang)
    with readers_may_leave():
        examining.show(report, look, as_json=o["as_json"], every=o["verbose"])
    return examining.exit_status(report)


def question(lang: str, timeout: float = 15.0) -> Ask:
    """What a scan asks: nothing in particular."""
    return Ask(command="scan", target=Target(text="", protocol="any"), timeout=timeout, lang=lang)


# --- saved snapshots -------------------------------------------------------------------------------------------------


def recorded(names: tuple[str, ...], lang: str) -> Report:
    """All snapshots in ``names`` (files, folders). Raises Stop: none of them could be read."""
    from pathfit import survey
    from pathfit.observe import recorded as files

    begun = time.monotonic()
    try:
        paths = files.files(names)
    except OSError as e:
        raise Stop(f"cannot list {e.filename}: {e.strerror}", line("ls", "-l", str(e.filename)), CANNOT) from None
    if not paths:
        raise Stop(f"there is no snapshot in {names[0]}", "pathfit snapshot -o host.json", CANNOT)
    judged: list[survey.Judged] = []
    missing: list[Missing] = []
    for more, lacking in _parts(paths):
        judged += more
        missing += lacking
    if not judged:
        raise Stop(f"{missing[0].what}: {missing[0].why}", missing[0].how, CANNOT)
    took = round(time.monotonic() - begun, 6)
    return survey.report_of(question(lang), __version__, took, judged, tuple(missing))


def _parts(paths: Sequence[Path]) -> Iterator[tuple[list[Any], list[Missing]]]:
    if len(paths) <= FEW:
        yield judge(paths)
        return
    from concurrent.futures import ProcessPoolExecutor

    shares = [paths[i : i + SHARE] for i in range(0, len(paths), SHARE)]
    with ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), len(shares))) as pool:
        yield from pool.map(_judged, shares)


def judge(paths: Sequence[Path]) -> tuple[list[Any], list[Missing]]:
    """Each file by itself; one that cannot be read is named, and the others count."""
    from pathfit import survey
    from pathfit.observe import recorded as files

    judged, missing = [], []
    for path in paths:
        try:
            judged.append(survey.judge(files.load_snapshot(path)))
        except files.OpenError as e:
            missing.append(Missing(what=str(path), why=str(e), how=line("ls", "-l", path), code="malformed"))
    return judged, missing


def _judged(paths: Sequence[Path]) -> tuple[list[Any], list[Missing]]:
    import gc

    gc.disable()  # looking for cycles again and again, in values that have none, costs a third of the time
    done = judge(paths)
    gc.collect()  # a machine and its groups know each other
    return done
