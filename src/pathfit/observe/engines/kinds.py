"""The engines that are known, each with the names of the processes that betray it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from pathfit.core.engine import Engine
from pathfit.core.evidence_base import Missing
from pathfit.observe import processes
from pathfit.observe.engines import daemons
from pathfit.observe.engines.daemons import Daemon, Homes


class Reader(Protocol):
    """Reads one engine in at most ``budget`` seconds. Never raises for what it may do: what is lacking stands in
    ``Engine.missing``, and one that could not be read at all is a Missing."""

    def __call__(self, daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing: ...


class Kind(NamedTuple):
    """``found``: its daemons, by the processes seen. ``read``: its reader, loaded when there is something to read."""

    name: str
    processes: tuple[str, ...]
    found: Callable[[Mapping[str, Sequence[int]]], Iterator[Daemon]]
    read: Callable[[], Reader]


def _docker(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    yield from daemons.find(seen.get(daemons.DAEMON, ()))


def _podman(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    from pathfit.observe.engines import podman

    yield from podman.found(seen)


def _containerd(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    from pathfit.observe.engines import containerd

    yield from containerd.found(seen)


def _crio(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    from pathfit.observe.engines import crio

    yield from crio.found(seen)


def _reader(name: str) -> Callable[[], Reader]:
    def load() -> Reader:
        from importlib import import_module

        read: Reader = import_module(f"pathfit.observe.engines.{name}").read
        return read

    return load


KINDS = (
    Kind("docker", (daemons.DAEMON,), _docker, _reader("docker")),
    Kind("podman", ("podman", "conmon"), _podman, _reader("podman")),
    Kind("containerd", ("containerd",), _containerd, _reader("containerd")),
    Kind("cri-o", ("crio",), _crio, _reader("crio")),
)


def find(wanted: Collection[str] = ()) -> tuple[tuple[Kind, Daemon], ...]:
    """Everything that could be read, of the kinds ``wanted`` (none: all). A look at the names of all processes."""
    kinds = [k for k in KINDS if not wanted or k.name in wanted]
    seen = processes.by_name({name for k in kinds for name in k.processes})
    found = []
    for kind in kinds:
        if kind.name == "docker" or any(seen.get(name) for name in kind.processes):
            found += [(kind, daemon) for daemon in kind.found(seen)]
    return tuple(found)
