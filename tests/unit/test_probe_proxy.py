"""Through a CONNECT proxy: what is measured is the way to the proxy, with what comes through it."""

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

from pathfit.core.evidence import ProbeResult
from pathfit.core.request import Measure
from pathfit.probe.target import measure

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]

PROXY = """
import socket, ssl, sys, threading
from pathlib import Path
import pathfit.lab.lab as labs
certs = Path(labs.__file__).parent / "certs"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certs / "chain.pem", certs / "chain.key")
def serve(s):
    try:
        said = b""
        while b"\\r\\n\\r\\n" not in said:
            more = s.recv(4096)
            if not more: return
            said += more
        assert said.startswith(b"CONNECT far.example:443 HTTP/1.1"), said
        s.sendall(b"HTTP/1.1 200 Connection established\\r\\n\\r\\n")
        with context.wrap_socket(s, server_side=True) as t:
            t.recv(4096)
            t.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 9000\\r\\n\\r\\n" + bytes(9000))
            t.recv(4096)
    except OSError: pass
    finally: s.close()
listener = socket.create_server(("192.0.2.2", 3128), backlog=64)
print("ready", flush=True)
while True:
    s, _ = listener.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
"""


@contextmanager
def proxied(limit: int, code: str) -> Iterator[Net]:
    """c and a proxy, and nothing else: no name resolves. What comes to c larger than ``limit`` vanishes."""
    with nets() as net:
        net.add("c", "p")
        net.ip("c", f"link add eth0 type veth peer name eth0 netns {net('p')}")
        for name, last in (("c", 1), ("p", 2)):
            net.ip(name, f"addr add 192.0.2.{last}/24 dev eth0")
            net.plain(name, "eth0")
            net.ip(name, "link set eth0 up")
        net.drop("c", "input", f"meta length > {limit} drop")
        with net.serving("p", code):
            yield net


@pytest.mark.parametrize("limit", [1500, 1400])
def test_the_way_to_the_proxy(limit: int) -> None:
    with proxied(limit, PROXY) as net:
        fd = os.open(f"/run/netns/{net('c')}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            request = Measure(
                ref="m",
                source="x",
                address="192.0.2.2",
                port=3128,
                protocol="https",
                host="far.example",
                proxy="far.example:443",
            )
            r = measure(fd, request)
            assert isinstance(r, ProbeResult)
            assert (r.reverse[0].passes, r.reverse[0].fails) == (limit, None if limit == 1500 else limit + 1)
            assert r.forward[0].passes == 1500 and r.forward[0].fails is None
            assert r.contact.tls == ("ok" if limit == 1500 else "stalled")
        finally:
            os.close(fd)


# 3128 speaks HTTP (CONNECT, and whole URLs), 3129 the same inside TLS, 1080 SOCKS: it waits to be spoken to
PROXIES = """
import socket, ssl, threading
from pathlib import Path
import pathfit.lab.lab as labs
certs = Path(labs.__file__).parent / "certs"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certs / "chain.pem", certs / "chain.key")
PAGE = b"HTTP/1.1 200 OK\\r\\nContent-Length: 9000\\r\\n\\r\\n"
seen = set()
def head(s):
    said = b""
    while b"\\r\\n\\r\\n" not in said:
        more = s.recv(4096)
        if not more: raise OSError
        said += more
    return said
def page(s, said):
    while True:
        s.sendall(PAGE + (b"" if said.startswith(b"HEAD") else bytes(9000)))
        said = head(s)
def http(s):
    said = head(s)
    if said.startswith(b"CONNECT"):
        assert said.startswith(b"CONNECT far.example:443 HTTP/1.1"), said
        s.sendall(b"HTTP/1.1 200 Connection established\\r\\n\\r\\n")
        with context.wrap_socket(s, server_side=True) as t: page(t, head(t))
    if b" http://far.example:80/x " in said.split(b"\\r\\n")[0]: page(s, said)
    s.sendall(b"HTTP/1.1 400 what\\r\\nContent-Length: 0\\r\\n\\r\\n")
def tls(s):
    with context.wrap_socket(s, server_side=True) as t: http(t)
def socks(s):
    s.recv(4096)
def serve(port, speak):
    def one(s):
        try: speak(s)
        except OSError: pass
        finally: s.close()
    listener = socket.create_server(("192.0.2.2", port), backlog=64)
    def accept():
        while True: threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
serve(3128, http); serve(3129, tls); serve(1080, socks)
print("ready", flush=True)
threading.Event().wait()
"""
HTTP, TLS, SOCKS = "http://192.0.2.2:3128", "https://192.0.2.2:3129", "socks5h://192.0.2.2"


def asked(net: Net, target: str, *more: str, **environ: str) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    argv = ["ip", "netns", "exec", net("c"), str(Path(sys.executable).with_name("pathfit")), "probe", target, "--json"]
    done = subprocess.run([*argv, *more], capture_output=True, timeout=40, check=False, env={**clean, **environ})
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_environment_decides() -> None:
    with proxied(1500, PROXIES) as net:
        rows: list[tuple[str, tuple[str, ...], dict[str, str], str, str]] = [
            ("https://far.example/", (), {"https_proxy": HTTP}, "healthy", "environment"),
            ("http://far.example/x", (), {"http_proxy": HTTP}, "healthy", "environment"),
            ("http://far.example/x", (), {"ALL_PROXY": HTTP}, "healthy", "environment"),
            ("https://far.example/", ("--proxy", HTTP), {}, "healthy", "environment"),
            ("https://far.example/", (), {"https_proxy": TLS}, "healthy", "not-followed"),
            ("https://far.example/", (), {"all_proxy": SOCKS}, "unknown", "not-followed"),
        ]
        for target, more, environ, verdict, case in rows:
            report = asked(net, target, *more, **environ)
            said = {f["code"]: f["facts"].get("case") for f in report["findings"]}
            assert (report["verdict"], said.get("APP804")) == (verdict, case), (environ, report["missing"], said)
            where = report["measured"]["target"]
            assert (where["address"], where["tcp"], where["ends_at"]) == ("192.0.2.2", "ok", "local-proxy"), environ
            assert report["measured"]["forward"]["pass"] == 1500
            assert report["measured"]["reverse"]["pass"] == (None if verdict == "unknown" else 1500)
        # and where none counts, the name is asked for, which nobody here knows
        for environ in ({"HTTP_PROXY": HTTP}, {"http_proxy": HTTP, "no_proxy": "example"}, {"http_proxy": ""}):
            report = asked(net, "http://far.example/x", **environ)
            assert "DNS251" in [f["code"] for f in report["findings"]], environ


@pytest.mark.parametrize("proxy", [HTTP, TLS])
def test_a_hole_on_the_way_to_the_proxy(proxy: str) -> None:
    with proxied(1400, PROXIES) as net:
        report = asked(net, "https://far.example/", https_proxy=proxy)
        assert report["findings"][0]["code"] == "MTU101"
        assert (report["measured"]["reverse"]["pass"], report["measured"]["reverse"]["fail"]) == (1400, 1401)
