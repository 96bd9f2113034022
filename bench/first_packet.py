"""How soon the first packet is on the wire, and how much memory is resident: each command beside `python -c pass`.

    sudo .venv/bin/python -m bench.first_packet [--rounds 20] [--out bench/results/first_packet.md]

One lab (`healthy`: two routers between, https). Every round runs, one after the other so that all meet the same
machine, an interpreter that does nothing, `probe` inside the container (as root, and without any capability), the same
as one file, and `diagnose` from outside. A packet socket in the container's namespace sees the first frame that the
command causes (the kernel's time stamp, SO_TIMESTAMPNS); neighbours are known before. Asked for: the first packet <=
45 ms after what `python -c pass` takes, and <= 40 MB resident at any time of `probe` (ru_maxrss of getrusage(2), in
runs of their own: behind tests/hostile/meter.py, because a child's mark begins with what its parent had). Medians
count; a command that sends nothing, or says another verdict than "healthy", makes the exit status 1.
"""

import argparse
import compileall
import ctypes
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pathfit.host.netns import inside, setns
from pathfit.lab import Lab, load

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
ETH_P_ALL = 3
SOON, SMALL = 45.0, 40.0  # ms after `python -c pass`; MB
PR_CAPBSET_DROP, CAPABILITIES = 24, 64  # linux/prctl.h
METER = str(ROOT / "tests/hostile/meter.py")
PASS = "python -c pass"


class Took(NamedTuple):
    """Milliseconds from exec to the first packet (None: there was none) and to the end; the verdict."""

    first: float | None
    whole: float
    verdict: str


class Command(NamedTuple):
    """``inside``: run in the container's namespace. ``bare``: without any capability, as where all are dropped."""

    words: tuple[str, ...]
    inside: bool = True
    bare: bool = False


@contextmanager
def tap(fd: int) -> Iterator[socket.socket]:
    """Sees every frame of namespace ``fd``, with the kernel's time."""
    with inside(fd):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        yield sock


def first_outgoing(sock: socket.socket, address: bytes) -> float | None:
    """Seconds (CLOCK_REALTIME) of the first IPv4 packet to ``address``, or question for a neighbour, that left."""
    first = None
    while True:
        try:
            data, control, _, where = sock.recvmsg(64, 64)
        except BlockingIOError:
            return first
        ours = (where[1] == 0x0800 and data[16:20] == address) or where[1] == 0x0806
        if first is None and where[2] == socket.PACKET_OUTGOING and ours:
            seconds, nanoseconds = struct.unpack("qq", control[0][2])
            first = seconds + nanoseconds / 1e9


def run(command: Command, fd: int, address: bytes) -> Took:
    read, write = os.pipe()
    with tap(fd) as sock:
        begun = time.time()
        pid = os.fork()
        if pid == 0:
            _become(command, fd, write)
        os.close(write)
        with open(read, "rb") as out:
            said = out.read()
        os.waitpid(pid, 0)
        ended = time.time()
        first = first_outgoing(sock, address)
    verdict = json.loads(said)["verdict"] if said else ""
    return Took((first - begun) * 1e3 if first is not None else None, (ended - begun) * 1e3, verdict)


def resident(command: Command, fd: int) -> float:
    """MB resident at most, of a run of its own."""
    read, write = os.pipe()
    nowhere = os.open(os.devnull, os.O_RDWR)
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(write, True)
        _become(command, fd, nowhere, behind=("-I", "-S", METER, str(write), sys.executable))
    os.close(write)
    os.close(nowhere)
    with open(read, "rb") as report:
        kilobytes = report.read().split()[2]
    os.waitpid(pid, 0)
    return int(kilobytes) / 1024


def _become(command: Command, fd: int, write: int, behind: tuple[str, ...] = ()) -> None:
    """In the child: the command, ``behind`` another, with its output to ``write``. Does not return."""
    try:
        if command.inside:
            setns(fd)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for here, there in ((nowhere, 0), (write, 1), (nowhere, 2)):
            os.dup2(here, there)
        if command.bare:
            drop = ctypes.CDLL(None, use_errno=True).prctl
            for capability in range(CAPABILITIES):
                drop(PR_CAPBSET_DROP, capability, 0, 0, 0)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(SRC), "LANG": "C.UTF-8"}
        os.execve(sys.executable, [sys.executable, *behind, *command.words], environment)
    finally:
        os._exit(127)


def commands(lab: Lab, one_file: Path) -> dict[str, Command]:
    to, where = lab.target(), lab.where(lab.scenario.ask.source)
    script = str(Path(sys.executable).with_name("pathfit"))  # as its first line runs it
    probe = (script, "probe", to, "--json")
    found = {PASS: Command(("-c", "pass")), "probe, as root": Command(probe)}
    found["probe, without rights"] = Command(probe, bare=True)
    found["probe, one file, as root"] = Command((str(one_file), to, "--json"))
    found["diagnose, from outside"] = Command((script, "diagnose", "--from", where, "--to", to, "--json"), inside=False)
    return found


def line(name: str, took: list[Took], base: float, resident: float) -> str:
    first = [t.first for t in took if t.first is not None]
    whole = statistics.median(t.whole for t in took)
    if name == PASS:
        return f"| {name} | | | {whole:.1f} | {resident:.1f} | |"
    after = statistics.median(first) - base if first else float("nan")
    best = min(first) - base if first else float("nan")
    kept = "yes" if after <= SOON else "no"
    small = ("yes" if resident <= SMALL else "no") if name.startswith("probe") else "–"
    return f"| {name} | {after:.1f} | {best:.1f} | {whole:.1f} | {resident:.1f} | {kept} / {small} |"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    compileall.compile_dir(SRC, quiet=2)  # as an installed package's is
    took: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory() as folder, Lab.up(load("healthy")) as lab:
        one_file = Path(folder, "pathfit-probe.py")
        subprocess.run([sys.executable, str(ROOT / "tools/onefile"), "-o", str(one_file)], check=True, stdout=2)
        fd = os.open(f"/run/netns/{lab.where('c').removeprefix('netns:')}", os.O_RDONLY)
        address = socket.inet_aton(lab.target().split("/")[2].rpartition(":")[0])
        for number in range(args.rounds + 1):
            for name, command in commands(lab, one_file).items():
                one = run(command, fd, address)
                if number:  # the first round fills caches, and finds the neighbours
                    took.setdefault(name, []).append(one)
        held = {n: statistics.median(resident(c, fd) for _ in range(3)) for n, c in commands(lab, one_file).items()}
        os.close(fd)
    base = statistics.median(t.whole for t in took[PASS])
    head = "| command | first packet after pass, median | best | whole command | MB | <= 45 ms / <= 40 MB |"
    text = "\n".join([head, "|---|---|---|---|---|---|", *(line(n, t, base, held[n]) for n, t in took.items())]) + "\n"
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    wrong = [n for n, ts in took.items() for t in ts if n != PASS and (t.first is None or t.verdict != "healthy")]
    for name in dict.fromkeys(wrong):
        print(f"wrong: {name}: {wrong.count(name)} of {args.rounds} runs", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
