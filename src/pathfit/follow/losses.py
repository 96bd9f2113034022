"""What was lost between which points, and why: the kernel's word on a packet belongs to where that packet was last.

Which packet that was, :mod:`~pathfit.follow.ended` tells. A tunnel may turn a packet that is too large into its own
answer ("too big") without dropping anything: then no event tells of it, but the answer is seen.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.core.path import Limit
from pathfit.core.report import Report
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.tracing import Dropped, Rule, inode, unnamed
from pathfit.follow import ruled, silenced
from pathfit.follow.ended import Placed, placed_on
from pathfit.follow.seen import EARLY, IN_FLIGHT, Flow, Packet, Way, complaint, used
from pathfit.follow.trails import Trails
from pathfit.model import ladder, same
from pathfit.model.counted import SLACK
from pathfit.model.dropped import by_bridge_nf
from pathfit.model.network import Net, Network
from pathfit.wire import dissect
from pathfit.wire.packets import SYN, Icmp, Tcp, Which, which

LEARNT = {"too-big": "above-path-mtu", "outer-too-big": "outer-above-path-mtu"}
ANSWERED = 20_000_000  # nanoseconds in which an answer belongs to what was sent
HOOK = 4  # callers that tell one hook of a packet filter from another
NO_LOSS = frozenset(("closed", "unknown"))  # behind the last point: it has arrived, or may have


class Answer(NamedTuple):
    """ "Too big", where it was seen first: what it quotes tells which packet it is about. ``source``: who said it."""

    time: int
    mtu: int
    at: Point
    quoted: Which
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
    ways = [way for pair in used(ways) for way in pair]
    # What was dropped before all taps were open (of a connection from before, say) has been seen by none of them.
    fact = replace(fact, dropped=tuple(x for x in fact.dropped if x.time > fact.armed + EARLY))
    said = ruled.verdicts(fact, network, after)
    answers = list(_answers(fact))
    drawn = [limit for way in ways if way.branch is not None for limit in way.branch.limits]
    causes = _Causes(network, report, answers, said.rules, drawn, fact.filters.since)
    causes.whole |= all(way.branch is not None and way.branch.ends == (None, None) for way in ways)
    fact = replace(fact, dropped=said.dropped)
    placed = [*placed_on(ways, fact, causes.foreign), *(Placed(*x) for x in ruled.placed(ways, fact, said))]
    fact = replace(fact, dropped=(*said.dropped, *said.alone))
    told = silenced.gone(trails, ways, fact, network, causes) if trails is not None else []
    found: list[Loss] = []
    followed = {id(x.drop) for x in placed}
    for way in ways:
        complaints = {p.number for p in way.packets if p.complains}
        mine: list[Loss] = []
        # What went to none of several is told of by the ways to those: this one ends where the choice is made.
        if way.branch is not None or len(ways) == 2:
            mine += _before(way, fact, flow, followed, causes)
        mine += _never_came(way, fact) if way.packets else ()
        by_point: dict[int, list[ladder.Loss]] = defaultdict(list)
        for loss in way.result.lost:
            if loss.sighting.number not in complaints:
                by_point[loss.last].append(loss)
        for point, losses in sorted(by_point.items()):
            mine.append(_between(way, point, losses, placed, answers, fact, causes))
        mine += _behind(way, placed, fact, causes)
        found += [replace(x, end=way.end) if way.branch is not None else x for x in mine]
    if told:
        seen = {p.number: one for way in ways for p in way.packets if (one := p.layer.which) is not None}
        found = [silenced.beside(x, {seen[n] for n in x.numbers if n in seen}, told, causes) for x in found]
        ends = {way.end for way in ways}
        found += [x if x.end in ends else replace(x, end=ways[0].end) for x in silenced.losses(told, causes)]
    return tuple(found)


# -- what was answered ----------------------------------------------------------------------------------------------


def _answers(fact: TraceFact) -> Iterator[Answer]:
    """Each "too big" that passed a tap."""
    for seen in fact.seen:
        if not seen.data:  # left out, and perhaps all taps with it
            continue
        raw = fact.taps[seen.tap].raw
        inner = (dissect.packet if raw else dissect.frame)(seen.data).inner
        if inner is not None and isinstance(inner.transport, Icmp) and inner.transport.mtu:
            quoted = which(inner.transport.quoted)
            if quoted is not None:
                yield Answer(seen.time, inner.transport.mtu, fact.taps[seen.tap].at, quoted, inner.ip.src)


# -- losses ----------------------------------------------------------------------------------------------------------


def _before(way: Way, fact: TraceFact, flow: Flow, followed: set[int], causes: "_Causes") -> Iterator[Loss]:
    """Drops in front of the first device there is: of packets of which no point saw anything. Those in namespaces that
    it does not pass are of somebody else, with the same addresses. ``followed``: drops (by id) that are told of, to
    which these are added: the ways to several begin alike."""
    gone: list[tuple[Dropped, int]] = []
    # Where packets are seen, one that is not may have been lost by the tap itself, or come when nobody looked any more.
    if way.packets and (fact.cut or way.stops[0].tap in {x.tap for x in fact.lost}):
        return
    until = fact.ended if way.packets else None
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
    followed.update(id(drop) for drop, _ in gone)
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
        if p.sighting.point or not isinstance(t, Tcp):
            continue
        if t.flags & SYN:
            begun[t.sport, t.dport] = t.seq
        size = p.bears + bool(t.flags & SYN)
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
        causes=why or tuple(_answered(gone, answers, causes.addresses(here))),
        numbers=tuple(p.number for p in gone),
    )


def _answered(gone: Sequence[Packet], answers: Sequence[Answer], own: Collection[bytes]) -> Iterator[Cause]:
    """Nobody told of a drop: somebody took the packet and answered it, a tunnel in the name of its far end or a router
    in its own (``own``: addresses of who saw it last: of a translator, packets may be for one of them)."""
    found: Counter[tuple[bool, int, Point]] = Counter()
    by_packet: dict[Which | None, list[Answer]] = defaultdict(list)
    for a in answers:
        by_packet[a.quoted].append(a)
    for p in gone:
        mine = by_packet.get(p.layer.which, ())
        said = [a for a in mine if 0 <= a.time - p.sighting.time <= ANSWERED and a.mtu < p.size]
        if said:
            first = min(said, key=lambda a: a.time)
            found[first.source == p.layer.ip.dst and first.source not in own, first.mtu, first.at] += 1
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


def _alike(drop: Dropped) -> tuple[object, ...]:
    """What those have in common that ended at the same place in the kernel, and are one kind of packet."""
    return drop.netns, drop.device, drop.function, drop.callers[:HOOK], *_kind(drop)


def _kind(drop: Dropped) -> tuple[object, ...]:
    layer = next(iter(dissect.packet(drop.data).layers), None)
    t = layer.transport if layer is not None else None
    return (layer.ip.protocol if layer is not None else 0, t.flags & SYN if isinstance(t, Tcp) else 0)


class _Causes:
    """Drops in words of the snapshot."""

    def __init__(
        self,
        network: Network | None,
        report: Report,
        answers: Sequence[Answer],
        rules: Mapping[Dropped, Rule],
        drawn: Sequence[Limit] = (),
        since: int = 0,
    ) -> None:
        """``since``: when rules were asked."""
        self.network, self.host, self.answers, self.rules, self.since = network, report.host, answers, rules, since
        ways = [path for path in (report.forward, report.reverse) if path is not None]
        self._places = {hop.where.netns for path in ways for hop in path.hops}
        # Of a way in that is not known, because the way out ends before it, the way out says how far we see.
        self.whole = bool(ways) and all(path.ends is None for path in ways)
        self._limits = [limit for path in ways for limit in path.limits if limit.kind in ("route", "cached")]
        self._limits += drawn

    def of(self, drops: Iterable[Dropped]) -> tuple[Cause, ...]:
        """The different ones, each with as many events as the kernel told of it; the most frequent first, but a rule
        before "a packet filter": not all packets are asked about."""
        counted = Counter(map(self._cause, self._asked(list(drops))))
        sized = {replace(cause, mtu=None, most=None): cause for cause in counted if cause.mtu is not None}
        for cause in [c for c in counted if c in sized]:  # the last, short segment of a burst shares its fate
            counted[sized[cause]] += counted.pop(cause)
        seen = {(c.rule, c.at.netns) for c in counted if c.by == "event"}
        for cause in [c for c in counted if c.by == "rule" and (c.rule, c.at.netns) in seen]:
            del counted[cause]  # the kernel tells of that rule's drops; one more or less is no other cause
        nameless = any(cause.rule is not None for cause in counted)
        order = sorted(counted.items(), key=lambda x: (nameless and x[0].word == "filtered" and not x[0].rule, -x[1]))
        return tuple(replace(_worded(cause), count=n) for cause, n in order)

    def _asked(self, drops: Sequence[Dropped]) -> Iterator[Dropped]:
        """For what a packet filter dropped before its rules were asked, the like of it that a rule there then dropped:
        the largest that is no larger. A rule for sizes, the rule of a port or an address would have dropped both. Where
        several rules drop those, nobody knows which one it was."""
        named: dict[tuple[object, ...], dict[int, dict[Rule, Dropped]]] = defaultdict(lambda: defaultdict(dict))
        for x in drops:
            if x in self.rules:
                named[_alike(x)][x.length].setdefault(self.rules[x], x)
        for drop in drops:
            early = drop.time < self.since and drop.word == ruled.FILTERED and drop not in self.rules
            sizes = named.get(_alike(drop), {}) if named and early else {}
            like = list(sizes.get(max((n for n in sizes if n <= drop.length), default=0), {}).values())
            yield like[0] if len(like) == 1 else drop

    def _cause(self, drop: Dropped) -> Cause:
        device, number = drop.device, drop.netns
        if drop.limit in ("egress", "underlay"):
            device, number = drop.egress, drop.egress_netns
        place = self._place(number)
        mtu = self._mtu(drop, number, device)
        filtered = by_bridge_nf((drop.function, *drop.callers))
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
        return self.whole and not self.knows(drop.netns)

    def knows(self, number: int) -> bool:
        """Is it one of the namespaces that were read? 0, no device, is not known not to be."""
        return not number or self._net(number) is not None

    def of_the_way(self, drop: Dropped, fact: TraceFact) -> bool:
        """Was it in a namespace that the flow is predicted to pass? 0, no device, is not known not to be."""
        return not drop.netns or self._place(drop.netns) in {*self._places, *(tap.at.netns for tap in fact.taps)}

    def addresses(self, at: Point) -> frozenset[bytes]:
        """Those of the namespace of a point."""
        net = self.network.at(at) if self.network is not None else None
        return frozenset(dissect.packed(a.address) for a in net.snap.addresses) if net is not None else frozenset()

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
        mine = which(drop.data)
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
