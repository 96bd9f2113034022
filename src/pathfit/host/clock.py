"""The clock, in one place, so that everything else takes time as an argument."""

import time
from time import monotonic as now
from time import sleep as wait
from time import time as wall

__all__ = ["now", "since_boot", "wait", "wall"]


def since_boot() -> float:
    """Seconds since the machine started, those it slept included (CLOCK_BOOTTIME): nobody can set this one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
