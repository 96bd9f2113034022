"""Where everything stands on the picture: devices in namespaces, namespaces in hosts, hosts above each other.

Three layouts, one inside the other (:mod:`~pathfit.render.map.layers`): :mod:`~pathfit.render.map.boxed`,
:mod:`~pathfit.render.map.hosted`, and here the whole. In all of them the world is at the right: a namespace with a
way out stands rightmost in its host, what hangs on it to the left; in a namespace its ports are left, its uplinks
right. Tunnels meet in one pill each, right of the hosts, and what nobody sees is the bar at the right margin. Pixels.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pathfit.render.map.boxed import Laid, Spot, straight
from pathfit.render.map.graph import OUTSIDE, Map
from pathfit.render.map.hosted import Hosted
from pathfit.render.map.layers import Curve, across, settle, shifted, turned
from pathfit.render.map.measures import BAR, HOST_GAP, MARGIN, PILL, Size, channel
from pathfit.render.map.ranks import Bus
from pathfit.render.map.shapes import Plan, Tie

LANE = 10.0  # pixels of height for a line that passes the pills


class Route(NamedTuple):
    """A drawn edge, from ``tie.a`` to ``tie.b``: chips, buses, or OUTSIDE."""

    tie: Tie
    curves: tuple[Curve, ...]


class Scene(NamedTuple):
    """All of it. ``spots``: chips and buses by id, boxes ("box:ID"), hosts ("host:N"), the bar (OUTSIDE)."""

    spots: dict[str, Spot]
    routes: tuple[Route, ...]
    width: float
    height: float


def scene(m: Map, plan: Plan, pills: tuple[Bus, ...], sizes: Mapping[str, Size]) -> Scene:
    """Place everything. ``sizes``: of chips and pills, by id."""
    ties = [t for t in plan.ties if t.kind != "tunnel"]
    ties += [Tie("tunnel", chip, bus.id, 1) for bus in pills for chip in bus.chips]
    where = {c.id: b.id for boxes in plan.boxes for b in boxes for c in b.chips}
    laid = [Hosted(boxes, ties, where, sizes, m).done() for boxes in plan.boxes]
    return _World(ties, pills, sizes, laid).done()


class _World:
    """The last of the three: hosts at the left, pills, the bar."""

    def __init__(self, ties: list[Tie], pills: tuple[Bus, ...], sizes: Mapping[str, Size], laid: list[Laid]) -> None:
        self.ties, self.pills, self.sizes, self.laid = ties, pills, sizes, laid
        self.spots: dict[str, Spot] = {}
        self.routes: list[Route] = []
        self.leaving: dict[tuple[int, str], list[Curve]] = {}  # curves that end at a host's right wall
        wide = max((x.size.w for x in laid), default=0.0)
        y = MARGIN
        for n, one in enumerate(laid):
            x = MARGIN + wide - one.size.w
            self.spots[f"host:{n}"] = Spot(x, y, one.size.w, one.size.h)
            self.spots |= {k: s.moved(x, y) for k, s in one.spots.items()}
            for (tie, end), curves in one.curves.items():
                here = shifted(curves, x, y)
                if end:
                    self.leaving[tie, end] = here
                else:
                    self.routes.append(Route(ties[tie], tuple(here)))
            y += one.size.h + HOST_GAP
        self.right, self.bottom = MARGIN + wide, y - HOST_GAP

    def done(self) -> Scene:
        out = [(n, end, c) for (n, end), c in self.leaving.items()]
        room = channel(len(out)) if out else 0.0
        left = self.right + room
        pill_wide = max((self.sizes[b.id].w for b in self.pills), default=0.0)
        tops = self._pill_heights(out)
        bar = any(t.kind == "uplink" for t in self.ties) or any(b.far for b in self.pills)
        bar_x = left + pill_wide + (40 if pill_wide else 0)
        for b in self.pills:
            self.spots[b.id] = Spot(left, tops[b.id], pill_wide, PILL)
        for n, _, curves in out:
            t = self.ties[n]
            tip = curves[-1].b
            if t.kind == "tunnel":
                pill = self.spots[t.b]
                more = [across(tip, (left, pill.y + PILL / 2))]
            elif t.kind == "uplink":
                y = tops[str(n)]
                more = [across(tip, (left, y)), *straight(left, bar_x, y)]
            else:
                continue
            self.routes.append(Route(t, tuple(curves + more)))
        self._between_hosts(out)
        low = max([self.bottom, *(y + PILL for y in tops.values())])
        if bar:
            self.spots[OUTSIDE] = Spot(bar_x, MARGIN, BAR, low - MARGIN)
            for b in self.pills:
                if b.far:
                    y = tops[b.id] + PILL / 2
                    self.routes.append(
                        Route(Tie("far", b.id, OUTSIDE, len(b.far)), tuple(straight(left + pill_wide, bar_x, y)))
                    )
        width = (bar_x + BAR if bar else left + pill_wide if self.pills else self.right) + MARGIN
        return Scene(self.spots, tuple(self.routes), round(width), round(low + MARGIN))

    def _pill_heights(self, out: list[tuple[int, str, list[Curve]]]) -> dict[str, float]:
        """Upper edges of the pills, and the height of each uplink's line between them, by id or number."""
        wishes: dict[str, list[float]] = {b.id: [] for b in self.pills}
        for n, _, curves in out:
            t = self.ties[n]
            if t.kind == "tunnel":
                wishes[t.b].append(curves[-1].b[1])
            elif t.kind == "uplink":
                wishes[str(n)] = [curves[-1].b[1]]
        wanted = sorted((sum(w) / len(w), k) for k, w in wishes.items() if w)
        heights = [PILL + 6 if k in self.sizes else LANE for _, k in wanted]
        starts = [y - h / 2 for (y, _), h in zip(wanted, heights, strict=True)]
        placed = settle(starts, heights, 2.0)
        least = min([MARGIN + 4, *placed])
        down = MARGIN + 4 - least
        found = {}
        for (_, k), y, h in zip(wanted, placed, heights, strict=True):
            found[k] = round(y + down + (3 if k in self.sizes else h / 2), 1)
        return found

    def _between_hosts(self, out: list[tuple[int, str, list[Curve]]]) -> None:
        """What else joins two hosts (a cable between namespaces of one machine under two names)."""
        halves: dict[int, list[tuple[str, list[Curve]]]] = {}
        for n, end, curves in out:
            if self.ties[n].kind not in ("tunnel", "uplink"):
                halves.setdefault(n, []).append((end, curves))
        for n, both in halves.items():
            if len(both) == 2:
                t = self.ties[n]
                (_, a), (_, b) = sorted(both, key=lambda x: x[0] != t.a)
                p, q = a[-1].b, b[-1].b
                x = self.right + 30
                self.routes.append(Route(t, (*a, Curve(p, (x, p[1]), (x, q[1]), q), *turned(b))))
