"""The state of this machine: every namespace we can see, read in one thread, one after the other.

Nothing is changed. The thread stands in the namespace it reads and comes home at the end, whatever happens
(:func:`pathfit.host.netns.wandering`).
"""

import gc
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from pathfit.core.evidence import SocketFact, StateFact
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import SCHEMA, HostSnapshot, Kernel, NetnsSnapshot, Process
from pathfit.host import netns, procfs
from pathfit.observe import discover, holders, peers
from pathfit.observe.features import Features
from pathfit.observe.namespace import Detail, read, refused, tables
from pathfit.observe.sockets import hanging

if TYPE_CHECKING:
    from pathfit.observe.survey import Ground

Scope = Literal["all", "source"]
Asked = Literal["auto", "full", "survey"]


class Observer:
    """Reads this machine for one run, and remembers what it found where: a second look need not search again."""

    def __init__(self, source: netns.NetnsHandle | None) -> None:
        """``source`` must stay open as long as this is used."""
        self._source = source
        self._census: discover.Census | None = None
        self._filtered: frozenset[str] | None = None  # namespaces that had filter tables
        self.hung: tuple[SocketFact, ...] = ()  # one for each namespace with a socket that hangs

    def state(self, ref: str, scope: Scope, detail: Asked = "auto", sockets: bool = False) -> StateFact:
        """The answer to a ReadState request; what hangs there stands in ``hung`` afterwards."""
        self._census = _look(self._source, scope)
        source = self._source.id if self._source else None
        visit = _Visit("survey" if detail == "survey" else "full", _whole(self._source, self._census), sockets)
        host = _read(self._census, scope, visit, source if detail == "auto" else None)
        self.hung = tuple(replace(fact, ref=f"{ref}/{fact.ref}") for fact in visit.hung)
        if scope == "all":
            host = _with_nodes(self._with_engines(host, self._census), self._census)
        self._filtered = frozenset(n.id for n in host.namespaces if n.tables)
        return StateFact(ref=ref, host=host)

    def _with_engines(self, host: HostSnapshot, census: discover.Census) -> HostSnapshot:
        """With the container engines that run here, and namespaces called as their containers are."""
        from pathfit.observe import engines

        found, missing = engines.read_all({one.id: one.pids for one in census.found})
        if not found and not missing:
            return host
        from pathfit.observe.engines import members, names

        asked = self._source.id if self._source else ""
        found = members.joined(found, host.namespaces)
        called = names.call(host.namespaces, found, host.own, asked)
        return replace(host, engines=found, namespaces=tuple(called), missing=(*host.missing, *missing))

    def rules(self, ref: str, namespaces: tuple[str, ...] = ()) -> StateFact:
        """The answer to a ReadRules request: filters with their counters, and nothing else, of ``namespaces``; without
        any, of those that had filters when the state was read."""
        census = self._census or _look(self._source, "all")
        wanted = frozenset(namespaces) or self._filtered
        return StateFact(ref=ref, host=_read_rules(census, wanted))


def _with_nodes(host: HostSnapshot, census: discover.Census) -> HostSnapshot:
    """With what the nodes' own files say of their overlays, clouds and leases."""
    from pathfit.observe import nodes

    found = nodes.read_all(host, {one.id: one.pids for one in census.found})
    lacking = tuple(m for one in found for m in one.missing)
    return replace(host, nodes=found, missing=(*host.missing, *lacking)) if found else host


def read_host(source: netns.NetnsHandle | None, scope: Scope = "all", detail: Detail = "full") -> HostSnapshot:
    """Everything we can see. ``source`` is read first; ``scope`` "source": only it and our own.

    What cannot be read stands in ``missing`` of the host or of the namespace. Raises OSError only without /proc.
    """
    census = _look(source, scope)
    return _read(census, scope, _Visit(detail, _whole(source, census)))


def _whole(source: netns.NetnsHandle | None, census: discover.Census) -> frozenset[str]:
    """Namespaces that no survey takes for leaves: the asked one, ours, that of the first process."""
    first = {one.id for one in census.found if 1 in one.pids[:1]}
    return frozenset({census.own, *first, *((source.id,) if source else ())})


def _look(source: netns.NetnsHandle | None, scope: Scope) -> discover.Census:
    return discover.census(source) if scope == "all" else discover.near(source)


def _read(census: discover.Census, scope: Scope, visit: "_Visit", around: str | None = None) -> HostSnapshot:
    """What the census found. ``around``: the namespace a question is about. Where there are many, only those that hang
    together with it are read in full, the others in outline: no packet gets from it to them inside this host.
    """
    outline = around is not None and len(census.found) > FEW
    detail, visit.detail = visit.detail, "light" if outline else visit.detail
    netns.room_for(len(census.found))
    with _unswept(), visit.files, netns.wandering() as enter:
        visit.read(census.found, enter)
        snapshots = visit.peers.resolve(visit.snapshots, enter)
        if scope == "all" and peers.unknown(snapshots):
            visit.read(discover.held(visit.peers.files.keys()), enter)
            snapshots = visit.peers.resolve(visit.snapshots, enter)
        if outline and around is not None:
            doubtful = {s.id for s in snapshots if s.missing}  # a link may be among what could not be read
            near = peers.together(snapshots, around) | doubtful | {census.own}
            snapshots = [replace(s, outline=True) for s in snapshots if s.id not in near]
            snapshots += visit.peers.resolve(visit.again(near, enter), enter)
    if detail != "light":
        snapshots = [replace(s, processes=visit.processes(s)) if not s.outline else s for s in snapshots]
        snapshots = holders.name(snapshots)
    order = {one.id: n for n, one in enumerate(census.found)}
    snapshots.sort(key=lambda s: order.get(s.id, len(order)))
    return _host(snapshots, [*census.missing, *visit.missing], census)


