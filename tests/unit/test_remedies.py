"""Repairs as data: the commands are exact, and none is offered where it could not work."""

from typing import Any

import msgspec
import pytest
from cases import ADDRESS, BLIND, NARROW, PLAIN, VXLAN, case, drop, failed, hole, no_too_big, out, probe, table, told
from topo import host

from pathfit import diagnose, remedies
from pathfit.core.case import Case
from pathfit.core.change import AddNftTable, FlushRouteCache, SetLinkMtu, SetRouteMtu
from pathfit.core.filters import Table
from pathfit.core.finding import Fix
from pathfit.core.node import InstanceNetwork, NodeFacts
from pathfit.core.snapshot import Link, NetnsSnapshot, NextHop, Process, Route
from pathfit.remedies.base import enter, ip
from pathfit.remedies.route import spelled
from pathfit.remedies.value import repair_value
from pathfit.render.fixing import plan
from pathfit.render.layout import Page
from pathfit.rules.view import View
from pathfit.words.render import by_hand as left_because

HOLE = probe(reverse=(hole(1420),))


def words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def fixes(run: Case, code: str = "MTU101") -> dict[str, Fix]:
    report = diagnose.report(run)
    return {x.id: x for f in report.findings if f.code == code for x in f.fixes}


def test_default_route_is_written_back_with_all_it_had() -> None:
    text = BLIND.replace(
        "c route default via 198.18.1.1", "c route default via 198.18.1.1 metric 100 src 198.18.1.2 advmss 1360"
    )
    fix = fixes(case(text, HOLE))["route-mtu"]
    line = "ip -n c -4 route change default via 198.18.1.1 dev eth0 src 198.18.1.2 metric 100 advmss 1360 mtu 1420"
    assert [" ".join(c) for c in fix.commands] == [line]
    assert fix.undo == (tuple(w for w in fix.commands[0] if w not in ("mtu", "1420")),)
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (1420, 1420, "safe", "recreate")


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("advmss 1460", "advmss 1380 mtu 1420"),
        ("mtu 1420 advmss 1460", "advmss 1380 mtu 1420"),
        ("mtu lock 1500", "mtu lock 1420"),
    ],
)
def test_a_route_that_would_still_invite_more_promises_less(was: str, becomes: str) -> None:
    text = BLIND.replace("c route default via 198.18.1.1", f"c route default via 198.18.1.1 {was}")
    fix = fixes(case(text, HOLE))["route-mtu"]
    assert " ".join(fix.commands[0]) == f"ip -n c -4 route change default via 198.18.1.1 dev eth0 {becomes}"
    undo = " ".join(fix.undo[0])
    assert undo.startswith("ip -n c -4 route change default via 198.18.1.1 dev eth0 ")
    assert set(was.split()) <= set(undo.split())


def test_connected_route_when_both_ends_share_a_subnet() -> None:
    fix = fixes(case(VXLAN, probe(reverse=(hole(1450),))))["route-mtu"]
    line = " ".join(fix.commands[0])
    assert line.startswith("ip -n c -4 route change 198.18.3.0/24 dev eth0") and line.endswith("mtu 1450")


def test_a_route_that_is_small_enough_is_left_alone() -> None:
    text = BLIND.replace("c route default via 198.18.1.1", "c route default via 198.18.1.1 mtu 1400")
    assert "route-mtu" not in fixes(case(text, HOLE))


def test_both_halves_and_the_bridge() -> None:
    fix = fixes(case(BLIND, HOLE))["link-mtu"]
    assert [" ".join(c) for c in fix.commands] == [
        "ip -n c link set dev eth0 mtu 1420",
        "ip -n h link set dev vc mtu 1420",
        "ip -n h link set dev br0 mtu 1420",
    ]
    assert [c[-1] for c in fix.undo] == ["1500", "1500", "1500"]


def test_links_below_1280_are_disruptive_for_ipv6_goes() -> None:
    assert fixes(case(BLIND, probe(reverse=(hole(1200),))))["link-mtu"].applicability == "disruptive"


def test_one_half_alone_is_never_offered() -> None:
    alone = "c eth0 phys 1500 198.18.1.2/24\nc route default via 198.18.1.1\n"
    assert set(fixes(case(alone, HOLE))) == {"route-mtu"}


def test_clamp_is_a_constant_where_packets_are_routed() -> None:
    fix = fixes(case(BLIND, HOLE))["mss-clamp"]
    assert (fix.value, fix.effective, fix.where and fix.where.netns) == (1380, 1420, "netns:h")
    assert all("rt mtu" not in " ".join(c) for c in fix.commands)
    assert fix.undo == (("ip", "netns", "exec", "h", "nft", "delete", "table", "inet", "pathfit"),)


