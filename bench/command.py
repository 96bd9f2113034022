"""How long whole commands take, from exec to exit, on a black hole and on a healthy path.

    python bench/command.py [ROUNDS] [SRC]        (root, or inside `unshare --user --map-root-user --net --mount --pid`)

Builds the lab of article 000 and a healthy one, runs every command ROUNDS times (default 15), one after the other so
that all meet the same machine, and prints the median and the best of the wall clock and of the processor time, beside
an interpreter that does nothing. SRC is another source tree (a checkout's ``src``) to run beside this one. Bytecode is
compiled first, as an installed package's is.
"""

import compileall
import os
import statistics
import sys
import time
from pathlib import Path

from pathfit.lab import Lab, load

HERE = Path(__file__).parent.parent / "src"
Took = list[tuple[float, float]]


def run(src: Path, *args: str) -> tuple[float, float]:
    """(wall, processor) milliseconds of one command."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.execve(sys.executable, [sys.executable, *args], {**os.environ, "PYTHONPATH": str(src)})
    _, _, used = os.wait4(pid, 0)
    return (time.perf_counter() - start) * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def commands(hole: Lab, healthy: Lab) -> dict[str, tuple[str, ...]]:
    def diagnose(lab: Lab, *more: str) -> tuple[str, ...]:
        return ("-m", "pathfit", "diagnose", "--from", lab.where(lab.scenario.ask.source), "--to", lab.target(), *more)

    return {
        "python -c pass": ("-c", "pass"),
        "pathfit --version": ("-m", "pathfit", "--version"),
        "pathfit explain MTU101": ("-m", "pathfit", "explain", "MTU101"),
        "diagnose, black hole, JSON": diagnose(hole, "--json"),
        "diagnose, black hole, text": diagnose(hole),
        "diagnose, healthy, JSON": diagnose(healthy, "--json"),
    }


def line(name: str, took: Took) -> str:
    walls, cpus = [w for w, _ in took], [c for _, c in took]
    shown = f"median {statistics.median(walls):6.1f} ms  best {min(walls):6.1f} ms"
    return f"{name:34} {shown}   processor {statistics.median(cpus):6.1f} ms  best {min(cpus):6.1f} ms"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    trees = [HERE, *(Path(x) for x in sys.argv[2:])]
    for tree in trees:
        compileall.compile_dir(tree, quiet=2)
    with Lab.up(load("article-000")) as hole, Lab.up(load("healthy")) as healthy:
        took: dict[tuple[str, Path], Took] = {}
        for _ in range(rounds):
            for name, args in commands(hole, healthy).items():
                for tree in trees:
                    took.setdefault((name, tree), []).append(run(tree, *args))
    for (name, tree), found in took.items():
        print(line(name if tree is HERE else f"  in {tree}"[:34], found))


if __name__ == "__main__":
    main()
