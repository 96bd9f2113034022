"""A classic BPF program that lets one flow through in all its forms: plain, translated, wrapped once (linux/filter.h).

::

    X = where the packet's IP header starts, behind the link layer        (a VLAN tag in front: 4)
    does it match?                                            yes -> keep
    X += what wraps it (VXLAN, Geneve, GRE, an IP header)     nothing does -> drop
    does the inner one match?                                 yes -> keep, else drop

A packet matches when both its addresses are among the given ones and one of its ports is; a later fragment has no
ports, what is neither TCP nor UDP is let through between those addresses, and an ICMP message to one of them from
anybody: who says "too big" is nobody's end. The filter may let through more than the flow, never less: whoever reads
looks again (:mod:`pathfit.wire.dissect`). What is wrapped twice is only found by its outer forms.

Pure. An instruction is (code, jump if true, jump if false, k).
"""

from collections.abc import Collection

from pathfit.wire.dissect import ETH_TAGS, ETH_TEB, GENEVE_PORT, GRE, IPIP, SIXINFOUR, VXLAN_PORTS
from pathfit.wire.packets import ICMP, ICMPV6, TCP, UDP

Instruction = tuple[int, int, int, int]
KEEP = 256  # bytes: headers of two packets, their options, and what tells one payload from another
MOST = 4096  # instructions, BPF_MAXINSNS
LDH, LDB = 0x28, 0x30  # absolute
LDWX, LDHX, LDBX = 0x40, 0x48, 0x50  # [x + k]
LDI, LDXI, LDM, LDXM, ST, TAX, TXA = 0x00, 0x01, 0x60, 0x61, 0x02, 0x07, 0x87
AND, LSH, RSH, ADD, ADDX = 0x54, 0x64, 0x74, 0x04, 0x0C
JA, JEQ, JSET, RET = 0x05, 0x15, 0x45, 0x06
_FLAGS = (15, 13, 12)  # bits of GRE's flags that mean four more bytes each: checksum, key, sequence


class _Program:
    """Lines with labels. Jumps on a condition reach 255 lines, so each has its own target nearby (:meth:`unless`)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str, str, int]] = []
        self.count = 0

    def add(self, code: int, k: int = 0, *, true: str = "", false: str = "", label: str = "") -> None:
        self.lines.append((label, code, true, false, k))

    def label(self) -> str:
        self.count += 1
        return f"_{self.count}"

    def goto(self, target: str) -> None:
        self.lines.append(("", JA, target, "", 0))

    def when(self, code: int, k: int, target: str) -> None:
        """Far jump when the condition holds."""
        past = self.label()
        self.add(code, k, false=past)
        self.goto(target)
        self.mark(past)

    def unless(self, code: int, k: int, target: str) -> None:
        past = self.label()
        self.add(code, k, true=past)
        self.goto(target)
        self.mark(past)

    def mark(self, label: str) -> None:
        """The next line has this label: a line that does nothing carries it."""
        self.lines.append((label, JA, label, "", -1))

    def resolved(self) -> list[Instruction]:
        at = {label: n for n, (label, *_) in enumerate(self.lines) if label}
        out: list[Instruction] = []
        for n, (_, code, true, false, k) in enumerate(self.lines):
            if code == JA:
                out.append((JA, 0, 0, 0 if k < 0 else at[true] - n - 1))
            else:
                out.append((code, at[true] - n - 1 if true else 0, at[false] - n - 1 if false else 0, k))
        return out


def flow(
    hosts: Collection[bytes],
    ports: Collection[int] = (),
    *,
    link: int = 14,
    keep: int = KEEP,
    vxlan: Collection[int] = VXLAN_PORTS,
) -> list[Instruction]:
    """The program for packets between ``hosts`` (addresses, 4 or 16 bytes: every form that NAT gives them) with one of
    ``ports`` (none: any). ``link``: bytes of link header, 14 for Ethernet, 0 for a tun device. Raises ValueError when
    that is more than a program can hold."""
    p = _Program()
    _start(p, link)
    _match(p, hosts, ports, link)
    _unwrap(p, link, vxlan)
    _match(p, hosts, ports, link)
    p.add(RET, 0)
    p.mark("no")
    p.add(RET, 0)
    p.mark("yes")
    p.add(RET, keep)
    code = p.resolved()
    if len(code) > MOST:
        raise ValueError(f"a filter of {len(code)} instructions, {MOST} are allowed")
    return code


def _start(p: _Program, link: int) -> None:
    """X = 0, or 4 behind a tag that still stands in the frame."""
    if link:
        p.add(LDXI, 4)
        p.add(LDH, link - 2)
        for kind in sorted(ETH_TAGS):
            p.when(JEQ, kind, "start")
    p.add(LDXI, 0)
    p.mark("start")


def _match(p: _Program, hosts: Collection[bytes], ports: Collection[int], link: int) -> None:
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


def _version(p: _Program, link: int) -> None:
    p.add(LDBX, link)
    p.add(RSH, 4)


def _addresses(
    p: _Program, hosts: list[bytes], link: int, at: tuple[int, int], icmp: tuple[int, int], other: str
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


def _equal(p: _Program, host: bytes, at: int, target: str) -> None:
    """Goes to ``target`` when the address at x + ``at`` is ``host``."""
    differs = p.label()
    for n in range(0, len(host), 4):
        p.add(LDWX, at + n)
        p.unless(JEQ, int.from_bytes(host[n : n + 4], "big"), differs)
    p.goto(target)
    p.mark(differs)


def _ports4(p: _Program, ports: Collection[int], link: int) -> None:
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


def _header4(p: _Program, link: int) -> None:
    """X += the length of the IPv4 header that starts there."""
    p.add(LDBX, link)
    p.add(AND, 15)
    p.add(LSH, 2)
    p.add(ADDX)
    p.add(TAX)


def _ports(p: _Program, ports: Collection[int], protocol: int, at: int) -> None:
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


def _unwrap(p: _Program, link: int, vxlan: Collection[int]) -> None:
    """X = where the inner IP header starts. Goes to "no" when nothing known wraps anything."""
    four, protocols = p.label(), p.label()
    _version(p, link)
    p.when(JEQ, 4, four)
    p.unless(JEQ, 6, "no")
    p.add(LDBX, link + 6)
    p.add(ST, 1)
    p.add(TXA)
    p.add(ADD, 40)
    p.add(TAX)
    p.goto(protocols)
    p.mark(four)
    p.add(LDHX, link + 6)
    p.when(JSET, 0x1FFF, "no")
    p.add(LDBX, link + 9)
    p.add(ST, 1)
    _header4(p, link)
    p.mark(protocols)
    _protocols(p, link, vxlan)


def _protocols(p: _Program, link: int, vxlan: Collection[int]) -> None:
    """X is behind the outer IP header, its protocol in M[1]."""
    udp, gre, in_vxlan, in_geneve, framed, inner = (p.label() for _ in range(6))
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


def _move(p: _Program, by: int) -> None:
    p.add(TXA)
    p.add(ADD, by)
    p.add(TAX)


def _gre(p: _Program, link: int) -> None:
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


def _inner_frame(p: _Program, link: int, inner: str) -> None:
    """X behind an inner Ethernet header, and behind one tag if it has one."""
    tagged = p.label()
    p.add(LDHX, link + 12)
    for kind in sorted(ETH_TAGS):
        p.when(JEQ, kind, tagged)
    _move(p, 14)
    p.goto(inner)
    p.mark(tagged)
    _move(p, 18)