def test_no_clamp_where_traffic_is_bridged_into_a_tunnel() -> None:
    assert "mss-clamp" not in fixes(case(VXLAN, probe(reverse=(hole(1450),))))


def test_no_clamp_past_a_flowtable() -> None:
    fast = Table(family="inet", name="f", flowtable_devices=("eth0",))
    assert "mss-clamp" not in fixes(case(BLIND, HOLE, tables={"h": (fast,)}))


@pytest.mark.parametrize(
    ("run", "value"),
    [
        (case(BLIND, HOLE), 1420),
        (case(NARROW, probe(reverse=(hole(1450),))), 1420),
        (case(BLIND, probe(reverse=(hole(1450),), forward=(out(1400, fails=1401),))), 1400),
        (case(NARROW, probe(forward=(told(1420),))), 1420),
        (case(PLAIN, probe()), None),
        (case(None, HOLE), 1420),
    ],
)
def test_value_clears_every_limit_measured_or_visible(run: Case, value: int | None) -> None:
    assert remedies.recommended(View.of(run)) == value


def test_filters_are_shown_and_by_hand() -> None:
    fix = fixes(case(PLAIN, failed("timeout"), tables={"h": (table("forward", drop()),)}), "FLT401")["delete-rule"]
    assert fix.applicability == "manual"
    assert " ".join(fix.commands[0]) == "ip netns exec h nft delete rule inet corp f handle 5"


def test_too_big_is_let_through_where_the_sender_drops_it() -> None:
    run = case(NARROW, HOLE, tables={"s": (table("input", no_too_big(), name="noptb"),)})
    fix = fixes(run, "MTU107")["allow-too-big"]
    assert " ".join(fix.commands[0]).startswith("ip netns exec s nft insert rule inet noptb f icmp type")


@pytest.mark.parametrize("name", ["x; flush ruleset", "x\nflush ruleset", "-f", "x y"])
def test_a_name_that_nft_would_run_is_not_typed(name: str) -> None:
    dropped = case(PLAIN, failed("timeout"), tables={"h": (table("forward", drop(), name=name),)})
    told = case(NARROW, HOLE, tables={"s": (table("input", no_too_big(), name=name),)})
    assert fixes(dropped, "FLT401") == {}
    assert "allow-too-big" not in fixes(told, "MTU107")


@pytest.mark.parametrize(
    ("ns", "argv"),
    [
        (NetnsSnapshot(id="4:1", where="netns:c"), ("ip", "-n", "c")),
        (NetnsSnapshot(id="4:1", where="host"), ("ip",)),
        (NetnsSnapshot(id="4:1", where="pid:812"), ("nsenter", "-t", "812", "-n", "ip")),
        (NetnsSnapshot(id="4:1", where="netns:/run/x/y"), ("nsenter", "--net=/run/x/y", "ip")),
        (
            NetnsSnapshot(id="4:1", where="container:ci", processes=(Process(pid=9, name="sh"),)),
            ("nsenter", "-t", "9", "-n", "ip"),
        ),
    ],
)
def test_commands_run_in_the_right_place(ns: NetnsSnapshot, argv: tuple[str, ...]) -> None:
    assert ip(ns) == argv
    assert enter(ns) == (("ip", "netns", "exec", "c") if ns.where == "netns:c" else argv[:-1])


def test_ipv6_and_foreign_gateways() -> None:
    ns = NetnsSnapshot(id="4:1", where="netns:c", links=(Link(index=2, name="eth0", mtu=1500),))
    six = Route(family=6, table=254, dst="2001:db8::", prefix=64, protocol=2, metric=256, scope=0)
    assert spelled(ns, six, NextHop(link=2)) == words("2001:db8::/64 dev eth0 proto kernel metric 256")
    four = Route(family=4, table=100, dst="", prefix=0)
    over = NextHop(link=2, via="fe80::1", onlink=True)
    assert spelled(ns, four, over) == words("default via inet6 fe80::1 dev eth0 onlink table 100")
    assert spelled(ns, four, NextHop(link=7)) is None


def lines(fix: Fix) -> list[str]:
    return [" ".join(c) for c in fix.commands]


def test_a_route_that_says_no_can_be_removed() -> None:
    text = PLAIN + "c route blackhole 198.18.3.0/24 metric 50\n"
    fix = fixes(case(text, failed("unreachable", error="EINVAL")), "RTE501")["delete-route"]
    assert (fix.applicability, fix.changes) == ("manual", ())
    assert lines(fix) == ["ip -n c -4 route del blackhole 198.18.3.0/24 metric 50"]
    assert fix.undo == (words("ip -n c -4 route add blackhole 198.18.3.0/24 metric 50"),)


