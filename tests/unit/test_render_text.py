"""The text report: golden texts, the order of its parts, and what strangers may put into it."""

import os
from pathlib import Path

import msgspec
import pytest
import reports

from pathfit.core.finding import Finding
from pathfit.core.measured import SideEffect
from pathfit.core.report import Report
from pathfit.render import layout, text

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [
    # file, report, options
    ("article-000-80.txt", reports.article_000(), {}),
    ("article-000-120.txt", reports.article_000(), {"width": 120}),
    ("article-000-c.txt", reports.article_000(), {"ascii_only": True}),
    ("article-000-zh-80.txt", reports.article_000(), {"lang": "zh"}),
    ("article-000-zh-120.txt", reports.article_000(), {"lang": "zh", "width": 120}),
    ("healthy-80.txt", reports.healthy(), {}),
    ("healthy-zh-80.txt", reports.healthy(), {"lang": "zh"}),
    ("unknown-80.txt", reports.unknown(), {}),
    ("unknown-zh-80.txt", reports.unknown(), {"lang": "zh"}),
]


@pytest.mark.parametrize(("name", "report", "options"), TEXTS, ids=[t[0] for t in TEXTS])
def test_golden(name: str, report: Report, options: dict[str, object]) -> None:
    """PATHFIT_GOLDEN=write makes the files anew; the difference is then reviewed, not believed."""
    found = text.render(report, **options)  # type: ignore[arg-type]
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        (GOLDEN / name).write_text(found, encoding="utf-8")
    assert found == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("report", [reports.article_000(), reports.healthy(), reports.unknown()])
def test_no_line_is_wider_than_asked_but_commands(report: Report, width: int, lang: str) -> None:
    for line in text.render(report, lang=lang, width=width).splitlines():
        assert layout.columns(line) <= width or line.lstrip().startswith(("$ ", "try: ")) or " pathfit fix " in line


def test_order_of_the_parts() -> None:
    """verdict, what fails, both directions, why, proof, where, repair, next (CONTRACT)."""
    found = text.render(reports.article_000())
    parts = ["BROKEN", "MTU101", "\n  out", "\n  in", "\n  why", "\n  proof", "\n  where", "\nFix", "\nMore:"]
    places = [found.index(part) for part in parts]
    assert places == sorted(places)


def test_the_open_questions_of_the_author_are_answered() -> None:
    found = text.render(reports.article_000(), width=120)
    assert "Host works?           its eth0 has 1400: it invites at most 1400; 1450 get in." in found
    assert "http works?           what fits into 1450 gets in" in found
    assert "MTU 1420, 1440 work?  eth0's 1400 bounds what is sent; 1450 still come in." in found


def change(report: Report, **more: object) -> Report:
    measured = msgspec.structs.replace(report.measured[0], **more)
    return msgspec.structs.replace(report, measured=(measured,))


@pytest.mark.parametrize(
    ("report", "question"),
    [
        (change(reports.article_000(), contact=reports.contact(tls="ok")), "http works?"),
        (change(reports.article_000(), forward=reports.bracket("forward", 1500, None, "proof")), "MTU 1420"),
        (msgspec.structs.replace(reports.article_000(), forward=None), "Host works?"),
        (msgspec.structs.replace(reports.article_000(), ask=reports.ask(source="host")), "Host works?"),
    ],
)
def test_a_question_without_ground_is_not_answered(report: Report, question: str) -> None:
    assert question in text.render(reports.article_000())
    assert question not in text.render(report)


def test_host_that_would_fail_as_well() -> None:
    way = reports.forward()
    enter, rule, leave = way.hops[1].steps
    wide = msgspec.structs.replace(way.hops[1], steps=(enter, rule, msgspec.structs.replace(leave, mtu=1500)))
    report = reports.article_000(forward=msgspec.structs.replace(way, hops=(way.hops[0], wide), limits=()))
    assert "no: its eth0 has 1500, so it invites more than the 1450 that get in." in text.render(report, width=120)
    at = report.findings[0].where[0]
    half = msgspec.structs.replace(way.hops[1].where, link="veth-c")  # only the container's packets pass it
    finding = msgspec.structs.replace(report.findings[0], where=(half,))
    assert at != half
    assert "Host works?" not in text.render(msgspec.structs.replace(report, findings=(finding,)), width=120)


