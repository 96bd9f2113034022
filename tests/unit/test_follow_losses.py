"""What is said of losses, from frames and events made by hand: each row is a fault that random labs have shown."""

from types import SimpleNamespace
from typing import Any

import pytest
import topo
from msgspec.structs import replace
from test_wire_dissect import ether, wrapped

from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Loss
from pathfit.core.net import Point
from pathfit.core.path import Limit
from pathfit.core.request import Watch
from pathfit.core.tracing import Dropped, Filters, Lost, Rule, Ruled, Seen, Stop, Tap
from pathfit.follow import _along, _verdict, trails
from pathfit.follow.losses import _answers, losses_of
from pathfit.follow.seen import Flow, packets, ways
from pathfit.follow.trails import Sighted, Trails
from pathfit.model.dropped import why
from pathfit.model.network import Network
from pathfit.model.same import pieces
from pathfit.wire import dissect
from pathfit.wire.packets import ACK, RST, SYN, TCPH, echo_request, ip_header

C, S, R, INNER = (bytes((10, 0, n, 2)) for n in (1, 2, 3, 4))
C6, S6, R6 = (bytes.fromhex("fd07" + "00" * 13 + f"0{n}") for n in (1, 2, 3))
MS = 1_000_000
LAB = """
c eth0 1500 10.0.1.2/24 -- r vc 1500 10.0.1.1/24
r vs 1500 10.0.2.1/24 -- s eth0 1500 10.0.2.2/24
"""
HOST = topo.host(LAB)
NETWORK = Network.of(HOST)
ID = {n.where.removeprefix("netns:"): n.id for n in HOST.namespaces}
TAPS = tuple(
    Tap(at=Point(host="h", netns=f"netns:{ns}", link=link), netns=ID[ns], link=2)
    for ns, link in (("c", "eth0"), ("r", "vc"), ("r", "vs"), ("s", "eth0"))
)
FORWARD = (Stop(0, True), Stop(1, False), Stop(2, True), Stop(3, False))
REVERSE = (Stop(3, True), Stop(2, False), Stop(1, True), Stop(0, False))


def inode(ns: str) -> int:
    return int(ID[ns].rpartition(":")[2])


def tcp(
    size: int = 0,
    seq: int = 1000,
    *,
    back: bool = False,
    flags: int = ACK,
    ack: int = 7,
    to: bytes = b"",
    sport: int = 40000,
) -> bytes:
    """One packet between c and s."""
    src, dst, ports = (C, S, (sport, 443)) if not back else (S, C, (443, sport))
    head = TCPH.pack(*ports, seq, ack, 20 << 2, flags, 502, 0, 0)
    return ip_header(src, to or dst, 6, 20 + size) + head + bytes(size)


def udp(size: int, src: bytes, dst: bytes, sport: int, dport: int) -> bytes:
    head = b"".join(n.to_bytes(2, "big") for n in (sport, dport, 8 + size, sport ^ dport ^ dst[2] ^ 0xBEEF))
    return ip_header(src, dst, 17, 8 + size) + head + bytes(size)


def error(src: bytes, dst: bytes, quoted: bytes, mtu: int = 1400) -> bytes:
    """ "Too big"."""
    six = len(src) == 16
    head = bytes((2, 0, 0, 0)) + mtu.to_bytes(4, "big") if six else bytes((3, 4, 0, 0)) + mtu.to_bytes(4, "big")
    body = head + quoted[:48]
    return ip_header(src, dst, 58 if six else 1, len(body)) + body


def seen(at: Stop, time: float, packet: bytes) -> Seen:
    frame = ether(packet)
    return Seen(tap=at.tap, time=int(time * MS), length=len(frame), out=at.out, data=frame)


def passing(stops: tuple[Stop, ...], time: float, packet: bytes) -> list[Seen]:
    """The packet at these points, one after the other."""
    return [seen(stop, time + n / 100, packet) for n, stop in enumerate(stops)]


