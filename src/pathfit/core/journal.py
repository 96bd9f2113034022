"""What a repair did to this machine, and all that is needed to take it back: the value that ``apply/`` writes to disk.

One :class:`Journal` per repair. It is written before the first change and again around each one, so that whoever
finds it after a crash knows what may have happened (steps that are ``doing`` or ``done``) and how it was before
(:data:`Prepared`). Bytes stand in it as base64; times are seconds since the epoch; sizes are bytes.
"""

from typing import Literal

from pathfit.core.base import Tagged, Value
from pathfit.core.change import Change
from pathfit.core.engined import ContainersBefore, EngineBefore, NetworkBefore
from pathfit.core.finding import Lasts

SCHEMA = "pathfit.journal/1"

State = Literal[
    "planned",  # nothing was changed yet
    "applying",  # some steps may have been performed
    "applied",  # all steps were performed; not proven yet
    "waiting",  # proven; undone at ``confirm_by`` unless somebody confirms
    "kept",  # proven, and here to stay
    "undoing",
    "undone",
    "failed",  # undoing did not succeed wholly: ``why`` and the steps say what is left
]
FINAL = ("kept", "undone", "failed")
"""States nobody needs to finish. A "failed" one can be undone again."""

StepState = Literal["planned", "doing", "done", "undone", "gone", "failed"]
"""``doing`` is written before a step is performed, ``done`` after. ``gone``: what it changed does not exist any more
(the namespace, the route, everything at run time after a reboot). ``failed``: it could not be undone."""


class Place(Value, frozen=True, kw_only=True):
    """A network namespace and how to find it again. ``id`` device:inode; ``cookie`` (5.14) is never used twice."""

    id: str
    where: str
    cookie: int | None = None


class RouteBefore(Tagged, frozen=True, kw_only=True):
    """A route as the kernel dumped it: the bodies of RTM_NEWROUTE (struct rtmsg and attributes)."""

    place: Place
    before: bytes
    after: bytes


class LinkBefore(Tagged, frozen=True, kw_only=True):
    """A device, those that follow its MTU (its bridge, its VLANs), and what the kernel takes from them with IPv6.

    ``at``: seconds of CLOCK_BOOTTIME when it was read (lifetimes count from then). ``addresses``,
    ``routes``, ``neighbours`` are bodies of RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH of these devices. ``sysctls`` by
    path below /proc/sys/net; only IPv6's.
    """

    place: Place
    index: int
    link: str
    mtus: tuple[tuple[int, int], ...]  # (ifindex, MTU)
    after: int
    at: float = 0.0
    bridge: bool = False
    addresses: tuple[bytes, ...] = ()
    routes: tuple[bytes, ...] = ()
    neighbours: tuple[bytes, ...] = ()
    sysctls: dict[str, str] = {}


class TableBefore(Tagged, frozen=True, kw_only=True):
    """There was no nft table of that name."""

    place: Place
    family: str
    name: str


class CacheBefore(Tagged, frozen=True, kw_only=True):
    """Cached path MTUs are learned again where they are true: nothing to take back."""

    place: Place


class FileBefore(Tagged, frozen=True, kw_only=True):
    """A file as it was; ``old`` None: there was none. ``real``: where the symbolic links end. ``new``: what we write.

    ``mtime``: nanoseconds. ``folders``: folders we make for it, outermost first.
    """

    real: str
    new: bytes
    old: bytes | None = None
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: dict[str, bytes] = {}
    folders: tuple[str, ...] = ()


class OvsBefore(Tagged, frozen=True, kw_only=True):
    """An interface of Open vSwitch. ``request``: its mtu_request (bytes; None: none); ``mtu``: its device's."""

    socket: str
    interface: str
    uuid: str
    request: int | None = None
    mtu: int | None = None


class ForwardingBefore(Tagged, frozen=True, kw_only=True):
    """A forwarding entry of a VXLAN device: bodies of RTM_NEWNEIGH (struct ndmsg and attributes), as it was and as it
    shall be."""

    place: Place
    before: bytes
    after: bytes


Prepared = (
    RouteBefore
    | LinkBefore
    | TableBefore
    | CacheBefore
    | FileBefore
    | EngineBefore
    | NetworkBefore
    | ContainersBefore
    | OvsBefore
    | ForwardingBefore
)


class StepRecord(Value, frozen=True, kw_only=True):
    """One change, how it was before, and how far it came. ``note`` says why it is gone or failed."""

    change: Change
    prepared: Prepared | None = None
    state: StepState = "planned"
    note: str = ""


class Chosen(Value, frozen=True, kw_only=True):
    """The repair as it was chosen: what of a :class:`~pathfit.core.finding.Fix` people want to read later."""

    id: str
    title: str = ""  # in English
    value: int | None = None
    effective: int | None = None
    lasts: Lasts = "reboot"
    interrupts: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    undo: tuple[tuple[str, ...], ...] = ()


class Runner(Value, frozen=True, kw_only=True):
    """Who wrote the journal. ``started``: clock ticks after boot (/proc/PID/stat), so that a pid is not mistaken."""

    pid: int = 0
    started: int = 0
    boot: str = ""


class Journal(Value, frozen=True, kw_only=True):
    """One repair. ``asked``: the words of the command; ``confirm_by``: seconds of CLOCK_BOOTTIME."""

    schema: str  # SCHEMA, always written
    version: str
    id: str
    state: State
    made: float  # seconds since the epoch
    code: str
    fix: Chosen
    source: str = "host"
    target: str = ""
    finding: str = ""  # its id
    runner: Runner = Runner()
    steps: tuple[StepRecord, ...] = ()
    confirm_by: float | None = None
    confirm_within: float | None = None  # seconds
    why: str = ""  # why it was undone, or what is left
    before: dict[str, tuple[int | None, int | None]] = {}  # direction: (passes, fails) measured before
    after: dict[str, tuple[int | None, int | None]] = {}
