"""Where to look at one flow: the devices of its predicted way, both directions, and every form that it takes there.

A packet passes a device on its way out (an Exit, a bridge's port, the tunnel device that wraps it) or on its way in (an
Enter, the tunnel device it comes out of): the same device is two points, one for each direction, told apart by which
way the packet went there. Pure.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from pathfit.core.net import Flow, Point
from pathfit.core.path import Bridged, Decap, Encap, Enter, Exit, Predicted, Translated
from pathfit.core.tracing import Branch, Stop, Tap
from pathfit.model.network import Net, Network

ETHERNET = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK: an Ethernet header stands in front (loopback's is empty)
RAW = (65534, 768, 769, 776, 778, 823)  # ARPHRD_NONE (tun, WireGuard), TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE
Pair = tuple[Predicted | None, Predicted | None]  # the way out, the way in
MOST_TAPS = 32
MOST_HOLDERS = 4  # of one address: more are no proof of anything
MOST_DEVICES = 4  # of each: a server; who has more is a router, or a host


class Where(NamedTuple):
    """``taps``: each device once; ``forward``, ``reverse``: points in order; ``hosts``, ``ports``, ``tunnels``: what
    the flow may look like; ``ends``: of the tunnels that it goes through; ``targets``: addresses of its far end.
    ``unseen``: devices that cannot be tapped as they are. ``namespaces``: (NetnsSnapshot.id, WHERE) of all that they
    touch, also where they end before any device; ``branches``: of each address that NAT may take the flow to;
    ``cables``: taps that are the two halves of a veth pair, with no program (XDP) in between."""

    taps: tuple[Tap, ...]
    forward: tuple[Stop, ...]
    reverse: tuple[Stop, ...]
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    tunnels: tuple[int, ...]
    unseen: tuple[Point, ...] = ()
    ends: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    namespaces: tuple[tuple[str, str], ...] = ()
    branches: tuple[Branch, ...] = ()
    cables: tuple[tuple[int, int], ...] = ()


def taps(
    network: Network,
    forward: Predicted | None,
    reverse: Predicted | None,
    port: int,
    drawn: Sequence[Pair] = (),
) -> Where:
    """Every point of both ways that this machine can look at. ``port``: of the asked service; ``drawn``: the ways to
    each of several addresses, where NAT chooses one."""
    numbers: dict[tuple[str, int], int] = {}
    found: list[Tap] = []
    unseen: list[Point] = []
    orders: list[tuple[Stop, ...]] = []
    chosen = _ends(drawn, forward, port)
    every = [forward, reverse, *(way for pair in chosen.values() for way in pair)]
    for way in every:
        order: list[Stop] = []
        for at, out in _points(network, way) if way is not None else ():
            tap = _tap(network, at)
            if tap is None or (len(found) == MOST_TAPS and (tap.netns, tap.link) not in numbers):
                unseen.append(at)
                continue
            number = numbers.setdefault((tap.netns, tap.link), len(found))
            if number == len(found):
                found.append(tap)
            stop = Stop(number, out)
            if not order or order[-1] != stop:
                order.append(stop)
        orders.append(tuple(order))
    there = [f for way in every[::2] for f in _forms(way)]
    back = [f for way in every[1::2] for f in _forms(way)]
    for tap in _holders(network, {f.dst for f in there} | {f.src for f in back}):
        if len(found) < MOST_TAPS and (tap.netns, tap.link) not in numbers:
            numbers[tap.netns, tap.link] = len(found)
            found.append(tap)
    ports = [port, *(f.dport for f in there), *(f.sport for f in back)]
    outer = [s.outer for way in every if way for s in _steps(way) if isinstance(s, Encap)]
    tunnels = {f.dport for f in outer}
    return Where(
        taps=tuple(found),
        forward=orders[0],
        reverse=orders[1],
        hosts=tuple(dict.fromkeys(a for f in (*there, *back) for a in (f.src, f.dst) if a)),
        ports=tuple(dict.fromkeys(p for p in ports if p)),
        tunnels=tuple(sorted(t for t in tunnels if t)),
        unseen=tuple(dict.fromkeys(unseen)),
        ends=tuple(dict.fromkeys(a for f in outer for a in (f.src, f.dst) if a)),
        targets=tuple(dict.fromkeys(a for a in (*(f.dst for f in there), *(f.src for f in back)) if a)),
        namespaces=tuple(_namespaces(network, *every)),
        branches=tuple(
            _branch(end, pair, (orders[2 * n], orders[2 * n + 1])) for n, (end, pair) in enumerate(chosen.items(), 1)
        ),
        cables=tuple(_cables(network, found)),
    )


def _cables(network: Network, taps: Sequence[Tap]) -> Iterator[tuple[int, int]]:
    numbers = {tap.at: n for n, tap in enumerate(taps)}
    for n, tap in enumerate(taps):
        far = _far(network, tap.at)
        other = numbers.get(far, -1) if far is not None else -1
        if other > n and _far(network, taps[other].at) == tap.at and _bare(network, tap.at, taps[other].at):
            yield n, other


def _bare(network: Network, *ends: Point) -> bool:
    """Are both halves those of a veth, and does nothing take packets before a tap sees them?"""
    nets = [(_net(network, at), at.link) for at in ends]
    links = [net.names.get(name) if net is not None and name else None for net, name in nets]
    return all(link is not None and link.kind == "veth" and not link.xdp for link in links)


def _ends(drawn: Sequence[Pair], asked: Predicted | None, port: int) -> dict[tuple[str, int], Pair]:
    """The ways by where they lead, whether they get there or not. Who is not translated at all goes to the target, as
    everybody seems to before."""
    found: dict[tuple[str, int], Pair] = {}
    for forward, reverse in drawn:
        steps = _steps(forward) if forward is not None else ()
        to = next((s.after for s in reversed([s for s in steps if isinstance(s, Translated)])), None)
        if to is not None and asked is not None and (to.dst, to.dport) != (asked.flow.dst, port):
            found.setdefault((to.dst, to.dport), (forward, reverse))
    return found


def _branch(end: tuple[str, int], pair: Pair, stops: tuple[tuple[Stop, ...], tuple[Stop, ...]]) -> Branch:
    there, back = (way.ends if way is not None else None for way in pair)
    limits = [x for way in pair if way is not None for x in way.limits if x.kind in ("route", "cached")]
    return Branch(
        address=end[0], port=end[1], forward=stops[0], reverse=stops[1], ends=(there, back), limits=tuple(limits)
    )


def _namespaces(network: Network, *ways: Predicted | None) -> list[tuple[str, str]]:
    places = [hop.where for way in ways if way is not None for hop in way.hops]
    nets = [net for at in dict.fromkeys(places) if (net := _net(network, at)) is not None]
    return list(dict.fromkeys((net.snap.id, net.snap.where) for net in nets))[:MOST_TAPS]


def _holders(network: Network, addresses: Collection[str]) -> Iterator[Tap]:
    """Devices of those who have the target's address, on the way or not: what did not pass, they did not send."""
    for address in sorted(addresses):
        holders = network.owners(address)[:MOST_HOLDERS]
        for net, links in ((net, net.snap.links[:MOST_DEVICES]) for net, _ in holders):
            for link in links:
                at = net.point(link.name)
                tap = _tap(network, at) if link.up and not link.loopback else None
                if tap is not None:
                    yield tap


