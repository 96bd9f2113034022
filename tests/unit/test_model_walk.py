"""Predictions from hand-written topologies: what the kernel-backed labs cannot show (blind ends, what is unknown)."""

import pytest
import topo
from cases import ADDRESS, PLAIN
from msgspec.structs import replace

from pathfit.core.filters import Chain, Clamp, FilterRule, Match, Nat, Opaque, Table, Verdict
from pathfit.core.net import TCP, UDP, Flow
from pathfit.core.path import Fate, Predicted
from pathfit.model import Network, advertised, own_mtu, predict, predict_both

HOST = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0
h br0 bridge 1500 198.18.1.1/24
h eth0 1400 198.18.2.2/24 -- r rh 1400 198.18.2.1/24
r rs 1500 198.18.3.1/24 -- s eth0 1500 198.18.3.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
s route default via 198.18.3.1
r route 198.18.1.0/24 via 198.18.2.2
h forward
r forward
"""
BLIND = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0
h br0 bridge 1500 198.18.1.1/24
h eth0 phys 1400 198.18.2.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
h forward
"""


def chain(hook: str, *rules: tuple[object, ...], kind: str = "filter", policy: str = "accept") -> Table:
    made = tuple(FilterRule(exprs=r, handle=i) for i, r in enumerate(rules, 1))  # type: ignore[arg-type]
    one = Chain(name=hook, hook=hook, type=kind, policy=policy, rules=made, priority=100 if kind == "nat" else 0)  # type: ignore[arg-type]
    return Table(family="inet", name="t", chains=(one,))


def both(
    text: str, to: str = "198.18.3.2", tables: dict[str, tuple[Table, ...]] | None = None
) -> tuple[Predicted, Predicted]:
    return predict_both(Network.of(topo.host(text, tables=tables)), "netns:c", to, dport=443)


def limits(p: Predicted) -> list[tuple[int, str, str, str]]:
    return [(x.mtu, x.kind, x.at.netns.removeprefix("netns:") + "/" + (x.at.link or ""), x.then) for x in p.limits]


def test_every_limit_is_listed_in_order_both_ways() -> None:
    forward, back = both(HOST)
    assert limits(forward) == [(1400, "l3", "h/eth0", "icmp"), (1404, "receive", "r/rh", "silent")]
    assert limits(back) == [(1400, "l3", "r/rh", "icmp"), (1404, "receive", "h/eth0", "silent")]
    assert (forward.complete, forward.large, forward.mss) == (True, Fate.TOO_BIG_TOLD, 1460)
    assert [h.where.netns for h in forward.hops] == ["netns:c", "netns:h", "netns:r", "netns:s"]


def test_our_view_ends_at_the_uplink_and_says_so() -> None:
    forward, back = both(BLIND)
    assert (forward.fate, forward.complete) == (Fate.UNKNOWN, False)
    assert forward.ends is not None and forward.ends.link == "eth0"
    assert limits(forward) == [(1400, "l3", "h/eth0", "icmp")]
    assert (back.fate, back.complete, back.limits) == (Fate.DELIVERED, False, ())  # eth0's MTU bounds sending only
    assert back.ends == forward.ends


def test_masquerade_is_undone_for_the_answer() -> None:
    nat = chain("postrouting", (Match(field="oifname", values=("eth0",)), Nat(kind="masquerade")), kind="nat")
    forward, back = both(BLIND, tables={"h": (nat,)})
    assert forward.final is not None and forward.final.src == "198.18.2.2"
    assert (back.flow.dst, back.final and back.final.dst, back.fate) == ("198.18.2.2", "198.18.1.2", Fate.DELIVERED)


def test_a_clamp_lowers_what_the_syn_promises() -> None:
    rule = (Match(field="l4proto", values=("6",)), Match(field="tcpflags", values=("syn/syn,rst",)), Clamp(size=1360))
    forward, back = both(HOST, tables={"h": (chain("forward", rule),)})
    assert (forward.mss, forward.clamps[0].mss_before, forward.clamps[0].mss_after) == (1360, 1460, 1360)
    assert back.flow.size == 1400 and back.large is Fate.DELIVERED


@pytest.mark.parametrize("back", ["", "h rule 40 iif lo lookup 99\nh route blackhole default table 99\n"])
def test_a_clamp_to_path_mtu_takes_the_smaller_way(back: str) -> None:
    """The way back is looked up as if the host itself sent; where there is none, the way on counts alone."""
    rule = (Match(field="l4proto", values=("6",)), Match(field="tcpflags", values=("syn/syn,rst",)), Clamp())
    forward, _ = both(HOST + back, tables={"h": (chain("forward", rule),)})
    assert forward.mss == 1360


