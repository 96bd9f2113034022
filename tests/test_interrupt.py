"""Ctrl-C at any moment: it ends quickly, says so in one line, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pathfit.lab import Lab, load

MOMENTS = [n * 0.03 for n in range(12)]  # seconds after the start; a diagnosis takes 0.2 to 0.5
QUICK = 5.0  # seconds for the end; it takes milliseconds, but the machine may be busy


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(load("article-000")) as up:
        yield up


def learnt(lab: Lab) -> str:
    """What measuring must never leave behind: cached path MTUs of the source."""
    return "".join(lab.run("c", ["ip", f"-{f}", "route", "show", "cache"]).stdout.decode() for f in (4, 6))


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pathfit", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ready(process: subprocess.Popen[str]) -> bool:
    """Whether pathfit's handlers stand (proc(5): SigCgt); before that, Ctrl-C hits a starting Python, not pathfit."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def interrupt(process: subprocess.Popen[str], moment: float) -> tuple[int, str]:
    """(exit status, stderr) after SIGINT to the whole process group, as a terminal does it."""
    while process.poll() is None and not ready(process):
        pass
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=QUICK)
    return process.returncode, err


@pytest.mark.lab
def test_diagnose(lab: Lab) -> None:
    before = learnt(lab)
    statuses = []
    for moment in MOMENTS:
        status, err = interrupt(start("diagnose", "--from", lab.where("c"), "--to", lab.target()), moment)
        assert "Traceback" not in err
        assert status in (130, 1), err  # 1: it had finished
        statuses.append(status)
    assert 130 in statuses
    assert learnt(lab) == before


@pytest.mark.lab
def test_lab_up(tmp_path: Path) -> None:
    """Interrupted while it builds, a lab is taken down again; `kill -9` leaves what `lab down` removes."""
    names = Path("/run/netns")
    for moment in MOMENTS[::3]:
        status, err = interrupt(start("lab", "up", "article-000", "--prefix", "pfint"), moment)
        assert "Traceback" not in err
        if status == 0:
            subprocess.run([sys.executable, "-m", "pathfit", "lab", "down", "pfint"], check=True, capture_output=True)
        assert [p.name for p in names.glob("pfint-*")] == []


@pytest.mark.lab
def test_demo() -> None:
    status, err = interrupt(start("demo"), 1.0)  # it takes 2 s at least: curl hangs for so long
    assert status == 130
    assert "Traceback" not in err
