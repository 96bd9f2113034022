"""Sets that `-m set` looks into: from the kernel's messages (as pyroute2 writes them) to tests of fields."""

import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.ipset import ipset_msg

from pathfit.core.filters import Chain, Concat, Expr, FilterRule, Match, Opaque, Table, Verdict
from pathfit.core.net import Flow
from pathfit.model.filters.evaluate import Packet, evaluate, tables_index
from pathfit.observe import ipsets
from pathfit.wire import ipset
from pathfit.wire.netlink import Malformed, attribute, nested
from pathfit.wire.xt.matches import match


def listed(name: str, kind: str, elements: list[dict[str, Any]], timeout: bool = False) -> ipset.Part:
    message = ipset_msg()
    message["nfgen_family"] = socket.AF_INET
    data = [["IPSET_ATTR_MAXELEM", 65536]] + ([["IPSET_ATTR_TIMEOUT", 600]] if timeout else [])
    message["attrs"] = [
        ["IPSET_ATTR_PROTOCOL", 7],
        ["IPSET_ATTR_SETNAME", name],
        ["IPSET_ATTR_TYPENAME", kind],
        ["IPSET_ATTR_FAMILY", socket.AF_INET],
        ["IPSET_ATTR_DATA", {"attrs": data}],
        [
            "IPSET_ATTR_ADT",
            {"attrs": [["IPSET_ATTR_DATA", {"attrs": [[k, v] for k, v in e.items()]}] for e in elements]},
        ],
    ]
    message["header"]["type"] = 6 << 8 | 6
    message.encode()
    raw = bytes(message.data)
    return ipset.part(raw, 16, len(raw))


def ip(address: str, cidr: int | None = None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"IPSET_ATTR_IP_FROM": {"attrs": [["IPSET_ATTR_IPADDR_IPV4", address]]}}
    if cidr is not None:
        made["IPSET_ATTR_CIDR"] = cidr
    return {**made, **{f"IPSET_ATTR_{k.upper()}": v for k, v in more.items()}}


SETS: dict[str, tuple[ipset.Part, tuple[str, ...], Expr]] = {
    "addresses": (
        listed("bl", "hash:ip", [ip("10.0.0.1"), ip("10.0.0.9")]),
        ("src",),
        Match(field="saddr", values=("10.0.0.1/32", "10.0.0.9/32")),
    ),
    "networks, of the other side": (
        listed("bl", "hash:net", [ip("10.1.0.0", 16)]),
        ("dst",),
        Match(field="daddr", values=("10.1.0.0/16",)),
    ),
    "empty": (listed("bl", "hash:ip", []), ("src",), Match(field="saddr", values=())),
    "elements that come and go": (
        listed("bl", "hash:ip", [ip("10.0.0.1")], timeout=True),
        ("src",),
        Match(field="saddr", values=("10.0.0.1/32",), partial=True),
    ),
    "networks and ports": (
        listed("svc", "hash:net,port", [ip("10.1.0.0", 16, port=443, proto=6)]),
        ("dst", "dst"),
        Concat(fields=("daddr", "l4proto", "dport"), rows=(("10.1.0.0/16", "6", "443"),)),
    ),
    "an exception": (
        listed("bl", "hash:net", [ip("10.1.0.0", 16, cadt_flags=4)]),
        ("src",),
        Opaque(what="-m set --match-set bl src"),
    ),
    "a type nobody knows": (
        listed("bl", "hash:mac", []), ("src",), Opaque(what="-m set --match-set bl src"),
    ),
    "two addresses": (
        listed("bl", "hash:net,net", []), ("src", "dst"), Opaque(what="-m set --match-set bl src,dst"),
    ),
    "fewer directions than parts": (
        listed("bl", "hash:ip,port", []), ("src",), Opaque(what="-m set --match-set bl src"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_what_a_set_tests(name: str) -> None:
    part, directions, expected = SETS[name]
    (made,) = ipset.joined([part]).values()
    assert ipset.test(made, directions, False) == expected


def test_a_large_set_comes_in_parts() -> None:
    first, second = listed("bl", "hash:ip", [ip("10.0.0.1")]), listed("bl", "", [ip("10.0.0.2")])
    (made,) = ipset.joined([first, second]).values()
    assert ipset.test(made, ("src",), True) == Match(field="saddr", values=("10.0.0.1/32", "10.0.0.2/32"), negate=True)


@pytest.mark.parametrize("kind", [12, 20])  # IPSET_ATTR_BITMASK, IPSET_ATTR_NETMASK: pyroute2 writes neither
def test_a_set_of_parts_of_addresses_is_not_understood(kind: int) -> None:
    names = attribute(2, b"bl\0") + attribute(3, b"hash:ip\0")
    raw = bytes(4) + names + nested(7, [attribute(kind, b"\x18")])
    (made,) = ipset.joined([ipset.part(raw, 0, len(raw))]).values()
    assert made.masked
    assert ipset.test(made, ("src",), False) == Opaque(what="-m set --match-set bl src")


def info(index: int, dimensions: int, flags: int, rest: bytes = bytes(36)) -> bytes:
    return struct.pack("=HBB", index, dimensions, flags) + rest


@pytest.mark.parametrize(
    ("data", "revision", "what"),
    [
        (info(3, 1, 2), 1, "-m set #3 src"),
        (info(3, 1, 0), 4, "-m set #3 dst"),
        (info(3, 1, 3), 4, "-m set ! #3 src"),
        (info(7, 2, 4), 4, "-m set #7 dst,src"),
        (info(3, 1, 2), 0, "-m set (revision 0)"),
        (info(3, 1, 2, b"\1" + bytes(35)), 4, "-m set (revision 4)"),
        (info(3, 1, 0x82), 4, "-m set (revision 4)"),
        (b"\3", 4, "-m set (revision 4)"),
    ],
)
def test_a_match_names_its_set_by_number(data: bytes, revision: int, what: str) -> None:
    assert match("set", revision, data, 4) == [Opaque(what=what)]


def table(*exprs: Expr) -> tuple[Table, ...]:
    rule = FilterRule(exprs=(*exprs, Verdict(kind="drop")))
    return (Table(family="ip", name="filter", chains=(Chain(name="FORWARD", hook="forward", rules=(rule,)),)),)


@pytest.mark.parametrize(("src", "known", "expected"), [
    ("10.0.0.1", True, "drop"), ("10.0.0.2", True, "accept"), ("10.0.0.1", False, "unknown"),
])  # fmt: skip
def test_a_packet_is_judged_by_the_set_when_it_is_known(src: str, known: bool, expected: str) -> None:
    (which,) = ipset.joined([SETS["addresses"][0]]).values()
    tables = ipsets.with_sets(table(Opaque(what="-m set #3 src")), {3: which} if known else {})
    packet = Packet(flow=Flow(src=src, dst="10.9.0.1", proto=6, sport=1, dport=2, size=100))
    said = evaluate(tables_index(tables), "forward", packet)
    assert said.verdict == expected


def test_rules_without_sets_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipsets, "NetlinkSocket", None)
    given = table(Match(field="saddr", values=("10.0.0.1/32",)), Opaque(what="-m set (revision 0)"))
    assert ipsets.resolve(given) == (given, ())


def test_an_address_of_no_size_is_refused() -> None:
    with pytest.raises(Malformed):
        ipset._ip(b"")
