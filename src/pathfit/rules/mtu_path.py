"""Facts about sizes on a path that works, or works only in part: told, stale, clamped on one side, uneven, late."""

import ipaddress
from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding
from pathfit.core.net import Direction, Family, Point, mss_of
from pathfit.core.path import Fate
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.rules.base import found, line
from pathfit.rules.forecast import route_of
from pathfit.rules.hints import resembles
from pathfit.rules.mtu_holes import other
from pathfit.rules.places import place_text
from pathfit.rules.view import DIRECTIONS, SAID, View

FLOWS_FOR_PROOF = 2  # different source ports that always failed: one may be a single lost connection


def pmtud_dependent(view: View) -> Iterable[Finding]:
    """It works, but only because somebody says "too big" and is heard.

    Why it hurts: it does not today. The first firewall change, NAT or tunnel that swallows one kind of ICMP message
    turns it into a black hole; until then the first large packets of each connection are lost and sent again.
    Example: a container of 1500 behind an uplink of 1412 whose router answers properly.
    Repair: give the source the MTU of the path, so that nothing has to be told.
    Severity: warning; the verdict is "degraded".
    Possible: never said.
    Likely: state shows a smaller device on the way that answers "too big", and full-sized packets were not measured.
    Confirmed: during the measurement a sender was told and obeyed (grade told).
    References: RFC 1191; RFC 8201; RFC 2923.
    """
    if view.holes:
        return  # what fails stands there already; the repair is the same
    for direction in DIRECTIONS:
        size = view.told(direction)
        promised = view.promised(direction)
        if size is not None:
            b = view.bracket(direction)
            facts: Facts = {"direction": SAID[direction], "limit": size, "promised": promised, "by": b.told_by}
            proof = line(view.ref, "told", limit=size, by=b.told_by)
            if b.told_by is None:  # what taught the far end is not seen from here: a "too big", or its own probing
                facts["case"] = "unnamed"
                proof = line(view.ref, "learned", limit=size)
            where = _visible(view, direction == "forward", size)
            if where == view.edge:  # nothing we see has this limit
                facts.update(resembles(size, view.family, view.link_at(where)))
            yield found("MTU106", "warning", "confirmed", where, facts, proof)
            return
    for direction in DIRECTIONS:
        limit = next((x for x in view.limits(direction) if x.then == "icmp" and x.told_home is not False), None)
        promised = view.promised(direction)
        if limit is None or promised is None or limit.mtu >= promised or not view.connects:
            continue
        if view.bracket(direction).passes is not None:
            continue  # measured: and nobody had to be told
        facts = {"direction": SAID[direction], "limit": limit.mtu, "promised": promised, "by": place_text(limit.at)}
        proof = line(view.state_ref, "smaller-device", place=place_text(limit.at), limit=limit.mtu)
        yield found("MTU106", "warning", "likely", limit.at, facts, proof)
        return


def stale(view: View) -> Iterable[Finding]:
    """A cached path MTU, or one locked in a route, is below what the path really carries.

    Why it hurts: every packet is smaller than need be, for up to ten minutes or for ever; and a wrong value (forged,
    or from a path that is no longer used) may be far too small.
    Example: after a failover the cache still says 1400 although the path carries 1500 again.
    Repair: `ip route flush cache` in that namespace; remove `mtu lock` from the route.
    Severity: warning, and the verdict is "degraded"; info where it is only possible.
    Possible: a value is remembered below all devices we see, but not all of the way is visible: it may be right.
    Likely: state alone shows it, all of the way being visible.
    Confirmed: measurement got larger packets through than that value; or state shows it, and what was measured is
    exactly that value.
    References: ip_rt_update_pmtu(), struct fib_nh_exception; rt6_insert_exception(); ip-route(8) "mtu lock".
    """
    for direction in ("forward", "reverse"):
        sender, address = _sender(view, direction)
        if sender is None or not address:
            continue
        carried = max((b.passes for b in view.tried(direction) if b.passes is not None), default=None)
        visible = _visible_size(view, direction)
        for case, mtu, seconds in _remembered(view, sender, address):
            sure = carried is not None and carried > mtu
            bound = carried if sure else visible
            if bound is None and direction == "forward" and case == "cached":
                yield from _in_force(view, sender, mtu, seconds)
                return
            if bound is None or mtu >= bound:
                continue
            facts: Facts = {"case": case, "direction": SAID[direction], "mtu": mtu, "real": bound, "expires": seconds}
            at = Point(host=view.host, netns=sender.where)
            proof = line(view.state_ref, "cached", mtu=mtu, real=bound)
            yield found("MTU110", "warning", "confirmed" if sure or carried == mtu else "likely", at, facts, proof)
            return


