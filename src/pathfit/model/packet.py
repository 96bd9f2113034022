"""The packet that walks, and the bounds it meets. Private values of the model."""

from typing import Literal, NamedTuple

import msgspec

from pathfit.core.net import ICMP, ICMPV6, IP_HEADER, TCP, Family, Flow, Point

Kind = Literal["request", "reply", "error"]
FRAGMENT_HEADER = 8  # struct frag_hdr


class Tuple5(msgspec.Struct, frozen=True, gc=False):
    """Who talks to whom, as conntrack keeps it (struct nf_conntrack_tuple)."""

    src: str
    dst: str
    proto: int
    sport: int
    dport: int

    def turned(self) -> "Tuple5":
        """The same conversation seen from the other end (nf_ct_invert_tuple)."""
        return Tuple5(self.dst, self.src, self.proto, self.dport, self.sport)


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet. ``kind``: "request" opens the conversation, "reply" answers it, "error" is an ICMP "too big" about
    ``about`` (the conversation of the packet that did not fit, as it stood there).

    ``size`` is that of the *large* packet asked about; whether it fits is judged from the bounds met on the way.
    ``later``: a fragment that is not the first. ``mss``: value of the MSS option, None = no TCP.
    """

    src: str
    dst: str
    proto: int
    sport: int = 0
    dport: int = 0
    size: int = 0
    df: bool = True
    mark: int = 0
    kind: Kind = "request"
    later: bool = False
    mss: int | None = None
    about: Tuple5 | None = None
    piece: int = 0  # bytes of the largest piece it was cut into on its way, 0 = it is whole
    big: bool = False  # filters are to judge the large packet itself (later in the conversation), not its first one

    secured: bool = False  # the outer packet IPsec made: no policy is asked again
    reset: bool = False  # of a "reply": a RST that refuses the connection, instead of a SYN-ACK

    @property
    def family(self) -> Family:
        return 6 if ":" in self.dst else 4

    @property
    def talk(self) -> Tuple5:
        return Tuple5(self.src, self.dst, self.proto, self.sport, self.dport)

    def flow(self) -> Flow:
        """As core has it."""
        return Flow(
            src=self.src, dst=self.dst, proto=self.proto, sport=self.sport, dport=self.dport, size=self.size,
            df=self.df, mark=self.mark,
        )  # fmt: skip

    @property
    def error_type(self) -> tuple[int, int] | None:
        """ICMP type and code of a "too big" (RFC 792: 3/4; RFC 4443: 2/0)."""
        if self.kind != "error":
            return None
        return (2, 0) if self.family == 6 else (3, 4)


def packet_of_flow(flow: Flow, *, mss: int | None = None, kind: Kind = "request") -> Packet:
    """The packet a Flow describes; IPv6 packets are never fragmented on the way, so they count as DF."""
    df = flow.df or flow.family == 6
    return Packet(flow.src, flow.dst, flow.proto, flow.sport, flow.dport, flow.size, df, flow.mark, kind, False,
                  mss if flow.proto == TCP else None)  # fmt: skip


def too_big(src: str, lost: Packet) -> Packet:
    """The ICMP error ``src`` sends about ``lost`` (icmp_send, icmpv6_send)."""
    proto = ICMPV6 if lost.family == 6 else ICMP
    return Packet(src, lost.src, proto, df=False, kind="error", about=lost.talk)


Fate1 = Literal["icmp", "silent", "fragment", "error"]


class Bound(msgspec.Struct, frozen=True, gc=False):
    """A place that carries at most ``mtu`` bytes of this flow's IP packets.

    ``dont`` what happens to a larger packet with DF, ``may`` to one without. ``hides``: a GSO super-packet is not
    checked here. ``gso``: may the packet still be one at this place (None: features were not read)? ``net`` key of
    the namespace that decides and speaks; ``lost`` the packet as it stood there.
    """

    mtu: int
    kind: Literal["l3", "l2", "tunnel", "receive", "guest", "route", "cached"]
    at: Point
    dont: Fate1
    may: Fate1
    net: str
    lost: Packet
    device: str = ""
    function: str = ""
    overhead: int = 0
    hides: bool = False
    gso: bool | None = False
    inward: int = 0  # the error is thrown back into the bridge as if it came in by this link, from the destination
    mac: str = ""  # and is sent to this MAC address
    teaches: bool = False  # the route of what is made here learns it from any packet that is too big, with DF or not
    untold: str | None = None  # why nothing is heard of it, in words, when the walk already knows
    piece: int = 0  # bytes of the largest piece it makes of a larger packet; 0 = what `mtu` leaves
    joins: int = 0  # what comes in larger pieces than this is put together here and lost; 0 = pieces are left alone

    def then(self, packet: Packet) -> Fate1:
        return self.dont if packet.df else self.may


def largest_piece(mtu: int, family: Family = 4) -> int:
    """Bytes of the largest piece of a packet that does not fit: data in eights (ip_frag_next, ip6_frag_next)."""
    header = IP_HEADER[family] + (FRAGMENT_HEADER if family == 6 else 0)
    return header + ((mtu - header) & ~7) if mtu > header else mtu


def cut_at(b: Bound, p: Packet) -> Packet:
    """What leaves behind ``b``: the packet, or where it is too large and cut, one of its pieces."""
    small = b.mtu >= (p.piece or p.size) or b.then(p) != "fragment"
    return p if small else cut(p, b.piece or b.mtu)


def cut(p: Packet, to: int) -> Packet:
    """One of the pieces of at most ``to`` bytes: a later one, of a ``big`` packet the first, which has ports."""
    return msgspec.structs.replace(p, later=not p.big, piece=largest_piece(to, p.family))


class Gap(NamedTuple):
    """A stretch that was passed without seeing it: the wire between two hosts, left by ``at``."""

    why: str
    at: Point
