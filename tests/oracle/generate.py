"""A random network from a seed: what is in it, what is asked, which mechanism it was made for. Pure.

A lab is a :class:`~oracle.chain.Chain` of one to five IP hosts. The mechanism that the seed stands for adds the stretch
that should decide one of the directions; often a second one follows, which may win instead; every other stretch has
room. Then routes in one of several styles, each with the decoys that fit it, and things that have nothing to do with
the flow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from oracle.chain import TUNNEL, Chain, ip
from oracle.noise import noise
from oracle.routes import routes

MECHANISMS = (
    "told", "too-big lost", "port + 4", "veth half", "vxlan inner", "vxlan outer", "half clamp", "filter", "rp_filter",
    "fragment", "asymmetric route", "nat", "gso",
)  # fmt: skip


@dataclass(frozen=True)
class Lab:
    """``a`` asks ``to`` (an address), which lives in ``b`` as ``at``; ``home``: an address of ``a``.

    ``main``: the mechanism it was made for; ``inside``: all that were put in. ``warm``: the snapshot is read after a
    first exchange. ``learn``: ``a`` first gets a "too big", and then ``later`` lines of `ip` (namespace, line) are run.
    """

    seed: int
    text: str
    family: int
    a: str
    b: str
    to: str
    at: str
    home: str
    sport: int
    dport: int
    main: str
    inside: tuple[str, ...]
    top: int
    offload: bool = False
    warm: bool = False
    later: tuple[tuple[str, str], ...] = ()


VXLAN = 4789  # the port of its tunnels


class Making:
    """A lab while recipes work on it."""

    def __init__(self, rng: Random, family: int) -> None:
        self.rng = rng
        self.c = Chain(rng, family)
        self.inside: list[str] = []
        self.dport, self.sport = rng.randrange(1024, 30000), rng.randrange(32768, 60000)
        if VXLAN - 101 <= self.dport <= VXLAN:  # ports behind it are those of others (noise), and no tunnel's
            self.dport += 200
        self.route_mtu: dict[str, str] = {}  # node -> words behind its routes to the right
        self.style: dict[str, str] = {}  # node -> the style of its routes, where it is not left to chance
        self.translators: list[tuple[int, str]] = []  # index of node, kind of NAT
        self.drawn = ""  # dnat chooses among several, of which one is as good as certain: how that is written
        self.side: tuple[int, str] | None = None  # index of the doubled stretch, who uses the other one
        self.side_router = False
        self.later: list[tuple[str, str]] = []
        self.deferred: list[Callable[[Making], None]] = []
        c = self.c
        c.top = rng.choice((1500, 1500, 1500, 1500, rng.randint(1400, 2000), 9000, rng.randint(2000, 9000)))

    def ptb(self) -> str:
        """The nft match of a "too big"."""
        if self.c.family == 6:
            return "icmpv6 type packet-too-big"
        return "icmp type destination-unreachable icmp code frag-needed"

    def nft(self, node: str, family: str, hook: str, priority: int, rules: list[str], kind: str = "filter") -> None:
        """A table with one chain of these rules."""
        name = f"{self.rng.choice(('corp', 'fw', 'site', 'kube', 'mangle'))}{len(self.c.lines)}"
        head = f"{node} nft add table {family} {name}"
        chain = f"{node} nft add chain {family} {name} c {{ type {kind} hook {hook} priority {priority}; }}"
        self.c.add(head, chain, *(f"{node} nft add rule {family} {name} c {r}" for r in rules))

    # -- stretches with room -------------------------------------------------------------------------------------

    def roomy(self) -> None:
        """A stretch that carries everything."""
        c, r = self.c, self.rng
        top = c.top + r.choice((0, 0, r.randint(0, 500)))
        kind = r.choice(("cable", "cable", "switch", "bridge", "bridge", "routed", "overlay"))
        if kind == "switch" and c.room("", 2):
            c.switch((top, top), (top, top), top)
        elif kind == "bridge":
            c.host_bridge(top, top, top, at_left=r.random() < 0.5)
        elif kind in ("routed", "overlay") and not c.offload and c.room("", 4):
            tunnel(self, kind, c.top, c.top + 100, r.random() < 0.3)
        else:
            c.cable(top, top)

    def head(self) -> None:
        """What follows shall leave a router."""
        if len(self.c.nodes) == 1:
            self.roomy()

    def tail(self) -> None:
        if self.rng.random() < 0.4 and self.c.room("", 2):
            self.roomy()


def tunnel(m: Making, kind: str, mtu: int, under: int, router: bool, low: int = 0) -> None:
    """A tunnel of either sort; ``low``: MTU of the underlay's far half."""
    c, r = m.c, m.rng
    outer = r.choice((4, 4, 6))
    options = ["dev"] if mtu <= under - TUNNEL[outer] and r.random() < 0.5 else []
    options += r.choice(([], [], ["df=set"], ["df=inherit"]))
    far = low or under
    if outer == 6:
        under, far = max(under, 1280), max(far, 1280)
    words, half = " ".join(options), (under, far)
    if r.random() < 0.5:
        half = half[::-1]
    if not router and r.random() < 0.7:
        half = (min(half), min(half))
    if "dev" in options and not router and mtu > min(half) - TUNNEL[outer]:
        words = words.replace("dev", "").strip()
    if kind == "routed":
        c.routed_tunnel(half, mtu, router=router, options=words, outer=outer)
    else:
        c.overlay((c.top, c.top), (c.top, c.top), half, mtu, router=router, options=words, outer=outer)


