"""The World on this machine: every request goes to the one function that performs it.

This is one of the two borders where exceptions are caught (the other is around each rule): whatever goes wrong
here becomes a :class:`~pathfit.core.evidence.Missing` with a reason, never a traceback in a report.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pathfit.core.evidence import ClockFact, Evidence, Missing, SocketFact, WatchFact
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.request import (
    EndWatch,
    Locate,
    Measure,
    MeasureHops,
    ReadClock,
    ReadCounters,
    ReadPlatform,
    ReadPrograms,
    ReadRemembered,
    ReadRules,
    ReadSnapshots,
    ReadSockets,
    ReadState,
    Request,
    ResolveName,
    TryFix,
    Watch,
)
from pathfit.host.alarm import Late
from pathfit.observe.places import NetnsHandle, locate

if TYPE_CHECKING:
    from pathfit.capture.watch import Watcher
    from pathfit.core.filters import Table
    from pathfit.observe.kernel import Observer

LONGER = "--timeout 60"
REPORT_IT = "--verbose"


class LiveWorld:
    """This machine. A context manager: leaving it closes the namespaces it holds open.

    ``debug`` is called with every exception that was turned into a Missing (``-v`` prints it). After ``timeout``
    seconds nothing more is performed: every answer is then Missing.
    """

    def __init__(self, debug: Callable[[BaseException], None] | None = None, timeout: float | None = None) -> None:
        self._start = time.monotonic()
        self._timeout = timeout
        self._debug = debug
        self._handles: dict[str, NetnsHandle] = {}
        self._observers: dict[str, Observer] = {}
        self._watcher: Watcher | None = None
        self._tables: dict[str, tuple[Table, ...]] = {}  # packet filters as they were read, by NetnsSnapshot.id
        self._beside: list[Evidence] = []  # what a request learned besides its own answer
        self._do: dict[type, Callable[[Any], Evidence]] = {
            ReadClock: self._clock,
            Locate: self._locate,
            ReadState: self._state,
            ReadRules: self._rules,
            ReadPrograms: self._programs,
            ReadSockets: self._sockets,
            ReadCounters: self._counters,
            ResolveName: self._name,
            Measure: self._measure,
            Watch: self._watch,
            EndWatch: self._end_watch,
            MeasureHops: self._hops,
            TryFix: self._trial,
            ReadPlatform: self._platform,
            ReadRemembered: self._remembered,
            ReadSnapshots: self._snapshots,
        }

    def __enter__(self) -> "LiveWorld":
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.close()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    def perform(self, request: Request) -> tuple[Evidence, ...]:
        """Perform one request. Raises only KeyboardInterrupt."""
        if self._late() and not isinstance(request, ReadClock | EndWatch):  # what was seen already is told
            return (_missing(request, "the time was up", "timeout", LONGER),)
        try:
            answer = self._do[type(request)](request)
            beside, self._beside = tuple(self._beside), []
            return (answer, *beside)
        except _CannotEnter as e:
            return (e.missing,)
        except PermissionError as e:
            self._tell(e)
            return (_missing(request, e.strerror or "not permitted", "permission", AS_ROOT),)
        except OSError as e:
            self._tell(e)
            how = "ulimit -n 1024" if e.errno == errno.EMFILE else REPORT_IT
            return (_missing(request, e.strerror or str(e), "absent", how),)
        except Late as e:
            self._tell(e)
            return (_missing(request, str(e), "timeout", LONGER),)
        except Exception as e:  # the border: see the module's docstring
            if not isinstance(e.__cause__, Exception | None):
                raise e.__cause__ from None  # Ctrl-C while a class was made, at an import: Python before 3.12 wraps it
            self._tell(e)
            return (_missing(request, f"{type(e).__name__}: {e}", "malformed", REPORT_IT),)

    def _late(self) -> bool:
        return self._timeout is not None and time.monotonic() - self._start >= self._timeout

    def _tell(self, e: BaseException) -> None:
        if self._debug is not None:
            self._debug(e)

    def _handle(self, where: str) -> NetnsHandle:
        if where not in self._handles:
            found = locate(where)
            if isinstance(found, Missing):
                raise _CannotEnter(found)
            self._handles[where] = found[0]
        return self._handles[where]

    def _clock(self, r: ReadClock) -> Evidence:
        return ClockFact(ref=r.ref, took=round(time.monotonic() - self._start, 6))

    def _locate(self, r: Locate) -> Evidence:
        found = locate(r.where, ref=r.ref)
        if isinstance(found, Missing):
            return found
        handle, fact = found
        old = self._handles.pop(r.where, None)
        if old is not None:
            old.close()
        self._handles[r.where] = handle
        self._observers.pop(r.where, None)  # it looked through the old one
        return fact

    def _state(self, r: ReadState) -> Evidence:
        observer = self._observer(r.source)
        fact = observer.state(r.ref, r.scope, r.detail, r.sockets)
        self._beside += observer.hung
        whole = (n for n in fact.host.namespaces if not (n.outline or n.plain or n.missing))
        self._tables = {n.id: n.tables for n in whole}
        return fact

    def _rules(self, r: ReadRules) -> Evidence:
        return self._observer(r.source).rules(r.ref, r.namespaces)

    def _observer(self, where: str) -> "Observer":
        from pathfit.observe.kernel import Observer

        if where not in self._observers:
            self._observers[where] = Observer(self._handle(where))
        return self._observers[where]

    def _sockets(self, r: ReadSockets) -> Evidence:
        from pathfit.observe.sockets import read

        return read(r.ref, self._handle(r.source))

    def _counters(self, r: ReadCounters) -> Evidence:
        from pathfit.observe.counters import read

        return read(r.ref, self._handle(r.source))

    def _name(self, r: ResolveName) -> Evidence:
        from pathfit.observe.names import resolve

        return resolve(self._handle(r.source), r)

    def _measure(self, r: Measure) -> Evidence:
        def witness() -> None:
            from pathfit.observe.sockets import read

            for where in r.witnesses:
                self._beside.append(read(f"{r.ref}/{where}", self._handle(where)))

        said = witness if r.witnesses else None
        if r.far and not r.contact_only:
            from pathfit.probe.pair.outcome import measure_pair

            def served() -> SocketFact | Missing:
                from pathfit.observe.sockets import read

                return read(r.ref, self._handle(r.far))

            return measure_pair(self._handle(r.source).fd, self._handle(r.far).fd, r, said, served)
        from pathfit.probe.target import measure

        return measure(self._handle(r.source).fd, r, said)

    def _programs(self, r: ReadPrograms) -> Evidence:
        from pathfit.observe.programs import read

        return read(r.ref, r.taps, self._entered({tap.netns: tap.at.netns for tap in r.taps}))

    def _entered(self, places: Mapping[str, str]) -> dict[str, int | None]:
        """Descriptors of namespaces (NetnsSnapshot.id: WHERE); one that has gone meanwhile is left out, so missing."""
        fds: dict[str, int | None] = {}
        for ns, where in places.items():
            with suppress(_CannotEnter):
                fds[ns] = self._handle(where).fd
        return fds

    def _watch(self, r: Watch) -> Evidence:
        from pathfit.capture.watch import Watcher

        fds = self._entered({**dict(r.namespaces), **{tap.netns: tap.at.netns for tap in r.taps}})
        tables = {ns: self._filters(ns, fds[ns]) for ns, _ in r.namespaces if ns in fds}
        self._watcher = Watcher(r, fds, tables)
        return WatchFact(ref=r.ref, taps=self._watcher.begin())

    def _filters(self, ns: str, fd: int | None) -> "tuple[Table, ...] | None":
        """Packet filters of a namespace as its state was read, or as they are now; None: they cannot be read."""
        if ns in self._tables:
            return self._tables[ns]
        from pathfit.observe.namespace import tables_at

        return tables_at(fd)

    def _end_watch(self, r: EndWatch) -> Evidence:
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return _missing(r, "nothing was watched", "absent", REPORT_IT)
        return watcher.end(r)

    def _hops(self, r: MeasureHops) -> Evidence:
        from pathfit.probe.tcp.hops import measure_hops

        return measure_hops(self._handle(r.source).fd, r)

    def _trial(self, r: TryFix) -> Evidence:
        from pathfit.probe.tcp.trial import try_fix

        return try_fix(self._handle(r.source).fd, r)

    def _platform(self, r: ReadPlatform) -> Evidence:
        from pathfit.observe.platform import read

        return read(r)

    def _remembered(self, r: ReadRemembered) -> Evidence:
        from pathfit.observe.remembered import read

        return read(r.ref, self._handle(r.source), r.addresses)

    def _snapshots(self, r: ReadSnapshots) -> Evidence:
        from pathfit.observe.others import read

        return read(r.ref, r.paths)


class _CannotEnter(Exception):
    def __init__(self, missing: Missing) -> None:
        super().__init__(missing.why)
        self.missing = missing


def _missing(request: Request, why: str, code: str, how: str) -> Missing:
    what = f"{type(request).__name__} {request.ref}"
    how = how if os.geteuid() else how.replace(AS_ROOT, "give pathfit CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW")
    return Missing(ref=request.ref, what=what, why=why, how=how, code=code)
