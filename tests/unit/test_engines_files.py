"""Files of engines as strangers may have left them: another root, links out of it, no end, no sense."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.engine import Endpoint
from pathfit.host import within
from pathfit.observe.engines import cni, conmon, netavark, oci
from pathfit.observe.engines.daemons import Daemon

# --- below another root ----------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root in which links lead everywhere, and a secret beside it."""
    (tmp_path / "secret").write_text("ours")
    top = tmp_path / "root"
    for folder in ("etc", "run/x", "srv"):
        (top / folder).mkdir(parents=True)
    (top / "etc" / "file").write_text("theirs")
    (top / "run" / "x" / "deep").write_text("deep")
    (top / "var").symlink_to("/srv")
    (top / "srv" / "run").symlink_to("../run")
    (top / "etc" / "out").symlink_to(tmp_path / "secret")
    (top / "etc" / "up").symlink_to("../../../../../../../secret")
    (top / "etc" / "round").symlink_to("round")
    (top / "etc" / "ring").symlink_to("/etc/gnir")
    (top / "etc" / "gnir").symlink_to("/etc/ring")
    os.mkfifo(top / "etc" / "fifo")
    return top


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/file", b"theirs"),
        ("/etc/../etc/./file", b"theirs"),
        ("/../../etc/file", b"theirs"),
        ("/var/run/x/deep", b"deep"),  # an absolute link, and a relative one below it
    ],
)
def test_a_file_as_they_see_it(root: Path, path: str, text: bytes) -> None:
    assert within.read(str(root), path, 100) == text
    assert within.read(str(root), path, 3) == text[:3]
    assert Path(within.resolved(str(root), path)).resolve() == Path(within.resolved(str(root), path))


@pytest.mark.parametrize(
    "path", ["/etc/out", "/etc/up", "/etc/round", "/etc/ring", "/etc/fifo", "/etc", "/", "/etc/none", "/etc/file/x"]
)
def test_no_way_out_and_no_waiting(root: Path, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        within.read(str(root), path, 100)
    assert len(os.listdir("/proc/self/fd")) == before, "files are left open"


def test_our_own_files_are_bounded_as_well(root: Path) -> None:
    assert within.read(None, str(root / "etc" / "file"), 100) == b"theirs"
    with pytest.raises(OSError, match="no regular file"):
        within.read(None, str(root / "etc" / "fifo"), 100)


def test_entries_of_a_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert within.listed(str(root), "/var/run") == ["x"]
    assert within.listed(str(root), "/none") == within.listed(str(root), "/etc/file") == []
    for n in range(20):
        (root / "run" / "x" / f"f{n:02}").touch()
    monkeypatch.setattr(within, "ENTRIES", 5)
    assert len(within.listed(str(root), "/run/x")) == 5


def huge(path: Path) -> None:
    """A file of 100 MB that takes no room."""
    with path.open("wb") as f:
        f.truncate(100 << 20)


def here(root: Path) -> Daemon:
    return Daemon("podman", "", "", pid=os.getpid(), root=str(root))


# --- CNI -------------------------------------------------------------------------------------------------------------

BRIDGE = {"type": "bridge", "bridge": "cni7", "mtu": 1450, "ipam": {"type": "host-local", "subnet": "198.19.10.0/24"}}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"name": "a", "plugins": [BRIDGE, {"type": "portmap", "mtu": 9}]}, ("a", "bridge", 1450, "cni7")),
        ({"name": "a", "type": "macvlan", "mtu": 1400}, ("a", "macvlan", 1400, "")),
        ({"name": "a", "type": "bridge"}, ("a", "bridge", None, "cni0")),
        ({"name": "a", "type": "bridge", "mtu": 0}, ("a", "bridge", None, "cni0")),
        ({"name": "a", "type": "bridge", "mtu": 1e300}, ("a", "bridge", None, "cni0")),
        ({"name": "a", "type": "bridge", "mtu": [1]}, ("a", "bridge", None, "cni0")),
        (
            {"name": "cbr", "plugins": [{"type": "flannel", "delegate": {"mtu": 1410, "bridge": "f0"}}]},
            ("cbr", "flannel", 1410, "f0"),
        ),
        ({"name": "k8s", "plugins": [{"type": "calico", "mtu": 1440}]}, ("k8s", "calico", 1440, "")),
        ({"plugins": [{"type": "bridge", "name": "inner"}]}, ("inner", "bridge", None, "cni0")),
    ],
)
def test_a_cni_network(told: dict[str, Any], expected: tuple[object, ...]) -> None:
    found = cni.network(json.dumps(told).encode())
    assert (found.name, found.driver, found.mtu, found.bridge) == expected


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'{"name": "a"}', b'{"type": "bridge"}', b"[" * 100_000, b"\xff", b'{"a":' * 50_000]
)
def test_no_cni_network(raw: bytes) -> None:
    with pytest.raises(ValueError):
        cni.network(raw)


