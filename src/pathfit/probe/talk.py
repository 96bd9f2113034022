"""What is said on a connection: TLS and HTTP, as little as makes the server send full segments.

::

    https   ClientHello -> certificate flight -> (too short? finish the handshake, GET with a Range
            -> (still short? forty pipelined requests))
    http    GET with a Range -> (short? forty pipelined requests)
    tcp     nothing: listens for a banner

A Talk turns bytes that arrived into bytes to send and knows when the answer to what it said is whole. It has no
socket and no clock. Everything kept of an answer is bounded (``KEEP``), whatever the server sends.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import ssl

KEEP = 65536  # bytes of an answer looked at, per connection
MANY_TIMES = 2  # small answers are joined into full segments only while others are under way: not every time
INTERIM = 16  # interim answers (1xx) before the real one; more is called endless
MAX_HEADER = 32768  # bytes of an HTTP header: larger is called endless
PIPELINED = 40  # small answers that together fill several segments (probing.md 2)
SMALL_ANSWER = 100  # bytes: a header without a body has about that, until one was seen
ROW_SEGMENTS = 3  # full segments that a row of small answers shall be able to fill, behind the first ones
ROW_AHEAD = 20  # small answers that leave one by one before: a first congestion window (RFC 6928), and what one
# acknowledgement makes of it
MOST_PIPELINED = 200
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})", re.I)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.I)
CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*close", re.I)
KEPT = re.compile(rb"\r\nconnection:[^\r\n]*keep-alive", re.I)
AGENT = "pathfit"


class Script(msgspec.Struct, frozen=True):
    """What to say, the same for every connection of one measurement."""

    protocol: str  # "https", "http", "tcp"
    host: str
    path: str = "/"
    sni: str | None = None
    proxy: str | None = None  # "host:port" to CONNECT to


@lru_cache(maxsize=2)
def context(verify: bool = False) -> ssl.SSLContext:
    """One TLS context for all connections. HTTP/1.1 is asked for first (probing.md 11)."""
    import ssl

    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = verify
    c.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify:
        c.load_default_certs()
    c.set_alpn_protocols(["http/1.1"])
    return c


class Answer(msgspec.Struct):
    """One or several HTTP answers on one connection, counted as they come."""

    expected: int = 1
    interim: int = 0
    head: bytearray = msgspec.field(default_factory=bytearray)
    status: str | None = None
    body: int = 0
    length: int | None = None
    chunked: bool = False
    closes: bool = False  # the server hangs up after it (RFC 9112 9.3): asking for more is answered with a reset
    in_body: bool = False
    heads: int = 0
    bad: bool = False
    tail: bytes = b""

    def feed(self, data: bytes) -> None:
        """More bytes of the answer."""
        if self.expected > 1:
            self._count(data)
            return
        if self.in_body:
            self._body(data)
            return
        if self.bad:
            return
        self.head += data
        while (end := self.head.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.head[:end])
            found = STATUS.match(head)
            if found is None or self.interim > INTERIM:
                self.bad = True
                return
            if found[1][:1] != b"1" or found[1] == b"101":
                self._begin(head, found[1].decode(), end)
                return
            self.interim += 1  # Continue, Early Hints: the real one follows
            del self.head[: end + 4]
        self.bad = self.bad or len(self.head) > MAX_HEADER or not _like_http(self.head)

    def _begin(self, head: bytes, status: str, end: int) -> None:
        """The header is whole; what stands behind it is body."""
        self.status, self.in_body = status, True
        length = LENGTH.search(head)
        self.length = int(length[1]) if length else None
        self.chunked = CHUNKED.search(head) is not None
        self.closes = CLOSES.search(head) is not None or (head[:8] == b"HTTP/1.0" and KEPT.search(head) is None)
        if self.status in ("204", "304"):
            self.length = 0
        rest = bytes(self.head[end + 4 :])
        del self.head[end:]
        self._body(rest)

    def _body(self, data: bytes) -> None:
        self.body += len(data)
        self.tail = (self.tail + data)[-7:]

    def _count(self, data: bytes) -> None:
        """Pipelined answers: count their status lines, which may be cut anywhere."""
        seen = self.tail + data
        self.heads += seen.count(b"HTTP/1.") - self.tail.count(b"HTTP/1.")
        self.tail = seen[-6:]
        self.body += len(data)

    @property
    def endless(self) -> bool:
        """Is this the whole page although a range of it was asked?"""
        return self.status == "200" and self.in_body

    @property
    def whole(self) -> bool:
        if self.expected > 1:
            return self.heads >= self.expected
        if not self.in_body:
            return False
        if self.chunked:
            return self.tail.endswith(b"0\r\n\r\n")
        return self.length is not None and self.body >= self.length


def _like_http(head: bytes | bytearray) -> bool:
    return b"HTTP/1."[: len(head)] == bytes(head[:7])


class Talk:
    """One conversation. ``size``: IP bytes asked for, 0: one answer is all that is wanted; ``plain``: as the asked
    client would, without a Range; ``many``: the server is known to ignore the Range, begin with pipelined requests;
    ``body_limit``: payload bytes after which an answer counts as whole; ``window``: bytes of small answers that have to
    come before the peer waits for us."""

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
    ) -> None:
        self.script, self.size, self.plain, self.verify, self.many = script, size, plain, verify, many
        self.body_limit, self.handshake_only, self.window = body_limit, handshake_only, window
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
        self.asked_many = 0
        self.body = 0
        self.banner = b""
        self._ssl: ssl.SSLObject | None = None
        self._in: ssl.MemoryBIO | None = None
        self._out: ssl.MemoryBIO | None = None

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
        self.stage = "banner"
        return b""

    def _hello(self) -> bytes:
        import ssl

        self.stage = "hello"
        self.tls = "stalled"
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = self.script.sni or (self.script.host if self.verify else None)
        self._ssl = context(self.verify).wrap_bio(self._in, self._out, server_hostname=name)
        self._shake()
        return self._out.read()

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
        methods = ("HEAD",) if self.many or self.body > self.size else ("HEAD", "GET")
        small = self._small()
        ahead = max(ROW_AHEAD, -(-self.window // small))
        count = min(MOST_PIPELINED, max(PIPELINED, ahead + ROW_SEGMENTS * self.size // small))
        self.stage = "many"
        self.asked_many += 1
        self.answer = Answer(expected=count)
        self.whole = False
        return b"".join(self._request(methods[i % len(methods)]) for i in range(count))

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
        if self.stage == "hello":
            return self._many() if self.many else self._get()
        first = self.stage == "get" and not self.answer.closes
        again = first or (self.stage == "many" and self.asked_many < MANY_TIMES)
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
        if self.stage == "banner":
            self.banner = (self.banner + data)[:KEEP]
            self.whole = True
            return b""
        if self._ssl is None or self._in is None or self._out is None:
            self._clear(data)
            return b""
        self._in.write(data)
        if self.stage == "hello" and not self._shake():
            return self._out.read()
        self._decrypt()
        return self._out.read()

    def eof(self) -> None:
        """The peer closed."""
        if self.stage == "hello" and self.tls == "stalled":
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
        self.tls, self.whole = "ok", True
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
