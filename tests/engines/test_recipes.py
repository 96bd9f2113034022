"""Each recipe once: it starts, its containers reach each other, and nothing of it is left."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from engine import required
from labhost import CGROUPS, Lab, LabHost, until
from recipes import containerds, podmans
from recipes.containerds import Containerd
from recipes.nested import Nested
from recipes.podmans import Podman
from recipes.swarm import Swarm

pytestmark = [pytest.mark.slow, pytest.mark.lab]


@contextmanager
def leaving_nothing() -> Iterator[Lab]:
    """A lab of which no process, cgroup or folder is left, and no packet was seen outside of it (tools/outside.py)."""
    with Lab() as lab:
        yield lab
        hosts = [room for room in lab.rooms if isinstance(room, LabHost)]
        spaces = {os.readlink(f"/proc/{room.pid}/ns/pid") for room in hosts}
        spaces |= {os.readlink(f"/proc/{room.pid}/ns/net") for room in lab.rooms}
        assert of_namespaces(spaces), "the count finds those that run"
    until(lambda: not of_namespaces(spaces), "the end of every process", detail=lambda: str(of_namespaces(spaces)))
    assert not lab.folder.exists()
    left = [at for at, _, _ in os.walk(CGROUPS) if lab.folder.name in at]
    assert left == []


def of_namespaces(spaces: set[str]) -> list[str]:
    """Command names of the processes in any of them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if spaces & {os.readlink(process / "ns" / "pid"), os.readlink(process / "ns" / "net")}:
                found.append((process / "comm").read_text().strip())
    return found


def reaches(docker: Callable[..., str], container: str, target: str) -> None:
    """A ping from the container is answered. What one node of a swarm makes, the others hear of a moment later."""
    words = ("exec", container, "ping", "-c", "1", "-W", "1", target)
    until(lambda: "1 packets received" in docker(*words, check=False), f"a ping from {container} to {target}")


def test_a_swarm() -> None:
    required()
    with leaving_nothing() as lab:
        swarm = Swarm(lab)
        swarm.overlay("wide")
        for number, node in enumerate(swarm.nodes, 1):
            node.run(f"c{number}", "--network", "wide")
        assert swarm.nodes[2]("exec", "c3", "cat", "/sys/class/net/eth0/mtu") == "1450"
        for node, here, there in ((0, "c1", "c2"), (1, "c2", "c3"), (2, "c3", "c1")):
            reaches(swarm.nodes[node], here, there)


def test_docker_in_docker() -> None:
    required()
    with leaving_nothing() as lab:
        inner = Nested(lab, lab.host("h"))
        inner.run("one")
        inner.run("two")
        address = inner("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "two")
        assert address.startswith("198.19.16."), "of the inner docker0"
        reaches(inner, "one", address)
        reaches(inner, "one", inner.outer.inspect("network", "bridge")["IPAM"]["Config"][0]["Gateway"])


def test_podman() -> None:
    required(*podmans.PROGRAMS)
    with leaving_nothing() as lab:
        podman = Podman(lab, lab.host("h"))
        podman("network", "create", "web")
        podman.run("one", "--network", "web")
        podman.run("two", "--network", "web")
        assert podman("inspect", "-f", "{{.NetworkSettings.Networks.web.IPAddress}}", "two").startswith("198.19.9.")
        reaches(podman, "one", "two")


def test_containerd_with_cni() -> None:
    required(*containerds.PROGRAMS)
    with leaving_nothing() as lab:
        containerd = Containerd(lab, lab.host("h"), mtu=1450)
        containerd.run("one")
        address = containerd.run("two")
        assert address.startswith("198.19.10.")
        assert containerd.exec("one", "cat", "/sys/class/net/eth0/mtu") == "1450"
        reaches(lambda _, *words, check: containerd.exec(*words, check=check), "one", address)
