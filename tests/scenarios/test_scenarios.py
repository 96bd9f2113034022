"""Every embedded scenario, open and blind, as one test each (see run.py for what a run is).

The runs are started side by side when the first of them is asked for, so the whole takes as long as the slowest
chain of them and not their sum.
"""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import run
from scans import SCANS

from pathfit.lab import Scenario, load, scenarios

PAIRS = {f"{scenario.name}-{mode}": (scenario, mode) for scenario, mode in run.runs()}
LEAST_FAULTS, LEAST_HEALTHY = 34, 22


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[run.Result]"]]:
    """The runs of all selected tests, under way."""
    names = [i.name for i in request.session.items if i.name.startswith("test_scenario[")]
    chosen = [name.removeprefix("test_scenario[").removesuffix("]") for name in names]
    with ThreadPoolExecutor(run.JOBS) as pool:
        waiting = {pair: pool.submit(run.examine, *PAIRS[pair], slack=run.SLACK) for pair in chosen}
        yield waiting
        run.cancel(waiting.values())


@pytest.mark.lab
@pytest.mark.parametrize("pair", PAIRS)
def test_scenario(pair: str, results: dict[str, "Future[run.Result]"]) -> None:
    result = results[pair].result()
    if result.skipped:
        pytest.skip(result.skipped)
    assert not result.wrong, str(result)
    if result.mode == "open":
        assert result.scanned == SCANS.get(result.name, []), "what a scan of it says"


def test_no_healthy_scenario_has_an_error_in_a_scan() -> None:
    healthy = {n for n in scenarios() if set(load(n).expect.verdict) <= {"healthy", "degraded"}}
    assert len(healthy) >= 20
    wrong = {n: SCANS[n] for n in healthy & SCANS.keys() if any(f.startswith("error") for f in SCANS[n])}
    # Its own server reaches the router beside the clamp, and would lose what it sends there; another client works.
    assert set(wrong) <= {"clamp-masks-silent-limit", "v4-asked-while-v6-broken"}
    assert SCANS.keys() <= set(scenarios())


# What a scenario is, without what it is called, what it proves and what it expects.
NOT_THE_LAB = ("name", "about", "article", "truth", "truth_after", "expect", "blind", "sees")


def kind_of(number: int) -> str:
    """Numbers that mean something else, and numbers that are only other numbers. A port of 1276 passes 1280."""
    bounds = ((576, "tiny"), (1275, "below 1280"), (1280, "1280"), (1500, "#"), (65535, "jumbo"))
    return next((word for most, word in bounds if number <= most), "#")


def shape(scenario: Scenario) -> str:
    """The scenario with every number replaced by its kind, and by which of its neighbours is the smaller one.

    Booleans, families and words stay.
    """

    def plain(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            sizes = [k for k in value if k.startswith(("mtu", "receives"))]
            order = {"order": sorted(sizes, key=lambda k: value[k])} if len(sizes) > 1 else {}
            return {plain(k): plain(v, k) for k, v in value.items() if key or k not in NOT_THE_LAB} | order
        if isinstance(value, list | tuple):
            return [plain(v, key or "list") for v in value]
        if isinstance(value, str):
            return re.sub(r"\d+", "#", value)
        if isinstance(value, bool) or key in ("family", "outer", "version", "set", "status"):
            return value
        return kind_of(int(value)) if isinstance(value, int | float) else value

    return str(msgspec.json.encode(plain(msgspec.to_builtins(scenario)), order="sorted"), "ascii")


def test_no_two_differ_only_in_numbers() -> None:
    shapes: dict[str, str] = {}
    for name in scenarios():
        same = shapes.setdefault(shape(load(name)), name)
        assert same == name, f"{name} is {same} with other numbers"


def test_other_numbers_are_the_same_shape_and_other_places_are_not() -> None:
    one, twin, other = (load(n) for n in ("uplink-1420-untold", "uplink-1420-untold", "router-without-way-back"))
    cables = (msgspec.structs.replace(twin.cables[0], mtu=twin.cables[0].mtu - 7), *twin.cables[1:])
    assert shape(msgspec.structs.replace(twin, cables=cables, name="twin")) == shape(one)
    assert shape(other) != shape(one)


def test_there_are_enough() -> None:
    all_of_them = [load(n) for n in scenarios()]
    faulty = [s.name for s in all_of_them if "broken" in s.expect.verdict]
    assert len(faulty) >= LEAST_FAULTS
    assert len(all_of_them) - len(faulty) >= LEAST_HEALTHY
    assert all(s.truth for s in all_of_them), "a scenario that proves nothing"
    assert all(s.sees for s in all_of_them), "every scenario is asked blind too"
