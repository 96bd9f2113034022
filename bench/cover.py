"""Every way a path can be wrong x what is asked x IPv4, IPv6 x round trip x loss x rights: how often is it right?

    python bench/cover.py [--runs 5] [--seed 1] [--jobs 3] [--pairs] [--only WORD]… [--file F] [--save DIR]      (root)

A cell (bench/cells.py) is a lab whose limits, addresses and pages are drawn from the seed. It is asked RUNS times, by
root as one whole `pathfit diagnose` that sees the container's side alone (both ends where the target is a namespace),
or as `pathfit probe` inside the container without any capability; between two runs everything its hosts have learnt is
forgotten. Every run is one line of the file, with seed and commit; what stands there already is not asked again, so an
interrupted series goes on. ``--only`` takes parts of a cell's name ("hole-in/", "/tcp/", "3%"); several must all be in
it. ``--pairs``: a pairwise cover.

* *false*: an error is reported that is none; *missed*: one is not, and the verdict is not "unknown";
* *wrong*: a bracket excludes the truth, the first finding or the verdict is another one, or there is none;
* *inexact*: a bracket is true, but wider than a byte or than the server's choice of sizes;
* *unknown*: pathfit says that it cannot tell, where it should: as its verdict, or of a direction with a hole.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import msgspec

import cells
from cells import Cell, Made, Want
from pathfit.lab import Lab
from pathfit.words.render import say

PATHFIT = Path(sys.executable).with_name("pathfit")
NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
MOST_SECONDS = 60.0  # for one command; its own --timeout ends it long before
OUTCOMES = ("right", "false", "missed", "wrong", "inexact", "unknown")
BAD = ("false", "missed", "wrong")
SAYS = {"MTU101": "reverse", "MTU102": "forward"}
UNPROVEN = say("unproven", {}, "en")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what its answer was worth."""

    cell: str
    fault: str
    loss: int
    seed: int
    number: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    commit: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return self.cell, self.seed, self.number


def outcome(want: Want, report: dict[str, Any]) -> tuple[str, str]:
    """What a report is worth, worst first, and why."""
    findings, verdict = report["findings"], report["verdict"]
    errors = [f["code"] for f in findings if f["severity"] == "error"]
    measured = report.get("measured") or {}
    ways = {d: measured.get(d) or {} for d in ("reverse", "forward")}
    said = ", ".join(f"{d} {w.get('pass')}/{w.get('fail')} {w.get('note') or ''}".strip() for d, w in ways.items())
    said = f"{verdict} {[f['code'] for f in findings]}, {said}; truth {want.errors}, {want.reverse}, {want.forward}"
    if any(e not in (*want.errors, *want.may) for e in errors):
        return "false", said
    if verdict == "unknown" and "unknown" not in want.verdicts:
        return "unknown", said
    if lacking := [e for e in want.errors if e not in errors]:
        open_end = all(e in SAYS and ways[SAYS[e]].get("note") == UNPROVEN for e in lacking)
        return ("unknown" if open_end else "missed"), said
    if lost := [c for c in want.also if c not in {f["code"] for f in findings}]:
        return "missed", f"{lost}: {said}"
    if verdict not in want.verdicts or (want.errors and findings[0]["code"] != want.errors[0]):
        return "wrong", said
    judged = {want.reverse.judge(ways["reverse"]), want.forward.judge(ways["forward"])}
    worst = next((o for o in ("wrong", "inexact") if o in judged), "right")
    return worst, "" if worst == "right" else said


def ask(made: Made, lab: Lab, keep: Path | None) -> tuple[str, str]:
    """One command, judged."""
    source = lab.where("c")
    url = f"{lab.where(made.to)}:{cells.PORTS['namespace']}" if made.cell.ours else lab.target()
    if made.cell.root:
        argv = [str(PATHFIT), "diagnose", "--from", source, "--to", url, "--json"]
    else:
        enter = ("nsenter", f"--net=/run/netns/{source.removeprefix('netns:')}", *NO_RIGHTS)
        argv = [*enter, str(PATHFIT), "probe", url, "--json"]
    argv += ["--save", str(keep)] if keep else []
    try:
        done = subprocess.run(
            argv if made.cell.ours else lab.blind_command(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "wrong", f"no end after {MOST_SECONDS} s"
    try:
        return outcome(made.want, msgspec.json.decode(done.stdout))
    except (msgspec.DecodeError, KeyError) as e:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-2:]
        return "wrong", f"no report: {type(e).__name__} {e}; {' | '.join(tail)}"


class Series:
    """Cells still to be asked, several labs at a time; finished runs go to ``file`` at once."""

    def __init__(self, *, runs: int, seed: int, file: Path | None = None, keep: Path | None = None) -> None:
        self.runs, self.seed, self.file, self.keep = runs, seed, file, keep
        self.commit = _commit()
        self.known = {r.key: r for r in read(file)} if file else {}
        self.lock = Lock()

    def missing(self, cell: Cell) -> list[int]:
        return [n for n in range(1, self.runs + 1) if (str(cell), self.seed, n) not in self.known]

    def lab(self, cell: Cell) -> list[Run]:
        """All missing runs of a cell in one lab."""
        todo = self.missing(cell)
        if not todo:
            return []
        made = cells.make(cell, self.seed)
        done = []
        with Lab.up(made.scenario) as lab:
            for number in todo:
                if done:
                    lab.fresh()
                folder = self.keep / f"{str(cell).replace('/', '_')}-{self.seed}-{number}" if self.keep else None
                begun = time.monotonic()
                what, why = ask(made, lab, folder)
                run = Run(
                    cell=str(cell),
                    fault=cell.fault,
                    loss=cell.loss,
                    seed=self.seed,
                    number=number,
                    outcome=what,
                    detail=why,
                    seconds=round(time.monotonic() - begun, 3),
                    commit=self.commit,
                )
                done.append(run)
                self._write(run)
        return done

    def _write(self, run: Run) -> None:
        if self.file is not None:
            with self.lock, self.file.open("ab") as f:
                f.write(msgspec.json.encode(run) + b"\n")

    def all(self, wanted: Iterable[Cell], jobs: int) -> Iterator[Run]:
        """In the order of ``wanted``; raises what building a lab raises."""
        with ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(self.lab, cell) for cell in wanted]
            try:
                for one in waiting:
                    yield from one.result()
            finally:
                for one in waiting:
                    one.cancel()


