"""The report as JSON, exactly in the shape of CONTRACT ("pathfit.report/1").

Every key is always there, null when there is nothing to say, so that a reader never has to ask twice. Sentences
(``summary``, ``text``, ``title``, ``note``) are English whatever the user's language; typed facts carry the rest.
Sizes are bytes of IP packet, header included; ``*_ms`` are milliseconds.
"""

from typing import Any

import msgspec

from pathfit.core.ask import Ask
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Finding, Fix
from pathfit.core.measured import Bracket, Contact, DnsAnswers, SideEffect, TcpSizes
from pathfit.core.net import IP_HEADER, TCP_HEADER, Point
from pathfit.core.path import Fate, Hop, Limit, Predicted
from pathfit.core.remembered import Remembered
from pathfit.core.report import SCHEMA, Hung, MeasuredAddress, Report, WorkloadVerdict
from pathfit.render import command, steps
from pathfit.render.layout import unprintable
from pathfit.words import render as words

Json = dict[str, Any]


def dump(report: Report) -> bytes:
    """One JSON document (UTF-8), two-space indent, final newline. The same report gives the same bytes."""
    return visible(msgspec.json.format(msgspec.json.encode(document(report)), indent=2)) + b"\n"


def visible(data: bytes) -> bytes:
    """The same document with what a terminal would obey (C1 controls, text direction) written as \\u escapes."""
    if data.isascii() and b"\x7f" not in data:
        return data  # the encoder has escaped the other ASCII controls
    text = data.decode()
    odd = {c for c in set(text) if c > "~" and unprintable(c)}
    units = {c: c.encode("utf-16-be").hex() for c in odd}
    table = {ord(c): "".join(f"\\u{h[i : i + 4]}" for i in range(0, len(h), 4)) for c, h in units.items()}
    return text.translate(table).encode()


def document(report: Report) -> Json:
    """The report as plain dictionaries and lists."""
    return {
        "schema": SCHEMA,
        "version": report.version,
        "verdict": report.verdict,
        "asked": _asked(report.ask),
        "path": {"forward": _path(report.forward), "reverse": _path(report.reverse)},
        "predicted": {"forward": _predicted(report.forward), "reverse": _predicted(report.reverse)},
        "measured": _measured(report),
        "findings": [finding_document(f) for f in report.findings],
        "workloads": [_workload(w) for w in report.workloads],
        "hung": [_hung(h) for h in report.hung],
        "missing": [_missing(m, report.ask) for m in report.missing],
        "took_ms": _ms(report.took),
    }


def _asked(ask: Ask) -> Json:
    return {"from": ask.source, "to": ask.target.text}


def _workload(w: WorkloadVerdict) -> Json:
    """One container of a scan, with its own verdict; ``findings`` are ids of the findings above."""
    return {
        "name": w.name,
        "where": w.where,
        "host": w.host,
        "engine": w.engine or None,
        "networks": list(w.networks),
        "mtu": w.mtu,
        "verdict": w.verdict,
        "findings": list(w.findings),
        "why": w.why or None,
    }


def _hung(h: Hung) -> Json:
    """A TCP socket that hangs; ``since_ms`` at least."""
    return {
        "where": h.where,
        "workload": h.workload or None,
        "kind": h.kind,
        "since_ms": _ms(h.since),
        "to": h.to,
        "process": h.process or None,
        "mss": h.mss or None,
    }


def _missing(m: Missing, ask: Ask) -> Json:
    return {"what": m.what, "why": m.why, "how": command.OR.join(command.lines(m.how, ask, m.ref))}


def _where(point: Point) -> Json:
    return {"host": point.host, "netns": point.netns, "link": point.link}


def _path(way: Predicted | None) -> Json:
    return {"hops": [_hop(h) for h in way.hops] if way else []}


def _hop(hop: Hop) -> Json:
    return {"where": _where(hop.where), "mtu": hop.mtu, "steps": [steps.line(s) for s in hop.steps]}


