"""Politeness towards addresses that are globally routable: few connections, and the verdict is right all the same.

The addresses look public; they exist in namespaces of the test's own, which no link connects to anything."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
# nft in front of the server: every SYN, and how many connections stand at once (each new one above four is counted)
RULES = """
table inet polite {
  chain input {
    type filter hook input priority 0;
    tcp flags & (syn | ack) == syn counter comment "syns"
    tcp flags & (syn | ack) == syn ct count over 4 counter comment "fifth"
  }
}
"""


@contextmanager
def far(limit: int) -> Iterator[Net]:
    """c - r - s; what is larger than ``limit`` vanishes in r both ways, in silence."""
    with nets() as net:
        net.add("c", "r", "s")
        for name in ("c", "s"):
            net.ip("r", f"link add v{name} type veth peer name eth0 netns {net(name)}")
            net.ip("r", f"link set v{name} up")
            net.ip(name, "link set eth0 up")
        for name, last in (("c", 1), ("s", 2)):
            net.ip("r", f"addr add 93.184.21{last}.1/24 dev v{name}")
            net.ip("r", f"addr add 2600:{last}::1/64 dev v{name}")
            net.ip(name, f"addr add 93.184.21{last}.34/24 dev eth0")
            net.ip(name, f"addr add 2600:{last}::34/64 dev eth0")
            net.ip(name, f"route add default via 93.184.21{last}.1")
            net.ip(name, f"-6 route add default via 2600:{last}::1")
            net.inside(name, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off")
            net.inside("r", "ethtool", "-K", f"v{name}", "tso", "off", "gso", "off", "gro", "off")
        net.inside("r", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        drop = (
            f"table inet hole {{ chain f {{ type filter hook forward priority 0; meta length > {limit} drop\n }}\n }}\n"
        )
        net.inside("r", "nft", "-f", "-", stdin=drop)
        net.inside("s", "nft", "-f", "-", stdin=RULES)
        with subprocess.Popen(
            ["ip", "netns", "exec", net("s"), sys.executable, "-c", SERVER, *CERTS], stdout=subprocess.PIPE
        ) as server:
            try:
                assert server.stdout is not None and server.stdout.readline()
                yield net
            finally:
                server.kill()


def counted(net: Net) -> dict[str, int]:
    rules = json.loads(net.inside("s", "nft", "-j", "list", "table", "inet", "polite"))["nftables"]
    found = {}
    for entry in rules:
        rule = entry.get("rule", {})
        for part in rule.get("expr", ()):
            if "counter" in part:
                found[rule["comment"]] = part["counter"]["packets"]
    return found


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("target", ["http://93.184.212.34:8080/", "http://[2600:2::34]:8080/", "93.184.212.34:8080"])
@pytest.mark.parametrize("rights", [(), NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("limit", [1500, 1420, 1337])
def test_few_connections_and_a_true_verdict(limit: int, rights: tuple[str, ...], target: str) -> None:
    with far(limit) as net:
        pathfit = str(Path(sys.executable).with_name("pathfit"))
        argv = ["ip", "netns", "exec", net("c"), *rights, pathfit, "probe", target, "--json"]
        report = json.loads(subprocess.run(argv, capture_output=True, timeout=30, check=False).stdout)
        codes = {f["code"] for f in report["findings"]}
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
        seen = counted(net)
        assert 0 < seen["syns"] <= 24, seen


@pytest.mark.parametrize("limit", [1500, 1420])
def test_first_flights_are_within_the_limit(limit: int) -> None:
    """Large and small ClientHellos beside the handshake for the certificate: 24 in all."""
    with far(limit) as net:
        pathfit = str(Path(sys.executable).with_name("pathfit"))
        argv = ["ip", "netns", "exec", net("c"), pathfit, "probe", "https://93.184.212.34:8443/", "--json"]
        report = json.loads(subprocess.run(argv, capture_output=True, timeout=30, check=False).stdout)
        tried = [t for t in report["measured"]["forward"]["tried"] if t["method"] == "tls-first-flight"]
        assert report["verdict"] == ("healthy" if limit == 1500 else "broken")
        assert limit != 1500 or [t["pass"] for t in tried] == [1500]
        assert counted(net)["syns"] <= 24


@pytest.mark.parametrize("limit", [1500, 1420])
def test_the_limit_holds_for_all_addresses_together(limit: int) -> None:
    """Two are measured as far as 24 connections go; the third and the fourth get what is left, or are left out."""
    more = ("93.184.212.35", "2600:2::35")
    with far(limit) as net:
        net.ip("s", f"addr add {more[0]}/24 dev eth0")
        net.ip("s", f"addr add {more[1]}/64 dev eth0")
        pathfit = str(Path(sys.executable).with_name("pathfit"))
        given = [x for a in ("93.184.212.34", "2600:2::34", *more) for x in ("--resolve", f"s.example:{a}")]
        argv = ["ip", "netns", "exec", net("c"), pathfit, "probe", "http://s.example:8080/", "--json", *given]
        report = json.loads(subprocess.run(argv, capture_output=True, timeout=40, check=False).stdout)
        first, *others = report["measured"]["addresses"]
        assert first["target"]["address"] == "2600:2::34" and first["reverse"]["pass"] is not None
        if limit == 1500:  # measured in full: both families, both ways
            assert [(a["forward"]["pass"], a["reverse"]["pass"]) for a in (first, others[0])] == [(1500, 1500)] * 2
            assert {a["target"]["family"] for a in (first, others[0])} == {4, 6}
        assert others and all(a["target"]["tcp"] == "ok" for a in others)
        assert report["verdict"] == ("healthy" if limit == 1500 else "broken")
        left = [m for m in report["missing"] if "more" in m["what"]]
        assert len(others) + 1 + sum(int(m["what"].split()[0]) if m["what"][0].isdigit() else 1 for m in left) == 4
        assert counted(net)["syns"] <= 24
