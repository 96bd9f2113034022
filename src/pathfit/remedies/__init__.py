"""Remedies: a finding and what is known of its place -> repairs, as data (pure).

A :class:`~pathfit.core.finding.Fix` holds the commands as argument vectors (with the words in front that make them
run in the right namespace), their undo, how safe they are, how long they last and what they interrupt. Nothing here
runs anything. The first fix of a finding is the recommended one; the value is min(measured limits, MTU of every
known device on the way), see :mod:`~pathfit.remedies.value`.

One module a family: ``route`` (recommended), ``link``, ``clamp``, ``tunnels`` (that programs hold); ``docker``,
``nested`` (an engine in a container), ``podman``, ``cni`` and ``lasting`` (a host's own devices) for good, with
``files`` and ``jsontext`` to edit what is kept in files and ``moby``, the words of Docker's client; ``manual`` is what
somebody else must decide, ``apart`` what Docker keeps apart on purpose, ``overlay`` what spans hosts, ``untried`` what
a platform documents and no run has shown: of it ``weave`` and ``kernels``, ``neutron``, what a cloud's network service
must be told, and ``kubernetes`` (with ``kubernetes_makers``: where each maker keeps it), the MTU of a cluster's
network. ``base`` is what all of them need, ``known`` lists every repair there is.

:func:`propose` is for a path that was asked about, :func:`of_state` for what state alone shows (a scan).
"""

from collections.abc import Callable

import msgspec

from pathfit.core.evidence import PlatformFact, TrialFact
from pathfit.core.finding import Facts, Finding, Fix
from pathfit.core.net import Family, mss_of
from pathfit.core.snapshot import HostSnapshot
from pathfit.remedies import clamp, link, manual, overlay, route
from pathfit.remedies.value import known_value, promised
from pathfit.rules.view import DIRECTIONS, View
from pathfit.words.render import say

SIZE_FAULTS = ("MTU101", "MTU102", "MTU103", "MTU104", "MTU106", "MTU111", "MTU112")
CONFIGURED = ("CFG601", "CFG602", "CFG603", "CFG607")
BY_HAND: dict[str, Callable[[Finding, View], tuple[Fix, ...]]] = {
    "MTU107": manual.of_too_big,
    "FLT401": manual.of_filter,
    "RST204": manual.of_conntrack,
    "RST205": manual.of_filter,
    "OVL301": overlay.stale_entry,
    "OVL302": overlay.duplicate,
    "OVL303": overlay.port,
    "OVL304": overlay.number,
    "FLT402": manual.of_rp_filter,
    "FLT403": manual.of_forwarding,
    "RTE501": manual.of_no_route,
    "RTE503": manual.of_link,
}


OF_STATE = frozenset(("OVL306", "KRN701", "KRN702", "KRN703", "KRN704", "CFG604", "CFG606"))
"""Codes whose repairs need no more than what was read of the host; of MTU104 a maker's setting alone does."""


def of_state(finding: Finding, host: HostSnapshot) -> tuple[Fix, ...]:
    """Repairs that state alone shows (:data:`OF_STATE`). Their modules are loaded only where they are needed."""
    if finding.code in ("OVL306", "KRN702"):
        from pathfit.remedies.weave import setting

        return setting(finding, host)
    maker = finding.code == "MTU104" and finding.facts.get("case") == "maker" and not finding.because
    if maker or finding.code in ("CFG604", "CFG606"):
        from pathfit.remedies.kubernetes import of_setting

        return of_setting(finding, host)
    if finding.code in OF_STATE:
        from pathfit.remedies.kernels import offload

        return offload(finding, host)
    return ()


