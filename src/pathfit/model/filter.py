"""What the packet filters of one namespace do with one packet at one hook: pure, three-valued, fast.

    index = tables_index(snapshot.tables)
    outcome = evaluate(index, "forward", Packet(flow=flow, iifname="br0", oifname="eth0", tcp_flags=("syn",), mss=1460))

How the kernel does it (net/netfilter/core.c nf_hook_slow, nf_tables_core.c nft_do_chain, nf_nat_core.c nf_nat_inet_fn):

* the base chains of a hook are called in order of priority; `drop` is final, `accept` ends only the chain that says
  it: later base chains still see the packet;
* all nat chains of a hook are called at one place (-100 or 100), only for the first packet of a connection, until one
  of them has decided; what follows in the same hook sees the translated packet;
* before priority -200 of prerouting and output, and in netdev hooks, there is no conntrack entry yet: `ct state` is
  "invalid" there (nft_ct_get_eval);
* fragments are put together at priority -400 of prerouting and output as soon as anything uses conntrack
  (nf_defrag_ipv4), so later chains never see one.

Answers: "accept", "drop", "reject" are certain. "sometimes": a share of packets is lost (dice, counters, limits):
loss, not a block. "unknown": the fate hangs on something not known or not understood; ``why`` names it. Every
branch that is possible is followed, and if all end alike, the answer is certain.
"""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.filters import Hook, Nat, Table
from pathfit.core.net import ICMP, ICMPV6, TCP, Flow, Point
from pathfit.core.path import Filtered
from pathfit.model.filter_index import Base, FilterIndex, tables_index
from pathfit.model.filter_tests import ABSENT, SIZE, SLOT, Facts, address, flag_bits
from pathfit.model.filter_values import Clamping, NatWay, Ruling
from pathfit.model.filter_walk import Walk

__all__ = [
    "Clamping", "FilterIndex", "NatWay", "Outcome", "Packet", "Ruling", "evaluate", "tables_index",
]  # fmt: skip

CtState = Literal["new", "established", "related", "invalid", "untracked"]
Layer = Literal["ip", "bridge"]
PORTS = frozenset({6, 17, 33, 132, 136})  # TCP, UDP, DCCP, SCTP, UDP-Lite


class Packet(Value, frozen=True, kw_only=True):
    """One packet as a filter sees it. None = not known (then what depends on it is unknown, never guessed).

    ``flow`` addresses, protocol, ports (of the whole packet, also for fragments), size, DF, mark.
    ``iifname`` / ``oifname``: "" = there is none; ignored where the hook has none. ``tcp_flags`` names ("syn", "ack");
    ``mss``: value of the option of a SYN, 0 = it has none. ``frag``: "first" and "later" are fragments.
    ``local``: made or received by a socket here, with owner ``uid``/``gid``. ``src_type``/``dst_type``: what kind of
    address it is here ("local", "unicast", ...). ``original`` and ``reply``: the connection's first packet before
    NAT, and what an answer looks like when it arrives. ``translated``: the flow after the NAT that conntrack already
    remembers, as chains behind it in this hook see it. ``rt_mtu``: min of the route's and the way back's MTU, for
    clamps "to path MTU".
    """

    flow: Flow
    iifname: str | None = None
    oifname: str | None = None
    iif: int | None = None
    oif: int | None = None
    iiftype: int | None = None
    oiftype: int | None = None
    bridge_in: str | None = ""
    bridge_out: str | None = ""
    ctstate: CtState | None = "new"
    ctdir: Literal["original", "reply"] | None = None
    ctstatus: tuple[str, ...] | None = None
    ctmark: int | None = None
    tcp_flags: tuple[str, ...] | None = None
    mss: int | None = None
    frag: Literal["no", "first", "later"] = "no"
    icmp_type: int | None = None
    icmp_code: int | None = None
    ttl: int | None = None
    dscp: int | None = None
    pkttype: str | None = None
    src_type: str | None = None
    dst_type: str | None = None
    rpfilter: bool | None = None
    local: bool = False
    uid: int | None = None
    gid: int | None = None
    original: Flow | None = None
    reply: Flow | None = None
    translated: Flow | None = None
    rt_mtu: int | None = None
    mark: int | None = None  # None: flow.mark


