"""Who made a reset, or an ICMP error? By which taps saw it, then by the kernel's word, then by its looks.

A packet is followed back to the tap that saw it first. It left by a device there: that namespace made it, or handed on
what came in where nobody looked; it came in there: it is from beyond, or from where another tap should have seen it. A
tap at the device of the host whose address it bears, which has not seen it, proves that this host did not send it. A
namespace that has that address, and by whose device it left first, has made it. So does the packet that was answered
tell: where it came in and went no further, there it was answered, and what the kernel said when it freed it (no socket,
a filter) tells by whom.

Only where taps leave it open its looks are asked (:mod:`pathfit.follow.prints`); what they say is never "confirmed".
Pure.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

from pathfit.core.evidence import TraceFact
from pathfit.core.finding import Confidence
from pathfit.core.followed import Origin, Sign
from pathfit.core.net import Direction, Point
from pathfit.core.report import Report
from pathfit.core.request import Watch
from pathfit.core.tracing import Stop, inode, unnamed
from pathfit.follow import prints
from pathfit.follow.seen import EARLY, Packet
from pathfit.follow.trails import Kind, Sighted, Trail, Trails, moment, talk
from pathfit.follow.untracked import Untracked
from pathfit.model import same
from pathfit.model.network import TUNNELS, Network
from pathfit.rules.places import place_text
from pathfit.wire import addresses, dissect
from pathfit.wire.packets import ACK, RST, Icmp, Tcp, is_error

MOST = 8  # answers that are told apart in a report
SOON = 1_000_000  # nanoseconds between an answer and the kernel's freeing what was answered
INGRESS = ("nft_do_chain_netdev", "nf_ingress", "nf_hook_ingress")  # filters of a device: they seldom answer
KERNEL = {"closed": "kernel-closed", "filtered": "kernel-filtered"}  # why it freed a packet, as a sign
By = Literal["end", "filter", "tunnel", "other", "unknown"]


class Judged(NamedTuple):
    by: By
    confidence: Confidence
    made: Point | None = None
    unseen: tuple[Point, ...] = ()
    signs: tuple[Sign, ...] = ()


def answers(
    found: Sequence[Sighted], fact: TraceFact, watch: Watch, network: Network | None, report: Report
) -> tuple[Origin, ...]:
    """Who made the resets and ICMP errors among what was seen; ``found``: all packets of the flow at all taps. What the
    asking host itself resets is its own business, and left out."""
    them = Trails(found, fact, watch)
    it = _Origins(them, fact, watch, network)
    alike: dict[tuple[object, ...], list[Origin]] = defaultdict(list)
    over, ending = them.closed(), set[tuple[object, ...]]()
    killed: dict[object, int] = {}  # connections that a packet without translation has ended, and when
    for kind, trail in them.trails():
        one = it.origin(kind, trail)
        if kind == "reset":
            one = it.untranslated(trail, one)
            if one.code:
                killed.setdefault(it.strays.talk(trail[0]), moment(trail[0]))
        if one.code or one.direction == "reverse" or one.by != "end" or kind != "reset":
            ports = talk(trail[-1])
            ends = moment(trail[-1]) <= over.get(ports, moment(trail[-1]))  # what comes later has ended nothing
            if killed and not one.code and kind == "reset":
                ends = ends and moment(trail[0]) <= killed.get(it.strays.talk(trail[0]), moment(trail[0]))
            if kind == "reset":
                over[ports] = min(over.get(ports, moment(trail[0])), moment(trail[0]))
            who = (one.claims, one.by, one.confidence, one.made, one.first, one.code)
            key = (kind, one.direction, one.phase, one.mtu, *who)
            alike[key].append(one)
            if ends:
                ending.add(key)
    every = [_coded(_together(them), report) if key in ending else _together(them) for key, them in alike.items()]
    every.sort(key=lambda x: (not x.code, x.by == "end", x.by == "unknown", -x.count))
    return tuple(every[:MOST])


def _together(them: Sequence[Origin]) -> Origin:
    most = max(them, key=lambda x: len(x.signs))
    numbers = tuple(n for x in them for n in x.numbers)
    return msgspec.structs.replace(most, count=sum(x.count for x in them), numbers=numbers)


def _coded(one: Origin, report: Report) -> Origin:
    """With the fault that it is, as far as the report says that something failed.

    Who was the right one to answer (RST203) only tables and snapshots tell, and the report has read them: a host that
    has the address, and made the reset, may still be the wrong one.
    """
    if one.code:
        return one
    told = next((f for f in report.findings if f.code in ("RST201", "RST202", "RST203")), None)
    if one.kind != "reset" or one.direction != "reverse" or told is None:
        return one
    if told.code == "RST203" and one.by != "filter":
        return msgspec.structs.replace(one, code="RST203", because=told.because)
    ruled = told.code == "RST202" and told.facts.get("case") == "rule" and any(_at(p, one.made) for p in told.where)
    if one.by == "unknown":
        return one
    silent = not any(x.name.startswith("kernel-") for x in one.signs)  # then the rule that state shows is believed
    code = "RST202" if one.by in ("filter", "other", "tunnel") or (ruled and silent) else "RST201"
    because = told.because if told.code == code else ()
    by: By = "filter" if ruled and silent else one.by
    return msgspec.structs.replace(one, code=code, because=because, by=by)


def _at(point: Point, made: Point | None) -> bool:
    return made is not None and (point.host, point.netns) == (made.host, made.netns)


class _Origins:
    def __init__(self, them: Trails, fact: TraceFact, watch: Watch, network: Network | None) -> None:
        self.them, self.fact, self.network = them, fact, network
        self.flow, self.found, self.ways = them.flow, them.found, them.ways
        every = set(range(len(fact.taps)))
        self.strays = Untracked(them, fact)
        self._known: dict[tuple[int, Direction, bytes], prints.Known] = {}
        self.deaf = every if fact.cut else {x.tap for x in fact.lost} | (every - set(fact.opened))

    def untranslated(self, trail: Trail, one: Origin) -> Origin:
        """With its code (RST204) where the host that made it should never have got what it answers."""
        if one.by != "end" or one.confidence != "confirmed":
            return one
        found = self.strays.signs(trail, self.them.asked(trail[0]))
        if not found or any(x.name == "kernel-filtered" for x in one.signs):
            return one
        return msgspec.structs.replace(one, code="RST204", signs=(*found, *one.signs), unseen=())

    def origin(self, kind: Kind, trail: Trail) -> Origin:
        first = trail[0]
        asked = self.them.asked(first)
        it = self._judged(trail, asked)
        t = first.packet.layer.transport
        return Origin(
            kind=kind,
            direction=first.direction,
            claims=addresses.ip(first.packet.layer.ip.src),
            by=it.by,
            confidence=it.confidence,
            phase=_phase(t) if isinstance(t, Tcp) else "",
            made=it.made,
            first=self.fact.taps[first.stop.tap].at,
            unseen=it.unseen,
            mtu=t.mtu if isinstance(t, Icmp) else None,
            count=sum(x.stop == first.stop for x in trail),
            signs=it.signs,
            numbers=tuple(x.packet.number for x in trail),
        )

    # -- by taps -------------------------------------------------------------------------------------------------

    def _judged(self, trail: Trail, asked: Trail) -> Judged:
        first = trail[0]
        space = self.them.space(first.stop)
        owners = self._owners(first.packet.layer.ip.src)
        unseen = self._unseen(trail, owners)
        apart = tuple(dict.fromkeys(self.fact.taps[s.tap].at for s in unseen))
        told = self._told(first, asked)
        here = self._at(first.stop)
        if first.stop.out and space in owners:
            by: By = "filter" if any(x.name == "kernel-filtered" for x in told) else "end"
            return Judged(by, "confirmed", here, self._silent(owners - {space}, trail), told)
        ended = self._ended(asked, space)
        if first.stop.out and (told or ended or any(self.them.space(s) == space for s in unseen)):
            filtered = any(x.name == "kernel-filtered" for x in told)
            more = (*told, *(self._stopped(asked) if ended else ()))
            return Judged("filter" if filtered else "other", "confirmed", here, apart, more)
        tunnel = self._tunnel(first.stop, asked)
        if tunnel is not None:
            return Judged("tunnel", "confirmed", tunnel, apart, told)
        if not first.stop.out and any(x.name == "kernel-filtered" for x in told):
            unknown = Point(host=here.host, netns=str(told[0].facts["place"]))
            return Judged("filter", "confirmed", unknown, apart, told)
        if apart and (self._sender_silent(owners, unseen) or not first.stop.out):
            return Judged("other", "confirmed", None, apart, told)
        return self._by_looks(first, asked, told)

    def _unseen(self, trail: Trail, owners: set[str]) -> list[Stop]:
        """Points between the host whose address it bears and where it was seen first, which it did not pass."""
        first = trail[0].stop
        passed = {x.stop for x in trail}
        way = self.ways[trail[0].direction]
        before = way[: way.index(first)] if first in way else ()
        found = [s for s in before if s.tap not in self.deaf and s not in passed and self._used(s, trail[0])]
        if self.them.space(first) not in owners:
            # What leaves an owner's device has not left here. It may have several: all of them are looked at, or none.
            there = [Stop(n, True) for n, tap in enumerate(self.fact.taps) if tap.netns in owners]
            if there and not self.deaf.intersection(s.tap for s in there) and self._all_devices(owners):
                found += [s for s in there if s not in passed and s not in found]
        return found

    def _silent(self, owners: set[str], trail: Trail) -> tuple[Point, ...]:
        """Devices of others who have the address as well, by which it did not go."""
        passed = {x.stop for x in trail}
        there = [n for n, tap in enumerate(self.fact.taps) if tap.netns in owners and n not in self.deaf]
        return tuple(self.fact.taps[n].at for n in there if Stop(n, True) not in passed)

    def _used(self, stop: Stop, first: Sighted) -> bool:
        """Do packets of that host pass there at all? A way that was predicted and is not taken proves nothing, except
        where it begins, at the host's own device."""
        address = first.packet.layer.ip.src
        if stop == self.ways[first.direction][0] and stop.out:
            return True
        return (stop, address) in self._passing

    @cached_property
    def _passing(self) -> frozenset[tuple[Stop, bytes]]:
        """Where packets of whom were seen. There may be a hundred thousand, and hundreds of resets ask."""
        return frozenset((x.stop, x.packet.layer.ip.src) for x in self.found)

    def _all_devices(self, owners: set[str]) -> bool:
        """Is every device watched by which a namespace with that address could send?"""
        watched = {(tap.netns, tap.link) for tap in self.fact.taps}
        nets = [n for n in self.network.nets.values() if n.snap.id in owners] if self.network is not None else []
        links = [(n.snap.id, x.index) for n in nets for x in n.snap.links if x.up and not x.loopback]
        return bool(links) and watched.issuperset(links)

    def _sender_silent(self, owners: set[str], unseen: Sequence[Stop]) -> bool:
        return any(self.them.space(s) in owners for s in unseen)

    def _tunnel(self, first: Stop, asked: Trail) -> Point | None:
        """The tunnel that took a packet and answered it: the answer comes out of the device that the packet went into
        (iptunnel_pmtud_build_icmp(), vxlan_encap_bypass())."""
        tap = self.fact.taps[first.tap]
        net = self.network.find(tap.netns) if self.network is not None else None
        link = net.links.get(tap.link) if net is not None else None
        tunnel = link is not None and (link.kind == "vxlan" or link.kind in TUNNELS)
        return tap.at if tunnel and not first.out and asked and asked[-1].stop == Stop(first.tap, True) else None

    def _at(self, stop: Stop) -> Point:
        at = self.fact.taps[stop.tap].at
        return Point(host=at.host, netns=at.netns)

    def _owners(self, address: bytes) -> set[str]:
        them = self.network.owners(addresses.ip(address)) if self.network is not None else ()
        return {net.snap.id for net, _ in them}

    # -- by what was answered ------------------------------------------------------------------------------------

    def _ended(self, asked: Trail, space: str) -> bool:
        """Did the packet that was answered come into this namespace, and not leave it by the device that it should have
        left by, which was watched?"""
        if not asked or self.them.space(asked[-1].stop) != space:
            return False
        way, last = self.ways[asked[-1].direction], asked[-1].stop
        behind = way[way.index(last) + 1 :] if last in way else ()
        return any(self.them.space(s) == space and s.out and s.tap not in self.deaf for s in behind)

    def _stopped(self, asked: Trail) -> Iterator[Sign]:
        last = self.fact.taps[asked[-1].stop.tap].at
        yield Sign(name="stopped", says="other", facts={"place": place_text(last)})

    @cached_property
    def _freed(self) -> dict[same.Key, list[tuple[int, str, int]]]:
        """(when, why, inode of the namespace) of what the kernel freed."""
        found: dict[same.Key, list[tuple[int, str, int]]] = defaultdict(list)
        for drop in self.fact.dropped:
            answered = drop.word in ("closed", "filtered") and not set(drop.callers).intersection(INGRESS)
            inner = dissect.packet(drop.data, self.flow.tunnels).inner if answered else None
            for piece in same.pieces(drop.data, inner, drop.length) if inner is not None else ():
                found[piece.key].append((drop.time, drop.word, drop.netns))
        return found

    def _told(self, first: Sighted, asked: Trail) -> tuple[Sign, ...]:
        """What the kernel said when it freed the packet that was answered: in the namespace the answer left by, or, of
        an answer that came in from where nobody looked, in one that is not watched."""
        tap = self.fact.taps[first.stop.tap]
        watched = {inode(t.netns) for t in self.fact.taps}
        for key in {p.key for x in asked[-1:] for p in x.packet.sighting.pieces}:
            for time, word, number in self._freed.get(key, ()):
                mine = inode(tap.netns) == number if first.stop.out else number and number not in watched
                if mine and time >= moment(asked[-1]) - EARLY and abs(time - moment(first)) <= SOON:
                    says: Literal["end", ""] = "end" if word == "closed" else ""
                    place = place_text(self._at(first.stop)) if first.stop.out else unnamed(number)
                    return (Sign(name=KERNEL[word], says=says, facts={"place": place}),)
        return ()

    # -- by its looks --------------------------------------------------------------------------------------------

    def _by_looks(self, first: Sighted, asked: Trail, told: tuple[Sign, ...]) -> Judged:
        there = first.stop.tap
        when = next((moment(x) for x in asked if x.stop.tap == there), None)
        known = self._beside(there, first.direction, first.packet.layer.ip.src)._replace(asked=when)
        found = (*told, *prints.signs(first.packet, known))
        says = prints.verdict(found)
        by: By = "end" if says == "end" else "other" if says == "other" else "unknown"
        return Judged(by, "likely" if says else "possible", None, (), found)

    def _beside(self, tap: int, direction: Direction, address: bytes) -> prints.Known:
        """What else passed a tap: of that host, but resets and errors; and the other way."""
        key = (tap, direction, address)
        if key not in self._known:
            theirs: list[Packet] = []
            ours: list[Packet] = []
            for x in self.them.others:
                t = x.packet.layer.transport
                error = isinstance(t, Icmp) and is_error(x.packet.layer.ip.family, t.type)
                if x.stop.tap != tap or error:
                    continue
                if x.direction != direction:
                    ours.append(x.packet)
                elif x.packet.layer.ip.src == address and not (isinstance(t, Tcp) and t.flags & RST):
                    theirs.append(x.packet)
            theirs.sort(key=lambda p: p.sighting.time)
            ours.sort(key=lambda p: p.sighting.time)
            self._known[key] = prints.Known(theirs, ours, None)
        return self._known[key]


def _phase(t: Tcp) -> Literal["syn", "later"]:
    """Who refuses a SYN has no number of its own yet (RFC 9293 section 3.10.7.1)."""
    return "syn" if t.flags & ACK and t.seq == 0 else "later"
