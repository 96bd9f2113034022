"""Scenario files: what is refused and how that is said, and what is worked out from one. No namespaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.lab.filters import base_sysctl, fill
from pathfit.lab.make import make, target
from pathfit.lab.reader import SCENARIOS, ScenarioError, load, parse, scenarios
from pathfit.lab.routing import forwards
from pathfit.lab.scenario import Scenario

GOOD = """\
name: x
about: x
ask: {from: c, to: "https://s:8443/5"}
hosts: [h, r, s]
containers:
  c: {in: h}
cables:
  - {ends: [h, r], mtu: 1420}
  - {ends: [r, s]}
services: [{host: s}]
sees: [c, h]
expect: {}
"""

# (what is replaced, by what, what the complaint says: line, place, what is allowed)
BAD = [
    ("mtu: 1420", "mtu: 60", "x.yaml:8: cables[0].mtu: Expected `int` >= 68"),
    ("mtu: 1420", "mtu: abc", "x.yaml:8: cables[0].mtu: Expected `int | null`, got `str`|x.yaml:8: cables[0].mtu"),
    ("mtu: 1420", "mtuu: 1420", "x.yaml:8: cables[0]: Object contains unknown field `mtuu`"),
    ("ends: [r, s]", "ends: [r, t]", "x.yaml:9: cables[1].ends[1]: no host 't'; there are: h, r, s, c"),
    ("ends: [r, s]", "ends: [r, r]", "x.yaml:9: cables[1].ends: both ends are the same host"),
    ("ends: [r, s]", "ends: [r]", "x.yaml:9: cables[1].ends: Expected `array` of length 2"),
    ("{in: h}", "{in: c}", "containers that contain each other"),
    ("{in: h}", "{in: z}", "x.yaml:6: containers.c.in: no host 'z'"),
    ("{in: h}", "{}", "x.yaml:6: containers.c: Object missing required field `in`|x.yaml:"),
    ("hosts: [h, r, s]", "hosts: [h, r, s, c]", "x.yaml:4: hosts: 'c' stands twice"),
    ("hosts: [h, r, s]", "hosts: [h, r, S]", "x.yaml:4: hosts"),
    ("sees: [c, h]", "sees: [h]", "x.yaml:11: sees: the asking host 'c' must be visible"),
    ("services: [{host: s}]", "services: [{host: s, port: 1}]", "x.yaml:10: services[0].port: web has two ports"),
    ("services: [{host: s}]", "services: [{host: s, kind: tcp}]", "x.yaml:10: services[0]: tcp needs a port"),
    ("[{host: s}]", "[{host: s, kind: dns, behave: drip}]", "services[0].behave: drip is not for dns; allowed: answer"),
    ("expect: {}", "expect: {rev: [9, 1]}", "x.yaml:12: expect.rev: the first of [9, 1] is the smaller one"),
    ("expect: {}", "expect: {says: '('}", "x.yaml:12: expect.says: not a regular expression"),
    ("expect: {}", "expect: {}\nblind: {verdicts: [x]}", "x.yaml:13: blind: Object contains unknown field"),
    ("expect: {}", "expect: {}\nfaults: [{}]", "x.yaml:13: faults[0]: exactly one of: too_big_lost_at"),
    (
        "expect: {}",
        "expect: {}\nfaults: [{loss: {host: r, percent: 0}}]",
        "x.yaml:13: faults[0].loss.percent: Expected",
    ),
    ("expect: {}", "expect: {}\nfaults: [{forwarding_off: q}]", "x.yaml:13: faults[0].forwarding_off: no host 'q'"),
    ("expect: {}", "expect: {}\nfaults: [{no_route: {host: r, to: default}}]", "r has no route to default; it has"),
    ("expect: {}", "expect: {}\nfaults: [{nft: {host: r, lines: ['x <zz>']}}]", "zz"),
    (
        "expect: {}",
        "expect: {}\nfaults: [{sysctl: {host: r, set: {kernel.panic: 1}}}]",
        "is not a setting of a network",
    ),
    ("expect: {}", "expect: {}\ntruth: [{from: c, get: 'ftp://s/'}]", "x.yaml:13: truth[0].get: 'ftp://s/' is not"),
    ("expect: {}", "expect: {}\nnat: [{host: h, kind: dnat}]", "x.yaml:13: nat[0]: dnat needs either"),
    (
        "expect: {}",
        "expect: {}\nbridges: [{host: h, name: b, net: 10.0.0.1/24}]",
        "bridges[0].net: 10.0.0.1/24 has host",
    ),
    ("mtu: 1420", "receives: 1500", "cables[0].receives: at least the end's own MTU + 4 = 1504"),
    ("mtu: 1420", "receives: 1600, rtt: 3", "cables[0].receives: not together with rtt"),
    ("about: x", "about: x\nabout: y", "x.yaml: line 3: 'about' stands here twice"),
    ("about: x", "about: &a x", "x.yaml: line 2: anchors, aliases and tags are not read"),
    ("about: x", "about: !!python/object:os.system x", "x.yaml: line 2: anchors, aliases and tags are not read"),
    ("about: x", "about: [x", "x.yaml: line"),
    ("about: x", "about: 7", "x.yaml:2: about: Expected `str`"),
    ("about: x", "about: \x00", "x.yaml: line 1: not YAML"),
    (GOOD, "", "x.yaml: line 1: empty document"),
    (GOOD, "- 1\n", "x.yaml:1: a scenario is a mapping"),
    (GOOD, "a: " + "[" * 5000, "x.yaml: line 1"),
    (GOOD, "a: " + "x" * 300_000, "at most 262144 are read"),
]


@pytest.mark.parametrize(("old", "new", "says"), BAD, ids=[b[1][:40] or "empty" for b in BAD])
def test_a_mistake_is_named_with_its_place(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ScenarioError) as e:
        parse(GOOD.replace(old, new).encode(), "x.yaml")
    assert any(s in str(e.value) for s in says.split("|")), str(e.value)
    assert len(str(e.value)) < 1000


def test_the_good_one_is_good() -> None:
    assert parse(GOOD.encode()).name == "x"


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_breaks(data: bytes) -> None:
    with pytest.raises(ScenarioError):
        parse(data)


@given(st.integers(0, len(GOOD)), st.characters())
def test_any_slip_of_the_hand_is_a_scenario_or_a_complaint(at: int, slip: str) -> None:
    text = GOOD[:at] + slip + GOOD[at:]
    try:
        parse(text.encode("utf-8", "surrogatepass"))
    except ScenarioError as e:
        assert "scenario:" in str(e)


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: object) -> None:
    with pytest.raises(ScenarioError, match="article-000"):
        load("nope")
    with pytest.raises(ScenarioError, match="No such file"):
        load(f"{tmp_path}/nope.yaml")
    with pytest.raises(ScenarioError, match="not a regular file"):
        load("/dev/zero")


@pytest.mark.parametrize("name", scenarios())
def test_embedded_scenarios_are_sound(name: str) -> None:
    s = load(name)
    assert s.name == name == (SCENARIOS / f"{name}.yaml").stem
    assert s.truth, "a lab must prove that it fails as meant"
    make(s)


def test_addresses_and_routes_of_the_common_stage() -> None:
    plan = make(parse(GOOD.encode()))
    assert {p: plan.address(p) for p in ("c", "h", "h.eth0", "r", "r.eth1", "s")} == {
        "c": "172.17.0.2",
        "h": "172.17.0.1",
        "h.eth0": "198.18.1.1",
        "r": "198.18.1.2",
        "r.eth1": "198.18.2.1",
        "s": "198.18.2.2",
    }
    routes = {h.name: [(r.to, r.via) for r in h.routes] for h in plan.hosts.values()}
    assert routes == {
        "c": [("default", "172.17.0.1")],
        "h": [("default", "198.18.1.2")],
        "r": [],  # on both networks; what is behind the NAT of h is unknown to it
        "s": [("default", "198.18.2.1")],
    }
    assert [h for h in plan.hosts if forwards(plan, h)] == ["h", "r"]
    assert target(plan, "https://s:8443/5") == "https://198.18.2.2:8443/5"
    assert fill(plan, "ip saddr <c/net> ip daddr <s.eth0> tcp dport 1") == (
        "ip saddr 172.17.0.0/16 ip daddr 198.18.2.2 tcp dport 1"
    )


def test_ipv6_and_names_in_targets() -> None:
    plan = make(parse(GOOD.replace("about: x", "about: x\nfamily: both").encode()))
    assert target(plan, "https://s:8443/5", 6) == "https://[2001:db8:2::2]:8443/5"
    assert target(plan, "s:8443", 6) == "[2001:db8:2::2]:8443"
    assert target(plan, "s") == "198.18.2.2"
    for other in ("https://example.invalid/", "https://s.lab.invalid:8443/", "https://[::1]:1/", "127.0.0.1:80"):
        assert target(plan, other) == other


def test_a_router_in_the_middle_gets_a_route_per_network_and_ends_get_a_default() -> None:
    text = """
name: x
about: x
ask: {from: a, to: "http://d:80/"}
hosts: [a, b, c, d]
cables: [{ends: [a, b]}, {ends: [b, c]}, {ends: [c, d]}]
expect: {}
"""
    plan = make(parse(text.encode()))
    assert [(r.to, r.via) for r in plan.hosts["a"].routes] == [("default", "198.18.1.2")]
    assert [(r.to, r.via) for r in plan.hosts["b"].routes] == [("default", "198.18.2.2")]
    assert [(r.to, r.via) for r in plan.hosts["c"].routes] == [("default", "198.18.2.1")]


def test_blind_keys_replace_open_ones() -> None:
    s = parse(GOOD.replace("expect: {}", "expect: {rev: [1, 2], ms: 9}\nblind: {rev: [3, 4]}").encode())
    assert (s.expected(blind=False).rev, s.expected(blind=True).rev, s.expected(blind=True).ms) == ((1, 2), (3, 4), 9)


def test_reverse_path_filter_is_off_by_default() -> None:
    assert base_sysctl(forward=False)["net.ipv4.conf.all.rp_filter"] == "0"
    assert isinstance(parse(GOOD.encode()), Scenario)
