"""The tools of `make`: each does what it says, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "lint_sizes.py"


def function(lines: int, doc: int = 0) -> str:
    body = ['    """', *["    x"] * (doc - 2), '    """'] if doc else []
    return "\n".join(["def f():", *body, *["    pass"] * (lines - 1)]) + "\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n" * 500, None),
        ("x = 1\n" * 501, "module of 501 lines, at most 500"),
        (function(60), None),
        (function(61), ":1: f has 61 lines, at most 60"),
        (function(60, doc=40), None),
        (function(61, doc=40), ":1: f has 61 lines, at most 60"),
        ("async " + function(61), ":1: f has 61 lines, at most 60"),
    ],
)
def test_sizes(tmp_path: Path, source: str, says: str | None) -> None:
    (tmp_path / "m.py").write_text(source)
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if says else 0)
    assert (says or "all right") in done.stdout


BESIDE = TOOL.with_name("beside.py")


@pytest.mark.parametrize(
    ("commands", "status", "said"),
    [
        (["echo a", "echo b"], 0, "a\nb\n"),
        (["echo a; exit 3", "echo b; exit 4"], 3, "a\nb\n"),
        (["true", "echo b >&2; exit 4", "echo c"], 4, "b\nc\n"),
        (["kill -9 $$"], 137, ""),
    ],
)
def test_side_by_side(commands: list[str], status: int, said: str) -> None:
    """Each is run, the outputs stand one after the other, and one that fails is not hidden by the others."""
    done = subprocess.run([sys.executable, str(BESIDE), *commands], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, said)


def test_they_run_at_the_same_time(tmp_path: Path) -> None:
    """Each opens its end of a pipe that waits for the other's."""
    os.mkfifo(tmp_path / "pipe")
    commands = [f"echo met > {tmp_path}/pipe", f"cat {tmp_path}/pipe"]
    done = subprocess.run(
        [sys.executable, str(BESIDE), *commands], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "met\n")


OUTSIDE = TOOL.with_name("outside.py")
LINK = """
set -e
ip link add out0 type veth peer name far0; ip link set far0 up; ip link set out0 up; ip link set lo up
ip addr add 203.0.113.1/24 dev out0; ip route add 198.18.7.0/24 dev out0; ip -6 route add 2001:db8:7::/64 dev out0
ip addr add fd00::1/64 dev out0 nodad; ip addr add 10.9.0.1/24 dev out0
for a in 198.18.7.2 203.0.113.2 10.9.0.2 2001:db8:7::2; do ip neigh add $a lladdr 02:00:00:00:00:02 dev out0; done
"""
SEND = """
import socket as s, sys
kind = s.AF_INET6 if ":" in sys.argv[1] else s.AF_INET
s.socket(kind, s.SOCK_DGRAM).sendto(b"x", (sys.argv[1], 9))
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("target", "seen"),
    [("198.18.7.2", 2), ("2001:db8:7::2", 2), ("203.0.113.2", 0), ("10.9.0.2", 0)],
    ids=["leaves", "leaves, IPv6", "is the machine's own", "is no lab's"],
)
def test_a_packet_of_a_lab_that_leaves_is_seen(target: str, seen: int) -> None:
    """On both links of a pair: where one does leave, the whole run fails. What the machine says in a network of its own
    is nobody's business, even where labs elsewhere use the same one."""
    tool = [sys.executable, str(OUTSIDE), sys.executable, "-c", SEND, target]
    words = ["unshare", "--net", "sh", "-c", LINK + 'exec "$@"', "sh", *tool]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert f"(far0, out0): {seen}\n" in done.stdout, done.stderr
    assert (f" > {target}\n" in done.stderr) == bool(seen)
    assert done.returncode == (1 if seen else 0)


def test_the_command_s_own_end_is_told() -> None:
    words = [sys.executable, str(OUTSIDE), "sh", "-c", "exit 7"]
    assert subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 7


@pytest.mark.slow
def test_the_tracing_program_is_built_of_its_source() -> None:
    """To the byte, wherever the checkout lies: whoever uses pathfit needs no compiler."""
    if shutil.which("clang-14") is None and not os.environ.get("CI"):
        pytest.skip("needs clang 14 (make engines-setup)")
    done = subprocess.run([str(TOOL.with_name("bpf.sh")), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
