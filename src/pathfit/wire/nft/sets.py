"""Elements of sets and maps: intervals closed, concatenations taken apart, written in the model's words.

A set with NFT_SET_INTERVAL over one field (rbtree) is a list of borders: an element opens a range, the next one with
NFT_SET_ELEM_INTERVAL_END closes it one below itself; a range that nothing closes goes to the end. A concatenation with
ranges (pipapo) has KEY and KEY_END in each element; each field is padded to four bytes there.
"""

from collections.abc import Iterable

import msgspec

from pathfit.core.filters import Concat, Match, Opaque
from pathfit.wire.nft import symbols as s
from pathfit.wire.nft.messages import ELEM_CATCHALL, ELEM_INTERVAL_END, SET_EVAL, SET_INTERVAL, RawElement, RawSet


class SetContent(msgspec.Struct, frozen=True):
    """A set with its elements. ``complete`` False: there are more than were read."""

    raw: RawSet
    elements: tuple[RawElement, ...]
    complete: bool = True


Span = tuple[bytes, bytes, RawElement]


class Resolved(msgspec.Struct, frozen=True):
    """Rows in the model's words, with the element each came from."""

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    elements: tuple[RawElement, ...]
    otherwise: RawElement | None
    partial: bool


def spans(content: SetContent) -> list[Span]:
    """(first key, last key, element) of every element or interval; catch-all elements are left out."""
    # By key: a hash set comes in the order of its buckets, and the same rules shall read the same every time.
    plain = sorted((e for e in content.elements if not e.flags & ELEM_CATCHALL), key=lambda e: e.key)
    if not content.raw.flags & SET_INTERVAL or any(e.key_end is not None for e in plain):
        return [(e.key, e.key_end if e.key_end is not None else e.key, e) for e in plain]
    found: list[Span] = []
    opened: RawElement | None = None
    for e in sorted(plain, key=lambda e: (e.key, not e.flags & ELEM_INTERVAL_END)):
        if opened is not None:
            found.append((opened.key, _before(e.key), opened))
        opened = None if e.flags & ELEM_INTERVAL_END else e
    if opened is not None:
        found.append((opened.key, b"\xff" * len(opened.key), opened))
    return found


def _before(key: bytes) -> bytes:
    return max(int.from_bytes(key, "big") - 1, 0).to_bytes(len(key), "big")


def pieces(symbols: Iterable[tuple[s.Symbol, int]]) -> list[tuple[s.Symbol, int, int]]:
    """Where each symbol of a concatenation lies in the key: (symbol, first byte, size)."""
    at, found = 0, []
    for symbol, size in symbols:
        found.append((symbol, at, size))
        at += (size + 3) & ~3
    return found


def resolve(content: SetContent, symbols: list[tuple[s.Symbol, int]]) -> Resolved:
    """A set as rows of the registers that are looked up in it. Rows without words make it ``partial``."""
    where = pieces(symbols)
    fields: tuple[str, ...] | None = None
    rows, elements = [], []
    partial = not content.complete or bool(content.raw.flags & SET_EVAL)
    for lo, hi, element in spans(content):
        row = _row(where, lo, hi)
        if row is None or (fields is not None and tuple(a[0] for a in row) != fields):
            partial = True
            continue
        fields = tuple(a[0] for a in row)
        rows.append(tuple(a[1] for a in row))
        elements.append(element)
    otherwise = next((e for e in content.elements if e.flags & ELEM_CATCHALL), None)
    return Resolved(fields or (), tuple(rows), tuple(elements), otherwise, partial)


def _row(where: list[tuple[s.Symbol, int, int]], lo: bytes, hi: bytes) -> list[s.Atom] | None:
    atoms: list[s.Atom] = []
    for symbol, at, size in where:
        a, b = lo[at : at + size], hi[at : at + size]
        if a == b:
            found = s.equals(symbol, a)
        else:
            one = s.between(symbol, a, b)
            found = None if one is None else [one]
        if found is None or any(negated or text == "never" for _, text, negated in found):
            return None
        atoms += found
    return atoms


def as_test(resolved: Resolved, negate: bool, what: str) -> Match | Concat | Opaque:
    """`lookup` without a destination: is the packet in the set?"""
    if resolved.otherwise is not None:
        return Opaque(what=what) if negate else Concat(fields=(), rows=((),))
    if len(resolved.fields) == 1:
        values = tuple(row[0] for row in resolved.rows)
        return Match(field=resolved.fields[0], values=values, negate=negate, partial=resolved.partial)
    if not resolved.rows and resolved.partial:
        return Opaque(what=what)
    return Concat(fields=resolved.fields, rows=resolved.rows, negate=negate, partial=resolved.partial)
