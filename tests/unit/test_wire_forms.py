"""Rarer forms of a flow: VXLAN-GPE, extension headers, tags, labels, fragments. What is found of it, filtered, kept."""

import struct
from contextlib import closing
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netlab import nets
from test_wire_cbpf import CHANGES, ENDS, FAR, PORT, PORTS, agree, cables, changed, expected, read, run
from test_wire_dissect import A4, A6, B4, B6, EVERY, OUTER, WRAPPED, ether, ethertype, outside, udp, wrapped

from pathfit.host.ring import Ring
from pathfit.model import same
from pathfit.wire import cbpf, dissect
from pathfit.wire.datagram import datagram, fragments
from pathfit.wire.packets import Tcp, echo_request, ip_header, tcp_data

SAID = b"what people say to each other"
OPTIONS = bytes((4, 1, 4, 0, 0, 0))  # RFC 2473 5.1: behind the next header and length


def inside(family: int, payload: bytes = SAID) -> bytes:
    src, dst = (A4, B4) if family == 4 else (A6, B6)
    return tcp_data(src, dst, 40000, PORT, 1000, 2000, payload, 7)


def gpe(packet: bytes, kind: int) -> bytes:
    return udp(
        bytes((0x0C, 0, 0, kind)) + (77 << 8).to_bytes(4, "big") + (ether(packet) if kind == 3 else packet), 4790
    )


def extended(protocol: int, payload: bytes, *headers: int) -> bytes:
    """An outer IPv6 packet with those extension headers, 8 bytes each (44: a fragment that is the whole)."""
    for kind, following in zip(reversed(headers), (protocol, *reversed(headers)), strict=False):
        body = bytes(7) if kind == 44 else bytes((0,)) + OPTIONS
        payload = bytes((following,)) + body + payload
    return outside(6, headers[0], payload)


def labels(packet: bytes, count: int) -> bytes:
    stack = b"".join(struct.pack("!I", (16 + n) << 12 | (n == count - 1) << 8 | 64) for n in range(count))
    return bytes(12) + b"\x88\x47" + stack + packet


def tagged(frame: bytes, *tags: int) -> bytes:
    between = b"".join(struct.pack("!HH", 0x88A8 if n < len(tags) - 1 else 0x8100, tag) for n, tag in enumerate(tags))
    return frame[:12] + between + frame[12:]


class Form(NamedTuple):
    """``filtered``: the filter knows it; the decoder knows every one."""

    frame: bytes
    layers: int
    filtered: bool = True


def forms(packet: bytes) -> dict[str, Form]:
    kind = 41 if packet[0] >> 4 == 6 else 4
    gre = struct.pack("!HH", 0, ethertype(packet)) + packet
    vxlan = WRAPPED["vxlan"](packet)[1]
    far = struct.pack("!BBHI", 63, 0, 0x6558, 3 << 8) + bytes(252) + ether(packet)
    return {
        "vxlan-gpe": Form(ether(outside(4, 17, gpe(packet, 1 if kind == 4 else 2))), 2),
        "vxlan-gpe, ethernet": Form(ether(outside(6, 17, gpe(packet, 3))), 2),
        "ip6tnl as Linux writes it": Form(ether(extended(kind, packet, 60)), 2),
        "gre, extension": Form(ether(extended(47, gre, 60)), 2),
        "vxlan, two extensions": Form(ether(extended(17, vxlan, 0, 60)), 2),
        "an atomic fragment outside": Form(ether(extended(kind, packet, 44)), 2),
        "three extensions": Form(ether(extended(kind, packet, 0, 43, 60)), 2, filtered=False),
        "a tag": Form(tagged(ether(packet), 5), 1),
        "QinQ": Form(tagged(ether(packet), 5, 6), 1),
        "QinQ, vxlan": Form(tagged(wrapped("vxlan", 4, packet[0] >> 4, packet)[0], 5, 6), 2),
        "QinQ within vxlan": Form(
            ether(outside(4, 17, udp(bytes((8, 0, 0, 0, 0, 0, 7, 0)) + tagged(ether(packet), 5, 6), 4789))), 2
        ),
        "MPLS": Form(labels(packet, 1), 1),
        "MPLS, two labels": Form(labels(packet, 2), 1),
        "MPLS behind a tag": Form(tagged(labels(packet, 1), 9), 1),
        "MPLS, three labels": Form(labels(packet, 3), 1, filtered=False),
        "MPLS in GRE": Form(
            ether(outside(4, 47, struct.pack("!HH", 0, 0x8847) + labels(packet, 1)[14:])), 2, filtered=False
        ),
        "geneve with all its options": Form(ether(outside(4, 17, udp(far, 6081))), 2),
        "vxlan, first fragment": Form(ether(fragments(*OUTER[4], vxlan, 9, 120)[0]), 2),
        "vxlan over IPv6, first fragment": Form(ether(fragments(*OUTER[6], vxlan, 9, 160)[0]), 2),
    }


