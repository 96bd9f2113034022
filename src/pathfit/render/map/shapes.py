"""What looks alike is drawn once: a :class:`Plan` of boxes and chips, each of one or of many.

A *leaf* namespace (it connects nothing: no bridge, only cables to others) is folded with those of the same shape: the
same devices (name, kind, MTU, state), hanging on the same places by ports of one MTU. Devices of one box that look
alike and lead to the same place (the other halves of those cables) are folded as well. What a path
touches always stands alone.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from pathfit.render.map.graph import OUTSIDE, Device, Edge, Map, Space, space_of

FEWEST = 3  # of one shape; two are drawn as they are


class Chip(NamedTuple):
    """Devices of one look. ``id`` is the first one's."""

    id: str
    devices: tuple[Device, ...]

    @property
    def first(self) -> Device:
        return self.devices[0]


class Box(NamedTuple):
    """Namespaces of one shape. ``id`` is the first one's. ``leaf``: it connects nothing."""

    id: str
    spaces: tuple[Space, ...]
    chips: tuple[Chip, ...]
    leaf: bool

    @property
    def first(self) -> Space:
        return self.spaces[0]


class Tie(NamedTuple):
    """An edge between two chips (ids). ``many`` edges of the map."""

    kind: str
    a: str
    b: str
    many: int


class Plan(NamedTuple):
    """What is to be drawn. ``boxes``: by host, in the map's order; ``chip_of``: device id -> chip id."""

    boxes: tuple[tuple[Box, ...], ...]
    ties: tuple[Tie, ...]
    chip_of: dict[str, str]


def plan(m: Map) -> Plan:
    """Fold a map."""
    looks = _Looks(m)
    chip_of = {OUTSIDE: OUTSIDE}
    folded: list[list[tuple[Space, ...]]] = []
    for host in m.hosts:
        groups: dict[object, list[Space]] = {}
        for space in host.spaces:
            groups.setdefault(looks.of_space(space), []).append(space)
        rows: list[tuple[Space, ...]] = []
        for members in groups.values():
            if len(members) < FEWEST:
                rows += [(s,) for s in members]
            else:
                rows.append(tuple(sorted(members, key=lambda s: natural(s.label))))
        folded.append(rows)
    for group in (g for rows in folded for g in rows):
        for same in zip(*(visible(s, looks.touched) for s in group), strict=True):
            chip_of |= dict.fromkeys((d.id for d in same), same[0].id)
    _fold_devices(folded, looks, chip_of)
    boxes = tuple(tuple(_box(group, looks, chip_of) for group in rows) for rows in folded)
    return Plan(boxes, _ties(m.edges, chip_of), chip_of)


def visible(space: Space, touched: frozenset[str] = frozenset()) -> tuple[Device, ...]:
    """Its devices without loopback, which only counts where a path ends on it or something is to be said of it."""
    return tuple(d for d in space.devices if d.kind != "loopback" or d.remarks or d.id in touched)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts web.2 before web.10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", text)
    return tuple((0, int(p), p) if p.isascii() and p.isdigit() and len(p) < 19 else (1, 0, p) for p in parts)


def names(labels: Iterable[str], most: int = 3) -> tuple[str, int]:
    """The first few, and how many more."""
    said = list(labels)
    keep = said if len(said) <= most + 1 else said[:most]
    return " ".join(keep), len(said) - len(keep)


class _Looks:
    """What everything looks like, in terms that can be compared."""

    def __init__(self, m: Map) -> None:
        self.map = m
        self.devices = m.devices()
        self.near: dict[str, list[tuple[str, str]]] = {}
        for e in m.edges:
            if e.kind != "routed":
                over, under = (e.kind, e.kind) if e.kind in ("veth", "tunnel") else (e.kind + ">", e.kind + "<")
                self.near.setdefault(e.a, []).append((over, e.b))
                self.near.setdefault(e.b, []).append((under, e.a))
        limits = {x.device for w in m.ways for x in w.limits}
        self.touched = frozenset(limits.union(*(w.stations for w in m.ways)) - {""})
        self._alone = {space_of(x) for x in self.touched}

    def leaf(self, space: Space) -> bool:
        """It connects nothing: each of its devices has at most one cable, and that leads to another namespace."""
        for d in visible(space):
            ties = self.near.get(d.id, [])
            if len(ties) > 1 or any(space_of(x) == space.id or x == OUTSIDE for _, x in ties):
                return False
        return True

    def of_space(self, space: Space) -> object:
        """Equal for namespaces that may be folded."""
        if space.id in self._alone or space.own or space.missing or not self.leaf(space):
            return space.id
        return tuple((d.name, *self._device(d), *map(self._beyond, self.near.get(d.id, ()))) for d in space.devices)

    def _device(self, d: Device) -> tuple[object, ...]:
        families = frozenset(":" in a for a in d.addresses)
        said = tuple((r.message, repr(sorted(r.facts.items()))) for r in d.remarks)
        held = d.holder.partition("[")[0]
        return (d.kind, d.type, d.mtu, d.state, d.network, d.unseen, d.vni, d.overhead, d.far, held, families, said)

    def _beyond(self, tie: tuple[str, str]) -> object:
        """What a leaf's cable leads to: the place, or for a port the look of the port and whose it is."""
        kind, other = tie
        there = self.devices[other]
        if kind == "veth" and there.master and other not in self.touched:
            return (kind, there.master, *self._device(there))
        return (kind, other)

    def of_device(self, d: Device, chip_of: dict[str, str]) -> object:
        """Equal for devices of one box that may be folded."""
        if d.id in self.touched:
            return d.id
        ties = frozenset((kind, chip_of.get(x, x)) for kind, x in self.near.get(d.id, ()))
        return (*self._device(d), ties)


def _fold_devices(folded: list[list[tuple[Space, ...]]], looks: _Looks, chip_of: dict[str, str]) -> None:
    """Devices of the boxes that stand alone, the halves of folded cables before what they lead to."""
    for group in (g for rows in folded for g in rows):
        if len(group) > 1:
            continue
        alike: dict[object, list[Device]] = {}
        for d in visible(group[0], looks.touched):
            alike.setdefault(looks.of_device(d, chip_of), []).append(d)
        for same in alike.values():
            if len(same) >= FEWEST:
                chip_of |= dict.fromkeys((d.id for d in same), same[0].id)


def _box(group: tuple[Space, ...], looks: _Looks, chip_of: dict[str, str]) -> Box:
    chips: dict[str, list[Device]] = {}
    for space in group:
        for d in visible(space, looks.touched):
            chips.setdefault(chip_of[d.id], []).append(d)
    made = tuple(Chip(ident, tuple(devices)) for ident, devices in chips.items())
    return Box(group[0].id, group, made, looks.leaf(group[0]))


def _ties(edges: Iterable[Edge], chip_of: dict[str, str]) -> tuple[Tie, ...]:
    count: dict[tuple[str, str, str], int] = {}
    for e in edges:
        if e.a in chip_of and e.b in chip_of:
            key = (e.kind, chip_of[e.a], chip_of[e.b])
            if (back := (e.kind, key[2], key[1])) in count:  # the halves of folded cables, named the other way round
                key = back
            if key[1] != key[2]:
                count[key] = count.get(key, 0) + 1
    return tuple(Tie(*key, n) for key, n in count.items())
