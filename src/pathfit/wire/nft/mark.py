"""A table that marks the packets of one flow, and nothing else, so that nf_tables tells what its rules do with them.

::

    table inet NAME {                                    flags owner: it goes with the socket that made it
        chain mark {
            counter limit rate ... meta nftrace set 1
            accept                                       of this table alone: others are asked all the same
        }
        chain v4at30 { @th,240,8 0x45 @th,336,32 @hosts4 ... jump mark }      a packet 30 bytes behind the outer header
        chain vxlan { @th,224,16 0x0800 jump v4at30 ... }
        chain udp { th dport @vxlan jump vxlan ... }     wrapped in a tunnel: the inner packet decides
        chain wrapped {
            icmp type @errors4      jump v4at8           an error about a packet of the flow, whoever sends it
            ...
        }
        chain plain4 { meta l4proto tcp th sport @ports jump mark ... dport, later fragments ... }
        chain prerouting { type filter hook prerouting priority -2147483648; policy accept;
            meta l4proto udp jump udp                    others' packets pass by these few rules and no more
            meta l4proto @wrapping jump wrapped
            ip saddr @hosts4 ip daddr @hosts4 jump plain4     ... IPv6 ...
        }
        chain output { the same for what this namespace sends itself }
    }

A later fragment has no ports: those of the flow's protocol between the flow's addresses are marked, whosever they are.
Packets in a tunnel are found behind VXLAN, Geneve with up to MOST_OPTIONS words of options, GRE, IPIP, SIT; one level,
when the inner header has no options, behind one VLAN tag at most. Bridged packets pass these hooks with bridge-nf only.
Pure.
"""

from collections.abc import Collection, Iterator
from itertools import product
from typing import NamedTuple

from pathfit.wire.dissect import (
    ETH_IPV4,
    ETH_IPV6,
    ETH_TEB,
    GENEVE_PORT,
    GRE,
    IPIP,
    SIXINFOUR,
    VXLAN_PORTS,
    Dissected,
    Udp,
)
from pathfit.wire.nft import write
from pathfit.wire.nft.write import EQUAL, L4PROTO, NETWORK, NFPROTO, TRANSPORT, UNEQUAL, Batch
from pathfit.wire.packets import ICMP, ICMPV6, TCP, UDP, Tcp

FIRST = -(1 << 31)  # NF_IP_PRI_FIRST: before every other rule, and before fragments are joined
PREFIX = "pathfit-trace-"
MARK = "mark"  # the chain that counts and marks
RATE, BURST = 1000, 5000  # packets that are marked: of a second, and at once (a measurement sends some thousands)
MOST_OPTIONS = 3  # words of four bytes
MOST_HOSTS, MOST_PORTS = 64, 64
ERRORS4 = (3, 4, 5, 11, 12)  # types of ICMP that quote the packet they are about (RFC 792); of ICMPv6 all below 128
TRANSPORTS = (TCP, UDP)
_HOOKS = (("prerouting", write.PREROUTING), ("output", write.LOCAL_OUT))
_GRE_FLAGS = (0x8000, 0x2000, 0x1000)  # checksum, key, sequence: four bytes each (RFC 2784, 2890)
ETH_VLAN = 0x8100
Expressions = tuple[bytes, ...]


class Flow(NamedTuple):
    """Packets between any two of ``hosts`` (4 or 16 bytes: every form that NAT gives them). ``protocol``: a number;
    ICMP stands for ICMPv6 as well; None: any, with ``ports`` TCP and UDP. ``ports``:
    one of them is the source's or the destination's; none: any. ``tunnels``: UDP ports that carry VXLAN."""

    hosts: Collection[bytes]
    protocol: int | None = None
    ports: Collection[int] = ()
    tunnels: Collection[int] = VXLAN_PORTS

    def check(self) -> None:
        """Raises ValueError for what is no flow."""
        if not self.hosts or any(len(h) not in (4, 16) for h in self.hosts):
            raise ValueError("a flow without addresses" if not self.hosts else "addresses have 4 or 16 bytes")
        if self.ports and self.protocol not in (*TRANSPORTS, None):
            raise ValueError("ports are those of TCP or UDP")
        if len(self.hosts) > MOST_HOSTS or len(self.ports) > MOST_PORTS:
            raise ValueError(f"at most {MOST_HOSTS} addresses and {MOST_PORTS} ports can be looked for")

    def holds(self, packet: Dissected) -> bool | None:
        """Is it the outer packet that belongs to the flow? None: it is not between two of its addresses, or of another
        protocol; it may hold one that does."""
        if not packet.layers:
            return None
        ip, transport = packet.layers[0].ip, packet.layers[0].transport
        if not {ip.src, ip.dst} <= set(self.hosts) or _protocol(self, ip.family) not in (None, ip.protocol):
            return None
        if not self.ports or ip.fragment:
            return True
        return bool({transport.sport, transport.dport} & set(self.ports)) if isinstance(transport, Tcp | Udp) else None

    def families(self) -> tuple[int, ...]:
        return tuple(n for n, size in ((4, 4), (6, 16)) if any(len(h) == size for h in self.hosts))


