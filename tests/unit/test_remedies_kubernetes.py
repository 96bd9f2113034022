"""The right setting of every maker of cluster networks: which option, which number, what pods get, and how it is typed.

The numbers are the makers' own, written down by hand: none is computed by what is tested. Where they stand:

* flannel 0.28: pkg/backend/vxlan/device.go (MTU - 50, IPv6 too), pkg/backend/wireguard (80), ipip (20);
* Calico 3.30, "Configure MTU to maximize network performance": its table of common MTU sizes (IPIP 20, VXLAN 50 / 70,
  WireGuard 60 / 80);
* Cilium 1.19, pkg/mtu/mtu.go (tunnel 50, IPsec 77, WireGuard 95 since 1.19.5, before 80);
* Antrea 2.2, pkg/agent/config/node_config.go; ovn-kubernetes issue 854 (58 bytes; 78 with IPv6), OpenShift 4.16
  "Changing the MTU for the cluster network" (100); Weave 2.8, "Using Fast Datapath" (50, encrypted 84).
"""

import json
from typing import Any

import pytest
import yaml
from cases import case, hole, out, probe
from cases import told as measured_told
from msgspec.structs import replace
from test_scan import of as scan
from topo import host

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.engine import Container, Engine
from pathfit.core.evidence import ProbeResult
from pathfit.core.finding import Fix
from pathfit.core.node import NodeFacts, Overlay
from pathfit.core.snapshot import Address, HostSnapshot, NextHop, Route
from pathfit.rules.state.machine import Machine
from pathfit.rules.state.nodes import cnis, is_pod_of, pod_spaces
from pathfit.words.render import by_hand, title

POD = """
c eth0 {pod} 10.244.1.5/24 -- h {half} {pod}{master}
{bridge}
h eth0 phys {nic} 198.18.2.2/24
c route default via 10.244.1.1
h route default via 198.18.2.1
{inside}
h forward
"""
NETCONF = '{"Network": "10.244.0.0/16", "EnableNFTables": false, "Backend": {"Type": "vxlan", "VNI": 7}}'
AGENTS = {
    "flannel": "kube-flannel/kube-flannel-ds-x7x2p",
    "calico": "calico-system/calico-node-4nz8q",
    "cilium": "kube-system/cilium-zk2lp",
    "weave": "kube-system/weave-net-9wq5d",
    "antrea": "kube-system/antrea-agent-ttgfv",
    "ovn-kubernetes": "ovn-kubernetes/ovnkube-node-8dqkc",
    "kindnet": "kube-system/kindnet-l4xjm",
}
MEANS_BELOW = ("flannel", "cilium")


def overlay(maker: str, backend: str | None, **more: Any) -> Overlay:
    meaning = "underlay" if maker in MEANS_BELOW else "inner"
    return Overlay(**{"maker": maker, "backend": backend, "meaning": meaning, "outer": 4, **more})


def container(pod: str, netns: str, **more: Any) -> Container:
    return Container(
        **{"id": pod, "name": pod, "engine": "containerd", "netns": netns, "pod": pod, "sandbox": True, **more}
    )


def cluster(
    *overlays: Overlay, nic: int = 1500, pod: int = 1500, half: str = "veth1", bridge: str = "", inside: bool = True,
    agent: str = "", **facts: Any,
) -> HostSnapshot:  # fmt: skip
    """A node with one pod "shop/web-0" in namespace c. ``inside``: the asked address is one of the cluster's."""
    text = POD.format(
        pod=pod, half=half, nic=nic, master=f" @{bridge}" if bridge else "",
        bridge=f"h {bridge} bridge {pod} 10.244.1.1/24" if bridge else "h lo1 dummy 1500 10.244.1.1/24",
        inside="h route 198.18.3.0/24 via 198.18.2.3" if inside else "",
    )  # fmt: skip
    made = host(text)
    ids = {n.where: n.id for n in made.namespaces}
    node = ids["netns:h"]
    pods = [container("shop/web-0", ids["netns:c"])]
    pods += [container(agent, node, network_mode="host")] if agent else []
    engine = Engine(kind="containerd", socket="", netns=node, containers=tuple(pods))
    said = NodeFacts(netns=node, where="netns:h", overlays=overlays, **facts)
    return replace(made, nodes=(said,), engines=(engine,))


