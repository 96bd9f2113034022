"""The search for the largest UDP datagram that gets *out*, by answers that are small. Pure.

A datagram of each size is sent with DF, and something at the far end answers it in few bytes whatever its size: a
closed port (ICMP port unreachable), a QUIC server (Version Negotiation, RFC 9000 section 6), a DNS server (a small
answer to a question made long by an EDNS option it does not know, RFC 6891 section 6.1.2). So only the direction away
from us is tested.

A round is a row of sizes, the largest first, with a *control* last: a size that gets through. When the control is
answered and a larger one was not, that one is missed once; a size counts as lost after :data:`REPEATS` misses and no
answer. A round whose control is not answered says nothing about what is missing in it.

``scarce``: who answers limits how often. Linux answers six datagrams at once and then one a second
(net.ipv4.icmp_ratelimit, inet_peer_xrlim_allow()); tokens only grow, so where there was one for the control, there was
one for what came just before it. A row is then one new size, what must be repeated, and the control.
"""

import msgspec

from pathfit.core.measured import Attempt, Bracket, Grade, Outcome
from pathfit.measure import sizes
from pathfit.measure.verdict import SETTLE

REPEATS = 4  # misses that make a size lost: at 3 % loss each way one in 10^5 is an accident
ROUND = 12  # sizes of one row where answers are free
MOST_ROUNDS = 24
MOST_SHOTS = 160
FIRST_WAIT = 0.35  # seconds for an answer before any round trip is known
OPENINGS = 3  # tries to get a first answer at all
REFILL = 1.05  # seconds until a limited answerer has one answer more
VOID_WAIT = 0.1  # seconds after a round that says nothing
MOST_VOID = 6
GRACE = 0.25  # seconds a datagram may be answered late before the end
LAST = 1.2  # seconds before the end from which on nothing new is begun where answers are scarce
LEAST_MTU = {4: 68, 6: 1280}  # RFC 791, RFC 8200


class Shot(msgspec.Struct):
    """One datagram. ``told``: (mtu or None when senseless, by whom)."""

    n: int
    size: int
    at: float
    round: int
    control: bool = False
    answered: float | None = None
    told: tuple[int | None, str] | None = None
    local: bool = False
    missed: bool = False
    port: int = 0

    @property
    def open(self) -> bool:
        return self.answered is None and self.told is None and not self.local

    @property
    def judged(self) -> bool:
        """Is anything known of it?"""
        return self.missed or not self.open


