"""A network in a few lines of text: as a HostSnapshot (no kernel needed), or as `ip` commands that really build it.

One statement a line; ``#`` begins a comment. The first word is the namespace, made when it is first named.

    c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0          a cable: two veth halves (MTU, addresses, @master; off = down)
    h br0 bridge 1500 198.18.1.1/24                      another device: bridge, dummy, vxlan, phys (our view ends)
    a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 @br0     (also dev=eth0 df=set)
    c route default via 198.18.1.1 mtu 1400              also: dev, lock, advmss, metric, table, src; blackhole D
    c rule 100 from 198.18.1.0/24 lookup 100
    h forward                                            IPv4 and IPv6
    h sysctl ipv4.conf.all.rp_filter=1
    h bridge-nf                                           bridged packets pass iptables (needs br_netfilter)
    h neigh eth0 198.18.2.1 failed
    c cached 198.18.3.2 1400                             a path MTU exception (snapshot only)
    h offload eth0 on                                    TSO, GSO; everything else has them off
    h nft add rule …                                     (kernel only; snapshots get ``tables=``)
    h iptables -t nat -A …                               (also ip6tables, iptables-legacy, ip6tables-legacy; ditto)

IPv6 addresses need no duplicate address detection. Every namespace has lo, up, and the kernel's local table.
"""

import shlex
from dataclasses import dataclass, field

from pathfit.core.filters import Table
from pathfit.core.snapshot import (
    SCHEMA,
    Address,
    BridgePort,
    HostSnapshot,
    Link,
    Neighbour,
    NetnsSnapshot,
    NextHop,
    PmtuException,
    PolicyRule,
    Route,
    Vxlan,
)

OFF = {"tso": False, "gso": False, "gro": False, "lro": False, "tx-checksum": False}
ON = {"tso": True, "gso": True, "gro": False, "lro": False, "tx-checksum": True}


@dataclass
class Device:
    """A device as the text describes it."""

    ns: str
    name: str
    kind: str = "veth"
    mtu: int = 1500
    addresses: list[str] = field(default_factory=list)
    master: str = ""
    up: bool = True
    options: dict[str, str] = field(default_factory=dict)
    peer: "Device | None" = None
    index: int = 0
    offload: bool = False


@dataclass
class Topo:
    """The parsed text."""

    devices: list[Device] = field(default_factory=list)
    lines: list[tuple[str, str, list[str]]] = field(default_factory=list)  # namespace, verb, words

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([d.ns for d in self.devices] + [ns for ns, _, _ in self.lines]))

    def of(self, ns: str) -> list[Device]:
        return [d for d in self.devices if d.ns == ns]

    def device(self, ns: str, name: str) -> Device:
        return next(d for d in self.devices if (d.ns, d.name) == (ns, name))


BRIDGE_NF = ("bridge.bridge-nf-call-iptables", "bridge.bridge-nf-call-ip6tables")
FILTERS = {"nft", "iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"}
VERBS = {"bridge-nf", "route", "rule", "forward", "sysctl", "neigh", "cached", "offload", "later", *FILTERS}


def _device(words: list[str]) -> Device:
    d = Device(ns=words[0], name=words[1])
    for w in words[2:]:
        if w.isdigit():
            d.mtu = int(w)
        elif w.startswith("@"):
            d.master = w[1:]
        elif w == "off":
            d.up = False
        elif "=" in w:
            key, _, value = w.partition("=")
            d.options[key] = value
        elif "/" in w:
            d.addresses.append(w)
        else:
            d.kind = "" if w == "phys" else w
    return d


def parse(text: str) -> Topo:
    """The statements of the text."""
    t = Topo()
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if " -- " in line:
            a, b = (_device(x.split()) for x in line.split(" -- "))
            a.peer, b.peer = b, a
            t.devices += [a, b]
            continue
        words = line.split()
        if words[1] in VERBS:
            raw = line.split(None, 2)[2] if len(words) > 2 else ""
            t.lines.append((words[0], words[1], [raw] if words[1] in FILTERS else words[2:]))
        else:
            t.devices.append(_device(words))
    for ns in t.names:
        for i, d in enumerate(t.of(ns), 2):
            d.index = i
    for ns, verb, words in t.lines:
        if verb == "offload":
            t.device(ns, words[0]).offload = words[1] == "on"
    return t


# -- as a snapshot ---------------------------------------------------------------------------------------------------


def host(text: str, *, name: str = "h", tables: dict[str, tuple[Table, ...]] | None = None) -> HostSnapshot:
    """The text as one host. Namespaces are "netns:NAME" with ids "4:1", "4:2", … in the order they are named."""
    t = parse(text)
    ids = {ns: f"4:{i}" for i, ns in enumerate(t.names, 1)}
    spaces = tuple(_netns(t, ns, ids, (tables or {}).get(ns, ())) for ns in t.names)
    return HostSnapshot(schema=SCHEMA, host=name, boot_id=f"boot-{name}", namespaces=spaces)


def mac(t: Topo, d: Device) -> str:
    return f"02:00:00:00:{t.names.index(d.ns):02x}:{d.index:02x}"


