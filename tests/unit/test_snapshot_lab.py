"""Real namespaces, read into a file: what is in it, who may read it, and what is left of names when it is redacted."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import topo
from test_redact import said
from topo_lab import Lab

from pathfit.cli.app import run
from pathfit.core.redact import Redactor
from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Network, predict_both
from pathfit.observe import recorded

pytestmark = pytest.mark.lab
KEY = b"0123456789abcdef"
TEXT = """
front eth0 1500 198.18.71.2/24 2001:db8:71::2/64 -- gate corplan 1500 @bridge7
gate bridge7 bridge 1500 198.18.71.1/24 2001:db8:71::1/64
gate uplink 1400 198.18.72.2/24 2001:db8:72::2/64 -- back eth0 1400 198.18.72.1/24 2001:db8:72::1/64
front route default via 198.18.71.1
front route default via 2001:db8:71::1
back route 198.18.71.0/24 via 198.18.72.2
back route 2001:db8:71::/64 via 2001:db8:72::2
gate forward
gate nft add table inet corpfilter
gate nft add chain inet corpfilter forward { type filter hook forward priority 0 ; }
gate nft add rule inet corpfilter forward iifname "bridge*" ip daddr 198.18.72.1-198.18.72.6 tcp dport 444 drop
gate nft add rule inet corpfilter forward oifname "corp*" counter comment "ask-alice"
gate nft add rule inet corpfilter forward oifname "uplink" tcp flags syn tcp option maxseg size set 1340
"""
SECRETS = (
    "198.18.71",
    "198.18.72",
    "2001:db8:71",
    "2001:db8:72",
    "corplan",
    "corpfilter",
    "alice",
    "uplink",
    "bridge7",
)


def _settled(host: HostSnapshot) -> bool:
    """Has the kernel seen every carrier (linkwatch_event), and does every bridge port forward?"""
    links = [x for n in host.namespaces for x in n.links]
    return all(x.carrier and (x.bridge_port is None or x.bridge_port.state == 3) for x in links if x.kind == "veth")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    built = Lab(TEXT)
    try:
        built.up()
        end = time.monotonic() + 30
        while not _settled(built.snapshot()) and time.monotonic() < end:
            pass
        yield built
    finally:
        built.down()


@pytest.fixture(scope="module")
def whole(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snap") / "host.json.gz"
    assert run(["snapshot", "-o", str(path)]) == 0
    return path


def test_the_file_is_its_owners_alone_and_opens_again(whole: Path, lab: Lab) -> None:
    host = recorded.load_snapshot(whole)
    assert whole.stat().st_mode & 0o777 == 0o600
    assert {f"netns:{lab.prefix}-{n}" for n in lab.names} <= {n.where for n in host.namespaces}
    assert host.version and host.host and host.boot_id
    assert not any(n.outline or n.plain for n in host.namespaces)


def test_the_summary(lab: Lab, tmp_path: Path, capsys: Any) -> None:
    assert run(["snapshot", "-o", str(tmp_path / "x.json"), "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["schema"] == "pathfit.snapshot-summary/1" and said["namespaces"] >= 3 and not said["redacted"]
    assert f"namespaces: {said['namespaces']}" in err
    capsys.readouterr()
    assert run(["snapshot", "-o", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "pathfit.snapshot/1"


@pytest.mark.parametrize("target", ["198.18.72.1:443", "[2001:db8:72::1]:443", "198.18.72.1:444"])
def test_the_file_says_what_this_machine_says(target: str, whole: Path, lab: Lab, capsys: Any) -> None:
    words = ["--from", f"netns:{lab.prefix}-front", "--to", target, "--json"]
    found = []
    for where in (["--in", str(whole)], []):
        status = run(["predict", *where, *words])
        found.append((status, json.loads(capsys.readouterr().out)["predicted"]))
    assert found[0] == found[1]
    assert found[0][0] == (1 if target.endswith("444") else 0), [d["why"] for d in found[0][1].values()]


@pytest.fixture(scope="module")
def both(whole: Path, lab: Lab) -> tuple[HostSnapshot, HostSnapshot, Redactor]:
    host = recorded.load_snapshot(whole)
    made = Redactor(host, KEY)
    return host, made.host(), made


@pytest.mark.parametrize("port", [443, 444])
@pytest.mark.parametrize("target", ["198.18.72.1", "2001:db8:72::1", "198.18.71.1", "203.0.113.1"])
def test_the_model_says_the_same_of_the_redacted_file(target: str, port: int, both: Any, lab: Lab) -> None:
    host, hidden, made = both
    index = next(n for n, s in enumerate(host.namespaces) if s.where == f"netns:{lab.prefix}-front")
    old = predict_both(Network.of(host), host.namespaces[index].id, target, dport=port)
    new = predict_both(Network.of(hidden), hidden.namespaces[index].id, made.names.address(target), dport=port)
    assert [said(w) for w in old] == [said(w) for w in new]


def test_nothing_of_it_is_left(both: Any, lab: Lab, whole: Path) -> None:
    host, hidden, _ = both
    text, plain = recorded.pack(hidden).decode(), recorded.pack(host).decode()
    names = {*SECRETS, lab.prefix, host.boot_id}
    assert [x for x in names if x not in plain] == []
    assert [x for x in names if x in text] == []
    macs = {x.mac for n in host.namespaces for x in n.links if x.mac and not x.loopback}
    assert macs and [m for m in macs if m in text] == []
    processes = {p.name for n in host.namespaces for p in n.processes if len(p.name) > 5}
    assert [p for p in processes if re.search(rf"\b{re.escape(p)}\b", text)] == []


def test_redacted_by_the_command_with_a_key(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    words = ["--redact", "--redact-key", str(tmp_path / "key")]
    for name in ("a.json", "b.json"):
        assert run(["snapshot", "-o", str(tmp_path / name), *words]) == 0
    assert run(["snapshot", "-o", str(tmp_path / "c.json"), "--redact"]) == 0
    a, b, c = (recorded.load_snapshot(tmp_path / f"{x}.json") for x in "abc")
    assert a.host == b.host != c.host and a.boot_id == b.boot_id != c.boot_id
    assert [n.addresses for n in a.namespaces] == [n.addresses for n in b.namespaces]


def test_the_text_of_the_lab_is_what_topo_says() -> None:
    assert {d.ns for d in topo.parse(TEXT).devices} == {"front", "gate", "back"}
