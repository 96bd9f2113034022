"""The search for the largest packet that gets *out* with nothing but ordinary sockets. Pure.

One lane is one kernel TCP connection on which a harmless beginning of a request is written in pieces, each a segment
of its own and each larger than the one before, with a short tail behind them::

    head 128 | 1280 | 1340 | 1400 | 1420 | 1450 | 1500 | tail

What arrives in order is acknowledged (``tcpi_bytes_acked``), so the sum names the largest size that got out. Where
that stands still although the tail was acknowledged out of order (``tcpi_sacked`` > 0), the first piece behind the
sum is missing: the forward twin of probing.md 4. It counts when it stays, on several connections; the smaller pieces
that passed on the same connection are the control.

The kernel obeys a "too big" that comes back: it cuts the segments anew and remembers (``tcpi_pmtu`` falls). That is
told, and it leaves a cached path MTU behind (probing.md 1); so this search runs after the one inwards, and only
where raw sockets are not allowed.
"""

import msgspec

from pathfit.core.measured import Attempt, Bracket, Outcome
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS
from pathfit.measure import sizes
from pathfit.measure.verdict import PROOF_LEAST, PROOF_LOSSLESS, PROOF_LOSSY, SETTLE, SETTLE_LOSS, UNEVEN_AGE

METHOD = "tcp-segments"
HEAD, TAIL = 128, 90  # bytes of IP packet: below every limit
LOW = (296, 576)
PIECES = 8  # sized pieces on one lane; with head and tail the ten segments a connection may begin with (RFC 6928)
PAIR = 2  # lanes of the first round; their sizes interleave
WIDE = 9  # lanes of a later one, where that many are allowed: 60 bytes to the byte at once
BYTES = 48_000  # payload bytes on one lane: less than a usual first window
SMALL_WINDOW = 4_000  # payload bytes assumed where the kernel does not tell the peer's window (before 5.4)
MOST_ROUNDS = 9
PATIENCE = 1.5  # seconds until nothing at all was acknowledged means that nothing can be said
OVER = 0.030  # seconds, and three round trips, that a round waits for its slower lane (tail loss probe, RFC 8985)


class Facts(msgspec.Struct, frozen=True):
    """What struct tcp_info says about one lane. Bytes of payload, seconds; ``acked`` without the SYN."""

    established: bool
    timestamps: bool
    snd_mss: int
    pmtu: int
    acked: int
    sacked: int
    notsent: int
    rtt: float
    retrans: int
    window: int | None = None


class Lane(msgspec.Struct):
    """One connection. ``wanted``: sizes still to be written; ``pieces``: those written, with where each ends."""

    n: int
    round: int
    wanted: list[int]
    opened: float
    ready: float | None = None
    port: int = 0
    header: int = 0
    invited: int = 0  # largest packet the peer's SYN-ACK and our own route allow
    top: int = 0  # largest packet to write
    pmtu: int = 0
    rtt: float = 0.0
    retrans: int = 0
    syn_retrans: int = 0
    acked: int = 0
    sizes: list[int] = msgspec.field(default_factory=list)
    ends: list[int] = msgspec.field(default_factory=list)
    passed: int = 0  # largest piece acknowledged as it was written
    missing: int = 0  # size of the first piece missing while later ones arrived; 0: none
    since: float = 0.0
    mended: bool = False
    told: int | None = None  # the path MTU our kernel was told
    over: int = 0  # the piece that was too big; 0: it was told on another connection
    unsent: bool = False  # the missing piece did not even leave: our own kernel drops it and tries again
    frozen: float | None = None  # from here on the segments are no longer as written
    dead: bool = False
    closed: bool = False  # no longer needed; the shell closes it

    @property
    def complete(self) -> bool:
        over = not self.wanted or self.frozen is not None
        return over and bool(self.ends) and self.acked >= self.ends[-1]

    def stood(self, now: float) -> float:
        """Seconds a piece has been missing."""
        return (self.frozen if self.frozen is not None else now) - self.since if self.missing else 0.0

    def see(self, now: float, f: Facts) -> None:
        """Take one reading."""
        self.retrans, self.rtt = f.retrans, f.rtt
        if self.pmtu and f.snd_mss + self.header < self.top and self.frozen is None:
            # Cut anew: because somebody said "too big", or because our own kernel probes (tcp_mtu_probing).
            self.frozen = now
            if f.pmtu < self.pmtu:
                self.told = f.pmtu
                self.over = next((s for s in self.sizes if s > max(self.passed, f.pmtu)), 0)
        moved = f.acked > self.acked
        self.acked = f.acked
        if self.frozen is not None:
            return
        for size, end in zip(self.sizes, self.ends, strict=True):
            if end <= f.acked:
                self.passed = max(self.passed, size)
        if moved and self.missing:
            self.mended, self.missing = True, 0
        self._gap(now, f)

    def _gap(self, now: float, f: Facts) -> None:
        """Is something missing? Later pieces were acknowledged, this one was not. Or it cannot even leave although
        nothing is under way: a device next to us drops what is larger than its other half takes, and says so to our
        TCP (NET_XMIT_DROP), which keeps the segment for another time."""
        if self.missing:
            return
        first = next(((s, end) for s, end in zip(self.sizes, self.ends, strict=True) if end > f.acked), None)
        if first is None:
            return
        self.unsent = not f.sacked and f.notsent == first[1] - f.acked and first[1] == self.ends[-1]
        if f.sacked or self.unsent:
            self.missing, self.since = first[0], now


