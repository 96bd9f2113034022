"""From a case to a verdict: order, causes, severity, exit status. Each test is a case and what must be said of it."""

from typing import Any, NamedTuple

import msgspec
import pytest
from cases import ADDRESS, BLIND, NARROW, PLAIN, PORT, VXLAN, case, failed, gaps, hole, out, passing, probe, told

from pathfit import diagnose
from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.core.evidence import Missing, NameFact, TrialFact
from pathfit.core.finding import Finding
from pathfit.core.measured import LossSeen
from pathfit.rules.base import Rule, found, line
from pathfit.rules.view import View

BOTH_SAME = probe(reverse=(hole(),), forward=(out(1420, fails=1421),), attempts=gaps(1500))
BOTH_DIFFERENT = probe(reverse=(hole(1450),), forward=(out(1400, fails=1401),))
TCP_TARGET = {"target": Target(text=f"tcp://{ADDRESS}:{PORT}", protocol="tcp", host=ADDRESS, port=PORT)}
LITTLE = passing(900, grade="none", note="answers-too-short")


class Told(NamedTuple):
    """``codes`` errors and warnings in order, as CODE or code (lower case: warning)."""

    name: str
    run: Case
    verdict: str
    exit: int
    codes: tuple[str, ...]
    why: str | None = None


VERDICTS = (
    Told("healthy", case(PLAIN, probe()), "healthy", 0, ()),
    Told("hole in", case(BLIND, probe(reverse=(hole(),))), "broken", 1, ("MTU101", "mtu103")),
    Told("hole out", case(BLIND, probe(forward=(out(1420, fails=1421),))), "broken", 1, ("MTU102", "mtu103")),
    Told("one limit both ways is one error", case(BLIND, BOTH_SAME), "broken", 1, ("MTU101", "mtu102", "mtu103")),
    Told("two limits are two errors", case(BLIND, BOTH_DIFFERENT), "broken", 1, ("MTU101", "MTU102", "mtu103")),
    Told(
        "overlay",
        case(VXLAN, probe(reverse=(hole(1450),), forward=(out(1450, fails=1451),))),
        "broken",
        1,
        ("MTU101", "mtu102", "mtu103", "mtu104"),
    ),
    Told(
        "told",
        case(NARROW, probe(forward=(told(1420),), reverse=(hole(grade="told"),))),
        "degraded",
        0,
        ("mtu106", "mtu103"),
    ),
    Told("rescued", case(BLIND, probe(rescued_after=3.0)), "degraded", 0, ("mtu119",)),
    Told("loss", case(BLIND, probe(loss=LossSeen(attempts=30, disturbed=5))), "degraded", 0, ("net151",)),
    Told("closed port", case(BLIND, failed("refused")), "broken", 1, ("RST201",)),
    Told("no answer", case(BLIND, failed("timeout")), "broken", 1, ("NET152",)),
    Told(
        "certificate",
        case(BLIND, probe(contact={"tls": "failed", "alert_kind": "certificate"})),
        "healthy",
        0,
        ("app802",),
    ),
    Told("http 503", case(BLIND, probe(contact={"http": "503"})), "healthy", 0, ("app803",)),
    Told("no place", msgspec.structs.replace(case(None), exchanges=()), "unknown", 3, (), "why.no-source"),
    Told("nothing measured", case(BLIND), "unknown", 3, (), "why.not-measured"),
    Told("no name", case(BLIND, NameFact(ref="name", name="x.invalid", error="nxdomain")), "broken", 1, ("DNS251",)),
    Told("short answers", case(BLIND, probe(reverse=(LITTLE,))), "unknown", 3, (), "why.in-not-measured"),
    Told(
        "short answers of a plain service",
        case(
            BLIND, probe(reverse=(LITTLE,), contact={"protocol": "tcp", "tls": "n/a", "http": "n/a"}), more=TCP_TARGET
        ),
        "unknown",
        3,
        (),
        "why.in-says-little",
    ),
    Told(
        "short answers of a plain service, all of the way visible",
        case(
            PLAIN, probe(reverse=(LITTLE,), contact={"protocol": "tcp", "tls": "n/a", "http": "n/a"}), more=TCP_TARGET
        ),
        "healthy",
        0,
        (),
    ),
    Told("short answers, all of the way visible", case(PLAIN, probe(reverse=(LITTLE,))), "healthy", 0, ()),
    Told("no way to measure out", case(BLIND, probe(forward=())), "unknown", 3, (), "why.out-not-measured"),
    Told(
        "never proven",
        case(BLIND, probe(reverse=(passing(1400, grade="none", note="unproven"),))),
        "unknown",
        3,
        (),
        "why.not-proven",
    ),
    Told("clamped", case(BLIND, probe(reverse=(passing(1400, note="capped"),))), "healthy", 0, ()),
    Told("masked", case(BLIND, probe(forward=(out(1400, fails=1401),), contact={"offered": 1400})), "healthy", 0, ()),
)