NAMES = list(forms(inside(4)))
BOTH = pytest.mark.parametrize("family", [4, 6])


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_a_form(name: str, family: int) -> None:
    form = forms(inside(family))[name]
    found = dissect.frame(form.frame)
    inner = found.inner
    assert inner is not None and isinstance(inner.transport, Tcp) and len(found.layers) == form.layers
    assert (inner.transport.sport, inner.transport.dport, inner.ip.family) == (40000, PORT, family)
    whole = SAID.startswith(form.frame[inner.payload :][: len(SAID)])
    assert whole, "its payload begins where it is said to"
    assert bool(run(cbpf.flow(ENDS, (PORT,)), form.frame)) == form.filtered
    assert not run(cbpf.flow(ENDS, (PORT + 1,)), form.frame)
    assert not run(cbpf.flow((A4, A6), (PORT,)), form.frame)


@settings(deadline=None)
@given(st.sampled_from([(n, f) for n in NAMES for f in (4, 6)]), CHANGES, st.integers(0, 200), PORTS, FAR)
def test_the_first_look_lets_it_through_too(
    case: tuple[str, int], changes: list[tuple[int, int]], cut: int, ports: tuple[int, ...], ends: tuple[bytes, ...]
) -> None:
    name, family = case
    agree(changed(forms(inside(family))[name].frame, changes, cut), ports, ends, 14)


# -- what is kept ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_headers_are_kept_and_nothing_of_what_is_said(name: str, family: int) -> None:
    _kept_as_headers(forms(inside(family))[name].frame)


@pytest.mark.parametrize("case", EVERY)
def test_of_what_is_wrapped_too(case: tuple[str, int, int]) -> None:
    _kept_as_headers(wrapped(*case, inside(case[2]))[0])


def _kept_as_headers(frame: bytes) -> None:
    found = dissect.frame(frame)
    kept = dissect.without_payload(frame, found)
    assert frame.startswith(kept) and SAID[:4] not in kept
    again = dissect.frame(kept)
    assert again == found, "and they say the same as before"
    assert found.inner is not None
    assert same.pieces(kept, found.inner, len(frame)) == same.pieces(frame, found.inner, len(frame))


@BOTH
def test_of_fragments_too(family: int) -> None:
    """A later one shows no header of what it is a part of: all of it is what somebody says."""
    src, dst = (A4, B4) if family == 4 else (A6, B6)
    segment = inside(family, SAID * 40)[20 if family == 4 else 40 :]
    for n, piece in enumerate(fragments(src, dst, segment, 9, 500, protocol=6)):
        found = dissect.frame(ether(piece))
        kept = dissect.without_payload(ether(piece), found)
        assert SAID[:4] not in kept
        assert len(kept) == 14 + (20 if family == 4 else 48) + (20 if n == 0 else 0)


@BOTH
def test_of_errors_their_quotes_are_headers_too(family: int) -> None:
    """A router quotes as much as it likes of the packet (RFC 1812 4.3.2.3), the payload as well."""
    for quoted in (inside(family, SAID * 10), forms(inside(family))["vxlan-gpe"].frame[14:]):
        head = struct.pack("!BBHHH", *((3, 4, 0, 0, 1400) if family == 4 else (2, 0, 0, 0, 1400))) + quoted
        src, dst = (A4, B4) if family == 4 else (A6, B6)
        frame = ether(ip_header(dst, src, 1 if family == 4 else 58, len(head)) + head)
        found = dissect.frame(frame)
        kept = dissect.without_payload(frame, found)
        assert SAID[:4] not in kept
        (told,) = dissect.frame(kept).layers
        inner = dissect.packet(told.transport.quoted).inner  # type: ignore[union-attr]
        assert inner is not None and isinstance(inner.transport, Tcp) and inner.transport.seq == 1000


@BOTH
def test_of_datagrams_as_much_as_tells_them_apart(family: int) -> None:
    src, dst = (A4, B4) if family == 4 else (A6, B6)
    for frame in (
        ether(ip_header(src, dst, 17, 1008) + datagram(src, dst, 5000, 53, bytes(range(250)) * 4)),
        ether(echo_request(src, dst, 7, 8, 1000)),
    ):
        found = dissect.frame(frame)
        kept = dissect.without_payload(frame, found)
        assert found.inner is not None and len(kept) <= found.inner.payload + dissect.TELLING
        assert same.pieces(kept, found.inner, len(frame)) == same.pieces(frame, found.inner, len(frame))


