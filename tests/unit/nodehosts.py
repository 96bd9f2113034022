"""Nodes for the state rules: a network in a few lines (topo.py) with what the node's files say of it."""

from typing import Any

import topo
from msgspec.structs import replace

from pathfit.core.node import InstanceNetwork, NodeFacts, Overlay, WeaveConnection
from pathfit.core.snapshot import FdbEntry, HostSnapshot, Kernel
from pathfit.model.tunnels.makers import neutron_mtu, taken

TWO = """
n eth0 phys {0} 198.18.1.2/24
n eth1 phys {1} 198.18.2.2/24
n route default via 198.18.{2}.1
n {3}
"""
"""Two uplinks; {0} and {1} their MTUs, {2} the one of the default route, {3} a device more."""

DUAL = """
c1 eth0 {own} 172.17.0.2/16 -- n v1 {own} @docker0
n docker0 bridge {own} 172.17.0.1/16
n eth0 phys {data} 198.18.1.2/24
n eth1 phys {management} 198.18.2.2/24
n route default via 198.18.1.1
c1 route default via 172.17.0.1
n forward
"""
DATAPATH = (
    "n eth0 phys {0} 198.18.1.2/24\nn route default via 198.18.1.1\nn datapath openvswitch {1}\nn weave bridge {1}"
)
GUEST = "n eth0 phys {0} 198.18.1.2/24\nn route default via 198.18.1.1"


def node(text: str, **facts: Any) -> HostSnapshot:
    """The text as a host whose first namespace is a node that says ``facts``."""
    made = topo.host(text)
    space = next(x for x in made.namespaces if x.where == "netns:n")
    said = NodeFacts(netns=space.id, where=space.where, **facts)
    return replace(made, nodes=(said,), own=space.id)


def flannel(backend: str, granted: int | None, **more: Any) -> Overlay:
    said = {"wireguard": {"deducted": 80, "devices": ("flannel-wg",), "encryption": "wireguard"},
            "vxlan": {"deducted": 50, "devices": ("flannel.1",)}}[backend]  # fmt: skip
    return Overlay(maker="flannel", backend=backend, granted=granted, outer=4, **{**said, **more})  # type: ignore[arg-type]


def vswitch(remote: str, mtus: tuple[int, int] = (1500, 1400), granted: int = 1420, **more: Any) -> HostSnapshot:
    """flannel found eth0; its peers are at ``remote``."""
    text = TWO.format(*mtus, 1, f"flannel-wg wireguard {granted} remote={remote}")
    said = {"detected": mtus[0], "uplink": "eth0", **more}
    return node(text, overlays=(flannel("wireguard", granted, **said),))


def backend_mtu(written: int, nic: int = 1500, **more: Any) -> HostSnapshot:
    """flannel's Backend.MTU as somebody wrote it."""
    given = written - 50
    text = TWO.format(nic, 1500, 1, f"flannel.1 vxlan {given} id=1 local=198.18.1.2 dev=eth0")
    said = {"mtu": written, "meaning": "underlay", "option": "Backend.MTU", "uplink": "eth0", "source": "net-conf.json"}
    return node(text, overlays=(replace(flannel("vxlan", given), **{**said, **more}),))


def veth_mtu(written: int, nic: int = 1500, backend: str = "vxlan", pods: int | None = None) -> HostSnapshot:
    """Calico's veth_mtu as somebody wrote it; a container's cable has ``pods``."""
    tunnel = {"vxlan": f"vxlan.calico vxlan {nic - 50} id=4096 local=198.18.1.2 dev=eth0", "none": "d0 dummy 1500"}
    mtu = pods or written
    text = TWO.format(nic, nic, 1, tunnel[backend]) + f"p eth0 {mtu} 10.0.0.2/32 -- n cali1 {mtu}\n"
    devices = ("vxlan.calico",) if backend == "vxlan" else ()
    said = Overlay(
        maker="calico", backend=backend, mtu=written, option="mtu", devices=devices, uplink="eth0",  # type: ignore[arg-type]
        deducted=50 if backend == "vxlan" else 0, outer=4, source="10-calico.conflist",
    )  # fmt: skip
    return node(text, overlays=(said,))


def moved(maker: str, backend: str, granted: int, nic: int = 1500, **more: Any) -> HostSnapshot:
    """A maker whose tunnels Open vSwitch moves: the kernel shows its gateway alone."""
    text = TWO.format(nic, nic, 1, f"gw0 openvswitch {granted}")
    told = {"uplink": "eth0", "told": True, "outer": 4, **more}
    address = str(told.pop("address", ""))
    overlay = Overlay(maker=maker, backend=backend, granted=granted, devices=("gw0",), **told)  # type: ignore[arg-type]
    return node(text, overlays=(overlay,), address=address)