def _link(t: Topo, d: Device, ids: dict[str, str]) -> Link:
    master = next((m.index for m in t.of(d.ns) if m.name == d.master), 0)
    other = d.peer.ns != d.ns if d.peer else False
    lower = next((x.index for x in t.of(d.ns) if x.name == d.options.get("dev")), 0)
    vx = None
    if d.kind == "vxlan":
        df = {"set": 1, "inherit": 2}.get(d.options.get("df", ""), 0)
        vx = Vxlan(
            vni=int(d.options["id"]),
            local=d.options.get("local"),
            remote=d.options.get("remote"),
            lower=lower,
            df=df,
        )
    info: dict[str, str | int | bool] = {}
    if d.kind not in ("veth", "vxlan", "bridge", "dummy", ""):
        info = {k: int(v) if v.isdigit() else v for k, v in d.options.items() if k != "dev"}
    return Link(
        index=d.index,
        name=d.name,
        mtu=d.mtu,
        kind=d.kind,
        mac=mac(t, d),
        up=d.up,
        carrier=d.up and (d.peer is None or d.peer.up),
        arp=d.kind not in ("gre", "ipip", "sit"),
        pointopoint=d.kind in ("wireguard", "ppp"),
        peer=d.peer.index if d.peer else lower if not vx else 0,
        peer_nsid=0 if other else None,
        peer_ns=ids[d.peer.ns] if d.peer and other else None,
        master=master,
        bridge_port=BridgePort() if master else None,
        vxlan=vx,
        info=info,
        features=ON if d.offload else OFF,
    )


def _netns(t: Topo, ns: str, ids: dict[str, str], tables: tuple[Table, ...]) -> NetnsSnapshot:
    lo = Link(index=1, name="lo", mtu=65536, loopback=True, arp=False, arphrd=772)
    links = (lo, *(_link(t, d, ids) for d in t.of(ns)))
    addresses, routes = [Address(link=1, address="127.0.0.1", prefix=8, scope=254)], []
    for d in t.of(ns):
        for text in d.addresses:
            a, _, p = text.partition("/")
            addresses.append(Address(link=d.index, address=a, prefix=int(p)))
            if d.up and int(p) != 32:  # fib_add_ifaddr(): such an address has no network
                routes.append(_connected(d, a, int(p)))
    lines = [(verb, words) for where, verb, words in t.lines if where == ns]
    routes += [_route(t, ns, words) for verb, words in lines if verb == "route"]
    sysctls: dict[str, str] = {}
    for verb, words in lines:
        if verb == "forward":
            sysctls |= {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}
        elif verb == "bridge-nf":
            sysctls |= dict.fromkeys(BRIDGE_NF, "1")
        elif verb == "sysctl":
            sysctls |= dict(w.split("=", 1) for w in words)
    return NetnsSnapshot(
        id=ids[ns],
        where=f"netns:{ns}",
        links=links,
        addresses=tuple(addresses),
        routes=tuple(routes),
        rules=_rules([w for verb, w in lines if verb == "rule"]),
        neighbours=tuple(
            Neighbour(link=t.device(ns, w[0]).index, address=w[1], state=w[2], mac=w[3] if len(w) > 3 else None)
            for verb, w in lines
            if verb == "neigh"
        ),
        exceptions=tuple(
            PmtuException(family=6 if ":" in w[0] else 4, dst=w[0], mtu=int(w[1]), locked="lock" in w)
            for verb, w in lines
            if verb == "cached"
        ),
        tables=tables,
        sysctls=sysctls,
    )


def _connected(d: Device, address: str, prefix: int) -> Route:
    import ipaddress

    net = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    family = 6 if ":" in address else 4
    return Route(
        family=family,
        table=254,
        dst=str(net.network_address),
        prefix=prefix,
        hops=(NextHop(link=d.index),),
        scope=253 if family == 4 else 0,
        prefsrc=address if family == 4 else None,
        metric=0 if family == 4 else 256,
        protocol=2,
    )


def _route(t: Topo, ns: str, words: list[str]) -> Route:
    kind, words = (words[0], words[1:]) if words[0] in ("blackhole", "unreachable", "prohibit") else ("unicast", words)
    rest = dict(zip(words[1::2], words[2::2], strict=False))
    if "lock" in words:
        rest = dict(zip(*[iter(w for w in words[1:] if w != "lock")] * 2, strict=True))
    dst, _, prefix = ("", "", "0") if words[0] == "default" else words[0].partition("/")
    via = rest.get("via")
    family = 6 if ":" in (via or dst) else 4
    link = t.device(ns, rest["dev"]).index if "dev" in rest else _towards(t, ns, via or "")
    return Route(
        family=family,
        table=int(rest.get("table", 254)),
        dst=dst,
        prefix=int(prefix) if prefix else (32 if family == 4 else 128),
        type=kind,
        hops=() if kind != "unicast" else (NextHop(link=link, via=via),),
        metric=int(rest.get("metric", 0 if family == 4 else 1024)),
        mtu=int(rest["mtu"]) if "mtu" in rest else None,
        mtu_lock="lock" in words,
        advmss=int(rest["advmss"]) if "advmss" in rest else None,
        prefsrc=rest.get("src"),
    )


