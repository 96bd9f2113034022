"""What nf_tables tells of traced packets: values of what it says, and no crash whatever it says. And the other way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_dissect import A4, A6, B4, B6, EVERY, inside, wrapped

from pathfit.core.filters import Chain, Choice, FilterRule, Opaque, Table, Verdict
from pathfit.model.ruled import counted, named
from pathfit.wire import dissect
from pathfit.wire.datagram import datagram, fragments
from pathfit.wire.netlink import Malformed, attribute, attributes, nested, request
from pathfit.wire.nft import mark, trace
from pathfit.wire.nft.mark import Flow
from pathfit.wire.nft.messages import SUBSYSTEM, expressions
from pathfit.wire.nft.trace import Trace
from pathfit.wire.nft.write import be32, be64, name
from pathfit.wire.packets import ICMP, TCP, UDP, echo_request

HEAD = bytes((1, 0, 0, 0))  # inet
RULE = (
    name(1, "corp"), name(2, "f"), be64(3, 9), be32(4, 3), nested(5, (be32(1, 0),)), be32(6, 77), be32(10, 2),
    be32(12, 3), be32(14, 0x10), be32(15, 2),
)  # fmt: skip


def message(*attributes: bytes, kind: int = SUBSYSTEM | trace.TRACE, head: bytes = HEAD) -> bytes:
    return request(kind, head + b"".join(attributes), 0, 0)


def one(*attributes: bytes) -> Trace:
    (found,) = trace.messages(message(*attributes))
    return found


def test_a_rule_that_drops() -> None:
    found = one(*RULE)
    assert found.drops
    assert (found.kind, found.family, found.table, found.chain, found.handle) == ("rule", "inet", "corp", "f", 9)
    assert (found.verdict, found.id, found.version, found.iif, found.oif, found.mark) == ("drop", 77, 4, 2, 3, 16)


@pytest.mark.parametrize(
    ("code", "word"),
    [(0, "drop"), (1 << 16, "drop"), (1, "accept"), (3 | 5 << 16, "queue"), (-1, "continue"), (-3, "jump"),
     (-5, "return"), (-77, "unknown"), (9, "unknown")],
)  # fmt: skip
def test_verdicts(code: int, word: str) -> None:
    found = one(*RULE[:4], nested(5, (be32(1, code), name(2, "g"))))
    assert (found.verdict, found.target, found.drops) == (word, "g", word == "drop")


@pytest.mark.parametrize(("policy", "drops"), [(0, True), (1, False)])
def test_policies(policy: int, drops: bool) -> None:
    found = one(name(1, "corp"), name(2, "f"), be32(4, 1), be32(16, policy))
    assert (found.kind, found.handle, found.drops) == ("policy", 0, drops)


def test_the_end_of_a_chain_drops_nothing() -> None:
    assert not one(name(1, "corp"), name(2, "g"), be32(4, 2), nested(5, (be32(1, 0),))).drops
    assert not one(be32(4, 99)).drops
    for code, kind in ((2, "return"), (3, "return")):  # as older kernels say it, and as 6.18 does
        assert one(name(1, "corp"), name(2, "g"), be32(4, code), nested(5, (be32(1, -1),))).kind == kind
    assert one(*RULE[:4], nested(5, (be32(1, -1),))).kind == "rule"


@pytest.mark.parametrize("family", [4, 6])
def test_headers_are_put_together(family: int) -> None:
    packet = inside(family)
    size = 20 if family == 4 else 40
    found = one(*RULE, attribute(8, packet[:40]), attribute(9, packet[size : size + 20]))
    (layer,) = dissect.packet(found.packet).layers
    assert layer.transport is not None
    assert (layer.transport.sport, layer.transport.dport) == (40000, 443)  # type: ignore[union-attr]


@pytest.mark.parametrize("network", [b"", b"\x45", bytes(40), b"\x4f" + bytes(39), b"\x60" + bytes(9), b"\x41" * 40])
def test_headers_that_are_none(network: bytes) -> None:
    found = one(*RULE, attribute(8, network), attribute(9, bytes(20)))
    assert found.packet == network
    dissect.packet(found.packet)


def test_what_is_another_message_is_left_out() -> None:
    assert trace.messages(message(*RULE, kind=SUBSYSTEM | 6)) == []
    assert trace.touched(message(*RULE, kind=SUBSYSTEM | 6)) == {("inet", "corp")}
    assert trace.touched(message(*RULE)) == trace.touched(message(*RULE, kind=SUBSYSTEM | 15)) == set()


def read(data: bytes) -> None:
    for decode in (trace.messages, trace.touched, lambda d: trace.trace(d, 0, len(d))):
        try:
            found = decode(data)
        except Malformed:
            continue
        for event in found if isinstance(found, list) else [found] if isinstance(found, Trace) else []:
            dissect.packet(event.packet)
            named(event, ())


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    read(data)


@settings(deadline=None)
@given(st.data())
def test_bytes_that_begin_well(data: st.DataObject) -> None:
    """A message with some of its bytes changed, or its attributes made of anything."""
    kinds = st.tuples(st.integers(0, 25), st.binary(max_size=50))
    said = [attribute(k, v) for k, v in data.draw(st.lists(kinds, max_size=20))]
    kind = SUBSYSTEM | data.draw(st.sampled_from([trace.TRACE, 0, 2, 6, 8]))
    body = data.draw(st.binary(max_size=4)) if data.draw(st.booleans()) else HEAD
    whole = bytearray(message(*(said or RULE), kind=kind, head=body))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[at] = value
    read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_the_table_is_one_transaction() -> None:
    batch = mark.batch("pathfit-trace-x", Flow([A4, B4, A6, B6], TCP, (443,)))
    kinds = [kind for kind, _, _ in trace.told(batch)]
    assert kinds[0] == 0x10 and kinds[-1] == 0x11 and kinds[1] == SUBSYSTEM
    assert trace.touched(batch) == {("inet", "pathfit-trace-x")}
    assert len(batch) < 200_000, "a netlink socket sends 212992 bytes without being asked for more"
    rules = [b for b in trace.told(batch) if b[0] == SUBSYSTEM | 6]
    said = [e.name for _, at, end in rules for e in expressions(attributes(batch, at + 4, end)[4])]
    assert {"meta", "payload", "cmp", "lookup", "immediate", "limit", "counter"} <= set(said)


@pytest.mark.parametrize("family", [4, 6])
def test_whether_a_packet_is_of_the_flow(family: int) -> None:
    hosts = [A4, B4, A6, B6]
    packet = dissect.packet(inside(family))
    assert Flow(hosts, TCP, (443,)).holds(packet) is True
    assert Flow(hosts, TCP, (444,)).holds(packet) is False
    assert Flow(hosts).holds(packet) is True
    assert Flow(hosts, UDP, (443,)).holds(packet) is None
    assert Flow([A4, A6], TCP, (443,)).holds(packet) is None
    assert Flow(hosts, TCP).holds(dissect.packet(b"")) is None


def test_what_is_wrapped_is_not_told_by_its_outside() -> None:
    for case in EVERY:
        data, _ = wrapped(*case)
        assert Flow([A4, B4, A6, B6], TCP, (443,)).holds(dissect.packet(data[14:])) is None


DROP, ACCEPT = Verdict(kind="drop"), Verdict(kind="accept")


def table(*rules: FilterRule, tool: str = "nft", **more: object) -> Table:
    chain = Chain(name="f", rules=rules, hook="forward", **more)  # type: ignore[arg-type]
    return Table(family="inet" if tool == "nft" else "ip", name="corp", chains=(chain,), tool=tool)  # type: ignore[arg-type]


def rule(*exprs: object, handle: int = 9, text: str = "that one", packets: int | None = None) -> FilterRule:
    return FilterRule(exprs=exprs, handle=handle, text=text, packets=packets)  # type: ignore[arg-type]


MAP = Choice(fields=("l4proto",), rows=(("6",), ("17",)), then=(ACCEPT, DROP))
QUIET = Choice(fields=("l4proto",), rows=(("6",),), then=(ACCEPT,))


@pytest.mark.parametrize(
    ("exprs", "text"),
    [
        ((DROP,), "that one"),
        ((Verdict(kind="reject", reject_with="tcp-reset"),), "that one"),
        ((MAP,), "that one"),
        ((Opaque(what="target X", statement=True),), "that one"),
        ((ACCEPT,), ""),
        ((QUIET,), ""),
        ((Opaque(what="a match"),), ""),
        ((), ""),
    ],
)
def test_a_rule_that_cannot_have_dropped_is_not_named(exprs: tuple[object, ...], text: str) -> None:
    found = named(one(*RULE), [table(rule(ACCEPT, handle=8), rule(*exprs))])
    assert (found.text, found.number, found.handle, found.tool) == (text, 2 if text else 0, 9, "nft")


def test_what_is_not_in_the_snapshot_is_a_number() -> None:
    for tables in ([], [table(rule(DROP, handle=8))], [table(rule(DROP), tool="iptables-legacy")]):
        assert (named(one(*RULE), tables).handle, named(one(*RULE), tables).text) == (9, "")
    assert named(one(*RULE), [table(rule(DROP))], stale=True).text == ""
    policy = one(name(1, "corp"), name(2, "f"), be32(4, 1), be32(16, 0))
    assert named(policy, [table(policy="drop")]).text == "policy drop"
    assert named(policy, [table(policy="accept")]).text == "", "it says otherwise"


def test_counters_that_moved() -> None:
    def read_(*packets: int, policy: int = 0, tool: str = "iptables-legacy") -> list[Table]:
        texts = ("-s 10.0.0.1 -j DROP", "-s 10.0.0.2 -j DROP", "-j DROP", "-j DROP")
        rules = [rule(DROP, handle=0, text=t, packets=n) for t, n in zip(texts, packets, strict=False)]
        return [table(*rules, rule(ACCEPT, handle=0, packets=sum(packets)), tool=tool, policy="drop",
                      policy_packets=policy)]  # fmt: skip

    (moved,) = counted(read_(1, 1), read_(1, 5))
    assert (moved.rule.text, moved.rule.number, moved.packets) == ("-A f -s 10.0.0.2 -j DROP", 2, 4)
    assert [m.rule.policy for m in counted(read_(1, policy=1), read_(1, policy=3))] == [True]
    assert counted(read_(5), read_(1)) == [], "set to nothing meanwhile"
    assert counted(read_(1, tool="nft"), read_(5, tool="nft")) == []
    assert counted([], read_(5)) == []


def test_udp_is_read_as_well() -> None:
    first, later = fragments(A6, B6, datagram(A6, B6, 5000, 7000, bytes(1000)), 1, 800)
    assert Flow([A6, B6], UDP, (7000,)).holds(dissect.packet(first)) is True
    assert Flow([A6, B6], UDP, (7001,)).holds(dissect.packet(first)) is False
    assert Flow([A6, B6], UDP, (7001,)).holds(dissect.packet(later)) is True, "it has no ports"


def test_icmp_is_icmpv6_as_well() -> None:
    for src, dst in ((A4, B4), (A6, B6)):
        assert Flow([src, dst], ICMP).holds(dissect.packet(echo_request(src, dst, 1, 1, 60))) is True
