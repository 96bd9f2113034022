"""What a node's own files say about its network: overlays of Kubernetes, Weave, neutron; a cloud's word; DHCP leases.

* :mod:`~pathfit.observe.nodes.files` - reading below a node's root, never led outside, and small formats;
* :mod:`~pathfit.observe.nodes.place` - where nodes are, which makers' processes run on them;
* :mod:`~pathfit.observe.nodes.cni` - the CNI configurations that all makers leave;
* one module a maker: :mod:`~pathfit.observe.nodes.flannel`, ``calico``, ``cilium``, ``weave``, ``antrea``, ``kindnet``,
  ``ovn``, ``neutron``, each a :class:`Reader`, all of them in :data:`MAKERS`;
* :mod:`~pathfit.observe.nodes.weavestatus` - the one question that is asked, of Weave, over the host's loopback;
* :mod:`~pathfit.observe.nodes.instance`, :mod:`~pathfit.observe.nodes.leases` - what this machine was told of its MTU.

Why files: the kernel says how large a device is, not why. Whether 1400 is what somebody wrote, what a maker found, or
one subtraction too many stands only here. A file is one more witness: what it says is kept as its word
(:class:`~pathfit.core.node.Overlay`), and rules compare it with the devices. Nothing is asked over a network; the
cluster's own API would say more, and ``missing`` names the line that asks it.

Every file is a stranger's: bounded in size, read below the node's root, and what has the wrong shape loses its field.
To add a maker: one module with a ``read(node)``, its arithmetic in :mod:`pathfit.model.tunnels.makers`, one line in
MAKERS.

Cost: without any maker some fifty opens that fail, a third of a millisecond, and one look at the processes' names.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.core.node import NodeFacts, Overlay
from pathfit.core.snapshot import HostSnapshot
from pathfit.host import clock
from pathfit.observe.nodes import (
    antrea,
    calico,
    cilium,
    flannel,
    instance,
    kindnet,
    leases,
    neutron,
    ovn,
    place,
    weave,
    weavestatus,
)
from pathfit.observe.nodes.place import Node

__all__ = ["MAKERS", "Reader", "read", "read_all"]


class Reader(Protocol):
    """Reads one maker's files on one node; None where that maker is not. Never raises for what may stand in them."""

    def __call__(self, node: Node) -> Overlay | None: ...


MAKERS: tuple[Reader, ...] = (
    flannel.read,
    calico.read,
    cilium.read,
    weave.read,
    antrea.read,
    kindnet.read,
    ovn.read,
    neutron.read,
)
ASK = {
    "flannel": "kubectl -n kube-flannel get configmap kube-flannel-cfg -o yaml",
    "calico": "kubectl get felixconfiguration default -o yaml",
    "cilium": "kubectl -n kube-system get configmap cilium-config -o yaml",
    "antrea": "kubectl -n kube-system get configmap antrea-config -o yaml",
    "ovn-kubernetes": "kubectl get network.operator cluster -o yaml",
}
"""Where a maker's configuration stands in the cluster, for a person to look (no command is run)."""


def read(node: Node) -> NodeFacts:
    """Everything that one node's files say."""
    overlays = tuple(found for reader in MAKERS if (found := reader(node)) is not None)
    told = (*instance.read(node), *leases.read(node))
    return NodeFacts(
        netns=node.ns.id,
        where=node.ns.where,
        root=node.root.path,
        address=node.address,
        distribution=place.distribution(node.root) if overlays else "",
        overlays=overlays,
        instance=told,
        missing=(*_unsaid(overlays), *_refused(node)),
    )


def read_all(host: HostSnapshot, homes: Mapping[str, Sequence[int]]) -> tuple[NodeFacts, ...]:
    """Every node of this machine that says anything. ``homes``: processes by the id of their namespace."""
    end = clock.now() + weavestatus.BUDGETS
    return tuple(
        facts
        for node in place.find(host, homes)
        if (facts := _with_weave(read(node), node, end)).overlays or facts.instance or facts.missing
    )


def _with_weave(facts: NodeFacts, node: Node, end: float) -> NodeFacts:
    """With Weave's connections, where a weaver runs."""
    agent = node.agent("weaver")
    if agent is None:
        return facts
    said = weavestatus.ask_of(agent.pid, end)
    if isinstance(said, Missing):
        return replace(facts, missing=(*facts.missing, said))
    connections, fast = said
    overlays = tuple(replace(o, facts={**o.facts, "fastdp": fast}) if o.maker == "weave" else o for o in facts.overlays)
    return replace(facts, weave=connections, overlays=overlays)


def _unsaid(overlays: Sequence[Overlay]) -> tuple[Missing, ...]:
    """Overlays whose configuration stands only in the cluster."""
    return tuple(
        Missing(
            what=f"what {o.maker} was told",
            why="its configuration is not among this node's files",
            how=ASK[o.maker],
        )
        for o in overlays
        if o.maker in ASK and o.backend is None and o.mtu is None
    )


def _refused(node: Node) -> tuple[Missing, ...]:
    """Files that may not be read; nothing is said of a machine where no maker's process was seen."""
    refused = sorted({path for root in (node.root, *(a.root for a in node.agents)) for path in root.refused})
    if not refused or not node.agents:
        return ()
    what = f"files of this node ({len(refused)}, {refused[0]})"
    return (Missing(what=what, why="they may not be read", how=AS_ROOT, code="permission"),)
