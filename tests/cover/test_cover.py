"""Any two values of {fault, target, family, round trip, loss, rights} together in one lab, three questions each."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import cells
import cover
from cells import Want, Way
from pathfit.lab.check import problems

RUNS, SEED, JOBS = 3, 20261126, 4
MOST_UNKNOWN = 2  # of the runs under loss, some eighty


@pytest.mark.lab
@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="delayed cables need /dev/net/tun")
def test_every_pair_of_values(capsys: pytest.CaptureFixture[str]) -> None:
    runs = list(cover.Series(runs=RUNS, seed=SEED).all(cells.pairwise(SEED), JOBS))
    said = "\n".join(cover.table(runs))
    with capsys.disabled():
        print("\n" + said.splitlines()[-1])
    flawed = [r for r in runs if r.outcome != "right" and (not r.loss or r.outcome in cover.BAD)]
    assert not flawed, said
    assert sum(r.outcome == "unknown" for r in runs) <= MOST_UNKNOWN, said


def test_a_pairwise_cover_holds_every_pair_there_is() -> None:
    every = set().union(*map(cells.pairs, cells.every()))
    assert (0, "silent application", 1, "namespace") in every and (1, "namespace", 5, "unprivileged") not in every
    for seed in (1, SEED):
        chosen = cells.pairwise(seed)
        assert set().union(*map(cells.pairs, chosen)) == every
        assert len(chosen) <= 120 and len(set(chosen)) == len(chosen)
    assert cells.pairwise(1) != cells.pairwise(2)


def test_every_cell_is_a_lab_and_its_seed_draws_it() -> None:
    """A tenth of them: the scenario can be built, and limits differ from seed to seed."""
    every = list(cells.every())[::10]
    for cell in every:
        made = cells.make(cell, 5)
        assert not list(problems(made.scenario)), cell
        assert made == cells.make(cell, 5)
    assert len({repr(cells.make(every[4], seed).scenario) for seed in range(20)}) == 20


HOLE = Want(verdicts=("broken",), errors=("MTU101",), reverse=Way(passes=1400, fails=1401), forward=Way(passes=1500))


@pytest.mark.parametrize(
    ("verdict", "codes", "reverse", "forward", "want"),
    [
        ("broken", ["MTU101"], (1400, 1401), (1500, None), "right"),
        ("broken", ["MTU101"], (1390, 1401), (1500, None), "inexact"),
        ("broken", ["MTU101"], (1401, 1402), (1500, None), "wrong"),
        ("broken", ["MTU101"], (1390, 1400), (1500, None), "wrong"),
        ("broken", ["MTU101"], (1400, 1401), (1400, 1401), "wrong"),
        ("broken", ["MTU101"], (1400, 1401), (None, None), "inexact"),
        ("broken", ["MTU101", "MTU102"], (1400, 1401), (1500, None), "false"),
        ("broken", ["FLT401", "MTU101"], (1400, 1401), (1500, None), "false"),
        ("healthy", [], (1500, None), (1500, None), "missed"),
        ("unknown", [], (1400, None), (1500, None), "unknown"),
    ],
)
def test_what_counts_as_what(
    verdict: str, codes: list[str], reverse: tuple[int, int], forward: tuple[int, int], want: str
) -> None:
    measured = {d: dict(zip(("pass", "fail"), w, strict=True)) for d, w in (("reverse", reverse), ("forward", forward))}
    findings = [{"code": c, "severity": "error"} for c in codes]
    report = {"verdict": verdict, "findings": findings, "measured": measured}
    assert cover.outcome(HOLE, report)[0] == want


def test_what_is_not_measured_needs_a_note() -> None:
    assert Way(mute=True).judge({"pass": None, "fail": None, "note": "not measured"}) == "right"
    assert Way(mute=True).judge({"pass": None, "fail": None, "note": None}) == "wrong"
    assert Way(mute=True).judge({"pass": 1500, "fail": None}) == "wrong"


def test_a_series_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    cell = cells.pairwise(1)[0]
    run = cover.Run(cell=str(cell), fault=cell.fault, loss=cell.loss, seed=1, number=2, outcome="right")
    series = cover.Series(runs=3, seed=1, file=file)
    assert series.missing(cell) == [1, 2, 3]
    series._write(run)
    file.write_bytes(file.read_bytes() + b'{"cell": "cut o')
    again = cover.Series(runs=3, seed=1, file=file)
    assert again.missing(cell) == [1, 3] and cover.read(file) == [run]
