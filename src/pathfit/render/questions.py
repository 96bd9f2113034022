"""Questions people ask next, answered when (and only when) the report holds the ground for it.

The first three are those the author of the first article was left with: why does the host work, why does http work
and https not, and why do sizes above the uplink's MTU work as well.
"""

from typing import NamedTuple

from pathfit.core.finding import Facts
from pathfit.core.report import Report
from pathfit.render import ways

STEP = 20  # people try round numbers; the examples named are the first two between the limits


class Question(NamedTuple):
    """``ui.ask-KEY`` and ``ui.answer-ANSWER``, with the facts of both."""

    key: str
    answer: str
    facts: Facts


def answered(report: Report) -> tuple[Question, ...]:
    """What can be answered about an inbound hole; nothing for other reports."""
    if not report.measured or not report.findings or report.findings[0].code != "MTU101":
        return ()
    found = (_host(report), _http(report), _between(report))
    return tuple(q for q in found if q is not None)


def _host(report: Report) -> Question | None:
    """The host itself: its own uplink decides what it invites."""
    up = ways.uplink(report)
    limit = report.measured[0].reverse.passes
    if up is None or up.mtu is None or limit is None or report.ask.source == "host":
        return None
    if up.mtu > limit and not _behind(report, up):
        return None
    facts: Facts = {"link": up.at.link, "mtu": up.mtu, "limit": limit}
    return Question("host", "host-works" if up.mtu <= limit else "host-fails", facts)


def _behind(report: Report, up: ways.Station) -> bool:
    """Whether the limit is one the host's own packets meet as well: at its uplink, or farther out.

    Not so the host's half of the container's veth, or a bridge port of it; of a limit nobody can place we know nothing.
    """
    finding = report.findings[0]
    if not finding.where or finding.facts.get("unexplained"):
        return False
    at = finding.where[0]
    hops = report.forward.hops if report.forward else ()
    return at == up.at or at.netns not in (up.at.netns, *(h.where.netns for h in hops[:1]))


def _http(report: Report) -> Question | None:
    """Why small answers work: this one had so many bytes, and a packet that gets in holds fewer."""
    m = report.measured[0]
    limit = m.reverse.passes
    if limit is None or m.contact.tls != "stalled":
        return None
    facts: Facts = {"limit": limit, "size": report.findings[0].facts.get("answer")}
    return Question("http", "http-sized" if facts["size"] else "http", facts)


def _between(report: Report) -> Question | None:
    """Sizes above the limit of the way out that still get in."""
    m = report.measured[0]
    out, back = m.forward.passes, m.reverse.passes
    if out is None or back is None or m.forward.fails is None or not out < back:
        return None
    first = -(-(out + 1) // STEP) * STEP
    sizes = [str(s) for s in range(first, back + 1, STEP)[:2]]
    if not sizes:
        return None
    up = ways.uplink(report)
    named = up is not None and up.mtu == out
    facts: Facts = {"sizes": ", ".join(sizes), "out": out, "limit": back, "link": up.at.link if up else None}
    return Question("between", "between-link" if named else "between", facts)
