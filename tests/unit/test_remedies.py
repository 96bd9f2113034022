"""Repairs as data: the commands are exact, and none is offered where it could not work."""

import pytest
from cases import BLIND, NARROW, PLAIN, VXLAN, case, drop, failed, hole, no_too_big, out, probe, table, told

from pathfit import diagnose, remedies
from pathfit.core.case import Case
from pathfit.core.filters import Table
from pathfit.core.finding import Fix
from pathfit.core.snapshot import Link, NetnsSnapshot, NextHop, Process, Route
from pathfit.remedies.base import enter, ip
from pathfit.remedies.route import spelled
from pathfit.rules.view import View

HOLE = probe(reverse=(hole(1420),))


def words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def fixes(run: Case, code: str = "MTU101") -> dict[str, Fix]:
    report = diagnose.report(run)
    return {x.id: x for f in report.findings if f.code == code for x in f.fixes}


def test_default_route_is_written_back_with_all_it_had() -> None:
    text = BLIND.replace(
        "c route default via 198.18.1.1", "c route default via 198.18.1.1 metric 100 src 198.18.1.2 advmss 1460"
    )
    fix = fixes(case(text, HOLE))["route-mtu"]
    line = "ip -n c -4 route change default via 198.18.1.1 dev eth0 src 198.18.1.2 metric 100 advmss 1460 mtu 1420"
    assert [" ".join(c) for c in fix.commands] == [line]
    assert fix.undo == (tuple(w for w in fix.commands[0] if w not in ("mtu", "1420")),)
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (1420, 1420, "safe", "recreate")


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
