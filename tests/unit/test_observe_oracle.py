"""What pathfit reads of a namespace is what iproute2 reads of it."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import netlab
import pytest

from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot, Route
from pathfit.host import netns
from pathfit.observe import kernel, places

pytestmark = pytest.mark.lab

TABLES = {"main": 254, "local": 255, "default": 253}
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
PROTOCOLS = {"unspec": 0, "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9}


@pytest.fixture(scope="module")
def net() -> Iterator[netlab.Net]:
    """a - r (bridge, vxlan, macvlan, tap) - s; v holds a vxlan whose packets leave from r."""
    with netlab.nets() as lab:
        lab.add("a", "r", "s", "v")
        build(lab)
        yield lab


def build(lab: netlab.Net) -> None:
    lab.batch(
        "r",
        f"""
        link add br0 type bridge forward_delay 0 nf_call_iptables 1
        link add ra type veth peer name e0 netns {lab("a")}
        link add rs mtu 1400 type veth peer name e0 mtu 1400 netns {lab("s")}
        link add p1 type veth peer name p2
        link add vx0 type vxlan id 42 local 10.1.2.1 dev rs dstport 4790 df set nolearning
        link add vx1 type vxlan dstport 4789 ttl 9 external
        link add vx2 type vxlan id 44 local 10.1.2.1 remote 10.1.2.9 dstport 4789 noudpcsum
        link add mv0 link p1 type macvlan mode bridge
        tuntap add tap7 mode tap
        link set p2 master br0
        link set tap7 master br0
        link set vx0 master br0
        link set p2 type bridge_slave hairpin on isolated on learning off
        link set vx2 netns {lab("v")}
        addr add 10.1.1.1/24 dev ra
        addr add 10.1.2.1/24 dev rs
        addr add fd00:1::1/64 dev ra nodad
        addr add fd00:2::1/64 dev rs nodad
        addr add 10.1.9.1 peer 10.1.9.2/32 dev p1
        link set br0 up
        link set ra up
        link set rs up
        link set p1 up
        link set p2 up
        link set vx0 up
        link set dev ra mtu 1500 gso_max_size 32000
        """,
    )
    fdb = ("bridge", "-n", lab("r"), "fdb", "add")
    netlab.run(*fdb, "00:00:00:00:00:00", "dev", "vx0", "dst", "10.1.2.2")
    netlab.run(*fdb, "02:00:00:00:00:07", "dev", "vx0", "dst", "10.1.2.3", "port", "4799", "vni", "99")
    netlab.run(*fdb, "02:00:00:00:00:08", "dev", "p2", "master", "static")
    for name in (
        "ipv4.ip_forward=1",
        "ipv6.conf.all.forwarding=1",
        "ipv4.conf.ra.rp_filter=2",
        "ipv4.conf.rs.proxy_arp=1",
    ):
        lab.inside("r", "sysctl", "-qw", f"net.{name}")
    lab.batch(
        "a",
        """
        addr add 10.1.1.2/24 dev e0
        addr add fd00:1::2/64 dev e0 nodad
        link set e0 up
        route add default via 10.1.1.1
        route add default via fd00:1::1 metric 5
        route add 10.20.0.0/16 via 10.1.1.1 mtu lock 1300 advmss 1200
        route add 10.21.0.0/16 via 10.1.1.1 mtu 1310 initcwnd 4
        route add 10.22.0.0/16 nexthop via 10.1.1.1 weight 3 nexthop via 10.1.1.7 dev e0 weight 2 onlink
        route add blackhole 10.23.0.0/16
        route add unreachable 10.24.0.0/16 metric 9
        route add prohibit fd00:24::/64
        route add throw 10.25.0.0/16 table 100
        route add 10.26.0.0/16 via 10.1.1.9 dev e0 onlink table 100 src 10.1.1.2
        route add 10.27.0.0/16 via inet6 fd00:1::9 dev e0
        route add fd00:28::/64 via fd00:1::1 from fd00:1::/64 mtu 1280
        route add fd00:29::/64 nexthop via fd00:1::1 weight 2 nexthop via fd00:1::7
        route add 10.30.0.0/16 tos 0x10 via 10.1.1.1
        nexthop add id 7 via 10.1.1.8 dev e0
        nexthop add id 8 via 10.1.1.9 dev e0
        nexthop add id 9 group 7,3/8
        nexthop add id 10 blackhole
        route add 10.31.0.0/16 nhid 7
        route add 10.32.0.0/16 nhid 9
        route add 10.33.0.0/16 nhid 10
        rule add not to 10.0.0.0/8 sport 53 pref 60 goto 32766
        rule add from 10.66.0.0/16 tos 0x10 blackhole pref 70
        neigh add 10.1.1.77 lladdr 02:00:00:00:00:77 dev e0 nud permanent
        neigh add proxy 10.1.1.78 dev e0
        """,
    )
    selectors = "from 10.0.0.0/8 fwmark 0x10/0xff iif e0 ipproto tcp dport 80-90 uidrange 5-6"
    lab.ip("a", f"rule add {selectors} lookup 100 suppress_prefixlength 0 pref 50")
    netlab.run("ip", "-n", lab("a"), "-6", "rule", "add", "oif", "e0", "prohibit", "pref", "80")
    lab.batch(
        "s",
        """
        addr add 10.1.2.2/24 dev e0
        addr add fd00:2::2/64 dev e0 nodad
        link set e0 up
        route add default via 10.1.2.1
        route add default via fd00:2::1
        """,
    )
    learn_path_mtu(lab)


def learn_path_mtu(lab: netlab.Net) -> None:
    """Send 1500 bytes that may not be fragmented until the kernel itself says it knows better."""
    handle = place(lab("a"))
    for family, target, level, option in (
        (socket.AF_INET, "10.1.2.2", socket.IPPROTO_IP, 10),
        (socket.AF_INET6, "fd00:2::2", socket.IPPROTO_IPV6, 23),
    ):
        with netns.inside(handle.fd):
            sock = socket.socket(family, socket.SOCK_DGRAM)
        with sock:
            sock.setsockopt(level, option, 2)  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER: DO
            sock.settimeout(0.1)
            sock.connect((target, 9))
            size = 1500 - (28 if family == socket.AF_INET else 48)
            for _ in range(100):
                try:
                    sock.send(b"x" * size)
                    sock.recv(1)
                except TimeoutError:
                    continue
                except OSError as e:
                    if e.errno == errno.EMSGSIZE:
                        break
            else:
                pytest.fail("no path MTU was learned")
    handle.close()


def place(name: str) -> netns.NetnsHandle:
    found = places.locate(f"netns:{name}")
    assert not isinstance(found, Missing), found
    return found[0]


@pytest.fixture(scope="module")
def host(net: netlab.Net) -> HostSnapshot:
    with place(net("a")) as handle:
        return kernel.read_host(handle, "all")


def of(host: HostSnapshot, net: netlab.Net, name: str) -> NetnsSnapshot:
    (found,) = [n for n in host.namespaces if n.where == f"netns:{net(name)}"]
    return found


def link_of(snapshot: NetnsSnapshot, name: str) -> Link:
    (found,) = [link for link in snapshot.links if link.name == name]
    return found


ALL = ("a", "r", "s", "v")


@pytest.mark.parametrize("name", ALL)
def test_links(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    theirs = {
        e["ifname"]: (
            e["ifindex"],
            e["mtu"],
            e["address"],
            e.get("qdisc", ""),
            "UP" in e["flags"],
            "LOWER_UP" in e["flags"],
            "NOARP" not in e["flags"],
            e.get("linkinfo", {}).get("info_kind", ""),
            e.get("master"),
            e.get("link_netnsid"),
            e["gso_max_size"],
        )
        for e in net.json(name, "ip", "link show")
    }
    snapshot = of(host, net, name)
    names = {link.index: link.name for link in snapshot.links}
    ours = {
        link.name: (
            link.index,
            link.mtu,
            link.mac,
            link.qdisc,
            link.up,
            link.carrier,
            link.arp,
            link.kind,
            names.get(link.master),
            link.peer_nsid,
            link.gso_max_size,
        )
        for link in snapshot.links
    }
    assert ours == theirs


def test_both_halves_of_every_veth_find_each_other(host: HostSnapshot, net: netlab.Net) -> None:
    by_id = {n.id: n for n in host.namespaces}
    seen = 0
    for name in ALL:
        snapshot = of(host, net, name)
        for link in (link for link in snapshot.links if link.kind == "veth"):
            there = by_id[link.peer_ns] if link.peer_nsid is not None and link.peer_ns else snapshot
            (other,) = [o for o in there.links if o.index == link.peer]
            assert other.kind == "veth"
            assert other.peer == link.index
            assert (other.peer_ns or there.id) == snapshot.id
            seen += 1
    assert seen == 6


def test_vxlan(host: HostSnapshot, net: netlab.Net) -> None:
    r, v = of(host, net, "r"), of(host, net, "v")
    vx0 = link_of(r, "vx0").vxlan
    assert vx0 is not None
    assert (vx0.vni, vx0.local, vx0.lower, vx0.port, vx0.df, vx0.learning, vx0.udp_csum) == (
        42, "10.1.2.1", link_of(r, "rs").index, 4790, 1, False, True,
    )  # fmt: skip
    vx1 = link_of(r, "vx1").vxlan
    assert vx1 is not None
    assert (vx1.ttl, vx1.collect_metadata, vx1.remote, vx1.lower) == (9, True, None, 0)
    moved = link_of(v, "vx2")
    assert moved.vxlan is not None
    assert (moved.vxlan.remote, moved.vxlan.udp_csum) == ("10.1.2.9", False)
    assert moved.peer_ns == r.id  # its outer packets are routed where it was made


def test_bridge_ports(host: HostSnapshot, net: netlab.Net) -> None:
    r = of(host, net, "r")
    bridge = link_of(r, "br0")
    assert (bridge.vlan_filtering, bridge.nf_call_iptables) == (False, True)
    port = link_of(r, "p2").bridge_port
    assert port is not None
    assert (port.state, port.hairpin, port.isolated, port.learning) == (3, True, True, False)
    down = link_of(r, "tap7").bridge_port
    assert down is not None
    assert down.state == 0


def test_other_kinds(host: HostSnapshot, net: netlab.Net) -> None:
    r = of(host, net, "r")
    assert link_of(r, "mv0").info["mode"] == "bridge"
    assert link_of(r, "mv0").peer == link_of(r, "p1").index
    assert link_of(r, "tap7").info["type"] == "tap"


@pytest.mark.parametrize("name", ALL)
def test_addresses(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    theirs = {
        (e["ifname"], a["local"], a["prefixlen"], SCOPES[a["scope"]], a.get("address"))
        for e in net.json(name, "ip", "addr show")
        for a in e["addr_info"]
    }
    snapshot = of(host, net, name)
    names = {link.index: link.name for link in snapshot.links}
    assert {(names[a.link], a.address, a.prefix, a.scope, a.peer) for a in snapshot.addresses} == theirs


def their_routes(net: netlab.Net, name: str) -> set[tuple[Any, ...]]:
    found = set()
    for family in (4, 6):
        for e in net.json(name, "ip", f"-{family} route show table all"):
            address, _, prefix = e["dst"].partition("/")
            default = address == "default"
            metrics = (e.get("metrics") or [{}])[0]
            hops = e.get("nexthops") or ([e] if "dev" in e and e["type"] not in REFUSING else [])
            found.add(
                (
                    family,
                    TABLES.get(e["table"]) or int(e["table"]),
                    "" if default else address,
                    0 if default else int(prefix or (32 if family == 4 else 128)),
                    e["type"],
                    SCOPES[e["scope"]],
                    PROTOCOLS.get(e["protocol"]),
                    e.get("metric", 0),
                    e.get("prefsrc"),
                    metrics.get("mtu"),
                    metrics.get("advmss"),
                    metrics.get("initcwnd"),
                    e.get("from", ""),
                    tuple(
                        sorted((h["dev"], their_gateway(h), h.get("weight", 1), "onlink" in h["flags"]) for h in hops)
                    ),
                )
            )
    return found


REFUSING = ("blackhole", "unreachable", "prohibit", "throw")


def their_gateway(hop: dict[str, Any]) -> str:
    return str(hop.get("gateway") or hop.get("via", {}).get("host", ""))


def our_route(route: Route, names: dict[int, str]) -> tuple[Any, ...]:
    hops = () if route.type in REFUSING else route.hops
    return (
        route.family,
        route.table,
        route.dst,
        route.prefix,
        route.type,
        route.scope,
        route.protocol,
        route.metric,
        route.prefsrc,
        route.mtu,
        route.advmss,
        route.initcwnd,
        f"{route.src}/{route.src_prefix}" if route.src else "",
        tuple(sorted((names[h.link], h.via or "", h.weight, h.onlink) for h in hops)),
    )


@pytest.mark.parametrize("name", ALL)
def test_routes(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    snapshot = of(host, net, name)
    names = {link.index: link.name for link in snapshot.links}
    assert {our_route(r, names) for r in snapshot.routes} == their_routes(net, name)


def test_locked_mtu_and_tos(host: HostSnapshot, net: netlab.Net) -> None:
    routes = {r.dst: r for r in of(host, net, "a").routes}
    assert (routes["10.20.0.0"].mtu, routes["10.20.0.0"].mtu_lock) == (1300, True)
    assert (routes["10.21.0.0"].mtu, routes["10.21.0.0"].mtu_lock) == (1310, False)
    assert routes["10.30.0.0"].tos == 0x10


def test_next_hop_objects_alone(net: netlab.Net) -> None:
    """With the compatibility mode off the kernel names only the object."""
    net.inside("a", "sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0")
    try:
        with place(net("a")) as handle:
            host = kernel.read_host(handle, "source")
    finally:
        net.inside("a", "sysctl", "-qw", "net.ipv4.nexthop_compat_mode=1")
    routes = {r.dst: r for r in of(host, net, "a").routes}
    assert [(h.via, h.weight) for h in routes["10.31.0.0"].hops] == [("10.1.1.8", 1)]
    assert [(h.via, h.weight) for h in routes["10.32.0.0"].hops] == [("10.1.1.8", 3), ("10.1.1.9", 1)]
    assert (routes["10.33.0.0"].type, routes["10.33.0.0"].hops) == ("blackhole", ())


@pytest.mark.parametrize("family", [4, 6])
def test_rules(host: HostSnapshot, net: netlab.Net, family: int) -> None:
    theirs = [
        (
            e["priority"],
            TABLES.get(e.get("table", "0")) or int(e.get("table", 0)),
            "" if e["src"] == "all" else f"{e['src']}/{e.get('srclen', 32)}",
            f"{e['dst']}/{e.get('dstlen', 32)}" if "dst" in e else "",
            "not" in e,
            int(e.get("fwmark", "0"), 16),
            int(e.get("fwmask", "0xffffffff" if "fwmark" in e else "0"), 16),
            e.get("iif"),
            e.get("oif"),
            int(e.get("tos", "0"), 16),
            {"tcp": 6}.get(e.get("ipproto"), 0),
            (e["dport_start"], e["dport_end"]) if "dport_start" in e else None,
            (e["sport"], e["sport"]) if "sport" in e else None,
            (e["uid_start"], e["uid_end"]) if "uid_start" in e else None,
            e.get("suppress_prefixlen"),
            e.get("goto", 0),
            e.get("action", "goto" if "goto" in e else "lookup"),
        )
        for e in net.json("a", "ip", f"-{family} rule show")
    ]
    ours = [
        (
            r.priority,
            r.table,
            f"{r.src}/{r.src_prefix}" if r.src else "",
            f"{r.dst}/{r.dst_prefix}" if r.dst else "",
            r.invert,
            r.mark,
            r.mark_mask,
            r.iif,
            r.oif,
            r.tos,
            r.proto,
            r.dport,
            r.sport,
            r.uid,
            r.suppress_prefix,
            r.goto,
            r.action,
        )
        for r in of(host, net, "a").rules
        if r.family == family
    ]
    assert ours == theirs
    assert [r.opaque for r in of(host, net, "a").rules if r.opaque] == []


def test_learned_path_mtu(host: HostSnapshot, net: netlab.Net) -> None:
    found = {e.family: e for e in of(host, net, "a").exceptions}
    assert (found[4].dst, found[4].mtu, found[4].via) == ("10.1.2.2", 1400, "10.1.1.1")
    assert (found[6].dst, found[6].mtu) == ("fd00:2::2", 1400)
    for one in found.values():
        assert one.expires is not None
        assert 500 < one.expires <= 600
    assert len(of(host, net, "a").exceptions) == 2
    assert all(of(host, net, n).exceptions == () for n in ("r", "s"))


def test_neighbours(host: HostSnapshot, net: netlab.Net) -> None:
    theirs = {(e["dev"], e["dst"], e.get("lladdr")) for e in net.json("a", "ip", "neigh show nud all") if "dst" in e}
    snapshot = of(host, net, "a")
    names = {link.index: link.name for link in snapshot.links}
    ours = {(names[n.link], n.address, n.mac) for n in snapshot.neighbours}

    def asked_for(entries: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Without those the kernel makes for itself whenever it speaks (loopback, multicast listener reports)."""
        return {e for e in entries if e[0] != "lo" and not e[1].startswith(("ff", "224."))}

    assert asked_for(ours) == asked_for(theirs)
    assert {e[1] for e in asked_for(ours)} >= {"10.1.1.1", "10.1.1.77", "fd00:1::1"}
    assert {n.address: n.state for n in snapshot.neighbours}["10.1.1.77"] == "permanent"


