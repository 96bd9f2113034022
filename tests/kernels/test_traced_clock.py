"""`trace` on Debian's 6.1 and 6.12: places and causes as here; the same while the clock is set, which only a machine of
its own allows; and without BTF."""

from typing import Any

import pytest
import vm

pytestmark = [pytest.mark.slow, pytest.mark.lab]

PLACE = [["netns:r", "vs", "vc"]]


@pytest.fixture(scope="module")
def said(guests: dict[str, vm.Guest]) -> dict[str, dict[str, Any]]:
    return vm.told("clocked.py", guests)


@pytest.mark.parametrize("series", vm.SERIES)
def test_there_as_well(said: dict[str, dict[str, Any]], series: str) -> None:
    whole, filtered = said[series]["whole"], said[series]["filtered"]
    assert (whole["verdict"], whole["watched"], whole["places"]) == ("arrives", True, []), whole
    assert (filtered["places"], set(filtered["causes"])) == (PLACE, {"filtered"}), filtered


@pytest.mark.parametrize("series", vm.SERIES)
def test_the_clock_is_set(said: dict[str, dict[str, Any]], series: str) -> None:
    """By three hours, forth and back: times are those that passed, and each drop finds its packet. Who could not keep
    all of them names no other place."""
    *before, found = said[series]["clock"]
    assert all(x["places"] in ([], PLACE) for x in before), before
    assert found["steps"] >= 2, found
    assert (found["places"], set(found["causes"])) == (PLACE, {"filtered"}), found
    assert 0 < found["seconds"] < 3600, "less than it was set by"


@pytest.mark.parametrize("series", vm.SERIES)
def test_without_btf(said: dict[str, dict[str, Any]], series: str) -> None:
    """The filter itself tells, by its rule."""
    found = said[series]["no BTF"]
    assert (found["watched"], found["places"], found["causes"]) == (False, PLACE, ["filtered"]), found
