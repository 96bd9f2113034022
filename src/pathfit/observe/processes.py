"""Processes of this machine as witnesses of where somebody lives: their name, words, user, root and namespace.

Numbers are as we count. Whoever ends meanwhile, or may not be looked at, has no answer, which is no error.
"""

import os
from collections.abc import Collection, Iterator

from pathfit.host import procfs

_ARGV = 1 << 16  # bytes of a command line


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


def user_of(pid: int) -> int:
    """Whom a process runs for, as we number users; 0 when it went."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return 0


def argv_of(pid: int) -> tuple[str, ...]:
    """The words of its command line; one empty word when they cannot be seen."""
    return tuple(procfs.maybe(f"/proc/{pid}/cmdline", _ARGV).removesuffix("\0").split("\0"))


def of_name(name: str) -> Iterator[int]:
    """Processes of that name: one small read each, about five microseconds."""
    for pid in procfs.pids():
        if procfs.maybe(f"/proc/{pid}/comm", 64) == name:
            yield pid


def by_name(wanted: Collection[str]) -> dict[str, list[int]]:
    """Processes of each of those names, lowest number first, in one look."""
    found: dict[str, list[int]] = {}
    for pid in procfs.pids():
        name = procfs.maybe(f"/proc/{pid}/comm", 64)
        if name in wanted:
            found.setdefault(name, []).append(pid)
    return found
