"""Scenarios: a topology with a fault, what must be true of it, and what a diagnosis must say.

The format is documented for people in ``scenarios/README.md``; the structs below are its definition. A host is a
network namespace. Everywhere a *link* is written ``host.link``; a bare host stands for its first address or next
free link. Sizes are bytes of IP packet, times are seconds unless a name says ms.
"""

from typing import Annotated, Any, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,14}$", description="a host: a-z, 0-9, -")]
Link = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,15}$", description="a link name")]
Place = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,14}(\.[a-zA-Z0-9_-]{1,15})?$")]  # host or host.link
Mtu = Annotated[int, msgspec.Meta(ge=68, le=65535)]
Mss = Annotated[int, msgspec.Meta(ge=48, le=65495)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Percent = Annotated[float, msgspec.Meta(ge=0.01, le=100)]
Millis = Annotated[float, msgspec.Meta(ge=0, le=2000)]
Line = Annotated[str, msgspec.Meta(max_length=2000)]
Family = Literal[4, 6]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all parts of a scenario: frozen, and a misspelt key is an error."""


class Ask(Part, frozen=True, kw_only=True, rename={"source": "from"}):
    """The question: ``to`` is a TARGET whose host part may name a host (or host.link) of the lab."""

    source: Place
    to: str
    family: Family | None = None
    options: tuple[str, ...] = ()  # more words for the command line of diagnose


class Host(Part, frozen=True, kw_only=True):
    """A namespace. ``forward`` default: when it has several networks. ``addresses`` are additional ones."""

    forward: bool | None = None
    sysctl: dict[str, str | int] = {}
    addresses: dict[Link, tuple[str, ...]] = {}
    resolv: tuple[str, ...] = ()  # nameservers: hosts of the lab or addresses
    names: dict[str, str] = {}  # /etc/hosts: name -> host of the lab or address


class Switch(Part, frozen=True, kw_only=True):
    """A layer-2 switch in a namespace of its own. The MTU of a port is that of its cable end: n passes n + 4."""

    mtu: Mtu | None = None


class Container(Part, frozen=True, kw_only=True, rename={"inside": "in"}):
    """A namespace whose eth0 is a veth; the other half (``mtu_host``, default ``mtu``) is a port of ``bridge``."""

    inside: Name
    bridge: Link = "docker0"
    mtu: Mtu = 1500
    mtu_host: Mtu | None = None
    offloads: bool = False
    sysctl: dict[str, str | int] = {}
    forward: bool | None = None
    resolv: tuple[str, ...] = ()
    names: dict[str, str] = {}


class Bridge(Part, frozen=True, kw_only=True):
    """A bridge in a host. ``nat``: what leaves its subnet is masqueraded, and nobody outside has a route to it.

    ``address``: default true, false when a tunnel is one of its ports. ``mtu`` default: the containers' largest.
    """

    host: Name
    name: Link
    mtu: Mtu | None = None
    address: bool | None = None
    nat: bool | None = None
    net: str | None = None
    net6: str | None = None


class Cable(Part, frozen=True, kw_only=True):
    """A veth pair between two ends (hosts, switches, or ``host.bridge``); ``mtu_b`` is the second end's.

    A veth receives at most its own MTU + 4. ``receives``/``receives_b`` (>= mtu): that end is a NIC, whose MTU
    bounds only what it sends. ``rtt``/``loss``/``carries``: two TAP devices and a forwarder instead
    (``carries`` a to b and back, ``carries_b`` b to a when different; larger packets vanish).
    """

    ends: tuple[Place, Place]
    mtu: Mtu = 1500
    mtu_b: Mtu | None = None
    receives: Mtu | None = None
    receives_b: Mtu | None = None
    offloads: bool = False
    rtt: Millis | None = None  # ms
    loss: Percent | None = None
    seed: int = 1
    carries: Mtu | None = None
    carries_b: Mtu | None = None
    net: str | None = None
    net6: str | None = None


class Tunnel(Part, frozen=True, kw_only=True):
    """A VXLAN between two hosts. ``dev``: bound to the underlay link (then the kernel bounds its MTU).

    With ``bridge`` it is a port of that bridge on both hosts, otherwise a link with addresses of its own.
    """

    ends: tuple[Name, Name]
    name: Link = "vx0"
    kind: Literal["vxlan", "geneve", "gretap", "gre", "ipip"] = "vxlan"
    id: Annotated[int, msgspec.Meta(ge=1, le=16777215)] = 77
    id_b: Annotated[int, msgspec.Meta(ge=1, le=16777215)] | None = None
    port: Port = 4789
    dev: bool = False
    df: Literal["unset", "set", "inherit"] = "unset"
    outer: Family = 4
    mtu: Mtu | None = None
    mtu_b: Mtu | None = None
    bridge: Link | None = None
    offloads: bool = False
    net: str | None = None
    net6: str | None = None


class Nat(Part, frozen=True, kw_only=True):
    """``masquerade`` what leaves by ``out``; ``dnat`` ``port`` to host ``to`` (or ``balance`` over several, per
    connection, in turn or by a hash of the flow); ``redirect`` ``port`` to a local ``to_port``."""

    host: Name
    kind: Literal["masquerade", "dnat", "redirect"] = "masquerade"
    out: Link | None = None
    port: Port | None = None
    to: Place | None = None
    to_port: Port | None = None
    balance: tuple[Place, ...] = ()
    by: Literal["turn", "flow"] = "turn"
    hook: Literal["prerouting", "output"] = "prerouting"


class Clamp(Part, frozen=True, kw_only=True, rename={"incoming": "in"}):
    """Lowers the MSS of SYNs passing ``host``: ``size`` bytes, or to the path MTU when absent. ``out``/``in``
    limit it to SYNs leaving or entering by that link (one-sided)."""

    host: Name
    size: Mss | None = None
    out: Link | None = None
    incoming: Link | None = None
    hook: Literal["forward", "output", "postrouting"] = "forward"


class Route(Part, frozen=True, kw_only=True):
    """A route. ``to``: "default", a prefix, a host, or ``host/net`` for the network of its first link."""

    host: Name
    to: str = "default"
    via: str | None = None
    dev: Link | None = None
    src: str | None = None
    mtu: Mtu | None = None
    lock: bool = False
    advmss: Mss | None = None
    kind: Literal["unicast", "blackhole", "unreachable", "prohibit"] = "unicast"
    table: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 254


class TooBigLost(Part, frozen=True, kw_only=True):
    """ "Too big" dies at ``host``: when it arrives (input), on its way out (output) or passing by (forward)."""

    host: Name
    where: Literal["input", "output", "forward"] = "input"


class At(Part, frozen=True, kw_only=True):
    """A host, and one of its links or all."""

    host: Name
    link: Link | None = None


class NoAnswer(Part, frozen=True, kw_only=True):
    """``host`` itself can send nothing towards ``to`` (it still forwards): its ICMP is never made."""

    host: Name
    to: str


class Loss(Part, frozen=True, kw_only=True):
    """Random loss of everything ``host`` forwards (or, with ``link``, of what comes in there)."""

    host: Name
    percent: Percent
    link: Link | None = None


class Lines(Part, frozen=True, kw_only=True):
    """Lines for a tool, with ``<host>``, ``<host.link>``, ``<host/net>`` replaced by addresses and prefixes."""

    host: Name
    lines: tuple[Line, ...]


class Firewall(Part, frozen=True, kw_only=True):
    """One rule: ``match`` in nft's words. ``reset``: answered with a TCP RST from here."""

    host: Name
    match: Line
    verdict: Literal["drop", "reset", "reject", "accept"] = "drop"
    table: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] = "corp"
    chain: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] = "filter"
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"] = "forward"
    priority: int = 10
    comment: Annotated[str, msgspec.Meta(pattern=r'^[^"\n]{0,120}$')] | None = None


