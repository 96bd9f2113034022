"""`pathfit trace` in random labs with one fault each: the place, direction, word and MTU that the seed says.

New ones each time; the seed is printed, and PATHFIT_TRACE_SEED has them again. `make test` has each fault once, `make
test-all` sixty labs, `make bench-trace-labs` three hundred.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count, islice, pairwise
from typing import Any

import pytest

from oracle.faults import (
    FAULTS,
    FORWARD,
    HOPS,
    OF_UDP,
    OTHER,
    TAPS,
    Device,
    Place,
    TraceLab,
    datagrams,
    for_udp,
    generate,
)
from oracle.labs import jobs
from oracle.traced import Asked, cut, judge, judge_blind, judge_untold, many, report

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


@pytest.mark.lab
@pytest.mark.real_root
@pytest.mark.slow
def test_where_the_kernel_tells_of_no_drop_the_place_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    judged([Asked(SEED + n, untold=True) for n in range(2 * len(FAULTS))], capsys)


@pytest.mark.lab
@pytest.mark.real_root
@pytest.mark.slow
def test_datagrams(capsys: pytest.CaptureFixture[str]) -> None:
    """Faults that concern them; those of size only them, for TCP's segments are kept small."""
    judged([Asked(seed, udp=True) for seed in islice(filter(for_udp, count(SEED)), 11)], capsys)


# -- who judges --------------------------------------------------------------------------------------------------------


def loss(place: Place, **other: Any) -> dict[str, Any]:
    """A loss of a report that says of a place what is true, or something else."""

    def at(device: Device | None) -> dict[str, str] | None:
        return {"netns": f"netns:{device[0]}", "link": device[1]} if device else None

    said = place.__dict__ | other
    where = at(said["after"] or said["before"])
    assert where is not None
    cause = {"why": said["words"][0], "mtu": said["mtu"], "at": where | other.get("at", {})}
    error = said.get("error")
    sizes = {"smallest": said.get("smallest", (place.mtu or 0) + 1), "passed": said.get("passed", place.mtu or 0)}
    return (
        {k: at(said[k]) for k in ("after", "before")}
        | sizes
        | {"direction": said["direction"], "causes": [cause], "error": error}
    )


def verdict(lab: TraceLab, losses: list[dict[str, Any]], judge: Callable[..., Any] = judge) -> str:
    names = {f"netns:{ns}": ns for ns, _ in lab.points}
    ends: dict[str, Any] = {
        "points": [{"lost": 0, "at": {"netns": "netns:b", "link": "last"}}],
        "ends": {"netns": "netns:a", "link": lab.points[0][1]},
    }
    document = {"verdict": "lost" if losses else "arrives", "losses": losses, "forward": ends, "reverse": ends}
    document["drops"] = {"watched": judge is not judge_untold}
    found: str = judge(lab, document, names).verdict
    return found


def test_what_is_not_so_is_wrong() -> None:
    """Each thing that is said of each place, said otherwise."""
    looked = Counter[str]()
    for lab in map(generate, range(EVERY)):
        true = [loss(p) for p in lab.truth if p.sure]
        assert verdict(lab, true) == "right"
        assert verdict(lab, []) == ("right" if lab.fault == "healthy" else "unknown")
        for place in lab.truth:
            elsewhere = next(p for p in lab.points if p not in (place.after, place.before))
            others = {
                "direction": OTHER[place.direction], "after": elsewhere, "words": ("checksum",), "mtu": 1111,
                "at": {"netns": "netns:nowhere"}, "before": elsewhere,
            }  # fmt: skip
            if cut(lab, place):
                others |= {"smallest": place.mtu, "passed": (place.mtu or 0) + 5}
            for what, value in others.items():
                assert verdict(lab, [*true, loss(place, **{what: value})]) == "wrong", (lab, what)
                looked[what] += 1
    assert min(looked.values()) > EVERY // 8


