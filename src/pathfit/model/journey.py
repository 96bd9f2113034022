"""Follow one packet through the network, as the kernel would pass it on.

State by state: a packet is made (output), taken in (receive), passed on (forward), sent (send) or arrives
(input). Each step asks the lookup, the filters, NAT and layer 2, notes what it saw and what bounds the packet's size,
and names the next state or the end. The walk is of a *small* packet; whether a large one fits is judged afterwards
from the bounds, which are all collected, in order.

Loops end: a state seen twice is a loop, and no packet passes more than 64 (the usual TTL).
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from pathfit.core.net import TCP, Point
from pathfit.core.path import Decap, Enter, Exit, Fate, Filtered, Lookup, Resolve
from pathfit.core.snapshot import Link, NextHop
from pathfit.model import nat
from pathfit.model._policy import PASSED
from pathfit.model.frame import MOST_FOLLOWED, Carried, Frame, Wire
from pathfit.model.hooks import Hooks
from pathfit.model.l2 import VLAN_ROOM, emit, receive
from pathfit.model.lookup import Found, Query, describe, lookup, source_address
from pathfit.model.mtu import SMALLEST_V6, accepts_source, device_mtu, route_mtu
from pathfit.model.network import Net, Network
from pathfit.model.packet import Bound, Fate1, Gap, Packet, cut_at, too_big
from pathfit.model.state import End, Journey, State
from pathfit.model.tunnels.tunnel import Steps, secured, through

MAX_STEPS = 64 * 4  # a packet dies after 64 forwarding hosts; each takes up to four states
MAX_NESTED = 4  # tunnels in tunnels
OUTER_COSTS = 10  # what a walk of an outer packet counts among the ports that are followed
ANYBODY = "?"  # a MAC address that only a device without one takes for its own
UNRESOLVED = frozenset({"failed", "incomplete", "none"})


class Walk(Hooks):
    """One walk. ``memory``: conversations known from the other direction; ``choices``: which way at each fork;
    ``pieces``: where a packet of the asked size would be fragmented, a later fragment of it goes on (of a ``big`` one
    the first, which has ports); ``picks``: which translation where one of several is drawn, None: that is not known."""

    def __init__(
        self,
        network: Network,
        *,
        memory: nat.Memory = (),
        choices: tuple[int, ...] = (),
        depth: int = 0,
        pieces: bool = False,
        spent: list[int] | None = None,
        picks: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(memory)
        self.picks = picks
        self.pieces = pieces
        self.network, self.choices, self.depth = network, choices, depth
        self.forks: list[int] = []
        self.gaps: list[Gap] = []
        self.mac = ""
        self.spent = [0] if spent is None else spent

    def _wire(self) -> Wire:
        """Made for each frame: kept here it would be a circle, and everything the walk has seen wait for the garbage
        collector."""
        return Wire(self.network, self._l2_hook, self._tunnel, self.spent, self.pieces)

    def run(self, state: State) -> Journey:
        """To the end."""
        seen: set[tuple[object, ...]] = set()
        for _ in range(MAX_STEPS):
            phase, net, p, link = state[:4]
            if phase == "receive":  # a packet that goes round in circles comes in somewhere
                key = (net.key, link.index if link else 0, p.src, p.dst, p.sport, p.dport)
                if key in seen:
                    break
                seen.add(key)
            self.gso = state.gso
            got = _STEPS[phase](self, state)
            if isinstance(got, End):
                return self._journey(state, got)
            state = got
        return self._journey(state, End(Fate.LOOP, "the packet goes round in circles"))

    def enter_from_outside(self, net: Net, link: Link, packet: Packet, mac: str = "", less: int = 0) -> Journey:
        """The walk of a packet that arrives at ``link`` from where we do not see.

        ``mac``: the station it is for ("" = whoever has the next hop); ``less``: tunnel bytes around it so far. What
        the device itself receives is a bound only where it is known: a veth half takes its MTU + 4.
        """
        if link.kind == "veth":
            self.notes.append(
                Bound(
                    link.mtu + VLAN_ROOM - less, "receive", net.point(link.name), "silent", "silent", net.key, packet,
                    "veth", "__dev_forward_skb2", less, True, None,
                )
            )  # fmt: skip
        offload = link.features.get("gro", True) if link.features is not None else True
        gso = None if packet.proto == TCP and offload else False
        passed_on = bool(link.master or self.network.stacked_on(net, link) or link.vxlan)
        dmac = mac or None if passed_on else link.mac or ANYBODY
        frame = Frame(packet, dmac, packet.dst, gso)
        start = State("receive", net, packet, link)
        got = self._arrived(packet, receive(self._wire(), net, link, frame), None)
        return self._journey(start, got) if isinstance(got, End) else self.run(got)

    def _journey(self, state: State, end: End) -> Journey:
        if not end.ends and end.fate is Fate.UNKNOWN:
            end = end._replace(ends=state.net.point(state.link.name if state.link else None))
        return Journey(
            fate=end.fate,
            notes=tuple(self.notes),
            packet=end.packet or state.packet,
            net=state.net,
            link=state.link,
            ends=end.ends,
            why=end.why,
            culprit=end.culprit,
            talks=tuple(self.talks.values()),
            forks=tuple(self.forks),
            gaps=tuple(self.gaps),
            clamps=tuple(self.clamps),
            mac=self.mac,
            later=self.later,
            draws=tuple(self.draws),
        )

    # -- the five places -----------------------------------------------------------------------------------------

    def _output(self, s: State) -> State | End:
        """Made here: route, source address, the output hook, and the route again when that changed something."""
        net, p = s.net, s.packet
        found = self._look(net, p, None, s.oif, without_source=not p.src)
        if not p.src:
            src = source_address(net, found, found.hops[0] if found.hops else None, p.dst)
            if src is None and found.kind in ("unicast", "local"):
                return End(Fate.NO_ROUTE, "there is no source address to use")
            p = msgspec.structs.replace(p, src=src or "")
            if net.snap.rules and src:
                found = self._look(net, p, None, s.oif)
        refused = self._refused(net, found, None)
        if refused:
            return refused
        self._remember(net, p)
        talk = nat.known(self.memory, net, p) if self.memory else None
        back = nat.inward(talk, p) if talk and p.kind == "request" else None
        out = self._hook(net, "output", p, talk, oif=self._oif(net, found), turned=back)
        ended = self._ended(out, net)
        if ended:
            return ended
        changed = back or (self._translate(net, out.nat, p, None, None, "") if out.nat else p)
        if changed is None:
            return End(Fate.UNKNOWN, "NAT chooses among several addresses")
        changed = self._after_hook(changed, out)
        if (changed.dst, changed.dport, changed.mark) != (p.dst, p.dport, p.mark):
            found = self._look(net, changed, None, s.oif)
            refused = self._refused(net, found, None)
            if refused:
                return refused
        return self._choose("send", s, changed, found)

    def _receive(self, s: State) -> State | End:
        """Taken in by ``link``: prerouting, NAT, route; for us, or to be passed on."""
        net, p, link = s.net, s.packet, s.link
        assert link is not None
        self.notes.append(Enter(at=net.point(link.name), size=p.size))
        self._remember(net, p)
        talk = nat.known(self.memory, net, p) if self.memory else None
        back = nat.inward(talk, p) if talk else None
        out = self._hook(net, "prerouting", p, talk, iif=link, turned=back)
        ended = self._ended(out, net)
        if ended:
            return ended
        if back is not None and out.tracked:
            self._note_nat(net, "reply", p, back)
            p = back
        elif out.nat:
            changed = self._translate(net, out.nat, p, link, None, "")
            if changed is None:
                return End(Fate.UNKNOWN, "NAT chooses among several addresses")
            p = changed
        p = self._after_hook(p, out)
        found = self._look(net, p, link, 0)
        if found.kind in ("local", "broadcast"):
            return self._source_refused(net, link, p) or State("input", net, p, link, found, None, s.gso)
        if found.kind == "unicast" and not self._forwards(net, link, p):
            self._note_route(net, found)
            return End(Fate.FORWARDING_OFF, "this host does not forward", None, self._last())
        refused = self._refused(net, found, link) or self._source_refused(net, link, p)
        return refused or self._choose("forward", s, p, found)

    def _forward(self, s: State) -> State | End:
        """Passed on (ip_forward, ip6_forward): the size is judged first, then the forward hook."""
        net, p = s.net, s.packet
        assert s.found is not None and s.hop is not None
        mtu = route_mtu(net, s.found, s.hop, p.dst, forwarding=True)
        out_link = net.links.get(s.hop.link)
        if mtu is None or out_link is None:
            return End(Fate.UNKNOWN, f"the device of {describe(s.found, net)} is not in the snapshot")
        at, v6 = net.point(out_link.name), p.family == 6
        judge, size = ("ip6_forward", max(mtu.value, SMALLEST_V6)) if v6 else ("ip_forward", mtu.value)
        if v6 and mtu.kind != "l3" and not mtu.locked:  # the device first, the route behind it (see mtu.py)
            device = device_mtu(net, out_link, 6)
            self.notes.append(Bound(device, "l3", at, "icmp", "icmp", net.key, p, out_link.kind, judge))
            judge = "ip6_finish_output"
        may: Fate1 = "icmp" if v6 else "fragment"
        self.notes.append(Bound(size, mtu.kind, at, "icmp", may, net.key, p, out_link.kind, judge))
        talk = nat.known(self.memory, net, p) if self.memory else None
        out = self._hook(net, "forward", p, talk, iif=s.link, oif=out_link, found=s.found)
        ended = self._ended(out, net)
        return ended or State("send", net, self._after_hook(p, out), s.link, s.found, s.hop, s.gso, s.oif)

    def _send(self, s: State) -> State | End:
        """Leaves by a device: own size, postrouting, NAT, neighbour, then layer 2 to the next namespace."""
        net, p, found, hop = s.net, s.packet, s.found, s.hop
        assert found is not None and hop is not None
        link = net.links.get(hop.link)
        if link is None:
            return End(Fate.UNKNOWN, f"the device of {describe(found, net)} is not in the snapshot")
        if found.kind == "local":
            link = net.loopback or link
        near = hop.via or p.dst
        if s.link is None:
            self._own_bound(net, found, hop, link, p)
        talk = nat.known(self.memory, net, p) if self.memory else None
        turned = nat.outward(talk, p) if talk else None
        out = self._hook(net, "postrouting", p, talk, iif=s.link, oif=link, turned=turned, found=found)
        ended = self._ended(out, net)
        if ended:
            return ended
        if turned is not None and out.tracked:
            self._note_nat(net, "reply", p, turned)
            p = turned
        elif out.nat:
            changed = self._translate(net, out.nat, p, s.link, link, near)
            if changed is None:
                return End(Fate.UNKNOWN, f"the address NAT gives on {link.name} is not known")
            p = changed
        p = self._after_hook(p, out)
        self._left(net, p)
        at = net.point(link.name)
        mac, step = self._neighbour(net, link, near, at)
        if step:
            self.notes.append(step)
        self.notes.append(Exit(at=at, size=p.size, mtu=device_mtu(net, link, p.family)))
        self.mac = link.mac
        p = self._cut(net, p) if self.pieces else p
        frame = Frame(p, mac, near, s.gso, link.mac, s.link is None)
        carried = self._beside(net, link, frame, hop)
        if carried is not None:
            step = None  # nobody is asked for the inner packet's next hop
        else:
            carried = emit(self._wire(), net, link, frame)
        got = self._arrived(p, carried, step)
        if step is not None and mac is None and isinstance(got, State) and any(type(x) is Decap for x in carried.notes):
            got = self._answered(link, got, p, step) or got
        return got._replace(packet=p) if isinstance(got, End) else got

    def _cut(self, net: Net, p: Packet) -> Packet:
        """What leaves when the packet of the asked size was too large here (ip_finish_output): one of its pieces. What
        is in pieces already stays so, even where conntrack puts them together (frag_max_size in ip_do_fragment)."""
        mine = [
            x for x in self.notes if isinstance(x, Bound) and x.net == net.key and x.kind in ("l3", "route", "cached")
        ]
        for x in mine:
            p = cut_at(x, p)
        return p

    def _answered(self, link: Link, there: State, p: Packet, asked: Resolve) -> End | None:
        """Does the answer to the question for a MAC address come back (arp_process, ndisc_recv_ns)? Filters of IP see
        it only where a tunnel wraps it: through a tunnel of which one direction is dead nobody is found."""
        assert there.link is not None
        free = Wire(self.network, lambda *_: PASSED, self._tunnel, self.spent)
        answer = msgspec.structs.replace(p, src=p.dst, dst=p.src, size=0, later=False)
        frame = Frame(answer, link.mac, asked.address, False, there.link.mac, True)
        got = emit(free, there.net, there.link, frame)
        if got.kind != "lost":
            return None
        return End(Fate.NEIGH_FAILED, f"the answer of {asked.address} is lost: {got.why}", got.at, got.culprit or asked)

    def _input(self, s: State) -> State | End:
        """Arrives: the input hook is the last that can end it."""
        assert s.link is not None
        talk = nat.known(self.memory, s.net, s.packet) if self.memory else None
        p = s.packet
        if p.piece:  # put together again (ip_local_deliver)
            p = msgspec.structs.replace(p, later=False, piece=0)
        out = self._hook(s.net, "input", p, talk, iif=s.link)
        ended = self._ended(out, s.net)
        if ended:
            return ended
        self._left(s.net, s.packet)
        self.notes.append(Exit(at=s.net.point(s.link.name), size=s.packet.size, local=True))
        return End(Fate.DELIVERED)

    # -- what they ask -------------------------------------------------------------------------------------------

    def _look(self, net: Net, p: Packet, iif: Link | None, oif: int, *, without_source: bool = False) -> Found:
        src = "" if without_source else p.src
        return lookup(net, Query(p.dst, src, iif, oif, p.mark, 0, p.proto, p.sport, p.dport))

    def _choose(self, phase: Literal["forward", "send"], s: State, p: Packet, found: Found) -> State | End:
        """One of several equal ways (fib_select_path): which one is a hash's choice, so the caller tries them all."""
        self._note_route(s.net, found)
        hops = found.hops
        if not hops:
            return End(Fate.NO_ROUTE, f"{describe(found, s.net)}: no way that is up", None, self._last())
        which = 0
        if len(hops) > 1:
            turn = len(self.forks)
            which = self.choices[turn] if turn < len(self.choices) else 0
            self.forks.append(len(hops))
        return State(phase, s.net, p, s.link, found, hops[which], s.gso)

    def _oif(self, net: Net, found: Found) -> Link | None:
        if found.kind == "local":
            return net.loopback
        return net.links.get(found.hops[0].link) if found.hops else None

    def _refused(self, net: Net, found: Found, iif: Link | None) -> End | None:
        """Routes that lead nowhere (fib_props, ip_error)."""
        if found.kind in ("unicast", "local", "broadcast"):
            return None
        if found.kind in ("unknown", "multicast"):
            return End(Fate.UNKNOWN, found.why or "multicast is not modelled")
        self._note_route(net, found)
        if iif is not None and found.kind == "none" and not self._forwards(net, iif, None):
            return End(Fate.FORWARDING_OFF, "this host does not forward", None, self._last())
        fate = Fate.NO_ROUTE if found.kind in ("none", "blackhole") else Fate.UNREACHABLE
        return End(fate, describe(found, net), None, self._last())

    def _source_refused(self, net: Net, link: Link, p: Packet) -> End | None:
        why = accepts_source(net, link, p.src, p.dst, p.mark)
        if why is None:
            return None
        return End(Fate.RP_FILTER, f"{why} on {link.name}", None, Enter(at=net.point(link.name), size=p.size))

    def _forwards(self, net: Net, link: Link, p: Packet | None) -> bool:
        """IN_DEV_FORWARD of the device it came by; IPv6: the switch for all."""
        if p is not None and p.family == 6:
            own = net.per_link("ipv6", link, "force_forwarding")
            return bool(net.sysctl("ipv6.conf.all.forwarding") or own)
        own_v4 = net.snap.sysctls.get(f"ipv4.conf.{link.name}.forwarding")
        return own_v4 != "0" if own_v4 is not None else bool(net.sysctl("ipv4.ip_forward"))

    def _own_bound(self, net: Net, found: Found, hop: NextHop, link: Link, p: Packet) -> None:
        """What this host itself sends (ip_append_data, __ip_queue_xmit): EMSGSIZE with DF, fragments without."""
        mtu = route_mtu(net, found, hop, p.dst, forwarding=False)
        if mtu:
            self.notes.append(
                Bound(
                    mtu.value, mtu.kind, net.point(link.name), "error", "error" if p.family == 6 else "fragment",
                    net.key, p, link.kind, "ip6_append_data" if p.family == 6 else "ip_append_data",
                )
            )  # fmt: skip

    def _beside(self, net: Net, link: Link, frame: Frame, hop: NextHop) -> Carried | None:
        """What takes a packet before the device does: IPsec, or a lightweight tunnel of the route (lwtunnel_xmit)."""
        if hop.encap:
            why = f"the route by {link.name} wraps it into {hop.encap}, and where that comes out is not read"
            return Carried("unknown", at=net.point(link.name), why=why, packet=frame.packet)
        return self._esp(net, link, frame) if net.snap.xfrm_policies else None

    def _neighbour(self, net: Net, link: Link, near: str, at: Point) -> tuple[str | None, Resolve | None]:
        """The MAC address for the next hop; None: not known (it will be asked for), or none is needed."""
        if not link.arp or link.loopback or link.pointopoint:
            return None, None
        entry = net.neighbours.get((link.index, near))
        if entry is None:
            return None, Resolve(at=at, address=near, state="none")
        mac = None if entry.state in UNRESOLVED else entry.mac
        return mac, Resolve(at=at, address=near, mac=entry.mac, state=entry.state)

    def _arrived(self, p: Packet, got: Carried, neighbour: Resolve | None) -> State | End:
        """Layer 2 is done: into the next namespace, or the end."""
        self.notes += got.notes
        self.gaps += got.gaps
        if got.kind == "ip":
            assert got.net is not None
            return State("receive", got.net, got.packet or p, got.link, None, None, got.gso)
        failed = neighbour is not None and neighbour.state == "failed"
        if failed and got.kind != "unknown":
            return End(Fate.NEIGH_FAILED, f"{neighbour.address} does not answer", got.at, neighbour)  # type: ignore[union-attr]
        if got.kind == "lost":
            if got.fate is Fate.UNREACHABLE and neighbour is not None:
                fate = Fate.NEIGH_FAILED if neighbour.mac is None else Fate.UNREACHABLE
                return End(fate, got.why, got.at, got.culprit or neighbour)
            if got.fate is Fate.LINK_DOWN and got.culprit is None and got.at is not None:
                return End(got.fate, got.why, got.at, Exit(at=got.at, size=p.size))
            return End(got.fate, got.why, got.at, got.culprit or self._last())
        return End(Fate.UNKNOWN, got.why, got.at, got.culprit)

    def _note_route(self, net: Net, found: Found) -> None:
        hop = found.hops[0] if found.hops else None
        self.notes.append(
            Lookup(
                at=net.point(), route=describe(found, net), table=found.table, via=hop.via if hop else None,
                mtu=found.route.mtu if found.route else None, choices=len(found.hops) or 1,
            )
        )  # fmt: skip

    # -- tunnels -------------------------------------------------------------------------------------------------

    def _tunnel(self, net: Net, link: Link, frame: Frame, bridged: bool) -> Carried:
        if self.depth >= MAX_NESTED:
            return Carried("unknown", at=net.point(link.name), why="tunnels in tunnels in tunnels")
        if self.spent[0] > MOST_FOLLOWED:
            return Carried("unknown", at=net.point(link.name), why="too many ways that it may go")
        return through(self._steps(), net, link, frame, bridged)

    def _esp(self, net: Net, link: Link, frame: Frame) -> Carried | None:
        return secured(self._steps(), net, link, frame) if self.depth < MAX_NESTED else None

    def _steps(self) -> Steps:
        return Steps(self.network, self._outer, self._outer_told, self._enter, self.pieces)

    def _outer(self, net: Net, outer: Packet, lower: int, pieces: bool = False) -> Journey:
        """The way of an outer packet: a walk of its own, one level deeper."""
        self.spent[0] += OUTER_COSTS
        walk = Walk(self.network, depth=self.depth + 1, spent=self.spent, pieces=self.pieces or pieces)
        way = walk.run(State("output", net, outer, oif=lower))
        self.later = self.later or way.later
        return way

    def _outer_told(self, bound: Bound) -> bool | None:
        return told(self.network, bound, (), self.depth + 1)[0]

    def _enter(self, net: Net, link: Link, frame: Frame) -> Carried:
        return receive(self._wire(), net, link, frame)