def dropped(ns: str, time: float, packet: bytes, word: str = "filtered", **more: Any) -> Dropped:
    return Dropped(
        time=int(time * MS),
        word=word,
        reason="X",
        function="f",
        netns=inode(ns) if ns in ID else 99,
        length=len(packet),
        data=packet[:80],
        **more,
    )


def watch(**more: Any) -> Watch:
    words = {"forward": FORWARD, "reverse": REVERSE, "ports": (443,), "hosts": ("10.0.1.2", "10.0.2.2", "10.0.4.2")}
    return Watch(ref="w", taps=TAPS, **{"address": "10.0.2.2", **words, **more})


def fact(seen: list[Seen], *drops: Dropped) -> TraceFact:
    return TraceFact(
        ref="w", taps=TAPS, opened=(0, 1, 2, 3), seen=tuple(seen), dropped=drops, ended=1000 * MS, watched=True
    )


def lost(it: TraceFact, asked: Watch | None = None, limits: tuple[Limit, ...] = ()) -> list[Loss]:
    asked = asked or watch()
    way = SimpleNamespace(limits=limits, hops=(), ends=None)
    report: Any = SimpleNamespace(host="h", forward=way, reverse=way)
    return list(losses_of(ways(it, asked), it, Flow.of(asked), NETWORK, report))


def place(loss: Loss) -> tuple[str | None, str | None]:
    return tuple(f"{p.netns[6:]}/{p.link}" if p else None for p in (loss.after, loss.before))  # type: ignore[return-value]


def test_a_route_s_mtu_decides_where_its_device_takes_more() -> None:
    large = tcp(1460)
    at = Point(host="h", netns="netns:r", link="vs")
    limits = (Limit(mtu=1400, kind="route", at=at, then="icmp"),)
    event = dropped("r", 5.05, large, "too-big", limit="egress", egress="vs", egress_mtu=1500, egress_netns=inode("r"))
    it = fact(passing(FORWARD[:2], 5, large), event)
    (loss,) = lost(it, limits=limits)
    assert place(loss) == ("r/vc", "r/vs") and [c.mtu for c in loss.causes] == [1400]
    assert [c.mtu for c in lost(it)[0].causes] == [None], "not the device's, which takes it"


def test_the_short_end_of_a_burst_shares_its_fate() -> None:
    """ip_finish_output_gso(): ip_fragment() drops each segment of it, whatever its size."""
    burst = [tcp(1460), tcp(1460, 2460), tcp(500, 3920)]
    limit = {"limit": "underlay", "egress": "vs", "egress_mtu": 1400, "egress_netns": inode("r")}
    events = [dropped("r", 5.05 + n, x, "outer-too-big", **limit) for n, x in enumerate(burst)]
    (loss,) = lost(fact([y for n, x in enumerate(burst) for y in passing(FORWARD[:2], 5 + n, x)], *events))
    assert [(c.mtu, c.count) for c in loss.causes] == [(1400, 3)]


def test_what_the_sender_was_told_is_the_size_that_nothing_else_knows() -> None:
    large = tcp(1460)
    event = dropped("r", 5.05, large, "too-big", limit="egress", egress="vs", egress_mtu=1500, egress_netns=inode("r"))
    told = error(R, C, large, 1380)
    (loss,) = lost(fact([*passing(FORWARD[:2], 5, large), seen(REVERSE[2], 5.1, told)], event))
    assert [c.mtu for c in loss.causes] == [1380]


def test_a_copy_that_was_dropped_is_not_the_one_that_came_further() -> None:
    """Two equal packets, closer than the clocks of taps and of drops: the second ends at the router."""
    answer = tcp(back=True)
    them = [*passing(REVERSE, 5, answer), *passing(REVERSE[:2], 5.001, answer)]
    (loss,) = lost(fact(them, dropped("r", 5.02, answer)))
    assert place(loss) == ("r/vs", "r/vc") and [c.word for c in loss.causes] == ["filtered"]


def test_echoes_are_not_packets_of_a_service() -> None:
    """Where ports are translated, the translator itself answers them: they go no further, and are not lost."""
    echo = echo_request(C, S, 1, 1, 64)
    assert not lost(fact([*passing(FORWARD, 5, tcp()), *passing(FORWARD[:2], 6, echo)]))
    flow = Flow.of(watch(ports=()))
    layer = flow.packet(echo, raw=True)
    assert layer is not None and flow.goes(layer) == "forward", "where no service is asked for they are"


