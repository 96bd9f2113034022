"""Listening sockets and the loop that hands every connection to a thread of its own."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pathfit.lab.services import dns, http, mail, relay

CERTS = Path(__file__).parent.parent / "certs"
MOST = 512  # connections at once; more wait in the backlog
LINGER = 5.0  # seconds for the other end to read our alert and close
Conn = socket.socket
Service = dict[str, Any]


def listeners(service: Service) -> list[Callable[[], None]]:
    """Opens the sockets of one service (they listen when this returns); the loops to run. Raises OSError."""
    kind = service["kind"]
    if kind == "web":
        both = [("https", 8443), ("http", 8080)]
        return [loop for k, port in both for loop in listeners({**service, "kind": k, "port": port})]
    if kind in ("dns", "udp"):
        answer = dns.answerer(service) if kind == "dns" else lambda data: data
        return [_datagrams(service, answer)]
    if kind == "relay":
        return [_accepting(s, service, relay.serve) for s in _separate(service)]
    return [_accepting(_both(service), service, _talk(service))]


def _both(service: Service) -> Conn:
    """One socket for IPv4 and IPv6."""
    try:
        s = socket.socket(socket.AF_INET6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return _listen(s, "::", service)
    except OSError:
        return _listen(socket.socket(socket.AF_INET), "0.0.0.0", service)


def _separate(service: Service) -> list[Conn]:
    """One socket a family: SO_ORIGINAL_DST of a redirected IPv4 connection needs an IPv4 socket."""
    six = socket.socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return [_listen(socket.socket(socket.AF_INET), "0.0.0.0", service), _listen(six, "::", service)]


def _listen(s: Conn, address: str, service: Service) -> Conn:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, service["port"]))
    s.listen(service.get("backlog", 128))
    return s


def _accepting(listener: Conn, service: Service, talk: Callable[[Conn, Service], None]) -> Callable[[], None]:
    room = threading.BoundedSemaphore(MOST)

    def one(conn: Conn) -> None:
        try:
            with conn, suppress(OSError, ValueError):
                talk(conn, service)
        finally:
            room.release()

    def loop() -> None:
        while True:
            room.acquire()
            try:
                conn, _ = listener.accept()
            except OSError:
                room.release()
                continue
            threading.Thread(target=one, args=(conn,), daemon=True).start()

    return loop


def _datagrams(service: Service, answer: Callable[[bytes], bytes | None]) -> Callable[[], None]:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", service["port"]))

    def loop() -> None:
        while True:
            with suppress(OSError):
                data, peer = s.recvfrom(65535)
                reply = None if service["behave"] == "silent" else answer(data)
                if reply is not None:
                    s.sendto(reply, peer)

    return loop


def _talk(service: Service) -> Callable[[Conn, Service], None]:
    behave = service["behave"]
    if behave in _BEFORE_TLS:
        return _BEFORE_TLS[behave]
    if service["kind"] == "tcp":
        return _echo
    if service["kind"] == "http":
        return http.serve
    context = _context(service)
    if service["kind"] == "smtp":
        return lambda conn, service: mail.serve(conn, context)

    def secure(conn: Conn, service: Service) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(conn, server_side=True, do_handshake_on_connect=False) as wrapped:
            try:
                wrapped.do_handshake()
            except ssl.SSLError:  # our alert is on its way; closing with data unread would overtake it with an RST
                wrapped.settimeout(LINGER)
                socket.socket.shutdown(wrapped, socket.SHUT_WR)
                while socket.socket.recv(wrapped, 65536):
                    pass
                return
            http.serve(wrapped, service)

    return secure


def _context(service: Service) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = service["cert"]
    context.load_cert_chain(CERTS / f"{name}.pem", CERTS / f"{name}.key")
    if service["alpn"]:
        context.set_alpn_protocols(list(service["alpn"]))
    if service["behave"] == "alert":
        context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    if service["behave"] == "client-cert":
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTS / "root.pem")
    return context


def _drain(conn: Conn) -> None:
    """Reads until the other end closes."""
    while conn.recv(65536):
        pass


def _silent(conn: Conn, service: Service) -> None:
    _drain(conn)


def _reset(conn: Conn, service: Service) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close(2) then sends RST


def _close(conn: Conn, service: Service) -> None:
    conn.shutdown(socket.SHUT_WR)


def _garbage(conn: Conn, service: Service) -> None:
    conn.recv(1)
    conn.sendall(b"\x00this is not the protocol you asked for\r\n" * 20)
    conn.shutdown(socket.SHUT_WR)
    _drain(conn)


def _banner(conn: Conn, service: Service) -> None:
    conn.sendall(b"220 lab ready\r\n")
    _drain(conn)


def _echo(conn: Conn, service: Service) -> None:
    http.wait(service)
    while data := conn.recv(65536):
        if service["behave"] == "drip":
            http.drip(conn, data)
        else:
            conn.sendall(data)


_BEFORE_TLS: dict[str, Callable[[Conn, Service], None]] = {
    "silent": _silent,
    "reset": _reset,
    "close": _close,
    "garbage": _garbage,
    "banner": _banner,
}
