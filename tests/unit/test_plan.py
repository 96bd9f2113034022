"""The plan asks the right things in the right order, and nothing twice."""

import pytest

from pathfit import plan
from pathfit.core.ask import Ask, Target
from pathfit.core.case import SCHEMA, Case
from pathfit.core.evidence import (
    ClockFact,
    Evidence,
    Missing,
    NameFact,
    PlaceFact,
    ProbeResult,
    SocketFact,
    StateFact,
)
from pathfit.core.measured import Bracket, Contact, Used
from pathfit.core.request import (
    Locate,
    Measure,
    MeasureHops,
    ReadClock,
    ReadSockets,
    ReadState,
    Request,
    ResolveName,
    TryFix,
)
from pathfit.core.snapshot import SCHEMA as SNAPSHOT
from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot, NextHop, Route
from pathfit.measure.reverse import CONNECT, CONNECT_SHORT
from pathfit.measure.share import FULL, MOST

V4_DEFAULT = Route(family=4, table=254, dst="", prefix=0, hops=(NextHop(link=2, via="192.0.2.1"),))
V6_DEFAULT = Route(family=6, table=254, dst="", prefix=0, hops=(NextHop(link=2, via="2001:db8::1"),))


def ask(url: str = "https://198.51.100.2:8443/5", host: str = "198.51.100.2", **kw: object) -> Ask:
    target = Target(text=url, protocol=url.split(":")[0], host=host, port=8443, path="/5")
    return Ask(command="diagnose", source="netns:c", target=target, **kw)


class Fake:
    """A World in a few lines: answers by type of request."""

    def __init__(self, **answers: Evidence) -> None:
        self.answers = answers
        self.seen: list[Request] = []

    def perform(self, r: Request) -> tuple[Evidence, ...]:
        self.seen.append(r)
        if isinstance(r, ReadClock):
            return (ClockFact(ref=r.ref, took=0.01 * len(self.seen)),)
        return (self.answers.get(r.ref, Missing(ref=r.ref, what=r.ref, why="not in this test")),)


def run(question: Ask, world: Fake) -> Case:
    case = Case(schema=SCHEMA, version="t", ask=question)
    for _ in range(20):
        requests = plan.next_requests(case)
        if not requests:
            return case
        for r in requests:
            case = case.add(r, world.perform(r))
    raise AssertionError("does not end")


def contact(address: str = "198.51.100.2", tcp: str = "ok", **kw: object) -> Contact:
    return Contact(address=address, family=6 if ":" in address else 4, port=8443, tcp=tcp, **kw)


def place(**kw: object) -> PlaceFact:
    return PlaceFact(ref="source", where="netns:c", netns="4:1", **kw)


def state(*routes: Route) -> StateFact:
    ns = NetnsSnapshot(id="4:1", where="netns:c", routes=routes)
    return StateFact(ref="state", host=HostSnapshot(schema=SNAPSHOT, host="h", namespaces=(ns,)))


def test_unknown_source_ends_at_once() -> None:
    world = Fake(source=Missing(ref="source", what="netns:c", why="no such namespace"))
    run(ask(), world)
    assert [type(r) for r in world.seen] == [Locate, ReadClock]


def test_state_and_sockets_are_read_before_the_first_packet() -> None:
    world = Fake(source=place(), state=state(), **{"probe:1": ProbeResult(ref="probe:1", contact=contact())})
    run(ask(), world)
    kinds = [type(r) for r in world.seen]
    assert kinds.index(ReadState) < kinds.index(Measure)
    assert kinds.index(ReadSockets) < kinds.index(Measure)
    refs = [r.ref for r in world.seen]
    assert len(refs) == len(set(refs)), "nothing is asked twice"


def test_literal_address_needs_no_name() -> None:
    world = Fake(source=place(), state=state())
    run(ask(), world)
    assert not [r for r in world.seen if isinstance(r, ResolveName)]