def clamp_one_sided(view: View) -> Iterable[Finding]:
    """The MSS is clamped for one direction only, and the other one has the hole.

    Why it hurts: the clamp was meant as the cure; it protects downloads or uploads, not both.
    Example: `TCPMSS --clamp-mss-to-pmtu` with `-o ppp0` only: SYNs going out are lowered, SYN-ACKs coming in not.
    Repair: clamp SYN and SYN-ACK, as constants, on both ways through the box.
    Severity: warning; it is the cause of the MTU101 or MTU102 it explains.
    Possible: the SYN-ACK came with a smaller MSS than ours; the far end's own MTU may be the reason.
    Likely: answers kept to a smaller size than we invited, while our own segments fall into a hole.
    Confirmed: state shows the clamp on one direction's SYN and none on the other's, and measurement the hole.
    References: RFC 9293 section 3.7.1; xt_TCPMSS, nft_exthdr_tcp_set_eval().
    """
    if len(view.holes) != 1:
        return
    hole = view.holes[0]
    # A clamp on packets of one direction lowers what is sent in the *other* one: our SYN bounds the answers.
    wanting = view.way(other(hole.direction))
    having = view.way(hole.direction)
    facts: Facts = {"direction": SAID[hole.direction], "protected": SAID[other(hole.direction)], "limit": hole.passes}
    if having is not None and having.clamps and wanting is not None and not wanting.clamps:
        clamp = having.clamps[0]
        facts["mss"] = clamp.mss_after
        seen = line(view.state_ref, "clamp", place=place_text(clamp.at), mss=clamp.mss_after)
        yield found("MTU111", "warning", "confirmed", clamp.at, facts, seen)
        return
    if hole.direction == "forward":
        b, promised = view.bracket("reverse"), view.promised("reverse")
        # Only where answers were seen whole in smaller segments; "could not be proven" is no clamp.
        kept = b.note == "capped" and b.grade == "proof" and b.fails is None
        if kept and b.passes is not None and promised is not None and b.passes < promised:
            facts["mss"] = None
            seen = line(view.ref, "capped", passes=b.passes, promised=promised)
            yield found("MTU111", "warning", "likely", view.edge, facts, seen)


def clamp_wrong(view: View) -> Iterable[Finding]:
    """The MSS is clamped, but to a value that is still too large for the way.

    Why it hurts: everybody believes the clamp cures it. It was right for another uplink, or follows the MTU of a route
    that knows nothing of the limit beyond.
    Example: a clamp to 1412 (for PPPoE, packets of 1452) behind an uplink that carries 1400.
    Repair: clamp to the measured limit - 40 (IPv6: - 60).
    Severity: warning; it is the cause of the MTU101 or MTU102 it explains.
    Possible: never said.
    Likely: never said.
    Confirmed: state shows the clamp on the SYN that bounds the direction with the hole, and its value is above it.
    References: RFC 9293 section 3.7.1; RFC 6691; nft_exthdr_tcp_set_eval().
    """
    for hole in view.holes:
        way = view.way(other(hole.direction))  # a SYN of one direction bounds what is sent in the other
        clamp = min(way.clamps, key=lambda c: c.mss_after) if way is not None and way.clamps else None
        family: Family = 6 if view.family == 6 else 4
        wanted = mss_of(family, hole.passes)
        if clamp is None or clamp.mss_after <= wanted:
            continue
        facts: Facts = {
            "direction": SAID[hole.direction],
            "place": place_text(clamp.at),
            "mss": clamp.mss_after,
            "wanted": wanted,
            "limit": hole.passes,
        }
        seen = line(view.state_ref, "clamp", place=place_text(clamp.at), mss=clamp.mss_after)
        yield found("MTU112", "warning", "confirmed", clamp.at, facts, seen)


def uneven(view: View) -> Iterable[Finding]:
    """Some connections of one size always fail and others never do: one path or one backend of several is bad.

    Why it hurts: every third request hangs, a retry works, and no single test shows it.
    Example: one of three servers behind a balancer lost its jumbo setting; one of two bonded links drops 1500.
    Repair: at that path or backend; a smaller route `mtu` at the source avoids it for all.
    Severity: error; warning when only one flow was bad, which may be chance.
    Possible: never said.
    Likely: one flow of that size failed each time it was repeated.
    Confirmed: at least two flows failed each time, others of the same size never, and small ones neither.
    References: RFC 2992 (ECMP hashes); RFC 4821 section 7.6.
    """
    spread = view.probe.uneven if view.probe else None
    if spread is None or not spread.bad or not spread.good:
        return
    sure = spread.bad >= FLOWS_FOR_PROOF
    facts: Facts = {"size": spread.size, "good": spread.good, "bad": spread.bad, "target": view.target_label}
    proof = line(view.ref, "uneven", size=spread.size, good=spread.good, bad=spread.bad)
    yield found("MTU118", "error" if sure else "warning", "confirmed" if sure else "likely", view.edge, facts, proof)


