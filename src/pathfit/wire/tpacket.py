"""A block of a packet socket's ring (TPACKET_V3, linux/if_packet.h): the packets in it.

::

    block       0 version 4 offset 8 status 12 packets 16 first packet 20 length 24 number ...
    packet      0 next 4 seconds 8 nanoseconds 12 kept 16 length 20 status 24 data at 28 hash 32 VLAN tag
    behind it   struct sockaddr_ll: 2 protocol 4 ifindex 10 packet type (4: outgoing)

All in the byte order of the machine. Nothing is read beyond the block and nothing raises: a packet that does not lie
within it ends it. Pure.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

OUTGOING = 4  # PACKET_OUTGOING
USER = 1  # TP_STATUS_USER: the block is ours
STATUS = 8  # where the status stands
VLAN_VALID = 1 << 4  # TP_STATUS_VLAN_VALID: the tag stood in front and was taken out (eth_type_vlan)
ADDRESS = 48  # bytes from a packet's header to its sockaddr_ll: TPACKET_ALIGN(sizeof(struct tpacket3_hdr))
_BLOCK, _PACKET, _ADDRESS = struct.Struct("=IIIIII"), struct.Struct("=IIIIIIHHII"), struct.Struct("=HHiHBB")
LEAST = ADDRESS + _ADDRESS.size  # bytes of a packet without any


class Seen(NamedTuple):
    """One packet. ``time``: nanoseconds since 1970; ``length``: bytes on the wire; ``data``: what was kept of it."""

    time: int
    length: int
    outgoing: bool
    vlan: int | None
    data: bytes


class Memory(Protocol):
    """Bytes, or memory that is mapped."""

    def __getitem__(self, part: slice, /) -> bytes: ...

    def __len__(self) -> int: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


def ready(memory: Memory, start: int) -> bool:
    """Has the kernel handed over the block at ``start``?"""
    return bool(_BLOCK.unpack_from(memory, start)[2] & USER)


def used(memory: Memory, start: int, size: int) -> tuple[int, int]:
    """How many packets are in the block at ``start``, and how many of its ``size`` bytes they take; what lies behind
    them is of nobody."""
    _, _, _, count, _, length = _BLOCK.unpack_from(memory, start)
    return min(count, size // LEAST), min(max(length, _BLOCK.size), size)


def packets(memory: Memory, start: int, size: int) -> Iterator[Seen]:
    """What is in the block at ``start`` of ``size`` bytes, oldest first."""
    _, _, _, count, first, _ = _BLOCK.unpack_from(memory, start)
    at, end = start + max(first, _BLOCK.size), start + size
    for _ in range(min(count, size // LEAST)):
        if at + LEAST > end:
            return
        step, seconds, nano, kept, length, told, link, _, _, tag = _PACKET.unpack_from(memory, at)
        *_, kind, _ = _ADDRESS.unpack_from(memory, at + ADDRESS)
        if at + link + kept > end:
            return
        vlan = tag & 0x0FFF if told & VLAN_VALID else None
        data = memory[at + link : at + link + kept]
        yield Seen(seconds * 1_000_000_000 + nano, length, kind == OUTGOING, vlan, data)
        if step < LEAST:  # the last one's is 0
            return
        at += step
