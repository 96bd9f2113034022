"""What engines were told, beside what they do: an MTU that is not passed on, one of an engine in a container, one that
was written down and is not in force.

These are causes. What fails because of them is said by the rules on sizes; where nothing fails, nothing is said here
either, but for a configuration that is not in force: the next restart will change what works today.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pathfit.core.engine import Engine, EngineNetwork
from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.net import Point
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Group, Machine
from pathfit.rules.state.mtu import about, narrow
from pathfit.wire.daemonjson import mtu_of

BRIDGE = "bridge"
USUAL = 1500  # bytes: what the kernel gives a veth or a bridge by itself (ether_setup())


class Member(NamedTuple):
    """A group whose first workload is in a bridge network of an engine; ``keys``: all of the group that are."""

    engine: Engine
    network: EngineNetwork
    group: Group
    keys: tuple[str, ...]
    mtu: int  # bytes, of their device there


class WayOut(NamedTuple):
    """The device of a namespace's default route; ``mtu`` in bytes."""

    net: Net
    link: str
    mtu: int


def members(machine: Machine) -> Iterator[Member]:
    """Who is in which bridge network of which engine."""
    for engine in machine.host.engines:
        networks = {n.id: n for n in engine.networks if n.driver == BRIDGE}
        homes = {c.netns: c for c in engine.containers if c.netns}
        for group in machine.groups:
            inside: dict[str, list[str]] = {}
            for seat in group.seats:
                container = homes.get(seat.workload.netns)
                for end in container.endpoints if container is not None else ():
                    inside.setdefault(end.network, []).append(seat.key)
            for ident, keys in inside.items():
                if ident in networks and group.device is not None:
                    yield Member(engine, networks[ident], group, tuple(keys), group.device.mtu)


def not_inherited(machine: Machine) -> Iterable[Finding]:
    """A container network did not get the MTU its engine was given, or never had one of its own.

    Why it hurts: the daemon's `mtu` counts for the default network alone; every network of a compose file or of
    `docker network create` starts at 1500 whatever stands in daemon.json.
    Example: daemon.json has `"mtu": 1400`, containers of compose projects have 1500, and eth0 carries 1400.
    Repair: the option `com.docker.network.driver.mtu` of that network; from Docker 24 `default-network-opts`.
    Severity: warning; it is the cause of the sizes that do not fit.
    Possible: never said.
    Likely: a way of its members is smaller than the network, which has no MTU of its own.
    Confirmed: never, from state alone.
    References: docs.docker.com/engine/network/drivers/bridge; moby#43197 (default-network-opts).
    """
    limits = _limits(machine)
    for m in members(machine):
        limit = limits.get(id(m.group))
        if m.network.mtu is not None or limit is None or m.mtu <= limit or not _unset_means_usual(m):
            continue
        told = m.engine.mtu is not None and m.engine.mtu < m.mtu
        facts: Facts = {
            "case": "daemon" if told else "unset",
            "source": m.group.name,
            "network": m.network.name,
            "own": m.mtu,
            "limit": limit,
            "daemon": m.engine.mtu,
        }
        lines = [line(REF, "network-unset", network=m.network.name, own=m.mtu)]
        if told:
            lines.append(line(REF, "daemon-mtu", mtu=m.engine.mtu))
        yield about(found("CFG601", "warning", "likely", _at(machine, m.engine, m.network), facts, *lines), m.keys)


def _unset_means_usual(m: Member) -> bool:
    """Docker's default network has the daemon's MTU; others' networks leave it to the kernel where nothing is set."""
    return not m.network.default if m.engine.kind == "docker" else m.mtu == USUAL


def nested(machine: Machine) -> Iterable[Finding]:
    """An engine that runs in a container gives its own containers a larger MTU than what is around them carries.

    Why it hurts: each level knows only its own device. The inner engine assumes 1500; the pod or container around it
    has less, or the machine around that one, and the inner container's packets do not fit through it.
    Example: Docker-in-Docker of a CI runner in a pod of 1450: `apk update` in the build hangs, small http works.
    Repair: the outer MTU for the inner daemon: `dockerd --mtu 1450`, its daemon.json, or the runner's own setting
    (Drone: `mtu` of plugins/docker; GitLab: `command: ["--mtu=1450"]` of the docker:dind service; GitHub's runner scale
    set: `--mtu=1450` among the args of the container dind; the older RunnerDeployment: `dockerMTU`).
    Severity: warning; it is the cause of the sizes that do not fit.
    Possible: never said.
    Likely: the inner network's MTU is above that of a device by which its packets leave: of the container around the
    engine, or of one of those around that.
    Confirmed: measurement found that very size.
    References: docs.docker.com/reference/cli/dockerd (mtu); drone-plugins/drone-docker; gitlab-runner, merge request
    6737; actions-runner-controller#3691.
    """
    for engine in machine.host.engines:
        ways = _ways_out(machine, engine) if engine.depth else []
        if not ways:
            continue
        narrow_ = min(ways, key=lambda way: way.mtu)  # the nearest of equals
        inner = [m for m in members(machine) if m.engine is engine and m.mtu > narrow_.mtu]
        way = narrow_ if inner else ways[0]
        told = engine.mtu
        if not inner and (told is None or told <= way.mtu):
            continue
        own = max((m.mtu for m in inner), default=told or 0)
        at = way.net.point(way.link)
        facts: Facts = {
            "case": "next" if not inner else "members" if way is ways[0] else "beyond",
            "engine": engine.inside_name or engine.inside[:12] or ways[0].net.snap.where,
            "level": engine.depth,
            "source": inner[0].group.name if inner else None,
            "own": own,
            "limit": way.mtu,
            "link": way.link,
            "place": place_text(at),
            "network": inner[0].network.name if inner else "bridge",
        }
        proof = line(REF, "nested", engine=facts["engine"], own=own, link=facts["place"], limit=way.mtu)  # type: ignore[arg-type]
        keys = tuple(dict.fromkeys(k for m in inner for k in m.keys))
        severity: Severity = "warning" if inner else "info"
        sure: Confidence = "likely" if inner else "possible"
        places = (at,) if way is ways[0] else (at, ways[0].net.point(ways[0].link))  # of two levels: two findings
        yield about(found("CFG602", severity, sure, places, facts, proof), keys)


