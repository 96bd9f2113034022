"""Every rule of state: an example that fires, a healthy machine that looks much the same and stays quiet, words for
all of it in both languages, a whole manual page."""

from typing import NamedTuple

import nodehosts
import pytest
import topo
from msgspec.structs import replace
from test_scan import BRIDGE, OVERLAY, of

from pathfit.core.finding import Finding
from pathfit.core.snapshot import FdbEntry, HostSnapshot
from pathfit.rules import FIELDS, NAMES, RULES, manual
from pathfit.rules.state import FLEET_RULES, STATE_RULES
from pathfit.words import render as words

LOST = """
c eth0 1500 198.18.1.2/24 -- h v1 1500 198.18.1.1/24
h eth0 1400 198.18.2.2/24 -- r eth0 1400 198.18.2.1/24
r eth1 1500 198.18.3.1/24 -- s eth0 1500 198.18.3.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
r route default via 198.18.2.2
s route default via 198.18.3.1
h forward
r forward
"""


class Example(NamedTuple):
    """``fires`` and ``quiet``: hosts that are scanned together."""

    code: str
    severity: str
    workloads: set[str]
    fires: tuple[HostSnapshot, ...]
    quiet: tuple[HostSnapshot, ...]


def host(text: str, **more: object) -> tuple[HostSnapshot, ...]:
    return (topo.host(text, **more),)  # type: ignore[arg-type]


def no_icmp_out() -> HostSnapshot:
    """The router that should say "too big" drops its own ICMP."""
    from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict

    rule = FilterRule(exprs=(Match(field="l4proto", values=("1",)), Verdict(kind="drop")), text="ip protocol icmp drop")
    table = Table(family="inet", name="quiet", chains=(Chain(name="o", hook="output", rules=(rule,)),))
    return topo.host(LOST, tables={"h": (table,)})


def nodes(*changed: str, mtu: int = 1450, vni: int = 77, address: str = "") -> list[HostSnapshot]:
    """Three hosts of one overlay, a container on each. ``changed``: hosts that have ``mtu``, ``vni``, ``address``."""
    made = []
    for n, name in enumerate(("one", "two", "three"), 1):
        odd = name in changed
        size, number = (mtu, vni) if odd else (1450, 77)
        here = address if odd and address else f"10.0.0.{n}/24"
        far = "192.0.2.1" if n > 1 else "192.0.2.2"
        text = f"""
        {name} eth0 phys 1500 192.0.2.{n}/24
        {name} vx0 vxlan {size} id={number} local=192.0.2.{n} remote={far} @br0
        {name} br0 bridge {size}
        c{n} eth0 {size} {here} -- {name} v{n} {size} @br0
        """
        snap = topo.host(text, name=name)
        inside = snap.namespaces[1]
        links = tuple(replace(x, mac=f"02:00:00:00:0{n}:aa") if x.name == "eth0" else x for x in inside.links)
        made.append(replace(snap, namespaces=(snap.namespaces[0], replace(inside, links=links))))
    return made


def with_entry(hosts: list[HostSnapshot], at: int, mac: str, remote: str) -> list[HostSnapshot]:
    """The host ``at`` sends frames for ``mac`` to ``remote``."""
    space = hosts[at].namespaces[0]
    device = next(x for x in space.links if x.kind == "vxlan")
    entry = FdbEntry(link=device.index, mac=mac, remote=remote, own=True, state="permanent")
    changed = replace(hosts[at], namespaces=(replace(space, fdb=(entry,)), *hosts[at].namespaces[1:]))
    return [*hosts[:at], changed, *hosts[at + 1 :]]


def closed_port() -> HostSnapshot:
    """The first host's own filter takes UDP 4789 away as it comes in."""
    from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict

    tests = (Match(field="l4proto", values=("17",)), Match(field="dport", values=("4789",)), Verdict(kind="drop"))
    rule = FilterRule(exprs=tests, text="udp dport 4789 drop")
    table = Table(family="inet", name="fw", chains=(Chain(name="in", hook="input", rules=(rule,)),))
    first = nodes()[0]
    return replace(first, namespaces=(replace(first.namespaces[0], tables=(table,)), *first.namespaces[1:]))


def without_routes(host: HostSnapshot) -> HostSnapshot:
    space = replace(host.namespaces[0], routes=())
    return replace(host, namespaces=(space, *host.namespaces[1:]))


