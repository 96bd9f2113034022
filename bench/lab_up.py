"""How long a lab takes to come up and go down: five hosts, links, addresses, routes, filters; servers apart.

    python bench/lab_up.py [ROUNDS]          (root, or inside `unshare --user --map-root-user --net --mount --pid`)

Prints the median and the worst of ROUNDS (default 20), and the least the machine needs for five namespaces made
with iproute2, in the same run.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from pathfit.lab import Lab, parse

FIVE = b"""
name: five
about: c - h - r - q - s, NAT, a clamp, two firewalls, lost "too big"
ask: {from: c, to: "https://s:8443/5"}
hosts: [h, r, q, s]
containers: {c: {in: h}}
cables:
  - {ends: [h, r], mtu: 1460}
  - {ends: [r, q], mtu: 1410}
  - {ends: [q, s]}
clamps: [{host: h, size: 1300}]
faults:
  - too_big_lost_at: s
  - firewall: {host: h, match: "tcp dport 9", comment: bench}
  - loss: {host: r, percent: 0.01}
services: [{host: s}]
expect: {}
"""


def timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def five_by_hand() -> None:
    """Ten commands of iproute2: what a shell script pays before it has a single link."""
    for verb in ("add", "del"):
        for i in range(5):
            subprocess.run(["ip", "netns", verb, f"pfbench-{i}"], check=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    scenario = parse(FIVE)
    taken: dict[str, list[float]] = {"up": [], "up with servers": [], "down": [], "ip netns add/del x5": []}
    for _ in range(rounds):
        for services in (False, True):
            start = time.perf_counter()
            lab = Lab.up(scenario, services=services)
            taken["up with servers" if services else "up"].append(time.perf_counter() - start)
            taken["down"].append(timed(lab.down))
        taken["ip netns add/del x5"].append(timed(five_by_hand))
    for what, seconds in taken.items():
        print(f"{what:22} median {statistics.median(seconds) * 1000:7.1f} ms   worst {max(seconds) * 1000:7.1f} ms")


if __name__ == "__main__":
    main()
