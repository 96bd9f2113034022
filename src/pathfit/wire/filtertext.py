"""A rule as a person would type it, as well as the translated expressions can tell: nft style or iptables style."""

from collections.abc import Sequence

from pathfit.core.filters import (
    Choice,
    Clamp,
    Concat,
    Expr,
    Match,
    Nat,
    Opaque,
    Passive,
    Rewrite,
    SetMark,
    Untrack,
    Verdict,
)
from pathfit.core.net import endpoint

SHOWN = 5  # values of a set that are written out
_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "47": "gre", "50": "esp", "58": "ipv6-icmp", "132": "sctp"}
_NFT = {
    "saddr": "{ip} saddr", "daddr": "{ip} daddr", "sport": "{l4} sport", "dport": "{l4} dport", "ctstate": "ct state",
    "ctstatus": "ct status", "ctdir": "ct direction", "ctmark": "ct mark", "mark": "meta mark", "length": "meta length",
    "l4proto": "meta l4proto", "nfproto": "meta nfproto", "icmptype": "{icmp} type", "icmpcode": "{icmp} code",
    "tcpflags": "tcp flags", "tcpmss": "tcp option maxseg size", "tcpopt": "tcp option", "ttl": "{ip} ttl",
    "dscp": "{ip} dscp", "pkttype": "meta pkttype", "ethertype": "ether type", "skuid": "meta skuid",
    "skgid": "meta skgid", "frag": "fragment", "fragmore": "more-fragments", "df": "df", "nexthdr": "ip6 nexthdr",
    "addrtype": "fib type", "rpfilter": "reverse path", "nth": "numgen inc", "random": "numgen random",
    "hash": "hash", "limit": "limit rate",
}  # fmt: skip
_XT = {
    "iifname": "-i", "oifname": "-o", "saddr": "-s", "daddr": "-d", "sport": "--sport", "dport": "--dport",
    "l4proto": "-p", "ctstate": "-m conntrack --ctstate", "ctstatus": "-m conntrack --ctstatus",
    "ctdir": "-m conntrack --ctdir", "mark": "-m mark --mark", "ctmark": "-m connmark --mark",
    "length": "-m length --length", "icmptype": "--icmp-type", "icmpcode": "code", "tcpflags": "--tcp-flags",
    "tcpmss": "-m tcpmss --mss", "addrtype": "-m addrtype", "rpfilter": "-m rpfilter", "limit": "-m limit --limit",
    "random": "-m statistic --probability", "nth": "-m statistic --mode nth", "frag": "-f", "pkttype": "-m pkttype",
    "skuid": "-m owner --uid-owner", "skgid": "-m owner --gid-owner", "bridgeport": "-m physdev",
    "ttl": "-m ttl", "dscp": "-m dscp --dscp",
}  # fmt: skip


def rule_text(exprs: Sequence[Expr], family: str = "ip", iptables: bool = False) -> str:
    """One line for a rule. ``family`` is the table's; ``iptables`` chooses the style."""
    words = _Words(exprs, family, iptables)
    parts = [words.say(e) for e in exprs]
    return " ".join(p for p in parts if p)


