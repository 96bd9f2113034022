"""Of a cable of which both halves are watched each tap hears what comes in, which is what left by the other half; what
is lost in between, the kernel tells."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from netlab import Net
from test_trace_rules import S4, segment
from weblab import documented, lost

from pathfit.capture.cables import Cables
from pathfit.capture.drops import Drop
from pathfit.capture.watch import Watcher
from pathfit.cli.saved import open_case
from pathfit.core.evidence import StateFact, TraceFact
from pathfit.core.net import Point
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import Tap
from pathfit.host import symbols
from pathfit.model.dropped import UNKNOWN, came_across, in_cable
from pathfit.model.taps import _cables
from pathfit.rules import forecast
from pathfit.wire import dissect
from pathfit.wire.traced import Traced

# The command, with something done when the watch has begun; "whole": every tap hears both directions.
BEGUN = """
import subprocess, sys
from pathfit.capture import watch
from pathfit.cli.entry import main
from pathfit.rules import unsettled
change, whole = sys.argv.pop(1), sys.argv.pop(1)
begin = watch.Watcher.begin
def begun(self):
    found = begin(self)
    subprocess.run(change, shell=True, check=True)
    return found
watch.Watcher.begin = begun
if whole:
    unsettled._carries = lambda view: False
sys.exit(main())
"""
root = pytest.mark.real_root


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with documented() as net:
        yield net


def traced(net: Net, folder: Path, change: str = "true", *, whole: bool = False) -> tuple[dict[str, Any], Watch]:
    """The document, and what was asked for."""
    words = [sys.executable, "-c", BEGUN, change, "whole" if whole else "", "trace", "--json", "--timeout", "40"]
    words += ["--from", f"netns:{net('c')}", "--to", S4, "--save", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout, done.stderr
    (asked,) = [x.request for x in open_case(folder).exchanges if isinstance(x.request, Watch)]
    return json.loads(done.stdout), asked


def passed(document: dict[str, Any]) -> list[tuple[str, list[tuple[str, bool]], bool]]:
    """Of each direction its points, and whether all of them saw the same number of packets."""
    found = []
    for way in ("forward", "reverse"):
        points = document[way]["points"]
        at = [(f"{p['at']['netns'].rpartition('-')[2]}/{p['at']['link']}", p["out"]) for p in points]
        found.append((way, at, len({p["packets"] for p in points}) == 1))
    return found


@pytest.mark.lab
@root
def test_one_half_of_a_cable_hears_for_the_other(net: Net, tmp_path: Path) -> None:
    """The same is seen at the same points, as when each hears everything."""
    halves, asked = traced(net, tmp_path / "halves")
    whole, other = traced(net, tmp_path / "whole", whole=True)
    assert len(asked.cables) == 2 and not other.cables and asked.taps == other.taps
    assert halves["verdict"] == whole["verdict"] == "arrives"
    assert passed(halves) == passed(whole)
    assert all(same for _, _, same in passed(halves))
    case = open_case(tmp_path / "halves")
    (fact,) = case.all(TraceFact)
    halves_of = {n: m for a, b in asked.cables for n, m in ((a, b), (b, a))}
    came = [(x.tap, x.data, x.length) for x in fact.seen if not x.out and x.tap in halves_of]
    left = [(halves_of[x.tap], x.data, x.length) for x in fact.seen if x.out and x.tap in halves_of]
    assert came == left and came and not fact.lost

    state = case.one("state", StateFact)
    assert state is not None
    assert tuple(_cables(forecast.network(state.host), asked.taps)) == asked.cables
    program = [replace(n, links=tuple(replace(x, xdp=x.name == "vs") for x in n.links)) for n in state.host.namespaces]
    (kept,) = _cables(forecast.network(replace(state.host, namespaces=tuple(program))), asked.taps)
    assert {asked.taps[n].at.link for n in kept} == {"eth0", "vc"}, "a program may take packets before a tap sees them"


@pytest.mark.lab
@root
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_lost_in_a_cable_is_lost_there_all_the_same(net: Net, tmp_path: Path, whole: bool) -> None:
    """A device becomes smaller when nobody expects it: the kernel's word says where, and no other place is named."""
    document, asked = traced(net, tmp_path, f"ip -n {net('r')} link set vs mtu 900", whole=whole)
    assert len(asked.cables) == (0 if whole else 2)
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    (cause,) = loss["causes"]
    assert (cause["why"], cause["at"]["link"], cause["limit"]) == ("peer-too-small", "eth0", "peer")
    assert loss["smallest"] >= 905 and loss["largest"] <= 1500 and loss["passed"] <= 904
    assert [x[1:3] for x in lost(net, document) if x[0] == "reverse"] == [("s/eth0", "r/vs")]
    points = [p["packets"] for p in document["reverse"]["points"]]
    assert points[0] > points[1] == points[2] == points[3]


