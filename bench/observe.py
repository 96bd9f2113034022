"""How long reading namespaces takes, beside others in one run: microseconds for each namespace.

    python -m bench.observe [NAMESPACES]

Builds that many namespaces like containers (loopback and one veth to a common bridge, IPv4 and IPv6, a default
route), reads them, and removes them. Needs root, or a user namespace of one's own. The rounds of all readers take
turns, so that what else the machine does hits each of them; medians. Nothing decoded is remembered from one round to
the next. Beside ours: the least a Python program can do (open, enter, one socket, three dumps taken apart into
dictionaries), pyroute2, and `ip -all netns exec`, the last two on a sample.
"""

import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable

from pathfit.cli import isolation
from pathfit.core.request import ReadState
from pathfit.host import netns
from pathfit.live import LiveWorld
from pathfit.observe import discover, kernel
from pathfit.wire import ethtool, rtnl, rtnl_conf, rtnl_link, rtnl_near, rtnl_route

ROUNDS = 7
SAMPLE = 40
QUIET = 30.0  # seconds to wait at most until IPv6 of all new devices has said what it has to say

Readers = dict[str, tuple[int, Callable[[], object]]]


def build(prefix: str, count: int) -> list[str]:
    assert isolation.inside(), "namespaces are built under tools/isolated only"
    names = [f"{prefix}-{i}" for i in range(count)]
    batch(None, "\n".join(f"netns add {n}" for n in [f"{prefix}-hub", *names]))
    lines = ["link add br0 type bridge", "link set br0 up"]
    for i, name in enumerate(names):
        lines += [f"link add v{i} type veth peer name eth0 netns {name}", f"link set v{i} master br0 up"]
    batch(f"{prefix}-hub", "\n".join(lines))
    for i, name in enumerate(names):
        a, b = divmod(i, 250)
        batch(
            name,
            f"link set lo up\naddr add 10.77.{a}.{b + 1}/16 dev eth0\naddr add fd77::{i + 1:x}/64 dev eth0 nodad\n"
            "link set eth0 up\nroute add default via 10.77.255.254",
        )
    return names


def batch(where: str | None, lines: str) -> None:
    words = ["ip", *(["-n", where] if where else []), "-batch", "-"]
    subprocess.run(words, input=lines + "\n", text=True, check=True)


def settle(hub: str) -> None:
    """Until no packet crosses the bridge for a second."""
    until, last = time.monotonic() + QUIET, ""
    while time.monotonic() < until:
        words = ["ip", "netns", "exec", hub, "cat", "/sys/class/net/br0/statistics/rx_packets"]
        now = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        if now == last:
            return
        last = now
        time.sleep(1)


# --- the least there is to do ---------------------------------------------------------------------------------------

_HEAD, _ATTR = struct.Struct("=IH").unpack_from, struct.Struct("=HH").unpack_from
_LINKS, _ADDRESSES, _ROUTES = frozenset((1, 3, 4, 5, 10, 18, 37)), frozenset((1, 2)), frozenset((1, 4, 5, 8))
_buffer = bytearray(1 << 18)
_view = memoryview(_buffer)


def floor(paths: list[str]) -> list[tuple[list[dict[int, bytes]], ...]]:
    """Links, addresses and main routes as dictionaries of bytes: nothing decoded, nothing checked, nobody joined."""
    asked = (
        (rtnl.links(), 32, _LINKS),
        (rtnl.addresses(), 24, _ADDRESSES),
        (rtnl.routes(0, table=rtnl.TABLE_MAIN), 28, _ROUTES),
    )
    found = []
    with netns.wandering() as enter:
        for path in paths:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            enter(fd, netns.identity(fd))
            os.close(fd)
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
                sock.setsockopt(270, 12, 1)
                found.append(tuple(_dump(sock, *one) for one in asked))
    return found


def _dump(sock: socket.socket, request: bytes, start: int, wanted: frozenset[int]) -> list[dict[int, bytes]]:
    sock.send(request)
    found: list[dict[int, bytes]] = []
    while True:
        size = sock.recv_into(_buffer)
        data, at = bytes(_view[:size]), 0
        while at < size:
            length, kind = _HEAD(data, at)
            if kind <= 3:
                return found
            end, here = at + length, at + start
            values = {0: data[at + 16 : here]}
            while here < end:
                size_of, name = _ATTR(data, here)
                if name in wanted:
                    values[name] = data[here + 4 : here + size_of]
                here += (size_of + 3) & ~3
            found.append(values)
            at = (end + 3) & ~3


