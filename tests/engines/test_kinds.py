"""Every engine as pathfit sees it, from its own host and from the machine around it: names, namespaces, networks."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest
from engine import INTO, required
from labhost import PATIENCE, Lab, LabHost, until
from recipes import containerds, podmans
from recipes.containerds import Containerd
from recipes.nested import NAME, Nested
from recipes.podmans import Podman, Rootless
from recipes.swarm import NODES, Swarm, address

from pathfit.core.engine import Container, Engine, EngineNetwork, Workload
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.workloads import workloads

pytestmark = [pytest.mark.slow, pytest.mark.lab]

READ = """
import ctypes, msgspec, os, sys
from pathfit.observe.kernel import Observer
Observer(None).state("state", "all")  # all that is loaded late is in memory: another user may not read our files
user, joined, own = sys.argv[1:]
if joined:
    assert ctypes.CDLL(None).setns(os.open(f"/proc/{joined}/ns/user", os.O_RDONLY), 0x10000000) == 0  # CLONE_NEWUSER
    assert not own or ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
if user or joined:
    os.setgroups([]) if user else None
    os.setresgid(*[int(user or 0)] * 3)
    os.setresuid(*[int(user or 0)] * 3)
sys.stdout.buffer.write(msgspec.json.encode(Observer(None).state("state", "all").host))
"""
VIEWS = ["inside", "outside"]


def seen(host: LabHost, view: str, user: int = 0, joined: int = 0, own: bool = True) -> HostSnapshot:
    """What is read on the host, or around it; of the engines those on this host or in its containers. ``user``: who
    looks. ``joined``: a process (as the host counts) into whose user namespace root goes first, to be root there, and
    with ``own`` in a network namespace that belongs to it."""
    who = [str(user or ""), str(joined or ""), "own" if own else ""]
    words = [*(host.enter if view == "inside" else ()), sys.executable, "-c", READ, *who]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    found = msgspec.json.decode(done.stdout, type=HostSnapshot)
    here = {netns_of(host, "1"), *([""] if user else [])}  # "": another user may not see which
    mine = tuple(e for e in found.engines if e.inside or e.netns in here)
    return msgspec.structs.replace(found, engines=mine)


def only(host: HostSnapshot, kind: str) -> Engine:
    (found,) = [e for e in host.engines if e.kind == kind]
    return found


def by_name(engine: Engine) -> dict[str, Container]:
    return {c.name: c for c in engine.containers}


def network(engine: Engine, name: str) -> EngineNetwork:
    (found,) = [n for n in engine.networks if n.name == name]
    return found


def listed(host: HostSnapshot) -> dict[str, Workload]:
    """Workloads of engines by name."""
    return {w.name: w for w in workloads(host) if w.engine}


def netns_of(host: LabHost, pid: str) -> str:
    """The namespace of a process, as the host counts."""
    st = os.stat(host.path(f"/proc/{pid}/ns/net"))
    return f"{st.st_dev}:{st.st_ino}"


def located(host: LabHost, where: str) -> str:
    """The namespace that a WHERE means on that host, or what is said instead."""
    script = (
        "import sys; from pathfit.observe import places; x = places.locate(sys.argv[1]); "
        "print(x[1].netns if isinstance(x, tuple) else f'{x.why} | {x.how}')"
    )
    done = subprocess.run(
        [*host.enter, sys.executable, "-c", script, where], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- podman ----------------------------------------------------------------------------------------------------------


class Pods:
    """Podman with a container of each kind."""

    def __init__(self, lab: Lab, backend: str = "netavark") -> None:
        self.host = lab.host("h")
        self.podman = Podman(lab, self.host, backend)
        self.podman("network", "create", "--opt", "mtu=1400", "web")
        self.podman.run("one", "--network", "web", "--label", "com.docker.compose.project=shop")
        self.podman.run("two")
        self.podman.run("hosty", "--network", "host")
        self.podman.run("aside", "--network", "container:one")
        self.podman("pod", "create", "--name", "po", "--infra-image", "lab", "--infra-command", "sleep infinity")
        self.podman("run", "-d", "--name", "inpod", "--pod", "po", "lab", "sleep", "infinity")

    def netns(self, name: str) -> str:
        return netns_of(self.host, self.podman("inspect", "-f", "{{.State.Pid}}", name))

    def serve(self) -> None:
        """`podman system service`: its socket answers."""
        socket = "/run/podman/podman.sock"
        words = (*self.podman.words, "system", "service", "-t", "0", f"unix://{socket}")
        self.host.run("setsid", "--fork", "sh", "-c", INTO, "sh", str(self.host.folder / "service.log"), *words)
        ping = ("curl", "-sf", "-m", "2", "--unix-socket", socket, "http://d/_ping")
        until(lambda: self.host.call(*ping).returncode == 0, "podman's service")


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    required(*podmans.PROGRAMS)
    with Lab() as lab:
        yield Pods(lab)


def check_podman(pods: Pods, host: HostSnapshot) -> Engine:
    engine = only(host, "podman")
    assert not engine.missing
    found = by_name(engine)
    for name in ("one", "two", "hosty", "aside", "inpod"):
        assert found[name].netns == pods.netns(name), name
        assert found[name].engine == "podman"
    web = network(engine, "web")
    assert (web.mtu, web.driver) == (1400, "bridge")
    (end,) = found["one"].endpoints
    assert (end.name, end.link, end.network) == ("web", "eth0", web.id)
    assert end.addresses and end.addresses[0].startswith("198.19.9.")
    assert [e.name for e in found["two"].endpoints] == ["podman"]
    told = listed(host)
    assert (told["one"].members, told["one"].networks, told["one"].note) == (("aside",), ("web",), "")
    assert told["hosty"].note == "host-network"
    infra = next(c for c in engine.containers if c.sandbox)
    pod = next(w for w in told.values() if w.pod == "po")
    assert (infra.pod, pod.name, pod.members, pod.netns) == ("po", "po", ("inpod",), found["inpod"].netns)
    theirs = {c.netns for c in engine.containers} - {engine.netns}
    assert not [w for w in workloads(host) if not w.engine and w.netns in theirs]
    return engine


@pytest.mark.parametrize("view", VIEWS)
def test_podman_by_its_files(pods: Pods, view: str) -> None:
    check_podman(pods, seen(pods.host, view))


def test_podman_by_name(pods: Pods) -> None:
    for where in ("container:one", "podman:one", "podman:aside"):
        assert located(pods.host, where) == pods.netns("one"), where
    assert located(pods.host, f"container:{pods.podman('inspect', '-f', '{{.Id}}', 'two')[:12]}") == pods.netns("two")
    assert located(pods.host, "pod:po") == pods.netns("inpod")
    assert "--from container:two" in located(pods.host, "container:twoo")
    assert "--from pod:po" in located(pods.host, "pod:poo")
    assert "no running container" in located(pods.host, "docker:one")


@pytest.mark.parametrize("view", VIEWS)
def test_podman_by_its_service(view: str) -> None:
    required(*podmans.PROGRAMS)
    with Lab() as lab:
        pods = Pods(lab)
        pods.podman.run("gone")
        pods.podman("stop", "-t", "0", "gone")
        pods.serve()
        host = seen(pods.host, view)
        engine = check_podman(pods, host)
        assert engine.version.startswith("4.")
        assert listed(host)["one"].project == "shop"
        assert listed(host)["gone"].note == "exited"
        assert "podman start gone" in located(pods.host, "container:gone")


def test_podman_with_cni() -> None:
    required(*podmans.PROGRAMS, "host-local")
    with Lab() as lab:
        pods = Pods(lab, "cni")
        for view in VIEWS:
            engine = check_podman(pods, seen(pods.host, view))
            assert network(engine, "web").file.startswith("/etc/cni/net.d/")


@pytest.mark.parametrize(
    ("user", "note", "how"),
    [
        (0, "no-network", ""),
        (
            Rootless.USER,
            "not-visible",
            "podman unshare --rootless-netns pathfit …",
        ),  # it must stand in the user namespace
        (65534, "not-visible", "sudo pathfit …"),
    ],
)
def test_rootless_podman(user: int, note: str, how: str) -> None:
    """Root sees it; others are told its name, for command lines are everybody's to read, and what to type."""
    required(*podmans.PROGRAMS)
    with Lab() as lab:
        rootless = Rootless(lab, lab.host("h"))
        rootless.run("solo")
        host = seen(rootless.host, "inside", user)
        engine = only(host, "podman")
        assert engine.rootless == Rootless.USER
        (solo,) = workloads(host)
        assert (solo.name, solo.engine, solo.note) == ("solo", "podman", note)
        assert bool(solo.netns) == (note == "no-network")
        assert [(m.what, m.how) for m in engine.missing] == (
            [(f"rootless podman of uid {Rootless.USER}: 1 containers", how)] if how else []
        )
        if user == 0:
            assert located(rootless.host, "container:solo") == solo.netns


