"""Article 000 with a real Podman, by netavark and by CNI: repaired in its networks' files, and taken back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from article import NARROW, SERVER, URL, Stage
from engine import STAY, required
from labhost import Lab, until
from recipes.podmans import PROGRAMS, Podman
from test_killed import repaired, taken_back

from pathfit.core.change import Change, RestartContainers, WriteFile
from pathfit.observe.engines import conmon
from pathfit.observe.engines.podman import SOCKET

pytestmark = [pytest.mark.slow, pytest.mark.lab]

SLOW = ("sh", "-c", "trap 'sleep 1; exit 0' TERM; sleep infinity & wait")  # takes a second to end
FOLDER = {"netavark": "/etc/containers/networks", "cni": "/etc/cni/net.d"}
ENDS = {"netavark": "json", "cni": "conflist"}


class PodmanStage(Stage):
    def __init__(self, lab: Lab, backend: str) -> None:
        super().__init__(lab)
        self.backend = backend
        self.podman = Podman(lab, self.h, backend, programs=("curl", "ip", "tini"))

    def inside(self, container: str, *words: str) -> str:
        return self.podman("exec", container, *words, check=False)

    def file(self, network: str) -> Any:
        return self.h.path(f"{FOLDER[self.backend]}/{network}.{ENDS[self.backend]}")

    def mtu(self, container: str, link: str = "eth0") -> int:
        return int(json.loads(self.inside(container, "ip", "-j", "link", "show", "dev", link))[0]["mtu"])

    def port(self, link: str) -> int:
        return int(json.loads(self.h.run("ip", "-j", "link", "show", "dev", link))[0]["mtu"])

    def serve(self) -> None:
        """Start Podman's service."""
        words = ("system", "service", "--time", "0", f"unix://{SOCKET}")
        log = self.h.folder / "service.log"
        self.h.start(*self.podman.words, *words, log=log)
        ping = ("curl", "-sf", "-m", "2", "--unix-socket", SOCKET, "http://d/_ping")
        until(lambda: self.h.call(*ping).returncode == 0, "podman's service", detail=log.read_text)

    def pid(self, container: str) -> int:
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", container))

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
    """Shared by three, one of which stands still and is in another network as well, and one lives with the first. With
    CNI Podman is read by its service, else by its files."""
    with podman(backend) as a:
        run = a.podman.run
        if backend == "cni":
            a.serve()
        a.podman("network", "create", "web")
        a.podman("network", "create", "--subnet", "198.19.12.0/24", "back")
        run("w1", "--network", "web")
        run("w2", "--network", "web,back")
        run("side", "--network", "container:w1")
        run("ci")
        file, bridge = a.file("web"), "podman1" if backend == "netavark" else "cni-podman1"
        before = file.read_bytes()
        assert a.hangs("side")
        way = json.loads(a.inside("w2", "ip", "-j", "route", "get", SERVER))[0]["prefsrc"]
        cause = causes(a.diagnose("container:w2"))["CFG601"]
        assert cause["facts"]["network"] == ("back" if way.startswith("198.19.12.") else "web"), "the way out decides"
        a.podman("pause", "w2")

        report = a.diagnose("podman:w1")
        first = report["findings"][0]
        assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
        assert "CFG601" in first["because"]
        assert causes(report)["CFG601"]["where"] == [{"host": "h", "netns": "host", "link": bridge}]
        if backend == "netavark":
            text = a.pathfit("diagnose", "--from", "container:w1", "--to", URL).stdout
            assert f"w1 1500 > {bridge} > [eth0 {NARROW}]" in text

        a.fix("container:w1", "--yes")
        assert a.works("side")
        a.undo()

        said = a.fix("container:side", "--use", "podman-network-mtu", "--yes", status=1)
        assert all(name in said for name in ("w1", "w2", "side"))
        assert file.read_bytes() == before, "--yes alone interrupts nothing"
        a.fix("container:side", "--use", "podman-network-mtu", "--yes", "--interrupt")
        assert a.network("web")["options"] == {"mtu": str(NARROW)}
        assert [a.mtu("w1"), a.mtu("side"), a.port(bridge), a.mtu("ci")] == [NARROW, NARROW, NARROW, 1500]
        assert a.running() == {"w1": "running", "w2": "paused", "side": "running", "ci": "running"}
        a.podman("unpause", "w2")
        assert sorted([a.mtu("w2", "eth0"), a.mtu("w2", "eth1")]) == [NARROW, 1500]
        assert a.works("w1") and a.works("side")
        run("w3", "--network", "web")
        assert a.works("w3")
        a.podman("pause", "w2")
        a.undo()
        assert file.read_bytes() == before
        assert [a.mtu("w1"), a.mtu("side"), a.port(bridge)] == [1500, 1500, NARROW], "w3 is not ours to stop"
        assert a.running()["w2"] == "paused"
        a.podman("rm", "-f", "w3")
        assert a.port(bridge) == 1500
        assert a.hangs("w1")


