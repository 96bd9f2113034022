"""What one measurement found out, put together: every attempt, the brackets drawn from them, what it cost and left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pathfit.core.evidence import Missing, ProbeResult
from pathfit.core.measured import Attempt, Bracket, SideEffect, Uneven, Used
from pathfit.core.net import Family, packet_of
from pathfit.host import netns, tcpsock
from pathfit.measure import verdict
from pathfit.measure.refusal import word
from pathfit.probe.tcp.contact import contact_of
from pathfit.probe.tcp.pushed import Pushed

if TYPE_CHECKING:
    from pathfit.probe.tcp.engine import Engine

REMEMBERED = 600.0  # seconds Linux keeps a path MTU (net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires)


def result_of(engine: Engine, now: float) -> ProbeResult:
    """The facts of a finished ``engine``; ``now`` by its clock, seconds."""
    search = engine.search
    times = search.times(now)
    tracks = search.tracks
    for conn in engine.all:
        conn.track.phase = conn.talk.phase
    attempts: list[Attempt] = [t.attempt(now, engine.start, times.settle, times.silence) for t in tracks]
    forward: tuple[Bracket, ...] = ()
    side: list[SideEffect] = []
    if engine.ahead is not None:
        forward = engine.ahead.brackets()
        attempts += engine.ahead.attempts(engine.start, len(attempts) + 1)
        side += engine.ahead.side_effects()
    learned = _learned(engine)
    if learned and not any(s.where == "here" for s in side):
        side.append(SideEffect(where="here", what="learned-path-mtu", lasts=REMEMBERED))
        _disturbed(engine)
    inwards = engine.inwards or search.result(now)
    ours = isinstance(engine.ahead, Pushed) and engine.ahead.search.learned
    # What bounds the invitations may be our own kernel's memory.
    invited = _invitations(engine, inwards.passes or 0) if ours or not learned else []
    taught = verdict.by_invitations(inwards, invited)
    inwards = taught or inwards
    if taught is not None or any(t.mended is not None and t.complete and not t.passed for t in tracks):
        side.append(SideEffect(where=engine.request.address, what="learned-path-mtu", lasts=REMEMBERED))
    if engine.script.protocol == "mysql":
        side.append(SideEffect(where=engine.request.address, what="counted-connect-errors"))
    both: tuple[Bracket, ...] = ()
    if engine.pinger is not None:
        both = (engine.pinger.bracket(),)
        attempts += engine.pinger.attempts(engine.start, len(attempts) + 1)
    rescued = _rescued(engine)
    contact = contact_of(engine, now)
    if contact.icmp is not None and word(contact.family, *contact.icmp) == "filtered":
        attempts = [_filtered(a) for a in attempts]
    return ProbeResult(
        ref=engine.request.ref,
        contact=contact,
        forward=forward,
        reverse=(inwards,) if not engine.request.contact_only else (),
        both=both,
        attempts=tuple(attempts),
        too_big=tuple(engine.lookout.too_big) if engine.lookout is not None else (),
        loss=verdict.loss(tracks, now, times),
        uneven=verdict.uneven(tracks, now, search.promised) or _uneven_ahead(engine),
        side_effects=tuple(side),
        used=_used(engine, now),
        rescued_after=rescued[0] if rescued else None,
        rescued_size=rescued[1] if rescued else None,
        missing=tuple(engine.missing),
        flight=engine.flight,
    )


def _uneven_ahead(engine: Engine) -> Uneven | None:
    return None if engine.ahead is None or isinstance(engine.ahead, Pushed) else engine.ahead.uneven()


def _invitations(engine: Engine, passes: int) -> list[int]:
    """What the target's SYN-ACKs invited, bytes of IP packet, in their order. Without a packet socket: what our kernel
    would send on connections that invite more than ``passes`` themselves, our own route allowing more."""
    family: Family = 6 if engine.family == 6 else 4
    if engine.lookout is not None:
        heard = sorted(engine.lookout.synacks.values(), key=lambda h: h.at)
        return [packet_of(family, h.tcp.mss) for h in heard if h.tcp.mss]
    large = [c.track for c in engine.all if c.track.size > passes and c.track.invited]
    sent = [(t.opened, t.invited + t.header()) for t in large]
    if isinstance(engine.ahead, Pushed) and not engine.ahead.search.learned:
        fresh = [lane for lane in engine.ahead.search.lanes if lane.invited and lane.n not in engine.ahead.early]
        sent += [(lane.opened, lane.invited) for lane in fresh]
    return [size for _, size in sorted(sent)]


def _filtered(a: Attempt) -> Attempt:
    """A filter says so itself: that is more than "unreachable", which is all a socket is told (icmp_err_convert)."""
    return msgspec.structs.replace(a, outcome="filtered") if a.outcome == "unreachable" else a


def _learned(engine: Engine) -> bool:
    """Somebody told our kernel "too big" about small segments: a lie, but IPv4 believes it (tcp_v4_err())."""
    with netns.inside(engine.fd):
        now = tcpsock.path_mtu(engine.family, engine.request.address, engine.request.port)
    return now is not None and engine.believed is not None and now < engine.believed


def _disturbed(engine: Engine) -> None:
    """Our kernel keeps smaller now because of a lie; so would the asked client's connections, and ours did."""
    told = engine.lookout.too_big if engine.lookout is not None else ()
    if any(not one.sane for one in told):
        engine.missing.append(
            Missing(
                ref=engine.request.ref,
                what=f"the path to {engine.request.address} as it is",
                why='somebody on it answers small packets with "too big", and this kernel believes it for a while',
                how="ip route flush cache",
                code="disturbed",
            )
        )


def _rescued(engine: Engine) -> tuple[float, int] | None:
    late = [c.track for c in engine.all if c.track.mended is not None and c.track.mended > 2 * verdict.SETTLE_LOSS]
    late = [t for t in late if t.arrived < t.size]
    return (round(late[0].mended or 0.0, 3), late[0].arrived) if late else None


def _used(engine: Engine, now: float) -> Used:
    packets = sum(3 + c.track.segments + c.track.retrans for c in engine.all)
    packets += engine.more_packets
    for one in (engine.ahead, engine.replaced):
        if one is not None:
            packets += one.packets
    if engine.idle is not None:
        packets += 3 * engine.idle.opened
    if engine.pinger is not None:
        packets += engine.pinger.sent
    return Used(packets=packets, connections=engine.connections + engine.besides, seconds=round(now - engine.start, 4))
