"""What the tests of repairs share: a small network with everything a repair must not lose, and ways to be killed.

``a`` is a host with a bridge, ``b`` a container behind it with addresses, routes and neighbours of every kind. Nothing
is linked to anything outside.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from netlab import STATE, Net
from ovsdb_stand_in import Database

from pathfit import __version__
from pathfit.apply import sequence
from pathfit.apply.store import Store
from pathfit.core.change import (
    AddNftTable,
    Change,
    FlushRouteCache,
    SetForwarding,
    SetLinkMtu,
    SetOvsMtu,
    SetRouteMtu,
    WriteFile,
)
from pathfit.core.journal import SCHEMA, Chosen, Journal, StepRecord

CONTAINER = """
    addr add fd00::2/64 dev eth0
    addr add fd00:9::2/64 dev eth0 nodad
    addr add fd00:8::2/64 dev eth0 noprefixroute valid_lft 3000 preferred_lft 2000
    addr add 198.18.1.2/24 dev eth0
    addr add 198.18.5.5/24 dev eth0 label eth0:x
    route add default via 198.18.1.1 proto static initcwnd 12 quickack 1
    route add 198.18.77.0/24 via 198.18.1.1 mtu lock 1450 advmss 1300
    route add default via fd00::1 proto static
    route add fd77::/48 via fd00::1 mtu 1400
    route add fd78::/48 via fd00::1 metric 5
    route add fd79::/48 nexthop via fd00::1 nexthop via fd00::7
    neigh add fd00::55 lladdr 02:00:00:00:00:55 dev eth0 nud permanent
    neigh add proxy fd00::66 dev eth0
