"""`trace` on Debian's 6.1 and 6.12: places and causes as here; the same while the clock is set, which only a machine of
its own allows; and without BTF."""

import json
from pathlib import Path
from typing import Any

import pytest
import vm

pytestmark = [pytest.mark.slow, pytest.mark.lab]

PATIENCE = 500.0  # seconds for what takes a minute on a quiet machine
PLACE = [["netns:r", "vs", "vc"]]


@pytest.fixture(scope="module")
def said() -> dict[str, dict[str, Any]]:
    """By kernel; both at once."""
    with vm.several([vm.required(series) for series in vm.SERIES]) as guests:
        words = f"{vm.CHECKOUT}/.venv/bin/python {Path(__file__).with_name('clocked.py')}"
        jobs = [guest.start(words) for guest in guests]
        done = [job.wait(PATIENCE) for job in jobs]
    assert [d.status for d in done] == [0] * len(done), [d.err for d in done]
    return {series: json.loads(d.out) for series, d in zip(vm.SERIES, done, strict=True)}


@pytest.mark.parametrize("series", vm.SERIES)
def test_there_as_well(said: dict[str, dict[str, Any]], series: str) -> None:
    whole, filtered = said[series]["whole"], said[series]["filtered"]
    assert (whole["verdict"], whole["watched"], whole["places"]) == ("arrives", True, []), whole
    assert (filtered["places"], set(filtered["causes"])) == (PLACE, {"filtered"}), filtered


@pytest.mark.parametrize("series", vm.SERIES)
def test_the_clock_is_set(said: dict[str, dict[str, Any]], series: str) -> None:
    """By three hours, forth and back: times are those that passed, and each drop finds its packet."""
    found = said[series]["clock"]
    assert found["steps"] >= 2, found
    assert (found["places"], set(found["causes"])) == (PLACE, {"filtered"}), found
    assert 0 < found["seconds"] < 120


@pytest.mark.parametrize("series", vm.SERIES)
def test_without_btf(said: dict[str, dict[str, Any]], series: str) -> None:
    """The filter itself tells, by its rule."""
    found = said[series]["no BTF"]
    assert (found["watched"], found["places"], found["causes"]) == (False, PLACE, ["filtered"]), found
