"""Packet filters in one small language, whoever wrote them (nftables, iptables-nft, iptables-legacy).

A reader (observe/) translates what the kernel holds into these values; the model (model/filters/evaluate.py) evaluates
them for one packet. What a reader does not understand it keeps as :class:`Opaque`, and the model then answers
"unknown" for packets that reach it - never "passes".

Field names of :class:`Match`:

==================  =====================================================================================
``iifname oifname`` interface names (``values`` are strings; a trailing ``*`` matches a prefix)
``iif oif``         interface indices as decimal strings
``iiftype oiftype`` ARPHRD numbers as decimal strings
``nfproto``         "ipv4" / "ipv6"
``l4proto``         protocol number as decimal string ("6")
``saddr daddr``     prefixes ("198.51.100.0/24", "2001:db8::/32"); a single address is a /32 or /128
``sport dport``     ports: "443", or a range "1000-2000"
``icmptype``        "3" (type), ``icmpcode`` "4"; the same names serve ICMPv6 (with ``nfproto``/``l4proto``)
``ctstate``         any of "invalid", "established", "related", "new", "untracked"
``ctstatus``        any of "snat", "dnat", "expected", "assured", "confirmed", "seen-reply", "dying"
``ctdir``           "original" / "reply"
``mark ctmark``     "0x10/0xff" value/mask
``length``          size of the IP packet in bytes, number or range (``meta length``, ``-m length``)
``frag``            "any": any fragment (offset or more-fragments set); "later": offset not zero
``df``              "set" / "clear"
``tcpflags``        "syn/syn,ack": value/mask by flag name (fin syn rst psh ack urg ece cwr); "0/…" = none set
``tcpmss``          value of the MSS option, number or range; ``maxseg`` the same
``ttl``             number or range
``dscp``            number
``pkttype``         "host", "broadcast", "multicast", "other"
``addrtype``        "src:local", "dst:local", … as `-m addrtype` / `fib saddr type`
``rpfilter``        "ok" / "failed" (`fib saddr . iif oif`, `-m rpfilter --invert`)
``bridgeport``      physdev names: "in:vc", "out:vc"
``ethertype``       "0x0800"
``random``          share of packets that match, decimal between 0 and 1 (numgen random, -m statistic random)
``nth``             "N/M": every M-th packet (numgen inc, -m statistic nth)
``limit``           a rate, for people; matches "sometimes"
``hash``            "N/M" or "N-K/M": a hash of the flow falls there: always the same for one flow, which is not known
``nexthdr``         first next-header number of an IPv6 packet (44 when it is a fragment)
``origsaddr``       the connection's first packet as conntrack remembers it; also ``origdaddr origsport origdport``,
                    ``replsaddr repldaddr replsport repldport`` (what an answer looks like)
``skuid skgid``     owner of the socket that sends; a forwarded packet has none and never matches
``tcpopt``          "mss": the option is present
``fragmore``        "set": the more-fragments flag
==================  =====================================================================================

``Match.values`` of addresses may also be ranges "198.51.100.1-198.51.100.9". A header that is not there (ports of
a later fragment, the MSS option of a data segment) makes the whole rule fail, negated or not: NFT_BREAK of
nft_payload_eval, `return false` in the xt matches.
"""

from typing import Literal

from pathfit.core.base import Tagged, Value

Hook = Literal["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"]


class Match(Tagged, frozen=True, kw_only=True):
    """A test of one field: true when the field is one of ``values`` (or none of them when ``negate``)."""

    field: str
    values: tuple[str, ...]
    negate: bool = False
    partial: bool = False  # the set may hold more (too large to read, filled by packets): "not in it" is not certain
    lenient: bool = False  # a packet without the field counts as "not one of them" (xt_tcpmss, xt_owner)


class Concat(Tagged, frozen=True, kw_only=True):
    """Several fields tested together (an nft concatenation): true when one row holds in every field."""

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    negate: bool = False
    partial: bool = False


class Opaque(Tagged, frozen=True, kw_only=True):
    """Something in the rule we do not understand; ``what`` names it. As a match: may or may not be true.

    ``statement``: it does something we do not know (a target, a rewrite), so anything may happen to the packet.
    """

    what: str
    statement: bool = False


