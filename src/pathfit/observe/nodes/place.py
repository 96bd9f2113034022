"""A node as its readers see it, and where nodes are: the machine itself, lab hosts, nodes in containers (kind).

A node is a network namespace in which a kubelet, an agent of a maker or the machine's first process lives. Its files
are those of the kubelet (or of the first process); an agent that runs in a container has files of its own besides (its
configuration is mounted there), and an environment.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pathfit.core.net import Family
from pathfit.core.node import Distribution
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot
from pathfit.host import clock, procfs
from pathfit.observe.nodes.cni import Plugin, plugins
from pathfit.observe.nodes.files import Root
from pathfit.observe.processes import argv_of, namespace_of, root_of

AGENTS = frozenset({"flanneld", "calico-node", "cilium-agent", "weaver", "antrea-agent", "kindnetd", "ovnkube"})
"""Names of the makers' processes (comm, at most 15 characters)."""
HOMES = ("kubelet", "k3s-server", "k3s-agent", "kubelite", "k0s", "containerd")  # their root is the node's
WORDS = frozenset(
    {
        "CNI_MTU",
        "FELIX_IPINIPMTU",
        "FELIX_MTUIFACEPATTERN",
        "FELIX_VXLANMTU",
        "FELIX_VXLANMTUV6",
        "FELIX_WIREGUARDMTU",
        "FELIX_WIREGUARDMTUV6",
        "FLANNELD_IFACE",
        "IP_AUTODETECTION_METHOD",
        "WEAVE_MTU",
        "WEAVE_NO_FASTDP",
    }
)
SECRETS = frozenset({"WEAVE_PASSWORD"})  # only that they are set is kept
DISTRIBUTIONS: tuple[tuple[Distribution, str], ...] = (
    ("rke2", "/var/lib/rancher/rke2/agent"),
    ("k3s", "/var/lib/rancher/k3s/agent"),
    ("microk8s", "/var/snap/microk8s/current/args"),
    ("microshift", "/var/lib/microshift"),
    ("openshift", "/etc/machine-config-daemon"),
    ("kind", "/kind"),
)
"""Folders that a distribution leaves on each node; the first that is there counts."""
ENVIRONMENT = 1 << 17  # bytes
AGENTS_MOST = 16  # of one node


class Agent(NamedTuple):
    """A maker's process on a node: its own files, the words of its command line, the variables of WORDS."""

    name: str
    root: Root
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    pid: int = 0

    def option(self, *names: str) -> str:
        """The last value of an option ("--mtu 1400", "--mtu=1400"), "" without."""
        value = ""
        for n, found in enumerate(self.argv):
            for name in names:
                if found == name:
                    value = (self.argv[n + 1 : n + 2] or ("",))[0]
                elif found.startswith(f"{name}="):
                    value = found.partition("=")[2]
        return value


class Node(NamedTuple):
    """What a maker's reader is given: the node's files, its namespace, the makers' processes on it, its CNI plugins,
    the time (seconds since 1970; 0: leases do not end), its address in its cluster ("": not told)."""

    root: Root
    ns: NetnsSnapshot
    agents: tuple[Agent, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    now: float = 0.0
    address: str = ""

    def agent(self, name: str) -> Agent | None:
        """The first process of that name."""
        return next((a for a in self.agents if a.name == name), None)

    def roots(self, name: str) -> tuple[Root, ...]:
        """The node's files, then those of that agent."""
        return (self.root, *(a.root for a in self.agents if a.name == name))

    def link(self, name: str) -> Link | None:
        """The device of that name in the node's namespace."""
        return next((x for x in self.ns.links if x.name == name), None)

    def named(self, *patterns: str) -> tuple[str, ...]:
        """Names of devices that equal a pattern, or begin with it where it ends in "*"."""
        return tuple(x.name for x in self.ns.links if any(_matches(x.name, p) for p in patterns))

    def family(self) -> Family | None:
        """The one family that this node has addresses of (for more than its own link); None: both, or none seen."""
        found = {6 if ":" in a.address else 4 for a in self.ns.addresses if a.scope == 0}
        return None if len(found) != 1 else 6 if 6 in found else 4

    def at(self, address: str) -> Link | None:
        """The device that has this address."""
        index = next((a.link for a in self.ns.addresses if a.address == address), 0)
        return next((x for x in self.ns.links if x.index == index), None) if index else None


def find(host: HostSnapshot, homes: Mapping[str, Sequence[int]]) -> tuple[Node, ...]:
    """Every node; the machine itself first. ``homes``: processes by the id of their namespace, as we number them."""
    machine = namespace_of(1) or host.own
    nodes = []
    for ns in sorted(host.namespaces, key=lambda n: n.id != machine):
        known = {p.pid: p.name for p in ns.processes}  # read already, but for a host's many
        agents, home = _living(homes.get(ns.id, ()), known)
        address = node_ip(argv_of(home)) if home else ""
        if ns.id == machine:
            home = 1 if 1 in homes.get(ns.id, ()) else home  # whoever calls itself kubelet there
        elif home is None and not agents:
            continue
        nodes.append(_node(ns, home, agents)._replace(address=address))
    return tuple(nodes)


def distribution(root: Root) -> Distribution:
    """Who packed the node's Kubernetes; "" when none of those known did, or their folders may not be seen."""
    return next((name for name, folder in DISTRIBUTIONS if root.names(folder)), "")


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _node(ns: NetnsSnapshot, home: int | None, agents: Iterable[tuple[str, int]]) -> Node:
    found = tuple(_agent(name, pid) for name, pid in agents)
    root = found[0].root if home is None and found else Root(root_of(home) if home else None)
    return Node(root, ns, found, plugins(root), clock.wall())


def _living(pids: Sequence[int], known: Mapping[int, str]) -> tuple[list[tuple[str, int]], int | None]:
    """The agents among those processes, and the process whose root is the node's. ``known``: names by process."""
    agents: list[tuple[str, int]] = []
    homes: dict[str, int] = {}
    for pid in pids:
        name = known.get(pid) or procfs.maybe(f"/proc/{pid}/comm", 64)
        if name in AGENTS and len(agents) < AGENTS_MOST:
            agents.append((name, pid))
        elif name in HOMES:
            homes.setdefault(name, pid)
    return agents, next((homes[name] for name in HOMES if name in homes), None)


def node_ip(argv: tuple[str, ...]) -> str:
    """The first address of a kubelet's (or k3s') --node-ip, "" when it is not told one."""
    told = Agent("kubelet", Root(None), argv).option("--node-ip").partition(",")[0]
    try:
        address = ipaddress.ip_address(told)
    except ValueError:
        return ""
    return "" if address.is_unspecified else str(address)


def _agent(name: str, pid: int) -> Agent:
    variables = environment(procfs.maybe(f"/proc/{pid}/environ", ENVIRONMENT))
    return Agent(name, Root(root_of(pid)), argv_of(pid), variables, pid)


def environment(text: str) -> dict[str, str]:
    """Of the variables of a process ("A=b\\0C=d\\0") those of WORDS; of SECRETS only that they are set."""
    found = {}
    for one in text.split("\0"):
        name, equals, value = one.partition("=")
        if equals and name in WORDS:
            found[name] = value[:256]
        elif equals and name in SECRETS and value:
            found[name] = "set"
    return found
