"""What runs on a host, one entry for each network namespace that is somebody's: see :func:`workloads`.

Engines are asked first, for they know what people call things. Then come the namespaces that no engine spoke for: a
name under /run/netns, or processes and a device of their own, make a guest. What an engine only hides its own devices
in (libnetwork's overlay namespaces, rootless helpers) is nobody's workload.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from pathfit.core.engine import Container, Engine, Workload
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot

RUNS = ("running", "paused", "restarting")
# libnetwork: an overlay's (osl.GenerateKey of "1-" and the network's id), a load balancer's, the routing mesh's;
# Podman and rootlesskit: where rootless networks meet.
_HIDDEN = re.compile(r"^netns:/.*/docker/netns/(\d-[0-9a-z]{10}|lb_[0-9a-z]{9,}|ingress_sbox|default)$")
_ROOTLESS = re.compile(r"^netns:/.*/rootless-netns(/|-|$)")
# Made in every namespace as soon as the module is loaded (net.core.fb_tunnels_only_for_init_net); down, and no way.
_FALLBACK = {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
Key = tuple[str, str, str]  # kind and socket of an engine, id of a container


def workloads(host: HostSnapshot) -> tuple[Workload, ...]:
    """Every workload of a host: those of engines in the order of their names, then namespaces without an engine."""
    spaces = {n.id: n for n in host.namespaces}
    words = titles(host.engines)
    shared: dict[str, list[tuple[Engine, Container]]] = {}
    found: list[Workload] = []
    for engine in host.engines:
        for one in engine.containers:
            note = _note(engine, one, host, spaces)
            if note:
                found.append(_alone(engine, one, words, note, spaces))
            else:
                shared.setdefault(one.netns, []).append((engine, one))
    found += [_together(spaces[netns], members, words) for netns, members in shared.items()]
    found.sort(key=_order)
    claimed = {n.netns for e in host.engines for n in e.networks if n.netns}
    claimed |= {e.netns for e in host.engines if e.rootless is not None} | shared.keys() | {host.own}
    guests = [_guest(ns) for ns in host.namespaces if ns.id not in claimed and _is_guest(ns)]
    return (*found, *sorted(guests, key=_order))


def _order(one: Workload) -> tuple[tuple[tuple[bool, int, str], ...], str]:
    """As people count: web.2 before web.10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", one.name)
    return tuple((p[0] in "0123456789", int(p) if p[0] in "0123456789" else 0, p) for p in parts), one.where


def owns(one: Container) -> bool:
    """Was its network namespace made for it (or for its pod), and not for its host or another container?"""
    return one.network_mode != "host" and not one.network_mode.startswith(("container:", "ns:"))


def titles(engines: Iterable[Engine]) -> Mapping[Key, str]:
    """How people may call each running container without a mistake: "web"; "outer/web" where another container is
    called so as well and its engine runs in "outer"; "" where no name is one container's alone, or would not do as a
    word of a command line."""
    running = [(e, c) for e in engines for c in e.containers if c.state in RUNS]
    plain = [c.name for _, c in running]
    whole = [_whole(e, c) for e, c in running]
    found: dict[Key, str] = {}
    for engine, one in running:
        name = one.name if plain.count(one.name) == 1 else _whole(engine, one)
        sure = plain.count(name) + sum(1 for w in whole if w == name and w not in plain) == 1
        found[(engine.kind, engine.socket, one.id)] = name if sure and plain_name(one.name) else ""
    return found


def _whole(engine: Engine, one: Container) -> str:
    return f"{engine.inside_name}/{one.name}" if engine.inside_name else one.name


def plain_name(name: str) -> bool:
    """Whether a container's name is one that engines give (and no shell would mind)."""
    return bool(name) and name.isascii() and name[0].isalnum() and all(c.isalnum() or c in "_.-" for c in name)


def word(one: Container, title: str) -> str:
    """The WHERE of a container or its pod; ``title`` as :func:`titles` has it."""
    space, _, pod = one.pod.rpartition("/")
    if space and plain_name(space) and plain_name(pod):
        return f"pod:{one.pod}"
    return f"container:{title or one.id[:12]}"


# --- of an engine ----------------------------------------------------------------------------------------------------


def _note(engine: Engine, one: Container, host: HostSnapshot, spaces: Mapping[str, NetnsSnapshot]) -> str:
    if one.state not in RUNS:
        return "exited"
    if one.network_mode == "host" or (one.netns and one.netns in (engine.netns, host.own)):
        return "host-network"
    return "" if one.netns in spaces else "not-visible"


def _alone(
    engine: Engine, one: Container, words: Mapping[Key, str], note: str, spaces: Mapping[str, NetnsSnapshot]
) -> Workload:
    title = words.get((engine.kind, engine.socket, one.id), "") or (one.name if plain_name(one.name) else "")
    return Workload(
        name=_name(one, title),
        where=word(one, title),
        netns=one.netns if one.netns in spaces else "",
        engine=one.engine or engine.kind,
        networks=_networks((one,)),
        pod=one.pod,
        project=one.compose_project,
        note=note,
    )


def _together(ns: NetnsSnapshot, members: list[tuple[Engine, Container]], words: Mapping[Key, str]) -> Workload:
    """The one workload of a namespace, named after the container it was made for."""
    ranked = sorted(members, key=lambda m: (not m[1].sandbox, not owns(m[1]), m[1].name))
    engine, owner = ranked[0]
    everyone = tuple(c for _, c in ranked)
    title = words.get((engine.kind, engine.socket, owner.id), "")
    return Workload(
        name=_name(owner, title),
        where=ns.where,
        netns=ns.id,
        engine=owner.engine or engine.kind,
        networks=_networks(everyone),
        pod=owner.pod,
        project=next((c.compose_project for c in everyone if c.compose_project), ""),
        members=tuple(c.name or c.id[:12] for c in everyone[1:]),
        note="" if _has_way(ns) else "no-network",
    )


def _name(one: Container, title: str) -> str:
    return one.pod or title or one.name or one.id[:12]


def _networks(containers: Iterable[Container]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(e.name for c in containers for e in c.endpoints if e.name))


# --- without one -----------------------------------------------------------------------------------------------------


def _is_guest(ns: NetnsSnapshot) -> bool:
    """A namespace with a way of its own that is not the machine's, and not one that an engine hides its devices in."""
    names = tuple(_names(ns))
    hidden = any(_HIDDEN.match(n) or _ROOTLESS.match(n) for n in names)
    machine = "pid:1" in names or any(p.pid == 1 for p in ns.processes)
    return not hidden and not machine and _has_way(ns)


def _guest(ns: NetnsSnapshot) -> Workload:
    kind, _, name = ns.where.partition(":")
    first = ns.processes[0] if ns.processes else None
    if kind == "pid" and first is not None and str(first.pid) == name:
        name = f"{first.name}[{first.pid}]"
    return Workload(
        name=name if kind in ("netns", "container") or "[" in name else ns.where, where=ns.where, netns=ns.id
    )


def _names(ns: NetnsSnapshot) -> Iterator[str]:
    yield ns.where
    yield from ns.names


def _has_way(ns: NetnsSnapshot) -> bool:
    """A device but loopback, or that could not be read."""
    return any(_is_way(link) for link in ns.links) or (not ns.links and bool(ns.missing))


def _is_way(link: Link) -> bool:
    return not link.loopback and (link.up or link.name not in _FALLBACK)
