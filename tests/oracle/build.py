"""A lab's text in real namespaces, fast: every namespace gets two batches of `ip`, all of them at once."""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import topo
from msgspec.structs import replace

from pathfit.cli import isolation
from pathfit.core.snapshot import HostSnapshot
from pathfit.host.netns import inside
from pathfit.lab import kernel
from pathfit.observe.kernel import read_host

SYSCTLS = {
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.icmp_ratemask": "0",  # every "too big" is sent: how often one is sent is not what is asked
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv6.icmp.ratelimit": "0",
    "net.ipv6.icmp.ratemask": "",
    "net.ipv4.tcp_timestamps": "0",  # a segment is its headers and the MSS, to the byte
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
ASKED_AGAIN = {f"net.{x}.neigh.{{}}.retrans_time_ms": "40" for x in ("ipv4", "ipv6")}  # milliseconds, not a second
BRIDGE_NF = dict.fromkeys((f"net.{x}" for x in topo.BRIDGE_NF), "0")
FILTERS = ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
READY = 10.0  # seconds until every device that should run does
IFF_RUNNING, IFF_UP, IFF_LOOPBACK, IFA_F_TENTATIVE = 0x40, 0x1, 0x8, 0x40
SCOPE_LINK, IFLA_MTU = 253, 4
RTM_GETLINK, RTM_GETADDR, RTM_DELROUTE, RTM_GETROUTE = 18, 22, 25, 26
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR = 1, 0x300, 3, 2
RTM_F_CLONED = 0x200
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


class BuildError(RuntimeError):
    """The kernel or a tool refused a line of the text."""


def own_mounts() -> None:
    """This process gets a /run/netns of its own: what others build is not in its snapshots."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "a mount namespace")
    os.makedirs(kernel.NETNS, exist_ok=True)
    if libc.mount(b"tmpfs", kernel.NETNS.encode(), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "a tmpfs on /run/netns")


class Space:
    """One namespace: its descriptor, a netlink socket, and files whose content is that namespace's."""

    def __init__(self, name: str) -> None:
        self.fd = kernel.make_netns(name)
        with inside(self.fd):
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            self.flush = os.open("/proc/sys/net/ipv4/route/flush", os.O_WRONLY)
            self.counters = [os.open(f"/proc/thread-self/net/{x}", os.O_RDONLY) for x in ("snmp", "snmp6")]
        self.netlink.bind((0, 0))

    def close(self) -> None:
        self.netlink.close()
        for fd in (self.flush, *self.counters, self.fd):
            os.close(fd)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The messages of a dump, header and all."""
        self.netlink.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        found: list[bytes] = []
        while True:
            data = self.netlink.recv(1 << 18)
            while data:
                length, what = struct.unpack_from("=IH", data)
                if what in (NLMSG_DONE, NLMSG_ERROR):
                    return found
                found.append(data[:length])
                data = data[(length + 3) & ~3 :]

    def forget(self) -> None:
        """No cached path MTU (IPv4: the switch does it; IPv6: `ip -6 route flush cache` deletes one by one)."""
        os.write(self.flush, b"1")
        for message in self._cached(socket.AF_INET6):
            head = struct.pack("=IHHII", len(message), RTM_DELROUTE, NLM_F_REQUEST, 2, 0)
            self.netlink.send(head + message[16:])

    def _cached(self, family: int) -> list[bytes]:
        found = self.dump(RTM_GETROUTE, struct.pack("=8BI", family, 0, 0, 0, 0, 0, 0, 0, RTM_F_CLONED))
        return [x for x in found if struct.unpack_from("=I", x, 24)[0] & RTM_F_CLONED]

    def learned(self) -> list[bytes]:
        """The destinations with a cached path MTU, and that (RTA_DST, RTA_METRICS), in no order of meaning."""
        return sorted(
            data for f in (socket.AF_INET, socket.AF_INET6) for x in self._cached(f) for data in _attributes(x, (1, 8))
        )

    def segments(self) -> int:
        """How many TCP segments have reached this namespace's TCP, behind all filters (InSegs, of both families)."""
        lines = [
            x.split() for x in os.pread(self.counters[0], 1 << 16, 0).decode().splitlines() if x.startswith("Tcp:")
        ]
        return int(lines[1][lines[0].index("InSegs")])

    def fragments(self) -> int:
        """How many packets this namespace has cut so far, of both families, each counted by its pieces but one.

        (With bridge-nf a packet may pass ip_do_fragment() and be one piece afterwards: it is still whole.)
        """
        four, six = (os.pread(fd, 1 << 16, 0).decode() for fd in self.counters)
        found = dict(zip(*(x.split() for x in four.splitlines()[:2]), strict=True))
        found |= dict(x.split() for x in six.splitlines())
        made, done = (int(found[f"Frag{x}"]) + int(found[f"Ip6Frag{x}"]) for x in ("Creates", "OKs"))
        return made - done

    def ready(self) -> bool:
        """Do all devices run that are up, and can all addresses be used?

        A device runs (IFF_RUNNING) when the link watcher has seen its carrier; only then, and by a worker, it gets the
        link-local address (not IFA_F_TENTATIVE) without which nobody behind it is asked for by IPv6 (ndisc_send_ns).
        """
        local = set()
        for x in self.dump(RTM_GETADDR, struct.pack("=4BI", socket.AF_INET6, 0, 0, 0, 0)):
            _, _, flags, scope, index = struct.unpack_from("=4BI", x, 16)
            if flags & IFA_F_TENTATIVE:
                return False
            if scope == SCOPE_LINK:
                local.add(index)
        for x in self.dump(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
            index, flags = struct.unpack_from("=iI", x, 20)
            mtu = next(int.from_bytes(v, "little") for v in _attributes(x, (IFLA_MTU,), 16))
            if flags & IFF_UP and not flags & IFF_RUNNING:
                return False
            if flags & IFF_UP and not flags & IFF_LOOPBACK and mtu >= 1280 and index not in local:
                return False
        return True


class Built:
    """A built lab; a context manager that removes it."""

    def __init__(self, text: str, offload: bool = False) -> None:
        assert isolation.inside(), "labs are built under tools/isolated only"
        self.topo, self.offload = topo.parse(text), offload
        self.spaces: dict[str, Space] = {}

    def __enter__(self) -> "Built":
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name, space in self.spaces.items():
            space.close()
            kernel.drop_netns(name)
        self.spaces = {}

    @contextlib.contextmanager
    def at(self, ns: str) -> Iterator[None]:
        with inside(self.spaces[ns].fd):
            yield

    def socket(self, ns: str, family: int, kind: int, proto: int = 0) -> socket.socket:
        with self.at(ns):
            return socket.socket(family, kind, proto)

    def forget(self, keep: str = "") -> None:
        """No cached path MTU anywhere but in ``keep``."""
        for name, space in self.spaces.items():
            if name != keep:
                space.forget()

    def learned(self, keep: str = "") -> list[list[bytes]]:
        return [x.learned() for name, x in self.spaces.items() if name != keep]

    def fragments(self) -> int:
        return sum(x.fragments() for x in self.spaces.values())

    def snapshot(self) -> HostSnapshot:
        """What pathfit reads of it."""
        host = read_host(None)
        mine = [replace(x, names=(), processes=()) for x in host.namespaces if x.where[6:] in self.spaces]
        return replace(host, namespaces=tuple(mine), missing=())

    def ip(self, ns: str, line: str) -> None:
        self._batches({ns: [line]})

    # -- building ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        t = self.topo
        for ns in t.names:
            self.spaces[ns] = Space(ns)
            with self.at(ns):
                kernel.set_sysctls({**SYSCTLS, **BRIDGE_NF}, optional=True)
                kernel.set_sysctls(dict(_early(t, ns)))
        self._batches({ns: _links(t, ns) for ns in t.names})
        self._patience()
        self._offloads(("veth",))
        self._batches({ns: _rest(t, ns) for ns in t.names})
        self._patience()
        self._offloads(("vxlan",))
        for ns in t.names:
            with self.at(ns):
                kernel.set_sysctls(dict(_late(t, ns)))
        self._filters()
        end = time.monotonic() + READY
        while not all(x.ready() for x in self.spaces.values()) or not self._forwarding():
            if time.monotonic() > end:
                raise BuildError("a device does not come up")

    def _patience(self) -> None:
        """A neighbour that was asked for too early is soon asked for again. Each device has its own setting, before it
        is up: the default of all is the first namespace's alone (lookup_neigh_parms)."""
        for ns in self.spaces:
            with self.at(ns):
                for d in self.topo.of(ns):
                    kernel.set_sysctls({k.format(d.name): v for k, v in ASKED_AGAIN.items()}, optional=True)

    def _offloads(self, kinds: tuple[str, ...]) -> None:
        for ns in self.spaces:
            with self.at(ns):
                if not self.offload:
                    kernel.offloads_off([d.name for d in self.topo.of(ns) if d.kind in kinds])

    def _forwarding(self) -> bool:
        """A bridge lets a new port pass only once the link watcher has looked at it."""
        bridged = {d.ns for d in self.topo.devices if d.master}
        if not bridged:
            return True
        ports = [x for n in self.snapshot().namespaces if n.where[6:] in bridged for x in n.links if x.bridge_port]
        return all(x.bridge_port.state == 3 for x in ports if x.up and x.bridge_port)

    def _batches(self, lines: dict[str, list[str]]) -> None:
        """Lines of `ip`, everywhere at once; those that begin with -6 (rules: nothing else tells the family) later."""
        for six in (False, True):
            jobs = []
            for ns, all_of in lines.items():
                mine = [x.removeprefix("-6 ") for x in all_of if x.startswith("-6 ") is six]
                if mine:
                    jobs.append((ns, ["ip", *(["-6"] if six else []), "-batch", "-"], "\n".join(mine) + "\n"))
            self._tools(jobs)

    def _filters(self) -> None:
        jobs = []
        for ns in self.topo.names:
            nft = [w[0] for n, verb, w in self.topo.lines if n == ns and verb == "nft"]
            if nft:
                jobs.append((ns, ["nft", "-f", "-"], "\n".join(nft) + "\n"))
        self._tools(jobs)
        for tool in FILTERS:  # one after the other: they share the kernel's tables
            jobs = []
            for ns in self.topo.names:
                mine = [w[0] for n, verb, w in self.topo.lines if n == ns and verb == tool]
                if mine:
                    jobs.append((ns, [f"{tool}-restore", "-n"], _restore(mine)))
            self._tools(jobs)

    def _tools(self, jobs: list[tuple[str, list[str], str]]) -> None:
        running = []
        for ns, argv, text in jobs:
            with self.at(ns):
                process = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(text)
                process.stdin.close()
            process.stdin = None
            running.append((ns, argv, text, process))
        failed = []
        for ns, argv, text, process in running:
            _, said = process.communicate(timeout=30)
            if process.returncode:
                failed.append(f"{ns}: {' '.join(argv)}: {said}\n{text}")
        if failed:
            raise BuildError("\n".join(failed))


def _attributes(message: bytes, wanted: tuple[int, ...], head: int = 12) -> Iterator[bytes]:
    """The values of these attributes; ``head``: bytes of the structure before them (struct rtmsg)."""
    at = 16 + head
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind in wanted:
            yield message[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)


def _restore(lines: list[str]) -> str:
    """Lines of `iptables` ("-t nat -A …"; the table first) as one input of `iptables-restore -n`."""
    tables: dict[str, list[str]] = {}
    for line in lines:
        words = line.split(None, 2)
        name, rest = (words[1], words[2]) if words[0] == "-t" else ("filter", line)
        tables.setdefault(name, []).append(rest)
    return "".join(f"*{name}\n" + "\n".join(rest) + "\nCOMMIT\n" for name, rest in tables.items())


def _early(t: topo.Topo, ns: str) -> Iterator[tuple[str, str]]:
    for n, verb, _ in t.lines:
        if n == ns and verb == "forward":
            yield "net.ipv4.ip_forward", "1"
            yield "net.ipv6.conf.all.forwarding", "1"
        elif n == ns and verb == "bridge-nf":
            yield from ((f"net.{x}", "1") for x in topo.BRIDGE_NF)


def _late(t: topo.Topo, ns: str) -> Iterator[tuple[str, str]]:
    """What the text sets, some of it per device."""
    for n, verb, words in t.lines:
        if n == ns and verb == "sysctl":
            for w in words:
                key, _, value = w.partition("=")
                yield f"net.{key}", value


def _links(t: topo.Topo, ns: str) -> list[str]:
    """Cables and bridges. A cable is made where its first half is."""
    out = ["link set lo up"]
    for d in t.of(ns):
        if d.kind == "bridge":
            # its MTU is set later: only br_change_mtu() tells the route that fragments of bridged packets are cut by
            out.append(f"link add {d.name} type bridge forward_delay 0")
        elif d.peer and t.devices.index(d) < t.devices.index(d.peer):
            other = f"peer name {d.peer.name} mtu {d.peer.mtu} netns {d.peer.ns}"
            out.append(f"link add {d.name} mtu {d.mtu} type veth {other}")
    return out


def _rest(t: topo.Topo, ns: str) -> list[str]:
    """Everything else: tunnels, addresses, routes, rules."""
    out = []
    mine = t.of(ns)
    for d in sorted(mine, key=lambda d: d.kind == "vxlan"):
        if d.kind == "vxlan":
            words = " ".join(f"{k} {v}" for k, v in d.options.items())
            out.append(f"link add {d.name} mtu {d.mtu} type vxlan {words} dstport 4789")
        if d.up:
            out.append(f"link set {d.name} up")
        out += [f"addr add {a} dev {d.name}" + (" nodad" if ":" in a else "") for a in d.addresses]
    out += [f"link set {d.name} master {d.master}" for d in mine if d.master]
    out += [f"link set {d.name} mtu {d.mtu}" for d in mine if d.kind == "bridge"]  # what joined has not the last word
    for n, verb, words in t.lines:
        if n == ns and verb == "route":
            out.append(f"route add {' '.join(words)}")
        elif n == ns and verb == "rule":
            out.append(f"{'-6 ' if '6' in words[:1] else ''}rule add priority {' '.join(w for w in words if w != '6')}")
        elif n == ns and verb == "neigh":
            out.append(f"neigh replace {words[1]} dev {words[0]} nud {words[2]}")
    return out
