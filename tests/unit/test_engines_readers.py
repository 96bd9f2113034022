"""Podman, containerd and cri-o: what their answers and folders become, and what is said of what cannot be read."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_socket import Answers, served
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.observe import processes
from pathfit.observe.engines import cni, conmon, containerd, cri, crio, daemons, docker, kinds, podman, spaces
from pathfit.observe.engines.daemons import Daemon

ID, OTHER = "d0" * 32, "e1" * 32


@pytest.fixture(scope="module")
def guest() -> Iterator[int]:
    """A process in a network namespace of its own."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        if not process.stdout.readline():
            pytest.skip("needs root or a user namespace")
        yield process.pid
        process.stdin.close()


def space(pid: int) -> str:
    return processes.namespace_of(pid)


def daemon(kind: str, state: Path | str, **more: Any) -> Daemon:
    given_ = {"pid": os.getpid(), "root": "/", "namespace": space(os.getpid()), **more}
    return Daemon(kind, "", "", state=str(state), **given_)


# --- podman's service ------------------------------------------------------------------------------------------------

NETWORKS = [
    {"name": "podman", "id": "2f" * 32, "driver": "bridge", "network_interface": "podman0", "subnets": []},
    {"name": "web", "id": "ab" * 32, "driver": "bridge", "network_interface": "podman1", "options": {"mtu": "1400"}},
]


def row(name: str, **more: Any) -> dict[str, Any]:
    told = {"Id": ID, "Names": [name], "State": "running", "Pid": 0, "Networks": ["web"], "Labels": None, "PodName": ""}
    return {**told, **more}


WHOLE: Answers = {
    "/v4.0.0/libpod/networks/json": NETWORKS,
    "/v4.0.0/libpod/containers/json": [
        row("one", Labels={"com.docker.compose.project": "shop"}),
        row("old", Id=OTHER, State="exited"),
        row("x-infra", Id="f2" * 32, State="exited", IsInfra=True, PodName="po"),
    ],
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[[Answers], Daemon]]:
    with served(tmp_path / "podman.sock", b"Libpod/4.3.1 (linux)") as start:

        def listening(answers: Answers) -> Daemon:
            path = start(answers)
            return Daemon("podman", path, path, pid=os.getpid(), namespace=space(os.getpid()))

        yield listening


def test_a_service(engine: Callable[[Answers], Daemon]) -> None:
    found = podman.read(engine(WHOLE), {}, 5.0)
    assert isinstance(found, Engine)
    assert (found.kind, found.version) == ("podman", "4.3.1")
    assert [(n.name, n.mtu, n.default, n.members) for n in found.networks] == [
        ("podman", None, True, ()),
        ("web", 1400, False, (ID,)),
    ]
    one, old, infra = sorted(found.containers, key=lambda c: c.id)
    assert (one.name, one.compose_project, [e.network for e in one.endpoints]) == ("one", "shop", ["ab" * 32])
    assert (old.state, infra.sandbox, infra.pod) == ("exited", True, "po")
    assert [m.code for m in found.missing] == ["limit" if os.geteuid() == 0 else "permission"]


def test_podman_behind_docker_s_socket(engine: Callable[[Answers], Daemon]) -> None:
    asked = engine({**WHOLE, "/networks": []})
    found = docker.read(asked._replace(kind="docker"), {}, 5.0)
    assert isinstance(found, Engine)
    assert (found.kind, [n.name for n in found.networks]) == ("podman", ["podman", "web"])


@pytest.mark.parametrize(
    ("body", "code"),
    [(None, "timeout"), (b"<html>", "malformed"), (b"[" * 100_000, "malformed"), (b"\xff", "malformed")],
)
def test_a_service_that_says_nothing(engine: Callable[[Answers], Daemon], body: object, code: str) -> None:
    """What is left are its processes: here none."""
    for path in WHOLE:
        found = podman.read(engine({**WHOLE, path: body}), {}, 0.6)
        assert isinstance(found, Engine)
        assert [(m.code, bool(m.how)) for m in found.missing] == [(code, True)]
        assert found.containers == ()


KEYS = ("Id", "Names", "State", "Pid", "Networks", "Labels", "PodName", "IsInfra")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_row_is_some_container(raw: dict[str, Any]) -> None:
    assert isinstance(podman.container(raw, ()), Container)