_STEPS: dict[str, Callable[[Walk, State], State | End]] = {
    "output": Walk._output,
    "receive": Walk._receive,
    "forward": Walk._forward,
    "send": Walk._send,
    "input": Walk._input,
}


def told(
    network: Network, bound: Bound, memory: nat.Memory, depth: int = 0, home: str = ""
) -> tuple[bool | None, str | None]:
    """Would the "too big" made at ``bound`` reach the sender of the packet? Its way is walked like any packet's.
    ``home``: key of the sender's namespace, "" = not known: a translator that has no such conversation keeps it itself.

    Returns (True, None), (False, what stops it) or (None, where our view ends).
    """
    net = network.nets.get(bound.net)
    if net is None:
        return None, None
    lost = bound.lost
    if bound.inward:
        link = net.links.get(bound.inward)
        if link is None:
            return None, None
        error = too_big(lost.dst, lost)
        way = _thrown_back(network, net, link, error, bound.mac, memory, depth)
    else:
        way = Walk(network, memory=memory, depth=depth).run(State("output", net, too_big("", lost)))
    if way.gaps:  # nobody knows what the wire between two hosts does with it
        return None, way.gaps[0].why
    if way.fate is Fate.DELIVERED:
        astray = home and way.net is not None and way.net.key != home
        return (False, f"it ends in {way.net.snap.where}") if astray and way.net else (True, None)
    if way.fate is Fate.UNKNOWN:
        return None, way.why or None
    return False, _stopped(way)


def _thrown_back(
    network: Network, net: Net, link: Link, error: Packet, mac: str, memory: nat.Memory, depth: int
) -> Journey:
    """A bridged tunnel's own answer comes out of the tunnel device (vxlan_encap_bypass), as if the far end sent it."""
    walk = Walk(network, memory=memory, depth=depth)
    start = State("send", net, error, link)
    got = walk._arrived(error, receive(walk._wire(), net, link, Frame(error, mac or None, error.dst)), None)
    return walk._journey(start, got) if isinstance(got, End) else walk.run(got)


def _stopped(way: Journey) -> str:
    step = way.culprit
    if isinstance(step, Filtered):
        place = f"{step.at.netns}: {step.table} {step.chain}"
        return f"dropped by {place}: {step.rule}" if step.rule else f"dropped by {place}"
    where = f" in {way.net.snap.where}" if way.net else ""
    return f"{way.why or way.fate.value}{where}"
