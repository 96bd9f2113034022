"""Stand in another network namespace for a moment, and never stay there by accident.

setns(2) changes the calling *thread*. A socket belongs to the namespace it was created in for its whole life, so
the pattern is: enter, create the sockets, leave, then use them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pathfit.core.base import Value

CLONE_NEWNET = 0x40000000
OWN = "/proc/thread-self/ns/net"


def _load() -> "object":
    if hasattr(os, "setns"):  # 3.12
        return os.setns
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def setns(fd: int, kind: int) -> None:
        if libc.setns(fd, kind) != 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e), "setns")

    return setns


_setns = None


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """setns(2). Raises OSError (EPERM without CAP_SYS_ADMIN over that namespace, EINVAL when it is no namespace)."""
    global _setns
    if _setns is None:
        _setns = _load()
    _setns(fd, kind)  # type: ignore[operator]


def identity(fd: int) -> str:
    """The id of a namespace: "device:inode" of its nsfs file (ioctl_ns(2)); equal ids are the same namespace."""
    st = os.fstat(fd)
    return f"{st.st_dev}:{st.st_ino}"


@contextmanager
def inside(fd: int | None) -> Iterator[None]:
    """This thread is in namespace ``fd`` for the duration; None: where we are.

    Raises OSError when entering fails. When *leaving* fails the process ends at once (exit 3): going on in the
    wrong namespace could change or measure the wrong machine.
    """
    if fd is None:
        yield
        return
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(home), os.fstat(fd)):
            yield
            return
        _leave(home, fd)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


def _leave(home: int, fd: int) -> None:
    """Enter ``fd``, but only from where this thread may come back to. Raises OSError.

    Whoever is root in a user namespace alone may enter what belongs to it and is then refused its own way back
    (netns_install(): CAP_SYS_ADMIN over the owner of the *target*): entering where it is asks the same, beforehand.
    """
    setns(home)
    setns(fd)


def _return(home: int) -> None:
    """Back to where this thread came from, or the end of the process."""
    try:
        setns(home)
    except OSError as e:  # pragma: no cover - cannot be provoked without breaking the kernel
        print(f"pathfit: cannot return to the own namespace ({e}); stopping", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)


class NetnsHandle(Value, frozen=True, kw_only=True):
    """An open namespace. ``fd`` an nsfs file, ``id`` its :func:`identity`, ``where`` a WHERE that names it,
    ``pid`` a process that lives in it when one is known. ``mount_root`` is what that process sees as "/" (files such as
    resolv.conf), None when it sees ours. Close it, or use it in a ``with`` statement. Never saved: a number of a file.
    """

    fd: int
    id: str
    where: str
    pid: int | None = None
    mount_root: str | None = None

    def close(self) -> None:
        """Give the file back. A second call is harmless only when the number was not used again: call it once."""
        os.close(self.fd)

    def __enter__(self) -> "NetnsHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_handle(path: str, where: str, pid: int | None = None, mount_root: str | None = None) -> NetnsHandle:
    """Open the nsfs file at ``path``. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return NetnsHandle(fd=fd, id=identity(fd), where=where, pid=pid, mount_root=mount_root)


def own() -> NetnsHandle:
    """The namespace this thread is in."""
    return open_handle(OWN, "host", os.getpid())


SPARE = 128  # files open besides


def room_for(count: int) -> None:
    """May this process have ``count`` namespaces open at once? The soft limit is often 1024, the hard one far more."""
    most = os.sysconf("SC_OPEN_MAX")  # the soft limit, without a module for it
    if most < 0 or most >= count + SPARE:
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@contextmanager
def wandering() -> Iterator[Callable[[int, str], None]]:
    """Yields ``enter(fd, id)`` for a thread that visits many namespaces in a row and comes home once, at the end.

    ``enter`` does nothing when the thread is there already (entering needs CAP_SYS_ADMIN even then) and raises
    OSError when it may not; the thread then stays where it was. The way home is as in :func:`inside`.
    """
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    started = here = identity(home)

    def enter(fd: int, target: str) -> None:
        nonlocal here
        if target != here:
            if here == started:
                _leave(home, fd)
            else:
                setns(fd)
            here = target

    try:
        yield enter
    finally:
        try:
            if here != started:
                _return(home)
        finally:
            os.close(home)
