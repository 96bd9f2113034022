"""Where no program may run in the kernel: which counters move for which drop, and what is made of one that did."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netlab import Net, nets
from test_capture_drops import IN, between
from weblab import PATHFIT, lost, web

from pathfit.capture.counters import SOFTNET, Counters
from pathfit.core.tracing import Moved
from pathfit.host import netns
from pathfit.model import counted
from pathfit.model.counted import WANTED, End, Lost, causes
from pathfit.wire import netlink, rtnl_stats, snmp
from pathfit.words.render import templates

C4, S4, C6, S6 = "192.0.2.2", "198.51.100.2", "2001:db8:1::2", "2001:db8:2::2"
PINGS = 4
CLOSED = """
import socket
for n in range(4):
    s = socket.socket(type=2)
    s.connect(("198.51.100.2", 9))
    s.send(b"x")
    try:
        s.recv(1)
    except OSError:
        pass
"""
DAMAGED = """
import socket, struct
s = socket.socket(type=3, proto=255)
ends = socket.inet_aton("192.0.2.2") + socket.inet_aton("198.51.100.2")
for n in range(4):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 30, n + 1, 0, 64, 17, 0) + ends
    s.sendto(head + struct.pack("!HHHH", 1000, 9, 10, 0xDEAD) + b"xx", ("198.51.100.2", 0))
"""


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def net() -> Iterator[Net]:
    """c (192.0.2.2) - r - s (198.51.100.2), and the same in IPv6; r's devices are vc and vs. Neighbours are known."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        for to in (S4, S6):
            ping(net, to, 10, count=1)
        yield net


def ping(net: Net, to: str, size: int, *more: str, count: int = PINGS) -> None:
    words = ("ping", "-c", str(count), "-i", "0.01", "-W0.2", "-M", "do", "-s", str(size), *more, to)
    subprocess.run(["ip", "netns", "exec", net("c"), *words], capture_output=True, timeout=20, check=False)


def moved(net: Net, act: Callable[[], object]) -> dict[str, int]:
    """Counters that rose meanwhile, by "namespace/device counter"."""
    with netns.own() as here:
        handles = [netns.open_handle(f"/run/netns/{net(name)}", name) for name in net.names]
        try:
            it = Counters({h.id: h.fd for h in handles} | {here.id: None})
            it.begin()
            act()
            rose = it.end()
        finally:
            for h in handles:
                h.close()
    assert it.refused is None
    names = {h.id: h.where for h in handles}
    links = {n: {x["ifindex"]: x["ifname"] for x in net.json(n, "ip", "link")} for n in net.names}
    return {
        f"{names[m.netns]}/{links[names[m.netns]].get(m.link, '')} {m.name}": m.by for m in rose if m.netns in names
    }


def sysctl(net: Net, name: str, *words: str) -> None:
    net.inside(name, "sysctl", "-qw", *words)


def looks_elsewhere(net: Net) -> None:
    """The way back to c is another one, and r minds (rp_filter)."""
    net.batch("r", "link add o1 type veth peer name o2\nlink set o1 up\nlink set o2 up\nroute add 192.0.2.2/32 dev o1")
    sysctl(net, "r", "net.ipv4.conf.vc.rp_filter=1")


def held_up(net: Net) -> None:
    """A queue that takes nothing above 1200 bytes."""
    words = "tc qdisc add dev vs root tbf rate 100mbit burst 1200 limit 20000"
    net.inside("r", *words.split())


def tunnelled(net: Net, *more: str, far: int = 7, mtu: int = 1450) -> None:
    between(net, C4, S4, *more, far=far, mtu=mtu)


