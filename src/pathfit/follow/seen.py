"""What was seen at each point of one direction, in the order of the way."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Stage
from pathfit.core.net import Direction
from pathfit.core.request import Watch
from pathfit.core.tracing import Seen, Stop
from pathfit.model import ladder, same
from pathfit.model.ladder import Sighting
from pathfit.wire import dissect
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import Tcp

IN_FLIGHT = 60_000_000  # nanoseconds before the end: what was first seen later may still be on its way


class Packet(NamedTuple):
    """One sighting, with what the ladder needs to speak of it. ``size``: bytes of the (innermost) IP packet."""

    sighting: Sighting
    layer: Layer
    size: int
    number: int


class Way(NamedTuple):
    direction: Direction
    stops: tuple[Stop, ...]
    packets: tuple[Packet, ...]
    result: ladder.Result


def way(direction: Direction, stops: tuple[Stop, ...], fact: TraceFact, watch: Watch) -> Way:
    at = {stop: n for n, stop in enumerate(stops)}
    packets: list[Packet] = []
    for number, seen in enumerate(fact.seen):
        point = at.get(Stop(seen.tap, seen.out))
        found = _packet(number, seen, point, fact, watch) if point is not None else None
        if found is not None and seen.time > fact.armed and _goes(found.layer, watch) == direction:
            packets.append(found)
    lossy = {x.tap for x in fact.lost}
    blind = frozenset(n for n, stop in enumerate(stops) if stop.tap in lossy)
    settled = fact.ended - IN_FLIGHT
    result = ladder.follow((p.sighting for p in packets), len(stops), settled=settled, blind=blind)
    return Way(direction, stops, tuple(packets), result)


def _packet(number: int, seen: Seen, point: int, fact: TraceFact, watch: Watch) -> Packet | None:
    raw = fact.taps[seen.tap].raw
    taken = (dissect.packet if raw else dissect.frame)(seen.data, watch.tunnels or dissect.VXLAN_PORTS)
    inner = _asked(taken.layers, watch)
    if inner is None:
        return None
    cut = same.pieces(seen.data, inner, seen.length)
    size = inner.ip.size if inner.ip.size > inner.ip.at else seen.length - inner.at
    return Packet(Sighting(point, seen.time, number, cut), inner, size, number)


def _asked(layers: Sequence[Layer], watch: Watch) -> Layer | None:
    """The packet of the flow in a frame: the innermost that has its addresses."""
    hosts = {dissect.packed(h) for h in watch.hosts}
    return next((x for x in reversed(layers) if x.ip.src in hosts and x.ip.dst in hosts), None)


def _goes(layer: Layer, watch: Watch) -> Direction | None:
    """By the port of the service; of packets without ports by the address that is asked for."""
    if isinstance(layer.transport, Tcp | Udp):
        to, back = layer.transport.dport in watch.ports, layer.transport.sport in watch.ports
        return ("forward" if to else "reverse") if to != back else None
    target = dissect.packed(watch.address)
    return "forward" if layer.ip.dst == target else "reverse" if layer.ip.src == target else None


def stages(way: Way, fact: TraceFact) -> tuple[Stage, ...]:
    counts = Counter(p.sighting.point for p in way.packets)
    lost = {x.tap: x.lost for x in fact.lost}
    return tuple(
        Stage(at=fact.taps[stop.tap].at, out=stop.out, packets=counts[n], lost=lost.get(stop.tap, 0))
        for n, stop in enumerate(way.stops)
    )
