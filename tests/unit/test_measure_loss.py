"""Loss in front of senders that make small segments, and in front of holes: what hand-made connections say."""

import pytest

from pathfit.measure import verdict
from pathfit.measure.reverse import HURRY, Limits, Open, Reverse
from pathfit.measure.track import ESTABLISHED, Reading, Status, Track

LOSSY = verdict.Timing(rtt=0.001, settle=verdict.SETTLE_LOSS, silence=0.7, tentative=0.002, hush=0.02)
STAMPED = 52  # IPv4 and TCP header with timestamps


def reading(got: int, segments: int, rcv_mss: int, ooo: int = 0) -> Reading:
    return Reading(ESTABLISHED, True, rcv_mss, 1448, 1448, 501, got, segments, ooo, 0, 0.001)


def track(n: int, size: int, *seen: tuple[float, Reading], complete: bool = False, plain: bool = False) -> Track:
    t = Track(n=n, size=size, plain=plain, round=1, family=4, opened=0.0, asked=0.001, asked_bytes=500)
    for at, r in seen:
        t.see(at, r)
    t.complete = complete
    return t


def passing(n: int, size: int) -> Track:
    return track(n, size, (0.01, reading(5404, 5, size - STAMPED)), complete=True)


def small(n: int, size: int, arrives: int, at: float = 0.01) -> Track:
    """The whole answer, in segments of ``arrives`` bytes of packet."""
    return track(n, size, (at, reading(5404, 5, arrives - STAMPED)), complete=True)


def small_then_lost(n: int, size: int, arrives: int) -> Track:
    """Many such segments, then one that is lost again and again."""
    mss = arrives - STAMPED
    return track(n, size, (0.01, reading(4 * mss, 4, mss)), (0.02, reading(4 * mss, 6, mss, ooo=2)), plain=True)


def hole(n: int, size: int) -> Track:
    """The tail of the flight is here, everything before it stays away."""
    return track(n, size, (0.01, reading(0, 1, 900, ooo=1)))


def healed(n: int, size: int, arrives: int, opened: float = 0.01, before: int = 900) -> Track:
    """A gap, with segments of ``before`` payload bytes behind it, then the whole in segments of ``arrives``."""
    first = (opened, reading(0, 1, before, ooo=1))
    return track(n, size, first, (opened + 0.01, reading(5404, 5, arrives - STAMPED, ooo=1)), complete=True)


def test_what_a_sender_of_small_segments_loses_is_no_hole() -> None:
    """The page is fetched in segments of 1412 on connections that invite 1500, and one of them stays away."""
    tracks = [small_then_lost(1, 1500, 1412), small_then_lost(2, 1500, 1412)]
    tracks += [small(3, 1492, 1412), small(4, 1420, 1412), passing(5, 1400), passing(6, 576)]
    w = verdict.weigh(tracks, 2.0, LOSSY.settle, LOSSY.silence)
    assert (w.fails, w.arrived, w.lossy) == (None, 1412, True)
    b = verdict.bracket(tracks, 2.0, LOSSY, 1500)
    assert (b.passes, b.fails, b.grade, b.note) == (1412, None, "proof", "capped")


def test_small_writes_in_front_of_a_hole_hide_it_not() -> None:
    """A server that writes some small pieces first: they are smaller than what passes elsewhere."""
    tracks = [small_then_lost(n, 1500, 1000) for n in range(1, 8)] + [passing(n, 1400) for n in (8, 9)]
    b = verdict.bracket(tracks, 2.0, LOSSY, 1500)
    assert (b.passes, b.fails, b.grade) == (1400, 1500, "proof")


def test_one_answer_that_came_small_does_not_outvote_many_gaps() -> None:
    tracks = [hole(n, 1401) for n in range(1, 8)] + [passing(n, 1400) for n in (8, 9)]
    tracks.append(small(10, 1500, 1400))
    b = verdict.bracket(tracks, 2.0, LOSSY, 1500)
    assert (b.passes, b.fails, b.grade) == (1400, 1401, "proof")


def test_as_many_small_answers_as_gaps_contradict_each_other() -> None:
    tracks = [hole(1, 1492), hole(2, 1480), small(3, 1500, 1400), small(4, 1492, 1400), passing(5, 1400)]
    b = verdict.bracket(tracks, 2.0, LOSSY, 1500)
    assert (b.passes, b.fails, b.grade, b.note) == (1400, None, "none", "unproven")


def test_a_short_answer_of_which_a_part_was_lost_says_nothing_of_its_size() -> None:
    """Header and body apart, the header lost and repeated: 600 bytes are no long answer in small segments."""
    t = track(1, 1500, (0.01, reading(0, 1, 536, ooo=1)), (0.22, reading(600, 2, 536, ooo=1)), complete=True)
    assert t.status(1.0, LOSSY.settle, LOSSY.silence) is Status.SHORT
    tracks = [t] + [hole(n, 1401) for n in range(2, 9)] + [passing(n, 1400) for n in (9, 10)]
    assert verdict.bracket(tracks, 2.0, LOSSY, 1500).fails == 1401


@pytest.mark.parametrize(
    ("others", "one", "grade"),
    [
        ([healed(1, 1500, 1412), healed(2, 1492, 1412)], small(3, 1480, 1412, at=0.05), "told"),
        ([healed(1, 1500, 1412, opened=0.05)], small(3, 1480, 1412, at=0.01), "proof"),  # nobody can have told it then
        ([healed(1, 1500, 1412, before=1412 - STAMPED)], small(3, 1480, 1412, at=0.05), "proof"),  # as small before
    ],
)
def test_a_mended_gap_is_told_only_where_the_sender_cut_anew(others: list[Track], one: Track, grade: str) -> None:
    b = verdict.bracket([*others, one, passing(4, 1400)], 2.0, LOSSY, 1500)
    assert (b.passes, b.grade) == (1412, grade)
    assert b.fails == (1413 if grade == "told" else None)


def test_a_lost_request_holds_up_no_round() -> None:
    """The last connection of a round, which all wait for, is the one whose request gets lost twice."""
    search = Reverse(limits=Limits(family=4), promised=1500, start=0.0)
    search.begin(0.0)
    for command in search.step(0.0):
        assert isinstance(command, Open)
        t = command.track
        if t.size >= 1420:
            t.see(0.01, reading(0, 1, 900, ooo=1))
        else:
            t.see(0.01, reading(5404, 5, t.payload()))
            t.complete = True
        t.asked, t.asked_bytes = 0.005, 500
    search.step(0.02)
    assert search.round == 2
    mine = [t for t in search.tracks if t.round == 2]
    for t in mine[:-1]:
        t.asked, t.asked_bytes = 0.025, 500
        t.see(0.03, reading(0, 1, 900, ooo=1) if t.size > 1410 else reading(5404, 5, t.payload()))
    last = mine[-1]
    last.see(0.03, reading(0, 0, 536)._replace(acked=1))
    last.asked, last.asked_bytes = 0.025, 500
    search.step(0.05)
    assert search.round == 2
    search.step(0.02 + HURRY + 0.01)
    assert search.round == 3
