"""An engine restarted and a network made again, ended at every call: undone or done again, it is as it must be.

The engine here is a model of Docker's API in memory; tests/engines does the same with a real one, ended less often.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from pathfit.apply import dockerapi, networks, restart
from pathfit.apply.dockerapi import NotFound
from pathfit.apply.networks import NetworkAgain
from pathfit.apply.restart import EngineRestart
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import RecreateNetwork, RestartEngine
from pathfit.core.codec import dump
from pathfit.core.engined import EngineBefore, NetworkBefore, Startable
from pathfit.host import process
from pathfit.observe.engines.daemons import Daemon
from pathfit.observe.engines.parse import MTU

Json = dict[str, Any]
SOCKET = "/run/docker.sock"


class Killed(BaseException):
    """kill -9: nothing of ours runs after it."""


class Docker:
    """A model of dockerd. Every call that changes something counts; number ``dies`` is the last one, and it is killed
    before it (``early``) or after its effect."""

    def __init__(self) -> None:
        self.networks: dict[str, Json] = {}
        self.containers: dict[str, Json] = {}
        self.made = 0
        self.calls = 0
        self.dies = 0
        self.early = True
        self.pid = 100
        self.file_mtu = 1500  # what daemon.json says
        self.alive = True
        self.create("bridge", {MTU: "1500", "com.docker.network.bridge.default_bridge": "true"})

    def change(self, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self.dies and self.early:
            raise Killed
        done = effect()
        if self.calls == self.dies:
            raise Killed
        return done

    # -- what exists ---------------------------------------------------------------------------------------------

    def create(self, name: str, options: Json, **more: Any) -> str:
        self.made += 1
        network = f"{self.made:064x}"
        usual: Json = {"Driver": "bridge", "Scope": "local", "EnableIPv6": False, "Internal": False, "Labels": {}}
        ipam = {"Driver": "default", "Config": [{"Subnet": "172.18.0.0/24"}]}
        whole = {"IPAM": ipam, **usual, "Name": name, "Id": network, "Options": options, **more}
        whole.pop("CheckDuplicate", None)
        if any(n["Name"] == name for n in self.networks.values()):
            raise OSError(5, f"network with name {name} already exists")
        self.networks[network] = whole
        return network

    def run(self, name: str, network: str, running: bool = True, **settings: Any) -> str:
        self.made += 1
        container = f"{self.made:064x}"
        self.containers[container] = {"Name": name, "State": running, "ends": {}, "mode": network, "ports": []}
        self.connect(container, self.by_name(network), settings)
        return container

    def by_name(self, name: str) -> str:
        return next(i for i, n in self.networks.items() if n["Name"] == name)

    def connect(self, container: str, network: str, settings: Json) -> None:
        one, name = self.containers[container], self.networks[network]["Name"]
        if name in one["ends"]:
            raise OSError(5, f"container already is in the network {name}")
        end: Json = {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": None,
            "DriverOpts": None,
            "IPAddress": "",
            **settings,
        }
        if one["State"]:
            taken = {e["IPAddress"] for c in self.containers.values() for k, e in c["ends"].items() if k == name}
            free = next(a for n in range(2, 250) if (a := f"172.18.0.{n}") not in taken)
            end["IPAddress"] = (end["IPAMConfig"] or {}).get("IPv4Address") or free
            assert end["IPAddress"] not in taken, "that address is taken"
        end["NetworkID"] = network if one["State"] else ""
        one["ends"][name] = end

    def disconnect(self, container: str, network: str) -> None:
        if self.containers[container]["ends"].pop(self.networks[network]["Name"], None) is None:
            raise OSError(5, "container is not in that network")

    def remove(self, network: str) -> None:
        name = self.networks[network]["Name"]
        if any(c["State"] and name in c["ends"] for c in self.containers.values()):
            raise OSError(5, f"network {name} has active endpoints")
        del self.networks[network]

    def shown(self) -> Any:
        """Everything but what nobody chose."""
        nets = sorted(({k: v for k, v in n.items() if k != "Id"} for n in self.networks.values()), key=str)
        ends = {c: {k: {x: e[x] for x in e if x != "NetworkID"} for k, e in v["ends"].items()} for c, v in self.all()}
        return copy.deepcopy((nets, ends, {c: v["State"] for c, v in self.all()}))

    def all(self) -> list[tuple[str, Json]]:
        return sorted(self.containers.items())

    # -- the daemon itself -----------------------------------------------------------------------------------------

    def daemon(self) -> Daemon | None:
        return Daemon("docker", SOCKET, SOCKET, self.pid) if self.alive else None

    def stop(self) -> None:
        self.alive = False
        for one in self.containers.values():
            one["State"] = one["paused"] = False

    def pause(self, container: str) -> None:
        one = self.containers[container]
        assert one["State"] and not one.get("paused"), "cannot be paused"
        one["paused"] = True

    def start(self) -> None:
        assert not self.alive, "two daemons"
        self.alive, self.pid = True, self.pid + 1
        self.networks[self.by_name("bridge")]["Options"][MTU] = str(self.file_mtu)
        for one in self.containers.values():
            one["State"] = one.get("always", False)


class Api:
    """dockerapi.Api on the model."""

    docker: Docker

    def __init__(self, engine: str, socket: str, patience: float = 0.0, within: str = "") -> None:
        if not self.docker.alive:
            raise ConnectionRefusedError(111, "no docker runs")

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def get(self, *path: str, query: str = "") -> Any:
        if path == ("networks",):
            return list(copy.deepcopy(self.docker.networks).values())
        found = copy.deepcopy(self.docker.networks[path[1]])
        name, containers = found["Name"], self.docker.containers.items()
        return {
            **found,
            "Containers": {i: {"Name": c["Name"]} for i, c in containers if c["State"] and name in c["ends"]},
        }

    network = dockerapi.Api.network

    def containers(self) -> list[Json]:
        return [self._listed(i, c) for i, c in reversed(self.docker.all())]

    def _listed(self, i: str, c: Json) -> Json:
        state = "paused" if c.get("paused") else "running" if c["State"] else "exited"
        return {"Id": i, "State": state, "Created": int(i, 16), "HostConfig": {"NetworkMode": c["mode"]}}

    def container(self, container: str) -> Json:
        if container not in self.docker.containers:
            raise NotFound(2, "no such container")
        c = copy.deepcopy(self.docker.containers[container])
        ends = {"NetworkSettings": {"Networks": c["ends"]}}
        host = {"NetworkMode": c["mode"], "AutoRemove": c.get("rm", False)}
        return {"Id": container, "Name": f"/{c['Name']}", "HostConfig": host, **ends}

    def post(self, *path: str, document: Any = None) -> Any:
        d = self.docker
        if path == ("networks", "create"):
            more = dict(document)
            return {"Id": d.change(lambda: d.create(more.pop("Name"), more.pop("Options"), **more))}
        if path[-1] == "start":
            if path[1] not in d.containers:
                raise NotFound(2, "no such container")
            return d.change(lambda: d.containers[path[1]].update(State=True))
        if path[-1] == "pause":
            if path[1] not in d.containers:
                raise NotFound(2, "no such container")
            return d.change(lambda: d.pause(path[1]))
        if path[-1] == "connect":
            return d.change(lambda: d.connect(document["Container"], path[1], document["EndpointConfig"]))
        return d.change(lambda: d.disconnect(document["Container"], path[1]))

    def delete(self, *path: str) -> None:
        self.docker.change(lambda: self.docker.remove(path[1]))


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    model = Docker()
    api = type("ModelApi", (Api,), {"docker": model})
    monkeypatch.setattr(networks, "Api", api)
    monkeypatch.setattr(restart, "Api", api)
    monkeypatch.setattr(restart, "daemon_at", lambda engine, socket, within: model.daemon())
    monkeypatch.setattr(restart.unread, "refuse", lambda change, daemon: None)
    monkeypatch.setattr(restart.process, "started", lambda pid: pid * 7)
    monkeypatch.setattr(restart.process, "foreign", lambda pid: "")
    monkeypatch.setattr(restart.process, "described", lambda pid: Startable(exe="/x", argv=(b"x",), env=()))
    monkeypatch.setattr(restart.process, "end", lambda pid, begun, patience: model.change(model.stop))
    monkeypatch.setattr(restart.process, "start", lambda how: model.change(model.start))
    return model


def saved(before: Any) -> Any:
    """Through the journal's codec and back, as after a crash."""
    return msgspec.json.decode(dump(before), type=type(before))


