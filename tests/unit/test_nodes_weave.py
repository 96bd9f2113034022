"""Weave's status page: read from a real socket on a namespace's own loopback, and what may answer there instead."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest
from netlab import nets

from pathfit.core import codec
from pathfit.core.evidence_base import Missing
from pathfit.core.node import WeaveConnection
from pathfit.host import clock, netns
from pathfit.observe.kernel import Observer
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
         {"mode": "", "peer": "", "state": "failed", "address": "198.18.0.2", "port": 6783}),
        (raw(f"none   {PEER}", "pending"), {"mode": "", "state": "pending"}),
        (raw("x" * 9000, "established\nfake", name=7, mtu="1e9", encrypted="yes"),
         {"mode": "", "peer": "", "state": "", "mtu": None, "encrypted": False}),
        ({**raw(f"fastdp {PEER}"), "Address": "[2001:db8::1]:6783"}, {"address": "2001:db8::1", "port": 6783}),
        ({**raw(f"fastdp {PEER}"), "Address": "node2:6783"}, {"address": "", "port": 0}),
        ({**raw(f"fastdp {PEER}"), "Address": "198.18.0.2:99999999"}, {"address": "198.18.0.2", "port": 0}),
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
def served(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A port of 127.0.0.1 where ``talk`` has every connection, one after the other, until the event; none is closed."""
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
            with suppress(OSError):  # who asked may have heard enough
                talk(connection, stop)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answering(answer: bytes | None) -> AbstractContextManager[int]:
    """One that gives ``answer``; None: it says nothing."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        if answer is not None:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)

    return served(talk)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_asked_over_the_loopback() -> None:
    body = json.dumps(report(raw(f"sleeve {PEER}", name="sleeve", mtu=1438))).encode()
    with answering(http(body)) as port:
        said = weavestatus.ask(port)
    one = WeaveConnection(peer=PEER, address="198.18.0.2", port=6783, mode="sleeve", state="established", mtu=1438)
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


def pouring(first: bytes, piece: bytes, pause: float) -> AbstractContextManager[int]:
    """One that answers ``first`` and then never ends, a ``piece`` each ``pause`` seconds."""

    def talk(connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(5)
        connection.recv(65536)
        connection.sendall(first)
        while not stop.wait(pause):
            connection.sendall(piece)

    return served(talk)


@pytest.mark.parametrize(
    ("first", "piece", "pause", "codes"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"{" * 65536, 0.0, {"malformed", "timeout"}),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65536, 0.0, {"malformed", "timeout"}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.01, {"malformed", "timeout"}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n", b" ", 0.02, {"timeout"}),
    ],
    ids=["a body", "a header", "chunks", "drop by drop"],
)
def test_an_answer_that_never_ends(first: bytes, piece: bytes, pause: float, codes: set[str]) -> None:
    """Given up by the size or by the time, whichever comes first; memory is bounded by LIMIT."""
    with pouring(first, piece, pause) as port:
        said = weavestatus.ask(port)
    assert isinstance(said, Missing)
    assert said.code in codes


def test_a_report_larger_than_any_mesh_makes() -> None:
    with answering(http(b"[" + b"0," * (weavestatus.LIMIT // 2) + b"0]")) as port:
        said = weavestatus.ask(port)
    assert isinstance(said, Missing)
    assert said.code in ("malformed", "timeout")


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
    said = weavestatus.ask_of(child, clock.now() + 9)
    assert isinstance(said, Missing)
    assert said.code == "vanished"


def test_nobody_is_asked_when_the_time_is_over() -> None:
    said = weavestatus.ask_of(os.getpid(), clock.now())
    assert isinstance(said, Missing)
    assert said.code == "limit"


WEAVER = """
import http.server, os, sys
open("/proc/self/comm", "w").write("weaver")
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["BODY"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 6784), Page)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.mark.lab
def test_a_weaver_in_a_lab_host_is_found_and_asked() -> None:
    """Its process in a namespace of its own, its environment, its devices, its page: all in one look."""
    with nets() as net:
        net.add("n1")
        net.batch("n1", "link add weave mtu 1410 type bridge\nlink add vethwe-pcap type veth peer name vethwe-bridge")
        body = json.dumps(report(raw(f"sleeve {PEER}", name="sleeve", mtu=1400), encryption=True))
        words = ("ip", "netns", "exec", net("n1"), sys.executable, "-c", WEAVER)
        environment = {**os.environ, "BODY": body, "WEAVE_MTU": "1410", "WEAVE_PASSWORD": "hunter2"}
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as weaver:
            try:
                assert weaver.stdout is not None
                assert weaver.stdout.readline() == "ready\n"
                host = Observer(None).state("state", "all").host
            finally:
                weaver.kill()
        ((facts,), own) = ([n for n in host.nodes if n.weave], netns.own())
        own.close()
        assert own.id == host.own  # and we are back home
        assert facts.where == f"netns:{net('n1')}"
        (overlay,) = facts.overlays
        assert (overlay.maker, overlay.mtu, overlay.backend, overlay.encryption) == ("weave", 1410, "udp", "ipsec")
        assert facts.weave == (
            WeaveConnection(
                peer=PEER, address="198.18.0.2", port=6783, mode="sleeve", state="established", mtu=1400, encrypted=True
            ),
        )
        assert b"hunter2" not in codec.dump(host)
