"""Real packets: UDP ports and bare hosts, in one lab of three namespaces. What the router drops is the truth."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dns.exception
import dns.message
import dns.rrset
import netlab
import pytest

from pathfit.core.evidence import HopsFact, ProbeResult
from pathfit.core.request import Measure, MeasureHops
from pathfit.host import netns
from pathfit.measure.place import accused
from pathfit.probe.target import measure
from pathfit.probe.tcp.hops import measure_hops
from pathfit.probe.udp import hands

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]

DNS, QUIC, QUIET, CLOSED, PICKY = 5300, 4430, 5555, 5556, 5301
SERVER = {4: "198.18.2.2", 6: "2001:db8:2::2"}
ROUTER = {4: "198.18.1.1", 6: "2001:db8:1::1"}
STATES = {
    "c": """
        link set eth0 up
        addr add 198.18.1.2/24 dev eth0
        addr add 2001:db8:1::2/64 dev eth0
        route add default via 198.18.1.1
        route add default via 2001:db8:1::1
    """,
    "r": """
        link set rc up
        link set rs up
        addr add 198.18.1.1/24 dev rc
        addr add 2001:db8:1::1/64 dev rc
        addr add 198.18.2.1/24 dev rs
        addr add 2001:db8:2::1/64 dev rs
    """,
    "s": """
        link set eth0 up
        addr add 198.18.2.2/24 dev eth0
        addr add 2001:db8:2::2/64 dev eth0
        route add default via 198.18.2.1
        route add default via 2001:db8:2::1
    """,
}


def dns_server(data: bytes) -> bytes | None:
    """1800 bytes of TXT, as far as there is room."""
    try:
        query = dns.message.from_wire(data)
    except dns.exception.DNSException:
        return None
    reply = dns.message.make_response(query)
    name = query.question[0].name
    if query.question[0].rdtype in (16, 48):
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", " ".join(f'"{"x" * 200}"' for _ in range(9))))
    room = query.payload if query.edns >= 0 else 512
    if len(whole := reply.to_wire(max_size=65535)) <= room:
        return whole
    reply.answer.clear()
    reply.flags |= 0x0200
    return reply.to_wire()


def picky_server(data: bytes) -> bytes | None:
    """As dnsmasq: longer questions than its edns-packet-max are thrown away."""
    return dns_server(data) if len(data) <= 1232 else None


def quic_server(data: bytes) -> bytes | None:
    """Version Negotiation (RFC 8999 section 6) to a long header that is large enough."""
    if len(data) < 1200 or not data[0] & 0x80:
        return None
    to, ours = data[6 : 6 + data[5]], data[7 + data[5] : 7 + data[5] + data[6 + data[5]]]
    return b"\x80" + bytes(4) + bytes((len(ours),)) + ours + bytes((len(to),)) + to + b"\0\0\0\1"


class Servers:
    """UDP servers in a namespace, both families; each ends when told to."""

    def __init__(self, fd: int, ports: dict[int, Callable[[bytes], bytes | None]]) -> None:
        self.sockets: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        with netns.inside(fd):
            for port, answer in ports.items():
                for family in (socket.AF_INET, socket.AF_INET6):
                    s = socket.socket(family, socket.SOCK_DGRAM)
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.setsockopt(*((0, 10, 0) if family == socket.AF_INET else (41, 23, 0)))  # PMTUDISC_DONT
                    s.bind(("", port))
                    self.sockets.append(s)
                    self.threads.append(threading.Thread(target=self.serve, args=(s, answer), daemon=True))
        for thread in self.threads:
            thread.start()

    @staticmethod
    def serve(s: socket.socket, answer: Callable[[bytes], bytes | None]) -> None:
        while True:
            data, peer = s.recvfrom(65535)
            if data == b"stop":
                return
            if reply := answer(data):
                s.sendto(reply, peer)

    def stop(self, fd: int) -> None:
        with netns.inside(fd):
            for s in self.sockets:
                with socket.socket(s.family, socket.SOCK_DGRAM) as last:
                    last.sendto(b"stop", ("127.0.0.1" if s.family == socket.AF_INET else "::1", s.getsockname()[1]))
        for thread, s in zip(self.threads, self.sockets, strict=True):
            thread.join(5)
            s.close()


class Scene:
    """``filter``: what the router drops from now on. ``ask``: one measurement from c."""

    def __init__(self, net: Any, fd: int) -> None:
        self.net, self.fd = net, fd

    def filter(self, *rules: str) -> None:
        text = "flush ruleset\n"
        if rules:
            text += "table inet f { chain f { type filter hook forward priority -500; " + "; ".join(rules) + "; }\n}\n"
        self.net.inside("r", "nft", "-f", "-", stdin=text)

    def ask(self, family: int, port: int = 0, **more: Any) -> ProbeResult:
        request = Measure(
            ref="m", source="x", address=SERVER[family], port=port, protocol="udp" if port else "icmp", **more
        )
        result = measure(self.fd, request)
        assert isinstance(result, ProbeResult), result
        return result

    def remembered(self) -> str:
        return "".join(self.net.ip("c", f"-{v} route get {SERVER[v]}") for v in (4, 6))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with netlab.nets() as net:
        net.add("c", "r", "s")
        net.batch("c", f"link add eth0 type veth peer name rc netns {net('r')}")
        net.batch("s", f"link add eth0 type veth peer name rs netns {net('r')}")
        for name, lines in STATES.items():
            net.batch(name, lines)
        net.inside("r", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for name in ("r", "s"):  # how few answers may come is tried in simulation, where waiting costs nothing
            net.inside(name, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        fds = [os.open(f"/run/netns/{net(n)}", os.O_RDONLY | os.O_CLOEXEC) for n in ("c", "s")]
        servers = Servers(fds[1], {DNS: dns_server, QUIC: quic_server, QUIET: lambda data: None, PICKY: picky_server})
        try:
            yield Scene(net, fds[0])
        finally:
            servers.stop(fds[1])
            for fd in fds:
                os.close(fd)


@pytest.fixture(params=["root", "ordinary"])
def rights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ordinary user has no packet socket."""
    if request.param == "ordinary":

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(hands, "Lookout", refuse)
    return str(request.param)


