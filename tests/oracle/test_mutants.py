"""Every fault planted in the model shows in the labs that stay."""

import pytest

from oracle.compare import judge
from oracle.mutants import MUTANTS, planted
from oracle.run import Run

pytestmark = pytest.mark.lab


def test_there_are_twelve() -> None:
    assert len(MUTANTS) >= 12


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, fixed: list[Run]) -> None:
    with planted(name):
        caught = any(judge(r.lab, r.host, r.truth).wrong for r in fixed)
    assert caught, f"no lab of {len(fixed)} notices: {name}"
    assert not judge(fixed[0].lab, fixed[0].host, fixed[0].truth).wrong, "the fault is still there"