def test_what_is_told_to_a_rootless_user_works() -> None:
    required(*podmans.PROGRAMS)
    with Lab() as lab:
        rootless = Rootless(lab, lab.host("h"))
        rootless.run("solo")
        monitor = rootless.host.run("pgrep", "-x", "conmon").strip()
        for own, note in (
            (True, "no-network"),
            (False, "not-visible"),
        ):  # without it there is no way back: none is gone
            (solo,) = workloads(seen(rootless.host, "inside", joined=int(monitor), own=own))
            assert (solo.name, solo.note, bool(solo.netns)) == ("solo", note, own)


# --- containerd ------------------------------------------------------------------------------------------------------


def test_containerd_with_cni() -> None:
    required(*containerds.PROGRAMS)
    with Lab() as lab:
        containerd = Containerd(lab, lab.host("h"), mtu=1450)
        addresses = {name: containerd.run(name) for name in ("one", "two")}
        pids = {line.split()[0]: line.split()[1] for line in containerd("tasks", "ls").splitlines()[1:]}
        for view in VIEWS:
            host = seen(containerd.host, view)
            engine = only(host, "containerd")
            assert not engine.missing
            found = by_name(engine)
            assert found.keys() == {"one", "two"}
            lan = network(engine, "lab")
            assert (lan.mtu, lan.bridge, lan.driver, lan.subnets) == (1450, "cni0", "bridge", ("198.19.10.0/24",))
            assert sorted(lan.members) == ["one", "two"]
            for name, one in found.items():
                assert one.netns == netns_of(containerd.host, pids[name])
                assert (one.namespace, one.state) == ("default", "running")
                assert [(e.name, e.link, e.addresses) for e in one.endpoints] == [("lab", "eth0", (addresses[name],))]
            assert [(w.name, w.networks, w.note) for w in listed(host).values()] == [
                ("one", ("lab",), ""),
                ("two", ("lab",), ""),
            ]
        assert located(containerd.host, "containerd:one") == found["one"].netns
        assert located(containerd.host, "container:two") == found["two"].netns
        containerd("tasks", "kill", "-s", "KILL", "two")
        until(lambda: listed(seen(containerd.host, "inside"))["two"].note == "exited", "the end of two in our eyes")