def asked(state: HostSnapshot, limit: int, **more: Any) -> Case:
    return case(state, probe(reverse=(hole(limit),), **more))


def fixes(run: Case, code: str = "MTU101") -> list[Fix]:
    """The repairs of the maker, of the finding with that code."""
    return [x for f in diagnose.report(run).findings if f.code == code for x in f.fixes if x.untried]


def told(fix: Fix) -> tuple[object, int | None, int | None]:
    return fix.facts["option"], fix.value, fix.effective


OLDER = {"encryption": "wireguard", "granted": 1420, "detected": 1500}  # a Cilium that takes 80, as its routes show
TABLE = [
    # maker, backend, what it is wrong about; the network really carries, so inside fit; option, value, effective
    ("flannel", "vxlan", {"mtu": 1500}, 1450, 1400, "Backend.MTU", 1450, 1400),
    ("flannel", "vxlan", {"detected": 1500, "granted": 1450}, 1450, 1400, "Backend.MTU", 1450, 1400),
    ("flannel", "vxlan", {"outer": 6}, 1450, 1380, "Backend.MTU", 1430, 1380),  # it takes 50 where 70 are needed
    ("flannel", "wireguard", {"encryption": "wireguard"}, 1400, 1340, "Backend.MTU", 1400, 1320),
    ("flannel", "wireguard", {"encryption": "wireguard", "outer": 6}, 1400, 1320, "Backend.MTU", 1400, 1320),
    ("flannel", "ipip", {}, 1450, 1430, "Backend.MTU", 1450, 1430),
    ("flannel", "udp", {}, 1450, 1422, "Backend.MTU", 1450, 1422),
    ("flannel", "ipsec", {"encryption": "ipsec"}, 1500, 1438, "Backend.MTU", 1500, 1423),
    ("flannel", "host-gw", {}, 1450, 1450, "Backend.MTU", 1450, 1450),
    ("calico", "vxlan", {"mtu": 1450}, 1450, 1400, "calicoNetwork.mtu", 1400, 1400),
    ("calico", "vxlan", {"outer": 6}, 1450, 1380, "calicoNetwork.mtu", 1380, 1380),
    ("calico", "vxlan", {}, 1460, 1410, "calicoNetwork.mtu", 1410, 1410),  # Google's, in Calico's table
    ("calico", "ipip", {}, 1460, 1440, "calicoNetwork.mtu", 1440, 1440),
    ("calico", "wireguard", {"encryption": "wireguard"}, 1460, 1400, "calicoNetwork.mtu", 1400, 1400),
    ("calico", "wireguard", {"encryption": "wireguard", "outer": 6}, 1460, 1380, "calicoNetwork.mtu", 1380, 1380),
    ("calico", "vxlan", {"encryption": "wireguard"}, 1460, 1400, "calicoNetwork.mtu", 1400, 1400),
    ("calico", "none", {"encryption": "wireguard"}, 1500, 1440, "calicoNetwork.mtu", 1440, 1440),
    ("calico", "none", {}, 1400, 1400, "calicoNetwork.mtu", 1400, 1400),
    ("cilium", "vxlan", {"mtu": 1500}, 1450, 1400, "mtu", 1450, 1400),
    ("cilium", "geneve", {}, 1450, 1400, "mtu", 1450, 1400),
    ("cilium", "vxlan", {"outer": 6}, 1450, 1380, "mtu", 1450, 1380),
    ("cilium", "host-gw", {}, 1450, 1450, "mtu", 1450, 1450),
    ("cilium", "host-gw", {"encryption": "wireguard"}, 1450, 1390, "mtu", 1450, 1355),
    ("cilium", "host-gw", OLDER, 1450, 1390, "mtu", 1450, 1370),
    ("cilium", "vxlan", {"encryption": "wireguard"}, 1450, 1340, "mtu", 1450, 1305),
    ("cilium", "vxlan", {"encryption": "ipsec"}, 1450, 1346, "mtu", 1450, 1323),
    ("cilium", "host-gw", {"encryption": "ipsec"}, 1500, 1446, "mtu", 1500, 1423),
    ("cilium", "geneve", {"outer": 6}, 1450, 1380, "mtu", 1450, 1380),
    ("cilium", "vxlan", {"encryption": "wireguard", "outer": 6}, 1450, 1300, "mtu", 1450, 1285),
    ("weave", "vxlan", {"mtu": 1450}, 1450, 1400, "WEAVE_MTU", 1400, 1400),
    ("weave", "vxlan", {"encryption": "ipsec"}, 1460, 1376, "WEAVE_MTU", 1376, 1376),
    ("antrea", "geneve", {"mtu": 1450}, 1450, 1400, "defaultMTU", 1400, 1400),
    ("antrea", "vxlan", {"outer": 6}, 1450, 1380, "defaultMTU", 1380, 1380),
    ("antrea", "gre", {}, 1450, 1408, "defaultMTU", 1408, 1408),
    ("antrea", "geneve", {"encryption": "ipsec"}, 1500, 1416, "defaultMTU", 1416, 1416),
    ("antrea", "gre", {"encryption": "ipsec"}, 1500, 1424, "defaultMTU", 1424, 1424),
    ("antrea", "geneve", {"encryption": "wireguard", "outer": 6}, 1450, 1370, "defaultMTU", 1370, 1370),
    ("antrea", "geneve", {"encryption": "wireguard"}, 1450, 1390, "defaultMTU", 1390, 1390),
    ("antrea", "host-gw", {}, 1450, 1450, "defaultMTU", 1450, 1450),
    ("ovn-kubernetes", "geneve", {"mtu": 1400}, 1450, 1392, "mtu", 1392, 1392),
    ("ovn-kubernetes", "geneve", {"outer": 6}, 1450, 1372, "mtu", 1372, 1372),
    ("ovn-kubernetes", "geneve", {"encryption": "ipsec"}, 1500, 1408, "mtu", 1408, 1408),
    ("kindnet", "host-gw", {}, 1400, 1400, "mtu", 1400, 1400),
]  # fmt: skip


