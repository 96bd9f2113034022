"""The one QUIC packet that every server answers without knowing us: a long header of a version nobody speaks.

RFC 9000 section 6: a server answers a datagram of at least 1200 bytes with an unknown version by Version Negotiation,
which is small. RFC 8999: long header = flags 1, version 4, length and destination id, length and source id; version 0
and our source id as destination id mark that answer.
"""

import struct

LEAST = 1200  # bytes of UDP payload: RFC 9000 section 14.1; what is smaller need not be answered
UNKNOWN = 0x1A2A3A4A  # 0x?a?a?a?a is reserved to force version negotiation (RFC 9000 section 15)
ID = 8


def probe(ours: bytes, length: int) -> bytes:
    """A datagram of ``length`` bytes; ``ours``: eight bytes by which the answer is known."""
    head = struct.pack("!BIB8sB8s", 0xC0, UNKNOWN, ID, ours[::-1], ID, ours)
    return head + bytes(max(0, length - len(head)))


def negotiates(data: bytes, ours: bytes) -> bool:
    """Is it the Version Negotiation that answers the probe with id ``ours``?"""
    known = len(data) >= 6 + ID and bool(data[0] & 0x80) and data[1:5] == bytes(4)
    return known and data[5] == ID and data[6 : 6 + ID] == ours
