"""Expressions that do something: verdicts, NAT, clamps, marks, reject, limit ... and those without any effect."""

import sys
from collections.abc import Callable

from pathfit.core.filters import Action, Choice, Clamp, Match, Nat, Opaque, Passive, Rewrite, SetMark, Untrack, Verdict
from pathfit.wire.addresses import ip
from pathfit.wire.nft import fields as f
from pathfit.wire.nft import machine as mc
from pathfit.wire.nft import symbols as s
from pathfit.wire.nft.loads import LOADS, payload
from pathfit.wire.nft.machine import Machine
from pathfit.wire.nft.messages import Attributes, data_of, expression, expressions, number
from pathfit.wire.xt.matches import match as xt_match
from pathfit.wire.xt.targets import target as xt_target

_REJECT4 = {
    0: "icmp-net-unreachable", 1: "icmp-host-unreachable", 2: "icmp-proto-unreachable", 3: "icmp-port-unreachable",
    9: "icmp-net-prohibited", 10: "icmp-host-prohibited", 13: "icmp-admin-prohibited",
}  # fmt: skip
_REJECT6 = {
    0: "icmp6-no-route", 1: "icmp6-adm-prohibited", 3: "icmp6-addr-unreachable", 4: "icmp6-port-unreachable",
    5: "icmp6-policy-fail", 6: "icmp6-reject-route",
}  # fmt: skip
_REJECTX = ("icmpx-no-route", "icmpx-port-unreachable", "icmpx-host-unreachable", "icmpx-admin-prohibited")


def immediate(m: Machine, a: Attributes) -> None:
    """nft_immediate_eval: a constant into a register, or a verdict."""
    raw, code_chain = data_of(a.get(2))
    if number(a.get(1)) == 0:
        m.out.append(mc.verdict(*code_chain) if code_chain else Opaque(what="immediate", statement=True))
    else:
        m.put(number(a.get(1)), s.Const(raw or b""), len(raw or b""))


def counter(m: Machine, a: Attributes) -> None:
    """nft_counter_eval."""
    m.bytes_, m.packets = number(a.get(1)), number(a.get(2))


def reject(m: Machine, a: Attributes) -> None:
    """nft_reject: type and ICMP code."""
    kind, code = number(a.get(1)), number(a.get(2))
    if kind == 1:
        word = "tcp-reset"
    elif kind == 2:
        word = _REJECTX[code] if code < len(_REJECTX) else f"icmpx code {code}"
    elif m.context.family == 6:
        word = _REJECT6.get(code, f"icmp6 code {code}")
    else:
        word = _REJECT4.get(code, f"icmp code {code}")
    m.out.append(Verdict(kind="reject", reject_with=word))


# --- values from registers --------------------------------------------------------------------------------------


def _per_row(m: Machine, registers: list[int], build: Callable[[list[bytes | None]], Action | None]) -> Action | Choice:
    """A statement whose operands are constants (one action) or come from one map (a Choice)."""
    operands = [m.part(r) if r else None for r in registers]
    mapped = next((o[0] for o in operands if o is not None and isinstance(o[0], s.Mapped)), None)

    def values(row: bytes | None) -> list[bytes | None] | None:
        found: list[bytes | None] = []
        for o in operands:
            if o is None:
                found.append(None)
            elif isinstance(o[0], s.Const):
                found.append(o[0].data[o[1] :])
            elif o[0] is mapped and row is not None:
                found.append(row[o[1] :])
            else:
                return None
        return found

    def action(row: bytes | None) -> Action:
        operands_of_row = values(row)
        done = build(operands_of_row) if operands_of_row is not None else None
        return done if done is not None else Opaque(what="a value that is not known", statement=True)

    if mapped is None:
        return action(None)
    return Choice(
        fields=mapped.fields,
        rows=mapped.rows,
        then=tuple(action(d) for d in mapped.data),
        otherwise=action(mapped.otherwise) if mapped.otherwise is not None else None,
        partial=mapped.partial,
    )


