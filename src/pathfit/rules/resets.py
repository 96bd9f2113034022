"""Connections that are refused or torn down, and by whom."""

from collections.abc import Iterable

from pathfit.core.evidence import TraceFact
from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding
from pathfit.core.followed import Origin
from pathfit.core.measured import Contact
from pathfit.core.net import Point, hops_away
from pathfit.core.path import Fate, Filtered
from pathfit.rules import datagrams, forecast
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.view import View

UNKNOWN = ("outside", "acknowledges")  # signs of why connection tracking did not know a packet


def by_target(view: View) -> Iterable[Finding]:
    """The target itself refuses the connection: nothing listens there, or the application hangs up.

    Why it hurts: it is no fault of the network; but the asked traffic does fail, hence an error.
    Example: `connect: connection refused`, because the service is stopped or bound to 127.0.0.1.
    Repair: start the service, or ask the right port. No MTU or route changes that.
    Severity: error (what was asked for fails; a closed port is closed); a warning where it is only possible.
    Possible: a connection was torn down later than in its handshake, and nothing says by whom; then the verdict is
    "unknown".
    Likely: the handshake was refused, and nothing contradicts that the target did it; or "port unreachable" came for a
    UDP port from the target's own address (a filter on the target may say the same).
    Confirmed: the RST travelled as many hops as the target's own answers (echo, SYN-ACK), or every hop is visible
    and lets the packet through; or a trace saw it made there. Not where a trace found signs against it.
    References: RFC 9293 section 3.5.2; tcp_v4_send_reset().
    """
    c = view.contact
    if untranslated(view):
        return
    if c is not None:
        yield from datagrams.refused(view, c)
    if c is None or not view.torn_down or c.icmp is not None or _boxed(view, c):
        return
    way = view.predicted_forward
    arrives = way is not None and way.complete and way.fate == Fate.DELIVERED
    same = c.rst_ttl is not None and c.rst_ttl in (c.echo_ttl, c.synack_ttl)
    early = c.tcp == "refused" or c.rst_phase == "syn"
    confidence: Confidence = "confirmed" if same or (arrives and early) else "likely" if early else "possible"
    case = "port" if early else "later" if same else "unclear"
    facts: Facts = {"case": case, "target": view.target_label, "port": c.port, "phase": c.rst_phase}
    yield found("RST201", "error" if case != "unclear" else "warning", confidence, view.edge, facts, _seen(view, c))


def by_middlebox(view: View) -> Iterable[Finding]:
    """Something on the way answers in the target's name and ends the connection.

    Why it hurts: it looks like a refusal of the target, so people search there.
    Example: a firewall with `reject with tcp reset`, an intrusion prevention box, a stale load balancer.
    Repair: at that box. Dropping RSTs locally only hides it.
    Severity: error.
    Possible: never said.
    Likely: the RST travelled another number of hops than the target's own answers.
    Confirmed: state shows the rule that sends it, and all of the way up to it; or a trace saw where it was made.
    References: RFC 9293 section 3.5.2; RFC 3360; nf_send_reset().
    """
    c = view.contact
    if c is None or not view.torn_down or untranslated(view):
        return
    rule = _rejecting(view)
    if rule is not None:
        facts: Facts = {"case": "rule", "target": view.target_label, "port": c.port, "place": place_text(rule.at)}
        yield found("RST202", "error", "confirmed", rule.at, facts, _seen(view, c))
    elif _boxed(view, c):
        facts = {"case": "hops", "target": view.target_label, "port": c.port, "rst_ttl": c.rst_ttl}
        facts["own_ttl"] = c.synack_ttl if c.synack_ttl is not None else c.echo_ttl
        yield found("RST202", "error", "likely", view.edge, facts, _seen(view, c))


def by_conntrack(view: View) -> Iterable[Finding]:
    """A packet that connection tracking did not know was not translated, and whoever got it instead reset it.

    Why it hurts: one such packet ends a connection that is well, in the midst of a download, now and then and under
    load, and only where addresses are translated: containers behind a host's address, services of a cluster. The one
    who sent it hears "connection reset by peer"; the other hangs, or is reset when it speaks next. Both ends are
    innocent.
    Example: a segment beyond the window that connection tracking believes in (it missed packets that went another way,
    or an acknowledgement before what it acknowledges); before Linux 6.1 also one that came much too late. The answer
    for a container then stays one for its host, which has no such socket.
    Repair: net.netfilter.nf_conntrack_tcp_be_liberal=1 where it is translated; or a rule there that drops what is
    `ct state invalid` before it arrives. Not one that drops resets (RST205).
    Severity: error where the asked connection was torn down or got no answer; otherwise a warning.
    Possible: never said.
    Likely: taps saw others of the connection translated, this packet not, and the reset made by who got it; why it was
    not known was not seen (its entry was deleted, or ran out).
    Confirmed: besides, its numbers are outside of the window.
    References: nf_conntrack_in(), tcp_in_window(), nf_nat_inet_fn(); moby/libnetwork issue 1090; kubernetes issues
    74839, 117924.
    """
    them = untranslated(view)
    c = view.contact
    if not them or c is None:
        return
    ref = next((x.ref for x in view.case.all(TraceFact)), view.ref)
    one = max(them, key=lambda x: len(x.signs))
    at = one.made or one.first
    silent = c.tcp == "ok" and not c.answered
    first = next(x for x in one.signs if x.name == "untranslated")
    count = sum(x.count for x in them)
    invalid = any(x.name in UNKNOWN for x in one.signs)
    facts: Facts = {
        "case": "invalid" if invalid else "forgotten",
        "target": view.target_label,
        "port": c.port,
        "place": place_text(at) if at is not None else "?",
        "at": first.facts["at"],
        "count": count,
        "translator": first.facts["netns"],
    }
    lines = [EvidenceLine(ref=ref, message=f"sign.{x.name}", facts=x.facts) for x in one.signs]
    place = place_text(one.first) if one.first is not None else "?"
    lines.insert(0, line(ref, "reset-first", first=place, count=count))
    sure: Confidence = "confirmed" if invalid else "likely"
    bad = view.torn_down or silent or view.fails_to_connect
    translator = Point(host=view.host, netns=str(first.facts["netns"]))
    where = (translator, at) if at is not None and at.netns != translator.netns else (translator,)
    yield found("RST204", "error" if bad else "warning", sure, where, facts, *lines)