@pytest.mark.parametrize(
    ("rule", "fate"),
    [
        ((Match(field="dport", values=("443",)), Verdict(kind="drop")), Fate.FILTERED),
        ((Match(field="dport", values=("443",)), Verdict(kind="reject")), Fate.FILTERED),
        ((Match(field="dport", values=("80",)), Verdict(kind="drop")), Fate.DELIVERED),
        ((Opaque(what="bpf"), Verdict(kind="drop")), Fate.UNKNOWN),
        ((Opaque(what="bpf"), Verdict(kind="accept")), Fate.DELIVERED),
        ((Verdict(kind="queue"),), Fate.UNKNOWN),
    ],
)
def test_filters_three_valued(rule: tuple[object, ...], fate: Fate) -> None:
    forward, _ = both(HOST, tables={"h": (chain("forward", rule),)})
    assert forward.fate is fate
    assert forward.complete is (fate is not Fate.UNKNOWN)


def test_equal_ways_that_differ_are_unknown() -> None:
    text = HOST + "h eth1 1300 198.18.4.1/24 -- r r4 1300 198.18.4.2/24\n"
    snapshot = topo.host(text)
    import msgspec

    from pathfit.core.snapshot import NextHop

    spaces = list(snapshot.namespaces)
    h = spaces[1]
    ways = (NextHop(link=h.links[3].index, via="198.18.2.1"), NextHop(link=h.links[4].index, via="198.18.4.2"))
    routes = tuple(msgspec.structs.replace(r, hops=ways) if r.prefix == 0 else r for r in h.routes)
    spaces[1] = msgspec.structs.replace(h, routes=routes)
    network = Network.of(msgspec.structs.replace(snapshot, namespaces=tuple(spaces)))
    said = predict(network, "netns:c", Flow(src="", dst="198.18.3.2", proto=UDP, dport=9, size=1350))
    assert (said.fate, said.large, said.mtu) == (Fate.DELIVERED, Fate.UNKNOWN, 1300)
    same = predict(network, "netns:c", Flow(src="", dst="198.18.3.2", proto=UDP, dport=9, size=1450))
    assert same.large is Fate.TOO_BIG_TOLD


def test_offload_hides_a_port_from_tcp_but_not_from_udp() -> None:
    text = """
    c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0
    d eth0 1500 198.18.1.3/24 -- h vd 1400 @br0
    h br0 bridge 1500
    """
    on = text + "\nc offload eth0 on\nh offload vd on\nh offload vc on\n"
    tcp, udp = (Flow(src="", dst="198.18.1.3", proto=p, dport=443, size=1500) for p in (TCP, UDP))
    hidden = predict(Network.of(topo.host(on)), "netns:c", tcp)
    assert {x.then for x in hidden.limits} == {"pass-gso"} and hidden.large is Fate.DELIVERED
    assert predict(Network.of(topo.host(on)), "netns:c", udp).large is Fate.TOO_BIG_SILENT
    assert predict(Network.of(topo.host(text)), "netns:c", tcp).large is Fate.TOO_BIG_SILENT


@pytest.mark.parametrize(
    ("offload", "drops", "large"),
    [
        ("off", "1450-65535", Fate.DELIVERED),  # segments of 1400, each looked at by itself
        ("on", "1450-65535", Fate.UNKNOWN),  # several may be looked at as one
        ("on", "1300-65535", Fate.FILTERED),  # one is too long already
        ("on", "0-39", Fate.DELIVERED),  # and none is as short as that
    ],
)
def test_a_rule_on_length_may_see_a_super_packet(offload: str, drops: str, large: Fate) -> None:
    text = HOST + "".join(f"{ns} offload {link} {offload}\n" for ns, link in (("c", "eth0"), ("h", "vc")))
    rule = (Match(field="length", values=(drops,)), Verdict(kind="drop"))
    flow = Flow(src="", dst="198.18.3.2", proto=TCP, dport=443, size=1400)
    said = predict(Network.of(topo.host(text, tables={"h": (chain("forward", rule),)})), "netns:c", flow)
    assert (said.fate, said.large) == (Fate.DELIVERED, large)


ONE = "c eth0 1500 198.18.1.2/24 2001:db8::2/64 -- h vc 1500 198.18.1.1/24\n"


