"""The fast evaluation of filters beside the slow one (slow_filter.py), on random tables and packets."""

from typing import Any

import slow_filter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pathfit.core.filters import (
    Chain,
    Choice,
    Clamp,
    Concat,
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
from pathfit.core.net import Flow
from pathfit.model.filters.conditions import SLOT
from pathfit.model.filters.evaluate import Packet, evaluate, tables_index
from pathfit.model.filters.facts import PacketFacts
from pathfit.model.filters.sieve import Keys, sift

V4 = ("198.18.1.2", "198.18.3.2", "10.0.0.1", "255.255.255.255")
V6 = ("2001:db8::1", "2001:db8:0:1::2", "::1", "fd00::ffff")
NETS = (
    *("198.18.1.2/32", "198.18.1.2", "198.18.0.0/16", "198.18.1.0-198.18.2.9", "10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32"),
    *("2001:db8::/32", "2001:db8::1", "::/0", "::1/128", "2001:db8::1-2001:db8::9", "fd00::/8"),
)
PORT = ("443", "53", "1000-2000", "8080-8095", "0-65535", "40000")
VALUES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("saddr", "daddr", "origsaddr", "origdaddr", "replsaddr", "repldaddr"), NETS),
    **dict.fromkeys(("sport", "dport", "origsport", "origdport", "replsport", "repldport"), PORT),
    **dict.fromkeys(("iifname", "oifname"), ("br0", "eth0", "eth*", "", "veth1*", "*")),
    **dict.fromkeys(("iif", "oif"), ("1", "2", "3-9")),
    **dict.fromkeys(("iiftype", "oiftype"), ("1", "772")),
    "nfproto": ("ipv4", "ipv6"),
    "ethertype": ("0x0800", "0x86dd"),
    **dict.fromkeys(("l4proto", "nexthdr"), ("6", "17", "1", "58", "44", "0-9")),
    "icmptype": ("3", "8", "2"),
    "icmpcode": ("4", "0"),
    "ctstate": ("new", "established", "related", "invalid", "untracked"),
    "ctstatus": ("snat", "dnat", "confirmed", "seen-reply"),
    "ctdir": ("original", "reply"),
    **dict.fromkeys(("mark", "ctmark"), ("0x1", "0x0/0x1", "0x10/0xff")),
    "length": ("60", "0-100", "1401-65535"),
    "frag": ("any", "later"),
    "fragmore": ("set",),
    "df": ("set", "clear"),
    "tcpflags": ("syn/syn,ack", "ack/ack", "0/syn,rst"),
    "tcpopt": ("mss",),
    **dict.fromkeys(("tcpmss", "maxseg"), ("1460", "0-1400", "1401-65535")),
    "ttl": ("64", "0-1"),
    "dscp": ("0", "46"),
    "pkttype": ("host", "broadcast"),
    "addrtype": ("src:local", "dst:local", "dst:unicast"),
    "rpfilter": ("ok", "failed"),
    "bridgeport": ("in:v0", "out:v*", "bridged:"),
    **dict.fromkeys(("skuid", "skgid"), ("0", "1000-2000")),
    "random": ("0.25", "1.0", "0"),
    "nth": ("1/4",),
    "hash": ("0/2", "0-1/4"),
    "limit": ("5/second",),
    "nonsense": ("what",),
}
PLAIN = ("saddr", "daddr", "sport", "dport", "iifname", "oifname", "l4proto", "mark", "tcpflags", "tcpmss", "nfproto")
SIFTED = ("saddr", "daddr", "sport", "dport", "iifname", "oifname")


def match(fields: tuple[str, ...], *, doubtful: bool = True) -> st.SearchStrategy[Any]:
    maybe = st.booleans() if doubtful else st.just(False)
    return st.sampled_from(fields).flatmap(
        lambda field: st.builds(
            Match,
            field=st.just(field),
            values=st.lists(st.sampled_from(VALUES[field]), max_size=6, unique=True).map(tuple),
            negate=st.booleans(),
            partial=maybe,
            lenient=maybe,
        )
    )


