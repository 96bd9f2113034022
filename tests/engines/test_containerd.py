"""Article 000 with containerd, whose pods get their network from CNI plugins: the conflist edited, and taken back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from article import NARROW, URL, Stage
from engine import required
from labhost import Lab, until
from recipes.containerds import PROGRAMS, Containerd, network
from test_killed import repaired, taken_back

from pathfit.core.change import SetLinkMtu, WriteFile

pytestmark = [pytest.mark.slow, pytest.mark.lab]

FILE = "/etc/cni/net.d/10-lab.conflist"


class ContainerdStage(Stage):
    def __init__(self, lab: Lab, mtu: int | None = None, text: str = "") -> None:
        super().__init__(lab)
        self.ctr = Containerd(lab, self.h, mtu, programs=("curl", "ip"), text=text)

    def inside(self, container: str, *words: str) -> str:
        return self.ctr.exec(container, *words, check=False)

    @property
    def file(self) -> Any:
        return self.h.path(FILE)

    def mtu(self, container: str) -> int:
        return int(json.loads(self.inside(container, "ip", "-j", "link", "show", "dev", "eth0"))[0]["mtu"])

    def links(self) -> dict[str, int]:
        """MTUs of the host's devices that are CNI's."""
        told = json.loads(self.h.run("ip", "-j", "link"))
        return {x["ifname"]: x["mtu"] for x in told if x["ifname"] == "cni0" or x.get("master") == "cni0"}


@contextmanager
def containerd(mtu: int | None = None, text: str = "") -> Iterator[ContainerdStage]:
    required(*PROGRAMS)
    with Lab() as lab:
        yield ContainerdStage(lab, mtu, text)


def test_a_conflist_and_the_pods_that_run() -> None:
    with containerd() as a:
        web = a.ctr.pod("shop/web-7f9c", "web")
        a.ctr.run("db")
        before, links = a.file.read_bytes(), a.links()
        assert set(links.values()) == {1500}
        assert a.hangs(web)

        report = a.diagnose("pod:shop/web-7f9c")
        first = report["findings"][0]
        assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
        text = a.pathfit("diagnose", "--from", "pod:shop/web-7f9c", "--to", URL).stdout
        assert f"shop/web-7f9c 1500 > cni0 > [eth0 {NARROW}]" in text
        assert "CFG601" in first["because"]

        a.fix("pod:shop/web-7f9c", "--yes")
        assert a.works(web)
        a.undo()
        assert a.hangs(web)

        a.fix("pod:shop/web-7f9c", "--use", "cni-network-mtu", "--yes")
        assert json.loads(a.file.read_text())["plugins"][0]["mtu"] == NARROW
        assert set(a.links().values()) == {NARROW}
        assert a.works(web) and a.works("db")
        assert [a.mtu(web), a.mtu("db")] == [NARROW, NARROW]
        a.ctr.run("new")
        assert a.mtu("new") == NARROW, "the plugin has read the edit"
        assert a.works("new")
        a.undo()
        assert a.file.read_bytes() == before
        assert a.links()["cni0"] == NARROW, "what the bridge sent above its new port's MTU would vanish there"
        a.ctr.remove("new")
        # The kernel takes a namespace's veth away in its own time (cleanup_net()).
        until(lambda: a.links() == links, "the devices as they were", detail=lambda: str(a.links()))
        assert a.hangs(web) and a.hangs("db")


def test_a_pod_made_anew() -> None:
    """A network without a bridge (ptp). The file is repaired, the pod that runs has it at once, and the one that a
    kubelet makes in its place has it from the plugin. Where the file says it already and the pod is older, what makes
    it anew is shown."""
    name, where = "shop/web-7f9c", "pod:shop/web-7f9c"
    with containerd(text=network(None, "ptp")) as a:
        web, before = a.ctr.pod(name, "web"), a.file.read_text()
        assert a.hangs(web)
        a.fix(where, "--use", "cni-network-mtu", "--yes")
        assert (a.mtu(web), a.works(web)) == (NARROW, True)
        edited = a.file.read_text()
        a.undo()
        assert (a.mtu(web), a.file.read_text()) == (1500, before)

        a.file.write_text(edited)
        report = a.diagnose(where)
        first = report["findings"][0]
        (older,) = [f for f in report["findings"] if f["code"] == "CFG603"]
        assert (older["facts"]["case"], older["facts"]["wanted"]) == ("network", NARROW)
        assert "CFG603" in first["because"]
        (anew,) = [x for x in first["fixes"] if x["id"] == "cni-container-anew"]
        assert anew["commands"] == [["kubectl", "-n", "shop", "delete", "pod", "web-7f9c"]]
        assert anew["interrupts"] == [where]
        a.fix(where, "--use", "cni-container-anew", "--yes", "--interrupt", status=1)
        a.ctr.remove(web, a.ctr.sandbox(name))
        web = a.ctr.pod(name, "web", attempt=1)
        assert (a.mtu(web), a.works(web)) == (NARROW, True)
        assert a.diagnose(where)["verdict"] == "healthy"


HOSTILE = {
    "cut short": (lambda t: t[: len(t) // 2], 2),  # nobody's network any more: no such repair
    "two spellings": (lambda t: t.replace('"type": "bridge"', '"type": "bridge", "MTU": 9000'), 1),  # by hand
    "a later plugin": (lambda t: t.replace("}]}", '}, {"type": "tuning", "mtu": 1500}]}'), 1),
    "another's name": (lambda t: t.replace('"name": "lab"', '"name": "other"'), 2),
    "deep": (lambda t: "[" * 100_000, 2),
}


def test_killed_and_hostile() -> None:
    """Each of its changes with the journal around it: the next pathfit takes it back. And a configuration that is not
    what it should be is refused before anything is touched."""
    with containerd() as a:
        a.ctr.run("db")
        whole, links = a.file.read_text(), a.links()
        changes = (WriteFile(path=FILE, old=whole, new=network(NARROW)), *devices(a, "db"))
        die, killed = 0, True
        while killed:
            die += 1
            killed = repaired(a, changes, die)
            assert killed or set(a.links().values()) == {a.mtu("db")} == {NARROW}
            taken_back(a, die, killed=killed, told=die == 1 or not killed)
            assert (a.file.read_text(), a.links(), a.mtu("db")) == (whole, links, 1500), die
        assert die == 9, "the file, both halves and the bridge, twice each"

        for name, (spoil, status) in HOSTILE.items():
            a.file.write_text(spoil(whole))
            words = ("--use", "cni-network-mtu", "--yes", "--from", "containerd:db", "--to", URL)
            done = a.pathfit("fix", *words)
            assert done.returncode == status, f"{name}: {done.returncode} {done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            assert (a.file.read_text(), a.links()) == (spoil(whole), links), name


def devices(a: ContainerdStage, name: str) -> tuple[SetLinkMtu, ...]:
    """Changes of both halves of a container's veth, and of the bridge."""
    found = []
    for process, wanted in ((a.ctr.pid(name), ("eth0",)), ("1", tuple(sorted(a.links(), reverse=True)))):
        device, inode = a.h.run("stat", "-Lc", "%d:%i", f"/proc/{process}/ns/net").strip().split(":")
        told = json.loads(a.h.run("nsenter", "-t", process, "-n", "ip", "-j", "link"))
        for link in wanted:
            (index,) = [x["ifindex"] for x in told if x["ifname"] == link]
            where, netns = f"pid:{process}", f"{device}:{inode}"
            found.append(SetLinkMtu(netns=netns, where=where, link=link, index=index, mtu=NARROW))
    return tuple(found)