def test_forwarding_entries(host: HostSnapshot, net: netlab.Net) -> None:
    theirs = {
        (e["ifname"], e["mac"], e.get("dst"), e.get("vlan"), e.get("vni"), int(e.get("port", 0)), "self" in e["flags"])
        for e in net.json("r", "bridge", "fdb show")
    }
    snapshot = of(host, net, "r")
    names = {link.index: link.name for link in snapshot.links}
    ours = {(names[f.link], f.mac, f.remote, f.vlan, f.remote_vni, f.remote_port, f.own) for f in snapshot.fdb}
    assert ours == theirs
    states = {f.mac: f.state for f in snapshot.fdb}
    assert states["02:00:00:00:00:08"] == "static"


@pytest.mark.parametrize("name", ALL)
def test_sysctls_of_devices_are_those_of_proc(host: HostSnapshot, net: netlab.Net, name: str) -> None:
    snapshot = of(host, net, name)
    for key, value in snapshot.sysctls.items():
        path = key.replace(".", "/")
        assert net.inside(name, "cat", f"/proc/sys/net/{path}").strip() == value, key
    assert "ipv4.conf.lo.rp_filter" in snapshot.sysctls


def test_sysctls_that_were_set(host: HostSnapshot, net: netlab.Net) -> None:
    found = of(host, net, "r").sysctls
    assert (found["ipv4.ip_forward"], found["ipv4.conf.ra.rp_filter"], found["ipv4.conf.rs.proxy_arp"]) == (
        "1",
        "2",
        "1",
    )


