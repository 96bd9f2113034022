"""Where an engine's own process lives: in which container, beside whom, and what ends with it."""

import os
import re
from collections.abc import Iterator, Sequence

from pathfit.core.engine import Engine
from pathfit.host import procfs
from pathfit.model import runners
from pathfit.observe import processes
from pathfit.observe.engines import nest

TEXT = 65536  # bytes of a /proc/PID/cgroup, of a /proc/PID/environ
MOUNTS = 1 << 16  # bytes of a /proc/PID/mountinfo: a container's own mounts come first
NEIGHBOURS = 256  # processes of its network namespace that are looked at
ANCESTORS = 16
FIRST_PIDS = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
WAITING = ("tini", "docker-init", "catatonit")  # they end with the program they were given, and with no other
_COMM = 15  # characters of a process's name that the kernel keeps (TASK_COMM_LEN - 1)
_SHORT = frozenset(p[:_COMM] for p in runners.PROGRAMS)
_UNIT = re.compile(r"[0-9a-f]{64}[^/]*/(?:.*/)?([^/]+\.service)(?:/|$)")
_NUMBERS = re.compile(r"^(PPid|NSpid|NSsid):\s*(.*)$", re.MULTILINE)


def container_around(engine: Engine, pid: int) -> str:
    """The id of the container that a process of the engine's is in, "" for one of the host's."""
    if not pid:
        return ""
    cgroup = procfs.maybe(f"/proc/{pid}/cgroup", TEXT)
    return nest.around(engine, cgroup) or nest.around(engine, "", procfs.maybe(f"/proc/{pid}/mountinfo", MOUNTS))


def outlived(pid: int) -> bool:
    """Is it certain that the pid namespace of a process, not the machine's first one, goes on without it?

    So when its parent is outside (`docker exec`, `nsenter`), or when a first process that waits for one program alone
    (:data:`WAITING`, none of which begins a session for it) has taken in what began a session of its own. Of any other
    first process it is not known whether it waits for this one, or starts it again by itself.
    """
    pids = _pids(pid)
    if not pids or _is_first(pid):
        return False
    parent = _numbers(pid).get("PPid", [0])[0]
    if not parent or procfs.link(f"/proc/{parent}/ns/pid") != pids:
        return bool(parent) or pids == procfs.link("/proc/self/ns/pid")  # of another no parent means: not to be seen
    return _waits(parent) and _session(pid) not in (0, _session(parent))


def taken_along(pid: int) -> bool:
    """Is it certain that the container of a process ends with it: is it the first one, or what that one waits for?"""
    pids = _pids(pid)
    if not pids or not _numbers(pid).get("NSpid"):
        return False
    parent = _numbers(pid).get("PPid", [0])[0]
    ours = bool(parent) and procfs.link(f"/proc/{parent}/ns/pid") == pids
    return _is_first(pid) or (ours and _waits(parent) and 0 != _session(pid) == _session(parent))


def unit(pid: int) -> str:
    """The unit of the service manager in a process's container, by its cgroup below the container's; "" for none."""
    for line in procfs.maybe(f"/proc/{pid}/cgroup", TEXT).splitlines():
        if found := _UNIT.search(line):
            return found[1]
    return ""


def _pids(pid: int) -> str:
    """Its pid namespace, "" when that is the machine's first one or cannot be seen."""
    pids = procfs.link(f"/proc/{pid}/ns/pid") if pid else ""
    return "" if pids == FIRST_PIDS else pids


def _is_first(pid: int) -> bool:
    return _numbers(pid).get("NSpid", [1])[-1:] in ([1], [])


def _waits(pid: int) -> bool:
    return _is_first(pid) and procfs.maybe(f"/proc/{pid}/comm", 64) in WAITING


def _session(pid: int) -> int:
    """As its own pid namespace counts; 0: one that began outside."""
    return _numbers(pid).get("NSsid", [0])[-1]


def _numbers(pid: int) -> dict[str, list[int]]:
    """Numbers of a process and of its session in every pid namespace from ours to its own (proc_pid_status(5))."""
    found = _NUMBERS.findall(procfs.maybe(f"/proc/{pid}/status"))
    return {key: [int(x) for x in words.split() if x.isdigit()] for key, words in found}


def signs(pid: int, neighbours: Sequence[int]) -> tuple[str, ...]:
    """What says whose CI runner an engine works for: its own process, those that started it, and programs of runners
    in its network namespace (``neighbours``: a pod's containers share one)."""
    found: dict[str, None] = {}
    for one in (*_line(pid), *_programs(neighbours)):
        program = os.path.basename(processes.argv_of(one)[0])
        found.update(dict.fromkeys(runners.of_process(program, _variables(one))))
    return tuple(found)


def _line(pid: int) -> Iterator[int]:
    """The process and its ancestors in the same pid namespace."""
    pids = procfs.link(f"/proc/{pid}/ns/pid")
    for _ in range(ANCESTORS):
        if not pid or procfs.link(f"/proc/{pid}/ns/pid") != pids:
            return
        yield pid
        pid = _numbers(pid).get("PPid", [0])[0]


def _programs(neighbours: Sequence[int]) -> Iterator[int]:
    for pid in neighbours[:NEIGHBOURS]:
        if procfs.maybe(f"/proc/{pid}/comm", 64) in _SHORT:
            yield pid


def _variables(pid: int) -> Iterator[str]:
    """Names alone: what they hold is often a secret."""
    for word in procfs.maybe(f"/proc/{pid}/environ", TEXT).split("\0"):
        name, is_one, _ = word.partition("=")
        if is_one and name in runners.VARIABLES:
            yield name