def _steps(way: Predicted) -> Iterator[object]:
    return (step for hop in way.hops for step in hop.steps)


def _points(network: Network, way: Predicted) -> Iterator[tuple[Point, bool]]:
    """(device, leaves by it), in order. The port of a bridge by which a packet came in is the far half of the cable."""
    last: Point | None = None
    for step in _steps(way):
        if isinstance(step, Exit) and not step.local:
            last = step.at
            yield step.at, True
        elif isinstance(step, Enter | Bridged):
            came = _far(network, last)
            if came is not None and came.netns == step.at.netns and came.link != step.at.link:
                yield came, False
            last = None
            if isinstance(step, Enter):
                yield step.at, False
            else:
                last = Point(host=step.at.host, netns=step.at.netns, link=step.out)
                yield last, True
        elif isinstance(step, Encap):
            last = None
            if step.at.link:
                yield step.at, True
        elif isinstance(step, Decap) and step.at.link:
            last = None
            yield step.at, False


def _far(network: Network, at: Point | None) -> Point | None:
    """The other half of a veth pair."""
    net = _net(network, at)
    link = net.names.get(at.link) if net is not None and at is not None and at.link else None
    other = network.peer(net, link) if net is not None and link is not None else None
    return other[0].point(other[1].name) if other is not None else None


def _net(network: Network, at: Point | None) -> Net | None:
    if at is None:
        return None
    return next((n for n in network.nets.values() if n.host == at.host and n.snap.where == at.netns), None)


def _tap(network: Network, at: Point) -> Tap | None:
    net = _net(network, at)
    link = net.names.get(at.link) if net is not None and at.link else None
    if net is None or link is None or link.arphrd not in (*ETHERNET, *RAW):
        return None
    return Tap(at=at, netns=net.snap.id, link=link.index, raw=link.arphrd in RAW)


def _forms(way: Predicted | None) -> Iterator[Flow]:
    """The flow as it is at each point of one direction."""
    if way is None:
        return
    yield way.flow
    for step in _steps(way):
        if isinstance(step, Translated):
            yield step.before
            yield step.after
    if way.final is not None:
        yield way.final
