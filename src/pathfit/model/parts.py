"""Fragments of what wraps a packet, and of a segment: which bytes of the packet within each of them carries.

A tunnel's packet that is cut shows the packet within it, and its ports, in the first fragment alone; so does a TCP
segment that a router cuts. A later one is known by what it has in common with the first: addresses, protocol,
identification (RFC 791, RFC 8200 4.5). Both are then seen as the ranges of bytes that they carry, as if the packet had
been cut itself. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pathfit.model.same import WRAP, Piece, covers, pieces
from pathfit.wire.dissect import Layer
from pathfit.wire.packets import Tcp

Id = tuple[bytes, bytes, int, int]
LONGEST = 1_000_000_000  # nanoseconds between fragments of one packet; identifications come again


class First(NamedTuple):
    """A first fragment. ``layer``: the packet of the flow that begins in it; ``whole``: its pieces, as if all of it
    were here; ``base``: where in the frame the cut packet's payload starts; ``size``: how much of it is here;
    ``alone``: it is a segment that was cut itself, and how long it was is only known by its last fragment."""

    id: Id
    layer: Layer
    whole: tuple[Piece, ...]
    base: int
    size: int
    alone: bool = False

    def known(self, others: Iterable[Layer]) -> "First | None":
        """With all that its later fragments say of it; None when its last one is not there."""
        if not self.alone:
            return self
        ends = [x.ip.fragment + x.ip.size - x.ip.at for x in others if not x.ip.more]
        ip = self.layer.ip
        layer = self.layer._replace(ip=ip._replace(size=ip.at + max(ends, default=0)))
        return self._replace(layer=layer, whole=pieces(b"", layer, 0)) if ends else None

    def here(self) -> tuple[Piece, ...]:
        """What of the packet this fragment carries."""
        return self.between(0, self.size)

    def of(self, later: Layer) -> tuple[Piece, ...]:
        """What a later fragment of the same carries."""
        return self.between(later.ip.fragment, later.ip.fragment + max(later.ip.size - later.ip.at, 0))

    def complete(self, others: Iterable[Layer]) -> bool:
        """Is all of it here, together with those later fragments? Otherwise nobody can put it together."""
        others = tuple(others)
        it = self.known(others)
        there = [piece for part in (it.here(), *map(it.of, others)) for piece in part] if it is not None else []
        return it is not None and all(covers(there, piece) for piece in it.whole)

    def between(self, start: int, end: int) -> tuple[Piece, ...]:
        found = (self._cut(piece, start, end) for piece in self.whole)
        return tuple(piece for piece in found if piece is not None)

    def _cut(self, piece: Piece, start: int, end: int) -> Piece | None:
        layer, transport = self.layer, self.layer.transport
        if isinstance(transport, Tcp):
            if piece.key[-1] != "data":  # a flag, or that there is nothing: its header says so
                return piece if start == 0 else None
            at = layer.payload - self.base + (piece.start - transport.seq) % WRAP
        else:
            at = layer.at + layer.ip.at - self.base + piece.start - layer.ip.fragment
        first, last = max(start, at), min(end, at + piece.end - piece.start)
        return Piece(piece.key, piece.start + first - at, piece.start + last - at) if first < last else None


def identity(layer: Layer) -> Id:
    """What all fragments of one packet have in common, and no other packet has meanwhile."""
    return layer.ip.src, layer.ip.dst, layer.ip.protocol, layer.ip.ident


def first(layers: Sequence[Layer], layer: Layer, whole: tuple[Piece, ...]) -> First | None:
    """``layer`` begins in a first fragment: of what wraps it, or of itself where it is a segment. None: it does not."""
    for outer in layers:
        within = outer is not layer
        if outer.ip.more and not outer.ip.fragment and (within or isinstance(layer.transport, Tcp)):
            base = outer.at + outer.ip.at
            return First(identity(outer), layer, whole, base, max(outer.ip.size - outer.ip.at, 0), not within)
        if not within:
            break
    return None


def later(layers: Sequence[Layer]) -> Layer | None:
    """The layer that is a later fragment; nothing is seen behind it."""
    return layers[-1] if layers and layers[-1].ip.fragment else None
