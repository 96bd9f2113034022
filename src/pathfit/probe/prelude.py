"""What has to be said in a server's own language before TLS begins, and what may be asked of it many times. Pure.

::

    greets first    smtp ftp imap pop3 mysql
    waits for us    postgresql ldap xmpp dns

A Prelude turns bytes that arrived into bytes to send until ``state`` is "tls" (say the ClientHello now), "plain" (it
speaks this, and has no TLS for us) or "wrong" (it does not speak this). Nobody logs in, nothing is changed there.
``unit`` is a question that may be asked in a row where TLS brings no full segment; ``mark`` stands once in each answer.
"""

from __future__ import annotations

from pathfit.probe.answer import Answer

KEEP = 16384  # bytes of one reply; more is called endless
MOST_LINES = 200  # of one reply
TEXT = ("smtp", "ftp", "imap", "pop3", "xmpp")
NAME = "pathfit.invalid"  # who we say we are (RFC 2606)


class Prelude:
    """The base, and what speaks nothing at all. ``host``: the name of the target, for those that want to hear it."""

    name = "tcp"
    greets = False
    unit = b""
    mark = b""
    answer = 100  # bytes of an answer to ``unit``, until one was seen
    most = 200  # units on one connection
    paced = False  # answers are hardly larger than what is asked: how large their segments are, is up to ours

    def __init__(self, host: str = "") -> None:
        self.host = host
        self.state = "talking"
        self.buffer = b""

    def start(self) -> bytes:
        """The first bytes, when the connection stands."""
        return b""

    def feed(self, data: bytes) -> bytes:
        """Bytes that arrived; returns what to say. Does nothing once the state is decided."""
        if self.state != "talking":
            return b""
        self.buffer += data
        said = self.heard()
        if self.state == "talking" and len(self.buffer) > KEEP:
            self.state = "wrong"
        return said

    def heard(self) -> bytes:
        """Look at ``buffer``; returns what to say."""
        return b""

    def units(self, count: int) -> bytes:
        """``count`` questions in a row."""
        return self.unit * count

    def row(self, count: int) -> Answer:
        """What counts the answers to them."""
        return Answer(expected=count, mark=self.mark)


class Lines(Prelude):
    """Replies of lines, each with a code; "250-" goes on and "250 " ends (RFC 5321 4.2.1, RFC 959 4.2)."""

    greets = True

    def __init__(self, host: str = "") -> None:
        super().__init__(host)
        self.step = 0

    def heard(self) -> bytes:
        while self.state == "talking":
            reply = self._reply()
            if reply is None:
                return b""
            said = self.next(*reply)
            if said:
                return said
        return b""

    def _reply(self) -> tuple[str, str] | None:
        """(code, all of its lines), taken out of the buffer once it is whole."""
        lines = self.buffer.split(b"\n")
        for n, line in enumerate(lines[:-1]):
            if n > MOST_LINES or len(line) < 3 or not line[:3].isdigit():
                self.state = "wrong"
                return None
            if line[3:4] != b"-":
                text = b"\n".join(lines[: n + 1]).decode("latin-1")
                self.buffer = b"\n".join(lines[n + 1 :])
                return line[:3].decode(), text
            if line[:3] != lines[0][:3]:
                return None  # FTP: lines between may begin with anything; the last decides
        return None

    def next(self, code: str, text: str) -> bytes:
        raise NotImplementedError


class Smtp(Lines):
    """RFC 3207. Also finds out that it is FTP by the answer to EHLO; see :class:`Greeted`."""

    name = "smtp"
    unit = f"EHLO {NAME}\r\n".encode()
    mark = b"\n250 "

    def next(self, code: str, text: str) -> bytes:
        self.step += 1
        if self.step == 1:
            self.state = "talking" if code == "220" else "plain" if code == "554" else "wrong"
            return self.unit if code == "220" else b""
        if self.step == 2:
            if code == "250" and "STARTTLS" in text.upper():
                return b"STARTTLS\r\n"
            self.state = "plain" if code == "250" else "wrong"
            return b""
        self.state = "tls" if code == "220" else "plain"
        return b""


