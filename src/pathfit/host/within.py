"""Files as a process with another root has them.

An absolute symbolic link below /proc/PID/root leads into *our* files when the kernel follows it for us; here it leads
where it would for that process (as openat2(2) does with RESOLVE_IN_ROOT, which Python does not have). Nothing is
opened but regular files and folders: a FIFO in their place would be waited for, a device might act.
"""

import errno
import os
import stat
from itertools import islice

LINKS = 40  # symbolic links followed in one path, as many as the kernel follows (MAXSYMLINKS)
ENTRIES = 10_000  # of a folder
_PATH = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 1 << 16


def find(root: str | None, path: str) -> int:
    """An O_PATH file of ``path`` below ``root`` (None: ours), to be closed. Raises OSError."""
    return os.open(path, _PATH) if root is None else _walk(root, path)[0]


def resolved(root: str | None, path: str) -> str:
    """Where ``path`` below ``root`` is as we would open it, without symbolic links on the way. Raises OSError."""
    if root is None:
        return path
    fd, names = _walk(root, path)
    os.close(fd)
    return "/".join((root, *names))


def _walk(root: str, path: str, most: int = LINKS) -> tuple[int, list[str]]:
    """(the file, the way to it). ``most``: symbolic links that are followed."""
    trail = [os.open(root, _PATH)]
    names: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    try:
        while todo:
            part = todo.pop()
            if part == ".." and names:
                os.close(trail.pop())
                names.pop()
            if part in ("", ".", ".."):
                continue
            trail.append(os.open(part, _PATH | os.O_NOFOLLOW, dir_fd=trail[-1]))
            names.append(part)
            if not stat.S_ISLNK(os.fstat(trail[-1]).st_mode):
                continue
            links += 1
            if links > most:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink("", dir_fd=trail[-1])
            back = len(names) if target.startswith("/") else 1
            for _ in range(back):
                os.close(trail.pop())
                names.pop()
            todo += target.split("/")[::-1]
        return trail.pop(), names
    finally:
        for fd in trail:
            os.close(fd)


def read(root: str | None, path: str, limit: int) -> bytes:
    """Up to ``limit`` bytes of a regular file. Raises OSError."""
    if root is None:
        return _content(os.open(path, _READ), path, limit)
    return _content(_reopened(find(root, path), path), path, limit)


def read_plain(root: str, path: str, limit: int) -> bytes:
    """The same of a file that somebody asks us to believe: a symbolic link on the way is refused (ELOOP), wherever it
    leads, and so is "..". Raises OSError."""
    if ".." in path.split("/"):
        raise OSError(errno.EINVAL, "no path of a file", path)
    return _content(_reopened(_walk(root, path, 0)[0], path), path, limit)


def _reopened(at: int, path: str) -> int:
    """An O_PATH file to be read; it is closed. Raises OSError when it is no regular file."""
    try:
        _regular(at, path)
        return os.open(f"/proc/self/fd/{at}", _READ)
    finally:
        os.close(at)


def _content(fd: int, path: str, limit: int) -> bytes:
    try:
        _regular(fd, path)
        left = limit
        parts: list[bytes] = []
        while left > 0 and (data := os.read(fd, min(left, _CHUNK))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def _regular(fd: int, path: str) -> None:
    """Raises OSError when it is no regular file."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "no regular file", path)


def listed(root: str | None, path: str) -> list[str]:
    """Entries of a folder, sorted, of the first ENTRIES; empty when there is none. Raises OSError when it may not be
    read."""
    try:
        at = find(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        if not stat.S_ISDIR(os.fstat(at).st_mode):
            return []
        with os.scandir(f"/proc/self/fd/{at}/.") as entries:
            return sorted(entry.name for entry in islice(entries, ENTRIES))
    finally:
        os.close(at)
