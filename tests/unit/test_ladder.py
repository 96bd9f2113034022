"""Packets followed from point to point: what a way does to them is simulated, and what it lost is known."""

import random
import struct
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_dissect import ether, udp

from pathfit.model import same
from pathfit.model.ladder import Result, Sighting, follow
from pathfit.wire import dissect
from pathfit.wire.packets import ACK, FIN, IP4, PSH, RST, SYN, TCPH, checksum

MSS = 1000


class Packet(NamedTuple):
    """One packet on its way. ``kind``: "tcp" (``at``: sequence number) or "udp" (``at``: offset in its datagram, whose
    whole length is ``whole``). ``copy``: which copy of the bytes it is."""

    kind: str
    at: int
    size: int
    ident: int
    ack: int = 1
    ts: int = 1
    flags: int = ACK
    src: int = 10
    dst: int = 20
    port: int = 40000
    wrapped: bool = False
    whole: int = 0

    @property
    def bytes(self) -> "list[tuple[object, int]]":
        """(what, byte) of all that it carries; a segment's flags and an empty one are one."""
        what = (self.kind, self.ack, self.ts, self.ident if self.kind == "udp" else 0)
        found = [(what, (self.at + n) % (1 << 32)) for n in range(self.size)]
        return found or [((*what, self.flags, self.ident), self.at)]


