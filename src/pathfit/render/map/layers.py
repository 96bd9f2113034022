"""A layered layout: things stand in columns, lines between them never cross a thing.

After Sugiyama, Tagawa, Toda (1981): a line over several columns gets a lane in each of those between; the order in a
column follows the mean of what each thing is joined with (barycentres, swept both ways); heights follow the same
means as closely as the order and the gaps allow, by isotonic regression (pool adjacent violators). No randomness and
no clock: the same input gives the same output. Coordinates are pixels, y downwards.
"""

from collections.abc import Sequence
from typing import NamedTuple

SWEEPS = 6
LANE = 12.0  # height of a lane

Vertex = tuple[float, float]


class Item(NamedTuple):
    """A thing. ``column`` counts from the left."""

    key: str
    column: int
    height: float


class Line(NamedTuple):
    """Between two things. ``ya``, ``yb``: where it touches, below their upper edges."""

    a: str
    b: str
    ya: float
    yb: float


class Layout(NamedTuple):
    """``top`` by key; ``lanes``: of each line, its height in every column it passes between its ends, left to right;
    ``height`` of the whole."""

    top: dict[str, float]
    lanes: tuple[tuple[tuple[int, float], ...], ...]
    height: float


def settle(wanted: Sequence[float], heights: Sequence[float], gap: float) -> list[float]:
    """Upper edges in the given order, at least ``gap`` apart, as near to ``wanted`` as can be (least squares)."""
    blocks: list[list[float]] = []  # [sum of wishes, how many]
    before = 0.0
    offsets = []
    for w, h in zip(wanted, heights, strict=True):
        offsets.append(before)
        blocks.append([w - before, 1.0])
        before += h + gap
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    free = [total / count for total, count in blocks for _ in range(int(count))]
    return [f + o for f, o in zip(free, offsets, strict=True)]


def arrange(items: Sequence[Item], lines: Sequence[Line], gap: float) -> Layout:
    """Place ``items``; the given order decides where nothing else does."""
    if not items:
        return Layout({}, tuple(() for _ in lines), 0.0)
    work = _Work(items, lines, gap)
    work.order()
    work.heights()
    return work.done()


