"""Kinds of devices and facts that the kernel at hand may lack: bytes made by pyroute2, an encoder that is not ours."""

import socket
import struct
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from pathfit.core.snapshot import Link, WireguardPeer, XfrmTemplate
from pathfit.wire import genl, l2tp, ovs, rtnl_link, wireguard, xfrm
from pathfit.wire.netlink import Malformed, attribute, nested
from pathfit.wire.pattern import Field, Pattern

Facts = dict[str, Any]


def encoded(kind: str, data: list[list[Any]] | bytes, more: tuple[list[Any], ...] = ()) -> Link:
    """A link as pyroute2 writes it, as we read it."""
    info: list[list[Any]] = [["IFLA_INFO_KIND", kind]]
    message = ifinfmsg()
    message["index"] = 4
    if data and not isinstance(data, bytes):
        info.append(["IFLA_INFO_DATA", {"attrs": data}])
    message["attrs"] = [
        ["IFLA_IFNAME", "x0"],
        ["IFLA_MTU", 1400],
        *more,
        ["IFLA_LINKINFO", {"attrs": info}],
    ]
    message["header"]["type"] = 16
    message.encode()
    raw = bytes(message.data)
    if isinstance(data, bytes):  # kinds pyroute2 has no table for: its frame, our attributes
        raw = raw[: -((len(kind) + 1 + 4 + 3 & ~3) + 4)]
        raw += nested(18, [attribute(1, kind.encode() + b"\0"), nested(2, [data])])
    return rtnl_link.link(raw, 16, len(raw))  # type: ignore[return-value]


