"""The search for the largest packet that gets from one end of ours to the other: one direction, alone. Pure.

Both ends are ours, so nothing has to be answered: every packet is numbered, and whoever holds both ends sees which of
them arrived. What does not come back proves nothing here, and nothing has to.

A packet that arrived passed, whenever that was. A size fails only when packets of it, on several flows, did not come
although small ones sent *after* them on the same flow did, again and again, and none of them came late either
(probing.md 4).

Flows may go different ways (ECMP), and one way of several may be the bad one. Once a flow carries what got lost on
another, the search goes on for those that carry the most, alone: two ways in one search would give an edge that neither
has. Before it ends, every flow is asked for the size that fails and for the one below.

Beside the packets that must not be cut (DF) go two kinds that may be in pieces: a datagram sent as fragments, each
small enough for any path, and (IPv4) one sent whole without DF, as large as the sender's own link lets out.
"""

from typing import Literal

import msgspec

from pathfit.core.measured import Attempt, Bracket, Split, Uneven
from pathfit.core.net import Direction
from pathfit.measure import shots as judge
from pathfit.measure import sizes
from pathfit.measure.shots import AT_ONCE, TOLD_LATER, Kind, Shot, carrying, lost, outcome
from pathfit.measure.verdict import SETTLE

SMALL = 100  # bytes of IP packet: every path carries it; room for TCP with timestamps over IPv6 and our own mark
FLOWS = 12  # as many as a path that is called even needs in the other searches
ROUND = 12  # sizes in one round
BURST = 128_000  # bytes in one round: what a socket's buffer and a queue hold for certain
REPEATS, REPEATS_LOSS = 6, 10  # packets of the failing size
PACE = 0.005  # seconds, or one and a half times the way's own delay, until the next control
WARM = (0.0, 0.02, 0.04, 0.08, 0.16, 0.3)  # seconds between the first packets: neighbours have to be found first
PATIENCE = 1.6  # seconds without any arrival
REFUSED = 3  # refusals of the first packets that are believed
SIGN = 3  # controls in a row that did not come: a sign of loss
# Where what passes got lost too, what fails (a size, a kind of pieces) is sent so often with nothing beside it before
# it is believed: one packet too large may take the rest of its batch along (sendmmsg(2) of a program that forwards),
# time and again.
ALONE = 3
PIECE = {4: 552, 6: 1280}  # bytes of IP packet of one fragment: below every limit worth naming; RFC 8200 section 5
LONG_PAUSE = 0.010
MOST = 800  # packets in one direction, whatever happens
METHODS: dict[str, str] = {"whole": "udp-whole", "fragments": "udp-fragments"}


