"""Nothing hangs for ever: a request is interrupted, what follows is not begun, and the run still ends in a report."""

import signal
import threading

import pytest

from pathfit.core.evidence import ClockFact, Missing
from pathfit.core.request import Locate, ReadClock, ReadCounters
from pathfit.host.alarm import Late, alarm
from pathfit.host.worker import Worker
from pathfit.live import LiveWorld


def test_a_loop_is_interrupted_and_the_handler_restored() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(Late), alarm(0.05):
        while True:
            pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_request_that_hangs_becomes_missing_and_the_rest_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    world = LiveWorld(timeout=0.05)

    def hang(request: Locate) -> ClockFact:
        while True:
            pass

    monkeypatch.setitem(world._do, Locate, hang)
    with alarm(0.05):
        first = world.perform(Locate(ref="source", where="host"))
    second = world.perform(ReadCounters(ref="counters:before", source="host"))
    for (answer,) in (first, second):
        assert isinstance(answer, Missing)
        assert answer.code == "timeout"
        assert "--timeout" in answer.how
    assert isinstance(world.perform(ReadClock(ref="clock"))[0], ClockFact)


def test_a_thread_whose_waiting_was_interrupted_is_waited_for_again() -> None:
    """However often: it is over when its work is, not when somebody lost patience (Thread.join() mixes them up)."""
    go, ended = threading.Event(), []

    def work(word: str) -> None:
        go.wait()
        ended.append(word)

    one = Worker(work, "done")
    one.wait()  # it never began
    one.start()
    for _ in range(2):
        with pytest.raises(Late), alarm(0.02):
            one.wait()
        assert not ended
    threading.Timer(0.05, go.set).start()
    one.wait()
    assert ended == ["done"]