@pytest.mark.parametrize(
    ("lines", "to", "mss", "mtu"),
    [
        ("c route default via 198.18.1.1", "203.0.113.1", 1460, 1500),
        ("c route default via 198.18.1.1 mtu 1400", "203.0.113.1", 1360, 1400),
        ("c route default via 198.18.1.1 advmss 1300", "203.0.113.1", 1300, 1500),
        ("c route default via 198.18.1.1\nc cached 203.0.113.1 1350", "203.0.113.1", 1310, 1350),
        ("c route default via 198.18.1.1\nc cached 203.0.113.1 1350", "203.0.113.2", 1460, 1500),
        ("c route default via 198.18.1.1 mtu 200", "203.0.113.1", 256, 200),
        ("c route default via 2001:db8::1", "2001:db8:1::1", 1440, 1500),
        ("c route default via 2001:db8::1 mtu 1300", "2001:db8:1::1", 1240, 1300),
        ("", "127.0.0.1", 65495, 65535),
        ("", "203.0.113.1", None, None),
    ],
)
def test_what_a_syn_promises(lines: str, to: str, mss: int | None, mtu: int | None) -> None:
    net = Network.of(topo.host(ONE + lines)).find("netns:c")
    assert net is not None
    assert advertised(net, to) == mss
    own = own_mtu(net, to)
    assert (own.value if own else None) == mtu


@pytest.mark.parametrize(("to", "mtu"), [("198.18.2.2", 1500), ("2001:db8:2::2", 1350)])
def test_what_a_router_has_learnt_bounds_what_it_forwards_in_ipv6_alone(to: str, mtu: int) -> None:
    """Seen on the kernel: a router that had itself been told 1300 answered "too big, 1300" to what it forwarded."""
    router = """
    c eth0 1500 198.18.1.2/24 2001:db8:1::2/64 -- r rc 1500 198.18.1.1/24 2001:db8:1::1/64
    r rs 1500 198.18.2.1/24 2001:db8:2::1/64 -- s eth0 1500 198.18.2.2/24 2001:db8:2::2/64
    c route default via 198.18.1.1
    c route default via 2001:db8:1::1
    r cached 198.18.2.2 1350
    r cached 2001:db8:2::2 1350
    r forward
    """
    flow = Flow(src="", dst=to, proto=UDP, dport=9, size=1500)
    assert predict(Network.of(topo.host(router)), "netns:c", flow).mtu == mtu


def test_a_table_that_no_packet_asks_for_is_not_compiled() -> None:
    network = Network.of(topo.host(ONE + "c route 203.0.113.0/24 via 198.18.1.1 table 77"))
    predict(network, "netns:c", Flow(src="", dst="198.18.1.1", proto=UDP, dport=9))
    net = network.find("netns:c")
    assert net is not None and (4, 77) not in net.fibs


def test_an_unknown_namespace_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        both(HOST.replace("c eth0", "x eth0").replace("c route", "x route"))


def test_any_part_of_a_snapshot_may_be_missing() -> None:
    """Take away each value of each list, one at a time: an answer every time, never an exception."""
    nat = chain("postrouting", (Match(field="oifname", values=("eth0",)), Nat(kind="masquerade")), kind="nat")
    whole = topo.host(HOST, tables={"h": (nat,)})
    asked = 0
    for i, space in enumerate(whole.namespaces):
        for name in ("links", "addresses", "routes", "tables"):
            have = getattr(space, name)
            for k in range(len(have)):
                less = replace(space, **{name: have[:k] + have[k + 1 :]})
                spaces = (*whole.namespaces[:i], less, *whole.namespaces[i + 1 :])
                for said in predict_both(Network.of(replace(whole, namespaces=spaces)), "netns:c", "198.18.3.2"):
                    assert said.fate in Fate and (said.fate is not Fate.UNKNOWN or said.why)
                asked += 1
    assert asked > 30


def test_an_answer_belongs_to_its_conversation_at_the_forward_hook_too() -> None:
    """NAT has given it the container's address back by then (nf_nat_packet at prerouting); it is not "invalid"."""
    invalid = FilterRule(exprs=(Match(field="ctstate", values=("invalid",)), Verdict(kind="drop")), handle=1)
    masquerade = FilterRule(exprs=(Match(field="oifname", values=("eth0",)), Nat(kind="masquerade")), handle=2)
    tables = (
        Table(family="ip", name="nat", chains=(Chain(name="po", hook="postrouting", type="nat", rules=(masquerade,)),)),
        Table(family="inet", name="st", chains=(Chain(name="f", hook="forward", rules=(invalid,)),)),
    )
    way = predict_both(Network.of(topo.host(PLAIN, tables={"h": tables})), "netns:c", ADDRESS, dport=8443)[1]
    assert (way.fate, way.why) == (Fate.DELIVERED, "")
