"""Two namespaces and a cable, with a server that misbehaves at one end. Fresh for every case, always removed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netlab import Net, nets

HERE = Path(__file__).parent
CLIENT, SERVER = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")
PORT = 4433
READY = 20.0  # seconds for a server to listen; it takes 0.05


@contextmanager
def pair() -> Iterator[Net]:
    """Namespaces "c" and "s" with one cable of MTU 1500 between them, IPv4 and IPv6; without offloads, so that what
    is sent is what travels."""
    with nets() as net:
        net.add("c", "s")
        net.ip("c", f"link add eth0 type veth peer name eth0 netns {net('s')}")
        for name, (v4, v6) in (("c", CLIENT), ("s", SERVER)):
            net.batch(name, f"address add {v4}/24 dev eth0\naddress add {v6}/64 dev eth0 nodad\nlink set eth0 up")
            net.inside(name, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        yield net


@contextmanager
def running(namespace: str, script: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A Python script of this folder inside a namespace, once it has said "ready"."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", str(HERE / script), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def opened(net: Net) -> int:
    """TCP connections that were opened from namespace "c" since it was made (tcpActiveOpens, RFC 4022)."""
    names, values = (x.split() for x in net.inside("c", "cat", "/proc/net/snmp").splitlines() if x.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["ActiveOpens"])
