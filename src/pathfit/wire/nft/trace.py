"""What nf_tables says of a packet that is traced: NFT_MSG_TRACE to the group NFNLGRP_NFTRACE (nft_trace_notify()).

One message for each rule whose tests all held, one for the end of a chain and one for a policy. The packet's headers
are in the first message of each base chain alone. Pure.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pathfit.wire.netlink import HEADER, U16, U32, Malformed, attributes, text
from pathfit.wire.nft.messages import FAMILIES, SUBSYSTEM, number, signed

TRACE = 17  # NFT_MSG_TRACE
GROUP, CHANGES = 9, 7  # NFNLGRP_NFTRACE, NFNLGRP_NFTABLES
_TOUCH = frozenset(SUBSYSTEM | kind for kind in (0, 2, 3, 5, 6, 8))  # new and deleted tables, chains, rules
KINDS = {1: "policy", 2: "return", 3: "rule"}  # enum nft_trace_types
_VERDICTS = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", 4: "repeat", 5: "stop",
    -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return",
}  # fmt: skip
_FAMILIES = {2: 4, 10: 6}  # NFPROTO_*
_EXTENSIONS = frozenset((0, 43, 44, 51, 60, 135))  # RFC 8200; what follows an IPv6 header and is not a transport


class Trace(NamedTuple):
    """One message.

    ``kind``: "rule", "policy", "return" (the end of a chain that was jumped to). ``family``, ``table``, ``chain``,
    ``handle``: whose; handle 0 for a policy. ``verdict``: "drop", "accept", "jump" ..., for a policy what it is;
    ``target``: of a jump. ``id``: the same for all messages of one packet in one namespace, used again later.
    ``version``: 4, 6, or 0 for neither. ``iif``, ``oif``: indices, 0 without. ``mark``: the packet's. The headers are
    empty when this message has none; ``network``: at most 40 bytes, ``transport``: at most 20.
    """

    kind: str
    family: str
    table: str
    chain: str
    handle: int
    verdict: str
    target: str
    id: int
    version: int
    iif: int
    oif: int
    mark: int
    link: bytes
    network: bytes
    transport: bytes

    @property
    def drops(self) -> bool:
        """It is this rule, or this policy, that ends the packet."""
        return self.verdict == "drop" and self.kind in ("rule", "policy")

    @property
    def packet(self) -> bytes:
        """The IP packet's headers, as far as they are here; what stands between them and is not, ends it."""
        first = self.network[0] >> 4 if self.network else 0
        if first == 6 and len(self.network) == 40:
            return self.network if self.network[6] in _EXTENSIONS else self.network + self.transport
        size = (self.network[0] & 15) * 4 if first == 4 else 0
        return self.network[:size] + self.transport if 20 <= size <= len(self.network) else self.network


def messages(data: bytes) -> list[Trace]:
    """Everything of that kind in one received buffer. Raises Malformed."""
    return [trace(data, start, end) for kind, start, end in told(data) if kind == SUBSYSTEM | TRACE]


def trace(data: bytes, start: int, end: int) -> Trace:
    """One body. Raises Malformed."""
    family, a = _head(data, start, end)
    kind = KINDS.get(number(a.get(4)), "unknown")
    verdict, target = "", ""
    if (raw := a.get(5)) is not None:
        v = attributes(raw, 0, len(raw))
        verdict, target = _verdict(signed(v.get(1))), text(v.get(2, b""))
    elif kind == "policy":
        verdict = _verdict(signed(a.get(16)))
    handle = number(a.get(3))
    if kind == "rule" and not handle and verdict == "continue":
        kind = "return"  # the end of a chain, as __nft_trace_verdict() of 6.18 calls it: it compares a masked number
    return Trace(
        kind=kind,
        family=family,
        table=text(a.get(1, b"")),
        chain=text(a.get(2, b"")),
        handle=handle,
        verdict=verdict,
        target=target,
        id=number(a.get(6)),
        version=_FAMILIES.get(number(a.get(15)), 0),
        iif=number(a.get(10)),
        oif=number(a.get(12)),
        mark=number(a.get(14)),
        link=a.get(7, b""),
        network=a.get(8, b""),
        transport=a.get(9, b""),
    )


def _head(data: bytes, start: int, end: int) -> tuple[str, dict[int, bytes]]:
    if end - start < 4 or end > len(data):
        raise Malformed("a body without struct nfgenmsg")
    return FAMILIES.get(data[start], f"family {data[start]}"), attributes(data, start + 4, end)


def _verdict(code: int) -> str:
    """The upper half of a code that is no jump holds a queue's number or an errno (NF_VERDICT_QMASK)."""
    return _VERDICTS.get(code if code < 0 and code >= -5 else code & 0xFF, "unknown")


def touched(data: bytes) -> set[tuple[str, str]]:
    """(family, table) of everything that a buffer of the group CHANGES says was changed. Raises Malformed."""
    found = set()
    for kind, start, end in told(data):
        if kind in _TOUCH:
            family, a = _head(data, start, end)
            found.add((family, text(a.get(1, b""))))
    return found


def told(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, start, end) of every message: what is told to a group bears the number of who caused it."""
    at, size = 0, len(data)
    while at + HEADER <= size:
        length, kind = U32(data, at)[0], U16(data, at + 4)[0]
        if length < HEADER or at + length > size:
            raise Malformed(f"netlink message of {length} bytes at {at} of {size}")
        yield kind, at + HEADER, at + length
        at = (at + length + 3) & ~3
    if at < size:
        raise Malformed(f"{size - at} bytes behind the last netlink message")
