"""The ladder: packets of one connection, and at which points each of them was seen."""

from collections.abc import Sequence

from pathfit.core.followed import Row
from pathfit.follow.seen import Packet, Way
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import ACK, FIN, RST, SYN, Icmp, Tcp

ROWS = 16  # packets of the ladder
FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"))


def rows(ways: Sequence[Way]) -> tuple[Row, ...]:
    """Packets of the connection in which the first one was lost, or of the first there was: from its first on."""
    packets = sorted((p for way in ways for p in way.packets), key=lambda p: p.sighting.time)
    lost = [x for way in ways for x in way.result.lost]
    number = min((x.sighting for x in lost), key=lambda s: s.time).number if lost else None
    chosen = next((p for p in packets if p.number == number), packets[0] if packets else None)
    if chosen is None:
        return ()
    ends = _ends(chosen.layer)
    found: list[Row] = []
    for way in ways:
        first = {p.sighting.point: p for p in reversed(way.packets)}
        start = min(first, default=0)
        begun = (p for p in way.packets if p.sighting.point == start and _ends(p.layer) == ends)
        found += [_row(way, p) for p in begun]
    found.sort(key=lambda r: r.time)
    return _telling(found)


def _ends(layer: Layer) -> frozenset[object]:
    """A connection at one point: the port that is the client's, and the other."""
    t = layer.transport
    return frozenset((t.sport, t.dport)) if isinstance(t, Tcp | Udp) else frozenset((layer.ip.src, layer.ip.dst))


def _telling(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The first ones, and the first that were lost, in their order."""
    lost = [n for n, r in enumerate(rows) if "none" in r.seen or "part" in r.seen]
    wanted = sorted({*range(min(len(rows), ROWS // 2)), *lost[: ROWS // 2]})
    return tuple(rows[n] for n in wanted)


def _row(way: Way, p: Packet) -> Row:
    seen: list[str] = []
    numbers: list[int] = []
    for point in range(len(way.stops)):
        them = [q for q in way.packets if q.sighting.point == point and _shares(q, p)]
        numbers += [q.number for q in them]
        whole = _covered(p, them)
        seen.append("all" if whole else "part" if them else "none")
    return Row(
        direction=way.direction, time=p.sighting.time, what=_what(p), size=p.size, seen=tuple(seen),
        numbers=tuple(numbers),
    )  # fmt: skip


def _shares(q: Packet, p: Packet) -> bool:
    both = ((a, b) for a in q.sighting.pieces for b in p.sighting.pieces)
    return any(a.key == b.key and a.start < b.end and b.start < a.end for a, b in both)


def _covered(p: Packet, them: Sequence[Packet]) -> bool:
    """Is every byte of ``p`` in one of them?"""
    for piece in p.sighting.pieces:
        at = piece.start
        ranges = sorted((x.start, x.end) for q in them for x in q.sighting.pieces if x.key == piece.key)
        for start, end in ranges:
            if start <= at:
                at = max(at, end)
        if at < piece.end:
            return False
    return bool(p.sighting.pieces)


def _what(p: Packet) -> str:
    """What a packet is, in the words of tcpdump."""
    t = p.layer.transport
    if isinstance(t, Tcp):
        said = [name for bit, name in FLAGS if t.flags & bit]
        payload = p.size - (p.layer.payload - p.layer.at)
        if payload > 0:
            said.append(f"seq {t.seq}:{(t.seq + payload) % (1 << 32)}")
        elif t.flags & ACK:
            said.append(f"ack {t.ack}")
        return " ".join(said)
    if isinstance(t, Icmp):
        return f"icmp {t.type}/{t.code}"
    return "udp" if isinstance(t, Udp) else "fragment" if p.layer.ip.fragment else f"protocol {p.layer.ip.protocol}"
