"""RTM_NEWLINK to :class:`~pathfit.core.snapshot.Link` (net/core/rtnetlink.c rtnl_fill_ifinfo).

A link's IFLA_LINK is the other half of a veth or the device below (vlan, macvlan, vxlan, tunnels). With
IFLA_LINK_NETNSID it is an index in *another* namespace, by the number this namespace has for it. For tunnels the
other namespace is where the outer packets are routed (Docker makes its overlay's vxlan in the host's namespace and
moves it), also when no lower device was named.
"""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from msgspec.structs import replace

from pathfit.core.snapshot import BridgePort, Link, Vxlan
from pathfit.wire.addresses import mac
from pathfit.wire.netlink import (
    Malformed,
    be16,
    chosen,
    every,
    fixed,
    inner,
    ip_text,
    text,
    u8,
    u16,
    u32,
)
from pathfit.wire.pattern import Field, Pattern

_IFINFO = Struct("=BxHiII")

IFF_UP, IFF_LOOPBACK, IFF_POINTOPOINT, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x8, 0x10, 0x80, 0x10000

_RARE = IFF_LOOPBACK | IFF_POINTOPOINT | IFF_NOARP
_LINKINFO, _AF_SPEC, _XDP = 18, 26, 43

Facts = dict[str, str | int | bool]

# include/uapi/linux/ip.h IPV4_DEVCONF_* (the array starts at 1), ipv6.h DEVCONF_*: /proc/sys names by index
_DEVCONF4 = {1: "forwarding", 3: "proxy_arp", 8: "rp_filter", 23: "accept_local", 24: "src_valid_mark"}
_DEVCONF6 = {0: "forwarding", 2: "mtu", 26: "disable_ipv6"}
_INET_CONF, _INET6_CONF = 1, 2  # IFLA_INET_CONF, IFLA_INET6_CONF
AF_INET, AF_INET6 = 2, 10


class Read(NamedTuple):
    """A link with what the dump says beside it: per-device sysctls ("ipv4.conf.eth0.rp_filter")."""

    link: Link
    sysctls: dict[str, str]


_WANTED = (
    Field((3,)),  # IFLA_IFNAME
    Field((4,), "I"),  # IFLA_MTU
    Field((1,)),  # IFLA_ADDRESS
    Field((5,), "I"),  # IFLA_LINK
    Field((37,), "i"),  # IFLA_LINK_NETNSID
    Field((10,), "I"),  # IFLA_MASTER
    Field((6,)),  # IFLA_QDISC
    Field((27,), "I"),  # IFLA_GROUP
    Field((_LINKINFO, 1)),  # IFLA_INFO_KIND
    Field((_LINKINFO, 2)),  # IFLA_INFO_DATA
    Field((_LINKINFO, 4)),  # IFLA_INFO_SLAVE_KIND
    # IFLA_INFO_SLAVE_DATA: IFLA_BRPORT_STATE, _MODE, _LEARNING, _UNICAST_FLOOD, _ISOLATED
    *(Field((_LINKINFO, 5, n)) for n in (1, 4, 8, 9, 33)),
)
_WANTED_FULL = (
    *_WANTED,
    Field((41,), "I"),  # IFLA_GSO_MAX_SIZE
    Field((_XDP, 2), "B"),  # IFLA_XDP_ATTACHED
    Field((_AF_SPEC, AF_INET, _INET_CONF)),
    Field((_AF_SPEC, AF_INET6, _INET6_CONF)),
)


def _link(
    _family: int,
    arphrd: int,
    index: int,
    flags: int,
    _change: int,
    name: bytes | None,
    mtu: int | None,
    address: bytes | None,
    lower: int | None,
    nsid: int | None,
    master: int | None,
    qdisc: bytes | None,
    group: int | None,
    kind: bytes | None,
    data: bytes | None,
    slave: bytes | None,
    *port: bytes | None,
    gso_max_size: int | None = None,
    xdp: int | None = None,
) -> Link:
    about = _about(kind or b"", data or b"")
    vxlan = about.vxlan
    # At most fifteen keywords in one call: more take the way over a dict (compile.c STACK_USE_GUIDELINE), five times
    # as long. Most links have nothing but these.
    made = Link(
        index=index,
        name=text(name or b""),
        mtu=mtu or 0,
        kind=about.kind,
        mac=mac(address or b""),
        up=flags & IFF_UP != 0,
        carrier=flags & IFF_LOWER_UP != 0,
        arphrd=arphrd,
        # IFLA_LINK of a vxlan is the device itself when there is no lower one
        peer=(lower or 0) if vxlan is None else vxlan.lower,
        peer_nsid=nsid,
        master=master or 0,
        bridge_port=_port(*port) if slave == b"bridge\0" else None,
        info=about.info,
        qdisc=_word(qdisc or b""),
        gso_max_size=gso_max_size,
    )
    if flags & _RARE or about.rare or group or xdp:
        return replace(
            made,
            loopback=flags & IFF_LOOPBACK != 0,
            arp=flags & IFF_NOARP == 0,
            pointopoint=flags & IFF_POINTOPOINT != 0,
            vlan_filtering=about.filtering,
            nf_call_iptables=about.nf_call,
            vxlan=vxlan,
            group=group or 0,
            xdp=bool(xdp),
        )
    return made