def _predicted(way: Predicted | None) -> Json:
    if way is None:
        return {"fate": Fate.UNKNOWN.value, "large": Fate.UNKNOWN.value, "mtu": None, "limits": [], "why": ""}
    return {
        "fate": way.fate.value,
        "large": way.large.value,
        "mtu": way.mtu,
        "limits": [_limit(x) for x in way.limits],
        "why": way.why,
    }


def _limit(limit: Limit) -> Json:
    return {
        "mtu": limit.mtu,
        "kind": limit.kind,
        "at": _where(limit.at),
        "then": limit.then,
        "told_home": limit.told_home,
        "function": limit.function,
    }


def _measured(report: Report) -> Json:
    """``measured[0]`` is the path the asked client would take: its values stand on top, all of them in addresses."""
    addresses = [_address(m) for m in report.measured]
    nothing: Json = {"pass": None, "fail": None, "method": None, "evidence": "none", "note": None, "tried": []}
    first: Json = addresses[0] if addresses else {"forward": nothing, "reverse": nothing, "target": _no_target(report)}
    return {
        "forward": first["forward"],
        "reverse": first["reverse"],
        "target": first["target"],
        "addresses": addresses,
        "side_effects": [_side_effect(s) for s in report.side_effects],
        "hops": _hops(report),
        "used": {"packets": report.used.packets, "connections": report.used.connections},
    }


def _hops(report: Report) -> list[Json]:
    """TTL-limited pairs: who answered the small and the large packet of each TTL, null for nobody."""
    small, large = report.hop_sizes
    return [
        {
            "ttl": h.ttl,
            "small": {"size": small, "by": h.small, "tries": h.small_tries},
            "large": {"size": large, "by": h.large, "tries": h.large_tries},
        }
        for h in report.hops
    ]


def _dns(d: DnsAnswers | None) -> Json | None:
    """How answers of several sizes of a DNS server arrive; null where none was asked for."""
    if d is None:
        return None
    sizes = [
        {"room": s.room, "tries": s.tries, "answered": s.answered, "cut": s.cut, "size": s.size, "piece": s.piece}
        for s in d.sizes
    ]
    return {"asked": f"{d.name} {d.kind}", "sizes": sizes, "tcp": d.tcp, "tcp_size": d.tcp_size or None}


def _address(m: MeasuredAddress) -> Json:
    c = m.contact
    return {
        "dns": _dns(m.dns),
        "too_big": [{"by": t.by, "mtu": t.mtu, "size": t.size, "ours": t.ours, "sane": t.sane} for t in m.too_big],
        "forward": {**_bracket(m.forward), "tried": [_tried(b) for b in m.forward_tried]},
        "reverse": {**_bracket(m.reverse), "tried": [_tried(b) for b in m.reverse_tried]},
        "target": {
            "address": c.address,
            "family": c.family,
            "port": c.port,
            "tcp": c.tcp,
            "tls": c.tls,
            "http": c.http,
            "udp": c.udp,
            "speaks": c.speaks,
            "icmp": None if c.icmp is None else {"type": c.icmp[0], "code": c.icmp[1], "by": c.error_from},
            "rtt_ms": None if c.rtt is None else round(c.rtt * 1000, 3),
            "ends_at": m.ends_at,
            "mss": _mss(c),
            "protocol": c.protocol,
            "tls_phase": c.phase or None,
            "tls_ended_by": c.alert,
        },
        "remembered": _remembered(m),
    }


def _side_effect(s: SideEffect) -> Json:
    return {
        "where": s.where,
        "what": s.what,
        "lasts_s": None if s.lasts is None else round(s.lasts, 1),
        "about": s.about or None,
        "before": s.before,
        "after": s.after,
    }


