"""Every rule of state: an example that fires, a healthy machine that looks much the same and stays quiet, words for
all of it in both languages, a whole manual page."""

from typing import NamedTuple

import nodehosts
import pytest
import topo
from msgspec.structs import replace
from test_scan import BRIDGE, OVERLAY, of

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.filters import Chain, Clamp, Expr, FilterRule, Match, Nat, Table, Verdict
from pathfit.core.finding import Finding
from pathfit.core.snapshot import FdbEntry, HostSnapshot, Kernel
from pathfit.rules import FIELDS, NAMES, RULES, manual
from pathfit.rules.state import FLEET_RULES, STATE_RULES
from pathfit.words import render as words

ROUTED = """
c eth0 1500 198.18.59.2/24 -- a vc 1500 198.18.59.1/24
d eth0 1500 198.18.60.2/24 -- b vd 1500 198.18.60.1/24
a eth0 1500 198.18.9.1/24 -- b eth0 1500 198.18.9.2/24
a vx0 vxlan {mtu} id=77 local=198.18.9.1 remote=198.18.9.2 198.18.50.1/24
b vx0 vxlan {mtu} id=77 local=198.18.9.2 remote=198.18.9.1 198.18.50.2/24
c route default via 198.18.59.1
d route default via 198.18.60.1
a route 198.18.60.0/24 via 198.18.50.2
b route 198.18.59.0/24 via 198.18.50.1
a route default via 198.18.50.2
b route default via 198.18.50.1
a forward
b forward
"""
STRICT = """
c eth0 1500 198.18.7.2/24 -- h v 1500 198.18.1.1/24
h eth0 phys 1500 203.0.113.7/24
h route default via 203.0.113.1
c route default via 198.18.1.1 dev eth0
h forward
h sysctl ipv4.conf.all.rp_filter={mode}
"""
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
    tests = (Match(field="l4proto", values=("17",)), Match(field="dport", values=("4789",)), Verdict(kind="drop"))
    rule = FilterRule(exprs=tests, text="udp dport 4789 drop")
    table = Table(family="inet", name="fw", chains=(Chain(name="in", hook="input", rules=(rule,)),))
    first = nodes()[0]
    return replace(first, namespaces=(replace(first.namespaces[0], tables=(table,)), *first.namespaces[1:]))


def without_routes(host: HostSnapshot) -> HostSnapshot:
    space = replace(host.namespaces[0], routes=())
    return replace(host, namespaces=(space, *host.namespaces[1:]))


def rule(*exprs: Expr, text: str = "") -> FilterRule:
    return FilterRule(exprs=exprs, text=text)


def table(*chains: Chain, family: str = "inet", name: str = "t", tool: str = "nft") -> tuple[Table, ...]:
    return (Table(family=family, name=name, chains=chains, tool=tool),)  # type: ignore[arg-type]


def clamped(*marks: tuple[str, int], up: int = 1400) -> tuple[HostSnapshot, ...]:
    """BRIDGE over an uplink of ``up``, with clamps on SYNs that leave by (oifname) or come in by (iifname) eth0."""
    rules = tuple(
        rule(Match(field="tcpflags", values=("syn/syn,rst",)), Match(field=field, values=("eth0",)), Clamp(size=mss))
        for field, mss in marks
    )
    chain = Chain(name="f", hook="forward", type="filter", priority=-150, rules=rules)
    return host(BRIDGE.format(own=1500, half=1500, up=up), tables={"h": table(chain, family="ip", name="mangle")})


BOTH = (("oifname", 1360), ("iifname", 1360))
DROP_443 = rule(
    Match(field="l4proto", values=("6",)),
    Match(field="dport", values=("443",)),
    Verdict(kind="drop"),
    text="dport 443 drop",
)
ALL_WELL = BRIDGE.format(own=1500, half=1500, up=1500)
MINIMUM = """
c eth0 1500 2001:db8:1::2/64 -- h v {size} 2001:db8:1::1/64
h eth0 phys 1500 2001:db8:2::2/64
h route default via 2001:db8:2::1
c route default via 2001:db8:1::1
h forward
"""


