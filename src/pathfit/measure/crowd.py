"""Servers that serve few connections at a time: those that hang fill them, and others wait for that. Pure."""

from collections.abc import Collection, Sequence

from pathfit.measure.track import Track

CROWD = 2  # connections of a size that passes, unanswered, that show a server to be full; one may be loss


def starved(tracks: Sequence[Track], standing: Collection[int], now: float, settle: float) -> bool:
    """A server that serves one connection at a time answers nobody while it waits for one that hangs: somebody
    waits, and nobody who came after the one that hangs has been answered. ``standing``: numbers of those that are open;
    ``settle``: seconds until silence counts."""
    stuck = [t.n for t in tracks if t.gap_at is not None and not t.passed and t.n in standing]
    if not stuck or any(_served(t) for t in tracks if t.n > min(stuck)):
        return False
    return any(
        t.heard and not _served(t) and t.n in standing and t.silent_for(now) > settle
        for t in tracks
        if t.n > min(stuck)
    )


def crowded(tracks: Sequence[Track], standing: Collection[int], now: float, settle: float) -> bool:
    """A server that has room for so many at once takes no more while those that hang fill it: several of a size
    that passed before have been waiting, and nobody after them was answered."""
    fits = max((t.size for t in tracks if t.passed), default=0)
    last = max((t.n for t in tracks if _served(t)), default=0)
    waits = [t for t in tracks if t.n > last and t.n in standing and t.size <= fits and t.heard]
    return sum(t.silent_for(now) > settle for t in waits) >= CROWD


def _served(t: Track) -> bool:
    """Something of an answer came, be it behind a gap."""
    return t.got > 0 or t.gap_at is not None
