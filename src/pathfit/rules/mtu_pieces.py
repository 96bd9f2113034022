"""Packets in pieces, as measured between two ends of ours: cut on the way, or dropped because they are pieces."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding, Severity
from pathfit.core.measured import Split
from pathfit.core.net import Point
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.promises import any_traffic
from pathfit.rules.view import SAID, View


def fragments_dropped(view: View) -> Iterable[Finding]:
    """Fragments do not arrive, while packets of the same size that are whole do.

    Why it hurts: every datagram larger than the MTU of its sender is lost: large DNS answers, RADIUS, NFS and tunnels
    over UDP, IPsec's key exchange with certificates. TCP does not notice.
    Example: `nft add rule … ip frag-off & 0x3fff != 0 drop` on a router; a cloud network or a NAT that drops fragments.
    Repair: let fragments pass where they are dropped; else keep datagrams below the path's MTU (EDNS 1232 bytes).
    Severity: warning where any traffic is asked (a target of ours without a port), and the verdict is "degraded"; info
    where the asked traffic is TCP.
    Possible: never said.
    Likely: the target is UDP or a host, and echoes in fragments found no answer, six times, while whole ones of every
    size did; a filter that drops large pings looks the same, therefore no more than an info.
    Confirmed: datagrams sent as fragments, each smaller than packets that pass, never arrived in that direction, six
    times and more; small packets sent after them on the same flows did.
    References: RFC 8900; RFC 9715 (DNS); ip_defrag(), nf_defrag_ipv4().
    """
    for s in _sure(view, "fragments"):
        if s.arrived or not s.lost:
            continue
        facts: Facts = {
            "direction": SAID[s.direction],
            "source": view.source_label,
            "target": view.target_label,
            "size": s.size,
            "piece": s.piece,
            "sent": s.sent,
        }
        way = view.way(s.direction)
        whole = way is not None and way.complete
        if s.door:
            facts["case"] = "door"
        else:
            facts |= {"beyond": not whole, "unexplained": whole}
        severity: Severity = "warning" if any_traffic(view.ask) else "info"
        proof = line(view.ref, "fragments", direction=SAID[s.direction], sent=s.sent, piece=s.piece)
        yield found("MTU109", severity, "confirmed", _where(view, s), facts, proof)
    yield from _echoes(view)


def _echoes(view: View) -> Iterable[Finding]:
    """An echo tests both ways."""
    for b in view.probe.both if view.probe else ():
        if b.method == "icmp-fragments" and b.fails is not None and b.grade == "step":
            facts: Facts = {
                "case": "echo",
                "direction": "both",
                "source": view.source_label,
                "target": view.target_label,
                "size": b.fails,
            }
            yield found("MTU109", "info", "likely", view.edge, facts, line(view.ref, "fragments-echo", size=b.fails))


def cut_on_the_way(view: View) -> Iterable[Finding]:
    """Packets are cut into fragments on the way.

    Why it hurts: twice the packets for the same bytes, and the first firewall, NAT or cloud network that drops
    fragments turns it into a black hole.
    Example: a VXLAN device of 1500 over an underlay of 1500: each full packet travels as two.
    Repair: the overlay's MTU = underlay - overhead.
    Severity: info; its cause (MTU104) is the warning.
    Possible: never said.
    Likely: state shows that the outer packets do not fit and may be cut.
    Confirmed: both ends are ours, and a packet without DF that left whole arrived in pieces.
    References: RFC 8900; ip_fragment(), iptunnel_xmit().
    """
    for s in _sure(view, "whole"):
        passes = view.bracket(s.direction).passes
        if not s.cut or passes is None:
            continue
        limit = next((x for x in view.limits(s.direction) if x.mtu == passes), None)
        at = limit.at if limit is not None else view.edge
        facts: Facts = {
            "case": "measured",
            "direction": SAID[s.direction],
            "place": place_text(at),
            "limit": passes,
            "own": s.size,
        }
        proof = line(view.ref, "cut", direction=SAID[s.direction], size=s.size, times=s.cut)
        yield found("MTU108", "info", "confirmed", at, facts, proof)


def _sure(view: View, kind: str) -> Iterable[Split]:
    return (s for s in (view.probe.splits if view.probe else ()) if s.kind == kind and s.sure)


def _where(view: View, s: Split) -> Point:
    """What came in at the far end and was not handed on got lost there."""
    receiver = view.target if s.direction == "forward" else view.source
    if s.door and receiver is not None:
        return Point(host=view.host, netns=receiver.where)
    return view.edge
