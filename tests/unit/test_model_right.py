"""The MTU a tunnel device should have, stacked; and who has another one."""

import pytest
import topo
from test_model_tunnels import CABLE, built, changed, routed

from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Network
from pathfit.model.tunnels.overhead import Layer
from pathfit.model.tunnels.right import Misfit, misfits, right_mtu
from pathfit.model.tunnels.stacks import parse

VX = "a {name} vxlan {mtu} id={vni} local={here} remote={there} {more}\n"
UNDER = CABLE.replace("1500", "{under}", 1)
OUTER = VX.format(name="vx0", mtu=1500, vni=7, here="198.18.9.1", there="198.18.9.2", more="198.18.50.1/24")
TEXTS = [  # text, device, its right MTU
    (CABLE + OUTER, "vx0", 1450),
    (UNDER.format(under=9000) + OUTER, "vx0", 8950),
    (CABLE + OUTER + "a route 198.18.9.2/32 dev eth0 mtu 1400", "vx0", 1350),
    (CABLE + OUTER + "a cached 198.18.9.2 1380", "vx0", 1330),
    (CABLE + OUTER.replace("198.18.9.", "2001:db8:9::"), "vx0", 1430),
    (CABLE + OUTER.replace("remote=198.18.9.2", "dev=eth0"), "vx0", 1450),
    (CABLE + OUTER.replace("remote=198.18.9.2", ""), "vx0", None),
    (CABLE + OUTER.replace("remote=198.18.9.2", "remote=239.1.1.1 dev=eth0"), "vx0", 1450),
    (CABLE + OUTER.replace("remote=198.18.9.2", "remote=203.0.113.1"), "vx0", None),
    (CABLE + OUTER + VX.format(name="vx1", mtu=1500, vni=8, here="198.18.50.1", there="198.18.50.2", more=""),
     "vx1", 1400),
    (CABLE + OUTER.replace(" 1500", " 1300") + VX.format(name="vx1", mtu=1500, vni=8, here="198.18.50.1",
     there="198.18.50.2", more=""), "vx1", 1250),
    (CABLE + OUTER + "a v7 vlan 1500 vlan_id=7 dev=vx0", "v7", 1446),
    (CABLE + OUTER + "a m0 macvlan 1500 dev=vx0\na v7 vlan 1500 vlan_id=7 dev=m0", "v7", 1446),
    (CABLE + "a v7 vlan 1500 vlan_id=7 dev=eth0", "v7", 1500),
    (CABLE + "a ms macsec 1500 dev=eth0", "ms", 1468),
    (CABLE + "a ms macsec 1500 dev=eth0 198.18.70.1/24\n"
     + VX.format(name="vx1", mtu=1500, vni=8, here="198.18.70.1", there="198.18.70.2", more=""), "vx1", 1418),
    (CABLE, "eth0", None),
]  # fmt: skip


def right(host: HostSnapshot, name: str) -> int | None:
    network = Network.of(host)
    net = network.find("netns:a")
    assert net is not None
    return right_mtu(network, net, net.names[name])


@pytest.mark.parametrize(("text", "name", "mtu"), TEXTS)
def test_the_right_mtu(text: str, name: str, mtu: int | None) -> None:
    assert right(topo.host(text), name) == mtu


@pytest.mark.parametrize("stack", ["geneve", "gre,key", "ipip", "sit", "ip6tnl", "ip6gre", "wireguard", "wireguard6"])
def test_the_right_mtu_is_what_passes_whole(stack: str) -> None:
    from pathfit.model.tunnels.overhead import fits

    layer = parse(stack).layers[0]
    assert right(built(layer, 1700), "tun") == fits((layer,), 1500)[0].best


def test_peers_over_both_families_share_the_smaller() -> None:
    host = built(Layer("wireguard"), 1440)
    wg = next(x.wireguard for x in host.namespaces[0].links if x.wireguard)
    from msgspec.structs import replace

    two = (
        *wg.peers,
        replace(wg.peers[0], public_key="k", endpoint="2001:db8:9::2"),
        replace(wg.peers[0], endpoint=None),
    )
    assert right(changed(host, "a", "tun", wireguard=replace(wg, peers=two)), "tun") == 1420
    assert right(changed(host, "a", "tun", wireguard=None), "tun") is None


def test_misfits_name_the_device_and_the_number() -> None:
    host = routed(parse("geneve").layers[0], 1500, 4)
    found = list(misfits(Network.of(host)))
    assert [(x.at.netns, x.at.link, x.kind, x.mtu, x.right, x.overhead) for x in found] == [
        ("netns:a", "tun", "geneve", 1500, 1450, 50),
        ("netns:b", "tun", "geneve", 1500, 1450, 50),
    ]
    assert isinstance(found[0], Misfit)
    assert not list(misfits(Network.of(routed(parse("geneve").layers[0], 1450, 4))))


def test_a_device_on_itself_ends() -> None:
    text = CABLE + "a v7 vlan 1500 vlan_id=7 dev=v8\na v8 vlan 1500 vlan_id=8 dev=v7"
    assert right(topo.host(text), "v7") in (None, 1500)
    loop = CABLE + VX.format(
        name="vx0", mtu=1500, vni=7, here="198.18.50.1", there="198.18.50.2", more="198.18.50.1/24"
    )
    assert right(topo.host(loop), "vx0") is not None
