"""What taps on every device saw while a loss was shown once more: the place, and the kernel's word on why.

Asked for only where neither state nor measurement told (:mod:`~pathfit.rules.unsettled`); without it all of this is
silent. A loss counts here when it is one of the packets that were in question: of that direction, and above that size.
"""

from collections.abc import Iterable, Iterator

import msgspec

from pathfit.core.evidence import StateFact
from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding, Scalar, Severity
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Direction, Point
from pathfit.core.path import Resolve
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.resets import untranslated
from pathfit.rules.unsettled import STATE, Question, question
from pathfit.rules.view import SAID, View

REF = "look:end"
BY_PROGRAM = ("traffic-control", "xdp")
SYMPTOMS = ("MTU101", "MTU102", "MTU118", "RST201", "RST202", "FLT401", "RTE502", "NET151", "NET152")
UNANSWERED = ("failed", "incomplete")
PLACELESS = ("NET151", "NET152", "RTE502", "MTU118")  # they stand at the edge of what is seen, for want of a place
WITNESSED: Confidence = "confirmed"


def by_program(view: View) -> Iterable[Finding]:
    """Traffic control (tc) or an XDP program of a device drops the asked packets.

    Why it hurts: no rule of a packet filter shows it, no route, no MTU; the device looks healthy.
    Example: `tc filter add dev eth0 ingress ... police rate 1mbit drop`, an eBPF classifier of a CNI that has no
    policy for this traffic, XDP at the edge.
    Repair: at whoever loaded it: `tc -s filter show dev DEV ingress`, `tc -s qdisc show dev DEV`, `bpftool net`.
    Severity: warning, as the cause of what fails.
    Possible: never said.
    Likely: never said.
    Confirmed: the kernel told of the drop of these very packets there (tracepoint skb:kfree_skb).
    References: tc(8); sch_handle_ingress(), tcf_classify(); include/net/dropreason-core.h.
    """
    for loss in losses(view):
        for cause in loss.causes[:1]:
            if cause.word in BY_PROGRAM:
                yield _found("FLT405", view, loss, cause)


def by_rule(view: View, *, refused: bool) -> Iterable[Finding]:
    """FLT401 where the kernel saw a packet filter drop the packets, and state did not tell which rule would. It is what
    fails itself where somebody answered that it is forbidden (``refused``)."""
    for loss in losses(view):
        for cause in loss.causes[:1]:
            if cause.word == "filtered":
                yield _found("FLT401", view, loss, cause, "error" if refused else "warning")


def on_this_machine(view: View) -> Iterable[Finding]:
    """The asked packets were seen at one device of this machine and not at the next one.

    Why it hurts: neither state nor measurement from the ends can tell where on the way it is.
    Example: a queue that overflows (a qdisc's limit), a neighbour that does not answer, a checksum that is wrong, a
    route or an address that a snapshot does not show, a device whose other end takes less than it says.
    Repair: at the device that is named, by the kernel's own reason; `pathfit trace` shows packet by packet.
    Severity: warning, as the cause of what fails.
    Possible: never said.
    Likely: a counter of the kernel moved meanwhile.
    Confirmed: taps at both devices; the reason, where there is one, is the kernel's word on these very packets.
    References: docs/trace.md; skb:kfree_skb; packet(7).
    """
    if untranslated(view):
        return  # what went where it should not
    for loss in losses(view):
        cause = next(iter(loss.causes), None)
        between = loss.after is not None and loss.before is not None
        if (cause is None and between) or (cause is not None and cause.word not in (*BY_PROGRAM, "filtered")):
            yield _found("NET154", view, loss, cause)


def told(findings: Iterable[Finding], view: View) -> tuple[Finding, ...]:
    """The findings, those of what fails with what was seen as evidence. Where nothing was watched: as they are."""
    lines = tuple(_lines(view))
    if not lines:
        return tuple(findings)
    return tuple(_with(f, lines, view) for f in findings)


