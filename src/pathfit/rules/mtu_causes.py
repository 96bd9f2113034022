"""Why a black hole is there: a promise too large, an overlay that forgot its own bytes, a "too big" that got lost.

These are causes: warnings that explain the one error, so that one fault is counted once.
"""

from collections.abc import Iterable

from pathfit.core.finding import Confidence, Facts, Finding
from pathfit.core.net import Direction, Point
from pathfit.core.path import Decap, Encap, Exit, Limit
from pathfit.rules.base import found, line
from pathfit.rules.mtu_holes import place
from pathfit.rules.places import place_text
from pathfit.rules.view import SAID, Hole, View

IPV6_MINIMUM = 1280  # bytes (RFC 8200 section 5)


def overpromise(view: View) -> Iterable[Finding]:
    """The asking side's own MTU is larger than what the way in or out can carry.

    Why it hurts: TCP derives from it what it invites the far end to send (the MSS) and what it sends itself. Above
    the real limit everything depends on "too big" messages that may be lost.
    Example: docker0 1500 behind an eth0 of 1400; the host itself is fine, because its MSS is honest.
    Repair: give the container's network the MTU of the smallest device on the way.
    Severity: warning; it is the cause of MTU101, MTU102 or MTU106, which say what fails.
    Possible: never said.
    Likely: nothing was measured, and state shows a device on the way that is smaller than the source's own.
    Confirmed: measurement found the limit (a hole, or a sender that had to be told) below the promise.
    References: RFC 9293 section 3.7.1; RFC 6691; tcp_advmss_sock().
    """
    limits = {h.direction: h.passes for h in view.holes}
    for direction in ("reverse", "forward"):
        told = view.told(direction)
        if direction not in limits and told is not None:
            limits[direction] = told
    own = view.promised("reverse") or (view.source_link.mtu if view.source_link else None)
    if own is None:
        return
    measured = bool(limits)
    if not measured and not (view.measured_tcp and view.connects):
        visible = [x.mtu for x in view.limits("forward") if x.then in ("icmp", "silent") and x.kind != "cached"]
        if visible:
            limits["forward"] = min(visible)
    if not limits or own <= min(limits.values()):
        return
    lowest = min(limits.values())
    ways = sorted(SAID[d] for d, v in limits.items() if v < own)
    facts: Facts = {
        "direction": ways[0] if len(ways) == 1 else "both",
        "source": view.source_label,
        "own": own,
        "limit": lowest,
        "link": view.source_point.link,
    }
    confidence: Confidence = "confirmed" if measured else "likely"
    ref = view.ref if measured else view.state_ref
    yield found("MTU103", "warning", confidence, view.source_point, facts, line(ref, "promise", own=own, limit=lowest))


def overlay(view: View) -> Iterable[Finding]:
    """An overlay device has an MTU that leaves no room for the bytes the overlay adds.

    Why it hurts: packets of that size become too large for the network underneath. They are fragmented, and the
    fragments are often dropped; or they vanish at the tunnel itself.
    Example: a VXLAN device forced to 1500 over an underlay of 1500: 50 bytes too many, 1450 fit. Or one of 1450 over
    an eth0 of 1500, where the network between the hosts carries 1450: 1400 fit.
    Repair: the overlay's MTU = underlay - overhead; until then a route `mtu` in the containers.
    Severity: warning; it is the cause of MTU101 or MTU102.
    Possible: never said.
    Likely: state shows the tunnel's limit below what is promised, and nothing was measured that contradicts it; or the
    packets that vanish are in the tunnel where they leave this host, and no device here is as small as that.
    Confirmed: the measured limit is exactly the one state predicts at that tunnel; or every device of both hosts, the
    other one as a snapshot of the last ten minutes has it (`--in`), carries more than was measured.
    References: RFC 7348 section 4.3; vxlan_xmit_one(), iptunnel_xmit(); docs of the overlay in question.
    """
    found_at: dict[int, list[tuple[Direction, Limit]]] = {}
    for direction in ("forward", "reverse"):
        for limit in view.limits(direction):
            if limit.kind == "tunnel" and limit.overhead:
                found_at.setdefault(limit.mtu, []).append((direction, limit))
    for mtu, places in found_at.items():
        hole = next((h for h in view.holes if h.passes == mtu), None)
        direction, limit = places[0]
        own = view.promised(direction) or (view.source_link.mtu if view.source_link else None)
        if hole is None and (view.measured_tcp or own is None or own <= mtu):
            continue  # measured, and not this one; or nobody sends that much
        ways = {h.direction for h in view.holes if h.passes == mtu} or {d for d, _ in places}
        points = tuple(dict.fromkeys(_device(view, x) for _, x in places))
        yield _overlay_found(view, limit, hole, "both" if len(ways) > 1 else SAID[ways.pop()], points)