def _read(*fields: Any) -> Read:
    *most, gso_max_size, xdp, conf4, conf6 = fields
    made = _link(*most, gso_max_size=gso_max_size, xdp=xdp)
    return Read(made, _device_sysctls(made.name, conf4 or b"", conf6 or b""))


link: Pattern[Link] = Pattern(_IFINFO, _WANTED, _link)
"""The facts a light read needs: all but features, offload sizes and XDP. Raises Malformed."""

read: Pattern[Read] = Pattern(_IFINFO, _WANTED_FULL, _read)
"""Everything the dump says. Raises Malformed."""

_word = lru_cache(maxsize=256)(text)


class _About(NamedTuple):
    """What IFLA_LINKINFO says of the device itself. ``rare``: it is a bridge or a vxlan."""

    kind: str
    info: Facts
    vxlan: Vxlan | None
    filtering: bool
    nf_call: bool
    rare: bool


@lru_cache(maxsize=1024)
def _about(name: bytes, data: bytes) -> _About:
    kind = text(name)
    facts = inner(data)
    decode = KINDS.get(kind)
    bridge = kind == "bridge"
    return _About(
        kind,
        decode(facts) if decode else {},
        _vxlan(facts) if kind == "vxlan" else None,
        bridge and bool(u8(facts, _BR_VLAN_FILTERING)),
        bridge and bool(u8(facts, _BR_NF_CALL_IPTABLES)),
        bridge or kind == "vxlan",
    )


@lru_cache(maxsize=1024)
def _device_sysctls(name: str, conf4: bytes, conf6: bytes) -> dict[str, str]:
    """The device's /proc/sys/net/ipv{4,6}/conf values, which the link dump carries anyway (IFLA_AF_SPEC)."""
    found: dict[str, str] = {}
    for values, names, label, shift in ((conf4, _DEVCONF4, "ipv4", 1), (conf6, _DEVCONF6, "ipv6", 0)):
        for number, word in names.items():
            if (at := (number - shift) * 4) + 4 <= len(values):
                found[f"{label}.conf.{name}.{word}"] = str(_I32(values, at)[0])
    return found


_I32 = Struct("=i").unpack_from

# --- vxlan (IFLA_VXLAN_*) ------------------------------------------------------------------------------------------

_VX_ID, _VX_GROUP, _VX_LINK, _VX_LOCAL, _VX_TTL, _VX_LEARNING, _VX_PORT = 1, 2, 3, 4, 5, 7, 15
_VX_GROUP6, _VX_LOCAL6, _VX_UDP_CSUM, _VX_GBP, _VX_METADATA, _VX_GPE, _VX_DF = 16, 17, 18, 23, 25, 27, 29


def _vxlan(facts: dict[int, bytes]) -> Vxlan:
    return Vxlan(
        vni=u32(facts, _VX_ID),
        local=_address(facts, _VX_LOCAL, _VX_LOCAL6),
        remote=_address(facts, _VX_GROUP, _VX_GROUP6),
        lower=u32(facts, _VX_LINK),
        port=be16(facts, _VX_PORT, 8472),  # drivers/net/vxlan vxlan_port
        ttl=u8(facts, _VX_TTL),
        df=u8(facts, _VX_DF),
        learning=bool(u8(facts, _VX_LEARNING, 1)),
        collect_metadata=bool(u8(facts, _VX_METADATA)),
        udp_csum=bool(u8(facts, _VX_UDP_CSUM, 1)),
        gbp=_VX_GBP in facts,
        gpe=_VX_GPE in facts,
    )


def _address(facts: dict[int, bytes], v4: int, v6: int) -> str | None:
    for kind in (v4, v6):
        if (raw := facts.get(kind)) and any(raw):
            return ip_text(raw)
    return None


# --- bridge and its ports (IFLA_BR_*, IFLA_BRPORT_*) ---------------------------------------------------------------

