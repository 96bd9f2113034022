"""Which rule of a packet filter dropped a packet: nf_tables' word joined to the kernel's event on the same packet, and
where no event tells of it, to what the taps saw.

A trace message holds at most 40 bytes of IP and 20 of what follows, as they came to the chain, and no time: it is heard
a little later. So packets are compared by what those bytes say, in the same namespace. A rule whose number another rule
has afterwards keeps its number and loses its text (:func:`pathfit.model.ruled.unlike`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.tracing import Dropped, Rule, Ruled, inode
from pathfit.follow.seen import EARLY, Packet, Way
from pathfit.model.network import Network
from pathfit.model.ruled import counted, unlike
from pathfit.wire import dissect
from pathfit.wire.dissect import Dissected, Layer, Udp
from pathfit.wire.packets import Icmp, Tcp

# Nanoseconds between a drop and when its rule is heard, on a busy machine. The rule may even be heard first: it is told
# before the packet is freed (nft_do_chain(), nf_hook_slow()), and a processor may be taken away in between.
HEARD = 2_000_000_000
TELLING = 12  # bytes of a datagram's payload in a trace message
FILTERED = "filtered"
Identity = tuple[object, ...]
Place = tuple[Dropped, Way, Packet]


class Verdicts(NamedTuple):
    """``dropped``: the kernel's events, those of a rule as such; ``alone``: what only a rule tells of; ``rules``: of
    each of them that a rule dropped; ``heard``: the message of each in ``alone``."""

    dropped: tuple[Dropped, ...]
    alone: tuple[Dropped, ...]
    rules: Mapping[Dropped, Rule]
    heard: Mapping[Dropped, Ruled]


def verdicts(fact: TraceFact, network: Network | None, after: HostSnapshot | None) -> Verdicts:
    """Join what filters said to what the kernel said. ``after``: filters as they were read afterwards."""
    by_packet: dict[Identity, list[int]] = defaultdict(list)
    for n, drop in enumerate(fact.dropped):
        if (layer := _outer(dissect.packet(drop.data))) is not None:
            by_packet[_exact(layer)].append(n)
    dropped = list(fact.dropped)
    alone: list[Dropped] = []
    rules: dict[Dropped, Rule] = {}
    heard: dict[Dropped, Ruled] = {}
    until = fact.ended + HEARD if fact.ended else HEARD  # what comes later, was after the last packet that was kept
    for one in fact.filters.ruled:
        if one.time > until:
            continue
        rule = _doubted(one, after)
        layer = _outer(dissect.packet(one.data))
        same = by_packet.get(_exact(layer), []) if layer is not None else []
        near = [n for n in same if _same_place(dropped[n], one)]
        if near:
            n = min(near, key=lambda n: abs(dropped[n].time - one.time))
            same.remove(n)  # the kernel tells of each copy by itself
            dropped[n] = replace(dropped[n], word=FILTERED, told=rule.reject is not None)
            rules[dropped[n]] = rule
        elif layer is not None:
            drop = _made(one, rule, layer, network)
            alone.append(drop)
            rules[drop], heard[drop] = rule, one
    return Verdicts(tuple(dropped), tuple(alone), rules, heard)


def _outer(found: Dissected) -> Layer | None:
    return found.layers[0] if found.layers else None


def _exact(layer: Layer) -> Identity:
    """A packet as nothing but another copy of it is."""
    ip, t = layer.ip, layer.transport
    said: Identity = ()
    if isinstance(t, Tcp):
        said = (t.sport, t.dport, t.seq, t.ack, t.flags, t.window)
    elif isinstance(t, Udp):
        said = (t.sport, t.dport, t.length)
    elif isinstance(t, Icmp):
        said = (t.type, t.code, t.ident, t.seq)
    return (ip.family, ip.src, ip.dst, ip.protocol, ip.ident, ip.fragment, ip.size, *said)


def _same_place(drop: Dropped, one: Ruled) -> bool:
    here = inode(one.netns)
    there = drop.netns in (0, here) or drop.egress_netns == here
    return there and abs(one.time - drop.time) <= HEARD and drop.word in (FILTERED, "unknown")


def _made(one: Ruled, rule: Rule, layer: Layer, network: Network | None) -> Dropped:
    """A drop of which the rule alone tells. The device is that by which the packet came in, or would have left."""
    net = network.of_id(one.netns) if network is not None else None
    links = net.links if net is not None else {}
    link = links.get(one.iif or one.oif)
    return Dropped(
        time=one.time,
        word=FILTERED,
        reason="",
        function="",
        told=rule.reject is not None,
        netns=inode(one.netns),
        device=link.name if link is not None else "",
        length=layer.ip.size,
        data=one.data,
    )


def _doubted(one: Ruled, after: HostSnapshot | None) -> Rule:
    """The rule without its text, where it is another one afterwards."""
    tables = next((n.tables for n in after.namespaces if n.id == one.netns), None) if after is not None else None
    if tables is None or not one.rule.text or not unlike(one.rule, tables):
        return one.rule
    way = tuple(jump._replace(number=0) for jump in one.rule.way)
    return replace(one.rule, text="", number=0, reject=None, way=way)


# -- where on the way ------------------------------------------------------------------------------------------------


def placed(ways: Sequence[Way], fact: TraceFact, found: Verdicts) -> Iterator[Place]:
    """Which sighting each drop that only a rule tells of has ended: the last in that namespace, by that device if the
    packet came in there; nowhere in it, the last one at all."""
    if not found.alone:
        return
    index: dict[Identity, list[tuple[Way, Packet]]] = defaultdict(list)
    for way in ways:
        for packet in way.packets:
            seen = fact.seen[packet.number]
            raw = fact.taps[seen.tap].raw
            outer = _outer((dissect.packet if raw else dissect.frame)(seen.data))
            if outer is not None:
                index[_loose(outer, seen.data)].append((way, packet))
    for drop in found.alone:
        layer = _outer(dissect.packet(drop.data))
        near = index.get(_loose(layer, drop.data), ()) if layer is not None else ()
        one = found.heard[drop]
        near = [(way, p) for way, p in near if p.sighting.time <= drop.time + EARLY and _may_be(way, p, one, fact)]
        if near:
            way, packet = max(near, key=lambda x: _nearness(x[0], x[1], one, fact))
            yield drop, way, packet


def _may_be(way: Way, packet: Packet, one: Ruled, fact: TraceFact) -> bool:
    """Was it seen where the dropped one came in? What is no packet of either direction was not, though it looks alike:
    of an ICMPv6 error 60 bytes say no more than its kind."""
    came = {n for n, tap in enumerate(fact.taps) if (tap.netns, tap.link) == (one.netns, one.iif)}
    stop = way.stops[packet.sighting.point]
    if not came:
        return not (isinstance(packet.layer.transport, Icmp) and packet.layer.ip.family == 6)
    return stop.tap in came and not stop.out


def _nearness(way: Way, packet: Packet, one: Ruled, fact: TraceFact) -> tuple[bool, bool, int]:
    stop = way.stops[packet.sighting.point]
    tap = fact.taps[stop.tap]
    here = tap.netns == one.netns
    return here and not stop.out and tap.link == one.iif, here, packet.sighting.time


def _loose(layer: Layer, data: bytes) -> Identity:
    """What of a packet NAT and a router leave as it is, and 60 bytes of headers tell."""
    ip, t = layer.ip, layer.transport
    if isinstance(t, Tcp):
        return ip.family, ip.ident, ip.size, t.seq, t.ack, t.flags, t.window
    if ip.ident:
        return ip.family, ip.protocol, ip.ident, ip.fragment, ip.size
    if isinstance(t, Icmp):
        return ip.family, ip.protocol, t.type, t.code, t.seq, ip.size
    return ip.family, ip.protocol, ip.size, data[layer.payload : layer.payload + TELLING]


# -- counters of iptables-legacy -------------------------------------------------------------------------------------


def with_legacy(
    losses: Sequence[Loss], before: HostSnapshot | None, after: HostSnapshot | None, host: str
) -> tuple[Loss, ...]:
    """Losses by a filter that nobody names, or by nobody knows what, with the rules of iptables-legacy there whose
    counters moved meanwhile: that is no proof, others may have sent those packets."""
    if before is None or after is None:
        return tuple(losses)
    old = {n.id: n for n in before.namespaces}
    moved = {old[n.id].where: counted(old[n.id].tables, n.tables) for n in after.namespaces if n.id in old}
    return tuple(_with_counters(loss, moved, host) for loss in losses)


def _with_counters(loss: Loss, moved: Mapping[str, Sequence[tuple[Rule, int]]], host: str) -> Loss:
    at = [c.at for c in loss.causes if c.word == FILTERED and c.rule is None]
    if all(c.by == "counter" for c in loss.causes):
        at += [point for point in (loss.after, loss.before) if point is not None]
    more = [
        Cause(
            word=FILTERED,
            at=Point(host=host, netns=where),
            rule=rule,
            told=rule.reject is not None,
            count=packets,
            by="counter",
            counter=f"{rule.tool} {rule.table} {rule.chain}",
        )
        for where in dict.fromkeys(point.netns for point in at)
        for rule, packets in moved.get(where, ())
    ]
    return replace(loss, causes=(*loss.causes, *more)) if more else loss
