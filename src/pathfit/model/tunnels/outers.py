"""What a tunnel device of a snapshot puts around a packet: which :class:`~pathfit.model.tunnels.overhead.Layer` it is,
where the outer packet goes, with DF or without.

What a device does is said only where the kernel itself does it from what the snapshot holds. A device that another
program steers (external mode, Open vSwitch, a tun or tap) ends our view: the answer is then a sentence, why.
"""

from typing import NamedTuple

from pathfit.core.net import UDP, Family
from pathfit.core.snapshot import FdbEntry, Link, Vxlan, Wireguard, WireguardPeer, XfrmState
from pathfit.model.addr import family_of, is_multicast, within
from pathfit.model.frame import TAG, Frame
from pathfit.model.network import Net
from pathfit.model.packet import Packet
from pathfit.model.tunnels.ipsec import Wrapped, wrapped
from pathfit.model.tunnels.overhead import Layer, header, inner, outer

ZERO_MAC = "00:00:00:00:00:00"
OUTER_SPORT = 49152  # somewhere in the range of udp_flow_src_port; filters rarely look at it
GENEVE_PORT = 6081

Facts = dict[str, str | int | bool]

PROTOCOL = {"gre": 47, "gretap": 47, "erspan": 47, "ipip": 4, "sit": 41, "ip6tnl": 41, "l2tp-ip": 115}
ROWS = {  # IFLA_INFO_KIND -> row of the table
    "vxlan": "vxlan", "geneve": "geneve", "wireguard": "wireguard", "l2tp": "l2tp",
    "gre": "gre", "ip6gre": "gre", "gretap": "gretap", "ip6gretap": "gretap", "erspan": "erspan", "ip6erspan": "erspan",
    "ipip": "ipip", "sit": "sit", "ip6tnl": "ip6tnl",
}  # fmt: skip
TELLS = frozenset({"gre", "gretap", "erspan", "ipip", "sit", "ip6tnl"})  # rows whose tunnels tell the inner sender


class Outer(NamedTuple):
    """What is put around the inner packet. ``tags``: bytes of VLAN tags that the frame carries into the tunnel."""

    layer: Layer
    packet: Packet
    device: Link
    lower: int = 0
    vni: int = 0
    tags: int = 0
    peer: WireguardPeer | None = None
    state: XfrmState | None = None

    @property
    def kind(self) -> str:
        return self.device.kind

    @property
    def overhead(self) -> int:
        """Bytes around each inner packet, padding not counted."""
        return header(self.layer) + self.tags

    def inner_mtu(self, mtu: int) -> int:
        """The largest inner packet whose outer one has at most ``mtu`` bytes."""
        return inner(self.layer, mtu, self.device.mtu) - self.tags


class Lost(NamedTuple):
    """The kernel has no remote end for it and drops it."""

    why: str


def layer_of(link: Link, family: Family) -> Layer | None:
    """The row and options of a tunnel device with an outer header of ``family``; None: not modelled."""
    name = ROWS.get(link.kind)
    info = link.info
    if name == "l2tp" and info.get("encap") == "ip":
        name = "l2tp-ip"
    if name is None:
        return None
    made = Layer(name, family, _options(name, family, info), None)
    return made if family in made.row.families else None


def _options(row: str, family: Family, info: Facts) -> dict[str, int]:
    found: dict[str, int] = {}
    if row in ("gre", "gretap"):
        found |= {x: 1 for x in ("key", "csum", "seq") if info.get(x)}
        if info.get("ignore_df"):
            found["ignore-df"] = 1
    if row == "erspan" and info.get("erspan_ver") == 2:
        found["v2"] = 1
    encap = info.get("encap_type", 0)  # TUNNEL_ENCAP_*: 1 fou, 2 gue
    if encap in (1, 2, "fou", "gue"):
        found["fou" if encap in (1, "fou") else "gue"] = 1
    if family == 6 and info.get("encap_limit") == "none":
        found["noencaplimit"] = 1
    if cookie := _int(info, "cookie"):
        found["cookie"] = cookie
    return found


def _int(info: Facts, name: str, default: int = 0) -> int:
    value = info.get(name, default)
    return value if isinstance(value, int) else default