# -- recipes -----------------------------------------------------------------------------------------------------------


def told(m: Making) -> None:
    c, r = m.c, m.rng
    m.head()
    low = c.lower(c.top)
    how = r.choice(("both", "both", "near", "route", "learned", "learned"))
    if how == "route":
        c.cable(c.top, c.top)
        m.route_mtu[c.nodes[-2]] = f"mtu {'lock ' if r.random() < 0.3 else ''}{low}"
    elif how == "learned" and not c.offload and len(m.inside) == 1:
        s = c.cable(low, c.top)
        m.later.append((s.left.node, f"link set {s.left.device} mtu {c.top}"))
    else:
        c.cable(low, low if how == "both" else c.top)
    m.tail()


def lost(m: Making) -> None:
    c, r = m.c, m.rng
    m.head()
    low = c.lower(c.top)
    c.cable(low, c.top if r.random() < 0.3 else low)
    teller = c.nodes[-2]
    places = ["input", "output", "rule"] + (["forward", "raw"] if len(c.nodes) > 3 else [])
    place = r.choice(places)
    if place == "rule":
        home = ip(c.stretches[0].left.address)
        c.add(f"{teller} rule {'6 ' if c.family == 6 else ''}40 iif lo to {home} blackhole")
    elif place == "output":
        m.nft(teller, "inet", "output", r.choice((-150, 0, 10)), [f"{m.ptb()} counter drop"])
    elif place == "input":
        icmp_filter(m, "a", "INPUT", "input")
    else:
        between = r.choice(c.nodes[1:-2])
        icmp_filter(m, between, "FORWARD", "forward" if place == "forward" else "prerouting")
    m.tail()


def icmp_filter(m: Making, node: str, chain: str, hook: str) -> None:
    """Drops "too big", or all ICMP, by one of the tools."""
    c, r = m.c, m.rng
    tool = r.choice(("nft", "nft", "iptables", "iptables-legacy"))
    if tool == "nft" or hook == "prerouting":
        what = r.choice((m.ptb(), m.ptb(), "meta l4proto icmp" if c.family == 4 else m.ptb()))
        m.nft(
            node,
            r.choice(("inet", "ip6" if c.family == 6 else "ip")),
            hook,
            r.choice((-300, -150, 0)),
            [f"{what} drop"],
        )
        return
    if c.family == 6:
        tool = tool.replace("iptables", "ip6tables")
        words = "-p ipv6-icmp --icmpv6-type packet-too-big"
    else:
        words = r.choice(("-p icmp --icmp-type fragmentation-needed", "-p icmp"))
    c.add(f"{node} {tool} -A {chain} {words} -j DROP")


def port(m: Making) -> None:
    c, r = m.c, m.rng
    if r.random() < 0.3:
        m.roomy()
    low = c.lower(c.top)
    if r.random() < 0.6 and c.room("", 2):
        ports = (low, c.top) if r.random() < 0.5 else (c.top, low)
        c.switch((c.top, c.top), ports, r.choice((c.top, low)), nf=r.random() < 0.25)
    else:
        c.host_bridge(c.top, low, c.top, at_left=r.random() < 0.5)
    m.tail()


def half(m: Making) -> None:
    c, r = m.c, m.rng
    if r.random() < 0.4:
        m.roomy()
    low = c.lower(c.top)
    c.cable(*((low, c.top) if r.random() < 0.5 else (c.top, low)))
    m.tail()


def inner(m: Making) -> None:
    c, r = m.c, m.rng
    if r.random() < 0.3:
        m.roomy()
    kind = r.choice(("routed", "overlay"))
    if kind == "routed" or not c.room("", 3):
        m.head()
        kind = "routed"
    tunnel(m, kind, c.lower(c.top), c.top + 100, r.random() < 0.3 and c.room("", 4))
    m.tail()


def outer(m: Making) -> None:
    c, r = m.c, m.rng
    if r.random() < 0.3:
        m.roomy()
    kind = "overlay" if r.random() < 0.6 and c.room("", 3) else "routed"
    router = r.random() < 0.5 and c.room("", 4)
    if kind == "routed":
        m.head()
    low = max(c.lower(c.top + 40) + (72 if c.family == 6 else 0), 700)
    tunnel(m, kind, c.top, c.top + 100 if router else low, router, low)
    m.tail()


