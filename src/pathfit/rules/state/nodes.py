"""Nodes for the state rules: what their files say (core/node.py), beside the devices that the kernel shows."""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from pathfit.core.finding import Finding
from pathfit.core.net import UDP
from pathfit.core.node import Distribution, NodeFacts, Overlay
from pathfit.core.snapshot import HostSnapshot, Link
from pathfit.model.lookup import Query, lookup
from pathfit.model.network import Net, Network
from pathfit.rules.state.machine import Machine

PHYSICAL = frozenset({"", "vlan", "bond", "team", "macvlan", "ipvlan", "veth"})
"""Kinds of devices that lead out of a machine; in a lab host or a node in a container that is one half of a veth."""


class Node(NamedTuple):
    """What a node's files say, and its namespace."""

    facts: NodeFacts
    net: Net


class Placed(NamedTuple):
    """One maker's overlay on a node."""

    overlay: Overlay
    net: Net
    address: str = ""  # of the node in its cluster
    distribution: Distribution = ""

    @property
    def given(self) -> int | None:
        """The MTU that containers get: as the maker says, else that of its smallest tunnel device (Cilium leaves its
        devices large and puts the MTU on routes)."""
        if self.overlay.granted is not None or self.overlay.maker == "cilium":
            return self.overlay.granted
        return min((x.mtu for x in self.tunnels), default=None)

    @property
    def tunnels(self) -> tuple[Link, ...]:
        """Its devices that packets leave this host by, encapsulated."""
        here = (self.net.names[n] for n in self.overlay.devices if n in self.net.names)
        return tuple(x for x in here if x.up and (x.vxlan or x.wireguard or x.kind in TUNNELS))


TUNNELS = frozenset({"vxlan", "geneve", "ipip", "wireguard", "gre", "gretap"})


def nodes(machine: Machine) -> Iterator[Node]:
    """Every node whose namespace was read."""
    nets = {net.snap.id: net for net in machine.network.nets.values()}
    for facts in machine.host.nodes:
        if facts.netns in nets:
            yield Node(facts, nets[facts.netns])


def overlays(machine: Machine) -> Iterator[Placed]:
    """Every maker's overlay on every node."""
    for facts, net in nodes(machine):
        for overlay in facts.overlays:
            yield Placed(overlay, net, facts.address, facts.distribution)


class Cni(NamedTuple):
    """The network of a node's pods. ``name``: its maker, or "canal", where Calico makes the pods' cables and flannel
    carries what leaves the node. ``carrier`` is whose encapsulation counts, ``option`` whose option sizes the pods."""

    name: str
    carrier: Placed
    option: Placed


CABLES = {"calico": "cali", "cilium": "lxc", "weave": "vethwepl"}
"""How the node's half of a pod's cable begins."""
BRIDGES = {"flannel": ("cni0", "cbr0"), "weave": ("weave",)}
"""Bridges that a pod's cable is a port of."""


def cnis(machine: Machine) -> Iterator[Cni]:
    """The pods' network of each node, where there is one: of two makers on one node (but for canal) neither is
    certain to be it."""
    by: dict[str, dict[str, Placed]] = {}
    for p in overlays(machine):
        if p.overlay.maker != "neutron":
            by.setdefault(p.net.key, {})[p.overlay.maker] = p
    for found in by.values():
        if len(found) == 1:
            ((maker, p),) = found.items()
            yield Cni(maker, p, p)
        elif set(found) == {"flannel", "calico"}:
            yield Cni("canal", found["flannel"], found["calico"])


def pod_spaces(host: HostSnapshot) -> frozenset[str]:
    """Ids of the namespaces that an engine calls a pod's."""
    return frozenset(c.netns for e in host.engines for c in e.containers if c.pod and c.netns)


