"""Lab hosts: machines of their own inside this one, for engines that want a machine.

A lab host is pid, mount, network, uts and ipc namespaces around one process. Its /etc is an overlay over ours (empty
/etc/docker, no resolver), its /run and the engines' folders are empty tmpfs, its only link is lo until a cable is
laid. Ending that one process - or this one, however it ends: PR_SET_PDEATHSIG - takes the whole host away; what the
kernel does not take away by itself are the cgroups its engine made, and :meth:`LabHost.end` removes those.

Nothing here is linked to the machine's own interfaces: a cable joins two namespaces of the lab, made inside one of
them, so that not even its creation touches ours.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from outside import Outside

PATIENCE = 180.0  # seconds for what takes one on a quiet machine
COMES = 60.0  # seconds that curl or ping may wait for what comes
OFFLOADS_OFF = "tso off gso off gro off tx off rx off"
FOLDER = "pathfit-engines-"
CGROUPS = Path("/sys/fs/cgroup")
_ROOM = "ip link set lo up && echo up && exec sleep infinity"
_INSIDE = """
set -eu
mount -t proc proc /proc
hostname "$2"
mkdir -p "$1/cg"; mount --rbind /sys/fs/cgroup "$1/cg"; mount -t sysfs sysfs /sys
mount --rbind "$1/cg" /sys/fs/cgroup; umount -l "$1/cg"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
rm -rf /etc/docker; mkdir -p /etc/docker; : >/etc/resolv.conf
for t in /run /var/lib/docker /var/lib/containerd; do mkdir -p $t; mount -t tmpfs tmpfs $t; done
mkdir -p /run/netns /run/lock
ip link set lo up
touch "$1/ready"
exec tini -s -- sleep infinity
"""


class NotReady(AssertionError):
    """What was waited for did not come; the text says what, and what was seen instead."""


def until(
    condition: Callable[[], bool], what: str, patience: float = PATIENCE, detail: Callable[[], str] = str
) -> None:
    """Wait for a condition, never for a time. Raises NotReady."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not within {patience:g} s. {detail()}")
        time.sleep(0.02)


