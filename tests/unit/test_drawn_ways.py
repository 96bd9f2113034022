"""NAT that chooses among several: every way that a connection may go, and which one each packet went. By hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import topo
from msgspec.structs import replace
from test_filters import chain, m, nat_table, table
from test_follow_losses import ID, NETWORK, dropped, passing, seen, tcp

from pathfit.core.evidence import TraceFact
from pathfit.core.filters import Choice, Nat, Table, Verdict
from pathfit.core.net import Point
from pathfit.core.path import Fate
from pathfit.core.request import Watch
from pathfit.core.tracing import Branch, Dropped, Seen, Stop, Tap
from pathfit.follow.losses import losses_of
from pathfit.follow.seen import Flow, Way, used, ways
from pathfit.model import Network, predict_both
from pathfit.model.taps import taps
from pathfit.model.walk import predict_drawn
from pathfit.wire.packets import ACK, RST, SYN, ip_header

SERVICE = "198.18.9.9"
LAB = """
c eth0 1500 198.18.1.2/24 -- r vc 1500 198.18.1.1/24
r vs 1500 198.18.2.1/24 -- s eth0 1500 198.18.2.2/24
r vt 1400 198.18.3.1/24 -- t eth0 1500 198.18.3.2/24
c route default via 198.18.1.1
s route default via 198.18.2.1
t route default via 198.18.3.1
r forward
"""


def to(address: str, last: str = "") -> Nat:
    return Nat(kind="dnat", lo=address, hi=last or address, port_lo=8080, port_hi=8080)


S, T = to("198.18.2.2"), to("198.18.3.2")
FOR_SERVICE = m("daddr", f"{SERVICE}/32")
DICE = (Choice(fields=("nth",), rows=(("0/2",), ("1/2",)), then=(S, T)),)
SEPS = [chain((nat,), name=name, hook=None) for name, nat in (("A", S), ("B", T))]
SVC = chain(
    (m("random", "0.5"), Verdict(kind="jump", target="A")), (Verdict(kind="jump", target="B"),), name="SVC", hook=None
)
BASE = chain((FOR_SERVICE, Verdict(kind="jump", target="SVC")), hook="prerouting", type="nat", priority=-100)
BOTH = {("198.18.2.2", "s", 1500), ("198.18.3.2", "t", 1400)}


@pytest.mark.parametrize(
    ("tables", "ends"),
    [
        ((nat_table((FOR_SERVICE, *DICE)),), BOTH),
        ((table(BASE, SVC, *SEPS, family="ip"),), BOTH),
        ((nat_table((FOR_SERVICE, m("uid", "7"), S), (FOR_SERVICE, T)),), BOTH),  # who knows whether it matches
        ((nat_table((FOR_SERVICE, S)),), set()),  # nobody chooses
        (
            (nat_table((FOR_SERVICE, to("198.18.2.2", "198.18.2.3"))),),
            {("198.18.2.2", "s", 1500), ("198.18.2.3", "", 1500)},
        ),
        ((nat_table((FOR_SERVICE, to("10.0.0.1", "10.0.255.1"))),), set()),  # too many to look at
    ],
)
def test_every_way(tables: tuple[Table, ...], ends: set[tuple[str, str, int]]) -> None:
    network = Network.of(topo.host(LAB, tables={"r": tables}))
    found = set()
    for forward, reverse in predict_drawn(network, "netns:c", SERVICE, dport=80):
        assert forward.final is not None
        arrives = forward.fate is Fate.DELIVERED
        found.add(
            (forward.final.dst, forward.hops[-1].where.netns.removeprefix("netns:") if arrives else "", forward.mtu)
        )
        assert not arrives or (reverse.final is not None and reverse.final.src == SERVICE and reverse.complete)
    assert found == ends


def test_the_prediction_itself_stays_unknown() -> None:
    """Which of them it is, nobody knows: `diagnose` says nothing of either."""
    network = Network.of(topo.host(LAB, tables={"r": (nat_table((FOR_SERVICE, *DICE)),)}))
    forward, _ = predict_both(network, "netns:c", SERVICE, dport=80)
    assert (forward.fate, forward.complete) == (Fate.UNKNOWN, False)


def test_taps_on_all_of_them() -> None:
    network = Network.of(topo.host(LAB, tables={"r": (nat_table((FOR_SERVICE, *DICE)),)}))
    forward, reverse = predict_both(network, "netns:c", SERVICE, dport=80)
    at = taps(network, forward, reverse, 80, predict_drawn(network, "netns:c", SERVICE, dport=80))
    names = [f"{t.at.netns.removeprefix('netns:')}/{t.at.link}" for t in at.taps]
    assert [[names[s.tap] for s in b.forward] for b in at.branches] == [
        ["c/eth0", "r/vc", "r/vs", "s/eth0"],
        ["c/eth0", "r/vc", "r/vt", "t/eth0"],
    ]
    assert [[names[s.tap] for s in b.reverse] for b in at.branches] == [
        ["s/eth0", "r/vs", "r/vc", "c/eth0"],
        ["t/eth0", "r/vt", "r/vc", "c/eth0"],
    ]
    assert [names[s.tap] for s in at.forward] == ["c/eth0", "r/vc"]
    assert {SERVICE, "198.18.2.2", "198.18.3.2"} <= set(at.hosts) and {80, 8080} <= set(at.ports)
    plain = taps(network, forward, reverse, 80)
    assert plain.branches == () and plain.forward == at.forward


def test_what_routes_of_the_way_back_allow_answers_of_any_size() -> None:
    """Answers are as large as we promised to take, whatever is usual."""
    lab = LAB.replace(" 1500 ", " 9000 ").replace(" 1400 ", " 9000 ") + "r route 198.18.1.2/32 dev vc mtu lock 4000\n"
    network = Network.of(topo.host(lab, tables={"r": (nat_table((FOR_SERVICE, *DICE)),)}))
    forward, reverse = predict_both(network, "netns:c", SERVICE, dport=80)
    at = taps(network, forward, reverse, 80, predict_drawn(network, "netns:c", SERVICE, dport=80))
    assert [[(x.mtu, x.at.link) for x in b.limits] for b in at.branches] == [[(4000, "vc")]] * 2


def test_an_end_that_the_translator_has_no_route_to() -> None:
    """It is one of those that are drawn, and its way ends where it was chosen."""
    tables = {"r": (nat_table((FOR_SERVICE, m("uid", "7"), S), (FOR_SERVICE, to("10.9.9.9"))),)}
    network = Network.of(topo.host(LAB, tables=tables))
    forward, reverse = predict_both(network, "netns:c", SERVICE, dport=80)
    at = taps(network, forward, reverse, 80, predict_drawn(network, "netns:c", SERVICE, dport=80))
    assert [(b.address, b.port, len(b.forward)) for b in at.branches] == [
        ("198.18.2.2", 8080, 4),
        ("10.9.9.9", 8080, 2),
    ]
    assert "10.9.9.9" in at.hosts


# -- which one each packet went: c asks 10.0.2.2 (s), which r takes to .4.2 (r/vs) or to .5.2 --------------------------

NEAR = (Stop(0, True), Stop(1, False))
BACK = (Stop(1, True), Stop(0, False))
ENDS = tuple(bytes((10, 0, n, 2)) for n in (4, 5))
BRANCHES = tuple(
    Branch(address=f"10.0.{n}.2", port=443, forward=(*NEAR, Stop(tap, True)), reverse=(Stop(tap, False), *BACK))
    for n, tap in ((4, 2), (5, 3))
)
WATCH = Watch(
    ref="w", address="10.0.2.2", hosts=("10.0.1.2", "10.0.2.2", "10.0.4.2", "10.0.5.2"), ports=(443,),
    taps=tuple(
        Tap(at=Point(host="h", netns=f"netns:{ns}", link=link), netns=ID[ns], link=n)
        for n, (ns, link) in enumerate((("c", "eth0"), ("r", "vc"), ("r", "vs"), ("r", "vt")), 1)
    ),
    forward=NEAR, reverse=BACK, branches=BRANCHES,
)  # fmt: skip


def taken(them: list[Seen], *drops: Dropped) -> tuple[Way, ...]:
    return ways(
        TraceFact(ref="w", taps=WATCH.taps, opened=(0, 1, 2, 3), seen=tuple(them), dropped=drops, ended=10**9), WATCH
    )


def there(end: int, time: float, seq: int, **more: int) -> list[Seen]:
    """A packet that comes to r, and leaves it for an end."""
    before, after = tcp(100, seq, **more), tcp(100, seq, to=ENDS[end], **more)
    return [*passing(NEAR, time, before), seen(Stop(2 + end, True), time + 0.1, after)]


def counts(both: tuple[Way, ...]) -> dict[str, int]:
    return {w.end: len(w.packets) for w in both if w.direction == "forward" and w.packets}


def test_by_the_address_behind_the_translator() -> None:
    both = taken([*there(0, 1, 1000, sport=40000), *there(1, 2, 5000, sport=40001)])
    assert counts(both) == {"10.0.4.2:443": 3, "10.0.5.2:443": 3}
    assert not any(w.result.lost for w in both) and len(used(both)) == 2


def test_what_got_lost_goes_with_its_connection() -> None:
    """The second packet of a connection came to no device behind the choice."""
    both = taken([*there(1, 1, 1000), *passing(NEAR, 2, tcp(100, 1100))])
    assert counts(both) == {"10.0.5.2:443": 5}
    (loss,) = [x for w in both for x in w.result.lost]
    assert (loss.last, loss.start) == (1, 1100)


def test_who_begins_anew_may_be_taken_elsewhere() -> None:
    """A SYN that is dropped is not remembered: the next one of the same ports goes where the dice fall then."""
    first, again = tcp(0, 999, flags=SYN, ack=0), tcp(0, 999, flags=SYN, ack=1)  # (another time stamp, on the wire)
    gone = dropped("r", 1.2, tcp(0, 999, flags=SYN, ack=0, to=ENDS[1]))
    later = [*passing(NEAR, 5, again), seen(Stop(2, True), 5.1, tcp(0, 999, flags=SYN, ack=1, to=ENDS[0]))]
    both = taken([*passing(NEAR, 1, first), *later, *there(0, 6, 1000)], gone)
    assert counts(both) == {"10.0.5.2:443": 2, "10.0.4.2:443": 6}
    assert [w.end for w in both if w.result.lost] == ["10.0.5.2:443"]


def test_of_which_nothing_was_seen_behind_it_goes_to_none() -> None:
    both = taken([*passing(NEAR, 1, tcp(100, 1000)), *there(0, 2, 7000, sport=40001)])
    assert counts(both) == {"": 2, "10.0.4.2:443": 3}
    assert not any(w.result.lost for w in both)  # there is no point behind the choice that should have seen it


def test_answers_come_back_by_their_way() -> None:
    answer = tcp(1400, 1, back=True, ack=8)
    both = taken(
        [*there(1, 1, 1000), *passing(BACK, 2, answer), *passing(BACK, 3, tcp(0, 2, back=True, flags=RST | ACK))]
    )
    assert {w.end: len(w.packets) for w in both if w.direction == "reverse" and w.packets} == {"10.0.5.2:443": 4}


def test_what_the_far_end_s_own_kernel_takes_back_is_no_loss_of_what_went_to_none() -> None:
    """Its way in ends where the choice is made, and says nothing of drops behind it."""
    them = [*passing(NEAR, 1, tcp(100, 1000)), *there(0, 2, 7000, sport=40001)]
    answer = ip_header(ENDS[0], bytes((10, 0, 1, 2)), 6, 1420) + tcp(1400, 1, back=True, ack=8, sport=40001)[20:]
    them += [seen(Stop(2, False), 3, answer), *passing(BACK, 3.1, tcp(1400, 1, back=True, ack=8, sport=40001))]
    large = ip_header(ENDS[0], bytes((10, 0, 1, 2)), 6, 1420) + tcp(1400, 9000, back=True, ack=9, sport=40001)[20:]
    gone = dropped("r", 4, large, "too-big")  # which no device saw
    fact = TraceFact(
        ref="w", taps=WATCH.taps, opened=(0, 1, 2, 3), seen=tuple(them), dropped=(gone,), ended=10**9, watched=True
    )
    way = SimpleNamespace(limits=(), hops=(), ends=Point(host="h", netns="netns:r", link="vc"))
    report: Any = SimpleNamespace(host="h", forward=way, reverse=way)
    watch = replace(WATCH, reverse=(Stop(1, False), *BACK[1:]))  # as if it came in from outside there
    both = ways(fact, watch)
    assert counts(both) == {"": 2, "10.0.4.2:443": 3}
    assert not any(x.before is None and x.after is None for x in losses_of(both, fact, Flow.of(watch), NETWORK, report))
