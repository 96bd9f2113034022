"""What was seen at each point of both directions, in the order of the way."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Stage
from pathfit.core.net import Direction, endpoint
from pathfit.core.request import Watch
from pathfit.core.tracing import Branch, Stop
from pathfit.follow import drawn
from pathfit.model import ladder, parts, same
from pathfit.model.ladder import Sighting
from pathfit.wire import dissect
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import FIN, SYN, TCP, Icmp, Tcp, is_error, parse_ip, parse_ports

Part = Literal["", "part", "broken"]
EARLY = 200_000  # nanoseconds that the clocks of taps and of drops may differ by
IN_FLIGHT = 60_000_000  # nanoseconds before the end: what was first seen later may still be on its way
NEIGHBOURS = range(133, 138)  # types of ICMPv6: neighbour discovery (RFC 4861), never forwarded
ECHO = {4: (0, 8), 6: (128, 129)}  # types of ICMP: replies and requests


def complaint(layer: Layer) -> bool:
    """Is it an ICMP error?"""
    return isinstance(layer.transport, Icmp) and is_error(layer.ip.family, layer.transport.type)


class Packet(NamedTuple):
    """One sighting, with what the ladder needs to speak of it. ``size``: bytes of the (innermost) IP packet; ``part``:
    it was a fragment, of which all others were there as well ("part"), or not ("broken": as good as not there)."""

    sighting: Sighting
    layer: Layer
    size: int
    number: int
    part: Part = ""

    @property
    def complains(self) -> bool:
        """An ICMP error, about a packet of the other direction."""
        return complaint(self.layer)

    @property
    def bears(self) -> int:
        """Bytes of the transport's payload."""
        return max(0, self.size - (self.layer.payload - self.layer.at))

    @property
    def takes(self) -> int:
        """Sequence numbers that a segment takes: its bytes, one for SYN and FIN each; 0 of what is none."""
        t = self.layer.transport
        return self.bears + bool(t.flags & SYN) + bool(t.flags & FIN) if isinstance(t, Tcp) else 0

    @property
    def until(self) -> int:
        """The sequence number behind a segment, which acknowledges it."""
        t = self.layer.transport
        assert isinstance(t, Tcp)
        return (t.seq + self.takes) % same.WRAP


class Way(NamedTuple):
    """One direction. ``branch``: to which of several it goes, where NAT chooses; None: nobody chooses, or of what went
    to none that is known."""

    direction: Direction
    stops: tuple[Stop, ...]
    packets: tuple[Packet, ...]
    result: ladder.Result
    branch: Branch | None = None

    @property
    def end(self) -> str:
        """Where NAT has taken it, as "address:port"; "" where nobody chooses."""
        b = self.branch
        return "" if b is None else endpoint(b.address, b.port)


class Flow(NamedTuple):
    """What makes a packet one of the flow's: ``hosts`` in every form, the service's ``ports``, the asked ``target``;
    ``targets``: that one in every form."""

    hosts: frozenset[bytes]
    ports: frozenset[int]
    target: bytes
    tunnels: tuple[int, ...]
    targets: frozenset[bytes] = frozenset()

    @staticmethod
    def of(watch: Watch) -> "Flow":
        hosts = frozenset(map(dissect.packed, watch.hosts))
        tunnels = watch.tunnels or dissect.VXLAN_PORTS
        targets = frozenset(map(dissect.packed, watch.targets))
        return Flow(hosts, frozenset(watch.ports), dissect.packed(watch.address), tunnels, targets)

    def packet(self, data: bytes, *, raw: bool) -> Layer | None:
        """The packet of the flow in a frame (``raw``: without a link layer): the innermost with its addresses."""
        return self.among(self.layers(data, raw=raw))

    def layers(self, data: bytes, *, raw: bool) -> tuple[Layer, ...]:
        return (dissect.packet if raw else dissect.frame)(data, self.tunnels).layers

    def among(self, layers: tuple[Layer, ...]) -> Layer | None:
        return next((x for x in reversed(layers) if x.ip.src in self.hosts and x.ip.dst in self.hosts), None)

    def goes(self, layer: Layer) -> Direction | None:
        """By the port of the service; where none was asked for, or there is none, by the address."""
        t = layer.transport
        if self.ports and isinstance(t, Tcp | Udp):
            return self._by_port(t.sport, t.dport)
        if isinstance(t, Icmp) and layer.ip.family == 6 and t.type in NEIGHBOURS:
            return None  # between a translator, whose address is one of the flow's, and who is next to it
        if self.ports and isinstance(t, Icmp) and t.type in ECHO[layer.ip.family]:
            return None  # whoever has the address answers it: where ports are translated, another host than the service
        if self.ports and isinstance(t, Icmp) and is_error(layer.ip.family, t.type):
            ip = parse_ip(t.quoted)
            ports = parse_ports(t.quoted, ip.at) if ip is not None else None
            return self._by_port(ports[1], ports[0]) if ports is not None else None  # against what it is about
        to, back = layer.ip.dst in self.targets, layer.ip.src in self.targets
        if to != back:
            return "forward" if to else "reverse"
        return "forward" if layer.ip.dst == self.target else "reverse" if layer.ip.src == self.target else None

    def _by_port(self, source: int, to: int) -> Direction | None:
        there, back = to in self.ports, source in self.ports
        return ("forward" if there else "reverse") if there != back else None


