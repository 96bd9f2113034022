"""The picture itself: SVG out of a map. Deterministic: the same map gives the same bytes.

Nothing depends on colour: MTUs stand on every device and their classes have patterns, the limit has brackets, a double
frame and a flag, the way out is a full line and the way back a dashed one. Names come from strangers: everything that
could turn, hide or end text is made visible, then escaped.
"""

from collections.abc import Iterable
from functools import lru_cache
from html import escape

from pathfit.render.layout import clean, columns
from pathfit.render.map.boxed import Spot
from pathfit.render.map.graph import OUTSIDE, Map, Way
from pathfit.render.map.layers import Curve, number, svg, turned
from pathfit.render.map.measures import NAME, SMALL, SWATCH, Face, Size, badge, cut, face, limits, pill_width, title
from pathfit.render.map.placing import Scene, scene
from pathfit.render.map.ranks import Bus, buses
from pathfit.render.map.shapes import Box, Chip, Plan, plan
from pathfit.render.map.speech import about, addressed, counts, kind, said, say

CLASSES = 7  # MTUs that have a pattern of their own; all others share one
OFFSET = 2.6  # pixels the two ways are apart where they share a line


@lru_cache(4096)
def esc(text: str) -> str:
    """A stranger's text as HTML, with nothing in it that a reader would not see."""
    return escape(clean(text), quote=True)


def classes(m: Map) -> dict[int, int]:
    """MTU -> class: the most frequent ones, numbered by size. Loopback does not count."""
    count: dict[int, int] = {}
    for d in m.devices().values():
        if d.kind != "loopback":
            count[d.mtu] = count.get(d.mtu, 0) + 1
    often = sorted(count, key=lambda mtu: (-count[mtu], mtu))[:CLASSES]
    return {mtu: n for n, mtu in enumerate(sorted(often))}


