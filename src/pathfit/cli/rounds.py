"""`probe --every S`: the same measurement again and again, one line a round, what changed marked.

With ``--json`` each line is one document (``pathfit.round/1``, NDJSON): number, time, what changed, and the whole
report. It ends after ``--rounds`` of them, with the worst exit status there was, or by Ctrl-C: a summary, and 130.
"""

import sys
import time
from collections import Counter
from typing import Any, NamedTuple

from pathfit.cli.examining import exit_status, tried
from pathfit.cli.stop import INTERRUPTED, Stop
from pathfit.cli.talk import Style, style, to_nowhere, told
from pathfit.core.ask import Ask
from pathfit.core.report import Report
from pathfit.render import rows
from pathfit.render.rows import Row
from pathfit.words import render as words

SCHEMA = "pathfit.round/1"
LEAST, MOST = 5.0, 86_400.0  # seconds from one round to the next: what a stranger's server may be asked for ever


class Round(NamedTuple):
    """``clock``: as a person reads it; ``at``: RFC 3339, in UTC."""

    n: int
    clock: str
    at: str
    report: Report
    row: Row
    changed: tuple[str, ...]


def probe(target: str, o: dict[str, Any]) -> int:
    """Rounds until they are enough, or somebody interrupts; returns the exit status. Raises Stop."""
    from pathfit.cli import options

    if not LEAST <= o["every"] <= MOST:
        raise Stop(f"a round every {o['every']:g} s makes no sense: {LEAST:g} to {MOST:g}", "--every 30")
    if o["rounds"] is not None and o["rounds"] < 1:
        raise Stop(f"--rounds {o['rounds']} makes no sense: at least 1", "--rounds 3")
    if o["save"]:
        raise Stop("--save keeps one case, and rounds are many", f"pathfit probe {target} --save DIR")
    look = style(o["lang"])
    ask = options.ask("probe", "host", target, look.lang, o)
    done: list[Round] = []
    begun = time.monotonic()
    status = 0
    try:
        while o["rounds"] is None or len(done) < o["rounds"]:
            started = time.monotonic()
            if done:
                _wait(begun + len(done) * o["every"])
                started = time.monotonic()
            one = _one(ask, len(done) + 1, done[-1].row if done else None, verbose=o["verbose"])
            before = done[-1].row if done else None
            done.append(one)
            status = max(status, exit_status(one.report))
            if not _show(one, before, look, as_json=o["as_json"]):
                return status
            begun = max(begun, started - (len(done) - 1) * o["every"])  # a round that took longer moves the others
    except KeyboardInterrupt:
        status = INTERRUPTED
    if not o["as_json"] and len(done) > 1:
        sys.stdout.write(summary(done, time.monotonic() - begun, look.lang) + "\n")
        sys.stdout.flush()
    return status


def _wait(until: float) -> None:
    time.sleep(max(0.0, until - time.monotonic()))


def _one(ask: Ask, n: int, before: Row | None, *, verbose: bool) -> Round:
    now = time.time()
    report = tried(ask, verbose=verbose)
    row = rows.row(report)
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return Round(n, clock, at, report, row, rows.changes(before, row))


def _show(one: Round, before: Row | None, look: Style, *, as_json: bool) -> bool:
    """Print a round; False when nobody reads any more."""
    try:
        if as_json:
            sys.stdout.flush()
            sys.stdout.buffer.write(document(one))
        else:
            from pathfit.render.layout import painter

            paint = painter(look.colour)
            line = rows.round_line(one.clock, before, one.row, look.lang, paint, ascii_only=look.ascii)
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere(sys.stdout)
        return False
    if one.n == 1 and not as_json:
        told(words.say("ui.many-legend", {}, look.lang))
    return True


def document(one: Round) -> bytes:
    """One line."""
    import msgspec

    from pathfit.render import json

    whole = {"schema": SCHEMA, "n": one.n, "at": one.at, "changed": list(one.changed)}
    return json.visible(msgspec.json.encode({**whole, "report": json.document(one.report)})) + b"\n"


def summary(done: list[Round], took: float, lang: str) -> str:
    """How many rounds ended how, and what passed."""
    counted = Counter(r.row.verdict for r in done)
    parts = [
        words.say("ui.many-tally", {"verdict": words.say(f"ui.word-{v}", {}, lang), "count": counted[v]}, lang)
        for v in rows.WORST
        if counted[v]
    ]
    for way, side in (("out", "out"), ("in", "back")):
        sizes = [s.passes for r in done if (s := getattr(r.row, side)).passes is not None]
        if sizes:
            message = "ui.many-passed" if min(sizes) < max(sizes) else "ui.many-passed-same"
            facts = {"way": words.say(f"ui.many-{way}", {}, lang), "least": min(sizes), "most": max(sizes)}
            parts.append(words.say(message, facts, lang))
    minutes, seconds = divmod(round(took), 60)
    facts = {"count": len(done), "took": f"{minutes}:{seconds:02}", "tally": ", ".join(parts)}
    return words.say("ui.many-rounds", facts, lang)
