"""Which namespaces of some snapshots a WHERE names. Pure; a live WHERE is opened by :mod:`pathfit.observe.places`.

What a namespace is called was written down when it was read. Containers are also known by name or by the beginning of
their id as their engine has them, processes by number. ``HOST!WHERE`` asks one host alone.
"""

from collections.abc import Iterator, Sequence

from pathfit.core.engine import Container, Engine
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.network import Net, Network

ENGINES = {"container": "", "docker": "docker", "podman": "podman", "containerd": "containerd"}
SHORTEST_ID = 4  # hex digits that are taken for the beginning of a container's id


def places(network: Network, hosts: Sequence[HostSnapshot], text: str) -> list[Net]:
    """Every namespace that ``text`` may mean, each once; several only when several hosts (or containers) fit."""
    far, bang, where = text.rpartition("!")
    nets = [x for x in network.nets.values() if not bang or x.host == far]
    found = [x for x in nets if where == x.snap.where or where in x.snap.names]
    if not found:
        kind, _, name = where.partition(":")
        if kind in ENGINES:
            wanted = {(network.label(h), i) for h in hosts for i in _containers(h, ENGINES[kind], name)}
            found = [x for x in nets if (x.host, x.snap.id) in wanted]
        elif kind == "pid" and name.isdigit():
            found = [x for x in nets if any(p.pid == int(name) for p in x.snap.processes)]
        elif kind == "pod":
            wanted = {
                (network.label(h), c.netns) for h in hosts for e in h.engines for c in e.containers if c.pod == name
            }
            found = [x for x in nets if (x.host, x.snap.id) in wanted]
    return found


def _containers(host: HostSnapshot, kind: str, name: str) -> Iterator[str]:
    """Namespace ids of the containers called so; their whole name counts before the beginning of an id."""
    all_ = [(e, c) for e in host.engines if not kind or e.kind == kind for c in e.containers if c.netns]
    called = [c.netns for e, c in all_ if name in _names(e, c)]
    yield from called or [c.netns for _, c in all_ if len(name) >= SHORTEST_ID and c.id.startswith(name)]


def _names(engine: Engine, one: Container) -> tuple[str, ...]:
    return (one.name, f"{engine.inside_name}/{one.name}") if engine.inside_name else (one.name,)


def word(network: Network, net: Net) -> str:
    """The WHERE of a namespace, with its host in front where there are several."""
    return f"{net.host}!{net.snap.where}" if len(network.hosts) > 1 else net.snap.where
