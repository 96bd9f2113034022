"""iptables-legacy: the blob of one table (getsockopt IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES) to a ``Table``.

::

    ipt_entry:  ipt_ip (84 bytes; ip6t_ip6 136) | nfcache 4 | target_offset 2 | next_offset 2 | comefrom 4 (+4 pad) |
                packets 8 | bytes 8 | matches ... | target
    match, target:  size 2 | name 29 | revision 1 | data, the whole padded to 8

A chain of one's own begins with an ERROR target that carries its name and ends with an unconditional RETURN; base
chains begin at hook_entry[] and end with their policy at underflow[]. A verdict >= 0 is the offset it jumps to
(ipt_do_table).
"""

from struct import error, pack, unpack_from

import msgspec

from pathfit.core.filters import Chain, Expr, FilterRule, Match, Opaque, Passive, Table, Verdict
from pathfit.wire.addresses import ip
from pathfit.wire.filtertext import rule_text
from pathfit.wire.nft import fields as f
from pathfit.wire.xt.matches import match, one
from pathfit.wire.xt.targets import target

INFO, ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
NAME = 32
LARGEST = 64 << 20  # bytes of one table: a number beyond this is not believed
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")

# NF_IP_PRI_* (netfilter_ipv4.h); nat differs by hook
PRIORITY = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
NAT_PRIORITY = {"prerouting": -100, "output": -100, "postrouting": 100, "input": 100}


class Info(msgspec.Struct, frozen=True):
    """struct ipt_getinfo."""

    name: str
    valid: int
    entry: tuple[int, ...]
    underflow: tuple[int, ...]
    count: int
    size: int

    def request(self) -> bytearray:
        """struct ipt_get_entries with room for the entries. Raises ValueError for an absurd size."""
        if self.size > LARGEST:
            raise ValueError(f"a table of {self.size} bytes")
        raw = bytearray(40 + self.size)
        raw[: len(self.name)] = self.name.encode()
        raw[NAME : NAME + 4] = pack("=I", self.size)
        return raw


def info_request(name: str) -> bytearray:
    """struct ipt_getinfo with the name filled in."""
    raw = bytearray(84)
    encoded = name.encode()[: NAME - 1]
    raw[: len(encoded)] = encoded
    return raw


def info(raw: bytes) -> Info:
    """The kernel's answer. Raises ValueError when it is too short."""
    if len(raw) < 84:
        raise ValueError(f"ipt_getinfo of {len(raw)} bytes")
    n = unpack_from("=I5I5III", raw, NAME)
    return Info(raw[:NAME].split(b"\0", 1)[0].decode(), n[0], n[1:6], n[6:11], n[11], n[12])


class _Entry(msgspec.Struct, frozen=True):
    at: int
    end: int
    exprs: list[Expr]
    name: str  # target name, "" = standard
    verdict: int
    goto: bool
    packets: int
    bytes_: int
    comment: str | None
    error: str | None  # chain name of an ERROR target


def table(family: str, facts: Info, blob: bytes) -> tuple[Table | None, str]:
    """A table, or None when it is empty and lets everything pass; and why it is incomplete ("" = it is complete)."""
    entries, why = _entries(family, blob[40:], facts.size)
    starts: dict[int, str] = {}
    hooks: dict[int, int] = {}
    for hook in range(5):
        if facts.valid >> hook & 1:
            hooks[facts.entry[hook]] = hook
            starts[facts.entry[hook]] = HOOKS[hook].upper()
    for e in entries:
        if e.error and e.error != "ERROR":
            starts[e.end] = e.error
    chains, seen_rules = _chains(family, facts, entries, starts, hooks)
    if not why and not seen_rules and all(c.policy == "accept" for c in chains):
        return None, ""
    return Table(family=family, name=facts.name, chains=tuple(chains), tool="iptables-legacy"), why  # type: ignore[arg-type]


