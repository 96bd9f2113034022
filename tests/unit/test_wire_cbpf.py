"""The filter lets the flow through in every form it has, and others not: by an interpreter here, and by the kernel."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netlab import Net, nets
from test_wire_dissect import A4, A6, B4, B6, EVERY, OUTER, ether, inside, wrapped

from pathfit.host import netns
from pathfit.host.ring import Ring
from pathfit.wire import cbpf, dissect
from pathfit.wire.cbpf_code import (
    ADD,
    ADDX,
    AND,
    JA,
    JEQ,
    JSET,
    LDB,
    LDBX,
    LDH,
    LDHX,
    LDI,
    LDM,
    LDW,
    LDWX,
    LDXI,
    LDXM,
    LSH,
    RET,
    RETA,
    RSH,
    ST,
    TAX,
    TXA,
    Instruction,
)  # fmt: skip
from pathfit.wire.dissect import Layer, Udp
from pathfit.wire.packets import Icmp, Tcp, ip_header
from pathfit.wire.tpacket import Seen

ENDS = (A4, B4, A6, B6)
PORT = 443


def run(program: list[Instruction], data: bytes) -> int:
    """What the kernel would return: bytes to keep. A load beyond the packet ends the program with 0
    (bpf_skb_load_helper_8() and its like)."""
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, true, false, k = program[at]
        at += 1
        if code in (RET, RETA):
            return k if code == RET else a
        if code == JA:
            at += k
        elif code in (JEQ, JSET):
            at += true if (a == k if code == JEQ else a & k) else false
        elif code in _WIDTHS:
            width = _WIDTHS[code]
            start = k + (x if code & 0x40 else 0)
            if start + width > len(data):
                return 0
            a = int.from_bytes(data[start : start + width], "big")
        else:
            a, x = _arithmetic(code, k, a, x, memory)


_WIDTHS = {LDW: 4, LDH: 2, LDB: 1, LDWX: 4, LDHX: 2, LDBX: 1}


def _arithmetic(code: int, k: int, a: int, x: int, memory: list[int]) -> tuple[int, int]:
    if code == ST:
        memory[k] = a
        return a, x
    results = {
        LDI: (k, x), LDXI: (a, k), LDM: (memory[k % 16], x), LDXM: (a, memory[k % 16]), TAX: (a, a), TXA: (x, x),
        AND: (a & k, x), LSH: (a << (k & 31) & 0xFFFFFFFF, x), RSH: (a >> (k & 31), x), ADD: (a + k & 0xFFFFFFFF, x),
        ADDX: (a + x & 0xFFFFFFFF, x),
    }  # fmt: skip
    return results[code]


def expected(layer: Layer, hosts: tuple[bytes, ...], port: int) -> bool:
    """Is this packet one of the flow's? In words of the decoder, not of the filter."""
    ours = {layer.ip.src, layer.ip.dst} <= set(hosts)
    if isinstance(layer.transport, Icmp) and layer.ip.dst in hosts:
        return True
    if isinstance(layer.transport, Tcp | Udp):
        return ours and port in (layer.transport.sport, layer.transport.dport)
    return ours and bool(layer.ip.fragment)


@pytest.mark.parametrize(("name", "outer", "inner"), EVERY)
def test_every_form_of_the_flow_and_no_other(name: str, outer: int, inner: int) -> None:
    data, _ = wrapped(name, outer, inner)
    assert run(cbpf.flow(ENDS, (PORT,)), data) == cbpf.KEEP
    assert run(cbpf.flow(ENDS), data) == cbpf.KEEP
    assert run(cbpf.flow(ENDS, (80,)), data) == 0
    assert run(cbpf.flow((A4, A6), (PORT,)), data) == 0, "one of the ends is another"


@pytest.mark.parametrize("family", [4, 6])
def test_the_plain_packet(family: int) -> None:
    packet = inside(family)
    for data in (ether(packet), ether(packet, (7,))):
        assert run(cbpf.flow(ENDS, (PORT,)), data)
        assert not run(cbpf.flow(ENDS, (PORT + 1,)), data)
    assert run(cbpf.flow(ENDS, (PORT,), link=0), packet)
    assert not run(cbpf.flow(OUTER[4], (PORT,)), ether(packet))


def test_who_says_too_big_is_nobody_s_end() -> None:
    router = bytes((10, 9, 8, 7))
    told = ip_header(router, A4, 1, 36) + struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + inside(4)[:28]
    assert run(cbpf.flow(ENDS, (PORT,)), ether(told))
    assert not run(cbpf.flow((B4,), (PORT,)), ether(told))


