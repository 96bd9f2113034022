"""The forward search without privileges, played by a simulated kernel and path."""

from dataclasses import dataclass, field
from random import Random

import pytest

from pathfit.core.measured import Bracket
from pathfit.measure.segments import METHOD, TAIL, Facts, Segments

HEADER = 52


@dataclass
class Wire:
    """``limit``: largest packet that gets out; ``told``: our kernel learns it; ``local``: what is larger does not even
    leave; ``loss`` each way; ``window`` of the peer; ``mute``: nothing is ever acknowledged."""

    limit: int = 9999
    mtu: int = 1500
    told: bool = False
    local: bool = False
    mute: bool = False
    loss: float = 0.0
    rtt: float = 0.001
    window: int | None = 64000
    route: int = 0  # path MTU our kernel has learned

    def run(self, seed: int = 1, **limits: int) -> tuple[Bracket, Segments, float]:
        self.random = Random(seed)
        search = Segments(family=4, start=0.0, **limits)  # type: ignore[arg-type]
        flows: list[Flow] = []
        now = 0.0
        while not search.finished and now < 6.0:
            flows += [Flow(self, n, now) for n in search.step(now)]
            for flow in flows:
                flow.look(search, now)
            now += max(search.pause(now), 0.001)
        return search.bracket(now), search, now


@dataclass
class Flow:
    """One connection: a segment per piece; a lost one is sent again when later ones were acknowledged, then with
    timeouts from 0.2 s on."""

    wire: Wire
    n: int
    opened: float
    mtu: int = 0
    arrived: list[float | None] = field(default_factory=list)  # when each piece is acknowledged
    ends: list[int] = field(default_factory=list)
    cut: bool = False
    blocked: int = 0  # bytes that cannot leave

    def look(self, search: Segments, now: float) -> None:
        w = self.wire
        if now < self.opened + w.rtt:
            return
        self.mtu = self.mtu or min(w.mtu, w.route or w.mtu)
        search.see(now, self.n, self.facts(now), 40000 + self.n)
        while not self.blocked and (length := search.piece(self.n)):
            self.send(now, length)
            search.see(now, self.n, self.facts(now))

    def send(self, now: float, length: int) -> None:
        w = self.wire
        size = length + HEADER
        self.ends.append((self.ends[-1] if self.ends else 0) + length)
        if size > w.limit and w.local:
            self.blocked = length
            self.arrived.append(None)
            return
        if size > w.limit and w.told:
            w.route, self.cut = w.limit, True
            self.arrived.append(now + 2 * w.rtt)
            return
        at: float | None = None
        for wait in (0.0, 2 * w.rtt + 0.005, 0.2, 0.6, 1.4):
            if not w.mute and size <= w.limit and self.random() >= w.loss and self.random() >= w.loss:
                at = now + wait + w.rtt
                break
        self.arrived.append(at)

    def random(self) -> float:
        return self.wire.random.random()

    def facts(self, now: float) -> Facts:
        here = [at is not None and at <= now for at in self.arrived]
        whole = here.index(False) if False in here else len(here)
        acked = self.ends[whole - 1] if whole else 0
        mtu = self.wire.route if self.cut or self.mtu == self.wire.route else self.mtu
        sacked = sum(here[whole:])
        return Facts(True, True, mtu - HEADER, mtu, acked, sacked, self.blocked, self.wire.rtt, 0, self.wire.window)


LIMITS = (300, 576, 700, 1000, 1159, 1280, 1337, 1396, 1400, 1411, 1420, 1437, 1450, 1492, 1499)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("rtt", [0.0005, 0.02, 0.1])
def test_hole_to_the_byte(limit: int, rtt: float) -> None:
    b, search, now = Wire(limit=limit, rtt=rtt).run()
    assert (b.method, b.passes, b.fails, b.grade, b.exact) == (METHOD, limit, limit + 1, "proof", True)
    assert len(search.lanes) <= 24
    if limit >= 1280:
        assert now <= 8 * rtt + max(2 * rtt, 0.05) + 0.03


@pytest.mark.parametrize("limit", [1500, 2290, 4399, 8950, 8999])
def test_jumbo_hole(limit: int) -> None:
    b, _, _ = Wire(limit=limit, mtu=9001).run()
    assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")


@pytest.mark.parametrize("mtu", [1280, 1396, 1500, 8900, 9001])
@pytest.mark.parametrize("window", [None, 4380, 14600, 64000])
def test_healthy(mtu: int, window: int | None) -> None:
    """Whatever the window: what does not fit into it is not sent, and the tail always gets out."""
    b, search, now = Wire(mtu=mtu, window=window).run()
    most = min(mtu, (4000 if window is None else window) - 218)
    assert (b.passes, b.fails, b.grade) == (most, None, "proof")
    assert now < 0.03 and len(search.lanes) == 2
    assert all(lane.sizes[-1] == TAIL and lane.ends[-1] <= (window or 4000) for lane in search.lanes)


@pytest.mark.parametrize("limit", [576, 1300, 1412, 1499])
def test_told_is_obeyed_and_named(limit: int) -> None:
    b, search, now = Wire(limit=limit, told=True).run()
    assert (b.passes, b.fails, b.grade, b.told_mtu) == (limit, limit + 1, "told", limit)
    assert search.learned and now < 0.2


def test_what_cannot_even_leave_is_a_step() -> None:
    """A device next to us drops and says so to our own TCP: no gap, since nothing later is sent."""
    b, _, now = Wire(limit=1404, local=True).run()
    assert (b.passes, b.fails, b.grade) == (1404, 1405, "step")
    assert now > 0.7


def test_silence_is_no_hole() -> None:
    b, _, _ = Wire(mute=True).run()
    assert (b.passes, b.fails, b.grade, b.note) == (None, None, "none", "no-answer")


def test_few_connections_are_enough() -> None:
    b, search, _ = Wire(limit=1337).run(total=8, parallel=4)
    assert len(search.lanes) <= 8
    assert b.passes is not None and b.fails is not None and b.passes <= 1337 < b.fails


def lossy(seeds: range) -> tuple[list[str], int]:
    wrong, unknown = [], 0
    for seed in seeds:
        limit = (9999, 1280, 1396, 1420, 1437, 1450, 1499, 576)[seed % 8]
        b, _, _ = Wire(limit=limit, loss=0.03).run(seed)
        want = (1500, None) if limit == 9999 else (limit, limit + 1)
        if b.grade == "none":
            unknown += 1
        elif (b.passes, b.fails) != want:
            wrong.append(f"seed {seed}: limit {limit}, said {b}")
    return wrong, unknown


def test_loss_changes_no_verdict() -> None:
    """3 % each way."""
    wrong, unknown = lossy(range(160))
    assert not wrong
    assert unknown <= 2


@pytest.mark.slow
def test_loss_changes_no_verdict_in_two_thousand_runs() -> None:
    wrong, unknown = lossy(range(2000))
    assert not wrong
    assert unknown <= 20
