"""Which rule of nf_tables drops packets of one flow, in several namespaces at once, by its own word (nft trace).

In each namespace a table of ours marks the flow's packets (:mod:`pathfit.wire.nft.mark`); nf_tables then tells what
every rule does with them, those of `nft` and those of iptables-nft, which live there as well. The table decides
nothing, and belongs to our socket: the kernel takes it away with it, however we end, and no `nft flush ruleset` does
before. Needs CAP_NET_ADMIN in the namespaces and Linux 5.12 (NFT_TABLE_F_OWNER; tried on 6.1, 6.12, 6.18).

What it does not see: iptables-legacy (told in :attr:`Rules.missing`; counters say something,
:func:`pathfit.model.ruled.counted`), chains of netdev (ingress, egress) and of bridges, and, above ``rate`` packets a
second, some of the flow's packets (:meth:`Rules.counts`). A rule of iptables-legacy that a marked packet meets is
written to the kernel's log where a logger is bound (ipt_do_table(), trace_packet()): fewer are marked there.
"""

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Table
from pathfit.core.tracing import Rule
from pathfit.host import netns
from pathfit.host.nfsocket import NfSocket
from pathfit.host.nlsocket import NETLINK_NETFILTER, NetlinkSocket
from pathfit.model.ruled import named
from pathfit.wire.dissect import Dissected, packet
from pathfit.wire.netlink import Malformed
from pathfit.wire.nft import mark, messages, trace
from pathfit.wire.nft.mark import Flow
from pathfit.wire.nft.trace import Trace

T = TypeVar("T")
DEEPEST = 16  # jumps within one another, NFT_JUMP_STACK_SIZE
LOGGED = 10  # packets a second that are marked where each may become lines in the kernel's log
MOST_PACKETS = 4096  # on their way at the same time, whose headers are kept
MOST_TOLD = 50_000  # messages kept between two calls of read(), in each namespace: some 300 bytes each
HOW_COUNTERS = "iptables-legacy-save -c (its counters, before and after)"


class Place(NamedTuple):
    """A namespace: ``fd`` (None: ours; open until the end), what it is called, its filter tables, read right before."""

    fd: int | None
    where: str = ""
    tables: tuple[Table, ...] = ()


class Ruled(NamedTuple):
    """One packet that a rule, or a policy, dropped. ``event``: the kernel's word; ``packet``: its headers as they were
    in that base chain, without layers when they were lost, ``data`` the same as bytes; ``iif``, ``oif``: devices there,
    by index, 0 without; ``time``: nanoseconds of CLOCK_MONOTONIC when we heard of it."""

    where: str
    rule: Rule
    event: Trace
    packet: Dissected
    data: bytes
    iif: int
    oif: int
    time: int

    @property
    def way(self) -> tuple[tuple[str, int], ...]:
        """The rules that led there by jumps, as (chain, handle), from the base chain on."""
        return tuple((jump.chain, jump.handle) for jump in self.rule.way)


class Counts(NamedTuple):
    """``matched``: packets of the flow that came by; a packet that goes through a namespace counts once, what it sends
    once. ``marked``: those of them that are traced; the others were too many. ``lost``: messages that found no room,
    ``malformed``: those that contradict themselves."""

    matched: int
    marked: int
    lost: int
    malformed: int


class Rules:
    """Hears from the moment it is made until :meth:`close`."""

    def __init__(self, places: Iterable[Place], flow: Flow, rate: int = mark.RATE) -> None:
        """Everywhere, or nowhere. Raises OSError with a reason, ValueError for what is no flow."""
        flow.check()
        self._heard: list[_Heard] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for place in places:
                self._heard.append(_open(place, flow, rate))
            undo.pop_all()
        self.missing = tuple(m for heard in self._heard for m in heard.missing())

    @property
    def fds(self) -> tuple[int, ...]:
        """Readable when something was told (poll(2))."""
        return tuple(heard.socket.fd for heard in self._heard)

    def gather(self) -> None:
        """Make room in the kernel's buffers; nothing is decoded."""
        for heard in self._heard:
            heard.gather()

    def read(self) -> list[Ruled]:
        """What was dropped since the last call."""
        return [one for heard in self._heard for one in heard.taken()]

    def counts(self) -> Counts:
        """Since the beginning. Raises OSError."""
        every = [heard.counts() for heard in self._heard]
        return Counts(*(sum(column) for column in zip(*every, strict=True))) if every else Counts(0, 0, 0, 0)

    def close(self) -> None:
        """Take the tables away; they are gone when this returns. A second call is harmless."""
        for heard in self._heard:
            heard.close()


class _Packet(NamedTuple):
    """What is known of a packet that is within a base chain: its first message there, and where it jumped since."""

    first: Trace
    jumps: tuple[Trace, ...] = ()

    def after(self, event: Trace) -> "_Packet":
        """The end of a chain leads back to behind the last jump; a goto is not come back to (nft_do_chain())."""
        jumps = self.jumps
        if event.kind == "rule" and event.verdict in ("jump", "goto"):
            jumps = (*jumps, event)[-DEEPEST:]
        elif event.kind == "return" or (event.kind == "rule" and event.verdict == "return"):
            while jumps and jumps[-1].verdict == "goto":
                jumps = jumps[:-1]
            jumps = jumps[:-1]
        return self._replace(jumps=jumps)

    @property
    def way(self) -> tuple[tuple[str, int], ...]:
        return tuple((jump.chain, jump.handle) for jump in self.jumps)