KINDS: dict[str, tuple[str, list[list[Any]] | bytes, Facts]] = {
    "vlan": ("vlan", [["IFLA_VLAN_ID", 7], ["IFLA_VLAN_PROTOCOL", 0x8100]], {"vlan_id": 7, "protocol": "802.1Q"}),
    "qinq": ("vlan", [["IFLA_VLAN_ID", 8], ["IFLA_VLAN_PROTOCOL", 0x88A8]], {"vlan_id": 8, "protocol": "802.1ad"}),
    "macvlan": ("macvlan", [["IFLA_MACVLAN_MODE", "bridge"]], {"mode": "bridge"}),
    "macvtap": ("macvtap", [["IFLA_MACVTAP_MODE", "private"]], {"mode": "private"}),
    "ipvlan": ("ipvlan", [["IFLA_IPVLAN_MODE", 2]], {"mode": "l3s", "private": False}),
    "geneve": (
        "geneve",
        [["IFLA_GENEVE_ID", 7], ["IFLA_GENEVE_REMOTE", "10.0.0.1"], ["IFLA_GENEVE_PORT", 6082], ["IFLA_GENEVE_DF", 1]],
        {"vni": 7, "remote": "10.0.0.1", "port": 6082, "df": 1},
    ),
    "geneve over IPv6": (
        "geneve",
        [["IFLA_GENEVE_ID", 7], ["IFLA_GENEVE_REMOTE6", "fd00::1"]],
        {"vni": 7, "remote": "fd00::1", "port": 6081},
    ),
    "gre": (
        "gre",
        [["IFLA_GRE_LOCAL", "10.0.0.1"], ["IFLA_GRE_REMOTE", "10.0.0.2"], ["IFLA_GRE_OFLAGS", 0x2000],
         ["IFLA_GRE_OKEY", 5], ["IFLA_GRE_PMTUDISC", 1]],
        {"local": "10.0.0.1", "remote": "10.0.0.2", "key": True, "okey": 5, "pmtudisc": True, "seq": False},
    ),
    "gretap": ("gretap", [["IFLA_GRE_REMOTE", "10.0.0.2"], ["IFLA_GRE_TTL", 9]], {"remote": "10.0.0.2", "ttl": 9}),
    "ip6gre": (
        "ip6gre",
        [["IFLA_IP6GRE_LOCAL", "fd00::1"], ["IFLA_IP6GRE_REMOTE", "fd00::2"], ["IFLA_IP6GRE_ENCAP_LIMIT", 4]],
        {"local": "fd00::1", "remote": "fd00::2", "encap_limit": 4},
    ),
    "ipip": (
        "ipip",
        [["IFLA_IPIP_LOCAL", "10.0.0.1"], ["IFLA_IPIP_REMOTE", "10.0.0.2"], ["IFLA_IPIP_PMTUDISC", 0]],
        {"local": "10.0.0.1", "remote": "10.0.0.2", "pmtudisc": False},
    ),
    "sit": ("sit", [["IFLA_SIT_LOCAL", "10.0.0.1"], ["IFLA_SIT_REMOTE", "10.0.0.2"]], {"remote": "10.0.0.2"}),
    "ip6tnl": (
        "ip6tnl",
        [["IFLA_IP6TNL_LOCAL", "fd00::1"], ["IFLA_IP6TNL_REMOTE", "fd00::2"], ["IFLA_IP6TNL_PROTO", 4]],
        {"local": "fd00::1", "remote": "fd00::2", "proto": 4},
    ),
    "bond": ("bond", [["IFLA_BOND_MODE", 4], ["IFLA_BOND_ACTIVE_SLAVE", 3]], {"mode": 4, "active": 3}),
    "vrf": ("vrf", [["IFLA_VRF_TABLE", 100]], {"table": 100}),
    "vti": ("vti", [["IFLA_VTI_LOCAL", "10.0.0.1"], ["IFLA_VTI_REMOTE", "10.0.0.2"]], {"local": "10.0.0.1"}),
    "xfrm": ("xfrm", [["IFLA_XFRM_LINK", 2], ["IFLA_XFRM_IF_ID", 42]], {"lower": 2, "if_id": 42}),
    "team": ("team", [], {}),
    "dummy": ("dummy", [], {}),
    "ifb": ("ifb", [], {}),
    "nlmon": ("nlmon", [], {}),
    "openvswitch": ("openvswitch", [], {}),
    "wireguard": ("wireguard", [], {}),
    "macsec": ("macsec", attribute(3, b"\x10") + attribute(9, b"\0"), {"icv": 16, "send_sci": False}),
    "netkit": (
        "netkit",
        attribute(2, b"\1") + attribute(3, struct.pack("=I", 2)) + attribute(5, struct.pack("=I", 1)),
        {"primary": True, "policy": "blackhole", "mode": "l3"},
    ),
    "bareudp": ("bareudp", attribute(1, b"\x17\xc1") + attribute(2, b"\x88\x47"), {"port": 6081, "ethertype": 0x8847}),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_link_of_every_kind(name: str) -> None:
    kind, data, expected = KINDS[name]
    link = encoded(kind, data)
    assert (link.kind, link.name, link.mtu, link.index) == (kind, "x0", 1400, 4)
    assert {k: link.info[k] for k in expected} == expected


def test_a_port_of_open_vswitch_has_a_master() -> None:
    link = encoded("vxlan", [["IFLA_VXLAN_ID", 0], ["IFLA_VXLAN_COLLECT_METADATA", 1]], (["IFLA_MASTER", 9],))
    assert link.master == 9
    assert link.vxlan is not None
    assert link.vxlan.collect_metadata


# --- WireGuard --------------------------------------------------------------------------------------------------------


def wg(peers: list[dict[str, Any]]) -> bytes:
    message = wgmsg()
    message["cmd"] = 0
    message["version"] = 1
    message["attrs"] = [
        ["WGDEVICE_A_IFINDEX", 4],
        ["WGDEVICE_A_PRIVATE_KEY", b64encode(b"S" * 32)],
        ["WGDEVICE_A_PUBLIC_KEY", b64encode(b"P" * 32)],
        ["WGDEVICE_A_LISTEN_PORT", 51820],
        ["WGDEVICE_A_FWMARK", 0xCA6C],
        ["WGDEVICE_A_PEERS", [{"attrs": [[k, v] for k, v in peer.items()]} for peer in peers]],
    ]
    message["header"]["type"] = 30
    message.encode()
    return bytes(message.data)


def allowed(family: int, address: str, mask: int) -> dict[str, Any]:
    raw = socket.inet_pton(family, address)
    facts = [["WGALLOWEDIP_A_FAMILY", family], ["WGALLOWEDIP_A_IPADDR", raw], ["WGALLOWEDIP_A_CIDR_MASK", mask]]
    return {"attrs": facts}


def test_wireguard_peers() -> None:
    raw = wg([
        {
            "WGPEER_A_PUBLIC_KEY": b64encode(b"A" * 32),
            "WGPEER_A_PRESHARED_KEY": b64encode(b"S" * 32),
            "WGPEER_A_ENDPOINT": {"family": socket.AF_INET, "port": 51821, "addr": "198.51.100.7", "__pad": ()},
            "WGPEER_A_ALLOWEDIPS": [allowed(socket.AF_INET, "10.1.0.0", 16), allowed(socket.AF_INET6, "fd00::", 8)],
        },
        {"WGPEER_A_PUBLIC_KEY": b64encode(b"B" * 32)},
    ])  # fmt: skip
    found = wireguard.device(raw, 16, len(raw))
    assert (found.port, found.mark, found.public_key) == (51820, 0xCA6C, b64encode(b"P" * 32).decode())
    first, second = found.peers
    assert (first.endpoint, first.port, first.allowed) == ("198.51.100.7", 51821, ("10.1.0.0/16", "fd00::/8"))
    assert (second.endpoint, second.port, second.allowed) == (None, 0, ())
    secret = b64encode(b"S" * 32).decode()
    assert secret not in repr(found)
    assert "SSSS" not in repr(found)


def test_a_peer_that_goes_on_in_the_next_message() -> None:
    key = b64encode(b"A" * 32)
    parts = []
    for address in ("10.1.0.0", "10.2.0.0"):
        raw = wg([{"WGPEER_A_PUBLIC_KEY": key, "WGPEER_A_ALLOWEDIPS": [allowed(socket.AF_INET, address, 16)]}])
        parts.append(wireguard.device(raw, 16, len(raw)))
    joined = wireguard.joined(parts)
    assert joined is not None
    assert joined.peers == (WireguardPeer(public_key=key.decode(), allowed=("10.1.0.0/16", "10.2.0.0/16")),)


# --- IPsec and Open vSwitch: structs as uapi/linux/xfrm.h and openvswitch.h lay them out ------------------------------


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text).ljust(16, b"\0")


