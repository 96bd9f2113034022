"""What keeps packets small on a way, and where it does not do what it is there for: clamps, cached and locked path
MTUs, pieces, offloading that hides a limit, links that are too small for IPv6."""

from collections.abc import Iterable

from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.net import SMALLEST_PROMISE, mss_of, packet_of
from pathfit.core.path import Fate
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.mtu import LOST, about, narrow
from pathfit.rules.state.mtu import in_pieces as pieces


def one_sided(machine: Machine) -> Iterable[Finding]:
    """The MSS is clamped for one direction only, and the other one has the hole.

    Why it hurts: the clamp was meant as the cure; it protects downloads or uploads, not both.
    Example: `TCPMSS --clamp-mss-to-pmtu` with `-o ppp0` only: SYNs going out are lowered, SYN-ACKs coming in not.
    Repair: clamp SYN and SYN-ACK, as constants, on both ways through the box.
    Severity: warning; info where what goes out unclamped is told to be too large on the spot.
    Possible: never said.
    Likely: a SYN is lowered on the way out and its answer is not on the way in, or the other way round, and a device on
    the way is smaller.
    Confirmed: never, from state alone.
    References: RFC 9293 section 3.7.1; xt_TCPMSS, nft_exthdr_tcp_set_eval().
    """
    for group in machine.groups:
        for way in group.ways:
            out, back = way.forward.clamps, way.reverse.clamps
            if bool(out) == bool(back) or not way.reverse.hops:
                continue
            clamp = (*out, *back)[0]
            kept = packet_of(way.family, clamp.mss_after)
            unkept = way.allowed if out else way.promised
            limit = next((x for x in way.forward.limits if x.mtu < unkept and x.then in LOST), None)
            if unkept <= kept or limit is None or limit.mtu < kept:
                continue  # nothing on the way is smaller; or the clamp is too large anyway (MTU112)
            told = bool(out) and limit.then == "icmp" and limit.told_home is True
            facts: Facts = {
                "direction": "outbound" if out else "inbound",
                "protected": "inbound" if out else "outbound",
                "limit": limit.mtu,
                "mss": clamp.mss_after,
            }
            proof = line(REF, "clamp", place=place_text(clamp.at), mss=clamp.mss_after)
            severity: Severity = "info" if told else "warning"
            yield about(found("MTU111", severity, "likely", clamp.at, facts, proof), group.keys)


def too_large(machine: Machine) -> Iterable[Finding]:
    """The MSS is clamped, but to a value that is still too large for the way.

    Why it hurts: everybody believes the clamp cures it. It was right for another uplink, or follows the MTU of a route
    that knows nothing of the limit beyond.
    Example: a clamp to 1412 (for PPPoE, packets of 1452) behind an uplink that carries 1400.
    Repair: clamp to the measured limit - 40 (IPv6: - 60).
    Severity: warning.
    Possible: never said.
    Likely: a device on the same way carries less than what the clamp leaves.
    Confirmed: never, from state alone.
    References: RFC 9293 section 3.7.1; RFC 6691; nft_exthdr_tcp_set_eval().
    """
    for n in narrow(machine):
        clamps = (*n.way.forward.clamps, *n.way.reverse.clamps)
        wanted = mss_of(n.way.family, n.limit.mtu)
        clamp = max(clamps, key=lambda c: c.mss_after, default=None)
        if clamp is None or clamp.mss_after <= wanted:
            continue
        facts: Facts = {
            "direction": n.direction,
            "place": place_text(clamp.at),
            "mss": clamp.mss_after,
            "wanted": wanted,
            "limit": n.limit.mtu,
        }
        proof = line(REF, "clamp", place=place_text(clamp.at), mss=clamp.mss_after)
        yield about(found("MTU112", "warning", "likely", clamp.at, facts, proof), n.group.keys)