@contextmanager
def _unswept() -> Iterator[None]:
    """No garbage collection meanwhile: a tour makes a million values that stay, and looking through them again and
    again for cycles that are not there costs a tenth of it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Visit:
    """One tour through namespaces: what was read, what was not, and the files that keep them until it ends."""

    def __init__(self, detail: Detail, whole: frozenset[str], sockets: bool = False) -> None:
        """``whole``: namespaces that a survey reads in full in any case. ``sockets``: look for those that hang."""
        self.files = ExitStack()
        self.peers = peers.Peers()
        self.lives: dict[str, tuple[int, ...]] = {}
        self.snapshots: list[NetnsSnapshot] = []
        self.missing: list[Missing] = []
        self.hung: list[SocketFact] = []
        self.detail = detail
        self._whole = whole
        self._sockets = sockets
        self._features = Features()
        self._ground: Ground | None = None

    def read(self, found: Iterable[discover.Found], enter: Callable[[int, str], None]) -> None:
        for one in found:
            self.lives[one.id] = one.pids
            try:
                fd = discover.open_found(one)
                self.files.callback(os.close, fd)
                enter(fd, one.id)
                self.snapshots.append(self._read(one))
                self.peers.files[one.id] = fd
                if self._sockets and one.pids and (hangs := hanging(one.id, one.names[0], one.pids)):
                    self.hung.append(hangs)
            except OSError as e:
                self.missing.append(refused(f"namespace {one.names[0]}", e))

    def _read(self, one: discover.Found) -> NetnsSnapshot:
        if self.detail == "survey" and one.id not in self._whole:
            from pathfit.observe import survey

            self._ground = self._ground or survey.Ground()
            return survey.read(one.id, one.names[0], one.names[1:], self._features, self._ground, self.peers.meet)
        detail: Detail = "light" if self.detail == "light" else "full"
        return read(one.id, one.names[0], one.names[1:], detail, self._features, self.peers.meet)

    def processes(self, snapshot: NetnsSnapshot) -> tuple[Process, ...]:
        """Who lives there: of a leaf the first one, which names it."""
        pids = self.lives[snapshot.id]
        return processes(pids[:1] if snapshot.plain else pids)

    def again(self, wanted: Collection[str], enter: Callable[[int, str], None]) -> list[NetnsSnapshot]:
        """Those of ``wanted`` that were read before, now in full."""
        made: list[NetnsSnapshot] = []
        for old in self.snapshots:
            if old.id in wanted:
                try:
                    enter(self.peers.files[old.id], old.id)
                    made.append(read(old.id, old.where, old.names, "full", self._features, self.peers.meet))
                except OSError as e:
                    self.missing.append(refused(f"namespace {old.where}", e))
        return made


FEW = 8  # namespaces: sorting out fewer costs more than it saves


def _host(snapshots: Iterable[NetnsSnapshot], missing: Iterable[Missing], census: discover.Census) -> HostSnapshot:
    system = os.uname()
    return HostSnapshot(
        schema=SCHEMA,
        host=system.nodename,
        boot_id=procfs.maybe("/proc/sys/kernel/random/boot_id"),
        kernel=Kernel(release=system.release, machine=system.machine, system=system.sysname),
        namespaces=tuple(snapshots),
        own=census.own,
        complete=census.complete,
        missing=tuple(missing),
    )


def processes(pids: Iterable[int]) -> tuple[Process, ...]:
    """Names of the first processes of a namespace; those that went meanwhile are left out."""
    found: list[Process] = []
    for pid in pids:
        if len(found) >= discover.PROCESSES:
            break
        if name := _name(pid):
            found.append(Process(pid=pid, name=name, inside_pid=_inside_pid(pid), container=discover.container_of(pid)))
    return tuple(found)


_PF_KTHREAD = 0x00200000  # include/linux/sched.h


def _name(pid: int) -> str:
    """The name out of /proc/PID/stat ("1 (name) S ppid pgrp session tty tpgid flags ..."), "" for kernel threads."""
    head, _, rest = procfs.maybe(f"/proc/{pid}/stat", 4096).rpartition(")")
    fields = rest.split()
    if len(fields) < 7 or int(fields[6]) & _PF_KTHREAD:
        return ""
    return head.partition("(")[2]


def _inside_pid(pid: int) -> int:
    for line in procfs.maybe(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def _read_rules(census: discover.Census, wanted: frozenset[str] | None) -> HostSnapshot:
    """Filters of the namespaces ``wanted``, None = all."""
    missing = list(census.missing)
    snapshots: list[NetnsSnapshot] = []
    with netns.wandering() as enter:
        for one in census.found:
            if wanted is not None and one.id not in wanted:
                continue
            try:
                fd = discover.open_found(one)
            except OSError as e:
                missing.append(refused(f"namespace {one.names[0]}", e))
                continue
            try:
                enter(fd, one.id)
                found, lacking = tables(one.names[0])
                snapshots.append(
                    NetnsSnapshot(id=one.id, where=one.names[0], names=one.names[1:], tables=found, missing=lacking)
                )
            except OSError as e:
                missing.append(refused(f"namespace {one.names[0]}", e))
            finally:
                os.close(fd)
    return _host(snapshots, missing, census)
