"""Is what two connections found on the way out so for every connection? Pure.

Flows may go different ways (ECMP, bonded links, one backend of several), and the two of :mod:`~pathfit.measure.forward`
may both have got the good way, or the bad one. So once nothing else is asked some more are opened, and on each goes
what passed there, what failed, and the largest there is. A flow fails when that happens again and again, while the
small segments behind are answered, and once more with nothing beside it: who polices bytes drops the large ones of what
comes at once. Where somebody says "too big" nothing fails for long, and nobody is asked.
"""

import msgspec

from pathfit.core.measured import Bracket, Uneven
from pathfit.measure.forward import SLOW, Command, Forward, Lane
from pathfit.measure.verdict import SETTLE

MANY = 12  # connections, as many as the other searches ask before a way is called even
WIDER = 12  # more, where one stands alone: loss, or a way that few take
OFTEN = 6  # segments lost on a connection that lacks what others carry; on one that stands alone, twice as many
AT_ONCE = 3
ALONE = 4  # connections that are asked once more, each for itself, before it is believed of all
LEAST_TIME = 1.0  # seconds
UNHEARD = 0.2  # seconds, and six round trips, without a handshake: the server takes no more now


def wanted(found: Bracket) -> bool:
    """Is it worth asking? Not where nothing is known, nor where senders are told."""
    return found.passes is not None and found.grade == "proof" and found.note is None


class Evenly(Forward):
    """``passes``, ``fails``: what the search found, bytes of IP packet."""

    passes: int = 0
    fails: int | None = None
    wider: bool = False
    alone: list[int] = msgspec.field(default_factory=list)  # numbers of connections that were asked for themselves

    @classmethod
    def after(cls, search: Forward, now: float) -> "Evenly":
        """To be asked when ``search`` is over."""
        found = search.bracket()
        return cls(
            family=search.family,
            start=now,
            budget=max(LEAST_TIME, search.budget - (now - search.start)),
            ceiling=search.ceiling,
            lanes=[Lane(n=i, rtt=search.rtt) for i in range(MANY)],
            passes=found.passes or 0,
            fails=found.fails,
            local_limit=search.local_limit,
        )

    def step(self, now: float) -> list[Command]:
        """What to do now."""
        rtt = max(it.rtt for it in self.lanes)
        if not any(it.ready for it in self.lanes) and now - self.start > max(UNHEARD, 6 * rtt):
            self._finish("no-connection")
        return super().step(now)

    def _first(self, now: float, it: Lane, out: list[Command]) -> None:
        self.round = 1

    def _go_on(self, now: float, live: list[Lane], waiting: list[Lane], out: list[Command]) -> None:
        if not self._round_over(now, live, out):
            return
        if any(now - it.opened < max(SLOW, 3 * self.rtt) for it in waiting):
            return  # all together: whoever drops batches drops the same of each
        todo = [(it, sizes) for it in live if (sizes := self._lacks(it))]
        if todo:
            self.round += 1
            for it, sizes in todo:
                self._send(now, it, sizes, out, guarded=True)
        elif 1 in (len(self._good()), len(self._missing())) and not self.wider:
            self.wider = True
            self.lanes += [Lane(n=len(self.lanes) + i, rtt=self.rtt) for i in range(WIDER)]
        elif not self._missing():
            self._finish(None)
        elif now - self._round_at >= max(2 * self.rtt, SETTLE):
            left = [it for it in live if it in self._bad() and it.n not in self.alone]
            if not left or len(self.alone) >= ALONE:
                self._finish(None)
            else:
                self.alone.append(left[0].n)
                self.round += 1
                self._send(now, left[0], [self.best], out, guarded=True)

    def _lacks(self, it: Lane) -> list[int]:
        """What to send on this connection now: once what nobody carries, again and again what others do."""
        wanted: list[int] = []
        for size in sorted({self.passes, self.fails or self.passes, self.top(it)}):
            gone, tries = len(it.lost(size)), sum(s.size == size for s in it.sent)
            most = self._enough() if size <= self.best else 1
            if it.passed < size <= self.top(it) and gone < most and tries < 2 * most:
                wanted += [size] * (min(AT_ONCE, most - gone) if tries else 1)
        return wanted

    def _enough(self) -> int:
        return 2 * OFTEN if self.wider and len(self._missing()) == 1 else OFTEN

    @property
    def best(self) -> int:
        """The largest that passed on any of these connections, at least what was found before."""
        return max(self.passes, self.passed)

    def _good(self) -> list[Lane]:
        return [it for it in self.lanes if it.passed >= self.best]

    def _missing(self) -> list[Lane]:
        """Connections that could carry it, and on which it did not arrive."""
        return [it for it in self.lanes if it.ready and it.answered and it.passed < self.best <= self.top(it)]

    def _bad(self) -> list[Lane]:
        return [it for it in self._missing() if len(it.lost(self.best)) >= self._enough()]

    def uneven(self) -> Uneven | None:
        """Connections of which some always fail and others do not (MTU118)."""
        good, bad = self._good(), self._bad()
        proved = bool(self.alone) and all(it.n not in self.alone for it in good)
        if not good or not bad or not proved or any(it.told for it in self.lanes):
            return None
        return Uneven(
            size=self.best,
            good=len(good),
            bad=len(bad),
            tests="forward",
            ports_good=tuple(sorted(it.port for it in good)),
            ports_bad=tuple(sorted(it.port for it in bad)),
        )

    def corrected(self, found: Bracket) -> Bracket:
        """What was ``found`` before, in the light of this."""
        if found.fails is None or self.passed < found.fails:
            return found
        note = "uneven" if self.uneven() is not None else "unproven"
        return Bracket(method=found.method, tests=found.tests, passes=self.passed, note=note)
