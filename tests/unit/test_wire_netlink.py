"""Netlink bytes: those of a kernel are understood, hostile ones are refused, and nothing loops."""

import ipaddress
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathfit.wire import ethtool, genl, netlink, rtnl, rtnl_link, rtnl_near, rtnl_route, sockdiag, tcpinfo
from pathfit.wire.addresses import ip, unmapped
from pathfit.wire.netlink import Malformed, attribute, nested, request

DECODERS = (
    rtnl_link.link,
    rtnl_link.read,
    rtnl_link.vlans,
    rtnl_route.route,
    rtnl_route.rule,
    rtnl_route.nexthop,
    rtnl_near.address,
    rtnl_near.neighbour,
    rtnl_near.fdb,
    rtnl.nsid,
    genl.family,
    ethtool.names,
    ethtool.features,
    sockdiag.socket,
    sockdiag.listening,
)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def test_a_buffer_of_messages_is_taken_apart() -> None:
    data = request(24, b"abcd", 5, 2) + request(24, b"efg", 5, 2) + b"\0" + request(3, u32(0), 5, 2)
    batch = netlink.split(data, 5)
    assert [data[a:b] for _, a, b in batch.bodies] == [b"abcd", b"efg"]
    assert (batch.done, batch.errno, batch.interrupted) == (True, 0, False)


def test_answers_to_another_question_are_left_out() -> None:
    data = request(24, b"old!", 4, 2) + request(24, b"new!", 5, 2)
    assert [data[a:b] for _, a, b in netlink.split(data, 5).bodies] == [b"new!"]


@pytest.mark.parametrize(("kind", "status", "expected"), [(2, -1, 1), (2, 0, 0), (3, -4, 4), (3, 0, 0)])
def test_refusals_come_as_errno(kind: int, status: int, expected: int) -> None:
    batch = netlink.split(request(kind, struct.pack("=i", status) + bytes(16), 1, 2))
    assert (batch.done, batch.errno) == (True, expected)


def test_an_interrupted_dump_says_so() -> None:
    assert netlink.split(request(24, b"", 1, 2 | netlink.F_DUMP_INTR)).interrupted


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=IHHII", 15, 24, 0, 1, 0),  # shorter than its own header
        struct.pack("=IHHII", 17, 24, 0, 1, 0),  # longer than the buffer
        struct.pack("=IHHII", 0, 24, 0, 1, 0),  # would not move forward
        struct.pack("=IHHII", 0xFFFFFFFF, 24, 0, 1, 0),
        b"\x10\0",
    ],
)
def test_lengths_that_lie_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        netlink.split(data)


@pytest.mark.parametrize("data", [b"\x03\0\x01\0", b"\0\0\x01\0", b"\x09\0\x01\0abcd"])
def test_attributes_that_lie_are_refused(data: bytes) -> None:
    for take in (netlink.attributes, netlink.every):
        with pytest.raises(Malformed):
            take(data, 0, len(data))
    with pytest.raises(Malformed):
        netlink.chosen(data, 0, len(data), frozenset((1,)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=12))
def test_attributes_survive_the_way_there_and_back(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in parts)
    assert netlink.every(data, 0, len(data)) == parts
    assert netlink.attributes(data, 0, len(data)) == dict(parts)
    wanted = frozenset(kind for kind, _ in parts[::2])
    assert netlink.chosen(data, 0, len(data), wanted) == {k: v for k, v in dict(parts).items() if k in wanted}


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_split_or_refused(data: bytes) -> None:
    try:
        batch = netlink.split(data)
    except Malformed:
        return
    assert all(16 <= a <= b <= len(data) for _, a, b in batch.bodies)


@pytest.mark.parametrize("decode", DECODERS)
@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_any_body_is_decoded_or_refused(decode, data: bytes) -> None:  # type: ignore[no-untyped-def]
    with suppress(Malformed):
        decode(data, 0, len(data))


attributes_tree = st.recursive(
    st.builds(attribute, st.integers(0, 60), st.binary(max_size=24)),
    lambda inner: st.builds(nested, st.integers(0, 60), st.lists(inner, max_size=5)),
    max_leaves=20,
)


