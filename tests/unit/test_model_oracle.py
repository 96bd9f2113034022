"""The kernel as oracle: labs of two to five namespaces, real packets, and the same question to the model.

Each lab says what is meant (the largest packet, and what happens to the next larger one) and which way; the kernel and
the model must both agree with it, from the snapshot pathfit reads of the lab.
"""

import pytest
import topo
from topo_lab import PORT, Lab, Seen, lab

from pathfit.core.net import TCP, UDP, Flow
from pathfit.core.path import Fate, Predicted
from pathfit.model import Network, predict, predict_both

ROUTER = """
a eth0 1500 198.18.1.2/24 2001:db8:1::2/64 -- r ra 1500 198.18.1.1/24 2001:db8:1::1/64
r rb {mid} 198.18.2.1/24 2001:db8:2::1/64 -- b eth0 1500 198.18.2.2/24 2001:db8:2::2/64
a route default via 198.18.1.1
a route default via 2001:db8:1::1
b route default via 198.18.2.1
b route default via 2001:db8:2::1
r forward
"""
SWITCH = """
a eth0 1500 198.18.1.2/24 2001:db8:1::2/64 -- h va {left} @br0
b eth0 1500 198.18.1.3/24 2001:db8:1::3/64 -- h vb {right} @br0
h br0 bridge 1500
"""
SWITCH_NF = SWITCH.format(left=1500, right=1400) + "h bridge-nf"
SWITCH_LOW = SWITCH_NF.replace("bridge 1500", "bridge 1400")
NOPTB = """
{ns} nft add table inet noptb
{ns} nft add chain inet noptb i { type filter hook input priority -300; }
{ns} nft add rule inet noptb i icmp type destination-unreachable icmp code frag-needed drop
{ns} nft add rule inet noptb i icmpv6 type packet-too-big drop
"""
MASQ = """
{ns} nft add table ip nat
{ns} nft add chain ip nat po { type nat hook postrouting priority 100; }
{ns} nft add rule ip nat po oifname {out} masquerade
"""
FORWARD_DROP = """
{ns} nft add table inet corp
{ns} nft add chain inet corp f { type filter hook forward priority 10; }
{ns} nft add rule inet corp f udp dport 5353 counter drop comment "egress-7"
"""
BRIDGE_DROP = FORWARD_DROP.replace("inet", "bridge")
DNAT = """
{ns} nft add table ip nat
{ns} nft add chain ip nat pre { type nat hook prerouting priority -100; }
{ns} nft add rule ip nat pre udp dport 5353 dnat to 198.18.2.2
"""
NOANSWER = FORWARD_DROP.replace("hook forward", "hook input").replace("5353", "4789")
HOSTED = """
a eth0 1500 198.18.1.2/24 -- h va 1500 @br0
h br0 bridge 1500 198.18.1.1/24
"""
INGRESS = """
{ns} nft add table netdev in
{ns} nft add chain netdev in i { type filter hook ingress device br0 priority 0; }
{ns} nft add rule netdev in i udp dport 5353 drop
"""
LONG = """
{ns} nft add table inet corp
{ns} nft add chain inet corp f { type filter hook forward priority 10; }
{ns} nft add rule inet corp f meta length > 1200 drop
"""
NOFRAG = """
{ns} nft add table netdev fd
{ns} nft add chain netdev fd i { type filter hook ingress device eth0 priority 0; }
{ns} nft add rule netdev fd i ip frag-off & 0x3fff != 0 drop
"""
VXLAN = """
a eth0 {under} 198.18.9.1/24 -- b eth0 {under} 198.18.9.2/24
a vx0 vxlan {mtu} id=77 local=198.18.9.1 remote=198.18.9.2 {extra} 198.18.50.1/24
b vx0 vxlan {mtu} id=77 local=198.18.9.2 remote=198.18.9.1 {extra} 198.18.50.2/24
"""
OVERLAY = """
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 {extra} @br0
b vx0 vxlan 1500 id=77 local=198.18.9.2 remote=198.18.9.1 {extra} @br0
a br0 bridge 1500
b br0 bridge 1500
c eth0 1500 198.18.50.1/24 -- a vc 1500 @br0
d eth0 1500 198.18.50.2/24 -- b vd 1500 @br0
"""


def line(pattern: str, ns: str, out: str = "") -> str:
    return pattern.replace("{ns}", ns).replace("{out}", out)


