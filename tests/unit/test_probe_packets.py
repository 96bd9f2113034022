"""Headers we build and read; filters the kernel runs for us."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.host import rawsock
from pathfit.wire import packets

A4, B4 = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2])
A6, B6 = bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("20010db8000000000000000000000002")


def plain_checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=200))
def test_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    ours, theirs = packets.checksum(data), plain_checksum(data)
    assert ours == theirs or {ours, theirs} == {0, 0xFFFF}


@pytest.mark.parametrize(("src", "dst"), [(A4, B4), (A6, B6)])
@pytest.mark.parametrize("ts", [None, (7, 9)])
@pytest.mark.parametrize("size", [100, 577, 1500])
def test_segment_is_whole_and_true(src: bytes, dst: bytes, ts: tuple[int, int] | None, size: int) -> None:
    data = packets.tcp_segment(src, dst, 1000, 443, seq=5, ack=6, size=size, ts=ts, ttl=9)
    ip = packets.parse_ip(data)
    assert ip is not None and len(data) == size == ip.size
    assert (ip.src, ip.dst, ip.protocol, ip.ttl, ip.df) == (src, dst, packets.TCP, 9, True)
    tcp = packets.parse_tcp(data, ip.at)
    assert tcp is not None and (tcp.sport, tcp.dport, tcp.seq, tcp.ack, tcp.ts) == (1000, 443, 5, 6, ts)
    pseudo = src + dst + struct.pack("!II", size - ip.at, packets.TCP)
    assert plain_checksum(pseudo + data[ip.at :]) == 0
    if len(src) == 4:
        assert plain_checksum(data[:20]) == 0


def test_echo_request_checksums() -> None:
    data = packets.echo_request(A4, B4, 7, 8, 1000)
    assert len(data) == 1000 and plain_checksum(data[20:]) == 0
    data = packets.echo_request(A6, B6, 7, 8, 1000)
    assert plain_checksum(A6 + B6 + struct.pack("!II", 960, packets.ICMPV6) + data[40:]) == 0


def test_sacks_and_broken_options() -> None:
    head = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 15 << 4, 16, 0, 0, 0)
    options = bytes([1, 1, 5, 18]) + struct.pack("!4I", 10, 20, 30, 40) + bytes([8, 0]) + bytes(18)
    tcp = packets.parse_tcp(head + options, 0)
    assert tcp is not None and tcp.sacks == ((10, 20), (30, 40)) and tcp.ts is None


def test_too_big_carries_its_mtu() -> None:
    v4 = bytes([3, 4, 0, 0]) + struct.pack("!HH", 0, 1400) + bytes(28)
    assert packets.parse_icmp(v4, 0, 4).mtu == 1400  # type: ignore[union-attr]
    v6 = bytes([2, 0, 0, 0]) + struct.pack("!I", 1300) + bytes(48)
    assert packets.parse_icmp(v6, 0, 6).mtu == 1300  # type: ignore[union-attr]


@given(st.binary(max_size=120))
def test_nothing_hostile_raises(data: bytes) -> None:
    packets.parse_ip(data)
    packets.parse_tcp(data, 0)
    packets.parse_icmp(data, 0, 4)
    packets.parse_icmp(data, 0, 6)
    packets.parse_ports(data, 0)


def run_filter(program: list[tuple[int, int, int, int]], packet: bytes) -> int:
    """Classic BPF, as far as we use it (linux/filter.h)."""
    a = x = i = 0
    while True:
        code, jt, jf, k = program[i]
        i += 1
        if code == rawsock.RET:
            return k
        if code == rawsock.LDB:
            a = packet[k]
        elif code == rawsock.LDH:
            a = int.from_bytes(packet[k : k + 2], "big")
        elif code == rawsock.LDW:
            a = int.from_bytes(packet[k : k + 4], "big")
        elif code == rawsock.LDXMSH:
            x = (packet[k] & 15) * 4
        elif code == rawsock.LDHX:
            a = int.from_bytes(packet[x + k : x + k + 2], "big")
        elif code == rawsock.LDBX:
            a = packet[x + k]
        elif code in (rawsock.JEQ, rawsock.JGT, rawsock.JSET):
            hit = a == k if code == rawsock.JEQ else a > k if code == rawsock.JGT else bool(a & k)
            i += jt if hit else jf
        else:
            raise AssertionError(code)


@pytest.mark.parametrize(("me", "you"), [(A4, B4), (A6, B6)])
def test_filter_lets_answers_in_and_data_not(me: bytes, you: bytes) -> None:
    program = rawsock.answers_of(you, 443)

    def tcp(src: bytes, sport: int, size: int, flags: int) -> bytes:
        return packets.tcp_segment(src, me, sport, 9, seq=1, ack=1, size=size, flags=flags)

    assert run_filter(program, tcp(you, 443, 80, packets.ACK))
    assert run_filter(program, tcp(you, 443, 80, packets.SYN | packets.ACK))
    assert run_filter(program, tcp(you, 443, 1400, packets.RST))
    assert not run_filter(program, tcp(you, 443, 1400, packets.ACK))
    assert not run_filter(program, tcp(you, 444, 80, packets.ACK))
    assert not run_filter(program, tcp(me, 443, 80, packets.ACK))
    assert run_filter(program, packets.echo_request(you, me, 1, 1, 64))
