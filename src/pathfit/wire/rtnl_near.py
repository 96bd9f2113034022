"""RTM_NEWADDR and RTM_NEWNEIGH to values: addresses, neighbours (ARP, NDP), forwarding entries of bridges and vxlan.

net/ipv4/devinet.c inet_fill_ifaddr, net/core/neighbour.c neigh_fill_info, net/bridge/br_fdb.c fdb_fill_info,
drivers/net/vxlan/vxlan_core.c vxlan_fdb_info.
"""

from struct import Struct

from pathfit.core.snapshot import Address, FdbEntry, Neighbour
from pathfit.wire.addresses import AF_BRIDGE, AF_INET, AF_INET6, ip, mac
from pathfit.wire.netlink import Malformed, be16, chosen, fixed, u16, u32

_IFADDR = Struct("=4BI")
_NDMSG = Struct("=BxxxiHBB")

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_ADDRESS_WANTED = frozenset((_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS))
IFA_F_TENTATIVE = 0x40

_NDA_DST, _NDA_LLADDR, _NDA_VLAN, _NDA_PORT, _NDA_VNI = 1, 2, 5, 6, 7
_NEIGH_WANTED = frozenset((_NDA_DST, _NDA_LLADDR, _NDA_VLAN, _NDA_PORT, _NDA_VNI))
_NTF_SELF, _NTF_PROXY = 0x2, 0x8

_STATES = {
    0x00: "none", 0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay",
    0x10: "probe", 0x20: "failed", 0x40: "noarp", 0x80: "permanent",
}  # fmt: skip


def address(data: bytes, at: int, end: int) -> Address | None:
    """One RTM_NEWADDR; None when it holds no address of IPv4 or IPv6. Raises Malformed."""
    family, prefix, flags, scope, index = fixed(_IFADDR, data, at, end)
    found = chosen(data, at + 8, end, _ADDRESS_WANTED)
    other = found.get(_IFA_ADDRESS)
    local = found.get(_IFA_LOCAL, other)
    if local is None or family not in (AF_INET, AF_INET6):
        return None
    flags = u32(found, _IFA_FLAGS, flags)
    return Address(
        link=index,
        address=_ip(local),
        prefix=prefix,
        scope=scope,
        peer=_ip(other) if other is not None and other != local else None,
        flags=flags,
        tentative=bool(flags & IFA_F_TENTATIVE),
    )


def neighbour(data: bytes, at: int, end: int) -> Neighbour | None:
    """One RTM_NEWNEIGH of IPv4 or IPv6, None for others. Raises Malformed."""
    family, index, state, flags, _ = fixed(_NDMSG, data, at, end)
    found = chosen(data, at + 12, end, _NEIGH_WANTED)
    if family not in (AF_INET, AF_INET6) or _NDA_DST not in found:
        return None
    return Neighbour(
        link=index,
        address=_ip(found[_NDA_DST]),
        mac=mac(found[_NDA_LLADDR]) if _NDA_LLADDR in found else None,
        state=_STATES.get(state, str(state)),
        proxy=bool(flags & _NTF_PROXY),
    )


def fdb(data: bytes, at: int, end: int) -> FdbEntry | None:
    """One RTM_NEWNEIGH of AF_BRIDGE, None for others. Raises Malformed.

    A bridge calls NUD_NOARP "static": set by hand, may be refreshed by traffic on another port never.
    """
    family, index, state, flags, _ = fixed(_NDMSG, data, at, end)
    found = chosen(data, at + 12, end, _NEIGH_WANTED)
    if family != AF_BRIDGE or _NDA_LLADDR not in found:
        return None
    word = "permanent" if state & 0x80 else "static" if state & 0x40 else _STATES.get(state, str(state))
    return FdbEntry(
        link=index,
        mac=mac(found[_NDA_LLADDR]),
        remote=_ip(found[_NDA_DST]) if any(found.get(_NDA_DST, b"")) else None,
        remote_port=be16(found, _NDA_PORT),
        remote_vni=u32(found, _NDA_VNI) if _NDA_VNI in found else None,
        vlan=u16(found, _NDA_VLAN) if _NDA_VLAN in found else None,
        state=word,
        own=bool(flags & _NTF_SELF),
    )


def _ip(raw: bytes) -> str:
    try:
        return ip(raw)
    except ValueError as e:
        raise Malformed(str(e)) from None