THREE = """
a eth0 1500 198.18.1.2/24 -- q qa 1500 198.18.1.1/24
q qr 1500 198.18.3.1/24 -- r rq 1500 198.18.3.2/24
r rb 1400 198.18.2.1/24 -- b eth0 1500 198.18.2.2/24
a route default via 198.18.1.1
q route 198.18.2.0/24 via 198.18.3.2
b route default via 198.18.2.1
q forward
r forward
"""
ASYMMETRIC = """
a eth0 1500 198.18.1.2/24 -- q qa 1500 198.18.1.1/24
q qb 1500 198.18.2.1/24 -- b eth0 1500 198.18.2.2/24
a eth1 1500 198.18.4.2/24 -- r ra 1300 198.18.4.1/24
r rb 1500 198.18.5.1/24 -- b eth1 1500 198.18.5.2/24
a route default via 198.18.1.1
b route 198.18.1.0/24 via 198.18.5.1
r route 198.18.1.0/24 via 198.18.4.2
r route 198.18.2.0/24 via 198.18.5.2
q forward
r forward
"""
OVERLAY_V6 = (
    OVERLAY.format(extra="")
    .replace("198.18.50.1/24", "2001:db8:50::1/64")
    .replace("198.18.50.2/24", "2001:db8:50::2/64")
)
OVERLAY_6 = (
    OVERLAY.format(extra="")
    .replace("198.18.9.1/24", "2001:db8:9::1/64")
    .replace("198.18.9.2/24", "2001:db8:9::2/64")
    .replace("198.18.9.", "2001:db8:9::")
)
ROUTED = """
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 198.18.50.1/24
b vx0 vxlan 1500 id=77 local=198.18.9.2 remote=198.18.9.1 198.18.50.2/24
c eth0 1500 198.18.59.2/24 -- a vc 1500 198.18.59.1/24
d eth0 1500 198.18.60.2/24 -- b vd 1500 198.18.60.1/24
c route default via 198.18.59.1
d route default via 198.18.60.1
a route 198.18.60.0/24 via 198.18.50.2
b route 198.18.59.0/24 via 198.18.50.1
a forward
b forward
"""
WHAT = {"icmp": "told", "silent": "lost", "fragment": "pieces", "error": "error"}

