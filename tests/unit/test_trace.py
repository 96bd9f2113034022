"""`pathfit trace` in labs: packets are missed behind the right point, for the reason that was built there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netlab import Net, nets, settled
from weblab import NOBODY, PATHFIT, lost, packet_sockets, traced, web

from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.follow import _verdict
from pathfit.follow.seen import Way
from pathfit.model.ladder import Result
from pathfit.render.followed import cause_text, loss_text
from pathfit.words.render import templates

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

KNOCK = """
import socket, sys, time
s = socket.socket(type=2)
s.bind(("", 8443))
print(flush=True)
while True:
    s.sendto(b"x", (sys.argv[1], 8443 if sys.argv[1] == "198.51.100.2" else 40000))
    time.sleep(0.005)
"""
DEAF = """
import sys
from pathfit.capture import watch
from pathfit.cli.entry import main
ring, asked = watch.Ring, []
def all_but_the_second(*words):
    asked.append(words)
    if len(asked) == 2:
        raise PermissionError(1, "no")
    return ring(*words)
watch.Ring = all_but_the_second
sys.exit(main())
"""


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


def test_nothing_is_lost_on_a_whole_way(net: Net) -> None:
    before = settled(net.prefix)
    status, document = traced(net)
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    for way, points in (("forward", 4), ("reverse", 4)):
        assert len(document[way]["points"]) == points
        assert all(p["packets"] > 50 and not p["lost"] for p in document[way]["points"])
        assert document[way]["ends"] is None
    assert document["report"]["verdict"] == "healthy"
    assert settled(net.prefix) == before, "looking changes nothing"


CASES: dict[str, tuple[Callable[[Net], object], str, list[tuple[str, str, str, str, int | None]]]] = {
    # what is done to the lab; direction, last point, next point, why, largest that passes
    "the server is never told": (
        lambda n: (n.ip("r", "link set vc mtu 1400"), n.ip("c", "link set eth0 mtu 1500"),
                   n.drop("s", "input", "icmp type destination-unreachable drop")),
        "reverse", [("reverse", "r/vs", "r/vc", "too-big", 1400)],
    ),
    "the other end of a cable takes less": (
        lambda n: n.ip("r", "link set vc mtu 1450"),
        "forward", [("forward", "c/eth0", "r/vc", "peer-too-small", 1454)],
    ),
    "a rule about length": (
        lambda n: n.drop("r", "forward", "iifname vs meta length > 1300 drop"),
        "reverse", [("reverse", "r/vs", "r/vc", "filtered", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_where_and_why(net: Net, case: str) -> None:
    build, direction, expected = CASES[case]
    build(net)
    status, document = traced(net)
    assert (status, document["verdict"]) == (1, "lost")
    mine = [x for x in document["losses"] if x["direction"] == direction]
    found = [x for x in lost(net, document) if x[0] == direction]
    assert [(d, a, b, why[0]) for d, a, b, why in found if why] == [x[:4] for x in expected], found
    assert [x["causes"][0]["most"] for x in mine] == [x[4] for x in expected]
    for loss, (*_, most) in zip(mine, expected, strict=True):
        if most is not None:
            assert loss["passed"] <= most < loss["smallest"], loss


def test_a_way_that_ends_in_a_filter(net: Net) -> None:
    """There is nobody behind it to miss anything: the kernel's own word is enough."""
    net.drop("r", "forward", "tcp dport 8443 drop")
    status, document = traced(net, "--timeout", "4")
    assert status == 1
    assert lost(net, document) == [("forward", "r/vc", None, ["filtered"])]


def test_a_filter_in_front_of_the_first_device(net: Net) -> None:
    """No point can see what never leaves: the kernel's own word is all there is."""
    net.drop("c", "output", "tcp dport 8443 drop")
    status, document = traced(net, "--timeout", "4")
    assert status == 1
    assert lost(net, document) == [("forward", None, None, ["filtered"])]


