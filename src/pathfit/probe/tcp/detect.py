"""What does H:P speak? Asked with small segments, so that no hole can hide the answer, and without harm: we listen
for a greeting; then a TLS ClientHello, a HEAD request and the openings of a few protocols that wait for their client
are said, each on a connection of its own. What was said stays open while the next is tried: a server that does not
understand mostly says nothing."""

from __future__ import annotations

import time

import msgspec

from pathfit.core.net import mss_of
from pathfit.core.request import Measure
from pathfit.measure.sizes import SENTINEL
from pathfit.probe.speech import known
from pathfit.probe.speech.talk import Script, Talk
from pathfit.probe.tcp.conn import Conn
from pathfit.probe.tcp.simple import Several, Where, converse

BANNER_WAIT = 0.15  # seconds: servers that speak first (SSH, SMTP, MySQL) do so at once
ANSWER_WAIT = 1.0  # seconds for an answer to what is said
NEXT_WAIT = 0.2  # seconds after which the next is said as well; two round trips, where that is longer
WAITING = ("https", "http", "postgresql", "dns", "ldap", "xmpp")  # those that wait for their client
# Where to begin, by the port: only an order, everything else follows.
FIRST = {
    **dict.fromkeys((443, 8443), ("https", "http")),
    **dict.fromkeys((80, 8080), ("http", "https")),
    **dict.fromkeys((5432, 6432), ("postgresql",)),
    **dict.fromkeys((53,), ("dns",)),
    **dict.fromkeys((389, 3268), ("ldap",)),
    **dict.fromkeys((5222, 5269), ("xmpp",)),
}
POLITE_CONNECTIONS = 4
# MySQL and MariaDB count connections that log nobody in, and refuse a host after a hundred of them in a row (that
# is the default of max_connect_errors); a login resets the count. Three runs stay below.
MYSQL_TOTAL, MYSQL_PARALLEL = 32, 4
UNDERSTOOD = ("tls", "plain")  # states of a prelude
clock = time.monotonic


def detect(fd: int | None, request: Measure) -> tuple[Measure, int]:
    """``request`` with its protocol found out: "https", "http", one that has a prelude, or "tcp" (anything else);
    and how many connections that took."""
    asked = _Asked(fd, request)
    most = POLITE_CONNECTIONS if request.parallel < len(WAITING) else len(WAITING)
    if request.port in FIRST:
        found = asked.in_turn(most) or asked.greeting()
    else:
        found = asked.greeting() or asked.in_turn(most)
    total, a_round, parallel = request.connections_total, request.connections_per_round, request.parallel
    if found == "mysql":
        total, a_round, parallel = min(total, MYSQL_TOTAL), min(a_round, MYSQL_PARALLEL), min(parallel, MYSQL_PARALLEL)
    known = msgspec.structs.replace(
        request,
        protocol=found or "tcp",
        connections_total=total - asked.used,
        connections_per_round=a_round,
        parallel=parallel,
    )
    return known, asked.used


class _Asked:
    """One port that is asked. ``used`` counts connections."""

    def __init__(self, fd: int | None, request: Measure) -> None:
        self.request = request
        self.where = Where(fd, request.address, request.port)
        self.mss = mss_of(6 if self.where.family == 6 else 4, SENTINEL)
        self.used = 0

    def _talk(self, protocol: str) -> Talk:
        host = self.request.host or self.request.address
        return Talk(Script(protocol=protocol, host=host, sni=self.request.sni), 0, plain=True)

    def greeting(self) -> str:
        """The protocol of a server that speaks first, "" when it says nothing; "tcp" also when nothing connects: the
        measurement itself will say how."""
        self.used += 1
        talk = self._talk("tcp")
        conn = converse(self.where, talk, self.mss, clock() + BANNER_WAIT, quiet=0.0)
        if conn.track.connected is None:
            return "tcp"
        found = known.greeted(talk.banner) if talk.banner else ""
        if found == "smtp":  # FTP greets alike, and does not know EHLO
            self.used += 1
            own = self._talk(found)
            converse(self.where, own, self.mss, clock() + ANSWER_WAIT)
            state = own.prelude.state if own.prelude is not None else ""
            found = "ftp" if state == "wrong" else "smtp" if state in UNDERSTOOD else "tcp"
        return found

    def in_turn(self, most: int) -> str:
        """Say one thing after the other until one is understood; "" when none is."""
        first = FIRST.get(self.request.port, ())
        order = [*first, *(p for p in WAITING if p not in first)][:most]
        with Several(self.where) as several:
            under_way: list[tuple[Conn, str]] = []
            said = 0.0
            while order or several.live:
                now = clock()
                talking = [c for c in several.live if not c.talk.done]
                if order and (not talking or now - said > self._patience(several)):
                    self._make_room(several)
                    under_way.append((several.open(self._talk(order[0]), self.mss), order.pop(0)))
                    self.used += 1
                    said = now
                now = several.turn(now + NEXT_WAIT)
                for conn, protocol in under_way:
                    if _understood(conn, protocol):
                        return protocol
                    if conn.talk.done or now - conn.track.opened > ANSWER_WAIT + 2 * (conn.track.rtt or 0.0):
                        several.close(conn)
                if under_way[0][0].closed and under_way[0][0].track.connected is None:
                    return "tcp"
        return ""

    def _patience(self, several: Several) -> float:
        rtts = [c.track.rtt for c in several.conns if c.track.rtt]
        return max(NEXT_WAIT, 2 * min(rtts)) if rtts else ANSWER_WAIT  # nobody speaks before the connection stands

    def _make_room(self, several: Several) -> None:
        if len(several.live) >= self.request.parallel:
            several.close(several.live[0])


def _understood(conn: Conn, protocol: str) -> bool:
    """Was the answer one of this protocol?"""
    talk = conn.talk
    if protocol == "https":
        return talk.tls == "ok" or talk.alert_kind in ("alert", "certificate")
    if protocol == "http":
        return talk.http.isdigit()
    own = talk.prelude
    return own is not None and own.state in UNDERSTOOD
