"""What pathfit itself could not do: see, finish a rule, agree with its own model."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding
from pathfit.core.net import Direction
from pathfit.core.path import Fate, Limit, Lookup, Predicted
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.view import SAID, View

SHOWN = 5  # what could not be seen, as evidence; the whole list stands in the report under missing


def not_permitted(view: View) -> Iterable[Finding]:
    """Something could not be seen for want of rights.

    Why it hurts: the cause may lie there; a verdict then rests on measurement alone.
    Example: an ordinary user asks about a container of another user.
    Repair: run as root, or from inside the container.
    Severity: info; where the verdict depends on it, that is "unknown" and says so.
    Possible: never said.
    Likely: never said.
    Confirmed: the kernel refused.
    References: namespaces(7), capabilities(7): CAP_SYS_ADMIN, CAP_NET_RAW, CAP_NET_ADMIN.
    """
    denied = [m for m in view.missing if m.code == "permission"]
    blind = view.place is not None and not view.place.privileged
    way = view.predicted_forward
    whole = way is not None and Fate.UNKNOWN not in (way.fate, way.large)
    if not blind and (not denied or whole):
        return  # what stayed unseen does not lie on the way
    lines = [line(m.ref or view.state_ref, "denied", what=m.what, why=m.why) for m in denied[:SHOWN]]
    if blind and not lines:
        lines = [line(view.place.ref if view.place else "source", "no-raw-sockets")]
    how = next((m.how for m in denied if m.how), "sudo pathfit …").partition("   or   ")[0]
    facts: Facts = {"count": max(1, len(denied)), "how": how}
    yield found("SYS901", "info", "confirmed", view.source_point, facts, *lines)


def model_disagrees(view: View) -> Iterable[Finding]:
    """What state predicts with certainty and what was measured contradict each other.

    Why it hurts: one of them is wrong, and we say so instead of smoothing it over.
    Example: a limit of 1450 on the way that 1500-byte packets were seen to pass.
    Repair: save the case (`--save DIR`) and report it.
    Severity: warning; measurement decides the verdict.
    Possible: never said.
    Likely: the measurement could not be repeated to a proof.
    Confirmed: both values are certain: every hop is visible, and the size was measured exactly.
    References: docs/architecture.md.
    """
    for direction in ("forward", "reverse"):
        way = view.way(direction)
        if way is None:
            continue
        limit = _hard(view, direction)
        best = max((b.passes for b in view.tried(direction) if b.passes is not None), default=None)
        hole = view.hole(direction)
        if _one_of_many(view, way) or any(d == direction for d, _ in view.large_filtered()):
            continue  # state spoke of another flow than the measured ones; or a rule stands there as FLT401
        if limit is not None and best is not None and best > limit.mtu:
            yield _contradiction(view, direction, limit.mtu, best, place_text(limit.at))
        elif hole is not None and way.complete and way.mtu is not None and hole.fails <= way.mtu:
            if _filtered_at(view, direction, hole.fails):
                continue  # a rule on length behind a device that is smaller than the sender's own
            yield _contradiction(view, direction, way.mtu, hole.passes, "-")
        elif (
            way.fate in (Fate.FILTERED, Fate.NO_ROUTE, Fate.LINK_DOWN, Fate.FORWARDING_OFF)
            and view.connects
            and view.certain(direction)
        ):
            facts: Facts = {
                "case": "fate",
                "direction": SAID[direction],
                "predicted": way.fate.value,
                "measured": "connected",
            }
            proof = line(view.ref, "connected")
            yield found(
                "SYS903",
                "warning",
                "confirmed",
                view.edge,
                facts,
                proof,
                line(view.state_ref, "predicted-fate", fate=way.fate.value),
            )


def rule_crashed(view: View) -> Iterable[Finding]:
    """A rule of pathfit's own ended in an error; the others were not disturbed.

    Why it hurts: that one fault was not looked for in this run.
    Example: a saved case of a newer version holds a value this one never saw.
    Repair: report it with the case folder (`--save DIR`).
    Severity: warning.
    Possible: never said.
    Likely: never said.
    Confirmed: the rule raised.
    References: CONTRIBUTING, "how to add a rule".
    """
    for code, error in view.crashes:
        facts: Facts = {"rule": code, "error": error}
        yield found(
            "SYS902",
            "warning",
            "confirmed",
            view.source_point,
            facts,
            line(view.ref, "crashed", rule=code, error=error),
        )


def _one_of_many(view: View, way: Predicted) -> bool:
    """Do flows go different ways? The model walks one of them."""
    choices = (s.choices for h in way.hops for s in h.steps if isinstance(s, Lookup))
    return any(n > 1 for n in choices) or (view.probe is not None and view.probe.uneven is not None)


def _filtered_at(view: View, direction: Direction, size: int) -> bool:
    way = view.forecast(size)[0 if direction == "forward" else 1]
    return way is not None and Fate.FILTERED in (way.fate, way.large)


def _hard(view: View, direction: Direction) -> Limit | None:
    """The smallest visible limit that no larger packet of the flow can pass. GSO and fragmentation do let it pass.

    What lies behind a limit the sender itself obeys ("error") is predicted for packets of that size; those of ours that
    are larger may be cut there.
    """
    own = min((x.mtu for x in view.limits(direction) if x.then == "error"), default=0)
    hard = [x for x in view.limits(direction) if x.then in ("icmp", "silent") and x.kind in ("l3", "l2", "tunnel")]
    limits = [x for x in hard if not own or x.mtu < own]
    return min(limits, key=lambda x: x.mtu, default=None)


def _contradiction(view: View, direction: Direction, predicted: int, measured: int, place: str) -> Finding:
    facts: Facts = {"case": "size", "direction": SAID[direction], "predicted": predicted, "measured": measured}
    facts["place"] = place
    b = view.bracket(direction)
    sure = b.exact or b.grade in ("proof", "step")
    lines = (
        line(view.ref, "measured-size", measured=measured),
        line(view.state_ref, "predicted-size", predicted=predicted),
    )
    return found("SYS903", "warning", "confirmed" if sure else "likely", view.edge, facts, *lines)
