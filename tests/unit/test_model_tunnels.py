"""Tunnels the kernel of this machine may not have, walked from snapshots: every figure measured on other kernels again,
now through the model; peers, keys and tags; and what ends our view."""

import json
from pathlib import Path
from typing import Any

import pytest
import topo
from msgspec.structs import replace

from pathfit.core.net import UDP, Flow
from pathfit.core.path import Encap, Fate, Predicted
from pathfit.core.snapshot import (
    HostSnapshot,
    Link,
    Wireguard,
    WireguardPeer,
)
from pathfit.model import Network, predict
from pathfit.model.l2 import macsec
from pathfit.model.tunnels.outers import layer_of
from pathfit.model.tunnels.overhead import Layer, learned, too_big
from pathfit.model.tunnels.stacks import parse
from pathfit.wire.rtnl_link import KINDS

FIGURES: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "tunnels.json").read_text())
CABLE = "a eth0 1500 198.18.9.1/24 2001:db8:9::1/64 -- b eth0 1500 198.18.9.2/24 2001:db8:9::2/64\n"
ENDS = {4: ("198.18.9.1", "198.18.9.2"), 6: ("2001:db8:9::1", "2001:db8:9::2")}
TO = {4: "198.18.60.2", 6: "2001:db8:60::2"}
IN = {"a": "198.18.60.1/24 2001:db8:60::1/64", "b": "198.18.60.2/24 2001:db8:60::2/64"}
NAMES = {("gre", 6): "ip6gre", ("gretap", 6): "ip6gretap", ("erspan", 6): "ip6erspan", ("l2tp-ip", 4): "l2tp"}
INFO = {"nopmtudisc": "pmtudisc=0", "ignore-df": "ignore_df=1", "fou": "encap_type=1 encap_dport=5555",
        "gue": "encap_type=2 encap_dport=5555", "noencaplimit": "encap_limit=none", "v2": "erspan_ver=2"}  # fmt: skip
STACKED = {"vlan": ["vlan"], "qinq": ["vlan", "vlan"], "macvlan": ["macvlan"], "macsec": ["macsec"]}
THEN = {"error": "error", "learned": "error", "both": "error", "fragmented": "fragment"}
FLAT = frozenset({"xfrm", "gre", "ip6gre", "ipip", "sit", "ip6tnl", "wireguard"})  # no Ethernet, so no neighbours
WALKED = frozenset(STACKED) | {"vxlan", "geneve", "gre", "gretap", "erspan", "ipip", "sit", "ip6tnl", "wireguard"}
WALKED |= {"l2tp", "l2tp-ip"}


def tunnel(layer: Layer, mtu: int) -> str:
    """Both ends of a layer over the cable, as a text of topo.py."""
    lines = CABLE
    for ns, (here, there) in (("a", ENDS[layer.family]), ("b", ENDS[layer.family][::-1])):
        if layer.kind in STACKED:
            below = "eth0"
            for n, kind in enumerate(STACKED[layer.kind]):
                last = n + 1 == len(STACKED[layer.kind])
                lines += f"{ns} up{n} {kind} {mtu} vlan_id={7 + n} dev={below} {IN[ns] if last else ''}\n"
                below = f"up{n}"
            continue
        kind = NAMES.get((layer.kind, layer.family), layer.kind)
        words = [INFO.get(k, f"{k}={v}") for k, v in layer.options.items() if k not in ("nodev", "df")]
        words += [f"df={('unset', 'set', 'inherit')[v] if kind == 'vxlan' else v}"
                  for k, v in layer.options.items() if k == "df"]  # fmt: skip
        words += ["encap=ip"] if layer.kind == "l2tp-ip" else []
        words += ["id=77"] if kind in ("vxlan", "geneve") else []
        lines += f"{ns} tun {kind} {mtu} local={here} remote={there} {' '.join(words)} {IN[ns]}\n"
    return lines


def keys(ns: str) -> str:
    return f"key-of-{ns}="