def _overlay_found(view: View, limit: Limit, hole: Hole | None, direction: str, points: tuple[Point, ...]) -> Finding:
    at = points[0]
    ns = view.namespace(at.netns) if at.host == view.host else None
    link = next((x for x in ns.links if x.name == at.link), None) if ns else None
    facts: Facts = {
        "direction": direction,
        "device": place_text(at),
        "kind": limit.device or "tunnel",
        "device_mtu": link.mtu if link else limit.mtu,
        "overhead": limit.overhead,
        "limit": limit.mtu,
        "underlay": limit.mtu + limit.overhead,
    }
    lines = [line(view.state_ref, "tunnel", device=place_text(at), overhead=limit.overhead, limit=limit.mtu)]
    if hole is not None:
        lines.append(line(hole.ref, "equals-measured", limit=hole.passes))
    return found("MTU104", "warning", "confirmed" if hole else "likely", points, facts, *lines)


def _device(view: View, limit: Limit) -> Point:
    """The tunnel device itself; a limit stands at the device underneath, by which the outer packet leaves, or at a
    router on the outer packet's way: then it is the tunnel the packet was in when it came there."""
    for way in view.predicted:
        inside: list[tuple[Point, int]] = []  # tunnels the packet is in, with all bytes added so far
        for step in (s for h in (way.hops if way else ()) for s in h.steps):
            if isinstance(step, Encap):
                inside.append((step.at, step.overhead + (inside[-1][1] if inside else 0)))
                if step.at.netns == limit.at.netns and step.overhead == limit.overhead:
                    return step.at
            elif isinstance(step, Decap):
                inside = inside[:-1]
            elif isinstance(step, Exit) and step.at == limit.at and inside:
                return next((at for at, added in inside if added == limit.overhead), inside[-1][0])
    return limit.at


def too_big_lost(view: View) -> Iterable[Finding]:
    """The message "too big" is sent but has no effect: filtered, misrouted, for the wrong flow, or ignored.

    Why it hurts: path MTU discovery rests on this one message. Without it every packet above the limit vanishes.
    Example: a security group, or `iptables -A INPUT -p icmp -j DROP` on the server, swallows "fragmentation needed".
    Repair: let ICMP type 3 code 4 (ICMPv6 type 2) through where it is dropped; a smaller MTU at the source helps
    without it.
    Severity: warning; it is a cause. A forged or senseless message is a finding of its own.
    Possible: never said.
    Likely: state says that the message is lost at a limit that was not measured; or a senseless one arrived.
    Confirmed: the measured limit is one where state shows the message made and lost; or it reached our namespace,
    our own filter drops it, and our segments above the limit stay lost.
    References: RFC 1191; RFC 8201; RFC 4890 section 4.3.1; icmp_unreach(), tcp_v4_err().
    """
    for direction in ("reverse", "forward"):
        for limit in view.limits(direction):
            if limit.then == "icmp" and limit.told_home is False:
                hole = next((h for h in view.holes if h.direction == direction and h.passes == limit.mtu), None)
                if hole is None and view.carries(direction):
                    continue
                yield _untold(view, limit, direction, hole)
                break
    if view.probe is None:
        return
    real = [t for t in view.probe.too_big if t.ours and t.sane and t.tests != "reverse"]
    if real and view.hole_out is not None and not any(x.told_home is False for x in view.limits("forward")):
        own = view.deaf
        facts: Facts = {"case": "ignored", "direction": "outbound", "by": real[0].by, "limit": real[0].mtu}
        facts["table"] = f"{own[0].family} {own[0].name}" if own else None
        seen = line(view.ref, "too-big-seen", by=real[0].by, mtu=real[0].mtu)
        yield found("MTU107", "warning", "confirmed" if own else "likely", view.source_point, facts, seen)
    odd = [t for t in view.probe.too_big if not (t.ours and t.sane)]
    if odd:
        facts = {"case": "senseless", "direction": "outbound", "by": odd[0].by, "limit": odd[0].mtu, "count": len(odd)}
        yield found(
            "MTU107", "warning", "likely", view.edge, facts, line(view.ref, "too-big-odd", by=odd[0].by, mtu=odd[0].mtu)
        )