OUT4, OUT6 = "ip daddr 198.18.2.2 ip length > 1400", "ip6 daddr 2001:db8:2::2 ip6 length > 1360"
HOLE = (f"{OUT4} drop", f"{OUT6} drop")
WAYS = [
    pytest.param(DNS, "ok", "dns", "udp-dns", id="dns"),
    pytest.param(QUIC, "ok", "quic", "udp-quic", id="quic"),
    pytest.param(CLOSED, "refused", None, "udp-closed", id="closed"),
    pytest.param(0, "n/a", None, "udp-closed", id="host"),
]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("port", "word", "speaks", "method"), WAYS)
def test_a_whole_way_and_a_hole(
    scene: Scene, rights: str, family: int, port: int, word: str, speaks: str | None, method: str
) -> None:
    before = scene.remembered()
    scene.filter()
    well = scene.ask(family, port)
    assert (well.contact.udp, well.contact.speaks) == (word, speaks)
    assert (well.forward[0].method, well.forward[0].passes, well.forward[0].fails) == (method, 1500, None)
    assert well.contact.rtt is not None and well.used.packets < 60
    pieces = [b.passes for b in well.both if b.method == "icmp-fragments"]
    assert pieces == ([2000] if rights == "root" and family == 4 and port != CLOSED else [])
    scene.filter(*HOLE)
    hole = scene.ask(family, port).forward[0]
    assert (hole.passes, hole.fails, hole.grade, hole.told_by) == (1400, 1401, "step", None)
    assert scene.remembered() == before


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_server_does_not_take_is_no_hole(scene: Scene, rights: str, family: int) -> None:
    scene.filter()
    best, own = scene.ask(family, PICKY).forward
    assert (best.method, best.passes, best.fails) == ("udp-closed", 1500, None)
    assert (own.method, own.passes, own.grade, own.note) == (
        "udp-dns",
        1232 + (28 if family == 4 else 48),
        "none",
        "server-takes-less",
    )
    scene.filter(*HOLE)
    best = scene.ask(family, PICKY).forward[0]
    assert (best.method, best.passes, best.fails, best.grade) == ("udp-closed", 1400, 1401, "step")
    scene.filter("udp dport 33434-33600 drop")
    best = scene.ask(family, PICKY).forward[0]
    assert best.note == "unproven" or (best.note, rights, family) == ("server-takes-less", "root", 4)


