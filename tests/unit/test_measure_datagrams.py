"""The search by datagrams, against simulated paths and answerers. No packet is sent."""

import socket
from dataclasses import dataclass
from random import Random

import pytest

from pathfit.core.measured import Bracket, DnsSize
from pathfit.measure.datagrams import Datagrams, weigh
from pathfit.measure.echo import Pieces
from pathfit.measure.largedns import LargeDns, lost
from pathfit.measure.refusal import martian, word

RTT = 0.0005


@dataclass
class Path:
    """``limit``: largest datagram that gets out; ``tells``: sizes above it that are answered "too big" up to here (0:
    none); ``says``: the mtu in that message; ``burst``/``every``: answers the far end gives (None: all)."""

    limit: int = 1500
    tells: int = 0
    says: int | None = None
    loss: float = 0.0
    rtt: float = RTT
    burst: int | None = None
    every: float = 1.0
    own: int = 9999
    silent: bool = False
    jitter: float = 0.0


def run(path: Path, seed: int = 1, **more: object) -> Datagrams:
    rng = Random(seed)
    args = {"method": "udp-closed", "ceiling": 1500, "control": 128, "start": 0.0, **more}
    search = Datagrams(**args)  # type: ignore[arg-type]
    arrivals: list[tuple[float, int, str]] = []
    now, last, tokens = 0.0, 0.0, float(path.burst or 0)
    while not search.done:
        for shot in search.step(now):
            if shot.size > path.own:
                search.local(shot.n)
                continue
            if rng.random() < path.loss:
                continue
            if shot.size > path.limit:
                if shot.size <= path.tells and rng.random() >= path.loss:
                    arrivals.append((now + path.rtt / 2, shot.n, "told"))
                continue
            if path.silent:
                continue
            if path.burst is not None:
                tokens = min(float(path.burst), tokens + (now - last) / path.every)
                last = now
                if tokens < 1:
                    continue
                tokens -= 1
            if rng.random() >= path.loss:
                arrivals.append((now + path.rtt + rng.random() * path.jitter, shot.n, "answer"))
        now += 0.001
        for item in [a for a in arrivals if a[0] <= now]:
            arrivals.remove(item)
            if item[2] == "told":
                search.told(item[1], path.limit if path.says is None else path.says, "192.0.2.1")
            else:
                search.answered(item[0], item[1])
        assert now < 12, "it never ends"
    return search


def said(b: Bracket) -> tuple[int | None, int | None, str]:
    return b.passes, b.fails, b.grade


@pytest.mark.parametrize("rtt", [RTT, 0.02, 0.1])
@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        (Path(), {}, (1500, None, "proof")),
        (Path(limit=1400), {}, (1400, 1401, "step")),
        (Path(limit=1161), {}, (1161, 1162, "step")),
        (Path(limit=1400, tells=9999), {}, (1400, 1401, "told")),
        (Path(limit=1400, tells=9999, says=0), {}, (1400, 1401, "told")),
        (Path(limit=1400, tells=9999, says=1500), {}, (1400, 1401, "step")),  # no kernel obeys that
        (Path(own=1450), {"ceiling": 1500}, (1450, None, "proof")),
        (Path(limit=8950), {"ceiling": 9000}, (8950, 8951, "step")),
        (Path(limit=1300), {"control": 1228, "floor": 1228}, (1300, 1301, "step")),
        (Path(silent=True), {}, (None, None, "none")),
    ],
)
def test_free_answers_to_the_byte(
    path: Path, more: dict[str, int], expected: tuple[int | None, int | None, str], rtt: float
) -> None:
    path.rtt = rtt
    search = run(path, **more)
    assert said(search.bracket()) == expected
    assert len(search.shots) <= 160


@pytest.mark.parametrize("limit", [1500, 1450, 1443, 700])
def test_few_at_once_towards_public_targets(limit: int) -> None:
    search = run(Path(limit=limit, rtt=0.03), row=4)
    assert search.bracket().passes == limit and search.bracket().exact
    rounds = [sum(1 for s in search.shots if s.round == r) for r in range(1, search.round + 1)]
    assert max(rounds) <= 4 + 4  # and what is repeated, and the control
    assert len(search.shots) < 60


