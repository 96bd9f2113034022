"""Names as the source resolves them: its files, its servers, and answers nobody should trust."""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import dns.message
import dns.rcode
import dns.rrset
import netlab
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathfit.core.evidence import NameFact
from pathfit.core.evidence_base import Missing
from pathfit.core.request import ResolveName
from pathfit.host import netns
from pathfit.observe import names, places, resolvconf
from pathfit.observe.resolvconf import ResolvConf

# --- files ------------------------------------------------------------------------------------------------------------


def test_resolv_conf() -> None:
    text = """
    # comment
    nameserver 10.0.0.1
    nameserver nonsense
    nameserver FD00::1
    nameserver fe80::1%eth0
    nameserver 10.0.0.4
    domain old.example
    search A.example b.example.
    options ndots:5 timeout:2 attempts:x rotate
    """
    assert resolvconf.parse(text) == ResolvConf(
        ("10.0.0.1", "fd00::1", "fe80::1%eth0"), ("a.example", "b.example"), ndots=5, timeout=2
    )


@pytest.mark.parametrize("text", ["", "nameserver", "options", "search", ";x y", "\0\xff nameserver"])
def test_a_resolv_conf_of_nothing(text: str) -> None:
    assert resolvconf.parse(text) == ResolvConf()


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert len(resolvconf.parse(text).servers) <= resolvconf.SERVERS
    resolvconf.hosts(text, "a")


def test_hosts() -> None:
    text = "127.0.0.1 localhost\n10.0.0.7\tweb WEB.example # 10.0.0.8 no\n#10.0.0.9 web\nfd00::7 web\nx web\n"
    text += "10.0.0.7 web\n"
    assert resolvconf.hosts(text, "Web.") == ("10.0.0.7", "fd00::7")
    assert resolvconf.hosts(text, "no") == ()


@pytest.mark.parametrize(
    ("name", "ndots", "expected"),
    [
        ("web", 1, ("web.a.b", "web.c", "web")),
        ("web.x", 1, ("web.x", "web.x.a.b", "web.x.c")),
        ("web.x", 5, ("web.x.a.b", "web.x.c", "web.x")),
        ("web.", 5, ("web",)),
    ],
)
def test_search_list(name: str, ndots: int, expected: tuple[str, ...]) -> None:
    assert resolvconf.candidates(name, ResolvConf(search=("a.b", "c"), ndots=ndots)) == expected


# --- servers ----------------------------------------------------------------------------------------------------------

Reply = Callable[[dns.message.Message], bytes | None]


def records(name: str, kind: str, *values: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, 60, "IN", kind, *values)


def answer(query: dns.message.Message, *rrsets: dns.rrset.RRset, code: int = 0) -> bytes:
    message = dns.message.make_response(query)
    message.set_rcode(dns.rcode.Rcode(code))
    message.answer.extend(rrsets)
    return message.to_wire(max_size=65535)


def zone(query: dns.message.Message) -> bytes | None:
    """One name for each kind of trouble."""
    question = query.question[0]
    name, kind = question.name.to_text(), {1: "A", 28: "AAAA"}[question.rdtype]
    first = name.split(".")[0]
    if first in SPECIAL:
        return SPECIAL[first](query, name, kind)
    if name == "web.example." or name == "short.lab.example.":
        return answer(query, records(name, kind, "10.9.9.9" if kind == "A" else "fd00:9::9"))
    return answer(query, code=dns.rcode.NXDOMAIN)


def many(query: dns.message.Message, name: str, kind: str) -> bytes:
    if kind == "AAAA":
        return answer(query)
    return answer(query, records(name, kind, *(f"10.7.{n >> 8}.{n & 255}" for n in range(1000))))


def truncated(query: dns.message.Message) -> bytes:
    message = dns.message.make_response(query)
    message.flags |= 0x0200
    return message.to_wire()


def large(query: dns.message.Message, name: str, kind: str) -> bytes | None:
    """Its answer is too large for the way: what asks with EDNS hears nothing."""
    return None if query.edns >= 0 else many(query, name, kind)


def chain(query: dns.message.Message, name: str, kind: str) -> bytes:
    links = [records(name if n == 0 else f"c{n}.example.", "CNAME", f"c{n + 1}.example.") for n in range(3)]
    ends = records("c3.example.", kind, "10.9.9.3" if kind == "A" else "fd00:9::3")
    foreign = records("evil.example.", kind, "10.66.6.6" if kind == "A" else "fd00:66::6")
    return answer(query, foreign, ends, *links)


