"""Offload features of all links in one dump: ETHTOOL_MSG_FEATURES_GET (Documentation/networking/ethtool-netlink).

Features come as bits; which bit is which name comes once per kernel as a string set (ETH_SS_FEATURES). The words we
keep are few (:data:`WORDS`): those that decide whether a packet larger than a limit is made, joined or checked.
"""

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from pathfit.wire import genl
from pathfit.wire.netlink import attribute, attributes, every, inner, nested, text, u32
from pathfit.wire.pattern import Field, Pattern

FAMILY = "ethtool"
_FEATURES_GET, _STRSET_GET = 11, 1
_A_HEADER, _A_ACTIVE = 1, 4
_HEADER_INDEX, _HEADER_FLAGS = 1, 3
_COMPACT = 1
_BITSET_VALUE = 4
_STRSET_SETS, _SETS_SET, _SET_ID, _SET_STRINGS, _STRINGS_STRING, _STRING_INDEX, _STRING_VALUE = 2, 1, 1, 3, 1, 1, 2
_SS_FEATURES = 4

_U32 = Struct("=I")

# Our word: the kernel's names (net/ethtool/common.c netdev_features_strings) of which one is enough.
WORDS: dict[str, tuple[str, ...]] = {
    "tso": (
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "tx-tcp-ecn-segmentation",
        "tx-tcp-mangleid-segmentation",
    ),
    "gso": ("tx-generic-segmentation",),
    "gro": ("rx-gro",),
    "lro": ("rx-lro",),
    "tx-checksum": ("tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"),
    "rx-checksum": ("rx-checksum",),
    "ufo": ("tx-udp-fragmentation",),
    "tx-udp-segmentation": ("tx-udp-segmentation",),
    "tx-udp_tnl-segmentation": ("tx-udp_tnl-segmentation",),
    "rx-gro-hw": ("rx-gro-hw",),
}


class Active(NamedTuple):
    """The active feature bits of one link, as one number."""

    link: int
    bits: int


def names_request(family: int) -> bytes:
    """Which bit is called what. No dump: send with ``ask``."""
    wanted = nested(_SETS_SET, [attribute(_SET_ID, _U32.pack(_SS_FEATURES))])
    return genl.command(family, _STRSET_GET, nested(_A_HEADER, []) + nested(_STRSET_SETS, [wanted]))


def names(data: bytes, at: int, end: int) -> dict[str, int]:
    """Bit number by the kernel's name of the feature. Raises Malformed."""
    found: dict[str, int] = {}
    sets = attributes(data, at + genl.HEADER, end).get(_STRSET_SETS, b"")
    for _, one in every(sets, 0, len(sets)):
        about = inner(one)
        if u32(about, _SET_ID) != _SS_FEATURES:
            continue
        strings = about.get(_SET_STRINGS, b"")
        for _, entry in every(strings, 0, len(strings)):
            fields = inner(entry)
            if name := text(fields.get(_STRING_VALUE, b"")):
                found[name] = u32(fields, _STRING_INDEX)
    return found


def features_request(family: int) -> bytes:
    """The features of every link of the namespace."""
    return genl.command(family, _FEATURES_GET, nested(_A_HEADER, [attribute(_HEADER_FLAGS, _U32.pack(_COMPACT))]))


def _active(_command: int, _version: int, _reserved: int, index: int | None, value: bytes | None) -> Active:
    bits = 0
    for i, (word,) in enumerate(_U32.iter_unpack((value or b"")[: len(value or b"") & ~3])):
        bits |= word << (32 * i)
    return Active(index or 0, bits)


features: Pattern[Active] = Pattern(
    genl.HEAD, (Field((_A_HEADER, _HEADER_INDEX), "I"), Field((_A_ACTIVE, _BITSET_VALUE))), _active
)
"""One link's answer to :func:`features_request`. Raises Malformed."""


def masks(bits: Mapping[str, int]) -> dict[str, int]:
    """For each of our words the bits that make it true; words this kernel has no bit for are left out."""
    found: dict[str, int] = {}
    for word, ours in WORDS.items():
        mask = sum(1 << bits[name] for name in ours if name in bits)
        if mask:
            found[word] = mask
    return found


def words(active: int, known: Mapping[str, int]) -> dict[str, bool]:
    """Features of one link by our words. ``ufo`` is False where the kernel no longer knows it (since 4.14)."""
    return {"ufo": False, **{word: bool(active & mask) for word, mask in known.items()}}
