"""Which packet, seen where, each drop ended: the kernel's event is given to one sighting (pure).

The same bytes pass often (retransmissions, oversize segments of a search), so a drop belongs to the one sighting that
stands right before it in time, at whatever point that was.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from pathfit.core.evidence import TraceFact
from pathfit.core.tracing import Dropped, inode
from pathfit.follow.seen import EARLY, Packet, Way
from pathfit.model import ladder, same
from pathfit.model.same import Key
from pathfit.wire import dissect
from pathfit.wire.dissect import TELLING, Layer
from pathfit.wire.packets import Tcp

COPIES = 128  # equal packets, or places of one, that a drop is compared with: the last ones before it
Sighting = tuple[Way, Packet]


class Placed(NamedTuple):
    """A drop and the sighting that it ended."""

    drop: Dropped
    way: Way
    packet: Packet


def placed_on(ways: Sequence[Way], fact: TraceFact, foreign: Callable[[Dropped], bool]) -> Iterator[Placed]:
    """Those drops that ended a packet that was seen; ``foreign``: is it of somebody else, with the same addresses?"""
    seen = _Seen(ways)
    furthest = {id(way): _furthest(way, fact) for way in ways}
    gone = _gone(ways)
    for drop in fact.dropped:
        inner = dissect.packet(drop.data).inner
        if inner is None or foreign(drop):
            continue
        size = inner.ip.size or drop.length

        def fits(way: Way, p: Packet, drop: Dropped = drop, size: int = size) -> bool:
            return size <= p.size and p.sighting.point <= furthest[id(way)].get(drop.netns, p.sighting.point)

        near = list(seen.before(drop, inner, fits))
        ended = [x for x in near if _ends_there(*x, gone)]
        if near:
            last = ((*_just_it(x, drop, size, fact), _time(x), x) for x in ended or near)
            yield Placed(drop, *max(last, key=lambda x: x[:4])[4])


def _just_it(x: Sighting, drop: Dropped, size: int, fact: TraceFact) -> tuple[bool, bool, bool]:
    """As long as the dropped one, and seen at that very moment: what shares its bytes and came a little later, within
    what the clocks differ by, is another one. At the very device that the kernel says had it, and not after the drop: a
    copy that comes in while the one before it is dropped in a tunnel is as long."""
    way, packet = x
    just = packet.size == size and abs(drop.time - packet.sighting.time) <= EARLY
    tap = fact.taps[way.stops[packet.sighting.point].tap]
    there = (inode(tap.netns), tap.at.link) == (drop.netns, drop.device)
    return just, just and there, just and packet.sighting.time <= drop.time


class _Seen:
    """Sightings by key, in the order of time. Of a packet within packets the kernel's event holds less than the taps
    keep: then datagrams are known by as much of their beginning as there is."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._by_key: dict[int, dict[Key, list[Sighting]]] = {TELLING: defaultdict(list)}
        for way in ways:
            for packet in way.packets:
                for key in {p.key for p in packet.sighting.pieces}:
                    self._by_key[TELLING][key].append((way, packet))
        self._sort(TELLING)

    def before(self, drop: Dropped, inner: Layer, fits: Callable[[Way, Packet], bool]) -> Iterator[Sighting]:
        """Packets with bytes of the dropped one that were seen before it, the last ones of each key that fit."""
        cut = same.pieces(drop.data, inner, drop.length)
        most = max(len(drop.data) - inner.payload, 0) if len(drop.data) < drop.length else TELLING
        most = min(most, TELLING)
        known = self._known(most)
        for key in {x.key for x in cut}:
            them = known.get(key, [])
            earlier = (them[n] for n in reversed(range(bisect_right(them, drop.time + EARLY, key=_time))))
            alike = (x for x in earlier if fits(*x) and _like(inner, x[1]) and same.share(cut, _brief(x[1], most)))
            yield from islice(alike, COPIES)

    def _known(self, most: int) -> Mapping[Key, list[Sighting]]:
        if most not in self._by_key:
            self._by_key[most] = defaultdict(list)
            for key, them in self._by_key[TELLING].items():
                self._by_key[most][same.brief_key(key, most)] += them
            self._sort(most)
        return self._by_key[most]

    def _sort(self, most: int) -> None:
        for them in self._by_key[most].values():
            them.sort(key=_time)  # of thousands the last that fits is soon found from behind


def _brief(packet: Packet, most: int) -> tuple[same.Piece, ...]:
    pieces = packet.sighting.pieces
    return pieces if most == TELLING else same.brief(pieces, most)


def _time(x: tuple[Way, Packet]) -> int:
    return x[1].sighting.time


def _gone(ways: Sequence[Way]) -> dict[tuple[int, int], same.Spans]:
    """What was lost behind each point of each way."""
    found: dict[tuple[int, int], list[ladder.Loss]] = defaultdict(list)
    for way in ways:
        for loss in way.result.lost:
            found[id(way), loss.last].append(loss)
    return {at: same.spans(losses) for at, losses in found.items()}


def _ends_there(way: Way, packet: Packet, gone: Mapping[tuple[int, int], same.Spans]) -> bool:
    """Was something of this packet seen less often behind its point, or is there no point behind it?"""
    at = packet.sighting.point
    return at == len(way.stops) - 1 or same.meet(packet.sighting.pieces, gone.get((id(way), at), {}))


def _furthest(way: Way, fact: TraceFact) -> dict[int, int]:
    """The last point in each namespace (by its inode): what was dropped there came no further, though another copy of
    the same bytes may have, within what the two clocks differ by."""
    return {inode(fact.taps[stop.tap].netns): n for n, stop in enumerate(way.stops)}


def _like(dropped: Layer, packet: Packet) -> bool:
    """Datagrams are known by a number of 16 bits, which others have as well: whole ones are as long as each other."""
    cut = [x.ip.more or x.ip.fragment or isinstance(x.transport, Tcp) for x in (dropped, packet.layer)]
    return any(cut) or dropped.ip.size == packet.layer.ip.size
