"""Hand-built cases for the tests of rules/, remedies/ and diagnose: a topology in a few lines, and what was measured.

``case(TEXT, probe(...))`` is one run from namespace "c" to 198.18.3.2:8443.
"""

from typing import Any

from topo import host

from pathfit.core.ask import Ask, Target
from pathfit.core.case import SCHEMA, Case
from pathfit.core.evidence import CounterFact, Evidence, Missing, NameFact, PlaceFact, ProbeResult, SocketFact
from pathfit.core.evidence import StateFact as State
from pathfit.core.filters import Chain as FilterChain
from pathfit.core.filters import Expr, FilterRule, Match, Table, Verdict
from pathfit.core.followed import Followed, Origin, Sign
from pathfit.core.measured import Attempt, Bracket, Contact
from pathfit.core.net import Point
from pathfit.core.request import (
    Locate,
    Measure,
    ReadCounters,
    ReadRules,
    ReadSockets,
    ReadState,
    ResolveName,
    TryFix,
)
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.sockets import Socket, TcpInfo

ADDRESS, PORT = "198.18.3.2", 8443
PLAIN = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0
h br0 bridge 1500 198.18.1.1/24
h eth0 1500 198.18.2.2/24 -- r rh 1500 198.18.2.1/24
r rs 1500 198.18.3.1/24 -- s eth0 1500 198.18.3.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
r route 198.18.1.0/24 via 198.18.2.2
s route default via 198.18.3.1
h forward
r forward
"""
NARROW = PLAIN.replace("h eth0 1500 198.18.2.2/24 -- r rh 1500", "h eth0 1420 198.18.2.2/24 -- r rh 1420")
BLIND = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0
h br0 bridge 1500 198.18.1.1/24
h eth0 phys 1500 198.18.2.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
h forward
"""
VXLAN = """
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan 1500 id=77 local=198.18.9.1 remote=198.18.9.2 @br0
b vx0 vxlan 1500 id=77 local=198.18.9.2 remote=198.18.9.1 @br0
a br0 bridge 1500
b br0 bridge 1500
c eth0 1500 198.18.3.1/24 -- a vc 1500 @br0
s eth0 1500 198.18.3.2/24 -- b vs 1500 @br0
"""


def rule(*exprs: Expr, handle: int = 5, packets: int | None = 0, comment: str | None = None) -> FilterRule:
    return FilterRule(exprs=exprs, handle=handle, packets=packets, comment=comment, text="as typed")


def drop(dport: str = str(PORT), *, kind: Any = "drop", reject_with: str | None = None, **more: Any) -> FilterRule:
    match = Match(field="dport", values=(dport,))
    tcp = Match(field="l4proto", values=("6",))
    return rule(tcp, match, Verdict(kind=kind, reject_with=reject_with), **more)


def no_too_big() -> FilterRule:
    return rule(
        Match(field="l4proto", values=("1",)),
        Match(field="icmptype", values=("3",)),
        Match(field="icmpcode", values=("4",)),
        Verdict(kind="drop"),
    )


def no_resets(flags: str = "rst/fin,syn,rst,psh,urg") -> FilterRule:
    """The rule that people are told to write against "connection reset by peer"."""
    return rule(Match(field="l4proto", values=("6",)), Match(field="tcpflags", values=(flags,)), Verdict(kind="drop"))


def table(hook: Any, *rules: FilterRule, name: str = "corp", kind: Any = "filter", priority: int = 0) -> Table:
    made = FilterChain(name="f", hook=hook, rules=rules, type=kind, priority=priority)
    return Table(family="inet", name=name, chains=(made,))


def ask(**more: Any) -> Ask:
    target = Target(text=f"https://{ADDRESS}:{PORT}/", protocol="https", host=ADDRESS, port=PORT)
    return Ask(**{"command": "diagnose", "source": "netns:c", "target": target, **more})


def passing(size: int = 1500, **more: Any) -> Bracket:
    return Bracket(**{"method": "tcp-maxseg", "tests": "reverse", "passes": size, "grade": "proof", **more})


def out(size: int = 1500, **more: Any) -> Bracket:
    return passing(size, **{"method": "tcp-sack", "tests": "forward", **more})


def hole(size: int = 1420, **more: Any) -> Bracket:
    return passing(size, **{"fails": size + 1, "exact": True, **more})


def told(size: int = 1412, **more: Any) -> Bracket:
    return out(size, **{"fails": size + 1, "grade": "told", "told_by": "198.18.1.1", "told_mtu": size, **more})


def contact(**more: Any) -> Contact:
    usual = {
        "address": ADDRESS,
        "family": 4,
        "port": PORT,
        "tcp": "ok",
        "tls": "ok",
        "http": "200",
        "protocol": "https",
        "rtt": 0.0004,
        "promised": 1500,
        "offered": 1500,
        "sendable": 1500,
        "acked": True,
        "answered": 300,
    }
    return Contact(**{**usual, **more})


