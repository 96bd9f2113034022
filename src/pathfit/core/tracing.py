"""What was seen of one flow at several points at once, and what the kernel dropped of it meanwhile."""

from typing import NamedTuple

from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.net import Point
from pathfit.core.path import Limit

DROPS = "why the kernel drops packets"  # what is missing where no program may run in the kernel


def inode(netns: str) -> int:
    """What the kernel's events call a namespace: of NetnsSnapshot.id, "device:inode"; 0 for what is none."""
    number = netns.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def unnamed(number: int) -> str:
    """A namespace that no snapshot shows, by its inode."""
    return f"netns inode {number}"


class Tap(Value, frozen=True, kw_only=True):
    """A device that is watched. ``at.netns`` is a WHERE; ``netns``: NetnsSnapshot.id; ``link``: the device's index;
    ``raw``: it has no Ethernet header (a tun)."""

    at: Point
    netns: str
    link: int
    raw: bool = False


class Stop(NamedTuple):
    """One point of one direction: a tap (by its number), and whether the packet leaves by the device there."""

    tap: int
    out: bool


class Branch(Value, frozen=True, kw_only=True):
    """The way of those connections that NAT takes to ``address`` and ``port``, where it chooses among several.
    ``forward``, ``reverse``: its points in order; ``ends``: where our view of each direction ends, None when all of it
    is seen; ``limits``: what routes and cached path MTUs on it say."""

    address: str
    port: int
    forward: tuple[Stop, ...] = ()
    reverse: tuple[Stop, ...] = ()
    ends: tuple[Point | None, Point | None] = (None, None)
    limits: tuple[Limit, ...] = ()


class Seen(Value, frozen=True, kw_only=True):
    """One packet at one tap. ``time``: nanoseconds since the watch began; ``length``: bytes on the wire, link header
    included; ``out``: it left by the device; ``data``: the first bytes of the frame, of TCP its headers alone."""

    tap: int
    time: int
    length: int
    out: bool
    data: bytes
    vlan: int | None = None


class Dropped(Value, frozen=True, kw_only=True):
    """One packet that the kernel dropped. ``word`` and ``limit``: see model/dropped.py; ``egress``: the device that the
    route chose, with its MTU (bytes); ``netns``, ``egress_netns``: inodes of namespaces, 0 when it was on no device;
    ``data``: its headers, from the outermost IP header on."""

    time: int
    word: str
    reason: str
    function: str
    callers: tuple[str, ...] = ()
    limit: str = ""
    told: bool = False
    netns: int = 0
    device: str = ""
    egress: str = ""
    egress_mtu: int = 0
    egress_netns: int = 0
    length: int = 0
    data: bytes = b""


class Lost(Value, frozen=True, kw_only=True):
    """What a tap itself could not keep: ``kept`` packets were seen, ``lost`` more had no room, or no time that is known
    (the clock was set twice between two looks at it)."""

    tap: int
    kept: int
    lost: int


class Moved(Value, frozen=True, kw_only=True):
    """A counter of the kernel that rose while packets were watched, whoever's they were. ``netns``: NetnsSnapshot.id,
    "" for the machine's; ``link``: the device's index, 0 where it is none's; ``name``: "Ip.FragFails" as in
    /proc/net/snmp, "tx_dropped" as in struct rtnl_link_stats64, "qdisc.drops"; ``by``: packets."""

    netns: str
    link: int
    name: str
    by: int


class Jump(NamedTuple):
    """A rule that led on to another chain. ``number``: which one of its chain, from 1, 0 when that is not known."""

    chain: str
    number: int
    handle: int


class Rule(Value, frozen=True, kw_only=True):
    """A rule of a packet filter, or a policy. ``tool`` shows it: "nft", "iptables-nft", "iptables-legacy", "" when that
    is not known; ``number``: which one of its chain, from 1, 0 for a policy or when that is not known; ``text``: as its
    tool writes it, "" when that is not known. ``reject``: what the sender hears ("tcp-reset", ...), None for nothing,
    or when the text is not known. ``way``: the rules that jumped there, from the base chain on."""

    tool: str
    family: str
    table: str
    chain: str
    handle: int = 0
    number: int = 0
    text: str = ""
    policy: bool = False
    reject: str | None = None
    way: tuple[Jump, ...] = ()


class Ruled(Value, frozen=True, kw_only=True):
    """One packet that a rule dropped. ``time``: when we heard of it, a little later than it was; ``netns``:
    NetnsSnapshot.id; ``iif``, ``oif``: indices of devices, 0 without; ``data``: its headers as they came to that base
    chain, at most 40 bytes of IP and 20 of what follows, empty when they were lost."""

    time: int
    netns: str
    rule: Rule
    iif: int = 0
    oif: int = 0
    data: bytes = b""


class Filters(Value, frozen=True, kw_only=True):
    """What packet filters said of a flow. ``heard``: namespaces in which rules were traced (NetnsSnapshot.id);
    ``matched``: packets of the flow that came by there, ``marked``: those whose rules were asked for, the others were
    too many; ``lost``, ``malformed``: messages that found no room, or contradicted themselves; ``cut``: more were
    dropped than are kept in ``ruled``; ``since``: when they were asked (nanoseconds since the watch began), 0 from the
    beginning or not at all."""

    heard: tuple[str, ...] = ()
    ruled: tuple[Ruled, ...] = ()
    matched: int = 0
    marked: int = 0
    lost: int = 0
    malformed: int = 0
    cut: bool = False
    missing: tuple[Missing, ...] = ()
    since: int = 0
