"""ovn-kubernetes, also as OpenShift and MicroShift have it.

ovnkube's configuration (an ini file, go-controller/pkg/config: ``--config-file``, by default
/etc/openvswitch/ovn_k8s.conf; in its container /run/ovnkube-config/ovnkube.conf): ``[default] mtu`` is the containers'
(1400 without a word), ``encap-ip`` the address that tunnels start from, ``encap-port``. It does not deduct anything:
who installs it does (OpenShift 100), and ovnkube refuses a node whose device has less than mtu + 58 (78 with IPv6,
``GeneveHeaderLengthIPv4``). Its devices: ovn-k8s-mp0 (has that MTU), br-int, br-ex, genev_sys_6081.
"""

from pathfit.core.node import Backend, Overlay
from pathfit.model.tunnels.makers import deductions
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

CONFIGS = ("/run/ovnkube-config/ovnkube.conf", "/etc/openvswitch/ovn_k8s.conf")
PORT = "ovn-k8s-mp0"
PLUGIN = "ovn-k8s-cni-overlay"


def read(node: Node) -> Overlay | None:
    """What ovn-kubernetes' files say; None where it is not."""
    agent = node.agent("ovnkube")
    plugin = next((p for p in node.plugins if p.type == PLUGIN), None)
    port = node.link(PORT)
    if agent is None and plugin is None and port is None:
        return None
    path, config = _config(node)
    default = config.get("default", {})
    written = files.mtu(default.get("mtu")) or (files.mtu(agent.option("--mtu", "-mtu")) if agent else None)
    address = default.get("encap-ip", "") or (agent.option("--encap-ip", "-encap-ip") if agent else "")
    below = node.at(address) if address else None
    outer = node.family() if not address else 6 if ":" in address else 4
    backend = _backend(node, config) if path or agent is not None else None
    off = deductions("ovn-kubernetes", backend, outer) if outer else ()
    return Overlay(
        maker="ovn-kubernetes",
        source=path or (plugin.path if plugin else ""),
        backend=backend,
        mtu=written,
        option="mtu" if written else "",
        granted=port.mtu if port else None,
        devices=node.named(PORT, "br-int", "br-ex", "genev_sys_*"),
        uplink=below.name if below else "",
        told=below is not None,
        deducted=off[0] if off else None,
        outer=outer,
        facts={"port": int(default["encap-port"])} if default.get("encap-port", "").isdecimal() else {},
    )


def _backend(node: Node, config: dict[str, dict[str, str]]) -> Backend:
    """Geneve; none where nothing is tunnelled: told so, or the only node there is (its MTU is then the network's)."""
    agent = node.agent("ovnkube")
    alone = agent is not None and any(w.lstrip("-") in ("single-node", "single-node=true") for w in agent.argv)
    alone = alone or any(files.truth(values.get("single-node")) for values in config.values())
    return "none" if alone or config.get("default", {}).get("transport", "") == "no-overlay" else "geneve"


def _config(node: Node) -> tuple[str, dict[str, dict[str, str]]]:
    agent = node.agent("ovnkube")
    told = agent.option("--config-file", "-config-file") if agent else ""
    for root in reversed(node.roots("ovnkube")):
        for path in (told, *CONFIGS):
            text = root.text(path) if path else None
            if text is not None:
                return path, files.sections(text)
    return "", {}
