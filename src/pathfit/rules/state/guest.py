"""What a virtual machine was told of its MTU, and what it has."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding
from pathfit.core.node import InstanceNetwork
from pathfit.core.snapshot import Link
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.nodes import nodes


def mismatch(machine: Machine) -> Iterable[Finding]:
    """A machine's device is larger than the MTU that its cloud or its DHCP server gave for that network.

    Why it hurts: the port at the other side of the virtual cable carries what the cloud said, and drops what is larger
    without a word: a port of a switch cannot say "too big".
    Example: the metadata of an OpenStack instance on a VXLAN network say 1450, DHCP option 26 was not asked for, and
    eth0 has 1500.
    Repair: give the device that MTU, and let the DHCP client ask for option 26 (dhclient: `request interface-mtu`,
    networkd: UseMTU=yes).
    Severity: warning.
    Possible: only a lease says it, which may be an old one.
    Likely: the cloud's own metadata say it.
    Confirmed: never, from state alone.
    References: RFC 2132 section 5.1; docs.openstack.org/neutron, "MTU considerations"; nova, network_data.json.
    """
    for facts, net in nodes(machine):
        said: dict[str, tuple[InstanceNetwork, Link]] = {}
        for told in facts.instance:
            link = _device(net, told)
            if link is not None and told.mtu is not None and link.name not in said:
                said[link.name] = (told, link)  # the metadata's own word comes first
        for told, link in said.values():
            if told.mtu is None or link.mtu <= told.mtu:
                continue
            by_cloud = told.source in ("metadata", "cloud-init")
            more: Facts = {
                "case": "cloud" if by_cloud else "lease",
                "device": place_text(net.point(link.name)),
                "own": link.mtu,
                "told": told.mtu,
                "source": told.source,
            }
            proof = line(REF, "told-mtu", file=told.file, mtu=told.mtu)
            sure = "likely" if by_cloud else "possible"
            yield found("MTU113", "warning", sure, net.point(link.name), more, proof)  # type: ignore[arg-type]


def _device(net: Net, told: InstanceNetwork) -> Link | None:
    """The device that was meant: by its address (a bond or a VLAN on it has the same one: the device below them
    counts), else by name or number."""
    if told.mac:
        same = [x for x in net.snap.links if x.mac == told.mac]
        same = [x for x in same if not x.kind] or [x for x in same if x.kind == "veth"]
        return same[0] if len(same) == 1 else None
    if told.link:
        return net.names.get(told.link)
    return net.links.get(told.index) if told.index else None
