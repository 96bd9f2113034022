"""A wire with a length: two TAP devices, and frames carried from one to the other after a fixed time.

``python -m pathfit.lab.delay`` reads its orders from stdin: the two descriptors, the delay each way in seconds,
seeded random loss, and the largest IP packet each direction carries (larger ones vanish, as on a real layer 2).
A frame's time starts when it is read; order is kept. MTUs of the TAP devices bound only what they send
(tun_get_user checks no size), so unlike a veth such an end receives whatever comes.
"""

import os
import random
import select
import time
from collections import deque
from contextlib import suppress
from typing import Any

from pathfit.lab import helper

FRAME = 65535 + 18  # largest IP packet, Ethernet header, VLAN tag
QUEUE = 8192  # frames each way; a real queue is finite as well
BURST = 64  # frames read at a time from one side


class Way:
    """One direction."""

    def __init__(self, source: int, sink: int, delay: float, carries: int | None, loss: float, seed: int) -> None:
        self.source, self.sink, self.delay = source, sink, delay
        self.largest = FRAME if carries is None else carries + 14  # destination, source, type
        self.loss, self.random = loss, random.Random(seed)
        self.queue: deque[tuple[float, bytes]] = deque()

    def read(self, now: float) -> None:
        for _ in range(BURST):
            try:
                frame = os.read(self.source, FRAME)
            except BlockingIOError:
                return
            except OSError:  # EIO: the device is down
                return
            if len(frame) > self.largest or len(self.queue) >= QUEUE:
                continue
            if self.loss and self.random.random() < self.loss:
                continue
            self.queue.append((now + self.delay, frame))

    def write(self, now: float) -> None:
        while self.queue and self.queue[0][0] <= now:
            with suppress(OSError):  # EIO: the other end is down
                os.write(self.sink, self.queue.popleft()[1])


def carry(ways: tuple[Way, Way]) -> None:
    """For ever. select(2), because its timeout counts microseconds where epoll_wait(2) counts milliseconds."""
    by_source = {way.source: way for way in ways}
    while True:
        due = min((way.queue[0][0] for way in ways if way.queue), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(by_source, (), (), wait)
        now = time.monotonic()
        for fd in readable:
            by_source[fd].read(now)
        now = time.monotonic()
        for way in ways:
            way.write(now)


def main() -> None:
    told: dict[str, Any] = helper.begin()
    a, b = told["fds"]
    for fd in (a, b):
        os.set_blocking(fd, False)
    with suppress(OSError, AttributeError):
        _tight_timers()
    carries = told["carries"]
    ways = (
        Way(a, b, told["delay"], carries[0], told["loss"], told["seed"]),
        Way(b, a, told["delay"], carries[1], told["loss"], told["seed"] + 1),
    )
    helper.ready(told)
    carry(ways)


def _tight_timers() -> None:
    """PR_SET_TIMERSLACK: wake up when asked, not 50 µs later (prctl(2))."""
    import ctypes

    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