class Sysctls(Part, frozen=True, kw_only=True):
    host: Name
    set: dict[str, str | int]


class NoRoute(Part, frozen=True, kw_only=True):
    """Takes the route to ``to`` away from ``host``."""

    host: Name
    to: str = "default"


class DeadNeighbour(Part, frozen=True, kw_only=True):
    """``host`` sends what it sends by ``to`` to a next hop that does not exist."""

    host: Name
    to: Name


class StalePmtu(Part, frozen=True, kw_only=True):
    """``host`` has learnt a path MTU of ``mtu`` towards ``to`` that no longer holds: through a real ICMP
    ("exception", 600 s) or as a route with ``mtu lock``."""

    host: Name
    to: Name
    mtu: Mtu
    how: Literal["exception", "lock"] = "exception"


class Fault(Part, frozen=True, kw_only=True):
    """Exactly one of these keys."""

    too_big_lost_at: Name | TooBigLost | None = None
    too_big_never_made: NoAnswer | None = None
    fragments_dropped_at: Name | At | None = None
    loss: Loss | None = None
    firewall: Firewall | None = None
    nft: Lines | None = None
    iptables: Lines | None = None
    iptables_legacy: Lines | None = None
    ip6tables: Lines | None = None
    ip: Lines | None = None
    sysctl: Sysctls | None = None
    forwarding_off: Name | None = None
    rp_filter: Name | None = None
    syn_cookies: Name | None = None
    mtu_probing: Name | None = None
    route: Route | None = None
    no_route: NoRoute | None = None
    link_down: Place | None = None
    dead_neighbour: DeadNeighbour | None = None
    stale_pmtu: StalePmtu | None = None


