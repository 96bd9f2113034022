"""A node as Kubernetes makers lay it out: files on its disk, devices, their agents' processes, pods by name.

    n1 (node; containerd) eth0 ---- 1450 fabric 1500 ---- eth0 n2 (node, and the far end of what pods ask for)
                          eth1 ---- gate

The fabric is a switch whose port to n1 carries NARROW bytes and tells nobody: what does not fit is lost. Files and
names follow each maker's documentation; the devices are the kernel's own, laid with iproute2. Where a maker moves
packets by eBPF, a route stands in for it: sizes, names and files are the maker's. Open vSwitch is the real one, with
its userspace datapath. Pods are containerd's, with the annotations of its CRI plugin; what a CNI plugin does,
:meth:`Maker.plug` does.

Addresses: nodes 198.18.1.0/24 and 198.18.2.0/24; of maker N the pods of n1 in 198.19.N.0/25, the far end in .128/25. So
no maker meets a path MTU that another one's packets taught somebody.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from article import SIZE, serve
from engine import STAY
from labhost import OFFLOADS_OFF, Lab, LabHost, Room, cable, until

from recipes.containerds import IMAGE, Containerd
from recipes.ovs import Ovs

NARROW, WIDE = 1450, 1500  # bytes the fabric carries to n1; what everything else does
N1, N2 = "198.18.1.2", "198.18.1.3"
MAC1, MAC2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
OVN_OPTION = "{class=0x102,type=0x80,len=4}->tun_metadata0"
DEAF = """
table inet deaf {
  chain out { type filter hook output priority 0; icmp type destination-unreachable icmp code frag-needed drop; }
}
"""


class Sizes(NamedTuple):
    """What comes of a number in a maker's option (bytes): the MTU of a pod's device and of its packets (Cilium puts the
    latter on routes), of the tunnel's device, what it takes the network below for, and the node's own eth0."""

    written: int
    device: int
    pod: int
    tunnel: int
    below: int
    eth0: int = NARROW


Lines = Callable[["Maker", Sizes], str]
Agents = dict[str, tuple[dict[str, str], tuple[str, ...]]]


class Switch(NamedTuple):
    """Ports of br-int, the bridge of Open vSwitch that pods are plugged into: the host's own, and the Geneve tunnel's.
    ``option``: OVN's Geneve option is in each packet (ovn-architecture(7)), eight bytes with its header."""

    gateway: str
    tunnel: str
    option: bool


class Maker(NamedTuple):
    """One maker. ``number``: of its addresses. ``wrong`` is written at first; ``sizes`` is what it makes of a number.
    ``files`` by path; ``agents``: (environment, words) by name of the process; ``node``, ``far``: lines of `ip` for the
    devices of n1 and n2, ``inside`` and ``plug`` for a pod and for the node's half of its cable (whose name begins with
    ``cable``). ``pod``: of its agent. ``cause``: the code that says what is wrong, "" where none can see it.
    ``option``: its name in the repair."""

    name: str
    number: int
    wrong: int
    option: str
    cause: str
    sizes: Callable[[int], Sizes]
    files: Callable[["Maker", Sizes], dict[str, str]]
    agents: Callable[["Maker", Sizes], Agents]
    node: Lines
    far: Callable[["Maker"], str]
    cable: str
    plug: Callable[["Maker", Sizes, str], str]
    inside: Lines
    pod: str
    over: int = 50  # bytes that its encapsulation takes
    default: str = "eth0"  # its default route
    fdb: str = ""  # the tunnel's device, whose forwarding entries are laid by `bridge`
    switch: Switch | None = None

    def net(self, last: str) -> str:
        return f"198.19.{self.number}.{last}"

    @property
    def url(self) -> str:
        return f"https://{self.net('130')}:8443/"


