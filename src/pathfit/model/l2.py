"""Layer 2: from the device a frame leaves by to the namespace whose IP stack takes it.

What bounds a frame here (bytes of IP packet; measured, and as the kernel's code says):

* a veth half or bridge port takes its MTU + 4 (room for a VLAN tag), GSO super-packets of any size
  (is_skb_forwardable in __dev_forward_skb2 < veth_xmit, br_dev_queue_push_xmit), and drops more in silence;
* with bridge-nf-call-iptables a bridge port takes exactly its MTU; without DF it fragments (br_nf_dev_queue_xmit);
* a device that only sends (vlan, macvlan) is bounded by the IP layer above it.

The search follows the destination's MAC address through forwarding tables. Where a bridge does not know it, it floods:
then every port is followed until one leads to the host that owns the MAC, or answers for the address. What is not
visible ends the search with ``unseen``.
"""

from pathfit.core.filters import Hook
from pathfit.core.net import TCP, Point
from pathfit.core.path import Bridged, Fate
from pathfit.core.snapshot import Link
from pathfit.model._policy import Family as PolicyFamily
from pathfit.model._policy import Outcome, Where, hangs, index_of
from pathfit.model.addr import is_link_local
from pathfit.model.frame import MOST_FOLLOWED, RANK, TAG, Carried, Frame, Note, Wire, after, lost
from pathfit.model.join import Landing, across
from pathfit.model.network import AGGREGATES, STACKED, Net
from pathfit.model.packet import Bound, Gap, cut_at, largest_piece
from pathfit.model.tunnels.overhead import resembling

VLAN_ROOM = TAG  # VLAN_HLEN in __is_skb_forwardable
BR_BLOCKING = 4  # BR_STATE_BLOCKING: by the spanning tree; the states before forwarding last a moment only
BR_FORWARDING = 3  # BR_STATE_FORWARDING
BROADCAST = "ff:ff:ff:ff:ff:ff"
MAX_DEPTH = 24  # devices a frame may pass between two IP hops
NO_RECEIVE = frozenset({"dummy", "nlmon", "ifb"})
UNDERSTOOD_ENDS = frozenset({"", "tun"})  # beyond these nothing of ours is visible


def emit(wire: Wire, net: Net, link: Link, frame: Frame) -> Carried:
    """The frame is given to ``link`` (dev_queue_xmit). Never raises."""
    at = net.point(link.name)
    if len(frame.seen) >= MAX_DEPTH:
        return lost(Fate.LOOP, "a frame goes round in circles", at)
    if not link.up:
        return lost(Fate.LINK_DOWN, f"{link.name} is down", at)
    if not link.carrier and link.kind not in ("vxlan", "geneve"):
        other = wire.network.peer(net, link) if link.kind == "veth" else None
        if other is not None and not other[1].up:  # the half to be repaired is the other one
            return _half_down(other[0].point(other[1].name), other[1], link)
        return lost(Fate.LINK_DOWN, f"{link.name} has no carrier", at)
    gso = _still_gso(link, frame.gso)
    if gso is not frame.gso:
        frame = frame._replace(gso=gso)
    if not hangs(net, "egress", frame.packet, "netdev"):
        return _by_kind(wire, net, link, frame, at)
    out = wire.hook(net, "netdev", "egress", frame.packet, Where(oif=link))
    if out.verdict != "accept":
        return _filtered(out, at)
    return after(out.steps, _by_kind(wire, net, link, frame, at))


