"""A redacted frame says the same with other addresses, and nothing of what it carried, whatever it was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_dissect import ether

from pathfit.core.pseudonyms import Pseudonyms
from pathfit.model import same
from pathfit.wire import dissect
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import IP4, IP6, TCPH, UDPH, Icmp, Tcp, checksum, ip_header, is_error, pseudo
from pathfit.wire.redacted import Frames

NAMES = Pseudonyms(b"a key of sixteen bytes, or more")
FRAMES = Frames(NAMES)
# Public addresses alone: of a private one the first bits stay, on purpose.
V4 = st.integers(0x20000000, 0x5FFFFFFF).map(lambda n: n.to_bytes(4, "big"))
V6 = st.integers(0x2400 << 112, (0x2500 << 112) - 1).map(lambda n: n.to_bytes(16, "big"))
MAC = st.binary(min_size=5, max_size=5).map(lambda x: b"\x02" + x)
SECRET = b"GET /secret HTTP/1.1 Cookie: 12345 and so on until it is long enough for sixty-four"


@dataclass(frozen=True)
class Made:
    """A frame and the addresses that stand in it."""

    data: bytes
    addresses: tuple[bytes, ...]


def udp(src: bytes, dst: bytes, sport: int, dport: int, body: bytes, *, summed: bool = True) -> bytes:
    head = UDPH.pack(sport, dport, 8 + len(body), 0)
    check = checksum(head + body, pseudo(src, dst, 17, 8 + len(body))) if summed else 0
    return ip_header(src, dst, 17, 8 + len(body), ident=77) + head[:6] + check.to_bytes(2, "big") + body


def tcp(src: bytes, dst: bytes, body: bytes) -> bytes:
    """With MSS, an unknown option that holds the sender's address (TOA, 254), time stamps."""
    options = b"\2\4\5\xb4" + bytes((254, 8)) + (src + dst)[:4] + b"\0\0" + b"\1\1\x08\x0a" + bytes(range(8)) + bytes(1)
    options += bytes(-len(options) % 4)
    head = TCPH.pack(40000, 443, 7, 9, (20 + len(options)) << 2, 16, 502, 0, 0) + options
    check = checksum(head + body, pseudo(src, dst, 6, len(head) + len(body)))
    segment = head[:16] + check.to_bytes(2, "big") + head[18:] + body
    return ip_header(src, dst, 6, len(segment)) + segment


def error(src: bytes, dst: bytes, quoted: bytes) -> bytes:
    six = len(src) == 16
    body = bytes((2, 0) if six else (3, 4)) + bytes(2) + (1400).to_bytes(4, "big") + quoted
    check = checksum(body, pseudo(src, dst, 58, len(body)) if six else 0)
    body = body[:2] + check.to_bytes(2, "big") + body[4:]
    return ip_header(src, dst, 58 if six else 1, len(body)) + body


def vxlan(src: bytes, dst: bytes, inner: bytes) -> bytes:
    return udp(src, dst, 50000, 4789, b"\x08" + bytes(3) + b"\0\0\x07\0" + inner, summed=len(src) == 16)


def geneve(src: bytes, dst: bytes, inner: bytes) -> bytes:
    option = b"\x01\x02\x80\x01" + dst[:4]
    return udp(src, dst, 50000, 6081, b"\x02\0\x65\x58\0\0\x07\0" + option + inner)


def gre(src: bytes, dst: bytes, packet: bytes) -> bytes:
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    body = b"\x20\0" + kind.to_bytes(2, "big") + (7).to_bytes(4, "big") + packet
    return ip_header(src, dst, 47, len(body)) + body


def framed(packet: bytes, here: bytes, there: bytes) -> bytes:
    return there + here + ether(packet)[12:]


@st.composite
def frames(draw: st.DrawFn) -> Made:
    """What passes a tap: a packet, or an error that quotes it, in a tunnel or in none, over IPv4 or IPv6."""
    them: list[bytes] = []

    def pair() -> tuple[bytes, bytes]:
        kind = draw(st.sampled_from([V4, V6]))
        new = (draw(kind), draw(kind))
        them.extend(new)
        return new

    macs = [draw(MAC) for _ in range(4)]
    first = pair()
    body = SECRET[: draw(st.integers(0, len(SECRET)))]
    packet = draw(st.sampled_from([lambda: tcp(*first, body), lambda: udp(*first, 5353, 53, body)]))()
    if draw(st.booleans()):
        packet = error(first[1], first[0], packet[: draw(st.integers(28, 120))])
    wrap = draw(st.sampled_from([None, vxlan, geneve, gre]))
    if wrap is gre:
        packet = gre(*pair(), packet)
    elif wrap is not None:
        packet = wrap(*pair(), framed(packet, macs[2], macs[3]))
    else:
        macs = macs[:2]
    return Made(framed(packet, macs[0], macs[1]), (*them, *macs))