class Cluster:
    """Both nodes and the fabric between them, containerd on n1; one maker at a time. ``switched``: with Open vSwitch,
    whose br-phy has the nodes' addresses and their eth0 as a port."""

    def __init__(self, lab: Lab, switched: bool = False) -> None:
        self.lab = lab
        self.n1: LabHost = lab.host("n1")
        self.n2: Room = lab.host("n2") if switched else lab.room("n2")
        self.gate: Room = lab.room("gate")
        fabric = lab.room("fabric")
        fabric.ip("link add sw type bridge\nlink set sw up")
        fabric.call("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")  # a switch cuts nothing
        cable(self.n1, "eth0", fabric, "p1", NARROW)
        cable(self.n2, "eth0", fabric, "p2", WIDE)
        cable(self.n1, "eth1", self.gate, "n1", WIDE)
        fabric.ip("link set p1 master sw\nlink set p2 master sw")
        self.outer = "br-phy" if switched else "eth0"
        self.switches: list[Ovs] = []
        for node, address in ((self.n1, N1), (self.n2, N2)):
            if isinstance(node, LabHost) and switched:
                self.switches.append(Ovs(node, "eth0", (f"{address}/24",)))
            else:
                node.ip(f"addr add {address}/24 dev eth0")
        self.n1.ip("addr add 198.18.2.2/24 dev eth1")
        self.n2.ip(f"route add default via {N1}")
        self.gate.ip("addr add 198.18.2.1/24 dev n1")
        for room in (self.n1, self.n2):
            room.sysctl(ipv4__ip_forward=1, ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0)
        self.n1.run("nft", "-f", "-", stdin=DEAF)
        serve(self.n2, lab.folder / "server.log")
        self.containerd = Containerd(lab, self.n1)
        self.n1.run("rm", "/etc/cni/net.d/10-lab.conflist")
        self.n1.run("mkdir", "-p", "/run/bin")
        self._started: list[str] = []
        self._laid: list[str] = []
        self._pods = 0

    # -- a maker's node ---------------------------------------------------------------------------------------------

    def install(self, maker: Maker, sizes: Sizes) -> None:
        """Its files, devices and agents on n1, its far end on n2; what another one left is taken away first."""
        self.clear()
        gates = {"eth0": f"{N2} dev {self.outer}", "eth1": "198.18.2.1 dev eth1"}
        self.n1.ip(f"link set eth0 mtu {sizes.eth0}\nroute replace default via {gates[maker.default]}")
        for path, text in maker.files(maker, sizes).items():
            self.n1.run("mkdir", "-p", str(Path(path).parent))
            self.n1.path(path).write_text(text)
            self._laid.append(path)
        if maker.switch is not None:
            self._switch(maker, maker.switch, sizes)
        else:
            self.n1.ip(maker.node(maker, sizes))
            self.n2.ip(f"addr add {maker.net('130')}/32 dev lo\n{maker.far(maker)}")
        if maker.fdb:
            for room, mac, there in ((self.n1, MAC2, N2), (self.n2, MAC1, N1)):
                for address in (mac, "00:00:00:00:00:00"):
                    room.run("bridge", "fdb", "append", address, "dev", maker.fdb, "dst", there)
        for name, (environment, words) in maker.agents(maker, sizes).items():
            self._start(name, environment, words)
        self._sandbox(maker.pod, "--net-host")

    def _switch(self, maker: Maker, switch: Switch, sizes: Sizes) -> None:
        """br-int on both nodes, a Geneve tunnel between them; on n2 its host port is the far end."""
        ends = ((N2, "1", sizes.pod), (N1, "130", WIDE - 50))
        for ovs, (there, last, mtu) in zip(self.switches, ends, strict=True):
            ovs(
                *("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure"),
                *("--", "add-port", "br-int", switch.tunnel, "--", "set", "interface", switch.tunnel, "type=geneve"),
                *(f'options:remote_ip="{there}"', "options:key=5"),
                *("--", "add-port", "br-int", switch.gateway, "--", "set", "interface", switch.gateway),
                *("type=internal", f"mtu_request={mtu}"),
            )
            flows = ("unix:/run/openvswitch/br-int.mgmt",)
            told = "set_field:0x10002->tun_metadata0," if switch.option else ""
            if switch.option:
                ovs.host.run("ovs-ofctl", "add-tlv-map", *flows, OVN_OPTION)
            ovs.host.run("ovs-ofctl", "add-flow", *flows, f"priority=2,in_port={switch.tunnel},actions=NORMAL")
            ovs.host.run("ovs-ofctl", "add-flow", *flows, f"priority=1,actions={told}NORMAL")
            ovs.host.ip(f"addr add {maker.net(last)}/24 dev {switch.gateway}\nlink set {switch.gateway} up")

    def clear(self) -> None:
        """As it was before any maker came: pods, agents, devices, files, routes."""
        for one in self.containerd("tasks", "ls", "-q").split():
            self.containerd("tasks", "rm", "-f", one)
        for pid in self._started:
            self.n1.run("kill", "-KILL", pid)
        for path in self._laid:
            self.n1.run("rm", "-f", path)
        for ovs in self.switches:
            ovs("--if-exists", "del-br", "br-int")
        kept = {"lo", "eth0", "eth1", "br-phy", "ovs-netdev"}
        for room in (self.n1, self.n2):
            for link in json.loads(room.run("ip", "-j", "link")):
                if link["ifname"] not in kept:
                    room.call("ip", "link", "del", link["ifname"])  # a cable's other half went with it
            room.run("ip", "route", "flush", "root", "198.19.0.0/16")
        self.n2.run("ip", "addr", "flush", "dev", "lo", "scope", "global")
        self._started, self._laid = [], []

    def _start(self, name: str, environment: dict[str, str], words: tuple[str, ...]) -> None:
        """A process of that name, with those words and variables, that does nothing: readers look at no more."""
        script = self.n1.path(f"/run/bin/{name}")
        script.write_text("#!/bin/sh\nwhile :; do sleep 100; done\n")
        script.chmod(0o755)
        told = [f"{k}={v}" for k, v in environment.items()]
        self.n1.run(
            "setsid",
            "--fork",
            "sh",
            "-c",
            'exec "$@" </dev/null >/dev/null 2>&1',
            "sh",
            "env",
            *told,
            f"/run/bin/{name}",
            *words,
        )
        until(lambda: bool(self._pids(name)), name)
        self._started += self._pids(name)

    def _pids(self, name: str) -> list[str]:
        return self.n1.call("pgrep", "-x", name).stdout.split()

    # -- pods ---------------------------------------------------------------------------------------------------------

    def pod(self, maker: Maker, sizes: Sizes, name: str) -> str:
        """A pod "NAMESPACE/NAME" on n1: its sandbox by containerd, its cable as the maker's plugin lays it. Its pid."""
        sandbox = self._sandbox(name)
        pid = self.containerd.pid(sandbox)
        x = f"{maker.cable}{sandbox[:4]}"
        self.n1.ip(
            f"link add {x} mtu {sizes.device} type veth peer name eth0 mtu {sizes.device} netns {pid}\nlink set {x} up"
        )
        self.n1.run("ethtool", "-K", x, *OFFLOADS_OFF.split())
        enter = ("nsenter", "-t", pid, "-n")
        self.n1.run(*enter, "ethtool", "-K", "eth0", *OFFLOADS_OFF.split())
        self.n1.run(
            *enter, "ip", "-batch", "-", stdin="link set lo up\nlink set eth0 up\n" + maker.inside(maker, sizes)
        )
        if maker.switch is not None:
            self.switches[0]("add-port", "br-int", x)
        else:
            self.n1.ip(maker.plug(maker, sizes, x))
        self.n1.run("sysctl", "-qw", f"net.ipv4.conf.{x}.proxy_arp=1", f"net.ipv4.neigh.{x}.proxy_delay=0")
        return pid

    def _sandbox(self, pod: str, *options: str) -> str:
        """The id of a sandbox as containerd's CRI plugin makes it, without its network."""
        self._pods += 1
        sandbox = hashlib.sha256(f"{pod} {self._pods}".encode()).hexdigest()
        space, _, short = pod.partition("/")
        notes = {"sandbox-id": sandbox, "sandbox-name": short, "sandbox-namespace": space, "container-type": "sandbox"}
        said = [w for k, v in notes.items() for w in ("--annotation", f"io.kubernetes.cri.{k}={v}")]
        self.containerd("run", "-d", *said, *options, "--cgroup", f"/{self.n1.cgroup}/{sandbox}", IMAGE, sandbox, *STAY)
        return sandbox

    def effective(self, pid: str, maker: Maker) -> int:
        """The MTU of a pod's packets to the far end, as the kernel says: of the route, else of its device."""
        enter = ("nsenter", "-t", pid, "-n", "ip", "-j")
        (route,) = json.loads(self.n1.run(*enter, "route", "get", maker.net("130")))
        if size := next((m["mtu"] for m in route.get("metrics", []) if "mtu" in m), None):
            return int(size)
        return int(json.loads(self.n1.run(*enter, "link", "show", "dev", route["dev"]))[0]["mtu"])

    def curl(self, pid: str, maker: Maker, patience: float) -> str:
        """What curl says in a pod of a body of SIZE bytes: "200 SIZE", or "000 0" when it hung."""
        words = f"curl -sk -m {patience} -o /dev/null -w %{{http_code}}_%{{size_download}} {maker.url}{SIZE}"
        return self.n1.call("nsenter", "-t", pid, "-n", *words.split()).stdout.replace("_", " ")


