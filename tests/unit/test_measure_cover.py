"""What the cover of bench/cover.py showed of the way in and out, each as the smallest case that shows it."""

import pytest
from simpath import Path, Sim

from pathfit.core.measured import Bracket
from pathfit.measure import verdict
from pathfit.measure.segments import Facts, Segments
from pathfit.measure.track import ESTABLISHED, Reading, Status, Track

STAMPED = 52  # IPv4, TCP, timestamps


@pytest.mark.parametrize(
    ("invited", "note", "fails", "grade"),
    [
        ((1500, 1500, 1412, 1412), None, 1413, "told"),
        ((1412, 1412), "capped", None, "proof"),  # it never invited more: its own MTU, or a clamp of both ways
        ((1500, 1500), "capped", None, "proof"),  # it still invites more: a clamp of its answers
        ((1500, 1400), "capped", None, "proof"),  # less than what arrives
        ((1500, 1412, 1500), "capped", None, "proof"),  # another of several machines
        ((), "capped", None, "proof"),
    ],
)
def test_who_was_told_before_our_first_look_invites_less(
    invited: tuple[int, ...], note: str | None, fails: int | None, grade: str
) -> None:
    seen = Bracket(method="tcp-maxseg", tests="reverse", passes=1412, grade="proof", note="capped")
    found = verdict.by_invitations(seen, invited) or seen
    assert (found.passes, found.fails, found.grade, found.note) == (1412, fails, grade, note)


def track(n: int, size: int, opened: float = 0.0, **more: object) -> Track:
    t = Track(n=n, size=size, plain=size >= 1500, round=1, family=4, opened=opened, **more)  # type: ignore[arg-type]
    see(t, opened + 0.001, 0, 0)
    t.asked, t.asked_bytes = opened + 0.001, 100
    return t


def see(t: Track, now: float, got: int, segments: int, rcv_mss: int = 536, ooo: int = 0, invited: int = 1500) -> None:
    ours = min(invited, t.size) - STAMPED
    t.see(now, Reading(ESTABLISHED, True, rcv_mss, ours, 1448, 101, got, segments, ooo, 0, 0.001))


def test_one_answer_in_equal_segments_is_enough_whatever_came_before_it() -> None:
    """A handshake in small records, then a page through a clamp, then small answers in a row."""
    t = track(1, 9000)
    see(t, 0.01, 5400, 6, 3813)
    assert not t.capped
    t.asked = 0.011
    see(t, 0.02, 5400 + 7 * 3813 + 100, 6 + 8, 3813)
    t.asked = 0.021
    see(t, 0.03, 5400 + 7 * 3813 + 100 + 40 * 100, 6 + 8 + 40, 3813)
    assert t.capped


def test_small_answers_in_a_row_are_no_clamp() -> None:
    t = track(1, 9000)
    t.many = True
    see(t, 0.02, 40 * 100, 40, 100)
    assert not t.capped


def test_an_mss_of_536_is_seen_where_the_kernel_begins_lower() -> None:
    """SYN cookies: 536 less timestamps is below the estimate the kernel starts with."""
    t = track(1, 1280)
    see(t, 0.02, 8 * 524 + 100, 10, 524)
    assert t.arrived == 576 and t.capped


def _probing(arrived: tuple[int, ...]) -> list[Track]:
    """Plain connections that a sender rescued by feeling its way, and sized ones that hang for good."""
    out = []
    for n, size in enumerate(arrived, 1):
        t = track(n, 1500, invited=0)
        see(t, 0.01, 100, 2, ooo=1)
        see(t, 0.02, 60 * (size - STAMPED), 61, size - STAMPED, ooo=1)
        t.complete, t.closed = True, 0.03
        out.append(t)
    for n, size in enumerate((1492, 1450, 1400), 10):
        t = track(n, size, opened=0.04)
        see(t, 0.05, 100, 2, ooo=1)
        out.append(t)
    for n, size in enumerate((1340, 576), 20):
        t = track(n, size, opened=0.04)
        see(t, 0.05, 3 * size, 4, size - STAMPED)
        t.complete = True
        out.append(t)
    return out


def test_a_sender_that_feels_its_way_hides_no_hole() -> None:
    """tcp_mtu_probing: some long answers come through in ever other sizes, and everything large of others is lost."""
    tracks = _probing((1340, 1366))
    w = verdict.weigh(tracks, 2.0, 0.05, 0.7)
    assert (w.ok, w.fails) == (1340, 1400)


