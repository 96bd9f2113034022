"""Files of a node, read below its root: bounded, never led outside (:mod:`pathfit.host.within`), and small formats."""

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from pathfit.host import within

LIMIT = 1 << 18  # bytes of one file; the largest of them (a cloud's instance data) has about forty thousand
MANY = 256  # entries of one folder, in the order of their names
MOST_MTU = 65_535  # bytes that an IP packet can have
LEAST_MTU = 68  # RFC 791; what is smaller is no MTU
TEXT = 256  # characters kept of a name or an address


class Root:
    """A folder that is somebody's "/". ``refused`` collects what may not be read.

    ``path`` None is what we see ourselves; it is read in the same way.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.refused: list[str] = []

    def read(self, path: str, limit: int = LIMIT) -> bytes:
        """At most ``limit`` bytes of a regular file. Raises OSError (EINVAL when it is none, ELOOP, EACCES, …)."""
        return within.read(self.path, path, limit)

    def data(self, path: str, limit: int = LIMIT) -> bytes | None:
        """The same, None when it cannot be read; a refusal is remembered."""
        try:
            return self.read(path, limit)
        except PermissionError:
            self.refused.append(path)
        except (OSError, ValueError):
            pass  # ValueError: a name with a NUL
        return None

    def text(self, path: str) -> str | None:
        """The same as text; bytes that are no UTF-8 become "\\xff"."""
        found = self.data(path)
        return None if found is None else found.decode("utf-8", "backslashreplace")

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON object; None when there is no such file, an empty one when it holds something else."""
        found = self.data(path)
        if found is None:
            return None
        try:
            decoded = msgspec.json.decode(found)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}

    def changed(self, path: str) -> float | None:
        """When a file was written last (seconds since 1970), None when that cannot be seen."""
        try:
            fd = within.find(self.path, path)
        except (OSError, ValueError):
            return None
        try:
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted, at most MANY; none when it cannot be listed (a refusal is remembered). One that is
        no UTF-8 is none of a maker's, and could not be saved."""
        try:
            return [n for n in within.listed(self.path, folder) if n.isprintable()][:MANY]
        except PermissionError:
            self.refused.append(folder)
        except (OSError, ValueError):
            pass
        return []


# --- what stands in them ---------------------------------------------------------------------------------------------


def mtu(value: object) -> int | None:
    """An MTU written as a number or in digits; None for anything else. 0 means "not set" everywhere here."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) <= 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if LEAST_MTU <= value <= MOST_MTU else None


def word(value: object, limit: int = TEXT) -> str:
    """A string on one line, at most ``limit`` characters; "" for anything else."""
    return " ".join(value.split())[:limit] if isinstance(value, str) else ""


def table(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """The objects in a JSON list, at most MANY."""
    return [x for x in value[:MANY] if isinstance(x, dict)] if isinstance(value, list) else []


def truth(value: object) -> bool:
    """A switch as makers write it: true, "true", "Enabled", "1"."""
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on", "enabled"))


def pairs(text: str | None) -> dict[str, str]:
    """KEY=VALUE lines (os-release(5) style); comments and lines without "=" are left out, quotes taken off."""
    return dict(_pairs(text or ""))


def sections(text: str | None) -> dict[str, dict[str, str]]:
    """An ini file: values by section and key, both in lower case; what stands before the first section is in ""."""
    found: dict[str, dict[str, str]] = {}
    part: list[str] = []
    name = ""
    for line in (text or "").splitlines():
        bare = line.strip()
        if bare.startswith("[") and bare.endswith("]"):
            found.setdefault(name, {}).update(_pairs("\n".join(part)))
            name, part = bare[1:-1].strip().lower(), []
        else:
            part.append(line)
    found.setdefault(name, {}).update(_pairs("\n".join(part)))
    return {section: {k.lower(): v for k, v in values.items()} for section, values in found.items()}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith(("#", ";")):
            yield key.strip(), value.strip().strip("\"'")[:4096]


def flat_yaml(text: str | None, keys: frozenset[str]) -> dict[str, str]:
    """Plain scalars of a YAML file, by "key" or "parent.key", as far as ``keys`` asks for them.

    No YAML reader: agents' configurations are block mappings of scalars two or three levels deep, and nothing else of
    them is wanted. Lists, anchors, multi-line strings are passed over; a value in another form is "not said".
    """
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in (text or "").splitlines():
        bare = line.split(" #")[0].rstrip()
        key, colon, value = bare.lstrip().partition(":")
        if not colon or key.startswith(("#", "-")) or (value and not value.startswith(" ")):
            continue
        depth = len(bare) - len(bare.lstrip())
        while parents and parents[-1][0] >= depth:
            parents.pop()
        full = ".".join([*(name for _, name in parents), key.strip().strip("\"'")])
        scalar = value.strip().strip("\"'")
        if not scalar:
            parents.append((depth, key.strip()))
        elif full in keys:
            found[full] = scalar[:TEXT]
    return found
