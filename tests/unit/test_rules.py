"""Every rule has a documented example that fires and one that does not; its manual page is whole."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
import pytest
import swarms
from cases import (
    ADDRESS,
    BLIND,
    NARROW,
    OTHER,
    PLAIN,
    VXLAN,
    case,
    drop,
    failed,
    gaps,
    hole,
    hung,
    no_resets,
    no_too_big,
    other,
    out,
    passing,
    probe,
    rule,
    table,
    told,
    untracked,
)
from topo import host

from pathfit import diagnose
from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.evidence import CounterFact, HopsFact, Missing, NameFact, PlatformFact, ProbeResult, SocketFact
from pathfit.core.filters import Clamp, Match, Nat, Verdict
from pathfit.core.finding import Finding
from pathfit.core.followed import Cause, Followed, Loss
from pathfit.core.measured import (
    Attempt,
    Bracket,
    DnsAnswers,
    DnsSize,
    Flight,
    HopAnswer,
    LossSeen,
    Split,
    TooBig,
    Uneven,
)
from pathfit.core.net import Point, hops_away, packet_of
from pathfit.core.platform import LinkOwner
from pathfit.core.request import ReadPlatform
from pathfit.rules import FIELDS, NAMES, RULES, manual
from pathfit.rules.base import Rule
from pathfit.rules.view import View
from pathfit.words import render as words

HELD = BLIND.replace("c route default via 198.18.1.1", "c route default via 198.18.1.1 mtu 1400")


def kept(text: str, *managers: Any) -> Case:
    """A run from the host itself, whose device those managers keep."""
    owners = tuple(LinkOwner(manager=m, name="x", path="/x") for m in managers)
    fact = PlatformFact(ref="platform", netns="4:1", link="eth0", owners=owners)
    return case(text, probe()).add(
        ReadPlatform(ref="platform", source="netns:c", netns="4:1", link="eth0", index=2), (fact,)
    )


# a port of 1400 that super-packets pass unchecked
SUPER = """
c eth0 1500 198.18.3.1/24 -- h vc 1500 @br0
s eth0 1500 198.18.3.2/24 -- h vs 1400 @br0
h br0 bridge 1500
c offload eth0 on
s offload eth0 on
h offload vc on
h offload vs on
"""
DUAL = BLIND.replace("198.18.1.2/24", "198.18.1.2/24 2001:db8:1::2/64") + "c route default via 2001:db8:1::1\n"
SIXTH = {"address": "2001:db8:3::9", "family": 6}
NO_ROUTE_6 = {"tcp": "unreachable", "error": "ENETUNREACH"}
NAMED = {"target": Target(text="https://s.example:8443/", protocol="https", host="s.example", port=8443)}


def datagrams(udp: str, **more: Any) -> ProbeResult:
    """A measured UDP port, or a host without one."""
    changes = {"tcp": "n/a", "tls": "n/a", "http": "n/a", "protocol": "icmp" if udp == "n/a" else "udp", "udp": udp}
    keep = {k: more.pop(k) for k in ("icmp", "error_from", "speaks") if k in more}
    usual = {"forward": (out(method="udp-closed"),), "reverse": (Bracket(method="none", tests="reverse"),)}
    return probe(contact={**changes, "offered": None, **keep}, **{**usual, **more})


def hop(ttl: int, small: str | None, large: str | None) -> HopAnswer:
    return HopAnswer(ttl=ttl, small=small, large=large, small_tries=2, large_tries=2)


def dns_answers(bad: int | None, tcp: Any) -> DnsAnswers:
    """A DNS server with an answer of 1800 bytes, of which those with room for ``bad`` bytes and more are lost."""
    rooms = (512, 1232, 1400, 4096)
    lost = [bad is not None and room >= bad for room in rooms]
    sizes = tuple(
        DnsSize(room=r, tries=4, answered=0 if no else 4, cut=r < 1800 and not no, size=0 if no else min(r, 60))
        for r, no in zip(rooms, lost, strict=True)
    )
    return DnsAnswers(name=".", kind="DNSKEY", sizes=sizes, tcp=tcp, tcp_size=1800 if tcp == "ok" else 0)


class Example(NamedTuple):
    """``fires`` and ``quiet`` differ in what decides. ``want``: severity, confidence, and facts to be found. ``seen``:
    what taps saw in both."""

    code: str
    fires: Case
    quiet: Case
    severity: str
    confidence: str
    facts: dict[str, object] = {}
    seen: Followed | None = None


def lost(word: str | None, *, direction: Literal["forward", "reverse"] = "forward") -> Followed:
    """Packets that were seen at c and not at h, and why."""
    at, there = (Point(host="h", netns=n, link=link) for n, link in (("c", "eth0"), ("h", "vc")))
    causes = (Cause(word=word, at=there, reason="R", function="f", count=2),) if word else ()
    loss = Loss(direction=direction, after=at, before=there, packets=2, smallest=60, largest=1500, causes=causes)
    return Followed(version="0", ask=case(None).ask, verdict="lost", losses=(loss,))


def silent(n: int = 2, size: int = 560) -> tuple[Attempt, ...]:
    return tuple(Attempt(n=i, method="tcp-maxseg", size=size, outcome="silent") for i in range(n))


def split(kind: Literal["fragments", "whole"], **more: Any) -> Split:
    usual: dict[str, Any] = {"size": 1500, "piece": 552, "sent": 6, "sure": True}
    return Split(direction="forward", kind=kind, **{**usual, **more})


HOLE_1420 = probe(reverse=(hole(1420),))
DOCKER0 = EngineNetwork(id="n0", name="bridge", driver="bridge", mtu=1500, bridge="br0", default=True)
WEB = EngineNetwork(id="n1", name="web", driver="bridge", bridge="br0")


def engined(network: EngineNetwork, text: str = BLIND, probed: ProbeResult | None = HOLE_1420, **more: object) -> Case:
    """Namespace "c" is a container in that network of a dockerd. ``more`` is what the engine says."""
    end = Endpoint(network=network.id, name=network.name, addresses=("198.18.1.2",))
    one = Container(id="c1", name="ci", engine="docker", netns="4:1", endpoints=(end,))
    usual: dict[str, object] = {"mtu": 1500, "netns": "4:2", "config_path": "/etc/docker/daemon.json"}
    engine = Engine(
        kind="docker", socket="/run/docker.sock", networks=(network,), containers=(one,), **{**usual, **more}
    )
    state = msgspec.structs.replace(host(text), engines=(engine,))
    return case(state, *([probed] if probed is not None else []))


SYN = Match(field="tcpflags", values=("syn/syn,rst",))
INTOLERANT = Flight(verdict="intolerant", hello=1720, packet=1500, how="reset", split="answered")
LOST = Flight(verdict="lost", hello=1720, packet=1500, how="lost")
OUT_HOLE = probe(forward=(out(1420, fails=1421),))
MUTE = {"answered": 0, "tls": "stalled", "http": "n/a"}
CLAMPS_SYN = {"h": (table("forward", rule(SYN, Match(field="iifname", values=("br0",)), Clamp(size=1380))),)}
CLAMPS_HIGH = {"h": (table("forward", rule(SYN, Match(field="iifname", values=("br0",)), Clamp(size=1412))),)}
DROPS = {"h": (table("forward", drop(comment="egress-policy-7")),)}
DROPS_COUNTED = {"h": (table("forward", drop(comment="egress-policy-7", packets=7)),)}
REJECTS = {"h": (table("forward", drop(kind="reject", reject_with="tcp-reset")),)}
HAIRPIN = PLAIN + "d eth0 1500 198.18.1.3/24 -- h vd 1500 @br0\nd route default via 198.18.1.1\n"
TO_D = rule(Match(field="daddr", values=("198.18.2.2",)), Nat(kind="dnat", lo="198.18.1.3", hi="198.18.1.3"))
DNAT = table("prerouting", TO_D, kind="nat", priority=-100)
PUBLISHED = {"h": (DNAT,)}
FROM_H = table("postrouting", rule(Nat(kind="masquerade")), name="out", kind="nat", priority=100)
MASQUERADED = {"h": (DNAT, FROM_H)}
MUTE_S = "r neigh rs 198.18.3.2 failed\n"
NO_WAY_BACK = PLAIN.replace("r route 198.18.1.0/24 via 198.18.2.2\n", "")
NO_ROUTE = PLAIN.replace("h route default via 198.18.2.1\n", "")
HOLE_IN = probe(reverse=(hole(),), attempts=gaps(1500))
MOVED = {"TcpExt.IPReversePathFilter": 4}

UNACKED = tuple(Attempt(n=i, method="tcp-maxseg", size=560, outcome="unacked", retrans=4) for i in range(3))
LATE = Attempt(n=9, method="tcp-maxseg", size=560, outcome="aborted")  # opened too late to say anything
UNHEARD = probe(forward=(), reverse=(), contact={**MUTE, "acked": False}, attempts=(*UNACKED, LATE))
ESTABLISHED = Match(field="ctstate", values=("established",))
LATER = {"h": (table("forward", rule(ESTABLISHED, Verdict(kind="drop"))),)}
BLACKHOLE = PLAIN + "h route blackhole 198.18.3.0/24\n"

GONE = PLAIN.replace("c eth0 1500 198.18.1.2/24", "c eth0 1500 198.18.1.2/24 off").replace(
    "c route default via 198.18.1.1\n", ""
)

EXAMPLES = (
    Example(
        "RTE503",
        case(PLAIN.replace("h vc 1500 @br0", "h vc 1500 @br0 off"), failed("timeout")),
        case(PLAIN, probe()),
        "error",
        "confirmed",
        {"place": "h/vc"},
    ),
    Example(
        "RTE503",
        case(GONE, failed("unreachable")),
        case(GONE.replace(" off", ""), failed("unreachable")),
        "warning",
        "likely",
        {"case": "routes", "place": "c/eth0"},
    ),
    Example("NET152", case(PLAIN, UNHEARD), case(PLAIN, UNHEARD, tables=LATER), "error", "likely", {"case": "request"}),
    Example(
        "FLT401", case(PLAIN, UNHEARD, tables=LATER), case(PLAIN, UNHEARD), "error", "confirmed", {"case": "later"}
    ),
    Example(
        "FLT401", case(BLIND, UNHEARD, tables=LATER), case(BLIND, UNHEARD), "error", "confirmed", {"case": "later"}
    ),
    Example(
        "RTE501",
        case(BLACKHOLE, failed("timeout")),
        case(PLAIN, probe()),
        "error",
        "confirmed",
        {"case": "route", "route": "blackhole 198.18.3.0/24"},
    ),
    Example(
        "MTU101", case(BLIND, HOLE_IN), case(BLIND, probe()), "error", "confirmed", {"limit": 1420, "beyond": True}
    ),
    Example(
        "MTU101",
        case(BLIND, SocketFact(ref="sockets", sockets=(hung(), hung(sport=40002)))),
        case(BLIND, SocketFact(ref="sockets", sockets=(hung(rmem=0), hung(info={"rcv_mss": 1460})))),
        "error",
        "likely",
        {"case": "hung"},
    ),
    Example("MTU102", case(BLIND, OUT_HOLE), case(BLIND, probe()), "error", "confirmed", {"direction": "outbound"}),
    Example(
        "MTU102",
        case(BLIND, probe(reverse=(hole(),), forward=(out(1420, fails=1421),))),
        case(BLIND, probe(forward=(out(1420, fails=1501),), contact={"offered": 1420})),
        "warning",
        "confirmed",
    ),
    Example("MTU103", case(BLIND, HOLE_IN), case(BLIND, probe()), "warning", "confirmed", {"own": 1500, "limit": 1420}),
    Example(
        "MTU104",
        case(VXLAN, probe(reverse=(hole(1450),), forward=(out(1450, fails=1451),))),
        case(VXLAN, probe(reverse=(hole(1400),))),
        "warning",
        "confirmed",
        {"limit": 1450, "overhead": 50, "device": "a/vx0", "device_mtu": 1500},
    ),
    Example(
        "MTU106",
        case(NARROW, probe(forward=(told(1420),))),
        case(PLAIN, probe()),
        "warning",
        "confirmed",
        {"limit": 1420, "by": "198.18.1.1"},
    ),
    Example(
        "MTU107",
        case(NARROW, HOLE_IN, tables={"s": (table("input", no_too_big(), name="noptb"),)}),
        case(NARROW, probe()),
        "warning",
        "confirmed",
        {"direction": "inbound", "limit": 1420},
    ),
    Example(
        "MTU107",
        case(BLIND, probe(too_big=(TooBig(by="203.0.113.9", mtu=68, ours=False),))),
        case(BLIND, probe(too_big=(TooBig(by="203.0.113.9", mtu=1400),))),
        "warning",
        "likely",
        {"case": "senseless", "by": "203.0.113.9"},
    ),
    Example(
        "MTU110",
        case(PLAIN + f"c cached {ADDRESS} 1400\n", probe()),
        case(PLAIN + f"c cached {ADDRESS} 1500\n", probe()),
        "warning",
        "confirmed",
        {"mtu": 1400, "real": 1500},
    ),
    Example(
        "MTU110",
        case(
            BLIND + f"c cached {ADDRESS} 620\n",
            probe(forward=(out(620),), reverse=(passing(620),), contact={"promised": 620}),
        ),
        case(BLIND + f"c cached {ADDRESS} 1500\n", probe()),
        "info",
        "possible",
        {"case": "unsure", "mtu": 620, "real": 1500},
    ),
    Example(
        "MTU110",
        case(
            PLAIN + "s route 198.18.1.0/24 via 198.18.3.1 mtu 1000 lock\n",
            probe(reverse=(passing(1000, note="capped"),)),
        ),
        case(PLAIN + "s route 198.18.1.0/24 via 198.18.3.1 mtu 1000\n", probe(reverse=(passing(1000, note="capped"),))),
        "warning",
        "confirmed",
        {"case": "locked", "mtu": 1000, "real": 1500},
    ),
    Example(  # answers that could not be measured are no answers kept small
        "MTU111",
        case(BLIND, probe(forward=(out(1420, fails=1421),), reverse=(passing(1400, note="capped"),))),
        case(BLIND, probe(forward=(out(1420, fails=1421),), reverse=(passing(1400, grade="none", note="unproven"),))),
        "warning",
        "likely",
        {"direction": "outbound", "protected": "inbound"},
    ),
    Example(
        "MTU111",
        case(PLAIN, OUT_HOLE, tables=CLAMPS_SYN),
        case(PLAIN, probe(), tables=CLAMPS_SYN),
        "warning",
        "confirmed",
        {"direction": "outbound", "protected": "inbound"},
    ),
    Example(
        "MTU112",
        case(PLAIN, HOLE_IN, tables=CLAMPS_HIGH),
        case(PLAIN, OUT_HOLE, tables=CLAMPS_HIGH),  # it is on the SYN that bounds the other direction
        "warning",
        "confirmed",
        {"direction": "inbound", "mss": 1412, "wanted": 1380, "limit": 1420},
    ),
    Example(
        "MTU115",
        case(BLIND, probe(flight=INTOLERANT)),
        case(BLIND, probe(flight=msgspec.structs.replace(INTOLERANT, verdict="refused"))),
        "error",
        "confirmed",
        {"case": "reset", "hello": 1720, "packet": 1500},
    ),
    Example(
        "MTU115",
        case(BLIND, probe(forward=(out(1420, fails=1421),), flight=LOST)),
        case(BLIND, probe(flight=LOST)),  # nothing else says that such packets are lost
        "warning",
        "confirmed",
        {"limit": 1420},
    ),
    Example(
        "MTU118",
        case(BLIND, probe(uneven=Uneven(size=1500, good=9, bad=3))),
        case(BLIND, probe(uneven=Uneven(size=1500, good=12, bad=0))),
        "error",
        "confirmed",
    ),
    Example(
        "MTU119",
        case(BLIND, probe(reverse=(hole(),), rescued_after=3.2, rescued_size=1024)),
        case(BLIND, probe(reverse=(hole(),))),
        "warning",
        "confirmed",
        {"seconds": 3.2},
    ),
    Example(
        "MTU120",
        case(BLIND, probe(both=(Bracket(method="icmp-echo", tests="both", passes=1400, fails=1401, grade="step"),))),
        case(BLIND, probe(both=(Bracket(method="icmp-echo", tests="both", passes=1500, grade="step"),))),
        "info",
        "likely",
        {"limit": 1400},
    ),
    Example(
        "MTU108",
        case(BLIND, probe(forward=(out(1420, fails=1421),), splits=(split("whole", arrived=3, cut=3),))),
        case(BLIND, probe(splits=(split("whole", arrived=3),))),
        "info",
        "confirmed",
        {"limit": 1420, "own": 1500, "direction": "outbound"},
    ),
    Example(
        "MTU109",
        case(BLIND, probe(splits=(split("fragments", lost=6),))),
        case(BLIND, probe(splits=(split("fragments", arrived=1, lost=5),))),
        "info",
        "confirmed",
        {"direction": "outbound", "piece": 552},
    ),
    Example(
        "MTU109",
        case(BLIND, datagrams("n/a", both=(Bracket(method="icmp-fragments", tests="both", fails=2000, grade="step"),))),
        case(BLIND, datagrams("n/a", both=(Bracket(method="icmp-fragments", tests="both", note="unproven"),))),
        "info",
        "likely",
        {"case": "echo", "size": 2000},
    ),
    Example(
        "RST201",
        case(BLIND, failed("refused", rst_ttl=62, echo_ttl=62, rst_phase="syn")),
        case(BLIND, failed("timeout")),
        "error",
        "confirmed",
    ),
    Example(
        "RST202",
        case(BLIND, failed("reset", rst_ttl=63, echo_ttl=60, rst_phase="syn")),
        case(BLIND, failed("reset", rst_ttl=60, echo_ttl=60, rst_phase="syn")),
        "error",
        "likely",
    ),
    Example(
        "RST202", case(PLAIN, failed("refused"), tables=REJECTS), case(PLAIN, failed("refused")), "error", "confirmed"
    ),
    Example(
        "RST203",
        swarms.asked(swarms.stale(), failed("refused", rst_phase="syn")),
        swarms.asked((swarms.node(1), swarms.node(2), swarms.node(3)), failed("refused", rst_phase="syn")),
        "error",
        "confirmed",
        {"case": "stray", "by_host": "two", "home": "three"},
    ),
    Example(
        "RST203",
        swarms.asked(swarms.stale(), failed("refused", rst_phase="syn"), age=86400.0),
        swarms.asked(swarms.stale()[:1], failed("refused", rst_phase="syn")),
        "error",
        "likely",
    ),
    *(
        Example(
            "RST204",
            case(PLAIN, failed("reset", rst_phase="request") if bad else probe()),
            case(PLAIN),  # nothing was measured
            "error" if bad else "warning",
            "confirmed" if signs else "likely",
            {
                "case": "invalid" if signs else "forgotten",
                "place": "h",
                "at": "h/eth0",
                "translator": "netns:h",
                "count": 3,
            },
            untracked(*signs),
        )
        for bad in (True, False)
        for signs in ((), ("outside",), ("acknowledges",))
    ),
    Example(
        "RST205",
        case(PLAIN, failed("timeout", rst_unheard=61), tables={"c": (table("input", no_resets()),)}),
        case(PLAIN, failed("timeout"), tables={"c": (table("input", no_resets("syn,rst/syn,rst")),)}),
        "warning",
        "confirmed",
        {"place": "c", "chain": "f"},
    ),
    Example(
        "FLT401",
        case(PLAIN, failed("timeout"), tables=DROPS, moved=host(PLAIN, tables=DROPS_COUNTED)),
        case(PLAIN, probe(), tables={"h": (table("forward", drop(dport="25")),)}),
        "error",
        "confirmed",
        {"table": "inet corp", "chain": "f", "comment": "egress-policy-7", "place": "h"},
    ),
    Example(
        "FLT402",
        case(
            BLIND,
            failed("timeout"),
            CounterFact(ref="counters:before"),
            CounterFact(ref="counters:after", counters=MOVED),
        ),
        case(BLIND, probe(), CounterFact(ref="counters:before"), CounterFact(ref="counters:after", counters=MOVED)),
        "error",
        "likely",
        {"count": 4},
    ),
    Example(
        "FLT403",
        case(PLAIN.replace("h forward\n", ""), failed("timeout")),
        case(PLAIN, failed("timeout")),
        "error",
        "confirmed",
    ),
    Example(
        "FLT401",
        case(PLAIN, failed("timeout"), tables={"r": (table("forward", rule(ESTABLISHED, Verdict(kind="drop"))),)}),
        case(PLAIN, probe()),
        "error",
        "confirmed",
        {"case": "all-back", "direction": "inbound", "place": "r"},
    ),
    Example(
        "RTE501",
        case(NO_WAY_BACK, failed("timeout")),
        case(PLAIN, failed("timeout")),
        "error",
        "confirmed",
        {"case": "state-back", "direction": "inbound", "place": "r", "toward": "198.18.1.2"},
    ),
    Example(
        "RTE501",
        case(NO_WAY_BACK + "r route blackhole 198.18.1.0/24\n", failed("timeout")),
        case(PLAIN, failed("timeout")),
        "error",
        "confirmed",
        {"case": "route-back", "route": "blackhole 198.18.1.0/24", "toward": "198.18.1.2"},
    ),
    Example("RTE501", case(NO_ROUTE, failed("unreachable", icmp=(3, 0))), case(PLAIN, probe()), "error", "confirmed"),
    Example(
        "RTE501",
        case(None, failed("unreachable", error="ENETUNREACH")),
        case(None, failed("timeout", error="ETIMEDOUT")),
        "error",
        "confirmed",
        {"case": "local"},
    ),
    Example(
        "RTE502",
        case(BLIND + "h neigh eth0 198.18.2.1 failed\n", failed("unreachable", icmp=(3, 1))),
        case(PLAIN, probe()),
        "error",
        "confirmed",
    ),
    Example(
        "RTE503",
        case(PLAIN.replace("198.18.2.1/24\n", "198.18.2.1/24 off\n", 1), failed("timeout")),
        case(PLAIN, failed("timeout")),
        "error",
        "confirmed",
    ),
    Example(
        "NET151",
        case(BLIND, probe(loss=LossSeen(attempts=40, disturbed=4))),
        case(BLIND, probe(loss=LossSeen(attempts=40, disturbed=1))),
        "warning",
        "confirmed",
        {"percent": 10.0},
    ),
    Example(
        "NET152",
        case(BLIND, failed("timeout", handshake_retrans=2)),
        case(PLAIN, failed("timeout"), tables=DROPS),
        "error",
        "likely",
        {"tries": 3},
    ),
    Example(
        "RTE503",
        case(PLAIN.replace("s eth0 1500 198.18.3.2/24", "s eth0 1500 198.18.3.2/24 off") + MUTE_S, failed("timeout")),
        case(PLAIN + MUTE_S, failed("timeout")),
        "warning",
        "confirmed",
        {"case": "carrier", "place": "r/rs"},
    ),
    Example(
        "NET155",
        case(HAIRPIN, failed("timeout", address="198.18.2.2"), tables=PUBLISHED),
        case(HAIRPIN + "h bridge-nf\n", failed("timeout", address="198.18.2.2"), tables=PUBLISHED),
        "error",
        "confirmed",
        {"target": "198.18.2.2 port 8443", "bears": "198.18.1.3 port 8443", "place": "h"},
    ),
    Example(  # the source is translated as well: answers go back by there
        "NET155",
        case(HAIRPIN, failed("timeout", address="198.18.2.2"), tables=PUBLISHED),
        case(HAIRPIN, failed("timeout", address="198.18.2.2"), tables=MASQUERADED),
        "error",
        "confirmed",
    ),
    Example(
        "DNS251",
        case(BLIND, NameFact(ref="name", name="jenkins.invalid", error="nxdomain", server="192.0.2.53")),
        case(BLIND, NameFact(ref="name", name="jenkins.example", addresses=(ADDRESS,))),
        "error",
        "confirmed",
    ),
    Example(
        "RST201",
        case(BLIND, datagrams("refused", icmp=(3, 3), error_from=ADDRESS)),
        case(BLIND, datagrams("refused", icmp=(3, 3), error_from="198.18.2.1")),  # then somebody else says so
        "error",
        "likely",
        {"case": "udp"},
    ),
    Example(
        "FLT401",
        case(BLIND, datagrams("refused", icmp=(1, 4), error_from="198.18.2.1")),
        case(BLIND, datagrams("refused", icmp=(1, 4), error_from=ADDRESS)),
        "error",
        "likely",
        {"case": "icmp", "by": "198.18.2.1"},
    ),
    Example(
        "FLT401",
        case(BLIND, datagrams("filtered", icmp=(3, 13), error_from="198.18.2.1")),
        case(BLIND, datagrams("silent")),
        "error",
        "likely",
        {"case": "icmp"},
    ),
    Example(
        "MTU102",
        case(BLIND, datagrams("ok", forward=(out(1400, fails=1401, method="udp-dns", grade="step"),))),
        case(BLIND, datagrams("ok")),
        "error",
        "confirmed",
        {"limit": 1400},
    ),
    Example(
        "MTU102",
        case(BLIND, datagrams("n/a", forward=(out(1400, fails=1401, method="udp-closed", grade="step"),))),
        case(BLIND, datagrams("n/a", forward=(out(1400, fails=1401, method="udp-closed", grade="none"),))),
        "warning",
        "confirmed",
        {"limit": 1400},
    ),
    *(
        Example(
            "MTU102",
            case(BLIND, probe(forward=(out(1400, fails=1401, grade="step"),)), HopsFact(ref="hops", hops=hops)),
            case(BLIND, probe(), HopsFact(ref="hops", hops=hops)),
            "error",
            "confirmed",
        )
        for hops in (
            (hop(1, "198.18.2.1", "198.18.2.1"), hop(2, ADDRESS, None)),
            (hop(1, "198.18.2.1", None), hop(2, ADDRESS, None)),
        )
    ),
    Example(
        "DNS252",
        case(BLIND, datagrams("ok", dns=dns_answers(4096, tcp="ok"))),
        case(BLIND, datagrams("ok", dns=dns_answers(None, tcp="n/a"))),
        "warning",
        "confirmed",
        {"case": "lost", "room": 4096, "pieces": True},
    ),
    Example(
        "DNS252",
        case(BLIND, datagrams("ok", dns=dns_answers(1232, tcp="ok"))),
        case(BLIND, datagrams("ok", dns=dns_answers(4096, tcp="ok"))),  # who asks for 1232 bytes does not notice
        "error",
        "confirmed",
    ),
    Example(
        "DNS252",
        case(BLIND, datagrams("ok", dns=dns_answers(4096, tcp="timeout"))),
        case(BLIND, datagrams("ok", dns=dns_answers(None, tcp="ok"))),
        "error",
        "confirmed",
        {"case": "lost-both"},
    ),
    Example(
        "DNS252",
        case(BLIND, datagrams("ok", dns=dns_answers(None, tcp="refused"))),
        case(BLIND, datagrams("ok", dns=dns_answers(None, tcp="ok"))),
        "error",
        "likely",
        {"case": "cut"},
    ),
    Example(
        "DNS252",
        case(BLIND, NameFact(ref="name", name="a.example", addresses=(ADDRESS,), server="192.0.2.53", large_lost=True)),
        case(BLIND, NameFact(ref="name", name="a.example", addresses=(ADDRESS,), server="192.0.2.53")),
        "warning",
        "likely",
        {"case": "resolver"},
    ),
    Example(
        "CFG601",
        engined(WEB, mtu=1400),
        engined(msgspec.structs.replace(WEB, mtu=1500), mtu=1400),  # set by hand: not for want of inheriting
        "warning",
        "confirmed",
        {"case": "daemon", "network": "web", "daemon": 1400, "own": 1500, "limit": 1420},
    ),
    Example("CFG601", engined(WEB), engined(DOCKER0), "warning", "confirmed", {"case": "unset"}),
    Example("CFG601", engined(WEB), engined(WEB, probed=probe()), "warning", "confirmed", {"limit": 1420}),
    Example(
        "CFG601",
        engined(WEB, probed=None, text=NARROW),
        engined(WEB, probed=None, text=PLAIN),
        "warning",
        "likely",
        {"limit": 1420},
    ),
    Example(
        "CFG603",
        engined(DOCKER0, config='{"mtu": 1400}'),
        engined(DOCKER0, config='{"mtu": 1500}'),
        "warning",
        "confirmed",
        {"case": "daemon", "wanted": 1400, "live": 1500, "limit": 1420},
    ),
    Example(
        "CFG603",
        engined(DOCKER0, config='{"mtu": 1400}', live_restore=True),
        engined(DOCKER0, config="{}", live_restore=True),
        "warning",
        "confirmed",
        {"case": "kept"},
    ),
    Example(
        "CFG603",
        engined(DOCKER0, config='{"mtu": 1400}', mtu=1400),
        engined(DOCKER0, config='{"mtu": 1400}', mtu=1400, text=BLIND.replace("c eth0 1500", "c eth0 1400")),
        "warning",
        "confirmed",
        {"case": "container", "own": 1500},
    ),
    Example(
        "CFG603",
        engined(DOCKER0, config='{"mtu": 1400}'),
        engined(WEB, config='{"mtu": 1400}'),  # of a network of its own the daemon's setting says nothing
        "warning",
        "confirmed",
    ),
    Example(
        "CFG603",
        engined(DOCKER0, config='{"mtu": 1400}', probed=None, text=NARROW),
        engined(DOCKER0, config='{"mtu": 1400}', probed=probe()),
        "warning",
        "likely",
    ),
    Example(
        "CFG607",
        engined(DOCKER0, probed=probe(contact={"promised": 1400}, reverse=(passing(1400),)), text=HELD),
        engined(DOCKER0, text=HELD),  # there is a hole all the same
        "info",
        "confirmed",
        {"case": "network", "network": "bridge", "own": 1500, "limit": 1400},
    ),
    Example("CFG607", engined(WEB, probed=probe(), text=HELD), case(HELD, probe()), "info", "confirmed"),
    Example(
        "CFG607",
        kept(HELD, "networkd"),
        kept(HELD, "networkd", "networkmanager"),
        "info",
        "possible",
        {"case": "device", "manager": "networkd"},
    ),
    Example(
        "APP801",
        case(
            PLAIN,
            probe(reverse=(), attempts=silent(), contact=MUTE),
            SocketFact(ref="probe:1/netns:s", where="netns:s", sockets=(hung(sport=8443, rqueue=517),)),
        ),
        case(PLAIN, probe()),
        "error",
        "confirmed",
        {"unread": 517},
    ),
    Example(
        "APP801",
        case(BLIND, probe(reverse=(), attempts=silent(), contact=MUTE)),
        case(BLIND, probe(reverse=(), attempts=silent(size=1500), contact=MUTE)),
        "warning",
        "likely",
    ),
    Example(
        "APP802",
        case(BLIND, probe(contact={"tls": "failed", "alert": "handshake failure", "alert_kind": "alert"})),
        case(BLIND, probe()),
        "warning",
        "confirmed",
    ),
    Example("APP803", case(BLIND, probe(contact={"http": "500"})), case(BLIND, probe()), "warning", "confirmed"),
    Example(
        "APP804",
        case(BLIND, probe(contact={"synack_ttl": 63, "echo_ttl": 60})),
        case(BLIND, probe(contact={"synack_ttl": 60, "echo_ttl": 60})),
        "info",
        "likely",
        {"ends_at": "terminator"},
    ),
    Example(
        "APP804",
        case(BLIND, probe(), place={"environ": {"all_proxy": "socks5://198.18.3.2:8443"}}),
        case(BLIND, probe(), place={"environ": {"all_proxy": "socks5://198.18.3.2:8443", "no_proxy": "*"}}),
        "warning",
        "confirmed",
        {"case": "not-followed", "scheme": "socks5", "said": "all_proxy"},
    ),
    Example(
        "NET153",
        case(BLIND, probe(), other(reverse=(hole(1400),)), more=NAMED),
        case(BLIND, probe(), other(), more=NAMED),
        "warning",
        "confirmed",
        {"case": "hole", "address": OTHER, "used": ADDRESS, "limit": 1400, "direction": "inbound"},
    ),
    Example(
        "NET153",
        case(BLIND, other(contact={"tcp": "timeout"}, forward=(), reverse=()), probe(ref="probe:3"), more=NAMED),
        case(BLIND, other(contact={"tcp": "timeout"}, forward=(), reverse=()), failed("timeout"), more=NAMED),
        "warning",
        "likely",
        {"case": "before", "address": OTHER, "used": ADDRESS},
    ),
    Example(
        "NET153",
        case(BLIND, probe(), other(contact={"tcp": "refused"}, forward=(), reverse=()), more=NAMED),
        case(BLIND, probe(), other(contact={"tcp": "refused"}, forward=(), reverse=())),  # an address was asked for
        "warning",
        "confirmed",
        {"case": "beside", "address": OTHER},
    ),
    Example(
        "NET153",
        case(DUAL, probe(), other(contact={"tcp": "refused", **SIXTH}, forward=(), reverse=()), more=NAMED),
        # without any way to IPv6 addresses theirs are nobody's fault
        case(BLIND, probe(), other(contact={**NO_ROUTE_6, **SIXTH}, forward=(), reverse=()), more=NAMED),
        "info",
        "confirmed",
        {"case": "spare", "address": SIXTH["address"]},
    ),
    Example(
        "NET153",
        case(BLIND, probe(reverse=(hole(1420),)), other(), more=NAMED),
        case(BLIND, probe(reverse=(hole(1420),)), other(reverse=(hole(1420),)), more=NAMED),
        "info",
        "confirmed",
        {"case": "works", "address": OTHER},
    ),
    Example(
        "MTU114",
        case(DUAL, probe(reverse=(hole(1200),), contact=SIXTH)),
        case(DUAL, probe(reverse=(hole(1300),), contact=SIXTH)),
        "warning",
        "confirmed",
        {"direction": "inbound", "limit": 1200},
    ),
    Example(
        "MTU116",
        case(SUPER, probe(forward=(out(1404, fails=1405),))),
        case(SUPER, probe(forward=(out(1380, fails=1381),))),  # what was measured lies elsewhere
        "warning",
        "confirmed",
        {"direction": "outbound", "limit": 1404, "place": "h/vs"},
    ),
    Example(
        "SYS901",
        case(BLIND, probe(), Missing(what="netns of pid 7", why="EPERM", how="sudo pathfit", code="permission")),
        case(BLIND, probe(), Missing(what="netns of pid 7", why="it ended", code="vanished")),
        "info",
        "confirmed",
    ),
    Example(
        "FLT401",
        case(PLAIN, failed("timeout")),
        case(PLAIN, probe()),
        "warning",
        "confirmed",
        {"case": "traced", "place": "h/vc", "direction": "outbound"},
        lost("filtered"),
    ),
    Example(
        "FLT405",
        case(PLAIN, probe(reverse=(hole(),))),
        case(NARROW, probe(reverse=(hole(),))),  # where state knows the limit, nothing is open
        "warning",
        "confirmed",
        {"word": "traffic-control", "direction": "inbound"},
        lost("traffic-control", direction="reverse"),
    ),
    Example(
        "NET154",
        case(PLAIN, probe(loss=LossSeen(attempts=30, disturbed=3))),
        case(PLAIN, probe()),
        "warning",
        "confirmed",
        {"case": "between", "after": "c/eth0", "before": "h/vc", "word": "queue-full"},
        lost("queue-full"),
    ),
    Example(
        "NET154",
        case(BLIND, failed("timeout")),
        case(BLIND, failed("timeout"), tables=DROPS),
        "warning",
        "confirmed",
        {"case": "between", "word": None},
        lost(None),
    ),
    Example("SYS902", case(BLIND, probe()), case(BLIND, probe()), "warning", "confirmed"),
    Example(
        "SYS903",
        case(PLAIN, probe(forward=(out(1300, fails=1301, exact=True),))),
        case(PLAIN, probe()),
        "warning",
        "confirmed",
        {"predicted": 1500, "measured": 1300},
    ),
)


def found(check: Rule, run: Case, *, crash: bool = False, seen: Followed | None = None) -> list[Finding]:
    view = View(run, seen=seen)
    return list(check.check(view.crashed("MTU101", ValueError("x")) if crash else view))


def rule_of(code: str) -> Rule:
    return next(r for r in RULES if r.code == code)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.code}-{e.confidence}")
def test_fires(example: Example) -> None:
    findings = found(rule_of(example.code), example.fires, crash=example.code == "SYS902", seen=example.seen)
    assert findings, f"{example.code} is silent"
    first = findings[0]
    assert (first.code, first.severity, first.confidence) == (example.code, example.severity, example.confidence)
    assert {k: first.facts.get(k) for k in example.facts} == example.facts
    assert first.name == NAMES[first.code]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.code}-{e.confidence}")
def test_stays_quiet(example: Example) -> None:
    assert not [
        f for f in found(rule_of(example.code), example.quiet, seen=example.seen) if f.severity == example.severity
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.code}-{e.confidence}")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_fact_of_its_words_is_bound(example: Example, lang: str) -> None:
    for r in RULES:
        for f in found(r, example.fires, crash=True, seen=example.seen):
            assert words.summary(f, lang, strict=True)
            assert all(words.evidence(e, lang, strict=True) for e in f.evidence)


def test_every_rule_has_an_example() -> None:  # and every code a rule: test_state_rules.py
    assert [r.code for r in RULES if r.code not in {e.code for e in EXAMPLES}] == []
    assert len({r.code for r in RULES}) == len(RULES)
    assert RULES[-1].code == "SYS902", "the rule on crashes reports on all others"


@pytest.mark.parametrize("r", RULES, ids=lambda r: r.code)
def test_manual_page_is_whole(r: Rule) -> None:
    page = manual(r.code.lower())
    assert page is not None
    assert tuple(page.fields) == FIELDS
    assert page.title.endswith(".") and all(page.fields.values())
    assert page.fields["Severity"].startswith(("error", "warning", "info"))


@pytest.mark.parametrize("r", RULES, ids=lambda r: r.code)
def test_rule_is_short(r: Rule) -> None:
    body = inspect.getsource(r.check).replace(r.check.__doc__ or "", "")
    assert len([x for x in body.splitlines() if x.strip()]) <= 45


def test_no_manual_for_what_does_not_exist() -> None:
    assert manual("MTU999") is None


@pytest.mark.parametrize("r", RULES, ids=lambda r: r.code)
def test_nothing_known_is_no_crash(r: Rule) -> None:
    empty = msgspec.structs.replace(case(None), exchanges=())
    assert found(r, empty) == []


@pytest.mark.parametrize(("ttl", "hops"), [(64, 0), (63, 1), (128, 0), (120, 8), (255, 0), (250, 5), (1, 63), (0, 64)])
def test_hops_away(ttl: int, hops: int) -> None:
    assert hops_away(ttl) == hops


@pytest.mark.parametrize("code", ["CFG601", "CFG603"])
def test_an_engines_setting_is_a_cause_of_the_hole_and_no_second_error(code: str) -> None:
    config = '{"mtu": 1400}'
    report = diagnose.report(engined(WEB, mtu=1400) if code == "CFG601" else engined(DOCKER0, config=config))
    by_code = {f.code: f for f in report.findings}
    assert code in by_code["MTU101"].because
    assert code in by_code["MTU103"].because
    assert "MTU101" in by_code[code].explains
    assert [f.code for f in report.findings if f.severity == "error"] == ["MTU101"]
    assert code not in [f.code for f in diagnose.report(engined(WEB, probed=probe())).findings]


HEALTHY: dict[str, Callable[[], Case]] = {
    "plain": lambda: case(PLAIN, probe()),
    "blind": lambda: case(BLIND, probe()),
    "custom 1396": lambda: case(
        BLIND, probe(reverse=(passing(1396),), forward=(out(1396),), contact={"promised": 1396})
    ),
    "jumbo": lambda: case(
        BLIND, probe(reverse=(passing(8900),), forward=(out(8900),), contact={"promised": 8900, "offered": 8900})
    ),
    "clamped both ways": lambda: case(
        BLIND, probe(reverse=(passing(1400, note="capped"),), forward=(out(1400),), contact={"offered": 1400})
    ),
    "clamped, icmp limited": lambda: case(
        BLIND,
        probe(
            reverse=(passing(1400, note="capped"),),
            forward=(out(1400, fails=1401),),
            contact={"offered": packet_of(4, 1360)},
        ),
    ),
    "certificate": lambda: case(
        BLIND, probe(contact={"tls": "failed", "alert": "expired", "alert_kind": "certificate"})
    ),
    "http 500": lambda: case(BLIND, probe(contact={"http": "500"})),
    "loss": lambda: case(BLIND, probe(loss=LossSeen(attempts=60, disturbed=5))),
    "pmtud": lambda: case(NARROW, probe(forward=(told(1420),))),
    "old gap in an idle socket": lambda: case(BLIND, probe(), SocketFact(ref="sockets", sockets=(hung(rmem=0),))),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_look_alikes_raise_no_error(name: str) -> None:
    findings = [f for r in RULES for f in found(r, HEALTHY[name]())]
    assert [f.code for f in findings if f.severity == "error"] == []


def test_facts_are_named_as_templates_may_ask() -> None:
    names = {k for e in EXAMPLES for f in found(rule_of(e.code), e.fires, crash=True) for k in f.facts}
    assert all(re.fullmatch(r"[a-z][a-z_]*", n) for n in names)
