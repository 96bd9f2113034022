"""The model's two questions: what happens to this flow, and what happens to this conversation, both ways.

All sizes are bytes of IP packet, header included. Nothing is measured here and nothing guessed: what is not visible or
not understood ends the prediction with ``Fate.UNKNOWN``, ``why`` and ``ends``, and everything up to there still counts.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from pathfit.core.net import TCP, Flow, Point, packet_of
from pathfit.core.path import Clamped, Decap, Encap, Exit, Fate, Hop, Limit, Predicted, Step, Then
from pathfit.core.snapshot import Link
from pathfit.model.frame import Note
from pathfit.model.journey import Walk, told
from pathfit.model.mtu import advertised, own_mtu
from pathfit.model.nat import Memory
from pathfit.model.network import Net, Network
from pathfit.model.packet import Bound, Packet, largest_piece, packet_of_flow
from pathfit.model.state import Journey, State

MAX_WAYS = 8  # equal-cost alternatives that are tried
ANY_MSS = 65495  # larger than any promise: a clamp below it shows
TOO_BIG = (Fate.TOO_BIG_TOLD, Fate.TOO_BIG_SILENT)
JUDGED_AGAIN = (Fate.DELIVERED, Fate.FRAGMENTED, Fate.UNKNOWN, *TOO_BIG)
SMALLEST = 40  # bytes of a RST without data; with IPv6 it is 60, which fits as well
USUAL = 1500  # bytes; the size asked about when neither end's own MTU is known


class Door(NamedTuple):
    """Where a packet enters the walk: made in ``net`` (``link`` None), or coming in by ``link`` from outside."""

    net: Net
    link: Link | None = None
    mac: str = ""  # the station it is for, "" = not known
    less: int = 0  # bytes of tunnels around it when it came in


def predict(
    network: Network,
    ns: str,
    flow: Flow,
    *,
    mss: int | None = None,
    reply: bool = False,
    memory: Memory = (),
    entering: str | None = None,
) -> Predicted:
    """The way of ``flow`` from namespace ``ns`` (key, id or WHERE), in one direction.

    ``flow.src`` "" = the kernel chooses. ``flow.size`` 0 = as large as this namespace sends to that destination.
    ``mss``: the MSS option of its SYN (None: what the namespace advertises). ``reply``: it answers a conversation that
    ``memory`` knows. ``entering``: it comes in from outside by this link instead of being made in ``ns``.
    Limits are listed when they are smaller than ``flow.size``, nearest first.
    Raises KeyError when ``ns`` is not in the network.
    """
    net = network.find(ns)
    if net is None:
        raise KeyError(ns)
    if entering is not None and entering not in net.names:
        raise KeyError(entering)
    door = Door(net, net.names[entering] if entering else None)
    flow = _sized(door, flow)
    packet = packet_of_flow(flow, mss=mss, kind="reply" if reply else "request")
    if packet.mss is None and flow.proto == TCP:
        promised = None if entering else advertised(net, flow.dst, src=flow.src, mark=flow.mark)
        packet = msgspec.structs.replace(packet, mss=promised or ANY_MSS)
    return _asked(network, door, packet, memory)


def _asked(network: Network, door: Door, packet: Packet, memory: Memory) -> Predicted:
    ways = _ways(network, door, packet, memory)
    return _merged([_judged(network, door, way, packet, memory) for way in ways])


def predict_both(
    network: Network,
    ns: str,
    target: str,
    *,
    proto: int = TCP,
    dport: int = 0,
    sport: int = 0,
    src: str = "",
    size_forward: int | None = None,
    size_reverse: int | None = None,
    peer_mss: int | None = None,
    mark: int = 0,
) -> tuple[Predicted, Predicted]:
    """A conversation of ``ns`` with ``target``, both ways: (forward, reverse).

    The reverse is walked from the target's namespace when the forward walk arrives there; else from the device where
    our view ended, inward: then it lists the limits we can see and is not ``complete``. ``size_reverse`` None = the
    packet our own SYN invites, after clamps on its way; ``size_forward`` None = what we send by ourselves, or what
    ``peer_mss`` (the MSS the peer was seen to promise) invites when that is less.
    Raises KeyError when ``ns`` is not in the network.
    """
    net = network.find(ns)
    if net is None:
        raise KeyError(ns)
    asked = Flow(src=src, dst=target, proto=proto, sport=sport or 40000, dport=dport, size=size_forward or 0, mark=mark)
    if not size_forward:
        asked = _sized(Door(net), asked)
        if peer_mss:
            asked = msgspec.structs.replace(asked, size=min(asked.size, packet_of(asked.family, peer_mss)))
    packet = packet_of_flow(asked)
    if proto == TCP:
        packet = msgspec.structs.replace(packet, mss=advertised(net, target, src=src, mark=mark) or ANY_MSS)
    ways = _ways(network, Door(net), packet, ())
    forward = _merged([_judged(network, Door(net), way, packet, ()) for way in ways])
    return forward, _reverse(network, ways[0], forward, size_reverse, peer_mss)


def predict_drawn(
    network: Network, ns: str, target: str, *, proto: int = TCP, dport: int = 0
) -> tuple[tuple[Predicted, Predicted], ...]:
    """Where NAT takes ``target`` to one of several, which dice or a hash choose: the conversation with each of them,
    both ways, up to MAX_WAYS. () where it does not. Says where packets go; of large ones no filter is asked.
    Raises KeyError when ``ns`` is not in the network."""
    net = network.find(ns)
    if net is None:
        raise KeyError(ns)
    asked = _sized(Door(net), Flow(src="", dst=target, proto=proto, sport=40000, dport=dport))
    promised = (advertised(net, target) or ANY_MSS) if proto == TCP else None  # what answers may be as large as
    packet = packet_of_flow(asked, mss=promised)
    found: list[tuple[Predicted, Predicted]] = []
    todo: list[tuple[int, ...]] = [()]
    while todo and len(found) < MAX_WAYS:
        picks = todo.pop(0)
        way = _start(network, Door(net), packet, (), picks=picks)
        todo += _others(picks, way.draws)
        if way.draws:
            forward = _predicted(network, Door(net), way, packet, ())
            found.append((forward, _reverse(network, way, forward, None, None)))
    return tuple(found)


def predict_refusal(network: Network, ns: str, target: str, *, dport: int = 0, sport: int = 0) -> Predicted:
    """The way back of the RST that refuses a connection of ``ns`` to ``target``: small, and of a conversation that no
    filter has seen answered before. Raises KeyError when ``ns`` is not in the network."""
    net = network.find(ns)
    if net is None:
        raise KeyError(ns)
    asked = _sized(Door(net), Flow(src="", dst=target, proto=TCP, sport=sport or 40000, dport=dport))
    way = _ways(network, Door(net), packet_of_flow(asked, mss=ANY_MSS), ())[0]
    forward = _predicted(network, Door(net), way, packet_of_flow(asked, mss=ANY_MSS), ())
    return _reverse(network, way, forward, SMALLEST, None, reset=True)


def _reverse(
    network: Network, way: Journey, forward: Predicted, size: int | None, peer_mss: int | None, *, reset: bool = False
) -> Predicted:
    final = forward.final or forward.flow
    if not size:
        size = packet_of(final.family, forward.mss) if forward.mss else USUAL
    back = Flow(src=final.dst, dst=final.src, proto=final.proto, sport=final.dport, dport=final.sport, size=size)
    if way.fate is Fate.DELIVERED and way.net is not None and reset:
        packet = msgspec.structs.replace(packet_of_flow(back, kind="reply"), reset=True)
        return _asked(network, Door(way.net), packet, way.talks)
    if way.fate is Fate.DELIVERED and way.net is not None:
        return predict(network, way.net.key, back, mss=peer_mss, reply=True, memory=way.talks)
    door = _door(network, way) if way.fate is Fate.UNKNOWN else None
    if door is None:
        why = way.why or f"the way there ends: {way.fate.value}"
        return Predicted(flow=back, fate=Fate.UNKNOWN, large=Fate.UNKNOWN, ends=way.ends, why=why)
    packet = packet_of_flow(back, mss=None if reset else peer_mss or ANY_MSS, kind="reply")
    packet = msgspec.structs.replace(packet, reset=reset)
    said = _asked(network, door, packet, way.talks)
    why = said.why or f"it comes from beyond {way.ends.link if way.ends else 'our view'}"
    return msgspec.structs.replace(said, complete=False, ends=said.ends or way.ends, why=why)


def _door(network: Network, way: Journey) -> Door | None:
    """Where answers come back in: the device our view ended at; for a packet in a tunnel, the tunnel's device."""
    net = network.at(way.ends) if way.ends else None
    if net is None or way.ends is None or way.ends.link not in net.names:
        return None
    around: list[Encap] = []
    for x in way.notes:
        if isinstance(x, Encap):
            around.append(x)
        elif isinstance(x, Decap):
            around = around[:-1]
    if not around:
        return Door(net, net.names[way.ends.link], way.mac)
    there = network.at(around[0].at)
    name = around[0].at.link
    if there is None or name not in there.names:
        return None
    return Door(there, there.names[name], way.mac, sum(x.overhead for x in around))


