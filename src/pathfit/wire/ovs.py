"""Ports of Open vSwitch by generic netlink (include/uapi/linux/openvswitch.h): what the datapath calls its tunnels.

Its flows are not read: which packet takes which port stands in the switch's own tables.
"""

from struct import Struct
from typing import NamedTuple

from pathfit.wire import genl
from pathfit.wire.netlink import attributes, fixed, inner, text, u16, u32

FAMILY = "ovs_vport"
_GET = 3
_HEAD = Struct("=BBHi")  # struct genlmsghdr, struct ovs_header: ifindex of the datapath
_PORT_NO, _TYPE, _NAME, _OPTIONS = 1, 2, 3, 4
_DST_PORT = 1  # OVS_TUNNEL_ATTR_DST_PORT, in the machine's order
_TYPES = {1: "netdev", 2: "internal", 3: "gre", 4: "vxlan", 5: "geneve"}


class Vport(NamedTuple):
    """A port of a datapath; ``port``: UDP port of a tunnel, 0 otherwise."""

    name: str
    number: int
    kind: str
    port: int


def request(family: int, datapath: int) -> bytes:
    """All ports of one datapath, by the ifindex of its own device ("ovs-system")."""
    return genl.command(family, _GET, Struct("=i").pack(datapath))


def vport(data: bytes, at: int, end: int) -> Vport:
    """One answer to :func:`request`. Raises Malformed."""
    fixed(_HEAD, data, at, end)
    found = attributes(data, at + _HEAD.size, end)
    kind = u32(found, _TYPE)
    return Vport(
        name=text(found.get(_NAME, b"")),
        number=u32(found, _PORT_NO),
        kind=_TYPES.get(kind, str(kind)),
        port=u16(inner(found.get(_OPTIONS, b"")), _DST_PORT),
    )