def test_subnets_of_a_cni_network() -> None:
    ranges = [[{"subnet": "198.19.1.0/24"}, {"subnet": "198.19.2.0/24"}], [{"subnet": "2001:db8::/64"}], "x", [7]]
    raw = json.dumps({"name": "a", "type": "bridge", "ipam": {"ranges": ranges}}).encode()
    assert cni.network(raw).subnets == ("198.19.1.0/24", "198.19.2.0/24", "2001:db8::/64")


RESULT = {
    "kind": "cniCacheV1",
    "containerId": "box",
    "ifName": "eth0",
    "networkName": "lab",
    "config": base64.b64encode(json.dumps({"name": "lab", "plugins": [BRIDGE]}).encode()).decode(),
    "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-1"]],
    "result": {
        "interfaces": [
            {"name": "cni7", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:AA", "sandbox": "/run/netns/x"},
        ],
        "ips": [{"address": "198.19.10.2/24", "interface": 1}, {"address": "no"}],
    },
}


def test_what_libcni_remembers() -> None:
    found = cni.attachment(json.dumps(RESULT).encode())
    assert found is not None
    assert (found.container, found.netns, found.pod) == ("box", "/run/netns/x", "shop/web-1")
    assert found.endpoint == Endpoint(
        network="lab", name="lab", addresses=("198.19.10.2",), mac="02:00:00:00:00:aa", link="eth0"
    )
    assert found.config is not None and found.config.mtu == 1450
    assert [n.name for n in cni.joined((), (found,))] == ["lab"], "its file went, the container is still in it"


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"containerId": ""}, {"containerId": 7}, {"networkName": None}],
)
def test_a_result_that_names_nobody(change: dict[str, Any]) -> None:
    assert cni.attachment(json.dumps({**RESULT, **change}).encode()) is None


@pytest.mark.parametrize(
    "change", [{"config": "%%%"}, {"config": 7}, {"config": base64.b64encode(b"[" * 9).decode()}, {"cniArgs": [[1]]}]
)
def test_a_result_loses_its_bad_fields(change: dict[str, Any]) -> None:
    found = cni.attachment(json.dumps({**RESULT, **change}).encode())
    assert found is not None and found.endpoint.addresses == ("198.19.10.2",)


def test_a_folder_of_cni_with_strangers_in_it(root: Path) -> None:
    folder = root / "etc" / "cni" / "net.d"
    folder.mkdir(parents=True)
    (folder / "10-a.conflist").write_text(json.dumps({"name": "a", "plugins": [BRIDGE]}))
    (folder / "20-deep.conf").write_bytes(b"[" * 100_000)
    huge(folder / "30-huge.conf")
    os.mkfifo(folder / "40-fifo.conf")
    (folder / "50-round.conf").symlink_to("50-round.conf")
    (folder / "60-out.conf").symlink_to("/etc/passwd")
    (folder / "70-b.json").write_text(json.dumps({"name": "b", "type": "ptp"}))
    (folder / "README").write_text("{}")
    assert len(within.read(str(root), "/etc/cni/net.d/30-huge.conf", cni.FILE + 1)) == cni.FILE + 1
    assert [(n.name, n.file) for n in cni.networks(here(root))] == [
        ("a", "/etc/cni/net.d/10-a.conflist"),
        ("b", "/etc/cni/net.d/70-b.json"),
    ]
    results = root / "var-lib-cni"
    results.mkdir()
    assert cni.attachments(here(root)) == ()


