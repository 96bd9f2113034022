"""Which way the kernel would send a packet: policy rules, then tables, then the longest prefix (fib_lookup,
fib_table_lookup; IPv6: fib6_rule_lookup, ip6_pol_route), and which source address it would choose.

Tables are compiled when a packet is first looked up in them. A namespace whose snapshot has no local table (a hand
written one) gets it from its addresses, one without policy rules gets the kernel's three.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pathfit.core.net import Family
from pathfit.core.snapshot import Address, Link, NetnsSnapshot, NextHop, PolicyRule, Route
from pathfit.model.addr import common_bits, family_of, is_link_local, is_loopback, is_multicast, masked, number, within
from pathfit.model.network import Net

LOCAL, MAIN, DEFAULT = 255, 254, 253  # RT_TABLE_*
PERMANENT_RULES: dict[Family, tuple[PolicyRule, ...]] = {
    4: (
        PolicyRule(family=4, priority=0, table=LOCAL),
        PolicyRule(family=4, priority=32766, table=MAIN),
        PolicyRule(family=4, priority=32767, table=DEFAULT),
    ),
    6: (PolicyRule(family=6, priority=0, table=LOCAL), PolicyRule(family=6, priority=32766, table=MAIN)),
}
USUAL_TABLES: dict[Family, tuple[int, ...]] = {4: (LOCAL, MAIN, DEFAULT), 6: (LOCAL, MAIN)}
ERRORS = frozenset({"blackhole", "unreachable", "prohibit"})
DEPRECATED, TENTATIVE, SECONDARY = 0x20, 0x40, 0x01  # IFA_F_*
SCOPE_LINK = 253


class Query(NamedTuple):
    """What is looked up (struct flowi4, flowi6). ``iif`` None: made here. ``oif`` 0: any."""

    dst: str
    src: str = ""
    iif: Link | None = None
    oif: int = 0
    mark: int = 0
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0


class Found(NamedTuple):
    """The answer. ``kind``: unicast, local, broadcast, multicast, blackhole, unreachable, prohibit, none, unknown.

    ``hops`` are the usable ways of ``route``: more than one = the kernel chooses by a hash we do not know.
    """

    kind: str
    route: Route | None = None
    table: int = 0
    hops: tuple[NextHop, ...] = ()
    why: str = ""


class Fib:
    """One routing table. The first few questions look through all of its routes, as they stand; then they are sorted
    by prefix length and network number, so that a question costs no more than there are lengths."""

    __slots__ = ("asked", "bits", "levels", "routes")

    def __init__(self, family: Family, routes: Sequence[Route]) -> None:
        self.bits = 32 if family == 4 else 128
        self.routes = routes
        self.asked = 0
        self.levels: list[tuple[int, dict[int, list[Route]]]] | None = None

    def matches(self, dst: str, address: int) -> Iterable[Route]:
        """Routes that hold the address, most specific first."""
        if self.levels is not None:
            return self._sorted(self.levels, address)
        self.asked += 1
        if self.asked > OFTEN and len(self.routes) > SHORT:
            self.levels = self._levels()
        return self._scanned(dst, address)

    def _levels(self) -> list[tuple[int, dict[int, list[Route]]]]:
        by: dict[int, dict[int, list[Route]]] = {}
        for x in self.routes:
            key = masked(x.dst, x.prefix) if x.prefix else 0
            by.setdefault(x.prefix, {}).setdefault(key, []).append(x)
        for level in by.values():
            for same in level.values():
                same.sort(key=_preference)
        return sorted(by.items(), reverse=True)

    def _sorted(self, levels: list[tuple[int, dict[int, list[Route]]]], address: int) -> Iterator[Route]:
        for prefix, level in levels:
            shift = self.bits - prefix
            found = level.get(address >> shift << shift)
            if found:
                yield from found

    def _scanned(self, dst: str, address: int) -> list[Route]:
        bits, found = self.bits, []
        head = dst[: dst.find(".") + 1] if bits == 32 else ""  # "198.": so begins a route of 8 bits or more
        for x in self.routes:
            prefix = x.prefix
            if not prefix:
                found.append(x)
            elif prefix < 8 or x.dst.startswith(head):
                shift = bits - prefix
                if number(x.dst) >> shift == address >> shift:
                    found.append(x)
        if len(found) > 1:
            found.sort(key=_preference)
            found.sort(key=_length, reverse=True)
        return found


OFTEN, SHORT = 3, 8  # questions, routes: fewer are not worth sorting for


def _length(r: Route) -> int:
    return r.prefix


def _preference(r: Route) -> tuple[int, int, int]:
    """Among routes to one prefix (fib_find_alias): larger TOS, then smaller metric; IPv6: longer source prefix."""
    return (-r.src_prefix, -r.tos, r.metric)


class OwnAddresses:
    """The local table the kernel keeps for its addresses (fib_add_ifaddr, addrconf), where a snapshot has none."""

    __slots__ = ("family", "snap")

    def __init__(self, snap: NetnsSnapshot, family: Family) -> None:
        self.snap, self.family = snap, family

    def matches(self, dst: str, address: int) -> list[Route]:
        """As :meth:`Fib.matches`."""
        found = [
            self._route(dst, 32 if self.family == 4 else 128, x.link) for x in self.snap.addresses if x.address == dst
        ]
        if self.family == 4 and address >> 24 == 127:
            found += [self._route("127.0.0.0", 8, x.index) for x in self.snap.links if x.loopback][:1]
        return found

    def _route(self, dst: str, prefix: int, link: int) -> Route:
        return Route(
            family=self.family, table=LOCAL, dst=dst, prefix=prefix, hops=(NextHop(link=link),), type="local"
        )  # fmt: skip


def _fib(net: Net, family: Family, table: int) -> Fib | OwnAddresses:
    key = (family, table)
    found = net.fibs.get(key)
    if not isinstance(found, Fib | OwnAddresses):
        routes = net.routes(family, table)
        found = OwnAddresses(net.snap, family) if table == LOCAL and not routes else Fib(family, routes)
        net.fibs[key] = found
    return found


def _in_range(port: int, bounds: tuple[int, int] | None) -> bool:
    return bounds is None or bounds[0] <= port <= bounds[1]


def _selects(rule: PolicyRule, q: Query, oif: str) -> bool | None:
    """Does the rule apply (fib_rule_match, fib4_rule_match)? None: it depends on the user who sends."""
    if rule.iif is not None and rule.iif != ("lo" if q.iif is None else q.iif.name):
        return rule.invert
    if rule.oif is not None and rule.oif != oif:
        return rule.invert
    if (rule.mark ^ q.mark) & rule.mark_mask or (rule.tos and rule.tos != q.tos):
        return rule.invert
    if rule.src_prefix and not (q.src and within(q.src, rule.src, rule.src_prefix)):
        return rule.invert
    if rule.dst_prefix and not within(q.dst, rule.dst, rule.dst_prefix):
        return rule.invert
    if (rule.proto and rule.proto != q.proto) or not (
        _in_range(q.sport, rule.sport) and _in_range(q.dport, rule.dport)
    ):
        return rule.invert
    if rule.uid is not None and rule.uid != (0, 0xFFFFFFFF):
        return None if q.iif is None else rule.invert
    return not rule.invert


def _usable(net: Net, route: Route, q: Query) -> tuple[NextHop, ...]:
    """Ways that are not dead (fib_lookup_good_nhc); with ``oif`` only those that leave by it."""
    if len(route.hops) == 1:
        hop = route.hops[0]
        if not hop.dead and (not q.oif or hop.link == q.oif):
            return route.hops
        return ()
    found = []
    for hop in route.hops:
        if hop.dead or (q.oif and hop.link != q.oif):
            continue
        link = net.links.get(hop.link)
        name = f"{'ipv4' if route.family == 4 else 'ipv6'}.conf.{link.name if link else ''}"
        if link and not link.carrier and net.sysctl(f"{name}.ignore_routes_with_linkdown"):
            continue
        found.append(hop)
    return tuple(found)


def _in_table(net: Net, family: Family, table: int, q: Query, address: int) -> Found | None:
    """Longest prefix; None: go on with the next rule (nothing there, or a throw route)."""
    fib: Any = net.fibs.get((family, table)) or _fib(net, family, table)
    for route in fib.matches(q.dst, address):
        if route.tos and route.tos != q.tos:
            continue
        if route.src_prefix and not (q.src and within(q.src, route.src, route.src_prefix)):
            continue
        if route.type == "throw":
            return None
        if route.type in ERRORS:
            return Found(route.type, route, table)
        hops = _usable(net, route, q)
        if hops or not route.hops:
            return Found(route.type, route, table, hops)
    return None


def lookup(net: Net, q: Query) -> Found:
    """The route for a packet. Never raises; ``unknown`` when it depends on what a snapshot does not tell."""
    dst = q.dst
    family: Family = 6 if ":" in dst else 4
    if net.has_vrf:
        return Found("unknown", why="VRF devices are not modelled")
    try:
        address = number(dst)
    except ValueError:
        return Found("unknown", why=f"{dst} is no address")
    if is_multicast(dst):
        return Found("multicast")
    if family == 6 and is_link_local(dst) and not q.oif and q.iif is None:
        return Found("unknown", why=f"{dst} needs a link")
    rules = net.rules(family)
    if not rules or rules == PERMANENT_RULES[family]:  # as good as everywhere
        return _usual(net, family, q, address)
    return _by_rules(net, rules, family, q, address)


def _usual(net: Net, family: Family, q: Query, address: int) -> Found:
    """By the kernel's own rules. They look at nothing but addresses, and the same are asked for again and again."""
    key = (q.dst, q.src, q.oif, q.tos)
    known = net.found.get(key)
    if isinstance(known, Found):
        return known
    for table in USUAL_TABLES[family]:
        found = _in_table(net, family, table, q, address)
        if found:
            break
    else:
        found = Found("none", why=f"no route to {q.dst}")
    if len(net.found) >= KEPT:
        net.found.clear()
    net.found[key] = found
    return found


