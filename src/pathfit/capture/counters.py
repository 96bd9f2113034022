"""What the kernel counts in the namespaces of a way, before and after: the one thing it tells anybody about drops.

Reading is all it takes: no rights beyond entering the namespace, no program in the kernel. A counter counts everybody's
packets; what may be made of that is :mod:`pathfit.model.counted`'s to say.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from pathfit.core.tracing import Moved
from pathfit.host import netns, procfs
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.model.counted import SOFTNET, WANTED
from pathfit.wire import rtnl_stats, snmp
from pathfit.wire.netlink import Malformed

FOLDER = "/proc/thread-self/net"  # of this thread: only it has entered the namespace
MOST_LINKS = 4096  # devices of a namespace
MOST = 512  # counters told of; those of no device first
BUFFER = 1 << 16  # bytes: a dump comes in pieces of 32 KiB

Counts = dict[tuple[str, int, str], int]  # namespace, device (0: none), name


class Counters:
    """Two readings and what moved in between. ``namespaces``: descriptors by NetnsSnapshot.id; None: where we are."""

    def __init__(self, namespaces: Mapping[str, int | None]) -> None:
        self._namespaces = dict(namespaces)
        self._before: Counts = {}
        self.refused: OSError | None = None  # the first namespace that could not be read

    def begin(self) -> None:
        """Read for the first time."""
        self._before = self._read()

    def end(self) -> tuple[Moved, ...]:
        """Read again. A device that is new, and a counter that fell, say nothing."""
        after = self._read()
        moved = snmp.difference(self._before, after)
        found = (Moved(netns=net, link=link, name=name, by=by) for (net, link, name), by in moved.items())
        return tuple(sorted(found, key=lambda m: (m.link != 0, -m.by))[:MOST])

    def _read(self) -> Counts:
        found: Counts = {}
        for name, fd in self._namespaces.items():
            try:
                with netns.inside(fd):
                    found.update(((name, link, what), n) for link, what, n in self._here())
            except OSError as e:
                self.refused = self.refused or e
        with suppress(OSError, ValueError):
            found["", 0, SOFTNET] = snmp.backlog(procfs.text("/proc/net/softnet_stat"))  # of the whole machine
        return found

    def _here(self) -> Iterator[tuple[int, str, int]]:
        """(device or 0, name, count) of the namespace that this thread is in."""
        text = "\n".join((procfs.text(f"{FOLDER}/snmp"), procfs.maybe(f"{FOLDER}/netstat")))
        stack = {**snmp.pairs(text), **snmp.single(procfs.maybe(f"{FOLDER}/snmp6"))}
        yield from ((0, name, n) for name, n in stack.items() if name in WANTED)
        with suppress(Malformed), NetlinkSocket(NETLINK_ROUTE, bytearray(BUFFER)) as s:
            # Queues second: RTM_GETSTATS is of 4.7, and both are asked where one of them is refused.
            for question, answer in ((rtnl_stats.stats(), rtnl_stats.device), (rtnl_stats.queues(), rtnl_stats.queue)):
                with suppress(OSError):
                    for one in s.dump(question, answer, MOST_LINKS):
                        yield from ((one.link, name, n) for name, n in one.counts.items())
