"""A scan as a person reads it: counts, hung sockets, findings with those they are about, the rest in one line.

The order is a promise (CONTRACT): what the machine is, what hangs now, errors, warnings, remarks, how many are well,
who could not be looked at and why, what to do next. ``every`` lists each workload as well (`-v`).
"""

import shlex
from collections.abc import Iterable, Sequence

from pathfit.core.finding import Finding
from pathfit.core.report import Hung, Report, WorkloadVerdict
from pathfit.render.layout import GAP, Page, columns, pad
from pathfit.survey import ASIDE
from pathfit.words import render as words

NAMED = 3  # workloads named in a finding's line; "+11" stands for the others
MOST_HUNG = 8
MOST_INFO = 6
WORD = 9  # columns of the severity at the left: "WARNING  "
UNKNOWN_KINDS = 3
NOT_JUDGED = "not-judged"


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
        self.places = {w.where: n for n, w in enumerate(report.workloads)}

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
        what = self.say("scan-comma").join(c for c in counts if c) or self.say("scan-nothing-wrong")
        where = r.host or self.say("scan-hosts", count=r.hosts)
        size = self.say(
            "scan-size" if r.hosts == 1 else "scan-size-files",
            workloads=self._many(len(r.workloads), "of-container"),
            namespaces=self._many(r.namespaces, "of-namespace"),
            seconds=f"{r.took:.2f}",
        )
        self.page.pair(what, size, f"{where}: ", "code", indent=" " * WORD)

    def _many(self, count: int, what: str, **facts: object) -> str:
        """ "1 container", "4 containers": two messages, the second with an s."""
        return self.say(f"scan-{what}" if count == 1 else f"scan-{what}s", count=count, **facts)

    def _count(self, findings: Iterable[Finding], severity: str) -> str:
        n = sum(f.severity == severity for f in findings)
        return self._many(n, severity) if n else ""

    def _hung(self) -> None:
        hung = self.report.hung
        if not hung:
            return
        label = self.say("scan-word-hung")
        self.page.line(self._many(len(hung), "hung-connection"), pad(label, WORD), "hole")
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
        self.page.pair(f"{f.code} {f.name}", self._who(f), pad(word, WORD), style, indent=" " * WORD)
        self.page.line(words.summary(f, self.lang), " " * WORD)
        for fix in f.fixes[:1]:
            message = "scan-fix-untried" if fix.untried else "scan-fix"
            self.page.line(self.say(message, what=words.title(fix, self.lang)), " " * WORD)
            if fix.untried:
                self.page.line(self.say("fix-untried", source=fix.source), " " * WORD)
            for argv in fix.commands:
                self.page.command(shlex.join(argv), " " * WORD + "$ ")

    def _who(self, f: Finding) -> str:
        """ "14 containers: web.1 web.2 db.1 +11"; the place where nobody is affected (yet)."""
        if not f.workloads:
            at = f.where[0]
            host = f"{at.host} " if self.report.hosts > 1 else ""
            return host + "/".join(x for x in (at.netns, at.link) if x)
        homes = [self._home(f, key) for key in sorted(f.workloads, key=self._place)]
        hosts = dict.fromkeys(host for host, _ in homes)
        several = len(hosts) > 1
        names = [self.names.get((host, key), key) + (f" ({host})" if several else "") for host, key in homes]
        more = f" +{len(names) - NAMED}" if len(names) > NAMED else ""
        on = f" ({next(iter(hosts))})" if self.report.hosts > 1 and not several else ""
        return self._many(len(names), "container", names=" ".join(names[:NAMED]) + more) + on

    def _home(self, f: Finding, key: str) -> tuple[str, str]:
        """(host, key) of a workload of a finding that may be about several hosts."""
        hosts = dict.fromkeys(p.host for p in f.where)
        return next(((h, key) for h in hosts if (h, key) in self.names), (f.where[0].host, key))

    def _place(self, key: str) -> int:
        return self.places.get(key, len(self.places))

    def _rest(self) -> None:
        work = self.report.workloads
        well = sum(w.verdict == "healthy" and w.why not in ASIDE for w in work)
        unknown = [w for w in work if w.verdict == "unknown"]
        unseen = [m for m in self.report.missing if m.how]
        here = self.say("scan-ok", count=well) if work else self.say("scan-nobody")
        if unknown:
            why = self.say("scan-unknown", count=len(unknown), why=self._why(unknown))
            self.page.pair(here, why, "", "healthy", indent=" " * WORD)
        else:
            self.page.line(here, "", "healthy")
        aside = [self._named([w for w in work if w.why == note]) for note in ASIDE]
        if any(aside):
            self.page.line(self.say("scan-aside", who=self.say("scan-comma").join(x for x in aside if x)), " " * WORD)
        for m in unseen[:UNKNOWN_KINDS]:
            self.page.line(self.say("scan-unseen", what=m.what, why=m.why), " " * WORD)
            self.page.command(m.how, " " * WORD + "try: ")
        if len(unseen) > UNKNOWN_KINDS:
            self.page.line(self.say("unseen-more", count=len(unseen) - UNKNOWN_KINDS), " " * WORD)

    def _why(self, unknown: Sequence[WorkloadVerdict]) -> str:
        kinds = dict.fromkeys(w.why for w in unknown)
        return self.say("scan-comma").join(self._named([w for w in unknown if w.why == kind]) for kind in kinds)

    def _named(self, of: Sequence[WorkloadVerdict]) -> str:
        """ "web db cache +4 (not running)", all for the same reason; "" for nobody."""
        if not of:
            return ""
        more = f" +{len(of) - NAMED}" if len(of) > NAMED else ""
        names = " ".join(w.name for w in of[:NAMED])
        return f"{names}{more} ({self.say(f'scan-note-{of[0].why or NOT_JUDGED}')})"

    def _everybody(self) -> None:
        self.page.blank()
        for w in self.report.workloads:
            size = f" {w.mtu}" if w.mtu else ""
            nets = f" [{' '.join(w.networks)}]" if w.networks else ""
            host = f"{w.host}: " if self.report.hosts > 1 else ""
            why = f" ({self.say(f'scan-note-{w.why}')})" if w.why else ""
            word = "-" if w.why in ASIDE else self.say(f"word-{w.verdict}")
            self.page.line(f"{host}{w.name}{size}{nets}{why}", pad(word, WORD + 1), w.verdict)

    def _next(self) -> None:
        first = next((f for f in self.report.findings if f.workloads and f.severity != "info"), None)
        if self.report.hung:
            place = self.report.hung[0].where
        else:
            place = first.workloads[0] if first else next((w.where for w in self.report.workloads if not w.why), "")
        if self.report.hosts > 1 and first is not None:
            where = "!".join(self._home(first, place))
            self._commands(f"pathfit predict --in FILES --from {where} --to ...", f"pathfit explain {first.code}")
        elif self.report.hosts > 1 and place:
            host = next(w.host for w in self.report.workloads if w.where == place)
            self._commands(f"pathfit predict --in FILES --from {host}!{place} --to ...", "pathfit map --in FILES")
        elif place:
            self._commands(f"pathfit diagnose --from {place} --to https://...", "pathfit map -o map.html")
        else:
            self._commands("pathfit diagnose --to https://...", "pathfit demo")

    def _commands(self, one: str, other: str) -> None:
        """Both on one line where it is long enough; each in one piece."""
        head = self.say("scan-next")
        if columns(head + one + GAP + other) <= self.page.width:
            self.page.pair(one, other, head, "label")
        else:
            self.page.command(one, head)
            self.page.command(other, " " * columns(head))
