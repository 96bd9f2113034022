"""Sizes, echo, places: the small pure machines."""

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.measured import HopAnswer
from pathfit.measure import sizes
from pathfit.measure.echo import Echo
from pathfit.measure.place import Places, accused


@given(st.integers(100, 1400), st.integers(200, 65535), st.integers(1, 20))
def test_ladder_stays_inside_and_descends(floor: int, promised: int, count: int) -> None:
    rungs = sizes.ladder(floor, promised, count)
    assert len(rungs) <= count
    assert rungs == sorted(set(rungs), reverse=True)
    assert all(floor <= r < promised for r in rungs)
    assert bool(rungs) == (promised > floor)


def test_ladder_leaves_no_wide_gap_where_tunnels_are() -> None:
    """Two rounds of fourteen must end at the byte between 1280 and 1500 (probing.md 12)."""
    rungs = [r for r in sizes.ladder(576, 1500, 11) if r >= 1280] + [1500]
    rungs.sort()
    assert rungs[0] == 1280
    assert max(b - a for a, b in itertools.pairwise(rungs)) <= 60


@given(st.integers(1601, 9216))
def test_ladder_of_jumbo_frames_leaves_no_gap_for_a_fifth_round(promised: int) -> None:
    """Two rounds cut into fifteen, and the last proves one of at most four sizes in between: 8 RTT (probing.md 12)."""
    rungs = sorted({576, *sizes.ladder(576, promised, 11), promised})
    assert max(b - a for a, b in itertools.pairwise(rungs)) <= 15 * 15 * 5
    assert {1500, 1501} <= set(rungs)


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 20))
def test_section_cuts_evenly(lo: int, hi: int, count: int) -> None:
    cuts = sizes.section(lo, hi, count)
    assert all(lo < c < hi for c in cuts)
    assert len(cuts) == max(0, min(count, hi - lo - 1))
    edges = [lo, *reversed(cuts), hi]
    if hi > lo:
        assert max(b - a for a, b in itertools.pairwise(edges)) <= (hi - lo) // (count + 1) + 1


def ping(limit: int, ceiling: int = 1500, loss: float = 0.0, seed: int = 1, deaf: bool = False) -> Echo:
    random, echo, now, due = Random(seed), Echo(ceiling=ceiling, start=0.0), 0.0, []
    while not echo.done and now < 5:
        sent = echo.step(now)
        due += [(now + 0.002, p.seq) for p in sent if not deaf and p.size <= limit and random.random() >= loss]
        now += 0.001
        for at, seq in [d for d in due if d[0] <= now]:
            echo.answered(now, seq)
            due.remove((at, seq))
    return echo


@pytest.mark.parametrize("limit", [576, 1000, 1400, 1437, 1499])
def test_echo_finds_the_byte_and_speaks_for_both_directions(limit: int) -> None:
    b = ping(limit).bracket()
    assert (b.tests, b.passes, b.fails, b.grade) == ("both", limit, limit + 1, "step")


def test_echo_filtered_says_nothing() -> None:
    b = ping(9999, deaf=True).bracket()
    assert (b.passes, b.fails, b.grade, b.note) == (None, None, "none", "no-answer")


@pytest.mark.parametrize("seed", range(30))
def test_echo_under_loss_accuses_nobody_falsely(seed: int) -> None:
    b = ping(9999, loss=0.06, seed=seed).bracket()
    assert b.fails is None and b.passes == 1500


HOPS = {
    # name: (per hop small, large, large tries), accused TTL
    "healthy": ([("a", "a", 1), ("b", "b", 1), ("t", "t", 1)], None),
    "second segment": ([("a", "a", 1), ("b", None, 3), ("t", None, 3)], 2),
    "silent router, later answers large": ([("a", "a", 1), ("b", None, 3), ("t", "t", 1)], None),
    "router that answers nothing": ([("a", "a", 1), (None, None, 3), ("t", "t", 1)], None),
    "hole behind a router that answers nothing": ([("a", "a", 1), (None, None, 3), ("t", None, 3)], 3),
    "asked once": ([("a", "a", 1), ("b", None, 1), ("t", None, 1)], None),
}


@pytest.mark.parametrize("name", HOPS)
def test_a_hop_is_accused_only_when_nobody_behind_it_saw_large(name: str) -> None:
    rows, want = HOPS[name]
    hops = tuple(
        HopAnswer(ttl=i + 1, small=s, large=b, small_tries=2 if n > 1 else 1, large_tries=n)
        for i, (s, b, n) in enumerate(rows)
    )
    assert accused(hops) == want


def test_pairs_ask_again_only_what_is_open() -> None:
    places = Places(max_ttl=4)
    assert len(places.wanted(0)) == 8
    for ttl in (1, 2, 3):
        places.answered(ttl, False, f"r{ttl}", target=ttl == 3)
    places.answered(1, True, "r1", target=False)
    again = places.wanted(1)
    assert (4, False) not in again  # behind the target
    assert (1, True) not in again and (1, False) not in again  # large got there
    assert (2, True) in again and (3, True) in again