def test_neighbours_that_ask_for_each_other_are_not_the_flow() -> None:
    """The address that a flow is translated to is the translator's own."""
    flow = Flow.of(watch(hosts=("fd07::1", "fd07::2"), address="fd07::2"))
    body = bytes((136, 0, 0, 0, 0x60, 0, 0, 0)) + S6 + bytes((2, 1, 2, 0, 0, 0, 0, 7))
    layer = flow.packet(ip_header(S6, C6, 58, len(body), ttl=255) + body, raw=True)
    assert layer is not None and flow.goes(layer) is None


@pytest.mark.parametrize("to", [S, INNER], ids=["asked", "translated"])
def test_an_error_goes_against_what_it_is_about(to: bytes) -> None:
    """By ports: behind a translator its address is not the one that was asked."""
    flow = Flow.of(watch())
    layer = flow.packet(error(C, to, tcp(1460, back=True)), raw=True)
    assert layer is not None and flow.goes(layer) == "forward"


@pytest.mark.parametrize(("src", "dst", "to"), [(S, C, R), (S6, C6, R6)], ids=["IPv4", "IPv6"])
def test_an_error_is_recognised_when_what_it_quotes_is_translated(src: bytes, dst: bytes, to: bytes) -> None:
    head = TCPH.pack(443, 40000, 1000, 7, 20 << 2, ACK, 502, 0, 0)
    keys = []
    for client, port in ((dst, head), (to, head[:2] + b"\x12\x34" + head[4:])):
        whole = error(client, src, ip_header(src, client, 6, 1480) + port + bytes(1460))
        layer = dissect.packet(whole).layers[0]
        keys.append(pieces(whole, layer, len(whole)))
    assert keys[0] == keys[1]
    other = error(dst, src, ip_header(src, dst, 6, 1480) + head[:4] + b"\x00\x00\x07\x07" + head[8:])
    assert pieces(other, dissect.packet(other).layers[0], len(other)) != keys[0], "another segment"


@pytest.mark.parametrize("iif", [2, 9], ids=["came by a tap", "came by another device"])
def test_an_error_that_was_filtered_is_not_another_one(iif: int) -> None:
    """60 bytes of a "too big" for IPv6 do not say what it is about: the one that came to the server is not the one that
    a rule of the client's dropped, which no tap counts to the flow."""
    asked = watch(address="fd07::2", hosts=("fd07::1", "fd07::2", "fd07::3"))
    head = TCPH.pack(443, 40000, 1000, 7, 20 << 2, ACK, 502, 0, 0)
    came = passing(FORWARD[2:], 5, error(R6, S6, ip_header(S6, C6, 6, 1480) + head + bytes(1460)))
    mine = error(R6, C6, ip_header(C6, S6, 6, 1480) + head + bytes(1460))
    rule = Rule(tool="nft", family="inet", table="t", chain="c")
    heard = Ruled(time=6 * MS, netns=ID["c"], rule=rule, iif=iif, data=mine[:60])
    it = replace(fact(came), filters=Filters(heard=(ID["c"],), ruled=(heard,)))
    assert not lost(it, asked)


def test_who_begins_anew_has_not_lost_what_lies_between() -> None:
    """The first point is not the sender's: a second SYN-ACK of the same ports has numbers of its own."""
    seen_from = REVERSE[1:]
    first, second = (tcp(seq=n, back=True, flags=SYN | ACK, ack=n) for n in (1000, 900_000))
    it = fact([*passing(seen_from, 5, first), *passing(seen_from, 800, second)])
    assert not lost(it, watch(reverse=seen_from))
    gap = [x for n, at in ((1001, 10), (4001, 20)) for x in passing(seen_from, at, tcp(1000, n, back=True))]
    (loss,) = lost(fact([*passing(seen_from, 5, first), *gap]), watch(reverse=seen_from))
    assert (loss.missing, place(loss)) == (2000, (None, "r/vs"))


