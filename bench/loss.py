"""Holes under 3 % random loss each way at RTT ~ 0: how often is one invented, missed, or its byte wrong?

    python bench/loss.py [--runs 1000] [--seed 1] [--jobs 3] [--only SCENARIO]… [--save DIR]      (root)

Every run is one whole `pathfit diagnose`, asked blind (only the container's side exists for it), over one of the
scenarios below with the loss added at a router on the way. The order is drawn from the seed; which packets get lost
is the kernel's (nft numgen random). A lab is built once and asked many times: between two runs everything its hosts
have learnt (path MTUs, TCP metrics) is forgotten, and every connection has a new port.

* *false*: a hole is reported in a direction that has none;
* *missed*: the verdict is not "unknown" and a hole is not reported;
* *wrong*: the bracket of a reported hole does not contain the truth;
* *inexact*: it does, but is wider than one byte;
* *unknown*: pathfit says it cannot tell. Allowed, rarely.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from pathfit.lab import Lab, load
from pathfit.lab.scenario import Fault, Loss

PATHFIT = Path(sys.executable).with_name("pathfit")
PERCENT = 3.0
MOST_SECONDS = 60.0  # for one command; its own --timeout ends it long before
BAD = ("false", "missed", "wrong")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A scenario and the truth about it: the largest packet that passes a hole inbound/outbound, None = no hole.

    ``at``: the host that loses packets.
    """

    name: str
    inbound: int | None = None
    outbound: int | None = None
    at: str = "r"


SUBJECTS = (
    Subject(name="article-000", inbound=1450),
    Subject(name="uplink-1420-untold", inbound=1420),
    Subject(name="two-limits", inbound=1410),
    Subject(name="limit-576", inbound=576),
    Subject(name="jumbo-one-byte-short", inbound=8999),
    Subject(name="inbound-only", inbound=1400),
    Subject(name="silent-way-back-only", inbound=1400, at="h"),
    Subject(name="silent-switch-far-away", inbound=1400, outbound=1400),
    Subject(name="silent-veth-half", inbound=1404, outbound=1404),
    Subject(name="both-ways-different", inbound=1400, outbound=1450),
    Subject(name="source-drops-too-big", outbound=1400),
    Subject(name="upload-too-big-dropped-at-host", outbound=1400),
    Subject(name="vxlan-routed-fragments-dropped", inbound=1450, outbound=1450, at="g"),
    Subject(name="small-certificate-large-page", inbound=1412),
    Subject(name="header-and-body-apart", inbound=1460),
    Subject(name="v6-too-big-filtered-at-server", inbound=1400),
    Subject(name="v6-silent-switch-at-minimum", inbound=1280, outbound=1280),
    Subject(name="clamp-on-syn-ack-only", inbound=1400),
    Subject(name="clamp-on-syn-only", outbound=1400),
    Subject(name="healthy"),
    Subject(name="healthy-custom-mtu"),
    Subject(name="healthy-jumbo"),
    Subject(name="healthy-container-below-uplink"),
    Subject(name="healthy-route-mtu"),
    Subject(name="healthy-clamp-constant"),
    Subject(name="healthy-clamp-to-path"),
    Subject(name="clamp-masks-silent-limit"),
    Subject(name="v6-clamp"),
    Subject(name="healthy-server-below-us"),
    Subject(name="healthy-syn-cookies"),
    Subject(name="healthy-small-certificate"),
    Subject(name="pmtud-works"),
    Subject(name="v6-healthy"),
)


@dataclass(kw_only=True)
class Run:
    """One diagnosis: ``outcome`` is one of right, false, missed, wrong, inexact, unknown, or "no report"."""

    number: int
    name: str
    outcome: str
    detail: str
    seconds: float
    case: Path | None = None


@dataclass(kw_only=True)
class Tally:
    """All runs of a series."""

    seed: int
    runs: list[Run] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return sum(r.outcome == outcome for r in self.runs)

    def lines(self) -> Iterator[str]:
        """A table by scenario, every run that was not right, and the sum."""
        outcomes = ("right", "false", "missed", "wrong", "inexact", "unknown", "no report")
        yield f"{'scenario':34}" + "".join(f"{o:>10}" for o in outcomes) + f"{'median s':>10}{'worst s':>9}"
        for name in dict.fromkeys(s.name for s in SUBJECTS):
            mine = [r for r in self.runs if r.name == name]
            if mine:
                counts = Counter(r.outcome for r in mine)
                yield f"{name:34}" + "".join(f"{counts[o] or '-':>10}" for o in outcomes) + _times(mine)
        yield f"{'all':34}" + "".join(f"{self.count(o) or '-':>10}" for o in outcomes) + _times(self.runs)
        for r in self.runs:
            if r.outcome != "right":
                yield f"run {r.number}: {r.name}: {r.outcome}: {r.detail}" + (f" ({r.case})" if r.case else "")
        holes = sum(bool(s.inbound or s.outbound) for r in self.runs for s in SUBJECTS if s.name == r.name)
        yield (
            f"{len(self.runs)} runs ({holes} with a hole) at {PERCENT:g} % loss each way, seed {self.seed}: "
            f"{self.count('false')} false, {self.count('missed')} missed, {self.count('wrong')} wrong bytes, "
            f"{self.count('inexact')} inexact, {self.count('unknown')} unknown, {self.count('no report')} no report"
        )


def _times(runs: list[Run]) -> str:
    seconds = [r.seconds for r in runs] or [0.0]
    return f"{statistics.median(seconds):>10.2f}{max(seconds):>9.2f}"


