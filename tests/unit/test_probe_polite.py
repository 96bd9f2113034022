"""Politeness towards addresses that are globally routable: few connections, and the verdict is right all the same.

The addresses look public; they exist in namespaces of the test's own, which no link connects to anything."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from netlab import Net, nets

from pathfit import lab

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]

SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "20000")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(bytes(20000))
    do_HEAD = do_GET
    def log_message(self, *a): pass
    def handle(self):
        try: super().handle()
        except OSError: pass
import socket, ssl, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
class Secure(Page):
    def setup(self):
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
    def handle_error(self, request, address): pass
s, t = Server(("::", 8080), Page), Server(("::", 8443), Secure)
print("ready", flush=True)
threading.Thread(target=t.serve_forever, daemon=True).start()
s.serve_forever()
"""
CERTS = [str(Path(lab.__file__).with_name("certs") / f"chain{end}") for end in (".pem", ".key")]
# In front of the server, packet by packet: SYNs, and the most connections that stand at once. One is over with a FIN
# or RST of either side, whatever the server's own program still thinks of it. Ends, with both, when stdin does.
WATCH = """
import select, socket, sys
SYN, FIN, RST, ACK = 2, 1, 4, 16
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
print("ready", flush=True)
live, syns, most = set(), 0, 0
def take():
    global syns, most
    data, where = s.recvfrom(70)
    if where[0] != "eth0":
        return
    head = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 40
    if (data[9] if data[0] >> 4 == 4 else data[6]) != 6 or len(data) < head + 14:
        return
    incoming = where[2] != socket.PACKET_OUTGOING
    port = int.from_bytes(data[head:head + 2] if incoming else data[head + 2:head + 4], "big")
    flags = data[head + 13]
    if incoming and flags & (SYN | ACK) == SYN:
        syns += 1
        live.add(port)
        most = max(most, len(live))
    if flags & (FIN | RST):
        live.discard(port)
ended = False
while not ended:
    ready = select.select([s, sys.stdin], [], [])[0]
    ended = sys.stdin in ready
    while select.select([s], [], [], 0)[0]:
        take()
print(syns, most, flush=True)
"""


@contextmanager
def far(limit: int) -> Iterator[Net]:
    """c - r - s; what is larger than ``limit`` vanishes in r both ways, in silence."""
    with nets() as net:
        net.routed(("93.184.211", "93.184.212"), ("2600:1", "2600:2"), 34)
        net.drop("r", "forward", f"meta length > {limit} drop")
        with net.serving("s", SERVER, *CERTS):
            yield net


def probed(net: Net, *words: str) -> dict[str, Any]:
    """The report of `probe` in c, with what the server's side saw of it: at most 24 connections, four at once."""
    watch = ["ip", "netns", "exec", net("s"), sys.executable, "-c", WATCH]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None and watcher.stdout.readline() == "ready\n"
        argv = ["ip", "netns", "exec", net("c"), *words]
        report: dict[str, Any] = json.loads(subprocess.run(argv, capture_output=True, timeout=40, check=False).stdout)
        syns, most = map(int, watcher.communicate()[0].split())
    assert 0 < syns <= 24, syns
    assert 0 < most <= 4, most
    return report


PATHFIT = str(Path(sys.executable).with_name("pathfit"))
UNPROVEN = "something was missing, not often enough to be sure"
TOO_SHORT = "the answers are too short to fill a packet"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("target", ["http://93.184.212.34:8080/", "http://[2600:2::34]:8080/", "93.184.212.34:8080"])
@pytest.mark.parametrize("rights", [(), pytest.param(NOBODY, marks=pytest.mark.real_root)], ids=["root", "nobody"])
@pytest.mark.parametrize("limit", [1500, 1420, 1337])
def test_few_connections_and_a_true_verdict(limit: int, rights: tuple[str, ...], target: str) -> None:
    """Where the processors are busy, a server may answer in pieces that show nothing, and 24 connections be too few to
    prove a hole inwards: that is said then ("unproven", or that no answer filled a packet), and is no way to end time
    and again."""
    for _ in range(3):
        with far(limit) as net:
            report = probed(net, *rights, PATHFIT, "probe", target, "--json")
        codes = {f["code"] for f in report["findings"]}
        if limit == 1500 or "MTU101" in codes:
            break
        assert report["verdict"] != "healthy", report["measured"]
        assert report["measured"]["reverse"]["note"] in (UNPROVEN, TOO_SHORT), report["measured"]
    if limit == 1500:
        assert report["verdict"] == "healthy", codes
    else:
        assert report["verdict"] == "broken" and "MTU101" in codes, codes
        assert rights or "MTU102" in codes, codes
    # Without rights a hole inwards is reason not to send anything large outwards (docs/probing.md).
    for way in ("reverse",) if rights and limit < 1500 else ("reverse", "forward"):
        size = report["measured"][way]
        assert size["pass"] is not None and size["pass"] <= limit, size
        assert (size["fail"] is None) if limit == 1500 else size["fail"] > limit, size


@pytest.mark.parametrize("limit", [1500, 1420])
def test_first_flights_are_within_the_limit(limit: int) -> None:
    """Large and small ClientHellos beside the handshake for the certificate: 24 in all."""
    with far(limit) as net:
        report = probed(net, PATHFIT, "probe", "https://93.184.212.34:8443/", "--json")
        tried = [t for t in report["measured"]["forward"]["tried"] if t["method"] == "tls-first-flight"]
        assert report["verdict"] == ("healthy" if limit == 1500 else "broken")
        assert limit != 1500 or [t["pass"] for t in tried] == [1500]


@pytest.mark.parametrize("limit", [1500, 1420])
def test_the_limit_holds_for_all_addresses_together(limit: int) -> None:
    """Two are measured as far as 24 connections go; the third and the fourth get what is left, or are left out."""
    more = ("93.184.212.35", "2600:2::35")
    with far(limit) as net:
        net.ip("s", f"addr add {more[0]}/24 dev eth0")
        net.ip("s", f"addr add {more[1]}/64 dev eth0")
        given = [x for a in ("93.184.212.34", "2600:2::34", *more) for x in ("--resolve", f"s.example:{a}")]
        report = probed(net, PATHFIT, "probe", "http://s.example:8080/", "--json", *given)
        first, *others = report["measured"]["addresses"]
        assert first["target"]["address"] == "2600:2::34" and first["reverse"]["pass"] is not None
        if limit == 1500:  # measured in full: both families, both ways
            assert [(a["forward"]["pass"], a["reverse"]["pass"]) for a in (first, others[0])] == [(1500, 1500)] * 2
            assert {a["target"]["family"] for a in (first, others[0])} == {4, 6}
        assert others and all(a["target"]["tcp"] == "ok" for a in others)
        assert report["verdict"] == ("healthy" if limit == 1500 else "broken")
        left = [m for m in report["missing"] if "more" in m["what"]]
        assert len(others) + 1 + sum(int(m["what"].split()[0]) if m["what"][0].isdigit() else 1 for m in left) == 4
