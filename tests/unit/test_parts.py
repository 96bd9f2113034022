"""Fragments of a tunnel's packets, and of segments: each byte of what is in them is in one of them, and known there."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_dissect import A4, A6, B4, B6, OUTER, WRAPPED, ether, udp

from pathfit.model import parts, same
from pathfit.wire import dissect
from pathfit.wire.datagram import fragments
from pathfit.wire.packets import ip_header, tcp_data


@settings(deadline=None)
@given(
    st.sampled_from([*WRAPPED, "nothing"]),
    st.sampled_from([4, 6]),
    st.sampled_from([4, 6]),
    st.sampled_from(["tcp", "udp"]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.integers(200, 1500),
    st.data(),
)
def test_every_byte_is_in_one_of_them(
    how: str, outer: int, inner: int, kind: str, seq: int, size: int, room: int, data: st.DataObject
) -> None:
    src, dst = (A4, B4) if inner == 4 else (A6, B6)
    if kind == "tcp" or how == "nothing":
        packet = tcp_data(src, dst, 40000, 443, seq, 1, bytes(size), 0)
    else:
        packet = ip_header(src, dst, 17, 8 + size, ident=seq & 0xFFFF) + udp(bytes(range(256)) * 12, 7000)[: 8 + size]
    if how == "nothing":
        ends, protocol, payload = (src, dst), 6, packet[20 if inner == 4 else 40 :]
    else:
        ends = OUTER[outer]
        protocol, payload, _ = WRAPPED[how](packet)
    frames = [ether(p) for p in fragments(*ends, payload, 9, room, protocol)]
    begin, *rest = map(dissect.frame, frames)
    layer = begin.inner
    assert layer is not None
    begun = parts.first(begin.layers, layer, same.pieces(frames[0], layer, len(frames[0])))
    if not rest:
        assert begun is None
        return
    later = [parts.later(p.layers) for p in rest]
    them = [x for x in later if x is not None]
    assert begun is not None and len(them) == len(rest)
    first = begun.known(them)
    assert first is not None and all(parts.identity(x) == first.id for x in them)
    whole = same.pieces(ether(packet), dissect.frame(ether(packet)).layers[-1], len(packet) + 14)
    assert [p[1:] for p in first.whole] == [p[1:] for p in whole], "as if it had not been cut"
    joined = sorted((p.start, p.end) for part in (first.here(), *map(first.of, them)) for p in part)
    assert sum(end - start for start, end in joined) == sum(p.end - p.start for p in whole)
    assert all(a[1] <= b[0] for a, b in pairwise(joined)), "and in one alone"
    assert begun.complete(them)
    gone = data.draw(st.integers(0, len(them) - 1))
    assert not begun.complete(them[:gone] + them[gone + 1 :])
