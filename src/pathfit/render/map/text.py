"""The map as text: host, namespace, device; under a bridge its ports, and on the same line what hangs on them.

::

    ci-2   7 namespaces, 15 devices
      host
    >  |  eth0       [1400]  physical  192.0.2.10/24 - outside
    >  |  docker0     1500   bridge    172.17.0.1/16
    >  |  `- veth1    1500   veth      - jenkins eth0 1500 172.17.0.2/16
       |  `- veth2    1500   veth x40  - web.1 web.2 web.3 +37 more, eth0 1450

Marks stand in the margin, so that nothing depends on colour: ``>`` on the way out, ``<`` on the way back, ``!`` worth
a look; brackets around the MTU where the limit is. A namespace that connects nothing stands where it hangs, one that
does has lines of its own.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pathfit.render.layout import Page, clean, columns, pad
from pathfit.render.map.graph import OUTSIDE, Device, Map, Remark, Way, space_of
from pathfit.render.map.shapes import Box, Chip, Plan, Tie, names, plan
from pathfit.render.map.speech import about, counts, kind, outcome, said, say

WIDEST_NAME, DEEPEST = 24, 8  # columns of a name with its branch; levels of a tree
BOXES, ASCII = ("│  ", "├─ ", "└─ ", "─ "), ("|  ", "|- ", "`- ", "- ")
MOST_BEYOND = 5  # things a device is connected with that stand on its line
MOST_STATIONS = 12  # of a way that stand in the text


def render(
    m: Map, *, lang: str = "en", width: int = 80, colour: bool = False, ascii_only: bool = False, more: str = ""
) -> str:
    """The whole text. ``more``: a line to type next."""
    page = Page(width, colour=colour, ascii_only=ascii_only)
    _Sheet(m, page, lang).draw()
    if more:
        page.blank()
        page.line(more)
    return str(page)


class _Row(NamedTuple):
    """One line: a chip at its depth. ``last``: nothing of its level follows; ``above``: whether levels go on."""

    chip: Chip
    above: tuple[bool, ...]
    last: bool


class _Sheet:
    def __init__(self, m: Map, page: Page, lang: str) -> None:
        self.map, self.page, self.lang = m, page, lang
        self.plan: Plan = plan(m)
        self.ties: dict[str, list[Tie]] = {}
        for t in self.plan.ties:
            self.ties.setdefault(t.a, []).append(t)
            self.ties.setdefault(t.b, []).append(t)
        self.boxes = {b.id: b for boxes in self.plan.boxes for b in boxes}
        self.box_of = {c.id: b for b in self.boxes.values() for c in b.chips}
        self.chips = {c.id: c for b in self.boxes.values() for c in b.chips}
        self.host_of = {s.id: h.name for h in m.hosts for s in h.spaces}
        self.marks = _marks(m)
        self.narrow = {w.mark.device: {w.mark.mtu} for w in m.ways if w.mark}
        self.told: list[Remark] = []  # findings that were written out
        self.inline = {b.id for b in self.boxes.values() if b.leaf and b.chips and all(map(self._hangs, b.chips))}

    def _hangs(self, chip: Chip) -> bool:
        """It is shown where its cable ends: in a box with lines of its own, of the same host."""
        for t in self.ties.get(chip.id, ()):
            other = self.box_of.get(t.b if t.a == chip.id else t.a)
            if other is not None and not other.leaf and t.kind in ("veth", "lower"):
                return True
        return False

    def draw(self) -> None:
        self.bar, self.fork, self.end, self.to = ASCII if self.page.ascii_only else BOXES
        for n, (host, boxes) in enumerate(zip(self.map.hosts, self.plan.boxes, strict=True)):
            self.page.blank()
            head = [*counts(self.map, self.lang, n), *([host.kernel] if host.kernel else [])]
            self.page.line(say("map.and", self.lang).join(head), f"{host.name}   ", "code")
            for box in boxes:
                if box.id not in self.inline:
                    self._box(box)
            for missing in host.missing[:4]:
                self.page.line(f"{missing.what}: {missing.why}", f"  {say('map.not-seen', self.lang)}  ", "unsure")
            if not host.complete and not host.missing:
                self.page.line(say("map.not-all", self.lang), "  ")
        for missing in self.map.missing:
            self.page.line(f"{missing.what}: {missing.why}", f"{say('map.not-seen', self.lang)}  ", "unsure")
        self._ways()

    # -- a namespace ---------------------------------------------------------------------------------------------

    def _box(self, box: Box) -> None:
        label, more = names(s.label for s in box.spaces)
        label += f" {say('map.more', self.lang, count=more)}" if more else ""
        also = [n for n in (box.first.where, *box.first.names) if n.rpartition(":")[2] != box.first.label]
        also += [c for c in box.first.containers if c != box.first.label]
        rows = list(self._tree(box))
        only = "" if rows else say("map.only-lo", self.lang)
        self.page.line(only or ("  ".join(also[:2]) if len(box.spaces) == 1 else ""), f"  {label}   ", "label")
        wide = min(WIDEST_NAME, max((columns(self._name(r)) for r in rows), default=0))
        kinds = max((columns(self._kind(r.chip)) for r in rows), default=0)
        for row in rows:
            self._line(row, wide, kinds)

    def _tree(self, box: Box) -> Iterator[_Row]:
        """Each chip below what it is a port of, or lies on."""
        inside = {c.id: c for c in box.chips}
        below: dict[str, list[Chip]] = {}
        for chip in box.chips:
            over = [t for t in self.ties.get(chip.id, ()) if t.a == chip.id and t.b in inside]
            parent = next((t.b for kind in ("port", "lower") for t in over if t.kind == kind), "")
            below.setdefault(parent, []).append(chip)
        seen: set[str] = set()

        def walk(parent: str, above: tuple[bool, ...]) -> Iterator[_Row]:
            children = [c for c in below.get(parent, ()) if c.id not in seen]
            for n, chip in enumerate(children):
                seen.add(chip.id)
                last = n == len(children) - 1
                yield _Row(chip, above, last)
                if len(above) < DEEPEST:
                    yield from walk(chip.id, (*above, not last))

        yield from walk("", ())
        for chip in box.chips:  # rings, and what lies too deep
            if chip.id not in seen:
                yield _Row(chip, (), True)

    def _name(self, row: _Row) -> str:
        branch = ""
        if row.above:
            branch = "".join(self.bar if on else "   " for on in row.above[1:]) + (self.end if row.last else self.fork)
        name = clean(row.chip.first.name, ascii_only=self.page.ascii_only)
        return branch + (
            name if len(row.chip.devices) == 1 else f"{name} …" if not self.page.ascii_only else name + ".."
        )

    def _kind(self, chip: Chip) -> str:
        word = kind(chip.first, self.lang)
        return word if len(chip.devices) == 1 else f"{word} x{len(chip.devices)}"

    def _line(self, row: _Row, wide: int, kinds: int) -> None:
        d = row.chip.first
        margin = self.marks.get(row.chip.id, "")
        size = f"[{d.mtu}]" if "[" in margin else f" {d.mtu} "
        notes = list(self._notes(row.chip))
        noted = "!" if notes else ""
        head = pad("".join(c for c in margin if c != "[") + noted, 4)
        head += pad(self._name(row), wide) + "  " + " " * max(0, 7 - len(size)) + size + "  "
        head += pad(self._kind(row.chip), kinds) + "  "
        single = len(row.chip.devices) == 1
        words = about(d, self.lang, addresses=single)
        words += [say("map.but", self.lang, what=said(r, self.lang)) for r in _facts(d)]
        words += [say("map.carries", self.lang, mtu=n) for n in self.narrow.get(row.chip.id, ()) if n != d.mtu]
        parts = [" ".join(words)]
        beyond = list(self._beyond(row.chip))
        if len(beyond) > MOST_BEYOND:
            beyond = [*beyond[: MOST_BEYOND - 1], say("map.more", self.lang, count=len(beyond) - MOST_BEYOND + 1)]
        parts += [self.to + w for w in beyond]
        deep = " " * min(columns(head), self.page.width // 2)
        self.page.line("  ".join(p for p in parts if p), head, "hole" if "[" in margin else "", indent=deep)
        for r in notes:
            text = said(r, self.lang) if r not in self.told else say("map.above", self.lang, code=r.code)
            self.told.append(r)
            self.page.line(text, deep + "! ", "unsure", indent=deep + "  ")

    def _notes(self, chip: Chip) -> Iterator[Remark]:
        """Findings of a chip, and of what stands on its line."""
        near = [chip.first]
        for t in self.ties.get(chip.id, ()):
            other = t.b if t.a == chip.id else t.a
            if other in self.box_of and self.box_of[other].id in self.inline:
                near.append(self.chips[other].first)
        found: list[Remark] = []
        for r in (r for d in near for r in d.remarks if r.marked):
            if r not in found:  # a fact may be a list, which has no hash
                found.append(r)
        yield from found

    def _beyond(self, chip: Chip) -> Iterator[str]:
        """What a chip is connected with outside its box."""
        own = self.box_of[chip.id].id
        for t in self.ties.get(chip.id, ()):
            other = t.b if t.a == chip.id else t.a
            if other == OUTSIDE:
                yield say("map.outside", self.lang)
                continue
            box = self.box_of[other]
            there = self.chips[other].first
            if t.kind == "routed" or (box.id == own and t.kind not in ("veth", "tunnel")):
                continue
            if t.kind == "lower" and t.a == chip.id:
                yield f"{self._place(own, box, there)}"
            elif box.id in self.inline:
                yield self._hanging(box, self.chips[other])
            else:
                yield f"{self._place(own, box, there)} {there.mtu}"

    def _place(self, own: str, box: Box, d: Device) -> str:
        if box.id == own:
            return d.name
        far = self.host_of[box.first.id]
        host = f"{far}!" if far != self.host_of[self.boxes[own].first.id] else ""
        return f"{host}{box.first.label}/{d.name}"

    def _hanging(self, box: Box, chip: Chip) -> str:
        """Namespaces that stand on this line: their names, the device, its MTU, its address."""
        label, more = names(s.label for s in box.spaces)
        d = chip.first
        size = f"[{d.mtu}]" if "[" in self.marks.get(chip.id, "") else str(d.mtu)
        if len(box.spaces) > 1:
            label += f" {say('map.more', self.lang, count=more)}" if more else ""
            return f"{label}{say('map.and', self.lang)}{d.name} {size}"
        words = [*about(d, self.lang), *(say("map.but", self.lang, what=said(r, self.lang)) for r in _facts(d))]
        extra = " ".join(words)
        return f"{label} {d.name} {size} {extra}".rstrip()

    # -- the path ------------------------------------------------------------------------------------------------

    def _ways(self) -> None:
        for w in self.map.ways:
            self.page.blank() if w.direction == "forward" else None
            label = say("map.way-out" if w.direction == "forward" else "map.way-back", self.lang)
            head = f"{label}  "
            for line in _joined(stations(self.map, w), self.page.width - columns(head)):
                self.page.line(line, head, "label")
                head = " " * columns(head)
            style = "hole" if w.large not in ("delivered", "fragmented", "unknown") else "label"
            self.page.line(outcome(w, self.lang), head, style)
        if self.map.ways:
            self.page.line(say("map.predicted", self.lang))
            self.page.blank()
            self.page.line(say("map.marks", self.lang))
        elif any(r.marked for c in self.chips.values() for r in c.first.remarks):
            self.page.blank()
            self.page.line(say("map.marks-plain", self.lang))


def _facts(d: Device) -> list[Remark]:
    """Remarks that are no findings."""
    return [r for r in d.remarks if not r.marked]


def _marks(m: Map) -> dict[str, str]:
    """Marks of the margin by device: > on the way out, < on the way back, [ the limit."""
    found: dict[str, str] = {}
    for w in m.ways:
        sign = ">" if w.direction == "forward" else "<"
        for x in w.stations:
            found[x] = found.get(x, "") + sign
        if w.mark and w.mark.device:
            found[w.mark.device] = found.get(w.mark.device, "") + "["
    return found


def _joined(stations: Iterable[str], width: int) -> Iterator[str]:
    """Stations with arrows between them, broken behind an arrow."""
    line = ""
    for n, station in enumerate(stations):
        text = f"> {station}" if n else station
        if line and columns(line) + 1 + columns(text) > width:
            yield line
            line = text
        else:
            line = f"{line} {text}".lstrip()
    if line:
        yield line


def stations(m: Map, w: Way, most: int = MOST_STATIONS) -> list[str]:
    """The stations of a way with their MTU, the limit in brackets; "..." for what is not seen, ".." for what is left
    out where there are more than ``most``."""
    devices = m.devices()
    several = len(m.hosts) > 1
    labels = {s.id: f"{h.name}!{s.label}" if several else s.label for h in m.hosts for s in h.spaces}
    limit = w.mark.device if w.mark else ""
    shown = []
    for x in w.stations:
        size = w.mark.mtu if w.mark and x == limit else devices[x].mtu
        text = f"{labels[space_of(x)]}/{devices[x].name} {size}"
        shown.append(f"[{text}]" if x == limit else text)
    if len(shown) > most:
        keep = most // 2
        guilty = [s for s in shown[keep:-keep] if s.startswith("[")]
        shown = [*shown[:keep], "..", *([*guilty, ".."] if guilty else []), *shown[-keep:]]
    if w.legs and w.legs[0][0] == OUTSIDE:
        shown = ["...", *shown]
    if w.legs and w.legs[-1][1] == OUTSIDE:
        shown.append("...")
    return shown