@pytest.mark.parametrize("nic", ["its own device", "beyond it"])
@pytest.mark.parametrize(("maker", "backend", "wrong", "below", "fits", "option", "value", "effective"), TABLE)
def test_the_right_setting(
    maker: str, backend: str, wrong: dict[str, Any], below: int, fits: int, option: str, value: int, effective: int,
    nic: str,
) -> None:  # fmt: skip
    """Whether the node's own device is that small or something behind it: the answer is one."""
    state = cluster(
        overlay(maker, backend, **wrong), nic=below if nic == "its own device" else 1500, agent=AGENTS[maker]
    )
    (fix,) = fixes(asked(state, fits))
    assert told(fix) == (option, value, effective)
    assert (fix.id, fix.applicability, fix.changes, fix.lasts == "permanent") == (
        f"{maker}-mtu", "manual", (), maker != "kindnet"
    )  # fmt: skip
    assert fix.untried and fix.source and fix.commands
    assert fix.interrupts == ("pod:shop/web-0",)
    for lang in ("en", "zh"):
        assert str(value) in title(fix, lang, strict=True)
        assert (str(effective) in title(fix, lang, strict=True)) and by_hand(fix, lang, strict=True)


def test_a_device_that_fits_says_itself_what_is_below() -> None:
    """ESP pads: 1450 and 1448 below carry the same 1394 inside. A device that is seen decides, else the smaller."""
    made = overlay("cilium", "host-gw", encryption="ipsec")
    for nic, value in ((1450, 1450), (1500, 1448)):
        (fix,) = fixes(asked(cluster(made, nic=nic, agent=AGENTS["cilium"]), 1394))
        assert told(fix) == ("mtu", value, value - 77)


def test_canal_flannel_carries_and_calico_sizes() -> None:
    """Calico's option means the pods, and what flannel's WireGuard device leaves is 80 less."""
    calico = overlay("calico", "none", mtu=1450, option="mtu")
    for carrier, below, fits, value in (
        (overlay("flannel", "vxlan"), 1450, 1400, 1400),
        (overlay("flannel", "wireguard", encryption="wireguard"), 1400, 1340, 1320),
    ):
        (fix,) = fixes(asked(cluster(carrier, calico, nic=below, half="cali12"), fits))
        assert (fix.id, *told(fix)) == ("canal-mtu", "veth_mtu", value, value)


