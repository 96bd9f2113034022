"""A scenario worked out: which links, addresses, routes, sysctls and filters each namespace gets. Pure.

The scenario says what is cabled to what; this module finds the networks that result (union-find over everything
joined at layer 2), numbers them, and gives every host the routes it needs. A bridge with NAT is private: as with a
container engine, nobody outside its host has a route to it.
"""

import ipaddress
from dataclasses import dataclass, field

from pathfit.lab.scenario import Cable, Host, Scenario, Switch, Tunnel

PRIVATE = {4: "172.{n}.0.0/16", 6: "fd00:{n:x}::/64"}  # behind NAT, counted from 17 as a container engine does
PUBLIC = {4: "198.18.{n}.0/24", 6: "2001:db8:{n:x}::/64"}  # RFC 2544 and RFC 3849: nobody's
SWITCH_BRIDGE = "sw0"


@dataclass(kw_only=True)
class Port:
    """One link of one namespace. ``master``: the bridge it is a port of (then it has no address)."""

    host: str
    link: str
    mtu: int
    master: str | None = None
    offloads: bool = False
    addresses: list[str] = field(default_factory=list)  # "198.18.1.2/24"
    up: bool = True

    @property
    def key(self) -> str:
        """What it is joined to at layer 2: its bridge, or itself."""
        return f"{self.host}.{self.master or self.link}"


@dataclass(kw_only=True)
class Wire:
    """Two ports and what is between them."""

    a: Port
    b: Port
    cable: Cable | None = None

    @property
    def kind(self) -> str:
        """ "veth", "nic" (an end that receives more than its MTU) or "tap" (delay, loss, silent limits)."""
        c = self.cable
        if c is None:
            return "veth"
        if any(x is not None for x in (c.rtt, c.loss, c.carries, c.carries_b)):
            return "tap"
        return "nic" if c.receives is not None or c.receives_b is not None else "veth"


@dataclass(kw_only=True)
class Pipe:
    """A tunnel with its two links; ``under`` are the outer addresses."""

    a: Port
    b: Port
    tunnel: Tunnel
    under: tuple[str, str] = ("", "")
    dev: tuple[str, str] = ("", "")


@dataclass(kw_only=True)
class BridgePlan:
    port: Port  # the bridge as a link; mtu 0: follows its ports
    nat: bool
    net: str | None = None
    net6: str | None = None


@dataclass(kw_only=True)
class RoutePlan:
    """A route as `ip route` says it. ``to`` is "default" or a prefix."""

    to: str
    family: int
    via: str | None = None
    dev: str | None = None
    src: str | None = None
    mtu: int | None = None
    lock: bool = False
    advmss: int | None = None
    kind: str = "unicast"
    table: int = 254


@dataclass(kw_only=True)
class HostPlan:
    name: str
    switch: bool = False
    container_in: str | None = None
    forward: bool | None = None
    sysctl: dict[str, str] = field(default_factory=dict)
    routes: list[RoutePlan] = field(default_factory=list)
    nft: list[str] = field(default_factory=list)
    ip: list[str] = field(default_factory=list)
    iptables: list[tuple[str, str]] = field(default_factory=list)  # (tool, line)
    rules: list[tuple[str, str]] = field(default_factory=list)  # (prefix, what): nothing of our own goes there
    resolv: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    ports: list[Port] = field(default_factory=list)  # in order; L3 ones have addresses


