"""Who made the resets and ICMP errors of a flow, in words."""

from collections.abc import Iterator

from pathfit.core.followed import Followed, Origin, Sign
from pathfit.rules.base import NAMES
from pathfit.rules.places import place_text
from pathfit.words import render as words

COLON = {"zh": "："}
MOST_UNSEEN = 2


def telling(seen: Followed) -> tuple[Origin, ...]:
    """Those that say something: not resets by which a host closes what has worked."""
    return tuple(x for x in seen.answers if x.code or x.by != "end" or x.kind != "reset")


def answer_text(one: Origin, lang: str) -> str:
    """One sentence: what came, in whose name, and who made it."""
    first = place_text(one.first) if one.first is not None else "?"
    facts = {
        "count": one.count,
        "claims": one.claims,
        "mtu": one.mtu,
        "made": place_text(one.made) if one.made is not None else None,
        "first": first,
        "after": place_text(one.unseen[-1]) if one.unseen else None,
    }
    said = words.say(f"answer.{one.kind}", facts, lang) + COLON.get(lang, ": ")
    said += words.say(f"made.{_who(one)}", facts, lang)
    if not one.code:
        return said
    because = (", " if lang == "en" else "、").join(one.because)
    named = {"code": one.code, "name": NAMES.get(one.code, ""), "because": because}
    code = words.say("made.because" if because else "made.code", named, lang)
    return f"{said} ({code})" if lang == "en" else f"{said}（{code}）"


def _who(one: Origin) -> str:
    if one.by == "unknown":
        return "disagree" if {x.says for x in one.signs} >= {"end", "other"} else "unknown"
    if one.by == "end":
        return "end-looks" if one.made is None else "wrong" if one.code == "RST203" else "end"
    if one.by == "other" and one.made is None:
        return "other-looks" if one.confidence != "confirmed" else "between" if one.unseen else "elsewhere"
    return one.by


def proof_texts(one: Origin, lang: str) -> Iterator[str]:
    """Each thing that shows it."""
    for at in one.unseen[:MOST_UNSEEN]:
        yield words.say("made.silent" if one.by == "end" else "made.unseen", {"place": place_text(at)}, lang)
    yield from (sign_text(x, lang) for x in one.signs)


def sign_text(sign: Sign, lang: str) -> str:
    alone = not sign.says or sign.name.startswith("kernel-") or sign.name == "stopped"  # these have one sentence
    return words.say(f"sign.{sign.name}" if alone else f"sign.{sign.name}-{sign.says}", sign.facts, lang)
