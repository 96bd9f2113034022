"""Packets into a pcapng file: one interface a point, comments on the packets that matter (draft-ietf-opsawg-pcapng).

::

    block    0 type 4 length 8 body ... length again         all padded to 4 bytes, in the byte order of the magic
    section  0A0D0D0A: magic 1A2B3C4D, version 1.0, length unknown (-1), options
    link     1: link type, 0, snaplen, options               their order is their number
    packet   6: link, time (high, low), captured, length, bytes, options

Pure: every function returns the bytes of one block; whoever writes them decides where. Times are nanoseconds since
1970 (if_tsresol 9). Text is cut to :data:`MOST_TEXT` bytes of UTF-8, because an option's length has 16 bits.
"""

import struct

SECTION, LINK, PACKET = 0x0A0D0D0A, 1, 6
MAGIC = 0x1A2B3C4D
ETHERNET, RAW = 1, 101  # LINKTYPE_ETHERNET, LINKTYPE_RAW
COMMENT, NAME, DESCRIPTION, RESOLUTION = 1, 2, 3, 9  # options; of a link, but for the first
FLAGS = 2  # option of a packet
APPLICATION = 4  # option of a section
NANOSECONDS = 9  # 10^-9 s
IN, OUT = 1, 2  # epb_flags, bits 0 and 1
MOST_TEXT = 60_000


def section(application: str) -> bytes:
    """The head of the file. ``application``: who wrote it."""
    return _block(SECTION, struct.pack("<IHHq", MAGIC, 1, 0, -1) + _options((APPLICATION, _text(application))))


def link(name: str, description: str = "", *, linktype: int = ETHERNET, snaplen: int = 0) -> bytes:
    """One interface; the first written is number 0. ``snaplen`` 0: no limit."""
    told = [(NAME, _text(name)), (RESOLUTION, bytes([NANOSECONDS]))]
    if description:
        told.insert(1, (DESCRIPTION, _text(description)))
    return _block(LINK, struct.pack("<HHI", linktype, 0, snaplen) + _options(*told))


def packet(
    number: int, time_ns: int, data: bytes, *, length: int | None = None, comment: str = "", direction: int = 0
) -> bytes:
    """One packet seen at interface ``number``. ``length``: bytes on the wire where fewer were kept."""
    whole = len(data) if length is None else max(length, len(data))
    head = struct.pack("<IIIII", number, time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF, len(data), whole)
    told: list[tuple[int, bytes]] = []
    if comment:
        told.append((COMMENT, _text(comment)))
    if direction:
        told.append((FLAGS, struct.pack("<I", direction)))
    return _block(PACKET, head + _padded(data) + _options(*told))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _options(*told: tuple[int, bytes]) -> bytes:
    if not told:
        return b""
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in told) + bytes(4)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= MOST_TEXT else raw[:MOST_TEXT].decode("utf-8", "ignore").encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
