"""A tiny name server: A and AAAA records from a table (RFC 1035), or an error for everything."""

import ipaddress
import struct
from collections.abc import Callable
from typing import Any

_A, _AAAA, _IN = 1, 28, 1
_NXDOMAIN, _REFUSED = 3, 5
TTL = 60


def answerer(service: dict[str, Any]) -> Callable[[bytes], bytes | None]:
    """From a query to its reply (None: not a query). ``records``: name -> addresses separated by spaces."""
    records = {k.rstrip(".").lower(): v.split() for k, v in service["records"].items()}
    always = {"nxdomain": _NXDOMAIN, "refused": _REFUSED}.get(service["behave"])

    def answer(query: bytes) -> bytes | None:
        try:
            return _reply(query, records, always)
        except (struct.error, IndexError, UnicodeDecodeError):
            return None

    return answer


def _reply(query: bytes, records: dict[str, list[str]], always: int | None) -> bytes | None:
    ident, flags, questions = struct.unpack_from("!HHH", query)
    if flags & 0x8000 or questions != 1:
        return None
    at, labels = 12, []
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode("ascii"))
        at += size + 1
    kind, _ = struct.unpack_from("!HH", query, at + 1)
    question = query[12 : at + 5]
    name = ".".join(labels).lower()
    code = always if always is not None else 0 if name in records else _NXDOMAIN
    found = []
    for text in records.get(name, []) if code == 0 else []:
        address = ipaddress.ip_address(text)
        if (address.version, kind) in ((4, _A), (6, _AAAA)):
            packed = address.packed
            found.append(struct.pack("!HHHIH", 0xC00C, kind, _IN, TTL, len(packed)) + packed)
    # QR, AA, and RD copied, RA set (RFC 1035 4.1.1)
    head = struct.pack("!HHHHHH", ident, 0x8480 | (flags & 0x0100) | code, 1, len(found), 0, 0)
    return head + question + b"".join(found)
