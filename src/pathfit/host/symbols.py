"""Names of the kernel's functions at addresses, from /proc/kallsyms.

A hundred thousand lines, a few megabytes: read once, when the first drop wants a name. Without CAP_SYSLOG the kernel
shows every address as 0 (kptr_restrict, kallsyms_show_value()): then nothing has a name, which is said by "".
"""

from bisect import bisect_right
from collections.abc import Iterable

KALLSYMS = "/proc/kallsyms"
FUNCTIONS = b"tTwW"
MOST = 1 << 20  # bytes behind a symbol that still belong to it


class Symbols:
    """The table of this moment; modules that are loaded later are not in it."""

    def __init__(self, path: str = KALLSYMS) -> None:
        """Raises OSError when the file cannot be read."""
        found: list[tuple[int, bytes]] = []
        with open(path, "rb") as f:
            for line in f:
                words = line.split(None, 3)
                if len(words) > 2 and words[1] in FUNCTIONS and (address := int(words[0], 16)):
                    found.append((address, words[2].rstrip()))
        found.sort()
        self._addresses = [a for a, _ in found]
        self._names = [n for _, n in found]

    def name(self, address: int) -> str:
        """The function that ``address`` is in, without what compilers append (".isra.0"); "" when that is unknown."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address - self._addresses[at] > MOST:
            return ""
        return self._names[at].decode("ascii", "replace").partition(".")[0]

    def names(self, addresses: Iterable[int]) -> tuple[str, ...]:
        return tuple(map(self.name, addresses))
