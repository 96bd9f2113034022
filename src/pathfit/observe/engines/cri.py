"""Containers that a runtime keeps as bundles: one folder each, with the OCI runtime's config.json in it.

What a kubelet, `nerdctl` or `crictl` called them stands in its annotations, under other names with each runtime.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.engine import Container, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.host import within
from pathfit.model.runners import of_container
from pathfit.observe.engines import oci, spaces
from pathfit.observe.engines.cni import Attachment
from pathfit.observe.engines.daemons import Daemon, Homes
from pathfit.observe.engines.oci import Spec
from pathfit.observe.engines.parse import number

RUNS = ("running", "paused")


class Keys(NamedTuple):
    """Names of annotations: the kind ("sandbox", "container"), the pod's namespace and name, the container's name, the
    id of its sandbox, its image."""

    kind: str
    space: str
    pod: str
    name: str
    sandbox: str
    image: str


CONTAINERD = Keys(  # containerd, pkg/cri/annotations
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri.image-name",
)
CRIO = Keys(  # cri-o, pkg/annotations; Kubernetes' own
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.name",
    "io.kubernetes.container.name",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.cri-o.ImageName",
)
Attached = Mapping[str, tuple[Attachment, ...]]  # by the id that CNI was told


class Bundle(NamedTuple):
    """A container's folder as read. ``pid`` of its first process, as the runtime counts; 0: none, or not told."""

    id: str
    spec: Spec
    pid: int = 0
    namespace: str = ""


def bundle(daemon: Daemon, one: str, config: str, pidfile: str, namespace: str = "") -> Bundle:
    """Raises OSError when its config.json may not be read or is none; a broken one gives an empty Spec."""
    raw = within.read(daemon.root, config, oci.LIMIT)
    try:
        told = oci.spec(raw)
    except ValueError:
        told = Spec(netns="")
    return Bundle(one, told, pid(daemon, pidfile), namespace)


def pid(daemon: Daemon, path: str) -> int:
    """The number in a pid file, 0 when there is none."""
    try:
        return number(within.read(daemon.root, path, 32).decode("ascii").strip(), 1 << 22) or 0
    except (OSError, ValueError):
        return 0


def attached(found: Iterable[Attachment]) -> dict[str, tuple[Attachment, ...]]:
    """By container."""
    by_id: dict[str, tuple[Attachment, ...]] = {}
    for one in found:
        by_id[one.container] = (*by_id.get(one.container, ()), one)
    return by_id


def container(daemon: Daemon, one: Bundle, keys: Keys, devices: Attached, homes: Homes) -> Container:
    """A bundle as a container with its namespace."""
    notes = one.spec.annotations
    sandbox = notes.get(keys.sandbox, "")
    ends = devices.get(sandbox) or devices.get(one.id) or devices.get(f"{one.namespace}-{one.id}") or ()
    space, pod = notes.get(keys.space, ""), notes.get(keys.pod, "")
    whole = f"{space}/{pod}" if space and pod else next((e.pod for e in ends if e.pod), "")
    holds = notes.get(keys.kind) == "sandbox"
    name = notes.get("nerdctl/name") or notes.get(keys.name) or ("" if holds else one.id)
    made = Container(
        id=one.id,
        name=name or pod,
        engine=daemon.kind,
        endpoints=tuple(e.endpoint for e in ends),
        pod=whole,
        sandbox=holds,
        namespace=one.namespace,
        compose_project=notes.get("com.docker.compose.project", ""),
        compose_service=notes.get("com.docker.compose.service", ""),
        signs=of_container(notes.get(keys.image, ""), notes),
    )
    return _at_home(daemon, made, one, homes)


def _at_home(daemon: Daemon, made: Container, one: Bundle, homes: Homes) -> Container:
    """With its namespace; without any it has ended, and its folder was left behind."""
    netns = spaces.of_process(daemon, one.pid) if one.pid else ""
    ours = spaces.process(daemon, one.id, netns, one.pid, homes) if netns else 0
    if one.spec.netns is None:  # its host's: whichever its engine is in
        state = "exited" if one.pid and not netns else "running"
        there = netns or daemon.namespace if state == "running" else ""
        return replace(made, state=state, network_mode="host", netns=there, pid=ours)
    if not one.pid:  # a pod that no process holds (cri-o, drop_infra_ctr)
        netns = spaces.at_path(daemon, one.spec.netns)
    return replace(made, netns=netns, pid=ours, state="running" if netns else "exited")


def with_members(networks: Iterable[EngineNetwork], containers: Iterable[Container]) -> tuple[EngineNetwork, ...]:
    """The networks with the ids of those that run in them."""
    members: dict[str, list[str]] = {}
    for one in containers:
        for end in one.endpoints if one.state in RUNS else ():
            members.setdefault(end.network, []).append(one.id)
    return tuple(replace(n, members=tuple(members.get(n.id, ()))) for n in networks)


def closed(daemon: Daemon, folder: str, why: str) -> Missing:
    """Its files are somebody else's."""
    how = "sudo pathfit …" if os.geteuid() else f"ls -l {folder}"
    return Missing(what=f"{daemon.kind}'s containers in {folder}", why=why, how=how, code="permission")
