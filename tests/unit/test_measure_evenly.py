"""Is what two connections found so for all? Played by simulated connections, each with a way of its own."""

from dataclasses import dataclass, field
from random import Random

import pytest

from pathfit.core.measured import Bracket
from pathfit.measure.evenly import MANY, WIDER, Evenly, wanted
from pathfit.measure.forward import DATA, Forward, Inject, OpenLane


@dataclass
class Ways:
    """``limits``: largest packet that gets out, by lane; ``loss`` each way; ``told``: who drops says so; ``shut``: no
    more connections are taken."""

    limits: tuple[int, ...]
    loss: float = 0.0
    rtt: float = 0.001
    told: bool = False
    shut: bool = False
    rate: float = 0.0  # bytes a second that are let through, and ten segments at once; 0: all
    tokens: float = 15_000.0
    filled: float = 0.0
    sent: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    def run(self, passes: int, fails: int | None, seed: int = 1) -> tuple[Evenly, float]:
        random, now = Random(seed), 0.0
        search = Evenly(family=4, start=0.0, passes=passes, fails=fails, lanes=Evenly.after(Forward(4, 0.0), 0.0).lanes)
        arriving: list[tuple[float, int, tuple[tuple[int, int], ...] | None]] = []
        while not search.finished:
            for c in search.step(now):
                if isinstance(c, OpenLane):
                    if not self.shut and random.random() >= self.loss:
                        arriving.append((now + self.rtt, c.lane, None))
                elif (
                    self.passes(c.size, now)
                    and (blocks := self.inject(search, c, random))
                    and random.random() >= self.loss
                ):
                    arriving.append((now + self.rtt, c.lane, blocks))
            now += max(search.pause(now), 0.0005)
            assert now < 10, "it does not end"
            for _, lane, said in (a for a in sorted(arriving, key=lambda a: a[0]) if a[0] <= now):
                self.deliver(search, now, lane, said)
            arriving = [a for a in arriving if a[0] > now]
        return search, now

    def passes(self, size: int, now: float) -> bool:
        """Who polices bytes (a token bucket) lets small ones through when large ones no longer fit."""
        self.tokens, self.filled = min(15_000.0, self.tokens + (now - self.filled) * self.rate), now
        if not self.rate or size <= self.tokens:
            self.tokens -= size if self.rate else 0
            return True
        return False

    def inject(self, search: Evenly, c: Inject, random: Random) -> tuple[tuple[int, int], ...]:
        self.sent += 1
        limit = self.limits[c.lane % len(self.limits)]
        if c.size > limit:
            if self.told:
                search.told(c.lane, c.size, limit, "192.0.2.1")
            return ()
        if random.random() < self.loss:
            return ()
        if c.offset == DATA:
            self.seen[c.lane] = max(self.seen.get(c.lane, 0), DATA + c.size - 52)
        large = ((DATA, self.seen[c.lane]),) if c.lane in self.seen else ()
        return large if c.offset == DATA else ((c.offset, c.offset + c.size - 52), *large)

    def deliver(self, search: Evenly, now: float, lane: int, said: tuple[tuple[int, int], ...] | None) -> None:
        if said is not None:
            search.acked(now, lane, said)
            return
        more = {"offered": 1500, "sendable": 1500, "rtt": self.rtt, "window": 64000, "port": 1000 + lane}
        search.ready(now, lane, timestamps=True, sack=True, **more)


FOUND = Bracket(method="tcp-sack", tests="forward", passes=1400, fails=1401, grade="proof", exact=True)


@pytest.mark.parametrize("loss", [0.0, 0.03])
@pytest.mark.parametrize(("passes", "fails"), [(1500, None), (1400, 1401)])
def test_flows_draw_their_way(passes: int, fails: int | None, loss: float) -> None:
    """Whichever of two ways the two of the search had got."""
    for seed in range(25):
        rng = Random(seed)
        limits = tuple(rng.choice((1500, 1400)) for _ in range(MANY + WIDER))
        if len(set(limits[:MANY])) == 1:
            continue
        search, took = Ways(limits, loss=loss).run(passes, fails, seed)
        found = search.uneven()
        lost = {1000 + i for i, it in enumerate(search.lanes) if it.ready and limits[i] == 1400}
        assert found is not None and (found.size, found.tests) == (1500, "forward"), seed
        assert set(found.ports_bad) == lost and found.good == sum(it.ready for it in search.lanes) - len(lost), seed
        corrected = search.corrected(FOUND)
        assert (corrected.passes, corrected.fails, corrected.grade) == (1500, None, "none")
        assert took < 0.3 + 3 * loss * 20


@pytest.mark.parametrize("loss", [0.0, 0.03, 0.08])
@pytest.mark.parametrize(("passes", "fails"), [(1500, None), (1400, 1401)])
def test_all_alike(passes: int, fails: int | None, loss: float) -> None:
    for seed in range(25):
        search, took = Ways((passes,), loss=loss).run(passes, fails, seed)
        assert search.uneven() is None and len(search.lanes) in (MANY, MANY + WIDER)
        assert search.corrected(FOUND) == FOUND or passes == 1500
        assert took < 1.2


def test_it_costs_little_where_all_are_alike() -> None:
    ways = Ways((1500,))
    search, took = ways.run(1500, None)
    assert len(search.lanes) == MANY and ways.sent <= 6 * MANY and took < 0.02


@pytest.mark.parametrize("odd", [1400, 1500])
def test_one_that_stands_alone_is_asked_twice_as_often_and_others_beside_it(odd: int) -> None:
    other = 2900 - odd
    search, _ = Ways((odd, *[other] * (MANY + WIDER - 1))).run(1500, None)
    found = search.uneven()
    assert len(search.lanes) == MANY + WIDER
    assert found is not None and sorted((found.good, found.bad)) == [1, MANY + WIDER - 1]


def test_a_smaller_way_that_tells_is_not_uneven() -> None:
    assert Ways((1500, 1400), told=True).run(1500, None)[0].uneven() is None


@pytest.mark.parametrize("rate", [30e3, 100e3, 300e3, 1e6, 3e6])
@pytest.mark.parametrize(("passes", "fails"), [(1500, None), (1400, 1401)])
def test_who_polices_bytes_is_no_smaller_way(passes: int, fails: int | None, rate: float) -> None:
    search, took = Ways((passes,), rate=rate).run(passes, fails)
    assert search.uneven() is None and took < 3.1


def test_who_takes_no_more_connections_is_not_waited_for() -> None:
    search, took = Ways((1500,), shut=True).run(1500, None)
    assert search.uneven() is None and took < 0.3


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (FOUND, True),
        (Bracket(method="tcp-sack", tests="forward", passes=1500, grade="proof"), True),
        (Bracket(method="tcp-sack", tests="forward", passes=1400, fails=1401, grade="told"), False),
        (
            Bracket(method="tcp-sack", tests="forward", passes=1400, fails=1401, grade="proof", note="told-in-part"),
            False,
        ),
        (Bracket(method="tcp-sack", tests="forward", note="no-sack"), False),
    ],
)
def test_when_it_is_worth_asking(found: Bracket, asked: bool) -> None:
    assert wanted(found) is asked
