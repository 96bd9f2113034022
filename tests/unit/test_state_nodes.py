"""What nodes' files and devices say together: the fault, and the healthy node that looks the same."""

from typing import Any

import pytest
from msgspec.structs import replace
from nodehosts import DUAL, TWO, backend_mtu, flannel, guest, moved, node, plugged, veth_mtu, vswitch, weave
from test_scan import of

from pathfit.core.engine import Engine, EngineNetwork
from pathfit.core.node import Overlay
from pathfit.core.snapshot import FdbEntry, HostSnapshot, PmtuException, Wireguard, WireguardPeer
from pathfit.words import render as words

WAYS = "n route 10.8.0.0/16 via 198.18.2.9"


def said(host: HostSnapshot, code: str) -> list[dict[str, Any]]:
    return said_of((host,), code)


def said_of(hosts: tuple[HostSnapshot, ...], code: str) -> list[dict[str, Any]]:
    found = [f for f in of(*hosts).findings if f.code == code]
    for f in found:
        assert all(words.summary(f, lang, strict=True) for lang in ("en", "zh"))
        assert all(words.evidence(e, lang, strict=True) for e in f.evidence for lang in ("en", "zh"))
    return [{**f.facts, "severity": f.severity, "confidence": f.confidence} for f in found]


def partly(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    return len(found) == len(wanted) and all(w.items() <= f.items() for f, w in zip(found, wanted, strict=True))


# --- CFG604 -----------------------------------------------------------------------------------------------------------


def peers(host: HostSnapshot, *endpoints: str) -> HostSnapshot:
    """The same host, its WireGuard device with peers at ``endpoints``."""
    space = host.namespaces[0]
    told = Wireguard(peers=tuple(WireguardPeer(public_key="x=", endpoint=e) for e in endpoints))
    links = tuple(replace(x, wireguard=told, info={}) if x.kind == "wireguard" else x for x in space.links)
    return replace(host, namespaces=(replace(space, links=links),))


def vtep(remote: str) -> HostSnapshot:
    """flannel's VXLAN without a lower device; a forwarding entry leads to ``remote``."""
    text = TWO.format(1500, 1400, 1, "flannel.1 vxlan 1450 id=1 local=198.18.1.2")
    host = node(text, overlays=(flannel("vxlan", 1450, detected=1500, uplink="eth0"),))
    space = host.namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    entry = FdbEntry(link=device.index, mac="02:00:00:00:0f:01", remote=remote, own=True, state="permanent")
    return replace(host, namespaces=(replace(space, fdb=(entry,)),))


def cilium(address: str, granted: int | None = 1450) -> HostSnapshot:
    """Cilium found eth0; its agent tells the VXLAN device where to send, and the kubelet has ``address``."""
    text = TWO.format(1500, 1450, 1, "cilium_vxlan vxlan 1500 id=2")
    overlay = Overlay(
        maker="cilium", backend="vxlan", granted=granted, detected=1500, deducted=50, devices=("cilium_vxlan",), outer=4
    )
    return node(text, overlays=(overlay,), address=address)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        pytest.param(
            vswitch("198.18.2.9"),
            [{"maker": "flannel", "looked_at": "eth0", "detected": 1500, "leaves": "n/eth1", "leaves_mtu": 1400,
              "given": 1420, "fits": 1340, "severity": "warning", "confidence": "likely", "case": "named"}],
            id="the peers are on the VLAN",
        ),
        pytest.param(vswitch("198.18.1.9"), [], id="the peers are where it looked"),
        pytest.param(vswitch("198.18.2.9", (1500, 9000)), [], id="the other device is larger"),
        pytest.param(vswitch("198.18.2.9", granted=1340), [], id="what it gives fits all the same"),
        pytest.param(vswitch("198.18.2.9", mtu=1400, meaning="underlay"), [], id="it was told"),
        pytest.param(vswitch("198.18.2.9", detected=None), [], id="what it found is not known"),
        pytest.param(peers(vswitch("203.0.113.1"), "198.18.2.9", "198.18.2.8"), [{"leaves": "n/eth1"}], id="by peers"),
        pytest.param(peers(vswitch("203.0.113.1"), "198.18.2.9", "198.18.1.8"), [], id="peers on both: no one device"),
        pytest.param(peers(vswitch("203.0.113.1")), [], id="no peer is known"),
        pytest.param(vswitch("198.18.2.9", uplink=""), [{"case": "unnamed", "looked_at": None}], id="name not known"),
        pytest.param(vtep("198.18.2.9"), [{"fits": 1350, "given": 1450}], id="by forwarding entries"),
        pytest.param(vtep("198.18.1.9"), [], id="forwarding entries lead where it looked"),
        pytest.param(vtep("0.0.0.0"), [], id="a senseless end"),
        pytest.param(
            cilium("198.18.2.2"), [{"leaves": "n/eth1", "fits": 1400, "given": 1450, "confidence": "possible",
                                    "case": "address"}],
            id="the node's address is on the smaller device",
        ),
        pytest.param(cilium("198.18.1.2"), [], id="the node's address is where it looked"),
        pytest.param(cilium("198.18.2.2", granted=1400), [], id="sized by the smaller device"),
        pytest.param(cilium("198.18.2.2", granted=None), [], id="what containers get is not known"),
        pytest.param(cilium(""), [], id="the node's address is not known"),
        pytest.param(cilium("203.0.113.9"), [], id="the node's address is not here"),
    ],
)  # fmt: skip
def test_wrong_interface(host: HostSnapshot, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, "CFG604"), wanted)


