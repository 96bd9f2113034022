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

from math import inf
from typing import Literal

from pathfit.core.base import Value
from pathfit.core.filters import Hook, Nat, Table
from pathfit.core.net import Flow, Point
from pathfit.core.path import Filtered
from pathfit.model.filters.branches import Walk
from pathfit.model.filters.conditions import ABSENT, SLOT, address
from pathfit.model.filters.facts import (
    CTSTATE,
    Asked,
    CtState,
    PacketFacts,
    put_together,
    with_conntrack,
    without_conntrack,
)
from pathfit.model.filters.index import NAT_FIRST, NAT_LAST, Base, FilterIndex, tables_index
from pathfit.model.filters.sieve import Memo
from pathfit.model.filters.values import Clamping, NatWay, Ruling, ruling

__all__ = [
    "Asked", "Clamping", "FilterIndex", "Memo", "NatWay", "Outcome", "Packet", "Ruling", "evaluate", "judge", "outcome",
    "tables_index",
]  # fmt: skip

Layer = Literal["ip", "bridge"]


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

    @property
    def length(self) -> int | None:
        """Its size in bytes, None when it is not known."""
        return self.flow.size or None

    @property
    def together(self) -> int | None:
        """How large the packet is that a fragment belongs to: a fragment does not say."""
        return None


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
    tables: FilterIndex | tuple[Table, ...], hook: Hook, packet: Asked, *, layer: Layer = "ip", device: str = ""
) -> Outcome:
    """One packet at one hook of one namespace.

    ``layer`` "bridge" for the bridge family's hooks. ``device``: for "ingress" and "egress", the device it passes
    (default: the packet's interface on that side). Give a prepared index where many packets are asked about.
    """
    index = tables if isinstance(tables, FilterIndex) else tables_index(tables)
    flow = packet.flow
    bases = index.bases(hook, flow.family, layer, device or (packet.iifname if hook == "ingress" else packet.oifname))
    if not bases:
        mark = flow.mark if packet.mark is None else packet.mark
        return Outcome(verdict="accept", mss=packet.mss, mark=mark, ctmark=packet.ctmark, df=flow.df)
    return outcome(judge(index, bases, hook, packet, layer), packet, hook)


def judge(
    index: FilterIndex, bases: list[Base], hook: Hook, packet: Asked, layer: Layer, memo: Memo | None = None
) -> Walk:
    """The packet through these base chains: what :func:`outcome` makes an answer of.

    ``memo``: what was found out about rules' addresses and ports, for whoever asks at many hooks about one flow.
    """
    family = packet.flow.family
    facts = PacketFacts(packet, hook)
    walk = Walk(index, facts, packet.rt_mtu, family, {} if memo is None else memo)
    whole = packet.frag != "no" and layer == "ip" and hook not in ("ingress", "egress") and index.tracks[family]
    sees_early, place = hook in ("prerouting", "output", "ingress"), NAT_PLACE.get(hook, inf)
    early: list[object] | None = None
    for base in bases:
        if whole and not (hook in ("prerouting", "output") and base.priority <= -400):
            put_together(facts, packet)
            whole = False
        if sees_early and (base.priority < -200 or hook == "ingress"):
            if early is None:
                early = without_conntrack(facts)
        elif early is not None:
            with_conntrack(facts, early)
            early = None
        if base.nfproto or NFPROTO in facts:
            facts[NFPROTO] = base.nfproto or ("ipv6" if family == 6 else "ipv4")
        if base.priority > place and not walk.past_nat and not base.is_nat:
            _translated(walk, packet, hook)
        if not walk.base(base, packet.ctstate):
            break
    return walk


def outcome(walk: Walk, packet: Asked, hook: str) -> Outcome:
    """What a walk says."""
    facts = walk.facts
    verdict, by, share, why = walk.summary()
    if hook == "forward" and verdict != "accept" and packet.ctstate in ("established", None) and walk.index.offload:
        verdict, share, why = "unknown", None, "the connection may be in a flow table, which skips this chain"
    mss = facts[SLOT["tcpmss"]]
    state = facts[CTSTATE]
    untracked = walk.untracked if state is not None or packet.ctstate is None else None
    return Outcome(
        verdict=verdict,
        by=by,
        share=share,
        why=why,
        passed=tuple(map(ruling, walk.passed)),
        nats=tuple(walk.nats),
        clamps=tuple(walk.clamps),
        mss=0 if mss is ABSENT else mss,
        mark=facts[SLOT["mark"]],
        ctmark=None if facts[SLOT["ctmark"]] is ABSENT else facts[SLOT["ctmark"]],
        df=facts[SLOT["df"]],
        untracked=untracked,
    )


NFPROTO = SLOT["nfproto"]
NAT_PLACE = {"prerouting": NAT_FIRST, "output": NAT_FIRST, "postrouting": NAT_LAST, "input": NAT_LAST}
_SOURCE_HOOKS = ("postrouting", "input")


def _translated(walk: Walk, packet: Asked, hook: str) -> None:
    """Behind the NAT place, a connection that already has its NAT is seen translated (nf_nat_packet)."""
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


def _has_nat(packet: Asked) -> bool:
    return any(s in ("snat", "dnat") for s in packet.ctstatus or ())
