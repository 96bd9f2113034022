"""Packets inside packets: the way of the outer one, and what happens to those that no longer fit.

What is put around a packet stands in :mod:`~pathfit.model.tunnels.outers`, what it costs in
:mod:`~pathfit.model.tunnels.overhead`. The way of the outer packet is predicted like any other, tunnels in it included,
and what bounds it there bounds the inner packet, less the overhead.

Too big at the tunnel's own end (its route, or a path MTU it has learned, is smaller than the outer packet):

* VXLAN, Geneve (skb_tunnel_check_pmtu) as a *bridge port*, inner packet with DF (or IPv6): the kernel answers "too big"
  in the name of the destination and throws it back (iptunnel_pmtud_check_icmp), whatever the device's ``df``. Made on
  this host: the path MTU of the inner route is learned, the next send fails (EMSGSIZE). Forwarded: the same is learned,
  which IPv6 heeds from the second packet on (ip6_finish_output: "too big") and IPv4 does not (ip_forward): its outer
  packets are fragmented (IPv4, outer DF unset) or lost in silence, all of them;
* GRE, IPIP, SIT, IP6TNL tell the inner sender (tnl_update_pmtu, ipip6_tunnel_xmit, ip6_tnl_xmit), except where outer DF
  is unset (fragments), or the frame was bridged (icmp_send needs a route that a bridged frame does not have: silent);
* in all of these the route of what this host itself sends learns it, with DF or without: the next packets without DF
  are cut before they go in;
* ERSPAN over IPv6 tells, and teaches, a size that is too large by its own header: whoever heeds it stays unheard
  (ip6erspan_tunnel_xmit; seen on 6.1 and 6.12);
* IPsec (xfrm_state_mtu) is a smaller MTU of the route: EMSGSIZE, or "too big" to the inner sender;
* WireGuard, L2TP: the outer packet is fragmented where it is made, of IPv6 too (ignore_df), and nobody is told.

On the way: an outer packet without DF is fragmented by routers; with DF it is lost and the router tells the tunnel's
end, which from then on behaves as if its own route were that small.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from pathfit.core.net import Point
from pathfit.core.path import Decap, Encap, Fate, Step
from pathfit.core.snapshot import Link
from pathfit.model.frame import Carried, Frame, Note
from pathfit.model.network import Net, Network
from pathfit.model.packet import Bound, Fate1, Gap, Packet, cut, largest_piece
from pathfit.model.tunnels.exits import exits
from pathfit.model.tunnels.outers import TELLS, Lost, Outer, around, esp, outers

SMALLEST_TOLD = {4: 576, 6: 1280}  # iptunnel_pmtud_check_icmp, _icmpv6: below that nothing is said
LOCAL_PIECES = frozenset({"wireguard", "l2tp", "l2tp-ip"})  # they fragment their own outer packets, of IPv6 as well


class Journey(Protocol):
    """What the walk of an outer packet gives back (walk.py)."""

    @property
    def fate(self) -> Fate: ...
    @property
    def notes(self) -> tuple[Note, ...]: ...
    @property
    def net(self) -> Net | None: ...
    @property
    def link(self) -> Link | None: ...
    @property
    def ends(self) -> Point | None: ...
    @property
    def why(self) -> str: ...
    @property
    def culprit(self) -> Step | None: ...
    @property
    def packet(self) -> Packet: ...
    @property
    def gaps(self) -> tuple[Gap, ...]: ...


class Steps(NamedTuple):
    """The walk, as a tunnel needs it: walk an outer packet (cut where it is too large?); would its "too big" come home?
    ``pieces``: what is too large is to be cut in any walk."""

    network: Network
    walk: Callable[[Net, Packet, int, bool], "Journey"]
    told: Callable[[Bound], bool | None]
    enter: Callable[[Net, Link, Frame], Carried]
    pieces: bool


class Entry(NamedTuple):
    """Where a packet goes into a tunnel: ``base`` sends the outer packets of the device that ``net`` has."""

    base: Net
    net: Net
    frame: Frame
    bridged: bool
    outer: Outer


def through(steps: Steps, net: Net, link: Link, frame: Frame, bridged: bool) -> Carried:
    """The frame is given to a tunnel device of ``net``; where does what it carries come out?"""
    at = net.point(link.name)
    made = outers(net, link, frame)
    if isinstance(made, str):
        return Carried("unknown", at=at, why=made, packet=frame.packet)
    if isinstance(made, Lost):
        return Carried("lost", at=at, fate=Fate.UNREACHABLE, why=made.why)
    base = steps.network.home(net, link)
    if base is None:
        return Carried("unseen", at=at, why=f"the namespace {link.name} sends from is not visible", packet=frame.packet)
    tried = [_one(steps, Entry(base, net, frame, bridged, x)) for x in made]
    if not tried:
        return Carried("lost", at=at, fate=Fate.UNREACHABLE, why=f"{link.name} knows no remote end for it")
    order = {"ip": 0, "unseen": 1, "unknown": 2, "lost": 3}
    return min(tried, key=lambda c: order[c.kind])


def secured(steps: Steps, net: Net, link: Link, frame: Frame) -> Carried | None:
    """IPsec takes a packet that ``net`` sends by whatever ``link`` (xfrm4_output); None: no policy does."""
    if frame.packet.secured or not net.snap.xfrm_policies:
        return None
    made = esp(net, frame, link)
    if made is None:
        return None
    if isinstance(made, str):
        return Carried("unknown", at=net.point(link.name), why=made, packet=frame.packet)
    return _one(steps, Entry(net, net, frame, False, made))


def _one(steps: Steps, entry: Entry) -> Carried:
    """One outer packet: its way, what bounds it, and what comes out at the other end."""
    outer, frame = entry.outer, entry.frame
    name = outer.device.name
    at = entry.net.point(name)
    way = steps.walk(entry.base, outer.packet, outer.lower, False)
    notes: list[Note] = [
        Encap(at=at, kind=outer.kind, overhead=outer.overhead, outer=way.packet.flow(), df=outer.packet.df)
    ]
    lossy = _fragments_lost(steps, entry, [x for x in way.notes if isinstance(x, Bound)])
    notes += [_inner(steps, entry, x, lossy) if isinstance(x, Bound) else x for x in way.notes]
    if steps.pieces and (learned := _learned(notes, frame.packet)):
        piece = cut(frame.packet, learned)
        return _one(steps, entry._replace(frame=frame._replace(packet=piece), outer=around(outer, piece)))
    done = tuple(notes)
    if way.fate is Fate.UNKNOWN:
        gone = Carried("unseen" if way.ends else "unknown", done, at=way.ends or at, why=way.why)
        return gone._replace(packet=frame.packet, culprit=way.culprit, gaps=way.gaps)
    if way.fate is not Fate.DELIVERED or way.net is None:
        why = f"the outer packet of {name}: {way.why or way.fate.value}"
        if outer.kind == "wireguard":  # netlink does not say in which namespace it was made and sends (creating_net)
            return Carried("unknown", done, at=at, why=f"{why}; {name} may send by another namespace", gaps=way.gaps)
        return Carried("lost", done, at=at, fate=way.fate, why=why, culprit=way.culprit, gaps=way.gaps)
    rest = _out_of(steps, way, way.net, outer, frame, done)
    return rest._replace(gaps=(*way.gaps, *rest.gaps)) if way.gaps else rest


def _learned(notes: list[Note], p: Packet) -> int:
    """The path MTU that its sender learns here, so that the next ones are cut before they go in; 0 = it learns none."""
    taught = [x.mtu for x in notes if isinstance(x, Bound) and x.teaches and x.then(p) == "fragment"]
    return min([x for x in taught if x < (p.piece or p.size)], default=0)


def _out_of(steps: Steps, way: Journey, far: Net, outer: Outer, frame: Frame, done: tuple[Note, ...]) -> Carried:
    """The far end takes the inner packet out (vxlan_rcv, ip_tunnel_rcv, wg_packet_consume_data_done)."""
    found = exits(steps.network, far, outer, way.packet, frame.packet, way.link)
    if isinstance(found, str):
        return Carried("unknown", done, at=far.point(), why=found, packet=frame.packet)
    up = [x for x in found if x[1].up]
    if not up:
        why = f"no {outer.kind} device takes it there" + (f" (VNI {outer.vni})" if outer.vni else "")
        return Carried("lost", done, at=far.point(), fate=Fate.UNREACHABLE, why=why)
    there, device = up[0]
    out = Decap(at=there.point(device.name), kind=outer.kind)
    if outer.state is not None:  # a packet without a frame: for whoever has taken it out
        frame = frame._replace(dmac=device.mac or None, seen=())
    rest = steps.enter(there, device, frame._replace(gso=frame.gso and None))
    return rest._replace(notes=(*done, out, *rest.notes))


def _fragments_lost(steps: Steps, entry: Entry, bounds: list[Bound]) -> Journey | None:
    """When the outer packet of the asked size gets fragmented: the walk of a fragment, if it is lost."""
    outer = entry.outer
    local = outer.layer.kind in LOCAL_PIECES
    small = any(b.mtu < outer.packet.size and (b.then(outer.packet) == "fragment" or local) for b in bounds)
    if not small or (outer.packet.family == 6 and not local):
        return None
    made = msgspec.structs.replace(outer.packet, later=True) if local else outer.packet
    way = steps.walk(entry.base, made, outer.lower, True)
    return way if way.fate not in (Fate.DELIVERED, Fate.UNKNOWN) else None


def _inner(steps: Steps, entry: Entry, b: Bound, lossy: Journey | None) -> Bound:
    """What a bound of the outer packet is for the inner one."""
    outer = entry.outer
    mtu = outer.inner_mtu(b.mtu)
    own = b.net == entry.base.key and not b.inward and b.kind in ("l3", "route", "cached")
    then = b.then(outer.packet)
    if then in ("icmp", "error") and not own:
        then = "error" if steps.told(b) else "silent"
    heeded = own or then == "error" or b.teaches  # the tunnel's end knows that its outer packets are too big
    pieces = then == "fragment" or (heeded and outer.layer.kind in LOCAL_PIECES)
    outside: Fate1 = "fragment" if pieces else "silent"
    why = None
    if outside == "fragment" and lossy is not None:
        outside = "silent"
        why = f"outer fragments: {lossy.why or lossy.fate.value}"
    teaches = heeded and _teaches(entry)
    dont = _told_here(mtu, entry, outside) if heeded else outside
    may: Fate1 = dont if heeded and _tells_all(outer) else outside
    if teaches and entry.frame.packet.family == 4:
        may, why = "fragment", None  # the next ones are cut before they go in
    thrown_back = dont == "icmp" and entry.bridged and outer.layer.kind not in TELLS
    back = (outer.device.index, entry.frame.smac) if thrown_back else (0, "")
    return Bound(
        mtu, "tunnel", entry.net.point(outer.device.name) if own else b.at, dont, may, entry.net.key,
        entry.frame.packet, outer.kind, _decider(outer, dont) if own else b.function, b.overhead + outer.overhead,
        inward=back[0], mac=back[1], teaches=teaches, untold=None if may == "fragment" else why,
        piece=outer.inner_mtu(b.piece or largest_piece(b.mtu, outer.packet.family)) if pieces else 0,
        joins=outer.inner_mtu(b.joins) if b.joins else 0,
    )  # fmt: skip


def _teaches(entry: Entry) -> bool:
    """Does what is made on this host learn the path MTU (skb_dst_update_pmtu_no_confirm), whether it has DF or not?"""
    outer = entry.outer
    if not entry.frame.local or outer.tags or outer.layer.kind in LOCAL_PIECES or outer.kind == "ip6erspan":
        return False
    return outer.layer.kind not in TELLS or outer.layer.family == 6 or outer.packet.df


def _tells_all(outer: Outer) -> bool:
    """ip6_tnl_xmit refuses what is too big whether it has DF or not, and says so."""
    return outer.layer.kind in TELLS and outer.layer.family == 6 and outer.kind != "ip6erspan"


def _decider(outer: Outer, then: str) -> str:
    row = outer.layer.kind
    if row in TELLS:
        if outer.layer.family == 6:
            return "ip6_tnl_xmit"
        return "ipip6_tunnel_xmit" if row == "sit" else "tnl_update_pmtu"
    if outer.state is not None:
        return "xfrmi_xmit2" if outer.state.if_id else "xfrm_state_mtu"
    if row in LOCAL_PIECES:
        return "ip6_fragment" if outer.packet.family == 6 else "ip_do_fragment"
    return "iptunnel_pmtud_check_icmp" if then == "icmp" else "skb_tunnel_check_pmtu"


def _told_here(mtu: int, entry: Entry, outside: Fate1) -> Fate1:
    """What the tunnel's end does with an inner DF packet its (known) outer path MTU does not carry.

    ``outside``: what happens when it does nothing of its own, fragments or silence.
    """
    outer, frame = entry.outer, entry.frame
    row, family = outer.layer.kind, frame.packet.family
    if row in LOCAL_PIECES or outer.tags:  # a VLAN tag is none of the bytes skb_tunnel_check_pmtu counts
        return outside
    if row in TELLS:
        if outer.layer.family == 4 and not outer.packet.df:
            return outside
        if family == 6 and outer.layer.family == 4 and mtu < SMALLEST_TOLD[6]:
            return outside
        if outer.kind == "ip6erspan":
            return "silent"
        if frame.local:
            return "error"
        return "silent" if entry.bridged and family == 4 else "icmp"
    if frame.local:
        return "error"
    if outer.state is not None:
        return "icmp"
    if entry.bridged:
        return "icmp" if mtu >= SMALLEST_TOLD[family] else outside
    return "icmp" if family == 6 and mtu >= SMALLEST_TOLD[6] else outside


__all__ = ["Entry", "Journey", "Steps", "secured", "through"]
