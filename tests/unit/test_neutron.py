"""neutron's arithmetic: held against what neutron itself says, then files in, networks' MTU out, faults and repairs.

RECORDED are facts of neutron's own unit tests and constants: tests/unit/plugins/ml2/drivers/base_type_tunnel.py
(TunnelTypeMTUTestMixin, run for GRE, VXLAN and Geneve over IPv4 and IPv6), test_type_flat.py and test_type_vlan.py
(test_get_mtu), services/ovn_l3/test_plugin.py ("1442 … when using OVN"), docs admin/config-mtu.rst (8950), all of
neutron 21 (Zed); encapsulations of neutron_lib/constants.py: GENEVE 30, GRE 22, VXLAN 30, IP 20 / 40. 0: not set.
"""

from pathlib import Path
from typing import Any

import pytest
from cases import case, hole, probe
from nodehosts import neutron as compute
from nodetree import node
from test_nodes_makers import MAIN, ML2, shown
from test_state_nodes import partly, said

from pathfit import diagnose
from pathfit.core.finding import Fix
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.tunnels.makers import fitting_inner, neutron_mtu, taken
from pathfit.observe.nodes import neutron
from pathfit.remedies.neutron import after, settings

V4 = {("vxlan", 4): 50, ("gre", 4): 42, ("geneve", 4): 50}
ENCAPSULATION = {**V4, **{(kind, 6): n + 20 for (kind, _), n in V4.items()}}
PATHS = [(1500, 1475, 1475), (1450, 1475, 1450), (0, 1450, 1450), (1500, 0, 1500), (9000, 9000, 9000), (0, 0, 0)]
"""(global_physnet_mtu, path_mtu, what the overhead is taken off)."""
PROVIDERS = [(1475, 1400, 1450, 1450), (1375, 1400, 1450, 1375), (0, 1400, 1450, 1450), (0, 1425, 1400, 1400),
             (0, 0, 0, 0), (1500, 1400, 0, 1500)]  # fmt: skip
"""(global_physnet_mtu, path_mtu, the network's entry in physical_network_mtus, MTU)."""


@pytest.mark.parametrize(("globally", "path", "base"), PATHS)
@pytest.mark.parametrize(("kind", "family"), ENCAPSULATION)
def test_overlays_as_neutron_has_them(kind: Any, family: Any, globally: int, path: int, base: int) -> None:
    took = ENCAPSULATION[kind, family]
    for entry in (1450, 1400, 0):  # physical_network_mtus is for provider networks alone
        found = neutron_mtu(kind, globally, path, family, physical_network_mtu=entry)
        assert found == (base - took if base else None)
    assert taken("neutron", kind, family).deducts == (took,)
    assert fitting_inner("neutron", kind, 1500, family) == 1500 - took, "the kernel agrees, without OVN"


@pytest.mark.parametrize(("globally", "path", "entry", "mtu"), PROVIDERS)
@pytest.mark.parametrize("kind", ["flat", "vlan"])
def test_provider_networks_as_neutron_has_them(kind: str, globally: int, path: int, entry: int, mtu: int) -> None:
    for family in (4, 6):
        found = neutron_mtu(kind, globally, path, family, physical_network_mtu=entry)  # type: ignore[arg-type]
        assert found == (mtu or None)


@pytest.mark.parametrize(("family", "mtu"), [(4, 1442), (6, 1422)])
def test_ovn(family: Any, mtu: int) -> None:
    """max_header_size 38 is the least OVN takes, and what its option really needs; 30 leaves it out."""
    assert neutron_mtu("geneve", family=family, header=38) == mtu
    assert fitting_inner("neutron", "geneve", 1500, family, ovn=True) == mtu
    assert fitting_inner("neutron", "geneve", 1500, family) == mtu + 8
    assert taken("neutron", "geneve", family, header=38, ovn=True) == ((1500 - mtu,), 1500 - mtu)


def test_other_networks() -> None:
    assert (neutron_mtu("local"), neutron_mtu("local", 1400, 1300)) == (1500, 1400)
    assert neutron_mtu("swamp") is None


# --- files in ---------------------------------------------------------------------------------------------------------

AGENT = "etc/neutron/plugins/ml2/openvswitch_agent.ini"
BRIDGE = "etc/neutron/plugins/ml2/linuxbridge_agent.ini"
VXLAN, GENEVE = "[ml2]\ntenant_network_types = vlan,vxlan\n", "[ml2]\nproject_network_types=geneve\n"