# --- MTU104 -----------------------------------------------------------------------------------------------------------

UNTOLD = {"uplink": "", "told": False}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        pytest.param(
            moved("ovn-kubernetes", "geneve", 1450),
            [{"maker": "ovn-kubernetes", "given": 1450, "limit": 1442, "overhead": 58, "confidence": "likely"}],
            id="OVN",
        ),
        pytest.param(moved("ovn-kubernetes", "geneve", 1442), [], id="OVN, to the byte"),
        pytest.param(moved("ovn-kubernetes", "geneve", 1400), [], id="OVN as installed"),
        pytest.param(moved("ovn-kubernetes", "geneve", 1442, outer=6), [{"limit": 1422}], id="OVN over IPv6"),
        pytest.param(moved("antrea", "gre", 1462), [{"limit": 1458}], id="an old Antrea's GRE"),
        pytest.param(moved("antrea", "geneve", 1450), [], id="Antrea"),
        pytest.param(moved("antrea", "geneve", 1412, encryption="ipsec"), [], id="Antrea with ESP"),
        pytest.param(moved("antrea", "geneve", 1450, encryption="ipsec"), [{"limit": 1416}], id="ESP not taken off"),
        pytest.param(moved("antrea", "geneve", 8950, nic=9000), [], id="jumbo"),
        pytest.param(moved("antrea", "host-gw", 1500), [], id="no encapsulation"),
        pytest.param(
            moved("antrea", "geneve", 1500, **UNTOLD), [{"confidence": "possible"}], id="by the default route"
        ),
        pytest.param(moved("antrea", "geneve", 1500, address="198.18.2.2", **UNTOLD),
                     [{"confidence": "likely", "nic": "n/eth1"}], id="by the kubelet's address"),
        pytest.param(moved("weave", "udp", 65535), [], id="sleeve cuts packets itself"),
        pytest.param(moved("weave", "vxlan", 1410, nic=1450), [], id="of Weave OVL306 speaks"),
        pytest.param(moved("ovn-kubernetes", "none", 1500), [], id="OVN with one node"),
    ],
)  # fmt: skip
def test_too_little(host: HostSnapshot, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, "MTU104"), wanted)


# --- CFG605 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "data", "management", "wanted"),
    [
        (1500, 1450, 1500, [{"severity": "info", "confidence": "possible", "small": "n/eth0", "large": "n/eth1"}]),
        (9000, 1500, 9000, [{"severity": "warning", "confidence": "likely", "own": 9000, "small_mtu": 1500}]),
        (1450, 1450, 1500, []),  # sized by the one it leaves by
        (1500, 1500, 1450, []),  # the smaller one is not on the way
        (1500, 1450, 9000, []),  # sized by neither
        (1500, 1450, 1450, []),  # MTU103, but both devices agree
    ],
)
def test_dual_nic(own: int, data: int, management: int, wanted: list[dict[str, Any]]) -> None:
    host = node(DUAL.format(own=own, data=data, management=management))
    assert partly(said(host, "CFG605"), wanted)


def test_it_explains_what_fails() -> None:
    report = of(node(DUAL.format(own=9000, data=1500, management=9000)))
    (promise,) = [f for f in report.findings if f.code == "MTU103"]
    assert "CFG605" in promise.because


# --- CFG606 -----------------------------------------------------------------------------------------------------------


