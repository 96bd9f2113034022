"""Rules that state alone can show: of one machine (:data:`STATE_RULES`) and of many side by side (:data:`FLEET_RULES`).

No packet is sent, nobody hangs yet. A rule looks at a :class:`~pathfit.rules.state.machine.Machine` (one host, its
workloads in groups that are alike, the predicted ways of each group) or at a :class:`~pathfit.rules.state.fleet.Fleet`
(what hosts say of themselves and of each other) and yields findings, exactly as the rules of one path do: a code,
places, typed facts, evidence, never a sentence. What is new: ``workloads``, the keys of those who are affected.

Families: ``mtu`` and ``clamps`` (sizes), ``reach`` (nothing passes), ``resets`` (refusals that are hidden),
``overlays`` and ``weave``, ``engines`` and ``config`` (what was written), ``guest`` (virtual machines), ``kernels``.
They stand on ``machine`` (``shapes``: who is alike; ``standins``: which address stands for whom), ``nodes`` (a node's
own files) and ``fleet``; ``beside`` asks some of them for a path that fails (:mod:`pathfit.diagnose`), ``together``
the snapshots of other hosts; ``beneath``: is the network under an overlay to blame? docs/decisions/0007
has the reasons.

* An *error* is only what is certain from state: every device up to the place of the drop is seen, and packets of the
  size that the two ends really exchange are dropped there without word. Everything else is a warning, at most
  ``likely``; what merely looks odd is an info or nothing.
* The question to ask of every rule: what healthy machine looks the same? An empty docker0 shows 1500 with 1400
  configured; a clamped tunnel is smaller than its containers; jumbo frames end at a router that says so.

A code may have two rules, one for a path and one for state: ``pathfit explain`` shows the page of the first, whose
docstring speaks of both.
"""

from pathfit.rules.state import clamps, config, engines, guest, kernels, mtu, overlays, reach, resets, weave
from pathfit.rules.state.fleet import FleetRule
from pathfit.rules.state.machine import StateRule

__all__ = ["FLEET_RULES", "STATE_RULES"]

STATE_RULES: tuple[StateRule, ...] = (
    StateRule("MTU103", mtu.overpromise),
    StateRule("MTU104", mtu.overlay),
    StateRule("MTU104", config.too_little),
    StateRule("MTU105", mtu.mixed_segment),
    StateRule("MTU107", mtu.too_big_lost),
    StateRule("MTU108", clamps.in_pieces),
    StateRule("MTU110", clamps.stale),
    StateRule("MTU111", clamps.one_sided),
    StateRule("MTU112", clamps.too_large),
    StateRule("MTU113", guest.mismatch),
    StateRule("MTU114", clamps.below_minimum),
    StateRule("MTU116", clamps.hidden),
    StateRule("OVL302", overlays.duplicate_here),
    StateRule("OVL303", overlays.port_blocked),
    StateRule("OVL305", overlays.end_unreachable),
    StateRule("OVL306", weave.slow_path),
    StateRule("RST205", resets.dropped),
    StateRule("FLT401", reach.dropped),
    StateRule("FLT402", reach.reverse_path),
    StateRule("FLT403", reach.not_forwarding),
    StateRule("FLT404", reach.engine_policy),
    StateRule("RTE501", reach.no_route),
    StateRule("RTE502", reach.neighbour),
    StateRule("RTE503", reach.link_down),
    StateRule("RTE504", reach.overlapping),
    StateRule("CFG601", engines.not_inherited),
    StateRule("CFG602", engines.nested),
    StateRule("CFG603", engines.not_live),
    StateRule("CFG604", config.wrong_interface),
    StateRule("CFG605", config.dual_nic),
    StateRule("CFG606", config.option_is_underlay),
    StateRule("KRN701", kernels.ufo_stall),
    StateRule("KRN702", kernels.clears_ignore_df),
    StateRule("KRN703", kernels.tunnel_checksum),
    StateRule("KRN704", kernels.lro),
)

FLEET_RULES: tuple[FleetRule, ...] = (
    FleetRule("MTU113", guest.port),
    FleetRule("OVL301", overlays.stale_entry),
    FleetRule("OVL302", overlays.duplicate),
    FleetRule("OVL304", overlays.number_differs),
    FleetRule("MTU117", overlays.uneven),
)