# name, text, from, to address, in namespace, DF, largest that passes whole, what happens to one byte more
CASES = [
    ("healthy", ROUTER.format(mid=1500), "a", "198.18.2.2", "b", True, 1500, "error"),
    ("told", ROUTER.format(mid=1400), "a", "198.18.2.2", "b", True, 1400, "icmp"),
    ("told-v6", ROUTER.format(mid=1400), "a", "2001:db8:2::2", "b", True, 1400, "icmp"),
    ("fragmented", ROUTER.format(mid=1400), "a", "198.18.2.2", "b", False, 1400, "fragment"),
    ("way-back-receives", ROUTER.format(mid=1400), "b", "198.18.1.2", "a", True, 1404, "silent"),
    ("way-back-receives-v6", ROUTER.format(mid=1400), "b", "2001:db8:1::2", "a", True, 1404, "silent"),
    ("port", SWITCH.format(left=1500, right=1400), "a", "198.18.1.3", "b", True, 1404, "silent"),
    ("port-v6", SWITCH.format(left=1500, right=1400), "a", "2001:db8:1::3", "b", True, 1404, "silent"),
    ("port-no-df", SWITCH.format(left=1500, right=1400), "a", "198.18.1.3", "b", False, 1404, "silent"),
    ("port-nf", SWITCH_NF, "a", "198.18.1.3", "b", True, 1400, "silent"),
    ("port-nf-v6", SWITCH_NF, "a", "2001:db8:1::3", "b", True, 1400, "silent"),
    ("port-nf-no-df", SWITCH_NF, "a", "198.18.1.3", "b", False, 1404, "silent"),
    ("port-nf-frag", SWITCH_LOW, "a", "198.18.1.3", "b", False, 1400, "fragment"),
    ("port-in", SWITCH.format(left=1400, right=1500), "a", "198.18.1.3", "b", True, 1404, "silent"),
    ("vxlan-dev", VXLAN.format(under=1500, mtu=1450, extra="dev=eth0"), "a", "198.18.50.2", "b", True, 1450, "error"),
    ("vxlan-no-dev", VXLAN.format(under=1500, mtu=1500, extra=""), "a", "198.18.50.2", "b", False, 1450, "fragment"),
    ("overlay", OVERLAY.format(extra=""), "c", "198.18.50.2", "d", True, 1450, "icmp"),
    ("overlay-no-df", OVERLAY.format(extra=""), "c", "198.18.50.2", "d", False, 1450, "fragment"),
    ("overlay-v6", OVERLAY_V6, "c", "2001:db8:50::2", "d", True, 1450, "icmp"),
    ("overlay-v6-outer", OVERLAY_6, "c", "198.18.50.2", "d", True, 1430, "icmp"),
    ("overlay-v6-outer-no-df", OVERLAY_6, "c", "198.18.50.2", "d", False, 1430, "silent"),
    ("vxlan-routed-through", ROUTED, "c", "198.18.60.2", "d", True, 1450, "fragment"),
    ("overlay-df-set", OVERLAY.format(extra="df=set"), "c", "198.18.50.2", "d", True, 1450, "icmp"),
    (
        "overlay-fragments-lost",
        OVERLAY.format(extra="") + line(NOFRAG, "b"),
        "c",
        "198.18.50.2",
        "d",
        False,
        1450,
        "silent",
    ),
    (
        "route-mtu",
        ROUTER.format(mid=1500) + "a route 198.18.2.0/24 via 198.18.1.1 mtu 1300",
        "a",
        "198.18.2.2",
        "b",
        True,
        1300,
        "error",
    ),
    (
        "route-mtu-forwarding",
        ROUTER.format(mid=1500) + "r route 198.18.2.2/32 dev rb mtu 1300",
        "a",
        "198.18.2.2",
        "b",
        True,
        1300,
        "icmp",
    ),
    (
        "route-mtu-forwarding-v6",
        ROUTER.format(mid=1500) + "r route 2001:db8:2::2/128 dev rb mtu 1300",
        "a",
        "2001:db8:2::2",
        "b",
        True,
        1300,
        "icmp",
    ),
    (
        "route-mtu-above-device-forwarding-v6",
        ROUTER.format(mid=1400) + "r route 2001:db8:2::2/128 dev rb mtu 1450",
        "a",
        "2001:db8:2::2",
        "b",
        True,
        1400,
        "icmp",
    ),
    (
        "jumbo-in-the-middle",
        ROUTER.format(mid=9000).replace("b eth0 1500", "b eth0 9000"),
        "a",
        "198.18.2.2",
        "b",
        True,
        1500,
        "error",
    ),
    ("masqueraded", ROUTER.format(mid=1400) + line(MASQ, "r", "rb"), "a", "198.18.2.2", "b", True, 1400, "icmp"),
    ("overlay-df-set-no-df", OVERLAY.format(extra="df=set"), "c", "198.18.50.2", "d", False, 1450, "silent"),
]


def asked(built: Lab, ns: str, to: str, size: int, df: bool) -> Predicted:
    flow = Flow(src="", dst=to, proto=UDP, sport=40000, dport=PORT, size=size, df=df)
    return predict(Network.of(built.snapshot()), f"netns:{ns}", flow)


@pytest.mark.lab
@pytest.mark.parametrize(("name", "text", "ns", "to", "at", "df", "mtu", "then"), CASES, ids=[c[0] for c in CASES])
def test_limit_is_the_kernels(name: str, text: str, ns: str, to: str, at: str, df: bool, mtu: int, then: str) -> None:
    with lab(text) as built:
        assert built.send(ns, to, at, mtu, df=df) == Seen("whole")
        more = built.send(ns, to, at, mtu + 1, df=df)
        assert more.how == WHAT[then]
        built.forget()
        said = asked(built, ns, to, mtu + 1, df)
    assert (said.fate, said.complete) == (Fate.DELIVERED, True)
    assert said.mtu == mtu
    first = said.limits[0]
    assert (first.mtu, first.then) == (mtu, then)
    if then == "icmp":
        assert first.told_home is True
        assert more.told_mtu == mtu


