"""Measure between two ends of ours: numbered packets, and a look at both ends which of them arrived.

One thread, one poll, two namespaces: :class:`~pathfit.host.farend.End` holds the sockets of each,
:class:`~pathfit.measure.pair.OneWay` decides what is sent and what it proves. Packets are recognised by a nonce in
their payload, not by addresses (translation on the way). UDP first; where it does not get through, segments beside a
TCP connection: to whoever listens on the asked port, else to a listener of ours there.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Literal, NamedTuple

from pathfit.core.measured import TooBig
from pathfit.core.net import Direction, packet_of
from pathfit.core.request import Measure
from pathfit.host import farend, netns, tcpsock
from pathfit.host.farend import End
from pathfit.measure.pair import FLOWS, PATIENCE, OneWay
from pathfit.measure.shots import Shot
from pathfit.wire import datagram, packets

clock = time.monotonic
Mode = Literal["udp", "tcp"]
Key = tuple[Direction, Mode]
MARK = struct.Struct("!8sBI")  # nonce, direction, number
DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")
OUT, BACK = 0, 1
CONNECTIONS = 2
BESIDE = 16  # bytes beyond snd_nxt: outside the connection's window for errors (probing.md 1), inside for filters
HANDSHAKE = 0.25  # seconds for the connection that only shows what clamps do to a SYN
UDP_BEHIND = 0.3  # seconds it may be behind a connection that stands, besides round trips
AGAIN, SOON_AGAIN = 4, 0.01  # repetitions of what is to be acknowledged; seconds between them, or one and a half RTT
STANDS = 1.7  # seconds for the one that segments are to be sent beside: one SYN may be lost
SOON = 0.3  # and at least so long after it was found to be needed
KEPT = 64  # ICMP errors remembered
MOST_SYNS = 4096
MASK = 0xFFFFFFFF
FALLBACK = 1500  # bytes: a device that does not tell its MTU
UDP_HEAD = {4: 28, 6: 48}


class Line(NamedTuple):
    """One end of a flow: what to write into a packet sent from here. ``seq``, ``ack``: of TCP."""

    src: bytes
    dst: bytes
    sport: int
    dport: int
    to: str
    seq: int = 0
    ack: int = 0


class Refused(NamedTuple):
    """An ICMP "unreachable" about a packet of ours."""

    by: str
    type: int
    code: int


class Pair:
    """``run`` once, then ``close``. Raises OSError when the sockets cannot be made. ``connects``: the asked port is
    known to accept connections, so that one is worth waiting for."""

    def __init__(self, fd: int | None, far: int | None, request: Measure, *, connects: bool = False) -> None:
        self.request, self.address, self.connects = request, request.address, connects
        self.family: Literal[4, 6] = 6 if ":" in request.address else 4
        self.nonce = os.urandom(8)
        self.start = clock()
        self.ends: list[End] = []
        try:
            self._open(fd, far)
        except BaseException:
            self.close()
            raise
        self.ways: dict[Key, OneWay] = {("forward", "udp"): self._way("forward", "udp", self.ceiling)}
        self.lines: dict[Key, dict[int, Line]] = {("forward", "udp"): self._outward(), ("reverse", "udp"): {}}
        self.lines |= {("forward", "tcp"): {}, ("reverse", "tcp"): {}}
        self.far_mtu: int | None = None
        self.back_ceiling = FALLBACK
        self.seen_from: str | None = None  # our address as it arrives there
        self.invited: int | None = None
        self.offered: int | None = None
        self.stands: float | None = None  # when the first connection stood
        self.now = self.start
        self.again: dict[Direction, tuple[int, float]] = {}  # how often the largest was sent again, and when last
        self.syns: dict[int, int] = {}  # what SYNs that came to the far end invite, by sequence number
        self.acks: dict[tuple[int, int], Line] = {}  # and acknowledgements, by both numbers
        self.near_ports = {farend.port_of(s) for s in self.near.tcp}
        self.accepted: list[socket.socket] = []
        self.connecting = 0
        self.tcp_wanted: float | None = self.start if request.port else None  # asked is TCP
        self.sacked: dict[Direction, int] = {}  # largest segment the receiving kernel says it has
        self.too_big: list[TooBig] = []
        self.heard: set[tuple[Direction, int]] = set()  # "too big" (mtu) that the kernel of that end has heard
        self.errors: list[Refused] = []
        self.packets = 0
        self.poll = select.poll()
        for s in (*self.near.sockets(), *self.far.sockets(), *([self.listener] if self.listener else [])):
            self.poll.register(s, select.POLLIN)

    def _open(self, fd: int | None, far: int | None) -> None:
        r = self.request
        with netns.inside(fd):
            local = farend.local_address(self.family, r.address)
            self.near_mtu = tcpsock.path_mtu(self.family, r.address, r.port)
            self.ceiling = min(farend.device_mtu(self.family, r.address) or self.near_mtu or FALLBACK, farend.LARGEST)
        self.near = End(fd, self.family, local)
        self.ends.append(self.near)
        self.near.add_udp(FLOWS)
        self.near.add_tcp(CONNECTIONS)
        self.far = End(far, self.family, r.address)
        self.ends.append(self.far)
        self.far.add_udp(1, r.port)
        self.listener = self.far.listen(r.port)
        self.tcp_port = r.port if self.listener is None else farend.port_of(self.listener)
        self.near.watch()
        self.far.watch(self.tcp_port)
        self.port = farend.port_of(self.far.udp[0])
        self.ports = {i: farend.port_of(s) for i, s in enumerate(self.near.udp)}

    def _way(self, tests: Direction, mode: Mode, ceiling: int) -> OneWay:
        return OneWay(
            tests=tests,
            method=f"{mode}-pair",
            family=self.family,
            ceiling=min(ceiling, self.request.ceiling or ceiling),
            start=clock(),
            floor=self.request.floor,
            budget=self.request.budget,
            split=mode == "udp",
            patience=min(PATIENCE, self.request.connect),
        )

    def _outward(self) -> dict[int, Line]:
        near, far = self.near, self.far
        return {i: Line(near.packed, far.packed, p, self.port, self.address) for i, p in self.ports.items()}

    # -- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.ways["forward", "udp"].flows = set(self.ports)
        for _ in range(CONNECTIONS if self.request.port else 1):
            self._connect()
        while True:
            now = clock()
            self._advance(now)
            busy = [w for w in self.ways.values() if not w.done]
            if not busy and not (self._handshake_awaited(now) or self._tcp_awaited(now) or self._sack_awaited(now)):
                return
            for key, way in list(self.ways.items()):
                for shot in way.step(now):
                    self._send(key, way, shot)
            self._wait(min([w.pause(now) for w in busy], default=0.005))

    def _advance(self, now: float) -> None:
        """Which direction is measured how, now that this much is known."""
        out, back = self.ways["forward", "udp"], self.ways.get(("reverse", "udp"))
        if self.lines["reverse", "udp"]:
            if back is None:
                self._back(self.seen_from or "")
                back = self.ways["reverse", "udp"] = self._way("reverse", "udp", self.back_ceiling)
            back.flows = set(self.lines["reverse", "udp"])
        self._without_udp(now)
        closed = out.done and not out.open
        if self.tcp_wanted is None and (closed or (back is not None and back.done and not back.open)):
            self.tcp_wanted = now
            self._connect()
        if self.tcp_wanted is not None and self.stood:
            for tests in DIRECTIONS:
                udp = self.ways.get((tests, "udp"))
                if self.lines[tests, "tcp"] and (self.request.port or udp is None or (udp.done and not udp.open)):
                    self._beside(tests)

    @property
    def stood(self) -> bool:
        """A connection of ours stands: what came back was handed on, and did not only come in at the door."""
        return any(farend.stands(s) for s in self.near.tcp)

    def _without_udp(self, now: float) -> None:
        """A connection stands, and for a while nothing comes by UDP: something lets only TCP pass."""
        if self.stands is None or now < self._long_stood(self.stands):
            return
        for tests in DIRECTIONS:
            way = self.ways.get((tests, "udp"))
            if way is not None and not way.open and not way.done and now - way.start > UDP_BEHIND:
                way.give_up("nothing-arrives")

    def _long_stood(self, stands: float) -> float:
        """From when on what has not come beside a connection, which stands since ``stands``, does not come."""
        return stands + UDP_BEHIND + 4 * (stands - self.start)

    def taught(self) -> dict[Direction, int]:
        """Path MTUs that the kernel of an end has learned since, although we send nothing it should learn from: a
        tunnel of its own namespace tells it on the spot (skb_tunnel_check_pmtu())."""
        found: dict[Direction, int] = {}
        ends: tuple[tuple[Direction, End, str | None, int | None], ...] = (
            ("forward", self.near, self.address, self.near_mtu),
            ("reverse", self.far, self.seen_from, self.far_mtu),
        )
        for tests, end, towards, before in ends:
            if towards is None or before is None:
                continue
            with netns.inside(end.fd):
                now = tcpsock.path_mtu(self.family, towards, 9)
            if now is not None and now < before:
                found[tests] = now
        return found

    def _beside(self, tests: Direction) -> None:
        """Segments beside the connections that stand, in this direction."""
        if (tests, "tcp") not in self.ways:
            if tests == "reverse" and self.far_mtu is None:
                self._back(self.seen_from or "")
            self.ways[tests, "tcp"] = self._way(tests, "tcp", self.ceiling if tests == "forward" else self.back_ceiling)
        self.ways[tests, "tcp"].flows = set(self.lines[tests, "tcp"])

    def _back(self, towards: str) -> None:
        """What the far end itself would send to us, before the first large packet."""
        with netns.inside(self.far.fd):
            self.far_mtu = tcpsock.path_mtu(self.family, towards, 9)
            device = farend.device_mtu(self.family, towards)
        self.back_ceiling = min(device or self.far_mtu or FALLBACK, farend.LARGEST)

    def _connect(self) -> None:
        """One more connection to our own listener."""
        if self.connecting < CONNECTIONS:
            tcpsock.connect(self.near.tcp[self.connecting], self.address, self.tcp_port)
            self.connecting += 1

    def _handshake_awaited(self, now: float) -> bool:
        """Sizes are missing, and what clamps do to a SYN is not known yet."""
        if self.invited is not None and self.offered is not None:
            return False
        limited = any(w.passed < w.ceiling for w in self.ways.values() if w.open)
        return limited and now < self._shaken(HANDSHAKE)

    def _sack_awaited(self, now: float) -> bool:
        """Segments have come in, and the kernel there has not said yet that it has the largest: it is sent again,
        a few times, for the answer may be on its way or lost."""
        for (tests, mode), way in self.ways.items():
            if mode != "tcp" or not way.open or self.sacked.get(tests, 0) >= way.passed:
                continue
            tries, last = self.again.setdefault(tests, (0, now))
            if tries > AGAIN:
                continue
            if now - last >= max(3 * (way.delay or 0.0), SOON_AGAIN):
                self.again[tests] = (tries + 1, now)
                self._send((tests, "tcp"), way, next(s for s in way.shots if s.size == way.passed))
            return True
        return False

    def _shaken(self, patience: float) -> float:
        """When a handshake should be over, by the delay of what arrives."""
        return self.start + patience + 4 * max((w.delay or 0.0 for w in self.ways.values()), default=0.0)

    def _tcp_awaited(self, now: float) -> bool:
        if self.tcp_wanted is None:
            return False
        # The first SYN went out at the beginning, its repetition a second later.
        until = max(self.start + min(STANDS, self.request.connect, self.request.budget), self.tcp_wanted + SOON)
        soon = any(w.open for w in self.ways.values()) and not self.connects
        if now > (self._shaken(HANDSHAKE) if soon else until):
            return False
        known = [tests for tests in DIRECTIONS if (tests, "tcp") in self.ways]
        if known and self.stands is not None:  # what the other end knows ours by, it may never see (translated numbers)
            return len(known) < len(DIRECTIONS) and now < self._long_stood(self.stands)
        return not known

    # -- sending ---------------------------------------------------------------------------------------------

    def _send(self, key: Key, way: OneWay, shot: Shot) -> None:
        end = self.near if key[0] == "forward" else self.far
        line = self.lines[key].get(shot.flow)
        if line is None:
            way.unsent(shot.seq)
            return
        for packet in self._packets(key, line, way, shot):
            self.packets += 1
            how = farend.send(end, packet, line.to)
            if how == "local":
                way.local(shot.seq)
            elif how == "refused":
                way.refused(shot.seq)
            elif how == "full":
                way.unsent(shot.seq)

    def _packets(self, key: Key, line: Line, way: OneWay, shot: Shot) -> list[bytes]:
        mark = MARK.pack(self.nonce, OUT if key[0] == "forward" else BACK, shot.seq)
        ident = shot.seq & 0xFFFF
        if key[1] == "tcp":
            head = 20 if self.family == 4 else 40
            data = mark.ljust(shot.size - head - 20, b"\0")
            flow = line.src, line.dst, line.sport, line.dport
            return [packets.tcp_data(*flow, line.seq + BESIDE, line.ack, data, ident)]
        payload = mark.ljust(shot.size - UDP_HEAD[self.family], b"\0")
        udp = datagram.datagram(line.src, line.dst, line.sport, line.dport, payload)
        if shot.kind == "fragments":
            return datagram.fragments(line.src, line.dst, udp, ident, way.pieces()[1])
        return [datagram.packet(line.src, line.dst, udp, ident, df=shot.kind == "df")]

    # -- receiving -------------------------------------------------------------------------------------------

    def _wait(self, pause: float) -> None:
        self.poll.poll(max(pause, 0.0) * 1000)
        self.now = clock()
        # The doors first: whether a datagram came in pieces must be known when it is counted.
        for end in self.ends:
            if end.door is not None:
                for data, link in farend.arrivals(end.door):
                    self._at_door(end, data, link)
            for message in farend.errors_heard(end):
                self._heard(end, message)
        for s in self.far.udp:
            farend.receive(s, self._out)
        for s in self.near.udp:
            farend.receive(s, self._in)
        if self.listener is not None:
            taken = farend.accept(self.listener)
            if taken is not None:
                self.accepted.append(taken)

    def _marked(self, data: bytes, at: int, wanted: int) -> int | None:
        """The number in the mark at ``at``; None when it is no packet of ours in direction ``wanted``."""
        if len(data) < at + MARK.size:
            return None
        nonce, which, seq = MARK.unpack_from(data, at)
        return seq if nonce == self.nonce and which == wanted else None

    def _out(self, data: bytes, where: tuple[str, int]) -> None:
        """A datagram has arrived there: now we know how we look from there, and may answer."""
        seq = self._marked(data, 0, OUT)
        way = self.ways["forward", "udp"]
        if seq is None or not 0 < seq <= len(way.shots):
            return
        way.arrived(self.now, seq, len(data) + UDP_HEAD[self.family])
        flow = way.shots[seq - 1].flow
        self.seen_from = self.seen_from or where[0]
        if flow not in self.lines["reverse", "udp"]:
            packed = socket.inet_pton(farend.AF[self.family], where[0])
            self.lines["reverse", "udp"][flow] = Line(self.far.packed, packed, self.port, where[1], where[0])

    def _in(self, data: bytes, where: tuple[str, int]) -> None:
        seq = self._marked(data, 0, BACK)
        way = self.ways.get(("reverse", "udp"))
        if seq is not None and way is not None:
            way.arrived(self.now, seq, len(data) + UDP_HEAD[self.family])

    def _at_door(self, end: End, data: bytes, link: str) -> None:
        ip = packets.parse_ip(data)
        if ip is None or ip.fragment:
            return
        if ip.protocol in (packets.ICMP, packets.ICMPV6):
            self._icmp(end, data, ip, link)
        elif ip.protocol == packets.UDP:
            self._count(end, "udp", data, ip.at + 8, ip.size)
        elif ip.protocol == packets.TCP:
            self._tcp(end, data, ip)

    def _count(self, end: End, mode: Mode, data: bytes, at: int, size: int) -> bool:
        tests: Direction = "forward" if end is self.far else "reverse"
        way = self.ways.get((tests, mode))
        seq = self._marked(data, at, OUT if end is self.far else BACK)
        if seq is None or way is None:
            return seq is not None
        way.arrived(self.now, seq, size, door=mode == "udp", cut=datagram.in_pieces(data))
        return True

    def _tcp(self, end: End, data: bytes, ip: packets.Ip) -> None:
        tcp = packets.parse_tcp(data, ip.at)
        if tcp is None or tcp.flags & packets.RST:
            return
        if self._count(end, "tcp", data, ip.at + tcp.length, ip.size):
            if end is self.far and tcp.dport == self.tcp_port:  # its mark tells as much as the acknowledgement, if lost
                self._acknowledged(ip, tcp, (tcp.seq - BESIDE) & MASK)
            return
        self._acked(end, tcp)
        syn, ack = bool(tcp.flags & packets.SYN), bool(tcp.flags & packets.ACK)
        if end is self.near and syn and ack:
            self._synack(ip, tcp)
        elif end is self.far and tcp.dport == self.tcp_port and syn != ack:
            self._from_near(ip, tcp)

    def _synack(self, ip: packets.Ip, tcp: packets.Tcp) -> None:
        """The answer to a SYN of ours (nobody else has these ports): one end of a flow, and what it invites."""
        if tcp.dport not in self.near_ports or tcp.sport != self.tcp_port:
            return
        self.offered = self.offered or packet_of(self.family, tcp.mss or 536)
        self.stands = self.stands or self.now
        line = Line(ip.dst, ip.src, tcp.dport, tcp.sport, self.address, tcp.ack, (tcp.seq + 1) & MASK)
        known = self.lines["forward", "tcp"]
        if line not in known.values():
            known[len(known)] = line
            self._recognise()

    def _from_near(self, ip: packets.Ip, tcp: packets.Tcp) -> None:
        """A SYN, or an acknowledgement without one. Others may talk to that port: a connection is ours only when both
        its sequence numbers are (64 bits that our own end knows from its SYN-ACK); no packet is sent into another."""
        if tcp.flags & packets.SYN:
            if len(self.syns) < MOST_SYNS:
                self.syns[tcp.seq] = packet_of(self.family, tcp.mss or 536)
            self._recognise()
        else:
            self._acknowledged(ip, tcp, tcp.seq)

    def _acknowledged(self, ip: packets.Ip, tcp: packets.Tcp, seq: int) -> None:
        """What came to the far end, sent at ``seq``, is one end of a flow as it looks from there."""
        if len(self.acks) < MOST_SYNS:
            text = socket.inet_ntop(farend.AF[self.family], ip.src)
            line = Line(ip.dst, ip.src, tcp.dport, tcp.sport, text, tcp.ack, seq)
            self.acks.setdefault((line.ack, line.seq), line)
        self._recognise()

    def _recognise(self) -> None:
        """Which of what has come to the far end is ours."""
        back = self.lines["reverse", "tcp"]
        for line in self.lines["forward", "tcp"].values():
            self.invited = self.invited or self.syns.get((line.seq - 1) & MASK)
            theirs = self.acks.get((line.seq, line.ack))
            if theirs is not None and theirs not in back.values():
                back[len(back)] = theirs
                self.seen_from = self.seen_from or theirs.to

    def _acked(self, end: End, tcp: packets.Tcp) -> None:
        """SACK of segments sent from this end: what their receiver's kernel has, and not only its door."""
        tests: Direction = "forward" if end is self.near else "reverse"
        head = 40 if self.family == 4 else 60
        for line in self.lines[tests, "tcp"].values():
            if (tcp.dport, tcp.sport) == (line.sport, line.dport):
                sizes = [((right - line.seq - BESIDE) & MASK) + head for _, right in tcp.sacks]
                known = [size for size in sizes if head < size <= farend.LARGEST]
                self.sacked[tests] = max([self.sacked.get(tests, 0), *known])

    def _icmp(self, end: End, data: bytes, ip: packets.Ip, link: str) -> None:
        icmp = packets.parse_icmp(data, ip.at, self.family)
        if icmp is None or not packets.is_error(self.family, icmp.type):
            return
        quoted = packets.parse_ip(icmp.quoted)
        if quoted is None:
            return
        tests: Direction = "forward" if end is self.near else "reverse"
        way = self.ways.get((tests, "tcp" if quoted.protocol == packets.TCP else "udp"))
        seq = self._quoted(tests, icmp.quoted, quoted)
        by = socket.inet_ntop(farend.AF[self.family], ip.src)
        if icmp.mtu is not None:
            self._told(tests, way, seq, icmp.mtu, by, quoted.size, link)
        elif seq is not None and way is not None and icmp.type != 11 and icmp.type == (3 if self.family == 4 else 1):
            way.refused(seq)
            if len(self.errors) < KEPT:
                self.errors.append(Refused(by, icmp.type, icmp.code))

    def _heard(self, end: End, message: bytes) -> None:
        icmp = packets.parse_icmp(message, 0, self.family)
        if icmp is not None and icmp.mtu is not None:
            self.heard.add(("forward" if end is self.near else "reverse", icmp.mtu))

    def _quoted(self, tests: Direction, data: bytes, quoted: packets.Ip) -> int | None:
        """The number of the packet of ours that an error quotes: by our mark where enough is quoted, over IPv4 by the
        packet's identification; None when it is none of ours."""
        mode: Mode = "tcp" if quoted.protocol == packets.TCP else "udp"
        lines = self.lines[tests, mode].values()
        ports = packets.parse_ports(data, quoted.at) if not quoted.fragment else None
        if not any(quoted.dst == x.dst for x in lines):
            return None
        if ports is not None and not any(ports[:2] == (x.sport, x.dport) for x in lines):
            return None
        seq = self._marked(data, quoted.at + (20 if mode == "tcp" else 8), OUT if tests == "forward" else BACK)
        way = self.ways.get((tests, mode))
        if seq is None and self.family == 4 and way is not None and 0 < quoted.ident <= len(way.shots):
            return quoted.ident
        return seq

    def _told(
        self, tests: Direction, way: OneWay | None, seq: int | None, mtu: int, by: str, size: int, link: str
    ) -> None:
        shot = way.shots[seq - 1] if way is not None and seq is not None and 0 < seq <= len(way.shots) else None
        size = shot.size if shot is not None else size
        sane = (68 if self.family == 4 else 1280) <= mtu < size
        fact = TooBig(by=by, mtu=mtu, size=size, ours=shot is not None, sane=sane, link=link, tests=tests)
        same = ((f.tests, f.by, f.mtu, f.ours, f.sane) for f in self.too_big)
        if len(self.too_big) < KEPT and (tests, by, mtu, fact.ours, sane) not in same:
            self.too_big.append(fact)
        if shot is not None and sane and way is not None:
            way.told(shot.seq, mtu, by)

    def close(self) -> None:
        """Close everything, whatever happened."""
        for end in self.ends:
            end.close()
        for s in getattr(self, "accepted", ()):
            s.close()
