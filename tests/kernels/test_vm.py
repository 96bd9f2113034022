"""Guests: what runs in one is seen and timed, and nothing of one stays, however its process ends."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import labhost
import pytest
import vm
from labhost import only_child, until

pytestmark = [pytest.mark.slow, pytest.mark.lab]

STARTED = f"""
import sys
sys.path[:0] = {[str(Path(file).parent) for file in (vm.__file__, labhost.__file__)]!r}
import vm
with vm.Guest(vm.kernel(sys.argv[1]), wait=sys.argv[2] == "up") as guest:
    print(guest._qemu.pid, guest._outer, flush=True)
    guest.run("sleep infinity")
"""


@pytest.fixture
def guest(guests: dict[str, vm.Guest]) -> vm.Guest:
    return guests["6.1"]


@pytest.fixture(scope="module")
def tapped() -> Iterator[vm.Guest]:
    """One of our own, with a tap of a namespace of ours."""
    holder = subprocess.Popen(["unshare", "--net", "--kill-child", "--fork", "sleep", "infinity"])
    try:
        pid = only_child(holder.pid)
        tap = "ip tuntap add tap0 mode tap && ip addr add 198.18.0.1/24 dev tap0 && ip link set tap0 mtu 1450 up"
        subprocess.run(["nsenter", "-t", str(pid), "-n", "--", "sh", "-c", tap], check=True)
        nic = vm.Nic("tap,ifname=tap0,script=no,downscript=no", "52:54:00:12:34:56", mtu=1450)
        with vm.Guest(vm.required("6.12"), nics=[nic], netns_of=pid, wait=False) as g:
            yield g
    finally:
        holder.kill()
        holder.wait(vm.PATIENCE)


@pytest.mark.parametrize(
    ("how", "when"), [(signal.SIGINT, "up"), (signal.SIGKILL, "boots")], ids=["interrupted", "killed while it boots"]
)
def test_nothing_stays(tapped: vm.Guest, how: signal.Signals, when: str) -> None:
    """(The other one boots meanwhile.)"""
    assert tapped.alive
    vm.required("6.1")
    words = [sys.executable, "-c", STARTED, "6.1", when]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        until(lambda: Path(f"/proc/{pid}/comm").read_text().startswith("qemu"), "QEMU, and no longer setpriv")
        os.kill(process.pid, how)
        process.wait(vm.PATIENCE)
    until(lambda: not alive(int(pid)), "the end of QEMU")
    vm.sweep()
    assert not Path(folder).exists() and Path(folder).parent == Path(tempfile.gettempdir())


def test_a_command_has_its_kernel_output_and_status(guest: vm.Guest) -> None:
    done = guest.run(f"uname -r; echo no >&2; cd {vm.CHECKOUT} && ls pyproject.toml; exit 3", check=False)
    assert done == vm.Done(3, f"{guest.kernel.version}\npyproject.toml\n", "no\n")
    with pytest.raises(vm.GuestError, match="3: no"):
        guest.run("echo no >&2; exit 3")


def test_modules_come_by_themselves_and_devices_are_its_own(tapped: vm.Guest) -> None:
    tapped.run("ip netns add x && ip -n x link add w type wireguard && ip -n x link del w && ip netns del x")
    assert tapped.run("ls /sys/class/net").out.split() == ["eth0", "lo"]


def test_what_it_writes_stays_inside(guest: vm.Guest) -> None:
    guest.run("echo one >/out/mine; echo two >/etc/pathfit-was-here; echo three >/pathfit-was-here")
    assert (guest.folder / "mine").read_text() == "one\n"
    assert not Path("/etc/pathfit-was-here").exists() and not Path("/pathfit-was-here").exists()


def test_several_at_once_and_none_for_ever(guest: vm.Guest) -> None:
    slow = guest.start("while [ ! -e /run/go ]; do sleep 0.1; done; echo went")
    with pytest.raises(vm.GuestError, match=r"not within 0\.2 s"):
        slow.wait(0.2)
    guest.run("touch /run/go")
    assert slow.wait().out == "went\n"


def test_a_device_of_the_guest_is_a_tap_of_ours(tapped: vm.Guest) -> None:
    tapped.run("ip addr add 198.18.0.2/24 dev eth0 && ip link set eth0 up && ping -c 1 -w 300 198.18.0.1")
    assert tapped.run("cat /sys/class/net/eth0/mtu").out == "1450\n"


def test_a_guest_that_ends_is_noticed(tapped: vm.Guest) -> None:
    """Nothing can be asked of it afterwards: the last of its tests."""
    with pytest.raises(vm.GuestError, match="it ended"):
        tapped.run("busybox poweroff -f")
    assert not tapped.alive
    tapped.end()
    assert not tapped._outer.exists()


def alive(pid: int) -> bool:
    """Is there such a process, other than one that waits to be buried?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
