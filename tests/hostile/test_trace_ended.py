"""`trace` interrupted, told to end, or killed at any moment of its run: nothing of it is left in any namespace.

It is stopped (SIGSTOP) a moment before, to see what it holds in the kernel just then: of that nothing may be there soon
after its end. Moments are a seeded grid over the time that a run takes, as in test_ended.py.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from netlab import Net, nets
from test_ended import BUSY, INTERRUPT, TERMINATE, Ended, decent, moments, ours, pythons_own, start
from weblab import web

from pathfit.host import bpf
from pathfit.wire.nft.mark import PREFIX

KILL = signal.SIGKILL
KINDS = {"prog_id": "bpf_prog_get_fd_by_id", "map_id": "bpf_map_get_fd_by_id", "link_id": "bpf_link_get_fd_by_id"}
GRACE = 10.0  # seconds in which the kernel frees what nobody holds (a grace period of RCU; longer on a busy machine)


class Held(NamedTuple):
    """What a process holds: (kind, number) of its programs, maps and links; its packet sockets; its tables in r."""

    bpf: frozenset[tuple[str, int]]
    rings: int
    tables: int


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers, behind a filter that takes what is large."""
    with nets() as net:
        net.routed(("198.51.100", "203.0.113"), ("2001:db8:1", "2001:db8:2"), 2)
        net.drop("r", "forward", "iifname vs meta length > 1300 drop")
        with web(net):
            yield net


def held(pid: int, net: Net) -> Held:
    numbers = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            rows = [line.split(":") for line in info.read_text().splitlines()]
            numbers |= {(row[0], int(row[1])) for row in rows if row[0] in KINDS}
    rings = Path(f"/proc/{pid}/maps").read_text().count("socket:[")
    return Held(frozenset(numbers), rings, net.inside("r", "nft", "list", "tables").count(f"{PREFIX}{pid}-"))


def exists(kind: str, number: int) -> bool:
    """Is that program, map or link still in the kernel?"""
    get = getattr(ctypes.CDLL(bpf.LIBRARIES[0]), KINDS[kind])
    fd = get(ctypes.c_uint(number))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def ended(process: subprocess.Popen[str], moment: float, number: signal.Signals, net: Net) -> tuple[Ended, Held]:
    """Stopped ``moment`` seconds from now, looked at, and signalled: its whole group, as a terminal does it."""
    began, has = None, Held(frozenset(), 0, 0)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        while pythons_own(process):
            pass
        os.killpg(process.pid, signal.SIGSTOP)
        with suppress(OSError):  # it has ended meanwhile
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
                pass
            has = held(process.pid, net)
        began = time.monotonic()
        os.killpg(process.pid, number)
        os.killpg(process.pid, signal.SIGCONT)
    try:
        out, err = process.communicate(timeout=BUSY)
    finally:
        process.kill()
    return Ended(process.returncode, out, err, time.monotonic() - began if began else 0.0), has


def left(net: Net) -> list[str]:
    """Sockets that see packets, and filter tables, in every namespace there is here; the namespaces."""
    found = sorted(p.name for p in Path("/run/netns").iterdir())
    inside: list[Callable[..., str]] = [lambda *w: subprocess.run(w, capture_output=True, text=True, check=True).stdout]
    inside += [lambda *w, n=name: net.inside(n, *w) for name in net.names]
    for look in inside:
        for name in ("packet", "raw", "raw6"):
            found += [line for line in look("cat", f"/proc/self/net/{name}").splitlines() if "sk" not in line]
        found += look("nft", "list", "tables").splitlines()
    return found


def soon(done: Callable[[], bool]) -> bool:
    until = time.monotonic() + GRACE
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)  # the kernel tells nobody when it has freed something
    return True


def check(net: Net, tmp_path: Path, words: tuple[str, ...], number: signal.Signals, count: int) -> None:
    before = left(net)
    run = moments(words, tmp_path, count)
    seen, stops = [], 0
    for moment in run:
        one, has = ended(start(words, tmp_path), moment, number, net)
        stops += one.status == -number if number is KILL else decent(one, number, (0, 1, 3))
        seen.append(has)
        assert soon(lambda: left(net) == before), (left(net), before)
        assert ours(tmp_path) == []
        assert soon(lambda it=has.bpf: not any(exists(*x) for x in it)), has  # type: ignore[misc]
        assert list(tmp_path.iterdir()) == []
    assert stops >= count // 2 or (number is INTERRUPT and "--follow" in words), (
        "Ctrl-C ends looking, and shows what was"
    )
    assert max(x.rings for x in seen) >= 4 and max(x.tables for x in seen) == 1, "it was met while it watched"
    if int(Path("/proc/self/uid_map").read_text().split()[2]) > 1:  # a user's own namespace takes no programs
        assert {kind for x in seen for kind, _ in x.bpf} == set(KINDS)


def asked(net: Net) -> tuple[str, ...]:
    return "trace", "--from", f"netns:{net('c')}", "--to", "https://203.0.113.2:8443/50000"


@pytest.mark.lab
@pytest.mark.parametrize(("number", "count"), [(KILL, 8), (INTERRUPT, 4), (TERMINATE, 3)])
def test_nothing_is_left(net: Net, tmp_path: Path, number: signal.Signals, count: int) -> None:
    check(net, tmp_path, asked(net), number, count)


@pytest.mark.lab
@pytest.mark.parametrize(("number", "count"), [(KILL, 2), (INTERRUPT, 2)])
def test_nothing_is_left_of_one_that_only_looks(net: Net, tmp_path: Path, number: signal.Signals, count: int) -> None:
    check(net, tmp_path, (*asked(net), "--follow", "1"), number, count)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("number", [KILL, INTERRUPT, TERMINATE])
def test_at_many_moments(net: Net, tmp_path: Path, number: signal.Signals) -> None:
    check(net, tmp_path, (*asked(net), "--json"), number, 40)
