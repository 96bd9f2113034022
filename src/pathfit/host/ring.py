"""A packet socket with a ring in shared memory (TPACKET_V3): every packet of one device that a filter accepts.

The kernel fills a block and hands it over when it is full, or :data:`RETIRE` after its first packet; what comes while
no block is free is counted, never waited for (tpacket_rcv(), prb_retire_rx_blk_timer_expired()). The device is never
made promiscuous. The filter is attached before the socket is bound: nothing of others ever enters the ring.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pathfit.host import netns, rawsock
from pathfit.wire import tpacket
from pathfit.wire.tpacket import Seen

PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, PACKET_IGNORE_OUTGOING = 5, 6, 10, 23  # linux/if_packet.h
TPACKET_V3 = 2
SOL_PACKET = 263
ETH_P_ALL = 3
BLOCK = 1 << 15  # bytes; a power of two, whole pages
BLOCKS = 128  # two seconds of nobody reading, at RETIRE each
FRAME = 2048  # bytes; only a bound for the ring's own arithmetic
RETIRE = 15  # milliseconds until a block with anything in it is handed over


class Block(NamedTuple):
    """``many`` packets as the kernel wrote them: whoever is to read in time has no time to decode."""

    many: int
    data: bytes

    def packets(self) -> Iterator[Seen]:
        """What is in it, oldest first."""
        return tpacket.packets(self.data, 0, len(self.data))


class Counts(NamedTuple):
    """Packets that the filter accepted, and those of them that found no room."""

    seen: int
    lost: int


class Ring:
    """One device watched. Read it often; close it, or end: the kernel takes it away with the process."""

    def __init__(
        self,
        fd: int | None,
        link: int,
        program: Sequence[rawsock.Instruction],
        *,
        blocks: int = BLOCKS,
        block: int = BLOCK,
    ) -> None:
        """``fd``: the namespace; ``link``: the device's index there; ``program``: its return value is how many bytes
        are kept. Raises OSError: EPERM without CAP_NET_RAW, ENODEV, ENOMEM."""
        self._seen = self._lost = self._next = 0
        self._block, self._blocks = block, blocks
        with netns.inside(fd):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: hears nothing yet
            try:
                self.link = link
                rawsock.attach(self._socket, list(program))
                self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
                frames = block * blocks // FRAME
                asked = struct.pack("=7I", block, blocks, FRAME, frames, RETIRE, 0, 0)
                _setsockopt(self._socket, PACKET_RX_RING, asked)
                self._memory = mmap.mmap(self._socket.fileno(), block * blocks, mmap.MAP_SHARED)
                self._socket.bind((socket.if_indextoname(link), ETH_P_ALL))
            except OSError:
                self._socket.close()
                raise

    @property
    def fd(self) -> int:
        """Readable when a block is there (poll(2))."""
        return self._socket.fileno()

    def ended(self) -> str:
        """Why nothing comes any more (ENETDOWN, packet_notifier()): "" for no reason, "down" for a device that is, and
        "gone" when it was removed or moved to another namespace. To be asked when poll(2) says POLLERR, which stays
        otherwise."""
        if not self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return ""
        return "down" if self._socket.getsockname()[0] else "gone"

    def leave_out(self, leaving: bool) -> None:
        """From now on hear only what comes in, or what leaves as well: for each packet that leaves, the kernel makes a
        copy before any filter runs (dev_queue_xmit_nit()). Raises OSError before Linux 4.20."""
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, leaving)

    def take(self) -> Iterator[Block]:
        """What has come, oldest first, as it is. A block goes back to the kernel at once."""
        for _ in range(self._blocks):
            start = self._next * self._block
            if not tpacket.ready(self._memory, start):
                return
            many, length = tpacket.used(self._memory, start, self._block)
            block = Block(many, self._memory[start : start + length])
            struct.pack_into("=I", self._memory, start + tpacket.STATUS, 0)  # TP_STATUS_KERNEL
            self._next = (self._next + 1) % self._blocks
            yield block

    def read(self) -> Iterator[Seen]:
        """What has come, oldest first."""
        for block in self.take():
            yield from block.packets()

    def counts(self) -> Counts:
        """Since the beginning (the kernel's own counters begin anew whenever they are read)."""
        seen, lost, _ = struct.unpack("=3I", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
        self._seen += seen
        self._lost += lost
        return Counts(self._seen, self._lost)

    def close(self) -> None:
        """Unmap and close. A second call is harmless."""
        if not self._memory.closed:
            self._memory.close()
        rawsock.close(self._socket)


def _setsockopt(sock: socket.socket, option: int, value: bytes) -> None:
    """setsockopt(2) that lets other threads run. A ring is made after a grace period of RCU (packet_set_ring(),
    synchronize_net()), some 10 ms, and Python's own call would let nobody else make another one meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setsockopt(sock.fileno(), SOL_PACKET, option, value, len(value)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
