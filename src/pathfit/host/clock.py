"""The clock, in one place, so that everything else takes time as an argument."""

from time import monotonic as now
from time import time as wall

__all__ = ["now", "wall"]