@pytest.mark.parametrize("decode", DECODERS)
@settings(deadline=None)
@given(head=st.binary(min_size=72, max_size=72), cut=st.integers(0, 8), parts=st.lists(attributes_tree, max_size=8))
def test_well_framed_nonsense_is_decoded_or_refused(decode, head: bytes, cut: int, parts: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    """Right lengths all the way down, wrong contents: this is where a decoder trusts too much."""
    for size in (0, 4, 8, 12, 16, 72):
        data = head[:size] + b"".join(parts)
        data = data[: len(data) - cut]
        with suppress(Malformed):
            decode(data, 0, len(data))


def test_a_kind_of_link_this_kernel_lacks() -> None:
    """A bridge port with VLANs 10-12 and 20 untagged, as br_fill_ifvlaninfo_compressed writes it."""
    info = [struct.pack("=HH", flags, vid) for flags, vid in ((8, 10), (16, 12), (2 | 4, 20))]
    spec = nested(26, [attribute(2, one) for one in info])
    data = struct.pack("=BxHiII", 7, 1, 5, 0, 0) + spec
    assert rtnl_link.vlans(data, 0, len(data)) == rtnl_link.Vlans(5, 20, (10, 11, 12, 20))


LINKS = [
    ("vlan", [(1, struct.pack("=H", 7)), (5, b"\x88\xa8")], {"vlan_id": 7, "protocol": "802.1ad"}),
    ("vrf", [(1, u32(100))], {"table": 100}),
    ("ipvlan", [(1, struct.pack("=H", 1)), (2, struct.pack("=H", 1))], {"mode": "l3", "private": True, "vepa": False}),
    ("bond", [(1, b"\4"), (2, u32(3))], {"mode": 4, "active": 3}),
    ("gre", [(3, b"\x20\0"), (6, b"\x0a\0\0\1"), (7, b"\x0a\0\0\2"), (10, b"\0")],
     {"key": True, "csum": False, "local": "10.0.0.1", "remote": "10.0.0.2", "pmtudisc": False}),
    ("ip6tnl", [(3, b"\xfd" + b"\0" * 14 + b"\1"), (6, b"\4")], {"remote": "fd00::1", "encap_limit": 4}),
    ("geneve", [(1, u32(9)), (2, b"\x0a\0\0\2"), (5, b"\x17\xc1"), (13, b"\1")],
     {"vni": 9, "remote": "10.0.0.2", "port": 6081, "df": 1}),
    ("tun", [(3, b"\1"), (6, b"\1")], {"type": "tun", "persist": True}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "facts", "expected"), LINKS, ids=[kind for kind, _, _ in LINKS])
def test_facts_of_other_kinds(kind: str, facts: list[tuple[int, bytes]], expected: dict[str, object]) -> None:
    info = nested(18, [attribute(1, kind.encode() + b"\0"), nested(2, [attribute(k, v) for k, v in facts])])
    data = struct.pack("=BxHiII", 0, 1, 4, 1, 0) + attribute(3, b"x0\0") + attribute(4, u32(1400)) + info
    link = rtnl_link.link(data, 0, len(data))
    assert (link.kind, link.name, link.mtu, link.index) == (kind, "x0", 1400, 4)
    assert {k: link.info[k] for k in expected} == expected


def test_selectors_nobody_knows_make_a_rule_opaque() -> None:
    head = struct.pack("=8BI", 2, 0, 0, 0, 254, 0, 0, 1, 0)
    for extra, opaque in (
        (b"", ()),
        (attribute(28, b"\xff\xff"), ()),
        (attribute(28, b"\xff\0"), ("FRA_28",)),
        (attribute(12, bytes(8)), ()),
        (attribute(99, b"\1"), ("FRA_99",)),
        (attribute(13, u32(7)), ("FRA_13",)),
    ):
        data = head + attribute(13, u32(0xFFFFFFFF)) + extra
        rule = rtnl_route.rule(data, 0, len(data))
        assert rule is not None
        assert rule.opaque == opaque


def test_a_lightweight_tunnel_is_seen() -> None:
    head = struct.pack("=8BI", 2, 24, 0, 0, 254, 4, 0, 1, 0)
    parts = attribute(1, b"\x0a\1\0\0") + attribute(4, u32(3)) + attribute(21, struct.pack("=H", 5))
    route = rtnl_route.route(head + parts, 0, 12 + len(parts))
    assert isinstance(route, rtnl_route.Route)
    assert [hop.encap for hop in route.hops] == ["seg6"]
    labels = nested(22, [attribute(1, bytes.fromhex("00064000000c8100"))])  # MPLS_IPTUNNEL_DST: 100/200
    parts = attribute(1, b"\x0a\1\0\0") + attribute(4, u32(3)) + labels + attribute(21, struct.pack("=H", 1))
    route = rtnl_route.route(head + parts, 0, 12 + len(parts))
    assert isinstance(route, rtnl_route.Route)
    assert [(hop.encap, hop.labels) for hop in route.hops] == [("mpls", 2)]


def test_a_cached_route_without_a_learned_size_is_no_exception() -> None:
    """A redirect is cached as well; and a size that ran out counts no more (net/ipv4/route.c ip_dst_mtu)."""
    head = struct.pack("=8BI", 2, 32, 0, 0, 254, 0, 0, 1, 0x200)
    dst, mtu = attribute(1, b"\x0a\1\0\2"), nested(8, [attribute(2, u32(1400))])
    for parts, expected in (
        (dst + mtu + attribute(12, struct.pack("=8xi20x", 59900)), (1400, 599.0)),
        (dst + mtu + attribute(12, struct.pack("=8xi20x", 0)), None),
        (dst + attribute(12, struct.pack("=8xi20x", 59900)), None),
    ):
        found = rtnl_route.route(head + parts, 0, 12 + len(parts))
        assert (found and (found.mtu, found.expires)) == expected  # type: ignore[union-attr]


@settings(deadline=None)
@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_addresses_are_canonical(raw: bytes) -> None:
    text = ip(raw)
    assert ipaddress.ip_address(text).packed == raw
    if unmapped(raw) == raw:  # how mapped addresses are written changed in Python 3.13
        assert text == str(ipaddress.ip_address(raw))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF]), min_size=8, max_size=8))
