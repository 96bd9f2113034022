"""Weave's status page: read from a real socket on a namespace's own loopback, and what may answer there instead."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pathfit.core.evidence_base import Missing
from pathfit.core.node import WeaveConnection
from pathfit.observe.nodes import weavestatus

PEER = "8a:12:00:00:00:01(node2)"


def report(*connections: Any, fast: bool = True, encryption: bool = False) -> dict[str, Any]:
    diagnostics = {"sleeve": None, **({"fastdp": {"Vports": []}} if fast else {})}
    router = {"Name": "8a:12:00:00:00:00", "Encryption": encryption, "Connections": list(connections)}
    return {"Router": {**router, "OverlayDiagnostics": diagnostics}, "Version": "2.8.1", "IPAM": None}


def raw(info: str, state: str = "established", **attrs: Any) -> dict[str, Any]:
    found = {"Address": "198.18.0.2:6783", "Outbound": True, "State": state, "Info": info}
    return {**found, "Attrs": attrs} if attrs else found


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (raw(f"fastdp {PEER}", name="fastdp", mtu=1376, encrypted=True),
         {"mode": "fastdp", "mtu": 1376, "encrypted": True, "peer": PEER, "state": "established"}),
        (raw(f"encrypted   sleeve {PEER} mtu=1438"), {"mode": "sleeve", "mtu": 1438, "encrypted": True}),
        (raw(f"unencrypted fastdp {PEER}"), {"mode": "fastdp", "mtu": None, "encrypted": False}),
        (raw("dial tcp4 198.18.0.3:6783: connect: connection refused, retry: never", "failed"),
         {"mode": "", "peer": "", "state": "failed", "address": "198.18.0.2:6783"}),
        (raw(f"none   {PEER}", "pending"), {"mode": "", "state": "pending"}),
        (raw("x" * 9000, "established\nfake", name=7, mtu="1e9", encrypted="yes"),
         {"mode": "", "peer": "", "state": "", "mtu": None, "encrypted": False}),
        ({"State": None, "Info": ["fastdp"], "Attrs": 5}, {"mode": "", "peer": "", "address": ""}),
    ],
)  # fmt: skip
def test_one_connection(one: dict[str, Any], wanted: dict[str, Any]) -> None:
    ((found,), fast) = weavestatus.parse(report(one))
    assert fast
    assert {key: getattr(found, key) for key in wanted} == wanted


@pytest.mark.parametrize("junk", [None, [], {"Router": 5}, {"Router": {"Connections": {"a": 1}}}])
def test_junk_has_no_connections(junk: object) -> None:
    assert weavestatus.parse(junk) == ((), False)


def test_very_many_are_cut() -> None:
    found, _ = weavestatus.parse(report(*[raw(f"fastdp {PEER}")] * (weavestatus.CONNECTIONS + 5)))
    assert len(found) == weavestatus.CONNECTIONS


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A listener on a port of 127.0.0.1 that gives ``answer`` to every connection; None: it says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        kept = []
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            if answer is not None:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_asked_over_the_loopback() -> None:
    body = json.dumps(report(raw(f"sleeve {PEER}", name="sleeve", mtu=1438))).encode()
    with answering(http(body)) as port:
        said = weavestatus.ask(port)
    one = WeaveConnection(peer=PEER, address="198.18.0.2:6783", mode="sleeve", state="established", mtu=1438)
    assert said == ((one,), True)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http(b"{}", "404 Not Found"), "malformed"),
        (http(b"[" * 100_000), "malformed"),
        (http(b"not json"), "malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "malformed"),
        (b"", "absent"),
        (None, "timeout"),
    ],
)
def test_what_may_answer_instead(answer: bytes | None, code: str) -> None:
    with answering(answer) as port:
        began = time.monotonic()
        said = weavestatus.ask(port)
        took = time.monotonic() - began
    assert isinstance(said, Missing)
    assert said.code == code
    assert said.how.startswith("curl ")
    assert code != "timeout" or took >= weavestatus.BUDGET


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = int(s.getsockname()[1])
    said = weavestatus.ask(port)
    assert isinstance(said, Missing)
    assert said.code == "absent"


def test_a_process_that_went() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    said = weavestatus.ask_of(child)
    assert isinstance(said, Missing)
    assert said.code == "vanished"
