"""Network address translation, forward and back.

A namespace that translates remembers the conversation (conntrack): the tuple as it came in and as it left. A reply
gets the inverse at the same place: its destination before routing, its source after (nf_nat_packet, nf_nat_in_fn and
nf_nat_out_fn). An ICMP error about it is translated by the conversation it quotes (nf_nat_icmp_reply_translation).
"""

from ipaddress import ip_address

import msgspec

from pathfit.core.filters import Nat
from pathfit.core.snapshot import Link
from pathfit.model.addr import is_link_local
from pathfit.model.lookup import inet_select
from pathfit.model.network import Net
from pathfit.model.packet import Packet, Tuple5

MOST_EACH = 16  # addresses of a range that are looked at one by one


class Talk(msgspec.Struct, frozen=True, gc=False):
    """What a namespace remembers of one conversation: its first packet as it came (or was made) and as it left."""

    net: str
    came: Tuple5
    left: Tuple5


Memory = tuple[Talk, ...]


def known(memory: Memory, net: Net, packet: Packet) -> Talk | None:
    """The conversation this packet (or the one quoted by this error) belongs to, in this namespace."""
    if packet.kind == "request":
        return next((t for t in memory if t.net == net.key and _starts(t, packet)), None) if packet.big else None
    if packet.kind == "reply":
        seen = packet.talk.turned()
        return next((t for t in memory if t.net == net.key and seen in (t.left, _between(t))), None)
    if packet.kind == "error" and packet.about:
        # The quoted packet either went the same way as the first one did, or was an answer to it.
        for t in memory:
            if t.net == net.key and packet.about in (t.left, t.came.turned()):
                return t
    return None


def _starts(t: Talk, packet: Packet) -> bool:
    return packet.talk in (t.came, _between(t))


def _between(t: Talk) -> Tuple5:
    """The conversation as routing and the forward hook see it: the destination translated, the source not yet (or, of
    an answer, no longer)."""
    return Tuple5(t.came.src, t.left.dst, t.left.proto, t.came.sport, t.left.dport)


def inward(talk: Talk, packet: Packet) -> Packet:
    """The destination of a reply, or of an error, as it was before translation (at prerouting)."""
    if packet.kind == "error":
        if packet.about == talk.left:  # about a packet of the request direction: it goes back to its first sender
            return msgspec.structs.replace(packet, dst=talk.came.src, about=talk.came)
        return msgspec.structs.replace(packet, dst=talk.left.dst, about=talk.left.turned())
    if packet.kind == "request":  # a later packet of the same direction gets what the first one got
        return msgspec.structs.replace(packet, dst=talk.left.dst, dport=talk.left.dport)
    return msgspec.structs.replace(packet, dst=talk.came.src, dport=talk.came.sport)


def outward(talk: Talk, packet: Packet) -> Packet:
    """The source of a reply as its receiver expects it (at postrouting)."""
    if packet.kind == "error":
        return packet  # its source is a router's; only a host that was itself translated would show another
    if packet.kind == "request":
        return msgspec.structs.replace(packet, src=talk.left.src, sport=talk.left.sport)
    return msgspec.structs.replace(packet, src=talk.came.dst, sport=talk.came.dport)


def each(nat: Nat | None) -> tuple[Nat, ...]:
    """The addresses of a range that a translation chooses from, one by one; () where there is no range, or a large
    one."""
    if nat is None or nat.lo is None or nat.hi in (None, nat.lo):
        return ()
    first, last = ip_address(nat.lo), ip_address(nat.hi or nat.lo)
    count = int(last) - int(first) + 1
    if not 1 < count <= MOST_EACH:
        return ()
    return tuple(msgspec.structs.replace(nat, lo=str(first + n), hi=str(first + n)) for n in range(count))


def apply(net: Net, nat: Nat, packet: Packet, *, iif: Link | None, oif: Link | None, near: str) -> Packet | None:
    """The packet after this translation. ``near`` is the next hop it will be sent to.

    None: the address is not to be known (several to choose from, a device without one).
    """
    if nat.kind in ("masquerade", "snat"):
        if nat.kind == "masquerade":
            src = inet_select(net, oif.index, near) if oif else None
        else:
            src = (nat.lo or packet.src) if nat.hi in (None, nat.lo) else None
        port = nat.port_lo if nat.port_lo and nat.port_hi in (0, nat.port_lo) else packet.sport
        return msgspec.structs.replace(packet, src=src, sport=port) if src else None
    port = nat.port_lo if nat.port_lo and nat.port_hi in (0, nat.port_lo) else packet.dport
    if nat.kind == "redirect":
        dst = _redirect_to(net, packet, iif)
    elif nat.hi not in (None, nat.lo):
        return None
    else:
        dst = nat.lo or packet.dst
    return msgspec.structs.replace(packet, dst=dst, dport=port) if dst else None


def _redirect_to(net: Net, packet: Packet, iif: Link | None) -> str | None:
    """nf_nat_redirect_ipv4/6: loopback for what is made here, else the first address of the device it came by."""
    if iif is None:
        return "::1" if packet.family == 6 else "127.0.0.1"
    for x in net.on_link.get(iif.index, ()):
        if (":" in x.address) == (packet.family == 6) and not is_link_local(x.address):
            return x.address
    return None
