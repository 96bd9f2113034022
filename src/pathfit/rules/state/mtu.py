"""Sizes that do not fit, seen from state alone: promises above what the way carries, overlays without room, segments
whose members disagree.

All of them look at the same thing, :func:`narrow`: a way of a group on which the largest packet that its TCP would
really exchange is larger than a device carries. Which code it is depends on what happens at the place that decides: a
tunnel has no room for its own bytes (MTU104), a switch port or the far half of a cable drops (MTU105), a router says
"too big" and nobody hears it (MTU107), or is heard as long as nothing gets in its way (MTU103).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from pathfit.core.finding import Facts, Finding, Severity
from pathfit.core.net import Point
from pathfit.core.path import Decap, Encap, Fate, Limit, Predicted
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Group, Machine, Way, overlay_number

LOST = ("silent", "icmp")
DEAD = frozenset({Fate.FILTERED, Fate.NO_ROUTE, Fate.UNREACHABLE, Fate.LINK_DOWN, Fate.FORWARDING_OFF, Fate.RP_FILTER})
USUAL = 1500  # what everything has that nobody thought about


class Narrow(NamedTuple):
    """A place too small for what is sent. ``size``: bytes that are sent there; ``outbound`` seen from the group.

    ``sure``: packets of that size are lost there without word, every device up to there is seen.
    """

    group: Group
    way: Way
    limit: Limit
    size: int
    outbound: bool
    sure: bool

    @property
    def predicted(self) -> Predicted:
        return self.way.forward if self.outbound else self.way.reverse

    @property
    def direction(self) -> str:
        return "outbound" if self.outbound else "inbound"


def narrow(machine: Machine) -> Iterator[Narrow]:
    """The place that decides, on each way, each direction, where TCP exchanges more than it carries."""
    for group in machine.groups:
        for way in group.ways:
            if way.forward.fate in DEAD:
                continue  # whatever its size, nothing goes there: that has a rule of its own, or is meant so
            for predicted, size, outbound in ((way.forward, way.allowed, True), (way.reverse, way.promised, False)):
                limit = next((x for x in predicted.limits if x.mtu < size and x.then in LOST), None)
                if limit is None or not _bites(predicted, limit):
                    continue
                whole = outbound or predicted.complete  # what comes from out of sight may be kept small there
                if whole or limit.then == "silent" or way.what == "elsewhere":
                    yield Narrow(group, way, limit, size, outbound, whole and _certain(limit))


def in_pieces(machine: Machine) -> Iterator[Narrow]:
    """Ways on which the first place that is too small is a tunnel that cuts its outer packets."""
    for group in machine.groups:
        for way in group.ways:
            first = next((x for x in way.forward.limits if x.mtu < way.allowed and x.kind != "cached"), None)
            if first is not None and first.then == "fragment" and first.kind == "tunnel":
                yield Narrow(group, way, first, way.allowed, True, False)


def _bites(predicted: Predicted, limit: Limit) -> bool:
    """Does this place decide? Not a cached path MTU or a route's (remedies), nor what the sender itself learns at once,
    nor where the packet came in pieces, or not at all."""
    decided = predicted.large in (Fate.TOO_BIG_TOLD, Fate.TOO_BIG_SILENT)
    return decided and limit.kind not in ("cached", "route") and predicted.limits[0].then != "error"


def _certain(limit: Limit) -> bool:
    return limit.then == "silent" or (limit.then == "icmp" and limit.told_home is False)


def _merged(all_: Iterable[Narrow]) -> Iterator[tuple[Narrow, tuple[str, ...], str]]:
    """Those of one place and limit together: the largest of them, everybody affected, the direction. The default route
    speaks before other ways."""
    by: dict[tuple[Point, int], list[Narrow]] = {}
    for n in all_:
        by.setdefault((n.limit.at, n.limit.mtu), []).append(n)
    for same in by.values():
        keys = tuple(dict.fromkeys(k for n in same for k in n.group.keys))
        ways = {n.direction for n in same}
        first = max(same, key=lambda n: (n.way.what == "elsewhere", n.size))
        yield first, keys, ways.pop() if len(ways) == 1 else "both"


def _tunnel(n: Narrow) -> bool:
    return n.limit.kind == "tunnel" and bool(n.limit.overhead)


def _rescued(machine: Machine, n: Narrow) -> bool:
    """Does who sends into the limit look for a smaller size by itself when nothing comes back (tcp_mtu_probing)?"""
    sender = machine.network.at(n.predicted.hops[0].where) if n.predicted.hops else None
    return sender is not None and sender.sysctl("ipv4.tcp_mtu_probing") > 0


def _clamped(n: Narrow) -> bool:
    """TCP is kept below the limit in both directions by clamps: what the promises say no longer holds."""
    return n.way.promised <= n.limit.mtu and n.way.allowed <= n.limit.mtu


def overpromise(machine: Machine) -> Iterable[Finding]:
    """The asking side's own MTU is larger than what the way in or out can carry.

    Why it hurts: TCP derives from it what it invites the far end to send (the MSS) and what it sends itself. Above
    the real limit everything depends on "too big" messages that may be lost.
    Example: docker0 1500 behind an eth0 of 1400; the host itself is fine, because its MSS is honest.
    Repair: give the container's network the MTU of the smallest device on the way.
    Severity: warning; with the network beyond out of sight, nothing is certain. Info where answers are clamped and
    what goes out is told to be too large on the spot (a PPPoE router with a clamp), and where a jumbo network ends at
    what every network carries, 1500, all of the way is seen and "too big" gets home.
    Possible: the smaller device is on the way to some destinations only.
    Likely: the smaller device is on the way of the default route.
    Confirmed: never, from state alone.
    References: RFC 9293 section 3.7.1; RFC 6691; tcp_advmss_sock().
    """
    ours = [n for n in narrow(machine) if _promising(n) and not (_tunnel(n) or _clamped(n) or n.sure)]
    for n, keys, _ in _merged(ours):
        told = n.limit.told_home is True
        half = told and n.way.promised <= n.limit.mtu  # clamped one way, told on the spot the other
        seen = n.way.forward.complete and n.way.reverse.complete  # what the way back loses has its own error
        jumbo = told and seen and n.limit.mtu >= USUAL  # a jumbo network must end somewhere
        severity: Severity = "warning" if n.way.what == "elsewhere" and not (half or jumbo) else "info"
        own = max(n.size, n.way.promised)
        link = n.group.device
        facts: Facts = {
            "case": "way" if n.way.what == "elsewhere" else "some",
            "direction": "both",
            "source": n.group.name,
            "own": own,
            "limit": n.limit.mtu,
            "link": link.name if link else None,
            "place": place_text(n.limit.at),
            "behind": n.way.to,
        }
        proof = line(REF, "promise", own=own, limit=n.limit.mtu)
        sure = "likely" if n.way.what == "elsewhere" else "possible"
        finding = found("MTU103", severity, sure, (n.group.point, n.limit.at), facts, proof)  # type: ignore[arg-type]
        yield about(finding, keys)


def _promising(n: Narrow) -> bool:
    """On the way out; or on the way in, where who sends is out of sight and would be told."""
    return n.outbound or (n.limit.then == "icmp" and not n.predicted.complete)


def too_big_lost(machine: Machine) -> Iterable[Finding]:
    """The message "too big" is sent but has no effect: filtered, misrouted, for the wrong flow, or ignored.

    Why it hurts: path MTU discovery rests on this one message. Without it every packet above the limit vanishes.
    Example: a host drops the ICMP that it would have to send to its own containers.
    Repair: let ICMP type 3 code 4 (ICMPv6 type 2) through where it is dropped; a smaller MTU at the source helps
    without it.
    Severity: error where both ends of a way use sizes that the limit does not carry; a warning where only some
    destinations lie behind it, or the sender probes for a smaller size by itself.
    Possible: never said.
    Likely: every device up to the limit is seen, and so is what stops the message.
    Confirmed: never, from state alone.
    References: RFC 1191; RFC 8201; RFC 4890 section 4.3.1; icmp_send().
    """
    ours = [n for n in narrow(machine) if n.limit.then == "icmp" and n.sure and not _tunnel(n) and not _clamped(n)]
    for n, keys, direction in _merged(ours):
        facts: Facts = {
            "direction": direction,
            "place": place_text(n.limit.at),
            "limit": n.limit.mtu,
            "why": n.limit.why_untold or "it is lost",
        }
        proof = line(REF, "untold", place=place_text(n.limit.at), limit=n.limit.mtu, why=n.limit.why_untold or "-")
        severity: Severity = "warning" if n.way.what == "route" or _rescued(machine, n) else "error"
        yield about(found("MTU107", severity, "likely", (n.limit.at,), facts, proof), keys)


def overlay(machine: Machine) -> Iterable[Finding]:
    """An overlay device has an MTU that leaves no room for the bytes the overlay adds.

    Why it hurts: packets of that size become too large for the network underneath. They are fragmented, and the
    fragments are often dropped; or they vanish at the tunnel itself.
    Example: a VXLAN device forced to 1500 over an underlay of 1500: 50 bytes too many, 1450 fit.
    Repair: the overlay's MTU = underlay - overhead; until then a route `mtu` in the containers.
    Severity: error where larger packets are certainly lost without word; otherwise a warning.
    Possible: never said.
    Likely: the tunnel's limit is below what its users send.
    Confirmed: never, from state alone.
    References: RFC 7348 section 4.3; vxlan_xmit_one(), iptunnel_xmit(); docs of the overlay in question.
    """
    ours = (*(x for x in narrow(machine) if _tunnel(x)), *in_pieces(machine))
    ends: dict[object, list[tuple[Narrow, Point, tuple[str, ...], str]]] = {}
    for n, keys, direction in _merged(ours):  # both ends of one overlay are one fault
        at = _device(n)
        ends.setdefault((_number(machine, at), n.limit.mtu, n.sure), []).append((n, at, keys, direction))
    for same in ends.values():
        n, at, _, _ = same[0]
        net = machine.network.at(at)
        device = net.names.get(at.link or "") if net else None
        ways = {direction for *_, direction in same}
        name = machine.overlays.get(net.snap.id, "") if net else ""
        what = "lost" if n.sure else "pieces" if n.limit.then == "fragment" else "tight"
        facts: Facts = {
            "case": f"named-{what}" if name else what,
            "network": name or None,
            "link": at.link,
            "direction": ways.pop() if len(ways) == 1 else "both",
            "device": place_text(at),
            "kind": n.limit.device or "tunnel",
            "device_mtu": device.mtu if device else n.size,
            "own": n.size,
            "overhead": n.limit.overhead,
            "limit": n.limit.mtu,
            "underlay": n.limit.mtu + n.limit.overhead,
        }
        proof = line(REF, "tunnel", device=place_text(at), overhead=n.limit.overhead, limit=n.limit.mtu)
        places = tuple(dict.fromkeys(p for _, p, _, _ in same))
        keys = tuple(dict.fromkeys(k for _, _, more, _ in same for k in more))
        yield about(found("MTU104", "error" if n.sure else "warning", "likely", places, facts, proof), keys)


def _number(machine: Machine, at: Point) -> object:
    """What the two ends of an overlay have in common (kind, port, number); else the place itself."""
    net = machine.network.at(at)
    device = net.names.get(at.link or "") if net else None
    return (overlay_number(device) if device else None) or at


def _device(n: Narrow) -> Point:
    """The tunnel device that a limit of its outer packets belongs to: the last one that added as much before there."""
    inside: list[tuple[Point, int]] = []
    last = n.limit.at
    for step in (s for h in n.predicted.hops for s in h.steps):
        if isinstance(step, Encap):
            inside.append((step.at, step.overhead + (inside[-1][1] if inside else 0)))
            last = step.at if inside[-1][1] == n.limit.overhead else last
        elif isinstance(step, Decap):
            inside = inside[:-1]
        if step.at == n.limit.at and inside:
            break
    return last


def mixed_segment(machine: Machine) -> Iterable[Finding]:
    """Members of one layer-2 segment disagree about its MTU, and something between them drops what is too large.

    Why it hurts: a switch port or the far half of a cable never says "too big": it drops. TCP between the two
    members exchanges what *they* promise each other, not what lies between them carries.
    Example: the container's half of a veth has 1500, the host's half 1400: 1405 and more never arrive.
    Repair: one MTU for every device of the segment, both halves of each cable included.
    Severity: error: the drop is certain for the segments these two exchange; a warning where they come from out of
    sight, or the sender probes for a smaller size by itself.
    Possible: never said.
    Likely: both members and everything between them is seen.
    Confirmed: never, from state alone.
    References: is_skb_forwardable(), br_dev_queue_push_xmit(), __dev_forward_skb2().
    """
    ours = (n for n in narrow(machine) if n.limit.then == "silent" and not _tunnel(n) and not _clamped(n))
    for n, keys, direction in _merged(ours):
        other = n.way.of.name if n.way.of else n.way.to
        facts: Facts = {
            "direction": direction,
            "case": "elsewhere" if n.way.what == "elsewhere" else None,
            "source": n.group.name,
            "other": other,
            "own": n.size,
            "limit": n.limit.mtu,
            "place": place_text(n.limit.at),
        }
        proof = line(REF, "silent-drop", place=place_text(n.limit.at), limit=n.limit.mtu, why="-")
        severity: Severity = "error" if n.sure and not _rescued(machine, n) else "warning"
        yield about(found("MTU105", severity, "likely", n.limit.at, facts, proof), keys)


def about(finding: Finding, keys: tuple[str, ...]) -> Finding:
    """The finding, with those who are affected."""
    return msgspec.structs.replace(finding, workloads=keys)