# -- later fragments of a tunnel's packets -----------------------------------------------------------------------------


@BOTH
def test_later_fragments_between_a_tunnel_s_ends(family: int) -> None:
    """Whose they are is not said in them: those of the tunnel's ends come, without what is in them."""
    ends = OUTER[family]
    first, *later = (ether(p) for p in fragments(*ends, WRAPPED["vxlan"](inside(4, SAID * 30))[1], 9, 400))
    program, blind = cbpf.flow(ENDS, (PORT,), ends=ends), cbpf.flow(ENDS, (PORT,))
    assert run(program, first) == cbpf.KEEP and len(later) == 2
    for frame in later:
        kept = frame[: run(program, frame)]
        found = dissect.frame(kept)
        assert found.layers[-1].ip.fragment and not found.cut
        assert run(blind, frame) == 0
        assert run(program, tagged(frame, 5)) == run(program, frame)
        assert len(frame[: run(program, frame)]) < 14 + 48 + 9
    others = (*OUTER[4], A6, B6) if family == 6 else (A4, B4, *OUTER[6])
    assert not any(run(cbpf.flow((), (PORT,), ends=others), frame) for frame in later)
    whole = ether(outside(family, 17, udp(bytes(100), 5000)))
    assert run(program, whole) == 0, "what is no fragment and nobody's"


# -- whatever comes by -------------------------------------------------------------------------------------------------


@given(st.sampled_from(NAMES), st.sampled_from([4, 6]), CHANGES, st.integers(0, 200))
def test_never_less_than_the_flow(name: str, family: int, changes: list[tuple[int, int]], cut: int) -> None:
    """What the decoder finds of the flow, the filter has let through, in every form that it knows."""
    form = forms(inside(family))[name]
    data = bytearray(form.frame)
    for at, value in changes:
        data[at % len(data)] = value
    frame = bytes(data)[: len(data) - cut] if cut < 40 else bytes(data)
    found = dissect.frame(frame)
    kept = run(cbpf.flow(ENDS, (PORT,)), frame)
    assert 0 <= kept <= cbpf.KEEP
    if knows(frame, found) and any(expected(layer, ENDS, PORT) for layer in found.layers[:2]):
        assert kept


def knows(frame: bytes, found: dissect.Dissected) -> bool:
    """Is it a form that the filter says it knows? Two tags or labels, two extensions of an outer IPv6 header, ports
    right behind an inner one."""
    if found.cut or not found.layers:
        return False
    first = found.layers[0]
    in_front = first.at - 14 <= 4 * cbpf.TAGS
    deep = found.layers[1] if len(found.layers) > 1 else None
    behind = deep.at - first.payload if deep else 0
    plain = deep is None or deep.ip.family == 4 or deep.ip.at == 40
    outside_ = first.ip.family == 4 or first.ip.at <= 40 + 8 * cbpf.PASSED
    labelled = deep is not None and frame[deep.at - 6 : deep.at - 4] == b"\x88\x47"
    gre = first.ip.protocol == 47 and deep is not None and frame[first.payload + 2 : first.payload + 4] == b"\x88\x47"
    return in_front and plain and outside_ and not labelled and not gre and behind >= 0


@given(st.binary(max_size=200))
def test_bytes_of_strangers_end(data: bytes) -> None:
    assert run(cbpf.flow(ENDS, (PORT,), ends=(*OUTER[4], *OUTER[6])), data) in range(cbpf.KEEP + 1)


@pytest.mark.lab
def test_the_kernel_takes_it_and_says_the_same() -> None:
    """Every form over a real device, and later fragments: what comes into the ring is what was expected. A tag in front
    is taken out and told beside it (skb_vlan_untag())."""
    program = cbpf.flow(ENDS, (PORT,), ends=(*OUTER[4], *OUTER[6]))
    sent = [(f.frame, f.filtered) for n in (4, 6) for f in forms(inside(n)).values()]
    for n in (4, 6):
        cut = fragments(*OUTER[n], WRAPPED["vxlan"](inside(4, SAID * 30))[1], 9, 400)
        sent += [(ether(x), True) for x in cut]
    with nets() as net, cables(net) as cable, closing(Ring(cable.fd, cable.link, program)) as ring:
        for frame, _ in sent:
            cable.out.send(frame)
        wanted = [frame for frame, passes in sent if passes]
        seen = read(ring, len(wanted))
        assert ring.counts() == (len(wanted), 0)
        for one, frame in zip(seen, wanted, strict=True):
            whole = dissect.frame(frame)
            untagged = frame[:12] + frame[16:] if one.vlan is not None else frame
            assert one.vlan in (None, *whole.vlans[:1])
            assert one.data == untagged[: run(program, untagged)]
