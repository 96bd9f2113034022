"""A conversation or a few, waited for: what a trial of a fix, a first flight and "what do you speak?" need."""

from __future__ import annotations

import select
import time

import msgspec

from pathfit.core.net import packet_of
from pathfit.host import netns
from pathfit.measure.track import Track
from pathfit.measure.verdict import UNEVEN_AGE
from pathfit.probe.speech.talk import Talk
from pathfit.probe.tcp.conn import Conn, open_conn

clock = time.monotonic
TICK = 0.01  # seconds between two looks at struct tcp_info


class Where(msgspec.Struct, frozen=True):
    """Which address, from which namespace, of which family."""

    fd: int | None
    address: str
    port: int

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4


class Several:
    """A few conversations side by side. A context manager: leaving it closes them all."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.conns: list[Conn] = []
        self._poll = select.poll()
        self._known: dict[int, Conn] = {}

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *_: object) -> None:
        for conn in self.conns:
            conn.close(clock())

    def open(self, talk: Talk, mss: int | None) -> Conn:
        """Begin one (TCP_MAXSEG ``mss``; None: a socket as anybody opens it). What the network says is its end."""
        family = self.where.family
        size = packet_of(6 if family == 6 else 4, mss or 0)
        n = len(self.conns) + 1
        track = Track(n=n, size=size, plain=mss is None, round=1, family=family, opened=clock())
        with netns.inside(self.where.fd):
            conn = open_conn(track, talk, self.where.address, self.where.port, keep=True)
        self.conns.append(conn)
        if not conn.closed:
            self._known[conn.fd] = conn
            self._poll.register(conn.fd, select.POLLIN | select.POLLOUT)
        return conn

    @property
    def live(self) -> list[Conn]:
        return [c for c in self.conns if not c.closed]

    def close(self, conn: Conn) -> None:
        self._forget(conn)
        conn.close(clock())

    def turn(self, until: float) -> float:
        """Wait for news until ``until`` and no longer than TICK, take it in; returns the time."""
        ready = self._poll.poll(max(0.0, 1000 * min(TICK, until - clock())))
        now = clock()
        for fd, _ in ready:
            conn = self._known[fd]
            was = conn.connected
            conn.event(now)
            if conn.closed:
                self._forget(conn)
            elif conn.connected and (not was or conn.pending):
                self._poll.modify(fd, select.POLLIN | (select.POLLOUT if conn.pending else 0))
        for conn in self.live:
            conn.look(now)
            if conn.closed or conn.talk.done:
                self._forget(conn)
        return now

    def _forget(self, conn: Conn) -> None:
        if self._known.get(conn.fd) is conn:  # the number may be another's by now
            del self._known[conn.fd]
            self._poll.unregister(conn.fd)


def converse(where: Where, talk: Talk, mss: int | None, until: float, *, quiet: float | None = None) -> Conn:
    """Open a connection (TCP_MAXSEG ``mss``), let ``talk`` run to its end or to the time ``until``; the connection
    comes back closed. ``quiet``: also stop that long after the last bytes arrived, when some did."""
    with Several(where) as several:
        conn = several.open(talk, mss)
        now = clock()
        while not conn.closed and not talk.done and now < until:
            if quiet is not None and conn.track.got and now - conn.track.progress > quiet:
                break
            now = several.turn(until)
            if conn.track.missing_for(now) > UNEVEN_AGE:
                break  # three retransmissions did not fill it: nothing will
    return conn
