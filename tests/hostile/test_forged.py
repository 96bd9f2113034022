"""Forged "too big" while a diagnosis runs: every TCP segment that leaves is answered with one.

From *beside* the path (the forger cannot see what it would have to quote) a lie changes nothing: the same verdict to
the byte, nothing remembered. From *on* the path it can quote what was really sent. IPv6 sockets of ours do not learn;
over IPv4 the kernel believes it for any TCP connection there is (tcp_v4_err() does not look at the quoted size), the
asked client's included: then no verdict may be wrong, and what our kernel remembers is named.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from rig import Ended, pathfit, side_by_side
from stage import running

from pathfit.lab import Lab, load

BESIDE_PATH = ("port", "sequence", "address", "destination", "protocol", "echo", "short")
PORT = "8443"
BOUND = 8.0  # seconds
BESIDE = 3  # cases at a time


class Truth(NamedTuple):
    """What an honest diagnosis says: exit status, leading code, and what passes and fails out and in."""

    status: int
    code: str | None
    out: tuple[int, int | None]
    back: tuple[int, int | None]


TRUTHS = {
    "article-000": Truth(1, "MTU101", (1400, 1401), (1450, 1451)),
    "healthy": Truth(0, None, (1500, None), (1500, None)),
    "pmtud-works": Truth(0, "MTU106", (1412, 1413), (1412, 1413)),
    "v6-too-big-filtered-at-server": Truth(1, "MTU101", (1400, 1401), (1400, 1401)),
    "v6-healthy": Truth(0, None, (1500, None), (1500, None)),
}


class Case(NamedTuple):
    scenario: str
    lie: str
    mtu: int

    def __str__(self) -> str:
        return f"{self.scenario}-{self.lie}-{self.mtu}"


HARMLESS = [
    *(Case("article-000", lie, mtu) for lie in BESIDE_PATH for mtu in (1000,)),
    *(Case("article-000", "sequence", mtu) for mtu in (0, 68, 65535)),
    Case("article-000", "true", 65535),
    Case("healthy", "sequence", 68),
    Case("healthy", "true", 65535),
    Case("pmtud-works", "sequence", 1300),
    *(Case("v6-too-big-filtered-at-server", lie, 1300) for lie in ("port", "sequence", "short")),
    *(Case("v6-too-big-filtered-at-server", "true", mtu) for mtu in (0, 68, 1279, 1280, 1399, 65535)),
    *(Case("v6-healthy", "true", mtu) for mtu in (0, 1280, 1499)),
]
BELIEVED = [
    *(Case("article-000", "true", mtu) for mtu in (0, 68, 1000, 1449)),
    *(Case("healthy", "true", mtu) for mtu in (0, 68, 1499)),
]


class Run(NamedTuple):
    ended: Ended
    report: dict[str, Any]
    remembered: str  # path MTUs in the source's routing caches afterwards


def ask(case: Case) -> Run:
    with Lab.up(load(case.scenario)) as lab:
        router = lab.where("h").removeprefix("netns:")
        with running(router, "forger.py", case.lie, str(case.mtu), PORT):
            ended = pathfit("diagnose", "--from", lab.where("c"), "--to", lab.target(), "--json", seconds=BOUND)
        caches = [lab.run("c", ["ip", f"-{f}", "route", "show", "cache"]).stdout.decode() for f in (4, 6)]
    return Run(ended, json.loads(ended.out), "".join(caches))


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Callable[[Case], Run]]:
    with side_by_side(request, ask, BESIDE) as result:
        yield result


def said(case: Case, run: Run) -> str:
    m = run.report["measured"]
    codes = [f["code"] for f in run.report["findings"]]
    return f"{case}: {run.ended.status} {codes} out {m['forward']} in {m['reverse']} {run.remembered}"


def leading(report: dict[str, Any]) -> str | None:
    """The first finding that is about the path: the lab's certificate and the lies themselves are named as well."""
    codes = [f["code"] for f in report["findings"] if f["code"] not in ("APP802", "MTU107", "MTU103")]
    return codes[0] if codes else None


@pytest.mark.lab
@pytest.mark.parametrize("case", HARMLESS, ids=str)
def test_a_lie_that_changes_nothing(case: Case, runs: Callable[[Case], Run]) -> None:
    run, truth = runs(case), TRUTHS[case.scenario]
    out, back = (run.report["measured"][d] for d in ("forward", "reverse"))
    print(said(case, run))
    assert run.ended.status == truth.status, said(case, run)
    assert leading(run.report) == truth.code, said(case, run)
    assert (out["pass"], out["fail"]) == truth.out, said(case, run)
    # A sender that was told keeps small what we see: that a larger size fails can only be seen if it was slow to learn.
    learned = ((truth.back[0], None),) if truth.code == "MTU106" else ()
    assert (back["pass"], back["fail"]) in (truth.back, *learned), said(case, run)
    assert run.remembered == ""


@pytest.mark.lab
@pytest.mark.parametrize("case", BELIEVED, ids=str)
def test_a_lie_that_every_kernel_believes(case: Case, runs: Callable[[Case], Run]) -> None:
    """No hole that is not there, no hole called well, and what our kernel now believes is named."""
    run, truth = runs(case), TRUTHS[case.scenario]
    back = run.report["measured"]["reverse"]
    print(said(case, run))
    assert run.ended.status in ((1, 3) if truth.status else (3,)), said(case, run)
    if run.ended.status == 1:
        # Believed in the middle of the search, the lie splits it: what was opened before invites more than what comes
        # later, and nothing narrows it down any more (or some pass and some do not). The truth is never excluded.
        low, high = truth.back
        assert back["pass"] <= low and (back["fail"] is None or back["fail"] >= high), said(case, run)
    effects = run.report["measured"]["side_effects"]
    assert (run.remembered != "") == any(e["where"] == "here" for e in effects), said(case, run)
    assert "MTU107" in [f["code"] for f in run.report["findings"]], said(case, run)