def _chains(
    family: str, facts: Info, entries: list[_Entry], starts: dict[int, str], hooks: dict[int, int]
) -> tuple[list[Chain], int]:
    underflow = {facts.underflow[hook]: hook for hook in range(5) if facts.valid >> hook & 1}
    chains: list[Chain] = []
    rules: list[FilterRule] = []
    name: str | None = None
    start, total = 0, 0
    for i, e in enumerate(entries):
        if e.error is not None:
            continue
        if e.at in starts:
            name, start, rules = starts[e.at], e.at, []
        if name is None:
            continue
        last = i + 1 == len(entries) or entries[i + 1].error is not None or entries[i + 1].at in starts
        if last and (e.at in underflow or (start not in hooks and _is_return(e))):
            chains.append(_finish(facts, name, rules, hooks.get(start), e))
            name = None
            continue
        total += 1
        rules.append(_rule(family, e, starts, len(rules) + 1))
    if name is not None:
        chains.append(_finish(facts, name, rules, hooks.get(start), None))
    return chains, total


def _is_return(e: _Entry) -> bool:
    return not e.exprs and e.name == "" and e.verdict == -5


def _finish(facts: Info, name: str, rules: list[FilterRule], hook: int | None, policy: _Entry | None) -> Chain:
    at = HOOKS[hook] if hook is not None else None
    known = facts.name in ("filter", "nat", "mangle", "raw", "security")
    priority = NAT_PRIORITY.get(at or "", 0) if facts.name == "nat" else PRIORITY.get(facts.name, 0)
    if facts.name == "mangle" and at == "postrouting":
        priority = -150
    return Chain(
        name=name,
        rules=tuple(rules),
        hook=at,  # type: ignore[arg-type]
        type=facts.name if known else "filter",  # type: ignore[arg-type]
        priority=priority,
        policy="drop" if hook is not None and policy is not None and policy.verdict == -1 else "accept",
        policy_packets=policy.packets if hook is not None and policy is not None else None,
    )


def _rule(family: str, e: _Entry, starts: dict[int, str], number: int) -> FilterRule:
    exprs = list(e.exprs)
    if e.name == "":
        exprs += _standard(e, starts)
    return FilterRule(
        exprs=tuple(exprs),
        handle=number,
        comment=e.comment,
        packets=e.packets,
        bytes_=e.bytes_,
        text=rule_text(exprs, family, True),
    )


def _standard(e: _Entry, starts: dict[int, str]) -> list[Expr]:
    """A standard target: -NF_x - 1, XT_RETURN (-5), or where to jump; the next entry: no target at all."""
    v = e.verdict
    if v < 0:
        kind = {-1: "drop", -2: "accept", -4: "queue", -5: "return"}.get(v)
        return [Verdict(kind=kind)] if kind else [Opaque(what=f"verdict {v}", statement=True)]  # type: ignore[arg-type]
    if v == e.end and v not in starts:
        return []
    if v in starts:
        return [Verdict(kind="goto" if e.goto else "jump", target=starts[v])]
    return [Opaque(what=f"jump to {v}", statement=True)]


def _entries(family: str, data: bytes, size: int) -> tuple[list[_Entry], str]:
    found: list[_Entry] = []
    at, end = 0, min(size, len(data))
    try:
        while at < end:
            e = _entry(family, data, at, end)
            found.append(e)
            at = e.end
    except (error, ValueError, IndexError) as problem:
        return found, f"entry at {at} of {end}: {problem}"
    return found, "" if end == size else f"{end} bytes of {size}"


