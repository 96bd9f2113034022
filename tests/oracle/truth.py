"""What really passes in a built lab, found out with packets alone.

One conversation at a time, from namespace to namespace. A packet is *whole* when it arrived and nobody on the way made
fragments (counted in every namespace: a tunnel's outer packet is fragmented unseen by both ends), *pieces* when it
arrived and somebody did, *told* when a "too big" came back (from whom, with which size), *error* when the sender's own
kernel refused it (EMSGSIZE), else *lost*. Nothing is remembered from one packet to the next: cached path MTUs are
removed everywhere - unless one that the lab has is what is asked about.
"""

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from oracle.build import Built

IP_MTU_DISCOVER, IP_RECVERR, IP_MTU = 10, 11, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR = 23, 24, 25
DONT, DO = 0, 2  # IP_PMTUDISC_*
UDP_OVER = {4: 28, 6: 48}
TCP_OVER = {4: 40, 6: 60}
SMALLEST = 100  # bytes of an IP packet that fits everywhere
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
TCP_RTO_MIN_US = 45
HANG = 3  # timeouts in a row (tcpi_retransmits) without any answer, at RTO_MIN and its doubles
RTO_MIN = 10_000  # microseconds
BULK = 4  # segments of one write and one flight: with offloading one super-packet, never a lone full segment
GOES = 3  # first packets
LESSONS = 5  # packets until everybody has learned: the outer way, the tunnel's end, the sender
ICMP_TIME = 0.004  # seconds a "too big" may still be on its way when the packet behind it has arrived


class Seen(NamedTuple):
    """What became of one packet; ``value`` and ``by`` of who refused it."""

    how: str
    value: int | None = None
    by: str = ""


@dataclass
class Way:
    """One direction of one conversation. ``limit``: the largest packet that arrived whole (None: none did)."""

    small: Seen
    limit: int | None = None
    seen: dict[int, Seen] = field(default_factory=dict)


@dataclass
class Stream:
    """One TCP conversation. ``syn``, ``synack``: did they arrive; the MSS they then said. ``forward``, ``reverse``:
    does what a peer sends of itself arrive. ``sized``: (reverse?, size) -> what became of full segments of that size.
    """

    syn: bool = False
    synack: bool = False
    mss_syn: int | None = None
    mss_synack: int | None = None
    forward: bool | None = None
    reverse: bool | None = None
    sized: dict[tuple[bool, int], Seen] = field(default_factory=dict)


@dataclass
class Truth:
    """Everything that was seen. ``back_asked``: the other end opens the conversation instead."""

    forward: Way
    reverse: Way | None = None
    forward_may: Way | None = None  # without DF
    back_asked: Way | None = None
    back_asked_may: Way | None = None
    stream: Stream | None = None


class Ends(NamedTuple):
    """Who talks to whom: ``to`` is the address asked, ``at`` the one it is at last (after DNAT)."""

    ns: str
    there: str
    to: str
    at: str
    sport: int
    dport: int


