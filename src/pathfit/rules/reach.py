"""Loss that has nothing to do with size, silence, and names."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding
from pathfit.core.net import TCP, UDP
from pathfit.core.path import Bridged, Fate, Translated
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.rules.base import found, line
from pathfit.rules.ends import unheard
from pathfit.rules.places import place_text
from pathfit.rules.promises import any_traffic
from pathfit.rules.view import View

# Disturbed attempts. On a whole path one measurement in thirty has two of twenty-four (healthy-tiny-answers): a sender
# that moves to another processor is reordered (netif_rx() takes that one's backlog).
FEW, SURE = 3, 4


def random_loss(view: View) -> Iterable[Finding]:
    """Packets of every size get lost now and then.

    Why it hurts: everything is slow, large transfers most; and it can be mistaken for a black hole.
    Example: a bad cable, a full queue, a policer; 3 % are enough to halve the speed.
    Repair: none by MTU. Look for errors on the links and for queues that overflow.
    Severity: warning; the verdict is "degraded".
    Possible: never said.
    Likely: three connections at sizes that pass had something missing first and got it later: two may be reordering.
    Confirmed: four or more.
    References: RFC 9293 section 3.8; RFC 6675.
    """
    loss = view.probe.loss if view.probe else None
    if loss is None or loss.attempts <= 0 or (view.probe and view.probe.uneven is not None):
        return
    if loss.disturbed < FEW:
        return
    percent = round(100 * loss.disturbed / loss.attempts, 1)
    facts: Facts = {"disturbed": loss.disturbed, "attempts": loss.attempts, "percent": percent}
    facts["unanswered_syns"] = loss.unanswered_syns
    seen = line(
        view.ref, "loss-packets" if any_traffic(view.ask) else "loss", disturbed=loss.disturbed, attempts=loss.attempts
    )
    yield found("NET151", "warning", "confirmed" if loss.disturbed >= SURE else "likely", view.edge, facts, seen)


def no_answer(view: View) -> Iterable[Finding]:
    """Nobody answers the first packet of the connection, or the first small ones after it, and nothing says why.

    Why it hurts: the client waits until its own time-out. An unanswered SYN says nothing about sizes.
    Example: a firewall outside this machine drops the port; the host behind the address is switched off; a box lets
    handshakes pass and swallows what follows.
    Repair: ask whoever runs the next network; `traceroute -T -p PORT` shows how far packets get.
    Severity: error.
    Possible: never said.
    Likely: the connection timed out, or opened and had no segment of ours acknowledged, repeated and small as they
    were; and no rule, route or link that we can see explains it.
    Confirmed: the connection was tried once more with taps on every device, and its packets were seen to be lost at one
    of this machine (docs/trace.md); otherwise never, for it is the absence of an answer.
    References: RFC 9293 section 3.8.3; tcp(7) tcp_syn_retries.
    """
    c = view.contact
    if c is not None and unheard(view) and not any(view.large_filtered()):
        tried = [a for a in view.attempts("tcp-maxseg", ("unacked",))]
        facts: Facts = {"case": "request", "target": view.target_label, "port": c.port}
        again = line(view.ref, "request-unacked", times=len(tried), repeats=min(a.retrans for a in tried))
        yield found("NET152", "error", "likely", view.edge, facts, again)
        return
    if c is None or c.tcp != "timeout":
        return
    if view.explained or past_the_translation(view) is not None:
        return  # the rule of that fate says more
    if view.counters.get("TcpExt.IPReversePathFilter", 0):
        return
    tries = 1 + c.handshake_retrans
    facts = {"target": view.target_label, "port": c.port, "tries": tries}
    yield found("NET152", "error", "likely", view.edge, facts, line(view.ref, "syn-unanswered", times=tries))


def answers_untranslated(view: View) -> Iterable[Finding]:
    """Answers do not come back by where the target's address was translated, and so bear another one than was asked.

    Why it hurts: nothing is lost, and the client waits all the same: for its kernel those answers are of a connection
    that does not exist (it resets them), and nobody answers the one that does.
    Example: a container asks its own host's published port, which leads to a container on the same bridge: that one
    answers directly (hairpin NAT without masquerade); a second router on the way back.
    Repair: translate the source as well where the destination is translated (masquerade from that network to itself),
    let bridged packets pass iptables there (net.bridge.bridge-nf-call-iptables=1), or ask the server's own address.
    Severity: error.
    Possible: never said.
    Likely: never said.
    Confirmed: state shows the translation and the whole way back beside it, and the connection was not answered.
    References: nf_nat_packet(), br_nf_pre_routing(); RFC 5382 section 4 (hairpinning).
    """
    c, step = view.contact, past_the_translation(view)
    way = view.predicted_reverse
    if c is None or c.tcp != "timeout" or view.explained or step is None or way is None or way.final is None:
        return
    place = place_text(step.at)
    asked, bears = (f"{a} port {n}" for a, n in ((view.address, view.port), (way.final.src, way.final.sport)))
    facts: Facts = {"source": view.source_label, "target": asked, "bears": bears, "place": place}
    proof = line(view.state_ref, "untranslated", place=place, target=asked, bears=bears)
    yield found("NET155", "error", "confirmed", step.at, facts, proof)


def past_the_translation(view: View) -> Translated | None:
    """The translation of the asked address that answers will not pass; None where they do, or it is not certain."""
    there, back = view.predicted_forward, view.predicted_reverse
    if there is None or back is None or there.final is None or back.final is None or there.flow.proto not in (TCP, UDP):
        return None
    if not (there.complete and back.complete) or {there.fate, back.fate} != {Fate.DELIVERED}:
        return None
    asked, bears = there.flow, back.final
    if (bears.src, bears.sport) == (asked.dst, asked.dport):
        return None
    steps = (s for hop in there.hops for s in hop.steps if isinstance(s, Translated))
    step = next((s for s in steps if (s.before.dst, s.before.dport) != (s.after.dst, s.after.dport)), None)
    if step is None:
        return None
    # Where bridged packets pass iptables, a bridge of that host does it (which the prediction does not follow).
    bridged = any(isinstance(s, Bridged) and s.at.netns == step.at.netns for hop in back.hops for s in hop.steps)
    ns = view.namespace(step.at.netns) if step.at.host == view.host else None
    if ns is None or (bridged and _bridge_nf(ns, asked.family)):
        return None
    return step


def _bridge_nf(ns: NetnsSnapshot, family: int) -> bool:
    name = "bridge.bridge-nf-call-iptables" if family == 4 else "bridge.bridge-nf-call-ip6tables"
    return ns.sysctls.get(name, "0") != "0" or any(x.nf_call_iptables for x in ns.links)


def name_not_resolved(view: View) -> Iterable[Finding]:
    """The target's name does not resolve from where the client stands.

    Why it hurts: the connection is never tried. The same name may resolve on the host.
    Example: a container's resolv.conf names a server it cannot reach; a typing error.
    Repair: correct the name, or the resolver of the source.
    Severity: error.
    Possible: never said.
    Likely: no server answered, which may pass.
    Confirmed: a server said that the name does not exist or has no address; or there is no server to ask.
    References: RFC 1035; RFC 2308; resolv.conf(5).
    """
    for name in view.names:
        if name.addresses:
            continue
        error = name.error or "nodata"
        sure = error in ("nxdomain", "nodata", "no-nameserver", "refused")
        facts: Facts = {"asked": name.name, "error": error, "server": name.server, "source": view.source_label}
        facts["case"] = error if error in ("nxdomain", "nodata", "timeout", "no-nameserver") else "failed"
        said = line(name.ref, "name", asked=name.name, error=error, server=name.server or "-")
        yield found("DNS251", "error", "confirmed" if sure else "likely", view.source_point, facts, said)
