"""Every embedded scenario, open and blind: build, prove with curl, ask pathfit, prove again, judge, replay, remove.

``python tests/scenarios/run.py [SCENARIO...]`` prints one line each and its minutes at the end; pytest uses the same
:func:`examine` (test_scenarios.py). Every run has a lab of its own; nothing is reused between open and blind.

* *truth* - what the scenario says of itself, by curl, before and directly after the question: a diagnosis must
  neither heal nor hurt the patient;
* *judge* - :mod:`pathfit.lab.judge` on the JSON, the exit status and the time;
* *replay* - the case folder saved by that very run must give the same report, byte for byte.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Literal

import msgspec

from pathfit import survey
from pathfit.lab import Lab, Scenario, load, scenarios
from pathfit.lab.judge import judge
from pathfit.observe.kernel import read_host

Mode = Literal["open", "blind"]
MODES: tuple[Mode, ...] = ("open", "blind")
PATHFIT = Path(sys.executable).with_name("pathfit")
MOST_SECONDS = 60.0  # for one command; its own --timeout ends it long before
JOBS = 6  # labs side by side: a run mostly waits for connections that must not come to an end
FORWARDING, BLOCKING = 3, 4  # BR_STATE_*; the others last a moment only
ONE_READER = Lock()  # pathfit reads a machine in one thread
SLACK = 2.5  # times the time a scenario allows, when labs side by side share two cores


@dataclass(kw_only=True)
class Result:
    """One run. ``wrong`` is empty when everything was as it should be."""

    name: str
    mode: Mode
    wrong: list[str] = field(default_factory=list)
    ms: float = 0.0  # of the diagnosis, whole command
    verdict: str = "-"
    codes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of everything
    report: bytes = b""
    scanned: list[str] = field(default_factory=list)  # what state alone says of the lab: "error MTU105"
    skipped: str = ""  # why this machine cannot build the lab

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.name} {self.mode}: skipped ({self.skipped})"
        word = "WRONG " + "; ".join(self.wrong) if self.wrong else "right"
        return f"{self.name} {self.mode}: {word} ({self.ms:.0f} ms, {self.verdict} {self.codes}, {self.seconds:.1f} s)"


def runs(names: Iterable[str] = (), modes: Iterable[Mode] = MODES) -> Iterator[tuple[Scenario, Mode]]:
    """All (scenario, mode) pairs, in order; a scenario that shows nothing is not asked blind."""
    wanted = tuple(modes)
    for name in tuple(names) or scenarios():
        scenario = load(name)
        for mode in wanted:
            if mode == "open" or scenario.sees:
                yield scenario, mode


def cannot(scenario: Scenario) -> str:
    """What this machine does not let us build, an ordinary user's namespaces for instance; empty: nothing."""
    lines = [f for f in scenario.faults if f.iptables or f.ip6tables or f.iptables_legacy]
    tools = {"curl", "nft", *(["iptables", "ip6tables"] if lines else [])}
    tools |= {"iptables-legacy"} if any(f.iptables_legacy for f in scenario.faults) else set()
    sbin = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if missing := sorted(t for t in tools if shutil.which(t, path=sbin) is None):
        return f"{', '.join(missing)} not installed"
    hosts = scenario.hosts.values() if isinstance(scenario.hosts, dict) else ()
    named = [h for h in (*hosts, *scenario.containers.values()) if h and (h.names or h.resolv)]
    if named and not any(os.access(d, os.W_OK) for d in ("/etc/netns", "/etc")):
        return "names of a lab need a writable /etc/netns"
    taps = [c for c in scenario.cables if any(x is not None for x in (c.rtt, c.loss, c.carries, c.carries_b))]
    if taps and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "delayed cables need /dev/net/tun"
    return ""


def examine(
    scenario: Scenario, mode: Mode, *, truth_only: bool = False, keep: Path | None = None, slack: float = 1.0
) -> Result:
    """One run in a fresh lab. ``keep``: folder that receives report, standard error and case folder."""
    result = Result(name=scenario.name, mode=mode, skipped=cannot(scenario))
    if result.skipped:
        return result
    begun = time.monotonic()
    try:
        with Lab.up(scenario) as lab, TemporaryDirectory(prefix="pathfit-run-") as scratch:
            folder = (keep / f"{scenario.name}-{mode}") if keep else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            if mode == "open":
                result.scanned = _scan(lab)  # before anybody has learned a path MTU
            result.wrong = [f"the lab does not fail as meant: {w}" for w in lab.truth()]
            if not result.wrong and not truth_only:
                lab.fresh()
                with lab.busy():
                    _ask(lab, result, folder, slack)
                result.wrong += [f"asking changed it: {w}" for w in lab.truth(after=True)]
    except Exception as e:  # one broken scenario must not hide the others
        result.wrong.append(f"{type(e).__name__}: {e}")
    result.seconds = time.monotonic() - begun
    return result


