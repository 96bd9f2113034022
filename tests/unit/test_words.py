"""Both languages say the same things with the same facts, and nothing is said raw."""

import string
import tomllib
from pathlib import Path

import pytest

import pathfit
from pathfit import words
from pathfit.core.finding import EvidenceLine, Finding, Fix
from pathfit.core.net import Point
from pathfit.rules import NAMES, hints
from pathfit.words.render import WordsError, entries, evidence, proof, say, summary, templates, title

SOURCES = {p: p.read_text() for p in Path(pathfit.__file__).parent.rglob("*.py")}
EN, ZH = templates("en"), templates("zh")
CHOSEN = (
    "summary.",
    "note.",
    "why.",
    "hint.",
    "ui.",
    "lost.",
    "trace.",
    "answer.",
    "made.",
    "sign.",
)  # sections whose names are put together at run time


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("file", sorted(Path(words.__file__).parent.glob("*.toml")), ids=lambda p: p.name)
def test_our_reader_agrees_with_tomllib(file: Path) -> None:
    whole = tomllib.loads(file.read_text())
    assert entries(file.read_text()) == {f"{s}.{key}": text for s, part in whole.items() for key, text in part.items()}


def test_both_languages_hold_the_same_ids() -> None:
    assert set(EN) == set(ZH)


@pytest.mark.parametrize("message", sorted(EN))
def test_both_languages_use_facts_that_exist_in_both(message: str) -> None:
    assert fields(ZH[message]) == fields(EN[message])


@pytest.mark.parametrize("message", [m for m in sorted(EN) if not m.startswith("ui.")])
def test_no_id_is_unused(message: str) -> None:
    section, _, name = message.partition(".")
    name = name.removesuffix("-end").removesuffix("-other") if section == "sign" else name  # what it says
    wanted = {"evidence": f'"{name}"', "summary": f'"{name.partition(".")[0]}"'}.get(section, f'"{message}"')
    alone = f'"{name}"' if message.startswith(CHOSEN) else wanted
    assert any(wanted in text or alone in text for path, text in SOURCES.items()), message


def test_every_code_has_a_sentence() -> None:
    said = {m.split(".")[1] for m in EN if m.startswith("summary.")}
    assert said == set(NAMES)


def test_chinese_is_chinese() -> None:
    names = ("hint.", "ui.")  # product names and fragments
    plain = [m for m, t in ZH.items() if not m.startswith(names) and not any("\u4e00" <= c <= "\u9fff" for c in t)]
    assert set(plain) <= {
        "evidence.denied",
        "evidence.crashed",
        "evidence.tls",
        "evidence.http",
        "evidence.two-routes",
        "map.and",
        "map.but",
        "trace.detail",
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_hint_has_words(lang: str) -> None:
    held = {x for takes in hints.HELD.values() for x in takes.values()}
    for name in (*hints.TAKES, *hints.KNOWN.values(), *hints.BASES, *held):
        assert say(f"hint.{name}", {}, lang, strict=True)


def test_missing_words_and_facts_are_errors_in_tests_and_plain_for_readers() -> None:
    with pytest.raises(WordsError, match="no words"):
        say("evidence.nothing-like-that", {}, "en", strict=True)
    with pytest.raises(WordsError, match="needs the fact"):
        say("summary.MTU101", {"source": None}, "en", strict=True)
    assert say("evidence.nothing-like-that", {}, "zh") == "nothing like that"
    assert say("summary.MTU101", {}, "en").startswith("Large answers to ? vanish")
    assert "{" not in say("summary.MTU101", {}, "zh")


def test_a_note_needs_no_section() -> None:
    assert say("answers-too-short", {}, "en", strict=True) == say("note.answers-too-short", {}, "en", strict=True)


def test_an_unknown_language_is_english() -> None:
    assert say("why.not-measured", {}, "fr") == say("why.not-measured", {}, "en")


def test_direction_in_the_readers_language() -> None:
    facts = {"direction": "inbound", "protected": "outbound", "limit": 1400}
    assert "inbound" in say("summary.MTU111", facts, "en")
    assert "inbound" not in say("summary.MTU111", facts, "zh") and "进来" in say("summary.MTU111", facts, "zh")


def test_faces_of_say() -> None:
    line = EvidenceLine(ref="probe:1", message="evidence.connected")
    finding = Finding(
        code="RST201",
        name="refused-by-target",
        severity="error",
        confidence="likely",
        where=(Point(host="h", netns="host"),),
        facts={"case": "port", "target": "t", "port": 443},
        evidence=(line,),
    )
    assert summary(finding, strict=True) == "t refuses the connection: nothing listens on port 443."
    assert evidence(line, "zh", strict=True) == "连接已经建立"
    fix = Fix(id="x", title="fix.route-mtu", platform="linux", value=1400, facts={"place": "c"})
    assert title(fix, strict=True) == "route mtu 1400 in c" and proof(fix) is None
