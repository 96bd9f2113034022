"""What is said of a target of ours, from the question to the report: any traffic without a port, TCP with one."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from netlab import Net
from test_probe_pair import filtered, lab

from pathfit import diagnose, examine
from pathfit.core.ask import Ask, Target
from pathfit.core.evidence import ProbeResult
from pathfit.core.net import Family
from pathfit.core.report import Report
from pathfit.core.request import Measure
from pathfit.host.netns import inside, open_handle
from pathfit.lab.lab import Lab
from pathfit.lab.reader import load
from pathfit.live import LiveWorld
from pathfit.probe.pair.engine import Pair
from pathfit.render.json import document
from pathfit.replay import ReplayWorld

CLAMP = "tcp flags syn tcp option maxseg size set 1340"
NARROW = "meta length > 1400 drop"
DRAWS = 5  # of a path for each of twelve flows: once in 160 draws one of two paths gets fewer than two of them


def report(net: Net, family: Family = 4, port: int = 0, source: str = "a") -> Report:
    return asked(f"netns:{net(source)}", f"netns:{net('b')}", family, port)


def asked(source: str, where: str, family: Family | None = None, port: int = 0) -> Report:
    text = f"{where}:{port}" if port else where
    target = Target(text=text, protocol="any" if port else "icmp", where=where, port=port)
    ask = Ask(command="diagnose", source=source, target=target, family=family)
    with LiveWorld() as world:
        case = examine.run(ask, world)
    told = diagnose.report(case)
    again = diagnose.report(examine.run(ask, ReplayWorld(case)))
    assert document(again) == document(told), "a saved run says the same"
    return told


def codes(r: Report, *severities: str) -> list[str]:
    return [f.code for f in r.findings if f.severity in (severities or ("error", "warning"))]


@pytest.mark.parametrize("family", [4, 6])
def test_nothing_is_wrong(family: Family) -> None:
    with lab() as net:
        r = report(net, family)
        assert (r.verdict, codes(r)) == ("healthy", [])
        assert [b.method for b in r.measured[0].forward_tried] == ["udp-pair", "udp-fragments"]
        assert r.used.connections == 1 and r.used.packets < 160


def test_a_run_of_an_older_version_replays() -> None:
    with lab() as net, LiveWorld() as world:
        target = Target(text="b", protocol="icmp", where=f"netns:{net('b')}")
        ask = Ask(command="diagnose", source=f"netns:{net('a')}", target=target)
        case = examine.run(ask, world)
    older = tuple(
        replace(x, request=replace(x.request, far="")) if isinstance(x.request, Measure) else x for x in case.exchanges
    )
    again = examine.run(ask, ReplayWorld(replace(case, exchanges=older)))
    assert document(diagnose.report(again)) == document(diagnose.report(case))


def test_different_holes_are_two_errors() -> None:
    with lab("iifname ra meta length > 1433 drop", "iifname rb meta length > 1401 drop") as net:
        r = report(net)
        assert (r.verdict, codes(r, "error")) == ("broken", ["MTU101", "MTU102"])
        assert [f.facts["limit"] for f in r.findings[:2]] == [1401, 1433]


def test_one_direction_alone() -> None:
    with lab("iifname ra meta length > 1390 drop") as net:
        r = report(net, 6)
        assert (r.verdict, codes(r, "error")) == ("broken", ["MTU102"])
        assert (r.measured[0].reverse.passes, r.measured[0].reverse.fails) == (1500, None)


def test_what_a_clamp_hides_from_tcp_is_no_error() -> None:
    with lab(NARROW, CLAMP) as net:
        r = report(net)
        assert (r.verdict, codes(r)) == ("degraded", ["MTU120"])


def test_a_clamp_of_one_side_leaves_the_other_hole() -> None:
    with lab(NARROW, f"iifname ra {CLAMP}") as net:  # our SYN: answers stay small
        r = report(net)
        assert codes(r, "error") == ["MTU102"]


def test_who_tells_and_is_heard() -> None:
    with lab(r_rb=1400, b_e0=1404) as net:
        r = report(net)
        assert (r.verdict, codes(r)) == ("degraded", ["MTU106", "MTU103"])
        assert codes(r, "info") == ["MTU108"]


def test_who_tells_and_is_not_heard() -> None:
    with lab(r_rb=1400, b_e0=1404) as net:
        filtered(net, "a", "input", "icmp type destination-unreachable drop")
        r = report(net)
        assert (r.verdict, codes(r, "error")) == ("broken", ["MTU102"])
        assert r.findings[0].facts["case"] == "deaf" and r.measured[0].forward.note == "deaf"


def test_the_smaller_end_is_no_fault() -> None:
    with lab(a_e0=1400, r_ra=1400) as net:
        r = report(net)
        assert (r.verdict, codes(r)) == ("healthy", [])


def test_fragments_dropped() -> None:
    with lab("iifname ra ip frag-off & 0x3fff != 0 drop") as net:
        r = report(net)
        assert (r.verdict, codes(r)) == ("degraded", ["MTU109"])
        assert r.findings[0].facts["direction"] == "outbound"


def test_nobody_listens_and_the_path_is_measured_all_the_same() -> None:
    with lab("iifname rb meta length > 1401 drop") as net:
        r = report(net, port=8080)
        assert codes(r, "error") == ["MTU101", "RST201"]
        assert (r.measured[0].reverse.passes, r.measured[0].reverse.fails) == (1401, 1402)


LISTENS = """
import socket, sys
s = socket.create_server(("::", 9100), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
kept = []
while True:
    kept.append(s.accept())
"""


@contextmanager
def listener(net: Net) -> Iterator[None]:
    """Accepts in b and says nothing, on a port where nothing is said to find out what is spoken."""
    words = ["ip", "netns", "exec", net("b"), sys.executable, "-c", LISTENS]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None and p.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            p.kill()


@pytest.mark.parametrize("family", [4, 6])
def test_only_the_asked_port_passes_and_its_service_says_nothing(family: Family) -> None:
    rules = ("tcp dport 9100 meta length < 1434 accept", "tcp sport 9100 meta length < 1402 accept")
    with lab(*rules, "meta l4proto ipv6-icmp accept", "drop") as net:
        with listener(net):
            r = report(net, family, 9100)
        assert codes(r, "error") == ["MTU101", "MTU102"]
        assert [(b.passes, b.fails) for b in (r.measured[0].forward, r.measured[0].reverse)] == [
            (1433, 1434),
            (1401, 1402),
        ]
        assert r.measured[0].reverse.method == "tcp-pair"


@pytest.mark.parametrize("cookies", [False, True])
def test_a_service_whose_kernel_forgets_what_we_invite(cookies: bool) -> None:
    jumbo = dict.fromkeys(("a_e0", "r_ra", "r_rb", "b_e0"), 9000)
    with lab("iifname rb meta length > 3900 drop", **jumbo) as net:
        net.inside("b", "sysctl", "-qw", f"net.ipv4.tcp_syncookies={2 if cookies else 1}")
        with listener(net):
            r = report(net, port=9100)
        assert codes(r, "error") == ([] if cookies else ["MTU101"])
        assert (r.measured[0].reverse.passes, r.measured[0].reverse.fails) == (3900, 3901)


def test_no_packet_goes_into_a_connection_of_somebody_else() -> None:
    with lab() as net, listener(net):
        a, b = (open_handle(f"/run/netns/{net(x)}", x) for x in "ab")
        with a, b:
            with inside(a.fd):
                stranger = socket.create_connection(("198.18.2.2", 9100))
            request = Measure(ref="p", source="a", far="b", address="198.18.2.2", port=9100, protocol="tcp")
            pair = Pair(a.fd, b.fd, request, connects=True)
            with stranger:
                stranger.send(b"x")  # its segment and what acknowledges it come to the door as well
                pair.run()
                used = {line.dport for line in pair.lines["reverse", "tcp"].values()}
                assert used == pair.near_ports and stranger.getsockname()[1] not in used
                assert pair.ways["reverse", "tcp"].bracket().passes == 1500
            pair.close()


def test_what_the_receivers_own_filter_drops_behind_the_door() -> None:
    with lab() as net:
        filtered(net, "b", "input", "tcp dport 9100 meta length > 1400 drop")
        with listener(net):
            r = report(net, port=9100)
        assert codes(r, "error") == ["MTU102"]
        m = r.measured[0].forward
        assert (m.method, m.passes, m.fails) == ("tcp-sack", 1400, 1401)
        pair = next(b for b in r.measured[0].forward_tried if b.method == "tcp-pair")
        assert (pair.grade, pair.note, pair.fails) == ("none", "not-handed-on", None)


def test_only_tcp_passes() -> None:
    with lab("meta l4proto udp drop", "iifname rb meta length > 1401 drop") as net:
        r = report(net)
        assert codes(r, "error") == ["MTU101"]
        assert [b.method for b in r.measured[0].reverse_tried] == ["tcp-pair"]


def test_one_of_two_paths_is_bad() -> None:
    with lab() as net:
        net.add("q")
        for name in ("r", "q"):
            net.inside(name, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv4.ip_forward=1")
        net.ip("r", f"link add rq type veth peer name qr netns {net('q')}")
        net.ip("q", f"link add qb type veth peer name e1 netns {net('b')}")
        net.batch("r", "addr add 198.18.3.1/24 dev rq\nlink set rq up")
        net.batch("q", "addr add 198.18.3.2/24 dev qr\nlink set qr up\naddr add 198.18.4.1/24 dev qb\nlink set qb up")
        net.batch("b", "addr add 198.18.4.2/24 dev e1\nlink set e1 up\naddr add 198.18.9.9/32 dev lo")
        net.ip("b", "addr del 198.18.2.2/24 dev e0")
        net.batch("b", "addr add 198.18.2.3/24 dev e0\nroute replace default via 198.18.2.1")
        net.batch("q", "route add 198.18.9.9 via 198.18.4.2\nroute add 198.18.1.0/24 via 198.18.3.1")
        net.ip("r", "route add 198.18.9.9 nexthop via 198.18.2.3 nexthop via 198.18.3.2")
        # r's kernel draws a path for each port; q writes down whose packets it drops.
        net.inside("q", "nft", "add table inet t; add set inet t bad { type inet_service; flags dynamic; }")
        net.inside("q", "nft", "add chain inet t c { type filter hook forward priority 0; }")
        net.inside("q", "nft", "add rule inet t c meta length > 1400 meta l4proto udp add @bad { udp sport } drop")
        target = Target(text="b", protocol="icmp", where=f"netns:{net('b')}", at="198.18.9.9")
        ask = Ask(command="diagnose", source=f"netns:{net('a')}", target=target, family=4)
        for _ in range(DRAWS):
            net.inside("q", "nft", "flush", "set", "inet", "t", "bad")
            with LiveWorld() as world:
                case = examine.run(ask, world)
            r, (probe,) = diagnose.report(case), case.all(ProbeResult)
            listed = json.loads(net.inside("q", "nft", "-j", "list", "set", "inet", "t", "bad"))
            bad = {port for x in listed["nftables"] if "set" in x for port in x["set"].get("elem", [])}
            every = set(probe.contact.local_ports)
            if 2 <= len(bad) <= len(every) - 2:
                break
        assert probe.uneven is not None and set(probe.uneven.ports_bad) == bad
        assert set(probe.uneven.ports_good) == every - bad
        assert (r.verdict, codes(r, "error")) == ("broken", ["MTU118"])
        assert r.measured[0].forward.note == "uneven" and r.measured[0].reverse.note is None


def test_a_target_without_an_address() -> None:
    with lab() as net:
        net.ip("b", "addr flush dev e0")
        r = report(net)
        assert r.verdict == "unknown" and r.missing[0].how == f"ip -n {net('b')} address"
        assert report(net, source="b").verdict == "healthy", "with itself, over loopback"


def test_the_caches_stay_as_they_were() -> None:
    with lab(r_rb=1400, b_e0=1404) as net:
        report(net, port=8080)
        report(net)
        for f in ("-4", "-6"):
            assert " mtu " not in net.ip("a", f"{f} route show cache")


def test_a_repair_is_proven_between_two_namespaces(tmp_path: Path) -> None:
    with lab("iifname rb meta length > 1400 drop") as net:
        words = ["fix", "--from", f"netns:{net('a')}", "--to", f"netns:{net('b')}", "-4", "--yes", "--json"]
        env = {**os.environ, "PATHFIT_STATE": str(tmp_path)}
        done = subprocess.run([sys.executable, "-m", "pathfit", *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mtu 1400" in net.ip("a", "route show default")


def test_the_address_within_reach_is_taken() -> None:
    with lab() as net:
        net.ip("b", "link add name x1 type veth peer name x2")
        net.batch("b", "addr add 10.99.0.1/24 dev x1\nlink set x1 up\nlink set x2 up")
        net.batch("a", "route add blackhole 10.99.0.0/24")
        r = report(net)
        assert r.verdict == "healthy" and r.measured[0].contact.address == "198.18.2.2"


SCENES = {
    # scenario: limits out and in; verdict and errors without a port, and with one
    "both-ways-different": (1450, 1400, ("broken", ["MTU101", "MTU102"]), ("broken", ["MTU101", "MTU102"])),
    "clamp-masks-silent-limit": (1400, 1400, ("degraded", []), ("healthy", [])),
    "v6-vxlan-bridged": (1450, 1450, ("broken", ["MTU101"]), ("broken", ["MTU101"])),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_service_is_asked_first_and_the_pair_beside_it(name: str) -> None:
    out, back, plain, served = SCENES[name]
    scenario = load(name)
    with Lab.up(scenario) as lab:
        source, target = lab.where(scenario.ask.source), lab.where(scenario.services[0].host)
        r = asked(source, target)
        assert (r.verdict, codes(r, "error")) == plain
        numbers = [(b.method, b.passes, b.fails) for b in (r.measured[0].forward, r.measured[0].reverse)]
        assert numbers == [("udp-pair", out, out + 1), ("udp-pair", back, back + 1)]
        port = int(lab.target().partition("://")[2].rpartition(":")[2].partition("/")[0])
        r = asked(source, target, port=port)
        assert (r.verdict, codes(r, "error")) == served
        for tried, limit, method in (
            (r.measured[0].forward_tried, out, "tcp-sack"),
            (r.measured[0].reverse_tried, back, "tcp-maxseg"),
        ):
            assert [b.method for b in tried][:3] == ["tcp-pair", method, "udp-pair"]
            assert [(b.passes, b.fails) for b in (tried[0], tried[2])] == [(limit, limit + 1)] * 2
            assert tried[1].passes == limit
