"""A frame as a tap sees it, taken apart down to the innermost packet: what is said to whom, wrapped in what.

::

    Ethernet II  0 dst 6 src 12 type            802.1Q, 802.1ad  0 tag 2 type
    MPLS (RFC 3032)  label 20 bits, class 3, bottom of stack 1, TTL 8; a packet behind the last label
    VXLAN   (RFC 7348) UDP payload  0 flags (I = 0x08) 4 VNI 7 reserved 8 Ethernet
    VXLAN-GPE (draft-ietf-nvo3)     the same with the flag P = 0x04: 3 next protocol (1 IPv4, 2 IPv6, 3 Ethernet)
    Geneve  (RFC 8926) UDP payload  0 version, option length / 4 1 flags 2 type 4 VNI 8 options, then the type's packet
    GRE     (RFC 2784, 2890)        0 flags (C 0x8000, K 0x2000, S 0x1000) 2 type 4 checksum, key, sequence of 4
    IP in IP (RFC 2003, 4213)       protocol 4 or 41: an IP header at once

A later fragment shows no ports and carries no wrapped packet: it ends the way down, and so does whatever is cut off or
contradicts itself; what was read above stays. Everything is bounded: :data:`MOST_LAYERS` headers deep, no loop over
lengths that come from outside. Nothing raises, whatever the bytes.
"""

from collections.abc import Collection
from ipaddress import ip_address
from typing import NamedTuple

from pathfit.wire.packets import ICMP, ICMPV6, TCP, UDP, Icmp, Ip, Tcp, Which, is_error, parse_icmp, parse_ip, parse_tcp

MOST_LAYERS = 8  # IP headers within each other; more is hostile
MOST_TAGS = 4  # VLAN tags in a row
ETH_IPV4, ETH_IPV6, ETH_TEB = 0x0800, 0x86DD, 0x6558
ETH_TAGS = frozenset((0x8100, 0x88A8, 0x9100))
ETH_MPLS = frozenset((0x8847, 0x8848))
MOST_LABELS = 8
IPIP, SIXINFOUR, GRE = 4, 41, 47
VXLAN_PORTS = (4789, 8472, 6784, 4790)  # RFC 7348; Linux' own default; weave's; VXLAN-GPE's
GENEVE_PORT = 6081  # RFC 8926
TELLING = 64  # bytes of payload that tell one datagram from another: kept at every point, whatever is around it
QUOTED = 8  # bytes of a transport's header that every ICMP error quotes (RFC 792)
_GPE = {1: ETH_IPV4, 2: ETH_IPV6, 3: ETH_TEB}
_CHECKSUM, _KEY, _SEQUENCE, _ROUTING = 0x8000, 0x2000, 0x1000, 0x4000


def packed(address: str) -> bytes:
    """An address as it stands in headers. ValueError when it is none."""
    return ip_address(address).packed


class Udp(NamedTuple):
    """One UDP header. ``length``: header and payload, as it says itself (bytes)."""

    sport: int
    dport: int
    length: int
    checksum: int


class Layer(NamedTuple):
    """One IP packet within the frame.

    ``via``: what it is wrapped in here: "" (the frame itself), "vxlan", "geneve", "gre", "ipip". ``number``: VNI or GRE
    key, None without. ``at``: where its IP header starts in the frame; ``payload``: where the transport's payload
    starts. ``transport``: its header, None when it is cut off, a later fragment, or of a protocol not taken apart.
    """

    ip: Ip
    via: str
    number: int | None
    at: int
    payload: int
    transport: Tcp | Udp | Icmp | None

    @property
    def which(self) -> Which | None:
        """Which one it is, as :func:`pathfit.wire.packets.which` says of a quoted one; None where no header tells."""
        t = self.transport
        if t is None:
            return None
        return Which(self.ip.family, self.ip.protocol, t.length if isinstance(t, Udp) else t.seq)


