"""The first look of the filter for one flow: most packets that pass a tap are somebody else's, and go at once.

For frames without a tag, IPv4 headers without options: only loads at fixed places (see cbpf_code), two or three of them
for a packet between other addresses. What may be the flow's, or may carry it, gets the thorough look of
:mod:`pathfit.wire.cbpf`; what this one turns away, that one would have turned away (a test compares them). Pure.
"""

from collections.abc import Collection

from pathfit.wire.cbpf_code import ADD, AND, JEQ, JSET, LDB, LDH, LDW, RETA, RSH, Program
from pathfit.wire.dissect import ETH_IPV4, ETH_IPV6, ETH_MPLS, ETH_TAGS, GENEVE_PORT, GRE, IPIP, SIXINFOUR
from pathfit.wire.packets import EXTENSIONS, FRAGMENT, ICMP, ICMPV6, TCP, UDP


def quick(
    p: Program, hosts: Collection[bytes], ports: Collection[int], link: int, vxlan: Collection[int], *, fragments: bool
) -> None:
    """Goes to "no" with what is surely another's, to "thorough" with what needs a closer look; of the flow's own plain
    TCP over IPv4 it keeps the headers. ``fragments``: later ones may be a tunnel's."""
    four, six = p.label(), p.label()
    if link:
        p.add(LDH, link - 2)
        p.when(JEQ, ETH_IPV4, four)
        p.when(JEQ, ETH_IPV6, six)
        for kind in sorted(ETH_TAGS | ETH_MPLS):
            p.when(JEQ, kind, "thorough")
        p.goto("no")
        p.mark(four)
        p.add(LDB, link)
        p.unless(JEQ, 0x45, "thorough")
    else:
        p.add(LDB, 0)
        p.when(JEQ, 0x45, four)
        p.add(AND, 0xF0)
        p.when(JEQ, 0x60, six)
        p.goto("thorough")
        p.mark(four)
    if fragments:
        p.add(LDH, link + 6)
        p.when(JSET, 0x1FFF, "thorough")
    _quick4(p, [h for h in hosts if len(h) == 4], ports, link)
    _wraps(p, link + 9, link + 20, vxlan)
    p.mark(six)
    _quick6(p, [h for h in hosts if len(h) == 16], ports, link)
    _wraps(p, link + 6, link + 40, vxlan)


def _quick4(p: Program, hosts: list[bytes], ports: Collection[int], link: int) -> None:
    """Falls through when it is none of the flow's own, plain."""
    other = p.label()
    _one_of(p, link + 16, [int.from_bytes(h, "big") for h in hosts], other)
    p.add(LDB, link + 9)
    p.when(JEQ, ICMP, "yes")
    _one_of(p, link + 12, [int.from_bytes(h, "big") for h in hosts], other)
    if not ports:
        p.goto("thorough")
    else:
        tcp, has = p.label(), p.label()
        p.add(LDH, link + 6)
        p.when(JSET, 0x1FFF, "yes")  # a later fragment
        p.add(LDB, link + 9)
        p.when(JEQ, TCP, has)
        p.unless(JEQ, UDP, "yes")
        p.mark(has)
        for half in (20, 22):
            p.add(LDH, link + half)
            for port in sorted(set(ports)):
                p.when(JEQ, port, tcp)
        p.goto(other)
        p.mark(tcp)
        p.add(LDB, link + 9)
        p.unless(JEQ, TCP, "yes")
        p.add(LDB, link + 32)  # the length of TCP's header, in words of four bytes
        p.add(AND, 0xF0)
        p.add(RSH, 2)
        p.add(ADD, link + 20)
        p.add(RETA)
    p.mark(other)


def _quick6(p: Program, hosts: list[bytes], ports: Collection[int], link: int) -> None:
    """The last four bytes of an address tell one from nearly every other; a thorough look follows."""
    other = p.label()
    ends = sorted({int.from_bytes(h[12:], "big") for h in hosts})
    _one_of(p, link + 36, ends, other)
    p.add(LDB, link + 6)
    p.when(JEQ, ICMPV6, "thorough")
    _one_of(p, link + 20, ends, other)
    p.add(LDB, link + 6)
    if ports:
        has = p.label()
        p.when(JEQ, TCP, has)
        p.unless(JEQ, UDP, "thorough")
        p.mark(has)
        for half in (40, 42):
            p.add(LDH, link + half)
            for port in sorted(set(ports)):
                p.when(JEQ, port, "thorough")
    else:
        p.goto("thorough")
    p.mark(other)


def _one_of(p: Program, at: int, words: list[int], other: str) -> None:
    """Falls through when the word there is one of these, and goes to ``other`` when not."""
    known = p.label()
    p.add(LDW, at)
    for word in words:
        p.when(JEQ, word, known)
    p.goto(other)
    p.mark(known)


def _wraps(p: Program, protocol: int, transport: int, vxlan: Collection[int]) -> None:
    """Goes to "thorough" when something may be wrapped in there, to "no" when nothing is."""
    udp = p.label()
    p.add(LDB, protocol)
    p.when(JEQ, TCP, "no")
    p.when(JEQ, UDP, udp)
    for kind in sorted({IPIP, SIXINFOUR, GRE, FRAGMENT, *EXTENSIONS}):
        p.when(JEQ, kind, "thorough")
    p.goto("no")
    p.mark(udp)
    p.add(LDH, transport + 2)
    for port in sorted({*vxlan, GENEVE_PORT}):
        p.when(JEQ, port, "thorough")
    p.goto("no")
