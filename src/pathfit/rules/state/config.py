"""Configuration that says something else than it does: the wrong network device looked at, two networks of different
size below, an option that means the network below and not the containers.

These are causes: what fails because of them is said by the MTU rules. A number in a file is somebody's word; a rule
here speaks only where the devices show the same.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from pathfit.core.finding import Confidence, Facts, Finding
from pathfit.core.net import Family, Point
from pathfit.core.node import Meaning, Overlay
from pathfit.core.snapshot import Link
from pathfit.model.network import Net
from pathfit.model.tunnels.makers import fitting_inner, taken
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.mtu import USUAL, Narrow, narrow
from pathfit.rules.state.nodes import Placed, cnis, default_link, ends, leaves_by, of_pods, overlays, uplinks

PORTS = frozenset({"tun", "veth", "openvswitch"})  # kinds of devices that instances are plugged into
NEUTRONS = ("tap", "qvo", "qvb", "qr-", "qg-")  # neutron_lib/constants.py, os_vif: names of neutron's own ports
VXLAN_TAKES, ESP_TAKES = 50, 26  # libnetwork, drivers/overlay: vxlanEncap, and maxMTU() of an encrypted network


def wrong_interface(machine: Machine) -> Iterable[Finding]:
    """An overlay sized itself by a network device that its packets do not leave by.

    Why it hurts: the maker looked at the device of the default route, or at one whose name it knows; the outer packets
    leave by a smaller one. What fits the first does not fit the second.
    Example: flannel found eth0 (1500) and gives 1420; its WireGuard peers are reached over a VLAN of 1400.
    Repair: name the device (flannel --iface, Calico mtuIfacePattern, Cilium devices, Antrea transportInterface), or
    write the MTU down.
    Severity: warning; it is the cause of MTU104.
    Possible: to whom its tunnels lead cannot be seen; the node's address in its cluster is on the smaller device.
    Likely: the far ends are known, all of them are reached by the smaller device, and what containers get does not fit.
    Confirmed: never, from state alone.
    References: flannel pkg/ipmatch; Calico findHostMTU(); Cilium issue 14339; k3s on a vSwitch.
    """
    for p in overlays(machine):
        o = p.overlay
        given = p.given
        if not o.deducted or o.detected is None or o.mtu is not None or given is None:
            continue
        for tunnel in p.tunnels:
            out, family, sure = _out(p, tunnel)
            if out is None or out.mtu >= o.detected or out.name == o.uplink:
                continue
            fits = _fitting(o, out.mtu, family)
            if fits is None or given <= fits:
                continue
            facts: Facts = {
                "maker": o.maker,
                "device": place_text(p.net.point(tunnel.name)),
                "looked_at": o.uplink or None,
                "case": "address" if not sure else "named" if o.uplink else "unnamed",
                "detected": o.detected,
                "leaves": place_text(p.net.point(out.name)),
                "leaves_mtu": out.mtu,
                "given": given,
                "fits": fits,
            }
            seen = "outer-leaves" if sure else "node-address"
            lines = (
                line(REF, "maker-gives", maker=o.maker, given=given, source=o.source or tunnel.name),
                line(REF, seen, device=place_text(p.net.point(out.name)), mtu=out.mtu, address=p.address),
            )
            at = (p.net.point(tunnel.name), p.net.point(out.name))
            yield of_pods(machine, p, found("CFG604", "warning", "likely" if sure else "possible", at, facts, *lines))


def too_little(machine: Machine) -> Iterable[Finding]:
    """A maker's overlay gives its containers more than its encapsulation leaves of the network below.

    Why it hurts: its tunnels are moved by a program or by Open vSwitch, so the kernel's devices show nothing; what is
    too large is dropped there, or learned too late.
    Example: ovn-kubernetes is told 1450 over 1500, but its Geneve takes 58: 1442 fit. An old Antrea takes 38 off for a
    GRE tunnel with a key, which needs 42.
    Repair: the overlay's MTU = the device's MTU less what the encapsulation really takes (docs/nodes.md).
    Severity: warning.
    Possible: the tunnels are taken to begin at the device of the default route; of neutron, that its files speak of
    networks that are there.
    Likely: the maker was told the device, or the node's address in its cluster is on it; of neutron, an instance's port
    has the MTU that its files grant.
    Confirmed: never, from state alone.
    References: ovn-kubernetes issue 854 (58 bytes); Antrea node_config.go; docs/nodes.md.
    """
    for p in overlays(machine):
        o = p.overlay
        if o.backend in (None, "none", "host-gw") or o.granted is None or o.maker == "weave":
            continue  # of Weave OVL306 speaks: it goes another way when it does not fit
        if any(ends(p.net, x) for x in p.tunnels):
            continue  # where far ends are seen, the ways are predicted (mtu.overlay)
        if o.maker == "neutron" and not o.told:
            continue  # its server's files say nothing of the devices of the machine that they are on
        nic, sure = _below(p)
        fits = _fitting(o, nic.mtu, o.outer or 4) if nic is not None else None
        if nic is None or fits is None or o.granted <= fits or nic.name in o.devices:
            continue
        device = next((n for n in o.devices if n in p.net.names), nic.name)
        facts: Facts = {
            "case": "maker",
            "maker": o.maker,
            "backend": o.backend,
            "given": o.granted,
            "nic": place_text(p.net.point(nic.name)),
            "nic_mtu": nic.mtu,
            "overhead": nic.mtu - fits,
            "limit": fits,
        }
        lines = (
            line(REF, "maker-gives", maker=o.maker, given=o.granted, source=o.source or device),
            line(REF, "uplink", device=place_text(p.net.point(nic.name)), mtu=nic.mtu),
        )
        at = tuple(dict.fromkeys((p.net.point(device), p.net.point(nic.name))))
        confidence: Confidence = "likely" if sure and in_force(p) else "possible"
        yield of_pods(machine, p, found("MTU104", "warning", confidence, at, facts, *lines))


def _fitting(o: Overlay, mtu: int, outer: Family) -> int | None:
    """What really fits into ``mtu`` with this overlay's encapsulation."""
    return fitting_inner(o.maker, o.backend, mtu, outer, o.encryption, ovn=bool(o.facts.get("ovn")))


