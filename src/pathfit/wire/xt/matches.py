"""xt matches. Each function takes (data, revision, family) and gives expressions that must all hold.

Numbers are in host order, ports in xt_conntrack revision 3 too, as the structures say. A structure shorter than its
header says raises ``struct.error``, which :func:`match` turns into Opaque.
"""

from collections.abc import Callable
from struct import error, unpack_from

from pathfit.core.filters import Expr, Match, Opaque, Passive
from pathfit.core.net import ICMP, ICMPV6, TCP, UDP
from pathfit.wire.addresses import ip
from pathfit.wire.nft import fields as f

Decoder = Callable[[bytes, int, int], list[Expr]]
ANY_PORT = (0, 0xFFFF)


def match(name: str, revision: int, data: bytes, family: int) -> list[Expr]:
    """An extension's test. Never raises: what is not understood is Opaque."""
    decoder = MATCHES.get(name)
    if decoder is None:
        return [Opaque(what=f"-m {name}")]
    try:
        return decoder(data, revision, family)
    except (error, IndexError, ValueError):
        return [Opaque(what=f"-m {name} (revision {revision})")]


def span(lo: int, hi: int) -> str:
    """ "80" or "80-90"."""
    return str(lo) if lo == hi else f"{lo}-{hi}"


def one(field: str, value: str, negate: bool = False) -> Match:
    """A test of one value."""
    return Match(field=field, values=(value,), negate=negate)


def _ports(field: str, lo: int, hi: int, inverted: int) -> list[Expr]:
    """``inverted``: the bit of the port's "!", as the flags have it."""
    negate = bool(inverted)  # True, not 2: a saved case holds it as a truth value
    if (lo, hi) == ANY_PORT:
        return [Match(field=field, values=())] if negate else []
    return [one(field, span(lo, hi), negate)]


