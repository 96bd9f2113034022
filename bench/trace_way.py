"""A way to measure `trace` on: c - r1 - r2 - s, six devices with a tap each, senders and receivers on it.

Bare cables, two routers, nothing else: of all ways the one on which a packet costs least, so that looking at it costs
most beside it. What containers have (bridges, translation, filters) makes a packet dearer, and the looking not.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.observe import batch

from pathfit.cli import isolation
from pathfit.core.filters import Table
from pathfit.core.net import Point
from pathfit.core.tracing import Tap
from pathfit.host import netns
from pathfit.observe.filters import read_tables

SOURCE = Path(__file__).with_name("blast.c")
HOSTS = ("c", "r1", "r2", "s")
DEVICES = (("c", "d0"), ("r1", "u0"), ("r1", "d1"), ("r2", "u1"), ("r2", "d2"), ("s", "u2"))
CLIENT, SERVER = "10.9.0.1", "10.9.2.2"  # of the flow
OTHER = "10.9.2.7"  # the server's second address, where everything else goes
PORT, CLOSED = 9, 10  # where all is taken in; where a rule drops it
FLOW = 8443  # a port of the flow that is watched while others send


class Sent(NamedTuple):
    """What a sender did: datagrams or bytes; nanoseconds on the wall, of its processor time."""

    count: int
    wall: int
    cpu: int


class Sender:
    """A process of blast.c that sends when it is told to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def start(self, ms: int, rate: int = 0) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{ms} {rate}\n")
        self._process.stdin.flush()

    def done(self) -> Sent:
        assert self._process.stdout is not None
        return Sent(*map(int, self._process.stdout.readline().split()))

    def send(self, ms: int, rate: int = 0) -> Sent:
        self.start(ms, rate)
        return self.done()


class Way:
    """The lab. ``taps`` of all six devices, ``files``: the namespaces they are in, open."""

    def __init__(self, stack: ExitStack) -> None:
        assert isolation.inside(), "namespaces are built under tools/isolated only"
        self._stack = stack
        self.prefix = f"pfw{os.getpid()}"
        stack.callback(self._remove)
        self._build()
        self.files: dict[str, int | None] = {}
        for host in HOSTS:
            fd = os.open(f"/run/netns/{self(host)}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            self.files[host] = fd
        self.taps = tuple(self._tap(*x) for x in DEVICES)
        self._blast = stack.enter_context(compiled())
        for port in (PORT, FLOW):
            sink = self._popen("s", "sink", str(port))
            assert sink.stdout is not None and sink.stdout.readline() == "ready\n"

    def __call__(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def _build(self) -> None:
        batch(None, "\n".join(f"netns add {self(n)}" for n in HOSTS))
        for i, (a, b) in enumerate(pairwise(HOSTS)):
            batch(self(a), f"link add d{i} type veth peer name u{i} netns {self(b)}")
            for host, link, last in ((a, f"d{i}", 1), (b, f"u{i}", 2)):
                batch(self(host), f"link set lo up\nlink set {link} up\naddr add 10.9.{i}.{last}/24 dev {link}")
        batch(self("c"), "route add default via 10.9.0.2")
        batch(self("r1"), "route add 10.9.2.0/24 via 10.9.1.2")
        batch(self("r2"), "route add 10.9.0.0/24 via 10.9.1.1")
        batch(self("s"), f"route add default via 10.9.2.1\naddr add {OTHER}/24 dev u2")
        for host in HOSTS:
            self.inside(host, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rule = f"table inet t {{ chain i {{ type filter hook input priority 0; udp dport {CLOSED} drop\n }}\n }}\n"
        self.inside("s", "nft", "-f", "-", stdin=rule)
        self.offloads("on")

    def tables(self) -> dict[str, Sequence[Table] | None]:
        """Packet filters of each namespace, as a watch wants them."""
        found: dict[str, Sequence[Table] | None] = {}
        for host, fd in self.files.items():
            with netns.inside(fd):
                found[host] = read_tables()[0]
        return found

    def _tap(self, host: str, link: str) -> Tap:
        (found,) = json.loads(self.inside(host, "ip", "-j", "link", "show", link))
        return Tap(at=Point(host="bench", netns=self(host), link=link), netns=host, link=found["ifindex"])

    def offloads(self, word: str) -> None:
        """ "on": as they are made; "off": every segment passes by itself."""
        for host, link in DEVICES:
            self.inside(host, "ethtool", "-K", link, "tso", word, "gso", word, "gro", word)

    def inside(self, host: str, *words: str, stdin: str | None = None) -> str:
        command = ["ip", "netns", "exec", self(host), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def _popen(self, host: str, *words: str) -> "subprocess.Popen[str]":
        command = ["ip", "netns", "exec", self(host), str(self._blast), *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def arrived(self) -> int:
        """Packets that came to the server, by its device's own counter."""
        (found,) = json.loads(self.inside("s", "ip", "-j", "-s", "link", "show", "u2"))
        return int(found["stats64"]["rx"]["packets"])

    def sender(self, kind: str, address: str, port: int = PORT) -> Sender:
        """``kind``: "udp" or "tcp"."""
        return Sender(self._popen("c", kind, address, str(port)))

    @contextmanager
    def counted(self, port: int) -> Iterator[dict[int, int]]:
        """Datagrams to that port at each of the taps, by the kernel's own counters; complete when it is over."""
        counts: dict[int, int] = {}
        for host in HOSTS:
            chains = "".join(
                f'chain {link} {{ type filter hook {hook} device "{link}" priority 0; udp dport {port} counter\n }}\n'
                for at, link in DEVICES
                for hook in ["egress" if link.startswith("d") else "ingress"]
                if at == host
            )
            self.inside(host, "nft", "-f", "-", stdin=f"table netdev count {{\n{chains}}}\n")
        yield counts
        for host in HOSTS:
            for entry in json.loads(self.inside(host, "nft", "-j", "list", "table", "netdev", "count"))["nftables"]:
                for part in entry.get("rule", {}).get("expr", ()):
                    if "counter" in part:
                        at = DEVICES.index((host, entry["rule"]["chain"]))
                        counts[at] = part["counter"]["packets"]
            self.inside(host, "nft", "delete", "table", "netdev", "count")

    def _remove(self) -> None:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", self(host)], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def compiled() -> Iterator[Path]:
    """blast.c as a program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-14")
    assert compiler, "needs a C compiler: try: sudo apt-get install -y --no-install-recommends gcc libc6-dev"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "blast"
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
        yield program