# What happens to any packet: name, text, from, to, in, the fate, what the model accuses
TWO = ROUTER.format(mid=1500)
FATES = [
    ("no-forwarding", TWO.replace("r forward", ""), "a", "198.18.2.2", "b", Fate.FORWARDING_OFF, "none"),
    ("no-forwarding-v6", TWO.replace("r forward", ""), "a", "2001:db8:2::2", "b", Fate.FORWARDING_OFF, "none"),
    ("no-route-here", TWO.replace("a route default via 198", "# "), "a", "198.18.2.2", "b", Fate.NO_ROUTE, "Lookup"),
    ("no-route-there", TWO + "a route 198.18.7.0/24 via 198.18.1.1", "a", "198.18.7.2", "b", Fate.NO_ROUTE, "Lookup"),
    ("blackhole", TWO + "r route blackhole 198.18.2.2", "a", "198.18.2.2", "b", Fate.NO_ROUTE, "Lookup"),
    ("unreachable", TWO + "r route unreachable 198.18.2.2", "a", "198.18.2.2", "b", Fate.UNREACHABLE, "Lookup"),
    ("prohibit-v6", TWO + "r route prohibit 2001:db8:2::2", "a", "2001:db8:2::2", "b", Fate.UNREACHABLE, "Lookup"),
    ("nobody", TWO, "a", "198.18.2.77", "b", Fate.NEIGH_FAILED, "Resolve"),
    ("nobody-v6", TWO, "a", "2001:db8:2::77", "b", Fate.NEIGH_FAILED, "Resolve"),
    ("link-down", TWO.replace("b route", "# ").replace("b eth0 1500 198.18.2.2/24 2001:db8:2::2/64", "b eth0 1500 off"),
     "a", "198.18.2.2", "b", Fate.LINK_DOWN, "Exit"),
    ("dropped", TWO + line(FORWARD_DROP, "r"), "a", "198.18.2.2", "b", Fate.FILTERED, "Filtered"),
    ("dropped-other-port", TWO + line(FORWARD_DROP, "r").replace("5353", "53"), "a", "198.18.2.2", "b",
     Fate.DELIVERED, "none"),
    ("dropped-v6", TWO + line(FORWARD_DROP, "r"), "a", "2001:db8:2::2", "b", Fate.FILTERED, "Filtered"),
    ("dropped-in-bridge", SWITCH.format(left=1500, right=1500) + line(BRIDGE_DROP, "h"), "a", "198.18.1.3", "b",
     Fate.FILTERED, "Filtered"),
    ("dropped-by-bridge-nf", SWITCH_NF.replace("1400", "1500") + line(FORWARD_DROP, "h"), "a", "198.18.1.3", "b",
     Fate.FILTERED, "Filtered"),
    ("not-by-bridge-nf", SWITCH.format(left=1500, right=1500) + line(FORWARD_DROP, "h"), "a", "198.18.1.3", "b",
     Fate.DELIVERED, "none"),
    ("dropped-as-the-bridge-takes-it", HOSTED + line(INGRESS, "h"), "a", "198.18.1.1", "h", Fate.FILTERED, "Filtered"),
    ("not-dropped-as-the-bridge-takes-it", HOSTED + line(INGRESS, "h").replace("udp dport 5353", "udp dport 53"),
     "a", "198.18.1.1", "h", Fate.DELIVERED, "none"),
    ("dnat", TWO + line(DNAT, "r"), "a", "198.18.1.1", "b", Fate.DELIVERED, "none"),
    ("reverse-path", TWO + "r route 198.18.1.2/32 via 198.18.2.2\nr sysctl ipv4.conf.ra.rp_filter=1",
     "a", "198.18.2.2", "b", Fate.RP_FILTER, "Enter"),
    ("reverse-path-loose", TWO + "r route 198.18.1.2/32 via 198.18.2.2\nr sysctl ipv4.conf.ra.rp_filter=2",
     "a", "198.18.2.2", "b", Fate.DELIVERED, "none"),
    ("policy-rule", TWO + "r rule 100 from 198.18.1.0/24 lookup 77\nr route blackhole 198.18.2.0/24 table 77",
     "a", "198.18.2.2", "b", Fate.NO_ROUTE, "Lookup"),
    ("policy-rule-other", TWO + "r rule 100 from 198.18.9.0/24 lookup 77\nr route blackhole 198.18.2.0/24 table 77",
     "a", "198.18.2.2", "b", Fate.DELIVERED, "none"),
    ("loop", TWO + "r route 198.18.7.0/24 via 198.18.2.2\nb route 198.18.7.0/24 via 198.18.2.1\nb forward\n"
     "a route 198.18.7.0/24 via 198.18.1.1", "a", "198.18.7.1", "b", Fate.LOOP, "none"),
    ("wrong-vni", OVERLAY.format(extra="").replace("b vx0 vxlan 1500 id=77", "b vx0 vxlan 1500 id=78"),
     "c", "198.18.50.2", "d", Fate.NEIGH_FAILED, "Resolve"),
    ("answers-of-neighbours-lost", VXLAN.format(under=1500, mtu=1450, extra="") + line(NOANSWER, "a"),
     "a", "198.18.50.2", "b", Fate.NEIGH_FAILED, "Filtered"),
]  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize(("name", "text", "ns", "to", "at", "fate", "culprit"), FATES, ids=[c[0] for c in FATES])
def test_fate_is_the_kernels(name: str, text: str, ns: str, to: str, at: str, fate: Fate, culprit: str) -> None:
    with lab(text) as built:
        fresh = asked(built, ns, to, 100, True)
        seen = built.send(ns, to, at, 100)
        after = asked(built, ns, to, 100, True)
    assert (seen.how == "whole") is (fate is Fate.DELIVERED)
    written = predict(Network.of(topo.host(text)), f"netns:{ns}", fresh.flow)
    for said in (fresh, after) if "nft" in text else (fresh, after, written):
        assert said.fate is fate, said.why
        if culprit != "none":
            assert type(said.culprit).__name__ == culprit


