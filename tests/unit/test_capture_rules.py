"""The rule that dropped a packet is named, by its own tool's words, and nothing of the tracing is felt or stays."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from struct import pack

import pytest
from netlab import Net, nets
from test_wire_dissect import A4, A6, B4, B6, EVERY, wrapped

from pathfit.capture.rules import Place, Ruled, Rules
from pathfit.core import net as values
from pathfit.core.filters import Hook, Table
from pathfit.host import netns
from pathfit.host.nfsocket import NfSocket
from pathfit.model.filters.evaluate import Packet, evaluate
from pathfit.model.ruled import counted
from pathfit.observe.filters import read_tables
from pathfit.wire.nft import mark, trace
from pathfit.wire.nft.mark import Flow
from pathfit.wire.packets import ICMP, TCP, UDP

pytestmark = pytest.mark.lab

C4, S4, C6, S6 = "192.0.2.2", "198.51.100.2", "2001:db8:1::2", "2001:db8:2::2"
V4, V6 = ("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2")
V4_NAT = "203.0.113.9"  # S4, as the client knows it
PORT = 7000

HOLD = """
import os, sys
from pathfit.capture.rules import Place, Rules
from pathfit.wire.nft.mark import Flow
r = Rules([Place(os.open(p, os.O_RDONLY)) for p in sys.argv[1:]], Flow([bytes(4)]))
print(flush=True)
sys.stdin.read()
"""
TRY = """
from pathfit.capture.rules import Place, Rules
from pathfit.wire.nft.mark import Flow
try:
    Rules([Place(None, "here")], Flow([bytes(4)]))
except OSError as e:
    print(e)
"""


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


ENDS = [packed(a) for a in (C4, S4, C6, S6)]
OURS = Flow(ENDS, UDP, (PORT,))


@pytest.fixture
def net() -> Iterator[Net]:
    """c (192.0.2.2) - r - s (198.51.100.2), and the same in IPv6; r's devices are vc and vs."""
    with nets() as net:
        net.routed(V4, V6, 2)
        yield net