@pytest.mark.parametrize(
    ("main", "ml2", "agent", "wanted"),
    [
        pytest.param(
            "global_physnet_mtu = 1600\ntransport_url = rabbit://u:secret@h", VXLAN, {AGENT: "[ovs]"},
            {"mtu": 1600, "option": "global_physnet_mtu", "meaning": "underlay", "backend": "vxlan", "uplink": "eth1",
             "told": True, "deducted": 50, "granted": 1550, "facts": {"global_physnet_mtu": 1600}},
            id="the global one",
        ),
        pytest.param("", VXLAN, {BRIDGE: "[vxlan]"}, {"mtu": None, "option": "", "granted": 1450, "uplink": "eth1"},
                     id="nothing written, a Linux bridge"),
        pytest.param("", f"{VXLAN}path_mtu = 9000\n", {}, {"mtu": None, "option": "", "granted": 1450},
                     id="path_mtu alone does not raise: the default of the other is smaller"),
        pytest.param("global_physnet_mtu=9000", f"{VXLAN}path_mtu = 1500\n", {},
                     {"mtu": 1500, "option": "path_mtu", "granted": 1450,
                      "facts": {"global_physnet_mtu": 9000, "path_mtu": 1500}}, id="the smaller counts"),
        pytest.param("", f"{VXLAN}segment_mtu = 1400\n", {},
                     {"mtu": 1400, "option": "global_physnet_mtu", "granted": 1350}, id="its name before Mitaka"),
        pytest.param("global_physnet_mtu = 0", VXLAN, {}, {"mtu": None, "granted": None}, id="no limit known"),
        pytest.param("", f"{GENEVE}path_mtu = 1450\noverlay_ip_version=6\n[ml2_type_geneve]\nmax_header_size=38\n", {},
                     {"mtu": 1450, "option": "path_mtu", "deducted": 78, "outer": 6, "granted": 1372, "uplink": ""},
                     id="Geneve over IPv6"),
        pytest.param("", f"{GENEVE}mechanism_drivers = sriovnicswitch, ovn\n", {},
                     {"granted": 1450, "facts": {"max_header_size": 30, "ovn": True}}, id="OVN, its option left out"),
        pytest.param("", "[ml2]\ntenant_network_types=vlan\n", {}, {"backend": None, "granted": None}, id="no overlay"),
        pytest.param("global_physnet_mtu = many", "path_mtu\n[[ml2]]\n=\n", {},
                     {"mtu": None, "backend": None, "deducted": None, "granted": None}, id="nonsense"),
    ],
)  # fmt: skip
def test_its_files(tmp_path: Path, main: str, ml2: str, agent: dict[str, str], wanted: dict[str, Any]) -> None:
    files: dict[str, str | bytes] = {MAIN: f"[DEFAULT]\n{main}\n", ML2: ml2}
    files |= {path: f"{section}\nlocal_ip = 198.18.0.2\n" for path, section in agent.items()}
    here = node(tmp_path, files, "eth0 1500", "eth1 1600", addresses={"198.18.0.2": "eth1"})
    found = neutron.read(here)
    assert shown(found, **wanted) == wanted
    assert "secret" not in str(found)


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "code", "wanted"),
    [
        pytest.param(compute(1500, 8950, global_physnet_mtu=9000), "MTU104",
                     [{"given": 8950, "limit": 1450, "nic_mtu": 1500, "overhead": 50, "confidence": "likely"}],
                     id="the global one is more than the device has"),
        pytest.param(compute(1500, 1450, global_physnet_mtu=9000), "MTU104", [{"confidence": "possible"}],
                     id="no port shows that it is in force"),
        pytest.param(compute(1500, 1450, global_physnet_mtu=9000, told=False), "MTU104", [], id="its server alone"),
        pytest.param(compute(1500, 1450), "MTU104", [], id="as installed"),
        pytest.param(compute(1500, 1450, global_physnet_mtu=9000, path_mtu=1500), "MTU104", [], id="path_mtu is right"),
        pytest.param(compute(1550, 1500, global_physnet_mtu=1550), "MTU104", [], id="1500 for instances, below 1550"),
        pytest.param(compute(1500, 1500, global_physnet_mtu=1550), "MTU104", [{"limit": 1450}], id="1550 over 1500"),
        pytest.param(compute(1500, 1442, backend="geneve", ovn=True, max_header_size=38), "MTU104", [], id="OVN"),
        pytest.param(compute(1500, 1450, backend="geneve", ovn=True), "MTU104", [{"limit": 1442, "overhead": 58}],
                     id="OVN, its option left out"),
        pytest.param(compute(1500, 1450, backend="geneve"), "MTU104", [], id="Geneve without OVN"),
        pytest.param(compute(1500, 1430, outer=6), "MTU104", [], id="VXLAN over IPv6"),
        pytest.param(compute(1500, 1400, path_mtu=1450), "CFG606",
                     [{"who": "neutron", "option": "path_mtu", "written": 1450, "given": 1400, "case": "twice",
                       "severity": "info", "confidence": "possible"}], id="the instances' own size"),
        pytest.param(compute(1500, 1400, global_physnet_mtu=1450), "CFG606", [{"option": "global_physnet_mtu"}],
                     id="the same in the global one"),
        pytest.param(compute(1500, 1442, path_mtu=1450), "CFG606", [], id="no port has it: not in force"),
        pytest.param(compute(1500, 1450, path_mtu=1500), "CFG606", [], id="the device's"),
        pytest.param(compute(1500, 1384, path_mtu=1442, backend="geneve", ovn=True, max_header_size=38), "CFG606",
                     [{"written": 1442, "given": 1384, "overhead": 58}], id="OVN"),
    ],
)  # fmt: skip
def test_faults(host: HostSnapshot, code: str, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, code), wanted)


