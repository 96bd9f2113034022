"""Messages that look alike, taken apart at once.

A kernel that lists a thousand containers sends the same attributes in the same order a thousand times. Where they
stand is found out once for each shape of message (its length and all its attribute headers); from then on one
comparison under a mask says that every header is where it was, and one ``struct`` takes the values out. A message of
a new shape is walked attribute by attribute, as :func:`pathfit.wire.netlink.attributes` does, with the same checks.
Values already made of the same fields (loopback is the same everywhere) are given out again: values are frozen.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from struct import Struct, calcsize, error
from typing import Any, Generic, NamedTuple, TypeVar

from pathfit.wire.netlink import TYPE_MASK, Malformed

T = TypeVar("T")
Path = tuple[int, ...]  # an attribute (3,), or one nested in others (26, 2, 1)

SHAPES = 8  # remembered of one length
LENGTHS = 256
VALUES = 4096  # remembered of one shape

_ATTR_AT = Struct("=HH").unpack_from
number = int.from_bytes


class Field(NamedTuple):
    """A wanted attribute. ``letter``: "I", "i", "H", "B" a number as :mod:`struct` calls it, "s" the bytes."""

    path: Path
    letter: str = "s"


class _Shape(NamedTuple, Generic[T]):
    mask: int  # ones where a header stands
    headers: int
    take: Callable[[bytes, int], tuple[Any, ...]]
    order: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    once: set[int]
    made: "dict[tuple[Any, ...], T]"


class Pattern(Generic[T]):
    """A decoder ``(data, at, end)`` of one kind of message: a fixed head, then attributes of which some are wanted."""

    def __init__(self, head: Struct, wanted: Sequence[Field], make: Callable[..., T | None]) -> None:
        """``make(*head, *wanted)``: the numbers of the head, then the wanted attributes in their order, None for those
        that are not there. It must be pure."""
        self._head = head
        self._make = make
        self._wanted = {field.path: n for n, field in enumerate(wanted)}
        self._letters = [field.letter for field in wanted]
        self._inside = frozenset(path[:n] for path in self._wanted for n in range(1, len(path)))
        self._shapes: dict[int, list[_Shape[T]]] = {}

    def __call__(self, data: bytes, at: int, end: int) -> T | None:
        """One message. Raises Malformed, and whatever ``make`` raises."""
        try:
            for mask, headers, take, order, once, made in self._shapes.get(end - at, ()):
                if number(data[at:end], "little") & mask == headers:
                    fields = take(data, at)
                    value = made.get(fields)
                    if value is None:
                        value = self._make(*order((*fields, None)))
                        if (seen := hash(fields)) not in once:  # most come once: a number is enough to remember them
                            if len(once) >= VALUES:
                                once.clear()
                            once.add(seen)
                        elif value is not None:
                            if len(made) >= VALUES:
                                made.clear()
                            made[fields] = value
                    return value
            return self._first(data, at, end)
        except error:  # data is shorter than end
            raise Malformed(f"a message of {end - at} bytes at {at} of {len(data)}") from None

    def forget(self) -> None:
        """The values made so far; what shapes there are stays known. For measuring a first read again and again."""
        for alike in self._shapes.values():
            for shape in alike:
                shape.once.clear()
                shape.made.clear()

    def _first(self, data: bytes, at: int, end: int) -> T | None:
        """A message of a shape not seen before."""
        if at + self._head.size > end:
            raise Malformed(f"body of {end - at} bytes, {self._head.size} expected")
        marks: list[int] = []
        places: dict[int, tuple[int, int]] = {}
        self._walk(data, at + self._head.size, end, (), marks, places)
        shape = self._shape(data, at, end, marks, places)
        alike = self._shapes.get(end - at)
        if alike is None and len(self._shapes) < LENGTHS:
            alike = self._shapes[end - at] = []
        if alike is not None and len(alike) < SHAPES:
            alike.append(shape)
        return self._make(*shape.order((*shape.take(data, at), None)))

    def _walk(
        self, data: bytes, at: int, end: int, above: Path, marks: list[int], places: dict[int, tuple[int, int]]
    ) -> None:
        """Where the headers of data[at:end] stand, and the wanted values; of a repeated one the last."""
        while end - at >= 4:
            length, kind = _ATTR_AT(data, at)
            if length < 4 or at + length > end:
                raise Malformed(f"attribute {kind & TYPE_MASK} of {length} bytes at {at} of {end}")
            marks.append(at)
            path = (*above, kind & TYPE_MASK)
            if path in self._inside:
                self._walk(data, at + 4, at + length, path, marks, places)
            elif path in self._wanted:
                places[self._wanted[path]] = (at + 4, length - 4)
            at += (length + 3) & ~3

    def _shape(self, data: bytes, at: int, end: int, marks: list[int], places: dict[int, tuple[int, int]]) -> _Shape[T]:
        words, ordered = [], sorted(places, key=lambda n: places[n][0])
        for n in ordered:
            start, size = places[n]
            letter = self._letters[n]
            if letter != "s" and size != calcsize(letter):
                raise Malformed(f"an attribute of {size} bytes at {start}, a number of {calcsize(letter)} expected")
            words.append((start, size, letter if letter != "s" else f"{size}s"))
        take = _layout(at, words, self._head)
        fixed = len(self._head.unpack(bytes(self._head.size)))
        at_hand = {n: fixed + place for place, n in enumerate(ordered)}
        last = fixed + len(ordered)
        order = itemgetter(*range(fixed), *(at_hand.get(n, last) for n in range(len(self._letters))))
        mask = sum(0xFFFFFFFF << 8 * (mark - at) for mark in marks)
        return _Shape(mask, number(data[at:end], "little") & mask, take.unpack_from, order, set(), {})


def _layout(start: int, places: Sequence[tuple[int, int, str]], head: Struct | None = None) -> Struct:
    """A layout from ``start`` on: the head, what stands at ``places`` (position, size, format), nothing of the rest."""
    words, here = ["=" if head is None else head.format], start + (head.size if head else 0)
    for at, size, letters in places:
        words.append(f"{at - here}x{letters}")
        here = at + size
    return Struct("".join(words))