def in_force(p: Placed) -> bool:
    """Is what the files grant what there is? Of neutron they hold on its server alone, and for networks made since: a
    port with that MTU, where tunnels begin, shows that they do."""
    if p.overlay.maker != "neutron":
        return True
    if not p.overlay.told:
        return False
    ports = (x for x in p.net.snap.links if x.kind in PORTS and x.name.startswith(NEUTRONS))
    return any(x.mtu == p.overlay.granted for x in ports)


def _below(p: Placed) -> tuple[Link | None, bool]:
    """The device that an overlay's packets leave by, as far as anybody says it, and whether somebody does."""
    if p.overlay.told and p.overlay.uplink in p.net.names:
        return p.net.names[p.overlay.uplink], True
    index = next((a.link for a in p.net.snap.addresses if p.address and a.address == p.address), 0)
    if index in p.net.links:
        return p.net.links[index], True
    return default_link(p.net), False


def _out(p: Placed, tunnel: Link) -> tuple[Link | None, Family, bool]:
    """The device by which the outer packets of a tunnel leave towards every end it has, their family, and whether
    those ends are seen: another program may tell the device where to send, and nodes then send to nodes' addresses."""
    far = ends(p.net, tunnel)
    if not far and p.address:
        index = next((a.link for a in p.net.snap.addresses if a.address == p.address), 0)
        return p.net.links.get(index), 6 if ":" in p.address else 4, False
    ways = {x.index if x else 0: x for x in (leaves_by(p.net, a, tunnel) for a in far)}
    families = {6 if ":" in a else 4 for a in far}
    if len(ways) != 1 or len(families) != 1:
        return None, 4, False
    return next(iter(ways.values())), 6 if 6 in families else 4, True


def dual_nic(machine: Machine) -> Iterable[Finding]:
    """A machine has two uplinks of different MTU; its containers are sized by the larger and leave by the smaller.

    Why it hurts: whoever looks at the larger device finds that everything agrees. The default route leads elsewhere.
    Example: management eth1 has 1500, data eth0 1450 with the default route; docker0 has 1500.
    Repair: give the containers' network the MTU of the smallest uplink that their packets may use.
    Severity: warning when the containers have exactly the larger device's MTU and that is not the usual 1500, for then
    it was taken from there; otherwise info.
    Possible: the containers have the larger device's MTU, which may be chance.
    Likely: they have it, and it is not the usual 1500.
    Confirmed: never, from state alone.
    References: article 001 (data 1450, management 1500); hcloud-k8s issue 450.
    """
    by: dict[Point, list[tuple[Narrow, Link, Link]]] = {}
    for n in narrow(machine):
        if n.outbound and n.way.what == "elsewhere" and not n.limit.overhead and (pair := _two(machine, n)):
            by.setdefault(n.limit.at, []).append((n, *pair))
    for at, all_ in by.items():
        n, small, large = all_[0]
        own = n.group.device.mtu if n.group.device else n.size
        net = machine.network.at(at)
        facts: Facts = {
            "source": n.group.name,
            "own": own,
            "large": place_text(net.point(large.name)) if net else large.name,
            "large_mtu": large.mtu,
            "small": place_text(at),
            "small_mtu": small.mtu,
        }
        sure = large.mtu != USUAL
        lines = (
            line(REF, "uplink", device=str(facts["large"]), mtu=large.mtu),
            line(REF, "uplink", device=place_text(at), mtu=small.mtu),
        )
        finding = found("CFG605", "warning" if sure else "info", "likely" if sure else "possible", at, facts, *lines)
        keys = tuple(dict.fromkeys(k for m, _, _ in all_ for k in m.group.keys))
        yield msgspec.structs.replace(finding, workloads=keys)