class Verdict(Tagged, frozen=True, kw_only=True):
    """What ends the rule. ``queue``: user space decides, so unknown. ``target`` for jump and goto."""

    kind: Literal["accept", "drop", "reject", "jump", "goto", "return", "continue", "queue", "stolen"]
    target: str | None = None
    reject_with: str | None = None  # "tcp-reset", "icmp-port-unreachable", "icmp-admin-prohibited", ...


class Clamp(Tagged, frozen=True, kw_only=True):
    """Rewrites the MSS option of a SYN (`tcp option maxseg size set`, xt_TCPMSS).

    ``size`` bytes of MSS; None = "to path MTU" (min of the route's and the reverse route's MTU, minus headers).
    The kernel only ever lowers with xt_TCPMSS; nft `set` lowers too (nft_exthdr_tcp_set_eval: never raises).
    """

    size: int | None = None


class Nat(Tagged, frozen=True, kw_only=True):
    """Rewrites an address. ``lo``/``hi`` first and last address, ports 0 = any; None = not written by the rule."""

    kind: Literal["snat", "dnat", "masquerade", "redirect"]
    lo: str | None = None
    hi: str | None = None
    port_lo: int = 0
    port_hi: int = 0


class SetMark(Tagged, frozen=True, kw_only=True):
    """Sets a mark: (old & ~mask) ^ value. ``into`` the packet's or the connection's.

    ``source``: where the value comes from: "value" (``value``), the other mark (save and restore of CONNMARK), or
    "unknown".
    """

    value: int
    mask: int = 0xFFFFFFFF
    into: Literal["mark", "ctmark"] = "mark"
    source: Literal["value", "mark", "ctmark", "unknown"] = "value"


class Untrack(Tagged, frozen=True, kw_only=True):
    """`notrack`, `-j CT --notrack`: conntrack and NAT will not look at this packet."""


class Rewrite(Tagged, frozen=True, kw_only=True):
    """Writes a header field without conntrack (`ip dscp set`, `ip daddr set`). ``value`` None: not known."""

    field: str
    value: str | None = None


class Passive(Tagged, frozen=True, kw_only=True):
    """A statement without effect on the packet's way (counter, log, comment, ct mark)."""

    what: str


Action = Verdict | Nat | SetMark | Clamp | Passive | Opaque


class Choice(Tagged, frozen=True, kw_only=True):
    """A map decides what is done (`vmap`, `dnat to … map`). ``then`` is parallel to ``rows``; the first row that
    holds in every field counts. No row: ``otherwise`` (the set's catch-all), or the rule ends (NFT_BREAK)."""

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    then: tuple[Action, ...]
    otherwise: Action | None = None
    partial: bool = False


Expr = Match | Concat | Opaque | Verdict | Clamp | Nat | SetMark | Untrack | Rewrite | Choice | Passive


class FilterRule(Value, frozen=True, kw_only=True):
    """One rule. ``exprs`` in order; ``packets``/``bytes_`` its counter (None: it counts nothing)."""

    exprs: tuple[Expr, ...]
    handle: int = 0
    comment: str | None = None
    packets: int | None = None
    bytes_: int | None = None
    text: str = ""  # the rule as a person would type it, as well as the reader can tell


class Chain(Value, frozen=True, kw_only=True):
    """A chain. ``hook`` None: reached by jump only. ``devices`` only for netdev ingress and egress."""

    name: str
    rules: tuple[FilterRule, ...] = ()
    hook: Hook | None = None
    type: Literal["filter", "nat", "route", "mangle", "raw", "security"] = "filter"
    priority: int = 0
    policy: Literal["accept", "drop"] = "accept"
    devices: tuple[str, ...] = ()
    policy_packets: int | None = None


class Table(Value, frozen=True, kw_only=True):
    """A table. ``tool`` = which program shows it (what a person has to type)."""

    family: Literal["ip", "ip6", "inet", "arp", "bridge", "netdev"]
    name: str
    chains: tuple[Chain, ...] = ()
    tool: Literal["nft", "iptables-nft", "iptables-legacy"] = "nft"
    flowtable_devices: tuple[str, ...] = ()  # offloaded flows skip the forward chains
    dormant: bool = False  # switched off (NFT_TABLE_F_DORMANT): its chains are not called
