"""The map as text: golden texts, marks, widths."""

import os
import re
from pathlib import Path

import pytest
from maps import LAB, VXLAN, ZOO, crowd, drawn, overlay
from msgspec.structs import replace

from pathfit.render.layout import columns
from pathfit.render.map.speech import outcome
from pathfit.render.map.text import render

GOLDEN = Path(__file__).parents[1] / "golden"
LAB_MAP = drawn(LAB, "netns:c", "198.18.3.2")
TEXTS = [
    # file, map, options
    ("map-lab-80.txt", LAB_MAP, {}),
    ("map-lab-120.txt", LAB_MAP, {"width": 120}),
    ("map-lab-c.txt", LAB_MAP, {"ascii_only": True}),
    ("map-lab-zh-80.txt", LAB_MAP, {"lang": "zh"}),
    ("map-vxlan-80.txt", drawn(VXLAN, "netns:c", "198.18.3.2"), {}),
    ("map-zoo-80.txt", drawn(ZOO), {}),
    ("map-zoo-zh-120.txt", drawn(ZOO), {"lang": "zh", "width": 120}),
    ("map-crowd-80.txt", drawn(crowd(40), "netns:web.1", "198.51.100.1"), {}),
    ("map-overlay-120.txt", drawn(overlay()), {"width": 120}),
]


@pytest.mark.parametrize(("name", "m", "options"), TEXTS, ids=[t[0] for t in TEXTS])
def test_golden(name: str, m: object, options: dict[str, object]) -> None:
    """PATHFIT_GOLDEN=write makes the files anew; the difference is then reviewed, not believed."""
    found = render(m, **options)  # type: ignore[arg-type]
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        (GOLDEN / name).write_text(found, encoding="utf-8")
    assert found == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("m", [t[1] for t in TEXTS[::2]])
def test_no_line_is_wider_than_asked(m: object, width: int, lang: str) -> None:
    for line in render(m, lang=lang, width=width).splitlines():  # type: ignore[arg-type]
        assert columns(line) <= width, line


def test_ascii_is_ascii() -> None:
    assert all(render(t[1], ascii_only=True).isascii() for t in TEXTS)


def test_colour_changes_nothing_but_colour() -> None:
    coloured = render(LAB_MAP, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(LAB_MAP)


def test_marks_need_no_colour() -> None:
    lines = render(LAB_MAP).splitlines()
    assert any(re.match(r">< +eth0 +\[1420\]", x) for x in lines)
    assert not any(re.match(r"[<>]", x) for x in render(drawn(LAB)).splitlines())


def test_every_namespace_is_named_or_counted() -> None:
    text = render(drawn(crowd(40)))
    more = [int(n) for n in re.findall(r"\+(\d+) more", text)]
    assert sum(more) + len(re.findall(r"web\.\d+", text)) == 40


def changed(large: str, **limit: object) -> str:
    """The sentence of the way out, with its only limit changed."""
    way = LAB_MAP.ways[0]
    mark = replace(way.limits[0], **limit)
    return outcome(replace(way, large=large, limits=(mark,), mark=mark), "en")


@pytest.mark.parametrize(
    ("large", "limit", "says"),
    [
        ("too_big_told", {"then": "icmp", "told_home": True}, "the sender is told"),
        ("too_big_told", {"then": "icmp", "told_home": False}, "the sender does not learn it"),
        ("too_big_told", {"then": "icmp", "told_home": None}, "it is not known whether"),
        ("too_big_told", {"then": "error", "told_home": True}, "the sender is told"),
        ("too_big_silent", {"then": "silent", "told_home": False}, "nobody is told"),
        ("fragmented", {"then": "fragment", "told_home": None}, "above 1420 bytes in pieces"),
        ("delivered", {"then": "pass-gso", "told_home": None}, "only as long as offloading hides it"),
    ],
)
def test_what_becomes_of_larger_packets(large: str, limit: dict[str, object], says: str) -> None:
    assert says in changed(large, **limit) and "1420" in changed(large, **limit)


@pytest.mark.parametrize(
    ("fate", "why", "says"),
    [
        ("no_route", "", "nothing arrives: no route"),
        ("filtered", "a rule drops it", "nothing arrives: a rule drops it"),
        ("unknown", "what lies beyond eth0 is not visible", "up to where it can be seen, 1420 bytes pass (what lies"),
    ],
)
def test_what_becomes_of_all_packets(fate: str, why: str, says: str) -> None:
    way = replace(LAB_MAP.ways[0], fate=fate, large=fate, why=why, complete=False)
    assert outcome(way, "en").startswith(says)
