"""The map as a value: devices, edges, ways, and what is drawn once."""

from pathlib import Path

import msgspec
import pytest
from maps import LAB, VXLAN, ZOO, crowd, distinct, drawn, overlay
from topo import host

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.finding import EvidenceLine, Finding
from pathfit.core.net import Point
from pathfit.core.snapshot import Wireguard, WireguardPeer
from pathfit.model import Network
from pathfit.render.map import document
from pathfit.render.map.build import build
from pathfit.render.map.graph import OUTSIDE, Map, space_of
from pathfit.render.map.shapes import natural, plan


def named(m: Map) -> dict[str, str]:
    """Device id -> "namespace/device", with its host where there are several."""
    several = len(m.hosts) > 1
    return {
        d.id: f"{h.name}!{s.label}/{d.name}" if several else f"{s.label}/{d.name}"
        for h in m.hosts for s in h.spaces for d in s.devices
    } | {OUTSIDE: OUTSIDE}  # fmt: skip


def edges(m: Map) -> set[str]:
    names = named(m)
    return {f"{names[e.a]} {e.kind} {names[e.b]}" for e in m.edges}


EDGES = [
    (LAB, {"c/eth0 veth h/vc", "h/vc port h/br0", "h/eth0 veth r/rh", "r/rs veth s/eth0"}),
    (
        VXLAN,
        {
            "a/eth0 veth b/eth0", "a/vx0 port a/br0", "a/vx0 lower a/eth0", "b/vx0 lower b/eth0", "b/vx0 port b/br0",
            "a/vx0 tunnel b/vx0", "c/eth0 veth a/vc", "a/vc port a/br0", "s/eth0 veth b/vs", "b/vs port b/br0",
        },
    ),
    (
        ZOO,
        {
            "host/eth0 uplink outside", "host/eth1 uplink outside", "host/eth0.7 lower host/eth0",
            "host/gre1 lower host/br0", "vm/tap0 veth host/vkvm", "host/vkvm port host/br0", "dind/eth0 veth host/vd",
            "host/vd port host/docker0", "inner-1/eth0 veth dind/v1", "dind/v1 port dind/docker0",
            "inner-2/eth0 veth dind/v2", "dind/v2 port dind/docker0",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), EDGES, ids=["lab", "vxlan", "zoo"])
def test_edges(text: str, expected: set[str]) -> None:
    def unordered(one: str) -> str:
        a, kind, b = one.split()
        return " ".join((min(a, b), kind, max(a, b))) if kind in ("veth", "tunnel") else one

    assert set(map(unordered, edges(drawn(text)))) == set(map(unordered, expected))


def test_every_device_of_every_namespace_is_there_with_its_mtu() -> None:
    m, snapshot = drawn(ZOO), host(ZOO)
    there = {(s.where, d.name): d.mtu for s in m.spaces() for d in s.devices}
    assert there == {(n.where, x.name): x.mtu for n in snapshot.namespaces for x in n.links}


@pytest.mark.parametrize(
    ("text", "device", "field", "value"),
    [
        (VXLAN, "a/vx0", "overhead", 50),
        (VXLAN, "a/vx0", "vni", 77),
        (VXLAN, "a/vx0", "far", ()),
        (VXLAN.replace("remote=198.18.9.2", "remote=203.0.113.7"), "a/vx0", "far", ("203.0.113.7",)),
        (VXLAN.replace("remote=198.18.9.2", "remote=239.1.1.1"), "a/vx0", "far", ()),
        (ZOO, "host/gre1", "overhead", 24),
        (ZOO, "host/gre1", "far", ("203.0.113.5",)),
        (ZOO, "host/eth0", "kind", "physical"),
        (ZOO, "host/lo", "kind", "loopback"),
        (ZOO, "host/docker1", "state", "down"),
        (ZOO, "host/eth1", "addresses", ("192.0.2.9/24", "2001:db8::9/64")),
    ],
)
def test_what_is_said_of_a_device(text: str, device: str, field: str, value: object) -> None:
    m = drawn(text)
    ident = next(k for k, v in named(m).items() if v == device)
    assert getattr(m.devices()[ident], field) == value


@pytest.mark.parametrize(
    ("text", "device", "message"),
    [
        (ZOO, "inner-2/eth0", "map.half-differs"),
        (ZOO, "inner-1/eth0", None),
        (VXLAN, "a/vx0", "map.tunnel-above"),
        (VXLAN.replace("vxlan 1500", "vxlan 1450"), "a/vx0", "map.port-below"),
        (VXLAN.replace("vxlan 1500", "vxlan 1450").replace("bridge 1500", "bridge 1450"), "a/vx0", None),
    ],
)
def test_remarks_are_facts_of_state(text: str, device: str, message: str | None) -> None:
    m = drawn(text)
    ident = next(k for k, v in named(m).items() if v == device)
    said = m.devices()[ident].remarks
    assert [r.message for r in said] == ([message] if message else [])
    assert not any(r.marked for r in said)


def test_findings_stand_at_their_places() -> None:
    snapshot = host(LAB)
    finding = Finding(
        code="MTU103", name="mss-overpromise", severity="warning", confidence="likely",
        facts={}, where=(Point(host="h", netns="netns:h", link="eth0"), Point(host="h", netns="netns:gone", link="x")),
        evidence=(EvidenceLine(ref="state", message="evidence.link"),),
    )  # fmt: skip
    m = build(Network.of(snapshot), [snapshot], findings=[finding])
    at = [named(m)[d.id] for d in m.devices().values() if any(r.marked for r in d.remarks)]
    assert at == ["h/eth0"]


def test_wireguard_ends_are_joined_by_their_keys() -> None:
    text = "a wg0 wireguard 1420 198.18.8.1/24\nb wg0 wireguard 1420 198.18.8.2/24"
    snapshot = host(text)
    spaces = []
    for n, ns in enumerate(snapshot.namespaces):
        peers = (WireguardPeer(public_key=f"key{1 - n}", endpoint="198.51.100.9", port=51820),)
        peers += (WireguardPeer(public_key="nobody", endpoint="203.0.113.9", port=51820),)
        links = [
            msgspec.structs.replace(x, wireguard=Wireguard(public_key=f"key{n}", peers=peers)) if x.name == "wg0" else x
            for x in ns.links
        ]
        spaces.append(msgspec.structs.replace(ns, links=tuple(links)))
    snapshot = msgspec.structs.replace(snapshot, namespaces=tuple(spaces))
    m = build(Network.of(snapshot), [snapshot])
    assert edges(m) == {"a/wg0 tunnel b/wg0"}
    assert {d.far for d in m.devices().values() if d.name == "wg0"} == {("203.0.113.9",)}
    assert {d.overhead for d in m.devices().values() if d.name == "wg0"} == {60}


def test_containers_and_networks_by_the_engines_names() -> None:
    snapshot = host("c eth0 1500 172.17.0.2/16 -- host v 1500 @br-1\nhost br-1 bridge 1500 172.17.0.1/16")
    end = Endpoint(network="n", name="app", addresses=("172.17.0.2",))
    one = Container(id="1", name="web", engine="docker", netns=snapshot.namespaces[0].id, endpoints=(end,))
    engine = Engine(
        kind="docker", socket="/run/docker.sock", containers=(one,),
        networks=(EngineNetwork(id="n", name="app", driver="bridge", bridge="br-1"),),
    )  # fmt: skip
    snapshot = msgspec.structs.replace(snapshot, engines=(engine,))
    m = build(Network.of(snapshot), [snapshot])
    networks = {named(m)[d.id]: d.network for d in m.devices().values() if d.network}
    assert networks == {"c/eth0": "app", "host/br-1": "app"}
    assert m.spaces()[0].containers == ("web",)


@pytest.mark.parametrize(
    ("where", "hidden", "label"),
    [
        ("netns:/run/docker/netns/1-3k1dmmqoqg", True, "wide"),  # where a swarm's overlay hides
        ("netns:/run/docker/netns/1-3k1dmmqoqg", False, "1-3k1dmmqoqg"),
        ("pod:shop/web-1", False, "shop/web-1"),
        ("container:outer/web", False, "outer/web"),
    ],
)
def test_what_people_call_a_namespace(where: str, hidden: bool, label: str) -> None:
    snapshot = host("c eth0 1500 172.17.0.2/16 -- host v 1500 @br-1\nhost br-1 bridge 1500 172.17.0.1/16")
    first, *others = snapshot.namespaces
    network = EngineNetwork(id="n", name="wide", driver="overlay", netns=first.id if hidden else "")
    engine = Engine(kind="docker", socket="/run/docker.sock", networks=(network,))
    spaces = (msgspec.structs.replace(first, where=where), *others)
    snapshot = msgspec.structs.replace(snapshot, namespaces=spaces, engines=(engine,))
    assert next(s.label for s in build(Network.of(snapshot), [snapshot]).spaces()) == label


# -- ways ------------------------------------------------------------------------------------------------------------

WAYS = [
    (
        LAB, "netns:c", "198.18.3.2",
        "c/eth0 h/vc h/br0 h/eth0 r/rh r/rs s/eth0", ("h/eth0", 1420),
        "s/eth0 r/rs r/rh h/eth0 h/br0 h/vc c/eth0", ("r/rh", 1420),
    ),
    (
        VXLAN, "netns:c", "198.18.3.2",
        "c/eth0 a/vc a/br0 a/vx0 a/eth0 b/eth0 b/vx0 b/br0 b/vs s/eth0", ("a/vx0", 1450),
        "s/eth0 b/vs b/br0 b/vx0 b/eth0 a/eth0 a/vx0 a/br0 a/vc c/eth0", ("b/vx0", 1450),
    ),
    (
        crowd(3, 1), "netns:web.1", "198.51.100.1",
        "web.1/eth0 host/v0 host/br0 host/eth0", None,
        "host/eth0 host/br0 host/v0 web.1/eth0", None,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", WAYS, ids=["routed", "vxlan", "outside"])
def test_ways(row: tuple[str, str, str, str, object, str, object]) -> None:
    text, source, to, *expected = row
    m = drawn(text, source, to)
    names = named(m)
    found: list[object] = []
    for w in m.ways:
        found.append(" ".join(names[x] for x in w.stations))
        found.append((names[w.mark.device], w.mark.mtu) if w.mark else None)
    assert found == expected


def test_every_leg_is_an_edge_of_the_map() -> None:
    for text, source, to in ((LAB, "netns:c", "198.18.3.2"), (VXLAN, "netns:c", "198.18.3.2")):
        m = drawn(text, source, to)
        known = {frozenset((e.a, e.b)) for e in m.edges}
        assert all(frozenset(leg) in known for w in m.ways for leg in w.legs)
        assert all(a[1] == b[0] for w in m.ways for a, b in zip(w.legs, w.legs[1:], strict=False))


def test_a_way_out_of_sight_ends_outside_and_comes_from_there() -> None:
    m = drawn(crowd(3, 1), "netns:web.1", "198.51.100.1")
    assert m.ways[0].legs[-1][1] == OUTSIDE and m.ways[1].legs[0][0] == OUTSIDE


# -- what is drawn once ----------------------------------------------------------------------------------------------

FOLDED = [
    # machine, path, boxes of several namespaces with their sizes, boxes of one
    (drawn(crowd(40)), [13, 13, 14], 1),
    (drawn(crowd(40), "netns:web.1", "198.51.100.1"), [13, 13, 13], 2),
    (drawn(crowd(2, 1)), [], 3),
    (drawn(overlay()), [6, 6, 14, 14], 4),
    (drawn(distinct(12)), [], 13),
    (drawn("\n".join(f"n{i} forward" for i in range(5))), [5], 0),
]


@pytest.mark.parametrize(
    ("m", "several", "single"), FOLDED, ids=["crowd", "path", "two", "overlay", "distinct", "bare"]
)
def test_folding(m: Map, several: list[int], single: int) -> None:
    boxes = [b for host in plan(m).boxes for b in host]
    assert sorted(len(b.spaces) for b in boxes if len(b.spaces) > 1) == several
    assert sum(len(b.spaces) == 1 for b in boxes) == single
    assert sum(len(b.spaces) for b in boxes) == len(m.spaces())


@pytest.mark.parametrize(
    "change",
    [
        ("web.7 eth0 1450", "web.7 eth0 1400"),
        ("host v6 1450", "host v6 1400"),
        ("web.7 eth0", "web.7 net0"),
    ],
)
def test_what_differs_stands_alone(change: tuple[str, str]) -> None:
    text = crowd(20, 2).replace(*change)
    assert text != crowd(20, 2)
    boxes = [b for host in plan(drawn(text)).boxes for b in host]
    (odd,) = [b for b in boxes if any(s.label == "web.7" for s in b.spaces)]
    assert len(odd.spaces) == 1


def test_who_hangs_elsewhere_is_folded_there() -> None:
    boxes = plan(drawn(crowd(20, 2).replace("host v6 1450 @br0", "host v6 1450 @br1"))).boxes[0]
    assert sorted(len(b.spaces) for b in boxes) == [1, 9, 11]


def test_folded_cables_keep_their_number() -> None:
    ties = plan(drawn(crowd(40))).ties
    assert sorted(t.many for t in ties if t.kind == "veth") == [13, 13, 14]
    assert sorted(t.many for t in ties if t.kind == "port") == [13, 13, 14]


def test_natural_order() -> None:
    assert sorted(["web.10", "web.2", "web", "9", "web.²"], key=natural)[:2] == ["9", "web"]
    assert sorted(["web.10", "web.2"], key=natural) == ["web.2", "web.10"]
    natural("9" * 5000)  # int() refuses so many digits


# -- JSON ------------------------------------------------------------------------------------------------------------


def keys(value: object, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{path}.{k}" for k in value} | {x for k, v in value.items() for x in keys(v, f"{path}.{k}")}
    if isinstance(value, list):
        return {x for v in value for x in keys(v, f"{path}[]")}
    return set()


def test_json() -> None:
    """Every key is always there: with a path, without, with nothing."""
    data = document.dump(drawn(LAB, "netns:c", "198.18.3.2"))
    said = msgspec.json.decode(data)
    assert said["schema"] == "pathfit.map/1" and said["asked"] == {"from": "netns:c", "to": "198.18.3.2"}
    devices = {d["id"]: d for n in said["hosts"][0]["namespaces"] for d in n["devices"]}
    forward = said["paths"]["forward"]
    assert [devices[x]["name"] for x in forward["devices"]][:4] == ["eth0", "vc", "br0", "eth0"]
    assert forward["limit"]["mtu"] == 1420 and devices[forward["limit"]["device"]]["mtu"] == 1420
    assert {e["a"] for e in said["edges"]} | {e["b"] for e in said["edges"]} <= {*devices, OUTSIDE}
    plain = msgspec.json.decode(document.dump(drawn(LAB)))
    assert plain["asked"] is None and plain["paths"] == {"forward": None, "reverse": None}
    assert keys(plain["hosts"]) == keys(said["hosts"])
    assert set(msgspec.json.decode(document.dump(Map()))) == set(said)


def test_json_is_documented() -> None:
    """Each key stands in docs/map.md."""
    text = (Path(__file__).parents[2] / "docs" / "map.md").read_text()
    said = msgspec.json.decode(document.dump(drawn(VXLAN, "netns:c", "198.18.3.2")))
    missing = {k.rpartition(".")[2] for k in keys(said)}
    facts = {k.rpartition(".")[2] for k in keys(said) if ".facts." in k}
    assert {k for k in missing - facts if f"`{k}`" not in text and f'"{k}"' not in text} == set()


def test_ids_of_a_namespace_begin_its_devices() -> None:
    m = drawn(overlay())
    assert all(space_of(d.id) == s.id for s in m.spaces() for d in s.devices)
    assert len({d.id for s in m.spaces() for d in s.devices}) == sum(len(s.devices) for s in m.spaces())
