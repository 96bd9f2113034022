"""The report of a trace, where taps prove who made a reset: what was only likely before gives way to it (pure)."""

from collections.abc import Sequence

import msgspec

from pathfit.core.finding import Facts, Finding
from pathfit.core.followed import Origin
from pathfit.core.report import Report
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text


def settled(report: Report, answers: Sequence[Origin], ref: str) -> Report:
    """The same report, its word on who reset the connection replaced where all that was seen (``ref``) proves another
    one.

    RST203 stays: who has the better right to an address is not for taps to say. Where they show which of those who have
    it made the reset, and that the others did not, it is confirmed.
    """
    if any(f.code == "RST204" for f in report.findings):
        return report  # said by its own rule, from the same
    stray = next((f for f in report.findings if f.code == "RST203"), None)
    if stray is not None:
        return _with(report, stray, _confirmed(stray, answers, ref))
    told = next((f for f in report.findings if f.code in ("RST201", "RST202")), None)
    proven = [x for x in answers if x.code and x.confidence == "confirmed"]
    if told is not None and told.confidence == "confirmed" and any(map(_disputed, answers)):
        return _with(report, told, msgspec.structs.replace(told, confidence="likely"))
    if told is None or not proven or len({x.code for x in answers if x.code}) != 1:
        return report
    one = proven[0]
    if one.code == told.code and told.confidence == "confirmed":
        return report
    return msgspec.structs.replace(_with(report, told, _finding(one, told, ref)), verdict="broken", why_unknown=None)


def _with(report: Report, old: Finding, new: Finding) -> Report:
    return msgspec.structs.replace(report, findings=tuple(new if f is old else f for f in report.findings))


def _confirmed(stray: Finding, answers: Sequence[Origin], ref: str) -> Finding:
    them = [x for x in answers if x.code == "RST203"]
    one = them[0] if len(them) == 1 else None
    if one is None or one.by != "end" or one.made is None or one.first is None or not one.unseen:
        return stray
    member = stray.facts.get("member")
    if place_text(one.made) == member or one.made.netns == member:
        return stray  # the very one who was asked for: then the tables are wrong, or have changed
    lines = [line(ref, "reset-first", first=place_text(one.first), count=one.count)]
    lines += [line(ref, "reset-silent", place=place_text(p)) for p in one.unseen[:2]]
    return msgspec.structs.replace(stray, confidence="confirmed", evidence=(*lines, *stray.evidence))


def _disputed(one: Origin) -> bool:
    return one.kind == "reset" and one.by == "unknown" and {x.says for x in one.signs} >= {"end", "other"}


def _finding(one: Origin, told: Finding, ref: str) -> Finding:
    facts: Facts = {k: told.facts.get(k) for k in ("target", "port")}
    at = one.made or one.first
    place = place_text(at) if at is not None else "?"
    if one.code == "RST202":
        facts |= {"case": "seen" if one.made else "between", "place": place}
        if not one.made and one.unseen:
            facts["after"] = place_text(one.unseen[-1])
    else:
        facts |= {"case": "port" if one.phase == "syn" else "later", "phase": one.phase}
    first = place_text(one.first) if one.first else "?"
    lines = [line(ref, "reset-first", first=first, count=one.count)]
    lines += [line(ref, "reset-unseen", place=place_text(p)) for p in one.unseen[:2]]
    made = found(one.code, "error", "confirmed", at if at is not None else told.where, facts, *lines, *told.evidence)
    return msgspec.structs.replace(made, because=told.because if told.code == one.code else (), fixes=told.fixes)
