"""What each maker leaves on a node, in the least that its documentation shows: our own words, its names and numbers.

* flannel: Documentation/configuration.md (subnet.env, net-conf.json), kube-flannel.yml's mounts; 0.28
* Calico: docs, "Configure the Calico CNI plugins", "Configure MTU" (veth_mtu), canal.yaml; 3.30
* Cilium: cilium-config's options as its DaemonSet mounts them, one file each; 1.17
* Weave Net: "Integrating Kubernetes via the Addon" (WEAVE_MTU); 2.8
* Antrea: antrea-agent.conf; 2.2. ovn-kubernetes: ovnkube.conf; 1.1. kindnet: kindnetd's 10-kindnet.conflist; kind 0.24
"""

import json

from recipes.clusters import (
    N1,
    N2,
    NARROW,
    WIDE,
    Maker,
    Sizes,
    Switch,
    alone,
    behind_bridge,
    conflist,
    here,
    routed,
    tunnel,
)

CNI = "/etc/cni/net.d"


def inner(n: int) -> Sizes:
    """Of a maker whose option means the pods; its tunnel's device is no larger than they."""
    return Sizes(written=n, device=n, pod=n, tunnel=n, below=n)


def _flannel(m: Maker, s: Sizes) -> dict[str, str]:
    told = {"Network": "198.19.0.0/16", "EnableNFTables": False, "Backend": {"Type": "vxlan", "MTU": s.below}}
    subnet = (
        f"FLANNEL_NETWORK=198.19.0.0/16\nFLANNEL_SUBNET={m.net('1')}/25\nFLANNEL_MTU={s.pod}\nFLANNEL_IPMASQ=true\n"
    )
    return {
        "/run/flannel/subnet.env": subnet,
        "/etc/kube-flannel/net-conf.json": json.dumps(told, indent=2),
        f"{CNI}/10-flannel.conflist": conflist("flannel", delegate={"hairpinMode": True, "isDefaultGateway": True}),
    }


FLANNEL = Maker(
    name="flannel",
    number=11,
    wrong=WIDE,  # written when the nodes had that much
    option="Backend.MTU",
    cause="CFG606",
    sizes=lambda n: Sizes(written=n, device=n - 50, pod=n - 50, tunnel=n - 50, below=n),
    pod="kube-flannel/kube-flannel-ds-x7x2p",
    files=_flannel,
    agents=lambda m, s: {"flanneld": ({}, ("--ip-masq", "--kube-subnet-mgr", "--iface=eth0"))},
    node=lambda m, s: (
        here("flannel.1", 1, 8472)(m, s)
        + f"link add cni0 mtu {s.pod} type bridge\nlink set cni0 up\naddr add {m.net('1')}/25 dev cni0"
    ),
    far=tunnel("flannel.1", 1, 8472),
    fdb="flannel.1",
    cable="veth",
    plug=lambda m, s, x: f"link set {x} master cni0",
    inside=behind_bridge,
)


def flat(m: Maker, s: Sizes) -> str:
    return f"addr add {m.net('2')}/24 dev eth0\nroute add default via {m.net('1')}"


def _calico(m: Maker, s: Sizes) -> dict[str, str]:
    return {
        f"{CNI}/10-calico.conflist": conflist("calico", mtu=s.pod, datastore_type="kubernetes"),
        "/var/lib/calico/nodename": "n1",
    }


CALICO = Maker(
    name="calico",
    number=12,
    wrong=NARROW,  # the network's size in an option that means the pods
    option="calicoNetwork.mtu",
    cause="CFG606",
    sizes=inner,
    pod="calico-system/calico-node-4nz8q",
    files=_calico,
    agents=lambda m, s: {"calico-node": ({"FELIX_VXLANMTU": str(s.pod)}, ("-felix",))},
    node=here("vxlan.calico", 4096, 4789),
    far=tunnel("vxlan.calico", 4096, 4789),
    fdb="vxlan.calico",
    cable="cali",
    plug=routed,
    inside=alone("169.254.1.1"),
)


def _canal(m: Maker, s: Sizes) -> dict[str, str]:
    """flannel found the device's size by itself; Calico's option sizes the pods."""
    told = {"Network": "198.19.0.0/16", "Backend": {"Type": "vxlan"}}
    return {
        "/run/flannel/subnet.env": f"FLANNEL_SUBNET={m.net('1')}/25\nFLANNEL_MTU={NARROW - 50}\n",
        "/etc/kube-flannel/net-conf.json": json.dumps(told),
        f"{CNI}/10-canal.conflist": conflist("calico", mtu=s.pod),
    }


CANAL = CALICO._replace(
    name="canal",
    number=17,
    option="veth_mtu",
    files=_canal,
    agents=lambda m, s: {"flanneld": ({}, ("--ip-masq",)), "calico-node": ({}, ("-felix",))},
    node=lambda m, s: here("flannel.1", 1, 8472)(m, s._replace(tunnel=NARROW - 50)),
    far=tunnel("flannel.1", 1, 8472),
    fdb="flannel.1",
    pod="kube-system/canal-j6v2m",
)


def _cilium(m: Maker, s: Sizes) -> dict[str, str]:
    folder = "/run/cilium/config-map"
    said = {"routing-mode": "tunnel", "tunnel-protocol": "vxlan"}
    if s.written:
        said["mtu"] = str(s.written)
    return {**{f"{folder}/{k}": v for k, v in said.items()}, f"{CNI}/05-cilium.conflist": conflist("cilium-cni")}


