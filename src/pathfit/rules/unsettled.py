"""Is the place, or the cause, of what was measured still open? Then it is worth looking at every device once more.

State and measurement settle most faults: a limit of exactly the measured size, a rule, a route. What is left is a loss
that the model has no word for, or that lies where it cannot see. `diagnose` then opens taps at every point of the way
and shows the loss again, with the least that shows it (docs/trace.md); where nothing is open, nothing of that happens.
"""

from typing import Literal, NamedTuple

import msgspec

from pathfit.core.ask import Protocol
from pathfit.core.case import Case
from pathfit.core.evidence import ClockFact, ProgramFact, WatchFact
from pathfit.core.filters import Action, Choice, Expr, Opaque, Verdict
from pathfit.core.measured import Bracket
from pathfit.core.net import Direction, hops_away
from pathfit.core.path import Fate, Filtered, Translated
from pathfit.core.request import EndWatch, Measure, ReadPrograms, ReadState, Request, Watch
from pathfit.model.addr import family_of
from pathfit.rules import forecast
from pathfit.rules.ends import unheard
from pathfit.rules.reach import FEW, past_the_translation
from pathfit.rules.view import DIRECTIONS, LOOK_AGAIN, View

STATE = "look:state"  # what is read after the loss was shown once more
CONNECT = 1.2  # seconds to wait for an answer that, as was seen, does not come: a SYN and its first repetition
OUT = ("tcp-sack",)  # one direction, with nothing said
POINTS = 2  # of a direction, at least
MOST_HOSTS = 8  # addresses of one flow; what looks for drops takes no more of a family
BRIEF = 1.0  # seconds for showing again what was measured


class Question(NamedTuple):
    """What is open. "contact": nothing, or an RST, answers; "size": packets above ``passes`` (bytes) are lost in
    ``direction``; "some": packets of any size are lost now and then."""

    kind: Literal["contact", "size", "some"]
    direction: Direction
    passes: int = 0


def question(view: View) -> Question | None:
    """The first thing that is open; None where state and measurement tell both place and cause."""
    c = view.contact
    if c is None or view.probe is None or view.state is None:
        return None
    if view.fails_to_connect or (view.torn_down and not view.holes):
        settled = view.explained or _by_target(view) or past_the_translation(view) is not None
        return None if settled else Question("contact", "forward")
    for hole in view.holes:
        if hole.grade != "told" and view.limit_of(hole) is None and hole.direction not in _by_rule(view):
            return Question("size", hole.direction, hole.passes)
    if view.holes or _by_rule(view):
        return None
    if unheard(view):
        return Question("contact", "forward")
    for direction in DIRECTIONS:
        if _unproven(view.bracket(direction)) and view.carries(direction) is None:
            return Question("size", direction, view.bracket(direction).passes or 0)
    uneven = view.probe.uneven
    if view.probe.loss.disturbed >= FEW or (uneven is not None and uneven.bad):
        return Question("some", "reverse")
    return None


def again(view: View, asked: Measure, open_: Question) -> Measure:
    """The least of ``asked`` that shows it: the asked client's own connections, or a search between two sizes."""
    short = {"ref": LOOK_AGAIN, "witnesses": (), "patient": 0.0, "seed": asked.seed + 1}
    plain = view.contact is not None and view.contact.tcp != "n/a" and asked.protocol not in ("udp", "icmp")
    found = view.contact.protocol if view.contact is not None else ""
    spoken: Protocol = "https" if found == "https" else "http" if found == "http" else asked.protocol  # known by now
    if open_.kind == "contact" or (plain and open_.kind == "size" and open_.direction == "reverse"):
        connect = CONNECT if open_.kind == "contact" else asked.connect
        return msgspec.structs.replace(
            asked,
            protocol=spoken if plain else asked.protocol,
            contact_only=True,
            methods=(),
            far="",
            connect=min(connect, asked.connect),
            budget=BRIEF,
            **short,
        )
    if open_.kind == "size":
        fails = view.bracket(open_.direction).fails
        out = plain and not asked.far and open_.direction == "forward"
        return msgspec.structs.replace(
            asked,
            protocol=(spoken if spoken != "any" else "tcp") if out else asked.protocol,
            methods=OUT if out else asked.methods,
            floor=max(asked.floor, open_.passes),
            ceiling=fails or asked.ceiling,
            budget=BRIEF,
            **short,
        )
    return msgspec.structs.replace(asked, budget=BRIEF, **short)


