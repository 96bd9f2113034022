"""A socket of nf_tables: one transaction, and what the kernel tells a group. What it owns goes with it."""

import errno
import os
import socket
import struct
from contextlib import suppress

from pathfit.host import netns
from pathfit.host.nlsocket import NETLINK_NETFILTER
from pathfit.wire.netlink import Malformed, split

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_MEMINFO, _DROPS = 55, 8  # sock_diag.h: SK_MEMINFO_DROPS
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
# Bytes: of a transaction, and of what waits to be read (the kernel counts a message of 300 bytes as some 800).
_ROOMS = ((_SO_SNDBUFFORCE, socket.SO_SNDBUF, 1 << 20), (_SO_RCVBUFFORCE, socket.SO_RCVBUF, 4 << 20))
MOST = 1 << 16  # bytes of one message
READ = 10_000  # messages at a time: who reads has other things to do as well


class NfSocket:
    """In one namespace for its whole life, which it keeps alive (as every socket does). A child that is forked and runs
    no other program holds it as well."""

    def __init__(self, fd: int | None) -> None:
        """``fd``: the namespace; None: ours. Raises OSError."""
        with netns.inside(fd):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        self._dropped = 0
        try:
            self._socket.bind((0, 0))  # an address of its own: by it the kernel knows the owner of a table
            for forced, plain, size in _ROOMS:
                try:
                    self._socket.setsockopt(socket.SOL_SOCKET, forced, size)
                except OSError:  # not in a user namespace
                    self._socket.setsockopt(socket.SOL_SOCKET, plain, size)
        except OSError:
            self._socket.close()
            raise

    def commit(self, batch: bytes, sequence: int = 1) -> None:
        """All of a transaction, or nothing and OSError with what the kernel refused first."""
        self._socket.send(batch)  # it is answered before this returns
        done = False
        with suppress(BlockingIOError):
            while True:
                answer = split(self._socket.recv(MOST, socket.MSG_DONTWAIT), sequence)
                if answer.errno:
                    raise OSError(answer.errno, os.strerror(answer.errno))
                done = done or answer.done
        if not done:
            raise Malformed("a transaction was not acknowledged")

    def join(self, group: int) -> None:
        """Hear what the kernel tells ``group``. Raises OSError (EPERM without CAP_NET_ADMIN there)."""
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    @property
    def fd(self) -> int:
        """Readable when something was told (poll(2))."""
        return self._socket.fileno()

    def receive(self) -> list[bytes]:
        """What was told since the last call, READ messages at most. Raises OSError."""
        found: list[bytes] = []
        while len(found) < READ:
            try:
                found.append(self._socket.recv(MOST, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:  # some found no room, :attr:`dropped` knows how many
                    raise
        return found

    @property
    def dropped(self) -> int:
        """Messages that found no room (SO_MEMINFO, 4.12)."""
        if self._socket.fileno() >= 0:
            size = 4 * (_DROPS + 1)
            raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, size)
            if len(raw) == size:
                (self._dropped,) = struct.unpack_from("=I", raw, 4 * _DROPS)
        return self._dropped

    def close(self) -> None:
        """A second call is harmless."""
        self._socket.close()
