"""A random network with one fault in it, and what a trace must say of it: from the seed alone. Pure.

A chain of one to six stretches (:mod:`oracle.chain`), translated in a third of the labs, with one of :data:`FAULTS`
at a random place, or none. The recipe that puts the fault in also writes down what follows from it, by the kernel's
source: which packets of which direction are seen at which device last, at which first not any more, and why. Nothing is
asked of pathfit's model for that.
"""

import ipaddress
import re
from dataclasses import dataclass, field, replace
from random import Random

from oracle.chain import TUNNEL, ip
from oracle.generate import Making, last
from oracle.noise import noise
from oracle.routes import bits, routes

Device = tuple[str, str]  # namespace, device
FORWARD, REVERSE = "forward", "reverse"
OTHER = {FORWARD: REVERSE, REVERSE: FORWARD}
SPACES = 14
TAPS, LONGEST = 32, 10  # devices that one trace looks at; those of a stretch, at most
SYN_ALONE, SYN_ACK = (f"tcp flags & (syn | ack) == {x}" for x in ("syn", "(syn | ack)"))
SHAKES = {SYN_ALONE: "--tcp-flags SYN,ACK SYN", SYN_ACK: "--tcp-flags SYN,ACK SYN,ACK"}  # as iptables writes them
REJECTS = ("reject", "reject with tcp reset")
EPHEMERAL = 32768
SIZED, NONE, SOME, ALL = "sized", "none", "some", "all"  # what passes: small packets, nothing, most, everything


@dataclass(frozen=True)
class Place:
    """Packets of ``direction`` are seen at ``after`` (None: they never leave) and not at ``before`` (None: the end).
    ``words``: what may be said of it (model/dropped.py); ``mtu``: the one that decides; ``sure``: it must be said."""

    direction: str
    after: Device | None
    before: Device | None
    words: tuple[str, ...]
    mtu: int | None = None
    sure: bool = True


@dataclass(frozen=True)
class TraceLab:
    """``a`` asks ``to`` at ``port``, which lives in ``b``. ``later``: commands for when it is built (namespace, words).
    ``passes``: what of the faulty ``direction`` does, for curl to prove. ``points``: the devices on the way out."""

    seed: int
    fault: str
    text: str
    family: int
    hops: int
    b: str
    to: str
    port: int
    scheme: str
    direction: str
    passes: str
    truth: tuple[Place, ...]
    errors: tuple[Place, ...]  # where ICMP errors about these packets get lost on their way back
    points: tuple[Device, ...]
    later: tuple[tuple[str, str], ...] = ()
    counted: str = ""  # namespace whose nft rule counts what is lost by chance
    nat: str = ""
    udp: bool = False  # datagrams to a port where nothing listens
    clamped: bool = False  # TCP's segments pass, whatever the size is that the fault takes
    drawn: bool = False  # it goes to one of several, and nothing tells to which
    tunnels: int = 0
    offload: bool = False


