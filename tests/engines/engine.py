"""A real dockerd in a lab host, with an image made of this machine's own programs: no registry, no internet.

Needs Debian's docker.io, tini and busybox-static (``make engines-setup``); nothing is ever started outside a lab host.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from labhost import PATIENCE, LabHost, until

CLIENT = "/usr/bin/docker"  # Debian's; another one may come first in PATH
SOCKET = "/run/docker.sock"
IMAGE = "lab"
PROGRAMS = ("dockerd", "tini", "busybox", "curl", "ip", "ethtool", "setpriv")
HELPERS = "/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman:/usr/lib/cni:/usr/libexec/cni"  # beside PATH
CONFIG = "/etc/docker/daemon.json"


STAY = ("sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait")  # process 1 has no default action for SIGTERM
INTO = 'log=$1; shift; exec "$@" </dev/null >>"$log" 2>&1'
DEFAULTS = """# /etc/default/docker is a shell script
ulimit() {{ :; }} # its limits are above what we may ask for here
DOCKER_LOGFILE={log}
DOCKER_OPTS="{words}"
"""
STAND_IN = """#!/bin/sh
# What `systemctl restart docker.service` does to the daemon, and nothing else.
[ "$*" = "restart docker.service" ] || {{ echo "systemctl $*: not understood" >&2; exit 1; }}
if pid=$(cat /run/docker.pid 2>/dev/null) && kill "$pid" 2>/dev/null; then
  while [ -d "/proc/$pid" ]; do sleep 0.02; done
fi
setsid --fork sh -c 'echo 0 >{place}/cgroup.procs; exec {words} </dev/null >>{log} 2>&1'
"""


def lacking(*programs: str) -> str:
    """Why engines cannot be started here, "" when they can. ``programs``: needed besides those of every lab."""
    if os.geteuid() or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "needs root, and not that of a user namespace"
    if gone := [p for p in (*PROGRAMS, *programs) if shutil.which(p, path=f"{os.environ['PATH']}:{HELPERS}") is None]:
        return f"not installed: {' '.join(gone)} (make engines-setup)"
    if not Path(CLIENT).exists():
        return f"not installed: {CLIENT} (make engines-setup)"
    return ""


def required(*programs: str) -> None:
    """Skip the test where there are no engines; fail it where there must be some (CI)."""
    if why := lacking(*programs):
        if os.environ.get("CI"):
            pytest.fail(f"engines: {why}")
        pytest.skip(f"engines: {why}")


def image(programs: tuple[str, ...] = ("curl", "ip")) -> bytes:
    """A root filesystem as a tar: busybox under its usual names, ``programs`` with their libraries (about 24 MB)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev", "run", "usr", "usr/bin", "root"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        _put(tar, shutil.which("busybox") or "", "bin/busybox")
        for name in ("sh", "sleep", "cat", "head", "ls", "wget", "hostname", "true", "nc", "httpd", "ping"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        seen: set[str] = set()
        for name in programs:
            path = shutil.which(name) or ""
            _put(tar, path, f"usr/bin/{name}")
            for library in _libraries(path):
                if library not in seen:
                    seen.add(library)
                    _put(tar, library, library.lstrip("/"))
    return out.getvalue()


def _put(tar: tarfile.TarFile, path: str, name: str) -> None:
    data = Path(path).read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    tar.addfile(entry, io.BytesIO(data))


def _libraries(path: str) -> list[str]:
    text = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", text)


class Docker:
    """dockerd in a lab host. ``args`` are words of its command line besides those every lab needs. ``manager``: "" for
    none, "service" for Debian's /etc/init.d/docker, "systemctl" for a stand-in of it (:data:`STAND_IN`)."""

    def __init__(self, host: LabHost, *args: str, config: str | None = None, manager: str = "") -> None:
        self.host = host
        self.args = args
        self.manager = manager
        self.log = host.folder / "dockerd.log"
        if config is not None:
            host.path(CONFIG).write_text(config)
        self.start()

    @property
    def enter(self) -> tuple[str, ...]:
        """Words before a command that shall run where the daemon does."""
        return tuple(self.host.enter)

    @property
    def argv(self) -> list[str]:
        common = f"dockerd --data-root {self.host.folder}/data --pidfile /run/docker.pid -H unix://{SOCKET}"
        pools = "--bip 198.19.0.1/24 --default-address-pool base=198.19.128.0/17,size=24"
        return [*common.split(), *pools.split(), "--cgroup-parent", f"/{self.host.cgroup}", *self.args]

    @property
    def pid(self) -> int:
        """The daemon's number as the host counts."""
        return int(self.host.path("/run/docker.pid").read_text())

    def start(self) -> None:
        """Start it as an init would: no process outside of the host waits for it."""
        if self.manager == "service":
            words = shlex.join(self.argv[1:])
            self.host.path("/etc/default/docker").write_text(DEFAULTS.format(log=self.log, words=words))
            self.host.path("/etc/fstab").write_text(
                "cgroup /sys/fs/cgroup cgroup defaults 0 0\n"
            )  # it is there: no mkdir
            self.host.run("service", "docker", "start")
        elif self.manager == "systemctl":
            place = f"/sys/fs/cgroup/systemd/{self.host.cgroup}/docker.service"
            self.host.run("mkdir", "-p", "/run/systemd/system", "/run/bin", place)
            script = self.host.path("/run/bin/systemctl")
            script.write_text(STAND_IN.format(log=self.log, place=place, words=shlex.join(self.argv)))
            script.chmod(0o755)
            self.host.run("/run/bin/systemctl", "restart", "docker.service")
        else:
            self.host.run("setsid", "--fork", "sh", "-c", INTO, "sh", str(self.log), *self.argv)
        self.ready()

    def ready(self) -> None:
        """Wait until it answers."""
        ping = ("curl", "-sf", "-m", "2", "--unix-socket", SOCKET, "http://d/_ping")
        until(lambda: self.host.call(*ping).returncode == 0, "dockerd", detail=lambda: self.log.read_text()[-3000:])

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        pid = self.pid
        self.host.run("kill", "-TERM", str(pid))
        until(lambda: not self.host.path(f"/proc/{pid}").exists(), "dockerd's end")

    def __call__(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = PATIENCE) -> str:
        """`docker WORDS`; what it printed, without blanks around it."""
        return self.host.run(CLIENT, *words, check=check, stdin=stdin, timeout=timeout).strip()

    def load(self, tar: Path) -> None:
        with tar.open("rb") as data:
            done = subprocess.run(
                [*self.host.enter, CLIENT, "import", "-", IMAGE], stdin=data, capture_output=True, timeout=PATIENCE
            )
        assert done.returncode == 0, done.stderr

    def run(self, name: str, *options: str) -> str:
        """A container in the background that does nothing until it is told to end; its id."""
        return self("run", "-d", "--name", name, *options, IMAGE, *STAY)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """`docker KIND inspect NAME`."""
        found: list[dict[str, Any]] = json.loads(self(kind, "inspect", name))
        return found[0]
