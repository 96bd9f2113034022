"""The search for the largest packet that gets *out*, judged by answers that are always small. Pure.

One lane is one kernel TCP connection into which segments are injected, all beyond what the connection itself has
sent and with one byte left out in front, so that the peer's TCP keeps them aside and its application never sees
them::

    snd_nxt                 the byte never sent
    + 2, 4, 6 ...           controls, one byte each with a gap after it: "the path and the peer are alive"
    + DATA                  segments of growing size that all begin here

Every segment that arrives is answered at once by a small acknowledgement with SACK blocks (RFC 2018, RFC 5681
4.2): the block that begins at DATA ends where the largest segment that arrived ended. An answer to a control that
was sent after a large segment, and no growth of that block, is a hole; repeated, and on a second connection, it is
proof (probing.md 4, "forward twin"). A "too big" that comes back is news about who dropped it, never the judge.
"""

from collections.abc import Sequence

import msgspec

from pathfit.core.measured import Attempt, Bracket, Outcome
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS
from pathfit.measure import sizes
from pathfit.measure.verdict import SETTLE

CONTROLS = 120  # one-byte controls that fit below DATA
DATA = 2 * CONTROLS + 16  # offset of the sized segments from snd_nxt
LANES = 2
SPARES = 1  # lanes more, where one is missing when something has to be proved
SLOW = 0.05  # seconds, and three round trips, until a handshake is missing: the next SYN is a second away
REPEATS = 3  # failing size sent so often on each lane, a control after each
REPEATS_LOSS = 6
ROUND = 12  # sizes in one round
# Receivers compress acknowledgements of out-of-order data after the third (tcp_comp_sack_nr): the answer to the last
# control may not come at all. So it is asked again soon, and only several unanswered ones are a sign of loss.
PACE = 0.003  # seconds, or one and a half RTT, until the next control
BLOCKS = 3  # of an answer with timestamps; without there is room for one more
SIGN = 4  # controls in a row without an answer that are a sign of loss
# Linux tells one destination six times at once, then once a second (icmp_ratelimit, inet_peer_xrlim_allow()): what was
# not told although two later ones were, this soon after it, would not have been told at all.
TOLD_SOON, TOLD_LATER = 0.3, 2
LONG_PAUSE = 0.010  # seconds between two looks while a proof only grows older
PATIENT = 1.5  # seconds from the start in which the second connection may come about
PATIENCE = 1.2  # seconds without any answer to any control: nothing can be said


class OpenLane(msgspec.Struct, frozen=True):
    """Open a connection for lane ``lane`` (0, 1; 2 where one of them is missing)."""

    lane: int


class Inject(msgspec.Struct, frozen=True):
    """Send one segment on a lane: ``size`` bytes of IP packet at ``offset`` from snd_nxt."""

    lane: int
    size: int
    offset: int


Command = OpenLane | Inject


class Sent(msgspec.Struct):
    """One sized segment: when it was sent, and the controls in front of it and behind it. ``seen``: an answer came that
    would have shown it. ``void``: it was lost together with what passes alone, which says nothing of its size."""

    size: int
    at: float
    round: int
    control: int
    before: int = -1
    local: bool = False
    seen: bool = False
    void: bool = False


