"""What snapshots of other hosts add to a path that fails: who is at its far end, and what of theirs explains it.

A snapshot is a stranger's word, and says how things *were*. So it never adds a fault of its own and never changes a
verdict: what it shows is a cause, a warning at most, beside what was measured, with the snapshot's age. The one
exception is who answered (RST203, :mod:`pathfit.rules.wronghost`): there it tells who was behind a reset that was
measured.
"""

from collections.abc import Iterator, Sequence

import msgspec

from pathfit.core.evidence import OtherHost
from pathfit.core.finding import EvidenceLine, Finding
from pathfit.core.net import TCP, Flow
from pathfit.core.path import Encap, Fate, Hop
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.addr import within
from pathfit.model.network import Net, Network, lazy, machines
from pathfit.model.walk import predict
from pathfit.rules.base import line
from pathfit.rules.state import overlays
from pathfit.rules.state.fleet import Digest, Fleet, Segment, digest
from pathfit.rules.state.machine import Machine
from pathfit.rules.state.overlays import Home
from pathfit.rules.view import View

REF = "others"  # evidence id of the snapshots
FRESH = overlays.APART  # seconds: an older snapshot proves nothing about now
CODES = frozenset({"OVL301", "OVL302", "OVL304", "MTU117"})  # beside a path only where hosts are compared
ALONE = ("OVL301", "OVL302")  # what ends of one machine show of each other; the rest its own state has shown
SIZES = ("MTU101", "MTU102")


class Together:
    """This machine and the others. Use :func:`together`."""

    def __init__(self, state: HostSnapshot, others: Sequence[OtherHost]) -> None:
        apart = machines([state, *(o.host for o in others)])[1:]  # what is of this machine itself is read live
        newest = {id(them[-1]) for them in apart}
        self.others = tuple(o for o in others if id(o.host) in newest)
        self.hosts = (state, *(o.host for o in self.others))
        self.ages: dict[str, float | None] = {}
        self.network = Network.of(*self.hosts)
        self.machines = [Machine(h) for h in self.hosts]
        taken = [0.0, *(None if o.age is None else -o.age for o in self.others)]
        pairs = zip(self.machines, taken, strict=True)
        self.digests = [msgspec.structs.replace(digest(m), taken=at) for m, at in pairs]
        self.fleet = Fleet(self.digests)

    @property
    def here(self) -> Digest:
        return self.digests[0]

    def machine(self, d: Digest) -> Machine:
        return next(m for m, mine in zip(self.machines, self.digests, strict=True) if mine is d)

    def label(self, d: Digest) -> str:
        """What the joined network calls it."""
        return self.network.label(self.machine(d).host)

    def aged(self, *of: Digest) -> tuple[EvidenceLine, ...]:
        """How old the snapshots are that something rests on."""
        done = []
        for d in dict.fromkeys(of):
            if d is not self.here:
                known = d.taken is not None
                facts = {"host": d.host, "age": round(-d.taken)} if d.taken is not None else {"host": d.host}
                done.append(line(REF, "snapshot-age" if known else "snapshot-age-unknown", **facts))
        return tuple(done)

    def fresh(self, *of: Digest) -> bool:
        return all(d.taken is not None and -d.taken <= FRESH for d in of)

    @lazy
    def parts(self) -> tuple[list[tuple[Digest, Segment]], ...]:
        return self.fleet.overlays


class Asked:
    """The asked flow, in the overlay that its source is a member of. Use :func:`asked`."""

    def __init__(self, all_: Together, view: View, segment: Segment, ends: list[tuple[Digest, Segment]]) -> None:
        self.all, self.view, self.segment, self.ends = all_, view, segment, ends
        source = view.source
        self.macs = {x.mac for x in source.links if x.mac and not x.loopback} if source else set()
        self.own = {a.address for a in source.addresses} if source else set()

    @lazy
    def holders(self) -> tuple[Home, ...]:
        """Members that have the address that was asked for, wherever they are."""
        return tuple((d, s, m) for d, s in self.ends for m in s.members if self.view.address in m.addresses)

    @lazy
    def far(self) -> tuple[Digest, ...]:
        """Other hosts of the overlay that have the target: as a member, or behind their end of it."""
        owning = {net.host for net, _ in self.all.network.owners(self.view.address)}
        has = {d.key for d, _, _ in self.holders}
        there = [d for d, _ in self.ends if d is not self.all.here]
        return tuple(dict.fromkeys(d for d in there if d.key in has or self.all.label(d) in owning))

    @lazy
    def stations(self) -> set[str]:
        """MAC addresses that frames for the target have: its own, or those of the tunnel ends it is behind."""
        mine = {m.mac for _, _, m in self.holders}
        return mine or {m.mac for d, s in self.ends if d in self.far for m in s.members if not m.key}

    @lazy
    def leads(self) -> Net | None:
        """Who takes the first packet, by the tables of all hosts together; None where it is not seen to arrive."""
        view, network = self.view, self.all.network
        net = network.find(f"{self.all.label(self.all.here)}!{view.source.where}") if view.source else None
        if net is None:
            return None
        flow = Flow(src="", dst=view.address, proto=TCP, sport=40000, dport=view.port)
        way = predict(network, net.key, flow)
        return network.at(way.hops[-1].where) if way.fate is Fate.DELIVERED and way.hops else None

    @lazy
    def arrives(self) -> Net | None:
        """The same, by what was read live alone, where that is all of the way."""
        way = self.view.predicted_forward
        if way is None or not way.complete or way.fate is not Fate.DELIVERED or not way.hops:
            return self.leads
        return self.all.network.find(f"{self.all.label(self.all.here)}!{way.hops[-1].where.netns}")


