"""Losses of which no event tells, beside what the kernel's counters say (:mod:`pathfit.model.counted`).

Used where the kernel could not be asked for each packet, and where it was and had no word for these. A way that ends
where the prediction saw packets dropped has no point behind it that could miss them; where nothing came back either,
and a counter there moved, that is said.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Direction, Point
from pathfit.core.path import Fate, Predicted
from pathfit.core.report import Report
from pathfit.follow.seen import Packet, Way, used
from pathfit.model import counted
from pathfit.model.counted import Counted, End
from pathfit.model.network import TUNNELS, Network
from pathfit.wire.dissect import Udp
from pathfit.wire.packets import Tcp

MOST = 3  # causes of one loss
ARRIVES = frozenset((Fate.DELIVERED, Fate.FRAGMENTED, Fate.UNKNOWN))  # what the prediction says of a small packet


def with_counters(
    losses: Sequence[Loss], ways: Sequence[Way], fact: TraceFact, network: Network | None, report: Report
) -> tuple[Loss, ...]:
    """The losses, those without a cause beside the counters that may tell one; and where ways end, what moved there."""
    if not fact.moved or network is None:
        return tuple(losses)
    it = _Counters(fact, network, ways, report)
    found = [
        msgspec.structs.replace(x, causes=it.between(x)) if not x.causes and x.after is not None else x for x in losses
    ]
    if not fact.watched and not losses:
        forward, reverse = used(ways)[0]
        found += it.unanswered(forward, reverse, report.forward)
    return tuple(found)


class _Counters:
    """Counters in words of the snapshot."""

    def __init__(self, fact: TraceFact, network: Network, ways: Sequence[Way], report: Report) -> None:
        self.fact, self.network = fact, network
        self._stops = {(way.direction, fact.taps[stop.tap].at): stop for way in ways for stop in reversed(way.stops)}
        self._seen = Counter[tuple[Direction, Point | None]](
            (way.direction, fact.taps[way.stops[p.sighting.point].tap].at) for way in ways for p in way.packets
        )

        paths = [(p.limits, d) for p, d in ((report.forward, "forward"), (report.reverse, "reverse")) if p is not None]
        paths += [(way.branch.limits, way.direction) for way in ways if way.branch is not None]
        routes = [(d, x.at, x.mtu) for limits, d in paths for x in limits if x.kind in ("route", "cached")]
        self._routes = {(d, at): min(mtu for e, there, mtu in routes if (e, there) == (d, at)) for d, at, _ in routes}

    def between(self, loss: Loss) -> tuple[Cause, ...]:
        """Of packets that were seen at a point and not at the next, or at none behind it."""
        after, before = self._end(loss.direction, loss.after), self._end(loss.direction, loss.before)
        if after is None or (loss.before is not None and before is None):
            return ()
        missed = self._seen[loss.direction, loss.after] - self._seen[loss.direction, loss.before]
        lost = counted.Lost(after, before, loss.packets, loss.smallest, loss.passed, missed)
        found = counted.causes(lost, self.fact.moved)[:MOST]
        return tuple(map(self._cause, found))

    def _end(self, direction: Direction, at: Point | None) -> End | None:
        stop = self._stops.get((direction, at)) if at is not None else None
        if stop is None:
            return None
        tap, out = self.fact.taps[stop.tap], stop.out
        net = self.network.of_id(tap.netns)
        link = net.links.get(tap.link) if net is not None else None
        if link is None:
            return End(tap.netns, tap.link, out)
        tunnel = link.kind == "vxlan" or link.kind in TUNNELS
        port = link.bridge_port is not None
        mtu = min(link.mtu, self._routes.get((direction, tap.at), link.mtu)) if out else link.mtu
        return End(tap.netns, tap.link, out, mtu, link.kind == "veth", port, tunnel)

    def _cause(self, found: Counted) -> Cause:
        net = self.network.of_id(found.netns)
        link = net.links.get(found.link) if net is not None else None
        tap = next((t for t in self.fact.taps if t.netns == found.netns), None)
        netns = net.snap.where if net is not None else tap.at.netns if tap is not None else found.netns
        host = net.host if net is not None else tap.at.host if tap is not None else ""
        slack = counted.SLACK if found.limit == "peer" else 0
        return Cause(
            word=found.word,
            at=Point(host=host, netns=netns, link=link.name if link is not None else None),
            limit=found.limit,
            mtu=found.mtu,
            most=found.mtu + slack if found.mtu is not None else None,
            told=found.told,
            count=found.by,
            by="counter",
            counter=found.counter,
        )

    def unanswered(self, way: Way, back: Way, predicted: Predicted | None) -> Iterator[Loss]:
        """What came to the last point of a way that ends there, when nothing of the flow came back."""
        if predicted is None or predicted.fate in ARRIVES or any(map(carries, back.packets)):
            return
        loss = last_seen(way, self.fact)
        causes = self.between(loss) if loss is not None else ()
        if loss is not None and causes:
            yield msgspec.structs.replace(loss, causes=causes)


def last_seen(way: Way, fact: TraceFact) -> Loss | None:
    """What came to the last point of a way, as lost behind it; None where nothing did."""
    last = len(way.stops) - 1
    sizes = [p.size for p in way.packets if p.sighting.point == last and carries(p)]
    if not sizes:
        return None
    return Loss(
        direction=way.direction,
        after=fact.taps[way.stops[last].tap].at,
        before=None,
        packets=len(sizes),
        smallest=min(sizes),
        largest=max(sizes),
    )


def carries(packet: Packet) -> bool:
    """Is it one of the two ends' own, and not a router's word on another?"""
    return isinstance(packet.layer.transport, Tcp | Udp)
