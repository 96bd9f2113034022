"""Weave Net.

WEAVE_MTU in the environment of ``weaver`` (or --mtu on its command line) is the overlay's MTU, 1376 without a word
(net/bridge.go). With the fast datapath the device ``datapath`` (or ``weave`` itself) is of kind openvswitch and packets
travel in VXLAN on UDP 6784, by a port of the datapath that kernels from 4.3 on show as a device ``vxlan-6784``;
otherwise ``weave`` is a bridge, and everything goes through user space ("sleeve", UDP 6783). WEAVE_PASSWORD encrypts:
ESP around the fast datapath's packets since 1.9. What each connection really uses is on its status page
(:mod:`pathfit.observe.nodes.weavestatus`).
"""

from pathfit.core.node import Overlay
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

DEVICES = ("weave", "datapath", "vethwe-*", "vxlan-6784")
TUNNEL = "vxlan-"  # router/fastdp.go (getVxlanVportIDHarder): and the UDP port, one more than Weave's own
DATAPATHS = ("datapath", "weave")


def read(node: Node) -> Overlay | None:
    """What is known of Weave Net without asking it; None where it is not."""
    agent = node.agent("weaver")
    plugin = next((p for p in node.plugins if p.type == "weave-net"), None)
    bridge = node.link("weave")
    if agent is None and plugin is None and (bridge is None or not node.named("vethwe-*")):
        return None
    fast = next((x for name in DATAPATHS if (x := node.link(name)) and x.kind == "openvswitch"), None)
    if fast is None and _tunnels(node):
        fast = node.link("datapath") or bridge
    option, written = "", None
    if agent is not None:
        option, written = "WEAVE_MTU", files.mtu(agent.environment.get("WEAVE_MTU"))
        if written is None:
            option, written = "--mtu", files.mtu(agent.option("--mtu", "-mtu"))
    device = fast or bridge
    off = agent is not None and (bool(agent.environment.get("WEAVE_NO_FASTDP")) or "--no-fastdp" in agent.argv)
    return Overlay(
        maker="weave",
        source=plugin.path if plugin else "",
        backend="vxlan" if fast else "udp" if bridge else None,
        mtu=written,
        option=option if written else "",
        granted=device.mtu if device else None,
        devices=node.named(*DEVICES),
        encryption="ipsec" if agent and agent.environment.get("WEAVE_PASSWORD") else "",
        outer=4,
        facts={"no_fastdp": True} if off else {},
    )


def _tunnels(node: Node) -> bool:
    """Has the fast datapath a VXLAN device here? Its name says the port."""
    return any(x.vxlan is not None and x.name == f"{TUNNEL}{x.vxlan.port}" for x in node.ns.links)