def losses(view: View) -> tuple[Loss, ...]:
    """Losses of the packets that were in question, the first place of each direction."""
    open_ = _open(view)
    if view.seen is None or open_ is None:
        return ()
    kept = (_ours(view, x) for x in view.seen.losses if x.error is None and _in_question(x, open_))
    mine = [_neighbour(view, x) for x in kept if x is not None]
    first: dict[Direction, Loss] = {}
    for loss in sorted(mine, key=lambda x: not x.causes):  # what the kernel has a word on, before the rest
        first.setdefault(loss.direction, loss)
    return tuple(x for x in mine if x in first.values())


def place(view: View, direction: Direction) -> Point | None:
    """The device at which the packets of a direction are lost; None: it was not seen."""
    return next((at for x in losses(view) if x.direction == direction and (at := _at(x)) is not None), None)


def _open(view: View) -> Question | None:
    if view.seen is None:
        return None
    return question(View(view.case.until("look")))


def _in_question(loss: Loss, open_: Question) -> bool:
    sized = any(c.limit for c in loss.causes)
    if open_.kind == "size":
        big = loss.largest > open_.passes or (loss.after is None and loss.missing > 0)
        return loss.direction == open_.direction and big
    return not sized if open_.kind == "some" else True


def _ours(view: View, loss: Loss) -> Loss | None:
    """Drops that no tap saw coming are told by addresses and ports alone, of every namespace there is: where it is none
    that was read, somebody else may have the same addresses. None when nothing is left without those."""
    if loss.after is not None or loss.before is not None:
        return loss
    causes = tuple(c for c in loss.causes if any(n.where == c.at.netns for n in view.namespaces))
    if len(causes) == len(loss.causes):
        return loss
    counted = sum(c.count for c in causes)  # of which sizes, is not known any more
    return msgspec.structs.replace(loss, causes=causes, packets=counted, smallest=0, largest=0) if causes else None


def _neighbour(view: View, loss: Loss) -> Loss:
    """A packet that waits for the address of its next hop is not dropped yet: that nobody answers is read."""
    later = view.case.one(STATE, StateFact)
    way = view.way(loss.direction)
    if loss.causes or loss.before is None or later is None or way is None:
        return loss
    ns = next((n for n in later.host.namespaces if n.where == loss.before.netns), None)
    link = next((x for x in ns.links if x.name == loss.before.link), None) if ns is not None else None
    if ns is None or link is None:
        return loss
    wanted = {s.address for h in way.hops for s in h.steps if isinstance(s, Resolve) and s.at.netns == ns.where}
    mute = [n for n in ns.neighbours if n.link == link.index and n.address in wanted and n.state in UNANSWERED]
    if not mute:
        return loss
    return msgspec.structs.replace(loss, causes=(Cause(word="no-neighbour", at=loss.before, by="state"),))


def _at(loss: Loss) -> Point | None:
    if loss.causes:
        return loss.causes[0].at
    return (loss.before or loss.after) if loss.after is not None else None


def _found(code: str, view: View, loss: Loss, cause: Cause | None, severity: Severity = "warning") -> Finding:
    at = _at(loss) or view.edge
    facts: Facts = {
        "case": "traced",
        "direction": SAID[loss.direction],
        "target": view.target_label,
        "place": place_text(at),
        "after": place_text(loss.after) if loss.after else None,
        "before": place_text(loss.before) if loss.before else None,
        "word": cause.word if cause else None,
        "reason": cause.reason or None if cause else None,
        "mtu": cause.mtu if cause else None,
        "packets": loss.packets,
        "smallest": loss.smallest,
        "largest": loss.largest,
    }
    if cause is not None and cause.rule is not None and code == "FLT401":
        rule = cause.rule
        named = {"tool": rule.tool or "nf_tables", "table": f"{rule.family} {rule.table}", "chain": rule.chain}
        facts.update(named, handle=rule.handle, rule=rule.text or ("policy" if rule.policy else "-"))
        facts["case"] = "witnessed"
    if code == "FLT401" and loss.direction == "reverse":
        facts["case"] = f"{facts['case']}-back"
    if code == "NET154":
        facts["case"] = "nowhere" if loss.after is None else "behind" if loss.before is None else "between"
    sure = WITNESSED if cause is None or cause.by != "counter" else "likely"
    return found(code, severity, sure, at, facts, *_of(loss))


