"""Repairs for good where a maker of cluster networks sized the pod: its own option, in the number that it means.

The number written and the pods' MTU are two numbers (flannel and Cilium are told of the network below): both are said.
They follow from the smallest of what was measured and of what the devices show, by the maker's own arithmetic
(:mod:`pathfit.model.tunnels.makers`). How it is written stands in :mod:`~pathfit.remedies.kubernetes_makers`.
"""

import re
from collections.abc import Iterator

from pathfit.core.engine import Engine
from pathfit.core.finding import Facts, Finding, Fix
from pathfit.core.net import TCP, Family
from pathfit.core.path import Encap
from pathfit.core.snapshot import HostSnapshot, Link
from pathfit.model.lookup import Query, lookup
from pathfit.model.network import Net
from pathfit.model.tunnels.makers import Setting, expected_inner, setting
from pathfit.model.workloads import plain_name
from pathfit.remedies.base import SAFE_FLOOR
from pathfit.remedies.kubernetes_makers import Ground, Recipe, devices, margin, recipes
from pathfit.remedies.untried import documented
from pathfit.rules import forecast
from pathfit.rules.state.machine import Machine
from pathfit.rules.state.nodes import Cni, Placed, cnis, default_link, ends, is_pod_of, leaves_by, pod_spaces
from pathfit.rules.view import View

AGENTS = {
    "flannel": r"kube-flannel-ds(?:-[a-z0-9]+)?",
    "canal": r"(?:rke2-)?canal",
    "calico": r"calico-node",
    "cilium": r"cilium",
    "weave": r"weave-net",
    "antrea": r"antrea-agent",
    "ovn-kubernetes": r"ovnkube-node",
    "kindnet": r"kindnet",
}
"""How the DaemonSet of a maker's agent is called; a pod of it has five characters more, which Kubernetes draws."""
LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")  # a Kubernetes namespace (RFC 1123 label)


def kubernetes(view: View, limit: int) -> tuple[Fix, ...]:
    """The cluster network's own setting, when the source is one of its pods and the way leads through it.

    ``limit``: the largest IP packet (bytes) that passes. Nothing where what is too small lies beyond the cluster's
    network: one narrow path of somebody else's is no reason to resize a cluster.
    """
    cni = _of_source(view)
    if cni is None or not _concerned(view, cni.carrier, limit):
        return ()
    assert view.state is not None
    return _fixes(view.state, cni, limit, 6 if view.family == 6 else 4)


def of_setting(finding: Finding, host: HostSnapshot) -> tuple[Fix, ...]:
    """The same for a setting that is found wrong by itself (CFG604, CFG606, a maker's MTU104), where it is a cluster
    network's."""
    fits = finding.facts.get("fits", finding.facts.get("limit"))
    if not isinstance(fits, int) or finding.facts.get("case") == "twice":
        return ()  # "twice" works, with packets smaller than need be: how much more is room, no state can tell
    maker = finding.facts.get("maker") or finding.facts.get("who")
    places = {p.netns for p in finding.where}
    for cni in cnis(Machine(host, forecast.network(host), seats=())):
        if cni.carrier.net.snap.where in places and maker in (cni.carrier.overlay.maker, cni.option.overlay.maker):
            return (*_fixes(host, cni, fits, 4), *_named(host, cni, finding))
    return ()


def _named(host: HostSnapshot, cni: Cni, finding: Finding) -> tuple[Fix, ...]:
    """The maker told the device that its packets really leave by (CFG604), whose size it then finds itself."""
    device, mtu = finding.where[-1].link, finding.facts.get("leaves_mtu")
    o = cni.carrier.overlay
    if finding.code != "CFG604" or not device or not isinstance(mtu, int):
        return ()
    pods = expected_inner(o.maker, o.backend, mtu, o.outer or 4, o.encryption)
    fits = finding.facts.get("fits")
    if pods is None or not isinstance(fits, int) or pods > fits:
        return ()  # by its own arithmetic they would still be too large
    wanted = Setting(mtu, pods, mtu)
    every = tuple(f"pod:{name}" for name in _pods(host, cni))
    found = devices(cni.name, _ground(host, cni), device)
    return tuple(_fix(cni, r, wanted, every, f"{cni.name}-device", {"device": device}) for r in found)


def _of_source(view: View) -> Cni | None:
    """The cluster network that the source is a pod of; None when it is none, or not certain."""
    if view.state is None or view.source is None or not view.state.nodes:
        return None
    network = forecast.network(view.state)
    net = network.find(view.source.id)
    if net is None:
        return None
    machine = Machine(view.state, network, seats=())
    called = pod_spaces(view.state)
    return next((c for c in cnis(machine) if is_pod_of(c, called, network, net)), None)


def _concerned(view: View, node: Placed, limit: int) -> bool:
    """Does the flow stay in the cluster's network, or is it the node's own device that is too small?"""
    here = node.net.snap.where
    for way in view.predicted:
        steps = (s for h in (way.hops if way is not None else ()) for s in h.steps)
        if any(isinstance(s, Encap) and s.at.netns == here for s in steps):
            return True
        if way is not None and any(x.at.netns == here and x.mtu <= limit for x in way.limits):
            return True
    found = lookup(node.net, Query(dst=view.address, proto=TCP)) if view.address else None
    return found is not None and found.kind == "unicast" and found.route is not None and found.route.prefix > 0


