"""In which order a client tries the addresses of a name: RFC 6724 section 6, then the families in turn (RFC 8305 4).

The rules that need no more than one namespace: usable at all, scope, deprecated sources, labels, precedence, longest
prefix (IPv6 alone, as glibc does: among IPv4 addresses it would undo what a name server rotates).
"""

from collections.abc import Sequence

from pathfit.core.net import TCP
from pathfit.model.addr import common_bits, family_of, is_link_local, is_loopback, within
from pathfit.model.lookup import DEPRECATED, Query, lookup, source_address
from pathfit.model.network import Net

# RFC 6724 section 2.1, the default policy table: prefix, length, precedence, label
_POLICY = (
    ("::1", 128, 50, 0),
    ("2002::", 16, 30, 2),
    ("2001::", 32, 5, 5),
    ("fc00::", 7, 3, 13),
    ("fec0::", 10, 1, 11),
    ("3ffe::", 16, 1, 12),
    ("::", 0, 40, 1),
)
_IPV4 = (35, 4)  # ::ffff:0:0/96
_LINK, _SITE, _GLOBAL = 2, 5, 14  # RFC 4291 section 2.7
GOES = frozenset(("unicast", "local"))
UNKNOWN = "unknown"  # a lookup that hangs on what we do not know may well succeed


def order(net: Net | None, addresses: Sequence[str]) -> tuple[str, ...]:
    """``addresses`` as a client in ``net`` would try them. Without a namespace: as they came, which is how a resolver
    that stands there has sorted them."""
    if net is None:
        return tuple(dict.fromkeys(addresses))
    keys = {a: _key(net, a) for a in addresses}
    return in_turn(sorted(dict.fromkeys(addresses), key=lambda a: keys[a]))


def in_turn(addresses: Sequence[str]) -> tuple[str, ...]:
    """The families in turn, beginning with that of the first address (RFC 8305 section 4)."""
    first = family_of(addresses[0]) if addresses else 4
    one = [a for a in addresses if family_of(a) == first]
    two = [a for a in addresses if family_of(a) != first]
    mixed = [x for pair in zip(one, two, strict=False) for x in pair]
    return (*mixed, *one[len(two) :], *two[len(one) :])


def goes(net: Net, address: str) -> bool:
    """Has the namespace a way to that address, as far as we know?"""
    return lookup(net, Query(dst=address, proto=TCP)).kind in (*GOES, UNKNOWN)


def _key(net: Net, address: str) -> tuple[bool, bool, bool, bool, int, int, int]:
    """Smaller is tried first; equal ones stay as they came (rule 10)."""
    found = lookup(net, Query(dst=address, proto=TCP))
    source = source_address(net, found, found.hops[0] if found.hops else None, address) if found.kind in GOES else None
    precedence, label = _policy(address)
    scope = _scope(address)
    if source is None:  # what it would send from is not known: no rule on sources says anything
        return found.kind not in (*GOES, UNKNOWN), False, False, False, -precedence, scope, 0
    near = common_bits(source, address) if ":" in address else 0
    old = any(a.address == source and a.flags & DEPRECATED for a in net.snap.addresses)
    return False, scope != _scope(source), old, label != _policy(source)[1], -precedence, scope, -near


def _policy(address: str) -> tuple[int, int]:
    if ":" not in address:
        return _IPV4
    return next((p, label) for prefix, bits, p, label in _POLICY if within(address, prefix, bits))


def _scope(address: str) -> int:
    if is_loopback(address) or is_link_local(address) or address.startswith("169.254."):
        return _LINK
    return _SITE if ":" in address and within(address, "fec0::", 10) else _GLOBAL
