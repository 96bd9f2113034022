"""The servers of a lab, asked with curl and with bare sockets; all of them on one host, in one process."""

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pathfit.lab import Lab, down, list_up, parse
from pathfit.lab.kernel import in_netns
from pathfit.lab.services import dns

pytestmark = pytest.mark.lab

TEXT = """
name: services
about: x
family: both
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
cables: [{ends: [c, s]}]
expect: {}
services:
  - {host: s}
  - {host: s, kind: https, port: 1001, cert: ec}
  - {host: s, kind: https, port: 1002, behave: silent}
  - {host: s, kind: https, port: 1003, behave: garbage}
  - {host: s, kind: https, port: 1004, behave: alert}
  - {host: s, kind: https, port: 1005, behave: client-cert}
  - {host: s, kind: https, port: 1006, behave: reset}
  - {host: s, kind: http, port: 1007, behave: close}
  - {host: s, kind: http, port: 1008, status: 500}
  - {host: s, kind: http, port: 1009, version: "1.0"}
  - {host: s, kind: http, port: 1010, writes: 2}
  - {host: s, kind: http, port: 1011, behave: late, after: 0.3}
  - {host: s, kind: http, port: 1012, behave: drip}
  - {host: s, kind: http, port: 1013, behave: endless-headers}
  - {host: s, kind: https, port: 1014, cert: expired}
  - {host: s, kind: tcp, port: 1015, behave: banner}
  - {host: s, kind: tcp, port: 1016}
  - {host: s, kind: udp, port: 1017}
  - {host: s, kind: relay, port: 1018, to: "s:8080"}
  - {host: s, kind: http, port: 1019, ranges: false}
  - {host: s, kind: dns, records: {lab.test: s}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    old = os.environ.get("PATHFIT_STATE")
    os.environ["PATHFIT_STATE"] = str(tmp_path_factory.mktemp("state"))
    try:
        with Lab.up(parse(TEXT.encode())) as up:
            yield up
        for entry in list_up():
            down(entry.prefix)
    finally:
        os.environ.pop("PATHFIT_STATE")
        if old is not None:
            os.environ["PATHFIT_STATE"] = old


OUTCOMES = [
    ("https://s:8443/100000", "ok", "200"),
    ("http://s:8080/0", "ok", "200"),
    ("http://[2001:db8:1::2]:8080/5", "ok", "200"),
    ("https://s:1001/5", "ok", "200"),
    ("https://s:1002/5", "hang", "000"),
    ("https://s:1003/5", "tls", "000"),
    ("https://s:1004/5", "tls", "000"),
    ("https://s:1005/5", "tls", "000"),
    ("https://s:1006/5", "reset", "000"),
    ("http://s:1007/5", "empty", "000"),
    ("http://s:1008/5", "status", "500"),
    ("http://s:1009/70000", "ok", "200"),
    ("http://s:1010/70000", "ok", "200"),
    ("http://s:1011/5", "ok", "200"),
    ("http://s:1012/5", "hang", "000"),
    ("http://s:1013/5", "hang", "000"),
    ("https://s:1014/5", "ok", "200"),  # curl -k
    ("http://s:1018/5000", "ok", "200"),
    ("http://s:1099/", "refused", "000"),
]


@pytest.mark.parametrize(("url", "outcome", "status"), OUTCOMES)
def test_outcomes(lab: Lab, url: str, outcome: str, status: str) -> None:
    assert lab.fetch("c", url, 0.7 if outcome == "hang" else 8.0) == (outcome, status)


def test_posts_are_read_to_the_end(lab: Lab) -> None:
    assert lab.curl("c", "https://s:8443/", 8, send=300_000) == "200"


def _connect(lab: Lab, port: int, family: int = 4) -> socket.socket:
    with in_netns(f"{lab.prefix}-c"):
        return socket.create_connection((lab.plan.address("s", family), port), timeout=8)


def _all(s: socket.socket) -> bytes:
    data = b""
    while piece := s.recv(65536):
        data += piece
    return data


def test_head_range_and_pipelining(lab: Lab) -> None:
    with _connect(lab, 8080) as s:
        s.sendall(
            b"HEAD /5000 HTTP/1.1\r\nHost: s\r\n\r\n"
            b"GET /5000 HTTP/1.1\r\nHost: s\r\nRange: bytes=10-19\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"
        )
        head, ranged, last, rest = _all(s).split(b"\r\n\r\n")
    assert b"Content-Length: 5000" in head
    assert ranged.startswith(b"HTTP/1.1 206 ") and b"Content-Range: bytes 10-19/5000" in ranged
    assert last.startswith(b"x" * 10 + b"HTTP/1.1 200 ")
    assert rest == b"xxx"


def test_range_is_passed_over_where_asked(lab: Lab) -> None:
    with _connect(lab, 1019) as s:
        s.sendall(b"GET /50 HTTP/1.1\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n")
        assert _all(s).endswith(b"\r\n\r\n" + b"x" * 50)


def test_http_10_ends_with_the_connection(lab: Lab) -> None:
    with _connect(lab, 1009) as s:
        s.sendall(b"GET /7 HTTP/1.1\r\nHost: s\r\n\r\n")
        answer = _all(s)
    assert answer.startswith(b"HTTP/1.0 200 ") and answer.endswith(b"\r\n\r\n" + b"x" * 7)
    assert b"Content-Length" not in answer


@pytest.mark.parametrize(("port", "segments"), [(8080, 1), (1010, 2)])
def test_header_and_body_in_one_or_two_writes(lab: Lab, port: int, segments: int) -> None:
    """Counted in TCP segments with data that arrived (tcpi_data_segs_in, offset 148 of struct tcp_info)."""
    with _connect(lab, port) as s:
        s.sendall(b"GET /100 HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert _all(s).endswith(b"x" * 100)
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
        assert struct.unpack_from("I", info, 152)[0] == segments


def test_banner_and_echo(lab: Lab) -> None:
    with _connect(lab, 1015) as s:
        assert s.recv(100) == b"220 lab ready\r\n"
    with _connect(lab, 1016, 6) as s:
        s.sendall(b"hello")
        assert s.recv(100) == b"hello"
    with in_netns(f"{lab.prefix}-c"):
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with u:
        u.settimeout(8)
        u.sendto(b"hello", (lab.plan.address("s", 4), 1017))
        assert u.recv(100) == b"hello"


def test_the_chain_is_longer_than_four_kilobytes(lab: Lab) -> None:
    certs = Path(dns.__file__).parents[1] / "certs"
    ders = [
        ssl.PEM_cert_to_DER_cert(p + "-----END CERTIFICATE-----\n")
        for p in (certs / "chain.pem").read_text().split("-----END CERTIFICATE-----\n")
        if p.strip()
    ]
    assert len(ders) == 3 and sum(map(len, ders)) > 4096
    assert len(ssl.PEM_cert_to_DER_cert((certs / "ec.pem").read_text())) < 600
    context = ssl.create_default_context(cafile=certs / "root.pem")
    with _connect(lab, 8443) as s, context.wrap_socket(s, server_hostname="lab.invalid") as t:
        assert t.version() == "TLSv1.3"
        not_after = t.getpeercert()["notAfter"]  # type: ignore[index]
    assert ssl.cert_time_to_seconds(str(not_after)) > 4_900_000_000  # beyond the year 2125
    with _connect(lab, 1014) as s, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        context.wrap_socket(s, server_hostname="lab.invalid")


def _question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


DNS = [
    ("lab.test", 1, 0, socket.inet_aton("198.18.1.2")),
    ("LAB.test", 28, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")),
    ("lab.test", 16, 0, None),
    ("other.test", 1, 3, None),
]


@pytest.mark.parametrize(("name", "kind", "code", "address"), DNS)
def test_names(lab: Lab, name: str, kind: int, code: int, address: bytes | None) -> None:
    with in_netns(f"{lab.prefix}-c"):
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with u:
        u.settimeout(8)
        u.sendto(_question(name, kind), (lab.plan.address("s", 4), 53))
        reply = u.recv(512)
    ident, flags, _, answers = struct.unpack_from("!HHHH", reply)
    assert (ident, flags & 15, answers) == (7, code, int(address is not None))
    assert address is None or reply.endswith(address)


def test_a_name_server_ignores_what_is_no_question() -> None:
    answer = dns.answerer({"records": {}, "behave": "answer"})
    for junk in (b"", b"\0" * 11, b"\0" * 12, b"\xff" * 40, _question("a", 1)[:-3]):
        assert answer(junk) is None
