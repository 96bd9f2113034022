"""``container:NAME`` and ``pod:NAMESPACE/NAME``: who that is as its engine knows it, and a process of it."""

import os
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from msgspec.structs import replace

from pathfit.core.engine import Container, Engine
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.host.unixhttp import Client, Late
from pathfit.model.workloads import RUNS, Key, owns, plain_name, titles, word
from pathfit.observe import discover, processes
from pathfit.observe.engines import answers, daemons, docker, kinds, parse, read_all
from pathfit.observe.engines.daemons import Daemon, Homes

BUDGET = 2.0  # seconds for one engine
LONGEST = 255  # characters of a name that is asked for
OF_DOCKER = ("moby", "plugins.moby")  # containerd's namespaces whose containers dockerd tells of itself
SHORTEST_ID = 6  # hex digits; fewer would be a name as easily


class Located(NamedTuple):
    """A running container and our number of a process in its namespace (its own, where that is visible)."""

    container: Container
    pid: int

    @property
    def where(self) -> str:
        """A WHERE that is this one's alone."""
        return word(self.container, "")


class Search(NamedTuple):
    """What the engines said of a name."""

    found: tuple[Located, ...] = ()
    stopped: tuple[str, ...] = ()  # lines that start matching containers which do not run
    unseen: tuple[str, ...] = ()  # names of running ones none of whose processes we see
    others: tuple[str, ...] = ()  # names of all containers, running ones first, where none matched
    trouble: tuple[str, ...] = ()  # engines that could not be asked, and why

    @property
    def how(self) -> str:
        """What to type when an engine could not be asked."""
        return "sudo pathfit …" if os.geteuid() else "docker ps"


def search(name: str, wanted: tuple[str, ...] = ("docker",)) -> Search:
    """Look for a container in every engine of those kinds. Never raises for what an engine may answer."""
    if "/" in name:
        return _nested(name, wanted)
    said = Search()
    for kind, daemon in kinds.find(wanted):
        if kind.name != "docker":
            homes, _, _ = discover.processes_by_namespace()
            said = _told(said, kind.read()(daemon, homes, BUDGET), name, homes)
            continue
        try:
            with Client(daemon.path, daemons.patience(daemon, BUDGET)) as client:
                said = _add(said, client, daemon, name)
        except (OSError, ValueError) as e:
            if isinstance(e, Late):
                daemons.answered(daemon, in_time=False)
            why = f"{daemon.kind} at {daemon.socket}: {getattr(e, 'strerror', None) or e}"
            said = said._replace(trouble=(*said.trouble, why))
    return said


def pods(name: str) -> Search:
    """Look for a pod: "NAMESPACE/NAME", or a name alone that any namespace (or Podman) may have given."""
    homes, _, _ = discover.processes_by_namespace()
    engines, missing = read_all(homes)
    members = [c for e in engines for c in e.containers if c.pod]
    found = [c for c in members if name in (c.pod, c.pod.rpartition("/")[2])]
    said = Search(trouble=tuple(f"{m.what}: {m.why}" for m in missing))
    if not found:
        return said._replace(others=tuple(dict.fromkeys(c.pod for c in members)))
    for pod in dict.fromkeys(c.pod for c in found):
        running = [c for c in found if c.pod == pod and c.state in RUNS]
        running.sort(key=lambda c: not c.sandbox)
        there = [Located(c, pid) for c in running if (pid := _seen(c, homes))]
        if there:
            said = said._replace(found=(*said.found, there[0]))
        elif running:
            said = said._replace(unseen=(*said.unseen, pod))
        else:
            space, _, short = pod.rpartition("/")
            line = f"kubectl -n {space} get pod {short}" if space else f"podman pod start {short}"
            said = said._replace(stopped=(*said.stopped, line))
    return said


def _nested(name: str, wanted: tuple[str, ...]) -> Search:
    """ "outer/inner": a container of an engine in a container."""
    homes, _, _ = discover.processes_by_namespace()
    engines, missing = read_all(homes)
    said = Search(trouble=tuple(f"{m.what}: {m.why}" for m in missing))
    around, _, last = name.rpartition("/")
    for engine in engines:
        if engine.kind not in wanted:
            continue
        prefix = f"{engine.inside_name}/" if engine.inside_name else ""
        asked = last if engine.inside_name == around else ""
        told = _told(said._replace(others=()), engine, asked, homes)
        said = told._replace(others=(*said.others, *(f"{prefix}{x}" for x in told.others)))
    return said


def _told(said: Search, engine: Engine | Missing, name: str, homes: Homes) -> Search:
    """With what an engine that was read whole says of a name."""
    if isinstance(engine, Missing):
        return said._replace(trouble=(*said.trouble, f"{engine.what}: {engine.why}"))
    known = {one.container.id for one in said.found}
    containers = [c for c in engine.containers if c.id not in known]  # dockerd's are containerd's as well
    matches = [c for c in containers if c.name == name] or [
        c for c in containers if _is_id(name) and c.id.startswith(name.lower())
    ]
    if not matches:
        ranked = sorted((c for c in containers if c.namespace not in OF_DOCKER), key=lambda c: c.state not in RUNS)
        names = tuple(dict.fromkeys(c.name for c in ranked if plain_name(c.name)))
        return said._replace(others=(*said.others, *names))
    spaces: set[str] = set()
    for one in matches:
        pid = _seen(one, homes) if one.state in RUNS else 0
        if pid and one.netns not in spaces:
            spaces.add(one.netns)
            said = said._replace(found=(*said.found, Located(one, pid)))
        elif one.state not in RUNS:
            said = said._replace(stopped=(*said.stopped, start_line(one)))
        elif not pid:
            said = said._replace(unseen=(*said.unseen, one.name))
    return said


