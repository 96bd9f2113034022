"""The runtime repair that is recommended first: `mtu` on the route that carries the asked flow.

It bounds both directions at once: what the source sends (dst_mtu()) and what it invites (tcp_advmss_sock() takes
the route's MTU; an `advmss` of the route counts before that, so one that is too large comes down with it). It touches
one route of one namespace, interrupts nothing, and is undone by writing the route back as it was. `ip route change`
replaces all attributes, so every one that was read is written again.
"""

from msgspec.structs import replace

from pathfit.core.change import FlushRouteCache, SetRouteMtu
from pathfit.core.finding import Facts, Finding, Fix
from pathfit.core.net import Family, mss_of
from pathfit.core.snapshot import NetnsSnapshot, NextHop, Route
from pathfit.remedies.base import (
    MAIN_TABLE,
    SAFE_FLOOR,
    Argv,
    at,
    carrying,
    contained,
    ip,
    link_name,
    reachable,
    verified,
)
from pathfit.rules.places import place_text
from pathfit.rules.view import View

SCOPES = {0: None, 200: "site", 253: "link", 254: "host"}
PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp", 186: "bgp"}
RA = 9  # RTPROT_RA: written again by the next router advertisement


def route_mtu(view: View, value: int) -> tuple[Fix, ...]:
    """The fix, or nothing when the route is not known for certain or already has a smaller one.

    By hand where the number itself would hurt, for a route on a next hop object, which keeps what it was once given,
    and for one that router advertisements keep: written back, it would lose its lifetime (rtm_to_fib6_config() knows
    none without RTA_EXPIRES).
    """
    ns, carried = view.source, carrying(view)
    if ns is None or carried is None or not reachable(ns):
        return ()
    route, hop = carried
    most = mss_of(route.family, value)
    invites_more = route.advmss is not None and route.advmss > most
    if route.mtu is not None and route.mtu <= value and not invites_more:
        return ()
    words, new = spelled(ns, route, hop), spelled(ns, replace(route, advmss=most) if invites_more else route, hop)
    if words is None or new is None:
        return ()
    family = f"-{route.family}"
    where = at(view, ns, link_name(ns, hop.link))
    facts: Facts = {
        "place": place_text(at(view, ns)),
        "route": route.dst or "default",
        "contained": contained(view, ns),
    }
    if route.protocol == RA:
        facts["by_hand"] = "by-hand.advertised"
    elif route.object:  # what is then written without an MTU keeps the old one (fib_find_info_nh())
        facts["by_hand"] = "by-hand.object"
    elif value < SAFE_FLOOR[route.family]:
        facts["by_hand"] = "by-hand.tiny"
    safe = "by_hand" not in facts
    change = SetRouteMtu(
        netns=ns.id,
        where=ns.where,
        family=route.family,
        table=route.table,
        dst=route.dst,
        prefix=route.prefix,
        mtu=value,
        link=hop.link,
        via=hop.via,
        metric=route.metric,
        tos=route.tos,
    )
    return (
        Fix(
            id="route-mtu",
            title="fix.route-mtu",
            platform="linux",
            value=value,
            effective=value,
            applicability="safe" if safe else "manual",
            lasts="reboot" if "host" in (ns.where, *ns.names) else "recreate",
            commands=((*ip(ns), family, "route", "change", *new, *_mtu(replace(route, mtu=value))),),
            undo=() if route.object else ((*ip(ns), family, "route", "change", *words, *_mtu(route)),),
            where=where,
            facts=facts,
            changes=(change,) if safe else (),
            verify=verified(view) if safe else "",
        ),
    )


def unlocked(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Take `mtu lock` out of the route that carries the asked flow; by hand, for somebody wrote it on purpose."""
    ns, carried = view.source, carrying(view)
    if ns is None or carried is None or not reachable(ns) or not carried[0].mtu_lock:
        return ()
    if not finding.where or finding.where[0].netns != ns.where:
        return ()  # in another namespace; its route is not ours to rewrite
    words = spelled(ns, *carried)
    if words is None:
        return ()
    route = carried[0]
    return (
        Fix(
            id="route-unlock",
            title="fix.unlock-route",
            platform="linux",
            applicability="manual",
            commands=((*ip(ns), f"-{route.family}", "route", "change", *words),),
            undo=((*ip(ns), f"-{route.family}", "route", "change", *words, *_mtu(route)),),
            where=at(view, ns),
            facts={"place": place_text(at(view, ns))},
        ),
    )


def flushed(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Forget the cached path MTUs of that namespace. The kernel learns them again where they are true: no undo."""
    ns = view.namespace(finding.where[0].netns) if finding.where else None
    if ns is None or not reachable(ns):
        return ()
    family: Family = 6 if view.family == 6 else 4
    return (
        Fix(
            id="flush-cache",
            title="fix.flush-cache",
            platform="linux",
            applicability="safe",
            lasts="reboot",
            commands=((*ip(ns), f"-{family}", "route", "flush", "cache"),),
            where=at(view, ns),
            facts={"place": place_text(at(view, ns))},
            changes=(FlushRouteCache(netns=ns.id, where=ns.where, family=family),),
            verify=verified(view),
        ),
    )


def spelled(ns: NetnsSnapshot, route: Route, hop: NextHop) -> Argv | None:
    """The route without its MTU, as arguments of `ip route`; None when its device has no name here."""
    device = link_name(ns, hop.link)
    if device is None:
        return None
    words: list[str] = [f"{route.dst}/{route.prefix}" if route.prefix else "default"]
    if route.src:
        words += ["from", f"{route.src}/{route.src_prefix}"]
    words += _way(route, hop, device)
    if route.table != MAIN_TABLE:
        words += ["table", str(route.table)]
    if route.protocol:
        words += ["proto", PROTOCOLS.get(route.protocol, str(route.protocol))]
    scope = SCOPES.get(route.scope, str(route.scope))
    if route.family == 4 and scope:
        words += ["scope", scope]
    if route.tos:
        words += ["tos", hex(route.tos)]
    if route.prefsrc:
        words += ["src", route.prefsrc]
    if route.metric:
        words += ["metric", str(route.metric)]
    if route.advmss:
        words += ["advmss", str(route.advmss)]
    if route.initcwnd:
        words += ["initcwnd", str(route.initcwnd)]
    return tuple(words)


def _way(route: Route, hop: NextHop, device: str) -> list[str]:
    if route.object:
        return ["nhid", str(route.object)]
    gateway: list[str] = []
    if hop.via:
        other = (6 if ":" in hop.via else 4) != route.family
        gateway = ["via", *(["inet6"] if other else []), hop.via]
    return [*gateway, "dev", device, *(["onlink"] if hop.onlink else [])]


def _mtu(route: Route) -> Argv:
    if route.mtu is None:
        return ()
    return ("mtu", "lock", str(route.mtu)) if route.mtu_lock else ("mtu", str(route.mtu))
