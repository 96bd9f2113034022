"""What the plan asks of the world: a tagged union. Every request has the id its evidence will carry."""

from typing import Literal

from pathfit.core.ask import Protocol
from pathfit.core.base import Tagged
from pathfit.core.net import Family, Point
from pathfit.core.tracing import Branch, Stop, Tap


class ReadClock(Tagged, frozen=True, kw_only=True):
    """How long the run has taken. Answer: one ClockFact, so that a replay says the same time."""

    ref: str


class ReadState(Tagged, frozen=True, kw_only=True):
    """Read namespaces of this machine. ``source`` is always read first and most carefully.

    ``scope`` "all": every namespace we can see; "source": only that of ``source`` and our own.
    ``detail`` "auto": in full what a packet from ``source`` may reach inside this host, the rest in outline where there
    are many; "full": everything in full; "survey": leaves lightly (NetnsSnapshot.plain), everything else in full.
    ``sockets``: look for TCP sockets that hang, in every namespace with a process.
    Answer: one StateFact (with ``missing`` inside the snapshot), then one SocketFact for each namespace with one.
    """

    ref: str
    source: str
    scope: Literal["all", "source"] = "all"
    detail: Literal["auto", "full", "survey"] = "auto"
    sockets: bool = False


class ReadSockets(Tagged, frozen=True, kw_only=True):
    """TCP sockets of the source's namespace, hung ones first. Answer: one SocketFact."""

    ref: str
    source: str


class ReadCounters(Tagged, frozen=True, kw_only=True):
    """SNMP and netstat counters of the source's namespace. Answer: one CounterFact."""

    ref: str
    source: str


class ReadRules(Tagged, frozen=True, kw_only=True):
    """Filter counters of all visible namespaces again, after a measurement. Answer: one StateFact, filters only."""

    ref: str
    source: str
    namespaces: tuple[str, ...] = ()  # NetnsSnapshot.id


class ReadPrograms(Tagged, frozen=True, kw_only=True):
    """At which of these devices may traffic control or a program drop packets? Answer: one ProgramFact."""

    ref: str
    taps: tuple[Tap, ...] = ()


class ResolveName(Tagged, frozen=True, kw_only=True):
    """Resolve a name as the source would (its resolv.conf, hosts file and namespace). Answer: one NameFact."""

    ref: str
    source: str
    name: str
    families: tuple[Family, ...] = (4, 6)
    timeout: float = 3.0


class Locate(Tagged, frozen=True, kw_only=True):
    """Find a WHERE: namespace, process, environment, addresses. Answer: one PlaceFact or Missing."""

    ref: str
    where: str


class Measure(Tagged, frozen=True, kw_only=True):
    """Measure one address, both ways. Answer: one ProbeResult, and the SocketFacts of ``witnesses`` if it came to that.

    ``connections_per_round`` and ``connections_total`` are the politeness limits (probing.md 12).
    ``floor``: smallest size worth asking for; ``ceiling``: largest, None = what our own SYN promises.
    """

    ref: str
    source: str
    address: str
    port: int
    protocol: Protocol
    host: str = ""  # Host header
    sni: str | None = None
    path: str = "/"
    methods: tuple[str, ...] = ("tcp-maxseg", "tcp-sack", "icmp-echo")
    connections_per_round: int = 14
    connections_total: int = 120
    parallel: int = 14
    even: int = 12  # connections at the promised size before the path is called even
    ceiling: int | None = None
    floor: int = 576
    budget: float = 3.0  # seconds, for everything under loss
    connect: float = 3.2  # seconds to wait while no SYN at all is answered
    contact_only: bool = False
    patient: float = 0.0  # seconds to keep one failing connection open, waiting for a rescue
    seed: int = 0
    proxy: str | None = None  # "host:port" of an HTTP proxy to CONNECT through
    far: str = ""  # WHERE of the target, when it is ours: packets are then seen arriving there
    witnesses: tuple[str, ...] = ()  # WHEREs whose sockets are read while nothing at all answers: one SocketFact each


