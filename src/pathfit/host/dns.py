"""One DNS question over UDP, and over TCP when the answer was cut. Bytes in, bytes out; no opinion about them.

The sockets are made in the namespace of the one who asks, so that a resolver only that namespace can reach
(127.0.0.11 of Docker) answers. RFC 1035 section 4.2, RFC 7766.
"""

import os
import select
import socket
import struct
import time

from pathfit.host import netns

PORT = 53
_LARGEST = 65535
_TRUNCATED = 0x0200
_FLAGS = struct.Struct(">HH").unpack_from
_LENGTH = struct.Struct(">H")


def exchange(
    fd: int | None, server: str, queries: dict[int, bytes], timeout: float, cut: set[int] | None = None
) -> dict[int, bytes]:
    """Send ``queries`` (by their id) to ``server`` at once, from namespace ``fd``: answers by id, as far as they came.

    Only datagrams from the server itself with an id that was asked count. ``timeout`` in seconds, for everything.
    ``cut`` gets the ids whose answer by UDP was cut (TC), whether TCP then brought the whole one or not.
    Raises OSError: ECONNREFUSED nobody listens there, ENETUNREACH no way, EPERM a firewall here.
    """
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    deadline = time.monotonic() + timeout
    with netns.inside(fd):
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    answers: dict[int, bytes] = {}
    with sock:
        sock.connect((server, PORT))  # the kernel then drops what others send, and tells of a closed port
        for query in queries.values():
            sock.send(query)
        again = time.monotonic() + timeout / 2  # a lost question is asked once more
        while len(answers) < len(queries) and (left := deadline - time.monotonic()) > 0:
            wait = min(left, max(0.0, again - time.monotonic()) if again else left)
            if not select.select([sock], [], [], wait)[0]:
                if again and time.monotonic() >= again:
                    again = 0.0
                    for number in queries.keys() - answers.keys():
                        sock.send(queries[number])
                continue
            data = sock.recv(_LARGEST)
            if len(data) >= 12 and (number := _FLAGS(data)[0]) in queries:
                answers.setdefault(number, data)
    for number, data in list(answers.items()):
        if _FLAGS(data)[1] & _TRUNCATED:
            if cut is not None:
                cut.add(number)
            answers[number] = _by_tcp(fd, family, server, queries[number], deadline) or data
    return answers


def _by_tcp(fd: int | None, family: int, server: str, query: bytes, deadline: float) -> bytes | None:
    """The whole answer, or None when it did not come in time."""
    with netns.inside(fd):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with sock:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            sock.connect((server, PORT))
            sock.sendall(_LENGTH.pack(len(query)) + query)
            size = _LENGTH.unpack(_exactly(sock, 2, deadline))[0]
            return _exactly(sock, size, deadline)
    except (OSError, EOFError):
        return None


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        part = sock.recv(size - len(data))
        if not part or time.monotonic() > deadline:
            raise EOFError
        data += part
    return data


def random_id() -> int:
    """A number nobody can guess, for the id of a question (RFC 5452)."""
    return int.from_bytes(os.urandom(2), "big")
