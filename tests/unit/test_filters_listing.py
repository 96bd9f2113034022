"""`nft -j list ruleset` and `iptables-save` as oracles: random rules, as those programs list them and as we read them.

What they were given does not count, only what they say is there: every match they list must be among ours with the same
field, values and sense, and ours has no others but those that follow (which protocol a port belongs to).
"""

import ipaddress
import json
import os
import random
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import netlab
import pytest

from pathfit.core.filters import FilterRule, Match, Table, Verdict
from pathfit.host import netns
from pathfit.observe.filters import read_tables

pytestmark = pytest.mark.lab
RULES = 40
IMPLIED = {"nfproto", "l4proto", "ethertype"}  # that a rule names a port or an address says it already
PROTOCOLS = {"icmp": "1", "tcp": "6", "udp": "17", "ipv6-icmp": "58", "icmpv6": "58", "gre": "47", "esp": "50"}


@pytest.fixture(params=[7, None], ids=["the same seed", "a fresh seed"])
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = request.param if request.param is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def net() -> Iterator[netlab.Net]:
    with netlab.nets() as lab:
        lab.add("f")
        yield lab


def read(net: netlab.Net) -> tuple[Table, ...]:
    with netns.open_handle(f"/run/netns/{net('f')}", "f") as handle, netns.inside(handle.fd):
        found, missing = read_tables()
    assert not missing
    return found


def network(rng: random.Random, family: int = 4) -> str:
    length = rng.choice([8, 16, 24, 32] if family == 4 else [32, 64, 128])
    top = 198 << 24 | 18 << 16 | rng.getrandbits(16) if family == 4 else 0x20010DB8 << 96 | rng.getrandbits(90)
    return str(ipaddress.ip_network((top, length), strict=False))


def port(rng: random.Random) -> str:
    first = rng.randint(1, 60000)
    return rng.choice([str(first), f"{first}-{first + rng.randint(1, 900)}"])


# --- nft ------------------------------------------------------------------------------------------------------------


def nft_statement(rng: random.Random, family: int) -> list[str]:
    sense = rng.choice(["", "!= "])
    ip = "ip" if family == 4 else "ip6"
    several = "{ " + ", ".join(sorted({network(rng, family) for _ in range(3)})) + " }"
    l4 = rng.choice(["tcp", "udp"])
    return rng.choice(
        [
            [f"{ip} saddr {sense}{network(rng, family)}"],
            [f"{ip} daddr {sense}{several}"] if "/" in several else [f"{ip} daddr {network(rng, family)}"],
            [f"{l4} dport {sense}{port(rng)}"],
            [f"{l4} sport {{ {rng.randint(1, 99)}, {rng.randint(100, 900)}-{rng.randint(901, 999)} }}"],
            [f"iifname {sense}{rng.choice(['eth0', 'veth1'])}"],
            [f"oifname {sense}br0"],
            [f"ct state {rng.choice(['established,related', 'invalid', 'new'])}"],
            [f"meta length {sense}{rng.randint(100, 1400)}-1500"],
            [f"meta l4proto {rng.choice(['tcp', 'udp', 'gre'])}"],
        ]
    )


def of_nft(match: dict[str, Any]) -> tuple[str, frozenset[str], bool] | None:
    """(field, values, negated) of a match as nft lists it."""
    left = match["left"]
    field = left["payload"]["field"] if "payload" in left else left["meta"]["key"] if "meta" in left else "ctstate"
    return field, frozenset(values(match["right"], field)), match["op"] == "!="


def values(right: Any, field: str) -> Iterator[str]:
    if isinstance(right, dict) and "set" in right:
        for one in right["set"]:
            yield from values(one, field)
    elif isinstance(right, list):
        for one in right:
            yield from values(one, field)
    elif isinstance(right, dict) and "prefix" in right:
        yield f"{right['prefix']['addr']}/{right['prefix']['len']}"
    elif isinstance(right, dict) and "range" in right:
        first, last = right["range"]
        yield f"{first}-{last}"
    elif field in ("saddr", "daddr"):
        yield str(ipaddress.ip_network(right))
    else:
        yield PROTOCOLS.get(str(right), str(right)) if field == "l4proto" else str(right)


def ours(rule: FilterRule) -> set[tuple[str, frozenset[str], bool]]:
    """A range of a number may come as its two ends (`cmp gte`, `cmp lte`): that is one match to whoever lists it."""
    found: set[tuple[str, frozenset[str], bool]] = set()
    ends: dict[str, tuple[int, int]] = {}
    for e in rule.exprs:
        if isinstance(e, Match):
            value = re.fullmatch(r"(\d+)-(\d+)", e.values[0]) if len(e.values) == 1 and not e.negate else None
            if value is None:
                found.add((e.field, frozenset(e.values), e.negate))
            else:
                low, high = ends.get(e.field, (0, 1 << 32))
                ends[e.field] = max(low, int(value[1])), min(high, int(value[2]))
    return found | {(field, frozenset({f"{low}-{high}"}), False) for field, (low, high) in ends.items()}


