"""``container:NAME``: one container by the name or id its engine knows it by, and a process of it."""

import os
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from msgspec.structs import replace

from pathfit.core.engine import Container, Engine
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.host.unixhttp import Client, Late
from pathfit.model.workloads import Key, owns, plain_name, titles, word
from pathfit.observe import discover
from pathfit.observe.engines import daemons, docker, parse
from pathfit.observe.engines.daemons import Daemon

BUDGET = 2.0  # seconds for one engine
LONGEST = 255  # characters of a name that is asked for


class Located(NamedTuple):
    """A running container and our number of a process in its namespace (its own, where that is visible)."""

    container: Container
    pid: int


class Search(NamedTuple):
    """What the engines said of a name."""

    found: tuple[Located, ...] = ()
    stopped: tuple[str, ...] = ()  # names of matching containers that do not run
    unseen: tuple[str, ...] = ()  # names of running ones none of whose processes we see
    others: tuple[str, ...] = ()  # names of all containers, running ones first, where none matched
    trouble: tuple[str, ...] = ()  # engines that could not be asked, and why

    @property
    def how(self) -> str:
        """What to type when an engine could not be asked."""
        return "sudo pathfit …" if os.geteuid() else "docker ps"


def search(name: str, kinds: tuple[str, ...] = ("docker",)) -> Search:
    """Look for a container in every engine of those kinds. Never raises for what an engine may answer."""
    said = Search()
    for daemon in daemons.find():
        if daemon.kind not in kinds:
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


def _add(said: Search, client: Client, daemon: Daemon, name: str) -> Search:
    """With what one engine says. Raises OSError, ValueError."""
    one = _one(client, name)
    if one is None:
        return said._replace(others=(*said.others, *_names(client)))
    if one.state not in docker.RUNS:
        return said._replace(stopped=(*said.stopped, one.name))
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
    raw = parse.table(docker.decoded(answer.body))
    return Container(
        id=parse.text(raw.get("Id")),
        name=parse.text(raw.get("Name")).removeprefix("/"),
        engine="docker",
        state=parse.text(parse.table(raw.get("State")).get("Status")),
    )


def _names(client: Client) -> list[str]:
    """Names of all its containers, running ones first."""
    listed = [parse.container(x, "docker") for x in parse.rows(docker.document(client, "/containers/json?all=1"))]
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
    return next((pid for pid in candidates if not netns or daemons.namespace_of(pid) == netns), 0)


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