# --- who is who ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "target", "command"),
    [
        ({"agent": "kube-system/kube-flannel-ds-amd64-x7x2p"},
         "net-conf.json of ConfigMap kube-system/kube-flannel-cfg",
         "kubectl -n kube-system rollout restart daemonset/kube-flannel-ds-amd64"),
        ({}, "net-conf.json of ConfigMap kube-flannel/kube-flannel-cfg",
         "kubectl -n kube-flannel rollout restart daemonset/kube-flannel-ds"),
        ({"distribution": "k3s"}, "/etc/rancher/k3s/net-conf.json (--flannel-conf)", "systemctl restart k3s"),
    ],
)  # fmt: skip
def test_flannel_by_who_packed_it(more: dict[str, Any], target: str, command: str) -> None:
    state = cluster(overlay("flannel", "vxlan", text=NETCONF), bridge="cni0", **more)
    (fix,) = fixes(asked(state, 1400))
    assert fix.facts["where_set"] == target
    assert command in [" ".join(c) for c in fix.commands]


@pytest.mark.parametrize(
    ("more", "targets"),
    [
        ({"agent": "calico-system/calico-node-4nz8q"}, ["Installation default (operator)"]),
        ({"agent": "kube-system/calico-node-4nz8q"}, ["ConfigMap kube-system/calico-config"]),
        ({}, ["Installation default (operator)", "ConfigMap kube-system/calico-config"]),
        ({"distribution": "microk8s"}, ["ConfigMap kube-system/calico-config"]),
        ({"distribution": "rke2"}, ["HelmChartConfig kube-system/rke2-calico"]),
    ],
)
def test_calico_by_who_installed_it(more: dict[str, Any], targets: list[str]) -> None:
    found = fixes(asked(cluster(overlay("calico", "vxlan"), half="cali12", **more), 1400))
    assert [f.facts["where_set"] for f in found] == targets
    assert {(f.value, f.effective) for f in found} == {(1400, 1400)}


@pytest.mark.parametrize(
    ("more", "value", "target"),
    [
        ({"distribution": "openshift"}, 1350, "network.operator cluster"),  # it demands 100 of the machines' 1450
        ({"agent": "openshift-ovn-kubernetes/ovnkube-node-8dqkc", "distribution": "openshift"}, 1350,
         "network.operator cluster"),
        ({"distribution": "microshift"}, 1392, "/etc/microshift/ovn.yaml"),
        ({}, 1392, "ConfigMap ovn-kubernetes/ovn-config"),
    ],
)  # fmt: skip
def test_ovn_by_who_packed_it(more: dict[str, Any], value: int, target: str) -> None:
    (fix,) = fixes(asked(cluster(overlay("ovn-kubernetes", "geneve", mtu=1400), **more), 1392))
    assert (fix.value, fix.effective, fix.facts["where_set"]) == (value, value, target)


@pytest.mark.parametrize(
    ("pod", "inside"),
    [
        ("shop/cilium-zk2lp", True),  # a tenant's, with a network of its own
        ("shop/cilium-test-zk2lp", False),
        ("kube-system/cilium-operator-5f8d7c9b4-zk2lp", False),
        ("--kubeconfig=x/cilium-zk2lp", False),
        ("kube-system/cilium-$(id)", False),
    ],
)
def test_who_is_only_called_like_an_agent_is_none(pod: str, inside: bool) -> None:
    state = cluster(overlay("cilium", "vxlan"), half="lxc1")
    (engine,) = state.engines
    node = engine.netns
    other = container(pod, engine.containers[0].netns) if inside else container(pod, node, network_mode="host")
    state = replace(state, engines=(replace(engine, containers=(*engine.containers, other)),))
    (fix,) = fixes(asked(state, 1400))
    assert fix.facts["where_set"] == "ConfigMap kube-system/cilium-config"
    assert fix.commands[-1] == ("kubectl", "-n", "kube-system", "rollout", "restart", "daemonset/cilium")


def test_what_is_written_already_is_said() -> None:
    (fix,) = fixes(asked(cluster(overlay("cilium", "vxlan", mtu=1450), half="lxc1"), 1400))
    assert told(fix) == ("mtu", 1450, 1400)
    assert "already" in (by_hand(fix, strict=True) or "")


