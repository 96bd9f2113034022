"""What an engine was told, asked of state alone (`pathfit fix CFG601 --from container:ci`), and what it keeps apart."""

import msgspec
import pytest
from cases import ADDRESS, BLIND, PLAIN, case, drop, failed
from test_rules import DOCKER0, WEB, engined, found, rule_of
from topo import host

from pathfit import diagnose
from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.core.engine import Container, Endpoint, Engine
from pathfit.core.filters import Chain, Table
from pathfit.core.finding import Fix
from pathfit.render import command
from pathfit.rules.view import View
from pathfit.words.render import title

NARROW_OUT = BLIND.replace("h eth0 phys 1500", "h eth0 phys 1400")
TWO_WAYS = NARROW_OUT + "h eth1 phys 1300 198.18.4.2/24\nh route default via 198.18.4.1 metric 100\n"


def apart(chain: str, *, known: bool = True) -> list[Fix]:
    """Container "ci" in network "bridge" asks for "db" in network "web", and a rule of that chain says no."""
    end = Endpoint(network="n1", name="web", addresses=(ADDRESS,))
    db = Container(id="c2", name="db", engine="docker", netns="4:9", endpoints=(end,) if known else ())
    own = Endpoint(network="n0", name="bridge", addresses=("198.18.1.2",))
    ci = Container(id="c1", name="ci", engine="docker", netns="4:1", endpoints=(own,))
    engine = Engine(kind="docker", socket="/run/docker.sock", netns="4:2", containers=(ci, db))
    rules = Table(family="ip", name="filter", chains=(Chain(name=chain, hook="forward", rules=(drop(),)),))
    state = msgspec.structs.replace(host(PLAIN, tables={"h": (rules,)}), engines=(engine,))
    report = diagnose.report(case(state, failed("timeout")))
    return [x for f in report.findings if f.code == "FLT401" for x in f.fixes]


def test_what_docker_keeps_apart_is_not_torn_down() -> None:
    (fix,) = apart("DOCKER-ISOLATION-STAGE-2")
    assert (fix.id, fix.applicability) == ("docker-network-connect", "manual")
    assert fix.commands == (("docker", "network", "connect", "web", "ci"),)
    assert fix.undo == (("docker", "network", "disconnect", "web", "ci"),)
    assert title(fix, "en", strict=True).startswith("connect ci to the network web")
    assert apart("DOCKER-ISOLATION-STAGE-2", known=False) == []
    assert [x.id for x in apart("corp")] == ["delete-rule"]


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
