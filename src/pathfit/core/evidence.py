"""What the world answers: a tagged union. ``ref`` comes from the request, never from arrival order."""

from pathfit.core.base import Tagged, Value
from pathfit.core.evidence_base import Missing
from pathfit.core.measured import (
    Attempt,
    Bracket,
    Contact,
    DnsAnswers,
    Flight,
    HopAnswer,
    LossSeen,
    SideEffect,
    Split,
    TooBig,
    Uneven,
    Used,
)
from pathfit.core.platform import LinkOwner
from pathfit.core.remembered import Remembered
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.sockets import Socket
from pathfit.core.tracing import Dropped, Filters, Lost, Moved, Seen, Tap

__all__ = [
    "ClockFact",
    "CounterFact",
    "Evidence",
    "FleetFact",
    "HopsFact",
    "Missing",
    "NameFact",
    "OtherHost",
    "PlaceFact",
    "PlatformFact",
    "ProbeResult",
    "ProgramFact",
    "RememberedFact",
    "SocketFact",
    "StateFact",
    "TraceFact",
    "TrialFact",
    "WatchFact",
]


class ClockFact(Tagged, frozen=True, kw_only=True):
    """A reading of the clock: ``took`` seconds since the run began (monotonic)."""

    ref: str
    took: float


class StateFact(Tagged, frozen=True, kw_only=True):
    """What was read of this machine."""

    ref: str
    host: HostSnapshot


class PlaceFact(Tagged, frozen=True, kw_only=True):
    """A WHERE that was found. ``environ`` holds only proxy variables; ``addresses`` its global ones."""

    ref: str
    where: str
    netns: str  # NetnsSnapshot.id
    label: str = ""  # how people call it: container name, namespace name
    pid: int | None = None
    environ: dict[str, str] = {}
    addresses: tuple[str, ...] = ()
    inside: bool = False  # pathfit itself runs in it
    privileged: bool = True  # raw and packet sockets may be opened there


class SocketFact(Tagged, frozen=True, kw_only=True):
    """TCP sockets of a namespace. ``total`` counts all; ``sockets`` holds at most a few hundred."""

    ref: str
    where: str = ""  # WHERE of that namespace
    sockets: tuple[Socket, ...] = ()
    total: int = 0
    listening: tuple[int, ...] = ()  # TCP ports somebody accepts connections on here
    missing: tuple[Missing, ...] = ()


class CounterFact(Tagged, frozen=True, kw_only=True):
    """Counters by name ("Ip.FragFails", "TcpExt.TCPTimeouts", "Icmp.InDestUnreachs")."""

    ref: str
    counters: dict[str, int] = {}


class NameFact(Tagged, frozen=True, kw_only=True):
    """A resolved name. ``error``: "nxdomain", "nodata", "timeout", "refused", "servfail", "no-nameserver", …"""

    ref: str
    name: str
    addresses: tuple[str, ...] = ()
    error: str | None = None
    server: str | None = None
    source: str = ""  # "hosts", "dns", "literal", "--resolve"
    more: int = 0  # addresses the answer held beyond those kept
    large_lost: bool = False  # only without EDNS was there an answer, and that one was cut
    took: float = 0.0


class ProbeResult(Tagged, frozen=True, kw_only=True):
    """Everything one Measure found out about one address."""

    ref: str
    contact: Contact
    forward: tuple[Bracket, ...] = ()  # best first
    reverse: tuple[Bracket, ...] = ()
    both: tuple[Bracket, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    too_big: tuple[TooBig, ...] = ()
    loss: LossSeen = LossSeen()
    uneven: Uneven | None = None
    side_effects: tuple[SideEffect, ...] = ()
    used: Used = Used()
    rescued_after: float | None = None  # seconds until a stuck connection was rescued by its sender
    rescued_size: int | None = None
    missing: tuple[Missing, ...] = ()
    splits: tuple[Split, ...] = ()
    dns: DnsAnswers | None = None
    flight: Flight | None = None  # a large ClientHello, where one could be tried without teaching anybody


class HopsFact(Tagged, frozen=True, kw_only=True):
    """What TTL-limited pairs said, nearest hop first."""

    ref: str
    hops: tuple[HopAnswer, ...] = ()
    small: int = 0
    large: int = 0


class TrialFact(Tagged, frozen=True, kw_only=True):
    """The proof before the change. ``size``: largest IP packet invited. ``body`` bytes that arrived."""

    ref: str
    size: int
    ok: bool
    tls: str = "n/a"
    http: str = "n/a"
    body: int = 0
    arrived: int = 0
    took: float = 0.0
    why: str | None = None


class RememberedFact(Tagged, frozen=True, kw_only=True):
    """What a namespace remembers of the addresses that were asked about."""

    ref: str
    where: str = ""  # WHERE of that namespace
    of: tuple[Remembered, ...] = ()
    missing: tuple[Missing, ...] = ()


class PlatformFact(Tagged, frozen=True, kw_only=True):
    """Who says that it keeps a device's configuration. Several owners: nobody knows who wins."""

    ref: str
    netns: str  # NetnsSnapshot.id
    link: str
    owners: tuple[LinkOwner, ...] = ()
    missing: tuple[Missing, ...] = ()


class OtherHost(Value, frozen=True, kw_only=True):
    """A host as a file says it was. ``age``: seconds from then until the file was opened, None = not known."""

    host: HostSnapshot
    age: float | None = None


class FleetFact(Tagged, frozen=True, kw_only=True):
    """What snapshots of other hosts say. It was so when they were written: a cause at most, never a measurement."""

    ref: str
    hosts: tuple[OtherHost, ...] = ()
    missing: tuple[Missing, ...] = ()


class ProgramFact(Tagged, frozen=True, kw_only=True):
    """Numbers of the asked taps at whose device traffic control, or a program, may drop packets; ``read``: of those
    that could be looked at."""

    ref: str
    at: tuple[int, ...] = ()
    read: tuple[int, ...] = ()


class WatchFact(Tagged, frozen=True, kw_only=True):
    """A watch began: ``taps`` of them could be opened."""

    ref: str
    taps: int = 0


class TraceFact(Tagged, frozen=True, kw_only=True):
    """What taps saw of a flow while something was measured, in the order of time for each tap, and what was dropped.

    ``began``: nanoseconds since 1970; since then ``armed`` (all taps were open) and ``ended``. ``watched``: drops were
    reported by the kernel itself; ``opened``: numbers of the taps that could be; ``unheard``: events of drops for which
    there was no room. ``moved``: counters that rose meanwhile; ``filters``: what packet filters said. ``cut``: more
    packets came than are kept here.
    """

    ref: str
    taps: tuple[Tap, ...] = ()
    opened: tuple[int, ...] = ()
    seen: tuple[Seen, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    lost: tuple[Lost, ...] = ()
    began: int = 0
    armed: int = 0
    ended: int = 0
    watched: bool = False
    unheard: int = 0
    moved: tuple[Moved, ...] = ()
    filters: Filters = Filters()
    cut: bool = False
    missing: tuple[Missing, ...] = ()


Evidence = (
    ClockFact
    | StateFact
    | PlaceFact
    | SocketFact
    | CounterFact
    | NameFact
    | ProbeResult
    | HopsFact
    | TrialFact
    | PlatformFact
    | RememberedFact
    | FleetFact
    | TraceFact
    | ProgramFact
    | WatchFact
    | Missing
)
