"""Netlink framing (RFC 3549, include/uapi/linux/netlink.h): bytes to messages to attributes, every length checked.

::

    0               4       6       8               12              16
    | length        | kind  | flags | sequence      | port          | body ...   padded to 4, then the next
    | len | type | value, padded to 4 | ...                           attributes inside a body

All numbers are in the byte order of the machine. A buffer the kernel filled is never longer than it says; one that
lies raises :class:`Malformed`, and nothing here loops without moving forward.
"""

from collections.abc import Callable, Iterable
from struct import Struct, error
from sys import byteorder
from typing import NamedTuple, TypeVar

from pathfit.wire.addresses import ip

T = TypeVar("T")

NOOP, ERROR, DONE, OVERRUN = 1, 2, 3, 4
_LAST = frozenset((ERROR, DONE, OVERRUN))
FIRST_KIND = 16  # NLMSG_MIN_TYPE: smaller kinds are control messages

F_REQUEST, F_ACK, F_DUMP = 0x1, 0x4, 0x300
F_DUMP_INTR = 0x10  # the table changed during the dump: what was read may never have been true at once
HEADER = 16
_SINGLE = F_REQUEST.to_bytes(2, byteorder)
NESTED, TYPE_MASK = 0x8000, 0x3FFF

_HEAD = Struct("=IHHII")
_HEAD_AT = Struct("=IHHI").unpack_from
_ATTR = Struct("=HH")
_ATTR_AT = _ATTR.unpack_from
_I32 = Struct("=i").unpack_from

U16 = Struct("=H").unpack_from
U32 = Struct("=I").unpack_from
I32 = _I32
BE16 = Struct(">H").unpack_from


class Malformed(ValueError):
    """The bytes contradict themselves (a length beyond the end, a body too short)."""


class Batch(NamedTuple):
    """One received buffer, taken apart. ``bodies``: (kind, start, end) of the body behind each header."""

    bodies: list[tuple[int, int, int]]
    done: bool
    interrupted: bool
    errno: int  # 0, or the positive errno the kernel refused with


def request(kind: int, body: bytes, sequence: int = 1, flags: int = F_REQUEST | F_DUMP) -> bytes:
    """A message to the kernel; a dump unless ``flags`` says otherwise."""
    return _HEAD.pack(HEADER + len(body), kind, flags, sequence, 0) + body


def numbered(message: bytes, sequence: int) -> bytes:
    """The same request under another sequence number."""
    return message[:8] + sequence.to_bytes(4, byteorder) + message[12:]


def single(message: bytes, sequence: int) -> bytes:
    """The same request without the dump flags, under another sequence number: one answer."""
    return message[:6] + _SINGLE + sequence.to_bytes(4, byteorder) + message[12:]


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTR.pack(4 + len(value), kind) + value + b"\0" * (-len(value) & 3)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    """An attribute that holds attributes (NLA_F_NESTED)."""
    return attribute(kind | NESTED, b"".join(parts))


def split(data: bytes, sequence: int = 1) -> Batch:
    """Messages of one buffer that answer ``sequence``. Raises Malformed.

    NLMSG_ERROR and the status inside NLMSG_DONE (a dump that failed half way) come as ``errno``.
    """
    bodies: list[tuple[int, int, int]] = []
    at, size, interrupted = 0, len(data), False
    while at + HEADER <= size:
        length, kind, flags, number = _HEAD_AT(data, at)
        end = at + length
        if length < HEADER or end > size:
            raise Malformed(f"netlink message of {length} bytes at {at} of {size}")
        if number == sequence:
            interrupted = interrupted or bool(flags & F_DUMP_INTR)
            if kind >= FIRST_KIND:
                bodies.append((kind, at + HEADER, end))
            elif kind in (ERROR, DONE):
                status = _I32(data, at + HEADER)[0] if length >= HEADER + 4 else 0
                return Batch(bodies, True, interrupted, -status if status < 0 else 0)
            elif kind == OVERRUN:
                return Batch(bodies, True, True, 0)
        at = (end + 3) & ~3
    if at < size:
        raise Malformed(f"{size - at} bytes behind the last netlink message")
    return Batch(bodies, False, interrupted, 0)