# --- repairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nic", "told", "wanted", "effective"),
    [
        pytest.param(1500, {"global_physnet_mtu": 9000}, {"path_mtu": 1500}, 1450, id="provider networks keep theirs"),
        pytest.param(1500, {"global_physnet_mtu": 9000, "path_mtu": 8000}, {"path_mtu": 1500}, 1450, id="lowered"),
        pytest.param(1500, {"path_mtu": 1450}, {"path_mtu": 1500}, 1450, id="raised"),
        pytest.param(1500, {"global_physnet_mtu": 1450, "path_mtu": 1450},
                     {"global_physnet_mtu": 1500, "path_mtu": 1500}, 1450, id="both hold it"),
        pytest.param(1500, {"backend": "geneve", "ovn": True}, {"max_header_size": 38}, 1442, id="OVN's option"),
        pytest.param(1400, {"backend": "geneve", "ovn": True}, {"max_header_size": 38, "path_mtu": 1400}, 1342,
                     id="OVN's option, and less below"),
        pytest.param(1500, {"outer": 6, "global_physnet_mtu": 1520}, {"path_mtu": 1500}, 1430, id="over IPv6"),
        pytest.param(1500, {"backend": "gre", "global_physnet_mtu": 1600}, {"path_mtu": 1500}, 1458, id="GRE"),
        pytest.param(1500, {}, {}, 1450, id="nothing to do"),
    ],
)  # fmt: skip
def test_what_to_write(nic: int, told: dict[str, Any], wanted: dict[str, int], effective: int) -> None:
    overlay = compute(nic, 1450, **told).nodes[0].overlays[0]
    assert settings(overlay, nic) == wanted
    assert after(overlay, wanted) == effective


def proposed(host: HostSnapshot, size: int) -> dict[str, Fix]:
    report = diagnose.report(case(host, probe(reverse=(hole(size),))))
    return {f.code: x for f in report.findings for x in f.fixes if x.id == "neutron-mtu"}


def test_the_line_to_write_is_shown_and_says_that_nobody_tried_it() -> None:
    fix = proposed(compute(1500, 8950, name="c", global_physnet_mtu=9000), 1450)["MTU104"]
    assert (fix.value, fix.effective, fix.applicability, fix.untried) == (1500, 1450, "manual", True)
    assert fix.source is not None
    assert "Zed" in fix.source
    (edit,) = fix.files
    assert (edit.path, edit.diff.splitlines()[2:]) == (f"/{ML2}", [" [ml2]", "+path_mtu = 1500"])
    assert ("openstack", "network", "set", "--mtu", "1450", "NETWORK") in fix.commands


def test_what_was_taken_off_twice_is_given_back() -> None:
    fix = proposed(compute(1500, 1400, name="c", path_mtu=1450), 1400)["CFG606"]
    assert (fix.value, fix.effective) == (1500, 1450)
    assert fix.files[0].diff.splitlines()[2:] == [" [ml2]", "-path_mtu = 1450", "+path_mtu = 1500"]


def test_nothing_is_proposed_where_the_files_are_not_there() -> None:
    host = compute(1500, 8950, name="c", global_physnet_mtu=9000, told=False)
    assert proposed(host, 1450) == {}
