"""Answers, of HTTP mostly, counted as they come. Pure; everything kept is bounded."""

from __future__ import annotations

import re

import msgspec

INTERIM = 16  # interim answers (1xx) before the real one; more is called endless
MAX_HEADER = 32768  # bytes of an HTTP header: larger is called endless
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})", re.I)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.I)
CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*close", re.I)
KEPT = re.compile(rb"\r\nconnection:[^\r\n]*keep-alive", re.I)


class Answer(msgspec.Struct):
    """One or several answers on one connection, counted as they come."""

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
    mark: bytes = b"HTTP/1."  # stands once in each of several answers

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
        """Answers to a row: count what stands once in each, which may be cut anywhere."""
        seen = self.tail + data
        self.heads += seen.count(self.mark)
        self.tail = seen[max(0, len(seen) - len(self.mark) + 1) :]
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
