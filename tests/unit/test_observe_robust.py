"""What vanishes, what is refused, what is large, what is named oddly: always an answer, and always home again."""

import os
import resource
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import netlab
import pytest

from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.host import netns
from pathfit.observe import discover, kernel

pytestmark = pytest.mark.lab
DETAILS: tuple[Literal["light", "survey", "full"], ...] = ("light", "survey", "full")


@pytest.fixture
def net() -> Iterator[netlab.Net]:
    with netlab.nets() as lab:
        yield lab


def here() -> str:
    st = os.stat(netns.OWN)
    return f"{st.st_dev}:{st.st_ino}"


def of(host: HostSnapshot, where: str) -> NetnsSnapshot:
    (found,) = [n for n in host.namespaces if where in (n.where, *n.names)]
    return found


# --- things that vanish -----------------------------------------------------------------------------------------------

CHURN = """
i=0
while :; do i=$((i + 1)); n=$1-x$((i % 5))
  ip netns add $n; ip -n $n link add e0 type veth peer name e1; ip -n $n link set e0 up
  ip -n $n addr add 10.9.0.1/24 dev e0; ip -n $n route add 10.8.0.0/16 via 10.9.0.2
  ip link add c0 netns $1-stable type veth peer name c1 netns $n
  ip netns exec $n true; unshare --net true; ip -n $n link del e0; ip netns del $n
done
"""


@contextmanager
def churn(prefix: str) -> Iterator[None]:
    """Namespaces, links and processes that come and go as fast as they can."""
    with subprocess.Popen(
        ["sh", "-c", CHURN, "churn", prefix], stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, 9)
            process.wait()
            for name in [f"{prefix}-x{n}" for n in range(5)]:
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.parametrize("detail", DETAILS)
def test_what_goes_meanwhile_is_no_error(net: netlab.Net, detail: Literal["light", "survey", "full"]) -> None:
    net.add("stable")
    net.ip("stable", "addr add 10.7.0.1/24 dev lo")
    home, came = here(), set()
    with churn(net.prefix):
        until, rounds = time.monotonic() + 30, 0
        while (rounds < 20 or len(came) < 8) and time.monotonic() < until:
            rounds += 1
            host = kernel.read_host(None, "all", detail)
            assert here() == home
            stable = of(host, f"netns:{net('stable')}")
            assert "10.7.0.1" in [a.address for a in stable.addresses]
            assert [link.name for link in stable.links][:1] == ["lo"]
            msgspec.json.encode(host)
            came |= {n.id for n in host.namespaces}
    assert len(came) >= 8, "nothing came and went"


# --- the way home -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("after", [1, 2, 5, 9])
@pytest.mark.parametrize("detail", DETAILS)
def test_it_comes_home_from_anywhere(
    net: netlab.Net, monkeypatch: pytest.MonkeyPatch, detail: Literal["light", "survey", "full"], error: Any, after: int
) -> None:
    """Whatever is raised at the nth receiving, in whichever namespace that is."""
    from pathfit.host.nlsocket import NetlinkSocket

    net.add("one", "two")
    home, receive, count, away = here(), NetlinkSocket._receive, 0, set()

    def broken(self: NetlinkSocket) -> bytes:
        nonlocal count
        away.add(here())
        if here() != home:
            count += 1
            if count > after:
                raise error
        return receive(self)

    monkeypatch.setattr(NetlinkSocket, "_receive", broken)
    files = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        kernel.read_host(None, "all", detail)
    assert here() == home
    assert away > {home}
    assert sorted(os.listdir("/proc/self/fd")) == files


# --- refused ----------------------------------------------------------------------------------------------------------

UNPRIVILEGED = """
import ctypes, importlib, os, pkgutil, resource, sys
from pathfit import observe
from pathfit.observe import kernel
for module in pkgutil.walk_packages(observe.__path__, "pathfit.observe."):  # later our own files may not be readable
    importlib.import_module(module.name)
from pathfit.core.request import ReadState
from pathfit.live import LiveWorld
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for detail in ("light", "survey", "full"):
    host = kernel.read_host(None, "all", detail)
    own = [n for n in host.namespaces if n.id == host.own]
    assert own and own[0].links, detail
    assert not host.complete
    refused = [m for m in (*host.missing, *own[0].missing) if m.code == "permission"]
    assert refused and all(m.how for m in refused), detail
with LiveWorld() as world:
    answers = world.perform(ReadState(ref="s", source="host", detail="survey", sockets=True))
print("as", os.geteuid(), type(answers[0]).__name__)
"""


def test_an_ordinary_user_is_told_what_is_missing(net: netlab.Net) -> None:
    net.add("one")
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "as 65534 StateFact"), done.stderr


def test_more_namespaces_than_files_may_be_open(net: netlab.Net) -> None:
    """The soft limit is raised as far as may be; what then cannot be opened is missing, not fatal."""
    net.add("one")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(os.listdir("/proc/self/fd")) + 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        host = kernel.read_host(None, "all", "light")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > low
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert of(host, f"netns:{net('one')}").links


# --- large ------------------------------------------------------------------------------------------------------------


def measured(what: str, read: Callable[[], HostSnapshot]) -> HostSnapshot:
    """Time and memory of a read, printed: to be looked at, not judged by a clock."""
    start = time.perf_counter()
    host = read()
    took = time.perf_counter() - start
    del host
    tracemalloc.start()
    try:
        host = read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{what}: {took * 1e3:.0f} ms, {peak / 1e6:.0f} MB at most")
    assert peak < 400e6
    return host


