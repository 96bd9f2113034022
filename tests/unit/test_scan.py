"""What a scan says of machines made of a few lines of text: codes, severities, who is affected, and who is well."""

import json
import os
from pathlib import Path

import pytest
import topo
from msgspec.structs import replace

from pathfit import __version__, survey
from pathfit.cli.scanning import question
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.core.report import Hung, Report
from pathfit.core.snapshot import HostSnapshot
from pathfit.render import json as as_json
from pathfit.render import layout
from pathfit.render import scan as as_text

BRIDGE = """
c1 eth0 {own} 198.18.1.2/24 -- h v1 {own} @br0
c2 eth0 {own} 198.18.1.3/24 -- h v2 {half} @br0
h br0 bridge {own} 198.18.1.1/24
h eth0 phys {up} 203.0.113.7/24
h route default via 203.0.113.1
c1 route default via 198.18.1.1
c2 route default via 198.18.1.1
h forward
"""
OVERLAY = """
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan {mtu} id=77 local=198.18.9.1 remote=198.18.9.2 df=set @br0
b vx0 vxlan {mtu} id=77 local=198.18.9.2 remote=198.18.9.1 df=set @br0
a br0 bridge {mtu}
b br0 bridge {mtu}
c eth0 {mtu} 198.18.50.1/24 -- a vc {mtu} @br0
d eth0 {mtu} 198.18.50.2/24 -- b vd {mtu} @br0
"""

CASES = [  # name, text, {(severity, code): workloads}
    ("all-1500", BRIDGE.format(own=1500, half=1500, up=1500), {}),
    ("jumbo-outside", BRIDGE.format(own=1500, half=1500, up=9000), {}),
    ("custom-mtu", BRIDGE.format(own=1400, half=1400, up=1400), {}),
    ("uplink-smaller", BRIDGE.format(own=1500, half=1500, up=1400), {("warning", "MTU103"): {"c1", "c2"}}),
    ("one-half-smaller", BRIDGE.format(own=1500, half=1400, up=1500), {("error", "MTU105"): {"c1", "c2"}}),
    ("overlay-sized-right", OVERLAY.format(mtu=1450), {}),
    ("overlay-too-large", OVERLAY.format(mtu=1500), {("warning", "MTU104"): {"c", "d"}}),
]


def scan(text: str) -> Report:
    return of(topo.host(text))


def of(*hosts: HostSnapshot) -> Report:
    return survey.report_of(question("en"), __version__, 0.5, [survey.judge(h) for h in hosts], ())


def said(report: Report) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for f in report.findings:
        names = {k.removeprefix("netns:") for k in f.workloads}
        found[f.severity, f.code] = found.get((f.severity, f.code), set()) | names
    return found


