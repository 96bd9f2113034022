"""pyroute2 as oracle: on every kind of device this kernel has, the same links, addresses, routes, neighbours, entries.

Its decoder shares nothing with ours. What is compared is everything both know, of every namespace of the lab.
"""

import socket
from collections.abc import Iterator
from typing import Any

import netlab
import pytest
from pyroute2 import NetNS

from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.observe import kernel

pytestmark = pytest.mark.lab
ALL = ("hub", "leaf", "far")
MADE = 0x40 | 0x80  # NUD_NOARP, NUD_PERMANENT


@pytest.fixture(scope="module")
def net() -> Iterator[netlab.Net]:
    with netlab.nets() as lab:
        lab.add(*ALL)
        lab.batch(
            "hub",
            f"""
            link add br0 type bridge forward_delay 0
            link add br1 type bridge stp_state 1
            link add v1 type veth peer name eth0 netns {lab("leaf")}
            link add v2 mtu 9000 type veth peer name eth0 mtu 9000 netns {lab("far")}
            link add lone type veth peer name pair
            link add mv0 link lone type macvlan mode bridge
            link add mv1 link lone type macvlan mode private
            link add mt0 link pair type macvtap mode vepa
            link add vx0 type vxlan id 7 local 10.5.0.1 dev v2 dstport 4789 ttl 9
            link add vx1 type vxlan id 8 group 239.1.1.1 dev v2 dstport 8472
            link add vx2 type vxlan dstport 4790 external
            link add vx3 type vxlan id 9 remote fd05::2 local fd05::1 dstport 4789
            tuntap add tun0 mode tun
            tuntap add tap0 mode tap
            link set v1 master br0
            link set vx0 master br0
            link set tap0 master br1
            link set mv1 netns {lab("leaf")}
            link set v1 up
            link set v2 up
            link set lone up
            link set pair up
            link set br0 up
            link set vx0 up
            link set vx3 up
            addr add 10.5.0.1/24 dev v2
            addr add fd05::1/64 dev v2 nodad
            addr add 10.4.0.1/16 dev br0
            addr add 10.6.0.1 peer 10.6.0.2/32 dev lone
            addr add 10.4.0.2/16 dev br0
            route add default via 10.5.0.254
            route add 10.9.0.0/16 via 10.5.0.9 mtu 1300 advmss 1200 table 77
            route add blackhole 10.10.0.0/16
            route add 10.11.0.0/16 nexthop via 10.5.0.9 weight 2 nexthop via 10.5.0.10 weight 5
            route add fd09::/64 via fd05::9 metric 7
            rule add from 10.4.0.0/16 lookup 77 pref 100
            rule add fwmark 0x20/0xf0 lookup 78 pref 101
            neigh add 10.5.0.9 lladdr 02:00:00:00:00:09 dev v2 nud permanent
            neigh add fd05::9 lladdr 02:00:00:00:00:99 dev v2 nud permanent
            """,
        )
        bridge = ("bridge", "-n", lab("hub"))
        netlab.run(*bridge, "fdb", "add", "02:00:00:00:00:07", "dev", "vx0", "dst", "10.5.0.7", "port", "4799")
        netlab.run(*bridge, "fdb", "add", "02:00:00:00:00:08", "dev", "v1", "master", "static")
        for name, last in (("leaf", 2), ("far", 3)):
            lab.batch(
                name,
                f"addr add 10.{7 - last}.0.{last + 10}/16 dev eth0\nlink set eth0 up\n"
                f"route add default via 10.{7 - last}.0.1 dev eth0 onlink",
            )
        yield lab


@pytest.fixture(scope="module")
def host(net: netlab.Net) -> HostSnapshot:
    return kernel.read_host(None, "all")


def ours(host: HostSnapshot, net: netlab.Net, name: str) -> NetnsSnapshot:
    (found,) = [n for n in host.namespaces if n.where == f"netns:{net(name)}"]
    return found


def theirs(net: netlab.Net, name: str, what: str, **how: Any) -> list[dict[str, Any]]:
    with NetNS(net(name)) as ns:
        messages = list(ns.fdb("dump")) if what == "fdb" else list(getattr(ns, what)(**how))
    return [{**{k: v for k, v in m.items() if k not in ("attrs", "header")}, **dict(m["attrs"])} for m in messages]


