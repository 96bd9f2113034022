"""The map as text: golden texts, marks, widths."""

import os
import re
from pathlib import Path

import pytest
from maps import LAB, VXLAN, ZOO, crowd, drawn, overlay

from pathfit.render.layout import columns
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
