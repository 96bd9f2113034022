"""A forecast as text and as JSON: verdict, both directions with every limit in order, what if, what is not known.

The directions look as in a diagnosis (:mod:`pathfit.render.ways`); the JSON is the report's document with more in it.
"""

from typing import Any

import msgspec

from pathfit.core.base import Value
from pathfit.core.net import Direction, Point
from pathfit.core.path import Fate, Limit, Predicted
from pathfit.foresight import Foreseen, Settled, direction
from pathfit.render import json, steps, ways
from pathfit.render.layout import Page, columns, pad
from pathfit.words import render as words

DIRECTIONS: tuple[tuple[Direction, str, str], ...] = (
    ("forward", "label-out", "outbound"),
    ("reverse", "label-in", "inbound"),
)
FLAGS = {"fits": "ok", "told": "ok", "hole": "hole", "lost": "hole", "unknown": "unsure"}
MOST_MISSING = 6
Json = dict[str, Any]


class Shown(Value, frozen=True, kw_only=True):
    """What is to be shown: the forecast; with changes, those and the forecast they lead to."""

    seen: Foreseen
    settings: tuple[str, ...] = ()
    then: Foreseen | None = None


def render(
    shown: Shown, *, lang: str = "en", width: int = 80, colour: bool = False, ascii_only: bool = False,
    verbose: bool = False,
) -> str:  # fmt: skip
    """Text for ``width`` columns, with a final newline. ``verbose``: every hop with its steps."""
    text = _Text(shown, lang, Page(width, colour=colour, ascii_only=ascii_only), verbose)
    text.write()
    return str(text.page)