def batch(table: str, flow: Flow, rate: int = RATE, burst: int = BURST) -> bytes:
    """The transaction that makes the table. Raises ValueError for what is no flow."""
    flow.check()
    b = Batch("inet", table)
    b.table(write.OWNER)
    b.chain(MARK)
    b.rule(MARK, (write.counter(), write.limited(rate, burst), *write.traced()))
    b.rule(MARK, (write.verdict(write.ACCEPT),))
    _sets(b, flow)
    ways = [(label, rules) for label, rules in _wrapped(flow) if rules]
    for family, at in sorted({(way.family, way.at) for _, rules in (*ways, _top(flow)) for way in rules}):
        label = _label(family, at)
        b.chain(label)
        for tests in _inner(flow, family, at):
            b.rule(label, (*tests, write.verdict(write.JUMP, MARK)))
    for label, rules in ways:
        b.chain(label)
        for way in rules:
            b.rule(label, (*way.tests, write.verdict(write.JUMP, _label(way.family, way.at))))
    for label, entries in (("udp", _datagrams(flow)), ("wrapped", [(_l4(GRE), "gre")])):
        b.chain(label)
        for tests, entry in entries:
            b.rule(label, (*tests, write.verdict(write.JUMP, entry)))
    for way in _top(flow)[1]:
        b.rule("wrapped", (*way.tests, write.verdict(write.JUMP, _label(way.family, way.at))))
    for family in flow.families():
        b.chain(f"plain{family}")
        for tests in _plain(flow, family):
            b.rule(f"plain{family}", (*tests, write.verdict(write.JUMP, MARK)))
    for chain, hook in _HOOKS:
        b.chain(chain, (hook, FIRST))
        b.rule(chain, (*_l4(UDP), write.verdict(write.JUMP, "udp")))
        b.rule(chain, (write.meta(L4PROTO), write.looked_up("wrapping"), write.verdict(write.JUMP, "wrapped")))
        for family in flow.families():
            b.rule(chain, (*_between(family), write.verdict(write.JUMP, f"plain{family}")))
    return b.transaction()


class _Way(NamedTuple):
    """When ``tests`` hold, a packet of ``family`` stands ``at`` bytes behind the outer transport header's start."""

    tests: Expressions
    family: int
    at: int


def _label(family: int, at: int) -> str:
    return f"v{family}at{at}"


def _sets(b: Batch, flow: Flow) -> None:
    for label, kind, size in (("hosts4", "ipv4_addr", 4), ("hosts6", "ipv6_addr", 16)):
        if hosts := sorted({h for h in flow.hosts if len(h) == size}):
            b.set(label, kind, hosts)
    for label, ports in (("ports", flow.ports), ("vxlan", flow.tunnels)):
        if ports:
            b.set(label, "inet_service", [n.to_bytes(2, "big") for n in sorted(set(ports))])
    if 4 in flow.families():
        b.set("errors4", "icmp_type", [bytes((n,)) for n in ERRORS4])
    if flow.ports and flow.protocol is None:
        b.set("transports", "inet_proto", [bytes((n,)) for n in TRANSPORTS])
    b.set("wrapping", "inet_proto", [bytes((n,)) for n in sorted((ICMP, IPIP, SIXINFOUR, GRE, ICMPV6))])


def _protocol(flow: Flow, family: int) -> int | None:
    return ICMPV6 if flow.protocol == ICMP and family == 6 else flow.protocol


def _is(*loaded: bytes, value: int, width: int, operator: int = EQUAL) -> Expressions:
    return (*loaded, write.compared(value.to_bytes(width, "big"), operator))


def _l4(protocol: int) -> Expressions:
    return _is(write.meta(L4PROTO), value=protocol, width=1)


def _spoken(flow: Flow, family: int, loaded: bytes) -> Expressions:
    """Is the protocol the flow's? ``loaded``: where it stands."""
    if flow.ports and flow.protocol is None:
        return loaded, write.looked_up("transports")
    protocol = _protocol(flow, family)
    return _is(loaded, value=protocol, width=1) if protocol is not None else ()


def _hosts(family: int, base: int, at: int) -> Expressions:
    first, size = (12, 4) if family == 4 else (8, 16)
    label = f"hosts{family}"
    found = write.looked_up(label)
    return write.payload(base, at + first, size), found, write.payload(base, at + first + size, size), found


def _ports(flow: Flow, at: int) -> Iterator[Expressions]:
    for n in (0, 2):
        yield write.payload(TRANSPORT, at + n, 2), write.looked_up("ports")


def _between(family: int) -> Expressions:
    """Is the packet itself between two of the flow's addresses?"""
    return _is(write.meta(NFPROTO), value=2 if family == 4 else 10, width=1) + _hosts(family, NETWORK, 0)