@dataclass
class Fault:
    """One way to lose packets. ``least``: hops that it needs; ``families``: where it exists."""

    m: Making
    hops: int
    direction: str = ""
    passes: str = NONE
    truth: list[Place] = field(default_factory=list)
    errors: list[Place] = field(default_factory=list)
    later: list[tuple[str, str]] = field(default_factory=list)
    counted: str = ""
    target: str = ""
    least = 1
    families = (4, 6)

    def __post_init__(self) -> None:
        self.direction = self.direction or self.m.rng.choice((FORWARD, REVERSE))
        self.choose()

    def choose(self) -> None:
        """Where it shall be."""

    def stretch(self, index: int) -> bool:
        """Make this stretch; False: it is none of the fault's."""
        return False

    def placed(self) -> None:
        """All stretches are there; routes are not."""

    def routed(self) -> None:
        """Routes are there as well; the last word on the text."""

    # -- what recipes share ----------------------------------------------------------------------------------------

    @property
    def points(self) -> list[Device]:
        return [p for s in self.m.c.stretches for p in s.points]

    def around(self, i: int, direction: str) -> tuple[Device | None, Device | None]:
        """The devices by which a packet comes into the host ``i`` and leaves it; None where it ends or begins."""
        chain = self.m.c.stretches
        left = chain[i - 1].points[-1] if i else None
        right = chain[i].points[0] if i < len(chain) else None
        return (left, right) if direction == FORWARD else (right, left)

    def lose(self, i: int, *words: str, mtu: int | None = None) -> None:
        """The host ``i`` loses packets of the direction between the devices around it."""
        self.truth.append(Place(self.direction, *self.around(i, self.direction), words, mtu))

    def silence(self, i: int, *, made: bool = False) -> None:
        """The host ``i`` drops errors about packets of the direction; ``made``: those that it makes itself."""
        back = OTHER[self.direction]
        after, before = self.around(i, back)
        self.errors.append(Place(back, None if made else after, before, ("filtered",)))

    def at(self, end: str) -> int:
        """The index of the host that sends ("from") or takes ("to") the direction."""
        return 0 if (self.direction == FORWARD) is (end == "from") else self.hops

    def side(self, nat: str, index: int) -> bool:
        """Is the host ``index`` behind the translator (or is it), seen from ``a``?"""
        return any(index >= i for i, kind in self.m.translators if kind in nat.split())

    def source_at(self, i: int) -> str:
        """The client's address in packets that come to the host ``i``."""
        source = ip(self.m.c.stretches[0].left.address)
        for j, kind in self.m.translators:
            if j < i and kind != "dnat":
                source = ip(self.m.c.stretches[j].left.address)
        return source

    def target_at(self, i: int) -> str:
        """The server's address by which the host ``i`` routes."""
        return ip(last(self.m.c).right.address) if self.side("dnat both", i) else self.target

    def aim(self, i: int) -> str:
        """Where the host ``i`` sends packets of the direction, as a network of one address."""
        return f"{self.target_at(i) if self.direction == FORWARD else self.source_at(i)}/{bits(self.m)}"

    def route(self, i: int, words: str) -> None:
        """A route of the host ``i`` that goes before all others it has."""
        node = self.m.c.nodes[i]
        net = self.aim(i)
        if any(line.startswith(f"{node} rule ") for line in self.m.c.lines):
            table = 4000
            self.m.c.add(f"{node} rule {'6 ' if self.m.c.family == 6 else ''}2 to {net} lookup {table}")
            words += f" table {table}"
        kind, _, rest = words.partition(" ")
        kinds = ("blackhole", "prohibit", "unreachable")
        self.m.c.add(f"{node} route {kind} {net} {rest}" if kind in kinds else f"{node} route {net} {words}")

    def rule(self, i: int, hook: str, match: str, verdict: str, tool: str = "") -> None:
        """A rule of any tool in the host ``i``."""
        r, c, node = self.m.rng, self.m.c, self.m.c.nodes[i]
        tool = tool or r.choice(("nft", "nft", "iptables", "iptables-legacy"))
        port = f"{'dport' if self.direction == FORWARD else 'sport'} {self.m.dport}"
        if tool == "nft":
            words = f"tcp {port} {match}".strip()
            self.m.nft(node, "inet", hook, r.choice((-290, -150, 0, 10)), [f"{words} counter {verdict}"])
            return
        tool = tool.replace("iptables", "ip6tables") if c.family == 6 else tool
        table = "filter" if hook in ("forward", "input", "output") else "mangle"
        match = SHAKES.get(match, match)
        more = re.sub(r"meta length > (\d+)", lambda x: f"-m length --length {int(x[1]) + 1}:65535", match)
        c.add(f"{node} {tool} -t {table} -A {hook.upper()} -p tcp --{port} {more} -j {verdict.upper()}")

    def shake(self) -> str:
        """The handshake's own packet of the direction; or all packets."""
        return (SYN_ALONE if self.direction == FORWARD else SYN_ACK) if self.m.rng.random() < 0.5 else ""

    def small(self) -> int:
        """A size that small packets keep below, and large ones do not."""
        return self.m.rng.randint(700, 1150)


# -- sizes -------------------------------------------------------------------------------------------------------------


