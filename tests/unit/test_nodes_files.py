"""Files below a node's root: nothing outside is ever read; small formats; DHCP leases; a cloud's word."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from nodetree import node, tree

from pathfit.core.node import InstanceNetwork
from pathfit.observe.nodes import files, instance, leases, place, read
from pathfit.wire import dhcp

# --- below the root ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "asked", "found"),
    [
        ({"etc/a": "1"}, "/etc/a", "1"),
        ({"etc/a": "-> b", "etc/b": "2"}, "/etc/a", "2"),
        ({"etc/a": "-> /run/b", "run/b": "3"}, "/etc/a", "3"),  # absolute: from the node's root, not from ours
        ({"var/run": "-> ../run", "run/b": "4"}, "/var/run/b", "4"),
        (
            {"var/run": "-> /run", "run/x": "-> ../../../run/b", "run/b": "5"},
            "/var/run/x",
            "5",
        ),  # ".." ends at the root
        ({"etc/a": "-> ../../../../../../../outside"}, "/etc/a", None),
        ({"etc/a": "-> /../../outside"}, "/etc/a", None),
        ({"etc/a": "-> a"}, "/etc/a", None),
        ({"a": "-> b", "b": "-> a"}, "/a", None),
        ({"etc/a": "1"}, "/etc/../../outside", None),
        ({"etc/a": "1"}, "/etc", None),
        ({"etc/a": "1"}, "/etc/a/b", None),
        ({"etc/a": "1"}, "/etc/a\0b", None),
    ],
)
def test_a_root_is_not_left(tmp_path: Path, made: dict[str, str | bytes], asked: str, found: str | None) -> None:
    (tmp_path / "outside").write_text("secret")
    root = tree(tmp_path / "deep" / "root", made)
    assert root.text(asked) == found
    assert files.Root(None).text(f"{tmp_path}/outside") == "secret"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": "x"})
    os.mkfifo(tmp_path / "pipe")  # nobody writes: opening it would wait for ever
    (tmp_path / "null").symlink_to("/dev/null")
    assert (root.text("/pipe"), root.text("/null")) == (None, None)


def test_reading_and_listing_are_bounded(tmp_path: Path) -> None:
    root = tree(tmp_path, {"big": "x" * (files.LIMIT + 9), **{f"many/{n:04}": "" for n in range(files.MANY + 9)}})
    assert len(root.data("/big") or b"") == files.LIMIT
    assert len(root.names("/many")) == files.MANY
    assert root.names("/big") == root.names("/none") == []


class Refusing(files.Root):
    """A root whose owner lets us read nothing."""

    def read(self, path: str, limit: int = files.LIMIT) -> bytes:
        raise PermissionError(13, "Permission denied", path)


def test_a_refusal_is_remembered(tmp_path: Path) -> None:
    root = Refusing(str(tmp_path))
    assert root.text("/etc/a") is None
    assert root.refused == ["/etc/a"]
    ns = node(tmp_path, {}, "eth0 1500").ns
    assert read(place.Node(root, ns)).missing == ()  # no maker was seen: nothing of interest was refused
    weaver = place.Agent("weaver", root)
    assert [(m.code, m.how) for m in read(place.Node(root, ns, (weaver,))).missing] == [
        ("permission", "run as root (sudo pathfit …)")
    ]


@pytest.mark.parametrize(
    ("value", "mtu"),
    [(1450, 1450), ("1450", 1450), (" 1450\n", 1450), (68, 68), (65535, 65535), (0, None), (67, None), (65536, None),
     (True, None), ("0x5dc", None), ("١٤٥٠", None), ("1" * 5000, None), (1450.0, None), (None, None), ([1450], None)],
)  # fmt: skip
def test_an_mtu_is_a_number_that_can_be_one(value: object, mtu: int | None) -> None:
    assert files.mtu(value) == mtu


def test_environment_keeps_no_secret() -> None:
    said = place.environment("WEAVE_MTU=1410\0WEAVE_PASSWORD=hunter2\0AWS_SECRET=x\0=\0WEAVE_NO_FASTDP\0")
    assert said == {"WEAVE_MTU": "1410", "WEAVE_PASSWORD": "set"}


@pytest.mark.parametrize(
    ("argv", "address"),
    [
        ("kubelet --v=2 --node-ip=198.18.0.2", "198.18.0.2"),
        ("k3s server --node-ip 198.18.0.2,2001:db8::2", "198.18.0.2"),
        ("kubelet --node-ip=::", ""),  # "choose one of IPv6"
        ("kubelet --node-ip=junk", ""),
        ("kubelet", ""),
    ],
)
def test_a_kubelets_address(argv: str, address: str) -> None:
    assert place.node_ip(tuple(argv.split())) == address


# --- DHCP option 26 ---------------------------------------------------------------------------------------------------

LEASE = 'lease {{\n  interface "{}";\n  fixed-address 198.18.0.9;\n{}  renew 4 2026/11/26 10:00:00;\n}}\n'
OPTION = "  option interface-mtu {};\n"
NETWORKD = "# This is private data. Do not parse.\nADDRESS=198.18.0.9\nNETMASK=255.255.255.0\n"


def message(*options: bytes, cookie: bytes = dhcp.COOKIE) -> bytes:
    head = struct.pack("!BBBB", 2, 1, 6, 0).ljust(28, b"\0") + bytes.fromhex("fa163e000001")
    return head.ljust(236, b"\0") + cookie + b"".join(options) + b"\xff"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        pytest.param(
            {"var/lib/dhcp/dhclient.eth0.leases": LEASE.format("eth0", OPTION.format(1500))
             + LEASE.format("eth0", OPTION.format(1450))},
            [("dhclient", "eth0", 1450)], id="dhclient: the last one counts",
        ),
        pytest.param(
            {"var/lib/dhclient/dhclient--eth1.lease": LEASE.format("eth1", "")}, [("dhclient", "eth1", None)],
            id="dhclient: nothing was said",
        ),
        pytest.param(
            {"var/lib/dhcp/dhclient.leases": 'lease {\n interface "' + "x" * 40 + '";\n}\n' + "lease {" * 40_000},
            [], id="dhclient: hostile",
        ),
        pytest.param(
            {"run/systemd/netif/leases/2": NETWORKD + "MTU=1442\n"}, [("networkd", "eth1", 1442)], id="networkd"
        ),
        pytest.param(
            {"run/systemd/netif/leases/2": NETWORKD + "MTU=12\n"}, [("networkd", "eth1", None)], id="senseless"
        ),
        pytest.param({"run/systemd/netif/leases/9": NETWORKD}, [("networkd", "", None)], id="networkd: device gone"),
        pytest.param({"run/systemd/netif/leases/x": NETWORKD}, [],
                     id="networkd: no number"),
        pytest.param(
            {"var/lib/NetworkManager/internal-6c5e9a8e-3b5c-4f0e-9f0a-2f6f8f4f0c11-eth0.lease": NETWORKD + "MTU=1400\n",
             "var/lib/NetworkManager/dhclient-6c5e9a8e-3b5c-4f0e-9f0a-2f6f8f4f0c11-eth1.lease":
                 LEASE.format("eth1", OPTION.format(1360)),
             "var/lib/NetworkManager/secret_key": "x"},
            [("NetworkManager", "eth1", 1360), ("NetworkManager", "eth0", 1400)], id="NetworkManager, both clients",
        ),
        pytest.param(
            {"var/lib/dhcpcd/eth0.lease": message(b"\x35\x01\x05", b"\0\0", b"\x1a\x02\x05\xaa")},
            [("dhcpcd", "eth0", 1450)], id="dhcpcd",
        ),
        pytest.param(
            {"var/lib/dhcpcd/eth0.lease": message(b"\x35\x01\x05")}, [("dhcpcd", "eth0", None)], id="without 26"
        ),
        pytest.param(
            {"var/lib/dhcpcd/eth0.lease": message(b"\x35\x01\x05", b"\x1a\xf0\x05")}, [("dhcpcd", "eth0", None)],
            id="dhcpcd: cut off",
        ),
        pytest.param({"var/lib/dhcpcd/eth0.lease": message(cookie=b"abcd")}, [], id="dhcpcd: no message"),
        pytest.param({"var/lib/dhcpcd/eth0.lease": b"\xff" * 60}, [], id="dhcpcd: short"),
    ],
)  # fmt: skip
def test_leases(tmp_path: Path, made: dict[str, str | bytes], said: list[tuple[str, str, int | None]]) -> None:
    found = leases.read(node(tmp_path, made, "eth0 1500", "eth1 1450"))
    assert [(x.source, x.link, x.mtu) for x in found] == said


NOW = 1_795_687_200.0  # 2026-11-26 10:00:00 UTC


@pytest.mark.parametrize(
    ("ends", "holds"),
    [
        ("expire 4 2026/11/26 10:00:01;", True),
        ("expire 4 2026/11/26 09:59:59;", False),
        ("expire epoch 1795687201; # Thu Nov 26 10:00:01 2026", True),
        ("expire epoch 1795687199;", False),
        ("expire never;", True),
        ("", True),
        ("expire 4 2026/02/31 00:00:00;", False),
        ("expire 4 9999/99/99 99:99:99;", False),
    ],
)
def test_a_lease_that_is_over_says_nothing(tmp_path: Path, ends: str, holds: bool) -> None:
    made: dict[str, str | bytes] = {"var/lib/dhcp/dhclient.leases": LEASE.format("eth0", f"  {ends}\n")}
    assert bool(leases.read(node(tmp_path, made, "eth0 1500", now=NOW))) is holds


@pytest.mark.parametrize(("lasts", "holds"), [(60, False), (3600, True), (0xFFFFFFFF, True)])
def test_a_message_holds_for_its_lease_time(tmp_path: Path, lasts: int, holds: bool) -> None:
    here = node(tmp_path, {"var/lib/dhcpcd/eth0.lease": message(b"\x33\x04" + lasts.to_bytes(4, "big"))}, "eth0 1500")
    os.utime(tmp_path / "node/var/lib/dhcpcd/eth0.lease", (NOW - 600, NOW - 600))
    assert bool(leases.read(here._replace(now=NOW))) is holds


@pytest.mark.parametrize(
    ("options", "mtu"),
    [(b"\x1a\x02\x05\xdc", 1500), (b"\x1a\x02\x00\x43", None), (b"\x1a\x01\x05\x1a\x01\xdc", 1500),  # RFC 3396
     (b"\x1a\x04\0\0\x05\xdc", None), (b"", None), (b"\xff\x1a\x02\x05\xdc", None)],
)  # fmt: skip
def test_option_26(options: bytes, mtu: int | None) -> None:
    assert dhcp.interface_mtu(message(options)) == mtu


# --- a cloud's word ---------------------------------------------------------------------------------------------------

MAC = "fa:16:3e:99:59:c6"


def data(*links: Any) -> dict[str, Any]:
    return {"links": list(links), "networks": [{"link": "tap68f096f7-81", "type": "ipv4_dhcp"}], "services": []}


def one(mtu: object, **more: Any) -> dict[str, Any]:
    return {"ethernet_mac_address": MAC, "id": "tap68f096f7-81", "type": "ovs", "mtu": mtu, "vif_id": "6", **more}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        pytest.param(
            {"media/configdrive/openstack/latest/network_data.json": data(one(1450))},
            [InstanceNetwork(source="metadata", file="/media/configdrive/openstack/latest/network_data.json", mac=MAC,
                             mtu=1450, kind="ovs")], id="config drive",
        ),
        pytest.param(
            {"run/cloud-init/instance-data.json": {
                "ds": {"network_json": data(one(None, ethernet_mac_address=MAC.upper()))}, "v1": {"platform": "x"}}},
            [InstanceNetwork(source="metadata", file=instance.INSTANCE, mac=MAC, kind="ovs")], id="null: not known",
        ),
        pytest.param(
            {"run/cloud-init/network-config.json": {"version": 1, "config": [
                {"type": "physical", "name": "ens3", "mac_address": MAC, "mtu": 1442}, {"type": "nameserver"}]}},
            [InstanceNetwork(source="cloud-init", file=instance.APPLIED, link="ens3", mac=MAC, mtu=1442)],
            id="version 1",
        ),
        pytest.param(
            {"run/cloud-init/network-config.json": {"version": 2, "ethernets": {
                "id0": {"match": {"macaddress": MAC}, "mtu": 1400}, "eth1": {"dhcp4": True}}}},
            [InstanceNetwork(source="cloud-init", file=instance.APPLIED, mac=MAC, mtu=1400),
             InstanceNetwork(source="cloud-init", file=instance.APPLIED, link="eth1")], id="version 2",
        ),
        pytest.param(
            {"run/cloud-init/instance-data.json": {"ds": {"network_json": {"links": [one(-1), {}, 7, one("x" * 99)]},
                                                          "networkdata": "x"}},
             "run/cloud-init/network-config.json": {"config": {"a": 1}, "ethernets": {"e": 5}}},
            [InstanceNetwork(source="metadata", file=instance.INSTANCE, mac=MAC, kind="ovs"),
             InstanceNetwork(source="metadata", file=instance.INSTANCE, mac=MAC, kind="ovs"),
             InstanceNetwork(source="cloud-init", file=instance.APPLIED, link="e")], id="senseless values",
        ),
        pytest.param({"run/cloud-init/instance-data.json": [1]}, [], id="not an object"),
    ],
)  # fmt: skip
def test_what_a_cloud_said(tmp_path: Path, made: dict[str, Any], said: list[InstanceNetwork]) -> None:
    texts: dict[str, str | bytes] = {name: json.dumps(value) for name, value in made.items()}
    assert list(instance.read(node(tmp_path, texts, "ens3 1500"))) == said


def test_a_node_says_both(tmp_path: Path) -> None:
    said = read(node(tmp_path, {"run/systemd/netif/leases/1": NETWORKD + "MTU=1400\n"}, "eth0 1400"))
    assert [(x.link, x.mtu) for x in said.instance] == [("eth0", 1400)]
    assert said.overlays == ()
