"""Article 001 with a real machine: what its container, its hypervisor and both together show, repaired and undone.

The machine is a QEMU guest with a kernel and a dockerd of its own; without QEMU a namespace stands in for it (printed,
and :attr:`Plugged.kind`). It is started once; each test leaves the network as it found it.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from engine import required
from guests import Guest
from tenant import FIRST, GUEST, MANAGEMENT, NARROW, NIC, SECOND, SERVER, URL, Tenant, on, tenant

pytestmark = [pytest.mark.slow, pytest.mark.lab]

ASK = f"--from container:ci --to {URL} --timeout 60"  # seconds: a guest is slow
CLOUD = {"ds": {"network_json": {"links": [{"type": "ovs", "mtu": NIC, "ethernet_mac_address": "fa:16:3e:00:00:01"}]}}}


@pytest.fixture(scope="module")
def stage() -> Iterator[Tenant]:
    required("crun")
    with tenant() as t:
        print(f"the machine: {t.guest.kind}")
        yield t


def codes(report: dict[str, Any]) -> list[str]:
    return [f["code"] for f in report["findings"]]


def of(report: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in report["findings"] if f["code"] == code)
    return found


def bracket(report: dict[str, Any], direction: str) -> tuple[int, int]:
    found = report["measured"][direction]
    return found["pass"], found["fail"]


def test_the_first_limit_repaired_and_undone(stage: Tenant) -> None:
    """From the container: what gets in is the network below less VXLAN's 50; docker0 looked at the other NIC."""
    assert stage.hangs()
    done = stage.said(f"fix MTU101 {ASK} --yes")
    report = done["before"]
    assert bracket(report, "reverse") == (FIRST, FIRST + 1)
    first = report["findings"][0]
    assert (first["code"], first["confidence"], first["facts"]["limit"]) == ("MTU101", "confirmed", FIRST)
    assert {"MTU103", "CFG605"} <= set(first["because"])
    assert [(x["mtu"], x["at"]["link"], x["then"]) for x in report["predicted"]["forward"]["limits"]] == [
        (NIC, "eth0", "icmp")
    ], "what the machine's own NIC does not take, it says"
    two = of(report, "CFG605")["facts"]
    assert (two["small_mtu"], two["large_mtu"], two["own"]) == (NIC, MANAGEMENT, MANAGEMENT)
    assert (done["outcome"], done["fix"]["id"]) == ("repaired", "route-mtu")
    assert (done["fix"]["value"], done["fix"]["effective"]) == (min(FIRST, NIC), min(FIRST, NIC))
    assert stage.works()
    stage.well_said("fix --undo last --json")
    assert stage.hangs()


def test_the_second_bites_when_the_first_is_lifted(stage: Tenant) -> None:
    """The network below carries 1600 now, and the machine's port is next; behind it there is none."""
    with stage.lifted():
        assert stage.hangs()
        with stage.cable_of(1500):
            assert stage.works()


@pytest.mark.parametrize(
    ("main", "ml2", "port", "code", "option", "effective"),
    [
        pytest.param("global_physnet_mtu = 1550", "", 1500, "MTU104", "path_mtu", FIRST, id="more than is below"),
        pytest.param("", "path_mtu = 1450", 1400, "CFG606", "path_mtu", FIRST, id="the instances' size"),
    ],
)
def test_what_neutrons_files_grant(
    stage: Tenant, main: str, ml2: str, port: int, code: str, option: str, effective: int
) -> None:
    """From a router's namespace of the hypervisor: the option, its value, and what instances then get."""
    with stage.neutron(main, ml2, port), stage.router("qrouter") as where:
        report = on(stage.kvm, "diagnose", "--from", where, "--to", URL)
    assert (report["findings"][0]["code"], report["findings"][0]["facts"]["limit"]) == ("MTU101", FIRST)
    told = [f for f in report["findings"] if "neutron" in (f["facts"].get("maker"), f["facts"].get("who"))]
    assert [f["code"] for f in told] == [code]
    (cause,) = told
    assert cause["confidence"] == ("confirmed" if code == "MTU104" else "possible")
    (fix,) = [x for x in cause["fixes"] if x["id"] == "neutron-mtu"]
    assert (fix["value"], fix["effective"], fix["applicability"], fix["untried"]) == (NARROW, effective, "manual", True)
    assert f"+{option} = {NARROW}" in fix["files"][0]["diff"]


