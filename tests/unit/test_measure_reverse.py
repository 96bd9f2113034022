"""The reverse search on simulated paths: tables of truth, and many seeded runs with loss."""

import pytest
from simpath import Path, Sim

from pathfit.core.net import mss_of
from pathfit.measure import crowd, verdict
from pathfit.measure.reverse import Limits, Open, Reverse
from pathfit.measure.track import Reading, Track

LIMITS = (576, 640, 1000, 1159, 1280, 1281, 1350, 1396, 1400, 1411, 1420, 1437, 1449, 1450, 1460, 1492, 1499)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("rtt", [0.0005, 0.02, 0.1])
def test_hole_is_found_to_the_byte(limit: int, rtt: float) -> None:
    b = Sim(Path(limit=limit, rtt=rtt), seed=limit).run()
    assert (b.passes, b.fails, b.exact) == (limit, limit + 1, True)
    assert b.grade == "proof"


@pytest.mark.parametrize("limit", [1500, 2290, 4399, 8950, 8999])
def test_jumbo_hole_is_found_to_the_byte(limit: int) -> None:
    b = Sim(Path(limit=limit, promised=9001, answer=30000), seed=limit).run()
    assert (b.passes, b.fails) == (limit, limit + 1)


@pytest.mark.parametrize("limit", [200, 400, 552])
def test_hole_below_the_sentinel(limit: int) -> None:
    """Below 537 payload bytes the kernel's estimate says little: the size is a lower bound, the hole is certain."""
    b = Sim(Path(limit=limit), seed=1).run()
    assert b.passes is None or b.passes <= limit
    assert b.fails is None or b.fails > limit


@pytest.mark.parametrize("family", [4, 6])
def test_no_size_is_asked_that_the_kernel_refuses(family: int) -> None:
    """TCP_MAXSEG below TCP_MIN_MSS is EINVAL, and one EINVAL would end the whole measurement."""
    sim = Sim(Path(limit=100), seed=1)
    sim.search.limits.family = family
    sim.run()
    assert min(mss_of(family, t.size) for t in sim.search.tracks) >= 88


@pytest.mark.parametrize(("row_passed", "fails"), [(True, 6000), (False, None)])
def test_silence_after_a_row_of_requests_counts_where_a_row_was_answered(row_passed: bool, fails: int | None) -> None:
    """A full segment made of several answers shows that this server answers rows; until then silence may be the
    server's that reads one request and throws the rest away."""
    passed = Track(n=1, size=4000, plain=False, round=1, family=4, opened=0.0, connected=0.0, asked=0.0, arrived=4000)
    silent = Track(n=2, size=6000, plain=False, round=2, family=4, opened=0.0, connected=0.0, asked=0.0)
    passed.got, passed.many = 4000, row_passed
    silent.many, silent.asked_bytes, silent.acked = True, 400, 400
    assert verdict.weigh([passed, silent], 1.0, 0.05, 0.7).fails == fails