class TooBig(Fault):
    """A router's way out takes less, and what it says about that is lost."""

    least = 2

    def choose(self) -> None:
        r, m = self.m.rng, self.m
        self.passes = SIZED
        self.router = r.randrange(1, self.hops)
        self.narrow = self.router if self.direction == FORWARD else self.router - 1
        self.low = m.c.lower(m.c.top)
        ends = self.narrow in (0, self.hops - 1)  # an end with a small device asks for small segments
        self.how = "route" if ends else r.choice(("route", "cable", "cable"))

    def stretch(self, index: int) -> bool:
        if index == self.narrow and self.how == "cable":
            self.m.c.cable(self.low, self.low)
            return True
        return False

    def placed(self) -> None:
        self.lose(self.router, "too-big", mtu=self.low)
        if self.how == "cable":  # the other direction has the same limit, and is told of it
            far = self.router + (1 if self.direction == FORWARD else -1)
            other = OTHER[self.direction]
            self.truth.append(Place(other, *self.around(far, other), ("too-big",), self.low, sure=False))
        m, sender = self.m, self.at("from")
        between = range(1, self.router) if self.direction == FORWARD else range(self.router + 1, self.hops)
        where = m.rng.choice([sender, self.router, *between])
        hook = {sender: "input", self.router: "output"}.get(where, "forward")
        m.nft(m.c.nodes[where], "inet", hook, m.rng.choice((-150, 0)), [f"{m.ptb()} counter drop"])
        self.silence(where, made=where == self.router)

    def routed(self) -> None:
        if self.how == "route":
            via = self.m.c.stretches[self.narrow]
            here = via.of(self.m.c.nodes[self.router])
            gate = ip(via.other(here.node).address)
            lock = self.m.rng.choice(("", "lock "))
            way = "" if self.aim(self.router).startswith(f"{gate}/") else f"via {gate} "
            self.route(self.router, f"{way}dev {here.device} mtu {lock}{self.low}")


class Half(Fault):
    """The other half of a cable takes less than this one sends."""

    least = 2

    def choose(self) -> None:
        r, m = self.m.rng, self.m
        self.passes = SIZED
        self.low = m.c.lower(m.c.top)
        router = r.randrange(1, self.hops)  # which has the smaller half
        self.router = router
        self.narrow = router - 1 if self.direction == FORWARD else router

    def stretch(self, index: int) -> bool:
        if index != self.narrow:
            return False
        self.m.c.cable(*((self.m.c.top, self.low) if self.direction == FORWARD else (self.low, self.m.c.top)))
        return True

    def placed(self) -> None:
        points = self.m.c.stretches[self.narrow].points
        points = points if self.direction == FORWARD else points[::-1]
        self.truth.append(Place(self.direction, points[0], points[1], ("peer-too-small",), self.low))
        other = OTHER[self.direction]
        self.truth.append(Place(other, *self.around(self.router, other), ("too-big",), self.low, sure=False))


class Port(Fault):
    """A bridge's port takes less: what goes out by it, and what comes in."""

    def choose(self) -> None:
        r, m = self.m.rng, self.m
        self.passes = SIZED
        self.low = m.c.lower(m.c.top)
        self.index = r.randrange(self.hops)
        self.switch = r.random() < 0.6
        self.left = r.random() < 0.5
        host = self.index if self.left else self.index + 1
        self.passes_whole = ""
        if not self.switch and host in (0, self.hops):  # what an end sends by its own bridge passes as super-packets
            self.direction = REVERSE if host == 0 else FORWARD
            self.passes_whole = OTHER[self.direction]

    def stretch(self, index: int) -> bool:
        if index != self.index:
            return False
        c, r = self.m.c, self.m.rng
        if self.switch:
            ports = (self.low, c.top) if self.left else (c.top, self.low)
            c.switch((c.top, c.top), ports, r.choice((c.top, self.low)), nf=r.random() < 0.25)
        else:
            c.host_bridge(c.top, self.low, c.top, at_left=self.left)
        return True

    def placed(self) -> None:
        s = self.m.c.stretches[self.index]
        at = 1 if not self.switch else (1 if self.left else 2)  # the port, among the points of the stretch
        for d, points in ((FORWARD, s.points), (REVERSE, s.points[::-1])):
            here = points.index(s.points[at])
            # the far half of its cable sends into it, or the bridge sends out by it
            comes = points[here - 1][0] != points[here][0]
            word = "peer-too-small" if comes else "port-too-small"
            sure = d != self.passes_whole
            self.truth.append(Place(d, points[here - 1], points[here], (word,), self.low, sure=sure))


