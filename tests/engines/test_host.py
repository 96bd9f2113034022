"""The host itself asks, its NIC is larger than what the network carries, and networkd keeps it: now, and for good."""

import os
from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest
from article import DEAF, PATHFIT, URL, serve
from engine import required
from labhost import COMES, Lab, LabHost, cable

pytestmark = [pytest.mark.slow, pytest.mark.lab]

NIC, NARROW = 1500, 1450
BODY = f"{URL}200000"
WRITTEN = "/etc/systemd/network/20-lan.network.d/99-pathfit-mtu.conf"


@pytest.fixture
def h() -> Iterator[LabHost]:
    """s 1500 - 1500 r 1450 - 1500 h: what comes in stops at 1450, and nobody tells s."""
    required("nft")
    with Lab() as lab:
        h, r, s = lab.host("h"), lab.room("r"), lab.room("s")
        cable(h, "eth0", r, "rh", NIC)
        cable(r, "rs", s, "eth0", 1500)
        h.ip("addr add 198.18.2.2/24 dev eth0\nroute add default via 198.18.2.1")
        r.ip(f"addr add 198.18.2.1/24 dev rh\naddr add 198.18.3.1/24 dev rs\nlink set rh mtu {NARROW}")
        s.ip("addr add 198.18.3.2/24 dev eth0\nroute add default via 198.18.3.1")
        r.sysctl(ipv4__ip_forward=1)
        s.run("nft", "-f", "-", stdin=DEAF)
        serve(s, lab.folder / "server.log")
        index = h.run("cat", "/sys/class/net/eth0/ifindex").strip()
        state = r"ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/20-lan.network\n"
        folder = "/run/systemd/netif/links"
        h.run("sh", "-c", f"mkdir -p {folder} /etc/systemd/network; printf '{state}' >{folder}/{index}")
        yield h


def pathfit(h: LabHost, *words: str) -> "CompletedProcess[str]":
    env = {**os.environ, "PATHFIT_STATE": str(h.folder / "state"), "LANG": "C.UTF-8"}
    return h.call(str(PATHFIT), *words, "--to", BODY, env=env)


def mtu(h: LabHost) -> int:
    return int(h.run("cat", "/sys/class/net/eth0/mtu"))


def works(h: LabHost, patience: float = COMES) -> bool:
    return h.call("curl", "-sk", "-m", str(patience), "-o", "/dev/null", BODY).returncode == 0


def hangs(h: LabHost) -> bool:
    return not works(h, 3.0)


def test_for_good(h: LabHost) -> None:
    assert hangs(h)
    done = pathfit(h, "fix", "--yes", "--use", "networkd-link-mtu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert works(h) and mtu(h) == NARROW
    assert h.path(WRITTEN).read_text() == f"[Link]\nMTUBytes={NARROW}\n"
    env = {**os.environ, "PATHFIT_STATE": str(h.folder / "state")}
    assert h.call(str(PATHFIT), "fix", "--undo", "last", env=env).returncode == 0
    assert not h.path(WRITTEN).parent.exists() and mtu(h) == NIC and hangs(h)


def test_now_and_the_line_it_prints_is_for_good(h: LabHost) -> None:
    done = pathfit(h, "fix", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert works(h) and mtu(h) == NIC and not h.path(WRITTEN).exists()
    printed = next(line for line in done.stdout.splitlines() if "CFG607" in line).split("pathfit ")[1]
    said = pathfit(h, "diagnose")
    assert said.returncode == 0 and "pathfit fix CFG607 --from host" in said.stdout
    done = pathfit(h, *printed.partition(" --to ")[0].split(), *printed.split()[-2:], "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert works(h) and mtu(h) == NARROW and h.path(WRITTEN).exists()