def test_pods_of_containerd() -> None:
    """As a kubelet has them made: a sandbox that holds the namespace, and containers put into it."""
    required(*containerds.PROGRAMS)
    with Lab() as lab:
        containerd = Containerd(lab, lab.host("h"))
        for pod, name in (("shop/web-1", "app"), ("test/web-1", "app"), ("shop/db-0", "db")):
            containerd.pod(pod, name)
        host = seen(containerd.host, "inside")
        told = listed(host)
        assert told.keys() == {"shop/web-1", "test/web-1", "shop/db-0"}
        one = told["shop/web-1"]
        assert (one.where, one.members, one.networks, one.note) == ("pod:shop/web-1", ("app",), ("lab",), "")
        assert "pod:shop/web-1" in {n.where for n in host.namespaces}
        assert located(containerd.host, "pod:shop/web-1") == one.netns
        assert located(containerd.host, "pod:db-0") == told["shop/db-0"].netns
        assert located(containerd.host, "container:db") == told["shop/db-0"].netns
        several = located(containerd.host, "pod:web-1")
        assert several.startswith("2 pods are called web-1")
        assert "--from pod:shop/web-1" in several and "--from pod:test/web-1" in several


# --- swarm -----------------------------------------------------------------------------------------------------------


def test_a_swarm_s_hidden_namespaces() -> None:
    required()
    with Lab() as lab:
        swarm = Swarm(lab)
        swarm.overlay("wide")
        swarm.nodes[0]("network", "create", "-d", "overlay", "--attachable", "--opt", MTU, "narrow")
        for number, node in enumerate(swarm.nodes, 1):
            node.run(f"c{number}", "--network", "wide")
        swarm.nodes[0].run("d1", "--network", "narrow")
        everybody = {address(n) for n in range(1, NODES + 1)}
        for number, node in enumerate(swarm.nodes, 1):

            def known(node: Callable[..., str] = node) -> bool:
                return node("network", "inspect", "-f", "{{len .Peers}}", "wide") == str(NODES)

            until(known, "the members of wide")
            host = seen(node.host, "inside")
            engine = only(host, "docker")
            wide = network(engine, "wide")
            assert (wide.driver, wide.scope, wide.mtu, wide.encrypted, wide.is_underlay) == (
                *("overlay", "swarm", None, False, True),
            )
            assert {n.address for n in wide.nodes} == everybody
            (space,) = [n for n in host.namespaces if n.id == wide.netns]
            (vxlan,) = [x.vxlan for x in space.links if x.vxlan is not None]
            assert vxlan is not None and wide.vnis == (vxlan.vni,)
            assert "network:wide" not in (space.where, *space.names), "that word makes a fresh member"
            (end,) = by_name(engine)[f"c{number}"].endpoints
            assert (end.name, end.link) == ("wide", "eth0")
            assert by_name(engine)[f"c{number}"].id in network(engine, "docker_gwbridge").members
            assert space.id not in {w.netns for w in workloads(host)}
            guests = [w.name for w in workloads(host) if not w.engine]
            assert guests == [], "nothing that Docker hides is taken for a guest"
        narrow = network(only(seen(swarm.nodes[0].host, "inside"), "docker"), "narrow")
        assert (narrow.mtu, narrow.is_underlay) == (1400, True)
        shown = swarm.nodes[0]("exec", "d1", "cat", "/sys/class/net/eth0/mtu")
        assert shown == "1350", "the option is the underlay's"