def test_openshift_moves_in_two_patches() -> None:
    state = cluster(overlay("ovn-kubernetes", "geneve", mtu=1400), distribution="openshift")
    (fix,) = fixes(asked(state, 1392))
    first, last = (json.loads(c[c.index("-p") + 1]) for c in fix.commands if "patch" in c)
    assert first["spec"]["migration"]["mtu"] == {"network": {"from": 1400, "to": 1350}, "machine": {"to": 1450}}
    assert last["spec"] == {"migration": None, "defaultNetwork": {"ovnKubernetesConfig": {"mtu": 1350}}}


def test_rke2_says_it_by_helm() -> None:
    calico = overlay("calico", "none")
    for made, half, path, wanted in (
        ((overlay("flannel", "vxlan"), calico), "cali1", ("calico", "vethuMTU"), 1400),
        ((overlay("calico", "vxlan"),), "cali1", ("installation", "calicoNetwork", "mtu"), 1400),
        ((overlay("cilium", "vxlan"),), "lxc1", ("MTU",), 1450),
    ):
        (fix,) = fixes(asked(cluster(*made, half=half, distribution="rke2"), 1400))
        (edit,) = fix.files
        told_ = yaml.safe_load("\n".join(line[1:] for line in edit.diff.splitlines()))
        assert (told_["kind"], told_["metadata"]["namespace"]) == ("HelmChartConfig", "kube-system")
        values = yaml.safe_load(told_["spec"]["valuesContent"])
        for key in path:
            values = values[key]
        assert values == wanted


# --- what is typed ---------------------------------------------------------------------------------------------------


def merged(target: Any, change: Any) -> Any:
    """RFC 7386, written out: what the API server makes of `--type merge`."""
    if not isinstance(change, dict):
        return change
    made = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


OBJECTS: dict[str, Any] = {
    "configmap": {"data": {"cni-conf.json": "{}", "net-conf.json": NETCONF, "veth_mtu": "0", "mtu": "1500"}},
    "installation.operator.tigera.io": {"spec": {"calicoNetwork": {"bgp": "Disabled", "mtu": 1450}, "x": 1}},
    "felixconfiguration": {"spec": {"logSeverityScreen": "Info", "vxlanMTU": 1500}},
}  # fmt: skip


def patches(fix: Fix, words: tuple[tuple[str, ...], ...]) -> list[tuple[str, Any, Any]]:
    """(kind, the change, what comes of it) of each patch among the commands."""
    found = []
    for argv in words:
        if "patch" not in argv:
            continue
        kind = argv[argv.index("patch") + 1]
        assert argv[argv.index("--type") + 1] == "merge"
        change = json.loads(argv[argv.index("-p") + 1])
        found.append((kind, change, merged(OBJECTS[kind], change)))
    return found


@pytest.mark.parametrize(
    ("maker", "more", "path", "wanted", "before"),
    [
        ("calico", {"agent": AGENTS["calico"]}, ("spec", "calicoNetwork", "mtu"), 1400, None),
        ("calico", {"agent": "kube-system/calico-node-4nz8q"}, ("data", "veth_mtu"), "1400", "0"),
        ("cilium", {}, ("data", "mtu"), "1450", "0"),
        ("ovn-kubernetes", {}, ("data", "mtu"), "1392", None),
    ],
)
def test_patches_are_valid_and_touch_one_value(
    maker: str, more: dict[str, Any], path: tuple[str, ...], wanted: object, before: object
) -> None:
    backend = "geneve" if maker == "ovn-kubernetes" else "vxlan"
    limit = 1392 if maker == "ovn-kubernetes" else 1400
    (fix,) = fixes(asked(cluster(overlay(maker, backend), nic=1450, **more), limit))
    ((kind, _, made),) = patches(fix, fix.commands)
    value, rest, was = made, made, OBJECTS[kind]
    for key in path:
        value = value[key]
    assert value == wanted
    for key in path[:-1]:
        rest, was = rest[key], was[key]
    assert {k: v for k, v in rest.items() if k != path[-1]} == {k: v for k, v in was.items() if k != path[-1]}
    for _, change, _ in patches(fix, fix.undo):
        for key in path:
            change = change[key]
        assert change == before