KEPT = 4096  # answers a namespace remembers


def _by_rules(net: Net, rules: Sequence[PolicyRule], family: Family, q: Query, address: int) -> Found:
    """The first rule whose table has an answer (fib_rules_lookup)."""
    oif = net.links[q.oif].name if q.oif in net.links else ""
    skip_to = 0
    for rule in rules:
        applies = rule.priority >= skip_to and _selects(rule, q, oif)
        if applies is None:
            return Found("unknown", why=f"policy rule {rule.priority} depends on the sender's uid")
        if not applies or rule.action == "nop":
            continue
        if rule.action == "goto":
            skip_to = rule.goto
        elif rule.action in ERRORS:
            return Found(rule.action, table=rule.table, why=f"policy rule {rule.priority}")
        elif rule.action != "lookup":
            return Found("unknown", why=f"policy rule {rule.priority}: {rule.action}")
        else:
            found = _in_table(net, family, rule.table, q, address)
            if found and not _suppressed(rule, found):
                return found
    return Found("none", why=f"no route to {q.dst}")


def _suppressed(rule: PolicyRule, found: Found) -> bool:
    """`suppress_prefixlength` (fib4_rule_suppress): a route no longer than that does not count."""
    prefix = found.route.prefix if found.route else 0
    return rule.suppress_prefix is not None and rule.suppress_prefix >= 0 and prefix <= rule.suppress_prefix


