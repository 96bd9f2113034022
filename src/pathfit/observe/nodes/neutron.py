"""OpenStack's neutron, on a network or compute node: its own files, without asking its API.

neutron.conf ``[DEFAULT] global_physnet_mtu`` (before Mitaka ml2_conf.ini ``[ml2] segment_mtu``, which is still read),
ml2_conf.ini ``[ml2] path_mtu``, ``tenant_network_types``, ``mechanism_drivers``, ``overlay_ip_version``,
``[ml2_type_geneve] max_header_size``; the agent's ``[ovs] local_ip`` (or ``[vxlan]``, Linux bridge) is where tunnels
start. All MTU options are *physical* values: neutron takes the overhead off itself (docs.openstack.org/neutron, "MTU
considerations"), and of the two the smaller counts, where the first is 1500 unless somebody wrote it. So ``granted`` is
neutron's own arithmetic on its own files. These files hold passwords; nothing else of them is kept.
"""

from pathfit.core.net import Family
from pathfit.core.node import Backend, Overlay
from pathfit.model.tunnels.makers import NEUTRON_MTU, neutron_mtu, taken
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

MAIN = "/etc/neutron/neutron.conf"
ML2 = "/etc/neutron/plugins/ml2/ml2_conf.ini"
AGENTS = (
    "/etc/neutron/plugins/ml2/openvswitch_agent.ini",
    "/etc/neutron/plugins/ml2/linuxbridge_agent.ini",
    ML2,
)
HEADER = 30  # max_header_size unless somebody wrote it (neutron_lib, GENEVE_ENCAP_MIN_OVERHEAD)
TYPES: dict[str, Backend] = {"vxlan": "vxlan", "gre": "gre", "geneve": "geneve"}


def read(node: Node) -> Overlay | None:
    """What neutron's files say; None where there are none."""
    main, ml2 = node.root.text(MAIN), node.root.text(ML2)
    if main is None and ml2 is None:
        return None
    plugin = files.sections(ml2)
    own = plugin.get("ml2", {})
    path_mtu = files.mtu(own.get("path_mtu")) or 0
    said = files.sections(main).get("default", {}).get("global_physnet_mtu", own.get("segment_mtu"))
    written = files.mtu(said)
    physical = NEUTRON_MTU if said is None else written or 0
    backend = _backend(own)
    outer: Family = 6 if own.get("overlay_ip_version") == "6" else 4
    size = plugin.get("ml2_type_geneve", {}).get("max_header_size", "")
    header = int(size) if size.isdecimal() and len(size) < 4 else HEADER
    ovn = "ovn" in _list(own.get("mechanism_drivers"))
    off = taken("neutron", backend, outer, header=header, ovn=ovn).deducts
    by_path = 0 < path_mtu <= (physical or path_mtu)
    below = _uplink(node)
    facts: dict[str, str | int | bool] = {"global_physnet_mtu": written} if written else {}
    facts |= {"path_mtu": path_mtu} if path_mtu else {}
    facts |= {"max_header_size": header} if backend == "geneve" else {}
    facts |= {"ovn": True} if ovn else {}
    return Overlay(
        maker="neutron",
        source=ML2 if ml2 is not None else MAIN,
        backend=backend,
        mtu=path_mtu if by_path else written,
        meaning="underlay",
        option="path_mtu" if by_path else "global_physnet_mtu" if written else "",
        granted=neutron_mtu(backend, physical, path_mtu, outer, header) if backend is not None else None,
        uplink=below,
        told=bool(below),
        deducted=off[0] if off else None,
        outer=outer,
        facts=facts,
    )


def _backend(own: dict[str, str]) -> Backend | None:
    """The first type of tenants' networks that is an overlay."""
    kinds = _list(own.get("tenant_network_types") or own.get("project_network_types"))
    return next((TYPES[k] for k in kinds if k in TYPES), None)


def _list(value: str | None) -> list[str]:
    return [x.strip() for x in (value or "").split(",")]


def _uplink(node: Node) -> str:
    for path in AGENTS:
        found = files.sections(node.root.text(path))
        address = found.get("ovs", {}).get("local_ip", "") or found.get("vxlan", {}).get("local_ip", "")
        link = node.at(address) if address else None
        if link is not None:
            return link.name
    return ""
