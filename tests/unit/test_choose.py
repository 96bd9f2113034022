"""What `fix` may apply, as a table: findings and options in, the chosen repair and what bars it out."""

import pytest

from pathfit.apply.choose import NoSuchFix, choose
from pathfit.core.ask import Ask, Target
from pathfit.core.change import FlushRouteCache
from pathfit.core.finding import Applicability, Confidence, EvidenceLine, Finding, Fix, Severity
from pathfit.core.measured import Bracket, Contact
from pathfit.core.net import Point
from pathfit.core.report import MeasuredAddress, Report

CHANGE = FlushRouteCache(netns="4:1", where="netns:c", family=4)
NOTHING = Bracket(method="none", tests="both")


def fix(
    name: str, applicability: Applicability = "safe", *, interrupts: tuple[str, ...] = (), done: bool = True
) -> Fix:
    changes = (CHANGE,) if done else ()
    return Fix(
        id=name, title="x", platform="linux", applicability=applicability, interrupts=interrupts, changes=changes
    )


SAFE, OTHER = fix("safe"), fix("other")
HAND, SHOWN = fix("hand", "manual"), fix("shown", done=False)
BREAKS, STOPS = fix("breaks", "disruptive"), fix("stops", interrupts=("container:ci",))


def finding(
    code: str = "MTU101",
    *fixes: Fix,
    severity: Severity = "error",
    confidence: Confidence = "confirmed",
    explains: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        code=code,
        name="x",
        severity=severity,
        confidence=confidence,
        where=(Point(host="h", netns="host"),),
        facts={},
        evidence=(EvidenceLine(ref="probe:1"),),
        explains=explains,
        fixes=fixes,
    )


def report(*findings: Finding, measured: bool = True) -> Report:
    contact = Contact(address="198.51.100.2", family=4, port=443)
    seen = (MeasuredAddress(contact=contact, forward=NOTHING, reverse=NOTHING),) if measured else ()
    ask = Ask(command="diagnose", target=Target(text="x", protocol="https"))
    return Report(version="1", ask=ask, verdict="broken", findings=findings, measured=seen)


ROWS = [
    # findings, options -> finding, fix, barred
    ((), {}, (None, None, "")),
    ((finding(),), {}, ("MTU101", None, "")),
    ((finding("MTU101", SAFE, OTHER),), {}, ("MTU101", "safe", "")),
    ((finding("MTU101", HAND, SAFE),), {}, ("MTU101", "safe", "")),
    ((finding("MTU101", SHOWN),), {}, ("MTU101", "shown", "manual")),
    ((finding("MTU101", HAND, BREAKS),), {}, ("MTU101", "breaks", "disruptive")),
    ((finding("MTU101", STOPS),), {}, ("MTU101", "stops", "disruptive")),
    ((finding("MTU101", STOPS),), {"interrupt": True}, ("MTU101", "stops", "")),
    ((finding("MTU101", BREAKS, SAFE),), {}, ("MTU101", "safe", "")),
    ((finding("MTU101", BREAKS, SAFE),), {"interrupt": True}, ("MTU101", "breaks", "")),
    ((finding("RST201"), finding("MTU101", SAFE)), {}, ("MTU101", "safe", "")),
    ((finding("FLT401", HAND), finding("MTU101", SAFE)), {}, ("MTU101", "safe", "")),
    # a warning is left alone unless it is named
    ((finding("MTU106", SAFE, severity="warning"),), {}, (None, None, "")),
    ((finding("MTU106", SAFE, severity="warning"),), {"code": "MTU106"}, ("MTU106", "safe", "")),
    ((finding("MTU101", SAFE),), {"code": "MTU106"}, (None, None, "")),
    # a cause is repaired by what repairs its symptom
    (
        (finding("MTU101", SAFE), finding("MTU104", severity="warning", explains=("MTU101",))),
        {"code": "MTU104"},
        ("MTU101", "safe", ""),
    ),
    # likely, or from state alone: only by name and place
    ((finding("MTU101", SAFE, confidence="likely"),), {}, ("MTU101", "safe", "unproven")),
    ((finding("MTU101", SAFE, confidence="likely"),), {"code": "MTU101"}, ("MTU101", "safe", "unproven")),
    ((finding("MTU101", SAFE, confidence="likely"),), {"code": "MTU101", "named": True}, ("MTU101", "safe", "")),
    ((finding("CFG601", STOPS, confidence="likely"),), {"code": "CFG601", "named": True},
     ("CFG601", "stops", "disruptive")),
    ((finding("MTU101", HAND, confidence="likely"),), {"code": "MTU101", "named": True}, ("MTU101", "hand", "manual")),
    # by id
    ((finding("MTU101", SAFE, OTHER),), {"use": "other"}, ("MTU101", "other", "")),
    ((finding("MTU101", SAFE, STOPS),), {"use": "stops"}, ("MTU101", "stops", "disruptive")),
    ((finding("MTU101", SAFE), finding("MTU102", OTHER)), {"use": "other"}, ("MTU102", "other", "")),
    ((finding("RST201"),), {"use": "other"}, ("RST201", None, "")),
]  # fmt: skip


@pytest.mark.parametrize(("findings", "options", "want"), ROWS)
def test_chosen(findings: tuple[Finding, ...], options: dict[str, object], want: tuple[str | None, ...]) -> None:
    options = {"code": None, **options}
    choice = choose(report(*findings), **options)  # type: ignore[arg-type]
    got = (choice.finding.code if choice.finding else None, choice.fix.id if choice.fix else None, choice.barred)
    assert got == want


def test_confirmed_without_a_measurement_is_not_confirmed_by_one() -> None:
    seen = report(finding("CFG601", SAFE), measured=False)
    assert choose(seen, None).barred == "unproven"
    assert choose(seen, "CFG601", named=True).barred == ""


def test_no_such_repair() -> None:
    with pytest.raises(NoSuchFix) as caught:
        choose(report(finding("MTU101", SAFE, OTHER)), None, "magic")
    assert caught.value.known == ("safe", "other")