INSIDE = ROUTER.format(mid=1500).replace("r ra 1500", "r ra 1400")
UNTOLD = [
    ("untold", ROUTER.format(mid=1400) + line(NOPTB, "a"), "a", "198.18.2.2", "b", 1400, "noptb"),
    ("untold-v6", ROUTER.format(mid=1400) + line(NOPTB, "a"), "a", "2001:db8:2::2", "b", 1400, "noptb"),
    ("untold-overlay", OVERLAY.format(extra="") + line(NOPTB, "c"), "c", "198.18.50.2", "d", 1450, "noptb"),
    ("untold-no-way-back", THREE + "r route 198.18.1.0/24 via 198.18.3.1\nq route blackhole 198.18.1.0/25",
     "a", "198.18.2.2", "b", 1400, "blackhole"),
]  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize(("name", "text", "ns", "to", "at", "mtu", "why"), UNTOLD, ids=[c[0] for c in UNTOLD])
def test_too_big_that_does_not_come_home(name: str, text: str, ns: str, to: str, at: str, mtu: int, why: str) -> None:
    with lab(text) as built:
        fresh = asked(built, ns, to, mtu + 1, True)
        assert built.send(ns, to, at, mtu).how == "whole"
        assert built.send(ns, to, at, mtu + 1).how == "lost"
    first = fresh.limits[0]
    assert (first.mtu, first.then, first.told_home) == (mtu, "icmp", False)
    assert why in (first.why_untold or "")


BACK = [
    ("masqueraded", ROUTER.format(mid=1500) + line(MASQ, "r", "rb"), "a", "198.18.2.2", "b", 1500, "error"),
    ("masqueraded-smaller-inside", INSIDE + line(MASQ, "r", "rb"), "a", "198.18.2.2", "b", 1400, "icmp"),
    ("dnat-smaller-inside", INSIDE + line(DNAT, "r"), "a", "198.18.1.1", "b", 1400, "icmp"),
    ("smaller-receiver", ROUTER.format(mid=1400) + line(MASQ, "r", "rb"), "a", "198.18.2.2", "b", 1404, "silent"),
    ("asymmetric", ASYMMETRIC, "a", "198.18.2.2", "b", 1300, "icmp"),
]  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize(("name", "text", "ns", "to", "at", "mtu", "then"), BACK, ids=[c[0] for c in BACK])
def test_the_way_back_is_the_kernels(name: str, text: str, ns: str, to: str, at: str, mtu: int, then: str) -> None:
    with lab(text) as built:
        network = Network.of(built.snapshot())
        ask = {"proto": UDP, "dport": PORT, "size_forward": 100}
        forward, back = predict_both(network, f"netns:{ns}", to, size_reverse=mtu + 1, **ask)
        assert built.answer(ns, to, at, mtu).how == "whole"
        assert built.answer(ns, to, at, mtu + 1).how == WHAT[then]
    assert (forward.fate, back.fate, back.complete) == (Fate.DELIVERED, Fate.DELIVERED, True), (forward.why, back.why)
    assert back.mtu == mtu
    assert (back.limits[0].mtu, back.limits[0].then) == (mtu, then)
    if then == "icmp":
        assert back.limits[0].told_home is True