class Talk:
    """A UDP conversation; :meth:`probe` sends one packet either way and sees what becomes of it.

    ``keep``: the namespace whose cached path MTUs are part of the lab and stay.
    """

    def __init__(self, built: Built, family: int, ends: Ends, patience: float, keep: str = "") -> None:
        self.built, self.family, self.ends, self.patience, self.keep = built, family, ends, patience, keep
        self.client = built.socket(ends.ns, AF[family], socket.SOCK_DGRAM)
        self.server = built.socket(ends.there, AF[family], socket.SOCK_DGRAM)
        for s in (self.client, self.server):
            s.setblocking(False)
            s.setsockopt(LEVEL[family], IP_RECVERR if family == 4 else IPV6_RECVERR, 1)
        self.client.bind(("", ends.sport))
        self.server.bind((ends.at, ends.dport))
        self.count = 0

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def open(self) -> Seen:
        """The first, small packet; the server then answers to whoever it came from."""
        try:
            self.client.connect((self.ends.to, self.ends.dport))
        except OSError as e:
            return Seen("errno", e.errno)
        seen = self.small(False)
        if seen.how == "whole":
            with contextlib.suppress(OSError):  # no route back: then sending fails as well
                self.server.connect(self.peer[:2])
        return seen

    def small(self, reverse: bool) -> Seen:
        """What becomes of a small packet. The first in a network may be lost where the next is not (somebody was asked
        for too early), so it has several goes."""
        for _ in range(GOES):
            seen = self.probe(reverse, SMALLEST, True)
            if seen.how == "whole":
                break
        return seen

    def probe(self, reverse: bool, size: int, df: bool) -> Seen:
        """What becomes of packets of ``size`` bytes, IP header included.

        A tunnel's end (and any host) may lose the first and learn from it what it tells about the next. So a second one
        is sent, and more as long as somebody has learned something (what a host learned shows when it is first used).
        """
        known = None
        for _ in range(LESSONS):
            seen = self._once(reverse, size, df)
            if seen.how not in ("lost", "pieces") or size == SMALLEST:
                break
            now = self.built.learned(self.keep)
            if now == known:
                break
            known = now
        if seen.how != "whole":
            self.built.forget(self.keep)
        return seen

    def _once(self, reverse: bool, size: int, df: bool) -> Seen:
        giver, taker = (self.server, self.client) if reverse else (self.client, self.server)
        name = IP_MTU_DISCOVER if self.family == 4 else IPV6_MTU_DISCOVER
        giver.setsockopt(LEVEL[self.family], name, DO if df else DONT)
        self._drain(giver, taker)
        before = self.built.fragments()
        data = self._payload(size)
        try:
            giver.send(data)
            return self._outcome(giver, taker, data, before)
        except OSError as e:
            return self._refused(giver, e)

    def own_mtu(self) -> int:
        """How large a packet the client's own kernel lets it send now."""
        return self.client.getsockopt(LEVEL[self.family], IP_MTU if self.family == 4 else IPV6_MTU)

    def _payload(self, size: int) -> bytes:
        self.count += 1
        return struct.pack("=I", self.count).ljust(size - UDP_OVER[self.family], b"x")

    def _refused(self, giver: socket.socket, e: OSError) -> Seen:
        if e.errno == errno.EMSGSIZE:
            return Seen("error", giver.getsockopt(LEVEL[self.family], IP_MTU if self.family == 4 else IPV6_MTU))
        if e.errno == errno.ENOBUFS:  # the peer of our own veth half refused it, and nobody says why
            return Seen("lost")
        return Seen("errno", e.errno)

    def _drain(self, *sockets: socket.socket) -> None:
        for s in sockets:
            with contextlib.suppress(OSError):
                while self._error(s) is not None:
                    pass
            s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            with contextlib.suppress(BlockingIOError):
                while True:
                    with contextlib.suppress(ConnectionError):
                        s.recv(1 << 16)

    def _outcome(self, giver: socket.socket, taker: socket.socket, data: bytes, before: int) -> Seen:
        """What arrives; a small packet behind it says when there is nothing more to wait for."""
        waiting: float | None = None
        end = time.monotonic() + self.patience
        behind = None
        while True:
            error = self._error(giver)
            if error is not None:
                return error
            got = self._arrived(taker)
            if got == data:
                return Seen("pieces" if self.built.fragments() > before else "whole")
            now = time.monotonic()
            if got is not None and got == behind:
                waiting = now + ICMP_TIME * (1 if self.patience < 1 else 5)
            if now > end or (waiting is not None and now > waiting):
                return Seen("lost")
            if behind is None and len(data) + UDP_OVER[self.family] > SMALLEST:
                with contextlib.suppress(OSError):
                    behind = self._payload(SMALLEST)
                    giver.send(behind)
                continue
            select.select([taker], [], [giver], 0.001)

    def _arrived(self, taker: socket.socket) -> bytes | None:
        try:
            data, self.peer = taker.recvfrom(1 << 16)
            return data
        except (BlockingIOError, ConnectionError):
            return None

    def _error(self, giver: socket.socket) -> Seen | None:
        """What stands in the error queue (struct sock_extended_err; who said it stands behind it)."""
        try:
            _, extra, _, _ = giver.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return None
        for _, _, data in extra:
            number, origin, _, _, _, info = struct.unpack_from("=IBBBBI", data)
            by = data[16:]
            name = ""
            if len(by) >= 8 and by[0] == socket.AF_INET:
                name = socket.inet_ntop(socket.AF_INET, by[4:8])
            elif len(by) >= 24 and by[0] == socket.AF_INET6:
                name = socket.inet_ntop(socket.AF_INET6, by[8:24])
            if number == errno.EMSGSIZE and origin in (2, 3):
                return Seen("told", info, name)
            return Seen("errno", number, name)
        return None


def bisect(talk: Talk, reverse: bool, df: bool, top: int) -> tuple[int, dict[int, Seen]]:
    """The largest whole packet below ``top``, by halving; everything that was tried."""
    seen: dict[int, Seen] = {}
    lo, hi = SMALLEST, top
    while hi - lo > 1:
        mid = (lo + hi) // 2
        seen[mid] = talk.probe(reverse, mid, df)
        lo, hi = (mid, hi) if seen[mid].how == "whole" else (lo, mid)
    return lo, seen


def way(talk: Talk, small: Seen, reverse: bool, df: bool, top: int, also: Iterable[int]) -> Way:
    """One direction: its limit, and what becomes of the sizes around it and of ``also``."""
    if small.how != "whole":
        return Way(small)
    limit, seen = bisect(talk, reverse, df, top)
    for size in sorted({limit, limit + 1, top, *also} - seen.keys()):
        if SMALLEST < size <= top:
            seen[size] = talk.probe(reverse, size, df)
    return Way(small, limit, seen)


