"""What a namespace remembers of an address is what iproute2 shows of it, and reading it sends nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from netlab import Net, nets

from pathfit.core.evidence import RememberedFact
from pathfit.core.remembered import Remembered
from pathfit.observe import places, remembered

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]

# a server that takes what is sent, answers and waits until its client hangs up
TALK = """
import socket, sys
family, address = (socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET), sys.argv[1]
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, 7)); listener.listen()
print("ready", flush=True)
s, _ = listener.accept()
n = 0
while n < 9000: n += len(s.recv(65536))
s.sendall(bytes(30000))
assert s.recv(1) == b""
s.close()
"""
SAY = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7))
s.sendall(b"x" * 9000)
n = 0
while n < 30000: n += len(s.recv(65536))
s.close()
"""


@contextmanager
def pair(limit: int) -> Iterator[Net]:
    """c - r - s, where r's link to s has an MTU of ``limit`` and says so."""
    with nets() as net:
        net.routed(("192.0.1", "192.0.2"), ("2001:db8:1", "2001:db8:2"), 2, plain=False)
        net.ip("r", f"link set vs mtu {limit}")
        yield net


def read(net: Net, name: str, *addresses: str) -> tuple[Remembered, ...]:
    found = places.locate(f"netns:{net(name)}")
    assert isinstance(found, tuple), found
    with found[0] as handle:
        fact = remembered.read("x", handle, addresses)
    assert isinstance(fact, RememberedFact) and not fact.missing, fact
    return fact.of


@pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8:2::2"])
def test_as_iproute2_shows_it(address: str) -> None:
    with pair(1400) as net:
        assert read(net, "c", address) == (Remembered(address=address, believed=1500),)
        talk(net, address)
        one = read(net, "c", address)[0]
        family = "-6" if ":" in address else "-4"
        shown = net.json("c", "ip", f"{family} route show cache {address}")
        assert one.believed == 1400
        assert [(e.dst, e.mtu) for e in one.exceptions] == [(s["dst"], s["metrics"][0]["mtu"]) for s in shown]
        assert shown and abs((one.exceptions[0].expires or 0.0) - shown[0]["expires"]) <= 2
        kept = net.ip("c", f"tcp_metrics show {address}").split()
        metrics = one.metrics[0]
        assert (metrics.address, metrics.src) == (kept[0], kept[kept.index("source") + 1])
        assert metrics.rtt is not None
        assert abs(metrics.rtt * 1e6 - int(kept[kept.index("rtt") + 1].removesuffix("us"))) <= 1
        if "cwnd" in kept:
            assert metrics.cwnd == int(kept[kept.index("cwnd") + 1])
        else:
            assert metrics.cwnd is None
        net.inside("c", "ip", "route", "flush", "cache")
        net.inside("c", "ip", "-6", "route", "flush", "cache")
        assert read(net, "c", address)[0].exceptions == ()


def talk(net: Net, address: str) -> None:
    """One connection from c to s, opened, used and closed by c."""
    import subprocess
    import sys

    argv = ["ip", "netns", "exec", net("s"), sys.executable, "-c", TALK, address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline()
        net.inside("c", sys.executable, "-c", SAY, address)
        assert server.wait(timeout=20) == 0


def test_reading_sends_nothing() -> None:
    with pair(1500) as net:
        before = counted(net)
        read(net, "c", "192.0.2.2", "2001:db8:2::2", "192.0.1.9")
        assert counted(net) == before
        assert "192.0.1.9" not in net.ip("c", "neigh show"), "not even a neighbour was asked for"


def counted(net: Net) -> tuple[int, int]:
    tcp = net.inside("c", "cat", "/proc/net/snmp").splitlines()
    out = next(x for x in tcp if x.startswith("Ip: ") and x.split()[1].isdigit()).split()[10]
    sixth = next(x for x in net.inside("c", "cat", "/proc/net/snmp6").splitlines() if x.startswith("Udp6OutDatagrams"))
    return int(out), int(sixth.split()[1])


def test_there_is_no_way() -> None:
    with nets() as net:
        net.add("x")
        assert read(net, "x", "192.0.2.2", "2001:db8::2") == (
            Remembered(address="192.0.2.2"),
            Remembered(address="2001:db8::2"),
        )
