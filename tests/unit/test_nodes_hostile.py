"""Whatever stands in a node's files: it is read without an error, within bounds, and what comes of it can be saved and
opened again."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nodetree import agent, node

from pathfit import survey
from pathfit.core import codec
from pathfit.core.node import NodeFacts
from pathfit.core.snapshot import SCHEMA, HostSnapshot
from pathfit.observe.nodes import read, weavestatus

NAMED = """Backend Type MTU VNI Port EnableIPv4 EnableIPv6 plugins delegates type name mtu ds network_json networkdata
links ethernet_mac_address config ethernets match macaddress mac_address set-name RoutingMode Devices Tunnel EnableIPSec
Router Connections Info Attrs State Address OverlayDiagnostics Encryption encrypted"""
SAID = """vxlan wireguard calico cilium-cni ptp kindnet weave-net antrea flannel physical fa:16:3e:00:00:01 1450 eth0
198.18.1.2:6783 established fastdp sleeve native"""
ARGV = "--iface --mtu 1400 --config-dir --config-file=/x --config eth1 -iface"
KEYS, WORDS = st.sampled_from(NAMED.split()), st.sampled_from(SAID.split())
LEAF = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | WORDS
KEYED = KEYS | st.text(max_size=3)
TREE = st.recursive(LEAF, lambda x: st.lists(x, max_size=4) | st.dictionaries(KEYED, x), max_leaves=12)
STARTS = KEYS | WORDS | st.sampled_from(["FLANNEL_MTU", "[ml2]", "path_mtu", "lease {", "}", "  interface"])
LINES = st.lists(st.tuples(STARTS, st.text()), max_size=8)
TEXTS = st.text() | LINES.map(lambda rows: "\n".join(f"{k}={v}" for k, v in rows))
JSONS = (
    "etc/kube-flannel/net-conf.json", "etc/cni/net.d/10-x.conflist", "etc/cni/net.d/20-y.conf",
    "run/cilium/state/agent-runtime-config.json", "run/cloud-init/instance-data.json",
    "run/cloud-init/network-config.json", "media/configdrive/openstack/latest/network_data.json",
)  # fmt: skip
PLAIN = (
    "run/flannel/subnet.env", "var/lib/calico/mtu", "run/ovnkube-config/ovnkube.conf", "etc/neutron/neutron.conf",
    "etc/neutron/plugins/ml2/ml2_conf.ini", "var/lib/dhcp/dhclient.leases", "run/systemd/netif/leases/2",
    "var/lib/NetworkManager/internal-6c5e9a8e-3b5c-4f0e-9f0a-2f6f8f4f0c11-eth0.lease", "var/lib/dhcpcd/eth0.lease",
)  # fmt: skip
LINKS = ("eth0 1500", "eth1 1400", "flannel.1 1450 vxlan", "cilium_host 1500", "antrea-gw0 1450", "tunl0 1480 ipip")
AGENTS = ("flanneld", "calico-node", "cilium-agent", "weaver", "antrea-agent", "kindnetd", "ovnkube")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trees=st.dictionaries(st.sampled_from(JSONS), TREE, max_size=4),
    texts=st.dictionaries(st.sampled_from(PLAIN), TEXTS, max_size=4),
    argv=st.lists(st.sampled_from(ARGV.split())),
)  # fmt: skip
def test_anything_may_stand_in_the_files(trees: dict[str, Any], texts: dict[str, str], argv: list[str]) -> None:
    made: dict[str, str | bytes] = {name: json.dumps(tree) for name, tree in trees.items()}
    made |= {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    with TemporaryDirectory() as folder:
        top = Path(folder)
        agents = tuple(agent(top, name, " ".join(argv)) for name in AGENTS)
        here = node(top, made, *LINKS, addresses={"198.18.1.2": "eth0"}, agents=agents)
        facts = read(here)
    host = HostSnapshot(schema=SCHEMA, host="h", namespaces=(here.ns,), nodes=(facts,))
    again = codec.load(codec.dump(host), HostSnapshot, schema=SCHEMA, version="0")
    assert again == host
    crashed = [f for f in survey.judge(again).findings if f.code == "SYS902"]
    assert crashed == []


@settings(max_examples=100, deadline=None)
@given(TREE)
def test_anything_may_be_weaves_report(tree: Any) -> None:
    for whole in (tree, {"Router": tree}, {"Router": {"Connections": tree}}, {"Router": {"Connections": [tree]}}):
        found, _ = weavestatus.parse(whole)
        facts = NodeFacts(weave=found)
        assert msgspec.json.decode(msgspec.json.encode(facts), type=NodeFacts) == facts


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "node/etc/cni/net.d"
    folder.mkdir(parents=True)
    with open(os.fsencode(folder) + b"/\xff.conf", "w") as f:
        f.write('{"type": "calico", "mtu": 1400}')
    assert read(node(tmp_path, {}, "eth0 1500")).overlays == ()
