"""`replay`: the same loop on a saved case."""

from pathlib import Path
from typing import Any

from pathfit.cli import saved, tracing
from pathfit.cli.examining import documents, exit_status, reported, show, trace
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.cli.talk import Talk, readers_may_leave, style
from pathfit.core.case import Case

REPLAY = 120.0  # seconds; a case of a thousand containers takes one


def again(case: Case) -> Case:
    """The same questions, answered by the recorded case; of a redacted one, as it is."""
    if case.redacted:
        return case
    from pathfit import examine as loop
    from pathfit.replay import ReplayWorld

    return loop.run(case.ask, ReplayWorld(case))


def replay(folder: Path, o: dict[str, Any], file: Path | None = None) -> int:
    """Diagnose a saved case again, or follow its packets; says on stderr when the outcome differs from the saved one.
    ``file``: where its packets are written. Raises Stop."""
    key = tracing.redaction(o)
    with saved.prepared(o["save"]):
        case = saved.open_case(folder)
        if file is not None and case.ask.command != "trace":
            raise Stop(f"{folder}: a case of `{case.ask.command}` has no packets", line("pathfit", "replay", folder))
        if key and case.ask.command != "trace":
            what = f"{folder}: traces and snapshots can be redacted, a case of `{case.ask.command}` cannot"
            raise Stop(what, "pathfit snapshot -o host.json --redact")
        return _replay(folder, case, file, o, key)


def _replay(folder: Path, old: Case, file: Path | None, o: dict[str, Any], key: bytes) -> int:
    from pathfit.host.alarm import Late, alarm

    look = style(o["lang"])
    traced = None
    try:
        with alarm(REPLAY):
            case = again(old)
            if key:
                from pathfit.follow.redacted import redacted

                case = redacted(case, key)
            report = reported(case)
            if case.ask.command == "trace":
                from pathfit.follow import followed

                traced = followed(case)
    except Late as e:
        raise Stop(f"{folder}: {e}; a run of that size takes seconds", line("ls", "-l", folder), CANNOT) from None
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, RecursionError) as e:
        if o["verbose"]:
            trace(e)
        raise Stop(
            f"{folder}: the case holds what no run records ({type(e).__name__}: {e})", line("ls", "-l", folder), CANNOT
        ) from None
    if traced is not None:
        tracing.show(traced, case, look, file, o)
    else:
        with readers_may_leave():
            show(report, look, as_json=o["as_json"])
    if not key and (folder / saved.REPORT).is_file() and saved.read(folder / saved.REPORT) != documents(report)[0]:
        Talk().remark(f"this differs from {folder / saved.REPORT}, made by {old.version}")
    if o["save"]:
        saved.save(o["save"], case, *documents(report))
    if traced is not None:
        return tracing.STATUS[traced.verdict]
    return exit_status(report)