def outers(net: Net, link: Link, frame: Frame) -> list[Outer] | Lost | str:
    """The outer packets a frame becomes (one for each remote end it is sent to), or why it cannot be said."""
    if link.info.get("collect_metadata") or (link.vxlan and link.vxlan.collect_metadata):
        return f"{link.name} is told by another program where to send (external mode)"
    if link.vxlan:
        return _vxlan(net, link, link.vxlan, frame)
    if link.kind == "wireguard":
        return _wireguard(link, frame)
    if link.kind == "xfrm" and net.snap.xfrm_policies and link.peer_nsid is None:
        made = esp(net, frame, link, _int(link.info, "if_id"))
        return [made] if isinstance(made, Outer) else made or Lost(f"no IPsec policy of {link.name} takes it")
    if link.kind not in ROWS:
        return unread(link)
    remote = str(link.info.get("remote", "") or "")
    if not remote:
        return f"the remote end of {link.name} ({link.kind}) is not known"
    if is_multicast(remote):
        return f"{link.name} floods to the multicast group {remote}"
    layer = layer_of(link, family_of(remote))
    if layer is None:
        return f"{link.kind} over IPv{family_of(remote)} is not modelled"
    one = _fixed(link, layer, remote, frame)
    return [one] if one else f"{link.name} ({link.kind}) carries nothing of IPv{frame.packet.family}"


def esp(net: Net, frame: Frame, link: Link, if_id: int = 0) -> Outer | str | None:
    """What IPsec makes of a packet that ``net`` sends by ``link``; None: nothing.

    ``if_id``: of an xfrm interface, which asks the policies of the namespace it was made in (xfrm_if.net). Without, the
    packet goes by no device of IPsec's own, and ``link`` is the one it was routed to.
    """
    made = wrapped(net, frame.packet, if_id)
    if not isinstance(made, Wrapped):
        return made
    device = link if if_id else Link(index=link.index, name=link.name, mtu=link.mtu, kind="esp")
    return _around(Outer(made.layer, made.packet, device, state=made.state), frame)


def unread(link: Link) -> str:
    """Why a device that the kernel's state does not explain ends our view, with what such devices resemble."""
    if link.kind == "openvswitch":
        return f"{link.name} belongs to Open vSwitch, whose flows are not read"
    if link.kind == "xfrm":
        return f"what IPsec makes of packets for {link.name} is not read (ESP with AES-GCM over 1500 carries 1446)"
    return f"devices of kind {link.kind} are not modelled"


def _fixed(link: Link, layer: Layer, remote: str, frame: Frame) -> Outer | None:
    """A tunnel with one remote end: its ports or protocol, and DF.

    GRE and IPIP take DF from their own setting or from the inner IPv4 packet (ip_tunnel_xmit), SIT from its setting
    alone (ipip6_tunnel_xmit), Geneve from ``df``, L2TP never (l2tp_xmit_skb, IP_PMTUDISC_DONT).
    """
    info, row, packet = link.info, layer.kind, frame.packet
    ports, proto = (0, 0), PROTOCOL.get(row, UDP)
    if row == "geneve":
        ports = (OUTER_SPORT, _int(info, "port", GENEVE_PORT))
        df = _inherited(_int(info, "df"), packet)
    elif row.startswith("l2tp"):
        ports = (_int(info, "sport"), _int(info, "dport")) if row == "l2tp" else ports
        df = False
    else:
        inner_df = packet.family == 4 and packet.df and not info.get("ignore_df")
        df = bool(info.get("pmtudisc", True)) or inner_df
    if row in ("ipip", "sit", "ip6tnl"):
        proto = 41 if packet.family == 6 else 4
        if not _carries(row, packet.family, _int(info, "proto")):
            return None
    if layer.has("fou") or layer.has("gue"):
        proto, ports = UDP, (OUTER_SPORT, _int(info, "encap_dport"))
    local = str(info.get("local", "") or "")
    src = local if local and family_of(local) == layer.family else ""
    made = Packet(src, remote, proto, *ports, size=0, df=df or layer.family == 6)
    return _around(Outer(layer, made, link, _lower(link), _int(info, "id") or _int(info, "vni")), frame)


