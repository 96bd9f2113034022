"""The hands of the echo search."""

from __future__ import annotations

import socket
import time
from typing import Literal

from pathfit.core.measured import Attempt, Bracket
from pathfit.core.request import Measure
from pathfit.host import netns, rawsock, tcpsock
from pathfit.measure.echo import Echo
from pathfit.probe.lookout import Lookout
from pathfit.wire import packets

clock = time.monotonic
EXTRA = 0.15  # seconds an echo search beside a TCP measurement may take besides its round trips
FALLBACK = 1500  # bytes: a link that does not tell its MTU


class Pinger:
    """Drives one :class:`~pathfit.measure.echo.Echo` through a lookout's packet socket."""

    def __init__(self, fd: int | None, request: Measure, lookout: Lookout, now: float, sized: bool) -> None:
        self.request, self.lookout = request, lookout
        self.family: Literal[4, 6] = 6 if ":" in request.address else 4
        af = socket.AF_INET6 if self.family == 6 else socket.AF_INET
        self.remote = socket.inet_pton(af, request.address)
        with netns.inside(fd):
            with socket.socket(af, socket.SOCK_DGRAM) as s:
                s.connect((request.address, request.port or 9))
                self.local_text = s.getsockname()[0].split("%")[0]
                mtu = tcpsock.route_mtu(s, self.family) or FALLBACK
            self.raw = rawsock.sender(self.family)
        self.local = socket.inet_pton(af, self.local_text)
        self.mtu = min(mtu, request.ceiling or mtu)
        # Different for every measurement of this host at one time: the low bits of the socket's number and time.
        self.ident = (id(self) >> 4 ^ int(now * 1000)) & 0xFFFF
        sized = sized and self.family == 4  # trap 1: never an oversize echo on IPv6
        self.search = Echo(ceiling=self.mtu, start=now, floor=request.floor, sized=sized)
        self.told_seen = 0
        self.sent = 0

    @property
    def done(self) -> bool:
        return self.search.done

    def worth(self, now: float) -> bool:
        """Is it worth waiting for more, when all else is done? A host that answers no echo is not waited for."""
        rtt = self.search.rtt
        return now - self.search.start < (EXTRA if rtt is None else EXTRA + 8 * rtt)

    def step(self, now: float) -> None:
        """Take the replies the lookout has collected, send what is wanted."""
        for ident, seq in self.lookout.echoes:
            if ident == self.ident:
                self.search.answered(now, seq)
        for seq, mtu, by in self.lookout.echo_too_big:
            self.search.told(seq, mtu, by)
        for ping in self.search.step(now):
            packet = packets.echo_request(self.local, self.remote, self.ident, ping.seq, ping.size)
            self.lookout.sizes[(self.ident, ping.seq)] = ping.size
            self.sent += 1
            if rawsock.send(self.raw, packet, self.request.address) == "local":
                self.search.local(ping.seq)

    def ttl(self) -> int | None:
        """TTL of a reply as it reached us."""
        return next((ttl for (ident, _), ttl in self.lookout.echoes.items() if ident == self.ident), None)

    def attempts(self, start: float, first: int) -> list[Attempt]:
        return self.search.attempts(first, start)

    def bracket(self) -> Bracket:
        return self.search.bracket()

    def close(self) -> None:
        self.raw.close()
