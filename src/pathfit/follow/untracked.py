"""A reset by a host that got a packet which was not translated, though others of its connection were (pure).

NAT is connection tracking's: what that takes for no part of a connection (its numbers are outside of the window, or the
entry is gone) is not translated (nf_conntrack_in(), nf_nat_inet_fn()) and goes where its addresses lead: to the host
that translates itself, or to the client in a name that it never called. There is no socket for it there, and the reset
that answers ends the connection at its sender, who holds it still.

What shows it: the packet that was answered was at a point with the addresses of its connection; others with the same
ones were seen behind it with other addresses; this one was not, and the reset bears its own, turned round.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from pathfit.core.evidence import TraceFact
from pathfit.core.finding import Facts
from pathfit.core.followed import Sign
from pathfit.core.net import Direction, endpoint
from pathfit.core.tracing import Stop
from pathfit.follow.trails import OTHER_WAY, Sighted, Trail, Trails, moment
from pathfit.model import same
from pathfit.rules.places import place_text
from pathfit.wire import addresses
from pathfit.wire.dissect import Layer
from pathfit.wire.packets import RST, SYN, Tcp

MOST_ALIKE = 256  # packets of one connection at one point that are looked at
Ends = tuple[tuple[bytes, int], tuple[bytes, int]]
Pair = frozenset[tuple[bytes, int]]  # the same, whichever way a packet goes


class Untracked:
    """Asks of one trace; what it needs of all packets is looked up when the first question could be meant."""

    def __init__(self, them: Trails, fact: TraceFact) -> None:
        self.them, self.fact = them, fact
        self._places: dict[Direction, dict[Stop, int]] = {
            way: {stop: n for n, stop in enumerate(stops)} for way, stops in them.ways.items()
        }

    def signs(self, reset: Trail, asked: Trail) -> tuple[Sign, ...]:
        """What shows that the packet which ``reset`` answers was not translated, and why; empty: it was, or nothing
        tells. The first one names the point at which it still was as others of its connection, and the namespace
        (WHERE) that should have translated it."""
        space = self.them.space
        if not asked or not reset[0].stop.out or space(asked[-1].stop) != space(reset[0].stop):
            return ()
        source, to = _ends(reset[0].packet.layer)
        if _ends(asked[-1].packet.layer) != (to, source):
            return ()
        for one in reversed(asked):
            ends = _ends(one.packet.layer)
            turned = self._turned(one, ends, asked)
            if turned is not None:
                last, behind = one, turned
                break
        else:
            return ()
        beyond = self._place(behind)
        if any(self._place(x) >= beyond and _ends(x.packet.layer) != ends for x in asked):
            return ()  # this one was translated as well
        at = self.fact.taps[last.stop.tap].at
        where = last if not last.stop.out else behind  # in whose namespace it should have been
        facts: Facts = {"at": place_text(at), "as": _said(ends), "others": _said(_ends(behind.packet.layer))}
        facts["netns"] = self.fact.taps[where.stop.tap].at.netns
        told = [Sign(name="untranslated", facts=facts), *self._outside(asked[-1])]
        return tuple(told)

    def talk(self, one: Sighted) -> object:
        """A connection, the same one in every form that NAT gives it."""
        return self._root(frozenset(_ends(one.packet.layer)))

    # -- others of the same connection -----------------------------------------------------------------------------

    def _turned(self, one: Sighted, ends: Ends, asked: Trail) -> Sighted | None:
        """Where another packet of the same addresses at that point was seen next with other ones."""
        mine = {p for x in asked for p in x.packet.sighting.pieces}
        here = self._place(one)
        found: list[Sighted] = []
        for other in self._there.get((one.stop, one.direction, ends), ())[-MOST_ALIKE:]:
            key = _key(other)
            if key is None or mine.intersection(other.packet.sighting.pieces):
                continue
            later = self._alike.get((one.direction, key), ())
            found += [x for x in later if self._place(x) > here and _ends(x.packet.layer) != ends]
        return min(found, key=self._place, default=None)

    def _place(self, one: Sighted) -> int:
        return self._places[one.direction].get(one.stop, -1)

    @cached_property
    def _there(self) -> dict[tuple[Stop, Direction, Ends], list[Sighted]]:
        found: dict[tuple[Stop, Direction, Ends], list[Sighted]] = defaultdict(list)
        for one in self._segments():
            found[one.stop, one.direction, _ends(one.packet.layer)].append(one)
        return found

    @cached_property
    def _alike(self) -> dict[tuple[Direction, same.Piece], list[Sighted]]:
        found: dict[tuple[Direction, same.Piece], list[Sighted]] = defaultdict(list)
        for one in self._segments():
            key = _key(one)
            if key is not None:
                found[one.direction, key].append(one)
        return found

    def _segments(self) -> Iterator[Sighted]:
        for one in self.them.found:
            t = one.packet.layer.transport
            if isinstance(t, Tcp) and not t.flags & RST:
                yield one

    @cached_property
    def _by_talk(self) -> dict[tuple[Direction, object], list[Sighted]]:
        found: dict[tuple[Direction, object], list[Sighted]] = defaultdict(list)
        for one in self._segments():
            found[one.direction, self.talk(one)].append(one)
        return found

    @cached_property
    def _forms(self) -> dict[Pair, Pair]:
        """Each pair of ends, and one that the same packet had elsewhere."""
        found: dict[Pair, Pair] = {}
        for them in self._alike.values():
            first = _root(found, frozenset(_ends(them[0].packet.layer)))
            for one in them[1:]:
                other = _root(found, frozenset(_ends(one.packet.layer)))
                if other != first:
                    found[other] = first
        return found

    def _root(self, ends: Pair) -> Pair:
        return _root(self._forms, ends)

    # -- why it was not known --------------------------------------------------------------------------------------

    def _outside(self, it: Sighted) -> Iterator[Sign]:
        """Numbers by which connection tracking takes a packet for none of the connection (tcp_in_window()): beyond what
        the other side has room for, or acknowledging what it has not sent. What is too old is let pass since 6.1."""
        t = it.packet.layer.transport
        assert isinstance(t, Tcp)
        them = self._by_talk.get((OTHER_WAY[it.direction], self.talk(it)), ())
        back = [x.packet for x in them if moment(x) <= moment(it)]
        heard = [p.layer.transport for p in back if isinstance(p.layer.transport, Tcp)]
        opened = next((x for x in heard if x.flags & SYN), None)
        if opened is None:
            return  # by how much its window is multiplied is not known
        scale = 1 << min(opened.wscale or 0, 14)
        room = max((x.window if x.flags & SYN else x.window * scale for x in heard), default=0)
        known = [x.ack for x in heard if x.ack]
        if known:
            reached = max(known, key=lambda n: same.apart(n, known[0]))
            beyond = same.apart(t.seq, reached)
            if beyond > 2 * room:  # what one window more would hold is taken (an overshoot)
                yield Sign(name="outside", facts={"bytes": beyond, "room": room})
                return
        sent = [p.until for p in back]
        last = max(sent, key=lambda n: same.apart(n, sent[0]))
        if (unseen := same.apart(t.ack, last)) > 0:
            yield Sign(name="acknowledges", facts={"bytes": unseen})


def _root(forms: dict[Pair, Pair], ends: Pair) -> Pair:
    while ends in forms:
        ends = forms[ends]
    return ends


def _ends(layer: Layer) -> Ends:
    t = layer.transport
    assert isinstance(t, Tcp)
    return (layer.ip.src, t.sport), (layer.ip.dst, t.dport)


def _said(ends: Ends) -> str:
    return " > ".join(endpoint(addresses.ip(x), n) for x, n in ends)


def _key(one: Sighted) -> same.Piece | None:
    return next(iter(one.packet.sighting.pieces), None)
