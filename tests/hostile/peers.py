"""Servers that do everything wrong, each in its own way: python -I -S peers.py KIND PORT. Says "ready" when it listens.

Those of :data:`KINDS` are ordinary listeners with bad manners; each gets one connection and a thread of its own.
rawpeer.py has those that the kernel's TCP is too polite for.
"""

import os
import random
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CERTS = Path(__file__).parents[2] / "src/pathfit/lab/certs"
REQUEST = 65536
FOREVER = threading.Event()  # never set: waiting for it is waiting
OK = b"HTTP/1.1 200 OK\r\n"
JUNK = random.Random(1).randbytes(8192)
Conn = socket.socket


def reset(conn: Conn) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def asked(conn: Conn) -> bytes:
    return conn.recv(REQUEST)


def say(*parts: bytes) -> Callable[[Conn], None]:
    """Say these after the request, then keep the connection open."""

    def talk(conn: Conn) -> None:
        asked(conn)
        for part in parts:
            conn.sendall(part)
        while conn.recv(REQUEST):
            pass

    return talk


def ever(first: bytes, more: bytes, pause: float = 0.0) -> Callable[[Conn], None]:
    """Say ``first``, then ``more`` for ever."""

    def talk(conn: Conn) -> None:
        asked(conn)
        conn.sendall(first)
        while not FOREVER.wait(pause):
            conn.sendall(more)

    return talk


def drip(text: bytes, seconds: float = 1.0) -> Callable[[Conn], None]:
    """One byte a second, round and round."""

    def talk(conn: Conn) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked(conn)
        at = 0
        while True:
            conn.sendall(text[at : at + 1])
            at = (at + 1) % len(text)
            FOREVER.wait(seconds)

    return talk


def reset_at_once(conn: Conn) -> None:
    reset(conn)


def reset_after_request(conn: Conn) -> None:
    asked(conn)
    reset(conn)


def reset_in_the_answer(conn: Conn) -> None:
    asked(conn)
    conn.sendall(OK + b"Content-Length: 100000\r\n\r\n" + JUNK[:700])
    FOREVER.wait(0.02)  # let it arrive before the reset does
    reset(conn)


def fin_at_once(conn: Conn) -> None:
    conn.close()


def fin_after_request(conn: Conn) -> None:
    asked(conn)
    conn.close()


def half_closed(conn: Conn) -> None:
    """Closes its side at once and reads on."""
    conn.shutdown(socket.SHUT_WR)
    while conn.recv(REQUEST):
        pass


def silent(conn: Conn) -> None:
    while conn.recv(REQUEST):
        pass


def deaf(conn: Conn) -> None:
    """Reads nothing at all."""
    FOREVER.wait()


def urgent(conn: Conn) -> None:
    asked(conn)
    for _ in range(200):
        conn.send(b"!", socket.MSG_OOB)
    silent(conn)


def tls(talk: Callable[[ssl.SSLSocket], None]) -> Callable[[Conn], None]:
    def spoken(conn: Conn) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTS / "chain.pem", CERTS / "chain.key")
        with context.wrap_socket(conn, server_side=True) as wrapped:
            talk(wrapped)

    return spoken


def close_after_tls(conn: ssl.SSLSocket) -> None:
    conn.unwrap()


def reset_after_tls(conn: ssl.SSLSocket) -> None:
    reset(conn)


def page_then_junk(conn: ssl.SSLSocket) -> None:
    """A good beginning, then records that are no TLS."""
    conn.recv(REQUEST)
    conn.sendall(OK + b"Content-Length: 100000\r\n\r\n" + JUNK[:3000])
    with socket.socket(fileno=os.dup(conn.fileno())) as raw:
        raw.sendall(JUNK)
    silent(conn)


def record(kind: int, body: bytes, version: bytes = b"\x03\x03") -> bytes:
    return bytes([kind]) + version + struct.pack("!H", len(body)) + body


HELLO = b"\x02" + (74).to_bytes(3, "big") + b"\x03\x03" + bytes(range(32)) + b"\x20" + bytes(32) + b"\xc0\x2f\0\0\2\0\0"
CERTIFICATE = b"\x0b" + (0xFFFFFF).to_bytes(3, "big")  # a certificate of 16 MB, so it says

KINDS: dict[str, Callable[[Conn], None]] = {
    "reset-at-once": reset_at_once,
    "reset-after-request": reset_after_request,
    "reset-in-the-answer": reset_in_the_answer,
    "fin-at-once": fin_at_once,
    "fin-after-request": fin_after_request,
    "half-closed": half_closed,
    "silent": silent,
    "deaf": deaf,
    "urgent": urgent,
    # TLS
    "junk": say(JUNK),
    "junk-for-ever": ever(b"", JUNK * 8),
    "http-instead": say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"),
    "ssh-instead": say(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "alert": say(record(21, b"\x02\x28")),
    "alert-warning-for-ever": ever(b"", record(21, b"\x01\x70"), 0.001),
    "alert-unknown": say(record(21, b"\xff\xff")),
    "record-too-long": say(b"\x16\x03\x03\xff\xff" + JUNK),
    "record-empty-for-ever": ever(b"", record(22, b""), 0.001),
    "tls-drip": drip(record(22, HELLO)),
    "certificate-for-ever": ever(record(22, HELLO) + record(22, CERTIFICATE), record(22, JUNK * 2)),
    "close-after-tls": tls(close_after_tls),
    "reset-after-tls": tls(reset_after_tls),
    "junk-after-tls": tls(page_then_junk),
    # HTTP
    "drip": drip(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 999),
    "headers-for-ever": ever(OK, b"X-More: " + b"y" * 990 + b"\r\n", 0.0005),
    "header-of-10-mb": ever(OK + b"X-Long: ", b"z" * 65536),
    "body-for-ever": ever(OK + b"\r\n", b"b" * 65536),
    "continue-for-ever": ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "http-0.9": ever(b"<html>", b"<p>hello\n" * 1000),
    "http-2": say(b"\0\0\x12\4\0\0\0\0\0" + bytes(18)),
    "chunks-of-nonsense": say(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n-5\r\n0\r\n\r\n" + JUNK),
    "chunks-for-ever": ever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    "length-of-nonsense": say(OK + b"Content-Length: -5\r\nContent-Length: 99999999999999999999999999\r\n\r\n" + JUNK),
    "status-of-nonsense": say(b"HTTP/1.1 999 \x1b]0;owned\x07\x1b[2J\xff\xfe\r\nContent-Length: 0\r\n\r\n"),
    "status-cut": say(b"HTTP/1.1 2"),
    "nul-bytes": ever(b"", bytes(65536)),
    "redirect-to-itself": say(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    "banner-of-escapes": say(b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m\r\n"),
    "two-answers": say((OK + b"Content-Length: 1\r\n\r\nx") * 50),
}


def serve(talk: Callable[[Conn], None], port: int, backlog: int = 128) -> None:
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(backlog)
    os.write(1, b"ready\n")
    if backlog == 0:
        FOREVER.wait()

    def one(conn: Conn) -> None:
        with conn, suppress(OSError):
            talk(conn)

    while True:
        conn, _ = listener.accept()
        threading.Thread(target=one, args=(conn,), daemon=True).start()


def main() -> None:
    threading.excepthook = lambda _: None
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "full-backlog":  # one connection waits to be accepted, further SYNs are dropped
        serve(deaf, port, backlog=0)
    elif kind != "nothing":
        serve(KINDS[kind], port)
    else:
        os.write(1, b"ready\n")
        FOREVER.wait()


if __name__ == "__main__":
    main()