class Outcome(Value, frozen=True, kw_only=True):
    """What happens to the packet at one hook.

    ``by`` is the rule or policy that decides (None: nothing here says anything). ``share``: part of the packets that
    is lost when "sometimes", None = not known. ``why`` for "unknown". ``passed``: base chains that let it through.
    ``nats``: what NAT may be chosen for the first packet; one certain entry, or several possible ones; empty = none.
    ``clamps`` in order, ``mss`` after them (None = not known; 0 = no option). ``mark``, ``ctmark``, ``df`` afterwards.
    ``untracked``: a rule took it out of conntrack.
    """

    verdict: Literal["accept", "drop", "reject", "sometimes", "unknown"]
    by: Ruling | None = None
    share: float | None = None
    why: str = ""
    passed: tuple[Ruling, ...] = ()
    nats: tuple[NatWay, ...] = ()
    clamps: tuple[Clamping, ...] = ()
    mss: int | None = None
    mark: int | None = 0
    ctmark: int | None = None
    df: bool | None = True
    untracked: bool | None = False

    @property
    def nat(self) -> Nat | None:
        """The NAT that is certain, None when there is none or several are possible."""
        return self.nats[0].nat if len(self.nats) == 1 and self.nats[0].certain else None

    def step(self, at: Point) -> Filtered | None:
        """The deciding rule as a step of a path, None when nothing decided."""
        return self.by.step(at, self.verdict) if self.by else None


def evaluate(
    tables: FilterIndex | tuple[Table, ...], hook: Hook, packet: Packet, *, layer: Layer = "ip", device: str = ""
) -> Outcome:
    """One packet at one hook of one namespace.

    ``layer`` "bridge" for the bridge family's hooks. ``device``: for "ingress" and "egress", the device it passes
    (default: the packet's interface on that side). Give a prepared index where many packets are asked about.
    """
    index = tables if isinstance(tables, FilterIndex) else tables_index(tables)
    flow = packet.flow
    family = flow.family
    mark = flow.mark if packet.mark is None else packet.mark
    bases = index.bases(hook, family, layer, device or (packet.iifname if hook == "ingress" else packet.oifname))
    if not bases:
        return Outcome(verdict="accept", mss=packet.mss, mark=mark, ctmark=packet.ctmark, df=flow.df)
    whole = packet.frag != "no" and layer == "ip" and hook not in ("ingress", "egress") and index.tracks[family]
    facts = facts_of(packet, hook, mark)
    walk = Walk(index, facts, packet.rt_mtu, family)
    early: list[object] | None = None
    for base in bases:
        if whole and not (hook in ("prerouting", "output") and base.priority <= -400):
            _put_together(facts, packet)
            whole = False
        if hook in ("prerouting", "output", "ingress") and (base.priority < -200 or hook == "ingress"):
            if early is None:
                early = _without_conntrack(facts)
        elif early is not None:
            _with_conntrack(facts, early)
            early = None
        facts[NFPROTO] = base.nfproto or ("ipv6" if family == 6 else "ipv4")
        _translated(walk, base, packet, hook)
        if not walk.base(base, packet.ctstate):
            break
    return _outcome(walk, packet, hook)


def _outcome(walk: Walk, packet: Packet, hook: str) -> Outcome:
    facts = walk.facts
    verdict, by, share, why = walk.summary()
    if hook == "forward" and verdict != "accept" and packet.ctstate in ("established", None) and walk.index.offload:
        verdict, share, why = "unknown", None, "the connection may be in a flow table, which skips this chain"
    mss = facts[SLOT["tcpmss"]]
    state = facts[SLOT["ctstate"]]
    untracked = walk.untracked if state is not None or packet.ctstate is None else None
    return Outcome(
        verdict=verdict,
        by=by,
        share=share,
        why=why,
        passed=tuple(walk.passed),
        nats=tuple(walk.nats),
        clamps=tuple(walk.clamps),
        mss=0 if mss is ABSENT else mss,
        mark=facts[SLOT["mark"]],
        ctmark=None if facts[SLOT["ctmark"]] is ABSENT else facts[SLOT["ctmark"]],
        df=facts[SLOT["df"]],
        untracked=untracked,
    )


# --- facts -------------------------------------------------------------------------------------------------------

_CT = tuple(SLOT[n] for n in SLOT if n.startswith(("ct", "orig", "repl")))  # ctstate comes first
_CTSTATE, NFPROTO = SLOT["ctstate"], SLOT["nfproto"]


