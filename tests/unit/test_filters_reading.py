"""Reading rules: what nft and iptables write must come back as the same rules, counts and names."""

import json
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pathfit.core.filters import Clamp, Match, Nat, Opaque, Table, Verdict
from pathfit.host.netns import inside
from pathfit.observe.filters import read_tables
from pathfit.wire.netlink import Malformed
from pathfit.wire.nft import messages
from pathfit.wire.nft.tables import RawRuleset, tables
from pathfit.wire.xt import blobs
from pathfit.wire.xt.matches import MATCHES, match
from pathfit.wire.xt.targets import TARGETS, target

lab = pytest.mark.lab


class Space:
    """A namespace of this test's own."""

    def __init__(self) -> None:
        self.name = f"pffltr{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, *command: str, stdin: str | None = None) -> str:
        line = ["ip", "netns", "exec", self.name, *command]
        done = subprocess.run(line, input=stdin, text=True, capture_output=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def read(self) -> tuple[Table, ...]:
        with inside(self.fd):
            found, missing = read_tables()
        assert missing == ()
        return found

    def close(self) -> None:
        os.close(self.fd)
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def space() -> Iterator[Space]:
    made = Space()
    try:
        yield made
    finally:
        made.close()


# nft rule -> (exprs as text, certain = nothing opaque in it)
SHAPES = [
    ("ip saddr 198.18.1.0/24 tcp dport 8443 counter drop", "ip saddr 198.18.1.0/24 tcp dport 8443 drop"),
    ("ip saddr 10.1.2.3 ip daddr 10.4.5.6 accept", "ip saddr 10.1.2.3 ip daddr 10.4.5.6 accept"),
    ("ip saddr != 10.1.2.0/25 drop", "ip saddr != 10.1.2.0/25 drop"),
    ("ip6 saddr 2001:db8::/32 tcp dport { 80, 443 } accept", "ip6 saddr 2001:db8::/32 tcp dport { 80, 443 } accept"),
    ("icmp type destination-unreachable icmp code frag-needed drop", "icmp type 3 icmp code 4 drop"),
    ("icmpv6 type packet-too-big drop", "icmpv6 type 2 drop"),
    ("ip frag-off & 0x3fff != 0 drop", "meta nfproto ipv4 fragment any drop"),
    ("ip frag-off & 0x1fff != 0 drop", "meta nfproto ipv4 fragment later drop"),
    ("tcp flags syn tcp option maxseg size set rt mtu", "tcp flags syn tcp option maxseg size set rt mtu"),
    ("tcp flags syn / syn,rst tcp option maxseg size set 1360",
     "tcp flags syn / syn,rst tcp option maxseg size set 1360"),
    ("tcp option maxseg size > 1360 drop", "tcp option maxseg size 1361-65535 drop"),
    ("ct state invalid drop", "ct state invalid drop"),
    ("ct state established,related accept", "ct state established,related accept"),
    ("ct state vmap { established : accept, invalid : drop }",
     "ct state vmap { invalid : drop, established : accept }"),
    ("ct status dnat accept", "ct status dnat accept"),
    ("tcp dport { 22, 1000-2000 } accept", "tcp dport { 22, 1000-2000 } accept"),
    ("tcp dport != { 22, 80 } drop", "tcp dport != { 22, 80 } drop"),
    ("ip saddr . tcp dport { 10.1.1.1 . 80 } drop", "ip saddr . tcp dport { 10.1.1.1/32 . 80 } drop"),
    ('iifname "veth*" oifname "eth0" accept', "iifname veth* oifname eth0 accept"),
    ('iifname { "veth*", "eth1" } accept', "iifname { eth1, veth* } accept"),
    ("meta mark & 0xff == 0x12 drop", "meta mark 0x12/0xff drop"),
    ("meta mark set ct mark", "meta mark set ct mark"),
    ("meta mark set meta mark or 0x10", "meta mark set 0x10/0x10"),
    ("meta length 1000-1400 drop", "meta length 1000-4294967295 meta length 0-1400 drop"),
    ("ip length > 1400 drop", "meta nfproto ipv4 meta length 1401-65535 drop"),
    ("meta l4proto { tcp, udp } th dport 53 accept", "meta l4proto { tcp, udp } th dport 53 accept"),
    ("fib daddr type local accept", "fib type dst:local accept"),
    ("fib saddr . iif oif missing drop", "reverse path != ok drop"),
    ("tcp dport vmap { 22 : accept, 80-90 : drop }", "tcp dport vmap { 22 : accept, 80-90 : drop }"),
    ("tcp dport 25 reject with tcp reset", "tcp dport 25 reject with tcp-reset"),
    ("reject with icmpx type admin-prohibited", "reject with icmpx-admin-prohibited"),
    ("limit rate 10/second accept", "limit rate 10 packets/second burst 5 accept"),
    ("numgen random mod 100 < 10 drop", "numgen random 0.1 drop"),
    ("numgen inc mod 3 0 drop", "numgen inc 0/3 drop"),
    ("ip dscp cs1 ip ttl < 5 drop", "ip dscp 8 ip ttl 0-4 drop"),
    ("meta skuid 1000 drop", "meta skuid 1000 drop"),
    ("notrack", "notrack"),
    ("ip6 length > 1300 drop", "meta nfproto ipv6 meta length 1341-65575 drop"),
]  # fmt: skip
OPAQUE = [
    "ip id 5 drop",
    "ether saddr 02:00:00:00:00:01 drop",
    'meta hour "10:00"-"11:00" drop',
    "ct count over 5 drop",
]


@lab
def test_nft_shapes(space: Space) -> None:
    lines = [s for s, _ in SHAPES] + OPAQUE
    body = "".join(f"    {line};\n" for line in lines)
    space.run("nft", "-f", "-", stdin=f"table inet t {{ chain c {{\n{body} }}; }}")
    (table,) = space.read()
    rules = table.chains[0].rules
    assert [r.text for r in rules[: len(SHAPES)]] == [text for _, text in SHAPES]
    for r in rules[: len(SHAPES)]:
        assert not any(isinstance(e, Opaque) for e in r.exprs), r
    for r in rules[len(SHAPES) :]:
        assert any(isinstance(e, Opaque) for e in r.exprs), r


@lab
def test_names_counters_hooks_as_nft_lists_them(space: Space) -> None:
    space.run("nft", "-f", "-", stdin="""
table inet corp {
  set bl { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5-192.168.1.9 }; }
  chain sub { tcp dport 1 return; counter drop comment "in sub"; }
  chain f { type filter hook forward priority 10; policy drop;
    ip saddr @bl jump sub; counter packets 7 bytes 420 accept; }
}
table netdev fd { chain i { type filter hook ingress device "lo" priority -7; tcp dport 80 drop; }; }
table bridge br { chain f { type filter hook forward priority 0; ip saddr 1.1.1.1 drop; }; }
table ip sleepy { flags dormant; chain c { type filter hook input priority 0; drop; }; }
""")  # fmt: skip
    listed = json.loads(space.run("nft", "-j", "list", "ruleset"))["nftables"]
    found = space.read()
    theirs = {
        (r["family"], r["table"], r["chain"], r["handle"], r.get("comment"))
        for r in (x["rule"] for x in listed if "rule" in x)
    }
    ours = {(t.family, t.name, c.name, r.handle, r.comment) for t in found for c in t.chains for r in c.rules}
    assert ours == theirs
    bases = {
        (c["family"], c["name"], c["hook"], c["prio"], c["policy"])
        for c in (x["chain"] for x in listed if "chain" in x)
        if "hook" in c
    }
    assert {(t.family, c.name, c.hook, c.priority, c.policy) for t in found for c in t.chains if c.hook} == bases
    corp = next(t for t in found if t.name == "corp")
    assert (corp.chains[1].rules[1].packets, corp.chains[1].rules[1].bytes_) == (7, 420)
    assert next(t for t in found if t.name == "fd").chains[0].devices == ("lo",)
    assert [t.dormant for t in found] == [False, False, False, True]
    assert {t.tool for t in found} == {"nft"}


@lab
def test_nat_maps(space: Space) -> None:
    space.run("nft", "-f", "-", stdin="""
table ip nat { chain pre { type nat hook prerouting priority -100;
  ip daddr 1.2.3.4 dnat to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 };
  dnat ip addr . port to tcp dport map { 82 : 10.1.1.1 . 8080 };
  udp dport 5000 dnat to 10.1.1.1-10.1.1.5:6000-6010;
  tcp dport 9 redirect to :3128;
}; }""")  # fmt: skip
    choice, pair, span, redirect = (r.exprs[-1] for r in space.read()[0].chains[0].rules)
    assert {a.lo for a in choice.then} == {"10.0.0.1", "10.0.0.2"}  # type: ignore[union-attr]
    assert pair.then == (Nat(kind="dnat", lo="10.1.1.1", hi="10.1.1.1", port_lo=8080, port_hi=8080),)  # type: ignore[union-attr]
    assert span == Nat(kind="dnat", lo="10.1.1.1", hi="10.1.1.5", port_lo=6000, port_hi=6010)
    assert redirect == Nat(kind="redirect", port_lo=3128, port_hi=3128)


IPTABLES = """
-P FORWARD DROP
-N DOCKER
-A FORWARD -j DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i br+ ! -o br+ -j ACCEPT
-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -p tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 1400:65495 -j TCPMSS --set-mss 1360
-A FORWARD -p tcp -m multiport --dports 80,443,1000:2000 -m comment --comment hello -j ACCEPT
-A FORWARD -p udp --sport 1:1023 ! --dport 53 -j REJECT --reject-with icmp-admin-prohibited
-A FORWARD -p icmp --icmp-type fragmentation-needed -j DROP
-A FORWARD -m length --length 1400:1500 -j DROP
-A FORWARD -m statistic --mode random --probability 0.1 -j DROP
-A FORWARD -m u32 --u32 0>>22&0x3C@12>>26&0x3C@0=0x0 -j DROP
-A FORWARD -g DOCKER
-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080
-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-t raw -A PREROUTING -p udp -j CT --notrack
"""


@lab
@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_iptables(space: Space, tool: str) -> None:
    for line in IPTABLES.strip().splitlines():
        space.run(tool, *line.split())
    saved = space.run(f"{tool}-save")
    found = space.read()
    assert {t.tool for t in found} == {tool}
    count = len(re.findall("^-A", saved, re.M))
    assert sum(len(c.rules) for t in found for c in t.chains) == count
    filters = next(t for t in found if t.name == "filter")
    forward = next(c for c in filters.chains if c.name == "FORWARD")
    assert (forward.hook, forward.policy, forward.priority) == ("forward", "drop", 0)
    assert forward.rules[0].exprs == (Verdict(kind="jump", target="DOCKER"),)
    assert Match(field="iifname", values=("br*",)) in forward.rules[2].exprs
    assert [e for r in forward.rules for e in r.exprs if isinstance(e, Clamp)] == [Clamp(), Clamp(size=1360)]
    assert forward.rules[5].comment == "hello"
    opaque = [i for i, r in enumerate(forward.rules) if any(isinstance(e, Opaque) for e in r.exprs)]
    assert [forward.rules[i].text for i in opaque] == ["[-m u32] -j DROP"]
    assert forward.rules[-1].exprs == (Verdict(kind="goto", target="DOCKER"),)
    nat = next(t for t in found if t.name == "nat")
    assert [e for c in nat.chains for r in c.rules for e in r.exprs if isinstance(e, Nat)] == [
        Nat(kind="dnat", lo="10.0.0.1", hi="10.0.0.1", port_lo=8080, port_hi=8080),
        Nat(kind="masquerade"),
    ]


V6 = (
    "-A FORWARD -s 2001:db8::/32 -p tcp --dport 443 -j REJECT",
    "-A FORWARD -p icmpv6 --icmpv6-type packet-too-big -j DROP",
)


@lab
def test_ip6tables_legacy(space: Space) -> None:
    space.run("ip6tables-legacy", *V6[0].split())
    space.run("ip6tables-legacy", *V6[1].split())
    (table,) = space.read()
    rules = next(c for c in table.chains if c.name == "FORWARD").rules
    assert table.family == "ip6"
    assert [r.text for r in rules] == [
        "-s 2001:db8::/32 -p tcp --dport 443 -j REJECT --reject-with icmp6-port-unreachable",
        "-p ipv6-icmp --icmp-type 2 -j DROP",
    ]


@lab
def test_ten_thousand_elements(space: Space) -> None:
    elements = ", ".join(f"10.{i >> 8}.{i & 255}.7" for i in range(10000))
    text = (
        f"table ip t {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}; chain c {{ ip saddr @s drop; }}; }}"
    )
    space.run("nft", "-f", "-", stdin=text)
    match_ = space.read()[0].chains[0].rules[0].exprs[0]
    assert isinstance(match_, Match)
    assert len(match_.values) == 10000
    assert not match_.partial


@lab
def test_a_bare_namespace_has_none_and_reading_loads_nothing(space: Space) -> None:
    names = Path("/proc/net/ip_tables_names")
    before = names.read_text() if names.exists() else None
    assert space.read() == ()
    assert (names.read_text() if names.exists() else None) == before


# --- bytes that lie ----------------------------------------------------------------------------------------------


def test_an_expression_nobody_knows_is_opaque_and_forgets_the_registers() -> None:
    raw = RawRuleset(
        tables=[messages.RawTable("ip", "t", False)],
        chains=[messages.RawChain("ip", "t", "c", "filter", 2, 0, 1, (), None)],
        rules=[
            messages.RawRule(
                "ip", "t", "c", 1, (messages.RawExpr("wizardry", {}), messages.RawExpr("cmp", {1: b"\0\0\0\1"})), None
            )
        ],
    )
    found, missing = tables(raw)
    assert missing == ()
    assert all(isinstance(e, Opaque) for e in found[0].chains[0].rules[0].exprs)


@pytest.mark.parametrize("name", sorted(MATCHES))
@pytest.mark.parametrize("size", [0, 1, 7, 31, 300])
def test_cut_structures_of_matches_never_raise(name: str, size: int) -> None:
    for revision in range(4):
        assert isinstance(match(name, revision, b"\xff" * size, 4), list)


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("size", [0, 1, 7, 31, 300])
def test_cut_structures_of_targets_never_raise(name: str, size: int) -> None:
    for revision in range(4):
        assert target(name, revision, b"\xff" * size, 6)


@pytest.mark.parametrize("cut", range(0, 64, 5))
def test_cut_messages_raise_only_malformed(cut: int) -> None:
    body = bytes((2, 0, 0, 1)) + messages.attribute(1, b"t\0") + messages.attribute(2, b"c\0")
    for decode in (messages.rule, messages.chain, messages.set_, messages.elements, messages.table):
        try:
            decode(body, 0, min(cut, len(body) + 8))
        except Malformed:
            continue


def test_a_blob_that_is_cut_keeps_what_came_before() -> None:
    facts = blobs.Info("filter", 0, (0,) * 5, (0,) * 5, 1, 1000)
    found, why = blobs.table("ip", facts, b"\0" * 140)
    assert "entry at 0" in why
    assert found is not None
    assert found.chains == ()


@pytest.mark.parametrize("inverted", [0, 1, 2, 3])
def test_a_port_match_is_negated_by_a_truth_value(inverted: int) -> None:
    """A number in its place compares wrong, and a saved case that holds one cannot be opened."""
    data = struct.pack("=4H4B", 10, 20, 80, 80, 0, 0, 0, inverted)
    found = [e for e in match("tcp", 0, data, 4) if isinstance(e, Match) and e.field in ("sport", "dport")]
    assert [e.negate for e in found] == [bool(inverted & 1), bool(inverted & 2)]
    assert all(type(e.negate) is bool for e in found)