@pytest.mark.parametrize(
    ("routes", "order"),
    [
        ((V4_DEFAULT, V6_DEFAULT), ["2001:db8:5::2", "198.51.100.2"]),
        ((V4_DEFAULT,), ["198.51.100.2", "2001:db8:5::2"]),
    ],
)
def test_addresses_in_the_order_a_client_tries_them(routes: tuple[Route, ...], order: list[str]) -> None:
    name = NameFact(ref="name", name="s.example", addresses=("198.51.100.2", "2001:db8:5::2"))
    world = Fake(source=place(), state=state(*routes), name=name)
    run(ask(host="s.example"), world)
    assert [r.address for r in world.seen if isinstance(r, Measure)] == order


def measured(*addresses: str, seen: bool = True, **tcp: str) -> list[Measure]:
    """What is asked about a name with these addresses, when each answers as ``tcp`` says (by "p1", "p2", …)."""
    name = NameFact(ref="name", name="s.example", addresses=addresses)
    probes = {
        f"probe:{n}": ProbeResult(
            ref=f"probe:{n}",
            contact=contact(address, tcp=tcp.get(f"p{n}", "ok")),
            used=Used(packets=90, connections=9, seconds=0.1),
        )
        for n, address in enumerate(addresses, 1)
    }
    known = {"state": state(V4_DEFAULT, V6_DEFAULT)} if seen else {}
    world = Fake(source=place(), name=name, **known, **probes)
    run(ask(host="s.example"), world)
    return [r for r in world.seen if isinstance(r, Measure)]


def test_every_address_is_measured_in_full() -> None:
    asked = measured("2001:db8:5::2", "198.51.100.2", "198.51.100.3")
    assert [(r.address, r.contact_only) for r in asked] == [
        ("2001:db8:5::2", False), ("198.51.100.2", False), ("198.51.100.3", False),
    ]  # fmt: skip


def test_politeness_holds_over_all_addresses_together() -> None:
    asked = measured("93.184.216.1", "93.184.216.2", "93.184.216.3", "93.184.216.4", "93.184.216.5")
    # of 24: 9 went to each of the first, three are for what comes afterwards; what is left is shown, not spent twice
    assert [r.connections_total for r in asked] == [18, 12, 2]
    assert [r.contact_only for r in asked] == [False, False, True]
    assert all(r.parallel == 4 for r in asked)


def test_a_thousand_addresses_are_bounded() -> None:
    asked = measured(*(f"198.51.{n // 250}.{n % 250 + 1}" for n in range(1000)))
    assert len(asked) <= MOST and sum(not r.contact_only for r in asked) <= FULL
    assert sum(r.connections_total if r.contact_only else 9 for r in asked) <= 120


def test_the_second_silent_address_is_not_waited_for_as_long() -> None:
    asked = measured("2001:db8:5::2", "198.51.100.2", "198.51.100.3", seen=False, p2="timeout")
    assert [r.connect for r in asked] == [CONNECT, CONNECT, CONNECT_SHORT]


HOLE = Bracket(method="tcp-maxseg", tests="reverse", passes=1420, fails=1421, grade="proof")
FORWARD_HOLE = Bracket(method="tcp-sack", tests="forward", passes=1380, fails=1381, grade="proof")


@pytest.mark.parametrize(
    ("reverse", "forward", "mss", "hops"),
    [
        ((HOLE,), (), 1380, False),
        ((HOLE,), (FORWARD_HOLE,), 1340, True),
        ((), (FORWARD_HOLE,), 1340, True),
        ((Bracket(method="tcp-maxseg", tests="reverse", passes=1500),), (), None, False),
        ((Bracket(method="tcp-maxseg", tests="reverse", passes=1400, fails=1401, grade="told"),), (), None, False),
    ],
)
def test_a_hole_is_followed_by_a_trial_and_a_forward_hole_is_placed(
    reverse: tuple[Bracket, ...], forward: tuple[Bracket, ...], mss: int | None, hops: bool
) -> None:
    probe = ProbeResult(ref="probe:1", contact=contact(), reverse=reverse, forward=forward)
    world = Fake(source=place(), state=state(), sockets=SocketFact(ref="sockets"), **{"probe:1": probe})
    run(ask(), world)
    assert [r.mss for r in world.seen if isinstance(r, TryFix)] == ([mss] if mss else [])
    assert bool([r for r in world.seen if isinstance(r, MeasureHops)]) is hops


