"""The hands of the forward search: kernel connections, segments injected beside them, SACKs read back.

Trap 1 of probing.md: measuring must not heal. What is injected lies beyond snd_nxt of the kernel's socket, so a
"too big" that comes back fails the between(seq, snd_una, snd_nxt) check of tcp_v4_err/tcp_v6_err and leaves no
path MTU exception; the raw socket is IPPROTO_RAW with PMTUDISC_INTERFACE, for which the kernel keeps none either.
"""

from __future__ import annotations

import select
import socket

from pathfit.core.measured import Attempt, Bracket
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS, packet_of
from pathfit.core.request import Measure
from pathfit.host import netns, rawsock, tcpsock
from pathfit.measure.forward import Forward, Inject, OpenLane
from pathfit.probe.conn import reading
from pathfit.probe.lookout import Heard, Lookout
from pathfit.wire import packets

SYNACK_WAIT = 0.2  # seconds between the connection standing and its SYN-ACK being read from the packet socket
MASK = 0xFFFFFFFF


class Seat:
    """One lane's kernel connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.connected: float | None = None
        self.ready = False
        self.port = 0
        self.local = b""
        self.seq = 0  # snd_nxt
        self.ack = 0
        self.ts: tuple[int, int] | None = None


class Ahead:
    """Drives one :class:`~pathfit.measure.forward.Forward`. ``packets``/``connections`` count what it cost."""

    def __init__(self, fd: int | None, request: Measure, family: int, lookout: Lookout, epoll: select.epoll) -> None:
        from pathfit.probe.engine import clock

        self.netns, self.request, self.family = fd, request, family
        self.lookout, self.epoll = lookout, epoll
        self.search = Forward(
            family=family, start=clock(), floor=request.floor, budget=request.budget, ceiling=request.ceiling
        )
        self.seats: dict[int, Seat] = {}
        self.packets = self.connections = 0
        self.address = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, request.address)
        with netns.inside(fd):
            self.raw = rawsock.sender(family)
        self.ident = 0
        lookout.on_ack = self._ack
        lookout.on_too_big = self._told

    # -- called by the engine --------------------------------------------------------------------------------

    def idle(self, now: float) -> bool:
        return self.search.finished

    def done(self, now: float) -> bool:
        return self.search.finished

    def pause(self, now: float) -> float:
        return self.search.pause(now) if not self.search.finished else 1.0

    def step(self, now: float) -> None:
        """Carry out what the search wants."""
        self._sit(now)
        for command in self.search.step(now):
            if isinstance(command, OpenLane):
                self._open(command.lane)
            else:
                self._inject(command)

    def event(self, fd: int, now: float) -> None:
        """A kernel connection became writable, or ended."""
        for lane, seat in self.seats.items():
            if seat.fd != fd:
                continue
            code = tcpsock.error(seat.sock)
            if code or seat.ready:
                self._drop(lane, seat, "connection-ended" if seat.ready else "no-connection")
            else:
                self.epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLET)
                seat.connected = seat.connected or now
            return

    def brackets(self, now: float) -> tuple[Bracket, ...]:
        return (self.search.bracket(),)

    def attempts(self, start: float, first: int = 1) -> list[Attempt]:
        return list(self.search.attempts(first, start))

    def close(self) -> None:
        for seat in self.seats.values():
            seat.sock.close()
        self.raw.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _open(self, lane: int) -> None:
        with netns.inside(self.netns):
            sock = tcpsock.tcp(self.family)
        seat = Seat(sock)
        self.seats[lane] = seat
        self.connections += 1
        if tcpsock.connect(sock, self.request.address, self.request.port):
            self.search.failed(lane, "no-connection")
            return
        name = sock.getsockname()
        seat.port = name[1]
        seat.local = socket.inet_pton(socket.AF_INET6 if self.family == 6 else socket.AF_INET, name[0].split("%")[0])
        self.epoll.register(sock.fileno(), select.EPOLLOUT)

    def _drop(self, lane: int, seat: Seat, why: str) -> None:
        self.search.failed(lane, why)
        try:
            self.epoll.unregister(seat.fd)
        except (OSError, ValueError):
            pass

    def _sit(self, now: float) -> None:
        """Lanes whose connection stands and whose SYN-ACK was seen may be used."""
        for lane, seat in self.seats.items():
            if seat.connected is None or seat.ready or self.search.lanes[lane].dead:
                continue
            heard = self.lookout.synacks.get(seat.port)
            if heard is None:
                # Redirected on this very host (a sidecar): it answers from another address (probing.md 8).
                if now - seat.connected > SYNACK_WAIT:
                    self._drop(lane, seat, "no-synack-seen")
                continue
            self._ready(now, lane, seat, heard)

    def _ready(self, now: float, lane: int, seat: Seat, heard: Heard) -> None:
        info = reading(tcpsock.info(seat.sock))
        seat.seq, seat.ack = heard.tcp.ack, (heard.tcp.seq + 1) & MASK
        if heard.tcp.ts is not None and info.timestamps:
            # Their echo is the clock of our own SYN: anything from it on is fresh enough for PAWS (RFC 7323 5).
            seat.ts = ((heard.tcp.ts[1] + 1) & MASK, heard.tcp.ts[0])
        head = IP_HEADER[self.family] + TCP_HEADER
        ours = info.snd_mss + head + (TIMESTAMPS if info.timestamps else 0)
        offered = packet_of(self.family, heard.tcp.mss or 536)  # type: ignore[arg-type]
        seat.ready = True
        self.search.ready(
            now,
            lane,
            timestamps=seat.ts is not None,
            sack=heard.tcp.sack_ok,
            offered=offered,
            sendable=ours,
            rtt=info.rtt,
            window=heard.tcp.window,
            port=seat.port,
        )

    def _inject(self, command: Inject) -> None:
        seat = self.seats[command.lane]
        self.ident = (self.ident + 1) & 0xFFFF
        seq = (seat.seq + command.offset) & MASK
        packet = packets.tcp_segment(
            seat.local,
            self.address,
            seat.port,
            self.request.port,
            seq=seq,
            ack=seat.ack,
            size=command.size,
            ts=seat.ts,
            ident=self.ident,
        )
        # One sequence number carries many sizes; the quoted header's own length tells them apart.
        self.lookout.sizes[(seat.port, seq)] = 0
        self.packets += 1
        if rawsock.send(self.raw, packet, self.request.address) == "local":
            self.search.local(command.lane, command.size)

    def _ack(self, heard: Heard) -> None:
        for lane, seat in self.seats.items():
            if seat.port == heard.tcp.dport and seat.ready:
                blocks = [((left - seat.seq) & MASK, (right - seat.seq) & MASK) for left, right in heard.tcp.sacks]
                self.search.acked(heard.at, lane, blocks)
                return

    def _told(self, size: int, mtu: int, port: int, by: str) -> None:
        for lane, seat in self.seats.items():
            if seat.port == port:
                self.search.told(lane, size, mtu, by)
                return