@pytest.mark.lab
def test_a_rule_about_length_stops_only_what_is_long() -> None:
    with lab(TWO + line(LONG, "r")) as built:
        said = asked(built, "a", "198.18.2.2", 1201, True)
        short = asked(built, "a", "198.18.2.2", 1200, True)
        assert built.send("a", "198.18.2.2", "b", 1200).how == "whole"
        assert built.send("a", "198.18.2.2", "b", 1201).how == "lost"
    assert (said.fate, said.large, short.large) == (Fate.DELIVERED, Fate.FILTERED, Fate.DELIVERED)


@pytest.mark.lab
@pytest.mark.parametrize(("size", "told"), [(1301, 1300), (1500, 1300), (1501, 1500)])
def test_ipv6_is_told_of_the_device_before_the_route(size: int, told: int) -> None:
    """ip6_forward() looks at the device, ip6_finish_output() behind it at the route."""
    text = ROUTER.format(mid=1500).replace("a eth0 1500", "a eth0 1600").replace("r ra 1500", "r ra 1600")
    with lab(text + "r route 2001:db8:2::2/128 dev rb mtu 1300") as built:
        said = asked(built, "a", "2001:db8:2::2", size, True)
        assert built.send("a", "2001:db8:2::2", "b", size) == Seen("told", told)
    assert (said.large, said.limits[0].mtu, said.mtu) == (Fate.TOO_BIG_TOLD, told, 1300)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("ns", "hook", "size", "how", "large"),
    [
        ("r", "forward", 1401, "told", Fate.TOO_BIG_TOLD),  # ip_forward() judges the size before its hook
        ("r", "prerouting", 1401, "lost", Fate.FILTERED),
        ("a", "output", 1401, "errno 1", Fate.FILTERED),
        ("a", "output", 1501, "error", Fate.TOO_BIG_TOLD),  # and ip_append_data() before that of output
    ],
)
def test_whichever_comes_first(ns: str, hook: str, size: int, how: str, large: Fate) -> None:
    with lab(ROUTER.format(mid=1400) + line(LONG, ns).replace("hook forward", f"hook {hook}")) as built:
        said = asked(built, "a", "198.18.2.2", size, True)
        assert built.send("a", "198.18.2.2", "b", size).how == how
    assert said.large is large


@pytest.mark.lab
def test_a_rule_about_length_sees_the_outer_packet_too() -> None:
    with lab(VXLAN.format(under=1500, mtu=1450, extra="") + line(LONG, "a").replace("forward", "output")) as built:
        said = asked(built, "a", "198.18.50.2", 1151, True)
        short = asked(built, "a", "198.18.50.2", 1150, True)
        assert built.send("a", "198.18.50.2", "b", 1150).how == "whole"
        assert built.send("a", "198.18.50.2", "b", 1151).how == "lost"
    assert (said.fate, said.large, short.large) == (Fate.DELIVERED, Fate.FILTERED, Fate.DELIVERED)


@pytest.mark.lab
@pytest.mark.parametrize(("where", "passes"), [("b", False), ("a", True)])
def test_fragments_that_a_filter_takes(where: str, passes: bool) -> None:
    with lab(ROUTER.format(mid=1400) + line(NOFRAG, where)) as built:
        said = asked(built, "a", "198.18.2.2", 1401, False)
        assert built.send("a", "198.18.2.2", "b", 1400, df=False).how == "whole"
        assert built.send("a", "198.18.2.2", "b", 1401, df=False).how == ("pieces" if passes else "lost")
    assert said.large is (Fate.FRAGMENTED if passes else Fate.FILTERED)


TRACKED = "\nb nft add rule inet corp f ct state invalid drop\n"


@pytest.mark.lab
@pytest.mark.parametrize(("more", "passes"), [("", True), (TRACKED, False)])
def test_a_rule_about_length_sees_pieces_as_they_are(more: str, passes: bool) -> None:
    """Unless connection tracking has put them together before (nf_defrag_ipv4)."""
    rule = line(LONG, "b").replace("hook forward", "hook prerouting").replace("1200", "1450")
    with lab(ROUTER.format(mid=1400) + rule + more) as built:
        said = asked(built, "a", "198.18.2.2", 1480, False)
        assert built.send("a", "198.18.2.2", "b", 1400, df=False).how == "whole"
        assert built.send("a", "198.18.2.2", "b", 1480, df=False).how == ("pieces" if passes else "lost")
    assert said.large is (Fate.FRAGMENTED if passes else Fate.FILTERED)


