"""Container engines as values: what their API and configuration say, beside what the kernel says.

Only what a rule or a remedy reads is kept: no environment, no labels but those of compose, no commands of
containers, for a report and a case folder are shown to others.
"""

from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing


class Endpoint(Value, frozen=True, kw_only=True):
    """A container's membership in one network. ``link`` is the device's name in the container, when known."""

    network: str  # id of the network
    name: str  # its name
    addresses: tuple[str, ...] = ()
    mac: str = ""


class Container(Value, frozen=True, kw_only=True):
    """One container. ``netns`` is the NetnsSnapshot.id of its namespace, "" when it has none or it was not found."""

    id: str
    name: str
    engine: str  # "docker", "podman", "containerd"
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


class EngineNetwork(Value, frozen=True, kw_only=True):
    """One network of an engine. ``mtu`` is the option as set (bytes); None = not set, the driver's default."""

    id: str
    name: str
    driver: str  # "bridge", "overlay", "macvlan", "ipvlan", "host", "null"
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


class Engine(Value, frozen=True, kw_only=True):
    """One running engine.

    ``config`` is the text of its configuration file as read (None: there is none); ``config_error`` says why it
    cannot be understood. ``flags`` are the words of the daemon's command line. ``mtu`` is the value the daemon
    works with (bytes), wherever it comes from (``mtu_from``: "config", "flag", "default").

    ``inner``: the daemon runs in a pid namespace that is not the machine's first one (/proc/PID/ns/pid is not inode
    0xEFFFFFFC, PROC_PID_INIT_INO) and is not that namespace's first process: a lab host, not the machine itself. Only
    there may a daemon without a service manager (``restart`` "argv") be ended and started again by us; everywhere
    else that is a ``manual`` repair. Where it is not known it stays False.
    """

    kind: str  # "docker", "podman", "containerd"
    socket: str
    version: str = ""
    pid: int = 0
    netns: str = ""  # id of the namespace the daemon works in
    root: str | None = None  # what the daemon sees as "/", None = what we see
    inner: bool = False
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
