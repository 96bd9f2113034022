"""When a packet passed, whatever is done to the clock meanwhile.

A ring stamps packets with the time of day (CLOCK_REALTIME), which somebody may set at any moment; the kernel's tracing
program with CLOCK_MONOTONIC, which nobody can. So the difference of the two is looked at whenever the rings have been
read, and a packet's time becomes monotonic by the difference that held when it came. Frequency corrections change both
alike (timekeeping_adjust()): only steps matter.
"""

from typing import NamedTuple

STEP = 100_000  # nanoseconds: a smaller change is the noise of looking
MOST = 256  # differences that are remembered


class Look(NamedTuple):
    """Both clocks at one moment, in nanoseconds. ``took``: how long it took to read them; the difference is not known
    any better."""

    monotonic: int
    real: int
    took: int = 0


class _Span(NamedTuple):
    """A difference of the clocks, and between which moments it may have held. The clock was set between two looks:
    there, two of them may."""

    offset: int
    since: int | None
    until: int | None


class Times:
    """Give it a :class:`Look` after each reading of the rings: whatever was stamped, was so before."""

    def __init__(self, first: Look) -> None:
        self._spans = [_Span(first.real - first.monotonic, None, None)]
        self._last = first.monotonic
        self.steps = 0  # how often the clock was set

    def look(self, now: Look) -> None:
        offset = now.real - now.monotonic
        current = self._spans[-1]
        if abs(offset - current.offset) > STEP + now.took:
            self.steps += 1
            self._spans[-1] = current._replace(until=now.monotonic)
            self._spans.append(_Span(offset, self._last, None))
            del self._spans[:-MOST]
        self._last = now.monotonic

    def reading(self, now: int) -> "Reading":
        """What is known of the clocks at ``now``, when the rings were read: packets may be asked about later."""
        return Reading(now, tuple(self._spans))

    def monotonic(self, real: int, now: int) -> int:
        """The moment of a packet stamped ``real`` that was read before ``now`` (monotonic)."""
        return self.reading(now).monotonic(real)


class Reading(NamedTuple):
    """One reading of the rings, with what was known of the clocks then."""

    now: int
    spans: tuple[_Span, ...]

    def monotonic(self, real: int) -> int:
        """The moment of a packet stamped ``real`` that was read then: by the latest difference that agrees with
        itself."""
        for span in reversed(self.spans):
            at = real - span.offset
            if at <= self.now and (span.since is None or span.since <= at) and (span.until is None or at <= span.until):
                return at
        return min(real - self.spans[-1].offset, self.now)
