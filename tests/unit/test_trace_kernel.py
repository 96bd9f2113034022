"""`pathfit trace` and what the kernel does without a word of its own: tunnels that answer, ports of bridges, fragments.

The other rows of the kernel's table are in test_capture_drops.py, which says which is where.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from netlab import Net, nets
from test_trace import CERTS, SERVE, SERVER, lost, traced

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

INNER = ("10.5.0.2", "10.5.0.3")
URL = f"https://{INNER[1]}:8443/50000"


def quiet(net: Net, name: str, *links: str) -> None:
    for link in links:
        net.plain(name, link)


@contextmanager
def serving(net: Net) -> Iterator[None]:
    with net.serving("s", SERVE, sys.executable, str(SERVER), str(CERTS / "chain.pem"), str(CERTS / "chain.key")):
        yield


@pytest.fixture
def switched() -> Iterator[Net]:
    """c (10.5.0.2) - the bridge of h - the bridge of k - s (10.5.0.3), between the hosts a VXLAN over cables of 1500;
    everything promises 1500."""
    with nets() as net:
        net.add("c", "h", "k", "s")
        net.ip("h", f"link add eth0 type veth peer name eth0 netns {net('k')}")
        for host, end, number in (("h", "c", 2), ("k", "s", 3)):
            other = {"h": 2, "k": 1}[host]
            net.ip(host, f"link add p{end} type veth peer name eth0 netns {net(end)}")
            vxlan = f"vxlan id 7 local 192.0.2.{3 - other} remote 192.0.2.{other} dstport 4789"
            net.batch(
                host,
                f"""link add br0 type bridge
                link add vx0 type {vxlan}
                link set vx0 mtu 1500 master br0
                link set p{end} master br0
                addr add 192.0.2.{3 - other}/24 dev eth0
                link set eth0 up\nlink set br0 up\nlink set vx0 up\nlink set p{end} up""",
            )
            net.batch(end, f"link set eth0 up\naddr add 10.5.0.{number}/24 dev eth0")
            quiet(net, end, "eth0")
            quiet(net, host, "eth0", f"p{end}", "vx0")
        with serving(net):
            yield net


def by_direction(net: Net, document: dict[str, Any], direction: str) -> list[tuple[str | None, str | None, list[str]]]:
    return [(a, b, why) for d, a, b, why in lost(net, document) if d == direction]


def test_a_tunnel_that_answers_in_its_far_end_s_name(switched: Net) -> None:
    """Nothing is dropped: the packet itself becomes "too big" from the other container's address
    (iptunnel_pmtud_build_icmp()). The place is where it was last, and the answer is its cause."""
    status, document = traced(switched, to=URL)
    assert status == 1
    forward = by_direction(switched, document, "forward")
    assert forward == [("h/vx0", "h/eth0", ["answered"])], forward
    (loss,) = [x for x in document["losses"] if x["direction"] == "forward"]
    assert (loss["causes"][0]["mtu"], loss["causes"][0]["told"]) == (1450, True)
    assert loss["passed"] <= 1450 < loss["smallest"]


@pytest.mark.parametrize("filtered", ["1", "0"], ids=["bridge-nf", "without"])
def test_a_bridge_s_port(switched: Net, filtered: str) -> None:
    """Without bridge-nf no counter moves: the place is right all the same."""
    key = "net.bridge.bridge-nf-call-iptables"
    switched.inside("h", "sysctl", "-qw", f"{key}={filtered}")
    switched.inside("k", "sysctl", "-qw", f"{key}={filtered}")
    switched.ip("h", "link set vx0 mtu 1400")
    status, document = traced(switched, to=URL)
    assert status == 1
    forward = by_direction(switched, document, "forward")
    assert forward == [("h/pc", "h/vx0", ["port-too-small"])], forward
    (loss,) = [x for x in document["losses"] if x["direction"] == "forward"]
    most = 1400 if filtered == "1" else 1404  # with bridge-nf there is no room for a tag
    assert loss["causes"][0]["most"] == most and loss["passed"] <= most < loss["smallest"]


@pytest.fixture
def through() -> Iterator[Net]:
    """c - r - s, and a VXLAN from c to s over r whose packets may be cut: those of 1500 go in two fragments."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        ends = {"c": ("192.0.2.2", "198.51.100.2", 2), "s": ("198.51.100.2", "192.0.2.2", 3)}
        for name, (mine, theirs, number) in ends.items():
            kind = f"vxlan id 7 local {mine} remote {theirs} dstport 4789 nolearning df unset"
            net.ip(name, f"link add vx0 address 02:00:00:00:07:0{number} type {kind}")
            net.ip(name, "link set vx0 up mtu 1500")
            quiet(net, name, "vx0")
            net.ip(name, f"addr add 10.5.0.{number}/24 dev vx0")
            net.ip(name, f"neigh replace 10.5.0.{5 - number} lladdr 02:00:00:00:07:0{5 - number} dev vx0 nud permanent")
        with serving(net):
            yield net


POINTS = ["c/vx0", "c/eth0", "r/vc", "r/vs", "s/eth0", "s/vx0"]


def test_a_tunnel_s_packets_in_fragments_arrive(through: Net) -> None:
    status, document = traced(through, to=URL)
    points = [f"{p['at']['netns']}/{p['at']['link']}".replace(f"netns:{through.prefix}-", "")
              for p in document["forward"]["points"]]  # fmt: skip
    assert points == POINTS
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    outer, inner = document["reverse"]["points"][1]["packets"], document["reverse"]["points"][0]["packets"]
    assert outer > inner, "each large one is two there"


def test_a_later_fragment_is_followed_though_it_shows_nothing(through: Net) -> None:
    """r drops later fragments: there, the first ones pass with the headers of what is in them."""
    through.drop("r", "forward", "ip frag-off & 0x1fff != 0 drop")
    status, document = traced(through, to=URL)
    assert status == 1
    for direction, after, before in (("forward", "r/vc", "r/vs"), ("reverse", "r/vs", "r/vc")):
        assert [x[:2] for x in by_direction(through, document, direction)] == [(after, before)], lost(through, document)
        (loss,) = [x for x in document["losses"] if x["direction"] == direction]
        assert loss["passed"] <= 1450 < loss["smallest"], "what came in part did not get there"
