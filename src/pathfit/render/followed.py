"""A trace as text: both ways with their points, what was lost between which of them and why, a ladder of packets."""

from msgspec.structs import replace

from pathfit.core.followed import Cause, Course, Followed, Loss, Row, Stage
from pathfit.core.net import Direction, Point
from pathfit.core.tracing import DROPS
from pathfit.render import followed_talks
from pathfit.render.answered import answer_text, proof_texts, telling
from pathfit.render.followed_head import headline
from pathfit.render.layout import Page, columns, pad
from pathfit.render.ruled import ruled_text
from pathfit.rules.places import place_text
from pathfit.words import render as words

WAYS: tuple[tuple[Direction, str], ...] = (("forward", "label-out"), ("reverse", "label-in"))
MARKS = {"all": "●", "part": "◐", "none": "·", "gone": "✗"}
PLAIN = {"all": "o", "part": "%", "none": ".", "gone": "x"}
ARROWS = {"forward": ("→", "->"), "reverse": ("←", "<-")}
MOST_CAUSES = 3
MOST_MISSING = 6
ERRORS = {
    "too-big": "trace.error-too-big",
    "unreachable": "trace.error-unreachable",
    "expired": "trace.error-expired",
}
ANSWERS = 7  # columns of the word before them
VERDICTS = {
    "lost": ("verdict-lost", "bad"),
    "arrives": ("verdict-arrives", "good"),
    "unknown": ("verdict-unknown", "warn"),
}


def render(seen: Followed, *, lang: str = "en", width: int = 80, colour: bool = False, ascii_only: bool = False) -> str:
    """Text for ``width`` columns, with a final newline."""
    text = _Text(seen, lang, Page(width, colour=colour, ascii_only=ascii_only))
    text.write()
    return str(text.page)


