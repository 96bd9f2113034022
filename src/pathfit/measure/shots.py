"""Numbered packets between two ends of ours, and what a row of them says. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from pathfit.core.measured import Outcome

AT_ONCE = 3  # packets of one size in one batch: a burst of loss takes one batch, not all
# As in measure/forward.py: Linux tells one destination six times at once, then once a second (icmp_ratelimit). What was
# not told although two others were, this soon after it, would not have been told at all.
TOLD_SOON, TOLD_LATER = 0.3, 2
EVEN = 6  # packets of the largest size that passes, on a flow that lacks it; on one that stands alone, twice as many
FLAWED = 2  # flows that do not stand alone
ALONE_FLOWS = 4  # flows on which it is sent by itself before it is believed of all
MOST_LESSONS = 8  # limits of one path, each told by another device
Kind = Literal["df", "whole", "fragments"]


class Shot(msgspec.Struct):
    """One numbered packet. ``kind``: "df" must not be cut, "whole" may be, "fragments" is in pieces from the start.

    ``arrived``: when, at the socket there; ``door``: it was seen to come in there; ``cut``: in pieces;
    ``alone``: nothing else was sent with it."""

    seq: int
    size: int
    flow: int
    at: float
    round: int
    kind: Kind = "df"
    arrived: float | None = None
    door: bool = False
    cut: bool = False
    told: tuple[int, str] | None = None
    local: bool = False
    refused: bool = False
    alone: bool = False


def carrying(shots: Sequence[Shot], size: int) -> set[int]:
    """Flows on which a packet of this size arrived ("df": it was not cut)."""
    return {s.flow for s in shots if s.size == size and s.kind == "df" and s.arrived is not None}


def leading(shots: Sequence[Shot], flows: set[int], passed: int) -> set[int]:
    """All ``flows``, until one carries what got lost on another: then those that carry the largest, ``passed``."""
    last = _newest(shots)
    gone = (s for s in shots if s.arrived is None and s.size <= passed and s.kind == "df" and not s.local)
    return carrying(shots, passed) if any(last.get(s.flow, 0) > s.seq for s in gone) else flows


def lacking(shots: Sequence[Shot], flows: set[int], size: int) -> list[int]:
    """Flows that have to be asked (again) for a size that passes on others."""
    missing, gone = flows - carrying(shots, size), Counter(s.flow for s in lost(shots, size))
    tries = Counter(s.flow for s in shots if s.size == size and s.kind == "df")
    most = _enough(missing)
    return sorted(f for f in missing if gone[f] < most and tries[f] < 2 * most)


def unlike(shots: Sequence[Shot], flows: set[int], size: int) -> tuple[set[int], set[int]]:
    """(flows that carry this size, flows on which it always fails and nobody says so), where what fails was sent with
    nothing beside it as well, and did not come then either (:func:`doubtful`)."""
    alone = [s for s in shots if s.alone and s.size == size and s.kind == "df"]
    bad = _failing(shots, flows, size) if alone and all(s.arrived is None for s in alone) else set()
    return flows & carrying(shots, size), bad


def doubtful(shots: Sequence[Shot], flows: set[int], size: int) -> int | None:
    """A flow that lacks what others carry, and to which it was not sent with nothing beside it; None: enough were."""
    alone = {s.flow for s in shots if s.alone and s.size == size and s.kind == "df"}
    return min(_failing(shots, flows, size) - alone, default=None) if len(alone) < ALONE_FLOWS else None


def _failing(shots: Sequence[Shot], flows: set[int], size: int) -> set[int]:
    missing = flows - carrying(shots, size)
    return {f for f in missing if _silent(shots, size, f, _enough(missing))} if missing != flows else set()


def _enough(missing: set[int]) -> int:
    """So many packets are lost on each of these flows, which lack what others carry, before that is believed."""
    return EVEN if len(missing) >= FLAWED else 2 * EVEN


def _silent(shots: Sequence[Shot], size: int, flow: int, least: int) -> bool:
    """``least``: packets that have to be lost on this flow. Where other flows were told, one counts when two of them
    were at once after it: what was not told then is no rate limit (:data:`TOLD_SOON`). Who is told anything sends less,
    and does not fail."""
    gone = [s for s in lost(shots, size) if s.flow == flow]
    told = [s for s in shots if s.told is not None and s.kind == "df" and s.size == size]
    if any(s.flow == flow for s in told):
        return False
    if told:
        near = [sum(s.seq > g.seq and s.at - g.at <= TOLD_SOON for s in told) for g in gone]
        return sum(n >= TOLD_LATER for n in near) >= AT_ONCE
    return len(gone) >= least


def _newest(shots: Sequence[Shot]) -> dict[int, int]:
    """By flow, the number of the last packet that arrived."""
    return {s.flow: s.seq for s in shots if s.arrived is not None}


def lost(shots: Sequence[Shot], size: int, kind: Kind = "df") -> list[Shot]:
    """Packets of this size that did not come although a later one of the same flow did."""
    last = _newest(shots)
    mine = (s for s in shots if s.size == size and s.kind == kind and s.arrived is None and not s.local)
    return [s for s in mine if last.get(s.flow, 0) > s.seq]


class Lesson(NamedTuple):
    """``said``: (mtu, by whom) the sender is told last, None: there is silence on its way down. ``again``: a size to be
    sent again before that is certain."""

    said: tuple[int, str] | None
    again: int | None


def taught(shots: Sequence[Shot], lo: int, hi: int, ceiling: int) -> Lesson:
    """Does a sender that obeys come down from ``ceiling`` to ``lo``, which passes (``hi`` does not)?

    Who was told one size sends that next, and has to be told again. Sizes told in between stand for one that was not
    told, unless two of them were told at once after it (:data:`TOLD_SOON`): those are rate limits, this is silence.
    """
    size, again = ceiling, None
    for _ in range(MOST_LESSONS):
        near = [s for s in shots if s.told is not None and s.kind == "df" and hi <= s.size <= size]
        said = next((s.told for s in near if s.size == size), None)
        if said is None:
            gone = lost(shots, size)
            again = size if again is None and len(gone) < AT_ONCE else again
            later = sum(1 for s in near if any(s.seq > g.seq and s.at - g.at <= TOLD_SOON for g in gone))
            if not near or (len(gone) >= AT_ONCE and later >= TOLD_LATER):
                return Lesson(None, again)
            said = near[-1].told
        if said is None or said[0] <= lo:
            return Lesson(said, again)
        size = min(said[0], size - 1)
    return Lesson(None, again)


def outcome(s: Shot, lost: bool) -> Outcome:
    """What is reported of one packet; ``lost``: a later one of its flow arrived."""
    if s.local:
        return "local"
    if s.arrived is not None:
        return "passed"
    if s.told is not None:
        return "told"
    if s.refused:
        return "refused"
    return "lost" if lost else "aborted"
