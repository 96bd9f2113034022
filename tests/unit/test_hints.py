"""What a number resembles: the bytes are those of the overhead table, and most numbers resemble nothing."""

import pytest

from pathfit.model.tunnels.overhead import fits
from pathfit.model.tunnels.stacks import parse
from pathfit.rules.hints import BASES, HELD, KNOWN, TAKES, USUAL, Hint, hint, resembles

STACKS = {
    "vxlan": "vxlan", "ipip": "ipip", "gre": "gre", "wireguard-v4": "wireguard,mtu=9000", "vxlan-v6": "vxlan6",
    "wireguard": "wireguard6", "geneve-ovn": "geneve,opt=8", "geneve-ovn-v6": "geneve6,opt=8", "gretap": "gretap",
    "gretap-v6": "gretap6", "gre-v6": "gre6", "ip6tnl": "ip6tnl", "esp": "esp-gcm", "esp-v6": "esp-gcm6",
    "esp-natt": "esp-gcm,natt", "ovs-gre": "ovs-gre,key", "openvpn": "openvpn", "openvpn-v6": "openvpn6",
    "vxlan-wireguard": "vxlan+wireguard6,mtu=1420", "mpls": "mpls",
}  # fmt: skip
WRITTEN_DOWN = {  # by those who make them, not by the kernel
    "vxlan-ipsec": 1424,  # swarm: 1500 - 50 (VXLAN) - 26 (ESP in transport mode, as libnetwork reckons)
    "ovn-kubernetes": 1400,  # openshift: cluster network MTU 100 below the host's
    "weave": 1376,
}


def test_every_encapsulation_is_checked() -> None:
    assert set(TAKES) == set(STACKS) | set(WRITTEN_DOWN)


@pytest.mark.parametrize("name", STACKS)
def test_the_bytes_are_those_of_the_overhead_table(name: str) -> None:
    stack, underlay = parse(STACKS[name])
    assert underlay == USUAL
    assert fits(stack, underlay)[0].fits == USUAL - TAKES[name]


HELD_STACKS = {
    "ovs-vswitchd": ("ovs-vxlan,netdev", "ovs-geneve,netdev", "ovs-vxlan6,netdev", "ovs-geneve6,netdev",
                     "ovs-geneve,opt=8,netdev", "ovs-geneve6,opt=8,netdev", "ovs-gre,key,netdev",
                     "ovs-gre6,key,netdev"),
    "wireguard-go": ("wireguard-go,mtu=1440", "wireguard-go6", "wireguard-go6,mtu=1500"),
    "boringtun": ("wireguard-go,mtu=1440", "wireguard-go6", "wireguard-go6,mtu=1500"),
    "openvpn": ("openvpn", "openvpn6"),
    "charon": ("libipsec",),
}  # fmt: skip


@pytest.mark.parametrize("program", HELD)
def test_what_programs_take_is_of_the_overhead_table_as_well(program: str) -> None:
    sizes = {USUAL - fits(parse(text)[0], USUAL)[0].fits for text in HELD_STACKS[program]}
    assert set(HELD[program]) == sizes


@pytest.mark.parametrize("name", WRITTEN_DOWN)
def test_what_makers_write(name: str) -> None:
    assert USUAL - TAKES[name] == WRITTEN_DOWN[name]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1450, Hint("vxlan")),
        (1442, Hint("geneve-ovn")),
        (1476, Hint("gre")),
        (1480, Hint("ipip")),
        (1420, Hint("wireguard")),
        (1440, Hint("wireguard-v4")),
        (1492, Hint("pppoe")),
        (1460, Hint("gcp")),
        (1400, Hint("azure")),
        (1430, Hint("vxlan-v6")),
        (1422, Hint("geneve-ovn-v6")),
        (1448, Hint("gre-v6")),
        (1370, Hint("vxlan-wireguard")),
        (1376, Hint("weave")),
        (1280, Hint("tailscale")),
        (1446, Hint("esp")),
        (1500, Hint("ethernet")),
        (8950, Hint("vxlan", "over-jumbo")),
        (8951, Hint("vxlan", "over-aws")),
        (8981, Hint("ipip", "over-aws")),
        (8941, Hint("wireguard-v4", "over-aws")),
        (8921, Hint("wireguard", "over-aws")),
        (8901, Hint("ovn-kubernetes", "over-aws")),
        (8500, Hint("aws-transit")),
        (8896, Hint("gcp-jumbo")),
        (1410, Hint("vxlan", "over-gcp")),
        (1402, Hint("geneve-ovn", "over-gcp")),
        (1412, Hint("wireguard", "over-pppoe")),
        (1350, Hint("vxlan", "over-cloud")),
        (1337, None),
        (1499, None),
        (3000, None),
    ],
)
def test_numbers_people_meet(size: int, said: Hint | None) -> None:
    assert hint(size) == said


def test_nothing_below_1280_is_typical_of_ipv6() -> None:
    assert hint(576) is not None and hint(576, 6) is None
    assert resembles(1337) == {"resembles": None, "resembles_over": None}


def test_a_number_is_no_hint_more_often_than_not() -> None:
    """A table that has a name for every number would say nothing."""
    for start in (1280, 8400, 8700):
        named = [n for n in range(start, start + 221) if hint(n)]
        assert len(named) < 60, named
    assert not [n for n in range(2000, 8000) if hint(n)]
    assert set(BASES.values()) - {1400, 1460, 1492, 8896} == {9000, 9001} and KNOWN