def forwarded(*rules: FilterRule, policy: str = "accept", engine: bool = True) -> tuple[HostSnapshot, ...]:
    """The host's iptables: a FORWARD chain, and (where there is one) an engine's own."""
    chains = [Chain(name="FORWARD", hook="forward", policy=policy, rules=rules)]  # type: ignore[arg-type]
    chains += [Chain(name="DOCKER-USER")] if engine else []
    return host(ALL_WELL, tables={"h": table(*chains, family="ip", name="filter", tool="iptables-nft")})


def hiding() -> HostSnapshot:
    """A port of 1400 between two containers of 1500 whose packets are still super-packets when they come there."""
    text = (
        BRIDGE.format(own=1500, half=1400, up=1500)
        + "c1 offload eth0 on\nc2 offload eth0 on\nh offload v1 on\nh offload v2 on"
    )
    return topo.host(text)


def card(kernel: str, driver: str = "virtio_net", forward: bool = False, **features: bool) -> HostSnapshot:
    """A machine with one card of that driver and those features, and a bridge that Weave made."""
    text = """
    h eth0 phys 1500 203.0.113.7/24
    h weave bridge 1376 10.32.0.1/12
    h vxlan-6784 vxlan 1376 id=7 local=203.0.113.7
    """
    snap = topo.host(text + ("\nh forward" if forward else ""))
    space = snap.namespaces[0]
    links = tuple(replace(x, driver=driver, features=features) if x.name == "eth0" else x for x in space.links)
    return replace(snap, kernel=Kernel(release=kernel), namespaces=(replace(space, links=links),))


def translating(kernel: str, udp_csum: bool = False) -> HostSnapshot:
    """A node whose VXLAN device offloads checksums, and which masquerades."""
    chain = Chain(name="po", hook="postrouting", type="nat", rules=(rule(Nat(kind="masquerade")),))
    text = "h eth0 phys 1500 203.0.113.7/24\nh fl vxlan 1450 id=1 local=203.0.113.7"
    snap = topo.host(text, tables={"h": table(chain, family="ip", name="nat")})
    space = snap.namespaces[0]
    links = tuple(
        replace(x, features={"tx-checksum": True}, vxlan=replace(x.vxlan, udp_csum=udp_csum)) if x.vxlan else x
        for x in space.links
    )
    return replace(snap, kernel=Kernel(release=kernel), namespaces=(replace(space, links=links),))


def engined(own: int, up: int = 1400, option: int | None = None, **engine: object) -> tuple[HostSnapshot, ...]:
    """A docker with one container in one bridge network of MTU ``own`` (the option ``option``), uplink ``up``."""
    default, kind, file = bool(engine.pop("default", False)), str(engine.pop("kind", "docker")), engine.pop("file", "")
    snap = topo.host(
        f"h br0 bridge {own} 198.18.1.1/24\nh eth0 phys {up} 203.0.113.7/24\n"
        "h route default via 203.0.113.1\nh forward\n"
        f"c eth0 {own} 198.18.1.2/24 -- h v {own} @br0\nc route default via 198.18.1.1"
    )
    ids = {n.where: n.id for n in snap.namespaces}
    one = Container(
        id="c" * 12, name="web", engine=kind, netns=ids["netns:c"], endpoints=(Endpoint(network="n", name="app"),)
    )
    net = EngineNetwork(
        id="n",
        name="app",
        driver="bridge",
        mtu=option,
        bridge="br0",
        default=default,
        members=(one.id,),
        file=str(file),
    )
    docker = Engine(
        kind=kind, socket="/run/docker.sock", netns=ids["netns:h"], containers=(one,), networks=(net,), **engine
    )  # type: ignore[arg-type]
    return (replace(snap, engines=(docker,)),)


WROTE_1400 = {"config": '{"mtu": 1400}', "config_path": "/etc/docker/daemon.json"}


