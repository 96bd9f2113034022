"""The engines' daemons: where they listen, who they are, how they were started.

A socket is not connected to only to see whether somebody is there: under socket activation that would *start* the
engine (systemd.socket(5)). So a socket counts when a daemon's process is seen, or when our view of the processes is
too narrow to tell (pathfit in a container that was given the socket).
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pathfit.core.engine import Engine
from pathfit.host import procfs, within
from pathfit.observe import processes
from pathfit.observe.processes import argv_of

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
DAEMON = "dockerd"
CONFIG = "/etc/docker/daemon.json"
Homes = Mapping[str, Sequence[int]]  # processes (as we number them) by the id of the namespace they live in
_HOSTS = ("-H", "--host")
AGAIN = 0.1  # seconds for a daemon that gave no answer in time before; a quiet one needs 0.002
_silent: set[tuple[str, int]] = set()


class Daemon(NamedTuple):
    """A daemon that runs, or may. ``socket`` is its path as it sees it, ``path`` the file we open.

    ``pid`` is its number as we count, 0 when the process is not visible. ``root`` is what it sees as "/" (None: what
    we see). ``namespace`` the id of its network namespace, "" when not known. ``monitors``: processes that stay with
    one container each, of an engine that has no daemon. ``socket`` "": it is read by its files. ``user``: whom it runs
    for. ``state``: the folder where it keeps what runs.
    """

    kind: str
    socket: str
    path: str
    pid: int = 0
    root: str | None = None
    argv: tuple[str, ...] = ()
    namespace: str = ""
    monitors: tuple[int, ...] = ()
    user: int = 0
    state: str = ""

    @property
    def witness(self) -> int:
        """A process that sees paths and numbers as the engine does; 0 when there is none in sight."""
        return self.pid or (self.monitors[0] if self.monitors else 0)

    def engine(self) -> Engine:
        """What is known of it before it, or a file of its, says a word."""
        return Engine(
            kind=self.kind,
            socket=self.socket,
            pid=self.pid,
            netns=self.namespace,
            root=self.root,
            flags=tuple(procfs.printable(word) for word in self.argv),
            rootless=self.user or None,
        )

    def read(self, path: str, limit: int) -> bytes:
        """A file of the daemon's. Raises OSError; what lives in another root may not point us into ours."""
        return _content(self.root, path, limit)


def find(pids: Iterable[int] | None = None) -> tuple[Daemon, ...]:
    """Every dockerd there is, each once; those of our own mount namespace first. ``pids``: of that name, as seen."""
    found: dict[tuple[int, int], Daemon] = {}
    for pid in processes.of_name(DAEMON) if pids is None else pids:
        argv = argv_of(pid)
        root = processes.root_of(pid)
        for socket in _listens(pid, argv, root):
            path = socket_of(root, socket)
            here, user = processes.namespace_of(pid), processes.user_of(pid)
            daemon = Daemon("docker", socket, path, pid, root, argv, here, user=user)
            inode = _socket(path)
            if inode and (inode not in found or (found[inode].root is not None and root is None)):
                found[inode] = daemon  # one of another root may be named so, and point at the socket of ours
            if inode:
                break
    if not found and (inside := _alone()) is not None:
        found[inside[0]] = inside[1]
    return tuple(sorted(found.values(), key=lambda d: (d.root is not None, d.pid)))


def patience(daemon: Daemon, usual: float) -> float:
    """Seconds to wait for an answer: one that was silent in this run is asked again, but not waited for again (a
    repair looks many times)."""
    return min(usual, AGAIN) if (daemon.path, daemon.pid) in _silent else usual


def answered(daemon: Daemon, in_time: bool) -> None:
    """Remember whether it did; one started again is another process, and asked as if for the first time."""
    (_silent.discard if in_time else _silent.add)((daemon.path, daemon.pid))


def option(argv: tuple[str, ...], *names: str) -> list[str]:
    """Values of an option in a command line of Go's pflag: "--name v", "--name=v", "-n v", "-nv"."""
    values: list[str] = []
    for n, word in enumerate(argv):
        for name in names:
            if word == name:
                values += argv[n + 1 : n + 2]
            elif name.startswith("--") and word.startswith(f"{name}="):
                values.append(word.partition("=")[2])
            elif not name.startswith("--") and word.startswith(name) and not word.startswith("--"):
                values.append(word[len(name) :].removeprefix("="))
    return values


def socket_of(root: str | None, socket: str) -> str:
    """The file we open for a socket of a process with that root: /var/run is an absolute link in most images, and
    would lead to the socket of our own daemon."""
    try:
        return within.resolved(root, socket)
    except (OSError, ValueError):
        return ""


def _content(root: str | None, path: str, limit: int) -> bytes:
    return procfs.read(path, limit) if root is None else within.read_plain(root, path, limit)


def _listens(pid: int, argv: tuple[str, ...], root: str | None) -> Iterator[str]:
    """Paths a dockerd may listen at, by its command line, its configuration, its owner; the likeliest first."""
    hosts = option(argv, *_HOSTS) or _configured(root, argv)
    yield from (h.removeprefix("unix://") for h in hosts if h.startswith("unix:///"))
    yield from SOCKETS  # its default, and that of fd:// (docker.socket)
    if owner := processes.user_of(pid):
        yield f"/run/user/{owner}/docker.sock"  # rootless


def _configured(root: str | None, argv: tuple[str, ...]) -> list[str]:
    import msgspec

    path = (option(argv, "--config-file") or [CONFIG])[-1]
    try:
        told = msgspec.json.decode(_content(root, path, procfs.LIMIT))
    except (OSError, ValueError, RecursionError):
        return []
    hosts = told.get("hosts") if isinstance(told, dict) else None
    return [h for h in hosts if isinstance(h, str)] if isinstance(hosts, list) else []


def _alone() -> tuple[tuple[int, int], Daemon] | None:
    """A socket whose daemon we cannot see: in a container that was given it, or by DOCKER_HOST."""
    told = os.environ.get("DOCKER_HOST", "")
    if told.startswith("unix:///"):
        candidates: tuple[str, ...] = (told.removeprefix("unix://"),)
    elif procfs.maybe("/proc/1/comm", 64) in ("systemd", "init"):
        return None  # every process is in sight, and none of them is the daemon: it does not run
    else:
        candidates = SOCKETS
    for path in candidates:
        if inode := _socket(path):
            return inode, Daemon("docker", path, path)
    return None


def _socket(path: str) -> tuple[int, int] | None:
    """(device, inode) of a socket's file, None when there is none."""
    try:
        st = os.stat(path)
    except (OSError, ValueError):
        return None
    return (st.st_dev, st.st_ino) if stat.S_ISSOCK(st.st_mode) else None