# --- a network made again --------------------------------------------------------------------------------------------

AGAIN = NetworkAgain()


def web(docker: Docker, **more: Any) -> RecreateNetwork:
    """A network of four members: one with an address of its own, one that does not run, one with a gap before it."""
    network = docker.create("web", {"com.docker.network.bridge.name": "web0"}, Labels={"team": "shop"}, **more)
    docker.create("other", {})
    gap = docker.run("gap", "web")
    first = docker.run("w1", "web", Aliases=["shop"])
    docker.run("w2", "web", IPAMConfig={"IPv4Address": "172.18.0.77"}, Links=["w1:first"])
    docker.run("w3", "other")
    docker.connect(docker.run("w4", "other"), network, {})
    docker.run("down", "web", running=False)
    docker.disconnect(gap, network)
    del docker.containers[gap]
    docker.disconnect(first, network)  # ... and the first has the first address again: nothing needs to be chosen
    docker.connect(first, network, {"Aliases": ["shop"]})
    for name in ("w4",):
        one = next(i for i, c in docker.all() if c["Name"] == name)
        docker.disconnect(one, network)
        docker.connect(one, network, {})
    return RecreateNetwork(engine="docker", socket=SOCKET, network=network, name="web", mtu=1400)


def ended(docker: Docker, n: int, early: bool, act: Callable[[], None]) -> bool:
    """Whether it was killed at its n-th call."""
    docker.calls, docker.dies, docker.early = 0, n, early
    try:
        act()
    except Killed:
        return True
    finally:
        docker.dies = 0
    return False