def _sized(door: Door, flow: Flow) -> Flow:
    if flow.size:
        return flow
    own = None if door.link else own_mtu(door.net, flow.dst, src=flow.src)
    return msgspec.structs.replace(flow, size=own.value if own else USUAL)


def _start(
    network: Network,
    door: Door,
    packet: Packet,
    memory: Memory,
    choices: tuple[int, ...] = (),
    *,
    pieces: bool = False,
    picks: tuple[int, ...] | None = None,
) -> Journey:
    walk = Walk(network, memory=memory, choices=choices, pieces=pieces, picks=picks)
    if door.link is None:
        return walk.run(State("output", door.net, packet, gso=packet.proto == TCP))
    return walk.enter_from_outside(door.net, door.link, packet, door.mac, door.less)


def _ways(network: Network, door: Door, packet: Packet, memory: Memory) -> list[Journey]:
    """The walk; and every other one where routes have several equal ways."""
    first = _start(network, door, packet, memory)
    ways = [first]
    todo = _others((), first.forks)
    while todo and len(ways) < MAX_WAYS:
        choices = todo.pop(0)
        way = _start(network, door, packet, memory, choices)
        ways.append(way)
        todo += _others(choices, way.forks)
    return ways


def _others(choices: tuple[int, ...], forks: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Choices that differ from a way already walked, at a fork behind those that were chosen."""
    made = len(choices)
    return [choices + (0,) * (i - made) + (n,) for i, count in enumerate(forks) if i >= made for n in range(1, count)]


def _predicted(network: Network, door: Door, way: Journey, packet: Packet, memory: Memory) -> Predicted:
    home = "" if door.link else door.net.key
    bounds = [x for x in way.notes if isinstance(x, Bound)]
    known = memory or way.talks
    biting = _biting(way.notes, packet)
    limits = tuple([_limit(network, b, packet, known, home) for b in biting])
    passing = [b.mtu for b in bounds if not (b.hides and b.gso and packet.proto == TCP)]
    large, hiding = _large(way, biting, packet)
    if way.gaps and large in (Fate.DELIVERED, Fate.FRAGMENTED):
        large = Fate.UNKNOWN  # what the wire between two hosts carries is in no snapshot
    unseen = "; ".join(dict.fromkeys(gap.why for gap in way.gaps))
    src = _first_source(way, packet)
    return Predicted(
        flow=msgspec.structs.replace(packet.flow(), src=src),
        fate=way.fate,
        large=large,
        mtu=min(passing, default=None),
        limits=limits,
        hops=_hops(way.notes),
        ends=way.ends if way.fate is Fate.UNKNOWN else way.gaps[0].at if way.gaps else None,
        complete=way.fate is not Fate.UNKNOWN and not way.gaps,
        why=way.why or unseen or hiding,
        mss=way.packet.mss if way.packet.mss != ANY_MSS else None,
        clamps=way.clamps,
        culprit=way.culprit,
        final=way.packet.flow(),
    )


def _judged(network: Network, door: Door, way: Journey, packet: Packet, memory: Memory) -> Predicted:
    """The prediction; where filters may treat later packets otherwise, the large one walks the same way once more.
    So does a fragment, where there are filters: it has no ports, and some drop all of them."""
    said = _predicted(network, door, way, packet, memory)
    if said.large is Fate.FRAGMENTED and any(net.filtered for net in network.nets.values()):
        piece = msgspec.structs.replace(packet, src=said.flow.src)
        gone = _start(network, door, piece, memory, pieces=True)
        if gone.fate is not Fate.DELIVERED:
            return msgspec.structs.replace(said, large=gone.fate, why=gone.why, culprit=gone.culprit)
    if not way.later or said.large not in JUDGED_AGAIN:
        return said
    big = msgspec.structs.replace(packet, big=True, src=said.flow.src)
    again = _start(network, door, big, memory or way.talks, pieces=said.large is Fate.FRAGMENTED)
    if again.fate is Fate.DELIVERED or (said.large is Fate.UNKNOWN and again.fate is not Fate.FILTERED):
        return said
    if said.large in TOO_BIG and (again.fate is not Fate.FILTERED or _met(way, again, packet)):
        return said
    return msgspec.structs.replace(said, large=again.fate, why=again.why, culprit=again.culprit)


def _met(way: Journey, again: Journey, packet: Packet) -> bool:
    """Does the packet meet the bound that stops it before the filter that ends its other walk?"""
    before = {(x.at, x.kind, x.function) for x in again.notes if isinstance(x, Bound)}
    for x in _biting(way.notes, packet):
        if x.then(packet) == "error" and x.kind != "tunnel":
            return True  # refused before the output hook sees it (ip_append_data)
        if x.then(packet) != "fragment" and not (x.hides and x.gso and packet.proto == TCP):
            return (x.at, x.kind, x.function) in before
    return True


def _first_source(way: Journey, packet: Packet) -> str:
    return packet.src or (way.talks[0].came.src if way.talks else way.packet.src)


def _limit(network: Network, b: Bound, packet: Packet, memory: Memory, home: str) -> Limit:
    then: Then = b.then(packet)
    if b.hides and b.gso and packet.proto == TCP:
        then = "pass-gso"
    reaches: bool | None = None
    why = b.untold
    if then == "icmp":
        reaches, why = told(network, b, memory, home=home)
    elif then == "error":
        reaches = True
    elif then == "silent":
        reaches = False
    return Limit(
        mtu=b.mtu, kind=b.kind, at=b.at, then=then, told_home=reaches, why_untold=why, device=b.device,
        overhead=b.overhead, function=b.function,
    )  # fmt: skip


def _biting(notes: Iterable[Note], packet: Packet) -> list[Bound]:
    """The bounds that a packet of the asked size is too large for. What was cut into pieces travels on in pieces of
    that size: the packet itself to its end, an outer packet to the end of its tunnel."""
    found: list[Bound] = []
    pieces = [0]  # bytes of the largest piece, of the packet and of each that is around it; 0 = it is whole
    for x in notes:
        if isinstance(x, Encap):
            pieces.append(0)
        elif isinstance(x, Decap):
            pieces = pieces[:-1] or [0]
        elif isinstance(x, Bound):
            met = _met_by(x, packet, pieces)
            found += [met] if met else []
    return found


def _met_by(b: Bound, packet: Packet, pieces: list[int]) -> Bound | None:
    """The bound as it is for this packet, None: it fits. ``pieces`` is changed where it is cut."""
    if pieces[-1] > b.joins > 0:
        return msgspec.structs.replace(b, mtu=b.joins, dont="silent", may="silent")
    if b.mtu >= min([x for x in pieces if x], default=packet.size):
        return None
    if b.then(packet) == "fragment" and not (b.hides and b.gso and packet.proto == TCP):
        pieces[-1] = b.piece or largest_piece(b.mtu, packet.family)
        if b.teaches and not packet.df:  # the next ones are cut before they go in
            pieces[0] = largest_piece(b.mtu, packet.family)
    return b


def _large(way: Journey, biting: Iterable[Bound], packet: Packet) -> tuple[Fate, str]:
    """What happens to a packet of the asked size: the first bound that stops it decides."""
    in_pieces = False
    for b in biting:
        if b.hides and packet.proto == TCP and b.gso is not False:
            if b.gso is None:
                return Fate.UNKNOWN, f"whether offloading hides the limit at {b.at.link} is not known"
            continue
        then = b.then(packet)
        if then in ("icmp", "error"):
            return Fate.TOO_BIG_TOLD, ""
        if then == "silent":
            return Fate.TOO_BIG_SILENT, ""
        in_pieces = True
    if way.fate is not Fate.DELIVERED:
        return way.fate, ""
    return (Fate.FRAGMENTED if in_pieces else Fate.DELIVERED), ""


def _hops(notes: Iterable[Step | Bound]) -> tuple[Hop, ...]:
    """Steps grouped by the namespace they happened in."""
    hops: list[Hop] = []
    where: Point | None = None
    steps: list[Step] = []
    out: Exit | None = None
    for x in notes:
        if isinstance(x, Bound):
            continue
        here = x.at
        if where is None:
            where = here
        elif here.netns != where.netns or here.host != where.host:
            hops.append(_hop(where, out, steps))
            where, steps, out = here, [], None
        steps.append(x)
        if isinstance(x, Exit) and not x.local:
            out = x
    if where is not None:
        hops.append(_hop(where, out, steps))
    return tuple(hops)


def _hop(where: Point, out: Exit | None, steps: list[Step]) -> Hop:
    if out is None:
        return Hop(where=where, steps=tuple(steps))
    return Hop(where=out.at, mtu=out.mtu, steps=tuple(steps))


def _merged(ways: list[Predicted]) -> Predicted:
    """Several equal ways: what is true of all; unknown where they differ."""
    first = ways[0]
    if len(ways) == 1:
        return first
    worst = min(ways, key=lambda w: w.mtu if w.mtu is not None else 1 << 16)
    fates, larges = {w.fate for w in ways}, {w.large for w in ways}
    if len(fates) == 1 and len(larges) == 1 and len({w.mtu for w in ways}) == 1:
        return first
    clamps: tuple[Clamped, ...] = first.clamps
    return msgspec.structs.replace(
        worst,
        fate=first.fate if len(fates) == 1 else Fate.UNKNOWN,
        large=first.large if len(larges) == 1 else Fate.UNKNOWN,
        complete=all(w.complete for w in ways) and len(fates) == 1 and len(larges) == 1,
        why=f"{len(ways)} equal ways differ; a hash chooses among them",
        clamps=clamps,
    )


__all__ = ["predict", "predict_both", "predict_drawn", "predict_refusal"]
