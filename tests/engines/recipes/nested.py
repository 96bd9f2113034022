"""Docker in Docker: a dockerd inside a container of another one, as CI runners have it.

    lab host: dockerd > container "dind" (198.19.0.0/24): dockerd > containers (198.19.16.0/24)

The inner dockerd is the container's own process, as with the image docker:dind, or it was started beside it
(``beside``), as in a container that is kept like a machine. The outer image is a skeleton of empty folders; its
programs are this machine's /usr, mounted read-only. The inner daemon's disk is a volume: an overlay cannot have its
upper layer on another overlay. `--privileged` would ask for CAP_SYS_RESOURCE, which not every machine may hand on: the
same rights without it do.
"""

import io
import subprocess
import tarfile
from collections.abc import Callable
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
_PREPARED = """
for d in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $d || :; done
mkdir -p /run/lock /etc/docker
[ -z "$0" ] || printf %s "$0" >/etc/docker/daemon.json
"""
_DAEMON = f"dockerd --bip {{bridge}} --default-address-pool base={{pool}},size=24 -H unix://{SOCKET}"
SKELETON = "skeleton"


class Nested:
    """``outer`` runs the container ``name``, in which ``self(...)`` is `docker` of the inner daemon. ``config``: its
    daemon.json, "" = none. ``outer`` may be a Docker that runs already, or another Nested: then it is one level deeper.
    ``beside``: the daemon was started beside the container's own process. ``options``: of `docker run`."""

    def __init__(
        self,
        lab: Lab,
        host: LabHost,
        config: str = "{}",
        *,
        outer: "Docker | Nested | None" = None,
        name: str = NAME,
        beside: bool = False,
        options: tuple[str, ...] = (),
        bridge: str = BRIDGE,
        pool: str = "198.19.32.0/19",
    ) -> None:
        self.outer = outer if outer is not None else Docker(host)
        self.name = name
        self.enter: tuple[str, ...] = (*self.outer.enter, CLIENT, "exec", name)
        self._import(lab.folder / "skeleton.tar", skeleton, SKELETON, self.outer.enter)
        if outer is None:
            self.outer("tag", SKELETON, IMAGE)
        daemon = _DAEMON.format(bridge=bridge, pool=pool)
        start = _PREPARED + ("exec tini -s -- sleep infinity" if beside else f"exec {daemon} 2>&1")
        words = (*_RIGHTS, *_DISKS, *options, SKELETON, "sh", "-ec", start, config)
        self.outer("run", "-d", "--name", name, *words)
        if beside:
            self.outer("exec", "-d", name, "sh", "-c", f"exec {daemon} >>/proc/1/fd/2 2>&1")
        until(
            lambda: self("version", "--format", "{{.Server.Version}}", check=False)[:1].isdigit(),
            f"the dockerd in {name}",
            detail=lambda: self.outer("logs", name)[-3000:],
        )
        self._import(lab.folder / "image.tar", lambda: image(()), IMAGE, self.enter)

    def _import(self, tar: Path, make: Callable[[], bytes], name: str, enter: tuple[str, ...]) -> None:
        if not tar.exists():
            tar.write_bytes(make())
        into = tuple(x for w in enter for x in ((w, "-i") if w == "exec" else (w,)))
        with tar.open("rb") as data:
            done = subprocess.run(
                [*into, CLIENT, "import", "-", name], stdin=data, capture_output=True, timeout=PATIENCE
            )
        assert done.returncode == 0, done.stderr

    @property
    def host(self) -> LabHost:
        return self.outer.host

    def __call__(self, *words: str, check: bool = True) -> str:
        """`docker WORDS` of the inner daemon; what it printed."""
        return self.outer("exec", self.name, CLIENT, *words, check=check)

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
