"""Addresses as numbers, fast: the model compares prefixes many times and addresses come as canonical strings."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from pathfit.core.net import Family


def family_of(address: str) -> Family:
    """4 or 6, by the way it is written."""
    return 6 if ":" in address else 4


@lru_cache(maxsize=8192)
def number(address: str) -> int:
    """The address as an integer. Raises ValueError when it is none."""
    if ":" in address:
        return int(IPv6Address(address.partition("%")[0]))
    a, b, c, d = address.split(".")
    return (int(a) << 24) | (int(b) << 16) | (int(c) << 8) | int(d)


def masked(address: str, prefix: int) -> int:
    """The network number of ``address`` for a prefix length."""
    bits = 128 if ":" in address else 32
    return number(address) >> (bits - prefix) << (bits - prefix)


def within(address: str, network: str, prefix: int) -> bool:
    """Is ``address`` in network/prefix? False for addresses of different families; prefix 0 holds everything."""
    if prefix == 0:
        return True
    if (":" in address) is not (":" in network):
        return False
    shift = (128 if ":" in address else 32) - prefix
    return number(address) >> shift == number(network) >> shift


def common_bits(a: str, b: str) -> int:
    """Length of the common prefix of two addresses of one family (RFC 6724 rule 8)."""
    bits = 128 if ":" in a else 32
    return bits - (number(a) ^ number(b)).bit_length()


def is_multicast(address: str) -> bool:
    """RFC 5771, RFC 4291: 224.0.0.0/4, ff00::/8."""
    return address.startswith(("ff", "FF")) if ":" in address else 224 <= int(address.partition(".")[0]) < 240


def is_link_local(address: str) -> bool:
    """RFC 4291: fe80::/10. IPv4 link-local addresses are routed like others and do not count here."""
    return ":" in address and number(address) >> 118 == 0x3FA


def is_global(address: str) -> bool:
    """Is it routed between networks of different owners? Not so RFC 1918, RFC 6598, RFC 4193, link-local, loopback."""
    return _is_global(address)


@lru_cache(maxsize=1024)
def _is_global(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_global


def is_loopback(address: str) -> bool:
    """127.0.0.0/8 or ::1."""
    return address == "::1" if ":" in address else address.startswith("127.")
