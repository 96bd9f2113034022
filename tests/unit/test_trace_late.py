"""A watch ends, and says what it saw, when the time is up: before it is asked to end, and while it looks on."""

import ctypes
import itertools
from collections.abc import Iterator
from time import monotonic

import pytest
from netlab import Net, nets

from pathfit.capture.watch import Watcher
from pathfit.core.evidence import Missing, TraceFact, WatchFact
from pathfit.core.net import Point
from pathfit.core.request import EndWatch, ReadSockets, Watch
from pathfit.core.tracing import Stop, Tap
from pathfit.host import bpf
from pathfit.host.alarm import Late, alarm
from pathfit.live import LiveWorld
from pathfit.wire import traced

pytestmark = [pytest.mark.lab, pytest.mark.real_root]
LONG = 600.0  # seconds: nobody waits for that


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        yield net


def watch(net: Net) -> Watch:
    """One tap, at c's device."""
    info = net.inside("c", "stat", "-Lc", "%d:%i", "/proc/self/ns/net").strip()
    index = int(net.inside("c", "cat", "/sys/class/net/eth0/ifindex"))
    tap = Tap(at=Point(host="h", netns=f"netns:{net('c')}", link="eth0"), netns=info, link=index)
    hosts = ("192.0.2.2", "198.51.100.2")
    return Watch(ref="watch", address=hosts[1], taps=(tap,), hosts=hosts, ports=(), forward=(Stop(0, True),))


def begun(net: Net, world: LiveWorld) -> None:
    (fact,) = world.perform(watch(net))
    assert isinstance(fact, WatchFact) and fact.taps == 1, fact
    net.inside("c", "ping", "-c", "3", "-i", "0.01", "-W", "5", "198.51.100.2")


def test_what_was_seen_is_told_though_the_time_is_up(net: Net) -> None:
    with LiveWorld(timeout=LONG) as world:
        begun(net, world)
        world._start -= LONG
        (other,) = world.perform(ReadSockets(ref="sockets", source=f"netns:{net('c')}"))
        assert isinstance(other, Missing) and other.code == "timeout", "or nothing is late here"
        (fact,) = world.perform(EndWatch(ref="watch:end"))
    assert isinstance(fact, TraceFact) and len(fact.seen) == 6 and not fact.lost


def test_the_time_is_up_while_it_looks_on(net: Net) -> None:
    with LiveWorld(timeout=LONG) as world:
        begun(net, world)
        began = monotonic()
        with alarm(0.2, LONG):
            (fact,) = world.perform(EndWatch(ref="watch:end", linger=LONG))
    assert isinstance(fact, TraceFact) and len(fact.seen) == 6 and not fact.lost
    assert monotonic() - began < LONG / 2


def test_of_a_tap_that_is_not_read_to_its_end_what_is_missing_is_counted(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is up after the last look of the thread that reads: what the ring still has is lost, and said to be."""
    with LiveWorld(timeout=LONG) as world:
        (fact,) = world.perform(watch(net))
        assert isinstance(fact, WatchFact) and fact.taps == 1 and world._watcher is not None
        monkeypatch.setattr(Watcher, "_take", lambda self: iter(()))
        net.inside("c", "ping", "-c", "3", "-i", "0.01", "-W", "5", "198.51.100.2")

        def late(self: Watcher, wanted: object) -> None:
            raise Late("now")

        monkeypatch.setattr(Watcher, "_flush", late)
        (end,) = world.perform(EndWatch(ref="watch:end"))
    assert isinstance(end, TraceFact) and end.seen == ()
    assert [(x.tap, x.lost) for x in end.lost] == [(0, 6)]


def test_a_buffer_that_fills_faster_than_it_is_read_does_not_hold_the_reader() -> None:
    """As libbpf reads: on and on while there is more, until it is told to stop."""

    class Endless:
        def __init__(self) -> None:
            self.at = 0

        def ring_buffer__consume(self, ring: object) -> None:
            words = [ctypes.create_string_buffer(n.to_bytes(4, "big"), 4) for n in range(self.at, self.at + 100)]
            for word in itertools.cycle(words):
                self.at += 1
                if program._tell(0, ctypes.addressof(word), 4) < 0:
                    return

    program = object.__new__(bpf.Program)
    program._lib, program._ring, program._heard = Endless(), 1, []
    assert [len(program.events()) for _ in range(2)] == [bpf.AT_ONCE] * 2
    assert bpf.AT_ONCE > (1 << 21) // traced.EVENT_SIZE, "more than the buffer holds (trace.bpf.c)"