@pytest.mark.parametrize("name", ALL)
def test_links(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    expected = {}
    for m in theirs(net, name, "get_links"):
        info = dict(m.get("IFLA_LINKINFO", {"attrs": []})["attrs"])
        data = dict(info["IFLA_INFO_DATA"]["attrs"]) if "attrs" in (info.get("IFLA_INFO_DATA") or ()) else {}
        kind = info.get("IFLA_INFO_KIND", "")
        expected[m["index"]] = (
            m["IFLA_IFNAME"], m["IFLA_MTU"], kind, m.get("IFLA_ADDRESS", ""), bool(m["flags"] & 1),
            bool(m["flags"] & 0x10000), m.get("IFLA_MASTER", 0), m.get("IFLA_LINK_NETNSID"), m.get("IFLA_QDISC", ""),
            m["ifi_type"], data.get("IFLA_VXLAN_ID") if kind == "vxlan" else None,
            data.get("IFLA_VXLAN_GROUP", data.get("IFLA_VXLAN_GROUP6")) if kind == "vxlan" else None,
            data.get("IFLA_VXLAN_PORT") if kind == "vxlan" else None,
            data.get("IFLA_VXLAN_LINK", 0) if kind == "vxlan" else m.get("IFLA_LINK", 0),
        )  # fmt: skip
    found = {
        x.index: (
            x.name, x.mtu, x.kind, x.mac, x.up, x.carrier, x.master, x.peer_nsid, x.qdisc, x.arphrd,
            x.vxlan.vni if x.vxlan else None, x.vxlan.remote if x.vxlan else None, x.vxlan.port if x.vxlan else None,
            x.peer,
        )
        for x in ours(host, net, name).links
    }  # fmt: skip
    assert found == expected


def test_every_kind_this_kernel_has_is_in_the_lab(host: HostSnapshot, net: netlab.Net) -> None:
    kinds = {link.kind for name in ALL for link in ours(host, net, name).links}
    assert kinds >= {"veth", "bridge", "vxlan", "macvlan", "macvtap", "tun"}


@pytest.mark.parametrize("name", ALL)
def test_addresses(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    expected = {
        (m["index"], m.get("IFA_LOCAL", m["IFA_ADDRESS"]), m["prefixlen"], m["scope"], m["IFA_ADDRESS"], m["IFA_FLAGS"])
        for m in theirs(net, name, "get_addr")
    }
    found = {
        (a.link, a.address, a.prefix, a.scope, a.peer or a.address, a.flags) for a in ours(host, net, name).addresses
    }
    assert found == expected


@pytest.mark.parametrize("name", ALL)
def test_routes(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    expected = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for m in theirs(net, name, "get_routes", family=family):
            if m["flags"] & 0x200:
                continue  # a cached one
            metrics = dict(m["RTA_METRICS"]["attrs"]) if "RTA_METRICS" in m else {}
            hops = [(h["oif"], dict(h["attrs"]).get("RTA_GATEWAY"), h["hops"] + 1) for h in m.get("RTA_MULTIPATH", ())]
            if not hops and "RTA_OIF" in m and m["type"] not in (6, 7, 8, 9):
                hops = [(m["RTA_OIF"], m.get("RTA_GATEWAY"), 1)]
            expected.add((
                4 if family == socket.AF_INET else 6, m["RTA_TABLE"], m.get("RTA_DST", "") if m["dst_len"] else "",
                m["dst_len"], m["type"], m["scope"], m["proto"], m.get("RTA_PRIORITY", 0), m.get("RTA_PREFSRC"),
                metrics.get("RTAX_MTU"), metrics.get("RTAX_ADVMSS"), tuple(sorted(hops)),
            ))  # fmt: skip
    types = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6}
    found = {
        (
            r.family, r.table, r.dst, r.prefix, types[r.type], r.scope, r.protocol, r.metric, r.prefsrc, r.mtu,
            r.advmss, () if r.type == "blackhole" else tuple(sorted((h.link, h.via, h.weight) for h in r.hops)),
        )
        for r in ours(host, net, name).routes
    }  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("name", ALL)
def test_rules(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    expected = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for m in theirs(net, name, "get_rules", family=family):
            expected.add((
                4 if family == socket.AF_INET else 6, m.get("FRA_PRIORITY", 0), m.get("FRA_TABLE", m["table"]),
                m.get("FRA_SRC", ""), m["src_len"], m.get("FRA_FWMARK", 0), m.get("FRA_FWMASK", 0),
            ))  # fmt: skip
    rules = ours(host, net, name).rules
    assert {(r.family, r.priority, r.table, r.src, r.src_prefix, r.mark, r.mark_mask) for r in rules} == expected


@pytest.mark.parametrize("name", ALL)
def test_neighbours(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    """Those that were made; others come and go by themselves between two looks."""
    expected = {
        (m["ifindex"], m["NDA_DST"], m["NDA_LLADDR"])
        for family in (socket.AF_INET, socket.AF_INET6)
        for m in theirs(net, name, "get_neighbours", family=family)
        if m["state"] & 0x80
    }
    found = {(n.link, n.address, n.mac) for n in ours(host, net, name).neighbours if n.state == "permanent"}
    assert found == expected
    assert len(found) == (2 if name == "hub" else 0)


def test_forwarding_entries(host: HostSnapshot, net: netlab.Net) -> None:
    """Those that were made; what a bridge learns comes and goes by itself between two looks."""
    expected = {
        (m["ifindex"], m["NDA_LLADDR"], m.get("NDA_DST"), m.get("NDA_VLAN"), bool(m["flags"] & 2))
        for m in theirs(net, "hub", "fdb")
        if m["state"] & MADE
    }
    entries = [f for f in ours(host, net, "hub").fdb if f.state in ("permanent", "static")]
    found = {(f.link, f.mac, f.remote, f.vlan, f.own) for f in entries}
    assert len(found) > 10
    assert found == expected
    assert {f.mac: f.remote_port for f in ours(host, net, "hub").fdb}["02:00:00:00:00:07"] == 4799
