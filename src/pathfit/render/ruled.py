"""A rule of a packet filter in one sentence: which one, what it says, how packets got there, what is told to whom."""

from pathfit.core.followed import Cause
from pathfit.core.tracing import Rule
from pathfit.render.layout import clean
from pathfit.rules.places import place_text
from pathfit.words.render import say

MOST = 240  # characters of a rule that are shown: one may hold a list of thousands
MOST_JUMPS = 4
SEPARATOR = {"en": "; ", "zh": "；"}
BETWEEN = {"en": ", ", "zh": "，"}


def ruled_text(cause: Cause, rule: Rule, lang: str) -> str:
    """Why packets were lost, by a rule; or that its counter moved meanwhile, or that it says so, which is no proof."""
    message = {"counter": "ruled.counted", "state": "ruled.read"}.get(cause.by, "ruled.dropped")
    said = say(message, {"place": place_text(cause.at), "rule": rule_text(rule, lang)}, lang)
    if rule.way:
        steps = [
            say("ruled.step", {"chain": clean(j.chain), "number": j.number or f"#{j.handle}"}, lang) for j in rule.way
        ]
        between = BETWEEN.get(lang, ", ")
        shown = between.join(steps[-MOST_JUMPS:])
        said += between + say("ruled.way", {"steps": shown}, lang)
    if rule.reject:
        said += SEPARATOR.get(lang, "; ") + say("ruled.hears", {"what": clean(rule.reject)}, lang)
    elif rule.text:
        said += SEPARATOR.get(lang, "; ") + say("trace.silent", {}, lang)
    return said


def rule_text(rule: Rule, lang: str) -> str:
    """ "nft table inet corp, chain f, rule 3: udp dport 53 drop". Names and rules come from strangers."""
    text = clean(rule.text)
    facts = {
        "tool": rule.tool or "nf_tables",
        "table": clean(f"{rule.family} {rule.table}"),
        "chain": clean(rule.chain),
        "number": rule.number,
        "handle": rule.handle,
        "text": text if len(text) <= MOST else text[:MOST] + " ...",
    }
    if rule.policy:
        return say("ruled.policy", facts, lang)
    return say("ruled.rule" if rule.text and rule.number else "ruled.handle", facts, lang)
