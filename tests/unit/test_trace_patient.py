"""Packet filters are asked which rule it was only once one of them drops something, where state foretells no drop."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from netlab import Net
from test_trace_counters import NO_BTF
from test_trace_rules import NS, ROWS, RULE, S4, chain, event, named, nft, ours, segment
from weblab import documented

from pathfit.capture.drops import Drops
from pathfit.cli.saved import open_case
from pathfit.core.ask import Ask, Target
from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Cause
from pathfit.core.report import Report
from pathfit.core.request import Watch
from pathfit.core.tracing import Dropped, Filters, Ruled
from pathfit.follow.losses import _Causes
from pathfit.follow.ruled import verdicts
from pathfit.wire import traced
from pathfit.wire.nft import mark
from pathfit.wire.packets import TCP, UDP

# The command, and which tables are in r when the watch has begun. "blind": state foretells nothing of any rule.
BEGUN = """
import subprocess, sys
from pathfit.capture import watch
from pathfit.cli.entry import main
from pathfit.rules import unsettled
name, out, blind = (sys.argv.pop(1) for _ in range(3))
begin = watch.Watcher.begin
def begun(self):
    found = begin(self)
    tables = subprocess.run(["ip", "netns", "exec", name, "nft", "list", "tables"], capture_output=True, check=True)
    open(out, "wb").write(tables.stdout)
    return found
watch.Watcher.begin = begun
if blind:
    unsettled._passes = lambda view: True
