"""Where the kernel drops packets of one flow, in every namespace at once, and why.

Needs CAP_BPF and CAP_PERFMON (or root), BTF, libbpf; :class:`~pathfit.host.bpf.Unable` says what is missing. Loading
takes some 40 ms; the names of functions a quarter of a second, which is spent when the first drop is read.
"""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pathfit.host import bpf
from pathfit.host.symbols import Symbols
from pathfit.model.dropped import Why, why
from pathfit.wire import traced
from pathfit.wire.dissect import VXLAN_PORTS, Dissected, packet
from pathfit.wire.traced import Traced

FILTERED = "NETFILTER_DROP"
MOST = 100_000  # events kept between two calls of Drops.read()
OBJECT = Path(__file__).parent / "bpf" / "trace.bpf.o"


class Drop(NamedTuple):
    """One packet that was lost. ``function``: who freed it; ``callers``: who called that, innermost first; both are ""
    or empty without names. ``packet``: its headers, from the outermost IP header on."""

    why: Why
    reason: str
    function: str
    callers: tuple[str, ...]
    at: Traced
    packet: Dissected


class Drops:
    """Watches from the moment it is made until :meth:`close`."""

    def __init__(
        self, hosts: Collection[bytes], ports: Collection[int] = (), tunnels: Collection[int] = VXLAN_PORTS
    ) -> None:
        """``hosts``: addresses of the flow, in every form that NAT gives them; ``ports``: none for any. Raises
        bpf.Unable; ValueError for more than the program can look for."""
        self._heard: list[bytes] = []
        self._cut = 0  # events that were heard and not kept
        self._judged = 0  # of those in _heard, how many filtered() has looked at
        self._program = bpf.Program(str(OBJECT), traced.flow(hosts, ports, tunnels), ("dropped",))

    @cached_property
    def _reasons(self) -> dict[int, str]:
        return bpf.drop_reasons()

    @cached_property
    def _symbols(self) -> Symbols | None:
        try:
            return Symbols()
        except OSError:
            return None

    def gather(self) -> None:
        """Make room in the kernel's buffer; nothing is decoded. Every 10 ms or so, while much is dropped."""
        self._heard += self._program.events()
        self._cut += len(self._heard[MOST:])
        del self._heard[MOST:]

    def filtered(self) -> bool:
        """Has a packet filter dropped anything since this was asked last, as far as is known? Before 5.17 nobody says
        why anything was dropped."""
        new, self._judged = self._heard[self._judged :], len(self._heard)
        if not new:
            return False  # names of reasons take 10 ms or more, and are not needed where nothing is dropped
        reasons = self._reasons
        return not reasons or any(reasons.get(x.reason) == FILTERED for x in map(traced.event, new) if x is not None)

    def read(self) -> list[Drop]:
        """What was lost since the last call; what was freed without being lost is left out."""
        self.gather()
        heard, self._heard, self._judged = self._heard, [], 0
        events = filter(None, map(traced.event, heard))
        return [drop for event in events if (drop := self._drop(event)) is not None]

    def _drop(self, event: Traced) -> Drop | None:
        reason = self._reasons.get(event.reason, str(event.reason) if self._reasons else "NOT_SPECIFIED")
        function = self._symbols.name(event.location) if self._symbols else ""
        stack = self._symbols.names(event.stack) if self._symbols else ()
        # The stack begins in the program itself; how deep that is, is the kernel's business.
        callers = stack[stack.index(function) + 1 :] if function in stack else tuple(x for x in stack if x)
        found = why(reason, (function, *callers))
        if found is None:
            return None
        return Drop(found, reason, function, callers, event, packet(event.headers))

    @property
    def lost(self) -> int:
        """Events that found no room: as many drops may be missing."""
        return self._program.counts().lost + self._cut

    def close(self) -> None:
        """Take the program out of the kernel. A second call is harmless."""
        self._program.close()
