"""Another kernel under this machine's own files: a QEMU guest that is up in about three seconds, without KVM or root.

The guest is one of the kernels that tools/kernels fetched. Its root is this process's own ``/`` by 9p, read only, with
a tmpfs laid over it: programs, the checkout and .venv are where they are here, and nothing the guest writes is seen
outside :attr:`Guest.folder`, which is ``/out`` inside. It has no network device unless one is given (:class:`Nic`).

A command is a file in that folder and a line on a virtio port; its output and its status are files there as well. QEMU
ends with the process that started it, however that ends (PR_SET_PDEATHSIG), and with tools/isolated's pid namespace; it
always interprets (`-accel tcg`), so that the tests run the same where /dev/kvm is missing, slow or nested.
"""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import initial
import pytest
from labhost import locked

CHECKOUT = Path(__file__).resolve().parents[2]
SERIES = ("6.1", "6.12")
PATIENCE = 900.0  # seconds for what takes a few, at most ninety, on a quiet machine
_OWN_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_rng", "virtio_net")
_9P = "trans=virtio,version=9p2000.L,msize=512000"

# Process 1 of the initial file system. What becomes process 1 afterwards chroots itself by exec: the kernel's helpers
# (modprobe) see the file system of process 1, and a child that chroots would leave them in the initial one. Servers ask
# what address their own name has (http.server), and wait seconds for an answer that no file gives.
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" || echo "insmod $module: failed"; done
mount -t 9p -o {_9P},cache=loose,ro root /below || echo "no root"
mount -t tmpfs tmpfs /above; mkdir /above/upper /above/work
mount -t overlay -o lowerdir=/near:/below,upperdir=/above/upper,workdir=/above/work overlay /root || echo "no overlay"
cd /root
mount -t proc proc proc; mount -t sysfs sysfs sys; mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm; mount -t devpts devpts dev/pts; mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run; mkdir -p run/lock run/netns out
mount -t 9p -o {_9P},access=any out out || echo "no folder for results"
mkdir -p usr/lib/modules; mount -t 9p -o {_9P},cache=loose,ro modules usr/lib/modules || echo "no modules"
mount -t cgroup2 cgroup2 sys/fs/cgroup; mount -t tracefs tracefs sys/kernel/tracing; mount -t bpf bpf sys/fs/bpf
hostname guest; echo 127.0.0.1 guest >>etc/hosts; ip link set lo up
exec env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
  chroot /root /usr/bin/busybox sh /out/agent
"""

# What is asked comes as a line: a number, whose script lies in the folder. The answer: the same, and the exit status.
_AGENT = """
for port in /dev/vport*p1; do :; done
exec 3<>"$port"
echo "ready $(uname -r)" >&3
while read -r number <&3; do
  ( cd /; bash "/out/$number.sh" >"/out/$number.out" 2>"/out/$number.err" </dev/null 3>&-; echo "$number $?" >&3 ) &
done
poweroff -f
"""


class GuestError(AssertionError):
    """A guest that did not do what was asked; the text has the end of its console."""


@dataclass(frozen=True)
class Kernel:
    """One that tools/kernels fetched. ``version`` as `uname -r` says it."""

    series: str
    version: str
    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "vmlinuz"


@dataclass(frozen=True)
class Nic:
    """A network device of the guest; it sees them as eth0, eth1 … in this order.

    ``words`` as `-netdev` wants them, without the id: "tap,ifname=tap0,script=no,downscript=no", "socket,fd=5". ``mtu``
    is what the device tells the guest to use.
    """

    words: str
    mac: str
    mtu: int | None = None


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


def cache() -> Path:
    """Where tools/kernels puts them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pathfit/kernels"