def test_rescued_one_by_one_is_not_told() -> None:
    """Who is told a size uses it everywhere."""
    tracks = [t for t in _probing((1288, 1366)) if t.size == 1500]
    b = verdict.bracket(tracks, 2.0, verdict.timing(tracks, False), 1500)
    assert (b.passes, b.fails, b.grade) == (1366, None, "proof")
    same = [t for t in _probing((1366, 1366)) if t.size == 1500]
    b = verdict.bracket(same, 2.0, verdict.timing(same, False), 1500)
    assert (b.passes, b.fails, b.grade) == (1366, 1367, "told")


def test_whole_answers_of_a_sender_that_feels_its_way_lack_nothing() -> None:
    """Smaller than what passes when asked for: nothing is known of larger sizes, and nothing is missing."""
    tracks = [t for t in _probing((1288, 1300)) if t.size in (1500, 1340, 576)]
    b = verdict.bracket(tracks, 2.0, verdict.timing(tracks, False), 1500)
    assert (b.passes, b.fails, b.grade, b.note) == (1340, None, "proof", "capped")


def test_loss_in_front_of_a_clamp_is_not_told() -> None:
    """Mended as soon as if somebody had said so; but the sender's next SYN-ACKs still invite everything."""
    first = [t for t in _probing((1366, 1366)) if t.size == 1500]
    later = [track(n, 1500, opened=1.0) for n in (30, 31)]
    for t in later:
        see(t, 1.1, 4 * 1314 + 100, 5, 1314)
        t.complete = True
    assert later[0].invited == 1500 - STAMPED
    b = verdict.bracket([*first, *later], 2.0, verdict.timing(first, False), 1500)
    assert (b.passes, b.fails, b.note) == (1366, None, "capped")


def test_one_invitation_is_enough_where_the_other_syn_was_lost() -> None:
    """Loss in front of a clamp takes one of the two connections that ask for what the sender invites now."""
    first = [t for t in _probing((1366, 1366)) if t.size == 1500]
    lost = Track(n=30, size=1500, plain=True, round=2, family=4, opened=0.03)

    def judged(opened: float, invited: int) -> Bracket:
        other = track(31, 1500, opened=opened)
        see(other, opened + 0.01, 4 * 1314 + 100, 5, 1314)
        other.complete, other.invited = True, invited - STAMPED
        return verdict.bracket([*first, lost, other], 0.1, verdict.timing(first, False), 1500)

    still = judged(0.03, 1500)
    assert (still.passes, still.fails, still.grade, still.note) == (1366, None, "proof", "capped")
    told = judged(0.03, 1366)
    assert (told.passes, told.fails, told.grade) == (1366, 1367, "told")
    early = judged(0.015, 1500)  # asked before the mended ones were whole: it may have been told after its SYN-ACK
    assert (early.passes, early.fails, early.grade) == (1366, 1367, "told")


def test_who_never_invited_more_than_it_sends_was_not_told() -> None:
    """A clamp of both ways, and loss."""
    tracks = [t for t in _probing((1366, 1366)) if t.size == 1500]
    for t in tracks:
        t.invited = 1366 - STAMPED
    b = verdict.bracket(tracks, 2.0, verdict.timing(tracks, False), 1500)
    assert (b.passes, b.fails, b.note) == (1366, None, "capped")


def test_a_mended_row_of_small_answers_is_no_clamp() -> None:
    t = track(1, 9000)
    t.row = True
    see(t, 0.01, 100, 2, ooo=1)
    see(t, 0.02, 27000, 60, 2500, ooo=9)
    t.complete = True
    assert t.status(1.0, 0.05, 0.7) is Status.SHORT
    assert verdict.bracket([t], 1.0, verdict.timing([t], False), 9000).note == "answers-too-short"


def test_many_gaps_above_make_three_at_the_byte_enough_inwards() -> None:
    def lossy(above: int) -> tuple[int | None, str]:
        tracks = [track(n, 1401) for n in (1, 2, 3)] + [track(10 + n, 1402 + n) for n in range(above)]
        for t in tracks:
            see(t, 0.05, 100, 2, ooo=1)
        for n in (50, 51):
            t = track(n, 1400)
            see(t, 0.05, 100, 2, ooo=1)
            see(t, 0.3, 4200, 4, 1348, ooo=1)
            tracks.append(t)
        b = verdict.bracket(tracks, 1.5, verdict.timing(tracks, True), 1500)
        return b.fails, b.grade

    assert lossy(4) == (None, "none")
    assert lossy(10) == (1401, "proof")


