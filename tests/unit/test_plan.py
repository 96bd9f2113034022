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
from pathfit.core.measured import Bracket, Contact
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
        ((V6_DEFAULT,), ["2001:db8:5::2", "198.51.100.2"]),
        ((), ["198.51.100.2", "2001:db8:5::2"]),
    ],
)
def test_addresses_in_the_order_a_client_tries_them(routes: tuple[Route, ...], order: list[str]) -> None:
    name = NameFact(ref="name", name="s.example", addresses=("198.51.100.2", "2001:db8:5::2"))
    world = Fake(source=place(), state=state(*routes), name=name)
    run(ask(host="s.example"), world)
    assert [r.address for r in world.seen if isinstance(r, Measure)] == order


def test_second_address_is_measured_in_full_only_when_the_first_cannot_be_reached() -> None:
    name = NameFact(ref="name", name="s.example", addresses=("198.51.100.2", "198.51.100.3"))
    for tcp, full in (("ok", [False, True]), ("timeout", [False, False])):
        probes = {
            "probe:1": ProbeResult(ref="probe:1", contact=contact(tcp=tcp)),
            "probe:2": ProbeResult(ref="probe:2", contact=contact("198.51.100.3")),
        }
        world = Fake(source=place(), state=state(), name=name, **probes)
        run(ask(host="s.example"), world)
        assert [r.contact_only for r in world.seen if isinstance(r, Measure)] == full


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


def test_fast_asks_for_no_trial() -> None:
    probe = ProbeResult(ref="probe:1", contact=contact(), reverse=(HOLE,))
    world = Fake(source=place(), state=state(), **{"probe:1": probe})
    run(ask(fast=True), world)
    assert not [r for r in world.seen if isinstance(r, TryFix)]


@pytest.mark.parametrize(
    ("environ", "proxy", "host", "expected"),
    [
        ({}, None, "s.example", None),
        ({"https_proxy": "http://10.0.0.1:3128"}, None, "s.example", ("10.0.0.1", 3128)),
        ({"HTTPS_PROXY": "http://user:pw@10.0.0.1:8080/"}, None, "s.example", ("10.0.0.1", 8080)),
        ({"https_proxy": "http://10.0.0.1:3128", "no_proxy": ".example"}, None, "s.example", None),
        ({"https_proxy": "http://10.0.0.1:3128", "NO_PROXY": "198.51.100.0/24"}, None, "198.51.100.2", None),
        ({"https_proxy": "http://10.0.0.1:3128"}, "none", "s.example", None),
        ({}, "http://[2001:db8::5]:3128", "s.example", ("2001:db8::5", 3128)),
        ({}, "proxy.example", "s.example", ("proxy.example", 3128)),
    ],
)
def test_proxy_as_the_sources_environment_says(
    environ: dict[str, str], proxy: str | None, host: str, expected: tuple[str, int] | None
) -> None:
    question = ask(host=host, proxy=proxy)
    case = Case(schema=SCHEMA, version="t", ask=question).add(
        Locate(ref="source", where="netns:c"), (place(environ=environ),)
    )
    assert plan.proxy_of(case) == expected


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
