"""/proc and /sys, read with as few calls as can be."""

import os
from collections.abc import Iterable

_READ = os.O_RDONLY | os.O_CLOEXEC
LIMIT = 1 << 20  # bytes; files of /proc that tell us anything are far smaller


def read(path: str, limit: int = LIMIT) -> bytes:
    """Up to ``limit`` bytes of a file. Raises OSError."""
    fd = os.open(path, _READ)
    try:
        data = os.read(fd, min(limit, 65536))
        if len(data) < 4096 or len(data) >= limit:  # /proc never gives less than it could, up to a page
            return data
        parts = [data]
        left = limit - len(data)
        while left > 0 and (data := os.read(fd, min(left, 65536))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def text(path: str, limit: int = LIMIT) -> str:
    """The same as text without blanks around it. Raises OSError."""
    return read(path, limit).decode("utf-8", "backslashreplace").strip()


def maybe(path: str, limit: int = LIMIT) -> str:
    """The same, "" when it cannot be read."""
    try:
        return text(path, limit)
    except OSError:
        return ""


def sysctls(names: Iterable[str], root: str = "/proc/sys/net") -> dict[str, str]:
    """Values by name for "ipv4.ip_forward" and the like; names this kernel does not have are left out.

    /proc/sys/net shows the namespace of the thread that opens it: stand inside first. Only "." between our words
    becomes "/": for devices write the path with slashes ("ipv4/conf/eth0.7/rp_filter").
    """
    found: dict[str, str] = {}
    try:
        folder = os.open(root, os.O_PATH | os.O_CLOEXEC)  # a third faster than whole paths
    except OSError:
        return found
    try:
        for name in names:
            try:
                fd = os.open(name.replace(".", "/"), _READ, dir_fd=folder)
            except OSError:
                continue
            try:
                found[name] = os.read(fd, 4096).decode("ascii", "backslashreplace").strip()
            except OSError:
                continue
            finally:
                os.close(fd)
    finally:
        os.close(folder)
    return found


def pids(root: str = "/proc") -> list[int]:
    """Processes, lowest number first; empty without /proc."""
    try:
        return sorted(int(name) for name in os.listdir(root) if name.isdigit())
    except OSError:
        return []


def names(folder: str) -> list[str]:
    """Entries of a folder, sorted; empty when it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def printable(name: str) -> str:
    """A file's name or a variable as text that can be saved: bytes that are no UTF-8 become "\\xff"."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def link(path: str) -> str:
    """Where a symbolic link points, "" when that cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""
