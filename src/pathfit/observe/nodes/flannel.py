"""flannel, alone, in k3s, or as the half of canal.

/run/flannel/subnet.env (pkg/subnet, WriteSubnetFile): ``FLANNEL_MTU`` is what it grants to containers.
net-conf.json (Documentation/configuration.md): ``Backend.Type`` vxlan, host-gw, wireguard, udp, ipip, ipsec; its
``MTU`` (vxlan, wireguard) is that of the network *below*: flannel takes 50 or 80 off it itself (vxlan/device.go
``MTU: devAttrs.MTU - 50``, wireguard_network.go ``n.mtu - overhead``). Without it, the MTU of the interface that it was
told (--iface) or found (that of the default route, pkg/ipmatch) counts, on each node by itself. The whole file is one
key of the ConfigMap kube-flannel-cfg, so its text is kept for whoever must write it again; not where it holds a
pre-shared key (``PSK`` of ipsec and wireguard).
"""

from collections.abc import Mapping
from typing import Any

from pathfit.core.net import Family
from pathfit.core.node import Backend, Overlay
from pathfit.model.tunnels.makers import deductions
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

SUBNET = ("/run/flannel/subnet.env", "/var/run/flannel/subnet.env")
CONFIGS = ("/etc/kube-flannel/net-conf.json", "/var/lib/rancher/k3s/agent/etc/flannel/net-conf.json")
DEVICES = ("flannel*", "cni0")
TEXT = 8192  # characters of net-conf.json; the largest of its documentation has some seven hundred
BACKENDS: Mapping[str, Backend] = {
    "vxlan": "vxlan",
    "host-gw": "host-gw",
    "wireguard": "wireguard",
    "udp": "udp",
    "ipip": "ipip",
    "ipsec": "ipsec",
    "alloc": "none",
}


def read(node: Node) -> Overlay | None:
    """What flannel's files say; None where it is not."""
    agent = node.agent("flanneld")
    source, env = _subnet(node)
    path, text, config = _config(node)
    if not env and not config and agent is None:
        return None
    raw = files.table(config.get("Backend"))
    backend = BACKENDS.get(files.word(raw.get("Type")) or ("udp" if config else "")) or _by_device(node)
    outer = _outer(node, config)
    off = deductions("flannel", backend, outer)
    granted, written = files.mtu(env.get("FLANNEL_MTU")), files.mtu(raw.get("MTU"))
    told = (agent.option("--iface", "-iface") or agent.environment.get("FLANNELD_IFACE", "")) if agent else ""
    return Overlay(
        maker="flannel",
        source=source or path,
        backend=backend,
        mtu=written,
        meaning="underlay",
        option="Backend.MTU" if written else "",
        granted=granted,
        devices=node.named(*DEVICES),
        uplink=_uplink(node, told),
        told=bool(told and _uplink(node, told)),
        detected=granted + off[0] if granted and off and not written else None,
        encryption="wireguard" if backend == "wireguard" else "ipsec" if backend == "ipsec" else "",
        deducted=off[0] if off else None,
        outer=outer,
        facts=_facts(raw, path),
        text=_text(text),
    )


def _text(text: str) -> str:
    """The file as it stands; "" for one with a key in it, that is no plain text, or larger than such a file is."""
    plain = len(text) <= TEXT and all(c.isprintable() or c in "\n\t\r" for c in text)
    return text if plain and "psk" not in text.lower() else ""


def _subnet(node: Node) -> tuple[str, dict[str, str]]:
    for root in node.roots("flanneld"):
        for path in SUBNET:
            if found := files.pairs(root.text(path)):
                return path, found
    return "", {}


def _config(node: Node) -> tuple[str, str, dict[str, Any]]:
    """Where it stands, its text, and the text's meaning."""
    agent = node.agent("flanneld")
    told = agent.option("--net-config-path", "-net-config-path") if agent else ""
    for root in node.roots("flanneld"):
        for path in (told, *CONFIGS):
            if path and (found := root.json(path)):
                return path, root.text(path) or "", found
    return "", "", {}


def _by_device(node: Node) -> Backend | None:
    """What its devices show where no configuration can be read (it may come from etcd)."""
    kinds: dict[str, Backend] = {"vxlan": "vxlan", "wireguard": "wireguard", "ipip": "ipip", "tun": "udp"}
    found = {kinds[x.kind] for x in node.ns.links if x.name.startswith("flannel") and x.kind in kinds}
    return found.pop() if len(found) == 1 else None


def _uplink(node: Node, told: str) -> str:
    """The interface by name or by address, as --iface takes both; otherwise the one below its VXLAN device."""
    if told:
        link = node.link(told) or node.at(told)
        return link.name if link else ""
    lower = {x.vxlan.lower for x in node.ns.links if x.vxlan and x.name.startswith("flannel") and x.vxlan.lower}
    return next((x.name for x in node.ns.links if len(lower) == 1 and x.index in lower), "")


def _outer(node: Node, config: dict[str, Any]) -> Family:
    """IPv4 unless it is switched off; without a configuration, as its devices are called."""
    if config:
        return 6 if config.get("EnableIPv6") is True and config.get("EnableIPv4") is False else 4
    six = node.named("flannel-v6*", "flannel-wg-v6")
    return 6 if six and not node.named("flannel.*", "flannel-wg") else 4


def _facts(raw: dict[str, Any], path: str) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for key, name in (("VNI", "vni"), ("Port", "port")):
        value = raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 24:
            found[name] = value
    if raw.get("DirectRouting") is True:
        found["direct_routing"] = True
    if path:
        found["config"] = path
    return found