def wireguard(host: HostSnapshot, family: int, **more: Any) -> HostSnapshot:
    """Its WireGuard devices know each other; ``more`` changes what the one in ``a`` knows."""
    spaces = []
    for one in host.namespaces:
        ns = one.where.removeprefix("netns:")
        other = "b" if ns == "a" else "a"
        peer = WireguardPeer(
            public_key=keys(other), endpoint=ENDS[family][ns == "a"], port=51820, allowed=("198.18.0.0/16", "::/0")
        )
        wg = Wireguard(public_key=keys(ns), port=51820, peers=(replace(peer, **more) if ns == "a" else peer,))
        links = [replace(x, wireguard=wg) if x.kind == "wireguard" else x for x in one.links]
        spaces.append(replace(one, links=tuple(links)))
    return replace(host, namespaces=tuple(spaces))


def flat(host: HostSnapshot) -> HostSnapshot:
    spaces = [
        replace(one, links=tuple(replace(x, arp=False, mac="") if x.kind in FLAT else x for x in one.links))
        for one in host.namespaces
    ]
    return replace(host, namespaces=tuple(spaces))


def built(layer: Layer, mtu: int) -> HostSnapshot:
    return wireguard(flat(topo.host(tunnel(layer, mtu))), layer.family)


def ask(host: HostSnapshot, family: int = 4, size: int = 1700, df: bool = True, ns: str = "a") -> Predicted:
    flow = Flow(src="", dst=TO[family], proto=UDP, sport=40000, dport=5353, size=size, df=df)
    return predict(Network.of(host), f"netns:{ns}", flow)


ROWS = [r for r in FIGURES["kernel"] if parse(r["stack"]).layers[0].kind in WALKED]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['case']}-v{r['inner']}")
def test_the_model_predicts_what_was_measured(row: dict[str, Any]) -> None:
    layer = parse(row["stack"]).layers[0]
    said = ask(built(layer, row["raised_to"]), row["inner"])
    assert said.fate is Fate.DELIVERED, said.why
    assert said.mtu == row["whole_raised"]
    assert (said.limits[0].mtu, said.limits[0].then) == (row["whole_raised"], THEN[row["over"]])
    assert said.complete is (layer.kind != "macsec")  # whose keys are not read
    made = ask(built(layer, row["mtu"]), row["inner"], row["whole"])
    assert made.mtu == row["whole"]
    assert made.large is (Fate.UNKNOWN if layer.kind == "macsec" else Fate.DELIVERED)


def test_every_kind_that_state_shows_is_among_them() -> None:
    assert {parse(r["stack"]).layers[0].kind for r in ROWS} == WALKED


def routed(layer: Layer, mtu: int, inner: int) -> HostSnapshot:
    """Containers behind both ends, routed through the tunnel."""
    text = tunnel(layer, mtu).replace(IN["a"], "198.18.50.1/24 2001:db8:50::1/64")
    text = text.replace(IN["b"], "198.18.50.2/24 2001:db8:50::2/64")
    text += "c eth0 1500 198.18.59.2/24 2001:db8:59::2/64 -- a vc 1500 198.18.59.1/24 2001:db8:59::1/64\n"
    text += "d eth0 1500 198.18.60.2/24 2001:db8:60::2/64 -- b vd 1500 198.18.60.1/24 2001:db8:60::1/64\n"
    text += "c route default via 198.18.59.1\nd route default via 198.18.60.1\n"
    text += "c route default via 2001:db8:59::1\nd route default via 2001:db8:60::1\na forward\nb forward\n"
    text += "a route 198.18.60.0/24 via 198.18.50.2\nb route 198.18.59.0/24 via 198.18.50.1\n"
    text += "a route 2001:db8:60::/64 via 2001:db8:50::2\nb route 2001:db8:59::/64 via 2001:db8:50::1\n"
    host = flat(topo.host(text))
    return wireguard(host, layer.family, allowed=("198.18.0.0/16", "::/0")) if layer.kind == "wireguard" else host


