"""Black holes: packets above a size vanish and nobody tells the sender. Only measurement can confirm one."""

from collections.abc import Iterable

from pathfit.core.evidence import HopsFact
from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding, Severity
from pathfit.core.net import TIMESTAMPS, Direction, Family, Point, packet_of
from pathfit.core.sockets import Socket
from pathfit.measure.place import accused
from pathfit.model.hung import Kind, look
from pathfit.rules.base import found, line
from pathfit.rules.hints import resembles
from pathfit.rules.places import place_text
from pathfit.rules.promises import PAIRS, any_traffic
from pathfit.rules.view import SAID, Hole, View

HUNG_SECONDS = 1.0  # longer than any retransmission timeout on a healthy short path (RFC 6298: minimum 1 s)


def inbound(view: View) -> Iterable[Finding]:
    """Large packets towards the asking side vanish, and their sender never learns it.

    Why it hurts: the handshake and small answers arrive, so everything looks open; certificates, pages and
    downloads are sent in full-sized packets, which are lost again at every repetition. The client hangs.
    Example: a container with MTU 1500 invites packets of 1500 bytes; a VXLAN on the way in carries 1450, and the
    "fragmentation needed" never gets back to the server. `curl https://…` stops after the ClientHello.
    Repair: invite less: a smaller `mtu` on the route of the container (at once), the MTU of its network (for good).
    Severity: error.
    Possible: never said.
    Likely: no measurement, but a hung connection of the source has later segments and lacks the full-sized ones
    before them.
    Confirmed: on two connections of one size the later bytes arrived, the full-sized segments before them stayed
    away for max(2 RTT, 50 ms), while a smaller size passed (grades proof and step).
    References: RFC 2923 section 2.1; RFC 4821; RFC 8899; tcp_rcv_established(), struct tcp_info.
    """
    hole = view.hole_in
    if hole is not None:
        yield _hole_found("MTU101", "error", view, hole)
        return
    if view.carries("reverse"):
        return
    hung = _hung(view, "inbound-gap")
    if hung:
        yield _hung_found("MTU101", view, "inbound", hung)


def outbound(view: View) -> Iterable[Finding]:
    """Large packets from the asking side vanish, and it never learns it.

    Why it hurts: requests with cookies, uploads, pushes and large ClientHellos stall; downloads work.
    Example: `docker push` stops at the first layer. The container sends 1500-byte packets into a tunnel that
    carries 1422; the host that should say "too big" has its ICMP filtered.
    Repair: as for MTU101: a smaller route `mtu` bounds what is sent as well as what is invited.
    Severity: error; warning when the same limit already is MTU101, which then stands for the fault, and for a target
    without a port (a clamp may keep TCP below the limit).
    Possible: never said.
    Likely: no measurement, but a hung connection keeps repeating a full-sized segment.
    Confirmed: our segments up to one size are acknowledged (of a target that is not TCP: our datagrams are answered in
    few bytes), larger ones never, repeatedly (grades proof and step), and the two ends promise each other such packets;
    or "too big" comes, and state shows that the source's own filter takes it away before TCP hears it.
    References: RFC 2923 section 2.1; RFC 2018 (SACK); tcp_sacktag_write_queue().
    """
    hole = view.hole_out
    if hole is not None:
        same = view.hole_in is not None and view.hole_in.passes == hole.passes
        no_port = view.contact is not None and view.contact.protocol == "icmp"  # nobody asked for anything yet
        yield _hole_found("MTU102", "warning" if same or no_port else "error", view, hole)
        return
    if view.carries("forward"):
        return
    hung = _hung(view, "outbound-gap")
    if hung:
        yield _hung_found("MTU102", view, "outbound", hung)


def masked(view: View) -> Iterable[Finding]:
    """Something other than TCP is limited here, while TCP itself is healthy.

    Why it hurts: it does not, as long as only TCP is used. QUIC, DNS with large answers, VPNs and pings above the
    limit are lost.
    Example: a tunnel carries 1400, a correct MSS clamp keeps all TCP segments below; `ping -s 1472` fails.
    Repair: none needed for TCP; lower the MTU of the container's network if UDP matters.
    Severity: info; warning where any traffic is asked (a target of ours without a port), and the verdict is "degraded".
    Possible: never said.
    Likely: an echo or UDP packet above a size repeatedly found no answer. A filter that drops large pings looks
    the same, therefore no more than likely.
    Confirmed: both ends are ours: UDP packets above a size did not arrive, and a clamp keeps TCP below it.
    References: RFC 4821 section 7.7; RFC 9000 section 14.
    """
    if view.holes or view.probe is None or not (view.carries("forward") and view.carries("reverse")):
        return
    ours = view.contact.promised if view.contact else None
    for b in (*view.probe.both, *view.tried("forward"), *view.tried("reverse")):
        if b.method.startswith("tcp") or b.passes is None or b.fails is None or b.grade not in ("proof", "step"):
            continue
        if ours is not None and b.fails > ours:
            continue
        facts: Facts = {"limit": b.passes, "method": b.method, "direction": b.tests}
        proof = line(view.ref, "bracket", method=b.method, passes=b.passes, fails=b.fails)
        sure = b.method in PAIRS
        severity: Severity = "warning" if sure and any_traffic(view.ask) else "info"
        yield found("MTU120", severity, "confirmed" if sure else "likely", view.edge, facts, proof)
        return


