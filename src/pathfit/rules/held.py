"""What a case holds, found by name (pure): the question, the places, what was read and sent. Nothing is judged here.

:class:`Held` is the ground of :class:`~pathfit.rules.view.View`, which adds what measurement and prediction mean.
"""

from functools import cached_property
from typing import TypeVar

import msgspec

from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.evidence import (
    CounterFact,
    FleetFact,
    HopsFact,
    Missing,
    NameFact,
    OtherHost,
    PlaceFact,
    PlatformFact,
    ProbeResult,
    RememberedFact,
    SocketFact,
    TrialFact,
)
from pathfit.core.evidence import StateFact as State
from pathfit.core.path import Filtered
from pathfit.core.request import Measure
from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.rules.places import bare, each_once
from pathfit.rules.tables import Moved, moved

E = TypeVar("E")


class Held(msgspec.Struct, frozen=True, dict=True):
    """See the module. Everything is computed from ``case``, on demand, once; what is not known is None or empty."""

    case: Case

    @property
    def ask(self) -> Ask:
        return self.case.ask

    @cached_property
    def place(self) -> PlaceFact | None:
        """Where the asked client lives."""
        return self.case.one("source", PlaceFact)

    @cached_property
    def state_fact(self) -> State | None:
        """What was read before the first packet."""
        return self.case.one("state", State) or first(self.case.all(State))

    @property
    def state(self) -> HostSnapshot | None:
        return self.state_fact.host if self.state_fact else None

    @cached_property
    def others(self) -> tuple[OtherHost, ...]:
        """Other hosts, as snapshots say they were."""
        return tuple(o for f in self.case.all(FleetFact) for o in f.hosts)

    @property
    def host(self) -> str:
        return self.state.host if self.state else ""

    @property
    def namespaces(self) -> tuple[NetnsSnapshot, ...]:
        return self.state.namespaces if self.state else ()

    @cached_property
    def source(self) -> NetnsSnapshot | None:
        """The snapshot of the source's namespace."""
        return next((n for n in self.namespaces if self.place and n.id == self.place.netns), None)

    @property
    def source_label(self) -> str:
        return (self.place.label if self.place else "") or bare(self.ask.source)

    @property
    def target_label(self) -> str:
        return self.ask.target.host or bare(self.ask.target.where or self.ask.target.text)

    def namespace(self, where: str) -> NetnsSnapshot | None:
        """A namespace by one of its WHEREs."""
        return next((n for n in self.namespaces if where == n.where or where in n.names), None)

    @cached_property
    def probes(self) -> tuple[ProbeResult, ...]:
        """One for each address, the fullest one, in the order the asked client would try them."""
        shallow = {
            x.request.ref for x in self.case.exchanges if isinstance(x.request, Measure) and x.request.contact_only
        }
        best: dict[str, ProbeResult] = {}
        for probe in self.case.all(ProbeResult):
            known = best.get(probe.contact.address)
            if known is None or (known.ref in shallow and probe.ref not in shallow):
                best[probe.contact.address] = probe
        return tuple(best.values())

    @property
    def state_ref(self) -> str:
        return self.state_fact.ref if self.state_fact else "state"

    @cached_property
    def socket_facts(self) -> tuple[SocketFact, ...]:
        return self.case.all(SocketFact)

    @cached_property
    def counters(self) -> dict[str, int]:
        """SNMP and netstat counters that grew while we measured, by how much."""
        before = self.case.one("counters:before", CounterFact)
        after = self.case.one("counters:after", CounterFact)
        if before is None or after is None:
            return {}
        deltas = {k: v - before.counters.get(k, 0) for k, v in after.counters.items()}
        return {k: v for k, v in deltas.items() if v > 0}

    def stood(self, name: str) -> int | None:
        """The value of a counter that was the same before and after we measured; None: it moved, or was not read."""
        before = self.case.one("counters:before", CounterFact)
        after = self.case.one("counters:after", CounterFact)
        if before is None or after is None or name not in before.counters:
            return None
        return before.counters[name] if after.counters.get(name) == before.counters[name] else None

    @cached_property
    def moved(self) -> tuple[Moved, ...]:
        """Filter rules whose counter grew while we measured."""
        later = self.case.one("rules:after", State)
        if later is None:
            return ()
        return tuple(m for ns in later.host.namespaces for m in moved(self._before(ns.id), ns))

    def _before(self, ns_id: str) -> NetnsSnapshot | None:
        return next((n for n in self.namespaces if n.id == ns_id), None)

    def grew(self, step: Filtered) -> int:
        """By how many packets the counter of the rule (or policy) of ``step`` grew while we measured."""
        for m in self.moved:
            same_table = f"{m.table.family} {m.table.name}" == step.table
            if m.where == step.at.netns and same_table and m.chain.name == step.chain and m.rule.handle == step.handle:
                return m.packets
        return 0

    @cached_property
    def names(self) -> tuple[NameFact, ...]:
        return self.case.all(NameFact)

    @cached_property
    def hops(self) -> HopsFact | None:
        return first(self.case.all(HopsFact))

    @cached_property
    def trials(self) -> tuple[TrialFact, ...]:
        return self.case.all(TrialFact)

    @cached_property
    def missing(self) -> tuple[Missing, ...]:
        """Everything that could not be seen, each once."""
        said: list[Missing] = [*self.case.all(Missing)]
        if self.state is not None:
            said += self.state.missing
            said += [m for ns in self.state.namespaces for m in ns.missing]
        said += [m for p in self.probes for m in p.missing]
        said += [m for p in self.case.all(PlatformFact) for m in p.missing]
        said += [m for r in self.case.all(RememberedFact) for m in r.missing]
        said += [m for f in self.case.all(FleetFact) for m in f.missing]
        return each_once(said)


def first(items: tuple[E, ...]) -> E | None:
    """The first of ``items``, if there is one."""
    return items[0] if items else None
