"""Which TCP sockets hang, and in which direction their packets are missing. Pure; times in seconds.

A socket is evidence that costs no packet. Each test says what it rests on, because an idle connection looks much
like a hung one:

``inbound-gap``
    The kernel holds segments it cannot deliver because an earlier one is missing: receive memory is in use while
    nothing in order is waiting to be read (tcp_input.c tcp_data_queue_ofo). ``tcpi_rcv_ooopack`` alone is no sign:
    it counts since the connection began, and every lost packet that was repaired left its mark there.
``outbound-gap``
    Our later segments were acknowledged selectively, the one in front was not, and its timer has run out at least
    once (``sacked``, with ``retransmits`` or ``backoff``): what is missing is one segment, not the path.
``outbound-stuck``
    The segment in front was sent again and again without any answer. Size, or a dead path: both look like this.
``handshake``
    Our SYN was sent again. Says nothing about size: a SYN is small.
``waiting``
    We sent something, it was acknowledged, and nothing has come since. A slow server looks the same, so this is the
    weakest; a lost answer whose tail was lost too cannot look different from here.

Only sockets that have stood like that for :data:`STANDS` count: the same state lasts for a moment in every
connection that loses a packet.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pathfit.core.sockets import Socket, TcpInfo

Kind = Literal["inbound-gap", "outbound-gap", "outbound-stuck", "handshake", "waiting"]
ORDER: tuple[Kind, ...] = ("inbound-gap", "outbound-gap", "outbound-stuck", "handshake", "waiting")

STANDS = 0.3  # seconds: more than the smallest retransmission timeout (200 ms) and a round trip
QUIET = 2.0  # seconds without an answer before waiting is worth a word

_OPEN = frozenset((1, 4, 5, 8, 9, 11))  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING
_SYN_SENT = 2


class Hang(NamedTuple):
    """How a socket hangs and for how long at least, in seconds."""

    kind: Kind
    since: float


def look(socket: Socket) -> Hang | None:
    """How ``socket`` hangs, or None: it does not, or the kernel does not say enough."""
    info = socket.info
    if info is None:
        return None
    if socket.state == _SYN_SENT:
        return Hang("handshake", info.last_data_sent) if info.retransmits or socket.retrans else None
    if socket.state not in _OPEN:
        return None
    if _held_behind_a_gap(socket, info) and info.last_data_recv >= STANDS:
        return Hang("inbound-gap", info.last_data_recv)
    if info.unacked and (info.retransmits or info.backoff) and info.last_ack_recv >= STANDS:
        return Hang("outbound-gap" if info.sacked else "outbound-stuck", info.last_ack_recv)
    answered_before = info.last_data_recv <= info.last_data_sent
    if not info.unacked and info.data_segs_out and not answered_before and info.last_data_sent >= QUIET:
        return Hang("waiting", info.last_data_sent)
    return None


def _held_behind_a_gap(socket: Socket, info: TcpInfo) -> bool:
    return bool(info.rcv_ooopack) and bool(socket.rmem) and socket.rqueue == 0


def ordered(sockets: Iterable[Socket]) -> list[Socket]:
    """Hung ones first, the surest kind first and of each kind the longest; then the others as they came."""

    def rank(socket: Socket) -> tuple[int, float]:
        hang = look(socket)
        return (len(ORDER), 0.0) if hang is None else (ORDER.index(hang.kind), -hang.since)

    return sorted(sockets, key=rank)