def _plain(flow: Flow, family: int) -> Iterator[Expressions]:
    """Such a packet: nf_tables has found its transport header, behind whatever options."""
    start = _spoken(flow, family, write.meta(L4PROTO))
    if not flow.ports:
        yield start
        return
    for rule in _ports(flow, 0):  # a later fragment has no transport header and matches none of these
        yield start + rule
    if family == 4:
        later = _is(write.payload(NETWORK, 6, 2), write.masked(b"\x1f\xff"), value=0, width=2, operator=UNEQUAL)
    else:
        later = _is(write.fragment_offset(), write.masked(b"\xff\xf8"), value=0, width=2, operator=UNEQUAL)
    yield start + later


def _inner(flow: Flow, family: int, at: int) -> Iterator[Expressions]:
    """A packet whose IP header stands ``at`` bytes behind the start of the outer transport header."""
    if family == 4:
        start = _is(write.payload(TRANSPORT, at, 1), value=0x45, width=1)
        place, transport = 9, at + 20
    else:
        start = _is(write.payload(TRANSPORT, at, 1), write.masked(b"\xf0"), value=0x60, width=1)
        place, transport = 6, at + 40
    start += _hosts(family, TRANSPORT, at)
    start += _spoken(flow, family, write.payload(TRANSPORT, at + place, 1))
    if not flow.ports:
        yield start
        return
    loaded = write.payload(TRANSPORT, at + 6, 2), write.masked(b"\x1f\xff")
    whole = _is(*loaded, value=0, width=2) if family == 4 else ()
    for rule in _ports(flow, transport):
        yield start + whole + rule
    if family == 4:
        yield start + _is(*loaded, value=0, width=2, operator=UNEQUAL)


def _framed(flow: Flow, at: int) -> Iterator[_Way]:
    """Behind an Ethernet header, with a VLAN tag or without."""
    for family in flow.families():
        yield _Way(_field(at + 12, _ethertype(family)), family, at + 14)
        yield _Way(_field(at + 12, ETH_VLAN) + _field(at + 16, _ethertype(family)), family, at + 18)


def _ethertype(family: int) -> int:
    return ETH_IPV4 if family == 4 else ETH_IPV6


def _field(at: int, value: int) -> Expressions:
    """Two bytes behind the outer transport header's start."""
    return _is(write.payload(TRANSPORT, at, 2), value=value, width=2)


def _typed(flow: Flow, field: int, at: int) -> Iterator[_Way]:
    """Behind a header whose ``field`` says what follows ``at``: a frame or a packet."""
    for way in _framed(flow, at):
        yield way._replace(tests=_field(field, ETH_TEB) + way.tests)
    for family in flow.families():
        yield _Way(_field(field, _ethertype(family)), family, at)


def _datagrams(flow: Flow) -> Iterator[tuple[Expressions, str]]:
    """What of UDP leads into the chains of :func:`_wrapped`."""
    dport = write.payload(TRANSPORT, 2, 2)
    if flow.tunnels:
        yield (dport, write.looked_up("vxlan")), "vxlan"
    yield _is(dport, value=GENEVE_PORT, width=2), "geneve"


def _wrapped(flow: Flow) -> Iterator[tuple[str, list[_Way]]]:
    if flow.tunnels:
        yield "vxlan", list(_framed(flow, 16))
    geneve: list[_Way] = []
    for words in range(MOST_OPTIONS + 1):
        head = _is(write.payload(TRANSPORT, 8, 1), value=words, width=1)  # version 0 and words of options, RFC 8926
        geneve += [w._replace(tests=head + w.tests) for w in _typed(flow, 10, 16 + 4 * words)]
    yield "geneve", geneve
    gre: list[_Way] = []
    for chosen in product((0, 1), repeat=len(_GRE_FLAGS)):
        flags = sum(bit for bit, there in zip(_GRE_FLAGS, chosen, strict=True) if there)
        gre += [w._replace(tests=_field(0, flags) + w.tests) for w in _typed(flow, 2, 4 + 4 * sum(chosen))]
    yield "gre", gre


def _top(flow: Flow) -> tuple[str, list[_Way]]:
    """Packets directly behind the outer header, and those that ICMP quotes."""
    found = []
    for family in flow.families():
        found.append(_Way(_l4(IPIP if family == 4 else SIXINFOUR), family, 0))
        found.append(_Way(_error(family), family, 8))
    return "", found


def _error(family: int) -> Expressions:
    """An ICMP message that quotes a packet."""
    if family == 4:
        kind: Expressions = (write.payload(TRANSPORT, 0, 1), write.looked_up("errors4"))
        return _is(write.meta(NFPROTO), value=2, width=1) + _l4(ICMP) + kind
    kind = _is(write.payload(TRANSPORT, 0, 1), write.masked(b"\x80"), value=0, width=1)
    return _is(write.meta(NFPROTO), value=10, width=1) + _l4(ICMPV6) + kind
