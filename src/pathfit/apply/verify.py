"""Did it help? Everything is examined again, from fresh, and the answer has to be better than "it works".

A request may work because its namespace remembers a path MTU that our own first measurement taught it; so what is
remembered is forgotten first, and what our SYN promises must be what the repair was to make it promise.
"""

import socket
from collections.abc import Callable

from pathfit.apply import places, routes
from pathfit.apply.step import Gone
from pathfit.core.case import Case
from pathfit.core.change import AddNftTable, RestartContainers, SetLinkMtu, SetOvsMtu, SetRouteMtu
from pathfit.core.evidence import PlaceFact
from pathfit.core.finding import Finding, Fix
from pathfit.core.journal import Place
from pathfit.core.measured import Contact
from pathfit.core.report import Report
from pathfit.rules.view import View
from pathfit.wire import rtnl_write

Reason = tuple[str, dict[str, str | int | None]]
"""A message id (section "repair") and its facts."""

Examine = Callable[[], tuple[Case, Report]]
ATTEMPTS = 3  # a measurement that loss disturbed says "unknown" and is made again; a "no" is a no


def verify(examine: Examine, finding: Finding, fix: Fix, before: Case) -> tuple[Report, tuple[Reason, ...]]:
    """The report as it is now, and what speaks against keeping the repair. Raises OSError."""
    for attempt in range(1, ATTEMPTS + 1):
        forget(before)
        case, report = examine()
        reasons = judge(View.of(case), report, finding, fix)
        if not reasons or report.verdict != "unknown" or attempt == ATTEMPTS:
            break
    return report, reasons


def forget(case: Case) -> None:
    """Forget what the source remembers of the path to the target, when it does. Raises OSError."""
    place, view = case.one("source", PlaceFact), View.of(case)
    if place is None or not view.address:
        return
    family = 6 if ":" in view.address else 4
    target = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, view.address.partition("%")[0])
    at = Place(id=place.netns, where=place.where)
    try:
        with places.entered(at) as sock:
            remembered = routes.dumped(sock, family, cached=True)
        if any(rtnl_write.route_key(b).dst == target for b in remembered):
            routes.flush(at)
    except Gone:
        return  # the examination will say that there is no such place


def judge(view: View, report: Report, finding: Finding, fix: Fix) -> tuple[Reason, ...]:
    """What speaks against it (pure); empty: it helped."""
    if fix.verify == "measured" and not report.measured:
        return (("repair.not-told", {"why": report.why_unknown or "why.not-measured"}),)
    if fix.verify != "measured":
        still = [f for f in report.findings if f.code == finding.code and f.where == finding.where]
        return (("repair.still-there", {"code": finding.code}),) if still else ()
    reasons: list[Reason] = []
    if report.verdict == "unknown" and not _one_way(view, report, finding):
        reasons.append(("repair.not-told", {"why": report.why_unknown}))
    errors = [f for f in report.findings if f.severity == "error" or (f.code == finding.code and _same(f, finding))]
    reasons += [("repair.still-there", {"code": f.code}) for f in errors]
    contact = report.measured[0].contact
    reasons += _traffic(contact)
    reasons += _promise(contact, fix) if contact.tcp == "ok" or _datagrams(contact) else []
    if any(x.dst == contact.address for x in (view.source.exceptions if view.source else ())):
        reasons.append(("repair.remembered", {"target": contact.address}))
    return tuple(reasons)


def _same(a: Finding, b: Finding) -> bool:
    return a.facts.get("direction") == b.facts.get("direction")


def _datagrams(contact: Contact) -> bool:
    """Datagrams were asked for, and answered: between two ends of ours (no ``udp``), or by what lives at the port."""
    return contact.tcp == "n/a" and contact.protocol == "udp" and contact.udp in ("n/a", "ok")


def _one_way(view: View, report: Report, finding: Finding) -> bool:
    """Of what is not TCP the way in is seldom measurable; the way out alone tells whether a hole in it is gone."""
    only_in = report.why_unknown in ("why.udp-in", "why.no-port")
    return only_in and finding.facts.get("direction") == "outbound" and view.carries("forward") is True


def _traffic(contact: Contact) -> list[Reason]:
    if contact.tcp != "ok" and not _datagrams(contact):
        return [("repair.no-connection", {"what": contact.tcp})]
    if contact.tls == "stalled" or contact.http == "stalled":
        return [("repair.stalls", {"what": "TLS" if contact.tls == "stalled" else "HTTP"})]
    return []


def _promise(contact: Contact, fix: Fix) -> list[Reason]:
    """The new size must be seen where the repair works: in our SYN, or, of a clamp on the way, in their SYN-ACK."""
    wanted = fix.effective
    if wanted is None:
        return []
    if any(isinstance(c, AddNftTable) for c in fix.changes):
        seen = contact.offered
    elif any(isinstance(c, SetRouteMtu | SetLinkMtu | SetOvsMtu | RestartContainers) for c in fix.changes):
        seen = contact.promised
    else:
        return []
    if seen is None or seen > wanted:
        return [("repair.not-promised", {"seen": seen or 0, "wanted": wanted})]
    return []