# -- TCP -------------------------------------------------------------------------------------------------------------


class Listener:
    """A packet socket that keeps the MSS of SYNs: what came in, and what went out."""

    def __init__(self, built: Built, ns: str, family: int) -> None:
        self.family = family
        self.socket = built.socket(ns, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
        self.socket.setblocking(False)

    def read(self) -> list[tuple[bool, int, int, bool, int]]:
        """(came in, source port, destination port, SYN-ACK?, MSS) of every SYN since last time."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, where = self.socket.recvfrom(256)
                syn = _syn(data, self.family) if where[1] in (0x0800, 0x86DD) else None
                if syn:
                    found.append((where[2] != 4, *syn))
        return found


def _syn(data: bytes, family: int) -> tuple[int, int, bool, int] | None:
    if len(data) < TCP_OVER[family] or data[0] >> 4 != family or data[9 if family == 4 else 6] != 6:
        return None
    tcp = data[(data[0] & 15) * 4 if family == 4 else 40 :]
    if not tcp[13] & 2:
        return None
    sport, dport = struct.unpack_from("!HH", tcp)
    at, end, mss = 20, (tcp[12] >> 4) * 4, 0
    while at < min(end, len(tcp) - 1) and tcp[at]:
        if tcp[at] == 1:
            at += 1
            continue
        if tcp[at] == 2:
            mss = struct.unpack_from("!H", tcp, at + 2)[0]
        at += max(tcp[at + 1], 2)
    return sport, dport, bool(tcp[13] & 16), mss


class Streams:
    """TCP conversations between the same two ends."""

    def __init__(self, built: Built, family: int, ends: Ends, patience: float) -> None:
        self.built, self.family, self.ends, self.patience = built, family, ends, patience
        self.here, self.there = Listener(built, ends.ns, family), Listener(built, ends.there, family)

    def _connect(self, mss: int = 0) -> tuple[socket.socket, socket.socket] | None:
        listener = self.built.socket(self.ends.there, AF[self.family], socket.SOCK_STREAM)
        client = self.built.socket(self.ends.ns, AF[self.family], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for s in (listener, client):
            s.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MIN_US, RTO_MIN)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            if mss:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        listener.bind((self.ends.at, self.ends.dport))
        listener.listen()
        listener.settimeout(self.patience)
        client.settimeout(self.patience)
        try:
            client.connect((self.ends.to, self.ends.dport))
            server, _ = listener.accept()
        except OSError:
            client.close()
            return None
        finally:
            listener.close()
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the port is free at once
        return client, server

    def first(self) -> Stream:
        """The handshake, and the MSS that arrives."""
        before = self.built.spaces[self.ends.there].segments()
        made = self._connect()
        said = Stream(syn=self.built.spaces[self.ends.there].segments() > before)
        for came, _, dport, answer, mss in self.there.read():
            if came and not answer and dport == self.ends.dport:
                said.mss_syn = mss
        for came, _, _, answer, mss in self.here.read():
            if came and answer:
                said.mss_synack = mss
        if made:
            said.synack = True
            for s in made:
                s.close()
        return said

    def bulk(self, reverse: bool, mss: int = 0) -> Seen:
        """Full segments, as large as the peers agree on (``mss``: at most that), and a short tail behind them."""
        made = self._connect(mss)
        if made is None:
            return Seen("errno")
        try:
            giver, taker = reversed(made) if reverse else made
            size = giver.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            before = self._mtu(giver)
            arrived = self._through(giver, taker, size * BULK, b"t" * 10)
            after = self._mtu(giver)
            whole = size + TCP_OVER[self.family]
            if not arrived:
                return Seen("lost", whole)
            return Seen("told", after) if after < min(before, whole) else Seen("whole", whole)
        finally:
            for s in made:
                s.close()
            self.built.forget()

    def _mtu(self, s: socket.socket) -> int:
        return s.getsockopt(LEVEL[self.family], IP_MTU if self.family == 4 else IPV6_MTU)

    def _through(self, giver: socket.socket, taker: socket.socket, bulk: int, tail: bytes) -> bool:
        todo, want, got = memoryview(b"x" * bulk + tail), bulk + len(tail), 0
        last = time.monotonic()
        while got < want:
            with contextlib.suppress(BlockingIOError):
                todo = todo[giver.send(todo) :] if todo else todo
            readable, _, _ = select.select([taker], [], [], 0.002)
            if readable:
                got += len(taker.recv(1 << 20))
                last = time.monotonic()
                continue
            info = giver.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
            idle = time.monotonic() - last
            if (info[2] >= HANG and idle > self.patience / 5) or idle > 10 * self.patience:
                return False
        return True

    def close(self) -> None:
        from pathfit.host import rawsock

        for s in (self.here.socket, self.there.socket):
            rawsock.close(s)
