"""From hosts and a question to a forecast: what happens to this traffic, both ways, without a packet (pure).

:func:`foresee` walks the conversation, follows what each sender would learn (a "too big" that comes home makes it
smaller, and the next limit is asked), and decides:

* ``fits``   - what the ends promise each other arrives, as it is or in sizes their sender has from its own device;
* ``told``   - larger packets are dropped, their sender is told and makes them smaller: it works while that gets home;
* ``hole``   - larger packets are dropped and their sender never learns it: certain, all of it is seen;
* ``lost``   - packets of any size are lost: certain as well;
* ``unknown``- something on the way is not visible or not understood; ``size`` is then the most that may fit.

The report has the shape of a diagnosis. Its findings are those that state alone can show.
"""

import shlex
from collections.abc import Callable, Sequence
from typing import Literal

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.case import SCHEMA, Case
from pathfit.core.evidence import Missing, NameFact, PlaceFact, StateFact
from pathfit.core.net import ICMP, ICMPV6, TCP, UDP, Direction, bracketed
from pathfit.core.path import Encap, Fate, Limit, Predicted
from pathfit.core.report import Report, VerdictWord
from pathfit.core.request import Locate, ReadState, ResolveName
from pathfit.core.snapshot import HostSnapshot
from pathfit.diagnose import arrange, link, run
from pathfit.model import Net, Network, predict_both
from pathfit.rules import RULES
from pathfit.rules.view import PASSING, View

State = Literal["fits", "told", "hole", "lost", "unknown"]
MOST_LESSONS = 12  # times a sender may learn a smaller size on one way; each is one device
PROTOCOLS = {"udp": UDP, "icmp": ICMP}
Ways = tuple[Predicted, Predicted]


class Settled(Value, frozen=True, kw_only=True):
    """What one direction comes to. ``asked`` bytes its sender begins with, ``size`` what arrives in the end (None:
    nothing is known), ``limit`` the place that decided, ``why`` for ``lost`` and ``unknown``."""

    state: State
    asked: int
    size: int | None = None
    limit: Limit | None = None
    why: str = ""


class Foreseen(Value, frozen=True, kw_only=True):
    """The answer of `predict`. ``hosts``: the machines looked at, by name."""

    report: Report
    forward: Settled
    reverse: Settled
    hosts: tuple[str, ...] = ()


class Question(Value, frozen=True, kw_only=True):
    """What is asked of the hosts. ``size`` of the packets both ways (bytes); None: as large as the ends make them."""

    ask: Ask
    address: str
    source: str  # key in the Network
    target: str | None = None  # key, when the target is a namespace of ours
    size: int | None = None


def foresee(
    hosts: Sequence[HostSnapshot], network: Network, q: Question, missing: Sequence[Missing] = (), version: str = ""
) -> Foreseen:
    """The forecast. ``hosts`` are those ``network`` was made of. Raises KeyError when the source is not among them."""
    ways = both(network, q)
    forward, reverse = settled(network, q, ways)
    net = network.nets[q.source]
    view = View(_case(hosts, network, net, q, version), given=ways)
    findings = arrange(link(run(view, RULES)))
    states = (forward.state, reverse.state)
    verdict = _verdict(states, any(f.severity == "error" for f in findings))
    report = Report(
        version=version,
        ask=q.ask,
        verdict=verdict,
        findings=findings,
        forward=ways[0],
        reverse=ways[1],
        missing=(*missing, *view.missing, *(_way_on(net, q) if verdict == "unknown" else ())),
        source_label=view.source_label,
        target_label=q.address if q.target is None else label(network, network.nets[q.target]),
        why_unknown="why.not-all-visible" if verdict == "unknown" else None,
        host=net.host,
    )
    return Foreseen(report=report, forward=forward, reverse=reverse, hosts=network.hosts)


def _way_on(net: Net, q: Question) -> tuple[Missing, ...]:
    """An unknown verdict never ends without a line that can be typed (CONTRACT, exit status 3)."""
    target = q.ask.target
    to = target.text
    if q.target is not None:
        to = bracketed(q.address)
        to += f":{target.port}" if target.port else ""
    how = shlex.join(["sudo", "pathfit", "diagnose", "--from", net.snap.where, "--to", to])
    return (Missing(what=f"a measurement on {net.host}", why="snapshots alone do not tell", how=how, code="undecided"),)


def _verdict(states: tuple[State, State], error: bool) -> VerdictWord:
    if error or "lost" in states or "hole" in states:
        return "broken"
    if "unknown" in states:
        return "unknown"
    return "degraded" if "told" in states else "healthy"


def both(network: Network, q: Question) -> Ways:
    """The conversation, both ways, in the sizes its ends agree on: TCP keeps to what the other end's SYN invites."""
    ways = _walk(network, q, q.size, q.size, None)
    mss = ways[1].mss if ways[0].fate is Fate.DELIVERED else None
    if q.size or ways[0].flow.proto != TCP or mss is None:
        return ways
    return _walk(network, q, None, None, mss)


def _walk(network: Network, q: Question, forward: int | None, reverse: int | None, mss: int | None) -> Ways:
    proto = PROTOCOLS.get(q.ask.target.protocol, TCP)
    if proto == ICMP and ":" in q.address:
        proto = ICMPV6
    ways = predict_both(
        network, q.source, q.address, proto=proto, dport=q.ask.target.port, size_forward=forward,
        size_reverse=reverse, peer_mss=mss,
    )  # fmt: skip
    if proto == TCP or reverse:
        return ways
    # no MSS binds what is not TCP: an answer is asked about that is as large as the question
    return predict_both(
        network, q.source, q.address, proto=proto, dport=q.ask.target.port, size_forward=forward,
        size_reverse=ways[0].flow.size,
    )  # fmt: skip


