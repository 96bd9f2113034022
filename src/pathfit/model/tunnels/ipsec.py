"""IPsec: which packets a policy wraps into ESP, and in how much (xfrm_lookup, xfrm_state_find, xfrm_output).

There is no device for it: a packet that was routed anywhere may be taken by a policy of its namespace. An xfrm
interface asks the same question with its ``if_id``. What only keys could tell (do both ends agree?) is not asked.
"""

from typing import NamedTuple

from pathfit.core.net import UDP, Family
from pathfit.core.snapshot import XfrmPolicy, XfrmState
from pathfit.model.addr import family_of, within
from pathfit.model.network import Net
from pathfit.model.packet import Packet
from pathfit.model.tunnels.overhead import Layer

ESP = 50  # IPPROTO_ESP
DEFAULT_ICV = 96  # bits an authentication algorithm is cut to where nothing else was said (RFC 4868: 128 for SHA-256)
AEAD = frozenset({"rfc4106(gcm(aes))", "rfc7539esp(chacha20,poly1305)"})  # IV of 8 bytes, blocks of 4


class Wrapped(NamedTuple):
    """What becomes of a packet: the layer around it, the outer packet (without size), the association."""

    layer: Layer
    packet: Packet
    state: XfrmState


def wrapped(net: Net, packet: Packet, if_id: int = 0) -> Wrapped | str | None:
    """What the policies of ``net`` make of a packet it sends; None: they let it pass; a text: it cannot be said."""
    policy = _first(net, "out", packet, if_id)
    if policy is None or not (policy.templates or policy.block):
        return None
    if policy.block:
        return "an IPsec policy blocks it"
    if len(policy.templates) > 1 or policy.templates[0].protocol != "esp":
        return "IPsec wraps it in more than ESP, which is not modelled"
    wants = policy.templates[0]
    found = next(
        (s for s in net.snap.xfrm_states if _serves(s, wants.mode, wants.reqid, if_id, packet, wants.dst)), None
    )
    if found is None:
        return None if wants.optional else "an IPsec policy takes it, and there is no security association yet"
    layer = layer_of(found)
    if layer is None:
        return f"what IPsec takes with {found.cipher or 'its cipher'} ({found.mode}) is not known"
    proto, ports = (UDP, (found.encap_sport, found.encap_dport)) if found.encap else (ESP, (0, 0))
    df = (packet.df and (found.pmtudisc or found.mode == "transport")) or family_of(found.dst) == 6
    around = Packet(found.src, found.dst, proto, *ports, df=df, secured=True)
    return Wrapped(layer, around, found)


def layer_of(state: XfrmState) -> Layer | None:
    """The row of the table an association is; None: its algorithms are not in it."""
    family: Family = family_of(state.dst)
    options: dict[str, int] = {}
    icv = state.icv_bits or (128 if state.cipher in AEAD else DEFAULT_ICV)
    if state.mode not in ("tunnel", "transport") or state.protocol != "esp" or state.encap not in ("", "udp"):
        return None
    if state.cipher in AEAD and icv == 128:
        kind = "esp-gcm"
    elif state.cipher == "cbc(aes)" and state.auth.startswith("hmac(") and icv in (96, 128):
        kind, options = "esp-cbc", {"sha1": 1} if icv == 96 else {}
    else:
        return None
    options |= {"transport": 1} if state.mode == "transport" else {}
    options |= {"natt": 1} if state.encap else {}
    return Layer(kind, family, options | ({"if": 1} if state.if_id else {}))


def unwraps(net: Net, outer: XfrmState, inner: Packet) -> str | bool:
    """Does ``net`` take it out again? It needs the association, and in tunnel mode a policy that allows the packet."""
    snap = net.snap
    if not snap.xfrm_states:
        return "the security associations of the other end are not read"
    same = (outer.spi, outer.dst, outer.mode, outer.protocol)
    if not any((s.spi, s.dst, s.mode, s.protocol) == same for s in snap.xfrm_states):
        return False
    if outer.mode == "transport" or any(
        p.direction in ("in", "fwd") and _matches(p, inner) for p in snap.xfrm_policies
    ):
        return True
    return "no IPsec policy of the other end that allows it was read"


def _first(net: Net, direction: str, packet: Packet, if_id: int) -> XfrmPolicy | None:
    """The matching policy that comes first (xfrm_policy_lookup_bytype: the smallest priority)."""
    mine = [p for p in net.snap.xfrm_policies if p.direction == direction and p.if_id == if_id and _matches(p, packet)]
    return min(mine, key=lambda p: p.priority, default=None)


def _matches(policy: XfrmPolicy, packet: Packet) -> bool:
    """xfrm_selector_match. A policy with a mark is for packets that have it."""
    if policy.family != packet.family or (policy.mark and policy.mark != packet.mark):
        return False
    ports = (policy.sport in (0, packet.sport)) and (policy.dport in (0, packet.dport))
    return (
        policy.proto in (0, packet.proto)
        and ports
        and (not policy.src or within(packet.src, policy.src, policy.src_prefix))
        and (not policy.dst or within(packet.dst, policy.dst, policy.dst_prefix))
    )


def _serves(state: XfrmState, mode: str, reqid: int, if_id: int, packet: Packet, dst: str) -> bool:
    """Is this the association for the template? In transport mode it is that of the packet's own addresses."""
    end = packet.dst if mode == "transport" else dst
    here = packet.src if mode == "transport" else state.src
    return (
        (state.mode, state.if_id, state.dst, state.src) == (mode, if_id, end, here)
        and state.protocol == "esp"
        and (state.any_family or (state.inner or state.family) == packet.family)
        and reqid in (0, state.reqid)
    )


__all__ = ["Wrapped", "layer_of", "unwraps", "wrapped"]
