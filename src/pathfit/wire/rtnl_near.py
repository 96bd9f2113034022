"""RTM_NEWADDR and RTM_NEWNEIGH to values: addresses, neighbours (ARP, NDP), forwarding entries of bridges and vxlan.

net/ipv4/devinet.c inet_fill_ifaddr, net/core/neighbour.c neigh_fill_info, net/bridge/br_fdb.c fdb_fill_info,
drivers/net/vxlan/vxlan_core.c vxlan_fdb_info.
"""

from struct import Struct

from pathfit.core.snapshot import Address, FdbEntry, Neighbour
from pathfit.wire.addresses import AF_BRIDGE, AF_INET, AF_INET6, mac
from pathfit.wire.netlink import ip_text
from pathfit.wire.pattern import Field, Pattern

_IFADDR = Struct("=4BI")
_NDMSG = Struct("=BxxxiHBB")

IFA_F_TENTATIVE = 0x40

_NTF_SELF, _NTF_PROXY = 0x2, 0x8

_STATES = {
    0x00: "none", 0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay",
    0x10: "probe", 0x20: "failed", 0x40: "noarp", 0x80: "permanent",
}  # fmt: skip


def _address(
    family: int,
    prefix: int,
    old_flags: int,
    scope: int,
    index: int,
    other: bytes | None,
    own: bytes | None,
    flags: int | None,
) -> Address | None:
    local = other if own is None else own
    if local is None or family not in (AF_INET, AF_INET6):
        return None
    if flags is None:
        flags = old_flags
    return Address(
        link=index,
        address=ip_text(local),
        prefix=prefix,
        scope=scope,
        peer=ip_text(other) if other is not None and other != local else None,
        flags=flags,
        tentative=bool(flags & IFA_F_TENTATIVE),
    )


address: Pattern[Address] = Pattern(
    _IFADDR,
    (Field((1,)), Field((2,)), Field((8,), "I")),
    _address,  # IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS
)
"""One RTM_NEWADDR; None when it holds no address of IPv4 or IPv6. Raises Malformed."""


def _neighbour(
    family: int, index: int, state: int, flags: int, _type: int, dst: bytes | None, lladdr: bytes | None
) -> Neighbour | None:
    if family not in (AF_INET, AF_INET6) or dst is None:
        return None
    return Neighbour(
        link=index,
        address=ip_text(dst),
        mac=mac(lladdr) if lladdr is not None else None,
        state=_STATES.get(state, str(state)),
        proxy=bool(flags & _NTF_PROXY),
    )


neighbour: Pattern[Neighbour] = Pattern(_NDMSG, (Field((1,)), Field((2,))), _neighbour)  # NDA_DST, NDA_LLADDR
"""One RTM_NEWNEIGH of IPv4 or IPv6, None for others. Raises Malformed."""


def _fdb(
    family: int,
    index: int,
    state: int,
    flags: int,
    _type: int,
    dst: bytes | None,
    lladdr: bytes | None,
    vlan: int | None,
    port: bytes | None,
    vni: int | None,
) -> FdbEntry | None:
    """A bridge calls NUD_NOARP "static": set by hand, may be refreshed by traffic on another port never."""
    if family != AF_BRIDGE or lladdr is None:
        return None
    word = "permanent" if state & 0x80 else "static" if state & 0x40 else _STATES.get(state, str(state))
    return FdbEntry(
        link=index,
        mac=mac(lladdr),
        remote=ip_text(dst) if dst and any(dst) else None,
        remote_port=int.from_bytes(port, "big") if port else 0,
        remote_vni=vni,
        vlan=vlan,
        state=word,
        own=bool(flags & _NTF_SELF),
    )


fdb: Pattern[FdbEntry] = Pattern(
    _NDMSG,
    # NDA_DST, NDA_LLADDR, NDA_VLAN, NDA_PORT, NDA_VNI
    (Field((1,)), Field((2,)), Field((5,), "H"), Field((6,)), Field((7,), "I")),
    _fdb,
)
"""One RTM_NEWNEIGH of AF_BRIDGE, None for others. Raises Malformed."""