def test_one_cause_found_in_both_directions_is_said_once() -> None:
    report = reports.article_000()
    first, cause = report.findings[:2]
    first = msgspec.structs.replace(first, facts={})  # or the first line says what the cause says
    assert cause.code in first.because
    once, twice = (msgspec.structs.replace(report, findings=(first, *[cause] * n)) for n in (1, 2))
    assert text.render(twice) == text.render(once)


HOSTILE = "a\x1b[2J\x07\r\n\x9b31m‮\ud83d"


def hostile(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, facts={**finding.facts, "source": HOSTILE, "place": HOSTILE})


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_measuring_taught_is_said(lang: str) -> None:
    here = SideEffect(where="here", what="learned-path-mtu", lasts=597.2, about="198.51.100.2", before=1500, after=1400)
    there = SideEffect(where="192.0.2.9", what="learned-path-mtu", lasts=599.0, about="198.51.100.7", after=1412)
    guess = SideEffect(where="192.0.2.9", what="learned-path-mtu", lasts=600.0)
    shown = text.render(reports.article_000(side_effects=(here, there, guess)), lang=lang, width=120)
    for word in ("597", "1400", "198.51.100.2", "1412", "192.0.2.9"):
        assert word in shown
    assert text.render(reports.article_000(side_effects=(guess,)), lang=lang) == text.render(
        reports.article_000(side_effects=()), lang=lang
    ), "what no kernel said is in the JSON"


def test_nothing_a_terminal_would_obey() -> None:
    first, cause = reports.article_000().findings
    report = reports.article_000(source_label=HOSTILE, findings=(hostile(first), hostile(cause)))
    for lang in ("en", "zh"):
        found = text.render(report, lang=lang)
        assert not any(c in found for c in "\x1b\x07\r\x9b‮\ud83d")
        assert "\\x1b[2J" in found
        found.encode()  # a lone surrogate would fail here


def test_ascii_is_ascii() -> None:
    assert text.render(reports.article_000(source_label="größe"), ascii_only=True).isascii()


def test_colour_changes_nothing_but_colour() -> None:
    import re

    coloured = text.render(reports.article_000(), colour=True)
    assert "\x1b[1;31mBROKEN\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text.render(reports.article_000())


@pytest.mark.parametrize(
    ("bracket", "says"),
    [
        (reports.bracket("reverse", 1450, 1451, "proof"), "1451 and more vanish, no answer"),
        (reports.bracket("reverse", 1300, 1440, "proof"), "in between not measured"),
        (reports.bracket("reverse", None, None, "none", note="answers-too-short"), "not measured: the answers are too"),
        (reports.bracket("reverse", None, None, "none", note="note.not-measured"), "  not measured  "),
        (reports.bracket("reverse", None, None, "none"), "  not measured  "),
        (reports.bracket("reverse", 1450, 1500, "none"), "proves nothing yet"),
        (reports.bracket("reverse", 1500, 1501, "proof"), "TCP sends none of that size here"),
        (reports.bracket("reverse", 1400, 1401, "told", told_by="192.0.2.9", told_mtu=1400), 'answers "too big, 1400"'),
    ],
)
def test_each_outcome_of_a_direction(bracket: object, says: str) -> None:
    assert says in text.render(change(reports.article_000(), reverse=bracket), width=120)


@pytest.mark.parametrize(
    ("words", "width", "lines"),
    [
        ("a b c", 80, ["> a b c"]),
        ("aaa bbb", 6, ["> aaa", "  bbb"]),
        ("aaaaaaaaaa", 4, ["> aaaaaaaaaa"]),
        ("中文字", 6, ["> 中文", "  字"]),
        ("中文。", 6, ["> 中", "  文。"]),
        ("中 mtu 文", 8, ["> 中 mtu", "  文"]),
        ("", 8, [">"]),
    ],
)
def test_wrap(words: str, width: int, lines: list[str]) -> None:
    assert layout.wrap(words, width, "> ", "  ") == lines


@pytest.mark.parametrize(("word", "width"), [("abc", 3), ("中文", 4), ("é", 1), ("e\u0301", 1), ("，", 2), ("", 0)])
def test_columns(word: str, width: int) -> None:
    assert layout.columns(word) == width
