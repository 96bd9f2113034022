"""What a measurement between two ends of ours found out, put together with what the asked port itself did.

With a port, the asked traffic is TCP to it: what its own connections proved stands first, and what packets of ours
showed beside it stands in where they proved nothing (a service that says little, or a port nobody listens on).
Without a port, any traffic between both is asked, and the packets are the judge.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from pathfit.core.evidence import Missing, ProbeResult, SocketFact
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.measured import Attempt, Bracket, Contact, LossSeen, SideEffect, Uneven, Used
from pathfit.core.net import TIMESTAMPS, Direction, packet_of
from pathfit.core.request import Measure
from pathfit.measure.pair import OneWay
from pathfit.probe.pair.engine import DIRECTIONS, Pair
from pathfit.probe.target import measure
from pathfit.probe.tcp.engine import Witness
from pathfit.probe.tcp.outcome import REMEMBERED

PROVEN = ("proof", "step", "told")
Tcp = Literal["ok", "refused", "reset", "timeout", "unreachable", "n/a"]


def measure_pair(
    fd: int | None,
    far: int | None,
    request: Measure,
    witness: Witness | None = None,
    served: Callable[[], SocketFact | Missing] | None = None,
) -> ProbeResult | Missing:
    """Measure from namespace ``fd`` to ``request.address`` in namespace ``far``, each direction alone.

    ``served``: reads the sockets of the far end, while our connections to the asked service stand.
    """
    asked = measure(fd, request, witness) if request.port else None
    try:
        pair = Pair(fd, far, request, connects=isinstance(asked, ProbeResult) and asked.contact.tcp == "ok")
    except OSError as e:
        return _without(fd, request, asked, witness, e)
    try:
        pair.run()
        ours = _result(pair, request)
        if served is not None and pair.listener is None and pair.stood:
            ours = _as_served(pair, ours, served())
        return _together(asked, ours) if isinstance(asked, ProbeResult) else ours
    finally:
        pair.close()


def _as_served(pair: Pair, ours: ProbeResult, there: SocketFact | Missing) -> ProbeResult:
    """With what the service's own half of our connections would send: less than our SYN invites where its kernel did
    not remember all of it (SYN cookies: cookie_v4_check()); a path MTU it has learned is no promise."""
    if isinstance(there, Missing):
        return ours
    mine = {(line.to, line.dport) for line in pair.lines["reverse", "tcp"].values()}
    sizes = [
        packet_of(pair.family, s.info.snd_mss) + (TIMESTAMPS if s.info.timestamps else 0)
        for s in there.sockets
        if s.info is not None and s.sport == pair.tcp_port and (s.dst, s.dport) in mine
    ]
    largest, invited = max(sizes, default=None), ours.contact.invited
    if largest is None or invited is None or largest >= min(invited, pair.far_mtu or invited):
        return ours
    return msgspec.structs.replace(ours, contact=msgspec.structs.replace(ours.contact, invited=largest))


def _without(
    fd: int | None, request: Measure, asked: ProbeResult | Missing | None, witness: Witness | None, e: OSError
) -> ProbeResult | Missing:
    """No sockets of ours between both: what can be measured as of any target, and why it is no more."""
    if e.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) and asked is None:
        family = 6 if ":" in request.address else 4
        name = errno.errorcode.get(e.errno or 0)
        contact = Contact(address=request.address, family=family, port=request.port, tcp="unreachable", error=name)
        return ProbeResult(ref=request.ref, contact=contact)
    found = asked or measure(fd, request, witness)
    denied = isinstance(e, PermissionError)
    missing = Missing(
        ref=request.ref,
        what=f"each direction alone, seen from {request.address} as well",
        why=e.strerror or str(e),
        how=AS_ROOT if denied else "",
        code="permission" if denied else "absent",
    )
    if isinstance(found, Missing):
        return missing if denied else found
    return msgspec.structs.replace(found, missing=(*found.missing, missing))


def _result(pair: Pair, request: Measure) -> ProbeResult:
    """The facts of a finished ``pair`` alone."""
    attempts: list[Attempt] = []
    for (tests, _), way in pair.ways.items():
        ports = pair.ports if tests == "forward" else {f: line.dport for f, line in pair.lines[tests, "udp"].items()}
        attempts += way.attempts(len(attempts) + 1, pair.start, ports if way.split else {})
    ways = list(pair.ways.values())
    taught = pair.taught()
    losses = [w.loss() for w in ways]
    return ProbeResult(
        ref=request.ref,
        contact=_contact(pair),
        forward=_brackets(pair, "forward", taught.get("forward")),
        reverse=_brackets(pair, "reverse", taught.get("reverse")),
        attempts=tuple(attempts),
        too_big=tuple(
            msgspec.structs.replace(t, heard=(t.tests, t.mtu) in pair.heard) if t.ours else t for t in pair.too_big
        ),
        loss=LossSeen(attempts=sum(n for n, _ in losses), disturbed=sum(n for _, n in losses)),
        uneven=_uneven(pair),
        used=Used(
            packets=pair.packets + 3 * pair.connecting,
            connections=pair.connecting,
            seconds=round(time.monotonic() - pair.start, 4),
        ),
        splits=tuple(s for w in ways for s in w.splits()),
        side_effects=tuple(
            SideEffect(where="here" if t == "forward" else pair.address, what="learned-path-mtu", lasts=REMEMBERED)
            for t in taught
        ),
    )


def _brackets(pair: Pair, tests: Direction, taught: int | None) -> tuple[Bracket, ...]:
    """Best first: what something arrived by. ``taught``: the path MTU the sender's own kernel has learned on the spot;
    when it is the one that passes, nothing vanishes there for long."""
    mine = [w for (t, _), w in pair.ways.items() if t == tests]
    found = [_handed_on(w.bracket(), pair.sacked.get(tests)) for w in sorted(mine, key=lambda w: not w.open)]
    by = (pair.near if tests == "forward" else pair.far).address
    return tuple(
        msgspec.structs.replace(b, grade="told", told_by=by, told_mtu=taught, note=None)
        if b.grade == "proof" and b.fails is not None and taught == b.passes
        else b
        for b in found
    )


def _handed_on(b: Bracket, sacked: int | None) -> Bracket:
    """Segments that came in, but which the receiving kernel does not say it has: a filter of its own drops them."""
    if b.method != "tcp-pair" or sacked is None or b.passes is None or sacked >= b.passes:
        return b
    return Bracket(method=b.method, tests=b.tests, passes=sacked, note="not-handed-on")


def _uneven(pair: Pair) -> Uneven | None:
    for (tests, mode), way in pair.ways.items():
        if mode == "udp":
            back = {f: line.dport for f, line in pair.lines["reverse", "udp"].items()}
            found = way.uneven(pair.ports if tests == "forward" else back)
            if found is not None:
                return found
    return None


def _open(pair: Pair, tests: Direction, mode: Literal["udp", "tcp"]) -> OneWay | None:
    way = pair.ways.get((tests, mode))
    return way if way is not None and way.open else None


def _contact(pair: Pair) -> Contact:
    """How it looks to a client: by UDP both ways there is no connection to speak of (tcp "n/a"); by TCP alone it
    stands; where nothing comes back, it does not."""
    udp = [_open(pair, t, "udp") for t in DIRECTIONS]
    tcp_ways = [_open(pair, t, "tcp") for t in DIRECTIONS]
    delays = [w.delay for w in (udp if all(udp) else tcp_ways) if w is not None and w.delay is not None]
    both = [x for x in (pair.near_mtu, pair.far_mtu) if x is not None]
    promised = min(both, default=None)
    tcp: Tcp = "n/a" if all(udp) else "ok" if pair.stood else "timeout"
    error = next(iter(pair.errors), None)
    if tcp == "timeout" and error is not None:
        tcp = "unreachable"
    return Contact(
        address=pair.address,
        family=pair.family,
        port=pair.port if all(udp) or tcp != "ok" else pair.tcp_port,
        tcp=tcp,
        protocol="udp" if all(udp) else "tcp",
        rtt=sum(delays) if len(delays) == len(DIRECTIONS) else None,
        promised=promised,
        offered=None if promised is None or pair.offered is None else min(pair.offered, promised),
        invited=None if promised is None or pair.invited is None else min(pair.invited, promised),
        sendable=promised,
        local_address=pair.near.address,
        local_ports=tuple(pair.ports.values()),
        error_from=error.by if error and tcp == "unreachable" else None,
        icmp=(error.type, error.code) if error and tcp == "unreachable" else None,
    )


def _together(asked: ProbeResult, ours: ProbeResult) -> ProbeResult:
    """The connections to the asked port, and the packets beside them."""
    n = len(asked.attempts)
    return msgspec.structs.replace(
        asked,
        contact=msgspec.structs.replace(asked.contact, invited=ours.contact.invited),
        forward=_judges(asked.forward, ours.forward),
        reverse=_judges(asked.reverse, ours.reverse),
        attempts=(*asked.attempts, *(msgspec.structs.replace(a, n=a.n + n) for a in ours.attempts)),
        too_big=tuple(dict.fromkeys((*asked.too_big, *ours.too_big))),
        loss=LossSeen(
            attempts=asked.loss.attempts + ours.loss.attempts,
            disturbed=asked.loss.disturbed + ours.loss.disturbed,
            unanswered_syns=asked.loss.unanswered_syns,
        ),
        uneven=asked.uneven or ours.uneven,
        used=Used(
            packets=asked.used.packets + ours.used.packets,
            connections=asked.used.connections + ours.used.connections,
            seconds=round(asked.used.seconds + ours.used.seconds, 4),
        ),
        missing=(*asked.missing, *_alone(asked, ours)),
        side_effects=tuple(dict.fromkeys((*asked.side_effects, *ours.side_effects))),
        splits=ours.splits,
    )


def _alone(asked: ProbeResult, ours: ProbeResult) -> tuple[Missing, ...]:
    """Nothing of ours gets through beside the asked port, which answers: a filter that admits it alone."""
    if asked.contact.tcp != "ok" or any(b.passes for b in (*ours.forward, *ours.reverse)):
        return ()
    what = f"packets of our own to {asked.contact.address}, seen at both ends"
    why = "only the asked port gets through; what its connections showed is all there is"
    return (Missing(ref=asked.ref, what=what, why=why, how="", code="filtered"),)


def _judges(asked: tuple[Bracket, ...], ours: tuple[Bracket, ...]) -> tuple[Bracket, ...]:
    """Best first. Segments beside the asked connections, seen from both ends, count before what those connections let
    us conclude; then what these proved; last what is not TCP."""
    sure = [b for b in asked if b.passes is not None and b.grade in PROVEN]
    beside = [b for b in ours if b.method == "tcp-pair" and b.passes is not None and b.grade in PROVEN]
    rest = [b for b in (*ours, *asked) if b not in sure and b not in beside]
    return (*beside, *sure, *rest)
