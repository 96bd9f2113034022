"""Names of the kernel's functions at addresses, from /proc/kallsyms.

A hundred thousand lines, a few megabytes: read once, when the first drop wants a name. Without CAP_SYSLOG the kernel
shows every address as 0 (kptr_restrict, kallsyms_show_value()): then nothing has a name, which is said by "".
"""

import re
from bisect import bisect_right
from collections.abc import Iterable

KALLSYMS = "/proc/kallsyms"
FUNCTION = re.compile(rb"^([0-9a-f]+) [tTwW] (\S+)", re.MULTILINE)
MOST = 1 << 20  # bytes behind a symbol that still belong to it


class Symbols:
    """The table of this moment; modules that are loaded later are not in it."""

    def __init__(self, path: str = KALLSYMS) -> None:
        """Raises OSError when the file cannot be read."""
        with open(path, "rb") as f:
            found = sorted(FUNCTION.findall(f.read()))  # all numbers have the same width: their text sorts as they do
        self._addresses: list[bytes] = [a for a, _ in found]
        self._names: list[bytes] = [n for _, n in found]

    def name(self, address: int) -> str:
        """The function that ``address`` is in, without what compilers append (".isra.0"); "" when that is unknown."""
        width = len(self._addresses[0]) if self._addresses else 0
        at = bisect_right(self._addresses, b"%0*x" % (width, address)) - 1
        if at < 0 or not 0 <= address - int(self._addresses[at], 16) <= MOST or not int(self._addresses[at], 16):
            return ""
        return self._names[at].decode("ascii", "replace").partition(".")[0]

    def names(self, addresses: Iterable[int]) -> tuple[str, ...]:
        return tuple(map(self.name, addresses))
