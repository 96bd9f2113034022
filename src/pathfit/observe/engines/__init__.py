"""Container engines: which run here, and what they say of their networks and containers.

* :mod:`~pathfit.observe.engines.daemons` - the daemons of this machine: sockets in the usual places, and dockerd
  processes wherever they live (another mount namespace is entered through /proc/PID/root);
* :mod:`~pathfit.observe.engines.docker` - one daemon's API and configuration -> an
  :class:`~pathfit.core.engine.Engine`, by GETs alone;
* :mod:`~pathfit.observe.engines.parse` - its JSON -> values (pure; hostile answers lose their fields, not our run);
* :mod:`~pathfit.observe.engines.names` - ``container:NAME``: one container and its namespace.

An engine is one more witness beside the kernel: what it says of itself is believed only as its own word (a network's
option, a name). Which namespace a container has is checked against the kernel.

Cost: where no daemon runs, one look at the names of the processes. A daemon that hangs costs :data:`BUDGET` seconds
once, and is said to be missing.
"""

from typing import Protocol

from pathfit.core.engine import Engine
from pathfit.core.evidence_base import Missing
from pathfit.host import clock
from pathfit.observe.engines import daemons
from pathfit.observe.engines.daemons import Daemon, Homes

__all__ = ["BUDGET", "Reader", "read_all"]

BUDGET = 2.0  # seconds for all engines together; a quiet dockerd tells of a hundred containers in 0.03


class Reader(Protocol):
    """Reads one daemon in at most ``budget`` seconds. Never raises for what a daemon may do: what is lacking stands in
    ``Engine.missing``, and one that could not be read at all is a Missing."""

    def __call__(self, daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing: ...


def read_all(homes: Homes) -> tuple[tuple[Engine, ...], tuple[Missing, ...]]:
    """Every engine of this machine, and what could not be read. ``homes`` as the census of namespaces found them."""
    found = daemons.find()
    if not found:
        return (), ()
    from pathfit.observe.engines import docker

    readers: dict[str, Reader] = {"docker": docker.read}
    end = clock.now() + BUDGET
    engines: list[Engine] = []
    missing: list[Missing] = []
    for daemon in found:
        one = readers[daemon.kind](daemon, homes, max(0.05, end - clock.now()))
        if isinstance(one, Missing):
            missing.append(one)
        else:
            engines.append(one)
            missing += one.missing
    return tuple(engines), tuple(missing)
