"""Real servers in a lab: programs that people run, with a folder of their own, started and stopped by a test.

A :class:`Server` says which programs it takes, on which ports it listens, and how: ``prepare`` writes what it reads
into a folder and returns the command. :mod:`~realservers.web` and :mod:`~realservers.data` have one each per program.

They run as nobody, because databases refuse to be root; what runs in our own Python, which may lie in a folder that is
closed to others, runs as we do. A server never leaves the foreground, so the process that was started is the one to
end; nothing of the machine's own configuration is read.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pathfit import lab
from pathfit.host.netns import inside

NOBODY = 65534
READY = 20.0  # seconds to listen; 0.1 to 1 on an idle machine
STOPS = 5.0  # seconds to end when asked; 0.1 on an idle machine
LARGE, SMALL = 200_000, 3  # bytes of the two pages
CERTS = Path(lab.__file__).with_name("certs")
LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp


class Server(NamedTuple):
    """``ports``: what is served where ("http", "https", "https-ec", "tcp"). ``prepare``: folder -> command.
    ``nobody``: runs as that user."""

    name: str
    programs: tuple[str, ...]
    ports: Mapping[str, int]
    prepare: Callable[[Path], list[str]]
    nobody: bool = True

    def __str__(self) -> str:
        return self.name


def found(program: str) -> str | None:
    """The path of a program, also where Debian keeps those that are not for users."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(program, path=":".join(places))


def program(name: str) -> str:
    path = found(name)
    assert path is not None, name
    return path


def lacking(server: Server) -> str:
    """Why this machine cannot run it; empty: nothing."""
    missing = [p for p in server.programs if found(p) is None]
    if missing:
        return f"{', '.join(missing)} not installed (make engines-setup)"
    if not server.nobody:
        return ""
    owners = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if os.geteuid() or not any(int(first) <= NOBODY < int(first) + int(count) for first, _, count in owners):
        return "servers run as nobody, which takes root"
    return ""


def certificate(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """(certificates, key, both in one file) of the labs, as a server may read them."""
    pem, key = (folder / f"{name}{end}" for end in (".pem", ".key"))
    both = folder / f"{name}.both"
    pem.write_bytes((CERTS / pem.name).read_bytes())
    key.write_bytes((CERTS / key.name).read_bytes())
    both.write_bytes(pem.read_bytes() + key.read_bytes())
    for path in (key, both):
        path.chmod(0o600)
    return pem, key, both


def pages(folder: Path) -> Path:
    """A folder with the pages /large and /small."""
    www = folder / "www"
    www.mkdir()
    (www / "large").write_bytes(b"0123456789abcde\n" * (LARGE // 16))
    (www / "small").write_bytes(b"ok\n")
    return www


def as_nobody(argv: list[str], folder: Path, told: bytes = b"") -> None:
    """Run something to its end as the servers run. Raises RuntimeError with what it said."""
    how = _how(folder)
    del how["stdin"]
    done = subprocess.run(argv, **how, input=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {done.stdout.decode(errors='replace')[-1000:]}")


def _how(folder: Path, nobody: bool = True) -> dict:
    env = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "HOME": str(folder), "LANG": "C.UTF-8"}
    more = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if nobody else {}
    return {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, "start_new_session": True, **more}


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that belongs to nobody; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="pathfit-server-") as name:
        yield Path(name)


def owned(folder: Path) -> None:
    """Give everything in ``folder`` to nobody."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@contextmanager
def running(server: Server, netns: str) -> Iterator[subprocess.Popen[bytes]]:
    """``server`` listens in the namespace ``netns`` (a path) for the duration of the block."""
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with scratch() as folder:
            argv = server.prepare(folder)
            if server.nobody:
                owned(folder)
            with open(folder / "log", "w+b") as log:
                with inside(fd):  # the child is born where this thread stands
                    process = subprocess.Popen(argv, **_how(folder, server.nobody), stdout=log, stderr=log)
                try:
                    _await(server, process, folder / "log")
                    yield process
                finally:
                    _end(process)
    finally:
        os.close(fd)


def _await(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until every port is listened on. Looks only: a connection would be one that the server remembers."""
    until = time.monotonic() + READY
    while not set(server.ports.values()) <= _listening(process.pid):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{server.name} does not listen: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.02)  # between two looks


def _listening(pid: int) -> set[int]:
    """TCP ports listened on in the namespace of a process (proc(5), /proc/net/tcp)."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:  # it has just ended
            return set()
        rows = [line.split() for line in lines]
        ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTENS}
    return ports


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asked first, because PostgreSQL leaves shared memory behind when it is killed; then its whole session, because
    some have workers."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOPS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