def test_gaps_below_what_passes_are_one_bad_path_of_several() -> None:
    tracks = []
    for n, size in enumerate((1492, 1480, 1460, 1450, 1440, 1430)):
        t = track(n, size)
        if n % 2:
            see(t, 0.05, 100, 2, ooo=1)
        else:
            see(t, 0.05, 3 * size, 4, size - STAMPED)
        tracks.append(t)
    odd = verdict.uneven(tracks, 2.0, 1500)
    assert odd is None or odd.bad == 2, "what nothing as large passes beside may be a hole"
    small = [track(20, 576, purpose="sentinel")]
    see(small[0], 0.05, 100, 2, ooo=1)
    assert verdict.uneven([*tracks, *small], 2.0, 1500) is None


def test_what_is_lost_beside_packets_too_large_is_no_other_path() -> None:
    """Nothing of the promised size passes: one limit, of which a batch that ends at it takes a few others along."""
    tracks = [track(n, 1500) for n in (1, 2)] + [track(3, 1450), track(4, 1430)]
    for t in tracks:
        see(t, 0.05, 100, 2, ooo=1)
    tracks[3].round = 2
    for n in range(10, 18):
        t = track(n, 1450)
        see(t, 0.05, 5400, 4, 1450 - STAMPED)
        tracks.append(t)
    assert verdict.uneven(tracks, 2.0, 1500) is None
    whole = track(30, 1500)
    see(whole, 0.05, 5400, 4, 1448)
    odd = verdict.uneven([*tracks, whole, whole], 2.0, 1500)
    assert odd is not None, "some of that size pass"
    odd = verdict.uneven(tracks[:6], 2.0, 1500)
    assert odd is not None, "every second one, in every round"


@pytest.mark.parametrize("seed", range(80))
def test_loss_makes_no_clamp_of_who_was_told_nor_the_reverse(seed: int) -> None:
    told = Sim(Path(limit=1412, told=True, loss=0.05, answer=20_000), seed=seed).run()
    assert (told.passes, told.fails, told.grade) == (1412, 1413, "told")
    clamp = Sim(Path(limit=1412, clamp=1412, loss=0.05, answer=20_000), seed=seed).run()
    assert (clamp.passes, clamp.fails, clamp.note) == (1412, None, "capped")


@pytest.mark.parametrize("seed", range(10))
def test_told_stays_told_and_a_clamp_a_clamp(seed: int) -> None:
    told = Sim(Path(limit=1412, told=True, rtt=0.02), seed=seed).run()
    assert (told.passes, told.fails, told.grade) == (1412, 1413, "told")
    clamp = Sim(Path(limit=1412, clamp=1412, rtt=0.1, loss=0.03), seed=seed).run()
    assert clamp.passes in (1412, None) and clamp.fails is None


def test_silent_flows_of_a_bad_backend_count_where_gaps_of_other_sizes_stand() -> None:
    """An answer whose large segments leave no tail shows no gap at the promised size."""
    tracks = []
    for n in range(1, 9):
        t = track(n, 1500)
        if n % 2:
            see(t, 0.05, 5400, 4, 1448)
        tracks.append(t)
    assert verdict.uneven(tracks, 2.0, 1500) is None, "silence alone may be the application's"
    gap = track(20, 1430)
    see(gap, 0.05, 100, 2, ooo=1)
    odd = verdict.uneven([*tracks, gap], 2.0, 1500)
    assert odd is not None and (odd.good, odd.bad) == (4, 5), "and those gaps themselves, below what passes"
    assert tracks[1].status(2.0, 0.7, 0.7) is Status.MUTE


def test_many_gaps_above_make_three_at_the_byte_enough() -> None:
    """The way out by our kernel's own segments, far away and lossy: the hole is certain, only its byte is not."""

    def search(above: int) -> Segments:
        s = Segments(family=4, start=0.0)
        s._open(0.0, [[1400, 1401]] * 3)
        s._open(0.0, [[1400, 1450]] * above)
        for lane in s.lanes:
            s.see(0.1, lane.n, Facts(True, True, 1448, 1500, 0, 0, 0, 0.1, 1))
            while s.piece(lane.n):
                pass
            done = sum(1 for size in lane.sizes if size <= 1400 and size != 90)
            s.see(0.3, lane.n, Facts(True, True, 1448, 1500, lane.ends[done - 1], 1, 0, 0.1, 1))
            lane.mended = True  # something was lost before
        s.note = "time"
        return s

    assert search(4).bracket(1.5).note == "time"
    b = search(10).bracket(1.5)
    assert (b.passes, b.fails, b.grade) == (1400, 1401, "proof")
