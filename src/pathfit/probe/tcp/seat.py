"""A kernel TCP connection beside which segments are injected.

Trap 1 of probing.md: measuring must not heal. What is injected lies beyond snd_nxt of the kernel's socket, so an
ICMP error that comes back fails the between(seq, snd_una, snd_nxt) check of tcp_v4_err/tcp_v6_err and leaves no
path MTU exception; the raw socket is IPPROTO_RAW with PMTUDISC_INTERFACE, for which the kernel keeps none either.
One byte at snd_nxt is never sent, so the peer's application never sees what we inject. For filters that track
connections the segments are what they look like: part of an established connection, inside its window.
"""

from __future__ import annotations

import socket

from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS, packet_of
from pathfit.host import netns, rawsock, tcpsock
from pathfit.probe.lookout import Heard, Lookout
from pathfit.probe.tcp.conn import reading
from pathfit.wire import packets

MASK = 0xFFFFFFFF
STAMP_SLACK = 100  # milliseconds (TCP_TS_HZ) added to what our clock says


class Seat:
    """``ready`` once the connection stands and its SYN-ACK was seen; then ``inject`` may be called."""

    def __init__(self, fd: int | None, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.family = 6 if ":" in address else 4
        self.af = socket.AF_INET6 if self.family == 6 else socket.AF_INET
        self.remote = socket.inet_pton(self.af, address)
        with netns.inside(fd):
            self.sock = tcpsock.tcp(self.family)
        self.fd = self.sock.fileno()
        self.connected: float | None = None
        self.ready = False
        self.failed = tcpsock.connect(self.sock, address, port) != 0
        self.local, self.local_port = b"", 0
        if not self.failed:
            name = self.sock.getsockname()
            self.local = socket.inet_pton(self.af, name[0].split("%")[0])
            self.local_port = name[1]
        self.seq = self.ack = 0
        self.ts: tuple[int, int] | None = None
        self.sack = False
        self.offered = self.sendable = self.window = 0
        self.rtt = 0.0
        self.heard_at = 0.0
        self.ident = 0

    @property
    def header(self) -> int:
        """Header bytes of an injected segment."""
        return IP_HEADER[self.family] + TCP_HEADER + (TIMESTAMPS if self.ts is not None else 0)

    def take(self, lookout: Lookout) -> bool:
        """Learn the sequence numbers from the SYN-ACK, if it has been seen."""
        heard = lookout.synacks.get(self.local_port)
        if heard is not None:
            self._learn(heard)
        return heard is not None

    def _learn(self, heard: Heard) -> None:
        info = reading(tcpsock.info(self.sock))
        self.seq, self.ack = heard.tcp.ack, (heard.tcp.seq + 1) & MASK
        if heard.tcp.ts is not None and info.timestamps:
            self.ts = (heard.tcp.ts[1], heard.tcp.ts[0])
        self.heard_at = heard.at
        self.sack = heard.tcp.sack_ok
        self.window = heard.tcp.window
        self.offered = packet_of(6 if self.family == 6 else 4, heard.tcp.mss or 536)
        head = IP_HEADER[self.family] + TCP_HEADER
        self.sendable = info.snd_mss + head + (TIMESTAMPS if info.timestamps else 0)
        self.rtt = info.rtt
        self.ready = True

    def stamp(self, now: float) -> tuple[int, int] | None:
        """The timestamp option. Their echo is the clock of our SYN; our kernel's later segments are younger, and the
        peer drops what is older than those (PAWS, RFC 7323 5.2). Too young does no harm: the peer remembers only
        stamps of segments in order (tcp_replace_ts_recent)."""
        if self.ts is None:
            return None
        age = int((now - self.heard_at + self.rtt) * 1000) + STAMP_SLACK
        return (self.ts[0] + age) & MASK, self.ts[1]

    def inject(
        self,
        raw: socket.socket,
        lookout: Lookout,
        size: int,
        offset: int,
        now: float,
        ttl: int = packets.OUR_TTL,
    ) -> str:
        """Send ``size`` bytes of IP packet at ``offset`` from snd_nxt; see :func:`pathfit.host.rawsock.send`."""
        self.ident = (self.ident + 1) & 0xFFFF
        seq = (self.seq + offset) & MASK
        packet = packets.tcp_segment(
            self.local,
            self.remote,
            self.local_port,
            self.port,
            seq=seq,
            ack=self.ack,
            size=size,
            ts=self.stamp(now),
            ident=self.ident,
            ttl=ttl,
        )
        # One sequence number carries many sizes; the quoted header's own length tells them apart.
        lookout.sizes[(self.local_port, seq)] = 0
        return rawsock.send(raw, packet, self.address)

    def offsets(self, heard: Heard) -> list[tuple[int, int]]:
        """SACK blocks as offsets from snd_nxt."""
        return [((left - self.seq) & MASK, (right - self.seq) & MASK) for left, right in heard.tcp.sacks]

    def close(self) -> None:
        """RST (SO_LINGER 0): the peer forgets what it kept aside."""
        self.sock.close()