def propose(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Repairs for a finding, the recommended one first; empty when none is known or nothing certain can be said.

    A cause whose symptom is in the report has none of its own: the symptom carries them. What an engine was told is
    an exception: its own repair is one of several that the symptom has. So is what a maker of networks was told.
    """
    return (*_of_code(finding, view), *_of_maker(finding, view))


def _of_maker(finding: Finding, view: View) -> tuple[Fix, ...]:
    """What its maker's own configuration must say. Their modules are loaded only where one is named."""
    if "neutron" not in (finding.facts.get("maker"), finding.facts.get("who")):
        return ()
    from pathfit.remedies.neutron import setting

    return setting(finding, view)


def _of_code(finding: Finding, view: View) -> tuple[Fix, ...]:
    if finding.code in SIZE_FAULTS and finding.explains:
        return ()
    if finding.code in SIZE_FAULTS:
        value = recommended(view)
        if value is None:
            return ()
        now, good = route.route_mtu(view, value), _for_good(view, value)
        fixes = (*now, *good, *_of_program(view, value), *link.link_mtu(view, value), *clamp.mss_clamp(view, value))
        return tuple(_tried(fix, view) for fix in fixes)
    if finding.code in CONFIGURED:
        limit = recommended(view) or finding.facts.get("limit")
        return _for_good(view, limit) if isinstance(limit, int) else ()
    if finding.code == "MTU110":
        return route.flushed(finding, view) if finding.facts.get("case") != "locked" else route.unlocked(finding, view)
    if finding.code in OF_STATE and view.state is not None:
        return of_state(finding, view.state)
    by_hand = BY_HAND.get(finding.code)
    return by_hand(finding, view) if by_hand else ()


def _of_program(view: View, value: int) -> tuple[Fix, ...]:
    """Of the tunnel that a program moves the packets of. The module is loaded only where one holds the device."""
    link = view.link_at(view.edge)
    if link is None or not link.holder:
        return ()
    from pathfit.remedies.tunnels import held_mtu

    return held_mtu(view, value)


def _for_good(view: View, value: int) -> tuple[Fix, ...]:
    """Repairs that outlive a restart: of the engine whose container asks, or of the host's own device.

    Their modules edit files and make diffs: they are loaded only where there is an engine, or a manager was found.
    """
    found: list[Fix] = []
    if view.state is not None and view.state.engines:
        found += _of_engines(view, value)
    if view.state is not None and view.state.nodes:
        from pathfit.remedies.kubernetes import kubernetes

        found += kubernetes(view, value)
    if view.case.all(PlatformFact):
        from pathfit.remedies.lasting import link_mtu_for_good

        found += link_mtu_for_good(view, value)
    return tuple(found)


def _of_engines(view: View, value: int) -> tuple[Fix, ...]:
    kinds = {e.kind for e in view.state.engines} if view.state is not None else set()
    found: tuple[Fix, ...] = ()
    if "docker" in kinds:
        from pathfit.remedies.docker import docker

        found += docker(view, value)
    if "podman" in kinds:
        from pathfit.remedies.podman import podman

        found += podman(view, value)
    if kinds & {"containerd", "cri-o"}:
        from pathfit.remedies.cni import cni

        found += cni(view, value)
    return found


def recommended(view: View) -> int | None:
    """The MTU (bytes of IP packet) that clears every limit measured or visible; None when there is nothing to clear.

    Holes first; else what the senders had to be told; else, with nothing measured, what state alone shows.
    """
    measured = [h.passes for h in view.holes] or [t for t in map(view.told, DIRECTIONS) if t is not None]
    if not measured and view.connects:
        return None
    words = (known_value(*view.predicted), promised(view.state, *view.predicted))
    return min((*measured, *(n for n in words if n is not None)), default=None)


def _tried(fix: Fix, view: View) -> Fix:
    """The fix with the trial that was made of its value, in English (CONTRACT) and as facts for other languages."""
    trial = next((t for t in view.trials if t.ok and t.size == fix.effective), None)
    if trial is None or fix.id == "mss-clamp":
        return fix  # a trial lowers both directions at one end; of a clamp on another box it proves nothing
    message, facts = _proof(trial, view)
    return msgspec.structs.replace(fix, proof=say(message, facts, "en"), facts={**fix.facts, **facts, "proof": message})


def _proof(trial: TrialFact, view: View) -> tuple[str, Facts]:
    family: Family = 6 if view.family == 6 else 4
    facts: Facts = {"size": trial.size, "mss": mss_of(family, trial.size), "body": trial.body}
    if trial.tls != "ok":
        return "proof.completed", facts
    return ("proof.body" if trial.body else "proof.tls"), facts