Behave = Literal[
    "answer",  # what it should
    "silent",  # accepts, never says a word
    "late",  # answers after ``after`` seconds
    "drip",  # one byte a second
    "endless-headers",
    "garbage",  # not the protocol asked for
    "alert",  # TLS: "unrecognized name", whatever was asked
    "client-cert",  # TLS: wants a certificate of the client
    "reset",  # RST right after accept
    "close",  # FIN right after accept
    "banner",  # greets, then waits
    "nxdomain",  # DNS: every name
    "refused",  # DNS: every question
]


class Service(Part, frozen=True, kw_only=True):
    """A server. ``web`` = https on 8443 and http on 8080 that answer GET /N with N bytes."""

    host: Name
    kind: Literal["web", "https", "http", "smtp", "tcp", "udp", "relay", "dns"] = "web"
    port: Port | None = None
    cert: Literal["chain", "ec", "expired"] = "chain"
    behave: Behave = "answer"
    after: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    writes: Literal[1, 2] = 1  # header and body in one write or in two
    ranges: bool = True  # honours Range
    version: Literal["1.1", "1.0"] = "1.1"
    alpn: tuple[str, ...] = ()
    records: dict[str, str] = {}  # dns: name -> host or address
    to: str | None = None  # relay: host:port; None = where the redirected connection was going
    backlog: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 128


class Sidecar(Part, frozen=True, kw_only=True):
    """A proxy inside ``host`` that ends its outgoing connections to ``ports`` and opens new ones."""

    host: Name
    ports: tuple[Port, ...] = (8443, 8080)
    listen: Port = 15001


class Truth(Part, frozen=True, kw_only=True, rename={"source": "from"}):
    """A fact about the lab, proved with curl. ``gives``: ok, hang, refused, reset, tls, unreachable, name, empty,
    fails (anything but ok), or a status. ``within`` seconds."""

    get: str
    source: Place
    gives: Annotated[
        str, msgspec.Meta(pattern=r"^(ok|hang|refused|reset|tls|unreachable|name|empty|fails|[1-5][0-9][0-9])$")
    ] = "ok"
    send: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0  # bytes of a POST body
    within: Annotated[float, msgspec.Meta(gt=0, le=60)] | None = None


Code = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}[0-9]{0,3}$")]
Range = tuple[int, int]


class Expect(Part, frozen=True, kw_only=True):
    """What the report must say (see :mod:`pathfit.lab.judge`)."""

    verdict: tuple[Literal["healthy", "degraded", "broken", "unknown"], ...] = ()
    first: tuple[Code, ...] = ()
    any: tuple[Code, ...] = ()
    none: tuple[Code, ...] = ()
    noerrors: bool = False
    fwd: Range | None = None
    rev: Range | None = None
    fix: Range | None = None
    confirmed: bool = False
    says: str | None = None
    ms: Annotated[int, msgspec.Meta(ge=1, le=120_000)] = 3000


class Scenario(Part, frozen=True, kw_only=True):
    """One lab. ``family`` 4, 6 or "both"; ``routing`` "auto" gives every host the routes it needs."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
    about: str
    ask: Ask
    expect: Expect
    article: Annotated[str, msgspec.Meta(pattern=r"^00[0-4]$")] | None = None
    family: Literal[4, 6, "both"] = 4
    routing: Literal["auto", "manual"] = "auto"
    hosts: tuple[Name, ...] | dict[Name, Host | None] = ()
    switches: tuple[Name, ...] | dict[Name, Switch | None] = ()
    containers: dict[Name, Container] = {}
    bridges: tuple[Bridge, ...] = ()
    cables: tuple[Cable, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    nat: tuple[Nat, ...] = ()
    clamps: tuple[Clamp, ...] = ()
    routes: tuple[Route, ...] = ()
    faults: tuple[Fault, ...] = ()
    services: tuple[Service, ...] = ()
    sidecars: tuple[Sidecar, ...] = ()
    sees: tuple[Name, ...] = ()
    truth: tuple[Truth, ...] = ()
    truth_after: tuple[Truth, ...] | None = None  # when asking may change something (a stale path MTU); default truth
    busy: tuple[Truth, ...] = ()  # requests under way while pathfit is asked; ``gives: hang`` is waited for
    blind: dict[str, Any] = {}

    @property
    def families(self) -> tuple[Family, ...]:
        return (4, 6) if self.family == "both" else (self.family,)

    def expected(self, *, blind: bool) -> Expect:
        """What to expect of an open or a blind run (keys under ``blind`` replace those under ``expect``)."""
        if not blind or not self.blind:
            return self.expect
        return msgspec.convert({**msgspec.to_builtins(self.expect), **self.blind}, Expect)
