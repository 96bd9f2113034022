"""HTTP/1.x with full control over the writes."""

import re
import socket
import threading
from typing import Any

MOST_HEADER = 64 * 1024  # bytes of one request header
MOST_BODY = 100_000_000  # bytes of one answer
CHUNK = 64 * 1024
DRIP = 1.0  # seconds between bytes of a dripping answer
Conn = socket.socket
_never = threading.Event()


def wait(service: dict[str, Any]) -> None:
    if service["behave"] == "late":
        _never.wait(service["after"])


def drip(conn: Conn, data: bytes) -> None:
    for i in range(len(data)):
        conn.sendall(data[i : i + 1])
        _never.wait(DRIP)


def serve(conn: Conn, service: dict[str, Any]) -> None:
    """One connection: requests until the client closes or HTTP/1.0 says so. Raises OSError when it breaks."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray()
    while (head := _head(conn, buffer)) is not None:
        line, *fields = head.split("\r\n")
        words = line.split()
        if len(words) != 3:
            conn.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        headers = {k.strip().lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        if headers.get("expect", "").lower() == "100-continue":
            conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not _skip_body(conn, buffer, headers):
            return
        wait(service)
        again = _answer(conn, service, words[0], words[1], headers)
        if not again:
            return


def _head(conn: Conn, buffer: bytearray) -> str | None:
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if len(buffer) > MOST_HEADER or not (data := conn.recv(CHUNK)):
            return None
        buffer += data
    head = buffer[:end].decode("latin-1")
    del buffer[: end + 4]
    return head


def _skip_body(conn: Conn, buffer: bytearray, headers: dict[str, str]) -> bool:
    """Reads the request's body, so that a POST is answered when all of it has arrived."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while b"0\r\n\r\n" not in buffer[-5:]:
            if not (data := conn.recv(CHUNK)):
                return False
            buffer[:] = (buffer + data)[-5:]
        buffer.clear()
        return True
    left = int(headers.get("content-length", "0"))
    here = min(left, len(buffer))
    del buffer[:here]
    left -= here
    while left > 0:
        if not (data := conn.recv(min(left, CHUNK))):
            return False
        left -= len(data)
    return True


def _answer(conn: Conn, service: dict[str, Any], method: str, path: str, headers: dict[str, str]) -> bool:
    """Answers one request; whether the connection stays open."""
    n = _size(path) if method != "POST" else 0
    status, first, last = service["status"], 0, n - 1
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
    lines = []
    if service["ranges"] and asked and status == 200 and int(asked[1]) < n:
        first, last = int(asked[1]), min(int(asked[2] or n - 1), n - 1)
        status = 206
        lines.append(f"Content-Range: bytes {first}-{last}/{n}")
    stays = service["version"] == "1.1" and headers.get("connection", "").lower() != "close"
    if service["version"] == "1.1":
        lines.append(f"Content-Length: {last - first + 1}")
    if not stays:
        lines.append("Connection: close")
    head = f"HTTP/{service['version']} {status} Lab\r\n".encode()
    if service["behave"] == "endless-headers":
        _endless(conn, head)
    head += "".join(line + "\r\n" for line in ("Content-Type: text/plain", *lines)).encode() + b"\r\n"
    _write(conn, service, head, 0 if method == "HEAD" else last - first + 1)
    return stays


def _size(path: str) -> int:
    """``/N`` asks for N bytes, anything else for 5."""
    digits = re.match(r"/?(\d{1,12})\b", path)
    return min(int(digits[1]), MOST_BODY) if digits else 5


def _write(conn: Conn, service: dict[str, Any], head: bytes, size: int) -> None:
    if service["behave"] == "drip":
        return drip(conn, head + b"x" * size)
    if service["writes"] == 2:
        conn.sendall(head)
        head = b""
    chunk = b"x" * min(size, CHUNK)
    while size > 0 or head:
        piece = chunk[: min(size, CHUNK)]
        conn.sendall(head + piece)
        size -= len(piece)
        head = b""
    return None


def _endless(conn: Conn, head: bytes) -> None:
    conn.sendall(head)
    n = 0
    while True:
        conn.sendall(f"X-Endless-{n}: {'z' * 60}\r\n".encode())
        n += 1
        _never.wait(0.005)