def docker(option: int | None, tunnel: int, nic: int = 1500, encrypted: bool = False) -> HostSnapshot:
    """A swarm overlay: its hidden namespace has the VXLAN device."""
    text = (
        TWO.format(nic, nic, 1, "d0 dummy 1500") + f"hid vx0 vxlan {tunnel} id=4097 local=198.18.1.2 remote=198.18.1.3"
    )
    host = node(text)
    ids = {x.where: x.id for x in host.namespaces}
    network = EngineNetwork(
        id="o", name="app", driver="overlay", mtu=option, netns=ids["netns:hid"], encrypted=encrypted
    )
    return replace(host, engines=(Engine(kind="docker", socket="/s", netns=ids["netns:n"], networks=(network,)),))


def above(written: int, nic: int, remote: str, **more: Any) -> HostSnapshot:
    """flannel's Backend.MTU as somebody wrote it; eth0 has 1500, eth1 ``nic``, its far end is at ``remote``."""
    given = more.pop("granted", written - 50)
    text = TWO.format(1500, nic, 1, f"flannel.1 vxlan {given} id=1 local=198.18.1.2 remote={remote}")
    told = {"mtu": written, "meaning": "underlay", "option": "Backend.MTU"}
    return node(text, overlays=(flannel("vxlan", given, **told),))


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        pytest.param(
            backend_mtu(1450),
            [{"who": "flannel", "option": "Backend.MTU", "written": 1450, "nic": "n/eth0", "nic_mtu": 1500,
              "given": 1400, "overhead": 50, "case": "twice", "severity": "info", "confidence": "possible"}],
            id="the containers' size in an option that means the network",
        ),
        pytest.param(backend_mtu(1500), [], id="the network's size in it"),
        pytest.param(backend_mtu(1400), [], id="smaller than the device on purpose"),
        pytest.param(backend_mtu(1450, granted=1450), [], id="not taken off twice"),
        pytest.param(backend_mtu(1450, granted=None, devices=()), [], id="what containers get is not known"),
        pytest.param(
            veth_mtu(1500), [{"who": "calico", "written": 1500, "fits": 1450, "overhead": 50, "case": "whole",
                              "severity": "warning", "confidence": "likely"}],
            id="the network's size in an option that means the containers",
        ),
        pytest.param(veth_mtu(1450), [], id="sized right"),
        pytest.param(veth_mtu(1500, backend="none"), [], id="nothing to take off"),
        pytest.param(veth_mtu(1500, pods=1450), [], id="written, but not in force"),
        pytest.param(veth_mtu(8950, nic=9000), [], id="jumbo, sized right"),
        pytest.param(
            above(1500, 1450, "198.18.2.9"),
            [{"case": "above", "who": "flannel", "written": 1500, "nic": "n/eth1", "nic_mtu": 1450, "given": 1450,
              "fits": 1400, "severity": "warning", "confidence": "likely"}],
            id="larger than the device that leads to every far end",
        ),
        pytest.param(above(1500, 1450, "198.18.1.9"), [], id="the smaller device is not on the way"),
        pytest.param(above(1450, 1450, "198.18.2.9"), [], id="as large as the device"),
        pytest.param(above(9000, 1450, "198.18.2.9", granted=1400), [], id="what containers got fits all the same"),
        pytest.param(docker(1450, 1400), [{"who": "app", "given": 1400, "case": "twice"}], id="docker overlay"),
        pytest.param(docker(1424, 1348, encrypted=True), [{"who": "app", "overhead": 76}], id="encrypted"),
        pytest.param(docker(1500, 1450), [], id="docker overlay, the network's size"),
        pytest.param(docker(None, 1450), [], id="docker overlay, nothing written"),
        pytest.param(docker(1450, 1400, nic=1450), [], id="docker overlay on a small network"),
    ],
)  # fmt: skip
def test_option_is_underlay(host: HostSnapshot, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, "CFG606"), wanted)


# --- OVL306 -----------------------------------------------------------------------------------------------------------