def _by_kind(wire: Wire, net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    kind = link.kind
    if kind == "veth":
        return _through_veth(wire, net, link, frame, at)
    if kind == "bridge":
        return switch(wire, net, link, None, frame)
    if kind in STACKED:
        return _stacked_out(wire, net, link, frame, at)
    if kind in AGGREGATES:
        return _best([emit(wire, net, p, frame) for p in net.ports.get(link.index, ()) if p.up and p.carrier], at)
    if kind in NO_RECEIVE:
        return lost(Fate.UNREACHABLE, f"{link.name} ({kind}) swallows what is sent to it", at)
    if link.loopback:
        return Carried("ip", net=net, link=link, packet=frame.packet, gso=frame.gso)
    if kind in UNDERSTOOD_ENDS:
        return _outside(wire, net, link, frame, at)
    return wire.tunnel(net, link, frame, bool(link.master))


def _still_gso(link: Link, gso: bool | None) -> bool | None:
    """A device without segmentation offload gets single packets (validate_xmit_skb, netif_needs_gso)."""
    if gso is False or link.loopback:
        return gso
    if link.features is None:
        return None
    return gso if link.features.get("tso", False) else False


def _filtered(out: Outcome, at: Point) -> Carried:
    culprit = out.steps[-1] if out.steps else None
    if out.verdict == "unknown":
        return Carried("unknown", out.steps, at=at, why=out.why, culprit=culprit)
    return Carried("lost", out.steps, at=at, fate=Fate.FILTERED, why=out.why, culprit=culprit)


def _half_down(at: Point, half: Link, link: Link) -> Carried:
    return lost(Fate.LINK_DOWN, f"{half.name}, the other half of {link.name}, is down", at)


def _through_veth(wire: Wire, net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    other = wire.network.peer(net, link)
    if other is None:
        return _beyond(wire, net, link, frame, at, f"the other half of {link.name} is not visible")
    far, half = other
    here = far.point(half.name)
    if not half.up:
        return _half_down(here, half, link)
    bound = Bound(
        half.mtu + VLAN_ROOM - frame.beyond, "receive", here, "silent", "silent", net.key, frame.packet, "veth",
        "__dev_forward_skb2", 0, True, frame.gso,
    )  # fmt: skip
    return after((bound,), receive(wire, far, half, frame))


def receive(wire: Wire, net: Net, link: Link, frame: Frame) -> Carried:
    """The frame comes in by ``link`` (__netif_receive_skb_core): filters, then bridge, stacked devices or IP."""
    at = net.point(link.name)
    if (net.key, link.index) in frame.seen or len(frame.seen) >= MAX_DEPTH:
        return lost(Fate.LOOP, "a frame goes round in circles", at)
    if link.xdp:
        return Carried("unknown", at=at, why=f"an XDP program on {link.name}")
    packet, dmac, want, gso, smac, _, vlan, under, secured, seen = frame  # _replace takes four times as long
    frame = Frame(packet, dmac, want, gso, smac, False, vlan, under, secured, (*seen, (net.key, link.index)))
    if not hangs(net, "ingress", packet, "netdev"):
        return _handed_up(wire, net, link, frame, at)
    out = wire.hook(net, "netdev", "ingress", packet, Where(iif=link))
    if out.verdict != "accept":
        return _filtered(out, at)
    return after(out.steps, _handed_up(wire, net, link, frame, at))


def _handed_up(wire: Wire, net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    master = net.links.get(link.master) if link.master else None
    uppers = wire.network.stacked_on(net, link)
    if uppers:
        found = _to_stacked(wire, uppers, frame)
        if found:
            return found
    if frame.secured and not (master and master.kind == "bridge"):
        return lost(Fate.UNREACHABLE, f"{link.name} has no MACsec", at)
    if frame.vlan is not None and not (master and master.kind == "bridge"):
        return lost(Fate.UNREACHABLE, f"{link.name} has no VLAN {frame.vlan}", at)
    if master and master.kind == "bridge":
        return switch(wire, net, master, link, frame)
    if master and master.kind in AGGREGATES:
        return receive(wire, net, master, frame)
    if master:
        return Carried("unknown", at=at, why=f"{link.name} belongs to {master.name} ({master.kind or 'unknown kind'})")
    return _to_ip(net, link, frame, at)


def _to_ip(net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    """Does this host take the frame (eth_type_trans, PACKET_OTHERHOST in ip_rcv_core)?"""
    if not link.up:
        return lost(Fate.LINK_DOWN, f"{link.name} is down", at)
    if frame.dmac is not None and frame.dmac != BROADCAST:
        mine = not link.mac or frame.dmac == link.mac
    else:
        mine = answers(net, link, frame.want)
    if mine:
        return Carried("ip", (), net, link, None, Fate.UNKNOWN, "", frame.packet, frame.gso)
    return lost(Fate.UNREACHABLE, f"{link.name} is not the one addressed", at)


def answers(net: Net, link: Link, address: str) -> bool:
    """Would this namespace answer an ARP request or a neighbour solicitation for ``address`` on ``link``?

    IPv4 answers for every address of the host (arp_process: RTN_LOCAL) unless arp_ignore says otherwise; IPv6 for
    those of the link (ndisc_recv_ns). Proxies answer for what they route elsewhere.
    """
    if not link.arp:
        return True
    held = net.addresses.get(address, ())
    for x in held:
        if x.link == link.index:
            return True
    if held and ":" not in address and not _arp_ignore(net, link):
        return True
    if (link.index, address) in net.proxies:
        return True
    return (
        ":" not in address
        and not is_link_local(address)
        and bool(net.sysctl("ipv4.conf.all.proxy_arp") or net.per_link("ipv4", link, "proxy_arp"))
    )


def _arp_ignore(net: Net, link: Link) -> int:
    return max(net.sysctl("ipv4.conf.all.arp_ignore"), net.per_link("ipv4", link, "arp_ignore"))


def switch(wire: Wire, net: Net, bridge: Link, came: Link | None, frame: Frame) -> Carried:
    """A bridge passes the frame on (br_handle_frame_finish; br_dev_xmit when the host itself sends)."""
    at = net.point(bridge.name)
    if not bridge.up:
        return lost(Fate.LINK_DOWN, f"{bridge.name} is down", at)
    notes: tuple[Note, ...] = ()
    if came is not None:
        port = came.bridge_port
        if port and port.state != BR_FORWARDING:
            return _not_forwarding(came, port.state, net.point(came.name))
        out = wire.hook(net, "bridge", "prerouting", frame.packet, Where(iif=bridge, bridge_in=came))
        if out.verdict != "accept":
            return _filtered(out, net.point(came.name))
        notes = out.steps
    if bridge.vlan_filtering and _mixed_vlans(net, bridge):
        return Carried("unknown", notes, at=at, why=f"{bridge.name} filters VLANs")
    if came is not None and _is_own(net, bridge, frame):
        up = wire.hook(net, "bridge", "input", frame.packet, Where(iif=bridge, bridge_in=came))
        if up.verdict == "accept":  # it comes in once more, by the bridge (br_pass_frame_up)
            up = wire.hook(net, "netdev", "ingress", frame.packet, Where(iif=bridge))
        if up.verdict != "accept":
            return _filtered(up, at)
        return after(notes, Carried("ip", net=net, link=bridge, packet=frame.packet, gso=frame.gso))
    known = net.switched.get((bridge.index, frame.dmac)) if frame.dmac else None
    port_link = net.links.get(known.link) if known else None
    if port_link and port_link.index != bridge.index and port_link.master == bridge.index:
        if came is not None and came.index == port_link.index and not (came.bridge_port and came.bridge_port.hairpin):
            return lost(Fate.UNREACHABLE, f"{bridge.name} would send it back by {came.name}", at)
        return after(notes, _out_by_port(wire, net, bridge, came, port_link, frame, flooded=False))
    return after(notes, _flood(wire, net, bridge, came, frame, at))


def _not_forwarding(port: Link, state: int, at: Point) -> Carried:
    if state == BR_BLOCKING or not (port.up and port.carrier):
        return lost(Fate.LINK_DOWN, f"bridge port {port.name} is not forwarding", at)
    return Carried("unknown", at=at, why=f"bridge port {port.name} is about to forward")


def _mixed_vlans(net: Net, bridge: Link) -> bool:
    """VLAN filtering changes nothing when every port carries the same single VLAN untagged."""
    ports = [p.bridge_port for p in net.ports.get(bridge.index, ()) if p.bridge_port]
    return len({(p.pvid, p.vlans) for p in ports}) > 1


def _is_own(net: Net, bridge: Link, frame: Frame) -> bool:
    """Is the frame for the bridge's host itself?"""
    if frame.dmac is not None and frame.dmac != BROADCAST:
        if frame.dmac == bridge.mac:
            return True
        known = net.switched.get((bridge.index, frame.dmac))
        return bool(known and known.state == "permanent" and _is_mac_of_port(net, bridge, frame.dmac))
    return bool(net.on_link.get(bridge.index)) and answers(net, bridge, frame.want)


def _is_mac_of_port(net: Net, bridge: Link, mac: str) -> bool:
    return any(p.mac == mac for p in net.ports.get(bridge.index, ()))


def _flood(wire: Wire, net: Net, bridge: Link, came: Link | None, frame: Frame, at: Point) -> Carried:
    """Unknown MAC: every port (br_flood). The first way that leads to the addressee is the packet's."""
    tried: list[Carried] = []
    for port in wire.network.ports_towards(net, bridge, frame.want):
        if came is not None and port.index == came.index and not (port.bridge_port and port.bridge_port.hairpin):
            continue
        if port.bridge_port and not port.bridge_port.flood and frame.dmac is not None:
            continue
        if not port.up or not port.carrier:
            continue
        wire.spent[0] += 1
        if wire.spent[0] > MOST_FOLLOWED:
            return Carried("unknown", at=at, why="too many ways that a flooded frame may go")
        found = _out_by_port(wire, net, bridge, came, port, frame, flooded=True)
        if found.kind == "ip":
            return found
        tried.append(found)
    return _best(tried, at)


def _best(tried: list[Carried], at: Point) -> Carried:
    """The most telling of several ways: one that arrives, else one that leaves our view, else unknown, else lost."""
    if not tried:
        return lost(Fate.UNREACHABLE, "no device there leads on", at)
    best = min(tried, key=lambda c: RANK[c.kind])
    if best.kind == "lost" and len({c.fate for c in tried}) > 1:
        told = [c for c in tried if c.fate is not Fate.UNREACHABLE]
        return told[0] if len(told) == 1 else lost(Fate.UNREACHABLE, "nobody there is the one addressed", at)
    return best


def _bridge_nf(net: Net, bridge: Link, family: int) -> bool:
    """Do bridged packets pass iptables here (br_nf_pre_routing)?"""
    name = "bridge.bridge-nf-call-iptables" if family == 4 else "bridge.bridge-nf-call-ip6tables"
    return bool(net.sysctl(name)) or (family == 4 and bridge.nf_call_iptables)


def _out_by_port(
    wire: Wire, net: Net, bridge: Link, came: Link | None, port: Link, frame: Frame, *, flooded: bool
) -> Carried:
    """One port of a bridge (br_forward, __br_forward, br_dev_queue_push_xmit)."""
    at = net.point(port.name)
    state = port.bridge_port
    if state and state.state != BR_FORWARDING:
        return _not_forwarding(port, state.state, at)
    if state and state.isolated and came and came.bridge_port and came.bridge_port.isolated:
        return lost(Fate.UNREACHABLE, f"bridge ports {came.name} and {port.name} are isolated from each other", at)
    steps: list[Note] = [Bridged(at=net.point(bridge.name), out=port.name, flooded=flooded)]
    filtered_by_ip = came is not None and _bridge_nf(net, bridge, frame.packet.family)
    where = Where(iif=bridge, oif=bridge, bridge_in=came, bridge_out=port)
    hooks: list[tuple[PolicyFamily, Hook]] = [("bridge", "postrouting")]
    if came is not None:
        hooks = [("bridge", "forward"), *hooks]
    if filtered_by_ip:
        hooks = [("ip", "prerouting"), ("ip", "forward"), *hooks, ("ip", "postrouting")]
    for family, hook in hooks:
        out = wire.hook(net, family, hook, frame.packet, where)
        steps += out.steps
        if out.nat is not None:
            return Carried("unknown", tuple(steps), at=at, why=f"NAT of bridged packets on {bridge.name}")
        if out.verdict != "accept":
            return _filtered(out._replace(steps=()), at)._replace(
                notes=tuple(steps), culprit=out.steps[-1] if out.steps else None
            )
    bound = _port_bound(net, bridge, port, frame, at, filtered_by_ip)
    if wire.pieces:
        frame = frame._replace(packet=cut_at(bound, frame.packet))
    return after((*steps, bound), emit(wire, net, port, frame))


def _port_bound(net: Net, bridge: Link, port: Link, frame: Frame, at: Point, by_iptables: bool) -> Bound:
    """What a port takes. With bridge-nf, what is over its MTU is dropped with DF, else cut to the *bridge's*, whose dst
    it has (br_nf_ip_fragment); pieces larger than that, put together by conntrack, are lost (frag_max_size)."""
    mtu, function, piece = port.mtu + VLAN_ROOM - frame.beyond, "br_dev_queue_push_xmit", 0
    joins = bridge.mtu if by_iptables and net.filtered and index_of(net).tracks[frame.packet.family] else 0
    if by_iptables and (frame.packet.df or frame.packet.family == 6):
        mtu, function = port.mtu, "br_nf_dev_queue_xmit"
    elif by_iptables and bridge.mtu <= mtu:
        mtu, function, piece = max(port.mtu, bridge.mtu), "br_nf_dev_queue_xmit", largest_piece(bridge.mtu)
    return Bound(
        mtu, "l2", at, "silent", "fragment" if piece else "silent", net.key, frame.packet, "bridge",
        function, 0, True, frame.gso, piece=piece, joins=joins,
    )  # fmt: skip


def _stacked_out(wire: Wire, net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    """vlan, macvlan, ipvlan: to a sibling on the same lower device, or out by it."""
    lower = wire.network.peer(net, link)
    if lower is None:
        return Carried("unseen", at=at, why=f"the device below {link.name} is not visible", packet=frame.packet)
    below, device = lower
    if link.kind == "vlan":
        tag = link.info.get("vlan_id", link.info.get("id"))
        if not isinstance(tag, int):
            return Carried("unknown", at=at, why=f"the VLAN of {link.name} is not known")
        under = frame.under if frame.vlan is None else (frame.vlan, *frame.under)
        return emit(wire, below, device, frame._replace(vlan=tag, under=under))
    if link.kind == "macsec":
        if frame.secured or frame.tags:
            return Carried("unknown", at=at, why=f"what {link.name} secures is tagged or secured already")
        return emit(wire, below, device, frame._replace(secured=macsec(link)))
    siblings = [
        x for x in wire.network.stacked_on(below, device) if x[1] is not link and x[1].kind[:5] == link.kind[:5]
    ]
    mode = link.info.get("mode", "")
    if mode in ("", "bridge", 4, "l2", 0):
        for far, sibling in siblings:
            if sibling.up and _is_addressee(far, sibling, frame):
                return after((_sibling_bound(net, below, device, frame),), receive(wire, far, sibling, frame))
    elif mode != "vepa" and link.kind.startswith("ip"):
        return Carried("unknown", at=at, why=f"{link.kind} mode {mode}")
    return emit(wire, below, device, frame)


def macsec(link: Link) -> int:
    """Bytes MACsec adds to each frame: SecTAG with its EtherType, with the SCI or not, and the check value
    (macsec_extra_len, icv_len)."""
    if not link.info.get("protect", True):
        return 0
    value = link.info.get("icv", 16)
    return (16 if link.info.get("send_sci", True) else 8) + (value if isinstance(value, int) else 16)


def _sibling_bound(net: Net, below: Net, device: Link, frame: Frame) -> Bound:
    """macvlan_queue_xmit and ipvlan hand a frame to a sibling through the lower device's receive check."""
    return Bound(
        device.mtu + VLAN_ROOM - frame.beyond, "receive", below.point(device.name), "silent", "silent", net.key,
        frame.packet, "macvlan", "dev_forward_skb", 0, True, frame.gso,
    )  # fmt: skip


def _is_addressee(net: Net, link: Link, frame: Frame) -> bool:
    if link.kind.startswith("ip"):  # ipvlan devices share one MAC: the address decides (ipvlan_addr_lookup)
        return any(x.address == frame.want for x in net.on_link.get(link.index, ()))
    if frame.dmac is not None and frame.dmac != BROADCAST:
        return bool(link.mac) and link.mac == frame.dmac
    return answers(net, link, frame.want)


def _to_stacked(wire: Wire, uppers: tuple[tuple[Net, Link], ...], frame: Frame) -> Carried | None:
    """The device on top that takes a frame coming in (vlan_do_receive, macvlan_handle_frame)."""
    for far, upper in uppers:
        if not upper.up:
            continue
        if upper.kind == "vlan":
            if frame.vlan is not None and upper.info.get("vlan_id", upper.info.get("id")) == frame.vlan:
                rest = frame.under[:1]
                return receive(wire, far, upper, frame._replace(vlan=rest[0] if rest else None, under=frame.under[1:]))
        elif upper.kind == "macsec":
            if frame.secured:
                at = far.point(upper.name)
                found = receive(wire, far, upper, frame._replace(secured=0))
                return found._replace(gaps=(Gap(f"the MACsec keys of {upper.name} are not read", at), *found.gaps))
        elif frame.vlan is None and _is_addressee(far, upper, frame):
            return receive(wire, far, upper, frame)
    return None


def _outside(wire: Wire, net: Net, link: Link, frame: Frame, at: Point) -> Carried:
    """A physical device or a tun/tap.

    A virtual machine's cable loses nothing by size: a tap gives the host what it is written (tun_get_user), and what
    may leave by it was bounded above.
    """
    plugged = wire.network.plug(net, link) if len(wire.network.hosts) > 1 else None
    if plugged is not None:
        far, end = plugged
        return receive(wire, far, end, frame) if end.up else _half_down(far.point(end.name), end, link)
    who = f" (held by {link.holder})" if link.holder else ""
    why = f"what lies beyond {link.name}{who} is not visible{resembling(link.holder or '')}"
    if link.kind:
        return Carried("unseen", at=at, why=why, packet=frame.packet)
    return _beyond(wire, net, link, frame, at, why)


def _beyond(wire: Wire, net: Net, link: Link, frame: Frame, at: Point, why: str) -> Carried:
    """Another host of ours may be at the other end, else our view ends here."""
    if len(wire.network.hosts) > 1:
        landed = across(wire.network, net, link, frame.packet, frame.dmac, frame.want)
        if not isinstance(landed, str):
            return _over_the_wire(wire, net, landed, frame, at)
        why += f" ({landed})" if landed else ""
    return Carried("unseen", at=at, why=why, packet=frame.packet)


def _over_the_wire(wire: Wire, net: Net, landed: Landing, frame: Frame, at: Point) -> Carried:
    """In at the other host. Single packets travel there; the receiver may put them together again (GRO)."""
    far, door = landed.net, landed.link
    gap = Gap(f"the network between {net.host} and {far.host} is not visible", at)
    joins = door.features is None or door.features.get("gro", True)
    frame = frame._replace(
        dmac=landed.mac, gso=None if frame.packet.proto == TCP and joins else False, vlan=None, under=()
    )
    found = receive(wire, far, door, frame)
    if found.kind == "lost" and found.fate is Fate.UNREACHABLE and found.culprit is None:
        return Carried("unseen", at=at, why=f"{gap.why}, and {far.host} would not take it: {found.why}",
                       packet=frame.packet)  # fmt: skip
    return found._replace(gaps=(gap, *found.gaps))