class Datagrams(msgspec.Struct):
    """``ceiling``: largest size to ask, ``control``: the size that is to get through, ``floor``: least of the ladder.

    All sizes are bytes of IP packet. The shell sends what :meth:`step` returns and reports back.
    """

    method: str
    ceiling: int
    control: int
    start: float
    family: int = 4
    floor: int = 576
    scarce: bool = False
    row: int = ROUND  # sizes at most in one row
    budget: float = 3.0
    settle: float = SETTLE / 10  # seconds that answers may come in another order, at least
    rtt: float | None = None
    hints: tuple[int, ...] = ()  # sizes worth asking first: what another method found
    shots: list[Shot] = msgspec.field(default_factory=list)
    round: int = 0
    judged: int = 0  # the last round that was judged
    voids: int = 0  # rounds that said nothing
    void: bool = False  # the last one did
    not_before: float = 0.0
    now: float = 0.0
    done: bool = False
    note: str | None = None

    # -- events ------------------------------------------------------------------------------------------------

    def answered(self, now: float, n: int) -> None:
        """The far end answered shot ``n``."""
        shot = self._shot(n)
        if shot is not None and shot.answered is None:
            shot.answered = now
            self.rtt = min(self.rtt or 9e9, max(now - shot.at, 1e-6))

    def told(self, n: int, mtu: int, by: str) -> None:
        """ "Too big" came for shot ``n``. One that could not be true and that no kernel obeys is as good as none."""
        shot = self._shot(n)
        if shot is None or mtu >= shot.size:
            return
        shot.told = (mtu if mtu >= LEAST_MTU[self.family] else None, by)

    def local(self, n: int) -> None:
        """It could not even leave: our own link is smaller (EMSGSIZE)."""
        shot = self._shot(n)
        if shot is not None:
            shot.local = True

    def _shot(self, n: int) -> Shot | None:
        return self.shots[n - 1] if 0 < n <= len(self.shots) else None

    # -- the machine -------------------------------------------------------------------------------------------

    def step(self, now: float) -> list[Shot]:
        """What to send now."""
        if self.done or now < self.not_before:
            return []
        self.now = now
        if self.round == 0:
            return self._send(now, [self.ceiling] if self.ceiling > self.control else [])
        mine = [s for s in self.shots if s.round == self.round]
        if not self._over(now, mine):
            return []
        if not self.passes:
            return self._again(now, mine)
        if self.judged < self.round:
            self.judged = self.round
            if not self._judge(now, mine):
                return []
        return self._next(now)

    def _again(self, now: float, mine: list[Shot]) -> list[Shot]:
        """Nothing was answered yet, at any size."""
        if self.round >= OPENINGS or now - self.start > self.budget:
            return self._finish("no-answer")
        return self._send(now, [] if any(s.told or s.local for s in mine) else [self.ceiling])

    def _judge(self, now: float, mine: list[Shot]) -> bool:
        """Mark what this round is missing; False: it says nothing, and the next one has to wait."""
        control = mine[-1]
        if control.answered is None and any(s.open for s in mine):
            self.voids += 1
            self.void = True
            self.not_before = now + (REFILL if self.scarce else VOID_WAIT)
            return False
        self.void = False
        for shot in mine:
            shot.missed = shot.open
        return True

    def _next(self, now: float) -> list[Shot]:
        passes, fails = self.passes, self.fails
        over = now - self.start > self.budget - (LAST if self.scarce and self._sure() else 0.0)
        spent = self.round >= MOST_ROUNDS or len(self.shots) >= MOST_SHOTS or self.voids > MOST_VOID
        if passes >= self.top or over or spent:
            return self._finish(None)
        if fails is None:  # the ceiling was never judged, or is larger than our own link
            return self._send(now, [self.top] if self.top == self.ceiling else self._cut(passes, self.top + 1))
        again = [] if self._told_at(fails) else [fails] * max(0, REPEATS - self.misses(fails))
        if self.void and again:  # what may be answered would take the one answer there is from the control
            return self._send(now, again)
        if fails - passes > 1:
            return self._send(now, [*again, *self._cut(passes, fails)])
        return self._send(now, again) if again else self._finish(None)

    def _cut(self, passes: int, fails: int) -> list[int]:
        """Sizes between: what was said or found elsewhere first, then common limits, then equal parts."""
        said = {s.told[0] for s in self.shots if s.told is not None and s.told[0] is not None}
        sure = sorted({x for m in said for x in (m, m + 1)} | set(self.hints))
        sure = [x for x in sure if passes < x < fails and not any(s.size == x and s.judged for s in self.shots)]
        if sure:
            return sorted(sure[:3], reverse=True)
        if not self.scarce:
            return sizes.favour(passes, fails, self.row)
        common = sorted(s for s in sizes.COMMON if passes < s < fails)
        return [common[len(common) // 2] if common else (passes + fails) // 2]

    def _over(self, now: float, mine: list[Shot]) -> bool:
        if not any(s.open for s in mine):
            return True
        last = mine[-1]
        if last.answered is not None:
            return now - last.answered > max((self.rtt or 0.0) / 4, self.settle)
        wait = FIRST_WAIT if self.rtt is None else 3 * self.rtt + SETTLE
        return now - last.at > wait

    def _send(self, now: float, wanted: list[int]) -> list[Shot]:
        self.round += 1
        row = [*sorted(wanted, reverse=True), self.control]
        first = len(self.shots) + 1
        out = [Shot(first + i, s, now, self.round, control=i == len(row) - 1) for i, s in enumerate(row)]
        self.shots += out
        return out

    def _finish(self, note: str | None) -> list[Shot]:
        """The end, once what may only be late has had its time."""
        missing = [s.at for s in self.shots if s.missed and s.size > self.passes]
        late = max(missing, default=self.start) + GRACE
        if missing and self.now < late:
            self.not_before = late
            return []
        self.done, self.note = True, note
        return []

    # -- what it says ------------------------------------------------------------------------------------------

    @property
    def top(self) -> int:
        """The largest size that can leave at all."""
        kept = [s.size for s in self.shots if s.local]
        return min([self.ceiling, *(x - 1 for x in kept)])

    @property
    def passes(self) -> int:
        """Largest size answered (0: none)."""
        return max((s.size for s in self.shots if s.answered is not None), default=0)

    @property
    def fails(self) -> int | None:
        """Smallest size above it that was missed or told."""
        passes = self.passes
        return min((s.size for s in self.shots if s.size > passes and (s.missed or s.told)), default=None)

    def misses(self, size: int) -> int:
        return sum(1 for s in self.shots if s.size == size and s.missed)

    def _told_at(self, size: int) -> tuple[int | None, str] | None:
        return next((s.told for s in self.shots if s.size == size and s.told is not None), None)

    def _sure(self) -> int | None:
        """Smallest size above all that passed of which it is sure that it does not."""
        passes = self.passes
        above = sorted({s.size for s in self.shots if s.size > passes})
        return next((s for s in above if self.misses(s) >= REPEATS or self._told_at(s)), None)

    def bracket(self) -> Bracket:
        """Notes: "no-answer"; "unproven" (missed too seldom to be sure); "told-in-part" (some sizes are told, those our
        own link promises vanish without a word, repeatedly)."""
        passes, fails = self.passes, self._sure()
        grade: Grade
        if not passes:
            return Bracket(method=self.method, tests="forward", note=self.note or "no-answer")
        if fails is None:
            whole = passes >= self.top
            note = None if whole else "unproven"
            grade = "proof" if whole else "none"
            return Bracket(method=self.method, tests="forward", passes=passes, grade=grade, exact=whole, note=note)
        # Whoever says "too big" may say it seldom: one told size speaks for all above the limit. But when what our own
        # link promises vanishes again and again, and only a few sizes are told, that explains nothing.
        told = next((s.told for s in self.shots if s.told is not None and s.size > passes), None)
        hushed = self.misses(self.top) >= REPEATS and not self._told_at(self.top)
        grade = "told" if told and not hushed else "step"
        return Bracket(
            method=self.method,
            tests="forward",
            passes=passes,
            fails=fails,
            grade=grade,
            exact=fails == passes + 1,
            told_by=told[1] if told and not hushed else None,
            told_mtu=told[0] if told and not hushed else None,
            note="told-in-part" if told and hushed else None,
        )

    def attempts(self, first: int, start: float) -> list[Attempt]:
        """One for each datagram."""
        return [
            Attempt(
                n=first + i,
                method=self.method,
                size=s.size,
                outcome=_outcome(s),
                port=s.port,
                at=round(s.at - start, 4),
                round=s.round,
                rtt=s.answered - s.at if s.answered is not None else None,
                by=s.told[1] if s.told else None,
                mtu=s.told[0] if s.told else None,
            )
            for i, s in enumerate(self.shots)
        ]


def weigh(own: Bracket, closed: Bracket | None, echo: Bracket | None, same_host: bool) -> tuple[Bracket, ...]:
    """What a server's silence about large datagrams means, best first.

    A server may itself take no more than so much (dnsmasq: edns-packet-max, 1232 bytes), and that looks like a hole. So
    a limit counts only when another method meets it as well; where a closed port of the same host (``same_host``: as
    far away as the server) answers larger ones, the path carries those, and the limit is the server's.
    """
    if own.fails is None or (own.grade == "told" and own.told_mtu == own.passes):
        return (own,)
    others = [b for b in (closed, echo) if b is not None and b.passes is not None]
    if any(_meets(own, b) for b in others) and not any(b.passes and b.passes >= own.fails for b in others):
        return (own, *((closed,) if closed is not None else ()))
    doubted = msgspec.structs.replace(own, grade="none", note="server-takes-less", told_by=None, told_mtu=None)
    if closed is not None and closed.passes is not None and closed.passes >= own.fails and same_host:
        return closed, doubted
    return msgspec.structs.replace(doubted, note="unproven"), *((closed,) if closed is not None else ())


def _meets(own: Bracket, other: Bracket) -> bool:
    """Do two brackets hold one limit?"""
    if own.passes is None or own.fails is None or other.passes is None or other.fails is None:
        return False
    return other.grade in ("step", "told") and other.passes < own.fails and own.passes < other.fails


def _outcome(s: Shot) -> Outcome:
    if s.local:
        return "local"
    if s.answered is not None:
        return "passed"
    if s.told is not None:
        return "told"
    return "lost" if s.missed else "silent"