def wrong_question(query: dns.message.Message, name: str, kind: str) -> bytes:
    other = dns.message.make_query("evil.example.", kind, id=query.id)
    return answer(other, records("evil.example.", kind, "10.66.6.6" if kind == "A" else "fd00:66::6"))


SPECIAL: dict[str, Callable[[dns.message.Message, str, str], bytes | None]] = {
    "v4": lambda q, n, k: answer(q, records(n, "A", "10.9.9.4")) if k == "A" else answer(q),
    "nothing": lambda q, n, k: answer(q),
    "broken": lambda q, n, k: answer(q, code=dns.rcode.SERVFAIL),
    "denied": lambda q, n, k: answer(q, code=dns.rcode.REFUSED),
    "silent": lambda q, n, k: None,
    "alias": chain,
    "loop": lambda q, n, k: answer(q, records(n, "CNAME", "x.example."), records("x.example.", "CNAME", n)),
    "garbage": lambda q, n, k: struct.pack(">H", q.id) + random.Random(7).randbytes(60),
    "other": wrong_question,
    "many": many,
    "large": large,
    "old": lambda q, n, k: None if q.edns >= 0 else answer(q, records(n, "A", "10.9.9.8")) if k == "A" else answer(q),
}


class Server:
    """A nameserver in a namespace, UDP and TCP; ends when its sockets are closed."""

    def __init__(self, fd: int, address: str) -> None:
        with netns.inside(fd):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind((address, 53))
            self.tcp = socket.create_server((address, 53))
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.by_udp, self.by_tcp)]
        for thread in self.threads:
            thread.start()

    def by_udp(self) -> None:
        while True:
            data, peer = self.udp.recvfrom(4096)
            if data == b"stop":
                return
            query = dns.message.from_wire(data)
            if reply := zone(query):
                self.udp.sendto(reply if len(reply) <= (1232 if query.edns >= 0 else 512) else truncated(query), peer)

    def by_tcp(self) -> None:
        while True:
            stream, _ = self.tcp.accept()
            with stream:
                size = stream.recv(2)
                if len(size) < 2:
                    return
                query = dns.message.from_wire(stream.recv(struct.unpack(">H", size)[0]))
                reply = zone(query) or b""
                stream.sendall(struct.pack(">H", len(reply)) + reply)

    def stop(self, fd: int, address: str) -> None:
        with netns.inside(fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", (address, 53))
        with netns.inside(fd), socket.create_connection((address, 53)):
            pass
        for thread in self.threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()


SERVER, CLOSED, NOWHERE = "127.0.0.11", "127.0.0.12", "203.0.113.9"


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[netns.NetnsHandle]:
    """A container whose only nameserver is reached on its own loopback, as Docker's is."""
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").write_text(f"nameserver {SERVER}\nsearch lab.example\n")
    (root / "etc/hosts").write_text("10.8.8.8 inhosts\nfd00:8::8 inhosts\n")
    with netlab.nets() as net:
        net.add("d")
        found = places.locate(f"netns:{net('d')}")
        assert not isinstance(found, Missing)
        with found[0] as handle:
            server = Server(handle.fd, SERVER)
            yield netns.NetnsHandle(fd=handle.fd, id=handle.id, where=handle.where, mount_root=str(root))
            server.stop(handle.fd, SERVER)


@pytest.mark.parametrize(
    ("where", "root", "exists", "expected"),
    [
        ("netns:c", None, True, "/etc/netns/c/hosts"),
        ("netns:/run/netns/c", None, True, "/etc/netns/c/hosts"),
        ("netns:c", None, False, "/etc/hosts"),
        ("netns:/tmp/c", None, True, "/etc/hosts"),
        ("host", None, True, "/etc/hosts"),
        ("container:c", "/proc/7/root", True, "/proc/7/root/etc/hosts"),
    ],
)
def test_whose_files(
    monkeypatch: pytest.MonkeyPatch, where: str, root: str | None, exists: bool, expected: str
) -> None:
    """As `ip netns exec` would show them, or as the process sees them."""
    monkeypatch.setattr(names.procfs, "maybe", lambda path, limit: path)
    monkeypatch.setattr(names.os.path, "exists", lambda path: exists)
    assert names._file(netns.NetnsHandle(fd=-1, id="4:1", where=where, mount_root=root), "hosts") == expected


def resolve(where: netns.NetnsHandle, name: str, families: tuple[int, ...] = (4, 6), timeout: float = 2.0) -> NameFact:
    request = ResolveName(ref="n:1", source=where.where, name=name, families=families, timeout=timeout)  # type: ignore[arg-type]
    return names.resolve(where, request)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "addresses", "error", "source"),
    [
        ("web.example", ("10.9.9.9", "fd00:9::9"), None, "dns"),
        ("WEB.example.", ("10.9.9.9", "fd00:9::9"), None, "dns"),
        ("short", ("10.9.9.9", "fd00:9::9"), None, "dns"),
        ("short.", (), "nxdomain", "dns"),
        ("v4.example", ("10.9.9.4",), None, "dns"),
        ("alias.example", ("10.9.9.3", "fd00:9::3"), None, "dns"),
        ("inhosts", ("10.8.8.8", "fd00:8::8"), None, "hosts"),
        ("localhost", ("127.0.0.1", "::1"), None, "hosts"),
        ("198.51.100.7", ("198.51.100.7",), None, "literal"),
        ("[2001:DB8::1]", ("2001:db8::1",), None, "literal"),
        ("gone.example", (), "nxdomain", "dns"),
        ("nothing.example", (), "nodata", "dns"),
        ("broken.example", (), "servfail", "dns"),
        ("denied.example", (), "refused", "dns"),
        ("loop.example", (), "servfail", "dns"),
        ("garbage.example", (), "malformed", "dns"),
        ("other.example", (), "malformed", "dns"),
        ("a" * 64 + ".example", (), "malformed", "literal"),
        (".".join(["a" * 60] * 5), (), "malformed", "literal"),
        ("", (), "malformed", "literal"),
        ("a..b", (), "malformed", "literal"),
        ("a b", (), "malformed", "literal"),
        ("../etc", (), "malformed", "literal"),
    ],
)
def test_names(where: netns.NetnsHandle, name: str, addresses: tuple[str, ...], error: str | None, source: str) -> None:
    found = resolve(where, name)
    assert (found.addresses, found.error, found.source) == (addresses, error, source)
    assert (found.ref, found.name) == ("n:1", name)
    assert found.server == (SERVER if source == "dns" else None)