def _candidates(net: Net, family: Family, link: int) -> list[Address]:
    return [x for x in net.on_link.get(link, ()) if family_of(x.address) == family and not x.tentative]


def source_address(net: Net, found: Found, hop: NextHop | None, dst: str) -> str | None:
    """The address the kernel writes as source (fib_result_prefsrc, inet_select_addr; IPv6: ipv6_dev_get_saddr).

    None: it has none to give.
    """
    family = family_of(dst)
    if found.kind == "local":
        return dst
    if found.route and found.route.prefsrc:
        return found.route.prefsrc
    if hop is None:
        return None
    return _choose4(net, hop, dst) if family == 4 else _choose6(net, hop, dst)


def _choose4(net: Net, hop: NextHop, dst: str) -> str | None:
    near = hop.via if hop.via and ":" not in hop.via else dst
    here = [x for x in _candidates(net, 4, hop.link) if x.scope <= SCOPE_LINK]
    for x in here:  # inet_select_addr: the first primary one whose subnet holds the gateway, else the first
        if not x.flags & SECONDARY and within(near, x.peer or x.address, x.prefix):
            return x.address
    for x in here:
        if not x.flags & SECONDARY:
            return x.address
    for x in net.snap.addresses:  # then any other device's
        if ":" not in x.address and x.scope < SCOPE_LINK and not is_loopback(x.address):
            return x.address
    return None


def _choose6(net: Net, hop: NextHop, dst: str) -> str | None:
    """RFC 6724, as far as one host's addresses need it: scope, deprecated, own link, longest common prefix."""
    local = is_link_local(dst)
    all_of = [x for x in net.snap.addresses if ":" in x.address and not x.tentative and not is_loopback(x.address)]
    usable = [x for x in all_of if x.link == hop.link or not is_link_local(x.address)]
    if not usable:
        return None

    def rank(x: Address) -> tuple[bool, bool, bool, int]:
        fits = is_link_local(x.address) == local
        return (fits, not x.flags & DEPRECATED, x.link == hop.link, common_bits(x.address, dst))

    return max(usable, key=rank).address


def inet_select(net: Net, link: int, near: str) -> str | None:
    """The address a MASQUERADE on ``link`` gives (inet_select_addr towards the next hop; nf_nat_masquerade)."""
    hop = NextHop(link=link, via=near)
    return _choose4(net, hop, near) if ":" not in near else _choose6(net, hop, near)


def on_purpose(route: str) -> bool:
    """Does this route say no, rather than lead somewhere? ``route``: as :func:`describe` prints it."""
    return route.startswith(tuple(ERRORS))


def describe(found: Found, net: Net) -> str:
    """The route as `ip route` prints it."""
    route = found.route
    if route is None:
        return found.why or found.kind
    prefix = route.prefix
    if not prefix:
        text = "default"
    else:
        text = route.dst if prefix == (32 if route.family == 4 else 128) else f"{route.dst}/{prefix}"
    if route.type != "unicast":
        text = f"{route.type} {text}"
    if found.hops:
        hop = found.hops[0]
        link = net.links.get(hop.link)
        if hop.via:
            text += f" via {hop.via}"
        if link:
            text += f" dev {link.name}"
    if route.metric:
        text += f" metric {route.metric}"
    if route.mtu:
        text += f" mtu lock {route.mtu}" if route.mtu_lock else f" mtu {route.mtu}"
    if route.advmss:
        text += f" advmss {route.advmss}"
    return text
