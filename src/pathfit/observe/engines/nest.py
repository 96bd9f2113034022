"""Engines in containers of other engines, to any depth (pure).

An engine's process is in the cgroup of the container that it runs in, whatever namespaces that one has. Seen from
within a cgroup namespace (Docker's default with cgroup version 2) its path says nothing; then the files do that every
engine mounts into its containers: /etc/hostname, /etc/hosts and /etc/resolv.conf come out of a folder that is named
after the container, or after its pod's sandbox.
"""

import re
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from pathfit.core.engine import Container, Engine

DEEPEST = 16  # nobody nests so far; a circle of names that lie about each other ends there


_ID = re.compile(r"[0-9a-f]{64}")
_MOUNTED = re.compile(r"/([0-9a-f]{64})/(?:\S+/)?(?:hostname|hosts|resolv\.conf) /etc/(?:hostname|hosts|resolv\.conf) ")


def around(engine: Engine, cgroup: str, mounts: str = "") -> str:
    """The id of the container that an engine's process is in, "" for one of the host's. ``cgroup`` and ``mounts``: the
    texts of its /proc/PID/cgroup and /proc/PID/mountinfo (proc(5): the fourth word is the path that is mounted, the
    fifth where); a monitor's own container is in there as well."""
    own = {c.id for c in engine.containers}
    for line in cgroup.splitlines():
        if ids := [x for x in _ID.findall(line) if x not in own]:
            return str(ids[-1])
    return next((x for x in _MOUNTED.findall(mounts) if x not in own), "")


def nested(engines: Sequence[Engine], homes: Sequence[str]) -> tuple[Engine, ...]:
    """The engines with ``depth``, ``inside`` and ``inside_name``. ``homes``: for each the id of the container that it
    runs in (:func:`around`)."""
    owners = {c.id: (n, c) for n, e in enumerate(engines) for c in e.containers if c.id}
    return tuple(_placed(engine, _trail(n, homes, owners)) for n, engine in enumerate(engines))


def _trail(start: int, homes: Sequence[str], owners: Mapping[str, tuple[int, Container]]) -> list[tuple[str, str]]:
    """Containers around an engine as (id, name), the nearest first."""
    trail: list[tuple[str, str]] = []
    at: int | None = start
    while at is not None and len(trail) < DEEPEST:
        outer = homes[at]
        if not outer or any(outer == one for one, _ in trail):
            break
        at, container = owners.get(outer, (None, None))
        trail.append((outer, (container.name if container else "") or outer[:12]))
    return trail


def _placed(engine: Engine, trail: Sequence[tuple[str, str]]) -> Engine:
    if not trail:
        return engine
    names = "/".join(name for _, name in reversed(trail))
    return replace(engine, depth=len(trail), inside=trail[0][0], inside_name=names)