def stale(machine: Machine) -> Iterable[Finding]:
    """A cached path MTU, or one locked in a route, is below what the path really carries.

    Why it hurts: every packet is smaller than need be, for up to ten minutes or for ever; and a wrong value (forged,
    or from a path that is no longer used) may be far too small.
    Example: after a failover the cache still says 1400 although the path carries 1500 again.
    Repair: `ip route flush cache` in that namespace; remove `mtu lock` from the route.
    Severity: warning where all of the way is seen; otherwise info.
    Possible: a value is remembered below all devices we see, but not all of the way is visible: it may be right.
    Likely: all of the way is visible, and every device on it carries more.
    Confirmed: never, from state alone.
    References: ip_rt_update_pmtu(), struct fib_nh_exception; rt6_insert_exception(); ip-route(8) "mtu lock".
    """
    for group in machine.groups:
        device = group.device
        for known in group.net.snap.exceptions if device is not None else ():
            way = machine.way_to(group, known.dst, device.mtu if device else 0)
            if way is None:
                continue
            others = [x.mtu for x in way.limits if x.kind not in ("cached", "route")]
            real = min(others, default=device.mtu if device else 0)
            if known.mtu >= real:
                continue
            whole = way.complete and way.fate is Fate.DELIVERED
            case = "locked" if known.locked and whole else "cached" if whole else "unsure"
            facts: Facts = {"case": case, "direction": "outbound", "mtu": known.mtu, "real": real}
            facts["expires"] = None if known.expires is None else round(known.expires)
            severity: Severity = "warning" if whole else "info"
            sure: Confidence = "likely" if whole else "possible"
            proof = line(REF, "cached", mtu=known.mtu, real=real)
            yield about(found("MTU110", severity, sure, group.net.point(), facts, proof), group.keys)


def in_pieces(machine: Machine) -> Iterable[Finding]:
    """Packets are cut into fragments on the way.

    Why it hurts: twice the packets for the same bytes, and the first firewall, NAT or cloud network that drops
    fragments turns it into a black hole.
    Example: a VXLAN device of 1500 over an underlay of 1500: each full packet travels as two.
    Repair: the overlay's MTU = underlay - overhead.
    Severity: info; its cause (MTU104) is the warning.
    Possible: never said.
    Likely: state shows that the outer packets do not fit and may be cut.
    Confirmed: never, from state alone.
    References: RFC 8900; ip_fragment(), iptunnel_xmit().
    """
    for n in pieces(machine):
        facts: Facts = {
            "direction": "outbound",
            "place": place_text(n.limit.at),
            "limit": n.limit.mtu,
            "own": n.size,
            "overhead": n.limit.overhead,
        }
        proof = line(REF, "pieces", place=place_text(n.limit.at), limit=n.limit.mtu)
        yield about(found("MTU108", "info", "likely", n.limit.at, facts, proof), n.group.keys)


def hidden(machine: Machine) -> Iterable[Finding]:
    """Offloading hides that a device is too small: bulk transfers pass, single packets of that size die.

    Why it hurts: a test with a large download says that all is well, and one TLS record in a hundred is lost.
    Example: a bridge port of 1400 between two containers of 1500, with segmentation offload on.
    Repair: one MTU for every device of the segment.
    Severity: warning.
    Possible: never said.
    Likely: the features of the devices before it and its MTU say so.
    Confirmed: never, from state alone.
    References: is_skb_forwardable(), skb_is_gso(); ethtool(8) -K tso gso.
    """
    for group in machine.groups:
        for way in group.ways:
            limit = next((x for x in way.forward.limits if x.mtu < way.allowed and x.kind != "cached"), None)
            if limit is None or limit.then != "pass-gso":
                continue
            facts: Facts = {"direction": "outbound", "place": place_text(limit.at), "limit": limit.mtu}
            facts["own"] = way.forward.flow.size
            proof = line(REF, "hidden-limit", place=place_text(limit.at), limit=limit.mtu)
            yield about(found("MTU116", "warning", "likely", limit.at, facts, proof), group.keys)


def below_minimum(machine: Machine) -> Iterable[Finding]:
    """A link on the way carries less than the 1280 bytes that IPv6 demands of every link.

    Why it hurts: no sender may go below 1280, so no "too big" and no setting at the ends can help.
    Example: a tunnel in a tunnel with 1200 left, and IPv6 addresses inside.
    Repair: make room underneath, or fragment below IPv6; or use IPv4 there.
    Severity: warning.
    Possible: never said.
    Likely: the device that decides on a way of IPv6 carries less than 1280.
    Confirmed: never, from state alone.
    References: RFC 8200 section 5; IPV6_MIN_MTU, ip6_dst_mtu_maybe_forward().
    """
    for group in machine.groups:
        for way in group.ways:
            small = [x for x in way.forward.limits if way.family == 6 and x.mtu < SMALLEST_PROMISE[6]]
            limit = next((x for x in small if x.kind not in ("cached", "route")), None)
            if limit is None:
                continue
            facts: Facts = {"direction": "outbound", "place": place_text(limit.at), "limit": limit.mtu}
            proof = line(REF, "silent-drop", place=place_text(limit.at), limit=limit.mtu, why="-")
            yield about(found("MTU114", "warning", "likely", limit.at, facts, proof), group.keys)
            break
