"""A real dockerd is read: from its own host, from outside of it, and while it misbehaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from article import PATHFIT, SERVER, URL, Article, article
from engine import required
from labhost import PATIENCE, Lab, cgroups, until

from pathfit.observe.engines import BUDGET

pytestmark = [pytest.mark.slow, pytest.mark.lab]

READ = """
import msgspec, sys
from pathfit.observe.engines import docker
docker.INSPECTED = int(sys.argv[1])
from pathfit.observe.kernel import read_host, Observer
host = Observer(None).state("state", "all").host
sys.stdout.buffer.write(msgspec.json.encode(host))
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Article]:
    """Containers of every kind: on the default bridge, on a network of its own, in another's namespace, the host's."""
    required()
    with article() as a:
        a.docker("network", "create", "web")
        a.docker.run("ci")
        a.docker.run("side", "--network", "container:ci")
        a.docker.run("hosty", "--network", "host")
        a.docker.run("db", "--network", "web", "--restart", "always")
        a.docker.run("gone")
        a.docker("stop", "-t", "0", "gone")
        yield a


def snapshot(words: list[str], inspected: int = 128) -> dict[str, Any]:
    """The host as it is read there; ``inspected``: how many containers are looked at one by one."""
    done = subprocess.run([*words, sys.executable, "-c", READ, str(inspected)], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("inside", [True, False])
def test_every_container_has_its_namespace(stage: Article, inside: bool) -> None:
    """As the kernel says it: by the process that docker itself names, seen in the host's pid namespace."""
    host = snapshot(stage.h.enter if inside else [])
    (engine,) = host["engines"]
    assert engine["version"].startswith("20.10")
    assert not engine.get("missing")
    found = {c["name"]: c for c in engine["containers"]}
    for name in ("ci", "side", "hosty", "db"):
        pid = stage.docker.inspect("container", name)["State"]["Pid"]
        st = os.stat(stage.h.path(f"/proc/{pid}/ns/net"))
        assert found[name]["netns"] == f"{st.st_dev}:{st.st_ino}", name
        seen_as = found[name]["pid"]
        cgroup = Path(stage.h.path(f"/proc/{seen_as}/cgroup") if inside else f"/proc/{seen_as}/cgroup").read_text()
        assert found[name]["id"] in cgroup, name
    assert found["gone"]["state"] == "exited"
    assert found["db"]["restart_policy"] == "always"
    networks = {n["name"]: n for n in engine["networks"]}
    assert networks["bridge"]["default"]
    assert networks["bridge"]["mtu"] == 1500
    assert "mtu" not in networks["web"]
    assert networks["web"]["members"] == [found["db"]["id"]]
    wheres = {n["where"] for n in host["namespaces"]}
    assert {"container:ci", "container:db"} <= wheres
    devices = {link["name"] for n in host["namespaces"] for link in n["links"]}
    assert networks["web"]["bridge"] in devices


@pytest.mark.parametrize("where", ["container:ci", "docker:ci", "container:side", "container:db", "container:hosty"])
def test_a_container_by_its_name(stage: Article, where: str) -> None:
    report = stage.diagnose(where)
    name = where.partition(":")[2]
    assert report["verdict"] == ("healthy" if name == "hosty" else "broken")
    if name != "hosty":
        (first, *_) = report["findings"]
        assert first["code"] == "MTU101"
        assert name in first["summary"]
        hops = [hop["where"] for hop in report["path"]["forward"]["hops"]]
        assert hops[0]["netns"] == where


def test_a_container_by_its_id_is_called_by_its_name(stage: Article) -> None:
    for size in (12, 64, 6):
        where = f"container:{stage.docker.inspect('container', 'ci')['Id'][:size]}"
        report = stage.diagnose(where)
        assert report["findings"][0]["summary"].startswith("Large answers to ci vanish")


def test_all_pairs_of_a_network(stage: Article) -> None:
    """By the engine's name for it, at the addresses it gave there; one that is in two networks as well."""
    for name in ("m1", "m2"):
        stage.docker.run(name, "--network", "web")
    stage.docker("network", "connect", "bridge", "m2")
    try:
        done = stage.pathfit("matrix", "network:web", "--json")
        found = json.loads(done.stdout)
        addresses = {
            n: stage.docker.inspect("container", n)["NetworkSettings"]["Networks"]["web"] for n in ("m1", "m2")
        }
        assert [p["where"] for p in found["places"]] == ["container:db", "container:m1", "container:m2"]
        assert {p["name"]: p["address"] for p in found["places"] if p["name"] != "db"} == {
            n: a["IPAddress"] for n, a in addresses.items()
        }
        assert {(p["forward"]["pass"], p["reverse"]["pass"]) for p in found["pairs"]} == {(1500, 1500)}
        assert (found["verdict"], found["title"], done.returncode) == ("healthy", "web (docker, bridge)", 0)
        done = stage.pathfit("matrix", "network:nowhere")
        assert done.returncode == 3 and "network:web" in done.stderr
    finally:
        stage.docker("rm", "-f", "m1", "m2")


@pytest.mark.parametrize(
    ("where", "why", "typed"),
    [
        ("container:cii", "no running container", "--from container:ci"),
        ("container:gone", "does not run", "docker start gone"),
        ("podman:ci", "no running container", ""),
    ],
)
def test_a_container_that_is_not_there(stage: Article, where: str, why: str, typed: str) -> None:
    done = stage.pathfit("diagnose", "--from", where, "--to", URL)
    assert done.returncode == 3
    assert why in done.stdout
    assert typed in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_networks_that_docker_keeps_apart(stage: Article) -> None:
    """The way across is Docker's to give: its rules are not proposed to be deleted."""
    done = stage.pathfit("diagnose", "--from", "container:ci", "--to", "container:db:80", "--json")
    (first, *_) = json.loads(done.stdout)["findings"]
    assert first["code"] == "FLT401"
    assert [x["commands"] for x in first["fixes"]] == [[["docker", "network", "connect", "web", "ci"]]]


def test_a_daemon_that_hangs_stalls_nothing(stage: Article) -> None:
    """Stopped by a signal it still takes connections (its backlog does): the diagnosis goes on without it."""
    pid = stage.docker.pid
    words = ("--from", f"pid:{stage.docker.inspect('container', 'ci')['State']['Pid']}", "--to", URL, "--json")
    usual = json.loads(stage.pathfit("diagnose", *words).stdout)["took_ms"]
    stage.h.run("kill", "-STOP", str(pid))
    try:
        until(lambda: "T (stopped)" in stage.h.path(f"/proc/{pid}/status").read_text(), "a stopped dockerd")
        done = stage.pathfit("diagnose", *words)
    finally:
        stage.h.run("kill", "-CONT", str(pid))
    report = json.loads(done.stdout)
    assert report["verdict"] == "broken"
    assert [m["why"] for m in report["missing"] if m["what"].startswith("docker at")] == ["no answer in time"]
    assert report["took_ms"] < 2 * usual + 1000 * 2 * BUDGET, "twice, for what else goes on on this machine"


def test_an_interrupted_lab_leaves_nothing() -> None:
    """Ctrl-C, and kill -9: every process of the lab ends with it; its cgroups go with the next thing that looks."""
    required()
    script = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have had it ignored
sys.path.insert(0, sys.argv[1])
from labhost import Lab
from engine import Docker
with Lab() as lab:
    host = lab.host("h")
    Docker(host)
    print(host.pid, host.cgroup, lab.folder, flush=True)
    sys.stdin.read()
"""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        words = [sys.executable, "-c", script, str(Path(__file__).parent)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lab:
            assert lab.stdout is not None
            pid, cgroup, folder = lab.stdout.readline().split()
            lab.send_signal(number)
            lab.wait(PATIENCE)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of the lab host")  # type: ignore[misc]
        if number != signal.SIGINT:
            with Lab():  # sweeps what those left behind that could not tidy up
                pass
        assert cgroups(cgroup) == []
        assert not Path(folder).exists()


@pytest.mark.parametrize("inspected", [0, 1, 2])
def test_more_containers_than_are_looked_at_one_by_one(stage: Article, inspected: int) -> None:
    """The others are found by their processes: the same namespaces."""

    def namespaces(most: int) -> dict[str, str]:
        (engine,) = snapshot(stage.h.enter, most)["engines"]
        assert not engine.get("missing")
        return {c["name"]: c.get("netns", "") for c in engine["containers"]}

    assert namespaces(inspected) == namespaces(128)


def test_only_lab_addresses_are_used(stage: Article) -> None:
    """What the counter of packets that left would see: every address of the lab is one it looks for."""
    text = stage.h.run("ip", "-j", "addr")
    local = [a["local"] for link in json.loads(text) for a in link["addr_info"] if a["family"] == "inet"]
    assert all(a.startswith(("198.18.", "198.19.", "127.")) for a in local), local
    assert SERVER.startswith("198.18.")
    assert PATHFIT.exists()
