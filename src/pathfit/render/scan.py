"""A scan as a person reads it: counts, hung sockets, findings with those they are about, the rest in one line.

The order is a promise (CONTRACT): what the machine is, what hangs now, errors, warnings, remarks, how many are well,
who could not be looked at and why, what to do next. ``every`` lists each workload as well (`-v`).
"""

from collections.abc import Iterable, Sequence

from pathfit.core.finding import Finding
from pathfit.core.report import Hung, Report, WorkloadVerdict
from pathfit.render.layout import Page
from pathfit.words import render as words

NAMED = 3  # workloads named in a finding's line; "+11" stands for the others
MOST_HUNG = 8
MOST_INFO = 6
WORD = 9  # columns of the severity at the left: "WARNING  "
UNKNOWN_KINDS = 3


def render(
    report: Report,
    *,
    lang: str = "en",
    width: int = 80,
    colour: bool = False,
    ascii_only: bool = False,
    every: bool = False,
) -> str:
    """Text for ``width`` columns, with a final newline."""
    text = _Scan(report, lang, Page(width, colour=colour, ascii_only=ascii_only))
    text.write(every)
    return str(text.page)


class _Scan:
    """One scan on its way to a page."""

    def __init__(self, report: Report, lang: str, page: Page) -> None:
        self.report, self.lang, self.page = report, lang, page
        self.names = {(w.host, w.where): w.name for w in report.workloads}

    def say(self, message: str, **facts: object) -> str:
        return words.say(f"ui.{message}", facts, self.lang)

    def write(self, every: bool) -> None:
        self._head()
        self._hung()
        shown = [f for f in self.report.findings if f.severity != "info"]
        infos = [f for f in self.report.findings if f.severity == "info"]
        for f in (*shown, *(infos if every else infos[:MOST_INFO])):
            self._finding(f)
        if not every and len(infos) > MOST_INFO:
            self.page.line(self.say("scan-more-info", count=len(infos) - MOST_INFO), " " * WORD)
        self._rest()
        if every:
            self._everybody()
        self._next()

    def _head(self) -> None:
        r = self.report
        counts = [self._count(r.findings, s) for s in ("error", "warning")]
        what = ", ".join(c for c in counts if c) or self.say("scan-nothing-wrong")
        where = r.host or self.say("scan-hosts", count=r.hosts)
        size = self.say(
            "scan-size" if r.hosts == 1 else "scan-size-files",
            workloads=len(r.workloads),
            namespaces=r.namespaces,
            seconds=f"{r.took:.2f}",
        )
        self.page.line(f"{what}   {size}", f"{where}: ", "code")

    def _count(self, findings: Iterable[Finding], severity: str) -> str:
        n = sum(f.severity == severity for f in findings)
        if not n:
            return ""
        return self.say(f"scan-{severity}" if n == 1 else f"scan-{severity}s", count=n)

    def _hung(self) -> None:
        hung = self.report.hung
        if not hung:
            return
        label = self.say("scan-word-hung")
        self.page.line(self.say("scan-hung", count=len(hung)), f"{label:<{WORD}}", "hole")
        for h in hung[:MOST_HUNG]:
            self.page.line(self._socket(h), " " * WORD)
        if len(hung) > MOST_HUNG:
            self.page.line(self.say("unseen-more", count=len(hung) - MOST_HUNG), " " * WORD)

    def _socket(self, h: Hung) -> str:
        who = h.workload or h.where
        process = f" {h.process}" if h.process else ""
        how = self.say(f"scan-hung-{h.kind}", seconds=f"{h.since:.0f}" if h.since >= 1 else f"{h.since:.1f}")
        return f"{who}{process} > {h.to}: {how}"

    def _finding(self, f: Finding) -> None:
        word = self.say(f"scan-word-{f.severity}")
        style = {"error": "broken", "warning": "degraded"}.get(f.severity, "label")
        head = word + " " * max(1, WORD - len(word.encode("gbk", "replace")))
        self.page.line(f"{f.code} {f.name}   {self._who(f)}", head, style)
        self.page.line(words.summary(f, self.lang), " " * WORD)

    def _who(self, f: Finding) -> str:
        """ "14 containers: web.1 web.2 db.1 +11"; the place where nobody is affected (yet)."""
        if not f.workloads:
            at = f.where[0]
            host = f"{at.host} " if self.report.hosts > 1 else ""
            return host + "/".join(x for x in (at.netns, at.link) if x)
        host = f.where[0].host
        names = [self.names.get((host, key), key) for key in f.workloads]
        more = f" +{len(names) - NAMED}" if len(names) > NAMED else ""
        message = "scan-container" if len(names) == 1 else "scan-containers"
        on = f" ({host})" if self.report.hosts > 1 else ""
        return self.say(message, count=len(names)) + " " + " ".join(names[:NAMED]) + more + on

    def _rest(self) -> None:
        work = self.report.workloads
        well = sum(w.verdict == "healthy" for w in work)
        unknown = [w for w in work if w.verdict == "unknown"]
        unseen = [m for m in self.report.missing if m.how]
        parts = [self.say("scan-ok", count=well)] if work else [self.say("scan-nobody")]
        if unknown:
            parts.append(self.say("scan-unknown", count=len(unknown), why=self._why(unknown)))
        self.page.line("   ".join(parts), "", "healthy")
        for m in unseen[:UNKNOWN_KINDS]:
            self.page.line(self.say("scan-unseen", what=m.what, why=m.why), " " * WORD)
            self.page.command(m.how, " " * WORD + "try: ")
        if len(unseen) > UNKNOWN_KINDS:
            self.page.line(self.say("unseen-more", count=len(unseen) - UNKNOWN_KINDS), " " * WORD)

    def _why(self, unknown: Sequence[WorkloadVerdict]) -> str:
        kinds = dict.fromkeys(w.why or "not-judged" for w in unknown)
        names = [w.name for w in unknown]
        more = f" +{len(names) - NAMED}" if len(names) > NAMED else ""
        why = ", ".join(self.say(f"scan-note-{k}") for k in kinds)
        return f"{' '.join(names[:NAMED])}{more} ({why})"

    def _everybody(self) -> None:
        self.page.blank()
        for w in self.report.workloads:
            size = f" {w.mtu}" if w.mtu else ""
            nets = f"  [{' '.join(w.networks)}]" if w.networks else ""
            why = f"  ({self.say(f'scan-note-{w.why}')})" if w.why else ""
            self.page.line(f"{w.name}{size}{nets}{why}", f"{self.say(f'word-{w.verdict}'):<{WORD + 1}}", w.verdict)

    def _next(self) -> None:
        first = next((f for f in self.report.findings if f.workloads and f.severity != "info"), None)
        if self.report.hung:
            place = self.report.hung[0].where
        else:
            place = first.workloads[0] if first else next((w.where for w in self.report.workloads if not w.why), "")
        if self.report.hosts > 1 and first is not None:
            place = f"{first.where[0].host}!{place}"
            self.page.line(self.say("scan-next-files", place=place, code=first.code))
        elif place:
            self.page.line(self.say("scan-next", place=place))
        else:
            self.page.line(self.say("scan-next-nobody"))