def spoken(layer: Layer) -> tuple[Any, ...]:
    """What a packet says, but for addresses, sums and what it carries."""
    ip, t = layer.ip, layer.transport
    said: Any = t
    if isinstance(t, Udp):
        said = t._replace(checksum=bool(t.checksum))
    elif isinstance(t, Icmp):
        told = is_error(ip.family, t.type)
        inner = dissect.packet(t.quoted).layers if told else ()
        echo = t.type in ((0, 8) if ip.family == 4 else (128, 129))
        numbers = (t.mtu, t.ident, t.seq) if told or echo else ()
        said = (t.type, t.code, numbers, len(t.quoted), [spoken(x) for x in inner])
    names = (NAMES.packed(ip.src), NAMES.packed(ip.dst))
    return (names, *ip._replace(src=b"", dst=b""), *layer[1:5], said)


def other(layer: Layer) -> tuple[Any, ...]:
    """The same of a redacted one."""
    made = spoken(layer)
    names: Any = (layer.ip.src, layer.ip.dst)
    said = made[-1]
    if isinstance(layer.transport, Icmp) and is_error(layer.ip.family, layer.transport.type):
        said = (*said[:-1], [other(x) for x in dissect.packet(layer.transport.quoted).layers])
    return (names, *made[1:-1], said)


def same_but_for_names(data: bytes, *, raw: bool = False) -> bytes:
    made = (FRAMES.packet if raw else FRAMES.frame)(data)
    look: Callable[[bytes], dissect.Dissected] = dissect.packet if raw else dissect.frame
    old, new = look(data), look(made)
    assert len(made) == len(data) and new.vlans[: len(old.vlans)] == old.vlans
    assert [other(x) for x in new.layers] == [spoken(x) for x in old.layers]
    return made


@given(frames())
@settings(max_examples=400, deadline=None)
def test_what_passes_a_tap(it: Made) -> None:
    made = same_but_for_names(it.data)
    assert [x.hex() for x in it.addresses if x in made] == []
    assert not any(SECRET[n : n + 6] in made for n in range(len(SECRET) - 6) if SECRET[n : n + 6] in it.data)
    assert len(dissect.frame(it.data).layers) >= 1, "or this test shows nothing"


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=500, deadline=None)
def test_anything_at_all(data: bytes, raw: bool) -> None:
    same_but_for_names(data, raw=raw)


@given(frames(), st.data())
@settings(max_examples=300, deadline=None)
def test_headers_that_are_cut_or_damaged(it: Made, data: st.DataObject) -> None:
    broken = bytearray(it.data[: data.draw(st.integers(0, len(it.data)))])
    for at in data.draw(st.lists(st.integers(0, max(len(broken) - 1, 0)), max_size=4)):
        if broken:
            broken[at] = data.draw(st.integers(0, 255))
    same_but_for_names(bytes(broken))


@given(frames())
@settings(max_examples=200, deadline=None)
def test_checksums_are_right_and_a_header_s_wrong_one_stays_wrong(it: Made) -> None:
    made = FRAMES.frame(it.data)
    for n, layer in enumerate(dissect.frame(made).layers):
        ip, at = layer.ip, layer.at
        if ip.family == 4:
            assert checksum(made[at : at + ip.at]) == 0
            wrong = bytearray(it.data)
            wrong[at + 10] ^= 1
            assert checksum(FRAMES.frame(bytes(wrong))[at : at + ip.at]) != 0
        segment = made[at + ip.at : at + ip.size]
        if isinstance(layer.transport, Udp) and not layer.transport.checksum:
            continue
        if layer.transport is not None and at + ip.size <= len(made):
            start = 0 if ip.protocol == 1 else pseudo(ip.src, ip.dst, ip.protocol, len(segment))
            assert checksum(segment, start) == 0, (n, layer)


@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_what_began_alike_still_does(start: bytes, a: bytes, b: bytes) -> None:
    start = start[: len(start) // 4 * 4]
    x, y = NAMES.scrambled(start + a), NAMES.scrambled(start + b)
    assert (len(x), len(y)) == (len(start + a), len(start + b)) and x[: len(start)] == y[: len(start)]
    assert x[:64] == NAMES.scrambled((start + a)[:64])
    if len(a) > 3 and len(b) > 3 and a[:4] != b[:4]:
        assert x[len(start) :][:4] != y[len(start) :][:4]


@pytest.mark.parametrize("size", [4, 16])
def test_copies_are_known_again(size: int) -> None:
    """At two points, with another hop limit and in a tunnel, a datagram that has no number of its own."""
    a, b, c, d = (bytes((0x24, n)) + bytes(size - 3) + b"\1" for n in range(4))
    one, two = udp(a, b, 5000, 53, SECRET), udp(a, b, 5000, 53, SECRET[1:])
    kept = []
    for packet in (one, vxlan(c, d, ether(one)), two):
        made = FRAMES.packet(packet)
        layer = dissect.packet(made).layers[-1]
        zero = layer._replace(ip=layer.ip._replace(ident=0))
        kept.append(same.pieces(made, zero, len(made)))
    assert kept[0] == kept[1] != kept[2]
    assert (IP4 if size == 4 else IP6).size <= dissect.packet(FRAMES.packet(one)).layers[0].payload
    assert isinstance(dissect.packet(FRAMES.packet(tcp(a, b, b""))).layers[0].transport, Tcp)
