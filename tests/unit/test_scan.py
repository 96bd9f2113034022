"""What a scan says of machines made of a few lines of text: codes, severities, who is affected, and who is well."""

import json

import pytest
import topo
from msgspec.structs import replace

from pathfit import __version__, survey
from pathfit.cli.scanning import question
from pathfit.core.report import Report
from pathfit.core.snapshot import HostSnapshot
from pathfit.render import json as as_json
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
