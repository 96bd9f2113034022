"""Connections for the way out, opened with the first ones of the way in and kept idle until it is their turn.

Without privileges our own segments are as large as the peer's SYN-ACK invites, and a peer that is told a path MTU by
the answers we ask of it invites no more than that in later ones (ipv4_default_advmss()). What stands before it has
learned anything may still send what the asked client would.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pathfit.host import tcpsock
from pathfit.measure.track import ESTABLISHED
from pathfit.wire import tcpinfo

if TYPE_CHECKING:
    from pathfit.core.request import Measure
    from pathfit.measure.reverse import Reverse


class Idle:
    """``count`` idle connections. ``opened``: how many were tried."""

    def __init__(self, request: Measure, family: int, count: int) -> None:
        """Opens them; call it inside the namespace."""
        self.socks: list[socket.socket] = []
        self.opened = 0
        for _ in range(count):
            sock = tcpsock.tcp(family, learns=True)
            self.opened += 1
            if tcpsock.connect(sock, request.address, request.port):
                sock.close()
                return
            self.socks.append(sock)

    def take(self) -> socket.socket | None:
        """One that stands; None: there is none (left)."""
        while self.socks:
            sock = self.socks.pop(0)
            if tcpsock.info(sock)[tcpinfo.STATE] == ESTABLISHED:
                return sock
            sock.close()  # lost its SYN, or the server did not want to wait
        return None

    def in_the_way(self, search: Reverse, now: float) -> bool:
        """Does a server that serves one connection at a time wait for us to speak, while others, asked later, wait for
        it?"""
        if not self.socks or search.done or search.round < 2:
            return False
        settle = search.times(now).settle
        later = [t for t in search.tracks if t.round > 1 and t.closed is None and t.connected is not None]
        if any(t.got for t in later):
            return False
        return any(t.heard and t.silent_for(now) > settle for t in later)

    def close(self) -> None:
        """RST (SO_LINGER 0)."""
        for sock in self.socks:
            sock.close()
        self.socks.clear()
