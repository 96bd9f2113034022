"""`pathfit trace --follow`: what others send is watched, nothing is sent, and what is lost is placed all the same."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from netlab import Net, nets, settled
from weblab import PATHFIT, packet_sockets, web

from pathfit.core.followed import Talk
from pathfit.render.followed_talks import talk_text

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

AT = "198.18.74.2:8443"
# A server that sends as many bytes as a line asks for, and a client that asks for what it is told to, for ever open.
ASKED = """
import socket, threading
def serve(c):
    for line in c.makefile():
        c.sendall(bytes(int(line)))
s = socket.create_server(("", 7000))
print(flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
ASKING = """
import socket, sys
c = socket.create_connection(("198.18.74.2", 7000))
for line in sys.stdin:
    c.sendall(line.encode())
    n = int(line)
    if n < 9000:
        while n:
            n -= len(c.recv(n))
    print(flush=True)
"""
# Until it is ended: a request after the other.
LOOP = """
import subprocess, sys
print(flush=True)
while True:
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(("198.18.73", "198.18.74"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


def words(net: Net, to: str, seconds: float) -> list[str]:
    return [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", to, "--follow", str(seconds), "--json"]


def followed(net: Net, to: str = AT, seconds: float = 1.0) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(words(net, to, seconds), capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def curls(net: Net, many: int, url: str = f"https://{AT}/3000") -> None:
    for _ in range(many):
        argv = ["ip", "netns", "exec", net("c"), *curl(url)]
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True, timeout=20)


def followed_while(net: Net, act: Callable[[], object], to: str = AT) -> tuple[int, dict[str, Any]]:
    """From when the watch says that it has begun until ``act`` is done; then Ctrl-C."""
    with subprocess.Popen(words(net, to, 120), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        try:
            assert one.stderr is not None and "is watched now" in one.stderr.readline()
            act()
        finally:
            one.send_signal(signal.SIGINT)
            out, err = one.communicate(timeout=60)
    assert not err, err
    return one.returncode, json.loads(out)


@contextmanager
def asking(net: Net, *command: str) -> Iterator[None]:
    """The command again and again in c."""
    with net.serving("c", LOOP, *command):
        yield


def curl(url: str = f"https://{AT}/3000") -> tuple[str, ...]:
    return ("curl", "-sk", "--max-time", "5", url)


def test_nothing_is_sent_and_nothing_seen_is_unknown(net: Net) -> None:
    before = settled(net.prefix)
    status, document = followed(net, seconds=0.5)
    assert (status, document["verdict"], document["losses"], document["report"]) == (3, "unknown", [], None)
    assert document["followed"]["connections"] == [] and document["followed"]["seconds"] >= 0.5
    assert not any(p["packets"] for way in ("forward", "reverse") for p in document[way]["points"])
    assert settled(net.prefix) == before


def test_what_passes_arrives(net: Net) -> None:
    status, document = followed_while(net, lambda: curls(net, 6))
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    assert all(p["packets"] > 20 for way in ("forward", "reverse") for p in document[way]["points"])
    talks = document["followed"]["connections"]
    assert talks and all(t["server"] == AT and t["protocol"] == "tcp" and not t["stuck"] for t in talks)
    assert any(t["opened"] for t in talks)


def test_what_is_lost_of_others_is_placed(net: Net) -> None:
    net.ip("r", "link set vc mtu 1400")
    net.ip("c", "link set eth0 mtu 1500")
    net.drop("s", "input", "icmp type destination-unreachable drop")
    argv = ["ip", "netns", "exec", net("c"), *curl()]
    status, document = followed_while(net, lambda: subprocess.run(argv, capture_output=True, check=False, timeout=60))
    assert (status, document["verdict"]) == (1, "lost")
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    assert [p["link"] for p in (loss["after"], loss["before"])] == ["vs", "vc"]
    assert (loss["causes"][0]["why"], loss["causes"][0]["mtu"]) == ("too-big", 1400)
    stuck = document["followed"]["connections"][0]
    assert stuck["stuck"]["way"] == "reverse" and stuck["stuck"]["size"] == 1500 and stuck["again_back"] >= 2


def test_a_connection_that_hangs_already(net: Net) -> None:
    """It was open before the watch began: its repetitions are seen, and where they end."""

    def dropped() -> int:
        return int(net.inside("r", "nft", "list", "ruleset").partition("counter packets ")[2].split()[0])

    def repeated() -> None:
        """Three times; before 6.15 who sends waits twice as long each time."""
        begun, end = dropped(), time.monotonic() + 100
        while dropped() < begun + 3 and time.monotonic() < end:
            time.sleep(0.05)

    net.inside("s", "sysctl", "-qew", "net.ipv4.tcp_rto_max_ms=1000")
    argv = ["ip", "netns", "exec", net("c"), sys.executable, "-c", ASKING]
    with (
        net.serving("s", ASKED),
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client,
    ):
        assert client.stdin is not None and client.stdout is not None
        try:
            client.stdin.write("5000\n")
            client.stdin.flush()
            assert client.stdout.readline()
            net.drop("r", "forward", "iifname vs meta length > 1000 counter drop")
            client.stdin.write("9000\n")  # asked for, and not waited for
            client.stdin.flush()
            assert client.stdout.readline()
            status, document = followed_while(net, repeated, "198.18.74.2:7000")
        finally:
            client.kill()
    assert (status, document["verdict"]) == (1, "lost")
    (loss,) = document["losses"]
    assert (loss["after"]["link"], loss["causes"][0]["why"]) == ("vs", "filtered")
    (talk,) = document["followed"]["connections"]
    assert not talk["opened"] and talk["stuck"]["times"] >= 3 and talk["stuck"]["way"] == "reverse"
    assert "it hangs: 198.18.74.2:7000 sent the same packet of 1500 bytes" in talk["text"]


def test_through_a_published_port(net: Net) -> None:
    """The client knows another address and port than the server has, and the server another than the client."""
    rules = """table ip n {
        chain p { type nat hook prerouting priority -100; ip daddr 198.18.73.1 tcp dport 8080 dnat to 198.18.74.2:8443
        }
        chain m { type nat hook postrouting priority 100; masquerade
        }
    }
    """
    net.inside("r", "nft", "-f", "-", stdin=rules)
    status, document = followed_while(net, lambda: curls(net, 6, "https://198.18.73.1:8080/3000"), "198.18.73.1:8080")
    assert (status, document["verdict"]) == (0, "arrives")
    assert [p["at"]["link"] for p in document["forward"]["points"]] == ["eth0", "vc", "vs", "eth0"]
    assert all(p["packets"] > 20 for way in ("forward", "reverse") for p in document[way]["points"])
    assert {t["server"] for t in document["followed"]["connections"]} == {"198.18.73.1:8080"}


def test_all_that_is_between_two_addresses(net: Net) -> None:
    both = "ping -c 3 -i 0.2 -w 2 198.18.74.2; curl -sk --max-time 5 https://198.18.74.2:8443/3000"
    argv = ["ip", "netns", "exec", net("c"), "sh", "-c", both]
    act = partial(subprocess.run, argv, capture_output=True, check=True, timeout=20)
    status, document = followed_while(net, act, "198.18.74.2")
    assert (status, document["verdict"]) == (0, "arrives")
    kinds = {(t["protocol"], t["server"]) for t in document["followed"]["connections"]}
    assert {("icmp", "198.18.74.2"), ("tcp", AT)} <= kinds


def test_ctrl_c_ends_it_and_shows_what_was_seen(net: Net) -> None:
    before = packet_sockets(net)
    with (
        asking(net, *curl()),
        subprocess.Popen(words(net, AT, 60), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one,
    ):
        assert one.stdout is not None
        assert one.stderr is not None and "is watched now" in one.stderr.readline()
        subprocess.run(["ip", "netns", "exec", net("c"), *curl()], stdout=subprocess.DEVNULL, check=True, timeout=20)
        one.send_signal(signal.SIGINT)
        out, err = one.communicate(timeout=20)
    document = json.loads(out)
    assert (one.returncode, document["verdict"], err) == (0, "arrives", "")
    assert 0 < document["followed"]["seconds"] < 30 and document["followed"]["connections"]
    assert packet_sockets(net) == before


def test_it_ends_when_it_is_full_and_says_so(net: Net) -> None:
    small = "from pathfit.capture import watch; from pathfit.cli.entry import main; watch.MOST = {}; main()"
    line, tiny = ([sys.executable, "-c", small.format(most), *words(net, AT, 60)[1:]] for most in (3000, 1))
    with asking(net, *curl()):
        done = subprocess.run(line, capture_output=True, text=True, timeout=50)
        text = subprocess.run([w for w in line if w != "--json"], capture_output=True, text=True, timeout=50)
        once = subprocess.run(tiny, capture_output=True, text=True, timeout=50)
    document = json.loads(done.stdout)
    assert document["followed"]["full"] and document["followed"]["seconds"] < 30
    assert (done.returncode, document["losses"]) == (0, []), "what was seen until then is judged as ever"
    assert "too many packets came to keep them all" in " ".join(text.stdout.split())
    document = json.loads(once.stdout)  # the first packets were too many: of no time at all may nothing be said
    assert document["followed"]["full"] and document["followed"]["seconds"] >= 0
    assert (document["verdict"], document["losses"]) in (("unknown", []), ("arrives", []))
    assert document["followed"]["seconds"] > 0 or document["verdict"] == "unknown"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "99999"])
def test_what_makes_no_sense(seconds: str) -> None:
    line = [PATHFIT, "trace", "--to", AT, "--follow", seconds]
    done = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "try: " in done.stderr


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_connection_in_words(lang: str) -> None:
    talk = Talk(
        protocol="tcp", client="198.18.73.2:4", server=AT, packets=7, back=5, again=3, repeats=4, stuck=1500,
        stuck_way="forward", reset="reverse",
    )  # fmt: skip
    text = talk_text(talk, lang)
    assert all(word in text for word in ("198.18.73.2:4", AT, "7", "5", "1500")) and "{" not in text and "?" not in text
