"""The report as a person reads it. The order is a promise (CONTRACT): verdict, what fails, both directions, why,
proof, where, repair, next. Each part is left out when the report has nothing for it.

Sentences come from words/ (ids ``ui.*`` and those of the findings); this module decides which of them are said.
"""

from pathfit.core.finding import Finding
from pathfit.core.net import Direction
from pathfit.core.report import MeasuredAddress, Report
from pathfit.render import command, questions, repair, ways
from pathfit.render.layout import Page, columns, pad
from pathfit.words import render as words

MOST_PROOF = 4  # lines of evidence of the leading finding; all of them are in --json
MOST_MISSING = 6
MOST_LEFT = 4
DEEP = "       "  # what stands under "  out  "
AT_LEAST = ("answers-too-short", "answers-too-slowly", "large-answers-come", "answers-cut")
HOLES = {"MTU101": "why-in", "MTU102": "why-out"}


def render(report: Report, *, lang: str = "en", width: int = 80, colour: bool = False, ascii_only: bool = False) -> str:
    """Text for ``width`` columns, with a final newline. ``ascii_only`` escapes everything else (LANG=C)."""
    text = _Text(report, lang, Page(width, colour=colour, ascii_only=ascii_only))
    text.write()
    return str(text.page)


class _Text:
    """One report on its way to a page."""

    def __init__(self, report: Report, lang: str, page: Page) -> None:
        self.report, self.lang, self.page = report, lang, page
        self.first = report.findings[0] if report.findings else None
        self.leading = self.first if report.verdict in ("broken", "degraded") else None

    def say(self, message: str, **facts: object) -> str:
        return words.say(f"ui.{message}", facts, self.lang)

    def write(self) -> None:
        self._verdict()
        self._what()
        self._directions()
        if self.leading:
            self._why(self.leading)
            self._proof(self.leading)
            self._where(self.leading)
        self._others()
        self._questions()
        self._fixes()
        self._left()
        self._missing()
        self._next()

    # -- verdict, what fails, both directions -------------------------------------------------------------------

    def _verdict(self) -> None:
        r = self.report
        if self.leading:
            sentence = words.summary(self.leading, self.lang)
        elif r.verdict == "unknown":
            sentence = words.say(r.why_unknown, {}, self.lang) if r.why_unknown else self.say("verdict-unknown")
        else:
            sentence = self.say("verdict-healthy", source=r.source_label, target=r.target_label)
        word = self.say(f"word-{r.verdict}")
        self.page.line(sentence, f"{word}  ", r.verdict)
        self.page.blank()

    def _what(self) -> None:
        if not self.leading:
            return
        errors = [f for f in self.report.findings if f.severity == "error"] or [self.leading]
        for f in errors:
            sure = self.say(f"sure-{f.confidence}", ms=round(self.report.took * 1000))
            self.page.line(sure, f"{f.code} {f.name}   ", "code")

    def _directions(self) -> None:
        if not self.report.measured and not (self.report.forward and self.report.forward.hops):
            return
        measured = self.report.measured[0] if self.report.measured else None
        directions: tuple[tuple[Direction, str], ...] = (("forward", "label-out"), ("reverse", "label-in"))
        labels = [self.say(label) for _, label in directions]
        deep = max(columns(label) for label in labels)
        for (direction, _), label in zip(directions, labels, strict=True):
            head = f"  {pad(label, deep)}  "
            self.page.line(ways.line(self.report, direction), head, "label", indent=" " * columns(head) + "  ")
            if measured is not None:
                text, flag, style = self._outcome(measured, direction)
                self.page.flagged(text, flag, style, indent=" " * columns(head))

    def _outcome(self, m: MeasuredAddress, direction: Direction) -> tuple[str, str, str]:
        """What one direction carries, its flag and the flag's style."""
        b = m.forward if direction == "forward" else m.reverse
        promised = m.contact.promised
        if b.passes is None and b.fails is None:
            if not b.note or b.note.endswith("not-measured"):
                return self.say("way-unmeasured"), "?", "unsure"
            return self.say("way-unmeasured-why", why=words.say(b.note, {}, self.lang)), "?", "unsure"
        if b.note == "uneven":
            return self.say("way-uneven", passes=b.passes), self.say("flag-hole"), "hole"
        if b.grade == "told" or b.told_by:
            by, mtu = b.told_by or "?", b.told_mtu or b.passes
            if b.note == "deaf":
                source = self.report.source_label if direction == "forward" else self.report.target_label
                deaf = self.say("way-deaf", passes=b.passes, by=by, mtu=mtu, source=source)
                return deaf, self.say("flag-hole"), "hole"
            if b.told_by is None:
                return self.say("way-learned", passes=b.passes, mtu=mtu), self.say("flag-ok"), "ok"
            return self.say("way-told", passes=b.passes, by=by, mtu=mtu), self.say("flag-ok"), "ok"
        if b.note == "large-answers-lost":
            return self.say("way-answers-lost", passes=b.passes or 0), self.say("flag-hole"), "hole"
        if b.fails is None and b.note in AT_LEAST:
            return self.say("way-at-least", passes=b.passes), "?", "unsure"
        if b.fails is None:
            return self.say("way-passes", passes=b.passes), self.say("flag-ok"), "ok"
        if promised is not None and b.fails > promised:
            return self.say("way-enough", passes=b.passes, fails=b.fails), self.say("flag-ok"), "ok"
        if b.grade not in ("proof", "step"):
            return self.say("way-unsure", passes=b.passes or 0, fails=b.fails), "?", "unsure"
        exact = b.passes is not None and b.fails == b.passes + 1
        message = "way-hole" if exact else "way-hole-between"
        return self.say(message, passes=b.passes or 0, fails=b.fails), self.say("flag-hole"), "hole"

    # -- why, proof, where --------------------------------------------------------------------------------------

    def _labelled(self, label: str, texts: list[str]) -> None:
        head = f"  {self.say(label)}  "
        deep = " " * columns(head)
        for n, text in enumerate(texts):
            self.page.line(text, head if n == 0 else deep, "label" if n == 0 else "", indent=deep)

    def _why(self, f: Finding) -> None:
        causes = [c for c in self.report.findings if c.code in f.because]
        texts = []
        if f.code in HOLES and f.facts.get("promised") and f.facts.get("limit"):
            texts = [self.say(HOLES[f.code], **f.facts)]  # says what MTU103 says, of this direction
            causes = [c for c in causes if c.code != "MTU103"]
        texts += [words.summary(c, self.lang) for c in causes]
        if texts:  # one rule that hits both directions is one sentence
            self._labelled("label-why", [*dict.fromkeys(texts)])

    def _proof(self, f: Finding) -> None:
        lines = [f"{words.evidence(e, self.lang)} ({e.ref})" for e in f.evidence[:MOST_PROOF]]
        self._labelled("label-proof", lines)

    def _where(self, f: Finding) -> None:
        if not f.where:
            return
        at = f.where[0]
        named = "/".join(x for x in (ways.bare(at.netns) if at.netns != "host" else "", at.link) if x)
        place = named or self._named(at.netns)
        if at.host and self.report.host and at.host != self.report.host:
            place = f"{at.host}!{named or at.netns}"
        message = "where-beyond" if f.facts.get("beyond") else "where-at"
        if f.facts.get("beyond") and f.facts.get("holder"):
            message = "where-held"
        if f.facts.get("unexplained"):
            message = "where-unexplained"
        held = {"device": f.facts.get("device"), "holder": f.facts.get("holder")}
        text = self.say(message, place=place, netns=at.netns, **held)
        hint = f.facts.get("resembles")
        if isinstance(hint, str):
            name, over = words.say(f"hint.{hint}", {}, self.lang), f.facts.get("resembles_over")
            if isinstance(over, str):
                name = self.say("hint-over", name=name, base=words.say(f"hint.{over}", {}, self.lang))
            text += self.say("where-hint", limit=f.facts.get("limit"), name=name)
        self._labelled("label-where", [text])

    def _others(self) -> None:
        """Causes and further findings that have not been said yet."""
        shown = {self.leading.code, *self.leading.because} if self.leading else set()
        rest = [f for f in self.report.findings if f.code not in shown and f is not self.leading]
        if rest:
            self.page.blank()
        for f in rest:
            sure = self.say(f"sure-{f.confidence}-short")
            severity = self.say(f"severity-{f.severity}")
            text = self.say("finding-also", severity=severity, sure=sure, sentence=words.summary(f, self.lang))
            self.page.line(text, f"  {f.code}  ", "code")
            if not self.leading and any(x.changes for x in f.fixes):
                self.page.command(repair.typed(self.report, f), f"  {' ' * len(f.code)}  ")

    def _questions(self) -> None:
        pairs = questions.answered(self.report)
        if not pairs:
            return
        self.page.blank()
        asked = [self.say(f"ask-{q.key}", **q.facts) for q in pairs]
        deep = max(columns(a) for a in asked)
        for q, text in zip(pairs, asked, strict=True):
            self.page.line(self.say(f"answer-{q.answer}", **q.facts), f"  {pad(text, deep)}  ", "label")

    # -- repair, next -------------------------------------------------------------------------------------------

    def _fixes(self) -> None:
        """The repairs of what fails, else of the first of its causes that has some."""
        if self.leading is None:
            return
        causes = (c for code in self.leading.because for c in self.report.findings if c.code == code)
        repaired = next((f for f in (self.leading, *causes) if f.fixes), None)
        if repaired is not None:
            self.page.blank()
            repair.write(self.page, self.report, repaired, self.lang)

    def _named(self, place: str) -> str:
        return repair.named(self.report, place)

    def _left(self) -> None:
        """Path MTUs that somebody has learned by being measured, where a kernel said so."""
        learned = [s for s in self.report.side_effects if s.after is not None and s.lasts is not None]
        for n, s in enumerate(learned[:MOST_LEFT]):
            if n == 0:
                self.page.blank()
            message = "left-here" if s.where == "here" else "left-there"
            facts = {"about": s.about, "mtu": s.after, "where": s.where, "seconds": round(s.lasts or 0)}
            self.page.line(self.say(message, **facts), f"  {self.say('label-left')}  ", "label")

    def _missing(self) -> None:
        unknown = self.report.verdict == "unknown"
        # With a verdict, only questions that found no answer at all; namespaces that went meanwhile are in --json.
        missing = [m for m in self.report.missing if unknown or m.ref]
        if not missing:
            return
        self.page.blank()
        shown = missing[: MOST_MISSING if unknown else 2]
        ways_out = [command.lines(m.how, self.report.ask, m.ref) for m in shown]
        for n, m in enumerate(shown):
            self.page.line(f"{m.what}: {m.why}", f"  {self.say('label-unseen')}  ", "label")
            if ways_out[n + 1 : n + 2] != [ways_out[n]]:  # one way out of several is said once, after the last of them
                for typed in ways_out[n]:
                    self.page.command(typed, "  try: ")
        hidden = len(missing) - (MOST_MISSING if unknown else 2)
        if hidden > 0:
            self.page.line(self.say("unseen-more", count=hidden), "  ")

    def _next(self) -> None:
        self.page.blank()
        if self.leading:
            self.page.line(self.say("next", code=self.leading.code))
        else:
            self.page.line(self.say("next-plain"))
