"""Calico, alone or as the half of canal.

Felix takes the smallest MTU among the devices that are up and match a pattern (findHostMTU), 1460 when none does, takes
off what the enabled encapsulations need (ConfigureDefaultMTUs, determinePodMTU) and writes the result to
/var/lib/calico/mtu, which the CNI plugin uses where its own ``mtu`` is 0 (cni-plugin, MTUFromFile). All its options
mean the *inner* MTU: ``mtu`` of the CNI configuration (``veth_mtu``), FELIX_IPINIPMTU, FELIX_VXLANMTU,
FELIX_WIREGUARDMTU (felix/config/config_params.go). Its devices: tunl0, vxlan.calico, vxlan-v6.calico, wireguard.cali,
wg-v6.cali, cali… (dataplanedefs).
"""

import re

from pathfit.core.net import Family
from pathfit.core.node import Backend, Encryption, Overlay
from pathfit.model.tunnels.makers import CALICO_FALLBACK, CALICO_PATTERN, deductions
from pathfit.observe.nodes import cni, files
from pathfit.observe.nodes.place import Node

GRANTED = "/var/lib/calico/mtu"
NODENAME = "/var/lib/calico/nodename"
TUNNELS = ("vxlan.calico", "vxlan-v6.calico", "tunl0", "wireguard.cali", "wg-v6.cali")
VARIABLES = {
    ("vxlan", 4): "FELIX_VXLANMTU",
    ("vxlan", 6): "FELIX_VXLANMTUV6",
    ("ipip", 4): "FELIX_IPINIPMTU",
    ("wireguard", 4): "FELIX_WIREGUARDMTU",
    ("wireguard", 6): "FELIX_WIREGUARDMTUV6",
}


def read(node: Node) -> Overlay | None:
    """What Calico's files say; None where it is not."""
    agent = node.agent("calico-node")
    plugin = next((p for p in node.plugins if p.type == "calico"), None)
    granted = next((g for root in node.roots("calico-node") if (g := files.mtu(root.text(GRANTED)))), None)
    if agent is None and plugin is None and granted is None and node.root.text(NODENAME) is None:
        return None
    backend, outer = _backend(node)
    encryption: Encryption = "wireguard" if _up(node, "wireguard.cali") or _up(node, "wg-v6.cali") else ""
    option, written = _written(node, backend, outer, plugin)
    off = deductions("calico", backend, outer, encryption)
    uplink, detected = _smallest(node)  # with the default pattern
    if agent is not None and agent.environment.get("FELIX_MTUIFACEPATTERN", CALICO_PATTERN) != CALICO_PATTERN:
        uplink, detected = "", granted + off[0] if granted and off else None  # its own pattern: not ours to run
    return Overlay(
        maker="calico",
        source=GRANTED if granted else plugin.path if plugin else "",
        backend=backend,
        mtu=written,
        option=option,
        granted=granted,
        devices=node.named(*TUNNELS, "cali*"),
        uplink="" if written else uplink,
        detected=None if written else detected,
        encryption=encryption,
        deducted=off[0] if off else None,
        outer=outer,
        facts={"config": plugin.path} if plugin and granted else {},
    )


def _up(node: Node, name: str) -> bool:
    link = node.link(name)
    return link is not None and link.up


def _backend(node: Node) -> tuple[Backend | None, Family]:
    """By its devices: Felix removes those of encapsulations that are off (tunl0 stays, but down)."""
    if _up(node, "vxlan.calico"):
        return "vxlan", 4
    if _up(node, "vxlan-v6.calico"):
        return "vxlan", 6
    if _up(node, "tunl0"):
        return "ipip", 4
    if _up(node, "wireguard.cali"):
        return "wireguard", 4
    if _up(node, "wg-v6.cali"):
        return "wireguard", 6
    return ("none", 4) if node.ns.links else (None, 4)


def _written(node: Node, backend: Backend | None, outer: Family, plugin: cni.Plugin | None) -> tuple[str, int | None]:
    """What somebody wrote: the CNI plugin's option counts for containers, Felix's for the tunnel's device."""
    if plugin is not None and plugin.mtu:
        return "mtu", plugin.mtu
    name = VARIABLES.get((backend or "", outer), "")
    agent = node.agent("calico-node")
    value = files.mtu(agent.environment.get(name)) if agent and name else None
    return (name, value) if value else ("", None)


def _smallest(node: Node) -> tuple[str, int | None]:
    """(device, MTU) as findHostMTU() finds it with its default pattern; ("", 1460) when nothing matches."""
    pattern = re.compile(CALICO_PATTERN)
    found = [x for x in node.ns.links if x.up and x.carrier and pattern.match(x.name)]
    best = min(found, key=lambda x: x.mtu, default=None)
    return (best.name, best.mtu) if best else ("", CALICO_FALLBACK)