def _untold(view: View, limit: Limit, direction: Direction, hole: Hole | None) -> Finding:
    facts: Facts = {
        "direction": SAID[direction],
        "place": place_text(limit.at),
        "limit": limit.mtu,
        "why": limit.why_untold or "",
    }
    lines = [
        line(view.state_ref, "too-big-lost", place=place_text(limit.at), limit=limit.mtu, why=limit.why_untold or "-")
    ]
    if hole is not None:
        lines.append(line(hole.ref, "equals-measured", limit=hole.passes))
    return found("MTU107", "warning", "confirmed" if hole else "likely", limit.at, facts, *lines)


def below_minimum(view: View) -> Iterable[Finding]:
    """A link on the way carries less than the 1280 bytes that IPv6 demands of every link.

    Why it hurts: no sender may go below 1280, so no "too big" and no setting at the ends can help.
    Example: a tunnel in a tunnel with 1200 left, and IPv6 addresses inside.
    Repair: make room underneath, or fragment below IPv6; or use IPv4 there.
    Severity: warning; it is the cause of the MTU101 or MTU102 it explains.
    Possible: never said.
    Likely: state alone: the device that decides on a way of IPv6 carries less than 1280.
    Confirmed: a hole over IPv6 was measured below 1280.
    References: RFC 8200 section 5; IPV6_MIN_MTU, ip6_dst_mtu_maybe_forward().
    """
    for hole in view.holes if view.family == 6 else ():
        if hole.fails <= IPV6_MINIMUM:
            where, _ = place(view, hole)
            facts: Facts = {"direction": SAID[hole.direction], "place": place_text(where), "limit": hole.passes}
            proof = line(hole.ref, "bracket", method=hole.method, passes=hole.passes, fails=hole.fails)
            yield found("MTU114", "warning", "confirmed", where, facts, proof)


def hidden(view: View) -> Iterable[Finding]:
    """Offloading hides that a device is too small: bulk transfers pass, single packets of that size die.

    Why it hurts: a test with a large download says that all is well, and one TLS record in a hundred is lost.
    Example: a bridge port of 1400 between two containers of 1500, with segmentation offload on.
    Repair: one MTU for every device of the segment.
    Severity: warning; it is the cause of the MTU101 or MTU102 it explains.
    Possible: never said.
    Likely: state alone: the features of the devices before it and its MTU say so.
    Confirmed: single packets were measured, and die exactly above the size at which state shows such a device.
    References: is_skb_forwardable(), skb_is_gso(); ethtool(8) -K tso gso.
    """
    for hole in view.holes:
        limit = next((x for x in view.limits(hole.direction) if x.mtu == hole.passes and x.then == "pass-gso"), None)
        if limit is not None:
            facts: Facts = {"direction": SAID[hole.direction], "place": place_text(limit.at), "limit": limit.mtu}
            facts["own"] = hole.promised or hole.fails
            proof = line(hole.ref, "hidden-limit", place=place_text(limit.at), limit=limit.mtu)
            yield found("MTU116", "warning", "confirmed", limit.at, facts, proof)
