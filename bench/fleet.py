"""A fleet from saved snapshots: `python bench/fleet.py [HOSTS] [CONTAINERS] [--seed N]` (2000 hosts of 100 containers).

Writes that many snapshot files: hosts of 320 different classes (uplink, networks, overlays, clamps, filters), all of
them healthy but for every tenth, in which one of eight faults is planted. Then `pathfit scan --in DIR --json` is run as
a whole command, and must find each planted fault on its host, and say nothing of any other. Exit status 1 when not.
"""

import argparse
import ipaddress
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core import codec
from pathfit.core.filters import Chain, Clamp, FilterRule, Match, Table, Verdict
from pathfit.core.snapshot import (
    SCHEMA,
    Address,
    BridgePort,
    FdbEntry,
    HostSnapshot,
    Kernel,
    Link,
    NetnsSnapshot,
    NextHop,
    Route,
    Vxlan,
)

CLASSES = 320
PLANTS = {  # fault -> the code that must name the host
    "uplink-smaller": "MTU103",
    "half-smaller": "MTU105",
    "too-big-dropped": "MTU107",
    "not-forwarding": "FLT403",
    "overlay-uneven": "MTU117",
    "stale-entry": "OVL301",
    "duplicate-address": "OVL302",
    "wrong-number": "OVL304",
}
OVERLAY = ("overlay-uneven", "stale-entry", "duplicate-address", "wrong-number")
GROUP = 6  # hosts of one overlay
UPLINKS = (1400, 1450, 1460, 1492, 1500, 4470, 8500, 8951, 9000, 9001)
LOOPBACK = Address(link=1, address="127.0.0.1", prefix=8, scope=254)
OFF = {"tso": False, "gso": False, "gro": False, "lro": False, "tx-checksum": False}


class Kind(NamedTuple):
    """A class of hosts. ``less``: bytes its containers have below the uplink; ``networks``: bridges; ``overlay``: it is
    in one; ``clamp``: containers may be larger, clamped both ways; ``filters``: rules of a firewall; ``v6``."""

    uplink: int
    less: int
    networks: int
    overlay: bool
    clamp: bool
    filters: int
    v6: bool
    release: str


