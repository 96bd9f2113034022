"""A netlink socket that reads dumps (repeated when the table changed meanwhile) and makes changes. One reused buffer.

The socket belongs to the network namespace it was opened in for its whole life.
"""

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from pathfit.wire import netlink

T = TypeVar("T")
Decode = Callable[[bytes, int, int], T | None]

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 4, 12, 16

_SOL_NETLINK, _STRICT_CHECK = 270, 12
_SO_NETNS_COOKIE = 71
BUFFER = 256 * 1024  # a dump comes in pieces of at most 32 KiB; one message alone may be larger
ATTEMPTS = 4  # for a dump that is interrupted; a table that never rests is taken as it is

_FAMILY, _KIND = int(socket.AF_NETLINK), int(socket.SOCK_RAW | socket.SOCK_CLOEXEC)
# The message's own size, not that of the part that fits; no waiting: a request is answered before send() returns
# (netlink_sendmsg calls the family's receiver itself), and what is not there then never comes.
_FLAGS = int(socket.MSG_TRUNC | socket.MSG_DONTWAIT)
_before_4_20 = suppress(OSError)
_buffer = bytearray(BUFFER)
_view = memoryview(_buffer)


def _nothing(data: bytes, at: int, end: int) -> None:
    """Decodes nothing."""


def _ignore(_: object) -> None:
    """Keeps nothing."""


class NetlinkSocket:
    """``with NetlinkSocket(NETLINK_ROUTE) as s: links = s.dump(rtnl.links(), rtnl_link.link)``.

    Not for two threads at once: the receive buffer is shared in the process (a lock would cost more than it is
    worth on the path that reads a thousand namespaces; give each thread a ``buffer`` of its own).
    """

    def __init__(self, protocol: int, buffer: bytearray | None = None) -> None:
        """Raises OSError (EPROTONOSUPPORT: this kernel has no such netlink family)."""
        self._socket = socket.socket(_FAMILY, _KIND, protocol)
        self._buffer = buffer if buffer is not None else _buffer
        self._view = memoryview(self._buffer) if buffer is not None else _view
        self._sequence = 1
        self.interrupted = 0  # dumps that never came undisturbed
        self.limited = 0  # dumps cut at their limit
        with _before_4_20:  # filters in requests are ignored there, the decoders sort
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def cookie(self) -> int | None:
        """SO_NETNS_COOKIE (5.14): a number of this namespace that is never used again, or None."""
        try:
            raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return None
        return int.from_bytes(raw, sys.byteorder)

    def dump(self, request: bytes, decode: Decode[T], limit: int = 1_000_000) -> list[T]:
        """Every answer to ``request``, decoded; what decodes to None is left out.

        Raises OSError with the errno the kernel refused with, netlink.Malformed for bytes that contradict
        themselves. An interrupted dump is repeated (NLM_F_DUMP_INTR); ``interrupted`` counts those that stayed so,
        ``limited`` those with more than ``limit`` answers, of which the first ``limit`` are returned.
        """
        for _ in range(ATTEMPTS):
            found, disturbed = self._once(request, decode, limit)
            if not disturbed:
                return found
        self.interrupted += 1
        return found

    def ask(self, request: bytes, decode: Decode[T]) -> T | None:
        """One question with one answer: ``request`` without its dump flags. Raises as :meth:`dump`."""
        self._sequence += 1
        self._socket.send(netlink.single(request, self._sequence))
        found: list[T] = []
        _, _, refused = netlink.decode(self._receive(), self._sequence, decode, found.append)
        if refused:
            raise OSError(refused, os.strerror(refused))
        return found[0] if found else None

    def change(self, kind: int, body: bytes, flags: int = 0) -> None:
        """One change, and the kernel's word that it was made. ``flags``: NLM_F_REPLACE and the like.

        Raises OSError with the errno the kernel refused with.
        """
        self._sequence += 1
        self._socket.send(netlink.request(kind, body, self._sequence, netlink.F_REQUEST | netlink.F_ACK | flags))
        while True:
            batch = netlink.split(self._receive(), self._sequence)
            if batch.errno:
                raise OSError(batch.errno, os.strerror(batch.errno))
            if batch.done:
                return

    def _once(self, request: bytes, decode: Decode[T], limit: int) -> tuple[list[T], bool]:
        self._sequence += 1
        sequence = self._sequence
        self._socket.send(netlink.numbered(request, sequence))
        found: list[T] = []
        add: Callable[[T], object] = found.append
        done = disturbed = full = False
        while not done:
            data = self._receive()
            done, interrupted, refused = netlink.decode(data, sequence, decode, add)
            disturbed = disturbed or interrupted
            if refused:
                raise OSError(refused, os.strerror(refused))
            if len(found) >= limit and not full:
                full, decode, add = True, _nothing, _ignore  # the dump has to be taken to its end all the same
        if full:
            self.limited += 1
            del found[limit:]
        return found, disturbed

    def _receive(self) -> bytes:
        size = self._socket.recv_into(self._buffer, 0, _FLAGS)
        if size > len(self._buffer):
            raise OSError(errno.EMSGSIZE, f"a netlink message of {size} bytes")
        return bytes(self._view[:size])