@pytest.mark.parametrize("limit", [1500, 1400, 1280, 700])
@pytest.mark.parametrize("told", [False, True])
def test_six_answers_and_then_one_a_second(limit: int, told: bool) -> None:
    search = run(Path(limit=limit, tells=9999 if told else 0, burst=6), scarce=True)
    b = search.bracket()
    assert b.passes is not None
    if limit == 1500:
        assert said(b) == (1500, None, "proof")
        assert len(search.shots) == 2
    elif told:
        assert said(b) == (limit, limit + 1, "told")
    else:  # a bracket that holds the truth, and never a false byte
        assert b.passes <= limit < (b.fails or 9999) and b.grade == "step"


def test_hints_make_the_byte_certain_where_answers_are_scarce() -> None:
    assert said(run(Path(limit=1437, burst=6), scarce=True, hints=(1437, 1438)).bracket()) == (1437, 1438, "step")


def test_a_few_told_sizes_do_not_explain_what_vanishes() -> None:
    """A VXLAN device that is a port of a larger bridge tells of four sizes and drops the rest in silence."""
    b = run(Path(limit=1450, tells=1454)).bracket()
    assert said(b) == (1450, 1451, "step")
    assert b.note == "told-in-part" and b.told_by is None


@pytest.mark.parametrize("scarce", [False, True])
@pytest.mark.parametrize("limit", [1500, 1400])
def test_three_percent_of_loss_change_no_verdict(limit: int, scarce: bool) -> None:
    """Never a hole where there is none, never a size that does not get through; a hole is mostly found."""
    found = 0
    for seed in range(300):
        path = Path(limit=limit, loss=0.03, burst=6 if scarce else None)
        b = run(path, seed=seed, scarce=scarce).bracket()
        assert b.passes is None or b.passes <= limit, seed
        assert b.fails is None or b.fails > limit, seed
        found += b.fails is not None or b.passes == 1500
    assert found >= 297


@pytest.mark.parametrize("limit", [1500, 1400])
def test_late_answers_change_no_verdict(limit: int) -> None:
    """A resolver asks others: each answer takes 0 to 40 ms more, in any order."""
    for seed in range(60):
        b = run(Path(limit=limit, jitter=0.04), seed=seed, method="udp-dns", settle=0.05).bracket()
        assert b.passes is not None and b.passes <= limit and (b.fails is None or b.fails > limit), seed


@dataclass
class Server:
    """``full`` bytes of the long answer; more than ``most`` is cut by the server; UDP above ``limit`` bytes is lost."""

    full: int = 1800
    most: int = 4096
    limit: int = 99999
    loss: float = 0.0
    short: tuple[str, ...] = ()
    mute: bool = False


def ask(server: Server, seed: int = 1) -> LargeDns:
    rng = Random(seed)
    search = LargeDns(candidates=((".", "DNSKEY"), (".", "NS")), start=0.0, budget=4.0)
    now, queue = 0.0, []
    while not search.done:
        for q in search.step(now):
            cut = server.full > min(q.room, server.most) and q.kind not in server.short
            size = 60 if cut else 200 if q.kind in server.short else server.full
            if not server.mute and size <= server.limit and rng.random() >= 2 * server.loss:
                queue.append((now + RTT, q.n, size, cut))
        now += 0.001
        for item in [x for x in queue if x[0] <= now]:
            queue.remove(item)
            search.answered(item[0], item[1], item[2], 0, item[3], 0)
        assert now < 12, "it never ends"
    return search


@pytest.mark.parametrize(
    ("server", "room", "rooms"),
    [
        (Server(), None, (512, 1232, 1400, 4096)),
        (Server(limit=1472), 4096, (512, 1232, 1400, 4096)),
        (Server(full=1300, limit=1200), 1400, (512, 1232, 1400, 4096)),
        (Server(full=900, limit=512), 1232, (512, 1232, 1400, 4096)),
        (Server(most=1232), None, (512, 1232, 1400, 4096)),  # as unbound and BIND are set: all cut, all answered
        (Server(short=("DNSKEY",)), None, (512, 1232, 1400, 4096)),  # the second question is the long one
        (Server(short=("DNSKEY", "NS")), None, ()),  # nothing long to ask for
        (Server(mute=True), None, ()),
    ],
)
def test_large_answers(server: Server, room: int | None, rooms: tuple[int, ...]) -> None:
    sizes = ask(server).sizes()
    bad = lost(sizes)
    assert (bad.room if bad else None) == room
    assert tuple(s.room for s in sizes) == rooms


@pytest.mark.parametrize("limit", [99999, 1472])
def test_loss_makes_no_large_answer_lost(limit: int) -> None:
    for seed in range(300):
        bad = lost(ask(Server(limit=limit, loss=0.03), seed).sizes())
        assert bad is None or (limit == 1472 and bad.room == 4096), seed


