"""The kernel as oracle of the model: many random labs, each mechanism often enough.

    python bench/oracle.py [--runs 500] [--seed 0] [--jobs 2] [--state FILE] [--lab SEED]
                                         (root, or inside `unshare --user --map-root-user --net --mount --pid`)

Builds RUNS labs (tests/oracle), asks the model and the kernel the same, and prints a table per mechanism: labs it was
put into, labs in which it decided the fate or the limit of a direction, wrong predictions, unknown ones. Exits non-zero
when anything is wrong, a mechanism decided fewer than 25 labs in 500, or more than one run in 25 of a mechanism (2 % of
all) is unknown. Every finished lab is a line in the state file: a run that was interrupted goes on where it stopped.
``--lab`` builds one lab and says everything about it.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path[:0] = [str(HERE / "tests"), str(HERE / "tests" / "unit")]

from oracle.build import own_mounts  # noqa: E402
from oracle.generate import MECHANISMS  # noqa: E402
from oracle.run import Run, many, run_seed  # noqa: E402

ENOUGH = 25 / 500  # of all runs: how often each mechanism must decide
Line = dict[str, object]


def line_of(run: Run) -> Line:
    v = run.verdict
    return {
        "seed": run.lab.seed, "main": run.lab.main, "inside": run.lab.inside, "deciding": sorted(v.deciding),
        "wrong": v.wrong, "unknown": v.unknown, "asked": v.asked, "took": round(run.took, 2), "hasty": list(run.hasty),
        "family": run.lab.family,
    }  # fmt: skip


def known(path: Path, seeds: range) -> dict[int, Line]:
    """What an earlier run has done already."""
    if not path.exists():
        return {}
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    return {x["seed"]: x for x in lines if x["seed"] in seeds}


def measure(seeds: range, jobs: int, state: Path) -> list[Line]:
    done = known(state, seeds)
    todo = [s for s in seeds if s not in done]
    begun = time.monotonic()
    with state.open("a") as out:
        for i, run in enumerate(many(todo, jobs), 1):
            done[run.lab.seed] = line_of(run)
            out.write(json.dumps(done[run.lab.seed]) + "\n")
            out.flush()
            if run.verdict.wrong:
                print(run.report(), flush=True)
            if i % 25 == 0:
                print(f"{len(done)} of {len(seeds)}, {(time.monotonic() - begun) / i:.2f} s each", file=sys.stderr)
    return [done[s] for s in seeds]


def table(lines: list[Line]) -> str:
    """Markdown: one row a mechanism."""
    put, decided, wrong, unknown = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for x in lines:
        for name in {*x["inside"], *x["deciding"]}:  # type: ignore[misc]
            put[name] += 1
            wrong[name] += bool(x["wrong"])
            unknown[name] += bool(x["unknown"])
        decided.update(x["deciding"])  # type: ignore[arg-type]
    rows = ["| mechanism | runs | deciding | wrong | unknown |", "|---|---|---|---|---|"]
    rows += [f"| {m} | {put[m]} | {decided[m]} | {wrong[m]} | {unknown[m]} |" for m in MECHANISMS]
    every = [sum(bool(x[k]) for x in lines) for k in ("wrong", "unknown")]
    rows.append(f"| all | {len(lines)} | | {every[0]} | {every[1]} |")
    return "\n".join(rows)


def shortfalls(lines: list[Line]) -> list[str]:
    """What is not as it should be."""
    found = [f"lab {x['seed']}: {len(x['wrong'])} wrong" for x in lines if x["wrong"]]  # type: ignore[arg-type]
    for name in MECHANISMS:
        runs = [x for x in lines if name in x["inside"] or name in x["deciding"]]  # type: ignore[operator]
        decided = sum(name in x["deciding"] for x in lines)  # type: ignore[operator]
        unknown = sum(bool(x["unknown"]) for x in runs)
        if decided < ENOUGH * len(lines):
            found.append(f"{name} decided {decided} labs of {len(lines)}")
        if unknown > max(1, len(runs) // 25):
            found.append(f"{name}: {unknown} of {len(runs)} unknown")
    unknown = sum(bool(x["unknown"]) for x in lines)
    if unknown > len(lines) / 50:
        found.append(f"{unknown} of {len(lines)} unknown")
    return found


def main() -> int:
    say = argparse.ArgumentParser()
    say.add_argument("--runs", type=int, default=500)
    say.add_argument("--seed", type=int, default=0)
    say.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    say.add_argument("--state", type=Path, default=None)
    say.add_argument("--lab", type=int, default=None)
    asked = say.parse_args()
    if asked.lab is not None:
        own_mounts()
        run = run_seed(asked.lab)
        print(run.report())
        return int(bool(run.verdict.wrong))
    state = asked.state or Path(f"/tmp/pathfit-oracle-{asked.seed}.jsonl")
    begun = time.monotonic()
    lines = measure(range(asked.seed, asked.seed + asked.runs), asked.jobs, state)
    took = [float(x["took"]) for x in lines]  # type: ignore[arg-type]
    print(table(lines))
    print(
        f"\n{sum(int(x['asked']) for x in lines)} questions, {sum(x['family'] == 6 for x in lines)} labs of IPv6; "  # type: ignore[call-overload]
        f"{sum(took) / len(took):.2f} s a lab on average, {max(took):.1f} at most, {asked.jobs} at a time; "
        f"measured twice: {sum(bool(x['hasty']) for x in lines)}; {time.monotonic() - begun:.0f} s this time; "
        f"kernel {platform.release()}"
    )
    short = shortfalls(lines)
    print("\n".join(short))
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
