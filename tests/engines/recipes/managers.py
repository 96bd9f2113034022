"""Network managers in a lab host, which keep its eth0: systemd-networkd, netplan, NetworkManager, ifupdown.

    manager.start()    as at boot: it reads its configuration and makes eth0 what that says
    manager.restart()  the same again, on a device that is as new: what outlives a reboot is seen here

The programs are Debian's, unpacked but never installed (tools/unpacked.sh): a manager that is installed takes over the
machine's own network at its next boot. Their /usr is laid over the host's; /sys is read-only there, by which they know
that no udev will tell them of devices (sd-device, device_is_initialized(); nm_platform).
"""

import os
import subprocess
from pathlib import Path

import pytest
from labhost import LabHost, until

TOOL = Path(__file__).parents[3] / "tools" / "unpacked.sh"
ADDRESS, GATEWAY = "198.18.2.2/24", "198.18.2.1"
LINK = "eth0"
NETWORK = f"""[Match]
Name={LINK}
[Network]
Address={ADDRESS}
Gateway={GATEWAY}
LinkLocalAddressing=no
"""
PROFILE = f"""[connection]
id=lan
uuid=0d2a4f8c-4d1e-4c5a-9d6e-1f0b2c3d4e5f
type=ethernet
interface-name={LINK}
[ipv4]
method=manual
address1={ADDRESS},{GATEWAY}
[ipv6]
method=disabled
"""
PLAN = f"""network:
  version: 2
  renderer: networkd
  ethernets:
    {LINK}:
      addresses: [{ADDRESS}]
      link-local: []
      routes: [{{to: default, via: {GATEWAY}}}]
"""
STANZA = f"""# the lab's own
auto {LINK}
iface {LINK} inet static
    address {ADDRESS}
    gateway {GATEWAY}
"""
USERS = """
for u in systemd-network messagebus; do
  getent passwd $u >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin $u
done
"""
INTO = 'log=$1; shift; exec "$@" </dev/null >>"$log" 2>&1'


def unpacked() -> Path:
    """The folder of the managers' programs, made by `make engines-setup`."""
    done = subprocess.run([str(TOOL), "managers"], capture_output=True, text=True, timeout=30)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


class Manager:
    """One manager on ``host``, whose ``eth0`` it keeps; ``own``: more of its file. Idle until :meth:`start`."""

    def __init__(self, host: LabHost, name: str, own: str = "") -> None:
        self.host, self.name = host, name
        self.log = host.folder / f"{name}.log"
        host.run("mount", "-o", "remount,bind,ro", "/sys")
        layers = [host.folder / kind for kind in ("upper-usr", "work-usr")]
        for layer in layers:
            layer.mkdir()
        options = f"lowerdir={unpacked()}/usr:/usr,upperdir={layers[0]},workdir={layers[1]}"
        host.run("mount", "-t", "overlay", "overlay", "-o", options, "/usr")
        host.run("sh", "-ec", USERS)
        for folder in ("/etc/systemd/network", "/etc/netplan", "/etc/NetworkManager", "/etc/network"):
            host.run("rm", "-rf", folder)
        self._start, self._stop = getattr(self, f"_{name}"), getattr(self, f"_{name}_stop", self._end)
        self._configure(own)

    def _configure(self, own: str) -> None:
        path, text = CONFIGURED[self.name]
        hooks = [f"/etc/network/if-{when}.d" for when in ("pre-up", "up", "down", "post-down")]
        self.host.run("mkdir", "-p", str(Path(path).parent), *(hooks if self.name == "ifupdown" else ()))
        self.host.path(path).write_text(text + own)
        self.host.run("chmod", "600", path)  # a keyfile that others may read is refused
        if self.name == "networkd":
            self.host.run("chmod", "644", path)

    def start(self) -> None:
        self._start()
        until(self._configured, f"{self.name}: {LINK}", detail=self._said)

    def stop(self) -> None:
        self._stop()

    def restart(self) -> None:
        """As a reboot does: the device is as it was made, and the manager starts anew."""
        self.stop()
        self.host.run("rm", "-rf", "/run/NetworkManager", "/run/systemd/network", "/run/systemd/netif", "/run/network")
        self.host.ip(f"addr flush dev {LINK}\nlink set {LINK} down\nlink set {LINK} mtu 1500")
        self.start()

    @property
    def mtu(self) -> int:
        """The MTU of the device (bytes)."""
        return int(self.host.run("cat", f"/sys/class/net/{LINK}/mtu"))

    def _configured(self) -> bool:
        return "default via" in self.host.run("ip", "-4", "route")

    def _said(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else "nothing"

    def _daemon(self, *words: str) -> None:
        self.host.run("setsid", "--fork", "sh", "-c", INTO, "sh", str(self.log), *words)

    def _end(self) -> None:
        """End the daemon (one of its name runs in the host) and wait for that."""
        pid = self.host.run("pgrep", "-x", PROGRAMS[self.name][:15]).split()[0]
        self.host.run("kill", "-TERM", pid)
        until(lambda: not self.host.path(f"/proc/{pid}").exists(), f"{self.name}'s end")

    def _networkd(self) -> None:
        folders = [f"/run/systemd/netif/{x}" for x in ("links", "leases", "lldp")]
        self.host.run("mkdir", "-p", *folders)
        self.host.run("chown", "-R", "systemd-network", "/run/systemd/netif")
        self._daemon("/lib/systemd/systemd-networkd")

    def _netplan(self) -> None:
        self.host.run("/lib/netplan/generate")
        self._networkd()

    def _networkmanager(self) -> None:
        if not self.host.path("/run/dbus/pid").exists():
            self.host.run("mkdir", "-p", "/run/dbus")
            self.host.run("dbus-daemon", "--system", "--fork")
        self._daemon("NetworkManager", "--debug")

    def _ifupdown(self) -> None:
        self.host.run("mkdir", "-p", "/run/network")
        self.host.run("ifup", LINK)

    def _ifupdown_stop(self) -> None:
        self.host.run("ifdown", LINK)


PROGRAMS = {"networkd": "systemd-networkd", "netplan": "systemd-networkd", "networkmanager": "NetworkManager"}
CONFIGURED = {
    "networkd": ("/etc/systemd/network/20-lan.network", NETWORK),
    "netplan": ("/etc/netplan/10-lan.yaml", PLAN),
    "networkmanager": ("/etc/NetworkManager/system-connections/lan.nmconnection", PROFILE),
    "ifupdown": ("/etc/network/interfaces", STANZA),
}
