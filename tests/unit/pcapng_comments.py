"""Comments of a pcapng file, each with the name of the interface its packet was seen at."""

import struct


def comments(data: bytes) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    names: list[str] = []
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + length - 4]
        if kind == 1:
            names.append(_option(body[8:], 2))
        elif kind == 6:
            number, kept = struct.unpack_from("<I", body)[0], struct.unpack_from("<I", body, 12)[0]
            text = _option(body[20 + kept + -kept % 4 :], 1)
            if text:
                found.append((names[number], text))
        at += length
    return found


def _option(data: bytes, wanted: int) -> str:
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from("<HH", data, at)
        if code == wanted:
            return data[at + 4 : at + 4 + size].decode()
        at += 4 + size + -size % 4
    return ""
