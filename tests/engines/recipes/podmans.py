"""Podman in a lab host: no daemon; each command is podman itself, conmon(8) stays with the container.

    lab host: podman0 (198.19.8.1) > containers

The network is netavark's; on networks that they made, containers find each other's names by aardvark-dns. Storage is
in the host's folder, state below its /run; /dev/shm (podman's locks) and /var/lib (its caches) are its own. crun
refuses a machine whose cgroups are hybrid (v1, with v2 mounted at `unified`): the host does without the latter.
Podman gives a container no NET_RAW by itself, which ping asks for.
"""

import subprocess
from pathlib import Path

from engine import IMAGE, STAY, image
from labhost import PATIENCE, Lab, LabHost

from recipes import own

CLIENT = "/usr/bin/podman"
PROGRAMS = ("podman", "conmon", "crun", "netavark", "aardvark-dns")
CONFIG = "/etc/containers/containers.conf"
_CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "{backend}"
default_subnet = "198.19.8.0/24"
default_subnet_pools = [{{base = "198.19.9.0/24", size = 24}}]
"""


def _prepare(host: LabHost) -> None:
    host.run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
    own(host, "/var/lib")
    if host.path("/sys/fs/cgroup/unified").exists():
        host.run("umount", "/sys/fs/cgroup/unified")


class Podman:
    """``self(...)`` is `podman` on the host; there is an image to run, with ``programs`` in it."""

    def __init__(self, lab: Lab, host: LabHost, backend: str = "netavark", programs: tuple[str, ...] = ()) -> None:
        self.host = host
        _prepare(host)
        host.path("/etc/resolv.conf").write_text("nameserver 198.18.0.53\n")  # nobody's; else podman adds public ones
        host.path(CONFIG).write_text(_CONFIG.format(backend=backend))
        tar = lab.folder / "podman.tar"
        tar.write_bytes(image(programs))
        self._load(tar)

    @property
    def words(self) -> list[str]:
        return [CLIENT, "--root", f"{self.host.folder}/data/podman", "--runroot", "/run/podman"]

    def _load(self, tar: Path) -> None:
        with tar.open("rb") as data:
            words = (*self.host.enter, *self.words, "import", "-q", "-", IMAGE)
            done = subprocess.run(words, stdin=data, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr

    def __call__(self, *words: str, check: bool = True) -> str:
        """`podman WORDS`; what it printed, without blanks around it."""
        return self.host.run(*self.words, *words, check=check).strip()

    def run(self, name: str, *options: str, words: tuple[str, ...] = STAY) -> str:
        """A container in the background that does nothing until it is told to end; its id."""
        always = ("--cgroup-parent", f"/{self.host.cgroup}", "--cap-add", "NET_RAW")
        return self("run", "-d", "--name", name, *always, *options, IMAGE, *words)


class Rootless:
    """One container of an ordinary user, without a network: what needs no helper with other rights (newuidmap, pasta).

    ``self.words(user)`` stand before a command that shall run as that user. The container has one user and a folder
    for its root.
    """

    USER = 1000

    def __init__(self, lab: Lab, host: LabHost) -> None:
        self.host = host
        _prepare(host)
        for folder in (lab.folder, host.folder):
            folder.chmod(0o755)
        self.home, run = host.folder / "home", f"/run/user/{self.USER}"
        root = self.home / "root"
        root.mkdir(parents=True)
        tar = lab.folder / "rootless.tar"
        tar.write_bytes(image(()))
        host.run("tar", "-C", str(root), "-xf", str(tar))
        host.run("mkdir", "-p", "-m", "700", run)
        host.run("chown", "-R", str(self.USER), str(self.home), run)
        host.run("chmod", "755", str(self.home))

    def words(self, user: int) -> list[str]:
        rights = ("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups")
        return ["env", "-C", str(self.home), f"HOME={self.home}", f"XDG_RUNTIME_DIR=/run/user/{user}", *rights]

    def run(self, name: str) -> None:
        root = f"{self.home}/root"
        how = ("--network", "none", "--cgroups", "disabled", "--rootfs", root)
        podman = (CLIENT, "--log-level", "error", "--storage-driver", "vfs")
        self.host.run(*self.words(self.USER), *podman, "run", "-d", "--name", name, *how, "sleep", "infinity")
