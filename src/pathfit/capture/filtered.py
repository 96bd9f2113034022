"""Packet filters while a flow is watched: one :class:`~pathfit.capture.rules.Rules` in each namespace on its way.

A namespace in which nothing may drop a packet is left alone. The others are asked from the beginning, or once something
was dropped: a table that marks packets costs everybody's packets there (docs/benchmarks.md). Where rules cannot be
traced, the others are heard all the same, and that is said once for each reason.
"""

import errno
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pathfit.capture.rules import Place, Ruled, Rules
from pathfit.core import tracing
from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.core.filters import Table
from pathfit.model.ruled import droppers
from pathfit.wire.nft.mark import Flow

MOST = 10_000  # dropped packets that are kept: as many as a measurement sends, in several namespaces
WHAT = "which rule of a packet filter drops packets"
Read = Sequence[Table] | None


class Filtered:
    """Hears from :meth:`begin` to :meth:`end`; raises nothing for what cannot be heard."""

    def __init__(self, ref: str, namespaces: Mapping[str, int | None], tables: Mapping[str, Read]) -> None:
        """``namespaces``: descriptors by NetnsSnapshot.id, None for where we are; ``tables``: what was read there just
        before, None where that could not be."""
        self._ref, self._namespaces, self._tables = ref, namespaces, tables
        self._rules: dict[str, Rules] = {}
        self._refused: dict[tuple[str, str], list[str]] = defaultdict(list)  # (why, code): where
        self.asked = False

    def begin(self, places: Mapping[str, str], flow: Flow) -> None:
        """``places``: what each namespace is called, by NetnsSnapshot.id."""
        self.asked = True
        for ns, where in places.items():
            tables = self._tables.get(ns)
            if ns not in self._namespaces:
                self._refused["the namespace is gone", "vanished"].append(where)
            elif tables is None or droppers(tables):
                try:
                    self._rules[ns] = Rules([Place(self._namespaces[ns], where, tuple(tables or ()))], flow)
                except OSError as e:
                    denied = e.errno in (errno.EPERM, errno.EACCES)
                    self._refused[e.strerror or str(e), "permission" if denied else "unsupported"].append(where)
                except ValueError as e:
                    self._refused[str(e), "limit"].append(where)

    def unread(self, places: Mapping[str, str]) -> bool:
        """Is there a namespace among them of whose rules nobody knows what they are?"""
        return any(self._tables.get(ns) is None for ns in places)

    @property
    def fds(self) -> tuple[int, ...]:
        """Readable when something was told (poll(2))."""
        return tuple(fd for rules in self._rules.values() for fd in rules.fds)

    def gather(self) -> None:
        """Make room in the kernel's buffers. What cannot be read any more is read no more."""
        for rules in self._rules.values():
            with suppress(OSError):
                rules.gather()

    def end(self, began: int, since: int = 0) -> tracing.Filters:
        """What was heard; the tables are gone when this returns. ``began``: of the watch (CLOCK_MONOTONIC); ``since``:
        of Filters."""
        found: list[tracing.Ruled] = []
        counts = [0, 0, 0, 0]
        for ns, rules in self._rules.items():
            try:
                found += [_value(ns, one, began) for one in rules.read()]
                counts = [a + b for a, b in zip(counts, rules.counts(), strict=True)]
            except OSError as e:  # the table is no longer there to be counted
                self._refused[e.strerror or str(e), "vanished"].append(ns)
        heard = tuple(self._rules)
        self.close()
        found.sort(key=lambda x: x.time)
        matched, marked, lost, malformed = counts
        return tracing.Filters(
            heard=heard,
            ruled=tuple(found[:MOST]),
            matched=matched,
            marked=marked,
            lost=lost,
            malformed=malformed,
            cut=len(found) > MOST,
            missing=tuple(self._missing(*key, where) for key, where in self._refused.items()),
            since=since,
        )

    def _missing(self, why: str, code: str, where: Sequence[str]) -> Missing:
        what = f"{WHAT} in {', '.join(where[:4])}" + (f" and {len(where) - 4} more" if len(where) > 4 else "")
        return Missing(ref=self._ref, what=what, why=why, how=AS_ROOT if code == "permission" else "", code=code)

    def close(self) -> None:
        """Take everything away. A second call is harmless."""
        while self._rules:
            self._rules.popitem()[1].close()


def _value(ns: str, one: Ruled, began: int) -> tracing.Ruled:
    return tracing.Ruled(time=one.time - began, netns=ns, rule=one.rule, iif=one.iif, oif=one.oif, data=one.data)
