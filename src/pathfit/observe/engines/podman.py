"""Podman: its service where one runs, else the files and processes it leaves behind.

Podman has no daemon. `podman system service` may run and is asked then (libpod's API, two GETs); its socket alone is
never connected to, for that would start it. Without it the monitors (:mod:`~pathfit.observe.engines.conmon`) name the
containers, their pid files lead to the namespaces, and the networks stand in files (netavark's or CNI's). What only
libpod's database knows is then not seen: labels, and containers that do not run.

Rootless containers belong to their user: root sees them like any other, other users see their names alone.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.host import clock, procfs, within
from pathfit.host.unixhttp import Client, Late
from pathfit.observe import processes
from pathfit.observe.engines import answers, cni, conmon, cri, daemons, netavark, oci, spaces
from pathfit.observe.engines.conmon import Monitored
from pathfit.observe.engines.daemons import Daemon, Homes
from pathfit.observe.engines.parse import MANY, number, rows, table, text
from pathfit.observe.processes import argv_of

PROCESSES = ("podman", "conmon")
SOCKET = "/run/podman/podman.sock"
API = ("/v4.0.0/libpod", "/v3.0.0/libpod")  # 4 and 5 answer the first, 3 the second
INFRA = "-infra"  # ends the name of the container that holds a pod's namespaces (libpod, makeInfraContainer())
RUNS = ("running", "paused")


def found(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    """Every Podman that something runs of: one for each user, root and folder of what runs."""
    groups: dict[tuple[str, int, str], list[int]] = {}
    for pid in seen.get("conmon", ()):
        told = conmon.monitored(argv_of(pid))
        if told is not None and told.manager == "podman":
            groups.setdefault((_seat(pid), processes.user_of(pid), told.run), []).append(pid)
    services = {(_seat(pid), processes.user_of(pid)): pid for pid in seen.get("podman", ()) if _serves(argv_of(pid))}
    for (seat, user, run), pids in groups.items():
        yield _daemon(services.pop((seat, user), 0), user, run, tuple(pids))
    for (_, user), pid in services.items():
        yield _daemon(pid, user, "", ())


def _daemon(service: int, user: int, run: str, monitors: tuple[int, ...]) -> Daemon:
    witness = service or monitors[0]
    root, argv = processes.root_of(witness), argv_of(service) if service else ()
    socket = _socket(argv, user) if service else ""
    path = daemons.socket_of(root, socket) if socket else ""
    here = processes.namespace_of(witness)
    return Daemon("podman", socket, path, service, root, argv, here, monitors, user, run)


def _seat(pid: int) -> str:
    return procfs.link(f"/proc/{pid}/ns/mnt") + procfs.link(f"/proc/{pid}/root")


def _serves(argv: tuple[str, ...]) -> bool:
    return any(pair == ("system", "service") for pair in pairwise(argv))


def _socket(argv: tuple[str, ...], user: int) -> str:
    told = [word.removeprefix("unix://") for word in argv if word.startswith("unix:///")]
    return told[-1] if told else f"/run/user/{user}/podman/podman.sock" if user else SOCKET


def read(daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing:
    """By its service where one runs, else by files, in at most ``budget`` seconds. Never raises."""
    end = clock.now() + budget
    engine = daemon.engine()
    trouble: tuple[Missing, ...] = ()
    if daemon.path:
        try:
            with Client(daemon.path, daemons.patience(daemon, budget / 2)) as client:
                told = asked(client, engine, daemon, homes)
            daemons.answered(daemon, in_time=True)
            return told
        except (OSError, ValueError) as e:
            if isinstance(e, Late):
                daemons.answered(daemon, in_time=False)
            trouble = (_unheard(daemon, e),)
    told = _by_files(engine, daemon, homes, end)
    return replace(told, missing=(*trouble, *told.missing))


def _unheard(daemon: Daemon, e: Exception) -> Missing:
    code = "timeout" if isinstance(e, Late) else "malformed" if isinstance(e, ValueError) else "absent"
    if isinstance(e, PermissionError):
        code = "permission"
    why = getattr(e, "strerror", None) or str(e)
    return Missing(
        what=f"podman's service at {daemon.socket}",
        why=f"{why}; its containers are known by their processes alone",
        how="sudo pathfit …" if code == "permission" else f"podman --url unix://{daemon.socket} info",
        code=code,
    )


# --- its API ---------------------------------------------------------------------------------------------------------


def asked(client: Client, engine: Engine, daemon: Daemon, homes: Homes) -> Engine:
    """What its service says. Raises OSError, Late, ValueError."""

    for prefix in API:
        answer = client.get(f"{prefix}/networks/json")
        if answer.status == 200:
            break
    networks = tuple(n for x in rows(answers.decoded(answer.body)) if (n := netavark.network(x)).name)
    listed = rows(answers.document(client, f"{prefix}/containers/json?all=true"))
    made = [container(x, networks) for x in listed]
    containers = [_at_home(one, daemon, homes) if one.state in RUNS else one for one in made]
    version = answer.server.partition("/")[2].partition(" ")[0]
    known = _known(daemon)
    kept = {n.name: n for n in _networks(daemon, [m for _, m in known.values()])}
    filed = tuple(replace(n, file=k.file, config=k.config) if (k := kept.get(n.name)) else n for n in networks)
    return _finished(replace(engine, version=version), filed or tuple(kept.values()), containers, daemon, known)


def container(raw: dict[str, Any], networks: Iterable[EngineNetwork]) -> Container:
    """One element of GET /libpod/containers/json (pure). ``pid`` is as Podman counts."""
    names, listed, labels = raw.get("Names"), raw.get("Networks"), table(raw.get("Labels"))
    ids = {n.name: n.id for n in networks}
    ends = [text(x) for x in listed[:64]] if isinstance(listed, list) else []
    return Container(
        id=text(raw.get("Id")),
        name=text(names[0]) if isinstance(names, list) and names else "",
        engine="podman",
        state=text(raw.get("State")),
        pid=number(raw.get("Pid"), 1 << 22) or 0,
        endpoints=tuple(Endpoint(network=ids.get(x, x), name=x) for x in ends if x),
        compose_project=text(labels.get("com.docker.compose.project")),
        compose_service=text(labels.get("com.docker.compose.service")),
        pod=text(raw.get("PodName")),
        sandbox=raw.get("IsInfra") is True,
        auto_remove=raw.get("AutoRemove") is True,
    )


def _at_home(one: Container, daemon: Daemon, homes: Homes) -> Container:
    """With its namespace, and its process as we count."""
    netns = spaces.of_process(daemon, one.pid) if one.pid else ""
    return replace(one, netns=netns, pid=spaces.process(daemon, one.id, netns, one.pid, homes) if netns else 0)


# --- by files --------------------------------------------------------------------------------------------------------


def _known(daemon: Daemon) -> dict[str, tuple[int, Monitored]]:
    """Containers by id: the number of each one's monitor, and what that says."""
    told = ((pid, conmon.monitored(argv_of(pid))) for pid in daemon.monitors[:MANY])
    return {m.id: (pid, m) for pid, m in told if m is not None}