def verdict(rule: FilterRule) -> str | None:
    return next((e.kind for e in rule.exprs if isinstance(e, Verdict)), None)


def agree(listed: set[tuple[str, frozenset[str], bool]], rule: FilterRule, text: str) -> None:
    found = ours(rule)
    assert listed <= found, text
    assert {field for field, _, _ in found - listed} <= IMPLIED, text


def test_nft_lists_what_we_read(net: netlab.Net, rng: random.Random) -> None:
    lines = []
    for _ in range(RULES):
        family = rng.choice([4, 6])
        statements = [s for _ in range(rng.randint(1, 3)) for s in nft_statement(rng, family)]
        once = list({s.split()[0] + s.split()[1]: s for s in statements}.values())
        lines.append(" ".join(once) + f" counter {rng.choice(['accept', 'drop', 'return'])}")
    kept = 0
    net.inside("f", "nft", "add", "table", "inet", "t")
    net.inside("f", "nft", "add", "chain", "inet", "t", "c")
    for line in lines:  # one by one: some pairs exclude each other (tcp and udp ports), which nft refuses
        words = ["ip", "netns", "exec", net("f"), "nft", "add", "rule", "inet", "t", "c", line]
        kept += subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert kept > RULES // 2
    listed = json.loads(net.inside("f", "nft", "-j", "list", "ruleset"))["nftables"]
    rules = [x["rule"] for x in listed if "rule" in x]
    (table,) = read(net)
    assert len(rules) == len(table.chains[0].rules) == kept
    for theirs, mine in zip(rules, table.chains[0].rules, strict=True):
        matches = {of for e in theirs["expr"] if "match" in e and (of := of_nft(e["match"]))}
        agree(matches, mine, json.dumps(theirs))
        (kind,) = [k for e in theirs["expr"] for k in e if k in ("accept", "drop", "return")]
        assert (verdict(mine), mine.handle) == (kind, theirs["handle"])


# --- iptables ---------------------------------------------------------------------------------------------------------


def iptables_rule(rng: random.Random) -> str:
    def no() -> str:
        return rng.choice(["", "", "! "])

    words = []
    if rng.random() < 0.5:
        words.append(f"{no()}-s {network(rng)}")
    if rng.random() < 0.4:
        words.append(f"{no()}-d {network(rng)}")
    if rng.random() < 0.3:
        words.append(f"{no()}-i eth{rng.randint(0, 3)}")
    if rng.random() < 0.6:
        name = rng.choice(["tcp", "udp"])
        words.append(f"-p {name}")
        if rng.random() < 0.7:
            words.append(f"-m {name} {no()}--dport {port(rng).replace('-', ':')}")
    if rng.random() < 0.3:
        words.append(f"-m conntrack --ctstate {rng.choice(['RELATED,ESTABLISHED', 'INVALID', 'NEW'])}")
    if rng.random() < 0.2:
        words.append(f"-m length --length {rng.randint(100, 900)}:1500")
    return " ".join(words) + f" -j {rng.choice(['ACCEPT', 'DROP', 'RETURN'])}"


NAMES = {"-s": "saddr", "-d": "daddr", "-i": "iifname", "-o": "oifname", "--dport": "dport", "--sport": "sport",
         "--ctstate": "ctstate", "--length": "length", "-p": "l4proto"}  # fmt: skip


def of_iptables(line: str) -> tuple[set[tuple[str, frozenset[str], bool]], str]:
    """The matches and the target of a line of iptables-save."""
    words, found, negated, target = shlex.split(line), set(), False, ""
    for n, word in enumerate(words):
        if word == "!":
            negated = True
            continue
        if word == "-j":
            target = words[n + 1].lower()
        if word in NAMES:
            text = words[n + 1]
            given = frozenset(text.lower().split(",")) if word == "--ctstate" else frozenset({text.replace(":", "-")})
            if word == "-p":
                given = frozenset({PROTOCOLS[text]})
            found.add((NAMES[word], given, negated))
        negated = False
    return found, target


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_iptables_saves_what_we_read(net: netlab.Net, rng: random.Random, tool: str) -> None:
    lines = [iptables_rule(rng) for _ in range(RULES)]
    text = "*filter\n:FORWARD ACCEPT [0:0]\n" + "".join(f"-A FORWARD {line}\n" for line in lines) + "COMMIT\n"
    net.inside("f", f"{tool}-restore", stdin=text)
    saved = net.inside("f", f"{tool}-save", "-t", "filter")
    listed = [line for line in saved.splitlines() if re.match(r"-A FORWARD ", line)]
    table = next(t for t in read(net) if t.name == "filter" and t.family == "ip")
    assert table.tool == tool
    rules = next(c for c in table.chains if c.name == "FORWARD").rules
    assert len(rules) == len(listed) == RULES
    for line, mine in zip(listed, rules, strict=True):
        matches, target = of_iptables(line)
        agree(matches, mine, line)
        assert verdict(mine) == target, line
