"""What is said on a connection: TLS and HTTP, as little as makes the server send full segments.

::

    https   ClientHello -> certificate flight -> (too short? finish the handshake, GET with a Range
            -> (still short? forty pipelined requests))
    http    GET with a Range -> (short? forty pipelined requests)
    smtp, postgresql, … (pathfit.probe.speech.prelude)
            its own language up to TLS -> certificate flight -> (no TLS, or too short? a row of harmless questions)
    dns     a row of questions
    tcp     nothing: listens for a banner

A Talk turns bytes that arrived into bytes to send and knows when the answer to what it said is whole. It has no
socket and no clock. Everything kept of an answer is bounded (``KEEP``), whatever the server sends.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from pathfit.probe.speech.answer import Answer
from pathfit.probe.speech.prelude import Prelude
from pathfit.wire.tls import Records

if TYPE_CHECKING:
    import ssl

KEEP = 65536  # bytes of an answer looked at, per connection
MANY_TIMES = 2  # small answers are joined into full segments only while others are under way: not every time
PIPELINED = 40  # small answers that together fill several segments (probing.md 2)
SMALL_ANSWER = 100  # bytes: a header without a body has about that, until one was seen
ROW_SEGMENTS = 3  # full segments that a row of small answers shall be able to fill, behind the first ones
ROW_AHEAD = 20  # small answers that leave one by one before: a first congestion window (RFC 6928), and what one
# acknowledgement makes of it
MOST_PIPELINED = 200
AGENT = "pathfit"
FULLER_PIECE = (
    524  # bytes, a packet of 576 at most, below every size that is asked for. OpenSSL pads its ClientHello to
)
# 517, and some middleboxes take only one that is not cut.


class Script(msgspec.Struct, frozen=True):
    """What to say, the same for every connection of one measurement."""

    protocol: str  # "https", "http", "tcp", or one that has a prelude
    host: str
    path: str = "/"
    sni: str | None = None
    proxy: str | None = None  # "host:port" to CONNECT to


@lru_cache(maxsize=3)
def context(verify: bool = False, http: bool = True) -> ssl.SSLContext:
    """One TLS context for all connections. HTTP/1.1 is asked for first (probing.md 11); of others nothing is asked:
    some hang up when they hear of a protocol that is not theirs."""
    import ssl

    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = verify
    c.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify:
        c.load_default_certs()
    if http:
        c.set_alpn_protocols(["http/1.1"])
    return c


NO_PRELUDE = ("https", "http", "tcp")


def _prelude(script: Script) -> Prelude | None:
    if script.protocol in NO_PRELUDE:
        return None
    from pathfit.probe.speech import known  # nine languages, of which most targets speak none

    return known.of(script.protocol, script.sni or script.host)


class Talk:
    """One conversation. ``size``: IP bytes asked for, 0: one answer is all that is wanted; ``plain``: as the asked
    client would, without a Range; ``many``: the server is known to ignore the Range, begin with pipelined requests;
    ``body_limit``: payload bytes after which an answer counts as whole; ``window``: bytes of small answers that have to
    come before the peer waits for us; ``first``: a ClientHello instead of OpenSSL's; how it is
    taken is all that is wanted then; ``pieces``: bytes of it in a segment, 0: as many as the kernel puts into one."""

    def __init__(
        self,
        script: Script,
        size: int,
        plain: bool = False,
        verify: bool = False,
        many: bool = False,
        body_limit: int = KEEP,
        handshake_only: bool = False,
        window: int = 0,
        first: bytes = b"",
        pieces: int = 0,
    ) -> None:
        self.script, self.size, self.plain, self.verify, self.many = script, size, plain, verify, many
        self.body_limit, self.handshake_only, self.window = body_limit, handshake_only, window
        self.first, self.pieces = first, pieces
        self.stage = ""
        self.done = False  # nothing more to say
        self.whole = False  # the answer to the current stage is complete
        self.tls = "n/a"
        self.http = "n/a"
        self.alpn: str | None = None
        self.alert: str | None = None
        self.alert_kind: str | None = None
        self.answer = Answer()
        self.kept = 0
        self.asked_many = self.asked_units = self.said_hello = 0
        self.body = 0
        self.banner = b""
        self.records = Records()
        self.shaken = False  # the handshake came to its end, whatever was said behind it
        self.prelude = _prelude(script)
        self._ssl: ssl.SSLObject | None = None
        self._in: ssl.MemoryBIO | None = None
        self._out: ssl.MemoryBIO | None = None

    @property
    def phase(self) -> str:
        """How far TLS came: "" (it did not begin), "hello-sent", then what :class:`Records` saw, "finished"."""
        if self.tls == "n/a":
            return ""
        return "finished" if self.shaken else self.records.phase or "hello-sent"

    @property
    def cut(self) -> bool:
        """Was OpenSSL's ClientHello so long that it was said in several segments?"""
        return self.said_hello > FULLER_PIECE

    @property
    def piece(self) -> int:
        """Bytes that are handed to the kernel at once; 0: as few as ever (pathfit.host.tcpsock.PIECE)."""
        if self.stage == "flight":
            return self.pieces or len(self.first)
        row = self.stage == "many" and self.prelude is not None
        return FULLER_PIECE if row or self.stage == "hello" else 0

    # -- what to send ----------------------------------------------------------------------------------------

    def start(self) -> bytes:
        """The first bytes, when the connection stands."""
        if self.script.proxy and self.script.protocol != "http":
            self.stage = "connect"
            where = self.script.proxy
            return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
        return self._speak()

    def _speak(self) -> bytes:
        if self.script.protocol == "https":
            return self._hello()
        if self.script.protocol == "http":
            return self._many() if self.many else self._get()
        if self.prelude is not None:
            self.stage = "prelude"
            return self.prelude.start() if self.plain or self.prelude.name != "dns" else self._many()
        self.stage = "banner"
        return b""

    def _introduced(self, data: bytes) -> bytes:
        """More of what is said before TLS."""
        assert self.prelude is not None
        said = self.prelude.feed(data)
        state = self.prelude.state
        if state == "tls":
            return said + self._hello()
        if state == "plain" and self.prelude.unit and self.size and not self.first:
            return said + self._many()
        self.whole = self.done = state != "talking"
        return said

    def _hello(self) -> bytes:
        self.stage = "hello"
        self.tls = "stalled"
        if self.first:
            self.stage = "flight"
            return self.first
        return self._shaken()

    def _shaken(self) -> bytes:
        import ssl

        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = self.script.sni or (self.script.host if self.verify else None)
        self._ssl = context(self.verify, self.prelude is None).wrap_bio(self._in, self._out, server_hostname=name)
        self._shake()
        said = self._out.read()
        self.said_hello = len(said)
        return said

    def _get(self) -> bytes:
        self.stage = "get"
        self.answer = Answer()
        self.whole = False
        self.http = "stalled"
        span = "" if self.plain else f"Range: bytes=0-{3 * self.size}\r\n"
        return self._request("GET", span)

    def _request(self, method: str, more: str = "") -> bytes:
        path = self.script.path or "/"
        if self.script.proxy and self.script.protocol == "http":
            path = f"http://{self.script.proxy}{path}"
        text = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.script.host}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n{more}\r\n"
        )
        return self._wrap(text.encode("utf-8", "surrogateescape"))

    def _many(self) -> bytes:
        """Answers of known small length: headers, as HEAD gives them, and where the page itself is small, the page
        too. A page that does not fit three segments would fill the sender's window and leave no tail."""
        if self.prelude is not None:
            return self._row(self.prelude)
        methods = ("HEAD",) if self.many or self.body > self.size else ("HEAD", "GET")
        count = self._count(self._small())
        self._in_a_row(Answer(expected=count))
        return b"".join(self._request(methods[i % len(methods)]) for i in range(count))

    def _row(self, own: Prelude) -> bytes:
        """The same in the server's own language."""
        count = min(own.most - self.asked_units, self._count(self._small() if self.stage == "many" else own.answer))
        self.asked_units += count
        self._in_a_row(own.row(count))
        return self._wrap(own.units(count))

    def _count(self, small: int) -> int:
        """Answers of ``small`` bytes that are wanted in a row."""
        ahead = max(ROW_AHEAD, -(-self.window // small))
        return min(MOST_PIPELINED, max(PIPELINED, ahead + ROW_SEGMENTS * self.size // small))

    def _in_a_row(self, answer: Answer) -> None:
        self.stage = "many"
        self.asked_many += 1
        self.answer = answer
        self.whole = False

    def _small(self) -> int:
        """Bytes of one answer in a row, from those that came."""
        a = self.answer
        if self.stage == "many" and a.heads:
            return max(1, a.body // a.heads)
        return len(a.head) + len(b"\r\n\r\n") if a.in_body else SMALL_ANSWER

    def _wrap(self, data: bytes) -> bytes:
        if self._ssl is None or self._out is None:
            return data
        self._ssl.write(data)
        return self._out.read()

    def more(self) -> bytes:
        """The next stage, because the answer so far held no full segment. Empty and ``done``: there is none."""
        if not self.whole:
            return b""
        if self.stage == "hello" and self.prelude is None:
            return self._many() if self.many else self._get()
        if self.stage == "hello" and self.prelude is not None and self.prelude.unit and self.size:
            return self._many()
        first = self.stage == "get" and not self.answer.closes
        again = first or (self.stage == "many" and self.asked_many < MANY_TIMES)
        again = again and (self.prelude is None or self.asked_units + PIPELINED <= self.prelude.most)
        if again and self.size and not self.answer.bad and self.http != "garbage":
            return self._many()
        self.done = True
        return b""

    # -- what came -------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Bytes that arrived; returns bytes to send (TLS Finished, the next step after a proxy's answer)."""
        self.kept += len(data)
        if self.stage == "connect":
            return self._proxied(data)
        if self.stage == "prelude":
            return self._introduced(data)
        if self.stage == "flight":
            self._taken(data)
            return b""
        if self.stage == "banner":
            self.banner = (self.banner + data)[:KEEP]
            self.whole = True
            return b""
        if self._ssl is None or self._in is None or self._out is None:
            self._clear(data)
            return b""
        self._in.write(data)
        if self.stage == "hello":
            self.records.feed(data)
        if self.stage == "hello" and not self._shake():
            return self._out.read()
        self._decrypt()
        return self._out.read()

    def _taken(self, data: bytes) -> None:
        """What is said to a ClientHello of ours; that it is answered is enough."""
        self.records.feed(data)
        if self.records.alert is not None:
            self._fail("alert", self.records.alert)
        elif self.records.garbage:
            self._fail("garbage", "no TLS")
        self.whole = self.done = self.done or self.records.phase != ""

    def eof(self) -> None:
        """The peer closed."""
        if self.stage in ("hello", "flight") and self.tls == "stalled":
            self.tls, self.alert_kind, self.alert = "failed", "closed", self.alert or "closed during the handshake"
        if self.stage == "get" and self.answer.in_body and self.answer.length is None:
            self.http = self.answer.status or self.http
        self.whole = self.done = True

    def _proxied(self, data: bytes) -> bytes:
        self.answer.feed(data)
        if self.answer.bad or (self.answer.status and not self.answer.status.startswith("2")):
            self.http = self.answer.status or "garbage"
            self.alert = f"the proxy answered {self.http} to CONNECT"
            self.whole = self.done = True
            return b""
        if self.answer.in_body:
            self.answer = Answer()
            return self._speak()
        return b""

    def _clear(self, data: bytes) -> None:
        self.answer.feed(data)
        self._judge_http()

    def _judge_http(self) -> None:
        a = self.answer
        if self.stage != "get":
            self.whole = self.whole or a.whole
            return
        self.body = a.body
        if a.bad:
            self.http, self.whole = "garbage", True
        elif a.whole:
            self.http, self.whole = a.status or "garbage", True
        elif a.in_body and a.body >= self.body_limit:
            self.http, self.whole, self.done = a.status or "garbage", True, True  # enough: it flows

    def _shake(self) -> bool:
        """Go on with the handshake; True when it is done."""
        import ssl

        assert self._ssl is not None
        try:
            self._ssl.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self.kept > KEEP:
                self._fail("garbage", "an endless handshake")
            return False
        except ssl.SSLCertVerificationError as e:
            self._fail("certificate", e.verify_message or str(e))
            return False
        except ssl.SSLError as e:
            reason = (e.reason or str(e)).replace("_", " ").lower()
            # OpenSSL names alerts it received after their protocol: SSLV3_ALERT_…, TLSV1_UNRECOGNIZED_NAME, TLSV13_….
            alert = reason.startswith(("sslv3 alert", "tlsv1 ", "tlsv13 "))
            self._fail("alert" if alert else "garbage", reason)
            return False
        self.tls, self.whole, self.shaken = "ok", True, True
        self.done = self.handshake_only
        self.alpn = self._ssl.selected_alpn_protocol()
        return True

    def _fail(self, kind: str, text: str) -> None:
        self.tls, self.alert_kind, self.alert = "failed", kind, text
        self.whole = self.done = True

    def _decrypt(self) -> None:
        import ssl

        assert self._ssl is not None
        while True:
            try:
                data = self._ssl.read(16384)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except ssl.SSLError as e:
                self.alert = self.alert or (e.reason or str(e)).replace("_", " ").lower()
                self.alert_kind = self.alert_kind or "alert"
                if self.http == "stalled" and self.answer.status is None:
                    # TLS 1.3: what the server thinks of our Finished (no certificate) comes after its own.
                    self.tls, self.http = "failed", "n/a"
                self.whole = self.done = True
                return
            if not data:
                self.eof()
                return
            if self.stage in ("get", "many"):
                self.answer.feed(data)
                self._judge_http()