def test_drops_of_others_with_the_same_addresses_are_not_ours(net: Net) -> None:
    """The kernel tells of all namespaces. In another lab of the same addresses, everything is dropped all the time."""
    net.drop("c", "output", "tcp dport 8443 drop")
    with nets() as other:
        other.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        other.drop("r", "forward", "drop")
        other.drop("s", "input", "drop")
        with other.serving("c", KNOCK, "198.51.100.2"), other.serving("s", KNOCK, "192.0.2.2"):
            status, document = traced(net, "--timeout", "4")
    assert status == 1
    assert lost(net, document) == [("forward", None, None, ["filtered"])]


def test_too_big_for_the_way_in_by_ipv6(net: Net) -> None:
    net.ip("r", "link set vc mtu 1400")
    net.ip("c", "link set eth0 mtu 1500")
    net.drop("s", "input", "icmpv6 type packet-too-big drop")
    status, document = traced(net, to="https://[2001:db8:2::2]:8443/50000")
    assert status == 1
    assert ("reverse", "r/vs", "r/vc", ["too-big", "untold-filtered"]) in lost(net, document)


def test_a_host_without_a_port(net: Net) -> None:
    """Echoes and datagrams: which way they go is told by their addresses."""
    status, document = traced(net, to="198.51.100.2")
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    assert all(p["packets"] > 3 for way in ("forward", "reverse") for p in document[way]["points"])


def test_a_point_that_nobody_may_watch_is_no_place_of_loss(net: Net) -> None:
    """Its tap could not be opened: what it did not see says nothing."""
    words = [sys.executable, "-c", DEAF, "trace", "--from", f"netns:{net('c')}"]
    done = subprocess.run(
        [*words, "--to", "https://198.51.100.2:8443/50000", "--json"], capture_output=True, text=True, timeout=60
    )
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"], document["losses"]) == (3, "unknown", [])
    assert [m["why"] for m in document["missing"]] == ["no"]


def test_through_translation_and_a_tunnel(net: Net) -> None:
    """A client behind NAT, whose packets go by VXLAN: seen in every form; lost where the tunnel's packets are."""
    for name, mine, theirs, host in (("r", 1, 2, 1), ("s", 2, 1, 2)):
        kind = f"vxlan id 7 local 198.51.100.{mine} remote 198.51.100.{theirs} dstport 4789 nolearning df set"
        net.ip(name, f"link add vx0 address 02:00:00:00:07:0{mine} type {kind}")
        net.ip(name, "link set vx0 up mtu 1500")
        net.ip(name, f"addr add 10.5.0.{host}/24 dev vx0")
        net.ip(name, f"neigh replace 10.5.0.{theirs} lladdr 02:00:00:00:07:0{theirs} dev vx0 nud permanent")
    net.inside(
        "r",
        "nft",
        "-f",
        "-",
        stdin="table ip n { chain p { type nat hook postrouting priority 100; masquerade\n }\n }\n",
    )
    status, document = traced(net, to="https://10.5.0.2:8443/50000")
    assert status == 1
    points = [
        f"{p['at']['netns']}/{p['at']['link']}".replace(f"netns:{net.prefix}-", "")
        for p in document["forward"]["points"]
    ]
    assert points == ["c/eth0", "r/vc", "r/vx0", "r/vs", "s/eth0", "s/vx0"]
    assert all(p["packets"] for p in document["forward"]["points"])
    found = lost(net, document)
    assert ("reverse", "s/vx0", "s/eth0", ["outer-too-big"]) in found, found
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    assert loss["passed"] == 1450 and loss["causes"][0]["mtu"] == 1500


def test_from_the_container_s_side_alone(net: Net) -> None:
    """Only its own namespace can be seen. What never came shows in the numbers of what did; and the kernel's word on
    drops is for all namespaces of the machine."""
    net.drop("r", "forward", "meta length > 1300 drop")
    hide = 'umount -l /run/netns; mount -t tmpfs tmpfs /run; exec "$@"'
    alone = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", hide, "sh")
    words = ["ip", "netns", "exec", net("c"), *alone, PATHFIT, "trace", "--to", "https://198.51.100.2:8443/50000"]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    out, back = document["losses"]
    assert (out["direction"], out["before"], out["causes"][0]["why"]) == ("forward", None, "filtered")
    assert (back["direction"], back["after"], back["before"]["link"]) == ("reverse", None, "eth0")
    assert back["missing"] > 1300 >= back["passed"]
    inode = os.stat(f"/run/netns/{net('r')}").st_ino
    assert out["causes"][0]["at"]["netns"] == f"netns inode {inode}"


