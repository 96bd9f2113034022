"""Container engines as values: what their API and configuration say, beside what the kernel says.

Only what a rule or a remedy reads is kept: no environment, no labels but those of compose, no commands of
containers, for a report and a case folder are shown to others. Of CI runners the signs are kept that
:mod:`~pathfit.model.runners` knows, never what a variable or a label holds.
"""

from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing


class Endpoint(Value, frozen=True, kw_only=True):
    """A container's membership in one network. ``link`` is the device's name in the container, when known."""

    network: str  # id of the network
    name: str  # its name
    addresses: tuple[str, ...] = ()
    mac: str = ""
    link: str = ""


class Container(Value, frozen=True, kw_only=True):
    """One container. ``netns`` is the NetnsSnapshot.id of its namespace, "" when it has none or it was not found."""

    id: str
    name: str
    engine: str  # "docker", "podman", "containerd", "cri-o"
    state: str = "running"
    pid: int = 0
    netns: str = ""
    network_mode: str = ""  # "default", "bridge", "host", "none", "container:ID", a network's name
    restart_policy: str = ""  # "no", "always", "on-failure", "unless-stopped"
    endpoints: tuple[Endpoint, ...] = ()
    compose_project: str = ""
    compose_service: str = ""
    compose_files: tuple[str, ...] = ()  # paths as the label holds them
    auto_remove: bool = False
    pod: str = ""  # "NAMESPACE/NAME" of Kubernetes, "NAME" of a Podman pod
    sandbox: bool = False  # it only holds the namespaces of its pod ("pause", "infra")
    namespace: str = ""  # containerd's: "k8s.io", "default", "moby"
    signs: tuple[str, ...] = ()  # of a CI runner: "image plugins/docker", "label com.gitlab.gitlab-runner."


class Node(Value, frozen=True, kw_only=True):
    """Another host of a network that spans hosts, as the engine tells of it. ``address``: where it can be reached."""

    name: str
    address: str = ""


class EngineNetwork(Value, frozen=True, kw_only=True):
    """One network of an engine. ``mtu`` is the option as set (bytes); None = not set, the driver's default.

    Of an overlay ``mtu`` is what the *underlay* is said to carry: its members get less (:attr:`is_underlay`).
    ``file``: the configuration it was read from, where there is one; ``config``: its text, where a repair may edit it.
    ``netns``: the namespace in which the engine hides the bridge and the VXLAN device of an overlay, "" when this host
    has none of its members, or it was not found. ``nodes``: hosts that are members, this one among them.
    """

    id: str
    name: str
    driver: str  # "bridge", "overlay", "macvlan", "ipvlan", "host", "null"; of CNI the type of the first plugin
    mtu: int | None = None
    bridge: str = ""  # the device on the host
    scope: str = "local"
    subnets: tuple[str, ...] = ()
    internal: bool = False
    ingress: bool = False
    default: bool = False  # the engine's own default bridge
    members: tuple[str, ...] = ()  # ids of running and paused containers
    compose_project: str = ""
    compose_network: str = ""
    vnis: tuple[int, ...] = ()  # one for each subnet of an overlay
    encrypted: bool = False
    netns: str = ""
    nodes: tuple[Node, ...] = ()
    file: str = ""
    config: str | None = None

    @property
    def is_underlay(self) -> bool:
        """Does its ``mtu`` mean the network below (libnetwork, drivers/overlay: overlayNetwork.maxMTU)?"""
        return self.driver == "overlay"


class Engine(Value, frozen=True, kw_only=True):
    """One running engine.

    ``config`` is the text of its configuration file as read (None: there is none); ``config_error`` says why it
    cannot be understood. ``flags`` are the words of the daemon's command line. ``mtu`` is the value the daemon
    works with (bytes), wherever it comes from (``mtu_from``: "config", "flag", "default").

    ``inner``: the daemon runs in a pid namespace that is not the machine's first one (/proc/PID/ns/pid is not inode
    0xEFFFFFFC, PROC_PID_INIT_INO), and that namespace does not end with it: a lab host, or a container in which it was
    started beside the container's own process. Only there may a daemon without a service manager (``restart`` "argv")
    be ended and started again by us; everywhere else that is a ``manual`` repair. Where it is not known it stays False.
    ``main``: the container that it runs in is known to end with it. ``unit`` of one in a container: that of the service
    manager there.

    ``depth``: 0 when it runs on the host, 1 in a container of another engine, 2 in a container of that one.
    ``inside``: the id of the container it runs in, ``inside_name`` how people call that one ("outer" or "outer/inner").
    ``signs``: what says whose CI runner it works for, among the processes around it ("process drone-docker", "variable
    GITLAB_CI"). ``network_mtu``: the daemon's default for networks by driver (``default-network-opts``, Docker 24).
    ``rootless``: the user it runs for, None = root's.
    ``client``: of an engine without a daemon, the words with which what it runs calls it ("/usr/bin/podman", "--root",
    ...): what stands before a command of it.
    """

    kind: str  # "docker", "podman", "containerd", "cri-o"
    socket: str  # "" when it was read by its files
    version: str = ""
    pid: int = 0
    netns: str = ""  # id of the namespace the daemon works in
    root: str | None = None  # what the daemon sees as "/", None = what we see
    inner: bool = False
    main: bool = False
    config_path: str = ""
    config: str | None = None
    config_error: str | None = None
    flags: tuple[str, ...] = ()
    mtu: int | None = None
    mtu_from: str = "default"
    live_restore: bool = False
    restart: str = "argv"  # "systemctl", "service", "argv"
    unit: str = ""
    networks: tuple[EngineNetwork, ...] = ()
    containers: tuple[Container, ...] = ()
    missing: tuple[Missing, ...] = ()
    depth: int = 0
    inside: str = ""
    inside_name: str = ""
    signs: tuple[str, ...] = ()
    network_mtu: dict[str, int] = {}
    rootless: int | None = None
    client: tuple[str, ...] = ()


class Workload(Value, frozen=True, kw_only=True):
    """What people run here, and how they call it: a container, a pod (all that share one network namespace), or a
    namespace that no engine knows. ``where`` is a WHERE that can be pasted into --from; ``networks`` are names.

    ``members``: other containers in the same namespace. ``note`` says why it has no way of its own to be judged, ""
    when it has: "host-network" (it lives in its host's namespace), "not-visible" (it runs, but its namespace cannot
    be seen from here), "exited" (it does not run), "no-network" (there is no device but loopback).
    """

    name: str  # "web", "shop/web-7f9c" (a pod), "outer/web" (of an engine in a container), "nginx[812]" (no engine)
    where: str
    netns: str = ""  # NetnsSnapshot.id, "" = none, or not known
    engine: str = ""  # "docker", "podman", "containerd", "cri-o"; "" = none that we know of
    networks: tuple[str, ...] = ()
    pod: str = ""
    project: str = ""  # of compose
    members: tuple[str, ...] = ()
    note: str = ""
