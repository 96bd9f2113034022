"""Measure one TCP port: one thread, one epoll, the pure searches in the lead.

:class:`Engine` opens what :class:`~pathfit.measure.reverse.Reverse` and :class:`~pathfit.measure.forward.Forward` ask
for, and feeds back what the kernel and the packet socket say. It never decides about sizes.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pathfit.core.evidence import Missing
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS
from pathfit.core.request import Measure
from pathfit.host import netns, tcpsock
from pathfit.measure.reverse import CONNECT_SHORT, Close, Limits, Open, Reverse
from pathfit.measure.track import STANDING, Reading, Track
from pathfit.probe.speech.talk import Script, Talk
from pathfit.probe.tcp.conn import NARROW, Conn, adopt, open_conn, reading

if TYPE_CHECKING:
    from pathfit.core.measured import Bracket, Flight
    from pathfit.probe.lookout import Lookout
    from pathfit.probe.ping import Pinger
    from pathfit.probe.tcp.ahead import Ahead
    from pathfit.probe.tcp.idle import Idle
    from pathfit.probe.tcp.pushed import Pushed

CONTACT_WAIT = 2.5  # seconds for the first answer of a slow server, once the sizes are settled
KNOCK_AFTER = 0.25  # seconds without any SYN-ACK after which one small echo asks whether the host is there at all
PAIR = 2  # measure.segments.PAIR
RAW_LANES, PUSHED_LANES = 3, 6  # connections kept for the forward direction where few are allowed
AFTERWARDS, FLIGHTS = 3, 2  # and for the certificate, the places on the way, the trial of a repair; with TLS for two
# first flights as well
LOWEST_PROMISE = 128  # bytes: a SYN that promises less than TCP_MIN_MSS (88) + headers does not exist
WITHOUT_TLS = ("http", "tcp", "dns")
clock = time.monotonic
Witness = Callable[[], None]


def promise(family: int, r: Reading) -> int:
    """The largest IP packet our SYN invites. tcpi_advmss is what the SYN says, but once the connection stands the
    kernel has taken the timestamp option off (tcp_rcv_synsent_state_process), which the peer does by itself."""
    options = TIMESTAMPS if r.state in STANDING and r.timestamps else 0
    return r.advmss + options + IP_HEADER[family] + TCP_HEADER


class Engine:
    """One measurement. ``run`` once, then ``close``."""

    def __init__(self, fd: int | None, request: Measure, family: int, witness: Witness | None = None) -> None:
        self.fd, self.request, self.family = fd, request, family
        self.witness = witness
        self.script = Script(
            protocol=request.protocol,
            host=request.host or request.address,
            path=request.path,
            sni=request.sni,
            proxy=request.proxy,
        )
        self.epoll = select.epoll()
        self.conns: dict[int, Conn] = {}
        self.all: list[Conn] = []
        self.lookout: Lookout | None = None
        self.ahead: Ahead | Pushed | None = None
        self.replaced: Ahead | Pushed | None = None  # the one before, when the peer speaks no SACK
        self.pinger: Pinger | None = None
        self.knock: Pinger | None = None
        self.missing: list[Missing] = []
        self.spare: tuple[socket.socket, int] | None = None
        self.beside = 0  # connections of the first round that are for the way out
        self.idle: Idle | None = None  # those, until then
        self.ranges_ignored = False
        self.rows_short = False  # rows of requests were answered whole, and never in a full segment
        self.without_echo = False
        self.certificate: str | None = None
        self.besides = 0  # connections of no search: those that found out what is spoken, that for the certificate
        self.flight: Flight | None = None
        self.more_packets = 0  # of those that are not counted as attempts
        self.believed: int | None = None  # what our kernel took for the path's MTU before we sent anything
        self.promised: int | None = None  # None: the connection failed before a SYN was made
        self.inwards: Bracket | None = None  # the direction towards us, once it was measured
        self.start = clock()
        self.search = Reverse(limits=self._limits(), promised=0, start=self.start)

    def _afterwards(self) -> int:
        return AFTERWARDS + (FLIGHTS if self.script.protocol not in WITHOUT_TLS else 0)

    def _limits(self) -> Limits:
        r = self.request
        return Limits(
            family=self.family,
            floor=r.floor,
            per_round=r.connections_per_round,
            total=r.connections_total,
            parallel=r.parallel,
            budget=r.budget,
            connect=r.connect,
            even=r.even,
        )

    # -- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._lookout()
        self._begin()
        while True:
            now = clock()
            self._push(now)
            if self._finished(now):
                break
            self._perform(now)
            self._ping(now)
            self._knock(now)
            self._wait(now)
            now = clock()
            for conn in list(self.conns.values()):
                conn.glimpse(now)
                if conn.closed or conn.due(now):
                    self._event(conn, now)
        if self.witness is not None and self._connected() and not any(c.track.got for c in self.all):
            self.witness()
        self.inwards = self.search.result(clock())  # a rescue that comes later does not take back what was proven
        self._patience()

    def _begin(self) -> None:
        """The first plain connection tells, before any answer, what our SYN promises (tcp_connect_init)."""
        now = clock()
        with netns.inside(self.fd):
            self.believed = tcpsock.path_mtu(self.family, self.request.address, self.request.port)
            sock = tcpsock.tcp(self.family)
            code = tcpsock.connect(sock, self.request.address, self.request.port)
        self.spare = (sock, code)
        promised = promise(self.family, reading(tcpsock.info(sock))) if not code else 0
        if self.request.ceiling is not None:
            promised = min(promised, self.request.ceiling)
        self.promised = promised or None
        self.search.promised = max(promised, LOWEST_PROMISE)
        sized = not self.request.contact_only and "tcp-maxseg" in self.request.methods and not code
        if sized and self.lookout is None and self._pushable() and not self.search.limits.polite:
            self.beside = PAIR
        self.search.begin(now, sized=sized and self.script.protocol != "tcp", beside=self.beside)
        if self.search.limits.polite:
            forward = RAW_LANES if self.lookout is not None else PUSHED_LANES
            self.search.limits.total -= forward + self._afterwards()
        elif self.lookout is not None and not self.request.contact_only:
            self._look_ahead(self.lookout, now)

    def _look_ahead(self, lookout: Lookout, now: float) -> None:
        if "tcp-sack" in self.request.methods:
            from pathfit.probe.tcp.ahead import Ahead

            # Not where connections are few, or counted against us (max_connect_errors).
            few = self.search.limits.polite or self.script.protocol == "mysql"
            idle = None if few else lambda: self.search.done
            # Behind a hole with TLS a first flight is measured: a server that serves one at a time must be free for it.
            holes = self.script.protocol in WITHOUT_TLS
            self.ahead = Ahead(self.fd, self.request, self.family, lookout, self.epoll, now, idle, holes=holes)

    def _lookout(self) -> None:
        from pathfit.probe.lookout import Lookout

        packed = socket.inet_pton(socket.AF_INET6 if self.family == 6 else socket.AF_INET, self.request.address)
        try:
            with netns.inside(self.fd):
                self.lookout = Lookout(self.family, packed, self.request.port)
        except OSError as e:
            self.missing.append(
                Missing(
                    ref=self.request.ref,
                    what="the forward direction, packet by packet",
                    why=f"raw and packet sockets: {e.strerror}",
                    how=AS_ROOT,
                    code="permission",
                )
            )
            return
        self.epoll.register(self.lookout.fd, select.EPOLLIN)

    def _perform(self, now: float) -> None:
        if self.ahead is not None and not self.search.done:
            self.search.hints = self.ahead.hints()
        commands = self.search.step(now)
        if self.ahead is not None and self.ahead.done:
            self.ahead.step(now)  # gives its connections back
        if not commands and (self.ahead is None or self.ahead.done):
            return
        over = {c.track.n for c in commands if isinstance(c, Close)}  # first: no more stand at once than may
        for conn in [x for x in self.conns.values() if x.track.n in over]:
            self._close(conn, now)
        opens = [c.track for c in commands if isinstance(c, Open)]
        if opens:
            with netns.inside(self.fd):
                for track in opens:
                    self._open(track)
                self._open_beside()
        if self.idle is not None and self.idle.in_the_way(self.search, now):
            self.idle.close()
        if self.ahead is not None:
            self.ahead.step(now)

    def _open_beside(self) -> None:
        if self.beside and self.idle is None:
            from pathfit.probe.tcp.idle import Idle

            self.idle = Idle(self.request, self.family, self.beside)

    def _pushable(self) -> bool:
        """Can the way out be measured by the beginning of a request?"""
        return "tcp-sack" in self.request.methods and self.script.protocol in ("http", "https", "dns")

    def _push(self, now: float) -> None:
        """Without raw sockets: our kernel's own segments. They may teach it a path MTU, so the reverse direction is
        measured before, and where that has a hole they are not sent: the next SYN would invite less, and the fault be
        gone for ten minutes (probing.md 1)."""
        # Where not even small requests are acknowledged, larger pieces of one tell nothing.
        ready = (
            self.search.done and self.search.why != "contact" and any(c.track.heard or c.track.got for c in self.all)
        )
        if not ready or self.request.contact_only:
            return
        without_sack = self._without_sack()
        if self.ahead is not None and not without_sack:
            return
        if (
            self.search.limits.polite and not without_sack
        ):  # one thing after the other: never more than four connections stand
            for conn in [c for c in self.conns.values() if not c.keep]:
                self._close(conn, now)
            if self.lookout is not None:
                self._look_ahead(self.lookout, now)
        if self.lookout is not None and not without_sack:
            return
        if not self._pushable():
            return
        inwards = self.search.result(now)
        if inwards.note == "unproven" or (inwards.fails is not None and inwards.grade != "told"):
            return
        from pathfit.probe.tcp.pushed import Pushed

        left = self.request.connections_total - len(self.all) - self._afterwards()
        if self.ahead is not None:
            left -= self.ahead.connections
            self.replaced = self.ahead
            self.ahead.close()
        self.ahead = Pushed(self.fd, self.request, self.family, self.script, self.epoll, now, left, self.idle)

    def _without_sack(self) -> bool:
        """What is injected out of order is only seen by a peer's SACK; what is sent in order is seen by its ACK."""
        if self.ahead is None or self.replaced is not None or not self.ahead.done:
            return False
        return any(b.note == "no-sack" for b in self.ahead.brackets())

    def _ping(self, now: float) -> None:
        """Echoes are sent once a connection stands, behind the first round of the reverse direction: what is raw
        leaves nothing behind here (probing.md 1), and large replies carry no DF. They never decide alone."""
        if self.pinger is not None:
            self.pinger.step(now)
        elif (
            (self.search.done or self.search.round > 1)
            and self.lookout is not None
            and "icmp-echo" in self.request.methods
        ):
            from pathfit.probe.ping import Pinger

            assert self.lookout is not None
            try:
                self.pinger = Pinger(self.fd, self.request, self.lookout, now, sized=not self.request.contact_only)
            except OSError:  # no route: the connections have said so already
                self.without_echo = True
                return
            self.pinger.step(now)

    def _knock(self, now: float) -> None:
        """No SYN is answered: is the host there? When it is, waiting for "host unreachable" is waiting for nothing."""
        if self.knock is None:
            if self.lookout is None or self.without_echo or self.search.done:
                return
            if self._connected() or now - self.start < KNOCK_AFTER:
                return
            from pathfit.probe.ping import Pinger

            try:
                self.knock = Pinger(self.fd, self.request, self.lookout, now, sized=False)
            except OSError:  # no route: the connections have said so already
                self.without_echo = True
                return
        self.knock.step(now)
        rtt = self.knock.search.rtt
        if rtt is not None:
            self.search.limits.connect = min(self.search.limits.connect, CONNECT_SHORT + 2 * rtt)

    def _echo_wanted(self) -> bool:
        asked = "icmp-echo" in self.request.methods and not self.without_echo
        return asked and self.lookout is not None and (self.search.done or self._connected())

    def _open(self, track: Track) -> None:
        keep = track.plain and track.purpose == "plain"
        many = self.ranges_ignored and not self.rows_short and not keep
        window = NARROW * track.size if track.narrow else 0
        talk = Talk(self.script, track.size, plain=keep, many=many, window=window)
        if self.spare is not None and track.plain:
            (sock, code), self.spare = self.spare, None
            conn = adopt(Conn(track, talk, sock, keep), code)
        else:
            conn = open_conn(track, talk, self.request.address, self.request.port, keep=keep)
        self.all.append(conn)
        if conn.closed:
            self.search.closed(track)
            return
        self.conns[conn.fd] = conn
        self.epoll.register(conn.fd, select.EPOLLIN | select.EPOLLOUT)

    def _wait(self, now: float) -> None:
        pause = self.search.pause(now)
        if self.ahead is not None:
            pause = min(pause, self.ahead.pause(now))
        events = self.epoll.poll(pause, 64)
        now = clock()
        # The packet socket first: a SYN-ACK must be known before its connection is used.
        if self.lookout is not None and any(fd == self.lookout.fd for fd, _ in events):
            self.lookout.read(now)
        for fd, _ in events:
            conn = self.conns.get(fd)
            if conn is not None:
                self._event(conn, now)
            elif self.ahead is not None:
                self.ahead.event(fd, now)

    def _event(self, conn: Conn, now: float) -> None:
        was = conn.connected
        conn.event(now)
        over = conn.closed or (conn.talk.whole and conn.talk.done)
        if conn.talk.many and over and not (conn.track.passed or conn.track.capped):
            self.rows_short = True
        if conn.closed:
            self.conns.pop(conn.fd, None)
            self.search.closed(conn.track)
            return
        answer = conn.talk.answer
        endless = answer.endless and (answer.length is None or answer.length > 3 * conn.track.size)
        if endless and not conn.talk.plain and not answer.closes:
            self.ranges_ignored = True
        if conn.connected and not was:
            self.epoll.modify(conn.fd, select.EPOLLIN | select.EPOLLET)
        if conn.keep and conn.talk.done:
            self._close(conn, now)

    def _close(self, conn: Conn, now: float) -> None:
        self.conns.pop(conn.fd, None)
        conn.close(now)
        self.search.closed(conn.track)

    def _finished(self, now: float) -> bool:
        if not self.search.done:
            return False
        if self.search.why == "no-connection" and self.ahead is not None:
            self.ahead.abandon("no-connection")
        if self.ahead is not None and not self.ahead.done:
            return False
        if self.pinger is not None and not self.pinger.done and self.pinger.worth(now):
            return False
        return self._contact_done(now)

    def _contact_done(self, now: float) -> bool:
        """Wait for a slow answer on the plain connections unless something is missing on them."""
        waiting = [
            c
            for c in self.conns.values()
            if c.keep and c.track.gap_at is None and (c.track.connected is not None or not self._connected())
        ]
        if not waiting or self.search.why in ("stalled", "no-connection", "time"):
            return True
        if any(c.keep and c.talk.done for c in self.all):
            return True
        if self.script.protocol == "tcp" and self._connected():
            return True
        if now - self.start > min(CONTACT_WAIT, self.request.budget):
            return True
        # In a proven hole the plain connections, which are larger, have nothing more to say.
        hush = self.search.times(now).hush
        return self.search.why in ("proof", "unproven") and all(c.track.silent_for(now) > hush for c in waiting)

    def _connected(self) -> bool:
        return any(c.track.connected is not None for c in self.all)

    def _patience(self) -> None:
        """Keep a failing connection open: does its sender rescue it (MTU119)?"""
        until = clock() + self.request.patient
        if not self.request.patient:
            return
        stuck = [c for c in self.conns.values() if c.track.gap_at is not None and c.keep]
        while stuck and clock() < until and all(c.track.mended is None for c in stuck):
            self._wait(clock())
            now = clock()
            for conn in stuck:
                conn.look(now)

    @property
    def connections(self) -> int:
        """Connections made so far by the searches."""
        idle = self.idle.opened if self.idle is not None else 0
        return len(self.all) + idle + sum(x.connections for x in (self.ahead, self.replaced) if x is not None)

    def clear(self) -> None:
        """Where only a few may stand at once, those that have said what they can make room."""
        if self.search.limits.polite:
            for conn in list(self.conns.values()):
                self._close(conn, clock())
            for lanes in (self.ahead, self.idle):
                if lanes is not None:
                    lanes.close()

    def spent(self, packets: int, connections: int) -> None:
        """What was sent beside the two directions."""
        self.more_packets += packets
        self.besides += connections

    def close(self) -> None:
        """Close everything, whatever happened."""
        now = clock()
        for conn in self.all:
            conn.close(now)
        if self.spare is not None:
            self.spare[0].close()
        if self.idle is not None:
            self.idle.close()
        if self.ahead is not None:
            self.ahead.close()
        for pinger in (self.pinger, self.knock):
            if pinger is not None:
                pinger.close()
        if self.lookout is not None:
            self.lookout.close()
        self.epoll.close()
