"""One examination in one line: for rounds, for many sources, for all pairs of a network.

A size is followed by what happens above it: nothing (no larger packets are promised, or they pass), ``!`` they vanish,
``~`` their sender is told or learns; ``?`` stands where it could not be measured, or not for sure.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pathfit.core.measured import Bracket
from pathfit.core.net import Direction
from pathfit.core.report import MeasuredAddress, Report
from pathfit.render.layout import Paint, clean, columns, pad
from pathfit.words import render as words

HOLE, TOLD, UNSURE = "!", "~", "?"
SEEMS = {HOLE: "hole", TOLD: "unsure", UNSURE: "unsure", "": ""}
SHORT = ("answers-too-short", "answers-too-slowly")
WORST = ("healthy", "degraded", "broken", "unknown")  # the later, the worse: so do exit statuses (CONTRACT)
GAP = "  "


class Size(NamedTuple):
    """What one direction carries; ``passes`` None: not measured."""

    passes: int | None
    mark: str

    def __str__(self) -> str:
        return f"{self.passes}{self.mark}" if self.passes is not None else self.mark or UNSURE


class Row(NamedTuple):
    """``rtt`` seconds; ``code`` of the leading finding; ``remembered``: the path MTU the source had learned before."""

    verdict: str
    out: Size
    back: Size
    rtt: float | None = None
    code: str = ""
    name: str = ""
    address: str = ""
    remembered: int | None = None


def row(report: Report) -> Row:
    """The line of a report."""
    first = report.findings[0] if report.findings and report.verdict != "healthy" else None
    m = report.measured[0] if report.measured else None
    known = m.here[0].exceptions if m is not None and m.here[0] is not None else ()
    return Row(
        verdict=report.verdict,
        out=size(m, "forward"),
        back=size(m, "reverse"),
        rtt=m.contact.rtt if m is not None else None,
        code=first.code if first else "",
        name=first.name if first else "",
        address=m.contact.address if m is not None else "",
        remembered=min((e.mtu for e in known), default=None),
    )


def size(m: MeasuredAddress | None, direction: Direction) -> Size:
    """What one direction of a measurement carries."""
    if m is None:
        return Size(None, UNSURE)
    b = m.forward if direction == "forward" else m.reverse
    return Size(b.passes, _mark(b, m.contact.promised))


def _mark(b: Bracket, promised: int | None) -> str:
    if b.note in ("uneven", "deaf"):
        return HOLE
    if b.passes is None:
        return HOLE if b.fails is not None and b.grade in ("proof", "step") else UNSURE
    if b.grade == "told" or b.told_by:
        return TOLD
    if b.fails is None:
        return UNSURE if b.note in SHORT else ""
    if promised is not None and b.fails > promised:
        return ""
    return HOLE if b.grade in ("proof", "step") else UNSURE


def worst(verdicts: Iterable[str]) -> str:
    """The worst of them; "unknown" of none."""
    return max(verdicts, key=WORST.index, default="unknown")


def changes(before: Row | None, now: Row) -> tuple[str, ...]:
    """Which parts differ from the last round: verdict, out, in, address, remembered. Round trips always do."""
    if before is None:
        return ()
    pairs = {
        "verdict": (before.verdict, now.verdict),
        "out": (before.out, now.out),
        "in": (before.back, now.back),
        "finding": (before.code, now.code),
        "address": (before.address, now.address),
        "remembered": (before.remembered is None, now.remembered is None),
    }
    return tuple(name for name, (old, new) in pairs.items() if old != new)


def cells(r: Row, lang: str) -> tuple[str, str, str, str, str]:
    """Verdict, out, in, round trip, finding."""
    rtt = f"{r.rtt * 1000:.1f} ms" if r.rtt is not None else "-"
    word = words.say(f"ui.word-{r.verdict}", {}, lang)
    return word, str(r.out), str(r.back), rtt, f"{r.code} {r.name}".strip()


def round_line(stamp: str, before: Row | None, now: Row, lang: str, paint: Paint, *, ascii_only: bool = False) -> str:
    """One round: when, verdict, both directions, round trip, what is wrong; what changed is marked and said."""
    moved = changes(before, now)
    verdict, out, back, rtt, finding = cells(now, lang)
    label = {side: words.say(f"ui.many-{side}", {}, lang) for side in ("out", "in")}
    parts = [
        stamp,
        paint(pad(verdict, 8), now.verdict),
        _sized(label["out"], out, now.out, "out" in moved, paint),
        _sized(label["in"], back, now.back, "in" in moved, paint),
        rtt.rjust(9),
        finding,
    ]
    notes = [
        words.say("ui.many-was", {"what": x}, lang) for x in _was(before, moved, lang, label) if before is not None
    ]
    if now.remembered is not None:
        notes.append(words.say("ui.many-remembered", {"mtu": now.remembered}, lang))
    if moved and not notes:
        notes.append(words.say("ui.many-changed", {}, lang))
    text = GAP.join(p for p in parts if p)
    line = text + "".join(f"{GAP}{paint(n, 'code')}" for n in notes)
    return clean_line(line, ascii_only=ascii_only)


def clean_line(text: str, *, ascii_only: bool) -> str:
    """Nothing of strangers is in it but the finding's own name; colours stay."""
    return clean(text, ascii_only=ascii_only) if "\x1b" not in text else text


def _sized(label: str, shown: str, value: Size, moved: bool, paint: Paint) -> str:
    style = SEEMS[value.mark] or ("ok" if not moved else "code")
    return f"{label} {paint(shown, style)}{' ' * max(0, 6 - columns(shown))}"


def _was(before: Row | None, moved: Sequence[str], lang: str, label: dict[str, str]) -> list[str]:
    if before is None:
        return []
    verdict, out, back, _, _ = cells(before, lang)
    said = {"verdict": verdict, "out": f"{label['out']} {out}", "in": f"{label['in']} {back}"}
    said["address"] = before.address
    return [said[name] for name in moved if said.get(name)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], paint: Paint) -> list[str]:
    """Columns as wide as need be; the second cell of each row in its style."""
    wide = [max(columns(r[n]) for r in (head, *rows)) for n in range(len(head))]
    lines = [GAP.join(pad(h, wide[n]) for n, h in enumerate(head)).rstrip()]
    for r, style in zip(rows, styles, strict=True):
        shown = [pad(x, wide[n]) for n, x in enumerate(r)]
        shown[1] = paint(shown[1], style)
        lines.append(GAP.join(shown).rstrip())
    return lines


def bracket(b: Bracket) -> dict[str, Any]:
    """One direction of a pair as JSON, in the words of pathfit.report/1."""
    note = None if b.note is None else words.say(b.note, {}, "en")
    return {"pass": b.passes, "fail": b.fails, "method": b.method, "evidence": b.grade, "note": note}
