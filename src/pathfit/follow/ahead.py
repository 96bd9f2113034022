"""Limits that stand behind a loss for size on the same way: the next ones, when that is mended (pure).

Packets that die at the first limit never come to the second, so no tap sees it; but the prediction lists all limits of
a way, in order. One that something larger got past all the same is not said.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Ahead, Loss
from pathfit.core.net import Direction, Point
from pathfit.core.path import Limit
from pathfit.core.report import Report
from pathfit.follow.seen import Way

CUTS = ("fragment", "pass-gso")  # what happens there to larger ones, and is no loss


def with_ahead(losses: Sequence[Loss], ways: Sequence[Way], fact: TraceFact, report: Report) -> tuple[Loss, ...]:
    """The losses for size, each with what stands behind it and was not met."""
    met = {(x.direction, c.at) for x in losses for c in x.causes if c.limit}
    return tuple(replace(x, ahead=tuple(_behind(x, ways, fact, report, met))) if _sized(x) else x for x in losses)


def _sized(loss: Loss) -> bool:
    return loss.error is None and loss.after is not None and any(c.limit and c.mtu for c in loss.causes[:1])


def _behind(
    loss: Loss, ways: Sequence[Way], fact: TraceFact, report: Report, met: set[tuple[Direction, Point]]
) -> Iterator[Ahead]:
    path = report.forward if loss.direction == "forward" else report.reverse
    way = next(w for w in ways if (w.direction, w.end) == (loss.direction, loss.end))
    places = [fact.taps[stop.tap].at for stop in way.stops]
    here = places.index(loss.after) if loss.after in places else None
    if path is None or here is None:
        return
    told = set[Point]()
    for limit in path.limits:
        at = _place(limit, places, here)
        if at is None or limit.at in told or limit.mtu >= loss.largest or limit.then in CUTS:
            continue
        if (loss.direction, limit.at) in met or limit.at in (loss.causes[0].at, loss.before):  # what it met
            continue
        past = max((p.size for p in way.packets if p.sighting.point > at), default=0)
        if past <= limit.mtu:
            told.add(limit.at)
            yield Ahead(at=limit.at, mtu=limit.mtu)


def _place(limit: Limit, places: Sequence[Point], here: int) -> int | None:
    """Its point on the way, where it is behind the last one that the lost packets came to."""
    return next((n for n, at in enumerate(places) if n > here and at == limit.at), None)
