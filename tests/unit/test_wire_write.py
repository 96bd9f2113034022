"""What is sent to the kernel, made from what it dumped: hand-made messages, and any bytes at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.wire import rtnl_write as w
from pathfit.wire.netlink import Malformed, attribute

ONLINK, LINKDOWN, DEAD = 4, 16, 1
MTU, LOCK, ADVMSS, CONGESTION, FEATURES = 2, 1, 8, 16, 12


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def metrics(**values: int) -> bytes:
    names = {"lock": LOCK, "mtu": MTU, "advmss": ADVMSS, "features": FEATURES}
    return attribute(8, b"".join(attribute(names[k], u32(v)) for k, v in values.items()))


def route(*attributes: bytes, flags: int = 0, table: int = 254, dst_len: int = 24, family: int = 2) -> bytes:
    head = struct.pack("=8BI", family, dst_len, 0, 0, table, 4, 0, 1, flags)
    return head + b"".join(attributes)


DST, OIF, VIA = attribute(1, bytes((198, 18, 0, 0))), attribute(4, u32(7)), attribute(5, bytes((198, 18, 1, 1)))
CACHE = attribute(12, struct.pack("=IIiIIIII", 0, 0, 0, 0, 3, 0, 0, 0))
ENDS = attribute(12, struct.pack("=IIiIIIII", 0, 0, 1500, 0, 3, 0, 0, 0))
PLAIN = route(DST, OIF, VIA)


@pytest.mark.parametrize(
    ("dumped", "sent"),
    [
        (PLAIN, PLAIN),
        (route(DST, OIF, VIA, CACHE), PLAIN),
        (route(DST, OIF, VIA, flags=LINKDOWN | DEAD), PLAIN),
        (route(DST, OIF, VIA, flags=ONLINK | LINKDOWN), route(DST, OIF, VIA, flags=ONLINK)),
        (route(DST, OIF, VIA, ENDS), route(DST, OIF, VIA, attribute(23, u32(15)))),
        (route(DST, attribute(30, u32(9)), OIF, VIA), route(DST, attribute(30, u32(9)))),
        (route(DST, metrics(features=0x80000001)), route(DST, metrics(features=1))),
        (route(DST, attribute(99, b"later")), route(DST, attribute(99, b"later"))),
    ],
)
def test_as_the_kernel_takes_it(dumped: bytes, sent: bytes) -> None:
    assert w.route(dumped) == sent


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PLAIN, route(DST, OIF, VIA, metrics(mtu=1400))),
        (route(DST, metrics(mtu=1500)), route(DST, metrics(mtu=1400))),
        (route(DST, metrics(lock=4, mtu=1500)), route(DST, metrics(lock=4, mtu=1400))),
        (route(DST, metrics(mtu=1500, features=1)), route(DST, metrics(mtu=1400, features=1))),
    ],
)
def test_the_mtu_alone_changes(before: bytes, after: bytes) -> None:
    assert w.with_mtu(before, 1400) == after
    assert (w.route_mtu(after), w.same_but_mtu(before, after), w.same_route(before, after)) == (1400, True, False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PLAIN, route(DST, OIF, VIA, metrics(mtu=1400))),
        (route(DST, metrics(mtu=1500, advmss=1460)), route(DST, metrics(mtu=1400, advmss=1360))),
        (route(DST, metrics(advmss=1200)), route(DST, metrics(mtu=1400, advmss=1200))),
    ],
)
def test_what_a_route_invites_comes_down_with_its_mtu(before: bytes, after: bytes) -> None:
    assert w.bounded(before, 1400) == after


def test_ipv6_takes_sixty_bytes_off() -> None:
    before, after = (bytes([10]) + m[1:] for m in (route(metrics(advmss=1440)), route(metrics(mtu=1400, advmss=1340))))
    assert w.bounded(before, 1400) == after


def test_other_names_of_the_same_route() -> None:
    named = route(DST, OIF, attribute(15, u32(254)), CACHE, VIA, flags=LINKDOWN)
    assert w.same_route(named, PLAIN) and w.route_key(named) == w.route_key(PLAIN)
    for other in (route(DST, OIF), route(DST, OIF, VIA, table=7), route(DST, OIF, VIA, attribute(6, u32(5)))):
        assert not w.same_route(other, PLAIN) and w.route_key(other) != w.route_key(PLAIN)


def test_all_ways_of_a_route_are_seen() -> None:
    hop = struct.pack("=HBBI", 16, 0, 0, 3) + VIA + struct.pack("=HBBI", 16, 0, 0, 5) + VIA
    assert w.links_of(route(DST, attribute(9, hop))) == {3, 5}
    assert w.multipath(route(DST, attribute(9, hop))) and not w.multipath(PLAIN)
    with pytest.raises(Malformed):
        w.links_of(route(DST, attribute(9, bytes(8))))


def address(flags: int, *more: bytes) -> bytes:
    return struct.pack("=4BI", 10, 64, flags & 0xFF, 0, 7) + attribute(1, bytes(16)) + b"".join(more)


def test_an_address_goes_back_without_what_the_kernel_finds_out() -> None:
    lives = attribute(6, struct.pack("=IIII", 2000, 3000, 5, 5))
    dumped = address(0xC2, lives, attribute(8, u32(0x2C2)))  # permanent, tentative, nodad, noprefixroute
    sent = w.address(dumped, elapsed=100.5)
    assert w.address_flags(sent) == 0x202
    assert attribute(6, struct.pack("=IIII", 1899, 2899, 0, 0)) in sent
    assert w.address_settings(sent) == w.address_settings(dumped)
    assert w.address_flags(w.address(address(0x80), extra=w.NODAD)) == w.NODAD
    forever = attribute(6, struct.pack("=IIII", w.FOREVER, w.FOREVER, 0, 0))
    assert forever in w.address(address(0x80, forever), elapsed=9.0)
    spent = w.address(address(0, lives), elapsed=1e9)
    assert attribute(6, struct.pack("=IIII", 0, 1, 0, 0)) in spent


READERS = (
    w.route, w.route_key, w.route_mtu, w.links_of, w.multipath, w.expires, w.cached, w.of_object, w.address,
    w.address_key, w.address_flags, w.address_settings, w.neighbour, w.neighbour_key, w.by_hand,
    lambda b: w.with_mtu(b, 1400), lambda b: w.bounded(b, 1400), lambda b: w.same_route(b, b),
)  # fmt: skip


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: PLAIN + b))
def test_any_bytes_are_a_message_or_malformed(body: bytes) -> None:
    for read in READERS:
        try:
            read(body)  # type: ignore[no-untyped-call]
        except Malformed:
            continue


@given(st.binary(max_size=60))
def test_what_was_cleaned_is_clean(body: bytes) -> None:
    try:
        once = w.route(PLAIN + body)
    except Malformed:
        return
    assert w.same_route(once, PLAIN + body)
