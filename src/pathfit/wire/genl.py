"""Generic netlink (include/uapi/linux/genetlink.h): a command byte in front, families found by name.

The family list is asked for as a *dump*: asking for one name that is not there makes the kernel load a module
(net/netlink/genetlink.c ctrl_getfamily), and reading must not do that.
"""

from struct import Struct
from typing import NamedTuple

from pathfit.wire.netlink import Malformed, attributes, fixed, request, text, u16

CONTROL = 16  # GENL_ID_CTRL
_GETFAMILY = 3
_FAMILY_ID, _FAMILY_NAME = 1, 2
HEAD = Struct("=BBH")
HEADER = HEAD.size


class FamilyId(NamedTuple):
    """A generic netlink family of the running kernel."""

    name: str
    id: int


def command(family: int, number: int, body: bytes = b"", version: int = 1) -> bytes:
    """A dump request to a family. ``NetlinkSocket.ask`` takes the dump flag away."""
    return request(family, HEAD.pack(number, version, 0) + body)


def families() -> bytes:
    """All families the kernel has now."""
    return command(CONTROL, _GETFAMILY)


def family(data: bytes, at: int, end: int) -> FamilyId:
    """One answer to :func:`families`. Raises Malformed."""
    fixed(HEAD, data, at, end)
    found = attributes(data, at + HEADER, end)
    if _FAMILY_ID not in found or _FAMILY_NAME not in found:
        raise Malformed("a generic netlink family without id or name")
    return FamilyId(text(found[_FAMILY_NAME]), u16(found, _FAMILY_ID))
