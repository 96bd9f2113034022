"""Servers that hang up after one answer, and those that serve one connection after the other."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from pathfit.core.measured import Bracket
from pathfit.measure.evenly import Evenly
from pathfit.measure.forward import Forward, Lane
from pathfit.probe.speech.talk import Script, Talk
from pathfit.probe.tcp.ahead import Ahead
from pathfit.probe.tcp.conn import Trouble
from pathfit.probe.tcp.contact import _reset

BODY = b"Content-Length: 3\r\n\r\nok\n"


@pytest.mark.parametrize(
    ("head", "asks_more"),
    [
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\n", False),
    ],
)
def test_no_row_of_requests_for_a_server_that_hangs_up(head: bytes, asks_more: bool) -> None:
    """RFC 9112 9.3. Without the row, what is asked next is the page again, which may be long enough."""
    talk = Talk(Script(protocol="http", host="s"), 1400)
    talk.start()
    talk.feed(head + BODY)
    assert talk.whole
    assert bool(talk.more()) is asks_more
    assert talk.done is not asks_more


def conn(*, keep: bool = False, stood: bool = True, stage: str = "get", code: int = 0) -> Any:
    trouble = Trouble(code, 1.0, "request") if code else None
    track = SimpleNamespace(connected=0.1 if stood else None)
    return SimpleNamespace(keep=keep, track=track, talk=SimpleNamespace(stage=stage), trouble=trouble, local_port=1)


@pytest.mark.parametrize(
    ("conns", "reset"),
    [
        ([conn(keep=True), conn(code=errno.ECONNRESET)], False),  # overflowed a backlog of five
        ([conn(keep=True, stage="many", code=errno.EPIPE)], False),  # had hung up after the first of a row
        ([conn(keep=True, code=errno.ECONNRESET), conn()], True),
        ([conn(keep=True, stood=False), conn(code=errno.ECONNRESET)], True),  # no plain one says anything
        ([conn(keep=True, stood=False, code=errno.ECONNREFUSED)], True),
    ],
)
def test_whose_reset_counts(conns: list[Any], reset: bool) -> None:
    assert (_reset(SimpleNamespace(all=conns, lookout=None)) is not None) is reset  # type: ignore[arg-type]


def test_lanes_are_given_back_when_the_way_out_is_known() -> None:
    """A server that serves one connection at a time waits for what we never say on them. Others are opened only when
    nothing else is asked."""
    closed: list[int] = []
    idle = False
    ahead = Ahead.__new__(Ahead)
    ahead.left, ahead.before, ahead.idle, ahead.holes = False, None, lambda: idle, True
    ahead.search = Forward(family=4, start=0.0, lanes=[Lane(n=0, ready=True, ceiling=1500, passed=1500, answered={1})])
    ahead.search.give_up("")
    ahead.seats = {n: SimpleNamespace(close=lambda n=n: closed.append(n)) for n in (0, 1)}  # type: ignore[misc]
    ahead.step(1.0)
    ahead.step(2.0)
    assert closed == [0, 1] and ahead.before is None and not ahead.done
    idle = True
    ahead.step(3.0)
    assert closed == [0, 1] and isinstance(ahead.search, Evenly) and not ahead.seats and not ahead.done
    ahead.search.give_up("")
    assert ahead.done


def test_nobody_else_is_asked_where_connections_are_few() -> None:
    ahead = Ahead.__new__(Ahead)
    ahead.left, ahead.before, ahead.idle, ahead.seats = False, None, None, {}
    ahead.search = Forward(family=4, start=0.0, lanes=[Lane(n=0, ready=True, ceiling=1500, passed=1500, answered={1})])
    ahead.search.give_up("")
    ahead.step(1.0)
    assert ahead.done and ahead.before is None


def test_behind_a_hole_others_are_asked_where_no_first_flight_is_measured() -> None:
    found = Bracket(method="tcp-sack", tests="forward", passes=1400, fails=1401, grade="proof")
    ahead = Ahead.__new__(Ahead)
    ahead.before, ahead.idle = None, lambda: True
    ahead.search = SimpleNamespace(finished=True, bracket=lambda: found)  # type: ignore[assignment]
    for holes in (True, False):
        ahead.holes = holes
        assert ahead.done is not holes
