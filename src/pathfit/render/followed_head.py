"""The first sentence of a trace: what gets lost where and why, or what fails though nothing was seen to be lost."""

from pathfit.core.followed import Cause, Followed, Loss
from pathfit.core.tracing import Rule
from pathfit.render.layout import clean
from pathfit.rules.places import place_text
from pathfit.words import render as words

CERTAIN = ("event", "rule")


def headline(seen: Followed, lang: str) -> str | None:
    """One sentence. Of several losses it is about the one with most packets that somebody told the cause of; None where
    nothing but ICMP errors was lost."""
    report = seen.report
    source = report.source_label if report else seen.ask.source
    target = report.target_label if report else seen.ask.target.text
    ends: dict[str, object] = {"source": source, "target": target}
    if seen.verdict == "lost":
        first = max((x for x in seen.losses if x.error is None), key=_weight, default=None)
        if first is None:
            return None
        going = {"sender": source, "receiver": target}
        if first.direction == "reverse":
            going = {"sender": target, "receiver": source}
        others = len(seen.losses) - 1
        stages = seen.forward if first.direction == "forward" else seen.reverse
        came = max((s.packets for s in stages if s.at == first.after), default=0)
        return _lost(first, going, came, others, lang)
    error = next((f for f in report.findings if f.severity == "error"), None) if report else None
    if error is not None:
        yet = "trace.arrives-yet" if seen.verdict == "arrives" else "trace.unknown-yet"
        return words.say(yet, {**ends, "fails": words.summary(error, lang)}, lang)
    hangs = sum(1 for t in seen.talks if t.stuck)
    if seen.verdict == "arrives" and hangs:
        return words.say("trace.arrives-hangs", {**ends, "count": hangs}, lang)
    return words.say(f"trace.{seen.verdict}", ends, lang)


def _weight(loss: Loss) -> tuple[bool, bool, int]:
    return any(c.by in CERTAIN for c in loss.causes), bool(loss.causes), loss.packets


def _lost(loss: Loss, going: dict[str, str], came: int, others: int, lang: str) -> str:
    """``came``: packets that were seen where these were seen last."""
    facts: dict[str, object] = {**going, "passed": loss.passed, "others": others}
    for name, at in (("after", loss.after), ("before", loss.before)):
        facts[name] = place_text(at) if at is not None else "?"
    sizes = {"smallest": loss.smallest, "largest": loss.largest}
    facts["sizes"] = words.say("trace.sizes", sizes, lang) if loss.smallest != loss.largest else str(loss.largest)
    if 0 < loss.passed < loss.smallest:
        what = "trace.head-large"
    else:
        what = "trace.head-some" if 0 < loss.packets < came and loss.largest else "trace.head-all"
    facts["what"] = words.say(what, facts, lang)
    if loss.after is None:
        where = "trace.head-before" if loss.before is not None else "trace.head-nowhere"
    else:
        where = "trace.head-between" if loss.before is not None else "trace.head-behind"
    said = words.say(where, facts, lang)
    cause = next(iter(sorted(loss.causes, key=lambda c: c.by not in CERTAIN)), None)
    if cause is not None:
        named = next((c for c in loss.causes if c.word == cause.word and c.rule is not None), cause)
        link = "trace.head-why" if cause.by in CERTAIN else "trace.head-likely"
        said = words.say(link, {"said": said, "why": _why(named, lang)}, lang)
    else:
        said = words.say("trace.head-unknown", {"said": said}, lang)
    return said + (words.say("trace.head-more", facts, lang) if others else "")


def _why(cause: Cause, lang: str) -> str:
    if cause.rule is not None:
        return words.say("ruled.short", _names(cause, cause.rule), lang)
    facts = {"place": place_text(cause.at), "mtu": cause.mtu or "?", "most": cause.most or "?"}
    return words.say(f"lost.{cause.word}", facts, lang)


def _names(cause: Cause, rule: Rule) -> dict[str, object]:
    tool = rule.tool or "nf_tables"
    table = clean(f"{rule.family} {rule.table}")
    return {"place": place_text(cause.at), "tool": tool, "table": table, "chain": clean(rule.chain)}
