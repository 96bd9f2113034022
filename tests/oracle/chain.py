"""A chain of IP hosts from ``a`` to ``b`` with any kind of stretch between two of them, as text of topo.py. Pure."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

TUNNEL = {4: 50, 6: 70}  # VXLAN over IPv4 and IPv6: what the stretches made here leave room for
MAX_SPACES = 8


@dataclass
class End:
    """One end of a stretch: the host, the device it has there, and its address."""

    node: str
    device: str = ""
    address: str = ""


@dataclass
class Stretch:
    """What lies between two neighbouring hosts of the chain. ``net``: its network; ``points``: every device that a
    packet passes on it, as (namespace, device), from left to right."""

    left: End
    right: End
    net: str
    kind: str
    side: bool = False  # beside another stretch: the way back of an asymmetric pair
    points: list[tuple[str, str]] = field(default_factory=list)

    def of(self, node: str) -> End:
        return self.left if self.left.node == node else self.right

    def other(self, node: str) -> End:
        return self.right if self.left.node == node else self.left


@dataclass
class Chain:
    """The lab while it is being made. ``lines``: text; ``nodes``: IP hosts in order; ``spaces``: all namespaces."""

    rng: Random
    family: int
    lines: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=lambda: ["a"])
    stretches: list[Stretch] = field(default_factory=list)
    spaces: list[str] = field(default_factory=lambda: ["a"])
    nets: int = 0
    devices: int = 0
    top: int = 1500
    offload: bool = False
    outside: int = 0
    most: int = MAX_SPACES

    @property
    def floor(self) -> int:
        """The smallest MTU that may be used (IPv6 is switched off below 1280)."""
        return 1280 if self.family == 6 else 600

    def add(self, *lines: str) -> None:
        self.lines += lines

    def device(self) -> str:
        self.devices += 1
        return f"{self.rng.choice(('eth', 'ens', 'vif', 'p', 'enp0s', 'lan-'))}{self.devices}"

    def space(self, name: str) -> str:
        self.spaces.append(name)
        return name

    def network(self, family: int) -> Iterator[str]:
        """An own network, then its addresses with prefix."""
        self.nets += 1
        r = self.rng
        if family == 4:
            net = ipaddress.ip_network(
                f"10.{16 + self.nets}.{r.randrange(256)}.{r.randrange(4) * 64}/{r.randint(26, 29)}"
            )
        else:
            net = ipaddress.ip_network(f"fd07:{self.nets:x}:{r.randrange(1, 65536):x}::/{r.choice((64, 80, 112, 124))}")
        yield str(net)
        for host in r.sample(range(1, 5), 4):
            yield f"{net.network_address + host}/{net.prefixlen}"

    def lower(self, most: int) -> int:
        """An MTU clearly below ``most``."""
        return self.rng.randint(self.floor, max(self.floor, most - 20))

    def room(self, name: str, count: int) -> bool:
        return len(self.spaces) + count <= self.most

    # -- stretches -----------------------------------------------------------------------------------------------

    def _next(self, right: str | None, kind: str) -> Stretch:
        """A new stretch from the last host to a new one (or, beside, between two that are there)."""
        net = self.network(self.family)
        where = next(net)
        node = right or self.space(f"r{len(self.nodes)}")
        s = Stretch(End(self.nodes[-1], "", next(net)), End(node, "", next(net)), where, kind)
        self.stretches.append(s)
        self.nodes.append(node)
        return s

    def cable(self, left: int, right: int, s: Stretch | None = None) -> Stretch:
        """Two veth halves."""
        s = s or self._next(None, "cable")
        for e in (s.left, s.right):
            e.device = self.device()
        x, y = s.left, s.right
        self.add(f"{x.node} {x.device} {left} {x.address} -- {y.node} {y.device} {right} {y.address}")
        s.points += [(x.node, x.device), (y.node, y.device)]
        return s

    def switch(self, ends: tuple[int, int], ports: tuple[int, int], bridge: int, *, nf: bool = False) -> Stretch:
        """A bridge in a namespace of its own."""
        s = self._next(None, "switch")
        w = self.space(f"w{len(self.nodes)}")
        self.add(f"{w} br0 bridge {bridge}")
        for e, mtu, port in zip((s.left, s.right), ends, ports, strict=True):
            e.device = self.device()
            other = self.device()
            self.add(f"{e.node} {e.device} {mtu} {e.address} -- {w} {other} {port} @br0")
            s.points += [(e.node, e.device), (w, other)] if e is s.left else [(w, other), (e.node, e.device)]
        if nf:
            self.add(f"{w} bridge-nf")
        return s

    def host_bridge(self, end: int, port: int, bridge: int, *, at_left: bool = False) -> Stretch:
        """As engines build it: the bridge is the host's own device, the other end is its port."""
        s = self._next(None, "host-bridge")
        host, guest = (s.left, s.right) if at_left else (s.right, s.left)
        guest.device, host.device = self.device(), f"br-{len(self.nodes)}"
        held = self.device()
        self.add(f"{host.node} {host.device} bridge {bridge} {host.address}")
        self.add(f"{guest.node} {guest.device} {end} {guest.address} -- {host.node} {held} {port} @{host.device}")
        points = [(guest.node, guest.device), (host.node, held), (host.node, host.device)]
        s.points += points[::-1] if at_left else points
        return s

    def _under(self, s: Stretch, x: str, y: str, mtus: tuple[int, int], router: bool, outer: int) -> tuple[End, End]:
        """The network below a tunnel: a cable, or two with a router between. Its devices are points of ``s``."""
        if not router:
            net = self.network(outer)
            next(net)
            only = self.cable(*mtus, s=Stretch(End(x, "", next(net)), End(y, "", next(net)), "", ""))
            s.points += only.points
            return only.left, only.right
        u = self.space(f"u{len(self.nodes)}")
        halves = []
        for node, mtu in ((x, mtus[0]), (y, mtus[1])):
            net = self.network(outer)
            where = next(net)
            half = self.cable(mtu, mtu, s=Stretch(End(node, "", next(net)), End(u, "", next(net)), where, ""))
            halves.append(half)
        one, two = halves
        s.points += [*one.points, *two.points[::-1]]
        self.add(f"{x} route {two.net} via {ip(one.right.address)}", f"{y} route {one.net} via {ip(two.right.address)}")
        self.add(f"{u} forward")
        return one.left, two.left

    def _vxlan(self, ends: tuple[End, End], mtu: int, options: str, more: tuple[str, str]) -> None:
        vni = self.rng.randint(1, 1 << 20)
        for here, there, what in zip(ends, ends[::-1], more, strict=True):
            dev = f" dev={here.device}" if "dev" in options.split() else ""
            rest = " ".join(x for x in options.split() if x != "dev")
            self.add(
                f"{here.node} vx{len(self.nodes)} vxlan {mtu} id={vni} local={ip(here.address)} "
                f"remote={ip(there.address)}{dev} {rest} {what}"
            )

    def routed_tunnel(self, under: tuple[int, int], mtu: int, *, router: bool, options: str, outer: int) -> Stretch:
        """VXLAN devices that have the addresses themselves."""
        s = self._next(None, "routed")
        ends = self._under(s, s.left.node, s.right.node, under, router, outer)
        s.left.device = s.right.device = f"vx{len(self.nodes)}"
        s.points = [(s.left.node, s.left.device), *s.points, (s.right.node, s.right.device)]
        self._vxlan(ends, mtu, options, (s.left.address, s.right.address))
        return s

    def overlay(
        self, ends: tuple[int, int], ports: tuple[int, int], under: tuple[int, int], mtu: int,
        *, router: bool, options: str, outer: int,
    ) -> Stretch:  # fmt: skip
        """VXLAN devices in bridges, as engines build overlays: two hosts of their own between the ends."""
        s = self._next(None, "overlay")
        x, y = self.space(f"v{len(self.nodes)}"), self.space(f"w{len(self.nodes)}")
        tips = self._under(s, x, y, under, router, outer)
        self._vxlan(tips, mtu, options, ("@br0", "@br0"))
        s.points = [(x, f"vx{len(self.nodes)}"), *s.points, (y, f"vx{len(self.nodes)}")]
        for e, node, own, port in zip((s.left, s.right), (x, y), ends, ports, strict=True):
            e.device = self.device()
            other = self.device()
            self.add(f"{node} br0 bridge {max(self.top, mtu)}")
            self.add(f"{e.node} {e.device} {own} {e.address} -- {node} {other} {port} @br0")
            mine = [(e.node, e.device), (node, other)]
            s.points = [*mine, *s.points] if e is s.left else [*s.points, *mine[::-1]]
        return s

    def beside(self, s: Stretch, mtus: tuple[int, int], *, router: bool) -> Stretch:
        """A second way between the two ends of ``s``: a cable, or two with a router between (one stretch each)."""
        left, right = s.left.node, s.right.node
        if not router:
            net = self.network(self.family)
            where = next(net)
            other = Stretch(End(left, "", next(net)), End(right, "", next(net)), where, "cable", side=True)
            self.stretches.append(self.cable(*mtus, s=other))
            return other
        q = self.space(f"q{len(self.nodes)}")
        for node, mtu in ((left, mtus[0]), (right, mtus[1])):
            net = self.network(self.family)
            where = next(net)
            other = Stretch(End(node, "", next(net)), End(q, "", next(net)), where, "cable", side=True)
            self.stretches.append(self.cable(mtu, mtu, s=other))
        self.add(f"{q} forward")
        return other


def ip(address: str) -> str:
    return address.partition("/")[0]
