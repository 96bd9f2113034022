"""Weave Net's MTU, where the heartbeat of its fast datapath does not fit (OVL306, KRN702).

WEAVE_MTU is the containers' MTU itself: what is written is what they get. It is read when ``weaver`` starts: from the
environment of `weave launch`, or of the DaemonSet's container. The router sizes its heartbeat by the device
``datapath``, which a start sets anew (net/bridge.go, fastdpImpl.init); containers keep the MTU that they were attached
with, and what is larger would then be lost in the fast way: so everybody is attached again.
"""

from pathfit.core.finding import Facts, Finding, Fix
from pathfit.core.net import Point
from pathfit.core.node import Overlay
from pathfit.core.snapshot import HostSnapshot
from pathfit.remedies.base import Argv
from pathfit.remedies.kubernetes_makers import set_env
from pathfit.remedies.untried import documented
from pathfit.rules.state.weave import BRIDGE

VERSION = "weave 2.8.1"
DOCUMENT = f"{VERSION}, site/tasks/manage/fastdp.md (Packet size)"
ADDON = f"{VERSION}, site/kubernetes/kube-addon.md (WEAVE_MTU)"


def setting(finding: Finding, host: HostSnapshot) -> tuple[Fix, ...]:
    """The WEAVE_MTU that fits; nothing where no room is known, or where the symptom carries it already."""
    fits = finding.facts.get("fits")
    if not isinstance(fits, int) or finding.explains:
        return ()
    at = finding.where[0]
    overlay = _overlay(host, at)
    if overlay is None:
        return ()
    facts: Facts = {"option": "WEAVE_MTU", "by_hand": "by-hand.weave"}
    cluster = bool(overlay.source)  # its CNI plugin is configured on this node
    old = str(overlay.mtu) if overlay.mtu is not None else ""
    return (
        documented(
            "weave-mtu",
            "fix.weave-mtu",
            "weave",
            source=ADDON if cluster else DOCUMENT,
            value=fits,
            effective=fits,
            where=at,
            commands=_cluster(str(fits)) if cluster else _launch(str(fits)),
            undo=_cluster(old) if cluster else _launch(old),
            interrupts=() if cluster else _attached(host, at),
            facts=facts,
        ),
    )


def _launch(value: str) -> tuple[Argv, ...]:
    told: Argv = ("env", f"WEAVE_MTU={value}") if value else ()
    return (("weave", "reset"), (*told, "weave", "launch"))


def _cluster(value: str) -> tuple[Argv, ...]:
    return (set_env("kube-system", "weave-net", "weave", "WEAVE_MTU", value),)


def _attached(host: HostSnapshot, at: Point) -> tuple[str, ...]:
    """Who loses its device by `weave reset`: the namespaces with a cable into Weave's bridge."""
    node = next((n for n in host.namespaces if at.netns in (n.where, *n.names)), None)
    bridge = next((x.index for x in node.links if x.name == BRIDGE), 0) if node is not None else 0
    if node is None or not bridge:
        return ()
    ids = {x.peer_ns for x in node.links if x.master == bridge and x.peer_ns not in (None, node.id)}
    return tuple(n.where for n in host.namespaces if n.id in ids)


def _overlay(host: HostSnapshot, at: Point) -> Overlay | None:
    """Weave on the node that the finding is about."""
    spaces = {n.id for n in host.namespaces if at.netns in (n.where, *n.names)}
    found = (o for n in host.nodes if n.netns in spaces for o in n.overlays)
    return next((o for o in found if o.maker == "weave"), None)