def resets(flags: str, *more: Expr, hook: str = "input", first: tuple[FilterRule, ...] = ()) -> tuple[Table, ...]:
    tests = (Match(field="l4proto", values=("6",)), Match(field="tcpflags", values=(flags,)))
    dropped = rule(*tests, *more, Verdict(kind="drop"), text=f"tcp flags {flags} drop")
    return table(Chain(name="x", hook=hook, rules=(*first, dropped)))  # type: ignore[arg-type]


ANY = "rst/fin,syn,rst,psh,urg"
FROM = Match(field="saddr", values=("198.51.100.0/24",))
STANDING = rule(Match(field="ctstate", values=("established", "related")), Verdict(kind="accept"))
RESETS = [
    ("warning", {"c1"}, resets(ANY), resets("syn,rst/syn,rst")),  # flags that no packet has together
    ("warning", {"c1"}, resets("rst/rst", hook="output"), resets(ANY, first=(STANDING,))),  # let through before it
    ("warning", {"c1"}, resets("rst,ack/rst,ack"), resets("rst/fin,syn,rst,ack")),  # without ACK it refuses nothing
    ("info", {"c1"}, resets(ANY, FROM), resets(ANY, Match(field="ctstate", values=("invalid",)))),
]
EXAMPLES = [
    Example("MTU103", "warning", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1500, up=1400)),
            host(BRIDGE.format(own=1400, half=1400, up=1400))),
    Example("MTU104", "warning", {"c", "d"}, host(OVERLAY.format(mtu=1500)), host(OVERLAY.format(mtu=1450))),
    Example("MTU104", "warning", set(), (nodehosts.moved("ovn-kubernetes", "geneve", 1450),),
            (nodehosts.moved("ovn-kubernetes", "geneve", 1400),)),
    Example("MTU105", "error", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1400, up=1500)),
            host(BRIDGE.format(own=1500, half=1500, up=1500))),
    Example("MTU104", "warning", {"c", "d"}, host(ROUTED.format(mtu=1500)), host(ROUTED.format(mtu=1450))),
    Example("MTU108", "info", {"c", "d"}, host(ROUTED.format(mtu=1500)), host(ROUTED.format(mtu=1450))),
    Example("MTU110", "warning", {"c"}, host(LOST + "c cached 198.18.3.2 1300"),
            host(LOST + "c cached 198.18.3.2 1400")),
    Example("MTU110", "info", {"c1"}, host(ALL_WELL + "c1 cached 192.0.2.9 1300"), host(ALL_WELL)),
    Example("MTU111", "info", {"c1", "c2"}, clamped(BOTH[0]), clamped(*BOTH)),
    Example("MTU111", "warning", {"c1", "c2"}, clamped(BOTH[1]), clamped()),
    Example("MTU112", "warning", {"c1", "c2"}, clamped(("oifname", 1412), ("iifname", 1412)), clamped(*BOTH)),
    Example("MTU114", "warning", {"c"}, host(MINIMUM.format(size=1200)), host(MINIMUM.format(size=1280))),
    Example("MTU116", "warning", {"c1", "c2"}, (hiding(),), host(ALL_WELL)),
    Example("FLT401", "info", {"c1", "c2"}, forwarded(DROP_443), forwarded()),
    Example("FLT402", "error", {"c"}, host(STRICT.format(mode=1)), host(STRICT.format(mode=2))),
    Example("FLT403", "error", {"c1", "c2"}, host(ALL_WELL.replace("h forward", "h sysctl ipv4.ip_forward=0")),
            host(ALL_WELL)),
    Example("FLT404", "warning", {"c1", "c2"}, forwarded(policy="drop"), forwarded(policy="drop", engine=False)),
    Example("RTE501", "info", {"c1", "c2"}, host(ALL_WELL.replace("h route default via 203.0.113.1\n", "")),
            host(ALL_WELL)),
    Example("RTE502", "warning", {"h", "c1", "c2"}, host(ALL_WELL + "h neigh eth0 203.0.113.1 failed"),
            host(ALL_WELL + "h neigh eth0 203.0.113.1 stale 02:00:00:00:00:99")),
    Example("RTE503", "error", {"c1"}, host(ALL_WELL.replace("h v1 1500 @br0", "h v1 1500 @br0 off")), host(ALL_WELL)),
    Example("RTE504", "warning", {"c1", "c2"}, host(ALL_WELL + "h eth1 phys 1500 198.18.1.200/24"),
            host(ALL_WELL + "h eth1 phys 1500 198.51.100.7/24\nh route 198.18.0.0/16 via 198.51.100.1")),
    Example("RTE504", "info", {"c1", "c2"}, host(ALL_WELL + "h eth1 phys 1500 198.51.100.7/24\n"
            "h route 198.18.0.0/16 via 198.51.100.1"), host(ALL_WELL + "h eth1 phys 1500 198.51.100.7/24\n"
            "h route 198.19.0.0/16 via 198.51.100.1")),
    Example("CFG601", "warning", {"c"}, engined(1500), engined(1500, up=1500)),
    Example("CFG601", "warning", {"c"}, engined(1500, mtu=1400, mtu_from="config"), engined(1500, option=1500)),
    Example("CFG602", "warning", {"c"}, engined(1500, depth=1, inside="abc", inside_name="ci", mtu=1500),
            engined(1400, depth=1, inside="abc", inside_name="ci", mtu=1400)),
    Example("CFG602", "info", set(), engined(1400, depth=1, inside="abc", inside_name="ci", mtu=1500),
            engined(1400, depth=0, mtu=1500)),
    Example("CFG603", "warning", set(), engined(1500, up=1500, mtu=1500, **WROTE_1400),
            engined(1500, up=1500, mtu=1500, mtu_from="flag", **WROTE_1400)),
    Example("CFG603", "warning", {"c"}, engined(1500, default=True, mtu=1400, **WROTE_1400),
            engined(1400, default=True, mtu=1400, **WROTE_1400)),
    Example("CFG601", "warning", {"c"}, engined(1500, kind="podman", default=True),
            engined(1480, kind="podman", default=True)),
    Example("CFG603", "warning", {"c"}, engined(1500, 1500, 1400, kind="podman", file="/etc/c/a.json"),
            engined(1400, 1500, 1400, kind="podman", file="/etc/c/a.json")),
    Example("KRN701", "warning", set(), (card("3.10.0-123.el7.x86_64", ufo=True),),
            (card("3.10.0-229.el7.x86_64", ufo=True),)),
    Example("KRN701", "warning", set(), (card("3.10.0-123.13.2.el7.x86_64", ufo=True),),
            (card("3.10.0-123.el7.x86_64"),)),
    Example("KRN702", "info", set(), (card("3.10.0-327.10.1.el7.x86_64"),), (card("3.10.0-514.el7.x86_64"),)),
    Example("KRN702", "warning", set(), (nodehosts.kernel(nodehosts.weave(1450, 1410, "sleeve"), "3.10.0-327.el7"),),
            (nodehosts.kernel(nodehosts.weave(1450, 1376, "fastdp"), "3.10.0-327.el7"),)),
    Example("KRN703", "warning", set(), (translating("5.6.4"),), (translating("5.6.13"),)),
    Example("KRN703", "warning", set(), (translating("4.19.90"),), (translating("4.19.90", udp_csum=True),)),
    Example("KRN703", "warning", set(), (translating("5.5.1"),), (translating("6.1.0-13-amd64"),)),
    Example("KRN704", "warning", set(), (card("6.1.0", "ixgbe", forward=True, lro=True),),
            (card("6.1.0", "ixgbe", lro=True),)),
    *(Example("RST205", severity, who, host(BRIDGE.format(own=1400, half=1400, up=1400), tables={"c1": drops}),
              host(BRIDGE.format(own=1400, half=1400, up=1400), tables={"c1": quiet}))
      for severity, who, drops, quiet in RESETS),
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
    Example("CFG606", "warning", {"p"}, (nodehosts.veth_mtu(1500),), (nodehosts.veth_mtu(1450),)),
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