def test_a_network_is_made_again_and_back(docker: Docker) -> None:
    change = web(docker)
    was = docker.shown()
    before = saved(AGAIN.prepare(change, "t"))
    assert docker.shown() == was
    assert not AGAIN.holds(change, before)
    AGAIN.perform(change, before, "t")
    assert AGAIN.holds(change, before)
    made = docker.networks[docker.by_name("web")]
    assert made["Options"] == {"com.docker.network.bridge.name": "web0", MTU: "1400"}
    assert made["Labels"] == {"team": "shop"}
    assert docker.shown()[1:] == was[1:]
    calls = docker.calls
    AGAIN.perform(change, before, "t")
    assert docker.calls == calls, "once more changes nothing"
    AGAIN.undo(change, before, "t")
    assert docker.shown() == was


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("then", ["undo", "perform"])
def test_killed_at_every_call(docker: Docker, early: bool, then: str) -> None:
    change = web(docker)
    was = docker.shown()
    before = saved(AGAIN.prepare(change, "t"))
    n = 1
    while ended(docker, n, early, lambda: AGAIN.perform(change, before, "t")):
        if then == "perform":
            AGAIN.perform(change, before, "t")
            assert AGAIN.holds(change, before), n
        AGAIN.undo(change, before, "t")
        assert docker.shown() == was, n
        n += 1
    assert n > 8, "fewer calls than members"


@pytest.mark.parametrize("early", [True, False])
def test_undo_killed_at_every_call(docker: Docker, early: bool) -> None:
    change = web(docker)
    was = docker.shown()
    before = saved(AGAIN.prepare(change, "t"))
    n = 1
    while True:
        AGAIN.perform(change, before, "t")
        killed = ended(docker, n, early, lambda: AGAIN.undo(change, before, "t"))
        AGAIN.undo(change, before, "t")
        assert docker.shown() == was, n
        if not killed:
            break
        n += 1
    assert n > 8


def test_an_address_that_would_not_come_by_itself_is_chosen(docker: Docker) -> None:
    change = web(docker)
    gap = docker.run("gap", "web")
    last = docker.run("last", "web")
    address = docker.containers[last]["ends"]["web"]["IPAddress"]
    docker.disconnect(gap, change.network)
    del docker.containers[gap]
    before = AGAIN.prepare(change, "t")
    AGAIN.perform(change, before, "t")
    assert docker.containers[last]["ends"]["web"]["IPAddress"] == address
    assert docker.containers[last]["ends"]["web"]["IPAMConfig"] == {"IPv4Address": address}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"Driver": "overlay", "Scope": "swarm"}, "overlay, swarm"),
        ({"Driver": "macvlan"}, "macvlan"),
        ({"Ingress": True}, "configuration"),
        ({"ConfigFrom": {"Network": "base"}}, "configuration"),
    ],
)
def test_a_network_that_is_not_ours_to_make_again(docker: Docker, more: Json, why: str) -> None:
    with pytest.raises(Impossible, match=why):
        AGAIN.prepare(web(docker, **more), "t")


def test_a_container_that_names_the_network_by_its_id(docker: Docker) -> None:
    change = web(docker)
    docker.run("pinned", "web", running=False)
    docker.all()[-1][1]["mode"] = change.network
    with pytest.raises(Impossible, match="pinned names the network web by its id"):
        AGAIN.prepare(change, "t")


