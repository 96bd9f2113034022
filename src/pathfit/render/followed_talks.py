"""What others sent while it was followed, in lines: how long, and each connection with what was sent again."""

from collections.abc import Iterator
from typing import Any

from pathfit.core.followed import Followed, Talk
from pathfit.words import render as words

MOST = 12  # connections shown; more of them are in --json


def head(seen: Followed, lang: str) -> str:
    """How long it was followed."""
    return words.say("trace.followed", {"seconds": round(seen.seconds, 1)}, lang)


def lines(seen: Followed, lang: str) -> Iterator[tuple[str, bool]]:
    """(line, is it trouble?), the connections with trouble first."""
    for talk in seen.talks[:MOST]:
        yield talk_text(talk, lang), bool(talk.stuck)
    more = len(seen.talks[MOST:]) + seen.more_talks
    if more:
        yield words.say("trace.talk-more", {"count": more}, lang), False


def talk_text(talk: Talk, lang: str) -> str:
    """One connection: between whom, how many packets each way, and what is remarkable about it."""
    facts: dict[str, Any] = {
        "client": talk.client,
        "server": talk.server,
        "protocol": talk.protocol.upper(),
        "packets": talk.packets,
        "back": talk.back,
        "again": talk.again,
        "again_back": talk.again_back,
        "repeats": talk.repeats,
        "size": talk.stuck,
        "sender": talk.client if talk.stuck_way == "forward" else talk.server,
        "resetter": talk.client if talk.reset == "forward" else talk.server,
    }
    said = ["trace.talk"]
    said += ["trace.talk-open"] if talk.protocol == "tcp" and not talk.opened else []
    said += ["trace.talk-again"] if talk.again or talk.again_back else []
    said += ["trace.talk-stuck"] if talk.stuck else []
    said += ["trace.talk-reset"] if talk.reset else []
    return ("；" if lang == "zh" else "; ").join(words.say(message, facts, lang) for message in said)


def document(seen: Followed) -> dict[str, Any] | None:
    """The same for JSON; None where something was measured instead."""
    if seen.ask.follow is None:
        return None
    return {
        "seconds": seen.seconds,
        "full": bool(seen.cut),
        "connections": [_talk(t) for t in seen.talks],
        "more": seen.more_talks,
    }


def _talk(talk: Talk) -> dict[str, Any]:
    return {
        "protocol": talk.protocol,
        "client": talk.client,
        "server": talk.server,
        "packets": talk.packets,
        "back": talk.back,
        "again": talk.again,
        "again_back": talk.again_back,
        "stuck": {"way": talk.stuck_way, "size": talk.stuck, "times": talk.repeats} if talk.stuck else None,
        "opened": talk.opened,
        "reset": talk.reset or None,
        "seconds": talk.seconds,
        "text": talk_text(talk, "en"),
    }
