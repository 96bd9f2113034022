"""Measure a target that is not TCP: a UDP port, or a host of which no port was named.

What is sent and what the answers prove is decided by :mod:`pathfit.measure.datagrams`; here are sockets and time.
First the port is greeted with the two questions that many UDP servers answer; then datagrams of all sizes go where
something answers each in few bytes: to the port itself when it speaks DNS or QUIC or is closed, else to a closed one.
Nothing needs privileges; with them echoes go beside it, and the packet socket hears what a filter of ours takes away.
"""

from __future__ import annotations

import contextlib
import time
from typing import Literal

from pathfit.core.evidence import Missing, ProbeResult
from pathfit.core.measured import Attempt, Bracket, Contact, DnsAnswers, SideEffect, TooBig, Used
from pathfit.core.net import hops_away
from pathfit.core.request import Measure
from pathfit.host import netns, tcpsock
from pathfit.host.udpsock import Came, Pair, Said
from pathfit.measure.datagrams import ROUND, Datagrams, weigh
from pathfit.measure.refusal import word
from pathfit.measure.verdict import SETTLE
from pathfit.probe.ping import Pinger
from pathfit.probe.udp.hands import Hands, Hear
from pathfit.probe.udp.pieces import fragmented_echoes
from pathfit.probe.udp.tongues import answers, hello, number, payload_of
from pathfit.wire import askdns, quic

clock = time.monotonic
CLOSED, CLOSED_RANGE = 33434, 90  # where traceroute sends to, because nobody listens there
GREETINGS = (0.0, 0.3, 0.7)  # seconds after the beginning
GREETED = 1.1  # seconds until a port that said nothing is called silent
GREETING = 48  # bytes of DNS in a greeting
SMALL = 128  # bytes of IP packet: the path carries it or nothing
REMEMBERED = 600.0  # seconds Linux keeps a path MTU
PORTS_FIRST = {53: ("dns",), 443: ("quic", "dns")}  # who lives where: only the order of the greetings


def measure_datagrams(fd: int | None, request: Measure) -> ProbeResult | Missing:
    """Measure ``request.address`` from namespace ``fd``. Raises OSError when there are no sockets at all."""
    course = Course(fd, request)
    try:
        return course.run()
    finally:
        course.close()


