"""Snapshots of several hosts, joined: what leads from one to the other, what must not, and what stays unknown."""

import pytest
import topo
from msgspec.structs import replace
from topo_lab import Lab

from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict
from pathfit.core.net import Flow
from pathfit.core.path import Fate, Predicted
from pathfit.core.snapshot import FdbEntry, HostSnapshot
from pathfit.model import Network, predict, predict_both
from pathfit.model.tunnels.outers import ZERO_MAC


def node(name: str, *, mtu: int = 1500, last: int, more: str = "") -> HostSnapshot:
    """A machine with a container ``c`` on docker0 (the same subnet everywhere) and an uplink into 198.18.9.0/24."""
    text = f"""
    h eth0 phys {mtu} 198.18.9.{last}/24
    h docker0 bridge {mtu} 172.17.0.1/16
    c eth0 {mtu} 172.17.0.2/16 -- h vc {mtu} @docker0
    c route default via 172.17.0.1
    h route default via 198.18.9.254
    h forward
    {more}
    """
    return topo.host(text, name=name)


def overlay(name: str, last: int, others: tuple[int, ...], *, mtu: int = 1450, under: int = 1500) -> HostSnapshot:
    """A node of an overlay of three: container on a bridge with a VXLAN device, flat 10.0.0.0/24, flooding."""
    host = topo.host(
        f"""
        h eth0 phys {under} 198.18.9.{last}/24
        h br0 bridge {mtu}
        h vx0 vxlan {mtu} id=77 local=198.18.9.{last} @br0
        c eth0 {mtu} 10.0.0.{last}/24 -- h vc {mtu} @br0
        """,
        name=name,
    )
    h = host.namespaces[0]
    vx = next(x for x in h.links if x.name == "vx0")
    fdb = tuple(FdbEntry(link=vx.index, mac=ZERO_MAC, remote=f"198.18.9.{x}", own=True) for x in others)
    return replace(host, namespaces=(replace(h, fdb=fdb), *host.namespaces[1:]))


def limits(p: Predicted) -> list[tuple[int, str, str, str]]:
    at = [f"{x.at.host}/{x.at.link}" for x in p.limits]
    return [(x.mtu, x.kind, where, x.then) for x, where in zip(p.limits, at, strict=True)]


def places(p: Predicted) -> list[str]:
    return [f"{h.where.host}/{h.where.netns.removeprefix('netns:')}" for h in p.hops]


def test_two_hosts_on_one_subnet() -> None:
    """Small packets get there as far as anybody can see; of large ones nothing is promised, the wire is not visible."""
    network = Network.of(node("a", last=1), node("b", last=2))
    forward, back = predict_both(network, "a!netns:h", "198.18.9.2", dport=443)
    assert places(forward) == ["a/h", "b/h"] and places(back) == ["b/h", "a/h"]
    for way in (forward, back):
        assert (way.fate, way.large, way.complete, way.mtu) == (Fate.DELIVERED, Fate.UNKNOWN, False, 1500)
        assert way.why.endswith("is not visible") and way.ends is not None and way.ends.link == "eth0"


def test_limits_of_the_far_host_count() -> None:
    far = node("b", last=2, more="h route 172.17.0.0/16 dev docker0 mtu 1280")
    flow = Flow(src="198.18.9.1", dst="198.18.9.2", proto=6, size=1500)
    network = Network.of(node("a", last=1), far)
    assert predict(network, "a!netns:h", flow).large is Fate.UNKNOWN
    narrow = node("b", last=2, mtu=1400)
    back = predict(
        Network.of(node("a", last=1), narrow), "b!netns:h", replace(flow, src="198.18.9.2", dst="198.18.9.1")
    )
    assert limits(back) == [(1400, "l3", "b/eth0", "error")] and back.large is Fate.TOO_BIG_TOLD


