"""What a register holds, as a symbol, and what comparing it with a value means.

An *atom* is (field, value, negated): "dport is 443", "frag is not later". A comparison of one register may give
several atoms, because nft joins neighbouring fields into one load (`ip saddr A ip daddr B` is one load of 8 bytes).
"""

import sys

import msgspec

from pathfit.core.filters import Concat, Match, Opaque
from pathfit.wire.nft import fields as f

Atom = tuple[str, str, bool]
Test = Match | Concat | Opaque


class Bits(msgspec.Struct, frozen=True):
    """Bits [first, first + width) of something laid out as ``layout``; ``host``: stored in host byte order.

    ``mask`` and ``xor`` are what nft_bitwise has done to them.
    """

    layout: dict[str, tuple[int, int]]
    first: int
    width: int
    host: bool = False
    mask: int = -1
    xor: int = 0
    what: str = ""

    def number(self, raw: bytes) -> int:
        """The number a register of this kind holds when its bytes are ``raw``."""
        return int.from_bytes(
            raw[: (self.width + 7) // 8], "little" if self.host and sys.byteorder == "little" else "big"
        )


class Name(msgspec.Struct, frozen=True):
    """An interface name, NUL-padded to 16 bytes."""

    field: str


class Const(msgspec.Struct, frozen=True):
    """Bytes from an immediate."""

    data: bytes


class Share(msgspec.Struct, frozen=True):
    """numgen or hash: a number in [offset, offset + modulus). ``field``: "nth", "random" or "hash"."""

    field: str
    modulus: int
    offset: int
    host: bool = True


class Flag(msgspec.Struct, frozen=True):
    """Zero or not zero: ``atom`` when it is not zero. Not ``boolean``: other values mean more than "not zero"."""

    atom: Atom
    boolean: bool = True


class Mapped(msgspec.Struct, frozen=True):
    """What a map gave. ``rows`` parallel to ``data``; ``otherwise`` from its catch-all element."""

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    data: tuple[bytes, ...]
    otherwise: bytes | None
    partial: bool


class Unknown(msgspec.Struct, frozen=True):
    """Something we have no name for."""

    what: str


Symbol = Bits | Name | Const | Share | Flag | Mapped | Unknown


def value(name: str, width: int, *, host: bool = False) -> Bits:
    """A field that is loaded whole (meta, ct)."""
    return Bits({name: (0, width)}, 0, width, host)


def describe(symbol: Symbol) -> str:
    """A symbol in words, for Opaque."""
    if isinstance(symbol, Unknown):
        return symbol.what
    if isinstance(symbol, Bits):
        names = [
            n for n, (at, w) in symbol.layout.items() if at < symbol.first + symbol.width and symbol.first < at + w
        ]
        return symbol.what or " . ".join(names) or f"@{symbol.first},{symbol.width}"
    if isinstance(symbol, Name | Share):
        return symbol.field
    return type(symbol).__name__.lower()


# --- equality ----------------------------------------------------------------------------------------------------


def equals(symbol: Symbol, raw: bytes) -> list[Atom] | None:
    """Atoms that all hold when the register's bytes are ``raw``; None when we have no words for it."""
    if isinstance(symbol, Name):
        return [(symbol.field, f.name_value(raw), False)]
    if isinstance(symbol, Flag):
        if any(raw) and not symbol.boolean:
            return None
        field, text, negated = symbol.atom
        return [(field, text, negated ^ (not any(raw)))]
    if isinstance(symbol, Share):
        number = int.from_bytes(raw, "little" if symbol.host and sys.byteorder == "little" else "big")
        return [share(symbol, number, number)]
    if isinstance(symbol, Bits):
        return _bits_equal(symbol, symbol.number(raw))
    return None


def share(symbol: Share, lo: int, hi: int) -> Atom:
    """The atom "falls into lo..hi of modulus"."""
    lo, hi = max(lo - symbol.offset, 0), min(hi - symbol.offset, symbol.modulus - 1)
    if symbol.field == "random":
        return ("random", f"{max(hi - lo + 1, 0) / (symbol.modulus or 1):.6g}", False)
    return (symbol.field, f"{lo}/{symbol.modulus}" if lo == hi else f"{lo}-{hi}/{symbol.modulus}", False)


def _bits_equal(bits: Bits, number: int) -> list[Atom] | None:
    full = (1 << bits.width) - 1
    mask = bits.mask & full
    wanted = number ^ bits.xor
    if wanted & ~mask & full:
        return [(next(iter(bits.layout), "?"), "never", False)]
    parts = _parts(bits, mask, wanted)
    if parts is None:
        return None
    fragment = {"df", "fragmore", "fragoff", "ip reserved"}
    atoms: list[Atom] = []
    if any(name in fragment for name, *_ in parts):
        here = {name: (m, v) for name, m, v, _ in parts if name in fragment}
        found = _fragment(here)
        if found is None:
            return None
        atoms += found
    for name, m, v, width in parts:
        if name not in fragment:
            atom = _part(name, m, v, width)
            if atom is None:
                return None
            atoms += atom
    return atoms


def _parts(bits: Bits, mask: int, wanted: int) -> list[tuple[str, int, int, int]] | None:
    """Fields touched by the mask: (name, mask, value, width), both as numbers of the field's width."""
    found, end, covered = [], bits.first + bits.width, 0
    for name, (at, width) in bits.layout.items():
        lo, hi = max(at, bits.first), min(at + width, end)
        if lo >= hi:
            continue
        down, up, keep = end - hi, at + width - hi, (1 << (hi - lo)) - 1
        m, v = (mask >> down & keep) << up, (wanted >> down & keep) << up
        covered |= keep << down
        if m:
            found.append((name, m, v, width))
    return None if mask & ~covered else found


def _fragment(here: dict[str, tuple[int, int]]) -> list[Atom] | None:
    """`ip frag-off & mask == value` in the model's words."""
    if "ip reserved" in here and here["ip reserved"][1]:
        return None
    atoms: list[Atom] = []
    if "df" in here:
        atoms.append(("df", "set" if here["df"][1] else "clear", False))
    offset, more = here.get("fragoff"), here.get("fragmore")
    if offset and (offset[0] != 0x1FFF or offset[1]):
        return None
    if offset and more and not more[1]:
        return [*atoms, ("frag", "any", True)]
    if offset:
        atoms.append(("frag", "later", True))
    if more:
        atoms.append(("fragmore", "set", not more[1]))
    return atoms


def _part(name: str, mask: int, number: int, width: int) -> list[Atom] | None:
    """One field under a mask."""
    full = (1 << width) - 1
    if name in f.ADDRESSES:
        length = f.prefix_of(mask, width)
        return None if length is None else [(name, f.address_range(number, number | (full ^ mask), width), False)]
    if name in ("ctstate", "ctstatus"):
        return _conntrack(name, mask, number, full)
    if mask == full:
        if name == "ip6 length":
            return [("length", str(number + 40), False)]
        text = f.whole_value(name, number)
        return None if text is None else [(_model_name(name), text, False)]
    if name == "tcpflags":
        return [(name, f"{f.flags_text(number)}/{f.flags_text(mask)}", False)]
    if name in ("mark", "ctmark"):
        return [(name, f"{number:#x}/{mask:#x}", False)]
    return None


def _model_name(name: str) -> str:
    return "addrtype" if name.startswith("addrtype-") else name


def _conntrack(name: str, mask: int, number: int, full: int) -> list[Atom] | None:
    """Bit sets. A packet has exactly one state, a connection any number of status bits."""
    table = f.CT_STATES if name == "ctstate" else f.CT_STATUS
    names = f.bits_of(mask & sum(bit for bit, _ in table) if mask == full else mask, table)
    wanted = f.bits_of(number, table)
    if names is None or wanted is None:
        return None
    if name == "ctstate":
        if not wanted:
            return [(name, ",".join(names), True)]
        return [(name, wanted[0] if len(wanted) == 1 else "never", False)]
    if mask == full:
        return None
    return [(name, n, n not in wanted) for n in names]


# --- ranges -------------------------------------------------------------------------------------------------------


def between(symbol: Symbol, lo: bytes, hi: bytes) -> Atom | None:
    """The atom "register is in lo..hi" (inclusive, compared as big-endian bytes); None without words for it."""
    if isinstance(symbol, Name):
        return _name_range(symbol, lo, hi)
    if isinstance(symbol, Share):
        return share(symbol, int.from_bytes(lo, "big"), int.from_bytes(hi, "big"))
    if not isinstance(symbol, Bits) or symbol.mask != -1 or symbol.xor:
        return None
    if symbol.host and symbol.width > 8:
        return None  # compared byte by byte in host order: no range of numbers (nft swaps before it compares)
    for name, (at, width) in symbol.layout.items():
        if at == symbol.first and width == symbol.width:
            size = (width + 7) // 8
            return _number_range(name, int.from_bytes(lo[:size], "big"), int.from_bytes(hi[:size], "big"), width)
        if at == symbol.first and symbol.width < width and name in f.ADDRESSES:
            size, rest = symbol.width // 8, width - symbol.width
            first = int.from_bytes(lo[:size], "big") << rest
            last = int.from_bytes(hi[:size], "big") << rest | ((1 << rest) - 1)
            return (name, f.address_range(first, last, width), False)
    return None


def _number_range(name: str, lo: int, hi: int, width: int) -> Atom | None:
    if name in f.ADDRESSES:
        return (name, f.address_range(lo, hi, width), False)
    if lo == hi:
        text = f.whole_value(name, lo)
        return None if text is None else (_model_name(name), text, False)
    if name == "ip6 length":
        return ("length", f"{lo + 40}-{hi + 40}", False)
    if name in f.NUMBERS:
        return (name, f"{lo}-{hi}", False)
    if name in ("mark", "ctmark") and (span := lo ^ hi) & (span + 1) == 0 and lo & span == 0:
        return (name, f"{lo:#x}/{~span & 0xFFFFFFFF:#x}", False)
    return None


def _name_range(symbol: Name, lo: bytes, hi: bytes) -> Atom | None:
    """Names in interval sets: "veth\\0…" to "veth\\xff…" is the prefix veth*, equal ends one name."""
    if lo == hi:
        return (symbol.field, f.name_value(lo.ljust(16, b"\0")), False)
    stem = lo.rstrip(b"\0")
    if hi[: len(stem)] == stem and not hi[len(stem) :].strip(b"\xff"):
        return (symbol.field, stem.decode("utf-8", "backslashreplace") + "*", False)
    return None


# --- atoms to tests -----------------------------------------------------------------------------------------------


def as_match(atom: Atom, flip: bool = False) -> Match:
    """One atom as a Match. "never" has no values: nothing is one of none; state lists are split."""
    field, text, negated = atom
    values = () if text == "never" else tuple(text.split(",")) if field == "ctstate" else (text,)
    return Match(field=field, values=values, negate=negated ^ flip)


def tests(atoms: list[Atom] | None, unequal: bool, what: str) -> list[Test]:
    """The tests for "all atoms hold" or, with ``unequal``, "not all of them do"."""
    if atoms is None:
        return [Opaque(what=what)]
    if not unequal:
        return [as_match(a) for a in atoms]
    if len(atoms) == 1:
        return [as_match(atoms[0], flip=True)]
    if any(negated or "," in text or text == "never" for _, text, negated in atoms):
        return [Opaque(what=what)]
    row = tuple(text for _, text, _ in atoms)
    return [Concat(fields=tuple(field for field, *_ in atoms), rows=(row,), negate=True)]
