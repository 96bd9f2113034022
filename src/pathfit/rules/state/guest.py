"""What a virtual machine was told of its MTU, what it has, and what the port it is plugged into carries."""

from collections.abc import Iterable, Iterator

from pathfit.core.finding import Facts, Finding
from pathfit.core.node import InstanceNetwork, NodeFacts
from pathfit.core.snapshot import Link
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.fleet import Fleet, Tap, Uplink
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.nodes import nodes


def mismatch(machine: Machine) -> Iterable[Finding]:
    """A machine's device is larger than the MTU its cloud or DHCP server gave, or than its host's end of the cable.

    Why it hurts: the port at the other side of the virtual cable carries what the cloud said, and drops what is larger
    without a word: a port of a switch cannot say "too big".
    Example: the metadata of an OpenStack instance on a VXLAN network say 1450, DHCP option 26 was not asked for, and
    eth0 has 1500.
    Repair: give the device that MTU, and let the DHCP client ask for option 26 (dhclient: `request interface-mtu`,
    networkd: UseMTU=yes).
    Severity: warning.
    Possible: only a lease says it, which may be an old one.
    Likely: the cloud's own metadata say it; or the host is seen as well, and its tap is smaller.
    Confirmed: never, from state alone.
    References: RFC 2132 section 5.1; docs.openstack.org/neutron, "MTU considerations"; nova, network_data.json.
    """
    for facts, net in nodes(machine):
        for told, link in promises(facts, net):
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


def port(fleet: Fleet) -> Iterable[Finding]:
    """A virtual machine's device is larger than its host's end of the virtual cable.

    Why it hurts: the machine invites packets of its own size. The host's bridge drops what its tap device does not
    take, without a word: a port of a switch cannot say "too big".
    Example: the guest's eth0 has 1500, the tap of its host 1450: ServerHello leaves the bridge and never arrives.
    Repair: the same MTU on both; where the network below is small, the smaller one, by metadata or DHCP option 26.
    Severity: warning.
    Possible: never said.
    Likely: the guest's address was learned behind that tap, or the tap's own address is made from it, as libvirt does.
    Confirmed: never, from state alone.
    References: is_skb_forwardable(); libvirt, virNetDevTapCreateInBridgePort(); article 001.
    """
    for tap, guest in _plugged(fleet):
        if guest.mtu <= tap.mtu:
            continue
        there = f"{tap.at.host}: {place_text(tap.at)}"
        facts: Facts = {
            "case": "port",
            "device": f"{guest.at.host}: {place_text(guest.at)}",
            "own": guest.mtu,
            "told": tap.mtu,
            "port": there,
        }
        proof = line(REF, "plugged", mac=guest.mac, port=there, mtu=tap.mtu)
        yield found("MTU113", "warning", "likely", (guest.at, tap.at), facts, proof)


def _plugged(fleet: Fleet) -> Iterator[tuple[Tap, Uplink]]:
    """(a host's tap, the guest's device behind it), where exactly one of all devices has that address."""
    known: dict[str, list[Uplink]] = {}
    for d in fleet.digests:
        for u in d.uplinks:
            if u.mac and u.kind in ("", "veth"):  # a bond, a VLAN, a bridge have the address of what they are made of
                known.setdefault(u.mac, []).append(u)
                known.setdefault(f"fe{u.mac[2:]}", []).append(u)
    for d in fleet.digests:
        for tap in d.taps:
            behind = {id(u): u for mac in tap.macs for u in known.get(mac, ()) if u.at.host != d.host}
            if len(behind) == 1:
                yield tap, next(iter(behind.values()))


def promises(facts: NodeFacts, net: Net) -> Iterable[tuple[InstanceNetwork, Link]]:
    """What a machine was told of the MTU of its devices, one word for each; the metadata's own comes first."""
    said: dict[str, tuple[InstanceNetwork, Link]] = {}
    for told in facts.instance:
        link = _device(net, told)
        if link is not None and told.mtu is not None:
            said.setdefault(link.name, (told, link))
    return said.values()


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