def test_a_filter_of_the_far_host_ends_it_certainly() -> None:
    drop = FilterRule(exprs=(Match(field="dport", values=("443",)), Verdict(kind="drop")), handle=1)
    table = Table(family="inet", name="t", chains=(Chain(name="in", hook="input", rules=(drop,)),))
    b = node("b", last=2)
    b = replace(b, namespaces=(replace(b.namespaces[0], tables=(table,)), *b.namespaces[1:]))
    forward, _ = predict_both(Network.of(node("a", last=1), b), "a!netns:h", "198.18.9.2", dport=443)
    assert (forward.fate, places(forward)[-1]) == (Fate.FILTERED, "b/h")


def test_three_nodes_of_an_overlay() -> None:
    nodes = [overlay("a", 1, (2, 3)), overlay("b", 2, (1, 3)), overlay("d", 3, (1, 2))]
    network = Network.of(*nodes)
    for name, last in (("b", 2), ("d", 3)):
        forward, back = predict_both(network, "a!netns:c", f"10.0.0.{last}", dport=443)
        assert places(forward)[0] == "a/c" and places(forward)[-1] == f"{name}/c"
        assert (forward.fate, forward.large, back.fate, back.large) == (
            Fate.DELIVERED, Fate.UNKNOWN, Fate.DELIVERED, Fate.UNKNOWN,
        )  # fmt: skip
        assert "is not visible" in forward.why


def test_an_overlay_that_forgets_its_overhead_is_seen_across_hosts() -> None:
    nodes = [overlay("a", 1, (2,), mtu=1500), overlay("b", 2, (1,), mtu=1500)]
    forward, back = predict_both(Network.of(*nodes), "a!netns:c", "10.0.0.2", dport=443)
    assert [x[:2] for x in limits(forward)] == [(1450, "tunnel")] == [x[:2] for x in limits(back)]
    assert forward.mtu == back.mtu == 1450


def test_a_routed_underlay_is_joined_by_the_one_owner_of_the_address() -> None:
    a = topo.host("h eth0 phys 1500 10.1.0.5/24\nh route default via 10.1.0.1", name="a")
    b = topo.host("h eth0 phys 1500 10.2.0.5/24\nh route default via 10.2.0.1", name="b")
    forward, back = predict_both(Network.of(a, b), "a!netns:h", "10.2.0.5", dport=443)
    assert places(forward) == ["a/h", "b/h"] and places(back) == ["b/h", "a/h"]
    assert (forward.fate, forward.large, forward.complete) == (Fate.DELIVERED, Fate.UNKNOWN, False)
    c = topo.host("h eth0 phys 1500 10.2.0.5/24\nh route default via 10.2.0.1", name="c")
    forward, _ = predict_both(Network.of(a, b, c), "a!netns:h", "10.2.0.5", dport=443)
    assert forward.fate is Fate.UNKNOWN and "2 hosts have the address 10.2.0.5: b, c" in forward.why


def test_translated_addresses_do_not_join() -> None:
    """A private source does not reach a public address as itself: somebody between translates it."""
    a = topo.host("h eth0 phys 1500 10.1.0.5/24\nh route default via 10.1.0.1", name="a")
    b = topo.host("h eth0 phys 1500 8.8.4.4/24\nh route default via 8.8.4.1", name="b")
    forward, _ = predict_both(Network.of(a, b), "a!netns:h", "8.8.4.4", dport=443)
    assert forward.fate is Fate.UNKNOWN and "translates 10.1.0.5" in forward.why


def test_the_containers_subnet_of_every_host_joins_nothing() -> None:
    """172.17.0.2 lives on both; from a it is a's own, and 172.17.0.9, which only b has, is nobody's."""
    more = "x eth0 1500 172.17.0.9/16 -- h vx 1500 @docker0\nx route default via 172.17.0.1"
    network = Network.of(node("a", last=1), node("b", last=2, more=more))
    for source in ("a!netns:h", "a!netns:c"):
        forward, _ = predict_both(network, source, "172.17.0.9", dport=443)
        assert "b" not in {h.where.host for h in forward.hops}
        assert forward.fate not in (Fate.DELIVERED,)
    forward, _ = predict_both(network, "a!netns:h", "172.17.0.2", dport=443)
    assert (forward.fate, places(forward)) == (Fate.DELIVERED, ["a/h", "a/c"])