@pytest.mark.slow
def test_the_packets_open_in_tshark(net: Net, tmp_path: Path) -> None:
    if shutil.which("tshark") is None and not os.environ.get("CI"):
        pytest.skip("needs tshark (make engines-setup)")
    net.drop("r", "forward", "iifname vs meta length > 1300 drop")
    file = tmp_path / "t.pcapng"
    traced(net, "-w", str(file), to="http://198.51.100.2:8080/50000")
    fields = ("-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment")
    done = subprocess.run(["tshark", "-r", str(file), *fields], capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert {x[0] for x in lines} == {net("c") + "/eth0", net("r") + "/vc", net("r") + "/vs", net("s") + "/eth0"}
    assert not re.search(rb"HTTP/1|GET /", file.read_bytes()), "what is said is not kept"
    comments = [x[1] for x in lines if len(x) > 1 and x[1]]
    assert any(
        c.startswith(f"last seen at {net('r')}/vs; {net('r')}/vs: dropped by nft table inet hole, chain f, rule 1: ")
        for c in comments
    ), comments


def test_without_rights_it_says_so_and_still_measures(net: Net) -> None:
    words = ["ip", "netns", "exec", net("c"), *NOBODY, PATHFIT, "trace", "--to", "https://198.51.100.2:8443/", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (3, "unknown")
    assert any(m["what"].startswith("packets at ") for m in document["missing"])
    assert document["report"]["verdict"] == "healthy"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_it_is_left(net: Net, number: signal.Signals) -> None:
    """Interrupted or killed while it watches: no socket of it in any namespace, no program, no table of nftables."""
    net.drop("s", "input", "tcp dport 8443 drop")  # then it waits for an answer
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", "https://198.51.100.2:8443/", "--json"]
    before = packet_sockets(net)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        end = time.monotonic() + 20
        while packet_sockets(net) <= before and time.monotonic() < end:
            time.sleep(0.01)
        assert packet_sockets(net) > before
        while not trace_tables(net) and time.monotonic() < end:
            time.sleep(0.01)
        assert trace_tables(net)
        one.send_signal(number)
        one.wait(20)
    end = time.monotonic() + 10
    while packet_sockets(net) > before and time.monotonic() < end:
        time.sleep(0.02)
    assert packet_sockets(net) == before
    assert not trace_tables(net)


def trace_tables(net: Net) -> bool:
    """Is a table there that marks packets?"""
    return any("pathfit-trace-" in net.inside(name, "nft", "list", "tables") for name in net.names)


def test_two_at_once(net: Net) -> None:
    net.drop("r", "forward", "iifname vs meta length > 1300 drop")
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", "https://198.51.100.2:8443/50000", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    for one in both:
        document = json.loads(one.communicate(timeout=60)[0])
        reasons = {c["why"] for x in document["losses"] if x["direction"] == "reverse" for c in x["causes"]}
        assert reasons == {"filtered"}


AT = Point(host="h", netns="netns:a", link="eth0")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_reason_has_a_sentence(lang: str) -> None:
    words_ = [key.partition(".")[2] for key in templates("en") if key.startswith("lost.")]
    assert len(words_) > 20
    for word in words_:
        text = cause_text(Cause(word=word, at=AT, limit="egress", mtu=1400, most=1404), lang)
        assert "a/eth0" in text and "?" not in text and "{" not in text
    loss = Loss(direction="forward", after=AT, before=AT, packets=3, smallest=1401, largest=1500, passed=1400)
    assert "1400" in loss_text(loss, lang)


@pytest.mark.parametrize(("losses", "blind", "word"), [(1, True, "lost"), (0, False, "unknown"), (0, True, "unknown")])
def test_too_little_seen_is_unknown(losses: int, blind: bool, word: str) -> None:
    nothing = Way("forward", (), (), Result((), (), 0, 0))
    loss = Loss(direction="forward", after=AT, before=AT, packets=1)
    assert _verdict([loss] * losses, (nothing,), blind=blind) == word