def test_felix_with_an_option_of_its_own_is_told_too() -> None:
    felix = overlay("calico", "vxlan", mtu=1500, option="FELIX_VXLANMTU")
    (fix,) = fixes(asked(cluster(felix, half="cali1", agent="kube-system/calico-node-4nz8q"), 1400))
    found = {kind: made for kind, _, made in patches(fix, fix.commands)}
    assert found["felixconfiguration"]["spec"] == {"logSeverityScreen": "Info", "vxlanMTU": 1400}
    assert found["configmap"]["data"]["veth_mtu"] == "1400"


def test_flannels_file_keeps_all_but_the_mtu() -> None:
    """One key of the ConfigMap is the whole file: what else stands in it stays, and undo is the text as it was."""
    (fix,) = fixes(asked(cluster(overlay("flannel", "vxlan", text=NETCONF), bridge="cni0"), 1400))
    ((_, _, made),) = patches(fix, fix.commands)
    before = json.loads(NETCONF)
    assert json.loads(made["data"]["net-conf.json"]) == {**before, "Backend": {**before["Backend"], "MTU": 1450}}
    assert made["data"]["cni-conf.json"] == "{}"
    ((_, back, _),) = patches(fix, fix.undo)
    assert back == {"data": {"net-conf.json": NETCONF}}


@pytest.mark.parametrize("text", ["", "redacted-1", "[]", '{"Backend": 5}', "[" * 5000])
def test_flannels_file_not_seen_is_edited_by_hand(text: str) -> None:
    (fix,) = fixes(asked(cluster(overlay("flannel", "vxlan", text=text), bridge="cni0"), 1400))
    assert fix.commands[0] == ("kubectl", "-n", "kube-flannel", "edit", "configmap", "kube-flannel-cfg")
    assert told(fix) == ("Backend.MTU", 1450, 1400)


def test_a_kind_node_is_entered_by_its_name() -> None:
    state = cluster(overlay("kindnet", "host-gw"), nic=1400)
    node = state.nodes[0].netns
    docker = Engine(
        kind="docker", socket="/s", netns="4:99",
        containers=(Container(id="k", name="kind-worker", engine="docker", netns=node),),
    )  # fmt: skip
    (fix,) = fixes(asked(replace(state, engines=(*state.engines, docker)), 1400))
    assert fix.commands[0] == ("docker", "exec", "kind-worker", *["ip", "link", "set", "dev", "eth0", "mtu", "1400"])
    assert fix.lasts == "recreate"


@pytest.mark.parametrize(
    ("code", "measured"),
    [
        ("MTU102", probe(forward=(out(1400, fails=1401, exact=True),))),
        ("MTU106", probe(forward=(measured_told(1400),))),
        ("MTU103", None),  # nothing was measured: state alone, the node's device has 1450
    ],
)
def test_every_fault_of_size_carries_it(code: str, measured: ProbeResult | None) -> None:
    state = cluster(overlay("flannel", "vxlan"), nic=1450, bridge="cni0", agent=AGENTS["flannel"])
    run = case(state, *([measured] if measured is not None else []))
    (fix,) = fixes(run, code)
    assert told(fix) == ("Backend.MTU", 1450, 1400)


# --- where nothing is proposed ---------------------------------------------------------------------------------------

FLANNEL = overlay("flannel", "vxlan")


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(cluster(FLANNEL, bridge="cni0", inside=False), id="what is narrow lies beyond the cluster"),
        pytest.param(replace(cluster(FLANNEL, bridge="docker0"), engines=()), id="a container of another network"),
        pytest.param(cluster(FLANNEL, overlay("cilium", "vxlan"), bridge="cni0"), id="two makers: whose pod is it"),
        pytest.param(cluster(overlay("flannel", None), bridge="cni0"), id="its encapsulation is not known"),
        pytest.param(cluster(overlay("weave", "udp"), bridge="weave"), id="sleeve finds its own size"),
        pytest.param(cluster(overlay("neutron", "vxlan"), bridge="cni0"), id="neutron makes no pods"),
        pytest.param(cluster(bridge="cni0"), id="no maker"),
    ],
)  # fmt: skip
def test_nothing_is_proposed(state: HostSnapshot) -> None:
    report = diagnose.report(asked(state, 1400))
    assert report.findings[0].code == "MTU101"
    assert not [x for f in report.findings for x in f.fixes if x.untried]


