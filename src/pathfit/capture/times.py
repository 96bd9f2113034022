"""When a packet passed, whatever is done to the clock meanwhile.

A ring stamps packets with the time of day (CLOCK_REALTIME), which somebody may set at any moment; the kernel's tracing
program with CLOCK_MONOTONIC, which nobody can. So the difference of the two is looked at whenever the rings have been
read, and a packet's time becomes monotonic by the difference that held when it came. Frequency corrections change both
alike (timekeeping_adjust()): only steps matter. Where it was set forth and back between two looks, nobody saw the
difference that held meanwhile: such a packet has no time that is known.
"""

from typing import NamedTuple

STEP = 100_000  # nanoseconds: a smaller change is the noise of looking
MOST = 256  # differences that are remembered
NEAR = 5_000_000  # nanoseconds: what a look that was interrupted may be wrong by


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
    since: int
    until: int | None


class Times:
    """Give it a :class:`Look` before the rings are opened, and after each reading of them: whatever was stamped, was
    so between two."""

    def __init__(self, first: Look) -> None:
        self._spans = [_Span(first.real - first.monotonic, first.monotonic, None)]
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

    def monotonic(self, real: int, now: int) -> int | None:
        """The moment of a packet stamped ``real`` that was read before ``now`` (monotonic); None: it is not known."""
        return self.reading(now).monotonic(real)


class Reading(NamedTuple):
    """One reading of the rings, with what was known of the clocks then."""

    now: int
    spans: tuple[_Span, ...]

    def monotonic(self, real: int) -> int | None:
        """The moment of a packet stamped ``real`` that was read then: by the latest difference that agrees with
        itself. None: none of them does."""
        for wrong_by in (0, NEAR):
            for span in reversed(self.spans):
                at = real - span.offset
                until = self.now if span.until is None else min(span.until, self.now)
                if span.since - wrong_by <= at <= until + wrong_by:
                    return min(at, self.now)
        return None