ROWS = st.lists(st.tuples(st.sampled_from(NETS), st.sampled_from(PORT)), max_size=3).map(tuple)
TEST = st.one_of(
    match(SIFTED),
    match(tuple(VALUES)),
    match(tuple(VALUES)),
    st.builds(Concat, fields=st.just(("saddr", "dport")), rows=ROWS, negate=st.booleans(), partial=st.booleans()),
    st.just(Opaque(what="meta hour")),
    st.just(Passive(what="counter")),
)
ENDS = st.sampled_from(
    [Verdict(kind=k) for k in ("accept", "drop", "return", "continue", "queue")]  # type: ignore[arg-type]
    + [Verdict(kind="reject", reject_with="tcp-reset")]
)
JUMPS = st.sampled_from([Verdict(kind=k, target=t) for k in ("jump", "goto") for t in ("sub", "lost")])  # type: ignore[arg-type]
WRITES = st.one_of(
    st.builds(Clamp, size=st.sampled_from([None, 1200, 1400])),
    st.builds(
        SetMark,
        value=st.sampled_from([0, 1, 16]),
        mask=st.sampled_from([0xFF, 0xFFFFFFFF]),
        into=st.sampled_from(["mark", "ctmark"]),
        source=st.sampled_from(["value", "mark", "ctmark", "unknown"]),
    ),
    st.just(Untrack()),
    st.builds(Rewrite, field=st.sampled_from(["dscp", "ttl", "df", "daddr", "tcp option 2"]), value=st.just("7")),
    st.just(Nat(kind="dnat", lo="10.0.0.1", hi="10.0.0.1", port_lo=443, port_hi=443)),
    st.just(Nat(kind="masquerade")),
    st.just(Opaque(what="-j ODD", statement=True)),
)
CHOICE = st.builds(
    Choice,
    fields=st.just(("daddr", "dport")),
    rows=st.just((("198.18.3.2", "443"), ("10.0.0.0/8", "53"))),
    then=st.just((Verdict(kind="drop"), Verdict(kind="jump", target="sub"))),
    otherwise=st.sampled_from([None, Verdict(kind="accept")]),
    partial=st.booleans(),
)


