"""A survey reads leaves lightly and everything else in full, and the model says the same either way."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import netlab
import pytest

from pathfit.core.evidence import Missing, SocketFact
from pathfit.core.net import Flow
from pathfit.core.request import ReadState
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot
from pathfit.live import LiveWorld
from pathfit.model import Network
from pathfit.model.walk import predict
from pathfit.observe import kernel, survey

LO = Link(index=1, name="lo", mtu=65536, loopback=True)
ETH = Link(index=2, name="eth0", mtu=1500, kind="veth", peer=7, peer_nsid=0)
MORE = Link(index=3, name="eth1", mtu=1500, kind="veth", peer=8, peer_nsid=1)
UPPER = Link(index=4, name="mv0", mtu=1500, kind="macvlan", peer=2, peer_nsid=0)
FALLBACK = Link(index=5, name="tunl0", mtu=1480, kind="ipip", up=False)
FORWARDING = {"ipv4.ip_forward": "1"}

HUBS: dict[str, tuple[tuple[Link, ...], dict[str, str], bool]] = {
    "loopback alone": ((LO,), {}, False),
    "one cable": ((LO, ETH), {}, False),
    "two cables": ((LO, ETH, MORE), {}, False),
    "forwarding with one door": ((LO, ETH), FORWARDING, False),
    "forwarding between two doors": ((LO, ETH, MORE), FORWARDING, True),
    "one device of two forwards": ((LO, ETH, MORE), {"ipv4.conf.eth1.forwarding": "1"}, True),
    "forwarding IPv6": ((LO, ETH, MORE), {"ipv6.conf.all.forwarding": "1"}, True),
    "a macvlan over a device elsewhere": ((LO, UPPER), {}, False),
    "a macvlan over its own device": ((LO, ETH, Link(index=4, name="m", mtu=1500, kind="macvlan", peer=2)), {}, True),
    "the fallback tunnel nobody uses": ((LO, ETH, FALLBACK), {}, False),
    "a fallback tunnel in use": ((LO, Link(index=5, name="tunl0", mtu=1480, kind="ipip")), {}, True),
    "a bridge": ((LO, Link(index=6, name="br0", mtu=1500, kind="bridge")), {}, True),
    "a port": ((LO, Link(index=2, name="p", mtu=1500, kind="veth", peer=7, peer_nsid=0, master=6)), {}, True),
    "a physical device": ((LO, Link(index=2, name="ens3", mtu=1500)), {}, True),
    "a cable inside": ((LO, Link(index=2, name="v0", mtu=1500, kind="veth", peer=3)), {}, True),
    "a tap": ((LO, Link(index=2, name="tap0", mtu=1500, kind="tun")), {}, True),
}


@pytest.mark.parametrize("name", HUBS)
def test_what_is_a_hub(name: str) -> None:
    links, sysctls, expected = HUBS[name]
    assert survey.hub(links, sysctls) is expected


# --- on this kernel ---------------------------------------------------------------------------------------------------

# What is done to a leaf, and whether it is one still
MADE: dict[str, tuple[tuple[str, ...], bool]] = {
    "leaf": ((), True),
    "mtu": (("ip link set eth0 mtu 1400",), True),
    "route": (("ip route add 10.9.0.0/16 via 10.8.0.254 mtu 1300",), True),
    "forward": (("sysctl -qw net.ipv4.ip_forward=1",), True),
    "filter": (("nft add table ip t",), False),
    "unfiltered": (("nft add table ip t", "nft delete table ip t"), False),
    "rule": (("ip rule add from 10.0.0.0/8 lookup 77",), False),
    "ruleless": (("ip rule del pref 32767",), False),
    "nexthop": (
        (
            "ip nexthop add id 5 via 10.8.0.254 dev eth0",
            "sysctl -qw net.ipv4.nexthop_compat_mode=0",
            "ip route add 10.9.0.0/16 nhid 5",
        ),
        False,
    ),
    "bridge": (("ip link add br0 type bridge",), False),
    "tunnel": (("ip link add vx0 type vxlan id 1 dstport 4789",), False),
}


@pytest.fixture(scope="module")
def net() -> Iterator[netlab.Net]:
    """A bridge in hub; each of MADE hangs on it."""
    with netlab.nets() as lab:
        lab.add("hub", *MADE)
        lab.batch("hub", "link add br0 type bridge\nlink set br0 up\naddr add 10.8.0.254/24 dev br0")
        for n, name in enumerate(MADE, 1):
            lab.ip("hub", f"link add v{n} type veth peer name eth0 netns {lab(name)}")
            lab.ip("hub", f"link set v{n} master br0 up")
            lab.batch(
                name, f"addr add 10.8.0.{n}/24 dev eth0\nlink set eth0 up\nroute add default via 10.8.0.254 dev eth0"
            )
            for line in MADE[name][0]:
                lab.inside(name, *line.split())
        yield lab


@pytest.fixture(scope="module")
def hosts(net: netlab.Net) -> tuple[HostSnapshot, HostSnapshot]:
    return kernel.read_host(None, "all", "survey"), kernel.read_host(None, "all")


def of(host: HostSnapshot, net: netlab.Net, name: str) -> NetnsSnapshot:
    (found,) = [n for n in host.namespaces if n.where == f"netns:{net(name)}"]
    return found


@pytest.mark.lab
@pytest.mark.parametrize("name", ["hub", *MADE])
def test_only_leaves_are_plain(hosts: tuple[HostSnapshot, HostSnapshot], net: netlab.Net, name: str) -> None:
    surveyed, full = (of(h, net, name) for h in hosts)
    assert surveyed.plain is (MADE[name][1] if name in MADE else False)
    assert not surveyed.outline
    if not surveyed.plain:
        assert surveyed.rules == full.rules
        assert surveyed.tables == full.tables


@pytest.mark.lab
@pytest.mark.parametrize("name", [n for n in MADE if MADE[n][1]])
def test_a_plain_one_is_a_part_of_the_full_one(
    hosts: tuple[HostSnapshot, HostSnapshot], net: netlab.Net, name: str
) -> None:
    surveyed, full = (of(h, net, name) for h in hosts)
    light = ("gso_max_size", "xdp")
    assert [shown(link, light) for link in surveyed.links] == [shown(link, light) for link in full.links]
    assert surveyed.addresses == full.addresses
    assert set(surveyed.routes) == {r for r in full.routes if r.table == 254}
    assert surveyed.sysctls.items() <= full.sysctls.items()
    assert {"ipv4.ip_forward", "ipv4.conf.all.rp_filter", "ipv6.conf.eth0.forwarding"} <= surveyed.sysctls.keys()


def shown(link: Link, without: tuple[str, ...]) -> dict[str, Any]:
    return {f: getattr(link, f) for f in link.__struct_fields__ if f not in without}


@pytest.mark.lab
@pytest.mark.parametrize("name", MADE)
def test_the_model_says_the_same(hosts: tuple[HostSnapshot, HostSnapshot], net: netlab.Net, name: str) -> None:
    there = "10.8.0.1" if name != "leaf" else "10.8.0.2"
    said = []
    for host in hosts:
        flow = Flow(src="", dst=there, proto=6, sport=40000, dport=443, size=1500)
        said.append(predict(Network.of(host), f"netns:{net(name)}", flow))
    assert said[0] == said[1]


@pytest.mark.lab
def test_hung_sockets_come_beside(net: netlab.Net) -> None:
    """A connection to an address where nobody answers hangs in its handshake."""
    code = (
        "import socket,time; s=socket.socket(); s.setblocking(False); s.connect_ex(('10.8.0.99',80));"
        "print('there',flush=True); time.sleep(60)"
    )
    words = ["ip", "netns", "exec", net("leaf"), "python3", "-c", code]
    net.ip("leaf", "neigh replace 10.8.0.99 lladdr 02:00:00:00:00:99 dev eth0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process, LiveWorld() as world:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            until = time.monotonic() + 10
            hung: list[Any] = []
            while not hung and time.monotonic() < until:
                asked = ReadState(ref="state", source="host", detail="survey", sockets=True)
                state, *hung = world.perform(asked)
                assert not isinstance(state, Missing)
        finally:
            process.kill()
    (fact,) = hung
    assert isinstance(fact, SocketFact)
    assert fact.ref == f"state/{of(state.host, net, 'leaf').id}"  # type: ignore[union-attr]
    assert [(s.dst, s.state) for s in fact.sockets] == [("10.8.0.99", 2)]
    assert fact.sockets[0].process is not None
    assert fact.sockets[0].process.startswith("python3[")
