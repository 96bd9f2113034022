"""One conversation at a time, waited for: what a trial of a fix and the question "what do you speak?" need."""

from __future__ import annotations

import select
import time

import msgspec

from pathfit.core.net import packet_of
from pathfit.host import netns
from pathfit.measure.track import Track
from pathfit.measure.verdict import UNEVEN_AGE
from pathfit.probe.conn import Conn, open_conn
from pathfit.probe.talk import Talk

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


def converse(where: Where, talk: Talk, mss: int | None, until: float, *, quiet: float | None = None) -> Conn:
    """Open a connection (TCP_MAXSEG ``mss``), let ``talk`` run to its end or to the time ``until``; the connection
    comes back closed. ``quiet``: also stop that long after the last bytes arrived, when some did."""
    now = clock()
    family = where.family
    size = packet_of(6 if family == 6 else 4, mss or 0)
    track = Track(n=1, size=size, plain=mss is None, round=1, family=family, opened=now)
    with netns.inside(where.fd):
        conn = open_conn(track, talk, where.address, where.port, keep=True)
    if conn.closed:
        return conn
    poll = select.poll()
    poll.register(conn.fd, select.POLLIN | select.POLLOUT)
    try:
        while not conn.closed and not talk.done and (now := clock()) < until:
            if quiet is not None and track.got and now - track.progress > quiet:
                break
            ready = poll.poll(1000 * min(TICK, until - now))
            now = clock()
            if ready:
                was = conn.connected
                conn.event(now)
                if conn.connected and not was:
                    poll.modify(conn.fd, select.POLLIN)
                elif conn.pending and not conn.closed:
                    poll.modify(conn.fd, select.POLLIN | select.POLLOUT)
            conn.look(now)
            if track.missing_for(now) > UNEVEN_AGE:
                break  # three retransmissions did not fill it: nothing will
    finally:
        conn.close(clock())
    return conn