def clamp(m: Making) -> None:
    c, r = m.c, m.rng
    m.head()
    m.roomy() if r.random() < 0.6 else half(m)
    size = r.randint(400 if c.family == 4 else 1000, c.floor + 20)
    node = r.choice(c.nodes[1:-1])
    m.deferred.append(lambda m: _clamped(m, node, size))


def _clamped(m: Making, node: str, size: int) -> None:
    """One direction only: by device, by port, or by what follows the route."""
    c, r = m.c, m.rng
    i = c.nodes.index(node)
    chain = [s for s in c.stretches if not s.side]
    left, right = chain[i - 1].right.device, chain[i].left.device
    match = r.choice((f"iifname {left}", f"oifname {right}", f"oifname {left}", f"iifname {right}", "dport", "sport"))
    tool = r.choice(("nft", "nft", "iptables", "iptables-legacy"))
    if tool == "nft":
        if match in ("dport", "sport"):
            match = f"tcp {match} {m.dport}"
        to = r.choice((str(size), str(size), str(size), "rt mtu"))
        m.nft(node, "inet", "forward", -150, [f"{match} tcp flags syn tcp option maxseg size set {to}"])
        return
    if c.family == 6:
        tool = tool.replace("iptables", "ip6tables")
    by_port = match in ("dport", "sport")
    devices = "" if by_port else match.replace("iifname", "-i").replace("oifname", "-o")
    ports = f"--{match} {m.dport}" if by_port else ""
    to = r.choice((f"--set-mss {size}", f"--set-mss {size}", "--clamp-mss-to-pmtu"))
    c.add(f"{node} {tool} -t mangle -A FORWARD {devices} -p tcp {ports} --tcp-flags SYN,RST SYN -j TCPMSS {to}")


def filtered(m: Making) -> None:
    c, r = m.c, m.rng
    m.head()
    m.roomy() if r.random() < 0.6 else told(m)
    node = r.choice(c.nodes)
    m.deferred.append(lambda m: _filter(m, node))


def _filter(m: Making, node: str) -> None:
    """A rule that takes the flow, its answers, its large packets, or only looks as if."""
    c, r = m.c, m.rng
    at = c.nodes.index(node)
    hooks = ["output", "input"] if at in (0, len(c.nodes) - 1) else ["forward", "prerouting", "postrouting"]
    hook = r.choice(hooks)
    proto = r.choice(("udp", "tcp", "th"))
    port = m.dport + r.choice((0, 0, 0, 0, 0, 1))
    word = "meta l4proto { tcp, udp } th" if proto == "th" else proto
    tool = r.choice(("nft", "nft", "stateful", "length", "ip", "iptables", "iptables-legacy"))
    if tool == "nft":
        side = r.choice(("dport", "dport", "sport"))
        verdict = r.choice(("drop", "reject") if hook in ("forward", "input", "output") else ("drop",))
        m.nft(node, "inet", hook, r.choice((-200, -150, 0, 10)), [f"{word} {side} {port} counter {verdict}"])
    elif tool == "stateful":
        m.nft(node, "inet", hook, 0, ["ct state established,related accept", f"udp dport {port} accept",
              "ip protocol icmp accept", "meta l4proto icmpv6 accept", "drop"])  # fmt: skip
    elif tool == "length":
        size = r.randint(c.floor, c.top)
        m.nft(node, "inet", hook, 0, [f"meta length > {size} drop"])
    elif tool == "ip":
        family, mine = ("ip6", "ip6 ") if c.family == 6 else ("ip", "ip ")
        who = r.choice(("saddr", "daddr"))
        address = r.choice((ip(c.stretches[0].left.address), ip(last(c).right.address)))
        m.nft(node, family, hook, 0, [f"{mine}{who} {address} udp dport {port} drop"])
    else:
        if c.family == 6:
            tool = tool.replace("iptables", "ip6tables")
        chain, table = hook.upper(), "filter" if hook in ("forward", "input", "output") else "mangle"
        proto = "udp" if proto == "th" else proto
        c.add(
            f"{node} {tool} -t {table} -A {chain} -p {proto} --{r.choice(('dport', 'dport', 'sport'))} {port} -j DROP"
        )


def reverse_path(m: Making) -> None:
    asymmetric(m)
    c, r = m.c, m.rng
    mode = 1 if r.random() < 0.9 else 2
    where = r.choice(("all", "each"))
    assert m.side is not None
    doubled = c.stretches[m.side[0]]
    node = (doubled.left if (m.side[1] == "back") is (r.random() < 0.95) else doubled.right).node
    devices = [e.device for s in c.stretches for e in (s.left, s.right) if e.node == node]
    for name in ["all"] if where == "all" else devices:
        c.add(f"{node} sysctl ipv4.conf.{name}.rp_filter={mode}")