EXAMPLES = [
    Example("MTU103", "warning", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1500, up=1400)),
            host(BRIDGE.format(own=1400, half=1400, up=1400))),
    Example("MTU104", "warning", {"c", "d"}, host(OVERLAY.format(mtu=1500)), host(OVERLAY.format(mtu=1450))),
    Example("MTU105", "error", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1400, up=1500)),
            host(BRIDGE.format(own=1500, half=1500, up=1500))),
    Example("OVL301", "error", {"c3"}, tuple(with_entry(nodes(), 2, "02:00:00:00:01:aa", "192.0.2.2")),
            tuple(with_entry(nodes(), 2, "02:00:00:00:01:aa", "192.0.2.1"))),
    Example("OVL301", "warning", {"c3"}, tuple(with_entry(nodes(), 2, "02:00:00:00:01:aa", "192.0.2.99")),
            tuple(with_entry(nodes(), 2, "02:00:00:00:09:aa", "192.0.2.99"))),
    Example("OVL302", "error", {"c1", "c2"}, tuple(nodes("two", address="10.0.0.1/24")), tuple(nodes())),
    Example("OVL303", "error", {"c1"}, (closed_port(),), tuple(nodes()[:1])),
    Example("OVL304", "error", {"c1", "c2"}, tuple(nodes("two", vni=78)[:2]), tuple(nodes("one", "two", vni=78))),
    Example("OVL305", "error", {"c1"}, (without_routes(nodes()[0]),), tuple(nodes()[:1])),
    Example("MTU117", "warning", {"c2"}, tuple(nodes("two", mtu=1400)), tuple(nodes("one", "two", "three", mtu=1400))),
    Example("MTU107", "error", {"c", "s"}, (no_icmp_out(),), host(LOST)),
    Example("MTU113", "warning", set(), (nodehosts.guest(1500, ("metadata", 1450)),),
            (nodehosts.guest(1450, ("metadata", 1450)),)),
    Example("MTU113", "warning", set(), nodehosts.plugged(1500, 1450), nodehosts.plugged(1450, 1450)),
    Example("OVL306", "warning", set(), (nodehosts.weave(1450, 1410, "sleeve"),),
            (nodehosts.weave(1450, 1376, "fastdp"),)),
    Example("CFG604", "warning", set(), (nodehosts.vswitch("198.18.2.9"),), (nodehosts.vswitch("198.18.1.9"),)),
    Example("CFG605", "warning", {"c1"}, (nodehosts.node(nodehosts.DUAL.format(own=9000, data=1500, management=9000)),),
            (nodehosts.node(nodehosts.DUAL.format(own=1500, data=1500, management=9000)),)),
    Example("CFG606", "warning", set(), (nodehosts.veth_mtu(1500),), (nodehosts.veth_mtu(1450),)),
]  # fmt: skip


def findings(hosts: tuple[HostSnapshot, ...], code: str) -> list[Finding]:
    return [f for f in of(*hosts).findings if f.code == code]


def ids(example: Example) -> str:
    return f"{example.code}-{example.severity}"


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_fires(example: Example) -> None:
    found = findings(example.fires, example.code)
    assert found, f"{example.code} is silent"
    assert (found[0].severity, found[0].name) == (example.severity, NAMES[example.code])
    assert {k.rpartition(":")[2] for f in found for k in f.workloads} == example.workloads


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_stays_quiet(example: Example) -> None:
    assert [f for f in findings(example.quiet, example.code) if f.severity == example.severity] == []


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_every_fact_of_its_words_is_bound(example: Example, lang: str) -> None:
    for f in of(*example.fires).findings:
        assert words.summary(f, lang, strict=True)
        assert all(words.evidence(e, lang, strict=True) for e in f.evidence)


def test_every_rule_has_an_example_and_every_code_a_rule() -> None:
    codes = [r.code for r in (*STATE_RULES, *FLEET_RULES)]
    assert [c for c in codes if c not in {e.code for e in EXAMPLES}] == []
    assert {*codes, *(r.code for r in RULES)} == set(NAMES)


@pytest.mark.parametrize("code", [r.code for r in (*STATE_RULES, *FLEET_RULES)])
def test_manual_pages_are_whole(code: str) -> None:
    rules = [r for r in (*STATE_RULES, *FLEET_RULES) if r.code == code]
    from pathfit.rules import _fields

    for rule in rules:
        title, fields = _fields(rule.check.__doc__ or "")
        assert tuple(fields) == FIELDS and title.endswith(".") and all(fields.values())
        assert fields["Severity"].startswith(("error", "warning", "info"))
    assert manual(code) is not None
