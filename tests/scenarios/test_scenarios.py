"""Every embedded scenario, open and blind, as one test each (see run.py for what a run is).

The runs are started side by side when the first of them is asked for, so the whole takes as long as the slowest
chain of them and not their sum.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.scenarios import run

PAIRS = {f"{scenario.name}-{mode}": (scenario, mode) for scenario, mode in run.runs()}


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[run.Result]"]]:
    """The runs of all selected tests, under way."""
    chosen = [
        i.callspec.params["pair"] for i in request.session.items if getattr(i, "originalname", "") == "test_scenario"
    ]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(run.JOBS) as pool:
        waiting = {pair: pool.submit(run.examine, *PAIRS[pair]) for pair in chosen}
        yield waiting
        run.cancel(waiting.values())


@pytest.mark.lab
@pytest.mark.parametrize("pair", PAIRS)
def test_scenario(pair: str, results: dict[str, "Future[run.Result]"]) -> None:
    result = results[pair].result()
    assert not result.wrong, str(result)


def test_enough_and_different() -> None:
    """The catalogue keeps its size, and no two scenarios differ only in numbers."""
    shapes: dict[str, str] = {}
    for name in run.scenarios():
        shape = run.shape(run.load(name))
        assert shape not in shapes, f"{name} is {shapes[shape]} with other numbers"
        shapes[shape] = name
    faulty = [s for s, mode in run.runs(modes=("open",)) if "broken" in s.expect.verdict]
    assert len(faulty) >= 34
    assert len(shapes) - len(faulty) >= 22
