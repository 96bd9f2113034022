"""`pathfit trace` in random labs with one fault each: the place, direction, word and MTU that the seed says.

New ones each time; the seed is printed, and PATHFIT_TRACE_SEED has them again. `make test` has each fault once, `make
test-all` sixty labs, `make bench-trace-labs` three hundred.
"""

import os
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from oracle.faults import FAULTS, HOPS, TAPS, generate
from oracle.labs import jobs
from oracle.traced import Asked, many, report

SEED = int(os.environ.get("PATHFIT_TRACE_SEED") or random.SystemRandom().randrange(10_000, 1 << 40))
EVERY = len(FAULTS) * len(HOPS)


def judged(asked: Sequence[Asked], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nrandom labs to trace: PATHFIT_TRACE_SEED={SEED} has these again")
    bad = [report(*x) for x in many(asked, 3 * jobs()) if x[1].verdict != "right"]
    assert not bad, "\n\n".join(bad)


def labs(open_: int, blind: int) -> list[Asked]:
    """``open_`` labs in which everything can be seen, and others of which only the container's side can."""
    return [Asked(SEED + n, blind=n >= open_) for n in range(open_ + blind)]


@pytest.mark.lab
@pytest.mark.real_root
def test_each_fault_is_found_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    judged(labs(len(FAULTS), 0), capsys)


@pytest.mark.lab
@pytest.mark.real_root
def test_from_one_side_no_device_is_blamed_that_is_not_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Some faults leave nothing that can be said from there ("unknown"); nothing that is said is wrong."""
    bad = [report(*x) for x in many(labs(0, 4), 2 * jobs()) if x[1].verdict not in ("right", "unknown")]
    assert not bad, "\n\n".join(bad)


@pytest.mark.lab
@pytest.mark.real_root
@pytest.mark.slow
def test_sixty_labs(capsys: pytest.CaptureFixture[str]) -> None:
    judged(labs(60, 0), capsys)


# -- the labs themselves -----------------------------------------------------------------------------------------------


def test_a_seed_is_a_lab() -> None:
    for seed in range(EVERY):
        assert generate(seed) == generate(seed)
    assert {(generate(s).fault, generate(s).hops) for s in range(EVERY)} >= {(f, 6) for f in FAULTS}


def test_what_is_to_be_said_lies_on_the_way() -> None:
    """Each place is between two neighbouring devices of its direction, or at an end; one of them must be said."""
    for lab in map(generate, range(4 * EVERY)):
        assert len(set(lab.points)) == len(lab.points) <= TAPS
        assert bool([p for p in lab.truth if p.sure]) is (lab.fault != "healthy"), lab
        for place in lab.truth:
            way = lab.points if place.direction == "forward" else lab.points[::-1]
            pair = (place.after, place.before)
            assert pair in [(None, way[0]), *pairwise(way), (way[-1], None)], (lab, place)
