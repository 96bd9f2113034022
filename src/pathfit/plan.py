"""What to ask the world next (pure).

A plan is a row of *steps*. Each step says which requests it wants, given what is known; those not asked yet are
asked, and the row is read again from the front. A step whose ground is missing wants nothing. So the plan is a
function of the case alone, request ids are stable, and a saved case takes the same way again.

Order matters twice (research behind it: docs/probing.md): state and hung sockets are read before the first packet
is sent, because measuring may change them; and the reverse direction is measured before anything that could teach
this host a path MTU - that one is inside the single Measure request.

What only looks back (rules, remedies, the model) is imported where it is used: the first packet shall not wait for it.
"""

from typing import get_args

from pathfit.core.ask import Ask, Protocol
from pathfit.core.case import Case
from pathfit.core.evidence import ClockFact, NameFact, PlaceFact, ProbeResult, StateFact, WatchFact
from pathfit.core.measured import Bracket, Contact
from pathfit.core.net import IP_HEADER, TCP_HEADER, Family, bracketed, endpoint
from pathfit.core.remembered import mine, theirs
from pathfit.core.request import (
    EndWatch,
    Locate,
    Measure,
    MeasureHops,
    ReadClock,
    ReadCounters,
    ReadPlatform,
    ReadRemembered,
    ReadRules,
    ReadSnapshots,
    ReadSockets,
    ReadState,
    Request,
    ResolveName,
    TryFix,
)
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.measure.reverse import CONNECT, CONNECT_SHORT
from pathfit.measure.share import MOST, Share, share
from pathfit.model import proxies
from pathfit.model.addr import family_of, is_global

LOOPBACK = ("127.0.0.1", "::1")
SMALL = 560  # bytes: below every limit worth naming (576), above the headers of anything
PATIENT = 8.0  # seconds: tcp_mtu_probing=1 needs about 3, its second halving about 7


def next_requests(case: Case) -> tuple[Request, ...]:
    """Requests to perform now, in this order; empty when the case is complete."""
    for step in OF_A_SCAN if case.ask.command == "scan" else STEPS:
        wanted = tuple(r for r in step(case) if not case.asked(r.ref))
        if wanted:
            return wanted
    return ()


def _place(case: Case) -> tuple[Request, ...]:
    return (Locate(ref="source", where=case.ask.source),)


def _see(case: Case) -> tuple[Request, ...]:
    """State, sockets and counters, before any packet; the target's name as the source resolves it."""
    place = source(case)
    if place is None:
        return ()
    wide = case.ask.command != "probe"
    requests: list[Request] = [
        ReadState(ref="state", source=case.ask.source, scope="all" if wide else "source"),
        ReadSockets(ref="sockets", source=case.ask.source),
        ReadCounters(ref="counters:before", source=case.ask.source),
    ]
    target = case.ask.target
    if target.where is not None:
        requests.append(Locate(ref="target", where=target.where))
    proxy = proxy_of(case)
    name = proxy.host if proxy else target.host
    if name and proxies.literal(name) is None and not _given(case.ask, name):
        families: tuple[Family, ...] = (case.ask.family,) if case.ask.family else (4, 6)
        requests.append(ResolveName(ref="name", source=case.ask.source, name=name, families=families))
    return tuple(requests)


def _remember(case: Case) -> tuple[Request, ...]:
    """What the kernels at both ends remember of each other, before anything is sent."""
    return _remembered(case, "before")


def _forget_not(case: Case) -> tuple[Request, ...]:
    """The same when all is measured: what was left behind is seen, not guessed."""
    return _remembered(case, "after") if case.all(ProbeResult) else ()


def _remembered(case: Case, when: str) -> tuple[Request, ...]:
    todo = addresses(case)[:MOST]
    if not todo:
        return ()
    requests = [ReadRemembered(ref=mine(when), source=case.ask.source, addresses=todo)]
    if case.ask.command == "probe" or _open_door(case):
        return tuple(requests)  # nothing is seen of the target
    from pathfit.rules.remembered import own_addresses
    from pathfit.rules.view import View

    view = View.of(case)
    if view.target is not None:
        known = next((x.request for x in case.exchanges if x.request.ref == theirs("before")), None)
        asked = known if isinstance(known, ReadRemembered) else None  # afterwards of the same place
        where, seen = (asked.source, asked.addresses) if asked else (view.target.where, own_addresses(view))
        requests.append(ReadRemembered(ref=theirs(when), source=where, addresses=seen))
    return tuple(requests)


