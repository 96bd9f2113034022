"""A predicted way, laid over the devices of a map: which ones, in order, and where its limits are."""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise

from pathfit.core.net import Direction, Point
from pathfit.core.path import Bridged, Decap, Encap, Enter, Exit, Fate, Limit, Predicted
from pathfit.model.network import Network
from pathfit.render.map.graph import OUTSIDE, Edge, Mark, Way, space_of

LONGEST = 12  # edges between two devices the model names one after the other
STOPS = ("icmp", "silent", "error", "fragment")
Ids = Mapping[tuple[str, int], str]


def way(network: Network, ids: Ids, edges: Iterable[Edge], said: Predicted, direction: Direction) -> Way:
    """``said`` with its devices and limits as ids of the map."""
    edges = tuple(edges)
    named = _named(network, ids, said)
    cables = _Cables(edges)
    legs = _legs(named, cables)
    if named and said.fate is Fate.UNKNOWN and said.ends is not None and named[-1] in cables.uplinks:
        legs.append((named[-1], OUTSIDE))
    if named and direction == "reverse" and not said.complete and named[0] in cables.uplinks:
        legs.insert(0, (OUTSIDE, named[0]))
    limits = tuple(_mark(network, ids, x) for x in said.limits)
    stopping = [x for x in limits if x.then in STOPS]
    return Way(
        direction=direction,
        fate=said.fate.value,
        large=said.large.value,
        size=said.flow.size,
        mtu=said.mtu,
        complete=said.complete,
        why=said.why,
        stations=_stations(named, legs),
        legs=tuple(legs),
        limits=limits,
        mark=min(stopping, key=lambda x: x.mtu, default=None),
    )


def _id(network: Network, ids: Ids, at: Point, link: str | None = None) -> str:
    net = network.at(at)
    found = net.names.get(link or at.link or "") if net else None
    return ids.get((net.key, found.index), "") if net and found else ""


def _named(network: Network, ids: Ids, said: Predicted) -> list[str]:
    """Every device the prediction names, in order; the outside of a tunnel stands inside its two ends."""
    found: list[str] = []
    for hop in said.hops:
        for step in hop.steps:
            if isinstance(step, Bridged):
                names = [_id(network, ids, step.at), _id(network, ids, step.at, step.out)]
            elif isinstance(step, Enter | Exit | Encap | Decap):
                names = [_id(network, ids, step.at)]
            else:
                continue
            found += [n for n in names if n]
    return [n for i, n in enumerate(found) if not i or found[i - 1] != n]


class _Cables:
    """What frames can pass, without tunnels: their outer way is walked as well."""

    def __init__(self, edges: tuple[Edge, ...]) -> None:
        self.near: dict[str, list[str]] = {}
        self.uplinks = frozenset(e.a for e in edges if e.kind == "uplink")
        for e in edges:
            if e.kind in ("veth", "port", "lower"):
                self.near.setdefault(e.a, []).append(e.b)
                self.near.setdefault(e.b, []).append(e.a)

    def between(self, a: str, b: str, *, inside: bool) -> list[str]:
        """The shortest row of devices from ``a`` to ``b``, both named; empty when no cable leads there.

        ``inside``: only through the namespace both are in.
        """
        before: dict[str, str] = {a: ""}
        todo = deque([(a, 0)])
        while todo:
            here, far = todo.popleft()
            if here == b:
                row = [here]
                while before[row[-1]]:
                    row.append(before[row[-1]])
                return row[::-1]
            if far == LONGEST:
                continue
            for n in self.near.get(here, ()):
                if n not in before and not (inside and space_of(n) != space_of(a)):
                    before[n] = here
                    todo.append((n, far + 1))
        return []


def _legs(named: list[str], cables: _Cables) -> list[tuple[str, str]]:
    """From device to device: along cables where there are, else straight (routing inside a namespace)."""
    legs: list[tuple[str, str]] = []
    for a, b in pairwise(named):
        same = space_of(a) == space_of(b)
        row = cables.between(a, b, inside=same)
        if row:
            legs += pairwise(row)
        elif same:
            legs.append((a, b))
        elif a in cables.uplinks and b in cables.uplinks:  # between two hosts: through what no snapshot shows
            legs += [(a, OUTSIDE), (OUTSIDE, b)]
    return legs


def _stations(named: list[str], legs: list[tuple[str, str]]) -> tuple[str, ...]:
    """All devices on the way in order, those between the named ones too."""
    found: list[str] = [] if not named else [named[0]]
    waiting = list(named[1:])
    for a, b in legs:
        for x in (a, b):
            if x != OUTSIDE and (not found or found[-1] != x):
                found.append(x)
                if waiting and waiting[0] == x:
                    waiting.pop(0)
    found += [x for x in waiting if x not in found]
    return tuple(found)


def _mark(network: Network, ids: Ids, limit: Limit) -> Mark:
    return Mark(
        mtu=limit.mtu,
        kind=limit.kind,
        then=limit.then,
        device=_id(network, ids, limit.at),
        place="/".join(filter(None, (limit.at.netns, limit.at.link))),
        told_home=limit.told_home,
    )