PASSED_ON = [  # stack, inner family, DF, the largest that passes whole, what becomes of larger ones
    ("gre", 4, True, 1476, "icmp"),
    ("gre", 4, False, 1476, "silent"),
    ("gre,nopmtudisc", 4, False, 1476, "fragment"),
    ("gre,nopmtudisc", 6, True, 1476, "fragment"),
    ("gre,nopmtudisc,ignore-df", 4, True, 1476, "fragment"),
    ("gre,key", 6, True, 1472, "icmp"),
    ("ipip", 4, True, 1480, "icmp"),
    ("sit", 6, True, 1480, "icmp"),
    ("ip6tnl", 4, True, 1452, "icmp"),
    ("ip6tnl", 4, False, 1452, "icmp"),
    ("ip6gre", 6, True, 1448, "icmp"),
    ("geneve", 4, True, 1450, "fragment"),
    ("geneve,df=set", 4, True, 1450, "silent"),
    ("geneve", 6, True, 1450, "icmp"),
]


@pytest.mark.parametrize(("stack", "family", "df", "mtu", "then"), PASSED_ON, ids=lambda x: str(x))
def test_what_becomes_of_packets_that_are_passed_on(stack: str, family: int, df: bool, mtu: int, then: str) -> None:
    said = ask(routed(parse(stack).layers[0], 1500, family), family, 1500, df, "c")
    assert (said.fate, said.complete) == (Fate.DELIVERED, True), said.why
    assert (said.mtu, said.limits[0].then) == (mtu, then)
    assert said.limits[0].told_home is {"icmp": True, "silent": False, "fragment": None}[then]


def bridged(layer: Layer, mtu: int) -> HostSnapshot:
    """Containers behind bridges that the tunnel's ends are ports of."""
    text = tunnel(layer, mtu).replace(IN["a"], "@br0").replace(IN["b"], "@br0")
    text += f"a br0 bridge {mtu}\nb br0 bridge {mtu}\n"
    text += f"c eth0 {mtu} {IN['a']} -- a vc {mtu} @br0\nd eth0 {mtu} {IN['b']} -- b vd {mtu} @br0\n"
    return topo.host(text)


def ending(story: list[str]) -> set[tuple[str, bool | None]]:
    """What the model may say of it: (then, told_home). Who is told and cuts by itself from then on, or learns."""
    if story[-1] == "error":
        return {("error", True), ("icmp", True)}
    if story[-1] == "told":
        return {("icmp", True)}
    if story[-1] == "lost":
        return {("silent", False), ("icmp", False)}
    return {("fragment", None)} | ({("icmp", True)} if story[0] == "lost" else set())


STORIES = FIGURES["stories"]


@pytest.mark.parametrize("row", STORIES, ids=lambda r: f"{r['stack']}-{r['shape']}-v{r['inner']}-{'df' * r['df']}")
def test_the_model_tells_the_stories_that_were_seen(row: dict[str, Any]) -> None:
    layer, shape = parse(row["stack"]).layers[0], row["shape"]
    made = {"local": built, "bridged": bridged, "routed": lambda x, mtu: routed(x, mtu, row["inner"])}[shape]
    host, ns = made(layer, 1600), "a" if shape == "local" else "c"
    if shape != "local":
        host = changed(changed(host, ns, "eth0", mtu=1600), "a", "vc", mtu=1600)
    said = ask(host, row["inner"], row["whole"] + 1, row["df"], ns)
    assert (said.fate, said.complete, said.mtu) == (Fate.DELIVERED, True, row["whole"]), said.why
    useless = row.get("says", 0) > row["whole"]  # who heeds it sends what is lost again
    assert (said.limits[0].then, said.limits[0].told_home) in ending(["lost"] if useless else row["story"])
    if row["story"][-1] == "error":
        assert said.limits[0].then == ("error" if shape == "local" else "icmp")


@pytest.mark.parametrize("df", [True, False])
def test_erspan_over_ipv6_tells_a_size_that_is_too_large(df: bool) -> None:
    said = ask(built(Layer("erspan", 6), 1600), size=1500, df=df)
    assert (said.fate, said.mtu, said.limits[0].then) == (Fate.DELIVERED, 1422, "silent")
    assert (too_big(Layer("erspan", 6)), learned(Layer("erspan", 6), 1500, 1600)) == ("silent", 1430)


