"""Sizes on the picture, in pixels. Text is set in monospaced type, so that its width is known without a browser."""

from typing import NamedTuple

from pathfit.render.layout import clean, columns
from pathfit.render.map.graph import Device, Map
from pathfit.render.map.shapes import Box, Chip

NAME, SMALL = 7.4, 6.3  # a column of 12 px and of 10.2 px monospaced type (0.602 em), with a little to spare
BOX_HEAD, BOX_PAD = 26.0, 12.0
CHIP_GAP, CHIP_ROOM = 8.0, 44.0  # between chips; between columns of chips, where lines run
HOST_HEAD, HOST_PAD, HOST_GAP = 30.0, 22.0, 18.0
LOOP_ROOM = 46.0
MARGIN = 16.0
PILL, BAR = 30.0, 26.0  # height of a tunnel's pill; width of the bar "outside"
SWATCH = 12.0
LONGEST_NAME, LONGEST_LABEL = 24, 40  # columns


class Size(NamedTuple):
    w: float
    h: float


class Face(NamedTuple):
    """What stands on a chip: its name, its MTU, smaller lines below."""

    name: str
    mtu: str
    small: tuple[str, ...]
    noted: bool  # a finding is to be told of it
    limit: str  # "1450" where the limit is another than the MTU, "" otherwise
    size: Size


def cut(text: str, most: int) -> str:
    """At most ``most`` columns of it, nothing in it that could turn or hide text."""
    shown = clean(text)
    if columns(shown) <= most:
        return shown
    kept = ""
    for c in shown:
        if columns(kept + c) > most - 1:
            break
        kept += c
    return kept + "…"


def face(chip: Chip, small: tuple[str, ...], limit: int | None) -> Face:
    """The face of a chip; ``limit``: what the way carries here, where it is the limit of one."""
    d: Device = chip.first
    many = len(chip.devices)
    name = cut(d.name, LONGEST_NAME) + (" …" if many > 1 else "")
    mtu = str(d.mtu) if limit is None else f"[{d.mtu}]"
    lines = tuple(cut(x, LONGEST_LABEL) for x in small)
    noted = any(r.marked for r in d.remarks)
    first = SWATCH + 8 + columns(name) * NAME + 12 + columns(mtu) * NAME + 9 + (14 if noted else 0)
    rest = max((SWATCH + 8 + columns(x) * SMALL + 9 for x in lines), default=0.0)
    size = Size(round(max(92.0, first, rest)), 24.0 + 13.0 * len(lines) + (2 if lines else 0))
    return Face(name, mtu, lines, noted, "" if limit in (None, d.mtu) else str(limit), size)


def title(box: Box) -> str:
    """What stands above a box."""
    label = cut(box.first.label, LONGEST_NAME)
    if len(box.spaces) == 1:
        return label
    return f"{label} … {cut(box.spaces[-1].label, LONGEST_NAME)}"


def badge(box: Box) -> str:
    return f"×{len(box.spaces)}" if len(box.spaces) > 1 else ""


def box_width(box: Box) -> float:
    """The least that its title needs."""
    room = columns(badge(box)) * NAME + 22 if len(box.spaces) > 1 else 0
    return round(2 * BOX_PAD + columns(title(box)) * NAME + room + (4 if not box.chips else 0))


def pill_width(lines: tuple[str, ...]) -> float:
    return round(max(columns(x) * SMALL for x in lines) + 26)


def channel(lines: int) -> float:
    """Between two columns of namespaces."""
    return 56.0 + min(90, 3.0 * lines)


def limits(m: Map) -> dict[str, int]:
    """What the limit of a way carries, by the device it is at; the smaller one where both ways have theirs there."""
    found: dict[str, int] = {}
    for w in m.ways:
        if w.mark and w.mark.device:
            found[w.mark.device] = min(w.mark.mtu, found.get(w.mark.device, w.mark.mtu))
    return found
