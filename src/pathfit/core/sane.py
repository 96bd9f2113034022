"""Is what a file says possible at all? Shapes are the codec's business; this is about addresses and numbers.

The model reckons with them and takes them as the kernel would have given them. A file may come from anybody, so
:func:`check` looks at each of them once, before anything is believed, and names the place of the first that is none.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any

from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot, PolicyRule, Route

LARGEST = (1 << 32) - 1  # of sizes, indices, tables, marks: all are 32 bits wide
DEEPEST = 16  # devices on devices: the kernel allows 8 (MAX_NEST_DEV)
STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"})
Device = tuple[str, int]  # NetnsSnapshot.id, ifindex
MOST_LABELS = 30  # MAX_NEW_LABELS, net/mpls/internal.h
LONGEST_VALUE = 256  # characters of a sysctl


class Impossible(ValueError):
    """No kernel says that; the message says what and where in the document."""


@lru_cache(maxsize=16384)
def family(address: str) -> int:
    """4 or 6; 0 when it is no address."""
    if ":" in address:
        try:
            IPv6Address(address)
        except ValueError:
            return 0
        return 0 if "%" in address else 6
    parts = address.split(".")
    good = len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) < 4 and int(p) < 256 for p in parts)
    return 4 if good else 0


def check(host: HostSnapshot) -> None:
    """Raises Impossible."""
    circle = _circle(host)
    if circle:
        raise Impossible(f"the device {circle} lies on itself, or on too many others - at `$.namespaces`")
    for n, space in enumerate(host.namespaces):
        for where, why in _space(space):
            raise Impossible(f"{why} - at `$.namespaces[{n}].{where}`")


def _circle(host: HostSnapshot) -> str | None:
    """A device that lies on itself (a port of its own bridge, a VLAN of its own VLAN …), or under too many others. The
    kernel lets neither be made (__netdev_upper_dev_link), and a frame in it would never come to an end."""
    above: dict[Device, list[Device]] = {}
    below: dict[Device, int] = {}
    for space in host.namespaces:
        for x in space.links:
            me = (space.id, x.index)
            pairs = [(me, (space.id, x.master))] if x.master else []
            if x.kind in STACKED and x.peer and (x.peer_ns or x.peer_nsid is None):
                pairs.append(((x.peer_ns or space.id, x.peer), me))
            for lower, upper in pairs:
                above.setdefault(lower, []).append(upper)
                below[upper] = below.get(upper, 0) + 1
    level = [x for x in above if x not in below]
    for _ in range(DEEPEST):
        level = [upper for lower in level for upper in above.get(lower, ()) if _last(below, upper)]
    left = [x for x, n in below.items() if n]
    return f"{left[0][0]} index {left[0][1]}" if left else None


def _last(below: dict[Device, int], upper: Device) -> bool:
    """One device below ``upper`` is done: was it the last?"""
    below[upper] -= 1
    return not below[upper]


def _space(space: NetnsSnapshot) -> Iterator[tuple[str, str]]:
    """Everything wrong with a namespace: (place, what). What is right is passed over without a word, as fast as may be:
    a fleet has millions of them."""
    for i, link in enumerate(space.links):
        yield from _at(f"links[{i}]", _link(link)) if not _plain_link(link) else ()
    for i, x in enumerate(space.addresses):
        if not _fits(x.address, x.prefix) or (x.peer is not None and not family(x.peer)):
            yield f"addresses[{i}]", f"{_q(x.address)}/{_n(x.prefix)} is no address"
    for i, route in enumerate(space.routes):
        yield from _at(f"routes[{i}]", _route(route)) if not _plain_route(route) else ()
    for i, rule in enumerate(space.rules):
        if rule.src or rule.dst or rule.src_prefix or rule.dst_prefix:
            yield from _at(f"rules[{i}]", _rule(rule))
    yield from _learned(space)
    if max(map(len, space.sysctls.values()), default=0) > LONGEST_VALUE:
        yield "sysctls", f"a value of more than {LONGEST_VALUE} characters"


def _plain_link(x: Link) -> bool:
    """Is it right, and nothing special about it?"""
    plain = x.vxlan is None and x.wireguard is None and not x.info
    return plain and 0 <= x.index <= LARGEST and 0 <= x.mtu <= LARGEST and x.peer >= 0 and x.master >= 0


def _plain_route(x: Route) -> bool:
    return (
        (family(x.dst) == x.family if x.dst else not x.prefix)
        and 0 <= x.prefix <= (32 if x.family == 4 else 128)
        and not (x.src or x.src_prefix or x.mtu or x.advmss)
        and (x.prefsrc is None or family(x.prefsrc) == x.family)
        and (len(x.hops) == 0 or (len(x.hops) == 1 and (x.hops[0].via is None or family(x.hops[0].via) != 0)))
    )


def _learned(space: NetnsSnapshot) -> Iterator[tuple[str, str]]:
    for i, e in enumerate(space.exceptions):
        if family(e.dst) != e.family or not _size(e.mtu):
            yield f"exceptions[{i}]", f"{_q(e.dst)} with {_n(e.mtu)} is no path MTU"
    for i, x in enumerate(space.neighbours):
        if not family(x.address):
            yield f"neighbours[{i}].address", f"{_q(x.address)} is no address"
    for i, f in enumerate(space.fdb):
        if (f.remote is not None and not family(f.remote)) or not _size(f.remote_port) or not _size(f.remote_vni or 0):
            yield f"fdb[{i}].remote", f"{_q(str(f.remote))} is no address"
    yield from _ipsec(space)


def _ipsec(space: NetnsSnapshot) -> Iterator[tuple[str, str]]:
    for i, s in enumerate(space.xfrm_states):
        if not (family(s.src) == family(s.dst) == s.family and _size(s.icv_bits or 0)):
            yield f"xfrm_states[{i}]", f"{_q(s.src)} to {_q(s.dst)} is no association of IPv{s.family}"
    for i, p in enumerate(space.xfrm_policies):
        for address, prefix in ((p.src, p.src_prefix), (p.dst, p.dst_prefix)):
            if (address and (family(address) != p.family or not _fits(address, prefix))) or not _size(p.priority):
                yield f"xfrm_policies[{i}]", f"{_q(address)}/{_n(prefix)} is no network of IPv{p.family}"
        for t in p.templates:
            yield from _at(f"xfrm_policies[{i}].templates", _addresses(t, ("src", "dst")))


def _at(place: str, wrong: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for field, why in wrong:
        yield f"{place}.{field}", why


def _link(x: Link) -> Iterator[tuple[str, str]]:
    if not (0 <= x.index <= LARGEST and 0 <= x.mtu <= LARGEST and 0 <= x.peer <= LARGEST and 0 <= x.master <= LARGEST):
        yield "mtu" if not _size(x.mtu) else "index", "a number no device has"
    if x.vxlan is not None:
        v = x.vxlan
        yield from _numbers(v, ("vni", "lower", "port", "ttl"))
        yield from _addresses(v, ("local", "remote"))
    for name, value in x.info.items():
        if name in ("local", "remote") and value and not family(str(value)):
            yield f"info.{name}", f"{_q(str(value))} is no address"
        elif isinstance(value, int) and not -LARGEST <= value <= 1 << 64:
            yield f"info.{name}", f"{_n(value)} is out of range"
    for peer in x.wireguard.peers if x.wireguard is not None else ():
        yield from _addresses(peer, ("endpoint",))
        for text in peer.allowed:
            address, _, length = text.partition("/")
            if not (length.isascii() and length.isdigit() and len(length) < 4 and _fits(address, int(length))):
                yield "wireguard", f"{_q(text)} is no network"


def _route(x: Route) -> Iterator[tuple[str, str]]:
    bits = 32 if x.family == 4 else 128
    if not 0 <= x.prefix <= bits or ((x.dst or x.prefix) and family(x.dst) != x.family):
        yield "dst", f"{_q(x.dst)}/{_n(x.prefix)} is no network of IPv{x.family}"
    if not 0 <= x.src_prefix <= bits or ((x.src or x.src_prefix) and family(x.src) != x.family):
        yield "src", f"{_q(x.src)}/{_n(x.src_prefix)} is no network of IPv{x.family}"
    if x.mtu or x.advmss:
        yield from _numbers(x, ("mtu", "advmss"))
    if x.prefsrc is not None and family(x.prefsrc) != x.family:
        yield "prefsrc", f"{_q(x.prefsrc)} is no address of IPv{x.family}"
    for i, hop in enumerate(x.hops):
        if hop.via is not None and not family(hop.via):
            yield f"hops[{i}].via", f"{_q(hop.via)} is no address"
        if not 0 <= hop.labels <= MOST_LABELS:
            yield f"hops[{i}].labels", f"a route puts on {_n(hop.labels)} MPLS labels"


def _rule(x: PolicyRule) -> Iterator[tuple[str, str]]:
    bits = 32 if x.family == 4 else 128
    for name, address, length in (("src", x.src, x.src_prefix), ("dst", x.dst, x.dst_prefix)):
        if not 0 <= length <= bits or ((address or length) and family(address) != x.family):
            yield name, f"{_q(address)}/{_n(length)} is no network of IPv{x.family}"


def _fits(address: str, prefix: int) -> bool:
    kind = family(address)
    return bool(kind) and 0 <= prefix <= (32 if kind == 4 else 128)


def _size(number: int) -> bool:
    return 0 <= number <= LARGEST


def _numbers(value: Any, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        number = getattr(value, name)
        if number is not None and not _size(number):
            yield name, f"{_n(number)} is out of range"


def _addresses(value: Any, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        text = getattr(value, name)
        if text and not family(text):
            yield name, f"{_q(text)} is no address"


def _q(text: str) -> str:
    return repr(text[:40])


def _n(number: int) -> str:
    return str(number) if -(10**20) < number < 10**20 else "a number of many digits"
