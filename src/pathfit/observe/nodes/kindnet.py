"""kindnet, the network of kind's nodes: plain routes between nodes, no encapsulation.

kindnetd writes /etc/cni/net.d/10-kindnet.conflist with the MTU of the node's eth0 for the plugin ``ptp`` (kind,
images/kindnetd/cmd/kindnetd/cni.go, computeBridgeMTU); newer ones have a plugin ``cni-kindnet`` of their own.
"""

from pathfit.core.node import Overlay
from pathfit.observe.nodes.place import Node

UPLINK = "eth0"


def read(node: Node) -> Overlay | None:
    """What kindnet's files say; None where it is not."""
    own = [p for p in node.plugins if p.name == "kindnet" and p.type in ("ptp", "cni-kindnet")]
    if not own and node.agent("kindnetd") is None:
        return None
    plugin = own[0] if own else None
    eth0 = node.link(UPLINK)
    return Overlay(
        maker="kindnet",
        source=plugin.path if plugin else "",
        backend="host-gw",
        granted=plugin.mtu if plugin else None,
        uplink=eth0.name if eth0 else "",
        detected=plugin.mtu if plugin else None,
        deducted=0,
    )
