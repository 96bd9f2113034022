"""A frame that strangers may see: its headers with other addresses in them, and nothing of what it carries.

Headers are copied field by field, and what is not known to be harmless becomes zero: options of IP and Geneve, unknown
options of TCP (some hold addresses), payload of TCP. Of everything else payload becomes other bytes, which follow from
it and a key (:meth:`~pathfit.core.pseudonyms.Pseudonyms.scrambled`): two datagrams that were alike, or began alike,
still are and do. What errors of ICMP quote is treated as a packet of its own. Ports, numbers, flags, lengths, hop
limits, time stamps, tags and network numbers stay.

Checksums: that of an IPv4 header is right where it was, and wrong where it was. A transport's is right where all of the
packet is here; else nobody can tell, and it becomes another number, for the old one tells of the old addresses. 0
stays.

Pure; nothing raises, whatever the bytes, and as many come out as went in.
"""

from collections.abc import Collection

from pathfit.core.pseudonyms import Pseudonyms
from pathfit.wire import dissect
from pathfit.wire.dissect import ETH_TEB, GENEVE_PORT, GRE, IPIP, SIXINFOUR, Layer, Udp
from pathfit.wire.packets import (
    EXTENSIONS,
    FRAGMENT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Icmp,
    Tcp,
    checksum,
    is_error,
    pseudo,
)

SUMS = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}  # where in a transport's header its checksum stands
OPTIONS = {2: (2,), 3: (1,), 4: (0,), 5: (8, 16, 24, 32), 8: (8,)}  # of TCP, those we read: bytes of their body
PORTS = frozenset((TCP, UDP, 33, 132, 136))  # DCCP, SCTP, UDP-Lite begin with ports as well
ECHO = {4: (0, 8), 6: (128, 129)}
ROUTES = (0, 2, 4)  # types of the routing header that are lists of addresses (RFC 5095, 6275, 8754)
ROUTING = 43
DEEPEST = 3  # errors that quote errors
WRONG = 0x0101


