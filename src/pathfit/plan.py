"""What to ask the world next (pure).

A plan is a row of *steps*. Each step says which requests it wants, given what is known; those not asked yet are
asked, and the row is read again from the front. A step whose ground is missing wants nothing. So the plan is a
function of the case alone, request ids are stable, and a saved case takes the same way again.

Order matters twice (research behind it: docs/probing.md): state and hung sockets are read before the first packet
is sent, because measuring may change them; and the reverse direction is measured before anything that could teach
this host a path MTU - that one is inside the single Measure request.

What only looks back (rules, remedies, the model) is imported where it is used: the first packet shall not wait for it.
"""

import ipaddress

from pathfit.core.ask import Ask, Protocol
from pathfit.core.case import Case
from pathfit.core.evidence import ClockFact, NameFact, PlaceFact, ProbeResult, StateFact
from pathfit.core.measured import Bracket, Contact
from pathfit.core.net import IP_HEADER, TCP_HEADER, Family
from pathfit.core.request import (
    Locate,
    Measure,
    MeasureHops,
    ReadClock,
    ReadCounters,
    ReadPlatform,
    ReadRules,
    ReadSockets,
    ReadState,
    Request,
    ResolveName,
    TryFix,
)
from pathfit.core.snapshot import NetnsSnapshot, Route
from pathfit.measure.reverse import CONNECT, CONNECT_SHORT
from pathfit.model.addr import family_of

OTHER_ADDRESSES = 3  # further addresses are only contacted, not measured to the byte
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
    name = proxy[0] if proxy else target.host
    if name and _literal(name) is None and not _given(case.ask, name):
        families: tuple[Family, ...] = (case.ask.family,) if case.ask.family else (4, 6)
        requests.append(ResolveName(ref="name", source=case.ask.source, name=name, families=families))
    return tuple(requests)


def _measure(case: Case) -> tuple[Request, ...]:
    """The path the asked client would take first; the next address in full only when that one cannot be reached."""
    todo = addresses(case)
    if not todo:
        return ()
    requests: list[Request] = []
    n = 0
    for n, address in enumerate(todo[: OTHER_ADDRESSES + 1], 1):
        ref = f"probe:{n}"
        requests.append(_measure_one(case, ref, address, contact_only=False))
        done = case.one(ref, ProbeResult)
        if done is None or done.contact.tcp in ("ok", "refused", "reset", "n/a"):
            break
    if case.asked(f"probe:{n}"):  # the chosen one is measured: look in on the others
        for m, address in enumerate(todo[n : OTHER_ADDRESSES + 1], n + 1):
            requests.append(_measure_one(case, f"probe:{m}", address, contact_only=True))
    return tuple(requests)