def test_the_nodes_own_narrow_device_concerns_the_cluster_whoever_is_asked() -> None:
    (fix,) = fixes(asked(cluster(FLANNEL, bridge="cni0", inside=False, nic=1400), 1400))
    assert told(fix) == ("Backend.MTU", 1400, 1350)


def test_a_healthy_pod_gets_none() -> None:
    run = case(cluster(FLANNEL, bridge="cni0", nic=1500, pod=1450), probe(reverse=(), forward=(out(1450),)))
    assert not [x for f in diagnose.report(run).findings for x in f.fixes if x.untried]


def test_the_agents_pod_in_the_nodes_namespace_is_none_of_the_networks() -> None:
    """Cilium's own cable has both halves there, and its agent's pod lives there too."""
    text = POD.format(pod=1450, half="lxc12", nic=1450, master="", bridge="h lo1 dummy 1500 10.244.1.1/24", inside="")
    made = host(text + "h cilium_host 1500 -- h cilium_net 1500\n")
    ids = {n.where: n.id for n in made.namespaces}
    pods = (container("shop/web-0", ids["netns:c"]), container(AGENTS["cilium"], ids["netns:h"], network_mode="host"))
    engine = Engine(kind="containerd", socket="", netns=ids["netns:h"], containers=pods)
    told = overlay("cilium", "vxlan", granted=1450, detected=1500, devices=("cilium_vxlan",), uplink="eth0")
    said = NodeFacts(netns=ids["netns:h"], where="netns:h", overlays=(told,))
    machine = Machine(replace(made, nodes=(said,), engines=(engine,)))
    (cni,) = cnis(machine)
    nets = machine.network.nets.values()
    called = pod_spaces(machine.host)
    assert {n.snap.where for n in nets if is_pod_of(cni, called, machine.network, n)} == {"netns:c"}


# --- what is found wrong by itself -----------------------------------------------------------------------------------


def test_an_option_that_means_the_pods_says_what_fits() -> None:
    """Calico's mtu is as large as the device: CFG606 names the pod, explains MTU101, and carries the same setting."""
    state = cluster(
        overlay("calico", "vxlan", mtu=1450, option="mtu", granted=1450, source="10-calico.conflist"),
        nic=1450, pod=1450, half="cali12", agent=AGENTS["calico"],
    )  # fmt: skip
    report = diagnose.report(asked(state, 1400, contact={"promised": 1450, "offered": 1450}))
    first, cause = report.findings[0], next(f for f in report.findings if f.code == "CFG606")
    assert (first.code, "CFG606" in first.because) == ("MTU101", True)
    assert {told(x) for f in (first, cause) for x in f.fixes if x.untried} == {("calicoNetwork.mtu", 1400, 1400)}


@pytest.mark.parametrize(
    ("made", "nic", "wanted"),
    [
        (overlay("calico", "vxlan", mtu=1450, option="mtu", granted=1450), 1450,
         {"CFG606": ("calicoNetwork.mtu", 1400, 1400)}),  # MTU104 leaves it to its cause
        (overlay("ovn-kubernetes", "geneve", mtu=1400, option="mtu", granted=1400), 1450,
         {"MTU104": ("mtu", 1392, 1392)}),
        (overlay("flannel", "vxlan", mtu=1450, option="Backend.MTU", granted=1400, uplink="eth0"), 1500, {}),  # twice
    ],
)  # fmt: skip
def test_a_scan_proposes_it_once(made: Overlay, nic: int, wanted: dict[str, Any]) -> None:
    found = scan(cluster(made, nic=nic, pod=made.granted or 0, agent=AGENTS[made.maker])).findings
    assert {f.code: told(x) for f in found for x in f.fixes} == wanted


