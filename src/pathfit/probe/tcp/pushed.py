"""The hands of the forward search without privileges: ordinary sockets, written in pieces, looked at with TCP_INFO.

What is written is the beginning of a request that is never finished, so that the target has nothing to answer: every
packet that comes back is a bare acknowledgement, and a hole on the way in cannot be taken for one on the way out.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pathfit.core.measured import Attempt, Bracket, SideEffect
from pathfit.core.request import Measure
from pathfit.host import netns, tcpsock
from pathfit.measure.segments import PAIR, WIDE, Facts, Segments
from pathfit.measure.track import ESTABLISHED
from pathfit.wire import tcpinfo

if TYPE_CHECKING:
    from pathfit.probe.speech.talk import Script
    from pathfit.probe.tcp.idle import Idle

EXCEPTION_LASTS = 600.0  # seconds: net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires
LINE = 900  # bytes of one padding header; servers take lines of several kB
RECORD = 16384  # bytes: the largest TLS record (RFC 8446 5.1)
QUESTION = 65535  # bytes the DNS message claims to have; nor so far
HELLO = 65000  # bytes the ClientHello claims to have; we never come so far


def facts(data: bytes) -> Facts:
    """The fields of struct tcp_info a lane lives on."""
    u32, u64, n = tcpinfo.U32, tcpinfo.U64, len(data)
    return Facts(
        established=data[tcpinfo.STATE] == ESTABLISHED,
        timestamps=bool(data[tcpinfo.OPTIONS] & tcpinfo.OPT_TIMESTAMPS),
        snd_mss=u32(data, tcpinfo.SND_MSS)[0],
        pmtu=u32(data, tcpinfo.PMTU)[0],
        acked=max(0, u64(data, tcpinfo.BYTES_ACKED)[0] - 1) if n >= tcpinfo.BYTES_ACKED + 8 else 0,
        sacked=u32(data, tcpinfo.SACKED)[0],
        notsent=u32(data, tcpinfo.NOTSENT)[0] if n >= tcpinfo.NOTSENT + 4 else 0,
        rtt=u32(data, tcpinfo.RTT)[0] / 1e6,
        retrans=u32(data, tcpinfo.TOTAL_RETRANS)[0],
        window=u32(data, tcpinfo.SND_WND)[0] if n >= tcpinfo.SND_WND + 4 else None,
    )


def beginning(script: Script) -> Iterator[int]:
    """The bytes of a request that never ends: HTTP header lines, a ClientHello with a long padding extension, or a DNS
    message of the largest length."""
    if script.protocol == "dns":
        return iter(QUESTION.to_bytes(2, "big") + bytes(QUESTION))
    if script.protocol == "https" and not script.proxy:
        return _hello(script.sni)
    return _header(script)


def _header(script: Script) -> Iterator[int]:
    if script.proxy and script.protocol == "https":
        first = f"CONNECT {script.proxy} HTTP/1.1\r\nHost: {script.proxy}\r\n"
    else:
        path = script.path or "/"
        first = f"HEAD {f'http://{script.proxy}{path}' if script.proxy else path} HTTP/1.1\r\nHost: {script.host}\r\n"
    yield from first.encode("utf-8", "surrogateescape")
    while True:
        yield from b"X-Padding: " + b"p" * LINE + b"\r\n"


def _hello(sni: str | None) -> Iterator[int]:
    """RFC 8446 4.1.2, the padding of RFC 7685; split into records of the largest size."""
    name = (sni or "").encode("idna") if sni else b""
    extensions = b""
    if name:
        entry = b"\0" + len(name).to_bytes(2) + name
        listed = len(entry).to_bytes(2) + entry
        extensions = b"\0\0" + len(listed).to_bytes(2) + listed
    extensions += b"\0\x2b\0\x03\x02\x03\x04"  # supported versions: 1.3
    fixed = b"\x03\x03" + os.urandom(32) + b"\0" + b"\0\x04\x13\x01\x13\x02" + b"\x01\0"
    left = HELLO - len(fixed) - 2 - len(extensions) - 4
    body = fixed + (HELLO - len(fixed) - 2).to_bytes(2) + extensions + b"\0\x15" + left.to_bytes(2)
    message = b"\x01" + HELLO.to_bytes(3) + body
    message += bytes(HELLO + 4 - len(message))
    for at in range(0, len(message), RECORD):
        part = message[at : at + RECORD]
        yield from b"\x16\x03\x01" + min(RECORD, len(part)).to_bytes(2) + part


class Pushed:
    """Drives one :class:`~pathfit.measure.segments.Segments`. ``packets``/``connections`` count what it cost."""

    def __init__(
        self,
        fd: int | None,
        request: Measure,
        family: int,
        script: Script,
        epoll: select.epoll,
        now: float,
        total: int,
        idle: Idle | None = None,
    ) -> None:
        self.netns, self.request, self.script, self.epoll = fd, request, script, epoll
        self.search = Segments(
            family=family,
            start=now,
            floor=request.floor,
            ceiling=request.ceiling,
            budget=request.budget,
            total=total,
            parallel=request.parallel if request.parallel >= WIDE else PAIR,
        )
        self.family = family
        self.socks: dict[int, socket.socket] = {}
        self.streams: dict[int, Iterator[int]] = {}
        self.packets = self.connections = 0
        self.early: set[int] = set()  # lanes that are among those
        self.idle = idle  # connections that stand already
        self.ended = now

    @property
    def done(self) -> bool:
        return self.search.finished

    def pause(self, now: float) -> float:
        """Seconds until the next step is worth while."""
        return self.search.pause(now) if not self.search.finished else 1.0

    def hints(self) -> set[int]:
        """None: this begins when the other direction is known."""
        return set()

    def abandon(self, note: str) -> None:
        """Nothing connects."""
        self.search.give_up(note)

    def step(self, now: float) -> None:
        """Look at every lane, write what may be written, open what is wanted."""
        if self.search.finished:
            return
        for n in list(self.socks):
            self._look(n, now)
        lanes = self.search.step(now)
        for n in [n for n in self.socks if self.search.lanes[n].closed]:
            self._close(n)
        if lanes:
            with netns.inside(self.netns):
                for n in lanes:
                    self._open(n)
        if self.search.finished:
            self.ended = now

    def event(self, fd: int, now: float) -> None:
        """A connection of ours became writable, or ended."""
        for n, sock in self.socks.items():
            if sock.fileno() == fd:
                if tcpsock.error(sock):
                    self._drop(n, "connection-ended")
                else:
                    self._look(n, now)
                    with contextlib.suppress(OSError, ValueError):
                        self.epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLET)
                return

    def brackets(self) -> tuple[Bracket, ...]:
        return (self.search.bracket(self.ended),)

    def attempts(self, start: float, first: int = 1) -> list[Attempt]:
        return self.search.attempts(first, start, self.ended)

    def side_effects(self) -> tuple[SideEffect, ...]:
        """A "too big" that came back is remembered by our own kernel."""
        return (
            (SideEffect(where="here", what="learned-path-mtu", lasts=EXCEPTION_LASTS),) if self.search.learned else ()
        )

    def close(self) -> None:
        """RST (SO_LINGER 0): the target forgets the beginnings."""
        for sock in self.socks.values():
            sock.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _open(self, n: int) -> None:
        sock = self.idle.take() if self.idle is not None else None
        if sock is not None:
            self.early.add(n)
        else:
            sock = tcpsock.tcp(self.family, learns=True)
            self.connections += 1
            if tcpsock.connect(sock, self.request.address, self.request.port):
                sock.close()
                self.search.failed(n, "no-connection")
                return
        self.socks[n] = sock
        self.streams[n] = beginning(self.script)
        self.epoll.register(sock.fileno(), select.EPOLLOUT)

    def _drop(self, n: int, why: str) -> None:
        self.search.failed(n, why)
        self._close(n)

    def _close(self, n: int) -> None:
        sock = self.socks.pop(n)
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(sock.fileno())
        sock.close()

    def _look(self, n: int, now: float) -> None:
        """Read struct tcp_info; write the next pieces, each only when the one before has left (or they would be
        joined to one segment)."""
        sock = self.socks[n]
        while True:
            said = facts(tcpsock.info(sock))
            self.search.see(now, n, said, sock.getsockname()[1] if said.established else 0)
            if said.notsent or not (length := self.search.piece(n)):
                return
            stream = self.streams[n]
            try:
                sock.send(bytes(next(stream) for _ in range(length)))
            except OSError:
                self._drop(n, "connection-ended")
                return
            self.packets += 1
