"""Two hosts joined by tunnels of other makers, all in userspace: what the kernel of either sees is tun and tap devices.

    app (netns, 1500) --- a ==== eth0 1500 (wireguard-go, OpenVPN), eth1 1500 (Open vSwitch) ==== b (web server)

``a`` masquerades for what is behind it. Every tunnel has a /24 of its own inside: what one teaches a kernel is nothing
to another. The outer network may be told to drop fragments, as clouds and firewalls do, and counts them either way.
"""

import os
from pathlib import Path
from typing import NamedTuple

from article import PATHFIT, SIZE, serve
from labhost import COMES, OFFLOADS_OFF, Lab, LabHost, Room, cable, until

from recipes import openvpns, ovs, wireguards
from recipes.openvpns import Certificate, End
from recipes.ovs import Ovs, Tunnel
from recipes.wireguards import WireGuard

PROGRAMS = (*ovs.PROGRAMS, *wireguards.PROGRAMS, *openvpns.PROGRAMS, "ping", "nft", "ethtool")
WATCH = """
table inet outer {
  counter pieces { }
  chain in { type filter hook prerouting priority -450;
    iifname { "eth0", "eth1" } ip frag-off & 0x3fff != 0 counter name pieces %(then)s
    iifname { "eth0", "eth1" } exthdr frag exists counter name pieces %(then)s
  }
}
"""
BEHIND = """
table ip behind {
  chain out { type nat hook postrouting priority 100; ip saddr 198.19.0.0/16 masquerade; }
}
"""


