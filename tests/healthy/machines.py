"""Machines that are well, of every kind we could think of, as texts (tests/unit/topo.py): each with one number that may
be changed, and what must be said then.

``{n}`` in a text is that number: ``well`` in the healthy machine, ``ill`` in its broken twin. The twin is what keeps a
rule from being silenced too far: it must speak of exactly those who are affected.
"""

from collections.abc import Callable
from typing import NamedTuple

import topo
from msgspec.structs import replace

from pathfit.core.filters import Chain, Clamp, Expr, FilterRule, Match, Nat, Opaque, Table, Verdict
from pathfit.core.snapshot import FdbEntry, HostSnapshot, Wireguard, WireguardPeer

Hosts = tuple[HostSnapshot, ...]
Make = Callable[[str], Hosts]
Said = dict[tuple[str, str], frozenset[str]]


class Kind(NamedTuple):
    """``infos``: codes that may be said of the healthy one, as an info. ``says``: (severity, code) -> names, of the
    broken twin: all errors and warnings, and infos that matter."""

    name: str
    make: Make
    well: str
    ill: str | None = None
    says: Said = {}
    infos: frozenset[str] = frozenset()


def text(body: str, *, tables: Callable[[str], dict[str, tuple[Table, ...]]] | None = None) -> Make:
    """A machine of one text."""

    def make(n: str) -> Hosts:
        return (topo.host(body.replace("{n}", n), tables=tables(n) if tables else None),)

    return make


def rule(*exprs: Expr, text: str = "") -> FilterRule:
    return FilterRule(exprs=exprs, text=text)


def chain(
    name: str,
    *rules: FilterRule,
    hook: str | None = "forward",
    policy: str = "accept",
    kind: str = "filter",
    priority: int = 0,
) -> Chain:
    return Chain(name=name, hook=hook, policy=policy, type=kind, priority=priority, rules=rules)  # type: ignore[arg-type]


def table(*chains: Chain, family: str = "inet", name: str = "t", **more: object) -> Table:
    return Table(family=family, name=name, chains=chains, **more)  # type: ignore[arg-type]


SYN = Match(field="tcpflags", values=("syn/syn,rst",))
ACCEPT, DROP = Verdict(kind="accept"), Verdict(kind="drop")
KNOWN = rule(Match(field="ctstate", values=("established", "related")), ACCEPT)
DENY_ICMP = table(chain("out", rule(Match(field="l4proto", values=("1",)), DROP, text="icmp drop"), hook="output"))
MASQUERADE = table(
    chain("post", rule(Nat(kind="masquerade")), hook="postrouting", kind="nat", priority=100), name="nat"
)


def clamp(size: str, *where: tuple[str, str]) -> Table:
    """SYNs that leave by (oifname) or come in by (iifname) a device get at most that MSS."""
    rules = [rule(SYN, Match(field=f, values=(dev,)), Clamp(size=int(size))) for f, dev in where]
    return table(chain("clamp", *rules, priority=-150), name="clamp")


ONE = """
c1 eth0 {own} 198.18.1.2/24 -- h v1 {half} @br0
c2 eth0 {own} 198.18.1.3/24 -- h v2 {half} @br0
h br0 bridge {own} 198.18.1.1/24
c1 route default via 198.18.1.1
c2 route default via 198.18.1.1
h forward
"""
UP = "h eth0 phys {up} 203.0.113.7/24\nh route default via 203.0.113.1\n"


def one(own: str = "1500", half: str = "", up: str = "1500", more: str = "") -> str:
    """Two containers on a bridge, and an uplink."""
    body = ONE.replace("{own}", own).replace("{half}", half or own)
    return body + (UP.replace("{up}", up) if up else "") + more


BOTH = frozenset({"c1", "c2"})

# --- tunnels of the host ---------------------------------------------------------------------------------------------

TUNNEL = one(more="h wg0 wireguard {n} 10.8.0.1/24\nh route 10.9.0.0/16 dev wg0\n")


def wireguard(*clamped: tuple[str, str], icmp: bool = True, size: str = "") -> Make:
    """A WireGuard device with a peer behind which 10.9.0.0/16 lies; ``{n}`` is the MSS that is left."""

    def make(n: str) -> Hosts:
        tables = [clamp(size or n, *clamped)] if clamped else []
        tables += [] if icmp else [DENY_ICMP]
        host = topo.host(TUNNEL.replace("{n}", "1420"), tables={"h": tuple(tables)})
        peer = WireguardPeer(public_key="x", endpoint="192.0.2.77", port=51820, allowed=("10.9.0.0/16",))
        spaces = tuple(
            replace(
                s,
                links=tuple(
                    replace(x, wireguard=Wireguard(peers=(peer,))) if x.kind == "wireguard" else x for x in s.links
                ),
            )
            for s in host.namespaces
        )
        return (replace(host, namespaces=spaces),)

    return make


