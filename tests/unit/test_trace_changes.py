"""What changes while packets are watched: devices, namespaces, the clock, and more packets than can be kept."""

import json
import resource
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from netlab import Net, nets
from weblab import lost, web

from pathfit.capture.times import Look, Times
from pathfit.capture.watch import Watcher
from pathfit.core.net import Point
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import Tap
from pathfit.host import netns
from pathfit.host.alarm import Late, alarm
from pathfit.host.ring import Ring

C4, S4 = "192.0.2.2", "203.0.113.2"
MEGABYTES = 500
ENOUGH = 150.0  # seconds for any run: less than one is asked to look, more than all of them take
ALL = [(6, 0, 0, 0x40000)]  # a filter that keeps everything
# The command, with something done when the watch has begun.
MEANWHILE = """
import subprocess, sys
from pathfit.capture import watch
from pathfit.cli.entry import main
change, watch.MOST = sys.argv.pop(1), int(sys.argv.pop(1))
begin = watch.Watcher.begin
def begun(self):
    found = begin(self)
    subprocess.run(change, shell=True, check=True)
    return found
watch.Watcher.begin = begun
sys.exit(main())
"""
# The clock is set by so many nanoseconds, so many nanoseconds after the watch has begun: for us, and for the rings.
SET = """
import sys, time
from pathfit.capture import watch
from pathfit.cli.entry import main
by, after = int(sys.argv.pop(1)), int(sys.argv.pop(1))
real, mono = time.time_ns, time.monotonic_ns
difference, packets = real() - mono(), watch.Block.packets
begin, conclude = watch.Watcher.begin, watch.Watcher._conclude
since = [1 << 62]
def begun(self):
    found = begin(self)
    since[0] = mono() + after
    return found
def stamped(at):
    return at + by if at - difference >= since[0] else at
def concluded(self, *words):
    last = [frame.time for frame in packets(self._blocks[-1][-1])][-1]
    if self._times.steps != 1 or stamped(last) == last:
        sys.exit("nothing was set")
    return conclude(self, *words)
watch.Block.packets = lambda block: (frame._replace(time=stamped(frame.time)) for frame in packets(block))
watch.Watcher.begin, watch.Watcher._conclude = begun, concluded
time.time_ns = lambda: stamped(real())
sys.exit(main())
"""
UNSEEN = """
import sys
from pathfit.capture import watch
from pathfit.cli.entry import main
by, every = int(sys.argv.pop(1)), int(sys.argv.pop(1))
packets = watch.Block.packets
def stamped(at):
    return at + by if at // every % 2 else at
watch.Block.packets = lambda block: (frame._replace(time=stamped(frame.time)) for frame in packets(block))
sys.exit(main())
"""
FLOOD = """
import socket, sys
s = socket.socket(type=2)
s.connect(("203.0.113.2", 8443))
for n in range(int(sys.argv[1])):
    try:
        s.send(b"x" * 40)
    except OSError:  # nobody listens there
        pass
"""


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(("192.0.2", "203.0.113"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


def traced(net: Net, code: str, *words: str, timeout: str = "5") -> tuple[int, dict[str, Any]]:
    own, more = words[:2], words[2:]  # what the code takes, and the command
    asked = [
        "trace",
        *more,
        "--from",
        f"netns:{net('c')}",
        "--to",
        "https://203.0.113.2:8443/50000",
        "--timeout",
        timeout,
    ]
    argv = [sys.executable, "-c", code, *own, *asked, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=ENOUGH, check=False)
    assert "Traceback" not in done.stderr and done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def missed(net: Net, document: dict[str, Any]) -> list[tuple[str, str]]:
    """(point, why) of points that were lost meanwhile."""
    found = [(m["what"], m["why"].partition(", since")[0]) for m in document["missing"]]
    points = [(what.replace(f"packets at netns:{net.prefix}-", ""), why) for what, why in found]
    return [(what, why) for what, why in points if "/" in what and "device" in why]


# -- devices ---------------------------------------------------------------------------------------------------------

DOWN, GONE = "the device is down", "the device was removed, or moved to another namespace"
CHANGES: dict[str, tuple[str, list[tuple[str, str]], set[str]]] = {
    # what is done, {r} {s} {x} namespaces; points that are none any more; verdicts that are right
    "goes down": ("ip -n {r} link set vs down", [("r/vs", DOWN)], {"unknown", "lost"}),
    "goes down, comes back under another name": (
        "ip -n {r} link set vs down; ip -n {r} link set vs name new; ip -n {r} link set new up",
        [("r/vs", DOWN)], {"unknown"},
    ),
    "is removed": ("ip -n {r} link del vs", [("r/vs", GONE), ("s/eth0", GONE)], {"unknown", "lost"}),
    "is moved": ("ip -n {r} link set vs netns {x}", [("r/vs", GONE)], {"unknown", "lost"}),
    "is made": ("ip -n {r} link add new type veth peer name new2; ip -n {r} link set new up", [], {"arrives"}),
    "a namespace loses its name": ("ip netns del {s}", [], {"arrives"}),
}  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize("case", CHANGES)
def test_a_device(net: Net, case: str) -> None:
    """Who is gone is told, and is no place of loss; the rest goes on."""
    change, points, verdicts = CHANGES[case]
    net.add("x")
    before = {name: net(name) for name in "rsx"}
    status, document = traced(net, MEANWHILE, change.format(**before), "100000")
    assert missed(net, document) == points
    assert document["verdict"] in verdicts
    assert status == {"arrives": 0, "lost": 1, "unknown": 3}[document["verdict"]]
    gone = {p for p, _ in points}
    assert not [x for x in lost(net, document) if {x[1], x[2]} & gone], "what it did not see says nothing"


@pytest.mark.lab
@pytest.mark.parametrize(("change", "why"), [("link set vs down", "down"), ("link del vs", "gone")])
def test_a_ring_whose_device_goes_is_told_once(net: Net, change: str, why: str) -> None:
    """poll(2) would say so for ever, and the reader never rest."""
    index = net.json("r", "ip", "link show vs")[0]["ifindex"]
    with netns.open_handle(f"/run/netns/{net('r')}", "r") as r:
        ring = Ring(r.fd, index, ALL)
        poll = select.poll()
        poll.register(ring.fd, 0)  # errors alone
        assert (poll.poll(0), ring.ended()) == ([], "")
        net.ip("r", change)
        assert poll.poll(5000) == [(ring.fd, select.POLLERR)]
        assert ring.ended() == why
        assert (poll.poll(0), ring.ended()) == ([], "")
        ring.close()


@pytest.mark.lab
def test_an_end_that_comes_too_late(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is up while it concludes: everything is taken away all the same."""

    def late(*_: object) -> None:
        raise Late("not done")

    monkeypatch.setattr(Watcher, "_conclude", late)
    link = net.json("r", "ip", "link show vs")[0]["ifindex"]
    with netns.open_handle(f"/run/netns/{net('r')}", "r") as r:
        tap = Tap(at=Point(host="h", netns="netns:r", link="vs"), netns=r.id, link=link)
        watcher = Watcher(Watch(ref="w", address=C4, taps=(tap,), hosts=(C4, S4), ports=()), {r.id: r.fd})
        assert watcher.begin() == 1
        assert len(net.inside("r", "cat", "/proc/net/packet").splitlines()) == 2
        with pytest.raises(Late):
            watcher.end(EndWatch(ref="e", linger=0.0))
        gone = time.monotonic() + 5
        while len(net.inside("r", "cat", "/proc/net/packet").splitlines()) > 1 and time.monotonic() < gone:
            pass  # the kernel sits out a grace period
        assert len(net.inside("r", "cat", "/proc/net/packet").splitlines()) == 1
    assert [t.name for t in threading.enumerate() if "_read_all" in t.name] == []


@pytest.mark.lab
def test_a_wait_that_is_interrupted(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken away from under the thread that reads it, whoever loses patience meanwhile."""
    reads, go, order = threading.Event(), threading.Event(), []
    read, close = Watcher._read, Ring.close

    def slowly(self: Watcher) -> None:
        reads.set()
        go.wait()
        read(self)
        order.append("read")

    def closed(self: Ring) -> None:
        order.append("closed")
        close(self)

    monkeypatch.setattr(Watcher, "_read", slowly)
    monkeypatch.setattr(Ring, "close", closed)
    link = net.json("r", "ip", "link show vs")[0]["ifindex"]
    with netns.open_handle(f"/run/netns/{net('r')}", "r") as r:
        tap = Tap(at=Point(host="h", netns="netns:r", link="vs"), netns=r.id, link=link)
        watcher = Watcher(Watch(ref="w", address=C4, taps=(tap,), hosts=(C4, S4), ports=()), {r.id: r.fd})
        assert watcher.begin() == 1 and reads.wait(30)
        threading.Timer(0.3, go.set).start()
        with pytest.raises(Late), alarm(0.1, again=30.0):
            watcher.end(EndWatch(ref="e", linger=0.0))
    assert order == ["read", "closed"]


# -- the clock -------------------------------------------------------------------------------------------------------

SECOND, MS = 1_000_000_000, 1_000_000


@pytest.mark.lab
@pytest.mark.parametrize("by", [-SECOND // 2, 30 * SECOND])
def test_the_clock_is_set_meanwhile(net: Net, by: int) -> None:
    """Stamps of packets jump with it: order, places and causes are the same."""
    net.drop("r", "forward", "iifname vs meta length > 1300 drop")
    _, document = traced(net, SET, str(by), str(100 * MS))
    found = [x[:3] for x in lost(net, document)]
    assert found == [("reverse", "r/vs", "r/vc")]
    times = [row["ms"] for row in document["ladder"]]
    assert times == sorted(times) and times[0] > 0 and times[-1] < 20_000, "seconds as they are, not thirty more"


@pytest.mark.lab
@pytest.mark.parametrize("by", [-3600 * SECOND, 3600 * SECOND])
def test_the_clock_is_set_forth_and_back_unseen(net: Net, by: int) -> None:
    """For half of the time, and no look at it fell there: those packets are none that any point did not see."""
    net.drop("r", "forward", "iifname vs meta length > 1300 drop")
    _, document = traced(net, UNSEEN, str(by), str(3 * MS))
    assert {x[:3] for x in lost(net, document)} <= {("reverse", "r/vs", "r/vc")}
    assert sum(p["lost"] for way in ("forward", "reverse") for p in document[way]["points"]) > 0
    assert all(0 < row["ms"] < 60_000 for row in document["ladder"][1:])


@given(
    jumps=st.lists(st.tuples(st.integers(0, 400), st.integers(-(10**13), 10**13)), max_size=3),
    packets=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), max_size=20),
)
@example(jumps=[(100, -SECOND)], packets=[(99, 15), (100, 0), (101, 9)])
@example(jumps=[(100, 2 * SECOND), (107, -2 * SECOND)], packets=[(99, 20), (103, 5), (106, 0), (106, 300)])
def test_every_packet_has_its_own_time(jumps: list[tuple[int, int]], packets: list[tuple[int, int]]) -> None:
    """Looked at every 5 ms; packets (when, how long until they are read, in ms) between jumps (when, by how much).
    Where the clock was set by less than the whole took there is more than one answer."""

    def real(at: int) -> int:
        return at + 17 * 10**17 + sum(by for when, by in jumps if when * MS <= at)

    sums = [0]
    for _, by in sorted(jumps):
        sums.append(sums[-1] + by)
    clear = all(abs(a - b) > 800 * MS for n, a in enumerate(sums) for b in sums[:n])
    clear = clear and len({when // 5 for when, _ in jumps}) == len(jumps)
    times = Times(Look(-1, real(-1)))
    for now in range(0, 760 * MS, 5 * MS):
        times.look(Look(now, real(now)))
        for when, late in packets:
            at = when * MS + 1
            if now - 5 * MS < at + late * MS <= now:
                found = times.monotonic(real(at), now)
                assert found == at or not clear, (at, found)
                assert found is None or found <= now
    assert times.steps <= len(jumps)


@pytest.mark.parametrize("by", [3600 * SECOND, -3600 * SECOND])
@pytest.mark.parametrize("before", [0, 20 * SECOND])
def test_set_forth_and_back_between_two_looks(by: int, before: int) -> None:
    """What was stamped meanwhile has no time that is known, and all else has its own. ``before``: it was set already,
    and seen to be."""
    times = Times(Look(0, 10**18))
    real = 10**18 + before
    for now in (5 * MS, 10 * MS, 400 * MS):
        times.look(Look(now, real + now))
    assert times.monotonic(real + 8 * MS, 400 * MS) == 8 * MS
    assert times.monotonic(real + by + 200 * MS, 400 * MS) is None
    assert times.monotonic(real + 390 * MS, 400 * MS) == 390 * MS
    assert times.monotonic(real + 401 * MS, 400 * MS) == 400 * MS, "the noise of looking"


def test_a_look_that_was_interrupted_says_nothing() -> None:
    times = Times(Look(0, 10 * SECOND))
    times.look(Look(5 * MS, 10 * SECOND + 9 * MS, took=8 * MS))
    assert times.steps == 0
    assert times.monotonic(10 * SECOND + 5 * MS, 6 * MS) == 5 * MS
    times.look(Look(15 * MS, 20 * SECOND, took=8 * MS))
    assert times.steps == 1, "but one that is far from it does"


# -- too many --------------------------------------------------------------------------------------------------------


def flood(net: Net, packets: int) -> str:
    """A command: datagrams of the flow, each seen at every point."""
    return shlex.join(["ip", "netns", "exec", net("c"), sys.executable, "-c", FLOOD, str(packets)])


@pytest.mark.lab
def test_more_packets_than_are_kept(net: Net) -> None:
    """It ends by itself and says so, and what it does not know of later ones is no loss."""
    status, document = traced(net, MEANWHILE, flood(net, 3000), "3000")
    assert (status, document["verdict"], document["losses"]) == (3, "unknown", [])
    assert 0 < document["cut_ms"] < 20_000
    assert sum(p["packets"] for p in document["forward"]["points"]) >= 2000


@pytest.mark.lab
def test_looking_ends_by_itself(net: Net) -> None:
    """Of a long flow it has soon seen enough: it does not wait for the end of the time that it was given."""
    _, document = traced(net, MEANWHILE, flood(net, 3000), "3000", "--follow", "300")
    assert 0 < document["cut_ms"] < 60_000


@pytest.mark.lab
@pytest.mark.slow
def test_a_hundred_thousand_packets(net: Net) -> None:
    """In bounds of memory and time, those of the whole command: following them is no square of their number."""
    _, document = traced(net, MEANWHILE, flood(net, 40_000), "100000", timeout="30")
    assert document["cut_ms"] > 0
    assert sum(p["packets"] for p in document["forward"]["points"]) > 90_000
    assert [x for x in document["losses"] if not x["causes"]] == []
    assert 40 * 1024 < resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEGABYTES * 1024