class Outer(Fault):
    """The network below a tunnel has no room for its headers, and "don't fragment" is set on the outer packet."""

    def choose(self) -> None:
        r, m = self.m.rng, self.m
        self.passes = SIZED
        self.kind = "overlay" if self.hops < 3 or r.random() < 0.6 else "routed"
        self.outer = r.choice((4, 4, 6))
        # the tunnel's sender must be a router: an end's own kernel learns from it
        self.index = r.randrange(self.hops) if self.kind == "overlay" else r.randrange(1, self.hops - 1)
        floor = max(m.c.floor + 80, 1280 if self.outer == 6 else 0)
        self.low = r.randint(floor, m.c.top + 20)

    def stretch(self, index: int) -> bool:
        if index != self.index:
            return False
        c = self.m.c
        under = (self.low, self.low)
        if self.kind == "overlay":
            c.overlay((c.top, c.top), (c.top, c.top), under, c.top, router=False, options="df=set", outer=self.outer)
        else:
            c.routed_tunnel(under, c.top, router=False, options="df=set", outer=self.outer)
        return True

    def placed(self) -> None:
        s, m = self.m.c.stretches[self.index], self.m
        for d, points in ((FORWARD, s.points), (REVERSE, s.points[::-1])):
            here = next(n for n, p in enumerate(points) if p[1].startswith("vx"))
            if self.kind == "overlay":  # skb_tunnel_check_pmtu(): answered in the name of the far end
                words, mtu = ("answered",), self.low - TUNNEL[self.outer]
            else:
                words, mtu = ("outer-too-big",), self.low
            learns = self.kind == "routed" and m.c.family == 6
            sure = not learns and (d == self.direction or self.kind == "routed")
            self.truth.append(Place(d, points[here], points[here + 1], words, mtu, sure=sure))
            if learns:  # what its own kernel was told counts for what it forwards (ip6_finish_output(), dst_mtu())
                come = self.around(self.index if d == FORWARD else self.index + 1, d)[0]
                low = self.low - TUNNEL[self.outer]
                self.truth.append(Place(d, come, points[here], ("too-big",), low, sure=d == self.direction))
        m.nft(m.c.nodes[self.at("from")], "inet", "input", 0, [f"{m.ptb()} counter drop"])
        self.silence(self.at("from"))


class Length(Fault):
    """A rule about length, on a router or at an end."""

    def choose(self) -> None:
        self.passes = SIZED

    def placed(self) -> None:
        self.filtered(f"meta length > {self.small()}")

    def filtered(self, match: str, places: tuple[str, ...] = ("forward", "prerouting", "postrouting")) -> None:
        r = self.m.rng
        ends = [(self.at("to"), "input")]
        between = [(i, r.choice(places)) for i in range(1, self.hops)]
        i, hook = r.choice(between + ends)
        self.rule(i, hook, match, "drop")
        self.lose(i, "filtered")


# -- everything --------------------------------------------------------------------------------------------------------


class Rule(Fault):
    """A router's rule takes all packets of the flow in one direction."""

    least = 2

    def placed(self) -> None:
        r, m = self.m.rng, self.m
        i = r.randrange(1, self.hops)
        come = self.around(i, self.direction)[0]
        if r.random() < 0.3 and come is not None:
            m.nft(m.c.nodes[i], "inet", "forward", r.choice((-150, 0)), [f"iifname {come[1]} counter drop"])
        elif r.random() < 0.3:
            self.rule(i, "forward", "", r.choice(REJECTS), "nft")
        else:
            self.rule(i, r.choice(("forward", "prerouting", "postrouting")), self.shake(), "drop")
        self.lose(i, "filtered")


class End(Fault):
    """A rule of an end itself: what comes in, or what would go out."""

    def placed(self) -> None:
        r = self.m.rng
        end = r.choice(("from", "to"))
        i = self.at(end)
        hook = "input" if end == "to" else "output"
        if r.random() < 0.3:
            self.rule(i, hook, "", r.choice(REJECTS), "nft")
        else:
            self.rule(i, hook, self.shake(), "drop")
        self.lose(i, "filtered")