@pytest.mark.parametrize(("labels", "mtu"), [(1, 1496), (2, 1492)])
def test_labels_of_a_route_take_room_and_end_the_view(labels: int, mtu: int) -> None:
    """As measured on 6.1 and 6.12; where the labels lead is in no snapshot."""
    host = topo.host(CABLE + "a route 198.18.60.0/24 via 198.18.9.2\n")
    spaces = []
    for one in host.namespaces:
        routes = [replace(r, hops=tuple(replace(h, encap="mpls", labels=labels) for h in r.hops))
                  if r.dst == "198.18.60.0" else r for r in one.routes]  # fmt: skip
        spaces.append(replace(one, routes=tuple(routes)))
    said = ask(replace(host, namespaces=tuple(spaces)), size=mtu + 1)
    assert (said.fate, said.mtu, said.complete, "mpls" in said.why) == (Fate.UNKNOWN, mtu, False, True)
    assert (said.limits[0].mtu, said.limits[0].then, said.large) == (mtu, "error", Fate.TOO_BIG_TOLD)


PADDING = [  # outer family, device MTU, the largest that passes whole
    (4, 1420, 1420), (4, 1440, 1440), (4, 1441, 1440), (6, 1420, 1420), (6, 1421, 1408), (6, 1700, 1408),
]  # fmt: skip


@pytest.mark.parametrize(("family", "mtu", "whole"), PADDING)
def test_wireguard_pads_up_to_its_mtu(family: Any, mtu: int, whole: int) -> None:
    host = built(Layer("wireguard", family), mtu)
    assert ask(host, size=whole).large is Fate.DELIVERED
    more = ask(host, size=whole + 1)
    assert more.large is (Fate.FRAGMENTED if mtu > whole else Fate.TOO_BIG_TOLD)


PEERS = [  # what the one in a knows, the fate, a word of why
    ({}, Fate.DELIVERED, ""),
    ({"allowed": ("198.18.60.1/32",)}, Fate.UNREACHABLE, "allowed IPs"),
    ({"endpoint": None}, Fate.UNREACHABLE, "no endpoint"),
    ({"public_key": "another="}, Fate.UNREACHABLE, "no wireguard device takes it"),
    ({"port": 51821}, Fate.UNREACHABLE, "no wireguard device takes it"),
    ({"endpoint": "192.0.2.1"}, Fate.UNKNOWN, "another namespace"),
    ({"allowed": ("198.18.60.2/400", "198.18.60.0/24")}, Fate.DELIVERED, ""),
]


@pytest.mark.parametrize(("more", "fate", "why"), PEERS, ids=[str(p[0]) for p in PEERS])
def test_wireguard_goes_where_its_peers_are(more: dict[str, Any], fate: Fate, why: str) -> None:
    host = wireguard(flat(topo.host(tunnel(Layer("wireguard"), 1420))), 4, **more)
    said = ask(host, size=100)
    assert said.fate is fate, said.why
    assert why in said.why


def test_the_longest_prefix_of_all_peers_decides() -> None:
    host = wireguard(flat(topo.host(tunnel(Layer("wireguard"), 1420))), 4)
    spaces = []
    for one in host.namespaces:
        links = []
        for x in one.links:
            if x.wireguard and one.where == "netns:a":
                wide = WireguardPeer(public_key="z=", endpoint="192.0.2.9", port=1, allowed=("0.0.0.0/0",))
                x = replace(x, wireguard=replace(x.wireguard, peers=(wide, *x.wireguard.peers)))
            links.append(x)
        spaces.append(replace(one, links=tuple(links)))
    assert ask(replace(host, namespaces=tuple(spaces)), size=100).fate is Fate.DELIVERED