class OneWay(msgspec.Struct):
    """See the module. The shell sends what :meth:`step` returns, and calls ``arrived``, ``told``, ``local``,
    ``refused``. ``flows``: numbers of those that may be used; the shell adds to them as they are opened.

    ``ceiling``: the largest packet the sender's own device lets out; ``split``: pieces can be sent (UDP)."""

    tests: Direction
    method: str
    family: int
    ceiling: int
    start: float
    floor: int = 576
    budget: float = 3.0
    flows: set[int] = msgspec.field(default_factory=lambda: {0})
    split: bool = True
    patience: float = PATIENCE
    shots: list[Shot] = msgspec.field(default_factory=list)
    round: int = 0
    done: bool = False
    note: str | None = None
    lossy: bool = False
    delay: float | None = None  # seconds, one way
    heard: float = 0.0  # the last arrival
    _control: int = 0  # number of the packet that closes the round
    _asked: float = 0.0  # when something was last sent
    _silent: int = 0
    _warm: int = 0
    _settled: float = 0.0
    _asked_all: tuple[int, float] = (0, 0.0)  # packets sent and the last arrival when there was nothing left to ask

    # -- events ----------------------------------------------------------------------------------------------

    def arrived(self, now: float, seq: int, size: int, *, door: bool = False, cut: bool = False) -> None:
        """Packet ``seq`` came, with ``size`` bytes (what has another size than was sent is somebody's mischief).
        ``door``: seen at the packet socket only, which for UDP is not yet the socket it was meant for."""
        shot = self._shot(seq)
        if shot is None or (size != shot.size and not cut):
            return
        self.heard = now
        shot.cut = shot.cut or cut
        shot.door = True
        if door or shot.arrived is not None:
            return
        shot.arrived = now
        self.delay = min(self.delay or 9e9, max(now - shot.at, 1e-5))

    def told(self, seq: int, mtu: int, by: str) -> None:
        """A sane "too big" that quotes our packet ``seq``."""
        shot = self._shot(seq)
        if shot is not None and shot.told is None:
            shot.told = (mtu, by)

    def local(self, seq: int) -> None:
        """EMSGSIZE: our own device is smaller (probing.md 5: no hole)."""
        shot = self._shot(seq)
        if shot is not None:
            shot.local = True
            if shot.kind == "df":
                self.ceiling = min(self.ceiling, shot.size - 1)

    def unsent(self, seq: int) -> None:
        """It never left this process: no buffer, no way to the far end's flow."""
        shot = self._shot(seq)
        if shot is not None:
            shot.local = True

    def refused(self, seq: int) -> None:
        """Our own filter, or an ICMP "unreachable" for this packet."""
        shot = self._shot(seq)
        if shot is not None:
            shot.refused = True

    def _shot(self, seq: int) -> Shot | None:
        return self.shots[seq - 1] if 0 < seq <= len(self.shots) else None

    # -- the machine -----------------------------------------------------------------------------------------

    def step(self, now: float) -> list[Shot]:
        """What to send now."""
        if self.done:
            return []
        before = len(self.shots)
        if self.round == 0:
            self._begin(now)
        elif now - self.start > self.budget or before > MOST:
            self._finish("time")
        elif self._over(now):
            self._go_on(now)
        return self.shots[before:]

    def pause(self, now: float) -> float:
        """Seconds until the next look is worth while. An arrival wakes the shell by itself."""
        if now < self._settled:
            return min(self._settled - now, LONG_PAUSE)
        return min(max((self.delay or 0.0) / 4, 0.0005), 0.005)

    @property
    def open(self) -> bool:
        """Something has arrived."""
        return self.delay is not None

    @property
    def passed(self) -> int:
        """Largest packet that must not be cut and arrived, bytes; 0: none."""
        return max((s.size for s in self.shots if s.kind == "df" and s.arrived is not None), default=0)

    def edge(self) -> tuple[int, int | None]:
        """Largest that arrived, smallest above it that did not (so far) on the flows that lead."""
        lo, ahead = self.passed, self._leading()
        above = [s.size for s in self.shots if self._vanished(s) and s.flow in ahead and lo < s.size <= self.ceiling]
        return lo, min(above, default=None)

    def _leading(self) -> set[int]:
        return judge.leading(self.shots, self.flows, self.passed)

    @staticmethod
    def _vanished(s: Shot) -> bool:
        return s.kind == "df" and s.arrived is None and not s.local

    def lost(self, size: int, kind: Kind = "df") -> list[Shot]:
        """Packets of this size that did not come although a later one of the same flow did."""
        return lost(self.shots, size, kind)

    def _add(self, now: float, size: int, flow: int, kind: Kind = "df") -> Shot:
        shot = Shot(len(self.shots) + 1, size, flow, now, self.round, kind)
        self.shots.append(shot)
        self._asked = now
        return shot

    def _control_on(self, now: float, flow: int) -> None:
        self._control = self._add(now, SMALL, flow).seq

    def _turn(self, n: int, among: set[int] | None = None) -> int:
        """The ``n``-th flow of those that are open, round and round."""
        known = sorted(among or self.flows)
        return known[n % len(known)]

    def _begin(self, now: float) -> None:
        """Small packets until one arrives: neighbours are found, tables of translations filled."""
        if self.open:
            self._first(now)
            return
        if len([s for s in self.shots if s.refused]) >= REFUSED:
            self._finish("refused")
        elif self._warm < len(WARM):
            if now - self._asked >= WARM[self._warm]:
                few = sorted(self.flows) if self._warm % 2 == 0 else sorted(self.flows)[:2]
                self._warm += 1
                for flow in few:
                    self._add(now, SMALL, flow)
        elif now - self.shots[0].at > min(self.patience, self.budget):
            self._finish("nothing-arrives")

    def _first(self, now: float) -> None:
        """The whole range at once, the sender's own size in front: who tells is still fresh (rate limits)."""
        self.round = 1
        self._add(now, self.ceiling, self._turn(0))
        if self.ceiling * ROUND <= BURST:
            self._add(now, self.ceiling, self._turn(1))
        rungs = [*sizes.ladder(self.floor, self.ceiling, self._room(self.ceiling)), 296]
        for size in sorted({s for s in rungs if SMALL < s < self.ceiling}):
            self._add(now, size, self._turn(0))
        self._extras(now)
        self._control_on(now, self._turn(0))

    def _room(self, largest: int) -> int:
        return max(3, min(ROUND, BURST // max(largest, 1)))

    def _over(self, now: float) -> bool:
        """The packet sent last has arrived, and what was in front of it had its chance."""
        if all(s.arrived is not None for s in self.shots if s.round == self.round):
            return True
        if any(s.arrived is not None for s in self.shots[self._control - 1 :]):
            self._silent = 0
            return now - self.heard >= max((self.delay or 0.0) / 4, 0.001)
        if now - self._asked > max(PACE, 1.5 * (self.delay or 0.0)):
            if now - self.heard > PATIENCE:
                self._finish("vanished")
                return False
            self._silent += 1
            self.lossy = self.lossy or self._silent >= SIGN
            # First where it was missing: what arrives there shows what was lost in front of it (:func:`lost`).
            odd = self._silent % 2 == 1
            self._add(now, SMALL, self.shots[self._control - 1].flow if odd else self._turn(self._silent))
        return False

    def _go_on(self, now: float) -> None:
        lo, hi = self.edge()
        if hi is None and lo < self.ceiling:  # the first was larger than our own device, or was tried on other flows
            self.round += 1
            flow = self._turn(0, self._leading())
            self._add(now, self.ceiling, flow)
            self._control_on(now, flow)
        elif hi is None:
            self._even(now, lo)
        elif hi - lo > 1:
            self.round += 1
            ahead = self._leading()
            for n, size in enumerate(sorted(self._cut(lo, hi))):
                self._add(now, size, self._turn(self.round + n % 2, ahead))
            self._extras(now)
            for n in (0, 1):
                self._control_on(now, self._turn(self.round + n, ahead))
        else:
            self._prove(now, lo, hi)

    def _cut(self, lo: int, hi: int) -> set[int]:
        """Sizes between; what a "too big" said comes first, it is mostly true."""
        said = {s.told[0] for s in self.shots if s.told is not None}
        near = {s for m in said for s in (m, m + 1) if lo < s < hi}
        return near | set(sizes.section(lo, hi, self._room(hi)))

    @property
    def need(self) -> int:
        return REPEATS_LOSS if self.lossy else REPEATS

    def _prove(self, now: float, lo: int, hi: int) -> None:
        """The failing size again, on one flow after the other, a small packet behind each; then what passes, on all."""
        gone = len(self.lost(hi))
        told = any(s.told is not None for s in self.shots)
        again = judge.taught(self.shots, lo, hi, self.ceiling).again if told else None
        unasked = self.flows - {s.flow for s in self.shots if s.size == hi and s.kind == "df"}
        if gone < self.need or again is not None or self._wanting() or unasked:
            asked = sum(1 for s in self.shots if s.size == hi and s.kind == "df")
            if asked > 4 * self.need:
                self._finish("unproven")
                return
            self.round += 1
            flow = self._turn(asked)
            for n in range(AT_ONCE if again is not None else 0):
                self._add(now, again or hi, self._turn(asked + n))
                self._add(now, SMALL, self._turn(asked + n))
            for n in range(AT_ONCE if gone < self.need or unasked else 0):
                flow = self._turn(n, unasked) if unasked else self._turn(asked + n)
                self._add(now, hi, flow)
                self._add(now, SMALL, flow)
            self._add(now, lo, flow)
            self._extras(now)
            self._control_on(now, flow)
        elif not self._everywhere(now, lo) and self._quiet(now):
            beside = self._never_alone(hi) if self.loss()[1] else None
            if beside is None:
                self._end(now, lo)
            else:
                self._add(now, beside[0], self._turn(len(self.shots)), beside[1]).alone = True

    def _never_alone(self, hi: int) -> tuple[int, Kind] | None:
        """(size, kind) of what never came, and was not sent often enough with nothing beside it."""
        gone: list[tuple[int, Kind]] = [(hi, "df")]
        gone += [(self._size_of(kind), kind) for kind in self._kinds() if self._lacking(kind)]
        for size, kind in gone:
            if sum(s.alone for s in self.shots if s.size == size and s.kind == kind) < ALONE:
                return size, kind
        return None

    def _even(self, now: float, top: int) -> None:
        """Everything passes: on every flow?"""
        if self._everywhere(now, top):
            return
        if (self.flows <= carrying(self.shots, top) and not self._lacking("fragments")) or self._quiet(now):
            self._end(now, top)

    def _end(self, now: float, top: int) -> None:
        """What single flows lack is sent there with nothing beside it: who polices bytes drops large ones of many."""
        flow = judge.doubtful(self.shots, self.flows, top)
        if flow is None:
            self._finish(None)
        else:
            self._add(now, top, flow).alone = True

    def _everywhere(self, now: float, top: int) -> bool:
        """What passes is sent on the flows that lack it, again and again. False: there is nothing left to ask."""
        seen = len(self.shots), self.heard
        todo = [] if seen == self._asked_all else judge.lacking(self.shots, self.flows, top)[: max(1, BURST // top)]
        if not todo and (seen == self._asked_all or not self._wanting()):
            self._asked_all = seen
            return False
        self.round += 1
        for flow in todo:
            self._add(now, top, flow)
            self._add(now, SMALL, flow)
        self._extras(now)
        self._control_on(now, self._turn(self.round))
        return True

    def _quiet(self, now: float) -> bool:
        """Has everything that is missing been missing for long enough?"""
        last = max((s.at for s in self.shots if s.arrived is None and s.size > SMALL), default=0.0)
        self._settled = last + max(4 * (self.delay or 0.0), SETTLE)
        return now >= self._settled

    # -- packets in pieces -----------------------------------------------------------------------------------

    def _lacking(self, kind: Kind) -> bool:
        """Sent, and none of them came."""
        size = self._size_of(kind)
        mine = [s for s in self.shots if s.kind == kind and s.size == size and not s.local]
        return bool(mine) and all(s.arrived is None for s in mine)

    def _kinds(self) -> list[Kind]:
        """Which of them belong to this search; a whole one only says something where there is a limit."""
        if not self.split:
            return []
        limited = self.family == 4 and self.round > 1 and self.passed < self.ceiling
        return ["fragments", "whole"] if limited else ["fragments"]

    def _wanting(self) -> bool:
        """Is one of the kinds not settled yet: none came, and too few were sent to say so?"""
        return any(self._open_kind(kind) for kind in self._kinds())

    def _open_kind(self, kind: Kind) -> bool:
        size = self._size_of(kind)
        mine = [s for s in self.shots if s.kind == kind and s.size == size]
        if any(s.arrived is not None or s.local for s in mine):
            return False
        return len(self.lost(size, kind)) < self.need and len(mine) < 4 * self.need

    def _size_of(self, kind: Kind) -> int:
        return self.ceiling if kind == "whole" else self.pieces()[0]

    def _extras(self, now: float) -> None:
        for kind in self._kinds():
            if self._open_kind(kind):
                for _ in range(1 if self.round == 1 else AT_ONCE):
                    flow = self._turn(len(self.shots) // 2)
                    self._add(now, self._size_of(kind), flow, kind)
                    self._add(now, SMALL, flow)

    def pieces(self) -> tuple[int, int]:
        """(bytes of the datagram as one IP packet, bytes of the largest fragment it is sent in)."""
        head = 20 if self.family == 4 else 48
        piece = PIECE[self.family] if self.round <= 1 else min(PIECE[self.family], max(self.passed, SMALL))
        chunk = (piece - head) // 8 * 8
        return (20 if self.family == 4 else 40) + 2 * chunk, head + chunk

    def give_up(self, note: str) -> None:
        """End the search; what was measured stands."""
        self._finish(note)

    def _finish(self, note: str | None) -> None:
        self.done = True
        self.note = self.note or note

    # -- the facts -------------------------------------------------------------------------------------------

    def bracket(self) -> Bracket:
        """The verdict. Notes: "nothing-arrives" (not even small packets do), "not-handed-on" (they come in,
        and the socket does not get them), "refused", "vanished", "unproven",
        "time", "told-in-part" (the largest vanish in silence, some that fail as well are answered "too big")."""
        lo, hi = self.edge()
        if not lo:
            note = "not-handed-on" if any(s.door for s in self.shots) else self.note or "nothing-arrives"
            return Bracket(method=self.method, tests=self.tests, note=note)
        if hi is None:
            whole = lo >= self.ceiling
            return Bracket(
                method=self.method,
                tests=self.tests,
                passes=lo,
                grade="proof" if whole else "none",
                note=None if whole else self.note,
            )
        told = any(s.told is not None and s.kind == "df" and s.size >= hi for s in self.shots)
        best = judge.taught(self.shots, lo, hi, self.ceiling).said
        gone = self.lost(hi)
        if len(gone) < (TOLD_LATER if told else self.need):
            return Bracket(method=self.method, tests=self.tests, passes=lo, note=self.note or "unproven")
        return Bracket(
            method=self.method,
            tests=self.tests,
            passes=lo,
            fails=hi,
            grade="told" if best else "proof",
            exact=lo + 1 == hi,
            told_by=best[1] if best else None,
            told_mtu=best[0] if best else None,
            note="told-in-part" if told and not best else None,
        )

    def uneven(self, ports: dict[int, int]) -> Uneven | None:
        """Flows of the largest size that passes of which some always fail, in silence, and the others do not (MTU118).
        ``ports``: by flow."""
        top = self.passed
        good, bad = judge.unlike(self.shots, self.flows, top)
        if not good or not bad:
            return None
        return Uneven(
            size=top,
            good=len(good),
            bad=len(bad),
            tests=self.tests,
            ports_good=tuple(sorted(ports.get(f, 0) for f in good)),
            ports_bad=tuple(sorted(ports.get(f, 0) for f in bad)),
        )

    def splits(self) -> tuple[Split, ...]:
        """What became of the packets that may be in pieces, one fact a kind that was sent."""
        found: list[Split] = []
        kinds: tuple[Literal["fragments", "whole"], ...] = ("fragments", "whole")
        for kind in (k for k in kinds if k in self._kinds()):
            size = self._size_of(kind)
            mine = [s for s in self.shots if s.kind == kind and s.size == size and not s.local]
            came = [s for s in mine if s.arrived is not None]
            if not mine:
                continue
            found.append(
                Split(
                    direction=self.tests,
                    kind=kind,
                    size=size,
                    piece=self.pieces()[1] if kind == "fragments" else 0,
                    sent=len(mine),
                    arrived=len(came),
                    cut=sum(1 for s in came if s.cut),
                    door=sum(1 for s in mine if s.door and s.arrived is None),
                    lost=len(self.lost(size, kind)),
                    sure=bool(came) or len(self.lost(size, kind)) >= self.need,
                )
            )
        return tuple(found)

    def loss(self) -> tuple[int, int]:
        """(packets of sizes that pass, those of them that got lost), from the first arrival on."""
        first = next((s.seq for s in self.shots if s.arrived is not None), len(self.shots) + 1)
        fine = [s for s in self.shots if s.kind == "df" and s.seq >= first and s.size <= self.passed]
        gone = {s.seq for size in {s.size for s in fine} for s in self.lost(size)}
        return len(fine), len(gone)

    def attempts(self, first: int, start: float, ports: dict[int, int]) -> list[Attempt]:
        """Every packet as one attempt, numbered from ``first``."""
        gone = {x.seq for size, kind in {(s.size, s.kind) for s in self.shots} for x in self.lost(size, kind)}
        return [
            Attempt(
                n=first + i,
                method=METHODS.get(s.kind, self.method),
                tests=self.tests,
                size=s.size,
                arrived=s.size if s.arrived is not None else 0,
                outcome=outcome(s, s.seq in gone),
                port=ports.get(s.flow, 0),
                at=round(s.at - start, 4),
                took=round(s.arrived - s.at, 6) if s.arrived is not None else 0.0,
                round=s.round,
                by=s.told[1] if s.told else None,
                mtu=s.told[0] if s.told else None,
                note="in-pieces" if s.cut else "at-the-door" if s.door and s.arrived is None else "",
            )
            for i, s in enumerate(self.shots)
        ]
