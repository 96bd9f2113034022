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
