"""Which network namespace a container has, seen from outside of whoever runs it.

What an engine calls a path is one in *its* mount namespace, what it calls a process a number in *its* pid namespace.
Both are looked up as it sees them, and believed only when the kernel says that a network namespace is there.
"""

import os
import re
from contextlib import suppress

from pathfit.host import procfs, within
from pathfit.observe import discover
from pathfit.observe.engines.daemons import Daemon, Homes

_OF_PROCESS = re.compile(r"/proc/([1-9][0-9]{0,8})(?:/task/[0-9]+)?/ns/net\Z")
_MAGIC = "net:["  # what the link /proc/PID/ns/net says; one that somebody made would lead nowhere by that name


def namespace(daemon: Daemon, path: str, inner: int) -> str:
    """The id of a container's namespace: by the file its engine names, else by its process; "" when it is neither."""
    found = at_path(daemon, path) if path.startswith("/") else ""
    return found or (of_process(daemon, inner) if inner > 0 else "")


def at_path(daemon: Daemon, path: str) -> str:
    """The id of the network namespace whose file is at ``path``, "" when there is none."""
    if process := _OF_PROCESS.match(path):
        return of_process(daemon, int(process[1]))
    try:
        fd = within.find(daemon.root, path)
    except (OSError, ValueError):
        return ""
    try:
        if not discover.is_namespace(f"/proc/self/fd/{fd}"):
            return ""
        st = os.fstat(fd)
        return f"{st.st_dev}:{st.st_ino}"
    finally:
        os.close(fd)


def of_process(daemon: Daemon, inner: int) -> str:
    """The namespace of a process, by the number that the daemon (or a monitor of its containers) knows it by."""
    if not daemon.witness:
        return ""
    try:  # /proc as it is mounted for the daemon counts as the daemon does
        fd = within.find(daemon.root, f"/proc/{inner}/ns")
    except OSError:
        return ""
    try:
        with suppress(OSError):
            if os.readlink("net", dir_fd=fd).startswith(_MAGIC):
                st = os.stat("net", dir_fd=fd)
                return f"{st.st_dev}:{st.st_ino}"
        return ""
    finally:
        os.close(fd)


def process(daemon: Daemon, container: str, netns: str, inner: int, homes: Homes) -> int:
    """Our number of the container's first process, 0 when it is not visible."""
    if inner and daemon.witness and same_numbers(daemon.witness):
        return inner
    return next((pid for pid in homes.get(netns, ()) if discover.container_of(pid) == container), 0)


def same_numbers(pid: int) -> bool:
    """Does that process count processes as we do?"""
    theirs = procfs.link(f"/proc/{pid}/ns/pid")
    return bool(theirs) and theirs == procfs.link("/proc/self/ns/pid")