UNREACHED = failed("unreachable", error="ENETUNREACH")


def test_the_only_neighbour_that_forwards_could_be_the_default_route() -> None:
    text = PLAIN.replace("c route default via 198.18.1.1\n", "")
    fix = fixes(case(text, UNREACHED), "RTE501")["add-route"]
    assert fix.applicability == "manual"
    assert lines(fix) == ["ip -n c -4 route add default via 198.18.1.1 dev eth0"]
    assert fix.undo == (words("ip -n c -4 route del default via 198.18.1.1 dev eth0"),)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h forward\n", ""),
        ("h br0 bridge 1500 198.18.1.1/24", "h br0 bridge 1500 198.18.7.1/24"),
        ("c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0", "c eth0 phys 1500 198.18.1.2/24\nh vc phys 1500 @br0"),
        ("h forward\n", "h forward\nc eth1 dummy 1500 198.18.6.1/24\n"),
    ],
)
def test_a_gateway_is_never_guessed(old: str, new: str) -> None:
    text = PLAIN.replace("c route default via 198.18.1.1\n", "").replace(old, new)
    report = diagnose.report(case(text, UNREACHED))
    assert report.findings and not [x for f in report.findings for x in f.fixes if x.id == "add-route"]


def test_forwarding_of_one_device_where_the_switch_for_all_is_on() -> None:
    text = PLAIN + "h sysctl ipv4.conf.br0.forwarding=0\n"
    fix = fixes(case(text, failed("timeout")), "FLT403")["forwarding-on"]
    assert lines(fix) == ["ip netns exec h sysctl -w net/ipv4/conf/br0/forwarding=1"]
    assert fix.undo == (words("ip netns exec h sysctl -w net/ipv4/conf/br0/forwarding=0"),)
    off = fixes(case(PLAIN.replace("h forward\n", ""), failed("timeout")), "FLT403")["forwarding-on"]
    assert lines(off) == ["ip netns exec h sysctl -w net/ipv4/ip_forward=1"]


# -- what apply/ does -----------------------------------------------------------------------------------------------


def test_changes_say_what_the_commands_say() -> None:
    text = BLIND.replace("c route default via 198.18.1.1", "c route default via 198.18.1.1 metric 100")
    found = fixes(case(text, HOLE))
    assert found["route-mtu"].changes == (
        SetRouteMtu(
            netns="4:1", where="netns:c", family=4, table=254, dst="", prefix=0, mtu=1420,
            link=2, via="198.18.1.1", metric=100,
        ),
    )  # fmt: skip
    assert found["link-mtu"].changes == tuple(
        SetLinkMtu(netns=n, where=f"netns:{w}", link=link, index=i, mtu=1420)
        for n, w, link, i in (("4:1", "c", "eth0", 2), ("4:2", "h", "vc", 2), ("4:2", "h", "br0", 3))
    )
    assert {f.verify for f in found.values()} == {"measured"}


def test_the_connected_route_has_no_gateway() -> None:
    (change,) = fixes(case(VXLAN, probe(reverse=(hole(1450),))))["route-mtu"].changes
    assert isinstance(change, SetRouteMtu)
    assert (change.dst, change.prefix, change.via, change.metric) == ("198.18.3.0", 24, None, 0)


CLAMPED = "meta nfproto {} tcp flags & (syn | rst) == syn tcp option maxseg size > {} tcp option maxseg size set {}"


@pytest.mark.parametrize(
    ("forwards", "rules"),
    [
        ("h forward", [("ipv4", 1380), ("ipv6", 1360)]),
        ("h sysctl ipv4.ip_forward=1", [("ipv4", 1380)]),
        ("h sysctl ipv4.ip_forward=1 ipv6.conf.all.forwarding=0", [("ipv4", 1380)]),
    ],
)
def test_each_family_that_is_forwarded_has_its_own_constant(forwards: str, rules: list[tuple[str, int]]) -> None:
    fix = fixes(case(BLIND.replace("h forward", forwards), HOLE))["mss-clamp"]
    expected = [CLAMPED.format(family, mss, mss) for family, mss in rules]
    (change,) = fix.changes
    assert isinstance(change, AddNftTable)
    assert (change.netns, change.where, change.family, change.name) == ("4:2", "netns:h", "inet", "pathfit")
    assert [x.strip() for x in change.script.splitlines() if "maxseg" in x] == expected
    assert [c[-1].partition("clamp ")[2] for c in fix.commands[2:]] == expected


