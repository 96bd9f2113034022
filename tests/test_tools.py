"""The tools of `make`: each does what it says, and nothing else."""

import os
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