class Lane(msgspec.Struct):
    """What happened on one connection. ``ceiling``: largest packet both ends and our link allow."""

    n: int
    asked: bool = False
    header: int = 0  # IP + TCP + options
    ceiling: int = 0
    rtt: float = 0.0
    opened: float = 0.0
    ready: bool = False
    dead: bool = False
    port: int = 0
    controls: int = 0  # sent
    answered: set[int] = msgspec.field(default_factory=set)  # controls answered
    heard: float = 0.0  # last answer
    started: float = 0.0
    silent: int = 0  # controls in a row without an answer
    passed: int = 0  # largest size acknowledged
    sent: list[Sent] = msgspec.field(default_factory=list)
    told: dict[int, tuple[int, str]] = msgspec.field(default_factory=dict)  # size -> (mtu, by)

    def control(self) -> int:
        """Number of the next control. When they run out the last is sent again: a duplicate is answered too
        (RFC 2883), as the first block."""
        n = min(self.controls, CONTROLS - 1)
        self.controls += 1
        return n

    def answered_since(self, control: int) -> bool:
        """Was this control, or one sent after it, answered?"""
        return any(n >= control for n in self.answered)

    def lost(self, size: int) -> list[Sent]:
        """Segments of this size that were not acknowledged although a control sent after them was.

        An answer has room for three blocks, the newest (RFC 2018 section 4): where those before it got lost on their
        way back, it may tell of nothing but controls. So of each round one answer must have been able to show them.
        """
        if self.passed >= size:
            return []
        mine = [s for s in self.sent if s.size == size and not s.local and not s.void]
        seen = {s.round for s in mine if s.seen}
        return [s for s in mine if s.round in seen and self.answered_since(s.control)]

    def look(self, controls: Sequence[int], *, whole: bool) -> None:
        """An answer came: of which segments would it have told? Of all when it is ``whole``: has room left, or shows
        what of DATA has come. Else of those sent after the oldest block it shows."""
        for s in self.sent:
            if s.control <= max(controls) and (whole or min(controls) <= s.before):
                s.seen = True


def header_of(family: int, timestamps: bool) -> int:
    """Header bytes of an injected segment."""
    return IP_HEADER[family] + TCP_HEADER + (TIMESTAMPS if timestamps else 0)