@pytest.mark.parametrize(
    ("large", "small", "loss", "expected"),
    [
        (True, True, 0.0, (2000, None)),
        (False, True, 0.0, (None, 2000)),
        (False, False, 0.0, (None, None)),
        (True, True, 0.03, (2000, None)),
    ],
)
def test_echoes_in_fragments(large: bool, small: bool, loss: float, expected: tuple[int | None, int | None]) -> None:
    for seed in range(200 if loss else 1):
        rng, now, search = Random(seed), 0.0, Pieces(size=2000, start=0.0)
        while not search.done:
            for p in search.step(now):
                if (large if p.size == 2000 else small) and all(rng.random() >= loss for _ in range(4)):
                    search.answered(now, p.seq)
            now += 0.01
        assert (search.bracket().passes, search.bracket().fails) == expected, seed


def test_without_a_control_nothing_is_lost() -> None:
    assert lost((DnsSize(room=512, tries=4, answered=0), DnsSize(room=4096, tries=4, answered=0))) is None


@pytest.mark.parametrize(
    ("family", "kind", "code", "expected"),
    [
        (4, 3, 3, "port"),
        (4, 3, 4, "too-big"),
        (4, 3, 1, "unreachable"),
        (4, 3, 9, "filtered"),
        (4, 3, 10, "filtered"),
        (4, 3, 13, "filtered"),
        (4, 11, 0, "other"),
        (6, 1, 4, "port"),
        (6, 2, 0, "too-big"),
        (6, 1, 0, "unreachable"),
        (6, 1, 1, "filtered"),
        (6, 1, 5, "filtered"),
        (6, 3, 0, "other"),
    ],
)
def test_what_an_icmp_error_says(family: int, kind: int, code: int, expected: str) -> None:
    assert word(family, kind, code) == expected


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        ("192.0.2.1", "198.18.1.2", False),
        ("10.0.0.1", "198.18.1.2", False),  # routers have private addresses
        ("0.0.0.0", "198.18.1.2", True),
        ("224.0.0.1", "198.18.1.2", True),
        ("255.255.255.255", "198.18.1.2", True),
        ("127.0.0.1", "198.18.1.2", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("fe80::1", "2001:db8::2", False),  # routers answer from link-local addresses on their first hop
        ("::", "2001:db8::2", True),
        ("ff02::1", "2001:db8::2", True),
        ("::1", "2001:db8::2", True),
        ("::1", "::1", False),
    ],
)
def test_addresses_no_router_has(source: str, to: str, expected: bool) -> None:
    packed = [socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in (source, to)]
    assert martian(*packed) == expected


def met(passes: int | None, fails: int | None, grade: str = "step", told: int | None = None) -> Bracket:
    return Bracket(method="x", tests="forward", passes=passes, fails=fails, grade=grade, told_mtu=told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "closed", "echo", "same", "best", "grade"),
    [
        (met(1500, None, "proof"), None, None, False, (1500, None), "proof"),
        (met(1400, 1401), met(1400, 1401), None, False, (1400, 1401), "step"),
        (met(1400, 1401), met(1380, 1420), None, False, (1400, 1401), "step"),
        (met(1400, 1401), met(None, None), met(1400, 1401), False, (1400, 1401), "step"),
        (met(1400, 1401, "told", 1400), None, None, False, (1400, 1401), "told"),
        (met(1260, 1261), met(1500, None, "proof"), None, True, (1500, None), "proof"),  # the server's own limit
        (met(1260, 1261), met(1400, 1401), None, True, (1400, 1401), "step"),  # and a hole above it
        (met(1260, 1261, "told", 1412), met(1412, 1413, "told", 1412), None, True, (1412, 1413), "told"),
        (
            met(1260, 1261),
            met(1500, None, "proof"),
            None,
            False,
            (1260, 1261),
            "none",
        ),  # another host may have answered
        (met(1260, 1261), met(None, None), None, True, (1260, 1261), "none"),
        (met(1260, 1261), None, met(1500, None, "proof"), True, (1260, 1261), "none"),
    ],
)
def test_a_servers_own_limit_is_none_of_the_paths(
    own: Bracket,
    closed: Bracket | None,
    echo: Bracket | None,
    same: bool,
    best: tuple[int | None, int | None],
    grade: str,
) -> None:
    first = weigh(own, closed, echo, same)[0]
    assert (first.passes, first.fails, first.grade) == (*best, grade)
