"""Where each maker of cluster networks keeps its MTU, how it is written there, and what must start again (pure).

Only lines for a person, after each maker's documents; none was tried on a live cluster, which every repair says. What
all of them have in common: the setting is the whole cluster's, and a pod keeps what it has until it is made again.

The variants of one maker are told apart by what the node shows: who packed its Kubernetes
(:attr:`~pathfit.core.node.NodeFacts.distribution`), in which namespace the agent's own pod runs, whether a file was
read. Where that does not decide, all that may be are returned, the one of the maker's own guide first.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pathfit.core.finding import FileEdit, Lasts
from pathfit.core.node import Distribution, Overlay
from pathfit.model.tunnels.makers import Setting
from pathfit.remedies.base import Argv
from pathfit.remedies.files import added, diff

RKE2 = "/var/lib/rancher/rke2/server/manifests"
DROP_IN = "/etc/rancher/k3s/config.yaml.d/50-flannel-mtu.yaml"
K3S_CONFIG = "/etc/rancher/k3s/net-conf.json"
OVN_MARGIN = 100  # bytes: what OpenShift demands between a machine's network and its pods; with IPsec 46 more


class Ground(NamedTuple):
    """What is known of the maker on the node. ``option`` is whose MTU sizes the pods, ``carrier`` whose encapsulation
    counts (of canal: Calico and flannel); ``space`` and ``daemons``: the Kubernetes namespace of the maker's agent and
    its DaemonSet, "" when no engine tells; ``node``: the node's name where it is a container."""

    option: Overlay
    carrier: Overlay
    distribution: Distribution = ""
    space: str = ""
    daemons: str = ""
    node: str = ""


class Recipe(NamedTuple):
    """One way to write it. ``option``: the setting as its maker calls it; ``target``: where it stands; ``hand``: the
    message id of what a person must know; ``source``: who says so, and of which version that was read."""

    option: str
    target: str
    source: str
    hand: str
    commands: tuple[Argv, ...]
    files: tuple[FileEdit, ...] = ()
    undo: tuple[Argv, ...] = ()
    lasts: Lasts = "permanent"


