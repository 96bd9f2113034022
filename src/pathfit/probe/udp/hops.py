"""TTL-limited pairs of datagrams: who on the way answers the small one, who the large one. Needs no privileges.

Each datagram leaves from a port of its own, by which the kernel brings back the "time exceeded" it caused.
"""

from __future__ import annotations

import random
import select
import time
from typing import Literal

from pathfit.core.evidence import HopsFact, Missing
from pathfit.core.net import IP_HEADER
from pathfit.core.request import MeasureHops
from pathfit.host import netns
from pathfit.host.udpsock import Came, Pair, Said
from pathfit.measure.place import PACE, TRIES, Places
from pathfit.measure.refusal import word
from pathfit.probe.udp.engine import CLOSED
from pathfit.probe.udp.hands import UDP_HEADER
from pathfit.probe.udp.tongues import payload_of

clock = time.monotonic
ATTEMPTS = TRIES + 1
WAIT = 0.3  # seconds for the answers of the last round; routers answer late under load


def measure_udp_hops(fd: int | None, request: MeasureHops) -> HopsFact | Missing:
    """Send ``small`` and ``large`` byte datagrams with TTL 1..``max_ttl``; who answered which."""
    try:
        return _Datagrams(fd, request).run()
    except OSError as e:
        return Missing(ref=request.ref, what="who on the way drops large packets", why=e.strerror or str(e))


class _Datagrams:
    def __init__(self, fd: int | None, request: MeasureHops) -> None:
        self.fd, self.request = fd, request
        self.family: Literal[4, 6] = 6 if ":" in request.address else 4
        self.places = Places(max_ttl=request.max_ttl)
        self.pairs: dict[int, tuple[Pair, int, bool]] = {}
        self.poll = select.poll()
        self.random = random.Random(int(clock() * 1e6))

    def run(self) -> HopsFact:
        until = clock() + self.request.budget
        try:
            for attempt in range(ATTEMPTS):
                wanted = self.places.wanted(attempt)
                if not wanted or clock() >= until:
                    break
                for ttl, large in sorted(wanted, key=lambda w: (w[1], w[0])):
                    self._send(ttl, large)
                self._listen(min(until, clock() + PACE))
            self._listen(min(until, clock() + WAIT))
        finally:
            for pair, _, _ in self.pairs.values():
                pair.close()
        return HopsFact(
            ref=self.request.ref, hops=self.places.answers(), small=self.request.small, large=self.request.large
        )

    def _send(self, ttl: int, large: bool) -> None:
        r = self.request
        with netns.inside(self.fd):
            pair = Pair(self.family, r.address, r.port or CLOSED)
        self.pairs[pair.fd] = (pair, ttl, large)
        self.poll.register(pair.fd, select.POLLIN)
        pair.hops(ttl)
        ident = self.random.getrandbits(64).to_bytes(8, "big")
        size = (r.large if large else r.small) - IP_HEADER[self.family] - UDP_HEADER
        if pair.send(payload_of(r.method, ident, size)) == "sent":
            self.places.sent(ttl, large)

    def _listen(self, until: float) -> None:
        while (left := until - clock()) > 0:
            for fd, _ in self.poll.poll(1000 * left):
                pair, ttl, large = self.pairs[fd]
                for what in pair.read():
                    self._heard(what, ttl, large)

    def _heard(self, what: Said | Came, ttl: int, large: bool) -> None:
        if isinstance(what, Came):
            self.places.answered(ttl, large, by=self.request.address, target=True)
        elif word(self.family, what.type, what.code) != "too-big":
            self.places.answered(ttl, large, by=what.by, target=what.by == self.request.address)
