"""Would the daemon start again with the configuration it finds now?

What a running daemon has read is proven by its running. A file that was changed since is not, and dockerd does not
start with one unknown word in it: then a restart takes every container away, and no undo brings them back, because
the file was so before. So a changed file is shown to dockerd first (``--validate``, since 23), and where that is not
known only one is trusted that says nothing but :data:`SURE`.
"""

import os
import time
from typing import Any

import msgspec

from pathfit.apply.step import Impossible
from pathfit.core.change import RestartEngine
from pathfit.host import clock, process, procfs, within
from pathfit.host.run import run
from pathfit.observe.engines.daemons import CONFIG, DAEMON, Daemon, option

SURE: dict[str, type] = {"mtu": int, "debug": bool, "live-restore": bool}
"""Words that every dockerd knows, whose values cannot be wrong if they are of that type."""
COARSE = 0.1  # seconds: a start counts in ticks of 10 ms, a file's time in jiffies
PATIENCE = 20.0  # seconds for dockerd to look at a file


def refuse(change: RestartEngine, daemon: Daemon) -> None:
    """Raises Impossible, before anything was touched, when the daemon may not start again."""
    path = (option(daemon.argv, "--config-file") or [CONFIG])[-1]
    if daemon.root is not None:
        path = _there(daemon.root, path)
    if not changed_since(path, daemon.pid):
        return
    exe = procfs.link(f"/proc/{daemon.pid}/exe")
    if daemon.root is None and os.path.basename(exe) == DAEMON:  # a program of another root is not ours to run
        done = run((exe, "--validate", *daemon.argv[1:]), patience=PATIENCE)
        if done.status == 0:
            return
        if "unknown flag" not in done.said:
            said = done.said.splitlines()[-1] if done.said else f"it says {done.status}"
            raise Impossible(
                f"{change.engine} would not start again: {said}", f"{DAEMON} --validate --config-file={path}"
            )
    if not _sure(path, daemon.argv):
        how = {"systemctl": f"systemctl restart {change.unit}", "service": f"service {change.unit} restart"}
        why = f"{path} was changed after {change.engine} started: it may not start again with it"
        raise Impossible(f"{why} (restart it yourself first)", how.get(change.how, f"ls -l {path}"))


def _there(root: str, path: str) -> str:
    """The same file as we would open it; one that is not there stays a path that leads nowhere."""
    try:
        return within.resolved(root, path)
    except OSError:
        return f"{root}{path}"


def changed_since(path: str, pid: int) -> bool:
    """Was a file changed after that process started? One that is not there was not."""
    try:
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return False
    runs = clock.since_boot() - process.started(pid) / os.sysconf("SC_CLK_TCK")
    return age + COARSE < runs


def _sure(path: str, argv: tuple[str, ...]) -> bool:
    """Does it say nothing that any dockerd could refuse? What stands on the command line as well, it refuses; and
    before 23 an empty file ("EOF", measured with 20.10)."""
    try:
        told: Any = msgspec.json.decode(procfs.read(path))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(told, dict):
        return False
    given = {word.partition("=")[0] for word in argv}
    return all(type(value) is SURE.get(key) and f"--{key}" not in given for key, value in told.items())