def test_what_is_lost_before_the_sender_s_own_device() -> None:
    """Small packets pass, so the way is known to be used; large ones are dropped by the sender itself."""
    small, large = tcp(), tcp(1460, 5000)
    them = passing(FORWARD, 5, small)
    (loss,) = lost(fact(them, dropped("c", 6, large, "queue-full")))
    assert place(loss) == (None, None) and (loss.smallest, loss.causes[0].word) == (1500, "queue-full")
    for event in (
        dropped("c", 6, large, "too-big", limit="egress"),  # its own kernel has learned a size: TCP cuts again
        dropped("s", 6, large),  # somebody else's: all that c sends passes its device
        dropped("elsewhere", 6, large),
        dropped("c", 1001, large),  # the taps were looked at no more
    ):
        assert not lost(fact(them, event))
    early = replace(fact(them, dropped("c", 4, large)), armed=int(4.5 * MS))
    assert not lost(early), "before the taps were open"
    full = replace(fact(them, dropped("c", 6, large)), lost=(Lost(tap=0, kept=2, lost=1),))
    assert not lost(full), "the tap may have missed it"


def test_an_answer_comes_from_where_it_was_seen_first() -> None:
    """Not from where the one before it was seen, to a copy a moment earlier."""
    large = tcp(1460)
    told = error(S, C, large)
    them = [*passing(FORWARD[:3], 5, large), *passing(FORWARD[:3], 5.3, large)]
    them += [seen(REVERSE[1], 5.05, told), seen(REVERSE[2], 5.15, told), seen(REVERSE[1], 5.4, told)]
    loss = next(x for x in lost(fact(them)) if x.direction == "forward")
    assert {(c.word, c.at.link) for c in loss.causes} == {("answered", "vs")}


@pytest.mark.parametrize("outer", [4, 6])
def test_a_datagram_in_a_tunnel_of_which_the_kernel_s_event_holds_less(outer: int) -> None:
    """160 bytes from the outer header on: what is left of the payload behind two headers still tells which it is."""
    one, two = (ip_header(C6, S6, 17, 1308) + udp(1300, C6, S6, 40000, 7)[40:48] + bytes((n,)) * 1300 for n in (1, 2))
    whole = wrapped("vxlan", outer, 6, one)[0][14:]
    event = replace(dropped("r", 5.2, whole, "outer-too-big"), data=whole[:160])
    asked = watch(ports=(7,), hosts=("fd07::1", "fd07::2"), address="fd07::2")
    them = [*passing(FORWARD[:2], 5, one), *passing(FORWARD, 5.1, two)]
    (loss,) = lost(fact(them, event), asked)
    assert (place(loss), [c.word for c in loss.causes]) == (("r/vc", "r/vs"), ["outer-above-path-mtu"])


def test_a_datagram_that_was_answered_is_known_by_its_length() -> None:
    """Addresses, ports and with them the checksum may have been translated in between."""
    large, other = (udp(1400, *ends) for ends in ((C, S, 40000, 7), (R, INNER, 50000, 8)))
    them = [*passing(FORWARD[:3], 5, large), seen(REVERSE[1], 5.05, error(S, C, other, 1372))]
    asked = watch(ports=(7, 8), hosts=("10.0.1.2", "10.0.2.2", "10.0.3.2", "10.0.4.2"))
    (loss,) = (x for x in lost(fact(them), asked) if x.direction == "forward")
    assert [(c.word, c.mtu) for c in loss.causes] == [("answered", 1372)]


def test_a_translator_that_answers_with_the_address_that_was_asked_is_no_tunnel() -> None:
    """Of a port that it takes elsewhere: the packets are for itself, and so is the address it answers with."""
    large = tcp(1460, to=bytes((10, 0, 1, 1)))
    told = error(bytes((10, 0, 1, 1)), C, large)
    them = [*passing(FORWARD[:2], 5, large), seen(REVERSE[2], 5.05, told), seen(REVERSE[3], 5.06, told)]
    asked = watch(hosts=("10.0.1.2", "10.0.1.1", "10.0.2.2"), address="10.0.1.1", targets=("10.0.1.1", "10.0.2.2"))
    (loss,) = (x for x in lost(fact(them), asked) if x.direction == "forward")
    assert [(c.word, c.mtu) for c in loss.causes] == [("answered-by-router", 1400)]