# --- others ---------------------------------------------------------------------------------------------------------


def pyroute2(names: list[str]) -> None:
    from pyroute2 import NetNS

    for name in names:
        with NetNS(name) as ns:
            list(ns.get_links())
            list(ns.get_addr())
            list(ns.get_routes(table=254))


def pyroute2_inside(names: list[str]) -> None:
    """Without a process for each namespace: entered by ourselves."""
    from pyroute2 import IPRoute

    for name in names:
        with netns.open_handle(f"/run/netns/{name}", name) as handle, netns.inside(handle.fd), IPRoute() as ip:
            list(ip.get_links())
            list(ip.get_addr())
            list(ip.get_routes(table=254))


def iproute2(names: list[str]) -> None:
    """What `ip -all netns exec ip …` does for each: a process, its own mounts, three commands."""
    for name in names:
        for words in ("link show", "addr show", "route show table main"):
            command = ["ip", "netns", "exec", name, "ip", "-json", *words.split()]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


# --- the table ------------------------------------------------------------------------------------------------------


def forget() -> None:
    for pattern in (rtnl_link.link, rtnl_link.read, rtnl_near.address, rtnl_near.neighbour, rtnl_near.fdb):
        pattern.forget()
    for other in (rtnl_route.route, ethtool.features, rtnl_conf.sysctls):
        other.forget()


def tour(detail: str, sockets: bool = False) -> Callable[[], object]:
    """What `pathfit scan` asks for, without container engines."""

    def run() -> object:
        with LiveWorld() as world:
            return world.perform(ReadState(ref="s", source="host", detail=detail, sockets=sockets))  # type: ignore[arg-type]

    return run


def readers(names: list[str], paths: list[str], seen: int) -> Readers:
    few = names[:SAMPLE]
    return {
        "the least in Python (links, addresses, routes as bytes)": (len(paths), lambda: floor(paths)),
        "finding all namespaces": (seen, discover.census),
        "light: links, addresses, main routes; all found, joined": (
            seen,
            lambda: kernel.read_host(None, "all", "light"),
        ),
        "survey: leaves lightly and checked, hubs in full": (seen, lambda: kernel.read_host(None, "all", "survey")),
        "survey and hung sockets, as scan asks": (seen, tour("survey", sockets=True)),
        "full": (seen, lambda: kernel.read_host(None, "all", "full")),
        f"pyroute2 IPRoute, entered by us ({len(few)})": (len(few), lambda: pyroute2_inside(few)),
        f"pyroute2 NetNS ({len(few)})": (len(few), lambda: pyroute2(few)),
        f"ip netns exec ip … ({len(few)})": (len(few), lambda: iproute2(few)),
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    prefix = f"pfb{os.getpid()}"
    try:
        names = build(prefix, count)
        settle(f"{prefix}-hub")
        seen = len(discover.census().found)
        paths = [f"/run/netns/{n}" for n in [f"{prefix}-hub", *names]]
        print(
            f"{count} namespaces built, {seen} on this machine; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
        )
        print(f"{'us for each namespace, of ' + str(ROUNDS) + ' rounds':58} {'median':>9} {'best':>9} {'CPU, best':>9}")
        table = readers(names, paths, seen)
        walls: dict[str, list[float]] = {what: [] for what in table}
        works: dict[str, list[float]] = {what: [] for what in table}
        for _ in range(ROUNDS):
            for what, (number, run) in table.items():
                forget()
                wall, work = time.perf_counter(), time.process_time()
                run()
                walls[what].append((time.perf_counter() - wall) / number * 1e6)
                works[what].append((time.process_time() - work) / number * 1e6)
        for what in table:
            wall, best, work = statistics.median(walls[what]), min(walls[what]), min(works[what])
            print(f"{what:58} {wall:9.1f} {best:9.1f} {work:9.1f}")
    finally:
        for name in [f"{prefix}-hub", *(f"{prefix}-{i}" for i in range(count))]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
