"""Offload features and drivers of the links of the namespace the thread stands in.

One generic netlink dump per namespace (5.7 and later); the family's number and the names of the bits are asked for
once. Older kernels answer a few ioctls per link instead. Neither needs privileges.
"""

import array
import fcntl
import socket
import struct
from collections.abc import Mapping

from pathfit.core.snapshot import Link
from pathfit.host.nlsocket import NETLINK_GENERIC, NetlinkSocket
from pathfit.observe.apart import Families
from pathfit.wire import ethtool

SIOCETHTOOL = 0x8946
_GDRVINFO = 0x3
_DRVINFO = 196  # sizeof(struct ethtool_drvinfo): cmd, then driver[32] ...
# struct ethtool_value commands of old (include/uapi/linux/ethtool.h)
_OLD = {"rx-checksum": 0x14, "tx-checksum": 0x16, "tso": 0x1E, "ufo": 0x21, "gso": 0x23, "gro": 0x2B}
_GFLAGS, _FLAG_LRO = 0x25, 1 << 15


class Features:
    """One for a whole run: what it learns about the kernel it keeps."""

    def __init__(self) -> None:
        self.families = Families()
        self.ipsec: bool | None = None  # whether NETLINK_XFRM is there, once somebody looked
        self._family: int | None = None  # 0: this kernel has no ethtool netlink
        self._masks: Mapping[str, int] = {}
        self._known: dict[int, dict[str, bool]] = {}
        self._request = b""

    def read(self) -> dict[int, dict[str, bool]]:
        """Features by ifindex. Raises OSError, netlink.Malformed."""
        with NetlinkSocket(NETLINK_GENERIC) as sock:
            if self._family is None:
                self._learn(sock)
            if not self._family:
                return _by_ioctl()
            found = sock.dump(self._request, ethtool.features)
        return {one.link: self._words(one.bits) for one in found}

    def _words(self, bits: int) -> dict[str, bool]:
        """Most links have the same."""
        words = self._known.get(bits)
        if words is None:
            words = self._known[bits] = ethtool.words(bits, self._masks)
        return words

    def _learn(self, sock: NetlinkSocket) -> None:
        family = self.families.find(sock, ethtool.FAMILY)
        if family:
            self._masks = ethtool.masks(sock.ask(ethtool.names_request(family), ethtool.names) or {})
            self._request = ethtool.features_request(family)
        self._family = family

    def driver(self, link: Link) -> str | None:
        """The driver of a physical device; a virtual one's kind says it already (None)."""
        if link.kind or link.loopback:
            return None
        answer = bytearray(_DRVINFO)
        struct.pack_into("=I", answer, 0, _GDRVINFO)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            raw = _ethtool(sock, link.name, bytes(answer))
        return raw[4:36].split(b"\0")[0].decode("utf-8", "backslashreplace") or None if raw else None


def _by_ioctl() -> dict[int, dict[str, bool]]:
    found: dict[int, dict[str, bool]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for index, name in socket.if_nameindex():
            words: dict[str, bool] = {}
            for word, command in _OLD.items():
                if raw := _ethtool(sock, name, struct.pack("=II", command, 0)):
                    words[word] = bool(struct.unpack_from("=I", raw, 4)[0])
            if raw := _ethtool(sock, name, struct.pack("=II", _GFLAGS, 0)):
                words["lro"] = bool(struct.unpack_from("=I", raw, 4)[0] & _FLAG_LRO)
            if words:
                found[index] = words
    return found


def _ethtool(sock: socket.socket, name: str, question: bytes) -> bytes | None:
    """SIOCETHTOOL: struct ifreq holds the name and a pointer to the question, which the kernel answers in place."""
    answer = array.array("B", question)
    address, _ = answer.buffer_info()
    request = struct.pack("16sP", name.encode("utf-8", "surrogateescape")[:15], address).ljust(40, b"\0")
    try:
        fcntl.ioctl(sock, SIOCETHTOOL, request)
    except OSError:
        return None
    return answer.tobytes()