@contextmanager
def opened(net: Net, name: str) -> Iterator[int]:
    fd = os.open(f"/run/netns/{net(name)}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def tables(fd: int) -> tuple[Table, ...]:
    with netns.inside(fd):
        found, missing = read_tables()
    assert not missing
    return found


@contextmanager
def ruled(net: Net, *names: str, flow: Flow = OURS, rate: int = mark.RATE) -> Iterator[Rules]:
    with ExitStack() as stack:
        fds = [(name, stack.enter_context(opened(net, name))) for name in names]
        places = [Place(fd, name, tables(fd)) for name, fd in fds]
        yield stack.enter_context(closing(Rules(places, flow, rate)))


def udp(net: Net, to: str = S4, port: int = PORT, size: int = 10, count: int = 1, name: str = "c") -> None:
    """Datagrams of ``size`` bytes; cut on the way out where they are too large for the device."""
    with opened(net, name) as fd, netns.inside(fd):
        s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        for _ in range(count):
            s.sendto(bytes(size), (to, port))


def syn(net: Net) -> None:
    with opened(net, "c") as fd, netns.inside(fd):
        s = socket.socket()
    with s:
        s.setblocking(False)
        s.connect_ex((S4, PORT))


def ping(net: Net, to: str, size: int = 10, *more: str) -> bool:
    words = ["ip", "netns", "exec", net("c"), "ping", "-c1", "-W1", "-M", "do", "-s", str(size), *more, to]
    return subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0


def until(rules: Rules, enough: int = 1) -> list[Ruled]:
    """What was dropped, waited for up to five seconds."""
    found = rules.read()
    end = time.monotonic() + 5
    while len(found) < enough and time.monotonic() < end:
        time.sleep(0.01)
        found += rules.read()
    return found


def nft(net: Net, text: str, name: str = "r") -> None:
    net.inside(name, "nft", "-f", "-", stdin=text)


def handle(net: Net, listing: str, words: str, name: str = "r") -> int:
    """The number that `nft -a` gives the line with ``words``."""
    lines = [x for x in net.inside(name, "nft", "-a", *listing.split()).splitlines() if words in x]
    assert len(lines) == 1, lines
    return int(re.findall(r"# handle (\d+)", lines[0])[0])


INET = "table inet corp {{ chain f {{ type filter hook {} priority {}; policy {};\n{}\n }}\n {}\n}}"


def inet(rules: str, hook: str = "forward", priority: str = "0", policy: str = "accept", more: str = "") -> str:
    return INET.format(hook, priority, policy, rules, more)


def xt(*lines: str, six: bool = False) -> Callable[[Net], None]:
    def make(net: Net) -> None:
        for line in lines:
            net.inside("r", "ip6tables-nft" if six else "iptables-nft", *line.split())

    return make


def table(text: str) -> Callable[[Net], None]:
    return lambda net: nft(net, text)


DECOYS = "udp dport 1 drop\ncounter\nip saddr 10.9.9.9 drop\n"
ROWS: dict[str, tuple[Callable[[Net], None], Callable[[Net], object], str, str, int, str]] = {
    # what is set up, what is sent; table, chain, number of the rule, its text
    "nft": (table(inet(DECOYS + "udp dport 7000 drop")), udp, "inet corp", "f", 4, "udp dport 7000 drop"),
    "nft, IPv6": (
        table(inet(DECOYS + f"ip6 daddr {S6} drop")), lambda n: udp(n, S6), "inet corp", "f", 4, f"ip6 daddr {S6} drop",
    ),
    "a chain that is jumped to": (
        table(inet("counter\njump g", more="chain g { counter\nmeta length > 20 drop\n }")),
        udp, "inet corp", "g", 2, "meta length 21-",
    ),
    "a map": (
        table(inet("udp dport vmap { 1 : accept, 7000 : drop }")), udp, "inet corp", "f", 1,
        "udp dport vmap { 1 : accept, 7000 : drop }",
    ),
    "a named set": (
        table(inet("ip daddr @bad drop", more=f"set bad {{ type ipv4_addr; elements = {{ {S4} }}\n }}")),
        udp, "inet corp", "f", 1, f"ip daddr {S4} drop",
    ),
    "policy": (table(inet("udp dport 1 accept", policy="drop")), udp, "inet corp", "f", 0, "policy drop"),
    "reject": (table(inet("reject with icmpx type admin-prohibited")), udp, "inet corp", "f", 1, "reject with icmpx"),
    "before anything else": (
        table(inet("udp dport 7000 drop", "prerouting", "-2000")), udp, "inet corp", "f", 1, "udp dport 7000 drop",
    ),
    "behind routing": (
        table(inet("udp dport 7000 drop", "postrouting", "300")), udp, "inet corp", "f", 1, "udp dport 7000 drop",
    ),
    "translated": (
        table("table ip nat { chain p { type nat hook prerouting priority -100;\n"
              f"ip daddr {V4_NAT} dnat to {S4}\n }}\n }}\n" + inet(f"ip daddr {S4} drop")),
        lambda n: udp(n, V4_NAT), "inet corp", "f", 1, f"ip daddr {S4} drop",
    ),
    "iptables": (
        xt("-A FORWARD -s 10.0.0.9 -j DROP", f"-A FORWARD -d {S4} -p udp --dport 7000 -j DROP"),
        udp, "ip filter", "FORWARD", 2, f"-A FORWARD -p udp -d {S4} --dport 7000 -j DROP",
    ),
    "iptables, a chain of one's own": (
        xt("-N CORP", "-A FORWARD -j CORP", "-A CORP -s 10.0.0.9 -j RETURN", "-A CORP -p udp -m length --length 38 "
           "-j DROP"), udp, "ip filter", "CORP", 2, "-A CORP -p udp -m length --length 38 -j DROP",
    ),
    "iptables, policy": (xt("-P FORWARD DROP"), udp, "ip filter", "FORWARD", 0, "-P FORWARD DROP"),
    "iptables, reject": (
        xt("-A FORWARD -p udp -j REJECT --reject-with icmp-host-prohibited"), udp, "ip filter", "FORWARD", 1,
        "-A FORWARD -p udp -j REJECT --reject-with",
    ),
    "ip6tables, raw": (
        xt("-t raw -A PREROUTING -p udp -j DROP", six=True), lambda n: udp(n, S6), "ip6 raw", "PREROUTING", 1,
        "-A PREROUTING -p udp -j DROP",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_the_rule_is_named(net: Net, row: str) -> None:
    setup, send, where, chain, number, text = ROWS[row]
    setup(net)
    flow = OURS._replace(hosts=[*ENDS, packed(V4_NAT)])
    with ruled(net, "r", flow=flow) as rules:
        send(net)
        (found,) = until(rules)
        assert rules.counts()[2:] == (0, 0)
    rule = found.rule
    assert (f"{rule.family} {rule.table}", rule.chain, rule.number) == (where, chain, number)
    assert rule.text.startswith(text), rule
    assert rule.policy == (number == 0)
    assert (rule.tool == "nft") == (where == "inet corp")
    assert (rule.reject is not None) == ("reject" in row)
    assert found.packet.layers[0].transport is not None
    assert found.packet.layers[0].transport.dport == PORT  # type: ignore[union-attr]
    if not rule.policy:  # the number is the one that the tool's own listing has
        listing = net.inside("r", "nft", "-a", "list", "chain", *where.split(), chain)
        lines = [x for x in listing.splitlines() if "# handle" in x and "chain" not in x and "table" not in x]
        assert f"# handle {rule.handle}" in lines[number - 1]


@pytest.mark.parametrize("seed", range(12))
def test_among_many(net: Net, seed: int) -> None:
    """Rules and chains at random, one of which drops: always that one, and the way to it."""
    pick = random.Random(seed)
    depth, tool = pick.randint(0, 3), pick.choice(("nft", "iptables-nft"))
    chains = ["FORWARD", *(f"user{n}" for n in range(depth))]
    lines: list[tuple[str, bool]] = []
    place = {}
    for n, chain in enumerate(chains):
        last = n == len(chains) - 1
        count = pick.randint(1, 8)
        at = pick.randint(1, count)
        place[chain] = at
        for k in range(1, count + 1):
            quiet = pick.choice(("-p udp --dport {} -j DROP", "-s 10.9.0.{} -j DROP", "-m mark --mark {} -j ACCEPT"))
            verdict = "-p udp --dport 7000 -j DROP" if last else f"-j {chains[min(n + 1, depth)]}"
            lines.append((f"-A {chain} " + (verdict if k == at else quiet.format(pick.randint(1, 200))), k == at))
    if tool == "iptables-nft":
        text = "*filter\n" + "".join(f":{c} {'ACCEPT' if c == 'FORWARD' else '-'}\n" for c in chains)
        net.inside("r", "iptables-nft-restore", stdin=text + "".join(f"{x}\n" for x, _ in lines) + "COMMIT\n")
    else:
        nft(net, random_nft(chains, lines))
    with ruled(net, "r") as rules:
        udp(net)
        (found,) = until(rules)
    assert (found.rule.tool, found.rule.chain, found.rule.number) == (tool, chains[-1], place[chains[-1]])
    assert [c for c, _ in found.way] == chains[:-1]


def test_a_goto_is_not_come_back_to(net: Net) -> None:
    """The end of b leads back behind the jump, not into a (nft_do_chain()): the way holds what still counts."""
    nft(net, """table ip corp {
        chain b { counter\n }
        chain a { counter goto b\ndrop\n }
        chain d { drop\n }
        chain e { goto d\n }
        chain f { type filter hook forward priority 0; jump a\njump e\n }
    }""")  # fmt: skip
    last = handle(net, "list chain ip corp f", "jump e"), handle(net, "list chain ip corp e", "goto d")
    with ruled(net, "r") as rules:
        udp(net)
        (found,) = until(rules)
    assert (found.rule.chain, found.rule.number) == ("d", 1)
    assert found.way == (("f", last[0]), ("e", last[1]))


def random_nft(chains: list[str], lines: list[tuple[str, bool]]) -> str:
    """The same rules as `nft` writes them."""
    out = []
    for chain in reversed(chains):
        out.append(f"chain {chain} {{" + ("type filter hook forward priority 5;" if chain == "FORWARD" else ""))
        for line, _ in lines:
            words = line.split()
            if words[1] == chain:
                said = " ".join(words[2:])
                said = re.sub(r"-p udp --dport (\d+)", r"udp dport \1", said)
                said = re.sub(r"-s (\S+)", r"ip saddr \1", said)
                said = re.sub(r"-m mark --mark (\d+)", r"meta mark \1", said)
                out.append(re.sub(r"-j (DROP|ACCEPT)", lambda m: m[1].lower(), said).replace("-j ", "jump "))
        out.append("}")
    return "table ip corp {\n" + "\n".join(out) + "\n}\n"


def test_tcp_and_icmp(net: Net) -> None:
    nft(net, inet("tcp flags syn drop\nmeta l4proto icmp drop\nmeta l4proto ipv6-icmp drop"))
    with ruled(net, "r", flow=Flow(ENDS, TCP, (PORT,))) as tcp, ruled(net, "r", flow=Flow(ENDS, ICMP)) as icmp:
        syn(net)
        ping(net, S4, 10, "-W0.1")
        ping(net, S6, 10, "-W0.1")
        assert [x.rule.number for x in until(tcp)] == [1]
        assert [x.rule.number for x in until(icmp, 2)] == [2, 3]


def test_the_way_back(net: Net) -> None:
    nft(net, inet("udp sport 7000 drop"))
    with ruled(net, "r") as rules, opened(net, "s") as fd:
        with netns.inside(fd):
            s = socket.socket(type=socket.SOCK_DGRAM)
        with s:
            s.bind(("", PORT))
            s.sendto(b"x", (C4, 9))
        (found,) = until(rules)
    assert found.packet.layers[0].ip.src == packed(S4) and found.rule.number == 1


@pytest.mark.parametrize("to", [S4, S6])
@pytest.mark.parametrize("connected", [False, True], ids=["", "joined"])
def test_later_fragments(net: Net, to: str, connected: bool) -> None:
    """They have no ports. Where fragments are joined (conntrack), that is after such a rule."""
    later = "frag frag-off != 0" if ":" in to else "ip frag-off & 0x1fff != 0"
    nft(net, inet(f"{later} drop", "prerouting", "-500"))
    if connected:
        nft(net, "table inet joins { chain c { type filter hook forward priority 0; ct state invalid counter\n }\n }")
    with ruled(net, "r") as rules:
        udp(net, to, size=2000)
        found = until(rules)
    assert [x.rule.number for x in found] == [1]


@pytest.mark.parametrize("six", [False, True], ids=["ICMP", "ICMPv6"])
def test_an_error_that_is_swallowed(net: Net, six: bool) -> None:
    """The answer to a packet that was too big, sent by the router, about the flow: whoever drops it is named."""
    to, kind = (S6, "icmpv6 type packet-too-big") if six else (S4, "icmp type destination-unreachable")
    net.ip("r", "link set vs mtu 1400")
    nft(net, inet(f"{kind} drop", "output"))
    with ruled(net, "r") as rules, opened(net, "c") as fd:
        with netns.inside(fd):
            s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        with s:  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER: do
            s.setsockopt(*((socket.IPPROTO_IPV6, 23, 2) if six else (socket.IPPROTO_IP, 10, 2)))
            s.sendto(bytes(1440), (to, PORT + 1))  # an error about another flow is none of ours
            s.sendto(bytes(1440), (to, PORT))
        found = until(rules)
        assert rules.counts().marked == 2, "the datagram, and the error about it"
    assert [x.rule.text.split()[-1] for x in found] == ["drop"]
    assert found[0].rule.chain == "f"


@pytest.mark.parametrize("direction", ["in", "out"])
def test_within_a_tunnel(net: Net, direction: str) -> None:
    """The outer packet is another flow's; it is the inner one that we look for. From the router's own tunnel as well
    (the hook "output")."""
    inner = ("10.5.0.2", "10.5.0.3")
    near = "c" if direction == "in" else "r"
    for name, mine, theirs, host in ((near, C4 if near == "c" else "198.51.100.1", S4, 0), ("s", S4, C4, 1)):
        net.ip(name, f"link add t0 type vxlan id 7 local {mine} remote {theirs} dstport 4789 nolearning")
        net.batch(name, f"link set t0 up\naddr add {inner[host]}/24 dev t0")
    mac = net.json("s", "ip", "link show t0")[0]["address"]
    net.ip(near, f"neigh replace {inner[1]} lladdr {mac} dev t0 nud permanent")
    nft(net, inet("counter\nudp dport 4789 drop", "forward" if near == "c" else "output"))
    with ruled(net, "r", flow=Flow([packed(x) for x in inner], UDP, (PORT,))) as rules:
        udp(net, inner[1], PORT + 1, name=near)
        udp(net, inner[1], name=near)
        found = until(rules)
        counts = rules.counts()
    assert [x.rule.number for x in found] == [2]
    twice = 2 if near == "r" else 1  # the router sends the inner packet as well
    assert (counts.matched, counts.marked) == (twice, twice)


@pytest.mark.parametrize("protocol", [TCP, None])
def test_within_every_tunnel(net: Net, protocol: int | None) -> None:
    """Frames made by hand, as the dissector is tested with: found, and not when they are another flow's."""
    hosts = [A4, B4, A6, B6]
    nft(net, inet("udp dport 1 drop\nct state vmap { invalid : drop, new : drop }", "prerouting"))
    mac = bytes.fromhex(net.json("r", "ip", "link show vc")[0]["address"].replace(":", ""))
    with (
        ruled(net, "r", flow=Flow(hosts, protocol, (443,))) as ours,
        ruled(net, "r", flow=Flow(hosts, TCP, (444,))) as others,
        opened(net, "c") as fd,
    ):
        with netns.inside(fd):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with s:
            with netns.inside(fd):
                s.bind(("eth0", 0))
            for n, (name, outer, inner) in enumerate(EVERY, 1):
                frame, _ = wrapped(name, outer, inner)
                s.send(mac + frame[6:])
                (found,) = until(ours)
                assert (found.rule.number, found.packet.layers[0].ip.family) == (2, outer), (name, outer, inner)
                assert ours.counts()[:2] == (n, n), (name, outer, inner)
        assert others.read() == [] and others.counts().matched == 0
        assert len(EVERY) == 32


def test_only_the_flow_is_marked(net: Net) -> None:
    """Whoever listens to all traces there hears of nothing else; what was dropped of others is not ours to tell."""
    nft(net, inet("counter\nudp dport 7001 drop\nudp dport 7000 drop\ncounter"))
    with ruled(net, "r") as rules, opened(net, "r") as fd, closing(NfSocket(fd)) as every:
        every.join(trace.GROUP)
        udp(net, port=PORT + 1)
        udp(net, S6, port=PORT + 1)
        udp(net, "192.0.2.1")
        assert ping(net, S4) and ping(net, S6)
        udp(net)
        found = until(rules)
        told = [e for data in every.receive() for e in trace.messages(data)]
    assert [x.rule.number for x in found] == [3]
    assert len({e.id for e in told}) == 1 and {e.table for e in told if e.drops} == {"corp"}
    ports = {e.transport[2:4] for e in told if e.transport}
    assert ports == {PORT.to_bytes(2, "big")}


def test_a_service_by_any_protocol(net: Net) -> None:
    """Ports without a protocol: those of TCP and UDP; nothing else between the same two."""
    nft(net, inet("udp dport 7001 drop\nudp dport 7000 drop\ntcp flags syn drop\nmeta l4proto icmp drop\n"
                  "meta l4proto ipv6-icmp drop"))  # fmt: skip
    with ruled(net, "r", flow=Flow(ENDS, None, (PORT,))) as rules:
        udp(net, port=PORT + 1)
        udp(net)
        udp(net, S6)
        syn(net)
        ping(net, S4, 10, "-W0.1")
        ping(net, S6, 10, "-W0.1")
        found = until(rules, 3)
        assert [x.rule.number for x in found] == [2, 2, 3]
        assert rules.counts()[:2] == (3, 3)


def fates(net: Net) -> list[bool]:
    """What comes through of many different packets."""
    arrived = []
    with opened(net, "s") as fd, ExitStack() as stack:
        with netns.inside(fd):
            taken = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(3)]
        for n, s in enumerate(taken):
            stack.enter_context(s)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind(("", PORT + n))
            s.settimeout(0.2)
        for n, s in enumerate(taken):
            for to in (S4, S6):
                for size in (10, 1300, 3000):
                    udp(net, to, PORT + n, size)
                    try:
                        arrived.append(len(s.recv(4000)) == size)
                    except TimeoutError:
                        arrived.append(False)
    return [*arrived, *(ping(net, to, size, "-W0.2") for to in (S4, S6) for size in (10, 1300))]


def test_no_fate_is_changed(net: Net) -> None:
    nft(net, inet("udp dport 7001 drop\nip saddr 192.0.2.2 udp dport 7002 meta length > 1000 drop\n"
                  "ip6 daddr 2001:db8:2::2 meta l4proto ipv6-icmp meta length > 1000 drop"))  # fmt: skip
    before = fates(net)
    with ruled(net, "c", "r", "s", flow=Flow(ENDS)) as rules:
        during = fates(net)
        assert rules.counts().marked > 20
    assert before == during == fates(net)
    assert True in before and False in before


def ours(net: Net, name: str = "r") -> list[str]:
    return re.findall(r"pathfit-trace-\S+", net.inside(name, "nft", "list", "tables"))


def test_gone_when_closed_and_not_before(net: Net) -> None:
    nft(net, inet("udp dport 7000 drop"))
    with ruled(net, "r", "c") as rules:
        assert len(ours(net)) == len(ours(net, "c")) == 1
        net.inside("r", "nft", "flush", "ruleset")
        assert len(ours(net)) == 1
        udp(net)
        # The datagram and the error about it (nobody listens), each at two places.
        assert rules.read() == [] and rules.counts().marked == 4
    assert ours(net) == ours(net, "c") == []
    rules.close()  # a second time
    assert net.inside("r", "nft", "list", "ruleset") == ""


def test_gone_when_killed(net: Net) -> None:
    paths = [f"/run/netns/{net(name)}" for name in "cr"]
    with subprocess.Popen([sys.executable, "-c", HOLD, *paths], stdin=-1, stdout=-1) as one:
        assert one.stdout is not None and one.stdout.readline()
        assert len(ours(net)) == len(ours(net, "c")) == 1
        one.send_signal(signal.SIGKILL)
        one.wait()
    assert ours(net) == ours(net, "c") == []


@pytest.mark.parametrize("hook", ["prerouting", "output"])
@pytest.mark.parametrize("ports", [(UDP, 4789), (UDP, 6081), (UDP, PORT), (TCP, 443), (47, 0), (4, 0), (41, 0), (1, 0)])
def test_a_snapshot_meanwhile_says_that_everything_passes_it(net: Net, ports: tuple[int, int], hook: Hook) -> None:
    """The table is in it, with tests of inner packets that the reader does not know."""
    with ruled(net, "r"), opened(net, "r") as fd:
        meanwhile = tables(fd)
    assert [t.name.startswith(mark.PREFIX) for t in meanwhile] == [True]
    for src, dst in ((C4, S4), (C6, S6)):
        protocol, port = ports
        flow = values.Flow(src=src, dst=dst, proto=protocol, sport=5000 if port else 0, dport=port, size=100)
        assert evaluate(meanwhile, hook, Packet(flow=flow)).verdict == "accept"


def test_two_at_once(net: Net) -> None:
    nft(net, inet("udp dport 7000 drop\nudp dport 7001 drop"))
    with ruled(net, "r") as one:
        with ruled(net, "r", flow=Flow(ENDS, UDP, (PORT + 1,))) as two:
            assert len(set(ours(net))) == 2
            udp(net)
            udp(net, port=PORT + 1)
            numbers = [[x.rule.number for x in until(r)] for r in (one, two)]
            assert [r.counts()[:2] for r in (one, two)] == [(1, 1), (1, 1)]
        assert len(ours(net)) == 1
        udp(net)
        assert [x.rule.number for x in until(one)] == [1]
    assert numbers == [[1], [2]], "each hears of its own"
    assert ours(net) == []


def test_a_namespace_that_dies_meanwhile(net: Net) -> None:
    """Our socket keeps it alive, as every socket does; with it, it goes."""
    nft(net, inet("udp dport 7000 drop"))
    with ruled(net, "r", "c") as rules:
        subprocess.run(["ip", "netns", "del", net("r")], check=True)
        udp(net)
        assert [x.rule.number for x in until(rules)] == [1]
        assert rules.counts().lost == 0
    end = time.monotonic() + 10
    while net.json("c", "ip", "link show type veth") and time.monotonic() < end:
        time.sleep(0.05)  # the kernel takes namespaces away behind our back (cleanup_net())
    assert net.json("c", "ip", "link show type veth") == [], "its devices have gone with it"


@pytest.mark.real_root
def test_without_rights(net: Net) -> None:
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run([*words, sys.executable, "-c", TRY], capture_output=True, text=True, timeout=30)
    assert "not permitted (CAP_NET_ADMIN" in done.stdout and "here" in done.stdout, done.stdout + done.stderr


def test_what_is_refused_leaves_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace of two says no: the other one has no table any more. (A kernel before 5.12 says EINVAL.)"""
    real, calls = mark.batch, []

    def odd(*words: object) -> bytes:
        calls.append(words)
        batch = real(*words)  # type: ignore[arg-type]
        return batch if len(calls) == 1 else batch.replace(pack(">I", 2), pack(">I", 64), 1)  # an unknown flag

    monkeypatch.setattr(mark, "batch", odd)
    with pytest.raises(OSError, match=r"need Linux 5\.12"), ruled(net, "r", "c"):
        pass
    assert len(calls) == 2 and ours(net) == ours(net, "c") == []


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (Flow([]), "without addresses"),
        (Flow([b"12"]), "4 or 16 bytes"),
        (Flow(ENDS, ICMP, (1,)), "TCP or UDP"),
        (Flow([bytes((10, 0, 0, n)) for n in range(65)]), "at most"),
    ],
)
def test_what_is_no_flow(flow: Flow, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rules([Place(None)], flow)


@pytest.mark.parametrize("when", ["during", "between"])
def test_rules_that_changed_are_not_named_wrongly(net: Net, when: str) -> None:
    """A table made anew gives the same numbers to other rules: the number is told, the old text is not."""
    nft(net, inet("udp dport 7000 accept\nudp dport 7001 drop" if when == "between" else "udp dport 7001 drop"))
    with ExitStack() as stack:
        fd = stack.enter_context(opened(net, "r"))
        place = Place(fd, "r", tables(fd))
        anew = "delete table inet corp\n" + inet("udp dport 7000 drop")
        if when == "between":
            nft(net, anew)
        rules = stack.enter_context(closing(Rules([place], OURS)))
        if when == "during":
            nft(net, anew)
        udp(net)
        (found,) = until(rules)
    assert (found.rule.table, found.rule.chain, found.rule.text, found.rule.number) == ("corp", "f", "", 0)
    assert found.rule.handle == handle(net, "list chain inet corp f", "dport 7000")


def test_more_than_may_be_marked(net: Net) -> None:
    nft(net, inet("udp dport 7000 drop"))
    with ruled(net, "r", rate=5) as rules:
        udp(net, count=300)
        found = until(rules)
        counts = rules.counts()
    assert counts.matched == 300 and 5 <= counts.marked < 300
    assert len(found) == counts.marked and {x.rule.number for x in found} == {1}


def test_messages_without_room_are_counted(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathfit.host.nfsocket._ROOMS", ((33, socket.SO_RCVBUF, 4096),))  # SO_RCVBUFFORCE
    nft(net, inet("udp dport 7000 drop"))
    with ruled(net, "r", rate=10_000) as rules:
        udp(net, count=500)
        counts = rules.counts()
        found = rules.read()
    assert counts.matched == 500 and counts.lost > 0 and len(found) < 500


def legacy(net: Net, *lines: str) -> None:
    for line in lines:
        net.inside("r", "iptables-legacy", *line.split())


def test_iptables_legacy_says_nothing_but_counts(net: Net) -> None:
    legacy(net, "-A FORWARD -p udp --dport 7001 -j DROP", "-A FORWARD -p udp --dport 7000 -j DROP")
    with opened(net, "r") as fd, closing(Rules([Place(fd, "r", before := tables(fd))], OURS)) as rules:
        udp(net, count=3)
        assert rules.counts().marked == 3 and rules.read() == []
        (missing,) = rules.missing
        after = tables(fd)
    assert missing.code == "unsupported" and "iptables-legacy in r" in missing.what
    (moved,) = counted(before, after)
    assert (moved.packets, moved.rule.chain, moved.rule.number, moved.rule.tool) == (3, "FORWARD", 2, "iptables-legacy")
    assert moved.rule.text.startswith("-A FORWARD") and "7000" in moved.rule.text


def test_a_policy_of_iptables_legacy(net: Net) -> None:
    legacy(net, "-P FORWARD DROP")
    with opened(net, "r") as fd:
        before = tables(fd)
        udp(net, count=2)
        (moved,) = counted(before, tables(fd))
    assert (moved.packets, moved.rule.policy, moved.rule.text) == (2, True, "-P FORWARD DROP")


def names(found: Collection[Ruled]) -> list[tuple[str, str]]:
    return [(x.where, x.rule.text) for x in found]


def test_several_namespaces_at_once(net: Net) -> None:
    nft(net, inet("ip6 daddr 2001:db8:2::2 drop"))
    nft(net, inet("udp dport 7000 drop", "input"), "s")
    with ruled(net, "c", "r", "s") as rules:
        assert len(rules.fds) == 3
        udp(net)
        udp(net, S6)
        found = until(rules, 2)
    assert sorted(names(found)) == [("r", f"ip6 daddr {S6} drop"), ("s", "udp dport 7000 drop")]
