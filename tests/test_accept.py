"""The acceptance labs (tests/accept): plain iproute2, curl proves the fault, the JSON report is judged.

Each lab is asked twice: *open*, every namespace visible, and *blind*, only the container's side. The labs are
shell, so that nothing of pathfit is judged by pathfit. Where there is a repair it is made (`fix --yes`), has to carry
200 kB down and up, and is undone: then the fault is back and every namespace equal.
"""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "accept"
ORIGINAL = HERE.parents[2] / "shared" / "accept"
CASES = sorted(p.stem for p in (HERE / "cases").glob("*.sh"))
SECONDS = 240  # build, prove, ask (60 at most), prove again; repair, prove, undo, prove


@pytest.mark.lab
@pytest.mark.parametrize("mode", ["open", "blind"])
@pytest.mark.parametrize("case", CASES)
def test_accept(case: str, mode: str) -> None:
    pathfit = Path(sys.executable).parent / "pathfit"
    environment = {**os.environ, "CURE": "1", "MODES": mode, "PATHFIT": str(pathfit), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", str(HERE / "run"), case], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_cases() -> None:
    assert len(CASES) >= 7


def different(a: Path, b: Path) -> list[str]:
    """Names that differ between two folders, or stand in one of them only."""
    found = filecmp.dircmp(a, b, ignore=["__pycache__"])
    names = [*found.left_only, *found.right_only, *found.diff_files, *found.funny_files]
    return names + [f"{d}/{n}" for d in found.common_dirs for n in different(a / d, b / d)]


def test_the_copy_is_that_of_the_original(tmp_path: Path) -> None:
    """Where the original stands beside the repository; a copy of ours always differs once it is changed."""
    if ORIGINAL.is_dir():
        assert different(ORIGINAL, HERE) == []
    shutil.copytree(HERE, tmp_path / "copy")
    assert different(HERE, tmp_path / "copy") == []
    (tmp_path / "copy" / "judge.py").write_text("exit(0)")
    assert different(HERE, tmp_path / "copy") == ["judge.py"]