def start_line(one: Container) -> str:
    """What starts a container of which an engine says that it does not run."""
    client = {"docker": "docker start", "podman": "podman start"}.get(one.engine, "crictl start")
    return f"{client} {one.name if plain_name(one.name) else one.id[:12]}"


def _is_id(name: str) -> bool:
    return len(name) >= SHORTEST_ID and all(c in "0123456789abcdef" for c in name.lower())


def _seen(one: Container, homes: Homes) -> int:
    """Our number of a process in the container's namespace, 0 when there is none to be seen."""
    candidates = [*([one.pid] if one.pid else []), *homes.get(one.netns, ())[:1]]
    return next((pid for pid in candidates if one.netns and processes.namespace_of(pid) == one.netns), 0)


def _add(said: Search, client: Client, daemon: Daemon, name: str) -> Search:
    """With what one engine says. Raises OSError, ValueError."""
    one = _one(client, name)
    if one is None:
        return said._replace(others=(*said.others, *_names(client)))
    if one.state not in docker.RUNS:
        return said._replace(stopped=(*said.stopped, start_line(one)))
    pid = _pid(client, one, daemon)
    if not pid:
        return said._replace(unseen=(*said.unseen, one.name))
    return said._replace(found=(*said.found, Located(one, pid)))


def _one(client: Client, name: str) -> Container | None:
    """The container of that name, or whose id begins so and no other's (the engine decides). None: there is none."""
    if not name or len(name) > LONGEST or name in (".", ".."):
        return None
    answer = client.get(f"/containers/{quote(name, safe='')}/json")
    if answer.status != 200:
        return None
    raw = parse.table(answers.decoded(answer.body))
    return Container(
        id=parse.text(raw.get("Id")),
        name=parse.text(raw.get("Name")).removeprefix("/"),
        engine="docker",
        state=parse.text(parse.table(raw.get("State")).get("Status")),
    )


def _names(client: Client) -> list[str]:
    """Names of all its containers, running ones first."""
    listed = [parse.container(x, "docker") for x in parse.rows(answers.document(client, "/containers/json?all=1"))]
    listed.sort(key=lambda c: c.state not in docker.RUNS)
    return [c.name for c in listed if plain_name(c.name)]


def _pid(client: Client, one: Container, daemon: Daemon) -> int:
    """Our number of a process in the container's namespace, 0 when there is none to be seen."""
    homes, _, _ = discover.processes_by_namespace()
    full = docker.inspected(client, one, daemon, homes)
    netns = full.netns
    if not netns and full.network_mode.startswith("container:"):
        owner = _one(client, full.network_mode.partition(":")[2])
        netns = docker.inspected(client, owner, daemon, homes).netns if owner is not None else ""
    candidates = [*([full.pid] if full.pid else []), *homes.get(netns, ())[:1]]
    return next((pid for pid in candidates if not netns or processes.namespace_of(pid) == netns), 0)


# --- what a namespace is called --------------------------------------------------------------------------------------


def call(namespaces: Iterable[NetnsSnapshot], engines: Iterable[Engine], own: str, asked: str) -> list[NetnsSnapshot]:
    """The namespaces with ``container:NAME`` or ``pod:NAMESPACE/NAME`` among their names, in front of all others where
    nobody said otherwise.

    ``own`` is the namespace we are in and stays "host"; ``asked`` (an id) keeps the words it was asked in. A name
    that two engines gave is no name: then it is "outer/name" for an engine in a container, else the id.
    """
    told = tuple(engines)
    owners, called_as = _owners(told), titles(told)
    called = []
    for ns in namespaces:
        key, one = owners.get(ns.id, (("", "", ""), None))
        if one is None or ns.id == own:
            called.append(ns)
            continue
        name, short = word(one, called_as.get(key, "")), f"container:{one.id[:12]}"
        words = [w for w in (ns.where, *ns.names) if w not in (name, short) or (ns.id == asked and w == ns.where)]
        if name not in words:
            words.insert(1 if ns.id == asked else 0, name)
        called.append(replace(ns, where=words[0], names=tuple(words[1:])))
    return called


def _owners(engines: Iterable[Engine]) -> dict[str, tuple[Key, Container]]:
    """The container each namespace belongs to: not one that was put into another's, or into its host's; of a pod the
    one that holds its namespaces."""
    found: dict[str, tuple[Key, Container]] = {}
    for engine in engines:
        for one in sorted(engine.containers, key=lambda c: not c.sandbox):
            if one.netns and one.netns != engine.netns and owns(one):
                found.setdefault(one.netns, ((engine.kind, engine.socket, one.id), one))
    return found