@pytest.mark.parametrize(("text", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_findings(text: str, want: dict[tuple[str, str], set[str]]) -> None:
    assert said(scan(text)) == want


@pytest.mark.parametrize(("text", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_workload_has_its_own_verdict(text: str, want: dict[tuple[str, str], set[str]]) -> None:
    report = scan(text)
    worst = {"error": "broken", "warning": "degraded"}
    for w in report.workloads:
        named = [worst[severity] for (severity, _), names in want.items() if w.name in names]
        assert w.verdict == (named[0] if named else "healthy"), w
        assert all(any(f.id == i for f in report.findings) for i in w.findings)


def test_twins_are_judged_once_and_named_all() -> None:
    lines = [
        f"c{n} eth0 1500 198.18.1.{n}/24 -- h v{n} 1500 @br0\nc{n} route default via 198.18.1.1" for n in range(2, 42)
    ]
    rest = (
        "h br0 bridge 1500 198.18.1.1/24\nh eth0 phys 1400 203.0.113.7/24\nh route default via 203.0.113.1\nh forward"
    )
    host = topo.host("\n".join([*lines, rest]))
    from pathfit.rules.state.machine import Machine

    sizes = sorted(len(g.seats) for g in Machine(host).groups)
    assert sizes == [1, 40]
    report = of(host)
    assert [len(f.workloads) for f in report.findings] == [40]
    assert "40 containers: c2 c3 c4 +37" in as_text.render(report, width=120)


def test_a_rule_that_raises_is_said_and_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathfit.rules.state.machine import StateRule

    def broken(machine: object) -> list[object]:
        raise ValueError("no such thing")

    monkeypatch.setattr(survey, "STATE_RULES", (StateRule("MTU117", broken), *survey.STATE_RULES))  # type: ignore[arg-type]
    codes = [f.code for f in scan(BRIDGE.format(own=1500, half=1500, up=1400)).findings]
    assert codes == ["MTU103", "SYS902"]


def test_json_has_every_workload_and_the_same_shape_as_a_diagnosis() -> None:
    document = json.loads(as_json.dump(scan(BRIDGE.format(own=1500, half=1500, up=1400))))
    assert document["schema"] == "pathfit.report/1" and document["verdict"] == "degraded"
    names = {w["name"]: w["verdict"] for w in document["workloads"]}
    assert names == {"c1": "degraded", "c2": "degraded", "h": "healthy"}
    assert document["findings"][0]["workloads"] == ["netns:c1", "netns:c2"]


def test_two_hosts_with_the_same_addresses_inside_are_two_machines() -> None:
    host = topo.host(BRIDGE.format(own=1500, half=1500, up=1400))
    other = replace(host, host="second", boot_id="b2")
    report = of(host, other)
    assert report.hosts == 2 and len(report.workloads) == 6
    assert {f.where[0].host for f in report.findings} == {host.host, "second"}


GOLDEN = Path(__file__).parent.parent / "golden"
CROWD = """
h eth0 phys 1500 203.0.113.7/24
h route default via 203.0.113.1
h vxlan0 vxlan 1500 id=4097 local=203.0.113.7 remote=203.0.113.8 @br0
h br0 bridge 1500 10.0.1.1/24
h docker0 bridge 9000 172.17.0.1/16
h forward
cache eth0 9000 172.17.0.9/16 -- h vcache 1500 @docker0
cache route default via 172.17.0.1
"""
NAMES = {
    **{f"web.{n}": "app" for n in (1, 2, 10)},
    "db.1": "app",
    **dict.fromkeys(("jenkins", "registry", "cache"), "bridge"),
}


def crowd() -> Report:
    """A machine with something of everything: an error, warnings, a socket that hangs, some that cannot be judged."""
    text = CROWD
    for n, (name, where) in enumerate((k, v) for k, v in NAMES.items() if k != "cache"):
        bridge, mtu, net, bits = ("br0", 1500, "10.0.1", 24) if where == "app" else ("docker0", 9000, "172.17.0", 16)
        text += f"{name} eth0 {mtu} {net}.{n + 20}/{bits} -- h v{n} {mtu} @{bridge}\n{name} route default via {net}.1\n"
    host = topo.host(text, name="ci-2")
    spaces = {s.where.removeprefix("netns:"): s for s in host.namespaces}
    inside = tuple(
        Container(
            id=name * 4, name=name, engine="docker", netns=spaces[name].id, endpoints=(Endpoint(network=net, name=net),)
        )
        for name, net in NAMES.items()
    )
    aside = (
        Container(id="1" * 12, name="backup", engine="docker", state="exited"),
        Container(id="2" * 12, name="agent", engine="docker", netns=spaces["h"].id, network_mode="host"),
        Container(id="3" * 12, name="sealed", engine="docker"),
    )
    named = tuple(
        replace(s, where=f"container:{name}") if name in NAMES else replace(s, where="host")
        for name, s in spaces.items()
    )
    networks = (EngineNetwork(id="app", name="app", driver="overlay", netns=spaces["h"].id),)
    engine = Engine(
        kind="docker", socket="/run/docker.sock", netns=spaces["h"].id, containers=(*inside, *aside), networks=networks
    )
    lacking = Missing(what="docker: namespace of sealed", why="permission denied", how="sudo pathfit")
    report = of(replace(host, namespaces=named, own=spaces["h"].id, engines=(engine,), missing=(lacking,)))
    hung = Hung(
        where="container:web.10",
        workload="web.10",
        kind="inbound-gap",
        since=41.2,
        to="198.51.100.7:443",
        process="curl",
        mss=1460,
    )
    return replace(report, hung=(hung,))


@pytest.mark.parametrize(("name", "lang"), [("scan-80.txt", "en"), ("scan-zh-80.txt", "zh")])
def test_golden(name: str, lang: str) -> None:
    """PATHFIT_GOLDEN=write makes the files anew; the difference is then reviewed, not believed."""
    found = as_text.render(crowd(), lang=lang)
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        (GOLDEN / name).write_text(found, encoding="utf-8")
    assert found == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_asked_but_commands(width: int, lang: str, every: bool) -> None:
    for line in as_text.render(crowd(), lang=lang, width=width, every=every).splitlines():
        assert layout.columns(line) <= width or "pathfit " in line


def test_names_are_in_the_order_people_count() -> None:
    text = as_text.render(crowd(), width=120)
    assert "4 containers: db.1 web.1 web.2 +1" in text
    listed = [w.name for w in crowd().workloads]
    assert listed.index("web.2") < listed.index("web.10")


def test_who_has_no_way_is_not_counted_among_those_that_are_well() -> None:
    text = as_text.render(crowd(), width=120)
    assert (
        "OK 0" in text
        and "UNKNOWN 1: sealed" in text
        and "agent (in its host's namespace), backup (not running)" in text
    )
