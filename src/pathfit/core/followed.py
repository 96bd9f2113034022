"""What a trace says at the end: built by follow.py, drawn by render/."""

from typing import Literal

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Confidence, Facts
from pathfit.core.net import Direction, Point
from pathfit.core.report import Report
from pathfit.core.tracing import Rule

SCHEMA = "pathfit.trace/1"
Word = Literal["arrives", "lost", "unknown"]
By = Literal["event", "counter", "rule", "state"]


class Cause(Value, frozen=True, kw_only=True):
    """Why packets were lost, by the kernel's own word. ``word``, ``limit``: model/dropped.py; ``at``: the device it
    happened at; ``mtu``: the one that decided (bytes), None where none did or it is not known; ``most``: the largest
    packet that passes there; ``count``: events.

    ``by``: who says so. "event": the kernel, of these very packets; "rule": a packet filter, of these; "counter": one
    of the kernel's counters (``counter``) moved by ``count`` meanwhile, whoever's packets that were; "state": what was
    read right afterwards, of what these packets need.
    ``rule``: the one of a packet filter, where it is known.
    """

    word: str
    at: Point
    limit: str = ""
    mtu: int | None = None
    most: int | None = None
    reason: str = ""
    function: str = ""
    told: bool = False
    count: int = 0
    by: By = "event"
    counter: str = ""
    rule: Rule | None = None


class Complaint(Value, frozen=True, kw_only=True):
    """What a lost ICMP error was to tell. ``kind``: as of :class:`Origin`; ``claims``: the address that it bears as its
    sender; ``about``: the first packet that it quotes, "tcp A:port > B:port"; ``largest``: of those, bytes of IP
    packet; ``mtu``: of a "too big", bytes."""

    kind: Literal["reset", "too-big", "unreachable", "expired"]
    claims: str
    mtu: int | None = None
    about: str = ""
    largest: int = 0


class Ahead(Value, frozen=True, kw_only=True):
    """A limit behind a loss, by what was read: ``mtu``, the largest packet of the flow that passes there (bytes). None
    of the packets that are larger came there."""

    at: Point
    mtu: int


class Loss(Value, frozen=True, kw_only=True):
    """Packets that were seen at ``after`` and not at ``before``.

    ``after`` None: they came to no point of ours, but were sent, by the numbers of later ones: ``missing`` bytes in
    ``packets`` gaps, without sizes. ``before`` None: dropped behind the last point; both None: in front of any, or
    (``unwatched``) somewhere on a way none of whose points could be watched. Sizes are bytes of IP packet; ``passed``:
    the largest that got to ``before`` meanwhile, 0 for none. ``numbers``: where they were seen last, in the file of
    packets; ``end``: where NAT takes them ("address:port"), where it chooses among several. ``error``: what was lost is
    an ICMP error about packets of the other direction, and this is what it said. ``ahead``: the next limits of the same
    way, which no packet came to that is too large for them.
    """

    direction: Direction
    after: Point | None
    before: Point | None
    packets: int
    smallest: int = 0
    largest: int = 0
    missing: int = 0
    passed: int = 0
    causes: tuple[Cause, ...] = ()
    unwatched: bool = False
    numbers: tuple[int, ...] = ()
    error: Complaint | None = None
    ahead: tuple[Ahead, ...] = ()
    end: str = ""


class Stage(Value, frozen=True, kw_only=True):
    """One point of one direction. ``packets``: how many of the flow were seen; ``lost``: how many this tap could not
    keep (then nothing is said of what comes before or behind it)."""

    at: Point
    out: bool
    packets: int = 0
    lost: int = 0


class Row(Value, frozen=True, kw_only=True):
    """One packet of the ladder. ``seen``: how much of it each stage of its direction saw: "all", "part", "none";
    ``numbers``: its places in the file of packets; ``size``: bytes of IP packet; ``time``: nanoseconds. ``dropped``: it
    came to the last stage, and the kernel told that it was dropped behind it."""

    direction: Direction
    time: int
    what: str
    size: int
    seen: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    dropped: bool = False


