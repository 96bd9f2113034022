"""The rule that drops is named on Debian's 6.1 and 6.12 as here, and our table goes with us, however we end."""

from typing import Any

import pytest
import vm

pytestmark = [pytest.mark.slow, pytest.mark.lab]

NAMED = {
    "goto": ["nft", "d", 1, False, ["f", "e"]],
    "policy": ["nft", "f", 0, True, []],
    "reject": ["nft", "f", 2, False, []],
    "iptables": ["iptables-nft", "FORWARD", 2, False, []],
}


@pytest.fixture(scope="module")
def said(guests: dict[str, vm.Guest]) -> dict[str, dict[str, Any]]:
    return vm.told("ruled.py", guests)


@pytest.mark.parametrize("series", vm.SERIES)
def test_rules_are_named_there_as_well(said: dict[str, dict[str, Any]], series: str) -> None:
    for case, named in NAMED.items():
        assert said[series][case] == {"named": [named], "during": 1, "left": 0, "lost": [0, 0]}, case
    assert said[series]["killed"] == {"signal": 9, "left": 0}