@pytest.mark.parametrize("family", [4, 6])
def test_who_is_told_is_no_hole(scene: Scene, rights: str, family: int) -> None:
    """The router's own link is smaller, and it says so. Only an ordinary user's IPv6 socket has to learn it to hear it,
    and that is said."""
    scene.filter()
    for port in (QUIC, CLOSED):
        scene.net.ip("r", "link set rs mtu 1400")
        try:
            got = scene.ask(family, port)
        finally:
            scene.net.ip("r", "link set rs mtu 1500")
        b = got.forward[0]
        assert (b.passes, b.fails, b.grade, b.told_by, b.told_mtu) == (1400, 1401, "told", ROUTER[family], 1400)
        assert [(t.by, t.mtu, t.ours, t.sane) for t in got.too_big] == [(ROUTER[family], 1400, True, True)]
        learned = family == 6 and rights == "ordinary"
        assert [s.what for s in got.side_effects] == (["learned-path-mtu"] if learned else [])
        assert ("mtu 1400" in scene.remembered()) == learned
        scene.net.ip("c", "-6 route flush cache")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("reject with icmpx admin-prohibited", "filtered"),
        ("reject with icmpx host-unreachable", "unreachable"),
        ("reject with icmpx port-unreachable", "refused"),
    ],
)
def test_what_a_filter_says(scene: Scene, family: int, rule: str, word: str) -> None:
    scene.filter(f"udp dport {QUIET} {rule}")
    got = scene.ask(family, QUIET)
    assert got.contact.udp == word
    assert got.contact.error_from == ROUTER[family]
    assert got.forward == ()  # an answer from on the way says nothing of the rest of it


def test_an_open_port_that_says_nothing_is_silent(scene: Scene) -> None:
    scene.filter()
    got = scene.ask(4, QUIET)
    assert (got.contact.udp, got.contact.icmp) == ("silent", None)
    assert (got.forward[0].method, got.forward[0].passes) == ("udp-closed", 1500)
    assert got.reverse[0].note == "no-large-answers"


@pytest.mark.parametrize("family", [4, 6])
def test_large_answers(scene: Scene, family: int) -> None:
    scene.filter()
    well = scene.ask(family, DNS).dns
    assert well is not None and (well.name, well.kind, well.tcp) == (".", "DNSKEY", "n/a")
    assert [s.cut for s in well.sizes] == [True, True, True, False]
    assert well.sizes[-1].size > 1800 and 1400 < well.sizes[-1].piece <= 1500
    scene.filter("ip frag-off & 0x3fff != 0 drop", "exthdr frag exists drop")
    lost = scene.ask(family, DNS)
    assert lost.dns is not None and [s.answered > 0 for s in lost.dns.sizes] == [True, True, True, False]
    assert (lost.dns.sizes[-1].tries, lost.dns.tcp) == (4, "refused")
    assert lost.reverse[0].note == "large-answers-lost"
    pieces = [[b for b in r.both if b.method == "icmp-fragments"] for r in (scene.ask(4), lost)]
    assert [(b.passes, b.fails) for b in pieces[0]] == [(None, 2000)]
    assert [(b.passes, b.fails) for b in pieces[1]] == ([(None, 2000)] if family == 4 else [])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("port", "method"), [(DNS, "udp-dns"), (QUIC, "udp-quic"), (0, "udp-closed")])
def test_where_large_ones_get_lost(scene: Scene, family: int, port: int, method: str) -> None:
    scene.filter(*HOLE)
    request = MeasureHops(
        ref="h", source="x", address=SERVER[family], port=port, small=560, large=1401, method=method, max_ttl=4
    )
    found = measure_hops(scene.fd, request)
    assert isinstance(found, HopsFact)
    first = found.hops[0]
    assert (first.small, first.large) == (ROUTER[family], ROUTER[family])
    assert not any(h.large for h in found.hops[1:])
    if method != "udp-quic":  # which answers nothing that small
        assert found.hops[1].small == SERVER[family] and accused(found.hops) == 2


def test_no_way_there(scene: Scene) -> None:
    """Our own kernel says no."""
    scene.net.ip("c", "route add unreachable 198.18.2.2")
    try:
        got = scene.ask(4, DNS)
    finally:
        scene.net.ip("c", "route del unreachable 198.18.2.2")
    assert (got.contact.udp, got.contact.error) == ("unreachable", "EHOSTUNREACH")