def _by_files(engine: Engine, daemon: Daemon, homes: Homes, end: float) -> Engine:
    """Raises nothing."""
    known = _known(daemon)
    networks = _networks(daemon, [m for _, m in known.values()])
    attached: dict[str, list[Endpoint]] = {}
    if any(n.file.startswith(cni.CONFIGS) for n in networks):
        for one in cni.attachments(daemon):
            attached.setdefault(one.container, []).append(one.endpoint)
    containers = []
    for monitor, told in known.values():
        inner = cri.pid(daemon, told.pidfile) if clock.now() < end else 0
        inner = inner if not daemon.user or _is_child(inner, monitor) else 0
        made = Container(id=told.id, name=told.name, engine="podman", pid=inner, auto_remove=told.removes)
        containers.append(replace(_at_home(made, daemon, homes), endpoints=tuple(attached.get(told.id, ()))))
    return _finished(engine, networks, containers, daemon, known)


def _is_child(inner: int, monitor: int) -> bool:
    """Is the process really the monitor's own? Any user may call a process conmon, and point it at somebody else's
    container; who is a parent, the kernel says (conmon is its container's subreaper)."""
    if not inner or not spaces.same_numbers(monitor):
        return bool(inner)
    fields = procfs.maybe(f"/proc/{inner}/stat", 4096).rpartition(")")[2].split()
    return len(fields) > 1 and fields[1] == str(monitor)


def _networks(daemon: Daemon, known: Sequence[Monitored]) -> tuple[EngineNetwork, ...]:
    """By the files of the backend that containers were started with."""
    told = known[0] if known else Monitored("", "")
    folder = told.configs if told.configs.startswith("/") else ""
    if told.backend == "cni" or (told.backend == "" and not _exists(daemon, netavark.FOLDERS)):
        return cni.networks(daemon, folder or cni.CONFIGS)
    usual = [f"{told.graph}/networks"] if daemon.user and told.graph.startswith("/") else [*netavark.FOLDERS]
    return netavark.networks(daemon, [folder] if folder else usual)