class _Words:
    """What the words for a field depend on: family, protocol, and which tests need not be said."""

    def __init__(self, exprs: Sequence[Expr], family: str, iptables: bool) -> None:
        self.iptables = iptables
        matches = [e for e in exprs if isinstance(e, Match) and not e.negate and len(e.values) == 1]
        known = {m.field: m.values[0] for m in matches}
        six = family == "ip6" or known.get("nfproto") == "ipv6" or known.get("ethertype") == "0x86dd"
        proto = _PROTOCOLS.get(known.get("l4proto", ""), "")
        fields = {e.field for e in exprs if isinstance(e, Match)} | {
            name for e in exprs if isinstance(e, Concat | Choice) for name in e.fields
        }
        self.names = {"ip": "ip6" if six else "ip", "l4": proto or "th", "icmp": "icmpv6" if six else "icmp"}
        self.implied: set[str] = set()
        if not iptables:
            if fields & {"saddr", "daddr", "icmptype", "dscp", "ttl"}:
                self.implied |= {"nfproto", "ethertype"}
            if (proto in ("tcp", "udp") and fields & {"sport", "dport", "tcpflags", "tcpmss"}) or "icmptype" in fields:
                self.implied.add("l4proto")

    def field(self, name: str) -> str:
        if self.iptables:
            return _XT.get(name, name)
        return _NFT.get(name, name).format(**self.names)

    def say(self, e: Expr) -> str:
        if isinstance(e, Match):
            return self.match(e)
        if isinstance(e, Concat):
            rows = [" . ".join(row) for row in e.rows]
            return f"{' . '.join(map(self.field, e.fields))} {'!= ' if e.negate else ''}{_set(rows)}"
        if isinstance(e, Choice):
            rows = [f"{' . '.join(row)} : {self.say(a)}" for row, a in zip(e.rows, e.then, strict=False)]
            word = "vmap" if all(isinstance(a, Verdict) for a in e.then) else "map"
            return f"{' . '.join(map(self.field, e.fields))} {word} {_set(rows)}"
        if isinstance(e, Verdict):
            return self.verdict(e)
        return self.statement(e)

    def match(self, e: Match) -> str:
        if e.field in self.implied and not e.negate and len(e.values) == 1:
            return ""
        values = [self.value(e.field, v) for v in e.values]
        if self.iptables:
            return f"{'! ' if e.negate else ''}{self.field(e.field)} {','.join(values)}"
        if e.field == "ctstate":
            return f"ct state {'!= ' if e.negate else ''}{','.join(values)}"
        shown = values[0] if len(values) == 1 else _set(values)
        if e.field == "tcpflags" and len(values) == 1 and "/" in shown:
            flags, _, mask = shown.partition("/")
            if flags == "0" and e.negate:
                return f"tcp flags {mask}"
            shown = f"{flags} / {mask}"
        return f"{self.field(e.field)} {'!= ' if e.negate else ''}{shown}"

    def value(self, field: str, value: str) -> str:
        if field == "l4proto":
            return _PROTOCOLS.get(value, value)
        if field.endswith("addr") and value.endswith("/128" if ":" in value else "/32"):
            return value.rpartition("/")[0]
        if field in ("mark", "ctmark") and value.endswith("/0xffffffff"):
            return value[:-11]
        if field == "tcpflags" and self.iptables:
            flags, _, mask = value.partition("/")
            return f"{mask.upper()} {flags.upper() if flags != '0' else 'NONE'}"
        return value

    def verdict(self, e: Verdict) -> str:
        if not self.iptables:
            if e.kind == "reject":
                return f"reject with {e.reject_with}"
            return f"{e.kind} {e.target}" if e.target else e.kind
        if e.kind in ("jump", "goto"):
            return f"-{'j' if e.kind == 'jump' else 'g'} {e.target}"
        if e.kind == "reject":
            return f"-j REJECT --reject-with {e.reject_with}"
        return f"-j {e.kind.upper()}"

    def statement(self, e: Expr) -> str:
        if isinstance(e, Clamp):
            if self.iptables:
                return "-j TCPMSS " + ("--clamp-mss-to-pmtu" if e.size is None else f"--set-mss {e.size}")
            return f"tcp option maxseg size set {'rt mtu' if e.size is None else e.size}"
        if isinstance(e, Nat):
            return self.nat(e)
        if isinstance(e, SetMark):
            value = f"{e.value:#x}" + ("" if e.mask == 0xFFFFFFFF else f"/{e.mask:#x}")
            if e.source != "value":
                value = {"mark": "meta mark", "ctmark": "ct mark"}.get(e.source, "?")
                if self.iptables:
                    return f"-j CONNMARK --{'restore' if e.into == 'mark' else 'save'}-mark"
            if self.iptables:
                return f"-j {'MARK' if e.into == 'mark' else 'CONNMARK'} --set-xmark {value}"
            return f"{'meta' if e.into == 'mark' else 'ct'} mark set {value}"
        if isinstance(e, Untrack):
            return "-j CT --notrack" if self.iptables else "notrack"
        if isinstance(e, Rewrite):
            return f"{self.field(e.field)} set {e.value or '?'}"
        if isinstance(e, Passive):
            return f"-j {e.what}" if self.iptables and e.what.isupper() else e.what
        return f"[{e.what}]" if isinstance(e, Opaque) else ""

    def nat(self, e: Nat) -> str:
        to = e.lo or ""
        if e.hi and e.hi != e.lo:
            to += f"-{e.hi}"
        if e.port_lo:
            port = str(e.port_lo) if e.port_hi in (0, e.port_lo) else f"{e.port_lo}-{e.port_hi}"
            to = endpoint(to, port)
        if self.iptables:
            option = {"dnat": "--to-destination", "snat": "--to-source"}.get(e.kind, "--to-ports")
            return f"-j {e.kind.upper()}" + (f" {option} {to.lstrip(':') if e.lo is None else to}" if to else "")
        return f"{e.kind} to {to}" if to else e.kind


def _set(values: Sequence[str]) -> str:
    more = f", … {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return "{ " + ", ".join(values[:SHOWN]) + more + " }"