def test_errors_that_get_lost_are_said_where_they_do() -> None:
    silent = [lab for lab in map(generate, range(EVERY)) if lab.errors]
    assert {lab.fault for lab in silent} == {"too-big lost", "tunnel outer"}
    for lab in silent:
        true = [loss(p) for p in lab.truth if p.sure]
        (place,) = lab.errors
        error = {"kind": "too-big"}
        assert verdict(lab, [*true, loss(place, error=error)]) == "right"
        elsewhere = next(p for p in lab.points if p not in (place.after, place.before))
        for more in ({"after": elsewhere}, {"before": elsewhere}, {"at": {"netns": "netns:nowhere"}}):
            assert verdict(lab, [*true, loss(place, error=error, **more)]) == "wrong", (lab, more)
        untold = {"why": "untold-filtered", "mtu": None, "at": {"netns": "netns:nowhere", "link": None}}
        assert verdict(lab, [{**x, "causes": [*x["causes"], untold]} for x in true]) == "wrong"
        home = (place.after or place.before or ("",))[0]
        vanished = {**untold, "why": "untold-vanished", "at": {"netns": f"netns:{home}", "link": None}}
        mine = [
            {**x, "causes": [*x["causes"], vanished] if x["direction"] != place.direction else x["causes"]}
            for x in true
        ]
        assert (verdict(lab, mine), verdict(lab, mine, judge_untold)) == ("wrong", "right"), lab
    healthy = generate(list(FAULTS).index("healthy"))
    said = Place(FORWARD, healthy.points[0], healthy.points[1], ("filtered",))
    assert verdict(healthy, [loss(said, error={"kind": "too-big"})]) == "wrong"


def test_where_nothing_is_told_a_place_that_is_not_so_is_wrong() -> None:
    for lab in map(generate, range(EVERY)):
        true = [loss(p) for p in lab.truth if p.sure]
        assert verdict(lab, true, judge_untold) == "right"
        assert verdict(lab, [{**x, "causes": []} for x in true], judge_untold) == "right"
        assert verdict(lab, [], judge_untold) == ("right" if lab.fault == "healthy" else "wrong")
        for place in lab.truth:
            elsewhere = next(p for p in lab.points if p not in (place.after, place.before))
            for more in ({"after": elsewhere}, {"before": elsewhere}, {"direction": OTHER[place.direction]}):
                assert verdict(lab, [*true, loss(place, **more)], judge_untold) == "wrong", (lab, more)
            assert verdict(lab, [loss(place, words=("checksum",))], judge_untold) == "wrong"


def test_from_one_side_a_device_that_cannot_be_seen_is_wrong() -> None:
    for lab in map(generate, range(EVERY)):
        mine = [p for p in lab.points if p[0] == "a"]
        for place in lab.truth:
            both = [x for x in (place.after, place.before) if x is not None]
            seen = all(x in mine for x in both)
            assert verdict(lab, [loss(place)], judge_blind) == ("right" if seen else "wrong"), (lab, place)
            if place.direction == "forward" and place.after not in (None, *mine):
                beyond = loss(place, after=mine[-1], before=None, at={"netns": f"netns:{both[0][0]}"})
                assert verdict(lab, [beyond], judge_blind) == "right"
                blamed = loss(place, after=mine[-1], before=None)  # in "a", where it was not lost
                assert verdict(lab, [blamed], judge_blind) == "wrong"


def test_labs_for_datagrams() -> None:
    """Every fault that concerns them; what must be said is of the way out, and of sizes they alone are large."""
    labs = [datagrams(generate(s)) for s in range(EVERY) if for_udp(s)]
    assert {lab.fault for lab in labs} == set(OF_UDP)
    assert all(p.direction == FORWARD for lab in labs for p in lab.truth if p.sure)
    assert all(lab.clamped is ("maxseg" in lab.text) for lab in labs)
    assert {lab.fault for lab in labs if lab.clamped} == {"too-big lost", "veth half", "bridge port", "tunnel outer"}


def test_where_nat_chooses_among_several_it_cannot_be_known() -> None:
    labs = [lab for lab in map(generate, range(4 * EVERY)) if lab.drawn]
    assert len(labs) > EVERY // 5 and {lab.family for lab in labs} == {4, 6}
    assert all("numgen random" in lab.text or "--mode random" in lab.text for lab in labs)


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