class Row(NamedTuple):
    """One tunnel. ``number``: its inner network; ``mtu``: its device's where it breaks; ``fits``: the largest inner
    packet whose outer one is whole, over 1500 bytes, by research and by ping; ``like``: what the size resembles."""

    name: str
    number: int
    family: int
    program: str
    device: str
    fits: int
    like: str
    pieces: bool = False  # too large: the outer packet travels in fragments

    @property
    def near(self) -> str:
        return f"198.18.{self.number}.1"

    @property
    def far(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def url(self) -> str:
        return f"https://{self.far}:8443/"


OVS = (
    Row("vxlan4", 10, 4, "ovs-vswitchd", "tap", 1450, "ovs-udp"),
    Row("vxlan6", 11, 6, "ovs-vswitchd", "tap", 1430, "ovs-udp-v6"),
    Row("geneve4", 12, 4, "ovs-vswitchd", "tap", 1450, "ovs-udp"),
    Row("geneve6", 13, 6, "ovs-vswitchd", "tap", 1430, "ovs-udp-v6"),
    Row("gre4", 14, 4, "ovs-vswitchd", "tap", 1458, "ovs-gre"),
    Row("gre6", 15, 6, "ovs-vswitchd", "tap", 1438, "ovs-gre-v6"),
)
WG = (
    Row("wg4", 20, 4, "wireguard-go", "tun", 1440, "wireguard-v4", pieces=True),
    Row("wg6", 21, 6, "wireguard-go", "tun", 1408, "wireguard-v6", pieces=True),  # above its own MTU it pads to 16
)
VPN = (
    Row("vpn4", 30, 4, "openvpn", "tun", 1448, "openvpn", pieces=True),
    Row("vpn6", 31, 6, "openvpn", "tun", 1428, "openvpn-v6", pieces=True),
    Row("vpntcp", 32, 4, "openvpn", "tun", 1500, ""),
)


class Pair:
    """The hosts with their cables, the web server on ``b``, and nothing between them yet but the outer network."""

    def __init__(self, lab: Lab, names: str = "ab") -> None:
        self.lab = lab
        self.a, self.b = (lab.host(name) for name in names)
        self.ends: tuple[LabHost, LabHost] = (self.a, self.b)
        self.vpns: dict[str, tuple[End, End]] = {}
        self.switches: tuple[Ovs, Ovs] | None = None
        for link in ("eth0", "eth1"):
            cable(self.a, link, self.b, link, 1500)
        for n, host in enumerate(self.ends, 1):
            host.ip(f"addr add 198.18.2.{n}/24 dev eth0\naddr add 2001:2:0:2::{n}/64 dev eth0 nodad")
            host.sysctl(ipv4__ip_forward=1)
        self.watch()
        self.a.run("nft", "-f", "-", stdin=BEHIND)
        serve(self.b, self.b.folder / "server.log")

    # -- the outer network ---------------------------------------------------------------------------------------

    def watch(self, *, drop: bool = False) -> None:
        """Count fragments of outer packets as they come in, before they are put together; or drop them."""
        for host in self.ends:
            host.call("nft", "delete", "table", "inet", "outer")
            host.run("nft", "-f", "-", stdin=WATCH % {"then": "drop" if drop else "accept"})

    def pieces(self) -> int:
        """Fragments seen so far at both ends."""
        words = ("nft", "list", "counter", "inet", "outer", "pieces")
        return sum(int(host.run(*words).split("packets ")[1].split()[0]) for host in self.ends)

    # -- the tunnels ---------------------------------------------------------------------------------------------

    def open_ovs(self, rows: tuple[Row, ...]) -> None:
        here, there = (
            Ovs(host, "eth1", (f"198.18.1.{n}/24", f"2001:2:0:1::{n}/64")) for n, host in enumerate(self.ends, 1)
        )
        self.switches = here, there
        for row in rows:
            for n, switch in ((1, here), (2, there)):
                remote = f"198.18.1.{3 - n}" if row.family == 4 else f"2001:2:0:1::{3 - n}"
                tunnel = Tunnel(row.name, row.name.rstrip("46"), remote, row.number)
                switch.add(tunnel, f"198.18.{row.number}.{n}/24")
        self.answers(rows)

    def open_wireguard(self, rows: tuple[Row, ...]) -> None:
        for row in rows:
            inner = (f"{row.near}/24", f"{row.far}/24")
            here, there = (WireGuard(h, row.name, 51000 + row.number, x) for h, x in zip(self.ends, inner, strict=True))
            here.meet(there, outer(row.family, 2), "0.0.0.0/0")
            there.meet(here, outer(row.family, 1), "0.0.0.0/0")
        self.answers(rows)

    def open_vpn(self, rows: tuple[Row, ...], *more: str) -> None:
        """``more``: lines of both configurations."""
        certificates = [Certificate(host) for host in self.ends]
        for row in rows:
            proto = "tcp4" if row.name.endswith("tcp") else f"udp{row.family}"
            there, here = (
                End(self.ends[n - 1], row.name, serves=n == 2, proto=proto, port=11000 + row.number,
                    remote=outer(row.family, 3 - n), inner=(row.near, row.far) if n == 1 else (row.far, row.near),
                    own=certificates[n - 1], other=certificates[2 - n], more=more)
                for n in (2, 1)  # who waits for connections first
            )  # fmt: skip
            self.vpns[row.name] = here, there
        for end in (end for ends in self.vpns.values() for end in ends):
            end.ready()
        self.answers(rows)

    def answers(self, rows: tuple[Row, ...]) -> None:
        """Wait until each tunnel carries a small packet: keys and neighbours are known then."""
        for row in rows:
            until(lambda row=row: echoed(self.a, row.far, 100), f"{row.name} carries a ping")  # type: ignore[misc]

    def mtu(self, row: Row, mtu: int) -> None:
        for host in self.ends:
            host.ip(f"link set {row.name} mtu {mtu}")

    def mtu_of(self, row: Row) -> int:
        return int(self.a.run("cat", f"/sys/class/net/{row.name}/mtu"))

    # -- who asks ------------------------------------------------------------------------------------------------

    def works(self, row: Row, *within: str, patience: float = COMES) -> bool:
        """Does a body of SIZE come? ``within``: words before curl."""
        words = f"curl -sk -m {patience} -o /dev/null -w %{{http_code}}_%{{size_download}} {row.url}{SIZE}"
        return self.a.call(*within, *words.split()).stdout == f"200_{SIZE}"

    def hangs(self, row: Row, *within: str) -> bool:
        return not self.works(row, *within, patience=1.0)


def outer(family: int, n: int) -> str:
    """Of ``a`` (1) and ``b`` (2)."""
    return f"198.18.2.{n}" if family == 4 else f"2001:2:0:2::{n}"


def behind(host: LabHost, name: str, number: int) -> str:
    """A fresh namespace behind ``host``, as WHERE: nothing is remembered there."""
    port = f"to-{name}"[:15]
    host.run("ip", "netns", "add", name)
    host.ip(
        f"link add {port} type veth peer name eth0 netns {name}\n"
        f"addr add 198.19.{number}.1/24 dev {port}\nlink set {port} up"
    )
    for words in (
        f"addr add 198.19.{number}.2/24 dev eth0", "link set eth0 up", "link set lo up",
        f"route add default via 198.19.{number}.1",
    ):  # fmt: skip
        host.run("ip", "-n", name, *words.split())
    host.run("ethtool", "-K", port, *OFFLOADS_OFF.split())
    host.run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", *OFFLOADS_OFF.split())
    return f"netns:{name}"


def echoed(room: Room, address: str, size: int, *how: str) -> bool:
    """Is an IPv4 packet of ``size`` bytes with DF answered in a quarter of a second? ``how``: other words of ping."""
    words = ("ping", "-M", "do", "-c", "1", *(how or ("-W", "0.25")), "-s", str(size - 28), address)
    return room.call(*words).returncode == 0


def fits(room: Room, address: str, size: int) -> bool:
    """Is it, however long it takes? Another one follows where none is."""
    return echoed(room, address, size, "-w", str(int(COMES)))


def pathfit(host: LabHost, *words: str, status: int | None = None) -> str:
    """pathfit on ``host``, as its root would type it; what it printed."""
    env = {**os.environ, "PATHFIT_STATE": str(host.folder / "state"), "LANG": "C.UTF-8", "COLUMNS": "120"}
    done = host.call(str(PATHFIT), *words, env=env)
    assert status is None or done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert done.stdout, done.stderr
    return done.stdout


class Within(LabHost):
    """A network namespace of a lab host as a host of its own: with its files and processes, ended with it."""

    def __init__(self, host: LabHost, name: str) -> None:
        self.host, self.name, self.folder = host, name, host.folder / name
        self.folder.mkdir()
        host.run("ip", "netns", "add", name)
        self.ip("link set lo up")

    @property
    def enter(self) -> list[str]:
        return [*self.host.enter, "nsenter", f"--net=/run/netns/{self.name}", "--"]

    def path(self, inside: str) -> Path:
        return self.host.path(inside)

    def end(self) -> None:
        """Nothing: it goes with its host."""


class Whole:
    """Both ends of a tunnel on one host that sees them: its own namespace, and the netns ``far``.

    near (netns) --- h === far --- inner (netns, answers on 8443): what is asked runs from near to inner. Cables and
    addresses are those of :class:`Pair`; fragments of outer packets are dropped.
    """

    def __init__(self, lab: Lab) -> None:
        self.h = lab.host("h")
        self.far = Within(self.h, "far")
        self.ends: tuple[LabHost, LabHost] = (self.h, self.far)
        for link in ("eth0", "eth1"):
            self.h.ip(f"link add {link} mtu 1500 type veth peer name {link} mtu 1500 netns far")
        for n, end in enumerate(self.ends, 1):
            for link in ("eth0", "eth1"):
                end.run("ethtool", "-K", link, *OFFLOADS_OFF.split())
                end.ip(f"link set {link} up")
            end.ip(f"addr add 198.18.2.{n}/24 dev eth0")
            end.sysctl(ipv4__ip_forward=1)
            end.run("nft", "-f", "-", stdin=WATCH % {"then": "drop"})
        behind(self.h, "near", 1)
        behind(self.far, "inner", 2)
        inner = ("ip", "netns", "exec", "inner")
        log = lab.folder / "listener.log"
        self.h.start(*inner, "busybox", "httpd", "-f", "-p", "8443", "-h", str(self.far.folder), log=log)
        until(lambda: ":8443" in self.h.run(*inner, "ss", "-Hltn"), "a listener on inner", detail=log.read_text)

    def open(self, row: Row) -> None:
        """The tunnel, and the way between near and inner by it."""
        if row in OVS:
            for n, (end, run) in enumerate(zip(self.ends, ("/run/openvswitch", "/run/other"), strict=True), 1):
                tunnel = Tunnel(row.name, row.name.rstrip("46"), f"198.18.1.{3 - n}", 7)
                Ovs(end, "eth1", (f"198.18.1.{n}/24",), run).add(tunnel, f"198.18.{row.number}.{n}/24")
        elif row in WG:
            here = WireGuard(self.h, row.name, 51001, f"{row.near}/24")
            there = WireGuard(self.far, f"{row.name}-far", 51002, f"{row.far}/24")  # one folder of sockets: two names
            here.meet(there, outer(4, 2), "0.0.0.0/0")
            there.meet(here, outer(4, 1), "0.0.0.0/0")
            for end, link in ((self.h, here.link), (self.far, there.link)):
                end.ip(f"link set {link} mtu 1500")
        else:
            own, other = Certificate(self.h), Certificate(self.far)
            there, here = (
                End(host, row.name, serves=n == 2, proto="udp4", port=11000, remote=outer(4, 3 - n), inner=inner,
                    own=mine, other=theirs, more=("mssfix 0",))
                for n, host, inner, mine, theirs in (
                    (2, self.far, (row.far, row.near), other, own), (1, self.h, (row.near, row.far), own, other))
            )  # fmt: skip
            there.ready()
            here.ready()
        self.route(row)

    def route(self, row: Row) -> None:
        self.h.ip(f"route replace 198.19.2.0/24 via {row.far}")
        self.far.ip(f"route replace 198.19.1.0/24 via {row.near}")
        near = ("ip", "netns", "exec", "near", "ping", "-c", "1", "-W", "0.25", "198.19.2.2")
        until(lambda: self.h.call(*near).returncode == 0, f"{row.name} carries a ping")
