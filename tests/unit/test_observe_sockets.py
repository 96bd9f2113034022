"""Which sockets hang: as a table, and on real sockets whose large segments do not arrive."""

import socket
import time
from collections.abc import Iterator

import netlab
import pytest

from pathfit.core.evidence import CounterFact, SocketFact
from pathfit.core.evidence_base import Missing
from pathfit.core.sockets import Socket, TcpInfo
from pathfit.host import netns
from pathfit.model import hung
from pathfit.observe import counters, places, sockets
from pathfit.wire import snmp

LONG = hung.QUIET + 1


def tcp(state: int = 1, rqueue: int = 0, rmem: int | None = 0, retrans: int = 0, **info: float) -> Socket:
    return Socket(
        family=4, src="10.0.0.1", sport=1, dst="10.0.0.2", dport=2, state=state, rqueue=rqueue, rmem=rmem,
        retrans=retrans, info=TcpInfo(state=state, **info),  # type: ignore[arg-type]
    )  # fmt: skip


CASES: list[tuple[str, Socket, str | None]] = [
    ("idle, never used", tcp(last_data_recv=LONG, last_data_sent=LONG), None),
    ("idle after an answer", tcp(data_segs_out=1, last_data_sent=LONG, last_data_recv=LONG - 0.01), None),
    ("a gap that stands", tcp(rmem=2304, rcv_ooopack=2, last_data_recv=1.0), "inbound-gap"),
    ("a gap of a moment", tcp(rmem=2304, rcv_ooopack=2, last_data_recv=0.01), None),
    ("a gap that was repaired long ago", tcp(rmem=0, rcv_ooopack=2, last_data_recv=9.0), None),
    ("a reader that does not read", tcp(rqueue=5000, rmem=9000, rcv_ooopack=2, last_data_recv=9.0), None),
    ("a kernel that does not count", tcp(rmem=2304, rcv_ooopack=None, last_data_recv=9.0), None),  # type: ignore[arg-type]
    ("the front is missing there", tcp(unacked=3, sacked=1, retransmits=2, last_ack_recv=1.0), "outbound-gap"),
    ("nothing gets there", tcp(unacked=3, retransmits=2, backoff=2, last_ack_recv=1.0), "outbound-stuck"),
    ("in flight", tcp(unacked=3, last_ack_recv=1.0), None),
    ("one loss just now", tcp(unacked=3, retransmits=1, last_ack_recv=0.21), None),
    ("SYN again", tcp(state=2, retrans=2, last_data_sent=1.0), "handshake"),
    ("first SYN", tcp(state=2), None),
    ("asked, acknowledged, silence", tcp(data_segs_out=1, last_data_sent=LONG, last_data_recv=LONG + 1), "waiting"),
    ("asked a moment ago", tcp(data_segs_out=1, last_data_sent=0.5, last_data_recv=LONG), None),
    ("closed by us and gone", tcp(state=6, unacked=1, retransmits=9, last_ack_recv=9.0), None),
    ("no tcp_info", Socket(family=4, src="10.0.0.1", sport=1, dst="10.0.0.2", dport=2, state=1), None),
]