def look(case: Case) -> tuple[Request, ...]:
    """What to ask for: taps, then (when they are open) the loss once more, then what they saw."""
    view = View.of(case.until("look"))  # what was open then; answers since then do not change the question
    clock = case.one("clock:measured", ClockFact)
    asked = next((x.request for x in case.exchanges if view.probe and x.request.ref == view.probe.ref), None)
    if clock is None or clock.took > case.ask.timeout / 2 or not isinstance(asked, Measure):
        return ()  # nothing measured, or it would not come to its end
    if not case.asked("look"):
        open_ = question(view)
        own = view.source is not None and bool(view.source.tables)  # its own filter may drop before any device
        wanted = taps_on(case, "look", asked.address) if open_ is not None else ()
        watches = tuple(w for w in wanted if open_ is not None and (own or _between(w, open_)))
        if open_ is None or not watches or not _leaves(view, open_) or _vague(view, watches[0]):
            return watches
        if not case.asked("programs"):
            return (ReadPrograms(ref="programs", taps=watches[0].taps),)
        known = case.one("programs", ProgramFact)
        return watches if known is None or known.at or len(known.read) < len(watches[0].taps) else ()
    seen = case.one("look", WatchFact)
    if seen is None:
        return ()
    watched = any(isinstance(x.request, Watch) and not x.request.taps for x in case.exchanges)  # drops alone
    open_ = question(view) if seen.taps or watched else None
    if open_ is None:
        return (EndWatch(ref="look:end"),)
    # Who does not answer on his link fails there only after the first packet to him.
    state = (ReadState(ref=STATE, source=case.ask.source),) if open_.kind == "contact" else ()
    return (again(view, asked, open_), *state, EndWatch(ref="look:end"))


def taps_on(case: Case, ref: str, address: str) -> tuple[Watch, ...]:
    """Taps at every point of the way to ``address``; none where no state was read."""
    from pathfit.model.taps import taps

    view = View(case, asking=address)
    if view.state is None:
        return ()
    network = forecast.network(view.state)
    known = (network, view.predicted_forward, view.predicted_reverse, view.port)
    drawn = _drawn(case, view, address)
    at = taps(*known, drawn)
    while drawn and len(at.hosts) > MOST_HOSTS:  # the last of them are the ones that are not followed to their ends
        drawn = drawn[:-1]
        at = taps(*known, drawn)
    hosts, ports, targets = at.hosts, at.ports, at.targets
    if case.ask.follow is not None and view.source is not None:
        # Others may speak another protocol, which NAT takes elsewhere, and from other addresses of theirs.
        for protocol in ("tcp", "udp"):
            other = taps(network, *forecast.both(view.state, view.source.id, address, view.port, protocol), view.port)
            hosts, ports, targets = (*hosts, *other.hosts), (*ports, *other.ports), (*targets, *other.targets)
        mine = (a.address for a in view.source.addresses if family_of(a.address) == family_of(address))
        hosts = tuple(dict.fromkeys((*hosts, *mine)))[:MOST_HOSTS]
    traced = case.ask.command == "trace"
    watch = Watch(
        ref=ref,
        address=address,
        taps=at.taps,
        hosts=hosts,
        ports=tuple(dict.fromkeys(ports)),
        targets=tuple(dict.fromkeys(targets)),
        tunnels=at.tunnels,
        forward=at.forward,
        reverse=at.reverse,
        ends=at.ends,
        unseen=at.unseen,
        namespaces=at.namespaces,
        branches=at.branches,
        # What others send is not sent again for us, and what is asked once more is short.
        patient=traced and case.ask.follow is None and _passes(view),
        cables=at.cables if traced and not drawn and _carries(view) else (),
    )
    return (watch,)


