"""One connection of the reverse probe: what has been seen of it, and what that means so far.

The engine calls :meth:`Track.see` with readings of struct tcp_info; everything else is derived. A Track never
touches a socket and takes the time as an argument, so a simulated path can play it (tests/unit/simpath.py).
"""

from enum import Enum
from typing import NamedTuple

import msgspec

from pathfit.core.measured import Attempt, Outcome
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS

INITIAL_MSS = 536  # tcp_initialize_rcv_mss(): what rcv_mss says before any segment came (probing.md 3)
ESTABLISHED = 1
STANDING = (ESTABLISHED, 8)  # 8, TCP_CLOSE_WAIT: the FIN came before we looked
FINISHED = (8, 9, 11)  # CLOSE_WAIT, LAST_ACK, CLOSING: the peer's FIN counts as a byte (tcp_rcv_nxt_update())
CRUMBS = 16  # segments, with a quarter of the asked size at most, after which a sender is known to make them small
OPTIONS = 40  # bytes of TCP options at most
RECORD = 16384  # bytes: TLS cuts what is said after as many (RFC 8446 5.1), and each may end in a segment of its own
SLACK = 3  # segments that may be less than full: the ends of two or three writes


class Reading(NamedTuple):
    """What we look at in struct tcp_info, in its own units (payload bytes, counts; ``rtt`` seconds)."""

    state: int
    timestamps: bool
    rcv_mss: int
    snd_mss: int
    advmss: int
    acked: int  # bytes, SYN included
    received: int  # bytes delivered in order
    segments: int  # data segments received
    ooo: int | None  # segments received out of order, ever; None before Linux 5.4
    retrans: int
    rtt: float


class Status(Enum):
    """What one connection says about its size right now."""

    WAIT = "wait"  # nothing can be said yet
    PASS = "pass"  # a segment of the asked size arrived
    FLAT = "flat"  # a long answer arrived whole, in smaller segments: no hole, and no evidence for the size
    SHORT = "short"  # the whole answer arrived and was too short to hold a full segment: says nothing
    FAIL = "fail"  # something is missing and has been for a while
    MUTE = "mute"  # the request was acknowledged and nothing (more) comes
    DEAD = "dead"  # no connection, or our own request does not get through: says nothing about size


