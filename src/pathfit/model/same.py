"""The same packet at several places: what of it stays as it is, whatever is done to it on the way.

Addresses and ports change (NAT), headers are put around it (tunnels), the hop limit falls, checksums follow. One packet
becomes many (TSO, fragments) and many become one (GRO). So a packet is not compared as a whole: it is cut into
:class:`Piece` values, a key and a range of bytes, and what counts is how often each byte of a key was seen.

* TCP: acknowledgement number, time stamps and window are the same in all segments that a large one is cut into, and
  GRO merges only what has them in common (tcp_gro_receive()). Sequence numbers are the range. A retransmission has
  later time stamps, or another IPv4 identification; otherwise it is the same bytes seen once more.
* UDP, ICMP and others over IPv4: the identification, and the range of the datagram that a fragment is. Where it is 0
  (atomic datagrams, RFC 6864) and over IPv6: the beginning of the payload; there, routers cut nothing. Of an ICMP error
  what tells which packet it is about, for that is translated with it.

Pure. A key may be compared and used in a dictionary, nothing else.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pathfit.wire.dissect import TELLING, Layer, Udp
from pathfit.wire.packets import FIN, RST, SYN, TCP, Icmp, Tcp, is_error, parse_ip, parse_ports

WRAP = 1 << 32  # sequence numbers
Key = tuple[object, ...]
BEGINNINGS = ("udp", "icmp", "other")  # what is known by how it begins


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` (exclusive) of what ``key`` names; a flag or an empty segment is one byte long."""

    key: Key
    start: int
    end: int


def apart(number: int, base: int) -> int:
    """How far a sequence number is ahead of another; negative: behind it (RFC 9293 section 3.4)."""
    return (number - base + WRAP // 2) % WRAP - WRAP // 2


def pieces(data: bytes, layer: Layer, length: int) -> tuple[Piece, ...]:
    """What is to be looked for elsewhere. ``data``: the frame as it was kept; ``layer``: the packet within it;
    ``length``: bytes of the frame on the wire (counts where a header says 0, as for more than 64 kB, RFC 2675)."""
    ip = layer.ip
    ends = layer.at + ip.size if ip.size > ip.at else length
    if isinstance(layer.transport, Tcp):
        return _segment(layer.transport, ip.ident if ip.family == 4 else 0, ends - layer.payload)
    return (_datagram(data, layer, ends),)


def _segment(tcp: Tcp, ident: int, size: int) -> tuple[Piece, ...]:
    burst = ("tcp", tcp.ack, tcp.ts, tcp.window)
    if tcp.flags & SYN:
        return (Piece((*burst, "syn", ident), tcp.seq, tcp.seq + 1),)
    if tcp.flags & RST:
        return (Piece((*burst, "rst", ident), tcp.seq, tcp.seq + 1),)
    found: list[Piece] = []
    end = tcp.seq + max(size, 0)
    if size > 0:
        found.append(Piece((*burst, "data"), tcp.seq, min(end, WRAP)))
    if end > WRAP:  # what it is cut into begins at 0 again
        found.append(Piece((*burst, "data"), 0, end - WRAP))
    if tcp.flags & FIN:
        found.append(Piece((*burst, "fin"), end % WRAP, end % WRAP + 1))
    return tuple(found) or (Piece((*burst, "ack", tcp.sacks), tcp.seq, tcp.seq + 1),)


def _quoted(packet: bytes) -> Key:
    """What of the packet that an error is about stays as it is: who translates the error translates that as well."""
    ip = parse_ip(packet)
    ports = parse_ports(packet, ip.at) if ip is not None else None
    tcp = ip is not None and ip.protocol == TCP
    return (ip.protocol, ip.ident, ip.size, ports[2] if ports and tcp else None) if ip is not None else ()


def _datagram(data: bytes, layer: Layer, ends: int) -> Piece:
    ip = layer.ip
    at = layer.at + ip.at
    start = ip.fragment
    if ip.ident or ip.fragment:
        return Piece(("ip", ip.protocol, ip.ident), start, start + max(ends - at, 1))
    if isinstance(layer.transport, Icmp):
        said: Key = ("icmp", layer.transport.type, layer.transport.code, layer.transport.ident, layer.transport.seq)
        if is_error(ip.family, layer.transport.type):
            return Piece((*said, *_quoted(layer.transport.quoted)), 0, max(ends - at, 1))
        return Piece((*said, data[layer.payload : layer.payload + TELLING]), 0, max(ends - at, 1))
    telling = data[layer.payload : min(layer.payload + TELLING, ends)]
    kind = "udp" if isinstance(layer.transport, Udp) else "other"
    return Piece((kind, ip.protocol, ends - layer.payload, telling), 0, max(ends - at, 1))


def brief(cut: Iterable[Piece], most: int) -> tuple[Piece, ...]:
    """The same where no more than ``most`` bytes of what a datagram begins with were kept."""
    return tuple(piece._replace(key=brief_key(piece.key, most)) for piece in cut)


def brief_key(key: Key, most: int) -> Key:
    last = key[-1]
    return (*key[:-1], last[:most]) if key[0] in BEGINNINGS and isinstance(last, bytes) else key


def share(some: Iterable[Piece], others: Iterable[Piece]) -> bool:
    """Is any byte in both?"""
    both = ((a, b) for a in some for b in others)
    return any(a.key == b.key and a.start < b.end and b.start < a.end for a, b in both)


def covers(there: Iterable[Piece], piece: Piece) -> bool:
    """Is every byte of ``piece`` among them?"""
    at = piece.start
    for start, end in sorted((x.start, x.end) for x in there if x.key == piece.key):
        if start <= at:
            at = max(at, end)
    return at >= piece.end


class _Bytes(Protocol):
    """A Piece, or what else has a key and a range."""

    @property
    def key(self) -> Key: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


Spans = Mapping[Key, Sequence[tuple[int, int]]]


def spans(ranges: Iterable[_Bytes]) -> Spans:
    """The same bytes by key, in ranges that do not touch each other, in order: thousands of them are searched at once
    (:func:`meet`)."""
    by_key: dict[Key, list[tuple[int, int]]] = {}
    for key, start, end in sorted(((x.key, x.start, x.end) for x in ranges), key=lambda x: x[1:]):
        found = by_key.setdefault(key, [])
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return by_key


def meet(cut: Iterable[Piece], spans: Spans) -> bool:
    """Is any byte of a packet among them?"""
    for piece in cut:
        them = spans.get(piece.key, ())
        at = bisect_left(them, (piece.end, 0)) - 1  # the last that begins before the piece ends
        if at >= 0 and them[at][1] > piece.start:
            return True
    return False
