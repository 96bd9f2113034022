"""docs/cases.md tells the truth: each code can be said where it is said to be, and what shows a class is there."""

import re
from pathlib import Path

import pytest

from pathfit.lab.reader import scenarios
from pathfit.rules import RULES
from pathfit.rules.base import NAMES
from pathfit.rules.state import FLEET_RULES, STATE_RULES
from pathfit.rules.state.beside import CODES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]
CLASSES = [row for row in ROWS if len(row) == 5 and row[0] != "class"]
OF_STATE = {rule.code for rule in (*STATE_RULES, *FLEET_RULES)}
OF_PATHS = {rule.code for rule in RULES} | CODES
CODE = re.compile(r"\b[A-Z]{3}[0-9]{3}\b")


def test_the_table_is_read() -> None:
    assert {"half a clamp", "offload"} <= {row[0] for row in CLASSES}


@pytest.mark.parametrize("row", CLASSES, ids=lambda row: row[0])
def test_a_class_is_diagnosed_as_it_says(row: list[str]) -> None:
    _, _, scan, diagnose, shown = row
    assert set(CODE.findall(scan)) <= OF_STATE
    told = set(CODE.findall(diagnose)) or (set(CODE.findall(scan)) if "the same" in diagnose else set())
    assert told <= OF_PATHS
    places = re.findall(r"`([^`]+)`", shown)
    assert places
    assert [p for p in places if not ((ROOT / p).exists() if "/" in p else p in scenarios())] == []


def test_every_code_of_the_page_is_one() -> None:
    assert set(CODE.findall(TEXT)) <= set(NAMES)


def test_every_fault_that_state_shows_is_of_a_class() -> None:
    assert OF_STATE - {code for row in CLASSES for code in CODE.findall(" ".join(row))} == set()