def _carries(row: str, family: Family, proto: int) -> bool:
    """Does a tunnel of IP packets take this family (IFLA_IPTUN_PROTO: 4, 41, 0 = both)?"""
    wanted = 41 if family == 6 else 4
    if row == "ipip":
        return family == 4
    return proto in (0, wanted)


def _around(made: Outer, frame: Frame) -> Outer:
    return around(made._replace(tags=frame.tags * TAG), frame.packet)


def around(made: Outer, packet: Packet) -> Outer:
    """With the size the outer packet of this one has: each piece is wrapped on its own."""
    inside = min(packet.piece or packet.size, packet.size)
    size = outer(made.layer, inside, made.device.mtu) + made.tags
    p = made.packet
    large, kept = packet.big, p.secured
    packet = Packet(p.src, p.dst, p.proto, p.sport, p.dport, size, p.df, p.mark, big=large, secured=kept)
    return made._replace(packet=packet)


def _inherited(df: int, packet: Packet) -> bool:
    """``df`` 0 unset, 1 set, 2 inherit (VXLAN_DF_*, GENEVE_DF_*)."""
    return df == 1 or (df == 2 and (packet.df or packet.family == 6))


def _lower(link: Link) -> int:
    return link.peer if link.peer_nsid is None else 0


def _vxlan(net: Net, link: Link, vx: Vxlan, frame: Frame) -> list[Outer] | str:
    entries: tuple[FdbEntry, ...] = ()
    if frame.dmac:
        entries = net.destinations.get((link.index, frame.dmac), ())
    entries = entries or net.destinations.get((link.index, ZERO_MAC), ())
    if not entries and (near := net.neighbours.get((link.index, frame.want))) is not None and near.mac:
        # Who asks for its address is answered by the device itself (arp_reduce(), neigh_reduce()), and sends there.
        entries = net.destinations.get((link.index, near.mac), ())
    ends = [(str(e.remote), e.remote_port or vx.port, e.remote_vni or vx.vni) for e in entries]
    if not ends and vx.remote:
        ends = [(vx.remote, vx.port, vx.vni)]
    found = []
    for remote, port, vni in ends:
        if is_multicast(remote):
            return f"{link.name} floods to the multicast group {remote}"
        family = family_of(remote)
        df = _inherited(vx.df, frame.packet) or family == 6
        src = vx.local if vx.local and family_of(vx.local) == family else ""
        made = Packet(src or "", remote, UDP, OUTER_SPORT, port, df=df)
        found.append(
            _around(Outer(Layer("vxlan", family, {"gpe": 1} if vx.gpe else {}), made, link, vx.lower, vni), frame)
        )
    return found


def _wireguard(link: Link, frame: Frame) -> list[Outer] | Lost | str:
    """The peer whose allowed IPs hold the destination, longest prefix first (wg_allowedips_lookup_dst)."""
    wg = link.wireguard
    if wg is None:
        return f"the peers of {link.name} could not be read"
    peer = chosen(wg, frame.packet.dst)
    if peer is None:
        return Lost(f"no peer of {link.name} has {frame.packet.dst} among its allowed IPs")
    if peer.endpoint is None:
        return Lost(f"{link.name} knows no endpoint of the peer for {frame.packet.dst} yet")
    family = family_of(peer.endpoint)
    made = Packet("", peer.endpoint, UDP, wg.port, peer.port, df=family == 6, mark=wg.mark)
    return [_around(Outer(Layer("wireguard", family), made, link, peer=peer), frame)]


def chosen(wg: Wireguard, address: str) -> WireguardPeer | None:
    """The peer an address belongs to: the longest prefix among all allowed IPs decides."""
    best: tuple[int, WireguardPeer | None] = (-1, None)
    for peer in wg.peers:
        for text in peer.allowed:
            network, _, length = text.partition("/")
            bits = 128 if ":" in network else 32
            prefix = int(length) if length.isdigit() else bits
            alike = (":" in network) is (":" in address)
            if alike and best[0] < prefix <= bits and within(address, network, prefix):
                best = (prefix, peer)
    return best[1]


__all__ = ["ROWS", "TELLS", "ZERO_MAC", "Lost", "Outer", "around", "chosen", "layer_of", "outers", "unread"]
