"""An end to everything: whatever hangs - a syscall, a loop of ours - is interrupted after a while."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Late(Exception):
    """The time is up. An Exception, so that the border of the world turns it into a Missing like any other."""


@contextmanager
def alarm(seconds: float, again: float = 2.0) -> Iterator[None]:
    """Raises :class:`Late` in the main thread after ``seconds``, and every ``again`` seconds from then on (for what
    comes after the first one was caught). Restores the handler and the timer. Main thread only (setitimer(2))."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Late(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