def _after(case: Case) -> tuple[Request, ...]:
    """What moved while we measured: counters, and the counters of filter rules."""
    if not case.all(ProbeResult):
        return ()
    return (
        ReadCounters(ref="counters:after", source=case.ask.source),
        ReadRules(ref="rules:after", source=case.ask.source),
        ReadClock(ref="clock:measured"),
    )


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
    reached = case.ask.target.where is None or (contact.tcp == "ok" and case.ask.target.port > 0)
    if reached and is_hole(forward) and forward is not None and place is not None and place.privileged:
        requests.append(
            MeasureHops(
                ref="hops",
                source=case.ask.source,
                address=contact.address,
                port=contact.port,
                small=SMALL,
                large=forward.fails or 1500,
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
STEPS = (_place, _see, _measure, _after, _follow, _platform, _end)


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


def proxy_of(case: Case) -> tuple[str, int] | None:
    """Host and port of the HTTP proxy the asked client would use, as --proxy or the source's environment says."""
    ask = case.ask
    place = source(case)
    if ask.target.protocol not in ("http", "https") or ask.proxy == "none":
        return None
    text = ask.proxy
    if text is None and place is not None:
        env = {k.lower(): v for k, v in place.environ.items()}
        # curl and Go ignore upper-case HTTP_PROXY (CVE-2016-5385); only the lower-case one counts for http
        http_proxy = place.environ.get("http_proxy")
        text = env.get("https_proxy") if ask.target.protocol == "https" else http_proxy
        text = text or env.get("all_proxy")
        if text and _excluded(ask.target.host, env.get("no_proxy", "")):
            return None
    return _host_port(text) if text else None


def _excluded(host: str, no_proxy: str) -> bool:
    """no_proxy as curl reads it: names and their subdomains, addresses, networks, or ``*``."""
    for raw in no_proxy.replace(",", " ").split():
        entry = raw.strip().lower().lstrip(".")
        if entry == "*" or host.lower() == entry or host.lower().endswith("." + entry):
            return True
        literal = _literal(host)
        if literal is not None and "/" in entry:
            try:
                if ipaddress.ip_address(literal) in ipaddress.ip_network(entry, strict=False):
                    return True
            except (ValueError, TypeError):
                continue
    return False


def _host_port(text: str) -> tuple[str, int] | None:
    scheme, sep, rest = text.partition("://")
    if sep and scheme.lower() not in ("http",):
        return None  # SOCKS and TLS proxies are not followed; the rule on proxies says so
    rest = (rest if sep else text).rsplit("@", 1)[-1].split("/", 1)[0]
    host, _, port = rest.rpartition(":") if rest.count(":") == 1 or rest.startswith("[") else (rest, "", "")
    host = (host or rest).strip("[]")
    if not host:
        return None
    return host, int(port) if port.isdigit() and 0 < int(port) < 65536 else 3128 if not port else 0


def addresses(case: Case) -> tuple[str, ...]:
    """Addresses of the target (or of the proxy in front of it) in the order the asked client would try them."""
    ask = case.ask
    if source(case) is None or not case.asked("state"):
        return ()
    if ask.target.where is not None:
        place = case.one("target", PlaceFact)
        found = place.addresses if place else ()
        here = source(case)
        if place is not None and here is not None and place.netns == here.netns:
            found = found or LOOPBACK  # with itself
    else:
        proxy = proxy_of(case)
        name = proxy[0] if proxy else ask.target.host
        literal = _literal(name)
        given = _given(ask, name)
        fact = case.one("name", NameFact)
        found = (literal,) if literal else given or (fact.addresses if fact else ())
    wanted = [a for a in found if ask.family is None or family_of(a) == ask.family]
    return tuple(sorted(wanted, key=lambda a: 0 if family_of(a) == 6 and _has_route(case, a) else 1))


def _has_route(case: Case, address: str) -> bool:
    """Has the source a route to this IPv6 address? (RFC 6724 rule 1: avoid unusable destinations.)"""
    ns = source_state(case)
    target = ipaddress.ip_address(address)
    return ns is not None and any(
        r.family == 6 and r.type in ("unicast", "local") and not r.dst.startswith("fe80") and _covers(r, target)
        for r in ns.routes
    )


def _covers(route: Route, target: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    net = ipaddress.ip_network(f"{route.dst or '::'}/{route.prefix}", strict=False)
    return target in net


def source_state(case: Case) -> NetnsSnapshot | None:
    """The snapshot of the source's namespace."""
    place, state = source(case), case.one("state", StateFact)
    if place is None or state is None:
        return None
    return next((n for n in state.host.namespaces if n.id == place.netns), None)


def _measure_one(case: Case, ref: str, address: str, *, contact_only: bool) -> Measure:
    ask = case.ask
    target = ask.target
    proxy = proxy_of(case)
    polite = ipaddress.ip_address(address).is_global and not ask.fast
    return Measure(
        ref=ref,
        source=ask.source,
        address=address,
        port=proxy[1] if proxy else target.port,
        protocol=target.protocol,
        host=_host_header(ask),
        sni=ask.sni or (target.host if _literal(target.host) is None else None),
        path=target.path,
        methods=("tcp-maxseg", "tcp-sack", "icmp-echo"),
        connections_per_round=4 if polite else 14,
        connections_total=24 if polite else 120,
        parallel=4 if polite else 14,
        budget=min(3.0, ask.timeout * 0.6),
        connect=CONNECT_SHORT if _doomed(case, address) else CONNECT,
        contact_only=contact_only,
        patient=min(PATIENT, ask.timeout * 0.6) if ask.patient else 0.0,
        seed=ask.seed,
        proxy=f"{target.host}:{target.port}" if proxy else None,
        far=(target.where or "") if not contact_only and case.one("target", PlaceFact) is not None else "",
        witnesses=() if contact_only else _witnesses(case),
    )


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
    host = ask.target.host
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}.get(ask.target.protocol)
    return host if ask.target.port in (0, default) else f"{host}:{ask.target.port}"


def _contact_only(case: Case, ref: str) -> bool:
    return any(
        isinstance(x.request, Measure) and x.request.ref == ref and x.request.contact_only for x in case.exchanges
    )


def _given(ask: Ask, name: str) -> tuple[str, ...]:
    return tuple(a for h, a in ask.resolve if h.lower() == name.lower())


def _literal(host: str) -> str | None:
    """The host as a canonical address when it is one (a zone like %eth0 is kept), else None."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return None
