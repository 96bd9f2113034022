"""The connections in traffic that others send: who spoke with whom, what was sent again, what nobody acknowledged.

Seen at one device, the nearest to the asking side that saw both directions: addresses and ports are the same there both
ways, whatever NAT makes of them elsewhere. What the other side repeats is looked for at the device nearest to it, for
it may never come to the first one. A connection that was open before the watch began counts as any other; what hangs
shows itself by its repetitions (RFC 6298: later and later, so that a few seconds show two or three).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pathfit.core.followed import Talk
from pathfit.core.net import Direction, endpoint
from pathfit.follow.seen import Packet, Way
from pathfit.model import same
from pathfit.wire import addresses
from pathfit.wire.dissect import Udp
from pathfit.wire.packets import ACK, RST, SYN, Icmp, Tcp

MOST = 64  # connections that are told of
STUCK = 3  # times that the same bytes were sent, and not acknowledged: one repetition may be a late acknowledgement
Key = tuple[str, str, str]
Groups = dict[Key, list[tuple[Direction, Packet]]]


class Told(NamedTuple):
    """``more``: connections beyond those that are kept."""

    talks: tuple[Talk, ...]
    more: int


def talks(ways: Sequence[Way]) -> Told:
    """Those with trouble first, then by packets."""
    near, far = _near(ways), _far(ways)
    groups = _groups(ways, near)
    behind = _renamed(_groups(ways, far), groups) if far not in (None, near) else {}
    every = sorted((_talk(key, them, behind.get(key, them)) for key, them in groups.items()), key=_trouble)
    return Told(tuple(every[:MOST]), max(0, len(every) - MOST))


def _trouble(t: Talk) -> tuple[bool, int, int]:
    return not t.stuck, -(t.again + t.again_back), -(t.packets + t.back)


def _near(ways: Sequence[Way]) -> int | None:
    """The tap nearest to the asking side that saw both directions, else the first with anything at all."""
    seen: dict[Direction, set[int]] = defaultdict(set)
    for w in ways:
        seen[w.direction] |= {w.stops[p.sighting.point].tap for p in w.packets}
    order = [s.tap for w in ways for s in (w.stops if w.direction == "forward" else reversed(w.stops))]
    both = [t for t in order if all(t in seen[w.direction] for w in ways)]
    return next(iter(both or [t for t in order if any(t in seen[w.direction] for w in ways)]), None)


def _far(ways: Sequence[Way]) -> int | None:
    """The tap nearest to the other side that saw anything of what that sends: what is lost later was seen there."""
    back = max((w for w in ways if w.direction == "reverse"), key=lambda w: len(w.packets), default=None)
    seen = {p.sighting.point for p in back.packets} if back is not None else set()
    return back.stops[min(seen)].tap if back is not None and seen else None


def _groups(ways: Sequence[Way], tap: int | None) -> Groups:
    """Packets at one tap by connection."""
    found: Groups = defaultdict(list)
    for way in ways:
        points = {n for n, stop in enumerate(way.stops) if stop.tap == tap}
        for packet in way.packets:
            if packet.sighting.point in points:
                found[_key(way.direction, packet)].append((way.direction, packet))
    return found


def _renamed(there: Groups, here: Groups) -> Groups:
    """The connections at another tap by their names here: NAT changes addresses and ports, not what is in a packet."""
    names = {
        (piece.key, piece.start): key for key, them in here.items() for _, p in them for piece in p.sighting.pieces
    }
    found: Groups = {}
    for key, them in there.items():
        known = (names.get((piece.key, piece.start)) for _, p in them for piece in p.sighting.pieces)
        named = Counter(name for name in known if name is not None).most_common(1)
        found[named[0][0] if named else key] = them
    return found


def _key(way: Direction, p: Packet) -> Key:
    ip, t = p.layer.ip, p.layer.transport
    src, dst = addresses.ip(ip.src), addresses.ip(ip.dst)
    if isinstance(t, Tcp | Udp):
        src, dst = endpoint(src, t.sport), endpoint(dst, t.dport)
    kind = "tcp" if isinstance(t, Tcp) else "udp" if isinstance(t, Udp) else "icmp" if isinstance(t, Icmp) else "other"
    return (kind, src, dst) if way == "forward" else (kind, dst, src)


def _talk(key: Key, them: Sequence[tuple[Direction, Packet]], behind: Sequence[tuple[Direction, Packet]]) -> Talk:
    """``behind``: the same connection where what comes back was seen first."""
    ordered = sorted(them, key=lambda x: x[1].sighting.time)
    out, back = ([p for d, p in ordered if d == way] for way in ("forward", "reverse"))
    later = sorted(behind, key=lambda x: x[1].sighting.time)
    far_out, far_back = ([p for d, p in later if d == way] for way in ("forward", "reverse"))
    halves = {"forward": _Half(out, back), "reverse": _Half(far_back, far_out)}
    stuck = max(halves, key=lambda d: halves[d].repeats if halves[d].stuck else 0)
    half = halves[stuck]
    flags = [(d, p.layer.transport.flags) for d, p in ordered if isinstance(p.layer.transport, Tcp)]
    return Talk(
        protocol=key[0],
        client=key[1],
        server=key[2],
        packets=len(out),
        back=len(back),
        again=halves["forward"].again,
        again_back=halves["reverse"].again,
        repeats=half.repeats if half.stuck else 0,
        stuck=half.stuck,
        stuck_way=stuck if half.stuck else "",
        opened=any(f & SYN and not f & ACK for d, f in flags if d == "forward"),
        reset=next((d for d, f in flags if f & RST), ""),
        seconds=round((ordered[-1][1].sighting.time - ordered[0][1].sighting.time) / 1e9, 3),
    )


class _Half:
    """One direction of a connection. ``again``: segments of which every byte had been seen; ``stuck``: bytes of the
    packet that was sent most often, at least STUCK times, and never acknowledged; 0 for none."""

    def __init__(self, mine: Sequence[Packet], others: Sequence[Packet]) -> None:
        self.again = self.repeats = self.stuck = 0
        acked = [p.layer.transport.ack for p in others if isinstance(p.layer.transport, Tcp) and _acks(p)]
        copies: Counter[int] = Counter()
        sizes: dict[int, int] = {}
        ends: dict[int, int] = {}
        seen: list[tuple[int, int]] = []
        base: int | None = None
        for p in mine:
            t = p.layer.transport
            length = p.takes
            if not isinstance(t, Tcp) or not length or t.flags & RST:
                continue
            base = t.seq if base is None else base
            start = same.apart(t.seq, base)
            if _covered(seen, start, start + length):
                self.again += 1
            seen = _with(seen, start, start + length)
            copies[start] += 1
            sizes[start] = max(sizes.get(start, 0), p.size)
            ends[start] = start + 1 if t.flags & SYN else start + length
        heard = max((same.apart(a, base) for a in acked), default=None) if base is not None else None
        open_ = {s: n for s, n in copies.items() if n >= STUCK and (heard is None or ends[s] > heard)}
        if open_:
            first = max(open_, key=lambda s: (open_[s], -s))
            self.repeats, self.stuck = open_[first], sizes[first]


def _acks(p: Packet) -> bool:
    return isinstance(p.layer.transport, Tcp) and bool(p.layer.transport.flags & ACK)


def _covered(seen: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    return any(a <= start and end <= b for a, b in seen)


def _with(seen: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Ranges joined where they touch, in order."""
    found: list[tuple[int, int]] = []
    for a, b in seen:
        if b < start or end < a:
            found.append((a, b))
        else:
            start, end = min(a, start), max(b, end)
    return sorted([*found, (start, end)])
