"""In which order clients try the addresses of a name (RFC 6724 section 10 has the examples), families in turn."""

import pytest
from topo import host

from pathfit.model.network import Network
from pathfit.model.order import order

V4, V6, ULA = "198.51.100.2", "2600:db8:5::2", "fd00:5::2"
BOTH = """
c eth0 1500 192.0.2.2/24 2600:db8:1::2/64 -- h v 1500
c route default via 192.0.2.1
c route default via 2600:db8:1::1
"""
ONLY_V4 = "c eth0 1500 192.0.2.2/24 -- h v 1500\nc route default via 192.0.2.1\n"
# Docker gives containers such addresses, and a default route that leads nowhere in particular
PRIVATE_V6 = BOTH.replace("2600:db8:1::", "fd00:1::")
# 6to4 beside native IPv4
SIX_TO_FOUR = BOTH.replace("2600:db8:1::", "2002:c000:202::")


@pytest.mark.parametrize(
    ("network", "addresses", "tried"),
    [
        (BOTH, (V4, V6), (V6, V4)),
        (ONLY_V4, (V6, V4), (V4, V6)),
        (PRIVATE_V6, (V6, V4), (V4, V6)),  # rule 5: a private source does not match a global destination
        (PRIVATE_V6, (V4, ULA), (V4, ULA)),  # rule 6: IPv4 has the higher precedence than fc00::/7
        (BOTH, (ULA, V6, V4), (V6, V4, ULA)),
        (SIX_TO_FOUR, (V6, V4), (V4, V6)),  # rule 5
        (BOTH, ("198.51.100.9", V4, V6), (V6, "198.51.100.9", V4)),  # rule 10, and the families in turn
        (BOTH, (V4, "198.51.100.3", V6, "2600:db8:5::3"), (V6, V4, "2600:db8:5::3", "198.51.100.3")),
        (BOTH, ("2600:db8:9::2", "2600:db8:1::7"), ("2600:db8:1::7", "2600:db8:9::2")),  # rule 9
        (BOTH, (V4, V4), (V4,)),
        (BOTH, (), ()),
    ],
)
def test_as_a_client_tries_them(network: str, addresses: tuple[str, ...], tried: tuple[str, ...]) -> None:
    net = Network.of(host(network)).find("netns:c")
    assert net is not None
    assert order(net, addresses) == tried


def test_without_a_namespace_as_the_resolver_sorted_them() -> None:
    assert order(None, (V4, V6, V4)) == (V4, V6)