def changed(host: HostSnapshot, ns: str, name: str, **more: Any) -> HostSnapshot:
    def new(link: Link) -> Link:
        info = {**link.info, **more.get("info", {})}
        return replace(link, **{**more, "info": info}) if link.name == name else link

    spaces = [
        replace(one, links=tuple(map(new, one.links))) if one.where == f"netns:{ns}" else one for one in host.namespaces
    ]
    return replace(host, namespaces=tuple(spaces))


OPAQUE = [  # what ends our view: stack, where, what is changed, a word of why
    ("wireguard", "a", {"wireguard": None}, "could not be read"),
    ("wireguard", "b", {"wireguard": None}, "could not be read"),
    ("wireguard", "b", {"kind": "tun", "wireguard": None, "holder": "wireguard-go[7]"}, "wireguard-go[7]"),
    ("gre", "a", {"info": {"collect_metadata": True}}, "external mode"),
    ("gre", "b", {"info": {"collect_metadata": True}}, "external mode"),
    ("geneve", "b", {"kind": "openvswitch"}, "external mode"),
    ("geneve", "a", {"kind": "openvswitch"}, "Open vSwitch"),
    ("geneve", "a", {"kind": "tun", "holder": "openvpn[812]"}, "over 1500 bytes openvpn 1448 would fit"),
    ("geneve", "a", {"kind": "tun"}, "not visible"),
    ("geneve", "a", {"kind": "xfrm"}, "1446"),
    ("geneve", "a", {"kind": "amt"}, "not modelled"),
    ("geneve", "a", {"info": {"remote": ""}}, "remote end"),
    ("geneve", "a", {"info": {"remote": "239.1.1.1"}}, "multicast"),
]


@pytest.mark.parametrize(("stack", "ns", "more", "why"), OPAQUE, ids=[f"{o[0]}-{o[1]}-{o[2]}" for o in OPAQUE])
def test_what_another_program_does_is_unknown(stack: str, ns: str, more: dict[str, Any], why: str) -> None:
    said = ask(changed(built(parse(stack).layers[0], 1400), ns, "tun", **more), size=1300)
    assert (said.fate, said.complete) == (Fate.UNKNOWN, False)
    assert why in said.why


@pytest.mark.parametrize("more", [{"key": 1}, {"okey": 7}, {"remote": "198.18.9.77"}, {"local": "198.18.9.77"}])
def test_ends_that_do_not_match_take_nothing(more: dict[str, Any]) -> None:
    host = changed(built(parse("gre").layers[0], 1400), "a", "tun", info={"okey": 5, "ikey": 5, "key": 0})
    host = changed(host, "b", "tun", info={"okey": 5, "ikey": 5, "key": 0})
    assert ask(host, size=100).fate is Fate.DELIVERED
    turned = {"ikey": more["okey"]} if "okey" in more else more
    assert ask(changed(host, "b", "tun", info=turned), size=100).fate is Fate.UNREACHABLE


DEEP = [  # the lower tunnel, the upper one, the largest that passes whole, and the bytes around it
    ("wireguard,mtu=1420", "vxlan,mtu=1500", 1370, 110),
    ("wireguard,mtu=1440", "vxlan,mtu=1500", 1390, 110),
    ("wireguard6,mtu=1500", "vxlan,mtu=1500", 1358, 130),
    ("vxlan,mtu=1450", "ipip,mtu=1480", 1430, 70),
    ("vxlan,nodev,mtu=1500", "vxlan,mtu=1500", 1400, 100),
    ("gre,mtu=1476", "geneve,mtu=1500", 1426, 74),
    ("vxlan,nodev,mtu=1500", "wireguard,mtu=1420", 1376, 110),  # padded to 16: 1377 take 1392 + 60 of 1450
]


