"""A mail server up to STARTTLS (RFC 3207): greets, answers EHLO, begins TLS, and then again answers EHLO."""

import socket
import ssl

LONGEST = 2048  # bytes of a line
Conn = socket.socket


def serve(conn: Conn, context: ssl.SSLContext) -> None:
    """One connection. Raises OSError when it breaks."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.sendall(b"220 lab ESMTP\r\n")
    if not _answer(conn, b"250-STARTTLS\r\n"):
        return
    with context.wrap_socket(conn, server_side=True) as wrapped:
        _answer(wrapped, b"")


def _answer(conn: Conn, more: bytes) -> bool:
    """Answers lines; True when TLS may begin."""
    buffer = bytearray()
    while len(buffer) < LONGEST and (data := conn.recv(LONGEST)):
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            word = bytes(buffer[:end]).strip().upper().partition(b" ")[0]
            del buffer[: end + 1]
            if word == b"STARTTLS" and more:
                conn.sendall(b"220 go ahead\r\n")
                return True
            conn.sendall(_said(word, more))
    return False


def _said(word: bytes, more: bytes) -> bytes:
    known = {b"EHLO": b"250-lab\r\n" + more + b"250 8BITMIME\r\n", b"QUIT": b"221 bye\r\n"}
    return known.get(word, b"500 what\r\n")
