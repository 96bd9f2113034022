"""`pathfit trace` in labs of three hosts: a web server, the command, and what it says in short."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from netlab import Net, nets

HERE = Path(__file__).parents[1]
CERTS = HERE.parent / "src" / "pathfit" / "lab" / "certs"
SERVER = HERE / "accept" / "srv.py"
PATHFIT = str(Path(sys.executable).with_name("pathfit"))
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
SO_TIMESTAMP = 29  # asm-generic/socket.h
SERVE = """
import os, socket, sys, time
parent = os.getpid()
if os.fork():  # the server is this process: it ends when it is killed
    for fd in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    os.execv(sys.argv[1], sys.argv[1:])
while os.getppid() == parent:
    try:
        socket.create_connection(("127.0.0.1", 8443), 1).close()
        print(flush=True)
        break
    except OSError:
        time.sleep(0.02)
"""
HANGS_UP = """
import socket, struct
s = socket.create_server(("::", 8081), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
print(flush=True)
while True:
    c, _ = s.accept()
    try:
        c.recv(1)
    except ConnectionResetError:
        pass
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
"""


def web(net: Net, host: str = "s") -> AbstractContextManager[None]:
    """The acceptance labs' server on that host: https on 8443, http on 8080. It answers when this begins."""
    words = (sys.executable, str(SERVER), str(CERTS / "chain.pem"), str(CERTS / "chain.key"))
    return net.serving(host, SERVE, *words)


@contextmanager
def stamped() -> Iterator[None]:
    """Somebody on this machine wants to know when packets came in, as ping and chrony do: while that is so, the kernel
    stamps every one where it comes in, and several points tell the same moment (net_enable_timestamp())."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        yield


def traced(net: Net, *more: str, to: str = "https://198.51.100.2:8443/50000") -> tuple[int, dict[str, Any]]:
    """Exit status and document."""
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", to, "--json", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def lost(net: Net, document: dict[str, Any]) -> list[tuple[str, str | None, str | None, list[str]]]:
    """(direction, last point, next point, reasons) without the lab's prefix."""

    def name(at: dict[str, str] | None) -> str | None:
        return f"{at['netns']}/{at['link']}".replace(f"netns:{net.prefix}-", "") if at else None

    return [
        (x["direction"], name(x["after"]), name(x["before"]), [c["why"] for c in x["causes"]])
        for x in document["losses"]
    ]


def packet_sockets(net: Net) -> int:
    """How many there are in the lab."""
    return sum(len(net.inside(name, "cat", "/proc/net/packet").splitlines()) - 1 for name in net.names)


@contextmanager
def documented() -> Iterator[Net]:
    """c - r - s, where a web server answers, with addresses for documentation (RFC 5737, RFC 3849)."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 77)
        with web(net):
            yield net