def rescued(view: View) -> Iterable[Finding]:
    """A stuck connection comes to life after seconds, because its sender probes for a smaller size.

    Why it hurts: everything works, slowly: each new connection waits for several timeouts first.
    Example: net.ipv4.tcp_mtu_probing=1 on the server: after two lost repetitions it halves its segments.
    Repair: that of the black hole behind it; MTU probing is a net to fall into, no cure.
    Severity: warning; it never replaces MTU101 or MTU102.
    Possible: never said.
    Likely: the sender into the hole is visible and has tcp_mtu_probing switched on.
    Confirmed: a connection was watched until it was rescued.
    References: RFC 4821; tcp_mtu_probing(), tcp_write_timeout().
    """
    if view.probe is not None and view.probe.rescued_after is not None:
        seconds = round(view.probe.rescued_after, 1)
        facts: Facts = {"direction": "inbound", "seconds": seconds, "size": view.probe.rescued_size}
        proof = line(view.ref, "rescued", seconds=seconds)
        yield found("MTU119", "warning", "confirmed", view.edge, facts, proof)
        return
    for hole in view.holes:
        sender = view.target if hole.direction == "reverse" else view.source
        mode = sender.sysctls.get("ipv4.tcp_mtu_probing", "0") if sender else "0"
        if sender is not None and mode in ("1", "2"):
            facts = {"case": "expected", "direction": SAID[hole.direction], "mode": mode}
            at = Point(host=view.host, netns=sender.where)
            yield found("MTU119", "warning", "likely", at, facts, line(view.state_ref, "probing-on", mode=mode))


def _in_force(view: View, ns: NetnsSnapshot, mtu: int, seconds: int | None) -> Iterable[Finding]:
    """A cached value below all we see, on a way we do not see to its end: it may well be right."""
    seen = min([x.mtu for x in view.limits("forward") if x.kind not in ("cached", "route")], default=None)
    link = view.source_link
    seen = link.mtu if seen is None and link is not None else seen
    if seen is None or mtu >= seen or view.told("forward") is not None:
        return
    facts: Facts = {"case": "unsure", "direction": "outbound", "mtu": mtu, "real": seen, "expires": seconds}
    at = Point(host=view.host, netns=ns.where)
    yield found("MTU110", "info", "possible", at, facts, line(view.state_ref, "cached-unsure", mtu=mtu, seen=seen))


def _sender(view: View, direction: Direction) -> tuple[NetnsSnapshot | None, str]:
    """Who sends in that direction, and to which address as it knows it (after NAT)."""
    if direction == "forward":
        return view.source, view.address
    way = view.predicted_forward
    return view.target, way.final.src if way is not None and way.final is not None else ""


def _remembered(view: View, ns: NetnsSnapshot, address: str) -> Iterable[tuple[str, int, int | None]]:
    """(case, mtu, seconds left) of what that namespace holds to be the path MTU."""
    for entry in ns.exceptions:
        if _same(entry.dst, address):
            yield "cached", entry.mtu, None if entry.expires is None else round(entry.expires)
    route = route_of(view.state, ns.id, address) if view.state is not None else None
    if route is not None and route.mtu_lock and route.mtu:
        yield "locked", route.mtu, None


def _visible_size(view: View, direction: Direction) -> int | None:
    """What the devices of a wholly visible way carry, bytes, whatever is remembered of it; None: not all visible."""
    ns, _ = _sender(view, direction)
    largest = max((x.mtu for x in ns.links if not x.loopback), default=None) if ns else None
    if largest is None:
        return None
    forward, reverse = view.forecast(largest)
    way = forward if direction == "forward" else reverse
    if way is None or not way.complete or way.fate != Fate.DELIVERED:
        return None
    return min([x.mtu for x in way.limits if x.kind not in ("cached", "route")], default=largest)


def _same(a: str, b: str) -> bool:
    try:
        return ipaddress.ip_address(a.partition("/")[0]) == ipaddress.ip_address(b)
    except ValueError:
        return False


def _visible(view: View, forward: bool, size: int) -> Point:
    limits = view.limits("forward" if forward else "reverse")
    return next((x.at for x in limits if x.mtu == size), view.edge)