def test_a_later_fragment_has_no_port() -> None:
    data = bytearray(ether(inside(4)))
    data[20:22] = (50).to_bytes(2, "big")
    assert run(cbpf.flow(ENDS, (80,)), bytes(data))


def test_many_addresses_fit_or_it_is_said() -> None:
    many = [bytes((10, 0, n >> 8, n & 255)) for n in range(100)]
    program = cbpf.flow((*many, *ENDS), (PORT,))
    assert run(program, ether(inside(4))) and run(program, wrapped("gre", 6, 4)[0])
    with pytest.raises(ValueError, match="4096 are allowed"):
        cbpf.flow([bytes((10, n >> 8, n & 255, 1)) for n in range(2000)])


CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)


FORMS = [wrapped(*case)[0] for case in EVERY] + [ether(inside(4)), ether(inside(6)), ether(inside(4), (7,))]


def changed(data: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    changing = bytearray(data)
    for at, value in changes:
        changing[at % len(data)] = value
    return bytes(changing)[: len(data) - cut] if cut < 40 else bytes(changing)


def thorough(ports: tuple[int, ...], link: int, ends: tuple[bytes, ...]) -> list[Instruction]:
    """The filter without its first look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cbpf, "quick", lambda *_, fragments: None)
        return cbpf.flow(ENDS, ports, link=link, ends=ends)


PORTS = st.sampled_from([(PORT,), (80, 8443), ()])
FAR = st.sampled_from([(), OUTER[4], OUTER[6]])


def agree(data: bytes, ports: tuple[int, ...], ends: tuple[bytes, ...], link: int) -> None:
    """The first look turns away what the thorough one would, and of plain TCP keeps the headers."""
    decode = dissect.frame if link else dissect.packet
    kept = run(cbpf.flow(ENDS, ports, link=link, ends=ends), data)
    whole = run(thorough(ports, link, ends), data)
    if not decode(data).layers or decode(data).cut:
        assert not kept or whole, "bytes that no packet has: never more than before"
        return
    assert bool(kept) == bool(whole)
    if 0 < kept < whole and len(data) > kept:
        layer = decode(data).layers[0]
        assert isinstance(layer.transport, Tcp) and kept == layer.payload, "TCP's headers, and nothing it carries"


@settings(deadline=None)  # two programs are made for each
@given(st.sampled_from(FORMS), CHANGES, st.integers(0, 200), PORTS, FAR, st.sampled_from([0, 14]))
def test_the_first_look_says_what_the_thorough_one_says(
    form: bytes, changes: list[tuple[int, int]], cut: int, ports: tuple[int, ...], ends: tuple[bytes, ...], link: int
) -> None:
    agree(changed(form, changes, cut)[14 - link :], ports, ends, link)


def steps(program: list[Instruction], data: bytes) -> tuple[int, int]:
    """How many instructions a packet takes, and how many of them are calls (loads behind X) in the kernel's code."""
    taken: list[int] = []

    class Counting(list[Instruction]):
        def __getitem__(self, at: Any) -> Any:
            taken.append(list.__getitem__(self, at)[0])
            return list.__getitem__(self, at)

    assert run(Counting(program), data) == 0
    return sum(code != JA for code in taken), sum(code in (LDWX, LDHX, LDBX) for code in taken)


@pytest.mark.parametrize("family", [4, 6])
def test_others_are_turned_away_at_once(family: int) -> None:
    """Nearly every packet is another's, and passes every tap: a few plain loads, whatever the flow looks like."""
    program = cbpf.flow(ENDS, (PORT, 8443))
    packet = inside(family)
    ends = slice(12, 20) if family == 4 else slice(8, 40)
    strange = bytes(255 - x for x in packet[ends])
    for other in (packet[: ends.start] + strange + packet[ends.stop :], packet):
        count, calls = steps(program if other != packet else cbpf.flow(ENDS, (1, 2)), ether(other))
        assert count <= 32 and calls == 0, (count, calls)
    assert steps(program, ether(bytes(40))[:12] + b"\x08\x06" + bytes(28))[1] == 0, "ARP"


@given(st.sampled_from(FORMS), CHANGES, st.integers(0, 200))
def test_never_less_than_the_flow(form: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever comes by: what the decoder finds of the flow within one wrapping, the filter has let through."""
    bytes_ = changed(form, changes, cut)
    kept = run(cbpf.flow(ENDS, (PORT,)), bytes_)
    found = dissect.frame(bytes_)
    plain_headers = all(layer.ip.at in (20, 40) or layer.ip.family == 4 for layer in found.layers[:2])
    whole = not found.cut and len(found.vlans) < 2
    if whole and plain_headers and any(expected(layer, ENDS, PORT) for layer in found.layers[:2]):
        assert kept


@given(st.binary(max_size=200))
def test_bytes_of_strangers_end(data: bytes) -> None:
    assert 0 <= run(cbpf.flow(ENDS, (PORT,)), data) <= cbpf.KEEP


def read(ring: Ring, enough: int) -> list[Seen]:
    """What has come, waited for until there are ``enough`` or five seconds passed."""
    found: list[Seen] = []
    end = time.monotonic() + 5
    while len(found) < enough and time.monotonic() < end:
        found += ring.read()
    return found


class Cable(NamedTuple):
    """``out``: a packet socket at one end; ``fd``: the namespace of the other; ``link``: its device there."""

    out: socket.socket
    fd: int
    link: int


@contextmanager
def cables(net: Net) -> Iterator[Cable]:
    net.add("a", "b")
    net.ip("a", f"link add eth0 type veth peer name eth0 netns {net('b')}")
    for name in "ab":
        net.inside(name, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")  # nothing is sent but by us
        net.ip(name, "link set eth0 up")
    with open(f"/run/netns/{net('a')}", "rb") as a, open(f"/run/netns/{net('b')}", "rb") as b:
        with netns.inside(a.fileno()):
            out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            out.bind(("eth0", 0))
        with netns.inside(b.fileno()):
            link = socket.if_nametoindex("eth0")
        with out:
            yield Cable(out, b.fileno(), link)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with nets() as net, cables(net) as made:
        yield made


@pytest.mark.lab
def test_the_kernel_takes_it_and_says_the_same(cable: Cable) -> None:
    """Every form, and forms of another flow, over a real device: what arrives in the ring is what was expected."""
    flow, other = cbpf.flow(ENDS, (PORT,)), cbpf.flow(ENDS, (80,))
    frames = [wrapped(*case)[0] for case in EVERY] + [ether(inside(4)), ether(inside(6))]
    assert all(run(flow, x) and not run(other, x) for x in frames)
    ring, none = Ring(cable.fd, cable.link, flow), Ring(cable.fd, cable.link, other)
    before = time.time_ns()
    for data in frames:
        cable.out.send(data)
    seen = read(ring, len(frames))
    assert [x.data for x in seen] == [x[: run(flow, x)] for x in frames]
    assert [x.length for x in seen] == [len(x) for x in frames]
    assert not any(x.outgoing or x.vlan for x in seen)
    assert before < seen[0].time < time.time_ns() and sorted(x.time for x in seen) == [x.time for x in seen]
    assert ring.counts() == (len(frames), 0) and none.counts() == (0, 0) and list(none.read()) == []
    for one in (ring, none):
        one.close()
        one.close()


@pytest.mark.lab
def test_a_tag_that_was_taken_out_is_told(cable: Cable) -> None:
    with closing(Ring(cable.fd, cable.link, cbpf.flow(ENDS, (PORT,)))) as ring:
        cable.out.send(ether(inside(4), (42,)))
        (seen,) = read(ring, 1)
    assert seen.vlan == 42 or dissect.frame(seen.data).vlans == (42,)


@pytest.mark.lab
def test_what_finds_no_room_is_counted(cable: Cable) -> None:
    """A ring of two blocks that nobody reads: every packet is either in it or counted as lost."""
    data = ether(inside(4)) + bytes(1000)
    with closing(Ring(cable.fd, cable.link, cbpf.flow(ENDS, keep=2000), blocks=2, block=1 << 13)) as ring:
        for _ in range(200):
            cable.out.send(data)
        counted = ring.counts()
        assert counted.seen == 200 and 100 < counted.lost < 200
        assert len(read(ring, 200 - counted.lost)) == 200 - counted.lost
        cable.out.send(data)
        assert len(read(ring, 1)) == 1, "and there is room again"


@pytest.mark.lab
def test_a_ring_that_nobody_may_have(cable: Cable) -> None:
    with pytest.raises(OSError):
        Ring(cable.fd, 999, cbpf.flow(ENDS))
    with pytest.raises(OSError):
        Ring(cable.fd, cable.link, cbpf.flow(ENDS), block=1)