def read(file: Path) -> list[Run]:
    """The runs of a file; a line cut off by an interruption is left out."""
    runs = []
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            runs.append(msgspec.json.decode(line, type=Run))
        except msgspec.DecodeError:
            continue
    return runs


def table(runs: list[Run]) -> Iterator[str]:
    """By fault without loss and with, every run that was not right, and the sum."""
    yield f"{'fault':22}{'loss':>5}" + "".join(f"{o:>9}" for o in OUTCOMES) + f"{'median s':>10}{'worst s':>9}"
    for fault in dict.fromkeys((*cells.FAULTS, *(r.fault for r in runs))):
        for name, lossy in (("0", False), ("1,3%", True)):
            mine = [r for r in runs if r.fault == fault and bool(r.loss) == lossy]
            if mine:
                yield f"{fault:22}{name:>5}" + _counts(mine)
    for r in runs:
        if r.outcome != "right":
            yield f"{r.cell} seed {r.seed} run {r.number}: {r.outcome}: {r.detail}"
    for name, lossy in (("0", False), ("1,3%", True)):
        yield f"{'all':22}{name:>5}" + _counts([r for r in runs if bool(r.loss) == lossy])
    seeds = ", ".join(map(str, sorted({r.seed for r in runs})))
    yield f"{len(runs)} runs of {len({r.cell for r in runs})} cells of {len(list(cells.every()))}, seeds {seeds}"


def _counts(runs: list[Run]) -> str:
    counts = Counter(r.outcome for r in runs)
    seconds = [r.seconds for r in runs] or [0.0]
    said = "".join(f"{counts[o] or '-':>9}" for o in OUTCOMES)
    return f"{said}{statistics.median(seconds):>10.2f}{max(seconds):>9.2f}"


def good(runs: list[Run]) -> bool:
    """Nothing but right without loss; with it nothing wrong, and at most one in a hundred not known."""
    lossy = [r for r in runs if r.loss]
    unknown = sum(r.outcome == "unknown" for r in lossy)
    flawed = any(r.outcome != "right" for r in runs if not r.loss) or any(r.outcome in BAD for r in lossy)
    return not flawed and unknown <= len(lossy) / 100


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of every cell (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn, and of the order (default 1)")
    parser.add_argument("--jobs", type=int, default=3, help="labs at the same time (default 3)")
    parser.add_argument("--cells", type=int, help="only so many, in the order drawn")
    parser.add_argument("--pairs", action="store_true", help="a pairwise cover instead of every cell")
    parser.add_argument("--only", action="append", metavar="WORD", default=[], help="cells with this in their name")
    parser.add_argument(
        "--file", type=Path, default=Path("cover.jsonl"), help="results, appended (default cover.jsonl)"
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the case folder of every run")
    parser.add_argument("--summary", action="store_true", help="only what the file holds")
    o = parser.parse_args()
    wanted = cells.pairwise(o.seed) if o.pairs else list(cells.every())
    Random(o.seed).shuffle(wanted)
    wanted = [c for c in wanted if all(w in str(c) for w in o.only)][: o.cells]
    begun = time.monotonic()
    if not o.summary:
        series = Series(runs=o.runs, seed=o.seed, file=o.file, keep=o.save)
        for n, run in enumerate(series.all(wanted, o.jobs), 1):
            if run.outcome != "right" or n % 100 == 0:
                print(f"{n}: {run.cell}: {run.outcome} {run.detail}", file=sys.stderr, flush=True)
    names = {str(c) for c in wanted}
    runs = [r for r in read(o.file) if r.seed == o.seed and r.cell in names]
    print(*table(runs), sep="\n")
    print(f"{(time.monotonic() - begun) / 60:.1f} min, {o.jobs} at a time")
    return 0 if good(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
