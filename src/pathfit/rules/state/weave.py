"""Weave Net's slow way: of a machine (:func:`slow_path`), and of one asked path (:func:`of_path`)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding
from pathfit.core.net import TCP
from pathfit.core.node import Encryption, NodeFacts, Overlay, WeaveConnection
from pathfit.core.snapshot import Link
from pathfit.model.lookup import Query, lookup
from pathfit.model.network import Net, Network
from pathfit.model.tunnels.makers import fitting_inner, heartbeat
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.mtu import about
from pathfit.rules.state.nodes import Node, leaves_by, nodes
from pathfit.rules.view import DIRECTIONS, PROVEN, View

BRIDGE = "weave"  # net/bridge.go, WeaveBridgeName
SMALLEST = 576  # RFC 791: no MTU below it is worth a setting


class Sized(NamedTuple):
    """A connection by the slow way: ``size`` of its heartbeat's packet, ``room`` on the way to the peer (bytes) as far
    as it is known, ``place`` that says so. ``measured``: evidence id, "" when state alone says it."""

    connection: WeaveConnection
    size: int
    room: int | None
    place: str
    measured: str = ""

    @property
    def tight(self) -> bool:
        return self.room is not None and self.room < self.size


def slow_path(machine: Machine) -> Iterable[Finding]:
    """Weave sends through user space ("sleeve") although its fast datapath could be used.

    Why it hurts: each packet is copied to a program and back: a tenth of the speed, and much processor time. It works,
    so nobody looks.
    Example: WEAVE_MTU 1410 over a network of 1450: the fast datapath's heartbeat is a packet of 1460 and never arrives.
    Repair: a WEAVE_MTU of at most the network's MTU less 50 (84 to 87 with a password), the same on every peer, then
    `weave reset` and a new start; where the network is large enough, let UDP 6784 through.
    Severity: warning; traffic works, slowly. Whoever is on this network is "degraded", never "broken", and so is a path
    that goes this way.
    Possible: the devices seen here carry the heartbeat; it is lost beyond, or UDP 6784 is, or the peer cannot do it.
    Likely: the heartbeat is larger than the device by which it leaves, or than the path MTU remembered to the peer; or
    packets of its size were measured to reach the peer, so that it is UDP 6784 that does not.
    Confirmed: `pathfit diagnose --from host --to PEER` measured that packets of its size do not reach the peer.
    References: weave 2.8.1 router/fastdp.go (sendHeartbeat, SetDf), router/sleeve.go, site/tasks/manage/fastdp.md;
    weave issues 1737, 3037.
    """
    for node in nodes(machine):
        bridge = node.net.names.get(BRIDGE)
        here = (node.net.key, bridge.index if bridge is not None else 0)
        members = tuple(k for g in machine.groups if here in machine.segments(g.net) for k in g.keys)
        yield from (about(f, members) for f in _of_node(node, None))


def of_path(view: View, network: Network) -> Iterator[Finding]:
    """OVL306 as far as the asked path is concerned: it goes through Weave's network to another host (then it is slow),
    or it leads to one of Weave's peers (then what was measured says why), or nothing was asked."""
    if view.state is None or view.source is None:
        return
    for node in nodes(Machine(view.state, network)):
        if view.address and _through(view, network, node):
            yield from _of_node(node, None, slows=True)
        elif node.net.snap.where in view.on_way:
            peers = [c.address for c in _slow(node.facts)]
            yield from _of_node(node, view if view.address else None) if view.address in (*peers, "") else ()


def fast(facts: NodeFacts) -> Overlay | None:
    """Weave on this node, when there is a datapath in the kernel that it was not told to leave alone."""
    overlay = next((o for o in facts.overlays if o.maker == "weave"), None)
    if overlay is None or overlay.backend != "vxlan" or overlay.facts.get("no_fastdp"):
        return None
    return None if overlay.facts.get("fastdp") is False else overlay


def room_to(net: Net, address: str) -> tuple[int | None, Link | None]:
    """(what the way to an address carries as far as state says, the device by which packets leave for it)."""
    out = leaves_by(net, address) if address else None
    room = out.mtu if out is not None else None
    cached = min((x.mtu for x in net.snap.exceptions if x.dst == address), default=None)
    return (cached if cached is not None and (room is None or cached < room) else room), out


def _slow(facts: NodeFacts) -> list[WeaveConnection]:
    return [c for c in facts.weave if c.mode == "sleeve" and c.state == "established"]