@pytest.mark.parametrize(
    ("mine", "theirs", "joined"),
    [
        ("h neigh eth0 198.18.9.2 reachable 02:00:00:00:00:02", "", True),  # its eth0 (topo.mac)
        ("h neigh eth0 198.18.9.2 reachable 52:54:00:99:99:99", "", False),  # another machine has that address here
        (
            "h neigh eth0 198.18.9.254 reachable 52:54:00:00:00:01",
            "h neigh eth0 198.18.9.254 reachable 52:54:00:00:00:02",
            False,
        ),  # two offices, one plan of addresses
        (
            "h neigh eth0 198.18.9.254 reachable 52:54:00:00:00:01",
            "h neigh eth0 198.18.9.254 stale 52:54:00:00:00:01",
            True,
        ),
    ],
)
def test_what_both_know_of_their_neighbours_decides(mine: str, theirs: str, joined: bool) -> None:
    network = Network.of(node("a", last=1, more=mine), node("b", last=2, more=theirs))
    forward, _ = predict_both(network, "a!netns:h", "198.18.9.2", dport=443)
    assert (forward.fate is Fate.DELIVERED) == joined
    assert forward.why


def test_another_subnet_on_the_same_device_does_not_join() -> None:
    a = topo.host("h eth0 phys 1500 198.18.9.1/32\nh route 198.18.8.2 dev eth0", name="a")
    b = topo.host("h eth0 phys 1500 198.18.8.2/24", name="b")
    assert predict_both(Network.of(a, b), "netns:h", "198.18.8.2")[0].fate is Fate.UNKNOWN


def test_a_host_reached_through_its_bridge_and_its_vlan() -> None:
    a = topo.host("h eth0 phys 1500 198.18.9.1/24", name="a")
    b = topo.host("h eth0 phys 1500 @br0\nh br0 bridge 1400 198.18.9.2/24", name="b")
    assert predict_both(Network.of(a, b), "a!netns:h", "198.18.9.2")[0].fate is Fate.DELIVERED
    v = topo.host("h eth0 phys 1500\nh eth0.7 vlan 1500 198.18.9.2/24 dev=eth0 vlan_id=7", name="b")
    assert predict_both(Network.of(a, v), "a!netns:h", "198.18.9.2")[0].fate is Fate.DELIVERED


def test_too_big_across_the_wire_is_not_promised_to_come_home() -> None:
    """A forwards to B, B has the narrow device and tells; whether that gets back over the wire is not known."""
    narrow = node("b", last=2, more="h eth1 phys 1300 198.18.7.1/24")
    a = node("a", last=1, more="h route 198.18.7.0/24 via 198.18.9.2")
    way = predict_both(Network.of(a, narrow), "a!netns:h", "198.18.7.9", dport=443)[0]
    assert limits(way) == [(1300, "l3", "b/eth1", "icmp")]
    assert way.limits[0].told_home is None


def test_machines_of_one_name_are_told_apart_and_one_read_twice_is_one() -> None:
    a = node("a", last=1)
    other = replace(node("a", last=2), boot_id="another")
    network = Network.of(a, other, a)
    assert network.hosts == ("a", "a-2")
    assert places(predict_both(network, "a!netns:h", "198.18.9.2")[0]) == ["a/h", "a-2/h"]
    assert len(Network.of(a, a).nets) == len(a.namespaces)


# -- one network, seen as a whole and in parts -----------------------------------------------------------------------

DIRECT = """
c1 eth0 1500 198.18.1.2/24 -- h1 vc 1500 @br0
h1 br0 bridge 1500 198.18.1.1/24
h1 nic {a} 198.18.9.1/24 -- h2 nic {b} 198.18.9.2/24
c2 eth0 1500 198.18.2.2/24 -- h2 vc 1500 @br0
h2 br0 bridge 1500 198.18.2.1/24
c1 route default via 198.18.1.1
c2 route default via 198.18.2.1
h1 route 198.18.2.0/24 via 198.18.9.2
h2 route 198.18.1.0/24 via 198.18.9.1
h1 forward
h2 forward
"""
ROUTED = """
h1 nic {a} 198.18.7.1/24 -- r r1 1500 198.18.7.254/24
h2 nic {b} 198.18.8.1/24 -- r r2 1500 198.18.8.254/24
r forward
h1 route default via 198.18.7.254
h2 route default via 198.18.8.254
c1 eth0 1500 10.0.0.1/24 -- h1 vc 1500 @br0
c2 eth0 1500 10.0.0.2/24 -- h2 vc 1500 @br0
h1 br0 bridge 1500
h2 br0 bridge 1500
h1 vx0 vxlan 1450 id=77 local=198.18.7.1 remote=198.18.8.1 @br0
h2 vx0 vxlan 1450 id=77 local=198.18.8.1 remote=198.18.7.1 @br0
"""