def recipes(name: str, ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    """Every way to set the MTU of the network called ``name`` (a maker's, or "canal"); none for one not known here."""
    make = RECIPES.get(name)
    return make(ground, wanted) if make is not None else ()


def devices(name: str, ground: Ground, device: str) -> tuple[Recipe, ...]:
    """How that maker is told which device its packets leave by, so that it finds the size itself; none where it has no
    such option (of canal flannel's counts for its own device alone)."""
    make = DEVICES.get(name)
    return (make(ground, device),) if make is not None else ()


def margin(name: str, ground: Ground) -> int:
    """What the distribution demands between the network below and its pods, where that is more than is needed."""
    if name != "ovn-kubernetes" or ground.distribution != "openshift":
        return 0
    return OVN_MARGIN + (46 if ground.carrier.encryption == "ipsec" else 0)


# --- words of kubectl ------------------------------------------------------------------------------------------------


def patch(kind: str, content: Mapping[str, object], space: str = "", tool: tuple[str, ...] = ("kubectl",)) -> Argv:
    """`kubectl patch KIND NAME --type merge -p JSON` (RFC 7386); ``kind`` is "KIND NAME"."""
    within = ("-n", space) if space else ()
    return (*tool, *within, "patch", *kind.split(), "--type", "merge", "-p", json.dumps(content))


def rollout(space: str, daemons: str, tool: tuple[str, ...] = ("kubectl",)) -> Argv:
    return (*tool, "-n", space, "rollout", "restart", f"daemonset/{daemons}")


def set_env(space: str, daemons: str, container: str, name: str, value: str) -> Argv:
    """A variable of a DaemonSet's container, whose pods start again by themselves; "" takes it away."""
    told = f"{name}={value}" if value else f"{name}-"
    return ("kubectl", "-n", space, "set", "env", f"daemonset/{daemons}", "-c", container, told)


def edit(space: str, name: str) -> Argv:
    return ("kubectl", "-n", space, "edit", "configmap", name)


def helm_chart_config(chart: str, values: str) -> FileEdit:
    """A HelmChartConfig as RKE2 takes it from its folder of manifests. ``values``: the chart's, as YAML."""
    inside = "".join(f"    {line}\n" for line in values.splitlines())
    text = (
        "apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\n"
        f"metadata:\n  name: {chart}\n  namespace: kube-system\nspec:\n  valuesContent: |-\n{inside}"
    )
    return added(f"{RKE2}/{chart}-config.yaml", text)


def _rke2(chart: str, option: str, values: str, daemons: tuple[str, str]) -> Recipe:
    return Recipe(
        option,
        f"HelmChartConfig kube-system/{chart}",
        f"docs.rke2.io, Network Options (1.31); values.yaml of {chart}",
        "by-hand.kube-rke2",
        (rollout(*daemons),),
        (helm_chart_config(chart, values),),
    )


# --- flannel, and canal ----------------------------------------------------------------------------------------------


def _flannel(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    text = _with_mtu(ground.option.text, wanted.value)
    if ground.distribution == "k3s":
        return (_k3s(ground, wanted, text),)
    space, daemons = ground.space or "kube-flannel", ground.daemons or "kube-flannel-ds"
    target = f"net-conf.json of ConfigMap {space}/kube-flannel-cfg"
    source = "flannel, Documentation/backends.md, 0.28 (the option came with pull request 1736, March 2023)"
    files: tuple[FileEdit, ...]
    if text:
        change = patch("configmap kube-flannel-cfg", {"data": {"net-conf.json": text}}, space)
        back = patch("configmap kube-flannel-cfg", {"data": {"net-conf.json": ground.option.text}}, space)
        files = (FileEdit(path="net-conf.json", diff=diff("net-conf.json", ground.option.text, text), new=text),)
    else:
        change = back = edit(space, "kube-flannel-cfg")
        files = (added("net-conf.json", f'"Backend": {{ ..., "MTU": {wanted.value} }}'),)
    again = rollout(space, daemons)
    return (
        Recipe("Backend.MTU", target, source, "by-hand.kube-flannel", (change, again), files, (back, again)),
    )  # fmt: skip


def _k3s(ground: Ground, wanted: Setting, text: str) -> Recipe:
    """k3s writes its net-conf.json anew whenever it starts; a file of one's own is named by --flannel-conf."""
    whole = added(K3S_CONFIG, text or f'{{ "Network": "...", "Backend": {{ ..., "MTU": {wanted.value} }} }}')
    return Recipe(
        "Backend.MTU",
        f"{K3S_CONFIG} (--flannel-conf)",
        "k3s, docs of `k3s server` (--flannel-conf), 1.31; flannel, Documentation/backends.md, 0.28",
        "by-hand.kube-k3s",
        (("systemctl", "restart", "k3s"),),
        (whole, added(DROP_IN, f"flannel-conf: {K3S_CONFIG}")),
        (("rm", DROP_IN), ("systemctl", "restart", "k3s")),
    )


def _with_mtu(text: str, value: int) -> str:
    """net-conf.json with that Backend.MTU; "" when it is not to be understood (a redacted snapshot has none)."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, dict) or not isinstance(told.get("Backend"), dict):
        return ""
    made = json.dumps({**told, "Backend": {**told["Backend"], "MTU": value}}, indent=2)
    return made + ("\n" if text.endswith("\n") else "")


def _canal(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    space = ground.space or "kube-system"
    if ground.distribution == "rke2":
        values = f"calico:\n  vethuMTU: {wanted.value}"
        return (_rke2("rke2-canal", "calico.vethuMTU", values, (space, ground.daemons or "rke2-canal")),)
    source = "Calico, Configure MTU, 3.30; its manifest canal.yaml"
    return (_config_map(ground, "canal-config", "veth_mtu", wanted, space, ground.daemons or "canal", source),)


# --- Calico ----------------------------------------------------------------------------------------------------------

FELIX = {
    ("vxlan", 4): "vxlanMTU",
    ("vxlan", 6): "vxlanMTUV6",
    ("ipip", 4): "ipipMTU",
    ("wireguard", 4): "wireguardMTU",
    ("wireguard", 6): "wireguardMTUV6",
}
"""FelixConfiguration's option for the tunnel's own device, by what is outermost and its family."""


def _calico(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    if ground.distribution == "microk8s":
        return (_microk8s(wanted),)
    if ground.distribution == "rke2":
        values = f"installation:\n  calicoNetwork:\n    mtu: {wanted.value}"
        daemons = (ground.space or "calico-system", ground.daemons or "calico-node")
        return (_rke2("rke2-calico", "installation.calicoNetwork.mtu", values, daemons),)
    operator, manifest = _calico_operator(ground, wanted), _calico_manifest(ground, wanted)
    if ground.space == "calico-system":
        return (operator,)
    return (manifest,) if ground.space else (operator, manifest)


def _calico_operator(ground: Ground, wanted: Setting) -> Recipe:
    """The operator starts calico-node again by itself."""
    before = ground.option.mtu if ground.option.option == "mtu" else None
    return Recipe(
        "calicoNetwork.mtu",
        "Installation default (operator)",
        "Calico, Configure MTU to maximize network performance, 3.30",
        "by-hand.kube-calico",
        (patch("installation.operator.tigera.io default", {"spec": {"calicoNetwork": {"mtu": wanted.value}}}),),
        undo=(patch("installation.operator.tigera.io default", {"spec": {"calicoNetwork": {"mtu": before}}}),),
    )


def _calico_manifest(ground: Ground, wanted: Setting) -> Recipe:
    """veth_mtu is what the manifest gives to the CNI plugin and to Felix's variables; where Felix has an option of its
    own, that one is written as well."""
    space, daemons = ground.space or "kube-system", ground.daemons or "calico-node"
    made = _config_map(ground, "calico-config", "veth_mtu", wanted, space, daemons, "Calico, Configure MTU, 3.30")
    outermost = "wireguard" if ground.carrier.encryption == "wireguard" else ground.carrier.backend or ""
    felix = FELIX.get((outermost, ground.carrier.outer or 4))
    if felix is None or not ground.option.option.startswith("FELIX_"):
        return made
    more = patch("felixconfiguration default", {"spec": {felix: wanted.value}})
    return made._replace(option=f"veth_mtu and {felix}", commands=(more, *made.commands))


def _microk8s(wanted: Setting) -> Recipe:
    tool = ("microk8s", "kubectl")
    manifest = "/var/snap/microk8s/current/args/cni-network/cni.yaml"
    change = patch("configmap calico-config", {"data": {"veth_mtu": str(wanted.value)}}, "kube-system", tool)
    return Recipe(
        "veth_mtu",
        "ConfigMap kube-system/calico-config",
        "MicroK8s, CNI Configuration, 1.31; Calico, Configure MTU, 3.30",
        "by-hand.kube-microk8s",
        (change, rollout("kube-system", "calico-node", tool)),
        (added(manifest, f'  veth_mtu: "{wanted.value}"'),),
    )


def _config_map(
    ground: Ground, name: str, key: str, wanted: Setting, space: str, daemons: str, source: str
) -> Recipe:  # fmt: skip
    """One key of a ConfigMap, whose values are strings; its agents read it when they start."""
    again = rollout(space, daemons)
    before = str(ground.option.mtu or 0)  # 0: found out by itself, with each of those who use this
    return Recipe(
        key,
        f"ConfigMap {space}/{name}",
        source,
        "by-hand.kube-pods",
        (patch(f"configmap {name}", {"data": {key: str(wanted.value)}}, space), again),
        undo=(patch(f"configmap {name}", {"data": {key: before}}, space), again),
    )


# --- the others ------------------------------------------------------------------------------------------------------


def _cilium(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    space, daemons = ground.space or "kube-system", ground.daemons or "cilium"
    if ground.distribution == "rke2":
        return (_rke2("rke2-cilium", "MTU", f"MTU: {wanted.value}", (space, daemons)),)
    source = "Cilium, Helm Reference (MTU), 1.17; cilium-agent --mtu"
    made = _config_map(ground, "cilium-config", "mtu", wanted, space, daemons, source)
    return (made._replace(hand="by-hand.kube-cilium"),)


def _antrea(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    """The whole file is one key of the ConfigMap, twenty kilobytes with its comments: a line of it is edited."""
    space, daemons = ground.space or "kube-system", ground.daemons or "antrea-agent"
    before = f"-defaultMTU: {ground.option.mtu}\n" if ground.option.mtu else "-#defaultMTU: 0\n"
    line = FileEdit(path="antrea-agent.conf", diff=f"{before}+defaultMTU: {wanted.value}\n")
    commands = (edit(space, "antrea-config"), rollout(space, daemons))
    return (
        Recipe(
            "defaultMTU",
            f"antrea-agent.conf of ConfigMap {space}/antrea-config",
            "Antrea, build/charts/antrea/conf/antrea-agent.conf, 2.2",
            "by-hand.kube-antrea",
            commands,
            (line,),
            commands,
        ),
    )


def _weave(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    space, daemons = ground.space or "kube-system", ground.daemons or "weave-net"
    before = str(ground.option.mtu) if ground.option.option == "WEAVE_MTU" else ""
    change, back = (set_env(space, daemons, "weave", "WEAVE_MTU", told) for told in (str(wanted.value), before))
    return (
        Recipe(
            "WEAVE_MTU",
            f"DaemonSet {space}/{daemons}",
            "Weave Net, Integrating Kubernetes via the Addon, and Using Fast Datapath (MTU), 2.8",
            "by-hand.kube-weave",
            (change,),
            undo=(back,),
        ),
    )


def _ovn(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    if ground.distribution == "microshift":
        return (_microshift(wanted),)
    if ground.distribution == "openshift" or ground.space == "openshift-ovn-kubernetes":
        return (_openshift(ground, wanted),)
    space, daemons = ground.space or "ovn-kubernetes", ground.daemons or "ovnkube-node"
    return (
        Recipe(
            "mtu",
            f"ConfigMap {space}/ovn-config",
            "ovn-kubernetes, helm/ovn-kubernetes/values.yaml and templates/ovn-setup.yaml (mtu), 1.1",
            "by-hand.kube-ovn",
            (patch("configmap ovn-config", {"data": {"mtu": str(wanted.value)}}, space), rollout(space, daemons)),
        ),
    )


def _openshift(ground: Ground, wanted: Setting) -> Recipe:
    """In three steps, each machine restarting twice meanwhile: announced, waited for, made final."""
    which = "network.operator.openshift.io cluster"
    network = {"from": ground.option.mtu or ground.option.granted, "to": wanted.value}
    announced = {"spec": {"migration": {"mtu": {"network": network, "machine": {"to": wanted.below}}}}}
    final = {"spec": {"migration": None, "defaultNetwork": {"ovnKubernetesConfig": {"mtu": wanted.value}}}}
    pools = ("oc", "wait", "machineconfigpool", "--all")
    begun = (*pools, "--for=condition=Updating", "--timeout=30m")  # they are "updated" still when nothing has begun
    done = (*pools, "--for=condition=Updated", "--timeout=3h")
    return Recipe(
        "defaultNetwork.ovnKubernetesConfig.mtu",
        "network.operator cluster",
        "OpenShift, Changing the MTU for the cluster network, 4.16",
        "by-hand.kube-openshift",
        (patch(which, announced, tool=("oc",)), begun, done, patch(which, final, tool=("oc",)), begun, done),
    )


def _microshift(wanted: Setting) -> Recipe:
    return Recipe(
        "mtu",
        "/etc/microshift/ovn.yaml",
        "MicroShift, Creating an OVN-Kubernetes configuration file, 4.16",
        "by-hand.kube-microshift",
        (("systemctl", "reboot"),),
        (added("/etc/microshift/ovn.yaml", f"mtu: {wanted.value}"),),
    )


def _kindnet(ground: Ground, wanted: Setting) -> tuple[Recipe, ...]:
    """It has no option: kindnetd takes what the node's eth0 has when it starts."""
    space, daemons = ground.space or "kube-system", ground.daemons or "kindnet"
    device = ("ip", "link", "set", "dev", "eth0", "mtu", str(wanted.value))
    inside = ("docker", "exec", ground.node, *device) if ground.node else device
    return (
        Recipe(
            "mtu",
            "eth0 of each node",
            "kind, images/kindnetd/cmd/kindnetd/cni.go and pkg/cluster/internal/providers/docker/network.go, 0.24",
            "by-hand.kube-kindnet",
            (inside, rollout(space, daemons)),
            lasts="recreate",
        ),
    )


RECIPES: Mapping[str, Callable[[Ground, Setting], tuple[Recipe, ...]]] = {
    "flannel": _flannel,
    "canal": _canal,
    "calico": _calico,
    "cilium": _cilium,
    "weave": _weave,
    "antrea": _antrea,
    "ovn-kubernetes": _ovn,
    "kindnet": _kindnet,
}


# --- which device ----------------------------------------------------------------------------------------------------


def _flannel_iface(ground: Ground, device: str) -> Recipe:
    if ground.distribution == "k3s":
        return Recipe(
            "flannel-iface",
            DROP_IN,
            "k3s, docs of `k3s server` (--flannel-iface), 1.31",
            "by-hand.kube-device",
            (("systemctl", "restart", "k3s"),),
            (added(DROP_IN, f"flannel-iface: {json.dumps(device)}"),),
            (("rm", DROP_IN), ("systemctl", "restart", "k3s")),
        )
    space, daemons = ground.space or "kube-flannel", ground.daemons or "kube-flannel-ds"
    more = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": f"--iface={device}"}]
    change = ("kubectl", "-n", space, "patch", "daemonset", daemons, "--type", "json", "-p", json.dumps(more))
    source = "flannel, Documentation/configuration.md (--iface), 0.28"
    back = ("kubectl", "-n", space, "rollout", "undo", f"daemonset/{daemons}")
    return Recipe("--iface", f"DaemonSet {space}/{daemons}", source, "by-hand.kube-device", (change,), undo=(back,))


def _calico_pattern(ground: Ground, device: str) -> Recipe:
    """Felix looks at devices whose names match, and takes the smallest."""
    pattern = f"^{re.escape(device)}$"
    change, back = (
        patch("felixconfiguration default", {"spec": {"mtuIfacePattern": told}}) for told in (pattern, None)
    )
    source = "Calico, Felix configuration (mtuIfacePattern), 3.30"
    return Recipe(
        "mtuIfacePattern", "FelixConfiguration default", source, "by-hand.kube-device", (change,), undo=(back,)
    )


def _cilium_devices(ground: Ground, device: str) -> Recipe:
    space, daemons = ground.space or "kube-system", ground.daemons or "cilium"
    change, back = (patch("configmap cilium-config", {"data": {"devices": told}}, space) for told in (device, None))
    again = rollout(space, daemons)
    source = "Cilium, Helm Reference (devices), 1.17; cilium-agent --devices"
    target = f"ConfigMap {space}/cilium-config"
    return Recipe("devices", target, source, "by-hand.kube-device", (change, again), undo=(back, again))


def _antrea_transport(ground: Ground, device: str) -> Recipe:
    space, daemons = ground.space or "kube-system", ground.daemons or "antrea-agent"
    line = FileEdit(
        path="antrea-agent.conf", diff=f"-#transportInterface:\n+transportInterface: {json.dumps(device)}\n"
    )
    commands = (edit(space, "antrea-config"), rollout(space, daemons))
    return Recipe(
        "transportInterface",
        f"antrea-agent.conf of ConfigMap {space}/antrea-config",
        "Antrea, build/charts/antrea/conf/antrea-agent.conf, 2.2",
        "by-hand.kube-device",
        commands,
        (line,),
        commands,
    )


DEVICES: Mapping[str, Callable[[Ground, str], Recipe]] = {
    "flannel": _flannel_iface,
    "calico": _calico_pattern,
    "cilium": _cilium_devices,
    "antrea": _antrea_transport,
}