WAYS = (("iifname", "wg0"), ("oifname", "wg0"))


def one_way_clamp(n: str) -> Hosts:
    """Clamped on ``n`` of the two ways."""
    return wireguard(*WAYS[: int(n)], size="1380")("")


def told(n: str) -> Hosts:
    """What is too large for the VPN is told ("1"), or the host's own filter takes the message away ("0")."""
    return wireguard(icmp=n == "1")("")


# --- nodes of Kubernetes ---------------------------------------------------------------------------------------------

FLANNEL = """
n eth0 phys 1500 203.0.113.7/24
n route default via 203.0.113.1
n flannel.1 vxlan {n} id=1 local=203.0.113.7 10.244.1.0/32
n cni0 bridge {n} 10.244.1.1/24
n route 10.244.2.0/24 via 10.244.2.0 dev flannel.1
n neigh flannel.1 10.244.2.0 permanent 02:aa:00:00:00:02
p1 eth0 {n} 10.244.1.2/24 -- n veth1 {n} @cni0
p2 eth0 {n} 10.244.1.3/24 -- n veth2 {n} @cni0
p1 route default via 10.244.1.1
p2 route default via 10.244.1.1
n forward
"""


def flannel(n: str) -> Hosts:
    host = topo.host(FLANNEL.replace("{n}", n))
    space = host.namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    entry = FdbEntry(link=device.index, mac="02:aa:00:00:00:02", remote="203.0.113.8", own=True, state="permanent")
    return (replace(host, namespaces=(replace(space, fdb=(entry,)), *host.namespaces[1:])),)


def flannel_summary(n: str) -> Hosts:
    """Older ones route the whole cluster to their device; a node's own part of it is the smaller route."""
    (host,) = flannel(n)
    space = host.namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    whole = replace(next(r for r in space.routes if r.dst == "10.244.2.0"), dst="10.244.0.0", prefix=16)
    whole = replace(whole, hops=(replace(whole.hops[0], via=None, link=device.index),))
    return (replace(host, namespaces=(replace(space, routes=(*space.routes, whole)), *host.namespaces[1:])),)


POOL = """
c1 eth0 1500 172.18.0.2/16 -- h v1 1500 @br0
h br0 bridge 1500 172.18.0.1/16
c1 route default via 172.18.0.1
h wg0 wireguard 1420 10.8.0.1/32
h route {n} dev wg0
h forward
""" + UP.replace("{up}", "1500")
CALICO = """
n eth0 phys 1500 203.0.113.7/24
n route default via 203.0.113.1
n vxlan.calico vxlan 1450 id=4096 local=203.0.113.7 dev=eth0 10.1.1.0/32
n route blackhole 10.1.1.0/26
n route 10.1.2.0/26 via 10.1.2.0 dev vxlan.calico
n neigh vxlan.calico 10.1.2.0 permanent 02:aa:00:00:00:02
p1 eth0 {n} 10.1.1.2/32 -- n cali1 {n}
p2 eth0 {n} 10.1.1.3/32 -- n cali2 {n}
n route 10.1.1.2 dev cali1
n route 10.1.1.3 dev cali2
n sysctl ipv4.conf.cali1.proxy_arp=1 ipv4.conf.cali2.proxy_arp=1 ipv4.conf.all.rp_filter=1
p1 route 169.254.1.1 dev eth0
p2 route 169.254.1.1 dev eth0
p1 route default via 169.254.1.1 dev eth0
p2 route default via 169.254.1.1 dev eth0
p1 neigh eth0 169.254.1.1 reachable ee:ee:ee:ee:ee:ee
p2 neigh eth0 169.254.1.1 reachable ee:ee:ee:ee:ee:ee
n forward
"""


def calico(n: str) -> Hosts:
    host = topo.host(CALICO.replace("{n}", n))
    space = host.namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    entry = FdbEntry(link=device.index, mac="02:aa:00:00:00:02", remote="203.0.113.8", own=True, state="permanent")
    links = tuple(replace(x, mac="ee:ee:ee:ee:ee:ee") if x.name.startswith("cali") else x for x in space.links)
    return (replace(host, namespaces=(replace(space, fdb=(entry,), links=links), *host.namespaces[1:])),)