def kernel(series: str) -> Kernel | None:
    """The kernel of a series, if it was fetched and QEMU is here."""
    folder = cache() / series
    try:
        version = (folder / "version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    here = shutil.which("qemu-system-x86_64") and shutil.which("busybox") and shutil.which("modprobe", path=_SBIN)
    return Kernel(series, version, folder) if here else None


def required(series: str) -> Kernel:
    """The same; without it the test is skipped, and fails where CI is set."""
    found = kernel(series)
    if found is None:
        why = f"no kernel {series}, or no QEMU for it (make engines-setup)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    return found


def sweep() -> None:
    """Remove the folders of guests whose process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(FileNotFoundError):
            if (folder / "lock").exists() and (fd := locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(fd)


_FOLDER = "pathfit-kernels-"
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


def needed(kernel: Kernel) -> list[Path]:
    """The files of the modules that the root needs, those that others need first; none for what is built in."""
    found: dict[Path, None] = {}
    for name in _OWN_MODULES:
        words = ["modprobe", "-d", str(kernel.folder), "-S", kernel.version, "-D", name]
        said = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env={"PATH": _SBIN})
        for line in said.stdout.splitlines():
            kind, _, path = line.partition(" ")
            if kind == "insmod":
                found[Path(path.strip())] = None
    return list(found)


@functools.cache
def booted(kernel: Kernel) -> tuple[Path, bytes]:
    """The kernel as QEMU starts it, and its initial file system."""
    return initial.unpacked(kernel.image), initial.archive(_INIT, needed(kernel))


@dataclass
class Job:
    """A command that runs in a guest."""

    guest: "Guest"
    number: int
    started: float = field(default_factory=time.monotonic)

    def wait(self, timeout: float = PATIENCE) -> Done:
        """What it said. Raises GuestError when it does not end within ``timeout`` seconds of now."""
        status = self.guest._answer(str(self.number), timeout)
        out, err = ((self.guest.folder / f"{self.number}.{x}").read_text(errors="replace") for x in ("out", "err"))
        return Done(int(status), out, err)


class Guest:
    """A machine with a kernel of its own. A context manager: leaving it ends it and removes its folder.

    ``memory`` in MB. ``cpu``: as QEMU names them; one without AVX ("Nehalem") takes a quarter less to interpret.
    ``netns_of``: the process in whose network namespace QEMU runs (for a tap device that is there).
    ``enter``: words before QEMU's own that make it a process of somewhere else ("nsenter …"), instead of ``netns_of``.
    ``kept``: descriptors that QEMU inherits ("socket,fd=5"). ``wait`` False: it boots meanwhile, and the first command
    waits for it.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        memory: int = 1024,
        cpus: int = 1,
        nics: Iterable[Nic] = (),
        cpu: str = "Nehalem",
        netns_of: int | None = None,
        enter: Iterable[str] = (),
        kept: Iterable[int] = (),
        wait: bool = True,
    ) -> None:
        self.kernel, self._cpu = kernel, cpu
        sweep()
        self._outer = Path(tempfile.mkdtemp(prefix=_FOLDER))
        self._lock = locked(self._outer)
        self.folder = self._outer / "out"
        self.folder.mkdir()
        self._console = self._outer / "console"
        self._answers: dict[str, str] = {}
        self._rest, self._count, self._up = b"", 0, False
        self._port, theirs = socket.socketpair()
        (self.folder / "agent").write_text(_AGENT)
        self._image, files = booted(kernel)
        (self._outer / "initrd").write_bytes(files)
        before = ["nsenter", "-t", str(netns_of), "-n", "--"] if netns_of else [*enter]
        words = [*before, *self._words(memory, cpus, tuple(nics), theirs.fileno())]
        with theirs, (self._outer / "qemu").open("wb") as log:
            self._qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(theirs.fileno(), *kept),
            )
        if wait:
            try:
                self.ready()
            except BaseException:
                self.end()
                raise

    def ready(self) -> None:
        """It is up, and takes commands. Raises GuestError."""
        if not self._up:
            self._answer("ready", PATIENCE)
            self._up = True

    def _words(self, memory: int, cpus: int, nics: tuple[Nic, ...], port: int) -> list[str]:
        line = "console=ttyS0 quiet panic=-1 nokaslr no_timer_check net.ifnames=0 "
        line += "mitigations=off lsm= init_on_alloc=0 audit=0"  # what is there against others than us costs time
        ways = {"root": "/", "out": str(self.folder), "modules": str(self.kernel.folder / "lib/modules")}
        words = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            self._cpu,
            "-smp",
            str(cpus),
            "-m",
            str(memory),
        ]
        words += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]
        words += ["-kernel", str(self._image), "-initrd", str(self._outer / "initrd"), "-append", line]
        words += ["-serial", f"file:{self._console}", "-device", "virtio-rng-pci"]
        for tag, path in ways.items():
            only = "" if tag == "out" else ",readonly=on"
            words += ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{only}"]
        words += ["-chardev", f"socket,id=port,fd={port}", "-device", "virtio-serial-pci"]
        words += ["-device", "virtserialport,chardev=port,name=pathfit"]
        for n, nic in enumerate(nics):
            mtu = f",host_mtu={nic.mtu}" if nic.mtu else ""
            words += ["-netdev", f"{nic.words},id=net{n}"]
            words += ["-device", f"virtio-net-pci,netdev=net{n},mac={nic.mac}{mtu},romfile="]
        return words

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def start(self, script: str) -> Job:
        """Run a shell script (bash) inside; do not wait. Several may run at once."""
        self.ready()
        self._count += 1
        (self.folder / f"{self._count}.sh").write_text(script)
        try:
            self._port.sendall(b"%d\n" % self._count)
        except OSError as e:
            raise self._failed(f"is gone ({e})") from None
        return Job(self, self._count)

    def run(self, script: str, timeout: float = PATIENCE, check: bool = True) -> Done:
        """Run a shell script (bash) inside. Raises GuestError when it takes longer, or (``check``) when it fails."""
        done = self.start(script).wait(timeout)
        if check and done.status:
            raise GuestError(f"{self.kernel.version}: {script[:400]}\n{done.status}: {done.err or done.out}")
        return done

    def _answer(self, key: str, timeout: float) -> str:
        """The word that came back for ``key``."""
        deadline = time.monotonic() + timeout
        while key not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._failed(f"{key}: not within {timeout:g} s")
            self._port.settimeout(min(left, 1.0))
            with suppress(TimeoutError, ConnectionResetError):
                data = self._port.recv(4096)
                if data:
                    *lines, self._rest = (self._rest + data).split(b"\n")
                    for name, _, word in (line.decode().partition(" ") for line in lines):
                        self._answers[name] = word
                    continue
                if self._qemu.wait(PATIENCE) is not None:
                    raise self._failed(f"{key}: it ended")
        return self._answers.pop(key)

    def _failed(self, what: str) -> GuestError:
        return GuestError(f"guest {self.kernel.version} {what}\n{self.console()}")

    @property
    def alive(self) -> bool:
        return self._qemu.poll() is None

    def console(self) -> str:
        """The end of what the kernel and QEMU said."""
        text = ""
        for name in ("console", "qemu"):
            with suppress(OSError):
                text += (self._outer / name).read_text(errors="replace")[-4000:]
        return text

    def end(self) -> None:
        """Take it away. A second call is harmless."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self._qemu.pid, signal.SIGKILL)
            self._qemu.wait(PATIENCE)
        self._port.close()
        shutil.rmtree(self._outer, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def several(kernels: Iterable[Kernel]) -> Iterator[list[Guest]]:
    """A guest of each kernel; they boot at once, and none stays."""
    with ExitStack() as stack:
        yield [stack.enter_context(Guest(x, wait=False)) for x in kernels]


def told(script: str, guests: dict[str, Guest]) -> dict[str, Any]:
    """What a script beside this file prints (JSON) in each guest, in all at once, by series."""
    words = f"{CHECKOUT}/.venv/bin/python {Path(__file__).with_name(script)}"
    jobs = {series: guest.start(words) for series, guest in guests.items()}
    done = {series: job.wait() for series, job in jobs.items()}
    assert all(d.status == 0 for d in done.values()), [d.err for d in done.values()]
    return {series: json.loads(d.out) for series, d in done.items()}
