"""The other addresses of a target: which of them fare otherwise than the one the asked client takes."""

from collections.abc import Iterable, Iterator

import msgspec

from pathfit.core.evidence import Missing, ProbeResult
from pathfit.core.finding import Facts, Finding, Severity
from pathfit.core.request import Measure
from pathfit.model import proxies
from pathfit.rules.base import found, line
from pathfit.rules.forecast import goes
from pathfit.rules.view import DIRECTIONS, SAID, View

FAILED = ("refused", "reset", "timeout", "unreachable")


def uneven_addresses(view: View) -> Iterable[Finding]:
    """One address of the target fails where another works.

    Why it hurts: who gets the bad one hangs or waits, and a retry works. Clients that try several addresses at once
    (RFC 8305) hide it; those that try one after the other wait for a minute or more; and a hole behind a connection
    that stands is noticed by neither.
    Example: a name with an IPv6 address whose tunnel drops large packets, while IPv4 is fine; one of three is dead.
    Repair: at that address, or take it out of the name; `-4` or `--resolve` goes round it.
    Severity: warning, and the verdict is "degraded"; info for an address of the other family that is only tried when
    the one that works fails, and for an address that works where the asked client's does not.
    Possible: never said.
    Likely: it takes a connection and then says nothing, or nothing answers its SYN.
    Confirmed: a hole was measured there as anywhere, or the connection was refused.
    References: RFC 6724; RFC 8305; curl(1) --happy-eyeballs-timeout-ms.
    """
    mine = view.probe
    if mine is None or mine.contact.tcp not in ("ok", "n/a"):
        return
    others = [p for p in view.probes if p.ref != mine.ref]
    yield from _holes(view, mine, others)
    if view.ask.target.where is None and proxies.literal(_name(view)) is None:
        yield from _unconnected(view, mine, others)
    if view.holes:
        yield from _works(view, mine, others)


def _alone(view: View, probe: ProbeResult) -> View:
    """The case as if this had been the only address."""
    kept = (x for x in view.case.exchanges if not isinstance(x.request, Measure) or x.request.ref == probe.ref)
    return View(msgspec.structs.replace(view.case, exchanges=tuple(kept)))


def _holes(view: View, mine: ProbeResult, others: list[ProbeResult]) -> Iterator[Finding]:
    """Where one vanishes at a size that passes on the asked client's own way. One finding for each direction."""
    for direction in DIRECTIONS:
        own = view.hole(direction)
        bad = [(p, hole) for p in others if (hole := _alone(view, p).hole(direction)) is not None]
        bad = [(p, hole) for p, hole in bad if own is None or own.passes > hole.passes]
        if not bad:
            continue
        first, hole = bad[0]
        facts = _facts(view, mine, [p for p, _ in bad], "hole")
        facts.update({"direction": SAID[direction], "limit": hole.passes, "fails": hole.fails})
        passed = "in-passes" if direction == "reverse" else "out-passes"
        proof = line(first.ref, passed, passes=hole.passes, fails=hole.fails, method=hole.method)
        yield found("NET153", "warning", "confirmed", view.edge, facts, proof)


def _unconnected(view: View, mine: ProbeResult, others: list[ProbeResult]) -> Iterator[Finding]:
    """Addresses that do not take the connection; what the source has no way to is no fault of theirs."""
    bad = [p for p in others if p.contact.tcp in FAILED and _has_way(view, p)]
    if not bad:
        return
    order = [p.ref for p in view.probes]
    before = [p for p in bad if order.index(p.ref) < order.index(mine.ref)]
    same = [p for p in bad if p.contact.family == mine.contact.family]
    first = (before or same or bad)[0]
    case = "before" if before else "beside" if same else "spare"
    severity: Severity = "info" if case == "spare" else "warning"
    facts = _facts(view, mine, [first, *(p for p in bad if p is not first)], case)
    proofs = [line(p.ref, "address-fails", address=p.contact.address, how=p.contact.tcp) for p in bad[:4]]
    sure = "confirmed" if all(p.contact.tcp in ("refused", "reset") for p in bad) else "likely"
    yield found("NET153", severity, sure, view.edge, facts, *proofs)  # type: ignore[arg-type]


def _has_way(view: View, probe: ProbeResult) -> bool:
    if probe.contact.tcp == "unreachable" and probe.contact.icmp is None and probe.contact.error != "EHOSTUNREACH":
        return False  # our own kernel says so: no route, no address of that family
    return view.state is None or view.source is None or goes(view.state, view.source.id, probe.contact.address)


def _works(view: View, mine: ProbeResult, others: list[ProbeResult]) -> Iterator[Finding]:
    """What carries all that is promised while the asked client's address does not."""
    good = [p for p in others if p.contact.tcp == "ok" and _whole(_alone(view, p))]
    if good:
        m, facts = good[0].reverse[0], _facts(view, mine, good, "works")
        proof = line(good[0].ref, "address-works", address=good[0].contact.address, passes=m.passes)
        yield found("NET153", "info", "confirmed", view.source_point, facts, proof)


def _whole(view: View) -> bool:
    probe = view.probe
    return probe is not None and bool(probe.reverse) and all(view.carries(d) for d in DIRECTIONS)


def _name(view: View) -> str:
    """Whose addresses they are: the target's, or those of the proxy in front of it."""
    proxy = proxies.proxy(view.ask, view.place)
    return proxy.host if proxy is not None else view.target_label


def _facts(view: View, mine: ProbeResult, those: list[ProbeResult], case: str) -> Facts:
    return {
        "case": case,
        "target": _name(view),
        "address": those[0].contact.address,
        "addresses": tuple(p.contact.address for p in those),
        "used": mine.contact.address,
    }


def left_out(view: View) -> tuple[Missing, ...]:
    """How many addresses of the name were not looked at, and how to have one of them measured."""
    ask = view.ask
    given = [a for h, a in ask.resolve if h.lower() == _name(view).lower()]
    known = given or [a for n in view.names for a in n.addresses]
    wanted = {a for a in known if ask.family is None or (":" in a) == (ask.family == 6)}
    seen = {p.contact.address for p in view.probes}
    asked = {x.request.address for x in view.case.exchanges if isinstance(x.request, Measure)}
    rest = wanted - asked
    count = len(rest) + sum(n.more for n in view.names)
    if not seen or not count:
        return ()
    return (
        Missing(
            ref="addresses",
            what=f"{count} more addresses of {_name(view)}" if count > 1 else f"one more address of {_name(view)}",
            why=f"{len(seen)} were looked at; what politeness and time allow holds for all of them together",
            how=f"--resolve {_name(view)}:{min(rest)}" if rest else "--fast",
            code="limit",
        ),
    )
