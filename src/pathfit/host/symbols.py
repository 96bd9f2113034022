"""Names of the kernel's functions at addresses, from /proc/kallsyms.

A hundred thousand lines, a few megabytes: read once, when the first drop wants a name. Without CAP_SYSLOG the kernel
shows every address as 0 (kptr_restrict, kallsyms_show_value()): then nothing has a name, which is said by "".
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

KALLSYMS = "/proc/kallsyms"
FUNCTION = re.compile(rb"^([0-9a-f]+) [tTwW] ", re.MULTILINE)
MOST = 1 << 20  # bytes behind a symbol that still belong to it


def shown(path: str = KALLSYMS) -> bool:
    """Does the kernel show us addresses? The first of them tell: a hidden one is 0, and of others not all are."""
    try:
        with open(path, "rb") as f:
            return any(line.split(b" ")[0].strip(b"0") for line in f.read(1 << 13).splitlines())
    except OSError:
        return False


class Symbols:
    """The table of this moment; modules that are loaded later are not in it. Some 12 MB: the file as it is, and the
    addresses of functions in order; names are looked up in the text, for few are ever asked for."""

    def __init__(self, path: str = KALLSYMS) -> None:
        """Raises OSError when the file cannot be read."""
        with open(path, "rb") as f:
            self._text = f.read()
        self._addresses = FUNCTION.findall(self._text)
        self._addresses.sort()  # all numbers have the same width: their text sorts as they do
        self._known: dict[bytes, str] = {}

    def name(self, address: int) -> str:
        """The function that ``address`` is in, without what compilers append (".isra.0"); "" when that is unknown."""
        width = len(self._addresses[0]) if self._addresses else 0
        at = bisect_right(self._addresses, b"%0*x" % (width, address)) - 1
        if at < 0 or not 0 <= address - int(self._addresses[at], 16) <= MOST or not int(self._addresses[at], 16):
            return ""
        start = self._addresses[at]
        if start not in self._known:
            self._known[start] = max(self._at(start), default="").partition(".")[0]
        return self._known[start]

    def _at(self, start: bytes) -> Iterator[str]:
        """Names of the functions that begin there: lines of one address stand together."""
        at = 0 if self._text.startswith(start) else self._text.find(b"\n" + start) + 1
        while self._text.startswith(start, at):
            end = self._text.find(b"\n", at)
            line = self._text[at : end if end >= 0 else len(self._text)].split()
            if len(line) > 2 and line[1] in (b"t", b"T", b"w", b"W"):
                yield line[2].decode("ascii", "replace")
            if end < 0:
                return
            at = end + 1

    def names(self, addresses: Iterable[int]) -> tuple[str, ...]:
        return tuple(map(self.name, addresses))