def not_live(machine: Machine) -> Iterable[Finding]:
    """The engine's configuration asks for an MTU that is not in force.

    Why it hurts: the file says that all is well, and nothing is: the daemon reads it when it starts, and a container
    gets its device's MTU when it starts.
    Example: `mtu` 1400 was written into daemon.json; dockerd was not restarted since, so docker0's containers have
    1500. Or it was, and an old container still runs (live-restore).
    Repair: restart the daemon; then restart the containers that are older. With live-restore a daemon keeps its
    networks as they are while any container runs: stop them all first.
    Severity: warning.
    Possible: never said.
    Likely: file and daemon, or daemon and container, say different numbers.
    Confirmed: never, from state alone.
    References: docs.docker.com/reference/cli/dockerd (daemon.json; `mtu` is not among the options a reload takes).
    """
    yield from _older(machine)
    for engine in machine.host.engines:
        wanted, live = mtu_of(engine.config), engine.mtu
        if engine.kind != "docker" or wanted is None or live is None:
            continue
        default = next((n for n in engine.networks if n.default), None)
        older = [m for m in members(machine) if m.engine is engine and m.network.default and m.mtu != live]
        if live == wanted and not older:
            continue  # an empty docker0 shows 1500 whatever is configured: its device is not asked
        if live != wanted and engine.mtu_from == "flag":
            continue  # the command line says it; the file's word is not wanted
        late = live == wanted
        facts: Facts = {
            "case": "container" if late else "kept" if engine.live_restore else "daemon",
            "source": older[0].group.name if older else None,
            "path": engine.config_path,
            "wanted": wanted,
            "live": live,
            "own": older[0].mtu if older else None,
        }
        lines = (line(REF, "configured", path=engine.config_path, mtu=wanted), line(REF, "daemon-mtu", mtu=live))
        keys = tuple(dict.fromkeys(k for m in older for k in m.keys))
        at = _at(machine, engine, default)
        yield about(found("CFG603", "warning", "likely", at, facts, *lines), keys)


def _older(machine: Machine) -> Iterable[Finding]:
    """Podman's and CNI's networks: a container gets what their file says when it starts, and these are older. Only
    where all members are in this network alone, so that the device is its."""
    for m in members(machine):
        wanted, name = m.network.mtu, m.network.name
        inside = [c for c in m.engine.containers if any(e.network == m.network.id for e in c.endpoints)]
        if m.engine.kind == "docker" or wanted is None or m.mtu <= wanted or not m.network.file:
            continue
        if any(len(c.endpoints) > 1 for c in inside):
            continue
        facts: Facts = {
            "case": "network",
            "source": m.group.name,
            "path": m.network.file,
            "wanted": wanted,
            "network": name,
            "own": m.mtu,
        }
        proof = line(REF, "configured", path=m.network.file, mtu=wanted)
        yield about(found("CFG603", "warning", "likely", _at(machine, m.engine, m.network), facts, proof), m.keys)


def _limits(machine: Machine) -> dict[int, int]:
    """The smallest place on the ways of each group that is too small, bytes, by the id() of the group."""
    found_: dict[int, int] = {}
    for n in narrow(machine):
        known = found_.get(id(n.group))
        found_[id(n.group)] = n.limit.mtu if known is None else min(known, n.limit.mtu)
    return found_


def _ways_out(machine: Machine, engine: Engine) -> list[WayOut]:
    """The devices by which packets of an engine's containers leave, the engine's own first, then those of the engines
    around it; empty when already the first is not known."""
    owners = {c.id: e for e in machine.host.engines for c in e.containers if c.id}
    found_: list[WayOut] = []
    seen: list[str] = []
    at: Engine | None = engine
    while at is not None and at.inside not in seen:  # ids that lie about each other come to an end
        seen.append(at.inside)
        net = machine.network.of_id(at.netns)
        way = _leaves_by(net) if net is not None else None
        if way is None:
            break
        found_.append(way)
        at = owners.get(at.inside) if at.inside else None
    return found_


def _leaves_by(net: Net) -> WayOut | None:
    """The device of its default route; None when there is not exactly one."""
    ways = {h.link for r in net.snap.routes if r.prefix == 0 and r.type == "unicast" for h in r.hops}
    link = net.links.get(next(iter(ways))) if len(ways) == 1 else None
    return WayOut(net, link.name, link.mtu) if link is not None else None


def _at(machine: Machine, engine: Engine, network: EngineNetwork | None) -> Point:
    """The network's device where the engine works."""
    net = machine.network.of_id(engine.netns)
    device = network.bridge if network is not None and network.bridge else None
    if net is None:
        return Point(host=machine.host.host, netns="host", link=device)
    return net.point(device)