def test_the_engines_own_network(docker: Docker) -> None:
    change = RecreateNetwork(engine="docker", socket=SOCKET, network=docker.by_name("bridge"), name="bridge", mtu=1400)
    with pytest.raises(Impossible, match="the engine's own"):
        AGAIN.prepare(change, "t")


def test_a_network_that_went(docker: Docker) -> None:
    with pytest.raises(Gone):
        AGAIN.prepare(RecreateNetwork(engine="docker", socket=SOCKET, network="f" * 64, name="web", mtu=1400), "t")


def test_who_joins_meanwhile_is_not_thrown_out(docker: Docker) -> None:
    change = web(docker)
    before = AGAIN.prepare(change, "t")
    docker.run("late", "web")
    was = docker.shown()
    with pytest.raises(Foreign, match="late joined"):
        AGAIN.perform(change, before, "t")
    assert docker.shown() == was


def test_a_network_somebody_else_made_again(docker: Docker) -> None:
    change = web(docker)
    before = AGAIN.prepare(change, "t")
    AGAIN.perform(change, before, "t")
    docker.networks[docker.by_name("web")]["Options"][MTU] = "1300"
    was = docker.shown()
    with pytest.raises(Foreign, match="MTU 1300"):
        AGAIN.undo(change, before, "t")
    assert docker.shown() == was


def test_undoing_needs_the_daemon(docker: Docker) -> None:
    """That it does not run is no reason to think there is nothing to undo."""
    change = web(docker)
    before = AGAIN.prepare(change, "t")
    AGAIN.perform(change, before, "t")
    docker.alive = False
    with pytest.raises(ConnectionRefusedError):
        AGAIN.undo(change, before, "t")


def test_a_member_that_was_removed_meanwhile(docker: Docker) -> None:
    change = web(docker)
    before = AGAIN.prepare(change, "t")
    AGAIN.perform(change, before, "t")
    gone = next(i for i, c in docker.all() if c["Name"] == "w4")
    del docker.containers[gone]
    assert AGAIN.holds(change, before)
    AGAIN.undo(change, before, "t")
    assert MTU not in docker.networks[docker.by_name("web")]["Options"]


# --- the daemon started again ----------------------------------------------------------------------------------------

ENGINE = EngineRestart()


def busy(docker: Docker) -> RestartEngine:
    docker.run("ci", "bridge")
    docker.containers[docker.run("db", "bridge")]["always"] = True
    docker.containers[docker.run("side", "bridge")]["mode"] = "container:ci"
    docker.run("old", "bridge", running=False)
    docker.pause(docker.run("still", "bridge"))
    back = docker.run("back", "bridge")
    docker.containers[back]["always"] = True
    docker.pause(back)
    return RestartEngine(engine="docker", socket=SOCKET, how="argv", pid=docker.pid, argv=("dockerd",))


def mtu(docker: Docker) -> str:
    return str(docker.networks[docker.by_name("bridge")]["Options"][MTU])


def states(docker: Docker) -> list[tuple[str, bool, bool]]:
    """Name, does it run, is it paused."""
    return [(c["Name"], c["State"], c.get("paused", False)) for _, c in docker.all()]


def test_an_engine_is_started_again_and_back(docker: Docker) -> None:
    change = busy(docker)
    was = states(docker)
    before = saved(ENGINE.prepare(change, "t"))
    assert [docker.containers[i]["Name"] for i in before.running] == ["ci", "db", "still", "back", "side"]
    assert not ENGINE.holds(change, before)
    docker.file_mtu = 1400  # the step before this one wrote the file
    ENGINE.perform(change, before, "t")
    assert (mtu(docker), states(docker)) == ("1400", was)
    assert ENGINE.holds(change, before)
    calls, pid = docker.calls, docker.pid
    ENGINE.perform(change, before, "t")
    assert (docker.calls, docker.pid) == (calls, pid), "once more changes nothing"
    docker.run("new", "bridge")
    docker.file_mtu = 1500  # undone before this one, which is late
    assert ENGINE.late(before)
    ENGINE.undo(change, before, "t")
    assert (mtu(docker), states(docker)) == ("1500", [*was, ("new", True, False)])