def _ask(lab: Lab, result: Result, folder: Path, slack: float) -> None:
    scenario = lab.scenario
    blind = result.mode == "blind"
    case = folder / "case"
    words = ["diagnose", "--from", lab.where(scenario.ask.source), "--to", lab.target(), *scenario.ask.options]
    argv = [str(PATHFIT), *words, "--json", "--save", str(case)]
    begun = time.monotonic()
    done = _run(lab.blind_command(argv) if blind else argv, folder)
    result.ms = (time.monotonic() - begun) * 1000
    result.report = done.stdout
    (folder / "report.json").write_bytes(done.stdout)
    (folder / "stderr.txt").write_bytes(done.stderr)
    result.wrong += judge(scenario.expected(blind=blind), done.stdout, done.returncode, result.ms / slack)
    try:
        report = msgspec.json.decode(done.stdout)
        result.verdict, result.codes = report["verdict"], [f["code"] for f in report["findings"]]
    except (msgspec.DecodeError, KeyError, TypeError):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-2:]
        result.wrong.append(f"stderr: {' | '.join(tail)}")
        return
    again = _run([str(PATHFIT), "replay", str(case), "--json"], folder)
    if again.stdout != done.stdout or again.returncode != done.returncode:
        (folder / "replayed.json").write_bytes(again.stdout)
        result.wrong.append(f"the saved case replays differently (exit {again.returncode})")


def _scan(lab: Lab) -> list[str]:
    """Errors and warnings of a scan that sees this lab alone (others stand beside it), once its bridges pass frames."""
    end = time.monotonic() + MOST_SECONDS
    while True:
        with ONE_READER:
            host = read_host(None, "all", "survey")
        mine = tuple(n for n in host.namespaces if n.where.startswith(f"netns:{lab.prefix}-"))
        ports = [x.bridge_port for n in mine for x in n.links if x.bridge_port and x.up and x.carrier]
        if all(p.state in (FORWARDING, BLOCKING) for p in ports) or time.monotonic() > end:
            break
    found = survey.judge(msgspec.structs.replace(host, namespaces=mine)).findings
    return sorted({f"{f.severity} {f.code}" for f in found if f.severity != "info"})


def _run(argv: list[str], state: Path) -> subprocess.CompletedProcess[bytes]:
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= {"PATHFIT_STATE": str(state / "state"), "LANG": "C.UTF-8"}
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=MOST_SECONDS, env=env, check=False
        )
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(argv, -1, e.stdout or b"", f"no end after {MOST_SECONDS} s".encode())


def examine_all(
    todo: Iterable[tuple[Scenario, Mode]], *, jobs: int = JOBS, truth_only: bool = False, keep: Path | None = None
) -> Iterator[Result]:
    """Results in the order of ``todo``, several labs side by side."""
    with ThreadPoolExecutor(jobs) as pool:
        slack = SLACK if jobs > 1 else 1.0
        waiting = [pool.submit(examine, s, m, truth_only=truth_only, keep=keep, slack=slack) for s, m in todo]
        try:
            for future in waiting:
                yield future.result()
        finally:
            cancel(waiting)


def cancel(futures: Iterable[Future[Result]]) -> None:
    """What has not begun does not begin; what runs removes its lab itself."""
    for future in futures:
        future.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scenario", nargs="*", help="default: all")
    parser.add_argument("--mode", choices=MODES, action="append", help="default: both")
    parser.add_argument("--truth-only", action="store_true", help="only check that every lab fails as meant")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"labs side by side (default {JOBS})")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep report, stderr and case folder of every run")
    o = parser.parse_args()
    modes: tuple[Mode, ...] = ("open",) if o.truth_only else tuple(o.mode or MODES)
    begun = time.monotonic()
    right = wrong = skipped = 0
    for result in examine_all(runs(o.scenario, modes), jobs=o.jobs, truth_only=o.truth_only, keep=o.save):
        print(result, flush=True)
        wrong += bool(result.wrong)
        skipped += bool(result.skipped)
        right += not result.wrong and not result.skipped
    print(f"scenarios: {right} right, {wrong} wrong, {skipped} skipped, {(time.monotonic() - begun) / 60:.1f} min")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
