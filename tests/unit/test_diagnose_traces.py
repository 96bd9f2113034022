"""`diagnose` looks at every device by itself where neither state nor measurement tell."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from netlab import Net, nets, settled
from weblab import NOBODY, PATHFIT, web

from pathfit.cli import saved

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

TC = ("protocol", "all", "bpf", "da", "bytecode")
TBF = ("tbf", "rate", "10mbit", "burst", "1600", "limit", "3000")
TO = "https://198.18.72.2:8443/50000"
PORT = "4,40 0 0 36,21 0 1 8443,6 0 0 2,6 0 0 0"  # classic BPF: TC_ACT_SHOT for TCP port 8443 behind 20 bytes of IPv4
LARGE = "4,128 0 0 0,37 0 1 1314,6 0 0 2,6 0 0 0"  # for frames above 1314 bytes


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(("198.18.71", "198.18.72"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


class Asked(NamedTuple):
    status: int
    report: dict[str, Any]
    requests: list[str]


def asked(net: Net, folder: Path, *more: str) -> Asked:
    """What was said, and the ids of what was asked of the world."""
    words = [PATHFIT, "diagnose", "--from", f"netns:{net('c')}", "--to", TO, "--json"]
    done = subprocess.run([*words, "--save", str(folder), *more], capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    requests = [x.request.ref for x in saved.open_case(folder).exchanges]
    return Asked(done.returncode, json.loads(done.stdout), requests)


def classifier(net: Net, link: str, code: str) -> None:
    net.inside("r", "tc", "qdisc", "add", "dev", link, "clsact")
    net.inside("r", "tc", "filter", "add", "dev", link, "ingress", *TC, code)


class Fault(NamedTuple):
    """``build``: what is done to the lab; the error, its cause and the device of r it is found at; a word of why."""

    build: Callable[[Net], object]
    symptom: str
    cause: str
    at: str
    says: str


FAULTS = {
    "a rule the model does not understand": Fault(
        lambda n: n.drop("r", "forward", "tcp dport 8443 meta cpu 0-4095 drop"),
        "NET152", "FLT401", "vc", "NETFILTER_DROP",
    ),
    "such a rule about length": Fault(
        lambda n: n.drop("r", "forward", "iifname vs @nh,16,16 > 1300 drop"), "MTU101", "FLT401", "vs", "NETFILTER_DROP"
    ),
    "a classifier that drops": Fault(lambda n: classifier(n, "vc", PORT), "NET152", "FLT405", "vc", "TC_INGRESS"),
    "a classifier that drops what is large": Fault(
        lambda n: classifier(n, "vs", LARGE), "MTU101", "FLT405", "vs", "TC_INGRESS"
    ),
    "a mark the model cannot foresee, and where it leads": Fault(
        lambda n: (n.inside("r", "nft", "-f", "-", stdin="table ip w { chain p { type filter hook prerouting priority "
                            "-150; tcp dport 8443 meta cpu 0-4095 meta mark set 7\n }\n }\n"),
                   n.inside("r", "ip", "rule", "add", "fwmark", "7", "lookup", "99"),
                   n.inside("r", "ip", "route", "add", "blackhole", "default", "table", "99")),
        "NET152", "NET154", "vc", "dropped behind it",
    ),
    "a neighbour that does not answer": Fault(
        lambda n: (n.inside("s", "sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=8"), n.ip("r", "neigh flush dev vs")),
        "NET152", "NET154", "vs", "the next hop behind {r}/vs does not answer",
    ),
}  # fmt: skip


LONG = ("a mark the model cannot foresee, and where it leads", "a neighbour that does not answer")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in FAULTS])
def test_the_device_and_the_cause_are_named(net: Net, tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    fault.build(net)
    before = settled(net.prefix) if "neighbour" not in name else ""
    status, report, requests = asked(net, tmp_path / "case")
    first = report["findings"][0]
    assert (status, report["verdict"]) == (1, "broken")
    assert first["code"] in (fault.symptom, *(["RTE502"] if "neighbour" in name else [])), report["findings"]
    assert fault.cause in first["because"]
    (cause,) = [f for f in report["findings"] if f["code"] == fault.cause]
    assert first["code"] in cause["explains"] and cause["severity"] == "warning"
    for f in (first, cause):
        assert [(p["netns"], p["link"]) for p in f["where"]] == [(f"netns:{net('r')}", fault.at)]
        said = " ".join(e["text"] for e in f["evidence"] if e["ref"] == "look:end")
        assert f"seen at {net('r')}/" in said and fault.says.format(r=net("r")) in said
    if fault.cause == "FLT401":
        assert (cause["facts"]["table"], cause["facts"]["chain"]) == ("inet hole", "f")
        assert [x["id"] for x in cause["fixes"]] == ["delete-rule"]
    assert requests[requests.index("look") :][:2] == ["look", "look:again"] and "look:end" in requests
    assert not before or settled(net.prefix) == before, "looking changes nothing"
    replayed = subprocess.run([PATHFIT, "replay", str(tmp_path / "case"), "--json"], capture_output=True, timeout=60)
    assert json.loads(replayed.stdout) == report, replayed.stderr


@pytest.mark.slow
def test_a_full_queue_is_the_place_of_random_loss(net: Net, tmp_path: Path) -> None:
    net.inside("r", "tc", "qdisc", "add", "dev", "vc", "root", *TBF)
    _, report, _ = asked(net, tmp_path / "case")
    lost = [f for f in report["findings"] if f["code"] == "NET154"]
    codes = {f["code"] for f in report["findings"]}
    if "NET151" not in codes and not lost:
        return  # nothing was disturbed, and nothing else was open (a direction that was not measured, say)
    assert [f["where"][0]["link"] for f in lost] == ["vc"], report["findings"]
    assert set(lost[0]["explains"]) <= codes and ("NET151" in lost[0]["explains"]) is ("NET151" in codes)
    assert any("the queue of" in e["text"] for e in lost[0]["evidence"])


QUIET: dict[str, tuple[Callable[[Net], object], str]] = {
    "a path that is whole": (lambda n: None, "healthy"),
    "a rule that is understood": (lambda n: n.drop("r", "forward", "tcp dport 8443 drop"), "FLT401"),
    "a rule about length that is understood": (
        lambda n: n.drop("r", "forward", "iifname vs meta length > 1300 drop"), "MTU101"
    ),
    "a limit that state shows": (
        lambda n: (n.ip("r", "link set vc mtu 1400"), n.ip("c", "link set eth0 mtu 1500"),
                   n.drop("s", "input", "icmp type destination-unreachable drop")), "MTU101",
    ),
    "a closed port": (lambda n: n.drop("s", "input", "tcp dport 8443 reject with tcp reset"), "RST202"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_opened_where_state_tells(net: Net, tmp_path: Path, name: str) -> None:
    build, wanted = QUIET[name]
    build(net)
    _, report, requests = asked(net, tmp_path / "case")
    assert wanted in (report["verdict"], report["findings"][0]["code"]), report["findings"]
    assert not [r for r in requests if r.startswith("look")]


def test_not_where_it_is_not_wanted(net: Net, tmp_path: Path) -> None:
    net.drop("r", "forward", "iifname vs @nh,16,16 > 1300 drop")
    for n, more in enumerate(("--no-trace", "--fast")):
        status, report, requests = asked(net, tmp_path / str(n), more)
        assert (status, report["findings"][0]["code"]) == (1, "MTU101")
        assert "look" not in requests


def test_a_filter_of_its_own_where_nothing_else_can_be_seen(net: Net) -> None:
    """One device, and no point behind it: the kernel's own word is all there is."""
    net.drop("c", "output", "tcp dport 8443 meta cpu 0-4095 drop")
    hide = 'umount -l /run/netns; mount -t tmpfs tmpfs /run; exec "$@"'
    alone = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", hide, "sh")
    words = ["ip", "netns", "exec", net("c"), *alone, PATHFIT, "diagnose", "--to", TO, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    first, cause = report["findings"][:2]
    assert (first["code"], cause["code"], first["because"]) == ("NET152", "FLT401", ["FLT401"]), report["findings"]
    assert "before any device saw them" in " ".join(e["text"] for e in cause["evidence"])


def test_without_rights_it_is_as_it_was(net: Net) -> None:
    net.drop("r", "forward", "iifname vs @nh,16,16 > 1300 drop")
    words = ["ip", "netns", "exec", net("c"), *NOBODY, PATHFIT, "diagnose", "--to", TO, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"][0]["code"]) == (1, "MTU101")
    assert "look:" not in done.stdout


@pytest.mark.parametrize(("lang", "words"), [("en", "shown once more"), ("zh", "重演一次")])
def test_the_text_says_where_it_was_seen_and_where_not(net: Net, lang: str, words: str) -> None:
    net.drop("r", "forward", "iifname vs @nh,16,16 > 1300 drop")
    line = [PATHFIT, "diagnose", "--from", f"netns:{net('c')}", "--to", TO, "--lang", lang]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert words in done.stdout and f"{net('r')}/vs" in done.stdout