@pytest.mark.parametrize(("socket_", "kind"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_hangs(socket_: Socket, kind: str | None) -> None:
    found = hung.look(socket_)
    assert (found and found.kind) == kind


def test_the_surest_sign_comes_first() -> None:
    every = [c[1] for c in CASES]
    kinds = [found.kind if (found := hung.look(s)) else None for s in hung.ordered(every)]
    known = [k for k in kinds if k]
    assert known == sorted(known, key=hung.ORDER.index)
    assert kinds[: len(known)] == known
    assert len(kinds) == len(every)


# --- on this kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> Iterator[netlab.Net]:
    """c and s on one cable; what is larger than 1000 bytes does not reach c, and nobody is told."""
    with netlab.nets() as lab:
        lab.add("c", "s")
        lab.ip("c", f"link add eth0 type veth peer name eth0 netns {lab('s')}")
        for name, last in (("c", 1), ("s", 2)):
            lab.ip(name, f"addr add 10.3.0.{last}/24 dev eth0")
            lab.ip(name, f"addr add fd00:3::{last}/64 dev eth0")
            lab.ip(name, "link set eth0 up")
            lab.inside(
                name, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"
            )
        rules = "table inet hole { chain in { type filter hook prerouting priority -400; meta length > 1000 drop; }; }"
        lab.inside("c", "nft", "-f", "-", stdin=rules)
        yield lab


def handle_of(net: netlab.Net, name: str) -> netns.NetnsHandle:
    found = places.locate(f"netns:{net(name)}")
    assert not isinstance(found, Missing)
    return found[0]


def read_until(handle: netns.NetnsHandle, kind: str, port: int) -> tuple[SocketFact, Socket]:
    """Read sockets until one hangs as ``kind``; the kernel needs a retransmission timeout for that."""
    deadline = time.monotonic() + 10
    fact: SocketFact | Missing | None = None
    while time.monotonic() < deadline:
        fact = sockets.read("s:1", handle)
        assert isinstance(fact, SocketFact)
        kinds = [found.kind if (found := hung.look(s)) else None for s in fact.sockets]
        for one, found in zip(fact.sockets, kinds, strict=True):
            if found == kind and port in (one.sport, one.dport):
                assert None not in kinds[: fact.sockets.index(one)]
                return fact, one
    pytest.fail(f"no {kind} in {fact}")


@pytest.mark.lab
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "10.3.0.2"), (socket.AF_INET6, "fd00:3::2")])
def test_a_large_answer_that_does_not_arrive(net: netlab.Net, family: int, address: str) -> None:
    with handle_of(net, "c") as c, handle_of(net, "s") as s:
        with netns.inside(s.fd):
            server = socket.create_server((address, 0), family=family)
        with netns.inside(c.fd):
            client = socket.socket(family, socket.SOCK_STREAM)
        with server, client:
            port = server.getsockname()[1]
            client.connect((address, port))
            there, _ = server.accept()
            with there:
                there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                there.sendall(b"x" * 3000)
                there.sendall(b"tail")
                fact, ours = read_until(c, "inbound-gap", port)
                assert (ours.dst, ours.dport, ours.family) == (address, port, 4 if family == socket.AF_INET else 6)
                assert ours.info is not None
                assert ours.info.rcv_ooopack
                assert ours.process is not None
                assert "[" in ours.process
                assert fact.total == len(fact.sockets)
                fact, theirs = read_until(s, "outbound-gap", port)
                assert (theirs.sport, theirs.dport) == (port, ours.sport)
                assert theirs.wqueue > 0
                assert fact.listening == (port,)


@pytest.mark.lab
def test_a_mapped_address_is_ipv4(net: netlab.Net) -> None:
    with handle_of(net, "c") as c, handle_of(net, "s") as s:
        with netns.inside(s.fd):
            server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        with netns.inside(c.fd):
            client = socket.socket()
        with server, client:
            client.connect(("10.3.0.2", server.getsockname()[1]))
            there, _ = server.accept()
            with there:
                fact = sockets.read("s:1", s)
    assert isinstance(fact, SocketFact)
    assert [(x.family, x.src, x.dst) for x in fact.sockets if x.state == 1] == [(4, "10.3.0.2", "10.3.0.1")]


@pytest.mark.lab
def test_counters_are_those_of_the_namespace(net: netlab.Net) -> None:
    with handle_of(net, "c") as c:
        before = counters.read("k:1", c)
        net.inside("c", "ping", "-c", "1", "-W", "20", "10.3.0.2")
        net.inside("c", "ping", "-c", "1", "-W", "20", "fd00:3::2")
        after = counters.read("k:2", c)
    assert isinstance(before, CounterFact)
    assert isinstance(after, CounterFact)
    rose = snmp.difference(before.counters, after.counters)
    assert rose["Icmp.OutEchos"] == 1
    assert rose["Icmp.InEchoReps"] == 1
    assert rose["Icmp6.OutEchos"] == 1
    assert rose["Dev.eth0.tx_packets"] >= 2
    assert {"Ip.FragFails", "TcpExt.TCPTimeouts", "IpExt.InNoRoutes", "Ip6.FragFails", "Icmp6.InPktTooBigs"} <= {
        *after.counters
    }


def test_counters_as_text() -> None:
    text = "Ip: FragOKs FragFails\nIp: 3 4\nTcp: MaxConn\nTcp: -1\nbroken\n"
    assert snmp.pairs(text) == {"Ip.FragOKs": 3, "Ip.FragFails": 4, "Tcp.MaxConn": -1}
    assert snmp.pairs("A: x\nB: 1\n") == {}
    assert snmp.single("Ip6FragFails   \t 7\nIcmp6OutType135 2\nOdd 1\n") == {
        "Ip6.FragFails": 7,
        "Icmp6.OutType135": 2,
    }


def test_difference_leaves_out_what_fell() -> None:
    assert snmp.difference({"a": 1, "b": 5, "c": 1}, {"a": 4, "b": 2, "c": 1, "d": 9}) == {"a": 3}