def probe(**more: Any) -> ProbeResult:
    """A healthy measurement, but for what is said. ``contact=`` a dict of changes."""
    changes = more.pop("contact", {})
    usual: dict[str, Any] = {"ref": "probe:1", "forward": (out(),), "reverse": (passing(),)}
    return ProbeResult(contact=contact(**changes), **{**usual, **more})


OTHER = "198.18.3.9"


def other(**more: Any) -> ProbeResult:
    """What was measured towards another address of the name."""
    said = more.pop("contact", {})
    return probe(**{"ref": "probe:2", "contact": {"address": OTHER, **said}, **more})


def failed(tcp: str, **more: Any) -> ProbeResult:
    """The connection did not open."""
    nothing = {"tls": "n/a", "http": "n/a", "promised": None, "offered": None, "acked": False, "answered": 0}
    return probe(forward=(), reverse=(), contact={"tcp": tcp, **nothing, **more})


def gaps(size: int, times: int = 2) -> tuple[Attempt, ...]:
    return tuple(Attempt(n=n, method="tcp-maxseg", size=size, outcome="gap", gap=0.06) for n in range(times))


def hung(**more: Any) -> Socket:
    """A connection of the source that waits for large segments (curl on article 000)."""
    info: dict[str, Any] = {"state": 1, "sack": True, "advmss": 1460, "rcv_mss": 590, "rcv_ooopack": 2}
    info |= {"last_data_recv": 9.0, "last_data_sent": 9.1, "last_ack_recv": 9.0, "data_segs_out": 1}
    info |= more.pop("info", {})
    usual = {"family": 4, "src": "198.18.1.2", "sport": 40001, "dst": ADDRESS, "dport": PORT, "state": 1, "rmem": 4096}
    return Socket(**{**usual, **more, "info": TcpInfo(**info)})


def case(
    text: str | HostSnapshot | None = PLAIN,
    *evidence: Evidence,
    tables: dict[str, tuple[Table, ...]] | None = None,
    moved: HostSnapshot | None = None,
    place: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> Case:
    """A run with that state and evidence. ``moved``: the rules as read afterwards."""
    asked = ask(**(more or {}))
    state = host(text, tables=tables) if isinstance(text, str) else text
    ns = next((n.id for n in state.namespaces if n.where == "netns:c"), "4:9") if state else "4:9"
    at = PlaceFact(**{"ref": "source", "where": "netns:c", "netns": ns, "label": "c", **(place or {})})
    run = Case(schema=SCHEMA, version="0.1.0", ask=asked).add(Locate(ref="source", where=asked.source), (at,))
    if state is not None:
        run = run.add(ReadState(ref="state", source=asked.source), (State(ref="state", host=state),))
    for item in evidence:
        run = run.add(_request(item, asked), (item,))
    if moved is not None:
        run = run.add(ReadRules(ref="rules:after", source=asked.source), (State(ref="rules:after", host=moved),))
    return run


def _request(item: Evidence, asked: Ask) -> Any:
    source = asked.source
    match item:
        case ProbeResult():
            return Measure(
                ref=item.ref, source=source, address=item.contact.address, port=item.contact.port, protocol="https"
            )
        case SocketFact():
            return ReadSockets(ref=item.ref, source=source if item.ref == "sockets" else "netns:s")
        case CounterFact():
            return ReadCounters(ref=item.ref, source=source)
        case NameFact():
            return ResolveName(ref=item.ref, source=source, name=item.name)
        case Missing():
            return ReadCounters(ref=item.ref or "missing", source=source)
        case _:
            size = getattr(item, "size", 1420)
            return TryFix(ref=item.ref, source=source, address=ADDRESS, port=PORT, protocol="https", mss=size - 40)


def untracked(*more: str) -> Followed:
    """What taps saw of a packet that h should have translated, and reset; ``more``: signs of why it did not."""
    at = Point(host="h", netns="netns:h", link="eth0")
    facts: dict[str, Any] = {
        "at": "h/eth0",
        "as": "a:1 > b:2",
        "others": "a:1 > c:2",
        "netns": "netns:h",
        "bytes": 9,
        "room": 1,
    }
    signs = tuple(Sign(name=name, facts=facts) for name in ("untranslated", *more))
    made = Point(host="h", netns="netns:h")
    one = Origin(kind="reset", direction="forward", claims="198.18.2.2", by="end", confidence="confirmed", made=made,
                 first=at, code="RST204", count=3, signs=signs)  # fmt: skip
    return Followed(version="0", ask=case(None).ask, verdict="unknown", answers=(one,))