class Frames:
    """Frames of one case. ``names``: its pseudonyms; ``vxlan``: UDP ports that carry VXLAN."""

    def __init__(self, names: Pseudonyms, vxlan: Collection[int] = dissect.VXLAN_PORTS) -> None:
        self._names, self._vxlan = names, vxlan
        self._addresses: dict[bytes, bytes] = {}
        self._macs: dict[bytes, bytes] = {}

    def frame(self, data: bytes) -> bytes:
        """An Ethernet frame."""
        return self._made(data, raw=False)

    def packet(self, data: bytes) -> bytes:
        """A packet that begins with its IP header."""
        return self._made(data, raw=True)

    # -- what stands in headers ---------------------------------------------------------------------------------

    def _address(self, old: bytes) -> bytes:
        found = self._addresses.get(old)
        if found is None:
            found = self._addresses[old] = self._names.packed(old)
        return found

    def _mac(self, old: bytes) -> bytes:
        found = self._macs.get(old)
        if found is None:
            found = self._macs[old] = self._names.octets(old)
        return found

    # -- a frame -------------------------------------------------------------------------------------------------

    def _made(self, data: bytes, *, raw: bool, depth: int = 0) -> bytes:
        found = (dissect.packet if raw else dissect.frame)(data, self._vxlan)
        out = bytearray(len(data))
        if not raw:
            self._ethernet(data, out, 0, found.layers[0].at if found.layers else 14 + 4 * len(found.vlans))
        for n, layer in enumerate(found.layers):
            self._ip(data, out, layer)
            self._transport(data, out, layer)
            if n + 1 < len(found.layers):
                self._wrapper(data, out, layer, found.layers[n + 1])
            elif not layer.ip.fragment:
                self._rest(data, out, layer, depth)
        for layer in reversed(found.layers):  # what is outside holds the sum of what is inside
            self._sums(data, out, layer)
        return bytes(out)

    def _ethernet(self, data: bytes, out: bytearray, at: int, end: int) -> None:
        """Two addresses, and types, tags and labels up to ``end``."""
        for start in (at, at + 6):
            if start + 6 <= min(len(data), end):
                out[start : start + 6] = self._mac(data[start : start + 6])
        out[at + 12 : end] = data[at + 12 : end]

    def _ip(self, data: bytes, out: bytearray, layer: Layer) -> None:
        ip, at = layer.ip, layer.at
        size, src = (20, 12) if ip.family == 4 else (40, 8)
        length = len(ip.src)
        out[at : at + src] = data[at : at + src]
        out[at + src : at + src + length] = self._address(ip.src)
        out[at + src + length : at + size] = self._address(ip.dst)
        if ip.family == 6:
            self._extensions(data, out, at, at + ip.at)
            return
        was = checksum(data[at : at + ip.at]) == 0
        out[at + 10 : at + 12] = bytes(2)
        right = checksum(bytes(out[at : at + ip.at]))
        out[at + 10 : at + 12] = (right if was else right ^ WRONG).to_bytes(2, "big")

    def _extensions(self, data: bytes, out: bytearray, at: int, end: int) -> None:
        kind, here = data[at + 6], at + 40
        while here + 2 <= min(end, len(data)):
            if kind == FRAGMENT:
                out[here : here + 8] = data[here : here + 8]
                kind, here = data[here], here + 8
            elif kind in EXTENSIONS:
                length = (data[here + 1] + 1) * 8
                out[here : here + 2] = data[here : here + 2]  # options become padding (Pad1 is 0)
                if kind == ROUTING:
                    self._routing(data, out, here, min(here + length, len(data)))
                kind, here = data[here], here + length
            else:
                return

    def _routing(self, data: bytes, out: bytearray, at: int, end: int) -> None:
        out[at + 2 : min(at + 8, end)] = data[at + 2 : min(at + 8, end)]
        if len(data) > at + 2 and data[at + 2] in ROUTES:
            for here in range(at + 8, end - 15, 16):
                out[here : here + 16] = self._address(data[here : here + 16])

    # -- what follows --------------------------------------------------------------------------------------------

    def _transport(self, data: bytes, out: bytearray, layer: Layer) -> None:
        ip, transport, at = layer.ip, layer.transport, layer.at + layer.ip.at
        if ip.fragment:
            return
        if isinstance(transport, Tcp):
            out[at : at + 20] = data[at : at + 20]
            _options(data, out, at + 20, min(layer.payload, len(data)))
        elif isinstance(transport, Udp):
            out[at : at + 8] = data[at : at + 8]
        elif isinstance(transport, Icmp):
            out[at : at + 4] = data[at : at + 4]
            told = is_error(ip.family, transport.type) or transport.type in ECHO[ip.family]
            rest = data[at + 4 : at + 8]
            out[at + 4 : at + 8] = rest if told else self._names.scrambled(rest)
        elif ip.protocol in SUMS:  # cut off within its header, or none
            kept = {TCP: 16, UDP: 6}.get(ip.protocol, 2)
            out[at : at + kept] = data[at : at + kept]

    def _wrapper(self, data: bytes, out: bytearray, layer: Layer, inner: Layer) -> None:
        """What stands between a tunnel's transport and the packet in it."""
        at, framed = layer.payload, False
        start = at
        if inner.via == "vxlan":
            for here, end in ((at, at + 1), (at + 3, at + 7)):
                out[here:end] = data[here:end]
            start, framed = at + 8, not data[at] & 0x04 or data[at + 3] == 3
        elif inner.via == "geneve":
            out[at : at + 7] = data[at : at + 7]  # options become empty ones of class 0
            start = at + 8 + (data[at] & 0x3F) * 4
            framed = int.from_bytes(data[at + 2 : at + 4], "big") == ETH_TEB
        elif inner.via == "gre":
            start = layer.at + layer.ip.at
            flags, kind = (int.from_bytes(data[start + n : start + n + 2], "big") for n in (0, 2))
            end = start + 4 + 4 * (bool(flags & 0x8000) + bool(flags & 0x2000) + bool(flags & 0x1000))
            out[start:end] = data[start:end]
            start, framed = end, kind == ETH_TEB
        if framed:
            self._ethernet(data, out, start, inner.at)
        else:
            out[start : inner.at] = data[start : inner.at]  # labels

    def _rest(self, data: bytes, out: bytearray, layer: Layer, depth: int) -> None:
        """The payload of the innermost packet."""
        ip, transport, at = layer.ip, layer.transport, layer.payload
        end = min(len(data), layer.at + ip.size if ip.size > ip.at else len(data))
        if isinstance(transport, Icmp) and is_error(ip.family, transport.type) and depth < DEEPEST:
            out[at:] = self._made(data[at:], raw=True, depth=depth + 1)
            return
        if ip.protocol in (TCP, IPIP, SIXINFOUR, GRE) or (ip.protocol in SUMS and transport is None):
            return
        if isinstance(transport, Udp) and (transport.dport in self._vxlan or transport.dport == GENEVE_PORT):
            return  # it holds no packet now, and shall not seem to
        if transport is None and ip.protocol in PORTS:
            out[at : at + 4] = data[at : at + 4]
            at += 4
        if at < end:
            out[at:end] = self._names.scrambled(data[at:end])

    # -- checksums -----------------------------------------------------------------------------------------------

    def _sums(self, data: bytes, out: bytearray, layer: Layer) -> None:
        ip, at = layer.ip, layer.at + layer.ip.at
        end = layer.at + ip.size
        whole = ip.size > ip.at and end <= len(data) and not ip.more
        if ip.fragment:
            return
        if ip.protocol == GRE:
            if len(data) >= at + 8 and out[at] & 0x80:
                self._sum(out, at, at + 4, end if whole else 0, 0)
            return
        there = SUMS.get(ip.protocol)
        if there is None or len(data) < at + there + 2 or layer.transport is None:
            return
        if isinstance(layer.transport, Udp) and not layer.transport.checksum:
            return
        src, dst = self._address(ip.src), self._address(ip.dst)
        start = 0 if ip.protocol == ICMP else pseudo(src, dst, ip.protocol, end - at)
        self._sum(out, at, at + there, end if whole else 0, start)

    def _sum(self, out: bytearray, at: int, there: int, end: int, start: int) -> None:
        """``end`` 0: not all of it is here."""
        if not end:
            made = self._names.scrambled(bytes(out[there : there + 2]))
            out[there : there + 2] = made if any(made) else b"\xff\xff"
        else:
            out[there : there + 2] = bytes(2)
            out[there : there + 2] = (checksum(bytes(out[at:end]), start) or 0xFFFF).to_bytes(2, "big")


def _options(data: bytes, out: bytearray, at: int, end: int) -> None:
    """Of TCP: those we read, as they are; of others kind and length."""
    while at < end and data[at]:
        length = 1 if data[at] == 1 else data[at + 1] if at + 1 < end else 0
        if length < (1 if data[at] == 1 else 2) or at + length > end:
            return
        keep = length if data[at] == 1 or length - 2 in OPTIONS.get(data[at], ()) else 2
        out[at : at + keep] = data[at : at + keep]
        at += length
