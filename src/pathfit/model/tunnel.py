"""Packets inside packets: what they cost, and what happens to those that no longer fit.

:data:`OVERHEAD` is the one table of sizes (bytes between the inner IP packet and the outer one, outer header included;
measured on kernels 5.10 to 7.2). The way of the outer packet is predicted like any other, and what bounds it there
bounds the inner packet, less the overhead.

Too big at the tunnel's own end (dst_mtu of the outer route, skb_tunnel_check_pmtu):

* VXLAN or Geneve as a *bridge port*, inner packet with DF (or IPv6): the kernel answers "too big" in the name of the
  destination and throws it back (iptunnel_pmtud_check_icmp), whatever the device's ``df``;
* otherwise, made on this host: the path MTU of the inner route is learned, the next send fails (EMSGSIZE);
* otherwise, forwarded: the outer packet is fragmented (IPv4, outer DF unset) or lost in silence;
* GRE, IPIP, SIT tell the inner sender (tnl_update_pmtu: ICMP 3/4, or packet too big).

On the way: an outer packet without DF is fragmented by routers; with DF it is lost and the router tells the tunnel's
end, which from then on behaves as if its own route were that small.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from pathfit.core.net import UDP, Family, Point
from pathfit.core.path import Decap, Encap, Fate, Step
from pathfit.core.snapshot import FdbEntry, Link, Vxlan
from pathfit.model.addr import family_of, is_multicast
from pathfit.model.l2 import Carried, Frame, Gap, Note
from pathfit.model.network import Net, Network
from pathfit.model.packet import Bound, Fate1, Packet

ZERO_MAC = "00:00:00:00:00:00"
SMALLEST_TOLD = {4: 576, 6: 1280}  # iptunnel_pmtud_check_icmp, _icmpv6: below that nothing is said
OUTER_SPORT = 49152  # somewhere in the range of udp_flow_src_port; filters rarely look at it

OVERHEAD: dict[str, dict[Family, int]] = {
    "vxlan": {4: 50, 6: 70},  # IP, UDP 8, VXLAN 8, inner Ethernet 14
    "geneve": {4: 50, 6: 70},  # without options
    "gre": {4: 24},
    "ip6gre": {6: 52},  # with the tunnel encapsulation limit option (8); encaplimit none: 44
    "gretap": {4: 38},
    "ip6gretap": {6: 66},
    "erspan": {4: 50},
    "ipip": {4: 20},
    "sit": {4: 20},
    "ip6tnl": {6: 48},  # with the encapsulation limit option
    "wireguard": {4: 60, 6: 80},  # data is padded to 16 bytes, see padded()
    "l2tp": {4: 54, 6: 74},
    "macsec": {4: 32, 6: 32},
}
PROTOCOL = {"gre": 47, "gretap": 47, "ip6gre": 47, "ip6gretap": 47, "erspan": 47, "ipip": 4, "sit": 41, "ip6tnl": 41}
TELLS = frozenset({"gre", "gretap", "ipip", "sit", "ip6tnl", "ip6gre", "ip6gretap", "erspan"})


class Journey(Protocol):
    """What the walk of an outer packet gives back (walk.py)."""

    @property
    def fate(self) -> Fate: ...
    @property
    def notes(self) -> tuple[Note, ...]: ...
    @property
    def net(self) -> Net | None: ...
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
    """The walk, as a tunnel needs it: walk an outer packet; would its "too big" come home?"""

    network: Network
    walk: Callable[[Net, Packet, int], "Journey"]
    told: Callable[[Bound], bool | None]
    enter: Callable[[Net, Link, Frame], Carried]


class Outer(NamedTuple):
    """What is put around the inner packet."""

    kind: str
    overhead: int
    packet: Packet
    lower: int
    port: int
    vni: int
    tells_inner: bool
    device: Link


def overhead(link: Link, outer: Family) -> int | None:
    """Bytes a tunnel device takes of each packet with an outer header of family ``outer``; None: not known."""
    base = OVERHEAD.get(link.kind, {}).get(outer)
    if base is None:
        return None
    extra = 0
    if "gre" in link.kind:
        extra = 4 * sum(bool(link.info.get(x)) for x in ("okey", "ocsum", "oseq"))
    if link.info.get("encap_limit") == "none":
        extra -= 8
    extra += {"fou": 8, "gue": 12}.get(str(link.info.get("encap", "")), 0)
    return base + extra


def through(steps: Steps, net: Net, link: Link, frame: Frame, bridged: bool) -> Carried:
    """The frame is given to a tunnel device of ``net``; where does what it carries come out?"""
    at = net.point(link.name)
    base = steps.network.home(net, link)
    if base is None:
        return Carried("unseen", at=at, why=f"the namespace {link.name} sends from is not visible", packet=frame.packet)
    outers = _outers(net, link, frame)
    if isinstance(outers, str):
        return Carried("unknown", at=at, why=outers, packet=frame.packet)
    tried = [_one(steps, base, net, link, frame, bridged, x) for x in outers]
    if not tried:
        return Carried("lost", at=at, fate=Fate.UNREACHABLE, why=f"{link.name} knows no remote end for it")
    order = {"ip": 0, "unseen": 1, "unknown": 2, "lost": 3}
    return min(tried, key=lambda c: order[c.kind])


def _outers(net: Net, link: Link, frame: Frame) -> list[Outer] | str:
    """The outer packets a frame becomes (one for each remote end it is sent to), or what is not understood."""
    if link.vxlan:
        return _vxlan_outers(net, link, link.vxlan, frame)
    remote = str(link.info.get("remote", ""))
    if link.kind not in OVERHEAD:
        return f"devices of kind {link.kind} are not modelled"
    if not remote:
        return f"the remote end of {link.name} ({link.kind}) is not known"
    family = family_of(remote)
    extra = overhead(link, family)
    if extra is None:
        return f"{link.kind} over IPv{family} is not modelled"
    geneve = link.kind == "geneve"
    port = int(link.info.get("port", 6081)) if geneve else 0
    proto = UDP if geneve else PROTOCOL.get(link.kind, 0)
    if not proto:
        return f"the outer packets of {link.name} ({link.kind}) are not modelled"
    df = bool(link.info.get("pmtudisc", True)) if not geneve else link.info.get("df") in (1, "set")
    outer = Packet(
        str(link.info.get("local", "") or ""), remote, proto, OUTER_SPORT if port else 0, port,
        frame.packet.size + extra, df or family == 6,
    )  # fmt: skip
    lower = link.peer if link.peer_nsid is None else 0
    vni = int(link.info.get("id", link.info.get("vni", 0)) or 0)
    return [Outer(link.kind, extra, outer, lower, port, vni, link.kind in TELLS, link)]


def _vxlan_outers(net: Net, link: Link, vx: Vxlan, frame: Frame) -> list[Outer] | str:
    if vx.collect_metadata:
        return f"{link.name} is told by another program where to send (external mode)"
    entries: tuple[FdbEntry, ...] = ()
    if frame.dmac:
        entries = net.destinations.get((link.index, frame.dmac), ())
    entries = entries or net.destinations.get((link.index, ZERO_MAC), ())
    ends = [(str(e.remote), e.remote_port or vx.port, e.remote_vni or vx.vni) for e in entries]
    if not ends and vx.remote:
        ends = [(vx.remote, vx.port, vx.vni)]
    outers = []
    for remote, port, vni in ends:
        if is_multicast(remote):
            return f"{link.name} floods to the multicast group {remote}"
        family = family_of(remote)
        extra = OVERHEAD["vxlan"][family]
        inner = frame.packet
        df = vx.df == 1 or (vx.df == 2 and (inner.df or inner.family == 6)) or family == 6
        src = vx.local if vx.local and family_of(vx.local) == family else ""
        outer = Packet(src or "", remote, UDP, OUTER_SPORT, port, inner.size + extra, df)
        outers.append(Outer("vxlan", extra, outer, vx.lower, port, vni, False, link))
    return outers


def _one(steps: Steps, base: Net, net: Net, link: Link, frame: Frame, bridged: bool, outer: Outer) -> Carried:
    """One outer packet: its way, what bounds it, and what comes out at the other end."""
    at = net.point(link.name)
    way = steps.walk(base, outer.packet, outer.lower)
    notes: list[Note] = [
        Encap(at=at, kind=outer.kind, overhead=outer.overhead, outer=way.packet.flow(), df=outer.packet.df)
    ]
    bounds = [x for x in way.notes if isinstance(x, Bound)]
    lossy = _fragments_lost(steps, base, outer, bounds)
    notes += [
        _inner(steps, base, net, x, outer, frame, bridged, lossy) if isinstance(x, Bound) else x for x in way.notes
    ]
    done = tuple(notes)
    if way.fate is Fate.UNKNOWN:
        gone = Carried("unseen" if way.ends else "unknown", done, at=way.ends or at, why=way.why)
        return gone._replace(packet=frame.packet, culprit=way.culprit, gaps=way.gaps)
    if way.fate is not Fate.DELIVERED or way.net is None:
        why = f"the outer packet of {link.name}: {way.why or way.fate.value}"
        return Carried("lost", done, at=at, fate=way.fate, why=why, culprit=way.culprit, gaps=way.gaps)
    rest = _out_of(steps, way.net, outer, frame, done)
    return rest._replace(gaps=(*way.gaps, *rest.gaps)) if way.gaps else rest


def _out_of(steps: Steps, far: Net, outer: Outer, frame: Frame, done: tuple[Note, ...]) -> Carried:
    """The far end takes the inner packet out (vxlan_rcv, ip_tunnel_rcv)."""
    exits: list[tuple[Net, Link]] = []
    if outer.kind == "vxlan":
        found = steps.network.vtep(far, outer.port, outer.vni)
        exits = [found] if found else []
    else:
        exits = [x for x in steps.network.tunnels(far, outer.kind) if _is_twin(x[1], outer)]
    up = [x for x in exits if x[1].up]
    if not up:
        why = f"no {outer.kind} device takes it there" + (f" (VNI {outer.vni})" if outer.vni else "")
        return Carried("lost", done, at=far.point(), fate=Fate.UNREACHABLE, why=why)
    there, device = up[0]
    out = Decap(at=there.point(device.name), kind=outer.kind)
    rest = steps.enter(there, device, frame._replace(gso=frame.gso and None))
    return rest._replace(notes=(*done, out, *rest.notes))


def _is_twin(link: Link, outer: Outer) -> bool:
    """The device at the other end: its addresses are ours turned round, its key ours."""
    local = str(link.info.get("local", "") or "")
    remote = str(link.info.get("remote", "") or "")
    if local not in ("", outer.packet.dst) or (remote and outer.packet.src and remote != outer.packet.src):
        return False
    return all(link.info.get(x) == outer.device.info.get(x) for x in ("id", "vni", "ikey", "okey"))


def _fragments_lost(steps: Steps, base: Net, outer: Outer, bounds: list[Bound]) -> Journey | None:
    """When the outer packet of the asked size gets fragmented: the walk of a fragment, if it is lost."""
    small = any(b.mtu < outer.packet.size and b.then(outer.packet) == "fragment" for b in bounds)
    if not small or outer.packet.family == 6:
        return None
    way = steps.walk(base, msgspec.structs.replace(outer.packet, later=True), outer.lower)
    return way if way.fate not in (Fate.DELIVERED, Fate.UNKNOWN) else None


def _inner(
    steps: Steps, base: Net, net: Net, b: Bound, outer: Outer, frame: Frame, bridged: bool, lossy: Journey | None
) -> Bound:
    """What a bound of the outer packet is for the inner one."""
    mtu = b.mtu - outer.overhead
    own = b.net == base.key and not b.inward and b.kind in ("l3", "route", "cached")
    then = b.then(outer.packet)
    if then in ("icmp", "error") and not own:
        then = "error" if steps.told(b) else "silent"
    outside: Fate1 = "fragment" if then == "fragment" else "silent"
    why = None
    if outside == "fragment" and lossy is not None:
        outside = "silent"
        why = f"outer fragments: {lossy.why or lossy.fate.value}"
    dont = _too_big_here(mtu, outer, frame, bridged, outside) if own or then == "error" else outside
    thrown_back = dont == "icmp" and not outer.tells_inner
    return Bound(
        mtu, "tunnel", net.point(outer.device.name) if own else b.at, dont, outside, net.key, frame.packet, outer.kind,
        _decider(outer, dont) if own else b.function, outer.overhead,
        inward=outer.device.index if thrown_back else 0, mac=frame.smac if thrown_back else "", untold=why,
    )  # fmt: skip


def _decider(outer: Outer, then: str) -> str:
    if outer.kind in TELLS:
        return "tnl_update_pmtu"
    return "iptunnel_pmtud_check_icmp" if then == "icmp" else "skb_tunnel_check_pmtu"


def _too_big_here(mtu: int, outer: Outer, frame: Frame, bridged: bool, outside: Fate1) -> Fate1:
    """What the tunnel's end does with an inner DF packet its (known) outer path MTU does not carry."""
    if outer.tells_inner:
        return "error" if frame.local else "icmp"
    if frame.local:
        return "error"
    if bridged and mtu >= SMALLEST_TOLD[frame.packet.family]:
        return "icmp"
    return outside


__all__ = ["OVERHEAD", "Outer", "Steps", "overhead", "through"]
