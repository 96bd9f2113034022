"""The search by ICMP echo. It tests *both* directions at once: the reply is as large as the request (probing.md 5),
so a lost echo never says which way it was lost, and its bracket never decides about one direction. Pure.

IPv4 only for sizes: an oversize IPv6 echo leaves a path MTU exception whatever the socket says (probing.md 1).
"""

import msgspec

from pathfit.core.measured import Attempt, Bracket
from pathfit.measure import sizes
from pathfit.measure.verdict import SETTLE

CONTROL = 64  # bytes of IP packet: the path carries it or nothing
ROUND = 12
REPEATS = 4
FIRST_WAIT = 1.0  # seconds for the first answer
MOST_ROUNDS = 8


class Ping(msgspec.Struct):
    """One echo request."""

    seq: int
    size: int
    at: float
    round: int
    answered: float | None = None
    told: tuple[int, str] | None = None
    local: bool = False


class Echo(msgspec.Struct):
    """``ceiling``: largest size to ask. The shell sends what :meth:`step` returns and reports back."""

    ceiling: int
    start: float
    floor: int = 576
    sized: bool = True
    budget: float = 1.5
    pings: list[Ping] = msgspec.field(default_factory=list)
    round: int = 0
    done: bool = False
    rtt: float | None = None

    def answered(self, now: float, seq: int) -> None:
        """An echo reply with this sequence number came."""
        if 0 < seq <= len(self.pings) and self.pings[seq - 1].answered is None:
            ping = self.pings[seq - 1]
            ping.answered = now
            self.rtt = min(self.rtt or 9e9, now - ping.at)

    def told(self, seq: int, mtu: int, by: str) -> None:
        if 0 < seq <= len(self.pings):
            self.pings[seq - 1].told = (mtu, by)

    def local(self, seq: int) -> None:
        self.pings[seq - 1].local = True

    def step(self, now: float) -> list[Ping]:
        """What to send now."""
        if self.done:
            return []
        if self.round == 0:
            rungs = [*sizes.ladder(self.floor, self.ceiling, ROUND), self.ceiling] if self.sized else []
            return self._send(now, [CONTROL, *sorted({s for s in rungs if s > CONTROL}, reverse=True), CONTROL])
        if now - self.start > self.budget:
            self.done = True
            return []
        mine = [p for p in self.pings if p.round == self.round]
        if not self._over(now, mine):
            return []
        passes, fails = self.edge()
        if not passes or fails is None:
            self.done = True
            return []
        if self.round >= MOST_ROUNDS:
            self.done = True
            return []
        if fails - passes > 1:
            return self._send(now, [*self._cut(passes, fails), CONTROL])
        lost = sum(1 for p in self.pings if p.size == fails and p.answered is None)
        if lost < REPEATS:
            return self._send(now, [fails] * (REPEATS - lost) + [CONTROL])
        self.done = True
        return []

    def _cut(self, passes: int, fails: int) -> list[int]:
        """Sizes between; what a "too big" said is mostly true, and asked as often as it takes to say so."""
        said = {p.told[0] for p in self.pings if p.told is not None and passes <= p.told[0] < fails}
        sure = [s for m in said for s in (*[m + 1] * (REPEATS - (m + 1 == fails)), m) if s > passes]
        return sorted([*(set(sizes.section(passes, fails, ROUND)) - set(sure)), *sure], reverse=True)

    def _over(self, now: float, mine: list[Ping]) -> bool:
        if all(p.answered is not None or p.local for p in mine):
            return True
        last = mine[-1]
        if last.answered is not None:
            return now - last.answered > max((self.rtt or 0.0) / 4, SETTLE / 10)
        return now - last.at > (4 * self.rtt + SETTLE if self.rtt else FIRST_WAIT)

    def _send(self, now: float, wanted: list[int]) -> list[Ping]:
        self.round += 1
        out = [Ping(len(self.pings) + 1 + i, s, now, self.round) for i, s in enumerate(wanted)]
        self.pings += out
        return out

    def edge(self) -> tuple[int, int | None]:
        """Largest size answered (0: none), smallest above it that was not."""
        passes = max((p.size for p in self.pings if p.answered is not None), default=0)
        above = [p.size for p in self.pings if p.size > passes and not p.local and p.answered is None]
        return passes, min(above) if above else None

    def bracket(self) -> Bracket:
        """Notes: "no-answer" (echo is filtered more often than not: that says nothing)."""
        passes, fails = self.edge()
        if not passes:
            return Bracket(method="icmp-echo", tests="both", note="no-answer")
        if not self.sized:
            return Bracket(method="icmp-echo", tests="both", note="not-sized")
        told = next((p.told for p in self.pings if p.told is not None and p.size == fails), None)
        sure = fails is None or sum(1 for p in self.pings if p.size == fails) >= REPEATS
        return Bracket(
            method="icmp-echo",
            tests="both",
            passes=passes,
            fails=fails if sure else None,
            grade="none" if not sure else "told" if told else "step" if fails else "proof",
            exact=fails == passes + 1,
            told_by=told[1] if told else None,
            told_mtu=told[0] if told else None,
            note=None if sure else "unproven",
        )

    def attempts(self, first: int, start: float) -> list[Attempt]:
        return [
            Attempt(
                n=first + i,
                method="icmp-echo",
                size=p.size,
                outcome="local" if p.local else "passed" if p.answered is not None else "told" if p.told else "lost",
                at=round(p.at - start, 4),
                round=p.round,
                rtt=p.answered - p.at if p.answered is not None else None,
                by=p.told[1] if p.told else None,
                mtu=p.told[0] if p.told else None,
            )
            for i, p in enumerate(self.pings)
        ]