def tied(*words: str) -> list[str]:
    """The command, ended by the kernel when this process ends (setpriv(1), PR_SET_PDEATHSIG)."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *words]


class Room:
    """A network namespace for a router or a server, held by one process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            tied(*("unshare", "--net", "--kill-child", "--fork"), "sh", "-c", _ROOM),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            raise NotReady(f"{name}: no namespace")
        self.pid = only_child(self._holder.pid)

    @property
    def enter(self) -> list[str]:
        """Words before a command that shall run there."""
        return ["nsenter", "-t", str(self.pid), "-n", "--"]

    def run(self, *words: str, stdin: str | None = None, timeout: float = PATIENCE, check: bool = True) -> str:
        """Run a command there; what it printed. Raises AssertionError when it fails."""
        done = self.call(*words, stdin=stdin, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(words)}: {done.returncode} {done.stderr or done.stdout}")
        return done.stdout

    def call(
        self, *words: str, stdin: str | None = None, timeout: float = PATIENCE, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same, with its exit status, never an exception for it."""
        return subprocess.run(
            [*self.enter, *words],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
        )

    def start(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start something that stays; it ends with us at the latest."""
        with log.open("ab") as out:
            return subprocess.Popen(
                tied(*self.enter, *words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def ip(self, lines: str) -> None:
        """`ip -batch`: one line each, without "ip"."""
        text = "".join(f"{line.strip()}\n" for line in lines.strip().splitlines() if line.strip())
        self.run("ip", "-batch", "-", stdin=text)

    def sysctl(self, **values: str | int) -> None:
        for name, value in values.items():
            self.run("sysctl", "-qw", f"net.{name.replace('__', '.')}={value}")

    def end(self) -> None:
        """Take it away. A second call is harmless."""
        if self._holder.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._holder.wait(PATIENCE)
        if self._holder.stdout:
            self._holder.stdout.close()


class LabHost(Room):
    """A whole machine; see the module. ``folder`` is its disk: it must be on a filesystem that overlays can use."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.cgroup = f"{folder.parent.name}-{name}"
        for part in ("upper", "work", "data"):
            (folder / part).mkdir(parents=True)
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self._holder = subprocess.Popen(
                tied(
                    *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--propagation", "private"),
                    *("--fork", "--kill-child", "sh", "-c", _INSIDE, "sh", str(folder), name),
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            until(
                lambda: (folder / "ready").exists() or self._holder.poll() is not None,
                f"lab host {name}",
                detail=self.log.read_text,
            )
            if self._holder.poll() is not None:
                raise NotReady(f"lab host {name}: {self.log.read_text()}")
            self.pid = only_child(self._holder.pid)
        except BaseException:
            self._holder.kill()
            raise

    @property
    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "--"]

    def path(self, inside: str) -> Path:
        """A file of the host as we can open it."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def end(self) -> None:
        thaw(self.cgroup)
        super().end()
        remove_cgroups(self.cgroup)


def only_child(pid: int) -> int:
    """The one child of a process. Waits until there is one."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return len(found) == 1

    until(there, f"a child of {pid}")
    return found[0]


def cgroups(name: str) -> list[Path]:
    """Every cgroup of that name at the top of a hierarchy (v1: one each; v2: one), with all below it, deepest first."""
    tops = [CGROUPS / name, *CGROUPS.glob(f"*/{name}")]
    found = [Path(at) for top in tops for at, _, _ in os.walk(top, topdown=False)]
    return [p for p in found if p.is_dir()]


def thaw(name: str) -> None:
    """Let paused containers go on: nothing ends a frozen process, not even SIGKILL (cgroup v1)."""
    for path in cgroups(name):
        for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with suppress(OSError):
                if (path / file).exists():
                    (path / file).write_text(word)


def remove_cgroups(name: str) -> None:
    """Remove them. The kernel refuses as long as a process is ending in one: waits for that. Raises NotReady."""
    thaw(name)

    def gone() -> bool:
        for path in cgroups(name):
            with suppress(OSError):
                path.rmdir()
        return not cgroups(name)

    until(gone, f"cgroups {name}", detail=lambda: str(cgroups(name)))


class Lab:
    """Hosts and rooms, and the cables between them. A context manager: leaving it takes everything away."""

    def __init__(self) -> None:
        sweep()
        self._outside = Outside()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER))
        self._lock = locked(self.folder)
        self.rooms: list[Room] = []

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.end()
        escaped = self._outside.seen()
        if kind is None and escaped:
            raise AssertionError(f"packets of the lab left by links of ours: {escaped}")

    def host(self, name: str) -> LabHost:
        host = LabHost(name, self.folder / name)
        self.rooms.append(host)
        return host

    def room(self, name: str) -> Room:
        room = Room(name)
        self.rooms.append(room)
        return room

    def end(self) -> None:
        for room in reversed(self.rooms):
            room.end()
        self.rooms.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def locked(folder: Path) -> int | None:
    """The lock of the folder of a lab or a guest, held while its process lives; None when somebody else holds it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def sweep() -> None:
    """Remove what labs of processes left behind that were killed: their folders and cgroups."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(FileNotFoundError):
            if not (folder / "lock").exists() or (fd := locked(folder)) is None:
                continue  # just being made, or in use
            for top in (*CGROUPS.glob(f"{folder.name}-*"), *CGROUPS.glob(f"*/{folder.name}-*")):
                remove_cgroups(top.name)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(fd)


def cable(a: Room, a_link: str, b: Room, b_link: str, mtu: int) -> None:
    """A cable with offloads off at both ends, as on a real wire. It is made inside ``a``: never in our namespace."""
    words = f"ip link add {a_link} mtu {mtu} type veth peer name {b_link} mtu {mtu} netns {b.pid}"
    subprocess.run(["nsenter", "-t", str(a.pid), "-n", "--", *words.split()], check=True, timeout=PATIENCE)
    for room, link in ((a, a_link), (b, b_link)):
        room.run("ethtool", "-K", link, *OFFLOADS_OFF.split())
        room.run("ip", "link", "set", link, "up")
