"""Several engines at once: one in the container of another, what the kernel adds to their word, who is called what."""

from typing import Any

import pytest

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import Address, Link, NetnsSnapshot
from pathfit.observe import places
from pathfit.observe.engines import members, names, nest

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def container(one: str, name: str, netns: str = "", **more: Any) -> Container:
    return Container(**{"id": one, "name": name, "engine": "docker", "netns": netns, "network_mode": "web", **more})


def engine(*containers: Container, **more: Any) -> Engine:
    return Engine(**{"kind": "docker", "socket": "/s", "containers": containers, **more})


# --- engines in containers -------------------------------------------------------------------------------------------

HOST = engine(container(A, "dind"), container(D, "web"))
INNER = engine(container(B, "deeper"), container("e" * 64, "web"))
DEEP = engine(container(C, "web"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_levels(order: tuple[int, ...]) -> None:
    engines = [HOST, INNER, DEEP]
    homes = ["", A, B]
    placed = nest.nested([engines[n] for n in order], [homes[n] for n in order])
    found = {n: (e.depth, e.inside, e.inside_name) for n, e in zip(order, placed, strict=True)}
    assert found == {0: (0, "", ""), 1: (1, A, "dind"), 2: (2, B, "dind/deeper")}


MOUNTED = """521 500 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/{other}
530 521 8:1 /lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw
531 521 8:1 /lib/docker/volumes/{other}/_data /var/lib/docker rw,relatime master:1 - ext4 /dev/sda1 rw
532 521 8:1 /lib/docker/volumes/{other}/hosts /srv/hosts rw,relatime - ext4 /dev/sda1 rw
"""
SANDBOX = "540 521 0:25 /io.containerd.grpc.v1.cri/sandboxes/{id}/hostname /etc/hostname rw,nosuid - tmpfs tmpfs rw\n"
PODMAN = "541 521 0:25 /containers/storage/overlay-containers/{id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"


@pytest.mark.parametrize("mounts", [MOUNTED, SANDBOX, PODMAN])
def test_what_a_cgroup_namespace_hides_the_mounts_tell(mounts: str) -> None:
    text = mounts.format(id=A, other=B)
    assert nest.around(DEEP, "0::/\n", text) == A
    assert nest.around(DEEP, f"0::/docker/{D}\n", text) == D
    assert nest.around(engine(container(A, "mine")), "0::/\n", text) == "", "a container of its own is not around it"
    assert nest.around(DEEP, "0::/\n", text.replace("/etc/", "/srv/")) == ""


def test_an_engine_in_a_container_that_nobody_knows() -> None:
    (found,) = nest.nested([DEEP], [A])
    assert (found.depth, found.inside, found.inside_name) == (1, A, A[:12])


def test_engines_that_lie_about_each_other_come_to_an_end() -> None:
    one, two = engine(container(A, "x")), engine(container(B, "y"))
    assert [e.depth for e in nest.nested([one, two], [B, A])] == [2, 2]
    assert [e.depth for e in nest.nested([one], [A])] == [1]


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/system.slice/docker.service\n", ""),
        (f"12:cpu:/docker/{A}\n0::/\n", A),
        (f"0::/docker/{A}/docker/{B}\n", B),
        (f"0::/system.slice/docker-{A}.scope/libpod_parent/libpod-conmon-{C}.scope\n", A),  # C is its own
        (f"0::/machine.slice/libpod-conmon-{C}.scope\n", ""),
        ("", ""),
    ],
)
def test_where_an_engine_runs(cgroup: str, expected: str) -> None:
    assert nest.around(DEEP, cgroup) == expected


# --- what the kernel adds --------------------------------------------------------------------------------------------


def veth(index: int, name: str, peer: int, there: str, master: int = 0, mac: str = "") -> Link:
    return Link(
        index=index, name=name, mtu=1500, kind="veth", peer=peer, peer_nsid=0, peer_ns=there, master=master, mac=mac
    )


OURS = NetnsSnapshot(
    id="4:1",
    where="host",
    links=(
        Link(index=2, name="podman1", mtu=1500, kind="bridge"),
        veth(3, "veth0", 2, "4:2", master=2),
        veth(4, "veth1", 3, "4:2"),
    ),
)
GUEST = NetnsSnapshot(
    id="4:2",
    where="container:one",
    links=(veth(2, "eth0", 3, "4:1", mac="02:00:00:00:00:01"), veth(3, "eth1", 4, "4:1"), veth(5, "ov0", 7, "4:9")),
    addresses=(
        Address(link=2, address="198.19.9.2", prefix=24),
        Address(link=2, address="fe80::1", prefix=64, scope=253),
        Address(link=5, address="198.19.64.2", prefix=24),
    ),
)
HIDDEN = NetnsSnapshot(
    id="4:9",
    where="netns:/x",
    links=(Link(index=2, name="br0", mtu=1450, kind="bridge"), veth(7, "veth0", 5, "4:2", master=2)),
)
SPACES = (OURS, GUEST, HIDDEN)
WEB = EngineNetwork(id="w", name="web", driver="bridge", bridge="podman1")
WIDE = EngineNetwork(id="o", name="wide", driver="overlay", netns="4:9")