class Seen(msgspec.Struct, frozen=True):
    """All lanes read together: largest size that passed, smallest above it that is missing, on which lanes."""

    ok: int
    fails: int | None
    failing: tuple[Lane, ...]
    lossy: bool


class Segments(msgspec.Struct):
    """The shell opens what :meth:`step` returns, tells :meth:`see`, and writes what :meth:`piece` says."""

    family: int
    start: float
    floor: int = 576
    ceiling: int | None = None
    budget: float = 3.0
    total: int = 40
    parallel: int = 14
    lanes: list[Lane] = msgspec.field(default_factory=list)
    round: int = 0
    finished: bool = False
    note: str | None = None
    stuck: bool = False

    # -- events ----------------------------------------------------------------------------------------------

    def see(self, now: float, n: int, f: Facts, port: int = 0) -> None:
        """A reading of lane ``n``."""
        lane = self.lanes[n]
        if not f.established:
            lane.syn_retrans = f.retrans
            return
        if lane.ready is None:
            lane.ready, lane.port, lane.pmtu = now, port, f.pmtu
            lane.header = IP_HEADER[self.family] + TCP_HEADER + (TIMESTAMPS if f.timestamps else 0)
            lane.invited = lane.top = f.snd_mss + lane.header
            if self.ceiling is not None:
                lane.top = min(lane.top, self.ceiling)
            self._fit(lane, SMALL_WINDOW if f.window is None else f.window)
        lane.see(now, f)

    def failed(self, n: int, note: str) -> None:
        """The lane ended, or never was."""
        self.lanes[n].dead = True
        self.note = self.note or note

    def piece(self, n: int) -> int:
        """Payload bytes to write next on this lane, as a segment of its own; 0: nothing. Call it again only when
        everything written before has left (``tcpi_notsent_bytes`` 0)."""
        lane = self.lanes[n]
        if lane.ready is None or lane.dead or not lane.wanted or lane.frozen is not None:
            return 0
        size = lane.wanted.pop(0)
        payload = size - lane.header
        lane.sizes.append(size)
        lane.ends.append((lane.ends[-1] if lane.ends else 0) + payload)
        return payload

    def give_up(self, note: str) -> None:
        """End the search; what was measured stands."""
        self._finish(note)

    # -- the machine -----------------------------------------------------------------------------------------

    def step(self, now: float) -> list[int]:
        """Numbers of lanes to open now."""
        if self.finished:
            return []
        if self.round == 0:
            return self._search_round(now, 0, 0)
        live = [lane for lane in self.lanes if not lane.dead and not lane.closed]
        if not live:
            self._finish("no-connection")
        elif now - self.start > self.budget:
            self._finish("time")
        elif any(lane.over and lane.complete for lane in live):
            self._finish(None)
        elif now - self.start > PATIENCE and not any(lane.acked for lane in live):
            self._finish("no-answer")
        elif self._over(now):
            return self._plan(now)
        return []

    def pause(self, now: float) -> float:
        """Seconds until the next look is worth while."""
        return min(max(self.rtt / 8, 0.001), 0.005)

    @property
    def polite(self) -> bool:
        return self.parallel < WIDE

    @property
    def rtt(self) -> float:
        return min((lane.rtt for lane in self.lanes if lane.ready is not None), default=0.0)

    @property
    def top(self) -> int:
        return max((lane.top for lane in self.lanes), default=0)

    def seen(self, now: float, age: float) -> Seen:
        """Read all lanes; a piece counts as missing after ``age`` seconds."""
        ok = max((lane.passed for lane in self.lanes), default=0)
        gaps = [lane for lane in self.lanes if lane.missing > ok and lane.stood(now) >= age]
        fails = min((lane.missing for lane in gaps), default=None)
        lossy = any(
            lane.syn_retrans or lane.mended or (0 < lane.missing <= ok and lane.stood(now) > 0) for lane in self.lanes
        )
        return Seen(ok, fails, tuple(lane for lane in gaps if lane.missing == fails and not lane.closed), lossy)

    # -- inside ----------------------------------------------------------------------------------------------

    def _fit(self, lane: Lane, window: int) -> None:
        """Only what the kernel would send, and what the peer's window takes at once: the tail must get out too."""
        if lane.round == 1 and not lane.wanted:
            rungs = sorted({*LOW, *sizes.ladder(self.floor, lane.top, 2 * PIECES - 2 - len(LOW))})
            lane.wanted = [HEAD, *[s for s in rungs[lane.n % PAIR :: PAIR] if HEAD < s < lane.top], lane.top, TAIL]
        room = min(BYTES, window)
        lane.top = min(lane.top, room - HEAD - TAIL)
        middle = sorted({min(s, lane.top) for s in lane.wanted[1:-1]})
        while len(middle) > 1 and sum(middle) + HEAD + TAIL > room:
            # The largest stays, and the spread: every second goes, then the largest but one.
            middle = [*middle[:-1][::2], middle[-1]] if len(middle) > 2 else middle[-1:]
        lane.wanted = [HEAD, *middle, TAIL]

    def _open(self, now: float, wanted: list[list[int]]) -> list[int]:
        self.round += 1
        out = []
        if self.polite:  # those before were guides to the bracket, not evidence
            for lane in self.lanes:
                lane.closed, lane.frozen = True, now if lane.frozen is None else lane.frozen
        for middle in wanted[: max(0, min(self.parallel, self.total - len(self.lanes)))]:
            lane = Lane(n=len(self.lanes), round=self.round, opened=now, wanted=[HEAD, *middle, TAIL] if middle else [])
            self.lanes.append(lane)
            out.append(lane.n)
        return out

    def _search_round(self, now: float, ok: int, fails: int) -> list[int]:
        """Round 1 (``fails`` 0): a ladder, known once the connection stands. Later: the range cut, the size beside a
        common limit first of all."""
        if not fails:
            return self._open(now, [[] for _ in range(PAIR)])
        width = PAIR if self.polite else WIDE
        cuts = sorted({ok + 1, *sizes.section(ok, fails, width * (PIECES - 1) - 1)})
        return self._open(now, [[*cuts[i::width], fails] for i in range(min(width, len(cuts)))])

    def _over(self, now: float) -> bool:
        """Have the lanes of this round said what they can for now?"""
        mine = [lane for lane in self.lanes if lane.round == self.round and not lane.dead]
        soon = self._tentative()
        said = [lane for lane in mine if lane.complete or (lane.missing and lane.stood(now) >= soon)]
        if len(said) == len(mine):
            return True
        patience = OVER + 3 * self.rtt
        return bool(said) and all(now - (lane.ready or lane.opened) > patience for lane in mine)

    def _tentative(self) -> float:
        return max(self.rtt / 4, 0.002)

    def _plan(self, now: float) -> list[int]:
        soon = self.seen(now, self._tentative())
        if soon.fails is None:
            self._open_end(now, soon)
            return []
        room = self.total - len(self.lanes)
        if soon.fails - max(soon.ok, HEAD) > 1 and self.round < MOST_ROUNDS and room >= PAIR + PROOF_LEAST:
            return self._search_round(now, soon.ok, soon.fails)
        need = max(self._need(now, soon), PROOF_LEAST if self.polite else PROOF_LOSSLESS)
        missing = need - len(soon.failing)
        if missing > 0 and self.polite:
            missing = need  # the ones before are closed for them
        missing = min(missing, room)
        if missing > 0 and self.round < MOST_ROUNDS:
            again = [s for s in (soon.ok, soon.fails) if s > HEAD]
            return self._open(now, [again] * missing)
        if self._settled(now, soon):
            self._finish(None)
        return []

    def _settled(self, now: float, soon: Seen) -> bool:
        old = sum(lane.stood(now) >= self._age(soon) for lane in soon.failing)
        return old == len(soon.failing) or (soon.lossy and old >= self._need(now, soon))

    def _need(self, now: float, seen: Seen) -> int:
        """Lanes that have to lack the failing size. Fewer where that many lack it or a larger one for long: the hole is
        certain then, and only its byte is not."""
        if not seen.lossy:
            return PROOF_LEAST
        lack = sum(lane.missing >= (seen.fails or 0) > 0 and lane.stood(now) >= SETTLE_LOSS for lane in self.lanes)
        return PROOF_LOSSLESS if lack >= 2 * PROOF_LOSSY else PROOF_LOSSY

    def _age(self, seen: Seen) -> float:
        """Seconds a gap must stand."""
        slow = seen.lossy or any(lane.unsent for lane in seen.failing)
        return max(2 * self.rtt, SETTLE_LOSS if slow else SETTLE)

    def _open_end(self, now: float, soon: Seen) -> None:
        """Nothing is missing above what passes. A piece that is missing below it was lost, or its flow is another."""
        if soon.ok >= self.top:
            below = [lane for lane in self.lanes if lane.missing and not lane.dead]
            if any(lane.stood(now) < UNEVEN_AGE for lane in below):
                return
            self.stuck = bool(below)
            self._finish("uneven" if below else None)

    def _finish(self, note: str | None) -> None:
        self.finished = True
        self.note = self.note or note

    # -- the facts -------------------------------------------------------------------------------------------

    @property
    def learned(self) -> bool:
        """Has our own kernel been told a path MTU (which it now keeps for ten minutes)?"""
        return any(lane.told is not None for lane in self.lanes)

    def bracket(self, now: float) -> Bracket:
        """The verdict. Notes: "no-connection", "no-answer", "uneven", "unproven", "time"."""
        told = [lane for lane in self.lanes if lane.told is not None]
        seen = self.seen(now, 0.0)
        if told:
            return self._told(told, seen)
        if not seen.ok:
            return Bracket(method=METHOD, tests="forward", note=self.note or "no-answer")
        if seen.ok >= self.top:
            grade, note = ("none", "uneven") if self.stuck else ("proof", None)
            return Bracket(method=METHOD, tests="forward", passes=seen.ok, grade=grade, note=note)  # type: ignore[arg-type]
        need = self._need(now, seen)
        old = [lane for lane in seen.failing if lane.stood(now) >= self._age(seen)]
        if seen.fails is None or len(old) < need:
            return Bracket(method=METHOD, tests="forward", passes=seen.ok, note=self.note or "unproven")
        return Bracket(
            method=METHOD,
            tests="forward",
            passes=seen.ok,
            fails=seen.fails,
            grade="step" if any(lane.unsent for lane in old) else "proof",
            exact=seen.ok + 1 == seen.fails,
        )

    def _told(self, told: list[Lane], seen: Seen) -> Bracket:
        """Our kernel obeyed: packets of the size it was told got through if the rest was acknowledged afterwards."""
        mtu = min(lane.told or 0 for lane in told)
        over = min((lane.over for lane in told if lane.over), default=0)
        obeyed = [mtu] if any(lane.complete and lane.over > mtu for lane in told) else []
        passes = max([seen.ok, *obeyed])
        fails = mtu + 1 if passes == mtu else over
        if passes >= fails or not obeyed:  # a "too big" that measured untrue, or did not help
            return Bracket(method=METHOD, tests="forward", passes=seen.ok or None, note="unproven", told_mtu=mtu)
        return Bracket(
            method=METHOD,
            tests="forward",
            passes=passes,
            fails=fails,
            grade="told",
            exact=passes + 1 == fails,
            told_mtu=mtu,
        )

    def attempts(self, first: int, start: float, now: float) -> list[Attempt]:
        """Every sized piece as one attempt, numbered from ``first``."""
        out: list[Attempt] = []
        for lane in self.lanes:
            for size in lane.sizes:
                if size == TAIL:
                    continue
                outcome: Outcome = "passed" if size <= lane.passed else "aborted"
                if lane.told is not None and lane.over and size >= lane.over:
                    outcome = "told"
                elif size == lane.missing:
                    outcome = "lost"
                out.append(
                    Attempt(
                        n=first + len(out),
                        method=METHOD,
                        size=size,
                        outcome=outcome,
                        port=lane.port,
                        acked=lane.acked,
                        gap=round(lane.stood(now), 4) if size == lane.missing else 0.0,
                        retrans=lane.retrans,
                        rtt=lane.rtt,
                        at=round(lane.opened - start, 4),
                        round=lane.round,
                        mtu=lane.told if outcome == "told" else None,
                    )
                )
        return out
