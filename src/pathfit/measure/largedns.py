"""Do large answers of a DNS server arrive? Pure.

A question with a long answer is looked for; then it is asked with room for 4096, 1400, 1232 and 512 bytes (EDNS), in
one round, the small one last as the control. A server cuts what does not fit (TC), so each answer is as large as its
room allows or tiny. A room is *lost* when the control was answered in :data:`REPEATS` rounds and it never was.
"""

import msgspec

from pathfit.core.measured import DnsSize

ROOMS = (4096, 1400, 1232, 512)  # old default; just below 1500; the DNS flag day's of 2020; the least there is
CONTROL = 512
REPEATS = 4  # at 3 % loss each way one in 10^5 is an accident
MOST_ROUNDS = 8
FIRST_WAIT = 1.0  # seconds: a resolver may have to ask others
LATE = 0.25  # seconds the large answers may come after the small one
LOOKS = 3  # tries of one question before it counts as unanswered
SERVED = (0, 3)  # NOERROR, NXDOMAIN: what else is no answer


class Query(msgspec.Struct):
    """One question sent. ``size`` bytes of DNS in the answer, ``piece`` its largest fragment (0: whole)."""

    n: int
    room: int
    name: str
    kind: str
    at: float
    round: int
    answered: float | None = None
    size: int = 0
    piece: int = 0
    cut: bool = False
    rcode: int = 0
    missed: bool = False


class LargeDns(msgspec.Struct):
    """``candidates``: (name, type) of questions whose answer may be long, best first."""

    candidates: tuple[tuple[str, str], ...]
    start: float
    budget: float = 3.0
    queries: list[Query] = msgspec.field(default_factory=list)
    round: int = 0
    looking: int = 0  # candidates looked at
    looks: int = 0
    chosen: tuple[str, str] | None = None
    judged: int = 0
    done: bool = False

    def answered(self, now: float, n: int, size: int, piece: int, cut: bool, rcode: int) -> None:
        """The answer to query ``n``."""
        query = self.queries[n - 1] if 0 < n <= len(self.queries) else None
        if query is not None and query.answered is None:
            query.answered, query.size, query.piece, query.cut, query.rcode = now, size, piece, cut, rcode

    def step(self, now: float) -> list[Query]:
        """What to ask now."""
        if self.done:
            return []
        mine = [q for q in self.queries if q.round == self.round]
        if mine and not self._over(now, mine):
            return []
        if now - self.start > self.budget:
            self.done = True
            return []
        return self._row(now, mine) if self.chosen is not None else self._look(now, mine)

    def _look(self, now: float, mine: list[Query]) -> list[Query]:
        last = mine[-1] if mine else None
        if last is not None and last.answered is not None:
            if last.cut:
                self.chosen = (last.name, last.kind)
                return self._row(now, [])
            self.looking, self.looks = self.looking + 1, 0  # short, or not served
        elif last is not None and self.looks >= LOOKS:
            self.looking, self.looks = self.looking + 1, 0
        if self.looking >= len(self.candidates):
            self.done = True
            return []
        self.looks += 1
        return self._send(now, self.candidates[self.looking], (CONTROL,))

    def _row(self, now: float, mine: list[Query]) -> list[Query]:
        assert self.chosen is not None
        if mine and self.judged < self.round:
            self.judged = self.round
            if mine[-1].answered is not None:
                for query in mine:
                    query.missed = query.answered is None
        open_rooms = [r for r in ROOMS[:-1] if not self._came(r) and self._misses(r) < REPEATS]
        if not open_rooms or self.round >= MOST_ROUNDS + LOOKS * len(self.candidates):
            self.done = True
            return []
        return self._send(now, self.chosen, (*open_rooms, CONTROL))

    def _over(self, now: float, mine: list[Query]) -> bool:
        if all(q.answered is not None for q in mine):
            return True
        last = mine[-1]
        if last.answered is not None:
            return now - last.answered > max(LATE, last.answered - last.at)
        return now - last.at > FIRST_WAIT

    def _send(self, now: float, asked: tuple[str, str], rooms: tuple[int, ...]) -> list[Query]:
        self.round += 1
        first = len(self.queries) + 1
        out = [Query(first + i, room, *asked, now, self.round) for i, room in enumerate(rooms)]
        self.queries += out
        return out

    def _came(self, room: int) -> bool:
        return any(q.room == room and q.answered is not None for q in self._chosen())

    def _misses(self, room: int) -> int:
        return sum(1 for q in self._chosen() if q.room == room and q.missed)

    def _chosen(self) -> list[Query]:
        return [q for q in self.queries if (q.name, q.kind) == self.chosen]

    # -- what it says ------------------------------------------------------------------------------------------

    def sizes(self) -> tuple[DnsSize, ...]:
        """One for each room, smallest first; nothing when no question had a long answer."""
        out = []
        for room in sorted(ROOMS):
            asked = [q for q in self._chosen() if q.room == room]
            came = [q for q in asked if q.answered is not None]
            if not asked:
                continue
            out.append(
                DnsSize(
                    room=room,
                    tries=len(came) + sum(1 for q in asked if q.missed),
                    answered=len(came),
                    cut=bool(came) and all(q.cut for q in came),
                    size=max((q.size for q in came), default=0),
                    piece=max((q.piece for q in came), default=0),
                )
            )
        return tuple(out)


def lost(sizes: tuple[DnsSize, ...]) -> DnsSize | None:
    """The smallest room whose answers are lost: asked often enough, never answered, while a smaller one was."""
    control = any(s.answered >= REPEATS - 1 and s.room == CONTROL for s in sizes)
    return next((s for s in sizes if control and s.tries >= REPEATS and not s.answered), None)
