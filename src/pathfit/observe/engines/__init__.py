"""Container engines: which run here, and what they say of their networks and containers.

* :mod:`~pathfit.observe.engines.kinds` - the engines that are known, one Protocol for the readers of all;
* :mod:`~pathfit.observe.engines.daemons` - engines' daemons and their sockets, wherever they live (another mount
  namespace is entered through /proc/PID/root);
* :mod:`~pathfit.observe.engines.docker` - by its API and configuration; :mod:`~pathfit.observe.engines.podman` - by
  its service, or by conmon and netavark's files; :mod:`~pathfit.observe.engines.containerd` and
  :mod:`~pathfit.observe.engines.crio` - by the folders of what runs (:mod:`~pathfit.observe.engines.cri`: what the two
  have in common);
* :mod:`~pathfit.observe.engines.cni`, :mod:`~pathfit.observe.engines.netavark` - networks by their files;
* :mod:`~pathfit.observe.engines.answers`, :mod:`~pathfit.observe.engines.parse`, :mod:`~pathfit.observe.engines.oci`,
  :mod:`~pathfit.observe.engines.conmon` - documents and command lines -> values (pure; hostile ones lose their
  fields, not our run);
* :mod:`~pathfit.observe.engines.spaces` - the namespace that a path or a process means, seen from outside;
* :mod:`~pathfit.observe.engines.nest` - engines in containers, :mod:`~pathfit.observe.engines.surroundings` - what
  /proc says of that; :mod:`~pathfit.observe.engines.members` - what the kernel adds to their word;
* :mod:`~pathfit.observe.engines.names` - ``container:NAME``, ``pod:NAMESPACE/NAME``.

An engine is one more witness beside the kernel: what it says of itself is believed only as its own word (a network's
option, a name). Which namespace a container has is checked against the kernel. docs/engines.md has what is read where.

Cost: where no engine runs, one look at the names of the processes. One that hangs costs :data:`BUDGET` seconds once,
and is said to be missing.
"""

from msgspec.structs import replace

from pathfit.core.engine import Engine
from pathfit.core.evidence_base import Missing
from pathfit.host import clock
from pathfit.observe import processes
from pathfit.observe.engines import kinds
from pathfit.observe.engines.daemons import Homes
from pathfit.observe.engines.kinds import Reader

__all__ = ["BUDGET", "Reader", "read_all"]

BUDGET = 2.0  # seconds for all engines together; a quiet dockerd tells of a hundred containers in 0.03


def read_all(homes: Homes) -> tuple[tuple[Engine, ...], tuple[Missing, ...]]:
    """Every engine of this machine, and what could not be read. ``homes`` as the census of namespaces found them."""
    found = kinds.find()
    if not found:
        return (), ()
    from pathfit.observe.engines import nest, surroundings

    end = clock.now() + BUDGET
    engines: list[Engine] = []
    missing: list[Missing] = []
    around: list[str] = []
    for kind, daemon in found:
        one = kind.read()(daemon, homes, max(0.05, end - clock.now()))
        if isinstance(one, Missing):
            missing.append(one)
            continue
        one = _own(one, engines)
        if _empty(one):
            continue
        around.append(surroundings.container_around(one, daemon.witness))
        if around[-1] and daemon.pid:
            shared = daemon.namespace == processes.namespace_of(1)  # its host's: whose runner works there is not known
            beside = () if shared else homes.get(daemon.namespace, ())
            one = replace(one, signs=surroundings.signs(daemon.pid, beside))
        engines.append(one)
        missing += one.missing
    return nest.nested(engines, around), tuple(missing)


def _own(engine: Engine, before: list[Engine]) -> Engine:
    """Without what another engine has told of already: dockerd's containers are containerd's as well."""
    if engine.kind != "containerd":
        return engine
    from pathfit.observe.engines import containerd

    known = frozenset(c.id for e in before if e.kind == "docker" for c in e.containers)
    return containerd.without_docker_s(engine, known)


def _empty(engine: Engine) -> bool:
    """Has a daemon nothing to tell, as the containerd that only serves dockerd?"""
    return engine.kind != "docker" and not engine.containers and not engine.missing and not engine.socket
