"""Namespaces, offloads and sysctls: the few kernel calls a lab needs that rtnetlink does not offer."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pathfit.host.netns import CLONE_NEWNET, OWN, inside, setns

NETNS = "/run/netns"  # where iproute2 looks (ip-netns(8))
MS_BIND = 0x1000
MNT_DETACH = 2

# linux/ethtool.h and linux/sockios.h: the legacy switches, one per family of features
SIOCETHTOOL = 0x8946
_OFF = {"rx": 0x15, "tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}  # ETHTOOL_S{RX,TX}CSUM, STSO, SGSO, SGRO

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), name)


def make_netns(name: str) -> int:
    """A new network namespace bound to /run/netns/NAME; its file descriptor. Raises OSError (EEXIST, EPERM)."""
    os.makedirs(NETNS, mode=0o755, exist_ok=True)
    path = f"{NETNS}/{name}"
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            fd = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            setns(home)
        try:
            _call("mount", f"/proc/self/fd/{fd}".encode(), path.encode(), b"none", MS_BIND, None)
        except BaseException:
            os.close(fd)
            raise
        return fd
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(home)


def drop_netns(name: str) -> None:
    """Removes /run/netns/NAME; nothing happens when it is not there."""
    path = f"{NETNS}/{name}"
    try:
        _call("umount2", path.encode(), MNT_DETACH)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.EINVAL):  # EINVAL: made, but nothing bound to it yet
            raise
    with suppress(FileNotFoundError):
        os.unlink(path)


@contextmanager
def in_netns(name: str) -> Iterator[None]:
    """This thread (and what it starts) is in the named namespace."""
    fd = os.open(f"{NETNS}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(fd):
            yield
    finally:
        os.close(fd)


def offloads_off(links: list[str]) -> None:
    """`ethtool -K LINK tso off gso off gro off tx off rx off` in the current namespace.

    Super-packets pass layer-2 MTU checks (is_skb_forwardable lets GSO through), so a silent limit would not bite.
    A driver that has no such switch answers EOPNOTSUPP: nothing to switch off.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for link in links:
            for command in _OFF.values():
                value = ctypes.create_string_buffer(struct.pack("II", command, 0), 8)
                request = struct.pack("16sP", link.encode(), ctypes.addressof(value)).ljust(40, b"\0")
                try:
                    fcntl.ioctl(s, SIOCETHTOOL, request)
                except OSError as e:
                    if e.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                        raise


def set_sysctls(values: Mapping[str, str], *, optional: bool = False) -> None:
    """Writes settings of the current network namespace. Raises OSError naming the setting.

    ``optional``: a setting this kernel does not have is passed over (no IPv6, br_netfilter not loaded).
    """
    for name, value in values.items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            with open(path, "w") as f:
                f.write(value)
        except OSError as e:
            if optional and e.errno == errno.ENOENT:
                continue
            raise OSError(e.errno, f"{e.strerror}: {name}={value}") from None


def open_tap(name: str) -> int:
    """A TAP device in the current namespace; it lives as long as the descriptor. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except BaseException:
        os.close(fd)
        raise
    return fd
