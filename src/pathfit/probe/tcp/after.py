"""What is asked when both directions are known: would the asked client accept the certificate, and does a large
ClientHello get an answer as a small one does? Both side by side, because neither disturbs the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pathfit.core.measured import Flight
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS, hops_away, mss_of
from pathfit.host import netns, tcpsock
from pathfit.measure import flight, verdict
from pathfit.measure.flight import Known
from pathfit.measure.sizes import SENTINEL
from pathfit.probe.speech.talk import Talk
from pathfit.probe.tcp.flight import Flights
from pathfit.probe.tcp.simple import Several, Where
from pathfit.wire.tls import LARGE_HELLO

if TYPE_CHECKING:
    from pathfit.probe.tcp.conn import Conn
    from pathfit.probe.tcp.engine import Engine

VERIFY = 0.5  # seconds for the handshake that only looks at the certificate
LEAST = 1.0  # seconds that first flights have in any case
STILL = 2  # connections that are kept for what follows: the places on the way, the trial of a repair
clock = time.monotonic


def afterwards(engine: Engine) -> None:
    """Fills in ``engine.certificate`` and ``engine.flight``, and counts what it cost."""
    if engine.request.contact_only or not any(c.talk.tls != "n/a" for c in engine.all):
        return
    engine.clear()
    where = Where(engine.fd, engine.request.address, engine.request.port)
    with Several(where) as several:
        looks = None
        if engine.script.protocol == "https" and any(c.keep and c.talk.tls == "ok" for c in engine.all):
            engine.spent(0, 1)
            looks = Talk(engine.script, 0, plain=True, verify=True, handshake_only=True)
            several.open(looks, mss_of(6 if engine.family == 6 else 4, SENTINEL))
        # Where the directions took all the time there was, it is a busy machine's: a little is left for this.
        until = max(engine.start + engine.request.budget + VERIFY, clock() + LEAST)
        know = _known(engine)
        left = engine.request.connections_total - engine.connections - len(several.conns) - STILL
        room = engine.request.parallel
        flights = Flights(engine.script, know, several, left, room) if isinstance(know, Known) else None
        _run(several, looks, flights, until)
    if looks is not None and looks.alert_kind == "certificate":
        engine.certificate = looks.alert
    if flights is not None and flights.lanes:
        engine.flight = flights.result()
        engine.spent(flights.packets, flights.connections)
    elif isinstance(know, str):
        engine.flight = Flight(verdict="undecided", hello=LARGE_HELLO, packet=0, note=know)


def _run(several: Several, looks: Talk | None, flights: Flights | None, until: float) -> None:
    start = now = clock()
    while now < max(until, start + VERIFY):
        looking = looks is not None and not looks.done and not several.conns[0].closed and now - start < VERIFY
        flying = flights is not None and not flights.done and now < until
        if not looking and not flying:
            return
        now = several.turn(now + VERIFY)
        if flights is not None and not flights.done:
            flights.step(now)


def _known(engine: Engine) -> Known | str:
    """What the way out carries, as far as it was measured; or why nothing large may be said."""
    answered = any(_tls_answered(c) for c in engine.all)
    if not answered and not any(c.talk.cut for c in engine.all):
        return "flight-small-too"
    if _ends_nearby(engine):
        return "flight-ends-nearby"
    forward = engine.ahead.brackets()[0] if engine.ahead is not None else None
    now = clock()
    t = next((c.track for c in engine.all if c.track.plain and c.track.connected is not None and c.track.snd_mss), None)
    if t is None:
        return "flight-out-unknown"
    head = IP_HEADER[engine.family] + TCP_HEADER + (TIMESTAMPS if t.timestamps else 0)
    passes = engine.inwards.passes if engine.inwards is not None else None
    lossy = verdict.is_lossy(engine.search.tracks, passes or 0, now)
    rtt = engine.search.times(now).rtt
    return flight.known(forward, t.snd_mss + head, engine.family, LARGE_HELLO, rtt, lossy)


def _tls_answered(conn: Conn) -> bool:
    return conn.talk.records.phase != "" or conn.talk.alert_kind == "alert" or conn.track.gap_at is not None


def _ends_nearby(engine: Engine) -> bool:
    """Does somebody between us and the target end the connection? He would send the large ClientHello on from a kernel
    of his own, whose way out was not measured: where that is this machine, it would learn what hides the fault."""
    if engine.script.proxy:
        return True
    if engine.lookout is None:
        return False  # what was measured went through him as well
    heard = [engine.lookout.synacks[c.track.port] for c in engine.all if c.track.port in engine.lookout.synacks]
    if not heard:
        return True  # another address answered: it was redirected on this very host
    echo = engine.pinger.ttl() if engine.pinger is not None else None
    hops = {hops_away(h.ttl) for h in heard}
    if echo is not None:
        return hops != {hops_away(echo)}
    with netns.inside(engine.fd):
        return hops == {0} and tcpsock.behind_gateway(engine.family, engine.request.address)