class _Text:
    def __init__(self, seen: Followed, lang: str, page: Page) -> None:
        self.seen, self.lang, self.page = seen, lang, page

    def say(self, message: str, **facts: object) -> str:
        return words.say(message, facts, self.lang)

    def write(self) -> None:
        seen = self.seen
        word, style = VERDICTS[seen.verdict]
        first = headline(seen, self.lang) or loss_text(seen.losses[0], self.lang) + ("。" if self.lang == "zh" else ".")
        self.page.line(first, self.say(f"trace.{word}") + "  ", style)
        self.page.blank()
        labels = [self.say(f"ui.{label}") for _, label in WAYS]
        deep = max(map(columns, labels))
        shown = Course(end=seen.end, forward=seen.forward, reverse=seen.reverse, beyond=seen.beyond)
        for course in (shown, *seen.others):
            if seen.others or course.end:
                where = self.say("trace.end", end=course.end) if course.end else self.say("trace.no-end")
                self.page.line(where, "  ", "label")
            for (which, _), label in zip(WAYS, labels, strict=True):
                self._way(course, which, f"  {pad(label, deep)}  ")
        self._talks()
        self._answers()
        self._ladder()
        self._missing()
        self.page.blank()
        self.page.line(self.say("trace.more"))

    # -- both ways ---------------------------------------------------------------------------------------------

    def _way(self, course: Course, which: Direction, head: str) -> None:
        stages = course.forward if which == "forward" else course.reverse
        indent = " " * columns(head)
        losses = [x for x in self.seen.losses if x.direction == which and x.end == course.end]
        if not stages:
            self.page.line(self.say("trace.none"), head, "label")
            for loss in losses:
                self._loss(loss, indent)
            return
        ends = course.beyond[0 if which == "forward" else 1]
        names = [place_text(s.at) for s in stages]
        dots = ["..."] if ends is not None else []
        chain = names + dots if which == "forward" else dots + names
        self.page.line(" > ".join(chain), head, "label")
        packets = max(s.packets for s in stages)
        counted = self.say("trace.counted" if packets else "trace.none", packets=packets, points=len(stages))
        flag = "trace.gone" if losses else "trace.ok"
        if packets:
            self.page.flagged(counted, self.say(flag), "bad" if losses else "good", indent=indent)
        else:
            self.page.line(counted, indent)
        for loss in losses:
            self._loss(loss, indent)
        for stage in stages:
            if stage.lost:
                self.page.line(self.say("trace.own-loss", count=stage.lost, place=place_text(stage.at)), indent)
        if ends is not None:
            message = "trace.beyond" if which == "forward" else "trace.before"
            self.page.line(self.say(message, place=place_text(ends)), indent)

    def _loss(self, loss: Loss, indent: str) -> None:
        self.page.line(loss_text(loss, self.lang), indent)
        for cause in loss.causes[:MOST_CAUSES]:
            detail = "" if cause.by in ("counter", "state") else f"  x{cause.count}"
            if cause.reason:
                facts = {"function": cause.function or "?", "reason": cause.reason, "count": cause.count}
                detail = "  " + self.say("trace.detail", **facts)
            self.page.line(weighed_text(cause, loss, self.lang) + detail, indent + "  ")
        for limit in loss.ahead:
            facts = {"place": place_text(limit.at), "mtu": limit.mtu}
            self.page.line(self.say("trace.ahead", **facts), indent + "  ")
        if not loss.causes and loss.after is not None:
            self.page.line(self._no_word(), indent + "  ")

    def _no_word(self) -> str:
        if self.seen.watched:
            return self.say("trace.no-word")
        why = next((m.why for m in self.seen.missing if m.what == DROPS), "?")
        return self.say("trace.not-watched", why=why)

    def _talks(self) -> None:
        if self.seen.ask.follow is None or not self.seen.seconds:
            return
        self.page.blank()
        self.page.line(followed_talks.head(self.seen, self.lang))
        for text, trouble in followed_talks.lines(self.seen, self.lang):
            self.page.line(text, "  ", "bad" if trouble else "", indent="    ")

    def _answers(self) -> None:
        """Who made resets and ICMP errors."""
        for n, one in enumerate(telling(self.seen)):
            if not n:
                self.page.blank()
            head = "  " + (pad(self.say("trace.answers"), ANSWERS) if not n else " " * ANSWERS) + "  "
            self.page.line(answer_text(one, self.lang), head, "label")
            for text in proof_texts(one, self.lang):
                self.page.line(text, " " * (ANSWERS + 6))

    # -- the ladder --------------------------------------------------------------------------------------------

    def _ladder(self) -> None:
        if not self.seen.rows:
            return
        points = _points(self.seen.forward, self.seen.reverse)
        self.page.blank()
        legend = "  ".join(f"{n}={place_text(p)}" for n, p in enumerate(points, 1))
        head = self.say("trace.ladder") + "  "
        self.page.line(legend, head, "label")
        rows = [self._row(row, points) for row in self.seen.rows]
        widths = [max(columns(row[n]) for row in rows) for n in range(3)]
        deep = sum(widths) + 6
        numbers = "".join(f"{n:>3}" for n in range(1, len(points) + 1))
        self.page.command(" " * deep + numbers, "  ")
        for time, what, size, marks in rows:
            line = f"{time:>{widths[0]}}  {pad(what, widths[1])}  {size:>{widths[2]}}  {marks}"
            self.page.command(line, "  ")
        if any(how != "all" for row in self.seen.rows for how in row.seen):
            key = PLAIN if self.page.ascii_only else MARKS
            self.page.line(self.say("trace.marks", **key), "  ")

    def _row(self, row: Row, points: list[Point]) -> tuple[str, str, str, str]:
        marks = PLAIN if self.page.ascii_only else MARKS
        stages = self.seen.forward if row.direction == "forward" else self.seen.reverse
        by_point = dict(zip([s.at for s in stages], row.seen, strict=True))
        gone = _gone(stages, row.seen)
        shown = [marks["gone" if p == gone else by_point[p]] if p in by_point else " " for p in points]
        arrow = ARROWS[row.direction][1 if self.page.ascii_only else 0]
        marked = "".join(f"  {m}" for m in shown)
        if row.dropped:
            last = points.index(stages[-1].at) + 1
            marked += "  " + self.say("trace.behind", gone=marks["gone"], number=last)
        return f"{row.time / 1e6:.2f}", f"{arrow} {row.what}", str(row.size), marked

    def _missing(self) -> None:
        if self.seen.cut:
            self.page.blank()
            self.page.line(self.say("trace.cut", ms=f"{self.seen.cut / 1e6:.0f}"))
        if self.seen.unheard:
            self.page.blank()
            self.page.line(self.say("trace.unheard", count=self.seen.unheard))
        nameless = any(c.word == "filtered" and c.rule is None for x in self.seen.losses for c in x.causes)
        if nameless and self.seen.unmarked:
            self.page.line(self.say("trace.unmarked", count=self.seen.unmarked))
        if nameless and self.seen.deaf:
            self.page.line(self.say("trace.deaf", count=self.seen.deaf))
        for missing in self.seen.missing[:MOST_MISSING]:
            self.page.line(f"{missing.what}: {missing.why}", "? ", "warn")
            if missing.how:
                self.page.line(missing.how, "    ")
        if more := len(self.seen.missing[MOST_MISSING:]):
            self.page.line(self.say("ui.unseen-more", count=more), "  ")