def neutron(nic: int, port: int, text: str = "", name: str = "n", **told: Any) -> HostSnapshot:
    """A compute node whose tunnels leave by eth0 (``nic``) and on which an instance's tap has ``port``. ``told``: what
    neutron's files say, by option; "backend", "ovn", "outer", "told" besides. ``text``: devices more."""
    backend, outer = told.pop("backend", "vxlan"), told.pop("outer", 4)
    there, ovn = told.pop("told", True), told.pop("ovn", False)
    header = told.get("max_header_size", 30)
    sizes = {k: v for k, v in told.items() if k != "max_header_size"}
    facts = {**sizes, **({"max_header_size": header} if backend == "geneve" else {}), **({"ovn": True} if ovn else {})}
    by_path = 0 < told.get("path_mtu", 0) <= told.get("global_physnet_mtu", 1500)
    option = "path_mtu" if by_path else "global_physnet_mtu" if "global_physnet_mtu" in told else ""
    overlay = Overlay(
        maker="neutron", source="ml2_conf.ini", backend=backend, mtu=told.get(option), meaning="underlay",
        option=option, granted=neutron_mtu(backend, **sizes, family=outer, header=header), outer=outer, told=there,
        uplink="eth0" if there else "", deducted=taken("neutron", backend, outer, header=header).deducts[0],
        facts=facts,
    )  # fmt: skip
    made = topo.host(f"{name} eth0 phys {nic} 198.18.1.2/24\n{name} tap0 tun {port}\n"
                     f"{name} route default via 198.18.1.1\n{text}")  # fmt: skip
    space = next(x for x in made.namespaces if x.where == f"netns:{name}")
    return replace(made, nodes=(NodeFacts(netns=space.id, where=space.where, overlays=(overlay,)),), own=space.id)


def weave(nic: int, overlay: int, *modes: str, encrypted: bool = False, **more: Any) -> HostSnapshot:
    """Weave with the fast datapath and one connection for each of ``modes``."""
    peers = tuple(
        WeaveConnection(
            peer=f"8a:12:00:00:00:0{i}(node{i})", address=f"198.18.9.{i}", port=6783, mode=mode,  # type: ignore[arg-type]
            state="established", encrypted=encrypted,
        )
        for i, mode in enumerate(modes, 2)
    )  # fmt: skip
    said = {"backend": "vxlan", "granted": overlay, "devices": ("datapath", "weave"), "outer": 4, **more}
    return node(DATAPATH.format(nic, overlay), overlays=(Overlay(maker="weave", **said),), weave=peers)


def plugged(own: int, port: int, learned: bool = True, twin: bool = False) -> tuple[HostSnapshot, ...]:
    """A virtual machine with MTU ``own``, and its host, whose tap has ``port``. ``twin``: another has its address."""
    mac = "fa:16:3e:00:00:01"
    vm = topo.host(f"g eth0 phys {own} 198.18.1.2/24\ng route default via 198.18.1.1", name="vm")
    below = topo.host(f"k br0 bridge 1500\nk tap0 tun {port} @br0\nk eth0 phys 1500 @br0", name="kvm")
    space, above = below.namespaces[0], vm.namespaces[0]
    tap = next(x for x in space.links if x.name == "tap0")
    links = tuple(replace(x, mac=f"fe{mac[2:]}") if x is tap else x for x in space.links)
    fdb = (FdbEntry(link=tap.index, mac=mac),) if learned else ()
    below = replace(below, namespaces=(replace(space, links=links, fdb=fdb),))
    nics = tuple(replace(x, mac=mac) if x.name == "eth0" else x for x in above.links)
    vm = replace(vm, namespaces=(replace(above, links=nics),))
    other = (replace(vm, host="vm2", boot_id="boot-vm2"),) if twin else ()
    return (vm, *other, below)


def guest(own: int, *told: tuple[str, int | None], link: str = "eth0") -> HostSnapshot:
    """A machine with MTU ``own`` that was told (source, mtu) about ``link``."""
    said = tuple(InstanceNetwork(source=s, file=f"/run/{s}", link=link, mtu=m) for s, m in told)  # type: ignore[arg-type]
    return node(GUEST.format(own), instance=said)


def kernel(host: HostSnapshot, release: str) -> HostSnapshot:
    """The same machine with another kernel."""
    return replace(host, kernel=Kernel(release=release))