def shown(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    marks = {"error": str.upper, "warning": str.lower}
    return tuple(marks[f.severity](f.code) for f in findings if f.severity in marks)


@pytest.mark.parametrize("told", VERDICTS, ids=lambda t: t.name)
def test_verdict(told: Told) -> None:
    report = diagnose.report(told.run)
    assert (report.verdict, diagnose.exit_status(report)) == (told.verdict, told.exit)
    assert shown(report.findings) == told.codes
    assert report.why_unknown == told.why


def test_causes_are_tied_to_what_they_explain() -> None:
    report = diagnose.report(case(VXLAN, probe(reverse=(hole(1450),))))
    by_code = {f.code: f for f in report.findings}
    assert by_code["MTU101"].because == ("MTU104", "MTU103")
    assert by_code["MTU104"].explains == ("MTU101",)
    assert by_code["MTU103"].explains == ("MTU101",)


def finding(code: str, severity: Any = "warning", **facts: Any) -> Finding:
    return found(code, severity, "confirmed", View.of(case(BLIND)).source_point, facts, line("probe:1", "connected"))


def test_a_cause_of_the_other_direction_is_not_tied() -> None:
    symptom, cause = diagnose.link(
        (finding("MTU101", "error", direction="inbound"), finding("MTU107", direction="outbound"))
    )
    assert (symptom.because, cause.explains) == ((), ())


def test_an_error_is_no_cause() -> None:
    symptom, other = diagnose.link((finding("RST202", "error"), finding("FLT401", "error")))
    assert (symptom.because, other.explains) == ((), ())


def test_order_is_errors_then_what_fails_then_causes() -> None:
    codes = ["SYS903", "MTU103", "APP803", "MTU106", "NET151", "MTU119"]
    given = [finding(c) for c in codes] + [
        finding("FLT401", "error"),
        finding("MTU102", "error"),
        finding("SYS901", "info"),
    ]
    assert [f.code for f in diagnose.arrange(given)] == [
        "MTU102", "FLT401", "MTU119", "NET151", "MTU106", "APP803", "MTU103", "SYS903", "SYS901",
    ]  # fmt: skip


def test_a_rule_that_crashes_is_a_finding_and_the_others_still_run() -> None:
    def bad(view: View) -> tuple[Finding, ...]:
        raise ZeroDivisionError("of course")

    from pathfit.rules import RULES

    findings = diagnose.run(View.of(case(BLIND, probe(reverse=(hole(),)))), (Rule("MTU118", bad), *RULES))
    assert {"MTU101", "MTU103", "SYS902"} <= {f.code for f in findings}
    crashed = next(f for f in findings if f.code == "SYS902")
    assert crashed.facts["rule"] == "MTU118" and "ZeroDivisionError" in str(crashed.facts["error"])


def test_the_first_fix_is_the_route_and_clears_every_known_limit() -> None:
    text = NARROW.replace("1420", "1400")
    report = diagnose.report(case(text, probe(reverse=(hole(1450),))))
    fixes = report.findings[0].fixes
    assert [f.id for f in fixes] == ["route-mtu", "link-mtu", "mss-clamp"]
    assert fixes[0].effective == 1400, "min(measured 1450, the uplink's 1400)"


def test_what_was_tried_stands_beside_the_fix() -> None:
    trial = TrialFact(ref="trial", size=1420, ok=True, tls="ok", body=5000)
    report = diagnose.report(case(BLIND, probe(reverse=(hole(),)), trial))
    fix = report.findings[0].fixes[0]
    assert fix.proof == "TLS and 5000 bytes of body with MSS 1380 from the same namespace"
    other = TrialFact(ref="trial", size=1280, ok=True, tls="ok")
    assert diagnose.report(case(BLIND, probe(reverse=(hole(),)), other)).findings[0].fixes[0].proof is None


def test_report_carries_what_was_measured_and_missing() -> None:
    missing = Missing(what="netns of pid 7", why="EPERM", how="run as root", code="permission")
    second = probe(ref="probe:2", contact={"address": "198.18.3.9", "tcp": "timeout"})
    report = diagnose.report(case(BLIND, second, probe(), missing))
    assert [m.contact.address for m in report.measured] == [ADDRESS, "198.18.3.9"], "the one that answers first"
    assert missing in report.missing
    assert report.source_label == "c" and report.target_label == ADDRESS


def test_a_finding_keeps_its_id_from_run_to_run() -> None:
    one = diagnose.report(case(BLIND, probe(reverse=(hole(1420),))))
    two = diagnose.report(case(BLIND, probe(reverse=(hole(1430),))))
    assert one.findings[0].id == two.findings[0].id


def test_an_unknown_verdict_never_ends_without_a_line_to_type() -> None:
    said = diagnose.report(case(BLIND))
    assert said.verdict == "unknown"
    assert any(m.how for m in said.missing)
