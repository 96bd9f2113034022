"""A reset by somebody who is not the one that was asked for: shown by who answers, in snapshots of several hosts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pathfit.core.finding import Confidence, Facts, Finding
from pathfit.core.net import Point, hops_away
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.view import View

if TYPE_CHECKING:
    from pathfit.model.network import Net
    from pathfit.rules.state.overlays import Home
    from pathfit.rules.state.together import Asked


def by_wrong_host(view: View) -> Iterable[Finding]:
    """The connection is refused by somebody else than the one who should have been asked.

    Why it hurts: it looks like a closed port, on a service that is well and answers everybody else.
    Example: three hosts of a swarm; a container moved from the second to the first, and the third still sends its
    frames to the second, where a leftover with the same address answers every SYN with a reset.
    Repair: at its cause: the stale forwarding entry (OVL301), the second owner of the address (OVL302). Dropping resets
    hides it (RST205).
    Severity: error.
    Possible: never said.
    Likely: the reset was measured, and snapshots show that the first packet comes to somebody who is not, or not alone,
    the owner of that address; or that this host sends it where its owner is not.
    Confirmed: the reset was measured in the handshake; the tables of this host, read live, and the snapshots of the
    others, at most ten minutes old, lead the first packet to somebody with that address whom no engine gave it; and to
    another member, elsewhere, an engine did (needs `--in`, with the snapshots of these hosts); or a trace saw which of
    those who have the address made it, and that the one who should have did not.
    References: RFC 9293 section 3.10.7.1; vxlan_find_mac(); moby issues 26523, 33626.
    """
    c = view.contact
    early = c is not None and (c.tcp == "refused" or c.rst_phase == "syn")
    if c is None or not early or not view.torn_down or c.icmp is not None:
        return
    if view.state is None or not (view.others or any(x.vxlan for n in view.state.namespaces for x in n.links)):
        return
    from pathfit.rules.state.together import asked  # loads the rules of whole machines

    flow = asked(view)
    if flow is None:
        return
    told = _arrived(flow) or _sent_away(flow)
    if told is None:
        return
    facts, at, confidence, lines = told
    if c.rst_ttl is not None and hops_away(c.rst_ttl):
        confidence = "likely"  # somebody behind a router answered: members of one overlay are none apart
    seen = line(view.ref, "reset-bare", phase=c.rst_phase or "syn")
    facts |= {"target": view.target_label, "port": c.port, "phase": c.rst_phase or "syn"}
    yield found("RST203", "error", confidence, at, facts, seen, *lines)


Told = tuple[Facts, tuple[Point, ...], Confidence, tuple]  # type: ignore[type-arg]


def _arrived(flow: "Asked") -> Told | None:
    """By who takes the first packet, as all tables together lead it."""
    from pathfit.rules.state.overlays import rightful

    net = flow.arrives
    here = next((h for h in flow.holders if _is(flow, h, net)), None) if net is not None else None
    others = [h for h in flow.holders if h is not here]
    if net is None or not others:
        return None
    right = rightful(flow.holders)
    if here is not None and right is here:
        return None  # who answered has the better claim: the other one is a matter of OVL302
    if right is None and not _disputed(flow):
        return None
    home = right or others[0]
    (d, s, m), mine = home, next((x for x in flow.all.digests if flow.all.label(x) == net.host), flow.all.here)
    facts: Facts = {
        "case": "stray" if right else "twin",
        "by": here[2].name if here else place_text(net.point()),
        "by_host": net.host,
        "member": m.name,
        "home": d.host,
        "address": flow.view.address,
    }
    lines = [line("others", "arrives", host=net.host, place=place_text(net.point()), address=flow.view.address)]
    lines += [line("others", "member-at", member=m.name, mac=m.mac, host=d.host), *flow.all.aged(mine, d)]
    sure = right is not None and flow.leads is net and flow.all.fresh(mine, d)
    return facts, (net.point(), s.at), "confirmed" if sure else "likely", tuple(lines)


def _disputed(flow: "Asked") -> bool:
    """Do two have the address that may not both have it, at one time? A virtual router's moves about."""
    from pathfit.rules.state.overlays import at_one_time, shared_gateway, twins

    pair = twins(flow.holders)
    return pair is not None and not shared_gateway(flow.holders) and at_one_time(pair[0][0], pair[1][0]) is True


def _is(flow: "Asked", home: "Home", net: "Net | None") -> bool:
    d, _, m = home
    return net is not None and flow.all.label(d) == net.host and net.snap.where in (m.key, m.name)


def _sent_away(flow: "Asked") -> Told | None:
    """By where this host sends it: who is there is not seen, and the one who was asked for is elsewhere."""
    from pathfit.rules.state.overlays import stale_entry

    for f in stale_entry(flow.all.fleet):
        x = f.facts
        if x.get("host") == flow.all.here.host and x.get("mac") in flow.stations and x.get("named"):
            facts: Facts = {
                "case": "entry",
                "by": None,
                "by_host": x["named"],
                "member": x["member"],
                "home": x["home"],
            }
            facts["address"] = flow.view.address
            hosts = [d for d in flow.all.digests if d.host in (x["named"], x["home"])]
            return facts, f.where, "likely", (*f.evidence, *flow.all.aged(*hosts))
    return None