def sized_by_eth0(maker: str, **more: Any) -> HostSnapshot:
    """That maker found eth0 with 1500; its packets leave by e.1, which has 1450."""
    text = POD.format(pod=1450, half="veth1", nic=1500, master="", bridge="h lo1 dummy 1500 10.244.1.1/24", inside="")
    made = host(text + "h e.1 phys 1450 198.18.9.2/24\nh t0 vxlan 1450 id=1 local=198.18.9.2 remote=198.18.9.3\n")
    ids = {n.where: n.id for n in made.namespaces}
    engine = Engine(
        kind="containerd", socket="", netns=ids["netns:h"], containers=(container("shop/w", ids["netns:c"]),)
    )
    told_ = overlay(maker, "vxlan", granted=1450, detected=1500, deducted=50, devices=("t0",), uplink="eth0", **more)
    said = NodeFacts(netns=ids["netns:h"], where="netns:h", overlays=(told_,))
    return replace(made, nodes=(said,), engines=(engine,))


@pytest.mark.parametrize(
    ("maker", "option", "path", "wanted"),
    [
        ("flannel", "--iface", (0, "value"), "--iface=e.1"),
        ("calico", "mtuIfacePattern", ("spec", "mtuIfacePattern"), r"^e\.1$"),
        ("cilium", "devices", ("data", "devices"), "e.1"),
        ("antrea", "transportInterface", None, 'transportInterface: "e.1"'),
    ],
)
def test_the_device_is_named_where_the_wrong_one_was_found(maker: str, option: str, path: Any, wanted: str) -> None:
    (finding,) = [f for f in scan(sized_by_eth0(maker)).findings if f.code == "CFG604"]
    *sized, named = finding.fixes
    assert {(f.id, f.effective) for f in sized} == {(f"{maker}-mtu", 1400)}
    assert (named.id, *told(named)) == (f"{maker}-device", option, 1450, 1400)
    assert "e.1" in title(named, "en", strict=True) and title(named, "zh", strict=True) and by_hand(named, strict=True)
    if path is None:
        assert wanted in named.files[0].diff
        return
    value = json.loads(named.commands[0][-1])
    for key in path:
        value = value[key]
    assert value == wanted


def test_no_device_is_named_where_its_own_arithmetic_would_still_be_wrong() -> None:
    """flannel takes 50 off, and 70 are needed with IPv6 outside."""
    state = sized_by_eth0("flannel", outer=6)
    node = next(n for n in state.namespaces if n.id == state.nodes[0].netns)
    six = {"local": "fd00::2", "remote": "fd00::3"}
    links = tuple(replace(x, vxlan=replace(x.vxlan, **six)) if x.vxlan else x for x in node.links)
    out_ = next(x.index for x in node.links if x.name == "e.1")
    made = replace(
        node,
        links=links,
        addresses=(*node.addresses, Address(link=out_, address="fd00::2", prefix=64)),
        routes=(*node.routes, Route(family=6, table=254, dst="fd00::", prefix=64, hops=(NextHop(link=out_),))),
    )
    found = scan(replace(state, namespaces=tuple(made if n is node else n for n in state.namespaces))).findings
    (finding,) = [f for f in found if f.code == "CFG604"]
    assert [(f.id, f.value, f.effective) for f in finding.fixes] == [("flannel-mtu", 1430, 1380)]


def test_canals_option_is_held_against_what_flannel_carries() -> None:
    """veth_mtu as large as the device is right for Calico without a tunnel, and 50 too many with flannel's."""
    calico = overlay("calico", "none", mtu=1450, option="mtu", granted=1450)
    for made, wanted in (((calico,), []), ((overlay("flannel", "vxlan"), calico), [("veth_mtu", 1400, 1400)])):
        state = cluster(*made, nic=1450, pod=1450, half="cali12")
        report = diagnose.report(asked(state, 1400, contact={"promised": 1450, "offered": 1450}))
        assert [told(x) for f in report.findings if f.code == "CFG606" for x in f.fixes] == wanted


EXAMPLES = (
    *(
        asked(cluster(overlay(maker, backend), agent=AGENTS[maker]), 1400)
        for maker, backend in (
            ("flannel", "vxlan"),
            ("calico", "vxlan"),
            ("cilium", "vxlan"),
            ("weave", "vxlan"),
            ("antrea", "geneve"),
            ("ovn-kubernetes", "geneve"),
            ("kindnet", "host-gw"),
        )
    ),
    asked(cluster(overlay("flannel", "vxlan"), overlay("calico", "none"), half="cali1"), 1400),
    *(asked(sized_by_eth0(maker), 1400) for maker in ("flannel", "calico", "cilium", "antrea")),
)
"""A case for each maker's repair."""
