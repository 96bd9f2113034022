"""Where on its way did each packet get lost? From what was seen at points in a row.

For each key (:mod:`pathfit.model.same`) and each point: how often was each byte seen? Between two neighbouring points,
bytes that were seen less often at the later one got lost between them, bytes seen more often were doubled there. A
large segment of which the middle is missing later was cut, and one of the pieces was lost.

What was not seen at a point at all, but at a later one, was not lost there: it took another way (the prediction, or a
hash over flows, chose otherwise).

What is not judged: copies that were seen so late that they may still be on their way (``settled``; the same bytes may
have passed before), and everything beside a point that itself lost packets (a ring that was full): there "not seen"
does not mean "not there".

Pure. Times are nanoseconds of one clock.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from pathfit.model.same import Key, Piece


class Sighting(NamedTuple):
    """A packet at one point. ``number``: of the packet in what that point has kept."""

    point: int
    time: int
    number: int
    pieces: tuple[Piece, ...]


class Loss(NamedTuple):
    """Bytes that were seen at ``last`` and not at the point behind it. ``times``: how many copies fewer; ``sighting``:
    a packet with them that was seen at ``last``, the last of those that may be meant."""

    key: Key
    start: int
    end: int
    last: int
    times: int
    sighting: Sighting


class Result(NamedTuple):
    """``lost`` in the order of the way, then of time; ``doubled``: the same of bytes seen more often behind a point.
    ``arrived``: bytes (of each key, flags counted as one) that were seen at the last point; ``open``: packets too late
    to be judged."""

    lost: tuple[Loss, ...]
    doubled: tuple[Loss, ...]
    arrived: int
    open: int


Counts = list[tuple[int, int, int]]  # start, end, how often; in order, without gaps between equal counts joined


def follow(sightings: Iterable[Sighting], points: int, *, settled: int, blind: frozenset[int] = frozenset()) -> Result:
    """Judge one direction. ``points``: how many there are, 0 the first on the way; ``settled``: what was first seen
    after this time is left open; ``blind``: points that have lost some of what they should have kept."""
    by_key: dict[Key, dict[int, list[Sighting]]] = defaultdict(lambda: defaultdict(list))
    for sighting in sightings:
        for key in dict.fromkeys(piece.key for piece in sighting.pieces):  # at a wrap of numbers two pieces share one
            by_key[key][sighting.point].append(sighting)
    lost: list[Loss] = []
    doubled: list[Loss] = []
    arrived, late = 0, 0
    for key, seen in by_key.items():
        if min(s.time for there in seen.values() for s in there) > settled:
            late += len({(s.point, s.number) for there in seen.values() for s in there})
            continue
        every = [_counts(key, seen.get(point, ())) for point in range(points)]
        old = [_counts(key, [s for s in seen.get(point, ()) if s.time <= settled]) for point in range(points)]
        arrived += sum(end - start for start, end, _ in every[-1])
        last = _Last(key, seen)
        for point in range(points - 1):
            if point in blind or point + 1 in blind:
                continue
            for start, end, change in _changes(old[point], every[point + 1]):
                passed_by = every[point + 2 :] if change < 0 and not _touch(every[point + 1], start, end) else []
                for a, b in _without(start, end, passed_by) if change < 0 else ():
                    lost.append(Loss(key, a, b, point, -change, last.at(point, point + 1, a, b)))
            for start, end, change in _changes(every[point], old[point + 1]) if every[point] else ():
                if change > 0:
                    doubled.append(Loss(key, start, end, point, change, last.at(point + 1, point + 2, start, end)))
    order = _in_order
    return Result(tuple(sorted(lost, key=order)), tuple(sorted(doubled, key=order)), arrived, late)


def _near(counts: Counts, start: int, end: int) -> Counts:
    """Those that meet the range."""
    first = bisect_left(counts, (start, 0, 0))
    first -= first > 0 and counts[first - 1][1] > start
    return counts[first : bisect_left(counts, (end, 0, 0))]


def _touch(counts: Counts, start: int, end: int) -> bool:
    return bool(_near(counts, start, end))


def _without(start: int, end: int, later: Iterable[Counts]) -> list[tuple[int, int]]:
    """What is left of the range without the bytes that were seen at one of those points."""
    left = [(start, end)]
    for a, b, _ in (x for counts in later for x in _near(counts, start, end)):
        left = [(s, e) for x, y in left for s, e in ((x, min(y, a)), (max(x, b), y)) if s < e]
    return left


def _in_order(loss: Loss) -> tuple[int, int, int]:
    return loss.last, loss.sighting.time, loss.start


class _Last:
    """Sightings of one key, by point and by their bytes. There may be a hundred thousand, and thousands of losses."""

    def __init__(self, key: Key, seen: Mapping[int, Sequence[Sighting]]) -> None:
        self._key, self._seen = key, seen
        self._order: dict[int, tuple[list[int], list[int], list[Sighting]]] = {}
        self._whole: dict[int, frozenset[tuple[Piece, ...]]] = {}

    def at(self, point: int, following: int, start: int, end: int) -> Sighting:
        """The last packet at ``point`` with any of these bytes; of several, one that did not come to the ``following``
        one as it was: large segments and small ones may have carried the same bytes."""
        them = self._with(point, start, end)
        if following not in self._whole:
            self._whole[following] = frozenset(s.pieces for s in self._seen.get(following, ()))
        whole = self._whole[following]
        return max((s for s in them if s.pieces not in whole), key=_time, default=None) or max(them, key=_time)

    def _with(self, point: int, start: int, end: int) -> list[Sighting]:
        if point not in self._order:
            found = sorted(
                ((p.start, p.end, s) for s in self._seen[point] for p in s.pieces if p.key == self._key),
                key=lambda x: x[0],
            )
            reach = list(accumulate((e for _, e, _ in found), max))  # how far any up to here goes
            self._order[point] = [b for b, _, _ in found], reach, [s for _, _, s in found]
        begins, reach, sightings = self._order[point]
        them = []
        for n in range(bisect_left(begins, end) - 1, -1, -1):
            if reach[n] <= start:
                break
            if any(p.key == self._key and p.start < end and start < p.end for p in sightings[n].pieces):
                them.append(sightings[n])
        return them


def _time(sighting: Sighting) -> int:
    return sighting.time


def _counts(key: Key, sightings: Iterable[Sighting]) -> Counts:
    """How often each byte was seen: a sweep over the edges of all ranges."""
    edges: dict[int, int] = defaultdict(int)
    for sighting in sightings:
        for piece in sighting.pieces:
            if piece.key == key:
                edges[piece.start] += 1
                edges[piece.end] -= 1
    found: Counts = []
    level, at = 0, 0
    for edge in sorted(edges):
        if level and edge > at:
            found.append((at, edge, level))
        level, at = level + edges[edge], edge
    return found


def _changes(here: Counts, there: Counts) -> list[tuple[int, int, int]]:
    """(start, end, change of the count) wherever it changes."""
    edges: dict[int, int] = defaultdict(int)
    for counts, sign in ((here, -1), (there, 1)):
        for start, end, level in counts:
            edges[start] += sign * level
            edges[end] -= sign * level
    found: list[tuple[int, int, int]] = []
    level, at = 0, 0
    for edge in sorted(edges):
        if level and edge > at:
            if found and found[-1][1] == at and found[-1][2] == level:
                found[-1] = (found[-1][0], edge, level)
            else:
                found.append((at, edge, level))
        level, at = level + edges[edge], edge
    return found