def test_no_end_of_cni_s_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "etc" / "cni" / "net.d"
    folder.mkdir(parents=True)
    for n in range(9):
        (folder / f"{n}.conf").write_text(json.dumps({"name": f"n{n}", "type": "bridge"}))
    one = len((folder / "0.conf").read_bytes())
    monkeypatch.setattr(cni, "BYTES", 3 * one)
    assert [n.name for n in cni.networks(here(root))] == ["n0", "n1", "n2"]
    monkeypatch.setattr(cni, "FILES", 2)
    assert [n.name for n in cni.networks(here(root))] == ["n0", "n1"]


# --- netavark --------------------------------------------------------------------------------------------------------

WEB = {
    "name": "web",
    "id": "ab" * 32,
    "driver": "bridge",
    "network_interface": "podman1",
    "subnets": [{"subnet": "198.19.9.0/24", "gateway": "198.19.9.1"}],
    "internal": False,
    "options": {"mtu": "1400"},
    "labels": {"com.docker.compose.project": "shop"},
}


def test_a_netavark_network() -> None:
    found = netavark.network(WEB, "/etc/containers/networks/web.json")
    assert (found.name, found.driver, found.mtu, found.bridge, found.default) == (
        "web",
        "bridge",
        1400,
        "podman1",
        False,
    )
    assert (found.subnets, found.compose_project, found.id) == (("198.19.9.0/24",), "shop", "ab" * 32)


@pytest.mark.parametrize("mtu", ["1e3", -1, "65536", True, None, [], {}, "²", 10**40])
def test_a_netavark_mtu_of_no_sense(mtu: object) -> None:
    assert netavark.network({**WEB, "options": {"mtu": mtu}}).mtu is None


def test_netavark_s_folder(root: Path) -> None:
    folder = root / "etc" / "containers" / "networks"
    folder.mkdir(parents=True)
    (folder / "web.json").write_text(json.dumps(WEB))
    (folder / "deep.json").write_bytes(b"[" * 100_000)
    (folder / "list.json").write_text("[1]")
    huge(folder / "huge.json")
    os.mkfifo(folder / "fifo.json")
    (folder / "netavark.lock").touch()
    assert [(n.name, n.mtu, n.default) for n in netavark.networks(here(root))] == [
        ("web", 1400, False),
        ("podman", None, True),
    ]
    (folder / "podman.json").write_text(json.dumps({**WEB, "name": "podman", "options": {"mtu": "1300"}}))
    assert {n.name: n.mtu for n in netavark.networks(here(root))} == {"web": 1400, "podman": 1300}


# --- the OCI runtime's configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "netns"),
    [
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}]}}, "/run/netns/x"),
        ({"linux": {"namespaces": [{"type": "network"}]}}, ""),
        ({"linux": {"namespaces": [{"type": "pid"}]}}, None),
        ({"linux": {"namespaces": "x"}}, None),
        ({"linux": 7}, None),
        ({"linux": None}, None),
        ({}, None),
        ({"linux": {"namespaces": [{"type": "network", "path": 7}]}}, ""),
    ],
)
def test_where_a_container_s_network_is(told: dict[str, Any], netns: str | None) -> None:
    found = oci.spec(json.dumps({"hostname": "h", "annotations": {"a": "b", "c": 1}, **told}).encode())
    assert (found.netns, found.hostname, found.annotations) == (netns, "h", {"a": "b"})


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"[" * 100_000, b'{"linux":' * 50_000, b"\xff", b" " * oci.LIMIT])
def test_no_configuration(raw: bytes) -> None:
    with pytest.raises(ValueError):
        oci.spec(raw)


