"""Snapshots in files: read within bounds, and the bytes of one (host/whole.py writes them).

A file comes from strangers, so reading one never waits (a pipe, a device), never takes more memory than
:data:`MOST_BYTES` of text and about :data:`MOST_MEMORY` of values, and believes nothing that was not decoded and
checked (:mod:`pathfit.core.codec`). One read, one pass: a file of a hundred containers takes about two milliseconds.
"""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

from pathfit import __version__
from pathfit.core import codec
from pathfit.core.codec import OpenError
from pathfit.core.sane import Impossible, check
from pathfit.core.secrets import masked
from pathfit.core.snapshot import SCHEMA, HostSnapshot

__all__ = ["OpenError", "files", "load_snapshot", "load_stdin", "pack"]

MOST_BYTES = 128 << 20  # of text, after unpacking; a host of 1000 containers has about 4 MB, 300 000 routes 50
MOST_MEMORY = 512 << 20  # bytes its values may take once decoded
A_STRUCT, A_VALUE = 260, 64  # bytes that one "{" and one "," stand for at most, roughly (a Link; a string)
FEW_BYTES = MOST_MEMORY // A_STRUCT * 2  # "{}" is the shortest there is: less text than this cannot be too much
SUFFIXES = (".json", ".json.gz")  # what is taken of a directory
GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1


def files(paths: Iterable[str | Path]) -> list[Path]:
    """The files that ``paths`` name: a directory stands for the snapshots in it, by name; anything else for itself.

    Raises OSError for a directory that cannot be listed.
    """
    found: list[Path] = []
    for one in map(Path, paths):
        if os.path.isdir(str(one).replace("\0", "?")):
            with os.scandir(one) as entries:
                found += sorted(one / e.name for e in entries if e.name.endswith(SUFFIXES))
        else:
            found.append(one)
    return found


def load_snapshot(path: str | Path) -> HostSnapshot:
    """The host in a file (JSON, plain or gzip). Raises OpenError: what is wrong with it, without its name."""
    return decode(text(path))


def text(path: str | Path) -> bytes:
    """What a file holds, not yet decoded; at most a little more than MOST_BYTES. Raises OpenError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "no such path can exist"
        raise OpenError(f"cannot be opened: {why}") from None
    try:
        what = os.fstat(fd)
        if not stat.S_ISREG(what.st_mode):
            raise OpenError("not a regular file")
        data = _read(fd, what.st_size)
    except OSError as e:
        raise OpenError(f"cannot be read: {e.strerror}") from None
    finally:
        os.close(fd)
    return _unpacked(data)


def load_stdin() -> HostSnapshot:
    """The host on standard input. Raises OpenError."""
    if os.isatty(0):
        raise OpenError("a terminal, where a snapshot is expected")
    try:
        with open(0, "rb", closefd=False) as f:
            data = f.read(MOST_BYTES + 1)
    except OSError as e:
        raise OpenError(f"cannot be read: {e.strerror}") from None
    return decode(_unpacked(data))


def _read(fd: int, size: int) -> bytes:
    """All of it, in one read when the size is true (it is not for /proc and for what grows)."""
    if size > MOST_BYTES:
        raise OpenError(f"larger than {MOST_BYTES >> 20} MB")
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while data and sum(map(len, parts)) <= MOST_BYTES:
        data = os.read(fd, 1 << 20)
        parts.append(data)
    return b"".join(parts)


def decode(data: bytes) -> HostSnapshot:
    """What :func:`text` gave, to a value. Raises OpenError."""
    if len(data) > MOST_BYTES:
        raise OpenError(f"larger than {MOST_BYTES >> 20} MB")
    if len(data) > FEW_BYTES and weight(data) > MOST_MEMORY:
        raise OpenError(f"more values than one host has: they would take more than {MOST_MEMORY >> 20} MB")
    host = codec.load(data, HostSnapshot, schema=SCHEMA, version=__version__)
    try:
        check(host)
    except Impossible as e:
        raise OpenError(f"damaged {SCHEMA}: {e}") from None
    return host


def weight(data: bytes) -> int:
    """Bytes that the values of a text may take once decoded."""
    return data.count(b"{") * A_STRUCT + data.count(b",") * A_VALUE


def _unpacked(data: bytes) -> bytes:
    """Out of gzip, where it is in one; once: what is packed twice is nothing we wrote."""
    if not data.startswith(GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as f:
            return f.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise OpenError(f"damaged gzip: {e}") from None


def pack(host: HostSnapshot, *, compress: bool = False) -> bytes:
    """The bytes of a file. The same host gives the same bytes. Passwords in URLs (an engine's configuration) go."""
    data = masked(codec.pack(host).decode()).encode()
    return gzip.compress(data, 6, mtime=0) if compress else data