def place(view: View, hole: Hole) -> tuple[Point, bool]:
    """Where packets get lost, and whether that is beyond what we can see."""
    limit = view.limit_of(hole)
    if limit is not None:
        return limit.at, False
    witnessed = _witnessed(view, hole)
    if witnessed is not None:
        return witnessed, False
    rule = next((step for direction, step in view.large_filtered() if direction == hole.direction), None)
    return (rule.at, False) if rule is not None else (view.edge, not _all_seen(view, hole))


def _witnessed(view: View, hole: Hole) -> Point | None:
    """The device at which taps saw it, where they were asked for."""
    if view.seen is None:
        return None
    from pathfit.rules import traced

    return traced.place(view, hole.direction)


def _all_seen(view: View, hole: Hole) -> bool:
    """Is every place of that direction visible, and none has this limit?"""
    way = view.way(hole.direction)
    return way is not None and way.complete


def _hole_found(code: str, severity: Severity, view: View, hole: Hole) -> Finding:
    where, beyond = place(view, hole)
    limit = view.limit_of(hole)
    known = beyond or limit is not None or any(d == hole.direction for d, _ in view.large_filtered())
    known = known or _witnessed(view, hole) is not None
    facts: Facts = {
        "direction": SAID[hole.direction],
        "source": view.source_label,
        "target": view.target_label,
        "promised": hole.promised,
        "limit": hole.passes,
        "fails": hole.fails,
        "told": hole.grade == "told",
        "place": place_text(where),
        "beyond": beyond,
        "unexplained": not known,
        "resembles": None,
        "layer": limit.kind if limit else None,
        "other_way": view.bracket("forward" if hole.direction == "reverse" else "reverse").passes,
    }
    if beyond:
        facts.update(resembles(hole.passes, view.family, view.link_at(where)))
    if hole.grade == "told":
        facts["case"] = "deaf"
        facts["by"] = view.bracket(hole.direction).told_by
    return found(code, severity, "confirmed", where, facts, *_proof(view, hole))


def _proof(view: View, hole: Hole) -> list[EvidenceLine]:
    passed = "in-passes" if hole.direction == "reverse" else "out-passes"
    lines = [line(hole.ref, passed, passes=hole.passes, fails=hole.fails, method=hole.method)]
    gaps = view.attempts(hole.method, ("gap",), tests=hole.direction)
    if gaps:
        smallest = min(a.size for a in gaps)
        again = [a for a in gaps if a.size == smallest]
        ms = round(max(a.gap for a in again) * 1000)
        lines.append(line(hole.ref, "gap-stays", size=smallest, times=len(again), ms=ms))
    silent = len(view.attempts(hole.method, ("silent", "lost", "unacked"), tests=hole.direction))
    if silent and len(gaps) < 2:  # answers that end with a full segment leave no gap, only silence
        lines.append(line(hole.ref, "silence", times=silent, fails=hole.fails))
    if hole.direction == "forward" and view.hops is not None:
        lines += _hops(view.hops)
    hung = _hung(view, "inbound-gap")
    if hung and hole.direction == "reverse":
        lines.append(_socket_line(view, "hung-in", hung))
    trial = next((t for t in view.trials if t.ok), None)
    if trial is not None:
        lines.append(line(trial.ref, "trial-ok", size=trial.size))
    return lines


def _hops(fact: HopsFact) -> Iterable[EvidenceLine]:
    """Between which two hops large packets get lost, as TTL-limited pairs saw it."""
    ttl = accused(fact.hops)
    if ttl is None:
        return
    last = next((h.large for h in reversed(fact.hops) if h.large and h.ttl < ttl), None)
    here = next(h.small for h in fact.hops if h.ttl == ttl)
    message = "hops-first" if last is None else "hops-between"
    yield line(fact.ref, message, small=fact.small, large=fact.large, by=here, ttl=ttl, last=last)


def _hung(view: View, kind: Kind) -> list[tuple[Socket, float]]:
    """Sockets to the asked target that hang so, each with its seconds, and never saw a full-sized packet pass.

    One lost segment leaves the same traces; a connection on which full-sized segments did pass has another trouble.
    """
    found: list[tuple[Socket, float]] = []
    for s in view.sockets:
        hang = look(s)
        if hang is None or hang.kind != kind or hang.since < HUNG_SECONDS or s.info is None:
            continue
        full = s.info.rcv_mss + (TIMESTAMPS if s.info.timestamps else 0) >= s.info.advmss
        if kind != "inbound-gap" or not full:
            found.append((s, hang.since))
    return found


def _socket_line(view: View, message: str, hung: list[tuple[Socket, float]]) -> EvidenceLine:
    s, since = hung[0]
    seconds = round(since, 1)
    ref = next((f.ref for f in view.socket_facts if s in f.sockets), view.ref)
    return line(ref, message, process=s.process or f"port {s.sport}", count=len(hung), seconds=seconds)


def _hung_found(code: str, view: View, direction: str, hung: list[tuple[Socket, float]]) -> Finding:
    info = hung[0][0].info
    family: Family = 6 if view.family == 6 else 4
    promised = packet_of(family, info.advmss if direction == "inbound" else info.snd_mss) if info else None
    facts: Facts = {
        "case": "hung",
        "direction": direction,
        "source": view.source_label,
        "target": view.target_label,
        "promised": promised,
        "sockets": len(hung),
        "told": None,
    }
    # Only a pattern of one socket: the asked traffic may yet prove healthy, so no error from it alone.
    severity: Severity = "error" if len(hung) > 1 else "warning"
    confidence: Confidence = "likely"
    return found(
        code,
        severity,
        confidence,
        view.source_point,
        facts,
        _socket_line(view, "hung-in" if direction == "inbound" else "hung-out", hung),
    )


def other(direction: Direction) -> Direction:
    return "forward" if direction == "reverse" else "reverse"
