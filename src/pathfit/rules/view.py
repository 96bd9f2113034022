"""A convenient face of the evidence, for rules and remedies (pure).

A :class:`View` answers the questions rules ask: where do we stand, what did the asked client meet, what passes in
each direction, what does state predict. Everything is computed from one :class:`~pathfit.core.case.Case`, on
demand, once. Whatever is not known is None or empty; no property raises.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import msgspec

from pathfit.core.case import Case
from pathfit.core.evidence import (
    PlaceFact,
    ProbeResult,
)
from pathfit.core.filters import Chain, Table
from pathfit.core.followed import Followed
from pathfit.core.measured import Attempt, Bracket, Contact
from pathfit.core.net import Direction, Point
from pathfit.core.path import Encap, Fate, Filtered, Limit, Predicted
from pathfit.core.request import Measure, Watch
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.core.sockets import Socket
from pathfit.rules import forecast, promises
from pathfit.rules.held import Held, first
from pathfit.rules.places import exits
from pathfit.rules.tables import drops_too_big

E = TypeVar("E")
NOTHING = Bracket(method="none", tests="both", note="note.not-measured")
PROVEN = ("proof", "step")
DIRECTIONS: tuple[Direction, Direction] = ("reverse", "forward")
LOOK_AGAIN = "look:again"  # the request that shows a loss once more, before taps (rules/unsettled.py)
SAID = {"reverse": "inbound", "forward": "outbound"}
PASSING = {Fate.DELIVERED, Fate.UNKNOWN, Fate.FRAGMENTED, Fate.TOO_BIG_TOLD, Fate.TOO_BIG_SILENT, Fate.LOOP}
"""Fates after which a small packet may still arrive, as far as we know."""
MODEL = "model"  # stands for the prediction among the crashes
ESTABLISHED = 1  # TCP_ESTABLISHED, include/net/tcp_states.h


class Hole(msgspec.Struct, frozen=True):
    """A size from which packets vanish in one direction, as measured: ``passes`` arrive, ``fails`` do not (bytes).

    ``grade`` "told": somebody says "too big" to us, and our own namespace takes the message away.
    """

    direction: Direction
    passes: int
    fails: int
    promised: int | None
    grade: str
    method: str
    ref: str


class View(Held, frozen=True, dict=True):
    """See the module. ``crashes``: (code, error) of rules that raised, filled in by diagnose.py. ``asking``: the
    address to look at before any was measured; ``given``: the prediction, where it was made of several hosts;
    ``seen``: what taps saw, where the loss was shown once more (:mod:`~pathfit.rules.unsettled`)."""

    crashes: tuple[tuple[str, str], ...] = ()
    asking: str = ""
    given: tuple[Predicted | None, Predicted | None] | None = None
    seen: Followed | None = None

    @staticmethod
    def of(case: Case) -> "View":
        return View(case)

    def crashed(self, code: str, error: BaseException) -> "View":
        text = f"{type(error).__name__}: {error}"
        return msgspec.structs.replace(self, crashes=(*self.crashes, (code, text[:200])))

    # -- the question and the places ----------------------------------------------------------------------------

    @cached_property
    def target(self) -> NetnsSnapshot | None:
        """The target's namespace, when it is one we can see: asked for by WHERE, or holding the address."""
        asked = self.case.one("target", PlaceFact)
        if asked is not None:
            return next((n for n in self.namespaces if n.id == asked.netns), None)
        address = self.arrives_at
        holders = [n for n in self.namespaces if any(a.address == address for a in n.addresses)]
        way = self.predicted_forward
        if way is None or not way.complete or not way.hops:
            return None
        return next((n for n in holders if n.where == way.hops[-1].where.netns), None)

    @property
    def arrives_at(self) -> str:
        """The target's address after NAT, as far as we can see."""
        way = self.predicted_forward
        return way.final.dst if way and way.final else self.address

    @cached_property
    def source_link(self) -> Link | None:
        """The device by which the asked flow leaves the source."""
        if self.source is None:
            return None
        way = self.predicted_forward
        name = next((p.link for p in exits(way) if p.netns == self.source.where), None) if way else None
        links = [x for x in self.source.links if not x.loopback]
        if name is None and len(links) != 1:
            return None
        return next((x for x in links if name is None or x.name == name), None)

    @property
    def source_point(self) -> Point:
        where = self.source.where if self.source else self.ask.source
        return Point(host=self.host, netns=where, link=self.source_link.name if self.source_link else None)

    @property
    def edge(self) -> Point:
        """The last place we can see on the way out; what lies beyond is known from measurement alone."""
        way = self.predicted_forward
        if way is not None and way.ends is not None:
            return way.ends
        left_by = list(exits(way))
        return left_by[-1] if left_by else self.source_point

    def link_at(self, at: Point) -> Link | None:
        """The device of a place on this host."""
        ns = self.namespace(at.netns) if at.host == self.host else None
        return next((x for x in ns.links if x.name == at.link), None) if ns is not None else None

    # -- what was measured --------------------------------------------------------------------------------------

    @cached_property
    def probe(self) -> ProbeResult | None:
        """The path the asked client would take: the first address that answers, else the first."""
        return next((p for p in self.probes if p.contact.tcp in ("ok", "n/a")), first(self.probes))

    @property
    def contact(self) -> Contact | None:
        return self.probe.contact if self.probe else None

    @property
    def ref(self) -> str:
        """Evidence id of the measurement (of the state when nothing was measured)."""
        return self.probe.ref if self.probe else self.state_ref

    @property
    def address(self) -> str:
        if self.asking:
            return self.asking
        if self.contact is not None:
            return self.contact.address
        measure = next((x.request for x in self.case.exchanges if isinstance(x.request, Measure | Watch)), None)
        names = [a for n in self.names for a in n.addresses]
        return measure.address if measure else names[0] if names else self.ask.target.host

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4

    @property
    def port(self) -> int:
        return self.contact.port if self.contact and self.contact.port else self.ask.target.port

    @property
    def measured_tcp(self) -> bool:
        """The asked client's TCP connection was tried."""
        return self.contact is not None and self.contact.tcp != "n/a"

    @property
    def connects(self) -> bool:
        return self.contact is not None and "ok" in (self.contact.tcp, self.contact.udp)

    @property
    def fails_to_connect(self) -> bool:
        return self.contact is not None and not {self.contact.tcp, self.contact.udp} <= {"ok", "n/a"}

    @property
    def torn_down(self) -> bool:
        """A reset ended the asked connection, in its handshake or later, before it had its answer."""
        c = self.contact
        if c is None or c.http.isdigit():
            return False  # some servers close with a reset when all is said
        if c.alert_kind == "alert":
            return False  # it said why, in TLS; that it then hung up without reading on is no news
        return c.tcp in ("refused", "reset") or c.rst_phase is not None

    def tried(self, direction: Direction) -> tuple[Bracket, ...]:
        """All brackets of a direction, best first."""
        if self.probe is None:
            return ()
        return self.probe.forward if direction == "forward" else self.probe.reverse

    def bracket(self, direction: Direction) -> Bracket:
        """The best bracket of a direction; NOTHING when none."""
        return first(self.tried(direction)) or NOTHING

    def promised(self, direction: Direction) -> int | None:
        """Largest IP packet that TCP may put on the wire in that direction, bytes; None when not known."""
        return promises.promise(self.contact, direction) if self.contact is not None else None

    def hole(self, direction: Direction) -> Hole | None:
        """The hole measurement proves in that direction: repeated, with a smaller size passing, within the promise."""
        b = self.bracket(direction)
        promised = self.promised(direction)
        if self.probe is None or b.passes is None or b.fails is None:
            return None
        deaf = (direction == "forward" and self.deaf) or promises.deaf(self.probe, direction, b.method)
        if b.grade not in PROVEN and not (b.grade == "told" and deaf):
            return None
        if promised is not None and b.fails > promised:
            return None  # nobody sends such packets here: masked, no fault of TCP
        spread = self.probe.uneven
        apart = spread is not None and spread.tests == direction and spread.good > 0 and spread.bad > 0
        if spread is not None and apart and b.fails <= spread.size:
            return None  # some flows of that size pass: uneven paths, not one hole
        return Hole(direction, b.passes, b.fails, promised, b.grade, b.method, self.probe.ref)

    @cached_property
    def hole_in(self) -> Hole | None:
        return self.hole("reverse")

    @cached_property
    def hole_out(self) -> Hole | None:
        return self.hole("forward")

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(h for h in (self.hole_in, self.hole_out) if h is not None)

    @cached_property
    def deaf(self) -> tuple[Table, Chain] | None:
        """The chain of the source's own filters that takes every "too big" away before TCP hears it."""
        return drops_too_big(self.source, self.family)

    def told(self, direction: Direction) -> int | None:
        """The size up to which packets pass because "too big" taught the sender; None when that did not happen."""
        b = self.bracket(direction)
        promised = self.promised(direction)
        if self.hole(direction) is not None:
            return None
        size = b.told_mtu or b.passes
        if b.grade != "told" or size is None or (promised is not None and size >= promised):
            return None
        return size

    def carries(self, direction: Direction) -> bool | None:
        """Does the direction carry all that the ends promise each other? None when measurement cannot say."""
        b = self.bracket(direction)
        if self.hole(direction) is not None:
            return False
        if b.passes is None:
            return None
        promised = self.promised(direction)
        if promised is not None and (b.passes >= promised or (b.fails is not None and b.fails > promised)):
            return True
        # Below the promise only a proof counts: a clamp or a sender that was told, nothing missing on the way. What we
        # send ourselves is as large as we choose: out of larger packets that were not tried, nothing follows.
        mine = self.contact.sendable if self.contact is not None else None  # the peer's window may be that small
        whole = direction == "reverse" or (mine is not None and b.passes >= mine)
        kept_small = whole and b.grade in PROVEN and b.fails is None
        return True if b.grade == "told" or kept_small else None

    def attempts(
        self, method: str, outcome: tuple[str, ...], size: int | None = None, tests: str = ""
    ) -> tuple[Attempt, ...]:
        """Connections or packets of a method that ended in one of ``outcome`` (of one size, in one direction)."""
        found = self.probe.attempts if self.probe else ()
        return tuple(promises.attempts(found, method, outcome, size, tests))

    # -- sockets, counters, names -------------------------------------------------------------------------------

    @cached_property
    def sockets(self) -> tuple[Socket, ...]:
        """Established sockets of the source towards the asked address and port: those that hung before we sent
        anything, and (when nothing answered us) those that hang beside ours, such as the far half of a local proxy."""
        wanted = {a for n in self.names for a in n.addresses} | {self.address}
        here = (self.ask.source, *((self.place.where,) if self.place else ()), "")
        return tuple(
            s
            for fact in self.socket_facts
            if fact.where in here
            for s in fact.sockets
            if s.state == ESTABLISHED and s.dst in wanted and s.dport == self.port and s.info is not None
        )

    @cached_property
    def target_sockets(self) -> tuple[tuple[str, Socket], ...]:
        """(ref, socket) on the target's side of the asked port; empty when its namespace was not read."""
        target = self.target
        if target is None:
            return ()
        there = (target.where, *target.names)
        return tuple(
            (f.ref, s) for f in self.socket_facts if f.where in there for s in f.sockets if s.sport == self.port
        )

    # -- what state predicts ------------------------------------------------------------------------------------

    @cached_property
    def predicted(self) -> tuple[Predicted | None, Predicted | None]:
        """(forward, reverse) of a full-sized packet of the asked flow; None when it cannot be walked."""
        return self.given or self.forecast(None)

    def forecast(self, size: int | None) -> tuple[Predicted | None, Predicted | None]:
        """The same for packets of ``size`` bytes; nothing when the model itself ended in an error before."""
        broken = any(code == MODEL for code, _ in self.crashes)
        if self.state is None or self.source is None or not self.address or broken:
            return None, None
        protocol: str = self.ask.target.protocol
        if promises.any_traffic(self.ask):  # what our own packets were, or will be
            protocol = self.contact.protocol if self.contact is not None else "udp"
        return forecast.both(self.state, self.source.id, self.address, self.port, protocol, size=size)

    @property
    def predicted_forward(self) -> Predicted | None:
        return self.predicted[0]

    @property
    def predicted_reverse(self) -> Predicted | None:
        return self.predicted[1]

    def way(self, direction: Direction) -> Predicted | None:
        return self.predicted[0] if direction == "forward" else self.predicted[1]

    @cached_property
    def on_way(self) -> frozenset[str]:
        """WHEREs of the namespaces that the asked flow passes, as far as we can see."""
        hops = {h.where.netns for way in self.predicted if way is not None for h in way.hops}
        ends = {way.ends.netns for way in self.predicted if way is not None and way.ends is not None}
        return frozenset(hops | ends | ({self.source.where} if self.source else set()))

    def limits(self, direction: Direction) -> tuple[Limit, ...]:
        way = self.way(direction)
        return way.limits if way is not None else ()

    def limit_of(self, hole: Hole) -> Limit | None:
        """The visible place whose limit is exactly what was measured."""
        return next((x for x in self.limits(hole.direction) if x.mtu == hole.passes and x.then != "pass-gso"), None)

    def large_filtered(self) -> Iterator[tuple[Direction, Filtered]]:
        """Rules that take only the large packets of a direction."""
        for direction in ("forward", "reverse"):
            way = self.way(direction)
            if way is None or way.fate not in (Fate.DELIVERED, Fate.UNKNOWN) or way.large != Fate.FILTERED:
                continue
            if isinstance(way.culprit, Filtered):
                yield direction, way.culprit

    def ended(self, *fates: Fate) -> Iterator[tuple[Direction, Predicted]]:
        """Directions in which state says that any packet ends so.

        The way back, where its first part is out of sight, is walked inward from where our view ends. That it comes
        in there is then an assumption: good enough for a filter in its way, not for anything that hangs on routing,
        and not for what travels inside a tunnel we see one end of.
        """
        for direction in ("forward", "reverse"):
            way = self.way(direction)
            if way is None or way.fate not in fates:
                continue
            if self.certain(direction) or (way.fate == Fate.FILTERED and not self._tunnelled):
                yield direction, way

    @property
    def explained(self) -> bool:
        """Does state say why nothing passes? Then what was only heard (an ICMP, an errno) adds no second fault."""
        return any(self.ended(*set(Fate) - PASSING))

    def certain(self, direction: Direction) -> bool:
        """Is the way of that direction seen from its beginning?"""
        way = self.way(direction)
        return way is not None and (direction == "forward" or way.complete)

    @property
    def _tunnelled(self) -> bool:
        way = self.predicted_forward
        return way is not None and any(isinstance(s, Encap) for h in way.hops for s in h.steps)
