"""`pathfit trace` names the rule that dropped a packet, with the kernel's event on it and without; never another."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from netlab import Net, nets, settled
from test_trace_counters import NO_BTF
from test_trace_saved import SCHEMA, wrong
from weblab import NOBODY, PATHFIT, lost, web

from pathfit.capture import filtered
from pathfit.capture.filtered import Filtered
from pathfit.core.ask import Ask, Target
from pathfit.core.evidence import TraceFact
from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict
from pathfit.core.followed import Cause, Loss
from pathfit.core.net import Point
from pathfit.core.report import Report
from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.core.tracing import Dropped, Filters, Jump, Rule, Ruled
from pathfit.follow.losses import _Causes
from pathfit.follow.ruled import verdicts, with_legacy
from pathfit.model.ruled import droppers
from pathfit.render.followed import cause_text
from pathfit.wire.nft import mark
from pathfit.wire.packets import TCP

S4, S6 = "https://198.51.100.77:8443/50000", "https://[2001:db8:2::77]:8443/50000"
Do = Callable[[Net], object]
Named = tuple[str, str, int, str, str | None]
lab = pytest.mark.lab
root = pytest.mark.real_root


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(
            ("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 77
        )  # no other lab has these: drops are told of all
        with web(net):
            yield net


def traced(net: Net, *more: str, to: str = S4, before: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Exit status and document."""
    words = [*before, PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", to, "--timeout", "8", "--json", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def named(cause: dict[str, Any]) -> Named | None:
    """Tool, table and chain, number of the rule, its text, what the sender hears."""
    rule = cause["rule"]
    if rule is None:
        return None
    where = f"{rule['tool']} {rule['family']} {rule['table']} {rule['chain']}"
    return where, rule["netns"].rpartition("-")[2], rule["number"] or 0, rule["text"], rule["reject"]


def nft(text: str, name: str = "r") -> Do:
    return lambda net: net.inside(name, "nft", "-f", "-", stdin=text)


def chain(rules: str, hook: str = "forward", policy: str = "accept", more: str = "") -> str:
    base = f"chain f {{ type filter hook {hook} priority 0; policy {policy};\n{rules}\n }}"
    return f"table inet corp {{\n{more}\n{base}\n}}\n"


def xt(*lines: str, six: bool = False) -> Do:
    def make(net: Net) -> None:
        for line in lines:
            net.inside("r", "ip6tables-nft" if six else "iptables-nft", *line.split())

    return make


def tunnelled(net: Net) -> None:
    """10.77.0.2 stands behind a VXLAN tunnel from r to s, and r's own filter drops what is large in it."""
    for name, mine, theirs, host in (("r", 1, 77, 1), ("s", 77, 1, 2)):
        kind = f"vxlan id 7 local 198.51.100.{mine} remote 198.51.100.{theirs} dstport 4789 nolearning"
        net.ip(name, f"link add vx0 address 02:00:00:00:07:0{host} type {kind}")
        net.batch(name, f"link set vx0 up mtu 1400\naddr add 10.77.0.{host}/24 dev vx0")
        net.ip(name, f"neigh replace 10.77.0.{3 - host} lladdr 02:00:00:00:07:0{3 - host} dev vx0 nud permanent")
    net.ip("s", "route add 192.0.2.0/24 via 10.77.0.1")
    nft(chain("counter\nudp dport 4789 meta length > 1200 drop", "input"))(net)


def translated(net: Net) -> None:
    """c knows s as 203.0.113.9; the filter behind the translation speaks of s itself."""
    nft("table ip nat { chain p { type nat hook prerouting priority -100;\nip daddr 203.0.113.9 dnat to 198.51.100.77\n"
        " }\n }\n" + chain("ip daddr 198.51.100.77 tcp dport 8443 drop"))(net)  # fmt: skip


BIG = "iifname vs meta length > 1300 drop"
JUMPS = "chain h { counter\nmeta length > 1300 drop\n }\nchain g { counter\ncounter\ngoto h\n }"
ROWS: dict[str, tuple[Do, str, tuple[str, str | None, str | None], Named, str]] = {
    # what is done to the lab; where to; direction, last point, next point; the rule; its "jumped to from"
    "length": (nft(chain("tcp dport 1 drop\ncounter\n" + BIG)), S4, ("reverse", "r/vs", "r/vc"),
               ("nft inet corp f", "r", 3, "iifname vs meta length 1301-", None), ""),
    "jumps": (nft(chain("counter\niifname vs jump g", more=JUMPS)), S4, ("reverse", "r/vs", "r/vc"),
              ("nft inet corp h", "r", 2, "meta length 1301-", None), "f 2, g 3"),
    "policy": (nft(chain("tcp dport 1 accept", policy="drop")), S4, ("forward", "r/vc", None),
               ("nft inet corp f", "r", 0, "policy drop", None), ""),
    "IPv6": (nft(chain("counter\nip6 saddr 2001:db8:2::77 meta length > 1300 drop")), S6, ("reverse", "r/vs", "r/vc"),
             ("nft inet corp f", "r", 2, "ip6 saddr 2001:db8:2::77 meta length", None), ""),
    "reset": (nft(chain("counter\ntcp dport 8443 reject with tcp reset")), S4, ("forward", "r/vc", None),
              ("nft inet corp f", "r", 2, "tcp dport 8443 reject with tcp-reset", "tcp-reset"), ""),
    "prohibited": (nft(chain("tcp dport 8443 reject with icmpx type admin-prohibited")), S4, ("forward", "r/vc", None),
                   ("nft inet corp f", "r", 1, "tcp dport 8443 reject", "icmpx-admin-prohibited"), ""),
    "iptables": (xt("-A FORWARD -s 10.0.0.9 -j DROP", "-A FORWARD -i vs -m length --length 1301:65535 -j DROP"), S4,
                 ("reverse", "r/vs", "r/vc"),
                 ("iptables-nft ip filter FORWARD", "r", 2, "-A FORWARD -i vs -m length --length 1301", None), ""),
    "ip6tables, a chain of one's own": (
        xt("-N CORP", "-A FORWARD -j CORP", "-A CORP -p tcp --dport 8443 -j REJECT", six=True), S6,
        ("forward", "r/vc", None),
        ("iptables-nft ip6 filter CORP", "r", 1, "-A CORP -p tcp --dport 8443 -j REJECT", "icmp6-port-unreachable"),
        "FORWARD 1"),
    "on the way out of the first one": (nft(chain("tcp dport 8443 drop", "output"), "c"), S4, ("forward", None, None),
                                        ("nft inet corp f", "c", 1, "tcp dport 8443 drop", None), ""),
    "at the last one": (nft(chain("tcp dport 8443 drop", "input"), "s"), S4, ("forward", "s/eth0", None),
                        ("nft inet corp f", "s", 1, "tcp dport 8443 drop", None), ""),
    "translated": (translated, "https://203.0.113.9:8443/", ("forward", "r/vc", None),
                   ("nft inet corp f", "r", 1, "ip daddr 198.51.100.77", None), ""),
    "in a tunnel": (tunnelled, "https://10.77.0.2:8443/50000", ("reverse", "r/vs", "r/vx0"),
                    ("nft inet corp f", "r", 2, "udp dport 4789 meta length", None), ""),
}  # fmt: skip
ALONE = ("length", "policy", "IPv6", "on the way out of the first one", "translated", "in a tunnel")


def marks(row: str) -> list[pytest.MarkDecorator]:
    """What `make test` has without an event need not be there with one as well."""
    return [root, pytest.mark.slow] if row in ALONE and row not in ("length", "in a tunnel") else [root]


@lab
@pytest.mark.parametrize(
    ("row", "told"),
    [*(pytest.param(row, True, marks=marks(row), id=row) for row in ROWS), *((row, False) for row in ALONE)],
)
def test_the_rule_is_the_cause(net: Net, row: str, told: bool) -> None:
    """``told``: the kernel tells of the drop as well."""
    setup, to, place, rule, way = ROWS[row]
    setup(net)
    status, document = traced(net, to=to, before=() if told else NO_BTF)
    assert (status, document["verdict"], document["drops"]["watched"]) == (1, "lost", told)
    mine = [(x, y) for x, y in zip(document["losses"], lost(net, document), strict=True) if y[0] == place[0]]
    assert [y[:3] for _, y in mine] == [place]
    assert list(wrong(document, SCHEMA)) == []
    causes = mine[0][0]["causes"]
    assert len(causes) == 1, [c["text"] for c in causes]
    cause = causes[0]
    assert (cause["why"], cause["by"], bool(cause["reason"])) == ("filtered", "event" if told else "rule", told)
    found = named(cause)
    assert found is not None and found[:3] + found[4:] == rule[:3] + rule[4:]
    assert found[3].startswith(rule[3]), found
    assert cause["told"] == (rule[4] is not None)
    assert ", ".join(f"{x['chain']} {x['number']}" for x in cause["rule"]["way"]) == way
    assert cause["count"] >= mine[0][0]["packets"] > 0
    assert ours(net) == []


def ours(net: Net) -> list[str]:
    """Tables of a trace that are in the lab now."""
    return [x for name in net.names for x in net.inside(name, "nft", "list", "tables").split() if mark.PREFIX in x]


@lab
@root
@pytest.mark.parametrize("family", ["netdev", "bridge"])
def test_a_chain_that_says_nothing(net: Net, family: str) -> None:
    """The kernel says that a packet filter drops them there; which rule, what was read says, and is said to be that.

    The one that has nothing to do with it is not named.
    """
    if family == "netdev":
        text = f"table netdev early {{ chain i {{ type filter hook ingress device vs priority 0;\n{BIG}\n }}\n }}\n"
    else:
        net.batch("r", "link add br0 type bridge\nlink set br0 up\nlink set vs master br0\naddr flush dev vs\n"
                       "addr add 198.51.100.1/24 dev br0")  # fmt: skip
        net.inside("r", "sh", "-c", "cd /proc/sys/net/bridge 2>/dev/null && echo 0 > bridge-nf-call-iptables || true")
        text = "table bridge early { chain i { type filter hook input priority 0;\n ip length > 1300 drop\n }\n }\n"
    nft(text + chain("tcp dport 1 drop"))(net)
    status, document = traced(net)
    assert status == 1
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    assert (loss["after"]["netns"], loss["after"]["link"]) == (f"netns:{net('r')}", "vs")
    told, read = loss["causes"]
    assert (told["why"], told["by"], named(told)) == ("filtered", "event", None)
    assert told["text"].startswith("a packet filter at ")
    assert (read["why"], read["by"], read["rule"]["table"]) == ("filtered", "state", "early")


@lab
def test_what_drops_nothing_is_left_alone(net: Net) -> None:
    """A table of ours is only where a rule may drop, and nothing of it is there afterwards. Where the kernel tells of
    drops, it is not even there as long as none does (test_trace_patient.py)."""
    nft(chain("tcp dport 1 drop"))(net)
    nft(chain("counter\ntcp dport 8443 accept", "input"), "s")(net)
    before = settled(net.prefix)
    status, document = traced(net, before=NO_BTF)
    assert document["filters"] == {"namespaces": 1, "unmarked": 0, "unheard": 0}
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    assert settled(net.prefix) == before and ours(net) == []


@lab
@root
def test_two_at_once_and_others_changes(net: Net) -> None:
    """Both name it, though each sees the other's table come and go."""
    nft(chain(BIG))(net)
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", S4, "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    for one in both:
        document = json.loads(one.communicate(timeout=60)[0])
        causes = [c for x in document["losses"] if x["direction"] == "reverse" for c in x["causes"]]
        found = named(causes[0])
        assert found is not None and found[:3] == ("nft inet corp f", "r", 1)
        assert found[3].startswith("iifname vs meta length")
    assert ours(net) == []


@lab
def test_a_namespace_that_dies_meanwhile(net: Net) -> None:
    nft(chain("tcp dport 8443 drop"))(net)
    words = [*NO_BTF, PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", S4, "--timeout", "6", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as one:
        end = time.monotonic() + 20
        while not ours(net) and time.monotonic() < end:
            time.sleep(0.01)
        assert ours(net)
        net.names.remove("r")
        subprocess.run(["ip", "netns", "del", net("r")], check=True)
        out, errors = one.communicate(timeout=40)
    assert one.returncode == 1, errors
    (cause,) = [c for x in json.loads(out)["losses"] for c in x["causes"]]
    found = named(cause)
    assert found is not None and found[3] == "tcp dport 8443 drop"


@lab
@root
def test_without_rights_it_is_said(net: Net) -> None:
    nft(chain("tcp dport 1 drop", "input"), "c")(net)
    words = ["ip", "netns", "exec", net("c"), *NOBODY, PATHFIT, "trace", "--to", S4, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    document = json.loads(done.stdout)
    missing = [m for m in document["missing"] if m["what"].startswith(filtered.WHAT)]
    assert len(missing) == 1 and "CAP_NET_ADMIN" in missing[0]["why"] and missing[0]["how"]
    assert document["report"]["verdict"] == "healthy"


@lab
def test_where_one_namespace_refuses_the_others_are_heard(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 5.12, one without nf_tables, one that has gone: said, once for each reason, and no error."""
    fds = {name: os.open(f"/run/netns/{net(name)}", os.O_RDONLY | os.O_CLOEXEC) for name in "crs"}
    real = filtered.Rules

    def some(places: list[Any], flow: mark.Flow) -> object:
        if places[0].where != "r":
            raise OSError(93, "rules cannot be traced: this kernel has no nf_tables", places[0].where)
        return real(places, flow)

    monkeypatch.setattr(filtered, "Rules", some)
    it = Filtered("watch", fds, {})
    try:
        it.begin({name: name for name in "crsx"}, mark.Flow([bytes(4)]))
        assert len(it.fds) == 1 and len(ours(net)) == 1
        said = it.end(0)
    finally:
        for fd in fds.values():
            os.close(fd)
    assert said.heard == ("r",) and ours(net) == []
    assert [(m.what.removeprefix(filtered.WHAT), m.code) for m in said.missing] == [
        (" in c, s", "unsupported"), (" in x", "vanished"),
    ]  # fmt: skip


@lab
@root
@pytest.mark.slow
def test_iptables_legacy_moves_a_counter(net: Net) -> None:
    """Nobody tells which rule it was; a counter that moved is said, as that."""
    try:
        for line in ("-A FORWARD -s 10.0.0.9 -j DROP", "-A FORWARD -i vs -m length --length 1301:65535 -j DROP"):
            net.inside("r", "iptables-legacy", *line.split())
    except AssertionError as e:
        pytest.skip(f"this kernel has no iptables-legacy: {e}")
    status, document = traced(net)
    assert status == 1
    (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
    event, counter = loss["causes"]
    assert (event["by"], named(event)) == ("event", None)
    found = named(counter)
    assert counter["by"] == "counter" and counter["counter"] and found is not None
    assert found[:3] == ("iptables-legacy ip filter FORWARD", "r", 2)
    assert counter["count"] >= loss["packets"] and "dropped by" not in counter["text"]


# -- from values -----------------------------------------------------------------------------------------------------

A, B = bytes((192, 0, 2, 2)), bytes((198, 51, 100, 2))
NS = "4:77"
RULE = Rule(tool="nft", family="inet", table="corp", chain="f", handle=5, number=2, text="tcp dport 443 drop")
DROP = FilterRule(
    exprs=(Match(field="dport", values=("443",)), Verdict(kind="drop")), handle=5, text="tcp dport 443 drop"
)
COUNT = FilterRule(exprs=(), handle=4, text="counter")


def segment(ident: int = 7, seq: int = 100, size: int = 1500) -> bytes:
    ip = bytes((0x45, 0)) + size.to_bytes(2, "big") + ident.to_bytes(2, "big") + bytes((0x40, 0, 63, TCP, 0, 0)) + A + B
    ports = (50000).to_bytes(2, "big") + (443).to_bytes(2, "big")
    return ip + ports + seq.to_bytes(4, "big") + bytes(4) + bytes((0x80, 0x10, 1, 0, 0, 0, 0, 0))


def event(time_: int, data: bytes, ns: int = 77, word: str = "filtered") -> Dropped:
    return Dropped(time=time_, word=word, reason="NETFILTER_DROP", function="f", netns=ns, data=data, length=1500)


def said(*ruled: Ruled, dropped: tuple[Dropped, ...] = ()) -> TraceFact:
    return TraceFact(ref="t", dropped=dropped, filters=Filters(ruled=ruled))


def host(*rules: FilterRule, where: str = "netns:r", **more: Any) -> HostSnapshot:
    table = Table(family="inet", name="corp", chains=(Chain(name="f", rules=rules, hook="forward", **more),))
    return HostSnapshot(schema="", host="h", namespaces=(NetnsSnapshot(id=NS, where=where, tables=(table,)),))


MS = 1_000_000
HEARD = Ruled(time=20 * MS, netns=NS, rule=RULE, data=segment())


@pytest.mark.parametrize(
    ("drop", "joined"),
    [
        (event(18 * MS, segment()), True),
        (event(18 * MS, segment(), 0), True),  # on no device: a packet of its own, on the way out
        (event(18 * MS, segment(), word="unknown"), True),  # before 5.17 there is no reason
        (event(18 * MS, segment(ident=8)), False),
        (event(18 * MS, segment(seq=101)), False),
        (event(18 * MS, segment(), 78), False),  # elsewhere
        (event(18 * MS, segment(), word="too-big"), False),  # another end
        (event(30 * MS, segment()), True),  # a rule is told of before the packet is freed
        (event(3000 * MS, segment()), False),
    ],
)
def test_the_rule_belongs_to_that_very_packet(drop: Dropped, joined: bool) -> None:
    found = verdicts(said(HEARD, dropped=(drop,)), None, None)
    assert (len(found.rules), len(found.alone)) == (1, 0 if joined else 1)
    assert (found.dropped[0] in found.rules) == joined
    assert found.dropped[0].word == ("filtered" if joined else drop.word)


@pytest.mark.parametrize("told", [True, False])
def test_one_rule_is_one_cause(told: bool) -> None:
    """A drop of which the rule alone tells, beside others by it of which the kernel does."""
    found = verdicts(said(HEARD, replace(HEARD, data=segment(9)), dropped=(event(18 * MS, segment()),)), None, None)
    report = Report(version="", ask=Ask(command="trace", target=Target(text="", protocol="tcp")), verdict="unknown")
    causes = _Causes(None, report, (), found.rules)
    assert len(found.dropped) == len(found.alone) == 1
    (cause,) = causes.of((*found.dropped, *found.alone) if told else found.alone)
    assert (cause.by, cause.count, cause.rule) == ("event" if told else "rule", 1, RULE)


def test_each_copy_has_a_rule_of_its_own() -> None:
    """The same packet twice, in two namespaces' filters or sent again: one message is not given to both."""
    drops = (event(10 * MS, segment()), event(18 * MS, segment()))
    found = verdicts(said(HEARD, dropped=drops), None, None)
    assert [x in found.rules for x in found.dropped] == [False, True] and not found.alone
    found = verdicts(said(HEARD, HEARD, dropped=drops), None, None)
    assert all(x in found.rules for x in found.dropped) and not found.alone


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (host(COUNT, DROP), True),
        (None, True),  # nobody read them again
        (host(COUNT, replace(DROP, text="tcp dport 80 drop")), False),
        (host(DROP, COUNT), False),  # it has moved: its number is another
        (host(COUNT, replace(DROP, handle=6)), False),
        (host(), False),
        (HostSnapshot(schema="", host="h", namespaces=(NetnsSnapshot(id=NS, where="netns:r"),)), False),
    ],
)
def test_a_rule_that_is_another_one_afterwards_is_not_quoted(after: HostSnapshot | None, kept: bool) -> None:
    one = replace(HEARD, rule=replace(RULE, way=(Jump("a", 3, 9),)))
    (rule,) = verdicts(said(one), None, after).rules.values()
    assert (rule.text, rule.number, rule.way) == (
        (RULE.text, 2, (Jump("a", 3, 9),)) if kept else ("", 0, (Jump("a", 0, 9),))
    )
    assert (rule.chain, rule.handle) == ("f", 5)


@pytest.mark.parametrize("data", [b"", b"\x45", bytes(60), segment()[:20], b"\xff" * 60])
def test_headers_that_are_none(data: bytes) -> None:
    found = verdicts(said(replace(HEARD, data=data), dropped=(event(0, data),)), None, None)
    assert (len(found.rules), found.alone) == (1 if len(data) == 20 else 0, ())


def legacy(packets: int, *, after: bool = False, where: str = "netns:r") -> HostSnapshot:
    rule = replace(DROP, packets=packets, text="-p tcp --dport 443 -j DROP")
    table = Table(family="ip", name="filter", tool="iptables-legacy", chains=(Chain(name="FORWARD", rules=(rule,)),))
    called = "pid:9" if after else where  # a second look does not ask engines for names
    return HostSnapshot(schema="", host="h", namespaces=(NetnsSnapshot(id=NS, where=called, tables=(table,)),))


AT, OUT = (Point(host="h", netns="netns:r", link=x) for x in ("a", "b"))
NAMED = Cause(word="filtered", at=AT, rule=RULE, reason="NETFILTER_DROP")
NAMELESS = replace(NAMED, rule=None)


@pytest.mark.parametrize(
    ("causes", "grew", "more"),
    [
        ((NAMELESS,), 3, 1),
        ((), 3, 1),
        ((NAMED,), 3, 0),  # it is known which one it was
        ((NAMELESS,), 0, 0),
        ((replace(NAMELESS, word="too-big"),), 3, 0),
    ],
)
def test_counters_of_iptables_legacy(causes: tuple[Cause, ...], grew: int, more: int) -> None:
    loss = Loss(direction="forward", after=AT, before=OUT, packets=2, causes=causes)
    (found,) = with_legacy([loss], legacy(5), legacy(5 + grew, after=True), "h")
    assert found.causes[: len(causes)] == causes and len(found.causes) == len(causes) + more
    for cause in found.causes[len(causes) :]:
        assert (cause.by, cause.count, cause.at.netns) == ("counter", grew, "netns:r")
        assert "dropped" not in cause_text(cause, "en") and "-A FORWARD -p tcp" in cause_text(cause, "en")


def test_what_may_drop() -> None:
    assert not droppers(()) and not droppers(legacy(1).namespaces[0].tables)
    assert droppers(host(COUNT, DROP).namespaces[0].tables)
    assert droppers(host(COUNT, policy="drop").namespaces[0].tables)
    assert not droppers(host(COUNT).namespaces[0].tables)


EVIL = "f\x1b]0;x\x07\n\u202e"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    "rule",
    [
        replace(RULE, chain=EVIL, table=EVIL, text=EVIL * 500, reject=EVIL, way=(Jump(EVIL, 1, 2),) * 30),
        replace(RULE, number=0, text="", tool=""),
        replace(RULE, policy=True, number=0, text="policy drop"),
    ],
)
@pytest.mark.parametrize("by", ["event", "rule", "counter"])
def test_names_are_a_stranger_s(rule: Rule, lang: str, by: Any) -> None:
    text = cause_text(Cause(word="filtered", at=AT, rule=rule, by=by), lang)
    assert text.isprintable() and "?" not in text and len(text) < 600
    assert "r/a" in text and ("nf_tables" if not rule.tool else "nft ") in text
    assert ("handle 5" in text or "句柄为 5" in text) == (not rule.text)