class _Text:
    def __init__(self, shown: Shown, lang: str, page: Page, verbose: bool) -> None:
        self.shown, self.lang, self.page, self.verbose = shown, lang, page, verbose
        self.seen = shown.seen
        self.report = self.seen.report

    def say(self, message: str, **facts: object) -> str:
        return words.say(f"ui.{message}", facts, self.lang)

    def write(self) -> None:
        self._verdict()
        labels = [self.say(label) for _, label, _ in DIRECTIONS]
        deep = max(columns(x) for x in labels)
        for (which, _, _), label in zip(DIRECTIONS, labels, strict=True):
            self._direction(which, f"  {pad(label, deep)}  ")
        self._what_if(deep)
        self._findings()
        self._missing()
        self.page.blank()
        self.page.line(self.say("pre-next"))

    def _verdict(self) -> None:
        r = self.report
        ends = {"source": r.source_label, "target": r.target_label}
        sentence = self.say({"healthy": "pre-fits", "degraded": "pre-told"}.get(r.verdict, "pre-unknown"), **ends)
        if r.verdict == "broken":
            sentence = self.say("pre-error", **ends)
            for which, _, said in DIRECTIONS:
                _, settled = direction(self.seen, which)
                if settled.state in ("lost", "hole"):
                    sentence = self.say(f"pre-{settled.state}", direction=said, **ends)
                    break
        self.page.line(sentence, f"{self.say(f'word-{r.verdict}')}  ", r.verdict)
        self.page.line(self.say("pre-from", hosts=_some(self.seen.hosts)), f"{self.say('pre-word')}  ", "label")
        self.page.blank()

    # -- one direction ------------------------------------------------------------------------------------------

    def _direction(self, which: Direction, head: str) -> None:
        way, settled = direction(self.seen, which)
        limit = settled.limit
        deep = " " * columns(head)
        shown = ways.line(self.report, which, limit.mtu if limit else None)
        self.page.line(shown, head, "label", indent=deep + "  ")
        text, flag, style = self._outcome(self.seen, which)
        self.page.flagged(text, flag, style, indent=deep)
        if way is None:
            return
        for one in way.limits:
            self.page.line(self._limit(one), deep, indent=deep + "  ")
        self._mss(way, which, deep)
        if way.ends is not None:
            self.page.line(self.say("pre-ends", place=self._place(way.ends)), deep, indent=deep + "  ")
        if self.verbose:
            for hop in way.hops:
                said = "; ".join(steps.line(s) for s in hop.steps)
                line = self.say(
                    "pre-hop", place=self._place(Point(host=hop.where.host, netns=hop.where.netns)), steps=said
                )
                self.page.line(line, deep + "  ", indent=deep + "    ")

    def _sender(self, which: Direction) -> str:
        return self.report.source_label if which == "forward" else self.report.target_label

    def _outcome(self, seen: Foreseen, which: Direction) -> tuple[str, str, str]:
        settled = direction(seen, which)[1]
        sender, style = self._sender(which), FLAGS[settled.state]
        flag = {"ok": self.say("flag-ok"), "hole": self.say("flag-hole")}.get(style, "?")
        flag = self.say("pre-flag-lost") if settled.state == "lost" else flag
        facts = {"size": settled.size, "asked": settled.asked, "sender": sender, "why": settled.why}
        if settled.state == "fits":
            message = "pre-way-fits" if settled.size == settled.asked else "pre-way-smaller"
        elif settled.state == "hole":
            message, facts["fails"] = "pre-way-hole", (settled.size or 0) + 1
            if settled.size is None:
                message = "pre-way-lost"
        elif settled.state == "unknown":
            way, _ = direction(seen, which)
            arrives = way is not None and way.fate is Fate.DELIVERED and seen.forward.state != "lost"
            message = (
                "pre-way-wire" if settled.size and arrives else "pre-way-unknown" if settled.size else "pre-way-dark"
            )
            facts["why"] = settled.why or "?"
        else:
            message = f"pre-way-{settled.state}"
        return self.say(message, **facts), flag, style

    def _limit(self, x: Limit) -> str:
        kind = self.say(f"pre-kind-{x.kind}", overhead=x.overhead, device=x.device or x.kind)
        then = f"pre-then-{x.then}"
        if x.then == "icmp":
            then = {True: "pre-then-told", False: "pre-then-untold", None: "pre-then-told-unsure"}[x.told_home]
        said = self.say(then, why=x.why_untold or "?")
        return self.say("pre-limit", mtu=x.mtu, place=self._place(x.at), kind=kind, then=said)

    def _mss(self, way: Predicted, which: Direction, deep: str) -> None:
        if way.mss is None:
            return
        if way.clamps:
            text = self.say(
                "pre-mss", promised=way.clamps[0].mss_before, sender=self._sender(which), mss=way.mss,
                clamps=len(way.clamps),
            )  # fmt: skip
        elif self.verbose:
            text = self.say("pre-mss-plain", mss=way.mss)
        else:
            return
        self.page.line(text, deep, indent=deep + "  ")

    def _place(self, at: Point) -> str:
        space = ways.bare(at.netns)
        if len(self.seen.hosts) > 1:
            space = at.host if space == "host" else f"{at.host}!{space}"
        return f"{space}/{at.link}" if at.link else space

    # -- the rest -----------------------------------------------------------------------------------------------

    def _what_if(self, deep: int) -> None:
        then = self.shown.then
        if then is None:
            return
        self.page.blank()
        for n, text in enumerate(self.shown.settings):
            head = f"  {self.say('pre-set')}  "
            self.page.line(text, head if n == 0 else " " * columns(head), "label" if n == 0 else "")
        was, now = self.say("pre-was"), self.say("pre-now")
        wide = max(columns(was), columns(now))
        for which, label, _ in DIRECTIONS:
            head = f"  {pad(self.say(label), deep)}  "
            for n, (word, seen) in enumerate(((was, self.seen), (now, then))):
                text, flag, style = self._outcome(seen, which)
                before = head if n == 0 else " " * columns(head)
                rest = " " * columns(head + pad(word, wide) + "  ")
                self.page.flagged(text, flag, style, indent=rest, first=f"{before}{pad(word, wide)}  ")
        word = self.say(f"word-{then.report.verdict}")
        self.page.line(self.say("pre-set-verdict", word=word), "  ")

    def _findings(self) -> None:
        report = self.shown.then.report if self.shown.then else self.report
        if report.findings:
            self.page.blank()
        for f in report.findings:
            said = self.say(
                "finding-also", severity=self.say(f"severity-{f.severity}"),
                sure=self.say(f"sure-{f.confidence}-short"), sentence=words.summary(f, self.lang),
            )  # fmt: skip
            self.page.line(said, f"  {f.code}  ", "code")

    def _missing(self) -> None:
        missing = self.report.missing
        if missing:
            self.page.blank()
        for m in missing[:MOST_MISSING]:
            self.page.line(f"{m.what}: {m.why}", f"  {self.say('label-unseen')}  ", "label")
            if m.how:
                self.page.command(m.how, "  try: ")
        if len(missing) > MOST_MISSING:
            self.page.line(self.say("unseen-more", count=len(missing) - MOST_MISSING), "  ")


def _some(names: tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} +{len(names) - most}" if len(names) > most else shown


def dump(shown: Shown) -> bytes:
    """One JSON document: the report (``measured`` empty), with ``hosts``, and ``what_if`` where changes were asked."""
    document = json.document(shown.seen.report)
    document["predicted"] = _predicted(document["predicted"], shown.seen)
    document["hosts"] = list(shown.seen.hosts)
    if shown.then is not None:
        then = json.document(shown.then.report)
        document["what_if"] = {
            "set": list(shown.settings),
            "verdict": shown.then.report.verdict,
            "predicted": _predicted(then["predicted"], shown.then),
            "path": then["path"],
            "findings": then["findings"],
        }
    return json.visible(msgspec.json.format(msgspec.json.encode(document), indent=2)) + b"\n"


def _predicted(plain: Json, seen: Foreseen) -> Json:
    """``predicted`` of the report, and what each direction comes to."""
    return {which: {**plain[which], **_more(*direction(seen, which))} for which, _, _ in DIRECTIONS}


def _more(way: Predicted | None, settled: Settled) -> Json:
    return {
        "state": settled.state,
        "asked": settled.asked,
        "size": settled.size,
        "complete": bool(way and way.complete),
        "ends": None if way is None or way.ends is None else msgspec.structs.asdict(way.ends),
        "mss": None if way is None else way.mss,
        "clamps": [{"before": c.mss_before, "after": c.mss_after, "rule": c.rule} for c in (way.clamps if way else ())],
        "untold": [x.why_untold for x in (way.limits if way else ()) if x.why_untold],
    }
