"""Does `pathfit trace` say where packets get lost, and why? Random labs with one fault each, as a page.

    python bench/trace_labs.py [--runs 300] [--blind 60] [--untold 60] [--udp 30] [--seed 0] [--jobs 6] [--state FILE]
                               [--out FILE]
    python bench/trace_labs.py --lab SEED [--blind 1] [--untold 1] [--udp 1]         (root, inside tools/isolated)

Builds RUNS labs (tests/oracle: faults.py, traced.py) and asks where everything can be seen; BLIND others from the
container's side alone, where nothing may be said of devices that cannot be seen; UNTOLD others where the kernel tells
of no drop: the place must be right all the same; and UDP others for datagrams to a closed port. What is right comes
from the seed.
Prints a table for each fault and for each number of hops. Exits non-zero when anything was said wrongly, or was not
said. Every finished lab is a line in the state file: a run that was interrupted goes on where it stopped. ``--lab``
builds one lab and says everything about it.
"""

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "tests"), str(HERE / "tests" / "unit")]

from oracle.faults import FAULTS, TraceLab, for_udp  # noqa: E402
from oracle.traced import Asked, Result, many, report  # noqa: E402

VERDICTS = ("right", "wrong", "unknown", "unproved")
Found = tuple[TraceLab, Asked, Result]


def measure(asked: list[Asked], jobs: int, state: Path) -> list[Found]:
    """Results of all of them; those that are known already are not asked again."""
    known: dict[Asked, Result] = {}
    if state.exists():
        for *one, words in map(json.loads, state.read_text().splitlines()):
            known[Asked(*one)] = Result(**words)
    todo = [x for x in asked if x not in known]
    begun = time.monotonic()
    with state.open("a") as out:
        for n, (one, result) in enumerate(many(todo, jobs), 1):
            known[one] = result
            if result.verdict != "right" and not (one.blind and result.verdict == "unknown"):
                print(report(one, result), flush=True)
            result.said = None
            out.write(json.dumps([*one, vars(result)]) + "\n")
            out.flush()
            if n % 25 == 0:
                print(f"{n} of {len(todo)}, {(time.monotonic() - begun) / n:.2f} s each", file=sys.stderr)
    return [(x.lab, x, known[x]) for x in asked]


def table(head: str, rows: list[tuple[str, list[Found]]]) -> str:
    """Markdown: one row a name."""
    lines = [f"| {head} | labs | {' | '.join(VERDICTS)} | both devices | way ends there |", "|" + "---|" * 8]
    for name, them in rows:
        count = Counter(r.verdict for _, _, r in them)
        pairs, behind = sum(r.pairs for _, _, r in them), sum(r.behind for _, _, r in them)
        lines.append(f"| {name} | {len(them)} | {' | '.join(str(count[v]) for v in VERDICTS)} | {pairs} | {behind} |")
    return "\n".join(lines)


def by_fault(them: list[Found]) -> str:
    rows = [(name, [x for x in them if x[0].fault == name]) for name in FAULTS]
    return table("fault", [*((name, mine) for name, mine in rows if mine), ("all", them)])


def page(seen: list[Found], others: dict[str, list[Found]], jobs: int, took: float) -> str:
    faults = [(name, [x for x in seen if x[0].fault == name]) for name in FAULTS]
    hops = [(f"{n}", [x for x in seen if x[0].hops == n]) for n in range(1, 7)]
    more = [
        ("IPv4", [x for x in seen if x[0].family == 4]),
        ("IPv6", [x for x in seen if x[0].family == 6]),
        ("translated", [x for x in seen if x[0].nat]),
        ("to one of several (NAT)", [x for x in seen if x[0].drawn]),
        ("VXLAN", [x for x in seen if x[0].tunnels]),
        ("super-packets (GSO, GRO)", [x for x in seen if x[0].offload]),
        ("https", [x for x in seen if x[0].scheme == "https"]),
        ("all", seen),
    ]
    every = [r for them in (seen, *others.values()) for _, _, r in them]
    each = [sum(x) / len(every) for x in zip(*((r.took, r.asked, r.cpu) for r in every), strict=True)]
    return "\n\n".join([
        table("fault", [*faults, ("all", seen)]),
        table("hops", hops),
        table("with", more),
        *(text for head, them in others.items() if them for text in (head, by_fault(them))),
        f"{each[0]:.1f} s a lab, {each[1]:.1f} s of it `pathfit trace`, {each[2]:.2f} s of processors; built twice: "
        f"{sum(bool(r.twice) for r in every)}; {jobs} at a time, {len(os.sched_getaffinity(0))} cores, "
        f"{took:.0f} s this time; kernel {platform.release()}",
    ])  # fmt: skip


def main() -> int:
    say = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    say.add_argument("--runs", type=int, default=300)
    say.add_argument("--blind", type=int, default=None)
    say.add_argument("--untold", type=int, default=None)
    say.add_argument("--udp", type=int, default=None)
    say.add_argument("--seed", type=int, default=0)
    say.add_argument("--jobs", type=int, default=3 * len(os.sched_getaffinity(0)))
    say.add_argument("--state", type=Path)
    say.add_argument("--out", type=Path)
    say.add_argument("--lab", type=int)
    o = say.parse_args()
    if o.lab is not None:
        ((one, result),) = many([Asked(o.lab, bool(o.blind), bool(o.untold), bool(o.udp))], 1)
        print(report(one, result))
        return int(result.verdict != "right")
    fifth = o.runs // 5
    counts = [fifth if x is None else x for x in (o.blind, o.untold)]
    todo = [Asked(o.seed + n) for n in range(o.runs)]
    todo += [Asked(o.seed + o.runs + n, blind=True) for n in range(counts[0])]
    todo += [Asked(o.seed + o.runs + counts[0] + n, untold=True) for n in range(counts[1])]
    rest = filter(for_udp, itertools.count(o.seed + o.runs + sum(counts)))
    todo += [Asked(seed, udp=True) for seed in itertools.islice(rest, fifth // 2 if o.udp is None else o.udp)]
    begun = time.monotonic()
    found = measure(todo, o.jobs, o.state or Path(f"/tmp/pathfit-trace-labs-{o.seed}.jsonl"))
    others = {
        "From the container's side alone:": [x for x in found if x[1].blind],
        "Where the kernel tells of no drop (the place, and what counters and rules say of why):": [
            x for x in found if x[1].untold
        ],
        "Datagrams to a port where nothing listens:": [x for x in found if x[1].udp],
    }
    text = page(found[: o.runs], others, o.jobs, time.monotonic() - begun)
    print(text)
    if o.out:
        o.out.write_text(text + "\n", encoding="utf-8")
    bad = [x for x in found if x[2].verdict != "right" and not (x[1].blind and x[2].verdict == "unknown")]
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