@pytest.mark.parametrize(
    ("spoken", "answered", "expected"),
    [("https", 0, ["https"]), ("http", 0, ["http"]), ("tcp", 60, ["tcp"]), ("tcp", 0, [])],
)
def test_a_trial_speaks_what_the_port_turned_out_to_speak(spoken: str, answered: int, expected: list[str]) -> None:
    """A port that says nothing by itself would make a plain TCP trial wait, and that it connects proves nothing."""
    probe = ProbeResult(ref="probe:1", contact=contact(protocol=spoken, answered=answered), reverse=(HOLE,))
    world = Fake(source=place(), state=state(), sockets=SocketFact(ref="sockets"), **{"probe:1": probe})
    run(ask("tcp://198.51.100.2:8443"), world)
    assert [r.protocol for r in world.seen if isinstance(r, TryFix)] == expected


@pytest.mark.parametrize(("timeout", "budget"), [(1.0, 0.6), (5.0, 3.0), (15.0, 3.0), (50.0, 10.0)])
def test_who_gives_more_time_measures_longer(timeout: float, budget: float) -> None:
    """A slow machine needs it: Python under emulation is seven times slower."""
    world = Fake(source=place(), state=state())
    run(ask(timeout=timeout), world)
    assert [r.budget for r in world.seen if isinstance(r, Measure)] == [budget]


def test_fast_asks_for_no_trial() -> None:
    probe = ProbeResult(ref="probe:1", contact=contact(), reverse=(HOLE,))
    world = Fake(source=place(), state=state(), **{"probe:1": probe})
    run(ask(fast=True), world)
    assert not [r for r in world.seen if isinstance(r, TryFix)]


