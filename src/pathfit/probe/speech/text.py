"""The preludes of protocols of lines and words: SMTP, FTP, IMAP, POP3, XMPP. Pure."""

from __future__ import annotations

from pathfit.probe.speech.prelude import MOST_LINES, NAME, Prelude


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