def test_only_a_process_makes_a_socket_ours_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under socket activation a mere connection would start it."""
    argv = {7: ("podman", "system", "service", "--time", "0"), 8: ("podman", "run", "x"), 9: ("podman",)}
    monkeypatch.setattr(podman, "argv_of", lambda pid: argv[pid])
    monkeypatch.setattr(processes, "user_of", lambda pid: 1000 if pid == 7 else 0)
    monkeypatch.setattr(processes, "root_of", lambda pid: None)
    found = list(podman.found({"podman": [7, 8, 9]}))
    assert [(d.pid, d.socket, d.user) for d in found] == [(7, "/run/user/1000/podman/podman.sock", 1000)]


# --- podman's files --------------------------------------------------------------------------------------------------


def monitor(tmp_path: Path, one: str, name: str) -> tuple[str, ...]:
    run = f"{tmp_path}/overlay-containers/{one}/userdata"
    words = f"conmon -c {one} -b {run} -p {run}/pidfile -n {name} --exit-command /usr/bin/podman"
    more = "--exit-command-arg --network-backend --exit-command-arg cni --exit-command-arg --cni-config-dir"
    return (*words.split(), *more.split(), "--exit-command-arg", f"{tmp_path}/net.d")


def keep(tmp_path: Path, one: str, pid: int | str, netns: dict[str, Any] | None = None, hostname: str = "") -> None:
    folder = tmp_path / "overlay-containers" / one / "userdata"
    folder.mkdir(parents=True)
    (folder / "pidfile").write_text(str(pid))
    (folder / "hostname").write_text(hostname)
    spec = {"linux": {"namespaces": [{"type": "network", **(netns or {})}]}}
    (folder / "config.json").write_text(json.dumps(spec))


def by_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: dict[str, str], **more: Any) -> Engine:
    argv = {n: monitor(tmp_path, one, name) for n, (one, name) in enumerate(names.items(), 1)}
    monkeypatch.setattr(podman, "argv_of", lambda pid: argv[pid])
    asked = daemon("podman", tmp_path, monitors=tuple(argv), **more)
    found = podman.read(asked, {}, 5.0)
    assert isinstance(found, Engine)
    return found


@pytest.mark.lab
def test_by_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guest: int) -> None:
    (tmp_path / "net.d").mkdir()
    told = {"name": "web", "plugins": [{"type": "bridge", "bridge": "cni-podman1", "mtu": 1400}]}
    (tmp_path / "net.d" / "web.conflist").write_text(json.dumps(told))
    keep(tmp_path, ID, guest)
    keep(tmp_path, OTHER, guest, {"path": f"/proc/{guest}/ns/net"})
    keep(tmp_path, "f2" * 32, os.getpid())
    found = by_files(monkeypatch, tmp_path, {OTHER: "aside", ID: "one", "f2" * 32: "hosty"})
    assert {c.name: (c.netns, c.network_mode, c.pid) for c in found.containers} == {
        "aside": (space(guest), "container:", guest),
        "one": (space(guest), "", guest),
        "hosty": (space(os.getpid()), "host", os.getpid()),
    }
    assert [(n.name, n.mtu, n.bridge) for n in found.networks] == [("web", 1400, "cni-podman1")]
    assert found.missing == ()


@pytest.mark.lab
def test_a_pod_by_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guest: int) -> None:
    keep(tmp_path, ID, guest, hostname="po\n")
    keep(tmp_path, OTHER, guest)
    found = by_files(monkeypatch, tmp_path, {OTHER: "app", ID: "a4a28f8ba477-infra"})
    assert [(c.name, c.pod, c.sandbox) for c in found.containers] == [
        ("app", "po", False),
        ("a4a28f8ba477-infra", "po", True),
    ]


@pytest.mark.parametrize("pid", ["", "x", "-1", "0", "99999999999999999999", "4194304", "1\n2", "\xff"])
def test_a_pid_file_of_no_sense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pid: str) -> None:
    keep(tmp_path, ID, pid)
    found = by_files(monkeypatch, tmp_path, {ID: "one"}, user=1000)
    (one,) = found.containers
    assert (one.name, one.netns, one.pid) == ("one", "", 0)
    (missing,) = found.missing
    assert missing.what.startswith("rootless podman of uid 1000")
    assert missing.how


@pytest.mark.lab
def test_a_user_may_not_claim_what_is_not_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guest: int) -> None:
    """A process that calls itself conmon and names somebody else's: believed only where it is the parent."""
    keep(tmp_path, ID, guest)
    for user, theirs in ((0, True), (1000, False)):
        (one,) = by_files(monkeypatch, tmp_path, {ID: "prod"}, user=user).containers
        assert bool(one.netns) is theirs
    assert podman._is_child(guest, os.getpid())


