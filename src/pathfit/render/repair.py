"""The Fix block of the text report: what helps now, what helps for good, what was tried, and the line that does it.

"Now" is the recommended repair, "for good" the first one that outlives a restart; the others are named in one line.
"""

import shlex

import msgspec

from pathfit.core.finding import Finding, Fix
from pathfit.core.report import Report
from pathfit.render import command
from pathfit.render.layout import Page, clean, columns, pad
from pathfit.words import render as words

MOST_NAMED = 3  # containers called by name; of the others, how many
MOST_LINES = 8  # changed lines of a file; all of them are in --json


def write(page: Page, report: Report, finding: Finding, lang: str) -> None:
    """The repairs of ``finding``, which has some."""
    _Block(page, report, finding, lang).write()


def named(report: Report, place: str) -> str:
    """ "host" is where we stand, which may be a container: it is called by its own name."""
    return report.host if place == "host" and report.host else place


def title(report: Report, fix: Fix, lang: str) -> str:
    """What the repair does, in a few words."""
    place = fix.facts.get("place")
    facts = {**fix.facts, "place": named(report, place)} if isinstance(place, str) else fix.facts
    return words.title(msgspec.structs.replace(fix, facts=facts), lang)


def typed(report: Report, finding: Finding) -> str:
    """The line that makes the first repair of ``finding`` that is ours to make."""
    ours = next((x for x in finding.fixes if x.changes), None)
    use = ["--use", ours.id] if ours is not None and ours is not finding.fixes[0] else []
    return shlex.join([*command.fix(report.ask, finding.code, sure=finding.confidence == "confirmed"), *use])


def lasts(fix: Fix, lang: str) -> str:
    """How long it holds. A container's namespace is made anew whenever it starts."""
    return words.say("ui.fix-lasts-restart" if fix.facts.get("contained") else f"ui.fix-lasts-{fix.lasts}", {}, lang)


def commands(page: Page, fix: Fix, deep: str) -> None:
    """What is to be typed, each line behind the host it is to be typed on, where that is another one."""
    hosts = fix.hosts or ("",) * len(fix.commands)
    for argv, host in zip(fix.commands, hosts, strict=True):
        page.command(shlex.join(argv), f"{deep}{clean(host)}$ ")


class _Block:
    def __init__(self, page: Page, report: Report, finding: Finding, lang: str) -> None:
        self.page, self.report, self.finding, self.lang = page, report, finding, lang

    def say(self, message: str, **facts: object) -> str:
        return words.say(f"ui.{message}", facts, self.lang)

    def write(self) -> None:
        every = self.finding.fixes
        good = next((x for x in every if x.lasts == "permanent"), None)
        shown = [every[0]] + ([good] if good is not None and good is not every[0] else [])
        heads = [self.say("fix-good" if x is good else "fix-now") for x in shown]
        first = self.say("fix") + " "
        deep = columns(first) + max(columns(h) for h in heads)
        for n, (fix, head) in enumerate(zip(shown, heads, strict=True)):
            self._fix(fix, pad((first if n == 0 else " " * columns(first)) + head, deep) + "  ")
        others = [self._title(x) for x in every if x not in shown]
        if others:
            text = self.say("fix-others", fixes=self.say("fix-between").join(others))
            self.page.line(text, pad(" " * columns(first) + self.say("fix-or"), deep) + "  ", "label")
        proof = next(filter(None, (words.proof(x, self.lang) for x in every)), None)
        if proof:
            limits = "fix-tried-limits-clamp" if any(x.id == "mss-clamp" for x in every) else "fix-tried-limits"
            head = " " * columns(first) + self.say("fix-tried") + " "
            self.page.line(self.say(limits, proof=proof), head, "label")
        ours = [x for x in every if x.changes]
        sure = self.finding.confidence == "confirmed"
        typed = command.fix(self.report.ask, self.finding.code, sure=sure)
        head = pad(" " * columns(first) + self.say("fix-run"), deep) + "  "
        for fix in [x for x in shown if x.changes] or ours[:1]:
            use = [] if fix is ours[0] else ["--use", fix.id]
            self.page.command(shlex.join([*typed, *use]), head)
            head = " " * columns(head)

    def _title(self, fix: Fix) -> str:
        return title(self.report, fix, self.lang)

    def _fix(self, fix: Fix, head: str) -> None:
        deep = " " * columns(head)
        text = self.say("fix-line", what=self._title(fix), lasts=lasts(fix, self.lang), stops=self._stops(fix))
        self.page.line(text, head, "label")
        why = words.by_hand(fix, self.lang)
        if why:
            self.page.line(self.say("fix-by-hand", why=why), deep)
        if fix.untried:
            self.page.line(self.say("fix-untried", source=fix.source), deep)
        for edit in fix.files:
            self.page.line(edit.path, deep + self.say("fix-file") + " ")
            changed = [x for x in edit.diff.splitlines() if x[:1] in ("+", "-") and x[:4] not in ("+++ ", "--- ")]
            for line in changed[:MOST_LINES]:
                self.page.command(line, deep + "  ")
        commands(self.page, fix, deep)

    def _stops(self, fix: Fix) -> str:
        """What is interrupted, and whether it is restarted."""
        names = [x.removeprefix("container:").removeprefix("pod:") for x in fix.interrupts]
        if not names:
            return self.say("fix-interrupts-nothing")
        what = ", ".join(names[:MOST_NAMED])
        if len(names) > MOST_NAMED:
            what = self.say("fix-more", what=what, count=len(names) - MOST_NAMED)
        if not fix.facts.get("restarts"):
            return self.say("fix-interrupts", what=what)
        return self.say("fix-restarts" if len(names) > 1 else "fix-restarts-one", what=what, count=len(names))
