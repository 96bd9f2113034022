"""Machines for the tests of the map, as texts of topo.py, and the maps of them."""

from cases import NARROW
from msgspec.structs import replace
from topo import host

from pathfit.core.snapshot import HostSnapshot, Kernel
from pathfit.model import Network, predict_both
from pathfit.render.map.build import build
from pathfit.render.map.graph import Map

LAB = NARROW
VXLAN = """
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 @br0
b vx0 vxlan 1500 id=77 local=198.18.9.2 remote=198.18.9.1 @br0
a br0 bridge 1500
b br0 bridge 1500
c eth0 1500 198.18.3.1/24 -- a vc 1500 @br0
s eth0 1500 198.18.3.2/24 -- b vs 1500 @br0
"""
ZOO = """
host eth0 phys 1500
host eth1 phys 9000 192.0.2.9/24 2001:db8::9/64
host br0 bridge 1500 192.0.2.2/24
host eth0.7 vlan 1496 198.18.7.1/24 dev=eth0 vlan_id=7
host gre1 gre 1476 198.18.11.1/30 local=192.0.2.2 remote=203.0.113.5
host docker0 bridge 1500 172.17.0.1/16
host docker1 bridge 1400 172.19.0.1/16 off
host route default via 192.0.2.1
host forward
vm tap0 1500 -- host vkvm 1500 @br0
dind eth0 1500 172.17.0.2/16 -- host vd 1500 @docker0
dind docker0 bridge 1500 172.18.0.1/16
dind forward
dind route default via 172.17.0.1
inner-1 eth0 1500 172.18.0.2/16 -- dind v1 1500 @docker0
inner-2 eth0 1400 172.18.0.3/16 -- dind v2 1500 @docker0
inner-1 route default via 172.18.0.1
lonely dummy0 dummy 1500
bare forward
"""


def crowd(count: int, networks: int = 3, mtu: int = 1450) -> str:
    """That many containers on so many bridges of one machine."""
    lines = ["host eth0 phys 1500 192.0.2.2/24", "host route default via 192.0.2.1", "host forward"]
    lines += [f"host br{k} bridge {mtu} 10.{k}.0.1/16" for k in range(networks)]
    for i in range(count):
        k, n = i % networks, i // networks + 2
        half = f"host v{i} {mtu} @br{k}"
        lines += [f"web.{i + 1} eth0 {mtu} 10.{k}.{n // 250}.{n % 250 + 1}/16 -- {half}"]
        lines += [f"web.{i + 1} route default via 10.{k}.0.1"]
    return "\n".join(lines)


def distinct(count: int) -> str:
    """Nothing that could be folded: a bridge for every container."""
    lines = ["host eth0 phys 1500 192.0.2.2/24"]
    for i in range(count):
        a, b = divmod(i, 250)
        half = f"host v{i} {1400 + i % 11} @b{i}"
        lines += [f"host b{i} bridge {1400 + i % 11} 10.{a}.{b}.1/24"]
        lines += [f"c{i} eth0 {1400 + i % 11} 10.{a}.{b}.2/24 -- {half}"]
    return "\n".join(lines)


def overlay(each: int = 14) -> list[HostSnapshot]:
    """Two hosts, forty containers, three networks; one of them an overlay whose devices are in a namespace of its
    own, as swarm makes it."""
    hosts = []
    for k, (name, own, other) in enumerate((("ci-1", 11, 12), ("ci-2", 12, 11))):
        lines = [f"host eth0 phys 1500 192.0.2.{own}/24", "host route default via 192.0.2.1", "host forward"]
        lines += ["host docker0 bridge 1500 172.17.0.1/16", "host docker_gwbridge bridge 1500 172.18.0.1/16"]
        lines += ["1-ovl br0 bridge 1450 10.0.1.1/24"]
        lines += [f"1-ovl vxlan0 vxlan 1450 id=4097 local=192.0.2.{own} remote=192.0.2.{other} @br0"]
        for i in range(each):
            web = f"web.{2 * i + k + 1}"
            lines += [f"{web} eth0 1450 10.0.1.{10 + 2 * i + k}/24 -- 1-ovl veth{i} 1450 @br0"]
            lines += [f"{web} eth1 1500 172.18.0.{10 + i}/16 -- host vethg{i} 1500 @docker_gwbridge"]
            lines += [f"{web} route default via 172.18.0.1"]
        for i in range(6):
            lines += [f"job-{i} eth0 1500 172.17.0.{10 + i}/16 -- host vethj{i} 1500 @docker0"]
        hosts.append(_swarm(host("\n".join(lines), name=name)))
    return hosts


def _swarm(made: HostSnapshot) -> HostSnapshot:
    """The overlay's VXLAN device was made in the host's namespace and still sends from there."""
    root = made.namespaces[0].id
    spaces = []
    for ns in made.namespaces:
        if ns.where == "netns:1-ovl":
            links = [replace(x, peer_ns=root, peer_nsid=0) if x.kind == "vxlan" else x for x in ns.links]
            ns = replace(ns, links=tuple(links))
        spaces.append(replace(ns, where="host") if ns.id == root else ns)
    return replace(made, namespaces=tuple(spaces), own=root, kernel=Kernel(release="6.1.0"))


def drawn(what: str | list[HostSnapshot], source: str = "", to: str = "") -> Map:
    """The map of a machine, with the path from ``source`` to the address ``to``."""
    hosts = [host(what)] if isinstance(what, str) else what
    network = Network.of(*hosts)
    if not to:
        return build(network, hosts)
    return build(network, hosts, asked=(source, to), ways=predict_both(network, source, to, dport=443))
