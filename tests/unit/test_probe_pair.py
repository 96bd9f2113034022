"""Between two namespaces of a lab: each direction alone, to the byte; nothing learned, nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from netlab import Net, nets

from pathfit.core.evidence import Missing, ProbeResult
from pathfit.core.request import Measure
from pathfit.host.netns import open_handle
from pathfit.probe.pair.engine import Pair
from pathfit.probe.pair.outcome import measure_pair

ADDRESS = {4: "198.18.2.2", 6: "fd02::2"}


@contextmanager
def lab(*rules: str, **mtus: int) -> Iterator[Net]:
    """a - r - b, dual stack. ``rules`` of r's forward chain; ``mtus`` by namespace and link ("r_rb")."""
    with nets() as net:
        net.add("a", "r", "b")
        for name, router, own in (("a", "ra", "1"), ("b", "rb", "2")):
            net.ip("r", f"link add {router} type veth peer name e0 netns {net(name)}")
            net.batch("r", f"addr add 198.18.{own}.1/24 dev {router}\naddr add fd0{own}::1/64 dev {router}")
            net.batch(name, f"addr add 198.18.{own}.2/24 dev e0\naddr add fd0{own}::2/64 dev e0")
            net.ip("r", f"link set {router} up")
            net.ip(name, "link set e0 up")
            net.batch(name, f"route add default via 198.18.{own}.1\nroute add default via fd0{own}::1")
        net.inside("r", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for where, mtu in mtus.items():
            name, _, link = where.partition("_")
            net.ip(name, f"link set {link} mtu {mtu}")
        if rules:
            filtered(net, "r", "forward", *rules)
        yield net


def filtered(net: Net, name: str, hook: str, *rules: str) -> None:
    inner = "\n".join((f"type filter hook {hook} priority 0;", *rules))
    net.inside(name, "nft", "-f", "-", stdin=f"table inet {hook} {{\nchain c {{\n{inner}\n}}\n}}\n")


def ask(net: Net, family: int = 4, source: str = "a", target: str = "b", **more: object) -> ProbeResult:
    usual: dict[str, object] = {
        "ref": "probe:1",
        "source": f"netns:{net(source)}",
        "far": f"netns:{net(target)}",
        "address": ADDRESS[family],
        "port": 0,
        "protocol": "icmp",
    }
    request = Measure(**{**usual, **more})  # type: ignore[arg-type]
    with (
        open_handle(f"/run/netns/{net(source)}", "a") as here,
        open_handle(f"/run/netns/{net(target)}", "b") as there,
    ):
        found = measure_pair(here.fd, there.fd, request)
    assert isinstance(found, ProbeResult), found
    return found


def numbers(r: ProbeResult) -> list[tuple[str, int | None, int | None, str]]:
    return [(b.method, b.passes, b.fails, b.grade) for b in (r.forward[0], r.reverse[0])]


def caches(net: Net) -> list[str]:
    """Path MTUs remembered at either end."""
    shown = [net.ip(n, f"{f} route show cache") for n in ("a", "b") for f in ("-4", "-6")]
    return [x for text in shown for x in text.splitlines() if " mtu " in x]


@pytest.mark.parametrize("family", [4, 6])
def test_both_ways_different(family: int) -> None:
    with lab("iifname ra meta length > 1433 drop", "iifname rb meta length > 1401 drop") as net:
        r = ask(net, family)
        assert numbers(r) == [("udp-pair", 1433, 1434, "proof"), ("udp-pair", 1401, 1402, "proof")]
        assert r.contact.tcp == "n/a" and r.contact.protocol == "udp" and r.contact.promised == 1500
        assert r.used.packets < 300 and not r.too_big and not caches(net)


@pytest.mark.parametrize("family", [4, 6])
def test_who_tells_is_heard_and_neither_end_learns(family: int) -> None:
    with lab(r_rb=1400, b_e0=1400) as net:
        r = ask(net, family)
        assert numbers(r) == [("udp-pair", 1400, 1401, "told"), ("udp-pair", 1400, None, "proof")]
        assert r.forward[0].told_by == ("198.18.1.1" if family == 4 else "fd01::1")
        assert r.too_big and all(t.ours and t.sane and t.heard and t.tests == "forward" for t in r.too_big)
        assert r.contact.promised == 1400, "neither end sends more than the smaller of both devices"
        assert not caches(net)
        if family == 4:
            assert [s.cut for s in r.splits if s.kind == "whole"] == [3]


@pytest.mark.parametrize("family", [4, 6])
def test_a_message_that_its_own_filter_takes_away_is_not_heard(family: int) -> None:
    with lab(r_rb=1400, b_e0=1400) as net:
        filtered(net, "a", "input", "icmp type destination-unreachable drop", "icmpv6 type packet-too-big drop")
        r = ask(net, family)
        assert numbers(r)[0] == ("udp-pair", 1400, 1401, "told")
        assert [(t.mtu, t.heard) for t in r.too_big] == [(1400, False)]


def test_a_clamp_is_seen_at_both_ends() -> None:
    with lab("meta length > 1400 drop", "iifname ra tcp flags syn tcp option maxseg size set 1300") as net:
        r = ask(net)
        assert numbers(r) == [("udp-pair", 1400, 1401, "proof")] * 2
        assert (r.contact.invited, r.contact.offered) == (1340, 1500)


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_dropped_one_way(family: int) -> None:
    with lab("iifname rb ip frag-off & 0x3fff != 0 drop", "iifname rb exthdr frag exists drop") as net:
        r = ask(net, family)
        assert numbers(r) == [("udp-pair", 1500, None, "proof")] * 2
        pieces = {s.direction: s for s in r.splits}
        assert pieces["forward"].arrived and not pieces["reverse"].arrived and pieces["reverse"].sure


@pytest.mark.parametrize("family", [4, 6])
def test_only_tcp_passes(family: int) -> None:
    with lab(
        "meta l4proto udp drop", "iifname ra meta length > 1410 drop", "iifname rb meta length > 1420 drop"
    ) as net:
        r = ask(net, family)
        assert numbers(r) == [("tcp-pair", 1410, 1411, "proof"), ("tcp-pair", 1420, 1421, "proof")]
        assert r.contact.tcp == "ok" and not caches(net)


def test_udp_out_and_tcp_back() -> None:
    with lab("iifname rb meta l4proto udp drop", "iifname rb meta length > 1420 drop") as net:
        assert numbers(ask(net)) == [("udp-pair", 1500, None, "proof"), ("tcp-pair", 1420, 1421, "proof")]


@pytest.mark.parametrize("family", [4, 6])
def test_the_handshakes_last_packet_is_lost(family: int) -> None:
    """Any segment beside a connection tells the far end which one it is, as its bare acknowledgement would."""
    with lab("iifname ra tcp flags & (syn | ack) == ack meta length < 90 drop") as net:
        r = ask(net, family, port=8443, protocol="any")
        for ways in (r.forward, r.reverse):
            assert ("tcp-pair", 1500, None) in [(b.method, b.passes, b.fails) for b in ways]


def test_only_the_asked_port_passes_and_nobody_listens_there() -> None:
    with lab("tcp dport 8443 accept", "tcp sport 8443 accept", "drop") as net:
        r = ask(net, port=8443, protocol="any")
        assert r.contact.tcp == "refused"
        assert numbers(r) == [("tcp-pair", 1500, None, "proof")] * 2


def test_only_the_asked_port_passes_by_udp() -> None:
    with lab() as net:
        filtered(net, "a", "output", "udp dport 8443 accept", "ip6 nexthdr icmpv6 accept", "drop")
        r = ask(net, port=8443, protocol="tcp", connect=0.2, budget=0.5)
        assert [b.method for b in (r.forward[0], r.reverse[0])] == ["udp-pair", "udp-pair"]
        assert numbers(r)[0][1:3] == (1500, None)


def test_a_source_that_is_translated() -> None:
    with lab("iifname rb meta length > 1444 drop") as net:
        net.inside("r", "nft", "-f", "-", stdin="""
table ip n {
chain p {
type nat hook postrouting priority 100;
oifname rb masquerade
}
}
""")  # fmt: skip
        net.ip("b", "route del default")
        assert numbers(ask(net)) == [("udp-pair", 1500, None, "proof"), ("udp-pair", 1444, 1445, "proof")]


def test_the_receivers_own_filter_drops_fragments_at_its_door() -> None:
    with lab() as net:
        net.inside("b", "nft", "-f", "-", stdin="""
table ip raw {
chain c {
type filter hook prerouting priority -500;
ip frag-off & 0x3fff != 0 drop
}
}
""")  # fmt: skip
        pieces = next(s for s in ask(net).splits if s.direction == "forward")
        assert pieces.sure and not pieces.arrived and pieces.door == pieces.sent


@pytest.mark.parametrize("family", [4, 6])
def test_both_ends_in_one_namespace(family: int) -> None:
    with lab() as net:
        r = ask(net, family, source="b")
        assert [b.grade for b in (r.forward[0], r.reverse[0])] == ["proof", "proof"]
        assert r.forward[0].passes == r.reverse[0].passes == 65_535


def test_nothing_gets_through() -> None:
    with lab("drop") as net:
        r = ask(net, budget=0.4)
        assert r.contact.tcp == "timeout" and r.forward[0].passes is None and not r.reverse


def test_an_address_that_is_not_there() -> None:
    with lab() as net:
        net.ip("b", "addr del 198.18.2.2/24 dev e0")
        request = Measure(ref="p", source="a", far="b", address=ADDRESS[4], port=0, protocol="icmp", budget=0.2)
        with open_handle(f"/run/netns/{net('a')}", "a") as here, open_handle(f"/run/netns/{net('b')}", "b") as there:
            found = measure_pair(here.fd, there.fd, request)
        said = found if isinstance(found, Missing) else found.missing[-1]
        assert "assign" in said.why


def test_a_network_that_vanishes_meanwhile() -> None:
    with lab() as net:
        request = Measure(ref="p", source="a", far="b", address=ADDRESS[4], port=0, protocol="icmp", budget=0.4)
        with open_handle(f"/run/netns/{net('a')}", "a") as here, open_handle(f"/run/netns/{net('b')}", "b") as there:
            pair = Pair(here.fd, there.fd, request)
            net.ip("b", "link del e0")
            net.ip("a", "link del e0")
            pair.run()
            pair.close()
            assert all(w.done and not w.open for w in pair.ways.values()) and not pair.taught()


KILLED = """
import os, signal, sys
from pathfit.core.request import Measure
from pathfit.host.netns import open_handle
from pathfit.probe.pair.engine import Pair
request = Measure(ref="p", source="a", far="b", address="198.18.2.2", port=8443, protocol="any")
pair = Pair(open_handle(sys.argv[1], "a").fd, open_handle(sys.argv[2], "b").fd, request)
pair.run()
print("ready", flush=True)
signal.pause()
"""


def test_nothing_stays_behind_when_we_are_killed() -> None:
    with lab() as net:
        words = [sys.executable, "-c", KILLED, f"/run/netns/{net('a')}", f"/run/netns/{net('b')}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as p:
            assert p.stdout is not None and p.stdout.readline() == "ready\n"
            assert ":8443" in net.inside("b", "ss", "-Hltn")
            os.kill(p.pid, signal.SIGKILL)
        for name in ("a", "b"):
            for kind in ("-Hltn", "-Hluan", "-H0an", "-Hwan"):
                assert net.inside(name, "ss", kind) == ""