class Track(msgspec.Struct):
    """``size``: the IP packet the connection invites (TCP_MAXSEG + headers). Times are on the engine's clock."""

    n: int
    size: int
    plain: bool
    round: int
    family: int
    opened: float
    purpose: str = ""
    port: int = 0
    connected: float | None = None
    asked: float | None = None  # the request was handed to the kernel
    asked_bytes: int = 0
    first: float | None = None  # the first byte of the answer
    progress: float = 0.0  # last time bytes arrived in order
    got: int = 0
    segments: int = 0
    ooo: int = 0
    counts_ooo: bool = True
    arrived: int = 0  # largest IP packet that surely arrived
    acked: int = 0
    retrans: int = 0
    rtt: float | None = None
    timestamps: bool = False
    measured: int = 0  # largest segment the kernel measured, payload bytes; 0: none above its initial value
    advmss: int = 0
    snd_mss: int = 0
    invited: int = 0  # the same when the connection came about: as the peer's SYN-ACK and our own route have it
    asked_at: tuple[float | None, int, int] = (None, 0, 0)  # the last request: when, and `got`, `segments` before it
    run: int = 0  # payload bytes of the segments that one answer came in, all but its ends
    looked: float | None = None  # the last reading
    gap_at: float | None = None  # since when something has been missing
    gap_from: float | None = None  # the last reading that saw nothing missing before that
    mended: float | None = None  # how long the longest gap that was filled had stood
    cut: float | None = None  # the same, of gaps that may have come from segments too large (see _mend)
    cut_from: float | None = None  # when the first of those opened
    kept: bool = False  # segments of one size, smaller than asked, had come in numbers: the sender makes no larger ones
    complete: bool = False  # the answer is whole (the protocol says so)
    many: bool = False  # the last we said were several requests at once; not every server answers all of them
    row: bool = False  # this one did
    paced: bool = False  # what it answers is as much as we ask: segments of one size follow ours, and tell nothing
    narrow: bool = False  # our receive window is a few segments small, so that small answers pile up behind it
    closed: float | None = None
    ended: Outcome | None = None  # how the connection ended by itself
    by: str | None = None
    note: str = ""
    phase: str = ""  # how far TLS came
    syn_retrans: int = 0
    extra: dict[str, str] = msgspec.field(default_factory=dict)

    def header(self) -> int:
        """Bytes of IP and TCP header of one data segment on this connection."""
        return IP_HEADER[self.family] + TCP_HEADER + (TIMESTAMPS if self.timestamps else 0)

    def payload(self) -> int:
        """Payload bytes of a segment of the asked size."""
        return self.size - self.header()

    def see(self, now: float, r: Reading) -> None:
        """Take one reading."""
        if r.state not in STANDING and self.connected is None:
            self.syn_retrans = max(self.syn_retrans, r.retrans)
            return
        if self.connected is None:
            self.connected = now
            self.timestamps = r.timestamps
            self.invited = r.snd_mss
            self.syn_retrans = max(self.syn_retrans, r.retrans)
        self.advmss, self.snd_mss = r.advmss, r.snd_mss
        self.acked = max(0, r.acked - 1)
        self.retrans, self.rtt = r.retrans, r.rtt
        if r.ooo is None:
            self.counts_ooo = False
        was, before = (self.got, self.segments), self.measured
        self._arrivals(now, r)
        self._evidence(r, *was)
        self.kept = self.capped or (self.kept and self.measured == before)
        self.looked = now

    def _arrivals(self, now: float, r: Reading) -> None:
        received = r.received - (r.received > 0 and r.state in FINISHED)
        moved = received > self.got
        if moved:
            self.first = now if self.first is None else self.first
            self.got, self.progress = received, now
            if self.gap_at is not None:  # filled, at least in part
                self._mend(now, now - self.gap_at, r)
                self.gap_at = None
        self.segments = r.segments
        if (r.ooo or 0) > self.ooo:
            self.ooo = r.ooo or 0
            if moved:  # both between two readings: it came and went, or something is missing still
                self._mend(now, 0.0, r)
            if self.gap_at is None:
                self.gap_at, self.gap_from = now, self.looked

    def _mend(self, now: float, stood: float, r: Reading) -> None:
        """A gap was filled. Was what had been missing too large, and is cut anew? Not where segments of the size that
        came then had been here before, behind the gap (recent kernels measure those as well; seen on 6.18): the sender
        makes them no larger, and one of them was lost. Nor what gets lost after many of that size."""
        self.mended = max(self.mended or 0.0, stood)
        if not self.kept and not self._crumbs() and not (stood and self.measured and r.rcv_mss <= self.measured):
            self.cut = max(self.cut or 0.0, stood)
            if self.cut_from is None:  # it opened after a reading that saw nothing missing, however soon it was filled
                seen = self.gap_from if self.gap_at is not None else self.looked
                self.cut_from = now - stood if seen is None else min(seen, now - stood)

    def _crumbs(self) -> bool:
        """Had so much come in so small pieces that none of what was missing can have been too large? (An MSS of 1 in
        somebody's SYN: segments of 36 bytes, below anything the kernel measures, tcp_measure_rcv_mss.)"""
        return self.segments >= CRUMBS and 4 * self.got <= self.payload() * self.segments

    def _evidence(self, r: Reading, got: int, segments: int) -> None:
        """The largest segment that arrived, from what the kernel measured (tcp_measure_rcv_mss; probing.md 3).
        ``got``, ``segments``: at the reading before."""
        largest = 0
        if r.rcv_mss > INITIAL_MSS:
            largest = self.measured = max(self.measured, r.rcv_mss)
        elif self.segments and self.got:
            # Below the initial value rcv_mss moves only when two segments of one size came; and the mean of what
            # was delivered, in all or since the last look, is a lower bound of the largest segment whatever the
            # kernel estimates.
            mean = -(-self.got // self.segments) if not self.ooo else 0
            if not self.ooo and segments < self.segments:
                mean = max(mean, -(-(self.got - got) // (self.segments - segments)))
            # The initial value is never above the payload asked for; where it is just that, a segment of it cannot
            # be told from none, but less than one segment's bytes can, and a row of small pieces.
            full = self.payload()
            if r.rcv_mss < min(INITIAL_MSS, full) or (r.rcv_mss == full and self.got >= full and 2 * mean > full):
                largest = r.rcv_mss
            if INITIAL_MSS - OPTIONS <= r.rcv_mss < min(INITIAL_MSS, full) and not self.many:
                self.measured = max(self.measured, r.rcv_mss)  # 536 and less options: SYN cookies, or a clamp to that
            largest = max(largest, min(mean, self.payload()))
        if largest:
            self.arrived = max(self.arrived, largest + self.header())
        self._of_one_size(got, segments)

    def _of_one_size(self, got: int, segments: int) -> None:
        """Did the answer to the last request come in segments of one size? One answer is enough: what was said before
        it (a handshake), and a row of small answers behind it, may have come in any pieces."""
        if self.asked != self.asked_at[0]:
            self.asked_at = (self.asked, got, segments)
        came, pieces = self.got - self.asked_at[1], self.segments - self.asked_at[2]
        if came >= 3 * self.measured > 0 and pieces <= came / self.measured + SLACK + came // RECORD:
            self.run = self.measured

    def missing_for(self, now: float) -> float:
        """Seconds something has been missing: later bytes are here, the ones before are not."""
        if self.gap_at is None or self.complete or self.passed:
            return 0.0
        return (self.closed if self.closed is not None else now) - max(self.gap_at, self.progress)

    def silent_for(self, now: float) -> float:
        """Seconds nothing new has come in order after our request was handed over."""
        if self.asked is None:
            return 0.0
        return (self.closed if self.closed is not None else now) - max(self.asked, self.progress)

    @property
    def passed(self) -> bool:
        return self.arrived >= self.size

    @property
    def heard(self) -> bool:
        """Our whole request was acknowledged."""
        return self.asked is not None and self.acked >= self.asked_bytes > 0

    @property
    def disturbed(self) -> bool:
        """Something was missing and came, in full segments or in ones the sender makes no larger: loss, whatever the
        size."""
        return self.mended is not None and (self.passed or (self.kept and self.cut is None))

    @property
    def long(self) -> bool:
        """What came would have made two segments of the asked size."""
        return self.got >= 2 * self.payload()

    def status(self, now: float, gap: float, silence: float) -> Status:
        """``gap``/``silence``: seconds until a standing gap, or silence, counts."""
        if self.passed:
            return Status.PASS
        if self.ended in ("refused", "unreachable", "timeout", "unacked"):
            return Status.DEAD
        if self.complete:
            return (
                Status.FLAT if self.capped or (self.mended is not None and self.long and not self.row) else Status.SHORT
            )
        if self.gap_at is not None:
            if self.missing_for(now) >= gap:
                return Status.FAIL
            return Status.DEAD if self.closed is not None else Status.WAIT
        if self.ended in ("reset", "closed"):
            return Status.SHORT if self.got else Status.DEAD
        if self.connected is not None and self.heard and self.silent_for(now) >= silence:
            return Status.MUTE
        return Status.DEAD if self.closed is not None else Status.WAIT

    def outcome(self, now: float, settle: float, silence: float) -> Outcome:
        """How this attempt is recorded."""
        status = self.status(now, settle, silence)
        if status is Status.PASS:
            return "recovered" if self.mended is not None else "full"
        if status is Status.FLAT:
            return "healed" if self.mended is not None else "capped"
        if self.ended is not None:
            return self.ended
        if status is Status.SHORT:
            return "short"
        if status is Status.FAIL:
            return "gap"
        if status is Status.MUTE:
            return "silent"
        if self.connected is None:
            return "timeout" if self.syn_retrans else "aborted"
        if self.asked is not None and not self.heard and self.retrans:
            return "unacked"
        return "aborted"

    @property
    def scattered(self) -> bool:
        """Rows of small answers came whole, and never made a segment of the size asked for."""
        return self.row and self.complete and not self.passed and not self.capped

    @property
    def capped(self) -> bool:
        """Much arrived in segments of one size, smaller than asked: somebody keeps them smaller. An answer written in
        small pieces has more segments than its size needs, and says nothing."""
        return 0 < self.measured == self.run and not self.passed and not self.paced

    def attempt(self, now: float, start: float, settle: float, silence: float) -> Attempt:
        """The record of this connection."""
        return Attempt(
            n=self.n,
            method="tcp-maxseg",
            size=self.size,
            outcome=self.outcome(now, settle, silence),
            port=self.port,
            arrived=self.arrived,
            got=self.got,
            ooo=self.ooo,
            gap=round(self.missing_for(now), 4),
            acked=self.acked,
            retrans=self.retrans,
            rtt=self.rtt,
            at=round(self.opened - start, 4),
            took=round((self.closed if self.closed is not None else now) - self.opened, 4),
            round=self.round,
            plain=self.plain,
            by=self.by,
            note=self.note,
            phase=self.phase,
        )
