"""Sixty random labs: thirty that are always the same, thirty that are new each time (the seed is printed)."""

import pytest

from oracle.labs import FIXED, fresh
from oracle.run import Run

pytestmark = pytest.mark.lab


def _agree(runs: list[Run]) -> None:
    wrong = [r.report() for r in runs if r.verdict.wrong]
    assert not wrong, "\n\n".join(wrong)
    asked = sum(r.verdict.asked for r in runs)
    unknown = [f"lab {r.lab.seed}: {x}" for r in runs for x in r.verdict.unknown]
    assert len(unknown) <= asked // 50, "\n".join(unknown)  # two in a hundred


def test_the_model_says_what_the_kernel_does_in_labs_that_stay(fixed: list[Run]) -> None:
    assert [r.lab.seed for r in fixed] == list(FIXED)
    _agree(fixed)


def test_the_model_says_what_the_kernel_does_in_labs_nobody_has_seen(
    unseen: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nrandom labs: PATHFIT_ORACLE_SEED={fresh()} has these again")
    _agree(unseen)