def unwrapped(net: Net) -> None:
    """A tunnel that knows nobody to send to; its device says nothing by itself."""
    sysctl(net, "c", "net.ipv6.conf.default.disable_ipv6=1")
    tunnelled(net)
    net.inside("c", "bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "vx0", "dst", S4)


def astray(net: Net) -> None:
    """A tunnel whose other end cannot be reached; its device says nothing by itself."""
    sysctl(net, "c", "net.ipv6.conf.default.disable_ipv6=1")
    tunnelled(net)
    net.ip("c", "route del default")


ROWS: dict[str, tuple[Callable[[Net], object], Callable[[Net], object], tuple[str, ...]]] = {
    # what is done to the lab, what is sent, the counters that move for each of the packets
    "egress": (lambda n: n.ip("r", "link set vs mtu 1400"), lambda n: ping(n, S4, 1452, count=1),
               ("r/ Ip.FragFails",)),
    "egress, IPv6": (lambda n: n.ip("r", "link set vs mtu 1400"), lambda n: ping(n, S6, 1432, count=1),
                     ("r/ Ip6.FragFails",)),
    "peer": (lambda n: n.ip("s", "link set eth0 mtu 1400"), lambda n: ping(n, S4, 1452),
             ("r/vs tx_dropped", "s/eth0 rx_dropped")),
    "no route": (lambda n: n.ip("r", "route del 198.51.100.0/24"), lambda n: ping(n, S4, 10), ("r/ IpExt.InNoRoutes",)),
    "no route, IPv6": (lambda n: n.ip("r", "-6 route del 2001:db8:2::/64"), lambda n: ping(n, S6, 10),
                       ("r/ Ip6.InNoRoutes",)),
    "forwarding off": (lambda n: sysctl(n, "r", "net.ipv4.ip_forward=0"), lambda n: ping(n, S4, 10),
                       ("r/ Ip.InAddrErrors",)),
    "reverse path": (looks_elsewhere, lambda n: ping(n, S4, 10), ("r/ TcpExt.IPReversePathFilter",)),
    "hop limit": (lambda n: None, lambda n: ping(n, S4, 10, "-t", "1"), ("r/ Ip.InHdrErrors", "r/ Icmp.OutTimeExcds")),
    "queue": (held_up, lambda n: ping(n, S4, 1452), ("r/vs qdisc.drops",)),
    "filter on the way out": (lambda n: n.drop("c", "output", "ip daddr 198.51.100.2 drop"), lambda n: ping(n, S4, 10),
                              ("c/ Ip.OutDiscards",)),
    "closed": (lambda n: None, lambda n: n.inside("c", sys.executable, "-c", CLOSED), ("s/ Udp.NoPorts",)),
    "checksum": (lambda n: None, lambda n: n.inside("c", sys.executable, "-c", DAMAGED), ("s/ Udp.InCsumErrors",)),
    "wrapped, may not be cut": (lambda n: tunnelled(n, "df", "set", mtu=1500), lambda n: ping(n, IN[1], 1452, count=1),
                                ("c/vx0 tx_dropped", "c/ Ip.FragFails")),
    "no tunnel end": (unwrapped, lambda n: ping(n, IN[1], 10), ("c/vx0 tx_dropped",)),
    "no way to the tunnel's end": (astray, lambda n: ping(n, IN[1], 10), ("c/vx0 tx_carrier_errors",)),
    "unknown VNI": (lambda n: tunnelled(n, far=8), lambda n: ping(n, IN[1], 10), ()),
    "rule": (lambda n: n.drop("r", "forward", "drop"), lambda n: ping(n, S4, 10), ()),
    "blackhole": (lambda n: n.ip("r", f"route add blackhole {S4}"), lambda n: ping(n, S4, 10), ()),
}  # fmt: skip


TOLD = ("egress", "egress, IPv6", "wrapped, may not be cut")  # who was told sends no more of that size


@pytest.mark.lab
@pytest.mark.parametrize("row", ROWS)
def test_which_counters_move(net: Net, row: str) -> None:
    """The kernel is asked; packet filters and blackholes move none."""
    setup, act, wanted = ROWS[row]
    setup(net)
    found = moved(net, lambda: act(net))
    sent = 1 if row in TOLD else PINGS
    assert {name: found.get(name) for name in wanted} == dict.fromkeys(wanted, sent), found
    if not wanted:
        assert found == {}


@pytest.mark.lab
def test_a_namespace_that_cannot_be_entered_is_left_out(net: Net) -> None:
    with open("/dev/null") as nothing:
        it = Counters({"none": nothing.fileno()})
        it.begin()
        assert {m.netns for m in it.end()} <= {""}
    assert it.refused is not None


def test_numbers_that_contradict_themselves() -> None:
    assert snmp.backlog("00000001 0000000a 00\n00000002 00000001 00\nxx zz\n\n") == 11
    short = rtnl_stats._STATS.pack(0, 3, 1) + netlink.attribute(rtnl_stats.LINK_64, bytes(8 * 5) + b"\x07" + bytes(7))
    one = rtnl_stats.device(short, 0, len(short))
    assert one is not None and one.link == 3
    assert one.counts == {"rx_errors": 0, "tx_errors": 7}, "an older kernel has fewer"
    with pytest.raises(netlink.Malformed):
        rtnl_stats.device(b"\0" * 8, 0, 8)
    with pytest.raises(netlink.Malformed):
        rtnl_stats.queue(b"\0" * 8, 0, 8)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for decode in (rtnl_stats.device, rtnl_stats.queue):
        try:
            found = decode(data, 0, len(data))
        except netlink.Malformed:
            continue
        assert found is None or all(n >= 0 for n in found.counts.values())
    text = data.decode("latin-1")
    snmp.pairs(text), snmp.single(text), snmp.devices(text), snmp.backlog(text)


# -- meaning ---------------------------------------------------------------------------------------------------------

VC, VS = End("r", 2, False, 1500, veth=True), End("r", 3, True, 1400, veth=True)
PORT = End("r", 3, True, 1400, veth=True, port=True)
ETH0, TUN = End("s", 2, False, 1400, veth=True), End("r", 4, True, 1500, tunnel=True)
OUT = End("r", 3, True, 1500, veth=True)
STEP = {"smallest": 1401, "passed": 1400}
ANY = {"smallest": 60, "passed": 0}

MEANINGS: dict[str, tuple[End, End | None, dict[str, int], list[tuple[str, int, str, int]], list[tuple[str, str]]]] = {
    # after, before, sizes, what moved, (word, limit)
    "egress": (VC, VS, STEP, [("r", 0, "Ip.FragFails", 7)], [("too-big", "egress")]),
    "of another size": (VC, VS, {"smallest": 1000, "passed": 900}, [("r", 0, "Ip.FragFails", 7)], []),
    "its own errors, which its filter drops": (VC, VS, {"smallest": 1000, "passed": 900}, [
        ("r", 0, "Ip.FragFails", 7), ("r", 0, "Ip.OutDiscards", 7)], []),
    "larger ones passed": (VC, VS, {"smallest": 1401, "passed": 1500}, [("r", 0, "Ip.FragFails", 7)], []),
    "fewer than were lost": (VC, VS, STEP, [("r", 0, "Ip.FragFails", 6)], []),
    "many more than were lost": (VC, VS, STEP, [("r", 0, "Ip.FragFails", 700)], []),
    "in another namespace": (VC, VS, STEP, [("s", 0, "Ip.FragFails", 7)], []),
    "a bridge's port": (VC, PORT, STEP, [("r", 0, "Ip.FragFails", 7)],
                        [("port-too-small", "port")]),
    "peer": (VS, ETH0, {"smallest": 1405, "passed": 1404}, [("r", 3, "tx_dropped", 7), ("s", 2, "rx_dropped", 7)],
             [("peer-too-small", "peer")]),
    "on a cable, of any size": (VS, ETH0, ANY, [("r", 3, "tx_dropped", 7), ("s", 2, "rx_dropped", 9)],
                                [("device", "")]),
    "a stack's counter beside a cable": (VS, ETH0, ANY, [("r", 0, "IpExt.InNoRoutes", 7)], []),
    "a device beside the way": (VC, VS, ANY, [("r", 9, "tx_dropped", 7)], []),
    "queue": (VC, VS, ANY, [("r", 3, "qdisc.drops", 7)], [("traffic-control", "")]),
    "queue on the other side": (VS, ETH0, ANY, [("r", 3, "qdisc.drops", 7)], []),
    "wrapped": (TUN, OUT, {"smallest": 1451, "passed": 1450}, [("r", 4, "tx_dropped", 7), ("r", 0, "Ip.FragFails", 7)],
                [("outer-too-big", "underlay")]),
    "wrapped into IPv6": (TUN, OUT, {"smallest": 1431, "passed": 1430}, [
        ("r", 4, "tx_aborted_errors", 7), ("r", 0, "Ip6.FragFails", 7)], [("outer-too-big", "underlay")]),
    "no way to the tunnel's end": (TUN, OUT, ANY, [("r", 4, "tx_errors", 7), ("r", 4, "tx_carrier_errors", 7)],
                                   [("outer-no-route", "")]),
    "hop limit": (VC, VS, ANY, [("r", 0, "Ip.InHdrErrors", 7), ("r", 0, "Icmp.OutTimeExcds", 7)], [("ttl", "")]),
    "a bad header": (VC, VS, ANY, [("r", 0, "Ip.InHdrErrors", 7)], []),
    "unreachable": (VC, VS, ANY, [("r", 0, "Icmp.OutDestUnreachs", 7)], [("unreachable", "")]),
    "told because too big": (VC, VS, ANY, [("r", 0, "Icmp.OutDestUnreachs", 7), ("r", 0, "Ip.FragFails", 7)], []),
    "behind the last": (VC, None, ANY, [("r", 0, "Udp.RcvbufErrors", 7)], [("receiver-full", "")]),
    "two": (VC, None, ANY, [("r", 0, "IpExt.InNoRoutes", 9), ("r", 0, "Ip.InAddrErrors", 7)],
            [("not-forwarded", ""), ("no-route", "")]),
    "a processor's queue": (VS, ETH0, ANY, [("", 0, SOFTNET, 7)], [("backlog-full", "")]),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case: str) -> None:
    after, before, sizes, rose, expected = MEANINGS[case]
    it = [Moved(netns=net, link=link, name=name, by=by) for net, link, name, by in rose]
    found = causes(Lost(after, before, 7, **sizes), it)
    assert [(c.word, c.limit) for c in found] == expected, found
    assert all(c.mtu == 1500 for c in found if c.limit == "underlay"), "what is below the tunnel decides"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_word_has_a_sentence(lang: str) -> None:
    devices = (counted.IN_FRONT_OUT, counted.BEHIND_OUT, counted.IN_FRONT_IN, counted.BEHIND_IN, counted.TUNNEL)
    words = {m.word for table in (counted.THROUGH, counted.HERE) for m in table.values()}
    words |= {word for table in devices for word in table.values()}
    words |= {word for *_, expected in MEANINGS.values() for word, _ in expected}
    assert {f"lost.{w}" for w in words} <= set(templates(lang))
    assert len(WANTED) > 25


# -- the whole command, without a program in the kernel --------------------------------------------------------------

NO_BTF = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /sys/kernel/btf && exec "$@"', "sh")


def traced(net: Net, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit status and document without BTF, and what is said of it as text."""
    words = [*NO_BTF, PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", "https://198.51.100.2:8443/50000"]
    done = subprocess.run([*words, "--json", *more], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture
def served(net: Net) -> Iterator[Net]:
    with web(net):
        yield net


COMMANDS: dict[str, tuple[Callable[[Net], object], tuple[str, str, str | None], str, str, int | None]] = {
    # what is done to the lab; direction, last point, next point; why, counter, largest that passes
    "peer": (lambda n: n.ip("r", "link set vc mtu 1450"), ("forward", "c/eth0", "r/vc"), "peer-too-small",
             "tx_dropped", 1454),
    "queue": (held_up, ("forward", "r/vc", "r/vs"), "traffic-control", "qdisc.drops", None),
    "no route": (lambda n: n.ip("r", "route del 198.51.100.0/24"), ("forward", "r/vc", None), "no-route",
                 "IpExt.InNoRoutes", None),
    "forwarding off": (lambda n: sysctl(n, "r", "net.ipv4.ip_forward=0"), ("forward", "r/vc", None),
                       "not-forwarded", "Ip.InAddrErrors", None),
    "reverse path": (looks_elsewhere, ("forward", "r/vc", None), "reverse-path", "TcpExt.IPReversePathFilter", None),
}  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize("case", COMMANDS)
def test_place_and_what_may_be_the_cause(served: Net, case: str) -> None:
    setup, place, why, counter, most = COMMANDS[case]
    setup(served)
    words = "neigh replace 192.0.2.1 lladdr {} dev eth0 nud permanent"  # r minds ARP as well (arp_process())
    served.ip("c", words.format(served.json("r", "ip", "link show vc")[0]["address"]))
    status, document, _ = traced(served, "--timeout", "6")
    assert (status, document["verdict"], document["drops"]["watched"]) == (1, "lost", False)
    assert [(*x[:3], x[3][:1]) for x in lost(served, document) if x[0] == place[0]] == [(*place, [why])]
    (loss,) = [x for x in document["losses"] if x["direction"] == place[0]]
    cause = loss["causes"][0]
    assert (cause["by"], cause["counter"], cause["most"]) == ("counter", counter, most)
    assert cause["count"] >= loss["packets"] > 0
    assert cause["text"].endswith(f"whoever's packets those were; {loss['packets']} of these were lost]")


@pytest.mark.lab
def test_a_cause_that_no_counter_tells(served: Net) -> None:
    """No counter moves for a chain at a device, and no trace tells of it. Its place is known, and its rule was read."""
    text = "chain i { type filter hook ingress device vs priority 0; meta length > 1300 drop\n }"
    served.inside("r", "nft", "-f", "-", stdin=f"table netdev early {{ {text}\n }}\n")
    status, document, _ = traced(served)
    assert status == 1
    assert [x for x in lost(served, document) if x[0] == "reverse"] == [("reverse", "r/vs", "r/vc", ["filtered"])]


@pytest.mark.lab
def test_a_router_s_answer_is_its_own(served: Net) -> None:
    """ "Too big" is on the wire: no event is needed, and it is not taken for a tunnel's. Nor did it arrive."""
    served.ip("r", "link set vc mtu 1400")
    served.ip("c", "link set eth0 mtu 1500")
    served.drop("s", "input", "icmp type destination-unreachable drop")
    _, document, _ = traced(served)
    assert ("reverse", "r/vs", "r/vc", ["answered-by-router", "untold-filtered"]) in lost(served, document)


@pytest.mark.lab
def test_a_route_s_mtu_and_errors_that_its_own_filter_drops(served: Net) -> None:
    """What the stack discards are the errors; the packets were larger than the route takes, though its device would."""
    served.ip("r", "route add 192.0.2.2/32 dev vc mtu lock 1300")
    served.drop("r", "output", "icmp type destination-unreachable drop")
    _, document, _ = traced(served)
    assert ("reverse", "r/vs", "r/vc", ["too-big"]) in lost(served, document)
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    assert (loss["causes"][0]["mtu"], loss["causes"][0]["counter"]) == (1300, "Ip.FragFails")


@pytest.mark.lab
def test_a_whole_way_arrives(served: Net) -> None:
    status, document, _ = traced(served)
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    assert any(m["what"] == "why the kernel drops packets" and "BTF" in m["why"] for m in document["missing"])