def selector(src: str = "0.0.0.0", slen: int = 0, dst: str = "0.0.0.0", dlen: int = 0, dport: int = 0) -> bytes:
    mask = 0xFFFF if dport else 0
    family = socket.AF_INET6 if ":" in dst else socket.AF_INET
    ports = struct.pack(">HHHH", dport, mask, 0, 0)
    return address(dst) + address(src) + ports + struct.pack("=HBBBxxxiI", family, dlen, slen, 6, 0, 0)


def association(family: int, mode: int, *parts: bytes, flags: int = 0) -> bytes:
    src, dst = ("fd00::1", "fd00::2") if family == socket.AF_INET6 else ("198.18.0.1", "198.18.0.2")
    identity = address(dst) + struct.pack(">I", 0x11) + b"\x32\0\0\0"
    tail = struct.pack("=IIHBBBxxxxxxx", 0, 5, family, mode, 32, flags)
    return selector() + identity + address(src) + bytes(64 + 32 + 12) + tail + b"".join(parts)


def algorithm(kind: int, name: str, key: bytes, icv: int | None = None) -> bytes:
    head = name.encode().ljust(64, b"\0") + struct.pack("=I", len(key) * 8)
    return attribute(kind, head + (struct.pack("=I", icv) if icv is not None else b"") + key)


KEY = b"KEEP-THIS-SECRET-KEEP"
STATES: dict[str, tuple[bytes, Facts]] = {
    "AES-GCM in tunnel mode": (
        association(socket.AF_INET, 1, algorithm(18, "rfc4106(gcm(aes))", KEY, 128)),
        {"family": 4, "src": "198.18.0.1", "dst": "198.18.0.2", "mode": "tunnel", "cipher": "rfc4106(gcm(aes))",
         "auth": "", "icv_bits": 128, "spi": 0x11, "protocol": "esp", "reqid": 5, "encap": "", "any_family": False,
         "pmtudisc": True},
    ),
    "for both families, outer DF never set": (
        association(socket.AF_INET, 1, flags=4 | 32), {"any_family": True, "pmtudisc": False}),
    "IPv4 in IPv6, by its selector": (association(socket.AF_INET6, 1), {"family": 6, "inner": 4, "any_family": False}),
    "AES-CBC with SHA-256, transport, IPv6": (
        association(socket.AF_INET6, 0, algorithm(2, "cbc(aes)", KEY), algorithm(20, "hmac(sha256)", KEY, 128)),
        {"family": 6, "src": "fd00::1", "mode": "transport", "cipher": "cbc(aes)", "auth": "hmac(sha256)",
         "icv_bits": 128},
    ),
    "behind NAT": (
        association(socket.AF_INET, 1, attribute(4, struct.pack("=H", 2) + struct.pack(">HH", 4500, 4501) + bytes(18)),
                    attribute(31, struct.pack("=I", 42))),
        {"encap": "udp", "encap_sport": 4500, "encap_dport": 4501, "if_id": 42},
    ),
}  # fmt: skip


