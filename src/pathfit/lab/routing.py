"""Which host forwards, and the routes each one needs. Pure; fills a Layout."""

import ipaddress

from pathfit.lab.layout import Layout, Port, RoutePlan, Segment
from pathfit.lab.scenario import Route


def forwards(plan: Layout, host: str) -> bool:
    """Said so, or a host with several networks; a container only when it holds containers itself."""
    h = plan.hosts[host]
    if h.forward is not None:
        return h.forward
    several = len([s for s in plan.segments if any(p.host == host for p in s.members)]) > 1
    return several and (h.container_in is None or any(b.port.host == host for b in plan.bridges))


def add_routes(plan: Layout) -> None:
    """Automatic routes first, then those of the scenario (which replace equal ones)."""
    if plan.scenario.routing == "auto":
        for host in plan.hosts:
            if not plan.hosts[host].switch:
                _automatic(plan, host)
    for route in plan.scenario.routes:
        add_route(plan, route)


def _automatic(plan: Layout, host: str) -> None:
    """One default route when everything remote lies behind one next hop, else a route per network.

    A host behind NAT always has a default route: that is how engines build them.
    """
    hops = _next_hops(plan, host)
    own = [s for s in plan.segments if any(p.host == host for p in s.members)]
    behind = next((s for s in own if s.owner and s.owner != host), None)
    distinct = {id(port) for _, port in hops}
    for family in plan.scenario.families:
        if behind is not None:
            gateway: Port | None = next(p for p in behind.members if p.host == behind.owner)
        else:
            gateway = hops[0][1] if len(distinct) == 1 else None
        if gateway is not None:
            plan.hosts[host].routes.append(RoutePlan(to="default", family=family, via=_ip(gateway, family)))
            continue
        for segment, port in hops:
            to = segment.nets[family]
            plan.hosts[host].routes.append(RoutePlan(to=to, family=family, via=_ip(port, family)))


def _next_hops(plan: Layout, host: str) -> list[tuple[Segment, Port]]:
    """Every public network ``host`` is not on, with the port of the first router towards it (shortest first)."""
    own = [s for s in plan.segments if any(p.host == host for p in s.members)]
    seen = [id(s) for s in own]
    frontier: list[tuple[Segment, Port | None]] = [(s, None) for s in own]
    found: list[tuple[Segment, Port]] = []
    while frontier:
        segment, first = frontier.pop(0)
        for port in segment.members:
            if port.host == host or not forwards(plan, port.host):
                continue
            for beyond in plan.segments:
                if id(beyond) in seen or not any(p.host == port.host for p in beyond.members):
                    continue
                if beyond.owner is not None:
                    continue
                seen.append(id(beyond))
                found.append((beyond, first or port))
                frontier.append((beyond, first or port))
    return found


def add_route(plan: Layout, route: Route) -> None:
    """A route of the scenario, for every family it makes sense in; replaces one to the same place."""
    host = plan.hosts[route.host]
    made = 0
    for family in plan.scenario.families:
        to = destination(plan, route.to, family)
        via = _resolve(plan, route.host, route.via, family)
        if to is None or (route.via is not None and via is None):
            continue
        new = RoutePlan(
            to=to,
            family=family,
            via=via,
            dev=route.dev,
            src=route.src,
            mtu=route.mtu,
            lock=route.lock,
            advmss=route.advmss,
            kind=route.kind,
            table=route.table,
        )
        old = [r for r in host.routes if (r.to, r.family, r.table) == (to, family, route.table)]
        if new.kind == "unicast" and new.via is None and new.dev is None:
            # only an attribute changes ("mtu lock 1400 towards s"): keep the way
            way = old[0] if old else _way(plan, route.host, to, family)
            new.via, new.dev = way.via, way.dev
        host.routes = [r for r in host.routes if r not in old] + [new]
        made += 1
    if not made:
        raise ValueError(f"route of {route.host} to {route.to}: no address of the scenario's family fits")


def _way(plan: Layout, host: str, to: str, family: int) -> RoutePlan:
    """How ``host`` would go to ``to`` now: a connected network or its best route."""
    net = ipaddress.ip_network("0.0.0.0/0" if family == 4 else "::/0") if to == "default" else ipaddress.ip_network(to)
    for port in plan.hosts[host].ports:
        for cidr in port.addresses:
            mine = ipaddress.ip_interface(cidr).network
            if mine.version == net.version and net.subnet_of(mine):  # type: ignore[arg-type]
                return RoutePlan(to=to, family=family, dev=port.link)
    best: RoutePlan | None = None
    longest = -1
    for r in plan.hosts[host].routes:
        if r.family != family or r.kind != "unicast":
            continue
        theirs = ipaddress.ip_network(("0.0.0.0/0" if family == 4 else "::/0") if r.to == "default" else r.to)
        if net.subnet_of(theirs) and theirs.prefixlen > longest:  # type: ignore[arg-type]
            best, longest = r, theirs.prefixlen
    if best is None:
        raise ValueError(f"{host} has no way to {to} that could be changed; say via or dev")
    return best


def destination(plan: Layout, to: str, family: int) -> str | None:
    """ "default", a prefix, an address, ``host`` or ``host/net`` as a destination of ``family``; None: the other."""
    if to == "default":
        return to
    place, slash, rest = to.partition("/")
    if place.partition(".")[0] in plan.hosts:
        try:
            return plan.network(place, family) if slash and rest == "net" else _host_prefix(plan.address(place, family))
        except KeyError:
            return None
    net = ipaddress.ip_network(to, strict=False)
    return str(net) if net.version == family else None


def _host_prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _resolve(plan: Layout, here: str, via: str | None, family: int) -> str | None:
    """The address of next hop ``via``: a host means its address on a network shared with ``here``."""
    if via is None:
        return None
    if via.partition(".")[0] not in plan.hosts:
        return via if ipaddress.ip_address(via).version == family else None
    host = via.partition(".")[0]
    for segment in plan.segments:
        if "." not in via and any(p.host == here for p in segment.members):
            for port in segment.members:
                if port.host == host:
                    return _ip(port, family)
    try:
        return plan.address(via, family)
    except KeyError:
        return None


def next_hop_on_shared(plan: Layout, here: str, there: str, family: int) -> tuple[str, Segment]:
    """The address of ``there`` on a network it shares with ``here``. Raises ValueError."""
    for segment in plan.segments:
        mine = any(p.host == here for p in segment.members)
        for port in segment.members:
            if mine and port.host == there:
                return _ip(port, family), segment
    raise ValueError(f"{here} and {there} share no network")


def _ip(port: Port, family: int) -> str:
    return next(str(i.ip) for a in port.addresses if (i := ipaddress.ip_interface(a)).version == family)
