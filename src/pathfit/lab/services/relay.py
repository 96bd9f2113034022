"""A proxy that ends a TCP connection and opens another: what a sidecar does.

Where the redirected connection was going is asked of the kernel (SO_ORIGINAL_DST, nf_conntrack); our own packets
carry a mark, so that the redirect rule leaves them alone.
"""

import socket
import struct
import threading
from contextlib import suppress
from typing import Any

SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST is the same number
CHUNK = 64 * 1024


def serve(conn: socket.socket, service: dict[str, Any]) -> None:
    """One connection. Raises OSError when either half breaks."""
    family, address = _destination(conn, service)
    with socket.socket(family) as beyond:
        if service.get("mark"):
            beyond.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, service["mark"])
        beyond.connect(address)
        back = threading.Thread(target=_pump, args=(beyond, conn), daemon=True)
        back.start()
        _pump(conn, beyond)
        back.join()


def _destination(conn: socket.socket, service: dict[str, Any]) -> tuple[int, tuple[str, int]]:
    if service["to"]:
        host, _, port = service["to"].rpartition(":")
        host = host.strip("[]")
        return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))
    if conn.family == socket.AF_INET:
        raw = conn.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        port, packed = struct.unpack_from("!2xH4s", raw)
    else:
        raw = conn.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        port, packed = struct.unpack_from("!2xH4x16s", raw)
    return conn.family, (socket.inet_ntop(conn.family, packed), port)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
