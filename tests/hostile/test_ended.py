"""Ctrl-C and SIGTERM at any moment: the promised status at once, one line, no traceback, nothing left behind.

The moments are a seeded grid over the time a run takes. Only a Python that has not reached pathfit yet is waited for.
"""

import os
import random
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rig import COMMAND, ENVIRONMENT, obeyed

from pathfit.lab import Lab, load

SOON = 1.0  # seconds for the end on an idle machine: it takes 0.02
BUSY = 4.0  # seconds for any single one, whatever else the machine does
HERE = "PATHFIT_HOSTILE_TEST"  # in the environment of everything a run starts
INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM


class Ended(NamedTuple):
    status: int
    out: str
    err: str
    took: float  # seconds from the signal to the end; 0 when it had ended before


def start(words: tuple[str, ...], state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**ENVIRONMENT, HERE: str(state), "PATHFIT_STATE": str(state)},
    )


def pythons_own(process: subprocess.Popen[str]) -> bool:
    """Whether SIGINT would meet Python's own handler: it is starting (proc(5): SigCgt), and pathfit not reached yet."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = int(next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0"), 16)
    return bool(caught >> (INTERRUPT - 1) & 1) and not caught >> (TERMINATE - 1) & 1


def end(process: subprocess.Popen[str], moment: float, number: signal.Signals) -> Ended:
    """Signal the whole process group ``moment`` seconds from now, as a terminal does it, and see how it ends."""
    began = None
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        while pythons_own(process):
            pass
        began = time.monotonic()
        os.killpg(process.pid, number)
    try:
        out, err = process.communicate(timeout=BUSY)
    finally:
        process.kill()
    return Ended(process.returncode, out, err, time.monotonic() - began if began else 0.0)


_took: dict[tuple[str, ...], float] = {}


def moments(words: tuple[str, ...], state: Path, count: int) -> list[float]:
    """``count`` moments spread over the time a run takes, one in each equal part of it."""
    if words not in _took:
        began = time.monotonic()
        start(words, state).communicate(timeout=60)
        _took[words] = time.monotonic() - began
    took = _took[words]
    dice = random.Random(20)
    return [(n + dice.random()) * took / count for n in range(count)]


def decent(ended: Ended, number: signal.Signals, finished: tuple[int, ...]) -> bool:
    """Whether it was ended by us; checked either way. Before pathfit is reached the signal itself ends the process,
    which a shell shows as 128 + number as well."""
    said = f"{ended}"
    if "KeyboardInterrupt" in ended.err and "/pathfit/" not in ended.err:
        return False  # Python's own start, in the moment between our look and the signal: no line of ours was reached
    assert "Traceback" not in ended.err + ended.out, said
    assert not obeyed(ended.err), said
    assert ended.took < BUSY, said
    if ended.status in (128 + number, -number):
        assert number is not INTERRUPT or ended.status < 0 or "interrupted" in ended.err, said
        return True
    assert ended.status in finished, said
    return False


def ours(state: Path) -> list[str]:
    """Processes that carry our mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"{HERE}={state}".encode() in (folder / "environ").read_bytes():
                    found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
    return found


def sockets(lab: Lab) -> list[str]:
    """TCP, UDP and raw sockets in the source's namespace, TIME_WAIT (06) aside."""
    names = [f"/proc/net/{name}" for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet")]
    lines = lab.run("c", ["cat", *names]).stdout.decode().splitlines()
    rows = [line.split() for line in lines]
    return [" ".join(row) for row in rows if row and row[0] not in ("sl", "sk") and row[3] != "06"]


def learnt(lab: Lab) -> str:
    return "".join(lab.run("c", ["ip", f"-{f}", "route", "show", "cache"]).stdout.decode() for f in (4, 6))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(load("article-000")) as up:
        yield up


@pytest.mark.lab
@pytest.mark.parametrize(("number", "count"), [(INTERRUPT, 25), (TERMINATE, 8)], ids=["SIGINT", "SIGTERM"])
def test_diagnose(lab: Lab, tmp_path: Path, number: signal.Signals, count: int) -> None:
    words = ("diagnose", "--from", lab.where("c"), "--to", lab.target())
    saving = (*words, "--save", str(tmp_path / "a" / "case"))
    before = (sockets(lab), learnt(lab))
    took = []
    for moment in moments(words, tmp_path, count):
        ended = end(start(saving, tmp_path), moment, number)
        if decent(ended, number, (1,)):
            took.append(ended.took)
            assert ended.out == "" or ended.out.startswith("BROKEN")
        left = files(tmp_path)
        assert left in ([], ["a", "a/case", *(f"a/case/{n}" for n in ("case.json", "report.json", "report.txt"))]), left
        for name in reversed(left):
            path = tmp_path / name
            path.rmdir() if path.is_dir() else path.unlink()
        assert ours(tmp_path) == []
        assert (sockets(lab), learnt(lab)) == before
    assert len(took) >= count // 2
    assert statistics.median(took) < SOON


LABS = {
    "lab up": (("lab", "up", "article-001", "--prefix", "pfhost"), 6),
    "lab run": (("lab", "run", "healthy", "--blind"), 6),
    "demo": (("demo",), 3),
}


@pytest.mark.lab
@pytest.mark.parametrize("number", [INTERRUPT, TERMINATE], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", LABS)
def test_labs(name: str, number: signal.Signals, tmp_path: Path) -> None:
    """A lab that was being built or run is gone, or goes with `lab down`; and its helpers with it."""
    words, count = LABS[name]
    stops = 0
    run = moments(words, tmp_path, count if number is INTERRUPT else -(-count // 2))  # never the last tenth alone
    down(tmp_path)
    for moment in run:
        ended = end(start(words, tmp_path), moment, number)
        stops += decent(ended, number, (0,))
        if ended.status == 0 or left_of_labs(tmp_path):
            down(tmp_path)
        assert left_of_labs(tmp_path) == []
    assert stops


def down(state: Path) -> None:
    process = start(("lab", "down", "all"), state)
    assert process.communicate(timeout=30)[1] == ""


def left_of_labs(state: Path) -> list[str]:
    """Registered labs, their namespaces and processes. (Helpers name the lab's folder in no environment: by prefix.)"""
    labs = [str(p) for p in (state / "labs").glob("*")] if (state / "labs").is_dir() else []
    netns = Path("/run/netns")
    names = [p.name for p in netns.iterdir() if p.name.startswith("pfhost-")] if netns.is_dir() else []
    return [*labs, *names, *ours(state), *helpers("pfhost")]


def ends(pid: int) -> bool:
    """Whether the process ends by itself, soon."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], BUSY)[0])
    finally:
        os.close(fd)


def helpers(prefix: str) -> list[str]:
    """Helpers of a lab that stay. One that was only starting ends by itself when it finds its lab gone."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = prefix.encode() in words and any(w.startswith(b"pathfit.lab") for w in words)
            if ours and not ends(int(folder.name)):
                found.append(folder.name)
    return found


@pytest.mark.lab
def test_a_killed_lab_can_be_taken_down(tmp_path: Path) -> None:
    """kill -9 while it is built: `lab down` removes what there is."""
    words, _ = LABS["lab up"]
    for moment in moments(words, tmp_path, 4):
        down(tmp_path)
        process = start(words, tmp_path)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=BUSY)
        down(tmp_path)
        assert left_of_labs(tmp_path) == []
