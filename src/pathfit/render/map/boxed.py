"""The inside of one namespace: its devices in columns, and where lines cross its walls."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pathfit.render.map.layers import Curve, Item, Line, Vertex, across, around, arrange
from pathfit.render.map.measures import BOX_HEAD, BOX_PAD, CHIP_GAP, CHIP_ROOM, Size, box_width
from pathfit.render.map.ranks import levels
from pathfit.render.map.shapes import Box, Tie


class Spot(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    w: float
    h: float

    def moved(self, dx: float, dy: float) -> "Spot":
        return Spot(self.x + dx, self.y + dy, self.w, self.h)


class Ports(NamedTuple):
    """Where ties (by number) cross the walls of something: height below its upper edge."""

    left: dict[int, float]
    right: dict[int, float]

    def of(self, n: int) -> float:
        return self.left[n] if n in self.left else self.right[n]


class Laid(NamedTuple):
    """The inside of a box or host: its size, spots relative to its corner, ports, and curves of ties.

    ``curves[tie, id]`` runs from the tie's end ``id`` to the wall; ``curves[tie, ""]`` is whole, both ends are inside.
    """

    size: Size
    spots: dict[str, Spot]
    ports: Ports
    curves: dict[tuple[int, str], list[Curve]]


def lay(box: Box, ties: Mapping[int, Tie], facing: Mapping[int, str], widths: Mapping[str, Size]) -> Laid:
    """Place the chips of ``box``. ``ties``: all that touch it, by number; ``facing``: where those that leave it go."""
    chips = {c.id: c for c in box.chips}
    inside = {n: t for n, t in ties.items() if n not in facing}
    out = {n: (t.a if t.a in chips else t.b) for n, t in ties.items() if n in facing}
    level = levels(box, inside.values(), {c: facing[n] for n, c in out.items()})
    deepest = max(level.values(), default=0)
    column = {c: deepest - x + 1 for c, x in level.items()}  # 0 is the left wall
    items = [Item(c.id, column[c.id], widths[c.id].h) for c in box.chips]
    lines: list[Line] = []
    numbers: list[int] = []
    for n, t in inside.items():
        lines.append(Line(t.a, t.b, widths[t.a].h / 2, widths[t.b].h / 2))
        numbers.append(n)
    for n, c in out.items():
        wall = f"\1{n}"
        items.append(Item(wall, 0 if facing[n] == "left" else deepest + 2, 2.0))
        lines.append(Line(c, wall, widths[c].h / 2, 1.0))
        numbers.append(n)
    done = arrange(items, lines, CHIP_GAP)
    loops = [column[t.a] for t in inside.values() if column[t.a] == column[t.b]]
    edges = _columns(box, column, deepest, widths, loops)
    top = BOX_HEAD + BOX_PAD
    spots = {}
    for chip in box.chips:  # as wide as their column, so that no line passes beside a narrow one and over a wide one
        left, right = edges[column[chip.id]]
        spots[chip.id] = Spot(left, top + done.top[chip.id], right - left, widths[chip.id].h)
    width = edges[deepest + 1][1] + BOX_PAD
    curves: dict[tuple[int, str], list[Curve]] = {}
    ports = Ports({}, {})
    for line, n, lanes in zip(lines, numbers, done.lanes, strict=True):
        if n in inside:
            curves[n, ""] = run(spots[line.a], spots[line.b], lanes, edges, top)
            continue
        y = top + done.top[line.b] + 1
        side = facing[n]
        wall_x = 0.0 if side == "left" else width
        getattr(ports, side)[n] = y
        curves[n, line.a] = run(spots[line.a], Spot(wall_x, y, 0, 0), lanes, edges, top)
    return Laid(Size(width, top + done.height + BOX_PAD), spots, ports, curves)


Edges = dict[int, tuple[float, float]]
"""Left and right edge of each column."""


def _columns(box: Box, column: Mapping[str, int], deepest: int, widths: Mapping[str, Size], loops: list[int]) -> Edges:
    """The first column takes what room the title needs beyond the chips."""
    widest = dict.fromkeys(range(1, deepest + 2), 0.0)
    for c in box.chips:
        widest[column[c.id]] = max(widest[column[c.id]], widths[c.id].w)
    rooms = {n: CHIP_ROOM if n > 1 or n in loops else 0.0 for n in widest}
    whole = sum(widest.values()) + sum(rooms.values()) + 2 * BOX_PAD
    widest[1] += max(0.0, box_width(box) - whole)
    x = BOX_PAD
    edges: Edges = {}
    for n, w in widest.items():
        x += rooms[n]
        edges[n] = (x, x + w)
        x += w
    return edges


def run(a: Spot, b: Spot, lanes: Iterable[tuple[int, float]], edges: Edges, top: float) -> list[Curve]:
    """From the side of ``a`` to the side of ``b``, by lanes; around the left when they stand in one column."""
    ya, yb = a.y + a.h / 2, b.y + b.h / 2
    if a.w and b.w and abs((a.x + a.w / 2) - (b.x + b.w / 2)) < 1:
        left = min(a.x, b.x)
        curve = around((left, ya), (left, yb), CHIP_ROOM * 0.6)
        return [*straight(a.x, left, ya), curve, *straight(left, b.x, yb)]
    rightwards = a.x + a.w <= b.x
    here: Vertex = (a.x + a.w if rightwards else a.x, ya)
    curves: list[Curve] = []
    ordered = sorted(lanes, reverse=not rightwards)
    for column, y in ordered:
        first, last = edges[column] if rightwards else edges[column][::-1]
        curves.append(across(here, (first, top + y)))
        curves += straight(first, last, top + y)
        here = (last, top + y)
    curves.append(across(here, (b.x if rightwards else b.x + b.w, yb)))
    return curves


def straight(x: float, to: float, y: float) -> list[Curve]:
    """A level piece, if there is any."""
    return [Curve((x, y), (x, y), (to, y), (to, y))] if abs(x - to) > 0.6 else []
