"""What makers deduct and what is really taken: their own arithmetic, in the numbers that their users know."""

import pytest

from pathfit.model.tunnels import makers
from pathfit.model.tunnels.makers import deductions, expected_inner, fitting_inner, heartbeat, neutron_mtu, real


@pytest.mark.parametrize(
    ("maker", "backend", "underlay", "family", "encryption", "gives", "fits"),
    [
        ("flannel", "vxlan", 1500, 4, "", 1450, 1450),
        ("flannel", "vxlan", 1500, 6, "", 1450, 1430),  # takes 50 whatever is outside: 20 too few
        ("flannel", "wireguard", 1400, 4, "wireguard", 1320, 1340),
        ("flannel", "ipip", 1500, 4, "", 1480, 1480),
        ("flannel", "udp", 1500, 4, "", 1472, 1472),
        ("flannel", "ipsec", 1500, 4, "ipsec", 1423, 1438),
        ("flannel", "host-gw", 1500, 4, "", 1500, 1500),
        ("calico", "ipip", 1460, 4, "", 1440, 1440),
        ("calico", "vxlan", 1442, 4, "", 1392, 1392),
        ("calico", "vxlan", 1500, 6, "", 1430, 1430),
        ("calico", "wireguard", 9000, 4, "", 8940, 8940),
        ("calico", "none", 1500, 4, "wireguard", 1440, 1440),
        ("calico", "none", 9000, 4, "", 9000, 9000),
        ("cilium", "vxlan", 1500, 4, "", 1450, 1450),
        ("cilium", "geneve", 1500, 4, "", 1450, 1450),
        ("cilium", "host-gw", 1450, 4, "wireguard", 1355, 1390),
        ("cilium", "vxlan", 1500, 4, "ipsec", 1373, 1394),
        ("cilium", "host-gw", 1500, 4, "ipsec", 1423, 1446),
        ("cilium", "host-gw", 1500, 4, "", 1500, 1500),
        ("antrea", "geneve", 1500, 4, "", 1450, 1450),
        ("antrea", "geneve", 1500, 6, "", 1430, 1430),
        ("antrea", "gre", 1500, 4, "", 1458, 1458),
        ("antrea", "geneve", 1500, 4, "ipsec", 1412, 1416),
        ("antrea", "geneve", 1500, 4, "wireguard", 1420, 1440),
        ("antrea", "geneve", 65535, 4, "", 65000, 65485),
        ("kindnet", "host-gw", 1500, 4, "", 1500, 1500),
        ("ovn-kubernetes", "geneve", 1500, 4, "", 1400, 1442),
        ("ovn-kubernetes", "geneve", 9001, 6, "", 8901, 8923),
        ("weave", "vxlan", 1500, 4, "", 1376, 1450),
        ("weave", "vxlan", 1460, 4, "ipsec", 1376, 1376),
        ("neutron", "vxlan", 1500, 4, "", 1450, 1450),
        ("neutron", "vxlan", 1500, 6, "", 1430, 1430),
        ("neutron", "gre", 1500, 4, "", 1458, 1458),
        ("neutron", "geneve", 1500, 4, "", 1450, 1450),
    ],
)
def test_what_a_maker_gives_and_what_fits(
    maker: str, backend: str, underlay: int, family: int, encryption: str, gives: int, fits: int
) -> None:
    words = (maker, backend, underlay, family, encryption)
    assert (expected_inner(*words), fitting_inner(*words)) == (gives, fits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("maker", "backend", "family", "encryption", "numbers"),
    [
        ("cilium", "host-gw", 4, "wireguard", (95, 80)),
        ("cilium", "vxlan", 4, "wireguard", (145, 130, 80)),  # besides the tunnel; once instead of it
        ("antrea", "gre", 4, "", (42, 38)),
        ("antrea", "vxlan", 6, "ipsec", (108,)),
        ("ovn-kubernetes", "geneve", 4, "", (100, 58)),
        ("calico", None, 4, "", ()),
        ("weave", "vxlan", 4, "", ()),
    ],
)
def test_versions_deducted_differently(
    maker: str, backend: str | None, family: int, encryption: str, numbers: tuple[int, ...]
) -> None:
    assert deductions(maker, backend, family, encryption) == numbers  # type: ignore[arg-type]


def test_what_is_not_known_is_not_guessed() -> None:
    assert expected_inner("flannel", None, 1500) is None
    assert fitting_inner("weave", "udp", 1500) is None  # sleeve finds its own size
    assert real("flannel", "ipsec", 6) is None
    assert real("calico", "ipip", 6) is None  # there is no such tunnel


def test_weaves_heartbeat_of_the_article() -> None:
    """MTU 1410 on an underlay of 1450: the heartbeat's packet has 1460, so it misses by ten bytes."""
    assert heartbeat(1410) == 1460
    assert heartbeat(makers.WEAVE_MTU) == 1426
    assert heartbeat(makers.WEAVE_MTU, encrypted=True) == 1460


def test_an_encrypted_heartbeat_is_padded() -> None:
    """Weave's documentation: 84 to 87 bytes. The largest that fits is what the heartbeat's own size says."""
    assert {heartbeat(m, encrypted=True) - m for m in range(1300, 1400)} == {84, 85, 86, 87}
    for room in (1400, 1450, 1460, 1500, 9001):
        for encrypted in (False, True):
            fits = fitting_inner("weave", "vxlan", room, 4, "ipsec" if encrypted else "")
            assert fits is not None
            assert heartbeat(fits, encrypted) <= room < heartbeat(fits + 1, encrypted)


@pytest.mark.parametrize(
    ("kind", "options", "mtu"),
    [
        ("vxlan", {}, 1450),
        ("vxlan", {"family": 6}, 1430),
        ("vxlan", {"path_mtu": 1400}, 1350),  # the instances' size written there is taken off twice
        ("vxlan", {"global_physnet_mtu": 9000, "path_mtu": 9000}, 8950),
        ("vxlan", {"global_physnet_mtu": 1500, "path_mtu": 9000}, 1450),  # the smaller counts
        ("gre", {}, 1458),
        ("geneve", {}, 1450),
        ("geneve", {"header": 38}, 1442),  # OVN
        ("vlan", {"global_physnet_mtu": 9000, "physical_network_mtu": 1500}, 1500),
        ("flat", {"path_mtu": 1400}, 1500),  # path_mtu is for overlays alone
        ("local", {}, 1500),
        ("swamp", {}, None),
        ("vxlan", {"global_physnet_mtu": 0}, None),
    ],
)
def test_neutrons_rule(kind: str, options: dict[str, int], mtu: int | None) -> None:
    assert neutron_mtu(kind, **options) == mtu  # type: ignore[arg-type]
