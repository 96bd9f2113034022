"""The hands of the forward search: connections, segments injected beside them, SACKs read back."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable

from pathfit.core.measured import Attempt, Bracket, SideEffect, Uneven
from pathfit.core.request import Measure
from pathfit.host import netns, rawsock, tcpsock
from pathfit.measure.evenly import Evenly, wanted
from pathfit.measure.forward import Forward, Inject, OpenLane
from pathfit.probe.lookout import Heard, Lookout
from pathfit.probe.tcp.seat import Seat

SYNACK_WAIT = 0.2  # seconds between the connection standing and its SYN-ACK being read from the packet socket


class Ahead:
    """Drives one :class:`~pathfit.measure.forward.Forward`, and when ``idle`` says that nothing else is asked, the
    question whether that is so for every connection (``idle`` None: not at all, ``holes`` False: not of a hole).
    ``packets``/``connections`` count what it cost."""

    def __init__(
        self,
        fd: int | None,
        request: Measure,
        family: int,
        lookout: Lookout,
        epoll: select.epoll,
        now: float,
        idle: Callable[[], bool] | None,
        *,
        holes: bool = True,
    ) -> None:
        self.netns, self.request = fd, request
        self.lookout, self.epoll = lookout, epoll
        self.search = Forward(
            family=family, start=now, floor=request.floor, budget=request.budget, ceiling=request.ceiling
        )
        self.idle, self.holes = idle, holes
        self.before: Forward | None = None  # the search, once the question after it is being asked
        self.seats: dict[int, Seat] = {}
        self.packets = self.connections = 0
        self.left = False
        with netns.inside(fd):
            self.raw = rawsock.sender(family)
        lookout.on_ack = self._ack
        lookout.on_too_big = self._told

    def abandon(self, note: str) -> None:
        """Nothing connects: do not wait for lanes any longer."""
        if not any(seat.ready for seat in self.seats.values()):
            self.search.give_up(note)

    @property
    def done(self) -> bool:
        if not self.search.finished or self.idle is None or self.before is not None:
            return self.search.finished
        found = self.search.bracket()
        return not wanted(found) or (found.fails is not None and not self.holes)

    def pause(self, now: float) -> float:
        """Seconds until the next step is worth while."""
        return self.search.pause(now) if not self.search.finished else 1.0

    def hints(self) -> set[int]:
        """Sizes worth asking for inwards as well."""
        return (self.before or self.search).hints()

    def step(self, now: float) -> None:
        """Carry out what the search wants. When it is over the lanes are given back: a server that serves one
        connection at a time waits for what we never say."""
        if self.search.finished:
            self._leave()
            if not self.done and self.idle is not None and self.idle():
                self.before, self.search = self.search, Evenly.after(self.search, now)
                self.seats, self.left = {}, False
            return
        self._sit(now)
        for command in self.search.step(now):
            if isinstance(command, OpenLane):
                self._open(command.lane)
            else:
                self._inject(command, now)

    def event(self, fd: int, now: float) -> None:
        """A kernel connection became writable, or ended."""
        for lane, seat in self.seats.items():
            if seat.fd != fd or self.left:
                continue
            code = tcpsock.error(seat.sock)
            if code or seat.ready:
                self._drop(lane, seat, "connection-ended" if seat.ready else "no-connection")
            else:
                self.epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLET)
                seat.connected = seat.connected or now
            return

    def brackets(self) -> tuple[Bracket, ...]:
        if self.before is None or not isinstance(self.search, Evenly):
            return (self.search.bracket(),)
        return (self.search.corrected(self.before.bracket()),)

    def uneven(self) -> Uneven | None:
        """Connections that fare differently."""
        return self.search.uneven() if isinstance(self.search, Evenly) else None

    def attempts(self, start: float, first: int = 1) -> list[Attempt]:
        before = list(self.before.attempts(first, start)) if self.before is not None else []
        return [*before, *self.search.attempts(first + len(before), start)]

    def side_effects(self) -> tuple[SideEffect, ...]:
        """None: what is injected lies outside the window (:mod:`pathfit.probe.tcp.seat`)."""
        return ()

    def close(self) -> None:
        self._leave()
        self.raw.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        if not self.left:
            self.left = True
            for seat in self.seats.values():
                seat.close()

    def _open(self, lane: int) -> None:
        seat = Seat(self.netns, self.request.address, self.request.port)
        self.seats[lane] = seat
        self.connections += 1
        if seat.failed:
            self.search.failed(lane, "no-connection")
        else:
            self.epoll.register(seat.fd, select.EPOLLOUT)

    def _drop(self, lane: int, seat: Seat, why: str) -> None:
        self.search.failed(lane, why)
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(seat.fd)

    def _sit(self, now: float) -> None:
        """Lanes whose connection stands and whose SYN-ACK was seen may be used."""
        for lane, seat in self.seats.items():
            if seat.connected is None or seat.ready or self.search.lanes[lane].dead:
                continue
            if not seat.take(self.lookout):
                # Redirected on this very host (a sidecar): it answers from another address (probing.md 8).
                if now - seat.connected > SYNACK_WAIT:
                    self._drop(lane, seat, "no-synack-seen")
                continue
            self.search.ready(
                now,
                lane,
                timestamps=seat.ts is not None,
                sack=seat.sack,
                offered=seat.offered,
                sendable=seat.sendable,
                rtt=seat.rtt,
                window=seat.window,
                port=seat.local_port,
            )

    def _inject(self, command: Inject, now: float) -> None:
        self.packets += 1
        if self.seats[command.lane].inject(self.raw, self.lookout, command.size, command.offset, now) == "local":
            self.search.local(command.lane, command.size)

    def _ack(self, heard: Heard) -> None:
        for lane, seat in self.seats.items():
            if seat.local_port == heard.tcp.dport and seat.ready:
                self.search.acked(heard.at, lane, seat.offsets(heard))
                return

    def _told(self, size: int, mtu: int, port: int, by: str) -> None:
        for lane, seat in self.seats.items():
            if seat.local_port == port:
                self.search.told(lane, size, mtu, by)
                return
