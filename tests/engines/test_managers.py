"""A host's own device, repaired for good: the manager that keeps it takes what is written, and still has it after it
started anew. Article 001's virtual machine, with each of the managers that Linux has."""

import json
import os
from subprocess import CompletedProcess

import pytest
from article import DEAF, PATHFIT, SIZE, URL, serve
from engine import required
from labhost import COMES, Lab, LabHost, cable
from recipes.managers import CONFIGURED, LINK, Manager

pytestmark = [pytest.mark.slow, pytest.mark.lab]

NARROW = 1420


class Stage:
    """s (web server, never told "too big") 1500 - 1500 r NARROW - 1500 h: what is larger is lost on the way in."""

    def __init__(self, lab: Lab, name: str, own: str = "") -> None:
        """``own``: what stands at the end of the manager's configuration."""
        self.h, self.r, self.s = lab.host("h"), lab.room("r"), lab.room("s")
        cable(self.h, LINK, self.r, "rh", 1500)
        cable(self.r, "rs", self.s, "eth0", 1500)
        self.r.ip(f"link set rh mtu {NARROW}\naddr add 198.18.2.1/24 dev rh\naddr add 198.18.3.1/24 dev rs")
        self.s.ip("addr add 198.18.3.2/24 dev eth0\nroute add default via 198.18.3.1")
        self.r.sysctl(ipv4__ip_forward=1)
        self.s.run("nft", "-f", "-", stdin=DEAF)
        serve(self.s, lab.folder / "server.log")
        self.manager = Manager(self.h, name, own)
        self.manager.start()

    def curl(self, patience: float) -> bool:
        words = f"curl -sk -m {patience} -o /dev/null -w %{{http_code}}_%{{size_download}} {URL}{SIZE}"
        return self.h.run(*words.split(), check=False) == f"200_{SIZE}"

    def pathfit(self, *words: str) -> "CompletedProcess[str]":
        env = {**os.environ, "PATHFIT_STATE": str(self.h.folder / "state"), "LANG": "C.UTF-8"}
        return self.h.call(str(PATHFIT), *words, env=env)


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_manager_takes_what_is_written_and_gives_it_back(name: str) -> None:
    required()
    with Lab() as lab:
        stage = Stage(lab, name)
        h, manager = stage.h, stage.manager
        before = files(h)
        assert manager.mtu == 1500 and not stage.curl(2.0)

        shown = stage.pathfit("fix", "--to", URL, "--use", f"{name}-link-mtu", "--dry-run")
        assert shown.returncode == 1 and f"{NARROW}" in shown.stdout, shown.stdout + shown.stderr
        assert files(h) == before
        done = stage.pathfit("fix", "--to", URL, "--use", f"{name}-link-mtu", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert manager.mtu == NARROW and stage.curl(COMES), "at once"
        manager.restart()
        assert manager.mtu == NARROW and stage.curl(COMES), "and after a reboot: its own parser took it"

        done = stage.pathfit("fix", "--undo", "last")
        assert done.returncode == 0, done.stdout + done.stderr
        assert files(h) == before, "to the byte"
        assert manager.mtu == 1500
        manager.restart()
        assert manager.mtu == 1500 and not stage.curl(2.0)


def test_a_profile_with_an_mtu_of_its_own_is_changed_by_its_tool() -> None:
    """That counts more than any default; the lines to type are taken by nmcli, and hold after a reboot."""
    required()
    with Lab() as lab:
        stage = Stage(lab, "networkmanager", own="[ethernet]\nmtu=1500\n")
        shown = stage.pathfit("diagnose", "--to", URL, "--json")
        (first, *_) = json.loads(shown.stdout)["findings"]
        (typed,) = [x for x in first["fixes"] if x["id"] == "networkmanager-link-mtu"]
        assert typed["applicability"] == "manual" and not typed["untried"]
        for words in typed["commands"]:
            stage.h.run(*words)
        assert stage.manager.mtu == NARROW and stage.curl(COMES)
        stage.manager.restart()
        assert stage.manager.mtu == NARROW and stage.curl(COMES)


def files(host: LabHost) -> dict[str, str]:
    """Every file that a manager of networks reads: its rights and what it holds."""
    tops = ("/etc/systemd/network", "/etc/netplan", "/etc/NetworkManager", "/etc/network")
    found = host.run("find", *[t for t in tops if host.path(t).exists()], "-type", "f", "-printf", "%m %p\n")
    listed = [line.split(" ", 1) for line in sorted(found.splitlines())]
    return {f"{mode} {path}": host.path(path).read_text() for mode, path in listed}