TWO_CUTS = THREE.replace("q qr 1500", "q qr 700")
LONG_IN = LONG.replace("hook forward", "hook prerouting")
TRACKS = """
{ns} nft add table inet track
{ns} nft add chain inet track f { type filter hook forward priority 0; }
{ns} nft add rule inet track f ct state invalid drop
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("rule", "more", "passes"),
    [("b", "", True), ("b", line(TRACKS, "r"), True), ("r", "", True), ("r", line(TRACKS, "r"), False)],
)
def test_pieces_stay_as_small_as_they_were(rule: str, more: str, passes: bool) -> None:
    """Behind a link that would carry larger ones, and where conntrack has put them together for its filters."""
    with lab(TWO_CUTS + line(LONG_IN, rule) + more) as built:
        said = asked(built, "a", "198.18.2.2", 1480, False)
        assert built.send("a", "198.18.2.2", "b", 700, df=False).how == "whole"
        assert built.send("a", "198.18.2.2", "b", 1480, df=False).how == ("pieces" if passes else "lost")
    assert said.large is (Fate.FRAGMENTED if passes else Fate.FILTERED)


TUNNELS = """
c eth0 1500 198.18.59.2/24 -- a vc 1500 198.18.59.1/24
a eth0 1000 198.18.9.1/24 -- b eth0 1000 198.18.9.2/24
a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 198.18.50.1/24
b vx0 vxlan 1500 id=77 local=198.18.9.2 remote=198.18.9.1 198.18.50.2/24
b eth1 1500 198.18.8.1/24 -- d eth0 {far} 198.18.8.2/24
b vx1 vxlan 1500 id=78 local=198.18.8.1 remote=198.18.8.2 198.18.51.1/24
d vx1 vxlan 1500 id=78 local=198.18.8.2 remote=198.18.8.1 198.18.51.2/24
c route default via 198.18.59.1
a route default via 198.18.50.2
b route 198.18.59.0/24 via 198.18.50.1
d route default via 198.18.51.1
a forward
b forward
"""
# name, text, from, to, in, who has a rule about length, on which hook, longer than, who tracks, does it pass
OUTER_LENGTH = [
    ("learned", VXLAN.format(under=1500, mtu=1500, extra=""),
     "a", "198.18.50.2", "b", "b", "prerouting", 1500, "", True),
    ("learned-where-made", VXLAN.format(under=1500, mtu=1500, extra=""),
     "a", "198.18.50.2", "b", "a", "output", 1500, "", False),
    ("outer-pieces", ROUTED, "c", "198.18.60.2", "d", "b", "prerouting", 1500, "", True),
    ("outer-pieces-too-long", ROUTED, "c", "198.18.60.2", "d", "b", "prerouting", 1491, "", False),
    ("outer-pieces-put-together", ROUTED, "c", "198.18.60.2", "d", "b", "prerouting", 1500, "b", False),
    ("outer-before-it-is-cut", ROUTED, "c", "198.18.60.2", "d", "a", "output", 1500, "", False),
    ("inner-behind-outer-pieces", TUNNELS.format(far=1500), "c", "198.18.51.2", "d", "b", "forward", 1480, "", False),
    ("outer-behind-outer-pieces", TUNNELS.format(far=1500), "c", "198.18.51.2", "d", "d", "prerouting", 1500, "", True),
    ("outer-behind-too-long", TUNNELS.format(far=1500), "c", "198.18.51.2", "d", "d", "prerouting", 1480, "", False),
]  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "text", "ns", "to", "at", "where", "hook", "longer", "tracked", "passes"),
    OUTER_LENGTH,
    ids=[c[0] for c in OUTER_LENGTH],
)
def test_a_rule_about_length_sees_outer_pieces_as_they_are(
    name: str, text: str, ns: str, to: str, at: str, where: str, hook: str, longer: int, tracked: str, passes: bool
) -> None:
    rules = line(LONG, where).replace("hook forward", f"hook {hook}").replace("> 1200", f"> {longer}")
    with lab(text + rules + (line(TRACKS, tracked) if tracked else "")) as built:
        assert built.send(ns, to, at, 100, df=False).how == "whole"
        seen = [built.send(ns, to, at, 1490, df=False).how for _ in range(2)][1]  # the first may be what is learned of
        built.forget()
        said = asked(built, ns, to, 1490, False)
    assert (seen, said.large) == (("pieces", Fate.FRAGMENTED) if passes else ("lost", Fate.FILTERED))


@pytest.mark.lab
@pytest.mark.parametrize(("bridge", "tracked", "passes"), [(1400, "", True), (1380, "", False), (1380, "b", True)])
def test_pieces_of_a_bridge_are_filtered_as_they_are(bridge: int, tracked: str, passes: bool) -> None:
    """It cuts to its own MTU (br_nf_ip_fragment); a rule about length sees that, unless conntrack was there."""
    rule = line(LONG_IN, "b").replace("> 1200", "1360-1380")
    text = SWITCH_LOW.replace("bridge 1400", f"bridge {bridge}") + rule
    with lab(text + (line(TRACKS, tracked) if tracked else "")) as built:
        said = asked(built, "a", "198.18.1.3", 1450, False)
        assert built.send("a", "198.18.1.3", "b", 1450, df=False).how == ("pieces" if passes else "lost")
    assert said.large is (Fate.FRAGMENTED if passes else Fate.FILTERED)


SWITCH_TRACKS = SWITCH_LOW + line(TRACKS, "h")
PIECES = [  # name, text, from, to, in, size, what becomes of it without DF
    ("bridge-cuts-pieces-again", SWITCH_LOW, "a", "198.18.1.3", "b", 1600, "pieces"),
    ("bridge-puts-pieces-together", SWITCH_TRACKS, "a", "198.18.1.3", "b", 1600, "lost"),
    ("bridge-cuts-what-was-whole", SWITCH_TRACKS, "a", "198.18.1.3", "b", 1450, "pieces"),
    ("large-bridge-puts-pieces-together", SWITCH_TRACKS.replace("bridge 1400", "bridge 1500"),
     "a", "198.18.1.3", "b", 1600, "lost"),
    ("small-bridge-large-ports", SWITCH_TRACKS.replace("h vb 1400", "h vb 1500"), "a", "198.18.1.3", "b", 1600, "lost"),
    ("pieces-are-eights", SWITCH_TRACKS.replace("a eth0 1500", "a eth0 1403"), "a", "198.18.1.3", "b", 1600, "pieces"),
    ("pieces-are-eights-not-seven", SWITCH_TRACKS.replace("a eth0 1500", "a eth0 1404"),
     "a", "198.18.1.3", "b", 1600, "lost"),
    ("pieces-of-a-router-are-eights", ROUTER.format(mid=1411).replace("b eth0 1500", "b eth0 1400"),
     "a", "198.18.2.2", "b", 1450, "pieces"),
    ("pieces-of-a-router", ROUTER.format(mid=1412).replace("b eth0 1500", "b eth0 1400"),
     "a", "198.18.2.2", "b", 1450, "lost"),
    ("outer-pieces-end-with-their-tunnel", TUNNELS.format(far=1200), "c", "198.18.51.2", "d", 1300, "lost"),
    ("outer-pieces-of-one-tunnel", TUNNELS.format(far=1500), "c", "198.18.51.2", "d", 1300, "pieces"),
]  # fmt: skip


@pytest.mark.lab
@pytest.mark.parametrize(("name", "text", "ns", "to", "at", "size", "how"), PIECES, ids=[c[0] for c in PIECES])
def test_pieces_go_on_as_they_are(name: str, text: str, ns: str, to: str, at: str, size: int, how: str) -> None:
    with lab(text) as built:
        assert built.send(ns, to, at, 100, df=False).how == "whole"
        assert built.send(ns, to, at, size, df=False).how == how
        built.forget()
        said = asked(built, ns, to, size, False)
    assert said.large is (Fate.FRAGMENTED if how == "pieces" else Fate.TOO_BIG_SILENT)


@pytest.mark.lab
@pytest.mark.parametrize(("offload", "arrives"), [("on", True), ("off", False)])
def test_offload_hides_a_smaller_port(offload: str, arrives: bool) -> None:
    """TCP of 20 full segments over a port of 1400: super-packets pass, single ones do not."""
    marks = "\n".join(f"{x} offload {y} {offload}" for x, y in (("a", "eth0"), ("h", "va"), ("h", "vb"), ("b", "eth0")))
    with lab(SWITCH.format(left=1500, right=1400) + marks) as built:
        flow = Flow(src="", dst="198.18.1.3", proto=TCP, sport=40000, dport=PORT, size=1500)
        said = predict(Network.of(built.snapshot()), "netns:a", flow)
        assert built.stream("a", "198.18.1.3", "b", 20 * 1448) is arrives
    assert said.large is (Fate.DELIVERED if arrives else Fate.TOO_BIG_SILENT)
    assert said.limits[0].then == ("pass-gso" if arrives else "silent")
