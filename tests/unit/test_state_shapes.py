"""Who is alike: what decides about packets tells namespaces apart, what merely names them does not."""

import pytest
from topo import host

from pathfit.model import Network
from pathfit.rules.state.shapes import shape

TWO = """
c1 eth0 {mtu} {one} -- h v1 1500 @br0
c2 eth0 1500 198.18.1.3/24 -- h v2 1500 @br0
h br0 bridge 1500 198.18.1.1/24
c1 route default via 198.18.1.1 {metrics}
c2 route default via 198.18.1.1
{more}
"""
TUNNELS = "c1 t0 ipip 1480 remote=192.0.2.1\nc2 t0 ipip 1480 remote=192.0.2.{}"
BRIDGED = "c1 br1 bridge 1500\nc2 br1 bridge 1500\nc1 d0 dummy 1500 @br1\nc2 d0 dummy 1500"
CASES = {
    "an address": ({"one": "198.18.1.2/24"}, True),
    "a family": ({"one": "2001:db8::2/64"}, False),
    "a device's MTU": ({"mtu": "1400"}, False),
    "a route's MTU": ({"metrics": "mtu 1400"}, False),
    "tunnels to one end": ({"more": TUNNELS.format(1)}, True),
    "tunnels to two ends": ({"more": TUNNELS.format(2)}, False),
    "a port, and a device beside its bridge": ({"more": BRIDGED}, False),
}


@pytest.mark.parametrize(("change", "alike"), CASES.values(), ids=CASES)
def test_alike(change: dict[str, str], alike: bool) -> None:
    usual = {"mtu": "1500", "one": "198.18.1.2/24", "metrics": "", "more": ""}
    network = Network.of(host(TWO.format(**{**usual, **change})))
    one, two = (shape(network, network.nets[k]) for k in sorted(network.nets) if network.nets[k].snap.where[-2] == "c")
    assert (one == two) is alike
    assert (hash(one) == hash(two)) or not alike
