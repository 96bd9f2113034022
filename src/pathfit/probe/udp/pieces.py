"""Echoes in fragments: the hands of :class:`pathfit.measure.echo.Pieces`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pathfit.core.measured import Bracket
from pathfit.host import rawsock
from pathfit.measure.echo import CONTROL, Pieces
from pathfit.wire import packets
from pathfit.wire.datagram import fragments

if TYPE_CHECKING:
    from pathfit.probe.udp.hands import Hands

clock = time.monotonic
OVER = 500  # bytes of the echo above what one packet holds
PIECE = 1280  # bytes of a fragment at most: what the path is known to carry


def fragmented_echoes(hands: Hands) -> Bracket | None:
    """Send them, where whole echoes of all sizes are answered; None where that is not so and nothing would follow."""
    pinger, lookout = hands.pinger, hands.lookout
    if pinger is None or lookout is None or hands.family != 4:
        return None
    whole = pinger.bracket()
    if whole.passes is None or whole.fails is not None or whole.passes < hands.ceiling or hands.ceiling < PIECE:
        return None
    ident = pinger.ident ^ 0x5555
    search = Pieces(size=hands.ceiling + OVER, start=clock(), rtt=pinger.search.rtt or 0.0)
    while not search.done:
        now = clock()
        for ping in search.step(now):
            packet = packets.echo_request(pinger.local, pinger.remote, ident, ping.seq, ping.size)
            lookout.sizes[(ident, ping.seq)] = ping.size
            if ping.size == CONTROL:
                parts = [packet]
            else:
                parts = fragments(pinger.local, pinger.remote, packet[20:], ping.seq, PIECE, packets.ICMP)
            for part in parts:
                rawsock.send(pinger.raw, part, hands.request.address)
                hands.sent += 1
        hands.listen()
        for known, seq in lookout.echoes:
            if known == ident:
                search.answered(clock(), seq)
    return search.bracket()
