"""ipsets (include/uapi/linux/netfilter/ipset/ip_set.h): sets of addresses and ports that `-m set` looks into.

A match names its set by number, the sets are listed by name: the number of a name is asked for apart. What becomes of
a set here are the fields a packet must have and the rows of values; a type or an element that cannot be said so (MAC
addresses, "nomatch", sets of sets) makes the whole set one we do not understand, never one that is empty.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from pathfit.core.filters import Concat, Expr, Match, Opaque
from pathfit.wire.addresses import ip
from pathfit.wire.netlink import Malformed, attribute, attributes, every, inner, request, text, u8

SUBSYSTEM = 6 << 8  # NFNL_SUBSYS_IPSET
_LIST, _BYINDEX = 7, 15
_PROTOCOL, _SETNAME, _TYPENAME, _DATA, _ADT, _INDEX = 1, 2, 3, 7, 8, 11
_IP, _IP_TO, _CIDR, _PORT, _PORT_TO, _TIMEOUT, _PROTO, _CADT_FLAGS = 1, 2, 3, 4, 5, 6, 7, 8
_BITMASK, _NETMASK = 12, 20
_NOMATCH = 4  # IPSET_FLAG_NOMATCH
_VERSION = b"\7"
_HEAD = 4  # struct nfgenmsg

# Parts of a type's name, and how many of the match's directions they take
_PARTS = {"ip": "addr", "net": "addr", "port": "port"}
_METHODS = frozenset({"hash", "bitmap"})


class Part(NamedTuple):
    """One message about a set; large sets come in several, the type only in the first."""

    name: str
    type: str
    timeout: bool
    masked: bool
    elements: tuple[dict[int, bytes], ...]


class Set(NamedTuple):
    """A set: ``type`` "hash:net,port"; ``timeout``: elements come and go; ``masked``: a part of an address counts."""

    name: str
    type: str
    timeout: bool
    masked: bool
    elements: tuple[dict[int, bytes], ...]


@cache
def listing() -> bytes:
    """All sets of the namespace with their elements."""
    return request(SUBSYSTEM | _LIST, bytes(_HEAD) + attribute(_PROTOCOL, _VERSION))


def by_index(index: int) -> bytes:
    """What the set of that number is called. No dump: send with ``ask``."""
    body = attribute(_PROTOCOL, _VERSION) + attribute(_INDEX | 0x4000, index.to_bytes(2, "big"))
    return request(SUBSYSTEM | _BYINDEX, bytes(_HEAD) + body)


def name(data: bytes, at: int, end: int) -> str:
    """The answer to :func:`by_index`. Raises Malformed."""
    return text(attributes(data, at + _HEAD, end).get(_SETNAME, b""))


def part(data: bytes, at: int, end: int) -> Part:
    """One answer to :func:`listing`. Raises Malformed."""
    found = attributes(data, at + _HEAD, end)
    adt, about = found.get(_ADT, b""), inner(found.get(_DATA, b""))
    return Part(
        name=text(found.get(_SETNAME, b"")),
        type=text(found.get(_TYPENAME, b"")),
        timeout=_TIMEOUT in about,
        masked=_NETMASK in about or _BITMASK in about,
        elements=tuple(inner(value) for _, value in every(adt, 0, len(adt))),
    )


def joined(parts: Iterable[Part]) -> dict[str, Set]:
    """The sets by name."""
    found: dict[str, Set] = {}
    for one in parts:
        old = found.get(one.name)
        if old is None:
            found[one.name] = Set(*one)
        else:
            found[one.name] = old._replace(elements=old.elements + one.elements, type=old.type or one.type)
    return found


def test(which: Set, directions: Sequence[str], negate: bool) -> Expr:
    """``-m set --match-set NAME src,dst`` as a test of fields; Opaque when the set cannot be said as one."""
    opaque = Opaque(what=f"-m set {'! ' if negate else ''}--match-set {which.name} {','.join(directions)}")
    method, _, rest = which.type.partition(":")
    kinds = [_PARTS.get(word) for word in rest.split(",")]
    if method not in _METHODS or None in kinds or len(kinds) != len(directions):
        return opaque
    if which.masked or kinds.count("addr") != 1 or kinds.count("port") > 1:
        return opaque
    fields: list[str] = []
    for kind, direction in zip(kinds, directions, strict=True):
        side = "s" if direction == "src" else "d"
        fields += [f"{side}addr"] if kind == "addr" else ["l4proto", f"{side}port"]
    try:
        rows = tuple(_row(element, kinds) for element in which.elements)
    except ValueError:
        return opaque
    if len(fields) == 1:
        return Match(field=fields[0], values=tuple(v for (v,) in rows), negate=negate, partial=which.timeout)
    return Concat(fields=tuple(fields), rows=rows, negate=negate, partial=which.timeout)


def _row(element: dict[int, bytes], kinds: Sequence[str | None]) -> tuple[str, ...]:
    """An element's values. Raises ValueError for what is more than that."""
    if int.from_bytes(element.get(_CADT_FLAGS, b""), "big") & _NOMATCH:
        raise ValueError("an exception from the set")
    values: list[str] = []
    for kind in kinds:
        if kind == "addr":
            values.append(_address(element))
        else:
            low = int.from_bytes(element[_PORT], "big") if _PORT in element else 0
            high = int.from_bytes(element[_PORT_TO], "big") if _PORT_TO in element else low
            protocol = u8(element, _PROTO)
            if protocol not in (6, 17, 132):  # of ICMP the "port" is type and code
                raise ValueError("no ports")
            values += [str(protocol), str(low) if low == high else f"{low}-{high}"]
    return tuple(values)


def _address(element: dict[int, bytes]) -> str:
    low = _ip(element.get(_IP, b""))
    if _IP_TO in element:
        return f"{ip(low)}-{ip(_ip(element[_IP_TO]))}"
    return f"{ip(low)}/{u8(element, _CIDR, len(low) * 8)}"


def _ip(raw: bytes) -> bytes:
    found = inner(raw)
    address = found.get(1) or found.get(2) or b""  # IPSET_ATTR_IPADDR_IPV4, _IPV6
    if len(address) not in (4, 16):
        raise Malformed(f"an address of {len(address)} bytes in a set")
    return address
