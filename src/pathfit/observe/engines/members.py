"""What the kernel adds to an engine's word: which device of a container is in which of its networks (pure).

An engine read by its files does not say where a container is a member; a veth whose other half is a port of the
network's bridge does. An engine that says it does not always name the device.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.model.workloads import RUNS, owns

Spaces = Mapping[str, NetnsSnapshot]


def joined(engines: Iterable[Engine], namespaces: Iterable[NetnsSnapshot]) -> tuple[Engine, ...]:
    """The engines with the devices of their containers, and with memberships they did not tell of.

    Docker's word on who is a member is complete but for docker_gwbridge, which is in no container's list: only the
    network gets those members.
    """
    spaces = {n.id: n for n in namespaces}
    return tuple(_joined(engine, spaces) for engine in engines)


def _joined(engine: Engine, spaces: Spaces) -> Engine:
    containers = tuple(_with_devices(engine, one, spaces) for one in engine.containers)
    members: dict[str, list[str]] = {}
    for one in containers:
        if one.state in RUNS:
            told = [e.network for e in one.endpoints]
            seen = [n.id for n, _ in _bridged(engine, one, spaces)] if owns(one) else []
            for network in dict.fromkeys((*told, *seen)):
                members.setdefault(network, []).append(one.id)
    networks = tuple(
        replace(n, members=tuple(dict.fromkeys((*n.members, *members.get(n.id, ()))))) for n in engine.networks
    )
    return replace(engine, containers=containers, networks=networks)


def _with_devices(engine: Engine, one: Container, spaces: Spaces) -> Container:
    ns = spaces.get(one.netns)
    if ns is None or one.netns == engine.netns or not ns.links:
        return one
    seen = {n.id: link for n, link in _bridged(engine, one, spaces)} if owns(one) else {}
    told = tuple(_with_device(end, ns, seen.get(end.network)) for end in one.endpoints)
    if engine.kind != "docker" and owns(one):
        known = {e.network for e in told}
        told += tuple(_endpoint(n, link, ns) for n, link in _bridged(engine, one, spaces) if n.id not in known)
    return replace(one, endpoints=told) if told != one.endpoints else one


def _bridged(engine: Engine, one: Container, spaces: Spaces) -> Iterable[tuple[EngineNetwork, Link]]:
    """Networks whose bridge the other half of one of its veths is a port of: on the host, or in the namespace where an
    overlay hides."""
    ns = spaces.get(one.netns)
    if ns is None or one.netns == engine.netns:
        return []
    bridges = {(engine.netns, n.bridge): n for n in engine.networks if n.bridge}
    hidden = {n.netns: n for n in engine.networks if n.netns}
    found: dict[str, tuple[EngineNetwork, Link]] = {}
    for link in ns.links:
        there = spaces.get(link.peer_ns or "")
        half = next((x for x in there.links if x.index == link.peer), None) if there and link.kind == "veth" else None
        if there is None or half is None:
            continue
        master = next((x.name for x in there.links if x.index == half.master), "") if half.master else ""
        network = hidden.get(there.id) or bridges.get((there.id, master))
        if network is not None:
            found.setdefault(network.id, (network, link))
    return list(found.values())


def _with_device(end: Endpoint, ns: NetnsSnapshot, seen: Link | None) -> Endpoint:
    """An endpoint with the device that is its: by its address, its MAC, or the network it leads into."""
    mine = {ipaddress.ip_address(a) for a in end.addresses}
    at = {a.link for a in ns.addresses if mine and ipaddress.ip_address(a.address) in mine}
    link = next((x for x in ns.links if x.index in at), None) or next(
        (x for x in ns.links if end.mac and x.mac == end.mac), seen
    )
    if link is None:
        return end
    addresses = end.addresses or _addresses(ns, link)
    return replace(end, link=link.name, mac=end.mac or link.mac, addresses=addresses)


def _endpoint(network: EngineNetwork, link: Link, ns: NetnsSnapshot) -> Endpoint:
    return Endpoint(network=network.id, name=network.name, addresses=_addresses(ns, link), mac=link.mac, link=link.name)


def _addresses(ns: NetnsSnapshot, link: Link) -> tuple[str, ...]:
    return tuple(a.address for a in ns.addresses if a.link == link.index and a.scope == 0)