@pytest.mark.parametrize("early", [True, False])
def test_the_restart_killed_at_every_call(docker: Docker, early: bool) -> None:
    change = busy(docker)
    was = states(docker)
    n = 1
    while True:
        before = saved(ENGINE.prepare(change, "t"))
        docker.file_mtu = 1400
        killed = ended(docker, n, early, lambda before=before: ENGINE.perform(change, before, "t"))  # type: ignore[misc]
        docker.file_mtu = 1500
        ENGINE.undo(change, before, "t")
        assert (mtu(docker), states(docker), docker.alive) == ("1500", was, True), n
        if not killed:
            break
        n += 1
    assert n > 6


@pytest.mark.parametrize("early", [True, False])
def test_undoing_the_restart_killed_at_every_call(docker: Docker, early: bool) -> None:
    change = busy(docker)
    was = states(docker)
    n = 1
    while True:
        before = saved(ENGINE.prepare(change, "t"))
        docker.file_mtu = 1400
        ENGINE.perform(change, before, "t")
        docker.file_mtu = 1500
        killed = ended(docker, n, early, lambda before=before: ENGINE.undo(change, before, "t"))  # type: ignore[misc]
        ENGINE.undo(change, before, "t")
        assert (mtu(docker), states(docker), docker.alive) == ("1500", was, True), n
        if not killed:
            break
        n += 1
    assert n > 4


def test_a_container_that_was_removed_is_not_missed(docker: Docker) -> None:
    change = busy(docker)
    before = ENGINE.prepare(change, "t")
    del docker.containers[before.running[0]]
    docker.file_mtu = 1400
    ENGINE.perform(change, before, "t")
    assert ENGINE.holds(change, before)


def test_a_container_that_a_restart_would_remove(docker: Docker) -> None:
    change = busy(docker)
    docker.containers[docker.run("once", "bridge")]["rm"] = True
    with pytest.raises(Impossible, match="would remove the container once"):
        ENGINE.prepare(change, "t")


def test_a_daemon_that_is_not_ours_to_start(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart.process, "foreign", lambda pid: "it runs as another user")
    with pytest.raises(Impossible, match="another user"):
        ENGINE.prepare(busy(docker), "t")
    docker.alive = False
    with pytest.raises(Impossible, match="no docker runs"):
        ENGINE.prepare(RestartEngine(engine="docker", socket=SOCKET, how="argv"), "t")


def test_the_journal_keeps_what_it_needs() -> None:
    for value in (
        EngineBefore(socket="s", pid=1, started=2, boot="b"),
        NetworkBefore(socket="s", id="i", name="n", made="{}"),
    ):
        assert saved(value) == value


# --- a process ended and started again -------------------------------------------------------------------------------

SAYS = """
import json, os, resource, signal, sys
told = {"cwd": os.getcwd(), "env": os.environ.get("TOLD"), "argv": sys.argv[1:], "umask": os.umask(0)}
os.umask(told["umask"])
told["files"] = resource.getrlimit(resource.RLIMIT_NOFILE)
told["pipe"] = signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN  # Python's own doing
told["ignored"] = next(x.split()[1] for x in open("/proc/self/status") if x.startswith("SigBlk"))
print(json.dumps({"pid": os.getpid(), **told}), file=sys.stderr, flush=True)
signal.pause()
"""


def test_a_process_as_it_was(tmp_path: Any) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", SAYS, "a b", ""]

    def told() -> list[Json]:
        return [json.loads(x) for x in log.read_text().splitlines()] if log.exists() else []

    def limits() -> None:
        import resource

        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (77, 99))

    def heard(count: int) -> None:
        deadline = time.monotonic() + 20.0
        while len(told()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    with log.open("ab") as out:
        first = subprocess.Popen(
            words, cwd=tmp_path, env={**os.environ, "TOLD": "x=y"}, stderr=out, stdout=out, preexec_fn=limits
        )
    heard(1)
    assert process.foreign(first.pid) == ""
    how, begun = process.described(first.pid), process.started(first.pid)
    process.end(first.pid, begun + 1, 5.0)  # of another process with that number: left alone
    assert first.poll() is None
    process.end(first.pid, begun, 20.0)
    assert first.wait() == -signal.SIGTERM
    process.end(first.pid, begun, 20.0)  # gone: nothing to do
    process.start(saved(how))
    heard(2)
    one, two = told()
    os.kill(two["pid"], signal.SIGKILL)
    assert {**one, "pid": 0} == {**two, "pid": 0}


def test_a_program_that_is_not_there_any_more() -> None:
    gone = Startable(exe="/no/such/program", argv=(b"x",), env=())
    with pytest.raises(FileNotFoundError, match="cannot be started"):
        process.start(gone)
