"""Makes a layout real: namespaces, links, addresses, routes, filters. Only ever adds to namespaces it made."""

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pathfit.host.netns import inside
from pathfit.lab import kernel
from pathfit.lab.filters import base_sysctl
from pathfit.lab.layout import HostPlan, Layout, Pipe, Port, RoutePlan, Wire
from pathfit.lab.routing import forwards

TOOL_TIMEOUT = 20.0  # seconds for nft, iptables, ip: they take milliseconds, a busy machine more
WIRE_MTU = 65535  # of a medium that bounds nothing


class BuildError(RuntimeError):
    """The lab could not be built; the message says which step, and what to do where that is known."""


class Site:
    """Open namespaces of one lab while it is being built: a descriptor and an rtnetlink socket each."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.fds: dict[str, int] = {}
        self.ipr: dict[str, Any] = {}
        self.index: dict[tuple[str, str], int] = {}

    def name(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def add(self, host: str) -> None:
        fd = kernel.make_netns(self.name(host))
        self.fds[host] = fd
        with inside(fd):
            self.ipr[host] = IPRoute()

    @contextmanager
    def at(self, host: str) -> Iterator[Any]:
        """This thread stands in the namespace of ``host``."""
        with inside(self.fds[host]):
            yield self.ipr[host]

    def link(self, host: str, name: str) -> int:
        """The index of a link. Raises BuildError."""
        key = (host, name)
        if key not in self.index:
            found = self.ipr[host].link_lookup(ifname=name)
            if not found:
                raise BuildError(f"{host} has no link {name!r}")
            self.index[key] = found[0]
        return self.index[key]

    def set(self, host: str, link: str, **what: Any) -> None:
        self.ipr[host].link("set", index=self.link(host, link), **what)

    def close(self) -> None:
        for ipr in self.ipr.values():
            ipr.close()
        for fd in self.fds.values():
            os.close(fd)
        self.ipr, self.fds = {}, {}


def wire_hosts(plan: Layout) -> list[str]:
    """Hidden namespaces that hold the medium of NIC cables."""
    return [f"wire{i}" for i, w in enumerate(plan.wires) if w.kind == "nic"]


def build(plan: Layout, prefix: str, taps: list[tuple[Wire, int, int]]) -> None:
    """Makes everything but the helpers. ``taps`` receives the descriptors of TAP cables, for their forwarders.

    Raises BuildError or OSError; what was made until then is removed by the registry's entry.
    """
    site = Site(prefix)
    with ExitStack() as stack:
        stack.callback(site.close)
        try:
            for name in [*plan.hosts, *wire_hosts(plan)]:
                site.add(name)
            for host in plan.hosts.values():
                _prepare(site, plan, host)
            for bridge in plan.bridges:
                _bridge(site, bridge.port)
            for i, wire in enumerate(plan.wires):
                _wire(site, wire, i, taps)
            for i, pipe in enumerate(plan.pipes):
                later = {p.a.link for p in plan.pipes[i:]}  # a tunnel may run over an earlier one
                _addresses(site, [p for h in pipe.tunnel.ends for p in plan.ports(h) if p.link not in later])
                _pipe(site, pipe)
            _finish_links(site, plan)
            for host in plan.hosts.values():
                _addresses(site, host.ports)
            for host in plan.hosts.values():
                _routes(site, host)
            for port in (p for pair in plan.pairs() for p in pair if not p.up):
                site.set(port.host, port.link, state="down")  # last: the kernel now takes its routes away
        except NetlinkError as e:
            raise BuildError(f"the kernel refused a link, address or route: {e}{_place(e)}") from None
        run_tools(site, plan)


def _place(e: BaseException) -> str:
    notes = getattr(e, "__notes__", [])
    return f" ({'; '.join(notes)})" if notes else ""


@contextmanager
def _saying(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as e:
        e.add_note(what)
        raise


def _prepare(site: Site, plan: Layout, host: HostPlan) -> None:
    with site.at(host.name) as ipr:
        ipr.link("set", index=1, state="up")
        kernel.set_sysctls(base_sysctl(forwards(plan, host.name)), optional=True)
        kernel.set_sysctls(host.sysctl)


def _bridge(site: Site, port: Port) -> None:
    with _saying(f"bridge {port.link} in {port.host}"):
        more = {"mtu": port.mtu} if port.mtu else {}
        site.ipr[port.host].link("add", ifname=port.link, kind="bridge", br_forward_delay=0, **more)


def _wire(site: Site, wire: Wire, i: int, taps: list[tuple[Wire, int, int]]) -> None:
    a, b = wire.a, wire.b
    with _saying(f"cable {a.host}.{a.link} - {b.host}.{b.link}"):
        if wire.kind == "tap":
            fds = []
            for port in (a, b):
                with site.at(port.host):
                    fds.append(kernel.open_tap(port.link))
                site.set(port.host, port.link, mtu=port.mtu)
            taps.append((wire, fds[0], fds[1]))
        elif wire.kind == "nic":
            _nic(site, wire, f"wire{i}")
        else:
            peer = {"ifname": b.link, "mtu": b.mtu, "net_ns_fd": site.fds[b.host]}
            site.ipr[a.host].link("add", ifname=a.link, kind="veth", mtu=a.mtu, peer=peer)


def _nic(site: Site, wire: Wire, medium: str) -> None:
    """A veth receives no more than its MTU + 4 (is_skb_forwardable), a real NIC often more than it sends.

    So the medium is a veth pair in a namespace of its own, whose halves bound what comes in, and the ends are
    macvlans on it: macvlan_handle_frame checks no size, macvlan's own MTU bounds what it sends.
    """
    assert wire.cable is not None
    ends = ((wire.a, wire.cable.receives), (wire.b, wire.cable.receives_b))
    mtus = [(receives - 4 if receives else port.mtu) for port, receives in ends]
    ipr = site.ipr[medium]
    ipr.link("add", ifname="a", kind="veth", mtu=mtus[0], peer={"ifname": "b", "mtu": mtus[1]})
    with site.at(medium):
        kernel.offloads_off([] if wire.cable.offloads else ["a", "b"])
    for name, (port, _) in zip(("a", "b"), ends, strict=True):
        ipr.link("set", index=site.link(medium, name), state="up")
        ipr.link(
            "add",
            ifname=port.link,
            kind="macvlan",
            macvlan_mode="bridge",
            link=site.link(medium, name),
            mtu=port.mtu,
            net_ns_fd=site.fds[port.host],
        )


def _pipe(site: Site, pipe: Pipe) -> None:
    for i, port in enumerate((pipe.a, pipe.b)):
        with _saying(f"tunnel {port.host}.{port.link}"):
            local, remote = pipe.under[i], pipe.under[1 - i]
            site.set(port.host, pipe.dev[i], state="up")
            more: dict[str, Any] = {"mtu": port.mtu} if port.mtu else {}
            with site.at(port.host):
                _ip(["link", "add", port.link, *_tunnel_words(pipe, i, local, remote)])
            if more:
                site.set(port.host, port.link, **more)


def _tunnel_words(pipe: Pipe, i: int, local: str, remote: str) -> list[str]:
    """`ip link add NAME …` after the name: pyroute2 does not know every attribute of every kind."""
    t = pipe.tunnel
    ident = str((t.id_b or t.id) if i else t.id)
    six = t.outer == 6
    if t.kind in ("vxlan", "geneve"):
        words = ["type", t.kind, "id", ident, "remote", remote, "dstport", str(t.port)]
        words += ["df", t.df] if t.df != "unset" else []
        if t.kind == "vxlan":
            words += ["local", local, *(["dev", pipe.dev[i]] if t.dev else [])]
        return words
    kind = {"gre": "ip6gre", "gretap": "ip6gretap", "ipip": "ip6tnl"}[t.kind] if six else t.kind
    return ["type", kind, "local", local, "remote", remote, *(["dev", pipe.dev[i]] if t.dev else [])]


def _finish_links(site: Site, plan: Layout) -> None:
    """Offloads, bridge membership and "up" come last, when every link exists."""
    quiet: dict[str, list[str]] = {}
    ports = [p for pair in plan.pairs() for p in pair]
    for port in ports:
        if not port.offloads:
            quiet.setdefault(port.host, []).append(port.link)
    for host, links in quiet.items():
        with site.at(host):
            kernel.offloads_off(links)
    for port in ports:
        with _saying(f"{port.host}.{port.link}"):
            master = {"master": site.link(port.host, port.master)} if port.master else {}
            site.set(port.host, port.link, state="up", **master)
    for bridge in plan.bridges:
        more = {"mtu": bridge.port.mtu} if bridge.port.mtu else {}
        site.set(bridge.port.host, bridge.port.link, state="up", **more)


def _addresses(site: Site, ports: list[Port]) -> None:
    for port in ports:
        for cidr in port.addresses:
            with _saying(f"{port.host}.{port.link} {cidr}"):
                interface = ipaddress.ip_interface(cidr)
                more = {"family": socket.AF_INET6, "flags": 0x02} if interface.version == 6 else {}  # IFA_F_NODAD
                index = site.link(port.host, port.link)
                with suppress_exists():
                    site.ipr[port.host].addr(
                        "add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **more
                    )


@contextmanager
def suppress_exists() -> Iterator[None]:
    """EEXIST is what we wanted."""
    try:
        yield
    except NetlinkError as e:
        if e.code != 17:
            raise


_LOCK_MTU = 1 << 2  # RTAX_LOCK bit of RTAX_MTU


def _routes(site: Site, host: HostPlan) -> None:
    for route in host.routes:
        with _saying(f"route of {host.name} to {route.to} via {route.via or route.dev}"):
            site.ipr[host.name].route("replace", **_route_words(site, host.name, route))
    for prefix, what in host.rules:
        family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
        dst, _, length = prefix.partition("/")
        with _saying(f"rule of {host.name} to {prefix}"):
            site.ipr[host.name].rule(
                "add",
                family=family,
                dst=dst,
                dst_len=int(length),
                iifname="lo",  # what is made here, as opposed to forwarded
                action=f"FR_ACT_{what.upper()}",
                priority=50,
            )


def _route_words(site: Site, host: str, route: RoutePlan) -> dict[str, Any]:
    everything = "0.0.0.0/0" if route.family == 4 else "::/0"
    words: dict[str, Any] = {"dst": everything if route.to == "default" else route.to, "table": route.table}
    words["family"] = socket.AF_INET if route.family == 4 else socket.AF_INET6
    if route.kind != "unicast":
        words["type"] = route.kind
        if route.family == 6:
            words["priority"] = 1  # before the connected network's 256 (IP6_RT_PRIO_ADDRCONF)
        return words
    if route.via:
        words["gateway"] = route.via
    if route.dev:
        words["oif"] = site.link(host, route.dev)
    if route.src:
        words["prefsrc"] = route.src
    metrics: dict[str, int] = {}
    if route.mtu:
        metrics |= {"mtu": route.mtu} | ({"lock": _LOCK_MTU} if route.lock else {})
    if route.advmss:
        metrics["advmss"] = route.advmss
    if metrics:
        words["metrics"] = metrics
    return words


def run_tools(site: Site, plan: Layout) -> None:
    """nft (one call per host, all hosts at once), then iptables and ip lines."""
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for host in plan.hosts.values():
            if host.nft:
                with site.at(host.name):
                    running.append((host.name, _start(["nft", "-f", "-"], "".join(host.nft))))
    finally:
        results = [(name, _end(process)) for name, process in running]
    for name, complaint in results:
        if complaint:
            raise BuildError(f"nft on {name}: {complaint}")
    for host in plan.hosts.values():
        if host.iptables or host.ip:
            with site.at(host.name):
                _lines(host)


def _lines(host: HostPlan) -> None:
    for tool, line in host.iptables:
        if complaint := _end(_start([tool, "-w", *line.split()], "")):
            raise BuildError(f"{tool} on {host.name}: {line}: {complaint}")
    if host.ip and (complaint := _end(_start(["ip", "-batch", "-"], "\n".join(host.ip) + "\n"))):
        raise BuildError(f"ip on {host.name}: {complaint}")


def _ip(words: list[str]) -> None:
    if complaint := _end(_start(["ip", *words], "")):
        raise BuildError(f"ip {' '.join(words)}: {complaint}")


_PACKAGES = {"nft": "nftables", "ip": "iproute2", "ip6tables": "iptables", "iptables-legacy": "iptables"}


def _start(argv: list[str], text: str) -> subprocess.Popen[bytes]:
    """A tool in the namespace this thread stands in (fork inherits it)."""
    path = shutil.which(argv[0]) or next((p for p in _sbin(argv[0]) if p.exists()), None)
    if path is None:
        raise BuildError(f"{argv[0]} is not installed; try: apt-get install {_PACKAGES.get(argv[0], argv[0])}")
    process = subprocess.Popen(
        [str(path), *argv[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(text.encode())
        process.stdin.close()
    process.stdin = None
    return process


def _sbin(tool: str) -> list[Path]:
    return [Path("/usr/sbin") / tool, Path("/sbin") / tool]  # not in an ordinary user's PATH


def _end(process: subprocess.Popen[bytes]) -> str:
    """What it complained about; empty when it succeeded."""
    try:
        _, err = process.communicate(timeout=TOOL_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no end after {TOOL_TIMEOUT} s"
    return (
        (" ".join(err.decode(errors="replace").split()) or f"exit {process.returncode}") if process.returncode else ""
    )