CILIUM = """
n eth0 phys 1500 203.0.113.7/24
n route default via 203.0.113.1
n cilium_host dummy 1500 10.0.1.1/32
n cilium_vxlan vxlan 1500 id=0
n route 10.0.2.0/24 via 10.0.1.1 dev cilium_host mtu 1450
p1 eth0 1500 10.0.1.2/32 -- n lxc1 {n}
n route 10.0.1.2 dev lxc1
p1 route 10.0.1.1 dev eth0
p1 route default via 10.0.1.1 dev eth0 mtu 1450
n forward
"""


def cilium(n: str) -> Hosts:
    host = topo.host(CILIUM.replace("{n}", n))
    space = host.namespaces[0]
    links = tuple(replace(x, vxlan=replace(x.vxlan, collect_metadata=True)) if x.vxlan else x for x in space.links)
    return (replace(host, namespaces=(replace(space, links=links), *host.namespaces[1:])),)


# --- several hosts ---------------------------------------------------------------------------------------------------


def overlay_hosts(
    *,
    mtu: tuple[int, int, int] = (1450, 1450, 1450),
    addresses: tuple[str, str, str] = ("10.0.0.11/24", "10.0.0.12/24", "10.0.0.13/24"),
    net: str = "203.0.113",
    names: tuple[str, str, str] = ("one", "two", "three"),
    gateway: str = "",
    more: str = "",
    vni: int = 77,
    second: int = 0,
) -> Hosts:  # fmt: skip
    """Three hosts with one container each on one VXLAN. ``gateway``: every host answers for that address on its
    bridge. ``more``: an address that every container has besides its own. ``second``: added to MAC addresses."""
    made = []
    for n, (name, size, address) in enumerate(zip(names, mtu, addresses, strict=True), 1):
        others = [f"{net}.{k}" for k in (1, 2, 3) if k != n]
        body = f"""
        {name} eth0 phys 1500 {net}.{n}/24
        {name} route default via {net}.254
        {name} vx0 vxlan {size} id={vni} local={net}.{n} @br0
        {name} br0 bridge {size} {gateway}
        c{n} eth0 {size} {address} {more} -- {name} v{n} {size} @br0
        """
        host = topo.host(body, name=name)
        space, inside = host.namespaces
        device = next(x for x in space.links if x.kind == "vxlan")
        fdb = tuple(
            FdbEntry(link=device.index, mac="00:00:00:00:00:00", remote=o, own=True, state="permanent") for o in others
        )
        mine = f"02:00:00:00:{second:02x}:{n:02x}"
        links = tuple(replace(x, mac=mine) if x.name == "eth0" else x for x in inside.links)
        made.append(replace(host, namespaces=(replace(space, fdb=fdb), replace(inside, links=links))))
    return tuple(made)


def twin_address(gateway: str, more: str) -> Make:
    """``{n}``: the last byte of the third container's address."""
    return lambda n: overlay_hosts(
        addresses=("10.0.0.11/24", "10.0.0.12/24", f"10.0.0.{n}/24"), gateway=gateway, more=more
    )


def two_clusters(second: int) -> Make:
    """Two clusters that know nothing of each other, with the same number, subnet and member addresses; the MAC
    addresses of the second are made with ``second``, the overlay of its third host has the MTU ``{n}``."""
    return lambda n: (
        *overlay_hosts(),
        *overlay_hosts(net="192.0.2", names=("four", "five", "six"), mtu=(1450, 1450, int(n)), second=second),
    )


# --- the rest --------------------------------------------------------------------------------------------------------

ROUTER = """
c eth0 9000 198.18.1.2/24 -- r eth0 9000 198.18.1.1/24
r eth1 1500 198.18.2.1/24 -- q eth1 1500 198.18.2.2/24
s eth0 9000 198.18.3.2/24 -- q eth0 9000 198.18.3.1/24
c route default via 198.18.1.1
s route default via 198.18.3.1
r route default via 198.18.2.2
q route default via 198.18.2.1
r forward
q forward
"""


def router(n: str) -> Hosts:
    """A jumbo network ends at a router that says so ("1"), or whose own filter keeps it from doing so ("0")."""
    return (topo.host(ROUTER, tables={} if n == "1" else {"r": (DENY_ICMP,)}),)


FLOWTABLE = Table(
    family="inet",
    name="f",
    flowtable_devices=("eth0", "br0"),
    chains=(
        Chain(
            name="fwd",
            hook="forward",
            rules=(rule(Match(field="l4proto", values=("6", "17")), Opaque(what="flow add @f", statement=True)),),
        ),
    ),
)
LAN = Match(field="iifname", values=("br0",))