class Dissected(NamedTuple):
    """A frame. ``layers``: outermost first, empty when it holds no IP; ``vlans``: tags of the outer Ethernet header;
    ``cut``: the captured bytes end before the headers do."""

    layers: tuple[Layer, ...]
    vlans: tuple[int, ...]
    ethertype: int
    cut: bool

    @property
    def inner(self) -> Layer | None:
        """The innermost packet: the one that a container sent."""
        return self.layers[-1] if self.layers else None


class _Start(NamedTuple):
    """Where an IP packet is said to start, and what it is wrapped in."""

    at: int
    via: str = ""
    number: int | None = None


def frame(data: bytes, vxlan: Collection[int] = VXLAN_PORTS) -> Dissected:
    """An Ethernet frame, from its destination address on. ``vxlan``: UDP ports whose payload is taken for VXLAN."""
    at, ethertype, tags = _ethernet(data, 0)
    if ethertype not in (ETH_IPV4, ETH_IPV6):
        return Dissected((), tags, max(ethertype, 0), ethertype < 0)
    return _down(data, _Start(at), tags, ethertype, vxlan)


def packet(data: bytes, vxlan: Collection[int] = VXLAN_PORTS) -> Dissected:
    """An IP packet without a link layer in front: what a tun device carries."""
    ethertype = ETH_IPV6 if data[:1] and data[0] >> 4 == 6 else ETH_IPV4
    return _down(data, _Start(0), (), ethertype, vxlan)


def without_payload(data: bytes, found: Dissected) -> bytes:
    """The beginning of the frame, without what people say to each other, which is not ours to keep: headers tell all
    there is to compare. Of a datagram without a number of its own (IPv4 identification 0, IPv6) the first bytes stay,
    at most :data:`TELLING`; of what an error quotes, its headers."""
    inner = found.inner
    if inner is None:
        return data[: 14 + 4 * len(found.vlans)]
    return data[: inner.payload + _kept(inner, deeper=True)]


def _kept(layer: Layer, *, deeper: bool) -> int:
    """How many bytes behind the innermost headers are kept. ``deeper``: a quoted packet is taken apart as well."""
    ip, transport = layer.ip, layer.transport
    if isinstance(transport, Tcp) or ip.fragment:
        return 0
    if ip.protocol == TCP:  # cut off, or none: these are its header
        return 20
    if isinstance(transport, Icmp) and is_error(ip.family, transport.type):
        quoted = packet(transport.quoted).inner if deeper else None
        return QUOTED if quoted is None else quoted.payload + _kept(quoted, deeper=False)
    return QUOTED if ip.family == 4 and ip.ident else TELLING


def _ethernet(data: bytes, at: int) -> tuple[int, int, tuple[int, ...]]:
    """(where the payload starts, its type, VLAN numbers); type -1 when the header is cut off."""
    if len(data) < at + 14:
        return at, -1, ()
    ethertype, at = int.from_bytes(data[at + 12 : at + 14], "big"), at + 14
    tags: list[int] = []
    while ethertype in ETH_TAGS:
        if len(data) < at + 4 or len(tags) == MOST_TAGS:
            return at, -1, tuple(tags)
        tags.append(int.from_bytes(data[at : at + 2], "big") & 0x0FFF)
        ethertype, at = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    if ethertype in ETH_MPLS:
        at, ethertype = _labels(data, at)
    return at, ethertype, tuple(tags)


def _labels(data: bytes, at: int) -> tuple[int, int]:
    """(where the packet behind a stack of MPLS labels starts, its type); type -1 when the stack does not end. What it
    carries is not said: an IP packet is known by its first four bits (RFC 3032 2.2)."""
    for _ in range(MOST_LABELS):
        if len(data) < at + 5:
            return at, -1
        last, at = data[at + 2] & 1, at + 4
        if last:
            return at, {4: ETH_IPV4, 6: ETH_IPV6}.get(data[at] >> 4, 0)
    return at, -1


