"""Through a CONNECT proxy: what is measured is the way to the proxy, with what comes through it."""

import os
import subprocess
import sys

import pytest
from netlab import nets

from pathfit.core.evidence import ProbeResult
from pathfit.core.request import Measure
from pathfit.probe.engine import measure

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


@pytest.mark.parametrize("limit", [1500, 1400])
def test_the_way_to_the_proxy(limit: int) -> None:
    with nets() as net:
        net.add("c", "p")
        net.ip("c", f"link add eth0 type veth peer name eth0 netns {net('p')}")
        for name, last in (("c", 1), ("p", 2)):
            net.ip(name, f"addr add 192.0.2.{last}/24 dev eth0")
            net.inside(name, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off")
            net.ip(name, "link set eth0 up")
        rule = (
            f"table inet h {{\n chain i {{\n type filter hook input priority 0; meta length > {limit} drop\n }}\n}}\n"
        )
        net.inside("c", "nft", "-f", "-", stdin=rule)
        argv = ["ip", "netns", "exec", net("p"), sys.executable, "-c", PROXY]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as proxy:
            fd = os.open(f"/run/netns/{net('c')}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                assert proxy.stdout is not None and proxy.stdout.readline()
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
                proxy.kill()