def _port(raw: bytes | None) -> int:
    return int.from_bytes(raw[:2], "big") if raw else 0


def nat(m: Machine, a: Attributes) -> None:
    """nft_nat_eval."""
    kind = "dnat" if number(a.get(1)) == 1 else "snat"
    size = 16 if number(a.get(2)) == 10 else 4
    flags = number(a.get(7))

    def build(v: list[bytes | None]) -> Action | None:
        lo, hi, port_lo, port_hi = v
        if flags & 0x40:  # NF_NAT_RANGE_NETMAP: one to one into a prefix
            return Opaque(what="netmap", statement=True)
        if (lo is not None and len(lo) < size) or (hi is not None and len(hi) < size):
            return None
        first = ip(lo[:size]) if lo is not None else None
        last = ip(hi[:size]) if hi is not None else first
        return Nat(kind=kind, lo=first, hi=last, port_lo=_port(port_lo), port_hi=_port(port_hi) or _port(port_lo))  # type: ignore[arg-type]

    registers = [number(a.get(k)) for k in (3, 4, 5, 6)]
    m.out.append(_per_row(m, registers, build))


def masq(m: Machine, a: Attributes) -> None:
    """nft_masq_ipv4_eval: source becomes the address of the way out."""
    m.out.append(_per_row(m, [number(a.get(2)), number(a.get(3))], lambda v: _ports_only("masquerade", v)))


def redir(m: Machine, a: Attributes) -> None:
    """nft_redir_ipv4_eval: destination becomes an address of this host."""
    m.out.append(_per_row(m, [number(a.get(1)), number(a.get(2))], lambda v: _ports_only("redirect", v)))


def _ports_only(kind: str, v: list[bytes | None]) -> Nat:
    return Nat(kind=kind, port_lo=_port(v[0]), port_hi=_port(v[1]) or _port(v[0]))  # type: ignore[arg-type]


# --- marks, headers ----------------------------------------------------------------------------------------------


def meta(m: Machine, a: Attributes) -> None:
    """nft_meta_set_eval when there is a source register, otherwise a load."""
    if 3 not in a:
        mc.load(m, "meta", a)
    elif number(a.get(2)) == 3:
        m.out.append(_mark(m, number(a[3]), "mark"))
    else:
        m.out.append(Passive(what="meta set"))


def ct(m: Machine, a: Attributes) -> None:
    """nft_ct_set_eval when there is a source register, otherwise a load."""
    if 4 not in a:
        mc.load(m, "ct", a)
    elif number(a.get(2)) == 3:
        m.out.append(_mark(m, number(a[4]), "ctmark"))
    elif number(a.get(2)) == 17:
        m.opaque("ct zone set", statement=False)
        m.out.append(Rewrite(field="ctstate"))
    else:
        m.out.append(Passive(what="ct set"))


def _mark(m: Machine, register: int, into: str) -> Action | Choice:
    """`meta mark set`, `ct mark set`: a constant, a map's value, the other mark, or the old one with bits changed."""
    symbol = m.get(register)
    if (
        isinstance(symbol, s.Bits)
        and len(symbol.layout) == 1
        and (name := next(iter(symbol.layout))) in ("mark", "ctmark")
    ):
        mask = symbol.mask & 0xFFFFFFFF
        if name == into:  # (old & mask) ^ xor
            return SetMark(value=symbol.xor, mask=~mask & 0xFFFFFFFF, into=into)  # type: ignore[arg-type]
        if mask == 0xFFFFFFFF and not symbol.xor:
            return SetMark(value=0, into=into, source=name)  # type: ignore[arg-type]
        return SetMark(value=0, into=into, source="unknown")  # type: ignore[arg-type]
    if isinstance(symbol, s.Const | s.Mapped):

        def build(v: list[bytes | None]) -> Action:
            raw = (v[0] or b"")[:4]
            return SetMark(value=int.from_bytes(raw, sys.byteorder), into=into)  # type: ignore[arg-type]

        return _per_row(m, [register], build)
    return SetMark(value=0, into=into, source="unknown")  # type: ignore[arg-type]