class _Work:
    def __init__(self, items: Sequence[Item], lines: Sequence[Line], gap: float) -> None:
        self.gap = gap
        self.items = {i.key: i for i in items}
        self.columns: list[list[str]] = [[] for _ in range(max(i.column for i in items) + 1)]
        self.near: dict[str, list[tuple[str, float, float]]] = {}  # key -> (other, where here, where there)
        self.chains: list[list[str]] = []
        for i in items:
            self.columns[i.column].append(i.key)
        for n, line in enumerate(lines):
            self._thread(n, line)
        self.at: dict[str, int] = {}
        self.top: dict[str, float] = {}

    def _thread(self, n: int, line: Line) -> None:
        """Joins the ends of a line, by lanes where it is long."""
        a, b = (line.a, line.ya), (line.b, line.yb)
        if self.items[a[0]].column > self.items[b[0]].column:
            a, b = b, a
        chain = []
        here = a
        for column in range(self.items[a[0]].column + 1, self.items[b[0]].column):
            key = f"\0{n}.{column}"  # no thing is called so
            self.items[key] = Item(key, column, LANE)
            self.columns[column].append(key)
            chain.append(key)
            self._join(here, (key, LANE / 2))
            here = (key, LANE / 2)
        if self.items[a[0]].column != self.items[b[0]].column:
            self._join(here, b)
        self.chains.append(chain)

    def _join(self, a: tuple[str, float], b: tuple[str, float]) -> None:
        self.near.setdefault(a[0], []).append((b[0], a[1], b[1]))
        self.near.setdefault(b[0], []).append((a[0], b[1], a[1]))

    def order(self) -> None:
        """Barycentres, from left to right and back."""
        for column in self.columns:
            self._number(column)
        turn = range(len(self.columns))
        for sweep in range(SWEEPS):
            back = sweep % 2 == 1
            for c in reversed(turn) if back else turn:
                other = c + (1 if back else -1)
                if 0 <= other < len(self.columns) and self.columns[other] and self.columns[c]:
                    self._sort(c, other)

    def _sort(self, c: int, other: int) -> None:
        column = self.columns[c]
        scale = len(self.columns[other]) / len(column)

        def wish(key: str) -> tuple[float, int]:
            near = [x for x in self.near.get(key, ()) if self.items[x[0]].column == other]
            if not near:
                return (self.at[key] * scale, self.at[key])
            places = [self.at[k] + y / (self.items[k].height + 1) for k, _, y in near]
            return (sum(places) / len(places), self.at[key])

        wishes = {key: wish(key) for key in column}
        column.sort(key=wishes.__getitem__)
        self._number(column)

    def _number(self, column: list[str]) -> None:
        for n, key in enumerate(column):
            self.at[key] = n

    def heights(self) -> None:
        """Stack every column, then draw things level with what they are joined with."""
        for column in self.columns:
            y = 0.0
            for key in column:
                self.top[key] = y
                y += self.items[key].height + self._gap(key)
        by_height = sorted(range(len(self.columns)), key=lambda c: (-self._tall(c), c))
        for sweep in range(SWEEPS):
            for c in by_height if sweep % 2 == 0 else reversed(by_height):
                self._level(c)
        for c in by_height:
            self._level(c)

    def _gap(self, key: str) -> float:
        return self.gap if key[:1] != "\0" else self.gap / 3

    def _tall(self, c: int) -> float:
        return sum(self.items[k].height + self._gap(k) for k in self.columns[c])

    def _level(self, c: int) -> None:
        column = self.columns[c]
        wanted = []
        for key in column:
            near = [x for x in self.near.get(key, ()) if self.items[x[0]].column != c]
            wishes = [self.top[k] + there - here for k, here, there in near]
            wanted.append(sum(wishes) / len(wishes) if wishes else self.top[key])
        heights = [self.items[k].height + self._gap(k) for k in column]
        for key, y in zip(column, settle(wanted, heights, 0.0), strict=True):
            self.top[key] = y

    def done(self) -> Layout:
        least = min(self.top.values())
        top = {k: round(y - least, 1) for k, y in self.top.items()}
        height = max(y + self.items[k].height for k, y in top.items())
        lanes = tuple(
            tuple((self.items[k].column, round(top[k] + LANE / 2, 1)) for k in chain) for chain in self.chains
        )
        return Layout({k: y for k, y in top.items() if k[:1] != "\0"}, lanes, height)


# -- curves ----------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """One cubic Bézier; a straight line where the control points are the ends."""

    a: Vertex
    ca: Vertex
    cb: Vertex
    b: Vertex


def across(a: Vertex, b: Vertex) -> Curve:
    """From column to column: leaves and arrives level."""
    if abs(a[1] - b[1]) < 0.6:
        return Curve(a, a, b, b)
    middle = (a[0] + b[0]) / 2
    return Curve(a, (middle, a[1]), (middle, b[1]), b)


def around(a: Vertex, b: Vertex, room: float) -> Curve:
    """Between two things of one column, through the channel at their left; at most ``room`` wide."""
    x = min(a[0], b[0]) - min(room, 10 + abs(a[1] - b[1]) / 4) * 4 / 3
    return Curve(a, (x, a[1]), (x, b[1]), b)


def turned(curves: Sequence[Curve]) -> list[Curve]:
    """The same way backwards."""
    return [Curve(c.b, c.cb, c.ca, c.a) for c in reversed(curves)]


def shifted(curves: Sequence[Curve], dx: float, dy: float) -> list[Curve]:
    def move(p: Vertex) -> Vertex:
        return (p[0] + dx, p[1] + dy)

    return [Curve(move(c.a), move(c.ca), move(c.cb), move(c.b)) for c in curves]


def svg(curves: Sequence[Curve]) -> str:
    """The value of a path's ``d``."""
    if not curves:
        return ""
    words = ["M" + _xy(curves[0].a)]
    for c in curves:
        if c.ca == c.a and c.cb == c.b:
            words.append("L" + _xy(c.b))
        else:
            words.append(f"C{_xy(c.ca)} {_xy(c.cb)} {_xy(c.b)}")
    return "".join(words)


def _xy(p: Vertex) -> str:
    return f"{number(p[0])} {number(p[1])}"


def number(x: float) -> str:
    """Without what is not needed: 12, 12.5."""
    return f"{x:.1f}".removesuffix(".0")