class Picture:
    """One picture. ``width``, ``height`` in pixels; ``svg`` the element."""

    def __init__(self, m: Map, lang: str) -> None:
        self.map, self.lang = m, lang
        self.plan: Plan = plan(m)
        self.mtus = classes(m)
        self.limits = limits(m)
        self.chips = {c.id: c for boxes in self.plan.boxes for b in boxes for c in b.chips}
        self.faces = {k: self._face(c) for k, c in self.chips.items()}
        self.buses = buses(self.plan)
        self.pills = {b.id: self._pill_lines(b) for b in self.buses}
        sizes = {k: f.size for k, f in self.faces.items()}
        sizes |= {k: Size(pill_width(lines), 0) for k, lines in self.pills.items()}
        self.scene: Scene = scene(m, self.plan, self.buses, sizes)
        self.width, self.height = self.scene.width, self.scene.height
        self.svg = "".join(self._parts())

    def _face(self, chip: Chip) -> Face:
        d = chip.first
        many = len(chip.devices)
        words = about(d, self.lang, addresses=False)
        lines = [f"{kind(d, self.lang)} ×{many}" if many > 1 else kind(d, self.lang)]
        if many == 1 and (shown := addressed(d, 1)):
            lines.append(" ".join(shown))
        lines += words[:2]
        limit = self.limits.get(chip.id)
        if limit is not None:
            flag = say("map.page-limit", self.lang)
            lines.append(f"◀ {flag} {limit}")
        return face(chip, tuple(lines), limit)

    def _pill_lines(self, bus: Bus) -> tuple[str, ...]:
        name = bus.kind if bus.vni is None else say("map.page-tunnel", self.lang, kind=bus.kind, vni=bus.vni)
        lines = [name]
        if bus.overhead is not None:
            lines.append(say("map.takes", self.lang, overhead=bus.overhead))
        return tuple(lines)

    def _parts(self) -> Iterable[str]:
        w, h = number(self.width), number(self.height)
        label = esc(say("map.page-picture", self.lang))
        yield f'<svg id="picture" xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}"'
        yield f' role="group" aria-label="{label}">'
        yield _DEFS
        for n, host in enumerate(self.map.hosts):
            yield self._host(n, host.name)
        for boxes in self.plan.boxes:
            for box in boxes:
                yield self._box(box)
        yield self._outside()
        yield '<g class="ties">'
        for r in self.scene.routes:
            if r.tie.kind != "routed":
                many = " many" if r.tie.many > 1 else ""
                yield f'<path class="t {r.tie.kind}{many}" d="{svg(r.curves)}"/>'
        yield "</g>"
        for way in self.map.ways:
            yield self._way(way)
        for bus in self.buses:
            yield self._pill(bus)
        for boxes in self.plan.boxes:
            for box in boxes:
                for chip in box.chips:
                    yield self._chip(chip)
        yield "</svg>"

    # -- parts ---------------------------------------------------------------------------------------------------

    def _host(self, n: int, name: str) -> str:
        s = self.scene.spots[f"host:{n}"]
        spaces, devices = counts(self.map, self.lang, n)
        shown = cut(name, max(8, int((s.w - 30) / 8.6)))
        aside = ""
        x = s.x + 20 + columns(shown) * 8.6
        if x + (columns(spaces) + columns(devices) + 3) * SMALL < s.x + s.w:
            aside = f'<text class="small" x="{number(x)}" y="{number(s.y + 20)}">{esc(f"{spaces}, {devices}")}</text>'
        return (
            f'<g class="host">{_rect(s, 10)}<text class="hostname" x="{number(s.x + 14)}" y="{number(s.y + 20)}">'
            f"{esc(shown)}</text>{aside}</g>"
        )

    def _box(self, box: Box) -> str:
        s = self.scene.spots[f"box:{box.id}"]
        many = badge(box)
        extra = ""
        if many:
            under = _rect(Spot(s.x + 5, s.y + 5, s.w, s.h), 7)
            under = under.replace("<rect", '<rect class="under"')
            wide = columns(many) * NAME + 10
            x = s.x + s.w - wide - 7
            extra = (
                f'<rect class="badge" x="{number(x)}" y="{number(s.y + 6)}" width="{number(wide)}" height="17" rx="8"/>'
                f'<text class="count" x="{number(x + wide / 2)}" y="{number(s.y + 18.5)}">{many}</text>'
            )
        else:
            under = ""
        only = ""
        if not box.chips:
            text = esc(say("map.only-lo", self.lang))
            only = f'<text class="small" x="{number(s.x + 12)}" y="{number(s.y + s.h - 5)}">{text}</text>'
        name = esc(self._spoken(box))
        asked = " own" if box.first.own else ""
        return (
            f'<g class="box{asked}" data-n="{box.id}" tabindex="0" role="button" aria-label="{name}">'
            f"<title>{name}</title>{under}{_rect(s, 7)}"
            f'<text class="boxname" x="{number(s.x + 12)}" y="{number(s.y + 19)}">{esc(title(box))}</text>'
            f"{extra}{only}</g>"
        )

    def _spoken(self, box: Box) -> str:
        if len(box.spaces) == 1:
            return " ".join((box.first.where, *box.first.names[:2]))
        return title(box) + ": " + say("map.page-same", self.lang, count=len(box.spaces))

    def _chip(self, chip: Chip) -> str:
        s, f, d = self.scene.spots[chip.id], self.faces[chip.id], chip.first
        on = "".join(" " + w.direction for w in self.map.ways if chip.id in w.stations)
        limit = " limit" if chip.id in self.limits else ""
        state = "" if d.state == "up" else " off"
        pattern = self.mtus.get(d.mtu, CLASSES)
        spoken = esc(
            f"{d.name}, MTU {d.mtu}, {', '.join(f.small)}" + "".join(f"; {said(r, self.lang)}" for r in d.remarks)
        )
        left, right = s.x + SWATCH + 8, s.x + s.w - 9
        parts = [
            f'<g class="chip{on}{limit}{state}" data-c="{chip.id}" tabindex="0" role="button" aria-label="{spoken}">',
            f"<title>{spoken}</title>{_rect(s, 4)}",
            f'<rect class="sw" x="{number(s.x)}" y="{number(s.y)}" width="{number(SWATCH)}" height="{number(s.h)}"'
            f' fill="url(#p{pattern})"/>',
            f'<text class="dev" x="{number(left)}" y="{number(s.y + 16)}">{esc(f.name)}</text>',
            f'<text class="mtu" x="{number(right)}" y="{number(s.y + 16)}">{f.mtu}</text>',
        ]
        if f.noted:
            x = right - columns(f.mtu) * NAME - 9
            parts.append(f'<text class="note" x="{number(x)}" y="{number(s.y + 16)}">!</text>')
        for n, line in enumerate(f.small):
            style = "flag" if line.startswith("◀") else "small"
            parts.append(f'<text class="{style}" x="{number(left)}" y="{number(s.y + 30 + 13 * n)}">{esc(line)}</text>')
        return "".join(parts) + "</g>"

    def _pill(self, bus: Bus) -> str:
        s, lines = self.scene.spots[bus.id], self.pills[bus.id]
        spoken = esc(", ".join((*lines, *bus.far[:8])))
        ys = [s.y + 19] if len(lines) == 1 else [s.y + 13, s.y + 25]
        texts = "".join(
            f'<text class="small" x="{number(s.x + s.w / 2)}" y="{number(y)}">{esc(x)}</text>'
            for x, y in zip(lines, ys, strict=True)
        )
        chips = " ".join(bus.chips)
        return (
            f'<g class="pill" data-b="{chips}" tabindex="0" role="button" aria-label="{spoken}"><title>{spoken}</title>'
            f"{_rect(s, 15)}{texts}</g>"
        )

    def _outside(self) -> str:
        s = self.scene.spots.get(OUTSIDE)
        if s is None:
            return ""
        word, x = esc(say("map.outside", self.lang)), number(s.x + s.w / 2)
        often = max(1, round(s.h / 600))  # so that it can be read wherever the page is scrolled to
        ys = [number(s.y + s.h * (2 * n + 1) / (2 * often)) for n in range(often)]
        texts = "".join(f'<text class="small" x="{x}" y="{y}" transform="rotate(90 {x} {y})">{word}</text>' for y in ys)
        return f'<g class="outside">{_rect(s, 6)}{texts}</g>'

    def _way(self, way: Way) -> str:
        """The legs of a way as one group; each ends in an arrow."""
        drawn: dict[tuple[str, str], tuple[Curve, ...]] = {}
        for r in self.scene.routes:
            drawn.setdefault((r.tie.a, r.tie.b), r.curves)
        shift = -OFFSET if way.direction == "forward" else OFFSET
        parts = [f'<g class="way {way.direction}" transform="translate(0 {number(shift)})">']
        for a, b in way.legs:
            a, b = self.plan.chip_of.get(a, a), self.plan.chip_of.get(b, b)
            curves: list[Curve] | tuple[Curve, ...] | None = drawn.get((a, b))
            if curves is None and (b, a) in drawn:
                curves = turned(drawn[b, a])
            if curves:
                parts.append(f'<path d="{svg(curves)}" marker-end="url(#{way.direction})"/>')
        return "".join(parts) + "</g>"


def _rect(s: Spot, radius: int) -> str:
    return f'<rect x="{number(s.x)}" y="{number(s.y)}" width="{number(s.w)}" height="{number(s.h)}" rx="{radius}"/>'


_STROKES = (
    "",
    '<path d="M-2 2L2-2M0 8L8 0M6 10L10 6"/>',
    '<path d="M0 2H8M0 6H8"/>',
    '<circle cx="2" cy="2" r="1.3"/><circle cx="6" cy="6" r="1.3"/>',
    '<path d="M2 0V8M6 0V8"/>',
    '<path d="M0 4H8M4 0V8"/>',
    '<path d="M-2 6L2 10M0 0L8 8M6-2L10 2"/>',
    '<path d="M0 0L8 8M8 0L0 8"/>',
)
_DEFS = (
    "<defs>"
    + "".join(
        f'<pattern id="p{n}" class="p{n}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8"/>{stroke}</pattern>'
        for n, stroke in enumerate(_STROKES)
    )
    + "".join(
        f'<marker id="{name}" class="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9"'
        f' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
        for name in ("forward", "reverse")
    )
    + "</defs>"
)
