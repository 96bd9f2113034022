"""One kernel TCP connection of the probe: socket, conversation and track together.

The connection does what the protocol needs and feeds what the kernel says (struct tcp_info) into its track. It
decides nothing about sizes.
"""

import contextlib
import errno
import socket
from typing import NamedTuple

from pathfit.core.measured import TcpSizes
from pathfit.core.net import mss_of
from pathfit.host import tcpsock
from pathfit.measure.track import Reading, Track
from pathfit.probe.speech.talk import Talk
from pathfit.wire import tcpinfo

READ = 65536
PILE = 0.010  # seconds: what a server may take from one small answer to the next; a delayed ACK takes 0.04 (tcp(7))
NARROW = 6  # segments of receive window: Linux 6.6 to 6.8 make half of it (tcp_win_from_space()), and a sender's
# segments are never larger than half a window (tcp_bound_to_half_wnd()). The buffer is twice the window, and what is in
# the window is packed until it fits (tcp_prune_queue()): nothing is thrown away that would look like a hole.
LOOK_SELDOM = 0.008  # seconds between two looks at a connection that will wake us when there is news
_U32, _U64 = tcpinfo.U32, tcpinfo.U64


def reading(data: bytes) -> Reading:
    """The fields of struct tcp_info a track lives on. Kernels that are too old for a field leave it 0 or None."""
    n = len(data)
    if n >= tcpinfo.SIZE:
        state, options, snd, rcv, rtt, adv, again, acked, got, segments, ooo = tcpinfo.PROBED(data)
        stamps = bool(options & tcpinfo.OPT_TIMESTAMPS)
        return Reading(state, stamps, rcv, snd, adv, acked, got, segments, ooo, again, rtt / 1e6)
    return Reading(
        data[tcpinfo.STATE],
        bool(data[tcpinfo.OPTIONS] & tcpinfo.OPT_TIMESTAMPS),
        _U32(data, tcpinfo.RCV_MSS)[0],
        _U32(data, tcpinfo.SND_MSS)[0],
        _U32(data, tcpinfo.ADVMSS)[0],
        _U64(data, tcpinfo.BYTES_ACKED)[0] if n >= tcpinfo.BYTES_ACKED + 8 else 0,
        _U64(data, tcpinfo.BYTES_RECEIVED)[0] if n >= tcpinfo.BYTES_RECEIVED + 8 else 0,
        _U32(data, tcpinfo.DATA_SEGS_IN)[0] if n >= tcpinfo.DATA_SEGS_IN + 4 else 0,
        _U32(data, tcpinfo.RCV_OOOPACK)[0] if n >= tcpinfo.RCV_OOOPACK + 4 else None,
        _U32(data, tcpinfo.TOTAL_RETRANS)[0],
        _U32(data, tcpinfo.RTT)[0] / 1e6,
    )


def sizes(data: bytes) -> TcpSizes:
    """What struct tcp_info says of sizes."""
    return TcpSizes(
        advertised=_U32(data, tcpinfo.ADVMSS)[0],
        sending=_U32(data, tcpinfo.SND_MSS)[0],
        received=_U32(data, tcpinfo.RCV_MSS)[0],
        path_mtu=_U32(data, tcpinfo.PMTU)[0],
    )


class Trouble(NamedTuple):
    """How a connection ended by itself: errno, seconds after it was opened, "syn", "request" or "answer"."""

    code: int
    after: float
    phase: str


_ENDED = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}


