"""Did the host whose address a reset bears make it? By what else that host has sent past the same point.

What is compared (a Linux machine: tcp_v4_send_reset(), nf_send_reset()):

* TTL: routers between the sender and the point, as for its other packets;
* IPv4 identification: a socket counts it on with each segment; 0 (where there is no socket, or a filter) says nothing;
* DF: a host that sets it on segments sets it on resets;
* time stamps (RFC 7323): a clock for each connection, which a reset that carries one has to know;
* window: one that is not 0 and is the connection's own is known to who holds the connection, or listens in;
* sequence number: what was never acknowledged, and is not what comes next, is a guess from outside (RFC 5961);
* time: an answer cannot be back sooner than others of that host are;
* what comes after: a host that has reset a connection sends nothing more of it.

One sign is no proof, and signs that disagree are none. Pure. Times are nanoseconds.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pathfit.core.followed import Sign
from pathfit.core.net import hops_away
from pathfit.follow.seen import Packet
from pathfit.model.same import WRAP, apart
from pathfit.wire.packets import RST, SYN, Icmp, Tcp

NEAR = 64  # identifications that a socket may have counted on between two segments that we saw
STRANGE = 1024  # behind or ahead of them: not this counter
FARTHEST = 1 << 22  # bytes ahead of what came last: more than windows are
SLOWEST = 2_000_000  # a round trip shorter than that tells nothing by time
LATER = 1_000_000  # what comes so much later was not overtaken on the way
CLOCKS = 10_000  # ticks a second that a clock of time stamps may have, at most (a microsecond clock is told apart)


class Known(NamedTuple):
    """What was seen at one point, in the order of time: ``theirs`` of the host, resets left out; ``ours`` the other
    way. ``asked``: when the packet that was answered passed there, None when it was not seen."""

    theirs: Sequence[Packet]
    ours: Sequence[Packet]
    asked: int | None


def signs(it: Packet, known: Known) -> Iterator[Sign]:
    """What tells for and against the host, of one reset or ICMP error ``it``."""
    yield from _distance(it, known.theirs)
    yield from _soon(it, known)
    t = it.layer.transport
    if not isinstance(t, Tcp):
        return
    segments = [p for p in known.theirs if isinstance(p.layer.transport, Tcp)]
    if it.layer.ip.family == 4 and segments and all(p.layer.ip.df for p in segments) and not it.layer.ip.df:
        yield Sign(name="df", says="other")
    mine = [p for p in segments if _ports(p) == (t.sport, t.dport)]
    before = [p for p in mine if p.sighting.time <= it.sighting.time]
    yield from _identification(it, before)
    yield from _clock(it, before)
    yield from _window(it, before)
    back = [p for p in known.ours if _ports(p) == (t.dport, t.sport)]
    yield from _number(it, before, [p for p in back if p.sighting.time <= it.sighting.time])
    yield from _went_on(it, mine, back)


def verdict(found: Sequence[Sign]) -> str:
    """What signs by themselves are good for: "end", "other", "" where they are none or disagree."""
    said = {x.says for x in found} - {""}
    return said.pop() if len(said) == 1 else ""


def _tcp(p: Packet) -> Tcp:
    t = p.layer.transport
    assert isinstance(t, Tcp)
    return t


def _ports(p: Packet) -> tuple[int, int] | None:
    t = p.layer.transport
    return (t.sport, t.dport) if isinstance(t, Tcp) else None


def _distance(it: Packet, theirs: Sequence[Packet]) -> Iterator[Sign]:
    """Segments before other answers: a balancer may answer echoes itself."""
    usual = [p.layer.ip.ttl for p in theirs if isinstance(p.layer.transport, Tcp)]
    usual = usual or [p.layer.ip.ttl for p in theirs if isinstance(p.layer.transport, Icmp)]
    if usual and it.layer.ip.ttl:
        same = hops_away(it.layer.ip.ttl) in map(hops_away, usual)
        often = max(set(usual), key=usual.count)
        yield Sign(name="ttl", says="end" if same else "other", facts={"ttl": it.layer.ip.ttl, "usual": often})


def _identification(it: Packet, before: Sequence[Packet]) -> Iterator[Sign]:
    idents = [p.layer.ip.ident for p in before if p.layer.ip.family == 4 and p.layer.ip.ident]
    steps = [(b - a) % 65536 for a, b in itertools.pairwise(idents)]
    if it.layer.ip.family != 4 or not it.layer.ip.ident or not steps or max(steps) > NEAR:
        return
    ahead = (it.layer.ip.ident - idents[-1]) % 65536
    if ahead <= NEAR:
        yield Sign(name="ident", says="end", facts={"ident": it.layer.ip.ident, "last": idents[-1]})
    elif min(ahead, 65536 - ahead) > STRANGE:
        yield Sign(name="ident", says="other", facts={"ident": it.layer.ip.ident, "last": idents[-1]})


def _clock(it: Packet, before: Sequence[Packet]) -> Iterator[Sign]:
    stamp = _tcp(it).ts
    known = [(p.sighting.time, t.ts) for p in before if (t := _tcp(p)).ts is not None]
    if stamp is None or not known:
        return
    time, last = known[-1]
    ahead = (stamp[0] - (last or (0, 0))[0]) % (1 << 32)
    most = (it.sighting.time - time) * CLOCKS // 1_000_000_000 + CLOCKS
    yield Sign(
        name="clock", says="end" if ahead <= most else "other", facts={"value": stamp[0], "last": (last or (0,))[0]}
    )


def _window(it: Packet, before: Sequence[Packet]) -> Iterator[Sign]:
    window = _tcp(it).window
    if window and before and not _tcp(before[-1]).flags & SYN and _tcp(before[-1]).window == window:
        yield Sign(name="window", says="end", facts={"window": window})


def _number(it: Packet, before: Sequence[Packet], back: Sequence[Packet]) -> Iterator[Sign]:
    """Of a connection that stands: what comes next, or what was acknowledged, is what a reset of it bears."""
    t = _tcp(it)
    ends = [p.until for p in before]
    acknowledged = {_tcp(p).ack for p in back}
    if not ends or t.seq in acknowledged:
        return
    last = ends[0]
    for end in ends:
        last = end if apart(end, last) >= 0 else last
    if (t.seq - last) % WRAP > FARTHEST:
        yield Sign(name="sequence", says="other", facts={"seq": t.seq, "next": last})


def _went_on(it: Packet, mine: Sequence[Packet], back: Sequence[Packet]) -> Iterator[Sign]:
    """The host sends more of the connection; not where the other end has begun a new one on the same ports."""
    again = [p.sighting.time for p in back if _tcp(p).flags & SYN and p.sighting.time > it.sighting.time]
    until = min(again, default=1 << 63)
    after = [p for p in mine if it.sighting.time + LATER < p.sighting.time < until]
    if after:
        ms = round((after[0].sighting.time - it.sighting.time) / 1e6, 1)
        yield Sign(name="went-on", says="other", facts={"count": len(after), "ms": ms})


def _soon(it: Packet, known: Known) -> Iterator[Sign]:
    trip = round_trip(known)
    if known.asked is None or trip is None or trip < SLOWEST:
        return
    took = it.sighting.time - known.asked
    if 0 <= took < trip / 2:
        yield Sign(name="timing", says="other", facts={"ms": round(took / 1e6, 2), "usual": round(trip / 1e6, 2)})


def round_trip(known: Known) -> int | None:
    """The quickest answer to a SYN, seen from that point."""
    asked: dict[tuple[tuple[int, int] | None, int], int] = {}
    for p in known.ours:
        t = p.layer.transport
        if isinstance(t, Tcp) and t.flags & SYN:
            asked[_ports(p), (t.seq + 1) % WRAP] = p.sighting.time
    trips: list[int] = []
    for p in known.theirs:
        t = p.layer.transport
        if isinstance(t, Tcp) and t.flags & SYN and not t.flags & RST:
            sent = asked.get(((t.dport, t.sport), t.ack))
            trips += [p.sighting.time - sent] if sent is not None and p.sighting.time >= sent else []
    return min(trips, default=None)