def parts(whole: HostSnapshot, *groups: str) -> list[HostSnapshot]:
    """The same namespaces as hosts of their own; a cable between two of them is a physical device at either end."""
    found = []
    for group in groups:
        mine = [n for n in whole.namespaces if n.where.removeprefix("netns:") in group.split()]
        ids = {n.id for n in mine}
        spaces = tuple(
            replace(
                n,
                links=tuple(
                    replace(x, kind="", peer=0, peer_ns=None, peer_nsid=None)
                    if x.peer_ns and x.peer_ns not in ids
                    else x
                    for x in n.links
                ),
            )
            for n in mine
        )
        found.append(replace(whole, host=group.split()[0], boot_id=group, namespaces=spaces))
    return found


@pytest.mark.parametrize(("a", "b"), [(1500, 1500), (1400, 1400), (1500, 1400), (1400, 1500)])
@pytest.mark.parametrize(("text", "groups"), [(DIRECT, ("h1 c1", "h2 c2")), (ROUTED, ("h1 c1", "h2 c2"))])
@pytest.mark.parametrize("source", ["c1", "c2"])
def test_in_parts_nothing_is_said_that_the_whole_denies(
    text: str, groups: tuple[str, ...], source: str, a: int, b: int
) -> None:
    """Limits that are said are true; what is said to arrive does; and of a large one that is never said."""
    whole = topo.host(text.format(a=a, b=b))
    network, joined = Network.of(whole), Network.of(*parts(whole, *groups))
    target = {"c1": "c2", "c2": "c1"}[source]
    net = network.find(f"netns:{target}")
    assert net is not None
    address = next(x.address for x in net.snap.addresses if x.scope == 0)
    for truth, seen in zip(
        predict_both(network, f"netns:{source}", address, dport=443),
        predict_both(joined, f"netns:{source}", address, dport=443),
        strict=True,
    ):
        known = {(x.mtu, x.at.netns, x.at.link, x.kind) for x in truth.limits}
        assert [x for x in seen.limits if (x.mtu, x.at.netns, x.at.link, x.kind) not in known] == []
        assert seen.fate is truth.fate is Fate.DELIVERED and not seen.complete
        assert seen.large in (truth.large, Fate.UNKNOWN) and seen.large is not Fate.DELIVERED
        assert seen.mtu is not None and truth.mtu is not None and seen.mtu >= truth.mtu
        ours = [h.where.netns for h in truth.hops if h.where.netns != "netns:r"]
        assert [h.where.netns for h in seen.hops] == list(dict.fromkeys(ours))


@pytest.mark.lab
@pytest.mark.parametrize("text", [DIRECT, ROUTED])
def test_hosts_as_the_kernel_made_them_are_joined(text: str) -> None:
    """The same, of real namespaces: their own MAC addresses, neighbours and routes."""
    lab = Lab(text.format(a=1400, b=1400))
    try:
        lab.up()
        assert "1 received" in lab.run("c1", "ping", "-c1", "-W3", _address(lab.snapshot(), "c2"))
        whole = lab.snapshot()
        ids = iter(("h1 c1", "h2 c2"))
        joined = Network.of(*parts(whole, *ids))
        for source, target in (("c1", "c2"), ("c2", "c1")):
            truth = predict_both(Network.of(whole), f"netns:{source}", _address(whole, target), dport=443)
            seen = predict_both(joined, f"netns:{source}", _address(whole, target), dport=443)
            for old, new in zip(truth, seen, strict=True):
                assert (old.fate, new.fate, new.complete) == (Fate.DELIVERED, Fate.DELIVERED, False), new.why
                assert {x.mtu for x in new.limits} <= {x.mtu for x in old.limits}
                assert new.large in (old.large, Fate.UNKNOWN) and new.large is not Fate.DELIVERED
    finally:
        lab.down()


