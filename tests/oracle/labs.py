"""Which labs the tests build."""

import os
import random
from functools import cache

COUNT = 30
FIXED = range(COUNT)


@cache
def fresh() -> int:
    """The first seed of labs that nobody has seen; PATHFIT_ORACLE_SEED has those of another run again."""
    return int(os.environ.get("PATHFIT_ORACLE_SEED") or random.SystemRandom().randrange(10_000, 1 << 40))


def jobs() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0))))
