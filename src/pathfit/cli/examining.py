"""`diagnose` and `probe`: the loop on this machine, what its case means, and one way to print that."""

import sys
from typing import TYPE_CHECKING, Any

from pathfit.cli import saved
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import Style, Talk, readers_may_leave, style
from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.request import EndWatch, Request

if TYPE_CHECKING:
    from pathlib import Path

    from pathfit.core.report import Report

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