@pytest.mark.parametrize("name", ["a", "r"])
def test_features(net: netlab.Net, host: HostSnapshot, name: str) -> None:
    words = {
        "tso": "tcp-segmentation-offload",
        "gso": "generic-segmentation-offload",
        "gro": "generic-receive-offload",
        "lro": "large-receive-offload",
        "tx-checksum": "tx-checksumming",
        "rx-checksum": "rx-checksumming",
        "tx-udp_tnl-segmentation": "tx-udp_tnl-segmentation",
    }
    for link in of(host, net, name).links:
        text = net.inside(name, "ethtool", "-k", link.name)
        theirs = {line.split(":")[0].strip(): line.split()[1] == "on" for line in text.splitlines()[1:] if ": " in line}
        assert link.features is not None
        assert {w: link.features[w] for w in words} == {w: theirs[t] for w, t in words.items()}, link.name


def test_old_kernels_are_asked_by_ioctl(net: netlab.Net) -> None:
    """The two ways of reading features agree."""
    from pathfit.observe import features

    net.inside("s", "ethtool", "-K", "e0", "tso", "off", "gro", "off")
    with place(net("s")) as handle, netns.inside(handle.fd):
        by_netlink = features.Features().read()
        by_ioctl = features._by_ioctl()
    assert by_ioctl.keys() == by_netlink.keys()
    for index, words in by_ioctl.items():
        assert words == {w: by_netlink[index][w] for w in words}
    assert any(not words["tso"] for words in by_ioctl.values())