def _two(machine: Machine, n: Narrow) -> tuple[Link, Link] | None:
    """(the uplink that is too small, another one of exactly the source's MTU); None when that is not so."""
    net = machine.network.at(n.limit.at)
    own = n.group.device.mtu if n.group.device else n.size
    if net is None or n.group.net is net:
        return None
    all_ = uplinks(machine, net)
    small = next((x for x in all_ if x.name == n.limit.at.link and x.mtu == n.limit.mtu), None)
    large = next((x for x in all_ if x.mtu == own and small is not None and x.index != small.index), None)
    return (small, large) if small is not None and large is not None and large.mtu > small.mtu else None


def option_is_underlay(machine: Machine) -> Iterable[Finding]:
    """An option that means the network below was given another size: the containers', or one that network has not;
    or an option that means the containers was given the size of the network below.

    Why it hurts: given the containers' size, the overlay's bytes are taken off twice: everything works with packets
    smaller than need be. Given the size of the network below, nothing is taken off at all, and large packets do not
    fit. A size that was right on other nodes' devices makes containers that are too large for this one.
    Example: flannel's Backend.MTU 1450 on a device of 1500 makes containers of 1400; Calico's veth_mtu 1500 makes
    containers of 1500 over a VXLAN that carries 1450; Backend.MTU 1500 on a device of 1450 makes containers of 1450.
    Repair: write the MTU of the device into options of flannel, Cilium, neutron and Docker's overlay driver; write that
    MTU less the overhead into those of Calico, Antrea, ovn-kubernetes and Weave; or nothing at all.
    Severity: warning where larger packets do not fit; info where they are only smaller than need be.
    Possible: the number is exactly the device's MTU less the overhead, and the overhead was taken off it once more; the
    path beyond the device may be as small as that. Or: to whom the tunnels lead cannot be seen, and the number is above
    the device with the node's address.
    Likely: the number is exactly the device's MTU, the option means the containers', and they have it. Or: the number
    is above the device that leads to every far end, and what containers get of it does not fit there.
    Confirmed: never, from state alone.
    References: flannel vxlan/device.go; docs.openstack.org "MTU considerations"; libnetwork drivers/overlay maxMTU();
    projectcalico.org "Configure MTU"; crowbar-openstack issue 313.
    """
    for t in (*_told_makers(machine), *_told_engines(machine)):
        facts: Facts = {
            "who": t.who,
            "option": t.option,
            "written": t.written,
            "nic": place_text(t.net.point(t.nic.name)),
            "nic_mtu": t.nic.mtu,
            "given": t.given,
        }
        lines = (
            line(REF, "option-written", who=t.who, option=t.option, mtu=t.written, source=t.source or t.who),
            line(REF, "uplink", device=place_text(t.net.point(t.nic.name)), mtu=t.nic.mtu),
        )
        if t.meaning == "underlay" and t.given in {t.written - d for d in t.takes if t.written == t.nic.mtu - d and d}:
            facts |= {"case": "twice", "overhead": t.written - (t.given or 0), "fits": t.written}
            yield _whose(machine, t, found("CFG606", "info", "possible", t.at, facts, *lines))
        elif t.meaning == "inner" and t.fits is not None and t.written == t.nic.mtu > t.fits and t.given == t.written:
            facts |= {"case": "whole", "overhead": t.nic.mtu - t.fits, "fits": t.fits}
            yield _whose(machine, t, found("CFG606", "warning", "likely", t.at, facts, *lines))
    yield from _above(machine)


