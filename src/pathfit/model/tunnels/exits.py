"""The other end of a tunnel: which device takes an outer packet that has arrived.

Kernel: vxlan_vs_find_vni, geneve_lookup, ip_tunnel_lookup, ip6_tnl_lookup, wg_packet_receive. A device in external mode
or a program of its own may take any of them, so where there is one nothing is said to be lost.
"""

from pathfit.core.snapshot import Link, XfrmState
from pathfit.model.network import Net, Network
from pathfit.model.packet import Packet
from pathfit.model.tunnels.ipsec import unwraps
from pathfit.model.tunnels.outers import Outer, chosen

SAME = ("id", "vni", "key")  # facts two ends of a tunnel share
TURNED = (("okey", "ikey"), ("ikey", "okey"))


def exits(
    network: Network, far: Net, outer: Outer, arrived: Packet, carried: Packet, came: Link | None
) -> list[tuple[Net, Link]] | str:
    """Devices of whatever namespace that take the outer packet arriving in ``far``; a text: why nobody can say.

    ``came``: the device it came in by, where IPsec leaves the inner packet.
    """
    kind = outer.kind
    if outer.state is not None:
        return _unwrapped(network, far, outer.state, carried, came)
    if kind == "vxlan":
        found = network.vtep(far, arrived.dport, outer.vni)
        mine = [found] if found else []
    elif kind == "wireguard":
        ends = _wireguards(network, far, outer, arrived, carried)
        if isinstance(ends, str):
            return ends
        mine = ends
    else:
        mine = [x for x in network.tunnels(far, kind) if _is_twin(x[1], outer, arrived)]
    if mine:
        return mine
    return _somebody_else(network, far, kind) or []


def _unwrapped(
    network: Network, far: Net, state: XfrmState, carried: Packet, came: Link | None
) -> list[tuple[Net, Link]] | str:
    """Out of ESP: the packet comes in again by the same device, or by the xfrm interface of the association."""
    taken = unwraps(far, state, carried)
    if isinstance(taken, str):
        return taken
    mine = [s for s in far.snap.xfrm_states if (s.spi, s.dst) == (state.spi, state.dst)]
    if not taken or came is None:
        return []
    if not mine[0].if_id:
        return [(far, came)]
    return [x for x in network.tunnels(far, "xfrm") if x[1].info.get("if_id") == mine[0].if_id]


def _somebody_else(network: Network, far: Net, kind: str) -> str:
    """A device there that another program steers, and that may take the packet."""
    for net, link in network.steered(far):
        if link.kind in (kind, "openvswitch"):
            return f"{link.name} in {net.snap.where} takes what another program tells it to (external mode)"
    if kind == "wireguard":
        for link in far.snap.links:
            if link.kind == "tun":
                who = f" (held by {link.holder})" if link.holder else ""
                return f"a program may take it for {link.name}{who}"
    return ""


def _is_twin(link: Link, outer: Outer, arrived: Packet) -> bool:
    """The device at the other end: its addresses are ours turned round, its keys ours."""
    local = str(link.info.get("local", "") or "")
    remote = str(link.info.get("remote", "") or "")
    if local not in ("", arrived.dst) or remote not in ("", arrived.src):
        return False
    ours, theirs = outer.device.info, link.info
    if outer.kind == "geneve" and theirs.get("port", arrived.dport) != arrived.dport:
        return False
    if any(a in ours and b in theirs and ours[a] != theirs[b] for a, b in TURNED):
        return False
    return all(ours.get(x) == theirs.get(x) for x in SAME)


def _wireguards(
    network: Network, far: Net, outer: Outer, arrived: Packet, carried: Packet
) -> list[tuple[Net, Link]] | str:
    """The device that listens there, has our key among its peers', and allows that peer the inner source address."""
    for net, link in network.tunnels(far, "wireguard"):
        there = link.wireguard
        if there is None:
            return f"the peers of {link.name} in {net.snap.where} could not be read"
        if there.port != arrived.dport:
            continue
        ours, peer = outer.device.wireguard, outer.peer
        if ours is None or peer is None or peer.public_key != there.public_key:
            return []
        sender = next((x for x in there.peers if x.public_key == ours.public_key), None)
        allowed = chosen(there, carried.src)
        return [(net, link)] if sender is not None and allowed is sender else []
    return []