class Forward(msgspec.Struct):
    """See the module. The shell calls ``ready``/``failed``/``acked``/``told``/``local`` and carries out what
    :meth:`step` returns."""

    family: int
    start: float
    floor: int = 576
    budget: float = 3.0
    ceiling: int | None = None
    lanes: list[Lane] = msgspec.field(default_factory=lambda: [Lane(n=i) for i in range(LANES)])
    round: int = 0
    finished: bool = False
    note: str | None = None
    lossy: bool = False
    local_limit: int | None = None
    _round_at: float = 0.0
    _old_at: float = 0.0  # when what is missing has been missing for long enough, while nothing else is to do
    _blank: bool = False  # the first round brought nothing at all
    _last: dict[int, int] = msgspec.field(default_factory=dict)  # lane -> control that closes the round

    # -- events ----------------------------------------------------------------------------------------------

    def ready(self, now: float, lane: int, *, timestamps: bool, sack: bool, offered: int, sendable: int, rtt: float,
              window: int, port: int) -> None:  # fmt: skip
        """The lane's connection stands. ``offered``: what their SYN-ACK invites; ``sendable``: our own route."""
        it = self.lanes[lane]
        it.header = header_of(self.family, timestamps)
        it.ceiling = min(offered, sendable, window - DATA + it.header)
        if self.ceiling is not None:
            it.ceiling = min(it.ceiling, self.ceiling)
        it.rtt, it.port, it.ready, it.started = rtt, port, True, now
        if not sack:
            it.dead = True
            self.note = "no-sack"
        elif it.ceiling < it.header + 8:  # a SYN proxy opens its window only when the server behind it answers
            it.dead = True
            self.note = "small-mss" if min(offered, sendable) < it.header + 8 else "small-window"

    def failed(self, lane: int, note: str) -> None:
        """The lane's connection did not come about, or ended."""
        self.lanes[lane].dead = True
        self.note = self.note or note

    def acked(self, now: float, lane: int, blocks: Sequence[tuple[int, int]]) -> None:
        """SACK blocks that came, as offsets from snd_nxt."""
        it = self.lanes[lane]
        if blocks and it.sent:
            # The handshake's own round trip may hold the time a neighbour needed to be found; an answer does not.
            it.rtt = min(it.rtt, max(now - self._round_at, 1e-5))
        it.heard = now
        controls = [left // 2 - 1 for left, right in blocks if 0 < left < DATA and right == left + 1]
        if controls:
            it.look(controls, whole=len(blocks) < BLOCKS or any(left == DATA for left, _ in blocks))
        for left, right in blocks:
            if left == DATA:
                # Only sizes that were sent can be acknowledged; anything else is somebody's mischief.
                size = right - DATA + it.header
                if any(s.size == size for s in it.sent):
                    it.passed = max(it.passed, size)
            elif 0 < left < DATA and right == left + 1:
                it.answered.add(left // 2 - 1)

    def told(self, lane: int, size: int, mtu: int, by: str) -> None:
        """A sane "too big" that quotes one of our segments."""
        self.lanes[lane].told.setdefault(size, (mtu, by))

    def local(self, lane: int, size: int) -> None:
        """EMSGSIZE: our own link is smaller than this (probing.md 5: no hole)."""
        for s in self.lanes[lane].sent:
            if s.size == size:
                s.local = True
        self.local_limit = min(self.local_limit or size, size)

    # -- the machine -----------------------------------------------------------------------------------------

    def step(self, now: float) -> list[Command]:
        """What to do now."""
        if self.finished:
            return []
        out: list[Command] = []
        for it in self.lanes:
            if not it.asked:
                it.asked, it.opened = True, now
                out.append(OpenLane(it.n))
        live = [it for it in self.lanes if it.ready and not it.dead]
        waiting = [it for it in self.lanes if not it.ready and not it.dead]
        if now - self.start > self.budget:
            self._finish("time" if any(it.ready for it in self.lanes) else "no-connection")
        elif not live:
            if not waiting:
                self._finish("no-connection")
        elif self.round == 0:
            self._first(now, live[0], out)
        else:
            self._go_on(now, live, waiting, out)
        return out

    def pause(self, now: float) -> float:
        """Seconds until the next look is worth while. An answer wakes the engine by itself."""
        if now < self._old_at:
            return min(self._old_at - now, LONG_PAUSE)
        rtt = max((it.rtt for it in self.lanes), default=0.0)
        return min(max(rtt / 8, 0.0005), 0.005)

    @property
    def rtt(self) -> float:
        return max((it.rtt for it in self.lanes if it.ready), default=0.0)

    @property
    def passed(self) -> int:
        return max(it.passed for it in self.lanes)

    def hints(self) -> set[int]:
        """Sizes that may be the limit inwards as well: what was told on the way out, and where this search ended."""
        said = {mtu for it in self.lanes for mtu, _ in it.told.values()}
        return said | {self.passed} if self.finished and self.passed else said

    def top(self, lane: Lane) -> int:
        """The largest size worth sending."""
        return lane.ceiling if self.local_limit is None else min(lane.ceiling, self.local_limit - 1)

    def _control(self, now: float, it: Lane, out: list[Command]) -> int:
        n = it.control()
        out.append(Inject(it.n, it.header + 1, 2 * n + 2))
        return n

    def _send(self, now: float, it: Lane, wanted: list[int], out: list[Command], *, guarded: bool = False) -> None:
        """Sizes in this order, then a control. ``guarded``: a control after each."""
        self._round_at = now
        batch: list[Sent] = []
        self._control(now, it, out)
        for size in wanted:
            sent = Sent(size, now, self.round, -1, it.controls - 1)
            batch.append(sent)
            it.sent.append(sent)
            out.append(Inject(it.n, size, DATA))
            if guarded:
                sent.control = self._control(now, it, out)
        last = self._control(now, it, out)
        for sent in batch:
            if sent.control < 0:
                sent.control = last
        # One more, whose answer nobody waits for: it calls forth the answer to the one before, see PACE.
        self._control(now, it, out)
        self._last[it.n] = batch[-1].control if batch else last

    def _first(self, now: float, it: Lane, out: list[Command]) -> None:
        self.round = 1
        top = self.top(it)
        least = it.header + 8
        rungs = [s for s in sizes.ladder(self.floor, top, ROUND) if s > least]
        wanted = sorted({*rungs, *[s for s in (296, sizes.SENTINEL) if least < s < top]})
        self._send(now, it, [top, *wanted], out)  # the asked client's own size first: whoever tells is still fresh

    def _go_on(self, now: float, live: list[Lane], waiting: list[Lane], out: list[Command]) -> None:
        if not self._round_over(now, live, out):
            return
        it = live[0]
        top, lo = self.top(it), self.passed
        if self._blank and lo and self._ladder_again(now, it, out):
            return
        self._blank = self._blank or not lo
        above = self._above(lo)
        if lo >= top or not above:
            self._finish(None)
            return
        hi = above[0]
        if hi - lo > 1 and lo:
            self.round += 1
            self._send(now, it, self._cut(it, lo, hi), out)
            return
        self._prove(now, live, waiting, lo, hi, out)

    def _above(self, lo: int) -> list[int]:
        """Sizes above ``lo`` that were sent, smallest first."""
        return sorted({s.size for x in self.lanes for s in x.sent if s.size > lo and not s.local and not s.void})

    def _ladder_again(self, now: float, it: Lane, out: list[Command]) -> bool:
        """All of the first round was lost, and its smallest size passes alone: what is too large took the rest with it
        (one sendmmsg(2) of a program that forwards). The sizes again, the smaller ones in front."""
        self._blank = False
        again = sorted({s.size for s in it.sent if s.size > self.passed and not s.local})
        for lane in self.lanes:
            for s in lane.sent:
                s.void = s.void or s.size > self.passed
        self.round += 1
        self._send(now, it, again, out)
        return bool(again)

    def _cut(self, it: Lane, lo: int, hi: int) -> list[int]:
        """Sizes between; what a "too big" said comes first, it is mostly true."""
        hints = {m for m, _ in it.told.values() if lo <= m < hi}
        wanted = set(sizes.section(lo, hi, ROUND))
        for m in hints:
            wanted |= {s for s in (m, m + 1) if lo < s < hi}
        return sorted(wanted)

    def _round_over(self, now: float, live: list[Lane], out: list[Command]) -> bool:
        """Every lane of the round answered the control sent last, and what was in front had its chance."""
        for it in live:
            last = self._last.get(it.n)
            if last is None:
                continue
            if not it.answered_since(last):
                age = now - max(self._round_at, it.heard)
                if age > max(PACE, 1.5 * it.rtt):
                    if now - max(it.started, it.heard) > PATIENCE:
                        self.failed(it.n, "no-answer")
                        continue
                    it.silent += 1
                    self.lossy = self.lossy or it.silent >= SIGN
                    self._round_at = now
                    self._control(now, it, out)
                return False
            it.silent = 0
            if now - it.heard < max(it.rtt / 4, 0.001) and self.passed < self.top(it):
                return False
        return True

    def _prove(self, now: float, live: list[Lane], waiting: list[Lane], lo: int, hi: int, out: list[Command]) -> None:
        """The failing size again, on every lane, with the passing one beside it."""
        need = REPEATS_LOSS if self.lossy else REPEATS
        top = min(self.top(it) for it in live)
        silent = any(it.told for it in self.lanes) and not any(s >= top for it in self.lanes for s in it.told)
        todo = [it for it in live if len(it.lost(hi)) < need or it.passed < lo or (silent and not it.lost(top))]
        if todo:
            if max(sum(1 for s in it.sent if s.size == hi) for it in todo) > 4 * need:
                self._finish("unproven")
                return
            self.round += 1
            for it in todo:
                first = [top] * (need - len(it.lost(top))) if silent and top > hi else []
                again = [s for s in (lo,) if s > it.header + 1] + [hi] * (need - min(need - 1, len(it.lost(hi))))
                self._send(now, it, [*first, *again], out, guarded=True)
            return
        if len(live) < LANES and (self._spare(now, live, waiting, out) or (waiting and now - self.start < PATIENT)):
            return  # the second connection is still being made
        self._old_at = self._round_at + max(2 * self.rtt, SETTLE)
        if now >= self._old_at:
            self._finish(None)

    def _spare(self, now: float, live: list[Lane], waiting: list[Lane], out: list[Command]) -> bool:
        """One connection more where one is missing: its SYN or the answer got lost, or it ended."""
        soon = sum(now - it.opened < max(SLOW, 3 * self.rtt) for it in waiting)
        if len(live) + soon >= LANES or len(self.lanes) >= LANES + SPARES:
            return False
        self.lanes.append(Lane(n=len(self.lanes), asked=True, opened=now))
        out.append(OpenLane(self.lanes[-1].n))
        return True

    def give_up(self, note: str) -> None:
        """End the search; what was measured stands."""
        self._finish(note)

    def _finish(self, note: str | None) -> None:
        self.finished = True
        self.note = self.note or note

    # -- the facts -------------------------------------------------------------------------------------------

    def bracket(self) -> Bracket:
        """The verdict. Notes: "no-connection", "no-sack", "no-answer" (nothing injected is answered: a filter, or
        a peer that does not acknowledge out of order), "unproven", "one-connection", "time", "told-in-part" (the
        largest vanish in silence; some that fail as well are answered "too big")."""
        lo = self.passed
        tops = [self.top(it) for it in self.lanes if it.ready]
        answered = any(it.answered for it in self.lanes)
        if not answered or not tops:
            return Bracket(method="tcp-sack", tests="forward", note=self.note or "no-answer")
        if lo >= max(tops):
            return Bracket(method="tcp-sack", tests="forward", passes=lo, grade="proof")
        above = self._above(lo)
        if not above:
            return Bracket(method="tcp-sack", tests="forward", passes=lo or None, note=self.note)
        hi = above[0]
        need = REPEATS_LOSS if self.lossy else REPEATS
        proof = [it for it in self.lanes if len(it.lost(hi)) >= need]
        told = [(m, by) for it in self.lanes for s, (m, by) in it.told.items() if s >= hi]
        # The one to believe is the one that measured true; another is reported, not followed.
        best = next(((m, by) for m, by in told if m == lo), told[0] if told else None)
        if len(proof) < 1 or (len(proof) < LANES and not told):
            note = "one-connection" if proof else self.note or "unproven"
            return Bracket(method="tcp-sack", tests="forward", passes=lo or None, fails=None, note=note)
        if self._silent_above(told_sizes=[s for it in self.lanes for s in it.told]):
            return Bracket(
                method="tcp-sack",
                tests="forward",
                passes=lo or None,
                fails=hi,
                grade="proof",
                exact=lo + 1 == hi,
                note="told-in-part",
            )
        return Bracket(
            method="tcp-sack",
            tests="forward",
            passes=lo or None,
            fails=hi,
            grade="told" if told else "proof",
            exact=lo + 1 == hi,
            told_by=best[1] if best else None,
            told_mtu=best[0] if best else None,
        )

    def _silent_above(self, told_sizes: list[int]) -> bool:
        """Does the largest size vanish untold, on every lane, while later segments were told at once?"""
        used = [it for it in self.lanes if it.ready and it.sent]
        if not told_sizes or len(used) < LANES:
            return False
        top = min(self.top(it) for it in used)
        gone = [it.lost(top) for it in used]
        need = REPEATS_LOSS if self.lossy else REPEATS
        if max(told_sizes) >= top or not all(gone) or sum(len(g) for g in gone) < need:
            return False
        first = min(s.at for g in gone for s in g)
        later = {(it.n, s.size) for it in used for s in it.sent if s.size in it.told and 0 <= s.at - first <= TOLD_SOON}
        return len(later) >= TOLD_LATER

    def attempts(self, first: int, start: float) -> tuple[Attempt, ...]:
        """Every sized segment as one attempt, numbered from ``first``."""
        out: list[Attempt] = []
        for it in self.lanes:
            for s in it.sent:
                told = it.told.get(s.size)
                outcome: Outcome = "passed" if it.passed >= s.size else "told" if told else "lost"
                if s.local:
                    outcome = "local"
                elif outcome == "lost" and not it.answered_since(s.control):
                    outcome = "aborted"
                out.append(
                    Attempt(
                        n=first + len(out),
                        method="tcp-sack",
                        size=s.size,
                        outcome=outcome,
                        port=it.port,
                        rtt=it.rtt,
                        at=round(s.at - start, 4),
                        round=s.round,
                        by=told[1] if told else None,
                        mtu=told[0] if told else None,
                    )
                )
        return tuple(out)
