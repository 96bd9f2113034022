"""Fresh network namespaces for tests: uniquely prefixed, linked to nothing outside, always removed."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pathfit.cli import isolation


class Net:
    """Namespaces named PREFIX-NAME: ``net("a")`` is such a name, ``net.ip("a", "link set lo up")`` runs ip in it."""

    def __init__(self) -> None:
        assert isolation.inside(), "namespaces of tests are made under tools/isolated only"
        self.prefix = f"pfo{uuid.uuid4().hex[:6]}"
        self.names: list[str] = []

    def __call__(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def add(self, *names: str) -> None:
        for name in names:
            run("ip", "netns", "add", self(name))
            self.names.append(name)
            for scope in ("all", "default"):  # addresses count at once: no state that changes by itself later
                self.inside(name, "sysctl", "-qw", f"net.ipv6.conf.{scope}.accept_dad=0")
            self.ip(name, "link set lo up")

    def ip(self, name: str, words: str) -> str:
        return run("ip", "-n", self(name), *words.split())

    def batch(self, name: str, lines: str) -> None:
        text = "\n".join(line.strip() for line in lines.strip().splitlines() if line.strip())
        run("ip", "-n", self(name), "-batch", "-", stdin=text + "\n")

    def inside(self, name: str, *words: str, stdin: str | None = None) -> str:
        return run("ip", "netns", "exec", self(name), *words, stdin=stdin)

    def json(self, name: str, tool: str, words: str) -> Any:
        """What iproute2 says: "ip" or "bridge" with -json."""
        text = run(tool, "-n", self(name), "-json", "-details", *words.split())
        return [entry for entry in json.loads(text or "[]") if entry]

    def routed(self, v4: tuple[str, str], v6: tuple[str, str], host: int, *, plain: bool = True) -> None:
        """c - r - s: r routes between two networks (the first three parts of an IPv4 prefix of 24, the first groups of
        an IPv6 prefix of 64) and is ".1" in both; the ends are ``host`` in theirs. ``plain``: no offloads."""
        self.add("c", "r", "s")
        for name, four, six in zip("cs", v4, v6, strict=True):
            self.ip("r", f"link add v{name} type veth peer name eth0 netns {self(name)}")
            self.ip("r", f"link set v{name} up")
            self.ip(name, "link set eth0 up")
            self.ip("r", f"addr add {four}.1/24 dev v{name}")
            self.ip("r", f"addr add {six}::1/64 dev v{name}")
            self.ip(name, f"addr add {four}.{host}/24 dev eth0")
            self.ip(name, f"addr add {six}::{host}/64 dev eth0")
            self.ip(name, f"route add default via {four}.1")
            self.ip(name, f"-6 route add default via {six}::1")
            if plain:
                self.plain(name, "eth0")
                self.plain("r", f"v{name}")
        self.inside("r", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def plain(self, name: str, link: str) -> None:
        """No super-packets: what is said of sizes is said of the wire."""
        self.inside(name, "ethtool", "-K", link, "tso", "off", "gso", "off", "gro", "off")

    def drop(self, name: str, hook: str, rule: str) -> None:
        """A rule on what ``name`` forwards, or takes in (``hook``), both families."""
        text = f"table inet hole {{ chain f {{ type filter hook {hook} priority 0; {rule}\n }}\n }}\n"
        self.inside(name, "nft", "-f", "-", stdin=text)

    @contextmanager
    def serving(self, name: str, code: str, *words: str) -> Iterator[None]:
        """A server, Python that prints a line when it is ready."""
        argv = ["ip", "netns", "exec", self(name), sys.executable, "-c", code, *words]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None and server.stdout.readline()
                yield
            finally:
                server.kill()

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self(name)], check=False, capture_output=True)


STATE = Path(__file__).parents[1] / "accept" / "state.py"
SETTLED = 5.0  # seconds until IPv6 of new devices has come to rest


def settled(prefix: str) -> str:
    """The configuration of every namespace of that prefix (tests/accept/state.py), once IPv6 has come to rest: every
    device that runs has its link-local address, none asks for duplicates any more (RFC 4862), and two looks see the
    same (routes of a new address come after it)."""
    until = time.monotonic() + SETTLED
    last = ""
    while True:
        words = [sys.executable, str(STATE), prefix]
        text = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        assert len(text) > 100, "no state"
        if (text == last and not _restless(json.loads(text))) or time.monotonic() > until:
            return text
        last = text


def _restless(state: dict[str, Any]) -> bool:
    for link in (x for namespace in state.values() for x in namespace["addr"]):
        v6 = [a for a in link["addr_info"] or () if a.get("family") == "inet6"]
        runs = {"UP", "LOWER_UP"} <= set(link["flags"]) and "LOOPBACK" not in link["flags"] and link["mtu"] >= 1280
        if (runs and not v6) or any(a.get("tentative") for a in v6):
            return True
    return False


def run(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


@contextmanager
def nets() -> Iterator[Net]:
    if os.geteuid() != 0:
        pytest.skip("needs root, or a user namespace of one's own")
    net = Net()
    try:
        yield net
    finally:
        net.remove()
