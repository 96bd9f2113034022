"""Sockets and time of a measurement by datagrams: pairs of sockets, what is heard on them and beside them."""

from __future__ import annotations

import errno
import random
import select
import socket
import time
from collections.abc import Callable
from typing import Literal

from pathfit.core.evidence import Missing
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.measured import TooBig
from pathfit.core.net import IP_HEADER, bracketed
from pathfit.core.request import Measure
from pathfit.host import netns, tcpsock
from pathfit.host.udpsock import Came, Pair, Said
from pathfit.measure.datagrams import LEAST_MTU, Datagrams
from pathfit.measure.refusal import word
from pathfit.probe.lookout import UDP_SEQ, Lookout
from pathfit.probe.ping import Pinger

clock = time.monotonic
UDP_HEADER = 8
FALLBACK = 1500  # bytes: a link that does not tell its MTU
MOST_SIZE = 65535
TICK = 0.002
WAY_ERRORS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENETDOWN)
Hear = Callable[[Pair, "Said | Came", float], None]


class Hands:
    """What a course of questions needs. ``hear`` is told of everything that comes; ``close`` whatever happened."""

    def __init__(self, fd: int | None, request: Measure) -> None:
        self.fd, self.request = fd, request
        self.family: Literal[4, 6] = 6 if ":" in request.address else 4
        self.header = IP_HEADER[self.family] + UDP_HEADER
        self.start = clock()
        self.random = random.Random(request.seed ^ int(self.start * 1e6))
        self.epoll = select.epoll()
        self.pairs: dict[int, Pair] = {}
        self.ports: dict[int, Pair] = {}
        self.hear: Hear = lambda pair, what, now: None
        self.sent = self.connections = 0
        self.missing: list[Missing] = []
        self.heard_errors = self.heard_big = 0
        self.told: dict[tuple[str, int], TooBig] = {}
        self.sized: dict[int, int] = {}  # our port -> size of what was sent by it
        self.error: str | None = None
        self.local: str | None = None
        self.searches: list[Datagrams] = []
        self.pinger: Pinger | None = None
        self.lookout = self._lookout()
        with netns.inside(fd):
            self.believed = tcpsock.path_mtu(self.family, request.address, request.port)
        self.ceiling = min(self.believed or FALLBACK, request.ceiling or MOST_SIZE, MOST_SIZE)

    def _lookout(self) -> Lookout | None:
        packed = socket.inet_pton(socket.AF_INET6 if self.family == 6 else socket.AF_INET, self.request.address)
        try:
            with netns.inside(self.fd):
                lookout = Lookout(self.family, packed, self.request.port)
        except OSError as e:
            why = f"raw and packet sockets: {e.strerror}"
            host = bracketed(self.request.address)
            how = AS_ROOT
            how += f"   or   --to {host}:443" if self.request.protocol == "icmp" else ""
            what = "echoes, which go both ways"
            self.missing.append(Missing(ref=self.request.ref, what=what, why=why, how=how, code="permission"))
            return None
        self.epoll.register(lookout.fd, select.EPOLLIN)
        return lookout

    def open(self, port: int, *, learns: bool = False) -> Pair | None:
        """A pair of sockets; None when the kernel knows no way there (``error`` says why)."""
        try:
            with netns.inside(self.fd):
                pair = Pair(self.family, self.request.address, port, learns=learns)
        except OSError as e:
            if e.errno not in WAY_ERRORS:
                raise
            self.error = errno.errorcode.get(e.errno or 0, "EIO")
            return None
        self.local = pair.local
        self.pairs[pair.fd] = pair
        self.ports[pair.port] = pair
        self.epoll.register(pair.fd, select.EPOLLIN)
        return pair

    def send(self, pair: Pair, payload: bytes) -> str:
        size = len(payload) + self.header
        self.sized[pair.port] = size
        if self.lookout is not None:
            self.lookout.sizes[(pair.port, UDP_SEQ)] = size
        how = pair.send(payload)
        if how == "full":  # the queue of our own device: once more, when it has had a moment
            self.pump(clock() + TICK, lambda: False)
            how = pair.send(payload)
        self.sent += how == "sent"
        if how not in ("sent", "local", "full") and self.error is None and not self.searches:
            self.error = how
        return how

    def listen(self) -> None:
        """Hear what comes within a moment."""
        for fd, _ in self.epoll.poll(TICK, 64):
            self._event(fd, clock())

    def pump(self, until: float, enough: Callable[[], bool]) -> None:
        """Hear what comes until ``until``; a first look always, and no longer than it is not ``enough``."""
        left = 0.0
        while True:
            for fd, _ in self.epoll.poll(left, 64):
                self._event(fd, clock())
            left = until - clock()
            if enough() or left <= 0:
                return

    def _event(self, fd: int, now: float) -> None:
        if self.lookout is not None and fd == self.lookout.fd:
            self._look(now)
        elif fd in self.pairs:
            self._take(self.pairs[fd], now)

    def _take(self, pair: Pair, now: float) -> None:
        for what in pair.read():
            if isinstance(what, Said) and word(self.family, what.type, what.code) == "too-big":
                self._note(pair.port, what)
            self.hear(pair, what, now)

    def _look(self, now: float) -> None:
        assert self.lookout is not None
        self.lookout.read(now)
        for heard in self.lookout.errors[self.heard_errors :]:
            pair = self.ports.get(heard.port)
            if pair is not None and heard.seq == UDP_SEQ:
                self.hear(pair, Said(heard.type, heard.code, 0, heard.by), now)
        self.heard_errors = len(self.lookout.errors)
        for port, mtu, by in self.lookout.udp_too_big[self.heard_big :]:
            if port in self.ports:
                self.hear(self.ports[port], Said(*((3, 4) if self.family == 4 else (2, 0)), mtu, by), now)
        self.heard_big = len(self.lookout.udp_too_big)

    def _note(self, port: int, said: Said) -> None:
        """What the kernel passed on: it has checked that the quoted packet is ours."""
        size = self.sized.get(port, 0)
        sane = LEAST_MTU[self.family] <= said.mtu < size
        self.told.setdefault((said.by, said.mtu), TooBig(by=said.by, mtu=said.mtu, size=size, ours=True, sane=sane))

    def drop(self) -> None:
        """Close the sockets of what is over."""
        self.hear = lambda pair, what, now: None
        for pair in self.pairs.values():
            pair.close()
        self.pairs, self.ports = {}, {}

    def close(self) -> None:
        """Close everything, whatever happened."""
        self.drop()
        if self.pinger is not None:
            self.pinger.close()
        if self.lookout is not None:
            self.lookout.close()
        self.epoll.close()