def rules(test: st.SearchStrategy[Any], do: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    one = st.tuples(st.lists(test, max_size=3), st.lists(do, max_size=1), st.lists(test, max_size=1), do)
    made = one.map(lambda t: FilterRule(exprs=(*t[0], *t[1], *t[2], t[3]), text=str(len(t[0]))))
    return st.lists(made, max_size=most).map(tuple)


def tables(
    test: st.SearchStrategy[Any], leaf: st.SearchStrategy[Any], jumps: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Two base chains and one to jump to."""
    do = st.one_of(leaf, leaf, jumps)
    return st.builds(
        lambda family, hook, first, second, sub, lost, policy, nat, priority: Table(
            family=family,
            name="t",
            chains=(
                Chain(name="a", hook=hook, rules=first, policy=policy, priority=priority),
                Chain(name="b", hook=hook, rules=second, type="nat" if nat else "filter", priority=0),
                Chain(name="sub", rules=sub),
                *((Chain(name="lost", rules=()),) if lost else ()),
            ),
        ),
        st.sampled_from(["inet", "ip", "ip6"]),
        st.sampled_from(["prerouting", "input", "forward", "output", "postrouting"]),
        rules(test, do, 8),
        rules(test, do, 3),
        rules(test, leaf, 6),
        st.booleans(),
        st.sampled_from(["accept", "drop"]),
        st.booleans(),
        st.sampled_from([-400, -300, 0, 200]),
    )


def packets(*, doubtful: bool = True) -> st.SearchStrategy[Any]:
    def known(*values: Any) -> st.SearchStrategy[Any]:
        return st.sampled_from([*values, None] if doubtful else [*values])

    def made(ends: tuple[str, str], proto: int, sport: int, dport: int, size: int, mark: int, **more: Any) -> Packet:
        flow = Flow(src=ends[0], dst=ends[1], proto=proto, sport=sport, dport=dport, size=size, mark=mark)
        return Packet(flow=flow, **more)

    tuples = st.sampled_from([None, Flow(src=V4[0], dst=V4[1], proto=6, sport=443, dport=53)])
    return st.builds(
        made,
        st.one_of(st.tuples(*[st.sampled_from(V4)] * 2), st.tuples(*[st.sampled_from(V6)] * 2)),
        st.sampled_from([6, 17, 1, 58, 47] if doubtful else [6, 17]),
        st.sampled_from([40000, 443]),
        st.sampled_from([443, 53, 8085]),
        st.sampled_from([60, 1500]),
        st.sampled_from([0, 1, 16]),
        iifname=known("br0", "eth0", "veth12"),
        oifname=known("br0", "eth0", ""),
        iif=known(1, 4),
        ctstate=known("new", "established", "invalid", "untracked") if doubtful else st.just("new"),
        ctdir=known("original", "reply"),
        ctstatus=known((), ("snat",), ("confirmed", "seen-reply")),
        tcp_flags=known(("syn",), ("ack",), ("syn", "ack")),
        mss=known(0, 1460, 1380) if doubtful else st.sampled_from([1460, 1380]),
        frag=st.sampled_from(["no", "first", "later"]) if doubtful else st.just("no"),
        icmp_type=known(3, 8),
        icmp_code=known(4),
        ttl=known(64),
        src_type=known("local", "unicast"),
        dst_type=known("local", "unicast"),
        rpfilter=known(True, False),
        local=st.booleans(),
        uid=known(0, 1500),
        original=tuples,
        reply=tuples,
        translated=tuples,
        rt_mtu=known(1400),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(TEST, st.one_of(ENDS, WRITES), st.one_of(JUMPS, CHOICE)), packets())
def test_however_often_a_chain_is_asked_the_answer_is_that_of_the_plain_reading(table: Table, packet: Packet) -> None:
    (hook,) = {c.hook for c in table.chains if c.hook}
    index = tables_index((table,))
    expected = slow_filter.evaluate((table,), hook, packet)
    for _ in range(4):  # as it stands, then compiled, then by keys
        assert evaluate(index, hook, packet) == expected  # type: ignore[arg-type]


SURE = st.one_of(
    st.sampled_from([Verdict(kind=k) for k in ("accept", "drop", "reject", "return", "continue")]),  # type: ignore[arg-type]
    st.sampled_from([Clamp(size=1200), Clamp(size=1400), SetMark(value=1), SetMark(value=16, mask=0xFF)]),
)
TO_SUB = st.sampled_from([Verdict(kind=k, target="sub") for k in ("jump", "goto")])  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables(match(PLAIN, doubtful=False), SURE, TO_SUB).map(
        lambda t: Table(
            family="inet", name="t", chains=tuple(Chain(**{**_fields(c), "type": "filter"}) for c in t.chains)
        )
    ),
    packets(doubtful=False),
)
def test_where_all_is_known_it_is_what_a_reader_of_the_rules_would_say(table: Table, packet: Packet) -> None:
    (hook,) = {c.hook for c in table.chains if c.hook}
    said = evaluate((table,), hook, packet)  # type: ignore[arg-type]
    verdict, mark, mss = slow_filter.certain(table, hook, packet)
    assert said.verdict == verdict
    if verdict == "accept":
        assert said.mark == mark
        if packet.flow.proto == 6 and "syn" in (packet.tcp_flags or ()):
            assert said.mss == mss


def _fields(c: Chain) -> dict[str, Any]:
    return {name: getattr(c, name) for name in c.__struct_fields__}


@settings(deadline=None)
@given(
    st.lists(st.tuples(match(SIFTED), st.lists(match(SIFTED), max_size=1)), min_size=1, max_size=12),
    packets(),
    st.sampled_from(["input", "forward"]),
)
def test_a_rule_is_left_out_only_if_it_certainly_does_not_match(rows: list[Any], packet: Packet, hook: str) -> None:
    made = tuple(FilterRule(exprs=(first, *more, Verdict(kind="drop"))) for first, more in rows)
    facts = PacketFacts(packet, hook)
    maybe = {
        i
        for i, rule in enumerate(made)
        if not any(slow_filter.matches(e, facts) is False for e in rule.exprs if isinstance(e, Match))
    }
    for kept in (sift(made, facts, {}), Keys(made).find(facts)):
        assert kept == sorted(kept)
        assert maybe <= set(kept)


@settings(deadline=None)
@given(packets().map(lambda p: replace(p, frag="no")), st.sampled_from(["input", "forward", "output", "prerouting"]))
def test_facts_are_the_same_whenever_they_are_asked_for(packet: Packet, hook: str) -> None:
    facts = PacketFacts(packet, hook)
    for name, value in reversed(slow_filter.facts_of(packet, hook).items()):
        assert facts[SLOT[name]] == value, name


def test_long_chains_show_a_packet_only_what_is_about_it() -> None:
    made = tuple(
        FilterRule(exprs=(Match(field="dport", values=(str(n),)), Verdict(kind="drop"))) for n in range(1, 5000)
    )
    facts = {SLOT["dport"]: 443}
    assert sift(made, facts, {}) == Keys(made).find(facts) == [442]
