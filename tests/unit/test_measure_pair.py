"""The search between two ends of ours, on simulated paths: to the byte, under loss, and never wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

import pytest

from pathfit.core.net import Family
from pathfit.measure.pair import FLOWS, SMALL, OneWay
from pathfit.measure.shots import Shot

STEP = 0.0005


@dataclass
class Path:
    """One direction. ``limit``: largest packet that arrives; ``told``: sizes above it that are answered "too big";
    ``flows``: the limit of single flows; ``cuts``: what may be cut is; ``fragments``: pieces pass."""

    limit: int = 99_999
    delay: float = 0.0002
    jitter: float = 0.0
    loss: float = 0.0
    told: Callable[[int], int | None] = lambda size: None  # what is said about that size
    flows: dict[int, int] = field(default_factory=dict)
    cuts: bool = False
    fragments: bool = True
    silent_after: float = 9e9  # seconds from which on nothing arrives
    busy: float = 0.0  # seconds in which what is sent together loses its large ones, and a few small ones
    deaf: frozenset[int] = frozenset()  # flows on which nothing arrives
    rate: float = 0.0  # bytes a second that are let through, and ten large packets at once (a policer); 0: all
    tokens: float = 15_000.0
    filled: float = 0.0
    batches: int = 0  # behind a packet too large in its batch all pieces are lost, and of the others one in so many


def play(path: Path, seed: int = 1, family: Family = 4, ceiling: int = 1500, **more: object) -> tuple[OneWay, float]:
    """(the finished search, seconds it took)."""
    rng, now = Random(seed), 100.0
    way = OneWay(tests="forward", method="udp-pair", family=family, ceiling=ceiling, start=now)
    way.flows = set(range(FLOWS))
    for name, value in more.items():
        setattr(way, name, value)
    events: list[tuple[float, int, Callable[[float], None]]] = []
    while not way.done:
        while events and events[0][0] <= now:
            at, _, do = heappop(events)
            do(at)
        taken = False
        for shot in way.step(now):
            taken = taken or (path.batches and shot.kind != "fragments" and shot.size > path.limit)
            if not taken or (shot.kind == "df" and shot.seq % path.batches):
                outcome(path, way, shot, now, rng, events)
        now += STEP
        assert now < 120, "it does not end"
    return way, now - 100.0


def outcome(path: Path, way: OneWay, shot: Shot, now: float, rng: Random, events: list) -> None:  # type: ignore[type-arg]
    if path.rate:
        path.tokens, path.filled = min(15_000.0, path.tokens + (now - path.filled) * path.rate), now
        if shot.size > path.tokens:
            return
        path.tokens -= shot.size
    if now - 100 < path.busy and (shot.size >= 1000 or shot.seq % 7 == 0):
        return
    delay = path.delay + rng.random() * path.jitter
    pieces = 2 if shot.kind == "fragments" else 1
    limit = path.flows.get(shot.flow, path.limit)
    if any(rng.random() < path.loss for _ in range(pieces)) or now - 100 > path.silent_after or shot.flow in path.deaf:
        return
    cut = shot.kind == "fragments"
    if shot.kind == "fragments" and (not path.fragments or way.pieces()[1] > limit):
        return
    if shot.kind != "fragments" and shot.size > limit:
        if shot.kind == "whole" and path.cuts:
            cut = True
        else:
            said = path.told(shot.size)
            if said is not None and rng.random() >= path.loss:
                heappush(events, (now + delay, shot.seq, lambda at: way.told(shot.seq, said, "r")))
            return
    heappush(events, (now + delay, shot.seq, lambda at: way.arrived(at, shot.seq, shot.size, cut=cut)))


@pytest.mark.parametrize("delay", [0.0002, 0.010, 0.050])
@pytest.mark.parametrize("limit", [120, 576, 1280, 1400, 1421, 1499, 8950])
@pytest.mark.parametrize("ceiling", [1500, 9000])
def test_a_hole_to_the_byte(limit: int, ceiling: int, delay: float) -> None:
    if limit >= ceiling:
        return
    way, took = play(Path(limit=limit, delay=delay), ceiling=ceiling)
    b = way.bracket()
    assert (b.passes, b.fails, b.grade, b.exact) == (limit, limit + 1, "proof", True)
    assert took < 0.08 + 14 * delay
    assert len(way.shots) < 160


@pytest.mark.parametrize("ceiling", [576, 1280, 1500, 9000, 65535])
def test_a_whole_path(ceiling: int) -> None:
    way, took = play(Path(), ceiling=ceiling)
    b = way.bracket()
    assert (b.passes, b.fails, b.grade) == (ceiling, None, "proof")
    assert took < 0.04 and way.uneven({}) is None and way.loss()[1] == 0


@pytest.mark.parametrize("loss", [0.01, 0.03, 0.08])
def test_never_wrong_under_loss(loss: float) -> None:
    wrong, unknown = [], 0
    for seed in range(150):
        limit = (99_999, 1400, 1433)[seed % 3]
        way, _ = play(Path(limit=limit, loss=loss, delay=(0.0002, 0.05)[seed % 2], jitter=0.001), seed)
        b = way.bracket()
        want = (1500, None) if limit > 1500 else (limit, limit + 1)
        if b.grade == "none":
            unknown += 1
        elif (b.passes, b.fails) != want:
            wrong.append((seed, b))
        assert way.uneven({}) is None
    assert not wrong and unknown <= 1


@pytest.mark.parametrize("busy", [0.02, 0.03, 0.05])
def test_what_is_lost_beside_others_is_sent_alone_before_it_is_believed(busy: float) -> None:
    way, took = play(Path(limit=1450, busy=busy))
    b = way.bracket()
    assert (b.passes, b.fails, b.grade) == (1450, 1451, "proof")
    assert took < 1


@pytest.mark.parametrize("fragments", [True, False])
@pytest.mark.parametrize("limit", [1280, 1400, 1450])
@pytest.mark.parametrize("one_in", [1, 3, 5])
def test_pieces_that_are_lost_with_their_batch_are_sent_alone(limit: int, fragments: bool, one_in: int) -> None:
    way, took = play(Path(limit=limit, batches=one_in, fragments=fragments))
    b = way.bracket()
    assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")
    pieces, whole = way.splits()
    assert (pieces.sure, pieces.arrived > 0) == (True, fragments)
    assert (whole.sure, whole.arrived) == (True, 0)
    assert took < 1


def test_who_is_told_is_told() -> None:
    way, _ = play(Path(limit=1412, told=lambda size: 1412))
    b = way.bracket()
    assert (b.passes, b.fails, b.grade, b.told_by, b.told_mtu) == (1412, 1413, "told", "r", 1412)


def test_some_are_told_and_the_largest_vanish() -> None:
    way, _ = play(Path(limit=1380, told=lambda size: 1380 if size <= 1400 else None))
    b = way.bracket()
    assert (b.passes, b.fails, b.grade, b.note) == (1380, 1381, "proof", "told-in-part")


def test_who_obeys_falls_into_silence() -> None:
    way, _ = play(Path(limit=716, told=lambda size: 1500 if size > 1500 else None), ceiling=1690)
    b = way.bracket()
    assert (b.passes, b.fails, b.grade, b.note, b.told_by) == (716, 717, "proof", "told-in-part", None)


@pytest.mark.parametrize("tokens", [1, 3, 6, 99])
@pytest.mark.parametrize("seed", range(4))
def test_two_routers_that_tell_and_are_rate_limited(tokens: int, seed: int) -> None:
    left = {1480: tokens, 1400: tokens}

    def said(size: int) -> int | None:
        mtu = 1480 if size > 1480 else 1400
        left[mtu] -= 1
        return mtu if left[mtu] >= 0 else None

    b = play(Path(limit=1400, told=said), seed)[0].bracket()
    assert (b.passes, b.fails, b.grade, b.told_mtu) == (1400, 1401, "told", 1400)


def test_one_bad_path_of_two() -> None:
    way, _ = play(Path(flows=dict.fromkeys(range(0, FLOWS, 2), 1400)))
    found = way.uneven({f: 40_000 + f for f in range(FLOWS)})
    assert found is not None and (found.size, found.good, found.bad, found.tests) == (1500, 6, 6, "forward")
    assert found.ports_bad == tuple(40_000 + f for f in range(0, FLOWS, 2))
    assert way.bracket().passes == 1500


@pytest.mark.parametrize("loss", [0.0, 0.03])
@pytest.mark.parametrize("delay", [0.0001, 0.01])
def test_flows_draw_their_way(loss: float, delay: float) -> None:
    """Whichever flows the bad one of two paths gets, and in whatever order they are asked."""
    wrong = []
    for seed in range(80):
        bad = {f for f in range(FLOWS) if Random(seed * FLOWS + f).random() < 0.5} or {seed % FLOWS}
        if len(bad) == FLOWS:
            continue
        way, took = play(Path(flows=dict.fromkeys(bad, 1400), loss=loss, delay=delay), seed)
        found, b = way.uneven({f: f for f in range(FLOWS)}), way.bracket()
        if found is None or set(found.ports_bad) != bad or (b.passes, b.fails) != (1500, None) or took > 2:
            wrong.append((seed, bad, found, b, took))
    assert not wrong


@pytest.mark.parametrize("seed", range(20))
def test_of_two_bad_paths_the_better_one_is_measured_and_the_other_told(seed: int) -> None:
    rng = Random(seed)
    worse = set(rng.sample(range(FLOWS), rng.randint(1, FLOWS - 1)))
    way, _ = play(Path(limit=1450, flows=dict.fromkeys(worse, 1400), loss=0.01 * (seed % 3)), seed)
    found, b = way.uneven({f: f for f in range(FLOWS)}), way.bracket()
    assert (b.passes, b.fails, b.grade) == (1450, 1451, "proof")
    assert found is not None and (found.size, set(found.ports_bad)) == (1450, worse)


@pytest.mark.parametrize("rate", [30e3, 100e3, 300e3, 1e6, 3e6])
@pytest.mark.parametrize("limit", [99_999, 1400])
def test_who_polices_bytes_is_no_smaller_path(limit: int, rate: float) -> None:
    way, _ = play(Path(limit=limit, rate=rate))
    assert way.uneven({}) is None and way.bracket().passes in (1400, 1500)


@pytest.mark.parametrize("tokens", [3, 6, 99])
def test_a_smaller_path_that_tells_is_not_uneven(tokens: int) -> None:
    left = [tokens] * 1

    def said(size: int) -> int | None:
        left[0] -= 1
        return 1400 if left[0] >= 0 else None

    for bad in ({0, 1, 2, 3}, {3, 5, 7, 9, 10, 11}, {11}):
        left[0] = tokens
        way, _ = play(Path(flows=dict.fromkeys(bad, 1400), told=said))
        assert way.uneven({}) is None and way.bracket().passes == 1500


def test_a_flow_on_which_nothing_arrives_is_no_limit() -> None:
    way, _ = play(Path(deaf=frozenset((0,))))
    assert way.bracket().passes == 1500 and way.bracket().fails is None


def test_fragments_dropped() -> None:
    way, took = play(Path(fragments=False))
    (s,) = way.splits()
    assert s.kind == "fragments" and s.sure and s.arrived == 0 and s.lost >= 6 and s.piece == 548 and s.sent < 12
    assert way.bracket().passes == 1500 and took < 0.15


def test_fragments_pass_under_loss() -> None:
    for seed in range(60):
        (s, *_) = play(Path(loss=0.05), seed)[0].splits()
        assert s.arrived or not s.sure


def test_cut_on_the_way() -> None:
    whole = next(s for s in play(Path(limit=1400, cuts=True))[0].splits() if s.kind == "whole")
    assert whole.size == 1500 and whole.cut == whole.arrived > 0
    whole = next(s for s in play(Path(limit=1400))[0].splits() if s.kind == "whole")
    assert whole.sure and whole.arrived == 0
    assert [s.kind for s in play(Path(limit=1400, cuts=True), family=6)[0].splits()] == ["fragments"]


def test_nothing_arrives() -> None:
    way, took = play(Path(silent_after=-1))
    assert way.bracket().passes is None and way.bracket().note == "nothing-arrives" and took < 2


def test_all_is_silent_from_one_moment_on() -> None:
    way, took = play(Path(limit=1400, delay=0.01, silent_after=0.025))
    b = way.bracket()
    assert b.fails is None and b.grade == "none" and took < 3.1


def test_our_own_device_is_smaller_than_believed() -> None:
    way = OneWay(tests="forward", method="udp-pair", family=4, ceiling=1500, start=0.0)
    now = 0.0
    while not way.done:
        for shot in way.step(now):
            if shot.size > 1400:
                way.local(shot.seq)
            else:
                way.arrived(now + 0.0001, shot.seq, shot.size)
        now += STEP
    assert (way.bracket().passes, way.bracket().fails, way.bracket().grade) == (1400, None, "proof")


def test_what_has_another_size_did_not_arrive() -> None:
    way = OneWay(tests="forward", method="udp-pair", family=4, ceiling=1500, start=0.0)
    (shot,) = way.step(0.0)
    way.arrived(0.1, shot.seq, SMALL + 1)
    way.arrived(0.1, 77, SMALL)
    way.told(0, 1400, "r")
    assert not way.open


def test_refused_at_once() -> None:
    way = OneWay(tests="forward", method="udp-pair", family=4, ceiling=1500, start=0.0)
    now = 0.0
    while not way.done:
        for shot in way.step(now):
            way.refused(shot.seq)
        now += STEP
    assert way.bracket().note == "refused" and now < 0.2
