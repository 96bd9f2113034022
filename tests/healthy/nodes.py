"""Nodes whose files say how large things are (tests/unit/nodehosts.py): well, and told something wrong."""

from collections.abc import Callable

import nodehosts as n
from machines import Hosts, Kind, Make, Said

from pathfit.core.snapshot import HostSnapshot


def one(make: Callable[[int], HostSnapshot | Hosts]) -> Make:
    """``make`` gets the number; it makes one host, or several."""

    def made(number: str) -> Hosts:
        host = make(int(number))
        return (host,) if isinstance(host, HostSnapshot) else host

    return made


def warning(code: str, *who: str) -> Said:
    return {("warning", code): frozenset(who)}


def told(nic: int) -> HostSnapshot:
    """flannel is told 1500 on every node; this one's packets leave by eth1, its default route by the smaller eth0."""
    text = n.TWO.format(1400, nic, 1, "flannel.1 vxlan 1450 id=1 local=198.18.2.2 remote=198.18.2.9")
    said = {"mtu": 1500, "meaning": "underlay", "option": "Backend.MTU"}
    return n.node(text, overlays=(n.flannel("vxlan", 1450, **said),))


def dual(own: int) -> HostSnapshot:
    return n.node(n.DUAL.format(own=own, data=1500, management=9000))


NODES = [
    Kind("flannel-wireguard-peers", one(lambda net: n.vswitch(f"198.18.{net}.9")), "1", "2", warning("CFG604")),
    Kind("flannel-backend-mtu", one(n.backend_mtu), "1500"),
    Kind("flannel-backend-mtu-other-nodes", one(told), "1500", "1450", warning("CFG606")),
    Kind("calico-veth-mtu", one(n.veth_mtu), "1450", "1500", warning("CFG606", "p")),
    Kind("calico-no-overlay", one(lambda mtu: n.veth_mtu(mtu, backend="none")), "1500"),
    Kind(
        "ovn-kubernetes", one(lambda mtu: n.moved("ovn-kubernetes", "geneve", mtu)), "1400", "1450", warning("MTU104")
    ),
    Kind("antrea-geneve", one(lambda mtu: n.moved("antrea", "geneve", mtu)), "1450", "1500", warning("MTU104")),
    Kind(
        "weave",
        one(lambda mtu: n.weave(1450, mtu, "fastdp" if mtu == 1376 else "sleeve")),
        "1376",
        "1410",
        warning("OVL306"),
    ),
    Kind(
        "neutron",
        one(lambda port: n.neutron(1500, port, global_physnet_mtu=port + 50)),
        "1450",
        "8950",
        warning("MTU104"),
    ),
    Kind("cloud-guest", one(lambda own: n.guest(own, ("metadata", 1450))), "1450", "1500", warning("MTU113")),
    Kind("guest-and-its-host", one(lambda own: n.plugged(own, 1450)), "1450", "1500", warning("MTU113")),
    Kind(
        "two-networks-below",
        one(dual),
        "1500",
        "9000",
        {("warning", "MTU103"): frozenset({"c1"}), ("warning", "CFG605"): frozenset({"c1"})},
    ),
]