def outcome(subject: Subject, report: dict[str, Any]) -> tuple[str, str]:
    """What a report is worth, worst first, and why."""
    if report["verdict"] == "unknown":
        return "unknown", str([f["code"] for f in report["findings"]])
    codes = {f["code"] for f in report["findings"]}
    worst, detail = "right", ""
    for direction, code, limit in (("reverse", "MTU101", subject.inbound), ("forward", "MTU102", subject.outbound)):
        measured = (report.get("measured") or {}).get(direction) or {}
        passes, fails = measured.get("pass"), measured.get("fail")
        said = f"{code} {'reported' if code in codes else 'not reported'}, {direction} {passes}/{fails}, truth {limit}"
        if limit is None and code in codes:
            return "false", said
        if limit is not None and code not in codes:
            return "missed", f"{said}, {report['verdict']} {sorted(codes)}"
        if limit is None:
            continue
        if not ((passes is None or passes <= limit) and (fails is None or fails > limit)):
            worst, detail = "wrong", said
        elif worst == "right" and (passes, fails) != (limit, limit + 1):
            worst, detail = "inexact", said
    if worst == "right" and "MTU118" in codes:
        return "false", f"MTU118 {sorted(codes)}"
    return worst, detail


class Bench:
    """The labs of all subjects, up; each is asked by one run at a time."""

    def __init__(self, stack: ExitStack, subjects: tuple[Subject, ...] = SUBJECTS, keep: Path | None = None) -> None:
        self.keep = keep
        self.labs: dict[str, Lab] = {}
        self.locks = {s.name: threading.Lock() for s in subjects}
        for subject in subjects:
            scenario = load(subject.name)
            loss = Fault(loss=Loss(host=subject.at, percent=PERCENT))
            lab = Lab.up(replace(scenario, faults=(*scenario.faults, loss)))
            stack.callback(lab.down)
            self.labs[subject.name] = lab

    def untrue(self) -> list[str]:
        """Labs that do not behave as their scenario says, with the loss added."""
        with ThreadPoolExecutor(4) as pool:
            said = pool.map(lambda item: (item[0], item[1].truth()), self.labs.items())
            return [f"{name}: {complaint}" for name, complaints in said for complaint in complaints]

    def run(self, number: int, subject: Subject) -> Run:
        lab = self.labs[subject.name]
        ask = lab.scenario.ask
        argv = [str(PATHFIT), "diagnose", "--from", lab.where(ask.source), "--to", lab.target(), "--json", *ask.options]
        case = self.keep / f"{number:04d}-{subject.name}" if self.keep else None
        argv += ["--save", str(case)] if case else []
        with self.locks[subject.name]:
            lab.fresh()
            begun = time.monotonic()
            try:
                done = subprocess.run(
                    lab.blind_command(argv),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=MOST_SECONDS,
                    check=False,
                )
                report: dict[str, Any] = msgspec.json.decode(done.stdout)
                what, why = outcome(subject, report)
            except (subprocess.TimeoutExpired, msgspec.DecodeError, KeyError) as e:
                what, why = "no report", f"{type(e).__name__} {e}"
            seconds = time.monotonic() - begun
        return Run(number=number, name=subject.name, outcome=what, detail=why, seconds=seconds, case=case)


def order(runs: int, seed: int, subjects: tuple[Subject, ...] = SUBJECTS) -> list[Subject]:
    """``runs`` subjects: as many complete shuffled rounds as fit, and a part of one more."""
    random = Random(seed)
    drawn: list[Subject] = []
    while len(drawn) < runs:
        drawn += random.sample(subjects, len(subjects))
    return drawn[:runs]


def series(
    runs: int,
    seed: int,
    *,
    jobs: int = 3,
    keep: Path | None = None,
    talk: bool = False,
    subjects: tuple[Subject, ...] = SUBJECTS,
) -> Tally:
    """Builds the labs, asks, removes the labs. Raises RuntimeError when a lab is not what it should be."""
    tally = Tally(seed=seed)
    todo = order(runs, seed, subjects)
    used = tuple(s for s in SUBJECTS if s in todo)
    with ExitStack() as stack:
        bench = Bench(stack, used, keep)
        if untrue := bench.untrue():
            raise RuntimeError(f"labs do not behave as meant: {'; '.join(untrue)}")
        with ThreadPoolExecutor(jobs) as pool:
            for run in pool.map(bench.run, range(1, runs + 1), todo):
                tally.runs.append(run)
                if talk and (run.outcome != "right" or run.number % 50 == 0):
                    print(f"{run.number}: {run.name}: {run.outcome} {run.detail}", file=sys.stderr, flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the order (default 1)")
    parser.add_argument("--jobs", type=int, default=3, help="labs asked at the same time (default 3)")
    parser.add_argument("--only", action="append", metavar="SCENARIO", help="of these alone (may be repeated)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the case folder of every run")
    o = parser.parse_args()
    begun = time.monotonic()
    if unknown := {*(o.only or ())} - {s.name for s in SUBJECTS}:
        parser.error(f"not among the scenarios: {', '.join(sorted(unknown))}")
    subjects = tuple(s for s in SUBJECTS if not o.only or s.name in o.only)
    tally = series(o.runs, o.seed, jobs=o.jobs, keep=o.save, talk=True, subjects=subjects)
    print(*tally.lines(), sep="\n")
    print(f"{(time.monotonic() - begun) / 60:.1f} min, {o.jobs} at a time")
    return 1 if any(tally.count(b) for b in (*BAD, "no report")) or tally.count("unknown") > o.runs / 100 else 0


if __name__ == "__main__":
    sys.exit(main())
