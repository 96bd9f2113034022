"""Targets that are not TCP: who refuses a UDP port, whether large DNS answers come, and what may be said at all."""

from collections.abc import Iterable

from pathfit.core.evidence import NameFact
from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.measured import Contact, DnsAnswers, DnsSize
from pathfit.core.net import IP_HEADER
from pathfit.core.path import Fate
from pathfit.measure.largedns import lost
from pathfit.rules.base import found, line
from pathfit.rules.view import View

UDP_HEADER = 8
MODERN_ROOM = 1232  # bytes: what resolvers ask for since the DNS flag day of 2020 (RFC 9715)
WEB = ("http", "https")  # a longer page can be asked of them
ARRIVE = ("large-answers-come", "answers-cut")  # notes of a way in that carries what this server sends


def large_answers_lost(view: View) -> Iterable[Finding]:
    """Large DNS answers do not arrive, while small ones of the same server do.

    Why it hurts: names with long answers (DNSSEC, many addresses, long TXT records) resolve after seconds or not at
    all, the others at once; it looks as if only those names were broken.
    Example: a firewall that drops fragments, or DNS above 512 bytes; a tunnel that carries 1400 in front of a server
    that answers with 1450; port 53 of TCP closed, so that cut answers cannot be asked for whole.
    Repair: let fragments and DNS of any size pass, and TCP port 53; until then a smaller EDNS buffer (1232 or 512
    bytes) in the resolver that asks.
    Severity: error; warning where only answers above 1232 bytes are lost and TCP brings them, and where a name resolved
    after all: the verdict is "degraded".
    Possible: never said.
    Likely: answers are cut for want of room, and TCP does not bring the whole one; or the source's own name server
    answered only the question without EDNS, and cut.
    Confirmed: with small room the question was answered each time, with more never, four times and more.
    References: RFC 6891; RFC 7766; RFC 8900 section 3.2; RFC 9715.
    """
    dns = view.probe.dns if view.probe else None
    if dns is not None and view.contact is not None:
        yield from _measured(view, view.contact, dns)
    for name in view.names:
        if name.large_lost:
            yield _resolver(view, name)


def _measured(view: View, c: Contact, dns: DnsAnswers) -> Iterable[Finding]:
    bad = lost(dns.sizes)
    by_tcp = dns.tcp == "ok"
    facts: Facts = {
        "direction": "inbound",
        "source": view.source_label,
        "target": view.target_label,
        "asked": f"{dns.name} {dns.kind}",
        "tcp": dns.tcp,
        "tcp_size": dns.tcp_size or None,
    }
    if bad is not None:
        largest = _largest(dns.sizes)
        packet = dns.tcp_size + IP_HEADER[6 if c.family == 6 else 4] + UDP_HEADER if dns.tcp_size else 0
        facts["room"], facts["largest"], facts["pieces"] = bad.room, largest, bool(c.promised and packet > c.promised)
        facts["case"] = "lost" if by_tcp else "lost-both"
        severity: Severity = "warning" if by_tcp and bad.room > MODERN_ROOM else "error"
        lines = [line(view.ref, "dns-lost", room=bad.room, times=bad.tries, largest=largest)]
        if by_tcp:
            lines.append(line(view.ref, "dns-tcp", size=dns.tcp_size))
        yield found("DNS252", severity, "confirmed", view.edge, facts, *lines)
    elif dns.tcp not in ("ok", "n/a"):
        facts["case"] = "cut"
        cut = line(view.ref, "dns-cut", asked=f"{dns.name} {dns.kind}", tcp=dns.tcp)
        yield found("DNS252", "error", "likely", view.edge, facts, cut)


def _largest(sizes: tuple[DnsSize, ...]) -> int:
    """Bytes of the largest answer that came."""
    return max((s.size for s in sizes if s.answered), default=0)


def _resolver(view: View, name: NameFact) -> Finding:
    facts: Facts = {"case": "resolver", "source": view.source_label, "asked": name.name, "server": name.server}
    facts["direction"] = "inbound"
    said = line(name.ref, "dns-without-edns", asked=name.name, server=name.server or "-")
    return found("DNS252", "warning", "likely", view.source_point, facts, said)


def refused(view: View, c: Contact) -> Iterable[Finding]:
    """RST201 of a UDP port: "port unreachable" from the target itself. From another address it is a filter (FLT401)."""
    if c.udp != "refused" or c.icmp is None or c.error_from != c.address or view.explained:
        return
    way = view.predicted_forward
    sure: Confidence = "confirmed" if way and way.complete and way.fate == Fate.DELIVERED else "likely"
    facts: Facts = {"case": "udp", "target": view.target_label, "port": c.port, "by": c.error_from}
    said = line(view.ref, "icmp", type=c.icmp[0], code=c.icmp[1], by=c.error_from)
    yield found("RST201", "error", sure, view.edge, facts, said)


def why_unknown(view: View, seen_well: bool) -> str | None:
    """Why nothing can be said of a UDP port, when no finding says what is wrong. ``seen_well``: state sees all of both
    ways, and they carry everything."""
    c = view.contact
    if c is None or c.udp in ("n/a", "ok"):
        return None
    if c.udp == "silent":
        return None if seen_well else "why.udp-silent"
    return "why.no-connection"


def way_in(view: View) -> str:
    """Why the way in is not known."""
    if view.contact is not None and view.contact.udp != "n/a":
        return "why.udp-in"
    if not view.ask.target.port:
        return "why.no-port"
    return "why.in-not-measured" if view.contact is None or view.contact.protocol in WEB else "why.in-says-little"


def answers_come(view: View) -> bool:
    """Has a DNS server shown that what it sends arrives?"""
    c = view.contact
    return c is not None and c.udp == "ok" and view.bracket("reverse").note in ARRIVE
