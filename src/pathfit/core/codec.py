"""Values to bytes and back, with a clear error and its place."""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class OpenError(ValueError):
    """A saved file cannot be opened; the message says what is wrong and where in the document."""


def dump(value: Any) -> bytes:
    """One JSON document, keys in field order, two-space indent, final newline. Deterministic."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def pack(value: Any) -> bytes:
    """The same document in one line: a third of the size, and read as much faster. Deterministic."""
    return msgspec.json.encode(value, order="deterministic") + b"\n"


def load(data: bytes, kind: type[T], *, schema: str, version: str) -> T:
    """Decode and validate ``data``, in one pass when all is well.

    Raises OpenError for a document that is no JSON, has the wrong shape (with its path), or whose ``schema`` is
    of another family or newer than ours ("made by 1.4, this is 1.2").
    """
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        _check_head(data, schema, version)  # a newer one may well have another shape: that is said first
        raise OpenError(f"damaged {schema}: {e}") from None
    if getattr(value, "schema", "") != schema:
        _check_head(data, schema, version)
    return value


def _check_head(data: bytes, schema: str, version: str) -> None:
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise OpenError(f"not a pathfit document: {e}") from None
    family, _, number = schema.partition("/")
    theirs, _, their_number = head.schema.partition("/")
    if theirs != family:
        raise OpenError(f"this is a {head.schema or 'document without schema'}, expected {schema}")
    if not their_number.isdecimal() or len(their_number) > 9 or int(their_number) > int(number):
        raise OpenError(f"made by pathfit {head.version or '?'} ({head.schema}), this is {version} ({schema})")


class _Head(msgspec.Struct):
    schema: str = ""
    version: str = ""