def untranslated(view: View) -> tuple[Origin, ...]:
    """Resets that taps saw made by who should never have got what they answer (RST204)."""
    return tuple(x for x in view.seen.answers if x.code == "RST204") if view.seen is not None else ()


def hidden_by_filter(view: View) -> Iterable[Finding]:
    """A packet filter drops resets, so that what would be a quick refusal hangs.

    Why it hurts: a closed port, a dead service, a frame sent to the wrong host is refused at once; with this rule the
    client waits for minutes instead and learns nothing, and connections that the other end gave up are held for ever.
    It hides the fault that it was written against.
    Example: `iptables -I INPUT -p tcp --tcp-flags SYN,FIN,RST,URG,PSH RST -j DROP`, found in the net as a cure for
    "connection reset by peer" (a stale entry of an overlay, OVL301, was the fault).
    Repair: delete the rule; then the refusal shows what is wrong.
    Severity: warning, as the cause of a connection that is not answered (NET152) and from state alone; info where the
    rule is about some addresses, ports or devices only, or its counter says that it took nothing while we measured.
    Possible: from state alone, a rule about some addresses, ports or devices only; of one path: the way back passes
    the rule, which counts nothing.
    Likely: the rule's counter grew while the connection was not answered; from state alone, the rule takes every RST
    that refuses a connection, and lets what answers others pass.
    Confirmed: a RST for our connection came to the device, our own TCP never heard of it, and the rule is on its way.
    References: RFC 9293 section 3.10.7.1 (a RST answers what comes to a closed port); RFC 5961; iptables-extensions(8).
    """
    c = view.contact
    if c is None or c.tcp != "timeout" or view.state is None or view.source is None:
        return
    way = view.predicted_reverse
    if way is not None and way.fate is Fate.FILTERED:
        return  # it takes everything: FLT401
    back = forecast.refusal(view.state, view.source.id, view.address, view.port)
    step = back.culprit if back is not None and back.fate is Fate.FILTERED else None
    if not isinstance(step, Filtered):
        return
    grew = view.grew(step)
    confidence: Confidence = "confirmed" if c.rst_unheard is not None else "likely" if grew else "possible"
    counted_nothing = step.packets is not None and not grew and c.rst_unheard is None
    lines = [line(view.state_ref, "rule", table=step.table, chain=step.chain, rule=step.rule or "policy",
                  place=place_text(step.at))]  # fmt: skip
    if c.rst_unheard is not None:
        lines.append(line(view.ref, "reset-unheard", ttl=c.rst_unheard))
    if grew:
        lines.append(line("rules:after", "rule-counted", packets=grew))
    facts: Facts = {"case": "path", "target": view.target_label, "port": c.port, **rule_facts(step)}
    facts["direction"] = None
    yield found("RST205", "info" if counted_nothing else "warning", confidence, step.at, facts, *lines)


def rule_facts(step: Filtered) -> Facts:
    """Where a rule stands."""
    return {
        "place": place_text(step.at),
        "tool": step.tool,
        "table": step.table,
        "chain": step.chain,
        "rule": step.rule or "policy",
        "handle": step.handle,
        "comment": step.comment,
    }


def _boxed(view: View, c: Contact) -> bool:
    """Did somebody else than the target send the RST?"""
    if _rejecting(view) is not None:
        return True
    if c.rst_ttl is None:
        return False
    own = [hops_away(t) for t in (c.synack_ttl, c.echo_ttl) if t is not None]
    return bool(own) and hops_away(c.rst_ttl) not in own


def _rejecting(view: View) -> Filtered | None:
    steps = [way.culprit for _, way in view.ended(Fate.FILTERED)] + [step for _, step in view.large_filtered()]
    for step in steps:
        if isinstance(step, Filtered) and step.verdict == "reject" and "reset" in (step.reject_with or ""):
            return step
    return None


def _seen(view: View, c: Contact) -> EvidenceLine:
    phase = c.rst_phase or "syn"
    if c.rst_ttl is None:  # without a packet socket nobody sees it
        return line(view.ref, "reset-bare", phase=phase)
    return line(view.ref, "reset", phase=phase, ttl=c.rst_ttl)
