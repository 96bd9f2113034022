"""Frames taken apart: every way a packet may be wrapped, every place it may be cut off, and bytes of strangers."""

import struct
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.wire import dissect
from pathfit.wire.dissect import Dissected, Udp
from pathfit.wire.packets import Icmp, Tcp, echo_request, ip_header, tcp_data, which

A4, B4 = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 2))
A6, B6 = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
OUTER = {4: (bytes((203, 0, 113, 1)), bytes((203, 0, 113, 2))), 6: (A6[:15] + b"\x0a", A6[:15] + b"\x0b")}


def ether(payload: bytes, tags: tuple[int, ...] = ()) -> bytes:
    kind = 0x86DD if payload[0] >> 4 == 6 else 0x0800
    vlans = b"".join(struct.pack("!HH", 0x88A8 if n == 0 and len(tags) > 1 else 0x8100, t) for n, t in enumerate(tags))
    return bytes(12) + vlans + struct.pack("!H", kind) + payload


def udp(payload: bytes, port: int) -> bytes:
    return struct.pack("!HHHH", 50000, port, 8 + len(payload), 0) + payload


def outside(family: int, protocol: int, payload: bytes) -> bytes:
    return ip_header(*OUTER[family], protocol, len(payload)) + payload


def inside(family: int) -> bytes:
    src, dst = (A4, B4) if family == 4 else (A6, B6)
    return tcp_data(src, dst, 40000, 443, 1000, 2000, b"x" * 64, 7)


def ethertype(packet: bytes) -> int:
    return 0x86DD if packet[0] >> 4 == 6 else 0x0800


WRAPPED = {
    "vxlan": lambda p: (17, udp(bytes((8, 0, 0, 0)) + (77 << 8).to_bytes(4, "big") + ether(p), 4789), 77),
    "vxlan, vlan inside": lambda p: (17, udp(bytes((8, 0, 0, 0, 0, 0, 5, 0)) + ether(p, (9,)), 8472), 5),
    "geneve": lambda p: (17, udp(struct.pack("!BBHI", 0, 0, 0x6558, 77 << 8) + ether(p), 6081), 77),
    "geneve, options, IP": lambda p: (
        17,
        udp(struct.pack("!BBHI", 2, 0, ethertype(p), 3 << 8) + bytes(8) + p, 6081),
        3,
    ),
    "gre": lambda p: (47, struct.pack("!HH", 0, ethertype(p)) + p, None),
    "gre, all": lambda p: (47, struct.pack("!HHIII", 0xB000, ethertype(p), 0, 4711, 1) + p, 4711),
    "gre, ethernet": lambda p: (47, struct.pack("!HHI", 0x2000, 0x6558, 8) + ether(p), 8),
    "ipip": lambda p: (41 if p[0] >> 4 == 6 else 4, p, None),
}
EVERY = [(name, outer, inner) for name, outer, inner in product(WRAPPED, (4, 6), (4, 6))]


def wrapped(name: str, outer: int, inner: int, packet: bytes = b"") -> tuple[bytes, int | None]:
    protocol, payload, number = WRAPPED[name](packet or inside(inner))
    return ether(outside(outer, protocol, payload)), number


@pytest.mark.parametrize(("name", "outer", "inner"), EVERY)
def test_what_is_wrapped_is_found(name: str, outer: int, inner: int) -> None:
    data, number = wrapped(name, outer, inner)
    found = dissect.frame(data)
    assert [layer.ip.family for layer in found.layers] == [outer, inner] and not found.cut
    last = found.inner
    assert last is not None and isinstance(last.transport, Tcp)
    assert (last.via, last.number) == (name.partition(",")[0], number)
    assert (last.transport.sport, last.transport.dport, last.transport.seq) == (40000, 443, 1000)
    assert data[last.at :] == inside(inner) and data[last.payload :] == b"x" * 64


