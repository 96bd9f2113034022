"""What a watch keeps is bounded, what it cannot keep is counted to the packet, and others never come into its rings."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import nets
from test_wire_cbpf import A4, B4, PORT, Cable, cables, ether, inside

from pathfit.capture import watch
from pathfit.core.evidence import TraceFact
from pathfit.core.net import Point
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import Tap
from pathfit.host.ring import Block, Ring
from pathfit.host.symbols import Symbols

MINE = ether(inside(4))
ANOTHER = ether(inside(4)[:-2] + b"\0\0").replace(PORT.to_bytes(2, "big"), (PORT + 1).to_bytes(2, "big"))


@pytest.fixture
def cable() -> Iterator[Cable]:
    with nets() as net, cables(net) as made:
        yield made


def watcher(cable: Cable) -> watch.Watcher:
    tap = Tap(at=Point(host="h", netns="netns:b", link="eth0"), netns="b", link=cable.link)
    hosts = ("192.0.2.1", "198.51.100.2")
    assert {bytes(map(int, x.split("."))) for x in hosts} == {A4, B4}
    return watch.Watcher(Watch(ref="w", address=hosts[1], taps=(tap,), hosts=hosts, ports=(PORT,)), {"b": cable.fd})


def ended(one: watch.Watcher) -> TraceFact:
    return one.end(EndWatch(ref="e", linger=0.0))


@pytest.mark.lab
def test_of_many_others_nothing_comes_in(cable: Cable) -> None:
    """The kernel's own counters of the tap: what is not the flow's never reaches it."""
    one = watcher(cable)
    assert one.begin() == 1
    for n in range(3000):
        cable.out.send(MINE if n % 1000 == 0 else ANOTHER)
    (ring,) = one._rings.values()
    assert ring.counts() == (3, 0)
    fact = ended(one)
    assert [x.length for x in fact.seen] == [len(MINE)] * 3 and not fact.lost and not fact.cut


@pytest.mark.lab
def test_what_nobody_had_time_for_is_counted(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of two small blocks, and a reader that comes when all is over."""
    late = threading.Event()

    class Small(Ring):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, blocks=2, block=1 << 13)  # type: ignore[arg-type]

        def take(self) -> Iterator[Block]:
            return super().take() if late.is_set() else iter(())

    monkeypatch.setattr(watch, "Ring", Small)
    one = watcher(cable)
    one.begin()
    for _ in range(1000):
        cable.out.send(MINE)
    late.set()
    fact = ended(one)
    (lost,) = fact.lost
    assert lost.kept == len(fact.seen) > 50 and lost.kept + lost.lost == 1000
    assert all(x.data == fact.seen[0].data for x in fact.seen) and MINE.startswith(fact.seen[0].data)


@pytest.mark.lab
def test_what_is_kept_is_bounded(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    """With enough of them the watch is over by itself: no ring is left that a packet could enter."""
    monkeypatch.setattr(watch, "MOST", 500)
    one = watcher(cable)
    one.begin()
    end = time.monotonic() + 20
    sent = 0
    while one._rings and time.monotonic() < end:
        cable.out.send(MINE)
        sent += 1
    assert not one._rings and sent > 500
    fact = ended(one)
    block = (1 << 15) // len(MINE)
    assert fact.cut and 500 < len(fact.seen) <= 500 + block


def test_names_of_functions(tmp_path: Path) -> None:
    table = tmp_path / "kallsyms"
    table.write_text(
        "ffffffff81000100 T second\n"
        "0000000000000000 A fixed_percpu_data\n"
        "ffffffff81000000 t first.isra.0\n"
        "ffffffff81000180 d no_function\n"
        "ffffffffc0000000 t veth_xmit\t[veth]\n"
    )
    names = Symbols(str(table))
    asked = (0xFFFFFFFF81000000, 0xFFFFFFFF810000FF, 0xFFFFFFFF81000190, 0xFFFFFFFFC0000010, 5, (1 << 64) - 1)
    assert names.names(asked) == ("first", "first", "second", "veth_xmit", "", "")
    table.write_text("0000000000000000 T hidden\n0000000000000000 T too\n")
    assert Symbols(str(table)).names((0, 17, 0xFFFFFFFF81000000)) == ("", "", "")
    table.write_text("")
    assert Symbols(str(table)).name(1) == ""
