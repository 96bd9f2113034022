"""Docker in Docker: a dockerd inside a container of another one, as CI runners have it.

    lab host: dockerd > container "dind" (198.19.0.0/24): dockerd > containers (198.19.16.0/24)

The outer image is a skeleton of empty folders; its programs are this machine's /usr, mounted read-only. The inner
daemon's disk is a volume: an overlay cannot have its upper layer on another overlay. `--privileged` would ask for
CAP_SYS_RESOURCE, which not every machine may hand on: the same rights without it do.
"""

import io
import subprocess
import tarfile
from pathlib import Path

from engine import CLIENT, IMAGE, SOCKET, STAY, Docker, image
from labhost import PATIENCE, Lab, LabHost, until

NAME = "dind"
BRIDGE = "198.19.16.1/24"  # of the inner docker0
_RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"),
    *(word for x in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{x}=unconfined")),
)
_DISKS = (
    *("-v", "/usr:/usr:ro", "-v", "/etc/alternatives:/etc/alternatives:ro", "-v", "/var/lib/docker"),
    *("--tmpfs", "/run:rw,exec", "--tmpfs", "/tmp"),
)
_START = f"""
for d in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $d || :; done
mkdir -p /run/lock /etc/docker
printf %s "$0" >/etc/docker/daemon.json
exec dockerd --bip {BRIDGE} --default-address-pool base=198.19.32.0/19,size=24 -H unix://{SOCKET} 2>&1
"""


class Nested:
    """``outer`` runs one container, in which ``self(...)`` is `docker` of the inner daemon. ``config``: its
    daemon.json."""

    def __init__(self, lab: Lab, host: LabHost, config: str = "{}") -> None:
        self.outer = Docker(host)
        tar = lab.folder / "skeleton.tar"
        tar.write_bytes(skeleton())
        self.outer.load(tar)
        self.outer("run", "-d", "--name", NAME, *_RIGHTS, *_DISKS, IMAGE, "sh", "-ec", _START, config)
        until(
            lambda: self("version", "--format", "{{.Server.Version}}", check=False)[:1].isdigit(),
            "the inner dockerd",
            detail=lambda: self.outer("logs", NAME)[-3000:],
        )
        self._load(lab.folder / "inner.tar")

    def _load(self, tar: Path) -> None:
        tar.write_bytes(image(()))
        words = (*self.outer.host.enter, CLIENT, "exec", "-i", NAME, CLIENT, "import", "-", IMAGE)
        with tar.open("rb") as data:
            done = subprocess.run(words, stdin=data, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr

    def __call__(self, *words: str, check: bool = True) -> str:
        """`docker WORDS` of the inner daemon; what it printed."""
        return self.outer("exec", NAME, CLIENT, *words, check=check)

    def run(self, name: str, *options: str) -> str:
        """A container of the inner daemon in the background; its id."""
        return self("run", "-d", "--name", name, *options, IMAGE, *STAY)


def skeleton() -> bytes:
    """A root filesystem without a program, as a tar: everything but folders is in /usr, which is mounted."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var", "var/lib"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        links = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
        for name, target in {**links, "var/run": "../run"}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()
