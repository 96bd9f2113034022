"""A machine plugged into a tap: a QEMU guest with a kernel of its own, or a lab host where there is no QEMU.

Both are spoken to in the same way (:class:`Plugged`): a shell script in, what it said out, and a folder that both sides
see ($OUT inside). Their devices are eth0, eth1 …, each the other end of a device of the host they are plugged into.
QEMU runs as a process of that host, so that whoever looks at the host sees who holds its taps.

A guest interprets every instruction, about ten times slower than here, and each small file costs it a round trip: what
it needs of this checkout is carried over at once, compiled (:func:`code`).
"""

import io
import os
import subprocess
import sys
import tarfile
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from py_compile import compile as compiled
from typing import NamedTuple, Protocol

import vm
from labhost import OFFLOADS_OFF, Lab, LabHost

SERIES = "6.1"
PACKAGES = ("pathfit", "msgspec", "click", "dns")  # rich: for pages, and here everything is JSON
LEFT_OUT = ("lab", "recorded", "__pycache__", "tests")  # folders that nothing needs which runs in a guest
MAC = "fa:16:3e:00:00:{:02x}"


class Port(NamedTuple):
    """A device of the host that a machine is plugged into: its name, its bridge, its MTU (bytes)."""

    name: str
    bridge: str
    mtu: int


class Plugged(Protocol):
    """What tests need of either kind. ``kind`` says which it was; ``dockerd``: words of its command line there."""

    kind: str
    folder: Path
    dockerd: str

    def bring(self) -> None:
        """Carry pathfit there."""

    def sh(self, script: str, timeout: float = vm.PATIENCE) -> vm.Done:
        """Run a shell script as root; never an exception for its exit status."""

    def pathfit(self, words: str, timeout: float = vm.PATIENCE) -> vm.Done:
        """pathfit, as root there would type it."""

    def end(self) -> None:
        """Take it away. A second call is harmless."""


def plug(lab: Lab, host: LabHost, *ports: Port) -> Plugged:
    """A machine with one device for each port, on ``host``."""
    kernel = vm.kernel(SERIES)
    if kernel is None and os.environ.get("CI"):
        kernel = vm.required(SERIES)  # fails, and says what is missing
    return Guest(kernel, host, ports) if kernel is not None else StandIn(lab, host, ports)


class Guest:
    """A QEMU guest on taps of ``host``."""

    dockerd = "--add-runtime crun=/usr/bin/crun --default-runtime crun"  # in C: half the time of runc, interpreted

    def __init__(self, kernel: vm.Kernel, host: LabHost, ports: tuple[Port, ...]) -> None:
        self.kind = f"QEMU guest, Linux {kernel.version}"
        for port in ports:
            host.ip(f"tuntap add {port.name} mode tap\nlink set {port.name} mtu {port.mtu} master {port.bridge} up")
        nics = [
            vm.Nic(f"tap,ifname={p.name},script=no,downscript=no", MAC.format(n)) for n, p in enumerate(ports, 1)
        ]  # fmt: skip
        self._guest = vm.Guest(kernel, memory=1024, cpus=2, cpu="Nehalem", nics=nics, enter=host.enter)
        self.folder = self._guest.folder

    def bring(self) -> None:
        (self.folder / "code.tar").write_bytes(code())
        self._guest.run("mkdir /run/code && tar xf /out/code.tar -C /run/code")

    def sh(self, script: str, timeout: float = vm.PATIENCE) -> vm.Done:
        return self._guest.run(f"export OUT=/out\n{script}", timeout, check=False)

    def pathfit(self, words: str, timeout: float = vm.PATIENCE) -> vm.Done:
        python = Path(sys.executable).resolve()
        where = "PYTHONPATH=/run/code PATHFIT_STATE=/run/state LANG=C.UTF-8"
        return self.sh(f"{where} {python} -m pathfit {words}", timeout)

    def end(self) -> None:
        self._guest.end()


class StandIn:
    """A lab host on veth halves that stand for taps."""

    kind = "namespace (no QEMU, or no kernel for it)"

    def __init__(self, lab: Lab, host: LabHost, ports: tuple[Port, ...]) -> None:
        self._host = lab.host("guest")
        self.dockerd = f"--cgroup-parent /{self._host.cgroup}"  # where LabHost removes what is left
        self.folder = self._host.folder / "out"
        self.folder.mkdir()
        for n, p in enumerate(ports):
            mac, far = MAC.format(n + 1), f"peer name eth{n} address {MAC.format(n + 1)} netns {self._host.pid}"
            words = f"ip link add {p.name} address fe{mac[2:]} mtu {p.mtu} type veth {far}"
            subprocess.run(["nsenter", "-t", str(host.pid), "-n", "--", *words.split()], check=True)
            for room, link in ((host, p.name), (self._host, f"eth{n}")):
                room.run("ethtool", "-K", link, *OFFLOADS_OFF.split())
            host.ip(f"link set {p.name} master {p.bridge} up")

    def bring(self) -> None:
        """It sees this machine's files."""

    def sh(self, script: str, timeout: float = vm.PATIENCE) -> vm.Done:
        done = self._host.call("bash", "-c", f"export OUT={self.folder}\n{script}", timeout=timeout)
        return vm.Done(done.returncode, done.stdout, done.stderr)

    def pathfit(self, words: str, timeout: float = vm.PATIENCE) -> vm.Done:
        program = Path(sys.executable).with_name("pathfit")
        return self.sh(f"PATHFIT_STATE={self.folder}/state LANG=C.UTF-8 {program} {words}", timeout)

    def end(self) -> None:
        self._host.end()


def code() -> bytes:
    """pathfit and what it imports as a tar, compiled: half the bytes, and nothing to compile there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in PACKAGES:
            spec = find_spec(name)
            assert spec is not None and spec.submodule_search_locations, name
            top = Path(next(iter(spec.submodule_search_locations)))
            for at, folders, files in os.walk(top):
                folders[:] = [f for f in folders if f not in LEFT_OUT]
                for file in sorted(files):
                    _add(tar, Path(at) / file, top.parent)
    return out.getvalue()


def _add(tar: tarfile.TarFile, path: Path, top: Path) -> None:
    if path.suffix != ".py":
        tar.add(path, str(path.relative_to(top)))
        return
    made = Path(cache_from_source(str(path)))
    if not made.exists() or made.stat().st_mtime < path.stat().st_mtime:
        compiled(str(path), str(made), doraise=True)
    tar.add(made, str(path.relative_to(top).with_suffix(".pyc")))