@pytest.mark.lab
def test_only_the_families_that_were_asked(where: netns.NetnsHandle) -> None:
    assert resolve(where, "web.example", (6,)).addresses == ("fd00:9::9",)
    assert resolve(where, "inhosts", (4,)).addresses == ("10.8.8.8",)


@pytest.mark.lab
def test_a_thousand_addresses_come_by_tcp_and_some_are_kept(where: netns.NetnsHandle) -> None:
    found = resolve(where, "many.example")
    assert len(found.addresses) == names.ADDRESSES
    assert found.more == 1000 - names.ADDRESSES


@pytest.mark.lab
def test_a_server_whose_large_answers_get_lost(where: netns.NetnsHandle) -> None:
    found = resolve(where, "large.example", (4,), timeout=2)
    assert (found.large_lost, found.error, len(found.addresses)) == (True, None, names.ADDRESSES)


@pytest.mark.lab
def test_a_server_that_knows_no_edns_loses_nothing(where: netns.NetnsHandle) -> None:
    found = resolve(where, "old.example", (4,), timeout=0.8)
    assert (found.large_lost, found.addresses) == (False, ("10.9.9.8",))


@pytest.mark.lab
def test_silence_ends_in_time(where: netns.NetnsHandle) -> None:
    found = resolve(where, "silent.example", timeout=0.3)
    assert found.error == "timeout"
    assert 0.29 <= found.took < 2


@pytest.mark.lab
@pytest.mark.parametrize(("server", "error"), [(CLOSED, "refused"), (NOWHERE, "unreachable")])
def test_servers_that_are_not_there(where: netns.NetnsHandle, server: str, error: str) -> None:
    assert names.ask(where.fd, server, "web.example", (4, 6), 1.0) == names.Answer(error=error, server=server)  # type: ignore[arg-type]


@pytest.mark.lab
def test_the_next_server_is_asked(where: netns.NetnsHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = f"nameserver {CLOSED}\nnameserver {SERVER}\n"
    monkeypatch.setattr(names, "_file", lambda handle, name: conf if name == "resolv.conf" else "")
    found = resolve(where, "web.example")
    assert (found.error, found.server) == (None, SERVER)


@pytest.mark.lab
def test_no_nameserver(where: netns.NetnsHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_file", lambda handle, name: "")
    assert resolve(where, "web.example").error == "no-nameserver"