@pytest.mark.parametrize(("name", "outer", "inner"), EVERY)
def test_what_is_cut_off_takes_nothing_of_what_stands_before_it(name: str, outer: int, inner: int) -> None:
    data, _ = wrapped(name, outer, inner)
    whole = dissect.frame(data)
    headers = whole.layers[-1].payload
    for length in range(len(data)):
        found = dissect.frame(data[:length])
        same = [a._replace(transport=None) for a in found.layers]
        assert same == [b._replace(transport=None, payload=a.payload) for a, b in zip(same, whole.layers, strict=False)]
        assert (len(found.layers) == 2 and not found.cut) == (length >= headers), length


def test_tags_of_a_frame() -> None:
    assert dissect.frame(ether(inside(4), (100,))).vlans == (100,)
    assert dissect.frame(ether(inside(6), (100, 200))).vlans == (100, 200)
    assert dissect.frame(ether(inside(4), (1,) * 9)).layers == ()


def test_a_tun_carries_packets_without_a_link_layer() -> None:
    for family in (4, 6):
        (only,) = dissect.packet(inside(family)).layers
        assert only.ip.family == family and isinstance(only.transport, Tcp)


def test_echoes_and_datagrams() -> None:
    (ping,) = dissect.frame(ether(echo_request(A4, B4, 3, 4, 100))).layers
    assert isinstance(ping.transport, Icmp) and (ping.transport.ident, ping.transport.seq) == (3, 4)
    (said,) = dissect.frame(ether(outside(6, 17, udp(b"hello", 53)))).layers
    assert said.transport == Udp(50000, 53, 13, 0)


@pytest.mark.parametrize(
    ("packet", "number"),
    [
        (inside(4), 1000),
        (inside(6), 1000),
        (outside(4, 17, udp(b"hello", 53)), 13),
        (echo_request(A4, B4, 3, 4, 100), 4),
        (echo_request(A6, B6, 3, 4, 100), 4),
    ],
)
def test_a_packet_is_known_again_by_what_an_error_quotes_of_it(packet: bytes, number: int) -> None:
    (layer,) = dissect.packet(packet).layers
    assert layer.which is not None and layer.which.number == number
    behind = layer.ip.at
    assert which(packet[: behind + 8]) == layer.which
    assert which(packet[: behind + 7]) is None


def test_a_later_fragment_shows_nothing_of_what_it_is_a_part_of() -> None:
    data = bytearray(wrapped("vxlan", 4, 4)[0])
    data[14 + 6 : 14 + 8] = (100).to_bytes(2, "big")  # 800 bytes into the datagram
    found = dissect.frame(bytes(data))
    assert len(found.layers) == 1 and found.layers[0].transport is None and not found.cut
    assert found.layers[0].ip.fragment == 800


def test_another_protocol_on_a_tunnel_s_port_is_not_taken_for_one() -> None:
    """VXLAN without its flag, Geneve and GRE (PPTP) of another version: the datagram stays what it is."""
    others = (
        outside(4, 17, udp(bytes(8) + ether(inside(4)), 4789)),
        outside(4, 17, udp(bytes((0x40, 0, 0x65, 0x58, 0, 0, 0, 0)) + ether(inside(4)), 6081)),
        outside(4, 47, struct.pack("!HHI", 0x2001, 0x880B, 8) + inside(4)),
    )
    for packet in others:
        assert len(dissect.frame(ether(packet)).layers) == 1


def test_depth_is_bounded() -> None:
    packet = inside(4)
    for _ in range(100):
        packet = outside(4, 4, packet)[: 20 + len(packet)]
    found = dissect.frame(ether(packet))
    assert len(found.layers) == dissect.MOST_LAYERS


@given(st.binary(max_size=300))
def test_bytes_of_strangers(data: bytes) -> None:
    for found in (dissect.frame(data), dissect.packet(data)):
        assert isinstance(found, Dissected)
        assert len(found.layers) <= dissect.MOST_LAYERS


@given(st.sampled_from(EVERY), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_a_frame_with_some_bytes_changed(case: tuple[str, int, int], changes: list[tuple[int, int]]) -> None:
    """Closer to what comes by than any bytes: deep headers that contradict themselves."""
    data = bytearray(wrapped(*case)[0])
    for at, value in changes:
        data[at % len(data)] = value
    found = dissect.frame(bytes(data))
    assert all(layer.at <= len(data) for layer in found.layers)