class Refused(Fault):
    """A route that says no."""

    least = 2

    def routed(self) -> None:
        r = self.m.rng
        i = r.randrange(1, self.hops)
        kind = r.choice(("blackhole", "prohibit", "unreachable"))
        self.route(i, kind)
        # IPv6 says the same of a route that says no as of no route at all (ip6_pkt_discard())
        same = ("no-route",) if self.m.c.family == 6 and kind == "unreachable" else ()
        self.lose(i, "refused-by-route", *same)


class ReversePath(Fault):
    """A router that would answer by another device takes nothing in."""

    least = 3
    families = (4,)

    def choose(self) -> None:
        self.direction = FORWARD
        # not the first router: it would not even answer when the sender asks for its hardware address (arp_process())
        self.i = self.m.rng.randrange(2, self.hops)

    def routed(self) -> None:
        c, r, i = self.m.c, self.m.rng, self.i
        node = c.nodes[i]
        c.space("zz")
        c.add(f"{node} other0 1500 172.31.255.1/30 -- zz other1 1500 172.31.255.2/30")
        self.direction = REVERSE  # where its answers would go
        self.route(i, "via 172.31.255.2 dev other0")
        self.direction = FORWARD
        come = self.around(i, FORWARD)[0]
        assert come is not None
        c.add(f"{node} sysctl ipv4.conf.{r.choice(('all', come[1].replace('.', '/')))}.rp_filter=1")
        self.lose(i, "reverse-path")


class NoRoute(Fault):
    """A router that has no way to one of the ends."""

    least = 3

    def choose(self) -> None:
        r = self.m.rng
        self.i = r.randrange(2, self.hops) if self.direction == REVERSE else r.randrange(1, self.hops - 1)

    def placed(self) -> None:
        self.m.style[self.m.c.nodes[self.i]] = "nets"

    def routed(self) -> None:
        c = self.m.c
        net = ipaddress.ip_network(self.aim(self.i))
        node = c.nodes[self.i]
        c.lines[:] = [x for x in c.lines if not (x.startswith(f"{node} route ") and _covers(x, net))]
        self.lose(self.i, "no-route")


