"""What one round of the reverse search asks for: the first, and those once something passes and something fails. Pure.

A round is a list of (size, purpose), largest first; the search opens one connection for each. Sizes are bytes of IP
packet. Rounds cost two round trips each, so the last one shall already be the proof: where the limit may be known
before, its proof is asked for beside the cut.
"""

from collections.abc import Collection, Iterable, Sequence

from pathfit.measure import sizes
from pathfit.measure.track import Track
from pathfit.measure.verdict import PROOF_LOSSLESS, PROOF_PASSES

Round = list[tuple[int, str]]
CLEAN = 3  # gaps that make such a row
SMALL_BESIDE = 6  # small flows beside those that may have another way
NEAR = PROOF_LOSSLESS - 1 + PROOF_PASSES  # connections a proof needs beside the first at its size


def first(floor: int, promised: int, count: int) -> Round:
    """A ladder of ``count`` sizes; the smallest, which everything waits for, goes last (trap 6 of docs/probing.md)."""
    ceiling = min(promised, sizes.LARGEST_SEGMENT)
    rungs = sizes.ladder(floor, ceiling, count - 1)
    return [*((s, "ladder") for s in rungs if s > sizes.SENTINEL), (min(sizes.SENTINEL, ceiling), "sentinel")]


def cut(ok: int, fails: int, count: int, hints: Iterable[int], polite: bool) -> Round:
    """At most ``count`` connections into the gap between ``ok``, which passes, and ``fails``, which is larger by more
    than one. ``hints``: sizes that something else says may be the limit; ``polite``: connections are few."""
    hint = max((h for h in hints if ok <= h < fails), default=None)
    if hint is not None and count > PROOF_LOSSLESS + PROOF_PASSES:
        return _hinted(ok, fails, hint, count)
    plan = [(s, "section") for s in (sizes.favour if polite else sizes.section)(ok, fails, count)]
    if fails - ok - 1 > (1 if polite else 2) * count:
        return plan
    enough = max(3, count - NEAR)
    if len(plan) > enough:  # leave room for the proof, should the likely size be the limit
        plan = [(s, "section") for s in (*sizes.section(ok + 1, fails, enough - 1), ok + 1)]
    return _near(ok, fails, plan, count)


def even(promised: int, count: int, *, beside: Collection[object]) -> Round:
    """``count`` flows of the promised size; where one has begun to answer and fell silent (``beside``), smaller ones
    with them, opened last: a server that is busy leaves those waiting as well."""
    plan = [(promised, "even")] * count
    return [*plan, *[(min(sizes.SENTINEL, promised), "sentinel")] * SMALL_BESIDE] if beside else plan


def apart(promised: int, count: int) -> Round:
    """The promised size on many flows, and a small one on a few behind them."""
    few = count // 4
    return [*[(promised, "even")] * (count - few), *[(min(sizes.SENTINEL, promised), "sentinel")] * few]


def agreed(mine: Sequence[Track]) -> bool:
    """Do the sizes of one round draw one clean step: everything up to one size is here, and of everything above
    something is missing, or all?"""
    gaps = [t.size for t in mine if t.gap_at is not None and not t.passed]
    passed = [t.size for t in mine if t.passed]
    if len(gaps) < CLEAN or not passed or max(passed) > min(gaps):
        return False
    return all(t.passed or t.size >= min(gaps) for t in mine)


def _hinted(ok: int, fails: int, hint: int, count: int) -> Round:
    """Enough connections at ``hint`` and above it to prove that it is the limit, and the gap cut in case it is not: a
    wrong hint costs a coarser cut and is outside what is left then."""
    proof = [hint + 1] * PROOF_LOSSLESS + [hint] * PROOF_PASSES
    room = count - len(proof)
    below = round(room * (hint - ok) / (fails - ok))
    cuts = [*sizes.section(ok, hint, below), *sizes.section(hint + 1, fails, room - below)]
    return _descending([*[(s, "section") for s in cuts], *[(s, "proof") for s in proof]])


def _near(ok: int, fails: int, plan: Round, count: int) -> Round:
    """Every size in between is asked; what is left of the round proves already. Which of them is the limit is not
    known: all get their share, the likely one (``ok``, a size chosen because limits are there) most."""
    extra = [ok + 1] if len(plan) > 4 else [*range(ok + 1, fails + (len(plan) < 4))]
    room = count - len(plan)
    passing = min(2, room // 2)
    more = [(extra[i % len(extra)], "proof") for i in range(room - passing)]
    return _descending([*plan, *more, *[(ok, "proof")] * passing])


def _descending(plan: Round) -> Round:
    """Largest first: what comes last of a burst is answered last, and the smallest are what everything waits for."""
    return sorted(plan, key=lambda p: -p[0])
