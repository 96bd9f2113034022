"""Article 000 with a real Podman, by netavark and by CNI: repaired in its networks' files, and taken back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from article import NARROW, URL, Stage
from engine import required
from labhost import Lab
from recipes.podmans import PROGRAMS, Podman
from test_killed import repaired, taken_back

from pathfit.core.change import RestartContainers, WriteFile
from pathfit.observe.engines import conmon

pytestmark = [pytest.mark.slow, pytest.mark.lab]

SLOW = ("sh", "-c", "trap 'sleep 1; exit 0' TERM; sleep infinity & wait")  # takes a second to end
FOLDER = {"netavark": "/etc/containers/networks", "cni": "/etc/cni/net.d"}
ENDS = {"netavark": "json", "cni": "conflist"}


class PodmanStage(Stage):
    def __init__(self, lab: Lab, backend: str) -> None:
        super().__init__(lab)
        self.backend = backend
        self.podman = Podman(lab, self.h, backend, programs=("curl", "ip"))

    def inside(self, container: str, *words: str) -> str:
        return self.podman("exec", container, *words, check=False)

    def file(self, network: str) -> Any:
        return self.h.path(f"{FOLDER[self.backend]}/{network}.{ENDS[self.backend]}")

    def mtu(self, container: str, link: str = "eth0") -> int:
        return int(json.loads(self.inside(container, "ip", "-j", "link", "show", "dev", link))[0]["mtu"])

    def port(self, link: str) -> int:
        return int(json.loads(self.h.run("ip", "-j", "link", "show", "dev", link))[0]["mtu"])

    def network(self, name: str) -> dict[str, Any]:
        """As Podman understands its file."""
        found: dict[str, Any] = json.loads(self.podman("network", "inspect", name))[0]
        return found

    def running(self) -> dict[str, str]:
        """State of each container by name."""
        told = json.loads(self.podman("ps", "-a", "--format", "json"))
        return {c["Names"][0]: c["State"] for c in told}


@contextmanager
def podman(backend: str) -> Iterator[PodmanStage]:
    required(*PROGRAMS)
    with Lab() as lab:
        yield PodmanStage(lab, backend)


def causes(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["code"]: f for f in report["findings"][1:]}


@pytest.mark.parametrize("backend", ["netavark", "cni"])
def test_a_network_s_file_and_its_containers(backend: str) -> None:
    with podman(backend) as a:
        run = a.podman.run
        a.podman("network", "create", "web")
        a.podman("network", "create", "--subnet", "198.19.12.0/24", "back")
        run("w1", "--network", "web")
        run("w2", "--network", "web,back")
        run("side", "--network", "container:w1")
        run("ci")
        a.podman("pause", "w2")
        file = a.file("web")
        before = file.read_bytes()
        bridge = "podman1" if backend == "netavark" else "cni-podman1"
        assert a.hangs("w1") and a.hangs("side")

        report = a.diagnose("podman:w1")
        first = report["findings"][0]
        assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
        text = a.pathfit("diagnose", "--from", "container:w1", "--to", URL).stdout
        assert f"w1 1500 > {bridge} > [eth0 {NARROW}]" in text
        assert "CFG601" in first["because"]
        assert causes(report)["CFG601"]["facts"]["network"] == "web"

        a.fix("container:w1", "--yes")
        assert a.works("w1") and a.works("side")
        a.undo()
        assert a.hangs("w1")

        said = a.fix("container:side", "--use", "podman-network-mtu", "--yes", status=1)
        assert all(name in said for name in ("w1", "w2", "side"))
        assert file.read_bytes() == before, "--yes alone interrupts nothing"
        a.fix("container:side", "--use", "podman-network-mtu", "--yes", "--interrupt")
        assert a.network("web")["options"] == {"mtu": str(NARROW)}
        assert [a.mtu("w1"), a.mtu("side"), a.port(bridge), a.mtu("ci")] == [NARROW, NARROW, NARROW, 1500]
        assert a.running() == {"w1": "running", "w2": "paused", "side": "running", "ci": "running"}
        a.podman("unpause", "w2")
        assert sorted([a.mtu("w2", "eth0"), a.mtu("w2", "eth1")]) == [NARROW, 1500]
        assert a.works("w1") and a.works("side") and a.hangs("ci")
        run("w3", "--network", "web")
        assert a.works("w3")
        a.podman("pause", "w2")
        a.undo()
        assert file.read_bytes() == before
        assert [a.mtu("w1"), a.mtu("side"), a.port(bridge)] == [1500, 1500, NARROW], "w3 is somebody else's"
        a.podman("rm", "-f", "w3")
        assert a.port(bridge) == 1500
        assert a.hangs("w1")


def test_the_default_network_which_has_no_file() -> None:
    with podman("netavark") as a:
        file = a.file("podman")
        a.podman.run("ci")
        a.podman(
            "pod", "create", "--name", "shop", "--infra-image", "lab", "--infra-command", "sleep 1000", check=False
        )
        told = {k: v for k, v in a.network("podman").items() if k != "created"}
        assert not file.exists()
        assert a.hangs("ci")
        report = a.diagnose("container:ci")
        assert "CFG601" in report["findings"][0]["because"]
        a.fix("container:ci", "--use", "podman-network-mtu", "--yes", "--interrupt")
        now = a.network("podman")
        assert now.pop("options") == {"mtu": str(NARROW)}
        assert {k: v for k, v in now.items() if k != "created"} == told, "Podman sees the same network but for its MTU"
        assert (a.mtu("ci"), a.port("podman0")) == (NARROW, NARROW)
        assert a.works("ci")
        a.undo()
        assert not file.exists()
        assert a.mtu("ci") == 1500
        assert a.hangs("ci")

        made = {**a.network("podman"), "options": {"mtu": str(NARROW)}}  # somebody writes it, and restarts nothing
        file.write_text(json.dumps(made))
        report = a.diagnose("container:ci")
        older = causes(report)["CFG603"]
        assert (older["facts"]["case"], older["facts"]["path"]) == ("network", f"{FOLDER['netavark']}/podman.json")
        assert "CFG603" in report["findings"][0]["because"]
        a.fix("container:ci", "CFG603", "--yes", "--interrupt")
        assert a.works("ci")
        assert a.running()["ci"] == "running"


def test_killed_at_every_call() -> None:
    """The file, then the containers, each with the journal around it: the next pathfit takes it back. Also while Podman
    itself goes on, which it does without us."""
    with podman("netavark") as a:
        a.podman("network", "create", "web")
        ids = [a.podman.run("w1", "--network", "web", words=SLOW), a.podman.run("side", "--network", "container:w1")]
        file = a.file("web")
        before = file.read_bytes()
        old = json.loads(before)
        new = json.dumps({**old, "options": {"mtu": str(NARROW)}})
        client = client_of(a)
        restart = RestartContainers(engine="podman", client=client, network="web", mtu=NARROW, containers=tuple(ids))
        changes = (WriteFile(path=f"{FOLDER['netavark']}/web.json", old=before.decode(), new=new), restart)

        def is_as_it_was(point: object) -> None:
            assert file.read_bytes() == before, point
            assert a.running() == {"w1": "running", "side": "running"}, point
            assert (a.mtu("w1"), a.mtu("side")) == (1500, 1500), point

        for command in ("stop", "start"):
            assert repaired(a, changes, 0, during=command)
            a.undo()
            is_as_it_was(command)
        die, killed = 0, True
        while killed:
            die += 1
            killed = repaired(a, changes, die)
            assert killed or a.mtu("w1") == NARROW
            taken_back(a, die, killed=killed)
            is_as_it_was(die)
        assert die == 7, "two steps, twice each; all stopped, all started"


def client_of(a: PodmanStage) -> tuple[str, ...]:
    """The words that the monitors of its containers were given."""
    pid = a.h.run("pidof", "-s", "conmon").strip()
    told = conmon.monitored(tuple(a.h.path(f"/proc/{pid}/cmdline").read_text().removesuffix("\0").split("\0")))
    assert told is not None
    return told.client