def _down(data: bytes, start: _Start, tags: tuple[int, ...], ethertype: int, vxlan: Collection[int]) -> Dissected:
    layers: list[Layer] = []
    cut = False
    below: _Start | None = start
    while below is not None and len(layers) < MOST_LAYERS:
        ip = parse_ip(data[below.at :])
        if ip is None:
            cut = True
            break
        at = below.at + ip.at
        transport, payload = (None, at) if ip.fragment else _transport(data, ip, at)
        layers.append(Layer(ip, below.via, below.number, below.at, payload, transport))
        taken_apart = ip.protocol in (TCP, UDP, ICMP, ICMPV6)
        cut = (taken_apart and transport is None and not ip.fragment) or payload > len(data)
        below = None if ip.fragment or cut else _within(data, ip, transport, at, payload, vxlan)
    return Dissected(tuple(layers), tags, ethertype, cut)


def _transport(data: bytes, ip: Ip, at: int) -> tuple[Tcp | Udp | Icmp | None, int]:
    """The transport header and where its payload starts."""
    if ip.protocol == TCP:
        tcp = parse_tcp(data, at)
        return tcp, at + tcp.length if tcp is not None else at
    if ip.protocol == UDP:
        if len(data) < at + 8:
            return None, at
        words = (int.from_bytes(data[at + n : at + n + 2], "big") for n in (0, 2, 4, 6))
        return Udp(*words), at + 8
    if ip.protocol in (ICMP, ICMPV6):
        return parse_icmp(data, at, ip.family), at + 8
    return None, at


def _within(
    data: bytes, ip: Ip, transport: Tcp | Udp | Icmp | None, at: int, payload: int, vxlan: Collection[int]
) -> _Start | None:
    """The IP packet that this one carries; None when it carries none."""
    if ip.protocol in (IPIP, SIXINFOUR):
        return _Start(at, "ipip")
    if ip.protocol == GRE:
        return _gre(data, at)
    if isinstance(transport, Udp) and transport.dport in vxlan:
        return _vxlan(data, payload)
    if isinstance(transport, Udp) and transport.dport == GENEVE_PORT:
        return _geneve(data, payload)
    return None


def _vxlan(data: bytes, at: int) -> _Start | None:
    if len(data) < at + 8 or not data[at] & 0x08:
        return None
    number = int.from_bytes(data[at + 4 : at + 7], "big")
    kind = _GPE.get(data[at + 3], 0) if data[at] & 0x04 else ETH_TEB
    return _typed(data, at + 8, kind, "vxlan", number)


def _geneve(data: bytes, at: int) -> _Start | None:
    if len(data) < at + 8 or data[at] >> 6:
        return None
    kind = int.from_bytes(data[at + 2 : at + 4], "big")
    start = at + 8 + (data[at] & 0x3F) * 4
    return _typed(data, start, kind, "geneve", int.from_bytes(data[at + 4 : at + 7], "big"))


def _gre(data: bytes, at: int) -> _Start | None:
    if len(data) < at + 4:
        return None
    flags, kind = (int.from_bytes(data[at + n : at + n + 2], "big") for n in (0, 2))
    if flags & (_ROUTING | 7):  # source routes (RFC 1701), another version (PPTP)
        return None
    start, key = at + 4 + 4 * bool(flags & _CHECKSUM), None
    if flags & _KEY:
        key, start = int.from_bytes(data[start : start + 4], "big"), start + 4
    return _typed(data, start + 4 * bool(flags & _SEQUENCE), kind, "gre", key)


def _typed(data: bytes, at: int, kind: int, via: str, number: int | None) -> _Start | None:
    if kind == ETH_TEB:
        return _framed(data, at, via, number)
    if kind in ETH_MPLS:
        at, kind = _labels(data, at)
    return _Start(at, via, number) if kind in (ETH_IPV4, ETH_IPV6) else None


def _framed(data: bytes, at: int, via: str, number: int | None) -> _Start | None:
    start, ethertype, _ = _ethernet(data, at)
    return _Start(start, via, number) if ethertype in (ETH_IPV4, ETH_IPV6) else None