def facts_of(packet: Packet, hook: str, mark: int | None) -> Facts:
    """The packet's facts by slot, as this hook sees them."""
    flow = packet.flow
    six, proto, later = flow.family == 6, flow.proto, packet.frag == "later"
    has_in = hook not in ("output", "egress") and not (hook == "postrouting" and packet.local)
    has_out = hook not in ("prerouting", "input", "ingress")
    ports = ABSENT if later else None if proto not in PORTS else 0
    flags: object = ABSENT
    mss: object = ABSENT
    if proto == TCP and not later:
        flags = None if packet.tcp_flags is None else flag_bits(",".join(packet.tcp_flags))
        if packet.tcp_flags is None or "syn" in packet.tcp_flags:
            mss = ABSENT if packet.mss == 0 else packet.mss
    icmp = proto in (ICMP, ICMPV6) and not later
    owner = hook in ("output", "postrouting") and packet.local
    tracked = packet.ctstate not in ("invalid", "untracked")
    facts: Facts = [
        address(flow.src),
        address(flow.dst),
        flow.sport if ports == 0 else ports,
        flow.dport if ports == 0 else ports,
        proto,
        packet.ctstate,
        packet.iifname if has_in else "",
        packet.oifname if has_out else "",
        mark,
        packet.ctmark if tracked else ABSENT,
        flags,
        mss,
        packet.icmp_type if icmp else ABSENT,
        packet.icmp_code if icmp else ABSENT,
        2 if later else 1 if packet.frag == "first" else 0,
        packet.frag == "first" or (None if later else False),
        flow.df,
        flow.size or None,
        packet.ttl,
        packet.dscp,
        packet.ctdir if tracked else ABSENT,
        packet.ctstatus if tracked else ABSENT,
        packet.iif if has_in else 0,
        packet.oif if has_out else 0,
        packet.iiftype if has_in else ABSENT,
        packet.oiftype if has_out else ABSENT,
        packet.pkttype,
        packet.src_type,
        packet.dst_type,
        packet.rpfilter,
        packet.uid if owner else ABSENT,
        packet.gid if owner else ABSENT,
        "0x86dd" if six else "0x0800",
        "ipv6" if six else "ipv4",
        44 if six and packet.frag != "no" else proto,
        packet.bridge_in,
        packet.bridge_out,
        *_tuple(packet.original, tracked),
        *_tuple(packet.reply, tracked),
    ]
    assert len(facts) == SIZE
    return facts


def _tuple(flow: Flow | None, tracked: bool) -> tuple[object, object, object, object]:
    if not tracked:
        return (ABSENT, ABSENT, ABSENT, ABSENT)
    if flow is None:
        return (None, None, None, None)
    return (address(flow.src), address(flow.dst), flow.sport, flow.dport)


def _put_together(facts: Facts, packet: Packet) -> None:
    """Defragmented: the whole packet, whose size is not known."""
    whole = facts_of(Packet(flow=packet.flow, tcp_flags=packet.tcp_flags, mss=packet.mss), "forward", None)
    for name in ("sport", "dport", "tcpflags", "tcpmss", "nexthdr"):
        facts[SLOT[name]] = whole[SLOT[name]]
    if packet.flow.proto in (ICMP, ICMPV6):
        facts[SLOT["icmptype"]], facts[SLOT["icmpcode"]] = packet.icmp_type, packet.icmp_code
    facts[SLOT["frag"]], facts[SLOT["fragmore"]], facts[SLOT["length"]] = 0, False, None


def _without_conntrack(facts: Facts) -> list[object]:
    kept = [facts[i] for i in _CT]
    for i in _CT:
        facts[i] = ABSENT
    facts[_CTSTATE] = "invalid" if kept[0] != "untracked" else "untracked"
    return kept


def _with_conntrack(facts: Facts, kept: list[object]) -> None:
    """Conntrack has seen the packet now - unless a rule before it said notrack."""
    if facts[_CTSTATE] == "untracked":
        return
    if facts[_CTSTATE] is None:  # perhaps notrack
        kept = [None] * len(_CT)
    for i, fact in zip(_CT, kept, strict=True):
        facts[i] = fact


_SOURCE_HOOKS = ("postrouting", "input")


def _translated(walk: Walk, base: Base, packet: Packet, hook: str) -> None:
    """Behind the NAT place, a connection that already has its NAT is seen translated (nf_nat_packet)."""
    if walk.past_nat or base.is_nat or hook not in ("prerouting", "output", "postrouting", "input"):
        return
    place = 100 if hook in _SOURCE_HOOKS else -100
    if base.priority <= place:
        return
    walk.past_nat = True
    if packet.ctstate in ("new", "invalid", "untracked") and not walk.nats:
        return
    facts = walk.facts
    if packet.ctstate != "new" and packet.translated is not None:
        t = packet.translated
        facts[SLOT["saddr"]], facts[SLOT["daddr"]] = address(t.src), address(t.dst)
        if facts[SLOT["sport"]] is not ABSENT:
            facts[SLOT["sport"]], facts[SLOT["dport"]] = t.sport, t.dport
    elif walk.nats or (walk.index.nat[packet.flow.family] and packet.ctstatus is None) or _has_nat(packet):
        walk.after_nat(source=hook in _SOURCE_HOOKS)


def _has_nat(packet: Packet) -> bool:
    return bool(packet.ctstatus) and any(s in ("snat", "dnat") for s in packet.ctstatus or ())