def _address(host: HostSnapshot, name: str) -> str:
    net = next(n for n in host.namespaces if n.where == f"netns:{name}")
    return next(a.address for a in net.addresses if a.scope == 0 and ":" not in a.address)


# --- a virtual machine and its host ----------------------------------------------------------------------------------

GUEST_MAC = "fa:16:3e:00:00:01"


def guest(name: str = "vm", mac: str = GUEST_MAC) -> HostSnapshot:
    """A machine with a container on docker0 (1500) and a NIC (1450) on 198.18.2.0/24, whose router is at .1."""
    host = topo.host(
        """
        g eth0 phys 1450 198.18.2.10/24
        g docker0 bridge 1500 172.17.0.1/16
        c eth0 1500 172.17.0.2/16 -- g vc 1500 @docker0
        c route default via 172.17.0.1
        g route default via 198.18.2.1
        g forward
        """,
        name=name,
    )
    g = host.namespaces[0]
    links = tuple(replace(x, mac=mac) if x.name == "eth0" else x for x in g.links)
    return replace(host, namespaces=(replace(g, links=links), *host.namespaces[1:]))


def below(name: str = "kvm", tap: str = "fe:16:3e:00:00:01", learned: str = GUEST_MAC) -> HostSnapshot:
    """Its host: a bridge with the machine's tap, and the router 198.18.2.1 behind a cable."""
    host = topo.host(
        """
        k br0 bridge 1500
        k tap0 tun 1450 @br0
        r eth0 1500 198.18.2.1/24 -- k vr 1500 @br0
        r eth1 phys 1500 198.18.3.1/24
        r route default via 198.18.3.2
        r route 172.17.0.0/16 via 198.18.2.10
        r forward
        """,
        name=name,
    )
    k = host.namespaces[0]
    links = tuple(replace(x, mac=tap) if x.name == "tap0" else x for x in k.links)
    index = next(x.index for x in links if x.name == "tap0")
    fdb = (FdbEntry(link=index, mac=learned),) if learned else ()
    return replace(host, namespaces=(replace(k, links=links, fdb=fdb), *host.namespaces[1:]))


def test_a_virtual_machine_is_plugged_into_its_tap() -> None:
    """From its container to the host's router and back: the NIC bounds what leaves, the tap's bridge what comes."""
    network = Network.of(guest(), below())
    forward, back = predict_both(network, "vm!netns:c", "198.18.2.1", dport=443)
    assert places(forward) == ["vm/c", "vm/g", "kvm/k", "kvm/r"]
    assert (forward.fate, forward.limits[0].at.link) == (Fate.DELIVERED, "eth0")
    assert [(m, k, where, then) for m, k, where, then in limits(back) if where.endswith("tap0")] == [
        (1454, "l2", "kvm/tap0", "silent")
    ]
    assert back.complete, "nothing between a tap and its machine is out of sight"


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param((guest(), guest("other"), below()), id="two machines have that address"),
        pytest.param((guest(), below(), below("moved")), id="it is behind two taps"),
        pytest.param((guest(), below(learned="", tap="02:00:00:00:00:09")), id="nothing was learned"),
        pytest.param((guest(mac="fa:16:3e:00:00:02"), below()), id="another address"),
    ],
)
def test_it_is_not_guessed_where_a_machine_is_plugged(hosts: tuple[HostSnapshot, ...]) -> None:
    network = Network.of(*hosts)
    assert [network.plug(net, x) for net in network.nets.values() for x in net.snap.links if x.name == "tap0"] == [
        None
    ] * sum(h.host in ("kvm", "moved") for h in hosts)


def test_by_the_address_that_libvirt_gives_the_tap() -> None:
    network = Network.of(guest(), below(learned=""))
    assert network.plug(*next((n, x) for n in network.nets.values() for x in n.snap.links if x.name == "tap0"))
