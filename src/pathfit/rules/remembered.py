"""What the two ends remember of each other, before and after: the difference is what probing may have left behind."""

from collections.abc import Iterator

from pathfit.core.case import Case
from pathfit.core.evidence import RememberedFact
from pathfit.core.measured import SideEffect
from pathfit.core.remembered import Remembered, TcpMetrics, mine, theirs
from pathfit.core.request import ReadRemembered
from pathfit.core.snapshot import PmtuException
from pathfit.rules.view import View

WHEN = ("before", "after")
METRICS_LAST = 3600.0  # seconds until the kernel takes an entry for stale (TCP_METRICS_TIMEOUT, net/ipv4/tcp_metrics.c)
LEARNED, METRICS = "learned-path-mtu", "tcp-metrics"
Pair = tuple[Remembered | None, Remembered | None]
NONE: Pair = (None, None)


def here(case: Case, address: str) -> Pair:
    """What the source remembers of one address of the target, before and after; None: not read."""
    before, after = (_of(case, mine(when), address) for when in WHEN)
    return before, after


def there(case: Case) -> tuple[str, tuple[Pair, ...]]:
    """(WHERE of the target's namespace, what it remembers of each of the source's addresses); "" when not ours."""
    asked = next((x.request for x in case.exchanges if x.request.ref == theirs("before")), None)
    if not isinstance(asked, ReadRemembered):
        return "", ()
    pairs = [(_of(case, theirs("before"), a), _of(case, theirs("after"), a)) for a in asked.addresses]
    return asked.source, tuple(pairs)


def _of(case: Case, ref: str, address: str) -> Remembered | None:
    fact = case.one(ref, RememberedFact)
    return next((x for x in fact.of if x.address == address), None) if fact is not None else None


def own_addresses(view: View) -> tuple[str, ...]:
    """What the target may know the source by: what NAT makes of its address, and its own."""
    snap, way = view.source, view.predicted_forward
    mine = [a.address for a in snap.addresses if a.scope == 0] if snap is not None else []
    last = [way.final.src] if way is not None and way.final is not None and way.final.src else []
    return tuple(dict.fromkeys((*last, *mine)))


def side_effects(case: Case, guessed: tuple[SideEffect, ...], addresses: tuple[str, ...]) -> tuple[SideEffect, ...]:
    """Everything that probing may have left, each once. ``guessed``: as the prober itself saw it, connection by
    connection; where a kernel was asked, what it says takes the place of that."""
    seen: list[SideEffect] = []
    known: set[str] = set()
    for address in addresses:
        pair = here(case, address)
        seen += _left("here", pair)
        known |= {"here"} if None not in pair else set()
    _, pairs = there(case)
    if addresses and pairs and all(None not in p for p in pairs):
        known |= set(addresses)
        for pair in pairs:
            seen += _left(addresses[0], pair)
    kept = [g for g in guessed if g.where not in known or g.what != LEARNED]
    return tuple(dict.fromkeys((*kept, *seen)))


def _left(where: str, pair: Pair) -> Iterator[SideEffect]:
    before, after = pair
    if before is None or after is None:
        return
    old = {_path(e): e for e in before.exceptions}
    for e in after.exceptions:
        was = old.get(_path(e))
        if was is None or was.mtu != e.mtu or _renewed(was, e):
            yield SideEffect(
                where=where,
                what=LEARNED,
                lasts=e.expires,
                about=after.address,
                before=was.mtu if was is not None else before.believed,
                after=e.mtu,
            )
    kept = {(m.address, m.src): m for m in before.metrics}
    for m in after.metrics:
        earlier = kept.get((m.address, m.src))
        if earlier is None or _values(earlier) != _values(m):
            yield SideEffect(where=where, what=METRICS, lasts=max(0.0, METRICS_LAST - m.age), about=after.address)


def _path(e: PmtuException) -> tuple[str, str | None, int, str]:
    return e.dst, e.via, e.link, e.src


def _renewed(was: PmtuException, e: PmtuException) -> bool:
    """Does it end later than it did? Then it was learned again."""
    return was.expires is not None and e.expires is not None and e.expires > was.expires


def _values(m: TcpMetrics) -> tuple[float | int | bool | None, ...]:
    return m.rtt, m.rttvar, m.ssthresh, m.cwnd, m.reordering, m.mss, m.cookie