class Watch(Tagged, frozen=True, kw_only=True):
    """From now on keep every packet of one flow that passes ``taps``, and what the kernel says of those it drops.

    ``hosts``: addresses of the flow in every form that NAT gives them, ``address`` that of the target; ``ports``: those
    of the asked service, in every form; ``tunnels``: UDP ports that carry VXLAN; ``ends``: addresses of the tunnels'
    ends, which fragments of theirs are known by; ``forward``, ``reverse``: the points of each direction in order;
    ``unseen``: devices of the way that no tap is for; ``targets``: the far end in every form, () for ``address`` alone;
    ``namespaces``: (NetnsSnapshot.id, WHERE) of those whose packet filters are asked; ``branches``: where NAT chooses
    among several, the whole way to each (``forward`` and ``reverse`` are what is known without that). ``patient``:
    packet filters are asked only once one of them dropped something: what asks them costs whoever sends there.
    ``cables``: taps that are the two halves of one cable, where nothing should get lost in it: each hears what comes
    in, which is what left by the other one. Answer: one WatchFact.
    """

    ref: str
    address: str
    taps: tuple[Tap, ...]
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    tunnels: tuple[int, ...] = ()
    forward: tuple[Stop, ...] = ()
    reverse: tuple[Stop, ...] = ()
    ends: tuple[str, ...] = ()
    unseen: tuple[Point, ...] = ()
    targets: tuple[str, ...] = ()
    namespaces: tuple[tuple[str, str], ...] = ()
    branches: tuple[Branch, ...] = ()
    patient: bool = False
    cables: tuple[tuple[int, int], ...] = ()


class EndWatch(Tagged, frozen=True, kw_only=True):
    """Look ``linger`` seconds longer, then no more. ``until_stopped``: Ctrl-C ends that, and what was seen is told; so
    does a watch that is full. Answer: one TraceFact.

    That is longer than what is seen last is left open for (follow/seen.py: IN_FLIGHT): all that was measured is judged.
    """

    ref: str
    linger: float = 0.08
    until_stopped: bool = False


class MeasureHops(Tagged, frozen=True, kw_only=True):
    """TTL-limited pairs, small and large, towards the target (forward direction). Answer: one HopsFact.

    ``method`` "tcp": segments beside a connection; else datagrams, as the method of Measure that found the hole.
    """

    ref: str
    source: str
    address: str
    port: int
    small: int
    large: int
    max_ttl: int = 12
    budget: float = 1.0
    method: str = "tcp"


class TryFix(Tagged, frozen=True, kw_only=True):
    """A connection as it would be after the fix (TCP_MAXSEG). Answer: one TrialFact."""

    ref: str
    source: str
    address: str
    port: int
    protocol: Protocol
    mss: int
    host: str = ""
    sni: str | None = None
    path: str = "/"
    body_limit: int = 200_000
    budget: float = 3.0
    proxy: str | None = None
    speaks: str = ""  # the target's own language, when it was found to have one (Contact.protocol)


class ReadRemembered(Tagged, frozen=True, kw_only=True):
    """What the namespace of ``source`` (a WHERE) remembers of ``addresses``: path MTU exceptions, tcp_metrics, the path
    MTU it would use. Sends no packet. Answer: one RememberedFact."""

    ref: str
    source: str
    addresses: tuple[str, ...]


class ReadPlatform(Tagged, frozen=True, kw_only=True):
    """Who keeps the configuration of a device of the host we stand in, and in which file. Answer: one PlatformFact."""

    ref: str
    source: str
    netns: str  # NetnsSnapshot.id
    link: str
    index: int


class ReadSnapshots(Tagged, frozen=True, kw_only=True):
    """Open snapshots of other hosts: files, or folders of them. Sends no packet. Answer: one FleetFact."""

    ref: str
    paths: tuple[str, ...]


Request = (
    ReadClock
    | ReadState
    | ReadSockets
    | ReadCounters
    | ReadRules
    | ReadPrograms
    | ResolveName
    | Locate
    | Measure
    | MeasureHops
    | TryFix
    | ReadPlatform
    | ReadRemembered
    | ReadSnapshots
    | Watch
    | EndWatch
)
