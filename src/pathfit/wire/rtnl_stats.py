"""rtnetlink: what devices and their queues have counted (RTM_GETSTATS, RTM_GETQDISC). Pure.

::

    struct if_stats_msg   0 family  4 ifindex  8 what is asked for (a bit for each attribute)
    struct tcmsg          0 family  4 ifindex  8 handle  12 parent  16 info

Names of a device's counters are those of struct rtnl_link_stats64 (if_link.h says what each of them means), of its
queues "qdisc.drops" (on the way out) and "ingress.drops". Nothing here needs a privilege; RTM_GETSTATS is of 4.7.
"""

from collections.abc import Mapping
from functools import cache
from struct import Struct
from typing import NamedTuple

from pathfit.wire.netlink import Malformed, attributes, inner, request, text

NEWQDISC, GETQDISC = 36, 38
NEWSTATS, GETSTATS = 92, 94
LINK_64 = 1  # IFLA_STATS_LINK_64, the first bit of the mask
_TCA_KIND, _TCA_STATS2, _TCA_STATS_QUEUE = 1, 7, 3
ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1  # TC_H_ROOT, TC_H_INGRESS

_STATS = Struct("=BxxxII")
_TCMSG = Struct("=BxxxiIII")
_QUEUE = Struct("=IIIII")  # struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits

# struct rtnl_link_stats64, in its order; "" is no loss, or counted a second time by another.
_FIELDS = (
    "", "", "", "", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "", "collisions",
    "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors", "rx_missed_errors",
    "tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors", "tx_window_errors",
    "", "", "rx_nohandler", "rx_otherhost_dropped",
)  # fmt: skip


class Counted(NamedTuple):
    """Of one device: its index, and counts by name."""

    link: int
    counts: Mapping[str, int]


@cache
def stats() -> bytes:
    """Counters of all devices."""
    return request(GETSTATS, _STATS.pack(0, 0, 1 << LINK_64 - 1))


@cache
def queues() -> bytes:
    """Queueing disciplines of all devices, those at their roots among them."""
    return request(GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0))


def device(data: bytes, at: int, end: int) -> Counted | None:
    """An answer to :func:`stats`. Raises Malformed."""
    if end - at < _STATS.size:
        raise Malformed("a short if_stats_msg")
    _, link, _ = _STATS.unpack_from(data, at)
    numbers = attributes(data, at + _STATS.size, end).get(LINK_64)
    if numbers is None:
        return None
    many = len(numbers) // 8  # kernels append counters; one that is not there yet was not counted
    values = Struct(f"={many}Q").unpack_from(numbers)
    return Counted(link, {name: n for name, n in zip(_FIELDS, values, strict=False) if name})


class Queue(NamedTuple):
    """A queueing discipline that stands at a device's root, or at its ingress."""

    link: int
    kind: str
    ingress: bool


def kind(data: bytes, at: int, end: int) -> Queue | None:
    """An answer to :func:`queues`: which it is, None for a class's. Raises Malformed."""
    if end - at < _TCMSG.size:
        raise Malformed("a short tcmsg")
    _, link, _, parent, _ = _TCMSG.unpack_from(data, at)
    if link <= 0 or parent not in (ROOT, INGRESS):
        return None
    return Queue(link, text(attributes(data, at + _TCMSG.size, end).get(_TCA_KIND, b"")), parent == INGRESS)


def queue(data: bytes, at: int, end: int) -> Counted | None:
    """An answer to :func:`queues`, of a root (what its classes drop, it counts) or of ingress. Raises Malformed."""
    if end - at < _TCMSG.size:
        raise Malformed("a short tcmsg")
    _, link, _, parent, _ = _TCMSG.unpack_from(data, at)
    found = attributes(data, at + _TCMSG.size, end)
    numbers = inner(found.get(_TCA_STATS2, b"")).get(_TCA_STATS_QUEUE, b"")
    if link <= 0 or len(numbers) < _QUEUE.size or parent not in (ROOT, INGRESS):
        return None
    name = "ingress.drops" if text(found.get(_TCA_KIND, b"")) in ("ingress", "clsact") else "qdisc.drops"
    return Counted(link, {name: int(_QUEUE.unpack_from(numbers)[2])})
