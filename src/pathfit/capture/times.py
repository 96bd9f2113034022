"""When a packet passed, whatever is done to the clock meanwhile.

A ring stamps packets with the time of day (CLOCK_REALTIME), which somebody may set at any moment; the kernel's tracing
program with CLOCK_MONOTONIC, which nobody can. So the difference of the two is looked at whenever the rings are read,
and a packet's time becomes monotonic by the difference that held when it came. Frequency corrections change both alike
(timekeeping_adjust()): only steps matter.
"""

from typing import NamedTuple

STEP = 100_000  # nanoseconds: a smaller change is the noise of looking
LATE = 250_000_000  # nanoseconds that a packet may lie in a ring before it is read, on a busy machine
NARROW = 50_000  # nanoseconds that looking may take; it was interrupted where it took more


class Look(NamedTuple):
    """Both clocks at one moment, in nanoseconds. ``took``: how long it took to read them."""

    monotonic: int
    real: int
    took: int = 0


class _Span(NamedTuple):
    """A difference of the clocks, and between which moments it may have held."""

    offset: int
    since: int
    until: int | None


class Times:
    """Give it a :class:`Look` before each reading of the rings."""

    def __init__(self, first: Look) -> None:
        self._spans = [_Span(first.real - first.monotonic, first.monotonic - LATE, None)]
        self._last = first.monotonic
        self.steps = 0  # how often the clock was set

    def look(self, now: Look) -> None:
        offset = now.real - now.monotonic
        current = self._spans[-1]
        if abs(offset - current.offset) > STEP and now.took <= NARROW:
            self.steps += 1
            # It was set between the last look and this one.
            self._spans[-1] = current._replace(until=now.monotonic)
            self._spans.append(_Span(offset, self._last, None))
            self._spans = [s for s in self._spans if s.until is None or s.until > now.monotonic - LATE]
        if now.took <= NARROW:
            self._last = now.monotonic

    def monotonic(self, real: int, now: int) -> int:
        """The moment of a packet stamped ``real`` that is read at ``now`` (monotonic): by the latest difference that
        agrees with when it was read, the older one where two do."""
        for span in self._spans:
            at = real - span.offset
            if now - LATE <= at <= now and span.since <= at and (span.until is None or at <= span.until):
                return at
        return real - self._spans[-1].offset
