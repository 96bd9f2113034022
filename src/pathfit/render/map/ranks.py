"""Which column: how far a device is from the way out of its namespace, and a namespace from that of its host."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pathfit.render.map.graph import Map, space_of
from pathfit.render.map.shapes import Box, Plan, Tie


class Bus(NamedTuple):
    """One tunnel network: all ends (chips) that send to each other. ``far``: ends nobody sees."""

    id: str
    kind: str
    vni: int | None
    overhead: int | None
    chips: tuple[str, ...]
    far: tuple[str, ...]


def buses(plan: Plan) -> tuple[Bus, ...]:
    """Tunnels, joined by what they are joined with: a full mesh of fifty hosts is one bus with fifty ends."""
    chips = {c.id: c for boxes in plan.boxes for b in boxes for c in b.chips}
    root: dict[str, str] = {}

    def find(x: str) -> str:
        while root.get(x, x) != x:
            root[x] = root.get(root[x], root[x])
            x = root[x]
        return x

    joined = dict.fromkeys(c for t in plan.ties if t.kind == "tunnel" for c in (t.a, t.b))
    ends = [c for c in chips if c in joined or chips[c].first.far]
    for t in plan.ties:
        if t.kind == "tunnel":
            root[find(t.b)] = find(t.a)
    groups: dict[str, list[str]] = {}
    for c in ends:
        groups.setdefault(find(c), []).append(c)
    made = []
    for n, members in enumerate(groups.values()):
        first = chips[members[0]].first
        sizes = [o for c in members if (o := chips[c].first.overhead) is not None]
        far = tuple(dict.fromkeys(x for c in members for d in chips[c].devices for x in d.far))
        made.append(Bus(f"bus:{n}", first.kind, first.vni, max(sizes, default=None), tuple(members), far))
    return tuple(made)


def _distances(near: Mapping[str, list[str]], start: Iterable[str], known: dict[str, int], first: int) -> None:
    """Breadth first from ``start``, which is at ``first``; what is known already stays."""
    todo = deque(x for x in start if x not in known)
    known.update(dict.fromkeys(todo, first))
    while todo:
        here = todo.popleft()
        for x in near.get(here, ()):
            if x not in known:
                known[x] = known[here] + 1
                todo.append(x)


def levels(box: Box, ties: Iterable[Tie], facing: Mapping[str, str]) -> dict[str, int]:
    """Chips of one box: 0 = rightmost. ``facing``: chips with a line that leaves the box, "left" or "right".

    Uplinks stand at 0, what is joined with them behind; a bridge without an uplink stands at 1, before its ports.
    """
    near: dict[str, list[str]] = {}
    masters: dict[str, None] = {}
    for t in ties:
        near.setdefault(t.a, []).append(t.b)
        near.setdefault(t.b, []).append(t.a)
        if t.kind == "port":
            masters[t.b] = None
    known: dict[str, int] = {}
    _distances(near, [c.id for c in box.chips if facing.get(c.id) == "right"], known, 0)
    seen = bool(known)
    _distances(near, masters, known, int(seen))
    for c in box.chips:
        if c.id not in known:
            _distances(near, [c.id], known, int(seen and facing.get(c.id) != "left"))
    least = min(known.values(), default=0)
    return {c: n - least for c, n in known.items()}


def ranks(
    boxes: tuple[Box, ...], ties: Mapping[int, Tie], ends: Mapping[int, tuple[str, str]], m: Map
) -> dict[str, int]:
    """Boxes of one host: 0 = rightmost. ``ends``: the boxes each tie joins, "" for what is elsewhere.

    Those with a way out stand at 0; without any, the far end of the asked path, else the one with the most lines. What
    connects nothing, and is not on the path, stands behind everything it hangs on.
    """
    near: dict[str, list[str]] = {}
    leaving: dict[str, None] = {}
    for n, (a, b) in ends.items():
        if a and b and a != b:
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
        elif ties[n].kind == "uplink":
            leaving[a or b] = None
    known: dict[str, int] = {}
    _distances(near, leaving, known, 0)
    last = [space_of(w.stations[-1]) for w in m.ways[:1] if w.stations]
    order = sorted(boxes, key=lambda b: (b.id not in last, b.leaf, -len(near.get(b.id, ()))))
    for box in order:
        if box.id in near and box.id not in known:
            _distances(near, [box.id], known, 0)
    connecting = {b.id for b in boxes if not b.leaf}
    between = {space_of(x) for w in m.ways for x in w.stations[1:-1]}
    between -= {space_of(x) for w in m.ways for x in (*w.stations[:1], *w.stations[-1:])}
    for box in boxes:
        beside = [known[x] for x in near.get(box.id, ()) if x in connecting]
        if box.leaf and beside and known[box.id] and box.id not in between:
            known[box.id] = max(beside) + 1
    far = max(known.values(), default=0)
    return {box.id: known.get(box.id, far) for box in boxes}  # what hangs on nothing stands leftmost
