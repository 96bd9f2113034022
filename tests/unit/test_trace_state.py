"""`trace` beside what was read of a place: the rule that nobody can trace, the neighbour of whom no drop tells, and the
first sentence. Every fault is a real one; what is said without BPF is asked for under seccomp, which refuses it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from netlab import Net, nets
from test_trace_reduced import SECCOMP
from weblab import PATHFIT, traced, web

from pathfit.core.ask import Ask, Target
from pathfit.core.followed import Cause, Followed, Loss, Stage
from pathfit.core.net import Point
from pathfit.core.tracing import Rule
from pathfit.render.followed_head import headline

pytestmark = [pytest.mark.lab, pytest.mark.real_root]
NETDEV = 'table netdev edge {{ chain in {{ type filter hook ingress device "{}" priority 0; {}\n }}\n }}\n'
BARE = (sys.executable, "-c", SECCOMP)


@pytest.fixture
def net() -> Iterator[Net]:
    with nets() as made:
        made.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(made):
            yield made


def bare(net: Net) -> tuple[int, dict]:  # type: ignore[type-arg]
    words = [*BARE, PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", "https://198.51.100.2:8443/5", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def edge(net: Net, rule: str) -> None:
    net.inside("r", "nft", "-f", "-", stdin=NETDEV.format("vc", rule))


def test_a_rule_of_netdev_has_its_name(net: Net) -> None:
    """No packet that is marked comes to its chain: the kernel says "a packet filter", what was read says which."""
    edge(net, "tcp dport 8443 drop")
    status, document = traced(net)
    (loss,) = document["losses"]
    assert (status, [(c["why"], c["by"]) for c in loss["causes"]]) == (
        1,
        [("filtered", "event"), ("filtered", "state")],
    )
    rule = loss["causes"][1]["rule"]
    assert (rule["family"], rule["table"], rule["chain"], rule["number"]) == ("netdev", "edge", "in", 1)


def test_a_rule_elsewhere_on_the_way_has_not(net: Net) -> None:
    """The rule that was read is of r; what drops them is a filter of s that nobody can read a rule of."""
    edge(net, "tcp dport 8443 meta length > 1400 drop")
    net.inside("s", "nft", "-f", "-", stdin=NETDEV.format("eth0", "tcp dport 8443 @nh,16,16 > 40 drop"))
    _, document = traced(net)
    causes = [c for x in document["losses"] if x["direction"] == "forward" for c in x["causes"]]
    assert causes and not [c for c in causes if c["by"] == "state" and c["at"]["netns"].endswith("-r")], causes


@pytest.mark.parametrize("fault", ["rule", "neighbour", "down", "blackhole", "prohibit", "unreachable"])
def test_without_bpf_state_is_the_cause(net: Net, fault: str) -> None:
    if fault == "rule":
        edge(net, "tcp dport 8443 drop")
    elif fault == "neighbour":
        net.ip("r", "route add 198.51.100.2/32 via 198.51.100.77")
    elif fault == "down":
        net.ip("s", "link set eth0 down")
    else:
        net.ip("r", f"route add {fault} 198.51.100.2/32")
    status, document = bare(net)
    (loss,) = document["losses"]
    wanted = {"rule": "filtered", "neighbour": "no-neighbour", "down": "link-down"}.get(fault, "refused-by-route")
    assert (status, [(c["why"], c["by"]) for c in loss["causes"]][-1]) == (1, (wanted, "state")), loss


def test_a_whole_way_has_none_without_bpf(net: Net) -> None:
    status, document = bare(net)
    assert (status, document["losses"]) == (0, [])


def test_what_is_dropped_behind_the_last_point_is_marked(net: Net) -> None:
    """The same bytes pass there in smaller packets: those are not."""
    net.drop("s", "input", "tcp dport 8443 meta length > 1200 drop")
    _, document = traced(net, to="https://198.51.100.2:8443/5")
    rows = [r for r in document["ladder"] if r["direction"] == "forward"]
    assert {r["dropped"] for r in rows} == {True, False}
    assert all(r["size"] > 1200 for r in rows if r["dropped"])


def test_what_arrives_and_fails_all_the_same_says_so(net: Net) -> None:
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", "198.51.100.2:9", "--lang", "en"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    first = " ".join(done.stdout.split("\n\n")[0].split())
    assert first.startswith("ARRIVES") and "nothing listens on port 9" in first, done.stdout


AT, BEHIND = (Point(host="", netns="netns:r", link=x) for x in ("a", "b"))
RULED = Rule(tool="nft", family="inet", table="t", chain="f", number=1, text="drop")
HEADS = {
    "sized": (
        Loss(direction="forward", after=AT, before=BEHIND, packets=2, smallest=1400, largest=1500, passed=1300),
        "Packets of more than 1300 bytes from c to 192.0.2.9 get lost between r/a and r/b; why is not known.",
    ),
    "some, on the way back": (
        Loss(direction="reverse", after=AT, before=None, packets=2, smallest=60, largest=60,
             causes=(Cause(word="filtered", at=AT, rule=RULED),)),
        "Some packets (60 bytes) from 192.0.2.9 to c get lost behind r/a: a rule at r/a drops them "
        "(nft table inet t, chain f).",
    ),
    "by state": (
        Loss(direction="forward", after=AT, before=BEHIND, packets=9, smallest=60, largest=60,
             causes=(Cause(word="link-down", at=BEHIND, by="state"),)),
        "Packets from c to 192.0.2.9 get lost between r/a and r/b; likely: r/b is down.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_first_sentence(name: str) -> None:
    loss, wanted = HEADS[name]
    ask = Ask(command="trace", source="c", target=Target(text="192.0.2.9", protocol="any", host="192.0.2.9", port=0))
    stages = (Stage(at=AT, out=True, packets=9), Stage(at=BEHIND, out=True))
    seen = Followed(version="0", ask=ask, verdict="lost", forward=stages, reverse=stages, losses=(loss,))
    assert headline(seen, "en") == wanted