sys.exit(main())
"""
NEVER = "tcp dport 1 drop"
root = pytest.mark.real_root


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with documented() as net:
        yield net


def followed(
    net: Net, tmp_path: Path, to: str = S4, *more: str, blind: bool = False, before: tuple[str, ...] = ()
) -> tuple[dict[str, Any], bool]:
    """The document, and whether there was a table of ours in r when the watch had begun."""
    out = tmp_path / "tables"
    words = [*before, sys.executable, "-c", BEGUN, net("r"), str(out), "blind" if blind else "", "trace", "--json"]
    words += ["--timeout", "40", "--from", f"netns:{net('c')}", "--to", to, *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout), mark.PREFIX in out.read_text()


@pytest.mark.lab
@root
def test_while_nothing_is_dropped_there_is_no_table(net: Net, tmp_path: Path) -> None:
    nft(chain(NEVER))(net)
    document, table = followed(net, tmp_path)
    assert (document["verdict"], document["losses"], table) == ("arrives", [], False)
    assert document["filters"] == {"namespaces": 0, "unmarked": 0, "unheard": 0}


@pytest.mark.lab
@root
@pytest.mark.parametrize(
    "row", ["length", "policy", *(pytest.param(x, marks=pytest.mark.slow) for x in ("jumps", "IPv6", "in a tunnel"))]
)
def test_a_rule_that_nobody_foretold_is_asked_when_it_drops(net: Net, tmp_path: Path, row: str) -> None:
    """Who sends is not heard at once, and sends again."""
    setup, to, place, rule, _ = ROWS[row]
    setup(net)
    document, table = followed(net, tmp_path, to, blind=True)
    assert (document["verdict"], table, document["filters"]["namespaces"]) == ("lost", False, 1)
    (loss,) = [x for x in document["losses"] if x["direction"] == place[0]]
    first, *others = loss["causes"]
    found = named(first)
    assert found is not None and found[:3] + found[4:] == rule[:3] + rule[4:] and found[3].startswith(rule[3])
    assert first["by"] == "event" and first["count"] > 0
    # What was dropped before, and is smaller than what was dropped afterwards, might have been another rule's.
    assert [x["at"] for x in others] in ([], [first["at"]]) and all(named(x) is None for x in others)
    assert ours(net) == []


@pytest.mark.lab
@pytest.mark.parametrize("why", ["foretold", "a limit", "others", pytest.param("nobody tells of drops", marks=root)])
def test_they_are_asked_at_once(net: Net, tmp_path: Path, why: str) -> None:
    """Where state foretells a drop, or how packets end that then come in another size; where what others send is not
    sent again for us, and where no event would say."""
    nft(chain("ip saddr 198.51.100.77 meta length > 1300 drop" if why == "foretold" else NEVER))(net)
    if why == "a limit":
        net.ip("r", "link set vc mtu 1400")
    more = ("--follow", "0.2") if why == "others" else ("--save", str(tmp_path / "case"))
    document, table = followed(net, tmp_path, S4, *more, before=NO_BTF if why == "nobody tells of drops" else ())
    assert table and document["filters"]["namespaces"] == 1
    if why != "others":
        (asked,) = [x.request for x in open_case(tmp_path / "case").exchanges if isinstance(x.request, Watch)]
        assert asked.patient == (why == "nobody tells of drops")


# -- from values -----------------------------------------------------------------------------------------------------


def causes(*dropped: Dropped, since: int, ruled: tuple[Ruled, ...]) -> tuple[Cause, ...]:
    fact = TraceFact(ref="t", dropped=dropped, filters=Filters(ruled=ruled, since=since))
    said = verdicts(fact, None, None)
    report = Report(version="", verdict="unknown", ask=Ask(command="trace", target=Target(text="", protocol="tcp")))
    return _Causes(None, report, (), said.rules, since=since).of(said.dropped)


def test_what_was_dropped_before_is_the_rule_s_when_it_is_alike() -> None:
    """The same place, the same way through the kernel, the same kind of packet, and no smaller."""
    early, late = event(10, segment(1)), event(100, segment(2))
    ruled = (Ruled(time=101, netns=NS, rule=RULE, data=segment(2)),)

    def others(*them: Dropped) -> list[int]:
        """Causes beside the rule, how many events each; every event counts once."""
        rule, *found = causes(*them, late, since=50, ruled=ruled)
        assert rule.rule == RULE and rule.count + sum(x.count for x in found) == len(them) + 1
        assert all(x.rule is None and x.word == rule.word for x in found)
        return [x.count for x in found]

    assert others(early) == others(early, early, replace(early, length=late.length + 1)) == []
    udp = bytes((*segment()[:9], UDP, *segment()[10:]))
    assert udp[9] != TCP == segment()[9]
    syn = bytes((*segment()[:33], 2, *segment()[34:]))
    for unlike in (
        replace(early, time=60),  # asked already, and it was not said
        replace(early, length=late.length - 1),
        replace(early, function="g"),
        replace(early, device="eth1"),
        replace(early, callers=("nf_hook_slow",)),
        replace(early, data=udp),
        replace(early, data=syn),
    ):
        assert others(unlike) == [1], unlike
        assert others(early, unlike, early) == [1], unlike


def test_of_several_rules_it_is_that_of_the_next_smaller_size() -> None:
    """Where that one is not the only one, it is nobody's."""
    rules = [RULE, replace(RULE, handle=6, number=3), replace(RULE, handle=7, number=4)]
    late = [replace(event(100 + n, segment(n)), length=length) for n, length in enumerate((1300, 1400, 1400))]
    ruled = tuple(Ruled(time=110, netns=NS, rule=r, data=x.data) for r, x in zip(rules, late, strict=True))
    early = [replace(event(10, segment(9)), length=length) for length in (1200, 1299, 1300, 1399, 1400, 1500)]

    def counted(many: int) -> dict[int, int]:
        """Events by the number of the rule; 0: a packet filter."""
        found = causes(*early, *late[:many], since=50, ruled=ruled[:many])
        return {x.rule.number if x.rule is not None else 0: x.count for x in found}

    assert counted(2) == {RULE.number: 3, 3: 3, 0: 2}
    assert counted(3) == {RULE.number: 3, 3: 1, 4: 1, 0: 4}


def dropping(*reasons: int) -> list[bytes]:
    return [
        traced._EVENT.pack(1, 2, 3, *[0] * traced.DEPTH, x, *[0] * 7, 0, 0, 0, 1, 0, bytes(16), bytes(16), bytes(160))
        for x in reasons
    ]


@pytest.mark.parametrize(
    ("reasons", "numbers", "told"),
    [({12: "NETFILTER_DROP"}, (3, 12), True), ({12: "NETFILTER_DROP"}, (3, 4), False), ({}, (2,), True)],
)
def test_a_packet_filter_is_known_by_its_reason(reasons: dict[int, str], numbers: tuple[int, ...], told: bool) -> None:
    """Before 5.17 nobody knows; and what was looked at is not looked at again."""
    it = object.__new__(Drops)
    it._heard, it._cut, it._judged = [], 0, 0
    it.__dict__["_reasons"] = reasons
    waiting = [dropping(*numbers), []]
    it._program = SimpleNamespace(events=lambda: waiting.pop(0))  # type: ignore[assignment]
    assert not it.filtered()
    it.gather()
    assert it.filtered() == told
    it.gather()
    assert not it.filtered() and len(it._heard) == len(numbers)
