"""CFG602 level by level: whose device it is that carries less, and that it is silent where all is well."""

from typing import Any

import pytest
import topo
from cases import case, hole, probe
from msgspec.structs import replace
from test_state_rules import of

from pathfit import diagnose
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.finding import Finding
from pathfit.core.snapshot import HostSnapshot

TEXT = """
n eth0 phys {nic} 203.0.113.7/24
n br0 bridge {outer} 198.18.0.1/24
n route default via 203.0.113.1
n forward
h eth0 {outer} 198.18.0.2/24 -- n v0 {outer} @br0
h br1 bridge {own} 198.18.1.1/24
h route default via 198.18.0.1
h forward
c eth0 {own} 198.18.1.2/24 -- h v1 {own} @br1
c route default via 198.18.1.1
"""
DEEPER = """
d eth0 {deep} 198.18.2.2/24 -- c v2 {deep} @br2
c br2 bridge {deep} 198.18.2.1/24
c forward
d route default via 198.18.2.1
"""
ON_THE_HOST = """
n eth0 phys {nic} 203.0.113.7/24
n br1 bridge {own} 198.18.1.1/24
n route default via 203.0.113.1
n forward
c eth0 {own} 198.18.1.2/24 -- n v1 {own} @br1
c route default via 198.18.1.1
"""
DIND, BUILD, DEEP = "d1" * 32, "b2" * 32, "e3" * 32


def engine(netns: str, one: str, name: str, where: str, bridge: str, *, default: bool = True, **more: Any) -> Engine:
    """A docker at ``netns`` with one container (id ``one``) at ``where``, in one bridge network."""
    inside = Container(
        id=one, name=name, engine="docker", netns=where, endpoints=(Endpoint(network=bridge, name="app"),)
    )
    net = EngineNetwork(id=bridge, name="app", driver="bridge", bridge=bridge, default=default, members=(one,))
    usual: dict[str, Any] = {"kind": "docker", "socket": f"/run/{bridge}.sock", "netns": netns, "mtu": 1500}
    return Engine(**{**usual, "containers": (inside,), "networks": (net,), **more})


def machine(nic: int = 1500, outer: int = 1500, own: int = 1500, deep: int | None = None, **more: Any) -> HostSnapshot:
    """Two levels (three with ``deep``): the machine n with a card of ``nic`` bytes, its container h of ``outer``, whose
    engine's container c has ``own``."""
    text = TEXT + (DEEPER if deep is not None else "")
    snap = topo.host(text.format(nic=nic, outer=outer, own=own, deep=deep))
    ids = {n.where: n.id for n in snap.namespaces}
    n, h, c = (ids[f"netns:{x}"] for x in "nhc")
    engines = [
        engine(n, DIND, "dind", h, "br0", mtu=outer),
        engine(h, BUILD, "build", c, "br1", **{"mtu": own, "depth": 1, "inside": DIND, "inside_name": "dind", **more}),
    ]
    if deep is not None:
        around = {"depth": 2, "inside": BUILD, "inside_name": "dind/build", "mtu": deep}
        engines.append(engine(c, DEEP, "deep", ids["netns:d"], "br2", **around))
    return replace(snap, engines=tuple(engines))


def said(host: HostSnapshot) -> list[Finding]:
    return [f for f in of(host).findings if f.code == "CFG602"]


def facts(finding: Finding, *names: str) -> tuple[Any, ...]:
    return tuple(finding.facts[n] for n in names)


NAMED = ("case", "engine", "level", "own", "limit", "place")


def test_the_container_around_has_less() -> None:
    (found,) = said(machine(outer=1450))
    assert facts(found, *NAMED) == ("members", "dind", 1, 1500, 1450, "h/eth0")
    assert found.where[0].link == "eth0"


def test_the_machine_s_own_card_has_less() -> None:
    (found,) = said(machine(nic=1450))
    assert facts(found, *NAMED) == ("beyond", "dind", 1, 1500, 1450, "n/eth0")


def test_the_smallest_counts_and_of_equals_the_nearest() -> None:
    assert [facts(f, "limit", "place") for f in said(machine(nic=1400, outer=1450))] == [(1400, "n/eth0")]
    assert [facts(f, "limit", "place") for f in said(machine(nic=1450, outer=1450))] == [(1450, "h/eth0")]


def test_a_container_in_its_host_s_network() -> None:
    """`--network host`: it leaves by the machine's own card at once."""
    snap = topo.host(ON_THE_HOST.format(nic=1450, own=1500))
    ids = {x.where: x.id for x in snap.namespaces}
    n, c = ids["netns:n"], ids["netns:c"]
    outer = engine(n, DIND, "dind", n, "none", networks=())
    inner = engine(n, BUILD, "build", c, "br1", depth=1, inside=DIND, inside_name="dind")
    (found,) = said(replace(snap, engines=(outer, inner)))
    assert facts(found, *NAMED) == ("members", "dind", 1, 1500, 1450, "n/eth0")


@pytest.mark.parametrize("sizes", [(1500, 1500, 1500), (1450, 1450, 1450), (1500, 1450, 1450), (9000, 1500, 1400)])
def test_silent_where_all_is_well(sizes: tuple[int, int, int]) -> None:
    assert said(machine(*sizes)) == []


def test_silent_of_what_its_own_device_carries_and_nobody_uses() -> None:
    empty = machine(nic=1450)
    outer, inner = empty.engines
    assert said(replace(empty, engines=(outer, replace(inner, containers=())))) == []


def test_three_levels_each_said_once() -> None:
    found = {f.facts["engine"]: f for f in said(machine(outer=1450, deep=1500))}
    assert {k: facts(f, "case", "level", "place") for k, f in found.items()} == {
        "dind": ("members", 1, "h/eth0"),
        "dind/build": ("beyond", 2, "h/eth0"),
    }
    assert said(machine(outer=1450, own=1450, deep=1450)) == []
    (last,) = said(machine(outer=1450, own=1450, deep=1500))
    assert facts(last, "case", "engine", "place") == ("members", "dind/build", "c/eth0")


def test_engines_that_lie_about_each_other_come_to_an_end() -> None:
    host = machine(outer=1450)
    outer, inner = host.engines
    liar = replace(outer, depth=1, inside=BUILD, inside_name="build")
    (found,) = said(replace(host, engines=(liar, inner)))
    assert facts(found, *NAMED) == ("members", "dind", 1, 1500, 1450, "h/eth0")


def measured(host: HostSnapshot, size: int) -> dict[str, Finding]:
    report = diagnose.report(case(host, probe(reverse=(hole(size),))))
    return {f.code: f for f in report.findings}


def test_a_network_of_its_own_has_both_causes() -> None:
    host = machine(outer=1450)
    outer, inner = host.engines
    at_c = next(n for n in host.namespaces if n.where == "netns:c")
    (one,) = inner.containers
    addressed = replace(one, endpoints=(Endpoint(network="br1", name="app", addresses=("198.18.1.2/24",)),))
    own = replace(inner, containers=(addressed,), networks=(replace(inner.networks[0], default=False),))
    assert at_c.id == one.netns
    found = measured(replace(host, engines=(outer, own)), 1450)
    assert {"CFG601", "CFG602"} <= set(found["MTU101"].because)
    assert found["CFG602"].confidence == "confirmed"
    assert "docker-network-mtu" in [f.id for f in found["CFG602"].fixes]


def test_measured_elsewhere_it_is_only_likely() -> None:
    found = measured(machine(outer=1450), 1400)
    assert found["CFG602"].confidence == "likely"
