"""All pairs of some places: a table of what passes from each to each, what differs, and the same as JSON."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pathfit.core.evidence_base import Missing
from pathfit.core.report import Report
from pathfit.render import command, rows
from pathfit.render.layout import Page, clean, columns, pad
from pathfit.render.rows import Row, Size
from pathfit.words import render as words

SCHEMA = "pathfit.matrix/1"
MOST_DIFFERENT = 12  # pairs named one by one in the text
ITSELF, NOT_ASKED = "-", "."
LONGEST_NAME = 24  # columns


class Place(NamedTuple):
    """One row and column. ``address``: its own one in the network that is looked at, "" where any will do."""

    name: str
    where: str
    address: str = ""


class Matrix(NamedTuple):
    """``pairs``: by the numbers of two places, the first one asking. ``left_out``: pairs that were not measured."""

    title: str
    places: tuple[Place, ...]
    pairs: Mapping[tuple[int, int], Report]
    left_out: int = 0
    took: float = 0.0
    version: str = ""

    @property
    def verdict(self) -> str:
        return rows.worst(r.verdict for r in self.pairs.values())


def sizes(m: Matrix) -> dict[tuple[int, int], Size]:
    """What passes from a place to another, by their numbers."""
    found: dict[tuple[int, int], Size] = {}
    for (a, b), report in m.pairs.items():
        line = rows.row(report)
        found[a, b], found[b, a] = line.out, line.back
    return found


def usual(found: Mapping[tuple[int, int], Size]) -> Size | None:
    """What most of them have; None when nothing was measured."""
    counted = Counter(s for s in found.values() if s.passes is not None)
    return max(counted, key=lambda s: (counted[s], s.passes or 0), default=None)


def text(m: Matrix, *, lang: str = "en", width: int = 80, colour: bool = False, ascii_only: bool = False) -> str:
    """For ``width`` columns, with a final newline."""
    page = Page(width, colour=colour, ascii_only=ascii_only)
    every = len(m.pairs) + m.left_out
    facts = {"title": m.title, "places": len(m.places), "done": len(m.pairs), "all": every, "took": f"{m.took:.1f}"}
    word = words.say(f"ui.word-{m.verdict}", {}, lang)
    page.line(words.say("ui.many-matrix", facts, lang), f"{word}  ", m.verdict)
    page.blank()
    found = sizes(m)
    lines = str(page).rstrip("\n").split("\n")
    for block in _blocks(m, found, width, lang, ascii_only=ascii_only):
        lines += ["", *block]
    tail = Page(width, colour=colour, ascii_only=ascii_only)
    _differ(tail, m, found, lang)
    tail.blank()
    if m.left_out:
        tail.line(words.say("ui.many-left-out", {"count": m.left_out, "all": every}, lang))
    bad = next((k for k, r in m.pairs.items() if r.verdict != "healthy"), None)
    if bad is not None:
        a, b = (m.places[n].where for n in bad)
        tail.command(command.shell("pathfit", "diagnose", "--from", a, "--to", b), words.say("ui.many-next", {}, lang))
    return "\n".join([*lines, "", str(tail).strip("\n")]).rstrip("\n") + "\n"


def _blocks(
    m: Matrix, found: Mapping[tuple[int, int], Size], width: int, lang: str, *, ascii_only: bool
) -> list[list[str]]:
    """The table, in as many blocks of columns as fit beside the names."""
    names = [f"{n} {_short(clean(p.name, ascii_only=ascii_only))}" for n, p in enumerate(m.places, 1)]
    corner = words.say("ui.many-corner", {}, lang)
    first = max(columns(x) for x in (*names, corner))
    wide = max((len(str(s)) for s in found.values()), default=4)
    each = max(1, (width - first) // (wide + len(rows.GAP)))
    blocks = []
    for start in range(0, len(m.places), each):
        those = range(start, min(start + each, len(m.places)))
        lines = [pad(corner, first) + "".join(rows.GAP + str(n + 1).rjust(wide) for n in those)]
        for a, name in enumerate(names):
            shown = (_cell(found, a, b).rjust(wide) for b in those)
            lines.append(pad(name, first) + "".join(rows.GAP + x for x in shown))
        blocks.append(lines)
    return blocks


def _cell(found: Mapping[tuple[int, int], Size], a: int, b: int) -> str:
    if a == b:
        return ITSELF
    return str(found[a, b]) if (a, b) in found else NOT_ASKED


def _short(name: str) -> str:
    return name if columns(name) <= LONGEST_NAME else name[: LONGEST_NAME - 2] + ".."


def _differ(page: Page, m: Matrix, found: Mapping[tuple[int, int], Size], lang: str) -> None:
    most = usual(found)
    page.line(words.say("ui.many-legend", {}, lang))
    if most is None:
        return
    odd = [(a, b, s) for (a, b), s in sorted(found.items()) if s != most]
    if not odd:
        page.line(words.say("ui.many-all-alike", {"size": str(most)}, lang))
        return
    page.blank()
    page.line(words.say("ui.many-differ", {"count": len(odd), "size": str(most)}, lang))
    at = set.intersection(*({a, b} for a, b, _ in odd))
    if len(odd) > 2 and len(at) == 1:
        page.line(words.say("ui.many-one-place", {"name": m.places[at.pop()].name}, lang), "  ")
    for a, b, s in odd[:MOST_DIFFERENT]:
        names = f"{m.places[a].name} > {m.places[b].name}"
        page.line(f"{names} {s} {_said(m, a, b)}".rstrip(), "  ", indent="    ")
    if len(odd) > MOST_DIFFERENT:
        page.line(words.say("ui.many-more", {"count": len(odd) - MOST_DIFFERENT}, lang), "  ")


def _said(m: Matrix, a: int, b: int) -> str:
    """What the pair's report says of that way; its leading finding where none is of one way alone."""
    asked = m.pairs.get((a, b))
    report = asked or m.pairs[b, a]
    way = "outbound" if asked is not None else "inbound"
    worse = [f for f in report.findings if f.severity != "info"]
    first = next((f for f in worse if f.facts.get("direction") == way), worse[0] if worse else None)
    return f"{first.code} {first.name}" if first is not None else ""


def document(m: Matrix) -> dict[str, Any]:
    """``pathfit.matrix/1``: forward is from the first of a pair to the second."""
    return {
        "schema": SCHEMA,
        "version": m.version,
        "verdict": m.verdict,
        "title": m.title,
        "places": [{"name": p.name, "where": p.where, "address": p.address or None} for p in m.places],
        "pairs": [_pair(m.places[a], m.places[b], r) for (a, b), r in m.pairs.items()],
        "left_out": m.left_out,
        "used": {
            "packets": sum(r.used.packets for r in m.pairs.values()),
            "connections": sum(r.used.connections for r in m.pairs.values()),
        },
        "took_ms": round(m.took * 1000),
    }


def _pair(a: Place, b: Place, report: Report) -> dict[str, Any]:
    line: Row = rows.row(report)
    first = report.measured[0] if report.measured else None
    return {
        "from": a.where,
        "to": b.where,
        "address": line.address or None,
        "verdict": report.verdict,
        "forward": rows.bracket(first.forward) if first else None,
        "reverse": rows.bracket(first.reverse) if first else None,
        "rtt_ms": None if line.rtt is None else round(line.rtt * 1000, 3),
        "findings": [{"code": f.code, "severity": f.severity, "summary": words.summary(f)} for f in report.findings],
        "missing": [_missing(x) for x in report.missing if report.verdict == "unknown"],
    }


def _missing(m: Missing) -> dict[str, str]:
    return {"what": m.what, "why": m.why}
