"""Tables, chains, sets and rules as nf_tables wants them written: the other direction of :mod:`.messages`.

::

    BATCH_BEGIN  NEWTABLE NEWCHAIN ... NEWSET NEWSETELEM ... NEWRULE ...  BATCH_END      all of it, or nothing

Numbers in attributes are big-endian. An expression is written as a rule's bytecode, register by register, as the
package's docstring shows it. Source: include/uapi/linux/netfilter/nf_tables.h, nfnetlink_rcv_batch(). Pure.
"""

from collections.abc import Collection, Iterable

from pathfit.wire.netlink import F_REQUEST, attribute, nested, request
from pathfit.wire.nft.messages import FAMILY_NUMBERS, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, SUBSYSTEM

BEGIN, END = 0x10, 0x11  # NFNL_MSG_BATCH_BEGIN, _END
F_EXCL, F_CREATE, F_APPEND = 0x200, 0x400, 0x800
OWNER = 0x2  # NFT_TABLE_F_OWNER
CONSTANT = 0x2  # NFT_SET_CONSTANT
PREROUTING, LOCAL_OUT = 0, 3  # NF_INET_*
ACCEPT, JUMP = 1, -3  # NF_ACCEPT, NFT_JUMP
EQUAL, UNEQUAL = 0, 1
LINK, NETWORK, TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*_HEADER: the base of an offset
NFTRACE, NFPROTO, L4PROTO = 12, 15, 16  # NFT_META_*
# What `nft` shows the keys of a set as (its own numbers, include/datatype.h), and their bytes.
_TYPES = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "icmp_type": (14, 1),
}
REGISTER, VERDICT = 1, 0  # the first register of 16 bytes, that of the verdict


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def be64(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(8, "big"))


def name(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


class Batch:
    """Everything that shall be in one table, in order; :meth:`transaction` makes it."""

    def __init__(self, family: str, table: str, sequence: int = 1) -> None:
        self._family, self._table, self._sequence = FAMILY_NUMBERS[family], table, sequence
        self._messages: list[tuple[int, bytes, int]] = []
        self._sets = 0

    def _add(self, kind: int, attributes: Iterable[bytes], flags: int = F_CREATE) -> None:
        body = bytes((self._family, 0, 0, 0)) + b"".join(attributes)
        self._messages.append((SUBSYSTEM | kind, body, flags))

    def table(self, flags: int) -> None:
        """The table itself; EEXIST when there is one of that name."""
        self._add(NEWTABLE, (name(1, self._table), be32(2, flags)), F_CREATE | F_EXCL)

    def chain(self, chain: str, hook: tuple[int, int] | None = None) -> None:
        """``hook``: (number, priority) of a base chain, which accepts what no rule decides; None: for jumps."""
        more = (nested(4, (be32(1, hook[0]), be32(2, hook[1]))), be32(5, ACCEPT), name(7, "filter")) if hook else ()
        self._add(NEWCHAIN, (name(1, self._table), name(3, chain), *more))

    def set(self, label: str, kind: str, elements: Collection[bytes]) -> None:
        """A set that never changes. ``kind``: of its keys, as `nft` calls it."""
        self._sets += 1
        number, width = _TYPES[kind]
        head = (name(1, self._table), name(2, label), be32(3, CONSTANT), be32(4, number), be32(5, width))
        size = nested(9, (be32(1, len(elements)),))  # a plain hash, not one that may grow
        self._add(NEWSET, (*head, size, be32(10, self._sets)))
        keys = [nested(1, (nested(1, (attribute(1, key),)),)) for key in elements]
        self._add(NEWSETELEM, (name(1, self._table), name(2, label), nested(3, keys), be32(4, self._sets)))

    def rule(self, chain: str, expressions: Iterable[bytes]) -> None:
        parts = (name(1, self._table), name(2, chain), nested(4, expressions))
        self._add(NEWRULE, parts, F_CREATE | F_APPEND)

    def transaction(self) -> bytes:
        """All of it. The last of its messages is acknowledged; what is refused always says so."""
        out = [self._mark(BEGIN)]
        for n, (kind, body, flags) in enumerate(self._messages):
            ask = 0x4 if n == len(self._messages) - 1 else 0  # NLM_F_ACK
            out.append(request(kind, body, self._sequence, F_REQUEST | flags | ask))
        return b"".join((*out, self._mark(END)))

    def _mark(self, kind: int) -> bytes:
        return request(kind, bytes((0, 0)) + (SUBSYSTEM >> 8).to_bytes(2, "big"), self._sequence, F_REQUEST)


def expression(kind: str, *attributes: bytes) -> bytes:
    """One NFTA_LIST_ELEM."""
    return nested(1, (name(1, kind), nested(2, attributes)))


def meta(key: int) -> bytes:
    return expression("meta", be32(1, REGISTER), be32(2, key))


def payload(base: int, offset: int, length: int) -> bytes:
    """Bytes of the packet; a packet that is shorter, or has no such header, does not match (NFT_BREAK)."""
    return expression("payload", be32(1, REGISTER), be32(2, base), be32(3, offset), be32(4, length))


def fragment_offset() -> bytes:
    """Offset and flags of an IPv6 fragment header, wherever it stands; a packet without one does not match."""
    return expression("exthdr", be32(1, REGISTER), attribute(2, b"\x2c"), be32(3, 2), be32(4, 2))


def masked(mask: bytes) -> bytes:
    zero = bytes(len(mask))
    values = nested(4, (attribute(1, mask),)), nested(5, (attribute(1, zero),))
    return expression("bitwise", be32(1, REGISTER), be32(2, REGISTER), be32(3, len(mask)), *values)


def compared(value: bytes, operator: int = EQUAL) -> bytes:
    return expression("cmp", be32(1, REGISTER), be32(2, operator), nested(3, (attribute(1, value),)))


def looked_up(label: str) -> bytes:
    return expression("lookup", name(1, label), be32(2, REGISTER))


def verdict(code: int, chain: str = "") -> bytes:
    more = (name(2, chain),) if chain else ()
    return expression("immediate", be32(1, VERDICT), nested(2, (nested(2, (be32(1, code), *more)),)))


def traced() -> tuple[bytes, bytes]:
    """`meta nftrace set 1`."""
    one = expression("immediate", be32(1, REGISTER), nested(2, (attribute(1, b"\x01"),)))
    return one, expression("meta", be32(2, NFTRACE), be32(3, REGISTER))


def limited(rate: int, burst: int) -> bytes:
    """At most ``rate`` packets a second."""
    return expression("limit", be64(1, rate), be64(2, 1), be32(3, burst), be32(4, 0))


def counter() -> bytes:
    return expression("counter")
