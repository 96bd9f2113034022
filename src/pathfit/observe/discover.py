"""Where network namespaces hide: processes, named files, mounts that only other mount namespaces see.

A namespace is identified by (device, inode) of its nsfs file and kept open by one file descriptor while it is
read, so that a number used again meanwhile cannot be mistaken for it. One that vanishes while we look is normal.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator
from typing import NamedTuple

from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.host import netns, procfs

ENGINES_OWN = "/run/docker/netns"
NAMED = ("/run/netns", "/var/run/netns", ENGINES_OWN)
NSFS_MAGIC_ROOT = "net:["
NS_GET_NSTYPE = 0xB703  # _IO(0xb7, 3)
FILES = 20_000  # open files looked at for a hidden namespace, about 2 microseconds each
PROCESSES = 64  # kept by name for one namespace; a host has thousands, its containers a few
_NSFS_MOUNT = r"(?m)^\S+ \S+ \S+ net:\[(\d+)\] (\S+)"  # compiled when they are first used, and kept (re.compile)
_CONTAINER = r"[0-9a-f]{64}"


class Found(NamedTuple):
    """A namespace that exists. ``path`` opens it; ``pids`` live in it, lowest first."""

    id: str
    path: str
    names: tuple[str, ...]
    pids: tuple[int, ...]


class Census(NamedTuple):
    """All namespaces we can see. ``complete``: every process could be asked."""

    found: tuple[Found, ...]
    complete: bool
    missing: tuple[Missing, ...]
    own: str


def census(source: netns.NetnsHandle | None = None) -> Census:
    """Look everywhere. ``source`` comes first, our own second, the others by their first name."""
    own = _identity(netns.OWN)
    device = own.partition(":")[0] + ":" if own else ""
    homes, refused, mounts = processes_by_namespace()
    paths: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for name, path, found in _named(device):
        paths.setdefault(found, path)
        if name not in names.setdefault(found, []):
            names[found].append(name)
    for found, path in _mounted(mounts, device, paths.keys() | homes.keys()):
        paths[found] = path
        names.setdefault(found, []).append(f"netns:{procfs.printable(path)}")
    result: list[Found] = []
    # Our own first: its path names whatever namespace this thread stands in, and the reader wanders afterwards.
    first = [i for i in (own, source.id if source else "") if i]
    for found in [*dict.fromkeys(first), *sorted((paths.keys() | homes.keys()) - set(first))]:
        pids = tuple(homes.get(found, ()))
        if source is not None and found == source.id:
            path = f"/proc/self/fd/{source.fd}"
        elif found == own:
            path = netns.OWN
        else:
            path = paths.get(found) or f"/proc/{pids[0]}/ns/net"
        result.append(Found(found, path, _called(found, own, names.get(found, []), pids, source), pids))
    missing = (_refused(refused),) if refused else ()
    return Census(tuple(result), not refused, missing, own)


def near(source: netns.NetnsHandle | None) -> Census:
    """Only ``source`` and our own."""
    own = _identity(netns.OWN)
    words = (source.where, "host") if source is not None and source.id == own else ("host",)
    found = [Found(own, netns.OWN, tuple(dict.fromkeys(words)), (os.getpid(),))]
    if source is not None and source.id != own:
        pids = (source.pid,) if source.pid else ()
        found.append(Found(source.id, f"/proc/self/fd/{source.fd}", (source.where,), pids))
    return Census(tuple(found), True, (), own)


def open_found(one: Found) -> int:
    """An open file of the namespace. Raises OSError, also when another one sits at its path by now."""
    fd = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
    if netns.identity(fd) != one.id:
        os.close(fd)
        raise OSError(errno.ENOENT, "it went while we looked", one.path)
    return fd


def _called(
    found: str, own: str, names: list[str], pids: tuple[int, ...], source: netns.NetnsHandle | None
) -> tuple[str, ...]:
    """Every WHERE of a namespace, best first. The asked one keeps the words it was asked in."""
    words = []
    if source is not None and found == source.id:
        words.append(source.where)
    if found == own:
        words.append("host")
    words += [n for n in names if not n.startswith("netns:/")]
    if pids and found != own and (container := container_of(pids[0])):
        words.insert(1 if words else 0, f"container:{container[:12]}")
    words += [n for n in names if n.startswith("netns:/")]
    if pids and found != own:
        words.append(f"pid:{pids[0]}")
    return tuple(dict.fromkeys(words)) or (f"netns-id:{found}",)


def _identity(path: str) -> str:
    try:
        st = os.stat(path)
    except OSError:
        return ""
    return f"{st.st_dev}:{st.st_ino}"


def processes_by_namespace() -> tuple[dict[str, list[int]], int, dict[str, int]]:
    """Processes by namespace; how many refused to be asked; one process of each mount namespace."""
    homes: dict[str, list[int]] = {}
    mounts: dict[str, int] = {}
    refused = 0
    for pid in procfs.pids():
        try:
            st = os.stat(f"/proc/{pid}/ns/net")
            homes.setdefault(f"{st.st_dev}:{st.st_ino}", []).append(pid)
            if (mount := procfs.link(f"/proc/{pid}/ns/mnt")) and mount not in mounts:
                mounts[mount] = pid
        except PermissionError:
            refused += 1
        except OSError:
            continue  # gone, or a zombie: it lives nowhere
    return homes, refused, mounts


def _named(device: str) -> Iterator[tuple[str, str, str]]:
    """Files under the folders where people and engines keep namespaces: (WHERE, path, id)."""
    seen: set[str] = set()
    for folder in NAMED:
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for name in procfs.names(folder):
            path = f"{folder}/{name}"
            found = _identity(path)
            if device and found.startswith(device):  # a plain file left behind lies on another device
                # `ip -n NAME` knows the folders of iproute2 alone
                called = path if folder == ENGINES_OWN else name
                yield f"netns:{procfs.printable(called)}", path, found


def _mounted(mounts: dict[str, int], device: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """nsfs files mounted in some mount namespace (/proc/PID/mountinfo) that are not ``known``: (id, path to open it).

    The file's root there is "net:[INODE]": with a mount namespace for each container that shows all the others, it must
    not take a look at each file from each of them.
    """
    seen = set(known)
    for pid in mounts.values():
        text = procfs.maybe(f"/proc/{pid}/mountinfo")
        if NSFS_MAGIC_ROOT not in text:
            continue
        for inode, place in re.findall(_NSFS_MOUNT, text):
            said = f"{device}{inode}"
            if said in seen:
                continue
            place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), place)
            path = f"/proc/{pid}/root{place}"
            if device and _identity(path) == said:  # nothing else is mounted over it
                seen.add(said)
                yield said, path


def held(known: Collection[str]) -> tuple[Found, ...]:
    """Namespaces that only an open file of some process keeps: looked for when a link leads where we have not been."""
    device = _identity(netns.OWN).partition(":")[0] + ":"
    found: dict[str, Found] = {}
    looked = 0
    for pid in procfs.pids():
        for fd in procfs.names(f"/proc/{pid}/fd"):
            looked += 1
            if looked > FILES:
                return tuple(found.values())
            path = f"/proc/{pid}/fd/{fd}"
            if not _may_be_namespace(procfs.link(path)):
                continue
            if (identity := _identity(path)).startswith(device) and identity not in known and _is_net(path):
                found.setdefault(identity, Found(identity, path, (f"netns:{path}",), ()))
    return tuple(found.values())


def _may_be_namespace(target: str) -> bool:
    """What the link of an open nsfs file says: its name, the mount it was opened through, or "/" when that went."""
    return target.startswith(NSFS_MAGIC_ROOT) or target == "/" or "/netns/" in target


def _is_net(path: str) -> bool:
    """Whether an nsfs file is of a *network* namespace (NS_GET_NSTYPE, ioctl_ns(2)); others lie beside them."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(fd, NS_GET_NSTYPE) == netns.CLONE_NEWNET
    except OSError:
        return False
    finally:
        os.close(fd)


def container_of(pid: int) -> str | None:
    """The 64 hex digits an engine put into the process's cgroup path (docker, containerd, cri-o, podman), or None.

    Monitors (libpod-conmon-…, crio-conmon-…) carry the id as well but live outside the container.
    """
    for line in procfs.maybe(f"/proc/{pid}/cgroup", 65536).splitlines():
        path = line.rpartition(":")[2]
        if "conmon" in path:
            continue
        if ids := re.findall(_CONTAINER, path):
            return str(ids[-1])
    return None


def _refused(count: int) -> Missing:
    return Missing(
        what=f"namespaces of other owners ({count})",
        why="their processes may not be looked into",
        how=AS_ROOT if os.geteuid() else "docker run --cap-add SYS_PTRACE …",
        code="permission",
    )


def is_namespace(path: str) -> bool:
    """Whether ``path`` is a mounted network namespace and not the plain file that waits for one."""
    try:
        st = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(st.st_mode) and _identity(netns.OWN).startswith(f"{st.st_dev}:") and _is_net(path)