class _Heard:
    """One namespace."""

    def __init__(self, place: Place, flow: Flow, table: str, sockets: Sequence[NfSocket]) -> None:
        self.place, self.flow, self.table = place, flow, table
        self.socket, self.changes = sockets
        self._found: list[Ruled] = []
        self._told: list[tuple[bool, int, bytes]] = []  # of a change of the rules, or of a packet; when; what
        self._cut = 0
        self._ours: OrderedDict[int, None] = OrderedDict()  # ids of packets that our table has marked
        self.marked = self.malformed = self.matched = 0
        self._packets: OrderedDict[int, _Packet] = OrderedDict()
        self._changed: set[tuple[str, str]] = set()

    def missing(self) -> tuple[Missing, ...]:
        if not _legacy(self.place):
            return ()
        what = f"rules of iptables-legacy{' in ' if self.place.where else ''}{self.place.where} by name"
        return (Missing(what=what, why="they are not part of nf_tables' trace", how=HOW_COUNTERS, code="unsupported"),)

    def taken(self) -> list[Ruled]:
        """What was found since the last call."""
        self.read()
        found, self._found = self._found, []
        return found

    def gather(self) -> None:
        for change, socket in ((True, self.changes), (False, self.socket)):
            for data in socket.receive():
                if len(self._told) < MOST_TOLD:
                    self._told.append((change, time.monotonic_ns(), data))
                else:
                    self._cut += 1

    def read(self) -> None:
        self.gather()
        told, self._told = self._told, []
        for change, at, data in told:
            try:
                if change:
                    self._changed |= trace.touched(data)
                else:
                    self._found += [one for e in trace.messages(data) if (one := self._one(e, at)) is not None]
            except Malformed:
                self.malformed += 1

    def _one(self, event: Trace, at: int) -> Ruled | None:
        if event.table == self.table and event.chain == mark.MARK and event.verdict == "continue":
            self.marked += 1
            _remember(self._ours, event.id, None)
        if event.table.startswith(mark.PREFIX):
            return None
        known = self._follow(event)
        if not event.drops:
            return None
        headers = packet(known.first.packet)
        # Who traces another flow here is heard as well. An id is that of a packet's memory, and may change or return.
        ours = self.flow.holds(headers)
        if ours is False or (ours is None and event.id not in self._ours):
            return None
        # A change is told by another way than a packet: what was changed a moment later is doubted as well.
        stale = (event.family, event.table) in self._changed or bool(self.changes.dropped or self._cut)
        rule = named(event, self.place.tables, stale, known.way)
        first = known.first
        return Ruled(self.place.where, rule, event, headers, first.packet, first.iif, first.oif, at)

    def _follow(self, event: Trace) -> _Packet:
        """Which packet this is about. The headers are in the first message of each base chain."""
        known = self._packets.pop(event.id, None)
        if known is None or event.network or _key(known.first) != _key(event):
            known = _Packet(event)
        if not event.drops:
            _remember(self._packets, event.id, known.after(event))
        return known

    def counts(self) -> Counts:
        self.read()
        with netns.inside(self.place.fd), NetlinkSocket(NETLINK_NETFILTER, bytearray(1 << 16)) as s:
            asked = messages.dump(messages.GETRULE, family="inet", table=self.table, chain=mark.MARK)
            for rule in s.dump(asked, messages.rule):
                if rule.table == self.table and rule.chain == mark.MARK:
                    for e in rule.exprs:
                        if e.name == "counter":
                            self.matched = messages.number(e.data.get(2))
        return Counts(self.matched, self.marked, self.socket.dropped + self._cut, self.malformed)

    def close(self) -> None:
        self.socket.close()
        self.changes.close()


def _remember(among: OrderedDict[int, T], key: int, value: T) -> None:
    """The last MOST_PACKETS of them."""
    among.pop(key, None)
    among[key] = value
    if len(among) > MOST_PACKETS:
        among.popitem(last=False)


def _key(event: Trace) -> tuple[str, str]:
    return event.family, event.table


def _legacy(place: Place) -> bool:
    return any(t.tool == "iptables-legacy" for t in place.tables)


def _open(place: Place, flow: Flow, rate: int) -> _Heard:
    """Raises OSError, with what it was that could not be had."""
    table = f"{mark.PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    burst = rate * mark.BURST // mark.RATE
    if _legacy(place):
        rate = burst = min(rate, LOGGED)
    with ExitStack() as undo:
        try:
            sockets = []
            for group in (trace.GROUP, trace.CHANGES):
                one = NfSocket(place.fd)
                undo.callback(one.close)
                one.join(group)
                sockets.append(one)
            sockets[0].commit(mark.batch(table, flow, rate, burst))
            sockets[1].receive()  # that was our own table
        except OSError as e:
            raise OSError(e.errno, _reason(e), place.where or None) from e
        except Malformed as e:
            raise OSError(errno.EPROTO, str(e), place.where or None) from e
        undo.pop_all()
    return _Heard(place, flow, table, sockets)


def _reason(e: OSError) -> str:
    if e.errno in (errno.EPERM, errno.EACCES):
        return "rules cannot be traced: not permitted (CAP_NET_ADMIN over that namespace)"
    if e.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # an unknown flag, until 6.1 and since 6.2
        return "rules cannot be traced: tables with an owner need Linux 5.12"
    if e.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOENT):
        return f"rules cannot be traced: this kernel has no nf_tables, or not all of it ({os.strerror(e.errno)})"
    return f"rules cannot be traced: {e.strerror or e}"