def payload_any(m: Machine, a: Attributes) -> None:
    """A load, or with a source register a write into the packet (nft_payload_set_eval)."""
    if 5 not in a:
        mc.load(m, "payload", a)
        return
    _, symbol, _ = payload({**a, 1: b"\0\0\0\0"}, m.context)
    if not isinstance(symbol, s.Bits):
        m.opaque(f"{s.describe(symbol)} set", statement=True)
        return
    value = m.get(number(a[5]))
    written, same = (1 << symbol.width) - 1, False
    if isinstance(value, s.Bits) and (value.first, value.width) == (symbol.first, symbol.width):
        same = True  # read, changed, written back: only the changed bits count
        written = (~value.mask | value.xor) & written
    touched = []
    for name, (at, width) in symbol.layout.items():
        lo, hi = max(at, symbol.first), min(at + width, symbol.first + symbol.width)
        if lo < hi and written >> (symbol.first + symbol.width - hi) & ((1 << (hi - lo)) - 1):
            touched.append(name)
    for name in touched:
        if name.startswith("ether") or name.endswith((" ecn", " checksum", " flowlabel", " id", " version")):
            m.out.append(Passive(what=f"{name} set"))
            continue
        text = None
        if isinstance(value, s.Const) and len(touched) == 1 and not same:
            raw = value.data[: symbol.width // 8]
            text = ip(raw) if name in f.ADDRESSES else str(int.from_bytes(raw, "big"))
        m.out.append(Rewrite(field=name, value=text))


def exthdr(m: Machine, a: Attributes) -> None:
    """A load, or `tcp option maxseg size set` = a clamp (nft_exthdr_tcp_set_eval)."""
    if 7 not in a:
        if number(a.get(6)) == 1 and 1 not in a:
            m.out.append(Rewrite(field=f"tcp option {number(a.get(2))}"))
            return
        mc.load(m, "exthdr", a)
        return
    kind, offset, length = number(a.get(2)), number(a.get(3)), number(a.get(4))
    if number(a.get(6)) != 1 or kind != 2 or (offset, length) != (2, 2):
        m.opaque(f"option {kind} set", statement=True)
        return
    symbol = m.get(number(a[7]))
    if isinstance(symbol, s.Unknown) and symbol.what == "rt mtu":
        m.out.append(Clamp())
    else:
        m.out.append(_per_row(m, [number(a[7])], lambda v: Clamp(size=_port(v[0]))))


# --- sometimes ---------------------------------------------------------------------------------------------------

_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}


def limit(m: Machine, a: Attributes) -> None:
    """nft_limit: matches while the rate is below (or, inverted, above) what is said."""
    unit = _UNITS.get(number(a.get(2)), f"{number(a.get(2))} s")
    over = "over " if number(a.get(5)) & 1 else ""
    what = "bytes" if number(a.get(4)) == 1 else "packets"
    text = f"{over}{number(a.get(1))} {what}/{unit} burst {number(a.get(3))}"
    m.out.append(Match(field="limit", values=(text,)))


def connlimit(m: Machine, a: Attributes) -> None:
    """nft_connlimit: how many connections there are is not known."""
    m.opaque(f"ct count {'over ' if number(a.get(2)) & 1 else ''}{number(a.get(1))}")


def quota(m: Machine, a: Attributes) -> None:
    """nft_quota."""
    m.opaque(f"quota {'over ' if number(a.get(2)) & 1 else ''}{number(a.get(1))} bytes")


_OBJECTS = {1: "counter", 3: "ct helper", 6: "tunnel", 7: "ct timeout", 8: "secmark", 9: "ct expectation"}


