"""Of a cable of which both halves are watched each tap hears what comes in, which is what left by the other half; what
is lost in between, the kernel tells."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Net, nets
from test_trace_rules import S4
from weblab import lost, web

from pathfit.capture.watch import Watcher
from pathfit.cli.saved import open_case
from pathfit.core.evidence import TraceFact
from pathfit.core.net import Point
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import Tap
from pathfit.model.dropped import came_across, in_cable

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
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 77)
        with web(net):
            yield net


def traced(net: Net, folder: Path, change: str = "true", *, whole: bool = False) -> tuple[dict[str, Any], Watch]:
    """The document, and what was asked for."""
    words = [sys.executable, "-c", BEGUN, change, "whole" if whole else "", "trace", "--json", "--timeout", "8"]
    words += ["--from", f"netns:{net('c')}", "--to", S4, "--save", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
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
    (fact,) = open_case(tmp_path / "halves").all(TraceFact)
    halves_of = {n: m for a, b in asked.cables for n, m in ((a, b), (b, a))}
    came = [(x.tap, x.data, x.length) for x in fact.seen if not x.out and x.tap in halves_of]
    left = [(halves_of[x.tap], x.data, x.length) for x in fact.seen if x.out and x.tap in halves_of]
    assert came == left and came and not fact.lost


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
    assert loss["smallest"] >= 905 and loss["largest"] == 1500 and loss["passed"] <= 904
    assert [x[1:3] for x in lost(net, document) if x[0] == "reverse"] == [("s/eth0", "r/vs")]
    points = [p["packets"] for p in document["reverse"]["points"]]
    assert points[0] > points[1] == points[2] == points[3]


# -- one watch -------------------------------------------------------------------------------------------------------


def pinged(net: Net, count: int, **more: Any) -> TraceFact:
    """What is seen of so many echoes from c to r, on the cable between them."""
    taps, fds = [], {}
    for name, link in (("c", "eth0"), ("r", "vc")):
        fds[name] = netns_of(net, name)
        index = int(net.inside(name, "cat", f"/sys/class/net/{link}/ifindex"))
        inode = net.inside(name, "stat", "-Lc", "%d:%i", "/proc/self/ns/net").strip()
        taps.append(Tap(at=Point(host="h", netns=name, link=link), netns=inode, link=index))
        fds[inode] = fds.pop(name)
    hosts = ("192.0.2.77", "198.51.100.77")
    one = Watcher(Watch(ref="w", address=hosts[1], taps=tuple(taps), hosts=hosts, ports=(), **more), fds)
    assert one.begin() == 2
    net.inside("c", "ping", "-c", str(count), "-i", "0.01", "-W", "5", hosts[1])
    return one.end(EndWatch(ref="e"))


def netns_of(net: Net, name: str) -> int:
    return os.open(f"/run/netns/{net(name)}", os.O_RDONLY | os.O_CLOEXEC)


@pytest.mark.lab
@root
@pytest.mark.parametrize("cables", [(), ((0, 1),)])
def test_each_packet_is_seen_twice(net: Net, cables: tuple[tuple[int, int], ...]) -> None:
    fact = pinged(net, 5, cables=cables)
    seen = sorted((x.tap, x.out) for x in fact.seen)
    assert seen == sorted([(0, True), (1, False), (1, True), (0, False)] * 5) and not fact.lost
    order = sorted(fact.seen, key=lambda x: x.time)
    assert [(x.tap, x.out) for x in order][:4] == [(0, True), (1, False), (1, True), (0, False)]


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
        (("", "", ""), None, False),
        ((), None, False),
    ],
)
def test_in_a_cable_is_between_its_taps(functions: tuple[str, ...], within: bool | None, across: bool) -> None:
    assert in_cable(functions) is within
    if within:
        assert came_across(functions) == across