def fragment(m: Making) -> None:
    c, r = m.c, m.rng
    if c.family == 6 or r.random() < 0.3:
        outer(m)
    else:
        m.head()
        low = c.lower(c.top)
        c.cable(low, low)
        m.tail()
    if r.random() < 0.3:
        node = r.choice(c.nodes[1:])
        m.deferred.append(lambda m: _no_fragments(m, node))


def _no_fragments(m: Making, node: str) -> None:
    c = m.c
    chain = [s for s in c.stretches if not s.side]
    device = chain[c.nodes.index(node) - 1].right.device
    name = f"{node} nft add"
    c.add(
        f"{name} table netdev fd",
        f"{name} chain netdev fd i {{ type filter hook ingress device {device} priority 0; }}",
        f"{name} rule netdev fd i ip frag-off & 0x3fff != 0 drop",
    )


def asymmetric(m: Making) -> None:
    """Two ways between neighbours, with different limits; answers (or requests) use the second."""
    c, r = m.c, m.rng
    if r.random() < 0.5:
        m.roomy()
    index = len(c.nodes) - 1
    low = c.lower(c.top)
    c.cable(*r.choice(((c.top, c.top), (c.top, c.top), (low, low))))
    m.side = (index, r.choice(("back", "back", "forth")))
    m.side_router = r.random() < 0.5 and c.room("", 1)
    side = r.choice(((low, low), (low, c.top), (c.top, low)))
    c.beside(c.stretches[index], side, router=m.side_router)
    m.tail()


def nat(m: Making) -> None:
    c, r = m.c, m.rng
    m.head()
    index = len(c.nodes) - 1
    what = r.choice((told, half, port, m.roomy, low_left, beyond, beyond))
    if what is low_left:
        low_left(m)
    elif what == m.roomy:
        m.roomy()
    else:
        what(m)
    if len(c.nodes) - 1 > index:
        m.translators.append((index, r.choice(("masquerade", "masquerade", "snat", "dnat", "both"))))


def beyond(m: Making) -> None:
    """The limit lies behind the translator: what is said about it must be translated back."""
    m.c.cable(m.c.top, m.c.top)
    told(m)


def low_left(m: Making) -> None:
    """The limit lies on the inner side: what comes back is too big behind the translator."""
    low = m.c.lower(m.c.top)
    m.c.cable(m.c.top, low) if m.rng.random() < 0.3 else m.roomy()


def gso(m: Making) -> None:
    m.c.offload = True
    m.rng.choice((port, half))(m)


RECIPES: dict[str, Callable[[Making], None]] = dict(
    zip(
        MECHANISMS,
        (told, lost, port, half, inner, outer, clamp, filtered, reverse_path, fragment, asymmetric, nat, gso),
        strict=True,
    )
)
SECOND = (
    "told",
    "too-big lost",
    "filter",
    "port + 4",
    "veth half",
    "vxlan inner",
    "vxlan outer",
    "half clamp",
    "filter",
    "nat",
)


def last(c: Chain) -> "object":
    return [s for s in c.stretches if not s.side][-1]


def generate(seed: int) -> Lab:
    """The lab of a seed. ``seed`` % 13 is the mechanism it is made for."""
    main = MECHANISMS[seed % len(MECHANISMS)]
    rng = Random(seed)
    only_four = main in ("rp_filter",) or (main == "fragment" and rng.random() < 0.7)
    m = Making(rng, 4 if only_four or rng.random() < 0.62 else 6)
    m.inside.append(main)
    RECIPES[main](m)
    if rng.random() < 0.4 and m.c.room("", 4) and not m.later:
        second = rng.choice(SECOND)
        if second != main and not (m.c.offload and "vxlan" in second):
            m.inside.append(second)
            RECIPES[second](m)
    for later in m.deferred:
        later(m)
    return _finished(m, seed, main)


def _finished(m: Making, seed: int, main: str) -> Lab:
    c, r = m.c, m.rng
    to = routes(m)
    noise(m)
    text = "\n".join(c.lines) + "\n"
    return Lab(
        seed=seed, text=text, family=c.family, a="a", b=c.nodes[-1], to=to, at=ip(last(c).right.address),
        home=ip(c.stretches[0].left.address), sport=m.sport, dport=m.dport, main=main, inside=tuple(m.inside),
        top=max([c.top, *(int(w) for line in c.lines for w in line.split() if w.isdigit() and 500 < int(w) < 20000
                          and " -- " in line)]) + 64,
        offload=c.offload, warm=r.random() < 0.5, later=tuple(m.later),
    )  # fmt: skip