def _lines(view: View) -> Iterator[EvidenceLine]:
    """What was seen, as evidence of what fails."""
    seen, open_ = view.seen, _open(view)
    if seen is None or open_ is None:
        return
    mine = losses(view)
    for loss in mine:
        yield from _of(loss)
    if mine or seen.verdict != "arrives" or open_.kind == "some":
        return
    stages = seen.forward if open_.direction == "forward" else seen.reverse
    ends = seen.beyond[0 if open_.direction == "forward" else 1]
    if open_.direction == "forward" and ends is not None and stages and stages[-1].packets:
        last = stages[-1]
        facts: dict[str, Scalar] = {"place": place_text(last.at), "packets": last.packets}
        yield line(REF, "trace-left", **facts) if last.out else line(REF, "trace-came", **facts)


def _of(loss: Loss) -> Iterator[EvidenceLine]:
    """One loss in one or two lines: where, and why."""
    after, before = (place_text(p) if p is not None else "-" for p in (loss.after, loss.before))
    sizes = f"{loss.smallest}-{loss.largest}" if loss.smallest != loss.largest else f"{loss.largest or '?'}"
    facts: dict[str, Scalar] = {"packets": loss.packets, "sizes": sizes}
    if loss.after is not None and loss.before is not None:
        yield line(REF, "trace-between", **facts, after=after, before=before)
    elif loss.after is not None:
        yield line(REF, "trace-behind", **facts, after=after)
    elif loss.before is not None:
        yield line(REF, "trace-never-came", before=before, missing=loss.missing, passed=loss.passed)
    else:
        yield line(REF, "trace-nowhere", **facts)
    for cause in loss.causes[:1]:
        known: Facts = {"place": place_text(cause.at), "mtu": cause.mtu or "?", "most": cause.most or "?"}
        yield EvidenceLine(ref=REF, message=f"lost.{cause.word}", facts=known)
        if cause.rule is not None:
            rule = cause.rule
            named: dict[str, Scalar] = {"chain": rule.chain, "table": f"{rule.family} {rule.table}"}
            named["tool"] = rule.tool or "nf_tables"
            said = rule.text or ("policy" if rule.policy else f"handle {rule.handle}")
            yield line(REF, "trace-rule", number=rule.number or "-", rule=said, **named)
        if cause.by == "counter":
            moved: Facts = {"counter": cause.counter, "count": cause.count, "packets": loss.packets}
            yield EvidenceLine(ref=REF, message="trace.counter", facts=moved)
        if cause.reason:
            yield line(REF, "trace-kernel", function=cause.function or "?", reason=cause.reason, times=cause.count)


def _with(f: Finding, lines: tuple[EvidenceLine, ...], view: View) -> Finding:
    if f.code not in SYMPTOMS or any(e.ref == REF for e in f.evidence):
        return f
    open_ = _open(view)
    way = f.facts.get("direction")
    if open_ is not None and open_.kind == "size" and way not in (None, "both", SAID[open_.direction]):
        return f
    f = msgspec.structs.replace(f, evidence=(f.evidence[0], *lines, *f.evidence[1:]))
    first = next((x for x in losses(view) if way in (None, "both", SAID[x.direction])), None)
    at = _at(first) if first is not None else None
    if f.code not in PLACELESS or first is None or at is None:
        return f
    if f.code != "NET152" or f.facts.get("case"):
        return msgspec.structs.replace(f, where=(at,))
    proven: Confidence = f.confidence if any(c.by == "counter" for c in first.causes) else WITNESSED
    facts: Facts = {**f.facts, "case": "traced", "place": place_text(at)}
    return msgspec.structs.replace(f, where=(at,), facts=facts, confidence=proven)