def joined(one: Container, kind: str = "podman", *networks: EngineNetwork) -> Engine:
    asked = Engine(kind=kind, socket="", netns="4:1", networks=networks or (WEB, WIDE), containers=(one,))
    (found,) = members.joined([asked], SPACES)
    return found


def test_a_member_that_no_file_tells_of() -> None:
    found = joined(container(A, "one", "4:2"))
    assert found.containers[0].endpoints == (
        Endpoint(network="w", name="web", addresses=("198.19.9.2",), mac="02:00:00:00:00:01", link="eth0"),
        Endpoint(network="o", name="wide", addresses=("198.19.64.2",), link="ov0"),
    )
    assert [n.members for n in found.networks] == [(A,), (A,)]


@pytest.mark.parametrize(
    ("end", "link"),
    [
        (Endpoint(network="w", name="web", addresses=("198.19.9.2",)), "eth0"),
        (Endpoint(network="w", name="web", mac="02:00:00:00:00:01"), "eth0"),
        (Endpoint(network="w", name="web"), "eth0"),  # by the bridge it leads to
        (Endpoint(network="z", name="elsewhere", addresses=("198.19.1.1",)), ""),
    ],
)
def test_the_device_of_a_member(end: Endpoint, link: str) -> None:
    found = joined(container(A, "one", "4:2", endpoints=(end,)), "docker")
    assert [e.link for e in found.containers[0].endpoints] == [link], "and nothing that Docker did not tell of"


def test_docker_gwbridge_has_members_that_no_container_tells_of() -> None:
    gateway = EngineNetwork(id="g", name="docker_gwbridge", driver="bridge", bridge="podman1")
    found = joined(container(A, "one", "4:2"), "docker", gateway)
    assert (found.networks[0].members, found.containers[0].endpoints) == ((A,), ())


@pytest.mark.parametrize(
    "one",
    [
        container(A, "one", "4:1"),  # its host's network
        container(A, "one", "4:7"),  # not seen
        container(A, "one", ""),
        container(A, "one", "4:2", network_mode="container:"),
    ],
)
def test_no_member(one: Container) -> None:
    found = joined(one)
    assert [n.members for n in found.networks] == [(), ()]
    assert found.containers == (one,)


# --- WHERE -----------------------------------------------------------------------------------------------------------


def machine(monkeypatch: pytest.MonkeyPatch, *engines: Engine, missing: tuple[Missing, ...] = ()) -> None:
    """Every engine is one that was read whole, every container's process is its number."""
    spaces = {c.pid: c.netns for e in engines for c in e.containers if c.pid}
    found = tuple((kind(e), None) for e in engines)
    monkeypatch.setattr(names.kinds, "find", lambda wanted: tuple(x for x in found if x[0].name in wanted))
    monkeypatch.setattr(names, "read_all", lambda homes: (engines, missing))
    monkeypatch.setattr(names.processes, "namespace_of", lambda pid: spaces.get(pid, ""))
    monkeypatch.setattr(names.discover, "processes_by_namespace", lambda: ({}, 0, {}))
    monkeypatch.setattr(places.procfs, "pids", list)


def kind(engine: Engine) -> Any:
    reader = lambda: lambda daemon, homes, budget: engine  # noqa: E731
    return names.kinds.Kind(engine.kind, (), lambda seen: iter(()), reader)


def at(one: str, name: str, pid: int, **more: Any) -> Container:
    return container(one, name, f"4:{pid}" if pid else "", pid=pid, **{"engine": "podman", **more})


def why(where: str) -> tuple[str, str]:
    found = places.locate(where)
    assert isinstance(found, Missing)
    return found.why, found.how


def opened(monkeypatch: pytest.MonkeyPatch, where: str) -> int:
    """The process whose namespace would be opened."""
    seen: list[int] = []

    def of_process(pid: int, where: str) -> Any:
        seen.append(pid)
        raise OSError(2, "enough")

    monkeypatch.setattr(places, "_of_process", of_process)
    assert isinstance(places.locate(where), Missing)
    assert seen, places.locate(where)
    return seen[0]


PODMAN = Engine(
    kind="podman",
    socket="",
    containers=(
        at(A, "one", 5),
        at(B, "old", 0, state="exited"),
        at(C, "blind", 0),
        at(D, "infra", 6, pod="po", sandbox=True),
        at("e1" * 32, "app", 6, pod="po"),
    ),
)