def _towards(t: Topo, ns: str, via: str) -> int:
    import ipaddress

    for d in t.of(ns):
        for a in d.addresses:
            if via and ipaddress.ip_address(via) in ipaddress.ip_network(a, strict=False):
                return d.index
    return 0


def _rules(lines: list[list[str]]) -> tuple[PolicyRule, ...]:
    if not lines:
        return ()
    made = [PolicyRule(family=4, priority=0, table=255)]
    for w in lines:
        rest = dict(zip(w[1::2], w[2::2], strict=True))
        src, _, prefix = rest.get("from", "").partition("/")
        made.append(
            PolicyRule(
                family=4,
                priority=int(w[0]),
                table=int(rest["lookup"]),
                src=src,
                src_prefix=int(prefix or 32) if src else 0,
                iif=rest.get("iif"),
            )
        )
    made += [PolicyRule(family=4, priority=32766, table=254), PolicyRule(family=4, priority=32767, table=253)]
    return tuple(sorted(made, key=lambda r: r.priority))


# -- as commands -----------------------------------------------------------------------------------------------------


def commands(text: str, prefix: str) -> list[list[str]]:
    """Programs to run, in order, that build the network in namespaces ``prefix-NAME`` of this machine."""
    t = parse(text)
    ip = {ns: ["ip", "-n", f"{prefix}-{ns}"] for ns in t.names}
    out = [["ip", "netns", "add", f"{prefix}-{ns}"] for ns in t.names]
    for ns in t.names:
        out.append([*_in(prefix, ns), "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"])
        out[-1] += ["net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.default.accept_dad=0"]
        out.append([*_in(prefix, ns), "sysctl", "-eqw", *(f"net.{x}=0" for x in BRIDGE_NF)])
        out.append([*ip[ns], "link", "set", "lo", "up"])
    made: list[Device] = []
    for d in sorted(t.devices, key=lambda d: d.kind == "vxlan"):
        if d in made:
            continue
        made.append(d)
        if d.peer:
            made.append(d.peer)
            half = ["peer", "name", d.peer.name, "mtu", str(d.peer.mtu), "netns", f"{prefix}-{d.peer.ns}"]
            out.append([*ip[d.ns], "link", "add", d.name, "mtu", str(d.mtu), "type", "veth", *half])
        else:
            out.append([*ip[d.ns], "link", "add", d.name, *_made(d)])
    for d in t.devices:
        out += _set_up(d, prefix, ip[d.ns])
    for d in t.devices:
        out += [[*ip[d.ns], "addr", "add", a, "dev", d.name, *(["nodad"] if ":" in a else [])] for a in d.addresses]
    for ns, verb, words in t.lines:
        out += _line(prefix, ns, verb, words, ip[ns])
    return out


def _in(prefix: str, ns: str) -> list[str]:
    return ["ip", "netns", "exec", f"{prefix}-{ns}"]


def _made(d: Device) -> list[str]:
    if d.kind == "bridge":
        return ["type", "bridge", "forward_delay", "0"]
    words = ["mtu", str(d.mtu), "type", d.kind or "dummy"]
    for key, value in d.options.items():
        words += [key, value]
    return [*words, *(["dstport", "4789"] if d.kind == "vxlan" else [])]


def _set_up(d: Device, prefix: str, ip: list[str]) -> list[list[str]]:
    off = "on" if d.offload else "off"
    out = []
    if d.kind in ("veth", "vxlan"):
        out.append([*_in(prefix, d.ns), "ethtool", "-K", d.name, "tso", off, "gso", off, "gro", "off", "tx", off])
    if d.kind in ("bridge", "vxlan"):
        out.append([*ip, "link", "set", d.name, "mtu", str(d.mtu)])
    if d.master:
        out.append([*ip, "link", "set", d.name, "master", d.master])
    if d.up:
        out.append([*ip, "link", "set", d.name, "up"])
    return out


def _line(prefix: str, ns: str, verb: str, words: list[str], ip: list[str]) -> list[list[str]]:
    if verb == "route":
        family = ["-6"] if ":" in " ".join(words) else []
        words = [w for w in words if w != "lock"]
        return [[*ip, *family, "route", "add", *words]]
    if verb == "rule":
        return [[*ip, "rule", "add", "priority", *words]]
    if verb == "forward":
        return [[*_in(prefix, ns), "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]]
    if verb == "bridge-nf":
        return [[*_in(prefix, ns), "sysctl", "-qw", *(f"net.{x}=1" for x in BRIDGE_NF)]]
    if verb == "sysctl":
        return [[*_in(prefix, ns), "sysctl", "-qw", *(f"net.{w}" for w in words)]]
    if verb == "neigh":
        rest = ["nud", words[2]] if len(words) < 4 else ["lladdr", words[3], "nud", words[2]]
        return [[*ip, "neigh", "replace", words[1], "dev", words[0], *rest]]
    if verb == "nft":
        return [[*_in(prefix, ns), "nft", *shlex.split(words[0], posix=False)]]
    return []
