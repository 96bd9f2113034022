"""Addresses between their bytes and their canonical text (RFC 5952), without a socket and fast."""

from functools import lru_cache

from pathfit.core.net import Family

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10
FAMILY: dict[int, Family] = {AF_INET: 4, AF_INET6: 6}

_MAPPED = b"\0" * 10 + b"\xff\xff"


@lru_cache(maxsize=8192)
def ip(raw: bytes) -> str:
    """Four bytes are IPv4, sixteen IPv6; others raise ValueError."""
    if len(raw) == 4:
        return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"
    if len(raw) != 16:
        raise ValueError(f"an address of {len(raw)} bytes")
    words = [(raw[i] << 8) | raw[i + 1] for i in range(0, 16, 2)]
    start, length = _longest_zeros(words)
    if length < 2:
        return ":".join([f"{w:x}" for w in words])
    head = ":".join([f"{w:x}" for w in words[:start]])
    tail = ":".join([f"{w:x}" for w in words[start + length :]])
    return f"{head}::{tail}"


def _longest_zeros(words: list[int]) -> tuple[int, int]:
    """Where the first longest run of zero words begins and how long it is (RFC 5952 section 4.2)."""
    best_at = best = at = run = 0
    for i, word in enumerate(words):
        if word:
            run = 0
            continue
        if run == 0:
            at = i
        run += 1
        if run > best:
            best_at, best = at, run
    return best_at, best


def unmapped(raw: bytes) -> bytes:
    """An IPv4-mapped IPv6 address (::ffff:a.b.c.d, RFC 4291) as its four bytes: IPv4 is what travels."""
    return raw[12:16] if len(raw) == 16 and raw.startswith(_MAPPED) else raw


@lru_cache(maxsize=4096)
def mac(raw: bytes) -> str:
    """A link-layer address: "02:42:ac:11:00:02". Empty bytes give ""."""
    return raw.hex(":")
