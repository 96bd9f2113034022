"""How long reading namespaces takes: light (links, addresses, main routes) and full, per namespace.

    python bench/observe.py [NAMESPACES]

Builds that many namespaces like containers (loopback and one veth to a common bridge, IPv4 and IPv6, a default
route), reads them, and removes them. Needs root, or a user namespace of one's own. With pyroute2 beside it.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from pathfit.host import netns
from pathfit.observe import discover, kernel, namespace, places
from pathfit.observe.features import Features

ROUNDS = 7


def build(prefix: str, count: int) -> list[str]:
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


def timed(what: str, count: int, run: Callable[[], object]) -> None:
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    each = [t / count * 1e6 for t in spent]
    print(f"{what:42} median {statistics.median(each):8.1f} us   best {min(each):8.1f} us   per namespace")


def only(handles: list[netns.NetnsHandle], detail: namespace.Detail) -> None:
    features = Features()
    with netns.wandering() as enter:
        for handle in handles:
            enter(handle.fd, handle.id)
            namespace.read(handle.id, handle.where, (), detail, features)


def pyroute2(names: list[str]) -> None:
    from pyroute2 import NetNS

    for name in names:
        with NetNS(name) as ns:
            list(ns.get_links())
            list(ns.get_addr())
            list(ns.get_routes(table=254))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    prefix = f"pfb{os.getpid()}"
    try:
        names = build(prefix, count)
        handles = [netns.open_handle(f"/run/netns/{n}", f"netns:{n}") for n in names]
        seen = len(discover.census().found)
        print(f"{count} namespaces built, {seen} on this machine")
        timed("light, namespaces at hand", count, lambda: only(handles, "light"))
        timed("full, namespaces at hand", count, lambda: only(handles, "full"))
        timed("finding all namespaces", seen, discover.census)
        timed("read_host light, all", seen, lambda: kernel.read_host(None, "all", "light"))
        timed("read_host full, all", seen, lambda: kernel.read_host(None, "all"))
        found = places.locate(f"netns:{names[0]}")
        assert isinstance(found, tuple)
        asked = kernel.Observer(found[0])
        timed("full around one, the rest in outline", seen, lambda: asked.state("state", "all"))
        timed("its filters again", seen, lambda: asked.rules("rules"))
        timed("read_host full, source and own", 2, lambda: kernel.read_host(found[0], "source"))
        timed("pyroute2 (links, addresses, routes)", 20, lambda: pyroute2(names[:20]))
    finally:
        for name in [f"{prefix}-hub", *(f"{prefix}-{i}" for i in range(count))]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