def engine(n: str) -> dict[str, tuple[Table, ...]]:
    """Docker's policy, and a chain of its own that lets the bridge ``n`` out."""
    rules = (KNOWN, rule(Match(field="iifname", values=(n,)), ACCEPT))
    chains = (Chain(name="FORWARD", hook="forward", policy="drop", rules=rules), Chain(name="DOCKER-USER"))
    return {"h": (Table(family="ip", name="filter", chains=chains, tool="iptables-nft"),)}


BRIDGE_SIZE = one().replace("h br0 bridge 1500", "h br0 bridge {n}")

KINDS = [
    Kind("custom-mtu", text(one("{n}", up="1400")), "1400", "1500", {("warning", "MTU103"): BOTH}),
    Kind("jumbo-everywhere", text(one("9000", half="{n}", up="9000")), "9000", "8000", {("error", "MTU105"): BOTH}),
    Kind(
        "jumbo-uplink-small-containers",
        text(one("1500", half="{n}", up="9000")),
        "1500",
        "1400",
        {("error", "MTU105"): BOTH},
    ),
    Kind(
        "jumbo-router-ends-at-1500",
        router,
        "1",
        "0",
        {("error", "MTU107"): frozenset({"c", "s"})},
        frozenset({"MTU103"}),
    ),
    Kind("wireguard-clamped", wireguard(*WAYS), "1380", "1400", {("warning", "MTU112"): BOTH}),
    Kind("wireguard-clamped-both-ways", one_way_clamp, "2", "1", {("warning", "MTU111"): BOTH}),
    Kind("vpn-for-some-told", told, "1", "0", {("warning", "MTU107"): BOTH}, frozenset({"MTU103"})),
    Kind("flannel-vxlan", flannel, "1450", "1500", {("warning", "MTU104"): frozenset({"p1", "p2"})}),
    Kind("calico-vxlan", calico, "1450", "1500", {("info", "MTU103"): frozenset({"p1", "p2"})}),
    Kind(
        "cilium-route-mtu",
        cilium,
        "1500",
        "1400",
        {("error", "MTU105"): frozenset({"p1"}), ("warning", "MTU103"): frozenset({"p1"})},
    ),
    Kind(
        "anycast-gateway", twin_address("10.0.0.1/24", ""), "13", "11", {("error", "OVL302"): frozenset({"c1", "c3"})}
    ),
    Kind(
        "shared-service-address",
        twin_address("", "10.0.0.200/32"),
        "13",
        "12",
        {("error", "OVL302"): frozenset({"c2", "c3"})},
    ),
    Kind("two-clusters-one-number", two_clusters(0), "1450", "1400", {("warning", "MTU117"): frozenset({"c3"})}),
    Kind("two-clusters-other-macs", two_clusters(1), "1450", "1400", {("warning", "MTU117"): frozenset({"c3"})}),
    Kind(
        "two-nics-one-subnet",
        text(one(up="1500", more="h eth1 phys {n} 203.0.113.8/24\nh sysctl ipv4.conf.all.rp_filter=1\n")),
        "1500",
    ),
    Kind(
        "policy-routing-loose",
        text(
            one(
                more="h eth1 phys 1500 198.51.100.7/24\nh rule 100 from 198.18.1.0/24 lookup 100\n"
                "h route default via 198.51.100.1 table 100\nh sysctl ipv4.conf.all.rp_filter={n}\n"
            )
        ),
        "2",
    ),
    Kind(
        "libvirt-taps",
        text(
            one(
                up="1500",
                more="h virbr0 bridge 1500 192.168.122.1/24\nh vnet0 tun {n} @virbr0\nh vnet1 tun {n} @virbr0\n",
            )
        ),
        "1500",
    ),
    Kind(
        "rootless-tap",
        text("c tap0 tun 65520 10.0.2.100/24\nc route default via 10.0.2.2\n" + UP.replace("{up}", "1500")),
        "1",
    ),
    Kind(
        "ipv6-only",
        text("""
c1 eth0 {n} 2001:db8:1::2/64 -- h v1 {n} @br0
c2 eth0 {n} 2001:db8:1::3/64 -- h v2 {n} @br0
h br0 bridge {n} 2001:db8:1::1/64
h eth0 phys 1500 2001:db8:2::7/64
h route default via 2001:db8:2::1
c1 route default via 2001:db8:1::1
c2 route default via 2001:db8:1::1
h forward
"""),
        "1500",
        "9000",
        {("warning", "MTU103"): BOTH},
    ),
    Kind(
        "air-gapped",
        text(one("1500", half="{n}", up="")),
        "1500",
        "1400",
        {("error", "MTU105"): BOTH},
        frozenset({"RTE501"}),
    ),
    Kind(
        "flowtable",
        text(one("{n}", up="1500"), tables=lambda n: {"h": (FLOWTABLE, MASQUERADE)}),
        "1500",
        "9000",
        {("warning", "MTU103"): BOTH},
    ),
    Kind(
        "engine-drops-but-accepts-its-own",
        lambda n: (topo.host(one(), tables=engine(n)),),
        "br0",
        "br7",
        {("warning", "FLT404"): BOTH},
    ),
    Kind(
        "bond-and-vlan-uplink",
        text(
            one(
                up="",
                more="""
h eth0 phys 9000
h bond0 bond 9000
h bond0.7 vlan {n} 203.0.113.7/24 dev=bond0
h route default via 203.0.113.1
""",
            )
        ),
        "1500",
        "1400",
        {("warning", "MTU103"): BOTH},
    ),
    Kind(
        "bridged-uplink",
        text("""
h eth0 phys {n} @br0
h br0 bridge {n} 203.0.113.7/24
h vnet0 tun {n} @br0
c1 eth0 1500 203.0.113.20/24 -- h v1 {n} @br0
c1 route default via 203.0.113.1
h route default via 203.0.113.1
"""),
        "1500",
        "1400",
        {("error", "MTU105"): frozenset({"c1"})},
    ),
    Kind(
        "vpn-in-a-container",
        text(
            one(
                more="c1 tun0 tun 1420 10.64.0.2/32\nc1 rule 100 from 10.64.0.2 lookup 100\n"
                "c1 route default via 10.64.0.1 dev tun0 table 100\n"
            )
        ),
        "1",
    ),
    Kind("path-mtu-remembered", text(one(more="c1 cached 198.51.100.9 {n}\n")), "1400", infos=frozenset({"MTU110"})),
    Kind(
        "storage-network-beside",
        text(one(up="1500", more="h eth1 phys 9000 198.51.100.7/24\nh route 198.51.101.0/24 via 198.51.100.1\n")),
        "1",
    ),
    Kind(
        "pppoe-clamped",
        text(
            one(up="", more="h ppp0 ppp 1492 203.0.113.7/32\nh route default dev ppp0\n"),
            tables=lambda n: {"h": (clamp(n, ("oifname", "ppp0"), ("iifname", "ppp0")), MASQUERADE)},
        ),
        "1452",
        "1460",
        {("warning", "MTU103"): BOTH, ("warning", "MTU112"): BOTH},
    ),
    Kind(
        "icmp-blocked-and-nothing-needs-it",
        text(one("1400", half="{n}", up="1400"), tables=lambda n: {"h": (DENY_ICMP,)}),
        "1400",
        "1300",
        {("error", "MTU105"): BOTH},
    ),
    Kind(
        "ipip-to-a-site",
        text(
            one(
                "{n}",
                more="h gre1 gre 1476 10.8.0.1/30 remote=192.0.2.77 local=203.0.113.7\nh route 10.9.0.0/16 dev gre1\n",
            )
        ),
        "1476",
    ),
    Kind("flannel-summary-route", flannel_summary, "1450", infos=frozenset({"RTE504"})),
    Kind(
        "engine-pool-beside-a-vpn",
        text(POOL),
        "10.0.0.0/8",
        "172.16.0.0/12",
        {("warning", "RTE504"): frozenset({"c1"})},
        frozenset({"MTU103"}),
    ),
    Kind(
        "all-cables-up",
        text(one(more="c3 eth0 1500 198.18.1.4/24 -- h v3 1500 @br0 {n}\nc3 route default via 198.18.1.1\n")),
        "",
        "off",
        {("error", "RTE503"): frozenset({"c3"})},
    ),
    Kind(
        "bridge-as-large-as-its-members",
        text(BRIDGE_SIZE),
        "1500",
        "1400",
        {("warning", "MTU103"): BOTH},
    ),
    Kind(
        "addresses-of-their-own",
        text(one(more="c3 eth0 1500 198.18.1.{n}/24 10.1.1.1/32 -- h v3 1500 @br0\nc3 route default via 198.18.1.1\n")),
        "4",
        "3",
        {("error", "OVL302"): frozenset({"c2", "c3"})},
    ),
]
