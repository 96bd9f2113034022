"""An open file of /dev/net/tun, in whatever process: which namespace its device is in. One descriptor is borrowed."""

import ctypes
import fcntl
import os

from pathfit.host.netns import identity

_PIDFD_GETFD = 438  # the same number on every architecture (Linux 5.6)
_TUNGETDEVNETNS = 0x54E3  # _IO('T', 227), linux/if_tun.h (Linux 5.2); elsewhere than on x86 and arm it is refused


def space_of(pid: int, fd: int) -> str:
    """The id of the network namespace ("device:inode") of the device behind file ``fd`` of process ``pid``.

    Raises OSError: no such kernel, no right to look into that process (ptrace(2)), no device behind it.
    """
    process = os.pidfd_open(pid)
    try:
        file = _borrowed(process, fd)
    finally:
        os.close(process)
    try:
        space = fcntl.ioctl(file, _TUNGETDEVNETNS)
    finally:
        os.close(file)
    try:
        return identity(space)
    finally:
        os.close(space)


def _borrowed(process: int, fd: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(_PIDFD_GETFD, process, fd, 0)
    if found < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), "pidfd_getfd")
    return found
