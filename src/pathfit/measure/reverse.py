"""The search for the largest packet that gets *in*: which connections to open when, and when enough is known.

::

    round 1   two plain connections, a ladder of sizes, the sentinel last
    round 2   cuts what is left between "passes" and "fails"; begun on tentative gaps, a quarter RTT old. What the
              way out has shown meanwhile (``hints``) is asked at once, as often as a proof needs
    proof     several connections at F = P + 1, all with a gap that stays, and several at P that pass
    even      when the promised size passes: a dozen connections of it, because one good flow proves one flow

The machine is pure: the engine calls :meth:`Reverse.step` with the time, carries out the commands it gets, and
feeds readings into the tracks. Rounds are pipelined: gaps of earlier rounds go on ageing while later rounds run,
so the settling time is waited for once, at the end (probing.md 12).
"""

from collections import deque

import msgspec

from pathfit.core.measured import Bracket
from pathfit.core.net import IP_HEADER, TCP_HEADER
from pathfit.measure import crowd, rounds, sizes, verdict
from pathfit.measure.track import Status, Track

STALL = 2.2  # seconds, and two round trips, to wait for the first answer at all (probing.md 6: a busy server is no
# hole; first answers after two seconds are healthy)
# Seconds to wait for a SYN-ACK when the host answers an echo, or state tells why none will come: every SYN of the
# round and its first repetition (after 1 s, RFC 6298) were lost by then. Otherwise Measure.connect is the limit: a
# neighbour that does not exist is known after three requests a second apart (neigh_timer_handler), and then the error
# says more than silence.
CONNECT_SHORT = 1.25
CONNECT = 3.2
HURRY = 0.25  # seconds without an answer to the sentinel: longer than one retransmission of the request takes
REFUSED_WAIT = 0.25  # seconds after the last refusal
AGREED = 0.001  # seconds that several gaps in one clean step are watched before the search goes on: one gap may be a
# segment overtaken by the next, a whole row of them, with everything smaller here, is not
LONG_PAUSE = 0.010  # seconds between two looks while there is nothing to do but wait
PATIENCE = 0.006  # seconds: what two threads of one server may overtake each other by; a round less pays for it
SAME_RANGE = 2  # times that one range is cut
SEVERAL = 3  # that fail where others as large pass; fewer are loss
EVEN_WAIT = verdict.UNEVEN_AGE + 0.1


class Open(msgspec.Struct, frozen=True):
    """Open this connection. ``size`` 0 in the track's place does not occur; plain ones carry the promised size."""

    track: Track


class Close(msgspec.Struct, frozen=True):
    """Close this connection with RST; nothing more is to be learned from it."""

    track: Track


Command = Open | Close


class Limits(msgspec.Struct):
    """What a search may do (probing.md 12)."""

    family: int
    floor: int = 576
    per_round: int = 14
    total: int = 120
    parallel: int = 14
    budget: float = 3.0
    connect: float = CONNECT
    even: int = verdict.EVEN

    @property
    def polite(self) -> bool:
        return self.parallel < 8