"""
SCRIPT = """table inet pathfit {
  chain clamp {
    type filter hook forward priority -150 ; policy accept ;
    tcp flags & (syn | rst) == syn tcp option maxseg size > 1360 tcp option maxseg size set 1360
  }
}
"""


OVERLAY = "link add vx0 type vxlan id 7 dstport 4789 local 198.18.1.1 nolearning\nlink set vx0 master br0 up"
STATION, RIGHT, WRONG = "02:00:00:00:00:77", "198.18.9.3", "198.18.9.2"


def build(net: Net, *, user_bridge: bool = False) -> None:
    """The network of the module's docstring. ``user_bridge``: somebody has written the bridge's MTU."""
    net.add("a", "b")
    net.batch("a", "link add br0 type bridge\nlink set br0 up\naddr add fd00::1/64 dev br0")
    if user_bridge:
        net.batch("a", "link set br0 mtu 1400\nlink set br0 mtu 1500")  # the same value again would be no change
    net.ip("a", f"link add vb type veth peer name eth0 netns {net('b')}")
    net.ip("a", "link set vb master br0 up")
    net.ip("b", "link set eth0 up")
    net.batch("b", CONTAINER)
    net.batch("a", OVERLAY)
    entry = ("bridge", "fdb", "add", STATION, "dev", "vx0", "dst", WRONG)
    net.inside("a", *entry, "self", "permanent", "port", "8472", "vni", "9")
    net.inside("b", "sysctl", "-qw", "net.ipv6.conf.eth0.mtu=1450", "net.ipv6.neigh.eth0.retrans_time_ms=700")
    net.inside("b", "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0", "net.ipv6.conf.eth0.hop_limit=61")


def state(net: Net) -> str:
    """The same of a small network, and what tests/accept/state.py leaves out of IPv6."""
    words = [sys.executable, str(STATE), f"{net.prefix}-"]  # these namespaces ask for no duplicates (netlab)
    text = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    for name in net.names:
        text += net.ip(name, "neigh show nud permanent") + net.ip(name, "neigh show proxy")
        entries = net.inside(name, "bridge", "fdb", "show").splitlines()
        text += "".join(f"{x}\n" for x in entries if " dst " in x)
        text += net.inside(name, "sysctl", "-a", "-r", "^net\\.ipv6\\.(conf|neigh)\\.(eth0|br0|vb)\\.")
    return text


def identity(net: Net, name: str) -> dict[str, str]:
    """How changes name a namespace."""
    st = os.stat(f"/run/netns/{net(name)}")
    return {"netns": f"{st.st_dev}:{st.st_ino}", "where": f"netns:{net(name)}"}


def index(net: Net, name: str, link: str) -> int:
    return int(net.ip(name, f"-o link show {link}").split(":")[0])


def route(net: Net, family: int, mtu: int, **more: object) -> SetRouteMtu:
    """The default route of the container, or another one."""
    via = "198.18.1.1" if family == 4 else "fd00::1"
    values = {"family": family, "table": 254, "dst": "", "prefix": 0, "via": via, "link": index(net, "b", "eth0")}
    values |= {"metric": 0 if family == 4 else 1024, "mtu": mtu, **identity(net, "b"), **more}
    return SetRouteMtu(**values)  # type: ignore[arg-type]


def links(net: Net, mtu: int) -> tuple[SetLinkMtu, ...]:
    """Both halves of the veth, and the bridge."""
    return tuple(
        SetLinkMtu(link=link, index=index(net, name, link), mtu=mtu, **identity(net, name))
        for name, link in (("b", "eth0"), ("a", "vb"), ("a", "br0"))
    )


def forwarding(net: Net, **more: str) -> SetForwarding:
    values = {"mac": STATION, "remote": RIGHT, "old": WRONG, **identity(net, "a"), **more}
    return SetForwarding(link="vx0", index=index(net, "a", "vx0"), **values)


def table(net: Net) -> AddNftTable:
    return AddNftTable(family="inet", name="pathfit", script=SCRIPT, **identity(net, "a"))


def cache(net: Net) -> FlushRouteCache:
    return FlushRouteCache(family=4, **identity(net, "b"))


def files(folder: Path) -> tuple[WriteFile, WriteFile]:
    """One that is changed and one that is made, in a folder that is not there."""
    changed, made = folder / "daemon.json", folder / "conf.d" / "deep" / "new.conf"
    changed.write_text('{ "debug": true }\n')
    changed.chmod(0o640)
    return (
        WriteFile(path=str(changed), old='{ "debug": true }\n', new='{ "debug": true, "mtu": 1400 }\n'),
        WriteFile(path=str(made), old=None, new="mtu=1400\n"),
    )


def ovs(folder: Path) -> tuple[SetOvsMtu]:
    """An interface whose MTU nobody has requested."""
    return (SetOvsMtu(socket=Database(folder / "ovs.json", "br0").path, interface="br0", mtu=1400),)


def tree(folder: Path) -> dict[str, tuple[str, bytes, int, int]]:
    """Every file and folder: kind, content, mode, owner."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = ("d" if path.is_dir() else "f", data, what.st_mode, what.st_uid)
    return found


def journal(changes: tuple[Change, ...]) -> Journal:
    return Journal(
        schema=SCHEMA,
        version=__version__,
        id=sequence.new_id(),
        state="planned",
        made=0.0,
        code="MTU101",
        fix=Chosen(id="x"),
        runner=sequence.runner(),
        steps=tuple(StepRecord(change=c) for c in changes),
    )


def repair(store: Store, changes: tuple[Change, ...]) -> Journal:
    """From the plan to the kept repair."""
    with store.locked("a test"):
        done = sequence.apply(store, sequence.prepare(store, journal(changes)))
        return sequence.keep(store, done)


class Killer:
    """A hook that ends its process with SIGKILL at the ``at``-th point, and names every point it passes."""

    def __init__(self, at: int) -> None:
        self.at, self.passed = at, list[str]()

    def __call__(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], object]) -> bool:
    """Run ``work`` in a process of its own: was it killed? Raises AssertionError when it failed otherwise."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, how = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(how) or os.WEXITSTATUS(how) == 0, "the repair itself failed"
    return os.WIFSIGNALED(how)


def points(folder: Path, work: Callable[[Store], object]) -> list[str]:
    """Every point that ``work`` passes when nobody ends it."""
    hook = Killer(0)
    work(Store(folder, hook))
    return hook.passed
