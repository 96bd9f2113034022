"""How long a scan takes as a whole command, from exec to exit: `python -m bench.scan [CONTAINERS]` (default 1000).

Builds that many containers on one bridge, behind an uplink that is smaller (so that there is something to find), scans
the machine with the installed command, text and JSON, and beside it lists the same namespaces with `ip -all netns exec`
(on a sample, scaled). Wall clock, processor time and the most memory; exit status 1 when a container was not named.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.observe import batch, build, settle

ROUNDS = 9
SAMPLE = 40
COMMAND = Path(sys.executable).with_name("pathfit")


def ran(*words: str) -> tuple[float, float, float, bytes]:
    """(wall ms, processor ms, MB, what it printed) of one command."""
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "LANG": "C.UTF-8"}) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    wall = (time.perf_counter() - start) * 1e3
    return wall, (used.ru_utime + used.ru_stime) * 1e3, used.ru_maxrss / 1024, out


def uplink(hub: str) -> None:
    """The bridge's host gets a way out of 1400 bytes, and forwards."""
    batch(
        hub,
        "link add up0 mtu 1400 type veth peer name far0 mtu 1400\nlink set up0 up\nlink set far0 up\n"
        "addr add 10.77.255.254/16 dev br0\naddr add 192.0.2.2/24 dev up0\n"
        "route add default via 192.0.2.1 dev up0",
    )
    forward = ["ip", "netns", "exec", hub, "sysctl", "-qw", "net.ipv4.ip_forward=1"]
    subprocess.run(forward, check=True)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    prefix = f"pfs{os.getpid()}"
    try:
        names = build(prefix, count)
        uplink(f"{prefix}-hub")
        settle(f"{prefix}-hub")
        rows: dict[str, list[tuple[float, float, float]]] = {}
        missed = 0
        for _ in range(ROUNDS):
            for what, words in (("pathfit", ()), ("pathfit --json", ("scan", "--json"))):
                wall, cpu, memory, out = ran(str(COMMAND), *words)
                rows.setdefault(what, []).append((wall, cpu, memory))
                if words:
                    named = {k for f in json.loads(out)["findings"] for k in f["workloads"]}
                    missed = sum(f"netns:{n}" not in named for n in names)
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            rows.setdefault("python -c pass", []).append(((time.perf_counter() - start) * 1e3, 0.0, 0.0))
        start = time.perf_counter()
        for name in names[:SAMPLE]:
            subprocess.run(["ip", "netns", "exec", name, "ip", "-j", "addr"], stdout=subprocess.DEVNULL, check=True)
        each = (time.perf_counter() - start) / SAMPLE * 1e3
        print(f"{count} containers, {ROUNDS} rounds, each after the other")
        for what, took in rows.items():
            wall, cpu, memory = (statistics.median(x[i] for x in took) for i in range(3))
            best = min(x[0] for x in took)
            print(f"{what:20} median {wall:7.0f} ms  best {best:7.0f} ms  processor {cpu:6.0f} ms  {memory:5.0f} MB")
        print(f"{'ip netns exec each':20}        {each * count:7.0f} ms (from {SAMPLE})")
        print(f"containers behind the smaller uplink not named: {missed} of {count}")
    finally:
        for name in [f"{prefix}-hub", *(f"{prefix}-{i}" for i in range(count))]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