def packets(fact: TraceFact, flow: Flow) -> Iterator[tuple[Stop, Direction, Packet]]:
    """Every packet of the flow since all taps were open: where, which way, and the packet (its point not yet known)."""
    cut = _Cut()
    for number, seen in enumerate(fact.seen):
        layers = flow.layers(seen.data, raw=fact.taps[seen.tap].raw) if seen.time > fact.armed else ()
        stop = Stop(seen.tap, seen.out)
        later = parts.later(layers)
        if later is not None and (later.ip.protocol == TCP or flow.among(layers) is None):
            cut.later.append((stop, number, seen.time, later))  # a fragment of a segment, or of what wraps a packet
            continue
        layer = flow.among(layers)
        direction = flow.goes(layer) if layer is not None else None
        if layer is None or direction is None:
            continue
        pieces = same.pieces(seen.data, layer, seen.length)
        size = layer.ip.size if layer.ip.size > layer.ip.at else seen.length - layer.at
        packet = Packet(Sighting(0, seen.time, number, pieces), layer, size, number)
        first = parts.first(layers, layer, pieces)
        if first is None:
            yield stop, direction, packet
        else:
            cut.begun[stop, first.id].append(_Begun(direction, packet, first, []))
    yield from cut.packets()


class _Begun(NamedTuple):
    """A packet of which the first fragment was seen; ``later``: (number, time, layer) of others."""

    direction: Direction
    packet: Packet
    first: parts.First
    later: list[tuple[int, int, Layer]]


class _Cut:
    """Fragments at all points: which belong together is known when all were seen."""

    def __init__(self) -> None:
        self.begun: dict[tuple[Stop, parts.Id], list[_Begun]] = defaultdict(list)
        self.later: list[tuple[Stop, int, int, Layer]] = []

    def packets(self) -> Iterator[tuple[Stop, Direction, Packet]]:
        for stop, number, time, layer in self.later:
            them = self.begun.get((stop, parts.identity(layer)), ())
            near = min(them, key=lambda x: abs(x.packet.sighting.time - time), default=None)
            if near is not None and abs(near.packet.sighting.time - time) < parts.LONGEST:
                near.later.append((number, time, layer))
        for (stop, _), them in self.begun.items():
            for direction, packet, begun, later in them:
                layers = [layer for *_, layer in later]
                first = begun.known(layers) or begun
                part: Part = "part" if first.complete(layers) else "broken"
                packet = packet._replace(size=max(packet.size, first.layer.ip.size), part=part)
                yield stop, direction, packet._replace(sighting=packet.sighting._replace(pieces=first.here()))
                for number, time, layer in later:
                    sighting = Sighting(0, time, number, first.of(layer))
                    yield stop, direction, packet._replace(sighting=sighting, number=number)


Leg = tuple[Direction, int | None]


def ways(
    fact: TraceFact, watch: Watch, them: Iterable[tuple[Stop, Direction, Packet]] | None = None
) -> tuple[Way, ...]:
    """The way out and the way in; then both to each of several, where NAT chooses. ``them``: what :func:`packets` says,
    where it was asked already. What a tap did not see says nothing where it lost packets or could not be opened."""
    stops: dict[Leg, tuple[Stop, ...]] = {("forward", None): watch.forward, ("reverse", None): watch.reverse}
    for n, b in enumerate(watch.branches):
        stops |= {("forward", n): b.forward, ("reverse", n): b.reverse}
    points = {d: {stop: n for n, stop in enumerate(them)} for d, them in stops.items()}
    found: dict[Leg, list[Packet]] = {leg: [] for leg in stops}
    every = list(packets(fact, Flow.of(watch)) if them is None else them)
    taken = drawn.Taken(watch, fact, [packet for _, _, packet in every]) if watch.branches else None
    for stop, direction, packet in every:
        leg = (direction, taken.of(packet) if taken is not None else None)
        point = points[leg].get(stop)
        if point is not None:
            found[leg].append(packet._replace(sighting=packet.sighting._replace(point=point)))
    deaf = {x.tap for x in fact.lost} | (set(range(len(fact.taps))) - set(fact.opened))
    settled = fact.ended - IN_FLIGHT

    def way(leg: Leg) -> Way:
        mine = stops[leg]
        blind = frozenset(n for n, stop in enumerate(mine) if stop.tap in deaf)
        whole = (p.sighting for p in found[leg] if p.part != "broken")
        result = ladder.follow(whole, len(mine), settled=settled, blind=blind)
        branch = None if leg[1] is None else watch.branches[leg[1]]
        return Way(leg[0], mine, tuple(found[leg]), result, branch)

    return tuple(map(way, stops))


def used(ways: Sequence[Way]) -> list[tuple[Way, Way]]:
    """The way out and in, for each of several that NAT has taken anything to; the most used one first, but for one in
    which anything was lost."""
    pairs = list(zip(ways[::2], ways[1::2], strict=True))
    found = [pair for pair in pairs if any(way.packets for way in pair)] or pairs[:1]
    return sorted(found, key=lambda x: (-sum(len(w.result.lost) for w in x), -sum(len(w.packets) for w in x)))


def stages(way: Way, fact: TraceFact) -> tuple[Stage, ...]:
    counts = Counter(p.sighting.point for p in way.packets)
    lost = {x.tap: x.lost for x in fact.lost}
    return tuple(
        Stage(at=fact.taps[stop.tap].at, out=stop.out, packets=counts[n], lost=lost.get(stop.tap, 0))
        for n, stop in enumerate(way.stops)
    )
