"""Packets that a filter, the reverse path check or a host that does not forward takes away, whatever their size."""

from collections.abc import Iterable

from pathfit.core.filters import Verdict
from pathfit.core.finding import Facts, Finding, Severity
from pathfit.core.net import Direction, Point
from pathfit.core.path import Fate, Filtered
from pathfit.rules.base import found, line
from pathfit.rules.ends import unheard
from pathfit.rules.places import place_text
from pathfit.rules.tables import Moved, only_resets
from pathfit.rules.view import SAID, View

ADMIN_V4, ADMIN_V6 = (9, 10, 13), (1, 5, 6)  # ICMP codes "administratively prohibited" (RFC 1812, RFC 4443)


def dropped(view: View) -> Iterable[Finding]:
    """A firewall rule drops or rejects the asked traffic.

    Why it hurts: the connection never opens, or one kind of packet is missing for ever. It is not an MTU fault.
    Example: nft `ip saddr 10.0.0.0/8 tcp dport 443 counter drop comment "egress-policy-7"` in a forward chain.
    Repair: change or remove that rule where it stands; pathfit shows it and the command, and never does it.
    Severity: error; warning when it only explains a black hole (a rule about length) or a reset (RST202).
    Possible: a dropping rule counted packets while we measured, but other traffic may have done that.
    Likely: an ICMP "prohibited" (or "port unreachable", not from the target) came back from a box we cannot look into;
    or state alone, all of the way visible.
    Confirmed: state shows the rule on the way, every step before it is certain, and the connection failed; or the
    kernel was seen to drop these very packets in a filter (docs/trace.md).
    References: nft(8); iptables(8); nft_do_chain(), ipt_do_table(); RFC 1812 section 5.2.7.1.
    """
    c = view.contact
    told = c is not None and c.icmp is not None and view.fails_to_connect and _prohibited(c.icmp)
    witnessed = _witnessed(view, told)
    yield from witnessed
    seen = bool(witnessed)
    for direction, way in view.ended(Fate.FILTERED):
        step = way.culprit
        if isinstance(step, Filtered) and not view.connects:
            seen = True
            yield _rule_found(view, step, direction, "all" if direction == "forward" else "all-back")
            break  # what the way back would do is not asked while nothing goes out
    for direction, large in view.large_filtered():
        hole = view.hole(direction) is not None
        if hole or view.torn_down or unheard(view):
            seen = True
            yield _rule_found(view, large, direction, "large" if hole else "later")
    if seen or c is None or not view.fails_to_connect or view.explained:
        return
    if c.icmp is not None and (_prohibited(c.icmp) if c.udp != "refused" else c.error_from != c.address):
        facts: Facts = {"case": "icmp", "by": c.error_from, "target": view.target_label, "direction": "outbound"}
        said = line(view.ref, "icmp", type=c.icmp[0], code=c.icmp[1], by=c.error_from or "-")
        yield found("FLT401", "error", "likely", view.edge, facts, said)
        return
    suspects = [m for m in view.moved if _drops(m) and m.where in view.on_way and not only_resets(m.rule)]
    if suspects and c.tcp == "timeout" and (view.predicted_forward is None or not view.predicted_forward.complete):
        m = suspects[0]
        facts = {"case": "counted", **_rule_facts(view, m), "direction": None}
        at = Point(host=view.host, netns=m.where)
        yield found("FLT401", "warning", "possible", at, facts, line("rules:after", "rule-counted", packets=m.packets))


def _witnessed(view: View, refused: bool) -> tuple[Finding, ...]:
    """What taps saw, where they were asked for."""
    if view.seen is None:
        return ()
    from pathfit.rules import traced

    return tuple(traced.by_rule(view, refused=refused))


