"""Scenarios repaired and undone (see cure.py): one of every kind of network here, all of them in `make bench-cure`."""

import cure
import pytest
import run

PAIRS = {f"{scenario.name}-{mode}": (scenario, mode) for scenario, mode in cure.runs()}
SAMPLE = (  # one of each: plain, told and untold, both ways, two limits, tunnels, IPv6, clamps, by hand only
    "article-000-blind",
    "both-ways-different-open",
    "clamp-on-syn-only-open",
    "firewall-drop-open",
    "two-limits-open",
    "v6-upload-hole-blind",
    "vxlan-over-ipv6-open",
)
LEAST_CURED = 40  # of the scenarios, open


@pytest.mark.lab
@pytest.mark.parametrize("pair", SAMPLE)
def test_cured_and_undone(pair: str) -> None:
    check(cure.cure(*PAIRS[pair]))


@pytest.mark.lab
@pytest.mark.matrix
@pytest.mark.parametrize("pair", [p for p in PAIRS if p not in SAMPLE])
def test_the_others(pair: str) -> None:
    check(cure.cure(*PAIRS[pair]))


@pytest.mark.lab
@pytest.mark.matrix
@pytest.mark.parametrize("use", ["link-mtu", "mss-clamp"])
@pytest.mark.parametrize("pair", [p for p in PAIRS if p.endswith("-open")])
def test_with_another_repair(pair: str, use: str) -> None:
    check(cure.cure(*PAIRS[pair], use=use))


def check(result: cure.Cured) -> None:
    if result.skipped:
        pytest.skip(result.skipped)
    assert not result.wrong, str(result)


def test_there_are_enough() -> None:
    repairable = [s.name for s, mode in PAIRS.values() if mode == "open" and cure.has_repair(s)]
    assert len(repairable) >= LEAST_CURED
    assert set(SAMPLE) <= PAIRS.keys()
    assert run.PATHFIT.name == "pathfit"