def _entry(family: str, data: bytes, at: int, end: int) -> _Entry:
    six = family == "ip6"
    head = 136 if six else 84
    target_at, next_at = unpack_from("=HH", data, at + head + 4)
    packets, bytes_ = unpack_from("=QQ", data, at + head + (16 if six else 12))
    first = head + (32 if six else 28)
    if not first <= target_at < next_at or at + next_at > end or next_at % 8:
        raise ValueError(f"offsets {target_at}, {next_at}")
    exprs, goto = _head6(data, at) if six else _head4(data, at)
    comment = None
    where = at + first
    while where < at + target_at:
        length, name, revision = _extension(data, where, at + target_at)
        for expr in match(name, revision, data[where + 32 : where + length], 6 if six else 4):
            if isinstance(expr, Passive) and expr.what.startswith("comment "):
                comment = expr.what[8:]
            elif expr not in exprs:
                exprs.append(expr)
        where += length
    length, name, revision = _extension(data, at + target_at, at + next_at)
    body = data[at + target_at + 32 : at + target_at + length]
    verdict, chain = 0, None
    if name == "":
        verdict = unpack_from("=i", body)[0]
    elif name == "ERROR":
        chain = body[:30].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    else:
        exprs += target(name, revision, body, 6 if six else 4)
    return _Entry(at, at + next_at, exprs, name, verdict, goto, packets, bytes_, comment, chain)


def _extension(data: bytes, at: int, end: int) -> tuple[int, str, int]:
    length = unpack_from("=H", data, at)[0]
    if length < 32 or at + length > end:
        raise ValueError(f"extension of {length} bytes")
    return length, data[at + 2 : at + 31].split(b"\0", 1)[0].decode("ascii", "replace"), data[at + 31]


def _head4(data: bytes, at: int) -> tuple[list[Expr], bool]:
    """struct ipt_ip."""
    proto, flags, inverted = unpack_from("=HBB", data, at + 80)
    exprs: list[Expr] = []
    _interfaces(exprs, data, at + 16, inverted)
    _address(exprs, "saddr", data[at : at + 4], data[at + 8 : at + 12], inverted & 0x08)
    _address(exprs, "daddr", data[at + 4 : at + 8], data[at + 12 : at + 16], inverted & 0x10)
    if proto:
        exprs.append(one("l4proto", str(proto), bool(inverted & 0x40)))
    if flags & 1:
        exprs.append(one("frag", "later", bool(inverted & 0x20)))
    return exprs, bool(flags & 2)


def _head6(data: bytes, at: int) -> tuple[list[Expr], bool]:
    """struct ip6t_ip6."""
    proto, _, flags, inverted = unpack_from("=HBBB", data, at + 128)
    exprs: list[Expr] = []
    _interfaces(exprs, data, at + 64, inverted)
    _address(exprs, "saddr", data[at : at + 16], data[at + 32 : at + 48], inverted & 0x08)
    _address(exprs, "daddr", data[at + 16 : at + 32], data[at + 48 : at + 64], inverted & 0x10)
    if flags & 1 and proto:
        exprs.append(one("l4proto", str(proto), bool(inverted & 0x40)))
    if flags & 2:
        exprs.append(Opaque(what="--tos"))
    return exprs, bool(flags & 4)


def _interfaces(exprs: list[Expr], data: bytes, at: int, inverted: int) -> None:
    """iniface, outiface, and their masks: a mask that covers the NUL means the whole name, otherwise a prefix."""
    for field, where, bit in (("iifname", at, 1), ("oifname", at + 16, 2)):
        raw, mask = data[where : where + 16], data[where + 32 : where + 48]
        name = raw.split(b"\0", 1)[0]
        covered = len(mask.rstrip(b"\0"))
        if covered:
            whole = name[:covered].decode("utf-8", "backslashreplace")
            exprs.append(one(field, whole if covered > len(name) else whole + "*", bool(inverted & bit)))


def _address(exprs: list[Expr], field: str, raw: bytes, mask: bytes, negate: int) -> None:
    if not any(mask):
        if negate:
            exprs.append(Match(field=field, values=()))
        return
    prefix = f.prefix_of(int.from_bytes(mask, "big"), len(mask) * 8)
    if prefix is None:
        exprs.append(Opaque(what=f"{field} {ip(raw)}/{ip(mask)}"))
    else:
        exprs.append(one(field, f"{ip(raw)}/{prefix}", bool(negate)))
