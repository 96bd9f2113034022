"""A Docker daemon's words: what they become, and that a hostile one costs its own fields only."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_socket import Answers, served
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.engine import Container, Endpoint, Engine, Node
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.host.unixhttp import Client
from pathfit.observe import processes
from pathfit.observe.engines import daemons, docker, names, parse
from pathfit.observe.engines.daemons import Daemon, option
from pathfit.wire.daemonjson import mtu_of

ID = "f6c2483eda2a5cbfa6cc2b8bd35e8293341d16ed126f454eaa0281fba7b10e91"
NET = "da00b69dc83fea70b82d2b5b0739ccf7e28d7a944df52b258108fad3256a9e33"
NETWORKS = [
    {
        "Name": "bridge",
        "Id": "e5739d59e530afb3b56f6702ddb151e2c0ac1005c2f5f1f6e18ab456d4fcd86e",
        "Scope": "local",
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.17.0.0/16"}]},
        "Internal": False,
        "Ingress": False,
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.name": "docker0",
            "com.docker.network.driver.mtu": "1500",
        },
        "Labels": {},
    },
    {
        "Name": "web",
        "Id": NET,
        "Scope": "local",
        "Driver": "bridge",
        "IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]},
        "Options": None,
        "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.network": "web"},
    },
]
LISTED = [
    {
        "Id": ID,
        "Names": ["/db"],
        "State": "running",
        "Labels": {
            "com.docker.compose.project": "shop",
            "com.docker.compose.service": "db",
            "com.docker.compose.project.config_files": "/srv/shop/compose.yaml,more.yaml",
            "com.docker.compose.project.working_dir": "/srv/shop",
        },
        "HostConfig": {"NetworkMode": "web"},
        "NetworkSettings": {
            "Networks": {
                "web": {
                    "NetworkID": NET,
                    "IPAddress": "172.18.0.2",
                    "GlobalIPv6Address": "",
                    "MacAddress": "02:42:AC:12:00:02",
                }
            }
        },
    },
    {"Id": "ab" * 32, "Names": ["/old"], "State": "exited", "HostConfig": {"NetworkMode": "default"}},
]
INSPECTED = {
    "Id": ID,
    "Name": "/db",
    "State": {"Status": "running", "Pid": 0},
    "HostConfig": {"NetworkMode": "web", "RestartPolicy": {"Name": "always"}, "AutoRemove": False},
    "NetworkSettings": {"SandboxKey": ""},
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[[Answers], Daemon]]:
    """A daemon that answers GETs out of a dictionary."""
    with served(tmp_path / "docker.sock", b"Docker/24.0.5 (linux)") as start:

        def listening(answers: Answers) -> Daemon:
            path = start(answers)
            return Daemon("docker", path, path)

        yield listening


WHOLE: Answers = {
    "/networks": NETWORKS,
    "/containers/json": LISTED,
    f"/containers/{ID}/json": INSPECTED,
    "/info": {"LiveRestoreEnabled": True},
}


def test_a_whole_engine(engine: Callable[[Answers], Daemon]) -> None:
    found = docker.read(engine(WHOLE), {}, 5.0)
    assert isinstance(found, Engine)
    assert (found.version, found.mtu, found.mtu_from, found.live_restore) == ("24.0.5", 1500, "default", False)
    bridge, web = found.networks
    assert (bridge.default, bridge.bridge, bridge.mtu, bridge.members) == (True, "docker0", 1500, ())
    assert (web.default, web.bridge, web.mtu, web.members) == (False, "br-da00b69dc83f", None, (ID,))
    assert (web.subnets, web.compose_project, web.compose_network) == (("172.18.0.0/16",), "shop", "web")
    db, old = found.containers
    assert (db.name, db.restart_policy, db.network_mode, db.compose_service) == ("db", "always", "web", "db")
    assert db.compose_files == ("/srv/shop/compose.yaml", "/srv/shop/more.yaml")
    assert db.endpoints == (Endpoint(network=NET, name="web", addresses=("172.18.0.2",), mac="02:42:ac:12:00:02"),)
    assert (old.state, old.netns) == ("exited", "")
    assert [m.code for m in found.missing] == ["limit"]  # no process of db is to be seen from here


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/containers/json", b"<html>", "malformed"),
        ("/containers/json", b'{"message":"no"}', None),
        ("/containers/json", b"[" * 100_000, "malformed"),
        ("/containers/json", b"\xff\xfe", "malformed"),
        ("/containers/json", None, "timeout"),
        (f"/containers/{ID}/json", None, "limit"),
        (f"/containers/{ID}/json", b"nonsense", "limit"),
    ],
)
def test_one_bad_answer(engine: Callable[[Answers], Daemon], path: str, body: object, code: str | None) -> None:
    found = docker.read(engine({**WHOLE, path: body}), {}, 0.3)
    assert isinstance(found, Engine)
    assert [n.name for n in found.networks] == ["bridge", "web"]
    assert [m.code for m in found.missing] == ([code] if code else [])
    assert all(m.how for m in found.missing)


@pytest.mark.parametrize(("body", "code"), [(None, "timeout"), (b"<html>", "malformed"), (b"[" * 100_000, "malformed")])
def test_nothing_to_know(engine: Callable[[Answers], Daemon], body: object, code: str) -> None:
    found = docker.read(engine({**WHOLE, "/networks": body}), {}, 0.3)
    assert isinstance(found, Missing)
    assert found.code == code
    assert found.how


def test_nobody_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    found = docker.read(Daemon("docker", gone, gone), {}, 1.0)
    assert isinstance(found, Missing)
    assert found.code == "absent"


KEYS = (
    *("Id", "Name", "Names", "State", "Labels", "HostConfig", "NetworkMode", "NetworkSettings", "Networks", "Driver"),
    *("IPAM", "Config", "Subnet", "Options", parse.MTU, parse.DEFAULT, parse.BRIDGE, "MacAddress", "IPAddress"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_some_value(raw: object) -> None:
    for row in parse.rows([raw]):
        parse.network(row)
        parse.container(row, "docker")
    parse.endpoints(parse.table(raw))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1400", 1400),
        (1400, 1400),
        ("0", None),
        ("-1", None),
        (True, None),
        ("65536", None),
        ("1e3", None),
        ("²", None),
    ],
)
def test_an_mtu_option(value: object, expected: int | None) -> None:
    assert parse.network({"Options": {parse.MTU: value}}).mtu == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("dockerd", "--mtu", "1400"), ["1400"]),
        (("dockerd", "--mtu=1400"), ["1400"]),
        (("dockerd", "--mtu=1400", "--mtu", "1300"), ["1400", "1300"]),
        (("dockerd", "--mtus=1400"), []),
        (("dockerd", "--mtu"), []),
        (("dockerd",), []),
    ],
)
def test_options_of_a_command_line(argv: tuple[str, ...], expected: list[str]) -> None:
    assert option(argv, "--mtu") == expected


def test_short_options() -> None:
    argv = ("dockerd", "-H", "fd://", "-Hunix:///a", "-H=unix:///b", "--host=unix:///c", "--help")
    assert option(argv, "-H", "--host") == ["fd://", "unix:///a", "unix:///b", "unix:///c"]


@pytest.mark.parametrize(
    ("config", "error", "mtu"),
    [
        (None, None, None),
        ("", None, None),
        ("{}", None, None),
        ('{"mtu": 1400}', None, 1400),
        ('{"mtu": "1400"}', None, None),
        ('{"mtu": true}', None, None),
        ('{"mtu": 1400.5}', None, None),
        ('{"mtu": 0}', None, None),
        ('{"mtu": 1400,}', "trailing comma", None),
        ("[]", "no JSON object", None),
    ],
)
def test_a_configuration(tmp_path: Path, config: str | None, error: str | None, mtu: int | None) -> None:
    path = tmp_path / "daemon.json"
    if config is not None:
        path.write_text(config)
    daemon = Daemon("docker", "/s", "/s", pid=os.getpid(), argv=("dockerd", "--config-file", str(path)))
    read, why = docker._config(daemon, str(path))
    assert read == config
    assert (why is None) == (error is None)
    assert error is None or error in (why or "")
    assert mtu_of(read) == mtu


def test_a_configuration_of_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(b'{"mtu": \xff}')
    read, why = docker._config(Daemon("docker", "/s", "/s", pid=1), str(path))
    assert read is None
    assert why


def test_a_container_may_not_point_us_at_our_own_files(tmp_path: Path) -> None:
    """Whoever calls its process dockerd chooses what lies below its root; a link there would be followed from ours."""
    secret, root = tmp_path / "secret", tmp_path / "root"
    secret.write_text('{"mtu": 1}')
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "daemon.json").symlink_to(secret)
    (root / "elsewhere").symlink_to(tmp_path)
    (root / "etc" / "real.json").write_text('{"mtu": 1400}')
    os.mkfifo(root / "etc" / "fifo")
    daemon = Daemon("docker", "/s", "/s", pid=1, root=str(root))
    for path in ("/etc/daemon.json", "/elsewhere/secret", "/../secret", "/etc/fifo", "/etc", "/"):
        config, error = docker._config(daemon, path)
        assert config is None, path
        assert error, path
    assert docker._config(daemon, "/etc/real.json") == ('{"mtu": 1400}', None)
    assert docker._config(daemon, "/etc/none.json") == (None, None)


def test_our_own_daemon_comes_before_one_that_points_at_its_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "docker.sock")
    roots: dict[int, str | None] = {5: str(tmp_path / "other"), 9: None}
    (tmp_path / "other").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        (tmp_path / f"other{path}").parent.mkdir(parents=True)
        (tmp_path / f"other{path}").symlink_to(path)
        monkeypatch.setattr(daemons, "SOCKETS", (path,))
        monkeypatch.setattr(processes, "of_name", lambda name: iter(roots))
        monkeypatch.setattr(daemons, "argv_of", lambda pid: ("dockerd", "-H", f"unix://{path}"))
        monkeypatch.setattr(processes, "root_of", lambda pid: roots[pid])
        assert [d.pid for d in daemons.find()] == [9]


# --- overlays of a swarm ----------------------------------------------------------------------------------------------

WIDE, FAR = "3k1dmmqoqgc0" + "a" * 13, "9z9zmmqoqgc0" + "a" * 13
PEERS = [{"Name": "n1-1a", "IP": "198.18.4.1"}, {"Name": "n2-2b", "IP": "198.18.4.2"}, {"Name": "x", "IP": "no"}, 7]


def overlay(network: str, name: str, **options: str) -> dict[str, Any]:
    return {"Name": name, "Id": network, "Scope": "swarm", "Driver": "overlay", "Options": options}


VNIS = "com.docker.network.driver.overlay.vxlanid_list"


@pytest.mark.parametrize(
    ("options", "vnis", "encrypted", "mtu"),
    [
        ({VNIS: "4097"}, (4097,), False, None),
        ({VNIS: "4097,4098", "encrypted": "", parse.MTU: "1400"}, (4097, 4098), True, 1400),
        ({VNIS: "4097,x,,-1,99999999"}, (4097,), False, None),
        ({VNIS: 7}, (), False, None),
    ],
)
def test_an_overlay(options: dict[str, Any], vnis: tuple[int, ...], encrypted: bool, mtu: int | None) -> None:
    found = parse.network({**overlay(WIDE, "wide"), "Options": options, "Peers": PEERS})
    assert (found.vnis, found.encrypted, found.mtu, found.is_underlay) == (vnis, encrypted, mtu, True)
    assert found.nodes == (Node(name="n1-1a", address="198.18.4.1"), Node(name="n2-2b", address="198.18.4.2"))


def test_overlays_by_their_hidden_namespaces(
    engine: Callable[[Answers], Daemon], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """EXEC-ROOT/netns/N-ID; the members are asked for where this host is one."""
    netns = tmp_path / "netns"
    netns.mkdir()
    for name in (f"1-{WIDE[:10]}", f"x-{FAR[:10]}", f"lb_{WIDE[:9]}", "ingress_sbox", "0123456789ab", "2-short"):
        (netns / name).touch()
    at: dict[str, str] = {f"{tmp_path}/netns/{n}": f"4:{len(n)}" for n in os.listdir(netns)}
    monkeypatch.setattr(docker.spaces, "at_path", lambda daemon, path: at[path])
    listed = [overlay(WIDE, "wide"), overlay(FAR, "far", encrypted="")]
    answers = {**WHOLE, "/networks": listed, f"/networks/{WIDE}": {**overlay(WIDE, "wide"), "Peers": PEERS}}
    asked = engine(answers)._replace(argv=("dockerd", "--exec-root", str(tmp_path)))
    found = docker.read(asked, {}, 5.0)
    assert isinstance(found, Engine)
    wide, far = found.networks
    assert (wide.netns, [n.address for n in wide.nodes]) == ("4:12", ["198.18.4.1", "198.18.4.2"])
    assert (far.netns, far.nodes, far.encrypted) == ("", (), True)
    answers[f"/networks/{WIDE}"] = b"[" * 100_000
    found = docker.read(asked, {}, 5.0)
    assert isinstance(found, Engine) and found.networks[0].netns == "4:12"


@pytest.mark.parametrize(
    ("config", "argv", "expected"),
    [
        (None, (), {}),
        ('{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}', (), {"bridge": 1400}),
        ('{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": 1400}}}', (), {}),
        ('{"default-network-opts": {"bridge": 7, "overlay": {}}}', (), {}),
        ('{"default-network-opts": []}', (), {}),
        ("[" * 100_000, (), {}),
        (None, ("--default-network-opt", f"overlay={parse.MTU}=1350"), {"overlay": 1350}),
        (None, (f"--default-network-opt=bridge={parse.MTU}=x", "--default-network-opt"), {}),
    ],
)
def test_an_mtu_for_networks_to_come(config: str | None, argv: tuple[str, ...], expected: dict[str, int]) -> None:
    assert parse.network_mtu(config, ("dockerd", *argv)) == expected


def test_a_kubelet_s_labels() -> None:
    labels = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web-1"}
    found = parse.container({"Labels": {**labels, "io.kubernetes.docker.type": "podsandbox"}}, "docker")
    assert (found.pod, found.sandbox) == ("shop/web-1", True)
    assert parse.container({"Labels": {"io.kubernetes.pod.name": "web-1"}}, "docker").pod == ""


@pytest.mark.parametrize(
    ("told", "shown"), [("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb", "a\\nb"), ("名", "名"), ("x" * 999, "x" * 256), (7, "")]
)
def test_no_terminal_is_shown_what_it_would_obey(told: object, shown: str) -> None:
    assert parse.text(told) == shown


# --- names -----------------------------------------------------------------------------------------------------------


def called(*containers: Container, own: str = "4:1", asked: str = "4:9") -> dict[str, tuple[str, ...]]:
    spaces = [
        NetnsSnapshot(id="4:1", where="host"),
        NetnsSnapshot(id="4:2", where="container:" + ID[:12], names=("netns:/run/docker/netns/x", "pid:5")),
        NetnsSnapshot(id="4:9", where="pid:7", names=()),
    ]
    engine = Engine(kind="docker", socket="/run/docker.sock", containers=containers)
    return {n.id: (n.where, *n.names) for n in names.call(spaces, [engine], own, asked)}


def container(name: str, netns: str, **more: Any) -> Container:
    return Container(**{"id": ID, "name": name, "engine": "docker", "netns": netns, "network_mode": "web", **more})


def test_a_namespace_goes_by_its_containers_name() -> None:
    assert called(container("db", "4:2"))["4:2"] == ("container:db", "netns:/run/docker/netns/x", "pid:5")


def test_the_asked_one_keeps_its_words() -> None:
    assert called(container("db", "4:9"))["4:9"] == ("pid:7", "container:db")


def test_the_hosts_namespace_stays_the_hosts() -> None:
    assert called(container("db", "4:1"))["4:1"] == ("host",)
    assert called(container("db", "4:2", network_mode="host"))["4:2"][0] == "container:" + ID[:12]


def test_who_lives_with_another_gives_no_name() -> None:
    side = container("side", "4:2", network_mode="container:" + ID)
    assert called(side, container("db", "4:2", id="cd" * 32))["4:2"][0] == "container:db"


@pytest.mark.parametrize("name", ["", "a b", "-x", "a;rm", "名", "a\n"])
def test_a_name_no_engine_gives_is_not_used(name: str) -> None:
    assert called(container(name, "4:2"))["4:2"][0] == "container:" + ID[:12]


def test_two_of_the_same_name_go_by_their_ids() -> None:
    other = "cd" * 32
    found = called(container("db", "4:2"), container("db", "4:9", id=other))
    assert found["4:2"][0] == f"container:{ID[:12]}"
    assert found["4:9"] == ("pid:7", f"container:{other[:12]}")


def test_no_daemon_no_socket_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under socket activation a mere connection would start the engine: a socket without a daemon is left alone."""
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        monkeypatch.setattr(daemons, "SOCKETS", (path,))
        monkeypatch.setattr(processes, "of_name", lambda name: iter(()))
        comm = {"/proc/1/comm": "systemd"}
        monkeypatch.setattr(daemons.procfs, "maybe", lambda at, limit=0: comm.get(at, ""))
        assert daemons.find() == ()
        comm["/proc/1/comm"] = "sh"  # a container that was given the socket: the daemon is out of sight
        assert [d.socket for d in daemons.find()] == [path]


def test_one_that_is_silent_is_waited_for_once(
    engine: Callable[[Answers], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair looks many times. One that answers is asked as before, and so is one that was started again."""
    answers: Answers = {**WHOLE, "/networks": None}
    daemon = engine(answers)
    found = docker.read(daemon, {}, 0.05)
    assert isinstance(found, Missing) and found.code == "timeout"
    assert daemons.patience(daemon, 2.0) == daemons.AGAIN
    assert daemons.patience(daemon, 0.01) == 0.01
    assert daemons.patience(daemon._replace(pid=9), 2.0) == 2.0
    waited: list[float] = []

    def client(path: str, budget: float) -> Client:
        waited.append(budget)
        return Client(path, budget)

    monkeypatch.setattr(names, "Client", client)
    monkeypatch.setattr(daemons, "find", lambda pids: (daemon,))
    assert names.search("db").trouble == ()  # only /networks is kept from us
    assert waited == [daemons.AGAIN]
    answers["/networks"] = NETWORKS
    assert isinstance(docker.read(daemon, {}, 2.0), Engine)
    assert daemons.patience(daemon, 2.0) == 2.0