@pytest.mark.parametrize(
    ("back", "word"),
    [([], "unknown"), ([error(R, C, tcp())], "unknown"), ([tcp(back=True)], "arrives")],
    ids=["nothing", "an error", "an answer"],
)
def test_where_nothing_comes_back_nothing_is_said_to_arrive(back: list[bytes], word: str) -> None:
    """Seen from the sender's side alone."""
    mine = watch(forward=FORWARD[:1], reverse=REVERSE[3:], hosts=("10.0.1.2", "10.0.2.2", "10.0.3.2"))  # R translates
    them = [seen(FORWARD[0], 5, tcp()), *(seen(REVERSE[3], 6, packet) for packet in back)]
    both = ways(fact(them), mine)
    assert _verdict([], both, blind=False) == word


@pytest.mark.parametrize(
    ("reason", "functions", "word"),
    [
        ("NOT_SPECIFIED", ("neigh_invalidate", "neigh_timer_handler"), "no-neighbour"),  # IPv6: ndisc_error_report()
        ("NEIGH_FAILED", ("neigh_invalidate",), "no-neighbour"),
        # br_nf_dev_queue_xmit() is gone from the stack when ip6_fragment() runs, for it ends in that call
        (
            "NOT_SPECIFIED",
            ("ip6_fragment", "br_nf_post_routing", "nf_hook_slow", "br_forward_finish"),
            "port-too-small",
        ),
        # taken up while a bridge, or a tunnel, sent something else
        (
            "NOT_SPECIFIED",
            (
                "ip6_fragment",
                "ip6_output",
                "ip6_forward",
                "process_backlog",
                "net_rx_action",
                "do_softirq",
                "__dev_queue_xmit",
                "br_dev_queue_push_xmit",
            ),
            "too-big",
        ),
        (
            "NOT_SPECIFIED",
            (
                "ip6_fragment",
                "ip6_output",
                "ip6_forward",
                "process_backlog",
                "net_rx_action",
                "do_softirq",
                "iptunnel_xmit",
                "vxlan_xmit",
            ),
            "too-big",
        ),
        ("IP_INNOROUTES", ("ip6_pkt_prohibit", "ip6_rcv_finish"), "refused-by-route"),
        ("IP_INNOROUTES", ("ip6_pkt_discard", "ip6_rcv_finish"), "no-route"),
    ],
)
def test_reasons_that_random_labs_have_shown(reason: str, functions: tuple[str, ...], word: str) -> None:
    found = why(reason, functions)
    assert found is not None and found.word == word


@pytest.mark.parametrize("device", ["vs", "eth9"])
def test_of_two_copies_at_one_moment_each_has_its_own_drop(device: str) -> None:
    """A router drops a packet where it leaves; the copy behind it, in the same moment, is refused."""
    first, again = passing(FORWARD[:3], 5, tcp(1000)), passing(FORWARD[:2], 5.03, tcp(1000))
    gone = [
        dropped("r", 5.025, tcp(1000), "filtered", device=device),
        dropped("r", 5.045, tcp(1000), "hop-limit", device="vc"),
    ]
    them = sorted([*first, *again], key=lambda x: x.time)
    said = {place(x): [c.word for c in x.causes] for x in lost(fact(them, *gone))}
    assert said == {("r/vc", "r/vs"): ["hop-limit"], ("r/vs", "s/eth0"): ["filtered"]}


def packets_of(it: TraceFact) -> list[Sighted]:
    return [Sighted(*x) for x in packets(it, Flow.of(watch()))]


