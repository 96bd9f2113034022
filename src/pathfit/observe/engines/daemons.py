"""The engines' daemons: where they listen, who they are, how they were started.

A socket is not connected to only to see whether somebody is there: under socket activation that would *start* the
engine (systemd.socket(5)). So a socket counts when a daemon's process is seen, or when our view of the processes is
too narrow to tell (pathfit in a container that was given the socket).
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pathfit.host import procfs, within

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
DAEMON = "dockerd"
CONFIG = "/etc/docker/daemon.json"
Homes = Mapping[str, Sequence[int]]  # processes (as we number them) by the id of the namespace they live in
_HOSTS = ("-H", "--host")
_ARGV = 1 << 16
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

    def read(self, path: str, limit: int) -> bytes:
        """A file of the daemon's. Raises OSError; what lives in another root may not point us into ours."""
        return content(self.root, path, limit)


def find(pids: Iterable[int] | None = None) -> tuple[Daemon, ...]:
    """Every dockerd there is, each once; those of our own mount namespace first. ``pids``: of that name, as seen."""
    found: dict[tuple[int, int], Daemon] = {}
    for pid in processes(DAEMON) if pids is None else pids:
        argv = argv_of(pid)
        root = root_of(pid)
        for socket in _listens(pid, argv, root):
            path = socket_of(root, socket)
            daemon = Daemon("docker", socket, path, pid, root, argv, namespace_of(pid), user=user_of(pid))
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


def content(root: str | None, path: str, limit: int) -> bytes:
    """A file as a process with that root has it (None: ours). Raises OSError."""
    return procfs.read(path, limit) if root is None else procfs.read_below(root, path, limit)


def root_of(pid: int) -> str | None:
    """What a process sees as "/", None when that is what we see, or when we may not know (then ours is the guess)."""
    mounts = procfs.link(f"/proc/{pid}/ns/mnt")
    if not mounts:
        return None
    same = mounts == procfs.link("/proc/self/ns/mnt")
    if same and procfs.link(f"/proc/{pid}/root") == procfs.link("/proc/self/root"):
        return None
    return f"/proc/{pid}/root"


def namespace_of(pid: int) -> str:
    """The id of the network namespace of a process, "" when it cannot be seen."""
    try:
        st = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return ""
    return f"{st.st_dev}:{st.st_ino}"


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


def processes(name: str) -> Iterator[int]:
    """Processes of that name: one small read each, about five microseconds."""
    for pid in procfs.pids():
        if procfs.maybe(f"/proc/{pid}/comm", 64) == name:
            yield pid


def socket_of(root: str | None, socket: str) -> str:
    """The file we open for a socket of a process with that root: /var/run is an absolute link in most images, and
    would lead to the socket of our own daemon."""
    try:
        return within.resolved(root, socket)
    except (OSError, ValueError):
        return ""


def by_name(wanted: Collection[str]) -> dict[str, list[int]]:
    """Processes of each of those names, lowest number first, in one look."""
    found: dict[str, list[int]] = {}
    for pid in procfs.pids():
        name = procfs.maybe(f"/proc/{pid}/comm", 64)
        if name in wanted:
            found.setdefault(name, []).append(pid)
    return found


def user_of(pid: int) -> int:
    """Whom a process runs for, as we number users; 0 when it went."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return 0


def argv_of(pid: int) -> tuple[str, ...]:
    """The words of its command line; one empty word when they cannot be seen."""
    return tuple(procfs.maybe(f"/proc/{pid}/cmdline", _ARGV).removesuffix("\0").split("\0"))


def _listens(pid: int, argv: tuple[str, ...], root: str | None) -> Iterator[str]:
    """Paths a dockerd may listen at, by its command line, its configuration, its owner; the likeliest first."""
    hosts = option(argv, *_HOSTS) or _configured(root, argv)
    yield from (h.removeprefix("unix://") for h in hosts if h.startswith("unix:///"))
    yield from SOCKETS  # its default, and that of fd:// (docker.socket)
    if owner := user_of(pid):
        yield f"/run/user/{owner}/docker.sock"  # rootless


def _configured(root: str | None, argv: tuple[str, ...]) -> list[str]:
    import msgspec

    path = (option(argv, "--config-file") or [CONFIG])[-1]
    try:
        told = msgspec.json.decode(content(root, path, procfs.LIMIT))
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
