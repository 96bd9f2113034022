"""What an engine was told, asked of state alone: `pathfit fix CFG601 --from container:ci` without a target."""

import msgspec
import pytest
from cases import BLIND
from test_rules import DOCKER0, WEB, engined, found, rule_of

from pathfit import diagnose
from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.render import command
from pathfit.rules.view import View

NARROW_OUT = BLIND.replace("h eth0 phys 1500", "h eth0 phys 1400")
TWO_WAYS = NARROW_OUT + "h eth1 phys 1300 198.18.4.2/24\nh route default via 198.18.4.1 metric 100\n"


def unasked(run: Case) -> Case:
    """The same case with nothing asked for and nothing measured."""
    ask = msgspec.structs.replace(run.ask, target=Target(text="", protocol="any"))
    return msgspec.structs.replace(run, ask=ask)


@pytest.mark.parametrize(("code", "network"), [("CFG601", WEB), ("CFG603", DOCKER0)])
@pytest.mark.parametrize(
    ("text", "limit"), [(NARROW_OUT, 1400), (BLIND, None), (TWO_WAYS, None)], ids=["narrow", "wide", "two ways"]
)
def test_of_state_alone(code: str, network: object, text: str, limit: int | None) -> None:
    run = unasked(engined(network, text, None, config='{"mtu": 1400}'))  # type: ignore[arg-type]
    findings = found(rule_of(code), run)
    assert [(f.confidence, f.facts["limit"]) for f in findings] == ([("likely", limit)] if limit else [])


def test_its_repair_is_proposed_with_its_command() -> None:
    run = unasked(engined(WEB, NARROW_OUT, None))
    report = diagnose.report(run)
    (finding,) = [f for f in report.findings if f.code == "CFG601"]
    (repair,) = finding.fixes
    assert (repair.id, repair.value, repair.verify) == ("docker-network-mtu", 1400, "state")
    assert command.fix(View.of(run).ask, "CFG601") == ["pathfit", "fix", "CFG601", "--from", "netns:c"]
