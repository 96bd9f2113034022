"""Servers that give up in every phase of TLS and of an answer: python -I -S phases.py KIND PORT. Says "ready".

:data:`KINDS` is every end (a fatal alert, a reset) at every place of a handshake (in the ServerHello, behind it, in the
certificate, behind the flight, behind the client's Finished), and resets and alerts in the page. Up to the end what is
said is real: a handshake by the ssl module, cut where it shall end. ``well`` is a server that does nothing wrong.
"""

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import peers
from peers import CERTS, FOREVER, JUNK, OK, REQUEST, Conn, record, reset

PAGE = JUNK * 12  # 98304 bytes
PLAIN, ALERT = 22, 21  # content types (RFC 8446 section 5.1)
FAILURE = record(ALERT, b"\x02\x28")  # fatal, handshake_failure
HELLO_PART = 30  # bytes of the ServerHello: it has at least 42


def context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, asks: bool = False) -> ssl.SSLContext:
    """``asks``: for a certificate of the client, which has none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTS / "chain.pem", CERTS / "chain.key")
    made.maximum_version = version
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(CERTS / "root.pem")
    return made


def whole_record(conn: Conn) -> bytes:
    """The first record, however it was cut into segments."""
    data = b""
    while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
        part = conn.recv(REQUEST)
        if not part:
            raise OSError("gone")
        data += part
    return data


def flight(conn: Conn) -> bytes:
    """The server's first flight in answer to what the client said (TLS 1.2, where alerts may be read by all)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context(ssl.TLSVersion.TLSv1_2).wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(whole_record(conn))
    with suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return outgoing.read()


def messages(data: bytes) -> bytes:
    """The handshake messages in these records, end to end."""
    found = b""
    while data:
        size = int.from_bytes(data[3:5], "big")
        found, data = found + data[5 : 5 + size], data[5 + size :]
    return found


def up_to(place: str, said: bytes) -> bytes:
    """The flight up to a place in it, in whole records, so that an alert can follow."""
    hello = 4 + int.from_bytes(said[1:4], "big")
    end = {"in-hello": HELLO_PART, "behind-hello": hello, "in-certificate": len(said) // 2, "behind-flight": len(said)}
    said = said[: end.get(place, len(said))]
    return b"".join(record(PLAIN, said[at : at + 4096]) for at in range(0, len(said), 4096))


def ends(how: str, conn: Conn) -> None:
    """``alert``: a fatal alert, then FIN. ``reset``: RST, once what was said is here."""
    if how == "alert":
        conn.sendall(FAILURE)
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(REQUEST):
            pass
        return
    acknowledged(conn)
    reset(conn)


def acknowledged(conn: Conn) -> None:
    """Until everything was acknowledged (SIOCOUTQ, tcp(7)): a reset throws away what was not sent."""
    import fcntl

    while struct.unpack("i", fcntl.ioctl(conn, 0x5411, b"\0" * 4))[0]:
        if FOREVER.wait(0.001):
            return


def handshake(how: str, place: str) -> Callable[[Conn], None]:
    def talk(conn: Conn) -> None:
        conn.sendall(up_to(place, messages(flight(conn))))
        if place == "behind-finished":
            conn.recv(REQUEST)
        ends(how, conn)

    return talk


def refused(conn: Conn) -> None:
    """TLS 1.3: the handshake is done, and then the client's certificate is missed."""
    with context(asks=True).wrap_socket(conn, server_side=True) as wrapped:
        wrapped.recv(REQUEST)


def page(how: str, size: int) -> Callable[[Conn], None]:
    """``size`` bytes of the page, then the end. "close": close_notify, though more was promised."""

    def talk(conn: Conn) -> None:
        conn.recv(REQUEST)
        conn.sendall((OK + b"Content-Length: 98304\r\n\r\n" + PAGE)[:size])
        if how == "close":
            assert isinstance(conn, ssl.SSLSocket)
            conn.unwrap().close()
        elif how == "silence":
            FOREVER.wait()
        else:
            ends(how, conn)

    return talk


def well(conn: Conn) -> None:
    """GET and HEAD of a page, one after the other."""
    head = OK + b"Content-Length: 98304\r\n\r\n"
    asked = b""
    while part := conn.recv(REQUEST):
        asked += part
        while b"\r\n\r\n" in asked:
            one, _, asked = asked.partition(b"\r\n\r\n")
            conn.sendall(head + (b"" if one.startswith(b"HEAD") else PAGE))


def over_tls(talk: Callable[[Conn], None]) -> Callable[[Conn], None]:
    def spoken(conn: Conn) -> None:
        with context().wrap_socket(conn, server_side=True) as wrapped:
            talk(wrapped)

    return spoken


PLACES = ("in-hello", "behind-hello", "in-certificate", "behind-flight", "behind-finished")
HEADER = len(OK) + 28
KINDS: dict[str, Callable[[Conn], None]] = {
    **{f"{how}-{place}": handshake(how, place) for how in ("alert", "reset") for place in PLACES},
    "alert-behind-handshake": refused,
    # the page, over TLS
    "reset-in-tls-page": over_tls(page("reset", 40_000)),
    "close-in-tls-page": over_tls(page("close", 40_000)),
    # and without
    "reset-behind-first-byte": page("reset", 1),
    "reset-in-header": page("reset", HEADER // 2),
    "reset-behind-header": page("reset", HEADER),
    "reset-in-page": page("reset", 40_000),
    "silence-behind-first-byte": page("silence", 1),
    "silence-in-page": page("silence", 40_000),
    "well": well,
    "well-over-tls": over_tls(well),
}


if __name__ == "__main__":
    threading.excepthook = lambda _: None
    peers.serve(KINDS[sys.argv[1]], int(sys.argv[2]))
