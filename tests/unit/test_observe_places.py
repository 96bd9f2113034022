"""A WHERE means one namespace, or says what there is instead."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import netlab
import pytest

from pathfit.core.evidence import PlaceFact
from pathfit.core.evidence_base import Missing
from pathfit.host import netns
from pathfit.observe import discover, kernel, places
from pathfit.observe.places import Where, WhereError, parse_where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", Where("host", "")),
        ("netns:a-b", Where("netns", "a-b")),
        ("netns:/run/netns/x", Where("netns", "/run/netns/x")),
        ("pid:812", Where("pid", "812")),
        ("container:ci:1", Where("container", "ci:1")),
        ("pod:ns/name", Where("pod", "ns/name")),
        ("far!container:ci", Where("container", "ci", "far")),
    ],
)
def test_where(text: str, expected: Where) -> None:
    assert parse_where(text) == expected


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("", "pid:N"),
        ("web", "container:web"),
        ("812", "pid:812"),
        ("netnss:a", "netns:a"),
        ("contianer:a", "container:a"),
        ("pid:x", "pid:1234"),
        ("pid:0", "pid:1234"),
        ("pid:99999999999999999999", "pid:1234"),
        ("pid:²", "pid:1234"),
        ("netns:", "netns:NAME"),
        ("host:x", "--from host"),
    ],
)
def test_no_where(text: str, how: str) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(text)
    assert how in caught.value.how
    found = places.locate(text, "p:1")
    assert isinstance(found, Missing)
    assert (found.code, found.ref) == ("malformed", "p:1")


@pytest.mark.parametrize("text", ["network:n", "far!host"])
def test_not_yet(text: str) -> None:
    found = places.locate(text)
    assert isinstance(found, Missing)
    assert found.code == "unsupported"
    assert found.how


def located(where: str) -> tuple[netns.NetnsHandle, PlaceFact]:
    found = places.locate(where, "p:1")
    assert not isinstance(found, Missing), found
    found[0].close()
    return found


def test_host_is_where_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("SECRET", "x")
    handle, fact = located("host")
    st = os.stat("/proc/self/ns/net")
    assert handle.id == fact.netns == f"{st.st_dev}:{st.st_ino}"
    assert fact.inside
    assert fact.ref == "p:1"
    assert fact.environ["HTTPS_PROXY"] == "http://proxy:3128"
    assert fact.environ["no_proxy"] == "localhost"
    assert all(k.lower().endswith("_proxy") for k in fact.environ)


def test_a_process_that_is_not_there() -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    found = places.locate(f"pid:{done.pid}")
    assert isinstance(found, Missing)
    assert f"no process {done.pid}" in found.why


def test_a_file_that_is_no_namespace() -> None:
    for path, why in (
        ("/etc/passwd", "not a network namespace"),
        ("/proc/self/ns/mnt", "not a network namespace"),
        ("/no/such", "no such file"),
    ):
        found = places.locate(f"netns:{path}")
        assert isinstance(found, Missing)
        assert why in found.why


@pytest.mark.parametrize("name", ["../../etc/passwd", ".", "..", "a/b"])
def test_names_do_not_leave_their_folder(name: str) -> None:
    assert isinstance(places.locate(f"netns:{name}"), Missing)


CONTAINER = uuid.uuid4().hex + uuid.uuid4().hex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", CONTAINER),
        (f"12:cpu:/docker/{CONTAINER}\n0::/\n", CONTAINER),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{CONTAINER}.scope\n", CONTAINER),
        (f"0::/machine.slice/libpod-{CONTAINER}.scope/container\n", CONTAINER),
        (f"0::/machine.slice/libpod-conmon-{CONTAINER}.scope\n", None),
        ("0::/user.slice/user-0.slice\n", None),
        ("", None),
    ],
)
def test_container_ids_in_cgroup_paths(monkeypatch: pytest.MonkeyPatch, text: str, expected: str | None) -> None:
    monkeypatch.setattr(discover.procfs, "maybe", lambda path, limit=0: text)
    assert discover.container_of(1) == expected


# --- on this kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> Iterator[netlab.Net]:
    with netlab.nets() as lab:
        lab.add("one")
        yield lab


@pytest.fixture
def sleeper(net: netlab.Net) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the namespace; it says when it is there and ends when its input does."""
    words = ["ip", "netns", "exec", net("one"), "env", "HTTP_PROXY=http://p:1", "PASSWORD=x", "sh", "-c", "echo; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()  # type: ignore[union-attr]


@pytest.mark.lab
def test_names_paths_and_processes_mean_the_same(net: netlab.Net, sleeper: subprocess.Popen[bytes]) -> None:
    by_name, fact = located(f"netns:{net('one')}")
    by_path, _ = located(f"netns:/run/netns/{net('one')}")
    by_pid, of_pid = located(f"pid:{sleeper.pid}")
    assert by_name.id == by_path.id == by_pid.id
    assert by_name.pid == sleeper.pid
    assert not fact.inside
    assert fact.privileged
    assert fact.environ == of_pid.environ == {"HTTP_PROXY": "http://p:1"}
    assert by_pid.mount_root == f"/proc/{sleeper.pid}/root"  # ip netns exec gives it mounts of its own


@pytest.mark.lab
def test_a_name_that_is_almost_right(net: netlab.Net) -> None:
    found = places.locate(f"netns:{net('onne')}")
    assert isinstance(found, Missing)
    assert f"netns:{net('one')}" in found.how


@pytest.mark.lab
def test_every_where_can_be_pasted_again(net: netlab.Net, sleeper: subprocess.Popen[bytes]) -> None:
    host = kernel.read_host(None, "all", "light")
    (mine,) = [n for n in host.namespaces if n.where == f"netns:{net('one')}"]
    assert f"pid:{sleeper.pid}" in mine.names
    for where in (mine.where, *mine.names):
        assert located(where)[1].netns == mine.id


@pytest.mark.lab
def test_a_namespace_only_a_process_keeps() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    words = ["unshare", "--net", "sh", "-c", "echo; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        host = kernel.read_host(None, "all")
        (found,) = [n for n in host.namespaces if f"pid:{process.pid}" in (n.where, *n.names)]
        assert [p.pid for p in found.processes][:1] == [process.pid]
        process.stdin.close()  # type: ignore[union-attr]


@pytest.mark.lab
def test_a_namespace_mounted_where_only_others_see_it(tmp_path: "os.PathLike[str]") -> None:
    """Engines keep namespaces mounted in mount namespaces of their own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = f"{tmp_path}/kept"
    script = (
        f"mount -t tmpfs none {tmp_path} && touch {place} && unshare --net={place} true && stat -Lc %i {place} && cat"
    )
    words = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        inode = process.stdout.readline().decode().strip()
        found = [f for f in discover.census().found if f.id.endswith(f":{inode}")]
        assert [f.path for f in found] == [f"/proc/{process.pid}/root{place}"]
        with netns.open_handle(found[0].path, "netns:x") as handle:
            assert handle.id == found[0].id
        process.stdin.close()  # type: ignore[union-attr]


@pytest.mark.lab
def test_a_plain_file_left_behind_is_no_namespace(net: netlab.Net) -> None:
    path = f"/run/netns/{net('left')}"
    with open(path, "w"):
        pass
    try:
        assert all(net("left") not in name for f in discover.census().found for name in f.names)
        found = places.locate(f"netns:{net('left')}")
        assert isinstance(found, Missing)
        assert "not a network namespace" in found.why
    finally:
        os.unlink(path)


@pytest.mark.lab
def test_a_namespace_only_an_open_file_keeps() -> None:
    """A link leads into it: then it is looked for, and what cannot be named is named by that file."""
    with netlab.nets() as net:
        net.add("seen", "hidden")
        net.ip("seen", f"link add eth0 type veth peer name eth0 netns {net('hidden')}")
        with netns.open_handle(f"/run/netns/{net('hidden')}", "x") as kept:
            netlab.run("ip", "netns", "del", net("hidden"))
            host = kernel.read_host(None, "all", "light")
            (seen,) = [n for n in host.namespaces if n.where == f"netns:{net('seen')}"]
            assert [link.peer_ns for link in seen.links if link.name == "eth0"] == [kept.id]
            (hidden,) = [n for n in host.namespaces if n.id == kept.id]
            assert located(hidden.where)[1].netns == kept.id


@pytest.mark.lab
def test_without_privileges(net: netlab.Net) -> None:
    """A child that gave them up: what it may not see is said, what it may see is there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # never returns into pytest
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            found = places.locate(f"netns:{net('one')}")
            host = kernel.read_host(None, "all", "light")
            own = [n for n in host.namespaces if n.id == host.own]
            answer = [
                isinstance(found, Missing) and found.code == "permission",
                not host.complete,
                any(net("one") in m.what and m.code == "permission" for m in host.missing),
                bool(own and own[0].links),
            ]
            os.write(writing, repr(answer).encode())
        except BaseException as e:
            os.write(writing, repr(e).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    assert said == repr([True, True, True, True])


def test_nobody_goes_where_there_is_no_way_back_from() -> None:
    """Root of a user namespace alone may enter what belongs to it, and not return to a namespace of the machine's."""
    script = """
import ctypes, os, sys
from pathfit.host import netns
if ctypes.CDLL(None).unshare(0x10000000):
    sys.exit("no user namespace")
there, say = os.pipe()
over, ours = os.pipe()
if (child := os.fork()) == 0:
    os.close(ours)
    ctypes.CDLL(None).unshare(0x40000000)
    os.write(say, b"x")
    os.read(over, 1)  # until the other one ends
    os._exit(0)
os.read(there, 1)
home = os.readlink("/proc/self/ns/net")
fd = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
for way in (lambda: netns.inside(fd), netns.wandering):
    try:
        with way() as enter:
            if enter is not None:
                enter(fd, "x")
            print("inside")
    except PermissionError:
        print("stayed", home == os.readlink("/proc/self/ns/net"))
"""
    done = subprocess.run([sys.executable, "-c", script], input="", capture_output=True, text=True, timeout=30)
    if "no user namespace" in done.stderr:
        pytest.skip("needs user namespaces")
    assert done.stdout.splitlines() == ["stayed True"] * 2, done.stderr
