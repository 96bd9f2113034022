"""The ladder: packets of one connection, and at which points each of them was seen."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

from pathfit.core.followed import Row
from pathfit.follow.seen import EARLY, Packet, Way
from pathfit.model import same
from pathfit.model.same import Key
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import ACK, FIN, RST, SYN, Icmp, Tcp

ROWS = 16  # packets of the ladder
FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"))
Index = Mapping[tuple[int, Key], Sequence[Packet]]  # of one direction: packets by point and key


def rows(ways: Sequence[Way], behind: frozenset[int] = frozenset()) -> tuple[Row, ...]:
    """Packets of the connection in which the first one was lost, or of the first there was: from its first on.
    ``behind``: numbers of those that were dropped behind the last point."""
    lost = {x.sighting.number for way in ways for x in way.result.lost} | behind
    packets = [p for way in ways for p in way.packets]
    gone = min((p for p in packets if p.number in lost), key=_time, default=None)
    chosen = gone or min(packets, key=_time, default=None)
    if chosen is None:
        return ()
    ends = _ends(chosen.layer)
    found: list[tuple[Way, Packet]] = []
    for way in ways:
        start = min((p.sighting.point for p in way.packets), default=0)
        found += [(way, p) for p in way.packets if p.sighting.point == start and _ends(p.layer) == ends]
    found.sort(key=lambda x: _time(x[1]))
    by_way = {id(way): _index(way) for way in ways}
    return tuple(_row(way, p, by_way[id(way)], behind) for way, p in _telling(found, behind))


def _time(packet: Packet) -> int:
    return packet.sighting.time


def _ends(layer: Layer) -> frozenset[object]:
    """A connection at one point: the port that is the client's, and the other."""
    t = layer.transport
    return frozenset((t.sport, t.dport)) if isinstance(t, Tcp | Udp) else frozenset((layer.ip.src, layer.ip.dst))


def _telling(packets: Sequence[tuple[Way, Packet]], behind: frozenset[int]) -> list[tuple[Way, Packet]]:
    """The first ones, and the first that were lost, in their order."""
    gone = {id(way): _gone(way, behind) for way in {id(way): way for way, _ in packets}.values()}
    lost = (n for n, (way, p) in enumerate(packets) if same.meet(p.sighting.pieces, gone[id(way)]))
    wanted = sorted({*range(min(len(packets), ROWS // 2)), *islice(lost, ROWS // 2)})
    return [packets[n] for n in wanted]


def _gone(way: Way, behind: frozenset[int]) -> same.Spans:
    pieces = (x for p in way.packets if p.number in behind for x in p.sighting.pieces)
    return same.spans((*way.result.lost, *pieces))


def _index(way: Way) -> Index:
    found: dict[tuple[int, Key], list[Packet]] = defaultdict(list)
    for p in way.packets:
        for key in {x.key for x in p.sighting.pieces}:
            found[p.sighting.point, key].append(p)
    return found


def _row(way: Way, p: Packet, index: Index, behind: frozenset[int]) -> Row:
    seen: list[str] = []
    numbers: list[int] = []
    for point in range(len(way.stops)):
        alike = {q.number: q for x in p.sighting.pieces for q in index.get((point, x.key), ())}
        them = [q for q in alike.values() if same.share(q.sighting.pieces, p.sighting.pieces)]
        numbers += [q.number for q in them]
        there = [x for q in them for x in q.sighting.pieces]
        whole = bool(there) and all(same.covers(there, piece) for piece in p.sighting.pieces)
        seen.append("all" if whole else "part" if them else "none")
    return Row(
        direction=way.direction, time=p.sighting.time, what=_what(p), size=p.size, seen=tuple(seen),
        numbers=tuple(numbers), dropped=_dropped(way, p, index, behind),
    )  # fmt: skip


def _dropped(way: Way, p: Packet, index: Index, behind: frozenset[int]) -> bool:
    """Of equal packets at the last point, the next one after it there is the same."""
    last, cut = len(way.stops) - 1, p.sighting.pieces
    alike = {q.number: q for x in cut[:1] for q in index.get((last, x.key), ()) if q.sighting.pieces == cut}
    after = [q for q in alike.values() if _time(q) >= _time(p) - EARLY]
    return bool(after) and min(after, key=_time).number in behind


def _what(p: Packet) -> str:
    """What a packet is, in the words of tcpdump."""
    t = p.layer.transport
    if isinstance(t, Tcp):
        said = [name for bit, name in FLAGS if t.flags & bit]
        if p.bears:
            said.append(f"seq {t.seq}:{(t.seq + p.bears) % same.WRAP}")
        elif t.flags & ACK:
            said.append(f"ack {t.ack}")
        return " ".join(said)
    if isinstance(t, Icmp):
        return f"icmp {t.type}/{t.code}"
    return "udp" if isinstance(t, Udp) else "fragment" if p.layer.ip.fragment else f"protocol {p.layer.ip.protocol}"
