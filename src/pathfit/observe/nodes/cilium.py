"""Cilium.

Its ``mtu`` is that of the network *below* (Documentation, "mtu: Overwrite auto-detected MTU of underlying network"):
containers keep that MTU on their device and get the smaller one on their *routes* (pkg/mtu). What was set stands in the
agent's configuration folder (one file an option, from the ConfigMap cilium-config) and in
/var/run/cilium/state/agent-runtime-config.json (pkg/option, DaemonConfig; the names of its fields changed over the
versions, their letters' case does not count here). Its devices: cilium_host, cilium_net, cilium_vxlan, cilium_geneve,
cilium_wg0, lxc… (pkg/defaults). CNI: /etc/cni/net.d/05-cilium.conflist.
"""

from collections.abc import Iterator

from pathfit.core.net import Family
from pathfit.core.node import Backend, Encryption, Overlay
from pathfit.model.tunnels.makers import deductions
from pathfit.observe.nodes import files
from pathfit.observe.nodes.files import Root
from pathfit.observe.nodes.place import Node

RUNTIME = ("/run/cilium/state/agent-runtime-config.json", "/var/run/cilium/state/agent-runtime-config.json")
FOLDER = "/tmp/cilium/config-map"  # where the DaemonSet mounts it (--config-dir)
OPTIONS = {  # name of the option -> names of the field in the runtime configuration, in small letters
    "mtu": ("mtu",),
    "routing-mode": ("routingmode",),
    "tunnel-protocol": ("tunnelprotocol",),
    "tunnel": ("tunnel",),
    "enable-wireguard": ("enablewireguard",),
    "enable-ipsec": ("enableipsec",),
    "devices": ("devices",),
    "underlay-protocol": ("underlayprotocol",),
}
DEVICES = ("cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "cilium_wg0")


def read(node: Node) -> Overlay | None:
    """What Cilium's files say; None where it is not."""
    agent = node.agent("cilium-agent")
    plugin = next((p for p in node.plugins if p.type == "cilium-cni"), None)
    source, told = _options(node)
    devices = node.named(*DEVICES)
    if agent is None and plugin is None and not told and not devices:
        return None
    backend = _backend(node, told)
    encryption: Encryption = ""
    if files.truth(told.get("enable-wireguard")) or "cilium_wg0" in devices:
        encryption = "wireguard"
    elif files.truth(told.get("enable-ipsec")):
        encryption = "ipsec"
    outer: Family = 6 if told.get("underlay-protocol") == "ipv6" else 4
    off = deductions("cilium", backend, outer, encryption)
    written, uplink = files.mtu(told.get("mtu")), told.get("devices", "").split(",")[0]
    granted = _on_routes(node)
    return Overlay(
        maker="cilium",
        source=source or (plugin.path if plugin else ""),
        backend=backend,
        mtu=written,
        meaning="underlay",
        option="mtu" if written else "",
        granted=granted,
        devices=devices,
        uplink=uplink if node.link(uplink) else "",
        told=node.link(uplink) is not None,
        detected=None if written else _device_mtu(node),
        encryption=encryption,
        deducted=off[0] if off else None,
        outer=outer,
        facts={"config": plugin.path} if plugin and source else {},
    )


def _options(node: Node) -> tuple[str, dict[str, str]]:
    """(where they stand, options by name): the agent's folder, its command line, else the runtime configuration."""
    agent = node.agent("cilium-agent")
    if agent is not None:
        folder = agent.option("--config-dir") or FOLDER
        found = dict(_folder(agent.root, folder))
        found |= {name: value for name in OPTIONS if (value := agent.option(f"--{name}"))}
        if found:
            return folder, found
    for root in node.roots("cilium-agent"):
        for path in RUNTIME:
            if raw := root.json(path):
                return path, _runtime(raw)
    return "", {}


def _folder(root: Root, folder: str) -> Iterator[tuple[str, str]]:
    for name in OPTIONS:
        if value := files.word(root.text(f"{folder}/{name}")):
            yield name, value


def _runtime(raw: dict[str, object]) -> dict[str, str]:
    small = {key.lower(): value for key, value in raw.items()}
    found = {}
    for name, fields in OPTIONS.items():
        value = next((small[f] for f in fields if f in small), None)
        if isinstance(value, list):
            value = ",".join(files.word(x) for x in value[: files.MANY])
        if value not in (None, "", 0, False):
            found[name] = files.word(str(value))
    return found


def _backend(node: Node, told: dict[str, str]) -> Backend | None:
    mode, protocol = told.get("routing-mode", ""), told.get("tunnel-protocol", "") or told.get("tunnel", "")
    if mode == "native" or protocol == "disabled":
        return "host-gw"
    if node.link("cilium_geneve") or protocol == "geneve":
        return "geneve"
    if node.link("cilium_vxlan") or protocol == "vxlan" or mode == "tunnel":
        return "vxlan"
    return "host-gw" if node.link("cilium_host") else None


def _device_mtu(node: Node) -> int | None:
    link = node.link("cilium_host")
    return link.mtu if link else None


def _on_routes(node: Node) -> int | None:
    """The MTU that it put on the host's routes to the other nodes' containers."""
    link = node.link("cilium_host")
    if link is None:
        return None
    found = [r.mtu for r in node.ns.routes if r.mtu and any(h.link == link.index for h in r.hops)]
    return min(found, default=None)