def objref(m: Machine, a: Attributes) -> None:
    """nft_objref: a named object. A limit may or may not match; a synproxy answers itself."""
    kind = number(a.get(1))
    name = (a.get(2) or a.get(4) or b"").rstrip(b"\0").decode("utf-8", "backslashreplace")
    if kind in _OBJECTS:
        m.out.append(Passive(what=f"{_OBJECTS[kind]} {name}"))
    elif kind == 4:
        m.out.append(Match(field="limit", values=(f"named {name}",)))
    elif kind in (2, 5):
        m.opaque(f"{'quota' if kind == 2 else 'ct count'} {name}")
    else:
        m.opaque(f"object {name}", statement=True)


def dynset(m: Machine, a: Attributes) -> None:
    """nft_dynset_eval: adds the packet's key to a set; a meter's limit decides whether it matches."""
    name = (a.get(1) or b"").rstrip(b"\0").decode("utf-8", "backslashreplace")
    inner = [expression(a[7])] if 7 in a else list(expressions(a[10])) if 10 in a else []
    m.out.append(Passive(what=f"update @{name}"))
    for e in inner:
        if e.name in ("limit", "connlimit", "quota"):
            STATEMENTS[e.name](m, e.data)
        elif e.name not in ("counter", "last"):
            m.opaque(f"{e.name} in @{name}")


# --- compat ------------------------------------------------------------------------------------------------------


def compat_match(m: Machine, a: Attributes) -> None:
    """nft_compat: an xt match of iptables-nft."""
    name = (a.get(1) or b"").rstrip(b"\0").decode("ascii", "replace")
    for expr in xt_match(name, number(a.get(2)), a.get(3, b""), m.context.family or 4):
        if expr in m.out:
            continue  # `-p tcp -m tcp`: said twice
        if isinstance(expr, Match | Opaque):
            m.test([expr])
        else:
            m.out.append(expr)


def compat_target(m: Machine, a: Attributes) -> None:
    """nft_compat: an xt target of iptables-nft."""
    name = (a.get(1) or b"").rstrip(b"\0").decode("ascii", "replace")
    m.out += xt_target(name, number(a.get(2)), a.get(3, b""), m.context.family or 4)


def passive(what: str) -> Callable[[Machine, Attributes], None]:
    """A statement without effect on the packet's way."""

    def statement(m: Machine, a: Attributes) -> None:
        m.out.append(Passive(what=what))

    return statement


def ends(kind: str) -> Callable[[Machine, Attributes], None]:
    """A statement that takes the packet away."""

    def statement(m: Machine, a: Attributes) -> None:
        m.out.append(Verdict(kind=kind))  # type: ignore[arg-type]

    return statement


def flow_offload(m: Machine, a: Attributes) -> None:
    """nft_flow_offload_eval: later packets of this connection skip the forward chains."""
    name = (a.get(1) or b"").rstrip(b"\0").decode("utf-8", "backslashreplace")
    m.out.append(Passive(what=f"flow add @{name}"))


def notrack(m: Machine, a: Attributes) -> None:
    """nft_notrack_eval."""
    m.out.append(Untrack())


def _load(name: str) -> Callable[[Machine, Attributes], None]:
    def statement(m: Machine, a: Attributes) -> None:
        mc.load(m, name, a)

    return statement


STATEMENTS: dict[str, Callable[[Machine, Attributes], None]] = {
    **{name: _load(name) for name in LOADS},
    "cmp": mc.cmp,
    "range": mc.range_,
    "bitwise": mc.bitwise,
    "byteorder": mc.byteorder,
    "lookup": mc.lookup,
    "immediate": immediate,
    "counter": counter,
    "reject": reject,
    "nat": nat,
    "masq": masq,
    "redir": redir,
    "meta": meta,
    "ct": ct,
    "payload": payload_any,
    "exthdr": exthdr,
    "limit": limit,
    "connlimit": connlimit,
    "quota": quota,
    "objref": objref,
    "dynset": dynset,
    "match": compat_match,
    "target": compat_target,
    "log": passive("log"),
    "last": passive("last used"),
    "dup": passive("dup"),
    "flow_offload": flow_offload,
    "notrack": notrack,
    "queue": ends("queue"),
    "fwd": ends("stolen"),
}
