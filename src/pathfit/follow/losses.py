"""What was lost between which points, and why: the kernel's word on a packet belongs to where that packet was last.

The same bytes pass often (retransmissions, oversize segments of a search), so a drop is given to the one sighting that
stands right before it in time, at whatever point that was. A tunnel may turn a packet that is too large into its own
answer ("too big") without dropping anything: then no event tells of it, but the answer is seen.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.core.report import Report
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.tracing import Dropped, Rule, inode, unnamed
from pathfit.follow import ruled, silenced
from pathfit.follow.seen import EARLY, IN_FLIGHT, Flow, Packet, Way, complaint
from pathfit.follow.trails import Trails
from pathfit.model import ladder, same
from pathfit.model.counted import SLACK
from pathfit.model.network import Net, Network
from pathfit.model.same import Key
from pathfit.wire import dissect
from pathfit.wire.dissect import Layer
from pathfit.wire.packets import SYN, Icmp, Tcp, parse_ip, parse_ports

LEARNT = {"too-big": "above-path-mtu", "outer-too-big": "outer-above-path-mtu"}
BRIDGE_NF = "br_nf_dev_queue_xmit"  # which lets pass what a port's MTU says, and no more
COPIES = 128  # equal packets, or places of one, that a drop is compared with: the last ones before it
ANSWERED = 20_000_000  # nanoseconds in which an answer belongs to what was sent
NO_LOSS = frozenset(("closed", "unknown"))  # behind the last point: it has arrived, or may have


class Placed(NamedTuple):
    """A drop and the sighting that it ended."""

    drop: Dropped
    way: Way
    packet: Packet


class Answer(NamedTuple):
    """ "Too big", where it was seen first: what it quotes tells which packet it is about. ``source``: who said it."""

    time: int
    mtu: int
    at: Point
    quoted: tuple[object, ...]
    source: bytes


def losses_of(
    ways: Sequence[Way],
    fact: TraceFact,
    flow: Flow,
    network: Network | None,
    report: Report,
    after: HostSnapshot | None = None,
    trails: Trails | None = None,
) -> tuple[Loss, ...]:
    """Every place where packets were lost, in the order of the way out, then of the way in. ``after``: packet filters
    as they were read afterwards; ``trails``: resets and ICMP errors of the flow."""
    # What was dropped before all taps were open (of a connection from before, say) has been seen by none of them.
    fact = replace(fact, dropped=tuple(x for x in fact.dropped if x.time > fact.armed + EARLY))
    said = ruled.verdicts(fact, network, after)
    answers = list(_answers(fact))
    causes = _Causes(network, report, answers, said.rules)
    fact = replace(fact, dropped=said.dropped)
    placed = [*_placed(ways, fact, causes), *(Placed(*x) for x in ruled.placed(ways, fact, said))]
    fact = replace(fact, dropped=(*said.dropped, *said.alone))
    told = silenced.gone(trails, ways, fact, network, causes) if trails is not None else []
    found: list[Loss] = []
    for way in ways:
        complaints = {p.number for p in way.packets if p.complains}
        found += _before(way, fact, flow, placed, causes)
        found += _never_came(way, fact) if way.packets else ()
        by_point: dict[int, list[ladder.Loss]] = defaultdict(list)
        for loss in way.result.lost:
            if loss.sighting.number not in complaints:
                by_point[loss.last].append(loss)
        for point, losses in sorted(by_point.items()):
            found.append(_between(way, point, losses, placed, answers, fact, causes))
        found += _behind(way, placed, fact, causes)
    if told:
        quoted = {p.number: silenced.of_packet(p.layer) for way in ways for p in way.packets}
        found = [silenced.beside(x, {quoted[n] for n in x.numbers if n in quoted}, told, causes) for x in found]
        found += silenced.losses(told, causes)
    return tuple(found)


# -- which sighting a drop ended -------------------------------------------------------------------------------------


def _placed(ways: Sequence[Way], fact: TraceFact, causes: "_Causes") -> Iterator[Placed]:
    by_key: dict[Key, list[tuple[Way, Packet]]] = defaultdict(list)
    for way in ways:
        for packet in way.packets:
            for key in {p.key for p in packet.sighting.pieces}:
                by_key[key].append((way, packet))
    for them in by_key.values():
        them.sort(key=_time)  # of thousands the last that fits is soon found from behind
    furthest = {id(way): _furthest(way, fact) for way in ways}
    gone = _gone(ways)

    def fits(way: Way, packet: Packet, drop: Dropped, size: int, cut: Sequence[same.Piece]) -> bool:
        at = packet.sighting.point
        return (
            size <= packet.size
            and at <= furthest[id(way)].get(drop.netns, at)
            and same.share(cut, packet.sighting.pieces)
        )

    for drop in fact.dropped:
        inner = dissect.packet(drop.data).inner
        if inner is None or causes.foreign(drop):
            continue
        cut = same.pieces(drop.data, inner, drop.length)
        size = inner.ip.size or drop.length
        near: list[tuple[Way, Packet]] = []
        for key in {x.key for x in cut}:
            them = by_key.get(key, [])
            before = (them[n] for n in reversed(range(bisect_right(them, drop.time + EARLY, key=_time))))
            near += islice((x for x in before if fits(*x, drop, size, cut) and _like(inner, x[1])), COPIES)
        ended = [x for x in near if _ends_there(*x, gone)]
        if near:
            yield Placed(drop, *max(ended or near, key=lambda x: (_just_it(x[1], drop, size), _time(x))))


def _just_it(packet: Packet, drop: Dropped, size: int) -> bool:
    """As long as the dropped one, and seen at that very moment: what shares its bytes and came a little later, within
    what the clocks differ by, is another one."""
    return packet.size == size and abs(drop.time - packet.sighting.time) <= EARLY


def _time(x: tuple[Way, Packet]) -> int:
    return x[1].sighting.time


def _gone(ways: Sequence[Way]) -> dict[tuple[int, int], same.Spans]:
    """What was lost behind each point of each way."""
    found: dict[tuple[int, int], list[ladder.Loss]] = defaultdict(list)
    for way in ways:
        for loss in way.result.lost:
            found[id(way), loss.last].append(loss)
    return {at: same.spans(losses) for at, losses in found.items()}


def _ends_there(way: Way, packet: Packet, gone: Mapping[tuple[int, int], same.Spans]) -> bool:
    """Was something of this packet seen less often behind its point, or is there no point behind it?"""
    at = packet.sighting.point
    return at == len(way.stops) - 1 or same.meet(packet.sighting.pieces, gone.get((id(way), at), {}))


def _furthest(way: Way, fact: TraceFact) -> dict[int, int]:
    """The last point in each namespace (by its inode): what was dropped there came no further, though another copy of
    the same bytes may have, within what the two clocks differ by."""
    return {inode(fact.taps[stop.tap].netns): n for n, stop in enumerate(way.stops)}


def _like(dropped: Layer, packet: Packet) -> bool:
    """Datagrams are known by a number of 16 bits, which others have as well: whole ones are as long as each other."""
    cut = [x.ip.more or x.ip.fragment or isinstance(x.transport, Tcp) for x in (dropped, packet.layer)]
    return any(cut) or dropped.ip.size == packet.layer.ip.size


def _answers(fact: TraceFact) -> Iterator[Answer]:
    """Each "too big" that passed a tap."""
    for seen in fact.seen:
        if not seen.data:  # left out, and perhaps all taps with it
            continue
        raw = fact.taps[seen.tap].raw
        inner = (dissect.packet if raw else dissect.frame)(seen.data).inner
        if inner is not None and isinstance(inner.transport, Icmp) and inner.transport.mtu:
            quoted = _identity(inner.transport.quoted)
            if quoted is not None:
                yield Answer(seen.time, inner.transport.mtu, fact.taps[seen.tap].at, quoted, inner.ip.src)


def _identity(packet: bytes) -> tuple[object, ...] | None:
    """What of a quoted packet tells which one it was: NAT may have changed the rest."""
    ip = parse_ip(packet)
    ports = parse_ports(packet, ip.at) if ip is not None else None
    return (ip.family, ip.protocol, ports[2]) if ip is not None and ports is not None else None


# -- losses ----------------------------------------------------------------------------------------------------------


def _before(way: Way, fact: TraceFact, flow: Flow, placed: Sequence[Placed], causes: "_Causes") -> Iterator[Loss]:
    """Drops in front of the first device there is: of packets of which no point saw anything. Those in namespaces that
    it does not pass are of somebody else, with the same addresses."""
    gone: list[tuple[Dropped, int]] = []
    # Where packets are seen, one that is not may have been lost by the tap itself, or come when nobody looked any more.
    if way.packets and (fact.cut or way.stops[0].tap in {x.tap for x in fact.lost}):
        return
    until = fact.ended if way.packets else None
    followed = {id(x.drop) for x in placed}
    where = _senders(way, fact)
    for drop in fact.dropped:
        if causes.foreign(drop) or (causes.knows(drop.netns) and not causes.of_the_way(drop, fact)):
            continue
        layer = flow.packet(drop.data, raw=True)
        here = where is None or drop.netns in where or not (drop.netns or way.packets)
        here = here and (until is None or drop.time <= until)
        mine = layer is not None and flow.goes(layer) == way.direction and here
        mine = mine and not (layer is not None and complaint(layer))
        if layer is not None and mine and id(drop) not in followed and not _taken_back(drop, way):
            gone.append((drop, layer.ip.size or drop.length))
    if gone:
        yield Loss(
            direction=way.direction,
            after=None,
            before=None,
            packets=len(gone),
            smallest=min(size for _, size in gone),
            largest=max(size for _, size in gone),
            causes=causes.of(drop for drop, _ in gone),
        )


def _taken_back(drop: Dropped, way: Way) -> bool:
    """No loss, or a packet for which the sender's own kernel has learned a smaller size meanwhile: its socket is told,
    and cuts again."""
    return drop.word in NO_LOSS or (drop.word == "too-big" and bool(way.stops) and way.stops[0].out)


def _senders(way: Way, fact: TraceFact) -> frozenset[int] | None:
    """The namespaces (inodes) in which packets may be lost before the first point; None: anywhere. The same addresses
    may be in use elsewhere on the machine, between others."""
    if way.stops and way.stops[0].tap not in fact.opened:
        return None
    if way.stops and (way.stops[0].out or way.packets):
        first = fact.taps[way.stops[0].tap]
        return frozenset((inode(first.netns),)) if way.stops[0].out else frozenset()
    return frozenset(inode(tap.netns) for tap in fact.taps) or None if not way.stops else None


def _never_came(way: Way, fact: TraceFact) -> Iterator[Loss]:
    """Bytes that came at no point of ours, though later ones of their connection did: lost before the first point.

    Not where that point is the sender's own device: all that it sends passes there.
    """
    if not way.stops or way.stops[0].out or way.stops[0].tap in {x.tap for x in fact.lost}:
        return
    gaps: list[int] = []
    for segments in _connections(way).values():
        reached = min(start for start, _, _ in segments)
        for start, end, time in sorted(segments):
            if start > reached and time <= fact.ended - IN_FLIGHT:
                gaps.append(start - reached)
            reached = max(reached, end)
    if gaps:
        before = fact.taps[way.stops[0].tap].at
        passed = max(p.size for p in way.packets if p.sighting.point == 0)
        yield Loss(
            direction=way.direction, after=None, before=before, packets=len(gaps), missing=sum(gaps), passed=passed
        )


def _connections(way: Way) -> dict[tuple[int, int, int], list[tuple[int, int, int]]]:
    """(first byte, behind the last one, time) of each segment that came to the first point, by ports and by the SYN it
    came after (who has given up begins anew, elsewhere among the numbers); a SYN's number is the byte before the first.
    """
    found: dict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    begun: dict[tuple[int, int], int] = {}
    for p in sorted(way.packets, key=lambda p: p.sighting.time):
        t = p.layer.transport
        size = p.size - (p.layer.payload - p.layer.at)
        if p.sighting.point or not isinstance(t, Tcp):
            continue
        if t.flags & SYN:
            begun[t.sport, t.dport] = t.seq
        size += bool(t.flags & SYN)
        if size > 0 and t.seq + size < same.WRAP:
            number = begun.get((t.sport, t.dport), 0)
            found[t.sport, t.dport, number].append((t.seq, t.seq + size, p.sighting.time))
    return found


def _between(
    way: Way,
    point: int,
    losses: Sequence[ladder.Loss],
    placed: Sequence[Placed],
    answers: Sequence[Answer],
    fact: TraceFact,
    causes: "_Causes",
) -> Loss:
    """What was seen at ``point`` and not at the next one."""
    lost = {x.sighting.number for x in losses}
    gone = [p for p in way.packets if p.number in lost]
    spans = same.spans(losses)
    mine = [
        x.drop
        for x in placed
        if x.way is way and x.packet.sighting.point == point and same.meet(x.packet.sighting.pieces, spans)
    ]
    why = causes.of(mine)
    here = fact.taps[way.stops[point].tap].at
    return Loss(
        direction=way.direction,
        after=here,
        before=fact.taps[way.stops[point + 1].tap].at,
        packets=len(gone),
        smallest=min(p.size for p in gone),
        largest=max(p.size for p in gone),
        passed=max((p.size for p in way.packets if p.sighting.point == point + 1 and p.part != "broken"), default=0),
        causes=why or tuple(_answered(gone, answers)),
        numbers=tuple(p.number for p in gone),
    )


def _answered(gone: Sequence[Packet], answers: Sequence[Answer]) -> Iterator[Cause]:
    """Nobody told of a drop: somebody took the packet and answered it, a tunnel in the name of its far end or a router
    in its own."""
    found: Counter[tuple[bool, int, Point]] = Counter()
    by_packet: dict[tuple[object, ...], list[Answer]] = defaultdict(list)
    for a in answers:
        by_packet[a.quoted].append(a)
    for p in gone:
        t = p.layer.transport
        seq = getattr(t, "seq", None)
        mine = (p.layer.ip.family, p.layer.ip.protocol, seq)
        said = [a for a in by_packet.get(mine, ()) if 0 <= a.time - p.sighting.time <= ANSWERED and a.mtu < p.size]
        if said:
            first = min(said, key=lambda a: a.time)
            found[first.source == p.layer.ip.dst, first.mtu, first.at] += 1
    for (far, mtu, at), count in found.most_common():
        word, limit = ("answered", "tunnel") if far else ("answered-by-router", "egress")
        yield Cause(word=word, at=at, limit=limit, mtu=mtu, most=mtu, told=True, count=count)


def _behind(way: Way, placed: Sequence[Placed], fact: TraceFact, causes: "_Causes") -> Iterator[Loss]:
    """Drops behind the last point: where the prediction saw the way end, there is no tap to miss anything."""
    end = len(way.stops) - 1
    last = [x for x in placed if x.way is way and x.packet.sighting.point == end and x.drop.word not in NO_LOSS]
    last = [x for x in last if not x.packet.complains]
    if not last:
        return
    gone = {x.packet.number: x.packet.size for x in last}
    yield Loss(
        direction=way.direction,
        after=fact.taps[way.stops[end].tap].at,
        before=None,
        packets=len(gone),
        smallest=min(gone.values()),
        largest=max(gone.values()),
        causes=causes.of([x.drop for x in last]),
        numbers=tuple(gone),
    )


# -- causes ----------------------------------------------------------------------------------------------------------


def _worded(cause: Cause) -> Cause:
    """Where the device would have taken it, and what its route says or has learnt is not known."""
    return replace(cause, word=LEARNT[cause.word]) if cause.mtu is None and cause.word in LEARNT else cause


class _Causes:
    """Drops in words of the snapshot."""

    def __init__(
        self, network: Network | None, report: Report, answers: Sequence[Answer], rules: Mapping[Dropped, Rule]
    ) -> None:
        self.network, self.host, self.answers, self.rules = network, report.host, answers, rules
        ways = [path for path in (report.forward, report.reverse) if path is not None]
        self._places = {hop.where.netns for path in ways for hop in path.hops}
        # Of a way in that is not known, because the way out ends before it, the way out says how far we see.
        self._whole = bool(ways) and all(path.ends is None for path in ways)
        self._limits = [limit for path in ways for limit in path.limits if limit.kind in ("route", "cached")]

    def of(self, drops: Iterable[Dropped]) -> tuple[Cause, ...]:
        """The different ones, the most frequent first, but a rule before "a packet filter": not all packets are asked
        about."""
        counted = Counter(map(self._cause, drops))
        sized = {replace(cause, mtu=None, most=None): cause for cause in counted if cause.mtu is not None}
        for cause in [c for c in counted if c in sized]:  # the last, short segment of a burst shares its fate
            counted[sized[cause]] += counted.pop(cause)
        seen = {(c.rule, c.at.netns) for c in counted if c.by == "event"}
        for cause in [c for c in counted if c.by == "rule" and (c.rule, c.at.netns) in seen]:
            del counted[cause]  # the kernel tells of that rule's drops; one more or less is no other cause
        nameless = any(cause.rule is not None for cause in counted)
        order = sorted(counted.items(), key=lambda x: (nameless and x[0].word == "filtered" and not x[0].rule, -x[1]))
        return tuple(replace(_worded(cause), count=n) for cause, n in order)

    def _cause(self, drop: Dropped) -> Cause:
        device, number = drop.device, drop.netns
        if drop.limit in ("egress", "underlay"):
            device, number = drop.egress, drop.egress_netns
        place = self._place(number)
        mtu = self._mtu(drop, number, device)
        filtered = any(name.startswith(BRIDGE_NF) for name in (drop.function, *drop.callers))
        roomy = SLACK if drop.limit in ("peer", "port") and not filtered else 0
        return Cause(
            word=drop.word,
            at=Point(host=self.host, netns=place, link=device or None),
            limit=drop.limit,
            mtu=mtu,
            most=mtu + roomy if mtu is not None else None,
            reason=drop.reason,
            function=drop.function,
            told=drop.told,
            by="event" if drop.reason else "rule",
            rule=self.rules.get(drop),
        )

    def foreign(self, drop: Dropped) -> bool:
        """The kernel tells of every namespace, and elsewhere the same addresses are somebody else's: where all of the
        way is seen, it is in none that we do not know."""
        return self._whole and not self.knows(drop.netns)

    def knows(self, number: int) -> bool:
        """Is it one of the namespaces that were read? 0, no device, is not known not to be."""
        return not number or self._net(number) is not None

    def of_the_way(self, drop: Dropped, fact: TraceFact) -> bool:
        """Was it in a namespace that the flow is predicted to pass? 0, no device, is not known not to be."""
        return not drop.netns or self._place(drop.netns) in {*self._places, *(tap.at.netns for tap in fact.taps)}

    def _net(self, number: int) -> Net | None:
        nets = self.network.nets.values() if self.network is not None else ()
        return next((n for n in nets if inode(n.snap.id) == number), None)

    def _place(self, number: int) -> str:
        net = self._net(number)
        return net.snap.where if net is not None else unnamed(number)

    def _at(self, point: Point) -> tuple[int, str | None]:
        """A point as drops name it: the inode of its namespace, and the device."""
        net = self.network.at(point) if self.network is not None else None
        return (inode(net.snap.id) if net is not None else 0, point.link)

    def _answer(self, drop: Dropped) -> int | None:
        """What the sender of this packet was told, where that passed a tap."""
        mine = _identity(drop.data)
        near = [a for a in self.answers if a.quoted == mine and -EARLY <= a.time - drop.time <= ANSWERED]
        return min(near, key=lambda a: a.time).mtu if near else None

    def _mtu(self, drop: Dropped, number: int, device: str) -> int | None:
        """The MTU that decided: told by the kernel with the drop, else that of the snapshot."""
        if drop.limit in ("egress", "underlay"):
            lower = {x.mtu for x in self._limits if x.mtu < drop.egress_mtu and self._at(x.at) == (number, device)}
            if lower:  # what a route or a cached path MTU allows; the event only has the device
                return lower.pop() if len(lower) == 1 else None
            return drop.egress_mtu if drop.length > drop.egress_mtu else self._answer(drop)
        if self.network is None or not drop.limit:
            return None
        net = self._net(number)
        link = net.names.get(device) if net is not None else None
        if net is None or link is None:
            return None
        other = self.network.peer(net, link) if drop.limit == "peer" else (net, link)
        return other[1].mtu if other is not None else None