@dataclass(kw_only=True)
class Segment:
    """Everything joined at layer 2. ``owner``: the host whose NAT hides it."""

    members: list[Port]
    owner: str | None = None
    nets: dict[int, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Layout:
    """What the builder makes."""

    scenario: Scenario
    hosts: dict[str, HostPlan] = field(default_factory=dict)
    bridges: list[BridgePlan] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    pipes: list[Pipe] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def pairs(self) -> list[tuple[Port, Port]]:
        """Both ends of every cable and tunnel."""
        return [(x.a, x.b) for x in self.wires] + [(x.a, x.b) for x in self.pipes]

    def ports(self, host: str) -> list[Port]:
        return self.hosts[host].ports

    def address(self, place: str, family: int | None = None) -> str:
        """The address of ``host`` or ``host.link``. Raises KeyError when there is none of that family."""
        host, _, link = place.partition(".")
        for port in self.hosts[host].ports:
            if port.link == "lo" or (link and port.link != link):
                continue
            for cidr in port.addresses:
                interface = ipaddress.ip_interface(cidr)
                if family in (None, interface.version):
                    return str(interface.ip)
        raise KeyError(f"{place} has no IPv{family or self.scenario.families[0]} address")

    def network(self, place: str, family: int) -> str:
        """The prefix of the first link of ``host``, or of ``host.link``."""
        host, _, link = place.partition(".")
        for port in self.hosts[host].ports:
            if link and port.link != link:
                continue
            for cidr in port.addresses:
                if (interface := ipaddress.ip_interface(cidr)).version == family:
                    return str(interface.network)
        raise KeyError(f"{place} has no IPv{family} network")


def layout(scenario: Scenario) -> Layout:
    """Raises ScenarioError-worthy KeyError/ValueError only for things check.py cannot know."""
    plan = Layout(scenario=scenario)
    _hosts(plan)
    _bridges(plan)
    _containers(plan)
    _cables(plan)
    _tunnels(plan)
    _segments(plan)
    _number(plan)
    _underlay(plan)
    return plan


def _hosts(plan: Layout) -> None:
    s = plan.scenario
    hosts: dict[str, Host | None] = s.hosts if isinstance(s.hosts, dict) else dict.fromkeys(s.hosts)
    for name, host in hosts.items():
        host = host or Host()
        plan.hosts[name] = HostPlan(
            name=name,
            forward=host.forward,
            sysctl={k: str(v) for k, v in host.sysctl.items()},
            resolv=list(host.resolv),
            names=dict(host.names),
        )
    switches: dict[str, Switch | None] = s.switches if isinstance(s.switches, dict) else dict.fromkeys(s.switches)
    for name, switch in switches.items():
        plan.hosts[name] = HostPlan(name=name, switch=True, forward=False)
        mtu = (switch and switch.mtu) or 0
        plan.bridges.append(BridgePlan(port=Port(host=name, link=SWITCH_BRIDGE, mtu=mtu), nat=False))
    for name, c in s.containers.items():
        plan.hosts[name] = HostPlan(
            name=name,
            container_in=c.inside,
            forward=c.forward,
            sysctl={k: str(v) for k, v in c.sysctl.items()},
            resolv=list(c.resolv),
            names=dict(c.names),
        )


def _bridges(plan: Layout) -> None:
    s = plan.scenario
    tunnelled = {(h, t.bridge) for t in s.tunnels if t.bridge for h in t.ends}
    declared = {(b.host, b.name): b for b in s.bridges}
    wanted = list(declared)
    wanted += [(c.inside, c.bridge) for c in s.containers.values()] + sorted(tunnelled)
    for host, name in dict.fromkeys(wanted):
        b = declared.get((host, name))
        joined = (host, name) in tunnelled
        mtu = max((c.mtu for c in s.containers.values() if (c.inside, c.bridge) == (host, name)), default=0)
        address = b.address if b and b.address is not None else not joined
        nat = b.nat if b and b.nat is not None else address and not joined
        port = Port(host=host, link=name, mtu=(b and b.mtu) or mtu)
        plan.bridges.append(BridgePlan(port=port, nat=nat, net=b.net if b else None, net6=b.net6 if b else None))
        if address:
            plan.hosts[host].ports.append(port)


def _containers(plan: Layout) -> None:
    for name, c in plan.scenario.containers.items():
        inner = Port(host=name, link="eth0", mtu=c.mtu, offloads=c.offloads)
        outer = Port(
            host=c.inside, link=f"veth-{name}"[:15], mtu=c.mtu_host or c.mtu, master=c.bridge, offloads=c.offloads
        )
        plan.hosts[name].ports.append(inner)
        plan.wires.append(Wire(a=inner, b=outer))


def _cables(plan: Layout) -> None:
    bridges = {(b.port.host, b.port.link) for b in plan.bridges}
    count: dict[str, int] = {}
    for cable in plan.scenario.cables:
        ports = []
        for end, mtu in zip(cable.ends, (cable.mtu, cable.mtu_b or cable.mtu), strict=True):
            host, _, link = end.partition(".")
            master = SWITCH_BRIDGE if plan.hosts[host].switch else link if (host, link) in bridges else None
            if master == link or (master and not link):
                count[host] = count.get(host, 0) + 1
                link = f"p{count[host]}"
            port = Port(host=host, link=link or _free(plan, host), mtu=mtu, master=master, offloads=cable.offloads)
            if master is None:
                plan.hosts[host].ports.append(port)
            ports.append(port)
        plan.wires.append(Wire(a=ports[0], b=ports[1], cable=cable))


def _free(plan: Layout, host: str) -> str:
    taken = {p.link for p in plan.hosts[host].ports}
    taken |= {e.partition(".")[2] for c in plan.scenario.cables for e in c.ends if e.partition(".")[0] == host}
    return next(f"eth{i}" for i in range(1000) if f"eth{i}" not in taken)


def _tunnels(plan: Layout) -> None:
    for t in plan.scenario.tunnels:
        ports = []
        for host, mtu in zip(t.ends, (t.mtu, t.mtu_b or t.mtu), strict=True):
            port = Port(host=host, link=t.name, mtu=mtu or 0, master=t.bridge, offloads=t.offloads)
            if t.bridge is None:
                plan.hosts[host].ports.append(port)
            ports.append(port)
        plan.pipes.append(Pipe(a=ports[0], b=ports[1], tunnel=t))


def _segments(plan: Layout) -> None:
    """Union-find over layer 2; one segment for every set that has a member with addresses."""
    up: dict[str, str] = {}

    def find(x: str) -> str:
        while up.setdefault(x, x) != x:
            x = up[x]
        return x

    for a, b in plan.pairs():
        up[find(a.key)] = find(b.key)
    found: dict[str, Segment] = {}
    for host in plan.hosts.values():
        for port in host.ports:
            found.setdefault(find(port.key), Segment(members=[])).members.append(port)
    nets: dict[str, dict[int, str]] = {}
    asked = [(b.port.key, b.net, b.net6) for b in plan.bridges]
    asked += [(w.a.key, w.cable.net, w.cable.net6) for w in plan.wires if w.cable]
    asked += [(p.a.key, p.tunnel.net, p.tunnel.net6) for p in plan.pipes]
    for key, net, net6 in asked:
        nets.setdefault(find(key), {}).update({f: n for f, n in ((4, net), (6, net6)) if n})
    for key, segment in found.items():
        segment.nets = nets.get(key, {})
    for bridge in plan.bridges:
        if bridge.nat and (s := found.get(find(bridge.port.key))):
            s.owner = bridge.port.host
    plan.segments = list(found.values())


def _number(plan: Layout) -> None:
    """Networks in order of appearance; in each, the NATing bridge first, then the members in order."""
    private, public = 17, 1
    for segment in plan.segments:
        n = private if segment.owner else public
        private, public = (private + 1, public) if segment.owner else (private, public + 1)
        segment.members.sort(key=lambda p: p.host != segment.owner)  # stable
        for family in plan.scenario.families:
            pattern = (PRIVATE if segment.owner else PUBLIC)[family]
            net = ipaddress.ip_network(segment.nets.setdefault(family, pattern.format(n=n)))
            for i, port in enumerate(segment.members, 1):
                port.addresses.append(f"{net.network_address + i}/{net.prefixlen}")
    hosts = plan.scenario.hosts
    for name, host in hosts.items() if isinstance(hosts, dict) else ():
        for link, addresses in (host.addresses if host else {}).items():
            known = [p for p in plan.hosts[name].ports if p.link == link]
            port = known[0] if known else Port(host=name, link=link, mtu=0)
            if not known:
                plan.hosts[name].ports.append(port)
            port.addresses.extend(a if "/" in a else f"{a}/{128 if ':' in a else 32}" for a in addresses)


def _underlay(plan: Layout) -> None:
    """Outer addresses of tunnels: on a network both ends share, else their first addresses that are not behind NAT."""
    for pipe in plan.pipes:
        t = pipe.tunnel
        ends = [_under(plan, here, there, t.outer, t.name) for here, there in (t.ends, t.ends[::-1])]
        pipe.under, pipe.dev = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])


def _under(plan: Layout, here: str, there: str, family: int, tunnel: str) -> tuple[str, str]:
    ports = [p for p in plan.hosts[here].ports if p.link not in (tunnel, "lo")]
    shared = [p for s in plan.segments for p in s.members if p in ports and any(m.host == there for m in s.members)]
    hidden = {id(p) for s in plan.segments if s.owner is not None for p in s.members}  # nobody routes to these
    for port in (*shared, *sorted(ports, key=lambda p: id(p) in hidden)):
        for cidr in port.addresses:
            if (interface := ipaddress.ip_interface(cidr)).version == family:
                return str(interface.ip), port.link
    raise ValueError(f"{here} has no IPv{family} address for the tunnel {tunnel}")
