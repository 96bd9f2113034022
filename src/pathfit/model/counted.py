"""What a counter that moved may mean for packets that were seen at one point and not at the next.

A counter says that so many packets were dropped, not whose. So one is a cause only

* where it counts: of a device what is dropped on the side that the packets passed, of a namespace what its stack drops
  between a device that they came in by and one that they did not reach;
* when it moved by at least as many packets as were lost there, and not by many more than were missed there: what mostly
  counts the packets of others says nothing of ours;
* when sizes do not speak against it: what is too big for an MTU is larger than that, and nothing larger got through.

What moves when was measured on 6.18 (tests/unit/test_trace_counters.py builds the rows); no counter at all moves for a
packet filter, a blackhole route, a bridge's port without bridge-nf or an unknown VNI: then nothing is said. Sources:
Documentation/networking/{snmp_counter,statistics}.rst, ip_forward(), ip_error(), veth_xmit(), vxlan_xmit_one(). Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pathfit.core.tracing import Moved
from pathfit.model.dropped import Limit

SLACK = 4  # bytes that a veth lets pass above the MTU of its other half (is_skb_forwardable())
SOFTNET = "softnet.dropped"
OTHERS = 8  # packets of others that a counter may have counted besides, on a quiet machine


class Meaning(NamedTuple):
    """``word``: as in model/dropped.py; ``unless``, ``only``: another counter of that namespace must not, or must, have
    moved as well, for both are moved by one packet of another kind; ``told``: by this counter the sender was told."""

    word: str
    told: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    sized: bool = False


_TOLD4, _TOLD6 = ("Icmp.OutDestUnreachs",), ("Icmp6.OutDestUnreachs",)
# What the stack of a namespace drops on its way through.
THROUGH: Mapping[str, Meaning] = {
    "Ip.FragFails": Meaning("too-big", told=_TOLD4, sized=True),
    "Ip6.FragFails": Meaning("too-big", told=("Icmp6.OutPktTooBigs",), sized=True),
    "IpExt.InNoRoutes": Meaning("no-route", told=_TOLD4),
    "Ip6.InNoRoutes": Meaning("no-route", told=_TOLD6),
    "Ip.OutNoRoutes": Meaning("no-route"),
    "Ip6.OutNoRoutes": Meaning("no-route"),
    "Ip.InAddrErrors": Meaning("not-forwarded"),
    "Ip6.InAddrErrors": Meaning("not-forwarded"),
    "Ip.InHdrErrors": Meaning("ttl", told=("Icmp.OutTimeExcds",), only=("Icmp.OutTimeExcds",)),
    "Ip6.InHdrErrors": Meaning("ttl", told=("Icmp6.OutTimeExcds",), only=("Icmp6.OutTimeExcds",)),
    "TcpExt.IPReversePathFilter": Meaning("reverse-path"),
    "Ip.InDiscards": Meaning("discarded"),
    "Ip.OutDiscards": Meaning("discarded", unless=("Ip.FragFails",)),  # "too big" that its own filter drops counts, too
    "Ip6.InDiscards": Meaning("discarded"),
    "Ip6.OutDiscards": Meaning("discarded", unless=("Ip6.FragFails",)),
    "Ip.ReasmFails": Meaning("unassembled"),
    "Ip6.ReasmFails": Meaning("unassembled"),
    "IpExt.InCsumErrors": Meaning("checksum"),
    # A dead neighbour moves nothing else; what does is another matter.
    "Icmp.OutDestUnreachs": Meaning(
        "unreachable", told=_TOLD4, unless=("Ip.FragFails", "IpExt.InNoRoutes", "Udp.NoPorts", "Ip.InUnknownProtos")
    ),
    "Icmp6.OutDestUnreachs": Meaning(
        "unreachable", told=_TOLD6, unless=("Ip6.InNoRoutes", "Udp6.NoPorts", "Ip6.InUnknownProtos")
    ),
}
# What it drops of what is for itself: behind the last point, or where a tunnel's outer packet ends.
HERE: Mapping[str, Meaning] = {
    "Tcp.InCsumErrors": Meaning("checksum"),
    "Udp.InCsumErrors": Meaning("checksum"),
    "Udp6.InCsumErrors": Meaning("checksum"),
    "Udp.RcvbufErrors": Meaning("receiver-full"),
    "Udp6.RcvbufErrors": Meaning("receiver-full"),
    "TcpExt.ListenOverflows": Meaning("listener-full"),
    "Ip.InUnknownProtos": Meaning("unhandled"),
    "Ip6.InUnknownProtos": Meaning("unhandled"),
}
NOTED = frozenset(("Icmp.OutTimeExcds", "Icmp6.OutTimeExcds", "Icmp6.OutPktTooBigs", "Udp.NoPorts", "Udp6.NoPorts"))
WANTED = frozenset((*THROUGH, *HERE)) | NOTED
"""Names of the counters of a namespace that are worth telling."""

# Of a device, by the side the packets passed. A queue's drops come before the tap of what leaves, others behind it.
IN_FRONT_OUT = {"qdisc.drops": "traffic-control"}
BEHIND_OUT = {
    "tx_dropped": "device",
    "tx_errors": "device",
    "tx_carrier_errors": "no-carrier",
    "tx_aborted_errors": "device",
    "tx_fifo_errors": "queue-full",
}
IN_FRONT_IN = {
    "rx_dropped": "device",
    "rx_errors": "device",
    "rx_length_errors": "device-length",
    "rx_over_errors": "device-length",
    "rx_crc_errors": "damaged",
    "rx_frame_errors": "device",
    "rx_fifo_errors": "queue-full",
    "rx_missed_errors": "queue-full",
}
BEHIND_IN = {"ingress.drops": "traffic-control", "rx_dropped": "device", "rx_nohandler": "device"}
TUNNEL = {"tx_carrier_errors": "outer-no-route", "collisions": "outer-loop"}  # vxlan_xmit_one(), iptunnel_xmit()
GENERAL = ("tx_errors", "rx_errors")  # sums: said only where nothing more exact moved


class End(NamedTuple):
    """A point beside which packets were lost: a device, and whether they left by it. ``mtu``: bytes; ``veth``: it is
    one half of a cable; ``port``: of a bridge; ``tunnel``: it wraps or unwraps what passes."""

    netns: str
    link: int
    out: bool
    mtu: int = 0
    veth: bool = False
    port: bool = False
    tunnel: bool = False


class Lost(NamedTuple):
    """``after``: where they were last seen; ``before``: the next point, None behind the last one; ``packets``: how
    many; sizes in bytes of IP packet, ``passed`` 0 for none; ``missed``: how many fewer were seen at all there, copies
    of the same bytes and those that are not judged among them."""

    after: End
    before: End | None
    packets: int
    smallest: int
    passed: int
    missed: int = 0


class Counted(NamedTuple):
    """What may have happened, by one counter. ``netns``, ``link``: where it counts (0: no device of its own)."""

    word: str
    counter: str
    by: int
    netns: str
    link: int
    limit: Limit = ""
    mtu: int | None = None
    told: bool = False


def causes(lost: Lost, moved: Iterable[Moved]) -> list[Counted]:
    """Counters that may tell why, the closest number first; empty where none can."""
    rose = {(m.netns, m.link, m.name): m.by for m in moved}
    found = [*_of_devices(lost, rose), *_of_stacks(lost, rose)]
    exact = [c for c in found if c.counter not in GENERAL]
    most = 2 * max(lost.packets, lost.missed) + OTHERS
    fits = (c for c in exact or found if lost.packets <= c.by <= most)
    order = sorted(fits, key=lambda c: (c.by - lost.packets, c.mtu is None))
    chosen: dict[str, Counted] = {}
    for one in order:  # both ends of a cable count the same packet, and so do a tunnel and what is below
        chosen.setdefault(one.word, one)
    return list(chosen.values())


Rose = Mapping[tuple[str, int, str], int]


def _of_devices(lost: Lost, rose: Rose) -> Iterator[Counted]:
    a, b = lost.after, lost.before
    sides: list[tuple[End, Mapping[str, str]]] = [(a, BEHIND_OUT if a.out else BEHIND_IN)]
    if a.tunnel and a.out:
        sides = [(a, {**BEHIND_OUT, **TUNNEL})]
    if b is not None:
        sides.append((b, IN_FRONT_OUT if b.out else IN_FRONT_IN))
    for end, name, word in ((end, name, word) for end, names in sides for name, word in names.items()):
        if by := rose.get((end.netns, end.link, name), 0):
            yield _device(lost, end, name, word, by, rose)
    if (by := rose.get(("", 0, SOFTNET), 0)) and b is not None and not b.out:
        yield Counted("backlog-full", SOFTNET, by, b.netns, b.link)


def _device(lost: Lost, end: End, name: str, word: str, by: int, rose: Rose) -> Counted:
    a, b = lost.after, lost.before
    cut = any(rose.get((a.netns, 0, x)) for x in ("Ip.FragFails", "Ip6.FragFails"))
    if name in ("tx_dropped", "tx_aborted_errors") and a.tunnel and a.out and cut:  # (the latter where IPv6 is outside)
        return Counted("outer-too-big", name, by, a.netns, a.link, "underlay")
    cable = a.veth and a.out and b is not None and b.veth and not b.out
    if name in ("tx_dropped", "rx_dropped") and cable and b is not None and _fits(lost, b.mtu + SLACK):
        return Counted("peer-too-small", name, by, a.netns, a.link, "peer", b.mtu)
    return Counted(word, name, by, end.netns, end.link)


def _fits(lost: Lost, most: int) -> bool:
    """Is ``most`` a limit that explains which of them were lost?"""
    return lost.passed <= most < lost.smallest


def _of_stacks(lost: Lost, rose: Rose) -> Iterator[Counted]:
    a, b = lost.after, lost.before
    if a.out and not a.tunnel and not (b is not None and b.out and b.netns == a.netns):
        return  # it was on a cable
    tables = [THROUGH]
    if b is None or b.tunnel:
        tables.append(HERE)
    for name, meaning in ((n, m) for table in tables for n, m in table.items()):
        by = rose.get((a.netns, 0, name), 0)
        moved = {n for net, link, n in rose if net == a.netns and not link}
        if not by or moved.intersection(meaning.unless) or not moved.issuperset(meaning.only):
            continue
        told = bool(moved.intersection(meaning.told))
        if not meaning.sized:
            yield Counted(meaning.word, name, by, a.netns, 0, told=told)
        elif b is not None and b.netns == a.netns and b.out:
            yield from _sized(lost, b, name, by, told=told)


def _sized(lost: Lost, b: End, name: str, by: int, *, told: bool) -> Iterator[Counted]:
    """Too large for the device that they were to leave by: its MTU, or that of the device below a tunnel."""
    if lost.after.tunnel and lost.after.out:
        yield Counted("outer-too-big", name, by, b.netns, b.link, "underlay", b.mtu)
    elif _fits(lost, b.mtu):  # a bridge's port too: the counter moves with bridge-nf only, which takes no more
        kind: Limit = "port" if b.port else "egress"
        word = "port-too-small" if b.port else "too-big"
        yield Counted(word, name, by, b.netns, b.link, kind, b.mtu, told and not b.port)