def reverse_path(view: View) -> Iterable[Finding]:
    """The reverse path check drops packets because the way back to their sender leads through another device.

    Why it hurts: nothing is logged; with two NICs, VPNs or policy routes, answers or requests vanish.
    Example: rp_filter=1 and the route to the container's network points to another interface.
    Repair: correct the routes, or set rp_filter=2 (loose) on that device.
    Severity: error.
    Possible: never said.
    Likely: the counter IPReversePathFilter of the source grew while the connection failed.
    Confirmed: state shows that the check fails there, and the connection failed.
    References: RFC 3704; fib_validate_source(), ip_rcv_finish_core().
    """
    if view.connects:
        return
    for direction, way in view.ended(Fate.RP_FILTER):
        at = way.culprit.at if way.culprit else view.edge
        facts: Facts = {"direction": SAID[direction], "place": place_text(at)}
        yield _state_found("FLT402", view, at, facts, "rp-filter")
        return
    drops = view.counters.get("TcpExt.IPReversePathFilter", 0)
    if drops and view.fails_to_connect:
        facts = {"case": "counter", "direction": "inbound", "place": place_text(view.source_point), "count": drops}
        grew = line("counters:after", "counter", name="TcpExt.IPReversePathFilter", count=drops)
        yield found("FLT402", "error", "likely", view.source_point, facts, grew)


def not_forwarding(view: View) -> Iterable[Finding]:
    """A host on the way does not forward packets.

    Why it hurts: containers reach their host and nothing beyond it.
    Example: net.ipv4.ip_forward=0 after a reboot, or `forwarding` switched off for one interface.
    Repair: `sysctl -w net.ipv4.ip_forward=1` (and keep it in /etc/sysctl.d).
    Severity: error.
    Possible: never said.
    Likely: state alone, all of the way up to there visible.
    Confirmed: state shows it on the way, and the connection failed.
    References: ip_forward(), ip_route_input_slow(); sysctl net.ipv4.conf.*.forwarding.
    """
    if view.connects:
        return
    for direction, way in view.ended(Fate.FORWARDING_OFF):
        at = way.culprit.at if way.culprit else view.edge
        facts: Facts = {"direction": SAID[direction], "place": place_text(at), "family": view.family}
        yield _state_found("FLT403", view, at, facts, "forwarding-off")
        return


def _state_found(code: str, view: View, at: Point, facts: Facts, message: str) -> Finding:
    """What state says with certainty; confirmed when the connection did fail."""
    sure = view.fails_to_connect
    return found(
        code, "error", "confirmed" if sure else "likely", at, facts, line(view.state_ref, message, place=place_text(at))
    )


def _rule_found(view: View, step: Filtered, direction: Direction, case: str) -> Finding:
    facts: Facts = {
        "case": case,
        "direction": SAID[direction],
        "target": view.target_label,
        "place": place_text(step.at),
        "tool": step.tool,
        "table": step.table,
        "chain": step.chain,
        "hook": step.hook,
        "rule": step.rule or "policy",
        "handle": step.handle,
        "comment": step.comment,
        "verdict": step.verdict,
    }
    grew = view.grew(step)
    rule = step.rule or "policy"
    lines = [line(view.state_ref, "rule", table=step.table, chain=step.chain, rule=rule, place=place_text(step.at))]
    if grew:
        lines.append(line("rules:after", "rule-counted", packets=grew))
    resets = (
        view.contact is not None
        and (view.contact.tcp in ("refused", "reset") or view.torn_down)
        and "reset" in (step.reject_with or "")
    )
    failed = (view.fails_to_connect and view.certain(direction)) or case in ("large", "later")
    severity: Severity = "warning" if case == "large" or resets else "error"
    return found("FLT401", severity, "confirmed" if failed else "likely", step.at, facts, *lines)


def _rule_facts(view: View, m: Moved) -> Facts:
    return {
        "target": view.target_label,
        "place": place_text(Point(host=view.host, netns=m.where)),
        "tool": m.table.tool,
        "table": f"{m.table.family} {m.table.name}",
        "chain": m.chain.name,
        "rule": m.rule.text or "-",
        "handle": m.rule.handle,
        "comment": m.rule.comment,
        "packets": m.packets,
    }


def _drops(m: Moved) -> bool:
    return any(isinstance(e, Verdict) and e.kind in ("drop", "reject") for e in m.rule.exprs)


def _prohibited(icmp: tuple[int, int]) -> bool:
    kind, code = icmp
    return (kind == 3 and code in (*ADMIN_V4, 3)) or (kind == 1 and code in ADMIN_V6)
