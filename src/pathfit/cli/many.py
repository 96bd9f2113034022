"""`diagnose --from A --from B ...`: the same question from several places, one row for each, and the worst status."""

import sys
import time
from typing import Any

from pathfit.cli.examining import Slow, exit_status, live, reported
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import Style, Talk, readers_may_leave, style
from pathfit.core.report import Report
from pathfit.render import command, rows
from pathfit.words import render as words

SCHEMA = "pathfit.reports/1"
MOST = 64  # places in one run


def diagnose(sources: tuple[str, ...], to: str, o: dict[str, Any]) -> int:
    """Examine from each place in turn, print the table; returns the exit status. Raises Stop."""
    from pathfit.cli import options

    if o["save"]:
        raise Stop("--save keeps one case, and these are several", f"pathfit diagnose --from {sources[0]} --to {to}")
    look = style(o["lang"])
    asks = [options.ask("diagnose", s, to, look.lang, o) for s in dict.fromkeys(sources)]
    if len(asks) > MOST:
        raise Stop(f"{len(asks)} places are too many at once: up to {MOST}", f"pathfit diagnose --from {sources[0]} …")
    talk = Talk(quiet=o["as_json"] and not o["verbose"])
    reports: list[Report] = []
    failed: list[tuple[str, Stop]] = []
    begun = time.monotonic()
    for n, ask in enumerate(asks, 1):
        talk.progress(f"{n} of {len(asks)}: from {ask.source}")
        try:
            reports.append(reported(live(ask, quiet=True, verbose=o["verbose"])))
        except Slow as e:  # it took too long: the others count all the same
            failed.append((ask.source, e))
    talk.clear()
    status = max([*(exit_status(r) for r in reports), *(CANNOT for _ in failed)])
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(document(to, reports, failed))
        else:
            sys.stdout.write(text(to, reports, failed, time.monotonic() - begun, look))
    return status


def document(to: str, reports: list[Report], failed: list[tuple[str, Stop]]) -> bytes:
    """``pathfit.reports/1``: whole reports, in the order of the places."""
    import msgspec

    from pathfit.render import json

    whole = {
        "schema": SCHEMA,
        "version": reports[0].version if reports else "",
        "verdict": rows.worst([*(r.verdict for r in reports), *("unknown" for _ in failed)]),
        "asked": {"from": [*(r.ask.source for r in reports), *(s for s, _ in failed)], "to": to},
        "reports": [json.document(r) for r in reports],
        "failed": [{"from": s, "why": e.message, "how": e.how} for s, e in failed],
    }
    return json.visible(msgspec.json.format(msgspec.json.encode(whole), indent=2)) + b"\n"


def text(to: str, reports: list[Report], failed: list[tuple[str, Stop]], took: float, look: Style) -> str:
    """The table, with a final newline."""
    from pathfit.render.layout import Page, clean, painter

    page = Page(look.width, colour=look.colour, ascii_only=look.ascii)
    verdict = rows.worst([*(r.verdict for r in reports), *("unknown" for _ in failed)])
    facts = {"target": to, "count": len(reports) + len(failed), "took": f"{took:.1f}"}
    word = words.say(f"ui.word-{verdict}", {}, look.lang)
    page.line(words.say("ui.many-places", facts, look.lang), f"{word}  ", verdict)
    head = [words.say(f"ui.many-{x}", {}, look.lang) for x in ("from", "verdict", "out", "in", "rtt", "finding")]
    cells = [[r.ask.source, *rows.cells(rows.row(r), look.lang)] for r in reports]
    unknown = words.say("ui.word-unknown", {}, look.lang)
    cells += [[s, unknown, rows.UNSURE, rows.UNSURE, "-", e.message] for s, e in failed]
    shown = [[clean(x, ascii_only=look.ascii) for x in row] for row in cells]
    styles = [*(r.verdict for r in reports), *("unknown" for _ in failed)]
    lines = rows.table(head, shown, styles, painter(look.colour))
    tail = Page(look.width, colour=look.colour, ascii_only=look.ascii)
    tail.line(words.say("ui.many-legend", {}, look.lang))
    bad = next((r for r in reports if r.verdict != "healthy"), None)
    if bad is not None:
        tail.command(command.shell(*command.command(bad.ask)), words.say("ui.many-next", {}, look.lang))
    return f"{page}\n" + "\n".join(lines) + f"\n\n{tail}"
