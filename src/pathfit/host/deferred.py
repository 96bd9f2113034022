"""Signals that wait: what must not be left half done is not interrupted by Ctrl-C, SIGTERM or SIGHUP."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred(*, drop: bool = False) -> Iterator[None]:
    """Signals that would end us are held back until the block is done, then delivered; with ``drop`` they are not.

    In a thread that is not the main one there are no signals, and nothing to hold back. Python-level: a system call
    that is under way is interrupted, and goes on (PEP 475).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {n: signal.getsignal(n) for n in ENDING}
    for n, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(n, hold)
    try:
        yield
    finally:
        for n, handler in before.items():
            if handler is not signal.SIG_IGN and handler is not None:
                signal.signal(n, handler)
    for number in [] if drop else held[:1]:
        signal.raise_signal(number)