def _measure(case: Case) -> tuple[Request, ...]:
    """Each address, in the order the asked client would try them: one after the other, as each leaves less for the
    next (measure/share.py). Nobody's, where only what others send is followed."""
    todo = addresses(case) if case.ask.follow is None else ()
    for n, address in enumerate(todo):
        ref = f"probe:{n + 1}"
        if case.asked(ref):
            continue
        if (mine := _share(case, n, address, len(todo) - n - 1)) is None:
            return ()
        return (_measure_one(case, ref, address, mine),)
    return ()


def _share(case: Case, n: int, address: str, more: int) -> Share | None:
    """What is left for one more address."""
    before = case.all(ProbeResult)
    public = is_global(address)
    return share(
        n,
        more,
        public=public and not case.ask.fast,
        spent=sum(p.used.connections for p in before if is_global(p.contact.address) is public),
        took=sum(p.used.seconds for p in before),
        timeout=case.ask.timeout,
    )


def _unanswered(case: Case, address: str) -> bool:
    """Has an address of the same family given no answer at all? Then the next one is not waited for as long."""
    before = [p.contact for p in case.all(ProbeResult) if family_of(p.contact.address) == family_of(address)]
    return any(c.tcp == "timeout" for c in before)


def _watch(case: Case) -> tuple[Request, ...]:
    """Of a trace: look at the flow to the first address, wherever it passes, while it is measured."""
    todo = addresses(case)
    if case.ask.command != "trace" or not todo:
        return ()
    from pathfit.rules.unsettled import taps_on

    return taps_on(case, "watch", todo[0])


def _watched(case: Case) -> tuple[Request, ...]:
    if case.one("watch", WatchFact) is None:
        return ()
    if case.ask.follow is not None:
        return (EndWatch(ref="watch:end", linger=case.ask.follow, until_stopped=True),)
    return (EndWatch(ref="watch:end"),) if case.all(ProbeResult) else ()


def _look_again(case: Case) -> tuple[Request, ...]:
    """Where neither state nor measurement told what is lost where: show it once more, with all points watched."""
    place = source(case)
    wanted = case.ask.trace and not case.ask.fast and case.one("state", StateFact) is not None
    if not wanted or place is None or not place.privileged:
        return ()
    from pathfit.rules import unsettled

    return unsettled.look(case)


def _after(case: Case) -> tuple[Request, ...]:
    """What moved while we measured: counters, and the counters of filter rules."""
    if not case.all(ProbeResult):
        return ()
    return (
        ReadCounters(ref="counters:after", source=case.ask.source),
        ReadRules(ref="rules:after", source=case.ask.source),
        ReadClock(ref="clock:measured"),
    )


def _others(case: Case) -> tuple[Request, ...]:
    """What snapshots of other hosts say. The first packet does not wait for them."""
    asked = case.ask.snapshots if case.all(ProbeResult) else ()
    return (ReadSnapshots(ref="others", paths=asked),) if asked else ()


def _follow(case: Case) -> tuple[Request, ...]:
    """Place a forward hole; prove the repair before proposing it."""
    probe = chosen(case)
    clock = case.one("clock:measured", ClockFact)
    if probe is None or clock is None or clock.took > case.ask.timeout * 0.8:
        return ()
    requests: list[Request] = []
    contact = probe.contact
    forward = probe.forward[0] if probe.forward else None
    place = source(case)
    reached = contact.tcp == "ok" and (case.ask.target.where is None or case.ask.target.port > 0)
    reached = reached and place is not None and place.privileged
    by_udp = forward is not None and forward.method in ("udp-dns", "udp-quic", "udp-closed")
    if (reached or by_udp) and is_hole(forward) and forward is not None:
        requests.append(
            MeasureHops(
                ref="hops",
                source=case.ask.source,
                address=contact.address,
                port=contact.port,
                small=SMALL,
                large=forward.fails or 1500,
                method=forward.method if by_udp else "tcp",
            )
        )
    from pathfit.remedies.value import repair_value
    from pathfit.rules.view import View

    view = View.of(case)
    value = repair_value(case, view.predicted_forward, view.predicted_reverse)
    if value is not None and not case.ask.fast:
        family: Family = 6 if contact.family == 6 else 4
        first = next((x for x in case.exchanges if x.request.ref == probe.ref), None)
        if first is not None and isinstance(first.request, Measure):
            asked = first.request
            spoken = _spoken(contact, asked)
            if spoken == "tcp" and not contact.answered:
                return tuple(requests)  # it says nothing by itself: that it connects would prove nothing
            requests.append(
                TryFix(
                    ref="trial",
                    source=case.ask.source,
                    address=contact.address,
                    port=contact.port,
                    protocol=spoken,
                    mss=value - IP_HEADER[family] - TCP_HEADER,
                    host=asked.host,
                    sni=asked.sni,
                    path=asked.path,
                    proxy=asked.proxy,
                    speaks=contact.protocol if contact.protocol not in get_args(Protocol) else "",
                )
            )
    return tuple(requests)