def rendered(p: Packet) -> tuple[bytes, int]:
    """The frame as a tap keeps it (the first 256 bytes), and its length on the wire."""
    src, dst = bytes((192, 0, 2, p.src)), bytes((198, 51, 100, p.dst))
    if p.kind == "tcp":
        options = struct.pack("!BBBBII", 1, 1, 8, 10, p.ts, 7)
        head = TCPH.pack(p.port, 443, p.at, p.ack, (8 << 4) << 0, p.flags, 501, 0, 0)[:20]
        body = head + options + bytes(p.size)
        ip = IP4.pack(0x45, 0, 20 + len(body), p.ident, 0x4000, 60, 6, 0, src, dst)
    else:
        datagram = struct.pack("!HHHH", p.port, 443, p.whole, 0) + bytes(p.whole - 8)
        body = datagram[p.at : p.at + p.size]
        more = 0x2000 if p.at + p.size < p.whole else 0
        ip = IP4.pack(0x45, 0, 20 + len(body), p.ident, more | p.at // 8, 60, 17, 0, src, dst)
    packet = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + body
    if p.wrapped:
        inner = bytes((8, 0, 0, 0, 0, 0, 9, 0)) + ether(packet)
        outer = udp(inner, 4789)
        ip = IP4.pack(0x45, 0, 20 + len(outer), 0, 0, 60, 17, 0, bytes((203, 0, 113, 1)), bytes((203, 0, 113, 2)))
        packet = ip + outer
    frame = ether(packet)
    return frame[:256], len(frame)


def seen(packets: list[list[Packet]]) -> list[Sighting]:
    found: list[Sighting] = []
    for point, there in enumerate(packets):
        for number, p in enumerate(there):
            data, length = rendered(p)
            inner = dissect.frame(data).inner
            assert inner is not None
            found.append(Sighting(point, 1000 * number + point, number, same.pieces(data, inner, length)))
    return found


def cut(p: Packet) -> list[Packet]:
    """As TSO or a router does."""
    if p.kind == "tcp":
        if p.flags & ~(ACK | PSH) or p.size <= MSS:
            return [p]
        return [
            p._replace(at=(p.at + n) % (1 << 32), size=min(MSS, p.size - n), ident=p.ident + n // MSS & 0xFFFF)
            for n in range(0, p.size, MSS)
        ]
    step = 800
    return [p._replace(at=p.at + n, size=min(step, p.size - n)) for n in range(0, p.size, step)]


def merged(packets: list[Packet]) -> list[Packet]:
    """As GRO does: segments in a row that follow each other and have all but their data in common."""
    found: list[Packet] = []
    for p in packets:
        last = found[-1] if found else None
        if (
            last is not None and p.kind == last.kind == "tcp" and p.size and last.size
            and last.at + last.size == p.at and (last.ack, last.ts) == (p.ack, p.ts)
        ):  # fmt: skip
            found[-1] = last._replace(size=last.size + p.size)
        else:
            found.append(p)
    return found


def sent(rng: random.Random) -> list[Packet]:
    """What the first point sees: large segments, small ones, retransmissions, acknowledgements, datagrams."""
    found: list[Packet] = []
    at = rng.choice([1000, (1 << 32) - 2500])
    for n in range(rng.randrange(1, 12)):
        kind = rng.choice(["tcp", "tcp", "again", "ack", "udp"])
        if kind == "udp":
            whole = rng.randrange(9, 3000)
            found.append(Packet("udp", 0, whole, rng.randrange(1, 65536), whole=whole))
        elif kind == "again" and any(p.kind == "tcp" and p.size for p in found):
            old = rng.choice([p for p in found if p.kind == "tcp" and p.size])
            found.append(old._replace(ts=old.ts + rng.choice([0, 5]), ident=rng.randrange(1, 65536)))
        elif kind == "ack":
            found.append(Packet("tcp", at % (1 << 32), 0, rng.randrange(1, 65536), ack=100 + n, ts=n))
        else:
            size = rng.randrange(1, 5000)
            found.append(Packet("tcp", at % (1 << 32), size, rng.randrange(1, 65536), ack=7, ts=n // 3))
            at += size
    return found


def travelled(rng: random.Random, points: int) -> tuple[list[list[Packet]], Counter[object], Counter[object]]:
    """Packets at each point; what was lost behind a point, and what was doubled there: (point, what, byte)."""
    packets = [sent(rng)]
    lost: Counter[object] = Counter()
    doubled: Counter[object] = Counter()
    for point in range(points - 1):
        there = packets[-1]
        if rng.random() < 0.5:
            there = [one for p in there for one in cut(p)]
        elif rng.random() < 0.5:
            there = merged(there)
        if rng.random() < 0.4:
            there = [p._replace(src=p.src + 1, port=p.port + 1, wrapped=p.wrapped) for p in there]
        if rng.random() < 0.3:  # a datagram in pieces is not wrapped whole: its pieces are
            there = [p._replace(wrapped=not p.wrapped) for p in there]
        worse = rng.choice(["", "lose", "double"])
        kept: list[Packet] = []
        for p in there:
            hit = worse and rng.random() < 0.3
            if hit and worse == "lose":
                lost.update((point, *b) for b in p.bytes)
                continue
            kept.append(p)
            if hit:
                kept.append(p)
                doubled.update((point, *b) for b in p.bytes)
        packets.append(kept)
    return packets, lost, doubled


def told(result: Result, which: str) -> Counter[object]:
    """How many bytes of copies, by the point behind which."""
    found: Counter[object] = Counter()
    for loss in getattr(result, which):
        found[loss.last] += (loss.end - loss.start) * loss.times
    return found


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_what_was_lost_and_doubled_is_found_where_it_happened(seed: int, points: int) -> None:
    packets, lost, doubled = travelled(random.Random(seed), points)
    result = follow(seen(packets), points, settled=10**9)
    by_point: dict[str, Counter[object]] = {"lost": Counter(), "doubled": Counter()}
    for which, true in (("lost", lost), ("doubled", doubled)):
        for (point, *_), n in true.items():  # type: ignore[misc]
            by_point[which][point] += n
    assert told(result, "lost") == by_point["lost"]
    assert told(result, "doubled") == by_point["doubled"]
    assert result.open == 0


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK])
def test_segments_without_data_are_packets_too(flags: int) -> None:
    p = Packet("tcp", 5, 0, 9, flags=flags)
    result = follow(seen([[p], [p._replace(src=77, wrapped=True)], []]), 3, settled=10**9)
    assert [(x.last, x.times, x.end - x.start) for x in result.lost] == [(1, 1, 1)]


def test_the_middle_of_a_large_segment() -> None:
    whole = Packet("tcp", 1000, 3 * MSS, 1)
    first, _, last = cut(whole)
    (loss,) = follow(seen([[whole], [first, last]]), 2, settled=10**9).lost
    assert (loss.start, loss.end, loss.last, loss.sighting.number) == (1000 + MSS, 1000 + 2 * MSS, 0, 0)


def test_the_second_time_it_came() -> None:
    """One copy arrived: that the other did not is still a loss, and no other than that."""
    p = Packet("tcp", 1000, 500, 1)
    again = p._replace(ident=2)
    result = follow(seen([[p, again], [again]]), 2, settled=10**9)
    assert [(x.times, x.last) for x in result.lost] == [(1, 0)] and result.arrived == 500


def test_what_may_still_be_on_its_way_is_left_open() -> None:
    p = Packet("tcp", 1000, 500, 1)
    result = follow(seen([[p], []]), 2, settled=-1)
    assert result.lost == () and result.open == 1


def test_a_point_that_lost_packets_itself_says_nothing() -> None:
    p = Packet("tcp", 1000, 500, 1)
    lists = [[p], [], [p], []]
    result = follow(seen(lists), 4, settled=10**9, blind=frozenset({1}))
    assert [x.last for x in result.lost] == [2]


def test_atomic_datagrams_are_told_apart_by_what_they_say() -> None:
    """Identification 0 (RFC 6864): the payload is all there is."""

    def frame(text: bytes) -> tuple[bytes, int]:
        body = udp(text, 9)
        ip = IP4.pack(0x45, 0, 20 + len(body), 0, 0x4000, 60, 17, 0, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))
        data = ether(ip + body)
        return data, len(data)

    found = []
    for text in (b"one", b"two"):
        data, length = frame(text)
        inner = dissect.frame(data).inner
        assert inner is not None
        found.append(Sighting(0, 0, len(found), same.pieces(data, inner, length)))
    result = follow([*found, found[1]._replace(point=1)], 2, settled=10**9)
    assert [x.sighting.number for x in result.lost] == [0]


def test_what_took_another_way_is_not_lost() -> None:
    """Seen before and behind a point, never at it: some flows, or all, go elsewhere there."""
    p, q = Packet("tcp", 1000, 500, 1), Packet("tcp", 1500, 500, 2)
    result = follow(seen([[p, q], [q], [p, q]]), 3, settled=10**9)
    assert result.lost == ()
    (loss,) = follow(seen([[p, q], [q], [p._replace(size=200), q]]), 3, settled=10**9).lost
    assert (loss.last, loss.start, loss.end) == (0, 1200, 1500)


def test_the_packet_that_is_named_is_the_one_that_was_lost() -> None:
    """A large segment is lost, a smaller one with the same first bytes comes through."""
    large = Packet("tcp", 1000, 500, 1)
    (loss, *_) = follow(seen([[large, large._replace(size=10)], [large._replace(size=10)]]), 2, settled=10**9).lost
    assert loss.sighting.number == 0


RANGES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 9)), max_size=12)


@given(RANGES, RANGES)
def test_bytes_that_are_searched_at_once(lost: list[tuple[str, int, int]], packet: list[tuple[str, int, int]]) -> None:
    """The same as comparing each with each."""
    cut = [same.Piece((key,), at, at + size) for key, at, size in packet]
    gone = [same.Piece((key,), at, at + size) for key, at, size in lost]
    by_hand = any(a.key == b.key and a.start < b.end and b.start < a.end for a in cut for b in gone)
    assert same.meet(cut, same.spans(gone)) is by_hand
