"""What every helper process of a lab does first and last. Standard library only: helpers start in milliseconds.

A helper is told everything in one JSON document on stdin: ``folder`` (of its lab), ``name``, ``netns`` (a path or
null), ``ready`` (a descriptor). It writes "ok" there when its sockets listen, or one line that says why not.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
LAST_LOOK = 5.0  # seconds between looks whether the lab is still registered


def started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (field 22 of proc_pid_stat(5)); None: no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def enter(folder: Path, name: str) -> bool:
    """Enter the lab's list of helpers. False: the lab is gone, end at once (see :mod:`pathfit.lab.registry`)."""
    try:
        new = folder / f"{name}.new"
        new.write_text(f"{os.getpid()} {started(os.getpid())}")
        os.rename(new, folder / f"{name}.pid")
    except OSError:
        return False
    return registered(folder)


def registered(folder: Path) -> bool:
    return (folder.parent / f"{folder.name.removesuffix('.d')}.json").exists()


def begin() -> dict[str, Any]:
    """Read the document, enter the list, step into the namespace. Ends the process when the lab is gone."""
    told: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program in front
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if not enter(Path(told["folder"]), told["name"]):
        os._exit(0)
    if told.get("netns"):
        fd = os.open(told["netns"], os.O_RDONLY | os.O_CLOEXEC)
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
            ready(told, f"{told['netns']}: {os.strerror(ctypes.get_errno())}")
            os._exit(1)
        os.close(fd)
    return told


def ready(told: dict[str, Any], complaint: str = "") -> None:
    with suppress(OSError):
        os.write(told["ready"], (complaint.replace("\n", " ") or "ok").encode() + b"\n")
        os.close(told["ready"])


def stay(told: dict[str, Any]) -> None:
    """Serve until the lab is gone (a helper whose pid file was lost must not stay for ever)."""
    folder = Path(told["folder"])
    never = threading.Event()
    while registered(folder):
        never.wait(LAST_LOOK)
    os._exit(0)
