"""What labs are up, kept so that everything can be removed whatever happened to the one who built it.

One file per lab, ``STATE/labs/PREFIX.json``, written and synced *before* the first namespace is made; it lists
every namespace, file and folder the lab will ever make. Helper processes (services, forwarders) enter themselves:
``STATE/labs/PREFIX.d/NAME.pid`` holds their pid and start time. A helper first writes that file, then looks whether
the lab is still registered; :func:`close` first renames the lab's file, then :func:`stop_helpers` reads the pid files.
Whatever the interleaving, a helper either ends by itself or is found. :func:`forget` removes the folder before the
entry, so a folder that no entry tells of is nobody's.
"""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from pathfit.lab.helper import started

KILL_AFTER = 2.0  # seconds between SIGTERM and SIGKILL: a helper only closes sockets
_CLOSING = ".closing"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One lab. ``hosts``: names without prefix; ``folders``: of /etc/netns, made by us; ``token``: of the one building
    that entered it, in no other."""

    prefix: str
    scenario: str
    hosts: tuple[str, ...]
    boot: str
    pid: int
    folders: tuple[str, ...] = ()
    token: str = ""


def state_dir() -> Path:
    """$PATHFIT_STATE, else /run/pathfit, else (where that cannot be written) $XDG_RUNTIME_DIR/pathfit."""
    if given := os.environ.get("PATHFIT_STATE"):
        return Path(given)
    run = Path("/run/pathfit")
    parent = run if run.exists() else run.parent
    if os.access(parent, os.W_OK | os.X_OK):
        return run
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/pathfit-{os.getuid()}") / "pathfit"


def labs_dir() -> Path:
    return state_dir() / "labs"


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def register(entry: Entry) -> None:
    """Enters a lab, durably. Raises FileExistsError when the prefix is taken, OSError."""
    folder = labs_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    path = folder / f"{entry.prefix}.json"
    if (folder / f"{entry.prefix}.json{_CLOSING}").exists():
        raise FileExistsError(f"lab {entry.prefix} is being removed")
    sweep()
    new = _unfinished(entry.prefix)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, msgspec.json.encode(entry))
        os.fsync(fd)
        os.link(new, path)  # whole or not at all, and never over another's
    finally:
        os.close(fd)
        os.unlink(new)
    helpers(entry.prefix).mkdir(exist_ok=True)  # after the entry: nothing is there that no entry tells of
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unfinished(prefix: str) -> Path:
    return labs_dir() / f".{prefix}.{os.getpid()}"


def entered(entry: Entry) -> bool:
    """Was it this very entry that :func:`register` wrote, however it ended? What it left half done is removed."""
    with suppress(FileNotFoundError):
        _unfinished(entry.prefix).unlink()
    return find(entry.prefix) == entry


def sweep() -> None:
    """Removes what was never finished, because its writer was killed: entries, and folders that no entry tells of."""
    if not labs_dir().is_dir():
        return
    for path in labs_dir().glob(".*.*"):
        pid = path.name.rpartition(".")[2]
        if pid.isdecimal() and started(int(pid)) is None:
            _remove(path)
    for path in labs_dir().glob("[!.]*.d"):
        name = labs_dir() / f"{path.stem}.json"
        if not name.exists() and not name.with_name(name.name + _CLOSING).exists():
            _remove(path)


def _remove(path: Path) -> None:
    """A file, or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def registered() -> list[Entry]:
    """All labs, also those half built or half removed; files that cannot be read are skipped."""
    found = {}
    for path in sorted(labs_dir().glob("*.json*")) if labs_dir().is_dir() else ():
        with suppress(OSError, msgspec.MsgspecError):
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
            found[entry.prefix] = entry
    return list(found.values())


def find(prefix: str) -> Entry | None:
    return next((e for e in registered() if e.prefix == prefix), None)


def helpers(prefix: str) -> Path:
    """The folder of a lab's helpers: pid files, and generated files such as resolv.conf."""
    return labs_dir() / f"{prefix}.d"


def close(prefix: str) -> Entry | None:
    """First half of removing: from now on new helpers end by themselves. None: no such lab."""
    entry = find(prefix)
    if entry is not None:
        with suppress(FileNotFoundError):
            os.rename(labs_dir() / f"{prefix}.json", labs_dir() / f"{prefix}.json{_CLOSING}")
    return entry


def forget(prefix: str) -> None:
    """Last half: the lab is gone. A helper that is only starting must not write into a folder while it is emptied:
    the folder is first called something else."""
    with suppress(OSError):
        os.rename(helpers(prefix), labs_dir() / f".{prefix}.d.{os.getpid()}")
    for folder in (helpers(prefix), *labs_dir().glob(f".{prefix}.d.*")):
        _remove(folder)
    for name in (f"{prefix}.json{_CLOSING}", f"{prefix}.json"):
        with suppress(FileNotFoundError):
            os.unlink(labs_dir() / name)


def stop_helpers(prefix: str) -> None:
    """Ends the helpers of a lab and waits until they are gone. A pid that was reused is left alone."""
    ours = []
    for path in helpers(prefix).glob("*.pid") if helpers(prefix).is_dir() else ():
        with suppress(OSError, ValueError):
            words = path.read_text().split()
            if started(int(words[0])) == words[1]:
                ours.append((int(words[0]), words[1]))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, start in ours:
            if started(pid) == start:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        _wait(ours, KILL_AFTER)


def _wait(ours: list[tuple[int, str]], seconds: float) -> None:
    end = time.monotonic() + seconds
    pause = 0.001
    while time.monotonic() < end and any(started(pid) == start for pid, start in ours):
        for pid, _ in ours:
            with suppress(ChildProcessError):  # not our child: somebody else reaps it
                os.waitpid(pid, os.WNOHANG)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
