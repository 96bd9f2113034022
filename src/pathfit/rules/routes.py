"""No way at all: no route, no neighbour, no link, no answer."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding
from pathfit.core.net import Point
from pathfit.core.path import Fate, Lookup, Predicted, Resolve, Translated
from pathfit.model.lookup import on_purpose
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.view import SAID, View

NO_ROUTE_V4 = (0, 6, 11)  # network unreachable, network unknown, unreachable for TOS (RFC 792, RFC 1122)
HOST_DOWN_V4 = (1, 7)  # host unreachable, host unknown
LOCAL_NO_ROUTE = ("ENETUNREACH", "EACCES", "EINVAL")  # what connect() says of unreachable, prohibit, blackhole


def no_route(view: View) -> Iterable[Finding]:
    """There is no route to the target, or back from it, or the route says so on purpose.

    Why it hurts: nothing passes, of any size.
    Example: a container without default route; a `blackhole` or `prohibit` route left by a CNI.
    Repair: add the route; remove the blackhole.
    Severity: error.
    Possible: never said.
    Likely: a router answered "network unreachable"; or state alone, all of the way up to there visible.
    Confirmed: the source's own kernel refused, or state shows where the route is missing, and the connection failed.
    References: fib_lookup(), ip_error(); RFC 792; ip-route(8).
    """
    if view.connects:
        return
    for direction, way in view.ended(Fate.NO_ROUTE, Fate.UNREACHABLE):
        at = way.culprit.at if way.culprit else view.edge
        facts: Facts = {
            "case": "state",
            "direction": SAID[direction],
            "target": view.target_label,
            "place": place_text(at),
        }
        sure = view.fails_to_connect
        wanted = _wanted(way)
        proof = line(view.state_ref, "no-route", place=place_text(at), target=wanted)
        refused_by = _on_purpose(way)
        if refused_by:
            facts["case"], facts["route"] = "route", refused_by
            proof = line(view.state_ref, "route", place=place_text(at), route=refused_by)
        elif way.fate == Fate.UNREACHABLE:
            facts["case"] = "nobody"
            proof = line(view.state_ref, "nobody", place=place_text(at))
        if direction == "reverse":  # it is the answers that find no way, and the target is who sends them
            facts["case"], facts["toward"] = f"{facts['case']}-back", wanted
        yield found("RTE501", "error", "confirmed" if sure else "likely", at, facts, proof)
        return
    c = view.contact
    if c is None or not view.fails_to_connect or view.explained:
        return
    if c.icmp is None and c.error in LOCAL_NO_ROUTE:
        facts = {"case": "local", "direction": "outbound", "target": view.target_label, "errno": c.error}
        facts["place"] = place_text(view.source_point)
        yield found("RTE501", "error", "confirmed", view.source_point, facts, line(view.ref, "errno", errno=c.error))
    elif c.icmp in {(3, x) for x in NO_ROUTE_V4} | {(1, 0)}:
        facts = {"case": "told", "direction": "outbound", "target": view.target_label, "by": c.error_from or "-"}
        said = line(view.ref, "icmp", type=c.icmp[0], code=c.icmp[1], by=c.error_from or "-") if c.icmp else None
        if said is not None:
            yield found("RTE501", "error", "likely", view.edge, facts, said)


def _routes_went_with_it(view: View) -> Iterable[Finding]:
    """No route, where a device with an address is down: the kernel takes its routes away (fib_disable_ip())."""
    for direction, way in view.ended(Fate.NO_ROUTE):
        at = way.culprit.at if way.culprit else view.edge
        ns = view.namespace(at.netns) if at.host == view.host and _on_purpose(way) is None else None
        down = [x for x in ns.links if not x.up and any(a.link == x.index for a in ns.addresses)] if ns else []
        if len(down) != 1:
            continue
        there = Point(host=at.host, netns=at.netns, link=down[0].name)
        facts: Facts = {"case": "routes", "direction": SAID[direction], "place": place_text(there)}
        proof = line(view.state_ref, "link-down", place=place_text(there))
        yield found("RTE503", "warning", "likely", there, facts, proof)
        return


def _wanted(way: Predicted) -> str:
    """The address that the packet bears where its way ends, which NAT may have changed before."""
    changed = [s.after for h in way.hops for s in h.steps if isinstance(s, Translated)]
    return (changed[-1] if changed else way.flow).dst


def _nobody_behind_it(view: View) -> Iterable[Finding]:
    """A next hop that does not answer, behind a device without carrier: who should answer cannot hear."""
    for _, way in view.ended(Fate.NEIGH_FAILED):
        link = view.link_at(way.culprit.at) if way.culprit is not None else None
        if way.culprit is None or link is None or link.carrier:
            continue
        facts: Facts = {"case": "carrier", "place": place_text(way.culprit.at)}
        proof = line(view.state_ref, "no-carrier", place=place_text(way.culprit.at))
        yield found("RTE503", "warning", "confirmed", way.culprit.at, facts, proof)
        return


def _on_purpose(way: Predicted) -> str | None:
    """The route that says no, as `ip route` prints it; None when there simply is none."""
    route = way.culprit.route if isinstance(way.culprit, Lookup) else ""
    return route if on_purpose(route) else None


def neighbour(view: View) -> Iterable[Finding]:
    """The next hop, or the target itself, does not answer on its own link (ARP, NDP).

    Why it hurts: nothing passes; after about three seconds "no route to host" comes back.
    Example: the container behind an address is gone; the VLAN of a port is wrong.
    Repair: find out why that address does not answer on that link.
    Severity: error.
    Possible: never said.
    Likely: somebody answered "host unreachable"; or state alone shows a failed entry.
    Confirmed: state shows the failed entry on the way, and the connection failed.
    References: neigh_invalidate(), arp_error_report(); RFC 826; RFC 4861 section 7.
    """
    if view.connects:
        return
    for direction, way in view.ended(Fate.NEIGH_FAILED):
        at = way.culprit.at if way.culprit else view.edge
        address = getattr(way.culprit, "address", view.address)
        facts: Facts = {"case": "state", "direction": SAID[direction], "address": address, "place": place_text(at)}
        sure = view.fails_to_connect
        failed = isinstance(way.culprit, Resolve) and way.culprit.state == "failed"
        message = "neighbour" if failed else "nobody-has"
        proof = line(view.state_ref, message, place=place_text(at), address=address)
        yield found("RTE502", "error", "confirmed" if sure else "likely", at, facts, proof)
        return
    c = view.contact
    if c is None or "unreachable" not in (c.tcp, c.udp) or view.explained:
        return
    by_icmp = c.icmp in {(3, x) for x in HOST_DOWN_V4} | {(1, 3)}
    if by_icmp or (c.icmp is None and c.error == "EHOSTUNREACH"):
        by = c.error_from or place_text(view.source_point)
        facts = {"case": "told", "direction": "outbound", "address": view.address, "by": by}
        yield found(
            "RTE502", "error", "likely", view.edge, facts, line(view.ref, "errno", errno=c.error or "EHOSTUNREACH")
        )


def link_down(view: View) -> Iterable[Finding]:
    """A device on the way is down or has no carrier.

    Why it hurts: nothing passes.
    Example: the far half of a veth pair, or a bridge port, was never set up.
    Repair: `ip link set DEV up`; for "no carrier" look at the other end.
    Severity: error; warning where it only explains a missing route (RTE501) or a silent neighbour (RTE502).
    Possible: never said.
    Likely: state alone, all of the way up to there visible; or a route is missing where a device with an address is
    down, for its routes go with it.
    Confirmed: state shows it on the way, and the connection failed; or it is the device behind which nobody answers.
    References: IFF_UP, IFF_LOWER_UP (netdevice(7)); dev_queue_xmit().
    """
    if view.connects:
        return
    for direction, way in view.ended(Fate.LINK_DOWN):
        at = way.culprit.at if way.culprit else view.edge
        facts: Facts = {"direction": SAID[direction], "place": place_text(at)}
        sure = view.fails_to_connect
        proof = line(view.state_ref, "link-down", place=place_text(at))
        yield found("RTE503", "error", "confirmed" if sure else "likely", at, facts, proof)
        return
    yield from _routes_went_with_it(view)
    yield from _nobody_behind_it(view)
    c = view.contact
    if c is not None and c.error == "ENETDOWN" and not view.explained:
        facts = {"direction": "outbound", "place": place_text(view.source_point)}
        yield found("RTE503", "error", "confirmed", view.source_point, facts, line(view.ref, "errno", errno="ENETDOWN"))
