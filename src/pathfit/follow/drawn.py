"""Where NAT takes connections to one of several: which of them each one was taken to (pure).

Behind the translator a packet bears the address that it was taken to; before it, the same packet is known by what
stays as it is (:mod:`pathfit.model.same`). A connection of which nothing was seen behind it, nor dropped there, is of
none: what is known of its way ends where the choice is made.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

from pathfit.core.evidence import TraceFact
from pathfit.core.request import Watch
from pathfit.model import same
from pathfit.model.same import Key, Piece
from pathfit.wire import dissect
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import Icmp, Tcp, is_error, parse_ip, parse_ports

Talk = frozenset[tuple[bytes, int]]  # both ends, by address and port


class _Sighting(Protocol):
    @property
    def pieces(self) -> tuple[Piece, ...]: ...


class Sighted(Protocol):
    """A packet that was seen."""

    @property
    def layer(self) -> Layer: ...
    @property
    def sighting(self) -> _Sighting: ...


def talk(layer: Layer) -> Talk:
    """The connection that a packet, or the one that an ICMP error is about, belongs to as it is there; none: empty."""
    t = layer.transport
    if isinstance(t, Tcp | Udp):
        return frozenset(((layer.ip.src, t.sport), (layer.ip.dst, t.dport)))
    if isinstance(t, Icmp) and is_error(layer.ip.family, t.type):
        ip = parse_ip(t.quoted)
        ports = parse_ports(t.quoted, ip.at) if ip is not None else None
        if ip is not None and ports is not None:
            return frozenset(((ip.src, ports[0]), (ip.dst, ports[1])))
    return frozenset()


class Taken:
    """Which of ``watch.branches`` packets were taken to. Who begins anew, for his first SYN was dropped, may be taken
    elsewhere (a connection is remembered once its first packet has passed): what a packet itself tells goes first."""

    def __init__(self, watch: Watch, fact: TraceFact, packets: Iterable[Sighted]) -> None:
        self._ends = {(dissect.packed(b.address), b.port): n for n, b in enumerate(watch.branches)}
        self._behind: dict[tuple[Key, int], int] = {}
        self._talks: dict[Talk, int] = {}
        others: dict[Talk, set[tuple[Key, int]]] = defaultdict(set)
        for layer, pieces in (*((p.layer, p.sighting.pieces) for p in packets), *_dropped(fact, watch)):
            mine, here = talk(layer), {(piece.key, piece.start) for piece in pieces}
            n = self._end(mine)
            if n is None:
                others[mine] |= here
            else:
                self._behind |= dict.fromkeys(here, n)
        others.pop(frozenset(), None)  # of no connection, as echoes are
        for mine, here in others.items():
            n = self._said(here)
            if n is not None:
                self._talks[mine] = n

    def of(self, packet: Sighted) -> int | None:
        """A place in ``watch.branches``; None: to none of them, as far as was seen."""
        mine = talk(packet.layer)
        found = (self._end(mine), self._said((x.key, x.start) for x in packet.sighting.pieces), self._talks.get(mine))
        return next((n for n in found if n is not None), None)

    def _end(self, mine: Talk) -> int | None:
        return next((self._ends[end] for end in mine if end in self._ends), None)

    def _said(self, here: Iterable[tuple[Key, int]]) -> int | None:
        said = Counter(self._behind[x] for x in here if x in self._behind).most_common(1)
        return said[0][0] if said else None


def _dropped(fact: TraceFact, watch: Watch) -> Iterator[tuple[Layer, tuple[Piece, ...]]]:
    """What was dropped behind the translator before any point there."""
    for drop in fact.dropped:
        inner = dissect.packet(drop.data, watch.tunnels or dissect.VXLAN_PORTS).inner
        if inner is not None:
            yield inner, same.pieces(drop.data, inner, drop.length)