def settled(network: Network, q: Question, ways: Ways) -> tuple[Settled, Settled]:
    """What both directions come to."""
    gone = _elsewhere(network, q, ways[0])

    def forward(size: int) -> Predicted:
        return _walk(network, q, size, ways[1].flow.size, None)[0]

    def reverse(size: int) -> Predicted:
        return _walk(network, q, ways[0].flow.size, size, ways[1].mss)[1]

    if gone is not None:
        return gone, Settled(state="unknown", asked=ways[1].flow.size, why=gone.why)
    return _settle(ways[0], forward, begins=True), _settle(ways[1], reverse, begins=ways[0].fate is Fate.DELIVERED)


def _elsewhere(network: Network, q: Question, way: Predicted) -> Settled | None:
    """It arrives, but in another namespace than the one asked for: its address is somebody else's from here."""
    wanted = network.nets.get(q.target or "")
    if wanted is None or way.fate is not Fate.DELIVERED or not way.hops:
        return None
    at = way.hops[-1].where
    if (at.host, at.netns) == (wanted.host, wanted.snap.where):
        return None
    why = f"{q.address} is {at.host}!{at.netns} from there, not {wanted.host}!{wanted.snap.where}"
    return Settled(state="lost", asked=way.flow.size, why=why)


def _settle(way: Predicted, again: Callable[[int], Predicted], *, begins: bool) -> Settled:
    """``begins``: the walk began where the packet is made, not at the edge of what we see."""
    asked, told = way.flow.size, False
    for _ in range(MOST_LESSONS):
        limit = decisive(way)
        if way.fate not in PASSING or way.large in (Fate.FILTERED, Fate.RP_FILTER):
            return _lost(way, asked, begins)
        if limit is None or way.large not in (Fate.TOO_BIG_TOLD, Fate.TOO_BIG_SILENT):
            break
        if way.large is Fate.TOO_BIG_SILENT or limit.told_home is False:
            return _hole(way, limit, asked, begins)
        if limit.told_home is None:
            return Settled(state="unknown", asked=asked, size=limit.mtu, limit=limit, why=way.why)
        told = told or limit.then == "icmp"
        way = again(limit.mtu)
    seen = way.complete and way.fate is Fate.DELIVERED and way.large in (Fate.DELIVERED, Fate.FRAGMENTED)
    size: int | None = min(way.flow.size, way.mtu) if way.mtu is not None else way.flow.size
    if not seen:
        size = size if way.hops else None
        return Settled(state="unknown", asked=asked, size=size, limit=decisive(way), why=way.why)
    return Settled(state="told" if told else "fits", asked=asked, size=way.flow.size)


def decisive(way: Predicted) -> Limit | None:
    """The first place that stops a packet of the asked size; one that fragments, or that GSO hides, stops none."""
    return next((x for x in way.limits if x.then in ("icmp", "error", "silent")), None)


def _lost(way: Predicted, asked: int, begins: bool) -> Settled:
    """Any packet, or any large one. Where the walk came in from out of sight, only a filter is as sure as that."""
    fate = way.large if way.fate in PASSING else way.fate
    tunnelled = any(isinstance(s, Encap) for h in way.hops for s in h.steps)
    certain = begins or (fate is Fate.FILTERED and not tunnelled)
    why = way.why or fate.value
    return Settled(state="lost" if certain else "unknown", asked=asked, why=why)


def _hole(way: Predicted, limit: Limit, asked: int, begins: bool) -> Settled:
    """Certain when nothing unseen lies before it, where the sender might have learned a smaller size."""
    before_the_wire = bool(way.hops) and limit.at.host == way.hops[0].where.host
    certain = begins and (way.complete or before_the_wire)
    return Settled(state="hole" if certain else "unknown", asked=asked, size=limit.mtu, limit=limit, why=way.why)


def _case(hosts: Sequence[HostSnapshot], network: Network, net: Net, q: Question, version: str) -> Case:
    """The question as a run would have recorded it, for the rules to look at: the source's host, and no measurement."""
    home = next(h for h in reversed(hosts) if network.label(h) == net.host and _has(h, net.snap.id))
    where = net.snap.where
    place = PlaceFact(ref="source", where=where, netns=net.snap.id, label=label(network, net))
    case = Case(schema=SCHEMA, version=version, ask=q.ask).add(Locate(ref="source", where=where), (place,))
    case = case.add(ReadState(ref="state", source=where), (StateFact(ref="state", host=home),))
    target = network.nets.get(q.target or "")
    if target is not None and target.host == net.host:
        said = PlaceFact(ref="target", where=target.snap.where, netns=target.snap.id, addresses=(q.address,))
        case = case.add(Locate(ref="target", where=target.snap.where), (said,))
    name = NameFact(ref="name", name=q.ask.target.host, addresses=(q.address,), source="literal")
    return case.add(ResolveName(ref="name", source=where, name=q.ask.target.host), (name,))


def _has(host: HostSnapshot, ident: str) -> bool:
    return any(n.id == ident for n in host.namespaces)


def label(network: Network, net: Net) -> str:
    """How a namespace is called in a sentence: "web", "host", with the host in front where there are several."""
    kind, colon, name = net.snap.where.partition(":")
    short = name if colon and kind != "pid" else net.snap.where
    if len(network.hosts) < 2:
        return short
    return net.host if short == "host" else f"{net.host}!{short}"


def direction(seen: Foreseen, which: Direction) -> tuple[Predicted | None, Settled]:
    """The way and what it comes to."""
    return (seen.report.forward, seen.forward) if which == "forward" else (seen.report.reverse, seen.reverse)


__all__ = ["Foreseen", "Question", "Settled", "both", "decisive", "direction", "foresee", "label", "settled"]