def _fixes(host: HostSnapshot, cni: Cni, limit: int, family: Family) -> tuple[Fix, ...]:
    """``family``: of the packets inside; below its least MTU nothing is proposed."""
    ground = _ground(host, cni)
    wanted = _wanted(cni, ground, limit)
    if wanted is None or wanted.effective < SAFE_FLOOR[family]:
        return ()
    pods = tuple(f"pod:{name}" for name in _pods(host, cni))
    return tuple(_fix(cni, recipe, wanted, pods) for recipe in recipes(cni.name, ground, wanted))


def _wanted(cni: Cni, ground: Ground, limit: int) -> Setting | None:
    o = cni.carrier.overlay
    link = _device(cni.carrier)
    device = link.mtu if link is not None else None
    family = o.outer or 4
    space = margin(cni.name, ground)
    found = setting(o.maker, o.backend, limit, device, family, o.encryption, _deducted(o.granted, o.detected), space)
    if found is None or cni.option is cni.carrier:
        return found
    return found._replace(value=found.effective)  # canal: what flannel leaves is what Calico's option means


def _deducted(granted: int | None, detected: int | None) -> int | None:
    """What this installation takes off, where both sizes show."""
    return detected - granted if granted is not None and detected is not None and detected > granted else None


def _device(node: Placed) -> Link | None:
    """The device that outer packets leave the node by: towards the far ends where they are seen, else the one with the
    node's address or that the maker was told, else that of the default route."""
    for tunnel in node.tunnels:
        ways = {x.index: x for a in ends(node.net, tunnel) if (x := leaves_by(node.net, a, tunnel)) is not None}
        if ways:
            return min(ways.values(), key=lambda x: x.mtu)
    index = next((a.link for a in node.net.snap.addresses if node.address and a.address == node.address), 0)
    return node.net.links.get(index) or node.net.names.get(node.overlay.uplink) or default_link(node.net)


def _ground(host: HostSnapshot, cni: Cni) -> Ground:
    space, daemons = next(_agents(host, cni), ("", ""))
    return Ground(
        option=cni.option.overlay,
        carrier=cni.carrier.overlay,
        distribution=cni.carrier.distribution,
        space=space,
        daemons=daemons,
        node=next((c.name for e in host.engines for c in e.containers if c.netns == cni.carrier.net.snap.id
                   and not c.pod and c.network_mode != "host" and plain_name(c.name)), ""),
    )  # fmt: skip


def _agents(host: HostSnapshot, cni: Cni) -> Iterator[tuple[str, str]]:
    """(Kubernetes namespace, DaemonSet) of the maker's agent, by the name of its pod on this node. It lives in the
    node's own namespace, as all of them do: a tenant's pod of such a name does not."""
    shape = re.compile(f"({AGENTS.get(cni.name, '(?!)')})-[a-z0-9]{{5}}")
    outside = cni.carrier.net.snap.id
    for engine in _engines(host, cni.carrier.net):
        for c in engine.containers:
            space, _, pod = c.pod.partition("/")
            named = shape.fullmatch(pod)
            if named and LABEL.fullmatch(space) and (c.netns == outside or c.network_mode == "host"):
                yield space, named[1]


def _pods(host: HostSnapshot, cni: Cni) -> tuple[str, ...]:
    """The node's pods with a network of their own ("NAMESPACE/NAME"): they must be made again."""
    outside = cni.carrier.net.snap.id
    names = (c.pod for e in _engines(host, cni.carrier.net) for c in e.containers if c.pod and c.netns != outside)
    return tuple(dict.fromkeys(n for n in names if n))


def _engines(host: HostSnapshot, node: Net) -> Iterator[Engine]:
    """Engines of that node alone: a machine may hold several (kind)."""
    return (e for e in host.engines if e.netns in ("", node.snap.id))


def _fix(
    cni: Cni, recipe: Recipe, wanted: Setting, pods: tuple[str, ...], id_: str = "", more: Facts | None = None
) -> Fix:  # fmt: skip
    facts: Facts = {
        "maker": cni.name,
        "option": recipe.option,
        "where_set": recipe.target,
        "effective": wanted.effective,
        "by_hand": "by-hand.kube-already" if not id_ and cni.option.overlay.mtu == wanted.value else recipe.hand,
        "node": cni.carrier.net.snap.where,
        "restarts": True,
        **(more or {}),
    }
    different = "fix.kube-mtu-underlay" if wanted.value != wanted.effective else "fix.kube-mtu"
    return documented(
        id_ or f"{cni.name}-mtu",
        "fix.kube-device" if id_ else different,
        cni.name,
        source=recipe.source,
        value=wanted.value,
        effective=wanted.effective,
        where=cni.carrier.net.point(None),
        lasts=recipe.lasts,
        commands=recipe.commands,
        files=recipe.files,
        undo=recipe.undo,
        interrupts=pods,
        facts=facts,
    )
