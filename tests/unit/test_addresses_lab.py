"""A name with two addresses, one of whose ways is bad: which one the client takes decides what is an error."""

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

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]

PATHFIT = str(Path(sys.executable).with_name("pathfit"))
V4, V6 = "198.18.2.2", "2001:db8:2::2"
SERVER = """
import http.server, socket
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "20000"); self.end_headers()
        if self.command == "GET": self.wfile.write(bytes(20000))
    do_HEAD = do_GET
    def log_message(self, *a): pass
    def handle(self):
        try: super().handle()
        except OSError: pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
s = Server(("::", 8080), Page)
print("ready", flush=True)
s.serve_forever()
"""


@contextmanager
def both(drop: str) -> Iterator[Net]:
    """c - r - s with both families; ``drop``: a rule of r on what it forwards."""
    with nets() as net:
        net.routed(("198.18.1", "198.18.2"), ("2001:db8:1", "2001:db8:2"), 2)
        net.drop("r", "forward", drop)
        with net.serving("s", SERVER):
            yield net


def asked(net: Net, *more: str) -> tuple[int, dict[str, Any]]:
    """From c, where nothing of r and s is seen."""
    argv = ["ip", "netns", "exec", net("c"), PATHFIT, "probe", "http://s.example:8080/", "--json", *more]
    given = [x for a in (V4, V6) for x in ("--resolve", f"s.example:{a}")]
    done = subprocess.run([*argv, *given], capture_output=True, timeout=40, check=False)
    return done.returncode, json.loads(done.stdout)


def said(report: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(f["code"], f["severity"], f["facts"].get("case", "")) for f in report["findings"]}


HOLE = "meta nfproto {0} meta length > 1400 drop"


@pytest.mark.parametrize(
    ("drop", "more", "status", "verdict", "first", "expected"),
    [
        ("", (), 0, "healthy", V6, set()),
        (HOLE.format("ipv6"), (), 1, "broken", V6, {("MTU101", "error", ""), ("NET153", "info", "works")}),
        (HOLE.format("ipv4"), (), 0, "degraded", V6, {("NET153", "warning", "hole")}),
        ("ip6 daddr 2001:db8:2::2 tcp dport 8080 drop", (), 0, "degraded", V4, {("NET153", "warning", "before")}),
        ("ip daddr 198.18.2.2 reject with tcp reset", (), 0, "healthy", V6, {("NET153", "info", "spare")}),
        (HOLE.format("ipv6"), ("-4",), 0, "healthy", V4, set()),
    ],
    ids=["healthy", "v6 hole", "v4 hole", "v6 silent", "v4 refuses", "v6 hole, asked by v4"],
)
def test_what_the_client_takes_decides(
    drop: str, more: tuple[str, ...], status: int, verdict: str, first: str, expected: set[tuple[str, str, str]]
) -> None:
    drop = drop.replace("reject with tcp reset", "tcp dport 8080 reject with tcp reset")
    with both(drop) as net:
        ended, report = asked(net, *more)
        measured = report["measured"]
        assert (report["verdict"], ended) == (verdict, status), said(report)
        assert measured["target"]["address"] == first
        assert {a["target"]["address"] for a in measured["addresses"]} == ({V4} if more else {V4, V6})
        assert len({frozenset(a) for a in measured["addresses"]}) == 1, "the same shape for each"
        assert expected <= said(report) and not {x for x in said(report) if x[0] == "NET153"} - expected
        whole = [a for a in measured["addresses"] if a["target"]["tcp"] == "ok"]
        for a in whole:
            bad = "length" in drop and (a["target"]["family"] == 6) == ("ipv6" in drop)
            assert a["reverse"]["pass"] == (1400 if bad else 1500), a
            assert a["forward"]["pass"] == (1400 if bad else 1500), a


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("rights", [(), pytest.param(NOBODY, marks=pytest.mark.real_root)], ids=["root", "nobody"])
def test_what_the_kernel_learned_is_what_is_said(rights: tuple[str, ...]) -> None:
    """The router tells; without rights our kernel's own segments are used, and it learns (docs/probing.md)."""
    with both("") as net:
        net.ip("r", "route replace 198.18.2.0/24 dev vs mtu lock 1400")  # told on the way out alone
        argv = ["ip", "netns", "exec", net("c"), *rights, PATHFIT, "probe", f"http://{V4}:8080/", "--json"]
        done = subprocess.run(argv, capture_output=True, timeout=40, check=False)
        measured = json.loads(done.stdout)["measured"]
        shown = net.json("c", "ip", f"route show cache {V4}")
        mine = [s for s in measured["side_effects"] if s["where"] == "here"]
        assert [(s["what"], s["about"], s["before"], s["after"]) for s in mine] == [
            ("learned-path-mtu", V4, 1500, x["metrics"][0]["mtu"]) for x in shown
        ]
        assert bool(shown) is bool(rights)
        assert all(0 < s["lasts_s"] <= 600 for s in mine)
        here = measured["addresses"][0]["remembered"]["here"]
        assert here["before"] == {"path_mtu": 1500, "exceptions": [], "tcp_metrics": []}
        assert here["after"]["path_mtu"] == (1400 if rights else 1500)
        mss = measured["target"]["mss"]
        assert mss["ours"] == 1460 and mss["first"]["pmtu"] == 1500 and mss["first"]["advmss"] in (1448, 1460)