def test_a_hundred_thousand_routes(net: netlab.Net) -> None:
    net.add("big")
    net.batch("big", "link add e0 type veth peer name e1\naddr add 10.0.0.1/24 dev e0\nlink set e0 up\nlink set e1 up")
    lines = [f"route add 11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 via 10.0.0.2" for n in range(100_000)]
    subprocess.run(["ip", "-n", net("big"), "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=120)
    with netns.open_handle(f"/run/netns/{net('big')}", "netns:big") as handle:
        host = measured("100 000 routes", lambda: kernel.read_host(handle, "source"))
    snapshot = of(host, "netns:big")
    mine = [r for r in snapshot.routes if r.dst.startswith("11.")]
    assert len(mine) == len({r.dst for r in mine}) == 100_000
    assert not [m for m in snapshot.missing if "routes" in m.what]


def test_ten_thousand_forwarding_entries(net: netlab.Net) -> None:
    net.add("big")
    net.batch("big", "link add vx0 type vxlan id 1 dstport 4789 local 10.0.0.1\nlink set vx0 up")
    lines = [
        f"fdb add 02:00:00:00:{n >> 8:02x}:{n & 255:02x} dev vx0 dst 10.9.{n >> 8}.{n & 255}" for n in range(10_000)
    ]
    words = ["bridge", "-n", net("big"), "-batch", "-"]
    subprocess.run(words, input="\n".join(lines), text=True, check=True, timeout=120)
    with netns.open_handle(f"/run/netns/{net('big')}", "netns:big") as handle:
        host = measured("10 000 forwarding entries", lambda: kernel.read_host(handle, "source"))
    remotes = {f.remote for f in of(host, "netns:big").fdb if f.remote}
    assert len(remotes) == 10_000


# --- named oddly ------------------------------------------------------------------------------------------------------

ODD_FILES = ["with space", "línea", "two\nlines", "-n", "--help", "$(id)", "a" * 200, os.fsdecode(b"\xff\xfe")]
ODD_LINKS = ["-n", "--help", "fifteen_bytes_x", "ünïcode", "dot.7", "a@b", "$(id)"]


def test_odd_names_of_namespaces(net: netlab.Net) -> None:
    """They are files: any byte but "/" may stand in their names."""
    home = here()
    paths = [f"/run/netns/{net.prefix}{name}" for name in ODD_FILES]
    net.add("keep")  # makes /run/netns a mount
    try:
        for path in paths:
            with open(path, "x"):
                pass
            subprocess.run(["unshare", f"--net={path}", "true"], check=True)
        ids = {path: discover._identity(path) for path in paths}
        for detail in DETAILS:
            host = kernel.read_host(None, "all", detail)
            assert set(ids.values()) <= {n.id for n in host.namespaces}
            again = msgspec.json.decode(msgspec.json.encode(host), type=HostSnapshot)
            assert again == host
    finally:
        for path in paths:
            subprocess.run(["umount", "--", path], check=False, capture_output=True)
            if os.path.exists(path):
                os.unlink(path)
    assert here() == home


def test_odd_names_of_links(net: netlab.Net) -> None:
    net.add("odd")
    for n, name in enumerate(ODD_LINKS):
        with netns.open_handle(f"/run/netns/{net('odd')}", "x") as handle, netns.inside(handle.fd):
            rename(n, name, net("odd"))
    host = kernel.read_host(None, "all")
    found = of(host, f"netns:{net('odd')}")
    assert set(ODD_LINKS) <= {link.name for link in found.links}
    assert msgspec.json.decode(msgspec.json.encode(host), type=HostSnapshot) == host
    for name in ODD_LINKS:
        assert found.sysctls[f"ipv4.conf.{name}.forwarding"] in "01"


def rename(n: int, name: str, where: str) -> None:
    """A veth under a name that `ip` might take for an option: through netlink."""
    from pyroute2 import NetNS

    with NetNS(where) as ns:
        ns.link("add", ifname=f"v{n}", kind="veth", peer={"ifname": f"w{n}"})
        index = ns.link_lookup(ifname=f"v{n}")[0]
        ns.link("set", index=index, ifname=name)


# --- hidden -----------------------------------------------------------------------------------------------------------


def test_where_docker_keeps_them(net: netlab.Net) -> None:
    """/run/docker/netns holds what containers and overlay networks live in; `ip netns` does not look there."""
    folder = discover.ENGINES_OWN
    made = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/{net.prefix}"
    with open(path, "x"):
        pass
    try:
        subprocess.run(["unshare", f"--net={path}", "true"], check=True)
        found = discover._identity(path)
        for detail in DETAILS:
            host = kernel.read_host(None, "all", detail)
            (one,) = [n for n in host.namespaces if n.id == found]
            assert f"netns:{path}" in (one.where, *one.names)
    finally:
        subprocess.run(["umount", path], check=False, capture_output=True)
        os.unlink(path)
        if made:
            os.removedirs(folder)


def test_threads_do_not_stay_away(net: netlab.Net) -> None:
    """A scan in one thread moves no other one."""
    net.add("one", "two", "three")
    home, seen, stop = here(), set(), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(here())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for detail in DETAILS:
            kernel.read_host(None, "all", detail)
    finally:
        stop.set()
        thread.join()
    assert seen == {home}