METHOD_PIECES = "icmp-fragments"
MOST_PIECES = 3  # rounds of two echoes in fragments and a small one


class Pieces(msgspec.Struct):
    """Are echoes answered that travel in fragments, both ways, where whole ones of ``whole`` bytes are? IPv4 only.

    ``size``: of the echo, more than any usual link carries; the reply is as large and comes without DF, so the far end
    cuts it. Filters may drop large pings as such: what this shows is never certain.
    """

    size: int
    start: float
    budget: float = 1.0
    wait: float = 0.1  # seconds, besides four round trips
    rtt: float = 0.0
    pings: list[Ping] = msgspec.field(default_factory=list)
    round: int = 0
    done: bool = False

    def answered(self, now: float, seq: int) -> None:
        """An echo reply with this sequence number came, or its first fragment."""
        if 0 < seq <= len(self.pings) and self.pings[seq - 1].answered is None:
            self.pings[seq - 1].answered = now

    def step(self, now: float) -> list[Ping]:
        """What to send now."""
        mine = [p for p in self.pings if p.round == self.round]
        large = [p for p in self.pings if p.size == self.size]
        if self.done or any(p.answered is not None for p in large) or now - self.start > self.budget:
            self.done = True
            return []
        if mine and now - mine[-1].at < self.wait + 4 * self.rtt:
            return []
        if self.round >= MOST_PIECES:
            self.done = True
            return []
        self.round += 1
        first = len(self.pings) + 1
        out = [Ping(first + i, s, now, self.round) for i, s in enumerate((self.size, self.size, CONTROL))]
        self.pings += out
        return out

    def bracket(self) -> Bracket:
        """``passes`` when one was answered; ``fails`` when none was in three rounds whose small one was."""
        large = [p for p in self.pings if p.size == self.size]
        if any(p.answered is not None for p in large):
            return Bracket(method=METHOD_PIECES, tests="both", passes=self.size, grade="proof")
        heard = sum(1 for p in self.pings if p.size == CONTROL and p.answered is not None)
        if heard < MOST_PIECES:
            return Bracket(method=METHOD_PIECES, tests="both", note="unproven" if heard else "no-answer")
        return Bracket(method=METHOD_PIECES, tests="both", fails=self.size, grade="step")
