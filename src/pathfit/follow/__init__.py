"""From what taps saw to what a person wants to know: where packets of a flow were lost, which ones, and why (pure).

Points come from the prediction, losses from comparing what was seen at them (:mod:`pathfit.model.ladder`), causes from
the kernel's own word on the very same packets. The prediction only says where to look: when it was wrong, packets are
missing at a point that they never pass, and then it is said that they were not seen there, with no cause.

* :mod:`~pathfit.follow.seen` - what was seen at each point of a direction;
* :mod:`~pathfit.follow.drawn` - where NAT takes connections to one of several: which went where;
* :mod:`~pathfit.follow.losses` - what was lost between which points, and why;
* :mod:`~pathfit.follow.ended` - which packet, seen where, each drop ended;
* :mod:`~pathfit.follow.silenced` - ICMP errors that got lost on their way back;
* :mod:`~pathfit.follow.ahead` - which limits stand behind a loss;
* :mod:`~pathfit.follow.counts` - of losses without a cause, which counters may tell one;
* :mod:`~pathfit.follow.foretold` - of losses whose cause or rule nobody told, what state says of their place;
* :mod:`~pathfit.follow.origin` - who made a reset or an ICMP error, by which taps saw it;
* :mod:`~pathfit.follow.untracked` - a reset that answers a packet which was not translated;
* :mod:`~pathfit.follow.trails` - resets and ICMP errors wherever they were seen, and what they answer;
* :mod:`~pathfit.follow.prints` - the same by its looks, where taps leave it open;
* :mod:`~pathfit.follow.settled` - the report, where taps prove who made a reset;
* :mod:`~pathfit.follow.ruled` - which rule of a packet filter it was;
* :mod:`~pathfit.follow.rows` - the ladder of one connection;
* :mod:`~pathfit.follow.talks` - of what others send: the connections, and what was sent again;
* :mod:`~pathfit.follow.redacted` - the whole case under other names and addresses.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from pathfit import __version__
from pathfit.core.case import Case
from pathfit.core.evidence import Missing, StateFact, TraceFact
from pathfit.core.followed import Course, Followed, Loss, Origin, Word
from pathfit.core.net import Point
from pathfit.core.report import Report
from pathfit.core.request import Watch
from pathfit.core.tracing import DROPS, Seen
from pathfit.follow import silenced
from pathfit.follow.ahead import with_ahead
from pathfit.follow.counts import with_counters
from pathfit.follow.foretold import with_state
from pathfit.follow.losses import losses_of
from pathfit.follow.origin import answers
from pathfit.follow.rows import rows
from pathfit.follow.ruled import with_legacy
from pathfit.follow.seen import Flow, Way, packets, stages, used, ways
from pathfit.follow.settled import settled
from pathfit.follow.talks import Told, talks
from pathfit.follow.trails import Sighted, Trails
from pathfit.model.taps import MOST_TAPS
from pathfit.rules import forecast
from pathfit.rules.places import each_once

NO_TAP = f"more than {MOST_TAPS} devices on the way, or one of a kind that packets cannot be read from"
ELSEWHERE = Seen(tap=0, time=0, length=0, out=False, data=b"")  # stands for a packet that is left out: none at all


def explained(case: Case) -> Report:
    """The report of a case; where a loss was shown once more before taps, with what they saw."""
    from pathfit import diagnose

    first = diagnose.report(case)
    if case.one("look:end", TraceFact) is None:
        return first
    seen = _seen(case, first)
    return settled(diagnose.report(case, seen=seen), seen.answers, "look:end")


def followed(case: Case) -> Followed:
    """What a case with a trace says. Without one (no rights, no address) the verdict is unknown and ``missing`` says
    why."""
    from pathfit import diagnose

    return _seen(case, diagnose.report(case))


def _seen(case: Case, report: Report) -> Followed:
    fact = next(iter(case.all(TraceFact)), None)
    watch = next((x.request for x in case.exchanges if isinstance(x.request, Watch)), None)
    alone = case.ask.follow is not None  # nothing was measured, so there is nothing to report but what was seen
    lacking = tuple(m for m in report.missing if not alone or m.code != "undecided")
    if fact is None or watch is None:
        shown = None if alone else report
        return Followed(version=__version__, ask=case.ask, verdict="unknown", missing=lacking, report=shown)
    state = case.one("state", StateFact)
    network = forecast.network(state.host) if state is not None else None
    found = tuple(Sighted(*one) for one in packets(fact, Flow.of(watch)))
    both = ways(fact, watch, found)
    made = answers(found, fact, watch, network, report)
    report = _told(case, report, made, fact)
    later = case.one("rules:after", StateFact)
    after = later.host if later is not None else None
    along = _along(fact, watch)
    trails = Trails([x for x in found if x.stop.tap < len(along.taps)], along, watch)
    losses = losses_of(both, along, Flow.of(watch), network, report, after, trails)
    losses = with_counters(losses, both, along, network, report)
    losses = with_legacy(_unwatched(losses, both, fact), state.host if state is not None else None, after, report.host)
    losses = with_state(losses, both, along, network, report)
    losses = with_ahead(losses, both, along, report)
    pairs = used(both)
    main, *others = courses = [_course(pair, fact, report) for pair in pairs]
    told_of = talks(both) if alone else Told((), 0)
    blind = _blind(fact, courses, told_of, alone=alone, healthy=report.verdict == "healthy")
    return Followed(
        version=__version__,
        ask=case.ask,
        verdict=_verdict(losses, both, blind=blind),
        forward=main.forward,
        reverse=main.reverse,
        losses=losses,
        rows=tuple(
            sorted((*rows(pairs[0], _behind(losses)), *silenced.rows(losses, trails, both)), key=lambda r: r.time)
        ),
        watched=fact.watched,
        unheard=fact.unheard,
        cut=max(fact.ended, 1) if fact.cut else 0,
        traced=len(fact.filters.heard),
        unmarked=max(fact.filters.matched - fact.filters.marked, 0),
        deaf=fact.filters.lost + fact.filters.malformed,
        beyond=main.beyond,
        missing=each_once(
            (
                *sorted(fact.missing, key=lambda m: m.what != DROPS),
                *lacking,
                *fact.filters.missing,
                *map(_untapped, watch.unseen),
            )
        ),
        report=None if alone else report,
        talks=told_of.talks,
        more_talks=told_of.more,
        seconds=round((fact.ended - fact.armed) / 1e9, 3),
        answers=made,
        end=main.end,
        others=tuple(others),
    )


def _told(case: Case, report: Report, made: tuple[Origin, ...], fact: TraceFact) -> Report:
    """The report, where taps prove who made a reset."""
    from pathfit import diagnose

    if not any(x.code == "RST204" for x in made):
        return settled(report, made, fact.ref)
    # No measurement knows of it: its rule reads it from what was seen.
    seen = Followed(version=__version__, ask=case.ask, verdict="unknown", answers=made)
    return diagnose.report(case, seen=seen)


def _behind(losses: Sequence[Loss]) -> frozenset[int]:
    """Numbers of packets that were dropped behind the last point."""
    return frozenset(n for x in losses if x.before is None and x.error is None for n in x.numbers)


def _blind(fact: TraceFact, courses: Sequence[Course], told_of: Told, *, alone: bool, healthy: bool) -> bool:
    """May something have got lost that was not seen? ``alone``: nothing was measured; ``healthy``: that says all is."""
    # Where nobody tells of drops, what passed every point has arrived when the measurement says so as well.
    told = fact.watched or healthy
    unseen = any(m.what != DROPS for m in fact.missing)
    open_end = any(t.stuck for t in told_of.talks) and any(any(c.beyond) for c in courses)  # lost out there: who knows
    deaf = any(s.lost for c in courses for s in (*c.forward, *c.reverse)) or (fact.cut and not alone)
    deaf = deaf or (fact.cut and fact.ended <= fact.armed)  # full at once: of no packet is known what became of it
    return open_end or unseen or not told or deaf


def _course(pair: tuple[Way, Way], fact: TraceFact, report: Report) -> Course:
    there, back = pair
    out, into = (way.ends if way is not None else None for way in (report.forward, report.reverse))
    beyond = there.branch.ends if there.branch is not None else (out, into)
    return Course(end=there.end, forward=stages(there, fact), reverse=stages(back, fact), beyond=beyond)


def _along(fact: TraceFact, watch: Watch) -> TraceFact:
    """Without the taps that are no point of the way (they stand behind those that are): nothing gets lost there. Every
    packet keeps its place among all of them, which is its number."""
    ways = [watch.forward, watch.reverse, *(way for b in watch.branches for way in (b.forward, b.reverse))]
    count = 1 + max((stop.tap for way in ways for stop in way), default=-1)
    if count >= len(fact.taps):
        return fact
    return replace(fact, taps=fact.taps[:count], seen=tuple(x if x.tap < count else ELSEWHERE for x in fact.seen))


def _unwatched(losses: Sequence[Loss], ways: Sequence[Way], fact: TraceFact) -> tuple[Loss, ...]:
    """Where no point of a way could be watched, a drop is in front of none of them for all that is known."""
    deaf = {w.direction for w in ways if w.stops and not {stop.tap for stop in w.stops} & set(fact.opened)}
    mine = [x.after is None and x.before is None and x.direction in deaf for x in losses]
    return tuple(replace(x, unwatched=True) if deaf else x for x, deaf in zip(losses, mine, strict=True))


def _untapped(at: Point) -> Missing:
    return Missing(ref="watch", what=f"packets at {at.netns}/{at.link}", why=NO_TAP, code="limit")


def _verdict(losses: Sequence[Loss], ways: Sequence[Way], *, blind: bool) -> Word:
    if losses:
        return "lost"
    # Where nothing comes back, or only that it did not arrive, it was lost, if not in front of our eyes.
    came = {way.direction for way in ways if any(not p.complains for p in way.packets)}
    seen = came == {"forward", "reverse"}
    return "arrives" if seen and not blind else "unknown"