class Ftp(Lines):
    """RFC 4217."""

    name = "ftp"
    unit = b"FEAT\r\n"
    mark = b"\n211 "

    def next(self, code: str, text: str) -> bytes:
        self.step += 1
        if self.step == 1:
            self.state = "talking" if code == "220" else "wrong"
            return b"AUTH TLS\r\n" if code == "220" else b""
        self.state = "tls" if code == "234" else "plain"
        return b""


class Imap(Prelude):
    """RFC 3501 6.2.1."""

    name = "imap"
    greets = True
    unit = b"p CAPABILITY\r\n"
    mark = b"\np OK"
    asked = False

    def heard(self) -> bytes:
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            words = line.upper().split()
            if not self.asked:
                self.asked = words[:2] == [b"*", b"OK"]
                self.state = "talking" if self.asked else "plain" if words[:1] == [b"*"] else "wrong"
                return b"p STARTTLS\r\n" if self.asked else b""
            if words[:1] == [b"P"]:
                self.state = "tls" if words[1:2] == [b"OK"] else "plain"
                return b""
        return b""


class Pop3(Prelude):
    """RFC 2595 4."""

    name = "pop3"
    greets = True
    unit = b"CAPA\r\n"
    mark = b"\n.\r\n"
    asked = False

    def heard(self) -> bytes:
        line, newline, rest = self.buffer.partition(b"\n")
        if not newline:
            return b""
        self.buffer = rest
        good = line.startswith(b"+OK")
        if not self.asked:
            self.asked = good
            self.state = "talking" if good else "wrong"
            return b"STLS\r\n" if good else b""
        self.state = "tls" if good else "plain"
        return b""


class Xmpp(Prelude):
    """RFC 6120 5."""

    name = "xmpp"
    asked = False

    def start(self) -> bytes:
        to = "".join(c for c in self.host if c.isalnum() or c in ".-")
        return (
            f"<?xml version='1.0'?><stream:stream to='{to}' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        ).encode()

    def heard(self) -> bytes:
        if self.asked and (b"<proceed" in self.buffer or b"<failure" in self.buffer):
            self.state = "tls" if b"<proceed" in self.buffer else "plain"
        elif b"<stream:error" in self.buffer:
            self.state = "plain"
        elif not self.asked and b"<starttls" in self.buffer and b"</stream:features>" in self.buffer:
            self.asked, self.buffer = True, b""
            return b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        elif not self.asked and b"</stream:features>" in self.buffer:
            self.state = "plain"
        elif self.buffer and not self.buffer.lstrip().startswith(b"<"):
            self.state = "wrong"
        return b""


def of(protocol: str, host: str = "") -> Prelude | None:
    """The prelude of a protocol that has one."""
    from pathfit.probe import prelude_binary as binary

    every: tuple[type[Prelude], ...] = (
        Smtp,
        Ftp,
        Imap,
        Pop3,
        Xmpp,
        binary.Postgresql,
        binary.Mysql,
        binary.Ldap,
        binary.Dns,
    )
    return next((kind(host) for kind in every if kind.name == protocol), None)


def greeted(banner: bytes) -> str:
    """The protocol of a server that spoke first, by what it said; "tcp" when that is none of ours.

    "220" may be either of two: who calls itself FTP is asked as that, everybody else as a mail server.
    """
    from pathfit.probe import prelude_binary as binary

    if banner[:4] in (b"220 ", b"220-"):
        return "ftp" if b"ftp" in banner.lower() and b"smtp" not in banner.lower() else "smtp"
    if banner[:4].upper() == b"* OK":
        return "imap"
    if banner[:3] == b"+OK":
        return "pop3"
    return "mysql" if binary.is_mysql(banner) else "tcp"