def _covers(line: str, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Does this route lead there?"""
    words = [w for w in line.split()[2:] if w not in ("blackhole", "unreachable", "prohibit")]
    if words[0] == "default":
        return True
    mine = ipaddress.ip_network(words[0])
    return mine.version == net.version and mine.supernet_of(net)  # type: ignore[arg-type]


class Neighbour(Fault):
    """A router's next hop does not exist."""

    least = 2

    def routed(self) -> None:
        c, r = self.m.c, self.m.rng
        i = r.randrange(1, self.hops)
        s = c.stretches[i if self.direction == FORWARD else i - 1]
        here = s.of(c.nodes[i])
        net = ipaddress.ip_network(s.net)
        self.route(i, f"via {net.network_address + 5} dev {here.device}")
        self.lose(i, "no-neighbour")


class HopLimit(Fault):
    """Packets leave with too few hops to go."""

    least = 2

    def placed(self) -> None:
        r, m = self.m.rng, self.m
        step = 1 if self.direction == FORWARD else -1
        ends = r.randrange(1, self.hops)  # where they end
        away = r.randint(1, ends if step == 1 else self.hops - ends)
        i = ends - step * away
        hook = "output" if i == self.at("from") else "postrouting"
        field_ = "ip6 hoplimit" if m.c.family == 6 else "ip ttl"
        self.rule(i, hook, "", f"{field_} set {away}", tool="nft")
        self.lose(ends, "ttl")


class Down(Fault):
    """The far half of a router's cable is down: its own has no carrier. (What has it loses its routes as well, so
    nothing is said of the other direction.)"""

    least = 2

    def choose(self) -> None:
        self.direction = FORWARD
        self.i = self.m.rng.randrange(1, self.hops)

    def stretch(self, index: int) -> bool:
        if index == self.i:
            self.m.c.cable(self.m.c.top, self.m.c.top)
        return index == self.i

    def placed(self) -> None:
        far = self.m.c.stretches[self.i].right
        self.later.append((far.node, f"ip link set {far.device} down"))
        self.lose(self.i, "no-neighbour", "link-down")


# -- some --------------------------------------------------------------------------------------------------------------


class Chance(Length):
    """A router loses some packets of one direction."""

    least = 2

    def choose(self) -> None:
        self.passes = SOME

    def placed(self) -> None:
        r, m = self.m.rng, self.m
        i = r.randrange(1, self.hops)
        self.rule(i, r.choice(("forward", "prerouting", "postrouting")), f"numgen random mod 100 < {r.randint(8, 25)}",
                  "drop", tool="nft")  # fmt: skip
        self.counted = m.c.nodes[i]
        self.lose(i, "filtered")


class Shaped(Fault):
    """Traffic control drops large packets: a program where they come in or go out, or a bucket that is too small."""

    def choose(self) -> None:
        self.passes = SIZED

    def placed(self) -> None:
        r = self.m.rng
        points = self.points if self.direction == FORWARD else self.points[::-1]
        crossings = [n for n in range(len(points) - 1) if points[n][0] != points[n + 1][0]]
        n = r.choice(crossings)  # out by this one, in by the next
        how = r.choice(("ingress", "egress", "bucket"))
        if how == "ingress":
            behind = points[n + 2] if n + 2 < len(points) else None
            self.truth.append(Place(self.direction, points[n + 1], behind, ("traffic-control",)))
            node, device = points[n + 1]
        else:
            word = "traffic-control" if how == "egress" else "queue-full"
            self.truth.append(Place(self.direction, points[n - 1] if n else None, points[n], (word,)))
            node, device = points[n]
        size = self.small() + 14  # with the Ethernet header
        if how == "bucket":
            self.later.append((node, f"tc qdisc add dev {device} root tbf rate 1gbit burst {size} limit 1000000"))
            return
        program = f"4,128 0 0 0,37 0 1 {size},6 0 0 2,6 0 0 0"  # longer than that: TC_ACT_SHOT, else TC_ACT_OK
        self.later.append((node, f"tc qdisc add dev {device} clsact"))
        self.later.append((node, f"tc filter add dev {device} {how} bpf bytecode '{program}' da"))


class Healthy(Fault):
    """Nothing is wrong."""

    def choose(self) -> None:
        self.passes = ALL


FAULTS: dict[str, type[Fault]] = {
    "healthy": Healthy,
    "too-big lost": TooBig,
    "veth half": Half,
    "bridge port": Port,
    "tunnel outer": Outer,
    "length": Length,
    "rule": Rule,
    "end's rule": End,
    "refused": Refused,
    "rp_filter": ReversePath,
    "no route": NoRoute,
    "neighbour": Neighbour,
    "hop limit": HopLimit,
    "link down": Down,
    "chance": Chance,
    "traffic control": Shaped,
}
HOPS = range(1, 7)
DRAWN = {"dnat": ("", "rules", "almost", "dice"), "both": ("", "rules", "almost")}  # one of several: how it is written


# What happens to datagrams as well: those of the way out, for nothing large comes back of a port that is closed.
OF_UDP = (
    "healthy", "too-big lost", "veth half", "bridge port", "tunnel outer", "refused", "rp_filter", "no route",
    "neighbour", "link down", "traffic control",
)  # fmt: skip


def for_udp(seed: int) -> bool:
    """Does the fault of this seed concern datagrams that are sent?"""
    lab = generate(seed)
    return lab.fault in OF_UDP and (lab.fault == "healthy" or lab.direction == FORWARD)


def datagrams(lab: TraceLab) -> TraceLab:
    """The same lab for UDP. Where a size is the fault and there is a router, TCP's segments are kept below it there
    (MSS): then only UDP fails. What would come back large is not sent."""
    truth = tuple(replace(p, sure=p.sure and p.direction == FORWARD) for p in lab.truth)
    routers = [x.split()[0] for x in lab.text.splitlines() if x.endswith(" forward")]
    routers = [x for x in routers if x.startswith("r")]
    if lab.passes != SIZED or not routers or lab.fault == "traffic control":  # that may take small ones, too
        return replace(lab, truth=truth, udp=True)
    size = (1280 if lab.family == 6 else 600) - 120
    clamp = f"tcp flags syn tcp option maxseg size set {size}"
    head = f"{routers[lab.seed % len(routers)]} nft add"
    lines = [
        f"{head} table inet mss", f"{head} chain inet mss c {{ type filter hook forward priority -140; }}",
        f"{head} rule inet mss c {clamp}",
    ]  # fmt: skip
    return replace(lab, truth=truth, udp=True, clamped=True, text=lab.text + "\n".join(lines) + "\n")


def generate(seed: int) -> TraceLab:
    """The lab of a seed. ``seed`` % 16 is its fault, ``seed`` // 16 % 6 + 1 how many hops it has at least."""
    name = list(FAULTS)[seed % len(FAULTS)]
    kind, rng = FAULTS[name], Random(f"trace {seed}")
    hops = max(kind.least, HOPS[seed // len(FAULTS) % len(HOPS)])
    m = Making(rng, 4 if 6 not in kind.families or rng.random() < 0.62 else 6)
    m.c.most = SPACES
    fault = kind(m, hops)
    if fault.passes != SIZED and rng.random() < 0.3:
        m.c.offload = True  # super-packets all the way; tunnels are made without
    for index in range(hops):
        if fault.stretch(index):
            continue
        # room for the fault's own stretch, and cables: a trace has so many taps
        if len(fault.points) + 2 * LONGEST + 2 * (hops - index) <= TAPS:
            m.roomy()
        else:
            m.c.cable(m.c.top, m.c.top)
    nat = rng.choice(("masquerade", "snat", "dnat", "both")) if hops > 1 and rng.random() < 0.4 else ""
    if nat:
        m.translators.append((rng.randrange(1, hops), nat))
        if nat in DRAWN:
            m.drawn = rng.choice(DRAWN[nat])
    if isinstance(fault, NoRoute | ReversePath) and _connected(fault):
        m.translators.clear()
        nat, m.drawn = "", ""
    fault.placed()
    fault.target = routes(m)
    fault.routed()
    noise(m)
    for node in (m.c.nodes[0], m.c.nodes[-1]):
        m.c.add(f"{node} sysctl ipv4.tcp_timestamps={rng.randrange(2)}")
    lines = [_fits(x, m) for x in m.c.lines if not _random_port(x)]
    return TraceLab(
        seed=seed, fault=name, text="\n".join(lines) + "\n", family=m.c.family, hops=hops, b=m.c.nodes[-1],
        to=fault.target, port=m.dport, scheme=rng.choice(("http", "https")), direction=fault.direction,
        passes=fault.passes, truth=tuple(fault.truth), errors=tuple(fault.errors),
        points=tuple(fault.points), later=tuple(fault.later),
        counted=fault.counted, nat=nat, drawn=bool(m.drawn), offload=m.c.offload,
        tunnels=sum(s.kind in ("routed", "overlay") for s in m.c.stretches),
    )  # fmt: skip


def _connected(fault: NoRoute | ReversePath) -> bool:
    """Does translation put the address that is asked about into a network of that host itself?"""
    ((j, kind),) = fault.m.translators or ((0, ""),)
    source = fault.direction == REVERSE or isinstance(fault, ReversePath)
    near = {j + 1} if source and kind != "dnat" else {j - 1} if not source and kind in ("dnat", "both") else set()
    return bool(kind) and fault.i in near


def _fits(line: str, m: Making) -> str:
    """No device of an end is larger than what all others carry: what it sends passes everywhere."""
    for end in (m.c.stretches[0].left, last(m.c).right):
        line = re.sub(rf"(^|-- )({end.node} {end.device} (?:bridge |vxlan )?)\d+", rf"\g<1>\g<2>{m.c.top}", line)
    return line


def _random_port(line: str) -> bool:
    """A rule about a port that a client may happen to have."""
    found = re.search(r"dport \{ (\d+), (\d+) \}", line)
    return found is not None and any(int(x) >= EPHEMERAL for x in found.groups())
