"""What has to be said in a server's own language before TLS begins, and what may be asked of it many times. Pure.

::

    greets first    smtp ftp imap pop3 mysql
    waits for us    postgresql ldap xmpp dns

A Prelude turns bytes that arrived into bytes to send until ``state`` is "tls" (say the ClientHello now), "plain" (it
speaks this, and has no TLS for us) or "wrong" (it does not speak this). Nobody logs in, nothing is changed there.
``unit`` is a question that may be asked in a row where TLS brings no full segment; ``mark`` stands once in each answer.
"""

from __future__ import annotations

from pathfit.probe.speech.answer import Answer

KEEP = 16384  # bytes of one reply; more is called endless
MOST_LINES = 200  # of one reply
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