@pytest.mark.parametrize(
    ("user", "me", "code", "how"),
    [
        (1000, 0, "limit", "podman ps   or   --from pid:N"),
        (1000, 1000, "permission", "podman unshare --rootless-netns pathfit …"),
        (1000, 1001, "permission", "sudo pathfit …"),
        (0, 1001, "permission", "sudo pathfit …"),
    ],
)
def test_what_to_type_for_those_that_are_not_seen(
    monkeypatch: pytest.MonkeyPatch, user: int, me: int, code: str, how: str
) -> None:
    monkeypatch.setattr(podman.os, "geteuid", lambda: me)
    missing = podman._unseen(Daemon("podman", "", "", user=user), 3)
    assert (missing.code, missing.how) == (code, how)
    assert "3 containers" in missing.what


# --- containerd ------------------------------------------------------------------------------------------------------


def task(state: Path, name: str, pid: int | None, told: dict[str, Any] | bytes, namespace: str = "k8s.io") -> Path:
    folder = state / containerd.TASKS / namespace / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(told if isinstance(told, bytes) else json.dumps(told).encode())
    if pid is not None:
        (folder / "init.pid").write_text(str(pid))
    return folder


def spec(network: dict[str, Any] | None, **notes: str) -> dict[str, Any]:
    spaces_ = [{"type": "pid"}] + ([{"type": "network", **network}] if network is not None else [])
    return {"annotations": notes, "linux": {"namespaces": spaces_}}


def cri_notes(kind: str, name: str = "", pod: str = "web-1") -> dict[str, str]:
    keys = cri.CONTAINERD
    told = {keys.kind: kind, keys.sandbox: ID, keys.space: "shop", keys.pod: pod}
    return {**told, keys.name: name} if name else told


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """CNI's folders are this test's own."""
    (tmp_path / "net.d").mkdir()
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(cni, "CONFIGS", str(tmp_path / "net.d"))
    monkeypatch.setattr(cni, "RESULTS", (str(tmp_path / "results"),))
    return tmp_path


def of_containerd(state: Path) -> dict[str, Container]:
    found = containerd.read(daemon("containerd", state), {}, 5.0)
    assert isinstance(found, Engine)
    return {c.id: c for c in found.containers}


@pytest.mark.lab
def test_a_pod_of_containerd(quiet: Path, guest: int) -> None:
    path = {"path": f"/proc/{guest}/ns/net"}
    task(quiet, ID, guest, spec(path, **cri_notes("sandbox")))
    task(quiet, OTHER, guest, spec(path, **cri_notes("container", "app")))
    task(quiet, "f2" * 32, os.getpid(), spec(None, **cri_notes("container", "proxy", "kube-proxy")))
    result = {"kind": "cniCacheV1", "containerId": ID, "ifName": "eth0", "networkName": "cbr0"}
    result["result"] = {"ips": [{"address": "198.19.0.9/24"}]}  # type: ignore[assignment]
    (quiet / "results" / "a").write_text(json.dumps(result))
    found = of_containerd(quiet)
    here = (space(guest), "shop/web-1", "running")
    assert [(found[x].netns, found[x].pod, found[x].state) for x in (ID, OTHER)] == [here, here]
    assert [(found[x].name, found[x].sandbox, found[x].pid) for x in (ID, OTHER)] == [
        ("web-1", True, guest),
        ("app", False, guest),
    ]
    assert [(e.name, e.link, e.addresses) for e in found[OTHER].endpoints] == [("cbr0", "eth0", ("198.19.0.9",))]
    proxy = found["f2" * 32]
    assert (proxy.network_mode, proxy.netns, proxy.pod) == ("host", space(os.getpid()), "shop/kube-proxy")