def test_sessions_of_l2tp_and_the_tunnels_they_are_in() -> None:
    """As include/uapi/linux/l2tp.h lays them out."""
    ends = attribute(24, address("198.18.9.1")[:4]) + attribute(25, address("198.18.9.2")[:4])
    ports = attribute(26, struct.pack("=H", 5000)) + attribute(27, struct.pack("=H", 5001))
    raw = bytes(4) + attribute(9, struct.pack("=I", 3)) + attribute(2, struct.pack("=H", 0)) + ends + ports
    info = {"encap": "udp", "local": "198.18.9.1", "remote": "198.18.9.2", "sport": 5000, "dport": 5001}
    assert l2tp.tunnel(raw, 0, len(raw)) == (3, info)
    ends = attribute(31, address("fd00::1")) + attribute(32, address("fd00::2"))
    raw = bytes(4) + attribute(9, struct.pack("=I", 4)) + attribute(2, struct.pack("=H", 1)) + ends
    assert l2tp.tunnel(raw, 0, len(raw)) == (4, {"encap": "ip", "local": "fd00::1", "remote": "fd00::2"})
    numbers = [attribute(kind, struct.pack("=I", n)) for kind, n in ((9, 3), (11, 7), (12, 8))]
    raw = bytes(4) + b"".join(numbers) + attribute(8, b"wire0\0") + attribute(15, bytes(range(8)))
    assert l2tp.session(raw, 0, len(raw)) == ("wire0", 3, {"okey": 8, "ikey": 7, "cookie": 8})


@pytest.mark.parametrize("name", STATES)
def test_ipsec_states_without_their_keys(name: str) -> None:
    raw, expected = STATES[name]
    found = xfrm.state(raw, 0, len(raw))
    assert found is not None
    assert {k: getattr(found, k) for k in expected} == expected
    assert "SECRET" not in repr(found)


def test_ipsec_policies() -> None:
    template = address("198.18.0.2") + bytes(4) + b"\x32\0\0\0" + struct.pack("=HH", 2, 0) + address("198.18.0.1")
    template += struct.pack("=IBBBxIII", 5, 1, 0, 0, 1, 1, 1)
    raw = selector("10.0.0.0", 24, "10.1.0.0", 16, 80) + bytes(96) + struct.pack("=IIBBBBxxxx", 7, 1, 1, 0, 0, 0)
    raw += attribute(5, template)
    found = xfrm.policy(raw, 0, len(raw))
    assert found is not None
    assert (found.direction, found.src, found.src_prefix, found.dst, found.dst_prefix, found.dport, found.priority) == (
        "out", "10.0.0.0", 24, "10.1.0.0", 16, 80, 7,
    )  # fmt: skip
    assert found.templates == (XfrmTemplate(src="198.18.0.1", dst="198.18.0.2", mode="tunnel", reqid=5),)


def test_ports_of_open_vswitch() -> None:
    body = b"\3\1\0\0" + struct.pack("=i", 7) + attribute(1, struct.pack("=I", 3)) + attribute(2, struct.pack("=I", 4))
    body += attribute(3, b"vxlan_sys_4789\0") + nested(4, [attribute(1, struct.pack("=H", 4789))])
    assert ovs.vport(body, 0, len(body)) == ovs.Vport("vxlan_sys_4789", 3, "vxlan", 4789)


@pytest.mark.parametrize("decode", [wireguard.device, xfrm.state, xfrm.policy, xfrm.counted, ovs.vport, genl.family])
@settings(deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_decoded_or_refused(decode: Any, data: bytes) -> None:
    with suppress(Malformed):
        decode(data, 0, len(data))


# --- shapes remembered ------------------------------------------------------------------------------------------------

HEAD = struct.Struct("=BxHi")
WANTED = (Field((1,)), Field((2,), "I"), Field((9, 3)), Field((9, 4), "H"))


def made(*values: Any) -> tuple[Any, ...]:
    return values


numbers = st.builds(attribute, st.sampled_from([2, 0x4002]), st.binary(min_size=4, max_size=4))
inners = st.builds(attribute, st.sampled_from([3, 5]), st.binary(max_size=5)) | st.builds(
    attribute, st.just(4), st.binary(min_size=2, max_size=2)
)
parts = st.builds(attribute, st.sampled_from([1, 7]), st.binary(max_size=9)) | numbers
parts = parts | st.builds(nested, st.just(9), st.lists(inners, max_size=3))


@settings(deadline=None)
@given(messages=st.lists(st.tuples(st.integers(0, 3), st.lists(parts, max_size=4)), min_size=1, max_size=30))
def test_a_remembered_shape_says_what_a_walk_says(messages: list[tuple[int, list[bytes]]]) -> None:
    """Whatever came before: each message gives what a decoder that never saw another one gives."""
    remembering = Pattern(HEAD, WANTED, made)
    for _ in range(3):
        for number, attributes in messages:
            raw = HEAD.pack(number, 5, -number) + b"".join(attributes)
            assert remembering(raw, 0, len(raw)) == Pattern(HEAD, WANTED, made)(raw, 0, len(raw))


def test_a_number_of_the_wrong_size_is_refused() -> None:
    raw = HEAD.pack(1, 2, 3) + attribute(2, b"abc")
    with pytest.raises(Malformed, match="number"):
        Pattern(HEAD, WANTED, made)(raw, 0, len(raw))