CILIUM = Maker(
    name="cilium",
    number=13,
    wrong=0,  # nothing is written: it finds the device of the default route, and nodes talk by the other one
    option="mtu",
    cause="CFG604",
    sizes=lambda n: Sizes(written=n, device=n or WIDE, pod=(n or WIDE) - 50, tunnel=n or WIDE, below=n or WIDE),
    pod="kube-system/cilium-zk2lp",
    files=_cilium,
    agents=lambda m, s: {
        "cilium-agent": ({}, ("--config-dir=/run/cilium/config-map",)),
        "kubelet": ({}, (f"--node-ip={N1}",)),
    },
    node=lambda m, s: (
        here("cilium_vxlan", 2, 8472, below="")(m, s)
        + f"""
        link add cilium_host mtu {s.below} type veth peer name cilium_net mtu {s.below}
        link set cilium_host up
        link set cilium_net up
        addr add {m.net("1")}/32 dev cilium_host
        route add {m.net("128")}/25 dev cilium_host mtu {s.pod} metric 4096
    """
    ),
    far=tunnel("cilium_vxlan", 2, 8472),
    fdb="cilium_vxlan",
    cable="lxc",
    plug=routed,
    inside=alone("", mtu=True),
    default="eth1",
)


def _weave(mtu: int, own: str, address: str) -> str:
    """Either end: a bridge with the tunnel in it."""
    return f"""
        link add weave mtu {mtu} type bridge
        link add vxlan-6784 mtu 65000 type vxlan id 1 dstport 6784 local {own} nolearning
        link set vxlan-6784 master weave
        link set weave mtu {mtu}
        link set weave up
        link set vxlan-6784 up
        addr add {address}/24 dev weave
    """


WEAVE = Maker(
    name="weave",
    number=14,
    wrong=NARROW,
    option="WEAVE_MTU",
    cause="CFG606",
    sizes=inner,
    pod="kube-system/weave-net-9wq5d",
    files=lambda m, s: {f"{CNI}/10-weave.conflist": conflist("weave-net", hairpinMode=True)},
    agents=lambda m, s: {"weaver": ({"WEAVE_MTU": str(s.pod)}, ("--port=6783", "--datapath=datapath"))},
    node=lambda m, s: _weave(s.pod, N1, m.net("1")),
    far=lambda m: _weave(WIDE - 50, N2, m.net("131")),
    fdb="vxlan-6784",
    cable="vethwepl",
    plug=lambda m, s, x: f"link set {x} master weave\nlink set weave mtu {s.pod}",
    inside=flat,
)


def nothing(*_: object) -> str:
    """Where Open vSwitch does it."""
    return ""


def _antrea(m: Maker, s: Sizes) -> dict[str, str]:
    said = f"featureGates:\n  AntreaProxy: true\ntunnelType: geneve\ntrafficEncapMode: encap\ndefaultMTU: {s.pod}\n"
    return {"/etc/antrea/antrea-agent.conf": said, f"{CNI}/10-antrea.conflist": conflist("antrea")}


ANTREA = Maker(
    name="antrea",
    number=15,
    wrong=NARROW,
    option="defaultMTU",
    cause="CFG606",
    sizes=inner,
    pod="kube-system/antrea-agent-ttgfv",
    files=_antrea,
    agents=lambda m, s: {"antrea-agent": ({}, ("--config=/etc/antrea/antrea-agent.conf",))},
    node=nothing,
    far=nothing,
    cable="web-0-",
    plug=nothing,
    inside=flat,
    switch=Switch("antrea-gw0", "antrea-tun0", option=False),
)


def _ovn(m: Maker, s: Sizes) -> dict[str, str]:
    plugin = {"cniVersion": "0.4.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}
    return {
        "/run/ovnkube-config/ovnkube.conf": f"[default]\nmtu={s.pod}\nencap-ip={N1}\nencap-port=6081\n",
        f"{CNI}/10-ovn-kubernetes.conf": json.dumps(plugin),
    }


OVN = Maker(
    name="ovn-kubernetes",
    number=18,
    wrong=NARROW - 50,  # as if Geneve took what VXLAN does: with OVN's option it takes eight more
    option="mtu",
    cause="MTU104",
    sizes=inner,
    pod="ovn-kubernetes/ovnkube-node-8dqkc",
    files=_ovn,
    agents=lambda m, s: {"ovnkube": ({}, ("--init-node", "n1"))},
    node=nothing,
    far=nothing,
    cable="ab12cd_",
    plug=nothing,
    inside=flat,
    switch=Switch("ovn-k8s-mp0", "ovn-tun", option=True),
    over=58,
)

KINDNET = Maker(
    name="kindnet",
    number=16,
    wrong=WIDE,  # its eth0 has that much; what is small lies beyond it
    option="mtu",
    cause="",
    over=0,
    sizes=lambda n: Sizes(written=n, device=n, pod=n, tunnel=n, below=n, eth0=n),
    pod="kube-system/kindnet-l4xjm",
    files=lambda m, s: {
        f"{CNI}/10-kindnet.conflist": json.dumps(
            {"cniVersion": "0.3.1", "name": "kindnet", "plugins": [{"type": "ptp", "ipMasq": False, "mtu": s.pod}]}
        )
    },
    agents=lambda m, s: {"kindnetd": ({}, ())},
    node=lambda m, s: f"route add {m.net('128')}/25 via {N2} dev eth0",
    far=lambda m: f"route add {m.net('0')}/25 via {N1} dev eth0 src {m.net('130')}",
    cable="veth",
    plug=routed,
    inside=alone(""),
)

MAKERS = (FLANNEL, CALICO, CANAL, CILIUM, WEAVE, KINDNET)
SWITCHED = (ANTREA, OVN)
