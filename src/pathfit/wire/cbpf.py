"""A classic BPF program that lets one flow through in all its forms: plain, translated, wrapped once (linux/filter.h).

::

    is it surely another's?                 yes -> drop (:mod:`pathfit.wire.cbpf_quick`)
    X = where the packet's IP header starts, behind the link layer     (tags, MPLS labels: 4 each, two at most)
    does it match?                                            yes -> keep
    is it a later fragment between two ends of a tunnel?      yes -> keep its header
    X += what wraps it (VXLAN, Geneve, GRE, an IP header)     nothing does -> drop
    does the inner one match?                                 yes -> keep, else drop

A packet matches when both its addresses are among the given ones and one of its ports is; a later fragment has no
ports, what is neither TCP nor UDP is let through between those addresses, and an ICMP message to one of them from
anybody: who says "too big" is nobody's end. A later fragment of a tunnel's packet does not show whose it is: what the
tunnel's ends send each other in fragments is let through, without its contents. The filter may let through more than
the flow, never less: whoever reads looks again (:mod:`pathfit.wire.dissect`). What is wrapped twice is only found by
its outer forms; of an outer IPv6 header's extensions the first two are passed over.

Pure.
"""

from collections.abc import Collection

from pathfit.wire.cbpf_code import (
    ADD,
    ADDX,
    AND,
    JEQ,
    JSET,
    LDB,
    LDBX,
    LDH,
    LDHX,
    LDM,
    LDWX,
    LDXI,
    LDXM,
    LSH,
    RET,
    RSH,
    ST,
    TAX,
    TXA,
    Instruction,
    Program,
)
from pathfit.wire.cbpf_quick import quick
from pathfit.wire.dissect import ETH_MPLS, ETH_TAGS, ETH_TEB, GENEVE_PORT, GRE, IPIP, SIXINFOUR, VXLAN_PORTS
from pathfit.wire.packets import EXTENSIONS, FRAGMENT, ICMP, ICMPV6, TCP, UDP

KEEP = 256  # bytes: headers of two packets, their options, and what tells one payload from another
KEEP_LATER = 48  # bytes of a later fragment of a tunnel, behind the link header: IPv6 with its fragment header
MOST = 4096  # instructions, BPF_MAXINSNS
TAGS = 2  # tags, or labels, in front of the packet
PASSED = 2  # extension headers of an outer IPv6 header that are passed over: Linux' own tunnels put one there
_FLAGS = (15, 13, 12)  # bits of GRE's flags that mean four more bytes each: checksum, key, sequence


def flow(
    hosts: Collection[bytes],
    ports: Collection[int] = (),
    *,
    link: int = 14,
    keep: int = KEEP,
    vxlan: Collection[int] = VXLAN_PORTS,
    ends: Collection[bytes] = (),
) -> list[Instruction]:
    """The program for packets between ``hosts`` (addresses, 4 or 16 bytes: every form that NAT gives them) with one of
    ``ports`` (none: any). ``link``: bytes of link header, 14 for Ethernet, 0 for a tun device; ``ends``: addresses of
    the tunnels' ends, whose later fragments are let through. Raises ValueError when that is more than a program can
    hold."""
    p = Program()
    quick(p, hosts, ports, link, vxlan, fragments=bool(ends))
    p.mark("thorough")
    _start(p, link)
    _match(p, hosts, ports, link)
    _later(p, ends, link)
    _unwrap(p, link, vxlan)
    _match(p, hosts, ports, link)
    p.add(RET, 0)
    p.mark("no")
    p.add(RET, 0)
    p.mark("later")
    p.add(RET, min(keep, link + 4 * TAGS + KEEP_LATER))
    p.mark("yes")
    p.add(RET, keep)
    code = p.resolved()
    if len(code) > MOST:
        raise ValueError(f"a filter of {len(code)} instructions, {MOST} are allowed")
    return code


def _start(p: Program, link: int) -> None:
    """X = 0, and 4 more behind each tag that still stands in the frame, and each MPLS label."""
    if link:
        labels = [p.label() for _ in range(TAGS)]
        for n in range(TAGS):
            p.add(LDXI, 4 * n)
            p.add(LDH, link - 2 + 4 * n)
            _among(p, ETH_MPLS, labels[n])
            tagged = p.label()
            _among(p, ETH_TAGS, tagged)
            p.goto("start")
            p.mark(tagged)
        p.add(LDXI, 4 * TAGS)
        p.goto("start")
        for n in range(TAGS):  # the labels behind n tags
            p.mark(labels[n])
            for more in range(n, TAGS):
                p.add(LDXI, 4 * more + 4)
                p.add(LDB, link + 4 * more + 2)
                p.when(JSET, 1, "start")
            p.goto("no")
    p.add(LDXI, 0)
    p.mark("start")