def _above(machine: Machine) -> Iterator[Finding]:
    """Options that mean the network below and are larger than the device that the tunnel's packets leave by."""
    for p in overlays(machine):
        o, given = p.overlay, p.given
        if o.meaning != "underlay" or o.mtu is None or given is None or o.maker == "neutron":
            continue  # neutron's options are its server's word, for every node: too_little() looks at what is in force
        for tunnel in p.tunnels:
            out, family, sure = _out(p, tunnel)
            fits = _fitting(o, out.mtu, family) if out is not None else None
            if out is None or fits is None or o.mtu <= out.mtu or given <= fits:
                continue
            nic = place_text(p.net.point(out.name))
            facts: Facts = {
                "case": "above",
                "who": o.maker,
                "option": o.option,
                "written": o.mtu,
                "nic": nic,
                "nic_mtu": out.mtu,
                "given": given,
                "fits": fits,
            }
            lines = (
                line(REF, "option-written", who=o.maker, option=o.option, mtu=o.mtu, source=o.source or o.maker),
                line(REF, "outer-leaves" if sure else "node-address", device=nic, mtu=out.mtu, address=p.address),
            )
            at = (p.net.point(tunnel.name), p.net.point(out.name))
            yield of_pods(machine, p, found("CFG606", "warning", "likely" if sure else "possible", at, facts, *lines))


def _whose(machine: Machine, t: "_Told", finding: Finding) -> Finding:
    return of_pods(machine, t.placed, finding) if t.placed is not None else finding


class _Told(NamedTuple):
    """One option that somebody wrote. ``takes``: what its maker may take off; ``given``: what containers really have;
    ``fits``: what really fits over ``nic``."""

    who: str
    option: str
    written: int
    meaning: Meaning
    takes: tuple[int, ...]
    given: int | None
    fits: int | None
    net: Net
    nic: Link
    at: tuple[Point, ...]
    source: str
    placed: Placed | None = None


def _told_makers(machine: Machine) -> Iterator[_Told]:
    pairs = tuple(cnis(machine))  # of canal: Calico sizes what flannel carries
    for p in overlays(machine):
        o, below = p.overlay, next((x.carrier for x in pairs if x.option == p), p)
        c = below.overlay
        nic = _seen(below) or p.net.names.get(c.uplink) or default_link(p.net)
        if o.mtu is None or nic is None or c.backend is None or not in_force(p):
            continue
        outer = c.outer or 4  # not known: with IPv6 outside even less fits
        takes = taken(c.maker, c.backend, outer, c.encryption).deducts
        if c.deducted is not None:
            takes = tuple(dict.fromkeys((c.deducted, *takes)))
        at = (*(p.net.point(x.name) for x in below.tunnels), p.net.point(nic.name))
        fits = _fitting(c, nic.mtu, outer)
        given = _has(p, o.mtu) if o.meaning == "inner" else p.given
        yield _Told(o.maker, o.option, o.mtu, o.meaning, takes, given, fits, p.net, nic, at, o.source, p)


def _seen(p: Placed) -> Link | None:
    """The device that leads to every far end of its tunnels; None where those are not seen."""
    found = (_out(p, tunnel) for tunnel in p.tunnels)
    return next((out for out, _, sure in found if sure), None)


def _has(p: Placed, mtu: int) -> int | None:
    """``mtu`` where a container's cable or the maker's own word shows that it is in force; otherwise that word."""
    cables = (x for x in p.net.snap.links if x.kind == "veth" and x.mtu == mtu and not x.master)
    return mtu if p.overlay.granted == mtu or next(cables, None) is not None else p.given


def _told_engines(machine: Machine) -> Iterator[_Told]:
    """Networks of the overlay driver (Docker's): their option means the network below."""
    nets = {net.snap.id: net for net in machine.network.nets.values()}
    for engine in machine.host.engines:
        outside = nets.get(engine.netns)
        for network in engine.networks if outside is not None else ():
            inside = nets.get(network.netns)
            tunnel = next((x for x in inside.snap.links if x.vxlan), None) if inside is not None else None
            if not network.is_underlay or network.mtu is None or inside is None or tunnel is None or outside is None:
                continue
            nic = _leaves(outside, inside, tunnel)
            if nic is None:
                continue
            takes = VXLAN_TAKES + (ESP_TAKES if network.encrypted else 0)
            whole = tuple(range(takes, takes + 4)) if network.encrypted else (takes,)  # floored to a multiple of 4
            at = (inside.point(tunnel.name), outside.point(nic.name))
            option = "com.docker.network.driver.mtu"
            yield _Told(
                network.name, option, network.mtu, "underlay", whole, tunnel.mtu, None, outside, nic, at, engine.kind,
            )  # fmt: skip


def _leaves(outside: Net, inside: Net, tunnel: Link) -> Link | None:
    """The device by which a tunnel's packets leave towards every end it knows; that of the default route where it knows
    none."""
    far = ends(inside, tunnel)
    ways = {x.index: x for x in (leaves_by(outside, a, tunnel) for a in far) if x is not None}
    return next(iter(ways.values())) if len(ways) == 1 else None if far else default_link(outside)


__all__ = ["dual_nic", "option_is_underlay", "too_little", "wrong_interface"]
