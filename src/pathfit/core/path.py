"""What the model predicts for one flow in one direction."""

from enum import StrEnum
from typing import Literal

from pathfit.core.base import Tagged, Value
from pathfit.core.net import Flow, Point


class Fate(StrEnum):
    """How a packet ends. UNKNOWN: something on the way is not visible or not understood."""

    DELIVERED = "delivered"
    NO_ROUTE = "no_route"
    UNREACHABLE = "unreachable"
    LINK_DOWN = "link_down"
    NEIGH_FAILED = "neigh_failed"
    FILTERED = "filtered"
    RP_FILTER = "rp_filter"
    TOO_BIG_TOLD = "too_big_told"
    TOO_BIG_SILENT = "too_big_silent"
    FRAGMENTED = "fragmented"
    FORWARDING_OFF = "forwarding_off"
    LOOP = "loop"
    UNKNOWN = "unknown"


class Enter(Tagged, frozen=True, kw_only=True):
    """The packet comes in by ``link`` (None: it is made here)."""

    at: Point
    size: int


class Lookup(Tagged, frozen=True, kw_only=True):
    """A route was chosen (fib_lookup). ``route`` as `ip route` would print it; ``choices``: next hops the kernel
    chooses from by a hash we do not know, so that other flows may go another way."""

    at: Point
    route: str
    table: int
    via: str | None = None
    mtu: int | None = None
    choices: int = 1


class Resolve(Tagged, frozen=True, kw_only=True):
    """The neighbour entry used."""

    at: Point
    address: str
    mac: str | None = None
    state: str = "reachable"


class Filtered(Tagged, frozen=True, kw_only=True):
    """A filter chain was passed or ended the packet. ``verdict``: accept, drop, reject, unknown."""

    at: Point
    hook: str
    tool: str
    table: str  # "inet corp"
    chain: str
    verdict: str
    rule: str = ""
    handle: int = 0
    comment: str | None = None
    packets: int | None = None
    reject_with: str | None = None


class Translated(Tagged, frozen=True, kw_only=True):
    """NAT changed an address."""

    at: Point
    kind: str
    before: Flow
    after: Flow


class Clamped(Tagged, frozen=True, kw_only=True):
    """The MSS option of a SYN was lowered here."""

    at: Point
    mss_before: int
    mss_after: int
    rule: str = ""


class Encap(Tagged, frozen=True, kw_only=True):
    """The packet was put into another one."""

    at: Point
    kind: str
    overhead: int
    outer: Flow
    df: bool


class Decap(Tagged, frozen=True, kw_only=True):
    """The packet came out of another one."""

    at: Point
    kind: str


class Bridged(Tagged, frozen=True, kw_only=True):
    """Switched from one bridge port to another (``flooded``: the bridge does not know the MAC)."""

    at: Point
    out: str
    flooded: bool = False


class Exit(Tagged, frozen=True, kw_only=True):
    """The packet leaves by ``at.link``, whose MTU is ``mtu``; or ``local``: it has arrived."""

    at: Point
    size: int
    mtu: int | None = None
    local: bool = False


Step = Enter | Lookup | Resolve | Filtered | Translated | Clamped | Encap | Decap | Bridged | Exit

Then = Literal["icmp", "silent", "fragment", "error", "pass-gso"]


class Limit(Value, frozen=True, kw_only=True):
    """A place that carries less than what is asked.

    ``mtu``: largest IP packet of *this flow* that passes, header included (inner packet for tunnels).
    ``then`` what happens to a larger one: "icmp" (told), "silent", "fragment", "error" (EMSGSIZE at the sender),
    "pass-gso" (hidden by GSO). ``told_home``: would the "too big" reach the flow's sender? None = unknown.
    ``why_untold``: the step that stops it (a filter, no route, no NAT entry), in words of the model's table.
    """

    mtu: int
    kind: Literal["l3", "l2", "tunnel", "receive", "guest", "route", "cached"]
    at: Point
    then: Then
    told_home: bool | None = None
    why_untold: str | None = None
    device: str = ""  # "bridge", "veth", "vxlan", "" ...
    overhead: int = 0  # tunnel bytes already taken off ``mtu``
    function: str = ""  # kernel function that decides, for docs and --verbose


class Hop(Value, frozen=True, kw_only=True):
    """One namespace (or one bridge) of the way."""

    where: Point
    mtu: int | None = None  # of the device it leaves by
    steps: tuple[Step, ...] = ()


class Predicted(Value, frozen=True, kw_only=True):
    """The predicted way of one flow in one direction.

    ``mtu``: largest packet that arrives unfragmented as far as we can see, None when nothing can be said.
    ``fate`` is that of a small packet (what happens to anything); ``large`` that of one of the flow's size.
    ``ends``: where our view ends (None when the whole way is visible).
    """

    flow: Flow
    fate: Fate
    large: Fate
    mtu: int | None = None
    limits: tuple[Limit, ...] = ()
    hops: tuple[Hop, ...] = ()
    ends: Point | None = None
    complete: bool = False
    why: str = ""  # for UNKNOWN: what is not understood or not visible
    mss: int | None = (
        None  # MSS of our SYN when it arrives, after clamps (forward: of the SYN; reverse: of the SYN-ACK)
    )
    clamps: tuple[Clamped, ...] = ()
    culprit: Step | None = None  # the step that decided a fate other than delivered
    final: Flow | None = None  # the flow as it arrives, after NAT