def _among(p: Program, values: Collection[int], target: str) -> None:
    for value in sorted(values):
        p.when(JEQ, value, target)


def _later(p: Program, ends: Collection[bytes], link: int) -> None:
    """Goes to "later" for a later fragment between two of ``ends``, or falls through. X stays."""
    four, six = ([h for h in ends if len(h) == size] for size in (4, 16))
    past, six_at = p.label(), p.label()
    if not ends:
        return
    _version(p, link)
    p.when(JEQ, 6, six_at)
    p.add(LDHX, link + 6)
    p.unless(JSET, 0x1FFF, past)
    _between(p, four, link, (12, 16), past)
    p.goto("later")
    p.mark(six_at)
    p.add(LDBX, link + 6)
    p.unless(JEQ, FRAGMENT, past)
    p.add(LDHX, link + 42)
    p.unless(JSET, 0xFFF8, past)
    _between(p, six, link, (8, 24), past)
    p.goto("later")
    p.mark(past)


def _between(p: Program, hosts: list[bytes], link: int, at: tuple[int, int], other: str) -> None:
    """Falls through when source and destination are both among ``hosts``."""
    for where in at:
        known = p.label()
        for host in hosts:
            _equal(p, host, link + where, known)
        p.goto(other)
        p.mark(known)


def _match(p: Program, hosts: Collection[bytes], ports: Collection[int], link: int) -> None:
    """Goes to "yes", or falls through. X stays."""
    other, six = p.label(), p.label()
    _version(p, link)
    p.when(JEQ, 6, six)
    p.unless(JEQ, 4, other)
    _addresses(p, [h for h in hosts if len(h) == 4], link, (12, 16), (link + 9, ICMP), other)
    _ports4(p, ports, link)
    p.goto(other)
    p.mark(six)
    _addresses(p, [h for h in hosts if len(h) == 16], link, (8, 24), (link + 6, ICMPV6), other)
    _ports(p, ports, link + 6, link + 40)
    p.mark(other)


def _version(p: Program, link: int) -> None:
    p.add(LDBX, link)
    p.add(RSH, 4)


def _addresses(
    p: Program, hosts: list[bytes], link: int, at: tuple[int, int], icmp: tuple[int, int], other: str
) -> None:
    """Falls through when source and destination are both among ``hosts``; ICMP to one of them is enough for "yes"."""
    source, known, told = p.label(), p.label(), p.label()
    for host in hosts:
        _equal(p, host, link + at[1], source)
    p.goto(other)
    p.mark(source)  # the destination is one of ours
    p.add(LDBX, icmp[0])
    p.when(JEQ, icmp[1], told)
    for host in hosts:
        _equal(p, host, link + at[0], known)
    p.goto(other)
    p.mark(told)
    p.goto("yes")
    p.mark(known)


def _equal(p: Program, host: bytes, at: int, target: str) -> None:
    """Goes to ``target`` when the address at x + ``at`` is ``host``."""
    differs = p.label()
    for n in range(0, len(host), 4):
        p.add(LDWX, at + n)
        p.unless(JEQ, int.from_bytes(host[n : n + 4], "big"), differs)
    p.goto(target)
    p.mark(differs)


def _ports4(p: Program, ports: Collection[int], link: int) -> None:
    """The same as :func:`_ports` behind an IPv4 header, whose length is its own word. X comes back by the scratch
    memory."""
    other, unmoved = p.label(), p.label()
    if ports:
        p.add(LDHX, link + 6)
        p.when(JSET, 0x1FFF, "yes")  # a later fragment
        p.add(LDBX, link + 9)
        p.when(JEQ, TCP, unmoved)
        p.when(JEQ, UDP, unmoved)
        p.goto("yes")
        p.mark(unmoved)
        p.add(TXA)
        p.add(ST, 0)
        _header4(p, link)
        for half in (0, 2):
            p.add(LDHX, link + half)
            for port in sorted(set(ports)):
                p.when(JEQ, port, "yes")
        p.add(LDXM, 0)
        p.goto(other)
        p.mark(other)
    else:
        p.goto("yes")


def _header4(p: Program, link: int) -> None:
    """X += the length of the IPv4 header that starts there."""
    p.add(LDBX, link)
    p.add(AND, 15)
    p.add(LSH, 2)
    p.add(ADDX)
    p.add(TAX)


def _ports(p: Program, ports: Collection[int], protocol: int, at: int) -> None:
    """Goes to "yes" when one of the ports at x + ``at`` is asked for, or the packet has none there."""
    if not ports:
        p.goto("yes")
        return
    has = p.label()
    p.add(LDBX, protocol)
    p.when(JEQ, TCP, has)
    p.when(JEQ, UDP, has)
    p.goto("yes")
    p.mark(has)
    for half in (0, 2):
        p.add(LDHX, at + half)
        for port in sorted(set(ports)):
            p.when(JEQ, port, "yes")


