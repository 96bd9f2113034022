"""Which MTU a repair should set (pure).

Recommended value = min(measured, configured MTU of every known device on the way, what a cloud promised of it): the
measured limit alone would leave a visible smaller device to "too big" messages that may one day not come; the
configured one alone may be above what really passes; and a bridge's port passes four bytes more than was promised.
"""

from pathfit.core.case import Case
from pathfit.core.evidence import ProbeResult, StateFact
from pathfit.core.measured import Bracket
from pathfit.core.net import SMALLEST_PROMISE
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot


def holes(probe: ProbeResult) -> tuple[Bracket, ...]:
    """The brackets that prove a hole, reverse first."""
    best = (*probe.reverse[:1], *probe.forward[:1])
    return tuple(b for b in best if b.fails is not None and b.passes is not None and b.grade in ("proof", "step"))


def measured_value(probe: ProbeResult | None) -> int | None:
    """Largest packet that passes in every direction that has a hole, bytes; None without a hole."""
    found = holes(probe) if probe is not None else ()
    return min((b.passes for b in found if b.passes is not None), default=None)


def known_value(*ways: Predicted | None) -> int | None:
    """Smallest visible limit on the predicted ways that a packet would really meet, bytes.

    What is only remembered (a cached path MTU) is no device and may be stale.
    """
    limits = [
        x.mtu for way in ways if way is not None for x in way.limits if x.then != "pass-gso" and x.kind != "cached"
    ]
    return min(limits, default=None)


def promised(host: HostSnapshot | None, *ways: Predicted | None) -> int | None:
    """Smallest MTU (bytes) that a cloud or a DHCP server gave to a device by which the way leaves a machine, where
    that device is larger (MTU113)."""
    if host is None or not host.nodes:
        return None
    from pathfit.rules import forecast  # what joins namespaces is loaded where there is a node's word to place
    from pathfit.rules.state.guest import promises

    network = forecast.network(host)
    used = {(h.where.netns, h.where.link) for way in ways if way is not None for h in way.hops}
    found = []
    for facts in host.nodes:
        net = network.find(facts.netns)
        if net is None:
            continue
        for told, link in promises(facts, net):
            if told.mtu is not None and told.mtu < link.mtu and (net.snap.where, link.name) in used:
                found.append(told.mtu)
    return min(found, default=None)


def repair_value(case: Case, *ways: Predicted | None) -> int | None:
    """MTU (bytes of IP packet) that clears every known limit; None when nothing is to repair."""
    probe = next((p for p in case.all(ProbeResult) if holes(p)), None)
    value = measured_value(probe)
    if value is None or probe is None:
        return None
    state = case.one("state", StateFact)
    words = (known_value(*ways), promised(state.host if state is not None else None, *ways))
    known = min((n for n in words if n is not None), default=None)
    lowest = SMALLEST_PROMISE[6 if probe.contact.family == 6 else 4]  # below, it is broken for other reasons
    if known is not None and lowest <= known < value:
        value = known
    return value if value >= lowest else None