def test_light_read_is_a_part_of_the_full_one(net: netlab.Net) -> None:
    with place(net("a")) as handle:
        light = of(kernel.read_host(handle, "source", "light"), net, "a")
        full = of(kernel.read_host(handle, "source"), net, "a")
    assert [(link.name, link.mtu, link.peer) for link in light.links] == [
        (link.name, link.mtu, link.peer) for link in full.links
    ]
    assert light.addresses == full.addresses
    assert set(light.routes) == {r for r in full.routes if r.table == 254}


def still(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: still(v) for k, v in value.items() if not k.endswith("_timer")}
    return [still(v) for v in value] if isinstance(value, list) else value


SHOWN = (
    "link show",
    "addr show",
    "-4 route show table all",
    "-6 route show table all",
    "-4 rule show",
    "-6 rule show",
)


def state(net: netlab.Net) -> list[Any]:
    """Everything a read could have changed, without the clocks of bridges that run by themselves."""
    found: list[Any] = []
    for name in ALL:
        found += [still(net.json(name, "ip", words)) for words in SHOWN]
        found.append(net.inside(name, "sh", "-c", "grep -rs . /proc/sys/net/ipv4 /proc/sys/net/ipv6 | sort"))
        found.append(net.inside(name, "nft", "list", "ruleset"))
        found.append(sorted(os.listdir("/run/netns")).count(net(name)))
    return found


