"""Every way the kernel loses a packet, built, and named: what was lost, at which device, whose MTU decided.

Each row of the table of what Linux does and says (measured on 6.18), and what shows it. By the kernel's event, here;
by `pathfit trace` as a whole, with the points before and behind it, in the tests named after the bar (test_trace.py,
test_trace_kernel.py, test_trace_rows.py); without the event, by counters, in test_trace_counters.py.

==============================================  ============================================================
DF, larger than the egress MTU                  egress | "the server is never told"
same, IPv6                                      egress, IPv6 | too_big_for_the_way_in_by_ipv6
no DF                                           what_may_be_cut_is_not_lost | what_may_be_cut_arrives
the peer of a veth is smaller                   peer | "the other end of a cable takes less"
a bridge's port, bridge-nf on, off              a_bridge_s_port | a_bridge_s_port
VXLAN, outer DF unset                           packet_that_may_be_cut | s_packets_in_fragments_arrive, a_later_fragment
VXLAN, outer DF set, at its own end             own_packets_may_not_be_cut | through_translation_and_a_tunnel
VXLAN, outer DF set, a router is smaller        packet_on_a_smaller_router | tunnel-router
bridged over VXLAN, the tunnel answers          nothing is dropped | a_tunnel_that_answers
unknown VNI                                     a_network_that_the_other_end_does_not_know | unknown-vni
nft, iptables-nft, iptables-legacy              rule, iptables, iptables-legacy | "a rule about length", legacy
reverse path filter                             reverse path | reverse-path
no route, at a router, at the sender            no route, no_route_at_the_sender | no-route
blackhole                                       blackhole, blackhole IPv6 | blackhole
forwarding off, TTL, a dead neighbour           forwarding off, time_to_live, neighbour | forwarding-off, a_hop_limit
closed TCP, closed UDP, a full receiver         nobody_listens, a_receiver_that_is_full | the same
GSO, DF, a smaller egress at a router           super_packets_at_a_router | super_packets_at_a_router
GSO over a smaller veth, or bridge's port       super_packets_pass_a_smaller_port_unseen, ..._bridge_s_port | ..._port
==============================================  ============================================================
"""

import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from netlab import Net, nets

from pathfit.capture import drops
from pathfit.capture.drops import OBJECT, Drop, Drops
from pathfit.host import bpf
from pathfit.model.dropped import UNKNOWN, why
from pathfit.wire import traced

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

# What was freed without a device is told without its namespace: no other lab that runs now may have the same addresses.
LAB = random.SystemRandom().randrange(256)
V4, V6 = (f"198.18.{LAB}", f"198.19.{LAB}"), (f"2001:db8:1{LAB:02x}", f"2001:db8:2{LAB:02x}")
C4, S4 = (f"{net}.2" for net in V4)
C6, S6 = (f"{net}::2" for net in V6)
A4, B4 = f"{V4[0]}.2", f"{V4[0]}.3"  # on one bridge
IN = ("10.5.0.2", "10.5.0.3")  # behind the tunnel
BIG, SMALL = 1452, 100  # bytes that ping adds to its headers: a packet of 1480, of 128

CONNECT = f"""
import socket, sys
s = socket.socket(type=int(sys.argv[1]))
s.settimeout(1)
try:
    s.connect(("{S4}", 9))
    s.send(b"x")
except OSError:
    pass
"""
DEAF = """
import signal, socket
s = socket.socket(type=2)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
s.bind(("", 7001))
print(flush=True)
signal.pause()
"""
FLOOD = f"""
import socket
s = socket.socket(type=2)
s.connect(("{S4}", 7001))
for n in range(50):
    try:
        s.send(bytes(500))
    except OSError:
        pass
"""
SERVE = """
import socket
s = socket.create_server(("", 7000))
print(flush=True)
c, n = s.accept()[0], 0
while d := c.recv(65536):
    n += len(d)
c.send(str(n).encode())
"""
SEND = f"""
import socket
s = socket.create_connection(("{S4}", 7000), 5)
s.sendall(bytes(200000))
s.shutdown(socket.SHUT_WR)
print(s.recv(9))
"""
WATCH = """
import sys
from pathfit.capture.drops import Drops
d = Drops([bytes(4)])
print(flush=True)
sys.stdin.read()
"""
TRY = """
from pathfit.capture.drops import Drops
from pathfit.host.bpf import Unable
try:
    Drops([bytes(4)])
except Unable as e:
    print(e.errno, e)
"""


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ping(net: Net, name: str, to: str, size: int, *more: str) -> None:
    words = ("ping", "-c1", "-W0.2", "-M", "do", "-s", str(size), *more, to)
    subprocess.run(["ip", "netns", "exec", net(name), *words], capture_output=True, timeout=20, check=False)


