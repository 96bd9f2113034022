"""Which "too big" counts: for a packet of ours, possible, from an address a router can have. No packet is sent."""

import socket
import struct
from collections.abc import Iterator

import pytest

from pathfit.probe import lookout
from pathfit.wire import packets
from pathfit.wire.datagram import datagram, ip4

HERE = {4: "198.18.1.2", 6: "2001:db8:1::2"}
THERE = {4: "198.18.2.2", 6: "2001:db8:2::2"}
ROUTER = {4: "198.18.1.1", 6: "2001:db8:1::1"}
PORT, OURS, OTHER = 443, 40001, 50001


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


@pytest.fixture(params=[4, 6])
def ears(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[lookout.Lookout]:
    """A lookout with nothing to listen to, that knows of one datagram and one segment of ours, 1500 bytes each."""
    near, far = socket.socketpair()
    monkeypatch.setattr(lookout.rawsock, "listener", lambda *_: near)
    made = lookout.Lookout(request.param, packed(THERE[request.param]), PORT)
    made.sizes[(OURS, lookout.UDP_SEQ)] = 1500
    made.sizes[(OURS, 7000)] = 1500
    yield made
    made.close()
    far.close()


def error(family: int, by: str, mtu: int, *, port: int = OURS, to: str = "", seq: int | None = None) -> bytes:
    """ "Too big, mtu" by ``by`` for a datagram of 1500 bytes (a segment where ``seq`` is given)."""
    src, dst = packed(HERE[family]), packed(to or THERE[family])
    if seq is None:
        body = datagram(src, dst, port, PORT, bytes(1500 - 8 - (20 if family == 4 else 40)))
        inner = packets.ip_header(src, dst, packets.UDP, len(body)) + body
    else:
        inner = packets.tcp_segment(src, dst, port, PORT, seq=seq, ack=1, size=1500)
    if family == 4:
        return ip4(packed(by), src, packets.ICMP, struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inner[:28], 1)
    message = struct.pack("!BBHI", 2, 0, 0, mtu) + inner[:48]
    return packets.ip_header(packed(by), src, packets.ICMPV6, len(message)) + message


def told(ears: lookout.Lookout, *messages: bytes) -> list[tuple[int, bool, bool]]:
    for data in messages:
        ears._take(1.0, data, "eth0")
    return [(t.mtu, t.ours, t.sane) for t in ears.too_big]


@pytest.mark.parametrize("seq", [None, 7000])
def test_one_for_a_packet_of_ours(ears: lookout.Lookout, seq: int | None) -> None:
    family = ears.family
    assert told(ears, error(family, ROUTER[family], 1400, seq=seq)) == [(1400, True, True)]
    assert ears.udp_too_big == ([(OURS, 1400, ROUTER[family])] if seq is None else [])


@pytest.mark.parametrize("mtu", [0, 1, 1500, 9000])
def test_one_that_cannot_be_true(ears: lookout.Lookout, mtu: int) -> None:
    assert told(ears, error(ears.family, ROUTER[ears.family], mtu)) == [(mtu, True, False)]


def test_below_the_least_of_ipv6(ears: lookout.Lookout) -> None:
    assert told(ears, error(ears.family, ROUTER[ears.family], 1279)) == [(1279, True, ears.family == 4)]


def test_one_from_an_address_no_router_has(ears: lookout.Lookout) -> None:
    by = "127.0.0.1" if ears.family == 4 else "ff02::1"
    assert told(ears, error(ears.family, by, 1400)) == [(1400, True, False)]
    assert ears.udp_too_big == []  # the kernel never hears of it


def test_a_number_nobody_sent_from_a_port_of_ours(ears: lookout.Lookout) -> None:
    assert told(ears, error(ears.family, ROUTER[ears.family], 1400, seq=9)) == [(1400, False, True)]


def test_what_other_flows_are_told_is_their_business(ears: lookout.Lookout) -> None:
    """An upload beside us, to the same server or another one, is told the truth."""
    router, family = ROUTER[ears.family], ears.family
    elsewhere = "203.0.113.9" if family == 4 else "2001:db8:99::9"
    assert told(ears, error(family, router, 1400, port=OTHER), error(family, router, 1400, to=elsewhere)) == []
    assert told(ears, error(family, router, 1400, port=OTHER, seq=1)) == []
    assert told(ears, error(family, router, 9000, port=OTHER)) == [(9000, False, False)]  # true of no flow
