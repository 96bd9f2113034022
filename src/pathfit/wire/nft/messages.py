"""Requests to nf_tables and its answers as raw values; no meaning yet.

A message body is ``struct nfgenmsg`` (family, version, 16-bit generation in network order) and attributes. All numbers
in attributes are big-endian. Every message of a dump carries the low 16 bits of the ruleset's generation: if two of
them differ, the ruleset changed in between (nf_tables_dump_rules, nft_base_seq).
"""

from struct import unpack_from

import msgspec

from pathfit.wire.netlink import Malformed, attribute, attributes, every, request, text

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN, GETFLOWTABLE = 1, 4, 7, 10, 13, 16, 23
NEWTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWFLOWTABLE = 0, 3, 6, 9, 12, 22

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
FAMILY_NUMBERS = {name: number for number, name in FAMILIES.items()}

SET_INTERVAL, SET_MAP, SET_TIMEOUT, SET_EVAL, SET_OBJECT = 0x4, 0x8, 0x10, 0x20, 0x40
ELEM_INTERVAL_END, ELEM_CATCHALL = 0x1, 0x2
DORMANT = 0x1  # NFT_TABLE_F_DORMANT

FIRST_GENERATION = 1  # of a new namespace (nf_tables_init_net); every commit adds one, also one that takes all away

Attributes = dict[int, bytes]


class RawExpr(msgspec.Struct, frozen=True):
    """One expression: its kernel name ("cmp") and its attributes."""

    name: str
    data: Attributes


class RawTable(msgspec.Struct, frozen=True):
    """NFT_MSG_NEWTABLE."""

    family: str
    name: str
    dormant: bool


class RawChain(msgspec.Struct, frozen=True):
    """NFT_MSG_NEWCHAIN. ``hook`` None: not a base chain."""

    family: str
    table: str
    name: str
    type: str
    hook: int | None
    priority: int
    policy: int
    devices: tuple[str, ...]
    packets: int | None


class RawRule(msgspec.Struct, frozen=True):
    """NFT_MSG_NEWRULE."""

    family: str
    table: str
    chain: str
    handle: int
    exprs: tuple[RawExpr, ...]
    comment: str | None


class RawSet(msgspec.Struct, frozen=True):
    """NFT_MSG_NEWSET. ``key_type`` and ``data_type`` are user space's numbers; 0xffffff00 = verdicts."""

    family: str
    table: str
    name: str
    flags: int
    key_length: int
    data_type: int
    data_length: int


class RawElement(msgspec.Struct, frozen=True):
    """One element. ``data`` bytes for maps, ``verdict`` (code, chain) for verdict maps."""

    key: bytes
    key_end: bytes | None = None
    flags: int = 0
    data: bytes | None = None
    verdict: tuple[int, str | None] | None = None


def dump(kind: int, *, family: str = "", table: str = "", set_name: str = "", chain: str = "") -> bytes:
    """A dump request, of everything, of one set's elements or of one chain's rules."""
    body = bytes((FAMILY_NUMBERS.get(family, 0), 0, 0, 0))
    if table:
        body += attribute(1, table.encode() + b"\0") + attribute(2, (set_name or chain).encode() + b"\0")
    return request(SUBSYSTEM | kind, body)


def getgen() -> bytes:
    """Which generation the ruleset is of. No dump: send with ``ask``."""
    return request(SUBSYSTEM | GETGEN, bytes(4))


def gen_id(data: bytes, start: int, end: int) -> int:
    """The number in an answer to :func:`getgen`; 0 when it holds none. Raises Malformed."""
    return number(attributes(data, start + 4, end).get(1))


def generation(data: bytes, start: int) -> int:
    """Low 16 bits of the ruleset generation in a message body. Raises Malformed."""
    if start + 4 > len(data):
        raise Malformed("a body without struct nfgenmsg")
    return (data[start + 2] << 8) | data[start + 3]


def number(value: bytes | None, default: int = 0) -> int:
    """A big-endian number of any width."""
    return int.from_bytes(value, "big") if value else default


def signed(value: bytes | None, default: int = 0) -> int:
    """A big-endian signed number (priorities, verdict codes)."""
    return int.from_bytes(value, "big", signed=True) if value else default


def _head(data: bytes, start: int, end: int) -> tuple[str, Attributes]:
    if end - start < 4:
        raise Malformed("a body without struct nfgenmsg")
    return FAMILIES.get(data[start], f"family {data[start]}"), attributes(data, start + 4, end)


