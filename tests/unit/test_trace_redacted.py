"""`trace --redact`, `replay --redact`: the same trace under other names, in the document, the case and the capture."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from netlab import Net, nets
from redaction import bones, check, left
from test_trace_origin import case_of
from test_trace_saved import replayed
from weblab import HANGS_UP, PATHFIT, traced, web

from pathfit.cli import saved
from pathfit.core.case import Case
from pathfit.core.evidence import TraceFact
from pathfit.follow import followed

pytestmark = [pytest.mark.lab, pytest.mark.real_root]
URL = "https://10.91.7.2:8443/50000"
KEY = b"a key of sixteen bytes, or more"


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, and a web server. Not with addresses of documentation: of those but eight bits may change, and one's
    pseudonym is soon another's name."""
    with nets() as net:
        net.routed(("10.83.22", "10.91.7"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


def tunnel(net: Net) -> None:
    """A VXLAN between c and s, whose large packets r drops."""
    ends = {"c": ("10.91.7.2", 2), "s": ("10.83.22.2", 3)}
    for name, (theirs, number) in ends.items():
        net.ip(name, f"link add vx0 address 02:00:00:00:07:0{number} type vxlan id 7 remote {theirs} dstport 4789")
        net.ip(name, "link set vx0 up mtu 1450")
        net.ip(name, f"addr add 10.5.0.{number}/24 dev vx0")
        net.ip(name, f"neigh replace 10.5.0.{5 - number} lladdr 02:00:00:00:07:0{5 - number} dev vx0 nud permanent")
    net.drop("r", "forward", "meta length > 1400 drop")


def translated(net: Net) -> None:
    table = "table ip secretnat { chain p { type nat hook postrouting priority 100; oifname vs masquerade\n }\n }\n"
    net.inside("r", "nft", "-f", "-", stdin=table)
    net.ip("r", "link set vc mtu 1450")


FAULTS: dict[str, tuple[Callable[[Net], object], str, str]] = {
    "nothing": (lambda n: None, URL, ""),
    "a smaller cable": (lambda n: n.ip("r", "link set vc mtu 1450"), URL, "peer-too-small"),
    "translation": (translated, URL, "peer-too-small"),
    "by IPv6": (lambda n: n.ip("r", "link set vs mtu 1400"), "https://[2001:db8:2::2]:8443/50000", "too-big"),
    "a rule": (lambda n: n.drop("r", "forward", "meta length > 1300 drop"), URL, "filtered"),
    "a reset by a filter": (
        lambda n: n.drop("r", "forward", "tcp dport 8443 reject with tcp reset"), URL, "filtered"),
    "a tunnel": (tunnel, "https://10.5.0.3:8443/50000", "filtered"),
    "datagrams": (lambda n: n.drop("s", "input", "udp dport 53 drop"), "udp://10.91.7.2:53", "filtered"),
    "no route": (lambda n: n.ip("r", "route add blackhole 10.91.7.2"), URL, "refused-by-route"),
}  # fmt: skip


AT_ONCE = ("a smaller cable", "by IPv6", "a reset by a filter", "datagrams")  # the others with `make test-all`


@pytest.mark.parametrize("name", [pytest.param(x, marks=[] if x in AT_ONCE else pytest.mark.slow) for x in FAULTS])
def test_a_redacted_trace_says_the_same_of_others(net: Net, name: str) -> None:
    fault, to, word = FAULTS[name]
    fault(net)
    case = case_of(net, to)
    done = followed(case)
    assert {c.word for loss in done.losses for c in loss.causes} >= ({word} if word else set()), done.losses
    assert case.all(TraceFact)[0].seen

    @given(st.binary(min_size=16, max_size=40))
    @settings(
        max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )  # smaller keys tell nothing
    def with_any_key(key: bytes) -> None:
        check(case, key)

    check(case, KEY)
    with_any_key()


def test_who_reset_it_is_known_by_any_name(net: Net) -> None:
    with net.serving("s", HANGS_UP):
        case = case_of(net, "http://10.91.7.2:8081/")
    assert [x.kind for x in followed(case).answers].count("reset")
    check(case, KEY)


def opened(folder: Path) -> Case:
    return saved.open_case(folder)


def test_the_command_writes_nothing_of_the_old(net: Net, tmp_path: Path) -> None:
    net.drop("r", "forward", "meta length > 1300 drop")
    whole, case, again = tmp_path / "whole", tmp_path / "case", tmp_path / "again"
    status, document = traced(net, "--save", str(whole), to=URL)
    one, two = tmp_path / "one.pcapng", tmp_path / "two.pcapng"
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", URL, "--json", "--redact", "--save", str(case)]
    done = subprocess.run([*words, "-w", str(one)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, status) == (1, 1)
    for text in (done.stdout, *(p.read_text() for p in case.iterdir())):
        assert not [x for x in ('10.83.22.2"', "10.91.7.2:", net.prefix) if x in text]
    assert net.prefix.encode() not in one.read_bytes()
    replay = replayed(case, "--json", "-w", str(two))
    assert (replay.returncode, json.loads(replay.stdout)) == (1, json.loads(done.stdout))
    assert two.read_bytes() == one.read_bytes()
    assert json.loads(done.stdout)["losses"][0]["causes"][0]["why"] == "filtered"

    key = tmp_path / "key"
    key.write_bytes(KEY)
    more = ("--redact", "--redact-key", str(key), "--json")
    first, second = replayed(whole, *more, "--save", str(again)), replayed(whole, *more)
    assert first.stdout == second.stdout and first.returncode == 1
    assert bones(json.loads(first.stdout)) == bones(document)
    assert list(left(opened(whole), KEY)) == [] and opened(again).redacted
    assert json.loads(replayed(again, "--json").stdout) == json.loads(first.stdout)

    look = ["tshark", "-r", str(one), "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
            "-Y", '_ws.malformed || ip.checksum.status == "Bad" || tcp.checksum.status == "Bad"']  # fmt: skip
    complaints = subprocess.run(look, capture_output=True, text=True, timeout=60, check=True)
    assert complaints.stdout == ""
    every = subprocess.run(look[:3], capture_output=True, text=True, timeout=60, check=True)
    assert len(every.stdout.splitlines()) > 20


def test_what_cannot_be_redacted_is_said(net: Net, tmp_path: Path) -> None:
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", URL, "--redact-key", str(tmp_path / "none")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--redact-key says how to redact" in done.stderr
    case = tmp_path / "case"
    subprocess.run([PATHFIT, "probe", URL, "--save", str(case)], capture_output=True, timeout=60, check=False)
    done = replayed(case, "--redact")
    assert done.returncode == 2 and "traces and snapshots can be redacted" in done.stderr