_last: list[tuple[HostSnapshot, tuple[OtherHost, ...], Together]] = []  # one at most: rules and remedies ask again


def together(view: View) -> Together | None:
    """This machine and the others; None when no other one was read, and this one is not several by itself: hosts in
    namespaces of it, with a tunnel end each."""
    if view.state is None or not (view.others or several(view.state)):
        return None
    if not _last or _last[0][0] is not view.state or _last[0][1] != view.others:
        _last[:] = [(view.state, view.others, Together(view.state, view.others))]
    found = _last[0][2]
    return found if found.others or several(view.state) else None


def several(state: HostSnapshot) -> bool:
    """Has this machine more than one end of one VXLAN network?"""
    numbers = [
        (x.vxlan.vni, x.vxlan.port)
        for n in state.namespaces
        for x in n.links
        if x.vxlan and not x.vxlan.collect_metadata
    ]
    return len(set(numbers)) < len(numbers)


def asked(view: View) -> Asked | None:
    """None when there is nothing to compare, or the source is no member of an overlay they know."""
    all_ = together(view)
    if all_ is None or view.source is None or not view.address:
        return None
    tunnels = [x.at for h in _hops(view) for x in h.steps if isinstance(x, Encap)]
    macs = {x.mac for x in view.source.links if x.mac and not x.loopback}
    mine = [(s, ends) for ends in all_.parts for d, s in ends if d is all_.here]
    for s, ends in mine:
        if s.at in tunnels:
            return Asked(all_, view, s, ends)
    for s, ends in mine:
        if any(m.mac in macs and _near(view, m.networks) for m in s.members):
            return Asked(all_, view, s, ends)
    return None


def _hops(view: View) -> tuple[Hop, ...]:
    way = view.predicted_forward
    return way.hops if way is not None else ()


def _near(view: View, networks: Sequence[str]) -> bool:
    parts = (n.partition("/") for n in networks)
    return any(within(view.address, net, int(prefix)) for net, _, prefix in parts)


def causes(view: View, findings: Sequence[Finding]) -> Iterator[Finding]:
    """What other hosts' snapshots show of the asked flow. Severities are those of the rules: the caller lowers them."""
    flow = asked(view)
    if flow is None:
        return
    sizes = any(f.code in SIZES for f in findings)
    for code, finding in _of_all(flow, sizes):
        if not flow.all.others and code not in ALONE:
            continue
        if sizes == (code in ("MTU113", "MTU117")):
            yield finding


def _of_all(flow: Asked, sizes: bool) -> Iterator[tuple[str, Finding]]:
    from pathfit.rules.state import FLEET_RULES

    all_ = flow.all
    by_name = {d.host: d for d in all_.digests}
    for rule in FLEET_RULES:
        for f in rule.check(all_.fleet):
            if (direction := _concerns(flow, f)) is not None:
                hosts = [by_name[p.host] for p in f.where if p.host in by_name]
                yield rule.code, _with(f, direction, all_.aged(*hosts))
    local = set(flow.segment.local)
    for d in flow.far if local and not sizes else ():
        machine = all_.machine(d)
        for check in (overlays.port_blocked, overlays.end_unreachable):
            for f in check(machine, local):
                yield f.code, _with(f, "", all_.aged(d))


def _with(f: Finding, direction: str, ages: tuple[EvidenceLine, ...]) -> Finding:
    facts = {**f.facts, "direction": direction} if direction else f.facts
    lines = tuple(msgspec.structs.replace(x, ref=REF) for x in f.evidence)
    return msgspec.structs.replace(f, facts=facts, evidence=(*lines, *ages))


def _concerns(flow: Asked, f: Finding) -> str | None:
    """Is it about the asked flow? Its direction then, "" for both."""
    here = flow.all.here.host
    far = {d.host for d in flow.far}
    if f.code == "OVL301":
        if f.facts.get("host") == here and f.facts.get("mac") in flow.stations:
            return "outbound"
        return "inbound" if f.facts.get("host") in far and f.facts.get("mac") in flow.macs else None
    if f.code == "OVL302":
        return "" if f.facts.get("address") in {flow.view.address, *flow.own} else None
    if f.code == "OVL304":
        mine = flow.segment.at in f.where
        other = {f.facts.get("host"), f.facts.get("there")} - {here}
        return "" if mine and (other & far or not far) else None
    return "" if {p.host for p in f.where} <= {here, *far} else None