def decode(
    data: bytes, sequence: int, one: Callable[[bytes, int, int], T | None], add: Callable[[T], object]
) -> tuple[bool, bool, int]:
    """What :func:`split` does, decoding on the way: ``add(one(data, start, end))`` for each message that answers
    ``sequence`` and is not None. Gives (done, interrupted, errno). Raises Malformed, and whatever ``one`` raises."""
    at, size, interrupted = 0, len(data), False
    while at + HEADER <= size:
        length, kind, flags, number = _HEAD_AT(data, at)
        end = at + length
        if length < HEADER or end > size:
            raise Malformed(f"netlink message of {length} bytes at {at} of {size}")
        if number == sequence:
            if flags & F_DUMP_INTR:
                interrupted = True
            if kind >= FIRST_KIND:
                value = one(data, at + HEADER, end)
                if value is not None:
                    add(value)
            elif kind in _LAST:
                status = _I32(data, at + HEADER)[0] if length >= HEADER + 4 and kind != OVERRUN else 0
                return True, interrupted or kind == OVERRUN, -status if status < 0 else 0
        at = (end + 3) & ~3
    if at < size:
        raise Malformed(f"{size - at} bytes behind the last netlink message")
    return False, interrupted, 0


def attributes(data: bytes, at: int, end: int) -> dict[int, bytes]:
    """Every attribute of data[at:end] by type without its flag bits; a repeated one: the last. Raises Malformed."""
    found: dict[int, bytes] = {}
    try:
        while end - at >= 4:
            length, kind = _ATTR_AT(data, at)
            if length < 4 or at + length > end:
                raise Malformed(f"attribute {kind & TYPE_MASK} of {length} bytes at {at} of {end}")
            found[kind & TYPE_MASK] = data[at + 4 : at + length]
            at += (length + 3) & ~3
    except error:  # data is shorter than end
        raise Malformed(f"attributes end at {end}, the buffer at {len(data)}") from None
    return found


def chosen(data: bytes, at: int, end: int, wanted: frozenset[int]) -> dict[int, bytes]:
    """As :func:`attributes`, only those in ``wanted``: the others are not copied. Raises Malformed."""
    found: dict[int, bytes] = {}
    try:
        while end - at >= 4:
            length, kind = _ATTR_AT(data, at)
            if length < 4 or at + length > end:
                raise Malformed(f"attribute {kind & TYPE_MASK} of {length} bytes at {at} of {end}")
            if (kind := kind & TYPE_MASK) in wanted:
                found[kind] = data[at + 4 : at + length]
            at += (length + 3) & ~3
    except error:
        raise Malformed(f"attributes end at {end}, the buffer at {len(data)}") from None
    return found


def every(data: bytes, at: int, end: int) -> list[tuple[int, bytes]]:
    """Attributes in order, repeated ones included (lists are sent that way). Raises Malformed."""
    found: list[tuple[int, bytes]] = []
    try:
        while end - at >= 4:
            length, kind = _ATTR_AT(data, at)
            if length < 4 or at + length > end:
                raise Malformed(f"attribute {kind & TYPE_MASK} of {length} bytes at {at} of {end}")
            found.append((kind & TYPE_MASK, data[at + 4 : at + length]))
            at += (length + 3) & ~3
    except error:
        raise Malformed(f"attributes end at {end}, the buffer at {len(data)}") from None
    return found


def inner(value: bytes) -> dict[int, bytes]:
    """The attributes nested in a value."""
    return attributes(value, 0, len(value))


def text(value: bytes) -> str:
    """A string attribute. Names may hold any byte but "/" and blanks: what is no UTF-8 is written as \\xNN."""
    return value.rstrip(b"\0").decode("utf-8", "backslashreplace")


def ip_text(value: bytes) -> str:
    """An address attribute as canonical text. Raises Malformed when it has neither four nor sixteen bytes."""
    try:
        return ip(value)
    except ValueError as e:
        raise Malformed(str(e)) from None


def u8(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    """Attribute ``kind`` as __u8, ``default`` when it is not there. Raises Malformed when it is too short."""
    value = found.get(kind)
    if value is None:
        return default
    if not value:
        raise Malformed(f"attribute {kind} is empty")
    return value[0]


def u16(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    """Attribute ``kind`` as __u16."""
    value = found.get(kind)
    return default if value is None else _number(U16, value, kind)


def be16(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    """Attribute ``kind`` as __be16 (ports)."""
    value = found.get(kind)
    return default if value is None else _number(BE16, value, kind)


def u32(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    """Attribute ``kind`` as __u32."""
    value = found.get(kind)
    return default if value is None else _number(U32, value, kind)


def i32(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    """Attribute ``kind`` as __s32."""
    value = found.get(kind)
    return default if value is None else _number(I32, value, kind)


def _number(unpack: "object", value: bytes, kind: int) -> int:
    try:
        return unpack(value)[0]  # type: ignore[operator, no-any-return]
    except error:
        raise Malformed(f"attribute {kind} has {len(value)} bytes, a number expected") from None


def fixed(layout: Struct, data: bytes, at: int, end: int) -> tuple[int, ...]:
    """The fixed part at the head of a body. Raises Malformed when the body is shorter."""
    if at + layout.size > end:
        raise Malformed(f"body of {end - at} bytes, {layout.size} expected")
    return layout.unpack_from(data, at)