def tcp(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_tcp."""
    s0, s1, d0, d1, option, mask, value, inverted = unpack_from("=4H4B", data)
    found = [one("l4proto", str(TCP)), *_ports("sport", s0, s1, inverted & 1), *_ports("dport", d0, d1, inverted & 2)]
    if mask:
        found.append(one("tcpflags", f"{f.flags_text(value)}/{f.flags_text(mask)}", bool(inverted & 4)))
    if option == 2:
        found.append(one("tcpopt", "mss", bool(inverted & 8)))
    elif option:
        found.append(Opaque(what=f"--tcp-option {option}"))
    return found


def udp(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_udp."""
    s0, s1, d0, d1, inverted = unpack_from("=4HB", data)
    return [one("l4proto", str(UDP)), *_ports("sport", s0, s1, inverted & 1), *_ports("dport", d0, d1, inverted & 2)]


def icmp(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct ipt_icmp, ip6t_icmp: type 255 = any (ip_tables only); a range of codes."""
    kind, lo, hi, inverted = unpack_from("=4B", data)
    found: list[Expr] = [one("l4proto", str(ICMPV6 if family == 6 else ICMP))]
    if kind == 0xFF and family == 4:
        return found
    whole = (lo, hi) == (0, 0xFF)
    if inverted & 1 and not whole:
        return [*found, Opaque(what=f"! --icmp-type {kind}/{span(lo, hi)}")]
    found.append(one("icmptype", str(kind), bool(inverted & 1)))
    if not whole:
        found.append(one("icmpcode", span(lo, hi)))
    return found


def multiport(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_multiport (0), xt_multiport_v1 (1): up to 15 ports, pairs of them ranges."""
    direction, count = data[0], min(data[1], 15)
    ports = unpack_from("=15H", data, 2)
    in_range = unpack_from("=15B", data, 32) if revision >= 1 else (0,) * 15
    invert = bool(data[47]) if revision >= 1 else False
    values, i = [], 0
    while i < count:
        if in_range[i] and i + 1 < count:
            values.append(span(ports[i], ports[i + 1]))
            i += 1
        else:
            values.append(str(ports[i]))
        i += 1
    if direction > 1:
        return [Opaque(what=f"--ports {','.join(values)}")]
    return [Match(field="dport" if direction else "sport", values=tuple(values), negate=invert)]


def state(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_state_info."""
    return _states(unpack_from("=I", data)[0], False)


def _states(mask: int, negate: bool) -> list[Expr]:
    """XT_CONNTRACK_STATE_*: bits as in nft, but snat 64, dnat 128, untracked 256 (IP_CT_NUMBER is 5)."""
    names = [
        n
        for bit, n in ((1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (256, "untracked"))
        if mask & bit
    ]
    if mask & ~0x1CF:
        return [Opaque(what=f"--ctstate {mask:#x}")]
    nat = [n for bit, n in ((64, "snat"), (128, "dnat")) if mask & bit]
    if nat and names:
        return [Opaque(what=f"--ctstate {','.join(names + nat)}")]
    if nat:
        return [Match(field="ctstatus", values=tuple(nat), negate=negate)]
    return [Match(field="ctstate", values=tuple(names), negate=negate)]


_CT_ADDRESSES = ((4, "origsaddr", 0), (8, "origdaddr", 32), (16, "replsaddr", 64), (32, "repldaddr", 96))
_CT_PORTS = ((256, "origsport"), (512, "origdport"), (1024, "replsport"), (2048, "repldport"))


def conntrack(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_conntrack_mtinfo3 (and 2, 1 without port ranges)."""
    if revision not in (1, 2, 3):
        return [Opaque(what=f"-m conntrack (revision {revision})")]
    lo, hi, proto = unpack_from("=IIH", data, 128)
    ports = unpack_from("=4H" if revision == 3 else ">4H", data, 138)
    flags, inverted = unpack_from("=HH", data, 146)
    states, status = unpack_from("=BB" if revision == 1 else "=HH", data, 150)
    highs = unpack_from("=4H", data, 154) if revision == 3 else ports
    found: list[Expr] = []
    if flags & (1 | 0x2000):
        found += _states(states, bool(inverted & 1))
    if flags & 2:
        found.append(one("l4proto", str(proto), bool(inverted & 2)))
    width = 128 if family == 6 else 32
    for bit, field, at in _CT_ADDRESSES:
        if flags & bit:
            found.append(
                _masked_address(
                    field, data[at : at + width // 8], data[at + 16 : at + 16 + width // 8], bool(inverted & bit)
                )
            )
    if flags & 64:
        names = f.bits_of(status, f.CT_STATUS)
        found.append(
            Match(field="ctstatus", values=names, negate=bool(inverted & 64)) if names else Opaque(what="--ctstatus")
        )
    if flags & 128:
        found.append(Opaque(what=f"--ctexpire {span(lo, hi)}"))
    for (bit, field), port, high in zip(_CT_PORTS, ports, highs, strict=True):
        if flags & bit:
            found.append(one(field, span(port, max(port, high)), bool(inverted & bit)))
    if flags & 1 and flags & 0x1FFE and (inverted & 1 or states & 257):
        found.append(Opaque(what="-m conntrack"))  # without a connection the state alone decides (conntrack_mt)
    if flags & 4096:  # set without invert: original
        found.append(one("ctdir", "reply" if inverted & 4096 else "original"))
    return found


def _masked_address(field: str, address: bytes, mask: bytes, negate: bool) -> Expr:
    width = len(address) * 8
    prefix = f.prefix_of(int.from_bytes(mask, "big"), width)
    if prefix is None or len(address) not in (4, 16):
        return Opaque(what=f"{field} {address.hex()}/{mask.hex()}")
    return one(field, f"{ip(address)}/{prefix}", negate)


def addrtype(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_addrtype_info_v1 (1) or xt_addrtype_info (0): bit n of a mask is RTN_* n."""
    source, dest, a = unpack_from("=HHI", data)
    not_source, not_dest = (
        (bool(a & 1), bool(a & 2)) if revision >= 1 else (bool(a), bool(unpack_from("=I", data, 8)[0]))
    )
    found: list[Expr] = []
    for mask, side, negate in ((source, "src", not_source), (dest, "dst", not_dest)):
        if mask:
            values = tuple(f"{side}:{name}" for i, name in enumerate(f.ADDRESS_TYPES) if mask >> i & 1)
            found.append(Match(field="addrtype", values=values, negate=negate))
    if revision >= 1 and a & 12:  # looked up for one interface only: may differ from the plain answer
        found.append(Opaque(what=f"--limit-iface-{'in' if a & 4 else 'out'}"))
    return found


def mark(field: str) -> Decoder:
    """struct xt_mark_mtinfo1, xt_connmark_mtinfo1."""

    def decode(data: bytes, revision: int, family: int) -> list[Expr]:
        value, mask, invert = unpack_from("=IIB", data)
        if value & ~mask:
            return [Match(field=field, values=(), negate=bool(invert))]
        return [one(field, f"{value:#x}/{mask:#x}", bool(invert))]

    return decode


def statistic(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_statistic_info: probability is of 2**31; nth counts 0..every."""
    mode, flags, a = unpack_from("=HHI", data)
    inverted = bool(flags & 1)
    if mode == 0:
        probability = a / 0x80000000
        return [one("random", f"{1 - probability if inverted else probability:.6g}")]
    packet = unpack_from("=I", data, 8)[0]
    return [one("nth", f"{packet}/{a + 1}", inverted)]


def tcpmss(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_tcpmss_match_info. A packet without the option answers `invert` (tcpmss_mt)."""
    lo, hi, invert = unpack_from("=HHB", data)
    return [Match(field="tcpmss", values=(span(lo, hi),), negate=bool(invert), lenient=True)]


def length(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_length_info: IPv4 total length; IPv6 payload length + 40 (length_mt6)."""
    lo, hi, invert = unpack_from("=HHB", data)
    return [one("length", span(lo, hi), bool(invert))]


def comment(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_comment_info."""
    return [Passive(what="comment " + data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace"))]


def physdev(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_physdev_info: ports of a bridge, only with bridge-nf."""
    inverted, bitmask = data[64], data[65]
    found: list[Expr] = []
    for bit, at, side in ((1, 0, "in"), (2, 32, "out")):
        if bitmask & bit:
            name = data[at : at + 16].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            wild = not any(data[at + 16 + len(name) : at + 32])
            found.append(one("bridgeport", f"{side}:{name}{'*' if wild else ''}", bool(inverted & bit)))
    for bit, side in ((4, "bridged"), (8, "in"), (16, "out")):
        if bitmask & bit:
            value = "bridged" if bit == 4 else f"{side}:*"
            found.append(one("bridgeport", value, bool(inverted & bit)))
    return found


def rpfilter(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_rpfilter_info: INVERT 8 = matches packets that fail. Loose (1) asks another question."""
    if data[0] & ~8:
        return [Opaque(what=f"-m rpfilter (flags {data[0]})")]
    return [one("rpfilter", "failed" if data[0] & 8 else "ok")]


def iprange(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_iprange_mtinfo."""
    size = 16 if family == 6 else 4
    flags, found = data[64], list[Expr]()
    for bit, at, field in ((1, 0, "saddr"), (2, 32, "daddr")):
        if flags & bit:
            lo, hi = (int.from_bytes(data[x : x + size], "big") for x in (at, at + 16))
            found.append(one(field, f.address_range(lo, hi, size * 8), bool(flags & bit << 4)))
    return found


def limit(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_rateinfo: avg is the time between packets, in 1/10000 s."""
    average, burst = unpack_from("=II", data)
    return [one("limit", f"{10000 / average:.6g} packets/second burst {burst}" if average else "0 packets/second")]


def hashlimit(data: bytes, revision: int, family: int) -> list[Expr]:
    """A limit for each source, destination or port."""
    name = data.split(b"\0", 1)[0][:32].decode("utf-8", "backslashreplace")
    return [one("limit", f"each, table {name}")]


def pkttype(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_pkttype_info."""
    kind, invert = unpack_from("=ii", data)
    return [one("pkttype", f.PKTTYPE[kind], bool(invert))] if kind in f.PKTTYPE else [Opaque(what=f"-m pkttype {kind}")]


def owner(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_owner_match_info: a forwarded packet has no owner, `! --socket-exists` matches it."""
    u0, u1, g0, g1, wanted, inverted = unpack_from("=4I2B", data)
    found: list[Expr] = []
    if wanted & 1:
        found.append(Match(field="skuid", values=(span(u0, u1),), negate=bool(inverted & 1), lenient=True))
    if wanted & 2:
        found.append(Match(field="skgid", values=(span(g0, g1),), negate=bool(inverted & 2), lenient=True))
    if wanted & ~3:
        found.append(Opaque(what="-m owner --socket-exists"))
    return found


def dscp(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_dscp_info."""
    return [one("dscp", str(data[0]), bool(data[1]))]


def ttl(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct ipt_ttl_info, ip6t_hl_info: equal, not equal, less, greater. IPv6 counts from 0 in the same order."""
    mode, value = data[0], data[1]
    if mode in (0, 1):
        return [one("ttl", str(value), mode == 1)]
    if mode == 2:
        return [one("ttl", f"0-{value - 1}")] if value else [Match(field="ttl", values=())]
    return [one("ttl", f"{value + 1}-255")] if value < 255 else [Match(field="ttl", values=())]


def ipset(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_set_info: the set's number, how many of its parts are compared, and from which side of the packet.
    What is in it is asked for apart (observe/ipsets.py). Counters of elements (revision 3 on) are not understood."""
    index, dimensions, flags = unpack_from("=HBB", data)
    if revision == 0 or not 1 <= dimensions <= 6 or any(data[4:]) or flags & ~((2 << dimensions) - 1):
        return [Opaque(what=f"-m set (revision {revision})")]
    sides = ",".join("src" if flags & 2 << n else "dst" for n in range(dimensions))
    return [Opaque(what=f"-m set {'! ' if flags & 1 else ''}#{index} {sides}")]


MATCHES: dict[str, Decoder] = {
    "tcp": tcp, "udp": udp, "icmp": icmp, "icmp6": icmp, "multiport": multiport, "state": state,
    "conntrack": conntrack, "addrtype": addrtype, "mark": mark("mark"), "connmark": mark("ctmark"),
    "statistic": statistic, "tcpmss": tcpmss, "length": length, "comment": comment, "physdev": physdev,
    "rpfilter": rpfilter, "iprange": iprange, "limit": limit, "hashlimit": hashlimit, "pkttype": pkttype,
    "owner": owner, "dscp": dscp, "ttl": ttl, "hl": ttl, "set": ipset,
}  # fmt: skip
