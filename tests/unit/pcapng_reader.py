"""A small strict reader of pcapng files (draft-ietf-opsawg-pcapng): what does not add up fails."""

import struct
from typing import NamedTuple


class Link(NamedTuple):
    name: str
    description: str
    linktype: int


class Packet(NamedTuple):
    """``time``: nanoseconds since 1970; ``flags``: epb_flags, 1 in, 2 out."""

    link: int
    time: int
    length: int
    data: bytes
    comment: str
    flags: int


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Every block's type and body."""
    found, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and length >= 12
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        found.append((kind, data[at + 8 : at + length - 4]))
        at += length
    assert at == len(data)
    return found


def options(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert length == 0 and at + 4 == len(data)
            return found
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    assert not data, "options end with an end"
    return found


def read(data: bytes) -> tuple[list[Link], list[Packet]]:
    """A whole file of one section."""
    (kind, head), *rest = blocks(data)
    assert kind == 0x0A0D0D0A and struct.unpack_from("<IHHq", head) == (0x1A2B3C4D, 1, 0, -1)
    assert set(options(head[16:])) == {4}
    links: list[Link] = []
    packets: list[Packet] = []
    for kind, body in rest:
        if kind == 1:
            assert not packets, "interfaces come first"
            told = options(body[8:])
            assert told[9] == b"\x09", "nanoseconds"
            links.append(Link(told[2].decode(), told.get(3, b"").decode(), struct.unpack_from("<H", body)[0]))
        else:
            assert kind == 6
            link, high, low, kept, length = struct.unpack_from("<IIIII", body)
            assert link < len(links) and kept <= length and not any(body[20 + kept : 20 + kept + -kept % 4])
            told = options(body[20 + kept + -kept % 4 :])
            flags = struct.unpack("<I", told.get(2, bytes(4)))[0]
            packets.append(
                Packet(link, high << 32 | low, length, body[20 : 20 + kept], told.get(1, b"").decode(), flags)
            )
    return links, packets