def loss_text(loss: Loss, lang: str) -> str:
    """One sentence of what was lost between which points."""
    sizes = words.say("trace.sizes", {"smallest": loss.smallest, "largest": loss.largest}, lang)
    facts = {
        "missing": loss.missing,
        "packets": loss.packets,
        "sizes": sizes if loss.smallest != loss.largest else str(loss.largest),
        "after": place_text(loss.after) if loss.after else "?",
        "before": place_text(loss.before) if loss.before else "?",
        "passed": loss.passed,
    }
    if loss.error is not None:
        return _error_text(loss, facts, lang)
    if loss.after is None and loss.before is None:
        return words.say("trace.loss-unwatched" if loss.unwatched else "trace.loss-nowhere", facts, lang)
    if loss.after is None:
        return words.say("trace.loss-before", facts, lang)
    if loss.before is None:
        counted = bool(loss.causes) and all(c.by in ("counter", "state") for c in loss.causes)
        return words.say("trace.loss-unanswered" if counted else "trace.loss-behind", facts, lang)
    limited = 0 < loss.passed < loss.smallest
    return words.say("trace.loss-passed" if limited else "trace.loss", facts, lang)


def _error_text(loss: Loss, facts: dict[str, object], lang: str) -> str:
    """What was to be told, to whom, and where it was last."""
    assert loss.error is not None
    said = words.say(ERRORS[loss.error.kind], {"mtu": loss.error.mtu or "?"}, lang)
    facts |= {"said": said, "claims": loss.error.claims, "about": loss.error.about, "size": loss.error.largest}
    if loss.after is None:
        return words.say("trace.silenced-nowhere", facts, lang)
    return words.say("trace.silenced-behind" if loss.before is None else "trace.silenced-between", facts, lang)


def cause_text(cause: Cause, lang: str) -> str:
    """One sentence of why, and whether anybody is told."""
    if cause.rule is not None:
        return ruled_text(cause, cause.rule, lang)
    sized = cause.limit != ""
    facts = {"place": place_text(cause.at), "mtu": cause.mtu or "?", "most": cause.most or "?"}
    said = words.say(f"lost.{cause.word}", facts, lang)
    if not sized:
        return said
    return said + ("；" if lang == "zh" else "; ") + words.say("trace.told" if cause.told else "trace.silent", {}, lang)


def weighed_text(cause: Cause, loss: Loss, lang: str) -> str:
    """The same; behind what only a counter tells, how much that is worth."""
    if cause.word.startswith("untold") and cause.rule is not None:
        return words.say("trace.untold-rule", {"rule": ruled_text(cause, cause.rule, lang)}, lang)
    if cause.told and cause.limit and any(c.word.startswith("untold") for c in loss.causes):
        parts = cause_text(replace(cause, limit=""), lang), words.say("trace.sent-back", {}, lang)
        return ("；" if lang == "zh" else "; ").join(parts)
    if cause.by == "state":
        return cause_text(cause, lang) + "  " + words.say("trace.by-state", {}, lang)
    if not cause.counter:
        return cause_text(cause, lang)
    facts = {"counter": cause.counter, "count": cause.count, "packets": loss.packets}
    return f"{cause_text(cause, lang)}  {words.say('trace.counter', facts, lang)}"


def _points(forward: tuple[Stage, ...], reverse: tuple[Stage, ...]) -> list[Point]:
    """The columns: the way out, and what only the way in passes."""
    return list(dict.fromkeys([*(s.at for s in forward), *(s.at for s in reversed(reverse))]))


def _gone(stages: tuple[Stage, ...], seen: tuple[str, ...]) -> Point | None:
    """The first point behind the last one that saw a packet."""
    last = max((n for n, how in enumerate(seen) if how != "none"), default=len(seen))
    return stages[last + 1].at if last + 1 < len(stages) else None
