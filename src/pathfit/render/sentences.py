"""Which message id stands for which part of a report; the sentences themselves are in words/."""

from pathfit.core.finding import EvidenceLine, Finding, Fix
from pathfit.words.render import say


def summary(finding: Finding, lang: str) -> str:
    """What a finding says, in one sentence. ``facts["case"]`` chooses where a code has several."""
    case = finding.facts.get("case")
    return say(f"summary.{finding.code}" + (f"-{case}" if case else ""), finding.facts, lang)


def evidence(line: EvidenceLine, lang: str) -> str:
    """A piece of evidence in one sentence."""
    return say(line.message, line.facts, lang)


def title(fix: Fix, lang: str) -> str:
    """What a repair does, in one line."""
    return say(fix.title, fix.facts, lang)
