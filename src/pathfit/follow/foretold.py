"""Losses beside what state says of the same place: the prediction of the asked flow ended there.

The prediction is no proof. Where the kernel told (an event, or a rule that was traced), it only gives a nameless packet
filter its rule; where nobody told, it is the cause that is left. Both are said to be what was read ("state").
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.core.path import Fate, Filtered, Lookup, Predicted
from pathfit.core.report import Report
from pathfit.core.tracing import Rule
from pathfit.follow.counts import carries, last_seen
from pathfit.follow.seen import Way, used
from pathfit.model import ruled
from pathfit.model.lookup import on_purpose
from pathfit.model.network import Network

FILTERED = "filtered"
WORDS = {
    Fate.FILTERED: FILTERED,
    Fate.NO_ROUTE: "no-route",
    Fate.NEIGH_FAILED: "no-neighbour",
    Fate.LINK_DOWN: "link-down",
    Fate.RP_FILTER: "reverse-path",
    Fate.FORWARDING_OFF: "not-forwarded",
    Fate.UNREACHABLE: "nobody",
}


def with_state(
    losses: Sequence[Loss], ways: Sequence[Way], fact: TraceFact, network: Network | None, report: Report
) -> tuple[Loss, ...]:
    """The losses, those whose cause or rule nobody told beside what state says of their place. Where nobody can tell of
    drops, what came to the end of a way that state says ends there, and was not answered, is one."""
    if network is None:
        return tuple(losses)
    predicted = {"forward": report.forward, "reverse": report.reverse}
    found = [_known(loss, predicted[loss.direction], network) for loss in losses]
    if not losses and not fact.watched:
        forward, reverse = used(ways)[0]
        found += _unanswered(forward, reverse, predicted["forward"], fact, network)
    return tuple(found)


def _known(loss: Loss, way: Predicted | None, network: Network) -> Loss:
    nameless = all(c.word == FILTERED and c.rule is None for c in loss.causes)
    if way is None or not nameless or loss.error is not None or (loss.after is None and loss.before is None):
        return loss
    sized = way.fate not in WORDS
    if sized and not (way.large == Fate.FILTERED and 0 < loss.passed < loss.smallest):
        return loss  # a small packet passes by what was read, and it is not the large ones that are lost
    cause = _cause(way, Fate.FILTERED if sized else way.fate, loss.packets, network)
    if cause is None or not _there(cause, loss, network) or (loss.causes and cause.rule is None):
        return loss
    return replace(loss, causes=(*loss.causes, cause))


def _there(cause: Cause, loss: Loss, network: Network) -> bool:
    """Is it where they were lost: in the namespace that they came to last, or were to come to next? A device that is
    down may be the other half of the one they were to leave by."""
    told = [c.at for c in loss.causes]
    around = told or [p for p in (loss.after, loss.before) if p is not None]
    if cause.word == "link-down" and loss.before is not None:
        return loss.before in (cause.at, _other_half(cause.at, network))
    if not any((p.host, p.netns) == (cause.at.host, cause.at.netns) for p in around):
        return loss.before is None and not told  # the way ends there, in the next namespace
    if cause.word in ("no-neighbour", "nobody") and loss.before is not None and cause.at.link:
        return cause.at in (loss.after, loss.before)
    return True


def _other_half(at: Point, network: Network) -> Point | None:
    net = network.at(at)
    link = net.names.get(at.link) if net is not None and at.link else None
    other = network.peer(net, link) if net is not None and link is not None else None
    return other[0].point(other[1].name) if other is not None else None


def _cause(way: Predicted, fate: Fate, packets: int, network: Network) -> Cause | None:
    step = way.culprit
    at: Point | None = getattr(step, "at", None)
    word = WORDS.get(fate)
    if step is None or at is None or word is None:
        return None
    if fate == Fate.FILTERED:
        if not isinstance(step, Filtered):
            return None
        rule = _rule(step, network)
        told = rule.reject is not None
        return Cause(word=word, at=at, rule=rule, told=told, count=packets, by="state")
    if fate in (Fate.NO_ROUTE, Fate.UNREACHABLE) and isinstance(step, Lookup) and on_purpose(step.route):
        word = "refused-by-route"
    return Cause(word=word, at=at, count=packets, by="state")


def _rule(step: Filtered, network: Network) -> Rule:
    family, _, name = step.table.partition(" ")
    net = network.at(step.at)
    tables = net.snap.tables if net is not None else ()
    return ruled.read(tables, step.tool, family, name, step.chain, step.handle, step.rule)


def _unanswered(way: Way, back: Way, predicted: Predicted | None, fact: TraceFact, network: Network) -> Iterator[Loss]:
    if predicted is None or predicted.fate not in WORDS or any(map(carries, back.packets)):
        return
    loss = last_seen(way, fact)
    cause = _cause(predicted, predicted.fate, loss.packets, network) if loss is not None else None
    if loss is not None and cause is not None:
        yield replace(loss, causes=(cause,))