def _spoken(contact: Contact, asked: Measure) -> Protocol:
    """What the target turned out to speak, when only a port was asked for."""
    found: dict[str, Protocol] = {"https": "https", "http": "http"}
    return found.get(contact.protocol, asked.protocol if asked.protocol in found else "tcp")


def _platform(case: Case) -> tuple[Request, ...]:
    """Who keeps the device of the host itself whose MTU is above what was measured: asked only when it matters."""
    from pathfit.rules.forecast import route_of
    from pathfit.rules.view import DIRECTIONS, View

    view = View.of(case)
    own = view.source
    if view.state is None or own is None or own.id != view.state.own or not case.asked("clock:measured"):
        return ()
    sizes = [h.passes for h in view.holes] or [t for t in map(view.told, DIRECTIONS) if t is not None]
    route = route_of(view.state, own.id, view.address) if not sizes and view.address else None
    if route is not None and route.mtu is not None:
        sizes = [route.mtu]  # a repair that lasts until the next start
    link = view.source_link
    if not sizes or link is None or link.mtu <= min(sizes):
        return ()
    return (ReadPlatform(ref="platform", source=case.ask.source, netns=own.id, link=link.name, index=link.index),)


def _end(case: Case) -> tuple[Request, ...]:
    return (ReadClock(ref="clock"),)


def _survey(case: Case) -> tuple[Request, ...]:
    """Everything there is, as quickly as it can be read, with the sockets that hang. No packet is sent."""
    return (ReadState(ref="state", source="host", detail="survey", sockets=True),)


OF_A_SCAN = (_survey, _end)
STEPS = (
    *(_place, _see, _remember, _watch, _measure, _watched),
    *(_after, _others, _follow, _platform, _look_again, _forget_not, _end),
)


# -- what is known so far -------------------------------------------------------------------------------------


def source(case: Case) -> PlaceFact | None:
    """The place we ask from, when it was found."""
    return case.one("source", PlaceFact)


def chosen(case: Case) -> ProbeResult | None:
    """The measurement of the path that the asked client would take: the first address that answers, or the first."""
    full = [p for p in case.all(ProbeResult) if not _contact_only(case, p.ref)]
    return next((p for p in full if p.contact.tcp in ("ok", "n/a")), full[0] if full else None)


def is_hole(bracket: Bracket | None) -> bool:
    """Larger packets vanish and nobody says so, shown by repetition."""
    return bracket is not None and bracket.fails is not None and bracket.grade in ("proof", "step")


def proxy_of(case: Case) -> proxies.Proxy | None:
    """The proxy the asked client would use, as --proxy or the source's environment says."""
    return proxies.proxy(case.ask, source(case))


def addresses(case: Case) -> tuple[str, ...]:
    """Addresses of the target (or of the proxy in front of it) in the order the asked client would try them."""
    ask = case.ask
    if source(case) is None or not case.asked("state"):
        return ()
    if ask.target.where is not None:
        place = case.one("target", PlaceFact)
        found = (ask.target.at,) if place and ask.target.at else place.addresses if place else ()
        here = source(case)
        if place is not None and here is not None and place.netns == here.netns:
            found = found or LOOPBACK  # with itself
    else:
        proxy = proxy_of(case)
        name = proxy.host if proxy else ask.target.host
        literal = proxies.literal(name)
        given = _given(ask, name)
        fact = case.one("name", NameFact)
        found = (literal,) if literal else given or (fact.addresses if fact else ())
    wanted = tuple(dict.fromkeys(a for a in found if ask.family is None or family_of(a) == ask.family))
    place, state = source(case), case.one("state", StateFact)
    if place is None or state is None or len(wanted) < 2:
        return wanted  # as the source's own resolver has sorted them
    from pathfit.rules.forecast import in_order

    ordered = in_order(state.host, place.netns, wanted)
    if ask.target.where is None:
        return ordered
    return tuple(sorted(ordered, key=lambda a: _doomed(case, a)))  # a member of several networks: what is within reach


