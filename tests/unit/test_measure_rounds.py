"""What a round asks for, and how many rounds the exact byte needs: each costs two round trips."""

from random import Random

import pytest
from simpath import Path, Sim

from pathfit.measure import rounds, verdict
from pathfit.measure.forward import Forward, Lane
from pathfit.measure.track import Track

RTT = 0.02
SETTLE = max(2 * RTT, verdict.SETTLE)


def test_every_byte_from_1280_on_takes_three_rounds() -> None:
    """The bound of 6 RTT and the settling time, for each limit there is."""
    for limit in range(1280, 1500):
        sim = Sim(Path(limit=limit, rtt=RTT), seed=limit)
        b = sim.run()
        assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")
        assert sim.search.round <= 3, limit
        assert sim.now <= 6 * RTT + SETTLE + 0.03, limit


@pytest.mark.parametrize("promised", [1500, 9001])
def test_a_hint_that_is_true_saves_rounds(promised: int) -> None:
    for limit in range(promised - 220, promised, 3):
        sim = Sim(Path(limit=limit, rtt=RTT, promised=promised, answer=4 * promised), seed=limit)
        sim.search.hints = {limit}
        b = sim.run()
        assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")
        assert sim.search.round == 2, limit


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_hints_that_lie_change_no_verdict(loss: float) -> None:
    random = Random(20)
    for limit in range(1280, 1500, 5):
        sim = Sim(Path(limit=limit, rtt=RTT, loss=loss), seed=limit)
        near = limit + random.choice((-1, 1, -4, 9, 30))
        sim.search.hints = {near, random.randrange(68, 1500), random.randrange(1280, 1500)}
        b = sim.run()
        if loss and b.grade == "none":
            continue
        assert b.passes is not None and b.fails is not None and b.passes <= limit < b.fails
        assert loss or (b.exact and sim.search.round <= 4)


def test_no_hint_makes_a_healthy_path_fail() -> None:
    sim = Sim(Path(rtt=RTT), seed=1)
    sim.search.hints = {1400, 1450}
    assert (sim.run().passes, sim.search.why) == (1500, "passes")


@pytest.mark.parametrize("polite", [False, True])
@pytest.mark.parametrize("hint", [None, 1340, 1341, 1363, 1398, 1399, 1200, 1400])
@pytest.mark.parametrize("fails", [1342, 1343, 1345, 1350, 1400])
def test_a_round_is_no_larger_than_it_may_be_and_lies_in_the_gap(fails: int, hint: int | None, polite: bool) -> None:
    for count in (2, 4, 14):
        plan = rounds.cut(1340, fails, count, () if hint is None else (hint,), polite)
        sizes = [size for size, _ in plan]
        assert 0 < len(plan) <= count
        assert sizes == sorted(sizes, reverse=True)
        assert all(1340 <= size <= fails for size in sizes)
        assert any(1340 < size < fails for size in sizes)  # or the search would not end
        if hint is not None and 1340 <= hint < fails and count == 14:
            assert sizes.count(hint + 1) >= verdict.PROOF_LOSSLESS
            assert sizes.count(hint) >= verdict.PROOF_PASSES


def test_the_way_out_gives_hints() -> None:
    told = Forward(family=4, start=0.0, lanes=[Lane(n=0), Lane(n=1, passed=1300)])
    told.told(0, 1500, 1337, "192.0.2.1")
    assert told.hints() == {1337}
    told.give_up("no-answer")
    assert told.hints() == {1337, 1300}


def test_what_only_grows_older_is_looked_at_seldom_and_no_later_than_it_is_old_enough() -> None:
    sim = Sim(Path(limit=1400, rtt=RTT), seed=1)
    sim.run()
    search, now = sim.search, 1.0
    search.done = False
    search.tracks = [_standing(n, size, now) for n, size in enumerate((1500, 1450, 1401, 1400), 1)]
    search.round, search._open = 1, {1, 2, 3, 4}
    assert search.times(now).settle == SETTLE
    assert search.pause(now) == pytest.approx(SETTLE - 0.045)
    search.tracks.append(Track(n=5, size=1390, plain=False, round=1, family=4, opened=now, connected=now, asked=now))
    assert search.pause(now) <= 0.002  # its gap would wake nobody


def _standing(n: int, size: int, now: float) -> Track:
    track = Track(n=n, size=size, plain=False, round=1, family=4, opened=0.9, connected=0.92, asked=0.92, rtt=RTT)
    if size > 1400:
        track.gap_at = now - 0.045
    else:
        track.arrived = size
    return track