def _exists(daemon: Daemon, folders: Iterable[str]) -> bool:
    """Is any of them there, as Podman sees it?"""
    for folder in folders:
        try:
            os.close(within.find(daemon.root, folder))
            return True
        except (OSError, ValueError):
            continue
    return False


def _finished(
    engine: Engine,
    networks: tuple[EngineNetwork, ...],
    containers: Sequence[Container],
    daemon: Daemon,
    known: Mapping[str, tuple[int, Monitored]] | None = None,
) -> Engine:
    """With who lives in whose namespace, and what could not be seen."""
    bundles = {i: m for i, (_, m) in (known or _known(daemon)).items()}
    done = tuple(_shared(containers, daemon, bundles))
    members: dict[str, list[str]] = {}
    for one in done:
        for endpoint in one.endpoints if one.state in RUNS else ():
            members.setdefault(endpoint.network, []).append(one.id)
    networks = tuple(replace(n, members=tuple(members.get(n.id, ()))) for n in networks)
    blind = [c for c in done if c.state in RUNS and (not c.netns or _barred(c))]
    missing = (_unseen(daemon, len(blind)),) if blind else ()
    client = next((m.client for m in bundles.values() if m.client), ())
    return replace(engine, networks=networks, containers=done, missing=missing, client=client)


def _barred(one: Container) -> bool:
    """Is its namespace seen, but not to be entered? Who owns a user namespace must stand in it to enter what belongs to
    it (setns(2): CAP_SYS_ADMIN in both)."""
    theirs = procfs.link(f"/proc/{one.pid}/ns/user") if one.pid and os.geteuid() else ""
    return bool(theirs) and theirs != procfs.link("/proc/self/ns/user")


def _shared(containers: Sequence[Container], daemon: Daemon, bundles: Mapping[str, Monitored]) -> Iterator[Container]:
    """Which of those that share a namespace it was made for: the infra container of a pod, or the one whose runtime
    was given a file of /run/netns and not another's process (runtime-spec, namespaces[].path)."""
    by_space: dict[str, list[Container]] = {}
    for one in containers:
        by_space.setdefault(one.netns, []).append(one)
    for netns, group in by_space.items():
        if netns and netns == daemon.namespace:
            yield from (replace(c, network_mode="host") for c in group)
            continue
        infra = next((c for c in group if c.sandbox or c.name.endswith(INFRA)), None) if netns else None
        pod = (infra.pod or _hostname(bundles.get(infra.id), daemon)) if infra else ""
        for one in group:
            if infra is not None:
                yield replace(one, pod=one.pod or pod, sandbox=one.id == infra.id)
            elif netns and len(group) > 1 and _joined(bundles.get(one.id), daemon):
                yield replace(one, network_mode="container:")
            else:
                yield one


def _joined(told: Monitored | None, daemon: Daemon) -> bool:
    """Was it put into the namespace of another container's process?"""
    if told is None or not told.bundle.startswith("/"):
        return False
    try:
        path = oci.spec(within.read(daemon.root, f"{told.bundle}/config.json", oci.LIMIT)).netns
    except (OSError, ValueError):
        return False
    return path is not None and path.startswith("/proc/")


def _hostname(told: Monitored | None, daemon: Daemon) -> str:
    """A pod's name is the host name of its infra container, unless it was given another."""
    if told is None or not told.pidfile.startswith("/"):
        return ""
    try:
        raw = within.read(daemon.root, f"{os.path.dirname(told.pidfile)}/hostname", 256)
    except (OSError, ValueError):
        return ""
    return text(raw.decode("utf-8", "replace").strip())


def _unseen(daemon: Daemon, count: int) -> Missing:
    whose = f"rootless podman of uid {daemon.user}" if daemon.user else "podman"
    if os.geteuid() == 0:
        return Missing(
            what=f"{whose}: the namespaces of {count} containers",
            why="they were not found among the processes we see",
            how="podman ps   or   --from pid:N",
            code="limit",
        )
    how = "podman unshare --rootless-netns pathfit …" if daemon.user == os.geteuid() else "sudo pathfit …"
    return Missing(
        what=f"{whose}: {count} containers",
        why="their namespaces are not ours to look into (run as that user, or as root)",
        how=how,
        code="permission",
    )
