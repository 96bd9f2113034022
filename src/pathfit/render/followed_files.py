"""A trace as documents: JSON (``pathfit.trace/1``), and its packets as a pcapng file with one interface a point."""

from typing import Any

import msgspec

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import SCHEMA, Cause, Complaint, Course, Followed, Loss, Origin, Row, Stage
from pathfit.core.net import Point
from pathfit.core.tracing import Rule
from pathfit.render import followed_talks, json
from pathfit.render.answered import answer_text, proof_texts, sign_text, telling
from pathfit.render.followed import loss_text, weighed_text
from pathfit.rules.places import place_text
from pathfit.wire import pcapng

Json = dict[str, Any]


def document(seen: Followed) -> bytes:
    """The whole of it, sentences in English, on one line."""
    whole: Json = {
        "schema": SCHEMA,
        "version": seen.version,
        "verdict": seen.verdict,
        "asked": {"from": seen.ask.source, "to": seen.ask.target.text},
        "forward": {"points": [_stage(s) for s in seen.forward], "ends": _point(seen.beyond[0])},
        "reverse": {"points": [_stage(s) for s in seen.reverse], "ends": _point(seen.beyond[1])},
        "end": seen.end or None,
        "others": [_course(x) for x in seen.others],
        "losses": [_loss(x) for x in seen.losses],
        "answers": [_answer(x) for x in seen.answers],
        "ladder": [_row(r) for r in seen.rows],
        "drops": {"watched": seen.watched, "unheard": seen.unheard},
        "cut_ms": round(seen.cut / 1e6, 3) if seen.cut else None,
        "filters": {"namespaces": seen.traced, "unmarked": seen.unmarked, "unheard": seen.deaf},
        "followed": followed_talks.document(seen),
        "missing": [{"what": m.what, "why": m.why, "how": m.how} for m in seen.missing],
        "report": json.document(seen.report) if seen.report is not None else None,
    }
    return msgspec.json.encode(whole) + b"\n"


def _point(point: Point | None) -> Json | None:
    return {"host": point.host, "netns": point.netns, "link": point.link} if point is not None else None


def _course(course: Course) -> Json:
    ways = {"forward": course.forward, "reverse": course.reverse}
    ends = zip(ways.items(), course.beyond, strict=True)
    both = {way: {"points": [_stage(s) for s in stages], "ends": _point(end)} for (way, stages), end in ends}
    return {"end": course.end or None, **both}


def _stage(stage: Stage) -> Json:
    return {"at": _point(stage.at), "out": stage.out, "packets": stage.packets, "lost": stage.lost}


def _loss(loss: Loss) -> Json:
    return {
        "direction": loss.direction,
        "after": _point(loss.after),
        "before": _point(loss.before),
        "packets": loss.packets,
        "smallest": loss.smallest,
        "largest": loss.largest,
        "missing": loss.missing,
        "passed": loss.passed,
        "end": loss.end or None,
        "text": loss_text(loss, "en"),
        "causes": [_cause(c, loss) for c in loss.causes],
        "ahead": [{"at": _point(x.at), "mtu": x.mtu} for x in loss.ahead],
        "error": _error(loss.error) if loss.error is not None else None,
    }


def _error(one: Complaint) -> Json:
    return {"what": one.kind, "claims": one.claims, "mtu": one.mtu, "about": one.about, "size": one.largest}


def _answer(one: Origin) -> Json:
    return {
        "what": one.kind,
        "direction": one.direction,
        "claims": one.claims,
        "by": one.by,
        "confidence": one.confidence,
        "phase": one.phase or None,
        "made": _point(one.made),
        "first": _point(one.first),
        "unseen": [_point(p) for p in one.unseen],
        "code": one.code or None,
        "because": list(one.because),
        "mtu": one.mtu,
        "count": one.count,
        "signs": [{"sign": x.name, "says": x.says or None, **x.facts, "text": sign_text(x, "en")} for x in one.signs],
        "text": answer_text(one, "en"),
    }


def _cause(cause: Cause, loss: Loss) -> Json:
    return {
        "why": cause.word,
        "at": _point(cause.at),
        "limit": cause.limit or None,
        "mtu": cause.mtu,
        "most": cause.most,
        "told": cause.told,
        "reason": cause.reason,
        "function": cause.function or None,
        "count": cause.count,
        "by": cause.by,
        "counter": cause.counter or None,
        "rule": _rule(cause.rule, cause.at) if cause.rule is not None else None,
        "text": weighed_text(cause, loss, "en"),
    }


def _rule(rule: Rule, at: Point) -> Json:
    return {
        "tool": rule.tool or None,
        "family": rule.family,
        "table": rule.table,
        "chain": rule.chain,
        "number": rule.number or None,
        "handle": rule.handle or None,
        "policy": rule.policy,
        "text": rule.text or None,
        "reject": rule.reject,
        "netns": at.netns,
        "way": [{"chain": x.chain, "number": x.number or None, "handle": x.handle} for x in rule.way],
    }


def _row(row: Row) -> Json:
    return {
        "direction": row.direction,
        "ms": round(row.time / 1e6, 3),
        "what": row.what,
        "size": row.size,
        "seen": list(row.seen),
        "dropped": row.dropped,
    }


def packets(seen: Followed, fact: TraceFact) -> bytes:
    """A pcapng file: every packet of every tap in the order of time; the last sighting of each that was lost has
    a comment, and resets and ICMP errors: who made them."""
    comments = _comments(seen)
    out = [pcapng.section(f"pathfit {seen.version}")]
    for tap in fact.taps:
        linktype = pcapng.RAW if tap.raw else pcapng.ETHERNET
        out.append(pcapng.link(place_text(tap.at), tap.at.netns, linktype=linktype))
    for number, one in sorted(enumerate(fact.seen), key=lambda x: x[1].time):
        out.append(
            pcapng.packet(
                one.tap,
                fact.began + one.time,
                one.data,
                length=one.length,
                comment=comments.get(number, ""),
                direction=pcapng.OUT if one.out else pcapng.IN,
            )
        )
    return b"".join(out)


def _comments(seen: Followed) -> dict[int, str]:
    """By the packet's number: where it was last seen, and what took it."""
    found: dict[int, str] = {}
    for loss in seen.losses:
        place = place_text(loss.after) if loss.after is not None else "nowhere"
        why = [weighed_text(c, loss, "en") for c in loss.causes[:1]]
        found |= dict.fromkeys(loss.numbers, "; ".join([f"last seen at {place}", *why]))
    for one in telling(seen):
        said = "; ".join([answer_text(one, "en"), *proof_texts(one, "en")])
        for number in one.numbers:
            found[number] = f"{found[number]}; {said}" if number in found else said
    return found
