"""DNS questions of an exact length, and the little of an answer that a measurement looks at (RFC 1035, RFC 6891).

::

    header 12: id, flags, counts of question, answer, authority, additional
    question: labels, type 2, class 2
    OPT 11: root 1, type 2 (41), size 2, extended rcode and version 2, flags 2 (DO 0x8000), length 2, options
    option 4: code 2, length 2, and its bytes

Reading names and records is dnspython's business (observe/names.py); this makes packets, like the TCP segments and
echoes of :mod:`pathfit.wire.packets`, and has to do without it in the one-file probe.
"""

import struct
from typing import NamedTuple

HEAD = struct.Struct("!HHHHHH")
TYPES = {"A": 1, "NS": 2, "SOA": 6, "TXT": 16, "AAAA": 28, "DNSKEY": 48, "ANY": 255}
OPT, IN = 41, 1
QR, TC, RD = 0x8000, 0x0200, 0x0100
DO = 0x8000
LOCAL_OPTION = 65001  # RFC 6891 section 9: for local and experimental use; who does not know it ignores it
OVERHEAD = 12 + 4 + 11 + 4  # header, type and class, OPT, option: without the name and the padding


class Reply(NamedTuple):
    """``cut``: the answer did not fit and is to be asked for by TCP."""

    ident: int
    cut: bool
    rcode: int
    answers: int


def labels(name: str) -> bytes:
    """A name as it travels. ValueError when it cannot be one."""
    parts = [p.encode("ascii") for p in name.rstrip(".").split(".") if p]
    if any(len(p) > 63 for p in parts) or sum(len(p) + 1 for p in parts) > 254:
        raise ValueError(f"no DNS name: {name[:40]}")
    return b"".join(bytes((len(p),)) + p for p in parts) + b"\0"


def question(ident: int, name: str, kind: str, room: int, *, length: int = 0, dnssec: bool = False) -> bytes:
    """A recursive question that takes answers of ``room`` bytes; ``length`` > 0 pads it to that many bytes."""
    qname = labels(name)
    option = b""
    if length:
        pad = max(0, length - OVERHEAD - len(qname))
        option = struct.pack("!HH", LOCAL_OPTION, pad) + bytes(pad)
    opt = struct.pack("!BHHHHH", 0, OPT, room, 0, DO if dnssec else 0, len(option)) + option
    return HEAD.pack(ident, RD, 1, 0, 0, 1) + qname + struct.pack("!HH", TYPES[kind], IN) + opt


def plain(ident: int, name: str, kind: str) -> bytes:
    """The same question as in 1987: no EDNS, so answers of 512 bytes at most."""
    return HEAD.pack(ident, RD, 1, 0, 0, 0) + labels(name) + struct.pack("!HH", TYPES[kind], IN)


def parse(data: bytes) -> Reply | None:
    """The header of an answer; None when it is none."""
    if len(data) < HEAD.size:
        return None
    ident, flags, _, answers, _, _ = HEAD.unpack_from(data)
    if not flags & QR:
        return None
    return Reply(ident, bool(flags & TC), flags & 15, answers)
