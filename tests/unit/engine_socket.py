"""An engine's socket for tests: answers GETs out of a dictionary."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answers = dict[str, Any]


@contextmanager
def served(path: Path, server: bytes) -> Iterator[Callable[[Answers], str]]:
    """Yields ``start(answers)``, which gives the socket's path. Bytes are sent as they are, None is never answered."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    over = threading.Event()
    threads: list[threading.Thread] = []
    current: list[Answers] = [{}]

    def talk(conn: socket.socket) -> None:
        with conn:
            for line in conn.makefile("rb"):
                if not line.startswith(b"GET "):
                    continue
                answers = current[0]
                key = line.split()[1].decode().partition("?")[0]
                body = answers.get(key, b"")
                if body is None:
                    over.wait(20)
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                status = b"200 OK" if key in answers else b"404 Not Found"
                head = b"Server: %s\r\nContent-Length: %d\r\n\r\n" % (server, len(data))
                conn.sendall(b"HTTP/1.1 " + status + b"\r\n" + head + data)

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(conn,)))
            threads[-1].start()

    def start(answers: Answers) -> str:
        current[0] = answers
        if not threads:
            threads.append(threading.Thread(target=accept))
            threads[-1].start()
        return str(path)

    yield start
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(20)