def test_a_packet_keeps_its_number_where_taps_are_left_out() -> None:
    """Who has the target's address is watched as well, and is no point of the way: what passes there comes between."""
    there = [seen(Stop(4, True), 1, tcp(back=True)) for _ in range(3)]
    ours = passing(FORWARD, 2, tcp(100))
    whole = replace(fact([*there, *ours]), taps=(*TAPS, replace(TAPS[3], link=7)), opened=tuple(range(5)))
    less = _along(whole, watch())
    assert less.taps == TAPS and all(x.tap < len(TAPS) for x in less.seen)
    assert [(x.packet.number, less.seen[x.packet.number]) for x in packets_of(less)] == list(enumerate(ours, 3))


def test_a_way_without_a_point_has_no_packet_and_no_loss() -> None:
    """Who has the target's address is watched, and nothing of the way: what passes there is none of its packets."""
    whole = fact([seen(Stop(3, True), 1, tcp(back=True))])
    nowhere = replace(watch(), forward=(), reverse=())
    less = _along(whole, nowhere)
    assert less.taps == () and len(less.seen) == 1
    assert list(_answers(less)) == [] and list(Trails([], less, nowhere).trails()) == []


@pytest.mark.parametrize("turned", [False, True])
def test_points_that_tell_one_moment_have_seen_one_packet(turned: bool) -> None:
    """While packets are stamped where they come in, a point behind another in one namespace tells the same moment."""
    reset = [replace(x, time=5 * MS) for x in passing(REVERSE, 5, tcp(seq=0, back=True, flags=RST | ACK))]
    it = fact(reset[::-1] if turned else reset)
    trails = list(Trails(packets_of(it), it, watch()).trails())
    assert [[x.stop for x in trail] for _, trail in trails] == [list(REVERSE)]


def test_hundreds_of_errors_among_thousands_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with the few packets that bear its number, not with all there are."""
    segments = [tcp(1460, 1460 * n) for n in range(2000)]
    them = [x for n, s in enumerate(segments) for x in passing(FORWARD, n / 10, s)]
    them += [seen(REVERSE[2], n / 10 + 0.05, error(R, C, segments[n])) for n in range(0, 2000, 10)]
    it, asked = fact(them), watch(hosts=("10.0.1.2", "10.0.2.2", "10.0.3.2"))
    compared = 0
    real = trails._is

    def counting(*args: Any) -> bool:
        nonlocal compared
        compared += 1
        return real(*args)

    monkeypatch.setattr(trails, "_is", counting)
    both = trails.Trails([trails.Sighted(*x) for x in packets(it, Flow.of(asked))], it, asked)
    errors = [trail for kind, trail in both.trails() if kind == "too-big"]
    assert len(errors) == 200 and all(both.asked(trail[0]) for trail in errors)
    assert compared < 200 * 20


def test_an_error_about_an_echo_came_to_who_had_sent_it() -> None:
    """A translator has the asked address itself, and answers echoes: an error about its answer goes no further."""
    echo = ip_header(S, C, 1, 64) + bytes((0, 0, 0, 0, 0, 7, 0, 1)) + bytes(56)
    told = error(R, S, echo)
    them = [*passing(FORWARD, 3, tcp()), seen(FORWARD[1], 5, told)]
    asked = watch(hosts=("10.0.1.2", "10.0.2.2", "10.0.3.2"))
    it, report = fact(them), SimpleNamespace(host="h", forward=None, reverse=None)
    mine = trails.Trails([trails.Sighted(*x) for x in packets(it, Flow.of(asked))], it, asked)
    said = losses_of(ways(it, asked), it, Flow.of(asked), NETWORK, report, None, mine)  # type: ignore[arg-type]
    assert not [x for x in said if x.error is not None]
    told = error(R, S, tcp(back=True))  # about one of the flow, it is
    it = fact([*passing(FORWARD, 3, tcp()), seen(FORWARD[1], 5, told)])
    mine = trails.Trails([trails.Sighted(*x) for x in packets(it, Flow.of(asked))], it, asked)
    said = losses_of(ways(it, asked), it, Flow.of(asked), NETWORK, report, None, mine)  # type: ignore[arg-type]
    assert [place(x) for x in said if x.error is not None] == [("r/vc", "r/vs")]