_BR_VLAN_FILTERING, _BR_NF_CALL_IPTABLES, _BR_NF_CALL_IP6TABLES, _BR_DEFAULT_PVID = 7, 36, 37, 39
_BR_STP, _BR_GROUP_FWD = 5, 9


@lru_cache(maxsize=64)
def _port(
    state: bytes | None, mode: bytes | None, learning: bytes | None, flood: bytes | None, isolated: bytes | None
) -> BridgePort:
    """Each one byte, or none where this kernel does not say it."""
    return BridgePort(
        state=state[0] if state else 3,
        hairpin=any(mode or b""),
        learning=any(learning or b"\1"),
        flood=any(flood or b"\1"),
        isolated=any(isolated or b""),
    )


_VLAN_PVID, _VLAN_BEGIN, _VLAN_END = 2, 8, 16  # BRIDGE_VLAN_INFO_*


class Vlans(NamedTuple):
    """VLANs of one bridge port (or of the bridge itself): its index, the untagged one, all of them."""

    link: int
    pvid: int | None
    vids: tuple[int, ...]


def vlans(data: bytes, at: int, end: int) -> Vlans:
    """An answer to ``rtnl.links(AF_BRIDGE, FILTER_BRVLAN_COMPRESSED)``. Raises Malformed."""
    index = fixed(_IFINFO, data, at, end)[2]
    spec = chosen(data, at + 16, end, frozenset((_AF_SPEC,))).get(_AF_SPEC, b"")
    vids: list[int] = []
    pvid, begin = None, 0
    for kind, value in every(spec, 0, len(spec)):
        if kind != 2:  # IFLA_BRIDGE_VLAN_INFO
            continue
        if len(value) < 4:
            raise Malformed("bridge_vlan_info is too short")
        flags, vid = _HH(value)
        if flags & _VLAN_PVID:
            pvid = vid
        if flags & _VLAN_BEGIN:
            begin = vid
        elif flags & _VLAN_END and 0 < begin <= vid <= 4095:
            vids.extend(range(begin, vid + 1))
        else:
            vids.append(vid)
    return Vlans(index, pvid, tuple(vids))


_HH = Struct("=HH").unpack_from


def _bridge(facts: dict[int, bytes]) -> Facts:
    return {
        "default_pvid": u16(facts, _BR_DEFAULT_PVID, 1),
        "nf_call_ip6tables": bool(u8(facts, _BR_NF_CALL_IP6TABLES)),
        "stp": bool(u32(facts, _BR_STP)),
    }


# --- other kinds: their facts by name -------------------------------------------------------------------------------

_MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_IPVLAN_MODES = {0: "l2", 1: "l3", 2: "l3s"}


def _vlan(facts: dict[int, bytes]) -> Facts:
    return {
        "vlan_id": u16(facts, 1),
        "protocol": {0x8100: "802.1Q", 0x88A8: "802.1ad"}.get(be16(facts, 5, 0x8100), "?"),
    }


def _macvlan(facts: dict[int, bytes]) -> Facts:
    mode = u32(facts, 1)
    return {"mode": _MACVLAN_MODES.get(mode, str(mode))}


def _ipvlan(facts: dict[int, bytes]) -> Facts:
    mode, flags = u16(facts, 1), u16(facts, 2)
    return {"mode": _IPVLAN_MODES.get(mode, str(mode)), "private": bool(flags & 1), "vepa": bool(flags & 2)}


def _vrf(facts: dict[int, bytes]) -> Facts:
    return {"table": u32(facts, 1)}


def _bond(facts: dict[int, bytes]) -> Facts:
    return {"mode": u8(facts, 1), "active": u32(facts, 2)}


def _tun(facts: dict[int, bytes]) -> Facts:
    kind = u8(facts, 3)
    return {"type": {1: "tun", 2: "tap"}.get(kind, str(kind)), "persist": bool(u8(facts, 6))}


def _xfrm(facts: dict[int, bytes]) -> Facts:
    return {"lower": u32(facts, 1), "if_id": u32(facts, 2)}


def _geneve(facts: dict[int, bytes]) -> Facts:
    return {
        "vni": u32(facts, 1),
        **_ends(None, _address(facts, 2, 7)),
        "ttl": u8(facts, 3),
        "port": be16(facts, 5, 6081),
        "collect_metadata": 6 in facts,
        "udp_csum": bool(u8(facts, 8)),
        "df": u8(facts, 13),
    }


def _ends(local: str | None, remote: str | None) -> Facts:
    found: Facts = {}
    if local:
        found["local"] = local
    if remote:
        found["remote"] = remote
    return found