def source_state(case: Case) -> NetnsSnapshot | None:
    """The snapshot of the source's namespace."""
    place, state = source(case), case.one("state", StateFact)
    if place is None or state is None:
        return None
    return next((n for n in state.host.namespaces if n.id == place.netns), None)


def _measure_one(case: Case, ref: str, address: str, mine: Share) -> Measure:
    ask = case.ask
    target = ask.target
    proxy = proxy_of(case)
    short = _unanswered(case, address) or _doomed(case, address)
    return Measure(
        ref=ref,
        source=ask.source,
        address=address,
        port=proxy.port if proxy else target.port,
        protocol=_to_proxy(proxy) or target.protocol,
        host=proxy.host if _to_proxy(proxy) and proxy else _host_header(ask),
        sni=_sni(proxy.host) if _to_proxy(proxy) and proxy else ask.sni or _sni(target.host),
        path="/" if _to_proxy(proxy) else target.path,
        methods=("tcp-maxseg", "tcp-sack", "icmp-echo"),
        connections_per_round=mine.at_once,
        connections_total=mine.total,
        parallel=mine.at_once,
        even=mine.even,
        budget=_budget(ask.timeout),
        connect=CONNECT_SHORT if short else CONNECT,
        contact_only=mine.contact_only,
        patient=min(PATIENT, ask.timeout * 0.6) if ask.patient else 0.0,
        seed=ask.seed,
        proxy=_authority(target.host, target.port) if proxy and not _to_proxy(proxy) else None,
        far=(target.where or "") if not mine.contact_only and case.one("target", PlaceFact) is not None else "",
        witnesses=() if mine.contact_only else _witnesses(case),
    )


def _budget(timeout: float) -> float:
    """Seconds for measuring one address. Three are plenty, but for a machine so slow that it was given more time."""
    return min(max(3.0, timeout / 5), timeout * 0.6)


def _to_proxy(proxy: proxies.Proxy | None) -> Protocol | None:
    """What is spoken to a proxy through which nothing is sent: TLS where it speaks that, else nothing at all."""
    if proxy is None or proxy.scheme == proxies.FOLLOWED:
        return None
    return "https" if proxy.scheme == "https" else "tcp"


def _sni(host: str) -> str | None:
    return host if proxies.literal(host) is None else None


def _witnesses(case: Case) -> tuple[str, ...]:
    """Whose sockets say more when nothing answers: the source's (a local proxy in it has a far half), the target's."""
    if _open_door(case):
        return (case.ask.source,)
    from pathfit.rules.view import View

    target = View.of(case).target
    return tuple(dict.fromkeys((case.ask.source, *((target.where,) if target is not None else ()))))


def _doomed(case: Case, address: str) -> bool:
    """Does state say already that no connection to this address will stand, or carry anything? Then it need not be
    waited for long."""
    if _open_door(case):
        return False
    from pathfit.rules.view import View

    try:
        view = View(case, asking=address)
        return view.explained or any(view.large_filtered())
    except Exception:  # the model is treated as a rule: diagnose.py reports its error, once
        return False


def _open_door(case: Case) -> bool:
    """Is the source's namespace all we see, with one device, up, and nothing in it that could take packets in silence?
    Then the model, which is large, has nothing to say before the first packet: where no route is, connect() says so."""
    state, ns = case.one("state", StateFact), source_state(case)
    if state is None or ns is None or len(state.host.namespaces) > 1:
        return False
    doors = [x for x in ns.links if not x.loopback]
    plain = not (ns.tables or ns.xfrm_policies or any(n.state == "failed" for n in ns.neighbours))
    return plain and len(doors) == 1 and doors[0].up and doors[0].carrier


def _host_header(ask: Ask) -> str:
    default = {"http": 80, "https": 443}.get(ask.target.protocol)
    return _authority(ask.target.host, 0 if ask.target.port == default else ask.target.port)


def _authority(host: str, port: int) -> str:
    """``host:port`` as it stands in URLs; port 0: the host alone (RFC 3986 section 3.2)."""
    return endpoint(host, port) if port else bracketed(host)


def _contact_only(case: Case, ref: str) -> bool:
    return any(
        isinstance(x.request, Measure) and x.request.ref == ref and x.request.contact_only for x in case.exchanges
    )


def _given(ask: Ask, name: str) -> tuple[str, ...]:
    return tuple(a for h, a in ask.resolve if h.lower() == name.lower())