# -- one watch -------------------------------------------------------------------------------------------------------


def pinged(net: Net, count: int, cables: tuple[tuple[int, int], ...], without: str = "") -> TraceFact:
    """What is seen of so many echoes from c to s on the cable to r. ``without``: a device that is not there."""
    taps: list[Tap] = []
    fds: dict[str, int | None] = {}
    hosts = ("192.0.2.77", "198.51.100.77")
    with ExitStack() as stack:
        for name, link in (("c", "eth0"), ("r", "vc")):
            fd = os.open(f"/run/netns/{net(name)}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            index = int(net.inside(name, "cat", f"/sys/class/net/{link}/ifindex")) if link != without else 1 << 20
            fds[name] = fd
            taps.append(Tap(at=Point(host="h", netns=name, link=link), netns=name, link=index))
        asked = Watch(ref="w", address=hosts[1], taps=tuple(taps), hosts=hosts, ports=(), cables=cables)
        one = Watcher(asked, fds)
        assert one.begin() == 2 - bool(without)
        net.inside("c", "ping", "-c", str(count), "-i", "0.01", "-W", "5", hosts[1])
        return one.end(EndWatch(ref="e"))


@pytest.mark.lab
@root
@pytest.mark.parametrize("cables", [(), ((0, 1),)])
def test_each_packet_is_seen_twice(net: Net, cables: tuple[tuple[int, int], ...]) -> None:
    fact = pinged(net, 5, cables)
    seen = sorted((x.tap, x.out) for x in fact.seen)
    assert seen == sorted([(0, True), (1, False), (1, True), (0, False)] * 5) and not fact.lost
    order = sorted(fact.seen, key=lambda x: x.time)
    assert [(x.tap, x.out) for x in order][:4] == [(0, True), (1, False), (1, True), (0, False)]


@pytest.mark.lab
@root
def test_a_tap_that_cannot_be_had_leaves_the_other_whole(net: Net) -> None:
    """It hears both directions then, and nothing is made up."""
    fact = pinged(net, 3, cables=((0, 1),), without="vc")
    assert sorted((x.tap, x.out) for x in fact.seen) == [(0, False)] * 3 + [(0, True)] * 3


# -- from values -----------------------------------------------------------------------------------------------------

BELOW = ("__netif_receive_skb_one_core", "process_backlog", "__napi_poll", "__dev_queue_xmit", "dev_hard_start_xmit")


@pytest.mark.parametrize(
    ("functions", "within", "across"),
    [
        (("veth_xmit", "dev_hard_start_xmit", "__dev_queue_xmit", "ip_finish_output2"), True, False),
        (("__dev_forward_skb2", "veth_forward_skb", "veth_xmit", "dev_hard_start_xmit"), True, False),
        (("enqueue_to_backlog", "netif_rx_internal", "__netif_rx", "veth_xmit", "dev_hard_start_xmit"), True, True),
        (("__dev_queue_xmit", "ip_finish_output2", "ip_forward", *BELOW), False, False),
        (("nft_do_chain", "nft_do_chain_inet", "nf_hook_slow", "ip_forward", *BELOW), False, False),
        (("sch_handle_egress", "__dev_queue_xmit", "ip_finish_output2"), False, False),
        (("br_handle_frame", "__netif_receive_skb_core", "process_backlog"), False, False),
        (("do_xdp_generic", "__netif_receive_skb_core"), False, False),
        (("neigh_invalidate", "neigh_timer_handler", "call_timer_fn", "handle_softirqs", *BELOW), False, False),
        (("arp_error_report", "neigh_invalidate", "neigh_timer_handler"), False, False),
        (("flush_backlog", "process_one_work"), None, False),
        (("kfree_skb_list_reason", "process_backlog", "__napi_poll", *BELOW), None, False),
        (("skb_queue_purge_reason", "veth_poll", "__napi_poll"), None, False),
        (("", "", ""), None, False),
        ((), None, False),
    ],
)
def test_in_a_cable_is_between_its_taps(functions: tuple[str, ...], within: bool | None, across: bool) -> None:
    assert in_cable(functions) is within
    if within:
        assert came_across(functions) == across


TAPS = tuple(
    Tap(at=Point(host="h", netns=n, link=x), netns=f"4:{i}", link=i) for n, x, i in (("a", "l", 8), ("b", "r", 9))
)
VETH = ("veth_xmit", "dev_hard_start_xmit", "__dev_queue_xmit")
QUEUE = ("enqueue_to_backlog", "netif_rx_internal", "__netif_rx", *VETH)


def drop(functions: tuple[str, ...], netns: int, device: str, data: bytes) -> Drop:
    at = Traced("dropped", 900, 1, 2, (), 0, netns, 3, device, 77, 0, 0, 0, "", 0, 0, 0, 0x800, data)
    return Drop(UNKNOWN, "", functions[0] if functions else "", functions[1:], at, dissect.packet(data))


def halves() -> Cables:
    it = Cables()
    it.far = {0: 1, 1: 0}
    return it


@pytest.mark.parametrize(
    ("one", "left", "unknown"),
    [
        (drop(VETH, 8, "l", segment()), [0], {}),
        (drop(VETH, 9, "r", segment()), [1], {}),
        (drop(QUEUE, 9, "r", segment()), [0], {}),  # it bears the far half's device already
        (drop(("__dev_queue_xmit", "ip_forward"), 8, "l", segment()), [], {}),  # before the tap
        (drop(VETH, 8, "other", segment()), [], {}),
        (drop(VETH, 7, "l", segment()), [], {}),
        (drop(("", ""), 8, "l", segment()), [], {0: 1, 1: 1}),
        (drop((), 9, "r", segment()), [], {0: 1, 1: 1}),
        (drop(VETH, 8, "l", bytes(20)), [], {0: 1, 1: 1}),  # no packet of IP
    ],
)
def test_what_a_cable_took_has_left(one: Drop, left: list[int], unknown: dict[int, int]) -> None:
    found, more = halves().in_between([one], TAPS, 500)
    assert [x.tap for x in found] == left and more == unknown
    for seen in found:
        assert (seen.time, seen.length, seen.out) == (399, 1500 + 14, True)
        inner = dissect.frame(seen.data).inner
        assert inner is not None and inner.transport == dissect.packet(segment()).layers[0].transport


def test_what_one_half_lost_the_other_has_lost_as_well() -> None:
    assert halves().lost({0: 2, 1: 0, 5: 1}, 0) == {0: 2, 1: 2, 5: 1}
    assert halves().lost({0: 2, 1: 3}, 4) == {0: 9, 1: 9}, "what nobody heard of may have been in the cable"
    assert Cables().lost({0: 2}, 4) == {0: 2}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("0000000000000000 A fixed_percpu_data\n0000000000001000 A cpu_debug_store\n", True),
        ("0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n", False),
        ("ffffffff81000000 T _text\n", True),
        ("", False),
    ],
)
def test_hidden_addresses_are_noticed(tmp_path: Path, text: str, there: bool) -> None:
    (tmp_path / "kallsyms").write_text(text)
    assert symbols.shown(str(tmp_path / "kallsyms")) == there
    assert not symbols.shown(str(tmp_path / "none"))
