"""Targets that end the conversation at every place of it, and handshakes with an MSS nobody would send.

As in test_servers.py the path carries everything. Whoever ends it is named (an alert: APP802, a reset: RST201), what
had come before counts, and a size that was never tried is not called a hole.
"""

from collections.abc import Callable, Iterator

import phases
import pytest
from rig import side_by_side
from stage import PORT
from test_servers import BESIDE, DOWN, FINE, UNSURE, Case, Judged, ask, check, raw

SYN, SYNACK = "tcp dport {} tcp flags syn", "tcp sport {} tcp flags & (syn|ack) == (syn|ack)"
SIZES = {  # what becomes of the MSS option (nft(8): "size set" only ever lowers it)
    "mss-1": "tcp option maxseg size set 1",
    "mss-0": "tcp option maxseg size set 0",
    "mss-100": "tcp option maxseg size set 100",
    "mss-gone": "reset tcp option maxseg",
}


class Changed(Case):
    """A server that does nothing wrong, behind somebody who changes the MSS option of a SYN."""

    def __str__(self) -> str:
        assert self.rule is not None
        name = next(k for k, v in SIZES.items() if self.rule[2].endswith(v))
        return f"{name}-{'our-syn' if self.rule[0] == 'prerouting' else 'syn-ack'}-{self.scheme}"


def ended(kind: str, scheme: str, status: int, code: str = "") -> Case:
    return Case("phases.py", kind, scheme, frozenset({status}), frozenset(code.split()))


def changed(which: str, size: str, scheme: str) -> Case:
    hook = "prerouting" if which == SYN else "output"
    kind = "well-over-tls" if scheme == "https" else "well"
    rule = (hook, -150, f"{which.format(PORT)} {SIZES[size]}")
    return Changed("phases.py", kind, scheme, frozenset({FINE, UNSURE}), rule=rule)


CASES = [
    *(ended(f"alert-{place}", "https", FINE, "APP802") for place in phases.PLACES),
    ended("alert-behind-handshake", "https", FINE, "APP802"),
    ended("close-in-tls-page", "https", FINE, "APP802"),  # the lab's certificate
    *(ended(f"reset-{place}", "https", DOWN, "RST201") for place in phases.PLACES),
    *(ended(f"reset-{place}", "http", DOWN, "RST201") for place in ("behind-first-byte", "in-header", "behind-header")),
    ended("reset-in-page", "http", DOWN, "RST201"),
    ended("reset-in-tls-page", "https", DOWN, "RST201"),
    ended("silence-behind-first-byte", "http", FINE),
    ended("silence-in-page", "http", FINE),
    ended("well", "http", FINE),
    ended("well-over-tls", "https", FINE),
    *(changed(which, size, scheme) for which in (SYN, SYNACK) for size in SIZES for scheme in ("http", "https")),
    raw("window-0", "http", {UNSURE}),
    raw("window-closes", "https", {UNSURE}),
    raw("mss-1", "http", {UNSURE}),
    raw("mss-65535", "https", {UNSURE}),
]


@pytest.fixture(scope="module")
def judgements(request: pytest.FixtureRequest) -> Iterator[Callable[[Case], Judged]]:
    with side_by_side(request, ask, BESIDE) as result:
        yield result


@pytest.mark.lab
@pytest.mark.parametrize("case", CASES, ids=str)
def test_targets(case: Case, judgements: Callable[[Case], Judged]) -> None:
    check(case, judgements(case))


def test_every_place_is_tried() -> None:
    assert {c.kind for c in CASES if c.script == "phases.py"} == {*phases.KINDS}
