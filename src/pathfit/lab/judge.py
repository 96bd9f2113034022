"""Is this report right? The same questions for every scenario; every answer is one short English complaint."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pathfit.lab.scenario import Expect


def judge(expect: Expect, report: Mapping[str, Any] | str | bytes, rc: int, ms: float) -> list[str]:
    """Complaints about a report (``pathfit.report/1``, decoded or as text); empty when it is right.

    ``rc`` exit status of the command, ``ms`` milliseconds it took.
    """
    if not isinstance(report, Mapping):
        try:
            decoded = json.loads(report)
        except ValueError as e:
            return [f"no report ({e}; exit {rc}, {ms:.0f} ms)"]
        if not isinstance(decoded, dict):
            return [f"no report (exit {rc}, {ms:.0f} ms)"]
        report = decoded
    findings: list[Mapping[str, Any]] = report.get("findings", [])
    return [
        *_verdict(expect, report.get("verdict"), findings, rc, ms),
        *_codes(expect, findings),
        *_numbers(expect, report, findings),
        *_confirmed(expect, report, findings),
    ]


def _errors(findings: list[Mapping[str, Any]]) -> list[str]:
    return [f["code"] for f in findings if f["severity"] == "error"]


def _verdict(expect: Expect, verdict: str | None, findings: list[Mapping[str, Any]], rc: int, ms: float) -> list[str]:
    wrong = []
    errors = _errors(findings)
    if expect.verdict and verdict not in expect.verdict:
        wrong.append(f"verdict {verdict}, want {' or '.join(expect.verdict)}")
    if rc != (3 if verdict == "unknown" else 1 if errors else 0):
        wrong.append(f"exit {rc} for {verdict} with errors {errors}")
    if ms > expect.ms:
        wrong.append(f"{ms:.0f} ms, at most {expect.ms}")
    return wrong


def _codes(expect: Expect, findings: list[Mapping[str, Any]]) -> list[str]:
    wrong = []
    codes, errors = [f["code"] for f in findings], _errors(findings)
    if expect.any and not any(c in expect.any for c in codes):
        wrong.append(f"none of {list(expect.any)} in {codes}")
    if expect.first and (not codes or codes[0] not in expect.first):
        wrong.append(f"first is {codes[:1]}, want {list(expect.first)}")
    wrong += [f"false {n} in {errors}" for n in expect.none if any(c.startswith(n) for c in errors)]
    if expect.noerrors and errors:
        wrong.append(f"false alarm {errors}")
    return wrong


def _numbers(expect: Expect, report: Mapping[str, Any], findings: list[Mapping[str, Any]]) -> list[str]:
    wrong = []
    measured = report.get("measured") or {}
    for wanted, direction in ((expect.fwd, "forward"), (expect.rev, "reverse")):
        if wanted is not None:
            got = (measured.get(direction) or {}).get("pass")
            if got is None or not wanted[0] <= got <= wanted[1]:
                wrong.append(f"{direction} pass {got}, want {list(wanted)}")
    if expect.fix is not None:
        effective = [fix.get("effective") for f in findings[:1] for fix in f.get("fixes", [])[:1]]
        if not effective or effective[0] is None or not expect.fix[0] <= effective[0] <= expect.fix[1]:
            wrong.append(f"effective MTU of the first fix {effective}, want {list(expect.fix)}")
    return wrong


def _confirmed(expect: Expect, report: Mapping[str, Any], findings: list[Mapping[str, Any]]) -> list[str]:
    wrong = []
    hits = [f for f in findings if not expect.any or f["code"] in expect.any]
    if expect.confirmed and not any(f.get("confidence") == "confirmed" for f in hits):
        wrong.append("not confirmed")
    if expect.says is not None and not re.search(expect.says, json.dumps(report, ensure_ascii=False)):
        wrong.append(f"never says {expect.says}")
    return wrong
