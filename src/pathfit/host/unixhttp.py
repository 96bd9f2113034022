"""HTTP/1.1 over a unix socket, as far as container engines speak it: bounded in time, bytes and patience.

Whoever listens there may be broken or hostile. So every answer has an end: a deadline for the whole conversation, a
limit for the head and for the body, and no redirect, cookie or compression is understood. What breaks these rules is
a ValueError that says where.
"""

import os
import socket
import struct
import time
from typing import NamedTuple

HEAD = 64 * 1024  # bytes of a status line with its headers, and of chunk sizes and trailers
BODY = 32 * 1024 * 1024  # bytes; a list of a thousand containers has about three million
_CHUNK = 65536
_NAME = 256  # characters kept of a server's name
_SUN_PATH = 107  # bytes of a path that connect(2) takes (unix(7))
_EMPTY = (204, 304)  # answers without a body (RFC 9112 section 6.3)


class Answer(NamedTuple):
    """One answer. ``body`` is what was sent, without its chunks; ``server`` the header of that name, "Docker/24.0"."""

    status: int
    body: bytes
    server: str = ""


class Late(TimeoutError):
    """The deadline of the conversation is over."""


class Client:
    """One connection, kept for many requests. A context manager. Not for several threads.

    ``path`` is the socket's file; ``deadline`` seconds from now for everything together. Raises OSError when there
    is nobody (PermissionError, ConnectionRefusedError, FileNotFoundError), Late when it takes too long.
    """

    def __init__(self, path: str, deadline: float, limit: int = BODY) -> None:
        self._end = time.monotonic() + deadline
        self._limit = limit
        self._buffer = bytearray()
        self._path = path
        self._socket: socket.socket | None = None

    def __enter__(self) -> "Client":
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def left(self) -> float:
        """Seconds until the deadline. Raises Late when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Late("no answer in time")
        return left

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._buffer.clear()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                _connect(self._socket, self._path, self.left)
            except BlockingIOError:
                self.close()
                raise Late("it takes no connection") from None
            except BaseException:
                self.close()
                raise
        return self._socket

    def get(self, path: str) -> Answer:
        """GET ``path``. Raises OSError, Late, ValueError (what was sent is no HTTP, or has no end)."""
        return self.request("GET", path)

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One request and its answer; ``body`` is JSON. Raises as :meth:`get`."""
        head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nAccept: application/json\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        if body is not None or method not in ("GET", "HEAD"):
            head += f"Content-Length: {len(body or b'')}\r\n"
        try:
            sock = self._connect()
            sock.settimeout(self.left)
            sock.sendall(head.encode("ascii") + b"\r\n" + (body or b""))
            answer, stays = self._answer()
        except TimeoutError as e:
            self.close()
            raise e if isinstance(e, Late) else Late("no answer in time") from None
        except BaseException:
            self.close()
            raise
        if not stays:
            self.close()
        return answer

    def _answer(self) -> tuple[Answer, bool]:
        """(answer, whether the connection stays usable)."""
        status, headers = self._head()
        while 100 <= status < 200:  # interim answers (RFC 9110 section 15.2); each takes from the deadline
            status, headers = self._head()
        stays = headers.get("connection", "").lower() != "close"
        server = headers.get("server", "")[:_NAME]
        if status in _EMPTY:
            return Answer(status, b"", server), stays
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return Answer(status, self._chunks(), server), stays
        length = headers.get("content-length")
        if length is None:
            return Answer(status, self._rest(), server), False
        if not (length.isascii() and length.isdigit()):
            raise ValueError("its answer has a senseless length")
        if int(length) > self._limit:
            raise ValueError(f"its answer is too long ({int(length)} bytes)")
        return Answer(status, self._exactly(int(length)), server), stays

    def _head(self) -> tuple[int, dict[str, str]]:
        raw = self._until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isascii() and words[1].isdigit()):
            raise ValueError("what answers there does not speak HTTP")
        pairs = (line.partition(":") for line in lines[1:])
        return int(words[1][:4]), {k.strip().lower(): v.strip() for k, _, v in pairs}

    def _chunks(self) -> bytes:
        """A chunked body (RFC 9112 section 7.1); extensions and trailers are read and forgotten."""
        parts: list[bytes] = []
        total = 0
        while True:
            text = self._until(b"\r\n").split(b";")[0].strip()
            if not text or len(text) > 8 or text.strip(b"0123456789abcdefABCDEF"):
                raise ValueError("its answer has a senseless chunk")
            size = int(text, 16)
            total += size
            if total > self._limit:
                raise ValueError(f"its answer is too long (more than {self._limit} bytes)")
            if size == 0:
                while self._until(b"\r\n"):
                    pass
                return b"".join(parts)
            parts.append(self._exactly(size))
            if self._exactly(2) != b"\r\n":
                raise ValueError("its answer has a senseless chunk")

    def _until(self, mark: bytes) -> bytes:
        """What comes before ``mark``, which is taken as well."""
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark) + 1)
            if len(self._buffer) > HEAD:
                raise ValueError("its answer has no end of headers")
            self._more()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _rest(self) -> bytes:
        """Everything until the other end closes."""
        try:
            while len(self._buffer) <= self._limit:
                self._more()
        except ConnectionResetError:
            return bytes(self._buffer)
        raise ValueError(f"its answer is too long (more than {self._limit} bytes)")

    def _more(self) -> None:
        sock = self._socket
        assert sock is not None
        sock.settimeout(self.left)
        data = sock.recv(_CHUNK)
        if not data:
            raise ConnectionResetError(104, "it hung up in the middle of an answer")
        self._buffer += data


def _connect(sock: socket.socket, path: str, patience: float) -> None:
    """connect(2), which waits while the backlog is full (BlockingIOError after ``patience`` seconds; a non-blocking
    one would not wait at all, unix(7)). A path too long for it is reached through its folder's open file."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(patience), int(patience % 1 * 1e6)))
    if len(os.fsencode(path)) <= _SUN_PATH:
        sock.connect(path)
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
