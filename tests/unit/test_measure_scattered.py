"""Servers that say little: rows of small answers, joined to full segments or not."""

import pytest

from pathfit.measure.reverse import Close, Limits, Open, Reverse
from pathfit.measure.track import Reading, Status, Track
from pathfit.measure.verdict import bracket, timing, uneven
from pathfit.probe.speech.talk import MOST_PIPELINED, PIPELINED, Script, Talk


def reading(received: int, segments: int, rcv_mss: int = 536, ooo: int = 0) -> Reading:
    return Reading(1, True, rcv_mss, 1448, 1460, 1, received, segments, ooo, 0, 0.001)


def track(size: int, n: int = 1, plain: bool = False) -> Track:
    return Track(n=n, size=size, plain=plain, round=1, family=4, opened=0.0)


@pytest.mark.parametrize(
    ("readings", "status"),
    [
        # sixteen small ones, then 524 bytes in one segment: as large as asked
        ([reading(1108, 16, 524), reading(1632, 17, 524)], Status.PASS),
        # the same bytes, in how many segments is not known: small ones may make them up
        ([reading(1632, 17, 524)], Status.WAIT),
        ([reading(1108, 16, 524), reading(1632, 24, 524)], Status.WAIT),
        # something came out of order before: what is delivered now may have arrived in segments counted then
        ([reading(1108, 16, 524, 1), reading(1632, 17, 524, 1)], Status.WAIT),
    ],
)
def test_a_full_segment_below_the_first_estimate_is_seen_between_two_looks(
    readings: list[Reading], status: Status
) -> None:
    t = track(576)
    for n, r in enumerate(readings):
        t.see(n / 1000, r)
    assert t.status(1.0, 9.0, 9.0) is status


def scatter(search: Reverse, now: float) -> None:
    """Everything that stands says a row of small answers, none of them joined."""
    for t in search.tracks:
        if t.connected is None:
            t.see(now, reading(2000, 30))
            t.asked, t.asked_bytes, t.acked = now, 1, 1
            t.row = t.complete = True


def test_scattered_answers_are_asked_for_again_through_a_narrow_window() -> None:
    search, now = Reverse(Limits(family=4), promised=1500, start=0.0), 0.0
    search.begin(now)
    rounds: set[tuple[int, bool]] = set()
    while not search.done:
        rounds |= {(c.track.round, c.track.narrow) for c in search.step(now) if isinstance(c, Open)}
        scatter(search, now)
        now += 0.002
    assert rounds == {(1, False), (2, True), (3, True)}  # and then it is given up
    got = search.result(now)
    assert (got.passes, got.fails, got.note) == (None, None, "answers-too-short")  # nothing learned, nothing claimed


@pytest.mark.parametrize("passed", [576, 1000, 1280])
def test_small_sizes_that_pass_do_not_end_a_search_that_scattered_answers_held_up(passed: int) -> None:
    """A busy server's first answers come one by one, and enough of them are joined for the smallest sizes only."""
    limit, tail = 1450, 3000
    search, now = Reverse(Limits(family=4), promised=1500, start=0.0), 0.0
    search.begin(now)
    while not search.done:
        for command in search.step(now):
            if isinstance(command, Close):
                command.track.closed = now
        for t in search.tracks:
            if t.closed is not None or t.n not in search._open:
                continue
            payload = t.size - 52  # with timestamps
            if t.round == 1 and t.size > passed:
                t.see(now, reading(2000, 30))
                t.row = t.complete = True
            elif t.size <= limit:
                t.see(now, reading(payload + tail, 3, payload))
            else:
                t.see(now, reading(0, 1, ooo=1))
            t.asked, t.asked_bytes, t.acked, t.many = t.asked or now, 1, 1, True
        now += 0.002
    got = search.result(now)
    assert (got.passes, got.fails, got.grade) == (limit, limit + 1, "proof")


def test_whole_answers_in_small_pieces_are_no_flow_that_passes() -> None:
    """Two gaps of the promised size beside answers that said nothing about it: not an uneven path."""
    tracks = [track(1500, n, plain=True) for n in range(1, 7)]
    for t in tracks:
        t.see(0.0, reading(2000, 30))
        t.asked, t.row, t.complete = 0.0, True, True
    for t in tracks[:3]:
        t.complete = False
        t.see(0.1, reading(2000, 31, ooo=1))
    assert uneven(tracks, 5.0, 1500) is None
    for t in tracks[3:]:
        t.see(0.2, reading(3448, 32, 1448))
    assert uneven(tracks, 5.0, 1500) is not None


def answered(talk: Talk, head: bytes) -> int:
    """Requests in the row that follows a short answer."""
    talk.start()
    talk.feed(head)
    assert talk.whole
    return talk.more().count(b" / HTTP/1.1")


@pytest.mark.parametrize(("window", "more"), [(0, 1.0), (6 * 1448, 2.0)])
def test_a_row_is_as_long_as_its_answers_are_short(window: int, more: float) -> None:
    script = Script(protocol="http", host="s")
    short = b"HTTP/1.1 200 Lab\r\nContent-Length: 0\r\n\r\n"
    long = short[:-2] + b"X-Long: " + b"x" * 400 + b"\r\n\r\n"
    small = answered(Talk(script, 1500, window=window), short)
    large = answered(Talk(script, 1500, window=window), long)
    assert PIPELINED <= large < small <= MOST_PIPELINED
    assert small * len(short) >= min(3 * 1500 * more, MOST_PIPELINED * len(short) * 0.9)


@pytest.mark.parametrize(
    ("mended", "note"),
    [
        ((0.25, 0.25, 0.25, 0.25, 0.25), "taught-while-asking"),  # nobody told of these before others made it known
        ((0.25, 0.25, 0.25, 0.25, None), "unproven"),  # one came at once: the others may have been lost by chance
        ((0.25, 0.25, 0.25), "unproven"),  # too few to exclude chance
    ],
)
def test_late_on_every_connection_is_no_loss_although_something_of_ours_was_sent_again(
    mended: tuple[float | None, ...], note: str
) -> None:
    """The way in told of 1451 to 1454, was silent above, and our second round asked for 1451."""
    tracks = []
    for n, (size, age) in enumerate(zip((1500, 1500, 1492, 1480, 1460), mended, strict=False), 1):
        t = track(size, n, plain=size == 1500)
        t.see(0.0, reading(2000, 3, 1398))
        t.retrans, t.complete, t.mended, t.got, t.segments = 1, True, age, 6000, 5
        t.cut, t.cut_from = age, None if age is None else 0.0
        tracks.append(t)
    small = track(1450, 9)
    small.see(0.0, reading(3000, 3, 1398))
    got = bracket([*tracks, small], 1.0, timing([*tracks, small], False), 1500)
    assert (got.passes, got.note) == (1450, note)
    assert got.fails == (1451 if note == "taught-while-asking" else None)
