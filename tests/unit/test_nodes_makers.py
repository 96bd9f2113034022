"""What each maker leaves on a node, read: a healthy one, an odd one, a hostile one. Trees after their documentation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodetree import agent, node

from pathfit.core.node import Overlay
from pathfit.observe.nodes import MAKERS, antrea, calico, cilium, flannel, kindnet, ovn, read, weave
from pathfit.observe.nodes.place import Agent, Node

SUBNET = "run/flannel/subnet.env"
NETCONF = "etc/kube-flannel/net-conf.json"
CNI = "etc/cni/net.d"
MAIN, ML2 = "etc/neutron/neutron.conf", "etc/neutron/plugins/ml2/ml2_conf.ini"
ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU={}\nFLANNEL_IPMASQ=true\n"


def conf(**backend: Any) -> str:
    return json.dumps({"Network": "10.244.0.0/16", "Backend": backend})


def plugin(kind: str, name: str = "net", **options: Any) -> str:
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.3.1", "name": name, "plugins": [{"type": kind, **options}, portmap]})


def shown(overlay: Overlay | None, **wanted: Any) -> dict[str, Any] | None:
    return None if overlay is None else {key: getattr(overlay, key) for key in wanted}


# --- flannel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "links", "wanted"),
    [
        pytest.param(
            {SUBNET: ENV.format(1450), NETCONF: conf(Type="vxlan", VNI=1, Port=8472)},
            ("lo 65536", "eth0 1500", "flannel.1 1450 vxlan lower=2", "cni0 1450 bridge"),
            {
                "backend": "vxlan", "granted": 1450, "deducted": 50, "detected": 1500, "mtu": None, "uplink": "eth0",
                "devices": ("flannel.1", "cni0"), "meaning": "underlay", "source": "/run/flannel/subnet.env",
                "facts": {"vni": 1, "port": 8472, "config": "/etc/kube-flannel/net-conf.json"},
            },
            id="vxlan",
        ),
        pytest.param(
            {SUBNET: ENV.format(1370), NETCONF: conf(Type="vxlan", MTU=1420)}, ("eth0 1500",),
            {"mtu": 1420, "option": "Backend.MTU", "granted": 1370, "detected": None}, id="told the network's MTU",
        ),
        pytest.param(
            {SUBNET: ENV.format(1320), NETCONF: conf(Type="wireguard")}, ("eth0 1400", "flannel-wg 1320 wireguard"),
            {"backend": "wireguard", "encryption": "wireguard", "deducted": 80, "detected": 1400}, id="wireguard",
        ),
        pytest.param(
            {SUBNET: ENV.format(1450)}, ("eth0 1500", "flannel.1 1450 vxlan lower=1"),
            {"backend": "vxlan", "uplink": "eth0", "told": False}, id="its configuration is in etcd",
        ),
        pytest.param(
            {"var/lib/rancher/k3s/agent/etc/flannel/net-conf.json": conf(Type="host-gw")}, ("eth0 1500",),
            {"backend": "host-gw", "deducted": 0, "granted": None}, id="k3s, before its first start",
        ),
        pytest.param(
            {NETCONF: json.dumps({"EnableIPv4": False, "EnableIPv6": True, "Backend": {"Type": "vxlan"}})}, (),
            {"outer": 6, "deducted": 50}, id="IPv6 outside",
        ),
        pytest.param(
            {SUBNET: "FLANNEL_MTU=-5\nFLANNEL_SUBNET", NETCONF: conf(Type=["vxlan"], MTU=1e99, VNI="x" * 9, Port=True)},
            ("eth0 1500",),
            {"backend": "udp", "granted": None, "mtu": None,
             "facts": {"config": "/etc/kube-flannel/net-conf.json"}}, id="senseless values lose their fields",
        ),
        pytest.param({SUBNET: "\0" * 5000}, (), None, id="not a text at all"),
        pytest.param({NETCONF: "[" * 100_000}, ("flannel.1 1450 vxlan",), None, id="deep nesting"),
    ],
)  # fmt: skip
def test_flannel(
    tmp_path: Path, files: dict[str, str | bytes], links: tuple[str, ...], wanted: dict[str, Any] | None
) -> None:
    assert shown(flannel.read(node(tmp_path, files, *links)), **(wanted or {})) == wanted


@pytest.mark.parametrize(
    ("argv", "uplink", "told"),
    [
        ("--iface=eth1", "eth1", True),
        ("-iface eth1 --kube-subnet-mgr", "eth1", True),
        ("--iface=198.18.2.1", "eth1", True),  # by address
        ("--iface=eth9", "", False),
        ("--ip-masq", "eth0", False),  # what its device says
    ],
)
def test_flannel_is_told_its_interface(tmp_path: Path, argv: str, uplink: str, told: bool) -> None:
    inside = {NETCONF: conf(Type="vxlan")}
    daemon = agent(tmp_path, "flanneld", argv, inside)
    links = ("eth0 1500", "eth1 1450", "flannel.1 1450 vxlan lower=1")
    here = node(tmp_path, {SUBNET: ENV.format(1450)}, *links, addresses={"198.18.2.1": "eth1"}, agents=(daemon,))
    found = flannel.read(here)
    assert shown(found, backend=0, uplink=0, told=0) == {"backend": "vxlan", "uplink": uplink, "told": told}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (conf(Type="vxlan", VNI=7), True),
        (conf(Type="wireguard", PSK="c2VjcmV0"), False),
        (conf(Type="ipsec", PSK="secret"), False),
        (conf(Type="vxlan", Name="\x1b[2J"), True),  # JSON writes it in plain characters
        (conf(Type="vxlan").replace("vxlan", "vxlan\x7f"), False),
        (conf(Type="vxlan") + " " * 9000, False),
    ],
)
def test_flannels_file_is_kept_where_it_may_be_shown(tmp_path: Path, text: str, kept: bool) -> None:
    found = flannel.read(node(tmp_path, {NETCONF: text}))
    assert found is not None
    assert found.text == (text if kept else "")


# --- Calico -----------------------------------------------------------------------------------------------------------

MTU = "var/lib/calico/mtu"
CALICO = f"{CNI}/10-calico.conflist"


@pytest.mark.parametrize(
    ("files", "links", "wanted"),
    [
        pytest.param(
            {MTU: "1450", CALICO: plugin("calico", "k8s-pod-network", mtu=0)},
            ("ens3 1500", "vxlan.calico 1450 vxlan", "tunl0 1480 ipip down", "cali12 1450 veth"),
            {
                "backend": "vxlan", "granted": 1450, "mtu": None, "deducted": 50, "uplink": "ens3", "detected": 1500,
                "devices": ("vxlan.calico", "tunl0", "cali12"), "source": "/var/lib/calico/mtu",
            },
            id="vxlan, found by itself",
        ),
        pytest.param(
            {CALICO: plugin("calico", mtu=1500)}, ("ens3 1442", "vxlan.calico 1392 vxlan"),
            {"mtu": 1500, "option": "mtu", "meaning": "inner", "granted": None, "uplink": "", "detected": None},
            id="veth_mtu as written",
        ),
        pytest.param(
            {MTU: "1440\n"}, ("eth0 1460", "eth1 9000", "tunl0 1440 ipip"),
            {"backend": "ipip", "deducted": 20, "uplink": "eth0", "detected": 1460}, id="the smallest device counts",
        ),
        pytest.param(
            {MTU: "1440"}, ("mlx0 1500", "wireguard.cali 1400 wireguard"),
            {"backend": "wireguard", "encryption": "wireguard", "uplink": "", "detected": 1460},
            id="no device matches its pattern",
        ),
        pytest.param(
            {MTU: "1500"}, ("eth0 1500", "cali1 1500 veth"), {"backend": "none", "deducted": 0}, id="no encapsulation"
        ),
        pytest.param(
            {"var/lib/calico/nodename": "n1"}, (), {"backend": None, "granted": None, "deducted": None}, id="no device"
        ),
        pytest.param({MTU: "9" * 4000}, (), None, id="senseless number"),
        pytest.param({CALICO: json.dumps({"plugins": [7, None, {"type": {"a": 1}}]})}, (), None, id="hostile list"),
    ],
)  # fmt: skip
def test_calico(
    tmp_path: Path, files: dict[str, str | bytes], links: tuple[str, ...], wanted: dict[str, Any] | None
) -> None:
    assert shown(calico.read(node(tmp_path, files, *links)), **(wanted or {})) == wanted


def test_calicos_variables(tmp_path: Path) -> None:
    felix = agent(tmp_path, "calico-node", FELIX_VXLANMTU="1410", FELIX_IPINIPMTU="1440", FELIX_MTUIFACEPATTERN="(a+)+")
    found = calico.read(node(tmp_path, {}, "eth0 1500", "vxlan.calico 1410 vxlan", agents=(felix,)))
    assert shown(found, option=0, mtu=0, uplink=0) == {"option": "FELIX_VXLANMTU", "mtu": 1410, "uplink": ""}


# --- Cilium -----------------------------------------------------------------------------------------------------------

STATE = "run/cilium/state/agent-runtime-config.json"
LINKS = ("eth0 1500", "cilium_host 1500 veth", "cilium_net 1500 veth")


@pytest.mark.parametrize(
    ("files", "links", "routes", "wanted"),
    [
        pytest.param(
            {f"{CNI}/05-cilium.conflist": plugin("cilium-cni"), STATE: json.dumps({"RoutingMode": "tunnel", "MTU": 0})},
            (*LINKS, "cilium_vxlan 1500 vxlan"), "10.0.1.0,cilium_host,1450 10.0.2.0,cilium_host,1450",
            {
                "backend": "vxlan", "granted": 1450, "mtu": None, "deducted": 50, "meaning": "underlay",
                "detected": 1500, "source": "/run/cilium/state/agent-runtime-config.json",
                "devices": ("cilium_host", "cilium_net", "cilium_vxlan"),
            },
            id="vxlan: the MTU is on the routes",
        ),
        pytest.param(
            {STATE: json.dumps({"MTU": 1450, "EnableWireguard": True, "RoutingMode": "native", "Devices": ["eth1"]})},
            (*LINKS, "cilium_wg0 1355 wireguard", "eth1 1450"), "",
            {"backend": "host-gw", "mtu": 1450, "option": "mtu", "encryption": "wireguard", "deducted": 95,
             "uplink": "eth1", "told": True}, id="wireguard on a device it was told",
        ),
        pytest.param(
            {STATE: json.dumps({"Tunnel": "geneve", "EnableIPSec": True})}, (*LINKS, "cilium_geneve 1500 geneve"), "",
            {"backend": "geneve", "encryption": "ipsec", "deducted": 127}, id="an old one",
        ),
        pytest.param({STATE: "{}"}, LINKS, "", {"backend": "host-gw", "granted": None}, id="devices alone"),
        pytest.param(
            {STATE: json.dumps({"MTU": [1], "mtu": {}, "Devices": [1, {}], "RoutingMode": 7})}, LINKS, "",
            {"mtu": None, "uplink": "", "backend": "host-gw"}, id="senseless values",
        ),
        pytest.param({}, ("eth0 1500",), "", None, id="not there"),
    ],
)  # fmt: skip
def test_cilium(
    tmp_path: Path, files: dict[str, str | bytes], links: tuple[str, ...], routes: str, wanted: dict[str, Any] | None
) -> None:
    assert shown(cilium.read(node(tmp_path, files, *links, routes=routes)), **(wanted or {})) == wanted


def test_ciliums_options_in_its_container(tmp_path: Path) -> None:
    """A ConfigMap is mounted with one symbolic link a file, and those lead through "..data"."""
    inside: dict[str, str | bytes] = {"tmp/cilium/config-map/..data": "-> ..2026"}
    for name, value in {"mtu": "1450", "tunnel-protocol": "geneve", "routing-mode": "tunnel"}.items():
        inside[f"tmp/cilium/config-map/..2026/{name}"] = value
        inside[f"tmp/cilium/config-map/{name}"] = f"-> ..data/{name}"
    found = cilium.read(node(tmp_path, {}, *LINKS, agents=(agent(tmp_path, "cilium-agent", "", inside),)))
    assert shown(found, mtu=0, backend=0, source=0) == {
        "mtu": 1450,
        "backend": "geneve",
        "source": "/tmp/cilium/config-map",
    }


# --- Antrea, kindnet, ovn-kubernetes ----------------------------------------------------------------------------------

ANTREA = "etc/antrea/antrea-agent.conf"


@pytest.mark.parametrize(
    ("text", "links", "wanted"),
    [
        pytest.param(
            "# comment\ndefaultMTU: 0\ntunnelType: geneve\ntrafficEncapMode: encap\nwireGuard:\n  port: 51820\n",
            ("ens5 9001", "antrea-gw0 8951 openvswitch"),
            {"backend": "geneve", "mtu": None, "granted": 8951, "deducted": 50, "detected": 9001,
             "devices": ("antrea-gw0",), "source": "/etc/antrea/antrea-agent.conf"}, id="geneve, found by itself",
        ),
        pytest.param(
            'defaultMTU: 1400  # ours\ntunnelType: "gre"\ntrafficEncryptionMode: ipsec\ntransportInterface: ens6\n',
            ("ens5 1500", "ens6 1500", "antrea-gw0 1400"),
            {"backend": "gre", "mtu": 1400, "option": "defaultMTU", "encryption": "ipsec", "deducted": 80,
             "uplink": "ens6", "told": True, "detected": None}, id="told everything",
        ),
        pytest.param(
            "trafficEncapMode: noEncap\n", ("antrea-gw0 1500",), {"backend": "host-gw", "deducted": 0}, id="no tunnel"
        ),
        pytest.param(
            "tunnelType: [vxlan]\ndefaultMTU: &a 1\n? x\n: y\n- tunnelType: gre\nother:\n  defaultMTU: 1300\n",
            ("antrea-gw0 1450",), {"backend": None, "mtu": None}, id="YAML that is not plain is not said",
        ),
    ],
)  # fmt: skip
def test_antrea(tmp_path: Path, text: str, links: tuple[str, ...], wanted: dict[str, Any]) -> None:
    daemon = agent(tmp_path, "antrea-agent", "--config /etc/antrea/antrea-agent.conf", {ANTREA: text})
    first = links[0].split()[0]
    here = node(tmp_path, {}, *links, addresses={"198.18.0.2": first}, agents=(daemon,))
    assert shown(antrea.read(here), **wanted) == wanted


def test_what_antrea_takes_off_with_both_families_is_not_known(tmp_path: Path) -> None:
    daemon = agent(tmp_path, "antrea-agent", "", {ANTREA: "tunnelType: geneve\n"})
    addresses = {"198.18.0.2": "eth0", "2001:db8::2": "eth0"}
    found = antrea.read(node(tmp_path, {}, "eth0 1500", "antrea-gw0 1430", addresses=addresses, agents=(daemon,)))
    assert shown(found, outer=0, deducted=0, detected=0) == {"outer": None, "deducted": None, "detected": None}


def test_antrea_without_its_configuration(tmp_path: Path) -> None:
    here = node(tmp_path, {f"{CNI}/10-antrea.conflist": plugin("antrea")}, "antrea-gw0 1450")
    assert shown(antrea.read(here), backend=0, granted=0) == {"backend": None, "granted": 1450}
    assert [m.how for m in read(here).missing] == ["kubectl -n kube-system get configmap antrea-config -o yaml"]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({f"{CNI}/10-kindnet.conflist": plugin("ptp", "kindnet", mtu=1500)},
         {"granted": 1500, "uplink": "eth0", "backend": "host-gw"}),
        ({f"{CNI}/10-kindnet.conflist": plugin("cni-kindnet", "kindnet")}, {"granted": None, "backend": "host-gw"}),
        ({f"{CNI}/10-kindnet.conflist": plugin("bridge", "kindnet", mtu=9)}, None),
        ({f"{CNI}/10-kindnet.conflist.temp": plugin("ptp", "kindnet")}, None),
    ],
)  # fmt: skip
def test_kindnet(tmp_path: Path, files: dict[str, str | bytes], wanted: dict[str, Any] | None) -> None:
    assert shown(kindnet.read(node(tmp_path, files, "eth0 1500")), **(wanted or {})) == wanted


OVN = "run/ovnkube-config/ovnkube.conf"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[default]\nmtu="1400"\nencap-ip=198.18.0.2\nencap-port="6081"\n\n[kubernetes]\nmtu=9\ntoken=x\n',
         {"mtu": 1400, "granted": 1400, "uplink": "br-ex", "deducted": 100, "facts": {"port": 6081},
          "source": "/run/ovnkube-config/ovnkube.conf", "backend": "geneve"}),
        ("[default]\nencap-ip=fd00::2\ntransport=no-overlay\n", {"mtu": None, "outer": 6, "backend": "none"}),
        ("[default]\nmtu=1500\n[gateway]\nsingle-node=true\n", {"mtu": 1500, "backend": "none"}),
        ("mtu=1300\n[defaul\n[default\nmtu=x\nencap-port=99999999999999999999999\n", {"mtu": None}),
    ],
)  # fmt: skip
def test_ovn_kubernetes(tmp_path: Path, text: str, wanted: dict[str, Any]) -> None:
    daemon = agent(tmp_path, "ovnkube", "--init-node n1 --config-file=/run/ovnkube-config/ovnkube.conf", {OVN: text})
    links = ("ovn-k8s-mp0 1400 openvswitch", "br-ex 1500 openvswitch")
    here = node(tmp_path, {}, *links, addresses={"198.18.0.2": "br-ex"}, agents=(daemon,))
    assert shown(ovn.read(here), **wanted) == wanted


def test_ovn_kubernetes_without_its_configuration(tmp_path: Path) -> None:
    here = node(
        tmp_path, {f"{CNI}/10-ovn-kubernetes.conf": '{"name": "o", "type": "ovn-k8s-cni-overlay"}'}, "ovn-k8s-mp0 1500"
    )
    assert shown(ovn.read(here), backend=0, granted=0) == {"backend": None, "granted": 1500}


# --- Weave ------------------------------------------------------------------------------------------------------------

FAST = ("weave 1376 bridge", "datapath 1376 openvswitch", "vethwe-bridge 1376 veth", "vethwe-datapath 1376 veth")


@pytest.mark.parametrize(
    ("environment", "argv", "links", "wanted"),
    [
        ({"WEAVE_MTU": "1410"}, "", FAST, {"mtu": 1410, "option": "WEAVE_MTU", "backend": "vxlan", "granted": 1376}),
        ({}, "--port 6783 --mtu=1337", FAST, {"mtu": 1337, "option": "--mtu", "encryption": ""}),
        ({"WEAVE_PASSWORD": "set"}, "", FAST, {"mtu": None, "encryption": "ipsec", "facts": {}}),
        ({}, "--no-fastdp", ("weave 65535 bridge", "vethwe-bridge 65535 veth"),
         {"backend": "udp", "granted": 65535, "facts": {"no_fastdp": True}}),
        ({"WEAVE_MTU": "many"}, "", (), {"mtu": None, "backend": None, "option": ""}),
    ],
)  # fmt: skip
def test_weave(
    tmp_path: Path, environment: dict[str, str], argv: str, links: tuple[str, ...], wanted: dict[str, Any]
) -> None:
    weaver = agent(tmp_path, "weaver", argv, **environment)
    assert shown(weave.read(node(tmp_path, {}, *links, agents=(weaver,))), **wanted) == wanted


def test_a_device_called_weave_alone_is_not_weave(tmp_path: Path) -> None:
    assert weave.read(node(tmp_path, {}, "weave 1500 bridge")) is None


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("var/lib/rancher/rke2/agent/etc/containerd.toml", "rke2"),
        ("var/lib/rancher/k3s/agent/etc/flannel/net-conf.json", "k3s"),
        ("var/snap/microk8s/current/args/kubelet", "microk8s"),
        ("var/lib/microshift/version", "microshift"),
        ("etc/machine-config-daemon/currentconfig", "openshift"),
        ("kind/version", "kind"),
        ("var/lib/kubelet/config.yaml", ""),
    ],
)
def test_who_packed_it(tmp_path: Path, file: str, wanted: str) -> None:
    assert read(node(tmp_path, {file: "{}", SUBNET: ENV.format(1450)})).distribution == wanted


def test_an_ordinary_machine_has_none(tmp_path: Path) -> None:
    said = read(node(tmp_path, {"etc/hostname": "h"}, "eth0 1500", "docker0 1500 bridge"))
    assert (said.overlays, said.instance, said.weave, said.missing) == ((), (), (), ())


JUNK = (b"", b"\xff\xfe" * 400, b"{" * 4000, b'{"plugins": {"type": 5}}', b"[[[]]]", b"null", b"=\n==\n[\n]\n")
PATHS = (SUBNET, NETCONF, MTU, CALICO, f"{CNI}/05-x.conf", STATE, OVN, ML2, MAIN)


@pytest.mark.parametrize("reader", MAKERS, ids=lambda r: r.__module__.rpartition(".")[2])
@pytest.mark.parametrize("junk", JUNK)
def test_junk_everywhere_is_survived(tmp_path: Path, reader: Callable[[Node], Overlay | None], junk: bytes) -> None:
    names = ("flanneld", "calico-node", "cilium-agent", "weaver", "antrea-agent", "kindnetd", "ovnkube")
    files: dict[str, str | bytes] = dict.fromkeys(PATHS, junk)
    agents: tuple[Agent, ...] = tuple(agent(tmp_path, n, "--mtu --iface --config", {ANTREA: junk}) for n in names)
    found = reader(node(tmp_path, files, "eth0 1500", agents=agents))
    assert found is None or (found.mtu, found.granted) in ((None, None), (None, 1500))