KEYS = ("name", "plugins", "type", "mtu", "ipam", "ranges", "annotations", "linux", "namespaces", "result", "options")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_some_value_or_none(told: object) -> None:
    raw = json.dumps(told).encode()
    for read in (cni.network, cni.attachment, oci.spec):
        try:
            read(raw)
        except ValueError:
            continue
    if isinstance(told, dict):
        netavark.network(told)
        cni.attachment(json.dumps({**RESULT, **told}).encode())


# --- conmon ----------------------------------------------------------------------------------------------------------

ID = "d0d1729eb389c4f52c93270a1ac4bb680a78348060dbb9f60a4d24760f1b219b"
CONMON = tuple(
    f"/usr/bin/conmon --api-version 1 -c {ID} -u {ID} -r /usr/bin/crun -b /g/overlay-containers/{ID}/userdata "
    f"-p /r/overlay-containers/{ID}/userdata/pidfile -n one --exit-dir /run/libpod/exits --full-attach -s "
    f"-l k8s-file:/x/ctr.log --log-level warning --runtime-arg --log-format=json "
    f"--conmon-pidfile /r/overlay-containers/{ID}/userdata/conmon.pid --exit-command /usr/bin/podman "
    f"--exit-command-arg --root --exit-command-arg /g --exit-command-arg --runroot --exit-command-arg /r "
    f"--exit-command-arg --network-config-dir --exit-command-arg  --exit-command-arg --network-backend "
    f"--exit-command-arg netavark --exit-command-arg container --exit-command-arg cleanup".split(" ")
)
NETAVARK = ("--network-backend", "netavark")


def test_what_a_monitor_says() -> None:
    found = conmon.monitored(CONMON)
    assert found == conmon.Monitored(
        id=ID,
        name="one",
        bundle=f"/g/overlay-containers/{ID}/userdata",
        pidfile=f"/r/overlay-containers/{ID}/userdata/pidfile",
        manager="podman",
        run="/r",
        graph="/g",
        backend="netavark",
        configs="",
        client=("/usr/bin/podman", "--root", "/g", "--runroot", "/r", *("--network-config-dir", ""), *NETAVARK),
    )
    assert not found.removes
    cleanup = (*CONMON[:-1], *("--rm", "--exit-command-arg"), CONMON[-1])
    assert (ends := conmon.monitored(cleanup)) is not None and ends.removes


def test_a_monitor_that_is_not_told_what_to_call_in_the_end() -> None:
    for driver in ("overlay", "vfs"):
        found = conmon.monitored(
            ("conmon", "-c", ID, "-p", f"/run/user/7/containers/{driver}-containers/{ID}/userdata/p")
        )
        assert found is not None and found.run == "/run/user/7/containers"


def test_a_monitor_of_crio() -> None:
    words = f"/usr/bin/conmon -b /run/containers/storage/overlay-containers/{ID}/userdata -c {ID} --exit-dir "
    words += "/var/run/crio/exits -l /var/log/pods/x.log -n k8s_POD_x -P /x/pidfile -p /run/y/pidfile -r /bin/crun"
    found = conmon.monitored(tuple(words.split()))
    assert found is not None and (found.manager, found.name) == ("cri-o", "k8s_POD_x")


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("",),
        ("conmon",),
        ("conmon", "-c"),
        ("conmon", "-c", "short"),
        ("conmon", "-c", ID.upper()),
        ("conmon", "--exec", "-c", ID),
        ("conmon", "-e", "-c", ID, "-n", "x"),
        ("conmon", "--exit-command", "podman", "--exit-command-arg", "-c", "--exit-command-arg", ID),
    ],
)
def test_no_monitor_of_a_container(argv: tuple[str, ...]) -> None:
    assert conmon.monitored(argv) is None