def pod(space: str, name: str, pid: int, one: str) -> tuple[Container, Container]:
    more = {"engine": "containerd", "pod": f"{space}/{name}", "namespace": "k8s.io"}
    return at(one, name, pid, sandbox=True, **more), at(one[::-1].replace("0", "9"), "app", pid, **more)


KUBE = Engine(
    kind="containerd",
    socket="",
    containers=(
        *pod("shop", "web", 11, "10" * 32),
        *pod("test", "web", 12, "20" * 32),
        *pod("shop", "db", 13, "30" * 32),
    ),
)


@pytest.mark.parametrize(
    ("where", "pid"),
    [
        ("container:one", 5),
        ("podman:one", 5),
        (f"podman:{A[:6]}", 5),
        (f"container:{A}", 5),
        ("pod:po", 6),
        ("container:app", 6),
    ],
)
def test_podman_s(monkeypatch: pytest.MonkeyPatch, where: str, pid: int) -> None:
    machine(monkeypatch, PODMAN)
    assert opened(monkeypatch, where) == pid


@pytest.mark.parametrize(
    ("where", "pid"), [("pod:shop/web", 11), ("pod:test/web", 12), ("pod:db", 13), ("containerd:db", 13)]
)
def test_pods(monkeypatch: pytest.MonkeyPatch, where: str, pid: int) -> None:
    machine(monkeypatch, KUBE, PODMAN)
    assert opened(monkeypatch, where) == pid


@pytest.mark.parametrize(
    ("where", "said", "typed"),
    [
        ("container:old", "that container does not run", "podman start old"),
        ("container:blind", "its processes cannot be seen", "run pathfit"),
        ("container:onee", "no running container", "--from container:one"),
        ("docker:one", "no running container", ""),
        ("pod:web", "2 pods are called web", "--from pod:shop/web   or   --from pod:test/web"),
        ("pod:shop/webb", "no running pod", "--from pod:shop/web"),
        ("container:web", "2 containers are called web", "--from pod:shop/web   or   --from pod:test/web"),
        ("containerd:app", "3 containers are called app", "--from pod:shop/web"),
    ],
)
def test_what_cannot_be_entered(monkeypatch: pytest.MonkeyPatch, where: str, said: str, typed: str) -> None:
    machine(monkeypatch, PODMAN, KUBE)
    reason, how = why(where)
    assert said in reason
    assert typed in how and how


def test_no_pod_because_nobody_could_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, missing=(Missing(what="containerd's containers in /run/containerd", why="not permitted"),))
    reason, how = why("pod:shop/web")
    assert "not permitted" in reason and how


def test_one_that_an_engine_may_know_that_could_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others know is no answer then."""
    closed = Missing(what="containerd's containers in /run/containerd", why="Permission denied")
    machine(monkeypatch, PODMAN)
    found = ((kind(PODMAN), None), (kind(PODMAN)._replace(name="containerd", read=lambda: lambda *_: closed), None))
    monkeypatch.setattr(names.kinds, "find", lambda wanted: found)
    reason, how = why("container:web")
    assert "Permission denied" in reason and how in ("docker ps", "sudo pathfit …")
    reason, how = why("container:onee")
    assert "Permission denied" in reason and how.startswith("--from container:one   or   ")
    assert opened(monkeypatch, "container:one") == 5


def test_a_container_of_an_engine_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = Engine(kind="docker", socket="/s", containers=(at(A, "dind", 3), at(B, "web", 4)))
    inner = Engine(
        kind="docker", socket="/t", inside=A, inside_name="dind", depth=1, containers=(at(C, "web", 5), at(D, "ci", 6))
    )
    machine(monkeypatch, outer, inner)
    assert opened(monkeypatch, "container:dind/web") == 5
    reason, how = why("container:dind/wep")
    assert "no running container" in reason and "--from container:dind/web" in how
    spaces = [NetnsSnapshot(id=f"4:{n}", where=f"pid:{n}") for n in (3, 4, 5, 6)]
    called = {n.id: n.where for n in names.call(spaces, [outer, inner], "4:1", "")}
    assert called == {
        "4:3": "container:dind",
        "4:4": f"container:{B[:12]}",
        "4:5": "container:dind/web",
        "4:6": "container:ci",
    }


def test_a_namespace_goes_by_its_pod_s_name() -> None:
    spaces = [NetnsSnapshot(id="4:11", where="container:101010101010", names=("netns:cni-1",))]
    (found,) = names.call(spaces, [KUBE], "4:1", "")
    assert (found.where, found.names) == ("pod:shop/web", ("netns:cni-1",))