def test_an_ipv6_way_is_clamped_by_sixty() -> None:
    text = """
    c eth0 1500 2001:db8:1::2/64 -- h vc 1500 2001:db8:1::1/64
    h eth0 phys 1500 2001:db8:2::2/64
    c route default via 2001:db8:1::1
    h route default via 2001:db8:2::1
    h sysctl ipv6.conf.all.forwarding=1
    """
    measured = probe(reverse=(hole(1420),), contact={"address": "2001:db8:3::2", "family": 6})
    fix = fixes(case(text, measured, more={"family": 6}))["mss-clamp"]
    (change,) = fix.changes
    assert isinstance(change, AddNftTable)
    assert fix.value == 1360 and "ipv4" not in change.script and "> 1360" in change.script


@pytest.mark.parametrize(
    "change",
    [{"xdp": True}, {"name": "cilium_host"}],
)
def test_no_clamp_where_packets_go_past_the_hook(change: dict[str, Any]) -> None:
    state = host(BLIND)
    ns = state.namespaces[1]
    links = (*ns.links[:-1], msgspec.structs.replace(ns.links[-1], **change))
    ns = msgspec.structs.replace(ns, links=links)
    state = msgspec.structs.replace(state, namespaces=(state.namespaces[0], ns))
    found = [x for f in diagnose.report(case(state, HOLE)).findings for x in f.fixes]
    assert found and not [x for x in found if x.id == "mss-clamp"]


@pytest.mark.parametrize(
    ("kept", "why", "line", "undo"),
    [
        ({"protocol": 9}, "by-hand.advertised", "via 198.18.1.1 dev eth0 proto ra", True),
        ({"object": 7}, "by-hand.object", "nhid 7", False),  # written back, it would keep the number
    ],
)
def test_a_route_that_cannot_be_given_back_is_left_to_its_owner(
    kept: dict[str, int], why: str, line: str, undo: bool
) -> None:
    state = host(BLIND)
    ns = state.namespaces[0]
    routes = tuple(msgspec.structs.replace(r, **kept) if not r.prefix else r for r in ns.routes)
    state = msgspec.structs.replace(state, namespaces=(msgspec.structs.replace(ns, routes=routes), state.namespaces[1]))
    fix = fixes(case(state, HOLE))["route-mtu"]
    assert (fix.applicability, fix.changes, fix.facts["by_hand"]) == ("manual", (), why)
    assert lines(fix) == [f"ip -n c -4 route change default {line} mtu 1420"] and bool(fix.undo) == undo
    page, report = Page(120), diagnose.report(case(state, HOLE))
    plan(page, report, report.findings[0], fix, "en")
    assert left_because(fix, "en") and f"by hand: {left_because(fix, 'en')}" in str(page), (
        "the plan says why it is left to you"
    )


def test_what_was_never_asked_is_verified_by_state_alone() -> None:
    found = fixes(case(NARROW), "MTU103")
    assert found["route-mtu"].verify == "state" and found["route-mtu"].changes


def test_a_remembered_path_mtu_is_forgotten() -> None:
    fix = fixes(case(PLAIN + f"c cached {ADDRESS} 1400\n", probe()), "MTU110")["flush-cache"]
    assert fix.changes == (FlushRouteCache(netns="4:1", where="netns:c", family=4),)
    assert (fix.verify, fix.undo) == ("measured", ())


def test_ipv6_addresses_are_what_a_link_below_1280_interrupts() -> None:
    text = BLIND.replace("198.18.1.2/24", "198.18.1.2/24 2001:db8::2/64")
    fix = fixes(case(text, probe(reverse=(hole(1200),))))["link-mtu"]
    assert (fix.applicability, fix.interrupts) == ("disruptive", ("netns:c IPv6", "netns:h IPv6"))


@pytest.mark.parametrize(
    ("link", "mtu", "value"),
    [("eth0", 1400, 1400), ("eth0", 1430, 1420), ("eth0", 1500, 1420), ("vc", 1400, 1420), ("eth0", None, 1420)],
    ids=["less than passes", "more than passes", "as large as it is", "a device off the way", "told nothing"],
)
def test_what_a_cloud_promised_counts_where_the_way_leaves_by_that_device(
    link: str, mtu: int | None, value: int
) -> None:
    """A bridge's port passes four bytes more than its MTU: measured, but nobody's promise."""
    state = host(BLIND)
    space = next(n for n in state.namespaces if n.where == "netns:h")
    told = InstanceNetwork(source="metadata", file="/run/x", link=link, mtu=mtu)
    nodes = (NodeFacts(netns=space.id, where=space.where, instance=(told,)),)
    run = case(msgspec.structs.replace(state, nodes=nodes), HOLE)
    assert fixes(run)["route-mtu"].value == value
    assert repair_value(run, *View.of(run).predicted) == value, "what is tried is what is proposed"