# --- what they have in common -----------------------------------------------------------------------------------------


def conflist(kind: str, **options: object) -> str:
    return json.dumps({"cniVersion": "0.3.1", "name": "k8s-pod-network", "plugins": [{"type": kind, **options}]})


def tunnel(name: str, vni: int, port: int) -> Callable[[Maker], str]:
    """The far end of a VXLAN, whose device is as large as its own network allows."""
    return lambda m: (
        f"""
        link add {name} address {MAC2} mtu {WIDE - 50} type vxlan id {vni} dstport {port} local {N2} dev eth0 nolearning
        link set {name} up
        addr add {m.net("128")}/32 dev {name}
        neigh add {m.net("0")} lladdr {MAC1} dev {name} nud permanent
        route add {m.net("0")}/25 via {m.net("0")} dev {name} onlink src {m.net("130")}
    """
    )


def here(name: str, vni: int, port: int, below: str = "dev eth0") -> Callable[[Maker, Sizes], str]:
    """The node's end of it, with the route to the far end's pods."""
    return lambda m, s: (
        f"""
        link add {name} address {MAC1} mtu {s.tunnel} type vxlan id {vni} dstport {port} local {N1} {below} nolearning
        link set {name} up
        addr add {m.net("0")}/32 dev {name}
        neigh add {m.net("128")} lladdr {MAC2} dev {name} nud permanent
        route add {m.net("128")}/25 via {m.net("128")} dev {name} onlink
    """
    )


def routed(m: Maker, s: Sizes, x: str) -> str:
    """A pod with an address of its own and nothing else (Calico, Cilium, kindnet): a route to its cable."""
    return f"route add {m.net('2')}/32 dev {x} scope link"


def behind_bridge(m: Maker, s: Sizes) -> str:
    return f"addr add {m.net('2')}/25 dev eth0\nroute add default via {m.net('1')}"


def alone(gateway: str, mtu: bool = False) -> Callable[[Maker, Sizes], str]:
    """A pod whose gateway is a neighbour that answers for everybody (proxy_arp on the node's half)."""

    def lines(m: Maker, s: Sizes) -> str:
        via = gateway or m.net("1")
        size = f" mtu {s.pod}" if mtu else ""
        return (
            f"addr add {m.net('2')}/32 dev eth0\nroute add {via} dev eth0 scope link\nroute add default via {via}{size}"
        )

    return lines
