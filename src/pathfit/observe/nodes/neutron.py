"""OpenStack's neutron, on a network or compute node: its own files, without asking its API.

neutron.conf ``[DEFAULT] global_physnet_mtu``, ml2_conf.ini ``[ml2] path_mtu``, ``tenant_network_types``,
``overlay_ip_version``, ``[ml2_type_geneve] max_header_size``; the agent's ``[ovs] local_ip`` (or ``[vxlan]``, Linux
bridge) is where tunnels start. All MTU options are *physical* values: neutron takes the overhead off itself
(docs.openstack.org/neutron, "MTU considerations"). These files hold passwords; nothing else of them is kept.
"""

from pathfit.core.net import Family
from pathfit.core.node import Backend, Overlay
from pathfit.model.makers import taken
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

MAIN = "/etc/neutron/neutron.conf"
ML2 = "/etc/neutron/plugins/ml2/ml2_conf.ini"
AGENTS = (
    "/etc/neutron/plugins/ml2/openvswitch_agent.ini",
    "/etc/neutron/plugins/ml2/linuxbridge_agent.ini",
    ML2,
)
TYPES: dict[str, Backend] = {"vxlan": "vxlan", "gre": "gre", "geneve": "geneve"}


def read(node: Node) -> Overlay | None:
    """What neutron's files say; None where there are none."""
    main, ml2 = node.root.text(MAIN), node.root.text(ML2)
    if main is None and ml2 is None:
        return None
    plugin = files.sections(ml2)
    own = plugin.get("ml2", {})
    path_mtu = files.mtu(own.get("path_mtu"))
    physical = files.mtu(files.sections(main).get("default", {}).get("global_physnet_mtu"))
    written = path_mtu or physical
    kinds = [k.strip() for k in own.get("tenant_network_types", own.get("project_network_types", "")).split(",")]
    backend = next((TYPES[k] for k in kinds if k in TYPES), None)
    outer: Family = 6 if own.get("overlay_ip_version") == "6" else 4
    header = plugin.get("ml2_type_geneve", {}).get("max_header_size", "")
    off = taken("neutron", backend, outer, header=int(header) if header.isdecimal() and len(header) < 4 else 0).deducts
    below = _uplink(node)
    facts: dict[str, str | int | bool] = {"global_physnet_mtu": physical} if physical and path_mtu else {}
    return Overlay(
        maker="neutron",
        source=ML2 if ml2 is not None else MAIN,
        backend=backend,
        mtu=written,
        meaning="underlay",
        option="path_mtu" if path_mtu else "global_physnet_mtu" if physical else "",
        uplink=below,
        told=bool(below),
        deducted=off[0] if off else None,
        outer=outer,
        facts=facts,
    )


def _uplink(node: Node) -> str:
    for path in AGENTS:
        found = files.sections(node.root.text(path))
        address = found.get("ovs", {}).get("local_ip", "") or found.get("vxlan", {}).get("local_ip", "")
        link = node.at(address) if address else None
        if link is not None:
            return link.name
    return ""
