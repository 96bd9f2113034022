"""Resets and ICMP errors of a flow, each wherever it was seen, and the packet that each of them answers (pure).

Two may have made the very same reset (of one connection, without a number of its own); an ICMP error comes from whoever
is on the way, and is of the flow when it quotes a packet of it. What is judged is bounded, whatever a stranger sends.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from pathfit.core.evidence import TraceFact
from pathfit.core.net import Direction
from pathfit.core.request import Watch
from pathfit.core.tracing import Stop
from pathfit.follow.seen import Flow, Packet
from pathfit.model import same
from pathfit.model.ladder import Sighting
from pathfit.wire.dissect import Layer
from pathfit.wire.packets import ACK, FIN, RST, TCP, UDP, Icmp, Ip, Tcp, is_error, parse_ip, parse_ports, which

ECHOES = (0, 8, 128, 129)  # requests and replies, ICMP and ICMPv6
MOST_TRAILS = 256  # that are judged
MOST_ALIKE = 2048  # sightings of packets that are alike
MOST_OPEN = 32  # copies of one that may be on their way at once
TAG = 4  # bytes of a VLAN tag, which is told beside the packet
OTHER_WAY: dict[Direction, Direction] = {"forward": "reverse", "reverse": "forward"}
Kind = Literal["reset", "too-big", "unreachable", "expired"]


class Sighted(NamedTuple):
    """A packet at a tap, and the way it goes."""

    stop: Stop
    direction: Direction
    packet: Packet


Trail = Sequence[Sighted]  # one packet, wherever it was seen, in the order of time


class Trails:
    def __init__(self, found: Sequence[Sighted], fact: TraceFact, watch: Watch) -> None:
        self.fact, self.found = fact, found
        self.flow = Flow.of(watch)
        self.ways: dict[Direction, tuple[Stop, ...]] = {"forward": watch.forward, "reverse": watch.reverse}

    def closed(self) -> dict[tuple[int, int], int]:
        """When the asking host itself began to close each connection."""
        found: dict[tuple[int, int], int] = {}
        for one in self.found:
            t = one.packet.layer.transport
            if one.direction == "forward" and isinstance(t, Tcp) and t.flags & (FIN | RST):
                ports = talk(one)
                found[ports] = min(found.get(ports, moment(one)), moment(one))
        return found

    def trails(self) -> Iterator[tuple[Kind, Trail]]:
        """Each reset and each ICMP error of the flow, in the order of time."""
        by_piece: dict[tuple[Direction, Kind, same.Piece], list[Sighted]] = defaultdict(list)
        for one in (*self._resets(), *self.errors):
            by_piece[one.direction, kind_of(one.packet.layer), one.packet.sighting.pieces[0]].append(one)
        trails = [
            trail
            for (way, *_), them in by_piece.items()
            for trail in self._copies(self.ways[way], sorted(them, key=moment)[:MOST_ALIKE])
        ]
        for trail in sorted(trails, key=lambda x: moment(x[0]))[:MOST_TRAILS]:
            yield kind_of(trail[0].packet.layer), trail

    def _copies(self, way: Sequence[Stop], them: Sequence[Sighted]) -> list[list[Sighted]]:
        """Packets that are alike, apart: two may have made the very same reset (of one connection, without a number of
        its own). Each sighting belongs to the copy that is next before that point; none there, it is a new one."""
        places = {stop: n for n, stop in enumerate(way)}
        found: list[list[Sighted]] = []
        for one in sorted(them, key=lambda x: self._order(x, way)):
            here = places.get(one.stop, len(way))
            able = [
                x for x in found[-MOST_OPEN:] if all(y.stop != one.stop and places.get(y.stop, -1) < here for y in x)
            ]
            mine = max(able, key=lambda x: max(places.get(y.stop, -1) for y in x), default=None)  # the oldest of those
            if mine is None:
                found.append([one])
            else:
                mine.append(one)
        return found

    def _order(self, one: Sighted, way: Sequence[Stop]) -> tuple[int, ...]:
        """Earlier first. Several points may tell the same moment: as soon as anybody on this machine wants stamps
        (SO_TIMESTAMP: ping, chrony), each packet gets one where it comes in, and keeps it while it is unwrapped and
        handed up (net_timestamp_check()). It loses headers there, never gains any; else the way knows, or the way back
        does."""
        seen = self.fact.seen[one.packet.number]
        back = self.ways[OTHER_WAY[one.direction]]
        place = way.index(one.stop) if one.stop in way else len(way)
        mirrored = Stop(one.stop.tap, not one.stop.out)
        return (
            moment(one),
            -seen.length - (0 if seen.vlan is None else TAG),
            place,
            -(back.index(mirrored) if mirrored in back else -1),
        )

    def _resets(self) -> Iterator[Sighted]:
        for one in self.found:
            t = one.packet.layer.transport
            if isinstance(t, Tcp) and t.flags & RST:
                yield one

    @cached_property
    def errors(self) -> list[Sighted]:
        """ICMP errors that quote a packet of the flow: from whomever, to one of its hosts."""
        return list(self._errors())

    def _errors(self) -> Iterator[Sighted]:
        for one, t in self._icmp:
            about = self.about(t.quoted) if is_error(one.packet.layer.ip.family, t.type) else None
            if about is not None:
                yield one._replace(direction=OTHER_WAY[about])

    @cached_property
    def _icmp(self) -> list[tuple[Sighted, Icmp]]:
        """All ICMP there is; which way an error goes, what it quotes will tell."""
        found: list[tuple[Sighted, Icmp]] = []
        for number, seen in enumerate(self.fact.seen):
            if seen.time <= self.fact.armed or not _may_be_icmp(seen.data, raw := self.fact.taps[seen.tap].raw):
                continue
            layers = self.flow.layers(seen.data, raw=raw)
            layer = layers[-1] if layers else None
            if layer is None or not isinstance(layer.transport, Icmp):
                continue
            cut = same.pieces(seen.data, layer, seen.length)
            packet = Packet(Sighting(0, seen.time, number, cut), layer, layer.ip.size or seen.length, number)
            way: Direction = "forward" if layer.ip.dst == self.flow.target else "reverse"
            found.append((Sighted(Stop(seen.tap, seen.out), way, packet), layer.transport))
        return found

    @cached_property
    def others(self) -> list[Sighted]:
        """What was seen of the flow, and the echoes between its hosts."""
        hosts = self.flow.hosts
        known = {x.packet.number for x in self.found}
        echoes = [x for x, t in self._icmp if t.type in ECHOES and x.packet.number not in known]
        return [*self.found, *(x for x in echoes if hosts.issuperset((x.packet.layer.ip.src, x.packet.layer.ip.dst)))]

    def about(self, quoted: bytes) -> Direction | None:
        """Which way a quoted packet went, when it is one of the flow."""
        ip = parse_ip(quoted)
        if ip is None or ip.src not in self.flow.hosts or ip.dst not in self.flow.hosts:
            return None
        ports = parse_ports(quoted, ip.at) if ip.protocol in (TCP, UDP) else None
        if ports is not None and self.flow.ports:
            to, back = ports[1] in self.flow.ports, ports[0] in self.flow.ports
            return ("forward" if to else "reverse") if to != back else None
        return "forward" if ip.dst == self.flow.target else "reverse" if ip.src == self.flow.target else None

    @cached_property
    def _questions(self) -> dict[tuple[Direction, int], list[Sighted]]:
        """Packets by their way and by what an answer may name: the number behind them, or the one they begin with."""
        found: dict[tuple[Direction, int], list[Sighted]] = defaultdict(list)
        for one in self.found:
            t = one.packet.layer.transport
            if isinstance(t, Tcp) and not t.flags & RST:
                for key in {one.packet.until, t.seq}:
                    found[one.direction, key].append(one)
        return found

    @cached_property
    def _alike(self) -> dict[tuple[Direction, int, int], list[Sighted]]:
        """Packets by their way, protocol and the low bits of the number that :func:`_is` compares: there may be a
        hundred thousand, and each of hundreds of errors is about one of them."""
        found: dict[tuple[Direction, int, int], list[Sighted]] = defaultdict(list)
        for one in self.others:
            mine = one.packet.layer.which
            if mine is not None:
                found[one.direction, mine.protocol, mine.number & 0xFFFF].append(one)
        return found

    def asked(self, first: Sighted) -> Trail:
        """The packet that was answered, wherever it was seen until then; empty when it was not."""
        way, t = OTHER_WAY[first.direction], first.packet.layer.transport
        if isinstance(t, Tcp):
            near = self._questions.get((way, t.ack), []) if t.flags & ACK else self._acknowledging.get((way, t.seq), [])
            near = [x for x in near if x.packet.until == t.ack] if t.flags & ACK else near
        elif isinstance(t, Icmp):
            ip, about = parse_ip(t.quoted), which(t.quoted)
            near = self._alike.get((way, about.protocol, about.number & 0xFFFF), []) if about is not None else []
            near = [x for x in near if ip is not None and about is not None and _is(x.packet.layer, ip, about.number)]
            near = [x for x in near if ip is not None and x.packet.size == ip.size] or near
        else:
            near = []
        near = sorted((x for x in near if moment(x) <= moment(first)), key=moment)
        if not near:
            return ()
        pieces = set(near[-1].packet.sighting.pieces)
        copies = self._copies(
            self.ways[way], [x for x in near if pieces.intersection(x.packet.sighting.pieces)][-MOST_ALIKE:]
        )
        here = [x for x in copies if self.space(x[-1].stop) == self.space(first.stop)]
        return max(here or copies, key=lambda x: moment(x[-1]))

    @cached_property
    def _acknowledging(self) -> dict[tuple[Direction, int], list[Sighted]]:
        """A reset without ACK bears the number that was acknowledged (RFC 9293 section 3.10.7.1)."""
        found: dict[tuple[Direction, int], list[Sighted]] = defaultdict(list)
        for one in self.found:
            t = one.packet.layer.transport
            if isinstance(t, Tcp) and t.flags & ACK and not t.flags & RST:
                found[one.direction, t.ack].append(one)
        return found

    def space(self, stop: Stop) -> str:
        """The id of the namespace that a point is in."""
        return self.fact.taps[stop.tap].netns


def moment(one: Sighted) -> int:
    return one.packet.sighting.time


def talk(one: Sighted) -> tuple[int, int]:
    """The ports of a connection, the asking host's first."""
    t = one.packet.layer.transport
    if not isinstance(t, Tcp):
        return 0, 0
    return (t.sport, t.dport) if one.direction == "forward" else (t.dport, t.sport)


def kind_of(layer: Layer) -> Kind:
    """What a reset or an ICMP error says."""
    t = layer.transport
    if not isinstance(t, Icmp):
        return "reset"
    if t.mtu is not None:
        return "too-big"
    return "expired" if t.type == (11 if layer.ip.family == 4 else 3) else "unreachable"


def _is(layer: Layer, quoted: Ip, number: int) -> bool:
    """Is it the quoted packet? Of an echo translation leaves its sequence number, not its identifier."""
    mine = layer.which
    if mine is None or mine.protocol != quoted.protocol or (quoted.family == 4 and layer.ip.ident != quoted.ident):
        return False
    return mine.number == number or (isinstance(layer.transport, Icmp) and (mine.number ^ number) & 0xFFFF == 0)


def _may_be_icmp(data: bytes, raw: bool) -> bool:
    """Cheap, and never wrong about what it leaves out: plain segments of TCP, which most frames are."""
    at = 0 if raw else 14
    if not raw and data[12:14] not in (b"\x08\x00", b"\x86\xdd"):
        return True  # a tag in front
    if len(data) <= at + 9:
        return False
    return data[at + (6 if data[at] >> 4 == 6 else 9)] != TCP
