"""Holes under 3 % loss each way: sixty of the thousand runs of bench/loss.py, in a seeded order."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import loss

RUNS, SEED = 60, 20261120
MOST_UNKNOWN = 1


@pytest.mark.lab
def test_no_hole_is_invented_or_missed_under_loss(capsys: pytest.CaptureFixture[str]) -> None:
    tally = loss.series(RUNS, SEED)
    said = "\n".join(tally.lines())
    with capsys.disabled():
        print("\n" + said.splitlines()[-1])
    never = (*loss.BAD, "no report")
    assert [tally.count(bad) for bad in never] == [0] * len(never), said
    assert tally.count("unknown") <= MOST_UNKNOWN, said


def test_the_order_is_seeded_and_fair() -> None:
    """The same seed gives the same order, and every subject comes up equally often."""
    drawn = loss.order(60, 7)
    assert drawn == loss.order(60, 7)
    assert drawn != loss.order(60, 8)
    counts = [drawn.count(s) for s in loss.SUBJECTS]
    assert max(counts) - min(counts) <= 1


def _report(verdict: str, codes: tuple[str, ...], reverse: tuple[int, int | None]) -> dict[str, object]:
    measured = {"reverse": {"pass": reverse[0], "fail": reverse[1]}, "forward": {"pass": 1500, "fail": None}}
    return {"verdict": verdict, "findings": [{"code": c} for c in codes], "measured": measured}


@pytest.mark.parametrize(
    ("limit", "verdict", "codes", "reverse", "want"),
    [
        (1400, "broken", ("MTU101",), (1400, 1401), "right"),
        (1400, "broken", ("MTU101",), (1388, 1401), "inexact"),
        (1400, "broken", ("MTU101",), (1388, 1395), "wrong"),
        (1400, "broken", ("MTU101",), (1404, 1405), "wrong"),
        (1400, "degraded", ("NET151",), (1500, None), "missed"),
        (1400, "broken", ("MTU101", "MTU102"), (1400, 1401), "false"),
        (1400, "unknown", (), (1400, None), "unknown"),
        (None, "degraded", ("NET151",), (1500, None), "right"),
        (None, "broken", ("MTU101",), (1400, 1401), "false"),
        (None, "broken", ("MTU118",), (1500, None), "false"),
    ],
)
def test_what_counts_as_what(
    limit: int | None, verdict: str, codes: tuple[str, ...], reverse: tuple[int, int | None], want: str
) -> None:
    subject = loss.Subject(name="x", inbound=limit)
    assert loss.outcome(subject, _report(verdict, codes, reverse))[0] == want
