"""containerd by its files alone: STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/ has a folder for each task.

``config.json`` is the OCI runtime's, ``init.pid`` the first process (runtime/v2/bundle.go). STATE is /run/containerd,
or what the command line (``--state``, in k3s) or the configuration says. Its gRPC is not spoken: what it knows beside
these files (images, snapshots, tasks of other runtimes than v2) no path needs. Networks are CNI's.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from pathfit.core.engine import Container, Engine
from pathfit.core.evidence_base import Missing
from pathfit.host import clock, procfs, within
from pathfit.observe import processes
from pathfit.observe.engines import cni, cri, daemons
from pathfit.observe.engines.daemons import Daemon, Homes, option
from pathfit.observe.engines.parse import MANY, table, text
from pathfit.observe.processes import argv_of

PROCESSES = ("containerd",)
CONFIG = "/etc/containerd/config.toml"
STATE = "/run/containerd"
TASKS = "io.containerd.runtime.v2.task"
TEXT = 1 << 20  # bytes of a configuration


def found(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    """Every containerd that runs."""
    for pid in seen.get("containerd", ()):
        root, argv = processes.root_of(pid), argv_of(pid)
        state = _state(root, argv)
        here, user = processes.namespace_of(pid), processes.user_of(pid)
        yield Daemon("containerd", "", "", pid, root, argv, here, (), user, state)


def _state(root: str | None, argv: tuple[str, ...]) -> str:
    told = (option(argv, "--state") or [text(config(root, argv).get("state"), 4096)])[-1]
    return told if told.startswith("/") else STATE


def config(root: str | None, argv: tuple[str, ...]) -> dict[str, object]:
    """Its configuration, {} when there is none or no sense in it."""
    path = (option(argv, "-c", "--config") or [CONFIG])[-1]
    try:
        return tomllib.loads(within.read(root, path, TEXT).decode())
    except (OSError, ValueError, RecursionError):
        return {}


def cni_folder(told: dict[str, object]) -> str:
    """Where its CRI plugin looks for networks: of version 2 and 3 of the file (pure)."""
    plugins = table(told.get("plugins"))
    for name in ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"):
        folder = text(table(table(plugins.get(name)).get("cni")).get("conf_dir"), 4096)
        if folder.startswith("/"):
            return folder
    return cni.CONFIGS


def read(daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing:
    """In at most ``budget`` seconds. Never raises."""
    end = clock.now() + budget
    folder = f"{daemon.state}/{TASKS}"
    engine = daemon.engine()
    try:
        spaces = within.listed(daemon.root, folder)
    except (OSError, ValueError) as e:
        if procfs.maybe(f"/proc/{_parent(daemon.pid)}/comm", 64) == daemons.DAEMON:
            return engine  # dockerd's own: what it runs is told, or said to be missing, by that one
        return cri.closed(daemon, folder, getattr(e, "strerror", None) or str(e))
    attached = cni.attachments(daemon)
    devices = cri.attached(attached)
    containers: list[Container] = []
    missing: list[Missing] = []
    for space, one in _tasks(daemon, folder, spaces):
        if clock.now() > end or len(containers) >= MANY:
            missing.append(_more(folder, clock.now() > end))
            break
        where = f"{folder}/{space}/{one}"
        try:
            found_ = cri.bundle(daemon, one, f"{where}/config.json", f"{where}/init.pid", space)
        except FileNotFoundError:
            continue  # it ended while we looked
        except OSError as e:
            missing.append(cri.closed(daemon, where, e.strerror or str(e)))
            continue
        containers.append(cri.container(daemon, found_, cri.CONTAINERD, devices, homes))
    folder = cni_folder(config(daemon.root, daemon.argv))
    networks = cni.joined(cni.networks(daemon, folder), attached) if containers else ()
    return replace(
        engine,
        containers=tuple(containers),
        networks=cri.with_members(networks, containers),
        missing=tuple(missing[:8]),
    )


def _parent(pid: int) -> int:
    """The parent of a process (field 4 of proc_pid_stat(5)), 0 when it went."""
    fields = procfs.maybe(f"/proc/{pid}/stat", 4096).rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _tasks(daemon: Daemon, folder: str, spaces: Sequence[str]) -> Iterator[tuple[str, str]]:
    for space in spaces:
        try:
            names = within.listed(daemon.root, f"{folder}/{space}")
        except (OSError, ValueError):
            continue
        yield from ((space, name) for name in names)


def _more(folder: str, late: bool) -> Missing:
    why = "no time was left" if late else f"only {MANY} are read"
    what = f"more of containerd's containers in {folder}"
    return Missing(what=what, why=why, how="ctr namespaces ls", code="limit")


def without_docker_s(engine: Engine, known: frozenset[str]) -> Engine:
    """Without the containers that a dockerd tells of (pure). ``known``: their ids."""
    kept = tuple(c for c in engine.containers if c.id not in known)
    return replace(engine, containers=kept)