class Course(Hands):
    """One measurement. ``run`` once, then ``close``."""

    def __init__(self, fd: int | None, request: Measure) -> None:
        super().__init__(fd, request)
        self.udp: Literal["ok", "refused", "silent", "unreachable", "filtered", "n/a"] = "n/a"
        self.speaks: str | None = None
        self.icmp: tuple[int, int] | None = None
        self.by: str | None = None
        self.rtt: float | None = None
        self.ttls: dict[str, int] = {}  # by method: of an answer
        self.dns: DnsAnswers | None = None
        self.dns_bracket: Bracket | None = None
        self.pieces: Bracket | None = None

    def run(self) -> ProbeResult:
        if self.request.protocol == "udp":
            self._greet()
        if self.error is None and not self.request.contact_only:
            self._sizes()
            if self.speaks == "dns":
                self._answers()
        elif self.error is None and self.request.protocol != "udp":
            self._knock()
        return self._result()

    def _greet(self) -> None:
        """Who lives there? Sets udp, speaks, rtt, icmp, by."""
        first = PORTS_FIRST.get(self.request.port, ("dns", "quic"))
        asked: dict[Pair, tuple[str, bytes, float]] = {}

        def hear(pair: Pair, what: Said | Came, now: float) -> None:
            if pair not in asked:
                return
            tongue, ident, at = asked[pair]
            if isinstance(what, Came):
                self._known(tongue, ident, what.data)
            elif not self._refused(what):
                return
            self.rtt = min(self.rtt or 9e9, now - at)

        self.hear = hear
        self.udp = "n/a"
        start = clock()
        for when in GREETINGS:
            self.pump(start + when, lambda: self.udp in ("refused", "filtered", "unreachable") or self._knows())
            if self.udp != "n/a" or self.error:
                break
            for tongue in first:
                ident = self.random.randrange(1, 65536).to_bytes(8, "big")
                pair = self.open(self.request.port)
                if pair is None:
                    break
                asked[pair] = (tongue, ident, clock())
                self.send(pair, hello(tongue, ident))
        self.pump(start + GREETED, lambda: self.udp != "n/a" or self.error is not None)
        if self.error is not None:
            self.udp = "unreachable"
        elif self.udp == "n/a":
            self.udp = "silent"
        self.drop()

    def _knows(self) -> bool:
        return self.speaks in ("dns", "quic")

    def _known(self, tongue: str, ident: bytes, data: bytes) -> None:
        self.udp = "ok"
        reply = askdns.parse(data)
        if tongue == "dns" and reply is not None and reply.ident == number(ident):
            self.speaks = "dns"
        elif tongue == "quic" and quic.negotiates(data, ident):
            self.speaks = "quic"
        else:
            self.speaks = self.speaks or "other"

    def _refused(self, said: Said) -> bool:
        """An ICMP error that ends the asked traffic."""
        kind = word(self.family, said.type, said.code)
        if kind in ("too-big", "other"):
            return False
        if self.udp == "n/a":
            self.udp = "refused" if kind == "port" else "filtered" if kind == "filtered" else "unreachable"
            self.icmp, self.by = (said.type, said.code), said.by
        return True

    def _sizes(self) -> None:
        """The way out, by whatever answers in few bytes."""
        own = self.request.port if self.by == self.request.address else 0
        if self.speaks == "dns":
            self._search("udp-dns", self.request.port)
        elif self.speaks == "quic":
            self._search("udp-quic", self.request.port)
        elif self.udp in ("refused", "filtered", "unreachable"):
            if own:
                self._search("udp-closed", own)
            return
        if not self.searches or self._doubtful(self.searches[0].bracket()):
            self._search("udp-closed", CLOSED + self.random.randrange(CLOSED_RANGE))
        if self.lookout is not None:
            self._echoes()
        if self.udp == "silent" and any(s.voids for s in self.searches):
            self._greet()  # who answers seldom may have had no answer left for the greetings

    @staticmethod
    def _doubtful(b: Bracket) -> bool:
        return b.passes is None or (b.fails is not None and b.told_mtu != b.passes)

    def _forward(self) -> tuple[Bracket, ...]:
        """Best first. A server's own limit is none of the path's."""
        found = [s.bracket() for s in self.searches]
        if len(found) < 2 or found[0].fails is None:
            return tuple(sorted(found, key=lambda b: b.passes is None))
        away = {hops_away(self.ttls[b.method]) for b in found[:2] if b.method in self.ttls}
        known = all(b.method in self.ttls for b in found[:2])
        echo = self.pinger.bracket() if self.pinger is not None else None
        return weigh(found[0], found[1], echo, known and len(away) == 1)

    def _search(self, method: str, port: int) -> None:
        scarce = method == "udp-closed"
        control = quic.LEAST + self.header if method == "udp-quic" else SMALL
        search = Datagrams(
            method=method,
            ceiling=self.ceiling,
            control=min(control, self.ceiling),
            start=clock(),
            family=self.family,
            floor=max(control, self.request.floor),
            scarce=scarce,
            row=max(2, min(ROUND, self.request.parallel)),  # as few at once as connections to a public target
            budget=self.request.budget,
            settle=SETTLE if method == "udp-dns" else SETTLE / 10,
        )
        self.searches.append(search)
        shots: dict[Pair, tuple[int, bytes]] = {}
        self.hear = _listener(search, shots, self)
        while not search.done:
            now = clock()
            for shot in () if self._wait_for_echoes(search, now) else search.step(now):
                learns = self.family == 6 and self.lookout is None and search.fails is not None
                pair = self.open(port, learns=learns)
                if pair is None:
                    search.done = True
                    break
                ident = self.random.getrandbits(64).to_bytes(8, "big")
                shots[pair] = (shot.n, ident)
                shot.port = pair.port
                how = self.send(pair, payload_of(method, ident, shot.size - self.header))
                if how == "local":
                    search.local(shot.n)
            self.listen()
        self.rtt = min(x for x in (self.rtt, search.rtt, 9e9) if x is not None)
        self.drop()

    def _wait_for_echoes(self, search: Datagrams, now: float) -> bool:
        """Where answers are scarce, what the echoes found saves some of them. They begin when the first datagrams were
        judged, so that who says "too big" seldom says it to these."""
        if not search.scarce or self.lookout is None or not search.fails:
            return False
        self._echo_begins(now)
        if self.pinger is None:
            return False
        if not self.pinger.done and self.pinger.worth(now):
            self.pinger.step(now)
            return True
        bracket = self.pinger.bracket()
        search.hints = tuple(x for x in (bracket.passes, bracket.fails) if x is not None)
        return False

    def _echo_begins(self, now: float) -> None:
        if self.pinger is None and self.lookout is not None and "icmp-echo" in self.request.methods:
            with contextlib.suppress(OSError):
                self.pinger = Pinger(self.fd, self.request, self.lookout, now, sized=True)

    def _echoes(self) -> None:
        """What is left to hear of the echoes."""
        self._echo_begins(clock())
        while self.pinger is not None and not self.pinger.done and self.pinger.worth(clock()):
            self.pinger.step(clock())
            self.listen()
        self.pieces = fragmented_echoes(self)

    def _knock(self) -> None:
        """Only a look whether the host is there."""
        self._echo_begins(clock())
        while self.pinger is not None and not self.pinger.done and self.pinger.search.rtt is None:
            self.pinger.step(clock())
            self.listen()

    def _answers(self) -> None:
        from pathfit.probe.udp.largedns import large_answers  # only DNS servers need it

        self.dns, self.dns_bracket = large_answers(self)

    # -- the result --------------------------------------------------------------------------------------------

    def _result(self) -> ProbeResult:
        contact = Contact(
            address=self.request.address,
            family=self.family,
            port=self.request.port,
            protocol="udp" if self.request.protocol == "udp" else "icmp",
            rtt=self._rtt(),
            promised=self.ceiling,
            sendable=self.ceiling,
            local_address=self.local,
            echo_ttl=self.pinger.ttl() if self.pinger is not None else None,
            error=self.error,
            error_from=self.by,
            icmp=self.icmp,
            udp=self.udp,
            speaks=self.speaks,
        )
        attempts: list[Attempt] = []
        for search in self.searches:
            attempts += search.attempts(len(attempts) + 1, self.start)
        if self.pinger is not None:
            attempts += self.pinger.attempts(self.start, len(attempts) + 1)
        return ProbeResult(
            ref=self.request.ref,
            contact=contact,
            forward=self._forward(),
            reverse=(self._inwards(),) if not self.request.contact_only and self.error is None else (),
            both=tuple(b for b in (self.pinger.bracket() if self.pinger else None, self.pieces) if b is not None),
            attempts=tuple(attempts),
            too_big=self._too_big(),
            side_effects=self._left(),
            used=Used(
                packets=self.sent + (self.pinger.sent if self.pinger is not None else 0),
                connections=self.connections,
                seconds=round(clock() - self.start, 4),
            ),
            missing=tuple(self.missing),
            dns=self.dns,
        )

    def _inwards(self) -> Bracket:
        """Nothing but answers of size tell of the way in."""
        if self.dns_bracket is not None:
            return self.dns_bracket
        note = "answers-too-short" if self.udp == "ok" else "no-large-answers"
        return Bracket(method="none", tests="reverse", note=note)

    def _rtt(self) -> float | None:
        ping = self.pinger.search.rtt if self.pinger is not None else None
        known = [x for x in (self.rtt, ping) if x is not None and x < 1e9]
        return min(known, default=None)

    def _too_big(self) -> tuple[TooBig, ...]:
        heard = tuple(self.lookout.too_big) if self.lookout is not None else ()
        known = {(t.by, t.mtu) for t in heard}
        return (*heard, *(t for key, t in self.told.items() if key not in known))

    def _left(self) -> tuple[SideEffect, ...]:
        """Does our kernel believe in less than before?"""
        with netns.inside(self.fd):
            now = tcpsock.path_mtu(self.family, self.request.address, self.request.port)
        if now is None or self.believed is None or now >= self.believed:
            return ()
        return (SideEffect(where="here", what="learned-path-mtu", lasts=REMEMBERED),)


def _listener(search: Datagrams, shots: dict[Pair, tuple[int, bytes]], course: Course) -> Hear:
    """What the answers to sized datagrams mean. An error that the target itself sends is an answer: the datagram
    arrived; one that somebody on the way sends says only that it came as far as there."""
    address, family = course.request.address, course.family

    def hear(pair: Pair, what: Said | Came, now: float) -> None:
        known = shots.get(pair)
        if known is None:
            return
        n, ident = known
        if isinstance(what, Came):
            if answers(search.method, ident, what.data):
                search.answered(now, n)
                course.ttls[search.method] = what.ttl
            return
        kind = word(family, what.type, what.code)
        if kind == "too-big":
            search.told(n, what.mtu, what.by)
        elif kind != "other" and what.by == address:
            search.answered(now, n)
            course.ttls[search.method] = what.ttl or course.ttls.get(search.method, 0)

    return hear
