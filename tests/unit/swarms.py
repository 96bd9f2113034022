"""Three hosts of one overlay, as their snapshots would have them: a container on each, entries for the others.

one  192.0.2.1   c   10.0.0.1      two  192.0.2.2   d   10.0.0.2      three  192.0.2.3   e   10.0.0.3
"""

from typing import Any

import topo
from cases import case
from msgspec.structs import replace

from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork, Node
from pathfit.core.evidence import FleetFact, OtherHost, ProbeResult
from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict
from pathfit.core.request import ReadSnapshots
from pathfit.core.snapshot import FdbEntry, HostSnapshot, NetnsSnapshot

HOSTS, NAMES = ("one", "two", "three"), "cde"
TARGET, PORT = "10.0.0.3", 8081
VNI = 77


def mac(n: int) -> str:
    """Of the container on host ``n``."""
    return f"02:42:0a:00:00:0{n}"


def end(n: int) -> str:
    return f"192.0.2.{n}"


def node(n: int, *more: str, vni: int = VNI, mtu: int = 1450, told: bool = True,
         tables: dict[str, tuple[Table, ...]] | None = None) -> HostSnapshot:  # fmt: skip
    """Host ``n``; ``more`` lines of its topology. ``told``: an engine runs there and gave the container its address."""
    name, inside = HOSTS[n - 1], NAMES[n - 1]
    text = f"""
    {name} eth0 phys 1500 {end(n)}/24
    {name} vx0 vxlan {mtu} id={vni} local={end(n)} @br0
    {name} br0 bridge {mtu}
    {inside} eth0 {mtu} 10.0.0.{n}/24 -- {name} v0 {mtu} @br0
    """
    known = [f"{name} neigh vx0 10.0.0.{x} permanent {mac(x)}" for x in (1, 2, 3) if x != n]
    made = topo.host(text + "\n".join([*known, *more]), name=name, tables=tables)
    space = made.namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    entries = tuple(entry(device.index, mac(x), end(x)) for x in (1, 2, 3) if x != n)
    made = changed(made, name, fdb=entries)
    made = with_mac(made, inside, mac(n))
    return replace(made, engines=(engine(made, n),)) if told else made


def entry(link: int, station: str, remote: str) -> FdbEntry:
    return FdbEntry(link=link, mac=station, remote=remote, own=True, state="permanent")


def engine(made: HostSnapshot, n: int) -> Engine:
    network = EngineNetwork(id="n1", name="app", driver="overlay", scope="swarm", vnis=(VNI,), netns=space(made, n).id,
                            subnets=("10.0.0.0/24",), members=(f"id{n}",))  # fmt: skip
    network = replace(network, nodes=tuple(Node(name=HOSTS[x - 1], address=end(x)) for x in (1, 2, 3)))
    ends = (Endpoint(network="n1", name="app", addresses=(f"10.0.0.{n}",), mac=mac(n), link="eth0"),)
    inside = next(x for x in made.namespaces if x.where == f"netns:{NAMES[n - 1]}")
    container = Container(id=f"id{n}", name=NAMES[n - 1], engine="docker", netns=inside.id, endpoints=ends)
    return Engine(kind="docker", socket="", networks=(network,), containers=(container,))


def space(made: HostSnapshot, n: int) -> NetnsSnapshot:
    return next(x for x in made.namespaces if x.where == f"netns:{HOSTS[n - 1]}")


def changed(made: HostSnapshot, name: str, **more: Any) -> HostSnapshot:
    spaces = tuple(replace(x, **more) if x.where == f"netns:{name}" else x for x in made.namespaces)
    return replace(made, namespaces=spaces)


def with_mac(made: HostSnapshot, name: str, station: str) -> HostSnapshot:
    inside = next(x for x in made.namespaces if x.where == f"netns:{name}")
    return changed(made, name, links=tuple(replace(x, mac=station) if x.name == "eth0" else x for x in inside.links))


def leads(made: HostSnapshot, n: int, station: str, remote: str) -> HostSnapshot:
    """Host ``n`` sends what is for ``station`` to ``remote``."""
    fdb = tuple(replace(x, remote=remote) if x.mac == station else x for x in space(made, n).fdb)
    assert fdb != space(made, n).fdb
    return changed(made, HOSTS[n - 1], fdb=fdb)


def left_behind(n: int, told: bool = True) -> HostSnapshot:
    """Host ``n`` with what a container left there: the address and MAC of the one on the third."""
    made = node(n, f"old eth0 1450 {TARGET}/24 -- {HOSTS[n - 1]} vold 1450 @br0", told=told)
    return with_mac(made, "old", mac(3))


def stale(told: bool = True) -> tuple[HostSnapshot, HostSnapshot, HostSnapshot]:
    """Article 003: the first host sends what is for the third's container to the second, where a leftover answers."""
    return leads(node(1, told=told), 1, mac(3), end(2)), left_behind(2, told), node(3, told=told)


def asked(
    hosts: tuple[HostSnapshot, ...], measured: ProbeResult, *, age: float | None = 5.0, target: str = TARGET
) -> Case:
    """A run on the first host from its container to ``target``, beside snapshots of the others."""
    here, *others = hosts
    contact = replace(measured.contact, address=target, port=PORT, protocol="tcp")
    goal = Target(text=f"tcp://{target}:{PORT}", protocol="tcp", host=target, port=PORT)
    run = case(here, replace(measured, contact=contact), more={"target": goal})
    fact = FleetFact(ref="others", hosts=tuple(OtherHost(host=h, age=age) for h in others))
    return run.add(ReadSnapshots(ref="others", paths=("x",)), (fact,)) if others else run


def closed(n: int, table: str = "fw", chain: str = "in") -> HostSnapshot:
    """Host ``n`` drops what comes to its tunnel's port."""
    tests = (Match(field="l4proto", values=("17",)), Match(field="dport", values=("4789",)), Verdict(kind="drop"))
    rule = FilterRule(exprs=tests, handle=5, text="udp dport 4789 drop")
    fw = Table(family="inet", name=table, chains=(Chain(name=chain, hook="input", rules=(rule,)),))
    return node(n, tables={HOSTS[n - 1]: (fw,)})
