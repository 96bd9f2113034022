"""Routing tables: looked through, sorted, remembered - always the same answer."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathfit.core.snapshot import Link, NetnsSnapshot, NextHop, PolicyRule, Route
from pathfit.model.lookup import Fib, Query, lookup
from pathfit.model.network import Net

V4 = ("198.18.1.2", "198.18.3.2", "198.19.0.1", "10.0.0.1", "1.98.18.1")
V6 = ("2001:db8::1", "2001:db8:0:1::2", "fd00::1", "::ffff:198.18.1.2")


def made(address: str, prefix: int, metric: int, tos: int) -> Route:
    six = ":" in address
    bits = min(prefix, 128 if six else 32)
    dst = str(ip_network(f"{address}/{bits}", strict=False).network_address) if bits else ""
    hops = (NextHop(link=1),)
    return Route(family=6 if six else 4, table=254, dst=dst, prefix=bits, hops=hops, metric=metric, tos=tos)


def routes(addresses: tuple[str, ...]) -> st.SearchStrategy[list[Route]]:
    lengths = st.sampled_from([0, 1, 7, 8, 9, 16, 24, 31, 32, 48, 64, 127, 128])
    one = st.builds(made, st.sampled_from(addresses), lengths, st.integers(0, 2), st.sampled_from([0, 0, 8]))
    return st.lists(one, max_size=20)


def held(route: Route, address: str) -> bool:
    return not route.prefix or ip_address(address) in ip_network(f"{route.dst}/{route.prefix}")


@pytest.mark.parametrize("addresses", [V4, V6], ids=["4", "6"])
@settings(deadline=None)
@given(data=st.data())
def test_however_often_a_table_is_asked(addresses: tuple[str, ...], data: Any) -> None:
    them = data.draw(routes(addresses))
    fib = Fib(6 if addresses is V6 else 4, them)
    for address in addresses * 3:  # looked through at first, sorted later
        number = int(ip_address(address))
        expected = sorted((r for r in them if held(r, address)), key=lambda r: (-r.prefix, -r.tos, r.metric))
        assert list(fib.matches(address, number)) == expected


def test_an_answer_is_remembered_for_its_own_question_only() -> None:
    """By source, by device: and not at all where rules look at more."""
    links = (Link(index=1, name="a", mtu=1500), Link(index=2, name="b", mtu=1500))
    main = tuple(Route(family=4, table=254, dst="", prefix=0, hops=(NextHop(link=n),), metric=n) for n in (1, 2))
    other = (Route(family=4, table=77, dst="", prefix=0, type="blackhole"),)
    plain = Net("h", "1", NetnsSnapshot(id="1", where="host", links=links, routes=main))
    for _ in range(2):
        assert lookup(plain, Query("192.0.2.1")).hops[0].link == 1
        assert lookup(plain, Query("192.0.2.1", oif=2)).hops[0].link == 2
    rules = (
        PolicyRule(family=4, priority=1, table=77, mark=5, mark_mask=255),
        PolicyRule(family=4, priority=2, table=254),
    )
    ruled = Net("h", "1", NetnsSnapshot(id="1", where="host", links=links, routes=(*main, *other), rules=rules))
    for mark, kind in ((0, "unicast"), (5, "blackhole"), (0, "unicast")):
        assert lookup(ruled, Query("192.0.2.1", mark=mark)).kind == kind