def test_zeros_are_shortened_as_the_rfc_says(words: list[int]) -> None:
    raw = struct.pack(">8H", *words)
    assert ip(raw) == str(ipaddress.IPv6Address(raw)) or unmapped(raw) != raw


def test_no_address_of_another_size() -> None:
    with pytest.raises(ValueError, match="5 bytes"):
        ip(b"12345")


def test_names_that_are_no_text_can_be_saved() -> None:
    assert netlink.text(b"eth\xff0\0") == "eth\\xff0"


# --- struct tcp_info --------------------------------------------------------------------------------------------------


def info(size: int) -> bytes:
    data = bytearray(300)
    struct.pack_into("=I", data, tcpinfo.RCV_MSS, 1448)
    struct.pack_into("=I", data, tcpinfo.RTT, 20_000)
    struct.pack_into("=I", data, tcpinfo.MIN_RTT, 0xFFFFFFFF)
    struct.pack_into("=Q", data, tcpinfo.BYTES_RECEIVED, 1 << 40)
    struct.pack_into("=I", data, tcpinfo.LAST_DATA_RECV, 1500)
    struct.pack_into("=I", data, tcpinfo.RCV_OOOPACK, 3)
    struct.pack_into("=I", data, tcpinfo.SND_WND, 65535)
    data[tcpinfo.STATE], data[tcpinfo.OPTIONS] = 1, tcpinfo.OPT_SACK
    return bytes(data[:size])


@pytest.mark.parametrize(
    ("size", "ooo", "dsack", "received"),
    [
        (104, None, None, 0),
        (192, None, None, 1 << 40),
        (224, None, 0, 1 << 40),
        (232, 3, 0, 1 << 40),
        (300, 3, 0, 1 << 40),
    ],
    ids=["2.6", "4.15", "4.19", "5.4", "later"],
)
def test_tcp_info_of_every_age(size: int, ooo: int | None, dsack: int | None, received: int) -> None:
    found = tcpinfo.decode(info(size))
    assert (found.state, found.sack, found.timestamps, found.rcv_mss, found.rtt) == (1, True, False, 1448, 0.02)
    assert (found.rcv_ooopack, found.dsack_dups, found.bytes_received) == (ooo, dsack, received)
    assert (found.last_data_recv, found.min_rtt) == (1.5, 0.0)
    assert found.snd_wnd == (65535 if ooo is not None else None)


def test_a_glance_sees_the_same() -> None:
    for size in (192, 232):
        whole, short = tcpinfo.decode(info(size)), tcpinfo.glance(info(size))
        assert short == (whole.rcv_mss, whole.bytes_received, whole.rcv_ooopack)


@pytest.mark.parametrize("size", [0, 103])
def test_no_tcp_info(size: int) -> None:
    with pytest.raises(ValueError, match="tcp_info"):
        tcpinfo.decode(info(size))
