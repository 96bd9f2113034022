"""ICMP errors of a flow that got lost on their way back: what was to be told, to whom, and what took it (pure).

Path MTU discovery rests on one message. Where it is made and does not arrive, what it was about is lost again and
again; so its own loss is one of the flow's, and the cause of the other. Nothing is said of an error that came to the
last point there is and was not dropped there, nor of one behind which a tap was blind.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Complaint, Loss, Row
from pathfit.core.net import Direction, Point, endpoint
from pathfit.core.tracing import Dropped, Stop
from pathfit.follow.ruled import HEARD
from pathfit.follow.seen import EARLY, IN_FLIGHT, Way, used
from pathfit.follow.trails import OTHER_WAY, Kind, Sighted, Trail, Trails, kind_of, moment
from pathfit.model import same
from pathfit.model.network import Network
from pathfit.wire import addresses, dissect
from pathfit.wire.dissect import Layer
from pathfit.wire.packets import ICMP, ICMPV6, TCP, UDP, Icmp, Which, is_error, parse_ip, parse_ports, which

SOON = 20_000_000  # nanoseconds from a point to where it is dropped
MOST_ROWS = 4  # of the ladder
UNTOLD = {"filtered": "untold-filtered", "kept": "untold-kept", "vanished": "untold-vanished"}
PROTOCOLS = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6"}


class Causes(Protocol):
    """Drops in words of the snapshot."""

    def of(self, drops: Iterable[Dropped]) -> tuple[Cause, ...]: ...
    def foreign(self, drop: Dropped) -> bool: ...


class Gone(NamedTuple):
    """An error that did not arrive. ``trail``: empty when no tap saw it; ``drop``: of it, where one was told of."""

    loss: Loss
    trail: Trail
    drop: Dropped | None
    about: Which | None


def gone(them: Trails, ways: Sequence[Way], fact: TraceFact, network: Network | None, causes: Causes) -> list[Gone]:
    """Each of them. ``fact.dropped``: with what rules alone tell of."""
    blind = set(range(len(fact.taps))) if fact.cut else {x.tap for x in fact.lost}
    blind |= set(range(len(fact.taps))) - set(fact.opened)
    drops = [x for x in _drops(fact) if not causes.foreign(x[0])]
    trails = [(kind, trail) for kind, trail in them.trails() if kind != "reset" and _ours(trail[0].packet.layer, them)]
    mine = _matched(drops, trails)
    homes = {p.number: way for way in ways for p in way.packets if p.complains}
    found: list[Gone] = []
    for n, (kind, trail) in enumerate(trails):
        home = homes.get(trail[-1].packet.number)
        near = [home] if home is not None and home.direction == trail[-1].direction else ways
        one = _ended(kind, trail, mine.get(n), near, fact, blind, network)
        found += [one] if one is not None else []
    seen = {p.key for one in them.errors for p in one.packet.sighting.pieces}
    for drop, layer, t in drops if not blind else ():  # then a tap may have missed it
        way = them.about(t.quoted) if _ours(layer, them) else None
        if way is not None and not _keys(drop, layer) & seen:
            loss = _loss(kind_of(layer), OTHER_WAY[way], layer, t, None, None)
            found.append(Gone(loss, (), drop, which(t.quoted)))
    return found


def _ours(layer: Layer, them: Trails) -> bool:
    """Not about an echo, where a service is asked for: another host may have answered, who has that address."""
    ip = parse_ip(layer.transport.quoted) if isinstance(layer.transport, Icmp) else None
    return not them.flow.ports or (ip is not None and ip.protocol in (TCP, UDP))


def losses(them: Sequence[Gone], causes: Causes) -> Iterator[Loss]:
    """Those that are alike as one."""
    alike: dict[tuple[object, ...], list[Gone]] = defaultdict(list)
    for one in them:
        x = one.loss
        error = replace(x.error, about="", largest=0) if x.error is not None else None
        alike[x.direction, x.end, x.after, x.before, error, x.causes, one.drop is None].append(one)
    for group in alike.values():
        first = group[0].loss
        why = causes.of(x.drop for x in group if x.drop is not None) or first.causes
        sizes = [x.loss.largest for x in group]
        largest = max(x.loss.error.largest for x in group if x.loss.error is not None)
        error = replace(first.error, largest=largest) if first.error is not None else None
        yield replace(
            first, packets=len(group), smallest=min(sizes), largest=max(sizes), causes=why, error=error,
            numbers=tuple(x.trail[-1].packet.number for x in group if x.trail),
        )  # fmt: skip


def beside(loss: Loss, about: set[Which], them: Sequence[Gone], causes: Causes) -> Loss:
    """The loss of packets (``about``: which) of which somebody was to be told, with what took the message as a cause
    behind its own."""
    mine = [x for x in them if x.loss.direction == OTHER_WAY[loss.direction] and x.about in about]
    if not mine:
        return loss
    why = next(iter(causes.of(x.drop for x in mine if x.drop is not None)), None)
    first = mine[0].loss
    if why is None and first.causes:
        why = first.causes[0]
    elif why is None and first.after is not None:
        why = Cause(word="vanished", at=first.after)
    if why is None:
        return loss
    untold = replace(why, word=UNTOLD.get(why.word, "untold"), told=False, count=len(mine))
    return replace(loss, causes=(*loss.causes[:1], untold, *loss.causes[1:]))


def rows(found: Sequence[Loss], them: Trails, ways: Sequence[Way]) -> tuple[Row, ...]:
    """The first of them that a tap saw, for the ladder of the most used way; ``ways``: all."""
    shown, *others = used(ways)
    elsewhere = {p.number for pair in others for way in pair for p in way.packets if p.complains}
    errors = {n: x.error for x in found if x.error is not None for n in x.numbers}
    lost = [trail for _, trail in them.trails() if trail[-1].packet.number in errors] if errors else []
    made: list[Row] = []
    for trail in [x for x in lost if x[-1].packet.number not in elsewhere][:MOST_ROWS]:
        way = next(w for w in shown if w.direction == trail[0].direction)
        error, at = errors[trail[-1].packet.number], {x.stop for x in trail}
        made.append(
            Row(
                direction=way.direction,
                time=moment(trail[0]),
                what=f"icmp {error.kind}" + (f" {error.mtu}" if error.mtu else ""),
                size=trail[0].packet.size,
                seen=tuple("all" if stop in at else "none" for stop in way.stops),
                numbers=tuple(x.packet.number for x in trail),
            )
        )
    return tuple(made)


# -- which of them -----------------------------------------------------------------------------------------------------


def _drops(fact: TraceFact) -> Iterator[tuple[Dropped, Layer, Icmp]]:
    for drop in fact.dropped:
        layer = dissect.packet(drop.data).inner
        if layer is not None and isinstance(layer.transport, Icmp) and is_error(layer.ip.family, layer.transport.type):
            yield drop, layer, layer.transport


def _keys(drop: Dropped, layer: Layer) -> set[same.Key]:
    return {x.key for x in same.pieces(drop.data, layer, drop.length)}


def _matched(
    drops: Sequence[tuple[Dropped, Layer, Icmp]], trails: Sequence[tuple[Kind, Trail]]
) -> Mapping[int, Dropped]:
    """The drop that ended each trail (its number): the last sighting right before it."""
    by_key: dict[same.Key, list[int]] = defaultdict(list)
    for n, (_, trail) in enumerate(trails):
        for key in {p.key for p in trail[-1].packet.sighting.pieces}:
            by_key[key].append(n)
    found: dict[int, Dropped] = {}
    for drop, layer, _ in drops:
        near = [
            n
            for key in _keys(drop, layer)
            for n in by_key.get(key, ())
            if n not in found and -EARLY <= drop.time - moment(trails[n][1][-1]) <= _patience(drop)
        ]
        if near:
            found[max(near, key=lambda n: moment(trails[n][1][-1]))] = drop
    return found


def _patience(drop: Dropped) -> int:
    """A rule is heard of later than it was; the kernel tells at once."""
    return SOON if drop.reason else HEARD


def _ended(
    kind: Kind, trail: Trail, drop: Dropped | None, ways: Sequence[Way], fact: TraceFact, blind: set[int],
    network: Network | None,
) -> Gone | None:  # fmt: skip
    last = trail[-1]
    way, behind = _behind(last, ways)
    t = last.packet.layer.transport
    if not isinstance(t, Icmp):
        return None
    here, before = fact.taps[last.stop.tap], fact.taps[behind.tap].at if behind is not None else None
    loss = replace(_loss(kind, last.direction, last.packet.layer, t, here.at, before), end=way.end)
    if drop is not None:
        return Gone(loss, trail, drop, which(t.quoted))
    settled = moment(last) <= fact.ended - IN_FLIGHT
    if behind is None or last.stop.tap in blind or behind.tap in blind or not settled:
        return None
    to = addresses.ip(last.packet.layer.ip.dst)
    owners = {net.snap.id for net, _ in network.owners(to)} if network is not None else set()
    if not last.stop.out and here.netns in owners:
        kept = Cause(word="kept", at=Point(host=here.at.host, netns=here.at.netns), by="state")
        return Gone(replace(loss, causes=(kept,)), trail, None, which(t.quoted))
    return Gone(loss, trail, None, which(t.quoted))


def _behind(last: Sighted, ways: Sequence[Way]) -> tuple[Way, Stop | None]:
    """The way of an error that was last seen there, and the next point of it; None where there is none, or where NAT
    chooses among several and nothing tells to which it went."""
    near = [w for w in ways if w.direction == last.direction]
    there = [w for w in near if last.stop in w.stops]
    behind = {w.stops[w.stops.index(last.stop) + 1] for w in there if w.stops[-1] != last.stop}
    return (there or near)[0], behind.pop() if len(behind) == 1 else None


def _loss(kind: Kind, direction: Direction, layer: Layer, t: Icmp, after: Point | None, before: Point | None) -> Loss:
    quoted = parse_ip(t.quoted)
    size = layer.ip.size
    error = Complaint(
        kind=kind, claims=addresses.ip(layer.ip.src), mtu=t.mtu, about=_about(t.quoted),
        largest=quoted.size if quoted is not None else 0,
    )  # fmt: skip
    return Loss(direction=direction, after=after, before=before, packets=1, smallest=size, largest=size, error=error)


def _about(quoted: bytes) -> str:
    ip = parse_ip(quoted)
    if ip is None:
        return ""
    ports = parse_ports(quoted, ip.at)
    ends = [addresses.ip(x) for x in (ip.src, ip.dst)]
    if ports is not None and ip.protocol in (TCP, UDP):
        ends = [endpoint(*x) for x in zip(ends, ports[:2], strict=True)]
    return f"{PROTOCOLS.get(ip.protocol, ip.protocol)} {' > '.join(ends)}"
