"""Everything that docs/benchmarks.md says of the prober, measured in one run, as one page.

    make setup && tools/isolated .venv/bin/python -m bench.prober --out bench/results/DATE-probe.md [--quick]
        [--runs 3] [--rounds 1]

The first packet and memory (bench.first_packet), whole commands (bench.command), the time to the byte
(bench.probe_time) and the peers (bench.peers), one after the other, with date, commit, machine and load. Half an hour,
most of it waiting for tracepath; ``--quick``: few runs and two paths, to see that everything works. The machine should
have nothing else to do: the load before and after is in the page. Exit status 1 when an answer was wrong, never
because it was slow.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

PARTS = {  # title, module, arguments, arguments of a quick run
    "The first packet, and memory": ("first_packet", ("--rounds", "20"), ("--rounds", "3")),
    "Whole commands": ("command", ("15",), ("3",)),
    "To the bracket, and to the byte": ("probe_time", ("--runs", "5"), ("--runs", "1", "--rtts", "0")),
    "Beside the peers": ("peers", ("--rounds", "5"), ("--rounds", "1", "--only", "healthy,told")),
}


def machine() -> str:
    """One line about where this runs."""
    return f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs"


def commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "?"


def run(module: str, words: tuple[str, ...]) -> tuple[str, int]:
    """What a benchmark prints, as Markdown, and its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    text = done.stdout.strip()
    return (text if "|---|" in text else f"```\n{text}\n```"), done.returncode


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--runs", type=int, help="of each number to the byte (default 5)")
    options.add_argument("--rounds", type=int, help="of the peers, which take most of the time (default 5)")
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    begun = os.getloadavg()[0]
    text, failed = "", []
    for title, (module, words, quick) in PARTS.items():
        chosen = quick if args.quick else words
        fewer = {"probe_time": args.runs, "peers": args.rounds}.get(module)
        chosen = (chosen[0], str(fewer), *chosen[2:]) if fewer else chosen
        print(f"== {title}", file=sys.stderr, flush=True)
        said, status = run(module, chosen)
        text += f"\n## {title}: `python -m bench.{module} {' '.join(chosen)}`\n\n{said}\n"
        failed += [module] if status else []
    head = f"# The prober, {time.strftime('%Y-%m-%d')}, commit {commit()}\n{machine()}; load {begun:.1f} at the start,"
    head += f" {os.getloadavg()[0]:.1f} at the end (which is ours too).\n"
    if failed:
        head += f"\nWrong answers in: {', '.join(failed)}.\n"
    print(head + text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(head + text)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