def _of_node(node: Node, view: View | None, slows: bool = False) -> Iterator[Finding]:
    """One finding for all peers of a node that suffer the same. ``view``: only the peer that was asked about, with what
    was measured. ``slows``: the asked traffic goes this way."""
    overlay, net = fast(node.facts), node.net
    if overlay is None:
        return
    slow = _slow(node.facts)
    sized = [_sized(net, overlay, c, view) for c in slow if view is None or c.address == view.address]
    done: set[tuple[str, int | None]] = set()
    rooms = [s.room for s in sized if s is not None and s.tight and s.room is not None]
    least = min(rooms, default=None)
    for one in sized:
        if one is None or (key := (one.place, one.room if one.tight else None)) in done:
            continue
        done.add(key)
        yield _said(node, overlay, one, len(slow), least if one.tight else None, slows)


def _sized(net: Net, overlay: Overlay, connection: WeaveConnection, view: View | None) -> Sized | None:
    if overlay.granted is None:
        return None
    size = heartbeat(overlay.granted, connection.encrypted)
    room, out = room_to(net, connection.address)
    place = place_text(net.point(out.name)) if out is not None else connection.address
    if view is not None and (seen := _measured(view, size, out)) is not None:
        own = out is not None and out.mtu <= seen
        return Sized(connection, size, seen, place if own and seen < size else connection.address, view.ref)
    return Sized(connection, size, room, place)


def _measured(view: View, size: int, out: Link | None) -> int | None:
    """What the way to the asked address was measured to carry, where that decides: less than ``size`` in one direction
    (each end sends heartbeats), or as much in both."""
    found = []
    for direction in DIRECTIONS:
        b = view.bracket(direction)
        exact = b.passes is not None and b.fails is not None and b.grade in (*PROVEN, "told")
        all_of_ours = direction == "forward" and out is not None and b.passes == out.mtu
        if b.passes is not None and (exact or all_of_ours or b.passes >= size):
            found.append(b.passes)
    tight = [n for n in found if n < size]
    return min(tight) if tight else min(found) if len(found) == len(DIRECTIONS) else None


def _said(node: Node, overlay: Overlay, one: Sized, count: int, least: int | None, slows: bool) -> Finding:
    net, peer = node.net, one.connection.peer or one.connection.address
    encryption: Encryption = "ipsec" if any(c.encrypted for c in node.facts.weave) else ""
    fits = fitting_inner("weave", "vxlan", least, 4, encryption) if least is not None else None
    case = "small" if one.tight else "through" if one.measured else "beyond" if one.room is not None else "unseen"
    facts: Facts = {
        "case": case,
        "peer": peer,
        "count": count,
        "overlay": overlay.granted,
        "heartbeat": one.size,
        "room": one.room,
        "short": one.size - one.room if one.tight and one.room is not None else None,
        "fits": fits if fits is not None and fits >= SMALLEST else None,
        "place": one.place,
        **({"slows": True} if slows else {}),
    }
    lines: list[EvidenceLine] = [
        line(REF, "weave-connection", peer=peer, mode="sleeve"),
        line(REF, "weave-heartbeat", overlay=overlay.granted, heartbeat=one.size),
    ]
    if one.measured:
        lines.append(line(one.measured, "weave-room", address=one.connection.address, room=one.room))
    sure: Confidence = "confirmed" if one.tight and one.measured else "possible"
    if sure != "confirmed" and (one.tight or one.measured):
        sure = "likely"
    at = net.point(next((n for n in ("datapath", BRIDGE) if n in net.names), None))
    return found("OVL306", "warning", sure, at, facts, *lines)


def _through(view: View, network: Network, node: Node) -> bool:
    """Does the asked flow leave its source straight into Weave's network, for an address that is not on this host, and
    do all connections that could take it there send slowly?"""
    mine = network.find(view.source.id) if view.source is not None else None
    up = [c.mode for c in node.facts.weave if c.state == "established"]
    if mine is None or network.owners(view.address) or set(up) != {"sleeve"}:
        return False
    there = lookup(mine, Query(view.address, proto=TCP, dport=view.port))
    links = [mine.links.get(h.link) for h in there.hops if not h.via]
    return there.kind == "unicast" and len(there.hops) == 1 and any(_plugged(network, mine, x, node.net) for x in links)


def _plugged(network: Network, mine: Net, link: Link | None, net: Net) -> bool:
    """Is this device on Weave's bridge in ``net``: its other half a port of it, or the bridge itself?"""
    if link is None or mine is net:
        return link is not None and link.name == BRIDGE
    other = network.peer(mine, link) if link.kind == "veth" else None
    master = net.links.get(other[1].master) if other is not None and other[0] is net else None
    return master is not None and master.name == BRIDGE