@pytest.fixture
def larger(stage: Tenant) -> Iterator[Tenant]:
    """The machine's NIC has 1500, its port 1450, and its cloud said so; nothing else is in the way."""
    (stage.guest.folder / "instance-data.json").write_text(json.dumps(CLOUD))
    told = "/run/cloud-init/instance-data.json"
    with stage.lifted():
        stage.well(f"ip link set eth0 mtu 1500; mkdir -p /run/cloud-init; cp $OUT/instance-data.json {told}")
        yield stage
        stage.well(f"ip link set eth0 mtu {NIC}; rm {told}")


def test_a_machine_larger_than_its_port_from_inside(larger: Tenant) -> None:
    """The first limit is lifted: the next one is measured to the byte, and named by what its cloud promised it, which
    is the value."""
    report = larger.said(f"diagnose {ASK}")
    assert bracket(report, "reverse") == (SECOND, SECOND + 1)
    first = report["findings"][0]
    assert (first["code"], first["confidence"], first["facts"]["limit"]) == ("MTU101", "confirmed", SECOND)
    assert "MTU113" in first["because"]
    facts = of(report, "MTU113")["facts"]
    assert (facts["case"], facts["own"], facts["told"], facts["source"]) == ("cloud", 1500, NIC, "metadata")
    assert first["fixes"][0]["value"] == NIC


def test_from_its_hypervisor(larger: Tenant) -> None:
    """A router's namespace there sends 1500 to the machine: lost at the tap, which is named, with who holds it."""
    with larger.router("qrouter") as where:
        report = on(larger.kvm, "diagnose", "--from", where, "--to", f"tcp://{GUEST}:8080")
    first = report["findings"][0]
    assert (first["code"], first["confidence"], first["facts"]["limit"]) == ("MTU102", "confirmed", SECOND)
    assert [p["link"] for p in first["where"]] == ["tap0"]
    assert {"MTU105", "MTU103"} <= set(first["because"])
    limits = report["predicted"]["forward"]["limits"]
    assert [(x["mtu"], x["at"]["link"], x["then"]) for x in limits] == [(SECOND, "tap0", "silent")]
    if isinstance(larger.guest, Guest):
        assert "held by qemu" in report["predicted"]["forward"]["why"]


def test_both_snapshots_joined(larger: Tenant) -> None:
    """The guest's and its hypervisor's: its device is larger than its port; and its way, limit after limit."""
    if not isinstance(larger.guest, Guest):
        pytest.skip(f"a tap is a virtual machine's: {larger.guest.kind}")
    inputs = [word for file in larger.snapshots() for word in ("--in", file)]
    found = [f for f in on(larger.kvm, "scan", *inputs)["findings"] if f["code"] == "MTU113"]
    by_case = {f["facts"]["case"]: f["facts"] for f in found}
    assert set(by_case) == {"cloud", "port"}
    facts = by_case["port"]
    assert (facts["own"], facts["told"], facts["port"]) == (1500, NIC, "kvm: host/tap0")
    way = on(larger.kvm, "predict", *inputs, "--from", "guest!container:ci", "--to", f"{SERVER}:8443")
    out, back = ([h["where"]["host"] for h in way["path"][d]["hops"]] for d in ("forward", "reverse"))
    assert (out, back) == (["guest", "guest", "kvm"], ["kvm", "guest", "guest"])
    limits = [(x["mtu"], x["at"]["host"], x["at"]["link"], x["then"]) for x in way["predicted"]["reverse"]["limits"]]
    assert limits == [(SECOND, "kvm", "tap0", "silent")]