def _unwrap(p: Program, link: int, vxlan: Collection[int]) -> None:
    """X = where the inner IP header starts. Goes to "no" when nothing known wraps anything."""
    four, protocols = p.label(), p.label()
    _version(p, link)
    p.when(JEQ, 4, four)
    p.unless(JEQ, 6, "no")
    p.add(LDBX, link + 6)
    p.add(ST, 1)
    _move(p, 40)
    for _ in range(PASSED):
        _extension(p, link, protocols)
    p.goto(protocols)
    p.mark(four)
    p.add(LDHX, link + 6)
    p.when(JSET, 0x1FFF, "no")
    p.add(LDBX, link + 9)
    p.add(ST, 1)
    _header4(p, link)
    p.mark(protocols)
    _protocols(p, link, vxlan)


def _extension(p: Program, link: int, protocols: str) -> None:
    """X behind the extension header that stands there, what follows it in M[1]; to ``protocols`` when it is none."""
    sized, fragment, done = (p.label() for _ in range(3))
    p.add(LDM, 1)
    _among(p, EXTENSIONS, sized)
    p.when(JEQ, FRAGMENT, fragment)
    p.goto(protocols)
    p.mark(fragment)
    p.add(LDHX, link + 2)
    p.when(JSET, 0xFFF8, "no")  # a later one
    p.add(LDBX, link)
    p.add(ST, 1)
    _move(p, 8)
    p.goto(done)
    p.mark(sized)
    p.add(LDBX, link)
    p.add(ST, 1)
    p.add(LDBX, link + 1)
    p.add(LSH, 3)
    p.add(ADDX)
    p.add(ADD, 8)
    p.add(TAX)
    p.mark(done)


def _protocols(p: Program, link: int, vxlan: Collection[int]) -> None:
    """X is behind the outer IP header, its protocol in M[1]."""
    udp, gre, in_vxlan, in_plain, in_geneve, framed, inner = (p.label() for _ in range(7))
    p.add(LDM, 1)
    p.when(JEQ, UDP, udp)
    p.when(JEQ, GRE, gre)
    p.when(JEQ, IPIP, inner)
    p.unless(JEQ, SIXINFOUR, "no")
    p.goto(inner)
    p.mark(udp)
    p.add(LDHX, link + 2)
    for port in sorted(set(vxlan)):
        p.when(JEQ, port, in_vxlan)
    p.when(JEQ, GENEVE_PORT, in_geneve)
    p.goto("no")
    p.mark(in_vxlan)
    p.add(LDBX, link + 8)
    p.unless(JSET, 0x04, in_plain)  # VXLAN-GPE: what is next is said
    p.add(LDBX, link + 11)
    p.when(JEQ, 3, in_plain)
    _move(p, 16)
    p.goto(inner)
    p.mark(in_plain)
    _move(p, 16)
    p.goto(framed)
    p.mark(in_geneve)
    p.add(LDHX, link + 10)
    p.add(ST, 2)
    p.add(LDBX, link + 8)
    p.add(AND, 0x3F)
    p.add(LSH, 2)
    p.add(ADDX)
    p.add(ADD, 16)
    p.add(TAX)
    p.add(LDM, 2)
    p.when(JEQ, ETH_TEB, framed)
    p.goto(inner)
    p.mark(gre)
    _gre(p, link)
    p.add(LDM, 2)
    p.when(JEQ, ETH_TEB, framed)
    p.goto(inner)
    p.mark(framed)
    _inner_frame(p, link, inner)
    p.mark(inner)


def _move(p: Program, by: int) -> None:
    p.add(TXA)
    p.add(ADD, by)
    p.add(TAX)


def _gre(p: Program, link: int) -> None:
    """X behind the GRE header, its type in M[2]."""
    p.add(LDHX, link + 2)
    p.add(ST, 2)
    p.add(LDHX, link)
    p.add(ST, 3)
    p.add(TXA)
    p.add(ADD, 4)
    p.add(ST, 4)
    for bit in _FLAGS:
        absent = p.label()
        p.add(LDM, 3)
        p.unless(JSET, 1 << bit, absent)
        p.add(LDM, 4)
        p.add(ADD, 4)
        p.add(ST, 4)
        p.mark(absent)
    p.add(LDXM, 4)


def _inner_frame(p: Program, link: int, inner: str) -> None:
    """X behind an inner Ethernet header, and behind its tags if it has some."""
    for n in range(TAGS):
        tagged = p.label()
        p.add(LDHX, link + 12 + 4 * n)
        _among(p, ETH_TAGS, tagged)
        _move(p, 14 + 4 * n)
        p.goto(inner)
        p.mark(tagged)
    _move(p, 14 + 4 * TAGS)
