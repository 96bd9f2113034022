"""TTL-limited pairs, injected beside one live connection: who on the way answers the small one, who the large one.

Per TTL the small and the large segment begin at an offset of their own. A "time exceeded" quotes that sequence
number; the target's answer is a SACK block that begins there (blocks of the TTLs above it merge into it, those
below never arrive, so a block's left edge is the nearest TTL that got there).
"""

from __future__ import annotations

import select
import socket
import time

from pathfit.core.evidence import HopsFact, Missing
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.request import MeasureHops
from pathfit.host import netns, rawsock, tcpsock
from pathfit.measure.place import PACE, TRIES, Places
from pathfit.probe.lookout import Heard, Lookout
from pathfit.probe.tcp.seat import MASK, Seat

clock = time.monotonic
WAIT = 0.3  # seconds for the answers of the last round; routers answer late under load
SOON = 0.005  # seconds until the second try: it only has to know where the target stands
CONNECT = 1.3  # seconds for the connection: one SYN may be lost
ATTEMPTS = TRIES + 1
SMALL_AT, STEP = 16, 1  # offset of the small segment of TTL 0; the large ones begin behind the small ones


def measure_hops(fd: int | None, request: MeasureHops) -> HopsFact | Missing:
    """Send ``small`` and ``large`` byte packets with TTL 1..``max_ttl``; who answered which. Needs CAP_NET_RAW and
    a target that accepts connections."""
    if request.method != "tcp":
        from pathfit.probe.udp.hops import measure_udp_hops

        return measure_udp_hops(fd, request)
    family = 6 if ":" in request.address else 4
    try:
        address = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, request.address)
        with netns.inside(fd):
            lookout = Lookout(family, address, request.port)
            try:
                raw = rawsock.sender(family)
            except OSError:
                lookout.close()
                raise
    except OSError as e:
        return Missing(
            ref=request.ref,
            what="who on the way drops large packets",
            why=f"raw sockets: {e.strerror or e}",
            how=AS_ROOT,
            code="permission",
        )
    seat = Seat(fd, request.address, request.port)
    try:
        return _Pairs(request, seat, raw, lookout).run()
    finally:
        seat.close()
        lookout.close()
        raw.close()


class _Pairs:
    def __init__(self, request: MeasureHops, seat: Seat, raw: socket.socket, lookout: Lookout) -> None:
        self.request, self.seat, self.raw, self.lookout = request, seat, raw, lookout
        self.places = Places(max_ttl=request.max_ttl)
        self.waiting: set[tuple[int, bool]] = set()
        self.errors_seen = 0
        self.large_at = SMALL_AT + request.max_ttl + request.small
        self.poll = select.poll()
        self.poll.register(lookout.fd, select.POLLIN)

    def run(self) -> HopsFact | Missing:
        until = clock() + self.request.budget
        if not self._connect(min(until, clock() + CONNECT)):
            return Missing(
                ref=self.request.ref,
                what="who on the way drops large packets",
                why="no connection to send beside",
                code="timeout",
            )
        self.lookout.on_ack = self._ack
        for attempt in range(ATTEMPTS):
            self.waiting = set(self.places.wanted(attempt))
            if not self.waiting or clock() >= until:
                break
            for ttl, large in sorted(self.waiting, key=lambda w: (w[1], w[0])):
                self._send(ttl, large)
            self._collect(min(until, clock() + max(PACE if attempt else SOON, 4 * self.seat.rtt)))
        self._collect(min(until, clock() + min(WAIT, 2 * self.seat.rtt)))
        return HopsFact(
            ref=self.request.ref,
            hops=self.places.answers(),
            small=self.request.small,
            large=self.request.large,
        )

    def _connect(self, until: float) -> bool:
        """Wait until the connection stands and its SYN-ACK has been seen."""
        writable = select.poll()
        writable.register(self.seat.fd, select.POLLOUT)
        if self.seat.failed or not writable.poll(1000 * max(0.0, until - clock())):
            return False
        if tcpsock.error(self.seat.sock):
            return False
        while not self.seat.ready and clock() < until:
            self.lookout.read(clock())
            if not self.seat.take(self.lookout):
                self.poll.poll(5)
        return self.seat.ready

    def _offset(self, ttl: int, large: bool) -> int:
        return (self.large_at if large else SMALL_AT) + ttl * STEP

    def _send(self, ttl: int, large: bool) -> None:
        size = self.request.large if large else self.request.small
        if self.seat.inject(self.raw, self.lookout, size, self._offset(ttl, large), clock(), ttl) == "sent":
            self.places.sent(ttl, large)

    def _collect(self, until: float) -> None:
        """Read answers until ``until``, or until everything sent has been answered."""
        while self.waiting and (now := clock()) < until:
            if self.poll.poll(1000 * (until - now)):
                self.lookout.read(clock())
                self._errors()

    def _errors(self) -> None:
        for error in self.lookout.errors[self.errors_seen :]:
            if error.port != self.seat.local_port:
                continue
            offset = (error.seq - self.seat.seq) & MASK
            key = self._key(offset)
            if key is not None:
                self.waiting.discard(key)
                self.places.answered(*key, by=error.by, target=False)
        self.errors_seen = len(self.lookout.errors)

    def _key(self, offset: int) -> tuple[int, bool] | None:
        for large, base in ((False, SMALL_AT), (True, self.large_at)):
            if 0 < offset - base <= self.request.max_ttl:
                return offset - base, large
        return None

    def _ack(self, heard: Heard) -> None:
        if heard.tcp.dport != self.seat.local_port:
            return
        for left, _ in self.seat.offsets(heard):
            key = self._key(left)
            if key is not None:
                self.places.answered(*key, by=self.request.address, target=True)
                # Every TTL from here on gets there too, in the same block.
                self.waiting = {w for w in self.waiting if w[1] != key[1] or w[0] < key[0]}
