"""A real systemd-networkd, in namespaces of its own: what it says of its device is read, and what we write it obeys."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKD = Path("/lib/systemd/systemd-networkd")
STAGE = """
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/etc/u /run/etc/w
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/u,workdir=/run/etc/w /etc
rm -rf /etc/systemd/network; mkdir -p /etc/systemd/network
mount -t sysfs -o ro sysfs /sys  # then it does not wait for udev
chown -R systemd-network /run/systemd/netif
ip link set lo up
ip link add eth0 type veth peer name far
ip link set far up
cat >/etc/systemd/network/20-lan.network <<END
[Match]
Name=eth0
[Network]
Address=198.18.2.2/24
LinkLocalAddressing=no
END
exec "$@"
"""
INSIDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from pathfit.core.change import WriteFile
from pathfit.core.request import ReadPlatform
from pathfit.core.snapshot import Link
from pathfit.apply.steps import step_of
from pathfit.observe.platform import read
from pathfit.remedies.lasting import _written

INDEX = int(Path("/sys/class/net/eth0/ifindex").read_text())

def with_networkd():
    one = subprocess.Popen([sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = Path(f"/run/systemd/netif/links/{INDEX}")
    end = time.monotonic() + 20
    while time.monotonic() < end and not (state.exists() and "ADMIN_STATE=configured" in state.read_text()):
        time.sleep(0.02)
    st = os.stat("/proc/1/ns/net")
    fact = read(ReadPlatform(ref="p", source="host", netns=f"{st.st_dev}:{st.st_ino}", link="eth0", index=INDEX))
    mtu = int(Path("/sys/class/net/eth0/mtu").read_text())
    one.send_signal(signal.SIGTERM)
    one.wait()
    return fact, mtu

fact, before = with_networkd()
(owner,) = fact.owners
text = _written(owner, Link(index=INDEX, name="eth0", mtu=1500, kind="veth"), 1450)
change = WriteFile(path=owner.path, old=owner.text, new=text)
step = step_of(change)
prepared = step.prepare(change, "test")
step.perform(change, prepared, "test")
_, after = with_networkd()
step.undo(change, prepared, "test")
left = [str(p) for p in Path("/etc/systemd/network").rglob("*") if p.is_file()]
print(json.dumps({"manager": owner.manager, "name": owner.name, "before": before, "after": after, "left": left}))
"""


@pytest.mark.lab
def test_networkd_obeys_what_is_written(tmp_path: Path) -> None:
    if not NETWORKD.exists() or shutil.which("unshare") is None:
        pytest.skip("needs systemd-networkd and unshare")
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    words = [
        "unshare",
        *["--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"],
        "sh",
        "-c",
        STAGE,
        "sh",
    ]
    done = subprocess.run(
        [*words, sys.executable, str(script), str(NETWORKD)], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "manager": "networkd",
        "name": "/etc/systemd/network/20-lan.network",
        "before": 1500,
        "after": 1450,
        "left": ["/etc/systemd/network/20-lan.network"],
    }