class Reverse(msgspec.Struct):
    """See the module. ``promised``: largest IP packet our plain SYN invites; ``start``: when the search began."""

    limits: Limits
    promised: int
    start: float
    tracks: list[Track] = msgspec.field(default_factory=list)
    round: int = 0
    sized: bool = True
    done: bool = False
    why: str = ""
    hints: set[int] = msgspec.field(default_factory=set)  # sizes that may be the limit; only where to look first
    _queue: deque[Track] = msgspec.field(default_factory=deque)
    _open: set[int] = msgspec.field(default_factory=set)
    _lowered: bool = False
    _ranges: list[tuple[int, int]] = msgspec.field(default_factory=list)  # that were cut
    _again: int = 2  # ladders more, when small answers were not joined to full segments
    _untaught: bool = False  # it looked as if the sender had learned the limit, and it has not
    _even: int = 0  # rounds that asked whether all flows are alike
    _apart: int = 0  # rounds that asked whether there are several ways
    _asked_again: bool = False  # a sender that has learned the limit, for what it invites now
    _times: verdict.Timing | None = None  # asked for several times in one step
    _times_at: float = -1.0
    _proven: tuple[verdict.Timing, int] | None = None  # by which times and by how many connections
    _hurried: bool = False

    # -- what the engine calls -------------------------------------------------------------------------------

    def begin(self, now: float, plain: int = 2, sized: bool = True, beside: int = 0) -> None:
        """Round 1. ``sized`` False: only see how plain connections fare (a banner, a contact). ``beside``: connections
        of this round that somebody else opens."""
        lim = self.limits
        plain = min(plain, max(1, lim.per_round - 3))
        self.sized = sized
        self.round = 1
        for _ in range(plain):
            self._add(self.promised, now, "plain", plain=True)
        for size, purpose in rounds.first(lim.floor, self.promised, lim.per_round - plain - beside) if sized else ():
            self._add(size, now, purpose)

    def step(self, now: float) -> list[Command]:
        """What to do now. Call it after readings, and every :meth:`pause` seconds."""
        commands: list[Command] = []
        if not self.done:
            self._advance(now, commands)
        if not self.done:
            self._start(now, commands)
        return commands

    def pause(self, now: float) -> float:
        """Seconds until the next look is worth while."""
        times = self.times(now)
        pause = min(max(times.rtt / 8, 0.0005), 0.002)  # a gap wakes nobody: it is seen only by looking
        if self._queue or self.done or not self._settling():
            return pause
        # Every size has spoken; gaps grow older, and one that closes wakes us.
        ages = [t.missing_for(now) for t in self.tracks if t.n in self._open and t.gap_at is not None]
        left = [full - age for age in ages for full in (times.tentative, times.settle) if age < full]
        return min([*left, LONG_PAUSE]) if left else pause

    def _settling(self) -> bool:
        """Has everybody of the newest round said what there is to say about its size, or hangs?"""
        mine = [t for t in self.tracks if t.round == self.round]
        fails = min((t.size for t in mine if t.gap_at is not None and not t.passed), default=None)
        return fails is not None and all(
            t.passed or t.gap_at is not None or t.complete or t.closed is not None or t.size > fails for t in mine
        )

    def closed(self, track: Track) -> None:
        """The engine closed it, or it ended by itself."""
        self._open.discard(track.n)

    def times(self, now: float, lossy: bool | None = None) -> verdict.Timing:
        if lossy is not None:
            return verdict.timing(self.tracks, lossy)
        if self._times is None or self._times_at != now:
            ok = max((t.size for t in self.tracks if t.passed), default=0)
            times = verdict.timing(self.tracks, verdict.is_lossy(self.tracks, ok, now))
            if rounds.agreed([t for t in self.tracks if t.round == self.round]):
                times = msgspec.structs.replace(times, tentative=min(times.tentative, AGREED))
            self._times, self._times_at = times, now
        return self._times

    def result(self, now: float) -> Bracket:
        """The bracket as it stands."""
        if not self.tracks:
            return Bracket(method="tcp-maxseg", tests="reverse", note="not-asked")
        if self._proven is not None:
            # Signs of loss that come later do not take back what was proven; gaps that close do.
            return verdict.bracket(self.tracks, now, self._proven[0], self.promised, self._proven[1])
        return verdict.bracket(self.tracks, now, self.times(now), self.promised)

    # -- inside ----------------------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        return self.limits.total - len(self.tracks)

    def _add(self, size: int, now: float, purpose: str, *, plain: bool = False) -> None:
        track = Track(
            n=len(self.tracks) + 1,
            size=size,
            plain=plain,
            round=self.round,
            family=self.limits.family,
            opened=now,
            purpose=purpose,
            narrow=any(t.scattered for t in self.tracks),
        )
        self.tracks.append(track)
        self._queue.append(track)

    def _start(self, now: float, commands: list[Command]) -> None:
        """Open what waits, as far as the limit of parallel connections allows."""
        while self._queue and len(self._open) < self._slots(now):
            track = self._queue.popleft()
            track.opened = now
            self._open.add(track.n)
            commands.append(Open(track))

    def _slots(self, now: float) -> int:
        if self.limits.polite:
            return self.limits.parallel
        # Connections that only wait for their gap to age load nobody; they do not hold up the next round. Nor do
        # those whose handshake waits for a retransmission.
        times = self.times(now)
        mine = [t for t in self.tracks if t.n in self._open]
        stuck = min((t.size for t in mine if t.status(now, times.tentative, times.hush) is Status.FAIL), default=None)
        # Larger than one that is stuck, and answered by nobody: stuck as well, without a tail to show it.
        idle = [t for t in mine if t.status(now, times.tentative, times.hush) in (Status.FAIL, Status.MUTE)]
        idle += [t for t in mine if stuck and t.size > stuck and t.round < self.round and t.connected and t not in idle]
        return self.limits.parallel + len(idle)

    def _advance(self, now: float, commands: list[Command]) -> None:
        self._release(now, commands)
        if any(t.connected is not None for t in self.tracks):
            if now - self.start > self.limits.budget:
                self._finish("time")
                return
            if (
                now - self.start > min(STALL, self.limits.connect)
                and self.tracks
                and not any(t.heard or t.got for t in self.tracks)
            ):
                self._finish("stalled")  # not one request was acknowledged, however often it was repeated
                return
        elif now - self.start > min(self.limits.connect, self.limits.budget + 0.2) or self._refused(now):
            self._finish("no-connection")
            return
        self._hurry(now)
        if self._queue or not self._ready(now):
            return
        self._plan(now, commands)

    def _hurry(self, now: float) -> None:
        """The sentinel is not answered: it may be the one whose request got lost, and everything waits for it."""
        last = self.tracks[-1]
        stale = last.asked is not None and now - last.asked > HURRY and not last.got
        if self._hurried or not self.sized or self.round != 1 or self._queue or not stale or self.limits.polite:
            return
        self._hurried = True
        for _ in range(2):
            self._add(last.size, now, "sentinel")

    def _refused(self, now: float) -> bool:
        """Some connections were refused or found unreachable, none stands, and no more is heard of the others: who
        says so says it of a few only (icmp_ratelimit), or its answer got lost."""
        ended = [t.closed for t in self.tracks if t.ended is not None and t.closed is not None]
        return bool(ended) and now - max(ended) > REFUSED_WAIT

    def _release(self, now: float, commands: list[Command]) -> None:
        """Close what has said all it can. Contact connections are the engine's to close."""
        times = self.times(now)
        for t in self.tracks:
            if t.n not in self._open or (t.plain and t.purpose == "plain"):
                continue
            if t.passed and t.purpose == "sentinel" and t.many and not t.complete and t.silent_for(now) < times.hush:
                continue  # does this server answer several requests at once? (verdict.weigh)
            if t.passed or t.complete:
                commands.append(Close(t))
                self._open.discard(t.n)
        if self.limits.polite and self._queue:
            # Guides to the bracket need not age. Those at the proof, or at what may come to it, stay.
            proof = {t.size for t in self.tracks if t.purpose == "proof" or t.round == self.round}
            proof.add(verdict.weigh(self.tracks, now, times.tentative, times.hush).fails or 0)
            self._shed(now, times.tentative, times.hush, proof, commands)
        if self.limits.polite and self._queue:
            self._shed(now, times.settle, times.silence, set(), commands)
        standing = self.tracks, self._open, now, times.settle
        if crowd.starved(*standing) or crowd.crowded(*standing):  # then gaps that have been judged are closed
            # The asked client's as well: it hangs like the others, and was there first.
            hush = times.hush if self.limits.polite else 9e9
            self._shed(now, times.settle, hush, set(), commands, plain=True)

    def _shed(
        self, now: float, age: float, hush: float, spare: set[int], commands: list[Command], *, plain: bool = False
    ) -> None:
        """Close connections whose gap has stood for ``age``, or that were silent for ``hush``, except sizes in
        ``spare`` and, unless ``plain``, the asked client's."""
        for t in self.tracks:
            if t.n not in self._open or t.size in spare or (t.purpose == "plain" and not plain):
                continue
            if t.status(now, age, hush) in (Status.FAIL, Status.MUTE):
                commands.append(Close(t))
                self._open.discard(t.n)

    def _ready(self, now: float) -> bool:
        """Has the newest round said enough to plan on? Tentative gaps count (they go on ageing)."""
        times = self.times(now)
        mine = [t for t in self.tracks if t.round == self.round]
        states = [t.status(now, times.tentative, times.hush) for t in mine]
        # What is larger than a size that fails already decides nothing: it may leave no tail that shows a gap.
        fails = min((t.size for t, s in zip(mine, states, strict=True) if s is Status.FAIL), default=None)
        passes = any(s is Status.PASS for s in states)
        waiting = [t for t, s in zip(mine, states, strict=True) if s is Status.WAIT]
        if passes and fails is not None:
            waiting = [t for t in waiting if t.size <= fails]
        if not waiting:
            return True
        last = mine[-1]
        answered = last.passed or last.complete
        if answered:
            since = max(last.progress, last.asked or last.opened)
            slow = since - (last.asked or since)
            # Those not even connected wait for a SYN sent again: they are no evidence, nobody waits for them.
            waiting = [t for t in waiting if t.connected is not None]
            patience = max(times.rtt / 4, PATIENCE, slow / 2)
            if any(t.status(now, times.tentative, times.hush) is Status.MUTE for t in self.tracks):
                patience = times.hush  # this server leaves no tail: silence is what there is to wait for
            return not waiting or now - since > patience
        # The one everybody waits for may be the one whose request was lost, and its repetition too.
        hangs = any(s in (Status.FAIL, Status.MUTE) for s in states) and any(t.passed for t in self.tracks)
        return hangs and now - last.opened > max(HURRY, times.hush)

    def _plan(self, now: float, commands: list[Command]) -> None:
        times = self.times(now)
        soon = verdict.weigh(self.tracks, now, times.tentative, times.hush)
        if not self.sized:
            self._plan_contact(now, soon, times)
        elif not soon.ok:
            self._plan_nothing(now, soon, times)
        elif not self._untaught and verdict.has_learned(self.tracks, soon.arrived):
            self._plan_learned(now, soon)
        elif soon.fails is None:
            self._plan_open_end(now, soon, times)
        elif self._two_ways(now, soon, times) or (soon.fails - soon.ok > 1 and self._plan_section(now, soon)):
            pass
        else:
            self._plan_proof(now, soon, times, commands)

    def _plan_contact(self, now: float, soon: verdict.Weighed, times: verdict.Timing) -> None:
        """Only plain connections: done when they have said what they can, or a gap has stood long enough."""
        if not soon.ok and not any(t.missing_for(now) >= times.settle for t in self.tracks):
            self._plan_nothing(now, soon, times)
        else:
            self._finish("contact")

    def _plan_nothing(self, now: float, soon: verdict.Weighed, times: verdict.Timing) -> None:
        """Nothing came through yet."""
        connected = [t for t in self.tracks if t.connected is not None]
        age = now - self.start
        if not connected:
            if all(t.ended for t in self.tracks):
                self._finish("no-connection")
            return
        lowest = min(t.size for t in self.tracks)
        gap_there = any(t.size == lowest for t in soon.failing)
        if self.sized and gap_there and not self._lowered and self.remaining >= 2:
            self._lowered = True
            least = IP_HEADER[self.limits.family] + TCP_HEADER + sizes.LEAST_MSS
            lower = [(s, "sentinel") for s in sizes.LOW_SENTINELS if least <= s < lowest]
            self._new_round(lower[: self.limits.per_round], now)
            return
        if self.sized and self._gathered(now):
            return
        stall = min(STALL + 2 * times.rtt, self.limits.budget)
        if all(t.closed is not None or t.complete for t in connected) or age > stall:
            self._finish("stalled")

    def _gathered(self, now: float) -> bool:
        """A ladder more, where small answers were not joined to full segments: through a narrow window they are."""
        count = min(self.limits.per_round, self.remaining)
        if self._again <= 0 or count < 2 or not any(t.scattered for t in self.tracks):
            return False
        self._again -= 1
        self._new_round([(self.promised, "ladder"), *rounds.first(self.limits.floor, self.promised, count - 1)], now)
        return True

    def _plan_open_end(self, now: float, soon: verdict.Weighed, times: verdict.Timing) -> None:
        """No size fails so far: is that so for every flow (MTU118), and do the stragglers agree?"""
        at_top = [t for t in self.tracks if t.size >= self.promised]
        if self._stragglers(now, times):
            return
        top = [t.status(now, times.tentative, times.hush) for t in at_top]
        # Small answers make full segments only now and then: where smaller ones came, ask a few times more.
        hopeless = soon.arrived <= sizes.SENTINEL or self._even > 0 or self.remaining <= 0
        if hopeless and not any(s in (Status.PASS, Status.FLAT, Status.FAIL) for s in top):
            if not self._gathered(now):
                self._finish("short")
            return
        # Rows of small requests that a server refuses tell nothing of those flows: then they are asked as others are.
        refused = sum(s is Status.SHORT and t.many for t, s in zip(at_top, top, strict=True))
        count = min(self.limits.even - len(at_top) + (refused if self._even else 0), self.remaining)
        if count > 0 and self._even < (2 if refused else 1):
            self._even += 1
            self._new_round(rounds.even(self.promised, count, beside=verdict.begun(self.tracks, now, times.hush)), now)
            return
        bad = [t for t in soon.below if t.n in self._open and not t.kept]
        mute = [t for t, s in zip(at_top, top, strict=True) if s is Status.MUTE and t.n in self._open]
        if not bad:
            mute = [t for t in verdict.begun(self.tracks, now, times.hush) if t.n in self._open]
        ages = [*(t.missing_for(now) for t in bad), *(t.silent_for(now) for t in mute)]
        if ages and min(ages) < verdict.UNEVEN_AGE:
            if now - self.start < max(EVEN_WAIT, self.limits.budget - 0.2):
                return
        elif len(verdict.always_fail(self.tracks, now, self.promised)) == 1 and len(at_top) < 24:
            # One flow in a dozen: ask again before it is called chance (trap 7).
            count = min(verdict.EVEN, self.remaining, self.limits.per_round)
            if count > 0:
                self._new_round([(self.promised, "even")] * count, now)
                return
        self._finish("passes")

    def _plan_learned(self, now: float, soon: verdict.Weighed) -> None:
        """The sender has learned the limit: new connections show no more. See how the gaps that stand end. Who has
        learned it cuts anew with the next retransmission: gaps that outlast two mean that what was mended was loss."""
        mine = [t for t in self.tracks if t.n in self._open and not t.complete and not t.kept]
        mine = [t for t in mine if t.gap_at is not None or (t.heard and t.size > soon.arrived)]
        if any((t.missing_for(now) or t.silent_for(now)) < verdict.SETTLE_LOSS for t in mine):
            return
        self._untaught = sum(t.size > soon.arrived for t in mine) >= verdict.PROOF_LEAST
        if not self._untaught and not self._asked_again and self.remaining >= 2:
            self._asked_again = True
            self._new_round([(self.promised, "even")] * 2, now)  # what do its next SYN-ACKs invite?
        elif not self._untaught:
            self._finish("learned")

    def _stragglers(self, now: float, times: verdict.Timing) -> bool:
        """Connections that were asked, acknowledged and have said nothing yet. A slow server is no hole: they are
        waited for as long as the slowest answer makes likely, then they count as silent."""
        return any(
            t.n in self._open
            and t.size > 0
            and t.connected is not None
            and (t.heard or not t.retrans)
            and t.status(now, times.tentative, times.silence) is Status.WAIT
            for t in self.tracks
        )

    def _plan_section(self, now: float, soon: verdict.Weighed) -> bool:
        """Cut the open range (:mod:`pathfit.measure.rounds`). False: no connections are left for that, or the
        range stays as it is however often it is cut: SYN cookies round down, and nothing in it can be measured. Then
        the bracket is proven as it stands."""
        assert soon.fails is not None
        count = min(self.limits.per_round, self.remaining - 2 * verdict.PROOF_POLITE)
        self._ranges.append((soon.ok, soon.fails))
        if count <= 0 or self._ranges.count(self._ranges[-1]) > SAME_RANGE:
            return False
        self._new_round(rounds.cut(soon.ok, soon.fails, count, self.hints, self.limits.polite), now)
        return True

    def _plan_proof(self, now: float, soon: verdict.Weighed, times: verdict.Timing, commands: list[Command]) -> None:
        """F = P + 1, or no connections left to come closer: repeat until it is certain."""
        assert soon.fails is not None
        odd = verdict.odd(self.tracks, now, soon.fails, times.settle)  # time shows whether that was loss
        ages = [t.missing_for(now) for t in odd if t.n in self._open]
        if len(ages) >= verdict.PROOF_LEAST and min(ages) < verdict.UNEVEN_AGE and now - self.start < EVEN_WAIT:
            return
        need = self._need(soon, now, times)
        old = [t for t in soon.failing if t.status(now, times.settle, times.silence) in (Status.FAIL, Status.MUTE)]
        missing = need - sum(t.n in self._open or t in old for t in soon.failing)  # closed sooner: no proof
        beside = verdict.passes_beside(self.tracks, soon, {t.round for t in soon.failing}, now, times)
        if missing > 0 or beside < verdict.PROOF_PASSES:
            room = min(self.remaining, self.limits.per_round)
            if room >= 2:
                passing = min(verdict.PROOF_PASSES, room // 2)
                again = max(1, min(missing + 2 * soon.lossy, room - passing))  # one may lose what would show it
                self._new_round(
                    [(soon.fails, "proof")] * again + [(max(soon.ok, 1), "proof")] * passing,
                    now,
                )
                return
            need = min(need, len(soon.failing))
        final = verdict.weigh(self.tracks, now, times.settle, times.silence)
        if final.fails == soon.fails and verdict.proven(self.tracks, final, now, times, max(need, verdict.PROOF_LEAST)):
            self._proven = (times, max(need, verdict.PROOF_LEAST))
            self._finish("proof")
        elif self.remaining < 2 and not any(t.n in self._open for t in soon.failing):  # none can age any more
            self._finish("unproven")

    def _two_ways(self, now: float, soon: verdict.Weighed, times: verdict.Timing) -> bool:
        """Smaller ones fail as well, where others as large pass: no one limit does that, and cutting on would not end.
        Is it one way of several (MTU118)? The promised size on many flows shows it."""
        odd = verdict.odd(self.tracks, now, soon.fails or 0, times.tentative)
        odd += verdict.begun(self.tracks, now, times.hush)
        refused = any(t.many and t.complete and not t.passed for t in self.tracks)  # rows of requests: say nothing
        asked = self._apart >= (2 if refused else 1)
        if len(odd) < SEVERAL or asked or self.limits.polite or self.remaining < self.limits.per_round:
            return False
        self._apart += 1
        self._new_round(rounds.apart(self.promised, self.limits.per_round), now)
        return True

    def _need(self, soon: verdict.Weighed, now: float, times: verdict.Timing) -> int:
        if soon.lossy:
            return verdict.needed(self.tracks, soon, now, times)
        return verdict.PROOF_POLITE if self.limits.polite else verdict.PROOF_LOSSLESS

    def _new_round(self, plan: list[tuple[int, str]], now: float) -> None:
        self.round += 1
        for size, purpose in plan[: max(0, self.remaining)]:
            self._add(size, now, purpose, plain=size >= self.promised)

    def _finish(self, why: str) -> None:
        self.done, self.why = True, why
        self._queue.clear()