@pytest.mark.parametrize(("lower", "upper", "whole", "around"), DEEP, ids=[f"{d[1]}+{d[0]}" for d in DEEP])
def test_tunnels_two_deep(lower: str, upper: str, whole: int, around: int) -> None:
    low, up = parse(lower.replace("vxlan,mtu", "vxlan,nodev,mtu")).layers[0], parse(f"{upper}/9000").layers[0]
    text = tunnel(low, low.mtu or 0).replace("tun ", "low ")
    text = text.replace(IN["a"], "198.18.50.1/24").replace(IN["b"], "198.18.50.2/24")
    over = tunnel(up, up.mtu or 0).replace(CABLE, "").replace("id=77", "id=78")
    over = over.replace("=198.18.9.", "=198.18.50.")
    host = flat(topo.host(text + over))
    spaces = []
    for one in host.namespaces:
        ns = one.where.removeprefix("netns:")
        links = []
        for x in one.links:
            if x.kind == "wireguard":
                family = low.family if x.name == "low" else 4
                end = ENDS[family] if x.name == "low" else ("198.18.50.1", "198.18.50.2")
                allowed = ("198.18.50.0/24",) if x.name == "low" else ("198.18.60.0/24",)
                peer = WireguardPeer(
                    public_key=keys("b" if ns == "a" else "a"), endpoint=end[ns == "a"], port=51820, allowed=allowed
                )
                x = replace(x, wireguard=Wireguard(public_key=keys(ns), port=51820, peers=(peer,)))
            links.append(x)
        spaces.append(replace(one, links=tuple(links)))
    host = replace(host, namespaces=tuple(spaces))
    fits, more = ask(host, size=whole), ask(host, size=min(whole + 1, up.mtu or 0))
    assert (fits.fate, fits.large, fits.complete) == (Fate.DELIVERED, Fate.DELIVERED, True), fits.why
    steps = [s for hop in fits.hops for s in hop.steps if isinstance(s, Encap)]
    assert sum(s.overhead for s in steps) == around
    assert more.large is not Fate.DELIVERED and more.mtu == whole


ATTRIBUTES = [  # kind, IFLA_INFO_DATA by number, what is read of it, the layer it makes
    ("ip6gre", {3: b"\x20\x00", 5: b"\x00\x00\x00\x07", 11: b"\x04", 13: b"\x01\x00\x00\x00"},
     {"key": True, "okey": 7, "encap_limit": "none"}, "gre6,key,noencaplimit"),
    ("ip6gre", {3: b"\x00\x00", 11: b"\x04", 13: b"\x00\x00\x00\x00"}, {"encap_limit": 4}, "gre6"),
    ("gre", {2: b"\x20\x00", 3: b"\xb0\x00", 4: b"\x00\x00\x01\x00", 5: b"\x00\x00\x00\x07", 19: b"\x01"},
     {"okey": 7, "ikey": 256, "seq": True, "csum": True}, "gre,key,csum,seq,ignore-df"),
    ("ipip", {15: b"\x01\x00", 18: b"\x15\xb3"}, {"encap_dport": 5555}, "ipip,fou"),
    ("sit", {8: b"\x00\x01", 6: b"\x00"}, {"encap_limit": 0}, "sit"),
    ("ip6tnl", {6: b"\x04", 8: b"\x01\x00\x00\x00"}, {"encap_limit": "none"}, "ip6tnl,noencaplimit"),
    ("erspan", {3: b"\x30\x00", 22: b"\x02"}, {"erspan_ver": 2}, "erspan,v2"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "attributes", "facts", "stack"), ATTRIBUTES, ids=[a[3] for a in ATTRIBUTES])
def test_what_the_kernel_shows_becomes_a_layer(
    kind: str, attributes: dict[int, bytes], facts: dict[str, Any], stack: str
) -> None:
    info = KINDS[kind](attributes)
    assert {k: info[k] for k in facts} == facts
    layer = layer_of(Link(index=2, name="t", mtu=1400, kind=kind, info=info), 6 if kind.startswith("ip6") else 4)
    assert layer is not None and layer.name == stack


def test_macsec_takes_what_its_facts_say() -> None:
    def link(**info: Any) -> Link:
        return Link(index=2, name="m", mtu=1468, kind="macsec", info=info)

    shown = KINDS["macsec"]({3: b"\x08", 9: b"\x00"})
    assert [macsec(link(**x)) for x in ({}, shown, {"protect": False})] == [32, 16, 0]