def is_pod_of(cni: Cni, called: frozenset[str], network: Network, net: Net) -> bool:
    """Is ``net`` a pod that this network made a cable for? By the cable, or because an engine says that it is a pod
    (``called``). A pod in its node's own namespace (the agents are) has none."""
    if net is cni.carrier.net:
        return False
    names = {cni.carrier.overlay.maker, cni.option.overlay.maker}
    starts = tuple(CABLES[m] for m in sorted(names) if m in CABLES)
    bridges = {b for m in names for b in BRIDGES.get(m, ())}
    for link in net.snap.links:
        other = network.peer(net, link) if link.kind == "veth" else None
        if other is None or other[0] is not cni.carrier.net:
            continue
        half, master = other[1], other[0].links.get(other[1].master)
        if half.name.startswith(starts or "\0") or (master is not None and master.name in bridges):
            return True
        if net.snap.id in called:
            return True
    return False


def of_pods(machine: Machine, p: Placed, finding: Finding) -> Finding:
    """The same finding, with the pods that this overlay's MTU concerns."""
    cni = next((c for c in cnis(machine) if p in (c.carrier, c.option)), None)
    if cni is None:
        return finding
    called = pod_spaces(machine.host)
    keys = (s.key for s in machine.seats if s.net is not None and is_pod_of(cni, called, machine.network, s.net))
    return msgspec.structs.replace(finding, workloads=tuple(dict.fromkeys(keys)))


def ends(net: Net, tunnel: Link) -> tuple[str, ...]:
    """Addresses of the far ends of a tunnel device, as far as the kernel shows them: its own remote end, forwarding
    entries, WireGuard's peers, gateways of routes by an IPIP device without a remote end (Calico's tunl0)."""
    found: list[str] = []
    if tunnel.vxlan is not None:
        found += [x.remote for x in net.snap.fdb if x.link == tunnel.index and x.remote]
        found += [tunnel.vxlan.remote] if tunnel.vxlan.remote else []
    elif tunnel.wireguard is not None:
        found += [p.endpoint for p in tunnel.wireguard.peers if p.endpoint]
    elif tunnel.info.get("remote"):
        found.append(str(tunnel.info["remote"]))
    else:
        found += [h.via for r in net.snap.routes for h in r.hops if h.link == tunnel.index and h.via]
    return tuple(dict.fromkeys(a for a in found if _one_host(a)))


def leaves_by(net: Net, address: str, tunnel: Link | None = None) -> Link | None:
    """The one device by which packets for ``address`` leave; None when there is not exactly one. ``tunnel``: they are
    its outer packets (its lower device and mark count)."""
    lower = tunnel.vxlan.lower if tunnel is not None and tunnel.vxlan is not None else 0
    mark = tunnel.wireguard.mark if tunnel is not None and tunnel.wireguard is not None else 0
    there = lookup(net, Query(address, oif=lower, mark=mark, proto=UDP))
    if there.kind != "unicast":
        return None
    links = {h.link for h in there.hops}
    return net.links.get(links.pop()) if len(links) == 1 else None


def default_link(net: Net) -> Link | None:
    """The device of the default route (IPv4's, else IPv6's), when there is exactly one."""
    for family in (4, 6):
        ways = [r for r in net.snap.routes if r.prefix == 0 and r.family == family and r.table in (0, 254)]
        if ways:
            best = min(r.metric for r in ways)
            links = {h.link for r in ways if r.metric == best and r.type == "unicast" for h in r.hops}
            return net.links.get(links.pop()) if len(links) == 1 else None
    return None


def uplinks(machine: Machine, net: Net) -> tuple[Link, ...]:
    """Devices of ``net`` with a network behind them that lead out of it: neither bridge ports nor cables to a
    container of this machine."""
    inside = {seat.net.key for seat in machine.seats if seat.net is not None}
    addressed = {a.link for a in net.snap.addresses if a.scope == 0 and a.prefix not in (32, 128)}
    found = []
    for link in net.snap.links:
        if link.kind not in PHYSICAL or link.loopback or not link.up or not link.carrier or link.master:
            continue
        other = machine.network.peer(net, link) if link.kind == "veth" else None
        if link.index in addressed and (other is None or other[0].key not in inside):
            found.append(link)
    return tuple(found)


def _one_host(address: str) -> bool:
    try:
        it = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (it.is_multicast or it.is_unspecified or it.is_loopback)
