"""The hands of the first flight: ClientHellos on ordinary connections, beside the look at the certificate.

Our kernel cuts a large one into segments as it would the asked client's. So it is sent only where the way out is known:
a "too big" would teach us a path MTU and hide a fault for ten minutes (probing.md 1).
"""

from __future__ import annotations

import os
import time

from pathfit.core.measured import Flight, FlightTry
from pathfit.measure import flight
from pathfit.measure.flight import FIRST_ROUND, SECOND, Kind, Known, second_round
from pathfit.measure.verdict import SETTLE, UNEVEN_AGE
from pathfit.probe.speech.talk import Script, Talk
from pathfit.probe.tcp.conn import Conn
from pathfit.probe.tcp.simple import Several
from pathfit.wire import tls

SMALL_PIECES = 2  # segments of the small ClientHello that is split
clock = time.monotonic


def hello(kind: Kind, sni: str | None, *, http: bool = True) -> bytes:
    """A ClientHello of that kind, with fresh random bytes."""
    mlkem = tls.mlkem_share(os.urandom(tls.MLKEM_RANDOM)) if kind == "large" else b""
    size = tls.LARGE_HELLO if kind in ("large", "padded") else tls.SMALL_HELLO
    return tls.client_hello(os.urandom(96), sni, mlkem, size, http=http)


class Flights:
    """One measurement of first flights. ``connections`` and ``packets`` count what it cost."""

    def __init__(self, script: Script, know: Known, several: Several, left: int, room: int) -> None:
        self.script, self.know, self.several, self.left, self.room = script, know, several, left, room
        self.queue: list[Kind] = []
        self.lanes: list[tuple[Kind, Conn]] = []
        self.judged: set[Conn] = set()
        self.second = False
        self.answered = 0.0  # when the first large one was
        self._want(FIRST_ROUND)
        self._fill()
        self.done = not self.lanes and not self.queue

    @property
    def connections(self) -> int:
        return len(self.lanes)

    @property
    def packets(self) -> int:
        return sum(3 + c.track.segments + c.track.retrans for _, c in self.lanes)

    def step(self, now: float) -> None:
        """Look at all of them; open the second round when the first large one is not answered."""
        for kind, conn in self.lanes:
            if self._settled(kind, conn, now):
                self.judged.add(conn)
                self.several.close(conn)
        self._fill()
        large = [c for kind, c in self.lanes if kind == "large"]
        if not large:
            return
        if any(_answered(c) for c in large):
            # The small one beside it has been under way as long; it is not what is waited for.
            waits = [c for kind, c in self.lanes if kind == "small" and not c.closed]
            self.answered = self.answered or now
            self.done = not waits or now - self.answered > SETTLE
        elif not self.second and (large[0] in self.judged or now - large[0].track.opened > self._soon()):
            self.second = True
            self._want(second_round(self.know))
            self._fill()
        elif not self.queue and all(c.closed for _, c in self.lanes):
            self.done = True

    def result(self) -> Flight:
        return flight.judge(self.know, [self._tried(kind, conn) for kind, conn in self.lanes])

    # -- inside ----------------------------------------------------------------------------------------------

    def _soon(self) -> float:
        return max(SECOND, 3 * self.know.rtt)

    def _want(self, kinds: tuple[Kind, ...]) -> None:
        """All of a round, or nothing where too few connections are left."""
        if len(kinds) <= self.left:
            self.left -= len(kinds)
            self.queue += kinds

    def _fill(self) -> None:
        """Open what waits, no more at once than there may be."""
        while self.queue and len(self.several.live) < self.room:
            kind = self.queue.pop(0)
            first = hello(kind, self.script.sni, http=self.script.protocol == "https")
            pieces = -(-len(first) // SMALL_PIECES) if kind == "split" else 0
            talk = Talk(self.script, 0, plain=True, first=first, pieces=pieces)
            self.lanes.append((kind, self.several.open(talk, None)))

    def _patience(self, kind: Kind) -> float:
        beside = any(_answered(c) for k, c in self.lanes if k == "small")
        return self.know.patience if beside and kind == "large" else max(self.know.patience, UNEVEN_AGE)

    def _settled(self, kind: Kind, conn: Conn, now: float) -> bool:
        """Is all known of this one? No gap is judged before something small was answered (a busy server answers late);
        those that do not connect are waited for as long as the silent ones."""
        t = conn.track
        since = t.asked if conn.talk.stage == "flight" and t.asked is not None else t.opened + 2 * self.know.rtt
        return conn.closed or conn.talk.done or _answered(conn) or now - since > self._patience(kind)

    def _tried(self, kind: Kind, conn: Conn) -> FlightTry:
        t, talk = conn.track, conn.talk
        said = talk.stage == "flight"
        before = t.asked_bytes - len(talk.first)  # what came before TLS
        over = t.closed is not None and (conn in self.judged or t.ended is not None)
        outcome = flight.outcome(
            over=over,
            connected=t.connected is not None and said,
            answered=_answered(conn),
            alert=talk.alert_kind == "alert",
            garbage=talk.alert_kind == "garbage",
            ended=t.ended,
            acked=t.heard,
        )
        head = t.header()
        full = t.snd_mss + head if t.snd_mss else self.know.packet
        return FlightTry(
            kind=kind,
            outcome=outcome,  # type: ignore[arg-type]
            hello=len(talk.first),
            packet=min(full, len(talk.first) + head) if not talk.pieces else talk.pieces + head,
            acked=max(0, t.acked - before) if said else 0,
            port=t.port,
            took=round((t.closed or t.opened) - t.opened, 4),
            alert=talk.alert,
        )


def _answered(conn: Conn) -> bool:
    """Did the other end go on with the handshake? Also when the beginning of its answer is missing here: the way in may
    have a hole of its own."""
    talk = conn.talk
    return talk.stage == "flight" and talk.alert is None and (talk.records.phase != "" or conn.track.gap_at is not None)
