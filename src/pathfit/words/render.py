"""Message id and facts to a sentence.

``say`` never shows an id or a bare template to a reader: a missing id falls back to English and then to a plain
sentence about it, a missing fact to "?". Tests call it with ``strict`` and get an error instead.
"""

import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from pathfit.core.finding import EvidenceLine, Finding, Fix

LANGUAGES = ("en", "zh")
FILES = (
    "{lang}.toml",
    "ui_{lang}.toml",
    "fix_{lang}.toml",
    "predict_{lang}.toml",
    "overhead_{lang}.toml",
    "map_{lang}.toml",
    "many_{lang}.toml",
    "trace_{lang}.toml",
)
DIRECTIONS = {"zh": {"inbound": "进来方向", "outbound": "出去方向", "both": "两个方向"}}
ELSEWHERE = {"zh": "外部"}  # the target of a scan: nobody in particular


class WordsError(LookupError):
    """No such message, or a fact of it is missing."""


@cache
def templates(lang: str) -> Mapping[str, str]:
    """All templates of a language by message id. An unknown language is English."""
    lang = lang if lang in LANGUAGES else "en"
    found: dict[str, str] = {}
    for name in FILES:
        try:
            data = pkgutil.get_data(__package__ or "pathfit.words", name.format(lang=lang))
        except FileNotFoundError:
            continue
        found.update(entries((data or b"").decode()))
    return found


def entries(text: str) -> dict[str, str]:
    """Templates by message id of one file: the little of TOML that ours use, where a basic string is a JSON string.

    Reading them with tomllib takes twenty times as long, in every command. A test reads them with both.
    """
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        elif line and not line.startswith("#"):
            key, _, value = line.partition(" = ")
            name = key.strip('"')
            found[f"{section}.{name}"] = msgspec.json.decode(value, type=str)
    return found


def say(message: str, facts: Mapping[str, Any], lang: str = "en", *, strict: bool = False) -> str:
    """The sentence of ``message`` with ``facts`` filled in.

    An id without a section is a note. With ``strict`` a missing id or fact (None counts as missing) raises WordsError.
    """
    key = message if "." in message else f"note.{message}"
    text = templates(lang).get(key)
    if text is None:
        if strict:
            raise WordsError(f"no words for {key} in {lang}")
        text = templates("en").get(key)
    if text is None:
        return key.rpartition(".")[2].replace("-", " ")
    return text.format_map(_Facts(key, facts, lang, strict))


def summary(finding: Finding, lang: str = "en", *, strict: bool = False) -> str:
    """What a finding says, in one sentence. ``facts["case"]`` chooses among the sentences of a code."""
    return say(summary_id(finding), finding.facts, lang, strict=strict)


def summary_id(finding: Finding) -> str:
    """The message id of a finding's sentence: "summary.CODE" or "summary.CODE.CASE"."""
    case = finding.facts.get("case")
    return f"summary.{finding.code}.{case}" if case else f"summary.{finding.code}"


def evidence(line: EvidenceLine, lang: str = "en", *, strict: bool = False) -> str:
    """What a piece of evidence shows."""
    return say(line.message, line.facts, lang, strict=strict)


def title(fix: Fix, lang: str = "en", *, strict: bool = False) -> str:
    """What a repair does, in a few words."""
    return say(fix.title, {"value": fix.value, **fix.facts}, lang, strict=strict)


def proof(fix: Fix, lang: str = "en", *, strict: bool = False) -> str | None:
    """How the repair was tried before it is proposed; None when it was not."""
    message = fix.facts.get("proof")
    return say(message, fix.facts, lang, strict=strict) if isinstance(message, str) else fix.proof


def by_hand(fix: Fix, lang: str = "en", *, strict: bool = False) -> str | None:
    """Why somebody must do it by hand; None when there is no more to say than that it is so."""
    message = fix.facts.get("by_hand")
    return say(message, {"value": fix.value, **fix.facts}, lang, strict=strict) if isinstance(message, str) else None


class _Facts(dict[str, Any]):
    """Facts as a template asks for them: a direction in the reader's language, a missing one as "?"."""

    def __init__(self, key: str, facts: Mapping[str, Any], lang: str, strict: bool) -> None:
        super().__init__({k: v for k, v in facts.items() if v is not None})
        self.key, self.lang, self.strict = key, lang, strict

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        words = DIRECTIONS.get(self.lang, {})
        if name == "target" and value == "elsewhere":
            return ELSEWHERE.get(self.lang, value)
        return words.get(value, value) if name in ("direction", "protected") else value

    def __missing__(self, name: str) -> str:
        if self.strict:
            raise WordsError(f"{self.key} needs the fact {name}")
        return "?"