def remembering(host: HostSnapshot, dst: str, mtu: int) -> HostSnapshot:
    space = host.namespaces[0]
    return replace(host, namespaces=(replace(space, exceptions=(PmtuException(family=4, dst=dst, mtu=mtu),)),))


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        pytest.param(
            weave(1450, 1410, "sleeve"),
            [{"case": "small", "heartbeat": 1460, "room": 1450, "short": 10, "place": "n/eth0", "overlay": 1410,
              "severity": "warning", "confidence": "likely"}],
            id="the article's: MTU 1410 on 1450",
        ),
        pytest.param(weave(1450, 1376, "fastdp"), [], id="fast"),
        pytest.param(weave(1450, 1410, "fastdp"), [], id="fast, whatever we think of it"),
        pytest.param(
            weave(1500, 1376, "sleeve"), [{"case": "beyond", "short": None, "confidence": "possible"}], id="lost beyond"
        ),
        pytest.param(weave(1450, 1376, "sleeve", encrypted=True), [{"heartbeat": 1460, "short": 10}], id="with ESP"),
        pytest.param(weave(1460, 1376, "sleeve", encrypted=True), [{"case": "beyond"}], id="with ESP, large enough"),
        pytest.param(remembering(weave(1500, 1410, "sleeve"), "198.18.9.2", 1450), [{"room": 1450, "short": 10}],
                     id="a path MTU is remembered"),
        pytest.param(remembering(weave(1500, 1410, "sleeve"), "198.18.9.9", 1450), [{"case": "beyond"}],
                     id="but towards somebody else"),
        pytest.param(weave(1450, 1410, "sleeve", "sleeve", "fastdp"), [{"count": 2, "short": 10}],
                     id="one for all peers"),
        pytest.param(weave(1450, 1410, "sleeve", facts={"no_fastdp": True}), [], id="told not to be fast"),
        pytest.param(weave(1450, 1410, "sleeve", facts={"fastdp": False}), [], id="it cannot be fast"),
        pytest.param(weave(1450, 1410, "sleeve", backend="udp"), [], id="there is no datapath"),
        pytest.param(weave(1450, 1410, ""), [], id="not connected"),
    ],
)  # fmt: skip
def test_slow_path(host: HostSnapshot, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, "OVL306"), wanted)


# --- MTU113 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        pytest.param(
            guest(1500, ("metadata", 1450)),
            [{"case": "cloud", "own": 1500, "told": 1450, "device": "n/eth0", "severity": "warning",
              "confidence": "likely"}], id="metadata",
        ),
        pytest.param(guest(1500, ("dhclient", 1450)), [{"case": "lease", "confidence": "possible"}], id="a lease"),
        pytest.param(guest(1450, ("metadata", 1450)), [], id="as told"),
        pytest.param(guest(1400, ("metadata", 1450)), [], id="smaller than told"),
        pytest.param(guest(1500, ("metadata", None)), [], id="told nothing"),
        pytest.param(guest(1500, ("metadata", 1500), ("dhclient", 1400)), [], id="the metadata count before a lease"),
        pytest.param(guest(1500, ("metadata", None), ("dhclient", 1400)), [{"told": 1400}], id="only the lease says"),
        pytest.param(guest(1500, ("metadata", 1450), link="ens9"), [], id="another device"),
        pytest.param(guest(9001, ("networkd", 9001)), [], id="jumbo, as told"),
    ],
)  # fmt: skip
def test_guest(host: HostSnapshot, wanted: list[dict[str, Any]]) -> None:
    assert partly(said(host, "MTU113"), wanted)


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        pytest.param(
            plugged(1500, 1450), [{"case": "port", "own": 1500, "told": 1450, "severity": "warning"}], id="less"
        ),
        pytest.param(
            plugged(1500, 1450, learned=False), [{"case": "port", "port": "kvm: k/tap0"}], id="by libvirt's mac"
        ),
        pytest.param(plugged(1450, 1450), [], id="the same"),
        pytest.param(plugged(1450, 1500), [], id="the port takes more"),
        pytest.param(plugged(1500, 1450, twin=True), [], id="two machines have that address"),
        pytest.param(plugged(1500, 1450)[:1], [], id="the host is not seen"),
        pytest.param(plugged(1500, 1450)[1:], [], id="the guest is not seen"),
    ],
)
def test_port(hosts: tuple[HostSnapshot, ...], wanted: list[dict[str, Any]]) -> None:
    assert partly(said_of(hosts, "MTU113"), wanted)


def test_a_guest_is_known_by_its_address() -> None:
    """A bond and a VLAN on it have the address of the device below: that one was meant."""
    from pathfit.core.node import InstanceNetwork

    host = guest(1500)
    space = host.namespaces[0]
    eth0 = next(x for x in space.links if x.name == "eth0")
    bond = replace(eth0, index=9, name="bond0", kind="bond", mtu=1500)
    told = InstanceNetwork(source="metadata", file="/run/x", mac=eth0.mac, mtu=1450)
    facts = replace(host.nodes[0], instance=(told,))
    host = replace(host, namespaces=(replace(space, links=(*space.links, bond)),), nodes=(facts,))
    assert partly(said(host, "MTU113"), [{"device": "n/eth0"}])


def test_a_node_that_was_not_read_says_nothing() -> None:
    host = vswitch("198.18.2.9")
    gone = replace(host, nodes=(replace(host.nodes[0], netns="4:99"),))
    assert [f.code for f in of(gone).findings if f.code.startswith(("CFG60", "OVL306", "MTU113"))] == []