HEALTHY = {
    "plain": Path(),
    "jumbo": Path(promised=9001, answer=40000),
    "custom": Path(promised=1396),
    "slow by queue": Path(think=lambda r: r.uniform(0.0, 0.4)),
    "slow": Path(think=lambda r: 1.9),
    "serial": Path(serial=True, think=lambda r: 0.01),
    "far": Path(rtt=0.3),
    "cookies": Path(cookies=True),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_paths_pass_what_they_promise(name: str) -> None:
    path = HEALTHY[name]
    sim = Sim(path, seed=3)
    b = sim.run()
    assert (b.passes, b.fails, b.grade) == (path.promised, None, "proof")
    top = [t for t in sim.search.tracks if t.size >= path.promised and t.passed]
    # Trap 7: one good flow proves one flow. A server that needs two seconds leaves no time for a dozen.
    assert len(top) >= (verdict.EVEN if name != "slow" else 2)


def test_clamp_is_capped_not_a_hole() -> None:
    b = Sim(Path(clamp=1412), seed=1).run()
    assert (b.passes, b.fails, b.note) == (1412, None, "capped")


def test_hole_below_a_clamp() -> None:
    b = Sim(Path(clamp=1452, limit=1400), seed=1).run()
    assert (b.passes, b.fails) == (1400, 1401)


def test_told_is_told() -> None:
    b = Sim(Path(limit=1412, told=True), seed=1).run()
    assert (b.passes, b.fails, b.grade) == (1412, 1413, "told")


@pytest.mark.parametrize("limit", [1300, 1340, 1400, 1479, 1490])
def test_syn_cookies_give_a_bracket_that_is_true(limit: int) -> None:
    b = Sim(Path(cookies=True, limit=limit), seed=1).run()
    assert b.passes is not None and b.passes <= limit
    assert b.fails is not None and b.fails > limit


@pytest.mark.parametrize("limit", [1400, 1450])
def test_header_apart_is_no_excuse(limit: int) -> None:
    """Initial bytes may have arrived (trap 4)."""
    b = Sim(Path(limit=limit, apart=180), seed=1).run()
    assert (b.passes, b.fails) == (limit, limit + 1)


def test_whole_number_of_segments_leaves_no_tail() -> None:
    """Exactly N full segments of one size leave no gap there; the sizes around it do."""
    answer = 3 * (1421 - 52)
    b = Sim(Path(limit=1420, answer=answer), seed=1).run()
    assert (b.passes, b.fails) == (1420, 1421)


@pytest.mark.parametrize("limit", [1300, 1400, 1450])
def test_server_that_serves_one_at_a_time_and_waits_for_it(limit: int) -> None:
    """It hangs in the asked client's connection, which was there first; the others get their turn when that is closed
    (OpenSSL's s_server, seen in tests/servers)."""
    b = Sim(Path(limit=limit, serial=True, holds=True), seed=1).run()
    assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")


@pytest.mark.parametrize("room", [16, 18, 20])
@pytest.mark.parametrize("limit", [1300, 1400, 1450])
def test_server_that_has_room_for_a_few(limit: int, room: int) -> None:
    """Those that hang fill it, and nobody else is answered until they are closed (dnsmasq, seen in tests/servers)."""
    b = Sim(Path(limit=limit, room=room), seed=1).run()
    assert (b.passes, b.fails, b.grade) == (limit, limit + 1, "proof")


def test_segments_that_follow_ours_tell_of_no_limit() -> None:
    """Answers as large as what was asked come in segments of one size; that is no clamp (DNS over TCP)."""
    said = [Reading(1, True, 558, 1448, 1448, 600 * n, 558 * n, n, 0, 0, 0.0) for n in range(1, 9)]
    clamped, paced = (Track(n=1, size=1500, plain=True, round=1, family=4, opened=0.0, paced=p) for p in (False, True))
    for track in (clamped, paced):
        for n, reading in enumerate(said):
            track.see(0.001 * n, reading)
        track.complete = True
    assert (clamped.capped, paced.capped) == (True, False)


def test_silent_server_is_no_hole() -> None:
    b = Sim(Path(silent=True), seed=1).run()
    assert (b.passes, b.fails, b.grade, b.note) == (None, None, "none", "silent-at-every-size")


def test_short_answers_say_so() -> None:
    b = Sim(Path(answer=300), seed=1).run()
    assert b.fails is None and b.note == "answers-too-short"


@pytest.mark.parametrize("seed", range(20))
def test_one_bad_backend_of_three_is_uneven(seed: int) -> None:
    path = Path(backends=(9999, 1396, 9999))
    sim = Sim(path, seed=seed)
    b = sim.run()
    odd = verdict.uneven(sim.search.tracks, sim.now, path.promised)
    assert odd is not None and odd.bad >= 2 and odd.good >= 2
    assert b.fails is None


@pytest.mark.parametrize("loss", [0.0, 0.03])
@pytest.mark.parametrize("answer", [4700, 10220, 100_000])
@pytest.mark.parametrize("backends", [(9999, 1400), (9999, 1400, 1400)])
def test_flows_that_draw_their_way_are_uneven(backends: tuple[int, ...], answer: int, loss: float) -> None:
    """Whichever flows the smaller way gets: no limit is made of that, and it is not called chance."""
    wrong = []
    for seed in range(10):
        sim = Sim(Path(backends=backends, drawn=True, loss=loss, answer=answer), seed=seed)
        b = sim.run()
        found = verdict.uneven(sim.search.tracks, sim.now, 1500)
        if found is None or (b.fails is not None and b.fails > found.size) or sim.now > 3.1:
            wrong.append((seed, b, found, sim.now))
    assert not wrong


def test_flows_that_lack_something_do_not_wait_for_a_server() -> None:
    """An answer of which only later bytes came is one: its connection is not one of those a full server keeps."""
    tracks = [_gone(n, size=1400, got=4700) for n in range(1, 4)] + [_gone(n, size=1400, got=0) for n in range(4, 9)]
    standing = {t.n for t in tracks[3:]}
    assert crowd.crowded(tracks, standing, 1.0, 0.05)
    for t in tracks[3:]:
        t.gap_at = 0.1
    assert not crowd.crowded(tracks, standing, 1.0, 0.05)


def _gone(n: int, *, size: int, got: int) -> Track:
    track = Track(n=n, size=size, plain=False, round=1, family=4, opened=0.0, connected=0.01, asked=0.02, got=got)
    track.asked_bytes = track.acked = 80
    track.arrived = size if got else 0
    return track


@pytest.mark.parametrize(
    ("stopped", "small", "waits", "bad"),
    [(5, 6, 0, 5), (2, 6, 0, 0), (5, 4, 0, 0), (5, 6, 1, 0)],
    ids=["so many", "too few", "too few beside", "smaller ones wait as well"],
)
def test_answers_that_begin_and_stop_at_large_sizes_alone(stopped: int, small: int, waits: int, bad: int) -> None:
    """The first flight of a large answer has no tail that would show a gap: all of it is lost."""
    sizes = [(1500, 100_000)] * 3 + [(1500, 116)] * stopped + [(1000, 40_000)] * small + [(576, 0)] * waits
    tracks = [_gone(n, size=size, got=got) for n, (size, got) in enumerate(sizes, 1)]
    for t in tracks:
        t.arrived, t.progress = (168 if t.got == 116 else t.arrived), 0.03
    found = verdict.uneven(tracks, 2.0, 1500)
    assert (found.bad if found else 0) == bad


@pytest.mark.parametrize("limit", [1396, 1420, 1443])
def test_polite_search_needs_no_more_than_it_may(limit: int) -> None:
    sim = Sim(Path(limit=limit, rtt=0.02), seed=limit, per_round=4, total=24, parallel=4)
    b = sim.run()
    assert len(sim.search.tracks) <= 24
    assert b.passes is not None and b.passes <= limit and b.fails is not None and b.fails > limit
    assert b.grade == "proof"


@pytest.mark.parametrize("total", [16, 20, 24])
def test_what_a_polite_search_needs_for_its_proof_is_not_closed(total: int) -> None:
    """Few connections, and each closed for the next: those that show the hole have to stand for as long as it takes."""
    for limit in range(1281, 1500, 4):
        path = Path(limit=limit, rtt=(0.0003, 0.02)[limit // 4 % 2], answer=20000)
        b = Sim(path, seed=limit, per_round=4, total=total, parallel=4).run()
        assert b.grade == "proof" and b.fails is not None, (limit, b)
        assert b.passes is not None and b.passes <= limit < b.fails, (limit, b)


def test_lossless_search_is_quick() -> None:
    """Exact byte: a few round trips, and the settling time once (probing.md 12)."""
    for limit, rtt in ((1420, 0.0005), (1437, 0.02), (1290, 0.1)):
        sim = Sim(Path(limit=limit, rtt=rtt), seed=1)
        sim.run()
        settle = max(2 * rtt, verdict.SETTLE)
        assert sim.now <= 10 * rtt + settle + 0.06


def lossy_runs(seeds: range) -> tuple[list[str], int]:
    """Wrong verdicts, and how many were "unknown"."""
    wrong, unknown = [], 0
    for seed in seeds:
        limit = (9999, 1280, 1396, 1420, 1437, 1450, 1499, 576)[seed % 8]
        b = Sim(Path(limit=limit, loss=0.03), seed=seed).run()
        if b.grade == "none":
            unknown += 1
        elif limit == 9999:
            if b.fails is not None or b.passes != 1500:
                wrong.append(f"seed {seed}: healthy, said {b}")
        elif b.fails is None or b.passes is None or not b.passes <= limit < b.fails:
            wrong.append(f"seed {seed}: limit {limit}, said {b}")
    return wrong, unknown


def test_loss_changes_no_verdict() -> None:
    """3 % each way."""
    wrong, unknown = lossy_runs(range(80))
    assert not wrong
    assert unknown <= 1


@pytest.mark.slow
def test_loss_changes_no_verdict_in_two_thousand_runs() -> None:
    wrong, unknown = lossy_runs(range(2000))
    assert not wrong
    assert unknown <= 20


def test_who_is_refused_does_not_wait_for_those_who_hear_nothing() -> None:
    """Routers say "unreachable" a few times a second only (icmp_ratelimit): the rest of the round gets no answer."""
    search = Reverse(limits=Limits(family=4), promised=1500, start=0.0)
    search.begin(0.0)
    first = next(c.track for c in search.step(0.0) if isinstance(c, Open))
    first.ended, first.closed = "unreachable", 0.01
    search.closed(first)
    search.step(0.2)
    assert not search.done
    search.step(0.3)
    assert (search.done, search.why) == (True, "no-connection")


@pytest.mark.parametrize(("connect", "end"), [(3.2, 2.2), (1.25, 1.25)])
def test_a_request_nobody_acknowledges_ends_the_search(connect: float, end: float) -> None:
    search = Reverse(limits=Limits(family=4, connect=connect), promised=1500, start=0.0)
    search.begin(0.0)
    for command in search.step(0.0):
        t = command.track
        t.connected, t.asked, t.asked_bytes, t.retrans = 0.001, 0.001, 300, 2
    search.step(end - 0.1)
    assert not search.done
    search.step(end + 0.1)
    assert (search.done, search.why) == (True, "stalled")