def _passes(view: View) -> bool:
    """Does state foretell that no packet filter drops anything of the flow, nor an ICMP error about it?"""
    for way in view.predicted:
        if way is None or Fate.FILTERED in (way.fate, way.large):
            return False
        if way.large in (Fate.TOO_BIG_TOLD, Fate.TOO_BIG_SILENT):
            return False  # it was followed to that limit: what rules do to the largest that pass there is not foretold
        steps = [*(step for hop in way.hops for step in hop.steps), *([way.culprit] if way.culprit else [])]
        if any(isinstance(step, Filtered) and step.verdict != "accept" for step in steps):
            return False
        if any(limit.then == "icmp" and not limit.told_home for limit in way.limits):
            return False
    return True


def _carries(view: View) -> bool:
    """Does state foretell that nothing is too large, or lost, anywhere that it shows?"""
    fine = (Fate.DELIVERED, Fate.UNKNOWN)
    ways = view.predicted
    return all(way is not None and not way.limits and {way.fate, way.large} <= {*fine} for way in ways)


def _drawn(case: Case, view: View, address: str) -> tuple[forecast.Ways, ...]:
    """The ways to each of several, where NAT chooses one and the prediction ends there."""
    way = view.predicted_forward
    if view.state is None or view.source is None or way is None or way.fate is not Fate.UNKNOWN:
        return ()
    protocols = ("tcp", "udp") if case.ask.follow is not None else (case.ask.target.protocol,)
    found = [forecast.drawn(view.state, view.source.id, address, view.port, p) for p in protocols]
    return tuple(pair for them in found for pair in them)


def _leaves(view: View, open_: Question) -> bool:
    """Does the way lead on behind what is seen? Then the loss is there, unless something here is not understood."""
    if open_.kind == "some":
        return False  # queues that are too short, cables that damage: nothing of it is in the state
    ways = [view.way(d) for d in (DIRECTIONS if open_.kind == "contact" else (open_.direction,))]
    return all(way is not None and way.ends is not None and way.culprit is None for way in ways)


def _vague(view: View, watch: Watch) -> bool:
    """Is there anything in the tables, or at the devices, of the way that the model cannot follow?"""
    on_way = {tap.netns for tap in watch.taps}
    named = {(tap.netns, tap.link) for tap in watch.taps}
    for ns in view.state.namespaces if view.state is not None else ():
        if ns.id not in on_way:
            continue
        if any(link.xdp for link in ns.links if (ns.id, link.index) in named):
            return True
        if any(_opaque(e) for t in ns.tables for c in t.chains for rule in c.rules for e in rule.exprs):
            return True
    return False


def _opaque(e: Expr | Action) -> bool:
    if isinstance(e, Choice):
        return e.partial or any(_opaque(a) for a in (*e.then, *((e.otherwise,) if e.otherwise else ())))
    return isinstance(e, Opaque) or (isinstance(e, Verdict) and e.kind in ("queue", "stolen"))


def _between(watch: Watch, open_: Question) -> bool:
    """Are there two points to compare? From one alone nothing is learnt that the measurement did not tell."""
    ways = {"forward": watch.forward, "reverse": watch.reverse}
    wanted = [ways[open_.direction]] if open_.kind == "size" else list(ways.values())
    return any(len(way) >= POINTS for way in wanted)


def _by_rule(view: View) -> frozenset[Direction]:
    return frozenset(direction for direction, _ in view.large_filtered())


def _unproven(b: Bracket) -> bool:
    return b.fails is not None or b.note == "unproven"


def _translated(view: View) -> bool:
    """Does NAT stand on the way, as far as it is seen?"""
    ways = [way for way in view.predicted if way is not None]
    return any(isinstance(s, Translated) for way in ways for hop in way.hops for s in hop.steps)


def _by_target(view: View) -> bool:
    """Did the target itself refuse, beyond doubt? Then no packet was lost."""
    c, way = view.contact, view.predicted_forward
    if c is None or c.icmp is not None or not view.torn_down:
        return False
    if c.rst_phase != "syn" and c.tcp != "refused" and _translated(view):
        return False  # a packet that was not translated may have made the target give up (RST204)
    if way is not None and way.complete and way.fate == Fate.DELIVERED and c.tcp == "refused":
        return True
    own = {hops_away(t) for t in (c.echo_ttl, c.synack_ttl) if t is not None}
    return c.rst_ttl is not None and hops_away(c.rst_ttl) in own