class Conn:
    """See the module. ``keep``: a connection of the contact, which goes on after its size has passed."""

    def __init__(self, track: Track, talk: Talk, sock: socket.socket, keep: bool = False) -> None:
        self.track, self.talk, self.sock, self.keep = track, talk, sock, keep
        self.fd = sock.fileno()
        self.pending = b""
        self.looked = 0.0
        self.unread = False  # data waits in the kernel, on purpose
        self.connected = False
        self.closed = False
        self.trouble: Trouble | None = None
        self.local: str | None = None
        self.local_port = 0
        self.sizes_first: TcpSizes | None = None
        self.sizes_last: TcpSizes | None = None

    def named(self) -> None:
        """Learn our own address and port; both are chosen when connect() is called."""
        try:
            name = self.sock.getsockname()
        except OSError:
            return
        self.local, self.local_port = name[0], name[1]
        self.track.port = name[1]

    def glimpse(self, now: float) -> None:
        """Look, if it is worth it: what has connected and waits for its answer may show a gap, which wakes nobody.
        Handshakes, and gaps that close, make the socket ready."""
        t = self.track
        if (t.connected is not None and t.gap_at is None) or self.pending or now - self.looked >= LOOK_SELDOM:
            self.look(now)

    def look(self, now: float) -> None:
        """Read struct tcp_info into the track; send what waited for an acknowledgement."""
        if self.closed:
            return
        self.looked = now
        self.track.see(now, reading(tcpsock.info(self.sock)))
        if self.pending:
            self._say_more(now)

    def event(self, now: float) -> None:
        """The socket is ready for something."""
        if self.closed:
            return
        if not self.connected:
            code = tcpsock.error(self.sock)
            if code:
                self.fail(now, code)
                return
            self.look(now)
            if self.track.connected is None:
                return
            self.connected = True
            if self.keep:
                self.sizes_first = sizes(tcpsock.info(self.sock))
            self._say(now, self.talk.start())
            if self.track.asked is None:  # the other end speaks first
                self.track.asked, self.track.asked_bytes = now, 0
        self.look(now)
        if self.closed:
            return
        if self.track.passed and not self.keep:
            return
        self._read(now)

    def due(self, now: float) -> bool:
        """Is it time to read what was left unread?"""
        return self.unread and not self._piling(now)

    def _piling(self, now: float) -> bool:
        """Small answers arrive one by one. While they are not read our window does not grow, so the kernel
        acknowledges none of them before its timer (__tcp_ack_snd_check()), and a narrow window closes. The sender has
        to wait, and what the server writes meanwhile leaves as full segments, however short the way is."""
        t = self.track
        return t.many and now - max(t.progress, t.asked or 0.0) < PILE

    def _read(self, now: float) -> None:
        for _ in range(4):
            self.unread = self._piling(now)
            if self.unread:
                return
            try:
                data = self.sock.recv(READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                self.fail(now, e.errno or 0)
                return
            if not data:
                self.talk.eof()
                self.track.complete = self.track.got > 0
                if not self.track.got:
                    self.fail(now, 0)
                return
            self._say(now, self.talk.feed(data))
            self.look(now)
            self.track.row = self.track.row or (self.talk.whole and self.talk.stage == "many")
            self._go_on(now)
            if self.closed:
                return
            if self.talk.done:
                self.track.complete = True
                return

    def _go_on(self, now: float) -> None:
        """The answer to what was said is whole: say more when it held no segment that tells about the size."""
        while self.talk.whole and not self.talk.done and not self.closed:
            enough = self.track.passed or self.track.capped
            if enough and (not self.keep or self.talk.stage != "hello"):
                self.talk.done = True
                return
            more = self.talk.more()
            if not more:
                return
            self._say(now, more)

    def _say(self, now: float, data: bytes) -> None:
        if not data or self.closed:
            return
        self.track.asked = now
        self.track.asked_bytes += len(data)
        self.track.many = self.talk.stage == "many"
        self.track.paced = self.track.many and self.talk.prelude is not None and self.talk.prelude.paced
        if self.track.many:
            tcpsock.ack_late(self.sock)
        self.pending += data
        self._say_more(now)

    def _say_more(self, now: float) -> None:
        try:
            self.pending = tcpsock.send_pieces(self.sock, self.pending, self.talk.piece or tcpsock.PIECE)
        except OSError as e:
            self._last_words()
            self.fail(now, e.errno or 0)

    def _last_words(self) -> None:
        """What the peer said before it hung up still lies in the kernel: a TLS alert, mostly."""
        with contextlib.suppress(OSError):
            self.talk.feed(self.sock.recv(READ))

    def fail(self, now: float, code: int) -> None:
        """The connection ended by itself: ``code`` is the errno, 0 the peer's FIN before it said anything."""
        if self.closed:
            return
        t = self.track
        phase = "syn" if t.connected is None else "answer" if t.got else "request"
        self.trouble = Trouble(code, now - t.opened, phase)
        if code == 0:
            t.ended = "closed"
        else:
            t.ended = _ENDED.get(code, "unreachable" if t.connected is None else "reset")  # type: ignore[assignment]
        t.note = errno.errorcode.get(code, "")
        if t.ended == "reset" and t.got:
            self.talk.eof()
        self.close(now)

    def sizes_now(self) -> TcpSizes | None:
        """Of the asked client's connection; its last ones when it is closed."""
        standing = self.keep and self.connected and self.sock.fileno() >= 0
        return sizes(tcpsock.info(self.sock)) if standing else self.sizes_last

    def close(self, now: float) -> None:
        """Close with RST (SO_LINGER 0): nothing stays behind in either kernel."""
        if not self.closed:
            self.closed = True
            self.sizes_last = self.sizes_now()
            if self.track.connected is not None and self.track.ended is None:
                self.track.see(now, reading(tcpsock.info(self.sock)))
            self.track.closed = now
            self.sock.close()


def open_conn(track: Track, talk: Talk, address: str, port: int, *, keep: bool = False) -> Conn:
    """Open the connection where this thread stands (call it inside the namespace). Never raises for what the
    network says; that is recorded as the track's end."""
    payload = mss_of(track.family, track.size)  # type: ignore[arg-type]
    mss = None if track.plain else payload
    sock = tcpsock.tcp(track.family, mss, room=NARROW * payload if track.narrow else None)
    code = tcpsock.connect(sock, address, port)
    return adopt(Conn(track, talk, sock, keep), code)


def adopt(conn: Conn, code: int) -> Conn:
    """A connection whose connect() was called already and returned ``code`` (0: under way)."""
    conn.named()
    if code:
        conn.fail(conn.track.opened, code)
    return conn