MTU = "com.docker.network.driver.mtu=1400"


def test_three_daemons_that_share_an_overlay_s_id() -> None:
    """Seen from around them: each has its own file of the same name, and is not given another's."""
    required()
    with Lab() as lab:
        swarm = Swarm(lab)
        swarm.overlay("wide")
        for number, node in enumerate(swarm.nodes, 1):
            node.run(f"c{number}", "--network", "wide")
        engines = [only(seen(node.host, "outside"), "docker") for node in swarm.nodes]
        spaces = [network(e, "wide").netns for e in engines]
        assert len(spaces) == NODES and len(set(spaces)) == NODES and "" not in spaces


# --- Docker in Docker ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_docker_in_docker(view: str) -> None:
    required()
    with Lab() as lab:
        inner = Nested(lab, lab.host("h"), config='{"mtu": 1400}')
        inner.run("sole")
        inner.run("web")
        inner.outer.run("web", "-v", "/usr:/usr:ro")
        outer_id = inner.outer.inspect("container", NAME)["Id"]
        host = seen(inner.outer.host, view)
        below, above = sorted((e for e in host.engines if e.kind == "docker"), key=lambda e: -e.depth)
        assert (above.depth, above.inside) == (0, "")
        assert (below.depth, below.inside, below.inside_name) == (1, outer_id, NAME)
        assert below.netns == by_name(above)[NAME].netns
        assert (below.config, below.mtu, below.mtu_from) == ('{"mtu": 1400}', 1400, "config")
        assert (above.config, above.mtu, above.mtu_from) == (None, 1500, "default")
        told = listed(host)
        assert {NAME, "sole", f"{NAME}/web"} <= told.keys()
        assert told["sole"].where == "container:sole"
        assert told[f"{NAME}/web"].where == f"container:{NAME}/web"
        assert all(w.note == "" for w in told.values())
        assert [w.name for w in workloads(host) if w.netns == told[NAME].netns] == [NAME]
        if view == "inside":
            assert located(inner.outer.host, f"container:{NAME}/web") == told[f"{NAME}/web"].netns
            assert located(inner.outer.host, "container:sole") == told["sole"].netns
            both = located(inner.outer.host, "container:web")
            assert both.startswith("2 containers are called web") and both.count("--from container:") == 2
