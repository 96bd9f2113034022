"""`diagnose`, `probe` and `replay`: the same loop on this machine or on a saved case, then one way to print."""

import sys
from typing import TYPE_CHECKING, Any

from pathfit.cli import saved
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.cli.talk import Style, Talk, readers_may_leave, style
from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.request import EndWatch, Request

if TYPE_CHECKING:
    from pathlib import Path

    from pathfit.core.report import Report

REPLAY = 120.0  # seconds; a case of a thousand containers takes one
DOING = {  # what the progress line says while a request is performed
    "Locate": "looking for {0.where}",
    "ReadState": "reading namespaces",
    "ReadSockets": "reading sockets",
    "ResolveName": "resolving {0.name}",
    "Measure": "measuring the way to {0.address}",
    "MeasureHops": "asking the hops on the way",
    "ReadSnapshots": "reading snapshots",
    "TryFix": "trying the repair",
    "Watch": "opening taps on every device",
}


class Slow(Stop):
    """An examination took longer than it may: where there are several, the others count all the same."""


def tried(ask: Ask, *, verbose: bool) -> "Report":
    """One of several examinations; one that takes too long is a report that says so. Raises Stop."""
    try:
        return reported(live(ask, quiet=True, verbose=verbose))
    except Slow as e:
        from pathfit import __version__
        from pathfit.core.evidence_base import Missing
        from pathfit.core.report import Report

        why = Missing(what="this examination", why=e.message, how=e.how, code="timeout")
        return Report(version=__version__, ask=ask, verdict="unknown", missing=(why,))


def examine(command: str, source: str, to: str, o: dict[str, Any]) -> int:
    """Examine live, print, save; returns the exit status. Raises Stop."""
    from pathfit.cli import options

    look = style(o["lang"])
    ask = options.ask(command, source, to, look.lang, o)
    with saved.prepared(o["save"]):
        case = live(ask, quiet=o["as_json"] and not o["verbose"], verbose=o["verbose"])
        return conclude(case, look, as_json=o["as_json"], save=o["save"])


def live(ask: Ask, *, quiet: bool, verbose: bool) -> Case:
    """The case of this machine, now. Raises Stop."""
    if not sys.platform.startswith("linux"):
        raise Stop("only Linux can be examined live", "pathfit replay DIR", CANNOT)
    from pathfit import examine as loop
    from pathfit.cli.options import LONGEST
    from pathfit.host.alarm import Late, alarm
    from pathfit.live import LiveWorld

    talk = Talk(quiet=quiet)

    def progress(request: Request) -> None:
        if isinstance(request, EndWatch) and request.until_stopped:
            from pathfit.words.render import say

            talk.remark(say("trace.following", {"seconds": f"{request.linger:g}"}, ask.lang))
        doing = DOING.get(type(request).__name__)
        if doing:
            talk.progress(doing.format(request))

    try:
        with alarm(ask.timeout), LiveWorld(debug=trace if verbose else None, timeout=ask.timeout) as world:
            return loop.run(ask, world, progress)
    except Late as e:
        raise Slow(str(e), f"--timeout {min(LONGEST, max(60, ask.timeout * 4)):g}", CANNOT) from None
    finally:
        talk.clear()


def trace(e: BaseException) -> None:
    """Show an exception that became a Missing (``-v``)."""
    import traceback

    traceback.print_exception(e, file=sys.stderr)


def conclude(case: Case, look: Style, *, as_json: bool, save: "Path | None", every: bool = False) -> int:
    """Diagnose a finished case, print the report, save the folder; returns the exit status."""
    report = reported(case)
    with readers_may_leave():
        show(report, look, as_json=as_json, every=every)
    if save:
        saved.save(save, case, *documents(report))
        Talk().remark(f"saved in {save}")
    return exit_status(report)


def reported(case: Case) -> "Report":
    """What a case means: of one path, or of a whole machine."""
    if case.ask.command == "scan":
        from pathfit import survey

        return survey.report(case)
    if not case.asked("look"):
        from pathfit import diagnose

        return diagnose.report(case)
    from pathfit.follow import explained

    return explained(case)


def exit_status(report: "Report") -> int:
    """0 no fault of severity error, 1 at least one, 3 verdict unknown; 3 wins over 1."""
    from pathfit import diagnose

    return diagnose.exit_status(report)


def show(report: "Report", look: Style, *, as_json: bool, every: bool = False) -> None:
    """Print a report on stdout. ``every``: of a scan, each workload as well."""
    if as_json:
        from pathfit.render import json

        sys.stdout.flush()
        sys.stdout.buffer.write(json.dump(report))
        return
    if report.ask.command == "scan":
        from pathfit.render.scan import render

        out = render(report, lang=look.lang, width=look.width, colour=look.colour, ascii_only=look.ascii, every=every)
    else:
        from pathfit.render import text

        out = text.render(report, lang=look.lang, width=look.width, colour=look.colour, ascii_only=look.ascii)
    sys.stdout.write(out)


def documents(report: "Report") -> tuple[bytes, str]:
    """report.json and report.txt of a case folder: the text in the asker's language, for 80 columns."""
    from pathfit.render import json, scan, text

    render = scan.render if report.ask.command == "scan" else text.render
    return json.dump(report), render(report, lang=report.ask.lang)


def again(case: Case) -> Case:
    """The same questions, answered by the recorded case."""
    from pathfit import examine as loop
    from pathfit.replay import ReplayWorld

    return loop.run(case.ask, ReplayWorld(case))


def replay(folder: "Path", o: dict[str, Any], file: "Path | None" = None) -> int:
    """Diagnose a saved case again, or follow its packets; says on stderr when the outcome differs from the saved one.
    ``file``: where its packets are written. Raises Stop."""
    with saved.prepared(o["save"]):
        case = saved.open_case(folder)
        if file is not None and case.ask.command != "trace":
            raise Stop(f"{folder}: a case of `{case.ask.command}` has no packets", line("pathfit", "replay", folder))
        return _replay(folder, case, file, o)


def _replay(folder: "Path", old: Case, file: "Path | None", o: dict[str, Any]) -> int:
    from pathfit.host.alarm import Late, alarm

    look = style(o["lang"])
    traced = None
    try:
        with alarm(REPLAY):
            case = again(old)
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
        from pathfit.cli import tracing

        tracing.show(traced, case, look, file, o)
    else:
        with readers_may_leave():
            show(report, look, as_json=o["as_json"])
    if (folder / saved.REPORT).is_file() and saved.read(folder / saved.REPORT) != documents(report)[0]:
        Talk().remark(f"this differs from {folder / saved.REPORT}, made by {old.version}")
    if o["save"]:
        saved.save(o["save"], case, *documents(report))
    if traced is not None:
        return tracing.STATUS[traced.verdict]
    return exit_status(report)
