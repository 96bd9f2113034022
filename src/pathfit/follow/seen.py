"""What was seen at each point of both directions, in the order of the way."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Stage
from pathfit.core.net import Direction
from pathfit.core.request import Watch
from pathfit.core.tracing import Stop
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


class Flow(NamedTuple):
    """What makes a packet one of the flow's: ``hosts`` in every form, the service's ``ports``, the asked ``target``."""

    hosts: frozenset[bytes]
    ports: frozenset[int]
    target: bytes
    tunnels: tuple[int, ...]

    @staticmethod
    def of(watch: Watch) -> "Flow":
        hosts = frozenset(map(dissect.packed, watch.hosts))
        tunnels = watch.tunnels or dissect.VXLAN_PORTS
        return Flow(hosts, frozenset(watch.ports), dissect.packed(watch.address), tunnels)

    def packet(self, data: bytes, *, raw: bool) -> Layer | None:
        """The packet of the flow in a frame (``raw``: without a link layer): the innermost with its addresses."""
        layers = (dissect.packet if raw else dissect.frame)(data, self.tunnels).layers
        return next((x for x in reversed(layers) if x.ip.src in self.hosts and x.ip.dst in self.hosts), None)

    def goes(self, layer: Layer) -> Direction | None:
        """By the port of the service; where none was asked for, or there is none, by the address."""
        t = layer.transport
        if self.ports and isinstance(t, Tcp | Udp):
            to, back = t.dport in self.ports, t.sport in self.ports
            return ("forward" if to else "reverse") if to != back else None
        return "forward" if layer.ip.dst == self.target else "reverse" if layer.ip.src == self.target else None


def packets(fact: TraceFact, flow: Flow) -> Iterator[tuple[Stop, Direction, Packet]]:
    """Every packet of the flow since all taps were open: where, which way, and the packet (its point not yet known)."""
    for number, seen in enumerate(fact.seen):
        layer = flow.packet(seen.data, raw=fact.taps[seen.tap].raw) if seen.time > fact.armed else None
        direction = flow.goes(layer) if layer is not None else None
        if layer is not None and direction is not None:
            cut = same.pieces(seen.data, layer, seen.length)
            size = layer.ip.size if layer.ip.size > layer.ip.at else seen.length - layer.at
            yield Stop(seen.tap, seen.out), direction, Packet(Sighting(0, seen.time, number, cut), layer, size, number)


def ways(fact: TraceFact, watch: Watch) -> tuple[Way, Way]:
    """The way out and the way in. What a tap did not see says nothing where it lost packets or could not be opened."""
    found: dict[Direction, list[Packet]] = {"forward": [], "reverse": []}
    stops: dict[Direction, tuple[Stop, ...]] = {"forward": watch.forward, "reverse": watch.reverse}
    points = {d: {stop: n for n, stop in enumerate(them)} for d, them in stops.items()}
    for stop, direction, packet in packets(fact, Flow.of(watch)):
        point = points[direction].get(stop)
        if point is not None:
            found[direction].append(packet._replace(sighting=packet.sighting._replace(point=point)))
    deaf = {x.tap for x in fact.lost} | (set(range(len(fact.taps))) - set(fact.opened))
    settled = fact.ended - IN_FLIGHT

    def way(d: Direction) -> Way:
        blind = frozenset(n for n, stop in enumerate(stops[d]) if stop.tap in deaf)
        result = ladder.follow((p.sighting for p in found[d]), len(stops[d]), settled=settled, blind=blind)
        return Way(d, stops[d], tuple(found[d]), result)

    return way("forward"), way("reverse")


def stages(way: Way, fact: TraceFact) -> tuple[Stage, ...]:
    counts = Counter(p.sighting.point for p in way.packets)
    lost = {x.tap: x.lost for x in fact.lost}
    return tuple(
        Stage(at=fact.taps[stop.tap].at, out=stop.out, packets=counts[n], lost=lost.get(stop.tap, 0))
        for n, stop in enumerate(way.stops)
    )