def watched(net: Net, hosts: tuple[str, ...], act: Callable[[], None], enough: int = 1) -> list[Drop]:
    """What is lost of that traffic in the lab while ``act`` runs, waited for up to five seconds; none for 0 as well.
    The kernel tells of every namespace there is, those of other labs with the same addresses as well."""
    ours = {0, *(os.stat(f"/run/netns/{net(name)}").st_ino for name in net.names)}
    with closing(Drops([packed(h) for h in hosts])) as seen:
        act()
        found = [x for x in seen.read() if x.at.netns in ours]
        end = time.monotonic() + 5
        while len(found) < enough and time.monotonic() < end:
            time.sleep(0.01)  # the program wakes nobody: there is no event to wait for
            found += [x for x in seen.read() if x.at.netns in ours]
        assert seen.lost == 0
    return found


@pytest.fixture
def net() -> Iterator[Net]:
    """c (C4) - r - s (S4), and the same in IPv6; r's devices are vc and vs."""
    with nets() as net:
        net.routed(V4, V6, 2)
        for name, to in (("c", S4), ("c", S6)):  # neighbours are known: what follows is about the packet alone
            ping(net, name, to, 10)
        yield net


@pytest.fixture
def bridged() -> Iterator[Net]:
    """a (A4) and b (B4) on the bridge of r, whose ports are pa and pb."""
    with nets() as net:
        net.add("a", "b", "r")
        net.ip("r", "link add br0 type bridge")
        for name, host in (("a", 2), ("b", 3)):
            net.ip("r", f"link add p{name} type veth peer name eth0 netns {net(name)}")
            net.batch("r", f"link set p{name} master br0\nlink set p{name} up")
            net.batch(name, f"link set eth0 up\naddr add {V4[0]}.{host}/24 dev eth0")
            net.plain(name, "eth0")
            net.plain("r", f"p{name}")
        net.ip("r", "link set br0 up")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            words = ["ip", "netns", "exec", net("a"), "ping", "-c1", "-W1", B4]
            if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                break
        net.batch("r", "link set pb mtu 1400\nlink set br0 mtu 1500")
        yield net


def silence(net: Net, text: str) -> None:
    net.inside("r", *text.split())


