"""What makes packets in tests and in the demo does it where nothing outside can be touched."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pathfit.cli import isolation

ROOT = Path(__file__).parents[1]
ISOLATED = ROOT / "tools" / "isolated"


def isolated(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ISOLATED), *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.lab
def test_the_only_link_is_lo() -> None:
    """Asked of the kernel inside; and of ourselves, when `make test` runs us."""
    done = isolated("ip", "-br", "link")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lo"], done.stderr
    assert "UP" in done.stdout
    if isolation.inside():
        assert [name for _, name in socket.if_nameindex()] == ["lo"]


@pytest.mark.lab
def test_run_is_its_own_and_empty() -> None:
    assert isolated("ls", "-A", "/run").stdout == ""
    marker = "pathfit-isolation-test"
    assert isolated("sh", "-c", f"touch /run/{marker} && ls /run").stdout == f"{marker}\n"
    assert not Path("/run", marker).exists()


@pytest.mark.lab
def test_namespaces_made_inside_are_gone_afterwards() -> None:
    done = isolated("sh", "-c", "ip netns add pathfit-isolation-test && ip netns list")
    assert done.stdout.split() == ["pathfit-isolation-test"]
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "pathfit-isolation-test" not in listed


@pytest.mark.lab
@pytest.mark.parametrize("status", [0, 1, 3, 130])
def test_the_exit_status_comes_through(status: int) -> None:
    assert isolated("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.lab
def test_what_is_left_running_ends_with_it() -> None:
    """A child that outlives its parent inside does not outlive the namespace."""
    done = isolated("sh", "-c", "sleep 1000 >/dev/null 2>&1 & readlink /proc/self/ns/pid")
    space = done.stdout.strip()
    spaces = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            spaces.append(os.readlink(entry))
        except OSError:
            continue
    assert space.startswith("pid:")
    assert space not in spaces


def test_refusal_says_why_and_what_would_allow_it(tmp_path: Path) -> None:
    """A kernel that refuses, played by an `unshare` that does."""
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    done = isolated("true", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 125
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert "Operation not permitted" in first
    assert "--privileged" in second or "sysctl" in second


def test_where_namespaces_are_refused_the_demo_replays(tmp_path: Path) -> None:
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    environment.pop("PATHFIT_ISOLATED", None)
    done = subprocess.run(
        [sys.executable, "-m", "pathfit", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert done.returncode == 0
    assert "Operation not permitted" in done.stderr
    assert done.stdout.startswith("REPLAY")
    assert "\nMTU101 inbound-black-hole" in done.stdout


@pytest.mark.lab
def test_a_bare_pytest_begins_again_in_isolation() -> None:
    """A test that builds a lab, which conftest.py lets nobody do elsewhere."""
    environment = {k: v for k, v in os.environ.items() if k != "PATHFIT_ISOLATED"}
    one = "tests/unit/test_observe_places.py::test_a_plain_file_left_behind_is_no_namespace"
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", one]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
