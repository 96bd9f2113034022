"""Antrea.

/etc/antrea/antrea-agent.conf in the agent's container (build/charts/antrea/conf/antrea-agent.conf): ``defaultMTU`` is
the containers' (0: the transport interface's less the encapsulation), ``tunnelType`` geneve (default), vxlan, gre;
``trafficEncapMode`` encap (default), hybrid, noEncap, networkPolicyOnly; ``trafficEncryptionMode`` none, ipsec,
wireGuard; ``transportInterface``. It is a YAML file of plain scalars. What it grants is what antrea-gw0 has
(pkg/agent/agent.go, setupGatewayInterface). CNI: /etc/cni/net.d/10-antrea.conflist.
"""

from pathfit.core.node import Backend, Encryption, Overlay
from pathfit.model.tunnels.makers import deductions
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

CONFIG = "/etc/antrea/antrea-agent.conf"
KEYS = frozenset({"defaultMTU", "tunnelType", "trafficEncapMode", "trafficEncryptionMode", "transportInterface"})
TUNNELS: dict[str, Backend] = {"geneve": "geneve", "vxlan": "vxlan", "gre": "gre"}
GATEWAY = "antrea-gw0"


def read(node: Node) -> Overlay | None:
    """What Antrea's files say; None where it is not."""
    agent = node.agent("antrea-agent")
    plugin = next((p for p in node.plugins if p.type == "antrea"), None)
    gateway = node.link(GATEWAY)
    if agent is None and plugin is None and gateway is None:
        return None
    path = (agent.option("--config") if agent else "") or CONFIG
    texts = [root.text(path) for root in reversed(node.roots("antrea-agent"))]
    text = next((t for t in texts if t is not None), None)
    told = files.flat_yaml(text, KEYS)
    backend = _backend(told) if text is not None else None
    encryption: Encryption = "ipsec" if _is(told, "ipsec") else "wireguard" if _is(told, "wireguard") else ""
    outer = node.family()  # with both, 20 bytes more are taken off, but not of every packet
    off = deductions("antrea", backend, outer, encryption) if outer else ()
    written = files.mtu(told.get("defaultMTU"))
    granted = gateway.mtu if gateway else None
    uplink = told.get("transportInterface", "")
    return Overlay(
        maker="antrea",
        source=path if text is not None else plugin.path if plugin else "",
        backend=backend,
        mtu=written,
        option="defaultMTU" if written else "",
        granted=granted,
        devices=node.named("antrea-*"),
        uplink=uplink if node.link(uplink) else "",
        told=node.link(uplink) is not None,
        detected=granted + off[0] if granted and off and not written else None,
        encryption=encryption,
        deducted=off[0] if off else None,
        outer=outer,
        facts={"config": plugin.path} if plugin and text is not None else {},
    )


def _is(told: dict[str, str], mode: str) -> bool:
    return told.get("trafficEncryptionMode", "").lower() == mode


def _backend(told: dict[str, str]) -> Backend | None:
    mode = told.get("trafficEncapMode", "encap").lower()
    if mode in ("noencap", "networkpolicyonly"):
        return "host-gw"
    return TUNNELS.get(told.get("tunnelType", "geneve").lower()) if mode in ("encap", "hybrid") else None