def _mss(c: Contact) -> Json:
    """MSS as the SYNs say it, and as the asked client's own connection has it when it stands and when it is closed."""
    head = (IP_HEADER[6 if c.family == 6 else 4]) + TCP_HEADER
    return {
        "ours": None if c.promised is None else c.promised - head,
        "theirs": None if c.offered is None else c.offered - head,
        "first": _sizes(c.sizes_first),
        "last": _sizes(c.sizes_last),
    }


def _sizes(s: TcpSizes | None) -> Json | None:
    """The fields of struct tcp_info, by their own names."""
    if s is None:
        return None
    return {"advmss": s.advertised, "snd_mss": s.sending, "rcv_mss": s.received, "pmtu": s.path_mtu}


def _remembered(m: MeasuredAddress) -> Json:
    where, pairs = m.there
    return {
        "here": _pair(*m.here),
        "there": {"where": where, "of": [_pair(*p) for p in pairs]} if where else None,
    }


def _pair(before: Remembered | None, after: Remembered | None) -> Json:
    known = before or after
    return {"about": known.address if known else None, "before": _memory(before), "after": _memory(after)}


def _memory(r: Remembered | None) -> Json | None:
    if r is None:
        return None
    return {
        "path_mtu": r.believed,
        "exceptions": [
            {"mtu": e.mtu, "expires_s": e.expires, "locked": e.locked, "via": e.via, "src": e.src or None}
            for e in r.exceptions
        ],
        "tcp_metrics": [
            {
                "src": t.src or None,
                "age_s": t.age,
                "rtt_ms": None if t.rtt is None else round(t.rtt * 1000, 3),
                "ssthresh": t.ssthresh,
                "cwnd": t.cwnd,
                "mss": t.mss,
            }
            for t in r.metrics
        ],
    }


def _no_target(report: Report) -> Json:
    return {
        "address": None,
        "family": report.ask.family,
        "port": report.ask.target.port or None,
        "tcp": "n/a",
        "tls": "n/a",
        "http": "n/a",
        "udp": "n/a",
        "speaks": None,
        "icmp": None,
        "rtt_ms": None,
        "ends_at": "unknown",
        "mss": {"ours": None, "theirs": None, "first": None, "last": None},
        "protocol": report.ask.target.protocol,
        "tls_phase": None,
        "tls_ended_by": None,
    }


def _bracket(b: Bracket) -> Json:
    return {
        "pass": b.passes,
        "fail": b.fails,
        "method": b.method,
        "evidence": b.grade,
        "note": None if b.note is None else words.say(b.note, {}, "en"),
    }


def _tried(b: Bracket) -> Json:
    note = None if b.note is None else words.say(b.note, {}, "en")
    return {"method": b.method, "pass": b.passes, "fail": b.fails, "tests": b.tests, "note": note}


def finding_document(f: Finding) -> Json:
    """One finding, as in the report."""
    return {
        "id": f.id,
        "code": f.code,
        "name": f.name,
        "severity": f.severity,
        "confidence": f.confidence,
        "summary": words.summary(f, "en"),
        "where": [_where(p) for p in f.where],
        "facts": dict(f.facts),
        "because": list(f.because),
        "explains": list(f.explains),
        "evidence": [{"ref": e.ref, "text": words.evidence(e, "en")} for e in f.evidence],
        "workloads": list(f.workloads),
        "fixes": [fix_document(x) for x in f.fixes],
    }


def fix_document(fix: Fix) -> Json:
    """One repair, as in the report."""
    return {
        "id": fix.id,
        "title": words.title(fix, "en"),
        "platform": fix.platform,
        "value": fix.value,
        "effective": fix.effective,
        "applicability": fix.applicability,
        "lasts": fix.lasts,
        "interrupts": list(fix.interrupts),
        "commands": [list(c) for c in fix.commands],
        "hosts": list(fix.hosts),
        "files": [{"path": e.path, "diff": e.diff} for e in fix.files],
        "undo": [list(c) for c in fix.undo],
        "proof": words.proof(fix, "en"),
        "by_hand": words.by_hand(fix, "en"),
        "untried": fix.untried,
        "source": fix.source or None,
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
