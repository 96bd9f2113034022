"""Article 000 with containerd, whose pods get their network from CNI plugins: the conflist edited, and taken back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from article import NARROW, URL, Stage
from engine import required
from labhost import Lab
from recipes.containerds import PROGRAMS, Containerd, network

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
        assert a.links() == links
        assert a.hangs(web) and a.hangs("db")


def test_a_pod_made_anew() -> None:
    """The file says it by now, and the pod is older: shown with what makes it anew; then it has it."""
    with containerd() as a:
        web = a.ctr.pod("shop/web-7f9c", "web")
        a.file.write_text(network(NARROW))
        report = a.diagnose("pod:shop/web-7f9c")
        first = report["findings"][0]
        (older,) = [f for f in report["findings"] if f["code"] == "CFG603"]
        assert (older["facts"]["case"], older["facts"]["wanted"]) == ("network", NARROW)
        assert "CFG603" in first["because"]
        (anew,) = [x for x in first["fixes"] if x["id"] == "cni-container-anew"]
        assert anew["commands"] == [["kubectl", "-n", "shop", "delete", "pod", "web-7f9c"]]
        assert anew["interrupts"] == ["pod:shop/web-7f9c"]
        a.fix("pod:shop/web-7f9c", "--use", "cni-container-anew", "--yes", "--interrupt", status=1)
        a.ctr.remove(web, a.ctr.sandbox("shop/web-7f9c"))
        web = a.ctr.pod("shop/web-7f9c", "web", attempt=1)
        assert a.mtu(web) == NARROW
        assert a.works(web)
        assert a.diagnose("pod:shop/web-7f9c")["verdict"] == "healthy"