@pytest.mark.lab
def test_a_pod_whose_name_only_libcni_knows(quiet: Path, guest: int) -> None:
    """containerd before 1.5 wrote no name of the pod."""
    notes = {cri.CONTAINERD.kind: "sandbox", cri.CONTAINERD.sandbox: ID}
    task(quiet, ID, guest, spec({"path": f"/proc/{guest}/ns/net"}, **notes))
    args = [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-1"]]
    told = {"kind": "cniCacheV1", "containerId": ID, "ifName": "eth0", "networkName": "cbr0", "cniArgs": args}
    (quiet / "results" / "a").write_text(json.dumps(told))
    assert of_containerd(quiet)[ID].pod == "shop/web-1"


@pytest.mark.lab
def test_others_of_containerd(quiet: Path, guest: int) -> None:
    task(quiet, "box", guest, spec({}), "default")
    task(quiet, OTHER, guest, spec({}, **{"nerdctl/name": "web", "com.docker.compose.project": "shop"}), "default")
    task(quiet, "gone", 4194303, spec({}), "default")
    task(quiet, "nopid", None, spec({}), "default")
    task(quiet, "broken", guest, b"[" * 100_000, "default")
    huge = task(quiet, "huge", guest, b"", "default") / "config.json"
    with huge.open("wb") as f:
        f.truncate(100 << 20)
    fifo = task(quiet, "fifo", guest, b"", "default") / "config.json"
    fifo.unlink()
    os.mkfifo(fifo)
    (quiet / containerd.TASKS / "default" / "empty").mkdir()
    found = of_containerd(quiet)
    assert {i: (c.name, c.netns == space(guest), c.state) for i, c in found.items()} == {
        "box": ("box", True, "running"),
        OTHER: ("web", True, "running"),
        "gone": ("gone", False, "exited"),
        "nopid": ("nopid", False, "exited"),
        "broken": ("broken", True, "running"),  # a name and a namespace are left
        "huge": ("huge", True, "running"),
    }
    assert found[OTHER].compose_project == "shop"


def test_no_time_is_left(quiet: Path) -> None:
    task(quiet, "box", 1, spec({}), "default")
    found = containerd.read(daemon("containerd", quiet), {}, -1.0)
    assert isinstance(found, Engine)
    assert [(m.code, bool(m.how)) for m in found.missing] == [("limit", True)]


@pytest.mark.parametrize(
    ("argv", "config", "state", "folder"),
    [
        ((), "", "/run/containerd", "/etc/cni/net.d"),
        ((), 'state = "/s"', "/s", "/etc/cni/net.d"),
        (("--state", "/k3s"), 'state = "/s"', "/k3s", "/etc/cni/net.d"),
        ((), 'state = 7\n[plugins."io.containerd.grpc.v1.cri".cni]\nconf_dir = "/c"', "/run/containerd", "/c"),
        ((), '[plugins."io.containerd.cri.v1.runtime".cni]\nconf_dir = "/d"', "/run/containerd", "/d"),
        ((), "state = [", "/run/containerd", "/etc/cni/net.d"),
        ((), 'state = "relative"', "/run/containerd", "/etc/cni/net.d"),
        ((), "a = " + "[" * 5000, "/run/containerd", "/etc/cni/net.d"),
    ],
)
def test_where_containerd_keeps_things(
    tmp_path: Path, argv: tuple[str, ...], config: str, state: str, folder: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config)
    words = ("containerd", "-c", str(path), *argv)
    assert containerd._state(None, words) == state
    assert containerd.cni_folder(containerd.config(None, words)) == folder


def test_dockerd_s_containers_are_told_once() -> None:
    both = tuple(Container(id=x, name=x, engine="containerd", namespace="moby") for x in (ID, OTHER))
    engine = Engine(kind="containerd", socket="", containers=both)
    assert [c.id for c in containerd.without_docker_s(engine, frozenset({ID})).containers] == [OTHER]


def test_a_folder_that_is_not_ours(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(root: str | None, path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(containerd.within, "listed", refused)
    found = containerd.read(daemon("containerd", quiet), {}, 5.0)
    assert isinstance(found, Missing)
    assert (found.code, bool(found.how)) == ("permission", True)
    found = crio.read(daemon("cri-o", quiet), {}, 5.0)
    assert isinstance(found, Missing) and found.code == "permission"
    monkeypatch.setattr(containerd, "_parent", lambda pid: 9)
    monkeypatch.setattr(containerd.procfs, "maybe", lambda path, limit=0: "dockerd" if path == "/proc/9/comm" else "")
    assert isinstance(containerd.read(daemon("containerd", quiet), {}, 5.0), Engine), "dockerd speaks for its own"


# --- cri-o -----------------------------------------------------------------------------------------------------------


@pytest.mark.lab
def test_a_pod_of_crio(quiet: Path, guest: int) -> None:
    keys = cri.CRIO
    pod = {keys.space: "shop", keys.pod: "web-1", keys.sandbox: ID}
    path = {"path": f"/proc/{guest}/ns/net"}

    def put(name: str, told: dict[str, Any], pid: int | None) -> None:
        folder = quiet / crio.CONTAINERS / name / "userdata"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(told))
        if pid is not None:
            (folder / "pidfile").write_text(str(pid))

    put(ID, spec(path, **{keys.kind: "sandbox", **pod}), None)  # without an infra container (drop_infra_ctr)
    put(OTHER, spec(path, **{keys.kind: "container", keys.name: "app", **pod}), guest)
    put("f2" * 32, spec(path, **{"io.container.manager": "libpod"}), guest)
    put("f3" * 32, spec(path, **{keys.kind: "container", keys.name: "old", **pod}), 4194303)
    found = crio.read(daemon("cri-o", quiet), {}, 5.0)
    assert isinstance(found, Engine)
    assert [(c.name, c.pod, c.sandbox, c.state, c.netns) for c in found.containers] == [
        ("web-1", "shop/web-1", True, "running", space(guest)),
        ("app", "shop/web-1", False, "running", space(guest)),
        ("old", "shop/web-1", False, "exited", ""),
    ]
    assert {c.engine for c in found.containers} == {"cri-o"}


@pytest.mark.parametrize(
    ("main", "more", "expected"),
    [
        ("", {}, ("", "")),
        ('[crio]\nrunroot = "/r"\n[crio.network]\nnetwork_dir = "/n"', {}, ("/r", "/n")),
        ('[crio]\nrunroot = "/r"', {"10-a": '[crio]\nrunroot = "/s"', "20-b": "[[["}, ("/s", "")),
        ("crio = 7", {}, ("", "")),
    ],
)
def test_crio_s_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, main: str, more: dict[str, str], expected: tuple[str, str]
) -> None:
    (tmp_path / "crio.conf").write_text(main)
    (tmp_path / "d").mkdir()
    for name, text in more.items():
        (tmp_path / "d" / name).write_text(text)
    monkeypatch.setattr(crio, "CONFIG", str(tmp_path / "crio.conf"))
    monkeypatch.setattr(crio, "MORE", str(tmp_path / "d"))
    assert (crio._setting(None, "runroot"), crio._setting(None, "network_dir", section="network")) == expected


# --- namespaces as others see them -----------------------------------------------------------------------------------


@pytest.mark.lab
def test_a_namespace_by_path_and_process(tmp_path: Path, guest: int) -> None:
    asked = daemon("containerd", tmp_path)
    assert spaces.at_path(asked, f"/proc/{guest}/ns/net") == spaces.of_process(asked, guest) == space(guest)
    assert spaces.at_path(asked, f"/proc/{guest}/task/{guest}/ns/net") == space(guest)
    for path in ("", "/etc/passwd", f"/proc/{guest}/ns/mnt", "/proc/x/ns/net", "/none", "a\0b", str(tmp_path)):
        assert spaces.namespace(asked, path, 0) == "", path
    os.mkfifo(tmp_path / "fifo")
    assert spaces.at_path(asked, str(tmp_path / "fifo")) == ""
    assert spaces.of_process(asked._replace(pid=0), guest) == "", "nobody in sight who counts as it does"


def test_a_false_proc_does_not_lead_to_us(tmp_path: Path) -> None:
    """A container may put at /proc/N/ns/net of its root whatever it likes: a link there would be followed from here."""
    (tmp_path / "proc" / "5" / "ns").mkdir(parents=True)
    (tmp_path / "proc" / "5" / "ns" / "net").symlink_to("/proc/self/ns/net")
    (tmp_path / "netns").symlink_to("/proc/self/ns/net")
    asked = daemon("containerd", "/", root=str(tmp_path))
    assert spaces.of_process(asked, 5) == ""
    assert spaces.at_path(asked, "/netns") == ""


def test_every_kind_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    monkeypatch.setattr(processes, "by_name", lambda names: asked.append(set(names)) or {})
    monkeypatch.setattr(daemons, "find", lambda pids: ())
    assert kinds.find() == ()
    assert kinds.find(("podman",)) == ()
    assert asked == [{"dockerd", "podman", "conmon", "containerd", "crio"}, {"podman", "conmon"}]
    assert conmon.monitored(()) is None and EngineNetwork(id="", name="", driver="overlay").is_underlay