class Talk(Value, frozen=True, kw_only=True):
    """One connection (or one pair of ports, or of addresses) as it was seen where it came first: ``client`` and
    ``server`` as "address:port". ``packets``, ``back``: out and in; ``again``, ``again_back``: TCP segments with bytes
    that had been seen there before; ``repeats``: how often the most repeated of them was seen, ``stuck`` its bytes of
    IP packet, where nobody acknowledged it before the end (0: none); ``opened``: its first SYN was seen, so it is
    younger than the watch; ``reset``: which way an RST went, "" none; ``seconds``: from its first packet to its last.
    """

    protocol: str
    client: str
    server: str
    packets: int = 0
    back: int = 0
    again: int = 0
    again_back: int = 0
    repeats: int = 0
    stuck: int = 0
    stuck_way: str = ""
    opened: bool = False
    reset: str = ""
    seconds: float = 0.0


class Sign(Value, frozen=True, kw_only=True):
    """One thing that tells who made a packet. ``name``: message id under "sign."; ``says``: "end" the host whose
    address it bears, "other" somebody else, "" neither by itself."""

    name: str
    says: Literal["end", "other", ""] = ""
    facts: Facts = {}


class Origin(Value, frozen=True, kw_only=True):
    """Who made resets, or ICMP errors, of the flow that are alike.

    ``claims``: the address they bear as their sender; ``direction``: the way they go; ``by``: "end" the host that has
    that address, "filter" a packet filter, "tunnel" a tunnel, "other" somebody else, "unknown" nothing tells, or signs
    disagree. ``confidence``: "confirmed" where taps or the kernel show it, "likely" by their looks alone. ``made``: the
    namespace (or device) they were made in, None beyond what can be seen; ``first``: where they were seen first;
    ``unseen``: points of the way from that address that they did not pass. ``code``, ``because``: the fault, "" where
    it is none; ``mtu``: of a "too big", bytes; ``numbers``: their places in the file of packets.
    """

    kind: Literal["reset", "too-big", "unreachable", "expired"]
    direction: Direction
    claims: str
    by: Literal["end", "filter", "tunnel", "other", "unknown"]
    confidence: Confidence = "possible"
    phase: Literal["syn", "later", ""] = ""
    made: Point | None = None
    first: Point | None = None
    unseen: tuple[Point, ...] = ()
    code: str = ""
    because: tuple[str, ...] = ()
    mtu: int | None = None
    count: int = 0
    signs: tuple[Sign, ...] = ()
    numbers: tuple[int, ...] = ()


class Course(Value, frozen=True, kw_only=True):
    """Both ways of the connections that NAT took to ``end`` ("address:port"); ``beyond``: as in Followed."""

    end: str
    forward: tuple[Stage, ...] = ()
    reverse: tuple[Stage, ...] = ()
    beyond: tuple[Point | None, Point | None] = (None, None)


class Followed(Value, frozen=True, kw_only=True):
    """``forward``, ``reverse``: the stages in order. ``watched``: drops were reported by the kernel. ``beyond``: where
    our view of each direction ends or begins, None when all of it was seen. ``cut``: nanoseconds after which there were
    too many packets to keep, 0 when there never were. ``talks``: of traffic of others, the connections that were seen,
    those with trouble first, ``more_talks`` of them not kept; ``seconds``: of the watch. ``traced``: namespaces whose
    packet filters were asked; ``unmarked``: packets about which they were not, being too many; ``deaf``: answers that
    were lost. ``answers``: resets and ICMP errors of the flow, and who made them. ``end``: where NAT took these,
    where it chooses among several ("" elsewhere, and of those that it took nowhere); ``others``: where else it took
    some."""

    version: str
    ask: Ask
    verdict: Word
    forward: tuple[Stage, ...] = ()
    reverse: tuple[Stage, ...] = ()
    losses: tuple[Loss, ...] = ()
    rows: tuple[Row, ...] = ()
    watched: bool = False
    unheard: int = 0
    cut: int = 0
    traced: int = 0
    unmarked: int = 0
    deaf: int = 0
    beyond: tuple[Point | None, Point | None] = (None, None)
    missing: tuple[Missing, ...] = ()
    report: Report | None = None
    talks: tuple[Talk, ...] = ()
    more_talks: int = 0
    seconds: float = 0.0
    answers: tuple[Origin, ...] = ()
    end: str = ""
    others: tuple[Course, ...] = ()
