"""The inside of one host: its namespaces in columns, those with a way out rightmost."""

from collections.abc import Mapping

from pathfit.render.map.boxed import Edges, Laid, Ports, Spot, lay, run, straight
from pathfit.render.map.graph import Map
from pathfit.render.map.layers import Curve, Item, Line, Vertex, around, arrange, shifted, turned
from pathfit.render.map.measures import HOST_GAP, HOST_HEAD, HOST_PAD, LOOP_ROOM, Size, channel
from pathfit.render.map.ranks import ranks
from pathfit.render.map.shapes import Box, Tie

Lanes = list[tuple[int, float]]
Curves = dict[tuple[int, str], list[Curve]]


class Hosted:
    """One host under construction. ``ties``: those of all hosts; ``where``: chip id -> box id, of all hosts."""

    def __init__(
        self, boxes: tuple[Box, ...], ties: list[Tie], where: Mapping[str, str], widths: Mapping[str, Size], m: Map
    ) -> None:
        self.boxes, self.where = boxes, where
        own = {b.id for b in boxes}
        self.ends: dict[int, tuple[str, str]] = {}  # tie -> boxes of this host it touches, "" for elsewhere
        for n, t in enumerate(ties):
            a, b = (x if x in own else "" for x in (where.get(t.a, ""), where.get(t.b, "")))
            if a or b:
                self.ends[n] = (a, b)
        self.ties = {n: ties[n] for n in self.ends}
        rank = ranks(boxes, self.ties, self.ends, m)
        self.last = max(rank.values(), default=0)
        self.column = {b: self.last - r for b, r in rank.items()}
        self.inner = self._inner(widths)

    def _inner(self, widths: Mapping[str, Size]) -> dict[str, Laid]:
        touching: dict[str, dict[int, Tie]] = {b.id: {} for b in self.boxes}
        facing: dict[str, dict[int, str]] = {b.id: {} for b in self.boxes}
        for n, (a, b) in self.ends.items():
            for x, other in ((a, b), (b, a)):
                if not x:
                    continue
                touching[x][n] = self.ties[n]
                if a != b:
                    left = bool(other) and self.column[other] <= self.column[x]
                    facing[x][n] = "left" if left else "right"
        return {b.id: lay(b, touching[b.id], facing[b.id], widths) for b in self.boxes}

    def done(self) -> Laid:
        """Everything placed, relative to the host's own corner."""
        items = [Item(b.id, self.column[b.id], self.inner[b.id].size.h) for b in self.boxes]
        lines: list[Line] = []
        numbers: list[int] = []
        for n, (a, b) in self.ends.items():
            if a == b:
                continue
            if a and b:
                lines.append(Line(a, b, self.inner[a].ports.of(n), self.inner[b].ports.of(n)))
            else:
                items.append(Item(f"\1{n}", self.last + 1, 2.0))
                lines.append(Line(a or b, f"\1{n}", self.inner[a or b].ports.of(n), 1.0))
            numbers.append(n)
        placed = arrange(items, lines, HOST_GAP)
        edges, width = self._columns(lines)
        top = HOST_HEAD + HOST_PAD
        spots: dict[str, Spot] = {}
        curves: Curves = {}
        for box in self.boxes:
            laid = self.inner[box.id]
            left, right = edges[self.column[box.id]]
            x, y = left if self.column[box.id] == self.last else right - laid.size.w, top + placed.top[box.id]
            spots[f"box:{box.id}"] = Spot(x, y, laid.size.w, laid.size.h)
            spots |= {k: s.moved(x, y) for k, s in laid.spots.items()}
            curves |= {k: shifted(c, x, y) for k, c in laid.curves.items()}
        ports = Ports({}, {})
        for line, n, lanes in zip(lines, numbers, placed.lanes, strict=True):
            passed = [(c, y + top) for c, y in lanes]
            if line.b in self.column:
                self._join(line, n, passed, edges, curves)
            else:
                ports.right[n] = top + placed.top[line.b] + 1
                self._lead_out(line, n, passed, edges, curves, (width, ports.right[n]))
        return Laid(Size(width, top + placed.height + HOST_PAD), spots, ports, curves)

    def _columns(self, lines: list[Line]) -> tuple[Edges, float]:
        """Left and right edge of each column, and the width of the host."""
        widest = dict.fromkeys(range(self.last + 1), 0.0)
        for box in self.boxes:
            widest[self.column[box.id]] = max(widest[self.column[box.id]], self.inner[box.id].size.w)
        crossing = dict.fromkeys(range(-1, self.last + 1), 0)  # lines in the channel right of a column
        loops = set()
        for line in lines:
            a, b = self.column[line.a], self.column.get(line.b, self.last + 1)
            for c in range(min(a, b), max(a, b)):
                crossing[c] += 1
            if a == b:
                loops.add(a)
        x = HOST_PAD + (LOOP_ROOM if 0 in loops else 0)
        edges: Edges = {}
        for c in range(self.last + 1):
            edges[c] = (x, x + widest[c])
            x += widest[c]
            if c < self.last:
                x += channel(crossing[c]) + (LOOP_ROOM if c + 1 in loops else 0)
        return edges, x + HOST_PAD

    def _lead_out(self, line: Line, n: int, lanes: Lanes, edges: Edges, curves: Curves, wall: Vertex) -> None:
        """From the box's wall to the host's."""
        end = (n, self.ties[n].a if self.ends[n][0] else self.ties[n].b)
        tip = curves[end][-1].b
        out = edges[self.column[line.a]][1]
        curves[end] += [
            *straight(tip[0], out, tip[1]),
            *run(Spot(out, tip[1], 0, 0), Spot(wall[0], wall[1], 0, 0), lanes, edges, 0),
        ]

    def _join(self, line: Line, n: int, lanes: Lanes, edges: Edges, curves: Curves) -> None:
        """Both halves of a tie between two boxes, and what lies between their walls, as one row of curves."""
        t = self.ties[n]
        first, second = curves.pop((n, t.a)), curves.pop((n, t.b))
        if self.where[t.a] != line.a:
            first, second = second, first
        a, b = first[-1].b, second[-1].b
        if self.column[line.a] == self.column[line.b]:
            left = edges[self.column[line.a]][0]
            between = [
                *straight(a[0], left, a[1]),
                around((left, a[1]), (left, b[1]), LOOP_ROOM),
                *straight(left, b[0], b[1]),
            ]
        else:
            between = self._between(line, a, b, lanes, edges)
        whole = [*first, *between, *turned(second)]
        curves[n, ""] = whole if self.where[t.a] == line.a else turned(whole)

    def _between(self, line: Line, a: Vertex, b: Vertex, lanes: Lanes, edges: Edges) -> list[Curve]:
        """From wall to wall: level to the edge of the column, then across."""
        rightwards = self.column[line.a] < self.column[line.b]
        side = 1 if rightwards else 0
        out = edges[self.column[line.a]][side]
        into = edges[self.column[line.b]][1 - side]
        middle = run(Spot(out, a[1], 0, 0), Spot(into, b[1], 0, 0), lanes, edges, 0)
        return [*straight(a[0], out, a[1]), *middle, *straight(into, b[0], b[1])]
