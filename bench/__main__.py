"""`make bench`: every benchmark in one run, with its minutes; `python -m bench NAME...` for some of them.

Each prints its own table and exits non-zero when an answer was wrong (never because a machine was slow: times are
to be read beside the peer's in the same run). Results worth keeping go to bench/results/ with date and commit.
"""

import subprocess
import sys
import time

BENCHES: dict[str, list[str]] = {
    "lab_up": [],
    "observe": ["200"],
    "model": [],
    "map": [],
    "scan": ["1000"],
    "fleet": ["2000", "100"],
    "first_packet": [],
    "probe_time": [],
    "command": [],
    "peers": [],
    "trace_overhead": [],
    "loss": [],
    "oracle": [],
    "trace_labs": [],
}


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in BENCHES]
    if unknown:
        print(f"no benchmark {unknown[0]}; there are: {' '.join(BENCHES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or list(BENCHES):
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"bench.{name}", *BENCHES[name]], check=False)
        print(f"== {name}: {(time.monotonic() - begun) / 60:.1f} min, exit {done.returncode}\n", flush=True)
        failed += [name] if done.returncode else []
    if failed:
        print(f"failed: {' '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