@pytest.mark.parametrize(
    ("environ", "proxy", "host", "expected"),
    [
        ({}, None, "s.example", None),
        ({"https_proxy": "http://10.0.0.1:3128"}, None, "s.example", ("http", "10.0.0.1", 3128)),
        ({"HTTPS_PROXY": "http://user:pw@10.0.0.1:8080/"}, None, "s.example", ("http", "10.0.0.1", 8080)),
        ({"https_proxy": "http://10.0.0.1:3128", "no_proxy": ".example"}, None, "s.example", None),
        ({"https_proxy": "http://10.0.0.1:3128", "NO_PROXY": "198.51.100.0/24"}, None, "198.51.100.2", None),
        ({"https_proxy": "http://10.0.0.1:3128"}, "none", "s.example", None),
        ({}, "http://[2001:db8::5]:3128", "s.example", ("http", "2001:db8::5", 3128)),
        ({}, "proxy.example", "s.example", ("http", "proxy.example", 1080)),  # as curl: CURL_DEFAULT_PROXY_PORT
        (
            {"HTTPS_PROXY": "http://10.0.0.2:1", "https_proxy": "http://10.0.0.1:1"},
            None,
            "s.example",
            ("http", "10.0.0.1", 1),
        ),
        ({"https_proxy": "", "all_proxy": "http://10.0.0.1:1"}, None, "s.example", None),  # set, and to nothing
        ({"all_proxy": "http://10.0.0.1:1"}, None, "s.example", ("http", "10.0.0.1", 1)),
        ({"ALL_PROXY": "http://10.0.0.1:1"}, None, "s.example", ("http", "10.0.0.1", 1)),
        ({"http_proxy": "http://10.0.0.1:1"}, None, "s.example", None),  # this is https
        ({"https_proxy": "socks5h://10.0.0.1"}, None, "s.example", ("socks5h", "10.0.0.1", 1080)),
        ({"https_proxy": "https://10.0.0.1"}, None, "s.example", ("https", "10.0.0.1", 443)),
        ({"https_proxy": "http://10.0.0.1:99999"}, None, "s.example", None),
        ({"https_proxy": "http://"}, None, "s.example", None),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "other.example, s.example"}, None, "s.example", None),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "s.example."}, None, "S.example", None),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "ple"}, None, "s.example", ("http", "10.0.0.1", 1)),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "s.example:8443"}, None, "s.example", ("http", "10.0.0.1", 1)),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "", "NO_PROXY": "*"}, None, "s.example", ("http", "10.0.0.1", 1)),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "2001:db8::/32"}, None, "2001:db8::7", None),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "[2001:db8::7]"}, None, "2001:db8::7", None),
        ({"https_proxy": "10.0.0.1:1", "no_proxy": "100.2"}, None, "198.51.100.2", ("http", "10.0.0.1", 1)),
        ({"https_proxy": "[2001:db8::5]"}, None, "s.example", ("http", "2001:db8::5", 1080)),
    ],
)
def test_proxy_as_the_sources_environment_says(
    environ: dict[str, str], proxy: str | None, host: str, expected: tuple[str, str, int] | None
) -> None:
    question = ask(host=host, proxy=proxy)
    case = Case(schema=SCHEMA, version="t", ask=question).add(
        Locate(ref="source", where="netns:c"), (place(environ=environ),)
    )
    found = plan.proxy_of(case)
    assert (found and (found.scheme, found.host, found.port)) == expected


@pytest.mark.parametrize(
    ("environ", "target", "asked"),
    [
        # (port, protocol, host, sni, path, proxy): a tunnel is asked for, with the target's own name inside
        ("http://10.0.0.1:3128", "s.example", (3128, "https", "s.example:8443", "s.example", "/5", "s.example:8443")),
        ("http://10.0.0.1", "2001:db8::7", (1080, "https", "[2001:db8::7]:8443", None, "/5", "[2001:db8::7]:8443")),
        # nothing is sent through these: the way to them is measured
        ("https://10.0.0.1", "s.example", (443, "https", "10.0.0.1", None, "/", None)),
        ("socks5://10.0.0.1", "s.example", (1080, "tcp", "10.0.0.1", None, "/", None)),
    ],
)
def test_the_way_to_the_proxy_is_measured(environ: str, target: str, asked: tuple[object, ...]) -> None:
    world = Fake(source=place(environ={"https_proxy": environ}), state=state())
    run(ask(host=target), world)
    r = next(r for r in world.seen if isinstance(r, Measure))
    assert (r.address, r.port, r.protocol, r.host, r.sni, r.path, r.proxy) == ("10.0.0.1", *asked)


@pytest.mark.parametrize(("address", "polite"), [("198.51.100.2", False), ("93.184.216.34", True)])
def test_politeness_for_public_addresses(address: str, polite: bool) -> None:
    world = Fake(source=place(), state=state())
    run(ask(host=address), world)
    request = next(r for r in world.seen if isinstance(r, Measure))
    limits = (request.connections_per_round, request.connections_total, request.parallel)
    assert (limits == (4, 24, 4)) is polite


def test_what_state_explains_is_not_waited_for() -> None:
    """A rule that takes every SYN: its absence of an answer is no news after one repetition."""
    from cases import PLAIN, case, drop, table

    for tables, seconds in (({"h": (table("forward", drop()),)}, CONNECT_SHORT), ({}, CONNECT)):
        begun = case(PLAIN, tables=tables)
        asked = [r for r in plan._measure(begun) if isinstance(r, Measure)]
        assert [r.connect for r in asked] == [seconds]