def table(data: bytes, start: int, end: int) -> RawTable:
    """One NEWTABLE body. Raises Malformed."""
    family, a = _head(data, start, end)
    return RawTable(family, text(a.get(1, b"")), bool(number(a.get(2)) & DORMANT))


def chain(data: bytes, start: int, end: int) -> RawChain:
    """One NEWCHAIN body. Raises Malformed."""
    family, a = _head(data, start, end)
    hook, priority, devices = None, 0, []
    if (raw := a.get(4)) is not None:
        h = attributes(raw, 0, len(raw))
        hook, priority = number(h.get(1)), signed(h.get(2))
        if 3 in h:
            devices.append(text(h[3]))
        if 4 in h:
            devices += [text(v) for _, v in every(h[4], 0, len(h[4]))]
    packets = None
    if (raw := a.get(8)) is not None:
        packets = number(attributes(raw, 0, len(raw)).get(2))
    return RawChain(
        family,
        text(a.get(1, b"")),
        text(a.get(3, b"")),
        text(a.get(7, b"filter\0")),
        hook,
        priority,
        number(a.get(5), 1),
        tuple(dict.fromkeys(devices)),
        packets,
    )


def expressions(raw: bytes) -> tuple[RawExpr, ...]:
    """A list of NFTA_LIST_ELEM, each a name and attributes. Raises Malformed."""
    found = []
    for kind, value in every(raw, 0, len(raw)):
        if kind == 1:
            found.append(expression(value))
    return tuple(found)


def expression(raw: bytes) -> RawExpr:
    """NFTA_EXPR_NAME and NFTA_EXPR_DATA. Raises Malformed."""
    e = attributes(raw, 0, len(raw))
    body = e.get(2, b"")
    return RawExpr(text(e.get(1, b"?")), attributes(body, 0, len(body)))


def rule(data: bytes, start: int, end: int) -> RawRule:
    """One NEWRULE body. Raises Malformed."""
    family, a = _head(data, start, end)
    return RawRule(
        family,
        text(a.get(1, b"")),
        text(a.get(2, b"")),
        number(a.get(3)),
        expressions(a.get(4, b"")),
        comment_of(a.get(7)),
    )


def comment_of(userdata: bytes | None) -> str | None:
    """The comment in a rule's user data: type, length, value; type 0 is the comment (libnftnl udata.h)."""
    at = 0
    while userdata and at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        value = userdata[at + 2 : at + 2 + length]
        if kind == 0 and value.endswith(b"\0"):
            return text(value)
        at += 2 + length
    return None


def set_(data: bytes, start: int, end: int) -> RawSet:
    """One NEWSET body. Raises Malformed."""
    family, a = _head(data, start, end)
    return RawSet(
        family,
        text(a.get(1, b"")),
        text(a.get(2, b"")),
        number(a.get(3)),
        number(a.get(5)),
        number(a.get(6)),
        number(a.get(7)),
    )


def elements(data: bytes, start: int, end: int) -> list[RawElement]:
    """The elements of one NEWSETELEM body. Raises Malformed."""
    _, a = _head(data, start, end)
    raw = a.get(3, b"")
    return [_element(value) for kind, value in every(raw, 0, len(raw)) if kind == 1]


def _element(raw: bytes) -> RawElement:
    a = attributes(raw, 0, len(raw))
    value, verdict = data_of(a.get(2)) if 2 in a else (None, None)
    key_end = data_of(a[10])[0] if 10 in a else None
    return RawElement(
        data_of(a.get(1))[0] or b"",
        key_end,
        unpack_from(">I", a[3])[0] if len(a.get(3, b"")) >= 4 else 0,
        value,
        verdict,
    )


def data_of(raw: bytes | None) -> tuple[bytes | None, tuple[int, str | None] | None]:
    """struct nft_data: plain bytes, or a verdict (code, chain name). Raises Malformed."""
    if not raw:
        return None, None
    a = attributes(raw, 0, len(raw))
    if 1 in a:
        return a[1], None
    if 2 in a:
        v = attributes(a[2], 0, len(a[2]))
        return None, (signed(v.get(1)), text(v[2]) if 2 in v else None)
    return None, None


def flowtable(data: bytes, start: int, end: int) -> tuple[str, str, str, tuple[str, ...]]:
    """One NEWFLOWTABLE body: family, table, name, devices. Raises Malformed."""
    family, a = _head(data, start, end)
    devices: tuple[str, ...] = ()
    if (raw := a.get(3)) is not None:
        h = attributes(raw, 0, len(raw))
        devices = tuple(text(v) for _, v in every(h[3], 0, len(h[3]))) if 3 in h else ()
    return family, text(a.get(1, b"")), text(a.get(2, b"")), devices
