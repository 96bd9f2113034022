"""Evaluation of filters for one packet: pure, as a table of rules and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.filters import (
    Chain,
    Choice,
    Clamp,
    Concat,
    Expr,
    FilterRule,
    Match,
    Nat,
    Opaque,
    Passive,
    Rewrite,
    SetMark,
    Table,
    Untrack,
    Verdict,
)
from pathfit.core.net import Flow, Point
from pathfit.model.filters.evaluate import Packet, evaluate, tables_index

DROP, ACCEPT, RETURN = (Verdict(kind=k) for k in ("drop", "accept", "return"))  # type: ignore[arg-type]
REJECT = Verdict(kind="reject", reject_with="tcp-reset")
ODD = Opaque(what="meta hour")


def m(field: str, *values: str, negate: bool = False) -> Match:
    return Match(field=field, values=values, negate=negate)


def jump(to: str) -> Verdict:
    return Verdict(kind="jump", target=to)


def goto(to: str) -> Verdict:
    return Verdict(kind="goto", target=to)


def chain(*rules: tuple[Expr, ...], name: str = "c", hook: str | None = "forward", **more: object) -> Chain:
    made = tuple(FilterRule(exprs=r, handle=i + 1, text=f"rule {i + 1}") for i, r in enumerate(rules))
    return Chain(name=name, rules=made, hook=hook, **more)  # type: ignore[arg-type]


def table(*chains: Chain, family: str = "inet", **more: object) -> Table:
    return Table(family=family, name="t", chains=chains, **more)  # type: ignore[arg-type]


SYN = Packet(
    flow=Flow(src="198.18.1.2", dst="198.18.3.2", proto=6, sport=40000, dport=8443, size=60),
    iifname="br0",
    oifname="eth0",
    tcp_flags=("syn",),
    mss=1460,
)
DATA = Packet(
    flow=Flow(src="198.18.1.2", dst="198.18.3.2", proto=6, sport=40000, dport=8443, size=1500),
    iifname="br0",
    oifname="eth0",
    tcp_flags=("ack",),
    ctstate="established",
    ctdir="original",
    ctstatus=("assured", "confirmed", "seen-reply"),
)
LATER = Packet(flow=SYN.flow, iifname="br0", oifname="eth0", frag="later", ctstate=None)
TOO_BIG = Packet(
    flow=Flow(src="198.18.2.1", dst="198.18.1.2", proto=1, size=576),
    iifname="eth0",
    oifname="br0",
    ctstate="related",
    icmp_type=3,
    icmp_code=4,
)
SIX = Packet(
    flow=Flow(src="2001:db8::1", dst="2001:db8:1::2", proto=6, sport=1, dport=443, size=80), tcp_flags=("syn",)
)

CASES = [
    ("nothing there", SYN, (), "accept"),
    ("egress policy", SYN, ((m("saddr", "198.18.1.0/24"), m("l4proto", "6"), m("dport", "8443"), DROP),), "drop"),
    ("other port", SYN, ((m("dport", "443"), DROP),), "accept"),
    ("range", SYN, ((m("dport", "8000-9000", "22"), DROP),), "drop"),
    ("negated", SYN, ((m("dport", "443", negate=True), REJECT),), "reject"),
    ("IPv6 is not IPv4", SIX, ((m("saddr", "0.0.0.0/0"), DROP),), "accept"),
    ("IPv6 prefix", SIX, ((m("saddr", "2001:db8::/32"), DROP),), "drop"),
    ("first rule that decides", SYN, ((ACCEPT,), (DROP,)), "accept"),
    ("established passes", DATA, ((m("ctstate", "established", "related"), ACCEPT), (DROP,)), "accept"),
    ("new is dropped", SYN, ((m("ctstate", "established", "related"), ACCEPT), (DROP,)), "drop"),
    ("too big filtered", TOO_BIG, ((m("l4proto", "1"), m("icmptype", "3"), m("icmpcode", "4"), DROP),), "drop"),
    ("other code", TOO_BIG, ((m("icmptype", "3"), m("icmpcode", "1"), DROP),), "accept"),
    ("later fragment has no ports", LATER, ((m("dport", "8443"), DROP),), "accept"),
    ("nor other ports", LATER, ((m("dport", "22", negate=True), DROP),), "accept"),
    ("but is a fragment", LATER, ((m("frag", "later"), DROP),), "drop"),
    ("data has no MSS", DATA, ((m("tcpmss", "0-1000", negate=True), DROP),), "accept"),
    ("none is not 1360", DATA, ((Match(field="tcpmss", values=("1360",), negate=True, lenient=True), DROP),), "drop"),
    ("size", DATA, ((m("length", "1401-65535"), DROP),), "drop"),
    ("SYN flags", SYN, ((m("tcpflags", "syn/syn,rst"), DROP),), "drop"),
    ("SYN flags of data", DATA, ((m("tcpflags", "syn/syn,rst"), DROP),), "accept"),
    ("prefix of a name", SYN, ((m("iifname", "br*"), m("oifname", "eth0"), DROP),), "drop"),
    ("mark", SYN, ((SetMark(value=0x12),), (m("mark", "0x2/0xf"), DROP)), "drop"),
    ("mark bits", SYN, ((SetMark(value=0x10, mask=0x10),), (m("mark", "0x10/0xffffffff"), DROP)), "drop"),
    ("unknown TTL", SYN, ((m("ttl", "64"), DROP),), "unknown"),
    ("not understood, drops", SYN, ((ODD, DROP),), "unknown"),
    ("not understood, accepts anyway", SYN, ((ODD, ACCEPT),), "accept"),
    ("not understood, both ways drop", SYN, ((ODD, REJECT), (DROP,)), "drop"),
    ("not understood, does not apply", SYN, ((ODD, m("dport", "443"), DROP),), "accept"),
    ("accept before a certain drop", SYN, ((ODD, ACCEPT), (DROP,)), "unknown"),
    ("a target nobody knows", SYN, ((Opaque(what="-j FOO", statement=True),),), "unknown"),
    ("user space decides", SYN, ((Verdict(kind="queue"),),), "unknown"),
    ("address rewritten", SYN, ((Rewrite(field="daddr", value="10.0.0.1"),),), "unknown"),
    ("DSCP rewritten", SYN, ((Rewrite(field="dscp"),), (m("dport", "22"), DROP)), "accept"),
    ("dice", SYN, ((m("random", "0.1"), DROP),), "sometimes"),
    ("limit accepts, rest drops", SYN, ((m("limit", "10/second"), ACCEPT), (DROP,)), "sometimes"),
    ("limit accepts, rest too", SYN, ((m("limit", "10/second"), ACCEPT),), "accept"),
    ("never", SYN, ((Match(field="saddr", values=()), DROP),), "accept"),
    ("always", SYN, ((Match(field="saddr", values=(), negate=True), DROP),), "drop"),
    ("half-read set, in it", SYN, ((Match(field="dport", values=("8443",), partial=True), DROP),), "drop"),
    ("half-read set, not in it", SYN, ((Match(field="dport", values=("1",), partial=True), DROP),), "unknown"),
    ("concatenation", SYN, ((Concat(fields=("saddr", "dport"), rows=(("198.18.1.2/32", "8443"),)), DROP),), "drop"),
    ("with ranges", SYN, ((Concat(fields=("saddr", "dport"), rows=(("198.18.1.0/24", "1-9000"),)), DROP),), "drop"),
    ("other row", SYN, ((Concat(fields=("saddr", "dport"), rows=(("198.18.1.2/32", "443"),)), DROP),), "accept"),
    ("not in rows", SYN, ((Concat(fields=("saddr", "dport"), rows=(("10.0.0.1", "1"),), negate=True), DROP),), "drop"),
    ("vmap", SYN, ((Choice(fields=("dport",), rows=(("22",), ("8443",)), then=(ACCEPT, DROP)),),), "drop"),
    ("vmap miss", SYN, ((Choice(fields=("dport",), rows=(("22",),), then=(DROP,)),),), "accept"),
    ("vmap range", SYN, ((Choice(fields=("dport",), rows=(("1-9000",),), then=(DROP,)),),), "drop"),
    ("vmap catch-all", SYN, ((Choice(fields=("dport",), rows=(), then=(), otherwise=DROP),),), "drop"),
    ("vmap on the unknown", SYN, ((Choice(fields=("ttl",), rows=(("64",),), then=(DROP,)),),), "unknown"),
    ("half of the flows", SYN, ((Choice(fields=("hash",), rows=(("0/2",),), then=(DROP,)),),), "unknown"),
    ("a third of the packets", SYN, ((Choice(fields=("nth",), rows=(("0/3",),), then=(DROP,)),),), "sometimes"),
    ("only a comment", SYN, ((Passive(what="log"),),), "accept"),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "rules", "verdict"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_chain(packet: Packet, rules: tuple[tuple[Expr, ...], ...], verdict: str) -> None:
    got = evaluate((table(chain(*rules)),), "forward", packet)
    assert got.verdict == verdict, got
    assert (got.why != "") == (verdict == "unknown")


SUB = {"name": "sub", "hook": None}
CHAINS = [
    ("jump that drops", ((jump("sub"),), (ACCEPT,)), ((DROP,),), "drop"),
    ("jump that comes back", ((jump("sub"),), (DROP,)), ((m("dport", "1"), ACCEPT),), "drop"),
    ("return comes back", ((jump("sub"),), (DROP,)), ((RETURN,), (ACCEPT,)), "drop"),
    ("accept ends the base chain", ((jump("sub"),), (DROP,)), ((ACCEPT,),), "accept"),
    ("goto does not come back", ((goto("sub"),), (DROP,)), ((m("dport", "1"), ACCEPT),), "accept"),
    ("perhaps goto", ((ODD, goto("sub")), (DROP,)), ((m("dport", "1"), ACCEPT),), "unknown"),
    ("perhaps jump, comes back", ((ODD, jump("sub")), (DROP,)), ((m("dport", "1"), ACCEPT),), "drop"),
    ("perhaps jump, drops", ((ODD, jump("sub")),), ((DROP,),), "unknown"),
    ("perhaps jump, drops either way", ((ODD, jump("sub")), (DROP,)), ((DROP,),), "drop"),
    ("perhaps return", ((jump("sub"),), (ACCEPT,)), ((ODD, RETURN), (DROP,)), "unknown"),
    ("mark set in a jump", ((jump("sub"),), (m("mark", "0x7/0xff"), DROP)), ((SetMark(value=7),),), "drop"),
    ("mark set in a perhaps", ((ODD, jump("sub")), (m("mark", "0x7/0xff"), DROP)), ((SetMark(value=7),),), "unknown"),
    ("chain that is not there", ((jump("gone"),),), ((DROP,),), "unknown"),
    ("endless", ((jump("sub"),),), ((jump("sub"),),), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "sub", "verdict"), [c[1:] for c in CHAINS], ids=[c[0] for c in CHAINS])
def test_chains_that_call(rules: tuple[tuple[Expr, ...], ...], sub: tuple[tuple[Expr, ...], ...], verdict: str) -> None:
    got = evaluate((table(chain(*rules), chain(*sub, **SUB)),), "forward", SYN)
    assert got.verdict == verdict, got


def test_policy_drop_is_named() -> None:
    got = evaluate((table(chain((m("dport", "22"), ACCEPT), policy="drop", policy_packets=7)),), "forward", SYN)
    assert got.verdict == "drop"
    step = got.step(Point(host="h", netns="netns:h"))
    assert step is not None
    assert (step.table, step.chain, step.rule, step.packets) == ("inet t", "c", "policy drop", 7)


def test_accept_does_not_stop_later_base_chains_and_drop_does() -> None:
    early = chain((ACCEPT,), name="early", priority=-10)
    late = chain((DROP,), name="late", priority=10)
    got = evaluate((table(late, early),), "forward", SYN)
    assert got.verdict == "drop"
    assert got.by is not None and got.by.chain == "late"
    assert [r.chain for r in got.passed] == ["early"]


def test_dormant_table_is_asleep() -> None:
    assert evaluate((table(chain((DROP,)), dormant=True),), "forward", SYN).verdict == "accept"


@pytest.mark.parametrize(
    ("clamp", "rt_mtu", "packet", "mss"),
    [
        (Clamp(size=1360), None, SYN, 1360),
        (Clamp(size=1500), None, SYN, 1460),  # never raised
        (Clamp(), 1400, SYN, 1360),
        (Clamp(), None, SYN, None),
        (Clamp(size=1360), None, DATA, 0),
    ],
)
def test_clamps(clamp: Clamp, rt_mtu: int | None, packet: Packet, mss: int | None) -> None:
    from msgspec.structs import replace

    got = evaluate((table(chain((clamp,))),), "forward", replace(packet, rt_mtu=rt_mtu))
    assert got.mss == mss
    assert got.verdict == "accept"


def test_a_clamp_that_may_not_apply_leaves_the_size_unknown() -> None:
    got = evaluate((table(chain((ODD, Clamp(size=1360)))),), "forward", SYN)
    assert got.mss is None
    assert [c.certain for c in got.clamps] == [False]


def test_a_drop_that_may_come_first_does_not_make_the_clamp_uncertain() -> None:
    got = evaluate((table(chain((m("limit", "1/s"), DROP), (Clamp(size=1360),))),), "forward", SYN)
    assert (got.verdict, got.mss) == ("sometimes", 1360)


DNAT = Nat(kind="dnat", lo="10.0.0.1", hi="10.0.0.1", port_lo=80, port_hi=80)


def nat_table(*rules: tuple[Expr, ...], hook: str = "prerouting", priority: int = -100) -> Table:
    return table(chain(*rules, hook=hook, type="nat", priority=priority), family="ip")


def test_nat_is_for_the_first_packet_only() -> None:
    tables = (nat_table((m("dport", "8443"), DNAT)),)
    assert evaluate(tables, "prerouting", SYN).nat == DNAT
    assert evaluate(tables, "prerouting", DATA).nats == ()


def test_what_follows_nat_sees_the_new_address() -> None:
    after = table(chain((m("daddr", "10.0.0.1/32"), m("dport", "80"), DROP), hook="prerouting", priority=0))
    before = table(chain((m("daddr", "10.0.0.1/32"), DROP), hook="prerouting", priority=-150))
    nat = nat_table((DNAT,), priority=300)  # a nat chain's own priority does not move it
    assert evaluate((nat, after), "prerouting", SYN).verdict == "drop"
    assert evaluate((nat, before), "prerouting", SYN).verdict == "accept"


def test_masqueraded_source_is_not_known_here() -> None:
    nat = nat_table((Nat(kind="masquerade"),), hook="postrouting", priority=100)
    after = table(chain((m("saddr", "198.18.2.2/32"), DROP), hook="postrouting", priority=200))
    assert evaluate((nat, after), "postrouting", SYN).verdict == "unknown"


def test_backends_drawn_by_dice_are_all_listed() -> None:
    choice = Choice(
        fields=("nth",),
        rows=(("0/3",), ("1/3",), ("2/3",)),
        then=tuple(Nat(kind="dnat", lo=f"10.0.0.{i}", hi=f"10.0.0.{i}") for i in (1, 2, 3)),
    )
    got = evaluate((nat_table((choice,)),), "prerouting", SYN)
    assert got.verdict == "accept"
    assert got.nat is None
    assert [w.nat.lo for w in got.nats if w.nat] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [round(w.share or 0, 2) for w in got.nats] == [0.33, 0.33, 0.33]


def test_kube_proxy_backends() -> None:
    """-m statistic --probability 0.5 -j SEP-A; -j SEP-B."""
    sep = [chain((Nat(kind="dnat", lo=a, hi=a),), name=n, hook=None) for n, a in (("A", "10.0.0.1"), ("B", "10.0.0.2"))]
    svc = chain((m("random", "0.5"), jump("A")), (jump("B"),), name="SVC", hook=None)
    base = chain((m("daddr", "198.18.3.2/32"), jump("SVC")), hook="prerouting", type="nat", priority=-100)
    got = evaluate((table(base, svc, *sep, family="ip"),), "prerouting", SYN)
    assert [(w.nat.lo, w.share) for w in got.nats if w.nat] == [("10.0.0.1", 0.5), ("10.0.0.2", 0.5)]


def test_conntrack_comes_after_raw() -> None:
    raw = table(chain((m("ctstate", "invalid"), DROP), hook="prerouting", priority=-300))
    assert evaluate((raw,), "prerouting", SYN).verdict == "drop"
    late = table(chain((m("ctstate", "invalid"), DROP), hook="prerouting", priority=0))
    assert evaluate((late,), "prerouting", SYN).verdict == "accept"


def test_notrack() -> None:
    raw = chain((Untrack(),), name="raw", hook="prerouting", priority=-300)
    late = chain((m("ctstate", "untracked"), DROP), hook="prerouting", priority=0)
    got = evaluate((table(raw, late),), "prerouting", SYN)
    assert (got.verdict, got.untracked) == ("drop", True)


def test_fragments_are_put_together_where_conntrack_is_used() -> None:
    dropper = chain((m("frag", "any"), DROP))
    assert evaluate((table(dropper),), "forward", LATER).verdict == "drop"
    tracked = chain((m("ctstate", "invalid"), DROP), name="x", hook="input")
    assert evaluate((table(dropper, tracked),), "forward", LATER).verdict == "accept"


def test_netdev_ingress_sees_fragments_of_its_device_only() -> None:
    ingress = chain((m("frag", "any"), DROP), hook="ingress", devices=("br0",))
    tables = (Table(family="netdev", name="fd", chains=(ingress,)),)
    assert evaluate(tables, "ingress", LATER).verdict == "drop"
    assert evaluate(tables, "ingress", LATER, device="eth9").verdict == "accept"


def test_bridge_rules_are_for_the_bridge() -> None:
    tables = (table(chain((DROP,)), family="bridge"),)
    assert evaluate(tables, "forward", SYN).verdict == "accept"
    assert evaluate(tables, "forward", SYN, layer="bridge").verdict == "drop"


def test_offloaded_connections_may_skip_the_chain() -> None:
    rules = ((Passive(what="flow add @ft"),), (m("length", "1400-65535"), DROP))
    assert evaluate((table(chain(*rules)),), "forward", DATA).verdict == "unknown"
    assert evaluate((table(chain((m("dport", "8443"), DROP), rules[0])),), "forward", SYN).verdict == "drop"


def test_large_sets_stay_fast_and_right() -> None:
    values = tuple(f"10.{i >> 8}.{i & 255}.0/24" for i in range(10000))
    index = tables_index((table(chain((m("saddr", *values), DROP), (m("daddr", *values, negate=True), REJECT))),))
    assert evaluate(index, "forward", SYN).verdict == "reject"


# --- never a wrong certain answer: the unknown, once known, may not contradict ------------------------------------

FIELD = st.sampled_from(
    [m("ttl", "64"), m("dscp", "8"), m("dport", "8443"), m("dport", "1"), m("mark", "0x1/0x1"), ODD]
)
ACTION = st.sampled_from([DROP, ACCEPT, RETURN, SetMark(value=1), SetMark(value=2), jump("sub"), goto("sub")])
RULE = st.tuples(st.lists(FIELD, max_size=2), ACTION).map(lambda t: (*t[0], t[1]))
LEAF = st.tuples(st.lists(FIELD, max_size=2), st.sampled_from([DROP, ACCEPT, RETURN, SetMark(value=1)])).map(
    lambda t: (*t[0], t[1])
)


@given(
    st.lists(RULE, max_size=6),
    st.lists(LEAF, max_size=3),
    st.lists(LEAF, max_size=2),
    st.sampled_from([1, 64]),
    st.sampled_from([0, 8]),
    st.booleans(),
)
def test_a_certain_answer_holds_however_the_unknown_turns_out(
    rules: list[tuple[Expr, ...]],
    sub: list[tuple[Expr, ...]],
    second: list[tuple[Expr, ...]],
    ttl: int,
    dscp: int,
    odd: bool,
) -> None:
    from msgspec.structs import replace

    def tables(known: bool) -> tuple[Table, ...]:
        truth = Match(field="saddr", values=(), negate=odd)
        made = [[tuple(truth if known and e is ODD else e for e in r) for r in part] for part in (rules, sub, second)]
        return (table(chain(*made[0]), chain(*made[1], **SUB)), table(chain(*made[2], name="d", priority=5)))

    vague = evaluate(tables(False), "forward", SYN)
    exact = evaluate(tables(True), "forward", replace(SYN, ttl=ttl, dscp=dscp))
    assert exact.verdict in ("accept", "drop")
    if vague.verdict in ("accept", "drop", "reject"):
        assert vague.verdict == exact.verdict
    if vague.verdict == "accept" and vague.mark is not None:
        assert vague.mark == exact.mark
