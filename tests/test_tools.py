"""The size lint finds what is too long, and nothing else."""

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
