"""Every scenario that has a repair on this machine: fault, repaired, works, undone, fault, and nothing else changed.

``python tests/scenarios/cure.py [SCENARIO...]`` prints one line each; pytest takes a sample in `make test` and all of
them in `make bench-cure` (test_cure.py). One run:

* the scenario's *truth* by curl; the configuration of every namespace (tests/accept/state.py, plain iproute2);
* ``pathfit fix --yes``: what is said, and its exit status;
* repaired: the asked URL comes, and 200 kB down and up where the service is one that gives and takes them;
* ``pathfit fix --undo last``: the fault is back as it was, and every namespace equal. A scenario without a repair must
  be left as it is as well.
"""

import argparse
import difflib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import msgspec
import run

sys.path.append(str(Path(__file__).parents[1] / "unit"))  # as pytest has it (pyproject.toml)
from netlab import settled

from pathfit.lab import Lab, Scenario, load, scenarios

MOST_LINES = 24  # of a difference
BODY = 200_000  # bytes down and up
PATIENCE = 8.0  # seconds for them


@dataclass(kw_only=True)
class Cured:
    """One run. ``wrong`` is empty when everything was as it should be."""

    name: str
    mode: run.Mode
    wrong: list[str] = field(default_factory=list)
    outcome: str = "-"
    fix: str = "-"
    code: int = -1
    ms: float = 0.0  # of `pathfit fix`, whole command
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.name} {self.mode}: skipped ({self.skipped})"
        word = "WRONG " + "; ".join(self.wrong) if self.wrong else "right"
        return f"{self.name} {self.mode}: {word} ({self.outcome} {self.fix}, exit {self.code}, {self.ms:.0f} ms)"


def runs(names: Iterable[str] = (), modes: Iterable[run.Mode] = run.MODES) -> Iterator[tuple[Scenario, run.Mode]]:
    """Scenarios that are broken, and those whose report must hold a repair."""
    wanted = tuple(modes)
    for name in tuple(names) or scenarios():
        scenario = load(name)
        if not names and not (has_repair(scenario) or scenario.expect.verdict == ("broken",)):
            continue
        for mode in wanted:
            if mode == "open" or scenario.sees:
                yield scenario, mode


def has_repair(scenario: Scenario) -> bool:
    return scenario.expect.fix is not None


def cure(scenario: Scenario, mode: run.Mode, use: str = "") -> Cured:
    """One run in a fresh lab. ``use``: that repair instead of the first; a report without it is right."""
    result = Cured(name=scenario.name, mode=mode, skipped=run.cannot(scenario))
    if result.skipped:
        return result
    try:
        with Lab.up(scenario) as lab, TemporaryDirectory(prefix="pathfit-cure-") as scratch:
            result.wrong = [f"the lab does not fail as meant: {w}" for w in lab.truth()]
            if not result.wrong:
                _cure(lab, result, Path(scratch), ["--use", use] if use else [])
    except Exception as e:  # one broken scenario must not hide the others
        result.wrong.append(f"{type(e).__name__}: {e}")
    return result


def _cure(lab: Lab, result: Cured, scratch: Path, use: list[str]) -> None:
    lab.fresh()
    before = state(lab)
    begun = time.monotonic()
    with lab.busy():
        done = _pathfit(lab, result, scratch, "fix", *_asked(lab), "--yes", "--json", *use)
    result.ms = (time.monotonic() - begun) * 1000
    if use and done.returncode == 2:
        result.outcome, result.code = "not offered", 2
        return
    try:
        said = msgspec.json.decode(done.stdout)
    except msgspec.DecodeError:
        result.wrong.append(f"no JSON: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return
    result.outcome, result.code, result.fix = said["outcome"], done.returncode, (said["fix"] or {}).get("id", "-")
    repaired = said["outcome"] == "repaired"
    if repaired != (done.returncode == 0 and said["outcome"] != "nothing"):
        result.wrong.append(f"exit {done.returncode} for {said['outcome']}: {said['reasons']}")
    fixes = [x for f in said["before"]["findings"][:1] for x in f["fixes"] if x["applicability"] == "safe"]
    if fixes and not use and said["before"]["verdict"] == "broken" and not repaired:
        result.wrong.append(f"not repaired: {said['reasons']}")
    if repaired:
        lab.fresh()
        result.wrong += works(lab)
        undone = _pathfit(lab, result, scratch, "fix", "--undo", "last")
        if undone.returncode:
            result.wrong.append(f"undo failed: {undone.stdout.decode()[-300:]}{undone.stderr.decode()[-300:]}")
    lab.fresh()
    result.wrong += different(before, state(lab))
    result.wrong += [f"afterwards: {w}" for w in lab.truth(after=True)]


def works(lab: Lab) -> list[str]:
    """What does not work now: the asked URL, a large body down and up."""
    url = lab.target()  # with the address that was asked: names stand for IPv4 where a lab has both
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return []
    source = lab.scenario.ask.source.partition(".")[0]
    base = f"{parts.scheme}://{parts.netloc}"
    todo = [(url, 0)]
    if all(s.behave == "answer" for s in lab.scenario.services):
        todo += [(f"{base}/{BODY}", 0), (f"{base}/", BODY)]
    wrong = []
    for one, send in todo:
        outcome, status = lab.fetch(source, one, PATIENCE, send)
        if outcome != "ok":
            wrong.append(f"repaired, but {one} {'takes' if send else 'gives'} {outcome} ({status})")
    return wrong


def state(lab: Lab) -> str:
    """The configuration of every namespace of the lab."""
    return settled(f"{lab.prefix}-")


def different(before: str, after: str) -> list[str]:
    """The first lines that differ."""
    if before == after:
        return []
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=2, lineterm="")
    return ["undo left something: " + " ".join(x.strip() for x in itertools.islice(lines, 2, 2 + MOST_LINES))]


def _asked(lab: Lab) -> list[str]:
    ask = lab.scenario.ask
    return ["--from", lab.where(ask.source), "--to", lab.target(), *ask.options]


def _pathfit(lab: Lab, result: Cured, scratch: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    argv = [str(run.PATHFIT), *words]
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= {"PATHFIT_STATE": str(scratch / "state"), "LANG": "C.UTF-8"}
    whole = lab.blind_command(argv) if result.mode == "blind" else argv
    return subprocess.run(
        whole, stdin=subprocess.DEVNULL, capture_output=True, timeout=run.MOST_SECONDS * 2, env=env, check=False
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scenario", nargs="*", help="default: all that are broken or have a repair")
    parser.add_argument("--mode", choices=run.MODES, action="append", help="default: both")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--use", default="", metavar="ID", help="that repair instead of the first")
    o = parser.parse_args()
    todo = list(runs(o.scenario, tuple(o.mode or run.MODES)))
    wrong = cured = 0
    with ThreadPoolExecutor(o.jobs) as pool:
        for result in pool.map(lambda pair: cure(*pair, use=o.use), todo):
            print(result, flush=True)
            wrong += bool(result.wrong)
            cured += result.outcome == "repaired" and not result.wrong
    print(f"cures: {cured} repaired and undone, {wrong} wrong, of {len(todo)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