def test_reading_changes_nothing(net: netlab.Net) -> None:
    with place(net("a")) as handle:
        kernel.read_host(handle, "all")  # the kernel may number peers once, as for any link dump
        before = state(net)
        kernel.read_host(handle, "all")
        kernel.read_host(handle, "all", "light")
    assert state(net) == before


def here() -> str:
    st = os.stat(netns.OWN)
    return f"{st.st_dev}:{st.st_ino}"


def test_it_comes_home_whatever_happens(net: netlab.Net, monkeypatch: pytest.MonkeyPatch) -> None:
    home = here()

    def explode(*_: object) -> None:
        assert here() != home or explode.calls == 0  # type: ignore[attr-defined]
        explode.calls += 1  # type: ignore[attr-defined]
        if here() != home:
            raise RuntimeError("in the middle")

    explode.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(kernel, "read", explode)
    with place(net("a")) as handle, pytest.raises(RuntimeError, match="in the middle"):
        kernel.read_host(handle, "all")
    assert here() == home


def test_no_file_stays_open(net: netlab.Net) -> None:
    with place(net("a")) as handle:
        kernel.read_host(handle, "all")
        before = sorted(os.listdir("/proc/self/fd"))
        kernel.read_host(handle, "all")
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_namespace_that_goes_meanwhile_is_no_error(net: netlab.Net, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathfit.observe import discover

    found = discover.census()
    gone = discover.Found("4:1", "/run/netns/never-was", ("netns:never-was",), ())
    monkeypatch.setattr(discover, "census", lambda source: found._replace(found=(*found.found, gone)))
    host = kernel.read_host(None, "all", "light")
    assert [m.code for m in host.missing if "never-was" in m.what] == ["vanished"]
    assert len(host.namespaces) >= 4


@pytest.mark.parametrize("scope", ["all", "source"])
def test_our_own_namespace_is_read_from_another_ones_door(net: netlab.Net, scope: str) -> None:
    """/proc/thread-self/ns/net names wherever this thread stands: it must be opened before wandering off."""
    found = places.locate(f"netns:{net('a')}")
    assert not isinstance(found, Missing)
    with found[0] as handle:
        host = kernel.read_host(handle, scope)
    with netns.own() as own:
        mine = next((n for n in host.namespaces if n.id == own.id), None)
    assert mine is not None
    assert "host" in (mine.where, *mine.names)
    assert not [m for m in host.missing if m.code == "vanished" and "host" in m.what]


def test_ipsec_policies(net: netlab.Net) -> None:
    """What `ip xfrm policy` made is read as it was meant; a kernel without IPsec says nothing."""
    from pathfit.core.snapshot import XfrmPolicy, XfrmTemplate
    from pathfit.observe import apart

    with place(net("s")) as handle:
        with netns.inside(handle.fd):
            there = apart.has_ipsec()
        assert there == bool(net.inside("s", "sh", "-c", "awk '$2 == 6 && $3 == 0' /proc/net/netlink").strip())
        if not there:
            assert of(kernel.read_host(handle, "source"), net, "s").xfrm_policies == ()
            return
        words = "src 10.0.0.0/24 dst 10.1.0.0/16 proto tcp dport 80 dir out priority 7"
        template = "tmpl src 198.18.0.1 dst 198.18.0.2 proto esp reqid 5 mode tunnel"
        net.ip("s", f"xfrm policy add {words} {template}")
        try:
            found = of(kernel.read_host(handle, "source"), net, "s")
            surveyed = of(kernel.read_host(None, "all", "survey"), net, "s")
        finally:
            net.ip("s", "xfrm policy flush")
    wrap = XfrmTemplate(src="198.18.0.1", dst="198.18.0.2", reqid=5)
    assert found.xfrm_policies == (
        XfrmPolicy(
            family=4, direction="out", src="10.0.0.0", src_prefix=24, dst="10.1.0.0", dst_prefix=16, proto=6, dport=80,
            priority=7, templates=(wrap,),
        ),
    )  # fmt: skip
    assert not surveyed.plain
