"""xt targets. Each function takes (data, revision, family) and gives what is done."""

from collections.abc import Callable
from struct import error, unpack_from

from pathfit.core.filters import Clamp, Expr, Nat, Opaque, Passive, Rewrite, SetMark, Untrack, Verdict
from pathfit.wire.addresses import ip

Decoder = Callable[[bytes, int, int], list[Expr]]

_REJECT4 = (
    "icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "echo-reply",
    "icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset", "icmp-admin-prohibited",
)  # fmt: skip
_REJECT6 = (
    "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbour", "icmp6-addr-unreachable",
    "icmp6-port-unreachable", "echo-reply", "tcp-reset", "icmp6-policy-fail", "icmp6-reject-route",
)  # fmt: skip


def target(name: str, revision: int, data: bytes, family: int) -> list[Expr]:
    """What a target does. Never raises: what is not understood is an Opaque statement."""
    if name in HARMLESS:
        return [Passive(what=name)]
    decoder = TARGETS.get(name)
    if decoder is None:
        return [Opaque(what=f"-j {name}", statement=True)]
    try:
        return decoder(data, revision, family)
    except (error, IndexError, ValueError):
        return [Opaque(what=f"-j {name} (revision {revision})", statement=True)]


def tcpmss(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_tcpmss_info: 0xffff = clamp to path MTU (tcpmss_mangle_packet never raises)."""
    size = unpack_from("=H", data)[0]
    return [Clamp(size=None if size == 0xFFFF else size)]


def reject(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct ipt_reject_info, ip6t_reject_info."""
    kind, names = unpack_from("=I", data)[0], _REJECT6 if family == 6 else _REJECT4
    return [Verdict(kind="reject", reject_with=names[kind])]


def nat(kind: str, flag_only: bool = False) -> Decoder:
    """nf_nat_range2 (40 or 44 bytes: xt_DNAT 2), nf_nat_range (xt_SNAT 1), nf_nat_ipv4_multi_range_compat (0).

    Flags: 1 addresses given, 2 ports given, 64 netmap.
    """

    def decode(data: bytes, revision: int, family: int) -> list[Expr]:
        old = revision == 0 and family == 4
        if old:
            count, flags = unpack_from("=II", data)
            if count != 1:
                return [Opaque(what=f"-j {kind} with {count} ranges", statement=True)]
            lo, hi, ports = data[8:12], data[12:16], 16
        else:
            flags = unpack_from("=I", data)[0]
            size = 16 if family == 6 else 4
            lo, hi, ports = data[4 : 4 + size], data[20 : 20 + size], 36
        if flags & 64:
            return [Opaque(what=f"-j {kind} (one to one)", statement=True)]
        first, last = unpack_from(">HH", data, ports) if flags & 2 else (0, 0)
        with_address = flags & 1 and not flag_only
        return [
            Nat(
                kind=kind,  # type: ignore[arg-type]
                lo=ip(lo) if with_address else None,
                hi=ip(hi) if with_address else None,
                port_lo=first,
                port_hi=last,
            )
        ]

    return decode


def mark(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_mark_tginfo2: (mark & ~mask) ^ mark."""
    value, mask = unpack_from("=II", data)
    return [SetMark(value=value, mask=mask)]


def connmark(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_connmark_tginfo1, 2: set, save, restore; shifts are not followed."""
    value, mask, nfmask = unpack_from("=III", data)
    mode = data[12] if revision == 1 else data[14]
    shifted = revision >= 2 and data[13] != 0
    if mode == 0:
        return [SetMark(value=value, mask=mask, into="ctmark", source="unknown" if shifted else "value")]
    into, source = ("ctmark", "mark") if mode == 1 else ("mark", "ctmark")
    whole = mask == nfmask == 0xFFFFFFFF and not shifted
    return [SetMark(value=0, into=into, source=source if whole else "unknown")]  # type: ignore[arg-type]


def ct(data: bytes, revision: int, family: int) -> list[Expr]:
    """struct xt_ct_target_info: notrack, or a zone, helper, timeout."""
    flags, zone = unpack_from("=HH", data)
    if flags & 1:
        return [Untrack()]
    return [Rewrite(field="ctstate"), Passive(what=f"CT zone {zone}")] if zone or flags & ~3 else [Passive(what="CT")]


def notrack(data: bytes, revision: int, family: int) -> list[Expr]:
    """xt_NOTRACK."""
    return [Untrack()]


def queue(data: bytes, revision: int, family: int) -> list[Expr]:
    """User space decides."""
    return [Verdict(kind="queue")]


def tproxy(data: bytes, revision: int, family: int) -> list[Expr]:
    """xt_TPROXY: when a socket is found the packet is delivered here instead."""
    return [Opaque(what="-j TPROXY", statement=True)]


def rewrites(field: str) -> Decoder:
    """DSCP, TOS, TTL, HL: writes a header field."""

    def decode(data: bytes, revision: int, family: int) -> list[Expr]:
        return [Rewrite(field=field)]

    return decode


HARMLESS = frozenset(
    {"LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "SECMARK", "IDLETIMER", "LED",
     "RATEEST", "TEE", "ECN"}
)  # fmt: skip
TARGETS: dict[str, Decoder] = {
    "TCPMSS": tcpmss, "REJECT": reject, "DNAT": nat("dnat"), "SNAT": nat("snat"), "MASQUERADE": nat("masquerade", True),
    "REDIRECT": nat("redirect", True), "MARK": mark, "CONNMARK": connmark, "CT": ct, "NOTRACK": notrack,
    "NFQUEUE": queue, "QUEUE": queue, "TPROXY": tproxy, "DSCP": rewrites("dscp"), "TOS": rewrites("dscp"),
    "TTL": rewrites("ttl"), "HL": rewrites("ttl"),
    "SET": lambda data, revision, family: [Passive(what="SET (add or delete in an ipset)")],
}  # fmt: skip