def _iptun(facts: dict[int, bytes]) -> Facts:
    """ipip, sit, ip6tnl (IFLA_IPTUN_*)."""
    return {
        **_ends(_address(facts, 2, 2), _address(facts, 3, 3)),
        "lower": u32(facts, 1),
        "ttl": u8(facts, 4),
        "proto": u8(facts, 9),
        "pmtudisc": bool(u8(facts, 10, 1)),
        "encap_limit": _encap_limit(facts, 6, 8),
        "encap_type": u16(facts, 15),
        "encap_dport": be16(facts, 18),
        "collect_metadata": 19 in facts,
    }


def _gre(facts: dict[int, bytes]) -> Facts:
    """gre, gretap, ip6gre, ip6gretap, erspan (IFLA_GRE_*). ``key``, ``seq``, ``csum``: words in the header sent."""
    out = be16(facts, 3)
    return {
        **_ends(_address(facts, 6, 6), _address(facts, 7, 7)),
        "lower": u32(facts, 1),
        "ttl": u8(facts, 8),
        "pmtudisc": bool(u8(facts, 10, 1)),
        "encap_limit": _encap_limit(facts, 11, 13),
        **_keys(facts),
        "key": bool(out & 0x2000),
        "seq": bool(out & 0x1000),
        "csum": bool(out & 0x8000),
        "encap_type": u16(facts, 14),
        "encap_dport": be16(facts, 17),
        "erspan_ver": u8(facts, 22),
        "collect_metadata": 18 in facts,
        "ignore_df": bool(u8(facts, 19)),
    }


_KEYED = 0x2000  # GRE_KEY
_NO_ENCAP_LIMIT = 1  # IP6_TNL_F_IGN_ENCAP_LIMIT


def _keys(facts: dict[int, bytes]) -> Facts:
    """Keys that are sent and expected, where there are."""
    pairs = (("okey", 3, 5), ("ikey", 2, 4))
    return {
        name: int.from_bytes(facts.get(at, b"")[:4], "big") for name, flag, at in pairs if be16(facts, flag) & _KEYED
    }


def _encap_limit(facts: dict[int, bytes], value: int, flags: int) -> str | int:
    """The tunnel encapsulation limit of IPv6 tunnels; "none": no destination options header is sent."""
    raw = facts.get(flags, b"")  # SIT and IPIP use this attribute for something else, of two bytes
    return "none" if len(raw) == 4 and u32(facts, flags) & _NO_ENCAP_LIMIT else u8(facts, value)


def _macsec(facts: dict[int, bytes]) -> Facts:
    """IFLA_MACSEC_*. ``icv`` bytes of the check value; ``send_sci``: the SecTAG has the 8 bytes of the SCI."""
    return {"icv": u8(facts, 3, 16), "send_sci": bool(u8(facts, 9, 1)), "protect": bool(u8(facts, 8, 1))}


_NETKIT_MODES = {0: "l2", 1: "l3"}
_NETKIT_POLICIES = {0: "forward", 2: "blackhole"}  # NETKIT_PASS, NETKIT_DROP: what becomes of packets without BPF


def _netkit(facts: dict[int, bytes]) -> Facts:
    policy = u32(facts, 3)
    return {
        "mode": _NETKIT_MODES.get(u32(facts, 5, 1), "?"),
        "primary": bool(u8(facts, 2)),
        "policy": _NETKIT_POLICIES.get(policy, str(policy)),
    }


def _bareudp(facts: dict[int, bytes]) -> Facts:
    return {"port": be16(facts, 1), "ethertype": be16(facts, 2)}


def _vti(facts: dict[int, bytes]) -> Facts:
    return {**_ends(_address(facts, 4, 4), _address(facts, 5, 5)), "lower": u32(facts, 1)}


KINDS: dict[str, Callable[[dict[int, bytes]], Facts]] = {
    "bridge": _bridge,
    "bond": _bond,
    "erspan": _gre,
    "ip6erspan": _gre,
    "geneve": _geneve,
    "gre": _gre,
    "gretap": _gre,
    "ip6gre": _gre,
    "ip6gretap": _gre,
    "ip6tnl": _iptun,
    "ipip": _iptun,
    "ipvlan": _ipvlan,
    "macsec": _macsec,
    "macvlan": _macvlan,
    "macvtap": _macvlan,
    "netkit": _netkit,
    "bareudp": _bareudp,
    "sit": _iptun,
    "tun": _tun,
    "vlan": _vlan,
    "vrf": _vrf,
    "vti": _vti,
    "vti6": _vti,
    "xfrm": _xfrm,
}
