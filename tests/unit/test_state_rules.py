"""Every rule of state: an example that fires, a healthy machine that looks much the same and stays quiet, words for
all of it in both languages, a whole manual page."""

from typing import NamedTuple

import pytest
import topo
from test_scan import BRIDGE, OVERLAY, of

from pathfit.core.finding import Finding
from pathfit.core.snapshot import HostSnapshot
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


EXAMPLES = [
    Example("MTU103", "warning", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1500, up=1400)),
            host(BRIDGE.format(own=1400, half=1400, up=1400))),
    Example("MTU104", "warning", {"c", "d"}, host(OVERLAY.format(mtu=1500)), host(OVERLAY.format(mtu=1450))),
    Example("MTU105", "error", {"c1", "c2"}, host(BRIDGE.format(own=1500, half=1400, up=1500)),
            host(BRIDGE.format(own=1500, half=1500, up=1500))),
    Example("MTU107", "error", {"c", "s"}, (no_icmp_out(),), host(LOST)),
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
