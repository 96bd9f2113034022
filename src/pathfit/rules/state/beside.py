"""What state alone shows beside a path that was asked about: causes for what was measured, never faults of their own.

The rules of a path look at the asked flow; those of :data:`~pathfit.rules.state.STATE_RULES` at what a workload uses
in general. Where the asked flow fails, the latter are asked about the source and that flow alone, and what they say is
a cause: a warning at most, ``confirmed`` when measurement found the very size that they name. A path that works is not
searched for more: `scan` does that. But for one thing: whether Weave takes it by its slow way, for that is the path.
"""

from collections.abc import Collection, Iterator, Sequence

import msgspec

from pathfit.core.engine import Workload
from pathfit.core.finding import Finding
from pathfit.model.network import Net
from pathfit.rules import forecast
from pathfit.rules.state import STATE_RULES, config, kernels, together, weave
from pathfit.rules.state.beneath import beneath
from pathfit.rules.state.machine import Machine, Seat
from pathfit.rules.view import View

CODES = frozenset({
    "MTU105", "MTU108", "MTU113", "MTU114", "MTU116", "OVL303", "OVL305", "OVL306", "FLT404", "RTE504",
    "CFG602", "CFG604", "CFG605", "CFG606", "KRN701", "KRN702", "KRN703", "KRN704",
    *together.CODES,
})  # fmt: skip
"""Codes that no rule of a path looks for."""
OF_THE_WAY = frozenset(("OVL306",))  # asked about whole ways, whether they fail or not: weave.of_path
ASKED = tuple(r for r in STATE_RULES if r.code in CODES - OF_THE_WAY - together.CODES or r.check is config.too_little)
"""Their rules, and the one of MTU104 that reads what a maker of networks was told."""
UNASKED = tuple(r for r in ASKED if r.code == "CFG602")
"""Those that are asked as well where nobody named a target: about a place alone (`fix CODE --from WHERE`)."""


def causes(view: View, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings of :data:`CODES` about the source where something failed, of :data:`UNASKED` where nothing was asked,
    and Weave's slow way; nothing where the source was not read."""
    if view.state is None or view.source is None:
        return
    network = forecast.network(view.state)
    slow = tuple(weave.of_path(view, network))
    yield from slow
    failed = any(f.severity == "error" for f in findings)
    if not failed:
        yield from kernels.clears_ignore_df(Machine(view.state, network)) if slow else ()
    net = network.find(view.source.id)
    if net is None or (view.address and not failed):
        return
    machine = Machine(view.state, network, seats=(_seat(view, net),), asked=(view.address, view.port))
    measured = {h.passes for h in view.holes}
    for rule in ASKED if failed else UNASKED:
        for f in rule.check(machine):
            if _concerns(f, net, view):
                seen = kernels.stalled(f, view) if f.code == "KRN701" else f
                if seen is not None:
                    yield _as_cause(seen, measured)
    yield from beneath(view)
    if failed and (view.others or together.several(view.state)):
        yield from (_as_cause(f, measured) for f in together.causes(view, findings))


def _seat(view: View, net: Net) -> Seat:
    return Seat(Workload(name=view.source_label, where=net.snap.where, netns=net.snap.id), net)


def _concerns(f: Finding, net: Net, view: View) -> bool:
    """Is it about the source, or about a place the asked flow passes?"""
    return net.snap.where in f.workloads or any(p.netns in view.on_way for p in f.where)


def _as_cause(f: Finding, measured: Collection[object]) -> Finding:
    sure = f.facts.get("limit") in measured
    return msgspec.structs.replace(
        f,
        severity="warning" if f.severity == "error" else f.severity,
        confidence="confirmed" if sure else f.confidence,
        workloads=(),
    )