def kind(n: int) -> Kind:
    """The n-th class: all of them different."""
    pick = random.Random(f"class {n}")
    return Kind(
        UPLINKS[n % len(UPLINKS)],
        (0, 50, 80, 100)[n // len(UPLINKS) % 4],
        1 + n // 40 % 4,
        n % 2 == 0,
        n % 7 == 3,
        pick.choice((0, 3, 12, 40)),
        n % 3 == 0,
        pick.choice(("5.10.0-30-amd64", "6.1.0-18-amd64", "6.8.0-40-generic", "5.14.0-427.el9.x86_64")),
    )


def host(n: int, containers: int, plant: str) -> HostSnapshot:
    """Host number ``n`` of the class it belongs to; ``plant`` "" = healthy."""
    k = kind(n // GROUP % CLASSES)
    size = k.uplink - k.less
    if plant == "uplink-smaller" or (k.clamp and not plant):
        size = k.uplink + 60
    made = _Host(n, k, size, plant)
    spaces = [made.container(i) for i in range(containers)]
    return HostSnapshot(
        schema=SCHEMA, version="0.1.0", host=f"node-{n:04}", boot_id=f"boot-{n}", kernel=Kernel(release=k.release),
        namespaces=(made.root(), *spaces), own="4:1",
    )  # fmt: skip


class _Host:
    """One host under construction: bridges, the devices of its containers, the overlay."""

    def __init__(self, n: int, k: Kind, size: int, plant: str) -> None:
        self.n, self.k, self.size, self.plant = n, k, size, plant
        self.address = str(ipaddress.ip_address("10.0.0.0") + 256 + n)
        self.overlay_mtu = k.uplink - 50 - (20 if plant == "overlay-uneven" else 0)
        self.ports: list[Link] = []

    def bridge(self, i: int) -> int:
        """Container ``i``'s bridge, 0 = the overlay's."""
        if self.k.overlay and i % 5 == 0:
            return 0
        return 1 + i % self.k.networks

    def container(self, i: int) -> NetnsSnapshot:
        at = self.bridge(i)
        size = self.overlay_mtu if at == 0 else self.size
        if at == 0:
            last = 2 + i if self.plant != "duplicate-address" or i else 2
            member = self.n % GROUP if self.plant != "duplicate-address" or i else (self.n + 1) % GROUP
            address, gateway, prefix = f"10.99.{member}.{last}", "10.99.255.254", 16
        else:
            address, gateway, prefix = f"172.{16 + at}.0.{2 + i}", f"172.{16 + at}.0.1", 16
        half = size - 100 if self.plant == "half-smaller" and i == 1 else size
        mac = f"02:{at:02x}:{self.n >> 8:02x}:{self.n & 255:02x}:00:{i:02x}"
        ident = f"4:{i + 10}"
        self.ports.append(
            Link(index=100 + i, name=f"veth{i}", mtu=half, kind="veth", peer=2, peer_nsid=i, peer_ns=ident,
                 master=10 + at, bridge_port=BridgePort(), features=OFF)
        )  # fmt: skip
        lo = Link(index=1, name="lo", mtu=65536, loopback=True, arp=False, arphrd=772)
        eth0 = Link(index=2, name="eth0", mtu=size, kind="veth", mac=mac, peer=100 + i, peer_nsid=0, peer_ns="4:1",
                    features=OFF)  # fmt: skip
        addresses = [
            Address(link=1, address="127.0.0.1", prefix=8, scope=254),
            Address(link=2, address=address, prefix=prefix),
        ]
        routes = [_connected(address, prefix, 2)]
        if at:
            routes.append(Route(family=4, table=254, dst="", prefix=0, hops=(NextHop(link=2, via=gateway),)))
        if self.k.v6:
            of_host = self.n % GROUP if at == 0 else 0  # an overlay's subnet lies across hosts
            addresses.append(Address(link=2, address=f"fd00:{at:x}::{of_host:x}:{2 + i:x}", prefix=64))
        return NetnsSnapshot(
            id=ident,
            where=f"netns:c{i}",
            links=(lo, eth0),
            addresses=tuple(addresses),
            routes=tuple(routes),
            plain=True,
        )

    def root(self) -> NetnsSnapshot:
        k = self.k
        links = [
            Link(index=1, name="lo", mtu=65536, loopback=True, arp=False, arphrd=772),
            Link(index=2, name="eth0", mtu=k.uplink, mac=f"06::{self.n >> 8:02x}:{self.n & 255:02x}", features=OFF,
                 driver="virtio_net"),
        ]  # fmt: skip
        addresses = [LOOPBACK, Address(link=2, address=self.address, prefix=16)]
        routes = [
            Route(family=4, table=254, dst="", prefix=0, hops=(NextHop(link=2, via="10.0.0.1"),)),
            _connected(self.address, 16, 2),
        ]
        for b in range(1, k.networks + 1):
            links.append(Link(index=10 + b, name=f"br-{b}", mtu=self.size, kind="bridge", features=OFF))
            addresses.append(Address(link=10 + b, address=f"172.{16 + b}.0.1", prefix=16))
            routes.append(_connected(f"172.{16 + b}.0.1", 16, 10 + b))
        fdb: tuple[FdbEntry, ...] = ()
        if k.overlay:
            links += list(self._overlay())
            fdb = tuple(self._entries())
        return NetnsSnapshot(
            id="4:1", where="host", links=(*links, *self.ports), addresses=tuple(addresses), routes=tuple(routes),
            fdb=fdb,
            tables=tuple(self._filters()),
            sysctls={"ipv4.ip_forward": str(int(self.plant != "not-forwarding")), "ipv6.conf.all.forwarding": "0"},
        )  # fmt: skip

    def _overlay(self) -> Iterator[Link]:
        number = 4000 + self.n // GROUP + (500 if self.plant == "wrong-number" else 0)
        vx = Vxlan(vni=number, local=self.address, port=4789)
        yield Link(index=10, name="br-ov", mtu=self.overlay_mtu, kind="bridge", features=OFF)
        yield Link(index=9, name="vx0", mtu=self.overlay_mtu, kind="vxlan", vxlan=vx, master=10,
                   bridge_port=BridgePort(),
                   features=OFF)  # fmt: skip

    def _entries(self) -> Iterator[FdbEntry]:
        first = self.n // GROUP * GROUP
        for other in range(first, first + GROUP):
            if other == self.n:
                continue
            remote = str(ipaddress.ip_address("10.0.0.0") + 256 + other)
            if self.plant == "stale-entry" and other == first + (self.n + 1 - first) % GROUP:
                remote = str(ipaddress.ip_address("10.0.0.0") + 256 + first + (self.n + 2 - first) % GROUP)
            mac = f"02:00:{other >> 8:02x}:{other & 255:02x}:00:00"
            yield FdbEntry(link=9, mac=mac, remote=remote, own=True, state="permanent")

    def _filters(self) -> Iterator[Table]:
        k = self.k
        if k.filters:
            tests = (
                (Match(field="saddr", values=(f"203.0.113.{i}/32",)), Match(field="l4proto", values=("6",)),
                 Match(field="dport", values=(str(9000 + i),)), Verdict(kind="drop"))
                for i in range(k.filters)
            )  # fmt: skip
            chain = Chain(
                name="f", hook="forward", rules=tuple(FilterRule(exprs=t, handle=i) for i, t in enumerate(tests))
            )
            yield Table(family="inet", name="corp", chains=(chain,))
        if k.clamp and not self.plant:
            syn = Match(field="tcpflags", values=("syn/syn,rst",))
            rule = FilterRule(exprs=(syn, Clamp(size=k.uplink - 60)))
            yield Table(
                family="inet", name="clamp", chains=(Chain(name="f", hook="forward", priority=-150, rules=(rule,)),)
            )
        if self.plant == "too-big-dropped":
            drop = FilterRule(
                exprs=(Match(field="l4proto", values=("1",)), Verdict(kind="drop")), text="ip protocol icmp drop"
            )
            yield Table(family="ip", name="quiet", chains=(Chain(name="o", hook="output", rules=(drop,)),))


def _connected(address: str, prefix: int, link: int) -> Route:
    net = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    return Route(family=4, table=254, dst=str(net.network_address), prefix=prefix, hops=(NextHop(link=link),),
                 scope=253,
                 prefsrc=address, protocol=2)  # fmt: skip


def plants(hosts: int, seed: int) -> dict[int, str]:
    """Which hosts are odd, and how: one of ten, at most one of each overlay."""
    pick = random.Random(seed)
    groups = list(range(hosts // GROUP))
    pick.shuffle(groups)
    planted: dict[int, str] = {}
    names = list(PLANTS)
    for group in groups:
        if len(planted) >= hosts // 10:
            break
        name = names[len(planted) % len(names)]
        k = kind(group % CLASSES)
        if (name in OVERLAY and not k.overlay) or (name in ("uplink-smaller", "too-big-dropped") and k.clamp):
            name = "half-smaller"
        planted[group * GROUP + pick.randrange(GROUP)] = name
    return planted


def write(folder: str, numbers: list[int], containers: int, planted: dict[int, str]) -> int:
    """Write those hosts; returns bytes."""
    size = 0
    for n in numbers:
        plant = planted.get(n, "")
        snap = host(n, containers, plant)
        if plant == "too-big-dropped":  # the limit must be there for its message to be lost
            snap = replace(host(n, containers, "uplink-smaller"), namespaces=_with_filter(n, containers))
        data = codec.dump(snap)
        size += len(data)
        Path(folder, f"{snap.host}.json").write_bytes(data)
    return size


def _with_filter(n: int, containers: int) -> tuple[NetnsSnapshot, ...]:
    large, quiet = host(n, containers, "uplink-smaller"), host(n, containers, "too-big-dropped")
    return (replace(large.namespaces[0], tables=quiet.namespaces[0].tables), *large.namespaces[1:])


class Watch(threading.Thread):
    """The most memory that a process and its children had together, kB (VmRSS; pages they share count for each)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, sum(_rss(p) for p in (self.pid, *_children(self.pid))))


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _rss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in lines if x.startswith("VmRSS")), 0)


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("hosts", nargs="?", type=int, default=2000)
    arguments.add_argument("containers", nargs="?", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=1)
    o = arguments.parse_args()
    planted = plants(o.hosts, o.seed)
    folder = tempfile.mkdtemp(prefix="pathfit-fleet-")
    try:
        begun = time.monotonic()
        shares = [list(range(i, o.hosts, 16)) for i in range(16)]
        with ProcessPoolExecutor() as pool:
            size = sum(pool.map(write, [folder] * 16, shares, [o.containers] * 16, [planted] * 16))
        classes = len({kind(n // GROUP % CLASSES) for n in range(o.hosts)})
        print(f"{o.hosts} files, {size / 1e6:.0f} MB, {classes} classes, {len(planted)} odd hosts, seed {o.seed}, "
              f"written in {time.monotonic() - begun:.1f} s")  # fmt: skip
        return judge(folder, planted)
    finally:
        shutil.rmtree(folder)


def judge(folder: str, planted: dict[int, str]) -> int:
    command = [str(Path(sys.executable).parent / "pathfit"), "scan", "--in", folder, "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)  # the files were written by children, too
    spent = before.ru_utime + before.ru_stime
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}) as run:
        watch = Watch(run.pid)
        watch.start()
        assert run.stdout is not None
        document = json.loads(run.stdout.read())
    watch.over.set()
    took = time.monotonic() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss
    cpu = used.ru_utime + used.ru_stime - spent
    print(f"scan --in: {took:.1f} s (processor {cpu:.1f} s), {len(document['workloads'])} containers")
    print(f"most memory together {watch.most / 1024:.0f} MB, of one process {largest / 1024:.0f} MB")
    want = {f"node-{n:04}": PLANTS[p] for n, p in planted.items()}
    said: set[tuple[str, str]] = set()
    others: dict[str, set[str]] = {}
    for f in document["findings"]:
        hosts = {w["host"] for w in f["where"]}  # what two hosts disagree about names both
        said |= {(h, f["code"]) for h in hosts}
        if f["severity"] != "info" and hosts.isdisjoint(want):
            others.setdefault(min(hosts), set()).add(f["code"])
    missed = {h: c for h, c in want.items() if (h, c) not in said}
    for code, count in sorted(Counter(want.values()).items()):
        print(f"  {code}: {count - sum(c == code for c in missed.values())} of {count} found")
    print(
        f"missed: {len(missed)} {dict(list(missed.items())[:5])}; "
        f"said of healthy hosts: {len(others)} {dict(list(others.items())[:5])}"
    )
    return int(bool(missed or others))


if __name__ == "__main__":
    sys.exit(main())