def test_the_default_network_which_has_no_file() -> None:
    """And a pod in it: the container that holds its namespace, and those that live there."""
    with podman("netavark") as a:
        file = a.file("podman")
        a.podman.run("ci")
        a.podman("pod", "create", "--name", "shop", "--infra-image", "lab", "--infra-command", "tini sleep infinity")
        a.podman.run("inpod", "--pod", "shop")
        a.podman.run("hosty", "--network", "host")
        told = {k: v for k, v in a.network("podman").items() if k != "created"}
        states = a.running()
        assert not file.exists()
        assert a.hangs("inpod")
        assert a.diagnose("container:hosty")["verdict"] == "healthy", "its device is the host's, which is right"
        report = a.diagnose("pod:shop")
        assert "CFG601" in report["findings"][0]["because"]
        (good,) = [x for x in report["findings"][0]["fixes"] if x["id"] == "podman-network-mtu"]
        assert {"container:ci", "container:inpod"} < set(good["interrupts"]) and len(good["interrupts"]) == 3
        a.fix("pod:shop", "--use", "podman-network-mtu", "--yes", "--interrupt")
        now = a.network("podman")
        assert now.pop("options") == {"mtu": str(NARROW)}
        assert {k: v for k, v in now.items() if k != "created"} == told, "Podman sees the same network but for its MTU"
        assert (a.mtu("ci"), a.mtu("inpod"), a.port("podman0")) == (NARROW, NARROW, NARROW)
        assert a.works("ci") and a.works("inpod")
        a.undo()
        assert not file.exists()
        assert (a.mtu("ci"), a.mtu("inpod"), a.running()) == (1500, 1500, states)

        made = {**a.network("podman"), "options": {"mtu": str(NARROW)}}  # somebody writes it, and restarts nothing
        file.write_text(json.dumps(made))
        report = a.diagnose("container:ci")
        older = causes(report)["CFG603"]
        assert (older["facts"]["case"], older["facts"]["path"]) == ("network", f"{FOLDER['netavark']}/podman.json")
        assert "CFG603" in report["findings"][0]["because"]
        a.fix("container:ci", "CFG603", "--yes", "--interrupt")
        assert a.works("ci") and a.works("inpod")


HOSTILE = {
    "cut short": (lambda t: t[: len(t) // 2], 2),  # Podman does not see the network any more
    "a number": (
        lambda t: t.replace('"driver"', '"options": {"mtu": 1300}, "driver"'),
        3,
    ),  # nor here: prepared, refused
    "two spellings": (lambda t: t.replace('"driver"', '"Options": {"mtu": "9000"}, "driver"'), 1),  # by hand
    "another's": (lambda t: t.replace('"name": "web"', '"name": "other"'), 3),  # not the file's name: the same
    "deep": (lambda t: "[" * 100_000, 2),
}


def test_a_file_that_is_not_what_it_should_be() -> None:
    """Refused before anything is touched: the file stays, and nothing stops."""
    with podman("netavark") as a:
        a.podman("network", "create", "web")
        a.podman.run("w1", "--network", "web")
        file, whole = a.file("web"), a.file("web").read_text()
        process = a.pid("w1")
        words = ("--use", "podman-network-mtu", "--yes", "--interrupt", "--from", f"pid:{process}", "--to", URL)
        done = a.pathfit("fix", *words)
        assert (done.returncode, a.pid("w1")) == (3, process), "it could not be proven: that process would be gone"
        assert "--from container:w1" in done.stderr
        for name, (spoil, status) in HOSTILE.items():
            file.write_text(spoil(whole))
            use = "podman-restart" if name == "a number" else "podman-network-mtu"
            done = a.pathfit("fix", "--use", use, "--yes", "--interrupt", "--from", "container:w1", "--to", URL)
            assert done.returncode == status, f"{name}: {done.returncode} {done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            assert (file.read_text(), a.pid("w1")) == (spoil(whole), process), name
        assert "no repair" in a.pathfit("fix", "--list").stdout.lower() or not a.pathfit("fix", "--list").stdout


def test_killed_at_every_call() -> None:
    """The file, then the containers, each with the journal around it: the next pathfit takes it back. Also while Podman
    itself goes on, which it does without us."""
    with podman("netavark") as a:
        a.podman("network", "create", "web")
        file = a.file("web")
        before = file.read_bytes()
        new = json.dumps({**json.loads(before), "options": {"mtu": str(NARROW)}})
        write = WriteFile(path=f"{FOLDER['netavark']}/web.json", old=before.decode(), new=new)

        def changes(words: tuple[str, ...]) -> tuple[Change, ...]:
            ids = [a.podman.run("w1", "--network", "web", words=words)]
            ids.append(a.podman.run("side", "--network", "container:w1"))
            return write, RestartContainers(
                engine="podman", client=client_of(a), network="web", mtu=NARROW, containers=tuple(ids)
            )

        def is_as_it_was(point: object) -> None:
            assert file.read_bytes() == before, point
            assert a.running() == {"w1": "running", "side": "running"}, point
            assert (a.mtu("w1"), a.mtu("side")) == (1500, 1500), point

        slowly = changes(SLOW)
        for command in ("stop", "start"):
            assert repaired(a, slowly, 0, during=command)
            a.undo()
            is_as_it_was(command)
        for name in ("side", "w1"):
            a.podman("rm", "-f", "-t", "0", name)
        quickly, die, killed = changes(STAY), 0, True
        while killed:
            die += 1
            killed = repaired(a, quickly, die)
            assert killed or a.mtu("w1") == NARROW
            taken_back(a, die, killed=killed, told=die == 1 or not killed)
            is_as_it_was(die)
        assert die == 7, "two steps, twice each; all stopped, all started"


def client_of(a: PodmanStage) -> tuple[str, ...]:
    """The words that the monitors of its containers were given."""
    pid = a.h.run("pidof", "-s", "conmon").strip()
    told = conmon.monitored(tuple(a.h.path(f"/proc/{pid}/cmdline").read_text().removesuffix("\0").split("\0")))
    assert told is not None
    return told.client
