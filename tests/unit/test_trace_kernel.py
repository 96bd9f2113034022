"""`pathfit trace` through rows of the kernel's table, as a whole: device and reason, and the points on both sides.

First what the kernel does without a word of its own: tunnels that answer, ports of bridges, fragments. The table
itself, and what shows each row, is in test_capture_drops.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from netlab import Net, nets
from weblab import lost, traced, web

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

INNER = ("10.5.0.2", "10.5.0.3")
URL = f"https://{INNER[1]}:8443/50000"


def quiet(net: Net, name: str, *links: str) -> None:
    for link in links:
        net.plain(name, link)


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
        with web(net):
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
        with web(net):
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


# -- rows of which every packet dies: the way ends there, and the kernel's own word is what is left ------------------


def sysctl(net: Net, name: str, *words: str) -> None:
    net.inside(name, "sysctl", "-qw", *words)


def elsewhere(net: Net) -> None:
    """r looks for c behind another device, and minds."""
    net.batch("r", "link add o1 type veth peer name o2\nlink set o1 up\nlink set o2 up\nroute add 192.0.2.2/32 dev o1")
    sysctl(net, "r", "net.ipv4.conf.vc.rp_filter=1")


def nobody(net: Net) -> None:
    net.ip("s", "link set eth0 arp off")
    net.ip("r", "neigh flush dev vs")


ENDS: dict[str, tuple[Callable[[Net], object], str, str]] = {
    # what is done to the lab; why, the device
    "no-route": (lambda n: n.ip("r", "route del 198.51.100.0/24"), "no-route", "r/vc"),
    "blackhole": (lambda n: n.ip("r", "route add blackhole 198.51.100.2"), "refused-by-route", "r/vc"),
    "forwarding-off": (lambda n: sysctl(n, "r", "net.ipv4.ip_forward=0"), "not-forwarded", "r/vc"),
    "reverse-path": (elsewhere, "reverse-path", "r/vc"),
    "neighbour": (nobody, "no-neighbour", "r/vs"),
    "legacy": (lambda n: n.inside("r", "iptables-legacy", "-A", "FORWARD", "-p", "tcp", "-j", "DROP"),
               "filtered", "r/vc"),
}  # fmt: skip


@pytest.fixture
def routed() -> Iterator[Net]:
    """c - r - s, where a web server answers; neighbours are known."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            net.inside("c", "ping", "-c1", "-W5", "198.51.100.2")
            yield net


def device(net: Net, at: dict[str, str]) -> str:
    return f"{at['netns']}/{at['link']}".replace(f"netns:{net.prefix}-", "")


@pytest.mark.slow
@pytest.mark.parametrize("row", ENDS)
def test_a_row(routed: Net, row: str) -> None:
    build, why, at = ENDS[row]
    build(routed)
    status, document = traced(routed, "--timeout", "5")
    assert status in (1, 3), document["verdict"]
    causes = [c for x in document["losses"] if x["direction"] == "forward" for c in x["causes"]]
    causes = [c for c in causes if c["by"] == "event"]  # beside it, iptables-legacy's counter names a rule
    assert [(c["why"], device(routed, c["at"])) for c in causes] == [(why, at)], document["losses"]
    assert document["verdict"] == "lost"


@pytest.mark.slow
def test_a_tunnel_over_a_smaller_router(through: Net) -> None:
    """tunnel-router: the first at the router, then where it is wrapped; nobody inside is told by the router."""
    for name in "cs":
        through.ip(name, "link set vx0 type vxlan df set")
        through.ip(name, "link set vx0 mtu 1450")
    through.ip("r", "link set vs mtu 1400")
    status, document = traced(through, to=URL)
    assert status == 1
    by_point = {device(through, x["after"]): x for x in document["losses"] if x["direction"] == "forward"}
    assert set(by_point) == {"c/vx0", "r/vc"}, by_point
    first, then = by_point["r/vc"], by_point["c/vx0"]
    (cause,) = first["causes"]
    assert (cause["why"], device(through, cause["at"]), cause["mtu"]) == ("too-big", "r/vs", 1400)
    assert first["passed"] <= 1350 < first["smallest"]
    (cause,) = then["causes"]
    learnt = (cause["why"], device(through, cause["at"]), cause["mtu"])
    assert learnt in (("outer-above-path-mtu", "c/eth0", None), ("outer-too-big", "c/eth0", 1400)), learnt


@pytest.mark.slow
def test_a_network_that_the_other_end_does_not_know(through: Net) -> None:
    """unknown-vni"""
    through.ip("s", "link del vx0")
    through.ip("s", "link add vx0 type vxlan id 8 local 198.51.100.2 remote 192.0.2.2 dstport 4789 nolearning")
    through.ip("s", "link set vx0 up")
    through.ip("s", f"addr add {INNER[1]}/24 dev vx0")
    status, document = traced(through, "--timeout", "4", to=URL)
    causes = [(c["why"], device(through, c["at"])) for x in document["losses"] for c in x["causes"]]
    assert (status, causes) == (1, [("unknown-vni", "s/eth0")]), document["losses"]
