"""What makes a report right."""

from typing import Any

import pytest

from pathfit.lab.judge import judge
from pathfit.lab.scenario import Expect


def report(**changes: Any) -> dict[str, Any]:
    finding = {
        "code": "MTU101",
        "severity": "error",
        "confidence": "confirmed",
        "fixes": [{"effective": 1400}],
        "facts": {"rule": "egress-policy-7"},
    }
    return {
        "verdict": "broken",
        "findings": [finding],
        "measured": {"forward": {"pass": 1500}, "reverse": {"pass": 1450}},
        **changes,
    }


TABLE = [
    ({}, report(), 1, []),
    ({"verdict": ("healthy",)}, report(), 1, ["verdict broken, want healthy"]),
    ({}, report(), 0, ["exit 0 for broken with errors ['MTU101']"]),
    ({}, report(verdict="unknown"), 3, []),
    ({}, report(verdict="unknown"), 1, ["exit 1 for unknown with errors ['MTU101']"]),
    ({"ms": 10}, report(), 1, ["50 ms, at most 10"]),
    ({"any": ("APP801", "MTU101")}, report(), 1, []),
    ({"any": ("APP801",)}, report(), 1, ["none of ['APP801'] in ['MTU101']"]),
    ({"first": ("MTU102",)}, report(), 1, ["first is ['MTU101'], want ['MTU102']"]),
    ({"none": ("MTU",)}, report(), 1, ["false MTU in ['MTU101']"]),
    ({"none": ("FLT",)}, report(), 1, []),
    ({"noerrors": True}, report(), 1, ["false alarm ['MTU101']"]),
    ({"rev": (1450, 1450), "fwd": (1500, 1500)}, report(), 1, []),
    ({"rev": (1400, 1400)}, report(), 1, ["reverse pass 1450, want [1400, 1400]"]),
    ({"fwd": (1400, 1400)}, report(measured={}), 1, ["forward pass None, want [1400, 1400]"]),
    ({"fix": (1392, 1400)}, report(), 1, []),
    ({"fix": (1300, 1399)}, report(), 1, ["effective MTU of the first fix [1400], want [1300, 1399]"]),
    ({"confirmed": True}, report(), 1, []),
    ({"confirmed": True, "any": ("APP801",)}, report(), 1, ["none of", "not confirmed"]),
    ({"says": "egress-policy-[0-9]"}, report(), 1, []),
    ({"says": "corp"}, report(), 1, ["never says corp"]),
    ({}, "no json", 2, ["no report"]),
    ({}, "[]", 2, ["no report"]),
]


@pytest.mark.parametrize(("expect", "said", "rc", "wrong"), TABLE)
def test_judge(expect: dict[str, Any], said: Any, rc: int, wrong: list[str]) -> None:
    got = judge(Expect(**expect), said, rc, 50)
    assert len(got) == len(wrong)
    assert all(g.startswith(w) for g, w in zip(got, wrong, strict=True)), got


@pytest.mark.parametrize(
    ("code", "complaint", "outcome"),
    [
        (7, "* connect to 192.0.2.1 port 8443 failed: Connection refused\ncurl: (7) Failed to connect", "refused"),
        (7, "* connect to 192.0.2.1 port 8443 failed: Connection reset by peer\ncurl: (7) Failed", "reset"),
        (7, "* connect to 192.0.2.1 port 8443 failed: No route to host\ncurl: (7) Failed", "unreachable"),
        (56, "curl: (56) Recv failure: Connection reset by peer", "reset"),
        (28, "curl: (28) Operation timed out", "hang"),
    ],
)
def test_curls_exit_status_in_our_words(code: int, complaint: str, outcome: str) -> None:
    from pathfit.lab.lab import _outcome

    assert _outcome(code, "000", complaint)[0] == outcome