ROWS: dict[str, tuple[Callable[[Net], object], tuple[str, str], int, str, str, str]] = {
    # setup, ends, size of ping; word, limit, device
    "egress": (lambda n: n.ip("r", "link set vs mtu 1400"), (C4, S4), BIG, "too-big", "egress", "vs"),
    "egress, IPv6": (lambda n: n.ip("r", "link set vs mtu 1400"), (C6, S6), 1432, "too-big", "egress", "vs"),
    "peer": (lambda n: n.ip("s", "link set eth0 mtu 1400"), (C4, S4), BIG, "peer-too-small", "peer", "vs"),
    "rule": (lambda n: n.drop("r", "forward", "meta length > 1000 drop"), (C4, S4), BIG, "filtered", "", "vc"),
    "iptables": (lambda n: silence(n, f"iptables -A FORWARD -d {S4} -j DROP"), (C4, S4), SMALL, "filtered", "", "vc"),
    "iptables-legacy": (
        lambda n: silence(n, f"iptables-legacy -A FORWARD -d {S4} -j DROP"), (C4, S4), SMALL, "filtered", "", "vc",
    ),
    "blackhole": (lambda n: n.ip("r", f"route add blackhole {S4}"), (C4, S4), SMALL, "refused-by-route", "", "vc"),
    "blackhole, IPv6": (
        lambda n: n.ip("r", f"-6 route add blackhole {S6}"), (C6, S6), SMALL, "refused-by-route", "", "vc",
    ),
    "no route": (lambda n: n.ip("r", f"route del {V4[1]}.0/24"), (C4, S4), SMALL, "no-route", "", "vc"),
    "forwarding off": (
        lambda n: silence(n, "sysctl -qw net.ipv4.ip_forward=0"), (C4, S4), SMALL, "not-forwarded", "", "vc",
    ),
    "reverse path": (
        lambda n: (
            n.batch("r", f"link add o1 type veth peer name o2\nlink set o1 up\nlink set o2 up\nneigh replace {C4} "
                    f"lladdr 02:00:00:00:00:02 dev vc nud permanent\nroute add {C4}/32 dev o1"),
            silence(n, "sysctl -qw net.ipv4.conf.vc.rp_filter=1"),
        ), (C4, S4), SMALL, "reverse-path", "", "vc",
    ),
    "neighbour": (
        lambda n: (n.ip("s", "link set eth0 arp off"), n.ip("r", "neigh flush dev vs")),
        (C4, S4), SMALL, "no-neighbour", "", "vs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_row(net: Net, row: str) -> None:
    setup, ends, size, word, limit, device = ROWS[row]
    setup(net)
    found = watched(net, ends, lambda: ping(net, "c", ends[1], size, *(("-W", "5") if row == "neighbour" else ())))
    lost = [d for d in found if d.packet.layers[0].ip.dst == packed(ends[1])]
    assert [(d.why.word, d.why.limit) for d in lost[:1]] == [(word, limit)], [(d.reason, d.function) for d in found]
    at = lost[0].at
    assert device == (at.egress_device if limit == "egress" else at.device)
    if limit == "egress":
        assert at.egress_mtu == 1400
    inode = os.stat(f"/run/netns/{net('r')}").st_ino
    assert (at.egress_netns if limit == "egress" else at.netns) == inode, "at r"


def test_what_may_be_cut_is_not_lost(net: Net) -> None:
    """Without DF a router cuts it (FragOKs, FragCreates): nothing is dropped."""
    net.ip("r", "link set vs mtu 1400")
    net.ip("s", "link set eth0 mtu 1400")  # its answer is cut as well
    before = counter(net, "r", "FragCreates")
    assert watched(net, (C4, S4), lambda: ping(net, "c", S4, BIG, "-M", "dont"), enough=0) == []
    assert counter(net, "r", "FragCreates") > before


def counter(net: Net, name: str, what: str) -> int:
    head, values = (x.split() for x in net.inside(name, "cat", "/proc/net/snmp").splitlines()[:2])
    return int(values[head.index(what)])


def test_no_route_at_the_sender(net: Net) -> None:
    """Its packet is never made: an error to who sends, no drop."""
    net.ip("c", "route del default")
    words = ["ip", "netns", "exec", net("c"), sys.executable, "-c", CONNECT, "1"]
    assert watched(net, (C4, S4), lambda: subprocess.run(words, check=True, timeout=20) and None, enough=0) == []


def test_a_receiver_that_is_full(net: Net) -> None:
    with net.serving("s", DEAF):
        words = ["ip", "netns", "exec", net("c"), sys.executable, "-c", FLOOD]
        (lost, *_) = watched(net, (C4, S4), lambda: subprocess.run(words, check=True, timeout=20) and None)
    assert lost.why.word == "receiver-full"
    assert lost.at.netns == os.stat(f"/run/netns/{net('s')}").st_ino


def test_what_arrives_is_no_loss(net: Net) -> None:
    def act() -> None:
        ping(net, "c", S4, BIG)
        ping(net, "c", S6, SMALL)

    assert watched(net, (C4, S4, C6, S6), act, enough=0) == []


def test_time_to_live(net: Net) -> None:
    (lost, *_) = watched(net, (C4, S4), lambda: ping(net, "c", S4, SMALL, "-t", "1"))
    assert (lost.why.word, lost.at.device) == ("ttl", "vc")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_nobody_listens(net: Net, kind: str) -> None:
    words = ["ip", "netns", "exec", net("c"), sys.executable, "-c", CONNECT, "1" if kind == "tcp" else "2"]
    (lost, *_) = watched(net, (C4, S4), lambda: subprocess.run(words, check=True, timeout=20) and None)
    assert lost.why.word == "closed" and lost.at.device == "eth0"
    assert lost.at.netns == os.stat(f"/run/netns/{net('s')}").st_ino


@pytest.mark.parametrize("filtered", ["1", "0"], ids=["bridge-nf", "without"])
def test_a_bridge_s_port(bridged: Net, filtered: str) -> None:
    """No counter moves without bridge-nf; the place is told all the same."""
    key = "net.bridge.bridge-nf-call-iptables"
    subprocess.run(["ip", "netns", "exec", bridged("r"), "sysctl", "-qw", f"{key}={filtered}"], check=False)
    (lost, *_) = watched(bridged, (A4, B4), lambda: ping(bridged, "a", B4, BIG))
    assert (lost.why.word, lost.why.limit, lost.at.device) == ("port-too-small", "port", "pb")


def tunnelled(net: Net, *more: str, far: int = 7, mtu: int = 1450) -> None:
    between(net, C4, S4, *more, far=far, mtu=mtu)


def between(net: Net, here: str, there: str, *more: str, far: int = 7, mtu: int = 1450) -> None:
    """vx0 (VNI 7; at s ``far``) between c and s, which have these addresses; neighbours known to each other."""
    macs = {"c": "02:00:00:00:07:02", "s": "02:00:00:00:07:03"}
    for name, other, mine, theirs, number in (("c", "s", here, there, 7), ("s", "c", there, here, far)):
        kind = f"vxlan id {number} local {mine} remote {theirs} dstport 4789 nolearning {' '.join(more)}"
        net.ip(name, f"link add vx0 address {macs[name]} type {kind}")
        net.ip(name, f"link set vx0 up mtu {mtu}")
        net.ip(name, f"addr add {IN[name == 's']}/24 dev vx0")
        net.ip(name, f"neigh replace {IN[other == 's']} lladdr {macs[other]} dev vx0 nud permanent")


def test_a_tunnel_whose_own_packets_may_not_be_cut(net: Net) -> None:
    tunnelled(net, "df", "set", mtu=1500)
    (lost, *_) = watched(net, IN, lambda: ping(net, "c", IN[1], BIG))
    assert (lost.why.word, lost.why.limit) == ("outer-too-big", "underlay")
    assert (lost.at.egress_device, lost.at.egress_mtu) == ("eth0", 1500)
    inner = lost.packet.inner
    assert inner is not None and (inner.via, inner.number) == ("vxlan", 7), "named by the packet that it carries"


def test_a_tunnel_s_packet_on_a_smaller_router(net: Net) -> None:
    """No message about it ever reaches who sent the inner packet; the next is lost where it is wrapped (cached)."""
    tunnelled(net, "df", "set")
    net.ip("r", "link set vs mtu 1400")
    (first, *_) = watched(net, IN, lambda: ping(net, "c", IN[1], 1400))
    assert (first.why.word, first.at.egress_device, first.at.egress_mtu) == ("too-big", "vs", 1400)
    (then, *_) = watched(net, IN, lambda: ping(net, "c", IN[1], 1400))
    assert (then.why.word, then.why.limit) == ("outer-too-big", "underlay")


def test_a_tunnel_s_packet_that_may_be_cut_is_not_lost(net: Net) -> None:
    tunnelled(net, mtu=1500)
    assert watched(net, IN, lambda: ping(net, "c", IN[1], BIG), enough=0) == []


def test_a_network_that_the_other_end_does_not_know(net: Net) -> None:
    tunnelled(net, far=8)
    (lost, *_) = watched(net, IN, lambda: ping(net, "c", IN[1], SMALL))
    assert (lost.why.word, lost.at.device) == ("unknown-vni", "eth0")
    assert lost.at.netns == os.stat(f"/run/netns/{net('s')}").st_ino


def test_super_packets_pass_a_smaller_port_unseen(net: Net) -> None:
    """GSO over a smaller veth: the limit is there, and nothing is lost at it. Nothing is said."""
    for name, link in (("c", "eth0"), ("r", "vc"), ("r", "vs"), ("s", "eth0")):
        net.inside(name, "ethtool", "-K", link, "tso", "on", "gso", "on", "gro", "on")
    net.ip("s", "link set eth0 mtu 1400")
    said: list[str] = []
    with net.serving("s", SERVE):
        found = watched(net, (C4, S4), lambda: said.append(net.inside("c", sys.executable, "-c", SEND)), enough=0)
    assert "200000" in said[0]
    assert [d.why.word for d in found if d.why.limit] == []


def test_super_packets_at_a_router(net: Net) -> None:
    """What they would be cut into is too large for the way out: the whole is dropped, and who sent it told."""
    for name, link in (("c", "eth0"), ("r", "vc"), ("r", "vs"), ("s", "eth0")):
        net.inside(name, "ethtool", "-K", link, "tso", "on", "gso", "on", "gro", "on")
    net.ip("r", "link set vs mtu 1400")
    with net.serving("s", SERVE):
        found = watched(net, (C4, S4), lambda: net.inside("c", sys.executable, "-c", SEND) and None)
    large = [d for d in found if d.why.word == "too-big"]
    assert large and large[0].at.egress_device == "vs" and large[0].at.gso_size > 1360


def test_super_packets_pass_a_smaller_bridge_s_port_unseen(bridged: Net) -> None:
    for name, link in (("a", "eth0"), ("r", "pa"), ("r", "pb"), ("b", "eth0")):
        bridged.inside(name, "ethtool", "-K", link, "tso", "on", "gso", "on", "gro", "on")
    bridged.inside("r", "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    said: list[str] = []
    send = SEND.replace(S4, B4)
    with bridged.serving("b", SERVE):
        act = lambda: said.append(bridged.inside("a", sys.executable, "-c", send))  # noqa: E731
        found = watched(bridged, (A4, B4), act, enough=0)
    assert "200000" in said[0]
    assert [d.why.word for d in found if d.why.limit] == []


def test_the_layout_is_the_program_s_own() -> None:
    """The compiler has checked the number; tools/bpf.sh --check, that the object is of this source."""
    (size,) = re.findall(r"_Static_assert\(sizeof\(struct event\) == (\d+)", OBJECT.with_suffix(".c").read_text())
    assert int(size) == traced.EVENT_SIZE
    (size,) = re.findall(r"_Static_assert\(sizeof\(flow\) == (\d+)", OBJECT.with_suffix(".c").read_text())
    assert int(size) == traced.FLOW_SIZE == len(traced.flow([bytes(4)], (), ()))


def programs() -> set[int]:
    """Ids of every BPF program in the kernel."""
    lib = bpf.library()
    found, number = set(), ctypes.c_uint(0)
    while lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        found.add(number.value)
    return found


def test_nothing_of_it_outlives_us() -> None:
    """Closed, and killed: the programs are gone from the kernel."""
    before = programs()
    with subprocess.Popen([sys.executable, "-c", WATCH], stdin=-1, stdout=-1) as one:
        assert one.stdout is not None and one.stdout.readline()
        during = programs()
        one.send_signal(signal.SIGKILL)
        one.wait()
    assert len(during - before) >= 1
    end = time.monotonic() + 10
    while during - before & programs() and time.monotonic() < end:
        time.sleep(0.05)  # the kernel frees them after a grace period of RCU
    assert not (during - before) & programs()


@pytest.mark.parametrize(
    ("name", "value", "words"), [("LIBRARIES", ("libnone.so.9",), "is not installed"), ("BTF", "/none", "no BTF")]
)
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: object, words: str) -> None:
    monkeypatch.setattr(bpf, name, value)
    with pytest.raises(bpf.Unable, match=words):
        bpf.Program(str(drops.OBJECT), traced.flow([bytes(4)], (), ()), ("dropped",))


def test_without_rights_it_is_said() -> None:
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run([*words, sys.executable, "-c", TRY], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith(("1 ", "13 ")), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("reason", "functions", "word"),
    [
        ("NOT_SPECIFIED", ("something_new", "", "__dev_queue_xmit"), "unknown"),
        ("A_REASON_OF_TOMORROW", ("ip_forward",), "unknown"),
        ("NO_SOCKET", ("ping_rcv", "icmp_rcv"), None),
        ("CONSUMED", (), None),
        ("NOT_SPECIFIED", ("tpacket_rcv", "dev_queue_xmit_nit"), None),
        ("PKT_TOO_BIG", (), "too-big"),
        ("NOT_SPECIFIED", ("__dev_forward_skb2", "veth_xmit"), "peer-too-small"),
        ("NOT_SPECIFIED", ("", ""), "unknown"),
    ],
)
def test_what_no_row_knows_is_unknown(reason: str, functions: tuple[str, ...], word: str | None) -> None:
    found = why(reason, functions)
    assert (found.word if found else None) == word
    assert UNKNOWN.word == "unknown"


@pytest.mark.parametrize(
    ("hosts", "ports"), [((), ()), ([bytes((10, 0, 0, n)) for n in range(17)], ()), ([bytes(4)], range(9))]
)
def test_more_than_can_be_looked_for(hosts: list[bytes], ports: list[int]) -> None:
    with pytest.raises(ValueError, match=r"addresses|ports"):
        traced.flow(hosts, ports, ())
